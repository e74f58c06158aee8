//! Table definitions: the payload of a `definition` frame. They travel in the stream, so that it reads alone.

use xxhash_rust::xxh3::xxh3_64;

use super::{EVENT_VERSION, EventError};
use crate::frame::FrameError;
use crate::frame::fields::{Field, FieldReader, FieldWriter, put_varint, take_varint};

/// Whether an integer column is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The log does not say, and nothing is guessed. Values read as signed.
    #[default]
    Unknown,
    /// Signed.
    Signed,
    /// Unsigned.
    Unsigned,
}

/// How values of a column are written in a row image. Each says its wire form; integers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnKind {
    /// Integer of 1, 2, 3, 4 or 8 bytes: that many bytes, two's complement when signed.
    Int {
        /// Bytes.
        bytes: u8,
        /// Signedness.
        sign: Sign,
    },
    /// IEEE 754 binary32: 4 bytes.
    Float,
    /// IEEE 754 binary64: 8 bytes.
    Double,
    /// Decimal number: MySQL's packed form, of a size that follows from precision and scale ([`decimal_len`]).
    Decimal {
        /// Digits in all, 1 to 65 (MariaDB; DECIMAL(0,0) does not exist).
        precision: u8,
        /// Digits behind the point, at most 38 (MySQL: 30).
        scale: u8,
    },
    /// Bits: `(bits + 7) / 8` bytes, most significant first.
    Bit {
        /// 1 to 64.
        bits: u8,
    },
    /// Year: 2 bytes, the year itself, 0 for 0000.
    Year,
    /// Date: 3 bytes, `year << 9 | month << 5 | day`; parts may be zero.
    Date,
    /// Duration: 8 bytes, signed microseconds.
    Time {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// Date and time without zone: 8 bytes, `((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 |
    /// second`, that `<< 24 | microsecond`; parts may be zero.
    DateTime {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// Instant: 8 bytes, signed microseconds since 1970 UTC; the smallest number is the zero date.
    Timestamp {
        /// Digits of the fraction, 0 to 6.
        fsp: u8,
    },
    /// Characters or bytes (the column's charset says which, if anything does): LEB128 length, bytes.
    String {
        /// Which of the SQL types.
        form: StringForm,
        /// Largest length in bytes as declared; 0 unknown.
        bytes_max: u32,
    },
    /// Index into the members, from 1; 0 is the empty error value: 2 bytes.
    Enum,
    /// Bitmap over the members, lowest bit first: 8 bytes.
    Set,
    /// JSON in MySQL's binary form (json_binary.h of its documentation): LEB128 length, bytes. In columns of the diff set: a
    /// sequence of MySQL's binary JSON diffs instead.
    JsonBinary,
    /// SRID (4 bytes) and WKB: LEB128 length, bytes.
    Geometry,
    /// Vector of binary32: LEB128 length, bytes.
    Vector,
    /// A value that carries its own type (SQLite): tag byte 1 integer (8 bytes), 2 real (8 bytes), 3 text, 4 blob (LEB128 length, bytes).
    Any,
}

/// SQL types that share the wire form of [`ColumnKind::String`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StringForm {
    /// CHAR or BINARY.
    Char = 1,
    /// VARCHAR or VARBINARY.
    VarChar = 2,
    /// TINYTEXT/TINYBLOB.
    Tiny = 3,
    /// TEXT/BLOB.
    Blob = 4,
    /// MEDIUMTEXT/MEDIUMBLOB.
    Medium = 5,
    /// LONGTEXT/LONGBLOB (and MariaDB's JSON).
    Long = 6,
    /// Another type in its text form; [`Column::sql_type`] names it.
    Other = 7,
}

impl StringForm {
    fn from_number(number: u8) -> Option<StringForm> {
        use StringForm::*;
        [Char, VarChar, Tiny, Blob, Medium, Long, Other].into_iter().find(|form| *form as u8 == number)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; `@1`, `@2` … when the log does not tell and no schema was given.
    pub name: String,
    /// How its values are written.
    pub kind: ColumnKind,
    /// Whether it may be NULL; `None`: not known.
    pub nullable: Option<bool>,
    /// Charset name (`binary` for bytes), empty when not known or without meaning.
    pub charset: String,
    /// Collation, as the source numbers it (0: not known).
    pub collation: u32,
    /// Members of ENUM and SET, in the column's charset.
    pub members: Vec<Vec<u8>>,
    /// The type as SQL text of the source's dialect, empty when not known.
    pub sql_type: String,
    /// Generated from other columns: never written by an applier.
    pub generated: bool,
    /// Not shown by SELECT *.
    pub invisible: bool,
    /// Default as SQL text; empty when not known.
    pub default_sql: String,
}

impl Column {
    /// A column of which only the kind is known.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Column {
        Column {
            name: name.into(),
            kind,
            nullable: None,
            charset: String::new(),
            collation: 0,
            members: Vec::new(),
            sql_type: String::new(),
            generated: false,
            invisible: false,
            default_sql: String::new(),
        }
    }

    /// Whether values are bytes and not characters; `None`: not known.
    pub fn is_binary(&self) -> Option<bool> {
        match self.kind {
            ColumnKind::String { .. } => match self.charset.as_str() {
                "" => None,
                "binary" => Some(true),
                _ => Some(false),
            },
            ColumnKind::Geometry | ColumnKind::Vector | ColumnKind::Bit { .. } => Some(true),
            _ => Some(false),
        }
    }
}

/// One column of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyPart {
    /// Index of the column, from 0.
    pub column: u32,
    /// Characters of the prefix that is indexed; 0: the whole column.
    pub prefix: u32,
}

/// A primary or unique key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Its name; empty or `PRIMARY` for the primary key.
    pub name: String,
    /// Its columns in order.
    pub parts: Vec<KeyPart>,
}

/// A table as of the rows that refer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDefinition {
    /// Database (schema); empty for SQLite.
    pub database: String,
    /// Name.
    pub table: String,
    /// Columns in the source's order.
    pub columns: Vec<Column>,
    /// The primary key; no parts when it has none or none is known.
    pub primary_key: Vec<KeyPart>,
    /// Whether the primary key is known: false when the log does not say.
    pub keys_known: bool,
    /// Unique keys.
    pub unique_keys: Vec<Key>,
    /// Whether column names are real ones.
    pub names_known: bool,
    /// Family of the source: `mysql`, `mariadb`, `sqlite`, `postgres`.
    pub family: String,
    /// CREATE statement, when the source gives it (SQLite).
    pub create_sql: String,
    /// Whether other tables refer to this one or this one to others (foreign keys); `None`: not known.
    pub foreign_keys: Option<bool>,
}

macro_rules! tags {
    ($table:ident { $($name:ident = $tag:literal,)* }) => {
        pub(crate) mod $table {
            $(pub const $name: u8 = $tag;)*
            /// Tags and names, as rlog-format(5) has them.
            pub const ALL: &[(u8, &str)] = &[$(($tag, stringify!($name)),)*];
        }
    };
}

tags!(table_tags {
    VERSION = 1, FAMILY = 2, DATABASE = 3, NAMES_KNOWN = 4, TABLE = 5, KEYS_KNOWN = 6, COLUMN = 7,
    PRIMARY_KEY = 8, UNIQUE_KEY = 10, CREATE_SQL = 12, FOREIGN_KEYS = 14,
});
tags!(column_tags {
    KIND = 1, NULLABLE = 2, NAME = 3, CHARSET = 4, COLLATION = 6, MEMBER = 8, SQL_TYPE = 10, GENERATED = 12,
    INVISIBLE = 14, DEFAULT = 16,
});

/// Tables of fields with their names in rlog-format(5).
pub const FIELD_TABLES: &[(&str, &[(u8, &str)])] = &[("TABLE", table_tags::ALL), ("COLUMN", column_tags::ALL)];

/// Numbers of column kinds, as rlog-format(5) has them in its table COLUMN KINDS: number, name, bytes of the parameters.
pub const COLUMN_KINDS: &[(u8, &str, usize)] = &[
    (1, "int", 2),
    (2, "float", 0),
    (3, "double", 0),
    (4, "decimal", 2),
    (5, "bit", 1),
    (6, "year", 0),
    (7, "date", 0),
    (8, "time", 1),
    (9, "datetime", 1),
    (10, "timestamp", 1),
    (11, "string", 5),
    (12, "enum", 0),
    (13, "set", 0),
    (14, "json-binary", 0),
    (15, "geometry", 0),
    (16, "vector", 0),
    (17, "any", 0),
];

/// Bytes of a packed decimal: 4 for each 9 digits on either side of the point, and for what is left over.
pub const fn decimal_len(precision: u8, scale: u8) -> usize {
    const LEFT_OVER: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let whole = precision.saturating_sub(scale) as usize;
    let scale = scale as usize;
    whole / 9 * 4 + LEFT_OVER[whole % 9] + scale / 9 * 4 + LEFT_OVER[scale % 9]
}

impl ColumnKind {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            ColumnKind::Int { bytes, sign } => out.extend_from_slice(&[1, bytes, sign as u8]),
            ColumnKind::Float => out.push(2),
            ColumnKind::Double => out.push(3),
            ColumnKind::Decimal { precision, scale } => out.extend_from_slice(&[4, precision, scale]),
            ColumnKind::Bit { bits } => out.extend_from_slice(&[5, bits]),
            ColumnKind::Year => out.push(6),
            ColumnKind::Date => out.push(7),
            ColumnKind::Time { fsp } => out.extend_from_slice(&[8, fsp]),
            ColumnKind::DateTime { fsp } => out.extend_from_slice(&[9, fsp]),
            ColumnKind::Timestamp { fsp } => out.extend_from_slice(&[10, fsp]),
            ColumnKind::String { form, bytes_max } => {
                out.extend_from_slice(&[11, form as u8]);
                out.extend_from_slice(&bytes_max.to_le_bytes());
            }
            ColumnKind::Enum => out.push(12),
            ColumnKind::Set => out.push(13),
            ColumnKind::JsonBinary => out.push(14),
            ColumnKind::Geometry => out.push(15),
            ColumnKind::Vector => out.push(16),
            ColumnKind::Any => out.push(17),
        }
    }

    fn decode(bytes: &[u8]) -> Option<ColumnKind> {
        let kind = match *bytes {
            [1, bytes @ (1 | 2 | 3 | 4 | 8), sign] => ColumnKind::Int {
                bytes,
                sign: match sign {
                    0 => Sign::Unknown,
                    1 => Sign::Signed,
                    2 => Sign::Unsigned,
                    _ => return None,
                },
            },
            [2] => ColumnKind::Float,
            [3] => ColumnKind::Double,
            [4, precision @ 1..=65, scale] if scale <= precision => ColumnKind::Decimal { precision, scale },
            [5, bits @ 1..=64] => ColumnKind::Bit { bits },
            [6] => ColumnKind::Year,
            [7] => ColumnKind::Date,
            [8, fsp @ 0..=6] => ColumnKind::Time { fsp },
            [9, fsp @ 0..=6] => ColumnKind::DateTime { fsp },
            [10, fsp @ 0..=6] => ColumnKind::Timestamp { fsp },
            [11, form, a, b, c, d] => {
                ColumnKind::String { form: StringForm::from_number(form)?, bytes_max: u32::from_le_bytes([a, b, c, d]) }
            }
            [12] => ColumnKind::Enum,
            [13] => ColumnKind::Set,
            [14] => ColumnKind::JsonBinary,
            [15] => ColumnKind::Geometry,
            [16] => ColumnKind::Vector,
            [17] => ColumnKind::Any,
            _ => return None,
        };
        Some(kind)
    }
}

fn put_parts(out: &mut Vec<u8>, parts: &[KeyPart]) {
    for part in parts {
        put_varint(out, u64::from(part.column));
        put_varint(out, u64::from(part.prefix));
    }
}

fn take_parts(mut bytes: &[u8], columns: usize) -> Option<Vec<KeyPart>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let column = u32::try_from(take_varint(&mut bytes)?).ok()?;
        let prefix = u32::try_from(take_varint(&mut bytes)?).ok()?;
        if column as usize >= columns {
            return None;
        }
        parts.push(KeyPart { column, prefix });
    }
    Some(parts)
}

impl TableDefinition {
    /// The key under which rows refer to this table: a hash of database and name. Two tables of one stream with the same hash
    /// still read right, since a writer repeats a definition whenever the last one sent under its key was another.
    pub fn key(&self) -> u64 {
        table_key(&self.database, &self.table)
    }

    /// Index of the column with this name (exact, else ignoring ASCII case).
    pub fn column_index(&self, name: &str) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column.name == name);
        exact.or_else(|| self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)))
    }

    /// The columns that identify a row best: primary key, else the first unique key whose columns are known not to be
    /// NULL. `None`: the whole row.
    pub fn identity(&self) -> Option<&[KeyPart]> {
        if !self.primary_key.is_empty() {
            return Some(&self.primary_key);
        }
        let not_null = |part: &KeyPart| {
            self.columns.get(part.column as usize).is_some_and(|column| column.nullable == Some(false))
        };
        self.unique_keys
            .iter()
            .find(|key| !key.parts.is_empty() && key.parts.iter().all(|part| part.prefix == 0 && not_null(part)))
            .map(|key| key.parts.as_slice())
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use table_tags::*;
        let mut scratch = Vec::new();
        let mut fields = FieldWriter::new(out);
        fields
            .number(VERSION, u64::from(EVENT_VERSION))
            .bytes_unless_empty(FAMILY, self.family.as_bytes())
            .bytes(DATABASE, self.database.as_bytes())
            .number_unless_0(NAMES_KNOWN, u64::from(self.names_known))
            .bytes(TABLE, self.table.as_bytes())
            .number_unless_0(KEYS_KNOWN, u64::from(self.keys_known));
        for column in &self.columns {
            scratch.clear();
            column.encode(&mut scratch);
            fields.bytes(COLUMN, &scratch);
        }
        if !self.primary_key.is_empty() {
            scratch.clear();
            put_parts(&mut scratch, &self.primary_key);
            fields.bytes(PRIMARY_KEY, &scratch);
        }
        for key in &self.unique_keys {
            scratch.clear();
            put_varint(&mut scratch, key.name.len() as u64);
            scratch.extend_from_slice(key.name.as_bytes());
            put_parts(&mut scratch, &key.parts);
            fields.bytes(UNIQUE_KEY, &scratch);
        }
        fields.bytes_unless_empty(CREATE_SQL, self.create_sql.as_bytes());
        if let Some(has) = self.foreign_keys {
            fields.number(FOREIGN_KEYS, u64::from(has));
        }
    }

    /// Decodes a payload.
    pub fn decode(payload: &[u8]) -> Result<TableDefinition, EventError> {
        use table_tags::*;
        let mut out = TableDefinition::default();
        let mut fields = FieldReader::named(payload, "table definition", 0);
        let mut keys: Vec<Field<'_>> = Vec::new();
        while let Some(field) = fields.next()? {
            match field.tag {
                VERSION => {
                    let version = fields.number(field)?;
                    if version == 0 || version > u64::from(EVENT_VERSION) {
                        return Err(EventError(format!(
                            "table definition of event version {version}, this rlog reads up to {EVENT_VERSION}"
                        )));
                    }
                }
                FAMILY => out.family = fields.text(field)?,
                DATABASE => out.database = fields.text(field)?,
                NAMES_KNOWN => out.names_known = fields.number(field)? != 0,
                TABLE => out.table = fields.text(field)?,
                KEYS_KNOWN => out.keys_known = fields.number(field)? != 0,
                COLUMN => out.columns.push(Column::decode(field.value)?),
                PRIMARY_KEY | UNIQUE_KEY => keys.push(field),
                CREATE_SQL => out.create_sql = fields.text(field)?,
                FOREIGN_KEYS => out.foreign_keys = Some(fields.number(field)? != 0),
                _ => fields.unknown(field)?,
            }
        }
        let invalid = || EventError::new("a key of a table definition is invalid");
        for field in keys {
            if field.tag == PRIMARY_KEY {
                out.primary_key = take_parts(field.value, out.columns.len()).ok_or_else(invalid)?;
            } else {
                let mut bytes = field.value;
                let length =
                    take_varint(&mut bytes).and_then(|length| usize::try_from(length).ok()).ok_or_else(invalid)?;
                let (name, parts) = bytes.split_at_checked(length).ok_or_else(invalid)?;
                out.unique_keys.push(Key {
                    name: String::from_utf8(name.to_vec()).map_err(|_| invalid())?,
                    parts: take_parts(parts, out.columns.len()).ok_or_else(invalid)?,
                });
            }
        }
        Ok(out)
    }
}

impl Column {
    fn encode(&self, out: &mut Vec<u8>) {
        use column_tags::*;
        let mut kind = Vec::with_capacity(6);
        self.kind.encode(&mut kind);
        let mut fields = FieldWriter::new(out);
        fields.bytes(KIND, &kind);
        if let Some(nullable) = self.nullable {
            fields.number(NULLABLE, u64::from(nullable));
        }
        fields
            .bytes(NAME, self.name.as_bytes())
            .bytes_unless_empty(CHARSET, self.charset.as_bytes())
            .number_unless_0(COLLATION, u64::from(self.collation));
        for member in &self.members {
            fields.bytes(MEMBER, member);
        }
        fields
            .bytes_unless_empty(SQL_TYPE, self.sql_type.as_bytes())
            .number_unless_0(GENERATED, u64::from(self.generated))
            .number_unless_0(INVISIBLE, u64::from(self.invisible))
            .bytes_unless_empty(DEFAULT, self.default_sql.as_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Column, EventError> {
        use column_tags::*;
        let mut kind = None;
        let mut out = Column::new("", ColumnKind::Any);
        let mut fields = FieldReader::named(payload, "column", 0);
        while let Some(field) = fields.next()? {
            match field.tag {
                KIND => {
                    kind = Some(
                        ColumnKind::decode(field.value)
                            .ok_or_else(|| EventError::new("a column's kind is not known to this version"))?,
                    )
                }
                NULLABLE => out.nullable = Some(fields.number(field)? != 0),
                NAME => out.name = fields.text(field)?,
                CHARSET => out.charset = fields.text(field)?,
                COLLATION => out.collation = fields.number_u32(field)?,
                MEMBER => out.members.push(field.value.to_vec()),
                SQL_TYPE => out.sql_type = fields.text(field)?,
                GENERATED => out.generated = fields.number(field)? != 0,
                INVISIBLE => out.invisible = fields.number(field)? != 0,
                DEFAULT => out.default_sql = fields.text(field)?,
                _ => fields.unknown(field).map_err(|error: FrameError| EventError(error.to_string()))?,
            }
        }
        out.kind = kind.ok_or_else(|| EventError::new("a column without a kind"))?;
        Ok(out)
    }
}

/// The key of a table in `definition` frames and rows records: XXH3-64 over database, a zero byte, table.
pub fn table_key(database: &str, table: &str) -> u64 {
    let mut bytes = Vec::with_capacity(database.len() + 1 + table.len());
    bytes.extend_from_slice(database.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(table.as_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_comes_back_as_written() {
        let mut id = Column::new("id", ColumnKind::Int { bytes: 8, sign: Sign::Unsigned });
        id.nullable = Some(false);
        let mut kind = Column::new("kind", ColumnKind::Enum);
        kind.members = vec![b"a".to_vec(), vec![0xff, 0]];
        kind.charset = "latin1".into();
        let table = TableDefinition {
            database: "shop".into(),
            table: "orders".into(),
            columns: vec![id, kind, Column::new("n", ColumnKind::Decimal { precision: 65, scale: 30 })],
            primary_key: vec![KeyPart { column: 0, prefix: 0 }],
            keys_known: true,
            unique_keys: vec![Key { name: "u".into(), parts: vec![KeyPart { column: 1, prefix: 10 }] }],
            names_known: true,
            family: "mysql".into(),
            create_sql: String::new(),
            foreign_keys: Some(false),
        };
        let mut out = Vec::new();
        table.encode(&mut out);
        assert_eq!(TableDefinition::decode(&out), Ok(table));
        for length in 0..out.len() {
            let _ = TableDefinition::decode(&out[..length]);
        }
    }

    #[test]
    fn packed_decimals_have_the_size_that_mysql_gives_them() {
        assert_eq!(decimal_len(10, 2), 5);
        assert_eq!(decimal_len(65, 30), 30);
        assert_eq!(decimal_len(9, 0), 4);
        assert_eq!(decimal_len(1, 1), 1);
    }
}
