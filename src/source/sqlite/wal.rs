//! The write-ahead log: header, frames, and the scanner that finds whole transactions.
//!
//! ```text
//! WAL    = header (32 bytes) frame*
//! header = magic u32 | version u32 | page size u32 | sequence u32 | salt 8 bytes | checksum 2 x u32    (big-endian)
//! frame  = page u32 | database size u32, 0 unless it commits | salt 8 bytes | checksum 2 x u32 | page  (big-endian)
//! ```
//!
//! The magic's lowest bit is the byte order in which the checksum reads the data; the checksum runs from the header
//! through every frame, so a frame is valid only in its place. Frames whose salts differ are left over from an
//! earlier generation of the log. (Facts: the file format document of SQLite, "The Write-Ahead Log".)
//!
//! The [`Scanner`] is always *at* the end of a committed transaction. What follows it and does not end in a valid
//! commit frame is a [`Tail`], never an error here: a writer may be at work, may have died, or may have rolled back a
//! transaction that spilled. It is dropped, and read again at the next call, since SQLite rewrites spilled frames in
//! place. The read buffer is kept from call to call: small transactions cost no system call each.

use std::io;

use crate::error::{Error, Result};
use crate::sys::sparse::Sparse;

/// Bytes of the log's header.
pub const HEADER_LEN: usize = 32;
/// Bytes before each page in the log.
pub const FRAME_HEADER_LEN: usize = 24;
/// The magic without its lowest bit.
const MAGIC: u32 = 0x377f_0682;
/// The only version that exists.
const VERSION: u32 = 3_007_000;
/// Bytes read at once; a multiple of nothing in particular.
const BUFFER_BYTES: usize = 1 << 20;
/// The pages of larger transactions do not stay in memory.
const PAGES_KEPT: u32 = 64 << 10;

/// Reads at an offset: a file, or bytes in memory for tests and fuzzing.
pub trait ReadAt: Send + Sync {
    /// Reads as many bytes as there are, at most `buf.len()`, starting at byte `at`.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// The present length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match std::os::unix::fs::FileExt::read_at(self, rest, at + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for &'static std::fs::File {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        ReadAt::read_at(*self, buf, at)
    }

    fn len(&self) -> io::Result<u64> {
        ReadAt::len(*self)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(Vec::len(self));
        let n = buf.len().min(Vec::len(self) - from);
        if let (Some(to), Some(part)) = (buf.get_mut(..n), self.get(from..from + n)) {
            to.copy_from_slice(part);
        }
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(Vec::len(self) as u64)
    }
}

/// A big-endian u32 at `at`, 0 beyond the end. Callers have checked the length; this only keeps input from panicking.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// A big-endian u16 at `at`, 0 beyond the end.
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// The running checksum of a log: two sums over pairs of 32-bit words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(pub u32, pub u32);

impl Checksum {
    /// Continues over `bytes`, whose length is a multiple of 8.
    pub fn add(self, bytes: &[u8], big_endian: bool) -> Checksum {
        let (mut a, mut b) = (self.0, self.1);
        let (pairs, _) = bytes.as_chunks::<8>();
        if big_endian {
            for [x0, x1, x2, x3, y0, y1, y2, y3] in pairs {
                a = a.wrapping_add(u32::from_be_bytes([*x0, *x1, *x2, *x3])).wrapping_add(b);
                b = b.wrapping_add(u32::from_be_bytes([*y0, *y1, *y2, *y3])).wrapping_add(a);
            }
        } else {
            for [x0, x1, x2, x3, y0, y1, y2, y3] in pairs {
                a = a.wrapping_add(u32::from_le_bytes([*x0, *x1, *x2, *x3])).wrapping_add(b);
                b = b.wrapping_add(u32::from_le_bytes([*y0, *y1, *y2, *y3])).wrapping_add(a);
            }
        }
        Checksum(a, b)
    }
}

/// The header of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether checksums read the data as big-endian words.
    pub big_endian: bool,
    /// Bytes of a page.
    pub page_size: u32,
    /// Counts resets of this file; starts again when the file is made anew, so it proves nothing.
    pub sequence: u32,
    /// Changes at every reset.
    pub salt: [u8; 8],
    /// The header's own checksum, from which the chain of the frames starts.
    pub checksum: Checksum,
}

impl Header {
    /// Reads a header. `None` when the bytes are not a valid one (a new, torn or cleared log).
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER_LEN)?;
        let magic = be32(bytes, 0);
        let page_size = be32(bytes, 8);
        if magic & !1 != MAGIC || be32(bytes, 4) != VERSION {
            return None;
        }
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return None;
        }
        let big_endian = magic & 1 == 1;
        let checksum = Checksum::default().add(bytes.get(..24)?, big_endian);
        if checksum != Checksum(be32(bytes, 24), be32(bytes, 28)) {
            return None;
        }
        let salt = bytes.get(16..24)?.try_into().ok()?;
        Some(Header { big_endian, page_size, sequence: be32(bytes, 12), salt, checksum })
    }

    /// Whether `bytes` start like a log, valid or not.
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.len() >= 4 && be32(bytes, 0) & !1 == MAGIC
    }
}

/// A point between two frames: `frame` frames have been read, and the checksum of the last one is `checksum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Frames before this point; 0 is the start of the log.
    pub frame: u32,
    /// The checksum chain up to here.
    pub checksum: Checksum,
}

/// Why no further transaction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The file ends here, or the limit is reached.
    End,
    /// No header yet, or an invalid one.
    NoHeader,
    /// The next frame belongs to an earlier generation of the log.
    Stale,
    /// Valid frames follow, but no commit frame before the end or before the first invalid frame.
    Uncommitted {
        /// How many.
        frames: u32,
    },
    /// The next frame has this generation's salt and a wrong checksum or an impossible page number.
    Invalid,
}

/// One whole transaction: frames `first..=last`, the last of which commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first frame, counted from 1.
    pub first: u32,
    /// Its commit frame.
    pub last: u32,
    /// Pages of the database after it.
    pub db_pages: u32,
    /// The commit frame's checksum: the source's own evidence.
    pub checksum: Checksum,
}

/// Finds whole transactions in a log; see the module's head.
pub struct Scanner {
    header: Option<Header>,
    at: Mark,
    buffer: Vec<u8>,
    /// First frame in the buffer (counted from 1), and how many whole frames it holds.
    buffered: (u32, u32),
    /// The page of each frame of the transaction that was read last, which begins at frame `first`.
    pages: Sparse,
    first: u32,
    count: u32,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner before the header.
    pub fn new() -> Scanner {
        let at = Mark { frame: 0, checksum: Checksum::default() };
        Scanner { header: None, at, buffer: Vec::new(), buffered: (1, 0), pages: Sparse::default(), first: 1, count: 0 }
    }

    /// The header of the generation being read.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Where the last transaction ended.
    pub fn mark(&self) -> Mark {
        self.at
    }

    /// A scanner that goes on behind `mark` of the log that `header` describes.
    pub fn starting(header: Header, mark: Mark) -> Scanner {
        let mut scanner = Scanner::new();
        scanner.header = Some(header);
        scanner.seek(mark);
        scanner
    }

    /// Starts again at the header that the log has now. `false` when it has none that is valid.
    pub fn restart(&mut self, log: &dyn ReadAt) -> Result<bool> {
        *self = Scanner { buffer: std::mem::take(&mut self.buffer), ..Scanner::new() };
        self.header = read_header(log)?;
        if let Some(header) = &self.header {
            self.at.checksum = header.checksum;
        }
        Ok(self.header.is_some())
    }

    /// Moves to a point of the same generation that an earlier scan has proved.
    pub fn seek(&mut self, mark: Mark) {
        self.at = mark;
        self.buffered = (mark.frame.saturating_add(1), 0);
    }

    /// Forgets what has been buffered beyond the last transaction, because it may be rewritten.
    pub fn forget_tail(&mut self) {
        let keep = self.at.frame.saturating_add(1).saturating_sub(self.buffered.0);
        self.buffered.1 = self.buffered.1.min(keep);
    }

    /// Gives back the read buffer, until it is needed again.
    pub fn forget_buffer(&mut self) {
        self.buffer = Vec::new();
        self.buffered = (self.at.frame.saturating_add(1), 0);
    }

    /// The page image of `frame` if it is in the read buffer.
    pub fn buffered_page(&self, frame: u32) -> Option<&[u8]> {
        let nth = frame.checked_sub(self.buffered.0)?;
        if nth >= self.buffered.1 {
            return None;
        }
        let size = self.header?.page_size as usize;
        let from = nth as usize * (size + FRAME_HEADER_LEN) + FRAME_HEADER_LEN;
        self.buffer.get(from..from + size)
    }

    /// (page, frame) of every frame of the transaction that [`Scanner::next`] returned last, in log order.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + '_ {
        (0..self.count).map(|nth| (self.pages.get(nth as usize), self.first + nth))
    }

    /// Forgets these; of a large transaction they take memory.
    pub fn forget_pages(&mut self) {
        if self.count > PAGES_KEPT {
            self.pages.clear();
        }
        self.count = 0;
    }

    /// Reads the next whole transaction; looks at no frame beyond `limit` if there is one.
    pub fn next(&mut self, log: &dyn ReadAt, limit: Option<u32>) -> Result<Result<Span, Tail>> {
        let Some(header) = self.header else {
            return Ok(Err(Tail::NoHeader));
        };
        self.forget_pages();
        self.first = self.at.frame.saturating_add(1);
        let mut at = self.at;
        let tail = loop {
            let frame = at.frame.saturating_add(1);
            if limit.is_some_and(|limit| frame > limit) || frame == u32::MAX {
                break Tail::End;
            }
            let Some(bytes) = self.frame(log, &header, frame)? else { break Tail::End };
            let (head, page) = bytes.split_at(FRAME_HEADER_LEN);
            if head.get(8..16) != Some(&header.salt[..]) {
                break Tail::Stale;
            }
            let number = be32(head, 0);
            let checksum = at.checksum.add(head.get(..8).unwrap_or_default(), header.big_endian);
            let checksum = checksum.add(page, header.big_endian);
            if number == 0 || checksum != Checksum(be32(head, 16), be32(head, 20)) {
                break Tail::Invalid;
            }
            let db_pages = be32(head, 4);
            at = Mark { frame, checksum };
            self.pages.set(self.count as usize, number);
            self.count += 1;
            if db_pages != 0 {
                let first = self.at.frame + 1;
                self.at = at;
                return Ok(Ok(Span { first, last: frame, db_pages, checksum }));
            }
        };
        // Whatever was buffered beyond the last commit may be rewritten before it is valid.
        let frames = at.frame - self.at.frame;
        self.forget_tail();
        self.forget_pages();
        Ok(Err(if frames == 0 { tail } else { Tail::Uncommitted { frames } }))
    }

    /// Header and page of `frame`, through the buffer; `None` when the file ends before its last byte.
    fn frame(&mut self, log: &dyn ReadAt, header: &Header, frame: u32) -> Result<Option<&[u8]>> {
        let size = header.page_size as usize + FRAME_HEADER_LEN;
        let inside = frame >= self.buffered.0 && frame - self.buffered.0 < self.buffered.1;
        if !inside {
            let room = (BUFFER_BYTES / size).max(1) * size;
            self.buffer.resize(room, 0);
            let got = log.read_at(&mut self.buffer, frame_at(header.page_size, frame)).map_err(|e| Error::io("", e))?;
            self.buffered = (frame, u32::try_from(got / size).unwrap_or(0));
            if self.buffered.1 == 0 {
                return Ok(None);
            }
        }
        let from = (frame - self.buffered.0) as usize * size;
        Ok(self.buffer.get(from..from + size))
    }
}

/// The first frame behind `at` that is damaged, if what stands behind it was committed: frames of this generation that follow each other up to a commit
/// frame. Then it is no unfinished write at the log's end: nothing overwrites a committed frame before the next generation.
pub fn damaged_before_commit(log: &dyn ReadAt, header: &Header, at: Mark) -> Result<Option<u32>> {
    let size = header.page_size as usize + FRAME_HEADER_LEN;
    let mut raw = vec![0; size];
    let mut chain = at.checksum;
    let (mut damaged, mut stored) = (None, None);
    let mut frame = at.frame;
    loop {
        frame = frame.saturating_add(1);
        let got = log.read_at(&mut raw, frame_at(header.page_size, frame)).map_err(|e| Error::io("", e))?;
        if got < size || frame == u32::MAX {
            return Ok(None);
        }
        let (head, page) = raw.split_at(FRAME_HEADER_LEN);
        let sum = |chain: Checksum| {
            chain.add(head.get(..8).unwrap_or_default(), header.big_endian).add(page, header.big_endian)
        };
        let said = Checksum(be32(head, 16), be32(head, 20));
        let current = head.get(8..16) == Some(&header.salt[..]);
        let commits = be32(head, 4) != 0;
        match damaged {
            None if current && be32(head, 0) != 0 && sum(chain) == said => chain = said,
            None => {
                damaged = Some(frame);
                // What it should say is known, in case that only this is what is damaged.
                chain = sum(chain);
            }
            Some(_) => {
                let follows = current && (stored.is_some_and(|stored| sum(stored) == said) || sum(chain) == said);
                if follows && commits {
                    return Ok(damaged);
                }
                chain = said;
            }
        }
        stored = Some(said);
    }
}

/// The frame behind which the log can be read again, if there is damage behind `at`: the one after it has the salt of this generation and the checksum that
/// goes on from what this one says of itself. Nothing is known of the frames up to it.
pub fn behind_damage(log: &dyn ReadAt, header: &Header, at: Mark) -> Result<Option<Mark>> {
    let size = header.page_size as usize + FRAME_HEADER_LEN;
    let mut raw = vec![0; size];
    let mut before = at;
    let mut damaged = false;
    loop {
        let frame = before.frame.saturating_add(1);
        let got = log.read_at(&mut raw, frame_at(header.page_size, frame)).map_err(|e| Error::io("", e))?;
        if got < size || frame == u32::MAX {
            return Ok(None);
        }
        let (head, page) = raw.split_at(FRAME_HEADER_LEN);
        let sum =
            before.checksum.add(head.get(..8).unwrap_or_default(), header.big_endian).add(page, header.big_endian);
        let said = Checksum(be32(head, 16), be32(head, 20));
        let follows = head.get(8..16) == Some(&header.salt[..]) && be32(head, 0) != 0 && sum == said;
        if follows && damaged {
            return Ok(Some(before));
        }
        damaged |= !follows;
        before = Mark { frame, checksum: said };
    }
}

/// Byte offset of a frame's header; frames count from 1.
pub fn frame_at(page_size: u32, frame: u32) -> u64 {
    let size = u64::from(page_size) + FRAME_HEADER_LEN as u64;
    HEADER_LEN as u64 + u64::from(frame.saturating_sub(1)) * size
}

/// The log's header as it is now.
pub fn read_header(log: &dyn ReadAt) -> Result<Option<Header>> {
    let mut bytes = [0; HEADER_LEN];
    let got = log.read_at(&mut bytes, 0).map_err(|e| Error::io("", e))?;
    Ok(if got == HEADER_LEN { Header::parse(&bytes) } else { None })
}
