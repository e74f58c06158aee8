//! What a statement does to tables, step by step: for appliers that make the same changes in another engine's words.

use std::borrow::Cow;

use super::cursor::{Cursor, Unclear};
use super::parse::{self, Action, Change, Item, NewKey};
use super::{Session, charset};
use crate::db::ddl::token::Dialect;

/// Database and table.
type Name = (String, String);

/// An index that admits duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name; may be empty.
    pub name: String,
    /// Its columns, prefixes left out.
    pub columns: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A table is created, its definition being what the schema then knows.
    Create {
        /// Which.
        table: Name,
        /// Without an error when it is there.
        if_not_exists: bool,
        /// Indexes besides its keys.
        indexes: Vec<Index>,
    },
    /// A table goes, if it is there.
    Drop(Name),
    /// A table gets another name, perhaps in another database.
    Rename(Name, Name),
    /// A table changes to what the schema then knows.
    Alter {
        /// Which.
        table: Name,
        /// Columns that keep their values under another name: old, new.
        renames: Vec<(String, String)>,
        /// Indexes that are added.
        indexes: Vec<Index>,
        /// Indexes that go, by name; may be unique keys.
        dropped: Vec<String>,
    },
    /// All rows of a table go.
    Truncate(Name),
    /// All tables of a database go.
    DropDatabase(String),
}

/// What a statement is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Such as `create table`; empty when it is no DDL that is known.
    pub kind: &'static str,
    /// What it does to tables, in order; none when it concerns none.
    pub steps: Vec<Step>,
    /// Tables whose definitions before the statement decide what it does.
    pub needs: Vec<(String, String)>,
}

/// Reads a statement. `Err`: why its steps cannot be told.
pub fn steps(session: &Session<'_>, mariadb: bool, sql: &[u8]) -> Result<Steps, String> {
    let client = charset::charset_of(session.client).unwrap_or("utf8mb4");
    let text = match charset::decoder(client).utf8(sql, &mut Vec::new()) {
        Some(text) => Cow::Owned(text.to_owned()),
        None => String::from_utf8_lossy(sql),
    };
    let dialect = Dialect {
        ansi_quotes: session.sql_mode & super::ANSI_QUOTES != 0,
        no_backslash: session.sql_mode & super::NO_BACKSLASH_ESCAPES != 0,
        mariadb: Some(mariadb),
    };
    let statement = parse::statement(&mut Cursor::new(&text, dialect), session.database);
    let mut out = Steps { kind: statement.kind, ..Steps::default() };
    for change in statement.changes.map_err(|Unclear(why)| why)? {
        match change {
            Change::Use(_) | Change::CreateDatabase(..) | Change::AlterDatabase(..) => {}
            Change::DropDatabase(name) => out.steps.push(Step::DropDatabase(name)),
            Change::Create(new) => {
                let indexes = new.items.iter().filter_map(|item| match item {
                    Item::Index(index) => plain(index),
                    _ => None,
                });
                let indexes = indexes.collect();
                out.steps.push(Step::Create { table: new.table, if_not_exists: new.if_not_exists, indexes });
            }
            Change::Like { table, other, if_not_exists } => {
                out.needs.push(other);
                out.steps.push(Step::Create { table, if_not_exists, indexes: Vec::new() });
            }
            Change::Drop(table) => out.steps.push(Step::Drop(table)),
            Change::Rename(from, to) => {
                out.needs.extend([from.clone(), to.clone()]);
                out.steps.push(Step::Rename(from, to));
            }
            Change::Alter(table, actions) => {
                out.needs.push(table.clone());
                alter(table, actions, &mut out.steps);
            }
        }
    }
    if out.kind == "truncate table" {
        out.steps.extend(statement.tables.into_iter().map(Step::Truncate));
    }
    Ok(out)
}

fn alter(table: Name, actions: Vec<Action>, steps: &mut Vec<Step>) {
    let (mut renames, mut indexes, mut dropped, mut to) = (Vec::new(), Vec::new(), Vec::new(), None);
    for action in actions {
        match action {
            Action::Change { old, column, .. } if old != column.column.name => {
                renames.push((old, column.column.name));
            }
            Action::RenameColumn { old, new } => renames.push((old, new)),
            Action::AddIndex(index) => indexes.extend(plain(&index)),
            Action::DropKey(name) => dropped.push(name),
            Action::RenameTable(name) => to = Some(name),
            _ => {}
        }
    }
    steps.push(Step::Alter { table: table.clone(), renames, indexes, dropped });
    if let Some(to) = to {
        steps.push(Step::Rename(table, to));
    }
}

/// An index over columns; one with an expression has no equal elsewhere and only speed is lost.
fn plain(key: &NewKey) -> Option<Index> {
    let columns = key.parts.as_ref()?.iter().map(|(column, _)| column.clone()).collect();
    Some(Index { name: key.name.clone(), columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Vec<Step> {
        steps(&Session { database: "d", ..Session::default() }, true, sql.as_bytes()).unwrap().steps
    }

    fn name(table: &str) -> Name {
        ("d".into(), table.into())
    }

    #[test]
    fn steps_tell_what_happens_to_tables() {
        let index = |name: &str, column: &str| Index { name: name.into(), columns: vec![column.into()] };
        assert_eq!(
            of("create table if not exists t (a int primary key, b text, key kb (b(10)), unique (a))"),
            [Step::Create { table: name("t"), if_not_exists: true, indexes: vec![index("kb", "b")] }]
        );
        assert_eq!(of("create index i on t (a)"), of("alter table t add key i (a)"));
        assert_eq!(of("drop table a, d.b"), [Step::Drop(name("a")), Step::Drop(name("b"))]);
        assert_eq!(of("rename table a to b"), of("alter table a rename to b")[1..]);
        assert_eq!(of("truncate t"), [Step::Truncate(name("t"))]);
        assert_eq!(
            of("alter table t change a c int, drop index i"),
            [Step::Alter {
                table: name("t"),
                renames: vec![("a".into(), "c".into())],
                indexes: vec![],
                dropped: vec!["i".into()]
            }]
        );
        assert_eq!(of("create view v as select 1"), []);
    }
}
