//! rlog-apply's loop over a real SQLite target that dies at any call of its trait: every moment between a state row, the changes and
//! the commit. And bugs planted there, which must be found.
//!
//! The oracle: after the same command again, the target is as the source, whatever call was the last.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rlog::apply::{From, Init, Observer, Options, Summary, run};
use rlog::error::{Class, Error, Result};
use rlog::event::{RecordKind, Row, Rows, RowsOp, Statement, TableDefinition};
use rlog::frame::Coordinate;
use rlog::target::{
    Cell, ChannelState, DdlOutcome, EPOCH_FACT, Failure, Force, Head, OpenOptions, Outcome, Properties, Scan, Session,
    Settings, StateRow, Table, Target, sqlite::SqliteTarget,
};

use crate::common::changes::{Records, Source, table};
use crate::common::scratch;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The state row is committed before the changes, in a transaction of its own.
    PositionBefore,
    /// And after them.
    PositionAfter,
    /// The state row is inserted whatever the epoch is.
    NoFence,
}

/// Counts calls; the process dies at one of them.
#[derive(Debug)]
struct Shared {
    bug: Bug,
    calls: AtomicU64,
    die_at: u64,
    /// Another applier takes over before this transaction begins, and this one dies before the next.
    overtaken_at: Option<u64>,
    begun: AtomicU64,
    path: std::path::PathBuf,
}

impl Shared {
    fn call(&self) -> Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) >= self.die_at {
            true => Err(Error::new(Class::Bug, "the simulated process dies")),
            false => Ok(()),
        }
    }

    fn begin(&self) -> Result<()> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        match self.overtaken_at {
            Some(at) if at == number => take_over(&self.path),
            Some(at) if at < number => return Err(Error::new(Class::Bug, "the simulated process dies")),
            _ => {}
        }
        Ok(())
    }
}

struct Faulty {
    inner: SqliteTarget,
    shared: Arc<Shared>,
}

impl Faulty {
    fn new(path: &Path, bug: Bug, die_at: u64, overtaken_at: Option<u64>) -> Faulty {
        let (calls, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { bug, calls, die_at, overtaken_at, begun, path: path.to_owned() });
        Faulty { inner: open(path), shared }
    }

    fn inner(&mut self) -> Result<&mut SqliteTarget> {
        self.shared.call()?;
        Ok(&mut self.inner)
    }
}

impl Target for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn properties(&self) -> &Properties {
        self.inner.properties()
    }
    fn uuid(&mut self) -> Result<Option<String>> {
        self.inner()?.uuid()
    }
    fn has_tables(&mut self) -> Result<bool> {
        self.inner()?.has_tables()
    }
    fn channels(&mut self) -> Result<Vec<String>> {
        self.inner()?.channels()
    }
    fn state(&mut self, channel: &str) -> Result<Option<ChannelState>> {
        self.inner()?.state(channel)
    }
    fn init(&mut self, channel: &str, facts: &[(&str, &str)]) -> Result<()> {
        self.inner()?.init(channel, facts)
    }
    fn lock(&mut self, channel: &str, wait: Duration) -> Result<bool> {
        self.inner()?.lock(channel, wait)
    }
    fn is_running(&mut self, channel: &str) -> Result<bool> {
        self.inner()?.is_running(channel)
    }
    fn raise_epoch(&mut self, channel: &str) -> Result<u64> {
        self.inner()?.raise_epoch(channel)
    }
    fn set_facts(&mut self, channel: &str, facts: &[(&str, Option<&str>)]) -> Result<()> {
        self.inner()?.set_facts(channel, facts)
    }
    fn prune(&mut self, channel: &str, before: Coordinate) -> Result<()> {
        self.inner()?.prune(channel, before)
    }
    fn forget(&mut self, channel: &str) -> Result<()> {
        self.inner()?.forget(channel)
    }
    fn session(&mut self, settings: &Settings) -> Result<Box<dyn Session>> {
        let inner = self.inner()?.session(settings)?;
        Ok(Box::new(FaultySession { inner, shared: self.shared.clone(), row: None }))
    }
    fn scan(&mut self, scan: &Scan<'_>, row: &mut dyn FnMut(&[Cell<'_>]) -> bool) -> Result<()> {
        self.inner()?.scan(scan, row)
    }
    fn tables(&mut self) -> Result<Vec<TableDefinition>> {
        self.inner()?.tables()
    }
}

struct FaultySession {
    inner: Box<dyn Session>,
    shared: Arc<Shared>,
    row: Option<StateRow>,
}

impl FaultySession {
    fn inner(&mut self) -> Outcome<&mut Box<dyn Session>> {
        self.shared.call().map_err(Failure::from)?;
        Ok(&mut self.inner)
    }
}

impl Session for FaultySession {
    fn begin(&mut self) -> Outcome {
        self.shared.begin()?;
        self.inner()?.begin()
    }
    fn state(&mut self, row: &StateRow) -> Outcome {
        match self.shared.bug {
            Bug::None => self.inner()?.state(row),
            Bug::PositionBefore => {
                self.inner()?.state(row)?;
                self.inner()?.commit()?;
                self.inner()?.begin()
            }
            Bug::PositionAfter => {
                self.row = Some(row.clone());
                Ok(())
            }
            Bug::NoFence => {
                // What is compared is made equal first.
                self.inner()?.fact(EPOCH_FACT, Some(&row.epoch.to_string()))?;
                self.inner()?.state(row)
            }
        }
    }
    fn fact(&mut self, name: &str, value: Option<&str>) -> Outcome {
        self.inner()?.fact(name, value)
    }
    fn transaction(&mut self, head: &Head) -> Outcome {
        self.inner()?.transaction(head)
    }
    fn rows(&mut self, table: &Arc<Table>, rows: &Rows<'_>) -> Outcome {
        self.inner()?.rows(table, rows)
    }
    fn row(&mut self, table: &Arc<Table>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome {
        self.inner()?.row(table, op, row, force)
    }
    fn statement(&mut self, kind: RecordKind, statement: &Statement<'_>) -> Outcome {
        self.inner()?.statement(kind, statement)
    }
    fn ddl(&mut self, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.inner()?.ddl(statement)
    }
    fn ddl_alone(&mut self, row: &StateRow, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.inner()?.ddl_alone(row, head, statement)
    }
    fn is_empty(&mut self, table: &Arc<Table>) -> Outcome<bool> {
        self.inner()?.is_empty(table)
    }
    fn clear(&mut self, table: &Arc<Table>) -> Outcome {
        self.inner()?.clear(table)
    }
    fn flush(&mut self) -> Outcome {
        self.inner()?.flush()
    }
    fn commit(&mut self) -> Outcome {
        self.inner()?.commit()?;
        if let Some(row) = self.row.take() {
            self.inner()?.begin()?;
            self.inner()?.state(&row)?;
            self.inner()?.commit()?;
        }
        Ok(())
    }
    fn rollback(&mut self) -> Outcome {
        self.row = None;
        // A process that died rolls nothing back: its engine does, when it is gone.
        self.inner()?.rollback()
    }
}

struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: &Summary) {}
    fn note(&mut self, _: &str) {}
}

/// A process that another test starts may hold a copy of the lock for an instant.
const LOCK_WAIT: Duration = Duration::from_secs(20);

fn options(batch: usize) -> Options {
    let settings = Settings { create_tables: true, ..Settings::default() };
    Options {
        init: Some(Init::Empty),
        batch_txns_max: batch,
        retries: 0,
        lock_wait: LOCK_WAIT,
        settings,
        ..Options::default()
    }
}

fn apply(target: &mut dyn Target, stream: &Path, batch: usize) -> Result<Summary> {
    run(target, &From::File(stream.to_owned()), &options(batch), &Arc::new(AtomicBool::new(false)), &mut Silent)
}

fn open(path: &Path) -> SqliteTarget {
    SqliteTarget::open(path, &OpenOptions { create: true, ..OpenOptions::default() }).unwrap()
}

/// Rows that are only inserted, and one that only moves on: what is lost or done twice shows in one of them.
fn stream(transactions: i32) -> Vec<u8> {
    let (t, at) = (table("shop", "t"), table("shop", "at"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&at, (0, Some("0"))));
    for id in 1..=transactions {
        let (old, new) = ((id - 1).to_string(), id.to_string());
        source.transaction(Records::default().insert(&t, (id, Some("x"))).update(
            &at,
            (0, Some(&old)),
            (0, Some(&new)),
        ));
    }
    source.end()
}

/// Is the target as the source?
fn compare(path: &Path, transactions: i32) -> std::result::Result<(), String> {
    let connection = rusqlite::Connection::open(path).map_err(|error| error.to_string())?;
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| error.to_string());
    let found = (one("select count(*) from t")?, one("select cast(v as integer) from at")?);
    match found == (i64::from(transactions), i64::from(transactions)) {
        true => Ok(()),
        false => Err(format!("{transactions} transactions left {found:?}")),
    }
}

/// Dies at a call, then runs the same command again. Whether the call was reached.
fn crash(bug: Bug, die_at: u64, batch: usize) -> std::result::Result<bool, String> {
    const TRANSACTIONS: i32 = 4;
    let place = scratch();
    let (from, path) = (place.path().join("stream.rlog"), place.path().join("t.db"));
    std::fs::write(&from, stream(TRANSACTIONS)).unwrap();
    let mut target = Faulty::new(&path, bug, die_at, None);
    let died = apply(&mut target, &from, batch).is_err();
    drop(target);
    apply(&mut open(&path), &from, batch).map_err(|error| format!("the same command again: {error}"))?;
    compare(&path, TRANSACTIONS)?;
    Ok(died)
}

#[test]
fn an_applier_that_dies_at_any_call_loses_and_doubles_nothing() {
    for batch in [1, 3] {
        for die_at in 0.. {
            let died = crash(Bug::None, die_at, batch).unwrap_or_else(|error| panic!("died at {die_at}: {error}"));
            if !died {
                assert!(die_at > 20, "{die_at}");
                break;
            }
        }
    }
}

#[test]
fn a_position_outside_of_the_transaction_is_found() {
    for bug in [Bug::PositionBefore, Bug::PositionAfter] {
        let found = (0..200).find_map(|die_at| Some((die_at, crash(bug, die_at, 1).err()?)));
        let (die_at, error) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?} is found by a death at call {die_at}: {error}");
    }
}

/// Another applier takes the channel over, without the lock, and finishes.
fn take_over(path: &Path) {
    let _ = std::fs::remove_file(format!("{}-rlog-default.lock", path.display()));
    apply(&mut open(path), &path.with_file_name("stream.rlog"), 2).unwrap();
}

/// An applier that was overtaken goes on: what is in the target must stay as it is.
fn overtaken(bug: Bug, at: u64) -> std::result::Result<bool, String> {
    const TRANSACTIONS: i32 = 30;
    let place = scratch();
    let (from, path) = (place.path().join("stream.rlog"), place.path().join("t.db"));
    let at_table = table("shop", "at");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&at_table, (0, Some("0"))));
    // Only updates: they say what a row becomes, so that a repeat of an old one is no conflict.
    for id in 1..=TRANSACTIONS {
        let (old, new) = ((id - 1).to_string(), id.to_string());
        source.transaction(Records::default().update(&at_table, (0, Some(&old)), (0, Some(&new))));
    }
    std::fs::write(&from, source.end()).unwrap();
    let mut target = Faulty::new(&path, bug, u64::MAX, Some(at));
    let outcome = apply(&mut target, &from, 1);
    drop(target);
    let connection = rusqlite::Connection::open(&path).map_err(|error| error.to_string())?;
    let sql = "select cast(v as integer) from at";
    let found = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| error.to_string())?;
    match found == i64::from(TRANSACTIONS) {
        true => Ok(outcome.is_err_and(|error| error.class() == Class::TryAgain)),
        false => Err(format!("the target was at {TRANSACTIONS}, and was set back to {found}")),
    }
}

#[test]
fn an_applier_that_was_overtaken_writes_nothing_and_without_the_fence_that_is_found() {
    for at in 2..8 {
        let fenced = overtaken(Bug::None, at).unwrap_or_else(|error| panic!("overtaken at {at}: {error}"));
        assert!(fenced, "not fenced when overtaken at {at}");
    }
    let found = (2..8).find_map(|at| Some((at, overtaken(Bug::NoFence, at).err()?)));
    let (at, error) = found.expect("NoFence was not found");
    println!("NoFence is found by being overtaken at transaction {at}: {error}");
}
