//! Times as people write them and as dumps print them.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Reads a time: microseconds since 1970 UTC. Without a zone it is local to `zone`; `now` gives the day of a bare
/// time of day. `None`: not a time.
///
/// Understood are `2026-11-21T10:00:00Z` and other offsets, `2026-11-21 10:00[:00[.5]]`, `2026-11-21`, `10:00[:00]` (today),
/// `today`, `yesterday`, `now` and `@SECONDS` since 1970.
pub fn parse(text: &str, zone: &TimeZone, now: Timestamp) -> Option<i64> {
    let text = text.trim();
    let today = || Zoned::new(now, zone.clone()).date();
    let local = |at: civil::DateTime| zone.to_ambiguous_timestamp(at).compatible().ok();
    let at = match text {
        "now" => now,
        "today" => local(today().at(0, 0, 0, 0))?,
        "yesterday" => local(today().yesterday().ok()?.at(0, 0, 0, 0))?,
        _ => {
            if let Some(seconds) = text.strip_prefix('@') {
                let seconds: f64 = seconds.parse().ok()?;
                let us = (seconds * 1e6).round();
                return (us.abs() < 1e17).then_some(us as i64);
            }
            // A bare number would be taken for a compact date.
            if text.len() < 4 || !text.contains([':', '-']) {
                return None;
            }
            if let Ok(at) = text.parse::<Timestamp>() {
                at
            } else if let Ok(at) = text.parse::<civil::DateTime>() {
                local(at)?
            } else if let Ok(date) = text.parse::<civil::Date>() {
                local(date.at(0, 0, 0, 0))?
            } else {
                time_of_day(text).and_then(|time| local(today().to_datetime(time)))?
            }
        }
    };
    Some(at.as_microsecond())
}

/// `HH:MM`, `HH:MM:SS` or with a fraction; two digits each, since `42:1234` is a position.
fn time_of_day(text: &str) -> Option<civil::Time> {
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 5
        && bytes.iter().enumerate().take(8).all(|(at, byte)| match at {
            2 | 5 => *byte == b':',
            _ => byte.is_ascii_digit(),
        })
        && !matches!(bytes.len(), 6 | 7);
    shape.then(|| text.parse().ok()).flatten()
}

/// Appends a time in UTC as JSON has it, without quotes: `2026-11-21T10:00:00Z`, the fraction only when there is one.
pub fn put_utc(out: &mut Vec<u8>, us: i64) {
    let Ok(at) = Timestamp::from_microsecond(us) else {
        // Beyond the year 9999: no log means it, and it must not look like a time.
        out.extend_from_slice(format!("@{us}us").as_bytes());
        return;
    };
    let at = at.to_zoned(TimeZone::UTC).datetime();
    put_digits(out, at.year().unsigned_abs().into(), 4);
    out.push(b'-');
    put_digits(out, at.month().unsigned_abs().into(), 2);
    out.push(b'-');
    put_digits(out, at.day().unsigned_abs().into(), 2);
    out.push(b'T');
    put_digits(out, at.hour().unsigned_abs().into(), 2);
    out.push(b':');
    put_digits(out, at.minute().unsigned_abs().into(), 2);
    out.push(b':');
    put_digits(out, at.second().unsigned_abs().into(), 2);
    let fraction = us.rem_euclid(1_000_000);
    if fraction != 0 {
        out.push(b'.');
        put_digits(out, fraction as u32, 6);
    }
    out.push(b'Z');
}

/// Exactly `digits` decimal digits, at most 6.
fn put_digits(out: &mut Vec<u8>, value: u32, digits: usize) {
    let mut power = [1, 10, 100, 1_000, 10_000, 100_000][digits.clamp(1, 6) - 1];
    while power > 0 {
        out.push(b'0' + (value / power % 10) as u8);
        power /= 10;
    }
}

/// A time for people, in `zone` with its offset: `2026-11-21 10:00:00.000000+01:00`.
pub fn local(us: i64, zone: &TimeZone) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(at) => {
            let form = if us.rem_euclid(1_000_000) == 0 { "%Y-%m-%d %H:%M:%S%:z" } else { "%Y-%m-%d %H:%M:%S.%6f%:z" };
            Zoned::new(at, zone.clone()).strftime(form).to_string()
        }
        Err(_) => format!("@{us}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_unless_they_name_a_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-11-21T23:30:00Z".parse().unwrap();
        let utc = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        for (text, wanted) in [
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("2026-11-21 10:00:00+01:00", "2026-11-21T09:00:00Z"),
            ("2026-11-21 10:00", "2026-11-21T08:00:00Z"),
            ("2026-11-21 10:00:00.5", "2026-11-21T08:00:00.5Z"),
            ("2026-11-21", "2026-11-20T22:00:00Z"),
            ("10:00", "2026-11-22T08:00:00Z"),
            ("10:00:01", "2026-11-22T08:00:01Z"),
            ("yesterday", "2026-11-20T22:00:00Z"),
            ("@1.5", "1970-01-01T00:00:01.5Z"),
        ] {
            assert_eq!(parse(text, &zone, now), Some(utc(wanted)), "{text}");
        }
        for text in ["", "42:1234", "bin.000001:4", "10:4", "100", "25:00", "0-1-100", "@x"] {
            assert_eq!(parse(text, &zone, now), None, "{text}");
        }
    }

    #[test]
    fn utc_times_are_those_of_jiff() {
        for us in [0, -1, 1_763_719_200_000_000, 951_782_399_999_999, 4_102_444_800_000_001, -62_135_596_799_999_999] {
            let mut out = Vec::new();
            put_utc(&mut out, us);
            let back: Timestamp = String::from_utf8(out).unwrap().parse().unwrap();
            assert_eq!(back.as_microsecond(), us);
        }
        for us in [i64::MIN, i64::MAX] {
            put_utc(&mut Vec::new(), us);
            local(us, &TimeZone::UTC);
        }
    }
}
