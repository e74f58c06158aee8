//! The durable store between source and target: traits, addresses, and what all backends share.
//!
//! A queue holds, for each channel, *units* in the order in which the source made them: transactions, prepared XA
//! groups, progress, handovers and the marks of snapshots. Units are numbered from 1 (`sequence`); the number is the queue's own
//! and names a place in it, while a [`Position`] names a transaction wherever it is.
//!
//! - [`Queue`] opens readers and writers and keeps the registered readers' acknowledgements. [`open`] makes one from
//!   an address; [`dir`] is the first backend, `tests/contract` is what every backend must do.
//! - [`dir`] keeps units in segment files; [`sqlite`] in tables, `nats` in streams of a cluster. Queues inside of other engines share `records`.
//! - [`intake`] is `put`: it judges an incoming stream (repeat, gap, foreign, new) and hands what is new to a
//!   [`Writer`]. It is the same for every backend.
//! - [`tail`] folds steps into what has been reached.
//!
//! The module never looks into events: definitions and data are opaque frames.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Frame, Position};
use crate::sys::Vfs;

mod chunks;
pub mod dir;
pub mod intake;
#[cfg(feature = "nats")]
pub mod nats;
mod records;
pub mod sqlite;
pub mod tail;

pub use tail::Tail;

/// The channel of whoever names none.
pub const DEFAULT_CHANNEL: &str = "default";
/// Longest name of a channel or reader, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// A place in a queue: a unit and what the source had reached with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The unit's sequence number; 0 is the place before the first.
    pub sequence: u64,
    /// The position reached: the transaction's, or for other units one whose start and end are what was reached.
    pub position: Position,
}

/// What a backend can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Whether an acknowledged unit survives the loss of power. Where not, the source may forget only what the
    /// target has committed.
    pub ack_survives_power_loss: bool,
    /// Whether a unit can be read once it is whole, before it is synced. Where not, both happen at once.
    pub readable_before_sync: bool,
}

/// One channel of a queue. Every method may be called from any thread and any process at any time.
pub trait Queue: Debug + Send + Sync {
    /// Address and channel for messages.
    fn name(&self) -> String;

    /// What the backend promises.
    fn properties(&self) -> Properties;

    /// What is durable. What a killed writer left behind is made durable first, if no writer is at work.
    fn tail(&self) -> Result<Tail>;

    /// Takes the channel's writer lock; [`Class::TryAgain`] when another process keeps it longer than
    /// `options.lock_wait`.
    fn writer(&self, options: &WriterOptions) -> Result<Box<dyn Writer>>;

    /// Reads whole units from a place on. [`Class::Gap`] when that place was purged, [`Class::Identity`] when the queue
    /// holds another transaction there.
    fn reader(&self, from: &ReadFrom, mode: ReadMode) -> Result<Box<dyn Reader>>;

    /// Where a transaction is held; `None` when it is not.
    fn locate(&self, position: &Position) -> Result<Option<Mark>>;

    /// Registers a reader durably; from here on purge keeps what it has not acknowledged. Registering again changes nothing and
    /// returns what is known of it.
    fn register(&self, reader: &str) -> Result<ReaderState>;

    /// Records durably that `reader` needs nothing up to and including `mark`. May also step back, to what its target
    /// really holds, as long as the queue still holds it ([`Class::Gap`] else). Of a unit that is not durable here yet nothing is recorded: whoever
    /// acknowledges does so again, at the latest when it starts the next time.
    fn ack(&self, reader: &str, mark: &Mark) -> Result<()>;

    /// Keeps the unit `sequence` for `reader` beyond its acknowledgement (a prepared XA group), or lets go of it.
    fn pin(&self, reader: &str, sequence: u64, keep: bool) -> Result<()>;

    /// The registered readers, by name.
    fn readers(&self) -> Result<Vec<ReaderState>>;

    /// Forgets a reader.
    fn unregister(&self, reader: &str) -> Result<()>;

    /// Removes what every registered reader has acknowledged; nothing when none is registered. The last record stays.
    fn purge(&self, dry_run: bool) -> Result<Purged>;

    /// What can be told without changing anything.
    fn status(&self) -> Result<Status>;

    /// Checks every byte; each error goes to `finding`. Returns what was seen whole.
    fn verify(&self, finding: &mut dyn FnMut(Error)) -> Result<Verified>;

    /// Forgets the channel's units and readers.
    fn reset(&self, lock_wait: Duration) -> Result<()>;

    /// The database file that holds the queue's tables, if it is one.
    fn database(&self) -> Option<&Path> {
        None
    }

    /// Acknowledges and purges within the open transaction of a connection to [`Queue::database`], which the caller lends and commits.
    fn ack_within(&self, connection: &rusqlite::Connection, reader: &str, mark: &Mark) -> Result<()> {
        let _ = (connection, reader, mark);
        Err(Error::new(Class::Bug, format!("{} is in no database", self.name())))
    }

    /// What a person should know before trusting this queue, for `--check`.
    fn remarks(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// How a writer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// A unit of storage is closed when it exceeds this many bytes.
    pub segment_bytes: u64,
    /// Whether to purge what all registered readers have acknowledged.
    pub purge: bool,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { lock_wait: Duration::ZERO, segment_bytes: 64 << 20, purge: true }
    }
}

/// The one writer of a channel. Judgement is [`intake`]'s; this only stores.
///
/// After an error of `append` or `sync` the writer is poisoned: every further call fails. Open a new one, which
/// recovers.
pub trait Writer: Debug + Send {
    /// What the queue held when this writer was opened, all of it durable.
    fn tail(&self) -> &Tail;

    /// The live definition with this key, if it is exactly `payload`.
    fn has_definition(&self, key: u64, payload: &[u8]) -> bool;

    /// Keeps a definition as live, to be repeated where storage must read alone. The frame itself is appended as well.
    fn keep_definition(&mut self, key: u64, payload: &[u8]);

    /// Stores frames: one or more whole frames with salt 0, whose salt may be rewritten in place.
    fn append(&mut self, frames: &mut [u8]) -> Result<()>;

    /// Everything appended so far is whole units, and `tail` is what they reach.
    fn boundary(&mut self, tail: &Tail) -> Result<()>;

    /// Whether a boundary would be welcome once `bytes` more are appended, so that units of storage stay bounded.
    fn wants_boundary(&self, bytes: u64) -> bool;

    /// Makes everything up to the last boundary durable and readable. Only now may it be acknowledged.
    fn sync(&mut self) -> Result<()>;

    /// Starts to make everything up to the last boundary durable, while more is appended. It counts once [`Writer::finish_sync`] has
    /// returned. A backend that cannot do that does all of it now.
    fn start_sync(&mut self) -> Result<()> {
        self.sync()
    }

    /// Whether [`Writer::finish_sync`] returns at once.
    fn is_synced(&mut self) -> bool {
        true
    }

    /// Waits for what was started. Nothing happens when nothing was.
    fn finish_sync(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether registered readers see what is appended before it is synced.
    fn has_early_readers(&self) -> bool {
        false
    }

    /// Bytes appended that neither are synced nor are being synced.
    fn unsynced_bytes(&self) -> u64;

    /// The position under which the transaction `txid` is held; `None` when it is not (never was, or purged). Fast
    /// when asked in ascending order.
    fn held(&mut self, txid: Coordinate) -> Result<Option<Position>>;

    /// Bytes that the channel occupies.
    fn used_bytes(&self) -> u64;

    /// Tries to make room by purging; returns whether everything that is left is one record that nobody needs.
    fn make_room(&mut self) -> Result<bool>;

    /// Tells `status` why the writer waits; `None`: it goes on.
    fn waiting(&mut self, why: Option<&str>) -> Result<()>;

    /// Syncs and marks the channel as cleanly closed.
    fn close(&mut self) -> Result<()>;
}

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest unit that is held.
    Oldest,
    /// Behind everything that is done once this position is reached. The transaction is compared if it is held; a position
    /// beyond the end waits for what comes behind it.
    After(Position),
    /// Like `After`, from a bare coordinate of the current life of the source: units that end at or before it are done.
    AfterCoordinate(Coordinate),
    /// Behind the unit with this number.
    AfterSequence(u64),
    /// Behind what this registered reader has acknowledged.
    Acknowledged(String),
}

/// How far reading goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadMode {
    /// Wait for more at the end, instead of stopping at the end as it is now.
    pub follow: bool,
    /// With `follow`: [`Next::Idle`] is returned at once when there is nothing more, and then each time that nothing came
    /// for this long.
    pub idle: Duration,
}

impl ReadMode {
    /// Up to the end as it is now.
    pub const ONCE: ReadMode = ReadMode { follow: false, idle: Duration::ZERO };
    /// For ever; idle after half a second.
    pub const FOLLOW: ReadMode = ReadMode { follow: true, idle: Duration::from_millis(500) };
}

/// What a reader gives.
#[derive(Debug)]
pub enum Next<'a> {
    /// A frame of a unit that is whole; or a stream header or definition that what follows needs.
    Frame(Frame<'a>),
    /// Nothing came for a while (follow).
    Idle,
    /// The end as it was when reading began (not with follow).
    End,
}

/// Reads whole units in order.
///
/// The first frame is a `stream` header whose start is what had been reached before the first unit; the definitions
/// that are live there follow, then units. A frame's checksums and a transaction's counts are checked as it goes by, so an error
/// may come in the middle of a transaction, and never after its commit. `Frame::at` is the offset in the file that
/// [`Reader::place`] names. Headers carry the salt of their segment; [`write_frame`] writes salt 0.
pub trait Reader: Debug + Send {
    /// The next frame.
    #[allow(clippy::should_implement_trait)]
    fn next(&mut self) -> Result<Next<'_>>;

    /// The last unit that was delivered to its end (or the place where reading began).
    fn mark(&self) -> Mark;

    /// Name of the file or place that is being read, for messages.
    fn place(&self) -> String;

    /// Bytes between here and the end as it is now, about.
    fn remaining_bytes(&self) -> u64;
}

/// A registered reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderState {
    /// Its name: the target's UUID, or what a person chose.
    pub name: String,
    /// What it has acknowledged; sequence 0 means nothing.
    pub acked: Mark,
    /// Units kept for it beyond that.
    pub pins: Vec<u64>,
    /// When it last acknowledged, microseconds since 1970 UTC.
    pub time_us: i64,
}

impl ReaderState {
    /// The first unit that it still needs.
    pub fn needs(&self) -> u64 {
        self.pins.iter().copied().min().unwrap_or(u64::MAX).min(self.acked.sequence.saturating_add(1))
    }
}

/// What purge did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Files.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// What verify saw whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Transactions that are whole.
    pub transactions: u64,
    /// Errors reported.
    pub errors: u64,
}

/// The state of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What is written whole.
    pub tail: Tail,
    /// Sequence number of the oldest unit held.
    pub first_sequence: u64,
    /// Sequence number of the last unit known to be synced.
    pub synced_sequence: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that the file system (or the stream) has left; `u64::MAX`: not known.
    pub free_bytes: u64,
    /// Whether a writer is at work.
    pub writing: bool,
    /// Whether the last writer ended without closing.
    pub unclean: bool,
    /// Why the writer waits; empty when it does not.
    pub waiting: String,
    /// Epoch of the last writer.
    pub epoch: u64,
    /// The readers.
    pub readers: Vec<ReaderState>,
}

/// Where a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory.
    Dir(PathBuf),
    /// Tables in a SQLite database.
    Sqlite(PathBuf),
    /// Streams of NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(Box<nats::NatsAddress>),
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or("");
        match scheme {
            _ if text.is_empty() => Err(Error::usage("the queue's address is empty")),
            "dir" => Ok(Address::Dir(PathBuf::from(&text["dir:".len()..]))),
            "sqlite" if text == "sqlite:" => Err(Error::usage("sqlite: needs a path")),
            "sqlite" => Ok(Address::Sqlite(PathBuf::from(&text["sqlite:".len()..]))),
            #[cfg(feature = "nats")]
            "nats" => Ok(Address::Nats(Box::new(text.parse()?))),
            #[cfg(not(feature = "nats"))]
            "nats" => Err(Error::new(Class::Unavailable, "queues on JetStream are not built into this rlog")
                .hint("build it with the feature `nats`, or use a directory: `dir:PATH`")),
            "mysql" | "postgres" => Err(Error::usage(format!("`{scheme}:` is no place for a queue"))
                .hint("QUEUE is a directory, `PATH` or `dir:PATH`, or `sqlite:PATH`, or `nats://HOST/STREAM`")),
            _ => Ok(Address::Dir(PathBuf::from(text))),
        }
    }
}

/// Opens the channel of a queue. With `create`, a queue of which only the last path component is missing, and a channel that is
/// missing, are created; without, that is [`Class::NoInput`].
pub fn open(vfs: Arc<dyn Vfs>, address: &Address, channel: &str, create: bool) -> Result<Box<dyn Queue>> {
    match address {
        Address::Dir(path) => Ok(Box::new(dir::DirQueue::open(vfs, path, channel, create)?)),
        #[cfg(feature = "nats")]
        Address::Nats(address) => Ok(Box::new(nats::NatsQueue::open(address, channel, create)?)),
        Address::Sqlite(path) => Ok(Box::new(sqlite::SqliteQueue::open(vfs, path, channel, create)?)),
    }
}

/// What whoever decides where to begin has to know: all that is whole in the queue, once it is durable.
///
/// A writer that was killed may leave units that are whole and not vouched for. The next writer's recovery takes them; until it has done so,
/// [`Queue::tail`] knows nothing of them. Who began anew on its word would bring them a second time: a second first snapshot. So this waits until
/// everything whole that can be seen now is durable, for `patience` at most ([`Class::TryAgain`]). What is torn is not waited for.
pub fn settled(queue: &dyn Queue, patience: Duration) -> Result<Tail> {
    const PAUSE: Duration = Duration::from_millis(2);
    let started = std::time::Instant::now();
    let mut whole = None;
    loop {
        let looked = match whole {
            None if queue.properties().readable_before_sync => queue.status().map(|status| status.tail.sequence),
            known => Ok(known.unwrap_or(0)),
        };
        let found = looked.and_then(|sequence| {
            whole = Some(sequence);
            Ok(Some(queue.tail()?).filter(|tail| tail.sequence >= sequence))
        });
        match found {
            Ok(Some(tail)) => return Ok(tail),
            Ok(None) if started.elapsed() < patience => {}
            Ok(None) => {
                return Err(Error::new(Class::TryAgain, "the queue holds what its writer has not made durable")
                    .in_file(queue.name())
                    .hint("run the same command again once the writer has got on, or has ended"));
            }
            Err(error) if error.class() == Class::TryAgain && started.elapsed() < patience => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(PAUSE);
    }
}

/// What a source may forget on this queue's word: what it holds durably; where its acknowledgements do not survive the loss of power, only
/// what every registered reader has acknowledged (and nothing while there is none). Nothing while a snapshot in it is not whole.
pub fn forgettable(queue: &dyn Queue) -> Result<Option<Position>> {
    let tail = queue.tail()?;
    if tail.snapshot.as_ref().is_some_and(|snapshot| !snapshot.complete) {
        return Ok(None);
    }
    if queue.properties().ack_survives_power_loss {
        return Ok(tail.position());
    }
    let slowest = queue.readers()?.into_iter().map(|reader| reader.acked).min_by_key(|acked| acked.sequence);
    Ok(slowest.filter(|acked| acked.sequence > 0).map(|acked| acked.position))
}

/// The channels of a queue, sorted.
pub fn channels(vfs: Arc<dyn Vfs>, address: &Address) -> Result<Vec<String>> {
    match address {
        Address::Dir(path) => dir::channels(&*vfs, path),
        #[cfg(feature = "nats")]
        Address::Nats(address) => nats::channels(address),
        Address::Sqlite(path) => sqlite::channels(&*vfs, path),
    }
}

/// Whoever only looks at a channel (`status`, `last`, `verify`) tries its writer's lock and so holds it for an instant. A writer waits at least so long, or it
/// would end because somebody had a look.
const LOOK_WAIT: std::time::Duration = std::time::Duration::from_millis(250);

/// Folds and checks the name of a channel or reader: lower case, `[a-z0-9_-]{1,63}`, so that it never is a path.
pub fn fold_name(what: &str, name: &str) -> Result<String> {
    let folded = name.to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if folded.is_empty() || folded.len() > NAME_BYTES_MAX || !folded.bytes().all(plain) {
        return Err(Error::usage(format!("{name:?} is no name for a {what}"))
            .hint(format!("use 1 to {NAME_BYTES_MAX} letters, digits, `_` or `-`")));
    }
    Ok(folded)
}

/// Appends a frame to `out` as it stands in a stream, with salt 0.
pub fn write_frame(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let header = crate::frame::Header { salt: 0, ..frame.header };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(frame.payload);
}
