//! Rows of a stream as row images of a server's own table.
//!
//! A [`RowWriter`] is made once per pair of definition and table. It knows for each target column where its value comes
//! from and what must be checked, so that what it writes is exactly what the server would have logged for that
//! value in *its* table: nothing is left to the server's conversions between types, which depend on its settings. What does not fit
//! in this sense (another type, a charset to be converted, NULL for NOT NULL, a value out of range) is a
//! [`Misfit`]; SQL text then says it, and the server judges.

use super::catalog::{ServerTable, WireType};
use super::charset;
use crate::event::value::ZERO_TIMESTAMP;
use crate::event::{ColumnKind, Sign, TableDefinition, Value};

/// The value cannot be written in the target's row format without a conversion that only the server should make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit;

/// Why a definition and a table do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The target lacks this column.
    NoColumn(String),
    /// Names are not known, and the number of columns differs.
    ColumnCount,
}

/// Where a target column's value comes from.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Index in the source's definition.
    pub source: usize,
    /// Index in the target's table.
    pub target: usize,
    /// Whether values can be written at all in row format; else every one is a misfit.
    pub native: bool,
    wire: WireType,
    nullable: bool,
    /// Characters at most, for values of a source that allows more than the target (0: need not be checked).
    chars_max: u64,
    utf8: bool,
    multibyte: bool,
    /// The log does not say whether integers have a sign; source and target have the same width, so the same bits are right.
    same_bits: bool,
    /// UUID, INET4 and INET6 come as text (when their source was known to be one), not as the bytes that are stored.
    pub as_text: bool,
}

/// Writes images of rows for one target table.
#[derive(Clone, Debug)]
pub struct RowWriter {
    /// The columns that are written, in the target's order.
    pub slots: Vec<Slot>,
    /// Columns of the target's table.
    pub columns: usize,
    /// Source column -> slot.
    by_source: Vec<Option<usize>>,
    /// Whether each target column that is not generated has a slot.
    pub covers: bool,
    /// Whether each slot can be written in row format and no target column is generated.
    pub native: bool,
}

impl RowWriter {
    /// Pairs the columns: by name where names are known, else by place.
    pub fn new(source: &TableDefinition, target: &ServerTable) -> Result<RowWriter, Unfit> {
        let mut slots = Vec::with_capacity(source.columns.len());
        if !source.names_known && source.columns.len() != target.columns.len() {
            return Err(Unfit::ColumnCount);
        }
        for (index, column) in source.columns.iter().enumerate() {
            let place = if source.names_known { target.column(&column.name) } else { Some(index) };
            let Some((place, there)) = place.and_then(|place| Some((place, target.columns.get(place)?))) else {
                if column.generated {
                    continue;
                }
                return Err(Unfit::NoColumn(column.name.clone()));
            };
            if there.generated {
                continue;
            }
            let native = fits(column.kind, &column.charset, there.wire, &there.charset);
            let chars_max = match (column.kind, there.wire) {
                (
                    ColumnKind::String { bytes_max, .. },
                    WireType::Char { bytes_max: room } | WireType::VarChar { bytes_max: room },
                ) if bytes_max == 0 || bytes_max > room || !column.charset.eq_ignore_ascii_case(&there.charset) => {
                    there.chars_max
                }
                _ => 0,
            };
            slots.push(Slot {
                source: index,
                target: place,
                native,
                wire: there.wire,
                nullable: there.nullable,
                chars_max,
                utf8: charset::is_utf8(&there.charset),
                multibyte: charset::is_multibyte(&there.charset),
                same_bits: matches!(column.kind, ColumnKind::Int { sign: Sign::Unknown, .. }),
                as_text: is_text_form(&column.sql_type),
            });
        }
        slots.sort_by_key(|slot| slot.target);
        let mut by_source = vec![None; source.columns.len()];
        for (index, slot) in slots.iter().enumerate() {
            if let Some(place) = by_source.get_mut(slot.source) {
                *place = Some(index);
            }
        }
        let covers = target
            .columns
            .iter()
            .enumerate()
            .all(|(index, column)| column.generated || slots.iter().any(|slot| slot.target == index));
        let native = slots.iter().all(|slot| slot.native) && target.columns.iter().all(|column| !column.generated);
        Ok(RowWriter { slots, columns: target.columns.len(), by_source, covers, native })
    }

    /// Slot of a source column.
    pub fn slot_of_source(&self, source: usize) -> Option<usize> {
        self.by_source.get(source).copied().flatten()
    }
}

/// Whether values of a source column can be written for a target column without any conversion that the server should judge.
fn fits(kind: ColumnKind, from_charset: &str, wire: WireType, to_charset: &str) -> bool {
    match (kind, wire) {
        (ColumnKind::Int { bytes, sign: Sign::Unknown }, WireType::Int { bytes: room, .. }) => bytes == room,
        (ColumnKind::Int { .. }, WireType::Int { .. }) => true,
        (ColumnKind::Float, WireType::Float) | (ColumnKind::Double, WireType::Double) => true,
        (ColumnKind::Decimal { precision, scale }, WireType::Decimal { precision: p, scale: s }) => {
            precision == p && scale == s
        }
        (ColumnKind::Bit { bits }, WireType::Bit { bits: room }) => {
            bits.div_ceil(8) == room.div_ceil(8) && bits <= room
        }
        (ColumnKind::Year, WireType::Year) | (ColumnKind::Date, WireType::Date) => true,
        (ColumnKind::Time { fsp }, WireType::Time { fsp: room })
        | (ColumnKind::DateTime { fsp }, WireType::DateTime { fsp: room })
        | (ColumnKind::Timestamp { fsp }, WireType::Timestamp { fsp: room }) => fsp <= room,
        (ColumnKind::String { .. }, WireType::Char { .. } | WireType::VarChar { .. } | WireType::Blob { .. }) => {
            charset::same_bytes(from_charset, to_charset)
        }
        (ColumnKind::String { .. }, WireType::Uuid | WireType::Inet4 | WireType::Inet6) => true,
        (ColumnKind::Enum, WireType::Enum { .. }) | (ColumnKind::Set, WireType::Set { .. }) => true,
        (ColumnKind::JsonBinary, WireType::Json) => true,
        (ColumnKind::Geometry, WireType::Geometry) => true,
        (ColumnKind::Vector, WireType::Vector { .. }) => true,
        _ => false,
    }
}

impl Slot {
    /// Appends the value. NULL is the caller's: it stands in a bitmap.
    #[inline]
    pub fn put(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        match (self.wire, value) {
            (WireType::Int { bytes, unsigned }, Value::Int(value)) => {
                put_int(out, value, bytes, unsigned, self.same_bits)
            }
            (WireType::Int { bytes, unsigned }, Value::UInt(value)) => {
                let bits = u32::from(bytes) * 8 - u32::from(!unsigned);
                if bits < 64 && value >> bits != 0 {
                    return Err(Misfit);
                }
                out.extend_from_slice(value.to_le_bytes().get(..usize::from(bytes)).ok_or(Misfit)?);
                Ok(())
            }
            (WireType::Float, Value::Float(value)) => put(out, &value.to_le_bytes()),
            (WireType::Double, Value::Double(value)) => put(out, &value.to_le_bytes()),
            (WireType::Decimal { .. }, Value::Decimal { packed, .. }) => put(out, packed),
            (WireType::Bit { .. }, Value::Bit { bytes, .. }) => put(out, bytes),
            (WireType::Year, Value::Year(0)) => put(out, &[0]),
            (WireType::Year, Value::Year(year)) => {
                put(out, &[u8::try_from(year.wrapping_sub(1900)).ok().filter(|year| *year > 0).ok_or(Misfit)?])
            }
            (WireType::Date, Value::Date(packed)) => put(out, packed.to_le_bytes().get(..3).ok_or(Misfit)?),
            (WireType::Time { fsp }, Value::Time { us, .. }) => put_time(out, us, fsp),
            (WireType::DateTime { fsp }, Value::DateTime { packed, .. }) => {
                let seconds = (packed >> 24) as u64 | 0x80_0000_0000;
                put(out, seconds.to_be_bytes().get(3..).ok_or(Misfit)?)?;
                put_fraction(out, (packed & 0xff_ffff) as u32, fsp)
            }
            (WireType::Timestamp { fsp }, Value::Timestamp { us, .. }) => {
                let us = if us == ZERO_TIMESTAMP { 0 } else { us };
                let seconds = u32::try_from(us.div_euclid(1_000_000)).map_err(|_| Misfit)?;
                put(out, &seconds.to_be_bytes())?;
                put_fraction(out, us.rem_euclid(1_000_000) as u32, fsp)
            }
            (WireType::Char { bytes_max } | WireType::VarChar { bytes_max }, Value::String(bytes)) => {
                if bytes.len() > bytes_max as usize || self.chars_max > 0 && self.too_long(bytes) {
                    return Err(Misfit);
                }
                if bytes_max < 256 {
                    out.push(bytes.len() as u8);
                } else {
                    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                }
                put(out, bytes)
            }
            (WireType::Uuid | WireType::Inet4 | WireType::Inet6, Value::String(bytes)) => {
                put_fixed(out, self.wire, bytes, self.as_text)
            }
            (WireType::Blob { length_bytes }, Value::String(bytes)) => put_counted(out, bytes, length_bytes),
            (WireType::Json, Value::Json(bytes))
            | (WireType::Geometry, Value::Geometry(bytes))
            | (WireType::Vector { .. }, Value::Vector(bytes)) => put_counted(out, bytes, 4),
            (WireType::Enum { bytes: 1 }, Value::Enum(index)) => put(out, &[u8::try_from(index).map_err(|_| Misfit)?]),
            (WireType::Enum { .. }, Value::Enum(index)) => put(out, &index.to_le_bytes()),
            (WireType::Set { bytes }, Value::Set(set)) => {
                if bytes < 8 && set >> (u32::from(bytes) * 8) != 0 {
                    return Err(Misfit);
                }
                put(out, set.to_le_bytes().get(..usize::from(bytes)).ok_or(Misfit)?)
            }
            _ => Err(Misfit),
        }
    }

    /// Whether NULL may be written.
    #[inline]
    pub fn takes_null(&self) -> bool {
        self.nullable
    }

    fn too_long(&self, bytes: &[u8]) -> bool {
        if !self.multibyte {
            return bytes.len() as u64 > self.chars_max;
        }
        if self.utf8 {
            let chars = bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
            return chars as u64 > self.chars_max;
        }
        // Fewer bytes than characters allowed is certainly right; for the rest the server counts.
        bytes.len() as u64 > self.chars_max
    }
}

#[inline]
fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Misfit> {
    out.extend_from_slice(bytes);
    Ok(())
}

#[inline]
fn put_int(out: &mut Vec<u8>, value: i64, bytes: u8, unsigned: bool, same_bits: bool) -> Result<(), Misfit> {
    let bits = u32::from(bytes) * 8;
    let ok = match unsigned {
        _ if same_bits => true,
        true => value >= 0 && (bits == 64 || value >> bits == 0),
        false => bits == 64 || (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value),
    };
    if !ok {
        return Err(Misfit);
    }
    put(out, value.to_le_bytes().get(..usize::from(bytes)).ok_or(Misfit)?)
}

/// Whether values of a column of this type come as text.
fn is_text_form(sql_type: &str) -> bool {
    let sql_type = sql_type.to_ascii_lowercase();
    ["uuid", "inet4", "inet6"].iter().any(|name| sql_type.starts_with(name))
}

fn put_fixed(out: &mut Vec<u8>, wire: WireType, bytes: &[u8], as_text: bool) -> Result<(), Misfit> {
    let text = || std::str::from_utf8(bytes).map_err(|_| Misfit);
    let room = if wire == WireType::Inet4 { 4 } else { 16 };
    if !as_text {
        if bytes.len() > room {
            return Err(Misfit);
        }
        out.push(bytes.len() as u8);
        return put(out, bytes);
    }
    out.push(room as u8);
    match wire {
        WireType::Inet4 => put(out, &text()?.parse::<std::net::Ipv4Addr>().map_err(|_| Misfit)?.octets()),
        WireType::Inet6 => put(out, &text()?.parse::<std::net::Ipv6Addr>().map_err(|_| Misfit)?.octets()),
        _ => {
            let digits: String = text()?.chars().filter(|c| *c != '-').collect();
            if digits.len() != 32 {
                return Err(Misfit);
            }
            let number = u128::from_str_radix(&digits, 16).map_err(|_| Misfit)?;
            put(out, &stored_uuid(number.to_be_bytes()))
        }
    }
}

/// The text of a UUID, INET4 or INET6 from the bytes that are stored (without the zeros that a log leaves out at the end); `None` for other types.
pub fn stored_text(wire: WireType, bytes: &[u8]) -> Option<String> {
    let mut raw = [0u8; 16];
    raw.get_mut(..bytes.len())?.copy_from_slice(bytes);
    match wire {
        WireType::Inet4 => Some(std::net::Ipv4Addr::from(*raw.first_chunk::<4>()?).to_string()),
        WireType::Inet6 => Some(std::net::Ipv6Addr::from(raw).to_string()),
        WireType::Uuid => {
            let [k, l, m, n, o, p, i, j, g, h, e, f, a, b, c, d] = raw;
            let swapped = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
            let bytes = if stored_uuid(swapped) == raw { swapped } else { raw };
            Some(format!("{:032x}", u128::from_be_bytes(bytes)))
        }
        _ => None,
    }
}

/// A UUID as MariaDB stores it: versions 1 to 5 of the usual variant with their segments last first, others as they are.
fn stored_uuid(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    if matches!(g, 0x01..=0x5f) && i & 0x80 != 0 { [k, l, m, n, o, p, i, j, g, h, e, f, a, b, c, d] } else { bytes }
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8], length_bytes: u8) -> Result<(), Misfit> {
    let length = bytes.len() as u64;
    if length >> (u32::from(length_bytes) * 8) != 0 {
        return Err(Misfit);
    }
    put(out, length.to_le_bytes().get(..usize::from(length_bytes)).ok_or(Misfit)?)?;
    put(out, bytes)
}

/// `(fsp + 1) / 2` bytes, most significant first, in units of two digits each.
fn put_fraction(out: &mut Vec<u8>, us: u32, fsp: u8) -> Result<(), Misfit> {
    match fsp {
        0 => Ok(()),
        1 | 2 => put(out, &[(us / 10_000) as u8]),
        3 | 4 => put(out, &((us / 100) as u16).to_be_bytes()),
        _ => put(out, us.to_be_bytes().get(1..).ok_or(Misfit)?),
    }
}

/// MySQL's TIME2: the packed whole is offset, and a negative time is the offset less its magnitude, fraction included.
fn put_time(out: &mut Vec<u8>, us: i64, fsp: u8) -> Result<(), Misfit> {
    let magnitude = us.unsigned_abs();
    let seconds = magnitude / 1_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hour > 838 {
        return Err(Misfit);
    }
    let whole = hour << 12 | minute << 6 | second;
    let (fraction, fraction_bits) = match fsp {
        0 => (0, 0),
        1 | 2 => (magnitude % 1_000_000 / 10_000, 8),
        3 | 4 => (magnitude % 1_000_000 / 100, 16),
        _ => (magnitude % 1_000_000, 24),
    };
    let packed = whole << fraction_bits | fraction;
    let offset = 0x80_0000u64 << fraction_bits;
    let stored = if us < 0 { offset - packed } else { offset + packed };
    let bytes = 3 + fraction_bits / 8;
    put(out, stored.to_be_bytes().get(8 - bytes as usize..).ok_or(Misfit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(wire: WireType) -> Slot {
        Slot {
            source: 0,
            target: 0,
            native: true,
            wire,
            nullable: true,
            chars_max: 0,
            utf8: false,
            multibyte: false,
            same_bits: false,
            as_text: false,
        }
    }

    fn bytes(wire: WireType, value: Value<'_>) -> Result<Vec<u8>, Misfit> {
        let mut out = Vec::new();
        slot(wire).put(value, &mut out).map(|()| out)
    }

    #[test]
    fn temporals_are_written_as_the_server_packs_them() {
        let time = |us, fsp| bytes(WireType::Time { fsp }, Value::Time { us, fsp }).unwrap();
        assert_eq!(time(0, 0), [0x80, 0, 0]);
        assert_eq!(time(-1_000_000, 0), [0x7f, 0xff, 0xff]);
        assert_eq!(time(-10_000, 2), [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(time(1_500_000, 6), [0x80, 0, 1, 7, 0xa1, 0x20]);
        assert_eq!(
            bytes(WireType::Timestamp { fsp: 0 }, Value::Timestamp { us: ZERO_TIMESTAMP, fsp: 0 }),
            Ok(vec![0; 4])
        );
        assert_eq!(
            bytes(WireType::DateTime { fsp: 0 }, Value::DateTime { packed: 0, fsp: 0 }),
            Ok(vec![0x80, 0, 0, 0, 0])
        );
        assert_eq!(bytes(WireType::Year, Value::Year(2026)), Ok(vec![126]));
        assert_eq!(bytes(WireType::Year, Value::Year(1900)), Err(Misfit));
    }

    #[test]
    fn what_is_out_of_range_is_not_written() {
        let int = |bytes, unsigned| WireType::Int { bytes, unsigned };
        assert_eq!(bytes(int(1, false), Value::Int(-128)), Ok(vec![0x80]));
        assert_eq!(bytes(int(1, false), Value::Int(128)), Err(Misfit));
        assert_eq!(bytes(int(8, true), Value::Int(-1)), Err(Misfit));
        assert_eq!(bytes(int(1, true), Value::UInt(255)), Ok(vec![255]));
        assert_eq!(bytes(int(1, true), Value::UInt(256)), Err(Misfit));
        assert_eq!(bytes(int(1, false), Value::UInt(128)), Err(Misfit));
        assert_eq!(bytes(int(8, false), Value::UInt(1 << 63)), Err(Misfit));
        assert_eq!(bytes(int(8, true), Value::UInt(u64::MAX)), Ok(vec![255; 8]));
        assert_eq!(bytes(WireType::Set { bytes: 1 }, Value::Set(256)), Err(Misfit));
        assert_eq!(bytes(WireType::Blob { length_bytes: 1 }, Value::String(&[0; 256])), Err(Misfit));
        assert_eq!(bytes(WireType::VarChar { bytes_max: 3 }, Value::String(b"abcd")), Err(Misfit));
    }
}
