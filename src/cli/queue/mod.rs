//! rlog-queue: verbs. The store is [`crate::queue`]; what `put` decides is in `queue::intake`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ArgMatches;

use crate::cli::{Tool, escape_for_terminal};
use crate::error::{Class, Error, Result};
use crate::frame::{Abort, Coordinate, End, FrameWriter, Kind, Position, PositionSpec};
use crate::queue::{self, Address, DEFAULT_CHANNEL, Next, Queue, ReadFrom, ReadMode, WriterOptions, intake};
use crate::sys::{Os, pipe};

use self::arguments::{MANUAL, command};
use self::report::{Reporter, print_status, status_json};

mod arguments;
mod report;

/// rlog-queue(1).
pub const TOOL: Tool = Tool { name: "rlog-queue", command, manual: &MANUAL, run, closed_pipe_is_success: false };

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
