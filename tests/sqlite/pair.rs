//! A database file and its log at rest, as after a crash or on a copied disk.

use std::path::PathBuf;

use rlog::error::Result;
use rlog::frame::FrameWriter;
use rlog::source::{self, Input, Options, Step};

use super::frames::Applier;
use super::*;

/// Reads the files to their end; notes of the source come along.
fn read(path: PathBuf) -> Result<(Vec<u8>, Vec<String>)> {
    let mut source = source::open(Input::Files(vec![path]), Options::default())?;
    let mut writer = FrameWriter::new();
    while source.step(&mut writer)? != Step::End {}
    let notes = source.take_notes();
    Ok((writer.bytes().to_vec(), notes))
}

/// Copies what a crash would leave; the wal-index only if it survives too.
fn copy(from: &std::path::Path, to: &std::path::Path, with_index: bool) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("source.db{suffix}");
        if suffix != "-shm" || with_index {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[test]
fn a_log_at_rest_is_told_from_where_the_database_file_is_known() {
    let mut passed_over = 0;
    for seed in seeds(4) {
        let setup = Setup { cache_pages: 2000, ..Setup::of(seed + 40) };
        let (dir, rest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (db, _) = open_pair(&setup, dir.path());
        let mut workload = Workload::new(seed, setup.page_size);
        for _ in 0..12 {
            workload.transaction(&db);
        }
        // Every other run a checkpoint copies the first half back: that half cannot be told any more.
        let checkpointed = seed % 2 == 0;
        let reader = checkpointed.then(|| {
            // Holds a read mark, so that the log is not started again behind the checkpoint.
            let reader = Connection::open(dir.path().join("source.db")).unwrap();
            reader.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema").unwrap();
            reader
        });
        if checkpointed {
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        } else {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
        // What SQLite makes of a copy at this moment, rowids and all.
        let base = tempfile::tempdir().unwrap();
        copy(dir.path(), base.path(), false);
        for _ in 0..12 {
            workload.transaction(&db);
        }
        for with_index in [true, false] {
            copy(dir.path(), rest.path(), with_index);
            let (bytes, notes) = read(rest.path().join("source.db-wal")).unwrap();
            passed_over += u64::from(notes.iter().any(|note| note.contains("passed over")));
            if !with_index && !checkpointed && notes.iter().any(|note| note.contains("passed over")) {
                // A page that was rewritten as it was looks like one that was copied back.
                continue;
            }
            let replica = tempfile::tempdir().unwrap();
            copy(base.path(), replica.path(), false);
            let mut replica = Applier::new(Connection::open(replica.path().join("source.db")).unwrap());
            replica.take(&bytes);
            assert!(replica.ended);
            assert_equal(&db, &replica.db, &format!("{setup:?}, wal-index {with_index}"));
        }
        drop(reader);
    }
    assert!(passed_over > 0);
}

#[test]
fn a_database_without_a_log_is_an_empty_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let (bytes, _) = read(path).unwrap();
    let mut replica = Applier::new(Connection::open_in_memory().unwrap());
    replica.take(&bytes);
    assert!(replica.ended && replica.transactions == 0);
}

fn dump(arguments: &[&str], path: &std::path::Path) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_rlog-dump")).args(arguments).arg(path).output().unwrap()
}

/// The log alone survives: its pages are shown for what they are, and nothing is claimed about what was before.
#[test]
fn a_log_without_its_database_shows_what_its_pages_hold() {
    let (dir, rest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let setup = Setup { seed: 1, page_size: 512, encoding: "UTF-16le", auto_vacuum: 0, reserved: 0, cache_pages: 2000 };
    let (db, _) = open_pair(&setup, dir.path());
    db.execute_batch("CREATE TABLE kept(id INTEGER PRIMARY KEY, what); INSERT INTO kept VALUES (1, 'before')").unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    db.execute_batch("INSERT INTO kept VALUES (2, 'größer'), (3, x'00ff')").unwrap();
    db.execute_batch("CREATE TABLE other(a); INSERT INTO other VALUES ('in a table that the log names')").unwrap();
    let log = rest.path().join("lost.db-wal");
    std::fs::copy(dir.path().join("source.db-wal"), &log).unwrap();
    let refused = dump(&[], &log);
    assert_eq!(refused.status.code(), Some(66));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--salvage"));
    let salvaged = dump(&["--salvage"], &log);
    let shown = String::from_utf8(salvaged.stdout).unwrap();
    assert_eq!(salvaged.status.code(), Some(65), "{}", String::from_utf8_lossy(&salvaged.stderr));
    assert!(shown.contains("Pages have no base"), "{shown}");
    assert!(shown.contains("leaf of a table other"), "{shown}");
    assert!(shown.contains("'in a table that the log names'") && shown.contains("rowid 3: NULL, 0x00ff"), "{shown}");
    // Cut, and with a byte changed: what is whole before it is still shown.
    let mut bytes = std::fs::read(&log).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let salvaged = dump(&["--salvage"], &log);
    assert_eq!(salvaged.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&salvaged.stdout).contains("rowid 3: NULL, 0x00ff"));
    // A byte changed in the middle: what stands behind it is shown too, and what was passed over is told.
    let mut bytes = std::fs::read(dir.path().join("source.db-wal")).unwrap();
    let first = 32 + 24 + 200;
    bytes[first] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let salvaged = dump(&["--salvage"], &log);
    assert_eq!(salvaged.status.code(), Some(65));
    let (shown, notes) = (String::from_utf8(salvaged.stdout).unwrap(), String::from_utf8(salvaged.stderr).unwrap());
    assert!(shown.contains("frames 1 to 1 are damaged") && !shown.contains("rowid 3: NULL, 0x00ff"), "{shown}");
    assert!(shown.contains("'in a table that the log names'"), "{shown}");
    assert!(notes.contains("1 frames were passed over"), "{notes}");
    assert!(shown.contains("transaction, or the rest of one, of frames 2 to "), "{shown}");
    // With the database beside it the changes up to the damage are told, and the pages behind it.
    std::fs::copy(dir.path().join("source.db"), rest.path().join("lost.db")).unwrap();
    let salvaged = dump(&["--salvage"], &log);
    assert_eq!(salvaged.status.code(), Some(65));
    let (shown, notes) = (String::from_utf8(salvaged.stdout).unwrap(), String::from_utf8(salvaged.stderr).unwrap());
    let (_, behind) = shown.split_once("behind the damage pages have no base").unwrap_or_else(|| panic!("{shown}"));
    assert!(
        behind.contains("frames 1 to 1 are damaged") && behind.contains("'in a table that the log names'"),
        "{shown}"
    );
    assert!(notes.contains("behind the damage: ") && !notes.contains("with the database file beside it"), "{notes}");
    let salvaged = dump(&["--salvage", "--format", "json"], &log);
    assert!(!String::from_utf8_lossy(&salvaged.stdout).contains("behind the damage"));
    assert!(String::from_utf8_lossy(&salvaged.stderr).contains("--format text shows the pages"));
    // Damage in the second transaction: the first is told as a change, once. How text is stored the database says.
    let mut bytes = std::fs::read(dir.path().join("source.db-wal")).unwrap();
    let last = bytes.len() - 100;
    bytes[last - 512 - 24] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let shown = String::from_utf8(dump(&["--salvage"], &log).stdout).unwrap();
    assert_eq!(shown.matches("größer").count(), 1, "{shown}");
    let (_, behind) = shown.split_once("frames 2 to 3 are damaged").unwrap_or_else(|| panic!("{shown}"));
    assert!(behind.contains("'in a table that the log names'"), "{shown}");
}

/// What `--undo` prints, run in the source, gives back what was before.
#[test]
fn undoing_the_transactions_of_a_log_gives_the_source_back() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { seed: 2, page_size: 1024, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, cache_pages: 2000 };
    let (db, _) = open_pair(&setup, dir.path());
    db.execute_batch(
        "CREATE TABLE plain(a, b TEXT, c REAL); CREATE TABLE keyed(id INTEGER PRIMARY KEY, u UNIQUE, g AS (u || '!') STORED);
         CREATE TABLE without(k TEXT, n INT, v, PRIMARY KEY(k, n)) WITHOUT ROWID;
         WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < 200)
           INSERT INTO plain SELECT x, 'text ''of'' ' || x, x / 3.0 FROM s;
         INSERT INTO keyed(id, u) SELECT a, b FROM plain; INSERT INTO without SELECT b, a, zeroblob(a * 9) FROM plain;",
    )
    .unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let before = replay::contents(&db, true);
    db.execute_batch(
        "UPDATE plain SET b = NULL, c = -c WHERE a % 3 = 0; DELETE FROM plain WHERE a % 5 = 0; INSERT INTO plain VALUES (1, 2, 3);
         UPDATE keyed SET u = u || 'x' WHERE id % 2; DELETE FROM keyed WHERE id > 150; INSERT INTO keyed(u) VALUES (x'00'), (1e300);
         UPDATE without SET v = k WHERE n < 20; DELETE FROM without WHERE n > 190; INSERT INTO without VALUES ('new', 1, NULL);",
    )
    .unwrap();
    assert_ne!(before, replay::contents(&db, true));
    let undo = dump(&["--format", "sql", "--undo", "--dialect", "sqlite"], &dir.path().join("source.db-wal"));
    assert_eq!(undo.status.code(), Some(0), "{}", String::from_utf8_lossy(&undo.stderr));
    let sql = String::from_utf8(undo.stdout).unwrap();
    db.execute_batch(&sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
    assert_eq!(before, replay::contents(&db, true));
}
