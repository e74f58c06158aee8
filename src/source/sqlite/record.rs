//! Records: the header of serial types, the values behind it, and SQLite's order of keys.
//!
//! A record is parsed into reused [`Field`]s; values borrow from the payload. (Facts: "Record Format" in SQLite's file
//! format document.)

use std::cmp::Ordering;

use super::page::{Encoding, varint};
use crate::error::{Error, Result};

/// Fields a record may have: SQLite's hard limit on columns.
const FIELDS_MAX: usize = 32_768;

/// Where one value of a record is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Field {
    /// Its serial type.
    pub serial: u64,
    /// Offset of its first byte in the payload.
    pub at: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// A value as it is stored; text in the database's encoding, perhaps ill-formed.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A floating point number, never NaN.
    Real(f64),
    /// Text in the database's encoding.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
}

impl PartialEq for Value<'_> {
    /// The same stored value: type and bits (so -0.0 is not 0.0).
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (Value::Text(a), Value::Text(b)) | (Value::Blob(a), Value::Blob(b)) => a == b,
            _ => false,
        }
    }
}

fn damaged() -> Error {
    Error::damage("a record's header does not fit its payload")
}

/// Parses the header of `payload` into `fields`.
#[inline]
pub fn parse(payload: &[u8], fields: &mut Vec<Field>) -> Result<()> {
    fields.clear();
    let (header_len, mut at) = varint(payload).ok_or_else(damaged)?;
    let header_len = usize::try_from(header_len).map_err(|_| damaged())?;
    let header = payload.get(..header_len).ok_or_else(damaged)?;
    let mut body = header_len as u64;
    while at < header.len() {
        let (serial, n) = varint(header.get(at..).unwrap_or_default()).ok_or_else(damaged)?;
        at += n;
        let len = serial_len(serial);
        let end = body.saturating_add(len);
        if end > payload.len() as u64 || fields.len() >= FIELDS_MAX || end > u64::from(u32::MAX) {
            return Err(damaged());
        }
        fields.push(Field { serial, at: body as u32, len: len as u32 });
        body = end;
    }
    Ok(())
}

#[inline]
fn serial_len(serial: u64) -> u64 {
    match serial {
        0 | 8 | 9 | 10 | 11 => 0,
        1..=4 => serial,
        5 => 6,
        6 | 7 => 8,
        _ => (serial - 12) / 2,
    }
}

/// The value of a field.
#[inline]
pub fn value(payload: &[u8], field: Field) -> Value<'_> {
    let bytes = payload.get(field.at as usize..field.at as usize + field.len as usize).unwrap_or_default();
    match field.serial {
        0 | 10 | 11 => Value::Null,
        8 => Value::Int(0),
        9 => Value::Int(1),
        7 => {
            let real = f64::from_bits(int(bytes) as u64);
            // SQLite reads a stored NaN as NULL.
            if real.is_nan() { Value::Null } else { Value::Real(real) }
        }
        1..=6 => Value::Int(int(bytes)),
        odd if odd % 2 == 1 => Value::Text(bytes),
        _ => Value::Blob(bytes),
    }
}

/// A big-endian two's complement integer of 1 to 8 bytes.
#[inline]
fn int(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|b| *b >= 0x80);
    bytes.iter().fold(if negative { -1 } else { 0 }, |value: i64, byte| value << 8 | i64::from(*byte))
}

/// How text in a key column is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collation {
    /// By bytes.
    Binary,
    /// ASCII letters without case.
    NoCase,
    /// Without trailing spaces.
    RTrim,
    /// The application's own, of which only the name is known. Compared by bytes: the merge then sees rows in an order
    /// that is not the tree's, and may report a change as a deletion and an insertion, but never misses one.
    Unknown,
}

/// One column of a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyPart {
    /// Its collation.
    pub collation: Collation,
    /// Whether it sorts from high to low.
    pub descending: bool,
}

/// Orders two records by their first `key.len()` fields, as SQLite orders the entries of an index.
pub fn compare(a: (&[u8], &[Field]), b: (&[u8], &[Field]), key: &[KeyPart], encoding: Encoding) -> Ordering {
    for (nth, part) in key.iter().enumerate() {
        let left = a.1.get(nth).map_or(Value::Null, |field| value(a.0, *field));
        let right = b.1.get(nth).map_or(Value::Null, |field| value(b.0, *field));
        let order = compare_values(left, right, part.collation, encoding);
        if order != Ordering::Equal {
            return if part.descending { order.reverse() } else { order };
        }
    }
    Ordering::Equal
}

fn compare_values(a: Value<'_>, b: Value<'_>, collation: Collation, encoding: Encoding) -> Ordering {
    let class = |value: &Value<'_>| match value {
        Value::Null => 0,
        Value::Int(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Value::Int(a), Value::Real(b)) => compare_int_real(a, b),
        (Value::Real(a), Value::Int(b)) => compare_int_real(b, a).reverse(),
        (Value::Text(a), Value::Text(b)) => compare_text(a, b, collation, encoding),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        (a, b) => class(&a).cmp(&class(&b)),
    }
}

fn compare_int_real(int: i64, real: f64) -> Ordering {
    if real < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    if real >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    let truncated = real as i64;
    int.cmp(&truncated).then_with(|| (int as f64).partial_cmp(&real).unwrap_or(Ordering::Equal))
}

fn compare_text(a: &[u8], b: &[u8], collation: Collation, encoding: Encoding) -> Ordering {
    let utf16 = encoding != Encoding::Utf8;
    match (collation, utf16) {
        (Collation::Binary | Collation::Unknown, _) => a.cmp(b),
        (Collation::NoCase, false) => a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase)),
        (Collation::RTrim, false) => trimmed(a).cmp(trimmed(b)),
        // SQLite converts to UTF-8 first and compares bytes: the order of code points.
        (Collation::NoCase, true) => {
            let fold = |c: u32| if c < 128 { u32::from((c as u8).to_ascii_lowercase()) } else { c };
            code_points(a, encoding).map(fold).cmp(code_points(b, encoding).map(fold))
        }
        (Collation::RTrim, true) => {
            let (a, b) = (trimmed_utf16(a, encoding), trimmed_utf16(b, encoding));
            code_points(a, encoding).cmp(code_points(b, encoding))
        }
    }
}

fn trimmed_utf16(text: &[u8], encoding: Encoding) -> &[u8] {
    let space: &[u8] = if encoding == Encoding::Utf16Le { &[32, 0] } else { &[0, 32] };
    let mut text = text.get(..text.len() & !1).unwrap_or_default();
    while let Some(rest) = text.strip_suffix(space) {
        text = rest;
    }
    text
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

/// The code points of UTF-16 text as SQLite reads them: it joins whatever follows a surrogate with it, and lets a
/// surrogate at the very end stand. (Fact: `sqlite3VdbeMemTranslate`; a stray last byte is dropped.)
fn code_points(text: &[u8], encoding: Encoding) -> impl Iterator<Item = u32> + '_ {
    let (pairs, _) = text.as_chunks::<2>();
    let mut units = pairs.iter().map(move |pair| match encoding {
        Encoding::Utf16Be => u32::from(u16::from_be_bytes(*pair)),
        _ => u32::from(u16::from_le_bytes(*pair)),
    });
    std::iter::from_fn(move || {
        let c = units.next()?;
        if !(0xd800..0xe000).contains(&c) {
            return Some(c);
        }
        match units.next() {
            Some(low) => Some((low & 0x03ff) + ((c & 0x003f) << 10) + (((c & 0x03c0) + 0x0040) << 10)),
            None => Some(c),
        }
    })
}

/// Converts text from the database's encoding into `out`, as SQLite does; UTF-8 is copied as it is, well-formed or not.
pub fn to_utf8(text: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    out.clear();
    if encoding == Encoding::Utf8 {
        out.extend_from_slice(text);
        return;
    }
    for c in code_points(text, encoding) {
        let low = |shift: u32| 0x80 | (c >> shift & 0x3f) as u8;
        match c {
            0..0x80 => out.push(c as u8),
            0x80..0x800 => out.extend_from_slice(&[0xc0 | (c >> 6 & 0x1f) as u8, low(0)]),
            0x800..0x10000 => out.extend_from_slice(&[0xe0 | (c >> 12 & 0x0f) as u8, low(6), low(0)]),
            _ => out.extend_from_slice(&[0xf0 | (c >> 18 & 0x07) as u8, low(12), low(6), low(0)]),
        }
    }
}

/// Converts UTF-8 into the database's encoding (for defaults, which come from SQL text).
pub fn from_utf8(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        assert_eq!(int(&[0xff]), -1);
        assert_eq!(int(&[0x80, 0, 0]), -8_388_608);
        assert_eq!(int(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), 140_737_488_355_327);
        assert_eq!(int(&i64::MIN.to_be_bytes()), i64::MIN);
    }

    #[test]
    fn integers_and_reals_compare_exactly() {
        assert_eq!(compare_int_real(i64::MAX, 9_223_372_036_854_775_807.0), Ordering::Less);
        assert_eq!(compare_int_real(3, 3.5), Ordering::Less);
        assert_eq!(compare_int_real(-3, -3.5), Ordering::Greater);
        assert_eq!(compare_int_real(3, 3.0), Ordering::Equal);
    }

    #[test]
    fn a_header_longer_than_its_payload_is_an_error() {
        let mut fields = Vec::new();
        assert!(parse(&[9, 1, 1], &mut fields).is_err());
        assert!(parse(&[2, 6, 0], &mut fields).is_err());
        assert!(parse(&[], &mut fields).is_err());
        parse(&[3, 1, 9, 0xfe], &mut fields).unwrap();
        assert_eq!(value(&[3, 1, 9, 0xfe], fields[0]), Value::Int(-2));
        assert_eq!(value(&[3, 1, 9, 0xfe], fields[1]), Value::Int(1));
    }
}
