//! One row as SQL text: for what cannot go as a row event, and for saying precisely what is in the way.

use super::plan::Plan;
use crate::db::mysql::literal::{put_bytes, put_name, put_string, put_text};
use crate::db::mysql::rowimage::stored_text;
use crate::error::{Class, Error, Result};
use crate::event::text::{Form, render};
use crate::event::{Column, ColumnKind, Value};

/// Appends a value as a literal. *Absent* and *unchanged* are no values (a bug), and a JSON diff needs the value before.
pub(super) fn put_literal(out: &mut String, value: Value<'_>, column: &Column) -> Result<()> {
    if let Value::String(bytes) = value {
        match column.charset.as_str() {
            "" | "binary" => put_bytes(out, bytes),
            charset => put_string(out, bytes, charset),
        }
        return Ok(());
    }
    let mut scratch = Vec::new();
    let rendered = render(value, column, &mut scratch);
    match (rendered.form, rendered.text()) {
        (Form::Null, _) => out.push_str("NULL"),
        (Form::Integer | Form::Number, Some(text)) => out.push_str(text),
        (Form::Plain | Form::Text | Form::Json, Some(text)) => put_text(out, text),
        (Form::Bytes, _) => put_bytes(out, rendered.bytes),
        (form, _) => {
            return Err(Error::new(
                Class::Conflict,
                format!("column {:?} of the log holds no whole value ({form:?}) that could be written", column.name),
            )
            .hint("on the source: SET GLOBAL binlog_row_image=FULL, binlog_row_value_options=''"));
        }
    }
    Ok(())
}

/// Whether the image has the value.
fn is_there(value: &Value<'_>) -> bool {
    !matches!(value, Value::Absent | Value::Unchanged)
}

/// `INSERT INTO t (…) VALUES (…)` of the columns that are there.
pub(super) fn insert(plan: &Plan, values: &[Value<'_>]) -> Result<String> {
    let (mut names, mut literals) = (String::new(), String::new());
    for (index, value) in values.iter().enumerate().filter(|(_, value)| is_there(value)) {
        if !names.is_empty() {
            names.push(',');
            literals.push(',');
        }
        put_column(&mut names, plan, index)?;
        put_slot(&mut literals, plan, index, *value)?;
    }
    Ok(format!("INSERT INTO {} ({names}) VALUES ({literals})", plan.name))
}

/// `UPDATE t SET … WHERE … LIMIT 1`.
pub(super) fn update(plan: &Plan, before: &[Value<'_>], after: &[Value<'_>]) -> Result<String> {
    let mut sets = String::new();
    for (index, value) in after.iter().enumerate().filter(|(_, value)| is_there(value)) {
        if !sets.is_empty() {
            sets.push(',');
        }
        put_column(&mut sets, plan, index)?;
        sets.push('=');
        put_slot(&mut sets, plan, index, *value)?;
    }
    Ok(format!("UPDATE {} SET {sets} WHERE {} LIMIT 1", plan.name, identified(plan, before)?))
}

/// `DELETE FROM t WHERE … LIMIT 1`.
pub(super) fn delete(plan: &Plan, before: &[Value<'_>]) -> Result<String> {
    Ok(format!("DELETE FROM {} WHERE {} LIMIT 1", plan.name, identified(plan, before)?))
}

/// A query for the row: `1` when it is as its before image says, `0` when it differs, nothing when it is not there. Locks it.
/// Columns whose equality SQL does not say exactly (floating point, JSON, geometry) are not compared.
pub(super) fn differs(plan: &Plan, before: &[Value<'_>]) -> Result<String> {
    let mut equal = String::from("1");
    for (index, value) in before.iter().enumerate().filter(|(_, value)| is_there(value)) {
        if matches!(
            plan.source_column(index).map(|column| column.kind),
            Some(
                ColumnKind::Float
                    | ColumnKind::Double
                    | ColumnKind::JsonBinary
                    | ColumnKind::Geometry
                    | ColumnKind::Vector
            )
        ) {
            continue;
        }
        equal.push_str(" AND ");
        put_equal(&mut equal, plan, index, *value)?;
    }
    Ok(format!("SELECT {equal} FROM {} WHERE {} LIMIT 1 FOR UPDATE", plan.name, identified(plan, before)?))
}

/// Whether a row with this key is there.
pub(super) fn exists(plan: &Plan, values: &[Value<'_>]) -> Result<String> {
    Ok(format!("SELECT 1 FROM {} WHERE {} LIMIT 1 FOR UPDATE", plan.name, identified(plan, values)?))
}

/// Deletes of rows that hold the values of `after` in another unique key than the one that identifies it.
pub(super) fn clear_unique(plan: &Plan, after: &[Value<'_>]) -> Result<Vec<String>> {
    let identity = plan.server.identity().map(|key| key.name.as_str());
    let mut out = Vec::new();
    'keys: for key in plan.server.unique_keys.iter().filter(|key| Some(key.name.as_str()) != identity) {
        let mut place = String::new();
        for (column, prefix) in &key.parts {
            let Some(index) = plan.writer.slots.iter().position(|slot| slot.target == *column) else { continue 'keys };
            let Some(value) = after.get(index).filter(|value| is_there(value) && **value != Value::Null) else {
                continue 'keys;
            };
            place.push_str(if place.is_empty() { "" } else { " AND " });
            if *prefix > 0 {
                let mut name = String::new();
                put_column(&mut name, plan, index)?;
                let mut literal = String::new();
                put_slot(&mut literal, plan, index, *value)?;
                place.push_str(&format!("LEFT({name},{prefix})=LEFT({literal},{prefix})"));
            } else {
                put_column(&mut place, plan, index)?;
                place.push('=');
                put_slot(&mut place, plan, index, *value)?;
            }
        }
        if plan.identity.is_some() {
            place.push_str(&format!(" AND NOT ({})", identified(plan, after)?));
        }
        out.push(format!("DELETE FROM {} WHERE {place}", plan.name));
    }
    Ok(out)
}

/// The condition that only this row meets: its key; without one, every column.
fn identified(plan: &Plan, values: &[Value<'_>]) -> Result<String> {
    let mut out = String::new();
    let no_key = || {
        Error::new(
            Class::Conflict,
            format!(
                "a row of {} cannot be told from others: its image has neither a key of the target nor all columns",
                plan.name
            ),
        )
        .hint("on the source: SET GLOBAL binlog_row_image=FULL; on the target: give the table a primary key")
    };
    match &plan.identity {
        Some(identity) => {
            for slot in identity {
                let value = values.get(*slot).filter(|value| is_there(value)).ok_or_else(no_key)?;
                out.push_str(if out.is_empty() { "" } else { " AND " });
                put_column(&mut out, plan, *slot)?;
                out.push('=');
                put_slot(&mut out, plan, *slot, *value)?;
            }
        }
        None => {
            if !plan.writer.covers || !values.iter().all(is_there) {
                return Err(no_key());
            }
            for (index, value) in values.iter().enumerate() {
                out.push_str(if out.is_empty() { "" } else { " AND " });
                put_equal(&mut out, plan, index, *value)?;
            }
        }
    }
    Ok(out)
}

/// `column <=> literal`, by bytes where collations would call different texts equal.
fn put_equal(out: &mut String, plan: &Plan, slot: usize, value: Value<'_>) -> Result<()> {
    let text = matches!(value, Value::String(_))
        && plan.server_column(slot).is_some_and(|column| !column.collation.is_empty());
    match text {
        true => {
            // Converted to the column's charset by assignment rules, then compared as bytes.
            out.push_str("CAST(");
            put_column(out, plan, slot)?;
            out.push_str(" AS BINARY)<=>CAST(CONVERT(");
            put_slot(out, plan, slot, value)?;
            out.push_str(" USING ");
            out.push_str(plan.server_column(slot).map_or("utf8mb4", |column| column.charset.as_str()));
            out.push_str(") AS BINARY)");
        }
        false => {
            put_column(out, plan, slot)?;
            out.push_str("<=>");
            put_slot(out, plan, slot, value)?;
        }
    }
    Ok(())
}

fn put_column(out: &mut String, plan: &Plan, slot: usize) -> Result<()> {
    put_name(out, plan.server_column(slot).map_or("", |column| column.name.as_str()))
}

fn put_slot(out: &mut String, plan: &Plan, slot: usize, value: Value<'_>) -> Result<()> {
    if let (Value::String(bytes), Some(column)) = (value, plan.server_column(slot))
        && plan.writer.slots.get(slot).is_some_and(|slot| !slot.as_text)
        && let Some(text) = stored_text(column.wire, bytes)
    {
        put_text(out, &text);
        return Ok(());
    }
    match plan.source_column(slot) {
        Some(column) => put_literal(out, value, column),
        None => Err(Error::new(Class::Bug, "a slot without a column")),
    }
}
