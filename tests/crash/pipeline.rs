//! The whole pipeline from a real MariaDB at work, `extract | put` and `apply` into SQLite and into another MariaDB, each killed at random moments, all
//! at the same time. In the end both targets are equal to the source.
//!
//! A share of `RLOG_CRASH_KILLS` is its number of kills (default: a slice), `RLOG_SEED` says where the choices start.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Server, rlog, scratch};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// xorshift64*: the same seed, the same choices.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// Runs a command in a process group of its own; with `moment`, kills the group then. `None`: it was killed.
fn run(mut command: Command, moment: Option<Duration>) -> Option<(i32, String)> {
    let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let group = format!("-{}", child.id());
    let killer = moment.map(|moment| {
        std::thread::spawn(move || {
            std::thread::sleep(moment);
            // Nothing is left of a group that has ended.
            let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        })
    });
    let output = child.wait_with_output().unwrap();
    if let Some(killer) = killer {
        killer.join().unwrap();
    }
    output.status.code().map(|code| (code, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Runs commands until `kills` of them were killed, then one that must succeed.
fn again_and_again(what: &str, kills: u64, mut dice: Dice, stop: &AtomicBool, command: &dyn Fn(&mut Dice) -> Command) {
    let mut killed = 0;
    while killed < kills {
        let moment = Duration::from_micros(dice.below(150_000));
        match run(command(&mut dice), Some(moment)) {
            None => killed += 1,
            // As cron would: later. The server may not have noticed yet that the one before is gone.
            Some((0 | 75, _)) => {}
            Some((status, text)) => {
                stop.store(true, Ordering::Relaxed);
                panic!("{what}, after {killed} kills: {status} {text}");
            }
        }
    }
}

/// Until it succeeds.
fn at_last(what: &str, command: &dyn Fn() -> Command) {
    for _ in 0..200 {
        match run(command(), None) {
            Some((0, _)) => return,
            Some((75, _)) => std::thread::sleep(Duration::from_millis(50)),
            other => panic!("{what}: {other:?}"),
        }
    }
    panic!("{what}: it never ends");
}

fn program(name: &str) -> Command {
    let mut command = Command::new(rlog(name).get_program());
    command.env_remove("RLOG_CONFIG");
    command
}

/// Closed logs through `extract | put`, from the first, or from where the queue stands.
fn put(source: &Server, queue: &Path, resume: bool) -> Command {
    let mut logs = source.logs();
    logs.pop();
    let mut command = Command::new("bash");
    let script = match resume {
        true => "\"$1\" --confirm \"$3\" \"${@:4}\" | \"$2\" put --segment-size 16K \"$3\"",
        false => "\"$1\" \"${@:4}\" | \"$2\" put --segment-size 16K \"$3\"",
    };
    command.args(["-uo", "pipefail", "-c", script, "bash"]);
    command.arg(rlog("rlog-extract").get_program()).arg(rlog("rlog-queue").get_program()).arg(queue).args(logs);
    command
}

fn apply(queue: &Path, target: &str, batch: &str) -> Command {
    let mut command = program("rlog-apply");
    command
        .args(["run", "-q", "--init", "empty", "--batch", batch, "--lock-wait", "2", "--from"])
        .arg(queue)
        .arg(target);
    command
}

fn batch(dice: &mut Dice) -> &'static str {
    ["1", "5", "1000"][dice.below(3) as usize]
}

/// Transactions whose sum tells every loss and every repeat, rows that are changed and deleted, and a schema that changes.
fn load(source: &Server, seed: u64, stop: &AtomicBool) {
    use mysql::prelude::Queryable as _;
    let mut dice = Dice::new(seed);
    let mut conn = source.connect();
    let mut columns = 0;
    for id in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (k, v) = (dice.below(200), dice.below(1_000_000));
        conn.query_drop("begin").unwrap();
        conn.query_drop(format!("insert into bench.t (id, v) values ({id}, {v})")).unwrap();
        conn.query_drop("update bench.sums set n=n+1 where id=0").unwrap();
        match dice.below(4) {
            0 => conn.query_drop(format!("replace into bench.k values ({k}, repeat('x', {}))", v % 3000)).unwrap(),
            1 => conn.query_drop(format!("delete from bench.k where id={k}")).unwrap(),
            2 => conn.query_drop(format!("update bench.t set v=v+1 where id % 17 = {}", k % 17)).unwrap(),
            _ => {}
        }
        conn.query_drop("commit").unwrap();
        if id % 400 == 0 && columns < 20 {
            columns += 1;
            conn.query_drop(format!("alter table bench.t add column c{columns} int default {columns}")).unwrap();
        }
        if id % 40 == 0 {
            conn.query_drop("flush binary logs").unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_pipeline_that_is_killed_everywhere_ends_with_equal_databases() {
    let (kills, seed) = (crate::kills(24, 10), number("RLOG_SEED", 1));
    let source = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    let target = Server::new("mariadb-10.11").start();
    source.sql(
        "create database bench; use bench; create table t (id int primary key, v int); create table k (id int primary key, v text);
         create table sums (id int primary key, n int); insert into sums values (0, 0); flush binary logs",
    );
    let dir = scratch();
    let queue = dir.path().join("q");
    let sqlite = format!("sqlite:{}", dir.path().join("t.db").display());
    let server = target.socket_url("");
    at_last("put", &|| put(&source, &queue, false));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (source, queue, stop, sqlite, server) = (&source, &queue, &stop, &sqlite, &server);
        scope.spawn(move || load(source, seed, stop));
        let actors = [
            scope.spawn(move || {
                again_and_again("put", kills / 3, Dice::new(seed + 1), stop, &|dice| {
                    put(source, queue, dice.below(2) == 0)
                });
            }),
            scope.spawn(move || {
                again_and_again("into SQLite", kills / 3, Dice::new(seed + 2), stop, &|dice| {
                    apply(queue, sqlite, batch(dice))
                });
            }),
            scope.spawn(move || {
                again_and_again("into MariaDB", kills / 3, Dice::new(seed + 3), stop, &|dice| {
                    apply(queue, server, batch(dice))
                });
            }),
        ];
        for actor in actors {
            let ended = actor.join();
            stop.store(ended.is_err() || stop.load(Ordering::Relaxed), Ordering::Relaxed);
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    source.flush_logs();
    at_last("put", &|| put(&source, &queue, true));
    at_last("into SQLite", &|| apply(&queue, &sqlite, "1000"));
    at_last("into MariaDB", &|| apply(&queue, &server, "1000"));
    for (name, url) in [("SQLite", &sqlite), ("MariaDB", &target.socket_url("bench"))] {
        let output = rlog("rlog-apply").args(["compare", &source.socket_url("bench"), url]).output().unwrap();
        assert!(output.status.success(), "seed {seed}, {name}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(source.value("select n from bench.sums"), source.value("select count(*) from bench.t"));
    eprintln!("{} transactions, {kills} kills", source.value("select count(*) from bench.t"));
}
