//! What each fuzz target does with its bytes. Kept apart from the targets so that a finding can be replayed and
//! debugged like any function.
//!
//! The oracle everywhere: an error or a result, never a panic, and memory bounded by the input and the limits of the format.

pub mod binlog;
pub mod binlog_rows;
pub mod sqlite;
pub mod wire;

use std::collections::HashMap;

use rlog::event::{RecordReader, Rows, RowsOp, Statement, TableDefinition};
use rlog::frame::{Checker, FrameReader, HEADER_LEN, Header, Kind, SliceFrames, Step, find_frame};

/// The reader of rlog streams: from a slice and from a stream, the order of frames, records, rows and values.
///
/// Fuzzers do not find checksums, so every input is also read as payloads that are framed with right ones.
pub fn frames(data: &[u8]) {
    read_stream(data);
    if let Some((&kind, payload)) = data.split_first() {
        read_stream(&framed(kind, payload));
    }
    let mut whole = FrameReader::new(data);
    while let Ok(Some(_)) = whole.next() {}
    let mut at = 0;
    while let Some(found) = find_frame(data, at) {
        at = found + 1;
    }
}

/// A stream header, a definition, begin, a data frame, all with right checksums around pieces of the input; the first byte
/// says which piece goes where.
fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let cut = payload.first().map_or(0, |first| usize::from(*first)).min(payload.len());
    let (first, second) = payload.split_at(cut);
    let mut out = Vec::new();
    let stream = rlog::frame::StreamHeader { source: "x".into(), ..Default::default() };
    let mut bytes = Vec::new();
    stream.encode(&mut bytes);
    frame(&mut out, Kind::Stream as u8, 0, 0, &bytes);
    // The key in the rows is what the input says: the definition takes the same.
    let key = second.get(5..13).and_then(|key| key.try_into().ok()).map_or(0, u64::from_le_bytes);
    frame(&mut out, Kind::Definition as u8, 0, key, first);
    bytes.clear();
    rlog::frame::Begin::default().encode(&mut bytes);
    frame(&mut out, Kind::Begin as u8, 0, 1, &bytes);
    frame(&mut out, Kind::Data as u8, 1, 1, second);
    frame(&mut out, kind, 2, 1, first);
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, seq: u32, id: u64, payload: &[u8]) {
    let header = Header { kind, flags: 0, length: payload.len() as u32, seq, id, salt: 0, payload_crc: crc(payload) };
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// CRC-32 bit by bit: inputs are small, and the fuzz package needs no further dependency.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn read_stream(bytes: &[u8]) {
    let mut frames = SliceFrames::new(bytes, 0);
    let mut checker = Checker::contiguous();
    let mut tables: HashMap<u64, TableDefinition> = HashMap::new();
    let mut records = RecordReader::new();
    while let Ok(Some(frame)) = frames.next() {
        match checker.frame(&frame) {
            Ok(Step::Definition(key)) => {
                if let Ok(table) = TableDefinition::decode(frame.payload) {
                    // What decodes is written and read again as the same.
                    let mut again = Vec::new();
                    table.encode(&mut again);
                    assert_eq!(TableDefinition::decode(&again).as_ref(), Ok(&table));
                    tables.insert(key, table);
                }
            }
            Ok(Step::Data) => {
                let mut records = records.frame(&frame);
                while let Ok(Some((kind, body))) = records.next() {
                    let Some(op) = RowsOp::of_record(kind) else {
                        let _ = Statement::decode(body);
                        continue;
                    };
                    let Ok(rows) = Rows::decode(op, body) else { continue };
                    let Some(table) = tables.get(&rows.key) else { continue };
                    let Ok(mut rows) = rows.iter(table) else { continue };
                    while let Ok(Some(row)) = rows.next() {
                        for image in [row.before, row.after].into_iter().flatten() {
                            image.columns().for_each(|value| drop(value));
                        }
                    }
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
}
