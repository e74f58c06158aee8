//! What is selected.

use rlog::event::{RecordKind, Statement};

use super::formats::{dump, shown};
use super::sample::{Sample, order, orders, shop};

/// The txids of the transactions that are shown.
fn txids(arguments: &[&str]) -> Vec<u64> {
    let all = [&["--format", "json"], arguments].concat();
    let (out, error, status) = dump(&shop().finish(), &all);
    assert_eq!((error.as_str(), status), ("", i32::from(out.is_empty())), "{arguments:?}: {out}");
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["kind"] == "begin")
        .map(|line| line["txid"].as_str().unwrap().split_once(':').unwrap().1.parse().unwrap())
        .collect()
}

#[test]
fn since_and_until_take_times_positions_and_gtids() {
    for (since, shown) in [
        ("2026-11-21 10:01", vec![2000, 3000]),
        ("2026-11-21T10:01:00.000001Z", vec![3000]),
        ("mysql-bin.000042:2000", vec![2000, 3000]),
        ("42:2001", vec![3000]),
        ("42:2000-2900,000000076553f100,00000abc", vec![2000, 3000]),
        ("0-1-3", vec![3000]),
        ("oldest", vec![1000, 2000, 3000]),
    ] {
        assert_eq!(txids(&["--since", since]), shown, "{since}");
    }
    for (until, shown) in [
        ("2026-11-21 10:01", vec![1000]),
        ("42:2000", vec![1000]),
        ("42:2000-2900,000000076553f100,00000abc", vec![1000, 2000]),
        ("0-1-2", vec![1000, 2000]),
    ] {
        assert_eq!(txids(&["--until", until]), shown, "{until}");
    }
    let (_, error, status) = dump(&shop().finish(), &["--since", "soon"]);
    assert_eq!(status, 64, "{error}");
}

#[test]
fn tables_operations_transactions_and_values_are_selected() {
    assert_eq!(txids(&["--table", "shop.o*"]), [1000, 2000, 3000]);
    assert_eq!(txids(&["--table", "other.*"]), [0u64; 0]);
    assert_eq!(txids(&["--op", "delete,update"]), [2000, 3000]);
    assert_eq!(txids(&["--txn", "0-1-2"]), [2000]);
    assert_eq!(txids(&["--txn", "42:1000", "--txn", "42:3000"]), [1000, 3000]);
    assert_eq!(txids(&["--where", "id=2"]), [1000, 3000]);
    assert_eq!(txids(&["--where", "state=sent"]), [2000]);
    assert_eq!(txids(&["--where", "price>12.4", "--where", "note~^f"]), [1000, 2000]);
    assert_eq!(txids(&["--where", "price>12.50"]), [0u64; 0]);
    assert_eq!(txids(&["--where", "nothing=1"]), [0u64; 0]);
}

#[test]
fn a_selection_without_a_hit_exits_1_without_a_word() {
    for format in ["json", "text"] {
        let (out, error, status) = dump(&shop().finish(), &["--format", format, "--op", "ddl"]);
        let _ = out;
        assert_eq!((error.as_str(), status), ("", 1));
    }
}

#[test]
fn only_rows_that_hit_are_shown_with_their_statement() {
    let out = shown(&shop().finish(), &["--where", "id=2", "--op", "insert", "--fields", "id,note"]);
    assert_eq!(
        out,
        "stream  mariadb 10.11.6-MariaDB  server 1  log mysql-bin  from 42:1000\n\n42:1000  2026-11-21 10:00:00+00:00  gtid 0-1-1  server 1  thread 12\n  # insert orders\n  insert shop.orders  id=2\n    id     2\n    note   'it''s \"2\" \\\\ \\u{1b}[2J\\u{202e}'\n  commit 2 inserts  2026-11-21 10:00:00.500000+00:00  42:1000-1900,000000076553f100,00000abc,0-1-1\n"
    );
    let out = shown(&shop().finish(), &["-f", "json", "--where", "id=2", "--op", "insert", "--fields", "note"]);
    let row = out.lines().find(|line| line.contains("\"row\"")).unwrap();
    assert!(row.contains(r#""ordinal":1,"after":{"note":"#) && row.ends_with(r#"},"key":{"id":2}}"#), "{row}");
}

#[test]
fn a_limit_counts_rows_and_statements() {
    let rows = (0..100).map(|id| order(id, 1, "x")).collect();
    let bytes = Sample::new().insert(&orders(), rows).delete(&orders(), vec![order(1, 1, "x")]).finish();
    for limit in [1usize, 7, 100, 101] {
        let out = shown(&bytes, &["-f", "json", "-n", &limit.to_string()]);
        assert_eq!(out.matches("\"row\"").count(), limit);
        assert_eq!(out.matches("\"begin\"").count(), out.matches("\"commit\"").count());
    }
}

#[test]
fn a_statement_is_selected_by_the_tables_it_names() {
    let ddl = Statement {
        sql: b"alter table orders add x int".as_slice().into(),
        database: "shop".into(),
        ddl: "alter table".into(),
        tables: vec![("shop".into(), "orders".into())],
        ..Statement::default()
    };
    let other = Statement { sql: b"flush logs".as_slice().into(), database: "shop".into(), ..Statement::default() };
    let bytes = Sample::new().statement(RecordKind::Ddl, &ddl).statement(RecordKind::Statement, &other).finish();
    let out = shown(&bytes, &["-f", "json", "--table", "shop.orders"]);
    assert!(out.contains("alter table") && !out.contains("flush logs"), "{out}");
    assert!(shown(&bytes, &["-f", "json", "--op", "statement"]).contains("flush logs"));
}
