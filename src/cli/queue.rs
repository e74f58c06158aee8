//! rlog-queue: arguments and report. The store is [`crate::queue`]; what `put` decides is in `queue::intake`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::cli::{Manual, Tool, escape_for_terminal, units};
use crate::error::{Class, Error, Result};
use crate::frame::{Abort, Coordinate, End, FrameWriter, Kind, Position, PositionSpec};
use crate::queue::{
    self, Address, DEFAULT_CHANNEL, Next, Queue, ReadFrom, ReadMode, Status, Tail, WriterOptions, intake,
};
use crate::sys::{Os, clock, pipe, state};

/// rlog-queue(1).
pub const TOOL: Tool = Tool { name: "rlog-queue", command, manual: &MANUAL, run, closed_pipe_is_success: false };

const MANUAL: Manual = Manual {
    examples: &[
        (
            "Keep what a server logged since the last time; from cron, any number of times",
            "rlog-extract --confirm /var/spool/rlog mysql-bin.0000* | rlog-queue put /var/spool/rlog",
        ),
        (
            "Keep and apply in one pipeline",
            "rlog-extract mysql-bin.0000* | rlog-queue put --pass spool | rlog-apply run sqlite:replica.db",
        ),
        ("Read everything again", "rlog-queue get spool | rlog-dump -"),
        ("Where does it stand?", "rlog-queue status spool"),
    ],
    sections: &[
        (
            "PROMISES",
            "What put has taken, it has made durable: no crash and no loss of power loses it. Whatever is put again is \
             recognised by its ids and by the source's own evidence, and changes nothing. What is missing in between is \
             refused (81), and so is another source, or another life of the same one (83).\n\nOnly whole transactions can \
             be read. They can be read as soon as they are written, an instant before they are synced; put --pass hands \
             them on only after that.\n\nA write that a crash cut short is set aside in a file NUMBER.rlog.broken and \
             forgotten. Damage to what was durable is refused (65) with file and byte, and nothing is cut.",
        ),
        (
            "CHANNELS AND READERS",
            "A queue holds any number of channels, one source each, and `default` is the channel of whoever names none. A \
             reader registers once, by acknowledging or by being an applier; from then on purge keeps what it has not \
             acknowledged. Without a reader nothing is purged.",
        ),
        (
            "QUEUES IN A SQLITE DATABASE",
            "sqlite:PATH keeps the queue in tables: in a file of its own, which then carries the application id 0x726c6f67 \
             (`rlog`), or in the database of a target that rlog-apply has set up. What is put is readable once it is \
             durable. When rlog-apply writes into the database that it reads from (`rlog-apply run --from sqlite:X sqlite:X`), \
             applying, acknowledging and removing from the queue are one transaction.\n\nPlain SQL may read it: the view \
             rlog_queue_transactions has a row a transaction (channel, sequence, position, kind, commit_time, inserts, updates, \
             deletes, statements, tables, bytes; tables is a JSON array of counts by the key of a table's definition), the view \
             rlog_queue_readers a row a reader. Writing is refused by triggers; what an administrator would do with SQL is done by \
             verbs:\n\nDELETE of what is done: ack, then purge. DELETE of everything: reset. Forgetting a reader: reset --reader. \
             Checking: verify, which also runs SQLite's integrity_check. Free pages are given back by purge.",
        ),
    ],
    files: &[
        (".queue", "What makes a directory a queue. In QUEUE."),
        ("CHANNEL/0000000000000001.rlog", "Segments; rlog-dump reads each alone."),
        ("CHANNEL/*.broken", "What a crash left half written, for a person to look at; may be removed."),
        (
            "CHANNEL/writer, CHANNEL/low-water, CHANNEL/readers/",
            "State; a missing one is an error, never a fresh start.",
        ),
        ("CHANNEL.lock", "Held by the one writer. Never remove it."),
        ("PATH-rlog-queue-CHANNEL.lock", "The same, beside a SQLite database."),
    ],
    environment: &[],
    see_also: &["rlog-extract(1)", "rlog-apply(1)", "rlog-dump(1)"],
};

fn command() -> Command {
    Command::new("rlog-queue")
        .args_override_self(true)
        .about("Keep transactions safe between a reader of logs and an applier")
        .long_about(
            "Keep transactions safe between a reader of logs and an applier.\n\nQUEUE is a directory, PATH or dir:PATH, or \
             tables in a SQLite database, sqlite:PATH. put creates it if only the last component of its path is missing.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(common())
        .subcommand(
            verb("put", "Store whole transactions from standard input, durably")
                .long_about(
                    "Store whole transactions from standard input, durably. Repeats are recognised and change nothing; a gap is \
                     refused. Prints nothing. When the stream ends with its writer's failure, what is whole is made durable \
                     and put ends with the writer's exit status.",
                )
                .args([
                    flag("pass", "Write the stream on to standard output, once it is durable"),
                    value("cursor", "FILE", "Keep the last durable position in FILE, replaced atomically")
                        .value_parser(value_parser!(PathBuf)),
                    value("space-limit", "BYTES", "Wait before a transaction while the channel occupies more than this")
                        .value_parser(units::bytes),
                    value("segment-size", "BYTES", "Start a new file when one has this many bytes")
                        .value_parser(units::bytes)
                        .default_value("64M"),
                    value("sync-interval", "TIME", "Wait this long for more before a sync")
                        .value_parser(units::duration)
                        .default_value("0"),
                    value("sync-bytes", "BYTES", "Sync at the latest when this many bytes wait")
                        .value_parser(units::bytes)
                        .default_value("4M"),
                    value("purge", "WHEN", "Remove by itself what all readers have acknowledged, or not")
                        .value_parser(["auto", "never"])
                        .default_value("auto"),
                ]),
        )
        .subcommand(
            verb("get", "Write transactions to standard output, in order; reading does not delete").args([
                value("after", "POSITION", "Start behind this position"),
                value("until", "POSITION", "Stop behind the transaction that reaches this position"),
                flag("follow", "Wait for more at the end").short('f'),
                value("reader", "NAME", "Register this reader, and start behind what it has acknowledged").conflicts_with("after"),
                flag("force", "Write to a terminal"),
            ]),
        )
        .subcommand(verb("last", "Print the last durable position; exit 1 when there is none"))
        .subcommand(
            verb("ack", "Tell that a reader needs nothing up to and including a position").args([
                Arg::new("position").value_name("POSITION").required(true).help(
                    "As last and get print it, FILE:OFFSET, or `oldest` to register a reader that needs everything",
                ),
                value("reader", "NAME", "The reader; registered if it is not").required(true),
            ]),
        )
        .subcommand(verb("status", "Tell where the queue and its readers stand").arg(flag("json", "As JSON, one object a channel")))
        .subcommand(
            verb("purge", "Remove what every registered reader has acknowledged")
                .arg(flag("dry-run", "Only tell which")),
        )
        .subcommand(verb("verify", "Check every byte; print each error with file and offset"))
        .subcommand(verb("channels", "List the channels"))
        .subcommand(
            verb("reset", "Forget what a channel holds, and its readers")
                .arg(value("reader", "NAME", "Forget only this reader")),
        )
        .subcommand(verb("upgrade", "Bring the files to the newest layout"))
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .args_override_self(true)
        .about(about)
        .arg(Arg::new("queue").value_name("QUEUE").required(true).help("The queue: PATH, dir:PATH or sqlite:PATH"))
}

fn value(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn common() -> [Arg; 7] {
    [
        value("channel", "NAME", "The channel").default_value(DEFAULT_CHANNEL).global(true),
        value("lock-wait", "TIME", "Wait this long for a lock that another process holds")
            .value_parser(units::duration)
            .default_value("0")
            .global(true),
        flag("check", "Tell whether the verb could work, and change nothing").global(true),
        value("progress", "WHEN", "Show progress on standard error")
            .value_parser(["auto", "always", "never"])
            .default_value("auto")
            .global(true),
        Arg::new("quiet").short('q').long("quiet").help("Print errors only").action(ArgAction::SetTrue).global(true),
        Arg::new("verbose").short('v').long("verbose").help("Tell what was done").action(ArgAction::Count).global(true),
        value("metrics-file", "FILE", "Keep counters in FILE in Prometheus text format, replaced atomically")
            .value_parser(value_parser!(PathBuf))
            .global(true),
    ]
}

/// What every verb needs.
struct Context<'a> {
    matches: &'a ArgMatches,
    text: &'a str,
    address: Address,
    channel: &'a str,
}

fn run(matches: &ArgMatches) -> Result<()> {
    let Some((verb, matches)) = matches.subcommand() else { return Err(Error::usage("no verb")) };
    let text = matches.get_one::<String>("queue").map_or("", String::as_str);
    let channel = matches.get_one::<String>("channel").map_or(DEFAULT_CHANNEL, String::as_str);
    let context = Context { matches, text, address: text.parse()?, channel };
    if matches.get_flag("check") {
        return context.check(verb);
    }
    match verb {
        "put" => context.put(),
        "get" => context.get(),
        "last" => match context.open()?.tail()?.position() {
            Some(position) => print_line(&position.to_string()),
            None => Err(Error::new(Class::Nothing, "")),
        },
        "ack" => context.ack(),
        "status" => context.status(),
        "purge" => context.purge(),
        "verify" => context.verify(),
        "channels" => {
            for channel in queue::channels(Arc::new(Os), &context.address)? {
                print_line(&channel)?;
            }
            Ok(())
        }
        "reset" => context.reset(),
        "upgrade" => {
            context.open()?;
            context.say("the queue has the newest layout, 1; there is nothing to do");
            Ok(())
        }
        _ => Err(Error::usage(format!("unknown verb {verb}"))),
    }
}

fn print_line(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{}", escape_for_terminal(text))
        .map_err(|error| Error::io("standard output", error))
}

impl Context<'_> {
    fn open(&self) -> Result<Box<dyn Queue>> {
        queue::open(Arc::new(Os), &self.address, self.channel, false)
    }

    fn lock_wait(&self) -> Duration {
        self.matches.get_one::<Duration>("lock-wait").copied().unwrap_or_default()
    }

    /// Tells on standard error, unless asked to be quiet, when asked to be verbose.
    fn say(&self, text: &str) {
        if self.matches.get_count("verbose") > 0 && !self.matches.get_flag("quiet") {
            // Nothing depends on it.
            let _ = writeln!(std::io::stderr().lock(), "rlog-queue: {}", escape_for_terminal(text));
        }
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        self.matches.get_one::<u64>(name).copied()
    }

    fn put(&self) -> Result<()> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Error::usage("put reads frames from standard input, which is a terminal")
                .hint(format!("rlog-extract SOURCE | rlog-queue put {}", self.text)));
        }
        let pass = self.matches.get_flag("pass");
        if pass && std::io::stdout().is_terminal() {
            return Err(
                Error::usage("frames are not for a terminal").hint("pipe them into `rlog-apply run` or `rlog-dump -`")
            );
        }
        let stop = stop_flag()?;
        let options = WriterOptions {
            lock_wait: self.lock_wait(),
            segment_bytes: self.bytes("segment-size").unwrap_or(64 << 20).max(1),
            purge: self.matches.get_one::<String>("purge").is_none_or(|when| when == "auto"),
        };
        let queue = queue::open(Arc::new(Os), &self.address, self.channel, true)?;
        let writer = queue.writer(&options)?;
        let options = intake::Options {
            sync_interval: self.matches.get_one::<Duration>("sync-interval").copied().unwrap_or_default(),
            sync_bytes: self.bytes("sync-bytes").unwrap_or(4 << 20).max(1),
            space_limit: self.bytes("space-limit"),
            stop,
            address: self.text.to_owned(),
        };
        pipe::enlarge(&stdin);
        let mut reporter = Reporter::new(self)?;
        let mut out = std::io::stdout();
        let result = intake::put(
            stdin,
            "standard input",
            writer,
            &options,
            if pass { Some(&mut out) } else { None },
            &mut |tail, counts| reporter.durable(tail, counts, false),
        );
        reporter.finish()?;
        let counts = result?;
        self.say(&format!(
            "{} transactions stored, {} held already; {} bytes read, {} syncs",
            counts.transactions, counts.repeats, counts.bytes, counts.syncs
        ));
        Ok(())
    }

    fn get(&self) -> Result<()> {
        let stdout = std::io::stdout();
        if stdout.is_terminal() && !self.matches.get_flag("force") {
            return Err(Error::usage("frames are not for a terminal").hint(format!("rlog-dump {}", self.text)));
        }
        let mut out = Output { writer: FrameWriter::new(), stdout };
        let result = self.get_frames(&mut out);
        if let Err(error) = &result
            && !error.is_broken_pipe()
            && error.class() != Class::Nothing
        {
            // Whoever reads must not take what came for everything.
            let abort = Abort {
                status: error.class().exit_status(),
                message: error.to_string(),
                reached: Coordinate::default(),
            };
            out.writer.cancel();
            out.writer.frame(Kind::Abort, |payload| abort.encode(payload));
            let _ = out.flush();
        }
        result
    }

    fn get_frames(&self, out: &mut Output) -> Result<()> {
        let stop = stop_flag()?;
        let queue = self.open()?;
        let text = |name: &str| self.matches.get_one::<String>(name).map(String::as_str);
        let from = match (text("after"), text("reader")) {
            (Some(text), _) => match position_spec("--after", text)? {
                PositionSpec::Oldest => ReadFrom::Oldest,
                PositionSpec::Now => ReadFrom::AfterSequence(queue.tail()?.sequence),
                PositionSpec::Position(position) => ReadFrom::After(position),
                PositionSpec::Server { at, .. } => ReadFrom::AfterCoordinate(at),
                PositionSpec::Gtid(_) => return Err(no_gtid("--after")),
            },
            (None, Some(reader)) => {
                queue.register(reader)?;
                ReadFrom::Acknowledged(reader.to_owned())
            }
            (None, None) => ReadFrom::Oldest,
        };
        let until = match text("until") {
            None => None,
            Some(text) => match position_spec("--until", text)? {
                PositionSpec::Position(position) => Some(position.end),
                PositionSpec::Server { at, .. } => Some(at),
                PositionSpec::Now => Some(queue.tail()?.reached.unwrap_or_default()),
                PositionSpec::Oldest => return Err(Error::usage("--until oldest means nothing")),
                PositionSpec::Gtid(_) => return Err(no_gtid("--until")),
            },
        };
        let follow = self.matches.get_flag("follow");
        let mode = if follow { ReadMode::FOLLOW } else { ReadMode::ONCE };
        let mut reader = queue.reader(&from, mode)?;
        let mut transactions = 0;
        let (mut begun, mut inside) = (false, false);
        loop {
            if !inside
                && (stop.load(Ordering::Relaxed) || until.is_some_and(|until| reader.mark().position.end >= until))
            {
                break;
            }
            match reader.next()? {
                Next::Frame(frame) => {
                    begun = true;
                    match frame.kind() {
                        Some(Kind::Begin) => inside = true,
                        Some(Kind::Commit | Kind::Prepared) => {
                            inside = false;
                            transactions += 1;
                        }
                        _ => {}
                    }
                    queue::write_frame(&frame, out.writer.buffer());
                    if out.writer.len() >= Output::BYTES {
                        out.flush()?;
                    }
                }
                Next::Idle => out.flush()?,
                Next::End => break,
            }
        }
        // Without a stream there is nothing that could end.
        if !begun {
            return Err(Error::new(Class::Nothing, ""));
        }
        let position = reader.mark().position;
        let end = End { reached: position.end, incarnation: position.incarnation, transactions, ..End::default() };
        out.writer.frame(Kind::End, |payload| end.encode(payload));
        out.flush()
    }

    fn ack(&self) -> Result<()> {
        let text = |name: &str| self.matches.get_one::<String>(name).map_or("", String::as_str);
        let queue = self.open()?;
        let reader = text("reader");
        let position = match position_spec("POSITION", text("position"))? {
            PositionSpec::Oldest => {
                queue.register(reader)?;
                return Ok(());
            }
            PositionSpec::Position(position) => position,
            PositionSpec::Now => match queue.tail()?.position() {
                Some(position) => position,
                None => return Err(Error::new(Class::Nothing, "the queue is empty")),
            },
            PositionSpec::Server { at, .. } => {
                Position { txid: at, end: at, incarnation: queue.tail()?.incarnation, ..Position::default() }
            }
            PositionSpec::Gtid(_) => return Err(no_gtid("ack")),
        };
        // Found before it is registered, so that a mistyped position leaves nothing behind.
        let mark = queue.locate(&position)?.ok_or_else(|| {
            Error::new(Class::NoInput, format!("the queue does not hold {position}")).in_file(queue.name()).hint(
                format!("`rlog-queue status {}` tells what it holds and what its readers have acknowledged", self.text),
            )
        })?;
        queue.register(reader)?;
        queue.ack(reader, &mark)?;
        queue.purge(false)?;
        Ok(())
    }

    fn status(&self) -> Result<()> {
        let channels = match self.matches.value_source("channel") {
            Some(clap::parser::ValueSource::CommandLine) => vec![self.channel.to_owned()],
            _ => queue::channels(Arc::new(Os), &self.address)?,
        };
        for (number, channel) in channels.iter().enumerate() {
            let status = queue::open(Arc::new(Os), &self.address, channel, false)?.status()?;
            if self.matches.get_flag("json") {
                print_line(&status_json(channel, &status).to_string())?;
            } else {
                if number > 0 {
                    print_line("")?;
                }
                print_status(channel, &status)?;
            }
        }
        Ok(())
    }

    fn purge(&self) -> Result<()> {
        let dry_run = self.matches.get_flag("dry-run");
        let purged = self.open()?.purge(dry_run)?;
        if dry_run {
            for file in &purged.files {
                print_line(file)?;
            }
        }
        self.say(&format!("{} files, {} bytes", purged.files.len(), purged.bytes));
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        let queue = self.open()?;
        let mut first: Option<Error> = None;
        let seen = queue.verify(&mut |error| {
            crate::cli::report(TOOL.name, &error);
            first.get_or_insert(error);
        })?;
        self.say(&format!("{} files, {} bytes, {} whole transactions", seen.files, seen.bytes, seen.transactions));
        match first {
            None => Ok(()),
            Some(first) => Err(Error::new(first.class(), format!("{} errors", seen.errors)).in_file(queue.name())),
        }
    }

    fn reset(&self) -> Result<()> {
        let queue = self.open()?;
        match self.matches.get_one::<String>("reader") {
            Some(reader) => queue.unregister(reader),
            None => queue.reset(self.lock_wait()),
        }
    }

    /// A preflight report; nothing is changed.
    fn check(&self, verb: &str) -> Result<()> {
        let path = match &self.address {
            Address::Dir(path) | Address::Sqlite(path) => Some(path),
            #[cfg(feature = "nats")]
            Address::Nats(_) => None,
        };
        if let Some(path) = path
            && verb == "put"
            && !path.exists()
        {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return if parent.is_dir() {
                print_line(&format!("{}: would be created", self.text))
            } else {
                Err(Error::new(Class::NoInput, "the directory in which to create the queue does not exist")
                    .in_file(self.text))
            };
        }
        let queue = match self.open() {
            Err(error) if verb == "put" && error.class() == Class::NoInput => {
                return print_line(&format!("{}: channel {} would be created", self.text, self.channel));
            }
            other => other?,
        };
        let status = queue.status()?;
        if verb == "put" && status.writing {
            return Err(Error::new(Class::TryAgain, "another process is writing to this channel").in_file(queue.name()));
        }
        print_status(self.channel, &status)?;
        for remark in queue.remarks()? {
            print_line(&format!("{:<12} {remark}", "note"))?;
        }
        Ok(())
    }
}

struct Output {
    writer: FrameWriter,
    stdout: std::io::Stdout,
}

impl Output {
    const BYTES: usize = 256 << 10;

    fn flush(&mut self) -> Result<()> {
        let mut out = self.stdout.lock();
        let written = out.write_all(self.writer.bytes()).and_then(|()| out.flush());
        self.writer.clear();
        written.map_err(|error| Error::io("standard output", error))
    }
}

/// SIGTERM, SIGINT and SIGHUP ask for a clean end.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| Error::io("signal handlers", error))?;
    }
    Ok(stop)
}

fn position_spec(what: &str, text: &str) -> Result<PositionSpec> {
    text.parse().map_err(|error| Error::usage(format!("{what} {text:?}: {error}")))
}

fn no_gtid(what: &str) -> Error {
    Error::usage(format!("{what}: a queue finds positions, not GTIDs"))
        .hint("`rlog-queue last` prints a position; `rlog-dump --txn GTID` finds the position of a GTID")
}

/// Cursor, metrics and progress of `put`.
struct Reporter {
    cursor: Option<PathBuf>,
    metrics: Option<PathBuf>,
    channel: String,
    bar: Option<indicatif::ProgressBar>,
    last: Option<Instant>,
    latest: Option<(Tail, intake::Counts)>,
}

impl Reporter {
    /// Files are replaced at most this often, and at the end.
    const PERIOD: Duration = Duration::from_secs(1);

    fn new(context: &Context<'_>) -> Result<Reporter> {
        let progress = context.matches.get_one::<String>("progress").map_or("auto", String::as_str);
        let show = match progress {
            "always" => true,
            "auto" => std::io::stderr().is_terminal() && !context.matches.get_flag("quiet"),
            _ => false,
        };
        let bar = show.then(indicatif::ProgressBar::new_spinner);
        if let Some(bar) = &bar
            && let Ok(style) = indicatif::ProgressStyle::with_template("{bytes} {binary_bytes_per_sec} {msg}")
        {
            bar.set_style(style);
        }
        let path = |name: &str| context.matches.get_one::<PathBuf>(name).cloned();
        Ok(Reporter {
            cursor: path("cursor"),
            metrics: path("metrics-file"),
            channel: context.channel.to_owned(),
            bar,
            last: None,
            latest: None,
        })
    }

    fn durable(&mut self, tail: &Tail, counts: &intake::Counts, now: bool) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_position(counts.bytes);
            bar.set_message(format!("{} transactions", counts.transactions));
        }
        if self.cursor.is_none() && self.metrics.is_none() {
            return Ok(());
        }
        if !now && self.last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            self.latest = Some((tail.clone(), *counts));
            return Ok(());
        }
        self.last = Some(Instant::now());
        self.latest = None;
        if let (Some(path), Some(position)) = (&self.cursor, tail.position()) {
            state::replace_file(path, &format!("{position}\n"))?;
        }
        if let Some(path) = &self.metrics {
            state::replace_file(path, &metrics(&self.channel, tail, counts))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.latest.take() {
            Some((tail, counts)) => self.durable(&tail, &counts, true),
            None => Ok(()),
        }
    }
}

fn metrics(channel: &str, tail: &Tail, counts: &intake::Counts) -> String {
    let lines: [(&str, &str, &str, u64); 6] = [
        ("rlog_queue_transactions_total", "counter", "Transactions stored by this process.", counts.transactions),
        ("rlog_queue_repeats_total", "counter", "Transactions that were held already.", counts.repeats),
        ("rlog_queue_bytes_total", "counter", "Bytes read by this process.", counts.bytes),
        ("rlog_queue_syncs_total", "counter", "Syncs by this process.", counts.syncs),
        ("rlog_queue_sequence", "gauge", "Number of the last durable unit.", tail.sequence),
        (
            "rlog_queue_synced_timestamp_seconds",
            "gauge",
            "When it became durable.",
            u64::try_from(clock::now_us() / 1_000_000).unwrap_or(0),
        ),
    ];
    let mut out = String::new();
    for (name, kind, help, value) in lines {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{channel=\"{channel}\"}} {value}\n"));
    }
    out
}

fn status_json(channel: &str, status: &Status) -> serde_json::Value {
    use serde_json::json;
    let tail = &status.tail;
    let source = tail.source.as_deref();
    json!({
        "channel": channel,
        "position": tail.position().map(|position| position.to_string()),
        "reached": tail.reached.map(|reached| reached.to_string()),
        "incarnation": tail.reached.map(|_| tail.incarnation.to_string()),
        "gtid_state": tail.gtid_state,
        "sequence": tail.sequence,
        "synced_sequence": status.synced_sequence,
        "first_sequence": status.first_sequence,
        "source": source.map(|source| source.source.clone()),
        "server_version": source.map(|source| source.server_version.clone()),
        "server_id": source.map(|source| source.server_id),
        "files": status.files,
        "bytes": status.bytes,
        "free_bytes": (status.free_bytes != u64::MAX).then_some(status.free_bytes),
        "writing": status.writing,
        "unclean": status.unclean,
        "waiting": if status.waiting.is_empty() { None } else { Some(&status.waiting) },
        "epoch": status.epoch,
        "readers": status.readers.iter().map(|reader| json!({
            "name": reader.name,
            "position": (reader.acked.sequence > 0).then(|| reader.acked.position.to_string()),
            "sequence": reader.acked.sequence,
            "behind": tail.sequence.saturating_sub(reader.acked.sequence),
            "pins": reader.pins,
            "time": time_text(reader.time_us),
        })).collect::<Vec<_>>(),
    })
}

fn time_text(time_us: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(time_us).ok().map(|time| time.to_string())
}

fn print_status(channel: &str, status: &Status) -> Result<()> {
    let tail = &status.tail;
    let line = |name: &str, value: String| print_line(&format!("{name:<12} {value}"));
    line("channel", channel.to_owned())?;
    line("position", tail.position().map_or_else(|| "none".to_owned(), |position| position.to_string()))?;
    if let Some(source) = tail.source.as_deref() {
        line("source", format!("{} {}", source.source, source.server_version).trim_end().to_owned())?;
    }
    if !tail.gtid_state.is_empty() {
        line("gtid", tail.gtid_state.clone())?;
    }
    let held = (tail.sequence + 1).saturating_sub(status.first_sequence);
    line("held", format!("{held} units, {} files, {} bytes", status.files, status.bytes))?;
    let unsynced = tail.sequence.saturating_sub(status.synced_sequence);
    let writer = match (status.writing, status.unclean) {
        (true, _) if !status.waiting.is_empty() => format!("waiting: {}", status.waiting),
        (true, _) => format!("at work, {unsynced} units not yet synced"),
        (false, true) => "none; the last one was killed, the next put recovers".to_owned(),
        (false, false) => "none".to_owned(),
    };
    line("writer", writer)?;
    if status.readers.is_empty() {
        line("readers", "none registered: nothing is purged".to_owned())?;
    }
    for reader in &status.readers {
        let behind = tail.sequence.saturating_sub(reader.acked.sequence);
        let position = if reader.acked.sequence > 0 {
            reader.acked.position.to_string()
        } else {
            "nothing acknowledged".to_owned()
        };
        line("reader", format!("{} {position}, {behind} units behind", reader.name))?;
    }
    Ok(())
}
