//! Sources: transaction logs that are read and turned into frames.
//!
//! A [`Source`] is driven by [`Source::step`]: each call appends some hundred kilobytes of frames to the writer and returns. The
//! caller drains the writer when it likes; no byte depends on when. `rlog-extract` writes them to standard output, `rlog-dump`
//! reads them in memory, as [`crate::frame::Unit`]s. The source writes the stream header, definitions, transactions, progress and the end;
//! the caller writes the `abort` frame when `step` fails, since only it knows what else may fail.
//!
//! [`open`] recognises what an input is by its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::event::{RowsOp, TableDefinition};
use crate::frame::{Coordinate, FrameWriter, Position, PositionSpec};

pub mod mysql;
pub mod sqlite;
pub mod writeset;

/// What a call of [`Source::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to read.
    More,
    /// Nothing more for now, and the source has waited by itself: what was written is due, and it may be asked again at once.
    Waited,
    /// Everything that the source holds was read; more may come ([`Options::follow`]). Ask again after a pause.
    Idle,
    /// The end frame was written.
    End,
}

/// How far a source has come, for progress displays and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes of the source that were read.
    pub bytes_done: u64,
    /// Bytes of the source that there are, 0 when that is not known (standard input).
    pub bytes_total: u64,
    /// Transactions written.
    pub transactions: u64,
    /// Rows written.
    pub rows: u64,
}

/// A transaction log that is read.
pub trait Source {
    /// Reads on and appends frames to `out`; returns after some hundred kilobytes, or at an event that is larger. After an error
    /// the writer holds whole frames, perhaps with an open transaction, and the source may not be asked again.
    fn step(&mut self, out: &mut FrameWriter) -> Result<Step>;

    /// Asks for a clean end behind the transaction at hand.
    fn stop(&mut self);

    /// What was reached: the end of the last transaction or progress that was written.
    fn reached(&self) -> Coordinate;

    /// How far it has come.
    fn status(&self) -> Status;

    /// Remarks for a person since the last call; the end frame has them too.
    fn take_notes(&mut self) -> Vec<String>;

    /// Whether [`Source::step`] writes through the writer's own methods alone, so that a writer that keeps units ([`FrameWriter::in_process`]) may be
    /// given. Others append frames that they made elsewhere.
    fn writes_units(&self) -> bool {
        false
    }

    /// What is wrong with the log and was passed over since the last call ([`Options::salvage`]).
    fn take_problems(&mut self) -> Vec<Problem> {
        Vec::new()
    }
}

/// How transactions' windows are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowMode {
    /// From what the source recorded at commit (MySQL's logical clock, MariaDB's group commits).
    #[default]
    Source,
    /// From the keys of the rows.
    Writeset,
    /// Each transaction waits for the one before.
    Serial,
}

impl WindowMode {
    /// Its name on the command line and in stream headers.
    pub fn name(self) -> &'static str {
        match self {
            WindowMode::Source => "source",
            WindowMode::Writeset => "writeset",
            WindowMode::Serial => "serial",
        }
    }
}

/// Where to stop. Inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// Groups that end at or before this position; for GTIDs, until all of them were seen.
    Position(PositionSpec),
    /// Transactions that began at or before this time, microseconds since 1970 UTC.
    Time(i64),
}

/// A text file that was read by the caller: its name for messages, and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedText {
    /// Name for messages.
    pub name: String,
    /// Content.
    pub text: Vec<u8>,
}

/// What a source is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Resume behind this position.
    pub after: Option<PositionSpec>,
    /// Stop there.
    pub until: Option<Until>,
    /// Pass over what committed before the first transaction at or after this time, microseconds since 1970 UTC.
    pub since_us: Option<i64>,
    /// How windows are made.
    pub windows: WindowMode,
    /// Which tables are wanted, and renames of databases.
    pub filter: TableFilter,
    /// Leave out annotations (the SQL text that caused rows).
    pub no_annotate: bool,
    /// CREATE TABLE statements, for logs without column names.
    pub schema: Vec<NamedText>,
    /// Key file for encrypted logs.
    pub keys: Option<NamedText>,
    /// Name of the (first) log file, for standard input and renamed files.
    pub log_name: Option<String>,
    /// Wait for more at the end of the last file.
    pub follow: bool,
    /// Keep rows of the servers' own tables (`mysql.*` and rlog's), which never belong into another database.
    pub system_tables: bool,
    /// What a reader in the same process looks at.
    pub look: Look,
    /// Read on behind damage, and tell of it in [`Source::take_problems`]. For those who look at a log.
    pub salvage: bool,
}

/// Something that is wrong with a log, and that was passed over ([`Options::salvage`]).
#[derive(Debug)]
pub struct Problem {
    /// What, and where.
    pub error: Error,
    /// The transaction that was lost with it, if one was open.
    pub lost: Option<Coordinate>,
    /// Offset in the same file at which reading goes on; `None`: not in this file.
    pub to: Option<u64>,
}

/// What a reader in the same process looks at ([`FrameWriter::in_process`]); everything if it does not say. It is no filter: the transactions are
/// the same, and so is what the stream says about itself. A source may hand over more than that.
#[derive(Clone, Default)]
pub struct Look {
    /// Bodies of rows that it has no eye for are passed over undecoded.
    pub rows: Option<Arc<dyn LookAtRows>>,
    /// Rows that are passed over count all the same: in what a commit says, and in the numbers of the rows behind them (a rows record of no
    /// columns stands for them).
    pub passed_count: bool,
    /// Rows are counted and measured ([`crate::frame::Measured`]), not decoded.
    pub sizes_only: bool,
}

/// Which rows are looked at.
pub trait LookAtRows: Send + Sync {
    /// Whether rows of this operation and table may be.
    fn looks_at(&self, op: RowsOp, table: &TableDefinition) -> bool;
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, passed_count, sizes_only) = (self.rows.is_some(), self.passed_count, self.sizes_only);
        write!(f, "Look {{ rows: {rows}, passed_count: {passed_count}, sizes_only: {sizes_only} }}")
    }
}

/// Says what is durable downstream. Only this tells a source what it may forget.
pub type Confirm = Box<dyn FnMut() -> Result<Option<Position>> + Send>;

/// What only live sources are asked for.
#[derive(Default)]
pub struct LiveOptions {
    /// The existing rows first, then the log from exactly there.
    pub snapshot: bool,
    /// Whatever was there before: nothing of an earlier snapshot is gone on with.
    pub anew: bool,
    /// What is durable downstream; without it everything that was handed over counts.
    pub confirm: Option<Confirm>,
    /// GTIDs of everything up to the confirmed position, where downstream knows them; else empty.
    pub confirmed_gtids: String,
    /// A copy of the database as it was at the confirmed position, to bridge gaps.
    pub shadow: Option<PathBuf>,
    /// Largest log in bytes that is held back for what is not confirmed.
    pub log_bytes_max: Option<u64>,
    /// Never make the source's log start again.
    pub no_turnover: bool,
}

/// What is read.
pub enum Input {
    /// A live SQLite database.
    Sqlite(PathBuf, LiveOptions),
    /// A live MySQL or MariaDB server.
    #[cfg(feature = "mysql")]
    Server(Box<mysql::live::ServerInput>, LiveOptions),
    /// Files of one server, in any order.
    Files(Vec<PathBuf>),
    /// A stream: its name for messages, and its bytes.
    Stream(String, Box<dyn Read + Send>),
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Binary or relay log.
    BinaryLog,
    /// Binary log that MySQL encrypted.
    EncryptedMySqlLog,
    /// Page file of MariaDB's `binlog_storage_engine=innodb`.
    InnodbBinaryLog,
    /// SQLite database.
    SqliteDatabase,
    /// SQLite WAL.
    SqliteWal,
    /// rlog's own frames.
    Frames,
    /// Shorter than any magic number.
    Short,
    /// Something else.
    Unknown,
}

/// Bytes that [`FileKind::of`] needs.
pub const MAGIC_LEN: usize = 16;

impl FileKind {
    /// The kind of a file called `path` (the name decides only about `.ibb`, which has no magic number) that begins with `head`.
    pub fn of(path: &Path, head: &[u8]) -> FileKind {
        if path.extension().is_some_and(|extension| extension == "ibb") {
            return FileKind::InnodbBinaryLog;
        }
        match head {
            [0xfe, b'b', b'i', b'n', ..] => FileKind::BinaryLog,
            [0xfd, b'b', b'i', b'n', ..] => FileKind::EncryptedMySqlLog,
            [0x37, 0x7f, 0x06, 0x82 | 0x83, ..] => FileKind::SqliteWal,
            head if head.starts_with(&crate::frame::MAGIC) => FileKind::Frames,
            head if head.starts_with(b"SQLite format 3\0") => FileKind::SqliteDatabase,
            head if head.len() < 4 && [0xfe, b'b', b'i', b'n'].starts_with(head) => FileKind::Short,
            _ => FileKind::Unknown,
        }
    }

    /// Reads the first bytes of a file.
    pub fn of_file(path: &Path) -> Result<FileKind> {
        let name = path.display().to_string();
        let mut head = [0; MAGIC_LEN];
        let mut file = File::open(path).map_err(|error| Error::io(&name, error))?;
        let filled = read_full(&mut file, &mut head).map_err(|error| Error::io(&name, error))?;
        Ok(FileKind::of(path, head.get(..filled).unwrap_or(&[])))
    }
}

/// Reads until `out` is full or the input ends; returns how many bytes there were.
pub(crate) fn read_full(input: &mut dyn Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Opens what `input` is. Nothing was written yet when this fails.
pub fn open(input: Input, options: Options) -> Result<Box<dyn Source>> {
    match input {
        Input::Sqlite(path, live) => Ok(Box::new(sqlite::SqliteSource::live(&path, options, live)?)),
        #[cfg(feature = "mysql")]
        Input::Server(server, live) => Ok(Box::new(mysql::live::LiveServer::open(*server, options, live)?)),
        Input::Stream(name, mut stream) => {
            let mut head = vec![0; MAGIC_LEN];
            let filled = read_full(&mut stream, &mut head).map_err(|error| Error::io(&name, error))?;
            head.truncate(filled);
            let kind = FileKind::of(Path::new(&name), &head);
            let whole = Box::new(std::io::Cursor::new(head).chain(stream));
            require_binary_log(kind, &name)?;
            Ok(Box::new(mysql::MySqlSource::from_stream(name, whole, options)?))
        }
        Input::Files(paths) => {
            let first = paths.iter().find(|path| !mysql::files::is_passed_over(path));
            if let Some(path) = first {
                let kind = FileKind::of_file(path)?;
                if matches!(kind, FileKind::SqliteDatabase | FileKind::SqliteWal) {
                    return Ok(Box::new(sqlite::SqliteSource::from_files(&paths, options)?));
                }
                require_binary_log(kind, &path.display().to_string())?;
            }
            Ok(Box::new(mysql::MySqlSource::from_files(paths, options)?))
        }
    }
}

/// Refuses what is no binary log, by name.
pub(crate) fn require_binary_log(kind: FileKind, name: &str) -> Result<()> {
    let unavailable = |what: &str| Err(Error::new(Class::Unavailable, what).in_file(name));
    match kind {
        FileKind::BinaryLog | FileKind::Short => Ok(()),
        FileKind::EncryptedMySqlLog => unavailable(
            "this binary log is encrypted by MySQL (binlog_encryption=ON), which keeps the key in its keyring",
        )
        .map_err(|error: Error| {
            error.hint("let the server decrypt it: `mysqlbinlog --read-from-remote-server --raw` writes a plain copy")
        }),
        FileKind::InnodbBinaryLog => unavailable(
            "this is a page file of MariaDB's binlog_storage_engine=innodb (.ibb), which rlog does not read",
        )
        .map_err(|error: Error| {
            error.hint(
                "read it from the server: `mariadb-binlog --read-from-remote-server --raw` writes plain binary logs",
            )
        }),
        FileKind::SqliteDatabase | FileKind::SqliteWal => {
            unavailable("a SQLite database is read as a file, not through a pipe")
        }
        FileKind::Frames => Err(Error::usage("this is a stream of rlog frames already")
            .in_file(name)
            .hint("`rlog-dump` reads it, `rlog-queue put` keeps it")),
        FileKind::Unknown => {
            Err(Error::damage("this is no transaction log that rlog knows (no magic number fits)").in_file(name).at(0))
        }
    }
}
