//! What the envelope's payloads mean: one struct a kind, each with `encode` and `decode`.
//!
//! Tags are part of the format (rlog-format(5), tables STREAM, BEGIN, COMMIT …; `tests/format.rs` compares). An odd
//! tag must be understood by every reader, an even one may be passed over.

use super::fields::{FieldReader, FieldWriter, put_varint, take_varint};
use super::header::{FrameError, Kind};
use super::position::{Coordinate, Incarnation, Position};

macro_rules! tags {
    ($table:ident { $($name:ident = $tag:literal,)* }) => {
        pub(crate) mod $table {
            $(pub const $name: u8 = $tag;)*
            /// Tags and names, as rlog-format(5) has them.
            pub const ALL: &[(u8, &str)] = &[$(($tag, stringify!($name)),)*];
        }
    };
}
pub(super) use tags;

tags!(stream_tags {
    SOURCE = 1, SERVER_VERSION = 2, INCARNATION = 3, SERVER_ID = 4, START = 5, SERVER_UUID = 6, UNANCHORED = 7,
    LOG_NAME = 8, FILTERS = 10, CASCADES_LOGGED = 12, GTID_STATE = 14, FACT = 16, WINDOWS = 18,
});
tags!(begin_tags {
    PREV = 1, GTID = 2, WINDOW_START = 3, SERVER_ID = 4, FLAGS = 5, THREAD = 6, CHUNK = 7, ORIGIN = 8,
    INCARNATION = 9, TIME = 10, XID = 12,
});
tags!(commit_tags {
    END = 1, GTID = 2, INCARNATION = 3, TIME = 4, SOURCE_DIGEST = 5, TABLE_COUNT = 6, FRAME_COUNT = 7,
    STATEMENT_COUNT = 8, FRAME_DIGEST = 9, XID = 11,
});
tags!(progress_tags { FROM = 1, GTID_STATE = 2, TO = 3, TIME = 4, INCARNATION = 5, REASON = 6, });
tags!(end_tags { REACHED = 1, GTID_STATE = 2, TRANSACTIONS = 4, IN_USE = 6, TORN = 8, INCARNATION = 10, NOTE = 12, });
tags!(abort_tags { STATUS = 1, MESSAGE = 2, REACHED = 4, });
tags!(snapshot_tags { UUID = 1, TABLE = 2, AT = 3, GTID_STATE = 4, INCARNATION = 5, DIGEST = 6, });
tags!(handover_tags { FROM = 1, GTID_STATE = 2, TO = 3, SERVER_UUID = 4, START = 5, HOST = 6, });

/// Payload of `stream`: who speaks, and what holds for everything that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// Family of the source: `mysql`, `mariadb`, `sqlite` or `postgres`.
    pub source: String,
    /// Version text as the source gives it.
    pub server_version: String,
    /// Life of the source at the stream's start.
    pub incarnation: Incarnation,
    /// Numeric server id (0: none).
    pub server_id: u32,
    /// What the source had reached before the first transaction of this stream.
    pub start: Coordinate,
    /// Server UUID where known, else empty.
    pub server_uuid: String,
    /// The source's file numbers are unknown, so txids mean nothing outside of this stream; queues refuse it (78).
    pub unanchored: bool,
    /// Base name of the log files, such as `mysql-bin`; empty when unknown.
    pub log_name: String,
    /// Canonical text of the filters and rewrites that made this stream; empty for none.
    pub filters: String,
    /// Whether changes by foreign-key cascades stand in the log; `None`: not known.
    pub cascades_logged: Option<bool>,
    /// GTID state at `start` in the source's notation.
    pub gtid_state: String,
    /// Further facts, `name=value`.
    pub facts: Vec<String>,
    /// How windows were made: `source`, `writeset` or `serial`.
    pub windows: String,
}

impl StreamHeader {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use stream_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .bytes(SOURCE, self.source.as_bytes())
            .bytes_unless_empty(SERVER_VERSION, self.server_version.as_bytes())
            .number(INCARNATION, self.incarnation.0)
            .number_unless_0(SERVER_ID, u64::from(self.server_id))
            .number(START, self.start.0)
            .bytes_unless_empty(SERVER_UUID, self.server_uuid.as_bytes())
            .number_unless_0(UNANCHORED, u64::from(self.unanchored))
            .bytes_unless_empty(LOG_NAME, self.log_name.as_bytes())
            .bytes_unless_empty(FILTERS, self.filters.as_bytes());
        if let Some(logged) = self.cascades_logged {
            fields.number(CASCADES_LOGGED, u64::from(logged));
        }
        fields.bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes());
        for fact in &self.facts {
            fields.bytes(FACT, fact.as_bytes());
        }
        fields.bytes_unless_empty(WINDOWS, self.windows.as_bytes());
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<StreamHeader, FrameError> {
        use stream_tags::*;
        let mut out = StreamHeader::default();
        let mut fields = FieldReader::new(payload, Kind::Stream, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                SOURCE => out.source = fields.text(field)?,
                SERVER_VERSION => out.server_version = fields.text(field)?,
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                SERVER_ID => out.server_id = fields.number_u32(field)?,
                START => out.start = Coordinate(fields.number(field)?),
                SERVER_UUID => out.server_uuid = fields.text(field)?,
                UNANCHORED => out.unanchored = fields.number(field)? != 0,
                LOG_NAME => out.log_name = fields.text(field)?,
                FILTERS => out.filters = fields.text(field)?,
                CASCADES_LOGGED => out.cascades_logged = Some(fields.number(field)? != 0),
                GTID_STATE => out.gtid_state = fields.text(field)?,
                FACT => out.facts.push(fields.text(field)?),
                WINDOWS => out.windows = fields.text(field)?,
                _ => fields.unknown(field)?,
            }
        }
        if out.source.is_empty() {
            return Err(fields.invalid("it names no source"));
        }
        Ok(out)
    }
}

/// Bits of [`Begin::flags`].
pub mod begin_flags {
    /// Runs after everything before it and before everything behind it.
    pub const BARRIER: u64 = 1;
    /// Merged from several source transactions (a bridged gap of a SQLite source).
    pub const MERGED: u64 = 2;
    /// Rows of a snapshot; see [`super::Begin::chunk`].
    pub const SNAPSHOT: u64 = 4;
    /// Some tables are not transactional: the source cannot have rolled it back as a whole.
    pub const NONTRANSACTIONAL: u64 = 8;
    /// The source's session did not check foreign keys while any of its rows changed, and nothing cascaded.
    pub const FOREIGN_KEYS_OFF: u64 = 16;
}

/// One chunk of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The snapshot's UUID.
    pub snapshot: [u8; 16],
    /// Definition key of the table.
    pub table: u64,
    /// Ordinal of the chunk within its table, from 0.
    pub number: u64,
}

/// Payload of `begin`. The txid is in the frame's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// What the source had reached before this transaction: the end of the one before, or the start of its file.
    pub prev: Coordinate,
    /// Txid of the last transaction that this one may depend on; see WINDOWS in rlog-format(5).
    pub window_start: Coordinate,
    /// Bits of [`begin_flags`].
    pub flags: u64,
    /// Life of the source.
    pub incarnation: Incarnation,
    /// Own GTID, empty when it has none.
    pub gtid: String,
    /// Server that first executed it (0: not known).
    pub server_id: u32,
    /// Connection that executed it (0: not known).
    pub thread: u32,
    /// Target UUIDs whose appliers it passed through (rule 12), oldest first.
    pub origins: Vec<String>,
    /// When it started, microseconds since 1970 UTC; 0: not known.
    pub time_us: i64,
    /// For snapshot rows: which chunk.
    pub chunk: Option<Chunk>,
    /// XA transaction id as the source writes it (format, gtrid, bqual), empty when none.
    pub xid: Vec<u8>,
}

impl Begin {
    /// Makes this a copy, in the buffers that it has.
    pub fn copy_from(&mut self, other: &Begin) {
        let Begin { prev, window_start, flags, incarnation, gtid, server_id, thread, origins, time_us, chunk, xid } =
            other;
        (self.prev, self.window_start, self.flags, self.incarnation) = (*prev, *window_start, *flags, *incarnation);
        (self.server_id, self.thread, self.time_us) = (*server_id, *thread, *time_us);
        self.gtid.clone_from(gtid);
        self.origins.clone_from(origins);
        self.chunk.clone_from(chunk);
        self.xid.clone_from(xid);
    }

    /// Whether it is a barrier.
    pub fn is_barrier(&self) -> bool {
        self.flags & begin_flags::BARRIER != 0
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use begin_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .number(PREV, self.prev.0)
            .number(WINDOW_START, self.window_start.0)
            .number_unless_0(FLAGS, self.flags)
            .number(INCARNATION, self.incarnation.0)
            .bytes_unless_empty(GTID, self.gtid.as_bytes())
            .number_unless_0(SERVER_ID, u64::from(self.server_id))
            .number_unless_0(THREAD, u64::from(self.thread));
        for origin in &self.origins {
            fields.bytes(ORIGIN, origin.as_bytes());
        }
        fields.number_unless_0(TIME, self.time_us as u64);
        if let Some(chunk) = &self.chunk {
            let mut value = Vec::with_capacity(32);
            value.extend_from_slice(&chunk.snapshot);
            value.extend_from_slice(&chunk.table.to_le_bytes());
            put_varint(&mut value, chunk.number);
            fields.bytes(CHUNK, &value);
        }
        fields.bytes_unless_empty(XID, &self.xid);
    }

    /// As [`Begin::decode`], but of a payload that is whole only `prev` is returned, and whether it is a snapshot's. Allocates nothing.
    pub fn check(payload: &[u8], at: u64) -> Result<(Coordinate, bool), FrameError> {
        use begin_tags::*;
        let (mut prev, mut chunk) = (Coordinate::default(), false);
        let mut fields = FieldReader::new(payload, Kind::Begin, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                PREV => prev = Coordinate(fields.number(field)?),
                WINDOW_START | FLAGS | INCARNATION | TIME => drop(fields.number(field)?),
                SERVER_ID | THREAD => drop(fields.number_u32(field)?),
                GTID | ORIGIN => fields.is_text(field)?,
                CHUNK => {
                    decode_chunk(field.value).ok_or_else(|| fields.invalid("its chunk is invalid"))?;
                    chunk = true;
                }
                XID => {}
                _ => fields.unknown(field)?,
            }
        }
        Ok((prev, chunk))
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Begin, FrameError> {
        use begin_tags::*;
        let mut out = Begin::default();
        let mut fields = FieldReader::new(payload, Kind::Begin, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                PREV => out.prev = Coordinate(fields.number(field)?),
                WINDOW_START => out.window_start = Coordinate(fields.number(field)?),
                FLAGS => out.flags = fields.number(field)?,
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                GTID => out.gtid = fields.text(field)?,
                SERVER_ID => out.server_id = fields.number_u32(field)?,
                THREAD => out.thread = fields.number_u32(field)?,
                ORIGIN => out.origins.push(fields.text(field)?),
                TIME => out.time_us = fields.signed(field)?,
                CHUNK => {
                    out.chunk = Some(decode_chunk(field.value).ok_or_else(|| fields.invalid("its chunk is invalid"))?)
                }
                XID => out.xid = field.value.to_vec(),
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

fn decode_chunk(value: &[u8]) -> Option<Chunk> {
    let (snapshot, rest) = value.split_first_chunk::<16>()?;
    let (table, mut rest) = rest.split_first_chunk::<8>()?;
    let number = take_varint(&mut rest)?;
    Some(Chunk { snapshot: *snapshot, table: u64::from_le_bytes(*table), number })
}

/// How many rows of one table a transaction changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCount {
    /// Definition key of the table.
    pub key: u64,
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
}

/// Payload of `commit` and `prepared`. The txid is in the frame's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Coordinate just behind the group.
    pub end: Coordinate,
    /// Life of the source.
    pub incarnation: Incarnation,
    /// The source's own evidence; see [`Position::digest`].
    pub source_digest: u32,
    /// Own GTID, empty when it has none.
    pub gtid: String,
    /// Commit time, microseconds since 1970 UTC; 0: not known.
    pub time_us: i64,
    /// Rows per table, in order of first change.
    pub tables: Vec<TableCount>,
    /// Statements and DDL.
    pub statements: u64,
    /// Frames of the transaction, `begin` and `data`, without definitions and without this one.
    pub frame_count: u32,
    /// Digest over those frames; see [`super::Digest`].
    pub frame_digest: u64,
    /// XA transaction id for `prepared`, empty else.
    pub xid: Vec<u8>,
}

impl Commit {
    /// Makes this a copy, in the buffers that it has.
    pub fn copy_from(&mut self, other: &Commit) {
        let Commit {
            end,
            incarnation,
            source_digest,
            gtid,
            time_us,
            tables,
            statements,
            frame_count,
            frame_digest,
            xid,
        } = other;
        (self.end, self.incarnation, self.source_digest, self.time_us) = (*end, *incarnation, *source_digest, *time_us);
        (self.statements, self.frame_count, self.frame_digest) = (*statements, *frame_count, *frame_digest);
        self.gtid.clone_from(gtid);
        self.tables.clone_from(tables);
        self.xid.clone_from(xid);
    }

    /// The transaction's position; `txid` is in the frame's header.
    pub fn position(&self, txid: Coordinate) -> Position {
        Position {
            txid,
            end: self.end,
            incarnation: self.incarnation,
            digest: self.source_digest,
            gtid: self.gtid.clone(),
        }
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use commit_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .number(END, self.end.0)
            .number(INCARNATION, self.incarnation.0)
            .number(SOURCE_DIGEST, u64::from(self.source_digest))
            .bytes_unless_empty(GTID, self.gtid.as_bytes())
            .number_unless_0(TIME, self.time_us as u64);
        let mut value = Vec::new();
        for table in &self.tables {
            value.clear();
            value.extend_from_slice(&table.key.to_le_bytes());
            for count in [table.inserts, table.updates, table.deletes] {
                put_varint(&mut value, count);
            }
            fields.bytes(TABLE_COUNT, &value);
        }
        fields
            .number_unless_0(STATEMENT_COUNT, self.statements)
            .number(FRAME_COUNT, u64::from(self.frame_count))
            .number(FRAME_DIGEST, self.frame_digest)
            .bytes_unless_empty(XID, &self.xid);
    }

    /// As [`Commit::decode`], but of a payload that is whole only end, frame count and frame digest are returned. Allocates nothing.
    pub fn check(payload: &[u8], at: u64) -> Result<(Coordinate, u32, u64), FrameError> {
        use commit_tags::*;
        let (mut end, mut frame_count, mut frame_digest) = (Coordinate::default(), 0, 0);
        let mut fields = FieldReader::new(payload, Kind::Commit, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                END => end = Coordinate(fields.number(field)?),
                FRAME_COUNT => frame_count = fields.number_u32(field)?,
                FRAME_DIGEST => frame_digest = fields.number(field)?,
                INCARNATION | TIME | STATEMENT_COUNT => drop(fields.number(field)?),
                SOURCE_DIGEST => drop(fields.number_u32(field)?),
                GTID => fields.is_text(field)?,
                TABLE_COUNT => {
                    decode_count(field.value).ok_or_else(|| fields.invalid("its table counts are invalid"))?;
                }
                XID => {}
                _ => fields.unknown(field)?,
            }
        }
        Ok((end, frame_count, frame_digest))
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Commit, FrameError> {
        use commit_tags::*;
        let mut out = Commit::default();
        let mut fields = FieldReader::new(payload, Kind::Commit, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                END => out.end = Coordinate(fields.number(field)?),
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                SOURCE_DIGEST => out.source_digest = fields.number_u32(field)?,
                GTID => out.gtid = fields.text(field)?,
                TIME => out.time_us = fields.signed(field)?,
                TABLE_COUNT => out
                    .tables
                    .push(decode_count(field.value).ok_or_else(|| fields.invalid("its table counts are invalid"))?),
                STATEMENT_COUNT => out.statements = fields.number(field)?,
                FRAME_COUNT => out.frame_count = fields.number_u32(field)?,
                FRAME_DIGEST => out.frame_digest = fields.number(field)?,
                XID => out.xid = field.value.to_vec(),
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

fn decode_count(value: &[u8]) -> Option<TableCount> {
    let (key, mut rest) = value.split_first_chunk::<8>()?;
    let key = u64::from_le_bytes(*key);
    let inserts = take_varint(&mut rest)?;
    let updates = take_varint(&mut rest)?;
    let deletes = take_varint(&mut rest)?;
    Some(TableCount { key, inserts, updates, deletes })
}

/// Payload of `progress`, `gap` and `heartbeat`: a range of the source without transactions of this stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What had been reached before.
    pub from: Coordinate,
    /// What is reached now (`gap`: where the source's log goes on).
    pub to: Coordinate,
    /// Life of the source at `to`.
    pub incarnation: Incarnation,
    /// GTID state at `to`, empty when unchanged or unknown.
    pub gtid_state: String,
    /// Newest time seen in the range, microseconds since 1970 UTC; 0: not known.
    pub time_us: i64,
    /// For `gap`: why.
    pub reason: String,
}

impl Progress {
    /// The file whose stamp [`Progress::incarnation`] carries: that of `to`. `None` where `to` is the start of a file that was not read
    /// yet: then the stamp is that of the file before, whichever it was.
    pub fn stamped_file(&self) -> Option<u64> {
        const FIRST_EVENT_AT: u64 = 4;
        let entered = self.from.file() == self.to.file() || self.to.offset() > FIRST_EVENT_AT;
        entered.then(|| self.to.file())
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use progress_tags::*;
        FieldWriter::new(out)
            .number(FROM, self.from.0)
            .number(TO, self.to.0)
            .number(INCARNATION, self.incarnation.0)
            .bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes())
            .number_unless_0(TIME, self.time_us as u64)
            .bytes_unless_empty(REASON, self.reason.as_bytes());
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Progress, FrameError> {
        use progress_tags::*;
        let mut out = Progress::default();
        let mut fields = FieldReader::new(payload, Kind::Progress, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                FROM => out.from = Coordinate(fields.number(field)?),
                TO => out.to = Coordinate(fields.number(field)?),
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                GTID_STATE => out.gtid_state = fields.text(field)?,
                TIME => out.time_us = fields.signed(field)?,
                REASON => out.reason = fields.text(field)?,
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

/// Payload of `end`, the only clean end of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// What the source has reached.
    pub reached: Coordinate,
    /// Life of the source at `reached`.
    pub incarnation: Incarnation,
    /// GTID state at `reached`.
    pub gtid_state: String,
    /// Transactions in this stream.
    pub transactions: u64,
    /// The last log file is still flagged in use.
    pub in_use: bool,
    /// Bytes behind `reached` that belong to an unfinished group and were not emitted.
    pub torn_bytes: u64,
    /// What a person should know (dropped groups, columns without names …).
    pub notes: Vec<String>,
}

impl End {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use end_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .number(REACHED, self.reached.0)
            .bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes())
            .number_unless_0(TRANSACTIONS, self.transactions)
            .number_unless_0(IN_USE, u64::from(self.in_use))
            .number_unless_0(TORN, self.torn_bytes)
            .number(INCARNATION, self.incarnation.0);
        for note in &self.notes {
            fields.bytes(NOTE, note.as_bytes());
        }
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<End, FrameError> {
        use end_tags::*;
        let mut out = End::default();
        let mut fields = FieldReader::new(payload, Kind::End, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                REACHED => out.reached = Coordinate(fields.number(field)?),
                GTID_STATE => out.gtid_state = fields.text(field)?,
                TRANSACTIONS => out.transactions = fields.number(field)?,
                IN_USE => out.in_use = fields.number(field)? != 0,
                TORN => out.torn_bytes = fields.number(field)?,
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                NOTE => out.notes.push(fields.text(field)?),
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

/// Payload of `abort`: the writer failed. Every reader makes whole transactions durable, then exits with `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abort {
    /// Exit status of the writer.
    pub status: u8,
    /// Its message.
    pub message: String,
    /// What had been reached.
    pub reached: Coordinate,
}

impl Abort {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use abort_tags::*;
        FieldWriter::new(out)
            .number(STATUS, u64::from(self.status))
            .bytes_unless_empty(MESSAGE, self.message.as_bytes())
            .number_unless_0(REACHED, self.reached.0);
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Abort, FrameError> {
        use abort_tags::*;
        let mut out = Abort::default();
        let mut fields = FieldReader::new(payload, Kind::Abort, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                STATUS => {
                    out.status = u8::try_from(fields.number(field)?)
                        .ok()
                        .filter(|status| *status != 0)
                        .ok_or_else(|| fields.invalid("its exit status is out of range"))?;
                }
                MESSAGE => out.message = fields.text(field)?,
                REACHED => out.reached = Coordinate(fields.number(field)?),
                _ => fields.unknown(field)?,
            }
        }
        if out.status == 0 {
            return Err(fields.invalid("it has no exit status"));
        }
        Ok(out)
    }
}

/// Payload of `snapshot-begin` and `snapshot-end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The snapshot's UUID.
    pub uuid: [u8; 16],
    /// The position at which the rows were read; the log goes on from exactly there.
    pub at: Coordinate,
    /// Life of the source.
    pub incarnation: Incarnation,
    /// GTID state at `at`.
    pub gtid_state: String,
    /// Source digest at `at` (0: none).
    pub digest: u32,
    /// Definition keys of its tables; empty for all.
    pub tables: Vec<u64>,
}

impl Snapshot {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use snapshot_tags::*;
        let mut fields = FieldWriter::new(out);
        fields.bytes(UUID, &self.uuid);
        for table in &self.tables {
            fields.number(TABLE, *table);
        }
        fields
            .number(AT, self.at.0)
            .bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes())
            .number(INCARNATION, self.incarnation.0)
            .number_unless_0(DIGEST, u64::from(self.digest));
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Snapshot, FrameError> {
        use snapshot_tags::*;
        let mut out = Snapshot::default();
        let mut fields = FieldReader::new(payload, Kind::SnapshotBegin, at);
        let mut seen = false;
        while let Some(field) = fields.next()? {
            match field.tag {
                UUID => {
                    out.uuid = field.value.try_into().map_err(|_| fields.invalid("its UUID is not 16 bytes"))?;
                    seen = true;
                }
                TABLE => out.tables.push(fields.number(field)?),
                AT => out.at = Coordinate(fields.number(field)?),
                GTID_STATE => out.gtid_state = fields.text(field)?,
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                DIGEST => out.digest = fields.number_u32(field)?,
                _ => fields.unknown(field)?,
            }
        }
        if !seen {
            return Err(fields.invalid("it has no UUID"));
        }
        Ok(out)
    }
}

/// Payload of `handover`: the stream goes on from another host of the same history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Life that ends.
    pub from: Incarnation,
    /// Life that begins.
    pub to: Incarnation,
    /// Where the new host's log is taken up.
    pub start: Coordinate,
    /// What the new host has executed.
    pub gtid_state: String,
    /// The new host's UUID, where known.
    pub server_uuid: String,
    /// Its name, for people.
    pub host: String,
}

impl Handover {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use handover_tags::*;
        FieldWriter::new(out)
            .number(FROM, self.from.0)
            .bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes())
            .number(TO, self.to.0)
            .bytes_unless_empty(SERVER_UUID, self.server_uuid.as_bytes())
            .number(START, self.start.0)
            .bytes_unless_empty(HOST, self.host.as_bytes());
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Handover, FrameError> {
        use handover_tags::*;
        let mut out = Handover::default();
        let mut fields = FieldReader::new(payload, Kind::Handover, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                FROM => out.from = Incarnation(fields.number(field)?),
                GTID_STATE => out.gtid_state = fields.text(field)?,
                TO => out.to = Incarnation(fields.number(field)?),
                SERVER_UUID => out.server_uuid = fields.text(field)?,
                START => out.start = Coordinate(fields.number(field)?),
                HOST => out.host = fields.text(field)?,
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

/// The tables of fields with their names in rlog-format(5), for the test that compares.
pub const FIELD_TABLES: &[(&str, &[(u8, &str)])] = &[
    ("STREAM", stream_tags::ALL),
    ("BEGIN", begin_tags::ALL),
    ("COMMIT", commit_tags::ALL),
    ("PROGRESS", progress_tags::ALL),
    ("END", end_tags::ALL),
    ("ABORT", abort_tags::ALL),
    ("SNAPSHOT", snapshot_tags::ALL),
    ("HANDOVER", handover_tags::ALL),
    ("SEGMENT", super::segment::segment_tags::ALL),
    ("WATERMARK", super::segment::watermark_tags::ALL),
];
