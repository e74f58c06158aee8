//! Corners of the file format, each made on purpose: the page that is never used, the other byte order, tables of modules, schemas that
//! depend on each other, and what may run at the same time.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::damage::seal;
use super::*;

fn setup(page_size: u64) -> Setup {
    Setup { seed: 1, page_size, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, cache_pages: 2000 }
}

fn shell(script: &str, dir: &Path) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_rlog-extract")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-euc", script])
        .current_dir(dir)
        .env("PATH", path)
        .env_remove("RLOG_CONFIG")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Nothing keeps an application from storing other bytes as text. They are found again by what was before, as keys too.
#[test]
fn text_of_any_bytes_arrives_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::live::application(&dir.path().join("app.db"), &setup(4096));
    db.execute_batch(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b TEXT);
         INSERT INTO t VALUES (1, CAST(X'41ff42' AS TEXT), CAST(X'80' AS TEXT)), (2, X'41ff42', X'80'), (3, 'plain', CAST(X'c3' AS TEXT));
         CREATE TABLE k(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         INSERT INTO k VALUES (CAST(X'fe01' AS TEXT), 1), (X'fe01', 2), (CAST(X'fe02' AS TEXT), 3)",
    )
    .unwrap();
    let mut pipeline = super::pipeline::Pipeline::new(dir.path(), false);
    for sql in [
        "",
        "UPDATE t SET a = CAST(X'ff' AS TEXT) WHERE id <> 2; UPDATE k SET v = v + 10;
         DELETE FROM k WHERE k = CAST(X'fe02' AS TEXT); DELETE FROM t WHERE id = 1",
    ] {
        db.execute_batch(sql).unwrap();
        pipeline.extract_and_put(false);
        assert_eq!(super::pipeline::status(&mut pipeline.extract, "extract"), Some(0), "{}", pipeline.logs());
        assert_eq!(super::pipeline::status(&mut pipeline.put, "put"), Some(0), "{}", pipeline.logs());
        pipeline.apply(false);
        assert_eq!(super::pipeline::status(&mut pipeline.apply, "apply"), Some(0), "{}", pipeline.logs());
    }
    pipeline.assert_equal(&db, "text of any bytes");
}

/// A value of the same length is written over in its overflow pages: the leaf's own cell stays as it was, byte by byte, while another cell beside it
/// changes.
#[test]
fn a_row_changed_in_its_overflow_pages_alone_is_told_beside_one_changed_in_the_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::live::application(&dir.path().join("app.db"), &setup(1024));
    // Of that many bytes 114 stand in a leaf of 1024, and four pages are full: all rows are in one leaf.
    let long = |end: char| "x".repeat(4186) + &end.to_string();
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").unwrap();
    for id in 1..=20 {
        db.execute("INSERT INTO t VALUES (?1, ?2)", (id, if id == 10 { long('a') } else { "short".into() })).unwrap();
    }
    let mut pipeline = super::pipeline::Pipeline::new(dir.path(), false);
    for end in ['a', 'b'] {
        db.execute_batch("BEGIN").unwrap();
        db.execute("UPDATE t SET v = ?1 WHERE id = 10", [long(end)]).unwrap();
        db.execute("UPDATE t SET v = ?1 WHERE id = 1", [format!("shor{end}")]).unwrap();
        db.execute_batch("COMMIT").unwrap();
        pipeline.extract_and_put(false);
        assert_eq!(super::pipeline::status(&mut pipeline.extract, "extract"), Some(0), "{}", pipeline.logs());
        assert_eq!(super::pipeline::status(&mut pipeline.put, "put"), Some(0), "{}", pipeline.logs());
    }
    pipeline.apply(false);
    assert_eq!(super::pipeline::status(&mut pipeline.apply, "apply"), Some(0), "{}", pipeline.logs());
    pipeline.assert_equal(&db, "overflow pages alone");
}

/// The page at byte 2^30 holds the locks, and never data. The file has a hole up to there.
#[test]
fn a_database_that_grows_over_the_page_of_the_lock_bytes_is_replicated() {
    const LOCK_BYTE: u64 = 1 << 30;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let page_size = 65536;
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!("PRAGMA page_size={page_size}; CREATE TABLE t(id INTEGER PRIMARY KEY, b)")).unwrap();
    drop(db);
    // So many pages that are nobody's: SQLite believes the header and appends behind them.
    let file = File::options().write(true).open(&path).unwrap();
    let pages = LOCK_BYTE / page_size - 6;
    file.set_len(pages * page_size).unwrap();
    file.write_all_at(&(pages as u32).to_be_bytes(), 28).unwrap();
    drop(file);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; CREATE TABLE tick(a)",
    )
    .unwrap();
    let file = |name: &str| -> Arc<dyn ReadAt> { Arc::new(File::open(dir.path().join(name)).unwrap()) };
    let mut decoder = Decoder::open(file("source.db"), file("source.db-wal")).unwrap();
    decoder.learn().unwrap();
    let replica = Connection::open_in_memory().unwrap();
    replica.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, b)").unwrap();
    let mut replica = Replica::new(replica);
    for id in 0..12 {
        db.execute("INSERT INTO t VALUES (?1, randomblob(100000))", [id]).unwrap();
        db.execute("UPDATE t SET b = b || randomblob(70000) WHERE id = ?1 / 2", [id]).unwrap();
    }
    db.execute_batch("DELETE FROM t WHERE id % 3 = 0; INSERT INTO t VALUES (100, randomblob(300000))").unwrap();
    let now = db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    assert!(now * page_size > LOCK_BYTE + 4 * page_size, "{now} pages");
    drain(&mut decoder, &mut replica);
    assert_equal(&db, &replica.db, "over the page of the lock bytes");
    assert!(replica.rows > 25, "{}", replica.rows);
}

/// The magic says in which order the checksums read the data; every machine reads both.
#[test]
fn a_log_of_a_machine_of_the_other_byte_order_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_pair(&setup(1024), dir.path());
    let mut workload = Workload::new(7, 1024);
    workload.create_table(&db);
    for _ in 0..30 {
        workload.transaction(&db);
    }
    let base = std::fs::read(dir.path().join("source.db")).unwrap();
    let mut wal = std::fs::read(dir.path().join("source.db-wal")).unwrap();
    let read = |wal: &[u8]| {
        let mut decoder = Decoder::open(Arc::new(base.clone()), Arc::new(wal.to_vec())).unwrap();
        decoder.learn().unwrap();
        let mut replica = Replica::new(Connection::open_in_memory().unwrap());
        drain(&mut decoder, &mut replica);
        replica
    };
    let first = read(&wal);
    assert!(first.transactions > 10);
    wal[3] ^= 1;
    assert_eq!(read(&wal).transactions, 0, "with the checksums of the other order nothing is valid");
    seal(&mut wal);
    let second = read(&wal);
    assert_eq!((first.transactions, first.rows), (second.transactions, second.rows));
    assert_equal(&db, &second.db, "the other byte order");
    // SQLite itself takes it for a log.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("o.db"), &base).unwrap();
    std::fs::write(other.path().join("o.db-wal"), &wal).unwrap();
    let theirs = Connection::open(other.path().join("o.db")).unwrap();
    assert_equal(&theirs, &second.db, "as SQLite reads it");
}

/// Objects that need each other, in the order in which they were made and altered, and tables of modules with their shadows: through the
/// snapshot and through the log, with the real programs.
#[test]
fn schemas_whose_objects_depend_on_each_other_arrive_by_snapshot_and_by_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE zebra(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, at REAL);
         CREATE VIEW b_view AS SELECT id, name FROM zebra WHERE at > 0;
         CREATE VIEW a_view AS SELECT name, count(*) AS n FROM b_view GROUP BY name;
         CREATE TABLE audit(what, n);
         CREATE TRIGGER a_trigger AFTER INSERT ON zebra BEGIN INSERT INTO audit SELECT new.name, count(*) FROM a_view; END;
         CREATE TRIGGER b_trigger INSTEAD OF INSERT ON b_view BEGIN INSERT INTO zebra(name, at) VALUES (new.name, 1); END;
         CREATE UNIQUE INDEX by_name ON zebra(name, id DESC) WHERE at IS NOT NULL;
         CREATE INDEX by_expression ON zebra(lower(name));
         CREATE TABLE child(z REFERENCES zebra ON DELETE CASCADE, v);
         CREATE VIRTUAL TABLE text USING fts5(title, body);
         CREATE VIRTUAL TABLE places USING rtree(id, x0, x1, y0, y1);
         INSERT INTO zebra(name, at) VALUES ('a', 1), ('b', 2), ('A', 3);
         INSERT INTO child SELECT id, name FROM zebra;
         INSERT INTO text VALUES ('one', 'the quick brown fox'), ('two', 'jumps over');
         INSERT INTO places VALUES (1, 0, 1, 0, 1), (2, 5, 6, 5, 6);",
    )
    .unwrap();
    let steps = [
        "SELECT 1",
        "INSERT INTO b_view(name) VALUES ('through a view'); DELETE FROM zebra WHERE name = 'b';
         INSERT INTO text VALUES ('three', 'a lazy dog'); UPDATE text SET body = 'leaps' WHERE title = 'two';
         UPDATE places SET x1 = 9 WHERE id = 2; DELETE FROM places WHERE id = 1; INSERT INTO places SELECT value, value, value + 1, 0, 1 FROM json_each('[10,11,12,13]')",
        "DROP VIEW a_view; DROP TRIGGER a_trigger; DROP TRIGGER b_trigger; ALTER TABLE zebra RENAME COLUMN name TO called; ALTER TABLE zebra RENAME TO quagga; ALTER TABLE quagga ADD COLUMN more DEFAULT 'm';
         INSERT INTO quagga(called, at) VALUES ('q', 4);
         CREATE VIEW a_view AS SELECT called FROM b_view; CREATE TABLE zebra(other); INSERT INTO zebra VALUES ('another zebra')",
        "DROP TABLE text; DROP TABLE places; DROP TABLE child; DROP VIEW b_view; CREATE VIEW b_view AS SELECT * FROM zebra; VACUUM",
    ];
    for (number, step) in steps.iter().enumerate() {
        db.execute_batch(step).unwrap();
        let init = if number == 0 { "--init empty" } else { "" };
        // Between two runs nobody holds the log, which is why it is not checkpointed here.
        shell(
            &format!(
                "rlog-extract -q --snapshot --confirm spool sqlite:app.db | rlog-queue put -q spool; rlog-apply run -q --from spool {init} sqlite:replica.db"
            ),
            dir.path(),
        );
        // A copy without what belongs to the applier.
        let copy = dir.path().join(format!("copy{number}.db"));
        let replica = Connection::open(dir.path().join("replica.db")).unwrap();
        replica.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let replica = Connection::open(copy).unwrap();
        replica.execute_batch("DROP TABLE rlog_applied; DROP TABLE rlog_channel; DROP TABLE rlog_target").unwrap();
        assert_equal(&db, &replica, step);
        let check: String = replica.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "{step}");
        let ask = |db: &Connection, sql: &str| -> Vec<String> {
            let mut statement = db.prepare(sql).unwrap();
            statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
        };
        // The objects work, in the replica as in the source.
        let mut questions =
            vec!["SELECT type || name FROM sqlite_schema ORDER BY 1", "SELECT quote(called) FROM a_view ORDER BY 1"];
        if number < 2 {
            questions[1] = "SELECT name || n FROM a_view ORDER BY 1";
        }
        if number < 3 {
            questions.push("SELECT title FROM text WHERE text MATCH 'fox OR leaps OR lazy' ORDER BY 1");
            questions.push("SELECT CAST(id AS TEXT) FROM places WHERE x1 > 5 ORDER BY id");
        } else {
            questions.remove(1);
            questions.push("SELECT other FROM b_view");
        }
        for sql in questions {
            let (theirs, ours) = (ask(&db, sql), ask(&replica, sql));
            assert_eq!(theirs, ours, "{sql}, after {step}");
        }
    }
}

/// (txid, start of its window) of every transaction that begins.
fn windows(dir: &Path) -> Vec<(String, String)> {
    let text = shell("rlog-extract -q --windows writeset app.db-wal | rlog-dump --format json -", dir);
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["kind"] == "begin")
        .map(|line| (line["txid"].as_str().unwrap().to_owned(), line["window_start"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn transactions_that_touch_the_same_keys_wait_for_each_other_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let db = Connection::open(dir.path().join("app.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, v);
         CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES t(id)); INSERT INTO t VALUES (1, 'one', 0), (2, 'two', 0), (3, 'three', 0);
         PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint=0;",
    )
    .unwrap();
    for sql in [
        // Everything waits for the first transaction, which stands where the log begins.
        "INSERT INTO t VALUES (60, 'sixty', 0)",
        "UPDATE t SET v = 1 WHERE id = 1",
        // Another row: nothing in common.
        "UPDATE t SET v = 1 WHERE id = 2",
        // The row of the first.
        "UPDATE t SET v = 2 WHERE id = 1",
        // Gives a unique value away, and another takes it.
        "UPDATE t SET u = 'free' WHERE id = 3",
        "INSERT INTO t VALUES (4, 'three', 0)",
        // A child of the row that was made last.
        "INSERT INTO child VALUES (1, 4)",
        // Nothing of all these.
        "INSERT INTO t VALUES (50, 'fifty', 0)",
    ] {
        db.execute_batch(sql).unwrap();
    }
    let found = windows(dir.path());
    assert_eq!(found.len(), 8, "{found:?}");
    let place = |text: &str| -> (u64, u64) {
        let (file, at) = text.split_once(':').unwrap();
        (file.parse().unwrap(), at.parse().unwrap())
    };
    // Whether `later` waits for `earlier`: its window starts there or behind it.
    let waits = |later: usize, earlier: usize| place(&found[later].1) >= place(&found[earlier].0);
    for (later, earlier, wanted) in
        [(2, 1, false), (3, 1, true), (4, 3, false), (5, 4, true), (6, 5, true), (7, 6, false), (7, 1, false)]
    {
        assert_eq!(waits(later, earlier), wanted, "{later} for {earlier}: {found:?}");
    }
}
