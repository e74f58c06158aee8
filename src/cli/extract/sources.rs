//! What the operands and options mean: inputs, what is asked of them, and what is confirmed downstream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::arguments::Args;
#[cfg(feature = "mysql")]
use crate::db::mysql::{ServerUrl, replica::ReplicaOptions};
use crate::dump::moment;
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Position, PositionSpec};
use crate::queue;
use crate::source::mysql::key_file;
#[cfg(feature = "mysql")]
use crate::source::mysql::live::{ServerInput, feed::Patience};
use crate::source::{Confirm, Input, LiveOptions, Look, NamedText, Options, Until, WindowMode};

/// How long the recovery of a queue, or a slow disk, is waited for before it is said where reading begins.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

/// The path of `sqlite:PATH`.
pub(super) fn sqlite_path(args: &Args) -> Result<Option<PathBuf>> {
    let [source] = args.sources.as_slice() else {
        return match args.sources.iter().find(|source| source.starts_with("sqlite:")) {
            Some(source) => Err(Error::usage(format!("`{source}` is a source of its own: it goes with no other"))),
            None => Ok(None),
        };
    };
    Ok(source.strip_prefix("sqlite:").map(PathBuf::from))
}

/// Options of live sources. What is confirmed is where reading resumes, unless `--after` says otherwise.
/// `holds_back` says whether the source keeps what is not confirmed, so that somebody has to confirm.
pub(super) fn live_options(args: &Args, options: &mut Options, holds_back: bool) -> Result<LiveOptions> {
    if args.shadow.is_some() && matches!(args.confirm.as_deref(), None | Some("none")) {
        return Err(Error::usage("--shadow keeps the state that is confirmed downstream, so it has to know what is")
            .hint("`--confirm QUEUE` names the queue"));
    }
    let channel = args.channel.as_deref().unwrap_or("default");
    let confirm = match args.confirm.as_deref() {
        Some("none") => None,
        Some("") => return Err(Error::usage("--confirm is empty")),
        Some(place) => Some(place),
        None if args.follow && holds_back => {
            return Err(Error::usage(
                "--follow holds back the source's log, so it has to know what is durable downstream",
            )
            .hint("`--confirm QUEUE` names the queue; `--confirm none` is for looking only"));
        }
        None => None,
    };
    let mut confirmed_gtids = String::new();
    if options.after.is_none() && !args.resnapshot {
        let held = confirm.map(|place| held(place, channel)).transpose()?.flatten();
        if let Some((position, gtids)) = held {
            options.after = Some(PositionSpec::Position(position));
            confirmed_gtids = gtids;
        }
    }
    let log_bytes_max = match args.max_wal.as_str() {
        "none" => None,
        size => Some(crate::cli::units::bytes(size).map_err(|what| Error::usage(format!("--max-wal: {what}")))?),
    };
    Ok(LiveOptions {
        snapshot: args.resnapshot || (args.snapshot && options.after.is_none()),
        anew: args.resnapshot,
        confirm: confirm.map(|place| confirmation(place, channel)).transpose()?,
        confirmed_gtids,
        shadow: args.shadow.clone(),
        log_bytes_max,
        no_turnover: args.no_turnover,
    })
}

/// Files hold nothing back, so of `--confirm` only its second meaning is left: where reading resumes unless `--after` says otherwise.
pub(super) fn resume(args: &Args, options: &mut Options) -> Result<()> {
    match args.confirm.as_deref() {
        None | Some("none") => {}
        Some("") => return Err(Error::usage("--confirm is empty")),
        Some(place) if options.after.is_none() => {
            let held = held(place, args.channel.as_deref().unwrap_or("default"))?;
            options.after = held.map(|(position, _)| PositionSpec::Position(position));
        }
        Some(_) => {}
    }
    Ok(())
}

/// What a file that somebody replaces says is durable.
fn cursor(path: &Path) -> Result<Option<Position>> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => text
            .trim()
            .parse::<Position>()
            .map(Some)
            .map_err(|_| Error::damage("this is no position").in_file(path.display().to_string()).at(0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path.display().to_string(), error)),
    }
}

/// The queue, if it is there: the `put` at the other end of the pipe may create it.
fn opened(address: &queue::Address, channel: &str) -> Result<Option<Box<dyn queue::Queue>>> {
    match queue::open(Arc::new(crate::sys::Os), address, channel, false) {
        Ok(queue) => Ok(Some(queue)),
        Err(error) if error.class() == Class::NoInput => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an answer is while somebody writes or recovers just now.
fn or_not_now<T>(answer: Result<Option<T>>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.class() == Class::TryAgain => Ok(None),
        other => other,
    }
}

/// Where reading goes on, and the GTIDs up to there: what the place holds. A cursor file knows no GTIDs but the last.
fn held(place: &str, channel: &str) -> Result<Option<(Position, String)>> {
    if let Some(path) = place.strip_prefix('@') {
        return Ok(cursor(Path::new(path))?.map(|position| (position, String::new())));
    }
    let Some(queue) = opened(&place.parse()?, channel)? else { return Ok(None) };
    let tail = queue::settled(&*queue, SETTLE_PATIENCE)?;
    Ok(held_of(&tail).map(|position| (position, tail.gtid_state)))
}

/// Asks a queue, or a file, what the source may forget; not all that is held where the queue's acknowledgements do not survive a loss of power.
fn confirmation(place: &str, channel: &str) -> Result<Confirm> {
    if let Some(path) = place.strip_prefix('@') {
        let path = PathBuf::from(path);
        return Ok(Box::new(move || cursor(&path)));
    }
    let address: queue::Address = place.parse()?;
    let channel = channel.to_owned();
    let mut queue: Option<Box<dyn queue::Queue>> = None;
    Ok(Box::new(move || {
        if queue.is_none() {
            queue = opened(&address, &channel)?;
        }
        match &queue {
            Some(queue) => or_not_now(queue::forgettable(&**queue)),
            None => Ok(None),
        }
    }))
}

/// What a queue holds for certain; nothing while a snapshot in it is not whole.
fn held_of(tail: &queue::Tail) -> Option<Position> {
    if tail.snapshot.as_ref().is_some_and(|snapshot| !snapshot.complete) {
        return None;
    }
    tail.position()
}

/// The server of `mysql://…`, and how to be its replica.
#[cfg(feature = "mysql")]
pub(super) fn server_input(args: &Args) -> Result<Option<ServerInput>> {
    let mut urls = args.sources.iter().filter(|source| ServerUrl::is_one(source));
    let Some(text) = urls.next() else { return Ok(None) };
    if args.sources.len() > 1 {
        return Err(Error::usage("a server is a source of its own: it goes with no other"));
    }
    for (given, option) in [(args.log_name.is_some(), "--log-name"), (args.key_file.is_some(), "--key-file")] {
        if given {
            return Err(Error::usage(format!("{option} is for files: a server names and decrypts its logs itself")));
        }
    }
    if args.semi_sync && matches!(args.confirm.as_deref(), None | Some("none")) {
        return Err(Error::usage("--semi-sync needs --confirm: only what is durable downstream is acknowledged"));
    }
    let url = ServerUrl::parse(text)?;
    let duration = |text: &str, option: &str| {
        crate::cli::units::duration(text).map_err(|what| Error::usage(format!("{option}: {what}")))
    };
    let net_timeout = duration(&args.net_timeout, "--net-timeout")?.max(Duration::from_secs(1));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    let channel = args.channel.as_deref().unwrap_or("default");
    let report_name = args.report_name.clone().unwrap_or_else(|| format!("rlog@{host}"));
    // The same for the same task, so that a server ends the dump of a process that was killed; above what people give out.
    let task = format!("{host}\n{channel}\n{url}\n{}", args.confirm.as_deref().unwrap_or(""));
    let derived = 1 << 31 | (xxhash_rust::xxh3::xxh3_64(task.as_bytes()) >> 33) as u32;
    Ok(Some(ServerInput {
        url,
        replica: ReplicaOptions {
            server_id: args.server_id.unwrap_or(derived),
            report_name,
            heartbeat: (net_timeout / 3).min(Duration::from_secs(30)),
            semi_sync: args.semi_sync,
        },
        patience: Patience {
            connect_retry: duration(&args.connect_retry, "--connect-retry")?,
            retry_count: args.retry_count.unwrap_or(if args.follow { u32::MAX } else { 10 }),
            net_timeout,
        },
        raw: args.raw.clone(),
        sessions: usize::from(args.snapshot_sessions),
        handover: args.handover.as_deref().map(ServerUrl::parse).transpose()?,
    }))
}

/// What the operands mean. Addresses of what cannot be read yet are refused by name.
pub(super) fn input(args: &Args) -> Result<Input> {
    for source in &args.sources {
        let scheme = source.split_once(':').map(|(scheme, _)| scheme);
        let later =
            |what: &str| Err(Error::new(Class::Unavailable, format!("{what} are not built yet in this version")));
        if let Some("postgres" | "postgresql") = scheme {
            return later("PostgreSQL sources");
        }
    }
    if args.raw.is_some() {
        return Err(Error::usage("--raw keeps copies of a live server's logs: files are there already"));
    }
    if args.sources.iter().any(|source| source == "-") {
        if args.sources.len() > 1 {
            return Err(Error::usage("standard input is a source of its own: `-` goes with no other"));
        }
        return Ok(Input::Stream("standard input".into(), Box::new(std::io::stdin())));
    }
    Ok(Input::Files(args.sources.iter().map(PathBuf::from).collect()))
}

pub(super) fn options(args: &Args) -> Result<Options> {
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
        filter: TableFilter::new(args.filters.rules()?)?,
        no_annotate: args.no_annotate,
        schema: args.schema.iter().map(text).collect::<Result<_>>()?,
        keys: args
            .key_file
            .as_ref()
            .map(|file| key_file::unlock(text(file)?, args.key_secret.as_ref().map(text).transpose()?.as_ref()))
            .transpose()?,
        log_name: args.log_name.clone(),
        follow: args.follow,
        system_tables: false,
        look: Look::default(),
        salvage: false,
    })
}
