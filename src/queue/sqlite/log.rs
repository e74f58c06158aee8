//! The records of a channel as a [`Log`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::OptionalExtension as _;

use crate::db::sqlite::Access;
use crate::error::{Class, Error, Result};
use crate::frame::{Kind, Position, Segment, StreamHeader};
use crate::sys::vfs::{Vfs, Watch};

use super::super::records::{Log, Start, damaged, purged, read_state};
use super::super::{ReadFrom, Tail};
use super::schema::{self, failed, ordered};

/// A connection of its own, for one reader.
#[derive(Debug)]
pub(super) struct SqliteLog {
    connection: rusqlite::Connection,
    place: Place,
    watch: Option<Box<dyn Watch>>,
    /// The record that [`Log::next`] went to, its pieces, and the next of them.
    record: u64,
    pieces: u64,
    piece: u64,
}

/// What names a channel.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    /// The database, for messages about the engine.
    pub file: String,
    /// Database and channel.
    pub name: String,
    pub channel: String,
    /// Row of the channel.
    pub id: i64,
    pub uuid: [u8; 16],
}

/// The row of a channel.
#[derive(Clone, Debug)]
pub(super) struct ChannelRow {
    pub epoch: u64,
    pub clean: bool,
    /// The last whole record; what is numbered above was left by a killed writer.
    pub record: u64,
    pub sequence: u64,
    pub low: u64,
    /// Length and digest of the last record.
    pub previous: (u64, u64),
    pub state: Vec<u8>,
    pub waiting: String,
}

impl Place {
    pub fn fold<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|error| failed(&self.file, &error))
    }

    /// Reads the channel's row.
    pub fn row(&self, connection: &rusqlite::Connection) -> Result<ChannelRow> {
        let row = connection
            .prepare_cached(
                "SELECT epoch, clean, record, sequence, low, length, digest, state, waiting FROM main.rlog_queue_channel WHERE id=?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([self.id], |row| {
                        Ok(ChannelRow {
                            epoch: row.get::<_, i64>(0)? as u64,
                            clean: row.get(1)?,
                            record: row.get::<_, i64>(2)? as u64,
                            sequence: row.get::<_, i64>(3)? as u64,
                            low: row.get::<_, i64>(4)? as u64,
                            previous: (row.get::<_, i64>(5)? as u64, row.get::<_, i64>(6)? as u64),
                            state: row.get(7)?,
                            waiting: row.get(8)?,
                        })
                    })
                    .optional()
            });
        let row = self.fold(row)?.ok_or_else(|| {
            Error::damage(format!("the row of channel `{}` is missing; that never means to start afresh", self.channel))
                .in_file(&self.file)
                .hint("restore the file; or give up what is queued: `rlog-queue reset` and take a new snapshot")
        })?;
        // Its numbers decide what is read, and only the state carries a checksum.
        let state = read_state(&row.state).map_err(|error| self.state_damage(&error))?;
        if state.queue != self.uuid
            || state.channel != self.channel
            || state.first_sequence != row.sequence + 1
            || state.number != row.record + 1
            || (state.previous_length, state.previous_digest) != row.previous
        {
            return Err(self.state_damage(&Error::damage("it is of another channel or place")));
        }
        Ok(row)
    }

    /// What the channel has reached, its stream header included.
    pub fn tail(&self, connection: &rusqlite::Connection, row: &ChannelRow) -> Result<Tail> {
        let segment = read_state(&row.state).map_err(|error| self.state_damage(&error))?;
        let mut tail = Tail::at_segment(&segment);
        tail.source = self.source(connection, row.record + 1)?;
        Ok(tail)
    }

    fn state_damage(&self, error: &Error) -> Error {
        Error::damage(format!("the state of channel `{}` is damaged: {}", self.channel, error.what()))
            .in_file(&self.file)
            .hint("restore the file; or give up what is queued: `rlog-queue reset` and take a new snapshot")
    }

    /// The stream header that holds before record `before`.
    fn source(&self, connection: &rusqlite::Connection, before: u64) -> Result<Option<Box<StreamHeader>>> {
        let frame = connection
            .prepare_cached(
                "SELECT frame FROM main.rlog_queue_live WHERE channel=?1 AND kind=?2 AND key=0 AND record<?3 ORDER BY record DESC LIMIT 1",
            )
            .and_then(|mut statement| {
                statement.query_row((self.id, Kind::Stream as i64, before as i64), |row| row.get::<_, Vec<u8>>(0)).optional()
            });
        let Some(bytes) = self.fold(frame)? else { return Ok(None) };
        let header = || -> Result<StreamHeader> {
            let frame = crate::frame::reader::read_frame(&bytes, 0)?;
            Ok(StreamHeader::decode(frame.payload, 0)?)
        };
        header().map(Box::new).map(Some).map_err(|error| self.state_damage(&error))
    }

    /// The definitions that are live before record `before`.
    pub fn definitions(&self, connection: &rusqlite::Connection, before: u64) -> Result<HashMap<u64, Vec<u8>>> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            // Of bare columns SQLite takes those of the row that has the maximum.
            let mut statement = connection.prepare_cached(
                "SELECT max(record), frame FROM main.rlog_queue_live WHERE channel=?1 AND kind=?2 AND record<?3 GROUP BY key",
            )?;
            let rows = statement.query_map((self.id, Kind::Definition as i64, before as i64), |row| row.get(1))?;
            rows.collect()
        };
        let mut out = HashMap::new();
        for bytes in self.fold(read())? {
            let frame =
                crate::frame::reader::read_frame(&bytes, 0).map_err(|error| self.state_damage(&error.into()))?;
            out.insert(frame.header.id, frame.payload.to_vec());
        }
        Ok(out)
    }

    /// The position under which `txid` is held.
    pub fn held(&self, connection: &rusqlite::Connection, txid: crate::frame::Coordinate) -> Result<Option<Position>> {
        let text = connection
            .prepare_cached(
                "SELECT position FROM main.rlog_queue_transaction WHERE channel=?1 AND txid=?2 ORDER BY sequence DESC LIMIT 1",
            )
            .and_then(|mut statement| {
                statement.query_row((self.id, ordered(txid)), |row| row.get::<_, String>(0)).optional()
            });
        match self.fold(text)? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Error::damage(format!("the position of transaction {txid} is invalid")).in_file(&self.file)
            }),
        }
    }

    /// A number that a query gives; `None` when it gives none.
    pub fn number(
        &self,
        connection: &rusqlite::Connection,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Option<u64>> {
        let number = connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(parameters, |row| row.get::<_, Option<i64>>(0)).optional());
        Ok(self.fold(number)?.flatten().map(|number| number as u64))
    }

    /// Sequence number of the oldest unit that is held (or would be next).
    pub fn first_sequence(&self, connection: &rusqlite::Connection) -> Result<u64> {
        let row = self.row(connection)?;
        let first = self.number(
            connection,
            "SELECT first_sequence FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 ORDER BY record LIMIT 1",
            (self.id, row.record as i64),
        )?;
        Ok(first.unwrap_or(row.sequence + 1))
    }

    /// Bytes of the records behind `after`.
    pub fn bytes(&self, connection: &rusqlite::Connection, after: u64) -> Result<u64> {
        let sum = self.number(
            connection,
            "SELECT sum(length) FROM main.rlog_queue_record WHERE channel=?1 AND record>?2",
            (self.id, after as i64),
        )?;
        Ok(sum.unwrap_or(0))
    }
}

impl SqliteLog {
    pub fn open(vfs: &dyn Vfs, place: &Place, follow: bool) -> Result<SqliteLog> {
        let connection = schema::connect(&place.path, Access::Write)?;
        let (parent, _) = schema::split(&place.path)?;
        // The log beside the database changes with every commit.
        let watch = if follow { vfs.open_dir(parent).and_then(|dir| dir.watch()).ok() } else { None };
        Ok(SqliteLog { connection, place: place.clone(), watch, record: 0, pieces: 0, piece: 0 })
    }

    /// The last record in which reading for `from` may begin.
    fn candidate(&self, from: &ReadFrom, row: &ChannelRow) -> Result<Option<u64>> {
        let id = self.place.id;
        let number = |sql: &str, value: i64| self.place.number(&self.connection, sql, (id, row.record as i64, value));
        // Before the first unit of all there was nothing: its record fits whatever is asked.
        let beginning = || {
            number(
                "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND first_sequence<=?3 ORDER BY record LIMIT 1",
                1,
            )
        };
        Ok(match from {
            ReadFrom::Oldest | ReadFrom::Acknowledged(_) => number(
                "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND record>=?3 ORDER BY record LIMIT 1",
                0,
            )?,
            ReadFrom::AfterSequence(sequence) => number(
                "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND first_sequence<=?3 ORDER BY record DESC LIMIT 1",
                i64::try_from(sequence.saturating_add(1)).unwrap_or(i64::MAX),
            )?,
            ReadFrom::After(position) => {
                let found = self.place.number(
                    &self.connection,
                    "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND reached<=?3 AND server=?4 ORDER BY record DESC LIMIT 1",
                    (id, row.record as i64, ordered(position.end), i64::from(position.incarnation.server())),
                )?;
                if found.is_some() { found } else { beginning()? }
            }
            ReadFrom::AfterCoordinate(at) => {
                let found = number(
                    "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND reached<=?3 ORDER BY record DESC LIMIT 1",
                    ordered(*at),
                )?;
                if found.is_some() { found } else { beginning()? }
            }
        })
    }
}

impl SqliteLog {
    /// What led to this record must be what its head says, else something before it would be passed over.
    fn check_index(&self, record: u64, head: &Segment, row: &ChannelRow, from: &ReadFrom) -> Result<()> {
        let indexed = self.place.fold(self.connection.query_row(
            "SELECT first_sequence, server, reached FROM main.rlog_queue_record WHERE channel=?1 AND record=?2",
            (self.place.id, record as i64),
            |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?)),
        ))?;
        let said = (head.first_sequence, i64::from(head.incarnation.server()), head.reached.map(ordered));
        if indexed != said {
            return Err(damaged(self, record, "the index does not say what its head says"));
        }
        if matches!(from, ReadFrom::Oldest) && record != row.low {
            return Err(damaged(self, row.low, "it is missing, though it was never purged"));
        }
        Ok(())
    }
}

impl Log for SqliteLog {
    fn name(&self) -> String {
        self.place.name.clone()
    }

    fn address(&self) -> String {
        format!("sqlite:{}", self.place.file)
    }

    fn uuid(&self) -> [u8; 16] {
        self.place.uuid
    }

    fn channel(&self) -> &str {
        &self.place.channel
    }

    fn start(&mut self, from: &ReadFrom) -> Result<Option<Start>> {
        // One view of all that is read here, whatever others purge meanwhile.
        let view = self.connection.unchecked_transaction();
        let _view = self.place.fold(view)?;
        let row = self.place.row(&self.connection)?;
        if row.record == 0 {
            return Ok(None);
        }
        if let Some(record) = self.candidate(from, &row)? {
            let bytes = self.place.fold(
                self.connection
                    .query_row(
                        "SELECT bytes FROM main.rlog_queue_frames WHERE channel=?1 AND record=?2 AND piece=0",
                        (self.place.id, record as i64),
                        |row| row.get::<_, Vec<u8>>(0),
                    )
                    .optional(),
            )?;
            let bytes = bytes.ok_or_else(|| damaged(self, record, "it has no bytes"))?;
            let segment = read_state(&bytes).map_err(|error| damaged(self, record, error.what()))?;
            self.check_index(record, &segment, &row, from)?;
            let mut tail = Tail::at_segment(&segment);
            tail.source = self.place.source(&self.connection, record)?;
            let definitions = self.place.definitions(&self.connection, record)?;
            return Ok(Some(Start { after: record - 1, tail, definitions }));
        }
        // Nothing is held that far back: what is asked must be the end.
        let tail = self.place.tail(&self.connection, &row)?;
        let held = row.low <= row.record;
        let at_end = match from {
            ReadFrom::Oldest | ReadFrom::Acknowledged(_) => !held,
            ReadFrom::AfterSequence(sequence) => !held && *sequence >= tail.sequence,
            ReadFrom::After(position) => !held && tail.reached.is_some_and(|reached| reached <= position.end),
            ReadFrom::AfterCoordinate(at) => !held && tail.reached.is_some_and(|reached| reached <= *at),
        };
        if held && matches!(from, ReadFrom::Oldest | ReadFrom::Acknowledged(_)) {
            // Purging moves the low-water mark in the same transaction.
            return Err(damaged(self, row.low, "it is not there"));
        }
        if !at_end {
            return Err(purged(
                &self.place.name,
                &match from {
                    ReadFrom::After(position) => position.to_string(),
                    ReadFrom::AfterCoordinate(at) => at.to_string(),
                    ReadFrom::AfterSequence(sequence) => format!("unit {sequence}"),
                    ReadFrom::Oldest | ReadFrom::Acknowledged(_) => "its beginning".to_owned(),
                },
            ));
        }
        let definitions = self.place.definitions(&self.connection, row.record + 1)?;
        Ok(Some(Start { after: row.record, tail, definitions }))
    }

    fn last(&mut self) -> Result<u64> {
        Ok(self.place.row(&self.connection)?.record)
    }

    fn low(&mut self) -> Result<u64> {
        Ok(self.place.row(&self.connection)?.low)
    }

    fn next(&mut self, after: u64) -> Result<Option<u64>> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT r.record, r.pieces FROM main.rlog_queue_record r WHERE r.channel=?1 AND r.record>?2 \
                 AND r.record<=(SELECT record FROM main.rlog_queue_channel WHERE id=?1) ORDER BY r.record LIMIT 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row((self.place.id, after as i64), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
                    .optional()
            });
        let Some((record, pieces)) = self.place.fold(found)? else { return Ok(None) };
        self.record = record as u64;
        self.pieces = pieces as u64;
        self.piece = 0;
        Ok(Some(self.record))
    }

    fn piece(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        let id = self.place.id;
        let read = self
            .connection
            .prepare_cached("SELECT bytes FROM main.rlog_queue_frames WHERE channel=?1 AND record=?2 AND piece=?3");
        let mut statement = self.place.fold(read)?;
        let found = statement
            .query_row((id, self.record as i64, self.piece as i64), |row| {
                into.extend_from_slice(row.get_ref(0)?.as_bytes()?);
                Ok(())
            })
            .optional();
        drop(statement);
        if self.place.fold(found)?.is_none() {
            // Purged under a reader that is not registered, or lost.
            if self.low()? > self.record {
                return Err(purged(&self.place.name, &format!("record {}", self.record - 1)));
            }
            return Err(damaged(self, self.record, format!("piece {} is missing", self.piece)));
        }
        self.piece += 1;
        Ok(self.piece < self.pieces)
    }

    fn bytes_behind(&self, after: u64) -> u64 {
        // Asked once a record: the sum over a long backlog would cost more than reading it.
        let sum = self.place.number(
            &self.connection,
            "SELECT sum(length) FROM (SELECT length FROM main.rlog_queue_record WHERE channel=?1 AND record>?2 ORDER BY record LIMIT 1000)",
            (self.place.id, after as i64),
        );
        sum.ok().flatten().unwrap_or(0)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        match &mut self.watch {
            Some(watch) => watch.wait(timeout).map_err(|error| Error::io(&self.place.file, error)),
            None => {
                std::thread::sleep(timeout);
                Ok(())
            }
        }
    }
}

/// The path as one that means the same file whatever the current directory is.
pub(super) fn place(path: &Path, channel: &str, id: i64, uuid: [u8; 16]) -> Place {
    let file = path.display().to_string();
    let name = if channel == super::super::DEFAULT_CHANNEL { file.clone() } else { format!("{file} ({channel})") };
    Place { path: path.to_owned(), file, name, channel: channel.to_owned(), id, uuid }
}

/// The error of a writer that another has overtaken.
pub(super) fn overtaken(name: &str) -> Error {
    Error::new(Class::TryAgain, "another writer has taken over this channel")
        .in_file(name)
        .hint("look for the process that holds the queue; what was acknowledged is safe")
}
