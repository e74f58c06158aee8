//! A table's rows as canonical text (`event::text`), in an order that other engines have too, for comparisons.
//!
//! The server prints most values as that text already (the session speaks utf8mb4 and UTC). The others: FLOAT is read as DOUBLE, since the server
//! prints six digits of it; YEAR 0000 is 0; BIT is a number; bytes stay bytes.

use mysql::Value;
use mysql::prelude::Queryable as _;

use crate::db::mysql::Session;
use crate::db::mysql::catalog::{ServerColumn, ServerTable, WireType};
use crate::db::mysql::literal::{put_name, table_name};
use crate::error::{Class, Error, Result};
use crate::event::table::StringForm;
use crate::event::text::{write_double, write_float, write_uint};
use crate::event::{Column, ColumnKind, Key, KeyPart, Sign, TableDefinition};
use crate::target::{Cell, KeyOrder, Scan};

/// A server's table as a definition.
pub(super) fn definition(table: &ServerTable, family: &str) -> TableDefinition {
    let parts = |parts: &[(usize, u64)]| {
        let part = |(column, prefix): &(usize, u64)| KeyPart { column: *column as u32, prefix: *prefix as u32 };
        parts.iter().map(part).collect::<Vec<KeyPart>>()
    };
    let is_primary = |name: &str| name == "PRIMARY";
    TableDefinition {
        database: table.database.clone(),
        table: table.name.clone(),
        columns: table.columns.iter().map(column).collect(),
        primary_key: table
            .unique_keys
            .iter()
            .find(|key| is_primary(&key.name))
            .map_or(Vec::new(), |key| parts(&key.parts)),
        keys_known: true,
        unique_keys: table
            .unique_keys
            .iter()
            .filter(|key| !is_primary(&key.name))
            .map(|key| Key { name: key.name.clone(), parts: parts(&key.parts) })
            .collect(),
        names_known: true,
        family: family.to_owned(),
        foreign_keys: Some(table.foreign_keys),
        ..TableDefinition::default()
    }
}

fn column(column: &ServerColumn) -> Column {
    let string = |form| ColumnKind::String { form, bytes_max: 0 };
    let kind = match column.wire {
        WireType::Int { bytes, unsigned } => {
            ColumnKind::Int { bytes, sign: if unsigned { Sign::Unsigned } else { Sign::Signed } }
        }
        WireType::Float => ColumnKind::Float,
        WireType::Double => ColumnKind::Double,
        WireType::Decimal { precision, scale } => ColumnKind::Decimal { precision, scale },
        WireType::Bit { bits } => ColumnKind::Bit { bits },
        WireType::Year => ColumnKind::Year,
        WireType::Date => ColumnKind::Date,
        WireType::Time { fsp } => ColumnKind::Time { fsp },
        WireType::DateTime { fsp } => ColumnKind::DateTime { fsp },
        WireType::Timestamp { fsp } => ColumnKind::Timestamp { fsp },
        WireType::Char { .. } => string(StringForm::Char),
        WireType::VarChar { .. } => string(StringForm::VarChar),
        WireType::Blob { .. } => string(StringForm::Blob),
        WireType::Enum { .. } => ColumnKind::Enum,
        WireType::Set { .. } => ColumnKind::Set,
        WireType::Json => ColumnKind::JsonBinary,
        WireType::Geometry => ColumnKind::Geometry,
        WireType::Vector { .. } => ColumnKind::Vector,
        // Printed as text, whatever their bytes are.
        WireType::Uuid | WireType::Inet4 | WireType::Inet6 | WireType::Foreign => string(StringForm::Other),
    };
    let printed = matches!(column.wire, WireType::Uuid | WireType::Inet4 | WireType::Inet6);
    Column {
        nullable: Some(column.nullable),
        charset: if printed { String::new() } else { column.charset.clone() },
        members: column.members.iter().map(|member| member.clone().into_bytes()).collect(),
        sql_type: column.column_type.clone(),
        generated: column.generated,
        ..Column::new(column.name.clone(), kind)
    }
}

/// The query for all rows, and the columns that it reads.
pub(super) fn query(server: &ServerTable, scan: &Scan<'_>) -> Result<(String, Vec<ServerColumn>)> {
    let name = table_name(&server.database, &server.name)?;
    let mut columns = Vec::new();
    let mut sql = String::from("SELECT ");
    for (index, column) in scan.columns.iter().enumerate() {
        let found = server
            .column(&column.name)
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
    sql.push_str(" FROM ");
    sql.push_str(&name);
    for (number, (index, order)) in scan.order.iter().enumerate() {
        sql.push_str(if number > 0 { "," } else { " ORDER BY " });
        let Some(column) = columns.get(*index) else { continue };
        let mut quoted = String::new();
        put_name(&mut quoted, &column.name)?;
        // An index serves where the server's own order is that of the text's bytes.
        let own = matches!(order, KeyOrder::Number)
            || matches!(column.wire, WireType::Date | WireType::DateTime { .. } | WireType::Timestamp { .. })
            || column.charset == "binary" && !matches!(column.wire, WireType::Uuid | WireType::Inet4 | WireType::Inet6);
        match own {
            true => sql.push_str(&quoted),
            false => sql.push_str(&format!("CAST(CONVERT({quoted} USING utf8mb4) AS BINARY)")),
        }
    }
    Ok((sql, columns))
}

/// Runs the query and hands the rows on.
pub(super) fn rows(
    session: &mut Session,
    sql: &str,
    columns: &[ServerColumn],
    row: &mut dyn FnMut(&[Cell<'_>]) -> bool,
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
        if !row(&cells) {
            break;
        }
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
