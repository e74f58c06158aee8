//! What to do with single values of a row image: they stay as they are, or are written anew.
//!
//! A [`Walk`] goes over an image and gathers bytes that stay the same into spans, each copied at once; [`super::image`] says why that is most of them.

use super::values::{self, Cut};
use super::wire::Wire;
use crate::event::table::{Column, ColumnKind, StringForm};
use crate::frame::fields::put_varint;

/// What to do with one column's value, or with several of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// So many bytes stay as they are.
    Keep(u32),
    /// A string with a length of one byte.
    Short,
    /// A string with a length of two bytes.
    Long,
    /// A value with a length of 3 or 4 bytes (or 1, 2: blobs).
    Blob(u8),
    /// Something that is written anew.
    Convert(Convert),
}

/// Values that are written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convert {
    Year,
    Enum1,
    Set(u8),
    Time,
    DateTime,
    Timestamp,
    Time2(u8),
    DateTime2(u8),
    Timestamp2(u8),
    /// MariaDB's forms with a fraction but without metadata.
    TimeHires(u8),
    DateTimeHires(u8),
    TimestampHires(u8),
    /// BINARY(n), whose trailing zeros the log leaves out: width of the length, n.
    Binary(u8, u16),
    /// MariaDB's COMPRESSED: bytes of the length.
    Compressed(u8),
    /// Decimal of MySQL 4 as text of so many bytes.
    OldDecimal(u16),
    /// MariaDB's UUID, INET4 and INET6, with a length of one byte: written as text.
    Uuid,
    Inet4,
    Inet6,
    /// Nothing stands in the row.
    Nothing,
}

/// Spans up to so many bytes are copied as a block.
const SPAN_BLOCK: usize = 64;

/// Where a walk over an image's values stands: bytes from `kept` to `at` stay as they are and wait to be copied.
pub(super) struct Walk<'a> {
    pub wire: &'a [u8],
    pub at: usize,
    pub kept: usize,
}

impl<'a> Walk<'a> {
    /// Walks over one value.
    #[inline]
    pub fn step(&mut self, op: Op, out: &mut Vec<u8>) -> Result<(), Cut> {
        match op {
            Op::Keep(bytes) => self.skip(bytes as usize),
            Op::Short => {
                let length = *self.wire.get(self.at).ok_or(Cut::Short)?;
                if length < 0x80 {
                    return self.skip(1 + usize::from(length));
                }
                self.flush(out);
                self.at += 1;
                put_varint(out, u64::from(length));
                self.kept = self.at;
                self.skip(usize::from(length))
            }
            Op::Long => {
                let raw = self.wire.get(self.at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(Cut::Short)?;
                let length = u16::from_le_bytes(*raw);
                self.flush(out);
                self.at += 2;
                put_varint(out, u64::from(length));
                self.kept = self.at;
                self.skip(usize::from(length))
            }
            Op::Blob(bytes) => {
                let length = self.take_length(bytes, out)?;
                put_varint(out, length as u64);
                self.kept = self.at;
                self.skip(length)
            }
            Op::Convert(convert) => self.convert(convert, out),
        }
    }

    /// Walks over one value and returns the bytes that [`Walk::step`] would have written for it. `scratch` is for rare ones.
    #[inline]
    pub fn measure(&mut self, op: Op, scratch: &mut Vec<u8>) -> Result<u64, Cut> {
        match op {
            Op::Keep(bytes) => {
                self.skip(bytes as usize)?;
                Ok(u64::from(bytes))
            }
            Op::Short => {
                let length = *self.wire.get(self.at).ok_or(Cut::Short)?;
                self.skip(1 + usize::from(length))?;
                Ok(1 + u64::from(length >> 7) + u64::from(length))
            }
            Op::Long => {
                let raw = self.wire.get(self.at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(Cut::Short)?;
                let length = u16::from_le_bytes(*raw);
                self.skip(2 + usize::from(length))?;
                Ok(varint_len(length.into()) + u64::from(length))
            }
            Op::Blob(bytes) => {
                let length = values::little(self.take(usize::from(bytes))?);
                self.skip(length as usize)?;
                Ok(varint_len(length) + length)
            }
            Op::Convert(convert) => {
                self.kept = self.at;
                scratch.clear();
                self.convert(convert, scratch)?;
                Ok(scratch.len() as u64)
            }
        }
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), Cut> {
        // Neither can overflow: `at` is within a slice and no length exceeds 32 bits.
        let end = self.at + bytes;
        if end > self.wire.len() {
            return Err(Cut::Short);
        }
        self.at = end;
        Ok(())
    }

    /// Copies what waits.
    #[inline]
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let length = self.at - self.kept;
        if length == 0 {
            return;
        }
        // A block of known size is copied without a call; what is too much of it is taken back.
        match self.wire.get(self.kept..).and_then(|rest| rest.first_chunk::<SPAN_BLOCK>()) {
            Some(block) if length <= SPAN_BLOCK => {
                let end = out.len() + length;
                out.extend_from_slice(block);
                out.truncate(end);
            }
            _ => {
                if let Some(kept) = self.wire.get(self.kept..self.at) {
                    out.extend_from_slice(kept);
                }
            }
        }
        self.kept = self.at;
    }

    /// Takes a length of `bytes` bytes, after copying what waits.
    #[inline]
    fn take_length(&mut self, bytes: u8, out: &mut Vec<u8>) -> Result<usize, Cut> {
        self.flush(out);
        let raw = self.take(usize::from(bytes))?;
        Ok(values::little(raw) as usize)
    }

    /// Takes bytes that are not copied.
    #[inline]
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Cut> {
        let at = self.at;
        self.skip(bytes)?;
        self.kept = self.at;
        self.wire.get(at..self.at).ok_or(Cut::Short)
    }

    #[inline]
    fn convert(&mut self, convert: Convert, out: &mut Vec<u8>) -> Result<(), Cut> {
        self.flush(out);
        match convert {
            Convert::Year => {
                let raw = values::little(self.take(1)?) as u16;
                out.extend_from_slice(&if raw == 0 { 0 } else { 1900 + raw }.to_le_bytes());
            }
            Convert::Enum1 => out.extend_from_slice(&(values::little(self.take(1)?) as u16).to_le_bytes()),
            Convert::Set(bytes) => {
                out.extend_from_slice(&values::little(self.take(usize::from(bytes))?).to_le_bytes());
            }
            Convert::DateTime2(fsp) => {
                let packed = values::datetime2(self.take(5 + values::fraction_len(fsp))?, fsp)?;
                out.extend_from_slice(&packed.to_le_bytes());
            }
            Convert::Timestamp2(fsp) => {
                let us = values::timestamp2(self.take(4 + values::fraction_len(fsp))?, fsp);
                out.extend_from_slice(&us.to_le_bytes());
            }
            Convert::Time2(fsp) => {
                let us = values::time2(self.take(3 + values::fraction_len(fsp))?, fsp);
                out.extend_from_slice(&us.to_le_bytes());
            }
            other => self.convert_rare(other, out)?,
        }
        Ok(())
    }

    #[inline(never)]
    fn convert_rare(&mut self, convert: Convert, out: &mut Vec<u8>) -> Result<(), Cut> {
        let number = match convert {
            Convert::Time => values::time(self.take(3)?),
            Convert::DateTime => values::datetime(self.take(8)?)?,
            Convert::Timestamp => values::timestamp2(&values::reversed(self.take(4)?), 0),
            Convert::TimeHires(fsp) => values::time_hires(self.take(values::time_hires_len(fsp))?, fsp),
            Convert::DateTimeHires(fsp) => values::datetime_hires(self.take(values::datetime_hires_len(fsp))?, fsp)?,
            Convert::TimestampHires(fsp) => values::timestamp2(self.take(4 + values::fraction_len(fsp))?, fsp),
            Convert::Binary(prefix, width) => {
                let length = self.take_length(prefix, out)?;
                let bytes = self.take(length)?;
                let width = usize::from(width).max(length);
                put_varint(out, width as u64);
                out.extend_from_slice(bytes);
                out.resize(out.len() + width - length, 0);
                return Ok(());
            }
            Convert::Compressed(prefix) => {
                let length = self.take_length(prefix, out)?;
                return values::decompress(self.take(length)?, out);
            }
            Convert::OldDecimal(width) => {
                let text = self.take(usize::from(width))?.trim_ascii();
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text);
                return Ok(());
            }
            Convert::Uuid | Convert::Inet4 | Convert::Inet6 => {
                let length = self.take_length(1, out)?;
                let bytes = self.take(length)?;
                return match convert {
                    Convert::Uuid => values::uuid(bytes, out),
                    Convert::Inet4 => values::inet4(bytes, out),
                    _ => values::inet6(bytes, out),
                };
            }
            // The others are in `convert`.
            _ => {
                put_varint(out, 0);
                return Ok(());
            }
        };
        out.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }
}

/// Bytes of a LEB128 number.
#[inline]
fn varint_len(number: u64) -> u64 {
    u64::from((64 - (number | 1).leading_zeros()).div_ceil(7))
}

/// What to do with a column; `None` when the kind was not made for it.
pub(super) fn op_of(wire: Wire, column: &Column) -> Option<Op> {
    use Convert::*;
    let string = matches!(column.kind, ColumnKind::String { .. } | ColumnKind::Vector | ColumnKind::Geometry);
    let other = matches!(column.kind, ColumnKind::String { form: StringForm::Other, .. });
    Some(match (wire, column.kind) {
        (Wire::Int(wire), ColumnKind::Int { bytes, .. }) if wire == bytes => Op::Keep(u32::from(wire)),
        (Wire::Float, ColumnKind::Float) => Op::Keep(4),
        (Wire::Double, ColumnKind::Double) => Op::Keep(8),
        (Wire::Decimal { precision, scale }, ColumnKind::Decimal { precision: p, scale: s })
            if (precision, scale) == (p, s) =>
        {
            Op::Keep(crate::event::table::decimal_len(precision, scale) as u32)
        }
        (Wire::OldDecimal, ColumnKind::String { bytes_max: width @ 1..=255, .. }) => {
            Op::Convert(OldDecimal(width as u16))
        }
        (Wire::Bit { bits }, ColumnKind::Bit { bits: b }) if bits == b => Op::Keep(u32::from(bits.div_ceil(8))),
        (Wire::Null, ColumnKind::String { .. }) => Op::Convert(Nothing),
        (Wire::Year, ColumnKind::Year) => Op::Convert(Year),
        (Wire::Date, ColumnKind::Date) => Op::Keep(3),
        (Wire::Time, ColumnKind::Time { fsp: 0 }) => Op::Convert(Time),
        (Wire::Time, ColumnKind::Time { fsp }) => Op::Convert(TimeHires(fsp)),
        (Wire::DateTime, ColumnKind::DateTime { fsp: 0 }) => Op::Convert(DateTime),
        (Wire::DateTime, ColumnKind::DateTime { fsp }) => Op::Convert(DateTimeHires(fsp)),
        (Wire::Timestamp, ColumnKind::Timestamp { fsp: 0 }) => Op::Convert(Timestamp),
        (Wire::Timestamp, ColumnKind::Timestamp { fsp }) => Op::Convert(TimestampHires(fsp)),
        (Wire::Time2(fsp), ColumnKind::Time { fsp: f }) if fsp == f => Op::Convert(Time2(fsp)),
        (Wire::DateTime2(fsp), ColumnKind::DateTime { fsp: f }) if fsp == f => Op::Convert(DateTime2(fsp)),
        (Wire::Timestamp2(fsp), ColumnKind::Timestamp { fsp: f }) if fsp == f => Op::Convert(Timestamp2(fsp)),
        (Wire::Char { .. }, _) if other => match column.sql_type.as_str() {
            "uuid" => Op::Convert(Uuid),
            "inet4" => Op::Convert(Inet4),
            "inet6" => Op::Convert(Inet6),
            _ => Op::Short,
        },
        (Wire::Char { bytes_max }, ColumnKind::String { .. }) if column.is_binary() == Some(true) => {
            Op::Convert(Binary(if bytes_max < 256 { 1 } else { 2 }, bytes_max))
        }
        (Wire::Char { bytes_max } | Wire::VarChar { bytes_max, compressed: false }, _) if string => {
            if bytes_max < 256 {
                Op::Short
            } else {
                Op::Long
            }
        }
        (Wire::VarChar { bytes_max, compressed: true }, _) if string => {
            Op::Convert(Compressed(if bytes_max < 256 { 1 } else { 2 }))
        }
        (Wire::Blob { prefix, compressed: true }, _) if string => Op::Convert(Compressed(prefix)),
        (Wire::Blob { prefix: 1, .. }, _) if string => Op::Short,
        (Wire::Blob { prefix: 2, .. }, _) if string => Op::Long,
        (Wire::Blob { prefix, .. }, _) if string => Op::Blob(prefix),
        (Wire::Json(prefix), ColumnKind::JsonBinary)
        | (Wire::Geometry(prefix), ColumnKind::Geometry)
        | (Wire::Vector(prefix), ColumnKind::Vector) => Op::Blob(prefix),
        (Wire::TypedArray, ColumnKind::JsonBinary) => Op::Blob(4),
        (Wire::Enum(2), ColumnKind::Enum) => Op::Keep(2),
        (Wire::Enum(_), ColumnKind::Enum) => Op::Convert(Enum1),
        (Wire::Set(8), ColumnKind::Set) => Op::Keep(8),
        (Wire::Set(bytes), ColumnKind::Set) => Op::Convert(Set(bytes)),
        _ => return None,
    })
}
