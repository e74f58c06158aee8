//! `push` and `pull`: connect, agree, move, and do it again after a cut.
//!
//! ```text
//!   connect ─▶ handshake ─▶ hello ─▶ welcome ─▶ stream, acks ─▶ done
//!      ▲                                            │ cut, time-out, a server that stops
//!      └──────────── pause, doubled ◀───────────────┘
//! ```
//!
//! A failure that the next attempt could mend is retried, as often as `retry_count` says without progress in between; any
//! other ends the run with its own exit status.

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::address::{Address, Transport};
use super::backlog::Backlog;
use super::keys::{KeyPair, PublicKey};
use super::link::{Handshake, Link, lost};
use super::pace::Pace;
use super::port::{Port, PortThread};
use super::send::{self, QueueFlow, Sending};
use super::wire::{Ack, Hello, Message, Reached, VERSION, Verb, Welcome, WireError, capability};
use super::{AGENT, Failure, Observer, WINDOW_BYTES, receive, tls};
use crate::error::{Class, Error, Result};
use crate::frame::{Checker, FrameReader, Position};
use crate::queue::{Queue, Tail, WriterOptions, intake, write_frame};

/// How a client reaches its server.
#[derive(Debug)]
pub struct Options {
    /// Where.
    pub address: Address,
    /// The channel over there.
    pub channel: String,
    /// Our key and the keys of which the server must have one; not needed over pipes.
    pub identity: Option<(KeyPair, Vec<PublicKey>)>,
    /// A peer that is silent for so long is gone.
    pub net_timeout: Duration,
    /// First pause before another attempt; doubled each time up to a minute.
    pub connect_retry: Duration,
    /// Attempts without progress after the first; 0: none.
    pub retry_count: u64,
    /// zstd's level; `None`: no compression.
    pub level: Option<i32>,
    /// Bytes a second.
    pub rate_limit: Option<u64>,
    /// What the server shows.
    pub report_name: String,
    /// A random number that tells this process from others with the same key.
    pub session: u64,
    /// Ends the work behind the transaction at hand.
    pub stop: Arc<AtomicBool>,
}

/// What is pushed.
#[derive(Debug)]
pub enum Origin {
    /// Frames on standard input.
    Input,
    /// A queue, read as this reader; with `follow` for ever.
    Queue {
        /// The channel.
        queue: Box<dyn Queue>,
        /// The reader that is registered and acknowledged; `None`: none.
        reader: Option<String>,
        /// Go on at its end.
        follow: bool,
    },
}

/// Where pulled frames go.
#[derive(Debug)]
pub enum Goal {
    /// Standard output. What is safe behind it is what the file says, if there is one.
    Output(Option<PathBuf>),
    /// A queue.
    Queue {
        /// The channel.
        queue: Box<dyn Queue>,
        /// How its writer works.
        writer: WriterOptions,
        /// How `put` works.
        intake: intake::Options,
    },
}

/// What a probe learns.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What the server said.
    pub welcome: Welcome,
    /// The address.
    pub peer: String,
}

struct Session {
    port: Port,
    thread: PortThread,
    welcome: Welcome,
}

impl Session {
    fn close(self) {
        self.port.finish();
        self.thread.join();
    }
}

impl Options {
    fn hello(&self, verb: Verb) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            verb,
            channel: self.channel.clone(),
            capabilities: if self.level.is_some() { capability::ZSTD } else { 0 },
            agent: AGENT.to_owned(),
            report_name: self.report_name.clone(),
            session: self.session,
            net_timeout_ms: millis(self.net_timeout),
            ..Hello::default()
        }
    }

    fn peer(&self) -> String {
        self.address.to_string()
    }

    /// Connects, proves who both are, and says what is wanted.
    fn open(&self, hello: Hello) -> Result<Session, Failure> {
        let deadline = Instant::now() + self.net_timeout;
        let peer = self.peer();
        let mut link = self.connect(deadline)?;
        if let Err(error) = link.handshake(deadline) {
            return Err(self.no_handshake(error));
        }
        let (port, thread) = Port::start(link, &peer, self.net_timeout)?;
        let verb = hello.verb;
        let result = self.agree(&port, hello);
        match result {
            Ok(welcome) => {
                port.keep_alive(self.net_timeout, Duration::from_millis(welcome.net_timeout_ms));
                if verb == Verb::Put {
                    port.set_credit(welcome.credit);
                }
                Ok(Session { port, thread, welcome })
            }
            Err(failure) => {
                port.abandon();
                thread.join();
                Err(self.explained(failure))
            }
        }
    }

    fn agree(&self, port: &Port, hello: Hello) -> Result<Welcome, Failure> {
        if hello.verb == Verb::Get {
            port.allow_data(hello.credit);
        }
        port.send(&Message::Hello(Box::new(hello))).map_err(Failure::lost)?;
        match port.recv(self.net_timeout).map_err(Failure::lost)? {
            Some(Message::Welcome(welcome)) if welcome.version == VERSION => Ok(*welcome),
            Some(Message::Welcome(welcome)) => Err(Failure::Final(Error::new(
                Class::Version,
                format!("the server chose protocol version {}, this rlog speaks {VERSION}", welcome.version),
            ))),
            Some(Message::Refuse(refusal)) => {
                let error = refusal.to_error(port.peer());
                Err(if refusal.again { Failure::Again(error) } else { Failure::Final(error) })
            }
            Some(other) => Err(Failure::Final(Error::from(WireError::Order(other.name())).in_file(port.peer()))),
            None => Err(Failure::Again(lost(std::io::ErrorKind::TimedOut.into(), port.peer()))),
        }
    }

    fn no_handshake(&self, error: Handshake) -> Failure {
        let ours = self.identity.as_ref().map(|(pair, _)| pair.public());
        let error = match (error, ours) {
            (Handshake::Tls(error), Some(ours)) => tls::client_error(&error, &self.address.server(), &ours),
            (other, _) => other.into_error(&self.peer()),
        };
        if error.class() == Class::TryAgain { Failure::Again(error) } else { Failure::Final(error) }
    }

    /// A server tells in an alert that it does not want us; what to do about it is known here.
    fn explained(&self, failure: Failure) -> Failure {
        match (failure, &self.identity) {
            (Failure::Final(error), Some((pair, _))) if error.class() == Class::Permission => Failure::Final(
                error.hint(format!("this line in the server's authorized keys lets it in: {}", pair.public())),
            ),
            (failure, _) => failure,
        }
    }

    fn connect(&self, deadline: Instant) -> Result<Link, Failure> {
        let peer = self.peer();
        match &self.address.transport {
            Transport::Tls { host, port } => {
                let Some((pair, known)) = &self.identity else {
                    return Err(Failure::Final(Error::usage("a TLS connection needs a key")));
                };
                let config = tls::client_config(pair, known.clone())?;
                let addresses = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
                    // A name server may be away; a wrong name stays wrong, and is retried in vain.
                    Failure::Again(Error::new(Class::TryAgain, format!("no address: {error}")).in_file(&peer))
                })?;
                let mut last = Error::new(Class::TryAgain, "no address").in_file(&peer);
                for address in addresses {
                    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                    match TcpStream::connect_timeout(&address, left) {
                        Ok(socket) => {
                            let link = Link::tls(socket, tls::client(&config)?);
                            return link.map_err(|error| Failure::Again(Error::io(&peer, error)));
                        }
                        Err(error) => last = Error::io(&peer, error).with_class(Class::TryAgain),
                    }
                }
                Err(Failure::Again(last))
            }
            Transport::Command(words) => {
                let (program, arguments) = words.split_first().ok_or_else(|| Error::usage("an empty command"))?;
                let child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
                let mut child = child.map_err(|error| Error::io(program, error).with_class(Class::Config))?;
                let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
                    return Err(Failure::Final(Error::new(Class::Bug, "a child without pipes")));
                };
                let link = Link::pipes(OwnedFd::from(input), OwnedFd::from(output), Some(child));
                link.map_err(|error| Failure::Again(Error::io(&peer, error)))
            }
        }
    }

    /// Repeats `attempt` until it succeeds, fails for good, or has failed too often. `attempt` says whether it made progress.
    fn persist<T>(
        &self,
        observer: &mut dyn Observer,
        mut attempt: impl FnMut(&mut dyn Observer, &mut bool) -> Result<T, Failure>,
    ) -> Result<T> {
        const PAUSE_MAX: Duration = Duration::from_secs(60);
        let (mut failures, mut pause) = (0, self.connect_retry);
        loop {
            let mut progress = false;
            let error = match attempt(observer, &mut progress) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error)) => error,
            };
            if progress {
                (failures, pause) = (0, self.connect_retry);
            }
            if failures >= self.retry_count || self.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            failures += 1;
            observer.note(&format!("{error}; attempt {failures} of {} in {} s", self.retry_count, pause.as_secs_f32()));
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(20).min(pause));
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Connects and hears what the server holds; nothing is changed.
pub fn probe(options: &Options, verb: Verb) -> Result<Probe> {
    let hello = Hello { probe: true, ..options.hello(verb) };
    let session = options.open(hello).map_err(Failure::into_error)?;
    let welcome = session.welcome.clone();
    session.close();
    Ok(Probe { welcome, peer: options.peer() })
}

/// Sends what `origin` holds until its end. Returns when everything is durable over there.
pub fn push(options: &Options, origin: &Origin, observer: &mut dyn Observer) -> Result<()> {
    let backlog = Arc::new(Backlog::default());
    if let Origin::Input = origin {
        let theirs = Arc::clone(&backlog);
        let thread = std::thread::Builder::new().name("rlog-ship input".into());
        thread
            .spawn(move || theirs.read(std::io::stdin(), "standard input"))
            .map_err(|error| Error::io("thread", error))?;
    }
    let done = options.persist(observer, |observer, progress| {
        let session = options.open(options.hello(Verb::Put))?;
        let result = push_once(options, origin, &backlog, &session, observer, progress);
        session.close();
        result
    });
    backlog.close();
    match (done, origin) {
        // How standard input ended is the reason for what the server says of it.
        (done, Origin::Input) => match (backlog.verdict(), done) {
            (Some(Err(verdict)), Ok(())) => Err(verdict),
            (Some(Err(verdict)), Err(error)) if verdict.class() == error.class() => Err(verdict),
            (_, done) => done,
        },
        (done, _) => done,
    }
}

fn push_once(
    options: &Options,
    origin: &Origin,
    backlog: &Backlog,
    session: &Session,
    observer: &mut dyn Observer,
    progress: &mut bool,
) -> Result<(), Failure> {
    let (port, welcome) = (&session.port, &session.welcome);
    let compress = welcome.capabilities & capability::ZSTD != 0;
    let sending = Sending {
        level: options.level.filter(|_| compress),
        pace: Pace::new(options.rate_limit),
        stop: &options.stop,
        come_again: false,
    };
    let refused = |error: Error| {
        let refusal = super::wire::Refusal::of(&error, false);
        let _ = port.send(&Message::Refuse(Box::new(refusal)));
        Failure::Final(error)
    };
    observer.connected(port.peer(), &welcome.reached).map_err(refused)?;
    match origin {
        Origin::Input => {
            let base = backlog.base_units();
            let mut flow = backlog.flow();
            send::run(port, &mut flow, sending, &mut |ack| match ack {
                None => observer.idle(),
                Some((ack, _)) => {
                    *progress |= ack.units > 0;
                    backlog.acknowledged(base + ack.units);
                    observer.acknowledged(ack)
                }
            })
        }
        Origin::Queue { queue, reader, follow } => {
            let flow = QueueFlow::open(&**queue, &welcome.reached, reader.as_deref(), *follow);
            let mut flow = flow.map_err(refused)?;
            let mut local = Acknowledger::new(&**queue, reader.as_deref());
            let sent = send::run(port, &mut flow, sending, &mut |ack| match ack {
                None => {
                    local.tick()?;
                    observer.idle()
                }
                Some((ack, mark)) => {
                    *progress |= ack.units > 0;
                    local.acknowledged(mark)?;
                    observer.acknowledged(ack)
                }
            });
            let told = local.finish().map_err(Failure::Final);
            sent.and(told)
        }
    }
}

/// Passes acknowledgements on to a queue of ours, not too often.
pub(super) struct Acknowledger<'a> {
    queue: &'a dyn Queue,
    reader: Option<&'a str>,
    waiting: Option<crate::queue::Mark>,
    last: Option<Instant>,
}

impl<'a> Acknowledger<'a> {
    const PERIOD: Duration = Duration::from_secs(1);

    pub fn new(queue: &'a dyn Queue, reader: Option<&'a str>) -> Acknowledger<'a> {
        Acknowledger { queue, reader, waiting: None, last: None }
    }

    pub fn acknowledged(&mut self, mark: Option<crate::queue::Mark>) -> Result<()> {
        if mark.is_some() {
            self.waiting = mark;
        }
        self.tick()
    }

    pub fn tick(&mut self) -> Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        if let (Some(reader), Some(mark)) = (self.reader, self.waiting.take()) {
            self.last = Some(Instant::now());
            self.queue.ack(reader, &mark)?;
        }
        Ok(())
    }

    pub fn finish(&mut self) -> Result<()> {
        let any = self.waiting.is_some() || self.last.is_some();
        self.flush()?;
        if any && self.reader.is_some() {
            self.queue.purge(false)?;
        }
        Ok(())
    }
}

/// Receives what the server holds, into `goal`. `reader` is the name under which the server keeps what is not
/// acknowledged; `None`: it keeps nothing for us.
pub fn pull(
    options: &Options,
    goal: &Goal,
    follow: bool,
    reader: Option<&str>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut written = None;
    options.persist(observer, |observer, progress| {
        let hello =
            Hello { credit: WINDOW_BYTES, follow, reader: reader.unwrap_or("").to_owned(), ..options.hello(Verb::Get) };
        match goal {
            Goal::Output(cursor) => to_output(options, hello, cursor.as_ref(), &mut written, observer, progress),
            Goal::Queue { queue, writer, intake } => {
                let writer = queue.writer(writer)?;
                let reached = Reached::of(writer.tail());
                let session = options.open(Hello { reached: reached.clone(), ..hello })?;
                let told = observer.connected(session.port.peer(), &reached);
                told.map_err(Failure::Final)?;
                let pace = Pace::new(options.rate_limit);
                let stored = receive::into_queue(
                    &session.port,
                    false,
                    WINDOW_BYTES,
                    pace,
                    writer,
                    intake,
                    &mut |tail, counts| {
                        *progress |= counts.units > 0;
                        let ack = Ack { units: counts.units, reached: Reached::of(tail), waiting: String::new() };
                        observer.acknowledged(&ack)
                    },
                );
                session.close();
                match stored {
                    Ok(_) => Ok(()),
                    // We were asked to.
                    Err(Failure::Again(_)) if options.stop.load(Ordering::Relaxed) => Ok(()),
                    Err(failure) => Err(failure),
                }
            }
        }
    })
}

/// Frames to standard output. What was written is not asked for again by this process; what is acknowledged is what the cursor file says.
fn to_output(
    options: &Options,
    hello: Hello,
    cursor: Option<&PathBuf>,
    written: &mut Option<Position>,
    observer: &mut dyn Observer,
    progress: &mut bool,
) -> Result<(), Failure> {
    let safe = match cursor {
        Some(path) => super::read_cursor(path)?,
        None => None,
    };
    let position = written.clone().or(safe);
    let reached = Reached { position, in_snapshot: false };
    let session = options.open(Hello { reached: reached.clone(), ..hello })?;
    observer.connected(session.port.peer(), &reached).map_err(Failure::Final)?;
    let pace = Pace::new(options.rate_limit);
    let port = session.port.clone();
    let stopped = || options.stop.load(Ordering::Relaxed);
    let result = receive::into_reader(&session.port, WINDOW_BYTES, pace, &options.stop, |stream| {
        let mut frames = FrameReader::new(stream);
        let mut checker = Checker::contiguous();
        let mut tail = Tail::default();
        let mut out = Vec::new();
        let stdout = std::io::stdout();
        let mut units = 0;
        // Positions by the number of units before and with them, for acknowledging what the cursor says.
        let mut sent = std::collections::VecDeque::new();
        let mut looked = Instant::now();
        let name = port.peer();
        loop {
            let flush = |out: &mut Vec<u8>| -> Result<()> {
                let mut stdout = stdout.lock();
                let done = stdout.write_all(out).and_then(|()| stdout.flush());
                out.clear();
                done.map_err(|error| Error::io("standard output", error))
            };
            if !frames.has_whole_buffered() || out.len() >= 256 << 10 {
                flush(&mut out)?;
            }
            if stopped() {
                if checker.open_transaction().is_some() {
                    return flush(&mut out);
                }
                let position = tail.position().unwrap_or_default();
                let end = crate::frame::End {
                    reached: position.end,
                    incarnation: position.incarnation,
                    ..crate::frame::End::default()
                };
                let mut writer = crate::frame::FrameWriter::new();
                writer.frame(crate::frame::Kind::End, |payload| end.encode(payload));
                out.extend_from_slice(writer.bytes());
                return flush(&mut out);
            }
            let frame = match frames.next() {
                Ok(Some(frame)) => frame,
                // Stopped: what is not whole is not waited for.
                Ok(None) | Err(_) if stopped() => continue,
                Ok(None) => break,
                Err(error) => return Err(error.into_error(name)),
            };
            let step = checker.frame(&frame).map_err(|error| Error::from(error).in_file(name))?;
            write_frame(&frame, &mut out);
            tail.step(&step);
            if step.ends_unit() {
                units += 1;
                *progress = true;
                if let Some(position) = Reached::of(&tail).confirmed() {
                    *written = Some(position.clone());
                    if cursor.is_some() {
                        sent.push_back((units, position.clone()));
                    }
                }
            }
            if let Some(path) = cursor
                && looked.elapsed() >= Duration::from_secs(1)
            {
                looked = Instant::now();
                if let Some(safe) = super::read_cursor(path)? {
                    acknowledge(&port, &mut sent, &safe);
                }
            }
            if let crate::frame::Step::Abort(abort) = step {
                flush(&mut out)?;
                let class = Class::from_exit_status(abort.status).unwrap_or(Class::Io);
                return Err(Error::new(class, format!("the sender failed: {}", abort.message)).in_file(name));
            }
        }
        if !out.is_empty() {
            let mut stdout = std::io::stdout().lock();
            let done = stdout.write_all(&out).and_then(|()| stdout.flush());
            done.map_err(|error| Error::io("standard output", error))?;
        }
        Ok(())
    });
    session.close();
    result
}

/// Tells the server what is safe behind our output.
fn acknowledge(port: &Port, sent: &mut std::collections::VecDeque<(u64, Position)>, safe: &Position) {
    let mut units = None;
    while sent.front().is_some_and(|(_, position)| {
        position.incarnation.server() == safe.incarnation.server() && position.end <= safe.end
    }) {
        units = sent.pop_front().map(|(units, _)| units);
    }
    if let Some(units) = units {
        let reached = Reached { position: Some(safe.clone()), in_snapshot: false };
        let _ = port.send(&Message::Ack(Box::new(Ack { units, reached, waiting: String::new() })));
    }
}
