//! Row images as JSON objects, by a plan that is made once a definition and column set.

use std::ops::Range;

use super::same;
use crate::dump::escape::{put_json_document, put_json_single, put_json_string};
use crate::dump::pen::{Pen, Piece};
use crate::dump::table::Table;
use crate::event::charset::{self, Decoder};
use crate::event::digits::{put_int, put_uint};
use crate::event::text;
use crate::event::value::{DateParts, DateTimeParts, take_value};
use crate::event::{Column, ColumnKind, ColumnSet, Rows, Sign, Value};
use crate::frame::fields::{take_bytes, take_varint};

/// How a column's value is written.
#[derive(Clone, Debug)]
enum How {
    /// Integer of this many bytes.
    Signed(u8),
    Unsigned(u8),
    /// Counted characters that are UTF-8, or whose charset is not known.
    Text,
    /// Counted characters of one byte, of which the lower 128 are ASCII.
    Single(&'static [char; 128]),
    /// Counted bytes.
    Bytes,
    /// Dates and times.
    Date,
    DateTime(u8),
    Timestamp(u8),
    /// Packed decimal: bytes, precision, scale.
    Decimal(u8, u8, u8),
    /// A number of this many bytes (2: ENUM, 8: SET) by which the value's JSON is found.
    Listed(u8, Box<[Box<[u8]>]>),
    /// Everything else, through its text.
    Other,
}

/// Longest list of values' JSON that is made beforehand.
const LISTED_MAX: usize = 256;

/// Every byte from 0x80 is invalid in ASCII.
const NO_UPPER: [char; 128] = [char::REPLACEMENT_CHARACTER; 128];

/// What is the same for all rows of a table.
pub struct TablePlan {
    /// `,"database":"…","table":"…","ordinal":`.
    pub name: Vec<u8>,
    /// What stands between the txid and the ordinal of its rows, by operation, and for which time.
    pub heads: [(u32, Vec<u8>); 3],
    columns: Vec<ColumnPlan>,
    definitions: Vec<Column>,
    key_columns: usize,
    /// Plans of the column sets that were last seen.
    pub before: ImagePlan,
    /// See `before`.
    pub after: ImagePlan,
}

struct ColumnPlan {
    /// `"name":`.
    name: Vec<u8>,
    how: How,
    shown: bool,
    in_key: bool,
}

/// A column that stands in an image.
struct Item {
    /// What stands between the value before and this one: a comma or `,"after":{`, and the name.
    piece: Piece,
    /// Where in it the name begins.
    name_at: usize,
    /// Index in the table.
    column: usize,
    how: How,
    shown: bool,
    in_key: bool,
    diff: bool,
}

/// How to read and print images with one column set.
#[derive(Default)]
pub struct ImagePlan {
    made: bool,
    set: Vec<u8>,
    unchanged: Vec<u8>,
    diff: Vec<u8>,
    /// Columns in the set, in order.
    items: Vec<Item>,
    /// What opens the object when no column does.
    empty: &'static [u8],
    /// `}`, and `,"absent":[…],"unchanged":[…]`, if there are any.
    pub close: Piece,
    /// `}`, and `,"absent_before":[…]`, if there are any.
    pub close_before: Piece,
}

/// The key columns of the row at hand, `"name":value` with commas between.
#[derive(Default)]
pub struct Keys {
    bytes: Vec<u8>,
    found: usize,
    /// Where the row has it already, if it is one column that is shown.
    only: Range<usize>,
    /// For texts that are made before they are escaped.
    scratch: Vec<u8>,
}

impl Keys {
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.found = 0;
        self.only = 0..0;
    }

    fn add(&mut self, name_and_value: &[u8]) {
        if self.found > 0 {
            self.bytes.push(b',');
        }
        self.found += 1;
        self.bytes.extend_from_slice(name_and_value);
    }

    /// Appends `,"key":{…}` when the image had the whole key.
    #[inline]
    pub fn put(&self, pen: &mut Pen<'_>, plan: &TablePlan) {
        if !self.only.is_empty() {
            pen.block(b",\"key\":{", 8);
            pen.again(self.only.clone());
            pen.byte(b'}');
        } else if self.found > 0 && self.found == plan.key_columns {
            pen.block(b",\"key\":{", 8);
            pen.bytes(&self.bytes);
            pen.byte(b'}');
        }
    }
}

impl TablePlan {
    pub fn new(table: &Table, fields: &[String]) -> TablePlan {
        let definition = &table.definition;
        let mut name = b",\"database\":".to_vec();
        put_json_string(&mut name, definition.database.as_bytes());
        name.extend_from_slice(b",\"table\":");
        put_json_string(&mut name, definition.table.as_bytes());
        name.extend_from_slice(b",\"ordinal\":");
        let columns = definition.columns.iter().enumerate().map(|(index, column)| {
            let mut name = Vec::new();
            put_json_string(&mut name, column.name.as_bytes());
            name.push(b':');
            let shown = fields.is_empty() || fields.iter().any(|field| field.eq_ignore_ascii_case(&column.name));
            ColumnPlan { name, how: how(column), shown, in_key: table.identity.contains(&index) }
        });
        TablePlan {
            name,
            heads: Default::default(),
            columns: columns.collect(),
            definitions: definition.columns.clone(),
            key_columns: table.identity.len(),
            before: ImagePlan::default(),
            after: ImagePlan::default(),
        }
    }

    /// Makes the plans of the record's column sets, unless they are those of the last one.
    #[inline]
    pub fn prepare(&mut self, rows: &Rows<'_>, table: &Table) {
        let none = ColumnSet::new(&[]);
        if rows.op.has_before() {
            self.before.prepare(b",\"before\":{", rows.before, none, none, table, &self.columns);
        }
        if rows.op.has_after() {
            self.after.prepare(b",\"after\":{", rows.after, rows.unchanged, rows.diff, table, &self.columns);
        }
    }
}

fn how(column: &Column) -> How {
    match column.kind {
        ColumnKind::Int { bytes, sign: Sign::Unsigned } => How::Unsigned(bytes),
        ColumnKind::Int { bytes, .. } => How::Signed(bytes),
        ColumnKind::String { .. } => match charset::decoder(&column.charset) {
            Decoder::Binary => How::Bytes,
            Decoder::Utf8 => How::Text,
            Decoder::Single(upper) => How::Single(upper),
            Decoder::Ascii => How::Single(&NO_UPPER),
            _ => How::Other,
        },
        ColumnKind::Geometry | ColumnKind::Vector => How::Bytes,
        ColumnKind::Date => How::Date,
        ColumnKind::DateTime { fsp } => How::DateTime(fsp),
        ColumnKind::Timestamp { fsp } => How::Timestamp(fsp),
        ColumnKind::Decimal { precision, scale } => {
            let length = crate::event::table::decimal_len(precision, scale);
            u8::try_from(length).map_or(How::Other, |length| How::Decimal(length, precision, scale))
        }
        ColumnKind::Enum if column.members.len() < LISTED_MAX => {
            listed(2, (0..=column.members.len() as u16).map(Value::Enum), column)
        }
        ColumnKind::Set if column.members.len() <= LISTED_MAX.ilog2() as usize => {
            listed(8, (0..1u64 << column.members.len()).map(Value::Set), column)
        }
        _ => How::Other,
    }
}

fn listed<'a>(bytes: u8, values: impl Iterator<Item = Value<'a>>, column: &Column) -> How {
    let mut scratch = Vec::new();
    let json = values.map(|value| {
        let mut out = Vec::new();
        put_other(&mut out, value, column, &mut scratch);
        out.into_boxed_slice()
    });
    How::Listed(bytes, json.collect())
}

impl Item {
    fn new(open: &[u8], column: &ColumnPlan, index: usize, diff: bool) -> Item {
        Item {
            piece: [open, &column.name].concat().into(),
            name_at: open.len(),
            column: index,
            how: column.how.clone(),
            shown: column.shown,
            in_key: column.in_key,
            diff,
        }
    }
}

impl ImagePlan {
    #[inline]
    fn prepare(
        &mut self,
        open: &'static [u8],
        set: ColumnSet<'_>,
        unchanged: ColumnSet<'_>,
        diff: ColumnSet<'_>,
        table: &Table,
        columns: &[ColumnPlan],
    ) {
        if !self.made || !same(set, &self.set) || !same(unchanged, &self.unchanged) || !same(diff, &self.diff) {
            *self = ImagePlan::new(open, set, unchanged, diff, table, columns);
        }
    }

    #[cold]
    fn new(
        open: &'static [u8],
        set: ColumnSet<'_>,
        unchanged: ColumnSet<'_>,
        diff: ColumnSet<'_>,
        table: &Table,
        columns: &[ColumnPlan],
    ) -> ImagePlan {
        let definition = &table.definition;
        let mut plan = ImagePlan {
            made: true,
            set: set.bits().to_vec(),
            unchanged: unchanged.bits().to_vec(),
            diff: diff.bits().to_vec(),
            ..ImagePlan::default()
        };
        let mut absent = Vec::new();
        let mut left = Vec::new();
        let mut next = open;
        for (index, (column, how)) in definition.columns.iter().zip(columns).enumerate() {
            if set.contains(index) {
                let diff = column.kind == ColumnKind::JsonBinary && diff.contains(index);
                plan.items.push(Item::new(next, how, index, diff));
                if how.shown {
                    next = b",";
                }
            } else if how.shown {
                let list = if unchanged.contains(index) { &mut left } else { &mut absent };
                if !list.is_empty() {
                    list.push(b',');
                }
                put_json_string(list, column.name.as_bytes());
            }
        }
        if next == open {
            plan.empty = open;
        }
        let list = |out: &mut Vec<u8>, name: &[u8], names: &[u8]| {
            if !names.is_empty() {
                out.extend_from_slice(name);
                out.extend_from_slice(names);
                out.push(b']');
            }
        };
        let (mut close, mut close_before) = (b"}".to_vec(), b"}".to_vec());
        list(&mut close, b",\"absent\":[", &absent);
        list(&mut close, b",\"unchanged\":[", &left);
        list(&mut close_before, b",\"absent_before\":[", &absent);
        (plan.close, plan.close_before) = (close.into(), close_before.into());
        plan
    }

    /// Prints one image but for what closes it. The image is taken off the front of `input`, and its key is kept when `in_key`. `None`: it is
    /// damaged.
    #[inline]
    pub fn put(
        &self,
        pen: &mut Pen<'_>,
        plan: &TablePlan,
        input: &mut &[u8],
        keys: &mut Keys,
        in_key: bool,
    ) -> Option<()> {
        let nulls = take_bytes(input, self.items.len().div_ceil(8))?;
        let mut rest = *input;
        for (place, item) in self.items.iter().enumerate() {
            let is_null = nulls.get(place / 8)? >> (place % 8) & 1 == 1;
            if item.shown && !item.in_key {
                item.put_member(pen, is_null, plan, &mut rest, keys)?;
                continue;
            }
            let start = pen.len();
            item.put_member(pen, is_null, plan, &mut rest, keys)?;
            if item.in_key && in_key {
                let member = start + item.name_at..pen.len();
                if plan.key_columns == 1 && item.shown {
                    keys.only = member;
                } else {
                    pen.buffer(|out| {
                        keys.add(out.get(member)?);
                        Some(())
                    })?;
                }
            }
            if !item.shown {
                pen.truncate(start);
            }
        }
        *input = rest;
        pen.bytes(self.empty);
        Some(())
    }
}

impl Item {
    #[inline(always)]
    fn put_member(
        &self,
        pen: &mut Pen<'_>,
        is_null: bool,
        plan: &TablePlan,
        input: &mut &[u8],
        keys: &mut Keys,
    ) -> Option<()> {
        pen.piece(&self.piece);
        if is_null {
            pen.block(b"null", 4);
            return Some(());
        }
        self.put_value(pen, plan, input, keys)
    }

    #[inline(always)]
    fn put_value(&self, pen: &mut Pen<'_>, plan: &TablePlan, input: &mut &[u8], keys: &mut Keys) -> Option<()> {
        match self.how {
            How::Signed(bytes) => {
                let shift = 64 - 8 * u32::from(bytes);
                let value = (take_int(input, bytes)? << shift) as i64 >> shift;
                if value.unsigned_abs() <= EXACT_MAX {
                    if value < 0 {
                        pen.byte(b'-');
                    }
                    pen.uint(value.unsigned_abs());
                } else {
                    pen.buffer(|out| put_signed(out, value as u64, 8));
                }
            }
            How::Unsigned(bytes) => {
                let value = take_int(input, bytes)?;
                if value <= EXACT_MAX {
                    pen.uint(value);
                } else {
                    pen.buffer(|out| put_unsigned(out, value));
                }
            }
            How::Text => {
                let bytes = take_counted(input)?;
                pen.buffer(|out| {
                    if !put_json_string(out, bytes) {
                        put_base64(out, bytes);
                    }
                });
            }
            How::Single(upper) => {
                let bytes = take_counted(input)?;
                pen.buffer(|out| {
                    if !put_json_single(out, bytes, upper) {
                        put_base64(out, bytes);
                    }
                });
            }
            How::Bytes => {
                let bytes = take_counted(input)?;
                pen.buffer(|out| put_base64(out, bytes));
            }
            How::DateTime(fsp) => put_datetime(pen, DateTimeParts::unpack(take_int(input, 8)? as i64), fsp),
            How::Timestamp(fsp) => put_datetime(pen, text::timestamp_parts(take_int(input, 8)? as i64), fsp),
            How::Date => {
                let parts = DateParts::unpack(take_int(input, 3)? as u32);
                pen.buffer(|out| {
                    out.push(b'"');
                    text::write_date(out, parts);
                    out.push(b'"');
                });
            }
            How::Decimal(length, precision, scale) => {
                let packed = take_bytes(input, usize::from(length))?;
                match text::small_decimal(packed, precision, scale) {
                    Some((negative, whole, fraction)) => {
                        pen.word(u64::from_le_bytes(*b"\"-      "), 1 + usize::from(negative));
                        pen.uint(whole);
                        if scale > 0 {
                            pen.byte(b'.');
                            pen.padded(fraction, scale.into());
                        }
                        pen.byte(b'"');
                    }
                    None => pen.buffer(|out| put_decimal(out, packed, precision, scale)),
                }
            }
            How::Listed(bytes, ref list) => {
                let number = take_int(input, bytes)?;
                match usize::try_from(number).ok().and_then(|number| list.get(number)) {
                    Some(json) => pen.bytes(json),
                    None => pen.buffer(|out| put_unsigned(out, number)),
                }
            }
            How::Other => {
                let definition = plan.definitions.get(self.column)?;
                let value = take_value(input, definition.kind, self.diff)?;
                pen.buffer(|out| put_other(out, value, definition, &mut keys.scratch));
            }
        }
        Some(())
    }
}

#[inline]
fn take_counted<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match input.split_first() {
        Some((&length, rest)) if length < 0x80 => {
            *input = rest;
            usize::from(length)
        }
        _ => usize::try_from(take_varint(input)?).ok()?,
    };
    take_bytes(input, length)
}

/// A little-endian integer, not extended.
#[inline]
fn take_int(input: &mut &[u8], bytes: u8) -> Option<u64> {
    // Whole words where there is room behind; the last value of a record takes the slow way.
    let length = usize::from(bytes);
    let value = match input.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word) & (u64::MAX >> (64 - 8 * u32::from(bytes))),
        None => input.get(..length)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)),
    };
    *input = input.get(length..)?;
    Some(value)
}

/// Largest integer that every JSON reader keeps.
const EXACT_MAX: u64 = 1 << 53;

#[inline(always)]
fn put_signed(out: &mut Vec<u8>, raw: u64, bytes: u8) {
    let shift = 64 - 8 * u32::from(bytes);
    let value = (raw << shift) as i64 >> shift;
    if value.unsigned_abs() <= EXACT_MAX {
        put_int(out, value);
    } else {
        out.push(b'"');
        put_int(out, value);
        out.push(b'"');
    }
}

#[inline(always)]
fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    if value <= EXACT_MAX {
        put_uint(out, value);
    } else {
        out.push(b'"');
        put_uint(out, value);
        out.push(b'"');
    }
}

#[inline(always)]
fn put_datetime(pen: &mut Pen<'_>, parts: DateTimeParts, fsp: u8) {
    match text::datetime_words(parts) {
        Some([first, second, third]) if fsp == 0 => {
            pen.byte(b'"');
            pen.word(first, 8);
            pen.word(second, 8);
            pen.word(third | u64::from(b'"') << 24, 4);
        }
        _ => pen.buffer(|out| {
            out.push(b'"');
            text::write_datetime(out, parts, fsp);
            out.push(b'"');
        }),
    }
}

#[inline]
fn put_decimal(out: &mut Vec<u8>, packed: &[u8], precision: u8, scale: u8) {
    out.push(b'"');
    if text::write_decimal(out, packed, precision, scale) {
        out.push(b'"');
    } else {
        out.pop();
        put_base64(out, packed);
    }
}

/// `{"base64":"…"}`, the form of bytes that are no text.
pub fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"base64\":\"");
    base64_simd::STANDARD.encode_append(bytes, out);
    out.extend_from_slice(b"\"}");
}

/// A value through its text.
fn put_other(out: &mut Vec<u8>, value: Value<'_>, column: &Column, scratch: &mut Vec<u8>) {
    // Texts without anything to escape are written in place.
    let quoted = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
        out.push(b'"');
        write(out);
        out.push(b'"');
    };
    match value {
        Value::Int(value) => put_signed(out, value as u64, 8),
        Value::UInt(value) => put_unsigned(out, value),
        Value::Bit { bytes, .. } => {
            put_unsigned(out, bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        Value::Year(year) => text::write_uint(out, u64::from(year)),
        Value::Float(value) if value.is_finite() => {
            out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        }
        Value::Double(value) if value.is_finite() => {
            out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        }
        Value::Decimal { packed, precision, scale } => put_decimal(out, packed, precision, scale),
        Value::Date(packed) => quoted(out, &|out| text::write_date(out, DateParts::unpack(packed))),
        Value::DateTime { packed, fsp } => {
            quoted(out, &|out| text::write_datetime(out, DateTimeParts::unpack(packed), fsp));
        }
        Value::Timestamp { us, fsp } => quoted(out, &|out| text::write_timestamp(out, us, fsp)),
        Value::Time { us, fsp } => quoted(out, &|out| text::write_time(out, us, fsp)),
        value => {
            let rendered = text::render(value, column, scratch);
            match rendered.form {
                text::Form::Integer if rendered.bytes.len() < 16 => out.extend_from_slice(rendered.bytes),
                text::Form::Bytes => put_base64(out, rendered.bytes),
                // Not as a string, which would be a document.
                text::Form::JsonDiff => put_json_document(out, &String::from_utf8_lossy(rendered.bytes)),
                _ => {
                    if !put_json_string(out, rendered.bytes) {
                        put_base64(out, rendered.bytes);
                    }
                }
            }
        }
    }
}
