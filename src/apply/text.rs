//! Values as people read them in reports.

use std::io::Write as _;

use crate::event::text::{Form, render};
use crate::event::{Column, Value};

/// Appends a value: numbers and dates as they are, text in quotes, bytes in hexadecimal.
pub fn value(out: &mut Vec<u8>, value: Value<'_>, column: &Column) {
    let mut scratch = Vec::new();
    let rendered = render(value, column, &mut scratch);
    match rendered.form {
        Form::Null => out.extend_from_slice(b"NULL"),
        Form::Text => {
            out.push(b'\'');
            out.extend_from_slice(rendered.bytes);
            out.push(b'\'');
        }
        Form::Bytes => {
            out.extend_from_slice(b"0x");
            for byte in rendered.bytes {
                // Writing into a vector cannot fail.
                let _ = write!(out, "{byte:02x}");
            }
        }
        _ => out.extend_from_slice(rendered.bytes),
    }
}
