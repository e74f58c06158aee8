//! Row changes held back until they are sent, together and in the fewest rows events.
//!
//! Two ways, by table:
//!
//! - **net**: changes of one row are collapsed into what they come to. A table's deletes go first, then updates, then inserts,
//!   each in key order. That is the same as row by row because (1) the rows are told apart by a key whose equality is equality of bytes,
//!   (2) an update that touches a column of another unique key goes as a delete and an insert, so that no value is claimed before it is
//!   free, (3) tables with foreign keys that act are never collapsed, and (4) what would have failed row by row fails here
//!   too: a row inserted and deleted again is looked for on the server ([`TableBatch::voids`]), the other
//!   impossible sequences are refused when they are put.
//! - **in order**: everything else, as it comes; neighbours with the same table, operation and columns share an event.
//!
//! Tables do not depend on each other but through foreign keys, and those tables go in order.
//!
//! A batch that is net throughout can run **ahead** of older ones that have not committed: rows that none of them touches are sent
//! ([`Batch::set_apart`]), the rest follows once they have committed. A table with other unique keys is one thing here, since its rows are
//! not independent; rows that came and went are looked for last.
//!
//! States of a row in the net way, by what was put:
//!
//! ```text
//!            insert      update       delete
//! (none)     Inserted    Updated      Deleted
//! Inserted   error       Inserted     Void
//! Updated    error       Updated      Deleted
//! Deleted    Updated     error        error
//! Void       Inserted    error        error
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::exact::put_literal;
use super::plan::{Plan, Trim};
use crate::db::mysql::Family;
use crate::db::mysql::binlog_statement::{Change, Events};
use crate::db::mysql::rowimage::Misfit;
use crate::event::{ColumnSet, Row, Rows, RowsOp, Value};
use crate::target::{Claims, ConflictClass};

/// Bytes that a row in the net way costs beside its images.
const ENTRY_BYTES: usize = 120;

/// Why a row was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It does not fit the row format: SQL must say it.
    Misfit,
    /// Row by row it would have met this conflict.
    Conflict(ConflictClass),
    /// The images do not hold what identifies the row.
    NoKey,
}

impl From<Misfit> for Refused {
    fn from(_: Misfit) -> Refused {
        Refused::Misfit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Inserted,
    Updated,
    Deleted,
    Void,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Orders the rows of an event as the key orders them on the server, where that is easily told.
    sort: u64,
    /// What was compared (trimmed).
    compared: Range<u32>,
    /// The key as an image.
    key: Range<u32>,
    /// The row as it shall be; empty for deletes.
    after: Range<u32>,
    state: State,
    /// A delete and an insert instead of an update.
    split: bool,
    /// An older transaction that has not committed touches it too.
    waits: bool,
}

/// Net changes of one table.
#[derive(Debug)]
pub(super) struct TableBatch {
    pub(super) plan: Arc<Plan>,
    arena: Vec<u8>,
    by_key: HashMap<u128, u32, KeySeed>,
    entries: Vec<Entry>,
    /// Keys, as SQL lists of literals, of rows that came and went: the server must not have them.
    pub(super) voids: Vec<String>,
}

/// What [`TableBatch::phase`] lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Delete,
    Update,
    Insert,
}

/// What goes for one row; values by slot.
struct Parts<'v, 'a> {
    before: &'v [Value<'a>],
    after: &'v [Value<'a>],
}

/// Everything held back.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) tables: Vec<TableBatch>,
    /// Rows that wait for no other transaction are sent already.
    pub(super) apart: bool,
    /// The way in order.
    pub(super) ordered: Events,
    /// Rows stay in order also where their changes could be collapsed: there are no two of one row.
    pub(super) in_order: bool,
    run: Option<Run>,
    key: Vec<u8>,
}

/// The rows event at the end of `ordered`.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    table: u64,
    change: Change,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Batch {
    /// Nothing is held.
    pub(super) fn new(family: Family) -> Batch {
        Batch {
            tables: Vec::new(),
            apart: false,
            ordered: Events::new(family),
            in_order: false,
            run: None,
            key: Vec::new(),
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let net: usize = self
            .tables
            .iter()
            .map(|table| table.arena.len() + (table.entries.len() + table.voids.len()) * ENTRY_BYTES)
            .sum();
        net + self.ordered.bytes().len()
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.entries.is_empty()) && self.ordered.bytes().is_empty()
    }

    /// Forgets everything, keeping some memory.
    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.apart = false;
        self.ordered.clear();
        self.run = None;
    }

    /// What is touched; nothing may be held in order.
    pub(super) fn claims(&self) -> Claims {
        let mut claims = Claims::with_capacity(self.tables.iter().map(|table| table.entries.len() + 1).sum());
        for table in &self.tables {
            let whole = table.whole_claim();
            claims.add(whole);
            table.entries.iter().for_each(|entry| claims.add(table.claim(whole, entry)));
        }
        claims
    }

    /// Marks what has to wait for the others, and returns whether there is any. What is not marked is to be sent now, and no other row put.
    pub(super) fn set_apart(&mut self, others: &[Arc<Claims>]) -> bool {
        let touched = |hash: u64| others.iter().any(|other| other.hold(hash));
        let mut left = false;
        for table in &mut self.tables {
            let whole = table.whole_claim();
            let met = touched(whole);
            let all = met && table.plan.collapse.as_ref().is_none_or(|collapse| !collapse.unique_slots.is_empty());
            for index in 0..table.entries.len() {
                let waits =
                    all || met && table.entries.get(index).is_some_and(|entry| touched(table.claim(whole, entry)));
                left |= waits;
                if let Some(entry) = table.entries.get_mut(index) {
                    entry.waits = waits;
                }
            }
            left |= !table.voids.is_empty();
        }
        left
    }

    /// Takes the rows of a record. `taken` says how many were taken when one is refused; of that one nothing remains.
    pub(super) fn put(&mut self, plan: &Arc<Plan>, rows: &Rows<'_>, taken: &mut u64) -> Result<(), RowsError> {
        if plan.collapse.is_some() && !self.in_order {
            let index = match self.tables.iter().position(|table| table.plan.table.id == plan.table.id) {
                Some(index) => index,
                None => {
                    self.tables.push(TableBatch {
                        plan: Arc::clone(plan),
                        arena: Vec::new(),
                        by_key: HashMap::default(),
                        entries: Vec::new(),
                        voids: Vec::new(),
                    });
                    self.tables.len() - 1
                }
            };
            let Some(table) = self.tables.get_mut(index) else { return Ok(()) };
            return each_row(plan, rows, taken, |op, parts| table.put(op, parts, &mut self.key));
        }
        self.open_run(plan, rows).map_err(RowsError::Refused)?;
        let Some(run) = &self.run else { return Ok(()) };
        let (before, after) = (run.before.clone(), run.after.clone());
        let ordered = self.ordered.images();
        each_row(plan, rows, taken, |op, parts| {
            let at = ordered.len();
            let mut image = |values: &[Value<'_>], set: &[u8]| put_image(plan, values, set, ordered);
            let put = match op {
                RowsOp::Insert => image(parts.after, &before),
                RowsOp::Delete => image(parts.before, &before),
                RowsOp::Update => image(parts.before, &before).and_then(|()| image(parts.after, &after)),
            };
            put.inspect_err(|_| ordered.truncate(at))
        })
    }

    /// One row by itself, in order, from values by slot. Nothing else may be held.
    pub(super) fn put_one(
        &mut self,
        plan: &Arc<Plan>,
        op: RowsOp,
        before: &[Value<'_>],
        after: &[Value<'_>],
    ) -> Result<(), Refused> {
        let there = |values: &[Value<'_>]| {
            let mut bits = vec![0u8; plan.table.definition.columns.len().div_ceil(8)];
            for (slot, value) in plan.writer.slots.iter().zip(values) {
                if !matches!(value, Value::Absent | Value::Unchanged) {
                    set_bit(&mut bits, slot.source);
                }
            }
            bits
        };
        let (before_set, after_set) = (there(before), there(after));
        let (change, first, second) = sets_of(plan, op, ColumnSet::new(&before_set), ColumnSet::new(&after_set))?;
        self.ordered.clear();
        if !self.ordered.table_map(plan.map_id, &plan.server) {
            return Err(Refused::Misfit);
        }
        self.ordered.open_rows(change, plan.map_id, plan.writer.columns, &first, &second);
        let out = self.ordered.images();
        match op {
            RowsOp::Insert => put_image(plan, after, &first, out),
            RowsOp::Delete => put_image(plan, before, &first, out),
            RowsOp::Update => {
                put_image(plan, before, &first, out)?;
                put_image(plan, after, &second, out)
            }
        }
    }

    /// Makes sure that the rows event at the end of `ordered` is one for rows like these.
    fn open_run(&mut self, plan: &Arc<Plan>, rows: &Rows<'_>) -> Result<(), Refused> {
        let (change, before, after) = sets(plan, rows)?;
        let run = Run { table: plan.table.id, change, before, after };
        if self.run.as_ref() == Some(&run) {
            return Ok(());
        }
        let same_table = self.run.as_ref().is_some_and(|open| open.table == run.table);
        // Another table begins another statement; within one, the table stays open.
        self.ordered.close_rows(!same_table);
        if !same_table && !self.ordered.table_map(plan.map_id, &plan.server) {
            return Err(Refused::Misfit);
        }
        self.ordered.open_rows(change, plan.map_id, plan.writer.columns, &run.before, &run.after);
        self.run = Some(run);
        Ok(())
    }

    /// Ends the last statement in order.
    pub(super) fn close_ordered(&mut self) {
        self.ordered.close_rows(true);
        self.run = None;
    }
}

/// A row was refused, or the record is damaged.
#[derive(Debug)]
pub(super) enum RowsError {
    Refused(Refused),
    Event(crate::event::EventError),
}

impl From<crate::event::EventError> for RowsError {
    fn from(error: crate::event::EventError) -> RowsError {
        RowsError::Event(error)
    }
}

/// Gives each row's values by slot; an update's after image is completed from its before image, since what a statement left alone is as it was.
fn each_row(
    plan: &Plan,
    rows: &Rows<'_>,
    taken: &mut u64,
    mut put: impl FnMut(RowsOp, Parts<'_, '_>) -> Result<(), Refused>,
) -> Result<(), RowsError> {
    let slots = plan.writer.slots.len();
    let (mut before, mut after) = (vec![Value::Absent; slots], vec![Value::Absent; slots]);
    let mut iter = rows.iter(&plan.table.definition)?;
    while let Some(row) = iter.next()? {
        values_by_slot(plan, &row, &mut before, &mut after)?;
        put(rows.op, Parts { before: &before, after: &after }).map_err(RowsError::Refused)?;
        *taken += 1;
    }
    Ok(())
}

/// Fills both images' values by slot.
pub(super) fn values_by_slot<'a>(
    plan: &Plan,
    row: &Row<'a>,
    before: &mut [Value<'a>],
    after: &mut [Value<'a>],
) -> Result<(), crate::event::EventError> {
    let fill = |image: &crate::event::Image<'a>, values: &mut [Value<'a>]| {
        for (index, value) in image.columns().enumerate() {
            let value = value?;
            if let Some(place) = plan.writer.slot_of_source(index).and_then(|slot| values.get_mut(slot)) {
                *place = value;
            }
        }
        Ok::<(), crate::event::EventError>(())
    };
    match &row.before {
        Some(image) => fill(image, before)?,
        None => before.fill(Value::Absent),
    }
    match &row.after {
        Some(image) => fill(image, after)?,
        None => after.fill(Value::Absent),
    }
    if row.before.is_some() && row.after.is_some() {
        for (after, before) in after.iter_mut().zip(before) {
            if matches!(after, Value::Absent | Value::Unchanged) {
                *after = *before;
            }
        }
    }
    Ok(())
}

/// The column sets of a rows event in order. The key alone identifies where there is one; else everything that the image has.
fn sets(plan: &Plan, rows: &Rows<'_>) -> Result<(Change, Vec<u8>, Vec<u8>), Refused> {
    sets_of(plan, rows.op, rows.before, rows.after)
}

fn sets_of(
    plan: &Plan,
    op: RowsOp,
    before: ColumnSet<'_>,
    after: ColumnSet<'_>,
) -> Result<(Change, Vec<u8>, Vec<u8>), Refused> {
    let set_of = |source: ColumnSet<'_>| {
        let mut bits = vec![0u8; plan.writer.columns.div_ceil(8)];
        for slot in plan.writer.slots.iter().filter(|slot| source.contains(slot.source)) {
            set_bit(&mut bits, slot.target);
        }
        bits
    };
    match op {
        RowsOp::Insert => Ok((Change::Write, set_of(after), Vec::new())),
        RowsOp::Update => Ok((Change::Update, before_set(plan, before)?, set_of(after))),
        RowsOp::Delete => Ok((Change::Delete, before_set(plan, before)?, Vec::new())),
    }
}

fn before_set(plan: &Plan, source: ColumnSet<'_>) -> Result<Vec<u8>, Refused> {
    let mut bits = vec![0u8; plan.writer.columns.div_ceil(8)];
    let mut put = |slot: usize| match plan.writer.slots.get(slot) {
        Some(slot) if source.contains(slot.source) => {
            set_bit(&mut bits, slot.target);
            Ok(())
        }
        _ => Err(Refused::NoKey),
    };
    match &plan.identity {
        Some(identity) => identity.iter().try_for_each(|slot| put(*slot))?,
        // Without a key only the whole row tells which one is meant, and only if the source's row has all there is.
        None if plan.writer.covers => (0..plan.writer.slots.len()).try_for_each(put)?,
        None => return Err(Refused::NoKey),
    }
    Ok(bits)
}

fn set_bit(bits: &mut [u8], index: usize) {
    if let Some(byte) = bits.get_mut(index / 8) {
        *byte |= 1 << (index % 8);
    }
}

/// Appends an image of the slots whose target column is in `set`.
fn put_image(plan: &Plan, values: &[Value<'_>], set: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
    let set = ColumnSet::new(set);
    put_slots(plan, values, |target| set.contains(target), set.count(plan.writer.columns), out)
}

fn put_slots(
    plan: &Plan,
    values: &[Value<'_>],
    wanted: impl Fn(usize) -> bool,
    count: usize,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let nulls = out.len();
    out.resize(nulls + count.div_ceil(8), 0);
    let mut index = 0;
    for (slot, value) in plan.writer.slots.iter().zip(values) {
        if !wanted(slot.target) {
            continue;
        }
        match value {
            Value::Null if slot.takes_null() => {
                if let Some(byte) = out.get_mut(nulls + index / 8) {
                    *byte |= 1 << (index % 8);
                }
            }
            // The server would quietly store a default instead.
            Value::Null => return Err(Refused::Misfit),
            value => slot.put(*value, out)?,
        }
        index += 1;
    }
    // Bits behind the last column are set in what servers write.
    if index % 8 != 0
        && let Some(byte) = out.get_mut(nulls + index / 8)
    {
        *byte |= 0xffu8 << (index % 8);
    }
    Ok(())
}

impl TableBatch {
    fn put(&mut self, op: RowsOp, parts: Parts<'_, '_>, scratch: &mut Vec<u8>) -> Result<(), Refused> {
        match op {
            RowsOp::Insert => self.change(op, parts.after, Some(parts.after), false, scratch),
            RowsOp::Delete => self.change(op, parts.before, None, false, scratch),
            RowsOp::Update => {
                let plan = Arc::clone(&self.plan);
                let identity = plan.identity.as_deref().unwrap_or(&[]);
                let differs = |slot: &usize| parts.before.get(*slot) != parts.after.get(*slot);
                if identity.iter().any(differs) {
                    // The row moves to another key. What does not fit must be known before the first half is done.
                    scratch.clear();
                    put_slots(&plan, parts.after, |_| true, plan.writer.slots.len(), scratch)?;
                    self.change(RowsOp::Delete, parts.before, None, false, scratch)?;
                    return self.change(RowsOp::Insert, parts.after, Some(parts.after), false, scratch);
                }
                let split = plan.collapse.as_ref().is_some_and(|collapse| collapse.unique_slots.iter().any(differs));
                self.change(op, parts.before, Some(parts.after), split, scratch)
            }
        }
    }

    /// Takes one change of the row with the key in `key_values`.
    fn change(
        &mut self,
        op: RowsOp,
        key_values: &[Value<'_>],
        after: Option<&[Value<'_>]>,
        split: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let plan = Arc::clone(&self.plan);
        let (Some(identity), Some(collapse)) = (&plan.identity, &plan.collapse) else { return Err(Refused::NoKey) };
        // The key: as an image, then once more as it is compared.
        scratch.clear();
        scratch.resize(identity.len().div_ceil(8), 0);
        if identity.len() % 8 != 0
            && let Some(byte) = scratch.last_mut()
        {
            *byte = 0xffu8 << (identity.len() % 8);
        }
        let mut sort = 0;
        for (number, slot) in identity.iter().enumerate() {
            let (Some(value), Some(slot)) = (key_values.get(*slot), plan.writer.slots.get(*slot)) else {
                return Err(Refused::NoKey);
            };
            if matches!(value, Value::Absent | Value::Unchanged | Value::Null) {
                return Err(Refused::NoKey);
            }
            if number == 0 {
                sort = match value {
                    Value::Int(value) => (*value as u64) ^ 1 << 63,
                    Value::UInt(value) => *value,
                    _ => 0,
                };
            }
            slot.put(*value, scratch)?;
        }
        let image_len = scratch.len();
        for (slot, trim) in identity.iter().zip(&collapse.trims) {
            let (Some(value), Some(slot)) = (key_values.get(*slot), plan.writer.slots.get(*slot)) else {
                return Err(Refused::NoKey);
            };
            match (trim, value) {
                (Trim::Blanks, Value::String(bytes)) => slot.put(Value::String(trimmed(bytes, b' ')), scratch)?,
                (Trim::Zeros, Value::String(bytes)) => slot.put(Value::String(trimmed(bytes, 0)), scratch)?,
                (_, value) => slot.put(*value, scratch)?,
            }
        }
        let (image, compared) = scratch.split_at_checked(image_len).ok_or(Refused::NoKey)?;
        let hash = key_hash(compared);
        let at = self.arena.len();
        let after_range = match after {
            Some(values) => {
                let put = put_slots(&plan, values, |_| true, plan.writer.slots.len(), &mut self.arena);
                put.inspect_err(|_| self.arena.truncate(at))?;
                range(at, self.arena.len())?
            }
            None => 0..0,
        };
        let found = self.by_key.get(&hash).copied();
        let Some(entry) = found.and_then(|index| self.entries.get_mut(index as usize)) else {
            let start = self.arena.len();
            self.arena.extend_from_slice(image);
            let key = range(start, self.arena.len())?;
            let start = self.arena.len();
            self.arena.extend_from_slice(compared);
            let compared = range(start, self.arena.len())?;
            let state = match op {
                RowsOp::Insert => State::Inserted,
                RowsOp::Update => State::Updated,
                RowsOp::Delete => State::Deleted,
            };
            self.by_key.insert(hash, u32::try_from(self.entries.len()).map_err(|_| Refused::Misfit)?);
            self.entries.push(Entry { sort, compared, key, after: after_range, state, split, waits: false });
            return Ok(());
        };
        let same = self.arena.get(entry.compared.start as usize..entry.compared.end as usize) == Some(compared);
        let next = match (entry.state, op) {
            // Two keys with one hash: row by row it is.
            _ if !same => Err(Refused::Misfit),
            (State::Inserted, RowsOp::Update) => Ok(State::Inserted),
            (State::Inserted, RowsOp::Delete) => Ok(State::Void),
            (State::Updated, RowsOp::Update) => Ok(State::Updated),
            (State::Updated, RowsOp::Delete) => Ok(State::Deleted),
            (State::Deleted, RowsOp::Insert) => {
                // What the new row has in other unique keys is not known to be what the old one had.
                entry.split |= !collapse.unique_slots.is_empty();
                Ok(State::Updated)
            }
            (State::Void, RowsOp::Insert) => Ok(State::Inserted),
            (State::Inserted | State::Updated, RowsOp::Insert) => Err(Refused::Conflict(ConflictClass::DuplicateKey)),
            (State::Deleted | State::Void, _) => Err(Refused::Conflict(ConflictClass::RowNotFound)),
        };
        match next {
            Ok(state) => {
                if state == State::Void {
                    let mut list = String::from("(");
                    for (number, slot) in identity.iter().enumerate() {
                        list.push_str(if number > 0 { "," } else { "" });
                        let (Some(value), Some(column)) = (key_values.get(*slot), plan.source_column(*slot)) else {
                            return Err(Refused::NoKey);
                        };
                        put_literal(&mut list, *value, column).map_err(|_| Refused::Misfit)?;
                    }
                    list.push(')');
                    self.voids.push(list);
                }
                entry.state = state;
                entry.split |= split;
                entry.after = after_range;
                Ok(())
            }
            Err(refused) => {
                self.arena.truncate(at);
                Err(refused)
            }
        }
    }

    /// Indices of rows in the order in which events list them.
    pub(super) fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_by_key(|index| self.entries.get(*index as usize).map_or(0, |entry| entry.sort));
        order
    }

    /// The table as one thing to touch.
    fn whole_claim(&self) -> u64 {
        xxh3_64(self.plan.name.as_bytes())
    }

    /// A row as a thing to touch; `table` is the table's own.
    fn claim(&self, table: u64, entry: &Entry) -> u64 {
        let compared = self.arena.get(entry.compared.start as usize..entry.compared.end as usize);
        xxh3_64_with_seed(compared.unwrap_or(&[]), table)
    }

    /// Whether a row waits for another transaction.
    pub(super) fn waits(&self, index: u32) -> bool {
        self.entries.get(index as usize).is_some_and(|entry| entry.waits)
    }

    /// Key image and after image of a row, if it belongs to the phase.
    pub(super) fn phase(&self, index: u32, phase: Phase) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(index as usize)?;
        let belongs = match (entry.state, phase) {
            (State::Deleted, Phase::Delete) | (State::Inserted, Phase::Insert) => true,
            (State::Updated, Phase::Update) => !entry.split,
            (State::Updated, Phase::Delete | Phase::Insert) => entry.split,
            _ => false,
        };
        let bytes = |range: &Range<u32>| self.arena.get(range.start as usize..range.end as usize);
        if belongs { Some((bytes(&entry.key)?, bytes(&entry.after)?)) } else { None }
    }

    /// Sets of columns: the key, and everything.
    pub(super) fn sets(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = self.plan.writer.columns.div_ceil(8);
        let (mut key, mut all) = (vec![0u8; bytes], vec![0u8; bytes]);
        for (index, slot) in self.plan.writer.slots.iter().enumerate() {
            set_bit(&mut all, slot.target);
            if self.plan.identity.as_ref().is_some_and(|identity| identity.contains(&index)) {
                set_bit(&mut key, slot.target);
            }
        }
        (key, all)
    }
}

fn range(from: usize, to: usize) -> Result<Range<u32>, Refused> {
    match (u32::try_from(from), u32::try_from(to)) {
        (Ok(from), Ok(to)) => Ok(from..to),
        _ => Err(Refused::Misfit),
    }
}

fn trimmed(bytes: &[u8], what: u8) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != what).map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or(bytes)
}

/// Short keys are their own hash; longer ones are compared when hashes are equal.
fn key_hash(bytes: &[u8]) -> u128 {
    if bytes.len() < 16 {
        let mut wide = [0u8; 16];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        if let Some(last) = wide.last_mut() {
            *last = bytes.len() as u8;
        }
        return u128::from_le_bytes(wide);
    }
    xxh3_128(bytes)
}

/// Hashes what [`key_hash`] made, which is cheaper than hashing it as if it were anything. Short keys are the log's own bytes, so it has a seed that
/// nobody who writes a log can know.
#[derive(Clone, Debug)]
struct KeySeed(u64);

impl Default for KeySeed {
    fn default() -> KeySeed {
        KeySeed(RandomState::new().hash_one(0u8))
    }
}

impl BuildHasher for KeySeed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
