//! Reading a queue: the reader's registration, its acknowledgement, and what disagreement at start means (rules 6 and 7). And what else a run is told:
//! --dry-run, --cursor, GTIDs as a base.

use std::path::PathBuf;
use std::sync::Arc;

use rlog::event::{RecordKind, Statement};
use rlog::frame::{Begin, Commit, Coordinate, End, FrameWriter, Kind, StreamHeader};
use rlog::queue::Queue;
use rlog::queue::dir::DirQueue;

use crate::common::changes::{Records, Source, table};
use crate::common::{rlog, scratch, shell};
use crate::once::Place;

fn put(place: &Place, stream: &[u8]) -> PathBuf {
    let path = place.path("q");
    rlog("rlog-queue").args(["put", "--segment-size", "1KiB"]).arg(&path).write_stdin(stream).assert().success();
    path
}

fn queue(place: &Place) -> DirQueue {
    DirQueue::open(Arc::new(rlog::sys::Os), &place.path("q"), "default", false).unwrap()
}

fn acked(place: &Place) -> Option<u64> {
    queue(place).readers().unwrap().first().map(|reader| reader.acked.sequence)
}

fn run(place: &Place, options: &[&str]) -> (i32, String) {
    let path = place.path("q");
    place.run(b"", &[options, &["--from", path.to_str().unwrap()]].concat())
}

const INIT: [&str; 3] = ["--init", "empty", "--create-tables"];

/// Ten transactions, each a row of `t`.
fn ten() -> Source {
    let mut source = Source::new();
    for id in 0..10 {
        source.transaction(Records::default().insert(&table("shop", "t"), (id, Some("x"))));
    }
    source
}

#[test]
fn the_target_is_registered_before_it_reads_and_acknowledges_what_is_committed() {
    let place = Place::new();
    put(&place, &ten().end());
    assert_eq!(run(&place, &[&INIT[..], &["--until", "1:404"]].concat()), (0, String::new()));
    let readers = queue(&place).readers().unwrap();
    assert_eq!(readers.len(), 1);
    assert_eq!(readers[0].name, place.query("select uuid from rlog_target").remove(0));
    assert_eq!(acked(&place), Some(4), "what was read and not applied is needed");
    assert_eq!(run(&place, &[]), (0, String::new()));
    assert_eq!(acked(&place), Some(10));
}

#[test]
fn a_transaction_that_fails_is_not_acknowledged_and_not_purged() {
    let place = Place::new();
    let mut source = ten();
    put(&place, &source.end());
    assert_eq!(run(&place, &INIT), (0, String::new()));
    place.open().execute_batch("insert into t values (12, 'mine')").unwrap();
    for id in 10..15 {
        source.transaction(Records::default().insert(&table("shop", "t"), (id, Some("x"))));
    }
    put(&place, &source.end());
    for batch in ["1", "1000"] {
        assert_eq!(run(&place, &["--batch", batch]).0, 80);
        assert!(acked(&place).unwrap() <= 12, "{:?}", acked(&place));
    }
    rlog("rlog-queue").arg("purge").arg(place.path("q")).assert().success();
    place.open().execute_batch("delete from t where id=12").unwrap();
    assert_eq!(run(&place, &[]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t"), ["15"]);
    assert_eq!(acked(&place), Some(15));
}

#[test]
fn a_target_restored_from_a_backup_resumes_while_the_queue_holds_it_and_is_a_gap_afterwards() {
    let place = Place::new();
    put(&place, &ten().end());
    let until = |at: &str| run(&place, &[&INIT[..], &["--until", at]].concat());
    assert_eq!(until("1:304"), (0, String::new()));
    place.open().execute_batch("pragma wal_checkpoint(truncate)").unwrap();
    let backup = std::fs::read(place.path("t.db")).unwrap();
    let restore = || {
        for name in ["t.db-wal", "t.db-shm"] {
            let _ = std::fs::remove_file(place.path(name));
        }
        std::fs::write(place.path("t.db"), &backup).unwrap();
    };
    assert_eq!(run(&place, &[]), (0, String::new()));
    restore();
    assert_eq!(run(&place, &[]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t"), ["10"]);
    let mut source = ten();
    for id in 10..60 {
        source.transaction(Records::default().insert(&table("shop", "t"), (id, Some("x"))));
    }
    put(&place, &source.end());
    assert_eq!(run(&place, &[]), (0, String::new()));
    rlog("rlog-queue").arg("purge").arg(place.path("q")).assert().success();
    restore();
    let (status, text) = run(&place, &[]);
    assert_eq!(status, 81, "{text}");
    assert_eq!(place.query("select count(*) from t"), ["3"]);
}

#[test]
fn a_target_that_is_ahead_of_its_queue_waits_and_another_history_is_refused() {
    let place = Place::new();
    let mut source = ten();
    let stream = source.end();
    assert_eq!(place.init(&stream), (0, String::new()));
    let mut short = Source::new();
    for id in 0..4 {
        short.transaction(Records::default().insert(&table("shop", "t"), (id, Some("x"))));
    }
    put(&place, &short.end());
    assert_eq!(run(&place, &[]), (0, String::new()));
    source.transaction(Records::default().insert(&table("shop", "t"), (10, Some("x"))));
    put(&place, &source.end());
    assert_eq!(run(&place, &[]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t"), ["11"]);
    // The same places with other evidence: the last transaction is compared, also when progress came behind it.
    let other = Place::new();
    let mut twisted = Source::new();
    twisted.digest = 77;
    for id in 0..12 {
        twisted.transaction(Records::default().insert(&table("shop", "t"), (id, Some("y"))));
    }
    put(&other, &twisted.end());
    std::fs::rename(other.path("q"), place.path("q2")).unwrap();
    let from = place.path("q2");
    assert_eq!(place.run(b"", &["--from", from.to_str().unwrap()]).0, 83);
}

#[test]
fn a_dry_run_prints_what_would_be_applied_and_changes_nothing() {
    let place = Place::new();
    let mut source = Source::new();
    let (a, b) = (table("shop", "a"), table("shop", "b"));
    source.transaction(Records::default().insert(&a, (1, Some("it's"))).insert(&b, (1, None)));
    source.transaction(Records::default().update(&a, (1, Some("it's")), (2, None)));
    put(&place, &source.end());
    let path = place.path("q");
    let dry = |options: &[&str]| {
        let mut command = rlog("rlog-apply");
        command.args(["run", "--dry-run", "--from"]).arg(&path).args(options).arg(place.target());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    // A target that would be created is not.
    let (status, sql, text) = dry(&["--init", "empty"]);
    assert_eq!(status, 0, "{text}");
    assert!(
        sql.contains("it''s") && sql.contains("UPDATE") && text.contains("2 transactions would be applied"),
        "{sql}{text}"
    );
    assert!(!place.path("t.db").exists());
    assert_eq!(dry(&[]).0, 66);
    // What it prints, SQLite understands.
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(
        "create table a (id integer primary key, v text); create table b (id integer primary key, v text)",
    )
    .unwrap();
    db.execute_batch(&sql).unwrap();
    assert_eq!(db.query_row("select id from a", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(run(&place, &[&INIT[..], &["--until", "1:104"]].concat()).0, 0);
    let (acked, last) = (acked(&place), place.last());
    let (status, sql, text) = dry(&["--tables", "shop.a", "--rewrite-db", "x=y", "--qualify"]);
    assert_eq!(status, 0);
    assert!(
        !sql.contains("INSERT") && sql.contains("shop.a") && text.contains("1 transactions would be applied"),
        "{sql}{text}"
    );
    assert_eq!((crate::queue::acked(&place), place.last()), (acked, last));
    assert_eq!(place.query("select count(*) from a where id=1"), ["1"]);
}

#[test]
fn the_cursor_holds_the_applied_position() {
    let place = Place::new();
    put(&place, &ten().end());
    let file = place.path("c");
    let cursor = ["--cursor", file.to_str().unwrap()];
    assert_eq!(run(&place, &[&INIT[..], &cursor, &["--until", "1:404"]].concat()).0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), place.last());
    assert!(place.last().starts_with("1:304-404,"));
    assert_eq!(run(&place, &cursor).0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), place.last());
    assert_eq!(place.run(b"", &["--cursor", "/nonexistent/c", "--from", place.path("q").to_str().unwrap()]).0, 73);
}

/// A stream of transactions with GTIDs, one row each, that begins behind `state`.
fn with_gtids(state: &str, gtids: &[&str]) -> Vec<u8> {
    let incarnation = rlog::frame::Incarnation::new(7, 1);
    let start = Coordinate::new(1, 4).unwrap();
    let header = StreamHeader {
        source: "mariadb".into(),
        incarnation,
        start,
        gtid_state: state.into(),
        ..StreamHeader::default()
    };
    let mut writer = FrameWriter::new();
    writer.frame(Kind::Stream, |out| header.encode(out));
    let mut at = start;
    for gtid in gtids {
        let begin = Begin { prev: at, incarnation, gtid: (*gtid).into(), ..Begin::default() };
        writer.begin(at, &begin);
        let number = gtid.rsplit(['-', ':']).next().unwrap().parse::<i32>().unwrap_or(0);
        let sql = format!("create table t_{number} (id int primary key)");
        let statement = Statement { sql: sql.as_bytes().into(), database: "shop".into(), ..Statement::default() };
        let mut payload = Vec::new();
        let record = rlog::event::record::open_record(&mut payload, RecordKind::Ddl);
        statement.encode(&mut payload);
        rlog::event::record::close_record(&mut payload, record).unwrap();
        writer.data(0, &payload);
        let txid = at;
        at = Coordinate(at.0 + 100);
        let mut commit =
            Commit { end: at, incarnation, gtid: (*gtid).into(), source_digest: at.0 as u32, ..Commit::default() };
        let _ = txid;
        writer.commit(Kind::Commit, &mut commit);
    }
    let end = End { reached: at, incarnation, ..End::default() };
    writer.frame(Kind::End, |out| end.encode(out));
    writer.bytes().to_vec()
}

#[test]
fn gtids_declare_what_the_target_holds_domain_by_domain() {
    let tables = "select name from sqlite_schema where type='table' and name like 't\\_%' escape '\\' order by name";
    let fresh = || {
        let place = Place::new();
        place.open().execute_batch("create table mine (x)").unwrap();
        place
    };
    let stream = with_gtids("", &["0-1-10", "1-1-20", "0-1-11", "1-1-21", "0-2-12"]);
    let place = fresh();
    assert_eq!(place.run(&stream, &["--init", "0-1-11,1-1-20"]), (0, String::new()));
    assert_eq!(place.query(tables), ["t_12", "t_21"]);
    assert_eq!(place.run(&stream, &[]), (0, String::new()));
    // What lies between the base and the stream's start is missing.
    let place = fresh();
    assert_eq!(place.run(&with_gtids("0-1-15", &["0-1-16"]), &["--init", "0-1-11"]).0, 81);
    let place = fresh();
    assert_eq!(place.run(&with_gtids("0-1-11", &["0-1-12"]), &["--init", "0-1-11"]), (0, String::new()));
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let gtid = |number: &str| format!("{uuid}:{number}");
    let gtids: Vec<String> = ["1", "2", "3", "4"].map(gtid).into();
    let stream = with_gtids("", &gtids.iter().map(String::as_str).collect::<Vec<_>>());
    let place = fresh();
    assert_eq!(place.run(&stream, &["--init", &gtid("1-2:4")]), (0, String::new()));
    assert_eq!(place.query(tables), ["t_3"]);
    // Without GTIDs nothing tells.
    let place = fresh();
    assert_eq!(place.run(&ten().end(), &["--init", "0-1-11", "--create-tables"]).0, 78);
    assert_eq!(fresh().run(&stream, &["--init", "now"]).0, 64);
}

/// Rule 3: what other filters would let through is missing from the target.
#[test]
fn filters_that_widen_are_refused_and_narrower_ones_are_told() {
    let place = Place::new();
    let (t, u) = (table("shop", "t"), table("shop", "u"));
    let mut source = Source::new();
    let both = |source: &mut Source, id| {
        source.transaction(Records::default().insert(&t, (id, None)).insert(&u, (id, None)));
        put(&place, &source.end());
    };
    both(&mut source, 1);
    assert_eq!(run(&place, &[&INIT[..], &["--tables", "shop.t"]].concat()), (0, String::new()));
    both(&mut source, 2);
    for wider in
        [&[][..], &["--tables", "shop.*"], &["--tables", "shop.u"], &["--tables", "shop.t", "--rewrite-db", "a=b"]]
    {
        let (status, text) = run(&place, wider);
        assert_eq!(status, 78, "{text}");
        assert!(text.contains("tables=shop.t") && text.contains("--accept-filters"), "{text}");
        assert_eq!(place.query("select count(*) from t"), ["1"]);
    }
    assert_eq!(acked(&place), Some(1));
    let (status, text) = run(&place, &["--tables", "shop.t", "--ignore-tables", "shop.x"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("narrower"), "{text}");
    assert_eq!(place.query("select count(*) from t"), ["2"]);
    assert_eq!(run(&place, &["--tables", "shop.t"]), (0, String::new()), "nothing comes, so nothing is wrong yet");
    both(&mut source, 3);
    assert_eq!(run(&place, &["--tables", "shop.t"]).0, 78, "the ones that were accepted last count");
    assert_eq!(run(&place, &["--create-tables", "--accept-filters"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t union all select count(*) from u"), ["3", "1"]);
    both(&mut source, 4);
    assert_eq!(run(&place, &[]), (0, String::new()), "from now on they are these");
}

#[test]
fn a_delayed_channel_stays_behind_and_acknowledges_only_what_it_applied() {
    let place = Place::new();
    let now_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    let mut source = Source::new();
    for id in 0..10 {
        // Four an hour ago, the others just now.
        source.time_us = if id < 4 { now_us - 3_600_000_000 } else { now_us };
        source.transaction(Records::default().insert(&table("shop", "t"), (id, Some("x"))));
    }
    put(&place, &source.end());
    assert_eq!(run(&place, &[&INIT[..], &["--delay", "2h"]].concat()), (0, String::new()));
    assert_eq!(place.query("select count(*) from rlog_applied"), ["0"]);
    assert_eq!(acked(&place), Some(0));
    assert_eq!(run(&place, &["--delay", "10m", "--create-tables"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t"), ["4"]);
    assert_eq!(acked(&place), Some(4));
    // Who follows waits until the rest is due.
    let path = place.path("q");
    let mut follow = std::process::Command::new(env!("CARGO_BIN_EXE_rlog-apply"))
        .args(["run", "--follow", "--delay", "3s", "--from"])
        .args([path.to_str().unwrap(), &place.target()])
        .spawn()
        .unwrap();
    while place.query("select count(*) from t") == ["4"] {
        assert!(follow.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(place.query("select count(*) from t"), ["10"]);
    assert_eq!(
        place.query("select count(*) from rlog_applied where applied_time_us < source_time_us + 3000000"),
        ["0"]
    );
}

/// Another target of a queue that one before it has used up.
#[test]
fn a_target_that_begins_empty_is_refused_a_queue_without_its_beginning() {
    let place = scratch();
    let (t, mut source) = (table("shop", "t"), Source::new());
    for id in 0..60 {
        source.transaction(Records::default().insert(&t, (id, Some("x"))));
    }
    std::fs::write(place.path().join("one"), source.end()).unwrap();
    for id in 60..63 {
        source.transaction(Records::default().insert(&t, (id, Some("x"))));
    }
    std::fs::write(place.path().join("two"), source.end()).unwrap();
    for queue in ["sqlite:q.db", "dir:spool"] {
        let run = |script: &str, wanted: i32| {
            let output = shell(script).current_dir(place.path()).args([queue]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(wanted), "{queue}: {script}: {text}");
            text
        };
        run("rm -f *.db*; rlog-queue put --segment-size 4K \"$1\" < one", 0);
        run("rlog-apply run --from \"$1\" --init empty --create-tables sqlite:first.db", 0);
        run("rlog-queue put --segment-size 4K \"$1\" < two && rlog-queue purge \"$1\"", 0);
        let refused = run("rlog-apply run --from \"$1\" --init empty --create-tables sqlite:second.db", 81);
        assert!(refused.contains("units before were purged") && refused.contains("--resnapshot"), "{refused}");
        // It was not registered, and nothing was written: what is said next counts.
        run("rlog-queue status \"$1\" | grep -c '^reader ' | grep -qx 1", 0);
        run("rlog-apply run --from \"$1\" --init oldest --create-tables sqlite:second.db", 0);
        let second = rusqlite::Connection::open(place.path().join("second.db")).unwrap();
        let rows: i64 = second.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
        assert!((3..63).contains(&rows), "{queue}: {rows}");
    }
}
