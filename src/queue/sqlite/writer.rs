//! The writer of a channel.
//!
//! What is whole goes into the tables in one transaction, at [`Writer::sync`] or when 4 MiB wait; with its commit it is both
//! readable and durable. A unit larger than that goes ahead in pieces, in transactions of their own, into a record whose
//! number is above the channel's last one: nobody sees them, and the next writer removes them if its unit never ends.
//!
//! The first transaction of a writer raises the epoch, each further one requires it: a writer that was overtaken can
//! store nothing more. It is raised at once when a writer was killed, together with the removal of what it left.

use std::sync::Arc;

use crate::db::sqlite::Access;
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Kind, Position};
use crate::sys::vfs::{Lock, Vfs};

use super::super::records::{Behind, Gather, Record, state_frame};
use super::super::{ReaderState, Tail, Writer, WriterOptions};
use super::log::{Place, overtaken};
use super::readers;
use super::schema::{self, failed, ordered};

/// A record is finished when it has this many bytes.
const RECORD_BYTES: u64 = 256 << 10;
/// Bytes that wait in memory before they are stored.
const WAITING_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a piece of a unit that is still open.
const PIECE_BYTES: usize = 1 << 20;

/// See the module's head.
pub(super) struct SqliteWriter {
    connection: rusqlite::Connection,
    place: Place,
    _lock: Lock,
    purge: bool,
    /// The tail at opening.
    opened: Tail,
    gather: Gather,
    /// Our epoch, and whether it stands in the database.
    epoch: u64,
    raised: bool,
    used_bytes: u64,
    poisoned: Option<(Class, String)>,
    waiting: bool,
}

impl std::fmt::Debug for SqliteWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteWriter").field("place", &self.place).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SqliteWriter {
    pub fn open(_vfs: &Arc<dyn Vfs>, place: &Place, lock: Lock, options: &WriterOptions) -> Result<SqliteWriter> {
        let connection = schema::connect(&place.path, Access::Write)?;
        let raised = settle(&connection, place)?;
        let row = place.row(&connection)?;
        let tail = place.tail(&connection, &row)?;
        let definitions = place.definitions(&connection, row.record + 1)?;
        let used_bytes = place.bytes(&connection, 0)?;
        let epoch = if raised { row.epoch } else { row.epoch + 1 };
        let gather = Gather::new(
            place.uuid,
            &place.channel,
            epoch,
            options.segment_bytes.min(RECORD_BYTES),
            Behind { record: row.record, previous: row.previous, tail: tail.clone(), definitions },
        );
        Ok(SqliteWriter {
            connection,
            place: place.clone(),
            _lock: lock,
            purge: options.purge,
            opened: tail,
            gather,
            epoch,
            raised,
            used_bytes,
            poisoned: None,
            waiting: false,
        })
    }

    fn check(&self) -> Result<()> {
        match &self.poisoned {
            Some((class, why)) => Err(Error::new(*class, format!("the queue's writer stopped after an error: {why}"))
                .in_file(&self.place.name)
                .hint("run the same command again: what was acknowledged is safe")),
            None => Ok(()),
        }
    }

    /// One transaction of ours: raises the epoch or requires it, then does `work`.
    fn transaction(
        &mut self,
        work: impl FnOnce(&rusqlite::Connection, &Place, &mut Gather) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let (place, gather) = (&self.place, &mut self.gather);
        let required = if self.raised { self.epoch } else { self.epoch - 1 };
        let result = schema::write(&self.connection, &place.file, |connection| {
            let held = place.fold(
                connection
                    .prepare_cached("UPDATE main.rlog_queue_channel SET epoch=?3, clean=0 WHERE id=?1 AND epoch=?2")
                    .and_then(|mut statement| statement.execute((place.id, required as i64, self.epoch as i64))),
            )?;
            if held != 1 {
                return Err(overtaken(&place.name));
            }
            work(connection, place, gather)
        });
        match result {
            Ok(()) => {
                self.raised = true;
                Ok(())
            }
            Err(error) => {
                self.poisoned.get_or_insert_with(|| (error.class(), error.to_string()));
                Err(error)
            }
        }
    }

    /// Stores the records that are finished.
    fn store(&mut self) -> Result<()> {
        if !self.gather.has_finished() {
            return self.check();
        }
        let mut stored = 0;
        self.transaction(|connection, place, gather| {
            while let Some(record) = gather.take_record() {
                stored += record.length;
                store_record(connection, place, record)?;
            }
            Ok(())
        })?;
        self.used_bytes += stored;
        if self.purge { self.purge() } else { Ok(()) }
    }

    fn purge(&mut self) -> Result<()> {
        let place = &self.place;
        if readers::purgeable(&self.connection, place)?.0.files.is_empty() {
            return Ok(());
        }
        let purged = schema::write(&self.connection, &place.file, |connection| readers::purge(connection, place))?;
        self.used_bytes = self.used_bytes.saturating_sub(purged.bytes);
        Ok(())
    }

    /// Stores what can be, so that memory stays bounded.
    fn relieve(&mut self) -> Result<()> {
        if self.gather.waiting_bytes() < WAITING_BYTES_MAX {
            return Ok(());
        }
        self.gather.finish();
        self.store()?;
        while self.gather.waiting_bytes() >= WAITING_BYTES_MAX {
            self.transaction(|connection, place, gather| {
                for _ in 0..WAITING_BYTES_MAX as usize / PIECE_BYTES {
                    let (record, piece, bytes) = gather.take_piece(PIECE_BYTES);
                    store_piece(connection, place, record, piece, &bytes)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Makes good what a killed writer left; the caller holds the lock. Returns whether that raised the epoch.
fn settle(connection: &rusqlite::Connection, place: &Place) -> Result<bool> {
    let row = place.row(connection)?;
    let left = place.number(
        connection,
        "SELECT 1 FROM main.rlog_queue_frames WHERE channel=?1 AND record>?2 LIMIT 1",
        (place.id, row.record as i64),
    )?;
    if row.clean && left.is_none() {
        return Ok(false);
    }
    // Its commit also syncs what a killed writer committed and perhaps did not sync.
    schema::write(connection, &place.file, |connection| {
        let run = || -> rusqlite::Result<()> {
            connection.execute(
                "UPDATE main.rlog_queue_channel SET epoch=epoch+1, clean=0, waiting='' WHERE id=?1",
                [place.id],
            )?;
            connection.execute(
                "DELETE FROM main.rlog_queue_frames WHERE channel=?1 AND record>?2",
                (place.id, row.record as i64),
            )?;
            Ok(())
        };
        run().map_err(|error| failed(&place.file, &error))
    })?;
    Ok(true)
}

/// For whoever does not write: as [`settle`], and the channel is in good order again.
pub(super) fn settle_and_leave(connection: &rusqlite::Connection, place: &Place) -> Result<()> {
    if settle(connection, place)? {
        schema::write(connection, &place.file, |connection| {
            place.fold(connection.execute("UPDATE main.rlog_queue_channel SET clean=1 WHERE id=?1", [place.id]))
        })?;
    }
    Ok(())
}

fn store_piece(connection: &rusqlite::Connection, place: &Place, record: u64, piece: u64, bytes: &[u8]) -> Result<()> {
    let stored = connection
        .prepare_cached("INSERT INTO main.rlog_queue_frames (channel, record, piece, bytes) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut statement| statement.execute((place.id, record as i64, piece as i64, bytes)));
    place.fold(stored).map(drop)
}

fn store_record(connection: &rusqlite::Connection, place: &Place, record: Record) -> Result<()> {
    store_piece(connection, place, record.number, record.pieces, &record.bytes)?;
    let rows = || -> rusqlite::Result<()> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO main.rlog_queue_record (channel, record, first_sequence, last_sequence, server, reached, pieces, length) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute((
            place.id,
            record.number as i64,
            record.first_sequence as i64,
            record.tail.sequence as i64,
            i64::from(record.server),
            record.reached.map(ordered),
            record.pieces as i64 + 1,
            record.length as i64,
        ))?;
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO main.rlog_queue_live (channel, kind, key, record, frame) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for live in &record.live {
            insert.execute((place.id, live.kind as i64, live.key as i64, record.number as i64, &live.bytes))?;
        }
        let mut insert = connection.prepare_cached(
            "INSERT INTO main.rlog_queue_transaction (channel, sequence, txid, kind, position, time_us, inserts, updates, deletes, \
             statements, tables, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for transaction in &record.transactions {
            let commit = &transaction.commit;
            let sum = |count: fn(&crate::frame::TableCount) -> u64| commit.tables.iter().map(count).sum::<u64>() as i64;
            insert.execute((
                place.id,
                transaction.sequence as i64,
                ordered(transaction.position.txid),
                if transaction.kind == Kind::Prepared { "prepared" } else { "commit" },
                transaction.position.to_string(),
                commit.time_us,
                sum(|table| table.inserts),
                sum(|table| table.updates),
                sum(|table| table.deletes),
                commit.statements as i64,
                counts(commit),
                transaction.bytes as i64,
            ))?;
        }
        let mut update = connection.prepare_cached(
            "UPDATE main.rlog_queue_channel SET record=?2, sequence=?3, length=?4, digest=?5, state=?6 WHERE id=?1",
        )?;
        update.execute((
            place.id,
            record.number as i64,
            record.tail.sequence as i64,
            record.length as i64,
            record.digest as i64,
            state_frame(&record.behind(place.uuid, &place.channel, 0)),
        ))?;
        Ok(())
    };
    rows().map_err(|error| failed(&place.file, &error))
}

/// Rows per table, as JSON, by the key of the table's definition.
fn counts(commit: &crate::frame::Commit) -> String {
    let tables = commit.tables.iter().map(|table| {
        serde_json::json!({
            "key": format!("{:016x}", table.key),
            "inserts": table.inserts, "updates": table.updates, "deletes": table.deletes,
        })
    });
    serde_json::Value::Array(tables.collect()).to_string()
}

impl Writer for SqliteWriter {
    fn tail(&self) -> &Tail {
        &self.opened
    }

    fn has_definition(&self, key: u64, payload: &[u8]) -> bool {
        self.gather.has_definition(key, payload)
    }

    fn keep_definition(&mut self, key: u64, payload: &[u8]) {
        self.gather.keep_definition(key, payload);
    }

    fn append(&mut self, frames: &mut [u8]) -> Result<()> {
        self.check()?;
        self.gather.append(frames)?;
        self.relieve()
    }

    fn boundary(&mut self, tail: &Tail) -> Result<()> {
        self.check()?;
        let (record, pieces) = self.gather.open_record();
        if self.gather.boundary(tail)? && pieces > 0 {
            self.transaction(|connection, place, _| {
                let gone = connection.execute(
                    "DELETE FROM main.rlog_queue_frames WHERE channel=?1 AND record=?2",
                    (place.id, record as i64),
                );
                place.fold(gone).map(drop)
            })?;
        }
        self.relieve()
    }

    fn wants_boundary(&self, bytes: u64) -> bool {
        self.gather.record_len() + bytes >= self.gather.record_bytes()
    }

    fn sync(&mut self) -> Result<()> {
        self.gather.finish();
        self.store()
    }

    fn unsynced_bytes(&self) -> u64 {
        self.gather.waiting_bytes()
    }

    fn held(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        match self.gather.held(txid) {
            Some(position) => Ok(Some(position)),
            None => self.place.held(&self.connection, txid),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.used_bytes + self.gather.waiting_bytes()
    }

    fn make_room(&mut self) -> Result<bool> {
        self.sync()?;
        let readers = readers::all(&self.connection, &self.place)?;
        let needed = readers.iter().map(ReaderState::needs).min().unwrap_or(0);
        self.purge()?;
        self.used_bytes = self.place.bytes(&self.connection, 0)?;
        Ok(needed > self.gather.tail().sequence)
    }

    fn waiting(&mut self, why: Option<&str>) -> Result<()> {
        if why.is_none() && !self.waiting {
            return Ok(());
        }
        self.waiting = why.is_some();
        let why = why.unwrap_or("").to_owned();
        self.transaction(|connection, place, _| {
            place
                .fold(connection.execute("UPDATE main.rlog_queue_channel SET waiting=?2 WHERE id=?1", (place.id, &why)))
                .map(drop)
        })
    }

    fn close(&mut self) -> Result<()> {
        self.waiting(None)?;
        self.gather.finish();
        self.check()?;
        if !self.raised && !self.gather.has_finished() {
            return Ok(());
        }
        let mut stored = 0;
        self.transaction(|connection, place, gather| {
            while let Some(record) = gather.take_record() {
                stored += record.length;
                store_record(connection, place, record)?;
            }
            let (record, pieces) = gather.open_record();
            if pieces > 0 {
                let gone = connection.execute(
                    "DELETE FROM main.rlog_queue_frames WHERE channel=?1 AND record>=?2",
                    (place.id, record as i64),
                );
                place.fold(gone)?;
            }
            place
                .fold(connection.execute("UPDATE main.rlog_queue_channel SET clean=1 WHERE id=?1", [place.id]))
                .map(drop)
        })?;
        self.used_bytes += stored;
        if self.purge { self.purge() } else { Ok(()) }
    }
}
