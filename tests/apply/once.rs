//! Exactly once into SQLite: state, repeats, gaps, identity, fences.

use std::path::{Path, PathBuf};

use rlog::frame::{Kind, Progress};

use crate::common::changes::{Records, Source, table};
use crate::common::{rlog, scratch};

/// A scratch folder with a target.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: scratch() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn target(&self) -> String {
        format!("sqlite:{}", self.path("t.db").display())
    }

    /// `rlog-apply run` of a stream on standard input; returns exit status and messages.
    pub fn run(&self, stream: &[u8], options: &[&str]) -> (i32, String) {
        let output =
            rlog("rlog-apply").arg("run").args(options).arg(self.target()).write_stdin(stream).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// As `run` with a new target and tables created.
    pub fn init(&self, stream: &[u8]) -> (i32, String) {
        self.run(stream, &["--init", "empty", "--create-tables"])
    }

    pub fn open(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("t.db")).unwrap()
    }

    /// Rows of a query, cells separated by `|`.
    pub fn query(&self, sql: &str) -> Vec<String> {
        query(&self.path("t.db"), sql)
    }

    pub fn last(&self) -> String {
        let output = rlog("rlog-apply").arg("last").arg(self.target()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

pub fn query(path: &Path, sql: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells: Vec<String> = (0..columns)
            .map(|index| match row.get_ref(index).unwrap() {
                rusqlite::types::ValueRef::Null => "NULL".into(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Real(number) => number.to_string(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                rusqlite::types::ValueRef::Blob(bytes) => format!("{bytes:02x?}"),
            })
            .collect();
        Ok(cells.join("|"))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn rows_are_inserted_updated_and_deleted() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&t, (2, None)).insert(&t, (3, Some("c"))));
    source.transaction(Records::default().update(&t, (2, None), (2, Some("b"))).delete(&t, (1, Some("a"))));
    source.transaction(Records::default().update(&t, (3, Some("c")), (4, Some("c"))));
    let (status, text) = place.init(&source.end());
    assert_eq!((status, text.as_str()), (0, ""));
    assert_eq!(place.query("select * from t order by id"), ["2|b", "4|c"]);
}

#[test]
fn the_same_stream_again_changes_nothing() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    for id in 0..10 {
        source.transaction(Records::default().insert(&t, (id, Some("x"))));
    }
    source.progress();
    let stream = source.end();
    assert_eq!(place.init(&stream).0, 0);
    let (rows, last) = (place.query("select count(*) from t"), place.last());
    for _ in 0..2 {
        assert_eq!(place.init(&stream), (0, String::new()));
        assert_eq!(place.query("select count(*) from t"), rows);
        assert_eq!(place.last(), last);
    }
    // And what comes behind is applied.
    source.transaction(Records::default().insert(&t, (10, Some("x"))));
    assert_eq!(place.run(&source.end(), &[]).0, 0);
    assert_eq!(place.query("select count(*) from t"), ["11"]);
}

#[test]
fn a_mistyped_target_never_becomes_a_new_database() {
    let place = Place::new();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let stream = source.end();
    let (status, text) = place.run(&stream, &["--create-tables"]);
    assert_eq!(status, 66, "{text}");
    assert!(text.contains("--init empty"), "{text}");
    assert_eq!(place.run(&stream, &["--init", "1:4"]).0, 66);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn a_target_without_state_is_refused_and_left_as_it_is() {
    let place = Place::new();
    place.open().execute_batch("create table mine (x)").unwrap();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let stream = source.end();
    let (status, text) = place.run(&stream, &["--create-tables"]);
    assert_eq!(status, 78, "{text}");
    assert_eq!(place.run(&stream, &["--init", "empty"]).0, 78, "it is not empty");
    assert_eq!(place.query("select name from sqlite_schema where type='table'"), ["mine"]);
}

#[test]
fn a_declared_position_is_where_applying_begins() {
    let place = Place::new();
    let t = table("shop", "t");
    place.open().execute_batch("create table t (id integer primary key, v text)").unwrap();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    let second = source.transaction(Records::default().insert(&t, (2, None)));
    source.transaction(Records::default().insert(&t, (3, None)));
    let stream = source.end();
    let inside = format!("mysql-bin.000001:{}", second.end.offset() - 1);
    assert_eq!(place.run(&stream, &["--init", &inside]).0, 78, "inside a transaction");
    rlog("rlog-apply").args(["reset", "--all", &place.target()]).assert().success();
    let base = format!("mysql-bin.000001:{}", second.end.offset());
    assert_eq!(place.run(&stream, &["--init", &base]), (0, String::new()));
    assert_eq!(place.query("select id from t"), ["3"]);
}

#[test]
fn a_gap_another_source_and_another_history_are_refused() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    assert_eq!(place.init(&source.end()).0, 0);

    let mut ahead = Source::new();
    ahead.at += 200;
    ahead.stream();
    ahead.transaction(Records::default().insert(&t, (2, None)));
    assert_eq!(place.run(&ahead.end(), &[]).0, 81);

    let mut other = Source::of("mariadb", 8);
    other.at += 100;
    other.transaction(Records::default().insert(&t, (2, None)));
    assert_eq!(place.run(&other.end(), &[]).0, 83);

    let mut rewritten = Source::new();
    rewritten.digest = 1;
    rewritten.transaction(Records::default().insert(&t, (1, None)));
    rewritten.transaction(Records::default().insert(&t, (2, None)));
    assert_eq!(place.run(&rewritten.end(), &[]).0, 83);
    assert_eq!(place.query("select id from t"), ["1"]);
}

#[test]
fn progress_and_the_next_file_are_reached_durably() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    source.progress();
    source.next_file();
    source.transaction(Records::default().insert(&t, (2, None)));
    source.progress();
    assert_eq!(place.init(&source.end()).0, 0);
    assert!(place.last().starts_with("2:204-204,"), "{}", place.last());
    // The old file is not there any more; the new one goes on, and the end of the old one is a gap no longer.
    let mut later = Source::new();
    later.next_file();
    later.at += 200;
    later.stream();
    later.transaction(Records::default().insert(&t, (3, None)));
    assert_eq!(place.run(&later.end(), &[]), (0, String::new()));
    assert_eq!(place.query("select id from t"), ["1", "2", "3"]);
}

#[test]
fn a_stream_without_its_end_applies_what_is_whole_and_is_tried_again() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    let one = source.unfinished().len();
    source.transaction(Records::default().insert(&t, (2, None)));
    let unfinished = source.unfinished();
    assert_eq!(place.init(&unfinished[..one + 50]).0, 75);
    assert_eq!(place.query("select id from t"), ["1"]);
    assert_eq!(place.run(&unfinished, &[]).0, 75);
    assert_eq!(place.query("select id from t"), ["1", "2"]);
}

#[test]
fn an_abort_is_passed_on_after_what_is_whole_was_applied() {
    let place = Place::new();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let (status, text) = place.init(&source.abort(65));
    assert_eq!(status, 65);
    assert!(text.contains("the disk is on fire"), "{text}");
    assert_eq!(place.query("select id from t"), ["1"]);
}

#[test]
fn damage_applies_what_came_before_and_names_the_byte() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    let one = source.unfinished().len();
    source.transaction(Records::default().insert(&t, (2, None)));
    let mut stream = source.end();
    stream[one + 60] ^= 1;
    let (status, text) = place.init(&stream);
    assert_eq!(status, 65);
    assert!(text.contains("byte "), "{text}");
    assert_eq!(place.query("select id from t"), ["1"]);
}

#[test]
fn a_gap_frame_stops_the_applier() {
    let place = Place::new();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let gap = Progress {
        from: rlog::frame::Coordinate(source.at),
        to: rlog::frame::Coordinate(source.at + 1000),
        incarnation: source.incarnation,
        reason: "purged".into(),
        ..Progress::default()
    };
    source.frame(Kind::Gap, |out| gap.encode(out));
    assert_eq!(place.init(&source.unfinished()).0, 81);
    assert_eq!(place.query("select id from t"), ["1"]);
}

#[test]
fn what_came_from_this_target_is_not_applied_to_it_again() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    assert_eq!(place.init(&source.end()).0, 0);
    let uuid = place.query("select uuid from rlog_target").remove(0);
    source.origins = vec!["11111111-1111-4111-8111-111111111111".into(), uuid.clone()];
    source.transaction(Records::default().insert(&t, (1, None)));
    source.origins.pop();
    source.transaction(Records::default().insert(&t, (2, None)));
    assert_eq!(place.run(&source.end(), &[]), (0, String::new()));
    assert_eq!(place.query("select id from t"), ["1", "2"]);
    // What passed through another target says so in its state row.
    let origins = place.query("select origins from rlog_applied order by end_at desc limit 1").remove(0);
    assert_eq!(origins, format!("11111111-1111-4111-8111-111111111111 {uuid}"));
}

#[test]
fn two_databases_with_one_table_name_are_refused_until_it_is_said_what_is_meant() {
    let place = Place::new();
    let (a, b) = (table("a", "t"), table("b", "t"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&a, (1, None)));
    source.transaction(Records::default().insert(&b, (1, None)));
    let stream = source.end();
    let (status, text) = place.init(&stream);
    assert_eq!(status, 78, "{text}");
    assert!(text.contains("--qualify"), "{text}");
    assert_eq!(place.query("select count(*) from t"), ["1"]);
    let other = Place::new();
    assert_eq!(other.run(&stream, &["--init", "empty", "--create-tables", "--qualify"]), (0, String::new()));
    assert_eq!(other.query("select count(*) from \"a.t\""), ["1"]);
    assert_eq!(other.query("select count(*) from \"b.t\""), ["1"]);
}

#[test]
fn filters_and_rewrites_choose_and_name_tables() {
    let place = Place::new();
    let (a, b) = (table("shop", "a"), table("shop", "b"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&a, (1, None)).insert(&b, (2, None)));
    let options = ["--init", "empty", "--create-tables", "--qualify", "--rewrite-db", "shop=s2", "--tables", "s2.b"];
    assert_eq!(place.run(&source.end(), &options), (0, String::new()));
    assert_eq!(place.query("select name from sqlite_schema where type='table' and name not like 'rlog%'"), ["s2.b"]);
    assert_eq!(place.query("select id from \"s2.b\""), ["2"]);
}

#[test]
fn until_a_position_or_a_time_leaves_the_rest_for_later() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    let second = source.transaction(Records::default().insert(&t, (2, None)));
    source.transaction(Records::default().insert(&t, (3, None)));
    source.transaction(Records::default().insert(&t, (4, None)));
    let stream = source.end();
    let until = second.to_string();
    assert_eq!(place.run(&stream, &["--init", "empty", "--create-tables", "--until", &until]).0, 0);
    assert_eq!(place.query("select id from t"), ["1", "2"]);
    let inside = format!("1:{}", second.end.offset() + 150);
    assert_eq!(place.run(&stream, &["--until", &inside]).0, 0);
    assert_eq!(place.query("select max(id) from t"), ["3"]);
    assert_eq!(place.run(&stream, &["--until", "@1"]).0, 0);
    assert_eq!(place.query("select max(id) from t"), ["3"]);
    assert_eq!(place.run(&stream, &[]).0, 0);
    assert_eq!(place.query("select max(id) from t"), ["4"]);
}

#[test]
fn triggers_and_cascades_do_not_happen_twice_when_the_log_holds_them() {
    let place = Place::new();
    let (parent, child) = (table("", "parent"), table("", "child"));
    place
        .open()
        .execute_batch(
            "create table parent (id integer primary key, v text);
             create table child (id integer primary key, v text references parent(id) on delete cascade);
             create table seen (n);
             create trigger t after insert on parent begin insert into seen values (new.id); end",
        )
        .unwrap();
    let mut source = Source::of("sqlite", 7);
    source.transaction(Records::default().insert(&parent, (1, None)).insert(&child, (10, Some("1"))));
    // The log of the source holds the cascade itself.
    source.transaction(Records::default().delete(&parent, (1, None)).delete(&child, (10, Some("1"))));
    // A child before its parent: the source's business.
    source.transaction(Records::default().insert(&child, (11, Some("2"))));
    assert_eq!(place.run(&source.end(), &["--init", "oldest"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from seen"), ["0"]);
    assert_eq!(place.query("select id from child"), ["11"]);
}

#[test]
fn cascades_that_the_log_does_not_hold_happen_in_the_target() {
    let place = Place::new();
    let (parent, child) = (table("shop", "parent"), table("shop", "child"));
    place
        .open()
        .execute_batch(
            "create table parent (id integer primary key, v text);
             create table child (id integer primary key, v text references parent(id) on delete cascade)",
        )
        .unwrap();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&parent, (1, None)).insert(&child, (10, Some("1"))));
    source.transaction(Records::default().delete(&parent, (1, None)));
    assert_eq!(place.run(&source.end(), &["--init", "oldest"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from child"), ["0"]);
}

#[test]
fn one_of_duplicate_rows_without_a_key_is_touched() {
    let place = Place::new();
    let mut t = table("shop", "t");
    t.primary_key.clear();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)).insert(&t, (1, None)).insert(&t, (1, Some("x"))));
    source.transaction(Records::default().delete(&t, (1, None)));
    source.transaction(Records::default().update(&t, (1, None), (2, Some("y"))));
    assert_eq!(place.init(&source.end()), (0, String::new()));
    assert_eq!(place.query("select * from t order by id"), ["1|x", "2|y"]);
}

#[test]
fn a_batch_never_merges_transactions_of_different_origins() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    let elsewhere = "11111111-1111-4111-8111-111111111111";
    for id in 0..6 {
        source.origins = if id < 3 { vec![elsewhere.into()] } else { Vec::new() };
        source.transaction(Records::default().insert(&t, (id, None)));
    }
    let (status, text) = place.run(&source.end(), &["--init", "empty", "--create-tables", "-v"]);
    assert!(status == 0 && text.contains("6 transactions in 2 commits"), "{text}");
}

/// Rule 17: a transaction far larger than memory may be passes through a pipe within 64 MiB and some.
#[test]
fn memory_is_bounded_whatever_the_transaction() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    let mut records = Records::default();
    let text = "x".repeat(100);
    for id in 0..600_000 {
        records = records.insert(&t, (id, Some(&text)));
    }
    source.barrier(records);
    let stream = source.end();
    assert!(stream.len() > 64 << 20, "{}", stream.len());
    let mut child = std::process::Command::new(rlog("rlog-apply").get_program())
        .args(["run", "--init", "empty", "--create-tables", &place.target()])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        input.write_all(&stream).unwrap();
    });
    let mut most_kib = 0;
    while child.try_wait().unwrap().is_none() {
        most_kib = most_kib.max(crate::common::memory_kib(child.id(), "VmHWM"));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    writer.join().unwrap();
    assert_eq!(place.query("select count(*) from t"), ["600000"]);
    assert!(most_kib < 80 << 10, "{most_kib} KiB resident");
}

/// What is whole does not wait for what is not: neither for the rest of a frame, nor for a transaction that takes long to come in.
#[test]
fn a_whole_transaction_is_applied_while_the_next_is_still_coming_in() {
    use std::io::Write as _;
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (0, None)));
    assert_eq!(place.init(&source.end()).0, 0);
    let mut ends = Vec::new();
    for id in 1..=2 {
        source.transaction(Records::default().insert(&t, (id, None)));
        ends.push(source.unfinished().len());
    }
    let word = "x".repeat(100);
    source.transaction((3..300_000).fold(Records::default(), |records, id| records.insert(&t, (id, Some(&word)))));
    let stream = source.end();
    let mut command = std::process::Command::new(rlog("rlog-apply").get_program());
    let mut applier = command.arg("run").arg(place.target()).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = applier.stdin.take().unwrap();
    let holds = |count: &str| {
        while place.query("select count(*) from t") != [count] {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    // The first, and in one piece with it the head of the second.
    pipe.write_all(&stream[..ends[0] + 60]).unwrap();
    holds("2");
    // The second, and in one piece with it a part of the third; then more of it all the time.
    let (mut at, sent) = (ends[0] + 60, std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let slowly = scope.spawn(|| {
            while !sent.load(std::sync::atomic::Ordering::Relaxed) {
                let to = (at + 2000).min(stream.len() - 100_000);
                pipe.write_all(&stream[at..to]).unwrap();
                at = to;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        holds("3");
        sent.store(true, std::sync::atomic::Ordering::Relaxed);
        slowly.join().unwrap();
    });
    assert!(at > ends[1] && at < stream.len() - 100_000, "it waited for a pause: {at}");
    pipe.write_all(&stream[at..]).unwrap();
    drop(pipe);
    assert!(applier.wait().unwrap().success());
    assert_eq!(place.query("select count(*) from t"), ["300000"]);
}

/// Rule 8: a target transaction begins only once its commit frame is there, so that a slow channel keeps nobody else waiting.
#[test]
fn a_transaction_that_is_still_coming_in_holds_nothing_in_the_target() {
    use std::io::Write as _;
    use std::process::Stdio;
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (0, None)));
    assert_eq!(place.init(&source.end()).0, 0);
    source.transaction(Records::default().insert(&t, (1, None)));
    let whole = source.unfinished().len();
    source.transaction((2..500).fold(Records::default(), |records, id| records.insert(&t, (id, Some("x")))));
    let stream = source.end();
    let mut command = std::process::Command::new(rlog("rlog-apply").get_program());
    let mut applier = command.arg("run").arg(place.target()).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = applier.stdin.take().unwrap();
    pipe.write_all(&stream[..whole]).unwrap();
    while place.query("select count(*) from t") != ["2"] {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    pipe.write_all(&stream[whole..whole + 3000]).unwrap();
    // The other one waits for no lock, however often it comes.
    let other = place.open();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    other.execute_batch("create table mine (n)").unwrap();
    for _ in 0..20 {
        other.execute_batch("begin immediate; insert into mine values (1); commit").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    pipe.write_all(&stream[whole + 3000..]).unwrap();
    drop(pipe);
    assert!(applier.wait().unwrap().success());
    assert_eq!(place.query("select count(*) from t"), ["500"]);
}
