//! What the bytes of an event mean, field by field, for people who look at them (`rlog-dump --format hex`).
//!
//! Nothing here fails: what is cut short or not known is shown as bytes. Values of rows are not taken apart, their columns are ([`super::image`] does the
//! former). Facts: MySQL's and MariaDB's documentation of the binary log.

use std::collections::HashMap;

use super::event::{self, CHECKSUM_LEN, Format, Header, flag, kind};
use super::gtid::{self, GroupHead, State};
use super::table_map::{Family, TableMap};

/// Tables that are remembered by their ids.
const TABLES_MAX: usize = 4096;

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Offset in the event.
    pub at: usize,
    /// Bytes.
    pub len: usize,
    /// What it is called.
    pub name: String,
    /// What it says; may be empty. Not escaped.
    pub meaning: String,
}

/// Explains the events of one log in their order: what is said about rows depends on the table maps before them.
#[derive(Default)]
pub struct Explainer {
    tables: HashMap<u64, String>,
}

/// The fields of an event's header.
pub fn header_fields(format: &Format, header: &Header, raw: &[u8]) -> Vec<Field> {
    let mut parts = Parts::new(raw, 0);
    parts.field(4, "timestamp", |_| if header.timestamp == 0 { "none".into() } else { utc(header.timestamp) });
    parts.field(1, "type", |_| format!("{} {}", header.kind, event::name(header.kind)));
    parts.number(4, "server_id");
    parts.number(4, "size");
    if format.version > 1 {
        let said = if format.version < 4 { "start" } else { "end" };
        parts.field(4, "log_pos", |_| {
            if header.log_pos == 0 { "0, not said".into() } else { format!("{said} {}", header.log_pos) }
        });
        parts.field(2, "flags", |_| flag_words(header.flags));
    }
    let more = format.header_len_of(header.kind).saturating_sub(parts.at);
    if more > 0 {
        parts.bytes(more, "extra header");
    }
    parts.fields
}

/// The checksum at an event's end, and whether it is right.
pub fn checksum_field(format: &Format, header: &Header, raw: &[u8]) -> Option<Field> {
    let at = raw.len().checked_sub(CHECKSUM_LEN).filter(|_| format.checksum)?;
    let meaning = match format.verify(header, raw, 0) {
        Ok(()) => "right".to_owned(),
        Err(error) => format!("WRONG: {}", error.what()),
    };
    Some(Field { at, len: CHECKSUM_LEN, name: "crc32".into(), meaning })
}

fn utc(seconds: u32) -> String {
    jiff::Timestamp::from_second(i64::from(seconds)).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn flag_words(flags: u16) -> String {
    let known = [
        (flag::IN_USE, "in use"),
        (0x4, "thread specific"),
        (0x8, "no database"),
        (flag::ARTIFICIAL, "artificial"),
        (flag::RELAY_LOG, "relay log"),
        (flag::IGNORABLE, "ignorable"),
        (0x100, "no filter"),
        (0x200, "isolated"),
    ];
    let words: Vec<&str> = known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    words.join(", ")
}

/// Cuts bytes into fields.
struct Parts<'a> {
    bytes: &'a [u8],
    base: usize,
    at: usize,
    fields: Vec<Field>,
}

impl<'a> Parts<'a> {
    fn new(bytes: &'a [u8], base: usize) -> Parts<'a> {
        Parts { bytes, base, at: 0, fields: Vec::new() }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    /// A field of a fixed length; `None`, with what is left as a field, when there is not so much.
    fn field(&mut self, len: usize, name: &str, meaning: impl FnOnce(&'a [u8]) -> String) -> Option<&'a [u8]> {
        let rest = self.rest();
        let Some(value) = rest.get(..len) else {
            if !rest.is_empty() {
                self.push(rest.len(), name, "cut short".into());
            }
            return None;
        };
        let meaning = meaning(value);
        self.push(len, name, meaning);
        Some(value)
    }

    fn push(&mut self, len: usize, name: &str, meaning: String) {
        self.fields.push(Field { at: self.base + self.at, len, name: name.to_owned(), meaning });
        self.at += len;
    }

    fn number(&mut self, len: usize, name: &str) -> Option<u64> {
        self.number_as(len, name, |number| number.to_string())
    }

    fn number_as(&mut self, len: usize, name: &str, meaning: impl FnOnce(u64) -> String) -> Option<u64> {
        let value = little(self.rest().get(..len)?);
        self.field(len, name, |_| meaning(value))?;
        Some(value)
    }

    fn text(&mut self, len: usize, name: &str) -> Option<&'a [u8]> {
        self.field(len, name, |value| String::from_utf8_lossy(value).into_owned())
    }

    fn bytes(&mut self, len: usize, name: &str) -> Option<&'a [u8]> {
        self.field(len, name, |_| String::new())
    }

    /// A length of one byte, and so much text.
    fn short_text(&mut self, name: &str) -> Option<&'a [u8]> {
        let length = self.number(1, &format!("{name} length"))?;
        self.text(length as usize, name)
    }

    /// A number of 1, 3, 4 or 9 bytes.
    fn packed(&mut self, name: &str) -> Option<u64> {
        let mut rest = self.rest();
        let before = rest.len();
        let value = super::table_map::take_packed(&mut rest)?;
        self.push(before - rest.len(), name, value.to_string());
        Some(value)
    }

    fn rest_as(&mut self, name: &str) {
        let length = self.rest().len();
        if length > 0 {
            self.push(length, name, String::new());
        }
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Explainer {
    /// The fields of an event's data, without its checksum. `at` is where they begin in the event.
    pub fn body_fields(&mut self, format: &Format, header: &Header, body: &[u8], at: usize) -> Vec<Field> {
        let mut parts = Parts::new(body, at);
        // `None`: cut short. The rest is shown all the same.
        let _ = self.body(format, header, &mut parts);
        parts.rest_as(if parts.fields.is_empty() { "data" } else { "rest" });
        parts.fields
    }

    fn body(&mut self, format: &Format, header: &Header, parts: &mut Parts<'_>) -> Option<()> {
        match header.kind {
            kind::FORMAT_DESCRIPTION => {
                parts.number(2, "binlog version")?;
                parts.field(50, "server version", |value| {
                    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
                })?;
                parts.number_as(4, "created", |at| if at == 0 { "0, no restart".into() } else { utc(at as u32) })?;
                parts.number(1, "header length")?;
                let types = parts.rest().len().checked_sub(if format.checksum { 1 } else { 0 })?;
                parts.bytes(types, "post-header lengths by type")?;
                if format.checksum {
                    parts.number_as(1, "checksum algorithm", |number| match number {
                        0 => "none".into(),
                        1 => "crc32".into(),
                        other => format!("{other}, not known"),
                    })?;
                }
            }
            kind::START_V3 => {
                parts.number(2, "binlog version")?;
                parts.field(50, "server version", |value| {
                    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
                })?;
                parts.number_as(4, "created", |at| utc(at as u32))?;
            }
            kind::ROTATE => {
                if format.version > 1 {
                    parts.number(8, "position")?;
                }
                parts.text(parts.rest().len(), "next file")?;
            }
            kind::QUERY | kind::EXECUTE_LOAD_QUERY | kind::MARIADB_QUERY_COMPRESSED => query(format, header, parts)?,
            kind::INTVAR => {
                parts.number_as(1, "variable", |number| match number {
                    1 => "1 LAST_INSERT_ID".into(),
                    2 => "2 INSERT_ID".into(),
                    other => other.to_string(),
                })?;
                parts.number(8, "value")?;
            }
            kind::RAND => {
                parts.number(8, "seed 1")?;
                parts.number(8, "seed 2")?;
            }
            kind::USER_VAR => {
                let length = parts.number(4, "name length")?;
                parts.text(length as usize, "name")?;
                if parts.number(1, "is null")? == 0 {
                    parts.number_as(1, "value type", |number| match number {
                        0 => "string".into(),
                        1 => "real".into(),
                        2 => "integer".into(),
                        4 => "decimal".into(),
                        other => other.to_string(),
                    })?;
                    parts.number(4, "collation")?;
                    let length = parts.number(4, "value length")?;
                    parts.text(length as usize, "value")?;
                    if !parts.rest().is_empty() {
                        parts.number(1, "value flags")?;
                    }
                }
            }
            kind::XID => {
                parts.number(8, "xid")?;
            }
            kind::XA_PREPARE => {
                parts.number(1, "one phase")?;
                parts.number_as(4, "format id", |number| (number as u32 as i32).to_string())?;
                let gtrid = parts.number(4, "gtrid length")?;
                let bqual = parts.number(4, "bqual length")?;
                parts.bytes(gtrid as usize, "gtrid")?;
                parts.bytes(bqual as usize, "bqual")?;
            }
            kind::TABLE_MAP => self.table_map(format, parts)?,
            kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
            | kind::WRITE_ROWS..=kind::DELETE_ROWS
            | kind::PRE_GA_WRITE_ROWS..=kind::PRE_GA_DELETE_ROWS
            | kind::PARTIAL_UPDATE_ROWS
            | kind::MARIADB_WRITE_ROWS_COMPRESSED_V1..=kind::MARIADB_DELETE_ROWS_COMPRESSED => {
                self.rows(format, header.kind, parts)?;
            }
            kind::GTID | kind::ANONYMOUS_GTID => mysql_gtid(parts)?,
            kind::GTID_TAGGED => {
                let mut head = GroupHead::default();
                let mut text = String::new();
                if gtid::parse_mysql_tagged(parts.rest(), &mut head).is_some() {
                    head.id.write(&mut text);
                }
                parts.push(parts.rest().len(), "gtid and clock", text);
            }
            kind::MARIADB_GTID => {
                let sequence = parts.number(8, "sequence")?;
                parts.number_as(4, "domain", |domain| {
                    format!("{domain}, GTID {domain}-{}-{sequence}", header.server_id)
                })?;
                let flags = parts.number_as(1, "flags", |flags| maria_flags(flags as u8))? as u8;
                if flags & 2 != 0 {
                    parts.number(8, "commit id")?;
                }
                if flags & (64 | 128) != 0 {
                    parts.number(4, "xid format id")?;
                    let gtrid = parts.number(1, "gtrid length")?;
                    let bqual = parts.number(1, "bqual length")?;
                    parts.bytes((gtrid + bqual) as usize, "xid")?;
                }
                if parts.rest().first().is_some_and(|flags| *flags != 0) {
                    let extra = parts.number_as(1, "extra flags", |flags| {
                        let known = [
                            (1, "multi engine"),
                            (2, "START ALTER"),
                            (4, "COMMIT ALTER"),
                            (8, "ROLLBACK ALTER"),
                            (16, "thread id"),
                        ];
                        words(flags, &known)
                    })?;
                    if extra & 1 != 0 {
                        parts.number(1, "extra engines")?;
                    }
                    if extra & (4 | 8) != 0 {
                        parts.number(8, "sequence of its START ALTER")?;
                    }
                    if extra & 16 != 0 {
                        parts.number(4, "thread")?;
                    }
                }
                if parts.rest().iter().all(|byte| *byte == 0) {
                    parts.rest_as("padding");
                }
            }
            kind::PREVIOUS_GTIDS => {
                let text = State::from_previous_gtids(parts.rest()).map_or(String::new(), |state| state.text());
                parts.push(parts.rest().len(), "gtids", text);
            }
            kind::MARIADB_GTID_LIST => {
                parts.number_as(4, "count and flags", |number| format!("{} GTIDs", number & 0x0fff_ffff))?;
                while parts.rest().len() >= 16 {
                    let (domain, server, sequence) = {
                        let rest = parts.rest();
                        (little(rest.get(..4)?), little(rest.get(4..8)?), little(rest.get(8..16)?))
                    };
                    parts.push(16, "gtid", format!("{domain}-{server}-{sequence}"));
                }
            }
            kind::MARIADB_BINLOG_CHECKPOINT => {
                let length = parts.number(4, "name length")?;
                parts.text(length as usize, "oldest log needed")?;
            }
            kind::MARIADB_START_ENCRYPTION => {
                parts.number(1, "scheme")?;
                parts.number(4, "key version")?;
                parts.bytes(12, "nonce")?;
            }
            kind::MARIADB_ANNOTATE_ROWS => {
                parts.text(parts.rest().len(), "sql")?;
            }
            kind::ROWS_QUERY => {
                parts.number(1, "length, cut to a byte")?;
                parts.text(parts.rest().len(), "sql")?;
            }
            kind::MARIADB_PARTIAL_ROW_DATA => {
                parts.number(4, "pieces")?;
                parts.number(4, "this piece")?;
                if parts.number(1, "flags")? & 1 != 0 {
                    parts.number(8, "size of the whole event")?;
                }
                parts.rest_as("piece");
            }
            kind::INCIDENT => {
                parts.number(2, "incident")?;
                parts.short_text("message")?;
            }
            kind::BEGIN_LOAD_QUERY | kind::APPEND_BLOCK => {
                parts.number(4, "file id")?;
                parts.rest_as("block of the file");
            }
            kind::EXEC_LOAD | kind::DELETE_FILE => {
                parts.number(4, "file id")?;
            }
            kind::LOAD | kind::NEW_LOAD | kind::CREATE_FILE => {
                parts.number(4, "thread")?;
                parts.number(4, "execution time")?;
                parts.number(4, "lines skipped")?;
                parts.number(1, "table length")?;
                parts.number(1, "database length")?;
                parts.number(4, "columns")?;
                if header.kind == kind::CREATE_FILE {
                    parts.number(4, "file id")?;
                }
            }
            kind::TRANSACTION_PAYLOAD => {
                loop {
                    let tag = parts.packed("field")?;
                    if tag == 0 {
                        break;
                    }
                    let length = parts.packed("length")?;
                    let name = match tag {
                        1 => "payload size",
                        2 => "compression",
                        3 => "size when decompressed",
                        _ => "value",
                    };
                    let mut value = parts.rest().get(..length as usize)?;
                    let number = super::table_map::take_packed(&mut value);
                    let meaning = match (tag, number) {
                        (2, Some(0)) => "zstd".into(),
                        (2, Some(255)) => "none".into(),
                        (_, Some(number)) => number.to_string(),
                        (_, None) => String::new(),
                    };
                    parts.push(length as usize, name, meaning);
                }
                parts.rest_as("payload");
            }
            kind::HEARTBEAT => {
                parts.text(parts.rest().len(), "log")?;
            }
            _ => {}
        }
        Some(())
    }

    fn table_map(&mut self, format: &Format, parts: &mut Parts<'_>) -> Option<()> {
        let id_bytes = format.table_id_bytes(kind::TABLE_MAP);
        let parsed = TableMap::parse(parts.bytes, id_bytes, format.family).ok();
        let id = parts.number(id_bytes, "table id")?;
        parts.number(2, "flags")?;
        let database = parts.short_text("database")?;
        parts.bytes(1, "zero")?;
        let table = parts.short_text("table")?;
        parts.bytes(1, "zero")?;
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        let name = format!("{}.{}", String::from_utf8_lossy(database), String::from_utf8_lossy(table));
        self.tables.insert(id, name);
        let columns = usize::try_from(parts.packed("columns")?).ok()?;
        let wires = parsed.map_or(String::new(), |map| {
            map.columns.iter().map(|column| format!("{:?}", column.wire)).collect::<Vec<_>>().join(", ")
        });
        parts.field(columns, "types", |_| wires)?;
        let length = parts.packed("metadata length")?;
        parts.bytes(length as usize, "metadata")?;
        parts.bytes(columns.div_ceil(8), "nullable columns")?;
        while !parts.rest().is_empty() {
            let name = |tag: u64| match tag {
                1 => "signedness",
                2 => "default charset",
                3 => "column charsets",
                4 => "column names",
                5 => "SET members",
                6 => "ENUM members",
                7 => "geometry types",
                8 => "primary key",
                9 => "primary key with prefixes",
                10 => "default charset of ENUM and SET",
                11 => "charsets of ENUM and SET",
                12 => "visibility",
                13 => "vector dimensions",
                _ => "not known",
            };
            let tag = parts.number_as(1, "optional metadata", |tag| format!("{tag} {}", name(tag)))?;
            let length = parts.packed("length")? as usize;
            let value = parts.rest().get(..length)?;
            let meaning = if tag == 4 { column_names(value) } else { None };
            parts.push(length, name(tag), meaning.unwrap_or_default());
        }
        Some(())
    }

    fn rows(&mut self, format: &Format, number: u8, parts: &mut Parts<'_>) -> Option<()> {
        let plain = match number {
            kind::MARIADB_WRITE_ROWS_COMPRESSED_V1..=kind::MARIADB_DELETE_ROWS_COMPRESSED_V1 => {
                number - kind::MARIADB_WRITE_ROWS_COMPRESSED_V1 + kind::WRITE_ROWS_V1
            }
            kind::MARIADB_WRITE_ROWS_COMPRESSED..=kind::MARIADB_DELETE_ROWS_COMPRESSED => {
                number - kind::MARIADB_WRITE_ROWS_COMPRESSED + kind::WRITE_ROWS
            }
            number => number,
        };
        let extended = plain >= kind::WRITE_ROWS;
        let tables = &self.tables;
        parts.number_as(format.table_id_bytes(plain), "table id", |id| match tables.get(&id) {
            Some(name) => format!("{id} {name}"),
            None if id == 0x00ff_ffff => "none: frees the table maps".into(),
            None => format!("{id}, no table map before"),
        })?;
        parts.number_as(2, "flags", |flags| {
            words(
                flags,
                &[(1, "end of statement"), (2, "no foreign key checks"), (4, "no unique checks"), (8, "complete rows")],
            )
        })?;
        if extended {
            let length = parts.number(2, "extra length")?;
            parts.bytes((length as usize).checked_sub(2)?, "extra")?;
        }
        let columns = usize::try_from(parts.packed("columns")?).ok()?;
        let set = columns.div_ceil(8);
        let update = matches!(plain, kind::UPDATE_ROWS_V1 | kind::UPDATE_ROWS | kind::PARTIAL_UPDATE_ROWS);
        let meaning = |value: &[u8]| {
            let count: u32 = value.iter().map(|byte| byte.count_ones()).sum();
            format!("{} of {columns}", (count as usize).min(columns))
        };
        parts.field(set, if update { "columns before" } else { "columns in rows" }, meaning)?;
        if update {
            parts.field(set, "columns after", meaning)?;
        }
        parts.rest_as(if number == plain { "rows" } else { "rows, compressed" });
        Some(())
    }
}

fn column_names(mut value: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    while let Some((length, rest)) = value.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        names.push(String::from_utf8_lossy(name).into_owned());
        value = rest;
    }
    Some(names.join(", "))
}

fn words(flags: u64, known: &[(u64, &str)]) -> String {
    let words: Vec<&str> = known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    words.join(", ")
}

fn maria_flags(flags: u8) -> String {
    let known = [
        (1, "standalone"),
        (2, "group commit"),
        (4, "transactional"),
        (8, "allow parallel"),
        (16, "waited"),
        (32, "DDL"),
        (64, "XA PREPARE"),
        (128, "XA decision"),
    ];
    words(u64::from(flags), &known)
}

fn mysql_gtid(parts: &mut Parts<'_>) -> Option<()> {
    parts.number_as(1, "flags", |flags| if flags & 1 != 0 { "may have statements".into() } else { String::new() })?;
    parts.field(16, "source uuid", |value| {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| hex.get(from..to).unwrap_or("")).join("-")
    })?;
    parts.number(8, "transaction number")?;
    parts.number(1, "clock type")?;
    parts.number(8, "last committed")?;
    parts.number(8, "sequence number")?;
    let micros = |number: u64| {
        jiff::Timestamp::from_microsecond(number as i64).map_or_else(|_| number.to_string(), |time| time.to_string())
    };
    if parts.rest().len() >= 7 {
        let time = parts.number_as(7, "commit time", |number| micros(number & !(1 << 55)))?;
        if time & 1 << 55 != 0 {
            parts.number_as(7, "original commit time", micros)?;
        }
        parts.packed("transaction length")?;
        let version = parts.number_as(4, "server version", |number| (number & !(1 << 31)).to_string())?;
        if version & 1 << 31 != 0 {
            parts.number(4, "original server version")?;
        }
        if parts.rest().len() >= 8 {
            parts.number(8, "commit group ticket")?;
        }
    }
    Some(())
}

fn query(format: &Format, header: &Header, parts: &mut Parts<'_>) -> Option<()> {
    parts.number(4, "thread")?;
    parts.number(4, "execution time")?;
    let database = parts.number(1, "database length")?;
    parts.number(2, "error code")?;
    let head = format.post_header_len(kind::QUERY, if format.version < 4 { 11 } else { 13 });
    let status = if head >= 13 { parts.number(2, "status length")? as usize } else { 0 };
    if head > 13 {
        parts.bytes(head - 13, "extra post-header")?;
    }
    if header.kind == kind::EXECUTE_LOAD_QUERY {
        parts.number(4, "file id")?;
        parts.number(4, "file name from")?;
        parts.number(4, "file name to")?;
        parts.number_as(1, "duplicates", |number| match number {
            0 => "error".into(),
            1 => "ignore".into(),
            2 => "replace".into(),
            other => other.to_string(),
        })?;
    }
    let end = parts.at + status;
    parts.bytes.get(..end)?;
    status_variables(format, parts, end);
    if parts.at < end {
        parts.bytes(end - parts.at, "status variables, not known")?;
    }
    parts.text(database as usize, "database")?;
    parts.bytes(1, "zero")?;
    if header.kind == kind::MARIADB_QUERY_COMPRESSED {
        parts.rest_as("sql, compressed");
    } else {
        parts.text(parts.rest().len(), "sql")?;
    }
    Some(())
}

/// Status variables up to `end`, as far as they are known.
fn status_variables(format: &Format, parts: &mut Parts<'_>, end: usize) {
    while parts.at < end {
        let Some(&tag) = parts.rest().first() else { return };
        let rest = parts.bytes.get(parts.at + 1..end).unwrap_or(&[]);
        let first = rest.first().map_or(0, |byte| usize::from(*byte));
        let (name, len) = match tag {
            0 => ("flags2", 4),
            1 => ("sql_mode", 8),
            2 => ("catalog", first + 2),
            3 => ("auto_increment", 4),
            4 => ("charset", 6),
            5 => ("time zone", first + 1),
            6 => ("catalog", first + 1),
            7 => ("lc_time_names", 2),
            8 => ("database charset", 2),
            9 => ("tables for update", 8),
            10 => ("master data written", 4),
            11 => {
                let host = rest.get(first + 1).map_or(0, |byte| usize::from(*byte));
                ("invoker", first + host + 2)
            }
            12 => {
                let mut length = 1;
                if first != 254 {
                    for _ in 0..first {
                        let Some(zero) = rest.get(length..).and_then(|rest| memchr::memchr(0, rest)) else { return };
                        length += zero + 1;
                    }
                }
                ("databases", length)
            }
            13 | 128 => ("microseconds", 3),
            14 | 15 => ("reserved", 8),
            16 => ("explicit_defaults_for_timestamp", 1),
            17 => ("xid of DDL", 8),
            18 => ("default collation for utf8mb4", 2),
            19 => ("sql_require_primary_key", 1),
            20 => ("default_table_encryption", 1),
            129 if format.family == Family::MariaDb => ("xid", 8),
            130 => (
                "gtid flags",
                if rest.first_chunk::<2>().is_some_and(|flags| u16::from_le_bytes(*flags) & 0x0c != 0) {
                    10
                } else {
                    2
                },
            ),
            131 => ("character set collations", 1 + first * 4),
            _ => return,
        };
        let Some(value) = rest.get(..len) else { return };
        let meaning = match tag {
            5 | 6 | 11 | 12 => String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).collect::<String>(),
            4 => {
                let number = |at: usize| value.get(at..at + 2).map_or(0, little);
                format!("client {}, connection {}, server {}", number(0), number(2), number(4))
            }
            3 => format!(
                "increment {}, offset {}",
                little(value.get(..2).unwrap_or(&[])),
                little(value.get(2..).unwrap_or(&[]))
            ),
            1 | 0 => format!("{:#x}", little(value)),
            _ if len <= 8 => little(value).to_string(),
            _ => String::new(),
        };
        parts.push(1 + len, &format!("{tag} {name}"), meaning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::event::HEADER_LEN;

    fn fields(kind: u8, body: &[u8]) -> Vec<(usize, usize, String, String)> {
        let header = Header { kind, ..Header::default() };
        let fields = Explainer::default().body_fields(&Format::initial(), &header, body, HEADER_LEN);
        // Every byte once, in order.
        let mut at = HEADER_LEN;
        for field in &fields {
            assert_eq!(field.at, at, "{fields:?}");
            at += field.len;
        }
        assert_eq!(at, HEADER_LEN + body.len(), "{fields:?}");
        fields.into_iter().map(|field| (field.at, field.len, field.name, field.meaning)).collect()
    }

    #[test]
    fn every_byte_of_any_event_belongs_to_one_field_however_it_is_cut() {
        let mut query = vec![9, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 17, 0];
        query.extend_from_slice(&[0, 0, 0, 0, 0, 3, 1, 0, 1, 0, 4, 33, 0, 33, 0, 8]);
        query.extend_from_slice(b"\0shop\0select 1");
        let map = b"\x03\0\0\0\0\0\x01\0\x04shop\0\x01t\0\x02\x03\x0f\x02\xd0\x07\x02\x04\x08\x02id\x04name";
        let found = fields(kind::TABLE_MAP, map);
        assert!(found.iter().any(|field| field.2 == "column names" && field.3 == "id, name"), "{found:?}");
        for body in [&query[..], map, b"\x01\x02", &[0xff; 80], &[0; 80], b""] {
            for kind in (0..=255u8).filter(|kind| event::is_known(*kind)) {
                for length in 0..=body.len() {
                    fields(kind, &body[..length]);
                }
            }
        }
        let found = fields(kind::QUERY, &query);
        assert!(
            found.iter().any(|field| field.2 == "sql" && field.3 == "elect 1" || field.3 == "select 1"),
            "{found:?}"
        );
    }

    #[test]
    fn a_gtid_and_a_rotation_say_what_they_mean() {
        let found = fields(kind::ROTATE, b"\x04\0\0\0\0\0\0\0bin.000002");
        assert_eq!(found[0].3, "4");
        assert_eq!(found[1].3, "bin.000002");
        let found = fields(kind::MARIADB_GTID, &[7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(found[1].3, "2, GTID 2-0-7");
        assert_eq!(found[2].3, "transactional, allow parallel");
    }
}
