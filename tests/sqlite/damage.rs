//! Damaged logs: whatever the bytes, no panic, no endless walk, and never a transaction that is not whole.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlog::error::Result;
use rlog::source::sqlite::ddl::Ddl;
use rlog::source::sqlite::decode::{Change, Sink, Txn};
use rlog::source::sqlite::wal::Header;

use super::*;

/// Counts, and reads every value so that lazy decoding is exercised.
#[derive(Default)]
struct Counter {
    begun: u64,
    whole: u64,
    rows: u64,
    bytes: u64,
}

impl Sink for Counter {
    fn begin(&mut self, _: &Txn) -> Result<()> {
        self.begun += 1;
        Ok(())
    }
    fn ddl(&mut self, _: &Ddl) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        self.rows += 1;
        for row in [&change.before, &change.after].into_iter().flatten() {
            for column in 0..change.table.columns.len() {
                if let rlog::source::sqlite::record::Value::Blob(bytes) = row.get(column) {
                    self.bytes += bytes.len() as u64;
                }
            }
        }
        Ok(())
    }
    fn sequence(&mut self, _: &str, _: Option<i64>) -> Result<()> {
        Ok(())
    }
    fn commit(&mut self, _: &Txn) -> Result<()> {
        self.whole += 1;
        Ok(())
    }
}

/// A database and its log, as bytes, after a random workload.
fn victim(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { page_size: 512 << (seed % 4), cache_pages: 2000, ..Setup::of(seed) };
    let (db, _) = open_pair(&setup, dir.path());
    let mut workload = Workload::new(seed, setup.page_size);
    for _ in 0..10 {
        workload.transaction(&db);
    }
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for _ in 0..20 {
        workload.transaction(&db);
    }
    (std::fs::read(dir.path().join("source.db")).unwrap(), std::fs::read(dir.path().join("source.db-wal")).unwrap())
}

fn decode(db: Vec<u8>, wal: Vec<u8>) -> Result<Counter> {
    let mut counter = Counter::default();
    let mut decoder = Decoder::open(Arc::new(db), Arc::new(wal))?;
    decoder.learn()?;
    while let Step::Txn(_) = decoder.next(None, &mut counter)? {}
    Ok(counter)
}

#[test]
fn a_log_cut_anywhere_gives_exactly_the_transactions_that_are_whole() {
    let (db, wal) = victim(3);
    let page_size = Header::parse(&wal).unwrap().page_size as usize;
    let all = decode(db.clone(), wal.clone()).unwrap().whole;
    assert!(all > 5);
    let mut before = 0;
    // Some eighty cuts, in headers and pages alike.
    let step = (wal.len() / 80).max(page_size / 3) | 1;
    for cut in (0..wal.len()).step_by(step) {
        let found = decode(db.clone(), wal[..cut].to_vec()).unwrap().whole;
        assert!(found >= before && found <= all, "cut at {cut}: {found}");
        before = found;
    }
    assert_eq!(decode(db, wal).unwrap().whole, all);
}

#[test]
fn a_flipped_bit_in_the_log_ends_it_before_the_damage() {
    let (db, wal) = victim(5);
    let all = decode(db.clone(), wal.clone()).unwrap();
    let mut rng = workload::Rng(1);
    for _ in 0..200 {
        let mut bad = wal.clone();
        let at = rng.below(bad.len() as u64) as usize;
        bad[at] ^= 1 << rng.below(8);
        // Left-over bytes behind the last commit are nobody's.
        let found = decode(db.clone(), bad).unwrap();
        assert!(found.whole <= all.whole);
        assert_eq!(found.begun, found.whole);
    }
}

/// With the checksums made right again, the damage reaches the decoder itself.
#[test]
fn damaged_pages_are_errors_and_never_a_panic() {
    let mut errors = 0;
    for seed in seeds(6) {
        let (db, wal) = victim(seed);
        let mut rng = workload::Rng(seed);
        for round in 0..150 {
            let (mut db, mut wal) = (db.clone(), wal.clone());
            for _ in 0..1 + rng.below(4) {
                let target = if round % 3 == 0 { &mut db } else { &mut wal };
                let at = rng.below(target.len() as u64 - 100) as usize + 100;
                match rng.below(3) {
                    0 => target[at] ^= 1 << rng.below(8),
                    1 => target[at] = *rng.pick(&[0, 0xff, 0x7f, 0x80, 1, 5, 13]),
                    _ => {
                        let from = rng.below(target.len() as u64 - 40) as usize;
                        let bytes = target[from..from + 32.min(target.len() - from)].to_vec();
                        let to = at.min(target.len() - bytes.len());
                        target[to..to + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
            seal(&mut wal);
            let outcome = catch_unwind(AssertUnwindSafe(|| decode(db, wal)));
            match outcome {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    assert_ne!(error.class(), rlog::error::Class::Bug, "{error}");
                    errors += 1;
                }
                Err(_) => panic!("seed {seed}, round {round}"),
            }
        }
    }
    assert!(errors > 0, "some damage has to be noticed");
}

/// Makes salts and checksums of every frame right.
pub fn seal(wal: &mut [u8]) {
    let be32 = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let page_size = be32(wal, 8) as usize;
    if !(512..=65536).contains(&page_size) {
        return;
    }
    let big = wal[3] & 1 == 1;
    let add = |(mut a, mut b): (u32, u32), bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            let word = |n: usize| {
                let four: [u8; 4] = pair[n..n + 4].try_into().unwrap();
                if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
            };
            a = a.wrapping_add(word(0)).wrapping_add(b);
            b = b.wrapping_add(word(4)).wrapping_add(a);
        }
        (a, b)
    };
    let mut sum = add((0, 0), &wal[..24]);
    wal[24..28].copy_from_slice(&sum.0.to_be_bytes());
    wal[28..32].copy_from_slice(&sum.1.to_be_bytes());
    let salt = wal[16..24].to_vec();
    for frame in wal[32..].chunks_exact_mut(page_size + 24) {
        frame[8..16].copy_from_slice(&salt);
        sum = add(add(sum, &frame[..8]), &frame[24..]);
        frame[16..20].copy_from_slice(&sum.0.to_be_bytes());
        frame[20..24].copy_from_slice(&sum.1.to_be_bytes());
    }
}
