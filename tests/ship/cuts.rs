//! A proxy between client and server that cuts, delays, doubles and falls silent at every byte of an exchange.
//!
//! The library's own loops run in this process, so that one exchange takes milliseconds. `RLOG_CRASH_RUNS` asks for every byte; else
//! every few bytes are tried, other ones in each direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rlog::error::Result;
use rlog::queue::{self, Next, Queue, ReadFrom, ReadMode, WriterOptions, intake};
use rlog::ship::client::{self, Goal, Origin};
use rlog::ship::keys::{AuthorizedKeys, KeyPair, PublicKey};
use rlog::ship::serve::{Log, Options, Server};
use rlog::ship::wire::{Ack, Reached};
use rlog::ship::{Observer, tls};
use rlog::sys::Os;

use crate::common::streams::{Fold, Seen, Stream};

/// What happens to the first connection, at a byte of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    /// Nothing passes any more, and nobody is told.
    Silence,
    /// The byte and those after it in its packet come twice.
    Double,
    Delay,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    to_server: bool,
    at: u64,
    fault: Fault,
}

/// Passes connections on; the first after [`Proxy::arm`] suffers.
pub struct Proxy {
    pub port: u16,
    shared: Arc<ProxyShared>,
}

#[derive(Default)]
struct ProxyShared {
    plan: RwLock<Option<Plan>>,
    passed: [AtomicU64; 2],
    hit: AtomicBool,
    connections: AtomicUsize,
}

impl Proxy {
    pub fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(ProxyShared::default());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
                theirs.connections.fetch_add(1, Ordering::SeqCst);
                // Taken by the first connection.
                let plan = theirs.plan.write().unwrap().take();
                for to_server in [true, false] {
                    let (from, to) = if to_server { (&client, &server) } else { (&server, &client) };
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&theirs);
                    std::thread::spawn(move || pass(from, to, plan, to_server, &shared));
                }
            }
        });
        Proxy { port, shared }
    }

    /// Bytes that have passed in both directions, and the connections that there have been.
    pub fn passed(&self) -> (u64, usize) {
        let bytes = self.shared.passed.iter().map(|passed| passed.load(Ordering::SeqCst)).sum();
        (bytes, self.shared.connections.load(Ordering::SeqCst))
    }

    fn arm(&self, plan: Option<Plan>) {
        *self.shared.plan.write().unwrap() = plan;
        self.shared.hit.store(false, Ordering::SeqCst);
        self.shared.connections.store(0, Ordering::SeqCst);
        for passed in &self.shared.passed {
            passed.store(0, Ordering::SeqCst);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, plan: Option<Plan>, to_server: bool, shared: &ProxyShared) {
    let mut buffer = [0; 1 << 14];
    let passed = &shared.passed[usize::from(to_server)];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let before = passed.fetch_add(count as u64, Ordering::SeqCst);
        let mine =
            plan.filter(|plan| plan.to_server == to_server && (before..before + count as u64).contains(&plan.at));
        let Some(plan) = mine else {
            let silent = plan.is_some_and(|plan| plan.fault == Fault::Silence) && shared.hit.load(Ordering::SeqCst);
            if !silent && to.write_all(&buffer[..count]).is_err() {
                break;
            }
            continue;
        };
        shared.hit.store(true, Ordering::SeqCst);
        let at = (plan.at - before) as usize;
        let _ = to.write_all(&buffer[..at]);
        match plan.fault {
            Fault::Cut => break,
            Fault::Silence => continue,
            Fault::Double => {
                let _ = to.write_all(&buffer[at..count]);
                let _ = to.write_all(&buffer[at..count]);
            }
            Fault::Delay => {
                for byte in &buffer[at..count] {
                    std::thread::sleep(Duration::from_micros(50));
                    let _ = to.write_all(&[*byte]);
                }
            }
        }
    }
    for socket in [&from, &to] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

struct Silent;

impl Log for Silent {
    fn warn(&self, _: &str) {}
    fn info(&self, _: &str) {}
}

impl Observer for Silent {
    fn connected(&mut self, _: &str, _: &Reached) -> Result<()> {
        Ok(())
    }
    fn acknowledged(&mut self, _: &Ack) -> Result<()> {
        Ok(())
    }
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
    fn note(&mut self, _: &str) {}
}

/// A server and a proxy in this process, in memory where there is a file system for it.
struct Place {
    folder: tempfile::TempDir,
    proxy: Proxy,
    server_key: PublicKey,
    stop: Arc<AtomicBool>,
    net_timeout: Duration,
}

impl Place {
    fn new(net_timeout: Duration) -> Place {
        let memory = PathBuf::from("/dev/shm");
        let builder = |builder: &mut tempfile::Builder<'_, '_>| {
            if memory.is_dir() { builder.tempdir_in(&memory) } else { builder.tempdir() }
        };
        let folder = builder(tempfile::Builder::new().prefix("rlog-test-")).unwrap();
        let (server, client) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        client.save(&folder.path().join("client.key")).unwrap();
        let keys = AuthorizedKeys::parse(&client.public().to_string(), "keys").unwrap();
        let keys = Arc::new(RwLock::new(Arc::new(keys)));
        let far = folder.path().join("far").display().to_string();
        let options = Options {
            queue: far.parse().unwrap(),
            queue_text: far,
            put: true,
            get: true,
            channels: None,
            net_timeout,
            handshake_timeout: net_timeout,
            connections: 32,
            level: Some(1),
            rate_limit: None,
            space_limit: None,
            min_free: 0,
            writer: WriterOptions::default(),
            sync_interval: Duration::ZERO,
        };
        let config = tls::server_config(&server, &keys).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port());
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let serving = Arc::new(Server::new(options, keys, Box::new(Silent)));
        std::thread::spawn(move || serving.listen(&[listener], &config, &theirs, &mut || {}).unwrap());
        Place { folder, proxy, server_key: server.public(), stop, net_timeout }
    }

    fn queue(&self, name: &str, channel: &str) -> Box<dyn Queue> {
        let path = self.folder.path().join(name).display().to_string();
        queue::open(Arc::new(Os), &path.parse().unwrap(), channel, true).unwrap()
    }

    fn fill(&self, name: &str, channel: &str, bytes: Vec<u8>) {
        let writer = self.queue(name, channel).writer(&WriterOptions::default()).unwrap();
        let options = intake::Options::default();
        intake::put(std::io::Cursor::new(bytes), "test", writer, &options, None, &mut |_, _| Ok(())).unwrap();
    }

    fn held(&self, name: &str, channel: &str) -> (Vec<Seen>, usize) {
        let mut reader = self.queue(name, channel).reader(&ReadFrom::Oldest, ReadMode::ONCE).unwrap();
        let mut fold = Fold::default();
        while let Next::Frame(frame) = reader.next().unwrap() {
            fold.frame(&frame);
        }
        (fold.seen, fold.marks.len())
    }

    fn client(&self, channel: &str) -> client::Options {
        let pair = KeyPair::load(&self.folder.path().join("client.key")).unwrap();
        client::Options {
            address: format!("tls://127.0.0.1:{}", self.proxy.port).parse().unwrap(),
            channel: channel.to_owned(),
            identity: Some((pair, vec![self.server_key])),
            net_timeout: self.net_timeout,
            connect_retry: Duration::from_millis(1),
            retry_count: 20,
            level: None,
            rate_limit: None,
            report_name: String::new(),
            session: 1,
            stop: Arc::default(),
        }
    }

    /// One exchange under a plan: all of it must have arrived, once.
    fn run(&self, push: bool, number: u64, plan: Option<Plan>, whole: &(Vec<Seen>, usize)) {
        self.proxy.arm(plan);
        let channel = format!("c{number}");
        let arrived = if push {
            let origin = Origin::Queue { queue: self.queue("near", "default"), reader: None, follow: false };
            client::push(&self.client(&channel), &origin, &mut Silent).map(|()| self.held("far", &channel))
        } else {
            let goal = Goal::Queue {
                queue: self.queue("third", &channel),
                writer: WriterOptions { lock_wait: Duration::from_secs(5), ..WriterOptions::default() },
                intake: intake::Options::default(),
            };
            let done = client::pull(&self.client("source"), &goal, false, Some("default"), &mut Silent);
            done.map(|()| self.held("third", &channel))
        };
        assert_eq!(&arrived.unwrap(), whole, "push {push}, {plan:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Some of everything that a queue may hold.
fn some() -> Vec<u8> {
    let mut stream = Stream::new();
    stream.snapshot(7, 2).transaction(100).progress(50).transaction(0).transaction(700);
    stream.end()
}

fn campaign(push: bool, to_server: bool, fault: Fault, net_timeout: Duration, step: u64) {
    let place = Place::new(net_timeout);
    place.fill("near", "default", some());
    place.fill("far", "source", some());
    let whole = place.held("near", "default");
    assert!(whole.0.len() == 5 && whole.1 == 3, "{whole:?}");
    place.run(push, 0, None, &whole);
    let bytes = place.proxy.shared.passed[usize::from(to_server)].load(Ordering::SeqCst);
    assert!(bytes > 300, "{bytes}");
    let (mut at, mut hits, mut number) = (0, 0, 1);
    while at < bytes {
        place.run(push, number, Some(Plan { to_server, at, fault }), &whole);
        hits += u64::from(place.proxy.shared.hit.load(Ordering::SeqCst));
        at += step;
        number += 1;
    }
    // The last bytes may come in other packets, or not at all.
    assert!(hits + 10 >= number.saturating_sub(number / 10), "{hits} of {number} were hit");
}

/// Every byte for `make crash`.
fn step(slice: u64) -> u64 {
    if std::env::var_os("RLOG_CRASH_RUNS").is_some() { 1 } else { slice }
}

const PATIENT: Duration = Duration::from_secs(20);

#[test]
fn a_push_that_is_cut_anywhere_goes_on() {
    campaign(true, true, Fault::Cut, PATIENT, step(29));
    campaign(true, false, Fault::Cut, PATIENT, step(13));
}

#[test]
fn a_pull_that_is_cut_anywhere_goes_on() {
    campaign(false, true, Fault::Cut, PATIENT, step(13));
    campaign(false, false, Fault::Cut, PATIENT, step(31));
}

#[test]
fn what_comes_twice_or_late_does_no_harm() {
    campaign(true, true, Fault::Double, PATIENT, step(97));
    campaign(false, false, Fault::Double, PATIENT, step(101));
    campaign(true, true, Fault::Delay, PATIENT, step(499));
}

#[test]
fn a_half_open_connection_is_noticed_and_replaced() {
    campaign(true, true, Fault::Silence, Duration::from_millis(400), step(331));
    campaign(false, false, Fault::Silence, Duration::from_millis(400), step(401));
}
