//! DDL of MySQL and MariaDB, done to SQLite tables in the open transaction.
//!
//! What a table looked like on the source is remembered in the target (a fact of the whole target per table), so that an ALTER can be
//! translated from what the table was and is, also by a later run. Only foreign keys that change rows (CASCADE, SET NULL, SET DEFAULT)
//! are kept, and only when the source's log does not hold what they did: what they would check, the source has checked.

use std::sync::OnceLock;

use regex::Regex;

use super::names::{self, WHOLE_TARGET};
use super::plan::{failure, table_exists};
use super::session::SqliteSession;
use super::state;
use crate::db::ddl::{Index, Schema, Session as DdlSession, Step, Steps, steps};
use crate::db::sqlite::{quote, translate, types};
use crate::error::{Class, Error};
use crate::event::{Statement, TableDefinition};
use crate::target::{Cause, DdlOutcome, Failure, Outcome};

impl SqliteSession {
    /// Does what a statement says, in SQLite's words.
    pub(super) fn translate(&mut self, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        let mariadb = self.settings.source_family == "mariadb";
        let context = DdlSession::of(statement);
        let Steps { kind, steps, needs } = steps(&context, mariadb, &statement.sql)
            .map_err(|why| conflict(format!("this statement cannot be translated: {why}"), statement))?;
        if steps.is_empty() {
            return Ok(match kind {
                "create database" | "alter database" | "create temporary table" | "drop temporary table" => {
                    DdlOutcome::Applied
                }
                "" => DdlOutcome::PassedOver(format!("left out, since it concerns no table: {}", shortened(statement))),
                kind => DdlOutcome::PassedOver(format!("{kind} is left out: {}", shortened(statement))),
            });
        }
        self.schema_touched = true;
        let mut schema = Schema::new();
        schema.set_family(mariadb);
        for (database, table) in &needs {
            if let Some(definition) = self.remembered(database, table)? {
                schema.put(TableDefinition { database: database.clone(), table: table.clone(), ..definition });
            }
        }
        let known_before = schema.clone();
        schema.apply_in(&context, &statement.sql);
        for (number, step) in steps.iter().enumerate() {
            // The schema is that after the whole statement, so a table is looked up under the name that it has then.
            let later = |table: &(String, String)| {
                steps.get(number + 1..).unwrap_or(&[]).iter().fold(table.clone(), |name, step| match step {
                    Step::Rename(from, to) if *from == name => to.clone(),
                    _ => name,
                })
            };
            match step {
                Step::Create { table, if_not_exists, indexes } => {
                    let name = self.mapped(table, statement)?;
                    let exists = table_exists(&self.connection, &name)?;
                    if exists && *if_not_exists {
                        continue;
                    }
                    let (database, last_name) = later(table);
                    let definition = schema.lookup(&database, &last_name).map(|found| found.definition.clone());
                    let definition = definition.ok_or_else(|| {
                        let why =
                            schema.why_unknown(&database, &last_name).unwrap_or("its columns are not known").to_owned();
                        conflict(format!("table {}.{} cannot be created: {why}", table.0, table.1), statement)
                    })?;
                    self.create_translated(&definition, &name, indexes, statement)?;
                    self.remember(table, &definition)?;
                }
                Step::Drop(table) => {
                    let name = self.mapped(table, statement)?;
                    if table_exists(&self.connection, &name)? {
                        self.run_sql(&format!("DROP TABLE {}", quote(&name)), statement)?;
                    }
                    self.forget_table(table, &name)?;
                }
                Step::DropDatabase(database) => {
                    for (table, name) in self.tables_of(database)? {
                        if table_exists(&self.connection, &name)? {
                            self.run_sql(&format!("DROP TABLE {}", quote(&name)), statement)?;
                        }
                        self.forget_table(&(database.clone(), table), &name)?;
                    }
                }
                Step::Rename(from, to) => {
                    let old = self.mapped(from, statement)?;
                    names::release(&self.connection, &old)?;
                    let new = self.mapped(to, statement)?;
                    if old != new {
                        self.run_sql(&format!("ALTER TABLE {} RENAME TO {}", quote(&old), quote(&new)), statement)?;
                    }
                    if let Some(definition) = self.remembered(&from.0, &from.1)? {
                        self.remember(to, &definition)?;
                        self.forget_definition(from)?;
                    }
                }
                Step::Truncate(table) => {
                    let name = self.mapped(table, statement)?;
                    self.run_sql(&format!("DELETE FROM {}", quote(&name)), statement)?;
                }
                Step::Alter { table, renames, indexes, dropped } => {
                    let before = known_before.lookup(&table.0, &table.1).map(|found| found.definition.clone());
                    let (database, last_name) = later(table);
                    let after = schema.lookup(&database, &last_name).map(|found| found.definition.clone());
                    let (Some(before), Some(after)) = (before, after) else {
                        return Err(conflict(
                            format!("what {}.{} looked like before is not known", table.0, table.1),
                            statement,
                        ));
                    };
                    let name = self.mapped(table, statement)?;
                    self.alter(&name, &before, &after, renames, statement)?;
                    for index in dropped {
                        let index = quote(&types::index_name(&name, index));
                        self.run_sql(&format!("DROP INDEX IF EXISTS {index}"), statement)?;
                    }
                    for sql in indexes.iter().filter_map(|index| translate::create_index(&after, &name, index)) {
                        self.run_sql(&sql, statement)?;
                    }
                    self.remember(table, &after)?;
                }
            }
        }
        self.drop_plans();
        Ok(DdlOutcome::Applied)
    }

    fn create_translated(
        &mut self,
        definition: &TableDefinition,
        name: &str,
        indexes: &[Index],
        statement: &Statement<'_>,
    ) -> Outcome {
        let mut sql = types::create_table(definition, name);
        if !self.cascades_in_log {
            let clauses = self.cascades(definition, statement)?;
            if let (Some(create), false) = (sql.first_mut(), clauses.is_empty()) {
                create.truncate(create.len() - 1);
                create.push_str(&format!(", {})", clauses.join(", ")));
            }
        }
        sql.extend(indexes.iter().filter_map(|index| translate::create_index(definition, name, index)));
        sql.iter().try_for_each(|sql| self.run_sql(sql, statement))
    }

    fn alter(
        &mut self,
        name: &str,
        before: &TableDefinition,
        after: &TableDefinition,
        renames: &[(String, String)],
        statement: &Statement<'_>,
    ) -> Outcome {
        if !self.cascades_in_log && changes_rows(&String::from_utf8_lossy(&statement.sql)) {
            return Err(conflict(
                "a foreign key that changes rows cannot be added to a table that is there",
                statement,
            ));
        }
        let plain = self.connection.plain();
        let one =
            |sql: &str| plain.query_row(sql, [name], |row| row.get::<_, bool>(0)).map_err(|error| failure(&error));
        let has_rows = plain
            .query_row(&format!("SELECT EXISTS (SELECT 1 FROM {})", quote(name)), [], |row| row.get::<_, bool>(0))
            .map_err(|error| failure(&error))?;
        let steps = translate::alter(before, after, renames, name, has_rows)
            .map_err(|why| conflict(format!("this change cannot be made to rows that are there: {why}"), statement))?;
        if steps.iter().any(|sql| sql.starts_with("DROP TABLE")) {
            // Dropping a parent deletes its children, and a rebuilt child would lose the clause.
            let tied = "SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1)) OR EXISTS (SELECT 1 FROM sqlite_schema AS s, \
                        pragma_foreign_key_list(s.name) AS f WHERE s.type='table' AND f.\"table\"=?1 COLLATE NOCASE)";
            if one(tied)? {
                return Err(conflict("a table with foreign keys cannot be rebuilt", statement));
            }
        }
        // Indexes that admit duplicates are made again where their columns are still there.
        let kept: Vec<String> = {
            let mut statement = plain
                .prepare("SELECT sql FROM sqlite_schema WHERE type='index' AND tbl_name=?1 COLLATE NOCASE AND sql LIKE 'CREATE INDEX%'")
                .map_err(|error| failure(&error))?;
            let rows = statement.query_map([name], |row| row.get(0)).map_err(|error| failure(&error))?;
            rows.collect::<rusqlite::Result<_>>().map_err(|error| failure(&error))?
        };
        let rebuilt = steps.iter().any(|sql| sql.starts_with("DROP TABLE"));
        for sql in &steps {
            self.run_sql(sql, statement)?;
        }
        if rebuilt {
            for sql in &kept {
                // An index over a column that is gone goes too.
                let _ = self.connection.plain().execute_batch(sql);
            }
        }
        Ok(())
    }

    /// Foreign keys of a CREATE TABLE that change rows, as clauses for SQLite.
    fn cascades(&mut self, definition: &TableDefinition, statement: &Statement<'_>) -> Outcome<Vec<String>> {
        let sql = String::from_utf8_lossy(&statement.sql).into_owned();
        if !changes_rows(&sql) {
            return Ok(Vec::new());
        }
        static CLAUSE: OnceLock<Option<Regex>> = OnceLock::new();
        let clause = CLAUSE.get_or_init(|| {
            Regex::new(
                r"(?is)FOREIGN\s+KEY\s*(?:`[^`]*`|\w+)?\s*\(([^)]*)\)\s*REFERENCES\s+(?:(`[^`]+`|\w+)\s*\.\s*)?(`[^`]+`|\w+)\s*\(([^)]*)\)((?:\s*(?:MATCH\s+\w+|ON\s+(?:DELETE|UPDATE)\s+(?:CASCADE|SET\s+NULL|SET\s+DEFAULT|RESTRICT|NO\s+ACTION)))*)",
            )
            .ok()
        });
        let unquoted = |name: &str| name.trim().trim_matches('`').to_owned();
        let list = |names: &str| names.split(',').map(|name| quote(&unquoted(name))).collect::<Vec<_>>().join(", ");
        let mut out = Vec::new();
        let mut found = 0;
        for captures in clause.iter().flat_map(|clause| clause.captures_iter(&sql)) {
            let part = |index: usize| captures.get(index).map_or("", |found| found.as_str());
            if !changes_rows(part(5)) {
                continue;
            }
            found += actions(part(5));
            let database = match part(2) {
                "" => definition.database.clone(),
                name => unquoted(name),
            };
            let parent = self.mapped(&(database, unquoted(part(3))), statement)?;
            out.push(format!(
                "FOREIGN KEY ({}) REFERENCES {} ({}) {}",
                list(part(1)),
                quote(&parent),
                list(part(4)),
                part(5).trim()
            ));
        }
        if found != actions(&sql) {
            return Err(conflict(
                "a foreign key that changes rows is not understood, and the log does not hold what it does",
                statement,
            ));
        }
        Ok(out)
    }

    /// The name here of a table that a statement names; a database that the statement names itself is rewritten here.
    fn mapped(&mut self, (database, table): &(String, String), statement: &Statement<'_>) -> Outcome<String> {
        let rewritten = match self.settings.rewrites.iter().find(|(from, _)| from == database) {
            Some((_, to)) if *database != statement.database => to.clone(),
            _ => database.clone(),
        };
        self.name_of(&rewritten, table)
    }

    fn run_sql(&mut self, sql: &str, statement: &Statement<'_>) -> Outcome {
        self.connection.plain().execute_batch(sql).map_err(|error| {
            let failure = failure(&error);
            match failure.cause {
                Cause::Other if failure.error.class() == Class::Unavailable => {
                    let code = failure.code;
                    let out = conflict(failure.error.what().to_owned(), statement);
                    Failure { code, ..out }
                }
                _ => failure,
            }
        })
    }

    /// What a table looked like on the source when it was last changed.
    fn remembered(&self, database: &str, table: &str) -> Outcome<Option<TableDefinition>> {
        let held = state::fact(self.connection.plain(), WHOLE_TARGET, &fact_name(database, table))
            .map_err(|error| failure(&error))?;
        let Some(hex) = held else { return Ok(None) };
        let bytes: Option<Vec<u8>> = (0..hex.len() / 2)
            .map(|at| hex.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        Ok(bytes.and_then(|bytes| TableDefinition::decode(&bytes).ok()))
    }

    /// Remembers it.
    pub(super) fn remember(&self, (database, table): &(String, String), definition: &TableDefinition) -> Outcome {
        use std::fmt::Write as _;
        let mut bytes = Vec::new();
        definition.encode(&mut bytes);
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing into a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        state::set_fact(self.connection.plain(), WHOLE_TARGET, &fact_name(database, table), Some(&hex))
            .map_err(|error| failure(&error))
    }

    fn forget_definition(&self, (database, table): &(String, String)) -> Outcome {
        state::set_fact(self.connection.plain(), WHOLE_TARGET, &fact_name(database, table), None)
            .map_err(|error| failure(&error))
    }

    fn forget_table(&self, table: &(String, String), name: &str) -> Outcome {
        names::release(&self.connection, name)?;
        self.forget_definition(table)
    }

    /// Tables of a database: their names there and here.
    fn tables_of(&self, database: &str) -> Outcome<Vec<(String, String)>> {
        let work = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement = self.connection.plain().prepare(
                "SELECT name, value FROM main.rlog_channel WHERE channel='' AND substr(name, 1, 6)='table ' AND substr(value, 1, ?2)=?1",
            )?;
            let prefix = format!("{database}.");
            let rows = statement.query_map(rusqlite::params![prefix, prefix.chars().count() as i64], |row| {
                let (name, owner): (String, String) = (row.get(0)?, row.get(1)?);
                Ok((
                    owner.get(prefix.len()..).unwrap_or_default().to_owned(),
                    name.get(6..).unwrap_or_default().to_owned(),
                ))
            })?;
            rows.collect()
        };
        work().map_err(|error| failure(&error))
    }
}

fn fact_name(database: &str, table: &str) -> String {
    format!("definition {database}.{table}")
}

/// Whether a text has a foreign key's action that changes rows.
fn changes_rows(sql: &str) -> bool {
    actions(sql) > 0
}

/// How many such actions it has.
fn actions(sql: &str) -> usize {
    static ACTION: OnceLock<Option<Regex>> = OnceLock::new();
    let action =
        ACTION.get_or_init(|| Regex::new(r"(?is)ON\s+(?:DELETE|UPDATE)\s+(?:CASCADE|SET\s+NULL|SET\s+DEFAULT)").ok());
    action.as_ref().map_or(0, |action| action.find_iter(sql).count())
}

fn conflict(what: impl Into<String>, statement: &Statement<'_>) -> Failure {
    Failure::from(
        Error::new(Class::Conflict, format!("{}: {}", what.into(), shortened(statement)))
            .hint("make the change on the target by hand, then step over this transaction; or use --ddl ignore"),
    )
}

fn shortened(statement: &Statement<'_>) -> String {
    const CHARACTERS_MAX: usize = 300;
    String::from_utf8_lossy(&statement.sql).chars().take(CHARACTERS_MAX).collect()
}
