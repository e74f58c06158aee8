//! What a transaction holds between its begin and its commit, readable as often as a retry needs.
//!
//! A target transaction begins only once the commit frame was seen, so a transaction has to be kept until then: in memory up to
//! [`MEMORY_BYTES_MAX`], beyond that as a range of the file it comes from, or in an unlinked temporary file when it comes from a
//! pipe or a queue.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{Frame, FrameReader, Kind};

/// Bytes of one transaction that are kept in memory. Some may be in the works at once.
pub const MEMORY_BYTES_MAX: usize = 4 << 20;
/// Bytes of a larger one that wait for the temporary file.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Before every payload kept by us: kind (1), flags (2), id (8), length (4).
const HEAD_LEN: usize = 15;

/// The frames of one transaction between begin and commit: data, and definitions in between.
#[derive(Debug, Default)]
pub struct Body {
    memory: Vec<u8>,
    spool: Option<Spool>,
    /// Payload bytes.
    pub bytes: u64,
}

#[derive(Debug)]
enum Spool {
    /// Our own form, in a temporary file of this length.
    Temporary(Arc<File>, u64),
    /// Frames of the input file, from and to.
    Span(Arc<File>, u64, u64),
}

/// One frame of a body.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A table definition: key and payload.
    Definition(u64, &'a [u8]),
    /// Records: flags and payload.
    Data(u16, &'a [u8]),
}

impl Body {
    /// Keeps a frame. `input` is the file that the frame stands in, when it can be read again, and where the transaction's `begin` stands.
    pub fn push(&mut self, frame: &Frame<'_>, input: Option<(&Arc<File>, u64)>) -> Result<()> {
        self.bytes += frame.payload.len() as u64;
        if let Some(Spool::Span(_, _, to)) = &mut self.spool {
            *to = frame.at + frame.total_len() as u64;
            return Ok(());
        }
        let most = if self.spool.is_some() { WAITING_BYTES_MAX } else { MEMORY_BYTES_MAX };
        if self.memory.len() + frame.payload.len() + HEAD_LEN > most {
            match input {
                Some((file, begin_at)) => {
                    self.spool = Some(Spool::Span(file.clone(), begin_at, frame.at + frame.total_len() as u64));
                    self.memory = Vec::new();
                    return Ok(());
                }
                None => self.spill()?,
            }
        }
        self.memory.push(frame.header.kind);
        self.memory.extend_from_slice(&frame.header.flags.to_le_bytes());
        self.memory.extend_from_slice(&frame.header.id.to_le_bytes());
        self.memory.extend_from_slice(&frame.header.length.to_le_bytes());
        self.memory.extend_from_slice(frame.payload);
        Ok(())
    }

    /// Appends what is in memory to the temporary file, which is made for it.
    fn spill(&mut self) -> Result<()> {
        let name = "temporary file";
        let (file, length) = match &mut self.spool {
            Some(Spool::Temporary(file, length)) => (file, length),
            _ => {
                let file = Arc::new(tempfile::tempfile().map_err(|error| Error::io(name, error))?);
                match self.spool.insert(Spool::Temporary(file, 0)) {
                    Spool::Temporary(file, length) => (file, length),
                    Spool::Span(..) => return Ok(()),
                }
            }
        };
        (&**file).write_all(&self.memory).map_err(|error| Error::io(name, error))?;
        *length += self.memory.len() as u64;
        self.memory.clear();
        self.memory.shrink_to(WAITING_BYTES_MAX);
        Ok(())
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory.capacity()
    }

    /// Reads the parts from the first on.
    pub fn read(&self) -> Result<BodyReader<'_>> {
        let source = match &self.spool {
            None => Source::Memory(&self.memory),
            Some(Spool::Temporary(file, length)) => {
                Source::Temporary { file: Range::new(file.clone(), 0, *length), rest: &self.memory, done: false }
            }
            Some(Spool::Span(file, from, to)) => {
                Source::Span(Box::new(FrameReader::new(Range::new(file.clone(), *from, *to))))
            }
        };
        Ok(BodyReader { source, buffer: Vec::new() })
    }
}

/// Walks the parts of a body.
pub struct BodyReader<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
}

enum Source<'a> {
    Memory(&'a [u8]),
    Temporary { file: Range, rest: &'a [u8], done: bool },
    Span(Box<FrameReader<Range>>),
}

impl BodyReader<'_> {
    /// The next part; `None` behind the last.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Part<'_>>> {
        let name = "temporary file";
        match &mut self.source {
            Source::Memory(rest) => take_part(rest),
            Source::Temporary { rest, done: true, .. } => take_part(rest),
            Source::Temporary { file, rest, done } => {
                let mut head = [0u8; HEAD_LEN];
                if file.at == file.to {
                    *done = true;
                    return take_part(rest);
                }
                file.read_exact(&mut head).map_err(|error| Error::io(name, error))?;
                let (kind, flags, id, length) = split_head(&head);
                self.buffer.resize(length, 0);
                file.read_exact(&mut self.buffer).map_err(|error| Error::io(name, error))?;
                Ok(Some(part(kind, flags, id, &self.buffer)))
            }
            Source::Span(frames) => loop {
                let at = frames.at();
                match frames.next() {
                    Ok(None) => return Ok(None),
                    Ok(Some(frame)) if matches!(frame.kind(), Some(Kind::Data | Kind::Definition)) => {
                        // Polonius is not here yet: the frame is taken again through its parts.
                        let (kind, flags, id) = (frame.header.kind, frame.header.flags, frame.header.id);
                        self.buffer.clear();
                        self.buffer.extend_from_slice(frame.payload);
                        return Ok(Some(part(kind, flags, id, &self.buffer)));
                    }
                    Ok(Some(_)) => {}
                    Err(error) => return Err(error.into_error("input").at(at)),
                }
            },
        }
    }
}

fn split_head(head: &[u8; HEAD_LEN]) -> (u8, u16, u64, usize) {
    let [kind, f0, f1, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = *head;
    (
        kind,
        u16::from_le_bytes([f0, f1]),
        u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        u32::from_le_bytes([l0, l1, l2, l3]) as usize,
    )
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Result<Option<Part<'a>>> {
    let Some((head, after)) = rest.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
    let (kind, flags, id, length) = split_head(head);
    let Some((payload, after)) = after.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    Ok(Some(part(kind, flags, id, payload)))
}

fn part(kind: u8, flags: u16, id: u64, payload: &[u8]) -> Part<'_> {
    if kind == Kind::Definition as u8 { Part::Definition(id, payload) } else { Part::Data(flags, payload) }
}

/// A range of a file, read without moving the file's own offset.
#[derive(Debug)]
struct Range {
    file: Arc<File>,
    at: u64,
    to: u64,
}

impl Range {
    fn new(file: Arc<File>, from: u64, to: u64) -> Range {
        Range { file, at: from, to }
    }
}

impl Read for Range {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.to - self.at).unwrap_or(usize::MAX).min(out.len());
        let count = self.file.read_at(out.get_mut(..room).unwrap_or(&mut []), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Where an opened regular file stands, and the file for reading it again; `None` for pipes.
pub fn rereadable(file: &mut File) -> Option<u64> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.stream_position().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Begin, Coordinate, FrameWriter, SliceFrames};

    fn frames(count: usize, bytes: usize) -> Vec<u8> {
        let mut writer = FrameWriter::new();
        writer.begin(Coordinate(1), &Begin::default());
        for number in 0..count {
            writer.definition(number as u64, b"table");
            writer.data(0, &vec![number as u8; bytes]);
        }
        writer.bytes().to_vec()
    }

    fn check(body: &Body, count: usize, bytes: usize) {
        // Twice: a retry reads again.
        for _ in 0..2 {
            let mut reader = body.read().unwrap();
            for number in 0..count {
                assert!(matches!(reader.next().unwrap(), Some(Part::Definition(id, b"table")) if id == number as u64));
                let Some(Part::Data(0, payload)) = reader.next().unwrap() else { panic!("data") };
                assert!(payload.len() == bytes && payload.iter().all(|byte| *byte == number as u8));
            }
            assert!(reader.next().unwrap().is_none());
        }
    }

    #[test]
    fn a_body_of_any_size_reads_again_from_memory_pipe_and_file() {
        for (count, bytes) in [(3, 100), (20, 1 << 20), (9, 3 << 20)] {
            let stream = frames(count, bytes);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&stream).unwrap();
            let file = Arc::new(file);
            for again in [None, Some((&file, 0))] {
                let mut body = Body::default();
                let mut frames = SliceFrames::new(&stream, 0);
                frames.next().unwrap();
                while let Some(frame) = frames.next().unwrap() {
                    body.push(&frame, again).unwrap();
                    assert!(body.memory_bytes() <= 2 * MEMORY_BYTES_MAX);
                }
                check(&body, count, bytes);
            }
        }
    }
}
