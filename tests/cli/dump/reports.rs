//! Statistics, annotated bytes, bug reports, growing files and queues.

use std::io::{BufRead as _, BufReader, Write as _};

use rlog::event::{RecordKind, Statement};

use super::formats::{dump, shown};
use super::sample::{Sample, order, orders, shop};
use crate::common::{rlog, scratch, shell};

#[test]
fn stats_count_by_table_operation_minute_and_size() {
    let ddl = Statement { sql: b"create table t (x int)".as_slice().into(), ..Statement::default() };
    let bytes = shop().statement(RecordKind::Ddl, &ddl).finish();
    let out = shown(&bytes, &["--format", "stats"]);
    let line = |start: &str| out.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or("").to_owned();
    let words = |start: &str| line(start).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words("transactions")[1], "4");
    assert_eq!(words("rows")[1], "4");
    assert_eq!(words("shop.orders")[1..4], ["2", "1", "1"]);
    assert_eq!(words("ddl"), ["ddl", "1"]);
    assert_eq!(words("duration")[1..], ["mean", "0.500000", "s,", "longest", "0.500000", "s", "(42:1000)"]);
    assert!(line("2026-11-21 10:00:00+00:00").ends_with(&"█".repeat(40)), "{out}");

    let out = shown(&bytes, &["--format", "stats", "--json"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["rows"], 4);
    assert_eq!(lines[0]["duration_longest_us"], 500_000);
    assert_eq!(lines[1]["table"], "shop.orders");
    assert_eq!(lines.iter().filter(|line| line["kind"] == "stats_minute").count(), 4);
    let largest: Vec<u64> = lines
        .iter()
        .filter(|line| line["kind"] == "stats_transaction")
        .map(|line| line["bytes"].as_u64().unwrap())
        .collect();
    assert!(largest.len() == 4 && largest.is_sorted_by(|a, b| a >= b), "{largest:?}");

    let out = shown(&bytes, &["--format", "stats", "--where", "id=2"]);
    assert!(out.contains("rows                       2"), "{out}");
}

#[test]
fn hex_shows_every_byte_of_a_header_with_its_meaning() {
    let out = shown(&shop().finish(), &["--format", "hex"]);
    for line in ["magic: \\x89RLG", "kind: 1 stream", "source: mariadb", "record: insert, ", "rows: 2", "frame end at "]
    {
        assert!(out.contains(line), "{line}:\n{out}");
    }
    // Offsets are those of the file.
    let at = out.lines().find(|line| line.starts_with("frame commit at ")).unwrap().split(' ').nth(3).unwrap();
    let at: usize = at.parse().unwrap();
    assert_eq!(&shop().finish()[at + 1..at + 4], b"RLG");
    assert!(out.contains(&format!("\n  {at:08x}  89 52 4c 47 ")), "{out}");
    let one = shown(&shop().finish(), &["--format", "hex", "--txn", "42:2000"]);
    assert!(one.starts_with("frame begin at ") && one.matches("frame begin").count() == 1, "{one}");
}

#[test]
fn a_bug_report_holds_no_value() {
    let table = orders();
    let statement =
        Statement { sql: b"update t set secret = 'hunter2', n = 4711".as_slice().into(), ..Statement::default() };
    let bytes = Sample::new()
        .insert(&table, vec![order(815, 1, "hunter2"), order(816, 2, "hunter2")])
        .statement(RecordKind::Statement, &statement)
        .finish();
    let out = shown(&bytes, &["--repro", "42:1000"]);
    assert!(out.contains("\"orders\"") && out.contains("\"note\""), "names stay: {out}");
    assert!(!out.contains("hunter2") && !out.contains("815") && !out.contains("\"sent\""), "{out}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<_> = lines.iter().filter(|line| line["kind"] == "row").collect();
    assert_eq!(rows[0]["after"]["note"], rows[1]["after"]["note"], "equal values have equal hashes");
    assert_ne!(rows[0]["after"]["id"], rows[1]["after"]["id"]);
    let out = shown(&bytes, &["--repro", "42:2000"]);
    assert!(out.contains("update t set secret = ") && !out.contains("hunter2") && !out.contains("4711"), "{out}");
    assert_eq!(dump(&bytes, &["--repro", "42:9"]).2, 1);
}

#[test]
fn a_growing_file_is_followed() {
    let folder = scratch();
    let path = folder.path().join("a.rlog");
    let bytes = shop().finish();
    let half = bytes.len() / 2;
    std::fs::write(&path, &bytes[..half]).unwrap();
    let mut command = std::process::Command::new(rlog("rlog-dump").get_program());
    let mut child =
        command.args(["--format", "json", "--follow"]).arg(&path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("\"stream\""), "what is there is shown while more is awaited");
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&bytes[half..]).unwrap();
    assert!(lines.any(|line| line.contains("\"kind\":\"end\"")), "the rest is shown when it comes");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_queue_is_read_like_a_file() {
    let folder = scratch();
    let file = folder.path().join("a.rlog");
    std::fs::write(&file, shop().finish()).unwrap();
    let script = "rlog-queue put \"$1/q\" <\"$1/a.rlog\" >/dev/null && rlog-dump --format json \"$1/q\" && rlog-dump --verify \"$1/q\"";
    let out = shell(script).arg(folder.path()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.matches("\"kind\":\"row\"").count(), 4, "{text}");
    assert!(text.lines().last().unwrap().ends_with("no problem"), "{text}");
    let undone =
        rlog("rlog-dump").args(["--undo", "--dialect", "sqlite"]).arg(folder.path().join("q")).output().unwrap();
    assert_eq!(String::from_utf8(undone.stdout).unwrap().matches("DELETE").count(), 2);
}
