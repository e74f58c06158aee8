//! What statements say about tables: a narrow parser of MySQL's and MariaDB's DDL, and the schema that follows it.
//!
//! Logs often do not name columns (MariaDB by default says nothing about them). Then names, signs, members and keys come from here: from the
//! CREATE and ALTER statements in the log, or from a dump's, followed through the log's.
//!
//! Promise: nothing here fails. A statement that cannot be followed makes the tables that it names unknown, with a reason for people; from
//! the next CREATE TABLE they are known again. What is known may still be wrong (a table created before the log began
//! under another definition), so a definition is made only where count and types of the log's columns agree with it.
//!
//! [`token`] reads words, [`cursor`] walks them, [`mod@column`] knows types, [`parse`] and [`alter`] statements; [`schema`] applies them to each
//! [`table`], [`mod@steps`] tells them to appliers, and [`changes`] says which tables other statements change.

mod alter;
mod changes;
mod column;
mod cursor;
mod parse;
mod schema;
mod steps;
mod table;
#[cfg(test)]
mod tests;
mod token;

use std::borrow::Cow;

use token::Dialect;

pub use changes::{Changed, changed, inserted_texts};
pub use schema::Schema;
pub use steps::{Index, Step, Steps, steps};
pub use table::Table;

use crate::event::{Statement, charset};

/// Bit of `sql_mode`: `"` quotes names.
const ANSI_QUOTES: u64 = 1 << 2;
/// Bit of `sql_mode`: backslashes in strings are only that.
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// The session that a statement ran in, as far as it changes how its text is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session<'a> {
    /// Default database.
    pub database: &'a str,
    /// Bits of sql_mode.
    pub sql_mode: u64,
    /// Collation number whose charset the text is in; 0: UTF-8.
    pub client: u32,
    /// Collation number that new databases have; 0: not known.
    pub server: u32,
}

impl<'a> Session<'a> {
    /// That of a statement in a log.
    pub fn of(statement: &'a Statement<'_>) -> Session<'a> {
        let (client, _, server) = statement.charset.unwrap_or_default();
        Session {
            database: &statement.database,
            sql_mode: statement.sql_mode.unwrap_or(0),
            client: u32::from(client),
            server: u32::from(server),
        }
    }
}

/// What a statement did to a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// What kind of DDL, such as `create table`; empty when the statement is none.
    pub kind: &'static str,
    /// Tables that it names, with the default database filled in.
    pub tables: Vec<(String, String)>,
    /// For people: what could not be followed, and whose shape is therefore unknown now.
    pub note: Option<String>,
}

impl Session<'_> {
    fn dialect(&self, mariadb: Option<bool>) -> Dialect {
        Dialect {
            ansi_quotes: self.sql_mode & ANSI_QUOTES != 0,
            no_backslash: self.sql_mode & NO_BACKSLASH_ESCAPES != 0,
            mariadb,
        }
    }

    /// A statement's text in UTF-8. Bytes that are none in the client's charset are replaced.
    fn text<'a>(&self, sql: &'a [u8]) -> Cow<'a, str> {
        let client = charset::charset_of(self.client).unwrap_or("utf8mb4");
        if (client.starts_with("utf8") || sql.is_ascii())
            && let Ok(text) = simdutf8::basic::from_utf8(sql)
        {
            return Cow::Borrowed(text);
        }
        match charset::decoder(client).utf8(sql, &mut Vec::new()) {
            Some(text) => Cow::Owned(text.to_owned()),
            None => String::from_utf8_lossy(sql),
        }
    }
}
