//! The tables that rows events refer to: table map events, compiled once and compared by their bytes.
//!
//! Servers repeat a table map before each statement's rows, nearly always the same bytes under the same id. So a slot per id keeps the event's data,
//! and the common case costs one comparison. DDL, a new file and a new schema make every slot stale: column names may have changed while the bytes have not.

use std::collections::HashMap;
use std::rc::Rc;

use super::bytes::Bytes;
use super::definition::definition;
use super::image::RowPlan;
use super::table_map::{Family, TableMap};
use crate::db::ddl::Schema;
use crate::error::{Error, Result};
use crate::event::{RowsOp, TableDefinition, own};
use crate::frame::FrameWriter;

/// Slots that are kept; servers give a table a new id each time that they open it.
const SLOTS_MAX: usize = 4096;

/// A table as of its last table map.
pub struct Slot {
    body: Vec<u8>,
    /// Its definition.
    pub definition: Rc<TableDefinition>,
    /// How its rows become records.
    pub plan: RowPlan,
    /// Definition key.
    pub key: u64,
    /// Whether its rows are wanted.
    pub kept: Keep,
    /// Whether they are looked at, by operation.
    pub looked_at: [bool; 3],
    /// Whether it holds an applier's state rows, which say where a transaction came from.
    pub applied: bool,
    payload_hash: u64,
    epoch: u64,
    /// Nothing has to be announced while this is that of [`Tables::announcement`].
    pub announced: u64,
}

/// Which tables are decoded, and what their databases are called.
pub trait Wanted {
    /// The name that a database has in the stream.
    fn rename<'a>(&'a self, database: &'a str) -> &'a str;
    /// Whether rows of this table are wanted; the name is the source's.
    fn keeps(&self, database: &str, table: &str) -> Keep;
    /// Whether rows of this operation are looked at.
    fn looks_at(&self, op: RowsOp, table: &TableDefinition) -> bool;
}

/// What happens to the rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They are decoded.
    Yes,
    /// A filter drops them.
    Filtered,
    /// They belong to the server or to rlog itself.
    System,
}

/// The tables of a log.
pub struct Tables {
    slots: HashMap<u64, Slot, Ids>,
    last: u64,
    epoch: u64,
    // What the last definition frame under a key was; raised whenever one key's definition changes, so that slots look again.
    emitted: HashMap<u64, (u64, Rc<TableDefinition>), Ids>,
    /// Raised whenever a definition takes the place of another.
    pub announcement: u64,
    scratch: Vec<u8>,
}

/// Table ids and keys are numbers of the log's making: multiplied, they spread well enough, and a log of colliding ids is only slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids;

/// See [`Ids`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl std::hash::BuildHasher for Ids {
    type Hasher = IdHasher;
    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Default for Tables {
    fn default() -> Tables {
        Tables {
            slots: HashMap::with_hasher(Ids),
            last: u64::MAX,
            epoch: 1,
            emitted: HashMap::with_hasher(Ids),
            announcement: 1,
            scratch: Vec::new(),
        }
    }
}

impl Tables {
    /// Every slot is stale from here: a schema change, or a new file.
    pub fn stale(&mut self) {
        self.epoch += 1;
    }

    /// Takes the data of a table map event. `wanted` renames databases and decides whether rows are decoded; a note for
    /// people comes back when something about the table is not known.
    pub fn map(
        &mut self,
        body: &[u8],
        table_id_bytes: usize,
        family: Family,
        schema: &Schema,
        wanted: &dyn Wanted,
    ) -> Result<Option<String>> {
        let mut input = Bytes::new(body);
        let id = if table_id_bytes == 4 { input.u32().map(u64::from) } else { input.u48() };
        let id = id.ok_or_else(|| Error::damage("TABLE_MAP event is invalid: it is cut short"))?;
        self.last = id;
        if let Some(slot) = self.slots.get(&id)
            && slot.epoch == self.epoch
            && slot.body == body
        {
            return Ok(None);
        }
        let map = TableMap::parse(body, table_id_bytes, family)?;
        let database = wanted.rename(&map.database);
        let kept = wanted.keeps(&map.database, &map.table);
        let mut defined = definition(&map, schema.lookup(&map.database, &map.table), family);
        if defined.definition.database != database {
            defined.definition.database = database.to_owned();
        }
        let plan = RowPlan::new(&map, &defined.definition)?;
        let key = defined.definition.key();
        self.scratch.clear();
        defined.definition.encode(&mut self.scratch);
        let payload_hash = xxhash_rust::xxh3::xxh3_64(&self.scratch);
        if self.slots.len() >= SLOTS_MAX {
            self.slots.clear();
        }
        let looked_at =
            [RowsOp::Insert, RowsOp::Update, RowsOp::Delete].map(|op| wanted.looks_at(op, &defined.definition));
        let slot = Slot {
            body: body.to_vec(),
            looked_at,
            definition: Rc::new(defined.definition),
            plan,
            key,
            kept,
            applied: map.table == own::APPLIED_TABLE,
            payload_hash,
            epoch: self.epoch,
            announced: 0,
        };
        self.slots.insert(id, slot);
        Ok(if kept == Keep::Yes { defined.note } else { None })
    }

    /// The table with this id.
    #[inline]
    pub fn get(&mut self, id: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&id)
    }

    /// Whether the last definition written under the table's key is another one: it must be written anew, and rows that were gathered under
    /// that key must be out before.
    #[inline]
    pub fn announcement_of(&mut self, id: u64) -> Announcement {
        let Some(slot) = self.slots.get_mut(&id) else { return Announcement::Done };
        if slot.announced == self.announcement {
            return Announcement::Done;
        }
        match self.emitted.get(&slot.key) {
            Some((hash, _)) if *hash == slot.payload_hash => {
                slot.announced = self.announcement;
                Announcement::Done
            }
            Some(_) => Announcement::Replaces,
            None => Announcement::New,
        }
    }

    /// Writes the table's definition frame.
    pub fn announce(&mut self, id: u64, out: &mut FrameWriter) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        self.scratch.clear();
        slot.definition.encode(&mut self.scratch);
        out.definition(slot.key, &self.scratch);
        if self.emitted.insert(slot.key, (slot.payload_hash, Rc::clone(&slot.definition))).is_some() {
            self.announcement += 1;
        }
        slot.announced = self.announcement;
    }

    /// The definition that was last written under a key.
    pub fn emitted(&self, key: u64) -> Option<&TableDefinition> {
        self.emitted.get(&key).map(|(_, definition)| &**definition)
    }
}

/// Whether a definition frame is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// No.
    Done,
    /// Yes, the first under its key.
    New,
    /// Yes, and rows before it refer to another under the same key.
    Replaces,
}
