//! rlog-dump: arguments and report.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::listeners::Listeners;
use crate::cli::{Manual, Tool};
use crate::dump::select::{Bound, OPS, Predicate, TablePattern, TransactionName};
use crate::dump::sql::Dialect;
use crate::dump::{self, Action, Format, Options, Selection, Separator};
use crate::error::{Error, Result};
use crate::source::{self, NamedText};

/// rlog-dump(1).
pub const TOOL: Tool = Tool { name: "rlog-dump", command, manual: &MANUAL, run, closed_pipe_is_success: true };

const MANUAL: Manual = Manual {
    examples: &[
        ("What happened since ten o'clock", "rlog-dump --since 10:00 mysql-bin.000042"),
        ("Who deleted order 17", "rlog-dump --table shop.orders --op delete --where id=17 mysql-bin.0000*"),
        ("Every changed row as JSON", "rlog-dump --format json mysql-bin.000042 | jq 'select(.kind == \"row\")'"),
        ("Is the file whole, and from where to where", "rlog-dump --verify backup.rlog"),
        ("Do it again elsewhere", "rlog-dump --format sql mysql-bin.000042 | mariadb shop"),
        (
            "What is left of a damaged log, and what is not",
            "rlog-dump --salvage mysql-bin.000042 > left.txt 2> lost.txt",
        ),
        ("What the bytes at an offset mean", "rlog-dump --format hex mysql-bin.000042 | less +/0001f4a0"),
        ("Take it back", "rlog-dump --undo --since 10:00 --table shop.orders mysql-bin.000042 | mariadb shop"),
    ],
    sections: &[
        ("TIMES AND POSITIONS", TIMES),
        ("JSON LINES", JSON),
        ("SQL", SQL),
        ("DAMAGE", DAMAGE),
        ("BYTES", BYTES),
    ],
    files: &[],
    environment: &[("TZ", "The zone of times without one, and of the times in text output.")],
    see_also: &["rlog-plugin(3)", "jq(1)", "mariadb-binlog(1)"],
};

const TIMES: &str = "\
A time is `2026-11-21T10:00:00Z` (or with another offset), `2026-11-21 10:00`, `2026-11-21`, `10:00` (today), `today`,
`yesterday`, `now`, or `@SECONDS` since 1970. Without an offset it is local. A range of times includes its start
and excludes its end. A transaction's time is that of its first statement.

A position is `NAME.000042:1234` or `42:1234` as the server prints it (groups from there; groups that end there), a position
as rlog prints it, or a GTID. The last two name a transaction, which is included on both sides.";

const JSON: &str = "\
`--format json` prints one object a line. Keys are only ever added, and keys without a value are left out. Times are UTC.

= kind
`stream`, `table`, `begin`, `row`, `statement`, `ddl`, `truncate`, `load-block`, `xa-decision`, `annotate`, `note`, `commit`,
`prepared`, `discard`, `progress`, `heartbeat`, `gap`, `handover`, `snapshot_begin`, `snapshot_end`, `end`, `abort`.
= txid
The transaction, `FILE:OFFSET` of its first event. Lines between its `begin` and its `commit`, `prepared` or `discard` belong to it; what was
discarded never happened.
= position
On `commit` and `prepared`: the position that --after, --since and rlog-apply understand.
= time
When the statement started (rows, statements), when the transaction started (begin) or was committed (commit).
= server_id, thread, gtid, prev, window_start, incarnation, flags, origins, xid
On `begin`, see rlog-format(5).
= ordinal
Of rows and statements: their number in the transaction, from 0, whatever is selected. With txid it names the event.
= op, database, table
On rows: `insert`, `update` or `delete`, and of which table.
= before, after
On rows: objects by column name, in the table's order. Inserts have no `before`, deletes no `after`.
= key
On rows: the columns of the primary key, or of a unique key that is never NULL, as they were before. Left out when no key is known.
= absent, unchanged, absent_before
On rows: columns that the log does not have in `after` (in `before` for deletes); those of them that are known to be as they
were; for updates those that `before` lacks. Such a column is not NULL: it is not known.
= sql, session
On statements: the text, and what of the session it depends on, in the server's own numbers.

Values: integers are numbers up to 2^53 and strings beyond. Decimals are strings, always. Dates, times and JSON documents are strings;
timestamps are UTC. A part of a JSON document that MySQL logged as a change only (PARTIAL_JSON) is an array of objects with `op` (`replace`, `insert`, `remove`), `path` and
`value`. BIT is an integer; ENUM and SET are their texts, or their numbers when the log does not name the members. Bytes, and
text that is not valid in its charset, are `{\"base64\":\"...\"}`. Strings never hold a raw control character or one that reorders text: these are escaped.";

const SQL: &str = "\
`--format sql` writes the changes as statements: rows as INSERT, UPDATE and DELETE by their key (without a key: by the whole row, and
only one such row), statements and DDL with the session that they ran in. Names and values cannot be taken for commands of a client program;
a statement that could be is prepared from hexadecimal. MySQL: JSON values of types that JSON text does not have (decimals, dates,
bytes) come back as numbers and strings.

A transaction that the log does not end is rolled back. In another dialect than the log's own, DDL is left out with a comment, and a
statement that changes rows is refused (69). LOAD DATA with its file cannot be written as SQL (69).

`--undo` writes the inverse of the selected rows, newest first. Vectors and geometries are not compared.";

const DAMAGE: &str = "\
A dump stops at what is damaged, with everything before it shown. `--verify` and `--salvage` read on behind it. In files of frames the next frame is found by
its checksums. In a binary log the next event is believed by its type, its size, its end position and its checksum (without checksums: by
several events that follow each other); what is left of the transaction that was hit is passed over, up to the next GTID or BEGIN. A missing file, an INCIDENT
event and an event that this version does not know are problems like others.

A frame with a wrong checksum ends SQLite's log, for SQLite as for rlog: it may be a write that was never finished. When frames behind it lead on to a commit, it was none, and
`--verify` and `--salvage` say so with 65.

`--verify` lists each problem with its offset, the transaction that is lost with it, and where reading goes on, and then the ranges that are proven contiguous. What cannot
be verified is said: a log without checksums proves only that it makes sense.

`--salvage` prints the transactions that are whole, and a `gap` where some are missing. Of a SQLite log, what stands behind the damage has lost its base: as text, the
pages are shown that whole transactions there wrote, with the rows on them; likewise of a log without its database. When the statement that created a table is lost, its columns may be without names: see
`--schema`.";

const BYTES: &str = "\
`--format hex` shows every byte with its offset and what it means: of files of frames each frame, its fields and records; of binary and relay logs each event,
the fields of its header and data, and whether its checksum is right; of SQLite's log each frame, and the head of its page. Nothing is decoded, so damaged files are
shown too; the exit status is 65 when a checksum is wrong. Events of encrypted logs are shown as they decrypt (`--key-file`), those inside of a compressed transaction
behind it. `--since`, `--until` and `--txn` select whole transactions of frames and binary logs.";

/// The arguments as typed.
#[derive(clap::Args, Debug)]
struct Arguments {
    /// Files to read, in this order; `-` is standard input, which is also read when none is named
    #[arg(value_name = "FILE|QUEUE")]
    inputs: Vec<PathBuf>,

    /// What to print; text if not given
    #[arg(short, long, value_enum)]
    format: Option<FormatName>,

    /// Only what happened at or after this time or position (see TIMES AND POSITIONS)
    #[arg(long, value_name = "TIME|POSITION", help_heading = "Selection")]
    since: Option<String>,

    /// Only what happened before this time or up to this position
    #[arg(long, value_name = "TIME|POSITION", help_heading = "Selection")]
    until: Option<String>,

    /// Only these tables: `database.table` or `table`, with `*`, `?` and `[...]`
    #[arg(short, long = "table", value_name = "GLOB", help_heading = "Selection")]
    tables: Vec<String>,

    /// Only these operations, separated by commas: insert, update, delete, statement, ddl, truncate
    #[arg(long = "op", value_name = "OP", value_delimiter = ',', help_heading = "Selection",
        value_parser = clap::builder::PossibleValuesParser::new(OPS.map(|(name, _)| name)))]
    ops: Vec<String>,

    /// Only this transaction: its txid (42:1234), its position, or its GTID
    #[arg(long = "txn", value_name = "TXN", help_heading = "Selection")]
    transactions: Vec<String>,

    /// Only rows of which this is true before or after the change; several must all be true
    ///
    /// `COLUMN=VALUE`, or `!=`, `<`, `<=`, `>`, `>=`, `~REGEX` or `!~REGEX` in place of `=`. Numbers compare as numbers. `NULL` is
    /// SQL's NULL. Columns whose names the log does not tell are `@1`, `@2` and so on.
    #[arg(short, long = "where", value_name = "CONDITION", help_heading = "Selection")]
    conditions: Vec<String>,

    /// Print only these columns of rows, separated by commas
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', help_heading = "Selection")]
    fields: Vec<String>,

    /// Stop after so many rows and statements
    #[arg(short = 'n', long, value_name = "N", help_heading = "Selection")]
    limit: Option<u64>,

    /// SQL that takes the selected changes back, newest first
    ///
    /// Each statement matches the row's key and its full after image, so that it changes nothing when the row is not as the log left it; rows
    /// that were changed later, by something that is not selected, are listed at the top. Reads a pipe through a temporary file.
    /// Rows that were not logged in full are refused (65), and so are DDL and statements among what is selected (80).
    #[arg(long, conflicts_with_all = ["verify", "salvage", "follow", "limit", "fields"], help_heading = "SQL")]
    undo: bool,

    /// One transaction and its tables for a bug report: names and sizes stay, every value is replaced by a hash
    #[arg(long, value_name = "TXN", conflicts_with_all = ["verify", "salvage", "undo", "transactions", "format"])]
    repro: Option<String>,

    /// Dialect of SQL; that of the log's source if not given
    #[arg(long, value_enum, help_heading = "SQL")]
    dialect: Option<DialectName>,

    /// Check instead of printing: every problem with its offset, and which ranges are proven contiguous
    ///
    /// Exits 65 when something is damaged, 81 when the source had lost something, 82 when only the end is missing. `--format json`
    /// gives `problem`, `contiguous`, `note` and `verified` lines. See DAMAGE.
    #[arg(long, conflicts_with_all = ["salvage", "follow"], help_heading = "Damage")]
    verify: bool,

    /// Print the transactions that are whole, and say what is lost
    ///
    /// The report goes to standard error; the exit status is that of --verify.
    #[arg(long, conflicts_with = "follow", help_heading = "Damage")]
    salvage: bool,

    /// CREATE TABLE statements for logs without column names, as `mariadb-dump --no-data` writes them
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    schema: Vec<PathBuf>,

    /// Keys of an encrypted MariaDB log, in the form of its file_key_management plugin
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    key_file: Option<PathBuf>,

    /// File with the secret of a key file that is itself encrypted (file_key_management_filekey)
    #[arg(long, value_name = "FILE", requires = "key_file", help_heading = "Logs")]
    key_secret: Option<PathBuf>,

    /// Name of the (first) log file, when it was renamed or comes from standard input
    #[arg(long, value_name = "NAME", help_heading = "Logs")]
    log_name: Option<String>,

    /// Channel of a queue
    #[arg(long, value_name = "NAME", default_value = crate::queue::DEFAULT_CHANNEL, hide_default_value = true)]
    channel: String,

    /// Wait for more at the end of the last input
    #[arg(long)]
    follow: bool,

    /// Colours in text output
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,

    /// JSON: short for --format json, and the form of --format stats and --verify for programs
    #[arg(long)]
    json: bool,

    /// Separate JSON objects as RFC 7464 says: a record separator (0x1e) before each
    #[arg(long, conflicts_with = "null")]
    json_seq: bool,

    /// End each JSON object with a zero byte in place of a newline
    #[arg(short = '0', long)]
    null: bool,

    // Last, since the heading of its options would go on.
    #[command(flatten)]
    listeners: Listeners,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatName {
    /// For people: a block for each transaction, times local
    Text,
    /// One object a line, see JSON LINES
    Json,
    /// Statements that do it again
    Sql,
    /// Annotated bytes, see BYTES
    Hex,
    /// Counts, sizes and durations
    Stats,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DialectName {
    Mariadb,
    Mysql,
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    /// On a terminal, unless $NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    fn wanted(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

fn command() -> clap::Command {
    let command = clap::Command::new("rlog-dump").about("Show what a log holds").long_about(
        "Show what a log holds\n\nReads rlog files and streams, queues, and the logs that rlog-extract reads. Inputs are never changed. \
         A closed standard output ends it quietly.",
    );
    Arguments::augment_args(command)
}

impl Arguments {
    fn options(&self, zone: &TimeZone) -> Result<Options> {
        let now = Timestamp::now();
        let named = |path: &PathBuf| {
            let name = path.display().to_string();
            let text = std::fs::read(path).map_err(|error| Error::io(&name, error))?;
            Ok(NamedText { name, text })
        };
        let source = source::Options {
            schema: self.schema.iter().map(named).collect::<Result<_>>()?,
            keys: self
                .key_file
                .as_ref()
                .map(|file| {
                    source::mysql::key_file::unlock(
                        named(file)?,
                        self.key_secret.as_ref().map(named).transpose()?.as_ref(),
                    )
                })
                .transpose()?,
            log_name: self.log_name.clone(),
            ..source::Options::default()
        };
        let action = match (self.verify, self.salvage, self.undo, self.repro.is_some()) {
            (true, ..) => Action::Verify,
            (_, true, ..) => Action::Salvage,
            (_, _, true, _) => Action::Undo,
            (.., true) => Action::Repro,
            _ => Action::Print,
        };
        let bound = |text: &Option<String>| text.as_deref().map(|text| Bound::parse(text, zone, now)).transpose();
        let selection = Selection {
            since: bound(&self.since)?,
            until: bound(&self.until)?,
            tables: self.tables.iter().map(|text| TablePattern::parse(text)).collect::<Result<_>>()?,
            ops: OPS.iter().filter(|(name, _)| self.ops.iter().any(|op| op == name)).map(|(_, kind)| *kind).collect(),
            transactions: self
                .transactions
                .iter()
                .chain(&self.repro)
                .map(|text| TransactionName::parse(text))
                .collect::<Result<_>>()?,
            conditions: self.conditions.iter().map(|text| Predicate::parse(text)).collect::<Result<_>>()?,
            fields: self.fields.clone(),
            limit: self.limit,
        };
        if self.undo && !matches!(self.format, None | Some(FormatName::Sql)) {
            return Err(Error::usage("--undo prints SQL: it goes with --format sql only"));
        }
        let format = match self.format.unwrap_or(if self.json { FormatName::Json } else { FormatName::Text }) {
            FormatName::Text => Format::Text,
            FormatName::Json => Format::Json,
            FormatName::Sql => Format::Sql,
            FormatName::Hex => Format::Hex,
            FormatName::Stats => Format::Stats,
        };
        Ok(Options {
            inputs: self.inputs.clone(),
            action,
            json: self.json,
            format,
            selection,
            dialect: self.dialect.map(|name| match name {
                DialectName::Mariadb => Dialect::MariaDb,
                DialectName::Mysql => Dialect::MySql,
                DialectName::Sqlite => Dialect::Sqlite,
                DialectName::Postgres => Dialect::Postgres,
            }),
            separator: match (self.json_seq, self.null) {
                (true, _) => Separator::Sequence,
                (_, true) => Separator::Zero,
                _ => Separator::Line,
            },
            follow: self.follow,
            channel: self.channel.clone(),
            source,
            zone: zone.clone(),
            color: self.color.wanted(),
            listeners: self.listeners.start(TOOL.name, false, true)?,
        })
    }
}

fn run(matches: &clap::ArgMatches) -> Result<()> {
    let arguments = Arguments::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
    if arguments.inputs.is_empty() && io::stdin().is_terminal() {
        return Err(Error::usage("no file is named, and standard input is a terminal").hint("rlog-dump FILE"));
    }
    let options = arguments.options(&TimeZone::system())?;
    // Not `io::stdout()`, which would look for newlines in every buffer.
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|error| Error::io("standard output", error))?;
    dump::run(&options, &mut File::from(stdout), &mut |note| super::note(TOOL.name, note))
}
