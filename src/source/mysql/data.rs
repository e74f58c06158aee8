//! The bytes of a log: a mapped file, a stream through a buffer that holds the event at hand, or what a server sends.
//!
//! Nothing is read by what a length claims: a stream's buffer grows as bytes arrive, and a mapped file ends where it ends.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// How much is asked of a stream at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The bytes of one log.
pub enum Data {
    /// A mapped file.
    Mapped(Mapped),
    /// A stream.
    Stream(Stream),
    /// Events as a server sends them.
    Live(Box<dyn Feed>),
}

/// A server's log, event by event, as if its files stood one behind the other: offsets count on from file to file, and a file begins with its
/// magic number. What a server does not send (it decrypts its log) leaves holes.
pub trait Feed: Send {
    /// Where the event stands that is at `at` or, after a hole, behind it; `at` itself when none has come yet. Never waits.
    fn place(&mut self, at: u64) -> Result<u64>;
    /// The bytes of the event at hand from `at` on; none when it does not hold `at`.
    fn bytes(&self, at: u64) -> &[u8];
    /// Waits for an event behind `at`; `false`: none came within `patience`.
    fn wait(&mut self, at: u64, patience: Duration) -> Result<bool>;
    /// The name of the file that begins at `at`, if one does.
    fn file_name(&self, at: u64) -> Option<&str>;
    /// Whether everything that was asked for has been handed over.
    fn is_ended(&self) -> bool;
    /// Whether what the server held at the start has been handed over.
    fn is_caught_up(&self) -> bool;
    /// Remarks for people since the last call.
    fn take_notes(&mut self) -> Vec<String>;
}

/// A file and its map; a map of length 0 is no map.
pub struct Mapped {
    file: File,
    map: Option<Mmap>,
    name: String,
}

/// A stream and the part of it that is held.
pub struct Stream {
    input: Box<dyn Read + Send>,
    name: String,
    buffer: Vec<u8>,
    // Offset in the stream of buffer[start], and the unread part buffer[start..filled].
    at: u64,
    start: usize,
    filled: usize,
    ended: bool,
}

impl Data {
    /// Maps a file.
    pub fn map(path: &Path) -> Result<Data> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Error::io(&name, error))?;
        let mut mapped = Mapped { file, map: None, name };
        mapped.remap()?;
        Ok(Data::Mapped(mapped))
    }

    /// Reads a stream.
    pub fn stream(name: String, input: Box<dyn Read + Send>) -> Data {
        Data::Stream(Stream { input, name, buffer: Vec::new(), at: 0, start: 0, filled: 0, ended: false })
    }

    /// Bytes of the file as of the last look at it; `None`: a stream.
    pub fn file_len(&self) -> Option<u64> {
        match self {
            Data::Mapped(mapped) => Some(mapped.bytes().len() as u64),
            Data::Stream(_) | Data::Live(_) => None,
        }
    }

    /// The feed, if a server sends it.
    #[inline]
    pub fn feed(&mut self) -> Option<&mut dyn Feed> {
        match self {
            Data::Live(feed) => Some(&mut **feed),
            _ => None,
        }
    }

    /// The bytes from offset `at` on, at least `want` of them unless the log ends before. `at` never goes back by more than what
    /// the last call returned.
    #[inline]
    pub fn from(&mut self, at: u64, want: usize) -> Result<&[u8]> {
        match self {
            Data::Mapped(mapped) => Ok(usize::try_from(at).ok().and_then(|at| mapped.bytes().get(at..)).unwrap_or(&[])),
            Data::Stream(stream) => stream.from(at, want),
            Data::Live(feed) => Ok(feed.bytes(at)),
        }
    }

    /// Looks whether the file has grown; `true` if so. A stream never grows this way: it blocks.
    pub fn grow(&mut self) -> Result<bool> {
        match self {
            Data::Mapped(mapped) => {
                let before = mapped.bytes().len();
                let now = mapped.file.metadata().map_err(|error| Error::io(&mapped.name, error))?.len();
                if now != before as u64 {
                    mapped.remap()?;
                }
                Ok(mapped.bytes().len() > before)
            }
            Data::Stream(_) | Data::Live(_) => Ok(false),
        }
    }
}

impl Mapped {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    fn remap(&mut self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|error| Error::io(&self.name, error))?;
        if metadata.is_dir() {
            return Err(Error::io(&self.name, std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        self.map = None;
        if metadata.len() > 0 {
            // SAFETY: servers only append to their logs and never truncate one that is being read; what changes is never
            // relied upon twice (lengths are checked where they are used). A file that is cut short from outside ends
            // the process with SIGBUS, as it does for every reader of a map.
            let map = unsafe { Mmap::map(&self.file) }.map_err(|error| Error::io(&self.name, error))?;
            // Only advice: reading works without.
            let _ = map.advise(memmap2::Advice::Sequential);
            self.map = Some(map);
        }
        Ok(())
    }
}

impl Stream {
    fn from(&mut self, at: u64, want: usize) -> Result<&[u8]> {
        let skip = at.saturating_sub(self.at);
        let held = (self.filled - self.start) as u64;
        self.start += skip.min(held) as usize;
        self.at += skip.min(held);
        let mut beyond = skip.saturating_sub(held);
        while self.filled - self.start < want || beyond > 0 {
            if self.ended {
                break;
            }
            if self.start > 0 && self.start + want.max(1) > self.buffer.len() {
                self.buffer.copy_within(self.start..self.filled, 0);
                self.filled -= self.start;
                self.start = 0;
            }
            if self.buffer.len() < self.filled + CHUNK_BYTES {
                // Doubling, not `want`: a length is only believed as far as bytes arrive.
                self.buffer.resize((self.filled + CHUNK_BYTES).max((self.filled * 2).min(self.filled + want)), 0);
            }
            let filled = self.filled;
            match self.input.read(self.buffer.get_mut(filled..).unwrap_or(&mut [])) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.filled += count;
                    let passed = beyond.min(count as u64);
                    self.start += passed as usize;
                    self.at += passed;
                    beyond -= passed;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(&self.name, error)),
            }
        }
        Ok(self.buffer.get(self.start..self.filled).unwrap_or(&[]))
    }
}
