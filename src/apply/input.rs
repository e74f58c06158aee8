//! Where transactions come from: a file, standard input or a queue, as [`Unit`]s that are whole and checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::{Body, rereadable};
use super::tables::{Definitions, TableSet};
use crate::error::{Class, Error, Result};
use crate::frame::{
    Abort, Begin, Checker, Commit, Coordinate, End, Frame, FrameError, FrameReader, Handover, Position, Progress,
    Snapshot, Step, StreamHeader,
};
use crate::{queue, sys};

/// How long to wait for input before the caller may look at signals and clocks.
const WAIT: Duration = Duration::from_millis(200);
/// How long frames of one unit may come in before the caller may write what came before it.
const PATIENCE: Duration = Duration::from_millis(100);

/// A whole transaction.
#[derive(Debug)]
pub struct Transaction {
    /// Its position.
    pub position: Position,
    /// Its begin.
    pub begin: Box<Begin>,
    /// Its commit.
    pub commit: Box<Commit>,
    /// What is in between.
    pub body: Body,
    /// The definitions at its begin.
    pub tables: TableSet,
    /// Where its begin stands in the input, in bytes.
    pub at: u64,
}

/// What input consists of.
#[derive(Debug)]
pub enum Unit {
    /// A stream starts.
    Stream(Box<StreamHeader>),
    /// A transaction is whole.
    Transaction(Box<Transaction>),
    /// An XA group is prepared.
    Prepared(Box<Transaction>),
    /// A range without transactions.
    Progress(Box<Progress>),
    /// The source lost a range.
    Gap(Box<Progress>),
    /// The stream goes on from another host.
    Handover(Box<Handover>),
    /// A snapshot starts.
    SnapshotBegin(Box<Snapshot>),
    /// A snapshot is whole.
    SnapshotEnd(Box<Snapshot>),
    /// A stream ends cleanly.
    End(Box<End>),
    /// The writer failed.
    Abort(Box<Abort>),
    /// Nothing came for a moment.
    Idle,
    /// The input is at its end.
    Finished,
}

/// Reads units.
pub struct Input {
    frames: Frames,
    name: String,
    again: Option<Arc<File>>,
    checker: Checker,
    definitions: Arc<Definitions>,
    tables: TableSet,
    open: Option<Box<Open>>,
}

struct Open {
    txid: Coordinate,
    begin: Box<Begin>,
    body: Body,
    tables: TableSet,
    at: u64,
}

enum Frames {
    Stream(Box<FrameReader<Pollable>>),
    Queue(Box<dyn queue::Reader>),
}

/// A descriptor that is only read when something is there, so that a signal gets a word in.
struct Pollable {
    input: File,
    regular: bool,
}

impl Pollable {
    fn ready(&self, wait: Duration) -> io::Result<bool> {
        if self.regular {
            return Ok(true);
        }
        sys::pipe::is_ready(&self.input, wait)
    }
}

impl Read for Pollable {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.input.read(out)
    }
}

impl Input {
    /// Reads the file at `path`.
    pub fn file(path: &Path, definitions: Arc<Definitions>) -> Result<Input> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Error::io(&name, error))?;
        Input::stream(file, name, definitions)
    }

    /// Reads standard input.
    pub fn stdin(definitions: Arc<Definitions>) -> Result<Input> {
        use std::os::fd::AsFd;
        let name = "standard input";
        let fd: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(|error| Error::io(name, error))?;
        crate::sys::pipe::enlarge(&fd);
        Input::stream(File::from(fd), name.to_owned(), definitions)
    }

    fn stream(mut file: File, name: String, definitions: Arc<Definitions>) -> Result<Input> {
        // A file that is read from its middle has other offsets than its frames tell.
        let again = match rereadable(&mut file) {
            Some(0) => Some(Arc::new(file.try_clone().map_err(|error| Error::io(&name, error))?)),
            _ => None,
        };
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let frames = Frames::Stream(Box::new(FrameReader::new(Pollable { input: file, regular })));
        Ok(Input { again, ..Input::new(frames, name, definitions) })
    }

    /// Reads a queue.
    pub fn queue(reader: Box<dyn queue::Reader>, name: String, definitions: Arc<Definitions>) -> Input {
        Input::new(Frames::Queue(reader), name, definitions)
    }

    fn new(frames: Frames, name: String, definitions: Arc<Definitions>) -> Input {
        Input {
            frames,
            name,
            again: None,
            checker: Checker::new(),
            definitions,
            tables: TableSet::default(),
            open: None,
        }
    }

    /// The input as messages name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The queue's mark behind the last unit, if this is a queue.
    pub fn mark(&self) -> Option<queue::Mark> {
        match &self.frames {
            Frames::Queue(reader) => Some(reader.mark()),
            Frames::Stream(_) => None,
        }
    }

    /// Whether more is there already, as far as can be told without waiting. A batch ends where it is not.
    pub fn has_more(&self) -> bool {
        match &self.frames {
            Frames::Stream(frames) => {
                frames.has_whole_buffered() || frames.get_ref().ready(Duration::ZERO).unwrap_or(true)
            }
            // It says by itself, without waiting, that there is no more for now.
            Frames::Queue(_) => true,
        }
    }

    /// Bytes that are left, and bytes read, when known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        match &self.frames {
            Frames::Stream(frames) => {
                let at = frames.at();
                let length = self.again.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
                (at, length.map(|length| length.saturating_sub(at)))
            }
            Frames::Queue(reader) => (0, Some(reader.remaining_bytes())),
        }
    }

    /// The next unit. Returns [`Unit::Idle`] when nothing came for a moment, or only a part of it: what was read before must not wait for it.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Unit> {
        let began = Instant::now();
        loop {
            let (frame, name) = match &mut self.frames {
                Frames::Stream(frames) => {
                    while !frames.has_whole_buffered() {
                        let read = match frames.get_ref().ready(WAIT) {
                            Ok(true) => frames.read_more(),
                            Ok(false) => return Ok(Unit::Idle),
                            Err(error) => Err(error),
                        };
                        if !read.map_err(|error| Error::io(&self.name, error))? {
                            break;
                        }
                        if began.elapsed() >= PATIENCE && !frames.has_whole_buffered() {
                            return Ok(Unit::Idle);
                        }
                    }
                    match frames.next() {
                        Ok(Some(frame)) => (frame, self.name.as_str()),
                        Ok(None) if self.checker.finished() => return Ok(Unit::Finished),
                        Ok(None) => return Err(unfinished(&self.name)),
                        Err(crate::frame::reader::ReadError::Frame(FrameError::Torn { .. })) => {
                            return Err(unfinished(&self.name));
                        }
                        Err(error) => return Err(error.into_error(&self.name)),
                    }
                }
                Frames::Queue(reader) => match reader.next()? {
                    queue::Next::Frame(frame) => (frame, self.name.as_str()),
                    queue::Next::Idle => return Ok(Unit::Idle),
                    queue::Next::End => return Ok(Unit::Finished),
                },
            };
            let at = frame.at;
            let step = self.checker.frame(&frame).map_err(|error| Error::from(error).in_file(name))?;
            let unit = take(step, &frame, &self.definitions, &mut self.tables, &mut self.open, self.again.as_ref())
                .map_err(|error| error.at(at).in_file(name))?;
            if let Some(unit) = unit {
                return Ok(unit);
            }
            if matches!(self.frames, Frames::Stream(_)) && began.elapsed() >= PATIENCE {
                return Ok(Unit::Idle);
            }
        }
    }
}

/// What a step means for the unit that is being put together.
fn take(
    step: Step,
    frame: &Frame<'_>,
    definitions: &Definitions,
    tables: &mut TableSet,
    open: &mut Option<Box<Open>>,
    again: Option<&Arc<File>>,
) -> Result<Option<Unit>> {
    Ok(Some(match step {
        Step::Stream(header, _) => {
            *open = None;
            // Definitions stay: a queue that stores a further header (of another version, of a successor) leaves out what it holds already.
            Unit::Stream(header)
        }
        Step::Definition(key) => {
            tables.put(key, definitions.entry(key, frame.payload)?);
            if let Some(open) = open {
                open.body.push(frame, again.map(|file| (file, open.at)))?;
            }
            return Ok(None);
        }
        Step::Begin(txid, begin) => {
            *open = Some(Box::new(Open { txid, begin, body: Body::default(), tables: tables.clone(), at: frame.at }));
            return Ok(None);
        }
        Step::Data => {
            if let Some(open) = open {
                open.body.push(frame, again.map(|file| (file, open.at)))?;
            }
            return Ok(None);
        }
        Step::Commit(position, commit) => match whole(open.take(), position, commit) {
            Some(transaction) => Unit::Transaction(transaction),
            None => return Ok(None),
        },
        Step::Prepared(position, commit) => match whole(open.take(), position, commit) {
            Some(transaction) => Unit::Prepared(transaction),
            None => return Ok(None),
        },
        Step::Discard(_) => {
            *open = None;
            return Ok(None);
        }
        Step::Progress(progress) => Unit::Progress(progress),
        Step::Gap(gap) => Unit::Gap(gap),
        Step::Handover(handover) => Unit::Handover(handover),
        Step::SnapshotBegin(snapshot) => Unit::SnapshotBegin(snapshot),
        Step::SnapshotEnd(snapshot) => Unit::SnapshotEnd(snapshot),
        Step::End(end) => Unit::End(end),
        Step::Abort(abort) => {
            *open = None;
            Unit::Abort(abort)
        }
        Step::Heartbeat(_) | Step::Other => return Ok(None),
    }))
}

fn whole(open: Option<Box<Open>>, position: Position, commit: Box<Commit>) -> Option<Box<Transaction>> {
    let Open { txid, begin, body, tables, at } = *open?;
    debug_assert_eq!(txid, position.txid);
    Some(Box::new(Transaction { position, begin, commit, body, tables, at }))
}

/// The writer died: what came before is whole, the rest is to be asked for again.
fn unfinished(name: &str) -> Error {
    Error::new(Class::TryAgain, "the stream stops without its end: its writer died")
        .in_file(name)
        .hint("run the same command again; what was applied stays applied")
}
