//! A queue in tables of a SQLite database: a file of its own, or the database of a target.
//!
//! ```text
//! rlog_queue               one row: the queue's UUID and layout
//! rlog_queue_channel       a row a channel: epoch, the last whole record, what was reached with it
//! rlog_queue_record        the index of the records: their units and what was reached before them
//! rlog_queue_frames        the records' bytes, in one piece or several
//! rlog_queue_live          definitions and stream headers, by the record that brought them
//! rlog_queue_transaction   what each commit frame says, for plain SQL and for repeats
//! rlog_queue_reader        what each reader has acknowledged and pinned
//! PATH-rlog-queue-CHANNEL.lock   held by the one writer of the channel; never removed
//! ```
//!
//! A unit is readable and durable at the same instant: with the commit of the SQLite transaction that raises the
//! channel's `record` to the one that holds it (write-ahead log, synchronous=FULL). Records are described in
//! [`super::records`], the writer's transactions in [`writer`].
//!
//! Triggers refuse writes of everybody whose connection has them on, which is everybody but rlog.
//!
//! **In a target's database** an applier lends its connection: the acknowledgement of what it applies, and the removal of
//! what no reader needs any more, are part of the transaction that applies it ([`super::Queue::ack_within`]).
//!
//! Promises what the directory promises. Assumes that SQLite keeps its own.

mod log;
mod readers;
mod schema;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::frame::Position;
use crate::sys::Vfs;
use crate::sys::vfs::{self, Lock};

use super::records::{self, LogReader};
use super::{
    Mark, Properties, Purged, Queue, ReadFrom, ReadMode, Reader, ReaderState, Status, Tail, Verified, Writer,
    WriterOptions,
};
use log::{Place, SqliteLog};
pub(super) use schema::channels;

/// Whether `path` is a database that rlog-queue created, by its application id. It is opened and closed here: not for a file to which this
/// process has a connection, whose locks would be lost with it.
pub fn created(path: &Path) -> bool {
    use std::io::Read as _;
    /// Where the application id stands in the header of a database, big-endian: https://sqlite.org/fileformat2.html#application_id
    const APPLICATION_ID_AT: usize = 68;
    let mut head = [0; APPLICATION_ID_AT + 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"SQLite format 3\0") && head.ends_with(&schema::APPLICATION_ID.to_be_bytes())
}

/// One channel of a queue in a database.
pub struct SqliteQueue {
    vfs: Arc<dyn Vfs>,
    place: Place,
    connection: Mutex<rusqlite::Connection>,
}

impl std::fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteQueue").field("place", &self.place).finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// Opens the channel; see [`super::open`].
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, channel: &str, create: bool) -> Result<SqliteQueue> {
        let opened = schema::open(&*vfs, path, channel, create)?;
        let channel = super::fold_name("channel", channel)?;
        let place = log::place(path, &channel, opened.channel, opened.uuid);
        Ok(SqliteQueue { vfs, place, connection: Mutex::new(opened.connection) })
    }

    // A transaction that a panic left open was rolled back when its guard was dropped.
    fn connection(&self) -> MutexGuard<'_, rusqlite::Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> Result<T>) -> Result<T> {
        schema::write(&self.connection(), &self.place.file, work)
    }

    /// The writer's lock.
    fn lock(&self, wait: Option<Duration>) -> Result<Option<Lock>> {
        let (parent, name) = schema::split(&self.place.path)?;
        let file = format!("{name}-rlog-queue-{}.lock", self.place.channel);
        let shown = || parent.join(&file).display().to_string();
        let dir = self.vfs.open_dir(parent).map_err(|error| Error::io(shown(), error))?;
        let lock = match wait {
            Some(wait) => vfs::lock(&*dir, &file, wait.max(super::LOOK_WAIT)),
            None => dir.try_lock(&file),
        };
        match lock.map_err(|error| Error::io(shown(), error))? {
            None if wait.is_some() => Err(Error::new(Class::TryAgain, "another process is writing to this channel")
                .in_file(shown())
                .hint("wait for it with `--lock-wait SECONDS`, or look for it with `fuser`")),
            lock => Ok(lock),
        }
    }

    fn log(&self, follow: bool) -> Result<SqliteLog> {
        SqliteLog::open(&*self.vfs, &self.place, follow)
    }
}

impl Queue for SqliteQueue {
    fn name(&self) -> String {
        self.place.name.clone()
    }

    fn properties(&self) -> Properties {
        Properties { ack_survives_power_loss: true, readable_before_sync: false }
    }

    fn tail(&self) -> Result<Tail> {
        let row = self.place.row(&self.connection())?;
        if !row.clean
            && let Some(_lock) = self.lock(None)?
        {
            writer::settle_and_leave(&self.connection(), &self.place)?;
        }
        let connection = self.connection();
        let view = connection.unchecked_transaction();
        let view = self.place.fold(view)?;
        let row = self.place.row(&view)?;
        self.place.tail(&view, &row)
    }

    fn writer(&self, options: &WriterOptions) -> Result<Box<dyn Writer>> {
        let lock = self.lock(Some(options.lock_wait))?;
        let lock = lock.ok_or_else(|| Error::new(Class::TryAgain, "the channel is locked"))?;
        Ok(Box::new(writer::SqliteWriter::open(&self.vfs, &self.place, lock, options)?))
    }

    fn reader(&self, from: &ReadFrom, mode: ReadMode) -> Result<Box<dyn Reader>> {
        let from = match from {
            ReadFrom::Acknowledged(name) => {
                let state = readers::known(&self.connection(), &self.place, name)?;
                if state.acked.sequence == 0 { ReadFrom::Oldest } else { ReadFrom::AfterSequence(state.acked.sequence) }
            }
            other => other.clone(),
        };
        Ok(Box::new(LogReader::open(self.log(mode.follow)?, &from, mode)?))
    }

    fn locate(&self, position: &Position) -> Result<Option<Mark>> {
        records::locate(self.log(false)?, position)
    }

    fn register(&self, reader: &str) -> Result<ReaderState> {
        self.write(|connection| readers::register(connection, &self.place, reader))
    }

    fn ack(&self, reader: &str, mark: &Mark) -> Result<()> {
        self.write(|connection| readers::ack(connection, &self.place, reader, mark))
    }

    fn pin(&self, reader: &str, sequence: u64, keep: bool) -> Result<()> {
        self.write(|connection| readers::pin(connection, &self.place, reader, sequence, keep))
    }

    fn readers(&self) -> Result<Vec<ReaderState>> {
        readers::all(&self.connection(), &self.place)
    }

    fn unregister(&self, reader: &str) -> Result<()> {
        self.write(|connection| readers::unregister(connection, &self.place, reader))
    }

    fn purge(&self, dry_run: bool) -> Result<Purged> {
        if dry_run {
            return Ok(readers::purgeable(&self.connection(), &self.place)?.0);
        }
        let purged = self.write(|connection| readers::purge(connection, &self.place))?;
        if !purged.files.is_empty() {
            // Pages that are free go back to the file system, where the file was made for that.
            let connection = self.connection();
            let vacuum = connection.prepare("PRAGMA main.incremental_vacuum").and_then(|mut statement| {
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            self.place.fold(vacuum)?;
        }
        Ok(purged)
    }

    fn status(&self) -> Result<Status> {
        let writing = self.lock(None)?.is_none();
        let (parent, _) = schema::split(&self.place.path)?;
        let free_bytes = self.vfs.open_dir(parent).and_then(|dir| dir.free_bytes());
        let free_bytes = free_bytes.map_err(|error| Error::io(&self.place.file, error))?;
        let connection = self.connection();
        let view = connection.unchecked_transaction();
        let view = self.place.fold(view)?;
        let row = self.place.row(&view)?;
        let tail = self.place.tail(&view, &row)?;
        Ok(Status {
            first_sequence: self.place.first_sequence(&view)?,
            synced_sequence: tail.sequence,
            tail,
            files: 1,
            bytes: self.place.bytes(&view, 0)?,
            free_bytes,
            writing,
            unclean: !row.clean && !writing,
            waiting: if writing { row.waiting } else { String::new() },
            epoch: row.epoch,
            readers: readers::all(&view, &self.place)?,
        })
    }

    fn verify(&self, finding: &mut dyn FnMut(Error)) -> Result<Verified> {
        check::verify(self, finding)
    }

    fn reset(&self, lock_wait: Duration) -> Result<()> {
        let _lock = self.lock(Some(lock_wait))?;
        self.write(|connection| schema::reset(connection, &self.place))
    }

    fn database(&self) -> Option<&Path> {
        Some(&self.place.path)
    }

    fn ack_within(&self, connection: &rusqlite::Connection, reader: &str, mark: &Mark) -> Result<()> {
        use rusqlite::config::DbConfig;
        let fire = self.place.fold(connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER))?;
        let set = |on: bool| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on);
        if fire {
            self.place.fold(set(false))?;
        }
        let acked = readers::ack(connection, &self.place, reader, mark)
            .and_then(|()| readers::purge(connection, &self.place).map(drop));
        if fire {
            self.place.fold(set(true))?;
        }
        acked
    }
}

mod check;
