//! SQLite as rlog uses it: the bundled engine, write-ahead log, synchronous=FULL.
//!
//! [`Connection`] holds prepared statements by number (`Prepared`), since looking one up by its text costs more than
//! executing it. [`types`] maps tables and values of other engines, [`translate`] their DDL.
//!
//! Danger: POSIX locks vanish when *any* descriptor of the file is closed in the process. Nothing in a process that
//! holds a connection may open the database file by itself.

use std::path::Path;
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::ffi;

use crate::error::{Class, Error, Result};

pub mod prepared;
pub mod translate;
pub mod types;

pub use prepared::{Connection, StatementId};

/// How long a statement waits for another process's lock before it is busy, in milliseconds.
pub const BUSY_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Page cache of a connection, in KiB.
const CACHE_KIB: i64 = 16_384;

/// What may be done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write; the file must exist.
    Write,
    /// Read and write; the file is created when it does not exist.
    Create,
}

/// Opens `path` and sets it up: WAL, synchronous=FULL (read back), busy timeout, bounded cache.
///
/// Where somebody died before the file had its write-ahead log, a rollback journal lies beside it. SQLite's rule is that whoever comes
/// next rolls it back, a reader too; only that a connection for reading alone cannot.
pub fn open(path: &Path, access: Access) -> Result<rusqlite::Connection> {
    let name = path.display().to_string();
    if access != Access::Create && !path.exists() {
        return Err(Error::new(Class::NoInput, "no such database").in_file(name));
    }
    match open_as(path, access) {
        Err(error) if access == Access::Read && code(&error) == Some(ffi::SQLITE_READONLY_ROLLBACK) => {
            let roll_back = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
            let done = roll_back.and_then(|connection| {
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            });
            done.map_err(|error| error_of(&error).in_file(&name))?;
            open_as(path, access)
        }
        other => other,
    }
    .map_err(|error| error_of(&error).in_file(&name))
    .and_then(|(connection, journal, synchronous)| {
        if journal == "wal" && synchronous == 2 {
            return Ok(connection);
        }
        Err(Error::new(
            Class::Unavailable,
            format!("SQLite answers journal_mode={journal}, synchronous={synchronous} where wal and 2 are needed"),
        )
        .in_file(&name)
        .hint("the file system must support shared memory files and locks; network file systems often do not"))
    })
}

/// The connection, its journal mode, and how it syncs.
fn open_as(path: &Path, access: Access) -> rusqlite::Result<(rusqlite::Connection, String, i64)> {
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let connection = rusqlite::Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Reading the schema notices at once what is no database.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    if access == Access::Read {
        return Ok((connection, "wal".to_owned(), 2));
    }
    let journal = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let synchronous = connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))?;
    Ok((connection, journal, synchronous))
}

/// Quotes an identifier. SQLite takes any text but NUL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Folds an engine error into ours, with the class that its code means.
pub fn error_of(error: &rusqlite::Error) -> Error {
    let class = match error {
        rusqlite::Error::SqliteFailure(failure, _) => class_of(failure.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => class_of(error.extended_code),
        _ => Class::Unavailable,
    };
    Error::new(class, format!("SQLite: {}", message(error)))
}

/// The engine's own words.
pub fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqliteFailure(failure, None) => failure.to_string(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// The extended result code of an error, if it has one.
pub fn code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.extended_code),
        _ => None,
    }
}

fn class_of(extended: i32) -> Class {
    match extended & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_FULL | ffi::SQLITE_PROTOCOL | ffi::SQLITE_INTERRUPT => {
            Class::TryAgain
        }
        ffi::SQLITE_IOERR => Class::Io,
        ffi::SQLITE_CANTOPEN => Class::CannotCreate,
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Class::Damage,
        ffi::SQLITE_READONLY | ffi::SQLITE_PERM | ffi::SQLITE_AUTH => Class::Permission,
        ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG => Class::Conflict,
        ffi::SQLITE_MISUSE => Class::Bug,
        _ => Class::Unavailable,
    }
}
