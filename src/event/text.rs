//! The canonical text of values: what dumps print, appliers bind and comparisons compare.
//!
//! | kind | text |
//! |---|---|
//! | int, bit, year | digits |
//! | float, double | the fewest digits that give the same number back: `1.5`, `1e100`, `3` |
//! | decimal | as many digits behind the point as its scale: `-0.50` |
//! | date, datetime | `2026-11-21`, `2026-11-21 10:00:00.000000`; parts may be zero |
//! | time | `-838:59:59.000000` |
//! | timestamp | as datetime, in UTC |
//! | string | its characters in UTF-8; if they are not valid in the charset, or it has none, the bytes themselves |
//! | enum, set | member names; the number when the members are not known |
//! | json | as MySQL prints it |
//! | geometry, vector | bytes |

use super::charset;
use super::digits::{date_and_time, put_int, put_padded, put_uint};
use super::json;
use super::table::{Column, ColumnKind};
use super::value::{DateParts, DateTimeParts, Value, ZERO_TIMESTAMP};

/// What a rendered text is, so that a writer knows whether to quote or escape it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The image does not have the column. No text.
    Absent,
    /// It is as it was. No text.
    Unchanged,
    /// NULL. No text.
    Null,
    /// Decimal digits, perhaps with a sign.
    Integer,
    /// A number with a fraction or exponent, never infinite and never "not a number".
    Number,
    /// ASCII without quotes, backslashes and control characters: dates and times.
    Plain,
    /// UTF-8.
    Text,
    /// JSON text, which is UTF-8.
    Json,
    /// A JSON array that lists the changes made to the value before ([`json::write_diffs`]).
    JsonDiff,
    /// Bytes that are no text.
    Bytes,
}

/// A value's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendered<'a> {
    /// What it is.
    pub form: Form,
    /// The bytes; UTF-8 unless they are [`Form::Bytes`].
    pub bytes: &'a [u8],
}

impl<'a> Rendered<'a> {
    /// The text; `None` when it is bytes.
    pub fn text(&self) -> Option<&'a str> {
        if self.form == Form::Bytes { None } else { std::str::from_utf8(self.bytes).ok() }
    }
}

/// Appends the text of a value. JSON that is damaged is given as its bytes.
pub fn write_value(out: &mut Vec<u8>, value: Value<'_>, column: &Column) -> Form {
    let mut scratch = Vec::new();
    let rendered = render(value, column, &mut scratch);
    out.extend_from_slice(rendered.bytes);
    rendered.form
}

/// Gives the text of a value: borrowed from the value where it is text already, else written to `scratch`, which is cleared first.
pub fn render<'a>(value: Value<'a>, column: &'a Column, scratch: &'a mut Vec<u8>) -> Rendered<'a> {
    scratch.clear();
    let form = match value {
        Value::Absent => Form::Absent,
        Value::Unchanged => Form::Unchanged,
        Value::Null => Form::Null,
        Value::Int(number) => {
            write_int(scratch, number);
            Form::Integer
        }
        Value::UInt(number) => {
            write_uint(scratch, number);
            Form::Integer
        }
        Value::Float(number) => write_float_column(scratch, number.is_finite(), |out| write_float(out, number)),
        Value::Double(number) => {
            write_float_column(scratch, number.is_finite(), |out| write_double(out, number, false))
        }
        Value::Decimal { packed, precision, scale } => {
            if !write_decimal(scratch, packed, precision, scale) {
                return Rendered { form: Form::Bytes, bytes: packed };
            }
            if scale == 0 { Form::Integer } else { Form::Number }
        }
        Value::Bit { bytes, .. } => {
            write_uint(scratch, bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
            Form::Integer
        }
        Value::Year(year) => {
            write_uint(scratch, u64::from(year));
            Form::Integer
        }
        Value::Date(packed) => {
            write_date(scratch, DateParts::unpack(packed));
            Form::Plain
        }
        Value::Time { us, fsp } => {
            write_time(scratch, us, fsp);
            Form::Plain
        }
        Value::DateTime { packed, fsp } => {
            write_datetime(scratch, DateTimeParts::unpack(packed), fsp);
            Form::Plain
        }
        Value::Timestamp { us, fsp } => {
            write_timestamp(scratch, us, fsp);
            Form::Plain
        }
        Value::String(bytes) => return render_string(bytes, column, scratch),
        Value::Enum(index) => return render_enum(index, column, scratch),
        Value::Set(bits) => write_set(scratch, bits, column),
        Value::Json(binary) => match json::write_text(binary, scratch) {
            Ok(()) => Form::Json,
            Err(_) => return Rendered { form: Form::Bytes, bytes: binary },
        },
        Value::JsonDiff(diffs) => match json::write_diffs(diffs, scratch) {
            Ok(()) => Form::JsonDiff,
            Err(_) => return Rendered { form: Form::Bytes, bytes: diffs },
        },
        Value::Geometry(bytes) | Value::Vector(bytes) | Value::Blob(bytes) => {
            return Rendered { form: Form::Bytes, bytes };
        }
        Value::Text(bytes) => return text_or_bytes(bytes),
    };
    Rendered { form, bytes: scratch }
}

fn text_or_bytes(bytes: &[u8]) -> Rendered<'_> {
    Rendered { form: if std::str::from_utf8(bytes).is_ok() { Form::Text } else { Form::Bytes }, bytes }
}

#[inline]
fn render_string<'a>(bytes: &'a [u8], column: &Column, scratch: &'a mut Vec<u8>) -> Rendered<'a> {
    match charset::decoder(&column.charset) {
        charset::Decoder::Utf8 => text_or_bytes(bytes),
        charset::Decoder::Binary => Rendered { form: Form::Bytes, bytes },
        decoder => match decoder.utf8(bytes, scratch) {
            Some(text) => Rendered { form: Form::Text, bytes: text.as_bytes() },
            None => Rendered { form: Form::Bytes, bytes },
        },
    }
}

fn render_enum<'a>(index: u16, column: &'a Column, scratch: &'a mut Vec<u8>) -> Rendered<'a> {
    if index == 0 {
        return Rendered { form: Form::Text, bytes: b"" };
    }
    match column.members.get(usize::from(index) - 1) {
        Some(member) => render_string(member, column, scratch),
        None => {
            write_uint(scratch, u64::from(index));
            Rendered { form: Form::Integer, bytes: scratch }
        }
    }
}

/// Members with commas between them; the number when there is a member without a name.
fn write_set(out: &mut Vec<u8>, bits: u64, column: &Column) -> Form {
    let known = column.members.len().min(64);
    if known < 64 && bits >> known != 0 {
        write_uint(out, bits);
        return Form::Integer;
    }
    let mut scratch = Vec::new();
    let mut form = Form::Text;
    for (index, member) in column.members.iter().enumerate().take(64) {
        if bits >> index & 1 == 1 {
            if !out.is_empty() {
                out.push(b',');
            }
            let rendered = render_string(member, column, &mut scratch);
            if rendered.form == Form::Bytes {
                form = Form::Bytes;
            }
            out.extend_from_slice(rendered.bytes);
        }
    }
    form
}

/// Floats are finite in MySQL; a damaged one must not become invalid JSON or SQL.
fn write_float_column(out: &mut Vec<u8>, finite: bool, write: impl FnOnce(&mut Vec<u8>)) -> Form {
    if finite {
        write(out);
        Form::Number
    } else {
        out.extend_from_slice(b"not a finite number");
        Form::Text
    }
}

/// Appends a signed integer.
#[inline]
pub fn write_int(out: &mut Vec<u8>, number: i64) {
    put_int(out, number);
}

/// Appends an unsigned integer.
#[inline]
pub fn write_uint(out: &mut Vec<u8>, number: u64) {
    put_uint(out, number);
}

/// Appends a finite binary64 with the fewest digits that give it back; `.0` behind a whole number when `point`.
pub fn write_double(out: &mut Vec<u8>, number: f64, point: bool) {
    write_shortest(out, ryu::Buffer::new().format_finite(number), point);
}

/// Appends a finite binary32 with the fewest digits that give it back.
pub fn write_float(out: &mut Vec<u8>, number: f32) {
    write_shortest(out, ryu::Buffer::new().format_finite(number), false);
}

/// Ryu's digits in the manner of MySQL: without an exponent from 1e-15 to below 1e15.
fn write_shortest(out: &mut Vec<u8>, ryu: &str, point: bool) {
    let (mantissa, exponent) = ryu.split_once('e').unwrap_or((ryu, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    // All digits, and where the point stands among them.
    let mut digits = [0u8; 40];
    let mut count = 0;
    let mut at = whole.len() as i32 + exponent;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if count == 0 && digit == b'0' {
            at -= 1;
        } else if let Some(room) = digits.get_mut(count) {
            *room = digit;
            count += 1;
        }
    }
    while count > 0 && digits.get(count - 1) == Some(&b'0') {
        count -= 1;
    }
    let digits = digits.get(..count).unwrap_or(&[]);
    out.extend_from_slice(sign.as_bytes());
    if digits.is_empty() {
        out.push(b'0');
        if point {
            out.extend_from_slice(b".0");
        }
        return;
    }
    let zeros = |out: &mut Vec<u8>, count: i32| out.resize(out.len() + count.max(0) as usize, b'0');
    if !(-14..=15).contains(&at) {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.push(b'e');
        write_int(out, i64::from(at) - 1);
    } else if at <= 0 {
        out.extend_from_slice(b"0.");
        zeros(out, -at);
        out.extend_from_slice(digits);
    } else {
        let (whole, rest) = digits.split_at(digits.len().min(at as usize));
        out.extend_from_slice(whole);
        zeros(out, at - digits.len() as i32);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        } else if point {
            out.extend_from_slice(b".0");
        }
    }
}

/// Digits that a group of so many bytes at either end of a packed decimal holds.
const GROUP_DIGITS: usize = 9;
/// 10 to the power of so many digits.
const POWERS: [u64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
/// Bytes for so many left-over digits.
const GROUP_LEN: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Appends a packed decimal: groups of nine digits as big-endian numbers, left-over digits at both ends in fewer bytes; the first bit
/// is inverted, and all bits are when it is negative. `false` (and nothing appended): length or digits are wrong.
pub fn write_decimal(out: &mut Vec<u8>, packed: &[u8], precision: u8, scale: u8) -> bool {
    if let Some((negative, whole, fraction)) = small_decimal(packed, precision, scale) {
        if negative {
            out.push(b'-');
        }
        put_uint(out, whole);
        if scale > 0 {
            out.push(b'.');
            put_padded(out, fraction, scale.into());
        }
        return true;
    }
    let start = out.len();
    let done = decimal_digits(out, packed, usize::from(precision), usize::from(scale)).is_some();
    if !done {
        out.truncate(start);
    }
    done
}

/// A packed decimal of at most 18 digits before the point and 9 behind it: whether it is negative, and both numbers. `None`: it is larger, or invalid.
#[inline]
pub fn small_decimal(packed: &[u8], precision: u8, scale: u8) -> Option<(bool, u64, u32)> {
    let (whole, scale) = (usize::from(precision.checked_sub(scale)?), usize::from(scale));
    let (&first, _) = packed.split_first()?;
    let negative = first & 0x80 == 0;
    let flip = if negative { u32::MAX } else { 0 };
    let (mut rest, mut sign) = (packed, true);
    let mut group = |digits: usize| -> Option<u32> {
        let (bytes, tail) = rest.split_at_checked(*GROUP_LEN.get(digits)?)?;
        rest = tail;
        let (number, bits) = match *bytes {
            [] => return Some(0),
            [a] => (u32::from(a), 8),
            [a, b] => (u32::from(u16::from_be_bytes([a, b])), 16),
            [a, b, c] => (u32::from_be_bytes([0, a, b, c]), 24),
            [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]), 32),
            _ => return None,
        };
        let top = u32::from(std::mem::take(&mut sign)) << (bits - 1);
        let number = (number ^ flip ^ top) & (u32::MAX >> (32 - bits));
        (u64::from(number) < *POWERS.get(digits)?).then_some(number)
    };
    if whole > 18 || scale > 9 {
        return None;
    }
    let mut number = u64::from(group(whole % GROUP_DIGITS)?);
    for _ in 0..whole / GROUP_DIGITS {
        number = number * 1_000_000_000 + u64::from(group(GROUP_DIGITS)?);
    }
    let fraction = group(scale)?;
    rest.is_empty().then_some((negative && (number, fraction) != (0, 0), number, fraction))
}

fn decimal_digits(out: &mut Vec<u8>, packed: &[u8], precision: usize, scale: usize) -> Option<()> {
    let whole = precision.checked_sub(scale)?;
    let negative = packed.first()? & 0x80 == 0;
    let flip = if negative { 0xff } else { 0 };
    let mut rest = packed;
    let mut sign_bit = 0x80;
    let mut group = |digits: usize| -> Option<u32> {
        let (bytes, tail) = rest.split_at_checked(*GROUP_LEN.get(digits)?)?;
        rest = tail;
        let number = bytes.iter().fold(0u32, |number, byte| {
            let byte = byte ^ flip ^ std::mem::take(&mut sign_bit);
            number << 8 | u32::from(byte)
        });
        (u64::from(number) < *POWERS.get(digits)?).then_some(number)
    };
    let sign_at = out.len();
    // Zeros in front of the first digit, and a number that is nothing but zeros.
    let (mut leading, mut all_zero) = (true, true);
    if negative {
        out.push(b'-');
    }
    let first = (whole % GROUP_DIGITS > 0).then_some(whole % GROUP_DIGITS);
    for digits in first.into_iter().chain(std::iter::repeat_n(GROUP_DIGITS, whole / GROUP_DIGITS)) {
        let number = group(digits)?;
        match (leading, number) {
            (true, 0) => continue,
            (true, number) => put_uint(out, u64::from(number)),
            (false, number) => put_padded(out, number, digits),
        }
        (leading, all_zero) = (false, false);
    }
    if leading {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        let last = (scale % GROUP_DIGITS > 0).then_some(scale % GROUP_DIGITS);
        for digits in std::iter::repeat_n(GROUP_DIGITS, scale / GROUP_DIGITS).chain(last) {
            let number = group(digits)?;
            all_zero &= number == 0;
            put_padded(out, number, digits);
        }
    }
    if negative && all_zero {
        // There is no negative zero; one that is written so would compare unequal to zero.
        out.remove(sign_at);
    }
    rest.is_empty().then_some(())
}

#[inline]
fn two(out: &mut Vec<u8>, number: u8) {
    if number < 100 {
        out.extend_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
    } else {
        write_uint(out, u64::from(number));
    }
}

/// Appends `YYYY-MM-DD`.
#[inline]
pub fn write_date(out: &mut Vec<u8>, date: DateParts) {
    if date.year <= 9999 && date.month < 100 && date.day < 100 {
        let [first, second, _] = date_and_time(date.year.into(), [date.month, date.day, 0, 0, 0]);
        let end = out.len() + 10;
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&second.to_le_bytes());
        out.truncate(end);
        return;
    }
    // No server writes one.
    write_uint(out, u64::from(date.year));
    out.push(b'-');
    two(out, date.month);
    out.push(b'-');
    two(out, date.day);
}

/// The first 19 bytes of `YYYY-MM-DD HH:MM:SS` as [`date_and_time`] gives them; `None`: a part has more digits than it should.
#[inline]
pub fn datetime_words(parts: DateTimeParts) -> Option<[u64; 3]> {
    let DateTimeParts { date, hour, minute, second, .. } = parts;
    let usual = date.year <= 9999 && [date.month, date.day, hour, minute, second].iter().all(|part| *part < 100);
    usual.then(|| date_and_time(date.year.into(), [date.month, date.day, hour, minute, second]))
}

/// Appends `YYYY-MM-DD HH:MM:SS` and `fsp` digits of a fraction.
#[inline]
pub fn write_datetime(out: &mut Vec<u8>, parts: DateTimeParts, fsp: u8) {
    if let Some(words) = datetime_words(parts) {
        let end = out.len() + 19;
        words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out.truncate(end);
    } else {
        write_date(out, parts.date);
        out.push(b' ');
        two(out, parts.hour);
        out.push(b':');
        two(out, parts.minute);
        out.push(b':');
        two(out, parts.second);
    }
    write_fraction(out, parts.microsecond, fsp);
}

/// Appends `[-]HH:MM:SS` and `fsp` digits of a fraction; hours may have three digits.
pub fn write_time(out: &mut Vec<u8>, us: i64, fsp: u8) {
    let size = us.unsigned_abs();
    if us < 0 {
        out.push(b'-');
    }
    let seconds = size / 1_000_000;
    let hours = seconds / 3600;
    if hours < 100 {
        two(out, hours as u8);
    } else {
        write_uint(out, hours);
    }
    out.push(b':');
    two(out, (seconds / 60 % 60) as u8);
    out.push(b':');
    two(out, (seconds % 60) as u8);
    write_fraction(out, (size % 1_000_000) as u32, fsp);
}

#[inline]
fn write_fraction(out: &mut Vec<u8>, microsecond: u32, fsp: u8) {
    if fsp > 0 {
        // A word that is damaged may have seven digits; the last six count.
        let end = out.len() + 1 + usize::from(fsp).min(6);
        out.push(b'.');
        put_padded(out, microsecond, 6);
        out.truncate(end);
    }
}

/// Appends an instant in UTC as a date and time; the zero date as zeros.
pub fn write_timestamp(out: &mut Vec<u8>, us: i64, fsp: u8) {
    write_datetime(out, timestamp_parts(us), fsp);
}

/// An instant's date and time in UTC; the zero date is all zeros. Years outside 0 to 9999 do not come from any source; they are cut to that range.
pub fn timestamp_parts(us: i64) -> DateTimeParts {
    if us == ZERO_TIMESTAMP {
        return DateTimeParts::unpack(0);
    }
    let (seconds, microsecond) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date: years begin in March, so that a leap day is the last day of its year; eras have 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    DateTimeParts {
        date: DateParts { year: year.clamp(0, 9999) as u16, month: month as u8, day: day as u8 },
        hour: (of_day / 3600) as u8,
        minute: (of_day / 60 % 60) as u8,
        second: (of_day % 60) as u8,
        microsecond: microsecond as u32,
    }
}

/// Appends a JSON string with its quotes. Characters above ASCII stay as they are.
pub fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut kept = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x20.. => continue,
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            _ => b"",
        };
        out.extend_from_slice(bytes.get(kept..at).unwrap_or(&[]));
        out.extend_from_slice(escape);
        if escape.is_empty() {
            out.extend_from_slice(b"\\u00");
            write_hex(out, &[*byte]);
        }
        kept = at + 1;
    }
    out.extend_from_slice(bytes.get(kept..).unwrap_or(&[]));
    out.push(b'"');
}

/// Appends lower-case hexadecimal digits.
pub fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() * 2);
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    for byte in bytes {
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Appends base64 (RFC 4648, with padding, in one line).
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let mut text = [b'='; 4];
        for (place, digit) in text.iter_mut().take(group.len() + 1).enumerate() {
            *digit = ALPHABET[(number >> (18 - 6 * place) & 63) as usize];
        }
        out.extend_from_slice(&text);
    }
}

/// Appends the numbers of a vector column as a JSON array; `false` (and nothing appended) when its length is no multiple of four.
pub fn write_vector(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    if bytes.len() % 4 != 0 {
        return false;
    }
    out.push(b'[');
    for (index, raw) in bytes.chunks_exact(4).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let number = raw.first_chunk::<4>().map_or(0.0, |raw| f32::from_le_bytes(*raw));
        if number.is_finite() {
            write_float(out, number);
        } else {
            out.extend_from_slice(b"null");
        }
    }
    out.push(b']');
    true
}

/// Whether a column's values need their charset to be read, but it is not known: valid UTF-8 among them is shown as text.
pub fn charset_is_guessed(column: &Column) -> bool {
    matches!(column.kind, ColumnKind::String { .. }) && column.charset.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::{Sign, StringForm};
    use super::*;

    fn column(kind: ColumnKind, charset: &str, members: &[&[u8]]) -> Column {
        let mut column = Column::new("c", kind);
        column.charset = charset.into();
        column.members = members.iter().map(|member| member.to_vec()).collect();
        column
    }

    fn show(value: Value<'_>, column: &Column) -> (Form, String) {
        let mut out = Vec::new();
        let form = write_value(&mut out, value, column);
        (form, String::from_utf8(out).unwrap())
    }

    fn decimal(text: &str, precision: u8, scale: u8) -> Vec<u8> {
        let negative = text.starts_with('-');
        let (whole, fraction) =
            text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
        let whole = format!("{whole:0>width$}", width = usize::from(precision - scale));
        let mut out = Vec::new();
        let mut group = |digits: &str| {
            let bytes = digits.parse::<u32>().unwrap_or(0).to_be_bytes();
            out.extend_from_slice(&bytes[4 - GROUP_LEN[digits.len()]..]);
        };
        let (first, groups) = whole.split_at(whole.len() % 9);
        group(first);
        for at in (0..groups.len()).step_by(9) {
            group(&groups[at..at + 9]);
        }
        for at in (0..fraction.len()).step_by(9) {
            group(&fraction[at..fraction.len().min(at + 9)]);
        }
        out[0] ^= 0x80;
        if negative {
            out.iter_mut().for_each(|byte| *byte = !*byte);
        }
        out
    }

    #[test]
    fn packed_decimals_read_as_documented() {
        // The example in the documentation of MySQL's decimal2bin: 1234567890.1234 as DECIMAL(14,4).
        let mut out = Vec::new();
        assert!(write_decimal(&mut out, b"\x81\x0d\xfb\x38\xd2\x04\xd2", 14, 4));
        assert_eq!(String::from_utf8(out).unwrap(), "1234567890.1234");
        let mut out = Vec::new();
        assert!(write_decimal(&mut out, b"\x7e\xf2\x04\xc7\x2d\xfb\x2d", 14, 4));
        assert_eq!(String::from_utf8(out).unwrap(), "-1234567890.1234");
    }

    #[test]
    fn decimals_that_are_cut_or_have_digits_above_nine_are_no_numbers() {
        for (packed, precision, scale) in [
            (&b"\x80"[..], 14, 4),
            (b"\x81\x0d\xfb\x38\xd2\x04\xd2\x00", 14, 4),
            (b"\xff\xff\xff\xff", 9, 0),
            (b"", 1, 0),
        ] {
            let mut out = b"kept".to_vec();
            assert!(!write_decimal(&mut out, packed, precision, scale));
            assert_eq!(out, b"kept");
        }
    }

    #[test]
    fn temporal_values_read_as_a_server_shows_them() {
        let plain = |value| show(value, &column(ColumnKind::Date, "", &[]));
        let us = |hours: i64, minutes: i64, seconds: i64| ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
        for (value, text) in [
            (Value::Date(DateParts { year: 2026, month: 11, day: 21 }.pack()), "2026-11-21"),
            (Value::Date(0), "0000-00-00"),
            (Value::Time { us: -us(838, 59, 59), fsp: 0 }, "-838:59:59"),
            (Value::Time { us: us(1, 2, 3) + 450_000, fsp: 2 }, "01:02:03.45"),
            (Value::Time { us: -10, fsp: 6 }, "-00:00:00.000010"),
            (Value::DateTime { packed: 0, fsp: 3 }, "0000-00-00 00:00:00.000"),
            (Value::Timestamp { us: ZERO_TIMESTAMP, fsp: 0 }, "0000-00-00 00:00:00"),
            (Value::Timestamp { us: 1_795_255_200_000_001, fsp: 6 }, "2026-11-21 10:00:00.000001"),
            (Value::Timestamp { us: 951_782_400_000_000, fsp: 0 }, "2000-02-29 00:00:00"),
            (Value::Timestamp { us: -1_000_000, fsp: 0 }, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(plain(value), (Form::Plain, text.to_owned()));
        }
    }

    #[test]
    fn numbers_read_as_a_server_shows_them() {
        let int = column(ColumnKind::Int { bytes: 8, sign: Sign::Unsigned }, "", &[]);
        assert_eq!(show(Value::UInt(u64::MAX), &int), (Form::Integer, "18446744073709551615".into()));
        assert_eq!(show(Value::Bit { bytes: &[1, 2], bits: 9 }, &int), (Form::Integer, "258".into()));
        assert_eq!(show(Value::Year(0), &int), (Form::Integer, "0".into()));
        for (number, text) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.0, "0"),
            (1e14, "100000000000000"),
            (1e15, "1e15"),
            (1.5e300, "1.5e300"),
            (0.00001, "0.00001"),
            (1e-20, "1e-20"),
            (123456.789, "123456.789"),
            (1.7976931348623157e308, "1.7976931348623157e308"),
        ] {
            assert_eq!(show(Value::Double(number), &int), (Form::Number, text.into()));
        }
        assert_eq!(show(Value::Float(0.1), &int), (Form::Number, "0.1".into()));
        assert_eq!(show(Value::Double(f64::NAN), &int).0, Form::Text);
    }

    #[test]
    fn members_are_shown_by_name_and_by_number_when_there_is_no_name() {
        let members = column(ColumnKind::Set, "latin1", &[b"a", b"\xe9"]);
        assert_eq!(show(Value::Enum(2), &members), (Form::Text, "é".into()));
        assert_eq!(show(Value::Enum(0), &members), (Form::Text, "".into()));
        assert_eq!(show(Value::Enum(3), &members), (Form::Integer, "3".into()));
        assert_eq!(show(Value::Set(3), &members), (Form::Text, "a,é".into()));
        assert_eq!(show(Value::Set(0), &members), (Form::Text, "".into()));
        assert_eq!(show(Value::Set(4), &members), (Form::Integer, "4".into()));
    }

    #[test]
    fn bytes_that_are_not_valid_in_the_charset_survive() {
        let string = |charset| column(ColumnKind::String { form: StringForm::VarChar, bytes_max: 9 }, charset, &[]);
        let form = |charset, bytes| {
            let mut out = Vec::new();
            (write_value(&mut out, Value::String(bytes), &string(charset)), out)
        };
        assert_eq!(form("utf8mb4", b"\xff"), (Form::Bytes, b"\xff".to_vec()));
        assert_eq!(form("", "é".as_bytes()), (Form::Text, "é".into()));
        assert_eq!(form("binary", b"a"), (Form::Bytes, b"a".to_vec()));
        assert_eq!(form("latin1", b"\xe9"), (Form::Text, "é".into()));
        assert_eq!(form("sjis", b"a\x82"), (Form::Bytes, b"a\x82".to_vec()));
    }

    #[test]
    fn json_strings_are_escaped_and_base64_is_padded() {
        let mut out = Vec::new();
        write_json_string(&mut out, "a\"\\\u{1}\u{1b}é\n");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a\"\\\u0001\u001bé\n""#);
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            let mut out = Vec::new();
            write_base64(&mut out, bytes);
            assert_eq!(out, text.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn decimals_of_any_size_come_back(whole in "[1-9][0-9]{0,34}|0", fraction in "[0-9]{0,30}", negative: bool) {
            let scale = fraction.len() as u8;
            let precision = (whole.len() as u8 + scale).max(1);
            let zero = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
            let sign = if negative && !zero { "-" } else { "" };
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            let mut out = Vec::new();
            prop_assert!(write_decimal(&mut out, &decimal(&text, precision, scale), precision, scale));
            prop_assert_eq!(String::from_utf8(out).unwrap(), text);
        }

        #[test]
        fn doubles_and_floats_come_back_from_their_text(bits: u64, small: u32) {
            let (double, float) = (f64::from_bits(bits), f32::from_bits(small));
            for point in [false, true] {
                let mut out = Vec::new();
                if double.is_finite() {
                    write_double(&mut out, double, point);
                    prop_assert_eq!(std::str::from_utf8(&out).unwrap().parse::<f64>().unwrap().to_bits(), bits);
                }
            }
            if float.is_finite() {
                let mut out = Vec::new();
                write_float(&mut out, float);
                prop_assert_eq!(std::str::from_utf8(&out).unwrap().parse::<f32>().unwrap().to_bits(), small);
            }
        }

        #[test]
        fn instants_are_the_dates_that_a_calendar_gives(us in -62_135_596_800_000_000i64..253_402_207_200_000_000) {
            let mut out = Vec::new();
            write_timestamp(&mut out, us, 6);
            let wanted = jiff::Timestamp::from_microsecond(us).unwrap().strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
            prop_assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
