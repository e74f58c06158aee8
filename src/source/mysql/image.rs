//! Rows events -> rows records, image by image. This is the hottest path of extraction.
//!
//! A [`RowPlan`] is made once for a table map and its definition. For each set of columns that an event has (nearly always
//! the same one) it keeps a compiled list of [`Op`]s, in which neighbours of fixed width are one.
//!
//! Most values stand in rlog's rows exactly as in the server's: integers, floats, packed decimals, bits, dates, and all strings shorter
//! than 128 bytes (a length byte is then also LEB128). So transcoding is walking: bytes that stay the same form a *span*, copied at
//! once when something else follows (a date and time, a longer string) or the image ends.
//!
//! Promises: every length is checked before it is used; nothing is allocated per row besides growing `out`; a value is never
//! guessed: what cannot be cut for certain is an error that names the column.

use super::ops::{Op, Walk, op_of};
use super::table_map::{TableMap, take_packed};
use super::values::Cut;
use super::wire::Wire;
use crate::event::record::{close_record, open_record};
use crate::event::rows::{RowsHead, set_row_count};
use crate::event::{EventError, RowsOp, TableDefinition};
use crate::frame::fields::take_bytes;

/// One rows event, cut by the caller.
#[derive(Clone, Copy, Debug)]
pub struct RowsInput<'a> {
    /// What happened.
    pub op: RowsOp,
    /// Columns in the before images, as the event has them; ignored for inserts.
    pub before: &'a [u8],
    /// Columns in the after images; ignored for deletes.
    pub after: &'a [u8],
    /// Everything behind the column bitmaps, or what an earlier call left of it.
    pub images: &'a [u8],
    /// Whether the event is a PARTIAL_UPDATE_ROWS_EVENT.
    pub partial_json: bool,
    /// Seconds since 1970 UTC; 0: not known.
    pub time_s: u32,
}

/// What one call of [`RowPlan::transcode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transcoded {
    /// Rows written.
    pub rows: u32,
    /// Bytes of the images that they took.
    pub consumed: usize,
}

/// What [`RowPlan::measure`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsMeasure {
    /// Rows.
    pub rows: u64,
    /// Bytes that their images have in records.
    pub bytes: u64,
}

/// A table map and its definition, compiled.
#[derive(Debug)]
pub struct RowPlan {
    key: u64,
    name: String,
    columns: Vec<String>,
    ops: Vec<Op>,
    json: Vec<usize>,
    before: SetPlan,
    after: SetPlan,
    unchanged: Vec<u8>,
    diff: Vec<u8>,
}

/// A set of columns, compiled.
#[derive(Debug, Default)]
struct SetPlan {
    /// As the event has it.
    raw: Vec<u8>,
    /// Without bits behind the last column.
    bits: Vec<u8>,
    /// Columns in the set.
    count: usize,
    /// Bits of the last byte of a null bitmap that count.
    last_mask: u8,
    /// Index in the table and op of each column in the set.
    ops: Vec<(usize, Op)>,
    /// The same with neighbours joined; the first column of each.
    joined: Vec<(usize, Op)>,
}

impl RowPlan {
    /// Compiles. The definition must be made from this table map.
    pub fn new(map: &TableMap, definition: &TableDefinition) -> Result<RowPlan, EventError> {
        let name = format!("{}.{}", definition.database, definition.table);
        if map.columns.len() != definition.columns.len() {
            return Err(EventError(format!("the definition of {name} does not fit its table map")));
        }
        let mut ops = Vec::with_capacity(map.columns.len());
        for (from, to) in map.columns.iter().zip(&definition.columns) {
            ops.push(op_of(from.wire, to).ok_or_else(|| {
                EventError(format!("column {} of {name} cannot be read as {:?} from {:?}", to.name, to.kind, from.wire))
            })?);
        }
        let is_json = |(index, column): (usize, &super::table_map::MapColumn)| {
            matches!(column.wire, Wire::Json(_)).then_some(index)
        };
        Ok(RowPlan {
            key: definition.key(),
            columns: definition.columns.iter().map(|column| column.name.clone()).collect(),
            json: map.columns.iter().enumerate().filter_map(is_json).collect(),
            name,
            ops,
            before: SetPlan::default(),
            after: SetPlan::default(),
            unchanged: Vec::new(),
            diff: Vec::new(),
        })
    }

    /// Columns of the table; a rows event that has another number does not belong to this table map.
    pub fn columns(&self) -> usize {
        self.ops.len()
    }

    /// Appends one rows record to `out` that holds as many rows of `input` as fit into about `limit` bytes, at least one if there
    /// is any. The caller repeats with what is left until everything is consumed. (Without images it asks once: there may be a row that has no
    /// bytes.) On an error `out` is as before.
    pub fn transcode(
        &mut self,
        input: &RowsInput<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Transcoded, EventError> {
        let start = out.len();
        let done = self.transcode_record(input, out, limit);
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    fn transcode_record(
        &mut self,
        input: &RowsInput<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Transcoded, EventError> {
        let op = input.op;
        if op.has_before() {
            self.before.select(&self.ops, input.before).ok_or_else(|| self.short_set())?;
        }
        if op.has_after() && self.after.select(&self.ops, input.after).ok_or_else(|| self.short_set())? {
            self.set_unchanged();
        }
        // MySQL logs a minimal `INSERT … VALUES ()` as one row without columns, which has no bytes (and refuses two of them).
        let bare = op == RowsOp::Insert && self.after.count == 0;
        if input.images.is_empty() && !bare {
            return Ok(Transcoded::default());
        }
        let partial = input.partial_json && op == RowsOp::Update;
        self.diff.clear();
        if partial {
            let mut rest = input.images;
            self.image(&self.before, &mut rest, &mut Vec::new())?;
            let mut diff = Vec::new();
            self.take_diff_set(&mut rest, &mut diff)?;
            self.diff = diff;
        }
        let this = &*self;
        let record = open_record(out, op.record_kind());
        let head = RowsHead {
            key: this.key,
            time_s: input.time_s,
            columns: this.ops.len(),
            before: &this.before.bits,
            after: &this.after.bits,
            unchanged: if op == RowsOp::Update { &this.unchanged } else { &[] },
            diff: &this.diff,
        };
        let count_at = head.encode(op, out);
        out.reserve(input.images.len().min(limit));
        let mut rest = input.images;
        let mut rows = 0u32;
        let mut diff = Vec::new();
        let mut bare = bare;
        while std::mem::take(&mut bare)
            || !rest.is_empty() && (rows == 0 || out.len() - record < limit) && rows < u32::MAX
        {
            let (row_at, row_rest) = (out.len(), rest);
            if op.has_before() {
                this.image(&this.before, &mut rest, out)?;
            }
            if op.has_after() {
                if partial {
                    diff.clear();
                    this.take_diff_set(&mut rest, &mut diff)?;
                    if diff != this.diff {
                        // A record has one diff set: this row begins the next one.
                        out.truncate(row_at);
                        rest = row_rest;
                        break;
                    }
                }
                this.image(&this.after, &mut rest, out)?;
            }
            rows += 1;
            if rest.len() == row_rest.len() && !rest.is_empty() {
                // Rows without any column would never end.
                return Err(EventError(format!("a row of {} has no bytes, but bytes are left", this.name)));
            }
        }
        set_row_count(out, count_at, rows);
        close_record(out, record)?;
        Ok(Transcoded { rows, consumed: input.images.len() - rest.len() })
    }

    /// Counts the rows of an event and the bytes that their images would have in records. What [`RowPlan::transcode`] refuses is refused here.
    pub fn measure(&mut self, input: &RowsInput<'_>) -> Result<RowsMeasure, EventError> {
        let mut found = RowsMeasure::default();
        let mut scratch = Vec::new();
        let (op, mut rest) = (input.op, input.images);
        let bare = op == RowsOp::Insert && rest.is_empty();
        if input.partial_json || bare {
            // Rare: the long way.
            let mut input = *input;
            loop {
                scratch.clear();
                let done = self.transcode(&input, &mut scratch, usize::MAX)?;
                if done.rows == 0 {
                    return Ok(found);
                }
                let body = scratch.get(crate::event::record::RECORD_HEAD_LEN..).unwrap_or(&[]);
                found.rows += u64::from(done.rows);
                found.bytes += crate::event::Rows::decode(op, body)?.images.len() as u64;
                input.images = input.images.get(done.consumed..).unwrap_or(&[]);
                if input.images.is_empty() {
                    return Ok(found);
                }
            }
        }
        if op.has_before() {
            self.before.select(&self.ops, input.before).ok_or_else(|| self.short_set())?;
        }
        if op.has_after() && self.after.select(&self.ops, input.after).ok_or_else(|| self.short_set())? {
            self.set_unchanged();
        }
        while !rest.is_empty() {
            let before = rest.len();
            if op.has_before() {
                found.bytes += self.image_bytes(&self.before, &mut rest, &mut scratch)?;
            }
            if op.has_after() {
                found.bytes += self.image_bytes(&self.after, &mut rest, &mut scratch)?;
            }
            found.rows += 1;
            if rest.len() == before {
                return Err(EventError(format!("a row of {} has no bytes, but bytes are left", self.name)));
            }
        }
        Ok(found)
    }

    /// What is not in the after set is unchanged.
    fn set_unchanged(&mut self) {
        self.unchanged.clear();
        if self.after.count < self.ops.len() {
            self.unchanged.extend(self.after.bits.iter().map(|byte| !byte));
            mask_last(&mut self.unchanged, self.ops.len());
        }
    }

    /// Takes one image and returns its bytes in a record.
    #[inline]
    fn image_bytes(&self, set: &SetPlan, rest: &mut &[u8], scratch: &mut Vec<u8>) -> Result<u64, EventError> {
        let null_bytes = set.count.div_ceil(8);
        let Some((nulls, tail)) = rest.split_at_checked(null_bytes) else { return Err(self.cut(None)) };
        let any_null = match nulls.split_last() {
            Some((last, whole)) => last & set.last_mask != 0 || whole.iter().any(|byte| *byte != 0),
            None => false,
        };
        let mut walk = Walk { wire: tail, at: 0, kept: 0 };
        let mut bytes = null_bytes as u64;
        if any_null {
            for (number, (column, op)) in set.ops.iter().enumerate() {
                if nulls.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1) {
                    continue;
                }
                bytes += walk.measure(*op, scratch).map_err(|cut| self.broken(*column, cut))?;
            }
        } else {
            for (column, op) in &set.joined {
                bytes += walk.measure(*op, scratch).map_err(|cut| self.broken(*column, cut))?;
            }
        }
        *rest = tail.get(walk.at..).unwrap_or(&[]);
        Ok(bytes)
    }

    /// The options in front of the after images of partial updates: bit 0 says that a bitmap over the table's JSON columns
    /// follows. Appends the set of columns that hold diffs; nothing when there is none.
    fn take_diff_set(&self, rest: &mut &[u8], diff: &mut Vec<u8>) -> Result<(), EventError> {
        let cut = || EventError(format!("a partial row of {} is cut short", self.name));
        let options = take_packed(rest).ok_or_else(cut)?;
        if options & !1 != 0 {
            return Err(EventError(format!(
                "a partial row of {} has options {options}, not known to this version",
                self.name
            )));
        }
        if options & 1 == 0 {
            return Ok(());
        }
        let bits = take_bytes(rest, self.json.len().div_ceil(8)).ok_or_else(cut)?;
        let mut any = false;
        diff.resize(self.ops.len().div_ceil(8), 0);
        for (number, column) in self.json.iter().enumerate() {
            if bits.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1) {
                any = true;
                if let Some(byte) = diff.get_mut(column / 8) {
                    *byte |= 1 << (column % 8);
                }
            }
        }
        if !any {
            diff.clear();
        }
        Ok(())
    }

    /// One image: null bitmap and values.
    #[inline]
    fn image(&self, set: &SetPlan, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), EventError> {
        let null_bytes = set.count.div_ceil(8);
        let Some((nulls, tail)) = rest.split_at_checked(null_bytes) else { return Err(self.cut(None)) };
        match *nulls {
            // Most tables: no call to copy it.
            [one] => out.push(one),
            _ => out.extend_from_slice(nulls),
        }
        let mut any_null = false;
        if let (Some((_, whole)), Some(last)) = (nulls.split_last(), out.last_mut()) {
            // The servers set the bits behind the last column; here they are 0, so that equal images are equal bytes.
            *last &= set.last_mask;
            any_null = *last != 0 || whole.iter().any(|byte| *byte != 0);
        }
        let mut walk = Walk { wire: tail, at: 0, kept: 0 };
        if any_null {
            for (number, (column, op)) in set.ops.iter().enumerate() {
                if nulls.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1) {
                    continue;
                }
                walk.step(*op, out).map_err(|cut| self.broken(*column, cut))?;
            }
        } else {
            for (column, op) in &set.joined {
                walk.step(*op, out).map_err(|cut| self.broken(*column, cut))?;
            }
        }
        walk.flush(out);
        *rest = tail.get(walk.at..).unwrap_or(&[]);
        Ok(())
    }

    #[cold]
    fn short_set(&self) -> EventError {
        EventError(format!("the column set of a rows event of {} is cut short", self.name))
    }

    #[cold]
    fn cut(&self, column: Option<usize>) -> EventError {
        match column.and_then(|index| self.columns.get(index)) {
            Some(column) => EventError(format!("a row of {} is cut short at column {column}", self.name)),
            None => EventError(format!("a row of {} is cut short", self.name)),
        }
    }

    #[cold]
    fn broken(&self, column: usize, cut: Cut) -> EventError {
        match cut {
            Cut::Short => self.cut(Some(column)),
            Cut::Invalid(what) => {
                let column = self.columns.get(column).map_or("?", String::as_str);
                EventError(format!("column {column} of {}: {what}", self.name))
            }
        }
    }
}

/// Clears the bits behind column `columns`.
fn mask_last(bits: &mut [u8], columns: usize) {
    if let (Some(last), rest @ 1..) = (bits.last_mut(), columns % 8) {
        *last &= (1 << rest) - 1;
    }
}

impl SetPlan {
    /// Makes this the plan of the set `raw`; whether it was another one before. `None`: the set is cut short.
    #[inline]
    fn select(&mut self, ops: &[Op], raw: &[u8]) -> Option<bool> {
        let same = match (&*self.raw, raw) {
            // Up to eight columns: no call to compare them.
            ([before], [now]) => before == now,
            (before, now) => before == now && !now.is_empty(),
        };
        if same {
            return Some(false);
        }
        self.compile(ops, raw)?;
        Some(true)
    }

    fn compile(&mut self, ops: &[Op], raw: &[u8]) -> Option<()> {
        let bytes = ops.len().div_ceil(8);
        let mut bits = raw.get(..bytes)?.to_vec();
        mask_last(&mut bits, ops.len());
        let in_set = |index: usize| bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        self.ops = ops.iter().copied().enumerate().filter(|(index, _)| in_set(*index)).collect();
        self.count = self.ops.len();
        self.last_mask = if self.count % 8 == 0 { 0xff } else { (1 << (self.count % 8)) - 1 };
        self.joined.clear();
        for (index, op) in &self.ops {
            match (self.joined.last_mut(), op) {
                (Some((_, Op::Keep(before))), Op::Keep(bytes)) => *before = before.checked_add(*bytes)?,
                _ => self.joined.push((*index, *op)),
            }
        }
        self.bits = bits;
        self.raw = raw.to_vec();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::table_map::{Family, tests::body};
    use super::*;
    use crate::event::table::{Column, ColumnKind, StringForm};
    use crate::event::text::{Form, write_value};
    use crate::event::{Records, Rows};

    fn table(types: &[u8], metadata: &[u8]) -> (TableMap, TableDefinition) {
        let body = body(types, metadata, &vec![0xff; types.len().div_ceil(8)], &[]);
        let map = TableMap::parse(&body, 6, Family::MySql).unwrap();
        let definition = super::super::definition(&map, None, Family::MySql).definition;
        (map, definition)
    }

    /// Every row of a payload as text; images of an update have an arrow between them.
    fn show(out: &[u8], definition: &TableDefinition) -> Vec<String> {
        let mut shown = Vec::new();
        let mut records = Records::new(out);
        while let Some((kind, body)) = records.next().unwrap() {
            let rows = Rows::decode(RowsOp::of_record(kind).unwrap(), body).unwrap();
            let mut rows = rows.iter(definition).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let image = |image: crate::event::Image<'_>| {
                    let mut words = Vec::new();
                    for (value, column) in image.columns().zip(&definition.columns) {
                        let mut text = Vec::new();
                        words.push(match write_value(&mut text, value.unwrap(), column) {
                            Form::Absent => "absent".into(),
                            Form::Unchanged => "unchanged".into(),
                            Form::Null => "NULL".into(),
                            Form::Bytes => format!("{text:02x?}"),
                            _ => String::from_utf8(text).unwrap(),
                        });
                    }
                    words.join(" ")
                };
                shown.push([row.before, row.after].into_iter().flatten().map(image).collect::<Vec<_>>().join(" -> "));
            }
        }
        shown
    }

    fn insert<'a>(after: &'a [u8], images: &'a [u8]) -> RowsInput<'a> {
        RowsInput { op: RowsOp::Insert, before: &[], after, images, partial_json: false, time_s: 5 }
    }

    /// One row of one column that is not NULL.
    fn value(
        types: &[u8],
        metadata: &[u8],
        bytes: &[u8],
        change: impl FnOnce(&mut Column),
    ) -> Result<String, EventError> {
        let (map, mut definition) = table(types, metadata);
        change(&mut definition.columns[0]);
        let mut plan = RowPlan::new(&map, &definition)?;
        let mut out = Vec::new();
        let images = [&[0xfe], bytes].concat();
        let done = plan.transcode(&insert(&[1], &images), &mut out, 1 << 20)?;
        assert_eq!(done, Transcoded { rows: 1, consumed: images.len() });
        for length in 1..images.len() {
            let mut cut = b"kept".to_vec();
            assert!(plan.transcode(&insert(&[1], &images[..length]), &mut cut, 1 << 20).is_err(), "cut at {length}");
            assert_eq!(cut, b"kept");
        }
        Ok(show(&out, &definition).remove(0))
    }

    #[test]
    fn every_type_is_read_as_its_bytes_say() {
        let long = [&[0xc8, 0x00][..], &[b'x'; 200]].concat();
        for (types, metadata, bytes, text) in [
            (1, &[][..], &b"\x80"[..], "-128"),
            (2, &[], b"\xff\x7f", "32767"),
            (9, &[], b"\x00\x00\x80", "-8388608"),
            (3, &[], b"\xff\xff\xff\xff", "-1"),
            (8, &[], b"\x01\0\0\0\0\0\0\0", "1"),
            (4, &[4], b"\0\0\xc0\x3f", "1.5"),
            (5, &[8], b"\0\0\0\0\0\0\x04\xc0", "-2.5"),
            (246, &[4, 2], b"\x8c\x32", "12.50"),
            (16, &[1, 1], b"\x01\x02", "258"),
            (13, &[], b"\x00", "0"),
            (13, &[], b"\x7e", "2026"),
            // 2026-11-21: 2026 << 9 | 11 << 5 | 21 = 0x0fd575.
            (10, &[], b"\x75\xd5\x0f", "2026-11-21"),
            (11, &[], b"\xf8\x8a\x01", "10:11:12"),
            (11, &[], &(-8_385_959i32).to_le_bytes()[..3], "-838:59:59"),
            (11, &[], &5_002_030u32.to_le_bytes()[..3], "500:20:30"),
            (12, &[], &20_261_121_101_112u64.to_le_bytes(), "2026-11-21 10:11:12"),
            (12, &[], &[0; 8], "0000-00-00 00:00:00"),
            (7, &[], b"\x00\x00\x00\x00", "0000-00-00 00:00:00"),
            (7, &[], &1_795_255_200u32.to_le_bytes(), "2026-11-21 10:00:00"),
            (17, &[0], &1_795_255_200u32.to_be_bytes(), "2026-11-21 10:00:00"),
            (17, &[3], b"\0\0\0\x01\x04\xce", "1970-01-01 00:00:01.123"),
            (17, &[6], b"\x7f\xff\xff\xff\x0f\x42\x3f", "2038-01-19 03:14:07.999999"),
            // The zero date is the offset alone.
            (18, &[0], b"\x80\0\0\0\0", "0000-00-00 00:00:00"),
            // 9999-12-31 23:59:59.99: (9999 * 13 + 12) << 22 | 31 << 17 | 23 << 12 | 59 << 6 | 59, offset, hundredths.
            (18, &[2], b"\xfe\xf3\xff\x7e\xfb\x63", "9999-12-31 23:59:59.99"),
            (19, &[0], b"\x80\x10\x83", "01:02:03"),
            (19, &[0], b"\x7f\xef\x7d", "-01:02:03"),
            (19, &[0], b"\x4b\x91\x05", "-838:59:59"),
            // As MySQL's documentation of my_time_packed_to_binary has them: -00:00:00.01, -00:00:01.00, -00:00:01.01.
            (19, &[2], b"\x7f\xff\xff\xff", "-00:00:00.01"),
            (19, &[2], b"\x7f\xff\xff\x00", "-00:00:01.00"),
            (19, &[2], b"\x7f\xff\xfe\xff", "-00:00:01.01"),
            (19, &[4], b"\x7f\xff\xff\xff\xfe", "-00:00:00.0002"),
            (19, &[6], b"\x7f\xff\xff\xff\xff\xff", "-00:00:00.000001"),
            (254, &[254, 10], b"\x03abc", "abc"),
            // CHAR of more than 255 bytes has a length of two.
            (254, &[0xde, 0xfd], b"\x03\x00abc", "abc"),
            (15, &[20, 0], b"\x02hi", "hi"),
            (15, &[0, 1], b"\x02\x00hi", "hi"),
            (252, &[1], b"\x01a", "a"),
            (252, &[3], b"\x01\0\0a", "a"),
            (252, &[4], b"\x00\0\0\0", ""),
            (254, &[247, 1], b"\x02", "2"),
            (254, &[247, 2], b"\x01\x01", "257"),
            (254, &[248, 1], b"\x05", "5"),
            (254, &[248, 3], b"\x00\x00\x80", "8388608"),
            (254, &[248, 8], b"\0\0\0\0\0\0\0\x80", "9223372036854775808"),
            (245, &[4], b"\x02\0\0\0\x04\x01", "true"),
            (255, &[4], b"\x02\0\0\0\x01\x02", "[01, 02]"),
            (242, &[4], b"\x04\0\0\0\0\0\x80\x3f", "[00, 00, 80, 3f]"),
            (244, &[], b"\x01", "1"),
            (15, &[200, 1], &long, &"x".repeat(200)),
            (20, &[8], b"\x02\0\0\0\x04\x00", "null"),
        ] {
            assert_eq!(value(&[types], metadata, bytes, |_| ()).as_deref(), Ok(text), "type {types} {metadata:?}");
        }
    }

    #[test]
    fn types_that_need_a_schema_are_read_with_it() {
        let fsp = |kind: fn(u8) -> ColumnKind, fsp| move |column: &mut Column| column.kind = kind(fsp);
        // MariaDB before 10.1: units of the fraction, offset by 3020400 seconds; a calendar of 13 months of 32 days.
        let time = (3_020_400i64 * 1000 - 1_500).to_be_bytes();
        assert_eq!(
            value(&[11], &[], &time[3..], fsp(|fsp| ColumnKind::Time { fsp }, 3)).as_deref(),
            Ok("-00:00:01.500")
        );
        let units = ((((((2026u64 * 13 + 11) * 32 + 21) * 24 + 10) * 60 + 11) * 60) + 12) * 1_000_000 + 5;
        let text = value(&[12], &[], &units.to_be_bytes(), fsp(|fsp| ColumnKind::DateTime { fsp }, 6));
        assert_eq!(text.as_deref(), Ok("2026-11-21 10:11:12.000005"));
        let text = value(&[7], &[], b"\0\0\0\x01\x63", fsp(|fsp| ColumnKind::Timestamp { fsp }, 2));
        assert_eq!(text.as_deref(), Ok("1970-01-01 00:00:01.99"));
        let other = |sql_type: &'static str| {
            move |column: &mut Column| {
                column.kind = ColumnKind::String { form: StringForm::Other, bytes_max: 0 };
                column.sql_type = sql_type.into();
            }
        };
        let uuid = b"\x10\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x55\x44\x00\x00";
        assert_eq!(
            value(&[254], &[254, 16], uuid, other("uuid")).as_deref(),
            Ok("123e4567-e89b-12d3-a456-426655440000")
        );
        assert_eq!(value(&[254], &[254, 4], b"\x02\x0a\x01", other("inet4")).as_deref(), Ok("10.1.0.0"));
        assert_eq!(value(&[254], &[254, 16], b"\x00", other("inet6")).as_deref(), Ok("::"));
        let binary = |column: &mut Column| column.charset = "binary".into();
        assert_eq!(value(&[254], &[254, 4], b"\x02\x01\x00", binary).as_deref(), Ok("[01, 00, 00, 00]"));
        let decimal = |column: &mut Column| column.kind = ColumnKind::String { form: StringForm::Other, bytes_max: 6 };
        assert_eq!(value(&[0], &[], b" -1.50", decimal).as_deref(), Ok("-1.50"));
    }

    #[test]
    fn compressed_columns_are_unpacked() {
        let text = |bytes: &[u8]| value(&[141], &[100, 0], bytes, |_| ());
        assert_eq!(text(b"\x00").as_deref(), Ok(""));
        assert_eq!(text(b"\x03\x00ab").as_deref(), Ok("ab"));
        let mut packed = vec![0x81, 20];
        let mut encoder = flate2::write::ZlibEncoder::new(&mut packed, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &[b'z'; 20]).unwrap();
        encoder.finish().unwrap();
        packed.insert(0, packed.len() as u8);
        assert_eq!(text(&packed).as_deref(), Ok("z".repeat(20).as_str()));
        packed[2] = 21;
        assert!(text(&packed).is_err(), "another length than it says");
        assert!(text(b"\x06\x84\xff\xff\xff\xff\x00").is_err());
        assert!(text(b"\x01\x70").is_err());
    }

    #[test]
    fn values_that_cannot_be_are_errors_that_name_the_column() {
        for (number, bytes) in [(18, &b"\x00\0\0\0\0"[..]), (12, &99_999_999_999_999u64.to_le_bytes())] {
            let metadata: &[u8] = if number == 18 { &[0] } else { &[] };
            assert!(value(&[number], metadata, bytes, |_| ()).unwrap_err().to_string().contains("column @1 of d.t"));
        }
    }

    #[test]
    fn nulls_and_columns_that_are_not_there_are_kept_apart() {
        // INT, VARCHAR(20), DATETIME(0), INT … ten columns, so that bitmaps have two bytes.
        let types = [3, 15, 18, 3, 3, 3, 3, 3, 3, 1];
        let (map, definition) = table(&types, &[20, 0, 0]);
        let mut plan = RowPlan::new(&map, &definition).unwrap();
        let (before, after) = ([0b0000_0011, 0b10], [0b0000_0110, 0b10]);
        let images =
            [&[0b1111_1010][..], &7u32.to_le_bytes(), &[9], &[0b1111_1000], b"\x02hi", b"\x80\0\0\0\0", &[8]].concat();
        let input = RowsInput {
            op: RowsOp::Update,
            before: &before,
            after: &after,
            images: &images,
            partial_json: false,
            time_s: 0,
        };
        let mut out = Vec::new();
        plan.transcode(&input, &mut out, 1 << 20).unwrap();
        let (absent, unchanged) = (["absent"; 7].join(" "), ["unchanged"; 6].join(" "));
        let wanted = format!("7 NULL {absent} 9 -> unchanged hi 0000-00-00 00:00:00 {unchanged} 8");
        assert_eq!(show(&out, &definition), [wanted]);
        // An insert without a column does not say that it stayed as it was.
        let mut out = Vec::new();
        plan.transcode(&insert(&after, &images[6..]), &mut out, 1 << 20).unwrap();
        assert!(show(&out, &definition)[0].starts_with("absent hi"));
        assert!(plan.transcode(&insert(&[1], &images), &mut out, 1 << 20).is_err(), "the column set is cut short");
    }

    /// The row was dropped before this test: the event has no bytes behind its empty column set.
    #[test]
    fn an_insert_of_no_columns_is_one_row() {
        let (map, definition) = table(&[3, 3], &[]);
        let mut plan = RowPlan::new(&map, &definition).unwrap();
        let mut out = Vec::new();
        assert_eq!(plan.transcode(&insert(&[0], &[]), &mut out, 1 << 20), Ok(Transcoded { rows: 1, consumed: 0 }));
        assert_eq!(show(&out, &definition), ["absent absent"]);
        assert!(plan.transcode(&insert(&[0], &[0]), &mut out, 1 << 20).is_err());
        assert_eq!(plan.transcode(&insert(&[1], &[]), &mut out, 1 << 20), Ok(Transcoded::default()));
    }

    #[test]
    fn records_end_at_row_boundaries_near_the_limit() {
        let (map, definition) = table(&[3], &[]);
        let mut plan = RowPlan::new(&map, &definition).unwrap();
        let images: Vec<u8> = (0..1000u32).flat_map(|n| [&[0xfe][..], &n.to_le_bytes()].concat()).collect();
        let (mut out, mut at, mut calls) = (Vec::new(), 0, 0);
        while at < images.len() {
            let start = out.len();
            let done = plan.transcode(&insert(&[1], &images[at..]), &mut out, 256).unwrap();
            assert!(done.rows > 0 && out.len() - start < 256 + 5);
            at += done.consumed;
            calls += 1;
        }
        assert!(calls > 10);
        assert_eq!(show(&out, &definition), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(plan.transcode(&insert(&[1], &[]), &mut out, 256), Ok(Transcoded::default()));
    }

    #[test]
    fn rows_with_other_json_columns_changed_begin_another_record() {
        let (map, definition) = table(&[3, 245, 245], &[4, 4]);
        let mut plan = RowPlan::new(&map, &definition).unwrap();
        let json = b"\x02\0\0\0\x04\x01";
        // Replace at path "$[0]", which the log writes without the $, with false.
        let diff = [&10u32.to_le_bytes()[..], &[0, 3], b"[0]", &[2, 4, 2]].concat();
        let diff = [&(diff.len() as u32 - 4).to_le_bytes()[..], &diff[4..]].concat();
        let before = |id: u32| [&[0xf8][..], &id.to_le_bytes(), json, json].concat();
        let after = |id: u32, bits: u8, a: &[u8], b: &[u8]| [&[1, bits, 0xf8][..], &id.to_le_bytes(), a, b].concat();
        let images = [
            before(1),
            after(1, 0b01, &diff, json),
            before(2),
            after(2, 0b01, &diff, json),
            before(3),
            after(3, 0b10, json, &diff),
            before(4),
            [&[0, 0xf8][..], &4u32.to_le_bytes(), json, json].concat(),
        ]
        .concat();
        let (mut out, mut rest, mut rows) = (Vec::new(), images.as_slice(), Vec::new());
        while !rest.is_empty() {
            let input = RowsInput {
                op: RowsOp::Update,
                before: &[7],
                after: &[7],
                images: rest,
                partial_json: true,
                time_s: 0,
            };
            let done = plan.transcode(&input, &mut out, 1 << 20).unwrap();
            rows.push(done.rows);
            rest = &rest[done.consumed..];
        }
        assert_eq!(rows, [2, 1, 1]);
        let changed = r#"[{"op": "replace", "path": "$[0]", "value": false}]"#;
        let shown = show(&out, &definition);
        assert_eq!(shown[1], format!("2 true true -> 2 {changed} true"));
        assert_eq!(shown[2], format!("3 true true -> 3 true {changed}"));
        assert_eq!(shown[3], "4 true true -> 4 true true");
    }

    /// Whatever the bytes: an error or rows that read back, never a panic, and never an output that grows without rows.
    #[test]
    fn no_damage_panics_and_what_comes_out_is_valid() {
        let types = [3, 15, 15, 246, 18, 19, 17, 254, 254, 252, 245, 16, 11, 12, 140];
        let metadata = [20, 0, 44, 1, 10, 2, 3, 2, 6, 247, 1, 248, 3, 2, 4, 1, 2, 2];
        let (map, definition) = table(&types, &metadata);
        let mut plan = RowPlan::new(&map, &definition).unwrap();
        let row = [
            &[0, 0x80][..],
            &7u32.to_le_bytes(),
            b"\x02hi",
            b"\x02\0ho",
            &[0x80, 0, 0, 12, 50],
            b"\x80\0\0\0\0\x01\x01",
            b"\x80\x10\x83\x63",
            b"\0\0\0\x01\x0f\x42\x3f",
            &[1],
            &[1, 2, 3],
            b"\x01\0a",
            b"\x02\0\0\0\x04\x01",
            &[1, 2, 3],
            &[1, 0, 0],
            &20_261_121_101_112u64.to_le_bytes(),
            b"\x02\0\0x",
        ]
        .concat();
        let images = row.repeat(3);
        let set = [0xff, 0x7f];
        let mut out = Vec::new();
        assert_eq!(plan.transcode(&insert(&set, &images), &mut out, 1 << 20).unwrap().rows, 3);
        assert!(show(&out, &definition)[2].ends_with(" x"));
        for at in 0..row.len() {
            for value in 0..=255 {
                let mut damaged = images.clone();
                damaged[at] = value;
                let mut out = Vec::new();
                if plan.transcode(&insert(&set, &damaged), &mut out, 1 << 20).is_ok() {
                    let _ = show(&out, &definition);
                } else {
                    assert!(out.is_empty());
                }
                let input = RowsInput { op: RowsOp::Update, before: &set, ..insert(&set, &damaged) };
                let _ = plan.transcode(&RowsInput { partial_json: true, ..input }, &mut out, 64);
            }
        }
    }
}
