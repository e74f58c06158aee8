//! Statement records (`statement`, `ddl`, `truncate`, `load-block`, `xa-decision`, `annotate`, `note`): SQL text with the session context it needs to
//! be replayed. Written as fields ([`crate::frame::fields`]): odd tags must be understood.
//!
//! Charsets, collations, flags and modes are the numbers of the MySQL family's Query event, unchanged: replaying is
//! possible only into the same family.

use std::borrow::Cow;

use super::EventError;
use crate::frame::fields::{FieldReader, FieldWriter};

macro_rules! tags {
    ($($name:ident = $tag:literal,)*) => {
        pub(crate) mod statement_tags {
            $(pub const $name: u8 = $tag;)*
            /// Tags and names, as rlog-format(5) has them in its table STATEMENT.
            pub const ALL: &[(u8, &str)] = &[$(($tag, stringify!($name)),)*];
        }
    };
}

tags!(
    SQL = 1,
    DATABASE = 2,
    TIME = 4,
    THREAD = 6,
    ERROR_CODE = 8,
    EXEC_TIME = 10,
    FLAGS2 = 12,
    SQL_MODE = 14,
    CHARSET_CLIENT = 16,
    COLLATION_CONNECTION = 18,
    COLLATION_SERVER = 20,
    TIME_ZONE = 22,
    AUTO_INCREMENT = 24,
    AUTO_OFFSET = 26,
    LC_TIME_NAMES = 28,
    CHARSET_DATABASE = 30,
    INSERT_ID = 32,
    LAST_INSERT_ID = 34,
    RAND = 36,
    USER_VAR = 38,
    MICROSECONDS = 40,
    DEFINER = 42,
    EXPLICIT_TIMESTAMP = 44,
    DDL = 46,
    TABLE = 48,
    FILE_ID = 50,
    FILE_NAME_START = 52,
    FILE_NAME_END = 54,
    DUPLICATES = 56,
    BLOCK = 58,
    XID = 60,
    UTF8MB4_COLLATION = 62,
    REQUIRE_PRIMARY_KEY = 64,
);

/// Tables of fields with their names in rlog-format(5).
pub const FIELD_TABLES: &[(&str, &[(u8, &str)])] = &[("STATEMENT", statement_tags::ALL)];

/// A user variable that a statement reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserVariable {
    /// Its name, without `@`.
    pub name: Vec<u8>,
    /// `None`: NULL.
    pub value: Option<UserValue>,
    /// Collation number of a string.
    pub collation: u32,
}

/// Value of a user variable. The bytes are as the source writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserValue {
    /// Bytes of a string.
    String(Vec<u8>),
    /// Bits of a binary64.
    Real(u64),
    /// Signed.
    Int(i64),
    /// Unsigned.
    UInt(u64),
    /// A decimal as text.
    Decimal(String),
}

/// A statement with its session context. Fields that the log does not give are empty, 0 or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The text, in the client's charset.
    pub sql: Cow<'a, [u8]>,
    /// The default database.
    pub database: Cow<'a, str>,
    /// Seconds since 1970 UTC.
    pub time_s: u32,
    /// Microseconds of the time (statements that use fractions).
    pub microseconds: Option<u32>,
    /// Connection.
    pub thread: u32,
    /// Error that the statement ended with on the source.
    pub error_code: u16,
    /// How long it ran, in seconds.
    pub exec_time_s: u32,
    /// OPTION_AUTO_IS_NULL, OPTION_NO_FOREIGN_KEY_CHECKS … as in the Query event.
    pub flags2: Option<u32>,
    /// sql_mode bits.
    pub sql_mode: Option<u64>,
    /// Collation numbers: client's charset, connection, server.
    pub charset: Option<(u16, u16, u16)>,
    /// Time zone name.
    pub time_zone: Cow<'a, str>,
    /// auto_increment_increment and auto_increment_offset.
    pub auto_increment: Option<(u16, u16)>,
    /// lc_time_names number.
    pub lc_time_names: Option<u16>,
    /// Collation number of the default database.
    pub charset_database: Option<u16>,
    /// INSERT_ID for the statement.
    pub insert_id: Option<u64>,
    /// LAST_INSERT_ID for the statement.
    pub last_insert_id: Option<u64>,
    /// Seeds of RAND().
    pub rand: Option<(u64, u64)>,
    /// User variables that it reads.
    pub user_variables: Vec<UserVariable>,
    /// `user@host` for which it runs.
    pub definer: Cow<'a, str>,
    /// explicit_defaults_for_timestamp.
    pub explicit_timestamp: Option<bool>,
    /// What kind of DDL, such as `create table`; empty when not classified.
    pub ddl: Cow<'a, str>,
    /// Tables that it names: (database, table).
    pub tables: Vec<(String, String)>,
    /// For load-block and LOAD DATA statements: which file.
    pub file_id: Option<u32>,
    /// Where the file's name stands in the text, from and to.
    pub file_name_range: Option<(u32, u32)>,
    /// What LOAD DATA does with duplicates: 0 error, 1 ignore, 2 replace.
    pub duplicates: u8,
    /// Bytes of a load-block.
    pub block: Cow<'a, [u8]>,
    /// XA transaction id of an xa-decision as the source writes it.
    pub xid: Cow<'a, [u8]>,
    /// default_collation_for_utf8mb4.
    pub utf8mb4_collation: Option<u16>,
    /// sql_require_primary_key.
    pub require_primary_key: Option<bool>,
}

impl<'a> Statement<'a> {
    /// Appends the body of the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use statement_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .bytes(SQL, &self.sql)
            .bytes_unless_empty(DATABASE, self.database.as_bytes())
            .number_unless_0(TIME, u64::from(self.time_s))
            .number_unless_0(THREAD, u64::from(self.thread))
            .number_unless_0(ERROR_CODE, u64::from(self.error_code))
            .number_unless_0(EXEC_TIME, u64::from(self.exec_time_s));
        let mut optional = |tag, value: Option<u64>| {
            if let Some(value) = value {
                fields.number(tag, value);
            }
        };
        optional(FLAGS2, self.flags2.map(u64::from));
        optional(SQL_MODE, self.sql_mode);
        optional(CHARSET_CLIENT, self.charset.map(|c| u64::from(c.0)));
        optional(COLLATION_CONNECTION, self.charset.map(|c| u64::from(c.1)));
        optional(COLLATION_SERVER, self.charset.map(|c| u64::from(c.2)));
        optional(AUTO_INCREMENT, self.auto_increment.map(|a| u64::from(a.0)));
        optional(AUTO_OFFSET, self.auto_increment.map(|a| u64::from(a.1)));
        optional(LC_TIME_NAMES, self.lc_time_names.map(u64::from));
        optional(CHARSET_DATABASE, self.charset_database.map(u64::from));
        optional(INSERT_ID, self.insert_id);
        optional(LAST_INSERT_ID, self.last_insert_id);
        optional(MICROSECONDS, self.microseconds.map(u64::from));
        optional(EXPLICIT_TIMESTAMP, self.explicit_timestamp.map(u64::from));
        optional(FILE_ID, self.file_id.map(u64::from));
        optional(FILE_NAME_START, self.file_name_range.map(|range| u64::from(range.0)));
        optional(FILE_NAME_END, self.file_name_range.map(|range| u64::from(range.1)));
        optional(UTF8MB4_COLLATION, self.utf8mb4_collation.map(u64::from));
        optional(REQUIRE_PRIMARY_KEY, self.require_primary_key.map(u64::from));
        if let Some((first, second)) = self.rand {
            let seeds = [first.to_le_bytes(), second.to_le_bytes()].concat();
            fields.bytes(RAND, &seeds);
        }
        for variable in &self.user_variables {
            fields.bytes(USER_VAR, &variable.encode());
        }
        fields
            .bytes_unless_empty(TIME_ZONE, self.time_zone.as_bytes())
            .bytes_unless_empty(DEFINER, self.definer.as_bytes())
            .bytes_unless_empty(DDL, self.ddl.as_bytes());
        for (database, table) in &self.tables {
            fields.bytes(TABLE, &[database.as_bytes(), b"\0", table.as_bytes()].concat());
        }
        fields
            .number_unless_0(DUPLICATES, u64::from(self.duplicates))
            .bytes_unless_empty(BLOCK, &self.block)
            .bytes_unless_empty(XID, &self.xid);
    }

    /// Time and text of a body that has nothing else, as annotations are; `None`: it has more, or is damaged.
    pub fn remark(body: &[u8]) -> Option<(u32, &[u8])> {
        let mut fields = FieldReader::named(body, "statement", 0);
        let (mut time_s, mut sql) = (0, &[][..]);
        while let Some(field) = fields.next().ok()? {
            match field.tag {
                statement_tags::SQL => sql = field.value,
                statement_tags::TIME => time_s = u32::try_from(field.number()?).ok()?,
                _ => return None,
            }
        }
        Some((time_s, sql))
    }

    /// Decodes the body of a record.
    pub fn decode(body: &'a [u8]) -> Result<Statement<'a>, EventError> {
        use statement_tags::*;
        let mut out = Statement::default();
        let mut fields = FieldReader::named(body, "statement", 0);
        let invalid = |tag: u8| EventError(format!("field {tag} of a statement is invalid"));
        while let Some(field) = fields.next()? {
            let tag = field.tag;
            let number = || field.number().ok_or_else(|| invalid(tag));
            let u32 = || u32::try_from(number()?).map_err(|_| invalid(tag));
            let u16 = || u16::try_from(number()?).map_err(|_| invalid(tag));
            let text = || field.text().map(Cow::Borrowed).ok_or_else(|| invalid(tag));
            match tag {
                SQL => out.sql = Cow::Borrowed(field.value),
                DATABASE => out.database = text()?,
                TIME => out.time_s = u32()?,
                THREAD => out.thread = u32()?,
                ERROR_CODE => out.error_code = u16()?,
                EXEC_TIME => out.exec_time_s = u32()?,
                FLAGS2 => out.flags2 = Some(u32()?),
                SQL_MODE => out.sql_mode = Some(number()?),
                CHARSET_CLIENT => out.charset.get_or_insert_default().0 = u16()?,
                COLLATION_CONNECTION => out.charset.get_or_insert_default().1 = u16()?,
                COLLATION_SERVER => out.charset.get_or_insert_default().2 = u16()?,
                TIME_ZONE => out.time_zone = text()?,
                AUTO_INCREMENT => out.auto_increment.get_or_insert_default().0 = u16()?,
                AUTO_OFFSET => out.auto_increment.get_or_insert_default().1 = u16()?,
                LC_TIME_NAMES => out.lc_time_names = Some(u16()?),
                CHARSET_DATABASE => out.charset_database = Some(u16()?),
                INSERT_ID => out.insert_id = Some(number()?),
                LAST_INSERT_ID => out.last_insert_id = Some(number()?),
                RAND => {
                    let (first, rest) = field.value.split_first_chunk::<8>().ok_or_else(|| invalid(tag))?;
                    let second: &[u8; 8] = rest.try_into().map_err(|_| invalid(tag))?;
                    out.rand = Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second)));
                }
                USER_VAR => out.user_variables.push(UserVariable::decode(field.value).ok_or_else(|| invalid(tag))?),
                MICROSECONDS => out.microseconds = Some(u32()?),
                DEFINER => out.definer = text()?,
                EXPLICIT_TIMESTAMP => out.explicit_timestamp = Some(number()? != 0),
                DDL => out.ddl = text()?,
                TABLE => {
                    let name = field.text().and_then(|name| name.split_once('\0')).ok_or_else(|| invalid(tag))?;
                    out.tables.push((name.0.to_owned(), name.1.to_owned()));
                }
                FILE_ID => out.file_id = Some(u32()?),
                FILE_NAME_START => out.file_name_range.get_or_insert_default().0 = u32()?,
                FILE_NAME_END => out.file_name_range.get_or_insert_default().1 = u32()?,
                DUPLICATES => out.duplicates = u8::try_from(number()?).map_err(|_| invalid(tag))?,
                BLOCK => out.block = Cow::Borrowed(field.value),
                XID => out.xid = Cow::Borrowed(field.value),
                UTF8MB4_COLLATION => out.utf8mb4_collation = Some(u16()?),
                REQUIRE_PRIMARY_KEY => out.require_primary_key = Some(number()? != 0),
                _ => fields.unknown(field)?,
            }
        }
        Ok(out)
    }
}

/// Tags within a USER_VAR field: name, type, value, collation.
mod variable_tags {
    pub const NAME: u8 = 1;
    pub const STRING: u8 = 3;
    pub const REAL: u8 = 5;
    pub const INT: u8 = 7;
    pub const UINT: u8 = 9;
    pub const DECIMAL: u8 = 11;
    pub const COLLATION: u8 = 2;
}

impl UserVariable {
    fn encode(&self) -> Vec<u8> {
        use variable_tags::*;
        let mut out = Vec::new();
        let mut fields = FieldWriter::new(&mut out);
        fields.bytes(NAME, &self.name);
        match &self.value {
            None => {}
            Some(UserValue::String(bytes)) => drop(fields.bytes(STRING, bytes)),
            Some(UserValue::Real(bits)) => drop(fields.number(REAL, *bits)),
            Some(UserValue::Int(value)) => drop(fields.signed(INT, *value)),
            Some(UserValue::UInt(value)) => drop(fields.number(UINT, *value)),
            Some(UserValue::Decimal(text)) => drop(fields.bytes(DECIMAL, text.as_bytes())),
        }
        fields.number_unless_0(COLLATION, u64::from(self.collation));
        out
    }

    fn decode(bytes: &[u8]) -> Option<UserVariable> {
        use variable_tags::*;
        let mut out = UserVariable::default();
        let mut fields = FieldReader::named(bytes, "user variable", 0);
        while let Some(field) = fields.next().ok()? {
            match field.tag {
                NAME => out.name = field.value.to_vec(),
                STRING => out.value = Some(UserValue::String(field.value.to_vec())),
                REAL => out.value = Some(UserValue::Real(field.number()?)),
                INT => out.value = Some(UserValue::Int(field.number()? as i64)),
                UINT => out.value = Some(UserValue::UInt(field.number()?)),
                DECIMAL => out.value = Some(UserValue::Decimal(field.text()?.to_owned())),
                COLLATION => out.collation = u32::try_from(field.number()?).ok()?,
                _ => fields.unknown(field).ok()?,
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_keeps_its_session() {
        let statement = Statement {
            sql: b"INSERT INTO t VALUES (RAND(), @a)".as_slice().into(),
            database: "shop".into(),
            time_s: 1,
            microseconds: Some(0),
            thread: 2,
            sql_mode: Some(1 << 40),
            charset: Some((33, 0, 8)),
            time_zone: "SYSTEM".into(),
            rand: Some((1, u64::MAX)),
            user_variables: vec![
                UserVariable { name: b"a".to_vec(), value: Some(UserValue::Int(-1)), collation: 0 },
                UserVariable { name: b"b".to_vec(), value: None, collation: 0 },
                UserVariable { name: b"c".to_vec(), value: Some(UserValue::String(vec![])), collation: 33 },
            ],
            tables: vec![("a".into(), "b".into())],
            file_name_range: Some((0, 5)),
            ..Statement::default()
        };
        let mut out = Vec::new();
        statement.encode(&mut out);
        assert_eq!(Statement::decode(&out), Ok(statement));
    }
}
