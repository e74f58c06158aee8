//! The members of every kind of line but rows.

use super::{Times, put_time};
use crate::dump::escape::{hex_digit, put_hex, put_json_string};
use crate::event::digits::put_uint;
use crate::event::statement::UserValue;
use crate::event::{ColumnKind, KeyPart, RecordKind, Sign, Statement, TableDefinition};
use crate::frame::{Begin, Commit, Coordinate, Snapshot, Step, StreamHeader, begin_flags};

use super::image::put_base64;

#[inline]
pub fn put_coordinate(out: &mut Vec<u8>, at: Coordinate) {
    put_uint(out, at.file());
    out.push(b':');
    put_uint(out, at.offset());
}

/// Exactly `N` lower-case hexadecimal digits.
#[inline]
fn put_hex_digits<const N: usize>(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&std::array::from_fn::<u8, N, _>(|at| hex_digit((value >> (4 * (N - 1 - at))) as u8)));
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn coordinate(out: &mut Vec<u8>, key: &str, at: Coordinate) {
    name(out, key);
    out.push(b'"');
    put_coordinate(out, at);
    out.push(b'"');
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    if !value.is_empty() {
        name(out, key);
        put_json_string(out, value.as_bytes());
    }
}

/// Text if it is UTF-8, else `{"base64":…}`.
fn bytes(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    name(out, key);
    if !put_json_string(out, value) {
        put_base64(out, value);
    }
}

/// Left out when 0. Quoted beyond what JSON numbers keep.
fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    if value != 0 {
        any_number(out, key, value);
    }
}

fn any_number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    if value > 1 << 53 {
        out.push(b'"');
        put_uint(out, value);
        out.push(b'"');
    } else {
        put_uint(out, value);
    }
}

fn truth(out: &mut Vec<u8>, key: &str, value: bool) {
    name(out, key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn hex_number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    out.push(b'"');
    put_hex_digits::<16>(out, value);
    out.push(b'"');
}

fn time(out: &mut Vec<u8>, us: i64) {
    if us != 0 {
        put_time(out, us);
    }
}

/// An array of strings, left out when empty.
fn texts<'a>(out: &mut Vec<u8>, key: &str, values: impl IntoIterator<Item = &'a str>) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return;
    }
    name(out, key);
    out.push(b'[');
    let mut first = true;
    for value in values {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        put_json_string(out, value.as_bytes());
    }
    out.push(b']');
}

pub fn stream(out: &mut Vec<u8>, header: &StreamHeader) {
    text(out, "source", &header.source);
    text(out, "server_version", &header.server_version);
    hex_number(out, "incarnation", header.incarnation.0);
    number(out, "server_id", u64::from(header.server_id));
    coordinate(out, "start", header.start);
    text(out, "server_uuid", &header.server_uuid);
    if header.unanchored {
        truth(out, "unanchored", true);
    }
    text(out, "log_name", &header.log_name);
    text(out, "filters", &header.filters);
    if let Some(logged) = header.cascades_logged {
        truth(out, "cascades_logged", logged);
    }
    text(out, "gtid_state", &header.gtid_state);
    texts(out, "facts", header.facts.iter().map(String::as_str));
    text(out, "windows", &header.windows);
}

pub fn table(out: &mut Vec<u8>, table: &TableDefinition) {
    name(out, "database");
    put_json_string(out, table.database.as_bytes());
    name(out, "table");
    put_json_string(out, table.table.as_bytes());
    text(out, "family", &table.family);
    truth(out, "names_known", table.names_known);
    truth(out, "keys_known", table.keys_known);
    name(out, "columns");
    out.push(b'[');
    for (index, column) in table.columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        put_json_string(out, column.name.as_bytes());
        text(out, "kind", kind_name(column.kind));
        if let ColumnKind::Int { sign: Sign::Unsigned, .. } = column.kind {
            truth(out, "unsigned", true);
        }
        text(out, "type", &column.sql_type);
        if let Some(nullable) = column.nullable {
            truth(out, "nullable", nullable);
        }
        text(out, "charset", &column.charset);
        number(out, "collation", u64::from(column.collation));
        if !column.members.is_empty() {
            name(out, "members");
            out.push(b'[');
            for (index, member) in column.members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !put_json_string(out, member) {
                    put_base64(out, member);
                }
            }
            out.push(b']');
        }
        if column.generated {
            truth(out, "generated", true);
        }
        if column.invisible {
            truth(out, "invisible", true);
        }
        text(out, "default", &column.default_sql);
        out.push(b'}');
    }
    out.push(b']');
    let names = |parts: &[KeyPart]| -> Vec<&str> {
        parts.iter().filter_map(|part| table.columns.get(part.column as usize)).map(|c| c.name.as_str()).collect()
    };
    texts(out, "primary_key", names(&table.primary_key));
    if !table.unique_keys.is_empty() {
        name(out, "unique_keys");
        out.push(b'[');
        for (index, key) in table.unique_keys.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{\"name\":" } else { b"{\"name\":" });
            put_json_string(out, key.name.as_bytes());
            texts(out, "columns", names(&key.parts));
            out.push(b'}');
        }
        out.push(b']');
    }
    text(out, "create_sql", &table.create_sql);
}

/// The name of a column kind, as in rlog-format(5).
pub fn kind_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Int { .. } => "int",
        ColumnKind::Float => "float",
        ColumnKind::Double => "double",
        ColumnKind::Decimal { .. } => "decimal",
        ColumnKind::Bit { .. } => "bit",
        ColumnKind::Year => "year",
        ColumnKind::Date => "date",
        ColumnKind::Time { .. } => "time",
        ColumnKind::DateTime { .. } => "datetime",
        ColumnKind::Timestamp { .. } => "timestamp",
        ColumnKind::String { .. } => "string",
        ColumnKind::Enum => "enum",
        ColumnKind::Set => "set",
        ColumnKind::JsonBinary => "json-binary",
        ColumnKind::Geometry => "geometry",
        ColumnKind::Vector => "vector",
        ColumnKind::Any => "any",
    }
}

/// Names of the bits of [`Begin::flags`].
pub const BEGIN_FLAGS: [(u64, &str); 5] = [
    (begin_flags::BARRIER, "barrier"),
    (begin_flags::MERGED, "merged"),
    (begin_flags::SNAPSHOT, "snapshot"),
    (begin_flags::NONTRANSACTIONAL, "nontransactional"),
    (begin_flags::FOREIGN_KEYS_OFF, "foreign-keys-off"),
];

pub fn begin(out: &mut Vec<u8>, begin: &Begin, times: &mut Times) {
    if begin.time_us != 0 {
        times.put(out, begin.time_us);
    }
    if !begin.gtid.is_empty() {
        out.extend_from_slice(b",\"gtid\":");
        put_json_string(out, begin.gtid.as_bytes());
    }
    if begin.server_id != 0 {
        out.extend_from_slice(b",\"server_id\":");
        put_uint(out, begin.server_id.into());
    }
    if begin.thread != 0 {
        out.extend_from_slice(b",\"thread\":");
        put_uint(out, begin.thread.into());
    }
    out.extend_from_slice(b",\"prev\":\"");
    put_coordinate(out, begin.prev);
    out.extend_from_slice(b"\",\"window_start\":\"");
    put_coordinate(out, begin.window_start);
    out.extend_from_slice(b"\",\"incarnation\":\"");
    put_hex_digits::<16>(out, begin.incarnation.0);
    out.push(b'"');
    if begin.flags != 0 {
        texts(out, "flags", BEGIN_FLAGS.iter().filter(|(bit, _)| begin.flags & bit != 0).map(|(_, name)| *name));
    }
    texts(out, "origins", begin.origins.iter().map(String::as_str));
    if let Some(chunk) = &begin.chunk {
        name(out, "snapshot");
        put_uuid(out, &chunk.snapshot);
        any_number(out, "chunk", chunk.number);
    }
    if !begin.xid.is_empty() {
        name(out, "xid");
        put_base64(out, &begin.xid);
    }
}

pub fn commit(out: &mut Vec<u8>, txid: Coordinate, commit: &Commit, times: &mut Times) {
    // The position as it prints itself.
    out.extend_from_slice(b",\"position\":\"");
    put_coordinate(out, txid);
    out.push(b'-');
    put_uint(out, commit.end.offset());
    out.push(b',');
    put_hex_digits::<16>(out, commit.incarnation.0);
    out.push(b',');
    put_hex_digits::<8>(out, commit.source_digest.into());
    if commit.gtid.is_empty() {
        out.push(b'"');
        if commit.time_us != 0 {
            times.put(out, commit.time_us);
        }
    } else {
        // The same escapes, but for the quotes around it.
        out.push(b',');
        let at = out.len();
        put_json_string(out, commit.gtid.as_bytes());
        out.remove(at);
        let gtid = at..out.len();
        if commit.time_us != 0 {
            times.put(out, commit.time_us);
        }
        out.extend_from_slice(b",\"gtid\":\"");
        out.extend_from_within(gtid);
    }
    let (mut inserts, mut updates, mut deletes) = (0u64, 0u64, 0u64);
    for table in &commit.tables {
        inserts = inserts.saturating_add(table.inserts);
        updates = updates.saturating_add(table.updates);
        deletes = deletes.saturating_add(table.deletes);
    }
    number(out, "inserts", inserts);
    number(out, "updates", updates);
    number(out, "deletes", deletes);
    number(out, "statements", commit.statements);
    if !commit.xid.is_empty() {
        name(out, "xid");
        put_base64(out, &commit.xid);
    }
}

/// A text of no consequence: `annotate` and `note` records that have nothing but time and text. `false`, with nothing appended: it has more.
pub fn remark(out: &mut Vec<u8>, body: &[u8], times: &mut Times) -> bool {
    let Some((time_s, sql)) = Statement::remark(body) else { return false };
    if time_s != 0 {
        times.put(out, i64::from(time_s) * 1_000_000);
    }
    if !sql.is_empty() {
        bytes(out, "sql", sql);
    }
    true
}

/// A statement record; `time` is the statement's own.
pub fn statement(out: &mut Vec<u8>, kind: RecordKind, statement: &Statement<'_>, ordinal: u64) {
    if statement.time_s != 0 {
        time(out, i64::from(statement.time_s) * 1_000_000 + i64::from(statement.microseconds.unwrap_or(0)));
    }
    if !matches!(kind, RecordKind::Annotate | RecordKind::Note) {
        any_number(out, "ordinal", ordinal);
    }
    text(out, "ddl", &statement.ddl);
    text(out, "database", &statement.database);
    number(out, "thread", u64::from(statement.thread));
    if !statement.sql.is_empty() {
        bytes(out, "sql", &statement.sql);
    }
    if !statement.tables.is_empty() {
        name(out, "tables");
        out.push(b'[');
        for (index, (database, table)) in statement.tables.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{\"database\":" } else { b"{\"database\":" });
            put_json_string(out, database.as_bytes());
            name(out, "table");
            put_json_string(out, table.as_bytes());
            out.push(b'}');
        }
        out.push(b']');
    }
    number(out, "error_code", u64::from(statement.error_code));
    number(out, "exec_time", u64::from(statement.exec_time_s));
    if let Some(file) = statement.file_id {
        any_number(out, "file_id", u64::from(file));
    }
    if let Some((from, to)) = statement.file_name_range {
        name(out, "file_name_range");
        out.extend_from_slice(format!("[{from},{to}]").as_bytes());
        number(out, "duplicates", u64::from(statement.duplicates));
    }
    if !statement.block.is_empty() {
        name(out, "block");
        put_base64(out, &statement.block);
    }
    if !statement.xid.is_empty() {
        name(out, "xid");
        put_base64(out, &statement.xid);
    }
    session(out, statement);
}

/// What of the session the statement depends on; left out when the log has none of it.
fn session(out: &mut Vec<u8>, statement: &Statement<'_>) {
    let start = out.len();
    name(out, "session");
    out.push(b'{');
    let members = out.len();
    let optional = |out: &mut Vec<u8>, key: &str, value: Option<u64>| {
        if let Some(value) = value {
            any_number(out, key, value);
        }
    };
    optional(out, "flags2", statement.flags2.map(u64::from));
    optional(out, "sql_mode", statement.sql_mode);
    if let Some((client, connection, server)) = statement.charset {
        any_number(out, "charset_client", u64::from(client));
        any_number(out, "collation_connection", u64::from(connection));
        any_number(out, "collation_server", u64::from(server));
    }
    text(out, "time_zone", &statement.time_zone);
    if let Some((increment, offset)) = statement.auto_increment {
        any_number(out, "auto_increment_increment", u64::from(increment));
        any_number(out, "auto_increment_offset", u64::from(offset));
    }
    optional(out, "lc_time_names", statement.lc_time_names.map(u64::from));
    optional(out, "charset_database", statement.charset_database.map(u64::from));
    optional(out, "utf8mb4_collation", statement.utf8mb4_collation.map(u64::from));
    optional(out, "insert_id", statement.insert_id);
    optional(out, "last_insert_id", statement.last_insert_id);
    if let Some((first, second)) = statement.rand {
        any_number(out, "rand_seed1", first);
        any_number(out, "rand_seed2", second);
    }
    text(out, "definer", &statement.definer);
    if let Some(explicit) = statement.explicit_timestamp {
        truth(out, "explicit_defaults_for_timestamp", explicit);
    }
    if let Some(require) = statement.require_primary_key {
        truth(out, "require_primary_key", require);
    }
    if !statement.user_variables.is_empty() {
        name(out, "user_variables");
        out.push(b'[');
        for (index, variable) in statement.user_variables.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"name\":");
            if !put_json_string(out, &variable.name) {
                put_base64(out, &variable.name);
            }
            match &variable.value {
                None => out.extend_from_slice(b",\"value\":null"),
                Some(UserValue::String(value)) => {
                    text(out, "type", "string");
                    bytes(out, "value", value);
                    number(out, "collation", u64::from(variable.collation));
                }
                Some(UserValue::Real(bits)) => {
                    text(out, "type", "real");
                    name(out, "value");
                    let value = f64::from_bits(*bits);
                    if value.is_finite() {
                        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
                    } else {
                        put_json_string(out, value.to_string().as_bytes());
                    }
                }
                Some(UserValue::Int(value)) => {
                    text(out, "type", "int");
                    text(out, "value", &value.to_string());
                }
                Some(UserValue::UInt(value)) => {
                    text(out, "type", "uint");
                    text(out, "value", &value.to_string());
                }
                Some(UserValue::Decimal(value)) => {
                    text(out, "type", "decimal");
                    text(out, "value", value);
                }
            }
            out.push(b'}');
        }
        out.push(b']');
    }
    if out.len() == members {
        out.truncate(start);
    } else {
        // The first member's comma.
        out.remove(members);
        out.push(b'}');
    }
}

/// The kind of a line for a frame outside of transactions; `None`: it has no line.
pub fn mark_kind(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Progress(_) => "progress",
        Step::Heartbeat(_) => "heartbeat",
        Step::Gap(_) => "gap",
        Step::Handover(_) => "handover",
        Step::SnapshotBegin(_) => "snapshot_begin",
        Step::SnapshotEnd(_) => "snapshot_end",
        Step::End(_) => "end",
        Step::Abort(_) => "abort",
        _ => return None,
    })
}

pub fn mark(out: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Progress(progress) | Step::Heartbeat(progress) | Step::Gap(progress) => {
            coordinate(out, "from", progress.from);
            coordinate(out, "to", progress.to);
            time(out, progress.time_us);
            hex_number(out, "incarnation", progress.incarnation.0);
            text(out, "gtid_state", &progress.gtid_state);
            text(out, "reason", &progress.reason);
        }
        Step::Handover(handover) => {
            hex_number(out, "from", handover.from.0);
            hex_number(out, "to", handover.to.0);
            coordinate(out, "start", handover.start);
            text(out, "gtid_state", &handover.gtid_state);
            text(out, "server_uuid", &handover.server_uuid);
            text(out, "host", &handover.host);
        }
        Step::SnapshotBegin(snapshot) | Step::SnapshotEnd(snapshot) => self::snapshot(out, snapshot),
        Step::End(end) => {
            coordinate(out, "reached", end.reached);
            hex_number(out, "incarnation", end.incarnation.0);
            text(out, "gtid_state", &end.gtid_state);
            any_number(out, "transactions", end.transactions);
            if end.in_use {
                truth(out, "in_use", true);
            }
            number(out, "torn_bytes", end.torn_bytes);
            texts(out, "notes", end.notes.iter().map(String::as_str));
        }
        Step::Abort(abort) => {
            number(out, "status", u64::from(abort.status));
            text(out, "message", &abort.message);
            coordinate(out, "reached", abort.reached);
        }
        _ => {}
    }
}

fn snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    name(out, "snapshot");
    put_uuid(out, &snapshot.uuid);
    coordinate(out, "at", snapshot.at);
    hex_number(out, "incarnation", snapshot.incarnation.0);
    text(out, "gtid_state", &snapshot.gtid_state);
}

fn put_uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    out.push(b'"');
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        put_hex(out, &[*byte]);
    }
    out.push(b'"');
}
