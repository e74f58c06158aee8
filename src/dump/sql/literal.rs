//! Names, values and conditions in the dialects of SQL.
//!
//! A client program (`mariadb`, `mysql`, `sqlite3`, `psql`) reads what is written here before a server does, and looks for
//! commands of its own outside of quotes. So nothing that comes from a log stands outside of quotes, and within quotes
//! there is no backslash and no control character but newline and tab: what has others is written in hexadecimal.

use crate::dump::escape::{controls, put_hex};
use crate::error::{Error, Result};
use crate::event::charset;
use crate::event::table::StringForm;
use crate::event::text::{self, Form, render};
use crate::event::{Column, ColumnKind, Value};

/// A dialect of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MariaDB.
    MariaDb,
    /// MySQL.
    MySql,
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// The dialect of a source family.
    pub fn of_family(family: &str) -> Option<Dialect> {
        Some(match family {
            "mariadb" => Dialect::MariaDb,
            "mysql" => Dialect::MySql,
            "sqlite" => Dialect::Sqlite,
            "postgres" => Dialect::Postgres,
            _ => return None,
        })
    }

    /// MySQL or MariaDB.
    pub fn is_mysql_family(self) -> bool {
        matches!(self, Dialect::MariaDb | Dialect::MySql)
    }

    /// Appends a quoted name.
    pub fn put_name(self, out: &mut Vec<u8>, name: &str) -> Result<()> {
        if name.is_empty() || name.chars().any(|c| controls(c) && c != '\n' && c != '\t') || name.contains('\\') {
            // No server accepts a NUL in a name, and no real name has the others.
            if name.is_empty() || name.contains('\0') || name.contains('\\') || !self.is_mysql_family() {
                return Err(Error::damage(format!(
                    "the name {name:?} cannot be written so that every client reads it right"
                ))
                .hint("`rlog-dump --format json` shows the rows"));
            }
        }
        let quote = if self.is_mysql_family() { b'`' } else { b'"' };
        out.push(quote);
        for byte in name.bytes() {
            if byte == quote {
                out.push(quote);
            }
            out.push(byte);
        }
        out.push(quote);
        Ok(())
    }

    /// Appends a table's name. SQLite has no databases: there a table keeps its bare name.
    pub fn put_table(self, out: &mut Vec<u8>, database: &str, table: &str) -> Result<()> {
        if self != Dialect::Sqlite && !database.is_empty() {
            self.put_name(out, database)?;
            out.push(b'.');
        }
        self.put_name(out, table)
    }

    /// Appends text as a literal.
    pub fn put_text(self, out: &mut Vec<u8>, text: &str) {
        if text.chars().any(|c| c == '\\' || (controls(c) && c != '\n' && c != '\t')) {
            match self {
                Dialect::MariaDb | Dialect::MySql => {
                    out.extend_from_slice(b"_utf8mb4 X'");
                    put_hex(out, text.as_bytes());
                    out.push(b'\'');
                }
                Dialect::Sqlite => {
                    out.extend_from_slice(b"CAST(X'");
                    put_hex(out, text.as_bytes());
                    out.extend_from_slice(b"' AS TEXT)");
                }
                Dialect::Postgres => {
                    out.extend_from_slice(b"convert_from('\\x");
                    put_hex(out, text.as_bytes());
                    out.extend_from_slice(b"'::bytea, 'UTF8')");
                }
            }
            return;
        }
        out.push(b'\'');
        for byte in text.bytes() {
            if byte == b'\'' {
                out.push(byte);
            }
            out.push(byte);
        }
        out.push(b'\'');
    }

    /// Appends bytes as a literal.
    pub fn put_bytes(self, out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(if self == Dialect::Postgres { b"'\\x" } else { b"X'" });
        put_hex(out, bytes);
        out.extend_from_slice(if self == Dialect::Postgres { b"'::bytea".as_slice() } else { b"'" });
    }

    /// Appends a value that is there (NULL included) as a literal.
    pub fn put_value(self, out: &mut Vec<u8>, value: Value<'_>, column: &Column, scratch: &mut Vec<u8>) -> Result<()> {
        match value {
            Value::Absent | Value::Unchanged => {
                return Err(Error::damage(format!("the log does not have column {}", column.name)));
            }
            Value::Null => out.extend_from_slice(b"NULL"),
            // The exact value of a binary32, so that comparing it as a binary64 finds it again.
            Value::Float(value) if value.is_finite() => text::write_double(out, f64::from(value), false),
            // The error value, which is not the member '' even where there is one.
            Value::Enum(0) if self.is_mysql_family() => out.push(b'0'),
            Value::Decimal { .. } if self == Dialect::Sqlite => {
                // As text: the column's affinity decides, and nothing is lost before it does.
                out.push(b'\'');
                out.extend_from_slice(render(value, column, scratch).bytes);
                out.push(b'\'');
            }
            Value::UInt(number) if self == Dialect::Sqlite && number > i64::MAX as u64 => {
                out.extend_from_slice(format!("'{number}'").as_bytes());
            }
            Value::Timestamp { .. } if self == Dialect::Postgres => {
                out.push(b'\'');
                out.extend_from_slice(render(value, column, scratch).bytes);
                out.extend_from_slice(b"+00'");
            }
            value => {
                let rendered = render(value, column, scratch);
                match (rendered.form, rendered.text()) {
                    (Form::Integer | Form::Number, Some(_)) => out.extend_from_slice(rendered.bytes),
                    (Form::JsonDiff, _) => {
                        return Err(Error::damage(format!(
                            "column {} has a JSON diff in place of a value",
                            column.name
                        )));
                    }
                    (_, Some(text)) => self.put_text(out, text),
                    (_, None) => {
                        // Characters that are not valid in their charset: the bytes, under the charset's name.
                        if self.is_mysql_family()
                            && matches!(value, Value::String(_))
                            && let Some(charset) = charset::canonical(&column.charset).filter(|name| *name != "binary")
                        {
                            out.push(b'_');
                            out.extend_from_slice(charset.as_bytes());
                            out.push(b' ');
                        }
                        self.put_bytes(out, rendered.bytes);
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends a condition that is true of exactly this value, NULL included. Of a key column the column's own comparison is used,
    /// which its index answers; elsewhere letter case, accents and trailing blanks count.
    pub fn put_match(
        self,
        out: &mut Vec<u8>,
        value: Value<'_>,
        column: &Column,
        in_key: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        if matches!(value, Value::Null) {
            self.put_name(out, &column.name)?;
            out.extend_from_slice(b" IS NULL");
            return Ok(());
        }
        // UUID, INET6 and the like have a text of their own and compare by it.
        let other = matches!(column.kind, ColumnKind::String { form: StringForm::Other, .. });
        let is_text = matches!(value, Value::String(_)) && column.charset != "binary" && !other;
        match (self, value) {
            (Dialect::MariaDb | Dialect::MySql, Value::String(bytes)) if is_text && !in_key => {
                out.extend_from_slice(b"CAST(");
                self.put_name(out, &column.name)?;
                out.extend_from_slice(b" AS BINARY) = ");
                // The column's own bytes; ASCII is the same in every charset but the wide ones.
                let wide = matches!(column.charset.as_str(), "ucs2" | "utf16" | "utf16le" | "utf32" | "swe7");
                match std::str::from_utf8(bytes) {
                    Ok(text) if text.is_ascii() && !wide => self.put_text(out, text),
                    _ => self.put_bytes(out, bytes),
                }
            }
            (Dialect::MariaDb | Dialect::MySql, Value::Enum(index)) if index == 0 || column.members.is_empty() => {
                self.put_name(out, &column.name)?;
                out.extend_from_slice(format!(" + 0 = {index}").as_bytes());
            }
            (Dialect::MariaDb | Dialect::MySql, Value::Set(bits)) => {
                self.put_name(out, &column.name)?;
                out.extend_from_slice(format!(" + 0 = {bits}").as_bytes());
            }
            (Dialect::MySql, Value::Json(_)) => {
                // By what it means, or by its text: decimals and dates within are not equal to those in a text.
                out.push(b'(');
                self.put_name(out, &column.name)?;
                out.extend_from_slice(b" = CAST(");
                self.put_value(out, value, column, scratch)?;
                out.extend_from_slice(b" AS JSON) OR CAST(");
                self.put_name(out, &column.name)?;
                out.extend_from_slice(b" AS CHAR) = ");
                self.put_value(out, value, column, scratch)?;
                out.push(b')');
            }
            _ => {
                self.put_name(out, &column.name)?;
                out.extend_from_slice(b" = ");
                self.put_value(out, value, column, scratch)?;
            }
        }
        Ok(())
    }

    /// Whether values of the column can be compared for being the same.
    pub fn compares(self, column: &Column) -> bool {
        match column.kind {
            // MySQL compares vectors with nothing, geometries by what they mean.
            ColumnKind::Vector | ColumnKind::Geometry => !self.is_mysql_family(),
            _ => true,
        }
    }
}

/// A text that may stand in a one-line comment of any dialect and client.
pub fn comment(text: &str) -> String {
    crate::dump::escape::one_line(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_literal_early() {
        for dialect in [Dialect::MariaDb, Dialect::MySql, Dialect::Sqlite, Dialect::Postgres] {
            for text in ["it's", "\\' or 1=1 -- ", "\\! id", "a\0b", "'\n\\. file\n", "\u{1b}[2J"] {
                let mut out = Vec::new();
                dialect.put_text(&mut out, text);
                let out = String::from_utf8(out).unwrap();
                // Outside of quotes there is only what this module wrote.
                let outside: String = out.split('\'').step_by(2).collect();
                assert!(!outside.contains(['\\', '!', '\n', '-']), "{out}");
                assert!(!out.contains('\\') || dialect == Dialect::Postgres, "{out}");
            }
            let mut out = Vec::new();
            dialect.put_name(&mut out, "a`b\"c").unwrap();
            let wanted = if dialect.is_mysql_family() { "`a``b\"c`" } else { "\"a`b\"\"c\"" };
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
            assert!(dialect.put_name(&mut Vec::new(), "").is_err());
            assert!(dialect.put_name(&mut Vec::new(), "a\0b").is_err());
            assert!(dialect.put_name(&mut Vec::new(), "a\\b").is_err());
        }
    }
}
