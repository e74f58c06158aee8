//! The whole pipeline, killed anywhere, while several processes write the database, checkpoint it in every mode, close and
//! reopen it, and are killed themselves. With a shadow the replica is equal in the end; without one it is equal, or
//! extract has said that there is a gap (81). Never silently wrong.
//!
//! `RLOG_CRASH_KILLS` kills are shared out among the runs; a few by default.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlog::frame::{Kind, SliceFrames};

use super::live::application;
use super::pipeline::{Pipeline, kill, status};
use super::*;

/// Set in the processes that write: the database and the seed.
const WRITER: &str = "RLOG_TEST_SQLITE_WRITER";
/// Kills of one run.
const KILLS_A_RUN: u64 = 6;
const WRITERS: u64 = 3;

fn kills() -> u64 {
    std::env::var("RLOG_CRASH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12)
}

/// A process that writes until it is killed. Not a test: the test below starts this binary again with this one only.
#[test]
fn a_writer() {
    let Ok(task) = std::env::var(WRITER) else { return };
    let (seed, path) = task.split_once(' ').unwrap();
    let seed: u64 = seed.parse().unwrap();
    let path = Path::new(path);
    let mut workload = Workload::new(seed, 1024).called(&format!("w{seed}_"));
    // An orphan must not write for ever.
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        let Ok(db) = Connection::open(path) else { continue };
        db.busy_timeout(Duration::from_millis(500)).unwrap();
        let pages = *workload.rng.pick(&[5, 100, 1000]);
        let _ = db.execute_batch(&format!("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint={pages}"));
        for _ in 0..1 + workload.rng.below(60) {
            workload.transaction(&db);
            if workload.rng.one_in(10) {
                let mode = *workload.rng.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
                let _ = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
            }
            std::thread::sleep(Duration::from_millis(workload.rng.below(8)));
        }
        // Closes; if nobody else has it open, with a checkpoint and without a log.
    }
}

fn writer(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::a_writer", "--nocapture"])
        .env(WRITER, format!("{seed} {}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// One run; whether it ended in a gap.
fn run(seed: u64, shadow: bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let mut rng = workload::Rng(seed);
    let setup = Setup { page_size: 1024, encoding: "UTF-8", auto_vacuum: seed % 3, reserved: 0, ..Setup::of(seed) };
    let db = application(&path, &setup);
    Workload::new(seed, 1024).create_table(&db);
    drop(db);
    let mut writers: Vec<Child> = (0..WRITERS).map(|n| writer(&path, seed * 100 + n)).collect();
    let mut pipeline = Pipeline::new(dir.path(), shadow);
    let mut gap = false;
    let allowed = |code: Option<i32>, what: &str, gap: &mut bool, logs: &dyn Fn() -> String| match code {
        None | Some(0 | 75) => {}
        Some(81) if !shadow => *gap = true,
        // Before the queue was made.
        Some(66) if what == "apply" => {}
        code => panic!("seed {seed}, shadow {shadow}: {what} ended with {code:?}\n{}", logs()),
    };
    for _ in 0..KILLS_A_RUN {
        if pipeline.extract.is_none() {
            let follow = !rng.one_in(3);
            pipeline.extract_and_put(follow);
        }
        if pipeline.apply.is_none() {
            pipeline.apply(true);
        }
        std::thread::sleep(Duration::from_millis(20 + rng.below(250)));
        match rng.below(4) {
            0 => kill(&mut pipeline.apply),
            1 => {
                kill(&mut pipeline.put);
                // It cannot write any more, and says so.
                if rng.one_in(2) {
                    kill(&mut pipeline.extract);
                }
            }
            2 => {
                kill(&mut pipeline.extract);
                // Not while the first snapshot may be on its way: two of them at once are refused (80) by one side or the other.
                if rng.one_in(2) && pipeline.last().is_some() {
                    // What stands in the pipe still arrives, perhaps only when the next run has begun.
                    let put = pipeline.put.take();
                    pipeline.extract_and_put(true);
                    let mut late = put;
                    let logs = || pipeline.logs();
                    allowed(status(&mut late, "put"), "put", &mut gap, &logs);
                }
            }
            _ => {
                let nth = rng.below(WRITERS) as usize;
                let _ = writers[nth].kill();
                let _ = writers[nth].wait();
                writers[nth] = writer(&path, seed * 100 + 10 + rng.below(80));
            }
        }
        // Whoever has lost its partner ends.
        for which in ["extract", "put", "apply"] {
            let whole = pipeline.extract.is_some() == pipeline.put.is_some();
            let child = match which {
                "extract" => &mut pipeline.extract,
                "put" => &mut pipeline.put,
                _ => &mut pipeline.apply,
            };
            let ended = child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            if ended || (which != "apply" && !whole) {
                let code = status(child, which);
                let logs = || pipeline.logs();
                allowed(code, which, &mut gap, &logs);
            }
        }
        if gap {
            break;
        }
    }
    for child in &mut writers {
        let _ = child.kill();
        let _ = child.wait();
    }
    kill(&mut pipeline.apply);
    kill(&mut pipeline.extract);
    if let Some(code) = status(&mut pipeline.put, "put") {
        let logs = || pipeline.logs();
        allowed(Some(code), "put", &mut gap, &logs);
    }
    // The same commands again, until they are through.
    for attempt in 0.. {
        if gap {
            return true;
        }
        pipeline.extract_and_put(false);
        let codes = (status(&mut pipeline.extract, "extract"), status(&mut pipeline.put, "put"));
        if codes == (Some(0), Some(0)) {
            break;
        }
        let logs = || pipeline.logs();
        allowed(codes.0, "extract", &mut gap, &logs);
        allowed(codes.1, "put", &mut gap, &logs);
        assert!(attempt < 20 || gap, "seed {seed}: never through: {codes:?}\n{}", pipeline.logs());
    }
    pipeline.apply(false);
    let code = status(&mut pipeline.apply, "apply");
    assert_eq!(code, Some(0), "seed {seed}: apply\n{}", pipeline.logs());
    let source = Connection::open(&path).unwrap();
    eprintln!("seed {seed}, shadow {shadow}: reached {}", pipeline.last().unwrap_or_default());
    pipeline.assert_equal(&source, &format!("seed {seed}, shadow {shadow}"));
    false
}

#[test]
fn what_is_killed_and_started_again_loses_and_doubles_nothing() {
    let runs = (kills() / KILLS_A_RUN).max(2);
    let first = seeds(0).start;
    let mut gaps = 0;
    for n in 0..runs {
        gaps += u64::from(run(first + n, n % 2 == 0));
    }
    eprintln!("{runs} runs of {KILLS_A_RUN} kills, {gaps} ended in a gap that was said");
}

/// The very first run, before there is a position to go on from: one of the two processes is killed while the snapshot is on its way, again and again.
/// The same command always comes through.
#[test]
fn a_first_snapshot_that_is_killed_at_any_moment_is_begun_anew() {
    let runs = (kills() / KILLS_A_RUN).max(4);
    let first = seeds(0).start;
    let mut gaps = 0;
    'runs: for seed in first..first + runs {
        let shadow = seed % 2 == 0;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let mut rng = workload::Rng(seed ^ 0x51ab);
        let setup = Setup { page_size: 1024, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, ..Setup::of(seed) };
        let db = application(&path, &setup);
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute_batch(
            // Nothing but the kills may come in between: no checkpoint makes a gap.
            "PRAGMA wal_autocheckpoint=0;
             CREATE TABLE large(id INTEGER PRIMARY KEY, what); CREATE TABLE other(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000)
                 INSERT INTO large SELECT x, printf('%.*c', x % 300, 'x') FROM n;
             INSERT INTO other SELECT id, what FROM large WHERE id % 10 = 0",
        )
        .unwrap();
        let mut pipeline = Pipeline::new(dir.path(), shadow);
        // How long a run takes that nobody kills is not known: the moments are drawn from a range that grows.
        for kill_number in 0..KILLS_A_RUN {
            let follow = rng.one_in(2);
            pipeline.extract_and_put(follow);
            std::thread::sleep(Duration::from_micros(rng.below(20_000 << kill_number)));
            let Pipeline { extract, put, .. } = &mut pipeline;
            let (first, second) = if rng.one_in(2) { (extract, put) } else { (put, extract) };
            kill(first);
            if rng.one_in(3) || follow {
                std::thread::sleep(Duration::from_micros(rng.below(3000)));
                kill(second);
            }
            for (which, code) in
                [("extract", status(&mut pipeline.extract, "extract")), ("put", status(&mut pipeline.put, "put"))]
            {
                // Without a shadow, a log that was started again behind what a killed run had handed over is a gap.
                let gap = code == Some(81) && !shadow;
                assert!(
                    gap || matches!(code, None | Some(0 | 75)),
                    "seed {seed}, shadow {shadow}: {which} ended with {code:?}\n{}",
                    pipeline.logs()
                );
            }
            let _ = db.execute("UPDATE large SET what = ?1 WHERE id % 97 = ?1", [kill_number as i64]);
        }
        for attempt in 0.. {
            pipeline.extract_and_put(false);
            let codes = (status(&mut pipeline.extract, "extract"), status(&mut pipeline.put, "put"));
            if codes == (Some(0), Some(0)) {
                break;
            }
            if codes.0 == Some(81) && !shadow {
                gaps += 1;
                continue 'runs;
            }
            let retried = [codes.0, codes.1].iter().all(|code| matches!(code, Some(0 | 75)));
            assert!(retried && attempt < 5, "seed {seed}, shadow {shadow}: {codes:?}\n{}", pipeline.logs());
        }
        pipeline.apply(false);
        assert_eq!(status(&mut pipeline.apply, "apply"), Some(0), "seed {seed}\n{}", pipeline.logs());
        pipeline.assert_equal(&db, &format!("seed {seed}, shadow {shadow}"));
    }
    eprintln!("{runs} runs, {gaps} ended in a gap that was said");
}

/// put was killed when it had written the end of the first snapshot and had not synced it; and while the next put has the queue's lock and has not
/// finished its recovery, the next extract asks where to begin. The recovery will take the snapshot: so it is waited for.
#[test]
fn a_first_snapshot_that_is_whole_and_not_durable_yet_is_not_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = application(&dir.path().join("app.db"), &Setup::of(2));
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'one')").unwrap();
    let program = |path: &str, args: &[&str], stdin: Stdio, stdout: Stdio| {
        let mut command = Command::new(path);
        command.args(args).current_dir(dir.path()).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let (extract, queue) = (env!("CARGO_BIN_EXE_rlog-extract"), env!("CARGO_BIN_EXE_rlog-queue"));
    let confirm = ["--snapshot", "--confirm", "spool", "sqlite:app.db"];
    let mut first = program(extract, &[&["--follow"], &confirm[..]].concat(), Stdio::null(), Stdio::piped());
    let pipe = first.stdout.take().unwrap();
    let put = program(queue, &["put", "--sync-interval", "1h", "spool"], pipe.into(), Stdio::null());
    let (mut first, mut put) = (Some(first), Some(put));
    let spool = rlog::queue::Address::Dir(dir.path().join("spool"));
    let open = || rlog::queue::open(Arc::new(rlog::sys::Os), &spool, "default", false);
    let is_whole = || {
        let status = open().ok()?.status().ok()?;
        Some((status.tail.snapshot?.complete, status.synced_sequence))
    };
    let started = Instant::now();
    while is_whole().is_none_or(|(complete, _)| !complete) {
        assert!(started.elapsed() < Duration::from_secs(100), "no snapshot: {:?}", is_whole());
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(&mut put);
    kill(&mut first);
    assert_eq!(is_whole(), Some((true, 0)), "whole and not durable");

    db.execute_batch("INSERT INTO t VALUES (2, 'two')").unwrap();
    let lock = File::options().write(true).open(dir.path().join("spool/default.lock")).unwrap();
    lock.lock().unwrap();
    let mut second = program(extract, &[&["--once"], &confirm[..]].concat(), Stdio::null(), Stdio::piped());
    // Time to go wrong.
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    drop(lock);
    let mut stream = Vec::new();
    second.stdout.take().unwrap().read_to_end(&mut stream).unwrap();
    let mut told = String::new();
    second.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0), "{told}");
    let mut frames = SliceFrames::new(&stream, 0);
    let mut kinds = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        kinds.extend(frame.kind());
    }
    assert!(!kinds.contains(&Kind::SnapshotBegin), "{kinds:?}");
    assert!(kinds.contains(&Kind::Commit), "{kinds:?}");
}
