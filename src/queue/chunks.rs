//! Reads a stream in a thread of its own, as chunks of whole frames whose checksums are right.
//!
//! Buffers go round: the thread reads into one, hands it over, and gets it back; their number is bounded by the bytes
//! they occupy. A frame that is not yet complete is carried to the next buffer.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::frame::{FrameError, HEADER_LEN, reader::read_frame};

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes that all buffers may occupy; a frame is at most 4 MiB.
const BUFFERS_BYTES_MAX: usize = 16 << 20;

/// Whole frames.
#[derive(Debug)]
pub(super) struct Chunk {
    /// All of it is initialised; only the front is of this chunk.
    buffer: Vec<u8>,
    length: usize,
    /// Offset of the first in the stream.
    pub at: u64,
}

impl Chunk {
    pub fn frames(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.length).unwrap_or(&mut [])
    }
}

/// What has come.
#[derive(Debug)]
pub(super) enum Arrival {
    Chunk(Chunk),
    /// Nothing came in time; `silent`: and the input itself is what was waited for, not the thread that checks what has come.
    Nothing {
        silent: bool,
    },
    End(Result<()>),
}

#[derive(Debug, Default)]
struct Shared {
    ready: VecDeque<Chunk>,
    free: Vec<Vec<u8>>,
    /// Capacity of all buffers that exist.
    occupied: usize,
    /// The thread is waiting for its input, and so often it has begun to.
    reading: bool,
    reads: u64,
    /// Nobody takes chunks any more.
    abandoned: bool,
    end: Option<Result<()>>,
}

/// The receiving end.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl Chunks {
    /// Starts to read. The thread ends with its input, or when nobody gives buffers back any more.
    pub fn spawn(input: impl Read + Send + 'static, name: &str) -> Chunks {
        let chunks = Chunks { shared: Arc::default() };
        let name = name.to_owned();
        let theirs = chunks.clone();
        std::thread::spawn(move || {
            let end = theirs.read(input, &name);
            theirs.lock().end = Some(end);
            theirs.shared.1.notify_all();
        });
        chunks
    }

    /// Ends the thread, should it wait for a buffer, once the guard is dropped. A thread that waits for input ends with it.
    pub fn abandon_when_dropped(&self) -> Abandon {
        Abandon(self.clone())
    }

    // The lock is only held for moves of buffers, which do not panic half-way.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next chunk.
    pub fn next(&self, patience: Duration) -> Arrival {
        let mut shared = self.lock();
        let reads = shared.reads;
        if shared.ready.is_empty() && shared.end.is_none() && !patience.is_zero() {
            let waited = self.shared.1.wait_timeout(shared, patience);
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match shared.ready.pop_front() {
            Some(chunk) => Arrival::Chunk(chunk),
            None => {
                let silent = shared.reading && shared.reads == reads;
                shared.end.take().map_or(Arrival::Nothing { silent }, Arrival::End)
            }
        }
    }

    /// Whether a chunk is ready.
    pub fn has_more(&self) -> bool {
        !self.lock().ready.is_empty()
    }

    /// Gives a buffer back.
    pub fn recycle(&self, chunk: Chunk) {
        let buffer = chunk.buffer;
        let mut shared = self.lock();
        // A buffer that one large frame has blown up is not kept.
        if buffer.len() > READ_BYTES {
            shared.occupied = shared.occupied.saturating_sub(buffer.len());
        } else {
            shared.free.push(buffer);
        }
        self.shared.1.notify_all();
    }

    /// A buffer, waiting until there is room for one. `None` when nobody wants it.
    fn buffer(&self) -> Option<Vec<u8>> {
        let mut shared = self.lock();
        loop {
            if shared.abandoned {
                return None;
            }
            if let Some(buffer) = shared.free.pop() {
                return Some(buffer);
            }
            if shared.occupied + READ_BYTES <= BUFFERS_BYTES_MAX {
                shared.occupied += READ_BYTES;
                return Some(vec![0; READ_BYTES]);
            }
            shared = self.shared.1.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self, mut input: impl Read, name: &str) -> Result<()> {
        let mut at = 0;
        let mut carry: Vec<u8> = Vec::new();
        loop {
            let Some(mut buffer) = self.buffer() else { return Ok(()) };
            let counted = buffer.len();
            if buffer.len() <= carry.len() {
                buffer.resize(carry.len() + READ_BYTES, 0);
            }
            if let Some(front) = buffer.get_mut(..carry.len()) {
                front.copy_from_slice(&carry);
            }
            let mut filled = carry.len();
            carry.clear();
            let whole = loop {
                let (whole, missing) = match check(buffer.get(..filled).unwrap_or(&[]), at) {
                    Ok(found) => found,
                    Err((whole, error)) => {
                        self.hand_over(buffer, whole, at, counted);
                        return Err(Error::from(error).in_file(name));
                    }
                };
                if whole > 0 {
                    break whole;
                }
                if buffer.len() < filled + missing.max(1) {
                    buffer.resize(filled + missing.max(READ_BYTES), 0);
                }
                self.tell_reading(true);
                let read = input.read(buffer.get_mut(filled..).unwrap_or(&mut []));
                self.tell_reading(false);
                match read {
                    Ok(0) if filled == 0 => return Ok(()),
                    Ok(0) => {
                        let torn = FrameError::Torn { at, missing: missing as u64 };
                        return Err(Error::from(torn).in_file(name));
                    }
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::io(name, error)),
                }
            };
            carry.extend_from_slice(buffer.get(whole..filled).unwrap_or(&[]));
            self.hand_over(buffer, whole, at, counted);
            at += whole as u64;
        }
    }

    fn tell_reading(&self, reading: bool) {
        let mut shared = self.lock();
        shared.reading = reading;
        shared.reads += u64::from(reading);
    }

    fn hand_over(&self, buffer: Vec<u8>, length: usize, at: u64, counted: usize) {
        let mut shared = self.lock();
        shared.occupied += buffer.len() - counted.min(buffer.len());
        shared.ready.push_back(Chunk { buffer, length, at });
        self.shared.1.notify_all();
    }
}

/// See [`Chunks::abandon_when_dropped`].
#[derive(Debug)]
pub(super) struct Abandon(Chunks);

impl Drop for Abandon {
    fn drop(&mut self) {
        let mut shared = self.0.lock();
        shared.abandoned = true;
        shared.ready.clear();
        self.0.shared.1.notify_all();
    }
}

/// Checks frames; returns where the first incomplete one begins and how many bytes it lacks at least. `at` is the
/// offset of the buffer in the stream. An error comes with where the bad frame begins.
fn check(buffer: &[u8], at: u64) -> Result<(usize, usize), (usize, FrameError)> {
    let mut here = 0;
    loop {
        let rest = buffer.get(here..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok((here, HEADER_LEN));
        }
        match read_frame(rest, at + here as u64) {
            Ok(frame) => here += frame.total_len(),
            Err(FrameError::Torn { missing, .. }) => return Ok((here, usize::try_from(missing).unwrap_or(0))),
            Err(error) => return Err((here, error)),
        }
    }
}
