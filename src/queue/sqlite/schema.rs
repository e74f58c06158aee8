//! The tables of a queue, and how a database becomes one.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::OptionalExtension as _;
use rusqlite::config::DbConfig;

use crate::db::sqlite::{self, Access};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Segment};
use crate::sys::vfs::{self, Vfs};

use super::super::fold_name;
use super::super::records::state_frame;

/// `rlog`: what a file that rlog-queue created carries as its application_id.
pub(super) const APPLICATION_ID: i32 = 0x726c_6f67;
/// The layout of the tables below.
const LAYOUT: i64 = 1;
/// Page size of files that rlog-queue creates, in bytes.
const PAGE_BYTES: i64 = 8192;
/// How long a statement waits for another process's transaction. An applier in the same file holds the lock for a batch.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// Page cache of a connection, in KiB: what is written here is not read again soon.
const CACHE_KIB: i64 = 4_096;
/// Pages of write-ahead log after which it is copied back.
const CHECKPOINT_PAGES: i64 = 4_000;

/// What is asked of an application's SQL client. rlog's own connections have triggers off.
const REFUSAL: &str = "this belongs to rlog-queue: use its verbs put, ack, purge and reset (see rlog-queue(1))";

const TABLES: [(&str, &str); 7] = [
    ("rlog_queue", "(id INTEGER PRIMARY KEY CHECK (id = 1), uuid TEXT NOT NULL, layout INTEGER NOT NULL)"),
    (
        "rlog_queue_channel",
        "(id INTEGER PRIMARY KEY, channel TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL, clean INTEGER NOT NULL, \
         record INTEGER NOT NULL, sequence INTEGER NOT NULL, low INTEGER NOT NULL, length INTEGER NOT NULL, \
         digest INTEGER NOT NULL, state BLOB NOT NULL, waiting TEXT NOT NULL)",
    ),
    (
        "rlog_queue_record",
        "(channel INTEGER NOT NULL, record INTEGER NOT NULL, first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL, \
         server INTEGER NOT NULL, reached INTEGER, pieces INTEGER NOT NULL, length INTEGER NOT NULL, \
         PRIMARY KEY (channel, record)) WITHOUT ROWID",
    ),
    (
        "rlog_queue_frames",
        "(channel INTEGER NOT NULL, record INTEGER NOT NULL, piece INTEGER NOT NULL, bytes BLOB NOT NULL, \
         PRIMARY KEY (channel, record, piece))",
    ),
    (
        "rlog_queue_live",
        "(channel INTEGER NOT NULL, kind INTEGER NOT NULL, key INTEGER NOT NULL, record INTEGER NOT NULL, frame BLOB NOT NULL, \
         PRIMARY KEY (channel, kind, key, record)) WITHOUT ROWID",
    ),
    (
        "rlog_queue_transaction",
        "(channel INTEGER NOT NULL, sequence INTEGER NOT NULL, txid INTEGER NOT NULL, kind TEXT NOT NULL, position TEXT NOT NULL, \
         time_us INTEGER NOT NULL, inserts INTEGER NOT NULL, updates INTEGER NOT NULL, deletes INTEGER NOT NULL, \
         statements INTEGER NOT NULL, tables TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (channel, sequence)) WITHOUT ROWID",
    ),
    (
        "rlog_queue_reader",
        "(channel INTEGER NOT NULL, name TEXT NOT NULL, sequence INTEGER NOT NULL, position TEXT NOT NULL, time_us INTEGER NOT NULL, \
         pins TEXT NOT NULL, PRIMARY KEY (channel, name)) WITHOUT ROWID",
    ),
];

const INDEX_AND_VIEWS: &str = "
CREATE INDEX main.rlog_queue_transaction_txid ON rlog_queue_transaction (channel, txid);
CREATE VIEW main.rlog_queue_transactions AS
  SELECT c.channel AS channel, t.sequence AS sequence, t.position AS position, t.kind AS kind,
    CASE t.time_us WHEN 0 THEN NULL ELSE strftime('%Y-%m-%dT%H:%M:%S', t.time_us / 1000000, 'unixepoch')
      || printf('.%06dZ', t.time_us % 1000000) END AS commit_time,
    t.inserts AS inserts, t.updates AS updates, t.deletes AS deletes, t.statements AS statements, t.tables AS tables, t.bytes AS bytes
  FROM rlog_queue_transaction t JOIN rlog_queue_channel c ON c.id = t.channel ORDER BY c.channel, t.sequence;
CREATE VIEW main.rlog_queue_readers AS
  SELECT c.channel AS channel, r.name AS name, r.sequence AS sequence, r.position AS position, r.pins AS pins,
    c.sequence - r.sequence AS behind, strftime('%Y-%m-%dT%H:%M:%SZ', r.time_us / 1000000, 'unixepoch') AS time
  FROM rlog_queue_reader r JOIN rlog_queue_channel c ON c.id = r.channel ORDER BY c.channel, r.name;
";

/// Coordinates as SQLite's signed integers, in the same order.
pub(super) fn ordered(at: Coordinate) -> i64 {
    (at.0 ^ (1 << 63)) as i64
}

/// The error of an engine's answer.
pub(super) fn failed(name: &str, error: &rusqlite::Error) -> Error {
    let folded = sqlite::error_of(error).in_file(name);
    match sqlite::code(error).map(|code| code & 0xff) {
        Some(rusqlite::ffi::SQLITE_CORRUPT | rusqlite::ffi::SQLITE_NOTADB) => folded.hint(
            "`rlog-queue verify` lists the damage; restore the file, or give up what is queued and take a new snapshot",
        ),
        Some(rusqlite::ffi::SQLITE_FULL) => {
            folded.hint("make room, then run the same command again: what was acknowledged is safe")
        }
        _ => folded,
    }
}

/// An open queue's database and what identifies it.
pub(super) struct Opened {
    pub connection: rusqlite::Connection,
    pub uuid: [u8; 16],
    /// Row of the channel.
    pub channel: i64,
}

/// Opens a connection that may write the queue's tables (or only read).
pub(super) fn connect(path: &Path, access: Access) -> Result<rusqlite::Connection> {
    let name = path.display().to_string();
    let connection = sqlite::open(path, access)?;
    let set_up = || -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        if access != Access::Read {
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        }
        Ok(())
    };
    set_up().map_err(|error| failed(&name, &error))?;
    Ok(connection)
}

/// Runs `work` in a transaction that takes the write lock first.
pub(super) fn write<T>(
    connection: &rusqlite::Connection,
    name: &str,
    work: impl FnOnce(&rusqlite::Connection) -> Result<T>,
) -> Result<T> {
    let begin = rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate);
    let transaction = begin.map_err(|error| failed(name, &error))?;
    let out = work(&transaction)?;
    transaction.commit().map_err(|error| failed(name, &error))?;
    Ok(out)
}

/// Whether the queue's tables are there.
fn has_queue(connection: &rusqlite::Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT count(*) FROM main.sqlite_schema WHERE type='table' AND name='rlog_queue'", [], |row| {
            row.get::<_, i64>(0)
        })
        .map(|count| count > 0)
}

/// Whether this is a database of which nobody but rlog knows: an empty one, or a target's.
fn may_become_queue(connection: &rusqlite::Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name NOT LIKE 'rlog\\_%' ESCAPE '\\') OR EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name='rlog_target')",
        [],
        |row| row.get(0),
    )
}

/// What the parent directory and the file's name are.
pub(super) fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::usage(format!("`{}` is no name for a database", path.display())))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent, name))
}

/// Makes an empty database that only its owner may read.
fn create_file(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    let text = path.display().to_string();
    let (parent, name) = split(path)?;
    let dir = vfs.open_dir(parent).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Class::NoInput, "the directory in which to create the queue does not exist").in_file(&text)
        }
        _ => Error::io(&text, error).with_class(Class::CannotCreate),
    })?;
    match dir.open(name, vfs::Access::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => drop(other.map_err(|error| Error::io(&text, error).with_class(Class::CannotCreate))?),
    }
    dir.sync().map_err(|error| Error::io(&text, error))
}

/// Sets what can only be set before a database has pages.
fn mark_file(path: &Path) -> rusqlite::Result<()> {
    let connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", 2)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)
}

fn create_tables(connection: &rusqlite::Connection, name: &str) -> Result<()> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
    write(connection, name, |connection| {
        let create = || -> rusqlite::Result<()> {
            if has_queue(connection)? {
                return Ok(());
            }
            for (table, columns) in TABLES {
                connection.execute_batch(&format!("CREATE TABLE main.{table} {columns};"))?;
            }
            connection.execute_batch(INDEX_AND_VIEWS)?;
            for (table, _) in TABLES {
                for event in ["INSERT", "UPDATE", "DELETE"] {
                    connection.execute_batch(&format!(
                        "CREATE TRIGGER main.{table}_{} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END;",
                        event.to_ascii_lowercase()
                    ))?;
                }
            }
            connection.execute(
                "INSERT INTO main.rlog_queue (id, uuid, layout) VALUES (1, ?1, ?2)",
                (format!("{:032x}", u128::from_be_bytes(uuid)), LAYOUT),
            )?;
            Ok(())
        };
        create().map_err(|error| failed(name, &error))
    })
}

fn no_queue(name: &str) -> Error {
    Error::new(Class::NoInput, "this database is not a queue")
        .in_file(name)
        .hint("`rlog-queue put` creates a queue in a new file, or in a target's database")
}

/// Opens the queue in `path`; see [`super::super::open`].
pub(super) fn open_queue(vfs: &dyn Vfs, path: &Path, create: bool) -> Result<(rusqlite::Connection, [u8; 16])> {
    let name = path.display().to_string();
    let fold = |error: rusqlite::Error| failed(&name, &error);
    // Metadata alone: nothing may open and close a database file beside SQLite.
    let length = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(Error::config("this is not a file").in_file(&name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            create_file(vfs, path)?;
            0
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Class::NoInput, "no such database")
                .in_file(&name)
                .hint("`rlog-queue put` creates a queue; check the path"));
        }
        Err(error) => return Err(Error::io(&name, error)),
    };
    if length == 0 {
        if !create {
            return Err(no_queue(&name));
        }
        mark_file(path).map_err(fold)?;
    }
    // Looked at before it is opened for writing, which would make its journal a write-ahead log.
    let look = sqlite::open(path, Access::Read)?;
    let is_queue = has_queue(&look).map_err(fold)?;
    if !is_queue && !create {
        return Err(no_queue(&name));
    }
    if !is_queue && !may_become_queue(&look).map_err(fold)? {
        return Err(Error::config("this database has other things in it and is not a queue")
            .in_file(&name)
            .hint("name a new file, or the database of a target that rlog-apply has set up"));
    }
    drop(look);
    let connection = connect(path, Access::Write)?;
    if !is_queue {
        create_tables(&connection, &name)?;
    }
    let (uuid, layout): (String, i64) = connection
        .query_row("SELECT uuid, layout FROM main.rlog_queue", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(fold)?;
    if layout != LAYOUT {
        return Err(Error::new(Class::Version, format!("the queue has layout {layout}, this rlog knows {LAYOUT}"))
            .in_file(&name)
            .hint("use a newer rlog"));
    }
    let uuid = u128::from_str_radix(&uuid, 16)
        .map_err(|_| Error::damage("the queue's UUID is invalid").in_file(&name))?
        .to_be_bytes();
    Ok((connection, uuid))
}

/// Opens a channel.
pub(super) fn open(vfs: &dyn Vfs, path: &Path, channel: &str, create: bool) -> Result<Opened> {
    let channel = fold_name("channel", channel)?;
    let name = path.display().to_string();
    let (connection, uuid) = open_queue(vfs, path, create)?;
    let find = |connection: &rusqlite::Connection| {
        connection
            .query_row("SELECT id FROM main.rlog_queue_channel WHERE channel=?1", [&channel], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map_err(|error| failed(&name, &error))
    };
    let id = match find(&connection)? {
        Some(id) => id,
        None if create => write(&connection, &name, |connection| match find(connection)? {
            Some(id) => Ok(id),
            None => {
                let nothing = nothing(uuid, &channel);
                connection
                        .execute(
                            "INSERT INTO main.rlog_queue_channel (channel, epoch, clean, record, sequence, low, length, digest, \
                             state, waiting) VALUES (?1, 0, 1, 0, 0, 1, 0, 0, ?2, '')",
                            (&channel, nothing),
                        )
                        .map_err(|error| failed(&name, &error))?;
                Ok(connection.last_insert_rowid())
            }
        })?,
        None => {
            return Err(Error::new(Class::NoInput, format!("the queue has no channel `{channel}`"))
                .in_file(&name)
                .hint(format!("`rlog-queue channels sqlite:{name}` lists the channels")));
        }
    };
    Ok(Opened { connection, uuid, channel: id })
}

/// The channels of a queue, sorted.
pub(in super::super) fn channels(vfs: &dyn Vfs, path: &Path) -> Result<Vec<String>> {
    let (connection, _) = open_queue(vfs, path, false)?;
    let names = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT channel FROM main.rlog_queue_channel ORDER BY channel")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    names().map_err(|error| failed(&path.display().to_string(), &error))
}

/// Forgets all that a channel holds. Its epoch goes on, so that no writer of before can store anything.
pub(super) fn reset(connection: &rusqlite::Connection, place: &super::log::Place) -> Result<()> {
    let nothing = nothing(place.uuid, &place.channel);
    let run = || -> rusqlite::Result<()> {
        for table in ["record", "frames", "live", "transaction", "reader"] {
            connection.execute(&format!("DELETE FROM main.rlog_queue_{table} WHERE channel=?1"), [place.id])?;
        }
        connection.execute(
            "UPDATE main.rlog_queue_channel SET epoch=epoch+1, clean=1, record=0, sequence=0, low=1, length=0, digest=0, \
             state=?2, waiting='' WHERE id=?1",
            (place.id, &nothing),
        )?;
        Ok(())
    };
    place.fold(run())
}

/// The state of a channel in which nothing was ever queued.
fn nothing(queue: [u8; 16], channel: &str) -> Vec<u8> {
    state_frame(&Segment { queue, channel: channel.to_owned(), number: 1, first_sequence: 1, ..Segment::default() })
}
