//! The type map into SQLite: what a column of another engine is declared as, and how its values are stored.
//!
//! ```text
//! source                               declared        stored
//! TINYINT … BIGINT, YEAR, BIT(1…63)    INTEGER         integer
//! BIGINT UNSIGNED, BIT(64)             BIGINT          integer; above 2^63-1 a blob of the decimal digits, which no affinity changes
//! FLOAT, DOUBLE                        REAL            real (a FLOAT is widened exactly)
//! DECIMAL(p <= 15, s)                  DECIMAL(p,s)    integer or real: exact, since 15 digits survive
//! DECIMAL(p > 15, s)                   TEXT            text with all digits
//! DATE, TIME, DATETIME                 TEXT            as MySQL prints it, zero dates included
//! TIMESTAMP                            TEXT            the same, in UTC
//! CHAR, VARCHAR, TEXT                  TEXT            UTF-8 text; a blob where the bytes are not valid in their charset
//! BINARY, VARBINARY, BLOB              BLOB            blob
//! ENUM, SET                            TEXT            the members' text; INTEGER where the log does not name them
//! JSON                                 TEXT            JSON text
//! GEOMETRY, VECTOR                     BLOB            the source's bytes (SRID and WKB; binary32 numbers)
//! any column of SQLite                 as there        as there
//! ```
//!
//! A primary key of one INTEGER column becomes the rowid. Every other primary key, and unique keys, become indexes over
//! the whole columns (a prefix key of MySQL admits no more than that). Collations become BINARY: keys that differ
//! there differ here.

use rusqlite::types::{ToSqlOutput, ValueRef};

use super::quote;
use crate::event::text::{self, Form};
use crate::event::{Column, ColumnKind, Sign, TableDefinition, Value, json};

/// Largest precision of a decimal whose every value survives as binary64.
const DECIMAL_DIGITS_EXACT: u8 = 15;

/// The type that a column is declared with.
pub fn declared_type(column: &Column) -> String {
    match column.kind {
        ColumnKind::Int { bytes: 8, sign: Sign::Unsigned } | ColumnKind::Bit { bits: 64 } => "BIGINT".into(),
        ColumnKind::Int { .. } | ColumnKind::Year | ColumnKind::Bit { .. } => "INTEGER".into(),
        ColumnKind::Float | ColumnKind::Double => "REAL".into(),
        ColumnKind::Decimal { precision, scale } if precision <= DECIMAL_DIGITS_EXACT => {
            format!("DECIMAL({precision},{scale})")
        }
        ColumnKind::String { .. } if column.is_binary() == Some(true) => "BLOB".into(),
        ColumnKind::Enum | ColumnKind::Set if column.members.is_empty() => "INTEGER".into(),
        ColumnKind::Geometry | ColumnKind::Vector => "BLOB".into(),
        // The type of a SQLite column is free text; only what cannot end the declaration is taken over.
        ColumnKind::Any => column
            .sql_type
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '(' | ')' | ','))
            .collect(),
        _ => "TEXT".into(),
    }
}

/// CREATE TABLE and CREATE UNIQUE INDEX statements for `table` under the name `name`.
pub fn create_table(table: &TableDefinition, name: &str) -> Vec<String> {
    let mut sql = format!("CREATE TABLE {} (", quote(name));
    let rowid_alias = match table.primary_key.as_slice() {
        [part] => table
            .columns
            .get(part.column as usize)
            .filter(|column| declared_type(column) == "INTEGER")
            .map(|_| part.column as usize),
        _ => None,
    };
    for (index, column) in table.columns.iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        if rowid_alias == Some(index) {
            sql.push_str(&format!("{} INTEGER PRIMARY KEY", quote(&column.name)));
            continue;
        }
        let in_key = table.primary_key.iter().any(|part| part.column as usize == index);
        sql.push_str(&column_definition(column, in_key));
    }
    if rowid_alias.is_none() && !table.primary_key.is_empty() {
        sql.push_str(", PRIMARY KEY (");
        sql.push_str(&column_list(table, &table.primary_key));
        sql.push(')');
    }
    sql.push(')');
    let mut out = vec![sql];
    for key in table.unique_keys.iter().filter(|key| !key.parts.is_empty()) {
        out.push(format!(
            "CREATE UNIQUE INDEX {} ON {} ({})",
            quote(&index_name(name, &key.name)),
            quote(name),
            column_list(table, &key.parts)
        ));
    }
    out
}

/// A column as CREATE TABLE and ADD COLUMN have it.
pub fn column_definition(column: &Column, in_key: bool) -> String {
    let mut sql = format!("{} {}", quote(&column.name), declared_type(column));
    if in_key || column.nullable == Some(false) {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = default_of(column) {
        sql.push_str(" DEFAULT ");
        sql.push_str(&default);
    }
    sql
}

/// Indexes of SQLite share one name space, those of MySQL are per table.
pub fn index_name(table: &str, index: &str) -> String {
    format!("{table}_{index}")
}

fn column_list(table: &TableDefinition, parts: &[crate::event::KeyPart]) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push_str(", ");
        }
        if let Some(column) = table.columns.get(part.column as usize) {
            out.push_str(&quote(&column.name));
        }
    }
    out
}

/// A default in SQLite's words; `None` for none, or one that has none here.
pub fn default_of(column: &Column) -> Option<String> {
    let text = column.default_sql.trim();
    if text.is_empty() || column.kind == ColumnKind::Any {
        return None;
    }
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    };
    if text.eq_ignore_ascii_case("null") || number(text) {
        return Some(text.to_owned());
    }
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    // A backslash escape would have to be undone by MySQL's rules; such defaults are rare and are left out.
    let plain = !inner.contains('\\') && !inner.replace("''", "").contains('\'');
    if !plain {
        return None;
    }
    match column.kind {
        ColumnKind::Int { .. }
        | ColumnKind::Float
        | ColumnKind::Double
        | ColumnKind::Year
        | ColumnKind::Decimal { .. } => number(inner).then(|| inner.to_owned()),
        ColumnKind::Bit { .. } => None,
        _ => Some(format!("'{inner}'")),
    }
}

/// What a value becomes; text that has to be written first goes through `scratch`. `Err`: why it has no form here.
#[inline]
pub fn stored<'a>(
    value: Value<'a>,
    column: &'a Column,
    scratch: &'a mut Vec<u8>,
) -> Result<ValueRef<'a>, &'static str> {
    Ok(match value {
        Value::Null => ValueRef::Null,
        Value::Int(value) => ValueRef::Integer(value),
        Value::UInt(value) => return Ok(unsigned(value, scratch)),
        Value::Float(value) => ValueRef::Real(f64::from(value)),
        Value::Double(value) => ValueRef::Real(value),
        Value::Year(year) => ValueRef::Integer(i64::from(year)),
        Value::Bit { bytes, .. } => {
            let value = bytes.iter().take(8).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            return Ok(unsigned(value, scratch));
        }
        Value::String(bytes) => match column.is_binary() {
            Some(true) => ValueRef::Blob(bytes),
            _ if is_utf8_charset(&column.charset) => utf8_or_blob(bytes),
            _ => return Ok(rendered(value, column, scratch)),
        },
        // Of a SQLite source, where a text may be of any bytes and differs from a blob of the same.
        Value::Text(bytes) => ValueRef::Text(bytes),
        Value::Blob(bytes) | Value::Geometry(bytes) | Value::Vector(bytes) => ValueRef::Blob(bytes),
        Value::Enum(index) if column.members.is_empty() => ValueRef::Integer(i64::from(index)),
        Value::Set(bits) if column.members.is_empty() => return Ok(unsigned(bits, scratch)),
        Value::JsonDiff(_) => return Err("holds a JSON diff, which needs the whole value before it"),
        Value::Absent | Value::Unchanged => return Err("is not in the image"),
        Value::Decimal { .. }
        | Value::Date(_)
        | Value::Time { .. }
        | Value::DateTime { .. }
        | Value::Timestamp { .. }
        | Value::Enum(_)
        | Value::Set(_)
        | Value::Json(_) => return Ok(rendered(value, column, scratch)),
    })
}

/// A value in its canonical text, or as the bytes that it is where it has none.
fn rendered<'a>(value: Value<'a>, column: &'a Column, scratch: &'a mut Vec<u8>) -> ValueRef<'a> {
    let rendered = text::render(value, column, scratch);
    match rendered.form {
        Form::Bytes => ValueRef::Blob(rendered.bytes),
        _ => ValueRef::Text(rendered.bytes),
    }
}

/// A JSON value that the log gives as diffs against the value before.
pub fn patched<'a>(before: &[u8], diffs: &[u8], scratch: &'a mut Vec<u8>) -> Result<ValueRef<'a>, &'static str> {
    scratch.clear();
    match json::write_patched(before, diffs, scratch) {
        Ok(()) => Ok(ValueRef::Text(scratch)),
        Err(_) => Err("holds a JSON diff that does not fit the value before it"),
    }
}

/// Binds a value to parameter `index` (from 1).
#[inline]
pub fn bind(statement: &mut rusqlite::Statement<'_>, index: usize, value: ValueRef<'_>) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(value))
}

fn unsigned(value: u64, scratch: &mut Vec<u8>) -> ValueRef<'_> {
    match i64::try_from(value) {
        Ok(value) => ValueRef::Integer(value),
        Err(_) => {
            scratch.clear();
            scratch.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            ValueRef::Blob(scratch)
        }
    }
}

#[inline]
fn is_utf8_charset(charset: &str) -> bool {
    matches!(charset, "" | "utf8mb4" | "utf8mb3" | "utf8" | "ascii")
}

#[inline]
fn utf8_or_blob(bytes: &[u8]) -> ValueRef<'_> {
    // SQLite's text ends for most of its functions at the first NUL, but is stored and compared whole.
    if std::str::from_utf8(bytes).is_ok() { ValueRef::Text(bytes) } else { ValueRef::Blob(bytes) }
}
