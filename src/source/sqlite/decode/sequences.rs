//! AUTOINCREMENT counters: told where replaying the rows does not make them what they are.

use std::sync::Arc;

use super::tell::row;
use super::{Decoder, Sink, tree_of};
use crate::error::Result;
use crate::source::sqlite::page::{DbHeader, Encoding};
use crate::source::sqlite::record::{self, Value};
use crate::source::sqlite::schema::{Schema, Table};
use crate::source::sqlite::treediff::{Cursor, Found, Store};
use crate::source::sqlite::view::Side;

/// SQLite's table of them.
pub(super) const SEQUENCE: &str = "sqlite_sequence";

/// Tables whose AUTOINCREMENT counter may have to be told, with the greatest rowid that was inserted.
#[derive(Default)]
pub(super) struct SequenceWork {
    pub(super) tables: Vec<(String, Option<i64>)>,
    /// Tables whose counters went with them; others of the same names may have come.
    pub(super) dropped: Vec<String>,
}

impl SequenceWork {
    pub(super) fn note(
        &mut self,
        store: &mut Store,
        found: Found,
        old: &mut Cursor,
        new: &mut Cursor,
        table: &Arc<Table>,
    ) -> Result<()> {
        if found != Found::Inserted {
            old.parse(store)?;
            self.tables.extend(text_of(row(old, table, None).get(0), table.encoding).map(|name| (name, None)));
        }
        if found != Found::Deleted {
            new.parse(store)?;
            self.tables.extend(text_of(row(new, table, None).get(0), table.encoding).map(|name| (name, None)));
        }
        Ok(())
    }
}

fn text_of(value: Value<'_>, encoding: Encoding) -> Option<String> {
    let Value::Text(text) = value else { return None };
    let mut out = Vec::new();
    record::to_utf8(text, encoding, &mut out);
    String::from_utf8(out).ok()
}

impl Decoder {
    /// The counters that are not what replaying the rows makes them: a row inserted under `rowid` leaves the greater of
    /// `rowid` and the counter before.
    pub(super) fn tell_sequences<S: Sink>(
        &mut self,
        before: (Option<DbHeader>, &Schema),
        after: &DbHeader,
        mut work: SequenceWork,
        sink: &mut S,
    ) -> Result<()> {
        if work.tables.is_empty() {
            return Ok(());
        }
        work.tables.sort_unstable();
        let schema = Arc::clone(&self.schema);
        let old = match before.0 {
            Some(header) => self.read_sequences(Side::Old, before.1, &header)?,
            None => Vec::new(),
        };
        let new = self.read_sequences(Side::New, &schema, after)?;
        let value_of = |values: &[(String, i64)], name: &str| {
            values.iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
        };
        let mut from = 0;
        while let Some((name, _)) = work.tables.get(from) {
            let same = work.tables.get(from..).unwrap_or_default();
            let same = same.get(..same.partition_point(|(other, _)| other == name)).unwrap_or_default();
            from += same.len();
            let Some(table) = schema.table(name).filter(|table| table.autoincrement) else { continue };
            let inserted = same.iter().filter_map(|(_, rowid)| *rowid).max();
            let before = value_of(&old, name).filter(|_| !work.dropped.iter().any(|of| of.eq_ignore_ascii_case(name)));
            let replayed = match (before, inserted) {
                (value, None) => value,
                (value, Some(rowid)) => Some(rowid.max(value.unwrap_or(0))),
            };
            let value = value_of(&new, name);
            if value != replayed && sink.wants(table) {
                sink.sequence(&table.name, value)?;
            }
        }
        Ok(())
    }

    /// Every AUTOINCREMENT counter on `side`.
    fn read_sequences(&mut self, side: Side, schema: &Schema, header: &DbHeader) -> Result<Vec<(String, i64)>> {
        let mut values = Vec::new();
        let Some(table) = schema.tables.iter().find(|table| table.name == SEQUENCE) else { return Ok(values) };
        let Decoder { store, old, new, .. } = self;
        let cursor = if side == Side::Old { old } else { new };
        cursor.start(store, Some(tree_of(table, table.root, header.usable, true)))?;
        while cursor.valid() {
            cursor.parse(store)?;
            let row = row(cursor, table, None);
            if let (Some(name), Value::Int(value)) = (text_of(row.get(0), table.encoding), row.get(1)) {
                values.push((name, value));
            }
            cursor.advance(store)?;
        }
        Ok(values)
    }

    /// The AUTOINCREMENT counters in the old view.
    pub fn sequences(&mut self) -> Result<Vec<(String, i64)>> {
        let schema = Arc::clone(&self.schema);
        match self.header {
            Some(header) => self.read_sequences(Side::Old, &schema, &header),
            None => Ok(Vec::new()),
        }
    }
}
