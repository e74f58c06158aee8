//! Several masters: two that follow each other through rlog (rule 12), and two into one target.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Server, rlog, scratch};
use crate::mysql_apply::{DURABLE, fill};

fn master(id: u32) -> Server {
    let builder = Server::new("mariadb-10.11").log_bin().options(DURABLE);
    builder.option(format!("--server-id={id}")).option("--binlog-row-metadata=FULL").start()
}

/// Everything that `from` has logged, into `to`; how many transactions were applied.
fn carry(from: &Server, to: &Server, queue: &Path) -> usize {
    fill(from, queue);
    let mut command = rlog("rlog-apply");
    let output =
        command.args(["run", "--init", "oldest", "-v", "--from"]).arg(queue).arg(to.socket_url("")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text.strip_prefix("rlog-apply: ").and_then(|text| text.split_once(' ')).expect(&text).0.parse().unwrap()
}

const ROWS: &str = "select * from shop.t order by id; select * from shop.u order by id";

#[test]
fn two_masters_that_follow_each_other_end_equal_and_come_to_rest() {
    let (a, b) = (master(1), master(2));
    let dir = scratch();
    let (ab, ba) = (dir.path().join("ab"), dir.path().join("ba"));
    a.sql("create database shop; create table shop.t (id int primary key, v int)");
    let (mut into_a, mut into_b) = (0, carry(&a, &b, &ab));
    // Each writes rows of its own, each changes what the other wrote, each changes the schema; before and after it hears of the other.
    b.sql("insert into shop.t values (2, 0), (4, 0)");
    a.sql("insert into shop.t values (1, 0), (3, 0)");
    into_a += carry(&b, &a, &ba);
    into_b += carry(&a, &b, &ab);
    b.sql(
        "create table shop.u (id int primary key); insert into shop.u values (7); update shop.t set v=v+1 where id=1",
    );
    into_a += carry(&b, &a, &ba);
    a.sql("alter table shop.u add column w int default 5; update shop.t set v=v+10 where id in (1, 2); insert into shop.u values (8, 8)");
    let mut last = (1, 1);
    for _ in 0..4 {
        last = (carry(&b, &a, &ba), carry(&a, &b, &ab));
        (into_a, into_b) = (into_a + last.0, into_b + last.1);
    }
    assert_eq!(a.text(ROWS), b.text(ROWS));
    assert_eq!(a.text("select * from shop.t order by id"), "1\t11\n2\t10\n3\t0\n4\t0\n");
    assert_eq!(a.text("select * from shop.u order by id"), "7\t5\n8\t8\n");
    // Nothing goes round any more.
    assert_eq!(last, (0, 0));
    assert_eq!((into_a, into_b), (4, 6), "what each has applied, each once");
    let (status, text) = {
        let output =
            rlog("rlog-apply").args(["compare", &a.socket_url("shop"), &b.socket_url("shop")]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(status, 0, "{text}");
}

/// An extractor and an applier that follow a log.
fn follow(from: &Server, to: &Server) -> [Child; 2] {
    let mut extract = Command::new(rlog("rlog-extract").get_program())
        .args(["--follow", "--confirm", "none"])
        .arg(from.logs().remove(0))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let apply = Command::new(rlog("rlog-apply").get_program())
        .args(["run", "--follow", "--init", "oldest", "-q"])
        .arg(to.socket_url(""))
        .stdin(extract.stdout.take().unwrap())
        .spawn()
        .unwrap();
    [extract, apply]
}

#[test]
fn two_masters_at_work_do_not_answer_each_other_for_ever() {
    let (a, b) = (master(1), master(2));
    for server in [&a, &b] {
        server.sql("create database shop; use shop; create table t (id int primary key, v int)");
        server.sql("reset master");
    }
    let mut children = [follow(&a, &b), follow(&b, &a)];
    for id in 0..200 {
        a.sql(&format!("insert into shop.t values ({}, 0)", 2 * id));
        b.sql(&format!("insert into shop.t values ({}, 0)", 2 * id + 1));
    }
    let arrived = || [&a, &b].iter().all(|server| server.value("select count(*) from shop.t") == "400");
    while !arrived() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        for child in children.iter_mut().flatten() {
            assert!(child.try_wait().unwrap().is_none(), "one has ended");
        }
    }
    // At rest: state rows about state rows are few, however long it lasts.
    let log = || [&a, &b].map(|server| server.log_position().1);
    let before = log();
    std::thread::sleep(std::time::Duration::from_secs(3));
    let grown: u64 = log().iter().zip(before).map(|(after, before)| after - before).sum();
    assert!(grown < 20_000, "{grown} bytes in three seconds of rest");
    for child in children.iter_mut().flatten() {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert_eq!(a.text("select * from shop.t"), b.text("select * from shop.t"));
}

/// Two masters into one target by two channels: one is stopped by a conflict, the other goes on.
fn two_into_one(target: &str, read: &dyn Fn() -> String, make_room: &dyn Fn()) {
    let (a, b) = (master(11), master(12));
    let dir = scratch();
    let queue = dir.path().join("q");
    for (server, name) in [(&a, "a"), (&b, "b")] {
        server.sql(&format!("create database {name}; create table {name}.{name}_t (id int primary key, v varchar(9))"));
    }
    let put = |server: &Server, channel: &str| {
        let frames = rlog("rlog-extract").args(server.closed_logs()).output().unwrap();
        let mut command = rlog("rlog-queue");
        command.args(["put", "--channel", channel]).arg(&queue).write_stdin(frames.stdout).assert().success();
    };
    let apply = |channel: &str| {
        let mut command = rlog("rlog-apply");
        let output = command
            .args(["run", "--init", "oldest", "-q", "--channel", channel, "--from"])
            .arg(&queue)
            .arg(target)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (server, name) in [(&a, "a"), (&b, "b")] {
        put(server, name);
        assert_eq!(apply(name), (0, String::new()));
    }
    make_room();
    a.sql("insert into a.a_t values (1, 'a'), (66, 'a'); insert into a.a_t values (2, 'a')");
    b.sql("insert into b.b_t values (1, 'b'), (2, 'b')");
    put(&a, "a");
    put(&b, "b");
    let (status, text) = apply("a");
    assert!(
        status == 80 && text.contains("id=66") && text.contains("rlog-apply skip --channel a 2:"),
        "{status} {text}"
    );
    assert_eq!(apply("b"), (0, String::new()));
    b.sql("insert into b.b_t values (3, 'b')");
    put(&b, "b");
    assert_eq!(apply("b"), (0, String::new()));
    assert_eq!(read(), "66 mine,1 b,2 b,3 b,");
    let output = rlog("rlog-apply").args(["status", "--json", target, "--from"]).arg(&queue).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let states: Vec<serde_json::Value> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((&states[0]["channel"], &states[0]["state"]), (&"a".into(), &"failed".into()), "{lines}");
    assert!(states[0]["transactions_behind"].as_u64().unwrap() >= 2, "{lines}");
    assert_eq!((&states[1]["channel"], &states[1]["state"]), (&"b".into(), &"stopped".into()));
    assert_eq!(states[1]["transactions_behind"], 0);
    // The one that was stopped goes on when its way is clear.
    let position = states[0]["error"]["position"].as_str().unwrap();
    rlog("rlog-apply").args(["skip", "--channel", "a", position, target]).assert().success();
    assert_eq!(apply("a"), (0, String::new()));
    assert_eq!(read(), "2 a,66 mine,1 b,2 b,3 b,");
}

#[test]
fn of_two_masters_into_sqlite_one_is_stopped_and_the_other_goes_on() {
    let dir = scratch();
    let path = dir.path().join("t.db");
    let open = || rusqlite::Connection::open(&path).unwrap();
    let read = || {
        let db = open();
        let mut rows = db.prepare("select * from (select id || ' ' || v || ',' from a_t order by id) union all select * from (select id || ' ' || v || ',' from b_t order by id)").unwrap();
        rows.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
    };
    open().execute_batch("create table keep (x)").unwrap();
    two_into_one(&format!("sqlite:{}", path.display()), &read, &|| {
        open().execute_batch("insert into a_t values (66, 'mine')").unwrap();
    });
}

#[test]
fn of_two_masters_into_mariadb_one_is_stopped_and_the_other_goes_on() {
    let target = Server::new("mariadb-10.11").options(DURABLE).start();
    let read = || {
        let rows = target.rows("select concat(id, ' ', v, ',') from (select 1 n, id, v from a.a_t union all select 2, id, v from b.b_t) x order by n, id");
        rows.into_iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap()).collect()
    };
    two_into_one(&target.socket_url(""), &read, &|| target.sql("insert into a.a_t values (66, 'mine')"));
}
