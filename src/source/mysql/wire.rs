//! How values stand in the row images of MySQL and MariaDB: the column types of table map events.
//!
//! Source of the numbers: `enum_field_types` in both servers' documentation. A type that says less than its metadata (ENUM, SET
//! and long CHAR hide in STRING) is resolved here, so that nothing behind this module meets a raw type number.

/// Largest type number of a temporal type that has no metadata and yet, in MariaDB, may have a fraction.
const TYPE_NULL: u8 = 6;

/// A column's type as a row image has it. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Integer of this many bytes, little-endian.
    Int(u8),
    /// Binary32, little-endian.
    Float,
    /// Binary64, little-endian.
    Double,
    /// Decimal as text, of a length that only a schema tells (tables of MySQL 4 and older).
    OldDecimal,
    /// Packed decimal.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Bits, most significant byte first.
    Bit {
        /// How many.
        bits: u8,
    },
    /// A column that is always NULL.
    Null,
    /// One byte: 0, or years since 1900.
    Year,
    /// Three bytes, `year << 9 | month << 5 | day`.
    Date,
    /// Three bytes, decimal digits HHMMSS; with a fraction (MariaDB) another form, which only a schema tells.
    Time,
    /// Eight bytes, decimal digits YYYYMMDDHHMMSS; with a fraction (MariaDB) another form.
    DateTime,
    /// Four bytes, seconds since 1970; with a fraction (MariaDB) another form.
    Timestamp,
    /// Big-endian since MySQL 5.6, with so many digits of a fraction.
    Time2(u8),
    /// Likewise.
    DateTime2(u8),
    /// Likewise.
    Timestamp2(u8),
    /// CHAR or BINARY: a length of one byte, of two when `bytes_max` exceeds 255.
    Char {
        /// Declared length.
        bytes_max: u16,
    },
    /// VARCHAR or VARBINARY: a length of one byte, of two when `bytes_max` exceeds 255.
    VarChar {
        /// Declared length.
        bytes_max: u16,
        /// MariaDB's COMPRESSED.
        compressed: bool,
    },
    /// Index of a member in 1 or 2 bytes.
    Enum(u8),
    /// Bitmap of members in 1 to 8 bytes.
    Set(u8),
    /// A length of `prefix` bytes, then the value.
    Blob {
        /// Bytes of the length: 1 to 4.
        prefix: u8,
        /// MariaDB's COMPRESSED.
        compressed: bool,
    },
    /// As a blob: MySQL's binary JSON.
    Json(u8),
    /// As a blob: SRID and WKB.
    Geometry(u8),
    /// As a blob: MySQL's VECTOR.
    Vector(u8),
    /// The values of a multi-valued index: as binary JSON.
    TypedArray,
}

impl Wire {
    /// Takes a type's metadata off the front of `metadata`. `None`: cut short, or a type that this version does not know.
    pub fn take(number: u8, metadata: &mut &[u8]) -> Option<Wire> {
        let mut byte = || {
            let (&first, rest) = metadata.split_first()?;
            *metadata = rest;
            Some(first)
        };
        Some(match number {
            0 => Wire::OldDecimal,
            1 => Wire::Int(1),
            2 => Wire::Int(2),
            3 => Wire::Int(4),
            8 => Wire::Int(8),
            9 => Wire::Int(3),
            4 => {
                byte()?;
                Wire::Float
            }
            5 => {
                byte()?;
                Wire::Double
            }
            TYPE_NULL => Wire::Null,
            7 => Wire::Timestamp,
            10 | 14 => Wire::Date,
            11 => Wire::Time,
            12 => Wire::DateTime,
            13 => Wire::Year,
            15 | 140 | 141 if number != 140 => {
                let bytes_max = u16::from_le_bytes([byte()?, byte()?]);
                Wire::VarChar { bytes_max, compressed: number == 141 }
            }
            16 => {
                let (rest, whole) = (byte()?, byte()?);
                let bits = u16::from(whole) * 8 + u16::from(rest);
                if rest > 7 || !(1..=64).contains(&bits) {
                    return None;
                }
                Wire::Bit { bits: bits as u8 }
            }
            17..=19 => {
                let fsp = byte()?;
                if fsp > 6 {
                    return None;
                }
                match number {
                    17 => Wire::Timestamp2(fsp),
                    18 => Wire::DateTime2(fsp),
                    _ => Wire::Time2(fsp),
                }
            }
            20 => {
                let element = byte()?;
                if element == 15 {
                    // The length of an array's VARCHAR has three bytes.
                    for _ in 0..3 {
                        byte()?;
                    }
                } else {
                    Wire::take(element, metadata)?;
                }
                Wire::TypedArray
            }
            242 => Wire::Vector(prefix(byte()?)?),
            243 => return None,
            244 => Wire::Int(1),
            245 => Wire::Json(prefix(byte()?)?),
            246 => {
                let (precision, scale) = (byte()?, byte()?);
                if !(1..=65).contains(&precision) || scale > precision {
                    return None;
                }
                Wire::Decimal { precision, scale }
            }
            140 | 249..=252 => Wire::Blob { prefix: prefix(byte()?)?, compressed: number == 140 },
            247 | 248 | 253 | 254 => Wire::of_string(number, byte()?, byte()?)?,
            255 => Wire::Geometry(prefix(byte()?)?),
            _ => return None,
        })
    }

    /// A STRING's metadata: real type and length. Of a length above 255 two bits hide, inverted, in the type (MySQL bug 37426).
    fn of_string(number: u8, real: u8, length: u8) -> Option<Wire> {
        Some(match real {
            247 if matches!(length, 1 | 2) => Wire::Enum(length),
            248 if matches!(length, 1..=8) => Wire::Set(length),
            247 | 248 => return None,
            _ if matches!(real | 0x30, 0xfd | 0xfe) => {
                let high = u16::from((real & 0x30) ^ 0x30) << 4;
                Wire::Char { bytes_max: high | u16::from(length) }
            }
            // VAR_STRING of very old tables.
            _ if number == 253 => Wire::VarChar { bytes_max: u16::from_le_bytes([real, length]), compressed: false },
            _ => return None,
        })
    }

    /// Whether the signedness bitmap of the optional metadata has a bit for it. YEAR, decimals and floats count too.
    pub fn is_numeric(self) -> bool {
        matches!(self, Wire::Int(_) | Wire::Float | Wire::Double | Wire::OldDecimal | Wire::Decimal { .. } | Wire::Year)
    }

    /// Whether the charset list of the optional metadata has an entry for it. MySQL 9 counts vectors among them.
    pub fn is_character(self) -> bool {
        matches!(self, Wire::Char { .. } | Wire::VarChar { .. } | Wire::Blob { .. } | Wire::Vector(_))
    }

    /// A type in a table map without any metadata (5.1.0 to 5.1.23). A blob's length prefix cannot be known then.
    pub fn without_metadata(number: u8) -> Option<Wire> {
        match number {
            15 | 253 => Some(Wire::VarChar { bytes_max: 255, compressed: false }),
            254 => Some(Wire::Char { bytes_max: 255 }),
            16 | 246..=252 | 255 => None,
            number => Wire::take(number, &mut [0, 0].as_slice()),
        }
    }
}

/// Bytes of a blob's length prefix.
fn prefix(bytes: u8) -> Option<u8> {
    matches!(bytes, 1..=4).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(number: u8, metadata: &[u8]) -> Option<Wire> {
        let mut rest = metadata;
        let wire = Wire::take(number, &mut rest)?;
        assert!(rest.is_empty(), "{number} leaves metadata behind");
        Some(wire)
    }

    #[test]
    fn types_that_hide_in_string_come_out() {
        assert_eq!(take(254, &[247, 1]), Some(Wire::Enum(1)));
        assert_eq!(take(254, &[248, 8]), Some(Wire::Set(8)));
        assert_eq!(take(254, &[254, 40]), Some(Wire::Char { bytes_max: 40 }));
        // CHAR(255) of a charset with 4 bytes: 1020 = 0x3fc, so both hidden bits are set: 0xfe ^ 0x30.
        assert_eq!(take(254, &[0xce, 0xfc]), Some(Wire::Char { bytes_max: 1020 }));
        // 765 = 0x2fd.
        assert_eq!(take(254, &[0xde, 0xfd]), Some(Wire::Char { bytes_max: 765 }));
    }

    #[test]
    fn metadata_is_as_long_as_its_type_says_and_nonsense_is_refused() {
        assert_eq!(take(15, &[0x2c, 1]), Some(Wire::VarChar { bytes_max: 300, compressed: false }));
        assert_eq!(take(141, &[20, 0]), Some(Wire::VarChar { bytes_max: 20, compressed: true }));
        assert_eq!(take(140, &[2]), Some(Wire::Blob { prefix: 2, compressed: true }));
        assert_eq!(take(16, &[1, 2]), Some(Wire::Bit { bits: 17 }));
        assert_eq!(take(246, &[10, 2]), Some(Wire::Decimal { precision: 10, scale: 2 }));
        assert_eq!(take(20, &[15, 1, 2, 3]), Some(Wire::TypedArray));
        assert_eq!(take(20, &[246, 10, 2]), Some(Wire::TypedArray));
        for (number, metadata) in [(16, [9, 1]), (246, [66, 0]), (246, [3, 4]), (254, [247, 3]), (243, [0, 0])] {
            assert_eq!(Wire::take(number, &mut metadata.as_slice()), None);
        }
        assert_eq!(Wire::take(252, &mut [5].as_slice()), None);
        assert_eq!(Wire::take(20, &mut [20; 100].as_slice()), None);
    }
}
