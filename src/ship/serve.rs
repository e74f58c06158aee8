//! `serve`: one listener, many channels; or one connection over standard input and output.
//!
//! A connection is a thread until it has ended. Before its key is known it is a socket, a TLS state and a deadline, and at most
//! [`STRANGERS_MAX`] such exist: one more, and the oldest is closed, so that a flood of idle sockets keeps nobody out who is
//! quick. After that it counts against `connections`, and against what its key may have.
//!
//! One connection serves one channel (rule 8). A second one of the same client process, for the same thing, takes its place: the
//! first must be half-open. Of two processes, the second is told to try again, as at the lock of a queue.
//!
//! When `stop` is set no connection is accepted any more, every session ends behind the transaction at hand, and each client is told
//! to come again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ServerConfig;

use super::client::Acknowledger;
use super::keys::{Grant, PublicKey};
use super::link::{Link, lost};
use super::pace::Pace;
use super::port::Port;
use super::send::{self, QueueFlow, Sending};
use super::tls::{self, SharedKeys};
use super::wire::{Hello, Message, Reached, Refusal, VERSION, Verb, Welcome, WireError, capability};
use super::{AGENT, Failure, WINDOW_BYTES, receive};
use crate::error::{Class, Error, Result};
use crate::queue::{self, Queue, WriterOptions, fold_name, intake};
use crate::sys::{Os, clock};

/// Connections whose key is not known yet.
const STRANGERS_MAX: usize = 64;
/// How long the sessions may take to end once they are asked to.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// A client that takes its own earlier place waits so long for it.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// Free space is looked at after so many bytes.
const FREE_CHECK_BYTES: u64 = 64 << 20;

/// What a server does, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The queue.
    pub queue: queue::Address,
    /// As the user wrote it.
    pub queue_text: String,
    /// Whether clients may push.
    pub put: bool,
    /// Whether clients may pull.
    pub get: bool,
    /// The only channels; `None`: all that the key allows.
    pub channels: Option<Vec<String>>,
    /// A peer that is silent for so long is gone.
    pub net_timeout: Duration,
    /// From the connection to the welcome.
    pub handshake_timeout: Duration,
    /// Authorised connections at the same time.
    pub connections: usize,
    /// zstd's level for what is pulled, if the client can.
    pub level: Option<i32>,
    /// Bytes a second and connection.
    pub rate_limit: Option<u64>,
    /// Bytes that a channel may occupy.
    pub space_limit: Option<u64>,
    /// Bytes that the file system must have left.
    pub min_free: u64,
    /// How writers work.
    pub writer: WriterOptions,
    /// Wait this long for more before a sync.
    pub sync_interval: Duration,
}

/// What a server tells.
pub trait Log: Send + Sync {
    /// Something went wrong with a peer.
    fn warn(&self, text: &str);
    /// Someone came or went.
    fn info(&self, text: &str);
}

/// Counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Of these, refused or lost before they were welcomed.
    pub refused: AtomicU64,
    /// Sessions at work.
    pub active: AtomicU64,
    /// Transactions stored.
    pub transactions: AtomicU64,
    /// Bytes of streams received.
    pub bytes: AtomicU64,
}

/// A server.
pub struct Server {
    options: Options,
    keys: SharedKeys,
    log: Box<dyn Log>,
    /// For people and files.
    pub counters: Counters,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    strangers: BTreeMap<u64, TcpStream>,
    at_work: BTreeMap<u64, AtWork>,
}

#[derive(Debug)]
struct AtWork {
    key: Option<PublicKey>,
    /// Verb, channel, reader and the client's process, once they are known.
    what: Option<(Verb, String, String, u64)>,
    stop: Arc<AtomicBool>,
    port: Option<Port>,
}

/// Who is at the other end, as far as that is proven.
struct Peer {
    id: u64,
    name: String,
    key: Option<PublicKey>,
    grant: Option<Grant>,
}

impl Server {
    /// Nothing is served yet.
    pub fn new(options: Options, keys: SharedKeys, log: Box<dyn Log>) -> Server {
        Server { options, keys, log, counters: Counters::default(), sessions: Mutex::default() }
    }

    // The lock is only held for looks and moves, which do not panic half-way.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections until `stop`. `tick` is called several times a second.
    pub fn listen(
        self: &Arc<Server>,
        listeners: &[TcpListener],
        config: &Arc<ServerConfig>,
        stop: &AtomicBool,
        tick: &mut dyn FnMut(),
    ) -> Result<()> {
        for listener in listeners {
            listener.set_nonblocking(true).map_err(|error| Error::io("listener", error))?;
        }
        while !stop.load(Ordering::Relaxed) {
            tick();
            self.sweep();
            let mut waits: Vec<PollFd<'_>> =
                listeners.iter().map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)).collect();
            match poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io("poll", error.into())),
            }
            for listener in listeners {
                self.accept(listener, config)?;
            }
        }
        self.stop_all();
        let deadline = Instant::now() + STOP_GRACE;
        loop {
            let left = {
                let sessions = self.sessions();
                sessions.at_work.len() + sessions.strangers.len()
            };
            if left == 0 || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
            tick();
            self.sweep();
        }
    }

    fn accept(self: &Arc<Server>, listener: &TcpListener, config: &Arc<ServerConfig>) -> Result<()> {
        loop {
            match listener.accept() {
                Ok((socket, from)) => self.greet(socket, from, config),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::Interrupted | std::io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // No descriptors or memory for the moment: those that are served go on.
                    self.log.warn(&format!("cannot accept: {error}"));
                    std::thread::sleep(Duration::from_millis(100));
                    return Ok(());
                }
            }
        }
    }

    fn greet(self: &Arc<Server>, socket: TcpStream, from: SocketAddr, config: &Arc<ServerConfig>) {
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + self.options.handshake_timeout;
        let Ok(handle) = socket.try_clone() else { return };
        let id = {
            let mut sessions = self.sessions();
            if sessions.strangers.len() >= STRANGERS_MAX
                && let Some((_, oldest)) = sessions.strangers.pop_first()
            {
                let _ = oldest.shutdown(std::net::Shutdown::Both);
            }
            sessions.next += 1;
            let id = sessions.next;
            sessions.strangers.insert(id, handle);
            id
        };
        let server = Arc::clone(self);
        let config = Arc::clone(config);
        let thread = std::thread::Builder::new().name(format!("rlog-ship {id}")).stack_size(512 << 10);
        let started = thread.spawn(move || {
            let name = from.to_string();
            if let Err(error) = server.connection(id, socket, &name, &config, deadline) {
                server.counters.refused.fetch_add(1, Ordering::Relaxed);
                server.log.warn(&format!("{name}: {}", error.what()));
            }
            server.sessions().strangers.remove(&id);
        });
        if started.is_err() {
            self.sessions().strangers.remove(&id);
        }
    }

    fn connection(
        &self,
        id: u64,
        socket: TcpStream,
        name: &str,
        config: &Arc<ServerConfig>,
        deadline: Instant,
    ) -> Result<()> {
        let mut link = Link::tls(socket, tls::server(config)?).map_err(|error| Error::io(name, error))?;
        let key = match link.handshake(deadline) {
            Ok(key) => key.ok_or_else(|| Error::new(Class::Bug, "TLS without a key"))?,
            Err(error) => {
                link.close(true);
                return Err(error.into_error(name));
            }
        };
        let grant = tls::authorized(&self.keys).grant(&key).filter(|grant| !grant.is_expired(clock::now_us())).cloned();
        let Some(grant) = grant else {
            // Its line was removed since the handshake began.
            link.close(true);
            return Err(Error::new(Class::Permission, "its key is not authorized any more"));
        };
        let peer = Peer { id, name: format!("{name} ({})", grant.name()), key: Some(key), grant: Some(grant) };
        let full = {
            let mut sessions = self.sessions();
            sessions.strangers.remove(&id);
            let all = sessions.at_work.len() >= self.options.connections;
            let same = sessions.at_work.values().filter(|other| other.key == Some(key)).count() as u64;
            // One more than it may have is let in to say that it takes the place of another.
            let most = peer.grant.as_ref().and_then(|grant| grant.connections);
            let full = all || most.is_some_and(|most| same > most);
            if !full {
                sessions.at_work.insert(id, AtWork { key: Some(key), what: None, stop: Arc::default(), port: None });
            }
            full
        };
        if full {
            let (port, thread) = Port::start(link, &peer.name, self.options.net_timeout)?;
            let error = Error::new(Class::TryAgain, "the server has as many connections as it may have");
            let _ = port.send(&Message::Refuse(Box::new(Refusal::of(&error, true))));
            port.finish();
            thread.join();
            return Err(error);
        }
        self.serve(link, &peer, deadline);
        Ok(())
    }

    /// One session over standard input and output: whoever started us has authorised it, with the restrictions of the options.
    pub fn stdio(self: &Arc<Server>, input: OwnedFd, output: OwnedFd, stop: Arc<AtomicBool>) -> Result<()> {
        let link = Link::pipes(input, output, None).map_err(|error| Error::io("standard input", error))?;
        let peer = Peer { id: 0, name: "standard input".to_owned(), key: None, grant: None };
        self.sessions().at_work.insert(0, AtWork { key: None, what: None, stop, port: None });
        let deadline = Instant::now() + self.options.handshake_timeout.max(self.options.net_timeout);
        match self.serve(link, &peer, deadline) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// From the hello to the end.
    fn serve(&self, link: Link, peer: &Peer, deadline: Instant) -> Option<Error> {
        let result = self.serve_port(link, peer, deadline);
        self.sessions().at_work.remove(&peer.id);
        match result {
            Ok(()) => None,
            Err(failure) => {
                let error = failure.into_error();
                self.log.warn(&format!("{}: {error}", peer.name));
                Some(error)
            }
        }
    }

    fn serve_port(&self, link: Link, peer: &Peer, deadline: Instant) -> Result<(), Failure> {
        let (port, thread) = Port::start(link, &peer.name, self.options.net_timeout)?;
        let stop = match self.sessions().at_work.get_mut(&peer.id) {
            Some(session) => {
                session.port = Some(port.clone());
                Arc::clone(&session.stop)
            }
            None => Arc::default(),
        };
        self.counters.active.fetch_add(1, Ordering::Relaxed);
        let result = self.session(&port, peer, &stop, deadline);
        self.counters.active.fetch_sub(1, Ordering::Relaxed);
        port.finish();
        thread.join();
        result
    }

    fn session(&self, port: &Port, peer: &Peer, stop: &Arc<AtomicBool>, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let hello = match port.recv(left).map_err(Failure::lost)? {
            Some(Message::Hello(hello)) => hello,
            Some(Message::Refuse(refusal)) => return Err(Failure::Final(refusal.to_error(&peer.name))),
            Some(other) => {
                return Err(refuse(port, Failure::Final(WireError::Order(other.name()).into())));
            }
            None => {
                port.abandon();
                return Err(Failure::Again(lost(std::io::ErrorKind::TimedOut.into(), &peer.name)));
            }
        };
        let outcome = match self.admit(&hello, peer) {
            Ok(channel) => self.work(port, peer, &hello, &channel, stop),
            Err(error) => Err(refuse(port, error.into())),
        };
        self.log.info(&format!("{}: gone", peer.name));
        outcome
    }

    /// Whether this may be; the folded name of the channel.
    fn admit(&self, hello: &Hello, peer: &Peer) -> Result<String> {
        if hello.versions.0 > VERSION || hello.versions.1 < VERSION {
            return Err(Error::new(
                Class::Version,
                format!(
                    "the client speaks protocol versions {} to {}, this server {VERSION}",
                    hello.versions.0, hello.versions.1
                ),
            ));
        }
        // Names are never paths.
        let channel = fold_name("channel", &hello.channel)?;
        let verb = match hello.verb {
            Verb::Put => self.options.put,
            Verb::Get => self.options.get,
        };
        let channels = self.options.channels.as_ref();
        let allowed = verb
            && channels.is_none_or(|channels| channels.contains(&channel))
            && peer.grant.as_ref().is_none_or(|grant| grant.allows(hello.verb, &channel));
        if !allowed {
            return Err(Error::new(
                Class::Permission,
                format!("this key may not {} channel {channel}", hello.verb.name()),
            ));
        }
        Ok(channel)
    }

    fn work(
        &self,
        port: &Port,
        peer: &Peer,
        hello: &Hello,
        channel: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        self.log.info(&format!("{}: {} channel {channel} ({})", peer.name, hello.verb.name(), hello.agent));
        if hello.probe {
            return self.probe(port, hello, channel).map_err(|error| refuse(port, error.into()));
        }
        let reader = self.reader_name(peer, hello).map_err(|error| refuse(port, error.into()))?;
        let takes_over = self.take_place(peer, hello, channel, &reader);
        match takes_over {
            Ok(wait) if hello.verb == Verb::Put => self.put(port, peer, hello, channel, stop, wait),
            Ok(_) => self.get(port, peer, hello, channel, &reader, stop),
            Err(error) => Err(refuse(port, Failure::Again(error))),
        }
    }

    /// A reader of a peer's own, so that it acknowledges for nobody else.
    fn reader_name(&self, peer: &Peer, hello: &Hello) -> Result<String> {
        if hello.verb == Verb::Put || hello.reader.is_empty() {
            return Ok(String::new());
        }
        let base = match peer.key {
            Some(key) => format!("ship-{}", key.short()),
            None => "ship".to_owned(),
        };
        if hello.reader == "default" {
            return Ok(base);
        }
        fold_name("reader", &format!("{base}-{}", hello.reader))
    }

    /// Whether an earlier connection of the same client does the same: then it is ended.
    fn take_place(&self, peer: &Peer, hello: &Hello, channel: &str, reader: &str) -> Result<bool> {
        let mut sessions = self.sessions();
        let what = (hello.verb, channel.to_owned(), reader.to_owned(), hello.session);
        let exclusive = hello.session != 0;
        let mut taken = false;
        for (id, other) in &sessions.at_work {
            if *id != peer.id && exclusive && other.key == peer.key && other.what.as_ref() == Some(&what) {
                taken = true;
                other.stop.store(true, Ordering::Relaxed);
                if let Some(port) = &other.port {
                    port.abandon();
                }
            }
        }
        let same = sessions.at_work.values().filter(|other| other.key == peer.key).count() as u64;
        let most = peer.grant.as_ref().and_then(|grant| grant.connections);
        if !taken && most.is_some_and(|most| same > most) {
            return Err(Error::new(Class::TryAgain, "this key has as many connections as it may have"));
        }
        if let Some(session) = sessions.at_work.get_mut(&peer.id) {
            session.what = Some(what);
        }
        Ok(taken)
    }

    fn welcome(&self, hello: &Hello, reached: Reached, credit: u64) -> Message {
        Message::Welcome(Box::new(Welcome {
            version: VERSION,
            capabilities: hello.capabilities & capability::ZSTD,
            agent: AGENT.to_owned(),
            net_timeout_ms: u64::try_from(self.options.net_timeout.as_millis()).unwrap_or(u64::MAX),
            credit,
            reached,
        }))
    }

    fn keep_alive(&self, port: &Port, hello: &Hello) {
        port.keep_alive(self.options.net_timeout, Duration::from_millis(hello.net_timeout_ms));
    }

    fn open(&self, channel: &str, create: bool) -> Result<Box<dyn Queue>> {
        queue::open(Arc::new(Os), &self.options.queue, channel, create)
    }

    fn probe(&self, port: &Port, hello: &Hello, channel: &str) -> Result<()> {
        let reached = match self.open(channel, false) {
            Ok(queue) => Reached::of(&queue.status()?.tail),
            Err(error) if error.class() == Class::NoInput && hello.verb == Verb::Put => Reached::default(),
            Err(error) => return Err(error),
        };
        port.send(&self.welcome(hello, reached, 0))
    }

    fn put(
        &self,
        port: &Port,
        peer: &Peer,
        hello: &Hello,
        channel: &str,
        stop: &Arc<AtomicBool>,
        takes_over: bool,
    ) -> Result<(), Failure> {
        let options = &self.options;
        let opened = self.open(channel, true).and_then(|queue| {
            self.check_free(&*queue)?;
            let wait = if takes_over { TAKE_OVER } else { options.writer.lock_wait };
            let writer = queue.writer(&WriterOptions { lock_wait: wait, ..options.writer.clone() })?;
            Ok((queue, writer))
        });
        let (queue, writer) = opened.map_err(|error| refuse(port, Failure::lost(error)))?;
        self.keep_alive(port, hello);
        port.allow_data(WINDOW_BYTES);
        port.send(&self.welcome(hello, Reached::of(writer.tail()), WINDOW_BYTES)).map_err(Failure::lost)?;
        let grant = peer.grant.as_ref();
        let limit = |ours: Option<u64>, theirs: Option<u64>| match (ours, theirs) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let intake = intake::Options {
            sync_interval: options.sync_interval,
            space_limit: limit(options.space_limit, grant.and_then(|grant| grant.space_limit)),
            stop: Arc::clone(stop),
            address: options.queue_text.clone(),
            ..intake::Options::default()
        };
        let pace = Pace::stricter(options.rate_limit, grant.and_then(|grant| grant.rate_limit));
        let mut told = intake::Counts::default();
        let mut checked = 0;
        let stored = receive::into_queue(port, true, WINDOW_BYTES, pace, writer, &intake, &mut |_, counts| {
            let counters = &self.counters;
            counters.transactions.fetch_add(counts.transactions - told.transactions, Ordering::Relaxed);
            counters.bytes.fetch_add(counts.bytes - told.bytes, Ordering::Relaxed);
            told = *counts;
            if counts.bytes - checked >= FREE_CHECK_BYTES {
                checked = counts.bytes;
                self.check_free(&*queue)?;
            }
            Ok(())
        });
        let counts = stored?;
        self.log.info(&format!(
            "{}: {} transactions stored, {} held already",
            peer.name, counts.transactions, counts.repeats
        ));
        Ok(())
    }

    fn check_free(&self, queue: &dyn Queue) -> Result<()> {
        if self.options.min_free == 0 {
            return Ok(());
        }
        let free = queue.status()?.free_bytes;
        if free < self.options.min_free {
            return Err(Error::new(
                Class::TryAgain,
                format!("the queue's file system has {free} bytes left, and {} are to be kept", self.options.min_free),
            ));
        }
        Ok(())
    }

    fn get(
        &self,
        port: &Port,
        peer: &Peer,
        hello: &Hello,
        channel: &str,
        reader: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        let registered = Some(reader).filter(|reader| !reader.is_empty());
        let opened = self.open(channel, false).and_then(|queue| {
            let flow = QueueFlow::open(&*queue, &hello.reached, registered, hello.follow)?;
            let reached = Reached::of(&queue.status()?.tail);
            Ok((queue, flow, reached))
        });
        let (queue, mut flow, reached) = opened.map_err(|error| refuse(port, Failure::lost(error)))?;
        self.keep_alive(port, hello);
        port.set_credit(hello.credit);
        port.send(&self.welcome(hello, reached, 0)).map_err(Failure::lost)?;
        let grant = peer.grant.as_ref();
        let both = hello.capabilities & capability::ZSTD != 0;
        let sending = Sending {
            level: Some(self.options.level.unwrap_or(1)).filter(|_| both),
            pace: Pace::stricter(self.options.rate_limit, grant.and_then(|grant| grant.rate_limit)),
            stop,
            come_again: true,
        };
        let mut local = Acknowledger::new(&*queue, registered);
        let sent = send::run(port, &mut flow, sending, &mut |ack| match ack {
            None => local.tick(),
            Some((_, mark)) => local.acknowledged(mark),
        });
        let told = local.finish().map_err(Failure::Final);
        sent.and(told)
    }

    /// Ends the sessions whose connection is gone, or whose key is not authorised any more.
    fn sweep(&self) {
        let keys = tls::authorized(&self.keys);
        let now = clock::now_us();
        for session in self.sessions().at_work.values() {
            let gone = session.port.as_ref().is_some_and(Port::has_ended);
            let revoked = session.key.is_some_and(|key| keys.grant(&key).is_none_or(|grant| grant.is_expired(now)));
            if gone || revoked {
                session.stop.store(true, Ordering::Relaxed);
            }
            if let (true, Some(port)) = (revoked, &session.port) {
                port.abandon();
            }
        }
    }

    fn stop_all(&self) {
        let sessions = self.sessions();
        for socket in sessions.strangers.values() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        for session in sessions.at_work.values() {
            session.stop.store(true, Ordering::Relaxed);
            // One that has not said what it wants has nothing to finish.
            if let (None, Some(port)) = (&session.what, &session.port) {
                port.abandon();
            }
        }
    }
}

/// Tells the peer, and returns what it was told.
fn refuse(port: &Port, failure: Failure) -> Failure {
    let _ = port.send(&Message::Refuse(Box::new(Refusal::of(failure.error(), failure.is_again()))));
    failure
}
