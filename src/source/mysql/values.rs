//! The arithmetic of single values: how temporal and other special types stand in MySQL's and MariaDB's rows.
//!
//! Slices come with the right length (the caller cut them); a wrong one gives a wrong number, never a panic.

use std::io::Read;

use crate::event::value::{DateParts, DateTimeParts, ZERO_TIMESTAMP};
use crate::frame::fields::put_varint;

/// Why a value could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The bytes end before it does.
    Short,
    /// What is wrong with it.
    Invalid(&'static str),
}

/// Most that a COMPRESSED value may claim to unpack to: LONGBLOB's limit is 4 GiB, but no packet exceeds 1 GiB.
const DECOMPRESSED_MAX: u64 = 1 << 30;

/// A little-endian number of at most 8 bytes.
#[inline]
pub(super) fn little(bytes: &[u8]) -> u64 {
    match bytes {
        [a] => u64::from(*a),
        [a, b] => u64::from(u16::from_le_bytes([*a, *b])),
        [a, b, c] => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

/// A big-endian number of at most 8 bytes.
#[inline]
fn big(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Four bytes the other way round.
pub(super) fn reversed(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk::<4>().map_or([0; 4], |raw| u32::from_be_bytes(*raw).to_le_bytes())
}

/// Bytes of a fraction of `fsp` digits in the types since MySQL 5.6.
#[inline]
pub(super) const fn fraction_len(fsp: u8) -> usize {
    fsp.div_ceil(2) as usize
}

/// Microseconds in one unit of such a fraction: it has an even number of digits.
#[inline]
const fn fraction_us(fsp: u8) -> u64 {
    match fsp {
        0 => 0,
        1 | 2 => 10_000,
        3 | 4 => 100,
        _ => 1,
    }
}

const fn ten_to(digits: u8) -> u64 {
    10u64.pow(digits as u32)
}

/// Seconds, fraction; big-endian. Second 0 without a fraction is the zero date.
#[inline]
pub(super) fn timestamp2(bytes: &[u8], fsp: u8) -> i64 {
    let (seconds, fraction) = match bytes.split_first_chunk::<4>() {
        Some((seconds, fraction)) => (u64::from(u32::from_be_bytes(*seconds)), fraction),
        None => (big(bytes), &[][..]),
    };
    let us = seconds * 1_000_000 + big(fraction) * fraction_us(fsp);
    if us == 0 { ZERO_TIMESTAMP } else { us as i64 }
}

/// 40 bits plus a sign bit that is always set, fraction; big-endian: rlog's packed form but for the fraction.
#[inline]
pub(super) fn datetime2(bytes: &[u8], fsp: u8) -> Result<i64, Cut> {
    let (whole, fraction) = match bytes.split_first_chunk::<5>() {
        Some((&[a, b, c, d, e], fraction)) => (u64::from_be_bytes([0, 0, 0, a, b, c, d, e]), fraction),
        None => (big(bytes), &[][..]),
    };
    if whole & 0x80_0000_0000 == 0 {
        return Err(Cut::Invalid("a DATETIME is negative"));
    }
    Ok(((whole & 0x7f_ffff_ffff) << 24 | big(fraction) * fraction_us(fsp)) as i64)
}

/// 24 bits and fraction as one big-endian number that is offset by half its range, so that negative times sort first.
#[inline]
pub(super) fn time2(bytes: &[u8], fsp: u8) -> i64 {
    let fraction_bits = fraction_len(fsp) as u32 * 8;
    let signed = big(bytes) as i64 - (0x80_0000 << fraction_bits);
    let size = signed.unsigned_abs();
    let (whole, fraction) = (size >> fraction_bits, size & ((1 << fraction_bits) - 1));
    let seconds = (whole >> 12 & 0x3ff) * 3600 + (whole >> 6 & 0x3f) * 60 + (whole & 0x3f);
    let us = (seconds * 1_000_000 + fraction * fraction_us(fsp)) as i64;
    if signed < 0 { -us } else { us }
}

/// Decimal digits HHMMSS as a signed 24-bit number.
pub(super) fn time(bytes: &[u8]) -> i64 {
    let signed = ((little(bytes) as i32) << 8) >> 8;
    let size = i64::from(signed.unsigned_abs());
    let us = (size / 10_000 * 3600 + size / 100 % 100 * 60 + size % 100) * 1_000_000;
    if signed < 0 { -us } else { us }
}

/// Decimal digits YYYYMMDDHHMMSS.
pub(super) fn datetime(bytes: &[u8]) -> Result<i64, Cut> {
    let digits = little(bytes);
    let (date, time) = (digits / 1_000_000, digits % 1_000_000);
    packed(date / 10_000, date / 100 % 100, date % 100, time / 10_000, time / 100 % 100, time % 100, 0)
}

fn packed(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64, us: u64) -> Result<i64, Cut> {
    if year > 9999 || month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 {
        return Err(Cut::Invalid("a DATETIME has a part that is out of range"));
    }
    let date = DateParts { year: year as u16, month: month as u8, day: day as u8 };
    let parts =
        DateTimeParts { date, hour: hour as u8, minute: minute as u8, second: second as u8, microsecond: us as u32 };
    Ok(parts.pack())
}

/// Bytes of MariaDB's TIME(1..6) before 10.1.
pub(super) const fn time_hires_len(fsp: u8) -> usize {
    match fsp {
        0 => 3,
        1 | 2 => 4,
        3..=5 => 5,
        _ => 6,
    }
}

/// Bytes of MariaDB's DATETIME(1..6) before 10.1.
pub(super) const fn datetime_hires_len(fsp: u8) -> usize {
    match fsp {
        0 => 5,
        1 | 2 => 6,
        3..=5 => 7,
        _ => 8,
    }
}

/// Big-endian units of the fraction, offset by one second more than the largest time, 838:59:59.
pub(super) fn time_hires(bytes: &[u8], fsp: u8) -> i64 {
    let zero = 3_020_400 * ten_to(fsp) as i64;
    (big(bytes) as i64 - zero) * ten_to(6 - fsp.min(6)) as i64
}

/// Big-endian units of the fraction, of a calendar with 13 months of 32 days.
pub(super) fn datetime_hires(bytes: &[u8], fsp: u8) -> Result<i64, Cut> {
    let units = big(bytes);
    let (rest, fraction) = (units / ten_to(fsp), units % ten_to(fsp));
    let (rest, second) = (rest / 60, rest % 60);
    let (rest, minute) = (rest / 60, rest % 60);
    let (rest, hour) = (rest / 24, rest % 24);
    let (rest, day) = (rest / 32, rest % 32);
    let (year, month) = (rest / 13, rest % 13);
    packed(year, month, day, hour, minute, second, fraction * ten_to(6 - fsp.min(6)))
}

/// A value of a MariaDB column with COMPRESSED: empty, or a byte whose high half is the method (0 none, 8 zlib), whose bit 3 says that
/// zlib's wrapping is missing, and whose low bits are the bytes of the big-endian original length that follows.
pub(super) fn decompress(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
    const BROKEN: Cut = Cut::Invalid("a COMPRESSED value does not unpack");
    let Some((&head, rest)) = bytes.split_first() else {
        put_varint(out, 0);
        return Ok(());
    };
    match head >> 4 {
        0 => {
            put_varint(out, rest.len() as u64);
            out.extend_from_slice(rest);
            Ok(())
        }
        8 => {
            let (length, rest) = rest.split_at_checked(usize::from(head & 7)).ok_or(BROKEN)?;
            let length = big(length);
            if length > DECOMPRESSED_MAX {
                return Err(BROKEN);
            }
            put_varint(out, length);
            let start = out.len();
            let read = if head & 8 == 0 {
                flate2::read::ZlibDecoder::new(rest).take(length).read_to_end(out)
            } else {
                flate2::read::DeflateDecoder::new(rest).take(length).read_to_end(out)
            };
            match read {
                Ok(_) if (out.len() - start) as u64 == length => Ok(()),
                _ => Err(BROKEN),
            }
        }
        _ => Err(Cut::Invalid("a COMPRESSED value has a method that is not known")),
    }
}

/// Appends bytes as a counted string of their text form. (Tables and indexes keep UUIDs with their segments swapped; rows in a log do not.)
pub(super) fn uuid(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
    let raw: [u8; 16] = padded(bytes).ok_or(Cut::Invalid("a UUID is longer than 16 bytes"))?;
    put_varint(out, 36);
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&hex(*byte));
    }
    Ok(())
}

/// Two lower-case hexadecimal digits.
fn hex(byte: u8) -> [u8; 2] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    [digit(byte >> 4), digit(byte & 15)]
}

/// As [`uuid`], for an IPv4 address.
pub(super) fn inet4(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
    let raw: [u8; 4] = padded(bytes).ok_or(Cut::Invalid("an INET4 is longer than 4 bytes"))?;
    counted(&std::net::Ipv4Addr::from(raw).to_string(), out);
    Ok(())
}

/// As [`uuid`], for an IPv6 address.
pub(super) fn inet6(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Cut> {
    let raw: [u8; 16] = padded(bytes).ok_or(Cut::Invalid("an INET6 is longer than 16 bytes"))?;
    counted(&std::net::Ipv6Addr::from(raw).to_string(), out);
    Ok(())
}

fn counted(text: &str, out: &mut Vec<u8>) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The bytes with the trailing zeros that a log leaves out; `None` when there are too many.
fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(out)
}
