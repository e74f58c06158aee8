//! A running MySQL or MariaDB server as a source.
//!
//! The log is read as a replica reads it, and handed to the same reader and decoder as files: the frames are those of the files, byte by byte, but for
//! the server's UUID in the stream's header, and names of columns that the log leaves out and the server tells.
//!
//! ```text
//! open:  who is it -> where to begin (confirmed | --after | --since | oldest) -> pin the end (--once) -> feed
//! step:  feed -> reader -> decoder -> frames
//! ```
//!
//! Reading begins at the start of the file in which the position lies, and what lies before the position is passed over. That costs at most one file, and
//! gives what a position alone has not: the proof that the transaction is there (its source digest), the GTIDs that are done, and the log's own DDL.
//! GTIDs are looked up in the first events of the files, newest first.
//!
//! With `--snapshot` the log is read up to the snapshot's position first, so that the stream's header has its life and GTIDs; then come the rows, then the
//! log from exactly there:
//!
//! ```text
//! views opened at P -> log up to P, passed over -> header -> snapshot-begin, definitions, chunks, snapshot-end -> log behind P
//! ```
//!
//! [`server`]: what a server tells about itself. [`feed`]: its events, through lost connections. [`raw`]: copies of its logs. [`schema`]: its tables, as of
//! where the log is read. [`snapshot`], [`mod@text`]: its rows. [`objects`]: everything else that goes along with them.

pub mod feed;
mod handover;
pub mod objects;
pub mod raw;
pub mod schema;
pub mod server;
pub mod snapshot;
pub mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use feed::{FeedOptions, Patience, ServerFeed};
use raw::RawCopies;
use server::{Log, Server};

use super::decoder::Decoder;
use super::files;
use super::gtid::State;
use super::reader::MySqlSource;
use crate::db::mysql::replica::ReplicaOptions;
use crate::db::mysql::{Client, Connector, ServerUrl};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Coordinate, FrameWriter, PositionSpec};
use crate::source::{LiveOptions, Options, Source, Status, Step};

/// A server, and how to be its replica.
pub struct ServerInput {
    /// Where it is.
    pub url: ServerUrl,
    /// How to present oneself.
    pub replica: ReplicaOptions,
    /// How to stay connected.
    pub patience: Patience,
    /// Where copies of its logs go.
    pub raw: Option<PathBuf>,
    /// Sessions that read a snapshot.
    pub sessions: usize,
    /// Another host of the same history, for when this one is gone for good.
    pub handover: Option<ServerUrl>,
}

/// See the module's head.
pub struct LiveServer {
    log: MySqlSource,
    phase: Phase,
    /// Cleared when the log may go on behind the snapshot's position.
    hold: Arc<AtomicBool>,
    filter: TableFilter,
    rows_read: u64,
    notes: Vec<String>,
    successor: Option<handover::Successor>,
}

enum Phase {
    /// The log up to the snapshot's position.
    Approach(Box<snapshot::Rows>),
    Snapshot(Box<snapshot::Reading>),
    /// Nothing yet: the header of a life that is over comes first.
    Succeed(Box<Decoder>),
    Log,
}

impl LiveServer {
    /// Connects, and finds where to begin. Nothing was written when this fails.
    pub fn open(mut input: ServerInput, mut options: Options, live: LiveOptions) -> Result<LiveServer> {
        let found = match Found::patiently(&mut input, &mut options, live.snapshot) {
            Err(lost) if lost.class() == Class::TryAgain && !live.snapshot => {
                return LiveServer::without_the_first(lost, &input, &options, &live.confirmed_gtids);
            }
            found => found?,
        };
        let successor =
            input.handover.as_ref().map(|url| handover::Successor::new(url, &input, &options)).transpose()?;
        let Found { connector, server, file, end, rows, known, notes } = found;
        let name = connector.name().to_owned();
        let hold = Arc::new(AtomicBool::new(rows.is_some()));
        let feed = FeedOptions {
            semi_sync: if input.replica.semi_sync { live.confirm } else { None },
            replica: input.replica,
            patience: input.patience,
            end: (!options.follow).then_some(end),
            caught_up_at: end,
            hold: Some(Arc::clone(&hold)),
            raw: input.raw.as_deref().map(RawCopies::new).transpose()?,
        };
        let uuid = server.uuid.clone();
        let mariadb = server.mariadb;
        let feed = ServerFeed::new(connector, server, file, feed)?;
        let filter = options.filter.clone();
        let mut log = MySqlSource::from_feed(name, Box::new(feed), &uuid, options)?;
        log.decoder().set_family(mariadb);
        log.decoder().know_from(known.into_iter().map(|known| (known.from, known.database, known.create)));
        let phase = rows.map_or(Phase::Log, |rows| Phase::Approach(Box::new(rows)));
        Ok(LiveServer { log, phase, hold, filter, rows_read: 0, notes, successor })
    }

    /// The log has been read up to the snapshot's position: its rows are next.
    fn begin_rows(&mut self, rows: snapshot::Rows) -> Result<()> {
        let decoder = self.log.decoder();
        // From the position on these are the tables' definitions.
        decoder.know_from(
            rows.schema.iter().map(|(database, create)| (Coordinate::default(), database.clone(), create.clone())),
        );
        let (at, incarnation, gtids) = (decoder.reached, decoder.incarnation, decoder.gtids.text());
        let reading = rows.start(at, incarnation, gtids, &self.filter)?;
        self.phase = Phase::Snapshot(Box::new(reading));
        Ok(())
    }
}

/// What a look at the server has found.
struct Found {
    connector: Connector,
    server: Server,
    /// The file to begin with.
    file: String,
    /// Where the log ends now, or the snapshot's position.
    end: Coordinate,
    rows: Option<snapshot::Rows>,
    known: Vec<schema::Known>,
    notes: Vec<String>,
}

impl Found {
    /// Looks; when the server is away and is to be followed, or may have a successor, again and again, as when it goes away later.
    fn patiently(input: &mut ServerInput, options: &mut Options, snapshot: bool) -> Result<Found> {
        let mut tries = 0;
        loop {
            let asked = options.after.clone();
            match Found::now(input, options, snapshot) {
                Err(error)
                    if error.class() == Class::TryAgain
                        && (options.follow || input.handover.is_some())
                        && tries < input.patience.retry_count =>
                {
                    options.after = asked;
                    std::thread::sleep(input.patience.pause(tries));
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn now(input: &mut ServerInput, options: &mut Options, snapshot: bool) -> Result<Found> {
        if let Some(url) = handover::already(input, options)? {
            // What is confirmed is of the successor already.
            input.url = url;
            input.handover = None;
        }
        let connector = Connector::new(&input.url)?;
        let mut client = connector.client()?;
        let server = Server::of(&mut client)?;
        if server.server_id == input.replica.server_id {
            return Err(Error::config(format!("server id {} is the server's own", server.server_id))
                .hint("give another one: --server-id"));
        }
        let name = connector.name().to_owned();
        let notes = server::warnings(&mut client, input.replica.semi_sync)?;
        let rows = match snapshot {
            true => Some(snapshot::Rows::open(&connector, &options.filter, input.sessions)?),
            false => None,
        };
        let end = match &rows {
            Some(rows) => rows.at,
            None => server::end_of_log(&mut client)?.1,
        };
        let file = match &rows {
            Some(rows) => {
                let base = files::split_name(&rows.file).map_or("", |(base, _)| base);
                options.after = Some(PositionSpec::Server { base: base.to_owned(), at: rows.at });
                rows.file.clone()
            }
            None => Begin { connector: &connector, replica: &input.replica, options, end }
                .find(&mut client)
                .map_err(|error| error.in_file(name.clone()))?,
        };
        let mut known = Vec::new();
        if rows.is_none() && options.schema.is_empty() && needs_schema(&mut client, options)? {
            let scan = schema::Scan {
                connector: &connector,
                server: &server,
                replica: &input.replica,
                patience: &input.patience,
                file: &file,
            };
            known = schema::learn(&mut client, &scan, &options.filter)?;
        }
        Ok(Found { connector, server, file, end, rows, known, notes })
    }
}

/// Whether the log leaves something open that the server's definitions tell.
fn needs_schema(client: &mut Client, options: &Options) -> Result<bool> {
    let metadata = client.variable("global.binlog_row_metadata")?.unwrap_or_default();
    Ok(!metadata.eq_ignore_ascii_case("full") || options.windows == crate::source::WindowMode::Writeset)
}

/// What `--check` tells: who the server is, where it stands, and what is amiss.
pub fn report(input: &ServerInput, snapshot: bool) -> Result<Vec<String>> {
    let connector = Connector::new(&input.url)?;
    let mut client = connector.client()?;
    let server = Server::of(&mut client)?;
    let family = if server.mariadb { "mariadb" } else { "mysql" };
    let mut lines = vec![format!(
        "{}: {family} {} server {}{}{}",
        connector.name(),
        server.version,
        server.server_id,
        if server.uuid.is_empty() { String::new() } else { format!(" {}", server.uuid) },
        if client.is_encrypted() { ", encrypted" } else { "" },
    )];
    let missing = server::missing_privileges(&mut client, snapshot)?;
    if !missing.is_empty() {
        lines.push(format!("the account lacks {}", missing.join(", ")));
    }
    let logs = server::logs(&mut client)?;
    let (name, end) = server::end_of_log(&mut client)?;
    if let Some(first) = logs.first() {
        let bytes: u64 = logs.iter().map(|log| log.len).sum();
        lines.push(format!("logs {} to {name}:{}, {bytes} bytes in {} files", first.name, end.offset(), logs.len()));
    }
    lines.extend(server::warnings(&mut client, input.replica.semi_sync)?);
    Ok(lines)
}

/// The search for the file to begin with.
struct Begin<'a> {
    connector: &'a Connector,
    replica: &'a ReplicaOptions,
    options: &'a mut Options,
    end: Coordinate,
}

impl Begin<'_> {
    fn find(self, client: &mut Client) -> Result<String> {
        let logs = server::logs(client)?;
        if self.options.after == Some(PositionSpec::Now) {
            let base = logs.last().and_then(|log| files::split_name(&log.name)).map_or("", |(base, _)| base);
            self.options.after = Some(PositionSpec::Server { base: base.to_owned(), at: self.end });
        }
        let by_number = |at: Coordinate| {
            match logs.iter().find(|log| log.number == at.file()) {
            Some(log) => Ok(log.name.clone()),
            None if logs.first().is_some_and(|first| first.number > at.file()) => Err(Error::new(
                Class::Gap,
                format!("the position {at} is in log file {}, which the server has purged", at.file()),
            )
            .hint("a new copy is needed: --resnapshot; expire_logs_days or binlog_expire_logs_seconds say how long logs are kept")),
            None => Err(Error::new(
                Class::Identity,
                format!("the position {at} is in log file {}, and the server's newest is {}", at.file(), self.end.file()),
            )
            .hint("its logs were reset, or it is another server: start anew with --resnapshot, in a queue of its own")),
        }
        };
        match &self.options.after {
            Some(PositionSpec::Position(position)) => by_number(position.end),
            Some(PositionSpec::Server { at, .. }) => by_number(*at),
            Some(PositionSpec::Gtid(text)) => {
                let done =
                    State::parse(text).ok_or_else(|| Error::usage(format!("`{text}` is no GTID or set of them")))?;
                self.by_gtid(&logs, &done)
            }
            None | Some(PositionSpec::Oldest | PositionSpec::Now) => match self.options.since_us {
                Some(since) => self.by_time(&logs, since),
                None => Ok(logs.first().map(|log| log.name.clone()).unwrap_or_default()),
            },
        }
    }

    /// The newest log before which nothing but these GTIDs is.
    fn by_gtid(&self, logs: &[Log], done: &State) -> Result<String> {
        for log in logs.iter().rev() {
            let head = server::head(self.connector, self.replica, &log.name)?;
            let before = head.gtids.unwrap_or_default();
            if before.first_missing_in(done).is_none() {
                return Ok(log.name.clone());
            }
        }
        Err(Error::new(Class::Gap, "the server has purged transactions that are not done according to the position")
            .hint("a new copy is needed: --resnapshot"))
    }

    /// The newest log that was begun before this time.
    fn by_time(&self, logs: &[Log], since_us: i64) -> Result<String> {
        for log in logs.iter().rev() {
            let head = server::head(self.connector, self.replica, &log.name)?;
            if i64::from(head.format.timestamp) * 1_000_000 < since_us {
                return Ok(log.name.clone());
            }
        }
        Ok(logs.first().map(|log| log.name.clone()).unwrap_or_default())
    }
}

impl Source for LiveServer {
    fn step(&mut self, out: &mut FrameWriter) -> Result<Step> {
        match std::mem::replace(&mut self.phase, Phase::Log) {
            Phase::Log => match self.log.step(out) {
                Err(error) if error.class() == Class::TryAgain && self.successor.is_some() => {
                    self.hand_over(&error, out)?;
                    Ok(Step::Waited)
                }
                other => other,
            },
            Phase::Approach(rows) => {
                let step = self.log.step(out)?;
                if step != Step::End && self.log.decoder().is_header_written() {
                    self.begin_rows(*rows)?;
                    return Ok(Step::More);
                }
                self.phase = Phase::Approach(rows);
                Ok(step)
            }
            Phase::Succeed(mut stood) => {
                stood.write_header(out);
                Ok(Step::More)
            }
            Phase::Snapshot(mut reading) => {
                if self.log.decoder().stopping {
                    return Err(Error::new(Class::TryAgain, "stopped inside the snapshot")
                        .hint("the same command starts it over"));
                }
                let done = reading.step(out)?;
                self.rows_read = reading.rows();
                self.notes.extend(reading.take_notes());
                if done {
                    self.hold.store(false, Ordering::Relaxed);
                } else {
                    self.phase = Phase::Snapshot(reading);
                }
                Ok(Step::Waited)
            }
        }
    }

    fn stop(&mut self) {
        self.log.stop();
    }

    fn reached(&self) -> Coordinate {
        self.log.reached()
    }

    fn status(&self) -> Status {
        let status = self.log.status();
        Status { rows: status.rows + self.rows_read, ..status }
    }

    fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.log.take_notes());
        notes
    }
}
