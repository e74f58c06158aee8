//! Structures of the C interface, made of what a listener is told. They point into it, and live no longer.

use std::ptr;

use super::abi;
use super::listener::{Channel, EventKind, RecordEvent, Statement, Transaction};
use crate::event::{RecordKind, TableDefinition, Value};

pub(super) fn c_row(record: &RecordEvent<'_>, number: u32) -> abi::Row {
    let op = record.rows.op;
    abi::Row {
        struct_size: size_of::<abi::Row>(),
        operation: operation(op.record_kind()),
        images: if op.has_before() { abi::IMAGE_BEFORE } else { 0 } | if op.has_after() { abi::IMAGE_AFTER } else { 0 },
        ordinal: record.ordinal + u64::from(number),
        columns: record.table.1.columns.len(),
    }
}

pub(super) fn empty(kind: EventKind) -> abi::Event {
    abi::Event {
        struct_size: size_of::<abi::Event>(),
        kind: kind as u32,
        status: 0,
        channel: ptr::null(),
        transaction: ptr::null(),
        statement: ptr::null(),
        row: ptr::null(),
        error: c_str(""),
    }
}

pub(super) fn c_bytes(bytes: &[u8]) -> abi::Text {
    abi::Text { data: bytes.as_ptr().cast(), length: bytes.len() }
}

pub(super) fn c_str(text: &str) -> abi::Text {
    c_bytes(text.as_bytes())
}

pub(super) fn c_channel(channel: &Channel) -> abi::Channel {
    abi::Channel {
        struct_size: size_of::<abi::Channel>(),
        tool: c_str(channel.tool),
        name: c_str(&channel.name),
        position: c_str(&channel.position),
    }
}

pub(super) fn c_transaction(transaction: &Transaction<'_>) -> abi::Transaction {
    let prepared = if transaction.prepared { abi::TRANSACTION_PREPARED } else { 0 };
    abi::Transaction {
        struct_size: size_of::<abi::Transaction>(),
        txid: transaction.txid.0,
        incarnation: transaction.incarnation.0,
        position: c_str(&transaction.position),
        gtid: c_str(&transaction.begin.gtid),
        time_us: transaction.time_us(),
        server_id: transaction.begin.server_id,
        thread: transaction.begin.thread,
        flags: transaction.begin.flags & 0xff | prepared,
    }
}

pub(super) fn operation(kind: RecordKind) -> u32 {
    match kind {
        RecordKind::Insert => 1,
        RecordKind::Update => 2,
        RecordKind::Delete => 3,
        RecordKind::Ddl => 5,
        RecordKind::Truncate => 6,
        RecordKind::LoadBlock => 7,
        RecordKind::XaDecision => 8,
        _ => 4,
    }
}

pub(super) fn c_statement(statement: &Statement<'_>) -> abi::Statement {
    let inner = statement.statement;
    let (database, table) = match (statement.table, inner) {
        (Some((_, table)), _) => (table.database.as_str(), table.table.as_str()),
        (None, Some(inner)) => (&*inner.database, ""),
        (None, None) => ("", ""),
    };
    abi::Statement {
        struct_size: size_of::<abi::Statement>(),
        operation: operation(statement.kind),
        reserved: 0,
        database: c_str(database),
        table: c_str(table),
        sql: c_bytes(inner.map_or(&[], |inner| &inner.sql)),
        ddl: c_str(inner.map_or("", |inner| &inner.ddl)),
        rows: statement.rows.map_or(0, |rows| rows.count.into()),
        ordinal: statement.ordinal,
        table_id: statement.table.map_or(0, |(id, _)| id),
    }
}

pub(super) fn c_columns(table: &TableDefinition) -> Vec<abi::Column> {
    let columns = table.columns.iter().enumerate().map(|(index, column)| {
        let flag = |there: bool, bit: u32| if there { bit } else { 0 };
        abi::Column {
            struct_size: size_of::<abi::Column>(),
            name: c_str(&column.name),
            sql_type: c_str(&column.sql_type),
            charset: c_str(&column.charset),
            flags: flag(table.primary_key.iter().any(|part| part.column as usize == index), abi::COLUMN_KEY)
                | flag(column.is_binary() == Some(true), abi::COLUMN_BINARY)
                | flag(column.generated, abi::COLUMN_GENERATED),
            reserved: 0,
        }
    });
    columns.collect()
}

pub(super) fn c_value(value: Value<'_>) -> abi::Value {
    let base = abi::Value { kind: 0, detail: 0, number: abi::Number { u: 0 }, data: b"".as_ptr(), length: 0 };
    let signed = |kind, i| abi::Value { kind, number: abi::Number { i }, ..base };
    let unsigned = |kind, u| abi::Value { kind, number: abi::Number { u }, ..base };
    let real = |kind, d| abi::Value { kind, number: abi::Number { d }, ..base };
    let bytes = |kind, bytes: &[u8]| abi::Value { kind, data: bytes.as_ptr(), length: bytes.len(), ..base };
    match value {
        Value::Absent => unsigned(abi::ABSENT, 0),
        Value::Unchanged => unsigned(abi::UNCHANGED, 0),
        Value::Null => unsigned(abi::NULL, 0),
        Value::Int(number) => signed(abi::INT, number),
        Value::UInt(number) => unsigned(abi::UINT, number),
        Value::Float(number) => real(abi::FLOAT, number.into()),
        Value::Double(number) => real(abi::DOUBLE, number),
        Value::Decimal { packed, precision, scale } => {
            abi::Value { detail: u32::from(precision) << 8 | u32::from(scale), ..bytes(abi::DECIMAL, packed) }
        }
        Value::Bit { bytes: bits, bits: count } => abi::Value { detail: count.into(), ..bytes(abi::BIT, bits) },
        Value::Year(year) => unsigned(abi::YEAR, year.into()),
        Value::Date(packed) => unsigned(abi::DATE, packed.into()),
        Value::Time { us, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::TIME, us) },
        Value::DateTime { packed, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::DATETIME, packed) },
        Value::Timestamp { us, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::TIMESTAMP, us) },
        Value::String(text) => bytes(abi::STRING, text),
        Value::Enum(member) => unsigned(abi::ENUM, member.into()),
        Value::Set(members) => unsigned(abi::SET, members),
        Value::Json(json) => bytes(abi::JSON, json),
        Value::JsonDiff(diff) => bytes(abi::JSON_DIFF, diff),
        Value::Geometry(geometry) => bytes(abi::GEOMETRY, geometry),
        Value::Vector(vector) => bytes(abi::VECTOR, vector),
        Value::Text(text) => bytes(abi::TEXT, text),
        Value::Blob(blob) => bytes(abi::BLOB, blob),
    }
}
