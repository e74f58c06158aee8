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
