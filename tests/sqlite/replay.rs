//! Applies decoded transactions to a second database through SQLite itself, and compares two databases in full.

use std::collections::BTreeMap;
use std::sync::Arc;

use rlog::error::Result;
use rlog::source::sqlite::ddl::{Ddl, DdlKind, quote};
use rlog::source::sqlite::decode::{Change, Op, Row, Sink, Txn};
use rlog::source::sqlite::record::{self, Value};
use rlog::source::sqlite::schema::{Generated, Table};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

/// A value of its own, compared by type and bits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    Real(u64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cell::Null => write!(f, "NULL"),
            Cell::Int(n) => write!(f, "{n}"),
            Cell::Real(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Cell::Text(text) => write!(f, "{:.60?}..{}", String::from_utf8_lossy(text), text.len()),
            Cell::Blob(bytes) => write!(f, "x{:02x?}..{}", &bytes[..bytes.len().min(8)], bytes.len()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Int(n) => ValueRef::Integer(*n),
            Cell::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
            Cell::Text(text) => ValueRef::Text(text),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn read(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(n) => Cell::Int(n),
        ValueRef::Real(r) => Cell::Real(r.to_bits()),
        ValueRef::Text(text) => Cell::Text(text.to_vec()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

/// The sink that replays.
pub struct Replica {
    pub db: Connection,
    pub transactions: u64,
    pub rows: u64,
    pub statements: Vec<String>,
}

impl Replica {
    pub fn new(db: Connection) -> Replica {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
        db.execute_batch("PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; PRAGMA synchronous=OFF;")
            .unwrap();
        db.set_prepared_statement_cache_capacity(200);
        Replica { db, transactions: 0, rows: 0, statements: Vec::new() }
    }

    fn execute(&self, sql: &str, cells: &[Cell]) {
        let run = self.db.prepare_cached(sql).and_then(|mut s| s.execute(params_from_iter(cells)));
        let n = run.unwrap_or_else(|e| panic!("{sql} {cells:?}: {e}"));
        assert_eq!(n, 1, "{sql} {cells:?}");
    }

    fn run(&mut self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}\nbefore: {:#?}", self.statements));
    }

    fn insert(&self, table: &Table, row: &Row<'_>) -> (String, Vec<Cell>) {
        let (mut names, mut cells) = stored(table, row);
        if let Some(rowid) = table.rowid_name.filter(|_| table.rowid_alias.is_none()) {
            names.push(rowid.to_owned());
            cells.push(Cell::Int(row.rowid));
        }
        let marks = vec!["?"; names.len()].join(", ");
        (format!("INSERT INTO main.{} ({}) VALUES ({marks})", quote(&table.name), names.join(", ")), cells)
    }

    /// The whole before image has to match, so a wrong one is found at once.
    fn matching(&self, table: &Table, row: &Row<'_>) -> (String, Vec<Cell>) {
        let (names, mut cells) = stored(table, row);
        let mut wheres: Vec<String> = names.iter().map(|name| format!("{name} IS ?")).collect();
        if let Some(rowid) = table.rowid_name.filter(|_| table.rowid_alias.is_none()) {
            wheres.push(format!("{rowid} = ?"));
            cells.push(Cell::Int(row.rowid));
        }
        (wheres.join(" AND "), cells)
    }

    fn delete(&self, table: &Table, row: &Row<'_>) {
        let (wheres, cells) = self.matching(table, row);
        self.execute(&format!("DELETE FROM main.{} WHERE {wheres}", quote(&table.name)), &cells);
    }

    fn update(&self, table: &Table, before: &Row<'_>, after: &Row<'_>) {
        let (wheres, key) = self.matching(table, before);
        let (names, mut cells) = stored(table, after);
        cells.extend(key);
        let sets: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
        self.execute(&format!("UPDATE main.{} SET {} WHERE {wheres}", quote(&table.name), sets.join(", ")), &cells);
    }
}

fn stored(table: &Table, row: &Row<'_>) -> (Vec<String>, Vec<Cell>) {
    let mut names = Vec::new();
    let mut cells = Vec::new();
    for (n, column) in table.columns.iter().enumerate().filter(|(_, c)| c.generated == Generated::No) {
        names.push(quote(&column.name));
        cells.push(match row.get(n) {
            Value::Null => Cell::Null,
            Value::Int(n) => Cell::Int(n),
            Value::Real(r) => Cell::Real(r.to_bits()),
            Value::Text(text) => {
                let mut out = Vec::new();
                record::to_utf8(text, table.encoding, &mut out);
                Cell::Text(out)
            }
            Value::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        });
    }
    (names, cells)
}

impl Sink for Replica {
    fn begin(&mut self, _: &Txn) -> Result<()> {
        self.statements.clear();
        self.run("BEGIN");
        Ok(())
    }

    fn ddl(&mut self, ddl: &Ddl) -> Result<()> {
        self.statements.push(ddl.sql.clone());
        match ddl.kind {
            DdlKind::ForgetVirtual | DdlKind::DeclareVirtual => {
                self.run("PRAGMA writable_schema=ON");
                if ddl.kind == DdlKind::ForgetVirtual {
                    self.db.execute("DELETE FROM sqlite_schema WHERE name = ?1", [&ddl.name]).unwrap();
                } else {
                    self.db
                        .execute("INSERT INTO sqlite_schema VALUES ('table', ?1, ?1, 0, ?2)", [&ddl.name, &ddl.sql])
                        .unwrap();
                }
                self.run("PRAGMA writable_schema=RESET");
            }
            _ => self.run(&ddl.sql),
        }
        Ok(())
    }

    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        self.rows += 1;
        let table: &Arc<Table> = change.table;
        match change.op {
            Op::Insert => {
                let (sql, cells) = self.insert(table, change.after.as_ref().unwrap());
                self.execute(&sql, &cells);
            }
            Op::Delete => self.delete(table, change.before.as_ref().unwrap()),
            Op::Update => self.update(table, change.before.as_ref().unwrap(), change.after.as_ref().unwrap()),
        }
        Ok(())
    }

    fn sequence(&mut self, table: &str, value: Option<i64>) -> Result<()> {
        self.db.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table]).unwrap();
        if let Some(value) = value {
            self.db.execute("INSERT INTO sqlite_sequence VALUES (?1, ?2)", (table, value)).unwrap();
        }
        Ok(())
    }

    fn commit(&mut self, _: &Txn) -> Result<()> {
        self.run("COMMIT");
        self.transactions += 1;
        Ok(())
    }
}

/// Everything in a database: schema objects, and per table its sorted rows.
pub fn contents(db: &Connection, generated: bool) -> BTreeMap<String, Vec<Vec<Cell>>> {
    let mut all = BTreeMap::new();
    let rows = |sql: &str| -> Vec<Vec<Cell>> {
        let mut statement = db.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let width = statement.column_count();
        let mut out = Vec::new();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap_or_else(|e| panic!("{sql}: {e}")) {
            out.push((0..width).map(|n| read(row.get_ref(n).unwrap())).collect::<Vec<_>>());
        }
        out.sort();
        out
    };
    let objects = rows(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema \
         WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' AND name <> 'sqlite_sequence'",
    );
    let tables = rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage <> 0");
    for table in tables {
        let Some(Cell::Text(name)) = table.into_iter().next() else { panic!("a table without a name") };
        let name = String::from_utf8(name).unwrap();
        if name.starts_with("sqlite_stat") {
            continue;
        }
        let with_rowid = db.prepare(&format!("SELECT rowid, * FROM main.{}", quote(&name))).is_ok();
        let columns = rows(&format!(
            "SELECT name FROM pragma_table_xinfo('{}') WHERE {generated} OR hidden = 0 ORDER BY cid",
            name.replace('\'', "''")
        ));
        let mut what: Vec<String> = Vec::new();
        what.extend((with_rowid && name != "sqlite_sequence").then(|| "rowid".to_owned()));
        for column in columns {
            let Some(Cell::Text(column)) = column.into_iter().next() else { panic!("a column without a name") };
            what.push(quote(&String::from_utf8(column).unwrap()));
        }
        let what = what.join(", ");
        let mut found = rows(&format!("SELECT {what} FROM main.{}", quote(&name)));
        if name == "sqlite_sequence" {
            if found.is_empty() {
                continue;
            }
            found.dedup();
        }
        all.insert(name, found);
    }
    all.insert("(objects)".to_owned(), objects);
    all
}

/// Panics with the first difference.
pub fn assert_equal(source: &Connection, replica: &Connection, what: &str) {
    let encoding = |db: &Connection| db.query_row("PRAGMA encoding", [], |row| row.get::<_, String>(0)).unwrap();
    // What a generated column makes of bytes as text depends on the encoding.
    let same = encoding(source) == encoding(replica);
    let (a, b) = (contents(source, same), contents(replica, same));
    let names = |all: &BTreeMap<String, _>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(a["(objects)"], b["(objects)"], "{what}: objects differ");
    assert_eq!(names(&a), names(&b), "{what}: tables differ: {:?}", a.get("sqlite_sequence"));
    for (name, rows) in &a {
        let other = &b[name];
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(
                Some(row),
                other.get(n),
                "{what}: table {name}, sorted row {n} of {} and {}",
                rows.len(),
                other.len()
            );
        }
        assert_eq!(rows.len(), other.len(), "{what}: table {name} has rows too many");
    }
}
