//! A table's rows in the order of its identity, as canonical text (`event::text`), for comparisons between engines.
//!
//! The server prints most values as that text already (the session speaks utf8mb4 and UTC). The others: FLOAT is read as DOUBLE, since the server
//! prints six digits of it; YEAR 0000 is 0; BIT is a number; bytes stay bytes.

use mysql::Value;
use mysql::prelude::Queryable as _;

use crate::db::mysql::Session;
use crate::db::mysql::catalog::{ServerColumn, ServerTable, WireType};
use crate::db::mysql::literal::{put_bytes, put_name, put_text, table_name};
use crate::error::{Class, Error, Result};
use crate::event::TableDefinition;
use crate::event::text::{write_double, write_float, write_uint};
use crate::target::Cell;

/// The query for one chunk: columns of the definition in its order, rows behind `after`.
pub(super) fn query(
    server: &ServerTable,
    definition: &TableDefinition,
    after: Option<&[Option<Vec<u8>>]>,
    limit: usize,
) -> Result<(String, Vec<ServerColumn>)> {
    let name = table_name(&server.database, &server.name)?;
    let no_key = || {
        Error::config(format!("{name} has no primary key and no unique key without NULLs: its rows have no order"))
            .hint("give it a primary key, or leave it out")
    };
    let key = server.identity().ok_or_else(no_key)?;
    let mut columns = Vec::new();
    let mut sql = String::from("SELECT ");
    for (index, column) in definition.columns.iter().enumerate() {
        let place = if definition.names_known { server.column(&column.name) } else { Some(index) };
        let found = place
            .and_then(|place| server.columns.get(place))
            .ok_or_else(|| Error::new(Class::Conflict, format!("{name} has no column {:?}", column.name)))?;
        sql.push_str(if index > 0 { "," } else { "" });
        put_name(&mut sql, &found.name)?;
        match found.wire {
            WireType::Float => sql.push_str("+0e0"),
            WireType::Bit { .. } => sql.push_str("+0"),
            _ => {}
        }
        columns.push(found.clone());
    }
    let mut names = String::new();
    for (column, _) in &key.parts {
        names.push_str(if names.is_empty() { "" } else { "," });
        put_name(&mut names, server.columns.get(*column).map_or("", |column| &column.name))?;
    }
    sql.push_str(" FROM ");
    sql.push_str(&name);
    if let Some(after) = after {
        sql.push_str(" WHERE (");
        sql.push_str(&names);
        sql.push_str(") > (");
        for (number, (value, (column, _))) in after.iter().zip(&key.parts).enumerate() {
            sql.push_str(if number > 0 { "," } else { "" });
            let binary = server.columns.get(*column).is_some_and(|column| column.charset == "binary");
            match value {
                None => sql.push_str("NULL"),
                Some(value) if binary => put_bytes(&mut sql, value),
                Some(value) => put_text(&mut sql, &String::from_utf8_lossy(value)),
            }
        }
        sql.push(')');
    }
    sql.push_str(&format!(" ORDER BY {names} LIMIT {limit}"));
    Ok((sql, columns))
}

/// Runs the query and hands the rows on.
pub(super) fn rows(
    session: &mut Session,
    sql: &str,
    columns: &[ServerColumn],
    row: &mut dyn FnMut(&[Cell<'_>]),
) -> mysql::Result<()> {
    let mut texts: Vec<Vec<u8>> = vec![Vec::new(); columns.len()];
    for values in session.conn().query_iter(sql)? {
        let values = values?.unwrap();
        let mut nulls = vec![true; columns.len()];
        for (((value, column), text), null) in values.iter().zip(columns).zip(&mut texts).zip(&mut nulls) {
            text.clear();
            *null = *value == Value::NULL;
            canonical(value, column.wire, text);
        }
        let cells: Vec<Cell<'_>> =
            texts.iter().zip(&nulls).map(|(text, null)| if *null { None } else { Some(text.as_slice()) }).collect();
        row(&cells);
    }
    Ok(())
}

/// Appends the canonical text of what the server printed.
fn canonical(value: &Value, wire: WireType, out: &mut Vec<u8>) {
    let Value::Bytes(printed) = value else { return };
    let text = std::str::from_utf8(printed).ok();
    match (wire, text) {
        (WireType::Float, Some(text)) => match text.parse::<f64>() {
            Ok(number) => write_float(out, number as f32),
            Err(_) => out.extend_from_slice(printed),
        },
        (WireType::Double, Some(text)) => match text.parse() {
            Ok(number) => write_double(out, number, false),
            Err(_) => out.extend_from_slice(printed),
        },
        (WireType::Year, Some(text)) => write_uint(out, text.parse().unwrap_or(0)),
        _ => out.extend_from_slice(printed),
    }
}
