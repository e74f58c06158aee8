//! Filters and rewrites of a channel: rewrite first, then filter, as MariaDB does on a replica.

use crate::event::Statement;

/// What is applied, and under which names.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Database names: from, to.
    pub rewrites: Vec<(String, String)>,
}

impl Rules {
    /// Rewrites a database's name.
    pub fn rewrite(&self, database: &mut String) {
        if let Some((_, to)) = self.rewrites.iter().find(|(from, _)| from == database) {
            to.clone_into(database);
        }
    }

    /// Whether rows of this table are applied (names already rewritten). rlog's own tables never are (rule 12).
    pub fn applies(&self, database: &str, table: &str) -> bool {
        let _ = database;
        !table.starts_with("rlog_")
    }

    /// Whether a statement or DDL is applied: one that names tables, when one of them is; else by its database.
    pub fn statement_applies(&self, statement: &Statement<'_>) -> bool {
        if statement.tables.is_empty() {
            return true;
        }
        statement.tables.iter().any(|(database, table)| self.applies(database, table))
    }

    /// Canonical text, empty for none.
    pub fn text(&self) -> String {
        self.rewrites.iter().map(|(from, to)| format!("rewrite-db={from}={to}")).collect::<Vec<_>>().join(" ")
    }
}
