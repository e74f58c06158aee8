//! Windows from the keys of rows: a transaction depends on the newest one before it that touched one of the same keys.
//!
//! A key is a hash of table, index and the values of the index's columns, of both images of each row. Values that a collation may call equal
//! must have equal hashes: letters fold, trailing blanks go; text with anything but printable ASCII is not judged at all, since accents, ligatures and
//! ignorable characters are the collation's business. NULL in a unique key equals nothing, so that key of that row does not count.
//!
//! What cannot be known makes the transaction a barrier: a table whose keys are not known or that has none, one that has or may have foreign keys, an image that
//! lacks columns of a key, statements.
//!
//! Promise: two transactions that touch one key never have windows that let them run at the same time. Memory: [`KEYS_MAX`] keys; when there are more,
//! all are forgotten, and what follows depends on the transaction at which that happened.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::tables::{Ids, Tables};
use crate::event::record::Records;
use crate::event::rows::{Image, Rows, RowsOp};
use crate::event::{ColumnKind, KeyPart, TableDefinition, Value};
use crate::frame::Coordinate;

/// Keys that are remembered, about 2 MiB.
const KEYS_MAX: usize = 1 << 17;

/// Which transaction touched a key last.
#[derive(Debug)]
pub struct Writeset {
    last: HashMap<u64, Coordinate, Ids>,
    // What everything depends on: keys before it were forgotten, or were never seen.
    horizon: Coordinate,
    keys: Vec<u64>,
    values: Vec<Vec<u8>>,
}

impl Default for Writeset {
    fn default() -> Writeset {
        Writeset {
            last: HashMap::with_hasher(Ids),
            horizon: Coordinate::default(),
            keys: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl Writeset {
    /// A transaction passed whose keys were not looked at.
    pub fn passed(&mut self, txid: Coordinate) {
        self.horizon = self.horizon.max(txid);
    }

    /// Takes the records of a transaction. `None`: its keys cannot be known, and it must be a barrier.
    pub fn judge(&mut self, records: &[u8], tables: &Tables, txid: Coordinate) -> Option<Coordinate> {
        self.keys.clear();
        let known = self.collect(records, tables);
        if known.is_none() {
            self.last.clear();
            self.horizon = txid;
            return None;
        }
        let mut start = self.horizon;
        if self.last.len() + self.keys.len() > KEYS_MAX {
            // Before forgetting, what it depends on itself.
            let newest = self.keys.iter().filter_map(|key| self.last.get(key)).max();
            start = newest.map_or(start, |newest| start.max(*newest));
            self.last.clear();
            self.horizon = txid;
            return Some(start);
        }
        for key in &self.keys {
            if let Some(before) = self.last.insert(*key, txid)
                && before != txid
            {
                start = start.max(before);
            }
        }
        Some(start)
    }

    fn collect(&mut self, records: &[u8], tables: &Tables) -> Option<()> {
        let mut records = Records::new(records);
        while let Some((kind, body)) = records.next().ok()? {
            let Some(op) = RowsOp::of_record(kind) else {
                if (kind as u8) < crate::event::record::FIRST_SKIPPABLE_KIND {
                    return None;
                }
                continue;
            };
            let rows = Rows::decode(op, body).ok()?;
            let table = tables.emitted(rows.key)?;
            if !table.keys_known
                || table.foreign_keys != Some(false)
                || table.primary_key.is_empty() && table.unique_keys.is_empty()
            {
                return None;
            }
            let mut images = rows.iter(table).ok()?;
            while let Some(row) = images.next().ok()? {
                self.row(rows.key, table, row.before, row.after)?;
            }
        }
        Some(())
    }

    /// Adds the keys of a row.
    fn row(
        &mut self,
        key: u64,
        table: &TableDefinition,
        before: Option<Image<'_>>,
        after: Option<Image<'_>>,
    ) -> Option<()> {
        let primary = (!table.primary_key.is_empty()).then_some(table.primary_key.as_slice());
        let indexes = primary.into_iter().chain(table.unique_keys.iter().map(|index| index.parts.as_slice()));
        for (number, parts) in indexes.enumerate() {
            for (image, fallback) in [(before, None), (after, before)] {
                let Some(image) = image else { continue };
                if let Some(hash) = self.hash(key, number as u64, parts, table, image, fallback)? {
                    self.keys.push(hash);
                }
            }
        }
        Some(())
    }

    /// The hash of one index' values; `Some(None)`: a NULL among them. A column that the image lacks is looked for in `fallback`.
    fn hash(
        &mut self,
        key: u64,
        number: u64,
        parts: &[KeyPart],
        table: &TableDefinition,
        image: Image<'_>,
        fallback: Option<Image<'_>>,
    ) -> Option<Option<u64>> {
        self.values.resize(parts.len(), Vec::new());
        let mut found = 0;
        for source in [Some(image), fallback].into_iter().flatten() {
            let missing = found;
            for (index, value) in source.columns().enumerate() {
                let value = value.ok()?;
                if matches!(value, Value::Absent | Value::Unchanged) {
                    continue;
                }
                for (position, part) in parts.iter().enumerate() {
                    if part.column as usize != index || missing >> position & 1 == 1 {
                        continue;
                    }
                    if value == Value::Null {
                        return Some(None);
                    }
                    let definition = table.columns.get(index)?;
                    let out = self.values.get_mut(position)?;
                    out.clear();
                    write_folded(out, value, definition.kind, definition.is_binary() == Some(true), part.prefix)?;
                    found |= 1u64.checked_shl(position as u32)?;
                }
            }
        }
        if parts.len() > 63 || found != (1 << parts.len()) - 1 {
            return None;
        }
        let mut hasher = Xxh3::with_seed(key ^ number);
        for value in &self.values {
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        }
        Some(Some(hasher.digest()))
    }
}

/// Writes a value so that values which an index may call equal are equal. `None`: that cannot be known.
fn write_folded(out: &mut Vec<u8>, value: Value<'_>, kind: ColumnKind, binary: bool, prefix: u32) -> Option<()> {
    let cut = |bytes: &'_ [u8]| if prefix == 0 { bytes.len() } else { bytes.len().min(prefix as usize) };
    match value {
        Value::Int(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::UInt(number) => out.extend_from_slice(&number.to_le_bytes()),
        // 0 and -0 are equal; adding 0 makes them the same bits.
        Value::Float(number) => out.extend_from_slice(&(number + 0.0).to_bits().to_le_bytes()),
        Value::Double(number) => out.extend_from_slice(&(number + 0.0).to_bits().to_le_bytes()),
        Value::Decimal { packed, .. } => out.extend_from_slice(packed),
        Value::Bit { bytes, .. } => out.extend_from_slice(bytes),
        Value::Year(year) => out.extend_from_slice(&year.to_le_bytes()),
        Value::Date(date) => out.extend_from_slice(&date.to_le_bytes()),
        Value::Time { us, .. } | Value::Timestamp { us, .. } => out.extend_from_slice(&us.to_le_bytes()),
        Value::DateTime { packed, .. } => out.extend_from_slice(&packed.to_le_bytes()),
        Value::Enum(index) => out.extend_from_slice(&index.to_le_bytes()),
        Value::Set(members) => out.extend_from_slice(&members.to_le_bytes()),
        Value::String(bytes) if binary && matches!(kind, ColumnKind::String { .. }) => {
            out.extend_from_slice(bytes.get(..cut(bytes))?);
        }
        Value::String(bytes) => {
            let text = bytes.get(..cut(bytes))?;
            if !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
                return None;
            }
            // 0x40-0x5e onto 0x60-0x7e: letters, and what are letters in charsets of seven bits.
            out.extend(
                text.trim_ascii_end().iter().map(|byte| if (0x40..=0x5e).contains(byte) { byte | 0x20 } else { *byte }),
            );
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::table::StringForm;

    #[test]
    fn values_that_a_collation_calls_equal_fold_to_the_same_bytes() {
        let kind = ColumnKind::String { form: StringForm::VarChar, bytes_max: 80 };
        let fold = |text: &[u8], binary, prefix| {
            let mut out = Vec::new();
            write_folded(&mut out, Value::String(text), kind, binary, prefix).map(|()| out)
        };
        assert_eq!(fold(b"Ab ", false, 0), fold(b"aB", false, 0));
        assert_ne!(fold(b"Ab", true, 0), fold(b"aB", true, 0));
        assert_eq!(fold(b"abcdef", false, 3), fold(b"ABCxyz", false, 3));
        assert_eq!(fold("\u{e9}".as_bytes(), false, 0), None);
        assert_eq!(fold(b"a\0", false, 0), None);
        let double = |number: f64| {
            let mut out = Vec::new();
            write_folded(&mut out, Value::Double(number), ColumnKind::Double, false, 0).unwrap();
            out
        };
        assert_eq!(double(0.0), double(-0.0));
    }
}
