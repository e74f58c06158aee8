//! One row's change as a statement, forwards and backwards.

use super::literal::Dialect;
use crate::dump::table::Table;
use crate::error::{Class, Error, Result};
use crate::event::json::write_patched;
use crate::event::{Column, Image, Row, TableDefinition, Value};

/// Writes statements that change rows.
#[derive(Default)]
pub struct RowSql {
    scratch: Vec<u8>,
    patched: Vec<u8>,
}

/// How many rows a condition may be true of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matches {
    One,
    Several,
}

impl RowSql {
    /// Appends the statement that makes this change again; nothing for an update without effect.
    pub fn redo(&mut self, out: &mut Vec<u8>, dialect: Dialect, table: &Table, row: &Row<'_>) -> Result<()> {
        match (&row.before, &row.after) {
            (None, Some(after)) => self.insert(out, dialect, table, after),
            (Some(before), None) => self.delete(out, dialect, table, before, false),
            (Some(before), Some(after)) => self.update(out, dialect, table, before, after, before, false),
            (None, None) => Ok(()),
        }
    }

    /// Appends the statement that takes this change back. The images must be full.
    pub fn undo(&mut self, out: &mut Vec<u8>, dialect: Dialect, table: &Table, row: &Row<'_>) -> Result<()> {
        let full = |image: &Image<'_>, of: Option<&Image<'_>>| is_known(image, of, &table.definition);
        let minimal = || {
            Error::damage(format!("rows of {} are not logged in full, and so cannot be taken back", table.name()))
                .hint("only what was logged with binlog_row_image=FULL (or FULL_NODUP) can be undone")
        };
        match (&row.before, &row.after) {
            (None, Some(after)) if full(after, None) => self.delete(out, dialect, table, after, true),
            (Some(before), None) if full(before, None) => self.insert(out, dialect, table, before),
            (Some(before), Some(after)) if full(before, None) && full(after, Some(before)) => {
                // From the after image back to the before image.
                self.update(out, dialect, table, after, before, before, true)
            }
            (None, None) => Ok(()),
            _ => Err(minimal()),
        }
    }

    fn insert(&mut self, out: &mut Vec<u8>, dialect: Dialect, table: &Table, image: &Image<'_>) -> Result<()> {
        let definition = &table.definition;
        out.extend_from_slice(b"INSERT INTO ");
        dialect.put_table(out, &definition.database, &definition.table)?;
        let written = |value: &Value<'_>, column: &Column| {
            !matches!(value, Value::Absent | Value::Unchanged) && !column.generated
        };
        if definition.names_known {
            out.extend_from_slice(b" (");
            let mut first = true;
            for (value, column) in image.columns().zip(&definition.columns) {
                if written(&value?, column) {
                    comma(out, &mut first);
                    dialect.put_name(out, &column.name)?;
                }
            }
            if first && dialect == Dialect::Sqlite {
                // SQLite wants a column or these words.
                out.truncate(out.len() - 2);
                out.extend_from_slice(b" DEFAULT VALUES;\n");
                return Ok(());
            }
            out.push(b')');
        } else if !image.is_full() {
            return Err(nameless(table));
        }
        out.extend_from_slice(b" VALUES (");
        let mut first = true;
        for (value, column) in image.columns().zip(&definition.columns) {
            let value = value?;
            if written(&value, column) {
                comma(out, &mut first);
                dialect.put_value(out, value, column, &mut self.scratch)?;
            }
        }
        out.extend_from_slice(b");\n");
        Ok(())
    }

    fn delete(
        &mut self,
        out: &mut Vec<u8>,
        dialect: Dialect,
        table: &Table,
        image: &Image<'_>,
        in_full: bool,
    ) -> Result<()> {
        out.extend_from_slice(b"DELETE FROM ");
        dialect.put_table(out, &table.definition.database, &table.definition.table)?;
        self.condition(out, dialect, table, image, image, in_full)?;
        out.extend_from_slice(b";\n");
        Ok(())
    }

    /// Sets what differs between `from` and `to`, in the row that is like `from`. Columns that `from` lacks are as in `known`.
    #[allow(
        clippy::too_many_arguments,
        reason = "three images: what is, what is to be, and what fills the gaps of the first"
    )]
    fn update(
        &mut self,
        out: &mut Vec<u8>,
        dialect: Dialect,
        table: &Table,
        from: &Image<'_>,
        to: &Image<'_>,
        known: &Image<'_>,
        in_full: bool,
    ) -> Result<()> {
        let start = out.len();
        let definition = &table.definition;
        out.extend_from_slice(b"UPDATE ");
        dialect.put_table(out, &definition.database, &definition.table)?;
        out.extend_from_slice(b" SET ");
        let mut first = true;
        for ((old, new), column) in from.columns().zip(to.columns()).zip(&definition.columns) {
            let (old, new) = (old?, new?);
            let as_it_was = matches!(old, Value::Unchanged) && in_full;
            if matches!(new, Value::Absent | Value::Unchanged) || column.generated || old == new || as_it_was {
                continue;
            }
            if !definition.names_known {
                return Err(nameless(table));
            }
            comma(out, &mut first);
            dialect.put_name(out, &column.name)?;
            out.extend_from_slice(b" = ");
            match (old, new) {
                (Value::Json(before), Value::JsonDiff(diffs)) => {
                    self.patched.clear();
                    write_patched(before, diffs, &mut self.patched)
                        .map_err(|error| Error::damage(format!("column {}: {error}", column.name)))?;
                    dialect.put_text(out, &String::from_utf8_lossy(&self.patched));
                }
                _ => dialect.put_value(out, new, column, &mut self.scratch)?,
            }
        }
        if first {
            // The row is as it was (a generated column changed, or nothing did).
            out.truncate(start);
            return Ok(());
        }
        self.condition(out, dialect, table, from, known, in_full)?;
        out.extend_from_slice(b";\n");
        Ok(())
    }

    /// Appends ` WHERE …` for the row that is like `image`: by its key, with `in_full` by all that is known of it as well; without a key by
    /// all that is known, and then only one such row.
    fn condition(
        &mut self,
        out: &mut Vec<u8>,
        dialect: Dialect,
        table: &Table,
        image: &Image<'_>,
        known: &Image<'_>,
        in_full: bool,
    ) -> Result<()> {
        let definition = &table.definition;
        if !definition.names_known {
            return Err(nameless(table));
        }
        let mut key = Vec::new();
        let mut rest = Vec::new();
        let mut key_columns = 0;
        for (index, ((value, fallback), column)) in
            image.columns().zip(known.columns()).zip(&definition.columns).enumerate()
        {
            let value = match (value?, fallback?) {
                (Value::Absent | Value::Unchanged, fallback) => fallback,
                (Value::JsonDiff(_), _) => continue,
                (value, _) => value,
            };
            if matches!(value, Value::Absent | Value::Unchanged | Value::JsonDiff(_)) || !dialect.compares(column) {
                continue;
            }
            let in_key = table.identity.contains(&index);
            key_columns += usize::from(in_key);
            let part = if in_key { &mut key } else { &mut rest };
            if !part.is_empty() {
                part.extend_from_slice(b" AND ");
            }
            dialect.put_match(part, value, column, in_key, &mut self.scratch)?;
        }
        let has_key = !table.identity.is_empty() && key_columns == table.identity.len();
        if !has_key || in_full {
            if !key.is_empty() && !rest.is_empty() {
                key.extend_from_slice(b" AND ");
            }
            key.extend_from_slice(&rest);
        }
        if key.is_empty() {
            return Err(Error::damage(format!("nothing in the log tells which row of {} is meant", table.name())));
        }
        put_where(out, dialect, definition, &key, if has_key { Matches::One } else { Matches::Several })
    }
}

/// Appends the condition so that it is true of one row at most.
fn put_where(
    out: &mut Vec<u8>,
    dialect: Dialect,
    table: &TableDefinition,
    condition: &[u8],
    matches: Matches,
) -> Result<()> {
    out.extend_from_slice(b" WHERE ");
    let row_id: &[u8] = match dialect {
        Dialect::Sqlite => b"rowid",
        Dialect::Postgres => b"ctid",
        _ => {
            out.extend_from_slice(condition);
            if matches == Matches::Several {
                out.extend_from_slice(b" LIMIT 1");
            }
            return Ok(());
        }
    };
    if matches == Matches::One {
        out.extend_from_slice(condition);
        return Ok(());
    }
    out.extend_from_slice(row_id);
    out.extend_from_slice(b" = (SELECT ");
    out.extend_from_slice(row_id);
    out.extend_from_slice(b" FROM ");
    dialect.put_table(out, &table.database, &table.table)?;
    out.extend_from_slice(b" WHERE ");
    out.extend_from_slice(condition);
    out.extend_from_slice(b" LIMIT 1)");
    Ok(())
}

/// Whether every column's value is in the image, or follows from `before` since it is known to be unchanged.
fn is_known(image: &Image<'_>, before: Option<&Image<'_>>, table: &TableDefinition) -> bool {
    image.columns().zip(&table.columns).all(|(value, column)| match value {
        Ok(Value::Absent) => column.generated,
        Ok(Value::Unchanged) => before.is_some(),
        Ok(_) => true,
        Err(_) => false,
    })
}

fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.extend_from_slice(b", ");
    }
}

fn nameless(table: &Table) -> Error {
    Error::new(Class::Config, format!("the log does not tell the column names of {}", table.name()))
        .hint("give the table's definition with --schema FILE (`mariadb-dump --no-data` writes one)")
}
