//! From frames to what a printer prints: order and digests checked, definitions kept, the selection applied.
//!
//! A transaction's `begin` is handed to the printer when the transaction is selected; with a selection that may leave out
//! parts of it ([`Selection::is_narrow`]) not before its first record that hits, so that a transaction without a hit prints
//! nothing; nor does a stream of which nothing is shown. Annotations wait likewise for the row that they caused. A transaction that was printed and is cut off by
//! damage, a discard or an abort is closed as discarded.

use std::collections::HashMap;
use std::sync::Arc;

use super::output::Output;
use super::select::{Reached, Selection};
use super::table::Table;
use crate::error::{Class, Error, Result};
use crate::event::{EventError, RecordKind, RecordReader, Row, Rows, RowsOp, Statement};
use crate::frame::{
    Abort, Begin, Checker, Commit, Coordinate, Frame, Header, Kind, Measured, SliceFrames, Step, StreamHeader, Unit,
};

/// The transaction that is open.
#[derive(Debug)]
pub struct Transaction {
    /// Its number.
    pub txid: Coordinate,
    /// Its begin.
    pub begin: Box<Begin>,
    /// When it happened as far as is known: its own time, else the last one seen before it. Microseconds since 1970 UTC.
    pub time_us: i64,
    /// Rows and statements before the one at hand, whether shown or not.
    pub ordinal: u64,
}

/// Most rows of a record whose images have no bytes at all (all columns absent). A number in a damaged or forged head must
/// not keep us busy for hours.
const EMPTY_ROWS_MAX: u32 = 1 << 20;

/// How a transaction ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// It was committed.
    Commit(&'a Commit),
    /// It is an XA group that waits for its decision.
    Prepared(&'a Commit),
    /// It never happened, or its end is missing; the text says why.
    Discarded(&'a str),
}

/// Prints what the walk finds. Every method may leave the output as it is.
pub trait Printer {
    /// A stream starts.
    fn stream(&mut self, out: &mut Output<'_>, header: &StreamHeader) -> Result<()>;
    /// A table was defined, or defined anew, and rows of it follow.
    fn table(&mut self, out: &mut Output<'_>, table: &Table) -> Result<()>;
    /// A transaction starts.
    fn begin(&mut self, out: &mut Output<'_>, transaction: &Transaction) -> Result<()>;
    /// All rows of a record.
    fn rows(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
    ) -> Result<()> {
        let mut ordinal = transaction.ordinal;
        let mut iter = rows.iter(&table.definition)?;
        while let Some(row) = iter.next()? {
            self.row(out, transaction, rows, table, &row, ordinal)?;
            ordinal += 1;
        }
        Ok(())
    }
    /// One row of a record.
    fn row(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        ordinal: u64,
    ) -> Result<()>;
    /// A statement, DDL, annotation and the like.
    fn statement(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()>;
    /// An annotation or a note that is not decoded yet. `false`, and nothing printed: [`Printer::statement`] shall print it.
    fn remark(&mut self, _out: &mut Output<'_>, _kind: RecordKind, _body: &[u8]) -> Result<bool> {
        Ok(false)
    }
    /// Rows of which only the number and the size of their images is known ([`crate::source::Look::sizes_only`]).
    fn measured(&mut self, _table: &Arc<Table>, _op: RowsOp, _rows: u64, _bytes: u64) -> Result<()> {
        Ok(())
    }
    /// The transaction ends.
    fn end(&mut self, out: &mut Output<'_>, transaction: &Transaction, ending: Ending<'_>) -> Result<()>;
    /// A frame outside of transactions: progress, heartbeat, gap, handover, snapshot, end, abort.
    fn mark(&mut self, out: &mut Output<'_>, step: &Step) -> Result<()>;
    /// Nothing follows.
    fn finish(&mut self, out: &mut Output<'_>) -> Result<()>;
}

/// Walks frames.
pub struct Walk<'a> {
    checker: Checker,
    records: RecordReader,
    session: Session<'a>,
}

/// Everything but what lends out records.
struct Session<'a> {
    selection: &'a Selection,
    everything: bool,
    narrow: bool,
    reached: Reached,
    tables: HashMap<u64, Known>,
    /// The last one that rows referred to; out of date when its number is not that in `tables`.
    table_last: Option<(u64, Known)>,
    /// Numbers of the definitions that the printer has seen, by key.
    table_shown: HashMap<u64, u64>,
    tables_seen: u64,
    open: Option<Open>,
    /// A begin whose buffers are free.
    spare: Box<Begin>,
    /// Units are read, and not frames.
    in_process: bool,
    time_last_us: i64,
    /// Header of a stream of which nothing was shown yet.
    stream: Option<Box<StreamHeader>>,
    hits: u64,
    left: u64,
    scratch: Vec<u8>,
}

/// A definition that holds.
#[derive(Clone)]
struct Known {
    table: Arc<Table>,
    /// Whether the selection has the table.
    selected: bool,
    /// Whether the printer has seen it.
    shown: bool,
}

struct Open {
    transaction: Transaction,
    selected: bool,
    shown: bool,
    /// Bodies of annotations that wait for a row that is shown.
    annotations: Vec<Vec<u8>>,
}

impl<'a> Walk<'a> {
    /// Walks what is selected.
    pub fn new(selection: &'a Selection) -> Walk<'a> {
        Walk {
            checker: Checker::new(),
            records: RecordReader::new(),
            session: Session {
                selection,
                everything: selection.is_everything(),
                narrow: selection.is_narrow(),
                reached: Reached::default(),
                tables: HashMap::new(),
                table_last: None,
                table_shown: HashMap::new(),
                tables_seen: 0,
                open: None,
                time_last_us: 0,
                stream: None,
                hits: 0,
                spare: Box::default(),
                in_process: false,
                left: selection.limit.unwrap_or(u64::MAX),
                scratch: Vec::new(),
            },
        }
    }

    /// Transactions, rows and statements that were shown.
    pub fn hits(&self) -> u64 {
        self.session.hits
    }

    /// Whether as much was shown as the selection allows, and no transaction is open.
    pub fn is_done(&self) -> bool {
        self.session.left == 0 && self.session.open.is_none()
    }

    /// The transaction that is open, whether it is shown or not.
    pub fn open_transaction(&self) -> Option<Coordinate> {
        self.session.open.as_ref().map(|open| open.transaction.txid)
    }

    /// Whether the stream's end was seen.
    pub fn finished(&self) -> bool {
        self.checker.finished()
    }

    /// Takes a unit of a source that is decoded in this process. `at` is for messages.
    pub fn unit(&mut self, unit: &mut Unit, at: u64, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        let session = &mut self.session;
        session.in_process = true;
        match unit {
            Unit::Begin(txid, begin) => {
                self.records.reset();
                let begin = std::mem::replace(begin, std::mem::take(&mut session.spare));
                session.begin(*txid, begin, printer, out)?;
            }
            Unit::Data { flags, payload } => {
                if !session.open.as_ref().is_some_and(|open| open.selected) {
                    return Ok(());
                }
                let mut records = self.records.payload(payload, *flags);
                while let Some((kind, body)) = records.next().map_err(|error| Error::from(error).at(at))? {
                    session.record(kind, body, printer, out).map_err(|error| error.at(at))?;
                }
            }
            Unit::Measured(list) => {
                if session.open.as_ref().is_some_and(|open| open.selected) {
                    for measured in list {
                        session.measured(measured, printer, out)?;
                    }
                }
            }
            Unit::Commit(Kind::Prepared, _, commit) => session.end(Ending::Prepared(commit), printer, out)?,
            Unit::Commit(_, _, commit) => session.end(Ending::Commit(commit), printer, out)?,
            Unit::Discard => session.end(Ending::Discarded("rolled back by the source"), printer, out)?,
            // All others are rare enough to go the way of frames; their order is the source's own business.
            Unit::Frame(kind, id, payload) => {
                let header = Header {
                    kind: *kind as u8,
                    flags: 0,
                    length: payload.len() as u32,
                    seq: 0,
                    id: *id,
                    salt: 0,
                    payload_crc: 0,
                };
                return self.frame(&Frame { header, payload, at }, printer, out);
            }
        }
        out.spill()
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: &Frame<'_>, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        let step = self.checker.frame(frame)?;
        let session = &mut self.session;
        match step {
            Step::Data => {
                let Some(open) = session.open.as_ref() else { return Ok(()) };
                if !open.selected {
                    return Ok(());
                }
                let mut records = self.records.frame(frame);
                let at = |error: EventError| Error::from(error).at(frame.at);
                while let Some((kind, body)) = records.next().map_err(at)? {
                    session.record(kind, body, printer, out).map_err(|error| error.at(frame.at))?;
                }
            }
            Step::Definition(key) => session.define(key, frame)?,
            Step::Begin(txid, begin) => {
                self.records.reset();
                session.begin(txid, begin, printer, out)?;
            }
            Step::Commit(_, commit) => session.end(Ending::Commit(&commit), printer, out)?,
            Step::Prepared(_, commit) => session.end(Ending::Prepared(&commit), printer, out)?,
            Step::Discard(_) => session.end(Ending::Discarded("rolled back by the source"), printer, out)?,
            Step::Stream(header, _) => {
                session.end(Ending::Discarded("another stream begins inside the transaction"), printer, out)?;
                session.reached = Reached::default();
                if session.everything {
                    printer.stream(out, &header)?;
                } else {
                    session.stream = Some(header);
                }
            }
            Step::Abort(abort) => {
                session.end(Ending::Discarded("its writer failed"), printer, out)?;
                session.mark(&Step::Abort(abort), printer, out)?;
            }
            Step::Other => {}
            step => {
                if let Step::Progress(progress) | Step::Heartbeat(progress) | Step::Gap(progress) = &step {
                    session.time_last_us = session.time_last_us.max(progress.time_us);
                }
                session.mark(&step, printer, out)?;
            }
        }
        out.spill()
    }

    /// Takes the frames of `bytes` from `start` to `end`, which were found intact. Returns whether anything was shown.
    pub fn replay(
        &mut self,
        bytes: &[u8],
        start: u64,
        end: u64,
        printer: &mut dyn Printer,
        out: &mut Output<'_>,
    ) -> Result<bool> {
        let hits = self.session.hits;
        let mut frames = SliceFrames::new(bytes.get(..end as usize).unwrap_or(bytes), start as usize);
        while let Some(frame) = frames.next()? {
            self.frame(&frame, printer, out)?;
        }
        Ok(self.session.hits > hits)
    }

    /// Whether a table is defined: so far, or by a frame of `bytes` between `start` and `end`.
    pub fn defines(&self, key: u64, bytes: &[u8], start: u64, end: u64) -> bool {
        if self.session.tables.contains_key(&key) {
            return true;
        }
        let mut frames = SliceFrames::new(bytes.get(..end as usize).unwrap_or(bytes), start as usize);
        while let Ok(Some(frame)) = frames.next() {
            if frame.kind() == Some(Kind::Definition) && frame.header.id == key {
                return true;
            }
        }
        false
    }

    /// Closes a transaction whose end will not come.
    pub fn cut_off(&mut self, why: &str, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        self.records.reset();
        self.session.end(Ending::Discarded(why), printer, out)
    }

    /// Goes on behind damage: the open transaction is closed as discarded.
    pub fn resynchronise(&mut self, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        self.cut_off("its end is lost", printer, out)?;
        self.checker.resynchronise();
        Ok(())
    }
}

impl Session<'_> {
    fn define(&mut self, key: u64, frame: &Frame<'_>) -> Result<()> {
        if self.tables.get(&key).is_some_and(|known| known.table.is(frame.payload)) {
            return Ok(());
        }
        self.tables_seen += 1;
        let table = Table::decode(frame.payload, self.tables_seen).map_err(|error| Error::from(error).at(frame.at))?;
        let selected = self.selection.table(&table.definition.database, &table.definition.table);
        self.tables.insert(key, Known { table: Arc::new(table), selected, shown: false });
        self.table_last = None;
        Ok(())
    }

    fn begin(
        &mut self,
        txid: Coordinate,
        begin: Box<Begin>,
        printer: &mut dyn Printer,
        out: &mut Output<'_>,
    ) -> Result<()> {
        if begin.time_us != 0 {
            self.time_last_us = begin.time_us;
        }
        let time_us = self.time_last_us;
        let selected = self.left > 0 && self.selection.transaction(&mut self.reached, txid, &begin, time_us);
        let transaction = Transaction { txid, begin, time_us, ordinal: 0 };
        let open = self.open.insert(Open { transaction, selected, shown: false, annotations: Vec::new() });
        if selected && !self.narrow {
            open.show(&mut self.stream, &mut self.hits, printer, out)?;
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending<'_>, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if let Ending::Commit(commit) | Ending::Prepared(commit) = ending {
            self.time_last_us = self.time_last_us.max(commit.time_us);
        }
        let ended = if open.shown { printer.end(out, &open.transaction, ending) } else { Ok(()) };
        self.spare = open.transaction.begin;
        ended
    }

    fn mark(&mut self, step: &Step, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        if self.everything { printer.mark(out, step) } else { Ok(()) }
    }

    fn record(&mut self, kind: RecordKind, body: &[u8], printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        if let Some(op) = RowsOp::of_record(kind) {
            return self.rows(kind, &Rows::decode(op, body)?, printer, out);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if matches!(kind, RecordKind::Annotate | RecordKind::Note) {
            if self.narrow {
                // Those before rows of another table are of no interest.
                open.annotations.clear();
                open.annotations.push(body.to_vec());
            } else if self.left > 0 && !printer.remark(out, kind, body)? {
                printer.statement(out, &open.transaction, kind, &Statement::decode(body)?)?;
            }
            return Ok(());
        }
        let statement = Statement::decode(body)?;
        if self.left > 0 && (!self.narrow || self.selection.statement(kind, &statement)) {
            open.show(&mut self.stream, &mut self.hits, printer, out)?;
            printer.statement(out, &open.transaction, kind, &statement)?;
            self.hits += 1;
            self.left -= 1;
        }
        open.transaction.ordinal += 1;
        Ok(())
    }

    fn measured(&mut self, measured: &Measured, printer: &mut dyn Printer, out: &mut Output<'_>) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(kind) = RecordKind::from_number(measured.kind) else { return Ok(()) };
        let Some(op) = RowsOp::of_record(kind) else { return Ok(()) };
        let known = known(&mut self.table_last, &self.tables, &self.table_shown, measured.key)?;
        if self.left > 0 && measured.rows > 0 && (!self.narrow || known.selected && self.selection.op(kind)) {
            open.show(&mut self.stream, &mut self.hits, printer, out)?;
            printer.measured(&known.table, op, measured.rows, measured.bytes)?;
            self.hits += measured.rows;
        }
        Ok(())
    }

    fn rows(
        &mut self,
        kind: RecordKind,
        rows: &Rows<'_>,
        printer: &mut dyn Printer,
        out: &mut Output<'_>,
    ) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if rows.columns == 0 && self.in_process {
            // They stand for rows that the source has passed over.
            open.transaction.ordinal += u64::from(rows.count);
            return Ok(());
        }
        let known = known(&mut self.table_last, &self.tables, &self.table_shown, rows.key)?;
        let table = &known.table;
        let definition = &table.definition;
        if rows.images.is_empty() && rows.count > EMPTY_ROWS_MAX {
            return Err(Error::damage(format!("{} rows of {} have no bytes", rows.count, table.name())));
        }
        if self.left > 0 && (!self.narrow || known.selected && self.selection.op(kind)) {
            let whole = self.selection.conditions.is_empty() && u64::from(rows.count) <= self.left;
            if whole {
                open.show(&mut self.stream, &mut self.hits, printer, out)?;
                if !std::mem::replace(&mut known.shown, true) {
                    self.table_shown.insert(rows.key, table.number);
                    printer.table(out, table)?;
                }
                printer.rows(out, &open.transaction, rows, table)?;
                self.hits += u64::from(rows.count);
                self.left -= u64::from(rows.count);
            } else {
                let mut ordinal = open.transaction.ordinal;
                let mut iter = rows.iter(definition)?;
                while let Some(row) = iter.next()? {
                    if self.left > 0 && self.selection.row(&row, table, &mut self.scratch)? {
                        open.show(&mut self.stream, &mut self.hits, printer, out)?;
                        if !std::mem::replace(&mut known.shown, true) {
                            self.table_shown.insert(rows.key, table.number);
                            printer.table(out, table)?;
                        }
                        printer.row(out, &open.transaction, rows, table, &row, ordinal)?;
                        self.hits += 1;
                        self.left -= 1;
                        out.spill()?;
                    }
                    ordinal += 1;
                }
            }
        }
        open.transaction.ordinal += u64::from(rows.count);
        Ok(())
    }
}

/// The definition with this key.
#[inline]
fn known<'a>(
    last: &'a mut Option<(u64, Known)>,
    tables: &HashMap<u64, Known>,
    shown: &HashMap<u64, u64>,
    key: u64,
) -> Result<&'a mut Known> {
    if last.as_ref().is_none_or(|(last, _)| *last != key) {
        let known = tables
            .get(&key)
            .ok_or_else(|| Error::damage(format!("rows refer to table {key:016x}, which was not defined")))?;
        let shown = shown.get(&key) == Some(&known.table.number);
        *last = Some((key, Known { shown, ..known.clone() }));
    }
    match last {
        Some((_, known)) => Ok(known),
        None => Err(Error::damage(format!("rows refer to table {key:016x}, which was not defined"))),
    }
}

impl Open {
    /// Prints what waited for the first hit.
    fn show(
        &mut self,
        stream: &mut Option<Box<StreamHeader>>,
        hits: &mut u64,
        printer: &mut dyn Printer,
        out: &mut Output<'_>,
    ) -> Result<()> {
        if let Some(header) = stream.take() {
            printer.stream(out, &header)?;
        }
        if !self.shown {
            self.shown = true;
            *hits += 1;
            printer.begin(out, &self.transaction)?;
        }
        for body in self.annotations.drain(..) {
            if !printer.remark(out, RecordKind::Annotate, &body)? {
                printer.statement(out, &self.transaction, RecordKind::Annotate, &Statement::decode(&body)?)?;
            }
        }
        Ok(())
    }
}

/// The error that an abort frame stands for.
pub fn abort_error(abort: &Abort) -> Error {
    let class = Class::from_exit_status(abort.status).unwrap_or(Class::Io);
    let message = if abort.message.is_empty() { "no message" } else { abort.message.as_str() };
    Error::new(class, format!("the stream's writer failed: {message}"))
}
