//! What rlog-dump leaves out of a log is passed over by the source, undecoded; of frames it is left out by the dump itself. Both must print the same.

use rlog::dump::select::{OPS, Predicate, TablePattern};
use rlog::dump::{Format, Options, Selection, run};

use crate::assemble::{Log, images, read};
use crate::common::scratch;

const UPDATE: u8 = 24;
const DELETE: u8 = 25;

fn changed(log: &mut Log, kind: u8, id: u8, rows: &[(i32, &str)]) {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 2, 0xff];
    if kind == UPDATE {
        body.push(0xff);
    }
    body.extend_from_slice(&images(rows));
    log.event(kind, &body);
}

/// Two tables, every operation, statements among rows, a transaction without any row of `t`, and one that is too large to be gathered.
fn mixed() -> Log {
    let mut log = Log::maria();
    let text = "x".repeat(1900);
    log.maria_transaction(1, &[(1, "one"), (2, "two")]);
    log.maria_gtid(2, 4, None).table_map(31, "other").rows(31, &[(1, "a"), (2, "b"), (3, "c")]).table_map(30, "t");
    log.rows(30, &[(3, "three")]);
    changed(log.table_map(31, "other"), DELETE, 31, &[(1, "a"), (2, "b")]);
    log.query("insert into shop.s values (1)");
    changed(log.table_map(30, "t"), UPDATE, 30, &[(3, "three"), (3, "drei"), (1, "one"), (1, "eins")]);
    changed(log.table_map(30, "t"), DELETE, 30, &[(2, "two")]);
    log.xid(2);
    log.maria_gtid(3, 4, None).table_map(31, "other").rows(31, &[(4, "d")]).xid(3);
    log.maria_gtid(4, 4, None);
    for number in 0..700 {
        log.table_map(31, "other").rows(31, &[(number, &text)]);
        if number % 300 == 0 {
            log.table_map(30, "t").rows(30, &[(number, "few")]);
        }
    }
    log.xid(4).rotate("bin.000002");
    log
}

#[test]
fn a_log_is_dumped_as_its_frames_are() {
    let folder = scratch();
    let log = mixed();
    let path = log.write(folder.path(), "bin.000001");
    let frames = folder.path().join("a.rlog");
    std::fs::write(&frames, read(&log.bytes).bytes).unwrap();
    let dump = |input: &std::path::Path, format, selection: &Selection| {
        let options =
            Options { inputs: vec![input.to_owned()], format, selection: selection.clone(), ..Options::default() };
        let mut out = Vec::new();
        let status = run(&options, &mut out, &mut |_| ()).err().map(|error| error.class().exit_status());
        (String::from_utf8(out).unwrap(), status)
    };
    let op = |names: &[&str]| OPS.iter().filter(|(name, _)| names.contains(name)).map(|(_, kind)| *kind).collect();
    let tables = |pattern: &str| vec![TablePattern::parse(pattern).unwrap()];
    let selections = [
        Selection::default(),
        Selection { tables: tables("t"), ..Selection::default() },
        Selection { tables: tables("shop.other"), ..Selection::default() },
        Selection { tables: tables("nothing"), ..Selection::default() },
        Selection { ops: op(&["delete"]), ..Selection::default() },
        Selection { ops: op(&["insert", "statement"]), tables: tables("*"), ..Selection::default() },
        Selection { ops: op(&["update"]), tables: tables("t"), limit: Some(1), ..Selection::default() },
        Selection { conditions: vec![Predicate::parse("@1=3").unwrap()], ..Selection::default() },
        Selection { conditions: vec![Predicate::parse("nowhere=3").unwrap()], ..Selection::default() },
    ];
    for (number, selection) in selections.iter().enumerate() {
        for format in [Format::Json, Format::Text, Format::Sql, Format::Stats] {
            let (of_log, of_frames) = (dump(&path, format, selection), dump(&frames, format, selection));
            assert_eq!(of_log, of_frames, "selection {number}, {format:?}");
            assert!(number > 2 || of_log.0.len() > 100);
        }
    }
    // The rows that are passed over count: their number is in the ordinals behind them, and in what commits say.
    let (json, _) = dump(&path, Format::Json, &selections[1]);
    let row = json.lines().find(|line| line.contains("\"three\"")).unwrap();
    assert!(row.contains("\"ordinal\":3,"), "{row}");
    assert!(json.contains("\"inserts\":4,\"updates\":2,\"deletes\":3,"), "{json}");
}
