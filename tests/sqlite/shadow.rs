//! Gaps: runs that follow each other, die anywhere and have nothing but a shadow between them, while the application writes,
//! checkpoints, closes, reopens and even changes the size of its pages. With a shadow nothing is ever lost.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rlog::error::{Class, Result};
use rlog::frame::{Kind, Position, PositionSpec, SliceFrames};
use rlog::source::sqlite::live::{LiveOptions, Polled};
use rlog::source::sqlite::rollback::Rollback;
use rlog::source::sqlite::shadow::{Home, Shadow, Standing};
use rlog::source::sqlite::view::{FrameTable, Image};
use rlog::source::sqlite::wal::{Checksum, Mark, Scanner, read_header};
use rlog::sys::Vfs as _;
use rlog::sys::sim::{Fault, Plant, Seeded, SimDisk};

use super::live::{application, empty_replica, open_only};
use super::*;

/// Whole frames of `bytes`, up to a random one.
fn cut(bytes: &[u8], rng: &mut workload::Rng) -> usize {
    let mut ends = vec![0];
    let mut frames = SliceFrames::new(bytes, 0);
    while let Some(frame) = frames.next().unwrap() {
        // A snapshot that is not whole counts for nothing: it comes whole or not at all here.
        let _ = frame;
        ends.push(frames.at());
    }
    if rng.one_in(3) { bytes.len() } else { *rng.pick(&ends) }
}

/// Whether these bytes hold a whole snapshot, or none was begun.
fn has_whole_snapshot(bytes: &[u8]) -> bool {
    let mut frames = SliceFrames::new(bytes, 0);
    let mut open = false;
    while let Some(frame) = frames.next().unwrap() {
        open |= frame.kind() == Some(Kind::SnapshotBegin);
        open &= frame.kind() != Some(Kind::SnapshotEnd);
    }
    !open
}

/// The application closes, and does what needs the database for itself.
fn alone(path: &Path, setup: &Setup, rng: &mut workload::Rng) {
    let db = Connection::open(path).unwrap();
    let size = 512 << rng.below(8);
    let resize = format!("PRAGMA page_size={size}");
    let statements: &[&str] = match rng.below(4) {
        0 => &["PRAGMA journal_mode=DELETE", &resize, "VACUUM"],
        1 => &[
            "PRAGMA journal_mode=DELETE",
            "CREATE TABLE IF NOT EXISTS beside(a)",
            "INSERT INTO beside(rowid) VALUES (NULL), (NULL)",
        ],
        2 => &["VACUUM"],
        _ => &["PRAGMA wal_checkpoint(TRUNCATE)"],
    };
    for sql in statements.iter().chain([&"PRAGMA journal_mode=WAL"]) {
        // Some schemas cannot be vacuumed.
        if let Err(error) = db.execute_batch(sql) {
            eprintln!("{setup:?}: {sql}: {error}");
        }
    }
}

#[test]
fn with_a_shadow_nothing_is_lost_between_runs_that_die_anywhere() {
    let (mut runs, mut merged, mut exact) = (0, 0, 0);
    for seed in seeds(3) {
        let setup = Setup { reserved: 0, ..Setup::of(seed + 900) };
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("app.db"), dir.path().join("app.shadow"));
        let mut app = Some(application(&path, &setup));
        let mut workload = Workload::new(seed, setup.page_size);
        workload.create_table(app.as_ref().unwrap());
        let mut replica = empty_replica(&setup);
        let mut queued: Option<Position> = None;
        for round in 0..40 {
            let what = format!("{setup:?}, round {round}");
            if workload.rng.one_in(5) {
                app = None;
                if workload.rng.one_in(2) {
                    alone(&path, &setup, &mut workload.rng);
                }
            }
            let db = app.get_or_insert_with(|| application(&path, &setup));
            for _ in 0..workload.rng.below(5) {
                workload.transaction(db);
            }
            if workload.rng.one_in(4) {
                let mode = *workload.rng.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
                let _ = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
            }
            if workload.rng.one_in(6) {
                // Closed while it is read: the log may be gone, and the reader is the only one there.
                app = None;
            }
            let follow = workload.rng.one_in(2);
            let snapshot = queued.is_none();
            if snapshot {
                replica = empty_replica(&setup);
            }
            let confirmed: Arc<Mutex<Option<Position>>> = Arc::default();
            let told = Arc::clone(&confirmed);
            let options = LiveOptions {
                after: queued.clone().map(PositionSpec::Position),
                snapshot,
                windows: true,
                confirm: Some(Box::new(move || Ok(told.lock().unwrap().clone()))),
                shadow: Some(file.clone()),
                follow,
                ..LiveOptions::default()
            };
            let (mut live, pipe) = open_only(&path, options).unwrap_or_else(|error| panic!("{what}: {error}"));
            runs += 1;
            replica.restart();
            let mut whole = workload.rng.one_in(3);
            let mut delivered = 0;
            if let Err(error) = live.start() {
                // Pages of another size now: the rest is told by the next run.
                assert_eq!(error.class(), Class::TryAgain, "{what}: {error}");
                whole = false;
            } else {
                let steps = if follow { workload.rng.below(6) } else { 1 };
                for _ in 0..steps {
                    if let Some(db) = app.as_ref().filter(|_| follow) {
                        workload.transaction(db);
                        if workload.rng.one_in(6) {
                            let _ = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
                        }
                    }
                    while live.poll().unwrap() == Polled::Some {}
                    if workload.rng.one_in(2) {
                        let bytes = pipe.lock().unwrap().clone();
                        let new = &bytes[delivered..];
                        if has_whole_snapshot(new) {
                            replica.take(new);
                            delivered = bytes.len();
                            confirmed.lock().unwrap().clone_from(&replica.last);
                        }
                    }
                }
                if whole {
                    while live.poll().unwrap() == Polled::Some {}
                    live.finish().unwrap();
                }
            }
            // The process dies; a part of what it wrote has arrived.
            drop(live);
            let bytes = pipe.lock().unwrap().clone();
            let new = &bytes[delivered..];
            let arrived = if whole { new.len() } else { cut(new, &mut workload.rng) };
            if has_whole_snapshot(&new[..arrived]) {
                replica.take(&new[..arrived]);
            }
            queued.clone_from(&replica.last);
            if whole {
                let db = app.get_or_insert_with(|| application(&path, &setup));
                assert_equal(db, &replica.db, &what);
                merged += replica.merged;
                exact += replica.transactions - replica.merged;
            }
        }
    }
    eprintln!("{runs} runs, {merged} merged and {exact} exact transactions seen");
    assert!(merged > 3 && exact > 20 || std::env::var_os("RLOG_SEEDS").is_some(), "{merged} merged, {exact} exact");
}

/// A database that has no log: what differs between two looks is one transaction, also across a change of the mode.
#[test]
fn a_database_in_rollback_mode_is_compared_with_its_shadow() {
    for seed in seeds(2) {
        let setup = Setup { reserved: 0, ..Setup::of(seed + 1300) };
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("app.db"), dir.path().join("app.shadow"));
        let db = application(&path, &setup);
        db.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
        let mut workload = Workload::new(seed, setup.page_size);
        workload.create_table(&db);
        let mut replica = empty_replica(&setup);
        for round in 0..15 {
            for _ in 0..workload.rng.below(6) {
                workload.transaction(&db);
            }
            let options = LiveOptions {
                after: replica.last.clone().map(PositionSpec::Position),
                snapshot: replica.last.is_none(),
                confirm: Some(Box::new(|| Ok(None))),
                shadow: Some(file.clone()),
                ..LiveOptions::default()
            };
            let pipe = super::live::Pipe::default();
            let end = Arc::clone(&pipe);
            let drain: rlog::source::sqlite::events::Drain = Box::new(move |writer| {
                end.lock().unwrap().extend_from_slice(writer.bytes());
                writer.clear();
                Ok(())
            });
            let in_log = round % 5 == 4;
            if in_log {
                db.execute_batch("PRAGMA journal_mode=WAL").unwrap();
                let mut live = rlog::source::sqlite::live::Live::open(&path, options, drain).unwrap();
                live.start().unwrap();
                live.finish().unwrap();
                drop(live);
                db.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
            } else {
                let mut rollback = Rollback::open(&path, options, drain).unwrap();
                rollback.start().unwrap();
                rollback.finish().unwrap();
            }
            replica.restart();
            replica.take(&pipe.lock().unwrap());
            assert_equal(&db, &replica.db, &format!("{setup:?}, round {round}"));
        }
        assert!(replica.merged > 3, "{}", replica.merged);
    }
}

/// A source as it was at some moments: database file, log, and all pages as SQLite sees them.
struct Moment {
    db: Vec<u8>,
    wal: Vec<u8>,
    standing: Standing,
    pages: Vec<u8>,
}

fn image_of(db: &[u8], wal: &[u8]) -> (Image, Standing) {
    let (db, log): (Arc<dyn ReadAt>, Arc<dyn ReadAt>) = (Arc::new(db.to_vec()), Arc::new(wal.to_vec()));
    let header = read_header(&*log).unwrap().unwrap();
    let start = Mark { frame: 0, checksum: header.checksum };
    let mut scanner = Scanner::starting(header, start);
    let mut frames = FrameTable::default();
    let mut pages = (db.len().unwrap() / u64::from(header.page_size)) as u32;
    while let Ok(span) = scanner.next(&*log, None).unwrap() {
        scanner.pages().for_each(|(page, frame)| frames.set(page, frame));
        pages = span.db_pages;
    }
    let mark = scanner.mark();
    let end = rlog::frame::Coordinate::new(1, u64::from(mark.frame) + 1).unwrap();
    let standing = Standing { end, server: 7, salt: header.salt, checksum: mark.checksum };
    (Image::new((db, 0), (log, frames), header.page_size, pages), standing)
}

fn pages_of(image: &Image) -> Vec<u8> {
    let size = image.page_size() as usize;
    let mut all = vec![0; size * image.pages() as usize];
    for (nth, page) in all.chunks_exact_mut(size).enumerate() {
        // A page that was never written is zeros.
        let _ = image.page(nth as u32 + 1, page);
    }
    all
}

fn moments(seed: u64) -> Vec<Moment> {
    let setup = Setup { seed, page_size: 512, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, cache_pages: 2000 };
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_pair(&setup, dir.path());
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'one'), (2, zeroblob(900))")
        .unwrap();
    let mut all = Vec::new();
    for n in 0..4 {
        db.execute_batch(&format!(
            "UPDATE t SET a = a || {n} WHERE id = 1; INSERT INTO t(a) VALUES (hex(zeroblob({})));",
            n * 150
        ))
        .unwrap();
        let read = |suffix: &str| std::fs::read(dir.path().join(format!("source.db{suffix}"))).unwrap();
        let (db, wal) = (read(""), read("-wal"));
        let (image, standing) = image_of(&db, &wal);
        all.push(Moment { pages: pages_of(&image), db, wal, standing });
    }
    all
}

fn position(standing: &Standing) -> Position {
    Position {
        txid: standing.end,
        end: standing.end,
        incarnation: rlog::frame::Incarnation::new(standing.server, standing.stamp()),
        ..Position::default()
    }
}

fn home(disk: &SimDisk) -> Result<Home> {
    Home::within(disk.open_dir(Path::new("")).unwrap(), "s")
}

/// What a run does; `told` gets what may be confirmed from then on, `settled` what certainly was.
fn work(disk: &SimDisk, moments: &[Moment], told: &mut Vec<(Standing, Vec<u8>)>, settled: &mut usize) -> Result<()> {
    let home = home(disk)?;
    let [first, second, third, fourth] = moments else { panic!("four moments") };
    let mut shadow = Shadow::create(&home, &image_of(&first.db, &first.wal).0, first.standing)?;
    told.push((first.standing, first.pages.clone()));
    for moment in [second, third] {
        let header = read_header(&moment.wal).unwrap().unwrap();
        let from = shadow.tail();
        assert!(shadow.record(&moment.wal, &header, from, moment.standing.frame())?);
        told.push((moment.standing, moment.pages.clone()));
    }
    shadow.settle(&position(&second.standing))?;
    *settled = 1;
    // As if the log had been started again: what differs is one step.
    let (image, _) = image_of(&fourth.db, &fourth.wal);
    let end = rlog::frame::Coordinate::new(2, 1).unwrap();
    let to = Standing { end, server: 7, salt: [0; 8], checksum: Checksum(3, 4) };
    assert!(shadow.bridge(&image, to)?.is_some());
    told.push((to, fourth.pages.clone()));
    shadow.settle(&position(&third.standing))?;
    *settled = 2;
    shadow.settle(&position(&to))?;
    *settled = 3;
    Ok(())
}

/// Every state that may have been confirmed is there, to the byte.
fn check(disk: &SimDisk, told: &[(Standing, Vec<u8>)], settled: usize, what: &str) {
    for (standing, pages) in told.get(settled..).unwrap_or_default() {
        let disk = disk.kill();
        let home = home(&disk).unwrap();
        let mut shadow = Shadow::open(&home)
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .unwrap_or_else(|| panic!("{what}: no shadow"));
        let base = shadow.base();
        if base.end > standing.end {
            // Folding had been begun, so this one had been confirmed.
            continue;
        }
        shadow.settle(&position(standing)).unwrap_or_else(|e| panic!("{what}: {standing:?}: {e}"));
        assert_eq!(shadow.base(), *standing, "{what}");
        assert!(pages_of(&shadow.base_image().unwrap()) == *pages, "{what}: {standing:?}: other pages");
    }
}

/// Planted bugs are found: what a sync does not bring to the disk is missed.
#[test]
fn a_shadow_that_does_not_sync_is_found_out() {
    let moments = moments(2);
    for plant in [Plant::SkipFileSync, Plant::SkipDirSync] {
        let found = (0..40).any(|call| {
            let disk = SimDisk::new();
            disk.plant(plant);
            disk.fault_at(call, Fault::Die, true);
            let (mut told, mut settled) = (Vec::new(), 0);
            let _ = work(&disk, &moments, &mut told, &mut settled);
            (0..20).any(|seed| {
                let disk = disk.cut(&mut Seeded::new(call * 1000 + seed));
                std::panic::catch_unwind(|| check(&disk, &told, settled, "planted")).is_err()
            })
        });
        assert!(found, "{plant:?}");
    }
}

#[test]
fn a_kill_or_power_cut_at_any_call_leaves_every_state_that_may_have_been_confirmed() {
    let moments = moments(1);
    let calls = {
        let disk = SimDisk::new();
        let (mut told, mut settled) = (Vec::new(), 0);
        work(&disk, &moments, &mut told, &mut settled).unwrap();
        check(&disk, &told, settled, "without a fault");
        disk.calls()
    };
    assert!(calls > 30, "{calls}");
    let cuts =
        std::env::var("RLOG_CRASH_RUNS").ok().and_then(|runs| runs.parse::<u64>().ok()).unwrap_or(400) / calls + 1;
    for call in 0..calls {
        let disk = SimDisk::new();
        disk.fault_at(call, Fault::Die, true);
        let (mut told, mut settled) = (Vec::new(), 0);
        assert!(work(&disk, &moments, &mut told, &mut settled).is_err());
        check(&disk.kill(), &told, settled, &format!("killed at call {call}"));
        for seed in 0..cuts {
            let disk = disk.cut(&mut Seeded::new(call * 1000 + seed));
            check(&disk, &told, settled, &format!("power cut at call {call}, seed {seed}"));
        }
    }
}
