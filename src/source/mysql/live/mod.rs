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
//! [`server`]: what a server tells about itself. [`feed`]: its events, through lost connections. [`raw`]: copies of its logs.

pub mod feed;
pub mod raw;
pub mod server;

use std::path::PathBuf;

use feed::{FeedOptions, Patience, ServerFeed};
use raw::RawCopies;
use server::{Log, Server};

use super::files;
use super::gtid::State;
use super::reader::MySqlSource;
use crate::db::mysql::replica::ReplicaOptions;
use crate::db::mysql::{Client, Connector, ServerUrl};
use crate::error::{Class, Error, Result};
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
}

/// See the module's head.
pub struct LiveServer {
    log: MySqlSource,
    notes: Vec<String>,
}

impl LiveServer {
    /// Connects, and finds where to begin. Nothing was written when this fails.
    pub fn open(input: ServerInput, mut options: Options, live: LiveOptions) -> Result<LiveServer> {
        let connector = Connector::new(&input.url)?;
        let mut client = connector.client()?;
        let server = Server::of(&mut client)?;
        if server.server_id == input.replica.server_id {
            return Err(Error::config(format!("server id {} is the server's own", server.server_id))
                .hint("give another one: --server-id"));
        }
        let name = connector.name().to_owned();
        let notes = server::warnings(&mut client, input.replica.semi_sync)?;
        let end = server::end_of_log(&mut client)?.1;
        let begin = Begin { connector: &connector, replica: &input.replica, options: &mut options, end };
        let file = begin.find(&mut client).map_err(|error| error.in_file(name.clone()))?;
        drop(client);
        let feed = FeedOptions {
            replica: input.replica,
            patience: input.patience,
            end: (!options.follow).then_some(end),
            caught_up_at: end,
            raw: input.raw.as_deref().map(RawCopies::new).transpose()?,
            semi_sync: None,
        };
        let mut feed = feed;
        if feed.replica.semi_sync {
            feed.semi_sync = live.confirm;
        }
        let uuid = server.uuid.clone();
        let feed = ServerFeed::new(connector, server, file, feed)?;
        let log = MySqlSource::from_feed(name, Box::new(feed), &uuid, options)?;
        Ok(LiveServer { log, notes })
    }
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
        self.log.step(out)
    }

    fn stop(&mut self) {
        self.log.stop();
    }

    fn reached(&self) -> Coordinate {
        self.log.reached()
    }

    fn status(&self) -> Status {
        self.log.status()
    }

    fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.log.take_notes());
        notes
    }
}
