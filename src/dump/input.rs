//! What a dump reads: files of frames (mapped), streams of frames, and sources that are decoded on the way.
//!
//! Inputs are opened read-only and never changed. A file is told by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Class, Error, Result};
use crate::frame::reader::ReadError;
use crate::frame::{Frame, FrameError, FrameReader, MAGIC, SliceFrames};

/// One input, opened.
pub struct Input {
    /// Its name in messages.
    pub name: String,
    /// How its frames come.
    pub frames: Frames,
}

/// Where frames come from.
pub enum Frames {
    /// A mapped file and the offset of the next frame in it.
    Mapped(Mmap, usize),
    /// A stream.
    Stream(FrameReader<Box<dyn Read>>),
}

/// What the operands name. No operand is standard input.
pub fn operands(paths: &[PathBuf]) -> Vec<PathBuf> {
    if paths.is_empty() { vec![PathBuf::from("-")] } else { paths.to_vec() }
}

impl Input {
    /// Opens a file of frames, or standard input for `-`. With `growing`, a file is read as it grows and not mapped.
    pub fn open(path: &Path, growing: bool) -> Result<Input> {
        Input::open_as(path, growing, false)
    }

    fn open_as(path: &Path, growing: bool, damaged: bool) -> Result<Input> {
        if path == Path::new("-") {
            return Ok(Input::stream("standard input", Box::new(io::stdin())));
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Error::io(&name, error))?;
        let metadata = file.metadata().map_err(|error| Error::io(&name, error))?;
        if metadata.is_dir() {
            return Err(Error::new(Class::Unavailable, "queues are not read yet in this version").in_file(name));
        }
        if !metadata.is_file() || growing {
            return Ok(Input::stream(&name, Box::new(file)));
        }
        if metadata.len() == 0 {
            return Ok(Input::stream(&name, Box::new(io::empty())));
        }
        // SAFETY: the map is only read. Another process that cuts the file short while we read it can end us with SIGBUS;
        // rlog's own files only grow or are replaced.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io(&name, error))?;
        // Readahead hints are best effort.
        let _ = map.advise(memmap2::Advice::Sequential);
        if !damaged && !map.starts_with(&MAGIC) {
            return Err(not_frames(&map).in_file(name));
        }
        Ok(Input { name, frames: Frames::Mapped(map, 0) })
    }

    fn stream(name: &str, input: Box<dyn Read>) -> Input {
        Input { name: name.to_owned(), frames: Frames::Stream(FrameReader::new(input)) }
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        match &mut self.frames {
            Frames::Mapped(map, at) => {
                let mut frames = SliceFrames::new(map, *at);
                let frame = frames.next().map_err(|error| Error::from(error).in_file(&self.name))?;
                *at = frames.at();
                Ok(frame)
            }
            Frames::Stream(reader) => reader.next().map_err(|error| error.into_error(&self.name)),
        }
    }

    /// The next frame, of a file that may still grow: `None` at its end and inside of a frame that is not whole yet.
    pub fn next_growing(&mut self) -> Result<Option<Frame<'_>>> {
        if let Frames::Mapped(..) = self.frames {
            return self.next();
        }
        let Frames::Stream(reader) = &mut self.frames else { return Ok(None) };
        match reader.next() {
            Ok(frame) => Ok(frame),
            Err(ReadError::Frame(FrameError::Torn { .. })) => Ok(None),
            Err(error) => Err(error.into_error(&self.name)),
        }
    }

    /// Whether the next call may wait for a writer.
    pub fn may_wait(&self) -> bool {
        match &self.frames {
            Frames::Mapped(..) => false,
            Frames::Stream(reader) => !reader.has_buffered(),
        }
    }

    /// Opens several inputs as one that [`Input::bytes`] shows whole.
    pub fn mapped_all(paths: &[PathBuf]) -> Result<Input> {
        if let [path] = paths {
            return Input::mapped(path);
        }
        let failed = |error| Error::io("the temporary file", error);
        let mut spool = tempfile::tempfile().map_err(failed)?;
        for path in paths {
            spool.write_all(Input::mapped(path)?.bytes()).map_err(failed)?;
        }
        // SAFETY: the file has no name, so that nobody else can change it.
        let map = unsafe { Mmap::map(&spool) }.map_err(failed)?;
        Ok(Input { name: "all inputs together".to_owned(), frames: Frames::Mapped(map, 0) })
    }

    /// Whether it is a pipe or the like, whose end is its writer's.
    pub fn is_stream(&self) -> bool {
        matches!(self.frames, Frames::Stream(_))
    }

    /// Offset of the next frame.
    pub fn at(&self) -> u64 {
        match &self.frames {
            Frames::Mapped(_, at) => *at as u64,
            Frames::Stream(reader) => reader.at(),
        }
    }

    /// The bytes of a mapped file; empty for anything else, see [`Input::mapped`].
    pub fn bytes(&self) -> &[u8] {
        match &self.frames {
            Frames::Mapped(map, _) => map,
            Frames::Stream(_) => &[],
        }
    }

    /// Opens an input as one that [`Input::bytes`] shows whole: what is no file of frames goes to a temporary file first.
    pub fn mapped(path: &Path) -> Result<Input> {
        let input = Input::open_as(path, false, true)?;
        match input.frames {
            Frames::Mapped(..) => Ok(input),
            Frames::Stream(reader) => {
                let failed = |error| Error::io("the temporary file", error);
                let mut spool = tempfile::tempfile().map_err(failed)?;
                let mut source = reader.into_inner();
                io::copy(&mut source, &mut spool).map_err(|error| Error::io(&input.name, error))?;
                if spool.metadata().map_err(failed)?.len() == 0 {
                    return Ok(Input::stream(&input.name, Box::new(io::empty())));
                }
                // SAFETY: the file has no name, so that nobody else can change it.
                let map = unsafe { Mmap::map(&spool) }.map_err(failed)?;
                Ok(Input { name: input.name, frames: Frames::Mapped(map, 0) })
            }
        }
    }
}

/// Says what a file is that is no file of frames.
fn not_frames(bytes: &[u8]) -> Error {
    if bytes.starts_with(b"\xfebin") || bytes.starts_with(b"SQLite format 3\0") {
        return Error::new(Class::Unavailable, "reading this kind of log directly is not built yet in this version");
    }
    Error::damage("this is neither an rlog file nor a log that rlog reads").at(0)
}
