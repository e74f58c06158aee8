//! What a transaction that is held back will touch, so that it can run ahead of older ones without getting in their way.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Rows (and tables as a whole, where rows are not independent) as hashes. Two different rows may have the same hash: then one
/// waits for the other without need, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    hashes: HashSet<u64, BuildHasherDefault<Same>>,
}

impl Claims {
    /// With room for `count`.
    pub fn with_capacity(count: usize) -> Claims {
        Claims { hashes: HashSet::with_capacity_and_hasher(count, BuildHasherDefault::default()) }
    }

    /// Adds a row or table.
    pub fn add(&mut self, hash: u64) {
        self.hashes.insert(hash);
    }

    /// Whether a row or table is among them.
    #[inline]
    pub fn hold(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }
}

/// Hashes are hashed already.
#[derive(Clone, Copy, Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
