//! Quoting of names, and values as SQL text that means the same whatever sql_mode and session charset.
//!
//! Strings are written as hexadecimal literals with the charset's introducer unless they are plain ASCII without
//! quotes, backslashes and control characters: nothing to escape, nothing to misread.

use crate::error::{Error, Result};

/// Appends `` `name` ``. Names with a zero byte exist nowhere and are refused.
pub fn put_name(out: &mut String, name: &str) -> Result<()> {
    if name.contains('\0') {
        return Err(Error::damage("a name holds a zero byte"));
    }
    out.push('`');
    for part in name.split_inclusive('`') {
        out.push_str(part);
        if part.ends_with('`') {
            out.push('`');
        }
    }
    out.push('`');
    Ok(())
}

/// `` `database`.`table` ``.
pub fn table_name(database: &str, table: &str) -> Result<String> {
    let mut out = String::with_capacity(database.len() + table.len() + 5);
    put_name(&mut out, database)?;
    out.push('.');
    put_name(&mut out, table)?;
    Ok(out)
}

/// Appends text of ours or of a name as a string literal that needs no charset: UTF-8 in a session that speaks utf8mb4.
pub fn put_text(out: &mut String, text: &str) {
    if text.bytes().all(is_plain) {
        out.push('\'');
        out.push_str(text);
        out.push('\'');
    } else {
        out.push_str("CONVERT(x'");
        put_hex(out, text.as_bytes());
        out.push_str("' USING utf8mb4)");
    }
}

/// Appends bytes: `'abc'` when plain, else `x'…'`. As the server takes a hexadecimal literal for a binary string, this
/// stores exactly these bytes in a column of any type of string.
pub fn put_bytes(out: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        out.push_str("''");
        return;
    }
    out.push_str("x'");
    put_hex(out, bytes);
    out.push('\'');
}

/// Appends characters of `charset`, to be converted to whatever the column has.
pub fn put_string(out: &mut String, bytes: &[u8], charset: &str) {
    if bytes.iter().copied().all(is_plain) && !matches!(charset, "ucs2" | "utf16" | "utf16le" | "utf32") {
        out.push('\'');
        // Plain is ASCII.
        out.extend(bytes.iter().map(|byte| char::from(*byte)));
        out.push('\'');
        return;
    }
    if !charset.is_empty() && charset.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        out.push('_');
        out.push_str(charset);
        out.push(' ');
    }
    put_bytes(out, bytes);
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\')
}

fn put_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_or_a_value_ends_its_literal() {
        assert_eq!(table_name("a`b", "c; DROP").unwrap(), "`a``b`.`c; DROP`");
        assert!(table_name("a", "b\0").is_err());
        let mut out = String::new();
        put_text(&mut out, "a");
        put_text(&mut out, "a'b");
        put_string(&mut out, b"x\\", "latin1");
        put_string(&mut out, b"\xff", "latin1");
        put_bytes(&mut out, b"");
        assert_eq!(out, "'a'CONVERT(x'612762' USING utf8mb4)_latin1 x'785c'_latin1 x'ff'''");
    }
}
