//! Values as borrowed from a row image, and the arithmetic of the packed forms.

use super::table::{ColumnKind, Sign};
use crate::frame::fields::{put_varint, take_bytes, take_varint};

/// One column's value in one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// The image does not have this column.
    Absent,
    /// The image does not have it because the statement left it as it was.
    Unchanged,
    /// NULL.
    Null,
    /// Integer that is signed, or whose sign is not known.
    Int(i64),
    /// Unsigned integer.
    UInt(u64),
    /// Binary32.
    Float(f32),
    /// Binary64.
    Double(f64),
    /// MySQL's packed decimal.
    Decimal {
        /// The bytes, [`super::table::decimal_len`] of them.
        packed: &'a [u8],
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Bits, most significant byte first.
    Bit {
        /// The bytes.
        bytes: &'a [u8],
        /// How many bits count.
        bits: u8,
    },
    /// Year, 0 for 0000.
    Year(u16),
    /// Date: see [`DateParts`].
    Date(u32),
    /// Microseconds, signed.
    Time {
        /// Microseconds.
        us: i64,
        /// Digits of the fraction.
        fsp: u8,
    },
    /// Packed date and time: see [`DateTimeParts`].
    DateTime {
        /// Packed.
        packed: i64,
        /// Digits of the fraction.
        fsp: u8,
    },
    /// Microseconds since 1970 UTC; [`ZERO_TIMESTAMP`] is the zero date.
    Timestamp {
        /// Microseconds.
        us: i64,
        /// Digits of the fraction.
        fsp: u8,
    },
    /// Characters or bytes of a string column, in the column's charset.
    String(&'a [u8]),
    /// Index of an ENUM's member, from 1.
    Enum(u16),
    /// Bitmap of a SET's members.
    Set(u64),
    /// JSON in MySQL's binary form.
    Json(&'a [u8]),
    /// MySQL's binary JSON diffs against the before image.
    JsonDiff(&'a [u8]),
    /// SRID and WKB.
    Geometry(&'a [u8]),
    /// Binary32 numbers.
    Vector(&'a [u8]),
    /// Text of a dynamically typed column (SQLite): UTF-8, though nothing guarantees it.
    Text(&'a [u8]),
    /// Bytes of a dynamically typed column.
    Blob(&'a [u8]),
}

/// The zero date of a TIMESTAMP.
pub const ZERO_TIMESTAMP: i64 = i64::MIN;

/// Tags of [`ColumnKind::Any`].
pub mod any_tag {
    /// 8 bytes, two's complement.
    pub const INT: u8 = 1;
    /// 8 bytes, binary64.
    pub const REAL: u8 = 2;
    /// LEB128 length, bytes.
    pub const TEXT: u8 = 3;
    /// LEB128 length, bytes.
    pub const BLOB: u8 = 4;
}

/// Parts of a packed date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateParts {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
}

impl DateParts {
    /// From the packed form.
    pub fn unpack(packed: u32) -> DateParts {
        DateParts { year: (packed >> 9) as u16, month: (packed >> 5 & 15) as u8, day: (packed & 31) as u8 }
    }

    /// To the packed form.
    pub fn pack(self) -> u32 {
        u32::from(self.year) << 9 | u32::from(self.month) << 5 | u32::from(self.day)
    }
}

/// Parts of a packed date and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTimeParts {
    /// The date.
    pub date: DateParts,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub microsecond: u32,
}

impl DateTimeParts {
    /// From the packed form.
    pub fn unpack(packed: i64) -> DateTimeParts {
        let seconds = (packed as u64) >> 24;
        let days = seconds >> 17;
        let months = days >> 5;
        DateTimeParts {
            date: DateParts { year: (months / 13) as u16, month: (months % 13) as u8, day: (days & 31) as u8 },
            hour: (seconds >> 12 & 31) as u8,
            minute: (seconds >> 6 & 63) as u8,
            second: (seconds & 63) as u8,
            microsecond: (packed & 0xff_ffff) as u32,
        }
    }

    /// To the packed form.
    pub fn pack(self) -> i64 {
        let months = u64::from(self.date.year) * 13 + u64::from(self.date.month);
        let seconds = (months << 5 | u64::from(self.date.day)) << 17
            | u64::from(self.hour) << 12
            | u64::from(self.minute) << 6
            | u64::from(self.second);
        (seconds << 24 | u64::from(self.microsecond)) as i64
    }
}

/// Takes one value of `kind` off the front of an image; `diff` when the column is in the diff set. `None`: cut short or
/// invalid.
#[inline]
pub fn take_value<'a>(input: &mut &'a [u8], kind: ColumnKind, diff: bool) -> Option<Value<'a>> {
    Some(match kind {
        ColumnKind::Int { bytes, sign } => {
            // Each length for itself: a copy of any length would be a call.
            let unsigned = match *take_bytes(input, usize::from(bytes))? {
                [a] => u64::from(a),
                [a, b] => u64::from(u16::from_le_bytes([a, b])),
                [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
                [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                ref raw => {
                    let mut wide = [0u8; 8];
                    wide.get_mut(..raw.len())?.copy_from_slice(raw);
                    u64::from_le_bytes(wide)
                }
            };
            if sign == Sign::Unsigned {
                Value::UInt(unsigned)
            } else {
                let shift = 64 - u32::from(bytes) * 8;
                Value::Int((unsigned << shift) as i64 >> shift)
            }
        }
        ColumnKind::Float => Value::Float(f32::from_le_bytes(take_array(input)?)),
        ColumnKind::Double => Value::Double(f64::from_le_bytes(take_array(input)?)),
        ColumnKind::Decimal { precision, scale } => {
            let packed = take_bytes(input, super::table::decimal_len(precision, scale))?;
            Value::Decimal { packed, precision, scale }
        }
        ColumnKind::Bit { bits } => Value::Bit { bytes: take_bytes(input, usize::from(bits).div_ceil(8))?, bits },
        ColumnKind::Year => Value::Year(u16::from_le_bytes(take_array(input)?)),
        ColumnKind::Date => {
            let [a, b, c] = take_array(input)?;
            Value::Date(u32::from_le_bytes([a, b, c, 0]))
        }
        ColumnKind::Time { fsp } => Value::Time { us: i64::from_le_bytes(take_array(input)?), fsp },
        ColumnKind::DateTime { fsp } => Value::DateTime { packed: i64::from_le_bytes(take_array(input)?), fsp },
        ColumnKind::Timestamp { fsp } => Value::Timestamp { us: i64::from_le_bytes(take_array(input)?), fsp },
        ColumnKind::String { .. } => Value::String(take_counted(input)?),
        ColumnKind::Enum => Value::Enum(u16::from_le_bytes(take_array(input)?)),
        ColumnKind::Set => Value::Set(u64::from_le_bytes(take_array(input)?)),
        ColumnKind::JsonBinary if diff => Value::JsonDiff(take_counted(input)?),
        ColumnKind::JsonBinary => Value::Json(take_counted(input)?),
        ColumnKind::Geometry => Value::Geometry(take_counted(input)?),
        ColumnKind::Vector => Value::Vector(take_counted(input)?),
        ColumnKind::Any => {
            let [tag] = take_array(input)?;
            match tag {
                any_tag::INT => Value::Int(i64::from_le_bytes(take_array(input)?)),
                any_tag::REAL => Value::Double(f64::from_le_bytes(take_array(input)?)),
                any_tag::TEXT => Value::Text(take_counted(input)?),
                any_tag::BLOB => Value::Blob(take_counted(input)?),
                _ => return None,
            }
        }
    })
}

/// Passes over one value of `kind`, as [`take_value`] would take it and with the same judgement, without looking at it.
#[inline]
pub fn skip_value(input: &mut &[u8], kind: ColumnKind) -> Option<()> {
    let length = match kind {
        ColumnKind::Int { bytes, .. } => usize::from(bytes),
        ColumnKind::Year | ColumnKind::Enum => 2,
        ColumnKind::Date => 3,
        ColumnKind::Float => 4,
        ColumnKind::Double
        | ColumnKind::Time { .. }
        | ColumnKind::DateTime { .. }
        | ColumnKind::Timestamp { .. }
        | ColumnKind::Set => 8,
        ColumnKind::Decimal { precision, scale } => super::table::decimal_len(precision, scale),
        ColumnKind::Bit { bits } => usize::from(bits).div_ceil(8),
        ColumnKind::String { .. } | ColumnKind::JsonBinary | ColumnKind::Geometry | ColumnKind::Vector => {
            counted_len(input)?
        }
        ColumnKind::Any => {
            let (tag, rest) = input.split_first()?;
            *input = rest;
            match *tag {
                any_tag::INT | any_tag::REAL => 8,
                any_tag::TEXT | any_tag::BLOB => counted_len(input)?,
                _ => return None,
            }
        }
    };
    *input = input.get(length..)?;
    Some(())
}

#[inline]
fn counted_len(input: &mut &[u8]) -> Option<usize> {
    if let Some((length @ 0..=0x7f, rest)) = input.split_first() {
        *input = rest;
        return Some(usize::from(*length));
    }
    usize::try_from(take_varint(input)?).ok()
}

/// Appends a value as an image of `kind` has it. `false`, and nothing appended: the kind cannot hold it. What [`take_value`] gave for the same kind always
/// fits; NULL and what is not in an image have no form of their own.
pub fn put_value(out: &mut Vec<u8>, kind: ColumnKind, value: &Value<'_>) -> bool {
    match (kind, *value) {
        (ColumnKind::Int { bytes, sign }, Value::Int(_) | Value::UInt(_)) => {
            let wide = match *value {
                Value::Int(number) => i128::from(number),
                Value::UInt(number) => i128::from(number),
                _ => return false,
            };
            let bits = u32::from(bytes) * 8;
            let (least, most) = match sign {
                Sign::Unsigned => (0, (1i128 << bits) - 1),
                Sign::Signed | Sign::Unknown => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            };
            if !(least..=most).contains(&wide) {
                return false;
            }
            out.extend_from_slice(wide.to_le_bytes().get(..usize::from(bytes)).unwrap_or(&[]));
        }
        (ColumnKind::Float, Value::Float(number)) => out.extend_from_slice(&number.to_le_bytes()),
        (ColumnKind::Double, Value::Double(number)) => out.extend_from_slice(&number.to_le_bytes()),
        (ColumnKind::Decimal { precision, scale }, Value::Decimal { packed, precision: digits, scale: behind })
            if (precision, scale) == (digits, behind)
                && packed.len() == super::table::decimal_len(precision, scale) =>
        {
            out.extend_from_slice(packed);
        }
        (ColumnKind::Bit { bits }, Value::Bit { bytes, .. }) if bytes.len() == usize::from(bits).div_ceil(8) => {
            out.extend_from_slice(bytes);
        }
        (ColumnKind::Year, Value::Year(year)) => out.extend_from_slice(&year.to_le_bytes()),
        (ColumnKind::Date, Value::Date(packed)) if packed < 1 << 24 => {
            out.extend_from_slice(packed.to_le_bytes().get(..3).unwrap_or(&[]));
        }
        (ColumnKind::Time { .. }, Value::Time { us, .. }) => out.extend_from_slice(&us.to_le_bytes()),
        (ColumnKind::DateTime { .. }, Value::DateTime { packed, .. }) => out.extend_from_slice(&packed.to_le_bytes()),
        (ColumnKind::Timestamp { .. }, Value::Timestamp { us, .. }) => out.extend_from_slice(&us.to_le_bytes()),
        (ColumnKind::String { .. }, Value::String(bytes))
        | (ColumnKind::JsonBinary, Value::Json(bytes) | Value::JsonDiff(bytes))
        | (ColumnKind::Geometry, Value::Geometry(bytes))
        | (ColumnKind::Vector, Value::Vector(bytes)) => put_counted(out, bytes),
        (ColumnKind::Enum, Value::Enum(member)) => out.extend_from_slice(&member.to_le_bytes()),
        (ColumnKind::Set, Value::Set(members)) => out.extend_from_slice(&members.to_le_bytes()),
        (ColumnKind::Any, Value::Int(number)) => {
            out.push(any_tag::INT);
            out.extend_from_slice(&number.to_le_bytes());
        }
        (ColumnKind::Any, Value::Double(number)) => {
            out.push(any_tag::REAL);
            out.extend_from_slice(&number.to_le_bytes());
        }
        (ColumnKind::Any, Value::Text(bytes)) => {
            out.push(any_tag::TEXT);
            put_counted(out, bytes);
        }
        (ColumnKind::Any, Value::Blob(bytes)) => {
            out.push(any_tag::BLOB);
            put_counted(out, bytes);
        }
        _ => return false,
    }
    true
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*taken)
}

#[inline]
fn take_counted<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(input)?).ok()?;
    take_bytes(input, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_dates_and_times_come_back_also_with_zero_parts() {
        for (year, month, day) in [(0, 0, 0), (2026, 11, 21), (9999, 12, 31), (2026, 0, 0), (0, 5, 0)] {
            let date = DateParts { year, month, day };
            assert_eq!(DateParts::unpack(date.pack()), date);
            let time = DateTimeParts { date, hour: 23, minute: 59, second: 58, microsecond: 999_999 };
            assert_eq!(DateTimeParts::unpack(time.pack()), time);
        }
    }

    #[test]
    fn what_was_taken_is_put_as_it_was() {
        use super::super::table::StringForm;
        let kinds = [
            ColumnKind::Int { bytes: 3, sign: Sign::Signed },
            ColumnKind::Int { bytes: 8, sign: Sign::Unsigned },
            ColumnKind::Int { bytes: 1, sign: Sign::Unknown },
            ColumnKind::Float,
            ColumnKind::Double,
            ColumnKind::Decimal { precision: 20, scale: 7 },
            ColumnKind::Bit { bits: 13 },
            ColumnKind::Year,
            ColumnKind::Date,
            ColumnKind::Time { fsp: 3 },
            ColumnKind::DateTime { fsp: 0 },
            ColumnKind::Timestamp { fsp: 6 },
            ColumnKind::String { form: StringForm::VarChar, bytes_max: 9 },
            ColumnKind::Enum,
            ColumnKind::Set,
            ColumnKind::JsonBinary,
            ColumnKind::Geometry,
            ColumnKind::Vector,
            ColumnKind::Any,
        ];
        for kind in kinds {
            for fill in [1u8, 2, 3, 4, 5, 0x80, 0xff] {
                let bytes = [fill; 300];
                for diff in [false, true] {
                    let mut rest = &bytes[..];
                    let taken = take_value(&mut rest, kind, diff);
                    for length in [300, 0, 1, 2, 4, 7, 9, 150] {
                        let (mut one, mut other) = (&bytes[..length], &bytes[..length]);
                        let both = (take_value(&mut one, kind, diff).is_some(), skip_value(&mut other, kind).is_some());
                        assert!(both.0 == both.1 && (!both.0 || one.len() == other.len()), "{kind:?} {fill} {length}");
                    }
                    let Some(value) = taken else { continue };
                    let mut out = vec![9];
                    assert!(put_value(&mut out, kind, &value), "{kind:?} {value:?}");
                    // A length may have been written longer than it need be.
                    let taken = take_value(&mut &out[1..], kind, diff);
                    assert_eq!(format!("{taken:?}"), format!("{:?}", Some(value)));
                }
            }
        }
        let mut out = Vec::new();
        let small = ColumnKind::Int { bytes: 1, sign: Sign::Unsigned };
        assert!(!put_value(&mut out, small, &Value::Int(-1)) && !put_value(&mut out, small, &Value::UInt(256)));
        assert!(!put_value(&mut out, ColumnKind::Year, &Value::Int(1)) && !put_value(&mut out, small, &Value::Null));
        assert!(out.is_empty() && put_value(&mut out, small, &Value::UInt(255)));
    }
}
