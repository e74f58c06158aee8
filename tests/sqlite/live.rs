//! A live database: an application writes, checkpoints and closes as it likes, while its log is followed.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rlog::error::{Class, Result};
use rlog::frame::{Position, PositionSpec};
use rlog::source::sqlite::live::{Live, LiveOptions, Polled};

use super::frames::Applier;
use super::*;

pub type Pipe = Arc<Mutex<Vec<u8>>>;

fn options() -> LiveOptions {
    LiveOptions { windows: true, ..LiveOptions::default() }
}

pub fn open(path: &Path, options: LiveOptions) -> Result<(Live, Pipe)> {
    let (mut live, pipe) = open_only(path, options)?;
    live.start()?;
    Ok((live, pipe))
}

pub fn open_only(path: &Path, options: LiveOptions) -> Result<(Live, Pipe)> {
    let pipe = Pipe::default();
    let end = Arc::clone(&pipe);
    let live = Live::open(
        path,
        options,
        Box::new(move |writer| {
            end.lock().unwrap().extend_from_slice(writer.bytes());
            writer.clear();
            Ok(())
        }),
    )?;
    Ok((live, pipe))
}

pub fn application(path: &Path, setup: &Setup) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA page_size={}; PRAGMA encoding='{}'; PRAGMA auto_vacuum={}; PRAGMA journal_mode=WAL; \
         PRAGMA wal_autocheckpoint=50; PRAGMA synchronous=OFF; PRAGMA cache_size={}; PRAGMA foreign_keys=ON;",
        setup.page_size, setup.encoding, setup.auto_vacuum, setup.cache_pages
    ))
    .unwrap();
    db.busy_timeout(std::time::Duration::from_millis(0)).unwrap();
    db
}

pub fn empty_replica(setup: &Setup) -> Applier {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&format!("PRAGMA encoding='{}'", setup.encoding)).unwrap();
    Applier::new(db)
}

/// The pin is taken and moved while checkpoints of every mode go on; nothing may be lost or doubled.
#[test]
fn a_followed_database_is_replicated_through_checkpoints_and_resets() {
    let mut resets = 0;
    for seed in seeds(6) {
        let setup = Setup { reserved: 0, ..Setup::of(seed) };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = application(&path, &setup);
        let mut workload = Workload::new(seed, setup.page_size);
        for _ in 0..15 {
            workload.transaction(&db);
        }
        let turnover_bytes = workload.rng.one_in(2).then_some(200_000);
        let (mut live, pipe) = open(&path, LiveOptions { snapshot: true, turnover_bytes, ..options() }).unwrap();
        let mut replica = empty_replica(&setup);
        for n in 0..120 {
            for _ in 0..workload.rng.below(4) {
                workload.transaction(&db);
            }
            if workload.rng.one_in(4) {
                let mode = *workload.rng.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
                let _ = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
            }
            if live.poll().unwrap() == Polled::Nothing {
                live.tidy().unwrap();
            }
            if n % 20 == 19 {
                while live.poll().unwrap() == Polled::Some {}
                replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
                assert_equal(&db, &replica.db, &format!("{setup:?}, round {n}"));
            }
        }
        resets += live.watermarks().0.file() - 1;
        live.finish().unwrap();
        replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
        assert!(replica.ended && replica.transactions > 20);
    }
    assert!(resets > 3, "the log has to be reset now and then, or this tests little: {resets}");
}

/// The process dies, the application goes on, and reading is resumed behind what was confirmed: exactly, or refused.
#[test]
fn a_resumed_source_goes_on_exactly_or_says_that_the_log_is_gone() {
    let (mut exact, mut gaps) = (0, 0);
    for seed in seeds(8) {
        let setup = Setup { reserved: 0, ..Setup::of(seed + 500) };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let db = application(&path, &setup);
        let mut workload = Workload::new(seed, setup.page_size);
        workload.create_table(&db);
        let mut replica = empty_replica(&setup);
        let mut after: Option<Position> = None;
        for round in 0..40 {
            let snapshot = after.is_none();
            if snapshot {
                replica = empty_replica(&setup);
            }
            let confirmed: Arc<Mutex<Option<Position>>> = Arc::default();
            let told = Arc::clone(&confirmed);
            let opened = open(
                &path,
                LiveOptions {
                    after: after.clone().map(PositionSpec::Position),
                    snapshot,
                    confirm: Some(Box::new(move || Ok(told.lock().unwrap().clone()))),
                    ..options()
                },
            );
            let (mut live, pipe) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    assert_eq!(error.class(), Class::Gap, "{error}");
                    gaps += 1;
                    after = None;
                    continue;
                }
            };
            exact += u64::from(!snapshot);
            replica.restart();
            for _ in 0..workload.rng.below(5) {
                workload.transaction(&db);
                live.poll().unwrap();
                if workload.rng.one_in(2) {
                    replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
                    confirmed.lock().unwrap().clone_from(&replica.last);
                }
                if workload.rng.one_in(5) {
                    let _ = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
                }
            }
            if snapshot {
                while live.poll().unwrap() == Polled::Some {}
                replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
            }
            // What was written and not taken is lost with the process.
            drop(live);
            after.clone_from(&replica.last);
            for _ in 0..workload.rng.below(4) {
                workload.transaction(&db);
            }
            if workload.rng.one_in(8) {
                let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
            if workload.rng.one_in(3) {
                let resumed = LiveOptions { after: after.clone().map(PositionSpec::Position), ..options() };
                match open(&path, resumed) {
                    Ok((mut live, pipe)) => {
                        replica.restart();
                        while live.poll().unwrap() == Polled::Some {}
                        replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
                        assert_equal(&db, &replica.db, &format!("{setup:?}, round {round}"));
                        after.clone_from(&replica.last);
                    }
                    Err(error) => assert_eq!(error.class(), Class::Gap, "{error}"),
                }
            }
        }
    }
    assert!(exact > 10 && gaps > 3, "{exact} resumed, {gaps} gaps");
}

#[test]
fn a_database_in_rollback_mode_is_refused_and_told_how_to_switch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let error = open(&path, options()).err().unwrap();
    assert_eq!(error.class(), Class::Config);
    assert!(error.hint_text().unwrap().contains("journal_mode=WAL"));
}

#[test]
fn a_replaced_database_file_is_not_the_one_of_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("app.db"), dir.path().join("other.db"));
    let setup = Setup::of(1);
    let (db, db2) = (application(&path, &setup), application(&other, &setup));
    db.execute_batch("CREATE TABLE t(a)").unwrap();
    db2.execute_batch("CREATE TABLE t(a)").unwrap();
    let (mut live, pipe) = open(&path, LiveOptions { snapshot: true, ..options() }).unwrap();
    live.poll().unwrap();
    let mut replica = empty_replica(&setup);
    replica.take(&pipe.lock().unwrap());
    let after = replica.last.map(PositionSpec::Position);
    let error = open(&other, LiveOptions { after, ..options() }).err().unwrap();
    assert_eq!(error.class(), Class::Identity);
}

/// Everything in the log is copied back when the pin is taken. Then the pin needs no log, and the next writer starts it again: over the frames of the
/// transactions before the pin, at any moment. Here they are overwritten before anything can have looked at them, and in the other run between the start and
/// the snapshot.
#[test]
fn a_log_that_was_copied_back_wholly_is_not_looked_at() {
    for (early, shadow) in [(false, false), (true, false), (true, true)] {
        let what = format!("early {early}, shadow {shadow}");
        let setup = Setup { page_size: 1024, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, ..Setup::of(1) };
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("app.db"), dir.path().join("app.shadow"));
        let db = application(&path, &setup);
        db.execute_batch("PRAGMA wal_autocheckpoint=0; CREATE TABLE first(id INTEGER PRIMARY KEY, a)").unwrap();
        db.execute_batch("INSERT INTO first VALUES (1, 'old'), (2, 'old')").unwrap();
        let log = path.with_file_name("app.db-wal");
        let kept = std::fs::metadata(&log).unwrap().len();
        // More pages than are kept in memory.
        db.execute_batch(
            "CREATE TABLE second(id INTEGER PRIMARY KEY, a); UPDATE first SET a = 'new';
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)
                 INSERT INTO second SELECT x, printf('%.*c', 900, 'x') FROM n",
        )
        .unwrap();
        assert!(!checkpoint_is_busy(&db, "PASSIVE"));
        if early {
            // What a writer leaves of it that begins with as many frames as there were at first, and is not through.
            let mut bytes = std::fs::read(&log).unwrap();
            bytes[kept as usize..].fill(0xa5);
            std::fs::write(&log, bytes).unwrap();
        }
        let expected = std::fs::read(&path).unwrap();
        let options = LiveOptions { snapshot: true, shadow: shadow.then(|| file.clone()), ..options() };
        let (mut live, pipe) = open_only(&path, options).unwrap();
        if shadow {
            let base = std::fs::read(&file).unwrap();
            assert!(base[8192..] == expected, "{what}: the shadow is not the database");
        }
        db.execute_batch("CREATE TABLE third(id INTEGER PRIMARY KEY, a)").unwrap();
        if !early {
            db.execute_batch("UPDATE second SET a = printf('%.*c', 900, 'y')").unwrap();
        }
        live.start().unwrap_or_else(|error| panic!("{what}: {error}"));
        live.poll().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut replica = empty_replica(&setup);
        replica.take(&pipe.lock().unwrap());
        assert_equal(&db, &replica.db, &what);
        assert_eq!(live.watermarks().0.file(), 2, "{what}: the log was started again");
    }
}

fn checkpoint_is_busy(db: &Connection, mode: &str) -> bool {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0)).unwrap() == 1
}

/// A writer that never rests would try a checkpoint at every commit once the log is long, copy as far as the pin allows, and sync
/// for it. That is taken over, and the log starts again all the same; when the writer rests, its checkpoints are its own.
#[test]
fn a_long_log_is_copied_back_and_started_again_for_the_application() {
    let setup = Setup { page_size: 4096, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, ..Setup::of(1) };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let db = application(&path, &setup);
    db.execute_batch("PRAGMA wal_autocheckpoint=1000; CREATE TABLE t(id INTEGER PRIMARY KEY, a)").unwrap();
    let turnover_bytes = Some(2000 * 4120);
    let (mut live, pipe) = open(&path, LiveOptions { snapshot: true, turnover_bytes, ..options() }).unwrap();
    let mut replica = empty_replica(&setup);
    let log = path.with_file_name("app.db-wal");
    let (mut busy, mut most) = (0, 0);
    for n in 0..6000 {
        db.execute("INSERT OR REPLACE INTO t VALUES (?1 % 100, ?1)", [n]).unwrap();
        live.poll().unwrap();
        live.tidy().unwrap();
        if n % 100 == 0 {
            busy += u64::from(checkpoint_is_busy(&db, "PASSIVE"));
            most = most.max(std::fs::metadata(&log).unwrap().len());
            // A turnover is tried twice a second.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    assert!(busy > 10, "the application's checkpoints are held off while the log is long: {busy} of 60");
    assert!(live.watermarks().0.file() > 1, "the log has been started again");
    assert!(most < 6000 * 4120, "{most} bytes");
    let gets_through = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        live.poll().unwrap();
        live.tidy().unwrap();
        !checkpoint_is_busy(&db, "RESTART")
    });
    assert!(gets_through, "a resting application gets through with its own checkpoint");
    replica.take(&std::mem::take(&mut *pipe.lock().unwrap()));
    assert_equal(&db, &replica.db, "at the end");
}
