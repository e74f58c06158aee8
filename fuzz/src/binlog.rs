//! The reader of binary logs, from its first byte to the frames, and the printers behind it.
//!
//! Base is a small log that every run assembles for itself: format description, a transaction of rows, one of statements. The
//! input overwrites bytes, cuts and inserts; the checksums are made right again, as a fuzzer would never do.

use std::io::Cursor;

use rlog::event::text;
use rlog::event::{RecordReader, Rows, RowsOp, TableDefinition};
use rlog::frame::{Checker, FrameWriter, SliceFrames, Step};
use rlog::source::{self, Input, Options};

/// An event: header of 19 bytes, body, room for the checksum.
fn event(log: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = (19 + body.len() + 4) as u32;
    let end = log.len() as u32 + length;
    log.extend_from_slice(&1_700_000_000u32.to_le_bytes());
    log.push(kind);
    log.extend_from_slice(&1u32.to_le_bytes());
    log.extend_from_slice(&length.to_le_bytes());
    log.extend_from_slice(&end.to_le_bytes());
    log.extend_from_slice(&[0, 0]);
    log.extend_from_slice(body);
    log.extend_from_slice(&[0; 4]);
}

fn query(sql: &[u8]) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'd', 0];
    body.extend_from_slice(sql);
    body
}

/// A log that is right but for its checksums.
fn base() -> Vec<u8> {
    let mut log = vec![0xfe, b'b', b'i', b'n'];
    let mut format = vec![4, 0];
    format.extend_from_slice(b"8.0.36");
    format.resize(2 + 50, 0);
    format.extend_from_slice(&[0, 0, 0, 0, 19]);
    // Lengths of the post-headers of event types 1 to 41, as MySQL 8.0 writes them.
    format.extend_from_slice(&[
        0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 98, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10, 10, 10, 42, 42,
        0, 18, 52, 0, 10, 40, 0,
    ]);
    format.push(1);
    event(&mut log, 15, &format);
    event(&mut log, 2, &query(b"CREATE TABLE d.t (a INT PRIMARY KEY, b VARCHAR(9), c DATETIME(3), d DECIMAL(9,2))"));
    event(&mut log, 2, &query(b"BEGIN"));
    let map = [&[42, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 4, 3, 15, 18, 246][..], &[5, 36, 0, 3, 9, 2, 0x0e]];
    event(&mut log, 19, &map.concat());
    let row = |a: u8| [&[0, a, 0, 0, 0, 2, b'h', b'i', 0x99, 0xb2, 0x2a, 0, 0, 0, 1, 0x80, 0, 0, a, 5][..]].concat();
    let head = [42, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0x0f];
    event(&mut log, 30, &[&head[..], &row(1), &row(2)].concat());
    event(&mut log, 31, &[&head[..], &[0x0f], &row(1), &row(3)].concat());
    event(&mut log, 32, &[&head[..], &row(2)].concat());
    event(&mut log, 16, &[9, 0, 0, 0, 0, 0, 0, 0]);
    event(&mut log, 2, &query(b"ALTER TABLE d.t ADD COLUMN e JSON, DROP COLUMN b"));
    log
}

/// First byte: 0 takes the rest as the whole file; else 4 bytes each overwrite (place, place, value, unused) and what follows the
/// separator byte 0xff, if anything, is appended as events of its own.
pub fn log(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    if *choice == 0 {
        return read([&[0xfe, b'b', b'i', b'n'], data].concat());
    }
    let mut log = base();
    let (patches, appended) = match data.iter().position(|byte| *byte == 0xff) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    if let [kind, body @ ..] = appended {
        event(&mut log, *kind, body);
    }
    for patch in patches.chunks_exact(3).take(32) {
        let at = usize::from(patch[0]) << 8 | usize::from(patch[1]);
        let length = log.len() - 4;
        log[4 + at % length] = patch[2];
    }
    seal(&mut log);
    read(log);
}

/// Makes the checksums right, event by event as the lengths say.
fn seal(log: &mut [u8]) {
    let mut at = 4;
    while let Some(length) = log.get(at + 9..at + 13) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        if length < 23 || length > log.len() - at {
            return;
        }
        let crc = super::crc(&log[at..at + length - 4]);
        log[at + length - 4..at + length].copy_from_slice(&crc.to_le_bytes());
        at += length;
    }
}

fn read(log: Vec<u8>) {
    read_as(log.clone(), false);
    read_as(log, true);
}

/// With `salvage` reading goes on behind damage, and gaps stand where something is lost.
fn read_as(log: Vec<u8>, salvage: bool) {
    let options = Options { log_name: Some("bin.000001".into()), salvage, ..Options::default() };
    let Ok(mut source) = source::open(Input::Stream("fuzz".into(), Box::new(Cursor::new(log))), options) else {
        return;
    };
    let mut writer = FrameWriter::new();
    let mut whole = false;
    loop {
        match source.step(&mut writer) {
            Ok(source::Step::End) => {
                whole = true;
                break;
            }
            Ok(source::Step::More) => {}
            Ok(source::Step::Idle | source::Step::Waited) | Err(_) => break,
        }
    }
    // Whatever was written is right, and prints.
    let mut frames = SliceFrames::new(writer.bytes(), 0);
    let mut checker = Checker::contiguous();
    let mut records = RecordReader::new();
    let mut tables = std::collections::HashMap::new();
    while let Some(frame) = frames.next().expect("frames are whole") {
        match checker.frame(&frame).expect("frames are in order") {
            Step::Definition(key) => drop(tables.insert(key, TableDefinition::decode(frame.payload).unwrap())),
            Step::Data => {
                let mut records = records.frame(&frame);
                while let Some((kind, body)) = records.next().unwrap() {
                    if let Some(op) = RowsOp::of_record(kind) {
                        let rows = Rows::decode(op, body).unwrap();
                        print(&rows, &tables[&rows.key]);
                    }
                }
            }
            _ => {}
        }
    }
    assert!(!whole || checker.finished());
}

/// Every value of some rows as text.
fn print(rows: &Rows<'_>, table: &TableDefinition) {
    let mut out = Vec::new();
    let mut rows = rows.iter(table).unwrap();
    while let Some(row) = rows.next().unwrap() {
        for image in [row.before, row.after].into_iter().flatten() {
            for (value, column) in image.columns().zip(&table.columns) {
                out.clear();
                text::write_value(&mut out, value.unwrap(), column);
            }
        }
    }
}

/// Rows whose values are the input's bytes, of every column kind, printed.
pub fn printers(data: &[u8]) {
    use rlog::event::table::{Column, ColumnKind, Sign, StringForm};
    let [choice, size, data @ ..] = data else { return };
    let kinds = [
        ColumnKind::Int { bytes: 8, sign: Sign::Unknown },
        ColumnKind::Float,
        ColumnKind::Double,
        ColumnKind::Decimal { precision: size % 65 + 1, scale: size % 39 % (size % 65 + 1) },
        ColumnKind::Bit { bits: size % 64 + 1 },
        ColumnKind::Year,
        ColumnKind::Date,
        ColumnKind::Time { fsp: size % 7 },
        ColumnKind::DateTime { fsp: size % 7 },
        ColumnKind::Timestamp { fsp: size % 7 },
        ColumnKind::String { form: StringForm::Blob, bytes_max: 0 },
        ColumnKind::Enum,
        ColumnKind::Set,
        ColumnKind::JsonBinary,
        ColumnKind::Geometry,
        ColumnKind::Vector,
        ColumnKind::Any,
    ];
    let mut column = Column::new("c", kinds[usize::from(*choice) % kinds.len()]);
    column.members = vec![b"one".to_vec(), vec![0xff, 0x1b]];
    column.charset = ["", "binary", "utf8mb4", "latin1", "ucs2", "utf16", "sjis", "gb18030", "no-such"]
        [usize::from(*size) % 9]
        .into();
    let table = TableDefinition { table: "t".into(), columns: vec![column], ..TableDefinition::default() };
    let mut body = Vec::new();
    let head = rlog::event::RowsHead {
        key: 0,
        time_s: 0,
        columns: 1,
        before: &[1],
        after: &[1],
        unchanged: &[],
        diff: if choice & 0x80 == 0 { &[] } else { &[1] },
    };
    let at = head.encode(RowsOp::Insert, &mut body);
    rlog::event::rows::set_row_count(&mut body, at, 1);
    body.push(0);
    body.extend_from_slice(data);
    let Ok(rows) = Rows::decode(RowsOp::Insert, &body) else { return };
    let Ok(mut rows) = rows.iter(&table) else { return };
    if let Ok(Some(row)) = rows.next() {
        for value in row.after.iter().flat_map(|image| image.columns()).flatten() {
            let mut out = Vec::new();
            text::write_value(&mut out, value, &table.columns[0]);
            assert!(out.len() <= 64 + data.len() * 64, "{} bytes of text from {} bytes", out.len(), data.len());
        }
    }
}

/// Fails when the base is no log that the reader takes: then little behind its first bytes would be fuzzed.
#[test]
fn the_base_is_read_to_its_end() {
    let mut log = base();
    seal(&mut log);
    let options = Options { log_name: Some("bin.000001".into()), ..Options::default() };
    let mut source = source::open(Input::Stream("fuzz".into(), Box::new(Cursor::new(log))), options).unwrap();
    let mut writer = FrameWriter::new();
    while source.step(&mut writer).unwrap() != source::Step::End {}
    assert_eq!(source.status().rows, 4);
}
