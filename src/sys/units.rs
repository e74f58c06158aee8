//! Sizes, durations and versions as people write them.

use std::time::Duration;

/// `4096`, `64K`, `16M`, `1G`, `2T`: bytes, in powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit.trim_end_matches("iB").trim_end_matches(['B', 'b']).to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("expected bytes, such as 4096, 64K, 16M or 1G".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "expected bytes, such as 4096, 64K, 16M or 1G".to_owned())
}

/// `10`, `1.5`, `250ms`, `10s`, `5m`, `2h`, `1d`; without a unit, seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("expected a duration, such as 10, 250ms, 5m or 1h".to_owned()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| "expected a duration, such as 10, 250ms, 5m or 1h".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// Major, minor and patch of a version as programs tell it, `10.11.18-MariaDB-log`; 0 for what it does not tell.
pub fn version(text: &str) -> (u32, u32, u32) {
    let mut numbers = text.splitn(3, '.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood_and_nonsense_is_not() {
        assert_eq!(bytes("64K"), Ok(64 << 10));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "x", "-1", "1.5K", "99999999999T", "1 K"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "x", "-1", "1e9d", "1..2"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn versions_are_read_as_far_as_they_are_numbers() {
        for (text, wanted) in [
            ("10.11.18-MariaDB-0+deb12u1-log", (10, 11, 18)),
            ("9.7.0", (9, 7, 0)),
            ("2.15.1-beta", (2, 15, 1)),
            ("3.0", (3, 0, 0)),
            ("v2", (0, 0, 0)),
            ("", (0, 0, 0)),
            ("99999999999.1", (0, 1, 0)),
        ] {
            assert_eq!(version(text), wanted, "{text}");
        }
    }
}
