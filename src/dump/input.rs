//! What a dump reads: files of frames (mapped), streams of frames, queues, and sources that are decoded on the way.
//!
//! Inputs are opened read-only and never changed. What an operand is, its first bytes tell, not its name; a directory or an address
//! (`dir:…`) is a queue. Logs that stand next to each other among the operands are one source. Frames that a source writes
//! are read from its buffer, without a file in between.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::frame::reader::{ReadError, read_frame};
use crate::frame::{Frame, FrameError, FrameReader, FrameWriter, SliceFrames, Unit};
use crate::queue::{self, Queue, ReadFrom, ReadMode};
use crate::source::{self, FileKind, Problem, Source};
use crate::sys::Os;

/// What inputs are opened with.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Wait for more at the end of the last input.
    pub follow: bool,
    /// Which channel of a queue.
    pub channel: String,
    /// How logs are decoded.
    pub source: source::Options,
    /// Logs are handed over as units in place of frames.
    pub in_process: bool,
    /// A binary log from a pipe is not decoded: its bytes are shown.
    pub raw: bool,
}

/// What one or more operands name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Standard input.
    Stdin,
    /// A file or pipe of frames.
    Frames(PathBuf),
    /// A queue.
    Queue(String),
    /// Logs of one server.
    Logs(Vec<PathBuf>),
}

impl Operand {
    /// Whether logs are of a kind that a source knows by its first bytes; others may be frames whose start is damaged.
    pub fn is_known(&self) -> bool {
        match self {
            Operand::Logs(paths) => {
                paths.iter().any(|path| !matches!(FileKind::of_file(path), Ok(FileKind::Unknown | FileKind::Short)))
            }
            _ => true,
        }
    }
}

/// Says what the operands name. No operand is standard input.
pub fn operands(paths: &[PathBuf]) -> Result<Vec<Operand>> {
    let mut out: Vec<Operand> = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        if path == Path::new("-") {
            out.push(Operand::Stdin);
        } else if path.is_dir() || ["dir:", "sqlite:", "nats:"].iter().any(|scheme| text.starts_with(scheme)) {
            out.push(Operand::Queue(text.into_owned()));
        } else {
            let failed = |error| Error::io(text.as_ref(), error);
            let regular = std::fs::metadata(path).map_err(failed)?.is_file();
            if regular && queue::sqlite::created(path) {
                out.push(Operand::Queue(format!("sqlite:{text}")));
                continue;
            }
            // A pipe by name must not lose its first bytes to a look at them.
            match regular.then(|| FileKind::of_file(path)).transpose()? {
                None | Some(FileKind::Frames) => out.push(Operand::Frames(path.clone())),
                Some(_) => match out.last_mut() {
                    Some(Operand::Logs(paths)) => paths.push(path.clone()),
                    _ => out.push(Operand::Logs(vec![path.clone()])),
                },
            }
        }
    }
    if out.is_empty() {
        out.push(Operand::Stdin);
    }
    Ok(out)
}

/// One input, opened.
pub struct Input {
    /// Its name in messages.
    pub name: String,
    frames: Frames,
    follow: bool,
    problems: Vec<Problem>,
    spool: Option<File>,
}

/// Where frames come from.
enum Frames {
    /// A mapped file and the offset of the next frame in it.
    Mapped(Mmap, usize),
    /// A stream.
    Stream(FrameReader<Box<dyn Read + Send>>),
    /// A queue; it shows whole units only, and has no end of its own.
    Queue(Box<dyn Queue>, Box<dyn queue::Reader>),
    /// A source.
    Source(Box<Decoded>),
}

/// A source and the frames that it has written last.
struct Decoded {
    source: Box<dyn Source>,
    writer: FrameWriter,
    at: usize,
    /// Offset of the writer's first byte in the stream of frames.
    base: u64,
    ended: bool,
    failed: Option<Error>,
}

/// What comes next.
pub enum Next<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A unit of a log ([`Opening::in_process`]).
    Unit(&'a mut Unit),
    /// Nothing for now, and more may come (follow).
    Idle,
    /// Nothing more.
    End,
}

impl Input {
    /// Opens an operand.
    pub fn open(operand: &Operand, opening: &Opening) -> Result<Input> {
        let follow = opening.follow;
        let (name, frames) = match operand {
            Operand::Stdin => {
                let name = "standard input".to_owned();
                let mut head = vec![0; source::MAGIC_LEN];
                let mut stdin: Box<dyn Read + Send> = Box::new(io::stdin());
                let filled = read_head(&mut stdin, &mut head).map_err(|error| Error::io(&name, error))?;
                head.truncate(filled);
                let kind = FileKind::of(Path::new("-"), &head);
                let mut whole = Box::new(io::Cursor::new(head).chain(stdin));
                match kind {
                    FileKind::BinaryLog if opening.raw => {
                        let failed = |error| Error::io("the temporary file", error);
                        let mut file = tempfile::tempfile().map_err(failed)?;
                        io::copy(&mut whole, &mut file).map_err(|error| Error::io(&name, error))?;
                        let frames = Frames::Mapped(map(&file, &name)?, 0);
                        return Ok(Input { name, frames, follow, problems: Vec::new(), spool: Some(file) });
                    }
                    FileKind::BinaryLog => {
                        let input = source::Input::Stream(name.clone(), whole);
                        (name, Frames::Source(Box::new(Decoded::open(input, opening)?)))
                    }
                    // Also what is damaged from the start, or nothing at all.
                    _ => (name, Frames::Stream(FrameReader::new(whole as Box<dyn Read + Send>))),
                }
            }
            Operand::Frames(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| Error::io(&name, error))?;
                let metadata = file.metadata().map_err(|error| Error::io(&name, error))?;
                if !metadata.is_file() || follow {
                    (name, Frames::Stream(FrameReader::new(Box::new(file) as Box<dyn Read + Send>)))
                } else {
                    (name.clone(), Frames::Mapped(map(&file, &name)?, 0))
                }
            }
            Operand::Queue(text) => {
                let queue = queue::open(Arc::new(Os), &text.parse()?, &opening.channel, false)?;
                let mode = if follow { ReadMode::FOLLOW } else { ReadMode::ONCE };
                let reader = queue.reader(&ReadFrom::Oldest, mode)?;
                (queue.name(), Frames::Queue(queue, reader))
            }
            Operand::Logs(paths) => {
                let name = paths.first().map_or(String::new(), |path| path.display().to_string());
                let input = source::Input::Files(paths.clone());
                (name, Frames::Source(Box::new(Decoded::open(input, opening)?)))
            }
        };
        Ok(Input { name, frames, follow, problems: Vec::new(), spool: None })
    }

    /// Opens an operand as one that [`Input::bytes`] shows whole. What is no file of frames goes to a temporary file first; the error
    /// that ends it early is returned apart, and what came before it is there.
    pub fn mapped(operand: &Operand, opening: &Opening) -> Result<(Input, Option<Error>)> {
        let input = match operand {
            // Logs without the magic number of frames are told apart only when they are none that a source knows.
            Operand::Logs(paths) if paths.len() == 1 => match Input::open(operand, opening) {
                Ok(input) => input,
                Err(error) if FileKind::of_file(&paths[0])? == FileKind::Unknown => {
                    let name = paths[0].display().to_string();
                    let file = File::open(&paths[0]).map_err(|error| Error::io(&name, error))?;
                    let map = map(&file, &name)?;
                    // Frames whose first header is damaged still have others behind it.
                    if crate::frame::find_frame(&map, 0).is_none() {
                        return Err(error);
                    }
                    Input { name, frames: Frames::Mapped(map, 0), follow: false, problems: Vec::new(), spool: None }
                }
                Err(error) => return Err(error),
            },
            _ => Input::open(operand, opening)?,
        };
        input.into_mapped()
    }

    /// See [`Input::mapped`].
    pub fn into_mapped(self) -> Result<(Input, Option<Error>)> {
        let mut input = self;
        let name = input.name.clone();
        let failed = |error| Error::io("the temporary file", error);
        let mut spool = None;
        let (mut error, mut problems) = (None, Vec::new());
        match &mut input.frames {
            Frames::Mapped(..) => return Ok((input, None)),
            Frames::Stream(_) => {
                let Frames::Stream(reader) = input.frames else { return Ok((input, None)) };
                let spool = spool.insert(tempfile::tempfile().map_err(failed)?);
                io::copy(&mut reader.into_inner(), spool).map_err(|error| Error::io(&name, error))?;
            }
            Frames::Queue(..) | Frames::Source(_) => {
                let mut writer = io::BufWriter::new(spool.insert(tempfile::tempfile().map_err(failed)?));
                let mut bytes = Vec::new();
                loop {
                    match input.next() {
                        Ok(Next::Frame(frame)) => {
                            bytes.clear();
                            queue::write_frame(&frame, &mut bytes);
                            writer.write_all(&bytes).map_err(failed)?;
                        }
                        Ok(_) => break,
                        Err(found) => {
                            error = Some(found);
                            break;
                        }
                    }
                }
                writer.flush().map_err(failed)?;
                problems = input.take_problems();
            }
        }
        let frames = match spool {
            Some(spool) if spool.metadata().map_err(failed)?.len() > 0 => Frames::Mapped(map(&spool, &name)?, 0),
            _ => Frames::Stream(FrameReader::new(Box::new(io::empty()) as Box<dyn Read + Send>)),
        };
        Ok((Input { name, frames, follow: false, problems, spool: None }, error))
    }

    /// Opens several operands as one that [`Input::bytes`] shows whole.
    pub fn mapped_all(operands: &[Operand], opening: &Opening) -> Result<Input> {
        if let [operand] = operands {
            let (input, error) = Input::mapped(operand, opening)?;
            return error.map_or(Ok(input), Err);
        }
        let failed = |error| Error::io("the temporary file", error);
        let mut spool = tempfile::tempfile().map_err(failed)?;
        for operand in operands {
            let (input, error) = Input::mapped(operand, opening)?;
            if let Some(error) = error {
                return Err(error);
            }
            spool.write_all(input.bytes()).map_err(failed)?;
        }
        let name = "all inputs together".to_owned();
        let frames = Frames::Mapped(map(&spool, &name)?, 0);
        Ok(Input { frames, name, follow: false, problems: Vec::new(), spool: None })
    }

    /// What comes next.
    #[inline]
    pub fn next(&mut self) -> Result<Next<'_>> {
        let follow = self.follow;
        match &mut self.frames {
            Frames::Mapped(map, at) => {
                let mut frames = SliceFrames::new(map, *at);
                let frame = frames.next().map_err(|error| Error::from(error).in_file(&self.name))?;
                *at = frames.at();
                Ok(frame.map_or(Next::End, Next::Frame))
            }
            Frames::Stream(reader) => match reader.next() {
                Ok(Some(frame)) => Ok(Next::Frame(frame)),
                Ok(None) if follow => Ok(Next::Idle),
                Ok(None) => Ok(Next::End),
                // The rest of the frame is still to come.
                Err(ReadError::Frame(FrameError::Torn { .. })) if follow => Ok(Next::Idle),
                Err(error) => Err(error.into_error(&self.name)),
            },
            Frames::Queue(_, reader) => match reader.next()? {
                queue::Next::Frame(frame) => Ok(Next::Frame(frame)),
                queue::Next::Idle => Ok(Next::Idle),
                queue::Next::End => Ok(Next::End),
            },
            Frames::Source(decoded) => decoded.next().map_err(|error| error.in_file(&self.name)),
        }
    }

    /// Whether the next call may wait for a writer.
    #[inline]
    pub fn may_wait(&self) -> bool {
        match &self.frames {
            Frames::Mapped(..) => false,
            Frames::Stream(reader) => !reader.has_buffered(),
            Frames::Queue(..) => self.follow,
            Frames::Source(_) => false,
        }
    }

    /// Whether [`Next::Idle`] comes at once, and the caller should pause.
    pub fn polls(&self) -> bool {
        !matches!(self.frames, Frames::Queue(..))
    }

    /// Whether it is a pipe or the like, whose end is its writer's.
    pub fn is_stream(&self) -> bool {
        matches!(self.frames, Frames::Stream(_))
    }

    /// Whether it may end between transactions without an end frame.
    pub fn has_no_end(&self) -> bool {
        matches!(self.frames, Frames::Queue(..))
    }

    /// Offset of the next frame; for sources, in the stream of frames that they become.
    pub fn at(&self) -> u64 {
        match &self.frames {
            Frames::Mapped(_, at) => *at as u64,
            Frames::Stream(reader) => reader.at(),
            Frames::Queue(..) => 0,
            Frames::Source(decoded) => decoded.base + decoded.at as u64,
        }
    }

    /// The bytes of a mapped file; empty for anything else, see [`Input::mapped`].
    pub fn bytes(&self) -> &[u8] {
        match &self.frames {
            Frames::Mapped(map, _) => map,
            _ => &[],
        }
    }

    /// The queue, if it is one.
    pub fn queue(&self) -> Option<&dyn Queue> {
        match &self.frames {
            Frames::Queue(queue, _) => Some(&**queue),
            _ => None,
        }
    }

    /// Whether a log is decoded on the way.
    pub fn is_source(&self) -> bool {
        matches!(self.frames, Frames::Source(_))
    }

    /// The temporary file behind [`Opening::raw`], from its first byte.
    pub fn take_spool(&mut self) -> Result<Option<File>> {
        let Some(mut file) = self.spool.take() else { return Ok(None) };
        io::Seek::rewind(&mut file).map_err(|error| Error::io("the temporary file", error))?;
        Ok(Some(file))
    }

    /// A source that is open already.
    pub fn from_source(name: String, source: Box<dyn Source>) -> Input {
        let decoded = Decoded { source, writer: FrameWriter::new(), at: 0, base: 0, ended: false, failed: None };
        Input { name, frames: Frames::Source(Box::new(decoded)), follow: false, problems: Vec::new(), spool: None }
    }

    /// Bytes of a log that were read; `None` for frames.
    pub fn log_bytes(&self) -> Option<u64> {
        match &self.frames {
            Frames::Source(decoded) => Some(decoded.source.status().bytes_done),
            _ => None,
        }
    }

    /// What is wrong with a log and was passed over, since the last call ([`source::Options::salvage`]).
    pub fn take_problems(&mut self) -> Vec<Problem> {
        match &mut self.frames {
            Frames::Source(decoded) => decoded.source.take_problems(),
            _ => std::mem::take(&mut self.problems),
        }
    }

    /// Remarks since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        match &mut self.frames {
            Frames::Source(decoded) => decoded.source.take_notes(),
            _ => Vec::new(),
        }
    }
}

impl Decoded {
    fn open(input: source::Input, opening: &Opening) -> Result<Decoded> {
        let options = source::Options { follow: opening.follow, ..opening.source.clone() };
        let source = source::open(input, options)?;
        let units = opening.in_process && source.writes_units();
        let writer = if units { FrameWriter::in_process() } else { FrameWriter::new() };
        Ok(Decoded { source, writer, at: 0, base: 0, ended: false, failed: None })
    }

    fn next(&mut self) -> Result<Next<'_>> {
        loop {
            if self.writer.is_in_process() {
                if !self.writer.is_empty() {
                    return Ok(self.writer.next_unit().map_or(Next::End, Next::Unit));
                }
            } else if self.at < self.writer.len() {
                break;
            }
            self.base += self.writer.bytes().len() as u64;
            self.at = 0;
            self.writer.clear();
            if let Some(error) = self.failed.take() {
                self.ended = true;
                return Err(error);
            }
            if self.ended {
                return Ok(Next::End);
            }
            match self.source.step(&mut self.writer) {
                Ok(source::Step::More | source::Step::Waited) => {}
                Ok(source::Step::Idle) if self.writer.is_empty() => return Ok(Next::Idle),
                Ok(source::Step::Idle) => {}
                Ok(source::Step::End) => self.ended = true,
                // What was written before it is whole and comes first.
                Err(error) => self.failed = Some(error),
            }
        }
        let frame = read_frame(self.writer.bytes().get(self.at..).unwrap_or(&[]), self.base + self.at as u64)?;
        self.at += frame.total_len();
        Ok(Next::Frame(frame))
    }
}

/// Maps a file by its path; an empty one is no map.
pub fn map_path(path: &Path) -> Result<Option<Mmap>> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::io(&name, error))?;
    let length = file.metadata().map_err(|error| Error::io(&name, error))?.len();
    if length == 0 { Ok(None) } else { map(&file, &name).map(Some) }
}

fn map(file: &File, name: &str) -> Result<Mmap> {
    // SAFETY: the map is only read. Another process that cuts the file short while we read it can end us with SIGBUS;
    // rlog's own files only grow or are replaced.
    let map = unsafe { Mmap::map(file) }.map_err(|error| Error::io(name, error))?;
    // Readahead hints are best effort.
    let _ = map.advise(memmap2::Advice::Sequential);
    Ok(map)
}

/// Reads until `out` is full or the input ends.
fn read_head(input: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
