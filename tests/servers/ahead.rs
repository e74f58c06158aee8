//! Several sessions that run ahead of each other: what a real MariaDB wrote arrives as it was, however much batches overlap.

use crate::common::{Server, rlog};

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

const TABLES: [&str; 5] = ["hot", "uniq", "nokey", "parent", "child"];

const SCHEMA: &str = "create database shop; use shop; \
    create table hot (id int primary key, n int not null, v varchar(40)) engine=innodb; \
    create table uniq (id int primary key, u int not null, unique key (u)) engine=innodb; \
    create table nokey (a int, b varchar(20)) engine=innodb; \
    create table parent (id int primary key) engine=innodb; \
    create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade) engine=innodb; \
    insert into hot select seq, 0, 'x' from seq_1_to_40; insert into uniq select seq, seq from seq_1_to_20; \
    insert into parent select seq from seq_1_to_10; insert into child select seq, 1 + seq % 10 from seq_1_to_20";

/// Some changes of one kind. Those of the first kinds can run ahead; the last ones cannot.
fn changes(dice: &mut Dice, kinds: u64) -> String {
    let (a, b) = (dice.below(40) + 1, dice.below(20) + 1);
    match dice.below(kinds) {
        0 | 1 => format!("update hot set n = n + 1, v = '{b}' where id = {a}"),
        2 => format!("delete from hot where id = {a}; insert into hot values ({a}, {b}, 'again')"),
        // A row that comes and goes.
        3 => format!("insert into hot values ({}, 1, 'short'); delete from hot where id = {}", a + 1000, a + 1000),
        // A key moves, and moves back some time.
        4 => format!("update hot set id = {} where id = {a}; update hot set id = {a} where id = {}", a + 500, a + 500),
        // Unique values go from row to row.
        5 if b < 20 => format!(
            "select u into @one from uniq where id = {b}; select u into @two from uniq where id = {b} + 1; \
             update uniq set u = -1 where id = {b}; update uniq set u = @one where id = {b} + 1; \
             update uniq set u = @two where id = {b}"
        ),
        // A value that no other row ever had.
        5 | 6 => {
            let fresh = 1_000_000 + dice.below(1_000_000_000);
            format!("delete from uniq where id = {b}; insert into uniq values ({b}, {fresh})")
        }
        7 => format!("insert into nokey values ({a}, 'x'); delete from nokey where a < {} limit 1", a / 2),
        _ => format!("replace into child values ({b}, 1 + {a} % 10); update child set p = 1 + {b} % 10 where id = {b}"),
    }
}

fn arrives(kinds: u64, seed: u64) {
    let source = Server::new("mariadb-10.11").log_bin().start();
    source.sql(SCHEMA);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    source.sql("set sql_mode = ''; use shop");
    for _ in 0..300 {
        let changes: Vec<String> = (0..1 + dice.below(3)).map(|_| changes(&mut dice, kinds)).collect();
        source.sql(&format!("begin; {}; commit", changes.join("; ")));
    }
    source.flush_logs();
    let target = Server::new("mariadb-10.11").start();
    let frames = rlog("rlog-extract").arg(&source.logs()[0]).output().unwrap();
    assert!(frames.status.success(), "{frames:?}");
    let apply = rlog("rlog-apply")
        .args(["run", "--workers", "4", "--batch", "4", "--init", "empty", "--from", "-"])
        .arg(target.socket_url(""))
        .write_stdin(frames.stdout)
        .output()
        .unwrap();
    assert!(apply.status.success(), "{apply:?}");
    for table in TABLES {
        let rows = |server: &Server| {
            let text = server.text(&format!("select * from shop.{table}"));
            let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(rows(&target), rows(&source), "{table}, seed {seed}");
    }
}

#[test]
fn batches_that_run_ahead_and_overlap_arrive_as_they_were() {
    for seed in 1..=2 {
        arrives(7, seed);
    }
}

#[test]
fn batches_that_cannot_run_ahead_take_their_turn_between_those_that_can() {
    arrives(9, 1);
}

/// Large transactions, some of which depend on the one before.
const LARGE: [&str; 12] = [
    "insert into a select seq, 0, md5(seq) from seq_1_to_30000",
    "insert into b select seq, seq, md5(seq) from seq_1_to_30000",
    "update a set n = n + 1",
    "delete from b where id <= 25000",
    // Unique values that the one before has let go of; rows that it has made; small ones in between.
    "insert into b select seq, seq, md5(seq) from seq_1_to_25000",
    // From behind, where the one before has not come yet.
    "update b set u = u + 100000, v = 'x' where id <= 25000 order by id desc",
    "begin; update a set n = 7 where id = 1; update b set v = 'y' where id = 2; commit",
    "insert into nokey select seq, repeat(md5(seq), 1000) from seq_1_to_40",
    "delete from nokey where a > 1",
    "insert into child select seq, seq from seq_1_to_30000",
    "delete from parent where id between 10 and 29000",
    "insert into parent select seq from seq_10_to_29000",
];

fn large_source() -> (Server, Vec<u8>) {
    let source = Server::new("mariadb-10.11").log_bin().start();
    source.sql(
        "create database shop; use shop; create table a (id int primary key, n int, v varchar(40)) engine=innodb; \
         create table b (id int primary key, u int, v varchar(40), unique key (u)) engine=innodb; create table nokey (a int, b mediumtext) engine=innodb; \
         create table parent (id int primary key) engine=innodb; insert into parent select seq from seq_1_to_30000; \
         create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade) engine=innodb",
    );
    for sql in LARGE {
        source.sql(&format!("use shop; {sql}"));
    }
    source.flush_logs();
    let frames = rlog("rlog-extract").arg(&source.logs()[0]).output().unwrap();
    assert!(frames.status.success(), "{frames:?}");
    (source, frames.stdout)
}

fn large_tables(server: &Server) -> String {
    let sums = ["a", "b", "parent", "child"].map(|table| server.text(&format!("checksum table shop.{table}")));
    sums.concat() + &server.text("select a, md5(b) from shop.nokey order by a")
}

#[test]
fn large_transactions_run_beside_each_other_and_arrive_as_they_were() {
    let (source, frames) = large_source();
    let dir = crate::common::scratch();
    let file = dir.path().join("s.rlog");
    std::fs::write(&file, frames).unwrap();
    // With two sessions, two at a time; with more, a third begins while one commits.
    for workers in ["2", "4"] {
        let target = Server::new("mariadb-10.11").start();
        let apply = rlog("rlog-apply")
            .args(["run", "--workers", workers, "--init", "empty", "--from"])
            .arg(&file)
            .arg(target.socket_url(""))
            .output()
            .unwrap();
        assert!(apply.status.success(), "{apply:?}");
        assert_eq!(large_tables(&target), large_tables(&source));
    }
}

/// Rule 17, with as many large transactions in the works as there may be.
#[test]
fn memory_is_bounded_whatever_large_transactions_run_beside_each_other() {
    use crate::common::changes::{Records, Source, table};
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100))");
    let t = table("shop", "t");
    let word = "x".repeat(100);
    let mut source = Source::new();
    for n in 0..4 {
        let ids = n * 90_000..(n + 1) * 90_000;
        source.barrier(ids.fold(Records::default(), |records, id| records.insert(&t, (id, Some(&word)))));
    }
    let dir = crate::common::scratch();
    let file = dir.path().join("s.rlog");
    std::fs::write(&file, source.end()).unwrap();
    let mut applier = std::process::Command::new(rlog("rlog-apply").get_program())
        .args(["run", "-q", "--workers", "4", "--init", "oldest", "--from"])
        .arg(&file)
        .arg(server.socket_url(""))
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(crate::common::memory_kib(applier.id(), "VmHWM"));
        if let Some(status) = applier.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    assert_eq!(server.text("select count(*), max(id) from shop.t"), "360000\t359999\n");
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB");
}

#[test]
fn large_transactions_are_applied_once_by_an_applier_that_is_killed() {
    let (source, frames) = large_source();
    let dir = crate::common::scratch();
    let file = dir.path().join("s.rlog");
    std::fs::write(&file, frames).unwrap();
    let target = Server::new("mariadb-10.11").start();
    let mut dice = Dice(7);
    let mut wait_ms = 100;
    loop {
        let mut applier = std::process::Command::new(rlog("rlog-apply").get_program())
            .args(["run", "-q", "--workers", "4", "--init", "empty", "--lock-wait", "20s", "--from"])
            .arg(&file)
            .arg(target.socket_url(""))
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(dice.below(wait_ms)));
        // Later and later, so that any machine comes to the end.
        wait_ms += wait_ms / 8;
        if let Some(status) = applier.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            break;
        }
        applier.kill().unwrap();
        applier.wait().unwrap();
    }
    assert_eq!(large_tables(&target), large_tables(&source));
}

#[test]
fn a_conflict_of_a_large_transaction_keeps_all_before_it_and_nothing_of_it() {
    use crate::common::changes::{Records, Source, table};
    let server = Server::new("mariadb-10.11").start();
    server.sql(
        "create database shop; create table shop.t (id int primary key, v varchar(100)); insert into shop.t values (25000, 'mine')",
    );
    let t = table("shop", "t");
    let word = "x".repeat(90);
    let rows =
        |ids: std::ops::Range<i32>| ids.fold(Records::default(), |records, id| records.insert(&t, (id, Some(&word))));
    let mut source = Source::new();
    for ids in [0..11_000, 11_000..22_000, 22_000..33_000, 33_000..44_000] {
        source.barrier(rows(ids));
    }
    let stream = source.end();
    let run = || {
        let mut command = rlog("rlog-apply");
        command.args(["run", "-q", "--workers", "4", "--init", "oldest"]).arg(server.socket_url(""));
        let output = command.write_stdin(stream.as_slice()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = run();
    assert!(status == 80 && text.contains("duplicate-key") && text.contains("id=25000"), "{status} {text}");
    assert_eq!(server.text("select count(*), max(id) from shop.t"), "22001\t25000\n");
    server.sql("delete from shop.t where id = 25000");
    assert_eq!(run(), (0, String::new()));
    assert_eq!(server.text("select count(*), max(id) from shop.t"), "44000\t43999\n");
}

#[test]
fn a_large_transaction_that_needs_the_one_beside_it_gives_way() {
    use crate::common::changes::{Records, Source, table};
    use mysql::prelude::Queryable as _;
    let server = Server::new("mariadb-10.11").start();
    server.sql(
        "create database shop; create table shop.gate (id int primary key, v varchar(100) charset utf8mb4); insert into shop.gate values (0, 'shut'); \
         create table shop.t (id int primary key, v varchar(100) charset utf8mb4)",
    );
    let (gate, t) = (table("shop", "gate"), table("shop", "t"));
    let (old, new) = ("x".repeat(90), "y".repeat(90));
    let mut source = Source::new();
    let open = Records::default().update(&gate, (0, Some("shut")), (0, Some("open")));
    source.barrier((0..11_000).fold(open, |records, id| records.insert(&t, (id, Some(&old)))));
    source.barrier(
        (0..11_000).fold(Records::default(), |records, id| records.update(&t, (id, Some(&old)), (id, Some(&new)))),
    );
    source.barrier((11_000..22_000).fold(Records::default(), |records, id| records.insert(&t, (id, Some(&new)))));
    let dir = crate::common::scratch();
    let file = dir.path().join("s.rlog");
    std::fs::write(&file, source.end()).unwrap();
    // The first one waits at the gate before its other rows; the second one finds none of them.
    let mut holder = server.connect();
    holder.query_drop("begin").unwrap();
    holder.query_drop("select * from shop.gate for update").unwrap();
    let mut applier = std::process::Command::new(rlog("rlog-apply").get_program())
        .args(["run", "-q", "--workers", "2", "--init", "oldest", "--from"])
        .arg(&file)
        .arg(server.socket_url(""))
        .spawn()
        .unwrap();
    while server.text("show global status like 'Com_rollback'").trim_end().ends_with("\t0") {
        assert!(applier.try_wait().unwrap().is_none(), "it waits at the gate");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.value("select count(*) from shop.t"), "0");
    holder.query_drop("commit").unwrap();
    assert!(applier.wait().unwrap().success());
    assert_eq!(server.text("select count(*), min(v) = max(v), max(v) = repeat('y', 90) from shop.t"), "22000\t1\t1\n");
}
