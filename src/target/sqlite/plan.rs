//! How rows of one table definition reach one SQLite table: which column goes where, what identifies a row, and the
//! prepared statements for the column sets that occur.
//!
//! An update writes the columns that changed, never the whole row: rewriting an unchanged key makes SQLite delete and
//! insert index entries. Each set of changed columns is a statement of its own; beyond [`UPDATES_MAX`] different sets
//! all columns of the after image are written.

use std::sync::Arc;

use crate::db::sqlite::{Connection, StatementId, code, error_of, quote};
use crate::error::{Class, Error};
use crate::event::{RowsOp, TableDefinition};
use crate::target::{Cause, ConflictClass, Failure, Outcome, Table};

/// Different sets of changed columns that get statements of their own, per table.
const UPDATES_MAX: usize = 64;

/// A column of the SQLite table.
struct TargetColumn {
    name: String,
    primary_key: usize,
    not_null: bool,
    generated: bool,
}

/// What is known about the SQLite table.
pub(super) struct Plan {
    /// Its name.
    pub name: String,
    /// Per source column: the quoted name here; `None`: not written (generated here, or not there).
    columns: Vec<Option<String>>,
    /// Per source column: whether it is missing here.
    missing: Vec<bool>,
    /// Source columns that identify a row, when their before images are there; the best first.
    identities: Vec<Identity>,
    variants: Vec<Variant>,
    updates: usize,
}

struct Identity {
    columns: Vec<usize>,
    /// A unique index of the SQLite table guards them: at most one row matches.
    unique: bool,
}

/// A prepared statement for one operation over given column sets.
pub(super) struct Variant {
    op: Op,
    before: Vec<u8>,
    after: Vec<u8>,
    /// The statement.
    pub statement: StatementId,
    /// Source columns bound from the after image, in order of parameters 1, 2 ….
    pub set: Vec<usize>,
    /// Source columns bound from the before image, behind those.
    pub key: Vec<usize>,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    /// INSERT … ON CONFLICT DO UPDATE: keeps the row, so that no cascade of a delete happens.
    Upsert,
    /// INSERT OR REPLACE: when several rows are in the way.
    Replace,
    Update,
    /// UPDATE OR REPLACE.
    UpdateReplace,
    Delete,
    /// SELECT 1 by the key: is the row there at all?
    Exists,
    /// Update whose WHERE has every column of the before image.
    UpdateChecked,
    /// Delete likewise.
    DeleteChecked,
}

impl Op {
    pub fn of(op: RowsOp, checked: bool) -> Op {
        match (op, checked) {
            (RowsOp::Insert, _) => Op::Insert,
            (RowsOp::Update, false) => Op::Update,
            (RowsOp::Update, true) => Op::UpdateChecked,
            (RowsOp::Delete, false) => Op::Delete,
            (RowsOp::Delete, true) => Op::DeleteChecked,
        }
    }
}

/// Whether the main database has this table (views do not count: they cannot be replicated into).
pub(super) fn table_exists(connection: &Connection, name: &str) -> Outcome<bool> {
    connection
        .plain()
        .query_row(
            "SELECT count(*) FROM main.sqlite_schema WHERE type='table' AND lower(name)=lower(?1)",
            [name],
            |row| row.get::<_, i64>(0),
        )
        .map(|count| count > 0)
        .map_err(|error| failure(&error))
}

impl Plan {
    /// Looks at the table `name` and matches the definition's columns with its.
    pub fn compile(connection: &Connection, table: &Arc<Table>, name: String) -> Outcome<Plan> {
        let mut found = table_columns(connection, &name).map_err(|error| failure(&error))?;
        let definition = &table.definition;
        let rowid = hidden_rowid(connection, definition, &name, &found).map_err(|error| failure(&error))?;
        let rowid_at = found.len();
        found.extend(rowid);
        let by_name = |wanted: &str| found.iter().position(|column| column.name.eq_ignore_ascii_case(wanted));
        let mut place = Vec::with_capacity(definition.columns.len());
        if definition.names_known {
            place.extend(definition.columns.iter().map(|column| by_name(&column.name)));
        } else {
            // Without names only the order is left, and it is trusted only when the count agrees.
            let visible: Vec<usize> = (0..found.len()).collect();
            if visible.len() != definition.columns.len() {
                return Err(Failure::new(
                    Cause::Conflict(ConflictClass::Type),
                    Error::config(format!(
                        "the log does not name the columns of {}.{} and table {} has {} where it has {}",
                        definition.database,
                        definition.table,
                        name,
                        visible.len(),
                        definition.columns.len()
                    ))
                    .hint("give rlog-extract the schema: --schema FILE (from mariadb-dump --no-data)"),
                ));
            }
            place.extend(visible.into_iter().map(Some));
        }
        let columns = place
            .iter()
            .map(|at| {
                at.and_then(|at| found.get(at)).filter(|column| !column.generated).map(|column| quote(&column.name))
            })
            .collect();
        let missing = place.iter().map(Option::is_none).collect();
        let mut unique = unique_sets(connection, &name, &found).map_err(|error| failure(&error))?;
        if rowid_at < found.len() {
            unique.insert(0, vec![rowid_at]);
        }
        let source_of = |at: usize| place.iter().position(|found| *found == Some(at));
        let mut identities = Vec::new();
        if let Some(parts) = definition.identity() {
            let columns: Vec<usize> = parts.iter().map(|part| part.column as usize).collect();
            let here: Option<Vec<usize>> = columns.iter().map(|index| place.get(*index).copied().flatten()).collect();
            if let Some(here) = here {
                let guarded = unique.iter().any(|set| set.iter().all(|at| here.contains(at)));
                identities.push(Identity { columns, unique: guarded });
            }
        }
        for set in &unique {
            let columns: Option<Vec<usize>> = set.iter().map(|at| source_of(*at)).collect();
            if let Some(columns) = columns.filter(|columns| identities.iter().all(|known| known.columns != *columns)) {
                identities.push(Identity { columns, unique: true });
            }
        }
        Ok(Plan { name, columns, missing, identities, variants: Vec::new(), updates: 0 })
    }

    /// The number of the variant for `op` over these sets; prepared when it is new. `changed` narrows what an update writes.
    #[inline]
    pub fn variant(
        &mut self,
        connection: &mut Connection,
        table: &Arc<Table>,
        op: Op,
        before: &[u8],
        after: &[u8],
    ) -> Outcome<usize> {
        // Few variants a table, and neighbouring rows mostly use the same.
        let found = self
            .variants
            .iter()
            .position(|variant| variant.op == op && variant.after == after && variant.before == before);
        match found {
            Some(index) => Ok(index),
            None => self.prepare(connection, table, op, before, after),
        }
    }

    /// The variant with this number.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Variant> {
        self.variants.get(index)
    }

    /// Whether an update may have a statement for exactly its changed columns.
    pub fn narrows_updates(&self) -> bool {
        self.updates < UPDATES_MAX
    }

    #[cold]
    fn prepare(
        &mut self,
        connection: &mut Connection,
        table: &Arc<Table>,
        op: Op,
        before: &[u8],
        after: &[u8],
    ) -> Outcome<usize> {
        let in_set = |bits: &[u8], index: usize| bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        let definition = &table.definition;
        for index in 0..definition.columns.len() {
            if self.missing.get(index) == Some(&true) && (in_set(before, index) || in_set(after, index)) {
                let column = definition.columns.get(index).map_or("", |column| column.name.as_str());
                return Err(Failure::new(
                    Cause::Conflict(ConflictClass::Type),
                    Error::new(
                        Class::Conflict,
                        format!(
                            "table {} has no column {column}, which {}.{} has",
                            self.name, definition.database, definition.table
                        ),
                    ),
                ));
            }
        }
        let name_of = |index: usize| self.columns.get(index).and_then(Option::as_deref);
        let set: Vec<usize> = match op {
            Op::Delete | Op::DeleteChecked | Op::Exists => Vec::new(),
            _ => (0..definition.columns.len())
                .filter(|index| in_set(after, *index) && name_of(*index).is_some())
                .collect(),
        };
        let table_name = quote(&self.name);
        let mut sql;
        let mut key = Vec::new();
        match op {
            Op::Insert | Op::Upsert | Op::Replace => {
                let names: Vec<&str> = set.iter().filter_map(|index| name_of(*index)).collect();
                let marks = vec!["?"; names.len()].join(",");
                let verb = if op == Op::Replace { "INSERT OR REPLACE" } else { "INSERT" };
                sql = if names.is_empty() {
                    format!("{verb} INTO {table_name} DEFAULT VALUES")
                } else {
                    format!("{verb} INTO {table_name} ({}) VALUES ({marks})", names.join(","))
                };
                if op == Op::Upsert && !names.is_empty() {
                    let assignments: Vec<String> = names.iter().map(|name| format!("{name}=excluded.{name}")).collect();
                    sql.push_str(&format!(" ON CONFLICT DO UPDATE SET {}", assignments.join(",")));
                }
            }
            _ => {
                let whole: Vec<usize> = (0..definition.columns.len())
                    .filter(|index| in_set(before, *index) && name_of(*index).is_some())
                    .collect();
                let checked = matches!(op, Op::UpdateChecked | Op::DeleteChecked);
                let identity = self.identities.iter().find(|identity| {
                    identity.columns.iter().all(|index| in_set(before, *index) && name_of(*index).is_some())
                });
                let unique = identity.is_some_and(|identity| identity.unique);
                key = match identity {
                    Some(identity) if !checked => identity.columns.clone(),
                    _ => whole,
                };
                // Bound while walking the image once, in column order.
                key.sort_unstable();
                if key.is_empty() {
                    return Err(Failure::from(
                        Error::damage(format!(
                            "the images of {}.{} hold no column that identifies a row",
                            definition.database, definition.table
                        ))
                        .hint("the source must log full row images (binlog_row_image=FULL), or the table needs a key"),
                    ));
                }
                let mut condition = String::new();
                for (number, index) in key.iter().enumerate() {
                    if number > 0 {
                        condition.push_str(" AND ");
                    }
                    condition.push_str(name_of(*index).unwrap_or_default());
                    // IS matches NULL; where no NULL can be, = lets the planner use the index in every version.
                    condition.push_str(if unique && !checked { "=?" } else { " IS ?" });
                    condition.push_str(&(set.len() + number + 1).to_string());
                }
                if !unique {
                    // Duplicates may exist: exactly one of them is touched.
                    condition = format!("rowid=(SELECT rowid FROM {table_name} WHERE {condition} LIMIT 1)");
                }
                match op {
                    Op::Update | Op::UpdateChecked | Op::UpdateReplace => {
                        let verb = if op == Op::UpdateReplace { "UPDATE OR REPLACE" } else { "UPDATE" };
                        if set.is_empty() {
                            return Err(Failure::from(Error::damage("an update without a column to write")));
                        }
                        let assignments: Vec<String> = set
                            .iter()
                            .enumerate()
                            .map(|(number, index)| format!("{}=?{}", name_of(*index).unwrap_or_default(), number + 1))
                            .collect();
                        sql = format!("{verb} {table_name} SET {} WHERE {condition}", assignments.join(","));
                    }
                    Op::Exists => sql = format!("SELECT 1 FROM {table_name} WHERE {condition}"),
                    _ => sql = format!("DELETE FROM {table_name} WHERE {condition}"),
                }
            }
        }
        let statement = connection.prepare(&sql).map_err(|error| failure(&error))?;
        self.updates += usize::from(matches!(op, Op::Update | Op::UpdateChecked));
        self.variants.push(Variant { op, before: before.to_vec(), after: after.to_vec(), statement, set, key });
        Ok(self.variants.len() - 1)
    }
}

fn table_columns(connection: &Connection, name: &str) -> rusqlite::Result<Vec<TargetColumn>> {
    let mut statement =
        connection.plain().prepare("SELECT name, pk, \"notnull\", hidden FROM pragma_table_xinfo(?1)")?;
    let rows = statement.query_map([name], |row| {
        Ok(TargetColumn {
            name: row.get(0)?,
            primary_key: usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            not_null: row.get::<_, i64>(2)? != 0,
            generated: row.get::<_, i64>(3)? > 1,
        })
    })?;
    rows.collect()
}

/// The rowid as a column, when rows come from a SQLite table that is known by it: such definitions have one more column,
/// invisible, under a name that neither table uses otherwise.
fn hidden_rowid(
    connection: &Connection,
    definition: &TableDefinition,
    name: &str,
    found: &[TargetColumn],
) -> rusqlite::Result<Option<TargetColumn>> {
    let is_rowid = |name: &str| ["rowid", "_rowid_", "oid"].iter().any(|rowid| name.eq_ignore_ascii_case(rowid));
    let hidden = definition.columns.iter().find(|column| column.invisible && is_rowid(&column.name));
    let Some(hidden) = hidden.filter(|_| definition.family == "sqlite") else { return Ok(None) };
    if found.iter().any(|column| column.name.eq_ignore_ascii_case(&hidden.name)) {
        return Ok(None);
    }
    let mut statement =
        connection.plain().prepare("SELECT count(*) FROM pragma_table_list(?1) WHERE schema='main' AND wr=0")?;
    let has_rowid: bool = statement.query_row([name], |row| row.get(0))?;
    Ok(has_rowid.then(|| TargetColumn { name: hidden.name.clone(), primary_key: 0, not_null: true, generated: false }))
}

/// Column sets under which SQLite admits one row: primary key and unique indexes whose columns cannot be NULL.
fn unique_sets(connection: &Connection, name: &str, columns: &[TargetColumn]) -> rusqlite::Result<Vec<Vec<usize>>> {
    let mut sets = Vec::new();
    let mut key: Vec<(usize, usize)> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.primary_key > 0)
        .map(|(at, column)| (column.primary_key, at))
        .collect();
    key.sort_unstable();
    if !key.is_empty() {
        sets.push(key.into_iter().map(|(_, at)| at).collect());
    }
    let plain = connection.plain();
    let mut indexes =
        plain.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\"=1 AND partial=0 AND origin<>'pk'")?;
    let names: Vec<String> = indexes.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for index in names {
        let mut parts = plain.prepare("SELECT cid FROM pragma_index_info(?1) ORDER BY seqno")?;
        let cids: Vec<i64> = parts.query_map([&index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let set: Option<Vec<usize>> = cids
            .iter()
            .map(|cid| usize::try_from(*cid).ok().filter(|at| columns.get(*at).is_some_and(|column| column.not_null)))
            .collect();
        sets.extend(set.filter(|set| !set.is_empty()));
    }
    Ok(sets)
}

/// What an engine error means to the applier.
pub(super) fn failure(error: &rusqlite::Error) -> Failure {
    use rusqlite::ffi;
    let extended = code(error).unwrap_or(0);
    let cause = match extended {
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_ROWID => {
            Cause::Conflict(ConflictClass::DuplicateKey)
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Cause::Conflict(ConflictClass::ForeignKey),
        ffi::SQLITE_CONSTRAINT_DATATYPE | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG => {
            Cause::Conflict(ConflictClass::Type)
        }
        _ => match extended & 0xff {
            ffi::SQLITE_CONSTRAINT => Cause::Conflict(ConflictClass::Constraint),
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Cause::Retry,
            _ => Cause::Other,
        },
    };
    let mut out = Failure::new(cause, error_of(error));
    if extended != 0 {
        out = out.with_code(extended as u32);
    }
    out
}
