//! MariaDB and MySQL as targets.
//!
//! # What is where
//!
//! - [`state`]: the tables `rlog.rlog_target`, `rlog_channel` and `rlog_applied`, InnoDB, in a database of their own.
//! - [`session`]: a connection that applies; [`batch`]: the row changes that it holds back, collapsed; [`plan`]: how a definition's rows
//!   reach a table; [`exact`]: one row as SQL; [`statement`] and [`ddl`]: what the log holds as text; [`create`]: missing tables.
//!
//! # Promises
//!
//! The instant of commitment is the server's COMMIT of the transaction whose first statement inserted the state row. The epoch is checked by that
//! very statement under a shared lock, so that whoever raises it waits for us, and we fail after that. Rows are sent as
//! row events (`BINLOG`), so that no trigger fires and no SQL is parsed; what cannot go that way (the account may not, a
//! conversion that the server should judge, generated columns) goes as SQL, with the same result.
//!
//! # Assumptions
//!
//! The server runs with `slave_exec_mode=STRICT` and `slave_run_triggers_for_rbr=NO` (else row events are not sent). Tables are InnoDB or
//! another engine that rolls back; nobody else changes their shape while a run is under way.

mod batch;
mod create;
mod ddl;
mod exact;
mod failure;
mod plan;
mod scan;
mod session;
mod state;
mod statement;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mysql::prelude::Queryable as _;

use crate::db::mysql::catalog::read_table;
use crate::db::mysql::connect::{Fault, fault_of, server_error};
use crate::db::mysql::{Connector, Family, ServerUrl, Session as Connection};
use crate::error::{Class, Error, Result};
use crate::event::TableDefinition;
use crate::frame::Coordinate;
use crate::sys::units;
use crate::target::{Cell, ChannelState, EPOCH_FACT, OpenOptions, Properties, Scan, Session, Settings, Target};

/// Connections that apply at once at most; the servers' own default allows 151 in all.
const WRITERS_MAX: usize = 64;

/// First wait before a refused connection is tried again; doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before another try.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A server that is written.
pub struct MySqlTarget {
    connector: Connector,
    /// Tries that a refused connection gets, and what ends them early.
    retries: u32,
    stop: Option<Arc<AtomicBool>>,
    control: Option<Connection>,
    properties: Properties,
    schema: Arc<AtomicU64>,
    /// Locks that are held by the control connection, taken anew when that is.
    locks: Vec<String>,
}

/// Opens `mysql://…`. The server must be there; state tables are made by [`Target::init`].
pub fn open(url: &str, options: &OpenOptions) -> Result<Box<dyn Target>> {
    let url = ServerUrl::parse(url)?;
    let connector = Connector::new(&url)?;
    let mut control = connector.connect()?;
    if let Some(database) = connector.database() {
        let mut name = String::new();
        crate::db::mysql::literal::put_text(&mut name, database);
        let found: Option<String> = control
            .conn()
            .query_first(format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name={name}"))
            .map_err(|error| server_error(error, "databases cannot be listed"))?;
        if found.is_none() {
            if !options.create || options.read_only {
                return Err(Error::new(Class::NoInput, format!("there is no database {database:?}"))
                    .in_file(connector.name())
                    .hint("create it, or name another; with --init empty it is created"));
            }
            let mut sql = String::from("CREATE DATABASE IF NOT EXISTS ");
            crate::db::mysql::literal::put_name(&mut sql, database)?;
            control.run(sql).map_err(|error| server_error(error, "the database cannot be created"))?;
        }
    }
    let properties = properties(&mut control, options);
    Ok(Box::new(MySqlTarget {
        connector,
        retries: options.retries,
        stop: options.stop.clone(),
        control: Some(control),
        properties,
        schema: Arc::new(AtomicU64::new(0)),
        locks: Vec::new(),
    }))
}

fn properties(control: &mut Connection, options: &OpenOptions) -> Properties {
    let mut notes = Vec::new();
    let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
    let flush = control.variable("global.innodb_flush_log_at_trx_commit");
    let log = control.variable("global.log_bin");
    let sync = control.variable("global.sync_binlog");
    let durable = is(&flush, "1") && (!is(&log, "1") || is(&sync, "1"));
    if !durable {
        notes.push(format!(
            "commits may be lost in a power cut: innodb_flush_log_at_trx_commit={}, sync_binlog={}; the queue is kept longer",
            flush.as_deref().unwrap_or("?"),
            sync.as_deref().unwrap_or("?")
        ));
    }
    if is(&control.variable("global.read_only"), "1") && !options.read_only {
        notes.push("the server is read_only: only accounts with the privilege to override that can apply".into());
    }
    let mode = control.variable("global.slave_exec_mode").or_else(|| control.variable("global.replica_exec_mode"));
    if mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("IDEMPOTENT")) {
        notes.push("slave_exec_mode=IDEMPOTENT hides conflicts of row events: set it to STRICT".into());
    }
    if control.variable("global.slave_run_triggers_for_rbr").is_some_and(|value| !value.eq_ignore_ascii_case("NO")) {
        notes.push("slave_run_triggers_for_rbr is not NO: triggers fire for row events too".into());
    }
    Properties {
        family: control.family.name().into(),
        version: control.version.clone(),
        transactional_ddl: false,
        writers_max: WRITERS_MAX,
        // InnoDB's bulk insert: what fills an empty table is not logged row by row (MariaDB since 10.6, for the first transaction).
        loads_whole: control.family == Family::MariaDb && units::version(&control.version) >= (10, 6, 0),
        durable_commits: durable,
        notes,
    }
}

impl MySqlTarget {
    /// Runs `connect` until it succeeds, fails for good, or the retries are used up: a server that is being restarted, or that has too many
    /// connections at the moment, is one to wait for.
    fn patiently<T>(&self, connect: impl Fn() -> Result<T>) -> Result<T> {
        let (mut left, mut wait) = (self.retries, BACKOFF_FIRST);
        loop {
            match connect() {
                Err(error) if error.class() == Class::TryAgain && left > 0 => {
                    if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                        return Err(error);
                    }
                    left -= 1;
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
                other => return other,
            }
        }
    }

    /// The control connection; made anew when it was lost, with the locks that it held.
    fn control(&mut self) -> Result<&mut Connection> {
        let control = match self.control.take() {
            Some(control) => control,
            None => {
                let mut control = self.patiently(|| self.connector.connect())?;
                for name in &self.locks {
                    let _: Option<Option<u8>> = control
                        .conn()
                        .query_first(format!("SELECT GET_LOCK('{name}', 0)"))
                        .map_err(|error| server_error(error, "the channel's lock cannot be taken again"))?;
                }
                control
            }
        };
        Ok(self.control.insert(control))
    }

    /// Runs `work` on the control connection, once more when that turns out to be lost. `work` is harmless when repeated.
    fn with<T>(&mut self, doing: &str, mut work: impl FnMut(&mut Connection) -> mysql::Result<T>) -> Result<T> {
        for last in [false, true] {
            match work(self.control()?) {
                Ok(value) => return Ok(value),
                Err(error) => {
                    if fault_of(&error) == Fault::Lost {
                        self.control = None;
                        if !last {
                            continue;
                        }
                    } else if let Some(control) = &mut self.control {
                        let _ = control.run("ROLLBACK");
                    }
                    return Err(server_error(error, doing).in_file(self.connector.name()));
                }
            }
        }
        Err(Error::new(Class::TryAgain, format!("{doing}: the connection was lost twice")))
    }
}

impl Target for MySqlTarget {
    fn name(&self) -> &str {
        self.connector.name()
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn uuid(&mut self) -> Result<Option<String>> {
        self.with("the target's UUID cannot be read", |control| {
            state::missing_is_none(
                control.conn().query_first(format!("SELECT uuid FROM {}.rlog_target", state::DATABASE)),
            )
        })
    }

    fn has_tables(&mut self) -> Result<bool> {
        let mut place =
            String::from("table_schema NOT IN ('mysql','information_schema','performance_schema','sys','rlog')");
        if let Some(database) = self.connector.database() {
            place = String::from("table_schema=");
            crate::db::mysql::literal::put_text(&mut place, database);
        }
        let found: Option<u8> = self.with("tables cannot be listed", |control| {
            control.conn().query_first(format!("SELECT 1 FROM information_schema.tables WHERE {place} LIMIT 1"))
        })?;
        Ok(found.is_some())
    }

    fn channels(&mut self) -> Result<Vec<String>> {
        self.with("channels cannot be listed", |control| {
            let names = control.conn().query(format!(
                "SELECT channel FROM {}.rlog_channel WHERE name='{EPOCH_FACT}' ORDER BY channel",
                state::DATABASE
            ));
            state::missing_is_none(names.map(Some)).map(Option::unwrap_or_default)
        })
    }

    fn state(&mut self, channel: &str) -> Result<Option<ChannelState>> {
        self.with("the channel's state cannot be read", |control| {
            // One consistent state of both tables.
            let level = control.run("START TRANSACTION WITH CONSISTENT SNAPSHOT");
            let state = level.and_then(|()| state::load(control.conn(), channel));
            control.run("COMMIT")?;
            state
        })
    }

    fn init(&mut self, channel: &str, facts: &[(&str, &str)]) -> Result<()> {
        if self.state(channel)?.is_some() {
            return Err(Error::config(format!("the target has state of channel {channel:?} already"))
                .hint(format!("rlog-apply reset --all --channel {channel} forgets it")));
        }
        let uuid = crate::target::new_uuid()?;
        self.with("the state tables cannot be made", |control| {
            for sql in state::CREATE {
                control.run(sql)?;
            }
            control.run("BEGIN")?;
            control.run(format!(
                "INSERT INTO {0}.rlog_target (uuid) SELECT '{uuid}' FROM DUAL WHERE NOT EXISTS (SELECT * FROM {0}.rlog_target)",
                state::DATABASE
            ))?;
            // A plain insert: of two that begin at once, one fails.
            control.run(format!(
                "INSERT INTO {}.rlog_channel (channel, name, value) VALUES ({}, '{EPOCH_FACT}', '0')",
                state::DATABASE,
                state::quoted(channel)
            ))?;
            for (name, value) in facts.iter().filter(|(name, _)| *name != EPOCH_FACT) {
                control.run(state::fact_sql(channel, name, Some(value)))?;
            }
            control.run("COMMIT")
        })
    }

    fn lock(&mut self, channel: &str, wait: Duration) -> Result<bool> {
        let name = state::lock_name(channel);
        let got: Option<Option<u8>> = self.with("the channel's lock cannot be taken", |control| {
            control.conn().query_first(format!("SELECT GET_LOCK('{name}', {})", wait.as_secs()))
        })?;
        let got = got.flatten() == Some(1);
        if got && !self.locks.contains(&name) {
            self.locks.push(name);
        }
        Ok(got)
    }

    fn is_running(&mut self, channel: &str) -> Result<bool> {
        let name = state::lock_name(channel);
        let holder: Option<Option<u64>> = self.with("the channel's lock cannot be looked at", |control| {
            control.conn().query_first(format!("SELECT IS_USED_LOCK('{name}')"))
        })?;
        Ok(holder.flatten().is_some())
    }

    fn raise_epoch(&mut self, channel: &str) -> Result<u64> {
        let epoch = self.with("the channel's epoch cannot be raised", |control| {
            control.run("BEGIN")?;
            control.run(state::raise_sql(channel))?;
            let epoch = state::fact(control.conn(), channel, EPOCH_FACT)?;
            control.run("COMMIT")?;
            Ok(epoch)
        })?;
        epoch.and_then(|epoch| epoch.parse().ok()).ok_or_else(|| {
            Error::config(format!("the target has no state of channel {channel:?}"))
                .hint("declare its base: --init empty")
        })
    }

    fn set_facts(&mut self, channel: &str, facts: &[(&str, Option<&str>)]) -> Result<()> {
        self.with("facts cannot be kept", |control| {
            control.run("BEGIN")?;
            for (name, value) in facts {
                control.run(state::fact_sql(channel, name, *value))?;
            }
            control.run("COMMIT")
        })
    }

    fn prune(&mut self, channel: &str, before: Coordinate) -> Result<()> {
        self.with("old state rows cannot be deleted", |control| control.run(state::prune_sql(channel, before)))
    }

    fn forget(&mut self, channel: &str) -> Result<()> {
        let place = state::quoted(channel);
        self.with("the channel cannot be forgotten", |control| {
            control.run("BEGIN")?;
            control.run(format!("DELETE FROM {}.rlog_applied WHERE channel={place}", state::DATABASE))?;
            control.run(format!("DELETE FROM {}.rlog_channel WHERE channel={place}", state::DATABASE))?;
            control.run("COMMIT")
        })
    }

    fn session(&mut self, settings: &Settings) -> Result<Box<dyn Session>> {
        let session = self.patiently(|| {
            let mut connection = self.connector.connect()?;
            // In MariaDB only; a privilege is needed, and without it the text of the state row's statement is recognised too.
            if connection.family == Family::MariaDb {
                let _ = connection.run("SET SESSION binlog_annotate_row_events=OFF");
            }
            let schema = Arc::clone(&self.schema);
            let mut session = session::MySqlSession::new(self.connector.clone(), connection, settings.clone(), schema);
            session.foreign_keys().map_err(Error::from)?;
            Ok(session)
        })?;
        Ok(Box::new(session))
    }

    fn tables(&mut self) -> Result<Vec<TableDefinition>> {
        let mut place =
            String::from("table_schema NOT IN ('mysql','information_schema','performance_schema','sys','rlog')");
        if let Some(database) = self.connector.database() {
            place = String::from("table_schema=");
            crate::db::mysql::literal::put_text(&mut place, database);
        }
        let family = self.properties.family.clone();
        self.with("tables cannot be listed", |control| {
            let names: Vec<(String, String)> = control.conn().query(format!(
                "SELECT table_schema, table_name FROM information_schema.tables \
                 WHERE table_type LIKE '%BASE TABLE' AND table_name NOT LIKE 'rlog\\_%' AND {place} ORDER BY 1, 2"
            ))?;
            let mut out = Vec::new();
            for (database, table) in names {
                // A table that was dropped meanwhile is none.
                out.extend(read_table(control, &database, &table)?.map(|table| scan::definition(&table, &family)));
            }
            Ok(out)
        })
    }

    fn scan(&mut self, wanted: &Scan<'_>, row: &mut dyn FnMut(&[Cell<'_>]) -> bool) -> Result<()> {
        let (database, table) = (wanted.database.to_owned(), wanted.table.to_owned());
        let found = self.with("the table cannot be looked up", |control| read_table(control, &database, &table))?;
        let server = found.ok_or_else(|| {
            Error::config(format!("there is no table {database:?}.{table:?}")).in_file(self.connector.name())
        })?;
        let (sql, columns) = scan::query(&server, wanted)?;
        // Rows that were handed on cannot be taken back: no second try.
        let result = scan::rows(self.control()?, &sql, &columns, row);
        result.map_err(|error| {
            self.control = None;
            server_error(error, "the table cannot be read").in_file(self.connector.name())
        })
    }

    fn server_id(&mut self) -> Result<Option<u32>> {
        self.with("the server's id cannot be read", |control| control.conn().query_first("SELECT @@global.server_id"))
    }

    fn log_position(&mut self) -> Result<Option<Coordinate>> {
        let row: Option<mysql::Row> = self.with("the server's log position cannot be read", |control| {
            // SHOW MASTER STATUS is gone from MySQL, and its successor unknown to older MariaDB.
            let new = control.conn().query_first("SHOW BINARY LOG STATUS");
            match new {
                Err(error) if fault_of(&error) != Fault::Lost => control.conn().query_first("SHOW MASTER STATUS"),
                other => other,
            }
        })?;
        let Some(row) = row else { return Ok(None) };
        let text = |index| row.get_opt::<String, _>(index).and_then(std::result::Result::ok).unwrap_or_default();
        let number = text(0).rsplit_once('.').and_then(|(_, number)| number.parse().ok());
        Ok(number.zip(text(1).parse().ok()).and_then(|(file, offset)| Coordinate::new(file, offset)))
    }
}
