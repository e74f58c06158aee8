//! A connection that applies to SQLite: row by row through held statements, which is the fastest there is here, so that the
//! fast path and the exact one are the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;

use super::plan::{Op, Plan, failure, table_exists};
use crate::db::sqlite::{self, Access, Connection, StatementId, quote, types};
use crate::error::{Class, Error, Result};
use crate::event::{Image, RecordKind, Row, Rows, RowsOp, Statement, TableDefinition, Value};
use crate::target::{
    Cause, ConflictClass, DdlOutcome, EPOCH_FACT, Failure, Force, Head, Outcome, Session, Settings, StateRow, Table,
};

/// Plans that are kept before all are dropped and made anew.
const PLANS_MAX: usize = 1_024;

pub(super) struct SqliteSession {
    pub(super) connection: Connection,
    path: PathBuf,
    pub(super) settings: Settings,
    /// What foreign keys did stands in the source's log.
    pub(super) cascades_in_log: bool,
    begin: StatementId,
    commit: StatementId,
    epoch: StatementId,
    state: StatementId,
    /// Statements up to here are the ones above; those behind belong to plans.
    fixed_statements: usize,
    plans: HashMap<u64, Plan>,
    /// Whether the open transaction created a table or changed the schema: plans made meanwhile die with it.
    pub(super) schema_touched: bool,
    scratch: Vec<u8>,
    changed: Vec<u8>,
}

impl SqliteSession {
    pub fn open(path: &Path, settings: &Settings) -> Result<SqliteSession> {
        let plain = sqlite::open(path, Access::Write)?;
        let name = path.display().to_string();
        let cascades_in_log = settings.source_family == "sqlite" || settings.cascades_logged == Some(true);
        let set_up = || -> rusqlite::Result<()> {
            // Both take effect outside of transactions only (rule 11). Deferring would not do: it does not stop cascades.
            plain.pragma_update(None, "foreign_keys", !cascades_in_log)?;
            plain.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, settings.fire_triggers)?;
            // What another SQLite wrote may rely on its leniency, and on checks that it did not make.
            let lenient = settings.source_family == "sqlite";
            plain.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, lenient)?;
            plain.pragma_update(None, "ignore_check_constraints", lenient)?;
            Ok(())
        };
        set_up().map_err(|error| sqlite::error_of(&error).in_file(&name))?;
        let mut connection = Connection::new(plain);
        let mut prepare = |sql: &str| connection.prepare(sql).map_err(|error| sqlite::error_of(&error).in_file(&name));
        let begin = prepare("BEGIN IMMEDIATE")?;
        let commit = prepare("COMMIT")?;
        let epoch = prepare("SELECT value FROM main.rlog_channel WHERE channel=?1 AND name=?2")?;
        let state = prepare(super::state::INSERT_APPLIED)?;
        let fixed_statements = connection.len();
        Ok(SqliteSession {
            connection,
            path: path.to_owned(),
            settings: settings.clone(),
            cascades_in_log,
            begin,
            commit,
            epoch,
            state,
            fixed_statements,
            plans: HashMap::new(),
            schema_touched: false,
            scratch: Vec::new(),
            changed: Vec::new(),
        })
    }

    fn run(&mut self, id: StatementId) -> Outcome {
        let statement = self.connection.statement(id).map_err(|error| failure(&error))?;
        statement.raw_execute().map(drop).map_err(|error| failure(&error))
    }

    fn execute(&mut self, sql: &str) -> Outcome {
        self.connection.plain().execute_batch(sql).map_err(|error| failure(&error))
    }

    pub(super) fn drop_plans(&mut self) {
        self.plans.clear();
        self.connection.forget(self.fixed_statements);
    }

    /// The name under which a table of the source lives here; reserves it for that database.
    pub(super) fn name_of(&mut self, database: &str, table: &str) -> Outcome<String> {
        super::names::name_of(&self.connection, self.settings.qualify, database, table)
    }

    /// Makes sure that a plan for `table` is there.
    #[inline]
    fn ensure_plan(&mut self, table: &Arc<Table>) -> Outcome {
        if self.plans.contains_key(&table.id) { Ok(()) } else { self.make_plan(table) }
    }

    #[cold]
    fn make_plan(&mut self, table: &Arc<Table>) -> Outcome {
        if self.plans.len() >= PLANS_MAX {
            self.drop_plans();
        }
        let definition = &table.definition;
        let name = self.name_of(&definition.database, &definition.table)?;
        // The name was reserved in the open transaction, and a table may have been created in it.
        self.schema_touched = true;
        if !table_exists(&self.connection, &name)? {
            if !self.settings.create_tables {
                return Err(Failure::new(
                    Cause::Conflict(ConflictClass::Type),
                    Error::new(Class::Conflict, format!("{} has no table {name}", self.path.display()))
                        .hint("--create-tables creates missing tables from the stream's definitions"),
                ));
            }
            self.create(definition, &name)?;
        }
        let plan = Plan::compile(&self.connection, table, name)?;
        self.plans.insert(table.id, plan);
        Ok(())
    }

    fn create(&mut self, definition: &TableDefinition, name: &str) -> Outcome {
        if !definition.names_known {
            return Err(Failure::from(
                Error::config(format!(
                    "cannot create {name}: the log does not name the columns of {}.{}",
                    definition.database, definition.table
                ))
                .hint("give rlog-extract the schema: --schema FILE (from mariadb-dump --no-data)"),
            ));
        }
        if definition.family == "sqlite" && !definition.create_sql.is_empty() && name == definition.table {
            let sql = definition.create_sql.clone();
            return self.execute(&sql);
        }
        for sql in types::create_table(definition, name) {
            self.execute(&sql)?;
        }
        self.remember(&(definition.database.clone(), definition.table.clone()), definition)
    }

    /// Binds and executes one variant; returns the rows that it touched.
    #[inline]
    fn execute_variant(
        &mut self,
        table: &Arc<Table>,
        op: Op,
        before: Option<&Image<'_>>,
        after: Option<&Image<'_>>,
        before_set: &[u8],
        after_set: &[u8],
    ) -> Outcome<usize> {
        let Some(plan) = self.plans.get_mut(&table.id) else {
            return Err(Failure::from(Error::new(Class::Bug, "a table without a plan")));
        };
        let index = plan.variant(&mut self.connection, table, op, before_set, after_set)?;
        let Some(variant) = plan.get(index) else {
            return Err(Failure::from(Error::new(Class::Bug, "a plan without its variant")));
        };
        let statement = self.connection.statement(variant.statement).map_err(|error| failure(&error))?;
        if let Some(image) = after {
            bind_image(statement, image, before, &variant.set, 0, table, &mut self.scratch)?;
        }
        if let Some(image) = before {
            bind_image(statement, image, None, &variant.key, variant.set.len(), table, &mut self.scratch)?;
        }
        if op == Op::Exists {
            let mut rows = statement.raw_query();
            return rows.next().map(|row| usize::from(row.is_some())).map_err(|error| failure(&error));
        }
        statement.raw_execute().map_err(|error| failure(&error))
    }

    fn apply_row(&mut self, table: &Arc<Table>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome {
        let checked = self.settings.check_before && force == Force::Strict;
        match (op, row.before.as_ref(), row.after.as_ref()) {
            (RowsOp::Insert, _, Some(after)) => {
                let set = after.set_bits();
                match force {
                    Force::Strict => self.execute_variant(table, Op::Insert, None, Some(after), &[], set).map(drop),
                    Force::Overwrite => {
                        match self.execute_variant(table, Op::Upsert, None, Some(after), &[], set) {
                            // Several rows are in the way, each with another key.
                            Err(failure) if failure.conflict() == Some(ConflictClass::DuplicateKey) => {
                                self.execute_variant(table, Op::Replace, None, Some(after), &[], set).map(drop)
                            }
                            other => other.map(drop),
                        }
                    }
                }
            }
            (RowsOp::Delete, Some(before), _) => {
                let set = before.set_bits();
                let touched = self.execute_variant(table, Op::of(op, checked), Some(before), None, set, &[])?;
                match touched {
                    0 if force == Force::Overwrite => Ok(()),
                    0 => Err(self.nothing_touched(table, before, checked)?),
                    _ => Ok(()),
                }
            }
            (RowsOp::Update, Some(before), Some(after)) => {
                let mut changed = std::mem::take(&mut self.changed);
                let narrow = force == Force::Strict && self.plans.get(&table.id).is_some_and(Plan::narrows_updates);
                let outcome = match changed_columns(before, after, narrow, &mut changed) {
                    Ok(()) => self.update_row(table, before, after, &changed, force, checked),
                    Err(failure) => Err(failure),
                };
                self.changed = changed;
                outcome
            }
            _ => Err(Failure::from(Error::damage(format!("a row of a {} lacks an image", op.name())))),
        }
    }

    fn update_row(
        &mut self,
        table: &Arc<Table>,
        before: &Image<'_>,
        after: &Image<'_>,
        changed: &[u8],
        force: Force,
        checked: bool,
    ) -> Outcome {
        let before_set = before.set_bits();
        let op = match force {
            Force::Strict => Op::of(RowsOp::Update, checked),
            Force::Overwrite => Op::UpdateReplace,
        };
        let touched = self.execute_variant(table, op, Some(before), Some(after), before_set, changed)?;
        if touched > 0 {
            return Ok(());
        }
        if force == Force::Overwrite && after.is_full() {
            return self.execute_variant(table, Op::Replace, None, Some(after), &[], after.set_bits()).map(drop);
        }
        Err(self.nothing_touched(table, before, checked)?)
    }

    /// Tells a row that is not there from one that differs.
    #[cold]
    fn nothing_touched(&mut self, table: &Arc<Table>, before: &Image<'_>, checked: bool) -> Outcome<Failure> {
        let found = checked && self.execute_variant(table, Op::Exists, Some(before), None, before.set_bits(), &[])? > 0;
        let (class, what) = match found {
            true => (ConflictClass::RowDiffers, "the row is not as its before image says"),
            false => (ConflictClass::RowNotFound, "the row to be changed is not there"),
        };
        Ok(Failure::new(Cause::Conflict(class), Error::new(Class::Conflict, what)))
    }
}

/// Binds the columns of `wanted` (ascending) from `image` to the parameters behind `first`. `older` is the image that JSON diffs refer to.
#[inline]
fn bind_image(
    statement: &mut rusqlite::Statement<'_>,
    image: &Image<'_>,
    older: Option<&Image<'_>>,
    wanted: &[usize],
    first: usize,
    table: &Arc<Table>,
    scratch: &mut Vec<u8>,
) -> Outcome {
    let mut left = wanted.iter().enumerate();
    let mut next = left.next();
    for (index, (value, column)) in image.columns().zip(&table.definition.columns).enumerate() {
        let Some((number, at)) = next else { break };
        if index != *at {
            continue;
        }
        let stored = match value? {
            Value::JsonDiff(diffs) => match older.and_then(|older| older.columns().nth(index)) {
                Some(Ok(Value::Json(before))) => types::patched(before, diffs, scratch),
                _ => Err("holds a JSON diff, and the value before it is not in the log"),
            },
            value => types::stored(value, column, scratch),
        };
        let stored = stored.map_err(|why| {
            Failure::new(
                Cause::Conflict(ConflictClass::Type),
                Error::new(
                    Class::Conflict,
                    format!("column {} of {}.{} {why}", column.name, table.definition.database, table.definition.table),
                ),
            )
        })?;
        types::bind(statement, first + number + 1, stored).map_err(|error| failure(&error))?;
        next = left.next();
    }
    Ok(())
}

/// The columns that an update writes, as a bitmap in `out`: those whose value changed (`narrow`), else all of the after image. Never
/// none: a row that stays as it is must still be there.
fn changed_columns(before: &Image<'_>, after: &Image<'_>, narrow: bool, out: &mut Vec<u8>) -> Outcome {
    out.clear();
    out.extend_from_slice(after.set_bits());
    if !narrow {
        return Ok(());
    }
    let mut first = None;
    let mut any = false;
    for (index, (old, new)) in before.columns().zip(after.columns()).enumerate() {
        let (old, new) = (old?, new?);
        if matches!(new, Value::Absent | Value::Unchanged) {
            continue;
        }
        first.get_or_insert(index);
        if old == new {
            if let Some(byte) = out.get_mut(index / 8) {
                *byte &= !(1 << (index % 8));
            }
        } else {
            any = true;
        }
    }
    if let (false, Some(index)) = (any, first)
        && let Some(byte) = out.get_mut(index / 8)
    {
        *byte |= 1 << (index % 8);
    }
    Ok(())
}

impl Session for SqliteSession {
    fn begin(&mut self) -> Outcome {
        self.schema_touched = false;
        self.run(self.begin)
    }

    fn state(&mut self, row: &StateRow) -> Outcome {
        let channel = self.settings.channel.clone();
        let held: Option<String> = {
            let statement = self.connection.statement(self.epoch).map_err(|error| failure(&error))?;
            let mut rows = statement.query([channel.as_str(), EPOCH_FACT]).map_err(|error| failure(&error))?;
            match rows.next().map_err(|error| failure(&error))? {
                Some(row) => Some(row.get(0).map_err(|error| failure(&error))?),
                None => None,
            }
        };
        if held.as_deref().and_then(|text| text.parse().ok()) != Some(self.settings.epoch) {
            return Err(fenced(format!(
                "another applier of channel {channel} has taken over (its epoch is {}, this one's {})",
                held.unwrap_or_else(|| "gone".into()),
                self.settings.epoch
            )));
        }
        let statement = self.connection.statement(self.state).map_err(|error| failure(&error))?;
        super::state::bind_applied(statement, row).map_err(|error| failure(&error))?;
        match statement.raw_execute() {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = failure(&error);
                Err(match failure.conflict() {
                    Some(ConflictClass::DuplicateKey) => fenced(format!(
                        "another applier of channel {channel} has applied what follows {} already",
                        row.prev
                    )),
                    _ => failure,
                })
            }
        }
    }

    fn fact(&mut self, name: &str, value: Option<&str>) -> Outcome {
        let channel = self.settings.channel.clone();
        super::state::set_fact(self.connection.plain(), &channel, name, value).map_err(|error| failure(&error))
    }

    fn transaction(&mut self, _head: &Head) -> Outcome {
        Ok(())
    }

    fn rows(&mut self, table: &Arc<Table>, rows: &Rows<'_>) -> Outcome {
        self.ensure_plan(table)?;
        let mut iter = rows.iter(&table.definition)?;
        while let Some(row) = iter.next()? {
            self.apply_row(table, rows.op, &row, Force::Strict)?;
        }
        Ok(())
    }

    fn row(&mut self, table: &Arc<Table>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome {
        self.ensure_plan(table)?;
        self.apply_row(table, op, row, force)
    }

    fn statement(&mut self, kind: RecordKind, statement: &Statement<'_>) -> Outcome {
        if kind == RecordKind::Truncate {
            for (database, table) in &statement.tables {
                let name = self.name_of(database, table)?;
                self.execute(&format!("DELETE FROM {}", quote(&name)))?;
            }
            return Ok(());
        }
        if self.settings.source_family == "sqlite" && kind == RecordKind::Statement {
            let sql = std::str::from_utf8(&statement.sql)
                .map_err(|_| Failure::from(Error::damage("a statement that is not UTF-8")))?;
            return self.execute(sql);
        }
        Err(Failure::from(
            Error::new(
                Class::Conflict,
                format!("a {} of {} has no meaning for SQLite", kind.name(), self.settings.source_family),
            )
            .hint("set binlog_format=ROW on the source; `rlog-apply skip POSITION` steps over this transaction"),
        ))
    }

    fn ddl(&mut self, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        if self.settings.source_family == "sqlite" {
            let sql = String::from_utf8_lossy(&statement.sql).into_owned();
            self.schema_touched = true;
            self.execute(&sql)?;
            self.drop_plans();
            return Ok(DdlOutcome::Applied);
        }
        self.translate(statement)
    }

    fn ddl_alone(&mut self, row: &StateRow, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.begin()?;
        let mut work = || {
            self.state(row)?;
            self.transaction(head)?;
            let outcome = self.ddl(statement)?;
            self.commit()?;
            Ok(outcome)
        };
        let outcome = work();
        if outcome.is_err() {
            self.rollback()?;
        }
        outcome
    }

    fn foreign_keys_act(&mut self, act: bool) -> Outcome {
        let act = act && !self.cascades_in_log;
        self.connection.plain().pragma_update(None, "foreign_keys", act).map_err(|error| failure(&error))
    }

    fn is_empty(&mut self, table: &Arc<Table>) -> Outcome<bool> {
        let name = self.name_of(&table.definition.database, &table.definition.table)?;
        if !table_exists(&self.connection, &name)? {
            return Ok(true);
        }
        self.connection
            .plain()
            .query_row(&format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(&name)), [], |row| row.get(0))
            .map_err(|error| failure(&error))
    }

    fn clear(&mut self, table: &Arc<Table>) -> Outcome {
        let name = self.name_of(&table.definition.database, &table.definition.table)?;
        if table_exists(&self.connection, &name)? {
            self.execute(&format!("DELETE FROM {}", quote(&name)))?;
        }
        Ok(())
    }

    fn lend(&self) -> Option<&rusqlite::Connection> {
        Some(self.connection.plain())
    }

    fn flush(&mut self) -> Outcome {
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        self.run(self.commit)?;
        self.schema_touched = false;
        Ok(())
    }

    fn rollback(&mut self) -> Outcome {
        if std::mem::take(&mut self.schema_touched) {
            self.drop_plans();
        }
        if self.connection.plain().is_autocommit() {
            return Ok(());
        }
        self.execute("ROLLBACK")
    }
}

fn fenced(what: String) -> Failure {
    Failure::new(Cause::Fenced, Error::new(Class::TryAgain, what).hint("let only one rlog-apply run the channel"))
}
