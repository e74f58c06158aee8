//! Keys of rows, for write sets: a row's identity, its unique keys, and the parent keys that its foreign keys name.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::decode::Row;
use super::page::Encoding;
use super::record::{self, Collation, Value};
use super::schema::Table;

/// One key by which rows depend on each other.
pub(super) struct RowKey {
    domain: u64,
    /// Columns in the order of the domain; empty: the hidden rowid.
    columns: Vec<(usize, Collation)>,
}

/// The keys by which rows of `table` depend on other transactions; `None` when one is not known.
pub(super) fn keys_of(table: &Table) -> Option<Vec<RowKey>> {
    let mut keys = Vec::new();
    if table.rowid_alias.is_none() && !table.without_rowid {
        keys.push(RowKey { domain: domain(&table.name, &["\u{1}rowid"]), columns: Vec::new() });
    }
    let name_of = |column: usize| table.columns.get(column).map_or("", |column| column.name.as_str());
    let mut add = |columns: Vec<(usize, Collation)>, primary: bool| {
        if primary {
            keys.push(RowKey { domain: domain(&table.name, &["\u{1}primary key"]), columns: columns.clone() });
        }
        // A foreign key may name the columns in another order.
        let mut columns = columns;
        columns.sort_unstable_by_key(|(column, _)| name_of(*column).to_ascii_lowercase());
        let names: Vec<&str> = columns.iter().map(|(column, _)| name_of(*column)).collect();
        keys.push(RowKey { domain: domain(&table.name, &names), columns });
    };
    if table.without_rowid {
        let collations = table.key_parts.iter().map(|part| part.collation);
        add(table.primary_key.iter().copied().zip(collations).collect(), true);
    } else if let Some(alias) = table.rowid_alias {
        add(vec![(alias, Collation::Binary)], true);
    }
    for unique in &table.uniques {
        let columns = unique.columns.as_ref()?.iter().copied();
        add(columns.zip(unique.parts.iter().map(|part| part.collation)).collect(), unique.primary);
    }
    for reference in &table.references {
        let own = |column: usize| (column, Collation::Binary);
        if reference.columns.iter().any(|(_, name)| name.is_empty()) {
            let columns = reference.columns.iter().map(|(column, _)| own(*column)).collect();
            keys.push(RowKey { domain: domain(&reference.table, &["\u{1}primary key"]), columns });
        } else {
            let mut pairs: Vec<_> = reference.columns.iter().collect();
            pairs.sort_unstable_by_key(|(_, name)| name.to_ascii_lowercase());
            let names: Vec<&str> = pairs.iter().map(|(_, name)| name.as_str()).collect();
            let columns = pairs.iter().map(|(column, _)| own(*column)).collect();
            keys.push(RowKey { domain: domain(&reference.table, &names), columns });
        }
    }
    let known = |key: &RowKey| key.columns.iter().all(|(_, collation)| *collation != Collation::Unknown);
    keys.iter().all(known).then_some(keys)
}

fn domain(table: &str, columns: &[&str]) -> u64 {
    let mut text = table.to_ascii_lowercase();
    for column in columns {
        text.push('\0');
        text.push_str(&column.to_ascii_lowercase());
    }
    xxh3_64_with_seed(text.as_bytes(), 0)
}

/// Adds the hashes of a row's keys. Values that compare equal hash equal: numbers by value, text folded as all built-in
/// collations might (which at worst finds a dependency that is none).
pub(super) fn add_keys(keys: &[RowKey], row: &Row<'_>, encoding: Encoding, scratch: &mut Vec<u8>, out: &mut Vec<u64>) {
    let mut bytes = Vec::new();
    'keys: for key in keys {
        bytes.clear();
        if key.columns.is_empty() {
            bytes.extend_from_slice(&row.rowid.to_le_bytes());
        }
        for (column, _) in &key.columns {
            match row.get(*column) {
                // NULLs are never equal to each other.
                Value::Null => continue 'keys,
                Value::Int(n) => put_number(n as f64, &mut bytes),
                Value::Real(r) => put_number(r, &mut bytes),
                Value::Text(text) => {
                    record::to_utf8(text, encoding, scratch);
                    let end = scratch.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                    bytes.push(2);
                    bytes.extend(scratch.iter().take(end).map(u8::to_ascii_lowercase));
                    bytes.push(0);
                }
                Value::Blob(blob) => {
                    bytes.push(3);
                    bytes.extend_from_slice(&(blob.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(blob);
                }
            }
        }
        out.push(xxh3_64_with_seed(&bytes, key.domain));
    }
}

fn put_number(number: f64, out: &mut Vec<u8>) {
    out.push(1);
    // -0.0 and 0.0 are one value.
    out.extend_from_slice(&(number + 0.0).to_bits().to_le_bytes());
}
