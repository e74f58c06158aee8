//! Row images as JSON objects, by a plan that is made once a definition and column set.

use super::same;
use crate::dump::escape::{plain_len, put_json_string, put_short};
use crate::dump::table::Table;
use crate::event::charset::{self, Decoder};
use crate::event::text;
use crate::event::value::{DateParts, DateTimeParts, take_value};
use crate::event::{Column, ColumnKind, ColumnSet, Rows, Sign, Value};
use crate::frame::fields::{take_bytes, take_varint};

/// How a column's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Integer of this many bytes.
    Signed(u8),
    Unsigned(u8),
    /// Counted characters that are UTF-8 or ASCII, or whose charset is not known.
    Text,
    /// Counted characters of a charset in which ASCII is ASCII.
    AsciiAlike,
    /// Counted bytes.
    Bytes,
    /// Everything else, through its text.
    Other,
}

/// What is the same for all rows of a table.
pub struct TablePlan {
    /// `,"database":"…","table":"…"`.
    pub name: Vec<u8>,
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

/// How to read and print images with one column set.
#[derive(Default)]
pub struct ImagePlan {
    made: bool,
    set: Vec<u8>,
    unchanged: Vec<u8>,
    diff: Vec<u8>,
    /// Columns in the set, in order.
    columns: Vec<(usize, bool)>,
    /// `,"absent":[…],"unchanged":[…]`, or nothing.
    pub absent: Vec<u8>,
    /// `,"absent_before":[…]`, or nothing.
    pub absent_before: Vec<u8>,
}

/// The key columns of the row at hand, `"name":value` with commas between.
#[derive(Default)]
pub struct Keys {
    bytes: Vec<u8>,
    found: usize,
    /// For texts that are made before they are escaped.
    scratch: Vec<u8>,
}

impl Keys {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.found = 0;
    }

    #[inline]
    fn add(&mut self, name_and_value: &[u8]) {
        if self.found > 0 {
            self.bytes.push(b',');
        }
        self.found += 1;
        put_short(&mut self.bytes, name_and_value);
    }

    /// Appends `,"key":{…}` when the image had the whole key.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>, plan: &TablePlan) {
        if self.found > 0 && self.found == plan.key_columns {
            out.extend_from_slice(b",\"key\":{");
            put_short(out, &self.bytes);
            out.push(b'}');
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
        let columns = definition.columns.iter().enumerate().map(|(index, column)| {
            let mut name = Vec::new();
            put_json_string(&mut name, column.name.as_bytes());
            name.push(b':');
            let shown = fields.is_empty() || fields.iter().any(|field| field.eq_ignore_ascii_case(&column.name));
            ColumnPlan { name, how: how(column), shown, in_key: table.identity.contains(&index) }
        });
        TablePlan {
            name,
            columns: columns.collect(),
            definitions: definition.columns.clone(),
            key_columns: table.identity.len(),
            before: ImagePlan::default(),
            after: ImagePlan::default(),
        }
    }

    /// Makes the plans of the record's column sets, unless they are those of the last one.
    pub fn prepare(&mut self, rows: &Rows<'_>, table: &Table) {
        let none = ColumnSet::new(&[]);
        if rows.op.has_before() {
            self.before.prepare(rows.before, none, none, table, &self.columns);
        }
        if rows.op.has_after() {
            self.after.prepare(rows.after, rows.unchanged, rows.diff, table, &self.columns);
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
            Decoder::Single(_) | Decoder::Ascii => How::AsciiAlike,
            _ => How::Other,
        },
        ColumnKind::Geometry | ColumnKind::Vector => How::Bytes,
        _ => How::Other,
    }
}

impl ImagePlan {
    fn prepare(
        &mut self,
        set: ColumnSet<'_>,
        unchanged: ColumnSet<'_>,
        diff: ColumnSet<'_>,
        table: &Table,
        columns: &[ColumnPlan],
    ) {
        if self.made && same(set, &self.set) && same(unchanged, &self.unchanged) && same(diff, &self.diff) {
            return;
        }
        let definition = &table.definition;
        *self = ImagePlan {
            made: true,
            set: set.bits().to_vec(),
            unchanged: unchanged.bits().to_vec(),
            diff: diff.bits().to_vec(),
            ..ImagePlan::default()
        };
        let mut absent = Vec::new();
        let mut left = Vec::new();
        for (index, (column, plan)) in definition.columns.iter().zip(columns).enumerate() {
            if set.contains(index) {
                self.columns.push((index, column.kind == ColumnKind::JsonBinary && diff.contains(index)));
            } else if plan.shown {
                let list = if unchanged.contains(index) { &mut left } else { &mut absent };
                if !list.is_empty() {
                    list.push(b',');
                }
                put_json_string(list, column.name.as_bytes());
            }
        }
        let list = |out: &mut Vec<u8>, name: &[u8], names: &[u8]| {
            if !names.is_empty() {
                out.extend_from_slice(name);
                out.extend_from_slice(names);
                out.push(b']');
            }
        };
        list(&mut self.absent, b",\"absent\":[", &absent);
        list(&mut self.absent, b",\"unchanged\":[", &left);
        list(&mut self.absent_before, b",\"absent_before\":[", &absent);
    }

    /// Prints the members of one image, which is taken off the front of `input`, and keeps its key when `in_key`. `None`: it is
    /// damaged.
    #[inline]
    pub fn put(
        &self,
        out: &mut Vec<u8>,
        plan: &TablePlan,
        input: &mut &[u8],
        keys: &mut Keys,
        in_key: bool,
    ) -> Option<()> {
        let nulls = take_bytes(input, self.columns.len().div_ceil(8))?;
        let mut comma = false;
        for (place, &(index, diff)) in self.columns.iter().enumerate() {
            let column = plan.columns.get(index)?;
            let start = out.len();
            if comma {
                out.push(b',');
            }
            let member = out.len();
            put_short(out, &column.name);
            if nulls.get(place / 8)? >> (place % 8) & 1 == 1 {
                out.extend_from_slice(b"null");
            } else {
                match column.how {
                    How::Signed(bytes) => put_signed(out, take_int(input, bytes)?, bytes),
                    How::Unsigned(bytes) => put_unsigned(out, take_int(input, bytes)?),
                    How::Text => {
                        let bytes = take_counted(input)?;
                        if !put_json_string(out, bytes) {
                            put_base64(out, bytes);
                        }
                    }
                    How::AsciiAlike => {
                        let bytes = take_counted(input)?;
                        if plain_len(bytes) == bytes.len() {
                            put_json_plain(out, bytes);
                        } else {
                            let definition = plan.definitions.get(index)?;
                            put_other(out, Value::String(bytes), definition, &mut keys.scratch);
                        }
                    }
                    How::Bytes => put_base64(out, take_counted(input)?),
                    How::Other => {
                        let definition = plan.definitions.get(index)?;
                        put_other(out, take_value(input, definition.kind, diff)?, definition, &mut keys.scratch);
                    }
                }
            }
            if in_key && column.in_key {
                keys.add(out.get(member..)?);
            }
            if column.shown {
                comma = true;
            } else {
                out.truncate(start);
            }
        }
        Some(())
    }
}

#[inline]
fn take_counted<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(input)?).ok()?;
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

#[inline]
fn put_signed(out: &mut Vec<u8>, raw: u64, bytes: u8) {
    let shift = 64 - 8 * u32::from(bytes);
    let value = (raw << shift) as i64 >> shift;
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    if value.unsigned_abs() <= EXACT_MAX { put_short(out, text) } else { put_quoted(out, text) }
}

#[inline]
fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    if value <= EXACT_MAX { put_short(out, text) } else { put_quoted(out, text) }
}

/// A string of which nothing needs an escape.
#[inline]
fn put_json_plain(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    put_short(out, bytes);
    out.push(b'"');
}

#[inline]
fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
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
        Value::Decimal { packed, precision, scale } => {
            out.push(b'"');
            if text::write_decimal(out, packed, precision, scale) {
                out.push(b'"');
            } else {
                out.pop();
                put_base64(out, packed);
            }
        }
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
                _ => {
                    if !put_json_string(out, rendered.bytes) {
                        put_base64(out, rendered.bytes);
                    }
                }
            }
        }
    }
}
