//! Reading frames: from a slice (a mapped file) or from a stream, and finding the next one after damage.

use std::io::{self, Read};

use super::header::{FrameError, HEADER_LEN, Header, Kind, MAGIC};

/// A frame whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its offset in the file or stream, in bytes.
    pub at: u64,
}

impl Frame<'_> {
    /// The kind; `None` for a skippable one that this version does not know.
    pub fn kind(&self) -> Option<Kind> {
        self.header.known_kind()
    }

    /// Bytes of header and payload.
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// Reads the frame at the front of `bytes`, which stands at offset `at`. `Torn` when `bytes` is too short for it.
#[inline]
pub fn read_frame(bytes: &[u8], at: u64) -> Result<Frame<'_>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        let fits = bytes.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
        return Err(if fits {
            FrameError::Torn { at, missing: (HEADER_LEN - bytes.len()) as u64 }
        } else {
            FrameError::Magic { at }
        });
    };
    let header = Header::decode(head, at)?;
    let Some(payload) = rest.get(..header.length as usize) else {
        return Err(FrameError::Torn { at, missing: u64::from(header.length) - rest.len() as u64 });
    };
    check_payload(&header, payload, at)?;
    Ok(Frame { header, payload, at })
}

fn check_payload(header: &Header, payload: &[u8], at: u64) -> Result<(), FrameError> {
    let found = crc32fast::hash(payload);
    if found == header.payload_crc {
        Ok(())
    } else {
        Err(FrameError::PayloadChecksum { at, found, wanted: header.payload_crc })
    }
}

/// Offset in `bytes`, at or behind `from`, of the next header whose checksum is right; the payload may still be bad.
pub fn find_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memmem::find(bytes.get(at..)?, &MAGIC)?;
        if let Some((head, _)) = bytes.get(at..)?.split_first_chunk::<HEADER_LEN>()
            && !matches!(
                Header::decode(head, at as u64),
                Err(FrameError::Magic { .. } | FrameError::HeaderChecksum { .. })
            )
        {
            return Some(at);
        }
        at += 1;
    }
}

/// Walks the frames of a slice. After an error it stands still; see [`SliceFrames::skip_to`].
#[derive(Clone, Debug)]
pub struct SliceFrames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SliceFrames<'a> {
    /// Starts at offset `at`.
    pub fn new(bytes: &'a [u8], at: usize) -> SliceFrames<'a> {
        SliceFrames { bytes, at }
    }

    /// Offset of the next frame.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on at offset `at`.
    pub fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The next frame; `None` at the end of the slice.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'a>>, FrameError> {
        let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let frame = read_frame(rest, self.at as u64)?;
        self.at += frame.total_len();
        Ok(Some(frame))
    }
}

/// Reads frames from a stream through one reused buffer.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    buffer: Vec<u8>,
    // The unread part of the buffer.
    start: usize,
    filled: usize,
    // Offset in the stream of buffer[start].
    at: u64,
}

/// An error while reading a stream of frames.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The input is not what it should be.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ReadError {
    /// Names the stream and folds the error.
    pub fn into_error(self, name: &str) -> crate::error::Error {
        match self {
            ReadError::Io(error) => crate::error::Error::io(name, error),
            ReadError::Frame(error) => crate::error::Error::from(error).in_file(name),
        }
    }
}

impl<R: Read> FrameReader<R> {
    const CHUNK_BYTES: usize = 256 << 10;

    /// Reads from `input`.
    pub fn new(input: R) -> FrameReader<R> {
        FrameReader { input, buffer: Vec::new(), start: 0, filled: 0, at: 0 }
    }

    /// Offset of the next frame in the stream, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether a further whole frame header is already in the buffer, so that the next call may not block.
    pub fn has_buffered(&self) -> bool {
        self.filled - self.start >= HEADER_LEN
    }

    /// Whether the next call needs no more input: a whole frame is in the buffer, or what no frame begins with.
    pub fn has_whole_buffered(&self) -> bool {
        let have = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
        match have.first_chunk::<HEADER_LEN>().map(|head| Header::decode(head, self.at)) {
            None => false,
            Some(Ok(header)) => have.len() - HEADER_LEN >= header.length as usize,
            Some(Err(_)) => true,
        }
    }

    /// The input.
    pub fn get_ref(&self) -> &R {
        &self.input
    }

    /// The input, behind what was read ahead.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next frame; `None` at a clean end of the input. Blocks until the whole frame has arrived.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let at = self.at;
        let mut wanted = HEADER_LEN;
        let mut header = None;
        loop {
            while self.filled - self.start < wanted {
                if !self.fill(wanted)? {
                    let have = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
                    if have.is_empty() {
                        return Ok(None);
                    }
                    // What there is decides between torn and garbage.
                    return Err(read_frame(have, at)
                        .err()
                        .unwrap_or(FrameError::Torn { at, missing: (wanted - have.len()) as u64 })
                        .into());
                }
            }
            if header.is_some() {
                break;
            }
            let head = self.buffer.get(self.start..).and_then(|rest| rest.first_chunk::<HEADER_LEN>());
            let Some(head) = head else { return Ok(None) };
            let decoded = Header::decode(head, at)?;
            wanted += decoded.length as usize;
            header = Some(decoded);
        }
        let Some(header) = header else { return Ok(None) };
        let begin = self.start + HEADER_LEN;
        let end = self.start + wanted;
        self.start = end;
        self.at += wanted as u64;
        let payload = self.buffer.get(begin..end).unwrap_or(&[]);
        check_payload(&header, payload, at)?;
        Ok(Some(Frame { header, payload, at }))
    }

    /// Reads once from the input, towards the next frame; `false` at its end.
    pub fn read_more(&mut self) -> io::Result<bool> {
        let have = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
        let header = have.first_chunk::<HEADER_LEN>().and_then(|head| Header::decode(head, self.at).ok());
        self.fill(HEADER_LEN + header.map_or(0, |header| header.length as usize))
    }

    /// Reads more; `false` at the end of the input. A frame is at most 4 MiB, so the buffer is bounded.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.start > 0 && (self.start == self.filled || self.start + wanted > self.buffer.len()) {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        let room = (self.start + wanted).max(self.filled + 1).max(Self::CHUNK_BYTES);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        loop {
            let filled = self.filled;
            match self.input.read(self.buffer.get_mut(filled..).unwrap_or(&mut [])) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.filled += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
