//! What the queue is told by servers whose commits may be lost in a power cut, and what an applier says about server ids.

use std::sync::Arc;

use rlog::queue::Queue;
use rlog::queue::dir::DirQueue;

use crate::common::changes::{Records, Source, table};
use crate::common::{Server, rlog, scratch};

#[test]
fn where_commits_may_be_lost_a_later_run_acknowledges_what_this_one_applied() {
    // The harness runs with innodb_flush_log_at_trx_commit=2.
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100))");
    let dir = scratch();
    let path = dir.path().join("q");
    let target = format!("mysql://root@localhost/?socket={}", server.socket().display());
    let mut source = Source::new();
    let mut add = |count: i32| {
        for _ in 0..count {
            let id = source.at as i32;
            source.transaction(Records::default().insert(&table("shop", "t"), (id, None)));
        }
        rlog("rlog-queue").arg("put").arg(&path).write_stdin(source.end()).assert().success();
    };
    let apply = || {
        let run = rlog("rlog-apply")
            .args(["run", "-q", "--init", "oldest", "--from"])
            .arg(&path)
            .arg(&target)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let acked = || {
        let queue = DirQueue::open(Arc::new(rlog::sys::Os), &path, "default", false).unwrap();
        queue.readers().unwrap()[0].acked.sequence
    };
    let later = || {
        server.sql(
            "update rlog.rlog_channel set value = concat(cast(substring_index(value, ' ', 1) as signed) - 11000000, \
             substring(value, locate(' ', value))) where name = 'unacknowledged'",
        );
    };
    add(3);
    apply();
    assert_eq!(acked(), 0, "a power cut now may take it back");
    apply();
    assert_eq!(acked(), 0);
    add(2);
    apply();
    assert_eq!(acked(), 0);
    later();
    apply();
    assert_eq!(acked(), 3, "what the first run reached is old enough, what the third did is not");
    later();
    apply();
    assert_eq!(acked(), 5);
    assert_eq!(server.text("select count(*) from rlog.rlog_channel where name = 'unacknowledged'"), "0\n");
    // Each commit is synced: at once.
    server.sql("set global innodb_flush_log_at_trx_commit = 1");
    add(1);
    apply();
    assert_eq!(acked(), 6);
    assert_eq!(server.text("select count(*) from shop.t"), "6\n");
}

#[test]
fn a_server_id_that_source_and_target_share_is_told() {
    let server = Server::new("mariadb-10.11").option("--server-id=77").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100))");
    let target = format!("mysql://root@localhost/?socket={}", server.socket().display());
    let stream = |id| {
        let mut source = Source::new();
        source.server_id(id);
        source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
        source.end()
    };
    let run = |channel: &str, id, options: &[&str]| {
        let output = rlog("rlog-apply")
            .args(["run", "--init", "oldest", "--on-conflict", "overwrite", "--channel", channel])
            .args(options)
            .arg(&target)
            .write_stdin(stream(id))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text.contains("both have server id 77")
    };
    assert!(run("a", 77, &[]));
    assert!(!run("b", 76, &[]));
    assert!(!run("c", 77, &["--same-server-id"]));
}
