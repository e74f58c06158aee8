//! Reading ahead: a thread reads, checks and puts transactions together while the one writer of the target executes those before.
//!
//! Units come in their order, each with the place behind it, so what a caller knows of its input is the same as without the thread. For inputs
//! that have an end only: who waits for more wants each transaction at once.
//!
//! Bounds: [`PIECE_BYTES`] and a transaction more are gathered, as much waits, and as much is being taken. The thread ends with its input, or when
//! nobody takes any more.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::input::{Input, Unit};
use crate::error::{Class, Error, Result};
use crate::queue::Mark;

/// Bytes of transactions that change threads together.
const PIECE_BYTES: usize = 256 << 10;
/// Units that do.
const PIECE_UNITS: usize = 256;
/// How often it is looked at how much input is left.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// A unit, and where the input is behind it.
type Placed = (Result<Unit>, Option<Mark>);

/// Units that were read ahead, with how much was read and is left.
type Piece = (VecDeque<Placed>, (u64, Option<u64>));

/// The receiving end.
pub(super) struct Ahead {
    pieces: Receiver<Piece>,
    piece: VecDeque<Placed>,
    mark: Option<Mark>,
    progress: (u64, Option<u64>),
}

impl Ahead {
    /// Reads `input` in a thread of its own.
    pub fn spawn(mut input: Input) -> Result<Ahead> {
        let (mark, progress) = (input.mark(), input.progress());
        let (sender, pieces) = sync_channel(1);
        let mut measured = (Instant::now(), progress);
        let thread = std::thread::Builder::new().name("rlog-apply reader".into());
        let read = move || loop {
            let (mut piece, mut bytes, mut ended) = (VecDeque::new(), 0, false);
            while !ended && bytes < PIECE_BYTES && piece.len() < PIECE_UNITS {
                let unit = input.next();
                if let Ok(Unit::Transaction(transaction) | Unit::Prepared(transaction)) = &unit {
                    bytes += transaction.body.memory_bytes();
                }
                ended = matches!(unit, Err(_) | Ok(Unit::Finished));
                let idle = matches!(unit, Ok(Unit::Idle));
                piece.push_back((unit, input.mark()));
                if idle {
                    break;
                }
            }
            if measured.0.elapsed() >= MEASURE_EVERY {
                measured = (Instant::now(), input.progress());
            }
            if sender.send((piece, measured.1)).is_err() || ended {
                return;
            }
        };
        thread.spawn(read).map_err(|error| Error::io("thread", error))?;
        Ok(Ahead { pieces, piece: VecDeque::new(), mark, progress })
    }

    /// The next unit.
    pub fn next(&mut self) -> Result<Unit> {
        if self.piece.is_empty() {
            // Behind the end, or behind an error, there is nothing.
            let gone = || Error::new(Class::Bug, "the thread that reads the input is gone");
            (self.piece, self.progress) = self.pieces.recv().map_err(|_| gone())?;
        }
        match self.piece.pop_front() {
            Some((unit, mark)) => {
                self.mark = mark;
                unit
            }
            None => Ok(Unit::Idle),
        }
    }

    /// See [`Input::mark`].
    pub fn mark(&self) -> Option<Mark> {
        self.mark.clone()
    }

    /// See [`Input::progress`].
    pub fn progress(&self) -> (u64, Option<u64>) {
        self.progress
    }
}
