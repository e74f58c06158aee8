//! A SQLite database and its log, damaged in ways that checksums would hide: each input is a list of bytes to overwrite, and the
//! log's checksums are made right again afterwards, so that the decoder sees the damage. What reads them: the decoder, the
//! bridge of a shadow of the undamaged database to the damaged one, and salvage of the log alone.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rlog::error::Result;
use rlog::event::filter::TableFilter;
use rlog::frame::Coordinate;
use rlog::source::sqlite::catchup::image;
use rlog::source::sqlite::decode::{Change, Decoder, Sink, Step, Txn};
use rlog::source::sqlite::events::{Encoder, Place};
use rlog::source::sqlite::orphan::{self, Finder};
use rlog::source::sqlite::page::Encoding;
use rlog::source::sqlite::record::Value;
use rlog::source::sqlite::shadow::{Home, Shadow, Standing};
use rlog::source::sqlite::wal::{Checksum, ReadAt, Span, read_header};
use rlog::sys::Vfs as _;
use rlog::sys::sim::SimDisk;

const PAGE_SIZE: usize = 512;
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let count = buf.len().min(self.0.len() - from);
        buf[..count].copy_from_slice(&self.0[from..from + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// A database of each kind of table, small pages so that trees are deep and chains long, and a log that touches it all.
fn base() -> &'static (Vec<u8>, Vec<u8>) {
    static BASE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    BASE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("rlog-fuzz-sqlite-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA page_size=512; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE a(id INTEGER PRIMARY KEY, b TEXT, c BLOB, d REAL);
             CREATE TABLE w(k TEXT, n INT, v, PRIMARY KEY(k, n)) WITHOUT ROWID;
             CREATE INDEX i ON a(b);
             WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM s WHERE x<80)
               INSERT INTO a SELECT x, 'row ' || x, zeroblob(x * 13), x / 7.0 FROM s;
             INSERT INTO w SELECT b, id, hex(zeroblob(id)) FROM a;
             PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
        db.execute_batch(
            "UPDATE a SET b = b || '!' WHERE id % 3 = 0;
             DELETE FROM a WHERE id % 5 = 0;
             INSERT INTO w SELECT b, -id, c FROM a;
             CREATE TABLE z(q INTEGER PRIMARY KEY AUTOINCREMENT, r DEFAULT 7);
             INSERT INTO z(r) VALUES (1), (2.5), ('x'), (NULL);
             ALTER TABLE a ADD COLUMN e DEFAULT 'e';
             UPDATE a SET e = c WHERE id < 30;
             DROP TABLE w;",
        )
        .unwrap();
        let bytes = (std::fs::read(&path).unwrap(), std::fs::read(dir.join("db-wal")).unwrap());
        drop(db);
        std::fs::remove_dir_all(&dir).unwrap();
        bytes
    })
}

#[derive(Default)]
struct Reader {
    rows: usize,
}

impl Sink for Reader {
    fn begin(&mut self, _txn: &Txn) -> Result<()> {
        Ok(())
    }

    fn ddl(&mut self, _ddl: &rlog::source::sqlite::ddl::Ddl) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        self.rows += 1;
        for row in [&change.before, &change.after].into_iter().flatten() {
            for column in 0..change.table.columns.len() {
                let _ = row.get(column);
            }
        }
        Ok(())
    }

    fn sequence(&mut self, _table: &str, _value: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _txn: &Txn) -> Result<()> {
        Ok(())
    }
}

/// Database and log with the input's bytes written over them: 3 bytes of place (the highest bit says which file), 1 of value.
pub fn database_and_log(data: &[u8]) {
    let (mut db, mut wal) = base().clone();
    for patch in data.chunks_exact(4).take(64) {
        let place = usize::from(patch[0] & 0x7f) << 16 | usize::from(patch[1]) << 8 | usize::from(patch[2]);
        let file = if patch[0] & 0x80 == 0 { &mut db } else { &mut wal };
        let length = file.len();
        file[place % length] = patch[3];
    }
    // Salvage reads on behind what does not fit.
    salvage(wal.clone());
    seal(&mut wal);
    salvage(wal.clone());
    bridge(db.clone(), wal.clone());
    read(db, wal);
    // And as bytes that nobody made right.
    if let Some((&cut, rest)) = data.split_first() {
        let (db, wal) = rest.split_at((usize::from(cut) * 16).min(rest.len()));
        salvage(wal.to_vec());
        bridge(db.to_vec(), wal.to_vec());
        read(db.to_vec(), wal.to_vec());
    }
}

#[derive(Default)]
struct Finds {
    rows: usize,
}

impl Finder for Finds {
    fn lost(&mut self, _first: u32, _last: u32) -> Result<()> {
        Ok(())
    }

    fn transaction(&mut self, _span: &Span, _pages: usize) -> Result<()> {
        Ok(())
    }

    fn page(&mut self, _frame: u32, _page: u32, _what: &str, _table: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn row(
        &mut self,
        _rowid: Option<i64>,
        _values: &[Value<'_>],
        _encoding: Encoding,
        _lost: Option<u32>,
    ) -> Result<()> {
        self.rows += 1;
        Ok(())
    }
}

fn salvage(wal: Vec<u8>) -> usize {
    let log: Arc<dyn ReadAt> = Arc::new(Bytes(wal));
    let mut finds = Finds::default();
    let _ = orphan::read(&log, None, &mut finds);
    finds.rows
}

/// From a shadow of the undamaged database to the damaged one, in one step that is told; rows that were told.
fn bridge(db: Vec<u8>, wal: Vec<u8>) -> u64 {
    let told = || -> Result<u64> {
        let disk = SimDisk::new();
        let home = Home::within(disk.open_dir(Path::new("")).unwrap(), "shadow")?;
        let start = Standing { end: Coordinate::new(1, 1).unwrap(), server: 7, salt: [0; 8], checksum: Checksum(1, 2) };
        let sound: Arc<dyn ReadAt> = Arc::new(Bytes(base().0.clone()));
        let nothing: Arc<dyn ReadAt> = Arc::new(Bytes(Vec::new()));
        let mut shadow = Shadow::create(&home, &image(&sound, &nothing, [0; 8], 0)?.0, start)?;
        let salt = read_header(&Bytes(wal.clone()))?.map_or([0; 8], |header| header.salt);
        let (db, wal): (Arc<dyn ReadAt>, Arc<dyn ReadAt>) = (Arc::new(Bytes(db)), Arc::new(Bytes(wal)));
        let now = image(&db, &wal, salt, u32::MAX)?.0;
        let to = Standing { end: Coordinate::new(2, 1).unwrap(), salt, ..start };
        shadow.bridge(&now, to)?;
        let place = Place { server: 7, generation: 1, stamp: 0 };
        let drain = Box::new(|writer: &mut rlog::frame::FrameWriter| {
            writer.clear();
            Ok(())
        });
        let mut encoder = Encoder::new(place, start.end, true, TableFilter::default(), drain);
        shadow.tell(start.end, &mut encoder)?;
        Ok(encoder.written.1)
    };
    told().unwrap_or(0)
}

fn read(db: Vec<u8>, wal: Vec<u8>) {
    let Ok(mut decoder) = Decoder::open(Arc::new(Bytes(db)), Arc::new(Bytes(wal))) else { return };
    if decoder.learn().is_err() {
        return;
    }
    let mut reader = Reader::default();
    for table in decoder.schema().tables.clone() {
        if decoder.scan_table(&table, &mut reader).is_err() {
            return;
        }
    }
    while let Ok(Step::Txn(_)) = decoder.next(None, &mut reader) {}
}

/// Makes every checksum of the log right again.
fn seal(wal: &mut [u8]) {
    if wal.len() < WAL_HEADER {
        return;
    }
    let big = wal[3] & 1 == 1;
    let mut sum = add((0, 0), &wal[..24], big);
    put(&mut wal[24..32], sum);
    for frame in wal[WAL_HEADER..].chunks_exact_mut(FRAME_HEADER + PAGE_SIZE) {
        sum = add(sum, &frame[..8], big);
        sum = add(sum, &frame[FRAME_HEADER..], big);
        put(&mut frame[16..24], sum);
    }
}

fn add((mut first, mut second): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap();
        if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

fn put(out: &mut [u8], (first, second): (u32, u32)) {
    out[..4].copy_from_slice(&first.to_be_bytes());
    out[4..].copy_from_slice(&second.to_be_bytes());
}

/// Fails when the checksums of this module are not SQLite's: then nothing behind them would be fuzzed.
#[test]
fn the_undamaged_log_is_read_to_its_end() {
    let (db, mut wal) = base().clone();
    let sealed = wal.clone();
    seal(&mut wal);
    assert!(wal == sealed);
    let mut decoder = Decoder::open(Arc::new(Bytes(db)), Arc::new(Bytes(wal))).unwrap();
    decoder.learn().unwrap();
    let mut reader = Reader::default();
    while let Step::Txn(_) = decoder.next(None, &mut reader).unwrap() {}
    assert!(reader.rows > 100, "{}", reader.rows);
    assert!(salvage(sealed.clone()) > 100, "{}", salvage(sealed.clone()));
    assert!(bridge(base().0.clone(), sealed.clone()) > 50, "{}", bridge(base().0.clone(), sealed));
}
