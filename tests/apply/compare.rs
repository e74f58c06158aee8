//! `compare` of two SQLite databases.

use crate::common::{rlog, scratch};

struct Two {
    dir: tempfile::TempDir,
}

impl Two {
    fn new(source: &str, target: &str) -> Two {
        let two = Two { dir: scratch() };
        for (name, sql) in [("a", source), ("b", target)] {
            rusqlite::Connection::open(two.dir.path().join(name)).unwrap().execute_batch(sql).unwrap();
        }
        two
    }

    fn compare(&self, options: &[&str]) -> (i32, String) {
        let url = |name| format!("sqlite:{}", self.dir.path().join(name).display());
        let output = rlog("rlog-apply").arg("compare").args(options).args([url("a"), url("b")]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

const ROWS: &str = "create table t (id integer primary key, v); insert into t values (1, 'a'), (2, 2), (3, x'00'), (4, null), (5, 1.5)";

#[test]
fn equal_tables_are_equal() {
    let two = Two::new(ROWS, &format!("{ROWS}; create table rlog_applied (x)"));
    assert_eq!(two.compare(&[]), (0, "t: equal, 5 rows\n".into()));
    assert_eq!(two.compare(&["-q"]), (0, String::new()));
}

#[test]
fn what_is_missing_extra_and_different_is_told_by_its_key() {
    let change = "update t set v='2' where id=2; delete from t where id in (4, 5); insert into t values (9, 0)";
    let two = Two::new(ROWS, &format!("{ROWS}; {change}"));
    let (status, text) = two.compare(&[]);
    assert_eq!(status, 80);
    // The number 2 and the text '2' are not the same.
    let expected = "t: different, 5 rows in the source, 4 in the target\n  different: id=i2\n  missing: 2 rows from id=i4 to id=i5\n  extra: id=i9\n";
    assert_eq!(text, expected);
    let (status, text) = two.compare(&["--json"]);
    assert_eq!(status, 80);
    let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 4);
    assert_eq!(objects[1]["difference"], "missing");
    assert_eq!(objects[1]["rows"], 2);
    assert_eq!(objects[3]["kind"], "table");
    assert_eq!(objects[3]["different_rows"], 4);
    assert!(two.compare(&["--ranges", "1"]).1.contains("and 3 more rows"));
}

#[test]
fn tables_without_a_key_and_tables_that_one_side_lacks() {
    let two = Two::new(
        "create table k (a, b); insert into k values (1, 2), (1, 2), (3, 4); create table only (x); create table same (x)",
        "create table k (a, b); insert into k values (3, 4), (1, 2); create table same (x); create table more (x)",
    );
    let (status, text) = two.compare(&[]);
    assert_eq!(status, 80);
    assert!(text.contains("k: different, 3 rows in the source, 2 in the target; without a key"), "{text}");
    assert!(text.contains("only: different: the target has no such table"), "{text}");
    assert!(text.contains("more: different: the source has no such table"), "{text}");
    assert_eq!(two.compare(&["--tables", "same"]), (0, "same: equal, 0 rows\n".into()));
    assert_eq!(two.compare(&["--tables", "nothing"]).0, 66);
    // The order of rows without a key says nothing.
    let two = Two::new(
        "create table k (a); insert into k values (1), (2)",
        "create table k (a); insert into k values (2), (1)",
    );
    assert_eq!(two.compare(&[]).0, 0);
}

#[test]
fn a_source_without_log_positions_has_no_common_one() {
    assert_eq!(Two::new(ROWS, ROWS).compare(&["--channel", "x"]).0, 78);
}

#[test]
fn text_in_a_key_cannot_move_the_cursor() {
    let table = "create table t (k text primary key)";
    let two = Two::new(&format!("{table}; insert into t values (char(27) || '[31m')"), table);
    let (_, text) = two.compare(&[]);
    assert!(!text.contains('\x1b'), "{text:?}");
}
