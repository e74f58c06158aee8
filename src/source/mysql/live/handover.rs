//! `--handover`: when the server is gone for good, its successor goes on.
//!
//! The successor is a replica of it, or of the same primary, with the same GTIDs. It is accepted only if it has executed everything that was passed on
//! (rule 14 of the design): else it lacks transactions that are downstream, and what it does instead would be another history (80). Its log is
//! read from the file on before which nothing else is, and what was passed on is passed over by GTID. A `handover` frame tells readers that positions are
//! another server's from here.
//!
//! It is tried when connecting to the server has failed `--retry-count` times. A run that starts behind a handover finds in its position whose it is.
//!
//! ```text
//! lost while running:  … transactions -> handover -> header of the successor -> its log
//! gone at the start:   header of the old life, at the confirmed position -> handover -> header of the successor -> its log
//! ```
//!
//! At the start nobody has read the old log, so what was passed on is what downstream says: a queue folds the GTIDs of its stream, and knows them all. A cursor
//! file has the last transaction's alone; that is enough where the successor knows one domain only, else nobody can judge it (80).

use std::sync::Arc;

use super::feed::{FeedOptions, Patience, ServerFeed};
use super::server::{self, Server};
use super::{Begin, LiveServer, Phase, ServerInput};
use crate::db::mysql::replica::ReplicaOptions;
use crate::db::mysql::{Client, Connector, ServerUrl};
use crate::error::{Class, Error, Result};
use crate::frame::{FrameWriter, Handover, Incarnation, Position, PositionSpec};
use crate::source::Options;
use crate::source::mysql::decoder::Decoder;
use crate::source::mysql::gtid::State;
use crate::source::mysql::reader::MySqlSource;

/// The other host, and everything that reading its log needs.
pub(super) struct Successor {
    connector: Connector,
    replica: ReplicaOptions,
    patience: Patience,
    options: Options,
}

impl Successor {
    pub(super) fn new(url: &ServerUrl, input: &ServerInput, options: &Options) -> Result<Successor> {
        Ok(Successor {
            connector: Connector::new(url)?,
            replica: input.replica.clone(),
            patience: input.patience.clone(),
            options: options.clone(),
        })
    }

    /// Its log behind what is `done`, if it has executed all of that; the handover is written before its header.
    fn take_up(mut self, mut client: Client, executed: &State, done: &State, from: Incarnation) -> Result<MySqlSource> {
        let name = self.connector.name().to_owned();
        let server = Server::of(&mut client)?;
        if let Some(missing) = done.first_missing_in(executed) {
            return Err(Error::new(
                Class::Conflict,
                format!("it has not executed {missing}, which was passed on already: this would be another history"),
            )
            .in_file(name)
            .hint("wait until it has caught up, or start anew with --resnapshot"));
        }
        self.options.after = Some(PositionSpec::Gtid(done.text()));
        let end = server::end_of_log(&mut client)?.1;
        let begin = Begin { connector: &self.connector, replica: &self.replica, options: &mut self.options, end };
        let file = begin.find(&mut client).map_err(|error| error.in_file(name.clone()))?;
        let feed = FeedOptions {
            replica: ReplicaOptions { semi_sync: false, ..self.replica },
            patience: self.patience,
            end: (!self.options.follow).then_some(end),
            caught_up_at: end,
            hold: None,
            raw: None,
            semi_sync: None,
        };
        let uuid = server.uuid.clone();
        let feed = ServerFeed::new(self.connector, server, file, feed)?;
        let mut log = MySqlSource::from_feed(name.clone(), Box::new(feed), &uuid, self.options)?;
        log.decoder().hand_over(Handover { from, server_uuid: uuid, host: name, ..Handover::default() });
        Ok(log)
    }
}

/// What was passed on up to the confirmed `position`: `gtids` if downstream knows them, else what follows from the last transaction's own.
fn passed_on(position: &Position, gtids: &str, executed: &State) -> Result<State> {
    let damaged = |text: &str| Error::damage(format!("GTIDs that downstream tells are not understood: {text}"));
    if !gtids.is_empty() {
        return State::parse(gtids).ok_or_else(|| damaged(gtids));
    }
    let own = State::parse(&position.gtid).ok_or_else(|| damaged(&position.gtid))?;
    if own.is_one_domain() && executed.is_one_domain() {
        return Ok(own);
    }
    Err(Error::new(
        Class::Conflict,
        format!("nobody can judge whether it has everything: the position {position} does not tell all GTIDs that were passed on"),
    )
    .hint("confirm by a queue, which knows them: --confirm QUEUE; or start anew with --resnapshot"))
}

/// The successor, if the position that is resumed from is of its log and not of the first server's.
pub(super) fn already(input: &ServerInput, options: &Options) -> Result<Option<ServerUrl>> {
    let (Some(url), Some(PositionSpec::Position(position))) = (&input.handover, &options.after) else {
        return Ok(None);
    };
    let of = |url: &ServerUrl| -> Result<Incarnation> {
        let server = Server::of(&mut Connector::new(url)?.client()?)?;
        Ok(Incarnation::new(server.identity(), 0))
    };
    match of(url) {
        Ok(found) => Ok((found.server() == position.incarnation.server()).then(|| url.clone())),
        // One that is away now is of no use now.
        Err(error) if error.class() == Class::TryAgain => Ok(None),
        Err(error) => Err(error),
    }
}

impl LiveServer {
    /// Goes on with the successor, if it has everything.
    pub(super) fn hand_over(&mut self, lost: &Error, out: &mut FrameWriter) -> Result<()> {
        let Some(successor) = self.successor.take() else { return Ok(()) };
        let decoder = self.log.decoder();
        decoder.group.discard(out);
        decoder.write_header(out);
        decoder.write_progress(out);
        let done = decoder.gtids.clone();
        let from = decoder.incarnation;
        let name = successor.connector.name().to_owned();
        if done.is_empty() {
            return Err(Error::config("without GTIDs nothing can be found in another server's log").in_file(name));
        }
        let mut client = successor.connector.client()?;
        let executed = server::executed(&mut client)?;
        self.log = successor.take_up(client, &executed, &done, from)?;
        self.notes.push(format!("{}: {name} goes on", lost.what()));
        Ok(())
    }

    /// Goes on with the successor from the confirmed position, when the server could not be reached at all. `gtids` is what downstream has
    /// folded up to there, empty if it has not. Without a confirmed position there is nothing to go on from, and what was `lost` stays lost.
    pub(super) fn without_the_first(
        lost: Error,
        input: &ServerInput,
        options: &Options,
        gtids: &str,
    ) -> Result<LiveServer> {
        let (Some(url), Some(PositionSpec::Position(position))) = (&input.handover, &options.after) else {
            return Err(lost);
        };
        let successor = Successor::new(url, input, options)?;
        let name = successor.connector.name().to_owned();
        let mut client = successor.connector.client()?;
        let executed = server::executed(&mut client)?;
        let done = passed_on(position, gtids, &executed).map_err(|error| error.in_file(name.clone()))?;
        let mut stood = Decoder::new(options)?;
        stood.stand_at(position, done.clone(), Server::of(&mut client)?.mariadb);
        let log = successor.take_up(client, &executed, &done, position.incarnation)?;
        Ok(LiveServer {
            log,
            phase: Phase::Succeed(Box::new(stood)),
            hold: Arc::default(),
            filter: options.filter.clone(),
            rows_read: 0,
            notes: vec![format!("{}: {name} goes on", lost.what())],
            successor: None,
        })
    }
}
