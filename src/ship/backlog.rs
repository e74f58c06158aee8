//! What came on standard input and is not yet durable on the other side: sent again after a cut.
//!
//! A thread reads frames, checks them as every reader of a stream does, and appends them as *pieces*: runs of whole frames.
//! A connection sends piece after piece, from the first, behind a stream header and the definitions that hold there. An
//! acknowledgement drops the pieces whose units are durable.
//!
//! ```text
//!   dropped │ sent, not durable │ not sent │ being read
//!           ^ base: header, definitions, what had been reached
//! ```
//!
//! Bounds: when [`MEMORY_BYTES`] wait, no more is read until something is acknowledged, except inside of one
//! transaction that is larger than that: its pieces go to an unnamed file, since it cannot be acknowledged before it is whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::frame::{Abort, Checker, End, FrameReader, FrameWriter, Kind, Step, StreamHeader};
use crate::queue::{Tail, write_frame};

use super::send::{Filled, Flow};

/// Bytes that wait in memory.
const MEMORY_BYTES: usize = 16 << 20;
/// A piece is closed at the end of a unit when it has this many bytes, and anywhere when it has four times as many.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug)]
enum Bytes {
    Memory(Vec<u8>),
    File { at: u64, length: usize },
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    definitions: Vec<(u64, Vec<u8>)>,
    /// Units that ended up to its end, since standard input began.
    units: u64,
    /// What had been reached at its end, if that lies between units.
    tail: Option<Tail>,
}

/// A piece before it is decided where its bytes wait.
struct New {
    bytes: Vec<u8>,
    definitions: Vec<(u64, Vec<u8>)>,
    units: u64,
    tail: Option<Tail>,
}

#[derive(Debug, Default)]
struct State {
    base: Tail,
    base_units: u64,
    definitions: BTreeMap<u64, Vec<u8>>,
    pieces: VecDeque<Piece>,
    /// Number of the first piece, since standard input began.
    first: u64,
    memory: usize,
    spill: Option<File>,
    spill_at: u64,
    spilled: usize,
    /// Standard input has ended, well or not.
    ended: Option<Option<Error>>,
    has_ended: bool,
    closed: bool,
}

/// See the head of the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    changed: Condvar,
}

impl Backlog {
    // The lock is only held for moves of pieces, which do not panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end. For a thread of its own, which lives as long as `input` does.
    pub fn read(&self, input: impl Read, name: &str) {
        let ended = self.read_frames(FrameReader::new(input), name);
        let mut state = self.lock();
        state.ended = Some(ended.err());
        state.has_ended = true;
        self.changed.notify_all();
    }

    fn read_frames(&self, mut frames: FrameReader<impl Read>, name: &str) -> Result<()> {
        let mut checker = Checker::contiguous();
        let mut tail = Tail::default();
        let mut units = 0;
        let mut bytes = Vec::new();
        let mut definitions = Vec::new();
        let mut aborted = None;
        let ended = loop {
            let frame = match frames.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into_error(name)),
            };
            let step = match checker.frame(&frame) {
                Ok(step) => step,
                Err(error) => break Err(Error::from(error).in_file(name)),
            };
            write_frame(&frame, &mut bytes);
            tail.step(&step);
            units += u64::from(step.ends_unit());
            match step {
                Step::Definition(key) => definitions.push((key, frame.payload.to_vec())),
                Step::Abort(abort) => {
                    let class = Class::from_exit_status(abort.status).unwrap_or(Class::Io);
                    let message = if abort.message.is_empty() { "no message" } else { &abort.message };
                    aborted = Some(
                        Error::new(class, format!("the writer of this stream failed: {message}"))
                            .hint("mend what it reports, then run the same pipeline again; what arrived whole is safe"),
                    );
                }
                _ => {}
            }
            let between = checker.open_transaction().is_none();
            let full = bytes.len() >= PIECE_BYTES * if between { 1 } else { 4 };
            if full || !frames.has_whole_buffered() {
                let tail = between.then(|| tail.clone());
                let piece = New {
                    bytes: std::mem::take(&mut bytes),
                    definitions: std::mem::take(&mut definitions),
                    units,
                    tail,
                };
                if !self.push(piece)? {
                    return Ok(());
                }
            }
        };
        let ended = match ended {
            // A stream that is cut short inside a frame is one whose writer died.
            Err(error) if error.class() == Class::Torn => Err(died(name)),
            Ok(()) if !checker.finished() => Err(died(name)),
            Err(error) => {
                // Errors travel down the pipe.
                let abort = Abort {
                    status: error.class().exit_status(),
                    message: error.to_string(),
                    reached: tail.reached.unwrap_or_default(),
                };
                let mut writer = FrameWriter::new();
                writer.frame(Kind::Abort, |payload| abort.encode(payload));
                bytes.extend_from_slice(writer.bytes());
                Err(error)
            }
            Ok(()) => Ok(()),
        };
        if !bytes.is_empty() {
            let tail = checker.open_transaction().is_none().then(|| tail.clone());
            self.push(New { bytes, definitions, units, tail })?;
        }
        match aborted {
            Some(aborted) => Err(aborted),
            None => ended,
        }
    }

    /// Appends a piece, waiting for room. `false`: nobody wants it.
    fn push(&self, New { bytes, definitions, units, tail }: New) -> Result<bool> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Ok(false);
            }
            if state.memory < MEMORY_BYTES || state.pieces.iter().all(|piece| piece.tail.is_none()) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let length = bytes.len();
        let bytes = if state.memory < MEMORY_BYTES {
            state.memory += length;
            Bytes::Memory(bytes)
        } else {
            let io = |error| Error::io("temporary file for a large transaction", error);
            if state.spill.is_none() {
                state.spill = Some(tempfile::tempfile().map_err(io)?);
                state.spill_at = 0;
            }
            let at = state.spill_at;
            if let Some(file) = &state.spill {
                file.write_all_at(&bytes, at).map_err(io)?;
            }
            state.spill_at += length as u64;
            state.spilled += 1;
            Bytes::File { at, length }
        };
        state.pieces.push_back(Piece { bytes, definitions, units, tail });
        drop(state);
        self.changed.notify_all();
        Ok(true)
    }

    /// What is durable need not be kept: `units` in all, since standard input began.
    pub fn acknowledged(&self, units: u64) {
        let mut state = self.lock();
        let durable = |piece: &Piece| piece.tail.is_some() && piece.units <= units;
        let Some(last) = state.pieces.iter().rposition(durable) else { return };
        for _ in 0..=last {
            let Some(piece) = state.pieces.pop_front() else { break };
            match piece.bytes {
                Bytes::Memory(bytes) => state.memory -= bytes.len(),
                Bytes::File { .. } => state.spilled -= 1,
            }
            state.definitions.extend(piece.definitions);
            state.base_units = piece.units;
            if let Some(tail) = piece.tail {
                state.base = tail;
            }
            state.first += 1;
        }
        if state.spilled == 0 {
            state.spill = None;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// How standard input ended, once everything of it was sent. `None`: not yet.
    pub fn verdict(&self) -> Option<Result<()>> {
        self.lock().ended.take().map(|error| error.map_or(Ok(()), Err))
    }

    /// Lets the reading thread go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The stream of one connection.
    pub fn flow(&self) -> BacklogFlow<'_> {
        let state = self.lock();
        BacklogFlow {
            backlog: self,
            next: state.first,
            base_units: state.base_units,
            units: state.base_units,
            preamble: true,
            whole: true,
            done: false,
            tail: state.base.clone(),
        }
    }

    /// Units that were durable when this connection began to send.
    pub fn base_units(&self) -> u64 {
        self.lock().base_units
    }
}

fn died(name: &str) -> Error {
    Error::new(Class::TryAgain, "the stream stops without an end: its writer died")
        .in_file(name)
        .hint("run the same pipeline again; what arrived whole is safe")
}

/// Sends the backlog from its first piece.
#[derive(Debug)]
pub(super) struct BacklogFlow<'a> {
    backlog: &'a Backlog,
    next: u64,
    base_units: u64,
    units: u64,
    preamble: bool,
    /// Whether what was given ends between units.
    whole: bool,
    done: bool,
    tail: Tail,
}

impl Flow for BacklogFlow<'_> {
    fn fill(&mut self, out: &mut Vec<u8>, stop: bool) -> Result<Filled> {
        const PATIENCE: Duration = Duration::from_millis(200);
        if self.done {
            return Ok(Filled::End);
        }
        let backlog = self.backlog;
        let state = backlog.lock();
        if std::mem::take(&mut self.preamble)
            && let Some(source) = state.base.source.as_deref()
        {
            preamble(&state.base, source, &state.definitions, out);
        }
        let at = usize::try_from(self.next.saturating_sub(state.first)).unwrap_or(usize::MAX);
        // Dropped before it was sent: it cannot be, since only what was sent is acknowledged.
        debug_assert!(self.next >= state.first);
        let stop = stop && self.whole;
        if let Some(piece) = state.pieces.get(at).filter(|_| !stop) {
            match &piece.bytes {
                Bytes::Memory(bytes) => out.extend_from_slice(bytes),
                Bytes::File { at, length } => {
                    let from = out.len();
                    out.resize(from + length, 0);
                    if let (Some(file), Some(room)) = (&state.spill, out.get_mut(from..)) {
                        let io = |error| Error::io("temporary file for a large transaction", error);
                        file.read_exact_at(room, *at).map_err(io)?;
                    }
                }
            }
            self.units = piece.units;
            self.whole = piece.tail.is_some();
            if let Some(tail) = &piece.tail {
                self.tail.clone_from(tail);
            }
            self.next += 1;
            return Ok(Filled::More);
        }
        if stop {
            // A clean end where we stand, so that the receiver does not take it for a death.
            self.done = true;
            if let (Some(reached), true) = (self.tail.reached, self.tail.source.is_some()) {
                let end = End {
                    reached,
                    incarnation: self.tail.incarnation,
                    gtid_state: self.tail.gtid_state.clone(),
                    ..End::default()
                };
                let mut writer = FrameWriter::new();
                writer.frame(Kind::End, |payload| end.encode(payload));
                out.extend_from_slice(writer.bytes());
            }
            return Ok(Filled::End);
        }
        if state.has_ended {
            self.done = true;
            return Ok(Filled::End);
        }
        drop(backlog.changed.wait_timeout(state, PATIENCE));
        Ok(Filled::Idle)
    }

    fn units(&self) -> u64 {
        self.units - self.base_units
    }

    fn is_between(&self) -> bool {
        self.whole
    }
}

fn preamble(base: &Tail, source: &StreamHeader, definitions: &BTreeMap<u64, Vec<u8>>, out: &mut Vec<u8>) {
    let header = StreamHeader {
        start: base.reached.unwrap_or(source.start),
        incarnation: base.incarnation,
        gtid_state: base.gtid_state.clone(),
        ..source.clone()
    };
    let mut writer = FrameWriter::new();
    writer.frame(Kind::Stream, |payload| header.encode(payload));
    for (key, payload) in definitions {
        writer.definition(*key, payload);
    }
    out.extend_from_slice(writer.bytes());
}
