//! SQLite as a source, against SQLite itself: what is decoded from the log of one database and replayed into another
//! has to make them equal, whatever was done to the first.

mod access;
mod corpus;
mod damage;
mod edges;
mod frames;
mod kills;
mod live;
mod memory;
mod pair;
mod pipeline;
mod replay;
mod shadow;
mod speed;
mod workload;

use std::fs::File;
use std::sync::Arc;

use replay::{Replica, assert_equal};
use rlog::source::sqlite::decode::{Decoder, Step};
use rlog::source::sqlite::wal::{ReadAt, Tail};
use rusqlite::Connection;
use workload::Workload;

/// How one run is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    seed: u64,
    page_size: u64,
    encoding: &'static str,
    auto_vacuum: u64,
    reserved: i32,
    cache_pages: u64,
}

impl Setup {
    fn of(seed: u64) -> Setup {
        let mut rng = workload::Rng(seed);
        let reserved = if rng.one_in(3) { rng.below(32) as i32 } else { 0 };
        Setup {
            seed,
            page_size: 512 << rng.below(8),
            encoding: rng.pick::<&str>(&["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"]),
            auto_vacuum: rng.below(3),
            reserved,
            cache_pages: *rng.pick(&[2000, 2000, 5]),
        }
    }
}

fn set_reserved(db: &Connection, mut bytes: i32) {
    use rusqlite::ffi;
    // SAFETY: the handle is open, the name is a C string and the argument is the int that this opcode wants.
    let rc = unsafe {
        ffi::sqlite3_file_control(
            db.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_RESERVE_BYTES,
            (&raw mut bytes).cast(),
        )
    };
    assert_eq!(rc, ffi::SQLITE_OK);
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RLOG_SEED").unwrap_or(1);
    first..first + number("RLOG_SEEDS").unwrap_or(default)
}

fn open_pair(setup: &Setup, dir: &std::path::Path) -> (Connection, Decoder) {
    let path = dir.join("source.db");
    let db = Connection::open(&path).unwrap();
    if setup.reserved > 0 {
        set_reserved(&db, setup.reserved);
    }
    db.execute_batch(&format!(
        "PRAGMA page_size={}; PRAGMA encoding='{}'; PRAGMA auto_vacuum={}; PRAGMA journal_mode=WAL; \
         PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; PRAGMA cache_size={}; PRAGMA foreign_keys=ON; \
         CREATE TABLE t1(a, b); DROP TABLE t1;",
        setup.page_size, setup.encoding, setup.auto_vacuum, setup.cache_pages
    ))
    .unwrap();
    let file = |name: &str| -> Arc<dyn ReadAt> { Arc::new(File::open(dir.join(name)).unwrap()) };
    let mut decoder = Decoder::open(file("source.db"), file("source.db-wal")).unwrap();
    decoder.learn().unwrap();
    (db, decoder)
}

fn drain(decoder: &mut Decoder, replica: &mut Replica) -> Tail {
    loop {
        match decoder.next(None, replica).unwrap() {
            Step::Txn(_) => {}
            Step::Tail(tail) => return tail,
        }
    }
}

/// One random run: after every transaction the replica gets what was decoded, every so often everything is compared.
fn replay(setup: Setup, transactions: u64) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (db, mut decoder) = open_pair(&setup, dir.path());
    let replica = Connection::open_in_memory().unwrap();
    replica
        .execute_batch(&format!("PRAGMA encoding='{}'", if setup.seed % 2 == 0 { setup.encoding } else { "UTF-8" }))
        .unwrap();
    let mut replica = Replica::new(replica);
    let mut workload = Workload::new(setup.seed, setup.page_size);
    workload.create_table(&db);
    for n in 0..transactions {
        workload.transaction(&db);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drain(&mut decoder, &mut replica);
            decoder.check_map().unwrap();
        }));
        if let Err(panic) = done {
            eprintln!("{setup:?}, transaction {n}:\n{}", workload.script.join(";\n"));
            std::panic::resume_unwind(panic);
        }
        if n % 16 == 15 || n + 1 == transactions {
            assert_equal(&db, &replica.db, &format!("{setup:?}, transaction {n}"));
        }
        if workload.rng.one_in(40) {
            let mode = *workload.rng.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
            db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
            // The next write starts the log again; everything in it has been read.
            if db.execute_batch("BEGIN IMMEDIATE; CREATE TABLE tick(x); DROP TABLE tick; COMMIT").is_ok() {
                let log = File::open(dir.path().join("source.db-wal")).unwrap();
                let now = rlog::source::sqlite::wal::read_header(&log).unwrap();
                if now.as_ref().map(|h| h.salt) != decoder.scanner().header().map(|h| h.salt) {
                    assert!(decoder.restart().unwrap());
                }
            }
        }
    }
    let check: String = replica.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    eprintln!("{setup:?}: {} of {} statements failed", workload.failed, workload.ran);
    (replica.transactions, replica.rows)
}

#[test]
fn a_replica_equals_its_source_after_random_workloads() {
    let (mut transactions, mut rows) = (0, 0);
    for seed in seeds(12) {
        let (t, r) = replay(Setup::of(seed), 120);
        transactions += t;
        rows += r;
    }
    assert!(transactions > 0 && rows > 0);
    eprintln!("{transactions} transactions, {rows} changed rows");
}
