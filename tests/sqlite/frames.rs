//! Applies frames to a second database, record by record: an applier of the test's own, so that what stands in the
//! stream is judged by itself.

use std::collections::HashMap;

use rlog::event::{RecordKind, RecordReader, Rows, RowsOp, Statement, TableDefinition, Value};
use rlog::frame::{Checker, Kind, Position, SliceFrames, Step};
use rlog::source::sqlite::ddl::quote;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params_from_iter};

use super::replay::Cell;

pub struct Applier {
    pub db: Connection,
    checker: Checker,
    records: RecordReader,
    tables: HashMap<u64, TableDefinition>,
    in_chunk: bool,
    pub transactions: u64,
    pub rows: u64,
    pub progresses: u64,
    pub barriers: u64,
    pub merged: u64,
    pub last: Option<Position>,
    pub ended: bool,
}

impl Applier {
    pub fn new(db: Connection) -> Applier {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
        db.execute_batch("PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; PRAGMA synchronous=OFF;")
            .unwrap();
        db.set_prepared_statement_cache_capacity(200);
        Applier {
            db,
            checker: Checker::contiguous(),
            records: RecordReader::new(),
            tables: HashMap::new(),
            in_chunk: false,
            transactions: 0,
            rows: 0,
            progresses: 0,
            barriers: 0,
            merged: 0,
            last: None,
            ended: false,
        }
    }

    /// A new process reads on from here: a stream header comes next.
    pub fn restart(&mut self) {
        self.checker = Checker::contiguous();
        self.ended = false;
        if !self.db.is_autocommit() {
            self.run("ROLLBACK");
        }
    }

    fn run(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// Takes whole frames.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut frames = SliceFrames::new(bytes, 0);
        while let Some(frame) = frames.next().unwrap() {
            if frame.kind() == Some(Kind::Definition) {
                let definition = TableDefinition::decode(frame.payload).unwrap();
                assert_eq!(definition.key(), frame.header.id);
                self.tables.insert(frame.header.id, definition);
            }
            match self.checker.frame(&frame).unwrap() {
                Step::Begin(_, begin) => {
                    self.in_chunk = begin.chunk.is_some();
                    self.barriers += u64::from(begin.is_barrier());
                    self.merged += u64::from(begin.flags & rlog::frame::begin_flags::MERGED != 0);
                    assert!(begin.window_start <= rlog::frame::Coordinate(frame.header.id));
                    self.run("BEGIN");
                }
                Step::Data => {
                    let Applier { records, tables, db, rows, .. } = self;
                    let mut walk = records.frame(&frame);
                    while let Some((kind, body)) = walk.next().unwrap() {
                        *rows += apply(db, tables, kind, body);
                    }
                }
                Step::Commit(position, commit) => {
                    self.run("COMMIT");
                    if !self.in_chunk {
                        assert!(commit.statements > 0 || !commit.tables.is_empty());
                        self.transactions += 1;
                        self.last = Some(position);
                    }
                }
                Step::SnapshotEnd(snapshot) => {
                    self.last = Some(Position {
                        txid: snapshot.at,
                        end: snapshot.at,
                        incarnation: snapshot.incarnation,
                        digest: snapshot.digest,
                        gtid: String::new(),
                    });
                }
                Step::Progress(_) => self.progresses += 1,
                Step::End(_) => self.ended = true,
                Step::Stream(..) | Step::Definition(_) | Step::SnapshotBegin(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn cell(value: Value<'_>) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Int(n) => Cell::Int(n),
        Value::Double(r) => Cell::Real(r.to_bits()),
        Value::Text(text) => Cell::Text(text.to_vec()),
        Value::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn apply(db: &Connection, tables: &HashMap<u64, TableDefinition>, kind: RecordKind, body: &[u8]) -> u64 {
    let Some(op) = RowsOp::of_record(kind) else {
        let statement = Statement::decode(body).unwrap();
        let sql = std::str::from_utf8(&statement.sql).unwrap();
        db.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        return 0;
    };
    let rows = Rows::decode(op, body).unwrap();
    let table = &tables[&rows.key];
    let name = quote(&table.table);
    let there = |n: &usize| if op.has_after() { rows.after.contains(*n) } else { rows.before.contains(*n) };
    let written: Vec<usize> = (0..table.columns.len()).filter(|n| !table.columns[*n].generated && there(n)).collect();
    let column = |n: &usize| quote(&table.columns[*n].name);
    let mut count = 0;
    let mut walk = rows.iter(table).unwrap();
    while let Some(row) = walk.next().unwrap() {
        count += 1;
        let cells = |image: &rlog::event::Image<'_>| -> Vec<Cell> {
            let all: Vec<Value<'_>> = image.columns().map(Result::unwrap).collect();
            written.iter().map(|n| cell(all[*n])).collect()
        };
        let names: Vec<String> = written.iter().map(column).collect();
        let wheres: Vec<String> = names.iter().map(|name| format!("{name} IS ?")).collect();
        let (sql, values) = match (row.before, row.after) {
            (None, Some(after)) => {
                let marks = vec!["?"; names.len()].join(", ");
                (format!("INSERT INTO main.{name} ({}) VALUES ({marks})", names.join(", ")), cells(&after))
            }
            (Some(before), None) => (format!("DELETE FROM main.{name} WHERE {}", wheres.join(" AND ")), cells(&before)),
            (Some(before), Some(after)) => {
                let sets: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
                let sql = format!("UPDATE main.{name} SET {} WHERE {}", sets.join(", "), wheres.join(" AND "));
                let mut values = cells(&after);
                values.extend(cells(&before));
                (sql, values)
            }
            (None, None) => panic!("a row without images"),
        };
        let done = db.prepare_cached(&sql).and_then(|mut s| s.execute(params_from_iter(&values)));
        assert_eq!(done.unwrap_or_else(|e| panic!("{sql} {values:?}: {e}")), 1, "{sql} {values:?}");
    }
    count
}
