//! Names: SQLite has no databases, so a table keeps its bare name, or is named `db.table` (`--qualify`).
//!
//! Which source database a name belongs to is remembered in the target (facts of the channel with the empty name), so that a second
//! database with the same table name is refused (78) whenever it comes, and not merged into the first.

use rusqlite::OptionalExtension;

use super::plan::failure;
use crate::db::sqlite::Connection;
use crate::error::Error;
use crate::target::{Failure, Outcome};

/// Channel of facts that belong to the target as a whole. No channel can have this name.
pub(super) const WHOLE_TARGET: &str = "";

/// The name of a table here.
pub(super) fn name_of(connection: &Connection, qualify: bool, database: &str, table: &str) -> Outcome<String> {
    let name = if qualify && !database.is_empty() { format!("{database}.{table}") } else { table.to_owned() };
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("sqlite_") || lower.starts_with("rlog_") || name.contains('\0') || name.is_empty() {
        return Err(Failure::from(
            Error::config(format!("table name {name} is reserved in a SQLite target"))
                .hint("leave the table out (--ignore-tables) or use --qualify"),
        ));
    }
    let fact = format!("table {lower}");
    let plain = connection.plain();
    let held: Option<String> = plain
        .query_row("SELECT value FROM main.rlog_channel WHERE channel=?1 AND name=?2", [WHOLE_TARGET, &fact], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|error| failure(&error))?;
    // The table's own case counts too: to MySQL on Linux `T` and `t` are two tables.
    let owner = format!("{database}.{table}");
    match held {
        Some(held) if held == owner => Ok(name),
        Some(held) => Err(Failure::from(
            Error::config(format!("tables {held} and {owner} would both be {name} in this target"))
                .hint("--rewrite-db or --qualify (tables named db.table) says what is meant"),
        )),
        None => {
            super::state::set_fact(plain, WHOLE_TARGET, &fact, Some(&owner)).map_err(|error| failure(&error))?;
            Ok(name)
        }
    }
}

/// Forgets that a name belongs to a database (the table was dropped or renamed).
pub(super) fn release(connection: &Connection, name: &str) -> Outcome {
    let fact = format!("table {}", name.to_ascii_lowercase());
    super::state::set_fact(connection.plain(), WHOLE_TARGET, &fact, None).map_err(|error| failure(&error))
}
