//! Pins: read transactions that keep a checkpoint from taking away what has not been read.
//!
//! A [`Pin`] is a SQLite connection inside a read transaction. While it holds a read mark, a checkpoint copies frames back
//! only up to the mark, and the log is not reset. If everything was already copied back when the pin began, it holds
//! the lock of readers that need no log: the log may then be reset exactly once, and the new generation is not copied back
//! until the pin moves. Either way nothing behind the pin is lost. (Facts: SQLite's `wal.c`, walTryBeginRead,
//! walCheckpoint, walRestartLog.)
//!
//! A new pin is always taken before the old one is let go. No pin writes to the database: connections close without a
//! checkpoint and never start one. What pins cost the application: its RESTART and TRUNCATE checkpoints report busy, and
//! `PRAGMA journal_mode=DELETE` fails with "database is locked".

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Class, Error, Result};

/// How long a pin waits for a lock that a writer holds for a moment (recovery, close).
const BUSY: Duration = Duration::from_secs(5);

/// Begins a read transaction without parsing the schema.
const BEGIN: &str = "BEGIN; PRAGMA user_version";

/// How long a turnover waits for the write lock before it is given up, and how often it tries.
const TURNOVER_LOCK_WAIT: Duration = Duration::from_millis(20);
/// Writers are not made to wait for a copy that would take longer.
const TURNOVER_COPY_MAX: Duration = Duration::from_millis(25);
/// See [`TURNOVER_LOCK_WAIT`].
const TURNOVER_LOCK_PAUSE: Duration = Duration::from_micros(100);

/// A connection of our own that leaves no trace.
pub fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| sqlite_error(path, e))?;
    let set_up = || {
        connection.busy_timeout(BUSY)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", 16)
    };
    set_up().map_err(|e| sqlite_error(path, e))?;
    Ok(connection)
}

/// Begins a read transaction.
pub(super) fn begin(connection: &Connection, path: &Path) -> Result<()> {
    connection.execute_batch(BEGIN).map_err(|error| sqlite_error(path, error))
}

/// What an error of SQLite means to us.
pub fn sqlite_error(path: &Path, error: rusqlite::Error) -> Error {
    let name = path.display().to_string();
    let class = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Class::TryAgain,
        Some(ErrorCode::CannotOpen) if !path.exists() => Class::NoInput,
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Class::Permission,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Class::Damage,
        Some(ErrorCode::DiskFull) => Class::TryAgain,
        _ => Class::Io,
    };
    let told = Error::new(class, error.to_string()).in_file(name).caused_by(error);
    match class {
        Class::TryAgain => told.hint(
            "another process holds a lock; a database that an application uses with locking_mode=EXCLUSIVE cannot be followed",
        ),
        Class::Permission => told.hint(format!(
            "as long as no application has it open, only who may write the database, its -shm and its directory can open it: run this as the application's user; `rlog-extract {}`, without sqlite:, reads the log of a database at rest",
            path.display()
        )),
        Class::Damage => told.hint("an encrypted database (SQLCipher, SEE) cannot be read"),
        _ => told,
    }
}

/// Keeps every other process from starting a checkpoint, for as long as it takes to read what an older pin did not cover.
///
/// A pin can only be taken at the present end of the log. Whoever resumes further back must keep frames in between from
/// being copied into the database file until they have been read. A checkpoint needs the exclusive lock on byte 121 of the
/// `-shm` (WAL_CKPT_LOCK of `wal.c`, UNIX_SHM_BASE of `os_unix.c`); this is a shared one, owned by the open file
/// description, so that it neither mixes with SQLite's own locks in this process nor is lost with them. To the application
/// it looks like a checkpoint that runs elsewhere: its own reports busy.
pub struct NoCheckpoint {
    shm: &'static File,
}

/// Byte of the checkpoint lock.
const CHECKPOINT_LOCK_AT: i64 = 121;

impl NoCheckpoint {
    /// Takes the lock; waits for a checkpoint that runs, for a while. `shm` is never closed.
    pub fn begin(shm: &'static File) -> Result<NoCheckpoint> {
        let started = Instant::now();
        loop {
            match NoCheckpoint::try_begin(shm)? {
                Some(guard) => return Ok(guard),
                None if started.elapsed() < BUSY => std::thread::sleep(Duration::from_millis(2)),
                None => {
                    return Err(Error::new(Class::TryAgain, "a checkpoint runs and does not end").in_file("-shm"));
                }
            }
        }
    }

    /// Takes the lock; `None` while a checkpoint runs.
    pub fn try_begin(shm: &'static File) -> Result<Option<NoCheckpoint>> {
        match lock(shm, libc::F_RDLCK) {
            Ok(()) => Ok(Some(NoCheckpoint { shm })),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Error::io("-shm", error)),
        }
    }
}

impl Drop for NoCheckpoint {
    fn drop(&mut self) {
        // Unlocking what is locked does not fail; the lock ends with the process at the latest.
        let _ = lock(self.shm, libc::F_UNLCK);
    }
}

fn lock(file: &File, kind: libc::c_int) -> std::io::Result<()> {
    // SAFETY: all zeros are a valid flock.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = CHECKPOINT_LOCK_AT;
    range.l_len = 1;
    // SAFETY: the descriptor is open and the argument is the struct that the command reads.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether another process has locked the whole database for itself. Of a database with a write-ahead log, this is done for a moment (recovery, the last
/// close), or for good with locking_mode=EXCLUSIVE. (SHARED_FIRST and SHARED_SIZE of SQLite's `os.h`.)
pub fn is_exclusive(db: &File) -> bool {
    // SAFETY: all zeros are a valid flock.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_RDLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = 0x4000_0002;
    range.l_len = 510;
    // SAFETY: the descriptor is open and the argument is the struct that the command reads and writes.
    let done = unsafe { libc::fcntl(db.as_raw_fd(), libc::F_OFD_GETLK, &raw mut range) };
    done == 0 && range.l_type == libc::F_WRLCK as libc::c_short
}

/// A read transaction.
pub struct Pin {
    connection: Connection,
}

impl Pin {
    /// Takes a pin on a connection of its own.
    pub fn take(path: &Path) -> Result<Pin> {
        let connection = connect(path)?;
        let pin = Pin { connection };
        pin.begin(path)?;
        Ok(pin)
    }

    fn begin(&self, path: &Path) -> Result<()> {
        begin(&self.connection, path)
    }

    /// Takes a pin on the connection of one that was let go.
    pub fn again(self, path: &Path) -> Result<Pin> {
        self.release(path)?;
        self.begin(path)?;
        Ok(self)
    }

    /// Lets go.
    pub fn release(&self, path: &Path) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(|error| sqlite_error(path, error))
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Lets the log start again: everything is copied back while no writer can add to it, so that the next writer resets it.
///
/// ```text
/// prepare:    copy back the bulk, however long it takes
/// (caller):   read what was written meanwhile, and pin its end
/// lock:       copy back once more, and take the write lock if that was quick: writers wait from here on
/// (caller):   read the rest, pin the very end, let go of every older pin
/// copy_back:  copy back the rest; true: nothing is left, and a fresh pin needs no log
/// (caller):   take that pin, let go of the one before
/// drop:       let go of the write lock
/// ```
///
/// Whenever somebody is in the way, or the disk is slow now, it is given up; nothing is lost by it.
pub struct Turnover {
    checkpointer: Connection,
    writer: Connection,
}

impl Turnover {
    /// Copies back what there is.
    pub fn prepare(path: &Path) -> Result<Turnover> {
        let turnover = Turnover { checkpointer: connect(path)?, writer: connect(path)? };
        turnover.copy_back(path)?;
        // SQLite's own waiting sleeps for longer and longer, and so never meets the gaps of a busy writer.
        turnover.writer.busy_timeout(Duration::ZERO).map_err(|error| sqlite_error(path, error))?;
        Ok(turnover)
    }

    /// Takes the write lock; `false` when writers leave no gap, or when they would have to wait for the disk for too long.
    pub fn lock(&self, path: &Path) -> Result<bool> {
        let started = Instant::now();
        self.copy_back(path)?;
        if started.elapsed() > TURNOVER_COPY_MAX {
            return Ok(false);
        }
        let started = Instant::now();
        while self.writer.execute_batch("BEGIN IMMEDIATE").is_err() {
            if started.elapsed() > TURNOVER_LOCK_WAIT {
                return Ok(false);
            }
            std::thread::sleep(TURNOVER_LOCK_PAUSE);
        }
        Ok(true)
    }

    /// Copies frames back as far as pins allow; whether none is left.
    pub fn copy_back(&self, path: &Path) -> Result<bool> {
        let counts = self.checkpointer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let (busy, in_log, copied) = counts.map_err(|error| sqlite_error(path, error))?;
        Ok(busy == 0 && in_log == copied)
    }
}

impl Drop for Turnover {
    fn drop(&mut self) {
        // Closing the connection rolls back all the same.
        let _ = self.writer.execute_batch("ROLLBACK");
    }
}
