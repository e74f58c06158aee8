//! How fast logs are decoded; run by hand: `cargo test --release --test sqlite -- --ignored --nocapture speed`.

use std::time::Instant;

use rlog::error::Result;
use rlog::source::sqlite::ddl::Ddl;
use rlog::source::sqlite::decode::{Change, Sink, Txn};
use rlog::source::sqlite::record::Value;

use super::*;

#[derive(Default)]
struct Reader {
    rows: u64,
    txns: u64,
    sum: u64,
}

impl Sink for Reader {
    fn begin(&mut self, _: &Txn) -> Result<()> {
        Ok(())
    }
    fn ddl(&mut self, _: &Ddl) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        self.rows += 1;
        for row in [&change.before, &change.after].into_iter().flatten() {
            for column in 0..change.table.columns.len() {
                self.sum += match row.get(column) {
                    Value::Null => 0,
                    Value::Int(n) => n as u64,
                    Value::Real(r) => r.to_bits(),
                    Value::Text(b) | Value::Blob(b) => b.len() as u64,
                };
            }
        }
        Ok(())
    }
    fn sequence(&mut self, _: &str, _: Option<i64>) -> Result<()> {
        Ok(())
    }
    fn commit(&mut self, _: &Txn) -> Result<()> {
        self.txns += 1;
        Ok(())
    }
}

fn measure(name: &str, prepare: &str, work: impl Fn(&Connection)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0",
    )
    .unwrap();
    db.execute_batch(prepare).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    work(&db);
    let file = |name: &str| -> Arc<dyn ReadAt> { Arc::new(File::open(dir.path().join(name)).unwrap()) };
    let bytes = std::fs::metadata(dir.path().join("source.db-wal")).unwrap().len();
    let mut decoder = Decoder::open(file("source.db"), file("source.db-wal")).unwrap();
    let start = Instant::now();
    decoder.learn().unwrap();
    let learned = start.elapsed();
    let mut best = f64::MAX;
    let mut reader = Reader::default();
    for _ in 0..3 {
        let mut decoder = Decoder::open(file("source.db"), file("source.db-wal")).unwrap();
        decoder.learn().unwrap();
        reader = Reader::default();
        let start = Instant::now();
        while let Step::Txn(_) = decoder.next(None, &mut reader).unwrap() {}
        best = best.min(start.elapsed().as_secs_f64());
    }
    let mb = bytes as f64 / 1e6;
    eprintln!(
        "{name}: {mb:.0} MB, {} transactions, {} rows: {:.0} MB/s, {:.0} k txn/s, {:.0} k rows/s (learn {learned:?}, sum {})",
        reader.txns,
        reader.rows,
        mb / best,
        reader.txns as f64 / best / 1e3,
        reader.rows as f64 / best / 1e3,
        reader.sum % 7
    );
}

const FILL: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT, c REAL); \
    WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) \
    INSERT INTO t SELECT x, x * 7, 'some text of a usual length ' || x, x / 3.0 FROM n;";

#[test]
#[ignore = "a measurement"]
fn speed() {
    measure("20 k one-row updates", FILL, |db| {
        let mut s = db.prepare("UPDATE t SET a = a + 1 WHERE id = ?1").unwrap();
        for n in 0..20_000u64 {
            s.execute([(n * 7919 % 300_000) as i64]).unwrap();
        }
    });
    measure("20 k one-row updates of 2 k hot rows", FILL, |db| {
        let mut s = db.prepare("UPDATE t SET a = a + 1 WHERE id = ?1").unwrap();
        for n in 0..20_000u64 {
            s.execute([(n * 7919 % 2_000) as i64]).unwrap();
        }
    });
    measure("20 k one-row inserts", FILL, |db| {
        let mut s = db.prepare("INSERT INTO t VALUES (NULL, ?1, 'a new row with some text', 1.5)").unwrap();
        for n in 0..20_000i64 {
            s.execute([n]).unwrap();
        }
    });
    measure("insert 300 k rows at once", "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT, c REAL)", |db| {
        db.execute_batch(&FILL[FILL.find("WITH").unwrap()..]).unwrap();
    });
    measure("update 300 k rows at once", FILL, |db| db.execute_batch("UPDATE t SET a = a + 1").unwrap());
    measure("delete 300 k rows, every other", FILL, |db| db.execute_batch("DELETE FROM t WHERE id % 2").unwrap());
    measure("update 300 k rows with a unique index", &format!("{FILL} CREATE UNIQUE INDEX u ON t(a)"), |db| {
        db.execute_batch("UPDATE t SET c = c + 1").unwrap()
    });
    measure("2 k transactions of 100 inserts", FILL, |db| {
        let mut s = db.prepare("INSERT INTO t VALUES (NULL, ?1, 'a new row with some text', 1.5)").unwrap();
        for n in 0..200_000i64 {
            if n % 100 == 0 {
                db.execute_batch("BEGIN").unwrap();
            }
            s.execute([n]).unwrap();
            if n % 100 == 99 {
                db.execute_batch("COMMIT").unwrap();
            }
        }
    });
}
