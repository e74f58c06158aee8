//! Windows from write sets: a transaction depends on the last one that touched one of its keys.
//!
//! Keys are hashes: of a row's identity, of each unique key's values, of the parent keys that its foreign keys name.
//! Two keys that collide only make a window smaller than it could be. The history is bounded; when it is full it is
//! forgotten, and everything so far counts as touched.

use std::collections::HashMap;

use crate::frame::Coordinate;

/// Keys remembered; 24 bytes each, so about 6 MiB.
const HISTORY_MAX: usize = 250_000;

/// The history of keys.
#[derive(Debug, Default)]
pub struct WriteSet {
    last: HashMap<u64, Coordinate>,
    /// Everything up to here counts as touched by everybody.
    floor: Coordinate,
}

impl WriteSet {
    /// An empty history behind `floor`.
    pub fn new(floor: Coordinate) -> WriteSet {
        WriteSet { last: HashMap::new(), floor }
    }

    /// Takes the keys of transaction `txid` and returns its window's start: the txid of the last transaction that it may
    /// depend on.
    pub fn window(&mut self, txid: Coordinate, keys: &[u64]) -> Coordinate {
        let start = keys.iter().filter_map(|key| self.last.get(key)).max().copied().unwrap_or_default().max(self.floor);
        if self.last.len() + keys.len() > HISTORY_MAX {
            self.barrier(txid);
        } else {
            self.last.extend(keys.iter().map(|key| (*key, txid)));
        }
        start
    }

    /// Everything behind transaction `txid` depends on it.
    pub fn barrier(&mut self, txid: Coordinate) {
        self.last.clear();
        self.floor = txid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_at_the_last_transaction_that_touched_a_key() {
        let mut set = WriteSet::new(Coordinate(1));
        assert_eq!(set.window(Coordinate(2), &[10, 11]), Coordinate(1));
        assert_eq!(set.window(Coordinate(3), &[12]), Coordinate(1));
        assert_eq!(set.window(Coordinate(4), &[11]), Coordinate(2));
        assert_eq!(set.window(Coordinate(5), &[12, 11]), Coordinate(4));
        set.barrier(Coordinate(6));
        assert_eq!(set.window(Coordinate(7), &[10]), Coordinate(6));
    }

    #[test]
    fn a_full_history_makes_everything_a_dependency() {
        let mut set = WriteSet::new(Coordinate(0));
        let keys: Vec<u64> = (0..HISTORY_MAX as u64).collect();
        set.window(Coordinate(1), &keys);
        set.window(Coordinate(2), &[u64::MAX]);
        assert_eq!(set.window(Coordinate(3), &[u64::MAX - 1]), Coordinate(2));
    }
}
