//! SQL that does it again and SQL that takes it back, run by SQLite.

use rlog::event::{ColumnKind, RecordKind, RowsOp, Statement, TableDefinition};
use rusqlite::Connection;

use super::formats::{dump, shown};
use super::sample::{Cell, Sample, int, order, orders, price, shop, string};
use crate::cells;
use crate::common::{rlog, scratch};
use rlog::event::Sign;

const SQLITE: [&str; 4] = ["--format", "sql", "--dialect", "sqlite"];

/// A table without a key.
fn notes() -> TableDefinition {
    TableDefinition {
        database: "shop".into(),
        table: "no`tes".into(),
        columns: vec![int("a", 4, Sign::Signed), string("te\"xt", "utf8mb4"), string("b", "binary")],
        names_known: true,
        family: "mariadb".into(),
        ..TableDefinition::default()
    }
}

fn database() -> Connection {
    let database = Connection::open_in_memory().unwrap();
    let schema = "create table orders (id integer primary key, state text, note text, price text, day text, data blob);
                  create table \"no`tes\" (a int, \"te\"\"xt\" text, b blob);";
    database.execute_batch(schema).unwrap();
    database
}

/// Every row of both tables, as text.
fn contents(database: &Connection) -> Vec<String> {
    let mut out = Vec::new();
    for table in ["orders", "\"no`tes\""] {
        let mut query = database.prepare(&format!("select * from {table}")).unwrap();
        let columns = query.column_count();
        let mut rows = query.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<String> = (0..columns).map(|index| format!("{:?}", row.get_ref(index).unwrap())).collect();
            out.push(format!("{table} {}", cells.join(" ")));
        }
    }
    out.sort();
    out
}

/// Changes of every kind: hostile texts, NULLs, a changed key, equal rows without a key, many rows in a record, two records in
/// a transaction that touch the same row.
fn busy() -> Vec<u8> {
    let (orders, notes) = (orders(), notes());
    let hostile = "it's\\ \"x\" `\0 \u{1b}[2J\u{202e}\n.quit\n\\! id; -- /* ";
    let mut sample = Sample::new()
        .insert(&orders, (1..=300).map(|id| order(id, 1, hostile)).collect())
        .update(&orders, order(1, 1, hostile), order(1, 2, "x"))
        .update(&orders, order(1, 2, "x"), order(1000, 2, "x"))
        .insert(
            &notes,
            vec![
                cells![1, "same", b"\0\xff".as_slice()],
                cells![1, "same", b"\0\xff".as_slice()],
                vec![Cell::Null, Cell::Null, Cell::Null],
            ],
        )
        .update(&notes, cells![1, "same", b"\0\xff".as_slice()], cells![2, hostile, None])
        .delete(&notes, vec![vec![Cell::Null, Cell::Null, Cell::Null]])
        .delete(&orders, vec![order(7, 1, hostile), order(8, 1, hostile)]);
    sample.begin();
    let mut records = Vec::new();
    super::sample::rows(&mut records, RowsOp::Update, &orders, &[(order(9, 1, hostile), order(9, 1, "twice"))]);
    super::sample::rows(
        &mut records,
        RowsOp::Update,
        &orders,
        &[(order(9, 1, "twice"), order(9, 2, "thrice")), (order(9, 2, "thrice"), order(10_000, 2, "thrice"))],
    );
    sample.records(&records);
    sample.end(Vec::new(), 0);
    sample.insert(&orders, vec![order(9, 1, "again")]).finish()
}

impl From<Option<()>> for Cell {
    fn from(_: Option<()>) -> Cell {
        Cell::Null
    }
}

#[test]
fn what_is_done_again_can_be_taken_back() {
    let bytes = busy();
    let database = database();
    database.execute_batch("insert into orders values (5000, 'x', 'y', '1', '2', null)").unwrap();
    let before = contents(&database);
    let redo = shown(&bytes, &SQLITE);
    database.execute_batch(&redo).unwrap();
    let after = contents(&database);
    assert_eq!(after.len(), 1 + 300 - 2 + 1 + 2, "{after:#?}");
    assert!(after.iter().any(|row| row.contains("Integer(10000)")));
    let undo = shown(&bytes, &["--undo", "--dialect", "sqlite"]);
    database.execute_batch(&undo).unwrap();
    assert_eq!(contents(&database), before);
}

/// Each statement of an undo changes exactly one row, so nothing is taken back by chance.
#[test]
fn every_statement_of_an_undo_finds_its_row() {
    let bytes = busy();
    let database = database();
    database.execute_batch(&shown(&bytes, &SQLITE)).unwrap();
    let undo = shown(&bytes, &["--undo", "--dialect", "sqlite"]);
    let mut rest = undo.as_str();
    let mut statements = 0;
    while let Some(end) = rest.find(";\n") {
        // A newline within a literal follows no semicolon in this data.
        let (statement, tail) = rest.split_at(end + 2);
        let changed = database.execute(statement, []).unwrap();
        let words: String = statement.lines().find(|line| !line.starts_with("--")).unwrap_or("").into();
        if !words.starts_with("BEGIN") && !words.starts_with("COMMIT") {
            assert_eq!(changed, 1, "{statement}");
            statements += 1;
        }
        rest = tail;
    }
    assert_eq!(statements, 300 + 2 + 3 + 1 + 1 + 2 + 3 + 1);
}

#[test]
fn an_undo_reads_pipes_and_several_files_too() {
    let bytes = busy();
    let from_file = shown(&bytes, &["--undo"]);
    let piped = rlog("rlog-dump").arg("--undo").write_stdin(bytes).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), from_file);

    let table = orders();
    let folder = scratch();
    let first = folder.path().join("1");
    let second = folder.path().join("2");
    std::fs::write(&first, Sample::new().insert(&table, vec![order(1, 1, "a")]).finish()).unwrap();
    std::fs::write(&second, Sample::new().update(&table, order(1, 1, "a"), order(1, 1, "b")).finish()).unwrap();
    let out = rlog("rlog-dump").args(["--undo", "--format", "sql"]).arg(first).arg(second).output().unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    assert!(out.find("UPDATE").unwrap() < out.find("DELETE").unwrap(), "{out}");
}

#[test]
fn an_undo_takes_back_only_what_is_selected_and_lists_what_was_changed_later() {
    let table = orders();
    let bytes = Sample::new()
        .insert(&table, vec![order(1, 1, "a"), order(2, 1, "b")])
        .update(&table, order(1, 1, "a"), order(1, 2, "a"))
        .finish();
    let out = shown(&bytes, &["--undo", "--txn", "42:1000", "--dialect", "sqlite"]);
    assert!(out.contains("-- changed later: shop.orders id=1 in 42:2000\n"), "{out}");
    assert!(!out.contains("UPDATE") && out.matches("DELETE").count() == 2, "{out}");
    assert!(out.find("\"id\" = 2").unwrap() < out.find("\"id\" = 1").unwrap(), "newest first: {out}");
    let out = shown(&bytes, &["--undo", "--where", "id=2"]);
    assert!(!out.contains("changed later") && out.matches("DELETE").count() == 1, "{out}");
    let (out, error, status) = dump(&bytes, &["--undo", "--table", "other"]);
    assert_eq!((out.as_str(), error.as_str(), status), ("", "", 1));
}

#[test]
fn an_undo_refuses_rows_that_were_not_logged_in_full() {
    let table = orders();
    let mut key_only = vec![Cell::Absent; 6];
    key_only[0] = Cell::Int(1);
    let mut after = vec![Cell::Absent; 6];
    after[3] = price(5);
    let bytes = Sample::new().update(&table, key_only.clone(), after).finish();
    let (out, error, status) = dump(&bytes, &["--undo"]);
    assert_eq!(status, 65, "{out}");
    assert!(error.contains("shop.orders are not logged in full"), "{error}");
    let redo = shown(&bytes, &SQLITE);
    assert!(redo.contains("UPDATE \"orders\" SET \"price\" = '0.05' WHERE \"id\" = 1;\n"), "{redo}");

    // An after image that leaves out what is known to be unchanged (FULL_NODUP) can be taken back.
    let mut after = vec![Cell::Unchanged; 6];
    after[3] = price(5);
    let bytes = Sample::new().update(&table, order(1, 1, "a"), after).finish();
    let undo = shown(&bytes, &["--undo", "--dialect", "sqlite"]);
    let wanted = "UPDATE \"orders\" SET \"price\" = '12.50' WHERE \"id\" = 1 AND \"state\" = 'new' AND \"note\" = 'a' AND \
                  \"price\" = '0.05' AND \"day\" = '2026-11-21' AND \"data\" = X'00ff';\n";
    assert!(undo.contains(wanted), "{undo}");
}

#[test]
fn an_undo_refuses_ddl_and_statements_in_the_selection_by_name() {
    let table = orders();
    let ddl = Statement {
        sql: b"alter table orders drop column note".as_slice().into(),
        database: "shop".into(),
        ddl: "alter table".into(),
        tables: vec![("shop".into(), "orders".into())],
        ..Statement::default()
    };
    let bytes = Sample::new()
        .insert(&table, vec![order(1, 1, "a")])
        .statement(RecordKind::Ddl, &ddl)
        .insert(&table, vec![order(2, 1, "a")])
        .finish();
    let (out, error, status) = dump(&bytes, &["--undo"]);
    assert_eq!((status, out.as_str()), (80, ""), "nothing is printed before the refusal");
    assert!(error.contains("alter table orders drop column note") && error.contains("42:2000"), "{error}");
    let (_, _, status) = dump(&bytes, &["--undo", "--op", "insert"]);
    assert_eq!(status, 80, "rows before it do not fit the table any more");
    // Rows behind it do: only they are asked for.
    let out = shown(&bytes, &["--undo", "--op", "insert", "--where", "id=2"]);
    assert_eq!(out.matches("DELETE FROM").count(), 1, "{out}");
    assert!(shown(&bytes, &["--undo", "--since", "42:3000"]).contains("DELETE"));
    let (_, error, status) = dump(&bytes, &["--undo", "--table", "shop.other"]);
    assert_eq!((error.as_str(), status), ("", 1));

    let statement = Statement { sql: b"delete from orders".as_slice().into(), ..Statement::default() };
    let bytes = Sample::new().statement(RecordKind::Statement, &statement).finish();
    let (_, error, status) = dump(&bytes, &["--undo"]);
    assert_eq!(status, 80, "{error}");
}

#[test]
fn mysql_family_sql_is_replayable_and_matches_exactly() {
    let out = shown(&shop().finish(), &["--format", "sql"]);
    let wanted = "-- mariadb 10.11.6-MariaDB
-- 42:1000 2026-11-21T10:00:00Z 0-1-1
-- insert orders
SET NAMES utf8mb4;
SET time_zone='+00:00';
SET sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES';
SET sql_auto_is_null=0;
BEGIN;
INSERT INTO `shop`.`orders` (`id`, `state`, `note`, `price`, `day`, `data`) VALUES (1, 'new', 'first', 12.50, '2026-11-21', X'00ff');
INSERT INTO `shop`.`orders` (`id`, `state`, `note`, `price`, `day`, `data`) VALUES (2, 'new', _utf8mb4 X'697427732022322220\
                  5c201b5b324ae280ae', 12.50, '2026-11-21', X'00ff');
COMMIT;
-- 42:2000 2026-11-21T10:01:00Z 0-1-2
-- update orders
BEGIN;
UPDATE `shop`.`orders` SET `state` = 'sent' WHERE `id` = 1;
COMMIT;
";
    assert_eq!(&out[..wanted.len().min(out.len())], wanted);
    let undo = shown(&shop().finish(), &["--undo", "--txn", "0-1-2"]);
    assert!(
        undo.contains(
            "UPDATE `shop`.`orders` SET `state` = 'new' WHERE `id` = 1 AND `state` = 'sent' AND CAST(`note` AS BINARY) = 'first' \
             AND `price` = 12.50 AND `day` = '2026-11-21' AND `data` = X'00ff';\n"
        ),
        "{undo}"
    );
}

#[test]
fn a_statement_is_replayed_in_its_session() {
    let statement = |sql: &[u8]| Statement {
        sql: sql.to_vec().into(),
        database: "shop".into(),
        time_s: 1_795_255_200,
        sql_mode: Some(0),
        charset: Some((45, 45, 8)),
        flags2: Some(1 << 26),
        insert_id: Some(9),
        rand: Some((1, 2)),
        ..Statement::default()
    };
    let bytes = Sample::new()
        .statement(RecordKind::Statement, &statement(b"insert into t values (null, rand())"))
        .statement(RecordKind::Statement, &statement(b"insert into t values ('\\'; \n\\! touch x')"))
        .finish();
    let out = shown(&bytes, &["--format", "sql"]);
    let wanted = "BEGIN;
USE `shop`;
SET TIMESTAMP=1795255200;
SET sql_auto_is_null=0;
SET foreign_key_checks=0;
SET unique_checks=1;
SET sql_mode=0;
SET character_set_client=utf8mb4;
SET collation_connection=utf8mb4_general_ci;
SET collation_server=latin1_swedish_ci;
SET INSERT_ID=9;
SET RAND_SEED1=1, RAND_SEED2=2;
insert into t values (null, rand());
COMMIT;
";
    assert!(out.contains(wanted), "{out}");
    assert!(out.contains("PREPARE rlog_statement FROM @rlog_sql;\nEXECUTE rlog_statement;\n"), "{out}");
    // What a client could act upon is nowhere but behind a comment's dashes.
    assert!(!out.lines().any(|line| line.contains("\\!") && !line.starts_with("-- ")), "{out}");
}

#[test]
fn what_another_dialect_cannot_do_is_left_out_with_a_comment_or_refused() {
    let ddl = Statement { sql: b"create table t\n(x int)".as_slice().into(), ..Statement::default() };
    let bytes = Sample::new().statement(RecordKind::Ddl, &ddl).finish();
    assert!(shown(&bytes, &SQLITE).contains("-- left out, not in this dialect: create table t\\n(x int)\n"));
    let update = Statement { sql: b"update t set x = 1".as_slice().into(), ..Statement::default() };
    let bytes = Sample::new().statement(RecordKind::Statement, &update).finish();
    let (_, error, status) = dump(&bytes, &SQLITE);
    assert_eq!(status, 69, "{error}");
    assert!(error.contains("update t set x = 1"), "{error}");
}

#[test]
fn columns_without_names_can_be_inserted_but_not_found_again() {
    let mut table = notes();
    table.names_known = false;
    for (index, column) in table.columns.iter_mut().enumerate() {
        column.name = format!("@{}", index + 1);
    }
    table.columns[2].kind = ColumnKind::Year;
    let row = vec![Cell::Int(1), Cell::from("x"), Cell::Raw(vec![0xea, 0x07])];
    let bytes = Sample::new().insert(&table, vec![row.clone()]).finish();
    assert!(shown(&bytes, &SQLITE).contains("INSERT INTO \"no`tes\" VALUES (1, 'x', 2026);\n"));
    let (_, error, status) = dump(&Sample::new().delete(&table, vec![row]).finish(), &SQLITE);
    assert_eq!(status, 78, "{error}");
    assert!(error.contains("--schema"), "{error}");
}
