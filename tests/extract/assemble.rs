//! Logs assembled by hand, and a reader that tells what became of them.

use std::path::{Path, PathBuf};

use rlog::error::{Class, Error};
use rlog::event::{RecordKind, RecordReader};
use rlog::frame::{
    Begin, Checker, Commit, Coordinate, End, FrameWriter, Position, Progress, SliceFrames, Step, StreamHeader,
};
use rlog::source::{self, Input, Options};

/// Event types that tests name.
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const FORMAT: u8 = 15;
    pub const XID: u8 = 16;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_V1: u8 = 23;
    pub const INCIDENT: u8 = 26;
    pub const GTID: u8 = 33;
    pub const XA_PREPARE: u8 = 38;
    pub const PAYLOAD: u8 = 40;
    pub const MARIA_GTID: u8 = 162;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_COMPRESSED: u8 = 166;
    pub const PARTIAL_ROWS: u8 = 172;
}

/// A log being assembled.
#[derive(Clone)]
pub struct Log {
    pub bytes: Vec<u8>,
    pub checksum: bool,
    pub server_id: u32,
    pub time: u32,
    /// Whether headers say 0 instead of the end position, as MariaDB >= 11.4 does inside of transactions.
    pub no_positions: bool,
    /// Added to every end position: where a relay log's events stood in their source.
    pub shift: u64,
}

impl Log {
    /// A MariaDB log.
    pub fn maria() -> Log {
        Log::new("10.11.18-MariaDB-log", 0, 0)
    }

    /// A MySQL log.
    pub fn mysql() -> Log {
        Log::new("8.0.40", 0, 0)
    }

    /// A log of a server that started at `created` (0: before this file), with flags in its first event.
    pub fn new(version: &str, created: u32, flags: u16) -> Log {
        let mut log = Log {
            bytes: b"\xfebin".to_vec(),
            checksum: true,
            server_id: 7,
            time: 1_700_000_000,
            no_positions: false,
            shift: 0,
        };
        log.format(version, created, flags);
        log
    }

    pub fn format(&mut self, version: &str, created: u32, flags: u16) -> &mut Log {
        let mut body = vec![4, 0];
        let mut text = version.as_bytes().to_vec();
        text.resize(50, 0);
        body.extend_from_slice(&text);
        body.extend_from_slice(&created.to_le_bytes());
        body.push(19);
        let mut post = vec![0u8; 172];
        for (number, length) in [
            (2, 13),
            (4, 8),
            (15, 84),
            (18, 26),
            (19, 8),
            (23, 8),
            (24, 8),
            (25, 8),
            (30, 10),
            (31, 10),
            (32, 10),
            (33, 42),
        ] {
            post[number - 1] = length;
        }
        body.extend_from_slice(&post);
        body.push(u8::from(self.checksum));
        let checksum = std::mem::replace(&mut self.checksum, true);
        // The checksum is computed without the in-use flag.
        let at = self.bytes.len();
        self.event_flags(kind::FORMAT, &body, flags & !1);
        self.bytes[at + 17] |= (flags & 1) as u8;
        self.checksum = checksum;
        self
    }

    pub fn event(&mut self, kind: u8, body: &[u8]) -> &mut Log {
        self.event_flags(kind, body, 0)
    }

    pub fn event_flags(&mut self, kind: u8, body: &[u8], flags: u16) -> &mut Log {
        let size = 19 + body.len() + if self.checksum { 4 } else { 0 };
        let end = self.shift.wrapping_add((self.bytes.len() + size) as u64);
        let end = if self.no_positions { 0 } else { end as u32 };
        let event = raw_event(self.time, kind, self.server_id, size as u32, end, flags, body);
        self.bytes.extend_from_slice(&event);
        if self.checksum {
            let crc = crc32fast::hash(&event);
            self.bytes.extend_from_slice(&crc.to_le_bytes());
        }
        self
    }

    pub fn query(&mut self, sql: &str) -> &mut Log {
        self.event(kind::QUERY, &query_body("shop", sql.as_bytes()))
    }

    pub fn maria_gtid(&mut self, sequence: u64, flags: u8, commit_id: Option<u64>) -> &mut Log {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend_from_slice(&0u32.to_le_bytes());
        body.push(flags | if commit_id.is_some() { 2 } else { 0 });
        match commit_id {
            Some(id) => body.extend_from_slice(&id.to_le_bytes()),
            None => body.extend_from_slice(&[0; 6]),
        }
        self.event(kind::MARIA_GTID, &body)
    }

    pub fn mysql_gtid(&mut self, number: u64, clock: (u64, u64)) -> &mut Log {
        let mut body = vec![0];
        body.extend_from_slice(&UUID);
        body.extend_from_slice(&number.to_le_bytes());
        body.push(2);
        body.extend_from_slice(&clock.0.to_le_bytes());
        body.extend_from_slice(&clock.1.to_le_bytes());
        body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0]);
        self.event(kind::GTID, &body)
    }

    /// A table `id INT, name VARCHAR(2000)`.
    pub fn table_map(&mut self, id: u8, table: &str) -> &mut Log {
        self.event(kind::TABLE_MAP, &table_map_body(id, "shop", table))
    }

    pub fn rows(&mut self, id: u8, rows: &[(i32, &str)]) -> &mut Log {
        self.event(kind::WRITE_V1, &rows_body(id, rows))
    }

    pub fn xid(&mut self, number: u64) -> &mut Log {
        self.event(kind::XID, &number.to_le_bytes())
    }

    /// A whole transaction of MariaDB with these rows.
    pub fn maria_transaction(&mut self, sequence: u64, rows: &[(i32, &str)]) -> &mut Log {
        self.maria_gtid(sequence, 4, None).table_map(30, "t").rows(30, rows).xid(sequence)
    }

    /// A whole transaction of MySQL with these rows.
    pub fn mysql_transaction(&mut self, number: u64, clock: (u64, u64), rows: &[(i32, &str)]) -> &mut Log {
        self.mysql_gtid(number, clock).query("BEGIN").table_map(30, "t").rows(30, rows).xid(number)
    }

    pub fn rotate(&mut self, name: &str) -> &mut Log {
        self.event(kind::ROTATE, &[&4u64.to_le_bytes()[..], name.as_bytes()].concat())
    }

    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, &self.bytes).unwrap();
        path
    }
}

pub const UUID: [u8; 16] = *b"\x3e\x11\xfa\x47\x71\xca\x11\xe1\x9e\x33\xc8\x0a\xa9\x42\x95\x62";
pub const UUID_TEXT: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

pub fn raw_event(time: u32, kind: u8, server_id: u32, size: u32, end: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = time.to_le_bytes().to_vec();
    out.push(kind);
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(body);
    out
}

pub fn query_body(database: &str, sql: &[u8]) -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 0, 0, 0, 0, database.len() as u8, 0, 0, 0, 0];
    body.extend_from_slice(database.as_bytes());
    body.push(0);
    body.extend_from_slice(sql);
    body
}

pub fn table_map_body(id: u8, database: &str, table: &str) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0];
    for name in [database, table] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(&[2, 3, 15, 2, 0xd0, 0x07, 2]);
    body
}

pub fn rows_body(id: u8, rows: &[(i32, &str)]) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 2, 0xff];
    body.extend_from_slice(&images(rows));
    body
}

pub fn images(rows: &[(i32, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, name) in rows {
        out.push(0xfc);
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    out
}

/// A transaction as it came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    pub begin: Begin,
    pub commit: Commit,
    pub position: Position,
    pub prepared: bool,
    /// Kinds of its records.
    pub records: Vec<RecordKind>,
    /// Bodies of its records.
    pub bodies: Vec<Vec<u8>>,
}

/// What came out of a log.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    pub header: StreamHeader,
    pub transactions: Vec<Transaction>,
    pub progress: Vec<Progress>,
    pub discarded: Vec<Coordinate>,
    pub end: Option<End>,
    pub error: Option<Error>,
}

impl Output {
    pub fn class(&self) -> Option<Class> {
        self.error.as_ref().map(Error::class)
    }

    pub fn rows(&self) -> u64 {
        let counts = self.transactions.iter().flat_map(|transaction| &transaction.commit.tables);
        counts.map(|count| count.inserts + count.updates + count.deletes).sum()
    }

    /// Offsets of the transactions.
    pub fn offsets(&self) -> Vec<u64> {
        self.transactions.iter().map(|transaction| transaction.position.txid.offset()).collect()
    }
}

/// Reads a source to its end or first error. Checks nesting, counts, digests and contiguity of what came out.
pub fn drive(opened: rlog::error::Result<Box<dyn rlog::source::Source>>) -> Output {
    let mut out = Output::default();
    let mut writer = FrameWriter::new();
    match opened {
        Ok(mut source) => loop {
            match source.step(&mut writer) {
                Ok(rlog::source::Step::More | rlog::source::Step::Waited) => {}
                Ok(rlog::source::Step::End | rlog::source::Step::Idle) => break,
                Err(error) => {
                    out.error = Some(error);
                    break;
                }
            }
        },
        Err(error) => out.error = Some(error),
    }
    out.bytes = writer.bytes().to_vec();
    parse(&mut out);
    out
}

fn parse(out: &mut Output) {
    let bytes = std::mem::take(&mut out.bytes);
    let mut frames = SliceFrames::new(&bytes, 0);
    let mut checker = Checker::contiguous();
    let mut records = RecordReader::new();
    let mut begun: Option<Begin> = None;
    let (mut kinds, mut bodies) = (Vec::new(), Vec::new());
    while let Some(frame) = frames.next().expect("frames are whole") {
        match checker.frame(&frame).expect("frames are in order") {
            Step::Stream(header, _) => out.header = *header,
            Step::Begin(_, begin) => {
                begun = Some(*begin);
                (kinds, bodies) = (Vec::new(), Vec::new());
            }
            Step::Data => {
                let mut whole = records.frame(&frame);
                while let Some((kind, body)) = whole.next().expect("records are whole") {
                    kinds.push(kind);
                    bodies.push(body.to_vec());
                }
            }
            step @ (Step::Commit(..) | Step::Prepared(..)) => {
                let prepared = matches!(step, Step::Prepared(..));
                let (Step::Commit(position, commit) | Step::Prepared(position, commit)) = step else { continue };
                out.transactions.push(Transaction {
                    begin: begun.take().expect("a begin before each commit"),
                    commit: *commit,
                    position,
                    prepared,
                    records: std::mem::take(&mut kinds),
                    bodies: std::mem::take(&mut bodies),
                });
            }
            Step::Progress(progress) => out.progress.push(*progress),
            Step::Discard(txid) => out.discarded.push(txid),
            Step::End(end) => out.end = Some(*end),
            _ => {}
        }
    }
    out.bytes = bytes;
}

/// Reads a stream of bytes called `bin.000001`.
pub fn read(bytes: &[u8]) -> Output {
    read_with(bytes, Options { log_name: Some("bin.000001".into()), ..Options::default() })
}

pub fn read_with(bytes: &[u8], options: Options) -> Output {
    let input = std::io::Cursor::new(bytes.to_vec());
    drive(source::open(Input::Stream("test".into(), Box::new(input)), options))
}

pub fn read_files(paths: &[PathBuf], options: Options) -> Output {
    drive(source::open(Input::Files(paths.to_vec()), options))
}
