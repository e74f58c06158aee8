//! rlog-extract's command line, and what its manual says besides the options.

use std::path::PathBuf;

use clap::Args as _;

use crate::cli::Manual;
use crate::cli::filters::Filters;
use crate::cli::listeners::Listeners;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Keep what a server's logs hold", "rlog-extract /var/lib/mysql/mysql-bin.0000* | rlog-queue put spool"),
        (
            "Go on where a queue ends",
            "rlog-extract --after \"$(rlog-queue last spool)\" mysql-bin.0000* | rlog-queue put spool",
        ),
        ("See what happened since ten o'clock", "rlog-extract --since 10:00 mysql-bin.000042 | rlog-dump -"),
        (
            "Read a log that comes through a pipe",
            "zcat mysql-bin.000042.gz | rlog-extract --log-name mysql-bin.000042 - > 42.rlog",
        ),
        (
            "Read logs without column names",
            "rlog-extract --schema schema.sql --tables 'shop.*' mysql-bin.000042 > shop.rlog",
        ),
        (
            "Replicate a live SQLite database into a queue; repeat the same command after any failure",
            "rlog-extract --follow --snapshot --confirm spool sqlite:app.db | rlog-queue put spool",
        ),
        (
            "The same from cron, where nothing holds the log in between",
            "rlog-extract --snapshot --shadow shadow --confirm spool sqlite:app.db | rlog-queue put spool",
        ),
        (
            "Follow a server into a queue, from a copy of its rows on; repeat the same command after any failure",
            "rlog-extract --follow --snapshot --confirm spool mysql://repl@db1 | rlog-queue put spool",
        ),
        (
            "Catch up from cron, and keep copies of the server's logs",
            "rlog-extract --confirm spool --raw copies mysql://repl@db1 | rlog-queue put spool",
        ),
        (
            "Whether a server is fit to be followed",
            "rlog-extract --check --snapshot 'mysql://repl@db1?ssl-ca=/etc/ssl/db-ca.pem&ssl-mode=verify-identity'",
        ),
        ("See what a SQLite log holds, without touching the database", "rlog-extract app.db-wal | rlog-dump -"),
        ("Read MariaDB's encrypted logs", "rlog-extract --key-file /etc/mysql/keys bin.000042 > 42.rlog"),
    ],
    sections: &[
        ("SOURCES", SOURCES),
        ("ENDS OF LOGS", ENDS),
        ("NAMES AND TYPES OF COLUMNS", NAMES),
        ("FILTERS", FILTERS),
        ("WINDOWS", WINDOWS),
    ],
    files: &[],
    environment: &[("TZ", "The zone of times without one.")],
    see_also: &["rlog-plugin(3)", "mariadb-binlog(1)", "mysqlbinlog(1)"],
};

const SOURCES: &str = "\
Several files of one server are one stream, in log order, whatever the order of the arguments. Index files (`.idx`, `.index`) and empty files
that a glob catches are passed over with a note. A file that is missing between two is a gap: everything before it is written, then the
exit status is 81.

Binary and relay logs of MySQL 3.23 to 9.x and MariaDB 5.1 to 12.x are read, compressed and (MariaDB) encrypted ones too. Events of relay logs
have the position that they had in their source's log. Transactions are numbered by file number and offset; standard input and renamed files need
`--log-name`, else the stream is unanchored and rlog-queue refuses it.

Rows of the server's own tables (`mysql.*`) and of rlog's (`rlog_*`) are left out, and so are statements and DDL about nothing else. What an rlog-apply has written
into the log's server says through which targets it came (`origins`), whatever is filtered: an rlog-apply skips what has been in its own target.

`mysql://USER@HOST[:PORT][?socket=PATH&ssl-mode=...&ssl-ca=FILE&defaults-file=FILE]` is a running MySQL or MariaDB server. Its log is read as a replica reads it, and gives the
frames that its files give. Passwords come from the `[client]` and `[rlog]` sections of ~/.my.cnf or of the defaults file. TLS is asked for (`required`) of any host but this one, and
checked (`verify-identity`) when an authority is named. Accounts may use caching_sha2_password, ed25519 or mysql_native_password. They need REPLICATION SLAVE and BINLOG MONITOR
(MySQL: REPLICATION CLIENT); SELECT for `--snapshot` and for logs without column names; RELOAD for `--snapshot`. `--check` says what is missing, and which of the server's settings endanger
what rlog promises; so does every start, as notes.

Without `--after`, `--since` or something confirmed, everything that the server still holds is read. Reading begins at the start of the log file in which the position lies: what lies before the
position is passed over, and proves that the position is of this log. A position whose log was purged ends with 81; another server, or one whose logs were reset, with 83. A lost connection
is made again, at the byte where it was cut. Without `--follow` the end is where the log ended at the start.

`--snapshot` writes the rows of all selected tables first. Several sessions open their views of the data at one position, while FLUSH TABLES WITH READ LOCK holds writers back for the time that this
and reading the tables' definitions takes. It waits while prepared XA transactions exist. Cut off, it starts over: what an interrupted one has loaded is cleared by the next. Tables of engines without transactions are
read as they are at the time. Around the rows stand the statements
that make databases, sequences, tables, indexes, routines, views and triggers anew; with `--rewrite-db` only those of databases that keep their names. Events stay behind, with a note.

`sqlite:PATH` is a live SQLite database in WAL mode: its write-ahead log is decoded page by page while the application goes on. Nothing is written to the database. A read
transaction keeps checkpoints from taking away what is not confirmed yet; the application's own RESTART and TRUNCATE checkpoints report busy meanwhile. `PATH` or `PATH-wal` reads
database file and log as files at rest. Statements, their order inside a transaction and times are not in that log. With `--follow`, transactions are told exactly.

Between two runs that follow each other, as from cron, nobody holds the log: the application may start it again, or remove it when it closes. Then what changed is a gap (81), unless
`--shadow FILE` keeps the state that was last confirmed. With it, a run tells the transactions exactly if the log still goes on from there, and else all that differs as one
transaction, flagged as merged. Every run has to use it: a transaction is in the shadow before it is told, so a kill at any moment is safe. If the source itself
went back (a power loss under synchronous=NORMAL), the difference is told, with a note.

A database in rollback-journal mode has no log: with `--shadow` its states are compared, and all changes between two looks are one merged transaction; while it looks, writers wait.
`PRAGMA journal_mode=WAL` switches for good. Databases with locking_mode=EXCLUSIVE (78), encrypted or on network file systems are refused.
In a directory that cannot be written, a database can be followed while an application has it open, and is refused otherwise (77).";

const ENDS: &str = "\
A log that ends inside a transaction ends the stream with 82, once everything before is written. There are two exceptions. The last file may
still be written: when it is flagged in use, the exit status is 0, and the end frame says how many bytes are left. And when the next
file says that the server had crashed and restarted, it has rolled the unfinished transaction back: it is left out, with a note.

An event whose checksum is wrong ends the stream with 65 and its offset; at the very end of a log in use it counts as unfinished.";

const NAMES: &str = "\
Names and types come from the log itself when the server was told to write them (`binlog_row_metadata=FULL`); else from CREATE and ALTER TABLE
statements in the log, from `--schema`, and of a live server from its own definitions; else columns are called `@1`, `@2` and so on, with a note. A schema file is what `mysqldump --no-data` writes, as of the
start of the log; statements in the log change it from there. Of a live server whose log does not name columns the log is first searched for DDL, from where reading begins to its end: a
table's present definition counts only behind the last statement that names the table. So rows are never read by a definition of another time.";

const FILTERS: &str = "\
`--rewrite-db` comes first: all other rules see the new name. Then the rules are MariaDB's. Rows are judged by the database that their table is in, and by the
table. Statements and DDL are judged by their default database, and then by the tables that they write: those named by INSERT, REPLACE and LOAD DATA,
those of UPDATE whose columns are set, and those that DELETE lists. Tables that are only read do not count. Of several tables the first one decides that
a `do` or `ignore` list has; with `--tables` and `--ignore-tables` a statement passes when one of its tables does. An UPDATE of several tables that
sets a column without saying of which table counts for all of them.

What the text does not tell is not guessed: what a stored function or a trigger writes, and statements that name no table to be written, are judged by
the default database alone, and pass all rules about tables. A log of rows (`binlog_format=ROW`) has no such questions.";

const WINDOWS: &str = "\
Each transaction says which earlier one it must wait for, so that rlog-apply can run others at the same time. `source` takes what the server
recorded when it committed (MySQL's logical clock, MariaDB's group commits). `writeset` compares the keys of rows; it needs to know primary, unique and foreign
keys, from statements in the log or `--schema`, and lets a transaction on other tables wait for everything. `serial` makes each wait for the one before.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A log file, `-` for standard input, or the address of a database
    #[arg(value_name = "SOURCE", required = true)]
    pub(super) sources: Vec<String>,

    /// Resume behind this position
    ///
    /// A position as rlog prints it, FILE:OFFSET as the server prints it, a GTID (a set of them), `oldest` or `now`.
    #[arg(long, value_name = "POSITION", help_heading = "Selection")]
    pub(super) after: Option<String>,

    /// Stop there, inclusive
    ///
    /// With a time: before the first transaction that began later. With FILE:OFFSET: behind the last transaction that ends there or before.
    /// With GTIDs: when all of them were seen.
    #[arg(long, value_name = "POSITION|TIME", help_heading = "Selection")]
    pub(super) until: Option<String>,

    /// Pass over transactions before this time
    ///
    /// `2026-11-21T10:00:00Z`, `2026-11-21 10:00`, `10:00` (today), `yesterday`, `@SECONDS`; without an offset it is local. From the first transaction
    /// that is late enough on, everything is written.
    #[arg(long, value_name = "TIME", help_heading = "Selection")]
    pub(super) since: Option<String>,

    /// Leave out the SQL text that caused rows
    #[arg(long, help_heading = "Selection")]
    pub(super) no_annotate: bool,

    /// Read what is there when it starts, then end (the default)
    #[arg(long, help_heading = "Reading", conflicts_with = "follow")]
    pub(super) once: bool,

    /// Wait for more at the end, through rotations
    #[arg(long, short = 'f', help_heading = "Reading")]
    pub(super) follow: bool,

    /// Write the existing rows first, then the log from exactly there (SQLite databases and servers)
    ///
    /// With --confirm only as long as nothing is confirmed yet, so that the same command can be repeated.
    #[arg(long, help_heading = "Live databases")]
    pub(super) snapshot: bool,

    /// Write the existing rows anew, whatever is confirmed
    #[arg(long, help_heading = "Live databases")]
    pub(super) resnapshot: bool,

    /// What is durable there may be forgotten by the source, and is where reading resumes
    ///
    /// A queue, `@FILE` with a position that is replaced as it advances, or `none`: for looking only. Needed with --follow of a source that holds
    /// something back.
    #[arg(long, value_name = "QUEUE|@CURSOR", help_heading = "Live databases")]
    pub(super) confirm: Option<String>,

    /// Largest log that is held back for what is not confirmed, or `none`
    ///
    /// When it is larger, the source is let go, since it comes first; if it then starts its log again, reading ends with 81.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", help_heading = "Live databases")]
    pub(super) max_wal: String,

    /// Never make the source start its log again
    ///
    /// Without it, --follow copies a SQLite log of more than 900 pages back and has it started again when nothing is written for a moment, and above 32 MiB
    /// also under load: then writers wait for some milliseconds (an application without a busy timeout would get "database is locked"). Meanwhile the
    /// application's own checkpoints, which could not finish while the log is read, report busy instead of copying a little at every commit.
    #[arg(long, help_heading = "Live databases")]
    pub(super) no_turnover: bool,

    /// Id to register with at a server, unlike those of all its replicas and its own
    ///
    /// Without it an id above 2147483648 is made from this host's name, the channel, the address and --confirm, so that the same command always has the
    /// same.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Servers")]
    pub(super) server_id: Option<u32>,

    /// Name to show in the server's SHOW REPLICAS (SHOW SLAVE HOSTS); without it `rlog@HOST`
    #[arg(long, value_name = "NAME", help_heading = "Servers")]
    pub(super) report_name: Option<String>,

    /// Acknowledge to a semi-synchronous server what --confirm says is durable
    #[arg(long, help_heading = "Servers")]
    pub(super) semi_sync: bool,

    /// Longest pause between two tries to connect; the first is a tenth of a second, and it doubles
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = "Servers")]
    pub(super) connect_retry: String,

    /// How often in a row connecting may fail before it ends with 75; without it 10, with --follow for ever
    #[arg(long, value_name = "N", help_heading = "Servers")]
    pub(super) retry_count: Option<u32>,

    /// A server that says nothing for so long is taken for gone
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = "Servers")]
    pub(super) net_timeout: String,

    /// Go on with this server when SOURCE is gone for good (--retry-count)
    ///
    /// A replica of it, or of the same primary, with the same GTIDs: `mysql://USER@HOST`. It is accepted only if it has executed everything that was written
    /// so far; the stream then has a `handover` frame. The same command can be repeated behind a handover, and be started when SOURCE is gone already:
    /// what was written before is then what --confirm says. A queue knows all GTIDs of that; a cursor file suffices with one domain of MariaDB, else it is refused (80).
    #[arg(long, value_name = "URL", help_heading = "Servers")]
    pub(super) handover: Option<String>,

    /// Sessions that read a server's rows at the same time, all at one position
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Servers")]
    pub(super) snapshot_sessions: u16,

    /// A copy of the database at the confirmed position, to bridge gaps (SQLite)
    ///
    /// Made by the first run, kept by every further one: FILE, FILE-log.NUMBER and FILE-lock, about as large as the database. Between runs that follow each
    /// other, as from cron, nothing holds the log. If it was not started again, its transactions are told exactly; if it was, all changes since the last run
    /// are told as one transaction, flagged as merged. Needs `--confirm`.
    #[arg(long, value_name = "FILE", help_heading = "Live databases")]
    pub(super) shadow: Option<PathBuf>,

    /// CREATE TABLE statements, for logs without column names
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    pub(super) schema: Vec<PathBuf>,

    /// Keys of encrypted MariaDB logs, in the format of file_key_management
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    pub(super) key_file: Option<PathBuf>,

    /// File with the secret of a key file that is itself encrypted (file_key_management_filekey)
    #[arg(long, value_name = "FILE", requires = "key_file", help_heading = "Reading")]
    pub(super) key_secret: Option<PathBuf>,

    /// Name of the log, when its file does not tell
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    pub(super) log_name: Option<String>,

    /// How to tell which transactions may run at the same time
    #[arg(long, value_name = "HOW", default_value = "source", value_parser = ["source", "writeset", "serial"], help_heading = "Writing")]
    pub(super) windows: String,

    /// Keep byte-exact copies of a server's logs here too
    ///
    /// The folder is created if only its last part is missing. An event is in the copy before its frames are written; the same command again completes
    /// a copy that was cut off.
    #[arg(long, value_name = "DIR", help_heading = "Writing")]
    pub(super) raw: Option<PathBuf>,

    /// Write to a terminal
    #[arg(long, help_heading = "Writing")]
    pub(super) force: bool,

    /// Look at the sources and print what would be read; write nothing
    #[arg(long, help_heading = "Report")]
    pub(super) check: bool,

    /// Show how far it is
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"], help_heading = "Report")]
    pub(super) progress: String,

    /// Say less: no notes
    #[arg(long, short = 'q', help_heading = "Report", conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Say more: what was written, at the end
    #[arg(long, short = 'v', action = clap::ArgAction::Count, help_heading = "Report")]
    pub(super) verbose: u8,

    /// Write counters there, in Prometheus' text format
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) metrics_file: Option<PathBuf>,

    /// Channel, whose section of the configuration is used
    #[arg(long, value_name = "NAME", help_heading = "Configuration")]
    pub(super) channel: Option<String>,

    // Last, since the heading of its options would go on.
    #[command(flatten)]
    pub(super) filters: Filters,

    #[command(flatten)]
    pub(super) listeners: Listeners,
}

pub(super) fn command() -> clap::Command {
    let command = clap::Command::new("rlog-extract")
        .about("Read a database's transaction log and write it as frames")
        .long_about(
            "Read a database's transaction log and write it as frames (rlog-format(5)) to standard output, for rlog-queue, rlog-ship, \
             rlog-apply and rlog-dump.",
        );
    Args::augment_args(command)
}
