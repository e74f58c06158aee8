//! `--handover` when the first server is gone before the command is started: what was passed on is known from downstream alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Server, rlog, scratch, shell};

const PATIENCE: Duration = Duration::from_secs(120);

fn builder(name: &str) -> crate::common::ServerBuilder {
    let updates = if name.starts_with("mysql") { "--log-replica-updates=ON" } else { "--log-slave-updates=ON" };
    let builder = Server::new(name).log_bin().option("--binlog-row-metadata=FULL").option(updates);
    if name.starts_with("mysql") { builder.gtid() } else { builder }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A primary with a row, and a replica of it that has the row too, and logs of its own besides.
fn pair(name: &str) -> (Server, Server) {
    let (primary, replica) = (builder(name).start(), builder(name).start());
    let port = primary.port();
    replica.sql(&match replica.is_mariadb() {
        true => format!("change master to master_host='127.0.0.1', master_port={port}, master_user='root', master_use_gtid=slave_pos; start slave"),
        false => format!("change replication source to source_host='127.0.0.1', source_port={port}, source_user='root', source_auto_position=1, get_source_public_key=1; start replica"),
    });
    replica.flush_logs();
    primary.sql("create database shop; create table shop.a (id int primary key, v text); insert into shop.a values (1, 'before')");
    until("the replica has it", || replica.try_rows("select 1 from shop.a").is_ok_and(|rows| rows.len() == 1));
    (primary, replica)
}

/// It has taken over.
fn promote(replica: &Server) {
    let mariadb = replica.is_mariadb();
    replica.sql(if mariadb { "stop slave; reset slave all" } else { "stop replica; reset replica all" });
    replica.sql("insert into shop.a values (2, 'after')");
}

/// `extract --confirm CONFIRM [--handover SUCCESSOR] FIRST | put --cursor CURSOR QUEUE`: the status of each, and what extract said.
fn run(confirm: &str, successor: &Server, first: &str, queue: &Path) -> (i32, String) {
    let script = "rlog-extract --connect-retry 50ms --retry-count 2 --confirm \"$1\" --handover \"$2\" \"$3\" | rlog-queue put --cursor \"$4.cursor\" \"$4\"; echo ${PIPESTATUS[0]}";
    let arguments =
        [confirm.as_ref(), successor.url("").as_ref(), first.as_ref(), queue.as_os_str()].map(ToOwned::to_owned);
    let output = shell(script).args(arguments).env("HOME", "/nonexistent").output().unwrap();
    let status = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    (status, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn held(queue: &Path) -> String {
    let output = rlog("rlog-dump").args(["--format", "json"]).arg(queue).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn copy(from: &Path, to: &Path) {
    shell("cp -r \"$1\" \"$2\" && cp \"$1.cursor\" \"$2.cursor\"").arg(from).arg(to).assert().success();
}

fn goes_on(name: &str) {
    let (mut primary, replica) = pair(name);
    let folder = scratch();
    let [queue, followed, by_cursor] = ["spool", "followed", "by-cursor"].map(|name| folder.path().join(name));
    let (spool, first) = (queue.display().to_string(), primary.url(""));
    assert_eq!(run(&spool, &replica, &first, &queue).0, 0);
    primary.kill();
    copy(&queue, &followed);
    copy(&queue, &by_cursor);

    // One that has not executed what is queued is another history.
    let before = held(&queue);
    let stranger = builder(name).start();
    let (status, said) = run(&spool, &stranger, &first, &queue);
    assert!(status == 80 && said.contains("another history"), "{status} {said}");
    assert_eq!(held(&queue), before);

    promote(&replica);
    let (status, said) = run(&spool, &replica, &first, &queue);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("goes on"), "{said}");
    let lines = held(&queue);
    assert!(lines.matches("\"kind\":\"handover\"").count() == 1 && lines.contains("after\"}"), "{lines}");
    // The same command again: nothing, and then what is new.
    assert_eq!(run(&spool, &replica, &first, &queue).0, 0);
    assert_eq!(held(&queue), lines);
    replica.sql("insert into shop.a values (3, 'and on')");
    assert_eq!(run(&spool, &replica, &first, &queue).0, 0);
    let target = format!("sqlite:{}", folder.path().join("replica.db").display());
    let mut apply = rlog("rlog-apply");
    apply.args(["run", "-q", "--init", "empty", "--create-tables", "--from", &spool, &target]).assert().success();
    rlog("rlog-apply").args(["compare", &replica.url("shop"), &target]).assert().success();
    rlog("rlog-queue").args(["verify", &spool]).assert().success();

    // Followed, it waits for the first server as long as it was told to, and then goes on.
    let mut extract = Command::new(rlog("rlog-extract").get_program());
    extract.args(["-q", "--follow", "--connect-retry", "50ms", "--retry-count", "2", "--confirm"]).arg(&followed);
    extract.args(["--handover", &replica.url(""), &first]).stdout(Stdio::piped()).env("HOME", "/nonexistent");
    let mut extract = extract.spawn().unwrap();
    let mut put = Command::new(rlog("rlog-queue").get_program());
    let frames = extract.stdout.take().unwrap();
    let mut put = put.arg("put").arg(&followed).stdin(frames).stdout(Stdio::null()).spawn().unwrap();
    until("the successor is followed", || held(&followed).contains("and on\"}"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&extract), rustix::process::Signal::TERM).unwrap();
    assert_eq!((extract.wait().unwrap().code(), put.wait().unwrap().code()), (Some(0), Some(0)));

    // A cursor file has one GTID: of one domain that is all, of a set of intervals it is not.
    let cursor = format!("@{}.cursor", by_cursor.display());
    if replica.is_mariadb() {
        let other = folder.path().join("other");
        copy(&by_cursor, &other);
        let (status, said) = run(&cursor, &replica, &first, &by_cursor);
        assert_eq!(status, 0, "{said}");
        assert!(held(&by_cursor).contains("and on\"}"));
        replica.sql("set gtid_domain_id=7; insert into shop.a values (4, 'elsewhere')");
        let (status, said) = run(&format!("@{}.cursor", other.display()), &replica, &first, &other);
        assert!(
            status == 80 && said.contains("nobody can judge") && said.contains("--confirm QUEUE"),
            "{status} {said}"
        );
    } else {
        let (status, said) = run(&cursor, &replica, &first, &by_cursor);
        assert!(status == 80 && said.contains("nobody can judge"), "{status} {said}");
    }
}

#[test]
fn a_mariadb_that_is_gone_at_the_start_has_a_successor() {
    goes_on("mariadb-10.11");
}

#[test]
fn a_mysql_that_is_gone_at_the_start_has_a_successor() {
    goes_on("mysql-9.7");
}
