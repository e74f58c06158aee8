//! `--handover`: when the server is gone for good, its successor goes on.
//!
//! The successor is a replica of it, or of the same primary, with the same GTIDs. It is accepted only if it has executed everything that was passed on
//! (rule 14 of the design): else it lacks transactions that are downstream, and what it does instead would be another history (80). Its log is
//! read from the file on before which nothing else is, and what was passed on is passed over by GTID. A `handover` frame tells readers that positions are
//! another server's from here.
//!
//! It is tried when connecting to the server has failed `--retry-count` times. A run that starts behind a handover finds in its position whose it is.

use super::feed::{FeedOptions, Patience, ServerFeed};
use super::server::{self, Server};
use super::{Begin, LiveServer, ServerInput};
use crate::db::mysql::replica::ReplicaOptions;
use crate::db::mysql::{Connector, ServerUrl};
use crate::error::{Class, Error, Result};
use crate::frame::{FrameWriter, Handover, Incarnation, PositionSpec};
use crate::source::Options;
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
        let server = Server::of(&mut client)?;
        let executed = server::executed(&mut client)?;
        if let Some(missing) = done.first_missing_in(&executed) {
            return Err(Error::new(
                Class::Conflict,
                format!("it has not executed {missing}, which was passed on already: this would be another history"),
            )
            .in_file(name)
            .hint("wait until it has caught up, or start anew with --resnapshot"));
        }
        let mut options = successor.options;
        options.after = Some(PositionSpec::Gtid(done.text()));
        let end = server::end_of_log(&mut client)?.1;
        let begin = Begin { connector: &successor.connector, replica: &successor.replica, options: &mut options, end };
        let file = begin.find(&mut client).map_err(|error| error.in_file(name.clone()))?;
        let feed = FeedOptions {
            replica: ReplicaOptions { semi_sync: false, ..successor.replica },
            patience: successor.patience,
            end: (!options.follow).then_some(end),
            caught_up_at: end,
            hold: None,
            raw: None,
            semi_sync: None,
        };
        let uuid = server.uuid.clone();
        self.notes.push(format!("{}: {name} goes on", lost.what()));
        let feed = ServerFeed::new(successor.connector, server, file, feed)?;
        self.log = MySqlSource::from_feed(name.clone(), Box::new(feed), &uuid, options)?;
        self.log.decoder().hand_over(Handover { from, server_uuid: uuid, host: name, ..Handover::default() });
        Ok(())
    }
}
