//! Rule 17 of the design: extract of a SQLite database stays within 64 MiB, three times the largest value and 5 bytes a
//! page, however large the database, its snapshot, one transaction, or the log behind the pin. And what one transaction takes besides for each page that it
//! changes is so little that it is within 64 MiB for 10 GiB of pages of 4 KiB.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// The largest value of the database.
const VALUE_BYTES: u64 = 50_000;

fn limit_kib(pages: u64) -> u64 {
    (64 << 10) + (3 * VALUE_BYTES + 5 * pages) / 1024
}

/// A database of `mib` whose pages are nearly all overflow pages of zeros, which are quickly made, beside a table of
/// small rows.
fn large(path: &Path, page_size: u64, mib: u64) -> u64 {
    let db = Connection::open(path).unwrap();
    let values = (mib << 20) / VALUE_BYTES;
    db.execute_batch(&format!(
        "PRAGMA page_size={page_size}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=2000;
         CREATE TABLE big(id INTEGER PRIMARY KEY, value BLOB);
         CREATE TABLE small(id INTEGER PRIMARY KEY, n INT, what TEXT);
         BEGIN;
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {values})
             INSERT INTO big SELECT x, zeroblob({VALUE_BYTES}) FROM n;
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50000)
             INSERT INTO small SELECT x, x, 'row ' || x FROM n;
         COMMIT;
         PRAGMA journal_mode=WAL;"
    ))
    .unwrap();
    db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

fn extract(path: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rlog-extract"))
        .args(arguments)
        .arg(format!("sqlite:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The most that was resident of a process that still runs, KiB.
fn peak_kib(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What a process that still runs has written until nothing more comes. The stream goes nowhere: an application that has a
/// reader as slow as this one has its source held back by it, not its memory filled.
fn swallow(child: &mut Child, bytes_at_least: u64) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    let output = child.stdout.as_mut().unwrap();
    while bytes < bytes_at_least {
        let got = output.read(&mut buffer).unwrap();
        assert!(got > 0, "ended after {bytes} bytes");
        bytes += got as u64;
    }
    bytes
}

fn end(mut child: Child) {
    // SAFETY: the process is our child and has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id().try_into().unwrap(), libc::SIGTERM) };
    let mut output = child.stdout.take().unwrap();
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn memory_is_bounded_whatever_database_transaction_and_log() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page_size, mib) = (number("RLOG_MEMORY_PAGE_SIZE", 1024), number("RLOG_MEMORY_MIB", 200));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let pages = large(&path, page_size, mib);
    let db = Connection::open(&path).unwrap();
    // The log is never copied back: it grows as behind a pin that is held for long.
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=2000").unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut child = extract(&path, &["--follow", "--snapshot", "--confirm", "none", "-q"]);
    swallow(&mut child, mib << 20);
    let snapshot = peak_kib(&child);
    // One transaction that changes every page of the large values, one that changes every small row, many small ones.
    let half = (mib << 20) / 2;
    db.execute_batch("UPDATE big SET value = randomblob(length(value)) WHERE id % 2").unwrap();
    swallow(&mut child, half + half / 2);
    let large = peak_kib(&child);
    db.execute_batch("UPDATE small SET n = n + 1, what = what || '!'").unwrap();
    for n in 0..500 {
        db.execute("UPDATE big SET value = zeroblob(20000) WHERE id = ?1", [n]).unwrap();
    }
    swallow(&mut child, 500 * 60_000);
    let peak = peak_kib(&child);
    end(child);
    let limit = limit_kib(pages);
    eprintln!(
        "{pages} pages of {page_size}: {snapshot} KiB with the snapshot, {large} with the large transaction, {peak} in all, of {limit}"
    );
    assert!(snapshot <= limit && large <= limit && peak <= limit, "{snapshot}, {large}, {peak} KiB of {limit}");
}

/// What is taken for each page of a transaction that changes all, besides the page map that is there before: three tables of 3 bytes while it is read; behind
/// it one, the wal-index (8), and what a checkpoint makes of it (2).
const BYTES_A_PAGE: u64 = 13;
/// Whatever else there is: pieces on their way through, code that was not needed before.
const BESIDES_KIB: u64 = 1 << 10;

/// A database of small pages: tables whose pages alternate, so that VACUUM moves all; in one each row fills a leaf, in the other each has a chain of pages.
fn of_many_pages(path: &Path, pages: u64) -> u64 {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA page_size=512; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;
         CREATE TABLE leaves(id INTEGER PRIMARY KEY, n INT, what TEXT);
         CREATE TABLE chains(id INTEGER PRIMARY KEY, n INT, what BLOB);
         CREATE TABLE small(id INTEGER PRIMARY KEY, what BLOB);
         BEGIN;",
    )
    .unwrap();
    for batch in 0..(pages / 2000) as i64 {
        let from = batch * 1000;
        let rows = "WITH RECURSIVE n(x) AS (SELECT ?1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1 + ?2 - 1)";
        db.execute(&format!("{rows} INSERT INTO leaves SELECT x, x, printf('%0400d', x) FROM n"), [from, 1000])
            .unwrap();
        db.execute(&format!("{rows} INSERT INTO chains SELECT x, x, zeroblob(5000) FROM n"), [from / 10, 100]).unwrap();
    }
    db.execute_batch("COMMIT; PRAGMA journal_mode=WAL").unwrap();
    db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

/// Reads what a process that still runs writes until a row says `what`.
fn swallow_to(child: &mut Child, db: &Connection, what: &str) {
    db.execute("INSERT INTO small(what) VALUES (?1)", [what.as_bytes()]).unwrap();
    let (mut buffer, mut kept) = (vec![0; 1 << 20], Vec::new());
    let output = child.stdout.as_mut().unwrap();
    loop {
        let got = output.read(&mut buffer).unwrap();
        assert!(got > 0, "ended before {what}");
        kept.extend_from_slice(&buffer[..got]);
        if memchr::memmem::find(&kept, what.as_bytes()).is_some() {
            return;
        }
        kept.drain(..kept.len().saturating_sub(what.len()));
    }
}

#[test]
fn a_transaction_that_changes_every_page_takes_little_for_each() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let pages = of_many_pages(&path, number("RLOG_MEMORY_PAGES", 200_000));
    let db = Connection::open(&path).unwrap();
    // The log is never started again, so what is known of its frames stays.
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-65536").unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut child = extract(&path, &["--follow", "--confirm", "none", "--no-turnover", "-q"]);
    // It stands where it begins, and then has its buffers too.
    swallow(&mut child, 1);
    db.execute_batch(
        "UPDATE leaves SET n = n + 1 WHERE id < 20000; UPDATE chains SET what = randomblob(5000) WHERE id < 500",
    )
    .unwrap();
    swallow_to(&mut child, &db, "a mark behind the start");
    let before = peak_kib(&child);
    let mut peaks = Vec::new();
    for statement in [
        "BEGIN; UPDATE leaves SET n = n + 1; UPDATE chains SET n = n + 1, what = randomblob(5000); COMMIT",
        "VACUUM",
        "BEGIN; DELETE FROM leaves; DROP TABLE chains; COMMIT",
    ] {
        db.execute_batch(statement).unwrap();
        swallow_to(&mut child, &db, &format!("a mark behind {statement}"));
        peaks.push(peak_kib(&child) - before);
    }
    end(child);
    let limit = BESIDES_KIB + pages * BYTES_A_PAGE / 1024;
    eprintln!("{pages} pages: {before} KiB before, and at most {peaks:?} more, of {limit}");
    assert!(peaks.iter().all(|peak| *peak <= limit), "{peaks:?} KiB more, of {limit}");
}
