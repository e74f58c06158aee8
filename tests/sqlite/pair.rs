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
