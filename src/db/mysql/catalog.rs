//! What a server says about a table: columns, keys, engine, triggers, foreign keys. And the row format that follows from
//! the columns, so that rows can be written as the server's own row events have them.
//!
//! Read from `information_schema`, once per table and session; whoever changes a schema forgets what was read.

use mysql::prelude::Queryable as _;
use mysql::{Row, Value};

use super::connect::{Family, Session};
use super::literal::put_text;

/// How a column's values are written in a row event, with the type number and metadata of a table map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    /// Integer of that many bytes, little-endian.
    Int {
        /// 1, 2, 3, 4 or 8.
        bytes: u8,
        /// Whether it has no sign.
        unsigned: bool,
    },
    /// Binary32.
    Float,
    /// Binary64.
    Double,
    /// Packed decimal.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Bits, most significant byte first.
    Bit {
        /// 1 to 64.
        bits: u8,
    },
    /// One byte: year less 1900, or 0.
    Year,
    /// Three bytes.
    Date,
    /// Big-endian with a fraction.
    Time {
        /// Digits of the fraction.
        fsp: u8,
    },
    /// Big-endian with a fraction.
    DateTime {
        /// Digits of the fraction.
        fsp: u8,
    },
    /// Seconds big-endian with a fraction.
    Timestamp {
        /// Digits of the fraction.
        fsp: u8,
    },
    /// CHAR or BINARY (and types that are stored so): length (1 byte up to 255, else 2), bytes.
    Char {
        /// Bytes at most.
        bytes_max: u32,
    },
    /// VARCHAR or VARBINARY: length (1 byte up to 255, else 2), bytes.
    VarChar {
        /// Bytes at most.
        bytes_max: u32,
    },
    /// TEXT or BLOB: length of that many bytes, bytes.
    Blob {
        /// 1 to 4.
        length_bytes: u8,
    },
    /// Index of the member: 1 or 2 bytes.
    Enum {
        /// Bytes.
        bytes: u8,
    },
    /// Bitmap of the members: 1, 2, 3, 4 or 8 bytes.
    Set {
        /// Bytes.
        bytes: u8,
    },
    /// MySQL's binary JSON behind a length of 4 bytes.
    Json,
    /// SRID and WKB behind a length of 4 bytes.
    Geometry,
    /// Vector of binary32 behind a length of 4 bytes (MySQL).
    Vector {
        /// Numbers in it, as the table map's optional metadata must say.
        dimensions: u16,
    },
    /// MariaDB's UUID: 16 bytes behind a length of 1 byte, in the order in which they are stored.
    Uuid,
    /// MariaDB's INET4: 4 bytes behind a length of 1 byte.
    Inet4,
    /// MariaDB's INET6: 16 bytes behind a length of 1 byte.
    Inet6,
    /// Not written by us in this form: compressed columns, temporals of before MySQL 5.6, unknown types.
    Foreign,
}

impl WireType {
    /// Type number and metadata bytes in a table map; `None` for [`WireType::Foreign`].
    pub fn table_map(self) -> Option<(u8, [u8; 2], usize)> {
        Some(match self {
            WireType::Int { bytes: 1, .. } => (1, [0; 2], 0),
            WireType::Int { bytes: 2, .. } => (2, [0; 2], 0),
            WireType::Int { bytes: 3, .. } => (9, [0; 2], 0),
            WireType::Int { bytes: 4, .. } => (3, [0; 2], 0),
            WireType::Int { .. } => (8, [0; 2], 0),
            WireType::Float => (4, [4, 0], 1),
            WireType::Double => (5, [8, 0], 1),
            WireType::Decimal { precision, scale } => (246, [precision, scale], 2),
            WireType::Bit { bits } => (16, [bits % 8, bits / 8], 2),
            WireType::Year => (13, [0; 2], 0),
            WireType::Date => (10, [0; 2], 0),
            WireType::Time { fsp } => (19, [fsp, 0], 1),
            WireType::DateTime { fsp } => (18, [fsp, 0], 1),
            WireType::Timestamp { fsp } => (17, [fsp, 0], 1),
            // Two bits of a length above 255 hide in the type byte.
            WireType::Char { bytes_max } => (254, [254 ^ ((bytes_max & 0x300) >> 4) as u8, bytes_max as u8], 2),
            WireType::VarChar { bytes_max } => (15, (bytes_max as u16).to_le_bytes(), 2),
            WireType::Blob { length_bytes } => (252, [length_bytes, 0], 1),
            WireType::Enum { bytes } => (254, [247, bytes], 2),
            WireType::Set { bytes } => (254, [248, bytes], 2),
            WireType::Json => (245, [4, 0], 1),
            WireType::Geometry => (255, [4, 0], 1),
            WireType::Vector { .. } => (242, [4, 0], 1),
            WireType::Uuid | WireType::Inet6 => (254, [254, 16], 2),
            WireType::Inet4 => (254, [254, 4], 2),
            WireType::Foreign => return None,
        })
    }
}

/// A column of a server's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerColumn {
    /// Name.
    pub name: String,
    /// `information_schema.columns.data_type`, lower case.
    pub data_type: String,
    /// The type in full, as SQL.
    pub column_type: String,
    /// Its row format.
    pub wire: WireType,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Charset of characters; `binary` for bytes; empty for other types.
    pub charset: String,
    /// Collation; empty for other types.
    pub collation: String,
    /// Characters at most (bytes for binary types); 0: does not apply.
    pub chars_max: u64,
    /// Generated from other columns.
    pub generated: bool,
    /// Members of ENUM and SET.
    pub members: Vec<String>,
}

/// A key of a server's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// Columns (index) in order, with the length of the prefix (0: whole).
    pub parts: Vec<(usize, u64)>,
    /// Whether one of its columns takes NULL.
    pub nullable: bool,
}

/// A server's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTable {
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
    /// Storage engine.
    pub engine: String,
    /// Whether its changes roll back.
    pub transactional: bool,
    /// Columns in order.
    pub columns: Vec<ServerColumn>,
    /// Unique keys, the primary key first, then those without NULLs, in the server's order otherwise.
    pub unique_keys: Vec<ServerKey>,
    /// Triggers on it.
    pub triggers: Vec<String>,
    /// Whether it refers to others or others refer to it.
    pub foreign_keys: bool,
}

impl ServerTable {
    /// Index of a column by its name, which has no case in this family.
    pub fn column(&self, name: &str) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column.name == name);
        exact.or_else(|| self.columns.iter().position(|column| column.name.to_lowercase() == name.to_lowercase()))
    }

    /// The key that identifies a row: the primary key, else the first unique key without NULLs and prefixes.
    pub fn identity(&self) -> Option<&ServerKey> {
        self.unique_keys.iter().find(|key| !key.nullable && key.parts.iter().all(|(_, prefix)| *prefix == 0))
    }
}

/// Whether changes of an engine's tables roll back. `engines` of both families; SEQUENCE and views are never written by rows.
fn is_transactional(engine: &str) -> bool {
    ["innodb", "rocksdb", "tokudb", "ndbcluster", "ndb", "xtradb"].contains(&engine.to_ascii_lowercase().as_str())
}

/// Reads a table; `None` when there is none of that name.
pub fn read_table(session: &mut Session, database: &str, table: &str) -> mysql::Result<Option<ServerTable>> {
    let mut place = String::from("table_schema=");
    put_text(&mut place, database);
    place.push_str(" AND table_name=");
    put_text(&mut place, table);
    let family = session.family;
    let conn = session.conn();
    let found: Option<(String, String, Option<String>)> = conn
        .query_first(format!("SELECT table_schema, table_name, engine FROM information_schema.tables WHERE {place}"))?;
    let Some((database, name, engine)) = found else { return Ok(None) };
    let engine = engine.unwrap_or_default();
    let rows: Vec<Row> = conn.query(format!(
        "SELECT column_name, data_type, column_type, is_nullable, character_set_name, collation_name, \
         character_octet_length, character_maximum_length, numeric_precision, numeric_scale, datetime_precision, extra, \
         generation_expression FROM information_schema.columns WHERE {place} ORDER BY ordinal_position"
    ))?;
    let columns: Vec<ServerColumn> = rows.into_iter().map(|row| column(row, family)).collect();
    let rows: Vec<(String, String, Option<u64>, u64)> = conn.query(format!(
        "SELECT index_name, column_name, sub_part, seq_in_index FROM information_schema.statistics \
         WHERE {place} AND non_unique=0 ORDER BY index_name, seq_in_index"
    ))?;
    let mut unique_keys: Vec<ServerKey> = Vec::new();
    for (name, column, prefix, part) in rows {
        let index = columns.iter().position(|c| c.name == column);
        if part == 1 {
            unique_keys.push(ServerKey { name, parts: Vec::new(), nullable: false });
        }
        if let (Some(key), Some(index)) = (unique_keys.last_mut(), index) {
            key.parts.push((index, prefix.unwrap_or(0)));
            key.nullable |= columns.get(index).is_none_or(|column| column.nullable);
        }
    }
    unique_keys.sort_by_key(|key| (key.name != "PRIMARY", key.nullable));
    let mut event_place = String::from("event_object_schema=");
    put_text(&mut event_place, &database);
    event_place.push_str(" AND event_object_table=");
    put_text(&mut event_place, &name);
    let triggers = conn.query(format!("SELECT trigger_name FROM information_schema.triggers WHERE {event_place}"))?;
    let mut refers = String::from("(constraint_schema=");
    put_text(&mut refers, &database);
    refers.push_str(" AND table_name=");
    put_text(&mut refers, &name);
    refers.push_str(") OR (unique_constraint_schema=");
    put_text(&mut refers, &database);
    refers.push_str(" AND referenced_table_name=");
    put_text(&mut refers, &name);
    refers.push(')');
    let references: Option<u64> =
        conn.query_first(format!("SELECT COUNT(*) FROM information_schema.referential_constraints WHERE {refers}"))?;
    Ok(Some(ServerTable {
        database,
        name,
        transactional: is_transactional(&engine),
        engine,
        columns,
        unique_keys,
        triggers,
        foreign_keys: references.unwrap_or(0) > 0,
    }))
}

fn column(row: Row, family: Family) -> ServerColumn {
    let mut cells = row.unwrap().into_iter();
    let mut text = || match cells.next() {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::UInt(number)) => number.to_string(),
        _ => String::new(),
    };
    let (name, data_type, column_type) = (text(), text().to_ascii_lowercase(), text());
    let (nullable, mut charset, collation) = (text() == "YES", text(), text());
    let (octets, chars) = (text().parse::<u64>().unwrap_or(0), text().parse::<u64>().unwrap_or(0));
    let (precision, scale) = (text().parse::<u8>().unwrap_or(0), text().parse::<u8>().unwrap_or(0));
    let fsp = text().parse::<u8>().unwrap_or(0);
    let (extra, expression) = (text(), text());
    let members = match data_type.as_str() {
        "enum" | "set" => members(&column_type),
        _ => Vec::new(),
    };
    let lower = column_type.to_ascii_lowercase();
    let unsigned = lower.contains("unsigned") || lower.contains("zerofill");
    let octets_u32 = u32::try_from(octets).unwrap_or(u32::MAX);
    let wire = match data_type.as_str() {
        // A compressed column is written compressed; temporals marked so have the old form.
        _ if lower.contains("compressed") || lower.contains("mariadb-5.3") => WireType::Foreign,
        "tinyint" => WireType::Int { bytes: 1, unsigned },
        "smallint" => WireType::Int { bytes: 2, unsigned },
        "mediumint" => WireType::Int { bytes: 3, unsigned },
        "int" => WireType::Int { bytes: 4, unsigned },
        "bigint" => WireType::Int { bytes: 8, unsigned },
        "float" => WireType::Float,
        "double" => WireType::Double,
        "decimal" => WireType::Decimal { precision, scale },
        "bit" => WireType::Bit { bits: precision },
        "year" => WireType::Year,
        "date" => WireType::Date,
        "time" => WireType::Time { fsp },
        "datetime" => WireType::DateTime { fsp },
        "timestamp" => WireType::Timestamp { fsp },
        "char" | "binary" if octets < 1024 => WireType::Char { bytes_max: octets_u32 },
        "varchar" | "varbinary" if octets <= 65_535 => WireType::VarChar { bytes_max: octets_u32 },
        "uuid" => WireType::Uuid,
        "inet6" => WireType::Inet6,
        "inet4" => WireType::Inet4,
        "tinytext" | "tinyblob" => WireType::Blob { length_bytes: 1 },
        "text" | "blob" => WireType::Blob { length_bytes: 2 },
        "mediumtext" | "mediumblob" => WireType::Blob { length_bytes: 3 },
        "longtext" | "longblob" => WireType::Blob { length_bytes: 4 },
        "enum" => WireType::Enum { bytes: if members.len() < 256 { 1 } else { 2 } },
        "set" => WireType::Set {
            bytes: match members.len().div_ceil(8) {
                0 | 1 => 1,
                bytes @ 2..=4 => bytes as u8,
                _ => 8,
            },
        },
        "json" => WireType::Json,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" | "geomcollection" => WireType::Geometry,
        // MySQL's is a blob of a type of its own, MariaDB's a VARBINARY underneath.
        "vector" if family == Family::MySql => {
            let digits: String = lower.chars().filter(char::is_ascii_digit).collect();
            digits.parse().map_or(WireType::Foreign, |dimensions| WireType::Vector { dimensions })
        }
        "vector" if octets <= 65_535 => WireType::VarChar { bytes_max: octets_u32 },
        _ => WireType::Foreign,
    };
    if charset.is_empty()
        && matches!(
            data_type.as_str(),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "uuid" | "inet6" | "inet4"
        )
    {
        charset = "binary".into();
    }
    let generated = !expression.is_empty() || extra.to_ascii_uppercase().contains(" GENERATED");
    ServerColumn {
        name,
        data_type,
        column_type,
        wire,
        nullable,
        charset,
        collation,
        chars_max: chars,
        generated,
        members,
    }
}

/// Members out of `enum('a','it''s')`.
fn members(column_type: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut chars = column_type.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\'' {
            continue;
        }
        let mut member = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    member.push('\'');
                }
                '\'' => break,
                other => member.push(other),
            }
        }
        out.push(member);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_with_quotes_and_commas_are_read() {
        assert_eq!(members("enum('a','it''s','x,y','')"), ["a", "it's", "x,y", ""]);
        assert_eq!(members("set()"), Vec::<String>::new());
    }

    #[test]
    fn a_long_char_hides_two_bits_of_its_length_in_the_type() {
        assert_eq!(WireType::Char { bytes_max: 255 }.table_map(), Some((254, [254, 255], 2)));
        assert_eq!(WireType::Char { bytes_max: 1020 }.table_map(), Some((254, [206, 252], 2)));
        assert_eq!(WireType::Bit { bits: 17 }.table_map(), Some((16, [1, 2], 2)));
    }
}
