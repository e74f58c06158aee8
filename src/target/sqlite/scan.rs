//! A table's rows as canonical text (`event::text`), in an order that other engines have too, for comparisons.
//!
//! What [`crate::db::sqlite::types`] made of another engine's values is made text again by the same map. Between two SQLite databases a cell is
//! its type (`i`, `r`, `t`, `b`) and its text, since there `1` and `'1'` are two values.

use rusqlite::types::ValueRef;

use crate::db::sqlite::quote;
use crate::event::text::{write_double, write_float, write_int};
use crate::event::{Column, ColumnKind, KeyPart, Sign, TableDefinition};
use crate::target::{Cell, KeyOrder, Scan};

/// The ordinary tables.
pub(super) fn tables(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<TableDefinition>> {
    let mut names = connection.prepare(
        "SELECT name FROM pragma_table_list WHERE schema='main' AND type='table' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'rlog\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = names.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    names.into_iter().map(|name| definition(connection, name)).collect()
}

fn definition(connection: &rusqlite::Connection, name: String) -> rusqlite::Result<TableDefinition> {
    let mut table = TableDefinition {
        table: name,
        keys_known: true,
        names_known: true,
        family: "sqlite".into(),
        ..TableDefinition::default()
    };
    let mut statement =
        connection.prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let mut rows = statement.query([&table.table])?;
    let mut key: Vec<(i64, u32)> = Vec::new();
    while let Some(row) = rows.next()? {
        let index = table.columns.len() as u32;
        let (part, hidden): (i64, i64) = (row.get(3)?, row.get(4)?);
        if part > 0 {
            key.push((part, index));
        }
        table.columns.push(Column {
            sql_type: row.get(1)?,
            nullable: Some(row.get::<_, i64>(2)? == 0),
            generated: hidden > 1,
            ..Column::new(row.get::<_, String>(0)?, ColumnKind::Any)
        });
    }
    key.sort_unstable();
    table.primary_key = key.into_iter().map(|(_, column)| KeyPart { column, prefix: 0 }).collect();
    Ok(table)
}

/// Reads the rows.
pub(super) fn rows(
    connection: &rusqlite::Connection,
    scan: &Scan<'_>,
    row: &mut dyn FnMut(&[Cell<'_>]) -> bool,
) -> rusqlite::Result<()> {
    let names: Vec<String> = scan.columns.iter().map(|column| quote(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM main.{}", names.join(","), quote(scan.table));
    for (number, (index, order)) in scan.order.iter().enumerate() {
        sql.push_str(if number > 0 { "," } else { " ORDER BY " });
        let (Some(name), Some(column)) = (names.get(*index), scan.columns.get(*index)) else { continue };
        match (order, column.kind) {
            // Numbers above 2^63-1 are blobs of their digits.
            (KeyOrder::Number, ColumnKind::Int { bytes: 8, sign: Sign::Unsigned } | ColumnKind::Bit { bits: 64 }) => {
                sql.push_str(&format!("CASE typeof({name}) WHEN 'blob' THEN length({name}) ELSE 0 END,{name}"))
            }
            (KeyOrder::Number, _) => sql.push_str(name),
            (KeyOrder::Bytes, ColumnKind::Any) => sql.push_str(&format!("{name} COLLATE BINARY")),
            (KeyOrder::Bytes, _) => sql.push_str(&format!("CAST({name} AS BLOB)")),
        }
    }
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query([])?;
    let mut texts: Vec<Vec<u8>> = vec![Vec::new(); scan.columns.len()];
    let mut nulls = vec![false; scan.columns.len()];
    while let Some(values) = found.next()? {
        for (index, ((column, text), null)) in scan.columns.iter().zip(&mut texts).zip(&mut nulls).enumerate() {
            text.clear();
            let value = values.get_ref(index)?;
            *null = value == ValueRef::Null;
            canonical(value, column, text);
        }
        let cells: Vec<Cell<'_>> =
            texts.iter().zip(&nulls).map(|(text, null)| if *null { None } else { Some(text.as_slice()) }).collect();
        if !row(&cells) {
            break;
        }
    }
    Ok(())
}

/// Appends the canonical text of a stored value.
fn canonical(value: ValueRef<'_>, column: &Column, out: &mut Vec<u8>) {
    if column.kind == ColumnKind::Any {
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(_) => out.push(b'i'),
            ValueRef::Real(_) => out.push(b'r'),
            ValueRef::Text(_) => out.push(b't'),
            ValueRef::Blob(_) => out.push(b'b'),
        }
    }
    match value {
        ValueRef::Null => {}
        ValueRef::Integer(number) => {
            write_int(out, number);
            if let ColumnKind::Decimal { scale: scale @ 1.., .. } = column.kind {
                out.push(b'.');
                out.resize(out.len() + usize::from(scale), b'0');
            }
        }
        ValueRef::Real(number) => match column.kind {
            ColumnKind::Float => write_float(out, number as f32),
            // 15 digits survive as binary64, so that the nearest decimal of this scale is the one that it was.
            ColumnKind::Decimal { scale, .. } => {
                out.extend_from_slice(format!("{number:.*}", usize::from(scale)).as_bytes());
            }
            _ if number.is_finite() => write_double(out, number, false),
            _ => out.extend_from_slice(number.to_string().as_bytes()),
        },
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => out.extend_from_slice(bytes),
    }
}
