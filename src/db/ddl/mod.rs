//! What the statements of a log say about tables: a narrow parser of MySQL's and MariaDB's DDL, and the schema that follows it.

use std::collections::BTreeMap;

use crate::event::TableDefinition;

/// A table as its DDL describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Columns and keys. Kinds are those that rows of a server of today have.
    pub definition: TableDefinition,
    /// Charset of columns that name none.
    pub charset: String,
    /// Collation of columns that name none; empty for the charset's default.
    pub collation: String,
}

/// The tables that are known, as of the statements seen so far.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    tables: BTreeMap<(String, String), Table>,
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

impl Schema {
    /// Nothing is known.
    pub fn new() -> Schema {
        Schema::default()
    }

    /// Follows a statement of a log. One that is no DDL changes nothing. Never fails: a table whose change cannot be followed is
    /// unknown from here, and the effect says so.
    pub fn apply(&mut self, default_database: &str, sql: &[u8]) -> Effect {
        let _ = (default_database, sql);
        Effect::default()
    }

    /// Follows the text of a `mysqldump --no-data` or of SHOW CREATE TABLE; the notes say what was passed over.
    pub fn load(&mut self, text: &str) -> Vec<String> {
        let _ = text;
        Vec::new()
    }

    /// What is known about a table.
    pub fn lookup(&self, database: &str, table: &str) -> Option<&Table> {
        self.tables.get(&(database.to_owned(), table.to_owned()))
    }
}
