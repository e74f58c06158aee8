//! Segment files as they are read: their head, frames at an offset, and a full scan that says what is whole.

use std::collections::HashMap;
use std::io;

use crate::error::{Class, Error, Result};
use crate::frame::header::HEADER_CRC_AT;
use crate::frame::{
    Checker, Digest, Frame, FrameError, FrameWriter, HEADER_LEN, Header, Kind, Segment, Step, StreamHeader, Watermark,
    find_frame,
};
use crate::sys::{Access, File, planted};

use super::super::Tail;
use super::channel::{Channel, segment_name};

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// A file through one reused buffer.
#[derive(Debug)]
pub(super) struct Window {
    file: Box<dyn File>,
    buffer: Vec<u8>,
    base: u64,
    filled: usize,
}

/// An error below the level of files' names.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Frame(FrameError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl From<FrameError> for ReadError {
    fn from(error: FrameError) -> ReadError {
        ReadError::Frame(error)
    }
}

impl ReadError {
    /// Names the file. A frame that is cut short inside a file is damage of that file.
    pub fn named(self, channel: &Channel, number: u64) -> Error {
        let name = channel.file(&segment_name(number));
        match self {
            ReadError::Io(error) => Error::io(name, error),
            ReadError::Frame(error) => {
                let out = Error::from(error.clone()).in_file(name);
                let out = if out.class() == Class::Torn { out.with_class(Class::Damage) } else { out };
                out.hint(format!("`rlog-queue verify {}` lists every damaged place", channel.path))
            }
        }
    }
}

impl Window {
    pub fn new(file: Box<dyn File>) -> Window {
        Window { file, buffer: Vec::new(), base: 0, filled: 0 }
    }

    pub fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Forgets what was read, which may have changed since.
    pub fn forget(&mut self) {
        self.filled = 0;
    }

    /// Makes up to `length` bytes from `at` on available; fewer at the end of the file.
    fn fill(&mut self, at: u64, length: usize) -> io::Result<()> {
        let inside = at >= self.base && at + length as u64 <= self.base + self.filled as u64;
        if inside {
            return Ok(());
        }
        // What is already there of the wanted part is kept.
        let keep_from = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        if at >= self.base && keep_from < self.filled {
            self.buffer.copy_within(keep_from..self.filled, 0);
            self.filled -= keep_from;
        } else {
            self.filled = 0;
        }
        self.base = at;
        let room = length.max(WINDOW_BYTES);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let rest = self.buffer.get_mut(self.filled..).unwrap_or(&mut []);
        self.filled += self.file.read_full_at(rest, at + self.filled as u64)?;
        Ok(())
    }

    /// Up to `length` bytes from `at` on.
    pub fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        self.fill(at, length)?;
        Ok(self.at(at, length))
    }

    /// What is in the buffer of `length` bytes from `at` on.
    pub fn at(&self, at: u64, length: usize) -> &[u8] {
        let from = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let to = from.saturating_add(length).min(self.filled);
        self.buffer.get(from..to).unwrap_or(&[])
    }

    /// The header at `at`, its checksum and salt checked; `None` when the file ends exactly there.
    pub fn header(&mut self, at: u64, salt: u32) -> Result<Option<Header>, ReadError> {
        let bytes = self.bytes(at, HEADER_LEN)?;
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            if bytes.is_empty() {
                return Ok(None);
            }
            return Err(FrameError::Torn { at, missing: (HEADER_LEN - bytes.len()) as u64 }.into());
        };
        let header = Header::decode(head, at)?;
        if header.salt != salt {
            return Err(foreign_salt(at).into());
        }
        Ok(Some(header))
    }

    /// The frame at `at`, all checksums and the salt checked; `None` when the file ends exactly there. With it comes
    /// the header's checksum, for digests.
    pub fn frame(&mut self, at: u64, salt: Option<u32>) -> Result<Option<(Frame<'_>, u32)>, ReadError> {
        let bytes = self.bytes(at, HEADER_LEN)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let length = match bytes.first_chunk::<HEADER_LEN>() {
            Some(head) => Header::decode(head, at)?.length as usize,
            None => 0,
        };
        self.fill(at, HEADER_LEN + length)?;
        let bytes = self.at(at, HEADER_LEN + length);
        let frame = match crate::frame::reader::read_frame(bytes, at) {
            Err(FrameError::PayloadChecksum { .. }) if planted::is(planted::Bug::NoChecksum) => unchecked(bytes, at)?,
            read => read?,
        };
        if salt.is_some_and(|salt| salt != frame.header.salt) {
            return Err(foreign_salt(at).into());
        }
        let crc = header_crc(bytes);
        Ok(Some((frame, crc)))
    }
}

/// The frame at the front, its payload as it is. Only for the bug that a test plants.
fn unchecked(bytes: &[u8], at: u64) -> Result<Frame<'_>, FrameError> {
    let head = bytes.first_chunk::<HEADER_LEN>().ok_or(FrameError::Magic { at })?;
    let payload = bytes.get(HEADER_LEN..).unwrap_or(&[]);
    Ok(Frame { header: Header::decode(head, at)?, payload, at })
}

fn foreign_salt(at: u64) -> FrameError {
    FrameError::Sequence { at, what: "this frame belongs to another file".into() }
}

/// The checksum in a header's bytes.
pub(super) fn header_crc(bytes: &[u8]) -> u32 {
    bytes.get(HEADER_CRC_AT..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |crc| u32::from_le_bytes(*crc))
}

/// The head of a segment file.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub segment: Segment,
    pub salt: u32,
    /// Bytes of the `segment` frame; the preamble begins there.
    pub length: u64,
}

/// Opens a segment and reads its head. `None` when it is not there.
pub(super) fn open(channel: &Channel, number: u64) -> Result<Option<(Window, Head)>> {
    let file = match channel.dir.open(&segment_name(number), Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| channel.io(&segment_name(number), error))?,
    };
    let mut window = Window::new(file);
    let head = read_head(&mut window).map_err(|error| error.named(channel, number))?;
    if head.segment.queue != channel.uuid || head.segment.channel != channel.channel || head.segment.number != number {
        return Err(Error::new(
            Class::Damage,
            format!(
                "this is segment {} of channel `{}` of {}",
                head.segment.number,
                head.segment.channel,
                if head.segment.queue == channel.uuid { "this queue" } else { "another queue" }
            ),
        )
        .in_file(channel.file(&segment_name(number)))
        .hint("put the right file back in its place"));
    }
    Ok(Some((window, head)))
}

fn read_head(window: &mut Window) -> Result<Head, ReadError> {
    let torn = FrameError::Torn { at: 0, missing: HEADER_LEN as u64 };
    let (frame, _) = window.frame(0, None)?.ok_or(torn)?;
    if frame.kind() != Some(Kind::Segment) {
        return Err(FrameError::Sequence { at: 0, what: "this is not a segment of a queue".into() }.into());
    }
    let segment = Segment::decode(frame.payload, 0)?;
    Ok(Head { segment, salt: frame.header.salt, length: frame.total_len() as u64 })
}

/// What a full reading of a segment found.
#[derive(Debug)]
pub(super) struct Scan {
    pub head: Head,
    /// Bytes of the file.
    pub length: u64,
    /// Where the last whole unit (or frame outside of units) ends.
    pub whole: u64,
    /// Digest over the frames up to there.
    pub digest: u64,
    /// What is reached there.
    pub tail: Tail,
    /// Definitions live there.
    pub definitions: HashMap<u64, Vec<u8>>,
    /// Transactions that are whole.
    pub transactions: u64,
    /// The first frame that is wrong, and where.
    pub bad: Option<(u64, FrameError)>,
    /// Bytes that some watermark of the file vouches for.
    pub vouched: u64,
}

/// Reads a segment up to `limit`, checking everything.
pub(super) fn scan(channel: &Channel, number: u64, limit: u64) -> Result<Scan> {
    let Some((mut window, head)) = open(channel, number)? else { return Err(channel.missing_segment(number)) };
    let length = window.file().len().map_err(|error| channel.io(&segment_name(number), error))?;
    let mut scan = Scan {
        tail: Tail::at_segment(&head.segment),
        head,
        length,
        whole: 0,
        digest: 0,
        definitions: HashMap::new(),
        transactions: 0,
        bad: None,
        vouched: 0,
    };
    let end = length.min(limit);
    match walk(&mut scan, &mut window, end) {
        Ok(()) => {}
        Err(ReadError::Frame(error)) => {
            scan.bad = Some((error.at(), error));
            let from = scan.bad.as_ref().map_or(end, |(at, _)| *at);
            let behind = watermarks_behind(&mut window, scan.head.salt, from);
            let behind = behind.map_err(|error| channel.io(&segment_name(number), error))?;
            scan.vouched = scan.vouched.max(behind);
        }
        Err(error) => return Err(error.named(channel, number)),
    }
    Ok(scan)
}

fn walk(scan: &mut Scan, window: &mut Window, end: u64) -> Result<(), ReadError> {
    let mut checker = Checker::new();
    let mut digest = Digest::default();
    let salt = scan.head.salt;
    let mut at = 0;
    while at < end {
        let Some((frame, crc)) = window.frame(at, Some(salt))? else { break };
        let step = checker.frame(&frame)?;
        match (frame.kind(), &step) {
            (Some(Kind::Watermark), _) => {
                scan.vouched = scan.vouched.max(Watermark::decode(frame.payload, at)?.synced);
            }
            (Some(Kind::Segment), _) if at > 0 => {
                return Err(FrameError::Sequence { at, what: "a second segment frame".into() }.into());
            }
            (_, Step::Definition(key)) => {
                scan.definitions.insert(*key, frame.payload.to_vec());
            }
            (_, Step::Commit(..) | Step::Prepared(..)) => scan.transactions += 1,
            (_, Step::End(_) | Step::Abort(_)) => {
                return Err(FrameError::Sequence { at, what: "a stream's end inside a queue".into() }.into());
            }
            _ => {}
        }
        digest.add(crc, frame.header.length);
        at += frame.total_len() as u64;
        // A frame that runs over the limit counts as not there.
        if at > end {
            break;
        }
        scan.tail.step(&step);
        if checker.open_transaction().is_none() {
            scan.whole = at;
            scan.digest = digest.value();
        }
    }
    Ok(())
}

/// Looks for intact watermarks behind a bad frame, which tell whether it once was durable. Returns what they vouch for.
pub(super) fn watermarks_behind(window: &mut Window, salt: u32, from: u64) -> io::Result<u64> {
    // Room for one that lies across two readings.
    const OVERLAP: usize = HEADER_LEN + 64;
    let mut vouched = 0;
    let mut at = from;
    loop {
        let bytes = window.bytes(at, WINDOW_BYTES)?;
        let mut here = 0;
        while let Some(found) = find_frame(bytes, here) {
            here = found + 1;
            let at = at + found as u64;
            if let Some(rest) = bytes.get(found..)
                && let Ok(frame) = crate::frame::reader::read_frame(rest, at)
                && frame.kind() == Some(Kind::Watermark)
                && frame.header.salt == salt
                && let Ok(mark) = Watermark::decode(frame.payload, at)
            {
                vouched = vouched.max(mark.synced);
            }
        }
        if bytes.len() < WINDOW_BYTES {
            return Ok(vouched);
        }
        at += (WINDOW_BYTES - OVERLAP) as u64;
    }
}

/// Appends the start of a segment file: its head, the preamble, and a watermark over both once they are synced.
pub(super) fn write_start(
    out: &mut FrameWriter,
    segment: &mut Segment,
    source: Option<&StreamHeader>,
    definitions: &HashMap<u64, Vec<u8>>,
) {
    segment.preamble = u64::from(source.is_some()) + definitions.len() as u64;
    out.frame(Kind::Segment, |payload| segment.encode(payload));
    if let Some(source) = source {
        let header = StreamHeader {
            start: segment.reached.unwrap_or(source.start),
            incarnation: segment.incarnation,
            gtid_state: segment.gtid_state.clone(),
            ..source.clone()
        };
        out.frame(Kind::Stream, |payload| header.encode(payload));
    }
    // In order of keys, so that the same queue gives the same file.
    let mut keys: Vec<_> = definitions.iter().collect();
    keys.sort_unstable_by_key(|(key, _)| **key);
    for (key, payload) in keys {
        out.definition(*key, payload);
    }
}
