//! `--format hex`: the bytes, and what they mean: of frames, of the events of binary logs ([`log`]), of SQLite's log ([`wal`]).
//!
//! Frames are shown one after the other with their offset, the fields of the header, then the payload: envelope fields by their names in
//! rlog-format(5), records with their heads. `--since`, `--until` and `--txn` select by transaction; then only what belongs to one is shown.

pub mod log;
pub mod wal;

use super::escape::{one_line, put_hex};
use super::output::Output;
use crate::error::Result;
use crate::event::{RecordKind, record, statement, table};
use crate::frame::fields::FieldReader;
use crate::frame::{FIELD_TABLES, Frame, HEADER_LEN, Kind, VERSION, flags};

/// Bytes in a line.
const LINE: usize = 16;

/// Appends a frame.
pub fn frame(out: &mut Output<'_>, frame: &Frame<'_>) -> Result<()> {
    let header = &frame.header;
    let kind = frame.kind().map_or("unknown", Kind::name);
    out.text(&format!("frame {kind} at {} of {} bytes\n", frame.at, frame.total_len()));
    let bytes = header.encode();
    let mut words = Vec::new();
    for (bit, name) in
        [(flags::CONTINUES, "continues"), (flags::CONTINUED, "continued"), (flags::SKIPPABLE, "skippable")]
    {
        if header.flags & bit != 0 {
            words.push(name);
        }
    }
    for (at, size, name) in crate::frame::header::LAYOUT {
        let meaning = match *name {
            "magic" => "\\x89RLG".to_owned(),
            "version" => VERSION.to_string(),
            "kind" => format!("{} {kind}", header.kind),
            "flags" => words.join(" "),
            "length" => header.length.to_string(),
            "seq" => header.seq.to_string(),
            "id" if frame.kind() == Some(Kind::Definition) => format!("{:016x}", header.id),
            "id" => crate::frame::Coordinate(header.id).to_string(),
            "salt" => format!("{:08x}", header.salt),
            "payload_crc" => format!("{:08x}", header.payload_crc),
            _ => "right".to_owned(),
        };
        let value = bytes.get(*at..at + size).unwrap_or(&[]);
        put_line(out, frame.at + *at as u64, value, &format!("{name}: {meaning}"));
    }
    let payload_at = frame.at + HEADER_LEN as u64;
    match frame.kind() {
        Some(Kind::Data) => {
            if header.flags & (flags::CONTINUES | flags::CONTINUED) == 0 {
                records(out, frame.payload, payload_at)?;
            } else {
                block(out, payload_at, frame.payload, "part of a record")?;
            }
        }
        Some(Kind::Definition) => fields(out, frame.payload, payload_at, table::FIELD_TABLES, "TABLE")?,
        Some(kind) => {
            let name = match kind {
                Kind::Prepared => "COMMIT",
                Kind::Heartbeat | Kind::Gap => "PROGRESS",
                Kind::SnapshotBegin | Kind::SnapshotEnd => "SNAPSHOT",
                kind => &kind.name().to_uppercase(),
            };
            fields(out, frame.payload, payload_at, FIELD_TABLES, name)?;
        }
        None => block(out, payload_at, frame.payload, "payload")?,
    }
    out.text("\n");
    out.spill()
}

/// The records of a data frame.
fn records(out: &mut Output<'_>, payload: &[u8], at: u64) -> Result<()> {
    let mut rest = payload;
    while let Some(head) = rest.first_chunk::<{ record::RECORD_HEAD_LEN }>() {
        let here = at + (payload.len() - rest.len()) as u64;
        let [number, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        let kind = RecordKind::from_number(number);
        let name = kind.map_or("unknown", RecordKind::name);
        put_line(out, here, head, &format!("record: {name}, {length} bytes"));
        let Some(body) = rest.get(record::RECORD_HEAD_LEN..record::RECORD_HEAD_LEN + length) else {
            return block(out, here, rest, "cut short");
        };
        let body_at = here + record::RECORD_HEAD_LEN as u64;
        match kind {
            Some(RecordKind::Insert | RecordKind::Update | RecordKind::Delete) => {
                rows(out, kind.and_then(crate::event::RowsOp::of_record), body, body_at)?;
            }
            Some(_) => fields(out, body, body_at, statement::FIELD_TABLES, "STATEMENT")?,
            None => block(out, body_at, body, "body")?,
        }
        rest = rest.get(record::RECORD_HEAD_LEN + length..).unwrap_or(&[]);
        out.spill()?;
    }
    if rest.is_empty() { Ok(()) } else { block(out, at + (payload.len() - rest.len()) as u64, rest, "cut short") }
}

fn rows(out: &mut Output<'_>, op: Option<crate::event::RowsOp>, body: &[u8], at: u64) -> Result<()> {
    let rows = op.and_then(|op| crate::event::Rows::decode(op, body).ok());
    let Some(rows) = rows else { return block(out, at, body, "damaged head") };
    let head = body.len() - rows.images.len();
    let mut here = 0;
    let mut part = |out: &mut Output<'_>, length: usize, what: &str| {
        if length > 0 {
            put_line(out, at + here as u64, body.get(here..here + length).unwrap_or(&[]), what);
        }
        here += length;
    };
    part(out, 8, &format!("key: table {:016x}", rows.key));
    part(out, 4, &format!("time: {}", rows.time_s));
    part(out, 1, "flags");
    let sets = [
        (rows.before, "before set"),
        (rows.after, "after set"),
        (rows.unchanged, "unchanged set"),
        (rows.diff, "diff set"),
    ];
    let set_bytes: usize = sets.iter().map(|(set, _)| set.bits().len()).sum();
    part(out, head.saturating_sub(17 + set_bytes), &format!("columns: {}", rows.columns));
    for (set, name) in sets {
        part(out, set.bits().len(), name);
    }
    part(out, 4, &format!("rows: {}", rows.count));
    block(out, at + head as u64, rows.images, "images")
}

/// Envelope or event fields by their names.
fn fields(out: &mut Output<'_>, payload: &[u8], at: u64, tables: &[(&str, &[(u8, &str)])], name: &str) -> Result<()> {
    let table = tables.iter().find(|(table, _)| *table == name).map_or(&[][..], |(_, fields)| fields);
    let mut reader = FieldReader::named(payload, "frame", at);
    let start = payload.as_ptr() as usize;
    while let Ok(Some(field)) = reader.next() {
        let name = table.iter().find(|(tag, _)| *tag == field.tag).map_or("unknown", |(_, name)| name);
        let here = at + (field.value.as_ptr() as usize - start) as u64;
        let number = field.number().filter(|_| field.value.len() <= 8);
        let meaning = match field.text().filter(|text| !text.is_empty() && text.chars().all(|c| !c.is_control())) {
            Some(text) => one_line(text),
            None => number.map_or(String::new(), |number| number.to_string()),
        };
        if field.value.len() <= LINE {
            put_line(out, here, field.value, &format!("{}: {meaning}", name.to_lowercase()));
        } else {
            block(out, here, field.value, &name.to_lowercase())?;
        }
    }
    Ok(())
}

/// Bytes with their offset and meaning, on one line.
fn put_line(out: &mut Output<'_>, at: u64, bytes: &[u8], meaning: &str) {
    let buffer = out.buffer();
    buffer.extend_from_slice(format!("  {at:08x}  ").as_bytes());
    let start = buffer.len();
    for byte in bytes.iter().take(LINE) {
        put_hex(buffer, &[*byte]);
        buffer.push(b' ');
    }
    buffer.resize(start + LINE * 3 + 1, b' ');
    buffer.extend_from_slice(meaning.as_bytes());
    buffer.push(b'\n');
}

/// As many lines as the bytes need, with their printable characters.
fn block(out: &mut Output<'_>, at: u64, bytes: &[u8], meaning: &str) -> Result<()> {
    for (number, line) in bytes.chunks(LINE).enumerate() {
        let plain = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let text: String = line.iter().map(plain).collect();
        let label = if number == 0 { format!("|{text}| {meaning}") } else { format!("|{text}|") };
        put_line(out, at + (number * LINE) as u64, line, &label);
        out.spill()?;
    }
    Ok(())
}
