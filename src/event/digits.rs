//! Decimal digits, eight at a time.
//!
//! Numbers are most of what a dump prints. A number's digits are computed side by side in one word, and zeros in front are shifted out, so that nothing
//! depends on how long the number is but how far the output moves on: no loop, no branch that a processor could guess wrongly.

/// 10 to the power of 8.
pub const EIGHT_DIGITS: u64 = 100_000_000;
/// What makes digits characters.
pub const ASCII: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below [`EIGHT_DIGITS`], a byte each, the first one in the lowest byte.
#[inline(always)]
pub fn eight_digits(number: u32) -> u64 {
    let (high, low) = (u64::from(number / 10_000), u64::from(number % 10_000));
    // Two numbers below 10,000; four below 100; eight below 10. The factors are 2^20 / 100 and 2^10 / 10, rounded up, which is exact
    // for numbers that small.
    let two = high | low << 32;
    let hundreds = (two * 10_486 >> 20) & 0x0000_007f_0000_007f;
    let four = hundreds | (two - 100 * hundreds) << 16;
    let tens = (four * 103 >> 10) & 0x000f_000f_000f_000f;
    tens | (four - 10 * tens) << 8
}

/// Appends an unsigned integer.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, number: u64) {
    let leading = |out: &mut Vec<u8>, number: u64| {
        let digits = eight_digits(number as u32);
        let zeros = ((digits | 1 << 63).trailing_zeros() / 8) as usize;
        let end = out.len() + 8 - zeros;
        out.extend_from_slice(&(digits >> (8 * zeros) | ASCII).to_le_bytes());
        out.truncate(end);
    };
    let eight =
        |out: &mut Vec<u8>, number: u64| out.extend_from_slice(&(eight_digits(number as u32) | ASCII).to_le_bytes());
    if number < EIGHT_DIGITS {
        return leading(out, number);
    }
    let (high, low) = (number / EIGHT_DIGITS, number % EIGHT_DIGITS);
    if high < EIGHT_DIGITS {
        leading(out, high);
    } else {
        leading(out, high / EIGHT_DIGITS);
        eight(out, high % EIGHT_DIGITS);
    }
    eight(out, low);
}

/// Appends a signed integer.
#[inline]
pub fn put_int(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    put_uint(out, number.unsigned_abs());
}

/// Appends the last `digits` digits of a number below 10^9, zeros in front; at most 9.
#[inline]
pub fn put_padded(out: &mut Vec<u8>, number: u32, digits: usize) {
    if digits > 8 {
        out.push(b'0' + (number / EIGHT_DIGITS as u32) as u8);
    }
    let digits = digits.min(8);
    let word = (eight_digits(number % EIGHT_DIGITS as u32) | ASCII).to_le_bytes();
    out.extend_from_slice(word.get(8 - digits..).unwrap_or(&[]));
}

/// `YYYY-MM-DD HH:MM:SS`, in its first 19 bytes: three words, low bytes first. A year has at most four digits, every other part at most two.
#[inline(always)]
pub fn date_and_time(year: u32, [month, day, hour, minute, second]: [u8; 5]) -> [u64; 3] {
    let number = |high: u32, middle: u8, low: u8| high * 10_000 + u32::from(middle) * 100 + u32::from(low);
    let date = eight_digits(number(year, month, day)) | ASCII;
    let time = eight_digits(number(hour.into(), minute, second)) | ASCII;
    let byte = |byte: u8, at: u32| u64::from(byte) << (8 * at);
    let pair = |digits: u64, at: u32| digits >> (8 * at) & 0xffff;
    [
        date & 0xffff_ffff | byte(b'-', 4) | pair(date, 4) << 40 | byte(b'-', 7),
        pair(date, 6) | byte(b' ', 2) | pair(time, 2) << 24 | byte(b':', 5) | pair(time, 4) << 48,
        byte(b':', 0) | pair(time, 6) << 8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        let mut numbers = vec![0, u64::MAX, 1 << 53];
        let mut power = 1u64;
        for _ in 0..20 {
            numbers.extend([power - 1, power, power + 1, power.wrapping_mul(7)]);
            power = power.wrapping_mul(10);
        }
        for number in numbers {
            let mut out = b"x".to_vec();
            put_uint(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{number}"));
            let mut out = Vec::new();
            put_int(&mut out, (number as i64).wrapping_neg());
            assert_eq!(String::from_utf8(out).unwrap(), (number as i64).wrapping_neg().to_string());
        }
    }

    #[test]
    fn every_part_of_eight_digits_is_right() {
        for part in 0..10_000 {
            for number in [part, part * 10_000, part * 10_000 + 9_999 - part] {
                let text = eight_digits(number).to_le_bytes().map(|digit| b'0' + digit);
                assert_eq!(std::str::from_utf8(&text), Ok(format!("{number:08}").as_str()));
            }
        }
    }

    #[test]
    fn padded_numbers_have_as_many_digits_as_are_asked_for() {
        for (number, digits, text) in [(0, 1, "0"), (7, 3, "007"), (999_999_999, 9, "999999999"), (120, 9, "000000120")]
        {
            let mut out = b"x".to_vec();
            put_padded(&mut out, number, digits);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{text}"));
        }
    }

    #[test]
    fn dates_and_times_stand_in_their_places() {
        let words = date_and_time(2026, [1, 23, 4, 5, 67]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(19).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), "2026-01-23 04:05:67");
    }
}
