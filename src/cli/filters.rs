//! Which tables are wanted, as it is asked for on the command line and in a channel's section: the same options for every tool
//! that filters. What they mean, and their order, is in `event::filter`.

use crate::error::{Error, Result};
use crate::event::filter::FilterRules;

/// The options.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only these tables: globs over `database.table`, or over the table alone
    ///
    /// May be repeated; several are separated by commas. `*`, `?` and `[...]` are what they are in a shell.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub tables: Vec<String>,

    /// Not these tables
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub ignore_tables: Vec<String>,

    /// Rename a database, before all filters
    #[arg(long, value_name = "FROM=TO", value_delimiter = ',')]
    pub rewrite_db: Vec<String>,

    /// Only these databases (replicate_do_db)
    ///
    /// As in MariaDB: rows are judged by the database of their table, statements by the default database.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub do_db: Vec<String>,

    /// Not these databases (replicate_ignore_db); without effect when there is any --do-db
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub ignore_db: Vec<String>,

    /// Only these tables (replicate_do_table)
    ///
    /// The first of --do-table, --ignore-table, --wild-do-table and --wild-ignore-table that has a table decides.
    #[arg(long, value_name = "DB.TABLE", value_delimiter = ',')]
    pub do_table: Vec<String>,

    /// Not these tables (replicate_ignore_table)
    #[arg(long, value_name = "DB.TABLE", value_delimiter = ',')]
    pub ignore_table: Vec<String>,

    /// Only tables like these: `%` and `_` as LIKE has them (replicate_wild_do_table)
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub wild_do_table: Vec<String>,

    /// Not tables like these (replicate_wild_ignore_table)
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub wild_ignore_table: Vec<String>,
}

impl Filters {
    /// The rules; a rename without two names is a usage error (64).
    pub fn rules(&self) -> Result<FilterRules> {
        let rename = |text: &String| {
            text.split_once('=')
                .filter(|(from, to)| !from.is_empty() && !to.is_empty())
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .ok_or_else(|| Error::usage(format!("--rewrite-db {text} is not FROM=TO")))
        };
        Ok(FilterRules {
            rewrite_db: self.rewrite_db.iter().map(rename).collect::<Result<_>>()?,
            do_db: self.do_db.clone(),
            ignore_db: self.ignore_db.clone(),
            do_table: self.do_table.clone(),
            ignore_table: self.ignore_table.clone(),
            wild_do_table: self.wild_do_table.clone(),
            wild_ignore_table: self.wild_ignore_table.clone(),
            tables: self.tables.clone(),
            ignore_tables: self.ignore_tables.clone(),
        })
    }
}
