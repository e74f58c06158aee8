//! Text of values until `event::text` is there.

use std::io::Write as _;

use crate::event::value::{DateParts, DateTimeParts, ZERO_TIMESTAMP};
use crate::event::{Column, Value};

/// Appends the canonical text.
pub(super) fn write_value(out: &mut Vec<u8>, value: Value<'_>, column: &Column) -> Result<(), ()> {
    match value {
        Value::Date(packed) => {
            let d = DateParts::unpack(packed);
            write!(out, "{:04}-{:02}-{:02}", d.year, d.month, d.day).map_err(drop)
        }
        Value::DateTime { packed, fsp } => date_time(out, DateTimeParts::unpack(packed), fsp),
        Value::Timestamp { us, fsp } => {
            if us == ZERO_TIMESTAMP {
                let zero = DateParts { year: 0, month: 0, day: 0 };
                return date_time(
                    out,
                    DateTimeParts { date: zero, hour: 0, minute: 0, second: 0, microsecond: 0 },
                    fsp,
                );
            }
            let days = us.div_euclid(86_400_000_000);
            let rest = us.rem_euclid(86_400_000_000) as u64;
            // Civil from days (proleptic Gregorian).
            let z = days + 719_468;
            let era = z.div_euclid(146_097);
            let doe = z.rem_euclid(146_097);
            let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
            let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
            let mp = (5 * doy + 2) / 153;
            let day = (doy - (153 * mp + 2) / 5 + 1) as u8;
            let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u8;
            let year = (yoe + era * 400 + i64::from(month <= 2)) as u16;
            let seconds = rest / 1_000_000;
            date_time(
                out,
                DateTimeParts {
                    date: DateParts { year, month, day },
                    hour: (seconds / 3600) as u8,
                    minute: (seconds / 60 % 60) as u8,
                    second: (seconds % 60) as u8,
                    microsecond: (rest % 1_000_000) as u32,
                },
                fsp,
            )
        }
        Value::Time { us, fsp } => {
            let sign = if us < 0 { "-" } else { "" };
            let abs = us.unsigned_abs();
            let s = abs / 1_000_000;
            write!(out, "{sign}{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60).map_err(drop)?;
            fraction(out, (abs % 1_000_000) as u32, fsp)
        }
        Value::Enum(0) => Ok(()),
        Value::Enum(index) => {
            out.extend_from_slice(column.members.get(usize::from(index) - 1).ok_or(())?);
            Ok(())
        }
        Value::Set(bits) => {
            let mut first = true;
            for (number, member) in column.members.iter().enumerate().take(64) {
                if bits >> number & 1 == 1 {
                    if !first {
                        out.push(b',');
                    }
                    first = false;
                    out.extend_from_slice(member);
                }
            }
            Ok(())
        }
        Value::Decimal { packed, precision, scale } => decimal(out, packed, precision, scale).ok_or(()),
        _ => Err(()),
    }
}

fn date_time(out: &mut Vec<u8>, p: DateTimeParts, fsp: u8) -> Result<(), ()> {
    let d = p.date;
    write!(out, "{:04}-{:02}-{:02} {:02}:{:02}:{:02}", d.year, d.month, d.day, p.hour, p.minute, p.second)
        .map_err(drop)?;
    fraction(out, p.microsecond, fsp)
}

fn fraction(out: &mut Vec<u8>, us: u32, fsp: u8) -> Result<(), ()> {
    if fsp > 0 {
        let text = format!(".{us:06}");
        out.extend_from_slice(text.as_bytes().get(..usize::from(fsp).min(6) + 1).ok_or(())?);
    }
    Ok(())
}

fn decimal(out: &mut Vec<u8>, packed: &[u8], precision: u8, scale: u8) -> Option<()> {
    const LEFT_OVER: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let negative = packed.first()? & 0x80 == 0;
    let mut bytes = packed.to_vec();
    *bytes.first_mut()? ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
    }
    let mut rest = bytes.as_slice();
    let whole = usize::from(precision - scale);
    let mut digits = String::new();
    let mut take = |count: usize, digits: &mut String| -> Option<()> {
        let (now, later) = rest.split_at_checked(*LEFT_OVER.get(count)?)?;
        rest = later;
        let value = now.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        if count > 0 {
            digits.push_str(&format!("{value:0count$}"));
        }
        Some(())
    };
    take(whole % 9, &mut digits)?;
    for _ in 0..whole / 9 {
        take(9, &mut digits)?;
    }
    let head = digits.trim_start_matches('0').to_owned();
    digits.clear();
    for _ in 0..scale / 9 {
        take(9, &mut digits)?;
    }
    take(usize::from(scale % 9), &mut digits)?;
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(if head.is_empty() { b"0" } else { head.as_bytes() });
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(digits.as_bytes());
    }
    Some(())
}
