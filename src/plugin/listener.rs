//! What a listener is, and what it hears.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::error::{Class, Error};
use crate::event::rows::{ColumnSet, RowIter, RowsHead, set_row_count};
use crate::event::value::put_value;
use crate::event::{self, ColumnKind, Image, RecordKind, Row, Rows, TableDefinition, Value};
use crate::frame::{Begin, Commit, Coordinate, Incarnation};

/// Kinds of events, with the numbers that the C interface has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A run begins.
    ChannelStart = 1,
    /// A run ends.
    ChannelStop = 2,
    /// An attempt at a transaction begins.
    Begin = 3,
    /// A transaction is complete and not committed.
    End = 4,
    /// It is committed.
    Commit = 5,
    /// Nothing of it remains.
    Rollback = 6,
    /// A statement begins.
    StatementStart = 7,
    /// The target has taken it.
    StatementFinish = 8,
    /// It changes the schema.
    Ddl = 9,
    /// A row is about to be applied.
    RowBefore = 10,
    /// The target has taken it.
    RowAfter = 11,
    /// The run fails.
    Error = 12,
}

impl EventKind {
    /// All of them, by number.
    pub const ALL: [EventKind; 12] = [
        EventKind::ChannelStart,
        EventKind::ChannelStop,
        EventKind::Begin,
        EventKind::End,
        EventKind::Commit,
        EventKind::Rollback,
        EventKind::StatementStart,
        EventKind::StatementFinish,
        EventKind::Ddl,
        EventKind::RowBefore,
        EventKind::RowAfter,
        EventKind::Error,
    ];

    /// Its bit in a set.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A run.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The tool.
    pub tool: &'static str,
    /// The channel's name.
    pub name: String,
    /// What had been reached when it began; empty: nothing, or it is not known.
    pub position: String,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    /// Its number.
    pub txid: Coordinate,
    /// Life of the source.
    pub incarnation: Incarnation,
    /// Its position, printed; empty while it is not known.
    pub position: String,
    /// Its begin.
    pub begin: &'a Begin,
    /// Its commit, when it is known.
    pub commit: Option<&'a Commit>,
    /// It waits for its XA decision.
    pub prepared: bool,
}

impl Transaction<'_> {
    /// Microseconds since 1970 UTC; 0: not known.
    pub fn time_us(&self) -> i64 {
        match self.commit {
            Some(commit) if commit.time_us != 0 => commit.time_us,
            _ => self.begin.time_us,
        }
    }

    /// As messages name it.
    pub fn name(&self) -> String {
        if self.position.is_empty() { self.txid.to_string() } else { self.position.clone() }
    }
}

/// A statement, or the rows that one statement changed in one table.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Of rows: a number unlike that of every other definition of this run, and the definition.
    pub table: Option<(u64, &'a TableDefinition)>,
    /// Of rows: the record. In [`EventKind::StatementStart`] as the log has it.
    pub rows: Option<&'a Rows<'a>>,
    /// Of all others: the statement.
    pub statement: Option<&'a event::Statement<'a>>,
    /// Rows and statements of the transaction before it.
    pub ordinal: u64,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct RowEvent<'a> {
    /// The record that it stands in, for its sets of columns.
    pub rows: &'a Rows<'a>,
    /// Its table: see [`Statement::table`].
    pub table: (u64, &'a TableDefinition),
    /// Rows and statements of the transaction before it.
    pub ordinal: u64,
    /// Where it is found.
    pub(super) source: &'a (dyn RowAt + 'a),
    /// Which of the record's rows.
    pub(super) number: u32,
}

impl RowEvent<'_> {
    /// Its images. They are looked for when they are asked for: where a row begins is only known by walking those before it.
    pub fn row(&self) -> Result<Row<'_>, event::EventError> {
        self.source.row(self.number)
    }
}

/// The rows of a record.
#[derive(Clone, Copy, Debug)]
pub struct RecordEvent<'a> {
    /// The record.
    pub rows: &'a Rows<'a>,
    /// Its table: see [`Statement::table`].
    pub table: (u64, &'a TableDefinition),
    /// Rows and statements of the transaction before the first of them.
    pub ordinal: u64,
    pub(super) source: &'a (dyn RowAt + 'a),
}

impl<'a> RecordEvent<'a> {
    /// One of them.
    pub fn row(&self, number: u32) -> RowEvent<'a> {
        let RecordEvent { rows, table, ordinal, source } = *self;
        RowEvent { rows, table, ordinal: ordinal + u64::from(number), source, number }
    }
}

/// Where rows are found.
pub(super) trait RowAt: fmt::Debug {
    /// The row with this number in its record; numbers never go down.
    fn row(&self, number: u32) -> Result<Row<'_>, event::EventError>;
}

/// One that is known already.
#[derive(Debug)]
pub(super) struct KnownRow<'a>(pub Row<'a>);

impl RowAt for KnownRow<'_> {
    fn row(&self, _: u32) -> Result<Row<'_>, event::EventError> {
        Ok(self.0)
    }
}

/// Those of a record, walked as far as somebody asks.
#[derive(Debug)]
pub(super) struct RecordRows<'a> {
    iter: RefCell<RowIter<'a>>,
    bytes: usize,
    /// Rows that were walked.
    walked: Cell<u32>,
    /// The last of them, and where it stands in the images.
    last: Cell<Option<(Row<'a>, usize, usize)>>,
}

/// Most rows of a record that have no bytes: a number in a damaged head must not keep us busy for hours.
const EMPTY_ROWS_MAX: usize = 1 << 20;

impl<'a> RecordRows<'a> {
    pub fn new(rows: &Rows<'a>, definition: &'a TableDefinition) -> Result<RecordRows<'a>, event::EventError> {
        let bytes = rows.images.len();
        if rows.count as usize > bytes.max(EMPTY_ROWS_MAX) {
            return Err(event::EventError::new(format!("{} rows have {bytes} bytes", rows.count)));
        }
        Ok(RecordRows {
            iter: RefCell::new(rows.iter(definition)?),
            bytes,
            walked: Cell::new(0),
            last: Cell::new(None),
        })
    }

    /// The row, and where it begins and ends in the images.
    pub fn place(&self, number: u32) -> Result<(Row<'a>, usize, usize), event::EventError> {
        let mut iter = self.iter.borrow_mut();
        while self.walked.get() <= number {
            let start = self.bytes - iter.bytes_left();
            self.last.set(iter.next()?.map(|row| (row, start, self.bytes - iter.bytes_left())));
            self.walked.set(self.walked.get() + 1);
        }
        self.last.get().ok_or_else(|| event::EventError::new("a record has fewer rows than it says"))
    }
}

impl RowAt for RecordRows<'_> {
    fn row(&self, number: u32) -> Result<Row<'_>, event::EventError> {
        Ok(self.place(number)?.0)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A run begins.
    ChannelStart(&'a Channel),
    /// A run ends, after an error or well.
    ChannelStop(&'a Channel, Option<&'a Error>),
    /// An attempt at a transaction begins.
    Begin(&'a Transaction<'a>),
    /// It is complete.
    End(&'a Transaction<'a>),
    /// It is committed.
    Commit(&'a Transaction<'a>),
    /// Nothing of it remains, for this reason.
    Rollback(&'a Transaction<'a>, &'a str),
    /// A statement begins.
    StatementStart(&'a Transaction<'a>, &'a Statement<'a>),
    /// The target has taken it.
    StatementFinish(&'a Transaction<'a>, &'a Statement<'a>),
    /// It changes the schema.
    Ddl(&'a Transaction<'a>, &'a Statement<'a>),
    /// A row is about to be applied. Only [`Listener::change`] hears of it.
    RowBefore(&'a Transaction<'a>, &'a Statement<'a>, &'a RowEvent<'a>),
    /// The target has taken it.
    RowAfter(&'a Transaction<'a>, &'a Statement<'a>, &'a RowEvent<'a>),
    /// The run fails.
    Error(&'a Error),
}

impl Event<'_> {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Event::ChannelStart(..) => EventKind::ChannelStart,
            Event::ChannelStop(..) => EventKind::ChannelStop,
            Event::Begin(..) => EventKind::Begin,
            Event::End(..) => EventKind::End,
            Event::Commit(..) => EventKind::Commit,
            Event::Rollback(..) => EventKind::Rollback,
            Event::StatementStart(..) => EventKind::StatementStart,
            Event::StatementFinish(..) => EventKind::StatementFinish,
            Event::Ddl(..) => EventKind::Ddl,
            Event::RowBefore(..) => EventKind::RowBefore,
            Event::RowAfter(..) => EventKind::RowAfter,
            Event::Error(..) => EventKind::Error,
        }
    }

    /// The transaction that it is about.
    pub fn transaction(&self) -> Option<&Transaction<'_>> {
        match self {
            Event::Begin(transaction)
            | Event::End(transaction)
            | Event::Commit(transaction)
            | Event::Rollback(transaction, _)
            | Event::StatementStart(transaction, _)
            | Event::StatementFinish(transaction, _)
            | Event::Ddl(transaction, _)
            | Event::RowBefore(transaction, ..)
            | Event::RowAfter(transaction, ..) => Some(transaction),
            Event::ChannelStart(_) | Event::ChannelStop(..) | Event::Error(_) => None,
        }
    }
}

/// Why a listener does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence without a full stop at its end.
    pub text: String,
    /// It may go well another time: the transaction is rolled back and tried again.
    pub again: bool,
    /// How the run ends.
    pub class: Class,
}

impl Refusal {
    /// A veto (80).
    pub fn veto(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), again: false, class: Class::Conflict }
    }

    /// Not now: another attempt is made, and when there are no more the run ends with 75.
    pub fn again(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), again: true, class: Class::TryAgain }
    }
}

/// Hears what happens. Called from several threads at once where several sessions are at work; all of one attempt at a transaction comes from
/// one thread.
pub trait Listener: Send + Sync {
    /// As messages name it.
    fn name(&self) -> &str;

    /// Whether it wants to hear of a kind of events now; asked often.
    fn wants(&self, kind: EventKind) -> bool;

    /// Something happened. A refusal of [`EventKind::Commit`], [`EventKind::Rollback`] or [`EventKind::Error`] comes too late and is passed over.
    fn hear(&self, event: &Event<'_>) -> Result<(), Refusal>;

    /// A row is about to be applied, and may be changed.
    fn change(
        &self,
        _transaction: &Transaction<'_>,
        _statement: &Statement<'_>,
        _row: &RowEvent<'_>,
        _changes: &mut Changes<'_>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// The rows of a record are about to be applied. This asks about one after the other; whoever overrides it does the same, faster.
    fn change_rows(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        record: &RecordEvent<'_>,
        changed: &mut ChangedRows<'_>,
    ) -> Result<(), Refusal> {
        let mut changes = Changes::new(record.rows, record.table.1);
        for number in 0..record.rows.count {
            if self.wants(EventKind::RowBefore) {
                self.change(transaction, statement, &record.row(number), &mut changes)?;
                changed.take(number, &mut changes);
            }
        }
        Ok(())
    }

    /// The target has taken the rows of a record. This tells of one after the other; whoever overrides it does the same, faster.
    fn hear_rows(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        record: &RecordEvent<'_>,
    ) -> Result<(), Refusal> {
        for number in 0..record.rows.count {
            if self.wants(EventKind::RowAfter) {
                self.hear(&Event::RowAfter(transaction, statement, &record.row(number)))?;
            }
        }
        Ok(())
    }

    /// A target transaction was committed or rolled back, and all its source transactions were heard of.
    fn settled(&self) {}
}

/// One of a row's two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As it was.
    Before,
    /// As it is.
    After,
}

/// Why a value cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no such image or column, or the image does not have the column.
    NoColumn,
    /// The column cannot hold such a value, or not one so long.
    WrongType,
    /// The column cannot be NULL.
    NotNullable,
}

/// What a listener changes of a row.
#[derive(Debug)]
pub struct Changes<'a> {
    rows: &'a Rows<'a>,
    definition: &'a TableDefinition,
    list: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    side: Side,
    column: usize,
    /// As an image has it; `None`: NULL.
    bytes: Option<Vec<u8>>,
}

impl<'a> Changes<'a> {
    /// None yet.
    pub fn new(rows: &'a Rows<'a>, definition: &'a TableDefinition) -> Changes<'a> {
        Changes { rows, definition, list: Vec::new() }
    }

    fn set_of(&self, side: Side) -> Option<ColumnSet<'a>> {
        match side {
            Side::Before => self.rows.op.has_before().then_some(self.rows.before),
            Side::After => self.rows.op.has_after().then_some(self.rows.after),
        }
    }

    /// Changes a value. The last one counts.
    pub fn set(&mut self, side: Side, column: usize, value: &Value<'_>) -> Result<(), SetError> {
        let definition = self.definition.columns.get(column).ok_or(SetError::NoColumn)?;
        if !self.set_of(side).is_some_and(|set| set.contains(column)) {
            return Err(SetError::NoColumn);
        }
        let bytes = match value {
            Value::Null if definition.nullable == Some(false) => return Err(SetError::NotNullable),
            Value::Null => None,
            // A value where the record says that a diff stands could not be told from one.
            _ if side == Side::After && self.rows.diff.contains(column) => return Err(SetError::WrongType),
            Value::JsonDiff(_) => return Err(SetError::WrongType),
            Value::String(text) if too_long(definition.kind, text.len()) => return Err(SetError::WrongType),
            value => {
                let mut bytes = Vec::new();
                if !put_value(&mut bytes, definition.kind, value) {
                    return Err(SetError::WrongType);
                }
                Some(bytes)
            }
        };
        self.list.retain(|change| (change.side, change.column) != (side, column));
        self.list.push(Change { side, column, bytes });
        Ok(())
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends the row's images with the changes made.
    pub fn write(&self, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), event::EventError> {
        for (side, image) in [(Side::Before, row.before), (Side::After, row.after)] {
            if let (Some(image), Some(set)) = (image, self.set_of(side)) {
                self.image(side, &image, set, out)?;
            }
        }
        Ok(())
    }

    fn image(
        &self,
        side: Side,
        image: &Image<'_>,
        set: ColumnSet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), event::EventError> {
        let nulls = out.len();
        out.resize(nulls + set.count(self.definition.columns.len()).div_ceil(8), 0);
        let mut in_set = 0;
        for (index, (value, column)) in image.columns().zip(&self.definition.columns).enumerate() {
            let value = value?;
            if !set.contains(index) {
                continue;
            }
            let change = self.list.iter().find(|change| change.side == side && change.column == index);
            let is_null = match change {
                Some(Change { bytes: Some(bytes), .. }) => {
                    out.extend_from_slice(bytes);
                    false
                }
                Some(Change { bytes: None, .. }) => true,
                None => value == Value::Null || !put_value(out, column.kind, &value),
            };
            if is_null && let Some(byte) = out.get_mut(nulls + in_set / 8) {
                *byte |= 1 << (in_set % 8);
            }
            in_set += 1;
        }
        Ok(())
    }
}

/// A record whose rows a listener changes: what is not changed is copied as it is.
#[derive(Debug)]
pub struct ChangedRows<'a> {
    rows: &'a Rows<'a>,
    source: &'a RecordRows<'a>,
    /// Where the count of rows stands, once there is something.
    count_at: Option<usize>,
    /// Bytes of the images that were copied.
    copied: usize,
    body: Vec<u8>,
    failed: Option<event::EventError>,
}

impl<'a> ChangedRows<'a> {
    pub(super) fn new(rows: &'a Rows<'a>, source: &'a RecordRows<'a>) -> ChangedRows<'a> {
        ChangedRows { rows, source, count_at: None, copied: 0, body: Vec::new(), failed: None }
    }

    /// Takes over what is changed of the row with this number; numbers go up. `changes` is empty then.
    pub fn take(&mut self, number: u32, changes: &mut Changes<'_>) {
        if changes.is_empty() || self.failed.is_some() {
            return;
        }
        if let Err(error) = self.write(number, changes) {
            self.failed = Some(error);
        }
        changes.list.clear();
    }

    fn write(&mut self, number: u32, changes: &Changes<'_>) -> Result<(), event::EventError> {
        let (row, start, end) = self.source.place(number)?;
        if self.count_at.is_none() {
            let rows = self.rows;
            let head = RowsHead {
                key: rows.key,
                time_s: rows.time_s,
                columns: rows.columns,
                before: rows.before.bits(),
                after: rows.after.bits(),
                unchanged: rows.unchanged.bits(),
                diff: rows.diff.bits(),
            };
            self.count_at = Some(head.encode(rows.op, &mut self.body));
        }
        self.body.extend_from_slice(self.rows.images.get(self.copied..start).unwrap_or(&[]));
        changes.write(&row, &mut self.body)?;
        self.copied = end;
        Ok(())
    }

    /// The record's new body; `None` when nothing was changed.
    pub(super) fn finish(mut self) -> Result<Option<Vec<u8>>, event::EventError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(at) = self.count_at else { return Ok(None) };
        self.body.extend_from_slice(self.rows.images.get(self.copied..).unwrap_or(&[]));
        set_row_count(&mut self.body, at, self.rows.count);
        Ok(Some(self.body))
    }
}

fn too_long(kind: ColumnKind, bytes: usize) -> bool {
    matches!(kind, ColumnKind::String { bytes_max: most @ 1.., .. } if bytes > most as usize)
}
