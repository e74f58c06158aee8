//! Targets: the databases that are written, behind one trait.
//!
//! # What keeps the promise
//!
//! A target remembers what was applied to it *in the data's own transaction*: one row is inserted into
//! [`APPLIED_TABLE`] per target transaction, before the first change. So a transaction is applied exactly when its row is
//! there, whatever dies when.
//!
//! ```text
//!              begin      state row     changes     commit
//! Idle ───────▶ Open ────▶ Claimed ───▶ Claimed ───▶ Idle         the instant of commitment is the engine's commit
//!   ▲            │            │                        │
//!   └────────────┴── rollback ┴────────────────────────┘           a failed commit may have happened: reconnect, read the state
//! ```
//!
//! The fence: an applier raises the channel's *epoch* durably when it starts ([`Target::raise_epoch`]). [`Session::state`]
//! inserts its row only while that epoch is still the newest, checked under a shared lock on the epoch's row in the same
//! transaction; else [`Cause::Fenced`]. And (channel, incarnation, prev) is unique. So a stopped and revived
//! applier, or one with other batch boundaries, can never apply again.
//!
//! DDL that commits implicitly cannot share a transaction with its row; [`Session::ddl_alone`] brackets it with markers.
//!
//! # Who does what
//!
//! A backend executes and says precisely what failed ([`Failure`]); policy (retry, skip, overwrite, dead letters, batches,
//! order, filters) is `apply`'s. The fast path, [`Session::rows`], may buffer, reorder where results stay identical,
//! collapse and merge; any error there makes `apply` roll back and run the source transactions singly through
//! [`Session::row`], one row at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::event::{Column, RecordKind, Row, Rows, RowsOp, Statement, TableDefinition};
use crate::frame::{Coordinate, Incarnation, Position};

mod claims;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod sqlite;

pub use claims::Claims;

/// Table of the state rows (rule 12).
pub use crate::event::own::APPLIED_TABLE;
/// Table of facts per channel: (channel, name, value), primary key (channel, name).
pub const CHANNEL_TABLE: &str = "rlog_channel";
/// Table of one row: the target's UUID.
pub const TARGET_TABLE: &str = "rlog_target";
/// Columns of [`APPLIED_TABLE`] in order. UNIQUE (channel, incarnation, prev).
///
/// `channel` text up to 63 characters; `incarnation` 16 hex digits; `prev`, `txid`, `end_at` unsigned 64 bit (SQLite: the same bits,
/// signed); `position` text; `transactions`, `row_count`, `epoch` integers; `source_time_us`, `applied_time_us`
/// microseconds since 1970 UTC; `origins` `server-ID` and UUIDs separated by blanks, the own one last.
pub const APPLIED_COLUMNS: [&str; 12] = [
    "channel",
    "incarnation",
    "prev",
    "txid",
    "end_at",
    "position",
    "transactions",
    "row_count",
    "source_time_us",
    "applied_time_us",
    "epoch",
    "origins",
];
/// Fact that holds a channel's epoch as a decimal number.
pub const EPOCH_FACT: &str = "epoch";

/// What a backend can do; what may differ is data, not an `if` on a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Family of SQL that it speaks: `sqlite`, `mysql`, `mariadb`.
    pub family: String,
    /// Version as the engine prints it.
    pub version: String,
    /// Whether DDL rolls back. If not, only [`Session::ddl_alone`] may be called for it.
    pub transactional_ddl: bool,
    /// Sessions that may have a transaction open at once (SQLite: 1).
    pub writers_max: usize,
    /// Whether a table that is empty is loaded fastest in one transaction, however large.
    pub loads_whole: bool,
    /// Whether a commit that returned survives a power cut, as the server is set up now (reliability rule 12).
    pub durable_commits: bool,
    /// Warnings for `--check` and the start of `run`: settings that weaken the promise, read-only servers ….
    pub notes: Vec<String>,
}

/// How to open a target.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Create what is missing (`--init empty`); else a target that does not exist is 66 and nothing is created.
    pub create: bool,
    /// Only look: no write, no state table is created (`status`, `last`, `--check`).
    pub read_only: bool,
    /// How long to wait for a lock before 75.
    pub lock_wait: Duration,
    /// How often a connection that is refused is tried again. Not the first one, which tells whether the address is right.
    pub retries: u32,
    /// Set by a signal: no further try.
    pub stop: Option<Arc<AtomicBool>>,
}

/// What sessions of one run have in common.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The channel, folded to lower case.
    pub channel: String,
    /// The epoch that this run raised.
    pub epoch: u64,
    /// Family of the stream's source: `mysql`, `mariadb`, `sqlite`.
    pub source_family: String,
    /// Whether changes made by foreign-key cascades stand in the log; `None`: not known (treat as not).
    pub cascades_logged: Option<bool>,
    /// Compare the whole before image, not only the key (`RowDiffers`).
    pub check_before: bool,
    /// Create tables that are missing from the stream's definitions.
    pub create_tables: bool,
    /// Name tables `db.table` where the target has no databases.
    pub qualify: bool,
    /// Renames of databases: from, to. Definitions and default databases are renamed already; names inside the text of statements are not.
    pub rewrites: Vec<(String, String)>,
    /// Let the target's triggers fire for applied rows (`--triggers fire`).
    pub fire_triggers: bool,
    /// Accept tables whose engine cannot roll back.
    pub allow_nontransactional: bool,
}

/// A table definition with a number of its own: equal numbers are equal definitions, so that plans can be cached by it.
#[derive(Debug)]
pub struct Table {
    /// Unique in this process; another definition of the same table has another number.
    pub id: u64,
    /// The definition, database and table already rewritten.
    pub definition: TableDefinition,
}

/// What stands in front of the records of one source transaction.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Its position.
    pub position: Position,
    /// Server that first executed it (0: not known).
    pub server_id: u32,
    /// Commit (else start) time, microseconds since 1970 UTC; 0: not known.
    pub time_us: i64,
    /// Whether some of its tables are not transactional on the source.
    pub nontransactional: bool,
    /// Foreign keys were not checked when its rows changed, and nothing cascaded.
    pub foreign_keys_off: bool,
    /// It is a chunk of a snapshot: rows that were not there before.
    pub snapshot: bool,
}

/// One row of [`APPLIED_TABLE`]: a target transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRow {
    /// The channel.
    pub channel: String,
    /// Life of the source at `end`.
    pub incarnation: Incarnation,
    /// What the source had reached before the first of its source transactions.
    pub prev: Coordinate,
    /// What it has reached after the last (or after a progress behind it).
    pub end: Coordinate,
    /// Position of the last source transaction in it; `None` when it holds none (only progress).
    pub position: Option<Position>,
    /// Source transactions in it.
    pub transactions: u64,
    /// Rows changed, as the source counts them.
    pub rows: u64,
    /// Commit time of the last source transaction, microseconds since 1970 UTC; 0: not known.
    pub source_time_us: i64,
    /// When it was applied, microseconds since 1970 UTC.
    pub applied_time_us: i64,
    /// Epoch of the applier.
    pub epoch: u64,
    /// Where it came from: `server-ID` of the server that first executed it, UUIDs of targets that it passed through, this one last.
    pub origins: Vec<String>,
}

/// What a target remembers of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// Facts by name: see `apply::state`.
    pub facts: BTreeMap<String, String>,
    /// State rows that were not pruned yet, by (prev, end).
    pub applied: Vec<StateRow>,
}

/// What a DDL came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DdlOutcome {
    /// Done (or provably done by an applier that died).
    Applied,
    /// It means nothing to this target (`GRANT` into SQLite); why, for people.
    PassedOver(String),
}

/// How [`Session::row`] treats what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Any conflict is a failure, and nothing was changed.
    Strict,
    /// Make the target's row as the after image says: insert replaces rows with an equal key, update inserts when missing (with a
    /// full after image), delete of a missing row is done.
    Overwrite,
}

/// What can be in a row's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConflictClass {
    /// A row with this primary or unique key is there already.
    DuplicateKey,
    /// The row to be changed is not there.
    RowNotFound,
    /// The row to be changed is there, but is not as its before image says.
    RowDiffers,
    /// NOT NULL, CHECK and the like.
    Constraint,
    /// A foreign key.
    ForeignKey,
    /// The value does not fit the column's type (too long, out of range), or the table or column is missing.
    Type,
}

impl ConflictClass {
    /// Every class with its name on the command line.
    pub const ALL: [(ConflictClass, &'static str); 6] = [
        (ConflictClass::DuplicateKey, "duplicate-key"),
        (ConflictClass::RowNotFound, "row-not-found"),
        (ConflictClass::RowDiffers, "row-differs"),
        (ConflictClass::Constraint, "constraint"),
        (ConflictClass::ForeignKey, "foreign-key"),
        (ConflictClass::Type, "type"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        ConflictClass::ALL.iter().find(|(class, _)| *class == self).map_or("conflict", |(_, name)| *name)
    }
}

/// Why a session could not do something: decides what `apply` does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A conflict: policy decides. The statement changed nothing, and the transaction is still usable.
    Conflict(ConflictClass),
    /// Deadlock, lock time-out, busy: the transaction must be rolled back and run again.
    Retry,
    /// The connection is gone. Whether a commit that was under way happened is for the state to say.
    Lost,
    /// Another applier has raised the epoch: this one must stop (80).
    Fenced,
    /// It cannot be held back ([`Session::hold`]): the transaction must be rolled back, and run in its turn.
    Alone,
    /// Anything else; the error's class is the exit status.
    Other,
}

/// A failure of a session.
#[derive(Debug)]
pub struct Failure {
    /// What kind of failure.
    pub cause: Cause,
    /// What, where, hint.
    pub error: Box<Error>,
    /// The engine's own number (MySQL error number, SQLite extended result code), for `--skip-errors`.
    pub code: Option<u32>,
}

impl Failure {
    /// A failure of `cause`; the class of the error follows from it where it is not `Other`.
    pub fn new(cause: Cause, error: Error) -> Failure {
        let error = match cause {
            Cause::Conflict(_) => error.with_class(Class::Conflict),
            // Nobody has to look: the other one is at work, as when its lock is met at the start.
            Cause::Retry | Cause::Lost | Cause::Alone | Cause::Fenced => error.with_class(Class::TryAgain),
            Cause::Other => error,
        };
        Failure { cause, error: Box::new(error), code: None }
    }

    /// With the engine's number.
    pub fn with_code(mut self, code: u32) -> Failure {
        self.code = Some(code);
        self
    }

    /// The class of the conflict, if it is one.
    pub fn conflict(&self) -> Option<ConflictClass> {
        match self.cause {
            Cause::Conflict(class) => Some(class),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(Cause::Other, error)
    }
}

impl From<crate::event::EventError> for Failure {
    fn from(error: crate::event::EventError) -> Failure {
        Failure::from(Error::from(error))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        *failure.error
    }
}

/// Result of a session's calls.
pub type Outcome<T = ()> = std::result::Result<T, Failure>;

/// One cell of a row as [`Target::scan`] gives it: canonical text (`event::text`) or bytes, `None` for NULL.
pub type Cell<'a> = Option<&'a [u8]>;

/// What [`Target::scan`] reads. The definition may be another database's: its kinds say how values are written as text.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Database of the table here; empty where there are none.
    pub database: &'a str,
    /// Name of the table here.
    pub table: &'a str,
    /// The columns that are wanted, in this order; all of them are there.
    pub columns: &'a [&'a Column],
    /// Ascending order of the rows, NULL first: indexes into `columns`. Empty: any order.
    pub order: &'a [(usize, KeyOrder)],
}

/// What order of a column two databases have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// As a number.
    Number,
    /// By the bytes of its canonical text.
    Bytes,
}

/// An opened database. Calls are not made inside a session's transaction.
pub trait Target: Send {
    /// The target as messages name it, without secrets.
    fn name(&self) -> &str;

    /// What it can do.
    fn properties(&self) -> &Properties;

    /// Its UUID (36 characters), made with the state tables; `None` while there are none.
    fn uuid(&mut self) -> Result<Option<String>>;

    /// The database file, where the target is one.
    fn database(&self) -> Option<&std::path::Path> {
        None
    }

    /// Whether it holds tables that are not rlog's: then `--init empty` is refused.
    fn has_tables(&mut self) -> Result<bool>;

    /// Channels that it has state of.
    fn channels(&mut self) -> Result<Vec<String>>;

    /// State of a channel; `None` when it has none.
    fn state(&mut self, channel: &str) -> Result<Option<ChannelState>>;

    /// Creates the state tables and the UUID where missing and the channel's facts (with epoch 0), durably and in one
    /// transaction where DDL allows. A channel that has state already is 78.
    fn init(&mut self, channel: &str, facts: &[(&str, &str)]) -> Result<()>;

    /// Keeps other runs of the channel away as long as `self` lives (flock, GET_LOCK): `false` when one is under way for
    /// longer than `wait`. Politeness only: the epoch is what protects.
    fn lock(&mut self, channel: &str, wait: Duration) -> Result<bool>;

    /// Whether a run of the channel holds its lock now.
    fn is_running(&mut self, channel: &str) -> Result<bool>;

    /// Raises the channel's epoch by one, durably, and returns it.
    fn raise_epoch(&mut self, channel: &str) -> Result<u64>;

    /// Sets facts (`None` removes) in a transaction of its own.
    fn set_facts(&mut self, channel: &str, facts: &[(&str, Option<&str>)]) -> Result<()>;

    /// Deletes state rows whose `end` is below `before`, in a transaction of its own. The caller has made sure that the chain goes on above.
    fn prune(&mut self, channel: &str, before: Coordinate) -> Result<()>;

    /// Forgets a channel: its state rows and facts.
    fn forget(&mut self, channel: &str) -> Result<()>;

    /// Opens a session (a connection) for applying. The target may be used by at most `properties().writers_max` at once.
    fn session(&mut self, settings: &Settings) -> Result<Box<dyn Session>>;

    /// The tables with their columns and keys, rlog's own and the system's left out, in the order of their names. For `compare`. Database names
    /// are empty where there are no databases.
    fn tables(&mut self) -> Result<Vec<TableDefinition>> {
        Err(Error::new(Class::Unavailable, format!("{} cannot be compared in this version", self.name())))
    }

    /// Calls `row` with every row of a table as of one moment, until it returns `false`.
    fn scan(&mut self, scan: &Scan<'_>, row: &mut dyn FnMut(&[Cell<'_>]) -> bool) -> Result<()> {
        let _ = (scan, row);
        Err(Error::new(Class::Unavailable, format!("{} cannot be compared in this version", self.name())))
    }

    /// The server's id in replication, if it is a server.
    fn server_id(&mut self) -> Result<Option<u32>> {
        Ok(None)
    }

    /// Where the database's own log stands, if it has one whose positions are those of our streams (SHOW MASTER STATUS).
    fn log_position(&mut self) -> Result<Option<Coordinate>> {
        Ok(None)
    }
}

/// A connection that applies. Used by one thread at a time.
pub trait Session: Send {
    /// Starts a target transaction.
    fn begin(&mut self) -> Outcome;

    /// Checks the fence and inserts the state row: the first thing in every transaction. A row with the same (channel, incarnation,
    /// prev) is `Fenced` too.
    fn state(&mut self, row: &StateRow) -> Outcome;

    /// Sets (or removes) a fact of the channel within the open transaction.
    fn fact(&mut self, name: &str, value: Option<&str>) -> Outcome;

    /// The records of this source transaction follow; a target transaction may hold several.
    fn transaction(&mut self, head: &Head) -> Outcome;

    /// Rows of one table, the fast path: may buffer until [`Session::flush`] or [`Session::commit`], with results identical to row by
    /// row. Exactly one target row is touched per source row. Any failure makes the whole transaction roll back.
    fn rows(&mut self, table: &Arc<Table>, rows: &Rows<'_>) -> Outcome;

    /// One row, at once, with a precise failure. Nothing of it remains after a conflict, and the transaction goes on.
    fn row(&mut self, table: &Arc<Table>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome;

    /// A `statement`, `truncate`, `load-block` or `xa-decision` record. Statements go to the same family only (else 80).
    fn statement(&mut self, kind: RecordKind, statement: &Statement<'_>) -> Outcome;

    /// A `ddl` record inside the open transaction. Only where `transactional_ddl`.
    fn ddl(&mut self, statement: &Statement<'_>) -> Outcome<DdlOutcome>;

    /// A source transaction that is one DDL, with its state row, outside of any transaction. Where DDL is not transactional:
    /// a begin marker (a fact) with hashes of the tables named is committed first, then the DDL, then the row with the marker's removal.
    /// When a marker of the same position is there already (a run died in between): provably done: only the row; provably not done or
    /// idempotent: again; else a conflict (rule 10).
    fn ddl_alone(&mut self, row: &StateRow, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome>;

    /// Whether foreign keys act from the next transaction on, as far as they do at all (rule 11). Off while a snapshot is loaded, whose tables come in
    /// no particular order. A backend that has this for single transactions goes by [`Head::foreign_keys_off`].
    fn foreign_keys_act(&mut self, act: bool) -> Outcome {
        let _ = act;
        Ok(())
    }

    /// A `ddl` record of a snapshot's schema, outside of any transaction, where DDL is not transactional. What is there already stays as it is, so that
    /// a run after one that died may repeat it.
    fn make(&mut self, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        let _ = head;
        self.ddl(statement)
    }

    /// Whether the table has no rows. A table that does not exist is empty.
    fn is_empty(&mut self, table: &Arc<Table>) -> Outcome<bool>;

    /// Deletes all rows of a table within the open transaction.
    fn clear(&mut self, table: &Arc<Table>) -> Outcome;

    /// Whether the transactions to come hold back all of their changes, so that [`Session::claims`] can say what they touch. What cannot be
    /// held back (statements, rows that depend on others) fails with [`Cause::Alone`]. `false`: the backend cannot.
    fn hold(&mut self, hold: bool) -> bool {
        let _ = hold;
        false
    }

    /// Whether the transactions to come run on trial: beside older ones that have not committed, on which they may depend. Whatever does not
    /// either lock what it touches or fail (statements, engines that cannot roll back) fails with [`Cause::Alone`]. `false`: the backend cannot.
    fn trial(&mut self, trial: bool) -> bool {
        let _ = trial;
        false
    }

    /// Counted up whenever the server has executed a part of the open transaction: a sign of life for those who wait behind it.
    fn set_beat(&mut self, beat: Arc<AtomicU64>) {
        let _ = beat;
    }

    /// What the changes held back touch: all that the open transaction is to do beside its state row.
    fn claims(&mut self) -> Claims {
        Claims::default()
    }

    /// Executes those of the changes held back that touch nothing of `others`; results are the same whatever the others come to.
    /// Returns whether something is left for [`Session::flush`], which must wait until the others have committed.
    fn flush_apart(&mut self, others: &[Arc<Claims>]) -> Outcome<bool> {
        let _ = others;
        Ok(true)
    }

    /// Executes what [`Session::rows`] still holds back. A worker calls it before it waits for its turn to commit.
    fn flush(&mut self) -> Outcome;

    /// The connection, where it is SQLite's: a queue in the same database acknowledges within the open transaction.
    fn lend(&self) -> Option<&rusqlite::Connection> {
        None
    }

    /// Commits; durable when it returns (as far as the server is set up so).
    fn commit(&mut self) -> Outcome;

    /// Rolls back whatever is open; harmless when nothing is.
    fn rollback(&mut self) -> Outcome;
}

/// Opens a target: `sqlite:PATH` or `mysql://…`.
pub fn open(url: &str, options: &OpenOptions) -> Result<Box<dyn Target>> {
    let hint = "targets are sqlite:PATH and mysql://USER@HOST/";
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(Error::usage(format!("'{url}' is not a target")).hint(hint));
    };
    match scheme {
        "sqlite" if rest.is_empty() => Err(Error::usage("sqlite: needs a path").hint(hint)),
        "sqlite" => Ok(Box::new(sqlite::SqliteTarget::open(std::path::Path::new(rest), options)?)),
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => mysql::open(url, options),
        "postgres" | "postgresql" => {
            Err(Error::new(Class::Unavailable, "PostgreSQL targets are not in this version of rlog"))
        }
        _ => Err(Error::usage(format!("'{scheme}:' is not a kind of target")).hint(hint)),
    }
}

/// A random UUID (version 4), for targets that have none of their own.
pub fn new_uuid() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
    let mut number = u128::from_be_bytes(bytes);
    number = number & !(0xf << 76) | 4 << 76;
    number = number & !(3 << 62) | 2 << 62;
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}
