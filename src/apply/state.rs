//! What the target remembers, and what that means for the next transaction: apply it, pass over it, or stop.
//!
//! Facts of a channel in the target ([`facts`]) and its state rows are the only memory of an applier. [`Reached`] is that memory
//! folded: rows chained by `prev` and `end` give the low-water mark, rows beyond a hole (with `--order relaxed`) the set above it.

use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Incarnation, Position, Progress};
use crate::queue::ReadFrom;
use crate::target::{ChannelState, StateRow};

/// Names of facts.
pub mod facts {
    /// What `--init` declared: `empty`, a coordinate, `gtid`, or `snapshot`.
    pub const BASE: &str = "base";
    /// GTIDs that the target held when its channel began.
    pub const GTID_BASE: &str = "gtid_base";
    /// Family of the source.
    pub const SOURCE: &str = "source";
    /// UUID of the source server where known.
    pub const SERVER_UUID: &str = "server_uuid";
    /// Hash of the source's identity, hexadecimal.
    pub const SERVER: &str = "server";
    /// Canonical text of the stream's filters.
    pub const STREAM_FILTERS: &str = "stream_filters";
    /// Canonical text of the applier's own filters.
    pub const FILTERS: &str = "filters";
    /// What is to be acknowledged to the queue once it cannot be lost any more: when it was reached (microseconds since 1970 UTC), the
    /// queue's number of it, and the position, separated by blanks. Only on targets whose commits are not synced each.
    pub const UNACKNOWLEDGED: &str = "unacknowledged";
    /// UUID of the snapshot that is being loaded (hexadecimal); absent when none is.
    pub const LOADING: &str = "loading";
    /// UUID of the last snapshot that was loaded whole.
    pub const LOADED: &str = "loaded";
    /// Position of the one transaction that `skip` steps over.
    pub const SKIP: &str = "skip";
    /// Message of the error that stopped the last run.
    pub const ERROR: &str = "error";
    /// When, microseconds since 1970 UTC.
    pub const ERROR_TIME: &str = "error_time_us";
    /// Position of the transaction that failed.
    pub const ERROR_POSITION: &str = "error_position";
    /// Exit status of the last run that failed.
    pub const ERROR_STATUS: &str = "error_status";
    /// When the last run started or ended, and as what process.
    pub const RUN: &str = "run";
    /// Counters of conflicts skipped and overwritten.
    pub const SKIPPED: &str = "skipped";
    /// Rows made as the source's by `overwrite`.
    pub const OVERWRITTEN: &str = "overwritten";
    /// Prefix of conflicts that were stepped over: position and number follow.
    pub const CONFLICT_PREFIX: &str = "conflict ";
    /// Prefix of tables that the snapshot under way has loaded: `loaded-table DB.TABLE`.
    pub const LOADED_TABLE_PREFIX: &str = "loaded-table ";
}

/// What to do with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next.
    Apply,
    /// It was applied before.
    Done,
}

/// What was applied, folded from the target's memory and kept up to date by the loop.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The low-water mark: everything that ends at or before it is applied. `None`: nothing was, and any first transaction will do.
    pub at: Option<Coordinate>,
    /// Life of the source there.
    pub incarnation: Option<Incarnation>,
    /// Last transaction at or below the low-water mark.
    pub last: Option<Position>,
    /// File and stamp of the last range that lies within one file: at the start of the next file, its stamp is not known yet.
    stamped: Option<(u64, u32)>,
    /// Rows above a hole, by prev.
    above: Vec<StateRow>,
    /// How far the stream was read: contiguity is judged by it. Starts at the low-water mark.
    reading: Option<Coordinate>,
    /// Chunks of the snapshot under way that are loaded.
    pub chunks: u64,
}

impl Reached {
    /// From the target's memory.
    pub fn new(state: &ChannelState) -> Result<Reached> {
        let mut out = Reached::default();
        if let Some(base) = state.facts.get(facts::BASE).filter(|base| base.contains(':')) {
            let at =
                base.parse().map_err(|_| Error::damage(format!("the base '{base}' in the state is no coordinate")))?;
            out.at = Some(at);
        }
        let snapshot = state.facts.get(facts::LOADING).map(|uuid| snapshot_incarnation(uuid));
        let mut rows: Vec<&StateRow> = Vec::new();
        // Rows of a server that was left by a handover say nothing about the present one.
        let server = state.facts.get(facts::SERVER).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        for row in &state.applied {
            match snapshot {
                Some(incarnation) if row.incarnation == incarnation => out.chunks = out.chunks.max(row.end.0),
                _ if is_snapshot_row(row) => {}
                _ if server.is_some_and(|server| server != row.incarnation.server()) => {}
                _ => rows.push(row),
            }
        }
        rows.sort_by_key(|row| (row.prev, row.end));
        for row in rows {
            // The base is the start of the chain: written before the first transaction, moved up before rows are pruned.
            match out.at {
                None => out.take(row),
                Some(at) if row.prev <= at => {
                    if row.end >= at {
                        out.take(row);
                    } else if row.position.is_some() {
                        // Below the base: kept as evidence.
                        out.last.clone_from(&row.position);
                    }
                }
                Some(_) => out.above.push(row.clone()),
            }
        }
        out.reading = out.at;
        Ok(out)
    }

    fn take(&mut self, row: &StateRow) {
        self.at = Some(row.end);
        self.incarnation = Some(row.incarnation);
        if row.prev.file() == row.end.file() {
            self.stamped = Some((row.end.file(), row.incarnation.stamp()));
        }
        if row.position.is_some() {
            self.last.clone_from(&row.position);
        }
    }

    /// What `last` prints: the last transaction's position, or one whose start and end are what progress reached after it.
    pub fn position(&self) -> Option<Position> {
        let at = self.at?;
        match &self.last {
            Some(last) if last.end == at => Some(last.clone()),
            _ => Some(Position {
                txid: at,
                end: at,
                incarnation: self.incarnation.unwrap_or_default(),
                ..Position::default()
            }),
        }
    }

    /// Where a queue is read from.
    pub fn place(&self) -> ReadFrom {
        match self.position() {
            Some(position) if self.incarnation.is_some() => ReadFrom::After(position),
            Some(position) => ReadFrom::AfterCoordinate(position.end),
            None => ReadFrom::Oldest,
        }
    }

    /// Where reading goes on.
    pub fn reading(&self) -> Option<Coordinate> {
        self.reading
    }

    /// Whether the order has holes.
    pub fn has_holes(&self) -> bool {
        !self.above.is_empty()
    }

    /// Judges a transaction that the stream brings. `prev` is what it follows.
    pub fn judge(&self, position: &Position, prev: Coordinate) -> Result<Verdict> {
        self.same_source(position.incarnation, Some(position.txid.file()))?;
        if let Some(last) = &self.last
            && last.txid == position.txid
            && last.incarnation == position.incarnation
            && last.digest != position.digest
        {
            return Err(Error::new(
                Class::Identity,
                format!(
                    "transaction {position} has another source digest than the one that was applied under its number ({:08x})",
                    last.digest
                ),
            )
            .hint("the input is of another history than this target; `rlog-apply status` shows what was applied"));
        }
        let Some(reading) = self.reading else { return Ok(Verdict::Apply) };
        if position.end <= reading || self.above.iter().any(|row| row.prev <= prev && position.end <= row.end) {
            return Ok(Verdict::Done);
        }
        if prev > reading {
            return Err(gap(reading, prev));
        }
        if prev < reading {
            return Err(Error::config(format!(
                "the target has reached {reading}, which falls inside transaction {position}"
            ))
            .hint("start from a position that a transaction ends at"));
        }
        Ok(Verdict::Apply)
    }

    /// Judges a range without transactions: what is new of it, if anything.
    pub fn judge_progress(&self, progress: &Progress) -> Result<Verdict> {
        self.same_source(progress.incarnation, progress.stamped_file())?;
        let Some(reading) = self.reading else { return Ok(Verdict::Apply) };
        if progress.to <= reading {
            return Ok(Verdict::Done);
        }
        if progress.from > reading {
            return Err(gap(reading, progress.from));
        }
        Ok(Verdict::Apply)
    }

    fn same_source(&self, incarnation: Incarnation, file: Option<u64>) -> Result<()> {
        let Some(known) = self.incarnation else { return Ok(()) };
        let other_log = self.stamped.is_some_and(|(held, stamp)| Some(held) == file && stamp != incarnation.stamp());
        if known.server() != incarnation.server() || other_log {
            return Err(Error::new(
                Class::Identity,
                format!("the input is of source incarnation {incarnation}, this target holds {known}"),
            )
            .hint("each source has a channel of its own; after RESET MASTER a new snapshot or base is needed"));
        }
        Ok(())
    }

    /// The stream was read up to here (applied, passed over or handed to a worker).
    pub fn read_to(&mut self, to: Coordinate) {
        self.reading = Some(self.reading.map_or(to, |reading| reading.max(to)));
    }

    /// A target transaction was committed.
    pub fn committed(&mut self, row: &StateRow) {
        if is_snapshot_row(row) {
            self.chunks = self.chunks.max(row.end.0);
            return;
        }
        match self.at {
            Some(at) if row.prev > at => {
                self.above.push(row.clone());
                self.above.sort_by_key(|row| (row.prev, row.end));
            }
            _ => self.take(row),
        }
        while let Some(row) = self.above.first().filter(|row| self.at.is_some_and(|at| row.prev <= at)).cloned() {
            self.above.remove(0);
            if self.at.is_some_and(|at| row.end >= at) {
                self.take(&row);
            }
        }
        self.read_to(row.end);
    }

    /// The source goes on under another identity from `at` (a handover or a whole snapshot).
    pub fn moved(&mut self, at: Coordinate, incarnation: Incarnation) {
        self.at = Some(at);
        self.reading = Some(at);
        self.incarnation = Some(incarnation);
        self.last = None;
        self.stamped = None;
        self.above.clear();
    }
}

/// State rows of snapshot chunks carry an incarnation made from the snapshot's UUID, whose lowest bit pattern no source has.
pub fn snapshot_incarnation(uuid_hex: &str) -> Incarnation {
    let hash = xxhash_rust::xxh3::xxh3_64(uuid_hex.as_bytes());
    Incarnation(SNAPSHOT_SERVER << 32 | hash & 0xffff_ffff)
}

const SNAPSHOT_SERVER: u64 = 0x534e_4150;

fn is_snapshot_row(row: &StateRow) -> bool {
    u64::from(row.incarnation.server()) == SNAPSHOT_SERVER && row.end.0 == row.prev.0 + 1
}

fn gap(reached: Coordinate, from: Coordinate) -> Error {
    Error::new(
        Class::Gap,
        format!("the target has reached {reached}, the input goes on from {from}: what lies between is missing"),
    )
    .hint(format!("read the source from there: `rlog-extract --after {reached}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prev: u64, end: u64) -> StateRow {
        StateRow {
            incarnation: Incarnation::new(7, 1),
            prev: Coordinate(prev),
            end: Coordinate(end),
            position: Some(position(prev, end)),
            ..StateRow::default()
        }
    }

    fn position(txid: u64, end: u64) -> Position {
        Position {
            txid: Coordinate(txid),
            end: Coordinate(end),
            incarnation: Incarnation::new(7, 1),
            digest: txid as u32,
            gtid: String::new(),
        }
    }

    fn state(rows: &[(u64, u64)]) -> ChannelState {
        ChannelState { applied: rows.iter().map(|(prev, end)| row(*prev, *end)).collect(), ..ChannelState::default() }
    }

    fn judge(reached: &Reached, prev: u64, end: u64) -> Result<Verdict, u8> {
        reached.judge(&position(prev, end), Coordinate(prev)).map_err(|error| error.class().exit_status())
    }

    #[test]
    fn what_was_applied_is_passed_over_and_what_is_missing_is_a_gap() {
        let reached = Reached::new(&state(&[(10, 20), (20, 30)])).unwrap();
        assert_eq!(reached.at, Some(Coordinate(30)));
        assert_eq!(judge(&reached, 10, 20), Ok(Verdict::Done));
        assert_eq!(judge(&reached, 30, 40), Ok(Verdict::Apply));
        assert_eq!(judge(&reached, 31, 40), Err(81));
        assert_eq!(judge(&reached, 25, 40), Err(78));
        let other = Position { incarnation: Incarnation::new(8, 1), ..position(30, 40) };
        assert_eq!(reached.judge(&other, Coordinate(30)).unwrap_err().class(), Class::Identity);
        let reset = Position { incarnation: Incarnation::new(7, 2), ..position(30, 40) };
        assert_eq!(reached.judge(&reset, Coordinate(30)).unwrap_err().class(), Class::Identity);
    }

    #[test]
    fn progress_into_a_file_that_was_not_read_carries_the_stamp_of_the_file_before() {
        let at = |file, offset| Coordinate::new(file, offset).unwrap();
        let mut state = ChannelState::default();
        let held = StateRow { prev: at(2, 4), end: at(2, 100), incarnation: Incarnation::new(7, 2), ..row(0, 0) };
        state.applied.push(held);
        let reached = Reached::new(&state).unwrap();
        let judge = |from, to, stamp| {
            let incarnation = Incarnation::new(7, stamp);
            let progress = Progress { from, to, incarnation, ..Progress::default() };
            reached.judge_progress(&progress).map_err(|error| error.class())
        };
        // The same logs again, from the first; and two files without transactions behind.
        assert_eq!(judge(at(1, 50), at(2, 4), 1), Ok(Verdict::Done));
        assert_eq!(judge(at(2, 100), at(4, 4), 3), Ok(Verdict::Apply));
        assert_eq!(judge(at(2, 50), at(2, 120), 3), Err(Class::Identity));
    }

    #[test]
    fn the_last_transaction_with_another_digest_is_of_another_history() {
        let reached = Reached::new(&state(&[(10, 20)])).unwrap();
        let other = Position { digest: 99, ..position(10, 20) };
        assert_eq!(reached.judge(&other, Coordinate(10)).unwrap_err().class(), Class::Identity);
        assert_eq!(judge(&reached, 10, 20), Ok(Verdict::Done));
    }

    #[test]
    fn a_restart_after_relaxed_order_fills_exactly_the_holes() {
        let mut reached = Reached::new(&state(&[(10, 20), (30, 40), (50, 60), (60, 70)])).unwrap();
        assert_eq!(reached.at, Some(Coordinate(20)));
        let mut applied = Vec::new();
        for (prev, end) in [(20, 30), (30, 40), (40, 50), (50, 60), (60, 70), (70, 80)] {
            if judge(&reached, prev, end) == Ok(Verdict::Apply) {
                applied.push(prev);
            }
            reached.read_to(Coordinate(end));
        }
        assert_eq!(applied, [20, 40, 70]);
        reached.committed(&row(40, 50));
        assert_eq!(reached.at, Some(Coordinate(20)));
        reached.committed(&row(20, 30));
        assert_eq!(reached.at, Some(Coordinate(70)));
    }

    #[test]
    fn a_base_is_where_the_first_transaction_must_begin() {
        let mut state = ChannelState::default();
        state.facts.insert(facts::BASE.into(), "0:100".into());
        let reached = Reached::new(&state).unwrap();
        assert_eq!(judge(&reached, 50, 100), Ok(Verdict::Done));
        assert_eq!(judge(&reached, 100, 120), Ok(Verdict::Apply));
        assert_eq!(judge(&reached, 110, 120), Err(81));
        state.facts.insert(facts::BASE.into(), "empty".into());
        assert_eq!(judge(&Reached::new(&state).unwrap(), 110, 120), Ok(Verdict::Apply));
    }

    #[test]
    fn the_last_transaction_is_known_behind_progress_that_was_pruned() {
        let mut state = state(&[(10, 20)]);
        state.applied.push(StateRow { position: None, ..row(20, 40) });
        state.facts.insert(facts::BASE.into(), "0:40".into());
        let reached = Reached::new(&state).unwrap();
        assert_eq!((reached.at, &reached.last), (Some(Coordinate(40)), &Some(position(10, 20))));
        let other = Position { digest: 99, ..position(10, 20) };
        assert_eq!(reached.judge(&other, Coordinate(10)).unwrap_err().class(), Class::Identity);
    }

    #[test]
    fn a_hole_right_behind_the_base_is_seen() {
        let mut state = state(&[(30, 40)]);
        state.facts.insert(facts::BASE.into(), "0:10".into());
        let reached = Reached::new(&state).unwrap();
        assert_eq!(reached.at, Some(Coordinate(10)));
        assert_eq!(judge(&reached, 10, 30), Ok(Verdict::Apply));
        // Pruned: the newest row of the chain stays, and the base was moved up to its end.
        state.facts.insert(facts::BASE.into(), "0:40".into());
        let reached = Reached::new(&state).unwrap();
        assert_eq!(reached.at, Some(Coordinate(40)));
        assert_eq!(reached.last, Some(position(30, 40)));
    }
}
