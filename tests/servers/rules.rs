//! Rules of the design that only a real server can show: an ALTER whose applier is killed, engines that cannot roll back, conflicts of every
//! class.

use std::process::Command;

use rlog::event::{RecordKind, Statement};

use crate::common::changes::{Records, Source, table};
use crate::common::{Server, rlog, scratch};

fn apply(target: &str, stream: &[u8], options: &[&str]) -> (i32, String) {
    let mut command = rlog("rlog-apply");
    let output =
        command.args(["run", "--init", "oldest", "-q"]).args(options).arg(target).write_stdin(stream).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Rule 10: the applier dies while the server executes its ALTER; the next one comes before that has ended.
#[test]
fn an_alter_that_goes_on_after_its_applier_was_killed_is_done_once() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100)); insert into shop.t values (1, 'x')");
    let mut source = Source::new();
    let t = table("shop", "t");
    let statement = Statement {
        sql: b"alter table t add column n int default 7"[..].into(),
        database: "shop".into(),
        tables: vec![("shop".into(), "t".into())],
        ..Statement::default()
    };
    source.transaction(Records::default().insert(&t, (2, None)));
    source.barrier(Records::default().statement(RecordKind::Ddl, &statement));
    source.transaction(Records::default().insert(&t, (3, None)));
    let dir = scratch();
    let file = dir.path().join("s.rlog");
    std::fs::write(&file, source.end()).unwrap();
    // Whoever reads the table keeps the ALTER waiting.
    let mut reader = server.connect();
    use mysql::prelude::Queryable as _;
    reader.query_drop("begin; select * from shop.t").unwrap();
    let run = || {
        let mut command = Command::new(rlog("rlog-apply").get_program());
        command.args(["run", "--init", "oldest", "-q", "--from"]).arg(&file).arg(server.socket_url("")).spawn().unwrap()
    };
    let waiting =
        "select count(*) from information_schema.processlist where info like 'alter%' and state like '%metadata lock%'";
    let mut first = run();
    while server.value(waiting) != "1" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = run();
    // It waits for the lock of the DDL that still goes on.
    let locked = "select count(*) from information_schema.processlist where info like '%GET_LOCK(%rlog-ddl%' and state like '%lock%'";
    while server.value(locked) == "0" {
        assert!(second.try_wait().unwrap().is_none(), "it did not wait");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(server.value(waiting), "1", "the server goes on with it");
    reader.query_drop("commit").unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(server.text("select * from shop.t"), "1\tx\t7\n2\tNULL\t7\n3\tNULL\t7\n");
    assert_eq!(server.value("select count(*) from rlog.rlog_channel where name='ddl'"), "0");
}

/// Rule 15.
#[test]
fn a_table_that_cannot_roll_back_is_refused_until_that_is_accepted() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100)) engine=MyISAM");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let stream = source.end();
    let url = server.socket_url("");
    let (status, text) = apply(&url, &stream, &[]);
    assert!(status == 78 && text.contains("MyISAM") && text.contains("--allow-nontransactional"), "{status} {text}");
    assert_eq!(server.value("select count(*) from shop.t"), "0");
    assert_eq!(apply(&url, &stream, &["--allow-nontransactional"]), (0, String::new()));
    assert_eq!(server.value("select count(*) from shop.t"), "1");
}

/// Rule 16: a letter is written and synced before the commit. An applier that dies while it writes one has committed nothing.
#[test]
fn a_dead_letter_is_written_before_the_commit() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100)); insert into shop.t values (1, 'mine')");
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (2, None)).insert(&t, (1, None)));
    let dir = scratch();
    let (file, letters) = (dir.path().join("s.rlog"), dir.path().join("dead.rlog"));
    std::fs::write(&file, source.end()).unwrap();
    let run = |limit: &str| {
        // No file may grow: the first byte of the letter is the end of the process.
        let script = format!("{limit} exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash"]).arg(rlog("rlog-apply").get_program());
        command.args(["run", "--init", "oldest", "-q", "--on-conflict", "skip", "--dead-letter"]);
        command.arg(&letters).arg("--from").arg(&file).arg(server.socket_url("")).output().unwrap().status
    };
    let killed = run("ulimit -c 0; ulimit -f 0;");
    assert!(!killed.success(), "{killed}");
    assert_eq!(server.text("select id from shop.t"), "1\n", "nothing is committed without its letter");
    // The server may not have noticed yet.
    while run("").code() == Some(75) {}
    assert_eq!(server.text("select id from shop.t order by id"), "1\n2\n");
    rlog("rlog-dump").args(["--verify", letters.to_str().unwrap()]).assert().success();
}

/// A conflict of a class: what the target has, and what comes.
struct Case {
    class: &'static str,
    /// On `t (id, v)`.
    target: &'static str,
    stream: fn() -> Vec<u8>,
    /// Rows of `t` after `skip`, and after `overwrite` where that can be.
    skipped: &'static str,
    overwritten: Option<&'static str>,
    check_before: bool,
}

/// Reads the rows of `t`.
type Reads = Box<dyn Fn() -> String>;

/// Row 9 stands in front of what conflicts, row 10 behind, both in the same transaction.
fn around(records: fn(Records, &rlog::event::TableDefinition) -> Records) -> Vec<u8> {
    let t = table("shop", "t");
    let mut source = Source::new();
    let records = records(Records::default().insert(&t, (9, None)), &t);
    source.transaction(records.insert(&t, (10, None)));
    source.transaction(Records::default().insert(&t, (11, None)));
    source.end()
}

const CASES: [Case; 6] = [
    Case {
        class: "duplicate-key",
        target: "insert into t values (1, 'mine')",
        stream: || around(|records, t| records.insert(t, (1, Some("new")))),
        skipped: "1 mine,9,10,11",
        overwritten: Some("1 new,9,10,11"),
        check_before: false,
    },
    Case {
        class: "row-not-found",
        target: "",
        stream: || around(|records, t| records.update(t, (1, Some("old")), (1, Some("new")))),
        skipped: "9,10,11",
        overwritten: Some("1 new,9,10,11"),
        check_before: false,
    },
    Case {
        class: "row-differs",
        target: "insert into t values (1, 'mine')",
        stream: || around(|records, t| records.update(t, (1, Some("old")), (1, Some("new")))),
        skipped: "1 mine,9,10,11",
        overwritten: Some("1 new,9,10,11"),
        check_before: true,
    },
    Case {
        class: "constraint",
        target: "",
        stream: || around(|records, t| records.insert(t, (1, Some("forbidden")))),
        skipped: "9,10,11",
        overwritten: None,
        check_before: false,
    },
    Case {
        class: "foreign-key",
        target: "",
        stream: || around(|records, t| records.insert(t, (1, Some("nobody")))),
        skipped: "9,10,11",
        overwritten: None,
        check_before: false,
    },
    Case {
        class: "type",
        target: "",
        stream: || around(|records, _| records.insert(&table("shop", "missing"), (1, Some("x")))),
        skipped: "9,10,11",
        overwritten: None,
        check_before: false,
    },
];

/// Every class with every action. `fresh` makes a target with the case's rows and gives its URL and how to read it.
fn every_class(fresh: &mut dyn FnMut(&Case) -> (String, Reads)) {
    for case in &CASES {
        let stream = (case.stream)();
        let check: &[&str] = if case.check_before { &["--check-before"] } else { &[] };
        let dir = scratch();
        let letters = dir.path().join("dead.rlog");
        let with = |action: &str| {
            let policy = format!("{}={action}", case.class);
            [&["--on-conflict", &policy, "--dead-letter", letters.to_str().unwrap()][..], check]
                .concat()
                .iter()
                .map(|text| text.to_string())
                .collect::<Vec<String>>()
        };
        let run = |url: &str, options: &[String]| {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            apply(url, &stream, &options)
        };
        // Stop is the default: nothing of the transaction, and the report says everything.
        let (url, read) = fresh(case);
        let before = read();
        let (status, text) = run(&url, &with("stop"));
        assert_eq!(status, 80, "{}: {text}", case.class);
        for part in ["channel default", "transaction 1:4-104,", case.class, "id=1", "rlog-apply skip 1:4-104,"] {
            assert!(text.contains(part), "{}: {part} in {text}", case.class);
        }
        if case.class.starts_with("row") {
            assert!(text.contains("before: id=1, v='old'") && text.contains("after: id=1, v='new'"), "{text}");
        }
        assert_eq!(read(), before, "{}", case.class);
        assert!(!letters.exists() || std::fs::read(&letters).unwrap().is_empty());
        // Skip: that row alone, recorded, and kept as frames.
        let (url, read) = fresh(case);
        assert_eq!(run(&url, &with("skip")), (0, String::new()), "{}", case.class);
        assert_eq!(read(), case.skipped, "{}", case.class);
        let errors = rlog("rlog-apply").args(["errors", &url]).output().unwrap().stdout;
        let error: serde_json::Value = serde_json::from_slice(&errors).unwrap();
        assert_eq!((&error["class"], &error["outcome"]), (&case.class.into(), &"skipped".into()));
        rlog("rlog-dump").args(["--format", "json", letters.to_str().unwrap()]).assert().success();
        // Overwrite, or the refusal of what cannot be.
        let (url, read) = fresh(case);
        let (status, text) = run(&url, &with("overwrite"));
        match case.overwritten {
            Some(rows) => assert_eq!((status, read().as_str()), (0, rows), "{}: {text}", case.class),
            None => assert_eq!(status, 64, "{}: {text}", case.class),
        }
    }
}

/// `t` admits no 'forbidden', and a `v` of 'nobody' refers to nothing.
const CONSTRAINTS: &str = "check (v <> 'forbidden')";

#[test]
fn every_class_of_conflict_and_every_action_in_sqlite() {
    let dir = scratch();
    let mut number = 0;
    every_class(&mut |case| {
        number += 1;
        let path = dir.path().join(format!("{number}.db"));
        let refers = if case.class == "foreign-key" { "references people (name)" } else { "" };
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "create table people (name text primary key); create table t (id integer primary key, v text {CONSTRAINTS} {refers}); {}",
            case.target
        ))
        .unwrap();
        let url = format!("sqlite:{}", path.display());
        let read = move || {
            let db = rusqlite::Connection::open(&path).unwrap();
            let sql = "select group_concat(x, ',') from (select id || coalesce(' ' || v, '') x from t order by id)";
            db.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
        };
        (url, Box::new(read))
    });
}

#[test]
fn every_class_of_conflict_and_every_action_in_mariadb() {
    let server = Server::new("mariadb-10.11").start();
    let server: &'static Server = Box::leak(Box::new(server));
    every_class(&mut |case| {
        server.sql("drop database if exists shop; drop database if exists rlog; create database shop; use shop");
        let refers = if case.class == "foreign-key" { ", foreign key (v) references people (name)" } else { "" };
        server.sql(&format!(
            "create table people (name varchar(100) primary key); create table t (id int primary key, v varchar(100) {CONSTRAINTS} {refers}); {}",
            case.target
        ));
        let sql = "select group_concat(concat(id, coalesce(concat(' ', v), '')) order by id) from shop.t";
        let read = || server.value(sql).replace("NULL", "");
        (server.socket_url(""), Box::new(read))
    });
    server.sql("shutdown");
}

/// Rule 11: where row events are not allowed, a table with triggers is refused until it is said that they may fire.
#[test]
fn triggers_fire_only_when_that_is_said() {
    let server = Server::new("mariadb-10.11").start();
    server.sql(
        "create database shop; create database rlog; create table shop.t (id int primary key, v varchar(100) charset utf8mb4); \
         create table shop.log (n int); create trigger shop.tr before insert on shop.t for each row insert into shop.log values (new.id); \
         create user plain@localhost; grant all on shop.* to plain@localhost; grant all on rlog.* to plain@localhost",
    );
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, None)));
    let stream = source.end();
    let plain = server.socket_url("").replace("root@", "plain@");
    let (status, text) = apply(&plain, &stream, &[]);
    assert!(status == 78 && text.contains("has triggers (tr)") && text.contains("--triggers fire"), "{status} {text}");
    assert_eq!(server.value("select count(*) from shop.t"), "0");
    assert_eq!(apply(&plain, &stream, &["--triggers", "fire"]), (0, String::new()));
    assert_eq!(server.text("select n from shop.log"), "1\n");
    // Who may send row events fires none, and can be told to.
    source.transaction(Records::default().insert(&t, (2, None)));
    assert_eq!(apply(&server.socket_url(""), &source.end(), &[]), (0, String::new()));
    source.transaction(Records::default().insert(&t, (3, None)));
    assert_eq!(apply(&server.socket_url(""), &source.end(), &["--triggers", "fire"]), (0, String::new()));
    assert_eq!(server.text("select n from shop.log"), "1\n3\n");
    assert_eq!(server.value("select count(*) from shop.t"), "3");
}
