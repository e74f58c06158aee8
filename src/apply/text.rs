//! Values as people read them in reports.

use std::io::Write as _;

use crate::event::{Column, Value};

/// Appends a value: text where it has one, else its bytes in hexadecimal.
pub fn value(out: &mut Vec<u8>, value: Value<'_>, _column: &Column) {
    // Writing into a vector cannot fail.
    let _ = match value {
        Value::Null => out.write_all(b"NULL"),
        Value::Int(number) => write!(out, "{number}"),
        Value::UInt(number) => write!(out, "{number}"),
        Value::Float(number) => write!(out, "{number}"),
        Value::Double(number) => write!(out, "{number}"),
        Value::Year(year) => write!(out, "{year:04}"),
        Value::String(bytes) | Value::Text(bytes) if std::str::from_utf8(bytes).is_ok() => {
            out.push(b'\'');
            out.extend_from_slice(bytes);
            out.push(b'\'');
            Ok(())
        }
        other => write!(out, "{other:?}"),
    };
}
