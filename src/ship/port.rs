//! One connection and the thread that serves it: messages go out and come in, heartbeats, deadlines, bounds.
//!
//! ```text
//!   a worker    send_data() ──▶ outgoing ──▶ ┌────────────────┐
//!   a worker    send()      ──▶ outgoing ──▶ │ thread: poll,  │ ◀──▶ link
//!   a worker    recv()      ◀── incoming ◀── │ codec, clock   │
//!                                            └────────────────┘
//! ```
//!
//! Only the thread touches the link. Workers wait on a condition; what can make them wait is the peer's credit and the
//! bound of `outgoing`. It ends once, with an [`Ending`], which every later call returns.
//!
//! Bounds: `outgoing` holds at most [`OUTGOING_BYTES`] of data; `incoming` holds at most the credit that was given and
//! [`INCOMING_CONTROL`] control messages, then the link is not read until a worker took some.
//!
//! Deadlines: no byte from the peer for `net_timeout`; a message that is not whole after `net_timeout`; no byte taken by the peer for
//! `net_timeout` while something waits. A heartbeat goes out when nothing else did for a third of the smaller of both sides' time-outs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::link::{Interest, Link, lost};
use super::wire::{Decoder, Message, WireError};
use crate::error::{Class, Error, Result};

/// Bytes of data that wait to be sent at most.
const OUTGOING_BYTES: usize = 1 << 20;
/// Control messages that wait to be received at most.
const INCOMING_CONTROL: usize = 256;
/// How long a connection that is being closed may take to send its last words.
const LINGER: Duration = Duration::from_secs(5);
/// Messages are encrypted in one go up to here.
const WRITE_BYTES: usize = 256 << 10;

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    class: Class,
    what: String,
}

#[derive(Debug, Default)]
struct State {
    outgoing: VecDeque<Vec<u8>>,
    outgoing_data: usize,
    incoming: VecDeque<Message>,
    incoming_control: usize,
    /// Payload bytes of data: what the peer lets us send, and what was given to the thread.
    credit: u64,
    sent: u64,
    /// What we let the peer send, and what came.
    granted: u64,
    received: u64,
    data_allowed: bool,
    heartbeat: Option<Duration>,
    closing: Option<Instant>,
    abandoned: bool,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: OwnedFd,
}

impl Shared {
    // The lock is only held for moves of messages, which do not panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A connection. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Port {
    shared: Arc<Shared>,
    peer: Arc<str>,
}

/// The end of a connection, waited for.
#[derive(Debug)]
pub(super) struct PortThread(Option<JoinHandle<()>>);

impl PortThread {
    /// Waits until the thread has closed the link.
    pub fn join(mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl Port {
    /// Serves `link` in a thread of its own. `peer` names the other side.
    pub fn start(link: Link, peer: &str, net_timeout: Duration) -> Result<(Port, PortThread)> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| Error::io("eventfd", error.into()))?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), wake });
        let port = Port { shared: Arc::clone(&shared), peer: peer.into() };
        let worker = Worker { link, shared, net_timeout, decoder: Decoder::new(), front: Vec::new(), front_at: 0 };
        let thread = std::thread::Builder::new().name("rlog-ship port".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || worker.run()).map_err(|error| Error::io("thread", error))?;
        Ok((port, PortThread(Some(thread))))
    }

    /// The other side's name.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Lets data in, up to so many bytes at first.
    pub fn allow_data(&self, granted: u64) {
        let mut state = self.shared.lock();
        state.granted = granted;
        state.data_allowed = true;
        drop(state);
        self.shared.wake();
    }

    /// Sends heartbeats from now on: the peer gives up after `peer_timeout`.
    pub fn keep_alive(&self, ours: Duration, peer_timeout: Duration) {
        self.shared.lock().heartbeat = Some((ours.min(peer_timeout) / 3).max(Duration::from_millis(50)));
        self.shared.wake();
    }

    /// What the peer lets us send at first.
    pub fn set_credit(&self, credit: u64) {
        let mut state = self.shared.lock();
        state.credit = state.credit.max(credit);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Raises what the peer may send, in all.
    pub fn grant(&self, granted: u64) {
        self.shared.lock().granted = granted;
        let _ = self.send(&Message::Credit(granted));
    }

    /// Sends a control message.
    pub fn send(&self, message: &Message) -> Result<()> {
        let bytes = message.encode();
        let mut state = self.shared.lock();
        self.check(&state)?;
        state.outgoing.push_back(bytes);
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Sends an encoded `data` message, waiting for credit and room. `false`: not within `patience`; then it is still the
    /// caller's.
    pub fn send_data(&self, message: &mut Vec<u8>, patience: Duration) -> Result<bool> {
        let payload = message.len().saturating_sub(super::wire::HEADER_LEN) as u64;
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            self.check(&state)?;
            if state.sent + payload <= state.credit && state.outgoing_data < OUTGOING_BYTES {
                state.sent += payload;
                state.outgoing_data += message.len();
                state.outgoing.push_back(std::mem::take(message));
                drop(state);
                self.shared.wake();
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next message; `None` when none came within `patience`. What came before the connection ended is still given.
    pub fn recv(&self, patience: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let Some(message) = state.incoming.pop_front() {
                let control = !matches!(message, Message::Data(_));
                state.incoming_control -= usize::from(control);
                if control && state.incoming_control + 1 == INCOMING_CONTROL {
                    self.shared.wake();
                }
                return Ok(Some(message));
            }
            self.check(&state)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ending.is_some()
    }

    /// Sends what waits, then closes. Returns at once.
    pub fn finish(&self) {
        self.shared.lock().closing.get_or_insert_with(Instant::now);
        self.shared.wake();
    }

    /// Closes without sending what waits.
    pub fn abandon(&self) {
        self.shared.lock().abandoned = true;
        self.shared.wake();
    }

    fn check(&self, state: &State) -> Result<()> {
        match &state.ending {
            None => Ok(()),
            Some(ending) => Err(Error::new(ending.class, ending.what.clone()).in_file(&*self.peer)),
        }
    }
}

struct Worker {
    link: Link,
    shared: Arc<Shared>,
    net_timeout: Duration,
    decoder: Decoder,
    /// What is being sent.
    front: Vec<u8>,
    front_at: usize,
}

/// What the clock says.
struct Clock {
    heard: Instant,
    /// When the message that is coming in began.
    began: Option<Instant>,
    spoke: Instant,
    /// When the peer last took something, while something waits.
    moved: Option<Instant>,
}

impl Worker {
    fn run(mut self) {
        let ended = self.serve();
        let linger = ended.is_ok();
        let ending = match ended {
            Ok(()) => Ending { class: Class::TryAgain, what: "the connection was closed".into() },
            Err(error) => Ending { class: error.class(), what: error.what().to_owned() },
        };
        let mut state = self.shared.lock();
        let linger = linger && !state.abandoned;
        state.ending = Some(ending);
        state.outgoing.clear();
        drop(state);
        self.shared.changed.notify_all();
        self.link.close(linger);
    }

    fn serve(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut clock = Clock { heard: now, began: None, spoke: now, moved: None };
        let mut readable = true;
        loop {
            let (closing, heartbeat) = {
                let state = self.shared.lock();
                if state.abandoned {
                    return Ok(());
                }
                if state.data_allowed {
                    self.decoder.allow_data();
                }
                (state.closing, state.heartbeat)
            };
            let waits = match self.write(&mut clock) {
                Ok(waits) => waits,
                Err(error) => {
                    // The peer may have closed behind its last words.
                    while self.read(&mut clock)? && !self.is_full() {}
                    return Err(error);
                }
            };
            if let Some(since) = closing
                && (!waits || since.elapsed() >= LINGER)
            {
                return Ok(());
            }
            if readable || closing.is_none() {
                readable = self.read(&mut clock)?;
            }
            let now = Instant::now();
            let mut until = self.net_timeout;
            for since in [Some(clock.heard), clock.began, clock.moved].into_iter().flatten() {
                let left = (since + self.net_timeout).saturating_duration_since(now);
                if left.is_zero() {
                    return Err(lost(io::ErrorKind::TimedOut.into(), ""));
                }
                until = until.min(left);
            }
            if let Some(every) = heartbeat.filter(|_| closing.is_none()) {
                let left = (clock.spoke + every).saturating_duration_since(now);
                if left.is_zero() && !waits {
                    self.shared.lock().outgoing.push_back(Message::Heartbeat.encode());
                    continue;
                }
                until = until.min(left.max(Duration::from_millis(1)));
            }
            if closing.is_some() {
                until = until.min(Duration::from_millis(100));
            }
            let interest = Interest { read: !readable && !self.is_full(), write: waits };
            if readable && !self.is_full() {
                continue;
            }
            let wait = self.link.wait(interest, Some(self.shared.wake.as_fd()), until);
            wait.map_err(|error| lost(error, ""))?;
            let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
            readable = true;
        }
    }

    fn is_full(&self) -> bool {
        self.shared.lock().incoming_control >= INCOMING_CONTROL
    }

    /// Sends what it can; returns whether something is left.
    fn write(&mut self, clock: &mut Clock) -> Result<bool> {
        loop {
            if self.front_at == self.front.len() {
                let mut state = self.shared.lock();
                let Some(first) = state.outgoing.pop_front() else {
                    drop(state);
                    let sent = self.link.flush().map_err(|error| lost(error, ""))?;
                    clock.moved = if sent { None } else { clock.moved.or(Some(Instant::now())) };
                    return Ok(!sent);
                };
                let full = state.outgoing_data >= OUTGOING_BYTES;
                if first.first() == Some(&super::wire::DATA_KIND) {
                    state.outgoing_data -= first.len();
                }
                let room = state.outgoing_data < OUTGOING_BYTES;
                drop(state);
                if full && room {
                    self.shared.changed.notify_all();
                }
                self.front = first;
                self.front_at = 0;
            }
            let rest = self.front.get(self.front_at..).unwrap_or(&[]);
            match self.link.write(rest.get(..WRITE_BYTES).unwrap_or(rest)) {
                Ok(count) => {
                    self.front_at += count;
                    let now = Instant::now();
                    clock.spoke = now;
                    clock.moved = Some(now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let flushed = self.link.keeps() && self.link.flush().map_err(|error| lost(error, ""))?;
                    if !flushed {
                        clock.moved.get_or_insert_with(Instant::now);
                        return Ok(true);
                    }
                    clock.moved = Some(Instant::now());
                }
                Err(error) => return Err(lost(error, "")),
            }
        }
    }

    /// Reads once; returns whether there may be more.
    fn read(&mut self, clock: &mut Clock) -> Result<bool> {
        if self.is_full() {
            return Ok(true);
        }
        let count = match self.link.read(self.decoder.room()) {
            Ok(0) => return Err(lost(io::ErrorKind::UnexpectedEof.into(), "")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(lost(error, "")),
        };
        self.decoder.filled(count);
        let now = Instant::now();
        clock.heard = now;
        let mut whole = false;
        while let Some(message) = self.decoder.next()? {
            whole = true;
            self.take(message)?;
        }
        clock.began =
            if self.decoder.is_inside() { if whole { Some(now) } else { clock.began.or(Some(now)) } } else { None };
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<()> {
        let mut state = self.shared.lock();
        match message {
            Message::Heartbeat => return Ok(()),
            Message::Credit(credit) => state.credit = state.credit.max(credit),
            Message::Data(data) => {
                state.received += data.payload.len() as u64;
                if state.received > state.granted {
                    return Err(Error::from(WireError::Order("data")));
                }
                state.incoming.push_back(Message::Data(data));
            }
            other => {
                state.incoming_control += 1;
                state.incoming.push_back(other);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}
