//! The events of a server as one log: connections come and go, offsets stay.
//!
//! ```text
//!            ┌────────── lost, silent for net-timeout ──────────┐
//!            ▼                                                  │
//!   waiting, with growing pauses ── same server, same log ──▶ dumping ──▶ event at hand ──▶ ended (--once: the end pinned at start)
//!            │                                                  │
//!            └── another server or log: 83 · purged: 81 · tries used up: 75
//! ```
//!
//! A dump is asked for by file and offset: at the start the first byte of a file, after a lost connection the first byte that was not handed
//! over. So nothing comes twice, and the chain goes on where it was cut, in the middle of a transaction too. Whether it still is the same log
//! is seen by the server's identity, the list of its logs, and the time in the file's format description.
//!
//! Where an event stands follows from the bytes before it; the header's end position, where there is one, says where holes are. What the server makes up
//! (the first ROTATE, heartbeats, artificial events) takes no room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::raw::RawCopies;
use super::server::{self, Server};
use crate::db::mysql::Connector;
use crate::db::mysql::replica::{Next, Replica, ReplicaOptions};
use crate::error::{Class, Error, Result};
use crate::frame::Coordinate;
use crate::source::Confirm;
use crate::source::mysql::data::Feed;
use crate::source::mysql::event::{self, FIRST_EVENT_AT, HEADER_LEN, flag, kind};
use crate::source::mysql::files;

/// The first pause before a lost connection is made again; it doubles up to `--connect-retry`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How often downstream is asked what it has while the server waits for an acknowledgement.
const CONFIRM_PAUSE: Duration = Duration::from_millis(1);
/// The server cannot read the log that was asked for.
const ER_MASTER_FATAL: u16 = 1236;
/// A connection with the same server id has taken this one's place (MariaDB).
const ER_SLAVE_SAME_ID: u16 = 4052;
/// Half the range of a position in a header.
const HALF: u64 = 1 << 31;

/// How to stay connected.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Longest pause between two tries.
    pub connect_retry: Duration,
    /// How many tries in a row may fail.
    pub retry_count: u32,
    /// A server that says nothing for so long is gone.
    pub net_timeout: Duration,
}

impl Patience {
    /// How long to wait after so many tries in a row.
    pub fn pause(&self, tries: u32) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(self.connect_retry)
    }
}

/// Semi-synchronous replication: what the server waits for, and who says what is safe.
struct SemiSync {
    confirm: Confirm,
    asked: Instant,
    /// Ends of events that the server waits for, oldest first: coordinate and file.
    pending: VecDeque<(Coordinate, String)>,
}

/// See the module's head.
pub struct ServerFeed {
    connector: Connector,
    options: ReplicaOptions,
    patience: Patience,
    server: Server,
    replica: Option<Replica>,
    /// The file that is read, its number, where it begins in the feed, and the offset behind what was handed over (0: nothing yet).
    file: String,
    number: u64,
    base: u64,
    offset: u64,
    /// Time and server id in the file's format description.
    stamp: Option<[u8; 9]>,
    /// The file that the server has announced.
    announced: Option<String>,
    /// The event at hand: where it begins in the feed, its length, and its bytes if they are not the connection's.
    start: u64,
    len: u64,
    head: Option<Vec<u8>>,
    head_name: String,
    /// `--once`: where to end.
    end: Option<Coordinate>,
    caught_up_at: Coordinate,
    ended: bool,
    hold: Option<Arc<AtomicBool>>,
    heard: Instant,
    tries: u32,
    next_try: Instant,
    raw: Option<RawCopies>,
    semi_sync: Option<SemiSync>,
    notes: Vec<String>,
}

/// What a feed is made of.
pub struct FeedOptions {
    /// How it presents itself.
    pub replica: ReplicaOptions,
    /// How it stays connected.
    pub patience: Patience,
    /// Where to end; `None`: never.
    pub end: Option<Coordinate>,
    /// Where the server's log ended at the start.
    pub caught_up_at: Coordinate,
    /// Nothing behind `caught_up_at` is handed over as long as this says so.
    pub hold: Option<Arc<AtomicBool>>,
    /// Copies of the logs.
    pub raw: Option<RawCopies>,
    /// What is safe downstream, for acknowledgements.
    pub semi_sync: Option<Confirm>,
}

impl ServerFeed {
    /// Begins at the start of `file`.
    pub fn new(connector: Connector, server: Server, file: String, options: FeedOptions) -> Result<ServerFeed> {
        let number = files::split_name(&file)
            .map(|(_, number)| number)
            .ok_or_else(|| Error::damage(format!("`{file}` is no name of a log that has a number")))?;
        let now = Instant::now();
        Ok(ServerFeed {
            connector,
            options: options.replica,
            patience: options.patience,
            server,
            replica: None,
            file,
            number,
            base: 0,
            offset: 0,
            stamp: None,
            announced: None,
            start: 0,
            len: 0,
            head: None,
            head_name: String::new(),
            end: options.end,
            caught_up_at: options.caught_up_at,
            ended: false,
            hold: options.hold,
            heard: now,
            tries: 0,
            next_try: now,
            raw: options.raw,
            semi_sync: options.semi_sync.map(|confirm| SemiSync { confirm, asked: now, pending: VecDeque::new() }),
            notes: Vec::new(),
        })
    }

    /// The end of the event at hand.
    pub fn reached(&self) -> Coordinate {
        Coordinate::new(self.number, self.offset).unwrap_or_default()
    }

    /// Takes the next event that stands in the log; `false`: none came within `patience`.
    fn advance(&mut self, patience: Duration) -> Result<bool> {
        if self.offset > 0
            && self.hold.as_ref().is_some_and(|hold| hold.load(Ordering::Relaxed))
            && self.reached() >= self.caught_up_at
        {
            return Ok(false);
        }
        if self.end.is_some_and(|end| self.offset > 0 && self.reached() >= end) {
            if let (false, Some(raw)) = (self.ended, &mut self.raw) {
                raw.sync()?;
            }
            self.ended = true;
        }
        let deadline = Instant::now() + patience;
        loop {
            if self.ended {
                return Ok(false);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.replica.is_none() {
                if !self.connect(left)? {
                    return Ok(false);
                }
                self.heard = Instant::now();
            }
            self.acknowledge()?;
            let waits = self.semi_sync.as_ref().is_some_and(|semi| !semi.pending.is_empty());
            let Some(replica) = &mut self.replica else { continue };
            match replica.next(if waits { left.min(CONFIRM_PAUSE) } else { left }) {
                Ok(Next::Event(wanted)) => {
                    self.heard = Instant::now();
                    if self.take(wanted)? {
                        self.tries = 0;
                        return Ok(true);
                    }
                }
                Ok(Next::Nothing) => {
                    if let Some(raw) = &mut self.raw {
                        raw.idle()?;
                    }
                    if self.heard.elapsed() >= self.patience.net_timeout {
                        let what = format!("the server has said nothing for {:?}", self.patience.net_timeout);
                        self.lost(Error::new(Class::TryAgain, what))?;
                    } else if Instant::now() >= deadline {
                        return Ok(false);
                    }
                }
                Ok(Next::End) => self.lost(Error::new(Class::TryAgain, "the server ended the dump of its log"))?,
                Err(error) => self.lost(error)?,
            }
        }
    }

    /// The connection is of no use any more.
    fn lost(&mut self, error: Error) -> Result<()> {
        let code = self.replica.as_ref().map_or(0, Replica::error_code);
        self.replica = None;
        if let Some(semi) = &mut self.semi_sync {
            // The server forgets what it waited for.
            semi.pending.clear();
        }
        // Two with one id would turn each other out for ever: this one leaves, and whoever repeats it finds out whether it may stay.
        // MariaDB has a number for it (ER_SLAVE_SAME_ID), MySQL the words alone.
        if code == ER_SLAVE_SAME_ID || code == ER_MASTER_FATAL && error.what().contains("same server_uuid/server_id") {
            return Err(error.with_class(Class::TryAgain).hint(
                "another reader with this server id is at work: let it end, or give this one a --server-id of its own",
            ));
        }
        // A log that cannot be read may have been purged or reset: connecting again finds that out, once.
        let may_pass = error.class() == Class::TryAgain || code == ER_MASTER_FATAL && self.tries == 0;
        if may_pass && self.offset > u64::from(u32::MAX) {
            // A request for a position has 32 bits. Another run reads the file from its start.
            return Err(error
                .with_class(Class::TryAgain)
                .hint("run the same command again: it goes on where it stands"));
        }
        if !may_pass {
            return Err(error);
        }
        self.schedule(error)
    }

    /// Another try later, if there are any left.
    fn schedule(&mut self, error: Error) -> Result<()> {
        if self.tries >= self.patience.retry_count {
            return Err(Error::new(Class::TryAgain, format!("{} ({} tries)", error.what(), self.tries.max(1)))
                .in_file(self.connector.name().to_owned())
                .hint("run the same command again: it goes on where it stands")
                .caused_by(error));
        }
        if self.tries == 0 {
            self.notes.push(format!("{}: connecting again", error.what()));
        }
        let pause = self.patience.pause(self.tries);
        self.tries += 1;
        self.next_try = Instant::now() + pause;
        Ok(())
    }

    /// Connects, unless it is too early; `false`: not connected.
    fn connect(&mut self, patience: Duration) -> Result<bool> {
        let early = self.next_try.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early.min(patience));
            if early > patience {
                return Ok(false);
            }
        }
        match self.try_connect() {
            Ok(replica) => {
                self.replica = Some(replica);
                Ok(true)
            }
            Err(error) if error.class() == Class::TryAgain => {
                self.schedule(error)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn try_connect(&mut self) -> Result<Replica> {
        let mut client = self.connector.client()?;
        let found = Server::of(&mut client)?;
        if !found.is_same(&self.server) {
            return Err(Error::new(
                Class::Identity,
                format!(
                    "this is another server now: id {} {}, not id {} {}",
                    found.server_id, found.uuid, self.server.server_id, self.server.uuid
                ),
            )
            .in_file(self.connector.name().to_owned())
            .hint("name the server that was followed; or its successor with --handover"));
        }
        let logs = server::logs(&mut client)?;
        let name = self.connector.name().to_owned();
        match logs.iter().find(|log| log.name == self.file) {
            Some(log) if log.len < self.offset => {
                return Err(Error::new(
                    Class::Conflict,
                    format!(
                        "{} ends at {} on the server, and {} had been read: the server has forgotten transactions that were passed on",
                        self.file, log.len, self.offset
                    ),
                )
                .in_file(name)
                .hint("compare the replica with the server; sync_binlog=1 keeps a server from forgetting"));
            }
            Some(_) => {}
            None if logs.first().is_some_and(|first| first.number > self.number) => {
                return Err(Error::new(Class::Gap, format!("the server has purged {}", self.file))
                    .in_file(name)
                    .hint("a new copy is needed: --resnapshot"));
            }
            None => {
                return Err(Error::new(Class::Identity, format!("the server no longer has {}: its logs were reset", self.file))
                    .in_file(name)
                    .hint("RESET MASTER makes another source of a server: start anew with --resnapshot, in a queue of its own"));
            }
        }
        Replica::start(client, &self.options, &self.file, self.offset.max(FIRST_EVENT_AT), false)
    }

    /// Looks at the event that has come; `true`: it stands in the log and is at hand.
    fn take(&mut self, wanted: bool) -> Result<bool> {
        let Some(replica) = &self.replica else { return Ok(false) };
        let raw = replica.event();
        let damaged = || Error::damage("the server sent an event that is cut short");
        let header = event::Format::initial().header(raw).ok_or_else(damaged)?;
        if raw.len() != header.size as usize || raw.len() < HEADER_LEN {
            return Err(damaged());
        }
        let len = raw.len() as u64;
        match header.kind {
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => return Ok(false),
            kind::ROTATE if header.timestamp == 0 || header.flags & flag::ARTIFICIAL != 0 => {
                let body = raw.get(HEADER_LEN + 8..).ok_or_else(damaged)?;
                // Whether this one has a checksum depends on what the server knew when it made it up.
                let body = match raw.split_last_chunk::<4>() {
                    Some((covered, sum)) if crc32fast::hash(covered).to_le_bytes() == *sum => {
                        body.get(..body.len().saturating_sub(4)).unwrap_or(&[])
                    }
                    _ => body,
                };
                self.announced = Some(String::from_utf8_lossy(body).into_owned());
                return Ok(false);
            }
            kind::FORMAT_DESCRIPTION => return self.file_begins(),
            kind::MARIADB_START_ENCRYPTION => return Ok(false),
            _ if header.flags & flag::ARTIFICIAL != 0 => return Ok(false),
            _ => {}
        }
        let mut end = self.offset + len;
        if header.log_pos != 0 {
            // What the header has is modulo 2^32.
            let mut told = self.offset & !(2 * HALF - 1) | u64::from(header.log_pos);
            if told + HALF < end {
                told += 2 * HALF;
            }
            end = told.max(end);
        }
        let at = end - len;
        if let Some(raw_copies) = &mut self.raw {
            raw_copies.event(at, raw)?;
        }
        self.start = self.base + at;
        self.len = len;
        self.head = None;
        self.offset = end;
        if wanted && let Some(semi) = &mut self.semi_sync {
            let place = Coordinate::new(self.number, end).unwrap_or_default();
            semi.pending.push_back((place, self.file.clone()));
        }
        Ok(true)
    }

    /// A format description has come: of a new file, or again of the one that is being read.
    fn file_begins(&mut self) -> Result<bool> {
        let Some(replica) = &self.replica else { return Ok(false) };
        let raw = replica.event();
        let mut stamp = [0; 9];
        stamp.copy_from_slice(raw.get(..9).unwrap_or(&[0; 9]));
        let name = self.announced.take().unwrap_or_else(|| self.file.clone());
        if name == self.file && self.offset > 0 {
            if self.stamp != Some(stamp) {
                return Err(Error::new(Class::Identity, format!("{name} is another log of the same name now"))
                    .in_file(self.connector.name().to_owned())
                    .hint("RESET MASTER makes another source of a server: start anew with --resnapshot, in a queue of its own"));
            }
            return Ok(false);
        }
        let number = files::split_name(&name)
            .map(|(_, number)| number)
            .ok_or_else(|| Error::damage(format!("`{}` is no name of a log that has a number", name.escape_debug())))?;
        if self.offset > 0 && number != self.number + 1 {
            return Err(Error::new(Class::Gap, format!("the server went on from {} to {name}", self.file))
                .in_file(self.connector.name().to_owned()));
        }
        let mut head = Vec::with_capacity(raw.len() + 4);
        head.extend_from_slice(&event::MAGIC);
        head.extend_from_slice(raw);
        self.base += self.offset;
        if let Some(copies) = &mut self.raw {
            copies.begin(&name, &head)?;
        }
        self.stamp = Some(stamp);
        self.number = number;
        self.head_name.clone_from(&name);
        self.file = name;
        self.offset = head.len() as u64;
        self.start = self.base;
        self.len = head.len() as u64;
        self.head = Some(head);
        Ok(true)
    }

    /// Tells the server what is safe, if it waits for that.
    fn acknowledge(&mut self) -> Result<()> {
        let Some(semi) = &mut self.semi_sync else { return Ok(()) };
        if semi.pending.is_empty() || semi.asked.elapsed() < CONFIRM_PAUSE {
            return Ok(());
        }
        semi.asked = Instant::now();
        let Some(safe) = (semi.confirm)()? else { return Ok(()) };
        let mut last = None;
        while semi.pending.front().is_some_and(|(end, _)| *end <= safe.end) {
            last = semi.pending.pop_front();
        }
        if let (Some((end, file)), Some(replica)) = (last, &mut self.replica)
            && let Err(error) = replica.acknowledge(&file, end.offset())
        {
            self.lost(error)?;
        }
        Ok(())
    }
}

impl Feed for ServerFeed {
    #[inline]
    fn place(&mut self, at: u64) -> Result<u64> {
        if at >= self.start && at < self.start + self.len || !self.advance(Duration::ZERO)? {
            return Ok(at);
        }
        Ok(self.start)
    }

    #[inline]
    fn bytes(&self, at: u64) -> &[u8] {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let bytes = match (&self.head, &self.replica) {
            (Some(head), _) => head.as_slice(),
            (None, Some(replica)) if self.len > 0 => replica.event(),
            _ => &[],
        };
        from.and_then(|from| bytes.get(from..)).unwrap_or(&[])
    }

    fn wait(&mut self, at: u64, patience: Duration) -> Result<bool> {
        if at >= self.start && at < self.start + self.len {
            return Ok(true);
        }
        self.advance(patience)
    }

    fn file_name(&self, at: u64) -> Option<&str> {
        (self.head.is_some() && at == self.start).then_some(self.head_name.as_str())
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn is_caught_up(&self) -> bool {
        self.reached() >= self.caught_up_at
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

impl Drop for ServerFeed {
    fn drop(&mut self) {
        if let Some(raw) = &mut self.raw {
            // Not durable is not wrong: the next run writes it again.
            let _ = raw.sync();
        }
    }
}
