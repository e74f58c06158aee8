//! Cells of a text result -> values of a row image, for snapshots.
//!
//! What is selected is chosen so that the text is exact: ENUM and SET as numbers, FLOAT and DOUBLE widened to the shortest text of a double, strings
//! as the bytes that are stored (no result charset), temporals in UTC with all their digits. [`select`] makes the expression, [`put`] reads
//! its text back.

use crate::event::table::{Column, ColumnKind, decimal_len};
use crate::event::value::{DateParts, DateTimeParts, ZERO_TIMESTAMP};
use crate::frame::fields::put_varint;

/// A name as an identifier.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The expression that gives a column's value exactly.
pub fn select(column: &Column) -> String {
    let name = identifier(&column.name);
    match column.kind {
        ColumnKind::Enum | ColumnKind::Set => format!("{name}+0"),
        ColumnKind::Float | ColumnKind::Double => format!("{name}+0e0"),
        _ => name,
    }
}

/// Appends the value that `text` is; `None`: it is none of this kind.
#[inline]
pub fn put(kind: ColumnKind, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match kind {
        ColumnKind::Int { bytes, .. } => {
            let number = int(text)?;
            out.extend_from_slice(number.to_le_bytes().get(..usize::from(bytes))?);
        }
        ColumnKind::String { .. } | ColumnKind::Geometry | ColumnKind::Vector | ColumnKind::JsonBinary => {
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text);
        }
        ColumnKind::Float => {
            let wide: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            out.extend_from_slice(&(wide as f32).to_le_bytes());
        }
        ColumnKind::Double => {
            let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            out.extend_from_slice(&number.to_le_bytes());
        }
        ColumnKind::Decimal { precision, scale } => decimal(text, precision, scale, out)?,
        ColumnKind::Bit { bits } => {
            let length = usize::from(bits).div_ceil(8);
            let at = out.len();
            out.resize(at + length.checked_sub(text.len())?, 0);
            out.extend_from_slice(text);
        }
        ColumnKind::Year => out.extend_from_slice(&u16::try_from(digits(text)?).ok()?.to_le_bytes()),
        ColumnKind::Date => {
            let packed = date(text)?.pack();
            out.extend_from_slice(packed.to_le_bytes().get(..3)?);
        }
        ColumnKind::Time { .. } => out.extend_from_slice(&time(text)?.to_le_bytes()),
        ColumnKind::DateTime { .. } => out.extend_from_slice(&date_time(text)?.pack().to_le_bytes()),
        ColumnKind::Timestamp { .. } => out.extend_from_slice(&timestamp(date_time(text)?)?.to_le_bytes()),
        ColumnKind::Enum => out.extend_from_slice(&u16::try_from(digits(text)?).ok()?.to_le_bytes()),
        ColumnKind::Set => out.extend_from_slice(&digits(text)?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

#[inline]
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// Two's complement, as signed and unsigned numbers have it.
#[inline]
fn int(text: &[u8]) -> Option<u64> {
    match text.strip_prefix(b"-") {
        Some(rest) => Some(digits(rest)?.wrapping_neg()),
        None => digits(text),
    }
}

/// MySQL's packed form: groups of nine digits big-endian, the sign bit inverted, everything inverted when negative.
fn decimal(text: &[u8], precision: u8, scale: u8, out: &mut Vec<u8>) -> Option<()> {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    let (whole, fraction) = (text.get(..point)?, text.get(point + 1..).unwrap_or(&[]));
    let (whole_len, scale_len) = (usize::from(precision.checked_sub(scale)?), usize::from(scale));
    let mut padded = [b'0'; 128];
    // A value of DECIMAL(5,5) is written with a zero in front.
    let whole = if whole.len() > whole_len { whole.strip_prefix(b"0").unwrap_or(whole) } else { whole };
    padded.get_mut(whole_len.checked_sub(whole.len())?..whole_len)?.copy_from_slice(whole);
    padded
        .get_mut(whole_len..whole_len + fraction.len().min(scale_len))?
        .copy_from_slice(fraction.get(..fraction.len().min(scale_len))?);
    let at = out.len();
    let mut group = |from: usize, count: usize| {
        let number = digits(padded.get(from..from + count)?)?;
        let bytes = *BYTES.get(count)?;
        out.extend_from_slice(number.to_be_bytes().get(8 - bytes..)?);
        Some(())
    };
    let first = whole_len % 9;
    if first > 0 {
        group(0, first)?;
    }
    for from in (first..whole_len).step_by(9) {
        group(from, 9)?;
    }
    for from in (0..scale_len).step_by(9) {
        group(whole_len + from, (scale_len - from).min(9))?;
    }
    let packed = out.get_mut(at..)?;
    debug_assert_eq!(packed.len(), decimal_len(precision, scale));
    if negative {
        packed.iter_mut().for_each(|byte| *byte = !*byte);
    }
    *packed.first_mut()? ^= 0x80;
    Some(())
}

/// Up to six digits behind a point as microseconds.
fn fraction(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let rest = text.strip_prefix(b".")?;
    let number = digits(rest)?;
    let missing = 6u32.checked_sub(u32::try_from(rest.len()).ok()?)?;
    u32::try_from(number * 10u64.pow(missing)).ok()
}

fn date(text: &[u8]) -> Option<DateParts> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    Some(DateParts {
        year: digits(&[*y1, *y2, *y3, *y4])? as u16,
        month: digits(&[*m1, *m2])? as u8,
        day: digits(&[*d1, *d2])? as u8,
    })
}

fn date_time(text: &[u8]) -> Option<DateTimeParts> {
    let (day, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.split_at_checked(9)?;
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    Some(DateTimeParts {
        date: date(day)?,
        hour: digits(&[*h1, *h2])? as u8,
        minute: digits(&[*m1, *m2])? as u8,
        second: digits(&[*s1, *s2])? as u8,
        microsecond: fraction(rest)?,
    })
}

/// Microseconds since 1970 of a time in UTC.
fn timestamp(parts: DateTimeParts) -> Option<i64> {
    let date = parts.date;
    if (date.year, date.month, date.day) == (0, 0, 0) {
        return Some(ZERO_TIMESTAMP);
    }
    // Days from the civil calendar, counted from March.
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    let year = i64::from(date.year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + i64::from(parts.hour) * 3600 + i64::from(parts.minute) * 60 + i64::from(parts.second);
    Some(seconds * 1_000_000 + i64::from(parts.microsecond))
}

fn time(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let colon = memchr::memchr(b':', text)?;
    let (hours, rest) = text.split_at_checked(colon)?;
    let (clock, rest) = rest.split_at_checked(6)?;
    let [b':', m1, m2, b':', s1, s2] = clock else { return None };
    let seconds = digits(hours)? * 3600 + digits(&[*m1, *m2])? * 60 + digits(&[*s1, *s2])?;
    let us = (seconds * 1_000_000 + u64::from(fraction(rest)?)) as i64;
    Some(if negative { -us } else { us })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::table::{Sign, StringForm};
    use crate::event::text::write_value;
    use crate::event::value::take_value;

    /// Text in, the value's own text out.
    fn again(kind: ColumnKind, text: &str) -> Option<String> {
        let mut bytes = Vec::new();
        put(kind, text.as_bytes(), &mut bytes)?;
        let mut input = bytes.as_slice();
        let value = take_value(&mut input, kind, false).expect("a whole value");
        assert!(input.is_empty(), "{kind:?} {text}");
        let mut out = Vec::new();
        write_value(&mut out, value, &Column::new("c", kind));
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_come_back_from_their_text() {
        let int = |bytes, sign| ColumnKind::Int { bytes, sign };
        let string = ColumnKind::String { form: StringForm::VarChar, bytes_max: 10 };
        for (kind, text) in [
            (int(8, Sign::Unsigned), "18446744073709551615"),
            (int(8, Sign::Signed), "-9223372036854775808"),
            (int(3, Sign::Signed), "-8388608"),
            (int(1, Sign::Unsigned), "255"),
            (ColumnKind::Decimal { precision: 20, scale: 5 }, "-123456789012345.67890"),
            (ColumnKind::Decimal { precision: 5, scale: 5 }, "0.00001"),
            (
                ColumnKind::Decimal { precision: 65, scale: 0 },
                "99999999999999999999999999999999999999999999999999999999999999999",
            ),
            (ColumnKind::Decimal { precision: 10, scale: 2 }, "0.00"),
            (ColumnKind::Double, "-1.5e-300"),
            (ColumnKind::Float, "0.1"),
            (ColumnKind::Date, "2026-02-30"),
            (ColumnKind::Date, "0000-00-00"),
            (ColumnKind::Time { fsp: 6 }, "-838:59:59.000001"),
            (ColumnKind::Time { fsp: 0 }, "00:00:00"),
            (ColumnKind::DateTime { fsp: 3 }, "9999-12-31 23:59:59.999"),
            (ColumnKind::Timestamp { fsp: 0 }, "1970-01-01 00:00:01"),
            (ColumnKind::Timestamp { fsp: 6 }, "2038-01-19 03:14:07.999999"),
            (ColumnKind::Timestamp { fsp: 0 }, "2000-02-29 12:00:00"),
            (ColumnKind::Year, "2026"),
            (string, "text"),
        ] {
            let found = again(kind, text).unwrap_or_else(|| panic!("{kind:?} {text}"));
            assert!(found.starts_with(text) || text.starts_with("0.1"), "{kind:?}: {text} became {found}");
        }
        let wide = format!("{}", f64::from(0.1f32));
        let mut bytes = Vec::new();
        put(ColumnKind::Float, wide.as_bytes(), &mut bytes).unwrap();
        assert_eq!(bytes, 0.1f32.to_le_bytes());
        for (kind, text) in [
            (int(4, Sign::Signed), "x"),
            (ColumnKind::Date, "2026-1-1"),
            (ColumnKind::Time { fsp: 0 }, "12"),
            (ColumnKind::Decimal { precision: 3, scale: 1 }, "1234.5"),
            (ColumnKind::Bit { bits: 8 }, "ab"),
        ] {
            assert_eq!(again(kind, text), None, "{kind:?} {text}");
        }
    }
}
