//! The whole way from one server to another: its logs through `rlog-extract | rlog-queue put`, and `rlog-apply run` into the other,
//! whatever is killed in between.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Server, Types, rlog, scratch};

/// Without these, every run remarks on it.
pub const DURABLE: [&str; 2] = ["--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1"];

/// A source with full metadata.
fn source() -> Server {
    Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").option("--server-id=7").start()
}

/// Everything that the source logged, into a queue.
pub fn fill(source: &Server, queue: &Path) {
    source.flush_logs();
    let mut logs = source.logs();
    logs.pop();
    let frames = rlog("rlog-extract").args(logs).output().unwrap();
    assert!(frames.status.success(), "{}", String::from_utf8_lossy(&frames.stderr));
    rlog("rlog-queue").arg("put").arg(queue).write_stdin(frames.stdout).assert().success();
}

/// `rlog-apply run` that ends by itself; status and messages.
pub fn run(queue: &Path, url: &str, options: &[&str]) -> (i32, String) {
    let output = rlog("rlog-apply").arg("run").args(options).arg("--from").arg(queue).arg(url).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Small transactions like sysbench's, and some of everything else: DDL, a table without a key, one with triggers, one with cascades.
fn load(server: &Server, transactions: usize) {
    server.sql(
        "create database bench; use bench;
         create table sbtest (id int primary key auto_increment, k int not null, c char(120) not null, pad char(60) not null, key (k));
         create table parent (id int primary key); create table nokey (a int, b varchar(20));
         create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade);
         create table audited (id int primary key, v int); create table audit (n int);
         create trigger tr after insert on audited for each row insert into audit values (new.id);
         insert into sbtest (k, c, pad) select seq, repeat('c', 119), repeat('p', 59) from seq_1_to_500",
    );
    let mut random = 99u64;
    let mut dice = move |sides: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % sides
    };
    for number in 0..transactions {
        let (a, b, c, k) = (dice(500) + 1, dice(500) + 1, dice(500) + 1, dice(100_000));
        let mut sql = format!(
            "begin; update sbtest set k=k+1 where id={a}; update sbtest set c='{k}' where id={b}; delete from sbtest where id={c}; \
             insert into sbtest values ({c}, {k}, 'new', 'row');"
        );
        sql.push_str(&match dice(8) {
            0 => format!("insert into nokey (a, b) values ({}, 'x');", dice(4)),
            1 => format!("delete from nokey where a={} limit 1;", dice(4)),
            2 => format!(
                "insert ignore into parent values ({0}); insert ignore into child values ({1}, {0});",
                dice(9),
                dice(50)
            ),
            3 => format!("delete from parent where id={};", dice(9)),
            4 => format!("replace into audited values ({}, {k});", dice(40)),
            _ => String::new(),
        });
        server.sql(&format!("{sql} commit"));
        if number % 150 == 149 {
            server.sql(&format!("alter table nokey add column c{number} int default {number}"));
        }
    }
}

const TABLES: [(&str, &str); 6] =
    [("sbtest", "id"), ("parent", "id"), ("child", "id"), ("nokey", "a, b"), ("audited", "id"), ("audit", "n")];

fn same_tables(source: &Server, target: &Server, what: &str) {
    for (table, order) in TABLES {
        let query = format!("select * from bench.{table} order by {order}");
        assert_eq!(target.text(&query), source.text(&query), "{table}: {what}");
    }
}

#[test]
fn a_load_arrives_in_another_server_value_by_value() {
    let source = source();
    load(&source, 500);
    let dir = scratch();
    let queue = dir.path().join("q");
    fill(&source, &queue);
    for batch in ["1", "1000"] {
        let sqlite = format!("sqlite:{}", dir.path().join(format!("{batch}.db")).display());
        assert_eq!(run(&queue, &sqlite, &["--init", "empty", "-q", "--batch", batch]), (0, String::new()));
        let output = rlog("rlog-apply").args(["compare", &source.socket_url("bench"), &sqlite]).output().unwrap();
        assert!(output.status.success(), "--batch {batch}: {}", String::from_utf8_lossy(&output.stdout));
        let target = Server::new("mariadb-10.11").log_bin().options(DURABLE).start();
        let options = ["--init", "empty", "--batch", batch];
        assert_eq!(run(&queue, &target.socket_url(""), &options), (0, String::new()));
        same_tables(&source, &target, &format!("--batch {batch}"));
        assert_eq!(run(&queue, &target.socket_url(""), &options), (0, String::new()), "again");
        same_tables(&source, &target, "applied twice");
        // The state row stands in the target's own log as a row, whatever its default format.
        let log = target.closed_logs().swap_remove(0);
        let verbose = target.program("mariadb-binlog").arg("-v").arg(log).output().unwrap();
        let verbose = String::from_utf8_lossy(&verbose.stdout).into_owned();
        assert!(verbose.contains("### INSERT INTO `rlog`.`rlog_applied`"), "{}", &verbose[..2000]);
    }
}

#[test]
fn every_type_arrives_through_the_queue() {
    let source = source();
    let types = Types::of(&source);
    types.create(&source, "shop");
    types.load(&source, "shop");
    let dir = scratch();
    let queue = dir.path().join("q");
    fill(&source, &queue);
    let target = Server::new("mariadb-10.11").options(DURABLE).start();
    assert_eq!(run(&queue, &target.socket_url(""), &["--init", "empty"]), (0, String::new()));
    let query = "set time_zone='+00:00'; select * from shop.types order by id";
    assert_eq!(target.text(query), source.text(query));
}

#[test]
fn an_applier_that_is_killed_again_and_again_applies_everything_once() {
    let source = source();
    load(&source, 1200);
    let dir = scratch();
    let queue = dir.path().join("q");
    fill(&source, &queue);
    let target = Server::new("mariadb-10.11").start();
    let url = target.socket_url("");
    let mut random = 4711u64;
    let mut kills = 0;
    for round in 0.. {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("rlog-apply"))
            .args(["run", "--init", "empty", "--batch", ["1", "3", "20"][round % 3], "--from"])
            .arg(&queue)
            .arg(&url)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Soon at first, so that it is killed on a fast machine; later and later, so that it ends on a slow one.
        std::thread::sleep(Duration::from_millis(10 + (random >> 33) % (20 + 10 * round as u64)));
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        match ended {
            // The server has not noticed yet that the one before is gone: as cron would, try again.
            Some(status) if status.code() == Some(75) => {}
            Some(status) => {
                assert!(status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                break;
            }
            None => kills += 1,
        }
        assert!(round < 400, "it never ends");
    }
    assert!(kills >= 3, "killed {kills} times only");
    same_tables(&source, &target, &format!("{kills} kills"));
    assert_eq!(target.value("select count(*) from rlog.rlog_channel where name='ddl'"), "0");
}

#[test]
fn no_password_reaches_the_command_line_or_the_messages() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create user canary@localhost identified by 'sec-ret-42'; grant all on *.* to canary@localhost; create user canary@'127.0.0.1' identified by 'sec-ret-42'; grant all on *.* to canary@'127.0.0.1'");
    let dir = scratch();
    let port = server.port();
    let (status, text) = run(dir.path(), &format!("mysql://canary:sec-ret-42@127.0.0.1:{port}/"), &[]);
    assert_eq!(status, 64);
    assert!(!text.contains("sec-ret-42") && text.contains("defaults-file"), "{text}");
    let file = dir.path().join("my.cnf");
    std::fs::write(&file, "[client]\nuser=canary\npassword=sec-ret-42\n").unwrap();
    let url = format!("mysql://127.0.0.1:{port}/?defaults-file={}", file.display());
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let last = |url: &str| {
        let output = rlog("rlog-apply").arg("last").arg(url).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, text) = last(&url);
    assert_eq!(status, 77, "{text}");
    assert!(text.contains("chmod 600") && !text.contains("sec-ret-42"), "{text}");
    mode(0o600);
    let (status, text) = last(&url);
    assert!(!text.contains("no connection"), "{status} {text}");
    // localhost is the socket that the file names, as for every client; a port is a port.
    std::fs::write(&file, format!("[rlog]\nuser=canary\npassword=sec-ret-42\nsocket={}\n", server.socket().display()))
        .unwrap();
    let (status, text) = last(&format!("mysql://localhost/?defaults-file={}", file.display()));
    assert!(!text.contains("no connection"), "{status} {text}");
    let (status, text) = last(&format!("mysql://localhost:1/?defaults-file={}", file.display()));
    assert!(status == 75 && text.contains("localhost:1") && !text.contains("Error {"), "{status} {text}");
    std::fs::write(&file, "[client]\nuser=canary\npassword=wrong-pass\n").unwrap();
    let (status, text) = last(&url);
    assert_eq!(status, 77, "{text}");
    assert!(!text.contains("wrong-pass"), "{text}");
}
