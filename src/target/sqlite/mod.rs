//! SQLite as a target.
//!
//! The database is created by `--init empty` alone, so that a mistyped path never becomes a new one. It runs in WAL mode with
//! synchronous=FULL: a commit that returned survives a power cut. There is one writer, so one session at a time.
//! DDL is transactional here and needs no markers.
//!
//! What the source's log contains must not happen twice (rule 11): triggers do not fire, and foreign keys are off, for
//! sources whose logs hold what cascades did. For the others foreign keys stay on, so that cascades happen here.

use std::fs::{File, OpenOptions as FileOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::db::sqlite::{self, Access};
use crate::error::{Class, Error, Result};
use crate::event::TableDefinition;
use crate::frame::Coordinate;
use crate::target::{Cell, ChannelState, EPOCH_FACT, OpenOptions, Properties, Scan, Session, Settings, Target};

mod ddl;
mod names;
mod plan;
mod scan;
mod session;
mod state;

/// Whoever looks whether an applier runs ([`Target::is_running`]) holds the lock for an instant: an applier waits at least so long, or it would end because
/// somebody had a look.
const LOOK_WAIT: Duration = Duration::from_millis(250);

/// An opened SQLite database.
pub struct SqliteTarget {
    path: PathBuf,
    name: String,
    control: rusqlite::Connection,
    properties: Properties,
    // Held until the target is dropped.
    lock: Option<File>,
}

impl SqliteTarget {
    /// Opens (with `options.create`: or creates) the database at `path`.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<SqliteTarget> {
        let access = match (options.read_only, options.create) {
            (true, _) => Access::Read,
            (false, true) => Access::Create,
            (false, false) => Access::Write,
        };
        let control = sqlite::open(path, access).map_err(|error| match error.class() {
            Class::NoInput => error.hint("`--init empty` creates a new target; check the path"),
            _ => error,
        })?;
        let properties = Properties {
            family: "sqlite".into(),
            version: rusqlite::version().into(),
            transactional_ddl: true,
            writers_max: 1,
            loads_whole: false,
            durable_commits: true,
            notes: Vec::new(),
        };
        let name = format!("sqlite:{}", path.display());
        Ok(SqliteTarget { path: path.to_owned(), name, control, properties, lock: None })
    }

    fn fold<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|error| sqlite::error_of(&error).in_file(self.path.display().to_string()))
    }

    fn has_state(&self) -> Result<bool> {
        self.fold(state::exists(&self.control))
    }

    /// Runs `work` in a transaction that takes the write lock first.
    fn write<T>(&mut self, work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> Result<T> {
        let run = || {
            let transaction =
                rusqlite::Transaction::new_unchecked(&self.control, rusqlite::TransactionBehavior::Immediate)?;
            let out = work(&transaction)?;
            transaction.commit()?;
            Ok(out)
        };
        let result = run();
        self.fold(result)
    }

    fn lock_path(&self, channel: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!("-rlog-{channel}.lock"));
        PathBuf::from(name)
    }
}

impl Target for SqliteTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn uuid(&mut self) -> Result<Option<String>> {
        if !self.has_state()? {
            return Ok(None);
        }
        self.fold(self.control.query_row("SELECT min(uuid) FROM main.rlog_target", [], |row| row.get(0)))
    }

    fn database(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn has_tables(&mut self) -> Result<bool> {
        self.fold(self.control.query_row(
            "SELECT count(*) > 0 FROM main.sqlite_schema WHERE type='table' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'rlog\\_%' ESCAPE '\\'",
            [],
            |row| row.get(0),
        ))
    }

    fn channels(&mut self) -> Result<Vec<String>> {
        if !self.has_state()? {
            return Ok(Vec::new());
        }
        let names = || {
            let mut statement = self
                .control
                .prepare("SELECT channel FROM main.rlog_channel WHERE name=?1 AND channel<>?2 ORDER BY channel")?;
            let rows = statement.query_map([EPOCH_FACT, names::WHOLE_TARGET], |row| row.get(0))?;
            rows.collect()
        };
        let names = names();
        self.fold(names)
    }

    fn state(&mut self, channel: &str) -> Result<Option<ChannelState>> {
        if !self.has_state()? {
            return Ok(None);
        }
        self.fold(state::load(&self.control, channel))
    }

    fn init(&mut self, channel: &str, facts: &[(&str, &str)]) -> Result<()> {
        let uuid = crate::target::new_uuid()?;
        let fresh = self.write(|connection| {
            connection.execute_batch(state::CREATE)?;
            connection.execute(
                "INSERT INTO main.rlog_target SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM main.rlog_target)",
                [&uuid],
            )?;
            if state::fact(connection, channel, EPOCH_FACT)?.is_some() {
                return Ok(false);
            }
            state::set_fact(connection, channel, EPOCH_FACT, Some("0"))?;
            for (name, value) in facts {
                state::set_fact(connection, channel, name, Some(value))?;
            }
            Ok(true)
        })?;
        if fresh { Ok(()) } else { Err(Error::config(format!("channel {channel} has state in {} already", self.name))) }
    }

    fn lock(&mut self, channel: &str, wait: Duration) -> Result<bool> {
        let path = self.lock_path(channel);
        let name = path.display().to_string();
        let file = FileOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io(&name, error))?;
        let deadline = Instant::now() + wait.max(LOOK_WAIT);
        loop {
            match file.try_lock() {
                Ok(()) => {
                    self.lock = Some(file);
                    return Ok(true);
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(Error::io(&name, error)),
            }
        }
    }

    fn is_running(&mut self, channel: &str) -> Result<bool> {
        let path = self.lock_path(channel);
        match File::open(&path) {
            Ok(file) => Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))),
            Err(_) => Ok(false),
        }
    }

    fn raise_epoch(&mut self, channel: &str) -> Result<u64> {
        self.write(|connection| {
            let held =
                state::fact(connection, channel, EPOCH_FACT)?.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            let epoch = held + 1;
            state::set_fact(connection, channel, EPOCH_FACT, Some(&epoch.to_string()))?;
            Ok(epoch)
        })
    }

    fn set_facts(&mut self, channel: &str, facts: &[(&str, Option<&str>)]) -> Result<()> {
        self.write(|connection| {
            facts.iter().try_for_each(|(name, value)| state::set_fact(connection, channel, name, *value))
        })
    }

    fn prune(&mut self, channel: &str, before: Coordinate) -> Result<()> {
        self.write(|connection| state::prune(connection, channel, before))
    }

    fn forget(&mut self, channel: &str) -> Result<()> {
        self.write(|connection| {
            connection.execute("DELETE FROM main.rlog_applied WHERE channel=?1", [channel])?;
            connection.execute("DELETE FROM main.rlog_channel WHERE channel=?1", [channel])?;
            Ok(())
        })
    }

    fn session(&mut self, settings: &Settings) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::SqliteSession::open(&self.path, settings)?))
    }

    fn tables(&mut self) -> Result<Vec<TableDefinition>> {
        self.fold(scan::tables(&self.control))
    }

    fn scan(&mut self, wanted: &Scan<'_>, row: &mut dyn FnMut(&[Cell<'_>]) -> bool) -> Result<()> {
        self.fold(scan::rows(&self.control, wanted, row))
    }
}
