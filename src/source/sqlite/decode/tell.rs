//! What of the differences between two trees is told to the sink, and in which pass; see [`super`] for the order.

use std::sync::Arc;

use super::{Change, Op, Row, Sink};
use crate::error::Result;
use crate::source::sqlite::schema::Table;
use crate::source::sqlite::treediff::{Cursor, Found, Store};

/// The two tables of a pair.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) old: Option<&'a Arc<Table>>,
    pub(super) new: &'a Arc<Table>,
    pub(super) remap: Option<&'a [Option<usize>]>,
}

/// Which changes a walk tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// All, or where the order matters, deletes.
    First,
    /// The first halves of updates that are told as delete and insert.
    KeyDeletes,
    /// Other updates.
    Updates,
    /// Inserts, and the second halves.
    Inserts,
}

/// What the first pass has met.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) has_rows: bool,
    pub(super) updates: u64,
    key_updates: u64,
    pub(super) inserts: u64,
    /// The greatest rowid of a row that an applier may insert.
    pub(super) rowid_max: Option<i64>,
}

impl Seen {
    /// Whether updates of what has to be unique are told as delete and insert.
    pub(super) fn splits(&self) -> bool {
        self.key_updates > 1
    }
}

/// The row at which `cursor` stands; parsed before.
pub(super) fn row<'a>(
    cursor: &'a Cursor,
    layout: &'a Table,
    remap: Option<(&'a [Option<usize>], &'a Table)>,
) -> Row<'a> {
    let rowid = if layout.without_rowid { 0 } else { cursor.rowid() };
    Row { rowid, layout, remap, payload: cursor.payload(), fields: cursor.fields() }
}

/// Tells one difference to the sink, if this pass is for it.
#[allow(clippy::too_many_arguments)]
#[inline]
pub(super) fn tell<S: Sink>(
    store: &mut Store,
    found: Found,
    old: &mut Cursor,
    new: &mut Cursor,
    tables: Tables<'_>,
    pass: Pass,
    in_order: bool,
    seen: &mut Seen,
    sink: &mut S,
) -> Result<()> {
    let first = pass == Pass::First;
    if first {
        seen.has_rows = true;
        if found != Found::Deleted {
            seen.rowid_max = seen.rowid_max.max(Some(new.rowid()));
        }
        seen.inserts += u64::from(found == Found::Inserted);
    }
    if in_order {
        let now = match found {
            Found::Deleted => first,
            Found::Inserted => pass == Pass::Inserts,
            Found::Differs => true,
        };
        if !now {
            return Ok(());
        }
    }
    let table = tables.new;
    if found != Found::Inserted {
        old.parse(store)?;
    }
    if found != Found::Deleted {
        new.parse(store)?;
    }
    let remap = tables.remap.map(|remap| (remap, &**table));
    let before = || row(old, tables.old.unwrap_or(table), remap);
    let after = || row(new, table, None);
    let change = match found {
        Found::Deleted => Change { table, op: Op::Delete, before: Some(before()), after: None },
        Found::Inserted => Change { table, op: Op::Insert, before: None, after: Some(after()) },
        Found::Differs => {
            let (before, after) = (before(), after());
            let differs = |column: &usize| before.get(*column) != after.get(*column);
            let mut columns = (0..table.columns.len()).filter(differs);
            // A short record and one with the same defaults written out are the same row.
            let Some(one) = columns.next() else { return Ok(()) };
            let update = Change { table, op: Op::Update, before: Some(before), after: Some(after) };
            if !in_order {
                return sink.row(&update);
            }
            let is_key = table.is_unique_column(one) || columns.any(|column| table.is_unique_column(column));
            let splits = is_key && seen.splits();
            match pass {
                Pass::First => {
                    seen.updates += 1;
                    seen.key_updates += u64::from(is_key);
                    return Ok(());
                }
                Pass::KeyDeletes if splits => Change { op: Op::Delete, after: None, ..update },
                Pass::Updates if !splits => update,
                Pass::Inserts if splits => Change { op: Op::Insert, before: None, ..update },
                _ => return Ok(()),
            }
        }
    };
    sink.row(&change)
}
