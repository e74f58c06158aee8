//! A group of events on its way to a transaction: what was gathered, and when it is written.
//!
//! ```text
//!            first event                   more than 1 MiB of records            commit event
//! Closed ────────────────▶ Gathering ─────────────────────────────▶ Streaming ──────────────▶ Closed
//!    ▲                         │ commit event: begin, data, commit      │ the source rolled back: discard
//!    └─────────────────────────┴────────────────────────────────────────┘
//! ```
//!
//! While gathering nothing of the transaction is in the output, so `begin` can say everything: barrier, window, thread. A transaction that outgrows
//! [`TRANSACTION_ALONE_ABOVE_BYTES`] is a barrier by definition of the format; its `begin` is written then and its records follow in
//! pieces of [`PIECE_BYTES`]. Where pieces end depends on the records alone, never on buffers.

use super::gtid::GroupHead;
use crate::error::Result;
use crate::event::Statement;
use crate::event::record::{RECORD_HEAD_LEN, RecordKind, close_record, open_record, write_payload};
use crate::event::rows::{RowsHead, RowsOp, set_row_count};
use crate::event::statement::UserVariable;
use crate::frame::envelope::TableCount;
use crate::frame::{
    Begin, Commit, Coordinate, FrameWriter, Kind, Measured, TRANSACTION_ALONE_ABOVE_BYTES, begin_flags,
};

/// Records of a streaming transaction are written when there are so many bytes of them.
const PIECE_BYTES: usize = 1 << 20;

/// What a record that nobody sees would have beside its images, about.
const UNSEEN_HEAD_BYTES: u64 = 24;

/// How far a group's events have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No group is open.
    #[default]
    Closed,
    /// A GTID or a statement's context was seen; the next statement is the whole transaction, unless it is BEGIN.
    Waiting,
    /// Inside of BEGIN … COMMIT.
    Begun,
    /// Rows without BEGIN (MyISAM on old servers); their statement's last event ends the group.
    Rows,
}

/// Why a group's records are not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skip {
    /// They are.
    #[default]
    No,
    /// It is behind the reader: before the position that is resumed from.
    Done,
    /// It was deselected, by time or GTID.
    Deselected,
}

/// What a statement takes from the events before it.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// INSERT_ID.
    pub insert_id: Option<u64>,
    /// LAST_INSERT_ID.
    pub last_insert_id: Option<u64>,
    /// Seeds of RAND().
    pub rand: Option<(u64, u64)>,
    /// User variables.
    pub user_variables: Vec<UserVariable>,
}

/// The group at hand. One value is used for all of them.
#[derive(Default)]
pub struct Group {
    /// How far it is.
    pub phase: Phase,
    /// Offset of its first event in the file that is read.
    pub at: u64,
    /// Coordinate of its first event.
    pub txid: Coordinate,
    /// Time of its first event.
    pub timestamp: u32,
    /// GTID and what stands beside it.
    pub head: GroupHead,
    /// Whether its records are wanted.
    pub skip: Skip,
    /// MariaDB: one statement, without COMMIT.
    pub standalone: bool,
    /// Between XA START and XA PREPARE.
    pub xa: bool,
    /// Runs alone.
    pub barrier: bool,
    /// Cannot be rolled back as a whole.
    pub nontransactional: bool,
    /// Events of rows whose session checked foreign keys, and of those whose did not.
    pub checked: (bool, bool),
    /// Whether its window was taken.
    pub windowed: bool,
    /// What `begin` will say.
    pub begin: Begin,
    /// What `commit` will say.
    pub commit: Commit,
    /// Of the statement that comes.
    pub context: Context,
    /// SQL text of rows that come; written before the first that is wanted.
    pub annotation: Vec<u8>,
    /// Its time.
    pub annotation_time: u32,
    payload: Vec<u8>,
    // Bytes of records so far, written ones included.
    total: u64,
    streaming: bool,
    last_count: usize,
    // For readers in the same process that do not look at all rows: what was measured, bytes of records that nobody sees, and the end of a
    // record in `payload` that stands for rows that were passed over.
    measured: Vec<Measured>,
    unseen: u64,
    passed_to: usize,
}

impl Group {
    /// Whether one is open.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// Whether its begin frame is written.
    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Whether it has any record.
    pub fn has_records(&self) -> bool {
        self.total > 0 || !self.payload.is_empty() || self.unseen > 0
    }

    /// The records that are gathered; all of them unless it is streaming.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Opens one.
    pub fn open(&mut self, at: u64, txid: Coordinate, timestamp: u32, server_id: u32) {
        self.phase = Phase::Waiting;
        self.at = at;
        self.txid = txid;
        self.timestamp = timestamp;
        self.begin.server_id = server_id;
        self.begin.time_us = i64::from(timestamp) * 1_000_000;
    }

    /// Forgets it. Buffers stay.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        let head = &mut self.head;
        (head.id, head.clock, head.commit_id) = (super::gtid::Gtid::Anonymous, None, None);
        (head.flags, head.flags_extra, head.commit_time_us, head.thread) = (0, 0, 0, 0);
        head.xid.clear();
        self.skip = Skip::No;
        (self.standalone, self.xa, self.barrier, self.nontransactional, self.windowed) =
            (false, false, false, false, false);
        self.checked = (false, false);
        self.begin.flags = 0;
        self.begin.thread = 0;
        self.begin.gtid.clear();
        self.begin.xid.clear();
        self.begin.origins.clear();
        self.commit.tables.clear();
        self.commit.statements = 0;
        self.commit.xid.clear();
        self.clear_context();
        self.annotation.clear();
        self.payload.clear();
        self.total = 0;
        self.streaming = false;
        self.last_count = 0;
        self.measured.clear();
        (self.unseen, self.passed_to) = (0, 0);
    }

    /// The statement that took the context is over.
    pub fn clear_context(&mut self) {
        let context = &mut self.context;
        (context.insert_id, context.last_insert_id, context.rand) = (None, None, None);
        context.user_variables.clear();
    }

    /// The buffer to which records are appended; `written` afterwards.
    #[inline]
    pub fn records(&mut self) -> &mut Vec<u8> {
        &mut self.payload
    }

    /// Appends a record whose body `encode` writes.
    pub fn record(&mut self, kind: RecordKind, encode: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let at = open_record(&mut self.payload, kind);
        encode(&mut self.payload);
        close_record(&mut self.payload, at)?;
        Ok(())
    }

    /// Whether it outgrew what may be gathered, so that its begin must be written now.
    #[inline]
    pub fn outgrown(&self) -> bool {
        !self.streaming && self.payload.len() as u64 + self.unseen > TRANSACTION_ALONE_ABOVE_BYTES
    }

    /// Whether a piece of a streaming transaction is due.
    #[inline]
    pub fn piece_due(&self) -> bool {
        self.streaming && self.payload.len() >= PIECE_BYTES
    }

    /// Takes out the blocks of a file whose statement is not wanted, as far as they are not written yet.
    pub fn drop_blocks(&mut self, file_id: u32) {
        let mut kept = Vec::with_capacity(self.payload.len());
        let mut rest = self.payload.as_slice();
        while let Some(length) = rest.get(1..RECORD_HEAD_LEN).and_then(|head| head.first_chunk::<4>()) {
            let length = RECORD_HEAD_LEN + u32::from_le_bytes(*length) as usize;
            let (Some(record), Some(&number)) = (rest.get(..length), rest.first()) else { return };
            let body = record.get(RECORD_HEAD_LEN..).unwrap_or(&[]);
            let is_block = number == RecordKind::LoadBlock as u8
                && Statement::decode(body).is_ok_and(|block| block.file_id == Some(file_id));
            if !is_block {
                kept.extend_from_slice(record);
            }
            rest = rest.get(length..).unwrap_or(&[]);
        }
        self.payload = kept;
    }

    /// Counts rows.
    #[inline]
    pub fn count(&mut self, key: u64, op: RowsOp, rows: u64) {
        let tables = &mut self.commit.tables;
        if tables.get(self.last_count).is_none_or(|count| count.key != key) {
            self.last_count = match tables.iter().position(|count| count.key == key) {
                Some(index) => index,
                None => {
                    tables.push(TableCount { key, ..TableCount::default() });
                    tables.len() - 1
                }
            };
        }
        if let Some(count) = tables.get_mut(self.last_count) {
            match op {
                RowsOp::Insert => count.inserts += rows,
                RowsOp::Update => count.updates += rows,
                RowsOp::Delete => count.deletes += rows,
            }
        }
    }

    /// Counts rows whose images would have so many bytes, and of which nobody sees more than that.
    pub fn measure(&mut self, key: u64, op: RowsOp, rows: u64, bytes: u64) {
        self.count(key, op, rows);
        self.unseen += bytes + UNSEEN_HEAD_BYTES;
        let kind = op.record_kind() as u8;
        match self.measured.last_mut() {
            Some(last) if last.key == key && last.kind == kind => {
                last.rows += rows;
                last.bytes += bytes;
            }
            _ => self.measured.push(Measured { key, kind, rows, bytes }),
        }
    }

    /// Passes over rows; `counted`: those of the table that have its key count, and a record of no columns says in their place how many there were.
    pub fn pass(&mut self, counted: Option<(u64, RowsOp, u64)>, bytes: u64) -> Result<()> {
        self.unseen += bytes + UNSEEN_HEAD_BYTES + self.annotation.len() as u64;
        let Some((key, op, rows)) = counted else { return Ok(()) };
        self.count(key, op, rows);
        let at = self.passed_to;
        let before = match self.payload.get(at.wrapping_sub(4)..).and_then(|last| last.try_into().ok()) {
            Some(last) if at > 0 && at == self.payload.len() => u64::from(u32::from_le_bytes(last)),
            _ => 0,
        };
        match u32::try_from(before + rows) {
            Ok(rows) if before > 0 => set_row_count(&mut self.payload, at - 4, rows),
            _ => {
                let start = open_record(&mut self.payload, RecordKind::Insert);
                let head =
                    RowsHead { key: 0, time_s: 0, columns: 0, before: &[], after: &[], unchanged: &[], diff: &[] };
                let count_at = head.encode(RowsOp::Insert, &mut self.payload);
                set_row_count(&mut self.payload, count_at, u32::try_from(rows).unwrap_or(u32::MAX));
                close_record(&mut self.payload, start)?;
                self.passed_to = self.payload.len();
            }
        }
        Ok(())
    }

    /// Whether rows of this table were gathered.
    pub fn has_rows_of(&self, key: u64) -> bool {
        self.commit.tables.iter().any(|count| count.key == key)
    }

    /// Writes `begin`. [`Group::begin`] must say prev, window and incarnation. `whole`: all of its events have been seen. While more may come
    /// nobody knows whether their session checks foreign keys, and then they are checked.
    pub fn write_begin(&mut self, whole: bool, out: &mut FrameWriter) {
        let flags = [
            (self.barrier, begin_flags::BARRIER),
            (self.nontransactional, begin_flags::NONTRANSACTIONAL),
            (whole && self.checked == (false, true), begin_flags::FOREIGN_KEYS_OFF),
        ];
        self.begin.flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        self.begin.gtid.clear();
        self.head.id.write(&mut self.begin.gtid);
        if self.begin.thread == 0 {
            self.begin.thread = self.head.thread;
        }
        out.begin(self.txid, &self.begin);
        self.streaming = true;
    }

    /// Writes what was gathered.
    pub fn write_records(&mut self, out: &mut FrameWriter) {
        self.total += self.payload.len() as u64 + self.unseen;
        (self.unseen, self.passed_to) = (0, 0);
        out.measured(&mut self.measured);
        if !out.take(&mut self.payload) {
            write_payload(out, &self.payload);
            self.payload.clear();
        }
    }

    /// Writes the rest and `commit` or `prepared`. [`Group::commit`] must say end, incarnation, time and digest.
    pub fn write_commit(&mut self, kind: Kind, out: &mut FrameWriter) {
        self.write_records(out);
        self.commit.gtid.clone_from(&self.begin.gtid);
        out.commit(kind, &mut self.commit);
    }

    /// Takes back what was written, if anything was.
    pub fn discard(&mut self, out: &mut FrameWriter) {
        if self.streaming {
            out.discard();
        }
        self.close();
    }
}
