//! rlog-extract: arguments and report.
//!
//! Its parts: `source` (what is read), `extract` (the loop), `frame` (what is written), `event::filter` (which tables).

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args as _, FromArgMatches as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{Manual, Tool, escape_for_terminal};
use crate::dump::moment;
use crate::error::{Class, Error, Result};
use crate::event::filter::{FilterRules, TableFilter};
use crate::extract;
use crate::frame::{Position, PositionSpec};
use crate::queue;
use crate::source::{self, Confirm, Input, LiveOptions, NamedText, Options, Status, Until, WindowMode};

/// rlog-extract(1).
pub const TOOL: Tool = Tool { name: "rlog-extract", command, manual: &MANUAL, run, closed_pipe_is_success: false };

const MANUAL: Manual = Manual {
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
        ("See what a SQLite log holds, without touching the database", "rlog-extract app.db-wal | rlog-dump -"),
        ("Read MariaDB's encrypted logs", "rlog-extract --key-file /etc/mysql/keys bin.000042 > 42.rlog"),
    ],
    sections: &[
        ("SOURCES", SOURCES),
        ("ENDS OF LOGS", ENDS),
        ("NAMES AND TYPES OF COLUMNS", NAMES),
        ("WINDOWS", WINDOWS),
    ],
    files: &[],
    environment: &[("TZ", "The zone of times without one.")],
    see_also: &["mariadb-binlog(1)", "mysqlbinlog(1)"],
};

const SOURCES: &str = "\
Several files of one server are one stream, in log order, whatever the order of the arguments. Index files (`.idx`, `.index`) and empty files
that a glob catches are passed over with a note. A file that is missing between two is a gap: everything before it is written, then the
exit status is 81.

Binary and relay logs of MySQL 3.23 to 9.x and MariaDB 5.1 to 12.x are read, compressed and (MariaDB) encrypted ones too. Events of relay logs
have the position that they had in their source's log. Transactions are numbered by file number and offset; standard input and renamed files need
`--log-name`, else the stream is unanchored and rlog-queue refuses it.

Rows of the server's own tables (`mysql.*`) and of rlog's are left out.

`sqlite:PATH` is a live SQLite database in WAL mode: its write-ahead log is decoded page by page while the application goes on. Nothing is written to the database. A read
transaction keeps checkpoints from taking away what is not confirmed yet; the application's own RESTART and TRUNCATE checkpoints report busy meanwhile. `PATH` or `PATH-wal` reads
database file and log as files at rest. Statements, their order inside a transaction and times are not in that log. Databases in rollback-journal
mode, with locking_mode=EXCLUSIVE, encrypted, or on network file systems cannot be read.";

const ENDS: &str = "\
A log that ends inside a transaction ends the stream with 82, once everything before is written. There are two exceptions. The last file may
still be written: when it is flagged in use, the exit status is 0, and the end frame says how many bytes are left. And when the next
file says that the server had crashed and restarted, it has rolled the unfinished transaction back: it is left out, with a note.

An event whose checksum is wrong ends the stream with 65 and its offset; at the very end of a log in use it counts as unfinished.";

const NAMES: &str = "\
Names and types come from the log itself when the server was told to write them (`binlog_row_metadata=FULL`); else from CREATE and ALTER TABLE
statements in the log, and from `--schema`; else columns are called `@1`, `@2` and so on, with a note. A schema file is what `mysqldump --no-data` writes, as of the
start of the log; statements in the log change it from there.";

const WINDOWS: &str = "\
Each transaction says which earlier one it must wait for, so that rlog-apply can run others at the same time. `source` takes what the server
recorded when it committed (MySQL's logical clock, MariaDB's group commits). `writeset` compares the keys of rows; it needs to know primary, unique and foreign
keys, from statements in the log or `--schema`, and lets a transaction on other tables wait for everything. `serial` makes each wait for the one before.";

#[derive(Debug, clap::Args)]
struct Args {
    /// A log file, `-` for standard input, or the address of a database
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<String>,

    /// Resume behind this position
    ///
    /// A position as rlog prints it, FILE:OFFSET as the server prints it, a GTID (a set of them), `oldest` or `now`.
    #[arg(long, value_name = "POSITION", help_heading = "Selection")]
    after: Option<String>,

    /// Stop there, inclusive
    ///
    /// With a time: before the first transaction that began later. With FILE:OFFSET: behind the last transaction that ends there or before.
    /// With GTIDs: when all of them were seen.
    #[arg(long, value_name = "POSITION|TIME", help_heading = "Selection")]
    until: Option<String>,

    /// Pass over transactions before this time
    ///
    /// `2026-11-21T10:00:00Z`, `2026-11-21 10:00`, `10:00` (today), `yesterday`, `@SECONDS`; without an offset it is local. From the first transaction
    /// that is late enough on, everything is written.
    #[arg(long, value_name = "TIME", help_heading = "Selection")]
    since: Option<String>,

    /// Write rows and statements of these tables only
    ///
    /// Globs over `database.table`, or over the table alone. May be repeated; names are separated by commas.
    #[arg(long, value_name = "GLOB", value_delimiter = ',', help_heading = "Selection")]
    tables: Vec<String>,

    /// Leave these tables out
    #[arg(long, value_name = "GLOB", value_delimiter = ',', help_heading = "Selection")]
    ignore_tables: Vec<String>,

    /// Rename a database, before all filters
    #[arg(long, value_name = "FROM=TO", help_heading = "Selection")]
    rewrite_db: Vec<String>,

    /// Leave out the SQL text that caused rows
    #[arg(long, help_heading = "Selection")]
    no_annotate: bool,

    /// Read what is there when it starts, then end (the default)
    #[arg(long, help_heading = "Reading", conflicts_with = "follow")]
    once: bool,

    /// Wait for more at the end, through rotations
    #[arg(long, short = 'f', help_heading = "Reading")]
    follow: bool,

    /// Write the existing rows first, then the log from exactly there (live SQLite databases)
    ///
    /// With --confirm only as long as nothing is confirmed yet, so that the same command can be repeated.
    #[arg(long, help_heading = "Live databases")]
    snapshot: bool,

    /// Write the existing rows anew, whatever is confirmed
    #[arg(long, help_heading = "Live databases")]
    resnapshot: bool,

    /// What is durable there may be forgotten by the source, and is where reading resumes
    ///
    /// A queue, `@FILE` with a position that is replaced as it advances, or `none`: for looking only. Needed with --follow of a source that holds
    /// something back.
    #[arg(long, value_name = "QUEUE|@CURSOR", help_heading = "Live databases")]
    confirm: Option<String>,

    /// Largest log that is held back for what is not confirmed, or `none`
    ///
    /// When it is larger, the source is let go, since it comes first; if it then starts its log again, reading ends with 81.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", help_heading = "Live databases")]
    max_wal: String,

    /// Never make the source start its log again
    ///
    /// Without it, a SQLite log above 32 MiB is copied back and started again when everything is confirmed. Writers wait for some milliseconds.
    #[arg(long, help_heading = "Live databases")]
    no_turnover: bool,

    /// A copy of the database at the confirmed position, to bridge gaps (not built yet)
    #[arg(long, value_name = "FILE", help_heading = "Live databases")]
    shadow: Option<PathBuf>,

    /// CREATE TABLE statements, for logs without column names
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    schema: Vec<PathBuf>,

    /// Keys of encrypted MariaDB logs, in the format of file_key_management
    #[arg(long, value_name = "FILE", help_heading = "Reading")]
    key_file: Option<PathBuf>,

    /// Name of the log, when its file does not tell
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    log_name: Option<String>,

    /// How to tell which transactions may run at the same time
    #[arg(long, value_name = "HOW", default_value = "source", value_parser = ["source", "writeset", "serial"], help_heading = "Writing")]
    windows: String,

    /// Keep the source's own files here (not built yet)
    #[arg(long, value_name = "DIR", help_heading = "Writing")]
    raw: Option<PathBuf>,

    /// Write to a terminal
    #[arg(long, help_heading = "Writing")]
    force: bool,

    /// Look at the sources and print what would be read; write nothing
    #[arg(long, help_heading = "Report")]
    check: bool,

    /// Show how far it is
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"], help_heading = "Report")]
    progress: String,

    /// Say less: no notes
    #[arg(long, short = 'q', help_heading = "Report", conflicts_with = "verbose")]
    quiet: bool,

    /// Say more: what was written, at the end
    #[arg(long, short = 'v', action = clap::ArgAction::Count, help_heading = "Report")]
    verbose: u8,

    /// Write counters there, in Prometheus' text format
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    metrics_file: Option<PathBuf>,

    /// Configuration file
    #[arg(long, value_name = "FILE", env = "RLOG_CONFIG", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// Channel, whose section of the configuration is used
    #[arg(long, value_name = "NAME", help_heading = "Configuration")]
    channel: Option<String>,
}

fn command() -> clap::Command {
    let command = clap::Command::new("rlog-extract")
        .about("Read a database's transaction log and write it as frames")
        .long_about(
            "Read a database's transaction log and write it as frames (rlog-format(5)) to standard output, for rlog-queue, rlog-ship, \
             rlog-apply and rlog-dump.",
        );
    Args::augment_args(command)
}

fn run(matches: &clap::ArgMatches) -> Result<()> {
    let args = Args::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
    let stdout = std::io::stdout();
    if stdout.is_terminal() && !args.force && !args.check {
        return Err(Error::usage("frames are not for a terminal")
            .hint("`rlog-dump` shows what a log holds; `--force` writes frames to the terminal all the same"));
    }
    // Not the buffered standard output: it would cut writes at line feeds.
    let output = stdout.as_fd().try_clone_to_owned().map_err(|error| Error::io("standard output", error))?;
    let mut output = File::from(output);
    let done = extract(&args, &mut output);
    if let Err(error) = &done
        && let Failure::BeforeStream(error) = error
        && !args.check
    {
        extract::write_abort(&mut output, error);
    }
    done.map_err(|failure| match failure {
        Failure::BeforeStream(error) | Failure::InStream(error) => error,
    })
}

/// Whether the stream has its abort frame already.
enum Failure {
    BeforeStream(Error),
    InStream(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::BeforeStream(error)
    }
}

fn extract(args: &Args, output: &mut File) -> std::result::Result<(), Failure> {
    if let Some(config) = &args.config {
        // Read by a later version; one that was named must exist all the same.
        std::fs::metadata(config).map_err(|error| Error::io(config.display().to_string(), error))?;
    }
    let mut options = options(args)?;
    let input = match sqlite_path(args)? {
        Some(path) => Input::Sqlite(path, live_options(args, &mut options)?),
        None => {
            resume(args, &mut options)?;
            input(args)?
        }
    };
    if args.check {
        return Ok(check(args, input, options)?);
    }
    let mut source = source::open(input, options)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // A second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Error::io("signal handler", error))?;
    }
    crate::sys::pipe::enlarge(&*output);
    let mut display = Display::new(args);
    let done =
        extract::run(&mut *source, output, "standard output", &stop, &mut |status, notes| display.show(status, notes));
    display.finish();
    let status = source.status();
    if let Some(path) = &args.metrics_file {
        write_metrics(path, status, done.as_ref().err())?;
    }
    match done {
        Ok(_) => {
            if args.verbose > 0 {
                display.say(&format!(
                    "{} transactions, {} rows, reached {}",
                    status.transactions,
                    status.rows,
                    source.reached()
                ));
            }
            Ok(())
        }
        Err(error) => Err(Failure::InStream(error)),
    }
}

/// The path of `sqlite:PATH`.
fn sqlite_path(args: &Args) -> Result<Option<PathBuf>> {
    let [source] = args.sources.as_slice() else {
        return match args.sources.iter().find(|source| source.starts_with("sqlite:")) {
            Some(source) => Err(Error::usage(format!("`{source}` is a source of its own: it goes with no other"))),
            None => Ok(None),
        };
    };
    Ok(source.strip_prefix("sqlite:").map(PathBuf::from))
}

/// Options of live sources. What is confirmed is where reading resumes, unless `--after` says otherwise.
fn live_options(args: &Args, options: &mut Options) -> Result<LiveOptions> {
    if args.shadow.is_some() {
        return Err(Error::new(Class::Unavailable, "--shadow is not built yet in this version"));
    }
    let mut confirm = match args.confirm.as_deref() {
        Some("none") => None,
        Some("") => return Err(Error::usage("--confirm is empty")),
        Some(place) => Some(confirmation(place, args.channel.as_deref().unwrap_or("default"))?),
        None if args.follow => {
            return Err(Error::usage(
                "--follow holds back the source's log, so it has to know what is durable downstream",
            )
            .hint("`--confirm QUEUE` names the queue; `--confirm none` is for looking only"));
        }
        None => None,
    };
    if options.after.is_none() && !args.resnapshot {
        let confirmed = confirm.as_mut().map(|confirm| confirm()).transpose()?.flatten();
        options.after = confirmed.map(PositionSpec::Position);
    }
    let log_bytes_max = match args.max_wal.as_str() {
        "none" => None,
        size => Some(crate::cli::units::bytes(size).map_err(|what| Error::usage(format!("--max-wal: {what}")))?),
    };
    Ok(LiveOptions {
        snapshot: args.resnapshot || (args.snapshot && options.after.is_none()),
        confirm,
        shadow: None,
        log_bytes_max,
        no_turnover: args.no_turnover,
    })
}

/// Files hold nothing back, so of `--confirm` only its second meaning is left: where reading resumes unless `--after` says otherwise.
fn resume(args: &Args, options: &mut Options) -> Result<()> {
    match args.confirm.as_deref() {
        None | Some("none") => {}
        Some("") => return Err(Error::usage("--confirm is empty")),
        Some(place) if options.after.is_none() => {
            let confirmed = confirmation(place, args.channel.as_deref().unwrap_or("default"))?()?;
            options.after = confirmed.map(PositionSpec::Position);
        }
        Some(_) => {}
    }
    Ok(())
}

/// Asks a queue, or a file that somebody replaces, what is durable.
fn confirmation(place: &str, channel: &str) -> Result<Confirm> {
    if let Some(path) = place.strip_prefix('@') {
        let path = PathBuf::from(path);
        return Ok(Box::new(move || match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => text
                .trim()
                .parse::<Position>()
                .map(Some)
                .map_err(|_| Error::damage("this is no position").in_file(path.display().to_string()).at(0)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path.display().to_string(), error)),
        }));
    }
    let address: queue::Address = place.parse()?;
    let channel = channel.to_owned();
    let mut opened: Option<Box<dyn queue::Queue>> = None;
    Ok(Box::new(move || {
        // The queue may be created by the `put` at the other end of the pipe.
        if opened.is_none() {
            match queue::open(Arc::new(crate::sys::Os), &address, &channel, false) {
                Ok(queue) => opened = Some(queue),
                Err(error) if error.class() == Class::NoInput => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        match opened.as_ref().map(|queue| queue.tail()) {
            Some(Ok(tail)) => Ok(confirmed_of(&tail)),
            // Somebody writes or recovers just now.
            Some(Err(error)) if error.class() == Class::TryAgain => Ok(None),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }))
}

/// What a queue holds for certain; nothing while a snapshot in it is not whole.
fn confirmed_of(tail: &queue::Tail) -> Option<Position> {
    if tail.snapshot.as_ref().is_some_and(|snapshot| !snapshot.complete) {
        return None;
    }
    tail.position()
}

/// What the operands mean. Addresses of what cannot be read yet are refused by name.
fn input(args: &Args) -> Result<Input> {
    for source in &args.sources {
        let scheme = source.split_once(':').map(|(scheme, _)| scheme);
        let later =
            |what: &str| Err(Error::new(Class::Unavailable, format!("{what} are not built yet in this version")));
        match scheme {
            Some("mysql" | "mariadb") => return later("connections to a MySQL or MariaDB server"),
            Some("postgres" | "postgresql") => return later("PostgreSQL sources"),
            _ => {}
        }
    }
    if args.raw.is_some() {
        return Err(Error::new(Class::Unavailable, "--raw is not built yet in this version"));
    }
    if args.sources.iter().any(|source| source == "-") {
        if args.sources.len() > 1 {
            return Err(Error::usage("standard input is a source of its own: `-` goes with no other"));
        }
        return Ok(Input::Stream("standard input".into(), Box::new(std::io::stdin())));
    }
    Ok(Input::Files(args.sources.iter().map(PathBuf::from).collect()))
}

fn options(args: &Args) -> Result<Options> {
    let now = Timestamp::now();
    let zone = TimeZone::system();
    let time = |text: &str| moment::parse(text, &zone, now);
    let position =
        |text: &str| text.parse::<PositionSpec>().map_err(|error| Error::usage(format!("`{text}` is {error}")));
    let until = args.until.as_deref().map(|text| match text.parse::<PositionSpec>() {
        // `10:00` is a time of day; `000010:1234` would be a position.
        Ok(spec) if time(text).is_none() || text == "now" => Ok(Until::Position(spec)),
        _ => time(text)
            .map(Until::Time)
            .ok_or_else(|| Error::usage(format!("`{text}` is neither a position nor a time"))),
    });
    let since = args.since.as_deref().map(|text| {
        time(text).ok_or_else(|| Error::usage(format!("`{text}` is no time")).hint("for example 2026-11-21 10:00"))
    });
    let mut rules = FilterRules {
        tables: args.tables.clone(),
        ignore_tables: args.ignore_tables.clone(),
        ..FilterRules::default()
    };
    for rewrite in &args.rewrite_db {
        let (from, to) = rewrite
            .split_once('=')
            .filter(|(from, to)| !from.is_empty() && !to.is_empty())
            .ok_or_else(|| Error::usage(format!("`{rewrite}` is not FROM=TO")))?;
        rules.rewrite_db.push((from.into(), to.into()));
    }
    let text = |path: &PathBuf| -> Result<NamedText> {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| Error::io(&name, error))?;
        Ok(NamedText { name, text })
    };
    Ok(Options {
        after: args.after.as_deref().map(position).transpose()?,
        until: until.transpose()?,
        since_us: since.transpose()?,
        windows: match args.windows.as_str() {
            "writeset" => WindowMode::Writeset,
            "serial" => WindowMode::Serial,
            _ => WindowMode::Source,
        },
        filter: TableFilter::new(rules)?,
        no_annotate: args.no_annotate,
        schema: args.schema.iter().map(text).collect::<Result<_>>()?,
        keys: args.key_file.as_ref().map(text).transpose()?,
        log_name: args.log_name.clone(),
        follow: args.follow,
        system_tables: false,
    })
}

/// `--check`: opens everything, reads nothing but the ends of the files.
fn check(args: &Args, input: Input, options: Options) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let io = |error| Error::io("standard output", error);
    if let Input::Files(paths) = &input {
        let (probes, notes) = source::mysql::files::in_order(paths.clone())?;
        for note in notes {
            writeln!(out, "{}", escape_for_terminal(&note)).map_err(io)?;
        }
        for probe in &probes {
            let format = &probe.format;
            let line = format!(
                "{}: {} {} server {}, {} bytes{}{}{}",
                probe.path.display(),
                format.family.name(),
                if format.server_version.is_empty() { "of unknown version" } else { &format.server_version },
                format.server_id,
                probe.len,
                if probe.relay { ", relay log" } else { "" },
                if format.checksum { "" } else { ", no checksums" },
                if format.flags & source::mysql::event::flag::IN_USE != 0 { ", in use" } else { "" },
            );
            writeln!(out, "{}", escape_for_terminal(&line)).map_err(io)?;
        }
        for pair in probes.windows(2) {
            if let [earlier, later] = pair
                && let Some(missing) = source::mysql::files::missing_between(earlier, later)
            {
                return Err(Error::new(Class::Gap, format!("{missing} is missing before {}", later.path.display())));
            }
        }
    }
    drop(source::open(input, options)?);
    if args.verbose > 0 {
        writeln!(out, "ready").map_err(io)?;
    }
    Ok(())
}

/// Notes, and the progress bar when standard error is a terminal.
struct Display {
    bar: Option<indicatif::ProgressBar>,
    quiet: bool,
    sized: bool,
    last: Instant,
}

impl Display {
    fn new(args: &Args) -> Display {
        let terminal = std::io::stderr().is_terminal();
        let wanted = match args.progress.as_str() {
            "always" => true,
            "never" => false,
            _ => terminal && !args.quiet,
        };
        let bar = wanted.then(|| {
            let target = if terminal {
                indicatif::ProgressDrawTarget::stderr_with_hz(5)
            } else {
                indicatif::ProgressDrawTarget::hidden()
            };
            let bar = indicatif::ProgressBar::with_draw_target(None, target);
            let template = "{bytes:>11}{msg} {binary_bytes_per_sec:>12} {wide_bar} {eta:>4}";
            if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Display { bar, quiet: args.quiet, sized: false, last: Instant::now() }
    }

    fn show(&mut self, status: Status, notes: Vec<String>) {
        for note in notes {
            if !self.quiet {
                self.say(&format!("note: {note}"));
            }
        }
        let Some(bar) = &self.bar else { return };
        if !self.sized && status.bytes_total > 0 {
            bar.set_length(status.bytes_total);
            self.sized = true;
        }
        bar.set_position(status.bytes_done);
        if bar.is_hidden() && self.last.elapsed() >= Duration::from_secs(1) {
            // `--progress always` into a file: a line a second.
            self.last = Instant::now();
            let line =
                format!("{} of {} bytes, {} transactions", status.bytes_done, status.bytes_total, status.transactions);
            let _ = writeln!(std::io::stderr(), "rlog-extract: {line}");
        }
    }

    /// Prints a line, above the bar if there is one.
    fn say(&self, text: &str) {
        let line = format!("rlog-extract: {}", escape_for_terminal(text));
        let print = || drop(writeln!(std::io::stderr(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Counters for a node exporter's textfile collector, replaced at once.
fn write_metrics(path: &Path, status: Status, error: Option<&Error>) -> Result<()> {
    let name = path.display().to_string();
    let failed = error.map_or(0, |error| error.class().exit_status());
    let text = format!(
        "# TYPE rlog_extract_bytes_read counter\nrlog_extract_bytes_read {}\n\
         # TYPE rlog_extract_transactions counter\nrlog_extract_transactions {}\n\
         # TYPE rlog_extract_rows counter\nrlog_extract_rows {}\n\
         # TYPE rlog_extract_exit_status gauge\nrlog_extract_exit_status {failed}\n",
        status.bytes_done, status.transactions, status.rows
    );
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| Error::io(name, error).with_class(Class::CannotCreate))
}
