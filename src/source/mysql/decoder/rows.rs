//! Rows: table maps, rows events in all their forms, and pieces of them.

use super::{Decoder, Flow, Fragments};
use crate::error::Result;
use crate::event::record::{RECORD_HEAD_LEN, RecordKind};
use crate::event::rows::{Rows, RowsOp};
use crate::event::text::render;
use crate::event::{EventError, Statement, own};
use crate::frame::{FrameWriter, Kind};
use crate::source::mysql::bytes::Bytes;
use crate::source::mysql::compress;
use crate::source::mysql::event::{self, Event, kind};
use crate::source::mysql::group::{Phase, Skip};
use crate::source::mysql::image::RowsInput;
use crate::source::mysql::prega;
use crate::source::mysql::tables::{Announcement, Keep};

/// Rows records are cut at about this many bytes.
const RECORD_BYTES: usize = 1 << 20;
/// A rows event with this table id only frees the table maps of its statement.
const DUMMY_TABLE_ID: u64 = 0x00ff_ffff;
/// Flag of rows events: the last of its statement.
const STMT_END: u16 = 1;
/// NO_FOREIGN_KEY_CHECKS_F: the session did not check foreign keys.
const NO_FOREIGN_KEY_CHECKS: u16 = 2;

impl Decoder {
    #[inline]
    pub(super) fn table_map(&mut self, event: &Event<'_>, _out: &mut FrameWriter) -> Result<Flow> {
        if !self.group.is_open() {
            if let Some(flow) = self.open(event)? {
                return Ok(flow);
            }
            self.group.phase = Phase::Rows;
        }
        if self.group.phase == Phase::Waiting {
            self.group.phase = Phase::Rows;
        }
        if self.group.skip != Skip::No {
            return Ok(Flow::Continue);
        }
        let id_bytes = self.format.table_id_bytes(kind::TABLE_MAP);
        let note = self
            .tables
            .map(event.body, id_bytes, self.format.family, &self.schema, &self.rules)
            .map_err(|error| error.at(event.at))?;
        if let Some(note) = note {
            self.note(note);
        }
        Ok(Flow::Continue)
    }

    #[inline]
    pub(super) fn rows_event(&mut self, event: &Event<'_>, extended: bool, out: &mut FrameWriter) -> Result<Flow> {
        self.rows(event, event.header.kind, event.body, extended, out)
    }

    pub(super) fn compressed_rows(&mut self, event: &Event<'_>, number: u8, out: &mut FrameWriter) -> Result<Flow> {
        let extended = number >= kind::MARIADB_WRITE_ROWS_COMPRESSED;
        let (first, plain) = if extended {
            (kind::MARIADB_WRITE_ROWS_COMPRESSED, kind::WRITE_ROWS)
        } else {
            (kind::MARIADB_WRITE_ROWS_COMPRESSED_V1, kind::WRITE_ROWS_V1)
        };
        let plain = number - first + plain;
        let head = self.rows_head(event.body, plain, extended).ok_or_else(|| event.cut())?;
        let head_len = event.body.len() - head.images.len();
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.clear();
        inflated.extend_from_slice(event.body.get(..head_len).unwrap_or(&[]));
        compress::inflate_mariadb(head.images, &mut inflated)
            .ok_or_else(|| event.damage("its rows do not decompress"))?;
        let flow = self.rows(event, plain, &inflated, extended, out);
        self.inflated = inflated;
        flow
    }

    /// Splits the data of a rows event of type `number`.
    #[inline]
    fn rows_head<'a>(&self, body: &'a [u8], number: u8, extended: bool) -> Option<RowsParts<'a>> {
        let mut input = Bytes::new(body);
        let id = if self.format.table_id_bytes(number) == 4 { u64::from(input.u32()?) } else { input.u48()? };
        let flags = input.u16()?;
        if extended {
            // The length counts itself. What it holds (NDB, partitions) changes nothing about the rows.
            let length = usize::from(input.u16()?).checked_sub(2)?;
            check_extra(input.take(length)?)?;
        }
        if id == DUMMY_TABLE_ID {
            return Some(RowsParts { id, flags, op: RowsOp::Insert, before: &[], after: &[], images: &[] });
        }
        let columns = usize::try_from(input.packed()?).ok()?;
        let set = input.take(columns.checked_add(7)? / 8)?;
        let (op, before, after) = match number {
            kind::WRITE_ROWS | kind::WRITE_ROWS_V1 | kind::PRE_GA_WRITE_ROWS => (RowsOp::Insert, &[][..], set),
            kind::DELETE_ROWS | kind::DELETE_ROWS_V1 | kind::PRE_GA_DELETE_ROWS => (RowsOp::Delete, set, &[][..]),
            // Before 5.1.16 both images had the same columns.
            kind::PRE_GA_UPDATE_ROWS => (RowsOp::Update, set, set),
            _ => (RowsOp::Update, set, input.take(set.len())?),
        };
        Some(RowsParts { id, flags, op, before, after, images: input.rest() })
    }

    pub(super) fn rows(
        &mut self,
        event: &Event<'_>,
        number: u8,
        body: &[u8],
        extended: bool,
        out: &mut FrameWriter,
    ) -> Result<Flow> {
        let parts = self.rows_head(body, number, extended).ok_or_else(|| event.cut())?;
        if !self.group.is_open() {
            if parts.id == DUMMY_TABLE_ID {
                return Ok(Flow::Continue);
            }
            return Err(event.damage("rows without a table map before them"));
        }
        if parts.id != DUMMY_TABLE_ID && self.group.skip == Skip::No {
            match parts.flags & NO_FOREIGN_KEY_CHECKS {
                0 => self.group.checked.0 = true,
                _ => self.group.checked.1 = true,
            }
            if matches!(number, kind::PRE_GA_WRITE_ROWS..=kind::PRE_GA_DELETE_ROWS) {
                self.write_old_rows(event, parts, out)?;
            } else {
                self.write_rows(event, &parts, number == kind::PARTIAL_UPDATE_ROWS, out)?;
            }
        }
        if parts.flags & STMT_END != 0 {
            self.group.annotation.clear();
            if self.group.phase == Phase::Rows {
                return self.finish(event, Kind::Commit, false, out);
            }
        }
        Ok(Flow::Continue)
    }

    #[cold]
    fn write_old_rows(&mut self, event: &Event<'_>, parts: RowsParts<'_>, out: &mut FrameWriter) -> Result<()> {
        let mut images = parts.images.to_vec();
        let set = if parts.op == RowsOp::Insert { parts.after } else { parts.before };
        if let Some(slot) = self.tables.get(parts.id).filter(|slot| slot.kept == Keep::Yes) {
            let definition = std::rc::Rc::clone(&slot.definition);
            prega::rewrite(&mut images, &mut slot.plan, &definition, set)
                .map_err(|EventError(what)| event.damage(what))?;
        }
        self.write_rows(event, &RowsParts { images: &images, ..parts }, false, out)
    }

    fn write_rows(
        &mut self,
        event: &Event<'_>,
        parts: &RowsParts<'_>,
        partial_json: bool,
        out: &mut FrameWriter,
    ) -> Result<()> {
        let announcement = self.tables.announcement;
        let Some(mut slot) = self.tables.get(parts.id) else {
            return Err(event.damage(format!("no table map before it has its table id {}", parts.id)));
        };
        if slot.applied && parts.op == RowsOp::Insert {
            self.lift_origins(event, parts)?;
            let Some(again) = self.tables.get(parts.id) else { return Ok(()) };
            slot = again;
        }
        if slot.kept != Keep::Yes {
            self.system_rows += u64::from(slot.kept == Keep::System);
            return Ok(());
        }
        let key = slot.key;
        let mut input = RowsInput {
            op: parts.op,
            before: parts.before,
            after: parts.after,
            images: parts.images,
            partial_json,
            time_s: event.header.timestamp,
        };
        if !slot.looked_at[parts.op as usize] {
            let (mut counted, mut bytes) = (None, parts.images.len() as u64);
            if self.rules.look.passed_count {
                let measured = slot.plan.measure(&input).map_err(|EventError(what)| event.damage(what))?;
                (counted, bytes) = (Some((key, parts.op, measured.rows)), measured.bytes);
            }
            self.group.pass(counted, bytes)?;
            self.after_record(out);
            return Ok(());
        }
        if self.rules.look.sizes_only && slot.announced == announcement {
            let measured = slot.plan.measure(&input).map_err(|EventError(what)| event.damage(what))?;
            self.group.measure(key, parts.op, measured.rows, measured.bytes);
            self.after_record(out);
            return Ok(());
        }
        match self.tables.announcement_of(parts.id) {
            Announcement::Done => {}
            announcement => {
                if announcement == Announcement::Replaces && self.group.has_rows_of(key) && !self.group.is_streaming() {
                    self.stream(out);
                }
                self.write_header(out);
                if self.group.is_streaming() {
                    self.group.write_records(out);
                }
                self.tables.announce(parts.id, out);
            }
        }
        if self.rules.look.sizes_only {
            let Some(slot) = self.tables.get(parts.id) else { return Ok(()) };
            let measured = slot.plan.measure(&input).map_err(|EventError(what)| event.damage(what))?;
            self.group.measure(key, parts.op, measured.rows, measured.bytes);
            self.after_record(out);
            return Ok(());
        }
        if !self.group.annotation.is_empty() {
            let (time_s, text) = (self.group.annotation_time, std::mem::take(&mut self.group.annotation));
            let statement = Statement { sql: text.as_slice().into(), time_s, ..Statement::default() };
            self.group.record(RecordKind::Annotate, |out| statement.encode(out))?;
            self.group.annotation = text;
            self.group.annotation.clear();
        }
        // Also without images: a row may have no columns, and then no bytes.
        while let Some(slot) = self.tables.get(parts.id) {
            let done = slot
                .plan
                .transcode(&input, self.group.records(), RECORD_BYTES)
                .map_err(|EventError(what)| event.damage(what))?;
            if done.rows == 0 {
                break;
            }
            if done.consumed == 0 && !input.images.is_empty() {
                return Err(event.damage("its rows have no bytes"));
            }
            input.images = input.images.get(done.consumed..).unwrap_or(&[]);
            self.group.count(key, parts.op, u64::from(done.rows));
            self.after_record(out);
            if input.images.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Reads where a transaction came from out of an applier's state row.
    #[cold]
    fn lift_origins(&mut self, event: &Event<'_>, parts: &RowsParts<'_>) -> Result<()> {
        let damage = |EventError(what)| event.damage(what);
        let Some(slot) = self.tables.get(parts.id) else { return Ok(()) };
        let mut input = RowsInput {
            op: parts.op,
            before: parts.before,
            after: parts.after,
            images: parts.images,
            partial_json: false,
            time_s: 0,
        };
        let definition = &slot.definition;
        // Without names in the log: it is the last column.
        let column = definition.column_index(own::ORIGINS_COLUMN).or_else(|| definition.columns.len().checked_sub(1));
        let mut record = Vec::new();
        let (mut found, mut scratch) = (Vec::new(), Vec::new());
        while let Some(index) = column.filter(|_| !input.images.is_empty()) {
            record.clear();
            let done = slot.plan.transcode(&input, &mut record, RECORD_BYTES).map_err(damage)?;
            if done.consumed == 0 {
                break;
            }
            input.images = input.images.get(done.consumed..).unwrap_or(&[]);
            let rows = Rows::decode(parts.op, record.get(RECORD_HEAD_LEN..).unwrap_or(&[])).map_err(damage)?;
            let mut rows = rows.iter(definition).map_err(damage)?;
            while let Some(row) = rows.next().map_err(damage)? {
                let value =
                    row.after.as_ref().and_then(|image| image.columns().nth(index)).transpose().map_err(damage)?;
                if let (Some(value), Some(column)) = (value, definition.columns.get(index)) {
                    let text = render(value, column, &mut scratch);
                    own::add_origins(&mut found, &String::from_utf8_lossy(text.bytes));
                }
            }
        }
        self.came_from(&found);
        Ok(())
    }

    /// The transaction came through these targets.
    pub(super) fn came_from(&mut self, origins: &[String]) {
        if self.group.is_streaming() && origins.iter().any(|origin| !self.group.begin.origins.contains(origin)) {
            // An applier writes its state row first.
            let txid = self.group.txid;
            self.note(format!("transaction {txid} says too late where it came from: that is not passed on"));
        }
        origins.iter().for_each(|origin| own::add_origins(&mut self.group.begin.origins, origin));
    }

    /// MariaDB 12.3: `total 4, number 4 (from 1), flags 1, [size of the whole 8 when flag 1], piece`.
    pub(super) fn fragment(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        let mut input = Bytes::new(event.body);
        let mut head = || {
            let (total, number, flags) = (input.u32()?, input.u32()?, input.u8()?);
            let size = if flags & 1 != 0 { input.u64()? } else { 0 };
            Some((total, number, size, input.rest()))
        };
        let (total, number, size, piece) = head().ok_or_else(|| event.cut())?;
        let fragments = &mut self.fragments;
        if number == 1 {
            *fragments = Fragments { data: std::mem::take(&mut fragments.data), total, next: 1, size };
            fragments.data.clear();
        }
        if number == 0 || number != fragments.next || total != fragments.total || number > total {
            return Err(event.damage(format!("piece {number} of {total} does not follow the one before")));
        }
        fragments.next += 1;
        if self.group.skip == Skip::No {
            if (fragments.data.len() + piece.len()) as u64 > u64::from(u32::MAX) {
                return Err(event.damage("the pieces of a rows event exceed 4 GiB"));
            }
            fragments.data.extend_from_slice(piece);
        }
        if number < total {
            return Ok(Flow::Continue);
        }
        let whole = std::mem::take(&mut self.fragments.data);
        let size = self.fragments.size;
        self.fragments = Fragments::default();
        if self.group.skip != Skip::No {
            return Ok(Flow::Continue);
        }
        if size != 0 && size != whole.len() as u64 {
            return Err(event.damage(format!("its pieces have {} bytes instead of {size}", whole.len())));
        }
        let header = self.format.header(&whole).ok_or_else(|| event.cut())?;
        let body = whole.get(self.format.header_len..).unwrap_or(&[]);
        let inner = Event { header, body, raw: &whole, ..*event };
        match header.kind {
            kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1 => self.rows(&inner, header.kind, body, false, out),
            kind::WRITE_ROWS..=kind::DELETE_ROWS => self.rows(&inner, header.kind, body, true, out),
            number @ kind::MARIADB_WRITE_ROWS_COMPRESSED_V1..=kind::MARIADB_DELETE_ROWS_COMPRESSED => {
                self.compressed_rows(&inner, number, out)
            }
            number => Err(event.damage(format!("its pieces are no rows event, but {}", event::name(number)))),
        }
    }
}
/// A rows event's parts.
#[derive(Clone, Copy)]
struct RowsParts<'a> {
    id: u64,
    flags: u16,
    op: RowsOp,
    before: &'a [u8],
    after: &'a [u8],
    images: &'a [u8],
}

/// The extra data of a V2 rows event: a type byte, then NDB's (a length that counts itself and the format byte) or a partition's.
fn check_extra(mut extra: &[u8]) -> Option<()> {
    while let Some((tag, rest)) = extra.split_first() {
        let length = match tag {
            0 => usize::from(*rest.first()?).max(2),
            // Update events name two partitions.
            1 => rest.len().min(4),
            _ => return None,
        };
        extra = rest.get(length..)?;
    }
    Some(())
}
