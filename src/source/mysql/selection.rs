//! Which groups are wanted: `--after`, `--until`, `--since`.
//!
//! A group is judged twice: at its first event, when only where it begins is known, and at its end. A server coordinate (FILE:POS) may lie inside a group;
//! that group is not done, so it is read again when its end turns out to lie behind the coordinate.

use super::group::Skip;
use super::gtid::{Gtid, State};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Incarnation, Position, PositionSpec};
use crate::source::{Options, Until};

/// What is to happen to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is wanted.
    Take,
    /// It is not. At its end: it is wanted after all and must be read again.
    Skip(Skip),
    /// Reading ends before it.
    Stop,
}

#[derive(Clone, Debug)]
enum After {
    Nothing,
    Everything,
    Position(Position),
    Server(String, Coordinate),
    Gtid(State),
}

#[derive(Clone, Debug)]
enum End {
    Never,
    Position(Coordinate),
    Server(Coordinate),
    Gtid(State),
    Time(i64),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Selection {
    after: After,
    // The transaction of the position that is resumed from was seen.
    matched: bool,
    first_file: bool,
    end: End,
    since_us: Option<i64>,
}

impl Selection {
    /// From the options.
    pub fn new(options: &Options) -> Result<Selection> {
        let gtids =
            |text: &str| State::parse(text).ok_or_else(|| Error::usage(format!("`{text}` is no GTID or set of them")));
        let after = match &options.after {
            None | Some(PositionSpec::Oldest) => After::Nothing,
            Some(PositionSpec::Now) => After::Everything,
            Some(PositionSpec::Position(position)) => After::Position(position.clone()),
            Some(PositionSpec::Server { base, at }) => After::Server(base.clone(), *at),
            Some(PositionSpec::Gtid(text)) => After::Gtid(gtids(text)?),
        };
        let end = match &options.until {
            None => End::Never,
            Some(Until::Time(time)) => End::Time(*time),
            Some(Until::Position(spec)) => match spec {
                PositionSpec::Position(position) => End::Position(position.end),
                PositionSpec::Server { at, .. } => End::Server(*at),
                PositionSpec::Gtid(text) => End::Gtid(gtids(text)?),
                PositionSpec::Now => End::Never,
                PositionSpec::Oldest => return Err(Error::usage("`--until oldest` selects nothing")),
            },
        };
        Ok(Selection { after, matched: false, first_file: true, end, since_us: options.since_us })
    }

    /// Whether a coordinate was given, which means something only where file numbers are known.
    pub fn needs_anchor(&self) -> bool {
        matches!(self.after, After::Position(_) | After::Server(..))
            || matches!(self.end, End::Position(_) | End::Server(_))
    }

    /// What counts as reached at the start of a stream whose first file begins at `start`.
    pub fn resume_point(&self, start: Coordinate) -> Option<Coordinate> {
        match &self.after {
            After::Position(position) => Some(position.end.max(start)),
            _ => None,
        }
    }

    /// A file begins.
    pub fn begin_file(&mut self, start: Coordinate, incarnation: Incarnation) -> Result<()> {
        let first = std::mem::replace(&mut self.first_file, false);
        let wanted = match &self.after {
            After::Position(position) => {
                let known = position.incarnation != Incarnation::default();
                let other_server = known && position.incarnation.server() != incarnation.server();
                // At a file's very start a position has the life of the file before.
                let other_life = known
                    && position.txid.file() == start.file()
                    && position.end > start
                    && position.incarnation != incarnation;
                if other_server || other_life {
                    let what = if other_server { "another server" } else { "another life of this log (RESET MASTER)" };
                    return Err(Error::new(Class::Identity, format!("the position {position} is of {what}"))
                        .hint("resume from the logs that the position was taken from, or start anew"));
                }
                position.end
            }
            After::Server(_, at) => *at,
            _ => return Ok(()),
        };
        if first && wanted < start {
            let missing = wanted.file();
            return Err(Error::new(
                Class::Gap,
                format!("the position {wanted} is in file {missing}, the first log given is file {}", start.file()),
            )
            .hint("give the logs from that file on; if the server has purged them, a new copy is needed"));
        }
        Ok(())
    }

    /// The GTIDs that are done before the first log given.
    pub fn starts_with(&self, state: &State) -> Result<()> {
        if let After::Gtid(done) = &self.after
            && let Some(missing) = state.first_missing_in(done)
        {
            return Err(Error::new(
                Class::Gap,
                format!("{missing} is not done according to the position, and lies before the first log given"),
            )
            .hint("give the older logs too; if the server has purged them, a new copy is needed"));
        }
        Ok(())
    }

    /// Judges a group by its first event.
    pub fn open(&mut self, txid: Coordinate, timestamp: u32, id: &Gtid, _emitted: bool) -> Result<Verdict> {
        let time_us = i64::from(timestamp) * 1_000_000;
        let ends = match &self.end {
            End::Never => false,
            End::Position(end) | End::Server(end) => txid >= *end,
            End::Time(time) => time_us > *time,
            // MariaDB's domains are ordered: one that is passed, or not listed, ends the stream. MySQL's sets are not.
            End::Gtid(state) => matches!(id, Gtid::MariaDb { .. }) && !state.contains(id),
        };
        if ends {
            return Ok(Verdict::Stop);
        }
        let done = match &self.after {
            After::Nothing => false,
            After::Everything => true,
            After::Position(position) => {
                if txid >= position.end && !self.matched && position.txid < position.end {
                    return Err(self.not_there(position));
                }
                txid < position.end
            }
            After::Server(_, at) => txid < *at,
            After::Gtid(state) => state.contains(id),
        };
        if done {
            return Ok(Verdict::Skip(Skip::Done));
        }
        if let Some(since) = self.since_us {
            if time_us < since {
                return Ok(Verdict::Skip(Skip::Deselected));
            }
            // From the first that is late enough on, everything: times in a log go back a little now and then.
            self.since_us = None;
        }
        Ok(Verdict::Take)
    }

    fn not_there(&self, position: &Position) -> Error {
        Error::new(Class::Identity, format!("the log has no transaction at the position {position}"))
            .hint("the position is of another log: compare its GTID with the server's")
    }

    /// Judges a group by its end.
    pub fn close(&mut self, txid: Coordinate, end: Coordinate, digest: u32, skip: Skip) -> Result<Verdict> {
        if skip == Skip::Done {
            match &self.after {
                After::Position(position) if txid == position.txid => {
                    if end != position.end || digest != position.digest {
                        return Err(self.not_there(position));
                    }
                    self.matched = true;
                }
                After::Server(_, at) if end > *at => {
                    self.after = After::Nothing;
                    return Ok(Verdict::Skip(Skip::Done));
                }
                _ => {}
            }
            return Ok(Verdict::Take);
        }
        match self.end {
            End::Server(at) if end > at => Ok(Verdict::Stop),
            _ => Ok(Verdict::Take),
        }
    }

    /// Whether everything up to the end that was asked for was seen, once a group that ends at `end` is done.
    pub fn is_complete(&self, end: Coordinate, reached: &State) -> bool {
        match &self.end {
            End::Position(wanted) | End::Server(wanted) => end >= *wanted,
            End::Gtid(wanted) => wanted.first_missing_in(reached).is_none(),
            End::Never | End::Time(_) => false,
        }
    }

    /// The end of what there is was reached, at `log_end`. From here on everything is new.
    pub fn caught_up(&mut self, log_end: Coordinate) -> Result<()> {
        match &self.after {
            After::Everything => self.after = After::Nothing,
            After::Position(position) if position.end > log_end || !self.matched && position.txid < position.end => {
                return Err(self.not_there(position));
            }
            After::Server(base, at) if *at > log_end => {
                let dot = if base.is_empty() { "" } else { "." };
                return Err(Error::new(
                    Class::Identity,
                    format!("the logs end at {log_end}, before the position {base}{dot}{at}"),
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
