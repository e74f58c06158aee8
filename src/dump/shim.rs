//! The text of values, until `event::text` is there.

use crate::event::value::{DateParts, DateTimeParts, ZERO_TIMESTAMP};
use crate::event::{Column, Value};

/// What kind of text a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A decimal number without quotes.
    Number,
    /// UTF-8 text.
    Text,
    /// Bytes that are no text, as they are.
    Bytes,
}

/// Appends the text of a value that is there and not NULL.
pub fn text_of(out: &mut Vec<u8>, value: Value<'_>, column: &Column) -> Form {
    match value {
        Value::Absent | Value::Unchanged | Value::Null => Form::Text,
        Value::Int(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            Form::Number
        }
        Value::UInt(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            Form::Number
        }
        Value::Float(value) => {
            out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes());
            Form::Number
        }
        Value::Double(value) => {
            out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes());
            Form::Number
        }
        Value::Decimal { packed, precision, scale } => {
            put_decimal(out, packed, precision, scale);
            Form::Text
        }
        Value::Bit { bytes, .. } => {
            let value = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            out.extend_from_slice(value.to_string().as_bytes());
            Form::Number
        }
        Value::Year(year) => {
            out.extend_from_slice(format!("{year:04}").as_bytes());
            Form::Number
        }
        Value::Date(packed) => {
            put_date(out, DateParts::unpack(packed));
            Form::Text
        }
        Value::Time { us, fsp } => {
            let seconds = us.unsigned_abs() / 1_000_000;
            let sign = if us < 0 { "-" } else { "" };
            out.extend_from_slice(
                format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).as_bytes(),
            );
            put_fraction(out, (us.unsigned_abs() % 1_000_000) as u32, fsp);
            Form::Text
        }
        Value::DateTime { packed, fsp } => {
            put_datetime(out, DateTimeParts::unpack(packed), fsp);
            Form::Text
        }
        Value::Timestamp { us, fsp } => {
            if us == ZERO_TIMESTAMP {
                put_datetime(out, DateTimeParts::unpack(0), fsp);
            } else {
                let start = out.len();
                super::moment::put_utc(out, us - us.rem_euclid(1_000_000));
                if let Some(at) = out.get_mut(start + 10) {
                    *at = b' ';
                }
                out.pop();
                put_fraction(out, us.rem_euclid(1_000_000) as u32, fsp);
            }
            Form::Text
        }
        Value::Enum(index) => match column.members.get(usize::from(index).wrapping_sub(1)) {
            Some(member) => {
                out.extend_from_slice(member);
                text_or_bytes(member)
            }
            None if index == 0 && !column.members.is_empty() => Form::Text,
            None => {
                out.extend_from_slice(index.to_string().as_bytes());
                Form::Number
            }
        },
        Value::Set(bits) => {
            if column.members.is_empty() {
                out.extend_from_slice(bits.to_string().as_bytes());
                return Form::Number;
            }
            let start = out.len();
            for (index, member) in column.members.iter().enumerate().take(64) {
                if bits >> index & 1 == 1 {
                    if out.len() > start {
                        out.push(b',');
                    }
                    out.extend_from_slice(member);
                }
            }
            Form::Text
        }
        Value::String(bytes) => {
            out.extend_from_slice(bytes);
            if column.charset == "binary" { Form::Bytes } else { text_or_bytes(bytes) }
        }
        Value::Text(bytes) => {
            out.extend_from_slice(bytes);
            text_or_bytes(bytes)
        }
        Value::Json(bytes)
        | Value::JsonDiff(bytes)
        | Value::Geometry(bytes)
        | Value::Vector(bytes)
        | Value::Blob(bytes) => {
            out.extend_from_slice(bytes);
            Form::Bytes
        }
    }
}

fn text_or_bytes(bytes: &[u8]) -> Form {
    if std::str::from_utf8(bytes).is_ok() { Form::Text } else { Form::Bytes }
}

fn put_date(out: &mut Vec<u8>, date: DateParts) {
    out.extend_from_slice(format!("{:04}-{:02}-{:02}", date.year, date.month, date.day).as_bytes());
}

fn put_datetime(out: &mut Vec<u8>, at: DateTimeParts, fsp: u8) {
    put_date(out, at.date);
    out.extend_from_slice(format!(" {:02}:{:02}:{:02}", at.hour, at.minute, at.second).as_bytes());
    put_fraction(out, at.microsecond, fsp);
}

fn put_fraction(out: &mut Vec<u8>, us: u32, fsp: u8) {
    if fsp > 0 {
        let text = format!("{us:06}");
        out.push(b'.');
        out.extend_from_slice(text.as_bytes().get(..usize::from(fsp.min(6))).unwrap_or(b""));
    }
}

fn put_decimal(out: &mut Vec<u8>, packed: &[u8], precision: u8, scale: u8) {
    const LEFT_OVER: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let mut bytes = packed.to_vec();
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 == 0);
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let whole = usize::from(precision - scale);
    let scale = usize::from(scale);
    let mut groups = Vec::new();
    if whole % 9 > 0 {
        groups.push((LEFT_OVER[whole % 9], whole % 9));
    }
    groups.extend(std::iter::repeat_n((4, 9), whole / 9));
    let fraction_at = groups.len();
    groups.extend(std::iter::repeat_n((4, 9), scale / 9));
    if scale % 9 > 0 {
        groups.push((LEFT_OVER[scale % 9], scale % 9));
    }
    let mut text = String::new();
    let mut at = 0;
    for (number, (length, digits)) in groups.iter().enumerate() {
        if number == fraction_at {
            text = text.trim_start_matches('0').to_owned();
            if text.is_empty() {
                text.push('0');
            }
            text.push('.');
        }
        let value = bytes.get(at..at + length).unwrap_or(&[]).iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
        at += length;
        text.push_str(&format!("{value:0digits$}"));
    }
    if fraction_at == groups.len() {
        text = text.trim_start_matches('0').to_owned();
        if text.is_empty() {
            text.push('0');
        }
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(text.as_bytes());
}
