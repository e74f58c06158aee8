//! rlog-apply killed at random moments, doubled, and stopped while another takes over: nothing is lost and nothing is doubled.
//!
//! `RLOG_CRASH_KILLS` sets how many kills (default: a slice), `RLOG_SEED` where the choices start.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::changes::{Records, Source, table};
use crate::common::{rlog, scratch};
use crate::{Campaign, Dice, kills};

/// Transactions in which each row counts: a sum over all of them tells every loss and every repeat.
pub fn stream(transactions: i32) -> Vec<u8> {
    let (t, sums) = (table("shop", "t"), table("shop", "sums"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&sums, (0, Some("0"))));
    for id in 1..=transactions {
        let (old, new) = ((id - 1).to_string(), id.to_string());
        source.transaction(Records::default().insert(&t, (id, Some("x"))).update(
            &sums,
            (0, Some(&old)),
            (0, Some(&new)),
        ));
        if id % 10 == 0 {
            source.progress();
        }
        if id % 100 == 0 {
            source.next_file();
        }
    }
    source.end()
}

pub fn spawn(from: &Path, target: &str, options: &[&str]) -> Child {
    command(from, target, options).stderr(Stdio::null()).spawn().unwrap()
}

pub fn command(from: &Path, target: &str, options: &[&str]) -> Command {
    let mut command = Command::new(rlog("rlog-apply").get_program());
    command.args(["run", "--from"]).arg(from).args(["--init", "empty", "--create-tables"]).args(options).arg(target);
    command.env_remove("RLOG_CONFIG");
    command
}

/// Everything that is applied is applied exactly once, and in the source's order.
pub fn check(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let exists = "select count(*) from sqlite_schema where name='sums'";
    if connection.query_row(exists, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        return 0;
    }
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let exists = one("select count(*) from sqlite_schema where name='t'");
    let rows = if exists == 0 { 0 } else { one("select count(*) from t") };
    let newest = if exists == 0 { 0 } else { one("select coalesce(max(id), 0) from t") };
    assert_eq!((rows, newest), (one("select cast(v as integer) from sums"), rows));
    rows
}

#[test]
fn killed_at_random_moments_every_transaction_is_applied_once() {
    const TRANSACTIONS: i32 = 400;
    let place = scratch();
    let from = place.path().join("stream.rlog");
    std::fs::write(&from, stream(TRANSACTIONS)).unwrap();
    let mut dice = Dice::seeded();
    let mut campaign = Campaign::new("rlog-apply into SQLite", kills(25, 25));
    // How long a run takes that nobody kills.
    let mut whole = Duration::from_millis(150);
    let mut round = 0;
    while campaign.goes_on() {
        round += 1;
        let path = place.path().join(format!("t{round}.db"));
        let target = format!("sqlite:{}", path.display());
        loop {
            // One transaction a commit makes many moments; a merged batch is one.
            let batch = ["1", "1", "7", "1000"][dice.below(4) as usize];
            let started = Instant::now();
            let mut child = spawn(&from, &target, &["--batch", batch]);
            std::thread::sleep(Duration::from_micros(dice.below(whole.as_micros() as u64)));
            if !campaign.goes_on() || child.try_wait().unwrap().is_some() {
                let status = child.wait().unwrap();
                assert!(status.success(), "round {round}: {status}");
                whole = (whole + started.elapsed()) / 2;
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            campaign.killed();
            if path.exists() {
                check(&path);
            }
        }
        assert_eq!(check(&path), i64::from(TRANSACTIONS), "round {round}");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
    }
    campaign.report();
}

#[test]
fn overlapping_runs_of_one_cron_line_apply_once_and_none_fails_for_good() {
    let place = scratch();
    let from = place.path().join("stream.rlog");
    std::fs::write(&from, stream(200)).unwrap();
    let path = place.path().join("t.db");
    let target = format!("sqlite:{}", path.display());
    assert!(spawn(&from, &target, &["--until", "1:104"]).wait().unwrap().success());
    let children: Vec<Child> = (0..50).map(|_| spawn(&from, &target, &["--batch", "3"])).collect();
    for mut child in children {
        let status = child.wait().unwrap().code();
        assert!(matches!(status, Some(0 | 75)), "{status:?}");
    }
    assert!(spawn(&from, &target, &[]).wait().unwrap().success());
    assert_eq!(check(&path), 200);
}

/// A stopped applier whose lock is gone (the file was deleted) comes back to life after another has taken over.
#[test]
fn an_applier_that_was_overtaken_is_fenced() {
    let place = scratch();
    let path = place.path().join("t.db");
    let target = format!("sqlite:{}", path.display());
    let fifo = place.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let stream = stream(100);
    let half = stream.len() / 2;
    let program = rlog("rlog-apply").get_program().to_owned();
    let run = || {
        let mut command = Command::new(&program);
        command.args(["run", "--from", "-", "--init", "empty", "--create-tables", "--batch", "1"]).arg(&target);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut first = run().spawn().unwrap();
    use std::io::Write as _;
    let mut input = first.stdin.take().unwrap();
    input.write_all(&stream[..half]).unwrap();
    // It has applied something, so its epoch stands.
    while !path.exists()
        || rusqlite::Connection::open(&path)
            .unwrap()
            .query_row("select count(*) from rlog_applied", [], |row| row.get::<_, i64>(0))
            .unwrap_or(0)
            < 5
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(place.path().join("t.db-rlog-default.lock")).unwrap();
    let mut second = run().spawn().unwrap();
    second.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(check(&path), 100);
    // The first one goes on where it was.
    let _ = input.write_all(&stream[half..]);
    drop(input);
    let output = first.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(75) && text.contains("taken over"), "{:?} {text}", output.status);
    assert_eq!(check(&path), 100);
}
