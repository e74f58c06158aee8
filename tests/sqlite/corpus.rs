//! SQL that others wrote, run against a live WAL database. Statements that fail are fine: only the equality of source
//! and replica counts.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::live::application;
use super::pipeline::{Pipeline, status};
use super::*;

/// A small collection of our own, in the same manner: always there.
const OWN: &str = include_str!("logic.sql");

fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("RLOG_CORPUS").map_or_else(|| PathBuf::from("../shared/corpus"), PathBuf::from);
    Some(root.join("sqllogictest")).filter(|dir| dir.is_dir())
}

/// Every file, or a sample of them; and how many statements of each at most.
fn sample(one_in: usize, statements_max: usize) -> (Vec<PathBuf>, usize) {
    let Some(folder) = folder() else { return (Vec::new(), 0) };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    match std::env::var_os("RLOG_ALL") {
        Some(_) => (files, usize::MAX),
        // Every file takes minutes in all.
        None => (files.into_iter().step_by(one_in).collect(), statements_max),
    }
}

/// Each of them in a database of another kind.
fn setup(n: usize) -> Setup {
    Setup {
        seed: n as u64,
        page_size: 512 << (n % 8),
        encoding: "UTF-8",
        auto_vacuum: n as u64 % 3,
        reserved: 0,
        cache_pages: 2000,
    }
}

#[test]
fn a_replica_equals_its_source_after_sql_that_others_wrote() {
    let (files, statements_max) = sample(13, 3000);
    let mut transactions = 0;
    for (n, path) in files.iter().enumerate() {
        let sql = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let setup = setup(n);
        let dir = tempfile::tempdir().unwrap();
        let (db, mut decoder) = open_pair(&setup, dir.path());
        let mut replica = Replica::new(Connection::open_in_memory().unwrap());
        for statement in sql.split("\n;\n").take(statements_max) {
            let _ = db.execute_batch(statement);
        }
        drain(&mut decoder, &mut replica);
        decoder.check_map().unwrap();
        assert_equal(&db, &replica.db, &path.display().to_string());
        transactions += replica.transactions;
    }
    assert!(transactions > 0 || files.is_empty());
    eprintln!("{transactions} transactions of {} files", files.len());
}

fn end_with_sigterm(child: &mut Option<Child>, what: &str, logs: &dyn Fn() -> String) {
    if let Some(child) = child {
        // SAFETY: the process is our child and has not been waited for, so the number is still its own.
        unsafe { libc::kill(child.id().try_into().unwrap(), libc::SIGTERM) };
    }
    assert_eq!(status(child, what), Some(0), "{what}\n{}", logs());
}

/// Runs the statements against a database that is followed and whose replica is followed; both are equal in the end. Statements that succeeded.
fn follow(setup: &Setup, sql: &str, statements_max: usize, what: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let db = application(&dir.path().join("app.db"), setup);
    let mut pipeline = Pipeline::new(dir.path(), setup.seed % 2 == 0);
    pipeline.extract_and_put(true);
    // An applier wants a queue that is there.
    let started = Instant::now();
    while pipeline.last().is_none() {
        assert!(started.elapsed() < Duration::from_secs(100), "{what}: no snapshot\n{}", pipeline.logs());
    }
    pipeline.apply(true);
    let mut succeeded = 0;
    for (n, statement) in sql.split("\n;\n").take(statements_max).enumerate() {
        succeeded += u64::from(db.execute_batch(statement).is_ok());
        if n == 20 {
            // From here on it is certain that what is written is read from the log, not from a snapshot.
            wait_for(&mut pipeline, &db, "half_way", what);
        }
    }
    wait_for(&mut pipeline, &db, "the_end", what);
    let Pipeline { extract, put, apply, .. } = &mut pipeline;
    let (mut extract, mut put, mut apply) = (extract.take(), put.take(), apply.take());
    let logs = || pipeline.logs();
    end_with_sigterm(&mut extract, "extract", &logs);
    assert_eq!(status(&mut put, "put"), Some(0), "{what}\n{}", logs());
    end_with_sigterm(&mut apply, "apply", &logs);
    pipeline.assert_equal(&db, what);
    succeeded
}

/// What stands in the log before a table that is made now has arrived.
fn wait_for(pipeline: &mut Pipeline<'_>, db: &Connection, mark: &str, what: &str) {
    // A statement may have left a transaction open.
    let _ = db.execute_batch("COMMIT");
    db.execute_batch(&format!("CREATE TABLE {mark}(x)")).unwrap();
    let started = Instant::now();
    while !pipeline.has(mark) {
        let ended = [&mut pipeline.extract, &mut pipeline.put, &mut pipeline.apply]
            .into_iter()
            .flatten()
            .find_map(|child| child.try_wait().unwrap());
        assert!(ended.is_none(), "{what}: {ended:?}\n{}", pipeline.logs());
        assert!(started.elapsed() < Duration::from_secs(100), "{what}: nothing arrives\n{}", pipeline.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_replica_that_follows_equals_its_source_after_sql_that_others_wrote() {
    let (files, statements_max) = sample(24, 600);
    let own = (Path::new("logic.sql"), OWN.to_owned());
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    // Our own with both kinds of page numbers' bookkeeping and with and without a shadow; theirs once each.
    let theirs = files.iter().map(|path| (path.as_path(), read(path)));
    for (n, (path, sql)) in [own.clone(), own].into_iter().chain(theirs).enumerate() {
        let setup = setup(n);
        let most = if n < 2 { usize::MAX } else { statements_max };
        let succeeded = follow(&setup, &sql, most, &format!("{}, {setup:?}", path.display()));
        assert!(succeeded > 0, "{}", path.display());
    }
}
