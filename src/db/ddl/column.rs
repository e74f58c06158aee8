//! Column definitions: types, attributes, and the form that their values have in rows.

use super::cursor::{Cursor, Unclear};
use super::token::Kind;
use crate::event::charset;
use crate::event::table::{Column, ColumnKind, Sign, StringForm};

/// Charset and collation that apply where a column names none; empty: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Characters {
    pub charset: String,
    pub collation: String,
}

impl Characters {
    /// Those of a charset's name; `None`: no such charset.
    pub fn of_charset(name: &str) -> Option<Characters> {
        charset::canonical(name).map(|charset| Characters { charset: charset.into(), collation: String::new() })
    }

    /// Those of a collation's name. MariaDB's `uca1400` collations may stand without a charset: then `outer` keeps its own.
    pub fn of_collation(name: &str, outer: &Characters) -> Characters {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("utf8_").map_or(name.clone(), |rest| format!("utf8mb3_{rest}"));
        let charset = if name.starts_with("uca1400") {
            outer.charset.clone()
        } else {
            charset::charset_of_collation(&name).map_or_else(|| outer.charset.clone(), str::to_owned)
        };
        Characters { charset, collation: name }
    }
}

/// A column definition and what of it concerns the table.
#[derive(Clone, Debug)]
pub(super) struct Defined {
    pub column: Column,
    /// Its charset is the table's, and changes with it by CONVERT TO.
    pub charset_inherited: bool,
    pub primary: bool,
    pub unique: bool,
    pub references: Option<(String, String)>,
    /// GENERATED ALWAYS AS ROW START or END.
    pub system_period: bool,
}

/// A type as it was read.
struct Type {
    kind: ColumnKind,
    members: Vec<String>,
    /// Characters decide its charset.
    characters: bool,
    /// Bytes whatever the charset.
    binary: bool,
    /// In `sql_type` of types that have no kind of their own.
    own_name: Option<&'static str>,
    /// National characters have a charset of their own.
    own_charset: Option<&'static str>,
    serial: bool,
}

/// Words that end a default without parentheses: the attributes that may follow it.
const ATTRIBUTES: &[&str] = &[
    "NOT",
    "NULL",
    "ON",
    "AUTO_INCREMENT",
    "PRIMARY",
    "UNIQUE",
    "KEY",
    "COMMENT",
    "COLLATE",
    "GENERATED",
    "AS",
    "VIRTUAL",
    "STORED",
    "PERSISTENT",
    "INVISIBLE",
    "VISIBLE",
    "CHECK",
    "CONSTRAINT",
    "REFERENCES",
    "COLUMN_FORMAT",
    "STORAGE",
    "FIRST",
    "AFTER",
    "COMPRESSED",
    "WITH",
    "WITHOUT",
    "SRID",
    "ENGINE_ATTRIBUTE",
    "SECONDARY_ENGINE_ATTRIBUTE",
];

/// A definition behind the column's name.
pub(super) fn definition(
    cursor: &mut Cursor<'_>,
    name: String,
    table: &Characters,
    default_database: &str,
) -> Result<Defined, Unclear> {
    let from = cursor.position();
    let found = column_type(cursor)?;
    let mut sql_type = cursor.text_since(from).to_owned();
    let mut column = Column::new(name, found.kind);
    column.nullable = Some(true);
    let mut characters: Option<Characters> = found.own_charset.and_then(Characters::of_charset);
    let mut out_primary = found.serial;
    let mut defined = Defined {
        column: Column::new("", ColumnKind::Any),
        charset_inherited: false,
        primary: false,
        unique: found.serial,
        references: None,
        system_period: false,
    };
    if found.serial {
        column.nullable = Some(false);
        out_primary = false;
    }
    let mut binary_collation = false;
    loop {
        let before = cursor.position();
        if cursor.takes(&["UNSIGNED"]) || cursor.takes(&["ZEROFILL"]) {
            if let ColumnKind::Int { sign, .. } = &mut column.kind {
                *sign = Sign::Unsigned;
            }
            sql_type = cursor.text_since(from).to_owned();
        } else if cursor.takes(&["SIGNED"]) || cursor.takes(&["NULL"]) {
        } else if cursor.takes(&["CHARACTER", "SET"]) || cursor.takes(&["CHAR", "SET"]) || cursor.takes(&["CHARSET"]) {
            cursor.takes_symbol('=');
            let name = cursor.name_or_text()?;
            let set = Characters::of_charset(&name).ok_or_else(|| Unclear(format!("no charset is called `{name}`")))?;
            // COLLATE may stand in front of it.
            characters = Some(match characters {
                Some(mut known) if !known.collation.is_empty() => {
                    known.charset = set.charset;
                    known
                }
                _ => set,
            });
        } else if cursor.takes(&["COLLATE"]) {
            cursor.takes_symbol('=');
            let name = cursor.name_or_text()?;
            characters = Some(Characters::of_collation(&name, characters.as_ref().unwrap_or(table)));
        } else if cursor.takes(&["BINARY"]) {
            binary_collation = true;
        } else if cursor.takes(&["ASCII"]) {
            characters = Characters::of_charset("latin1");
        } else if cursor.takes(&["UNICODE"]) {
            characters = Characters::of_charset("ucs2");
        } else if cursor.takes(&["BYTE"]) {
            characters = Characters::of_charset("binary");
        } else if cursor.takes(&["NOT", "NULL"]) {
            column.nullable = Some(false);
        } else if cursor.takes(&["NOT", "SECONDARY"]) {
        } else if cursor.takes(&["DEFAULT"]) {
            column.default_sql = default_value(cursor)?;
        } else if cursor.takes(&["ON", "UPDATE"]) {
            cursor.bump();
            if cursor.sees_symbol('(') {
                cursor.skip_parentheses()?;
            }
        } else if cursor.takes(&["AUTO_INCREMENT"]) {
            column.nullable = Some(false);
        } else if cursor.takes(&["PRIMARY"]) {
            cursor.takes(&["KEY"]);
            out_primary = true;
        } else if cursor.takes(&["UNIQUE"]) {
            cursor.takes(&["KEY"]);
            defined.unique = true;
        } else if cursor.takes(&["KEY"]) {
            out_primary = true;
        } else if cursor.takes(&["COMMENT"]) {
            cursor.takes_symbol('=');
            cursor.text()?;
        } else if cursor.takes(&["GENERATED"]) || cursor.sees(&["AS"]) {
            cursor.takes(&["ALWAYS"]);
            if !cursor.takes(&["AS"]) {
                return Err(cursor.unclear("AS"));
            }
            if cursor.takes(&["ROW"]) {
                cursor.takes_any(&["START", "END"]).ok_or_else(|| cursor.unclear("START or END"))?;
                defined.system_period = true;
                column.nullable = Some(false);
            } else {
                cursor.skip_parentheses()?;
            }
            column.generated = true;
        } else if cursor.takes_any(&["VIRTUAL", "STORED", "PERSISTENT", "VISIBLE"]).is_some() {
        } else if cursor.takes(&["INVISIBLE"]) {
            column.invisible = true;
        } else if cursor.takes(&["COMPRESSED"]) {
            if cursor.takes_symbol('=') {
                cursor.bump();
            }
        } else if cursor.takes(&["COLUMN_FORMAT"]) || cursor.takes(&["STORAGE"]) || cursor.takes(&["SRID"]) {
            cursor.bump();
        } else if cursor.takes(&["REF_SYSTEM_ID"])
            || cursor.takes(&["ENGINE_ATTRIBUTE"])
            || cursor.takes(&["SECONDARY_ENGINE_ATTRIBUTE"])
        {
            cursor.takes_symbol('=');
            cursor.bump();
        } else if cursor.takes(&["CONSTRAINT"]) {
            if !cursor.sees(&["CHECK"]) {
                cursor.name()?;
            }
        } else if cursor.takes(&["CHECK"]) {
            cursor.skip_parentheses()?;
            cursor.takes(&["NOT"]);
            cursor.takes(&["ENFORCED"]);
        } else if cursor.takes(&["REFERENCES"]) {
            defined.references = Some(references(cursor, default_database)?);
        } else if cursor.takes(&["WITH", "SYSTEM", "VERSIONING"]) || cursor.takes(&["WITHOUT", "SYSTEM", "VERSIONING"])
        {
        } else {
            // An option of the engine: `name=value`.
            let option = cursor.name().is_ok() && cursor.takes_symbol('=');
            if !option {
                cursor.rewind(before);
                break;
            }
            cursor.bump();
        }
    }
    if out_primary {
        column.nullable = Some(false);
    }
    column.sql_type = match found.own_name {
        Some(name) => name.to_owned(),
        None => one_line(&sql_type),
    };
    if found.binary {
        set_characters(&mut column, &Characters { charset: "binary".into(), collation: "binary".into() });
    } else if found.characters {
        defined.charset_inherited = characters.is_none();
        let mut own = characters.unwrap_or_else(|| table.clone());
        if binary_collation && !own.charset.is_empty() {
            own.collation = format!("{}_bin", own.charset);
        }
        set_characters(&mut column, &own);
    }
    // Rows of a log name members by number; here they get the bytes that the column's charset gives them.
    for member in found.members {
        let bytes = charset::encode(&column.charset, &member);
        column.members.push(bytes.unwrap_or_else(|| member.into_bytes()));
    }
    defined.column = column;
    defined.primary = out_primary;
    Ok(defined)
}

/// Gives a column its charset, collation number and, in bytes, its largest length. Lengths of CHAR, VARCHAR and TEXT(n) are
/// held in characters until then.
pub(super) fn set_characters(column: &mut Column, own: &Characters) {
    if let ColumnKind::String { form: StringForm::Char | StringForm::VarChar, bytes_max } = &mut column.kind {
        let characters = *bytes_max / charset::bytes_per_character(&column.charset);
        *bytes_max = characters.saturating_mul(charset::bytes_per_character(&own.charset));
    }
    for member in &mut column.members {
        let text = charset::decode(&column.charset, member);
        if let Some(bytes) = text.and_then(|text| charset::encode(&own.charset, &text)) {
            *member = bytes;
        }
    }
    column.charset = own.charset.clone();
    let name = match own.collation.as_str() {
        "" => charset::default_collation(&own.charset).unwrap_or(""),
        name => name,
    };
    // A default that depends on the server's version is not guessed.
    let certain = !own.collation.is_empty() || !own.charset.starts_with("utf8mb4");
    column.collation = if certain { charset::collation_number(name, false).unwrap_or(0) } else { 0 };
    if own.charset == "binary" {
        column.collation = 63;
    }
}

/// Words on one line with single spaces, in lower case but for what is quoted.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quoted = None;
    for c in text.chars() {
        match quoted {
            Some(quote) => {
                quoted = if c == quote { None } else { quoted };
                out.push(c);
            }
            None if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            None => {
                if c == '\'' || c == '"' {
                    quoted = Some(c);
                }
                out.extend(c.to_lowercase());
            }
        }
    }
    out
}

/// A default: a literal, a function, or an expression, as text.
fn default_value(cursor: &mut Cursor<'_>) -> Result<String, Unclear> {
    let from = cursor.position();
    if cursor.sees_symbol('(') {
        cursor.skip_parentheses()?;
    } else {
        cursor.bump();
    }
    loop {
        match cursor.peek().map(|token| &token.kind) {
            None | Some(Kind::Symbol(',' | ')')) => break,
            Some(Kind::Symbol('(')) => cursor.skip_parentheses()?,
            Some(Kind::Word)
                if cursor.word().is_some_and(|word| ATTRIBUTES.iter().any(|a| word.eq_ignore_ascii_case(a))) =>
            {
                break;
            }
            _ => cursor.bump(),
        }
    }
    Ok(cursor.text_since(from).to_owned())
}

/// `table (columns) MATCH … ON DELETE … ON UPDATE …` behind REFERENCES.
pub(super) fn references(cursor: &mut Cursor<'_>, default_database: &str) -> Result<(String, String), Unclear> {
    let table = cursor.table_name(default_database)?;
    if cursor.sees_symbol('(') {
        cursor.skip_parentheses()?;
    }
    loop {
        if cursor.takes(&["MATCH"]) {
            cursor.bump();
        } else if cursor.takes(&["ON", "DELETE"]) || cursor.takes(&["ON", "UPDATE"]) {
            if !(cursor.takes(&["SET", "NULL"]) || cursor.takes(&["SET", "DEFAULT"]) || cursor.takes(&["NO", "ACTION"]))
            {
                cursor.bump();
            }
        } else {
            return Ok(table);
        }
    }
}

/// `(n)` or `(n, m)`.
fn lengths(cursor: &mut Cursor<'_>) -> Result<(Option<u64>, Option<u64>), Unclear> {
    if !cursor.takes_symbol('(') {
        return Ok((None, None));
    }
    let first = cursor.number()?;
    let second = if cursor.takes_symbol(',') { Some(cursor.number()?) } else { None };
    cursor.expect(')')?;
    Ok((Some(first), second))
}

fn fraction(cursor: &mut Cursor<'_>) -> Result<u8, Unclear> {
    let digits = lengths(cursor)?.0.unwrap_or(0);
    u8::try_from(digits).ok().filter(|fsp| *fsp <= 6).ok_or_else(|| Unclear(format!("a fraction of {digits} digits")))
}

fn column_type(cursor: &mut Cursor<'_>) -> Result<Type, Unclear> {
    let Some(word) = cursor.word() else { return Err(cursor.unclear("a column type")) };
    let name = word.to_ascii_uppercase();
    let at_type = cursor.position();
    cursor.bump();
    // MariaDB qualifies types of another sql_mode: mariadb_schema.date, oracle_schema.date.
    if name.ends_with("_SCHEMA") && cursor.takes_symbol('.') {
        return column_type(cursor);
    }
    let plain = |kind| Type {
        kind,
        members: Vec::new(),
        characters: false,
        binary: false,
        own_name: None,
        own_charset: None,
        serial: false,
    };
    let int = |bytes| plain(ColumnKind::Int { bytes, sign: Sign::Signed });
    let string = |form, bytes_max: u64, binary: bool| Type {
        characters: !binary,
        binary,
        ..plain(ColumnKind::String { form, bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX) })
    };
    let other = |name| Type { own_name: Some(name), ..string(StringForm::Other, 0, false) };
    Ok(match name.as_str() {
        "TINYINT" | "INT1" | "BOOL" | "BOOLEAN" => {
            lengths(cursor)?;
            int(1)
        }
        "SMALLINT" | "INT2" => {
            lengths(cursor)?;
            int(2)
        }
        "MEDIUMINT" | "INT3" | "MIDDLEINT" => {
            lengths(cursor)?;
            int(3)
        }
        "INT" | "INTEGER" | "INT4" => {
            lengths(cursor)?;
            int(4)
        }
        "BIGINT" | "INT8" => {
            lengths(cursor)?;
            int(8)
        }
        "SERIAL" => Type { serial: true, ..plain(ColumnKind::Int { bytes: 8, sign: Sign::Unsigned }) },
        "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" | "NUMBER" => {
            let (precision, scale) = lengths(cursor)?;
            let (precision, scale) = (precision.filter(|p| *p > 0).unwrap_or(10), scale.unwrap_or(0));
            if precision > 65 || scale > precision {
                return Err(Unclear(format!("DECIMAL({precision},{scale})")));
            }
            plain(ColumnKind::Decimal { precision: precision as u8, scale: scale as u8 })
        }
        "FLOAT" | "FLOAT4" => {
            let (precision, scale) = lengths(cursor)?;
            let double = scale.is_none() && precision.is_some_and(|precision| precision > 24);
            plain(if double { ColumnKind::Double } else { ColumnKind::Float })
        }
        "DOUBLE" | "FLOAT8" | "REAL" => {
            cursor.takes(&["PRECISION"]);
            lengths(cursor)?;
            plain(ColumnKind::Double)
        }
        "BIT" => {
            let bits = lengths(cursor)?.0.unwrap_or(1);
            let bits = u8::try_from(bits).ok().filter(|bits| (1..=64).contains(bits));
            plain(ColumnKind::Bit { bits: bits.ok_or_else(|| Unclear("a BIT of that size".into()))? })
        }
        "YEAR" => {
            lengths(cursor)?;
            plain(ColumnKind::Year)
        }
        "DATE" => plain(ColumnKind::Date),
        "TIME" => plain(ColumnKind::Time { fsp: fraction(cursor)? }),
        "DATETIME" => plain(ColumnKind::DateTime { fsp: fraction(cursor)? }),
        "TIMESTAMP" => plain(ColumnKind::Timestamp { fsp: fraction(cursor)? }),
        "NATIONAL" | "NCHAR" | "NVARCHAR" | "CHAR" | "CHARACTER" | "VARCHAR" | "VARCHARACTER" | "VARCHAR2"
        | "NVARCHAR2" => character_type(cursor, &name, at_type)?,
        "BINARY" => string(StringForm::Char, lengths(cursor)?.0.unwrap_or(1), true),
        "VARBINARY" | "RAW" => string(StringForm::VarChar, lengths(cursor)?.0.unwrap_or(0), true),
        "TINYTEXT" | "TINYBLOB" => string(StringForm::Tiny, 0xff, name.ends_with("BLOB")),
        "MEDIUMTEXT" | "MEDIUMBLOB" => string(StringForm::Medium, 0xff_ffff, name.ends_with("BLOB")),
        "LONGTEXT" | "LONGBLOB" | "CLOB" => string(StringForm::Long, u64::from(u32::MAX), name.ends_with("BLOB")),
        "TEXT" | "BLOB" => {
            let binary = name == "BLOB";
            match lengths(cursor)?.0 {
                Some(1..=0xff) if binary => string(StringForm::Tiny, 0xff, binary),
                None | Some(0..=0xffff) => string(StringForm::Blob, 0xffff, binary),
                Some(0x1_0000..=0xff_ffff) => string(StringForm::Medium, 0xff_ffff, binary),
                Some(_) => string(StringForm::Long, u64::from(u32::MAX), binary),
            }
        }
        "LONG" => {
            let binary = cursor.takes(&["VARBINARY"]);
            if !binary && !cursor.takes(&["VARCHAR"]) {
                cursor.takes(&["CHAR", "VARYING"]);
            }
            string(StringForm::Medium, 0xff_ffff, binary)
        }
        "ENUM" | "SET" => {
            let mut members = Vec::new();
            cursor.expect('(')?;
            loop {
                members.push(cursor.text()?.trim_end_matches(' ').to_owned());
                if !cursor.takes_symbol(',') {
                    break;
                }
            }
            cursor.expect(')')?;
            let kind = if name == "ENUM" { ColumnKind::Enum } else { ColumnKind::Set };
            Type { members, characters: true, ..plain(kind) }
        }
        "JSON" => plain(ColumnKind::JsonBinary),
        "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING" | "MULTIPOLYGON"
        | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION" => plain(ColumnKind::Geometry),
        "VECTOR" => {
            lengths(cursor)?;
            plain(ColumnKind::Vector)
        }
        "UUID" => other("uuid"),
        "INET4" => other("inet4"),
        "INET6" => other("inet6"),
        _ => {
            cursor.rewind(at_type);
            return Err(cursor.unclear("a column type"));
        }
    })
}

/// CHAR and VARCHAR under all their names; the first word is taken already.
fn character_type(cursor: &mut Cursor<'_>, first: &str, at_type: usize) -> Result<Type, Unclear> {
    let mut national = first.starts_with('N');
    let mut varying = first.contains("VARCHAR");
    if first == "NATIONAL" {
        national = true;
        match cursor.takes_any(&["CHAR", "CHARACTER", "VARCHAR", "VARCHARACTER"]) {
            Some(word) => varying |= word.starts_with("VAR"),
            None => {
                cursor.rewind(at_type);
                return Err(cursor.unclear("a column type"));
            }
        }
    } else if first == "NCHAR" {
        varying |= cursor.takes(&["VARCHAR"]) || cursor.takes(&["VARCHARACTER"]);
    }
    varying |= cursor.takes(&["VARYING"]);
    let characters = lengths(cursor)?.0.unwrap_or(1);
    let form = if varying { StringForm::VarChar } else { StringForm::Char };
    let bytes_max = u32::try_from(characters).unwrap_or(u32::MAX);
    let binary = cursor.takes(&["BYTE"]);
    Ok(Type {
        kind: ColumnKind::String { form, bytes_max },
        members: Vec::new(),
        characters: !binary,
        binary,
        own_name: None,
        own_charset: national.then_some("utf8mb3"),
        serial: false,
    })
}
