//! Loading a snapshot: existing rows in chunks, each a target transaction, before the log goes on.
//!
//! Chunks are numbered as they come; a chunk's state row has an incarnation made from the snapshot's UUID, its number as `prev`, and so
//! the same snapshot read again from a queue goes on behind the last chunk that is there. A snapshot with another UUID clears
//! what an interrupted one loaded. Only empty tables load, or `--replace` ones. Until the end is applied the channel is `loading`.
//!
//! Where the target fills an empty table faster in one transaction ([`Properties::loads_whole`](crate::target::Properties)), chunks share one, up to
//! [`WHOLE_BYTES_MAX`], as long as every table in it was empty when it began; each keeps its own state row. What is open is committed before anything
//! else is done, and when no chunk has come for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::execute::{DdlPolicy, Executor, heard};
use super::input::Transaction;
use super::state::{Reached, facts, snapshot_incarnation};
use super::writer::Writer;
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Snapshot};
use crate::target::{Failure, Outcome, Session, StateRow, Target};

/// Bytes of chunks that share a transaction at most; a kill repeats so much.
const WHOLE_BYTES_MAX: u64 = 256 << 20;
/// How long a transaction stays open at most when nothing comes.
const OPEN_MAX: Duration = Duration::from_secs(2);

/// A snapshot that is being read.
#[derive(Debug)]
pub struct Loading {
    /// Its UUID, hexadecimal.
    uuid: String,
    /// Chunks seen in the stream.
    seen: u64,
    /// It was loaded whole before: everything of it is passed over.
    done: bool,
    /// Tables that an interrupted snapshot, or an earlier run of this one, has loaded: UUID by table.
    tables: BTreeMap<String, String>,
    /// What becomes of the schema's statements.
    schema: Schema,
    /// Whether chunks may share a transaction.
    shared: bool,
    /// The open transaction.
    open: Open,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

/// A transaction that chunks share.
#[derive(Debug, Default)]
struct Open {
    since: Option<Instant>,
    rows: Vec<StateRow>,
    bytes: u64,
    /// Tables that were empty before it.
    fresh: BTreeSet<String>,
}

/// What becomes of the statements of a snapshot's schema at this target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Schema {
    /// They share a transaction with the chunk's state row (SQLite).
    InTransaction,
    /// They commit by themselves, in front of the state row, and may be repeated (servers of the MySQL family). Only with `--create-tables`, and only
    /// what is of the same kind: else tables are made from the stream's definitions.
    Alone { family: String },
}

/// Table key of chunks that hold the schema instead of rows: tables before the rows, indexes, views and triggers behind.
const SCHEMA_CHUNK: u64 = 0;

/// A UUID as 32 hexadecimal digits.
pub fn hex(uuid: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*uuid))
}

impl Loading {
    /// A snapshot begins. Its name is durable before its first chunk.
    pub fn begin(
        target: &mut dyn Target,
        channel: &str,
        reached: &mut Reached,
        snapshot: &Snapshot,
    ) -> Result<Loading> {
        let uuid = hex(&snapshot.uuid);
        let state = target.state(channel)?.unwrap_or_default();
        let properties = target.properties();
        let schema = match properties.transactional_ddl {
            true => Schema::InTransaction,
            false => Schema::Alone { family: properties.family.clone() },
        };
        let mut loading = Loading {
            uuid: uuid.clone(),
            seen: 0,
            done: false,
            tables: BTreeMap::new(),
            schema,
            shared: properties.loads_whole,
            open: Open::default(),
            notes: Vec::new(),
        };
        if state.facts.get(facts::LOADED) == Some(&uuid) {
            loading.done = true;
            return Ok(loading);
        }
        for (name, value) in &state.facts {
            if let Some(table) = name.strip_prefix(facts::LOADED_TABLE_PREFIX) {
                loading.tables.insert(table.to_owned(), value.clone());
            }
        }
        if state.facts.get(facts::LOADING) != Some(&uuid) {
            target.set_facts(channel, &[(facts::LOADING, Some(&uuid))])?;
            reached.chunks = 0;
        }
        Ok(loading)
    }

    /// Applies one chunk, unless it is there. Returns whether it was applied.
    pub fn chunk(&mut self, writer: &mut Writer<'_>, reached: &mut Reached, transaction: &Transaction) -> Result<bool> {
        let number = self.seen;
        self.seen += 1;
        if self.done || number < reached.chunks {
            return Ok(false);
        }
        let row = StateRow {
            incarnation: snapshot_incarnation(&self.uuid),
            prev: Coordinate(number),
            end: Coordinate(number + 1),
            ..self.row(writer)
        };
        if transaction.begin.chunk.as_ref().is_some_and(|chunk| chunk.table == SCHEMA_CHUNK) {
            self.commit(writer, reached)?;
        }
        writer.begun = 0;
        let outcome = self.write(writer, &row, transaction);
        // Of chunks that are passed over nobody hears.
        let listeners = writer.options.listeners.as_ref().filter(|_| writer.begun > 0);
        let outcome = outcome.and_then(|fresh| {
            self.open.rows.push(row);
            self.open.bytes += transaction.body.memory_bytes() as u64;
            // Listeners hear of each chunk by itself.
            let more = fresh && self.shared && writer.options.listeners.is_none() && self.open.bytes < WHOLE_BYTES_MAX;
            if more { Ok(()) } else { self.end_open(&mut *writer.session, reached) }
        });
        match outcome {
            Ok(()) => listeners.into_iter().for_each(|host| host.committed([heard(transaction)])),
            Err(failure) => {
                self.open = Open::default();
                let _ = writer.session.rollback();
                listeners.into_iter().for_each(|host| host.rolled_back([heard(transaction)], &failure.to_string()));
                return Err(Error::from(failure));
            }
        }
        Ok(true)
    }

    /// Whether chunks wait for their commit.
    pub fn is_open(&self) -> bool {
        self.open.since.is_some()
    }

    /// Whether they have waited long.
    pub fn is_overdue(&self) -> bool {
        self.open.since.is_some_and(|since| since.elapsed() >= OPEN_MAX)
    }

    /// Commits what is open.
    pub fn commit(&mut self, writer: &mut Writer<'_>, reached: &mut Reached) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        let ended = self.end_open(&mut *writer.session, reached);
        ended.map_err(|failure| {
            self.open = Open::default();
            let _ = writer.session.rollback();
            Error::from(failure)
        })
    }

    fn end_open(&mut self, session: &mut dyn Session, reached: &mut Reached) -> Outcome {
        session.commit()?;
        std::mem::take(&mut self.open).rows.iter().for_each(|row| reached.committed(row));
        Ok(())
    }

    fn row(&self, writer: &Writer<'_>) -> StateRow {
        StateRow {
            channel: writer.settings.channel.clone(),
            epoch: writer.settings.epoch,
            applied_time_us: crate::sys::clock::now_us(),
            origins: vec![writer.uuid.clone()],
            ..StateRow::default()
        }
    }

    /// Executes a chunk in the open transaction, or begins one. Returns whether its table was empty when that began.
    fn write(&mut self, writer: &mut Writer<'_>, row: &StateRow, transaction: &Transaction) -> Outcome<bool> {
        let chunk = transaction.begin.chunk.as_ref();
        let is_schema =
            chunk.is_some_and(|chunk| chunk.table == SCHEMA_CHUNK) && writer.options.ddl == DdlPolicy::Apply;
        let is_of_servers = matches!(writer.settings.source_family.as_str(), "mysql" | "mariadb");
        if let Schema::Alone { family } = &self.schema
            && is_schema
            && is_of_servers
            && writer.settings.create_tables
        {
            let same_family = *family == writer.settings.source_family;
            let executor = Executor {
                channel: &writer.settings.channel,
                policy: &writer.options.policy,
                ddl: writer.options.ddl,
                definitions: writer.definitions,
                listeners: None,
            };
            self.notes.extend(executor.schema(&mut *writer.session, transaction, same_family)?.notes);
        }
        if self.open.since.is_none() {
            writer.session.foreign_keys_act(false)?;
            writer.session.begin()?;
            self.open.since = Some(Instant::now());
        }
        writer.session.state(row)?;
        let entry = chunk.and_then(|chunk| transaction.tables.get(chunk.table)).filter(|entry| entry.applies);
        if let Some(entry) = entry {
            let name = format!("{}.{}", entry.table.definition.database, entry.table.definition.table);
            let owner = self.tables.get(&name);
            if owner != Some(&self.uuid) {
                if owner.is_some() || writer.options.replace {
                    writer.session.clear(&entry.table)?;
                } else if !writer.session.is_empty(&entry.table)? {
                    return Err(Failure::from(
                        Error::config(format!("table {name} has rows, and a snapshot loads only into empty tables"))
                            .hint("--replace empties the snapshot's tables first"),
                    ));
                }
                writer.session.fact(&format!("{}{name}", facts::LOADED_TABLE_PREFIX), Some(&self.uuid))?;
                self.open.fresh.insert(name.clone());
            }
            let executor = Executor {
                channel: &writer.settings.channel,
                policy: &writer.options.policy,
                ddl: writer.options.ddl,
                definitions: writer.definitions,
                listeners: writer.options.listeners.as_deref(),
            };
            writer.begun = 1;
            executor.fast(&mut *writer.session, transaction)?;
            let fresh = self.open.fresh.contains(&name);
            self.tables.insert(name, self.uuid.clone());
            return Ok(fresh);
        }
        if is_schema && self.schema == Schema::InTransaction {
            let executor = Executor {
                channel: &writer.settings.channel,
                policy: &writer.options.policy,
                ddl: writer.options.ddl,
                definitions: writer.definitions,
                listeners: writer.options.listeners.as_deref(),
            };
            writer.begun = 1;
            self.notes.extend(executor.fast(&mut *writer.session, transaction)?.notes);
        }
        Ok(false)
    }

    /// The snapshot is whole: from here on the log goes on at its position. `false`: it had been loaded before.
    pub fn end(self, writer: &mut Writer<'_>, reached: &mut Reached, snapshot: &Snapshot) -> Result<bool> {
        if hex(&snapshot.uuid) != self.uuid {
            return Err(Error::damage("a snapshot ends that did not begin"));
        }
        if self.done {
            return Ok(false);
        }
        let row = StateRow {
            incarnation: snapshot.incarnation,
            prev: Coordinate(snapshot.at.0.saturating_sub(1)),
            end: snapshot.at,
            ..self.row(writer)
        };
        let mut work = || -> Outcome {
            writer.session.foreign_keys_act(true)?;
            writer.session.begin()?;
            writer.session.state(&row)?;
            writer.session.fact(facts::LOADING, None)?;
            writer.session.fact(facts::LOADED, Some(&self.uuid))?;
            writer.session.fact(facts::BASE, Some(&snapshot.at.to_string()))?;
            for table in self.tables.keys() {
                writer.session.fact(&format!("{}{table}", facts::LOADED_TABLE_PREFIX), None)?;
            }
            writer.session.commit()
        };
        if let Err(failure) = work() {
            let _ = writer.session.rollback();
            return Err(Error::from(failure));
        }
        reached.moved(snapshot.at, snapshot.incarnation);
        Ok(true)
    }
}

/// A snapshot frame where none may be.
pub fn stray() -> Error {
    Error::new(Class::Damage, "a snapshot's chunk stands outside of a snapshot")
}
