//! Rows as `BINLOG '…'` statements: the server decodes row events of its own format and applies them as a replica does,
//! without SQL, and without firing triggers. Formats: MySQL's and MariaDB's documentation of the binary log (format
//! description, TABLE_MAP, WRITE/UPDATE/DELETE_ROWS events of version 1, which both families read).
//!
//! A session sends the format description once ([`format_description`]); then any number of table map and rows events per
//! statement. Events carry no checksum, as the format description says.
//!
//! ```text
//! header 19: time 4, type 1, server id 4, event size 4, log position 4, flags 2
//! TABLE_MAP: table id 6, flags 2, database (length 1, text, 0), table (likewise), columns, types, metadata, null bits
//! *_ROWS: table id 6, flags 2, (version 2: extra data 2), columns, column bits (twice for updates), rows: null bits, values
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::catalog::{ServerTable, WireType};
use super::connect::Family;

const HEADER_LEN: usize = 19;
const FORMAT_DESCRIPTION: u8 = 15;
const TABLE_MAP: u8 = 19;
/// Rows events of version 1.
const WRITE_ROWS: u8 = 23;
const UPDATE_ROWS: u8 = 24;
const DELETE_ROWS: u8 = 25;
/// Optional metadata of a table map: numbers in each vector column.
const VECTOR_DIMENSIONS: u8 = 13;
/// So much higher are the numbers of version 2, which MySQL writes, and of which MySQL 9 knows no other.
const SECOND_VERSION: u8 = 7;
/// The rows event ends a statement: tables are closed, what was changed is checked.
const STMT_END: u16 = 1;
/// Flag of rows events: foreign keys are not looked at, and nothing cascades.
pub const NO_FOREIGN_KEY_CHECKS: u16 = 2;
/// Flag of rows events: unique keys other than the primary one need not be checked (`RELAXED_UNIQUE_CHECKS_F`).
pub const RELAXED_UNIQUE_CHECKS: u16 = 4;

/// Lengths of the post-headers of events 1 to 42 in both families; what is not used here is 0 or as servers write it.
const POST_HEADERS: [u8; 42] = [
    56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 99, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10, 10, 10, 42, 42, 0,
    18, 52, 0, 10, 0, 0, 0,
];

/// What rows events do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert.
    Write,
    /// Update.
    Update,
    /// Delete.
    Delete,
}

/// `BINLOG '…'` with a format description event of our own, for a server of `version`.
pub fn format_description(family: Family, version: &str) -> String {
    let mut event = Vec::with_capacity(128);
    put_header(&mut event, 0, FORMAT_DESCRIPTION, 1);
    event.extend_from_slice(&4u16.to_le_bytes());
    let mut text = [0u8; 50];
    // The version decides whether a checksum byte is expected; it always is for those that are supported.
    let version = match family {
        Family::MariaDb => version,
        Family::MySql => version.split('-').next().unwrap_or(version),
    };
    for (to, from) in text.iter_mut().take(49).zip(version.bytes()) {
        *to = from;
    }
    event.extend_from_slice(&text);
    event.extend_from_slice(&0u32.to_le_bytes());
    event.push(HEADER_LEN as u8);
    event.extend_from_slice(&POST_HEADERS);
    // Checksum algorithm: none. The event has room for one nevertheless.
    event.extend_from_slice(&[0; 5]);
    let length = event.len() as u32;
    set_u32(&mut event, 9, length);
    statement(&event)
}

/// `BINLOG '…'` of whole events.
pub fn statement(events: &[u8]) -> String {
    let mut out = String::new();
    put_statement(&mut out, events);
    out
}

/// Likewise, instead of what is in `out`.
pub fn put_statement(out: &mut String, events: &[u8]) {
    out.clear();
    out.reserve(statement_len(events.len()));
    out.push_str("BINLOG '");
    STANDARD.encode_string(events, out);
    out.push('\'');
}

/// Bytes of the statement that `events` bytes become.
pub fn statement_len(events: usize) -> usize {
    events.div_ceil(3) * 4 + 10
}

fn put_header(out: &mut Vec<u8>, time_s: u32, kind: u8, server_id: u32) {
    out.extend_from_slice(&time_s.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&[0; 10]);
}

fn set_u32(out: &mut [u8], at: usize, value: u32) {
    if let Some(room) = out.get_mut(at..at + 4) {
        room.copy_from_slice(&value.to_le_bytes());
    }
}

/// A length in the form that events use ("packed integer").
pub fn put_packed(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xffff => {
            out.push(252);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(253);
            out.extend_from_slice(value.to_le_bytes().get(..3).unwrap_or(&[]));
        }
        _ => {
            out.push(254);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Events under construction. Reused: [`Events::clear`] keeps the memory.
#[derive(Clone, Debug)]
pub struct Events {
    family: Family,
    bytes: Vec<u8>,
    /// Where the rows event begins that is still open.
    open: Option<usize>,
    /// Header values of the events to come.
    pub time_s: u32,
    /// Header values of the events to come.
    pub server_id: u32,
    /// Flags of the rows events to come ([`NO_FOREIGN_KEY_CHECKS`]).
    pub flags: u16,
}

impl Events {
    /// None yet, for a server of this family.
    pub fn new(family: Family) -> Events {
        Events { family, bytes: Vec::new(), open: None, time_s: 0, server_id: 0, flags: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A table map for `table` under the number `id` (below 2^48 less one). Every column must have a wire type
    /// ([`super::catalog::WireType::table_map`]); `false`, and nothing is written, when one has none or a name is too long.
    pub fn table_map(&mut self, id: u64, table: &ServerTable) -> bool {
        let at = self.bytes.len();
        put_header(&mut self.bytes, self.time_s, TABLE_MAP, self.server_id);
        let out = &mut self.bytes;
        out.extend_from_slice(id.to_le_bytes().get(..6).unwrap_or(&[0; 6]));
        out.extend_from_slice(&1u16.to_le_bytes());
        let mut ok = true;
        for name in [&table.database, &table.name] {
            ok &= name.len() <= 255;
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        put_packed(out, table.columns.len() as u64);
        let mut metadata = Vec::with_capacity(table.columns.len() * 2);
        let mut nulls = vec![0u8; table.columns.len().div_ceil(8)];
        for (index, column) in table.columns.iter().enumerate() {
            let Some((kind, meta, length)) = column.wire.table_map() else {
                ok = false;
                break;
            };
            out.push(kind);
            metadata.extend_from_slice(meta.get(..length).unwrap_or(&[]));
            if let (true, Some(byte)) = (column.nullable, nulls.get_mut(index / 8)) {
                *byte |= 1 << (index % 8);
            }
        }
        put_packed(out, metadata.len() as u64);
        out.extend_from_slice(&metadata);
        out.extend_from_slice(&nulls);
        let mut dimensions = Vec::new();
        for column in &table.columns {
            if let WireType::Vector { dimensions: count } = column.wire {
                put_packed(&mut dimensions, u64::from(count));
            }
        }
        if !dimensions.is_empty() {
            out.push(VECTOR_DIMENSIONS);
            put_packed(out, dimensions.len() as u64);
            out.extend_from_slice(&dimensions);
        }
        if !ok {
            self.bytes.truncate(at);
            return false;
        }
        self.finish(at);
        true
    }

    /// Opens a rows event for the table mapped as `id`; images are appended through [`Events::images`]. `columns` is how many the
    /// table has, the sets say which of them the images hold (`after` only for updates; a write's or delete's only set is `before`).
    pub fn open_rows(&mut self, change: Change, id: u64, columns: usize, before: &[u8], after: &[u8]) {
        self.close_rows(false);
        let at = self.bytes.len();
        let second = u8::from(self.family == Family::MySql) * SECOND_VERSION;
        let kind = second
            + match change {
                Change::Write => WRITE_ROWS,
                Change::Update => UPDATE_ROWS,
                Change::Delete => DELETE_ROWS,
            };
        put_header(&mut self.bytes, self.time_s, kind, self.server_id);
        self.bytes.extend_from_slice(id.to_le_bytes().get(..6).unwrap_or(&[0; 6]));
        self.bytes.extend_from_slice(&self.flags.to_le_bytes());
        if second > 0 {
            // Extra data: none but its own length.
            self.bytes.extend_from_slice(&2u16.to_le_bytes());
        }
        put_packed(&mut self.bytes, columns as u64);
        self.bytes.extend_from_slice(before);
        if change == Change::Update {
            self.bytes.extend_from_slice(after);
        }
        self.open = Some(at);
    }

    /// Where images of the open rows event go.
    pub fn images(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Closes the rows event, if one is open; `end` ends the statement, which the last rows event must.
    pub fn close_rows(&mut self, end: bool) {
        if let Some(at) = self.open.take() {
            if let (true, Some(flags)) = (end, self.bytes.get_mut(at + HEADER_LEN + 6)) {
                *flags |= STMT_END as u8;
            }
            self.finish(at);
        }
    }

    fn finish(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u32;
        set_u32(&mut self.bytes, at + 9, length);
    }
}
