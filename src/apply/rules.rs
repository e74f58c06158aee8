//! Filters and rewrites of a channel: rewrite first, then filter, as MariaDB does on a replica.

use crate::event::Statement;
use crate::event::filter::TableFilter;

/// What is applied, and under which names.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    filter: TableFilter,
}

impl Rules {
    /// With this filter.
    pub fn new(filter: TableFilter) -> Rules {
        Rules { filter }
    }

    /// Rewrites a database's name.
    pub fn rewrite(&self, database: &mut String) {
        let to = self.filter.rewrite(database);
        if to != database {
            *database = to.to_owned();
        }
    }

    /// Whether rows of this table are applied; the names are the source's. rlog's own tables never are (rule 12).
    pub fn rows_pass(&self, database: &str, table: &str) -> bool {
        !table.starts_with("rlog_") && self.filter.rows_pass(database, table)
    }

    /// Whether a statement or DDL is applied; the names are the source's.
    pub fn statement_passes(&self, statement: &Statement<'_>) -> bool {
        let own = !statement.tables.is_empty() && statement.tables.iter().all(|(_, table)| table.starts_with("rlog_"));
        !own && self.filter.statement_passes(&statement.database, &statement.tables)
    }

    /// Canonical text, empty for none.
    pub fn text(&self) -> String {
        self.filter.canonical()
    }
}
