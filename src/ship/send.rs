//! The sending side: one thread fills messages from a [`Flow`], the other hears what became of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use super::pace::Pace;
use super::port::Port;
use super::wire::{self, Ack, Message, PIECE_MAX, Packer, Reached, WireError};
use crate::error::{Class, Error, Result};
use crate::frame::{Abort, End, FrameWriter, Kind};
use crate::queue::{Mark, Next, Queue, ReadFrom, ReadMode, Reader, write_frame};

/// What a call of [`Flow::fill`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There may be more.
    More,
    /// Nothing more for now.
    Idle,
    /// That was all.
    End,
}

/// A stream to be sent.
pub(super) trait Flow: Send {
    /// Appends frames to `out`, about a message's worth, waiting a moment if there are none. With `stop` it ends as soon as no
    /// transaction is open.
    fn fill(&mut self, out: &mut Vec<u8>, stop: bool) -> Result<Filled>;

    /// Units that ended in what was given, in this connection.
    fn units(&self) -> u64;

    /// Whether what was given ends between units.
    fn is_between(&self) -> bool;

    /// Where the source stands with them, if it is a queue.
    fn mark(&self) -> Option<Mark> {
        None
    }
}

/// Reads a queue.
#[derive(Debug)]
pub(super) struct QueueFlow {
    reader: Box<dyn Reader>,
    units: u64,
    transactions: u64,
    begun: bool,
    inside: bool,
    done: bool,
}

impl QueueFlow {
    /// Reads `queue` from what the receiver has reached. `registered` is the reader whose acknowledgements it is.
    pub fn open(queue: &dyn Queue, reached: &Reached, registered: Option<&str>, follow: bool) -> Result<QueueFlow> {
        // What a killed writer left behind is settled first.
        queue.tail()?;
        let state = match registered {
            Some(name) => Some(queue.register(name)?),
            None => None,
        };
        let acked = state.filter(|state| state.acked.sequence > 0);
        let from = match (&reached.position, acked) {
            // Whole chunks of a snapshot have no position of their own.
            (_, Some(_)) if reached.in_snapshot => ReadFrom::Acknowledged(registered.unwrap_or_default().to_owned()),
            (Some(position), _) => ReadFrom::After(position.clone()),
            (None, Some(acked)) => {
                if queue.status()?.first_sequence > 1 {
                    return Err(Error::new(
                        Class::Gap,
                        format!(
                            "the other queue is empty, but has acknowledged {} before, and it is purged here",
                            acked.acked.position
                        ),
                    )
                    .in_file(queue.name())
                    .hint("that queue was lost or reset: take a new snapshot"));
                }
                ReadFrom::Oldest
            }
            (None, None) => ReadFrom::Oldest,
        };
        let mode = if follow { ReadMode::FOLLOW } else { ReadMode::ONCE };
        let reader = queue.reader(&from, mode)?;
        Ok(QueueFlow { reader, units: 0, transactions: 0, begun: false, inside: false, done: false })
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Filled {
        self.done = true;
        // Without a stream there is nothing that could end.
        if self.begun {
            let position = self.reader.mark().position;
            let end = End {
                reached: position.end,
                incarnation: position.incarnation,
                transactions: self.transactions,
                ..End::default()
            };
            let mut writer = FrameWriter::new();
            writer.frame(Kind::End, |payload| end.encode(payload));
            out.extend_from_slice(writer.bytes());
        }
        Filled::End
    }
}

impl Flow for QueueFlow {
    fn fill(&mut self, out: &mut Vec<u8>, stop: bool) -> Result<Filled> {
        if self.done {
            return Ok(Filled::End);
        }
        while out.len() < PIECE_MAX {
            if stop && !self.inside {
                return Ok(self.end(out));
            }
            match self.reader.next()? {
                Next::Frame(frame) => {
                    self.begun = true;
                    let kind = frame.kind();
                    match kind {
                        Some(Kind::Begin) => self.inside = true,
                        Some(Kind::Commit | Kind::Prepared) => {
                            self.inside = false;
                            self.transactions += 1;
                        }
                        _ => {}
                    }
                    self.units += u64::from(ends_unit(kind));
                    write_frame(&frame, out);
                }
                Next::Idle => return Ok(Filled::Idle),
                Next::End => return Ok(self.end(out)),
            }
        }
        Ok(Filled::More)
    }

    fn units(&self) -> u64 {
        self.units
    }

    fn is_between(&self) -> bool {
        !self.inside
    }

    fn mark(&self) -> Option<Mark> {
        Some(self.reader.mark())
    }
}

/// As [`crate::frame::Step::ends_unit`], by the kind of the frame.
fn ends_unit(kind: Option<Kind>) -> bool {
    matches!(
        kind,
        Some(Kind::Commit | Kind::Prepared | Kind::Progress | Kind::Handover | Kind::SnapshotBegin | Kind::SnapshotEnd)
    )
}

/// How a stream is sent.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    /// zstd's level; `None`: as it is.
    pub level: Option<i32>,
    /// Bytes a second.
    pub pace: Pace,
    /// Ends it behind the transaction at hand.
    pub stop: &'a AtomicBool,
    /// When stopped, the receiver is told to come again, instead of that this was all.
    pub come_again: bool,
}

/// Told what is durable over there, and where our source stood with it; `None`: nothing came for a moment.
pub(super) type OnAck<'a> = &'a mut dyn FnMut(Option<(&Ack, Option<Mark>)>) -> Result<()>;

/// What was sent, and the marks of what of it is not yet acknowledged.
#[derive(Debug, Default)]
struct Marks {
    /// Units that were given to the connection: nobody can have more.
    given: AtomicU64,
    waiting: Mutex<VecDeque<(u64, Mark)>>,
}

/// Sends `flow` to its end and hears the receiver's last word.
pub(super) fn run(port: &Port, flow: &mut dyn Flow, sending: Sending<'_>, on_ack: OnAck<'_>) -> Result<(), Failure> {
    let marks = Marks::default();
    std::thread::scope(|scope| {
        let pump = std::thread::Builder::new().name("rlog-ship pump".into());
        let pump = pump.spawn_scoped(scope, || {
            let sent = pump_all(port, flow, sending, &marks);
            if let Err(error) = &sent
                && !port.has_ended()
            {
                abort(port, error);
            }
            sent
        });
        let pump = pump.map_err(|error| Failure::Again(Error::io("thread", error)))?;
        let heard = hear(port, &marks, on_ack);
        // Whatever it waits for, it need not any more.
        port.finish();
        let sent = pump.join().unwrap_or_else(|_| Err(Error::new(Class::Bug, "the sending thread panicked")));
        match (heard, sent) {
            // What is wrong on our side is the reason for whatever the other side says.
            (_, Err(error)) if !matches!(error.class(), Class::TryAgain | Class::Permission) => {
                Err(Failure::Final(error))
            }
            (Ok(()), Err(error)) => Err(Failure::Final(error)),
            (heard, _) => heard,
        }
    })
}

fn pump_all(port: &Port, flow: &mut dyn Flow, mut sending: Sending<'_>, marks: &Marks) -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let mut packer = sending.level.map(Packer::new).transpose()?;
    let mut out = Vec::with_capacity(2 * PIECE_MAX);
    let mut marked = 0;
    loop {
        if port.has_ended() {
            return Ok(());
        }
        let stop = sending.stop.load(Ordering::Relaxed);
        if stop && sending.come_again && flow.is_between() {
            let error = Error::new(Class::TryAgain, "the server stops");
            let _ = port.send(&Message::Refuse(Box::new(wire::Refusal::of(&error, true))));
            return Ok(());
        }
        let filled = flow.fill(&mut out, stop && !sending.come_again)?;
        marks.given.store(flow.units(), Ordering::Release);
        if flow.units() != marked
            && let Some(mark) = flow.mark()
        {
            marked = flow.units();
            marks.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((marked, mark));
        }
        for piece in out.chunks(PIECE_MAX) {
            let mut message = wire::data(piece, packer.as_mut());
            sending.pace.take(message.len() as u64, &|| port.has_ended());
            loop {
                match port.send_data(&mut message, PATIENCE) {
                    Ok(true) => break,
                    Ok(false) => {}
                    // The other thread hears why.
                    Err(_) => return Ok(()),
                }
            }
        }
        out.clear();
        if filled == Filled::End {
            let _ = port.send(&Message::End);
            return Ok(());
        }
    }
}

/// Our own failure goes down the pipe.
fn abort(port: &Port, error: &Error) {
    let abort = Abort { status: error.class().exit_status(), message: error.to_string(), ..Abort::default() };
    let mut writer = FrameWriter::new();
    writer.frame(Kind::Abort, |payload| abort.encode(payload));
    let mut message = wire::data(writer.bytes(), None);
    while let Ok(false) = port.send_data(&mut message, Duration::from_secs(1)) {}
    let _ = port.send(&Message::End);
}

fn hear(port: &Port, marks: &Marks, on_ack: OnAck<'_>) -> Result<(), Failure> {
    const PATIENCE: Duration = Duration::from_millis(200);
    loop {
        match port.recv(PATIENCE) {
            Ok(None) => on_ack(None).map_err(Failure::Final)?,
            Ok(Some(Message::Ack(ack))) => {
                let mut mark = None;
                let mut waiting = marks.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                while waiting.front().is_some_and(|(units, _)| *units <= ack.units) {
                    mark = waiting.pop_front().map(|(_, mark)| mark);
                }
                drop(waiting);
                let told = if ack.units > marks.given.load(Ordering::Acquire) {
                    // Else what was never sent would be forgotten as safe.
                    Err(Error::damage("it acknowledges more than was sent").in_file(port.peer()))
                } else {
                    on_ack(Some((&ack, mark)))
                };
                if let Err(error) = told {
                    let refusal = wire::Refusal::of(&error, false);
                    let _ = port.send(&Message::Refuse(Box::new(refusal)));
                    return Err(Failure::Final(error));
                }
            }
            Ok(Some(Message::Done)) => return Ok(()),
            Ok(Some(Message::Refuse(refusal))) => {
                let error = refusal.to_error(port.peer());
                return Err(if refusal.again { Failure::Again(error) } else { Failure::Final(error) });
            }
            Ok(Some(other)) => {
                let error = Error::from(WireError::Order(other.name())).in_file(port.peer());
                let _ = port.send(&Message::Refuse(Box::new(wire::Refusal::of(&error, false))));
                return Err(Failure::Final(error));
            }
            Err(error) => return Err(Failure::lost(error)),
        }
    }
}
