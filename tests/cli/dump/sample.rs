//! Streams for dumps to read, made with the library's own writers.

use rlog::event::record::{close_record, open_record, write_payload};
use rlog::event::rows::set_row_count;
use rlog::event::table::StringForm;
use rlog::event::value::DateParts;
use rlog::event::{Column, ColumnKind, KeyPart, RecordKind, RowsHead, RowsOp, Sign, Statement, TableDefinition};
use rlog::frame::fields::put_varint;
use rlog::frame::{
    Abort, Begin, Commit, Coordinate, End, FrameWriter, Incarnation, Kind, Progress, StreamHeader, TableCount,
};

/// 2026-11-21 10:00:00 UTC.
pub const TEN_O_CLOCK_S: u32 = 1_795_255_200;

/// One column's value in a row.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    /// Not in the image.
    Absent,
    /// Not in the image, and known to be as before.
    Unchanged,
    /// Integers; how wide is the column's business.
    Int(i64),
    /// Strings, and bytes.
    Text(Vec<u8>),
    /// The bytes of any other kind as they stand in the image.
    Raw(Vec<u8>),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Cell {
        Cell::Int(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Cell {
        Cell::Text(value.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Cell {
    fn from(value: &[u8]) -> Cell {
        Cell::Text(value.to_vec())
    }
}

/// A row as a list of cells.
#[macro_export]
macro_rules! cells {
    ($($cell:expr),* $(,)?) => { vec![$($crate::dump::sample::Cell::from($cell)),*] };
}

pub fn string(name: &str, charset: &str) -> Column {
    let mut column = Column::new(name, ColumnKind::String { form: StringForm::VarChar, bytes_max: 255 });
    column.charset = charset.into();
    column.nullable = Some(true);
    column
}

pub fn int(name: &str, bytes: u8, sign: Sign) -> Column {
    Column::new(name, ColumnKind::Int { bytes, sign })
}

/// `shop.orders`: id bigint unsigned primary key, state enum, note varchar, price decimal(10,2), day date, data varbinary.
pub fn orders() -> TableDefinition {
    let mut id = int("id", 8, Sign::Unsigned);
    id.nullable = Some(false);
    let mut state = Column::new("state", ColumnKind::Enum);
    state.members = vec![b"new".to_vec(), b"sent".to_vec()];
    TableDefinition {
        database: "shop".into(),
        table: "orders".into(),
        columns: vec![
            id,
            state,
            string("note", "utf8mb4"),
            Column::new("price", ColumnKind::Decimal { precision: 10, scale: 2 }),
            Column::new("day", ColumnKind::Date),
            string("data", "binary"),
        ],
        primary_key: vec![KeyPart { column: 0, prefix: 0 }],
        keys_known: true,
        names_known: true,
        family: "mariadb".into(),
        ..TableDefinition::default()
    }
}

pub fn enumerated(index: u16) -> Cell {
    Cell::Raw(index.to_le_bytes().to_vec())
}

/// A decimal(10,2) in cents.
pub fn price(cents: i64) -> Cell {
    let whole = (cents.unsigned_abs() / 100) as u32;
    let mut bytes = whole.to_be_bytes().to_vec();
    bytes.push((cents.unsigned_abs() % 100) as u8);
    if cents < 0 {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    bytes[0] ^= 0x80;
    Cell::Raw(bytes)
}

pub fn day(year: u16, month: u8, day: u8) -> Cell {
    Cell::Raw(DateParts { year, month, day }.pack().to_le_bytes()[..3].to_vec())
}

pub fn order(id: i64, state: u16, note: &str) -> Vec<Cell> {
    vec![id.into(), enumerated(state), note.into(), price(1250), day(2026, 11, 21), Cell::Text(vec![0, 255])]
}

/// Appends one rows record.
pub fn rows(out: &mut Vec<u8>, op: RowsOp, table: &TableDefinition, rows: &[(Vec<Cell>, Vec<Cell>)]) {
    let set = |images: &mut dyn Iterator<Item = &Vec<Cell>>, wanted: fn(&Cell) -> bool| {
        let mut bits = vec![0u8; table.columns.len().div_ceil(8)];
        if let Some(first) = images.next() {
            for (index, cell) in first.iter().enumerate() {
                bits[index / 8] |= u8::from(wanted(cell)) << (index % 8);
            }
        }
        bits
    };
    let there: fn(&Cell) -> bool = |cell| !matches!(cell, Cell::Absent | Cell::Unchanged);
    let unchanged: fn(&Cell) -> bool = |cell| matches!(cell, Cell::Unchanged);
    let before = set(&mut rows.iter().map(|row| &row.0), there);
    let after = set(&mut rows.iter().map(|row| &row.1), there);
    let mut unchanged = set(&mut rows.iter().map(|row| &row.1), unchanged);
    if unchanged.iter().all(|byte| *byte == 0) {
        unchanged.clear();
    }
    let at = open_record(out, op.record_kind());
    let head = RowsHead {
        key: table.key(),
        time_s: TEN_O_CLOCK_S,
        columns: table.columns.len(),
        before: &before,
        after: &after,
        unchanged: &unchanged,
        diff: &[],
    };
    let count_at = head.encode(op, out);
    for (before, after) in rows {
        if op.has_before() {
            image(out, before, table);
        }
        if op.has_after() {
            image(out, after, table);
        }
    }
    set_row_count(out, count_at, rows.len() as u32);
    close_record(out, at).unwrap();
}

fn image(out: &mut Vec<u8>, cells: &[Cell], table: &TableDefinition) {
    let there: Vec<(&Cell, &Column)> =
        cells.iter().zip(&table.columns).filter(|(cell, _)| !matches!(cell, Cell::Absent | Cell::Unchanged)).collect();
    let mut nulls = vec![0u8; there.len().div_ceil(8)];
    for (index, (cell, _)) in there.iter().enumerate() {
        nulls[index / 8] |= u8::from(matches!(cell, Cell::Null)) << (index % 8);
    }
    out.extend_from_slice(&nulls);
    for (cell, column) in there {
        match (cell, column.kind) {
            (Cell::Int(value), ColumnKind::Int { bytes, .. }) => {
                out.extend_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
            }
            (Cell::Int(value), ColumnKind::Any) => {
                out.push(1);
                out.extend_from_slice(&value.to_le_bytes());
            }
            (Cell::Text(bytes), ColumnKind::Any) => {
                out.push(3);
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            (Cell::Text(bytes), _) => {
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            (Cell::Raw(bytes), _) => out.extend_from_slice(bytes),
            _ => {}
        }
    }
}

/// A stream under construction. Transactions stand 1000 bytes apart in file 42, and a minute apart from ten o'clock.
pub struct Sample {
    pub writer: FrameWriter,
    next: u64,
    number: u64,
    first_minute: i64,
    defined: Vec<TableDefinition>,
}

impl Sample {
    pub fn new() -> Sample {
        let mut writer = FrameWriter::new();
        let header = StreamHeader {
            source: "mariadb".into(),
            server_version: "10.11.6-MariaDB".into(),
            incarnation: Incarnation::new(7, 1_700_000_000),
            server_id: 1,
            start: Coordinate::new(42, 1000).unwrap(),
            log_name: "mysql-bin".into(),
            ..StreamHeader::default()
        };
        writer.frame(Kind::Stream, |out| header.encode(out));
        Sample { writer, next: 1000, number: 0, first_minute: 0, defined: Vec::new() }
    }

    fn at(&self, offset: u64) -> Coordinate {
        Coordinate::new(42, offset).unwrap()
    }

    pub fn define(&mut self, table: &TableDefinition) {
        if !self.defined.contains(table) {
            let mut payload = Vec::new();
            table.encode(&mut payload);
            self.writer.definition(table.key(), &payload);
            self.defined.push(table.clone());
        }
    }

    pub fn begin(&mut self) {
        self.number += 1;
        let begin = Begin {
            prev: self.at(self.next),
            window_start: self.at(self.next),
            incarnation: Incarnation::new(7, 1_700_000_000),
            gtid: format!("0-1-{}", self.number),
            server_id: 1,
            thread: 12,
            time_us: self.time_us(),
            ..Begin::default()
        };
        let txid = self.at(self.next);
        self.writer.begin(txid, &begin);
    }

    pub fn time_us(&self) -> i64 {
        (i64::from(TEN_O_CLOCK_S) + 60 * (self.number as i64 - 1 + self.first_minute)) * 1_000_000
    }

    pub fn records(&mut self, payload: &[u8]) {
        write_payload(&mut self.writer, payload);
    }

    pub fn end(&mut self, tables: Vec<TableCount>, statements: u64) {
        let mut commit = Commit {
            end: self.at(self.next + 900),
            incarnation: Incarnation::new(7, 1_700_000_000),
            source_digest: 0xabc,
            gtid: format!("0-1-{}", self.number),
            time_us: self.time_us() + 500_000,
            tables,
            statements,
            ..Commit::default()
        };
        self.writer.commit(Kind::Commit, &mut commit);
        let progress = Progress {
            from: self.at(self.next + 900),
            to: self.at(self.next + 1000),
            incarnation: commit.incarnation,
            ..Progress::default()
        };
        self.writer.frame(Kind::Progress, |out| progress.encode(out));
        self.next += 1000;
    }

    /// A transaction of one rows record, with the statement that caused it.
    pub fn change(mut self, op: RowsOp, table: &TableDefinition, changed: &[(Vec<Cell>, Vec<Cell>)]) -> Sample {
        self.define(table);
        self.begin();
        let mut payload = Vec::new();
        let note =
            Statement { sql: format!("{} {}", op.name(), table.table).into_bytes().into(), ..Statement::default() };
        record(&mut payload, RecordKind::Annotate, &note);
        rows(&mut payload, op, table, changed);
        self.records(&payload);
        let mut count = TableCount { key: table.key(), ..TableCount::default() };
        *match op {
            RowsOp::Insert => &mut count.inserts,
            RowsOp::Update => &mut count.updates,
            RowsOp::Delete => &mut count.deletes,
        } = changed.len() as u64;
        self.end(vec![count], 0);
        self
    }

    pub fn insert(self, table: &TableDefinition, new: Vec<Vec<Cell>>) -> Sample {
        let pairs: Vec<_> = new.into_iter().map(|row| (Vec::new(), row)).collect();
        self.change(RowsOp::Insert, table, &pairs)
    }

    pub fn update(self, table: &TableDefinition, old: Vec<Cell>, new: Vec<Cell>) -> Sample {
        self.change(RowsOp::Update, table, &[(old, new)])
    }

    pub fn delete(self, table: &TableDefinition, old: Vec<Vec<Cell>>) -> Sample {
        let pairs: Vec<_> = old.into_iter().map(|row| (row, Vec::new())).collect();
        self.change(RowsOp::Delete, table, &pairs)
    }

    /// A transaction of one statement record.
    pub fn statement(mut self, kind: RecordKind, statement: &Statement<'_>) -> Sample {
        self.begin();
        let mut payload = Vec::new();
        record(&mut payload, kind, statement);
        self.records(&payload);
        self.end(Vec::new(), 1);
        self
    }

    /// The bytes, with an end frame.
    pub fn finish(mut self) -> Vec<u8> {
        let end = End { reached: self.at(self.next), transactions: self.number, ..End::default() };
        self.writer.frame(Kind::End, |out| end.encode(out));
        self.writer.bytes().to_vec()
    }

    /// The bytes, with an abort frame.
    pub fn abort(mut self, status: u8, message: &str) -> Vec<u8> {
        let abort = Abort { status, message: message.into(), reached: self.at(self.next) };
        self.writer.frame(Kind::Abort, |out| abort.encode(out));
        self.writer.bytes().to_vec()
    }

    /// The bytes so far.
    pub fn bytes(self) -> Vec<u8> {
        self.writer.bytes().to_vec()
    }
}

pub fn record(out: &mut Vec<u8>, kind: RecordKind, statement: &Statement<'_>) {
    let at = open_record(out, kind);
    statement.encode(out);
    close_record(out, at).unwrap();
}

/// Two orders come, one is changed, one goes: txids 42:1000, 42:2000, 42:3000.
pub fn shop() -> Sample {
    let table = orders();
    Sample::new()
        .insert(&table, vec![order(1, 1, "first"), order(2, 1, "it's \"2\" \\ \u{1b}[2J\u{202e}")])
        .update(&table, order(1, 1, "first"), order(1, 2, "first"))
        .delete(&table, vec![order(2, 1, "it's \"2\" \\ \u{1b}[2J\u{202e}")])
}
