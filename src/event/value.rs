//! Values as borrowed from a row image, and the arithmetic of the packed forms.

use super::table::{ColumnKind, Sign};
use crate::frame::fields::{take_bytes, take_varint};

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
            let raw = take_bytes(input, usize::from(bytes))?;
            let mut wide = [0u8; 8];
            wide.get_mut(..raw.len())?.copy_from_slice(raw);
            let unsigned = u64::from_le_bytes(wide);
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
}
