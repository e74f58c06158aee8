//! The receiving side: what comes goes through `queue::intake`, and what is durable is acknowledged.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use super::pace::Pace;
use super::port::Port;
use super::wire::{Ack, Data, Message, Reached, Refusal, Unpacker, WireError};
use crate::error::{Class, Error, Result};
use crate::queue::{Tail, Writer, intake};

/// How the stream of a connection came to its end.
#[derive(Debug, Default)]
enum Ending {
    /// Not yet.
    #[default]
    Open,
    /// The sender said so.
    End,
    /// The sender gave up and said why.
    Refused(Refusal),
    /// The connection is gone, or what came over it is no message.
    Lost(Error),
}

#[derive(Debug, Default)]
struct Seen {
    ending: Ending,
    any: bool,
}

/// Shared with the reader, which goes its own way in a thread.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Seen>>);

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take(&self) -> Seen {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The stream of a connection as bytes. Whoever reads makes room: the sender's credit is raised with what was read.
pub(super) struct StreamReader {
    port: Port,
    window: u64,
    consumed: u64,
    granted: u64,
    message: Option<Data>,
    unpacked: Vec<u8>,
    /// What was read of the current piece.
    at: usize,
    unpacker: Unpacker,
    pace: Pace,
    /// Ends the stream between messages.
    stop: Option<Arc<AtomicBool>>,
    shared: Shared,
}

impl StreamReader {
    fn next_piece(&mut self) -> io::Result<bool> {
        const PATIENCE: Duration = Duration::from_millis(200);
        loop {
            if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(false);
            }
            match self.port.recv(PATIENCE) {
                Ok(None) => {}
                Ok(Some(Message::Data(data))) => {
                    self.pace.take(data.payload.len() as u64, &|| self.port.has_ended());
                    self.consumed += data.payload.len() as u64;
                    if self.granted - self.consumed <= self.window / 4 * 3 {
                        self.granted = self.consumed + self.window;
                        self.port.grant(self.granted);
                    }
                    self.shared.change(|seen| seen.any = true);
                    self.message = Some(data);
                    self.at = 0;
                    return Ok(true);
                }
                Ok(Some(Message::End)) => {
                    self.shared.change(|seen| seen.ending = Ending::End);
                    return Ok(false);
                }
                Ok(Some(Message::Refuse(refusal))) => {
                    self.shared.change(|seen| seen.ending = Ending::Refused(*refusal));
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Ok(Some(other)) => return Err(self.lost(WireError::Order(other.name()).into())),
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    fn lost(&self, error: Error) -> io::Error {
        self.shared.change(|seen| seen.ending = Ending::Lost(error));
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(data) = &self.message {
                let piece = match data.piece(&mut self.unpacker, &mut self.unpacked, self.at) {
                    Ok(piece) => piece,
                    Err(error) => return Err(self.lost(error.into())),
                };
                let rest = piece.get(self.at..).unwrap_or(&[]);
                let count = rest.len().min(out.len());
                if count > 0 {
                    if let (Some(to), Some(from)) = (out.get_mut(..count), rest.get(..count)) {
                        to.copy_from_slice(from);
                    }
                    self.at += count;
                    return Ok(count);
                }
                if out.is_empty() {
                    return Ok(0);
                }
                self.message = None;
            }
            if !self.next_piece()? {
                return Ok(0);
            }
        }
    }
}

/// The stream of `port`, which was granted `window` bytes.
fn reader(port: &Port, window: u64, pace: Pace, stop: Option<Arc<AtomicBool>>, shared: &Shared) -> StreamReader {
    StreamReader {
        port: port.clone(),
        window,
        consumed: 0,
        granted: window,
        message: None,
        unpacked: Vec::new(),
        at: 0,
        unpacker: Unpacker::default(),
        pace,
        stop,
        shared: shared.clone(),
    }
}

/// Told when more is durable here.
pub(super) type OnDurable<'a> = &'a mut dyn FnMut(&Tail, &intake::Counts) -> Result<()>;

/// Stores the stream of `port` until it ends, is lost or `options.stop` is set; acknowledges what is durable; has the last word. When
/// stopped, a sender that is a client is told to come again.
pub(super) fn into_queue(
    port: &Port,
    come_again: bool,
    window: u64,
    pace: Pace,
    writer: Box<dyn Writer>,
    options: &intake::Options,
    on_durable: OnDurable<'_>,
) -> Result<intake::Counts, Failure> {
    let shared = Shared::default();
    let stored = intake::put(
        reader(port, window, pace, None, &shared),
        port.peer(),
        writer,
        options,
        None,
        &mut |tail, counts| {
            let ack = Ack { units: counts.units, reached: Reached::of(tail), waiting: String::new() };
            // A peer that is gone learns it when it comes again.
            let _ = port.send(&Message::Ack(Box::new(ack)));
            on_durable(tail, counts)
        },
    );
    let seen = shared.take();
    let failure = match (stored, seen.ending) {
        (Ok(counts), Ending::End) => {
            let _ = port.send(&Message::Done);
            return Ok(counts);
        }
        // Nothing was sent, so there is nothing that could lack an end.
        (Err(error), Ending::End) if !seen.any && error.class() == Class::TryAgain => {
            let _ = port.send(&Message::Done);
            return Ok(intake::Counts::default());
        }
        (Err(error), Ending::End) => Failure::Final(error),
        (Ok(_), Ending::Open) if come_again => Failure::Again(Error::new(Class::TryAgain, "the server stops")),
        (Ok(counts), Ending::Open) => {
            let _ = port.send(&Message::Done);
            return Ok(counts);
        }
        (Ok(_), Ending::Lost(error)) => Failure::lost(error),
        // What is wrong with the stream, or with our disk, is told before what happened to the connection.
        (Err(error), Ending::Lost(_) | Ending::Refused(_))
            if !matches!(error.class(), Class::TryAgain | Class::Torn) =>
        {
            Failure::Final(error)
        }
        (Err(_), Ending::Lost(error)) => Failure::lost(error),
        (_, Ending::Refused(refusal)) => {
            let error = refusal.to_error(port.peer());
            return Err(if refusal.again { Failure::Again(error) } else { Failure::Final(error) });
        }
        (Err(error), Ending::Open) if error.class() == Class::TryAgain => Failure::Again(error),
        (Err(error), Ending::Open) => Failure::Final(error),
    };
    let _ = port.send(&Message::Refuse(Box::new(Refusal::of(failure.error(), failure.is_again()))));
    Err(failure)
}

/// Gives the stream of `port` to `take`, as it is; for standard output. `take` returns when it has read to the end.
pub(super) fn into_reader<T>(
    port: &Port,
    window: u64,
    pace: Pace,
    stop: &Arc<AtomicBool>,
    take: impl FnOnce(StreamReader) -> Result<T>,
) -> Result<T, Failure> {
    let shared = Shared::default();
    let taken = take(reader(port, window, pace, Some(Arc::clone(stop)), &shared));
    let seen = shared.take();
    match (taken, seen.ending) {
        (Ok(value), _) => {
            let _ = port.send(&Message::Done);
            Ok(value)
        }
        (Err(_), Ending::Lost(error)) => Err(Failure::lost(error)),
        (Err(_), Ending::Refused(refusal)) => {
            let error = refusal.to_error(port.peer());
            Err(if refusal.again { Failure::Again(error) } else { Failure::Final(error) })
        }
        (Err(error), _) => {
            let _ = port.send(&Message::Refuse(Box::new(Refusal::of(&error, false))));
            Err(Failure::Final(error))
        }
    }
}
