//! Windows: up to which transaction everything must have committed before a transaction may run.
//!
//! **source**: MySQL numbers the transactions of a file from 1 (`sequence_number`) and names the newest that each depends on
//! (`last_committed`). That number becomes the txid of the transaction that has it. It is distrusted, and the transaction waits for all before it, when either
//! number is 0, when the numbers do not rise by one, when the predecessor had none, or when the parent is not older. Numbers are forgotten at every file.
//! MariaDB's group commits: transactions with the commit id of their predecessor share its window; a batch waits for all of the batch before.
//! Transactions without either wait for their predecessor.
//!
//! **writeset**: the newest transaction that touched one of the same keys; see [`super::writeset`]. **serial**: the predecessor.
//!
//! Promises: a window's start is never behind its own transaction; it is never older than the true parent (forgotten parents
//! become newer ones); and it does not depend on what was filtered or where reading was resumed, as long as reading starts at a file's start.

use std::collections::VecDeque;

use super::gtid::{GroupHead, maria};
use crate::frame::Coordinate;
use crate::source::WindowMode;

/// Sequence numbers that are remembered, 8 bytes each. A parent that is older counts as the oldest remembered one.
const REMEMBERED_MAX: usize = 1 << 17;

/// Makes windows from the groups of a log, all of them, in order.
#[derive(Debug)]
pub struct Windows {
    mode: WindowMode,
    /// Txid of the group before; at first what the stream starts behind.
    last: Coordinate,
    /// Txid of the last barrier.
    barrier: Coordinate,
    /// Txids by sequence number, from `first_sequence` on; of the current file.
    sequence: VecDeque<Coordinate>,
    first_sequence: i64,
    /// The predecessor's sequence number and whether it can be built upon.
    last_sequence: Option<i64>,
    /// MariaDB: commit id of the predecessor and the start that its batch has.
    batch: Option<(u64, Coordinate)>,
}

impl Windows {
    /// Starts before the first group of a log whose files begin at `start`.
    pub fn new(mode: WindowMode, start: Coordinate) -> Windows {
        Windows {
            mode,
            last: start,
            barrier: start,
            sequence: VecDeque::new(),
            first_sequence: 1,
            last_sequence: None,
            batch: None,
        }
    }

    /// A new file begins: numbers start anew, and nothing of the old file may be named by them.
    pub fn new_file(&mut self) {
        self.sequence.clear();
        self.last_sequence = None;
        self.batch = None;
    }

    /// The mode.
    pub fn mode(&self) -> WindowMode {
        self.mode
    }

    /// Txid of the group before.
    pub fn last(&self) -> Coordinate {
        self.last
    }

    /// Takes the next group and returns the start of its window. `keys` is what its keys say (`writeset`), if anything.
    pub fn next(&mut self, head: &GroupHead, txid: Coordinate, keys: Option<Coordinate>) -> Coordinate {
        let start = match self.mode {
            WindowMode::Source => self.source(head, txid),
            WindowMode::Serial => self.last,
            WindowMode::Writeset => keys.unwrap_or(self.last),
        };
        let start = start.max(self.barrier).min(self.last.max(self.barrier));
        self.last = txid;
        start
    }

    /// The group that [`Windows::next`] was last asked about turned out to be a barrier.
    pub fn barrier(&mut self) {
        self.barrier = self.last;
        self.batch = None;
    }

    fn source(&mut self, head: &GroupHead, txid: Coordinate) -> Coordinate {
        if let Some((parent, own)) = head.clock {
            self.batch = None;
            let follows = self.last_sequence.is_some_and(|last| last.checked_add(1) == Some(own));
            let trusted = parent > 0 && parent < own && follows;
            if !follows {
                self.sequence.clear();
                self.first_sequence = own;
            }
            let start = if trusted { self.of_sequence(parent) } else { self.last };
            self.last_sequence = (own > 0).then_some(own);
            if own > 0 {
                if self.sequence.len() >= REMEMBERED_MAX {
                    self.sequence.pop_front();
                    self.first_sequence += 1;
                }
                self.sequence.push_back(txid);
            }
            return start;
        }
        self.last_sequence = None;
        let Some(id) = head.commit_id else {
            self.batch = None;
            return self.last;
        };
        if head.flags & maria::DDL != 0 {
            self.batch = None;
            return self.last;
        }
        match self.batch {
            Some((batch, start)) if batch == id => start,
            _ => {
                self.batch = Some((id, self.last));
                self.last
            }
        }
    }

    fn of_sequence(&self, number: i64) -> Coordinate {
        let index = usize::try_from(number - self.first_sequence).unwrap_or(0);
        self.sequence.get(index).or(self.sequence.front()).copied().unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocked(clock: (i64, i64)) -> GroupHead {
        GroupHead { clock: Some(clock), ..GroupHead::default() }
    }

    #[test]
    fn mysql_clocks_become_txids_and_are_distrusted_where_they_must_be() {
        let mut windows = Windows::new(WindowMode::Source, Coordinate(4));
        let mut next = |clock, txid| windows.next(&clocked(clock), Coordinate(txid), None).0;
        assert_eq!(next((0, 1), 100), 4);
        assert_eq!(next((1, 2), 200), 100);
        assert_eq!(next((1, 3), 300), 100);
        assert_eq!(next((2, 4), 400), 200);
        // A gap in the numbers, a parent that is not older, and 0.
        assert_eq!(next((4, 6), 600), 400);
        assert_eq!(next((7, 7), 700), 600);
        assert_eq!(next((0, 8), 800), 700);
        // A parent from before the gap counts as the oldest that is remembered.
        assert_eq!(next((2, 9), 900), 600);
        windows.new_file();
        // The new file's numbers say nothing about the old file's transactions.
        assert_eq!(windows.next(&clocked((1, 2)), Coordinate(2000), None).0, 900);
        assert_eq!(windows.next(&clocked((1, 3)), Coordinate(3000), None).0, 2000);
    }

    #[test]
    fn a_barrier_holds_back_everything_behind_it() {
        let mut windows = Windows::new(WindowMode::Source, Coordinate(4));
        windows.next(&clocked((0, 1)), Coordinate(100), None);
        windows.next(&clocked((1, 2)), Coordinate(200), None);
        windows.barrier();
        assert_eq!(windows.next(&clocked((1, 3)), Coordinate(300), None).0, 200);
    }

    #[test]
    fn a_group_commit_of_mariadb_shares_one_window() {
        let committed = |id| GroupHead { commit_id: Some(id), flags: maria::GROUP_COMMIT_ID, ..GroupHead::default() };
        let mut windows = Windows::new(WindowMode::Source, Coordinate(4));
        let mut next = |id, txid| windows.next(&committed(id), Coordinate(txid), None).0;
        assert_eq!((next(7, 10), next(7, 20), next(7, 30)), (4, 4, 4));
        assert_eq!((next(8, 40), next(8, 50)), (30, 30));
        assert_eq!(windows.next(&GroupHead::default(), Coordinate(60), None).0, 50);
        assert_eq!(windows.next(&committed(8), Coordinate(70), None).0, 60);
    }
}
