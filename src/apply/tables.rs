//! Table definitions as the applier sees them: decoded once, rewritten, filtered, and numbered so that plans can be kept.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::rules::Rules;
use crate::error::Result;
use crate::event::TableDefinition;
use crate::target::Table;

/// Decoded definitions that are kept before all are forgotten (they come again when they are needed).
const KEPT_MAX: usize = 8_192;

/// A definition in use.
#[derive(Debug)]
pub struct Entry {
    /// As the target is to see it.
    pub table: Arc<Table>,
    /// Whether the filters let it through.
    pub applies: bool,
    /// The payload as it came, for dead letters.
    pub payload: Box<[u8]>,
}

/// The definitions that are valid at some point of a stream. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TableSet {
    by_key: Arc<HashMap<u64, Arc<Entry>, BuildHasherDefault<KeyHasher>>>,
}

impl TableSet {
    /// The definition under this key.
    #[inline]
    pub fn get(&self, key: u64) -> Option<&Arc<Entry>> {
        self.by_key.get(&key)
    }

    /// From here on `key` means `entry`. Sets cloned before are as they were.
    pub fn put(&mut self, key: u64, entry: Arc<Entry>) {
        Arc::make_mut(&mut self.by_key).insert(key, entry);
    }

    /// Every key and definition.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Entry>)> {
        self.by_key.iter().map(|(key, entry)| (*key, entry))
    }

    /// Forgets all (a new stream).
    pub fn clear(&mut self) {
        self.by_key = Arc::default();
    }
}

/// Keys are hashes already.
#[derive(Clone, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Decodes definitions, each distinct one once.
#[derive(Debug)]
pub struct Definitions {
    rules: Rules,
    known: Mutex<HashMap<(u64, u64, usize), Arc<Entry>>>,
    next_id: AtomicU64,
}

impl Definitions {
    /// With these filters and rewrites.
    pub fn new(rules: Rules) -> Definitions {
        Definitions { rules, known: Mutex::default(), next_id: AtomicU64::new(1) }
    }

    /// The filters and rewrites.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The entry of a definition frame.
    pub fn entry(&self, key: u64, payload: &[u8]) -> Result<Arc<Entry>> {
        let name = (key, xxh3_64(payload), payload.len());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(&name) {
            return Ok(entry.clone());
        }
        let mut definition = TableDefinition::decode(payload)?;
        let applies = self.rules.rows_pass(&definition.database, &definition.table);
        self.rules.rewrite(&mut definition.database);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let table = Arc::new(Table { id, definition });
        let entry = Arc::new(Entry { table, applies, payload: payload.into() });
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(name, entry.clone());
        Ok(entry)
    }
}
