//! From two schemas to statements: which table is which, and how one became the other.
//!
//! [`plan`] pairs the tables of two moments and writes the DDL that leads from one to the other. The statements are tried
//! on an in-memory copy of the old schema first, because an ALTER also rewrites what refers to the table. An ALTER is
//! used only if it gives the new definition to the letter; otherwise the table is dropped, created and filled anew, which
//! is always right. Order: drops, alters, creates; then, after the rows, indexes, views and triggers.
//!
//! DROP and CREATE of one name in one transaction reuse rowid and root page and look like an ALTER. If such a pair of
//! definitions is also what an ALTER would have given, taking it for one is right: only the rows tell, and they are
//! compared one by one.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _};

use super::schema::{Object, ObjectKind, Schema, Table, engine};
use crate::error::Result;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DdlKind {
    DropTable,
    AlterTable,
    CreateTable,
    DropOther,
    CreateOther,
    /// A virtual table's entry of `sqlite_schema` goes away; its shadow tables are dropped for themselves. The text
    /// only edits `sqlite_schema`, so that no module runs.
    ForgetVirtual,
    /// The reverse of [`DdlKind::ForgetVirtual`].
    DeclareVirtual,
}

/// One statement that replays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ddl {
    /// What it does.
    pub kind: DdlKind,
    /// The object it names.
    pub name: String,
    /// The text. For virtual tables, the text of their CREATE VIRTUAL TABLE.
    pub sql: String,
}

/// A table that exists before and after.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Place in the old schema's tables.
    pub old: usize,
    /// Place in the new schema's tables.
    pub new: usize,
    /// For each new column the old one; `None` when the columns are the same.
    pub remap: Option<Vec<Option<usize>>>,
}

/// How one schema becomes another.
#[derive(Default, Debug)]
pub struct Plan {
    /// Statements before the rows.
    pub before: Vec<Ddl>,
    /// Tables whose rows are compared.
    pub pairs: Vec<Pair>,
    /// Old tables that are gone: places in the old schema's tables.
    pub dropped: Vec<usize>,
    /// New tables, all of whose rows are inserted: places in the new schema's tables.
    pub created: Vec<usize>,
    /// Statements after the rows.
    pub after: Vec<Ddl>,
}

/// An identifier in quotes.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Pairs tables and writes the statements; `is_changed` says whether a page was written.
pub fn plan(old: &Schema, new: &Schema, is_changed: impl Fn(u32) -> bool) -> Result<Plan> {
    let mut plan = Plan::default();
    let matched = pair_tables(old, new, is_changed);
    let mut scratch = Scratch::new(old)?;
    let mut taken = vec![false; old.tables.len()];
    for place in matched.iter().flatten() {
        if let Some(taken) = taken.get_mut(*place) {
            *taken = true;
        }
    }

    // Tables that are gone take their indexes and triggers with them.
    for (place, table) in old.tables.iter().enumerate() {
        if taken.get(place) == Some(&false) {
            plan.dropped.push(place);
            if !table.is_system() {
                scratch.drop_table(&table.name, &mut plan)?;
            }
        }
    }
    let wanted: HashSet<(&str, &str)> = new.objects.iter().map(|o| (kind_name(o.kind), o.name.as_str())).collect();
    for object in scratch.others()? {
        if !wanted.contains(&(kind_name(object.kind), object.name.as_str())) {
            scratch.drop_other(&object, &mut plan)?;
        }
    }
    virtual_entries(old, new, DdlKind::ForgetVirtual, &mut plan.before);

    // Tables whose definition or name changed. Renames first: they rewrite other tables' definitions too.
    let mut differing: Vec<(usize, usize)> = Vec::new();
    for (place, table) in new.tables.iter().enumerate() {
        match matched.get(place).copied().flatten().and_then(|at| Some((at, old.tables.get(at)?))) {
            None => {
                plan.created.push(place);
            }
            Some((at, was)) if table.is_system() || (was.sql == table.sql && was.name == table.name) => {
                plan.pairs.push(Pair { old: at, new: place, remap: None });
            }
            Some((at, _)) => differing.push((at, place)),
        }
    }
    let renamed =
        |(at, place): &(usize, usize)| old.tables.get(*at).map(|t| &t.name) == new.tables.get(*place).map(|t| &t.name);
    differing.sort_by_key(renamed);
    for round in 0..2 {
        let mut left = Vec::new();
        for (at, place) in differing.drain(..) {
            let (Some(was), Some(is)) = (old.tables.get(at), new.tables.get(place)) else { continue };
            if was.without_rowid == is.without_rowid
                && let Some(remap) = scratch.alter(was, is, &mut plan)?
            {
                plan.pairs.push(Pair { old: at, new: place, remap });
            } else if round == 0 {
                left.push((at, place));
            } else {
                scratch.drop_table(&was.name, &mut plan)?;
                plan.dropped.push(at);
                plan.created.push(place);
            }
        }
        differing = left;
    }
    // An ALTER here may rewrite what the source's did not (its legacy mode): such a table is filled anew.
    if plan.before.iter().any(|ddl| ddl.kind == DdlKind::AlterTable) {
        for pair in std::mem::take(&mut plan.pairs) {
            let Some(table) = new.tables.get(pair.new).filter(|table| !table.is_system()) else {
                plan.pairs.push(pair);
                continue;
            };
            match scratch.definition(&table.name)? {
                Some(now) if now != table.sql => {
                    scratch.drop_table(&table.name, &mut plan)?;
                    plan.dropped.push(pair.old);
                    plan.created.push(pair.new);
                }
                _ => plan.pairs.push(pair),
            }
        }
    }

    let wanted: HashMap<(&str, &str), &Object> =
        new.objects.iter().map(|o| ((kind_name(o.kind), o.name.as_str()), o)).collect();
    let mut present: HashSet<(&str, String)> = HashSet::new();
    for object in scratch.others()? {
        match wanted.get(&(kind_name(object.kind), object.name.as_str())) {
            Some(is) if is.sql == object.sql => {
                present.insert((kind_name(object.kind), object.name.clone()));
            }
            _ => scratch.drop_other(&object, &mut plan)?,
        }
    }
    for (kind, name) in &scratch.outside {
        let gone = |o: &Object| kind_name(o.kind) == *kind && o.name == *name;
        let was = old.objects.iter().find(|o| gone(o));
        if *kind != "table"
            && was.is_some_and(|was| wanted.get(&(*kind, name.as_str())).is_none_or(|o| o.sql != was.sql))
        {
            let sql = format!("DROP {} IF EXISTS {}", kind.to_ascii_uppercase(), quote(name));
            plan.before.push(Ddl { kind: DdlKind::DropOther, name: name.clone(), sql });
        }
    }
    for place in &plan.created {
        if let Some(table) = new.tables.get(*place).filter(|table| !table.is_system()) {
            plan.before.push(Ddl { kind: DdlKind::CreateTable, name: table.name.clone(), sql: table.sql.clone() });
        }
    }
    virtual_entries(new, old, DdlKind::DeclareVirtual, &mut plan.after);
    for kind in [ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
        for object in new.objects.iter().filter(|o| o.kind == kind) {
            let Some(sql) = &object.sql else { continue };
            if !present.contains(&(kind_name(kind), object.name.clone())) && !scratch.kept_outside(object, old) {
                plan.after.push(Ddl { kind: DdlKind::CreateOther, name: object.name.clone(), sql: sql.clone() });
            }
        }
    }
    Ok(plan)
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table | ObjectKind::Virtual => "table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    }
}

/// Entries of virtual tables that `here` has and `there` has not.
fn virtual_entries(here: &Schema, there: &Schema, kind: DdlKind, out: &mut Vec<Ddl>) {
    for object in here.objects.iter().filter(|o| o.kind == ObjectKind::Virtual) {
        let same = |o: &&Object| o.kind == ObjectKind::Virtual && o.name == object.name && o.sql == object.sql;
        if !there.objects.iter().any(|o| same(&o)) {
            out.push(Ddl { kind, name: object.name.clone(), sql: object.sql.clone().unwrap_or_default() });
        }
    }
}

/// For each new table the old one it is, by the first rule that finds one.
fn pair_tables(old: &Schema, new: &Schema, is_changed: impl Fn(u32) -> bool) -> Vec<Option<usize>> {
    let mut matched = vec![None; new.tables.len()];
    let mut taken = vec![false; old.tables.len()];
    let by_rowid: HashMap<i64, usize> = old.tables.iter().enumerate().map(|(n, t)| (t.schema_rowid, n)).collect();
    let by_name: HashMap<&str, usize> = old.tables.iter().enumerate().map(|(n, t)| (t.name.as_str(), n)).collect();
    for rule in 0..5 {
        for (place, table) in new.tables.iter().enumerate() {
            if matched.get(place).is_some_and(Option::is_some) {
                continue;
            }
            let same_row = by_rowid.get(&table.schema_rowid).copied();
            let same_name = by_name.get(table.name.as_str()).copied();
            let candidate = match rule {
                0 => same_name.filter(|_| table.is_system()),
                2 => same_name,
                3 => same_name.filter(|name| Some(*name) == same_row),
                _ => same_row,
            };
            let Some((at, was)) = candidate.and_then(|at| Some((at, old.tables.get(at)?))) else { continue };
            let fits = match rule {
                0 => true,
                _ if table.is_system() || was.is_system() => false,
                1 => was.root == table.root && (was.name == table.name || !is_changed(table.root)),
                2 => was.sql == table.sql,
                _ => was.root == table.root,
            };
            if fits
                && taken.get(at) == Some(&false)
                && let (Some(taken), Some(slot)) = (taken.get_mut(at), matched.get_mut(place))
            {
                *taken = true;
                *slot = Some(at);
            }
        }
    }
    matched
}

/// The old schema, in memory, to try statements on.
struct Scratch {
    db: Connection,
    /// Objects whose CREATE failed here, by kind and name: they need a function, collation or module that only the
    /// application has, and take no part in ALTERs.
    outside: HashSet<(&'static str, String)>,
}

impl Scratch {
    fn new(old: &Schema) -> Result<Scratch> {
        let db = Connection::open_in_memory().map_err(engine)?;
        db.execute_batch("PRAGMA foreign_keys=OFF").map_err(engine)?;
        let mut outside = HashSet::new();
        for kind in [ObjectKind::Table, ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
            for object in old.objects.iter().filter(|o| o.kind == kind && !o.is_system()) {
                if let Some(sql) = &object.sql
                    && db.execute_batch(sql).is_err()
                {
                    outside.insert((kind_name(kind), object.name.clone()));
                }
            }
        }
        Ok(Scratch { db, outside })
    }

    /// Whether `object` could not be tried here and needs no statement, since it is as it was.
    fn kept_outside(&self, object: &Object, old: &Schema) -> bool {
        self.outside.contains(&(kind_name(object.kind), object.name.clone()))
            && old.objects.iter().any(|o| o.kind == object.kind && o.name == object.name && o.sql == object.sql)
    }

    fn drop_table(&mut self, name: &str, plan: &mut Plan) -> Result<()> {
        let sql = format!("DROP TABLE {}", quote(name));
        // It may be outside; the statement is right all the same.
        let _ = self.db.execute_batch(&sql);
        plan.before.push(Ddl { kind: DdlKind::DropTable, name: name.to_owned(), sql });
        Ok(())
    }

    fn drop_other(&mut self, object: &Object, plan: &mut Plan) -> Result<()> {
        let sql = format!("DROP {} {}", kind_name(object.kind).to_ascii_uppercase(), quote(&object.name));
        self.db.execute_batch(&sql).map_err(engine)?;
        plan.before.push(Ddl { kind: DdlKind::DropOther, name: object.name.clone(), sql });
        Ok(())
    }

    /// Indexes, views and triggers as they are now, triggers first so that dropping runs from dependents.
    fn others(&self) -> Result<Vec<Object>> {
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT type, name, tbl_name, sql FROM sqlite_schema \
                 WHERE type IN ('index', 'view', 'trigger') AND sql IS NOT NULL ORDER BY type = 'trigger' DESC, rowid",
            )
            .map_err(engine)?;
        let rows = statement
            .query_map([], |row| {
                let kind: String = row.get(0)?;
                let kind = match kind.as_str() {
                    "index" => ObjectKind::Index,
                    "view" => ObjectKind::View,
                    _ => ObjectKind::Trigger,
                };
                Ok(Object { rowid: 0, kind, name: row.get(1)?, table: row.get(2)?, root: 0, sql: row.get(3)? })
            })
            .map_err(engine)?;
        rows.collect::<rusqlite::Result<_>>().map_err(engine)
    }

    fn definition(&self, name: &str) -> Result<Option<String>> {
        self.db
            .prepare_cached("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1")
            .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
            .map_err(engine)
    }

    /// Tries to make `is` out of `was`. On success the statements are in the plan, and the answer says which old column
    /// each new one is (`Some(None)`: the same ones).
    #[allow(clippy::type_complexity)]
    fn alter(&mut self, was: &Table, is: &Table, plan: &mut Plan) -> Result<Option<Option<Vec<Option<usize>>>>> {
        self.db.execute_batch("SAVEPOINT alter_try").map_err(engine)?;
        let mut statements = Vec::new();
        let done = self.try_alter(was, is, &mut statements)?;
        if done.is_none() {
            self.db.execute_batch("ROLLBACK TO alter_try").map_err(engine)?;
        }
        self.db.execute_batch("RELEASE alter_try").map_err(engine)?;
        if done.is_some() {
            let ddl = |sql| Ddl { kind: DdlKind::AlterTable, name: was.name.clone(), sql };
            plan.before.extend(statements.into_iter().map(ddl));
        }
        Ok(done)
    }

    #[allow(clippy::type_complexity)]
    fn try_alter(&self, was: &Table, is: &Table, done: &mut Vec<String>) -> Result<Option<Option<Vec<Option<usize>>>>> {
        let mut run = |sql: String| {
            let ok = self.db.execute_batch(&sql).is_ok();
            done.push(sql);
            ok
        };
        let table = quote(&is.name);
        if was.name != is.name && !run(format!("ALTER TABLE {} RENAME TO {table}", quote(&was.name))) {
            return Ok(None);
        }
        let Some(now) = self.definition(&is.name)? else { return Ok(None) };
        let old: Vec<&str> = was.columns.iter().map(|c| c.name.as_str()).collect();
        let new: Vec<&str> = is.columns.iter().map(|c| c.name.as_str()).collect();
        let mut remap = None;
        if now != is.sql {
            if old.len() == new.len() {
                for (from, to) in old.iter().zip(&new).filter(|(from, to)| from != to) {
                    if !run(format!("ALTER TABLE {table} RENAME COLUMN {} TO {}", quote(from), quote(to))) {
                        return Ok(None);
                    }
                }
            } else if old.len() < new.len() {
                if new.get(..old.len()) != Some(&old[..]) {
                    return Ok(None);
                }
                let Some(columns) = added_columns(&now, &is.sql, new.len() - old.len()) else { return Ok(None) };
                for column in columns {
                    if !run(format!("ALTER TABLE {table} ADD COLUMN {column}")) {
                        return Ok(None);
                    }
                }
                remap = Some((0..new.len()).map(|n| (n < old.len()).then_some(n)).collect());
            } else {
                for gone in old.iter().filter(|name| !new.contains(name)) {
                    if !run(format!("ALTER TABLE {table} DROP COLUMN {}", quote(gone))) {
                        return Ok(None);
                    }
                }
                remap = Some(new.iter().map(|name| old.iter().position(|was| was == name)).collect());
            }
        }
        Ok((self.definition(&is.name)?.as_deref() == Some(is.sql.as_str())).then_some(remap))
    }
}

/// The definitions of `count` columns that ADD COLUMN has put into `old` to make `new`.
fn added_columns(old: &str, new: &str, count: usize) -> Option<Vec<String>> {
    let (a, b) = (old.as_bytes(), new.as_bytes());
    let inserted = b.len().checked_sub(a.len())?;
    let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    // The text was put in at or before the first difference: try every rotation that keeps both ends.
    for start in (0..=prefix).rev() {
        if a.get(start..) != b.get(start + inserted..) {
            return None;
        }
        if let Some(text) = new.get(start..start + inserted).and_then(|text| text.strip_prefix(", ")) {
            let parts = split_list(text);
            if parts.len() == count {
                return Some(parts);
            }
        }
    }
    None
}

/// Splits at commas that are outside quotes and parentheses.
fn split_list(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote) = (0usize, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '[') => quote = Some(']'),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            (None, _) => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_columns_are_found_before_constraints_too() {
        let added = added_columns("CREATE TABLE t(a, b)", "CREATE TABLE t(a, b, c INT DEFAULT (1,2))", 1);
        assert_eq!(added.unwrap(), ["c INT DEFAULT (1,2)"]);
        let added = added_columns("CREATE TABLE t(a, b, UNIQUE(a))", "CREATE TABLE t(a, b, c, UNIQUE(a))", 1);
        assert_eq!(added.unwrap(), ["c"]);
        let added = added_columns("CREATE TABLE t(a)", "CREATE TABLE t(a, b DEFAULT ',', c)", 2);
        assert_eq!(added.unwrap(), ["b DEFAULT ','", "c"]);
        assert_eq!(added_columns("CREATE TABLE t(a)", "CREATE TABLE u(a, b)", 1), None);
    }
}
