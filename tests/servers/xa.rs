//! XA transactions from real logs: prepared groups wait in the queue, their decisions apply or release them (rule 9).

use std::path::Path;

use rlog::queue::{self, Queue as _};

use crate::common::{Server, rlog, scratch};
use crate::mysql_apply::{DURABLE, fill, run};

fn source(name: &str) -> Server {
    let builder = Server::new(name).log_bin().option("--binlog-row-metadata=FULL");
    if name.starts_with("mysql") { builder.gtid().start() } else { builder.start() }
}

/// Pins of all readers of the queue.
fn pins(queue: &Path) -> usize {
    let queue = queue::dir::DirQueue::open(std::sync::Arc::new(rlog::sys::Os), queue, "default", false).unwrap();
    queue.readers().unwrap().iter().map(|reader| reader.pins.len()).sum()
}

fn prepare(server: &Server, xid: &str, sql: &str) {
    // A session of its own: the prepared transaction outlives it.
    let mut conn = server.connect();
    use mysql::prelude::Queryable as _;
    for sql in [format!("xa start {xid}"), sql.to_owned(), format!("xa end {xid}"), format!("xa prepare {xid}")] {
        conn.query_drop(sql).unwrap();
    }
    let id = conn.connection_id();
    drop(conn);
    // Only when the server has noticed may another session decide.
    while server.value(&format!("select count(*) from information_schema.processlist where id={id}")) != "0" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Everything, into a target whose rows `read` tells.
fn prepared_groups_wait(name: &str, target: &str, read: &dyn Fn() -> String) {
    let source = source(name);
    let dir = scratch();
    let queue = dir.path().join("q");
    let options = ["--init", "empty", "-q"];
    source.sql("create database shop; create table shop.t (id int primary key, v varchar(20))");
    source.sql("insert into shop.t values (1, 'plain')");
    prepare(&source, "'a'", "insert into shop.t values (10, 'a'), (11, 'a')");
    prepare(&source, "'b','branch',7", "insert into shop.t values (20, 'b')");
    prepare(&source, "'c'", "update shop.t set v='c' where id=1");
    source.sql("insert into shop.t values (2, 'behind')");
    // One phase is an ordinary transaction.
    source.sql("xa start 'd'; insert into shop.t values (30, 'd'); xa end 'd'; xa commit 'd' one phase");
    fill(&source, &queue);
    assert_eq!(run(&queue, target, &options), (0, String::new()));
    assert_eq!(read(), "1 plain,2 behind,30 d,");
    assert_eq!(pins(&queue), 3);
    let status = rlog("rlog-apply").args(["status", target]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("3 prepared"), "{status}");
    // The same again changes nothing; nor does a purge take what waits.
    assert_eq!(run(&queue, target, &options), (0, String::new()));
    rlog("rlog-queue").arg("purge").arg(&queue).assert().success();
    source.sql("xa rollback 'b','branch',7; xa commit 'a'");
    fill(&source, &queue);
    assert_eq!(run(&queue, target, &options), (0, String::new()));
    assert_eq!(read(), "1 plain,2 behind,10 a,11 a,30 d,");
    assert_eq!(pins(&queue), 1);
    source.sql("xa commit 'c'; insert into shop.t values (3, 'last')");
    fill(&source, &queue);
    // A pin that a killed run has left is released, one that is missing is made again.
    let state = queue::dir::DirQueue::open(std::sync::Arc::new(rlog::sys::Os), &queue, "default", false).unwrap();
    let reader = state.readers().unwrap().remove(0);
    state.pin(&reader.name, reader.pins[0], false).unwrap();
    state.pin(&reader.name, 1, true).unwrap();
    assert_eq!(run(&queue, target, &options), (0, String::new()));
    assert_eq!(read(), "1 c,2 behind,3 last,10 a,11 a,30 d,");
    assert_eq!(pins(&queue), 0);
    assert_eq!(
        read(),
        source
            .text("select group_concat(concat(id, ' ', v) order by id separator ',') from shop.t")
            .trim_end()
            .to_owned()
            + ","
    );
}

fn into_sqlite(name: &str) {
    let dir = scratch();
    let path = dir.path().join("t.db");
    prepared_groups_wait(name, &format!("sqlite:{}", path.display()), &|| {
        let db = rusqlite::Connection::open(&path).unwrap();
        let mut rows = db.prepare("select id || ' ' || v || ',' from t order by id").unwrap();
        rows.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
    });
}

fn into_server(name: &str, target: &str) {
    let target = Server::new(target).options(DURABLE).start();
    prepared_groups_wait(name, &target.socket_url(""), &|| {
        target
            .rows("select concat(id, ' ', v, ',') from shop.t order by id")
            .into_iter()
            .map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap())
            .collect()
    });
}

#[test]
fn prepared_groups_of_mariadb_wait_for_sqlite() {
    into_sqlite("mariadb-10.11");
}

#[test]
fn prepared_groups_of_mysql_wait_for_sqlite() {
    into_sqlite("mysql-9.7");
}

#[test]
fn prepared_groups_of_mariadb_wait_for_mariadb() {
    into_server("mariadb-10.11", "mariadb-10.11");
}

#[test]
fn prepared_groups_of_mysql_wait_for_mysql() {
    into_server("mysql-9.7", "mysql-9.7");
}

#[test]
fn a_pipe_refuses_what_it_could_not_read_again_and_a_base_behind_the_prepare_is_a_gap() {
    let source = source("mariadb-10.11");
    source.sql("create database shop; create table shop.t (id int primary key)");
    prepare(&source, "'x'", "insert into shop.t values (1)");
    let (file, at) = source.log_position();
    source.sql("xa commit 'x'; insert into shop.t values (2)");
    let frames = rlog("rlog-extract").args(source.closed_logs()).output().unwrap().stdout;
    let dir = scratch();
    let target = format!("sqlite:{}", dir.path().join("t.db").display());
    let apply = |options: &[&str], stream: &[u8]| {
        let output = rlog("rlog-apply").arg("run").args(options).arg(&target).write_stdin(stream).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = apply(&["--init", "empty"], &frames);
    assert!(status == 78 && text.contains("rlog-queue put"), "{status} {text}");
    rlog("rlog-apply").args(["reset", "--all", &target]).assert().success();
    let (status, text) = apply(&["--init", &format!("{file}:{at}")], &frames);
    assert!(status == 81 && text.contains("X'78'"), "{status} {text}");
}
