//! The whole pipeline over a closed log of a real MariaDB, `rlog-extract | rlog-queue put` and `rlog-apply run` at the same time, each of the three
//! processes killed at random moments: into SQLite, and into a real MariaDB.
//!
//! Whatever was killed, the target always shows a state that the source had, and the same commands again end with all of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Server, rlog, scratch};
use crate::{Campaign, Dice, kills};

const TRANSACTIONS: i64 = 150;

/// The log: tables, and transactions each of which counts, by their number and in a sum.
fn log(folder: &Path) -> PathBuf {
    let server = Server::new("mariadb-10.11").log_bin().start();
    server.sql(
        "create database shop; use shop; create table t (id int primary key, v varchar(40)) engine=innodb; \
         create table sums (id int primary key, n int not null) engine=innodb; insert into sums values (0, 0)",
    );
    for id in 1..=TRANSACTIONS {
        server.sql(&format!(
            "begin; insert into shop.t values ({id}, 'x'); update shop.sums set n = n + 1; \
             update shop.t set v = concat(v, '{id}') where id = {id}; commit"
        ));
    }
    server.flush_logs();
    let log = folder.join("bin.000001");
    std::fs::copy(&server.logs()[0], &log).unwrap();
    log
}

/// What is written.
enum Target<'a> {
    Sqlite(PathBuf),
    MariaDb(&'a Server),
}

impl Target<'_> {
    fn url(&self) -> String {
        match self {
            Target::Sqlite(path) => format!("sqlite:{}", path.display()),
            Target::MariaDb(server) => server.socket_url(""),
        }
    }

    fn forget(&self) {
        match self {
            Target::Sqlite(path) => {
                for suffix in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
                }
            }
            Target::MariaDb(server) => server.sql("drop database if exists shop; drop database if exists rlog"),
        }
    }

    /// Transactions that it shows; all of them whole.
    fn transactions(&self) -> i64 {
        let (rows, newest, sum) = match self {
            Target::Sqlite(path) if !path.exists() => (0, 0, 0),
            Target::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                let tables = "select count(*) from sqlite_schema where name in ('t', 'sums')";
                match connection.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap() {
                    2 => {}
                    _ => return 0,
                }
                let all = "select (select count(*) from t), (select coalesce(max(id), 0) from t), (select coalesce(sum(n), 0) from sums)";
                connection.query_row(all, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
            }
            Target::MariaDb(server) => {
                let tables = "select count(*) from information_schema.tables where table_schema = 'shop'";
                if server.value(tables) != "2" {
                    return 0;
                }
                let all = server.text(
                    "select (select count(*) from shop.t), (select coalesce(max(id), 0) from shop.t), (select coalesce(sum(n), 0) from shop.sums)",
                );
                let cells: Vec<i64> = all.trim().split('\t').map(|cell| cell.parse().unwrap()).collect();
                (cells[0], cells[1], cells[2])
            }
        };
        assert_eq!((newest, sum), (rows, rows), "a state that the source never had");
        rows
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(rlog(program).get_program());
    command.env_remove("RLOG_CONFIG").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Starts `extract | put` and `apply`.
fn start(log: &Path, spool: &Path, target: &Target<'_>, dice: &mut Dice) -> [Child; 3] {
    let mut extract = command("rlog-extract");
    extract.arg(log);
    if spool.join("default/writer").exists() && dice.below(2) == 0 {
        extract.arg("--confirm").arg(spool);
    }
    let mut extract = extract.stdout(Stdio::piped()).spawn().unwrap();
    let frames = extract.stdout.take().unwrap();
    let put = command("rlog-queue").args(["put", "--segment-size", "16K"]).arg(spool).stdin(frames).spawn().unwrap();
    let batch = ["1", "7", "1000"][dice.below(3) as usize];
    let workers = ["1", "3"][dice.below(2) as usize];
    let mut apply = command("rlog-apply");
    apply.args(["run", "-q", "--init", "empty", "--batch", batch, "--workers", workers, "--from"]).arg(spool);
    [extract, put, apply.arg(target.url()).spawn().unwrap()]
}

fn campaign(name: &str, kills: u64, target: &Target<'_>) {
    let place = scratch();
    let log = log(place.path());
    let spool = place.path().join("spool");
    let mut dice = Dice::seeded();
    let mut campaign = Campaign::new(name, kills);
    // How long a run takes that nobody kills: what is killed is killed within that.
    let mut whole = Duration::from_millis(200);
    let mut round = 0;
    while campaign.goes_on() {
        round += 1;
        target.forget();
        let _ = std::fs::remove_dir_all(&spool);
        loop {
            let started = Instant::now();
            let mut running = start(&log, &spool, target, &mut dice);
            let victim = dice.below(3) as usize;
            if campaign.goes_on() {
                std::thread::sleep(Duration::from_micros(dice.below(whole.as_micros() as u64)));
                if running[victim].try_wait().unwrap().is_none() {
                    running[victim].kill().unwrap();
                    campaign.killed();
                }
            }
            let ended = running.each_mut().map(|child| child.wait().unwrap());
            let [extracted, put, applied] = ended.map(|status| status.code());
            let place = format!(
                "round {round}, {} killed: {extracted:?} {put:?} {applied:?}",
                ["extract", "put", "apply"][victim]
            );
            // 66: the queue was not there yet. 75: its writer was killed.
            assert!(matches!(put, None | Some(0 | 75)), "{place}");
            assert!(matches!(applied, None | Some(0 | 66 | 75)), "{place}");
            let transactions = target.transactions();
            if [extracted, put, applied] == [Some(0); 3] {
                whole = (whole + started.elapsed()) / 2;
                // The applier may have been at the queue's end before the writer was.
                if transactions == TRANSACTIONS {
                    break;
                }
            }
        }
    }
    campaign.report();
}

#[test]
fn a_pipeline_into_sqlite_killed_at_random_moments_applies_everything_once() {
    let place = scratch();
    campaign("pipeline into SQLite", kills(12, 18), &Target::Sqlite(place.path().join("t.db")));
}

#[test]
fn a_pipeline_into_mariadb_killed_at_random_moments_applies_everything_once() {
    let server = Server::new("mariadb-10.11").start();
    campaign("pipeline into MariaDB", kills(12, 12), &Target::MariaDb(&server));
}
