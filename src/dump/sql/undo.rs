//! `--undo`: the selected changes taken back, newest first, with memory that does not grow with the log.
//!
//! The input is a mapped file (a pipe was spooled). It is read forwards once: what must stop us is found before
//! anything is printed, the definitions are kept with the offsets from which they hold, and every [`BLOCK_BYTES`] the offset of a
//! transaction's begin is remembered. Then the blocks are read backwards, the transactions of a block newest first, the data of
//! a transaction from its last frame to its first, the records and rows of a frame likewise. Memory: an offset a block, one
//! block's transactions, a transaction's frames (8 bytes each), and the offsets of one record's rows.
//!
//! A row that the selection leaves out and that changes a selected row *later* makes the inverse statement miss, since it
//! matches the full after image. Such rows are listed in a comment at the top. For that, hashes of the keys of selected rows are kept, at
//! most [`KEYS_MAX`]; beyond, the list says that it is not complete.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;

use super::heading;
use super::literal::{Dialect, comment};
use super::row::RowSql;
use super::statement::Session;
use crate::dump::input::Input;
use crate::dump::output::Output;
use crate::dump::select::{Reached, Selection};
use crate::dump::table::Table;
use crate::dump::walk::Transaction;
use crate::error::{Class, Error, Result};
use crate::event::text::render;
use crate::event::{Image, RecordKind, RecordReader, Records, Row, Rows, RowsOp, Statement};
use crate::frame::{Checker, Coordinate, Frame, SliceFrames, Step, flags};

/// Distance of the offsets that are kept of a file, in bytes.
const BLOCK_BYTES: u64 = 4 << 20;
/// Most keys of selected rows that are remembered.
const KEYS_MAX: usize = 1_800_000;
/// Most rows that are listed as changed later.
const LISTED_MAX: usize = 1_000;

/// Where a transaction stands.
#[derive(Clone, Debug)]
struct Place {
    /// From its begin to behind its commit.
    bytes: Range<u64>,
}

/// What the first reading learns.
struct Index {
    /// Offsets of begins, about [`BLOCK_BYTES`] apart; the last is where the file ends.
    blocks: Vec<u64>,
    /// For each key, from which offset a definition holds.
    tables: HashMap<u64, Vec<(u64, Arc<Table>)>>,
    dialect: Option<Dialect>,
    hits: u64,
    /// Tables of the selected rows so far.
    hit: HashSet<(String, String)>,
    later: Vec<String>,
    later_complete: bool,
    /// Offsets of begins from which on transactions are selected, or are not any more: the selection can only be asked in order.
    reached: Vec<(u64, bool)>,
}

/// Prints the inverse of what `selection` takes of `input`. Returns how many rows were taken back.
pub fn undo(input: &Input, selection: &Selection, wanted: Option<Dialect>, out: &mut Output<'_>) -> Result<u64> {
    let bytes = input.bytes();
    let named = |error: Error| error.in_file(&input.name);
    let index = Index::read(bytes, selection).map_err(named)?;
    if index.hits == 0 {
        return Ok(0);
    }
    let dialect = wanted.or(index.dialect).unwrap_or(Dialect::MariaDb);
    out.text("-- takes back, newest first; every statement should change one row\n");
    for row in &index.later {
        out.text(&format!("-- changed later: {}\n", comment(row)));
    }
    if !index.later_complete {
        out.text("-- more rows may have been changed later than are listed\n");
    }
    let mut writer = Writer {
        dialect,
        selection,
        session: Session::default(),
        row: RowSql::default(),
        statements: Vec::new(),
        scratch: Vec::new(),
        taken_back: 0,
    };
    for block in index.blocks.windows(2).rev() {
        let &[start, end] = block else { continue };
        for place in transactions(bytes, start, end).map_err(named)?.iter().rev() {
            writer.transaction(bytes, place, &index, out).map_err(named)?;
            out.spill()?;
        }
    }
    Ok(writer.taken_back)
}

/// The transactions between two offsets, in order.
fn transactions(bytes: &[u8], start: u64, end: u64) -> Result<Vec<Place>> {
    let mut frames = SliceFrames::new(bytes.get(..end as usize).unwrap_or(bytes), start as usize);
    let mut found = Vec::new();
    let mut begun = None;
    while let Some(frame) = frames.next()? {
        match frame.kind() {
            Some(crate::frame::Kind::Begin) => begun = Some(frame.at),
            Some(crate::frame::Kind::Commit) => {
                if let Some(begin) = begun.take() {
                    found.push(Place { bytes: begin..frames.at() as u64 });
                }
            }
            Some(crate::frame::Kind::Prepared | crate::frame::Kind::Discard | crate::frame::Kind::Stream) => {
                begun = None
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Index {
    fn read(bytes: &[u8], selection: &Selection) -> Result<Index> {
        let mut index = Index {
            blocks: Vec::new(),
            tables: HashMap::new(),
            dialect: None,
            hits: 0,
            hit: HashSet::new(),
            later: Vec::new(),
            later_complete: true,
            reached: Vec::new(),
        };
        let mut checker = Checker::new();
        let mut records = RecordReader::new();
        let mut frames = SliceFrames::new(bytes, 0);
        // With room from the start: growing would need half as much again for a moment. Where nothing is left out there is nothing to compare with.
        let room = if selection.is_everything() { 0 } else { KEYS_MAX };
        let mut keys: HashSet<u64, BuildHasherDefault<DefaultHasher>> =
            HashSet::with_capacity_and_hasher(room, BuildHasherDefault::default());
        let mut reached = Reached::default();
        let mut time_us = 0;
        let mut tables_seen = 0;
        let mut open: Option<(Coordinate, bool)> = None;
        let mut scratch = Vec::new();
        while let Some(frame) = frames.next()? {
            match checker.frame(&frame)? {
                Step::Stream(header, _) => {
                    index.dialect = index.dialect.or(Dialect::of_family(&header.source));
                    reached = Reached::default();
                    open = None;
                }
                Step::Definition(key) => {
                    let history = index.tables.entry(key).or_default();
                    if !history.last().is_some_and(|(_, table)| table.is(frame.payload)) {
                        tables_seen += 1;
                        let table =
                            Table::decode(frame.payload, tables_seen).map_err(|e| Error::from(e).at(frame.at))?;
                        history.push((frame.at, Arc::new(table)));
                    }
                }
                Step::Begin(txid, begin) => {
                    if begin.time_us != 0 {
                        time_us = begin.time_us;
                    }
                    let selected = selection.transaction(&mut reached, txid, &begin, time_us);
                    if index.reached.last().is_none_or(|(_, last)| *last != selected) {
                        index.reached.push((frame.at, selected));
                    }
                    open = Some((txid, selected));
                    records.reset();
                    if index.blocks.last().is_none_or(|last| frame.at - last >= BLOCK_BYTES) {
                        index.blocks.push(frame.at);
                    }
                }
                Step::Data => {
                    let Some((txid, selected)) = open else { continue };
                    let mut records = records.frame(&frame);
                    index
                        .records(&mut records, frame.at, txid, selected, selection, &mut keys, &mut scratch)
                        .map_err(|error| error.at(frame.at))?;
                }
                Step::Prepared(position, _) => {
                    if open.is_some_and(|(_, selected)| selected) && !selection.is_narrow() {
                        return Err(Error::new(
                            Class::Conflict,
                            format!(
                                "transaction {} is prepared (XA); what it became is decided elsewhere",
                                position.txid
                            ),
                        )
                        .at(frame.at));
                    }
                    open = None;
                }
                Step::Commit(..) | Step::Discard(_) => open = None,
                _ => {}
            }
        }
        if checker.open_transaction().is_some() {
            return Err(Error::new(Class::Torn, "the stream ends inside a transaction").at(bytes.len() as u64));
        }
        index.blocks.push(bytes.len() as u64);
        Ok(index)
    }

    #[allow(clippy::too_many_arguments, reason = "one reading's state, borrowed apart")]
    fn records(
        &mut self,
        records: &mut Records<'_>,
        at: u64,
        txid: Coordinate,
        selected: bool,
        selection: &Selection,
        keys: &mut HashSet<u64, BuildHasherDefault<DefaultHasher>>,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let everything = selection.is_everything();
        while let Some((kind, body)) = records.next()? {
            let Some(op) = RowsOp::of_record(kind) else {
                self.refuse(kind, body, txid, selected, selection)?;
                continue;
            };
            let rows = Rows::decode(op, body)?;
            let table = self.table(rows.key, at)?;
            let definition = &table.definition;
            let table_selected = selection.table(&definition.database, &definition.table);
            if !table_selected {
                continue;
            }
            let of_op = selected && selection.op(kind);
            let before = self.hits;
            let mut iter = rows.iter(definition)?;
            while let Some(row) = iter.next()? {
                if of_op && selection.row(&row, &table, scratch)? {
                    self.hits += 1;
                    if everything {
                        continue;
                    }
                    if keys.len() < KEYS_MAX {
                        keys.extend(row_keys(&row, &table));
                    } else {
                        self.later_complete = false;
                    }
                } else if row_keys(&row, &table).any(|key| keys.contains(&key)) {
                    if self.later.len() < LISTED_MAX {
                        self.later.push(format!("{} {} in {txid}", table.name(), row_name(&row, &table)));
                    } else {
                        self.later_complete = false;
                    }
                }
            }
            if self.hits > before {
                self.hit.insert((definition.database.clone(), definition.table.clone()));
            }
        }
        Ok(())
    }

    /// A selected record that has no inverse.
    fn refuse(
        &self,
        kind: RecordKind,
        body: &[u8],
        txid: Coordinate,
        selected: bool,
        selection: &Selection,
    ) -> Result<()> {
        if !selected || matches!(kind, RecordKind::Annotate | RecordKind::Note) {
            return Ok(());
        }
        let statement = Statement::decode(body)?;
        // Where only rows are asked for, DDL of the same tables still stands in the way.
        let about = selection.tables.is_empty()
            || statement.tables.is_empty() && kind != RecordKind::Ddl
            || statement.tables.iter().any(|(database, table)| {
                selection.table(if database.is_empty() { &statement.database } else { database }, table)
            });
        // Where only rows are asked for, a DDL behind rows of its table changes what they fit into; one before them does not matter.
        let behind = || {
            let database = |name: &str| if name.is_empty() { statement.database.to_string() } else { name.to_owned() };
            let mut tables = statement.tables.iter();
            self.hits > 0
                && (statement.tables.is_empty()
                    || tables.any(|(name, table)| self.hit.contains(&(database(name), table.clone()))))
        };
        let asked = match kind {
            RecordKind::Ddl | RecordKind::Truncate => selection.op(kind) || behind(),
            kind => selection.op(kind),
        };
        if !about || !asked {
            return Ok(());
        }
        let words: String = String::from_utf8_lossy(&statement.sql).chars().take(120).collect();
        let what = if matches!(kind, RecordKind::Ddl | RecordKind::Truncate) { "DDL" } else { "a statement" };
        Err(Error::new(Class::Conflict, format!("transaction {txid} is {what}, which cannot be taken back: {}", comment(&words)))
            .hint("choose a range without it: --since and --until, or --table; --op insert,update,delete takes rows back that stand behind it"))
    }

    /// The definition that holds at an offset.
    fn table(&self, key: u64, at: u64) -> Result<Arc<Table>> {
        let history = self.tables.get(&key).map_or(&[][..], Vec::as_slice);
        let number = history.partition_point(|(from, _)| *from <= at);
        number
            .checked_sub(1)
            .and_then(|number| history.get(number))
            .map(|(_, table)| table.clone())
            .ok_or_else(|| Error::damage(format!("rows refer to table {key:016x}, which was not defined")))
    }

    /// Whether the selection takes the transaction that begins at an offset.
    fn is_selected(&self, at: u64) -> bool {
        let number = self.reached.partition_point(|(from, _)| *from <= at);
        number.checked_sub(1).and_then(|number| self.reached.get(number)).is_some_and(|(_, selected)| *selected)
    }
}

/// Hashes of the keys that the row had and has; of the whole row when it has no key.
fn row_keys<'a>(row: &Row<'a>, table: &'a Table) -> impl Iterator<Item = u64> + use<'a> {
    [row.before, row.after].into_iter().flatten().map(|image| {
        let mut hasher = DefaultHasher::new();
        table.definition.database.hash(&mut hasher);
        table.definition.table.hash(&mut hasher);
        hash_key(&image, table, &mut hasher);
        hasher.finish()
    })
}

fn hash_key(image: &Image<'_>, table: &Table, hasher: &mut DefaultHasher) {
    let mut scratch = Vec::new();
    for (index, (value, column)) in image.columns().zip(&table.definition.columns).enumerate() {
        if let Ok(value) = value
            && (table.identity.is_empty() || table.identity.contains(&index))
        {
            let rendered = render(value, column, &mut scratch);
            rendered.form.hash(hasher);
            rendered.bytes.hash(hasher);
        }
    }
}

/// `id=17`.
fn row_name(row: &Row<'_>, table: &Table) -> String {
    let mut out = Vec::new();
    let Some(image) = row.before.or(row.after) else { return String::new() };
    for (index, (value, column)) in image.columns().zip(&table.definition.columns).enumerate() {
        if let Ok(value) = value
            && table.identity.contains(&index)
        {
            if !out.is_empty() {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(column.name.as_bytes());
            out.push(b'=');
            crate::dump::text::put_value(&mut out, value, column);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The second reading.
struct Writer<'a> {
    dialect: Dialect,
    selection: &'a Selection,
    session: Session,
    row: RowSql,
    /// Inverse statements of one record, in the order of its rows, each with its end.
    statements: Vec<u8>,
    scratch: Vec<u8>,
    taken_back: u64,
}

impl Writer<'_> {
    fn transaction(&mut self, bytes: &[u8], place: &Place, index: &Index, out: &mut Output<'_>) -> Result<()> {
        if !index.is_selected(place.bytes.start) {
            return Ok(());
        }
        let slice = bytes.get(..place.bytes.end as usize).unwrap_or(bytes);
        let mut frames = SliceFrames::new(slice, place.bytes.start as usize);
        // Offsets of data frames that begin a record; those that go on belong to the one before.
        let mut groups: Vec<u64> = Vec::new();
        let mut transaction = None;
        while let Some(frame) = frames.next()? {
            match frame.kind() {
                Some(crate::frame::Kind::Begin) => {
                    let begin = crate::frame::Begin::decode(frame.payload, frame.at)?;
                    let txid = Coordinate(frame.header.id);
                    let time_us = begin.time_us;
                    transaction = Some(Transaction { txid, begin: Box::new(begin), time_us, ordinal: 0 });
                }
                Some(crate::frame::Kind::Data) if frame.header.flags & flags::CONTINUED == 0 => groups.push(frame.at),
                _ => {}
            }
        }
        let Some(transaction) = transaction else { return Ok(()) };
        let mut begun = false;
        for start in groups.iter().rev() {
            let mut records = RecordReader::new();
            let mut frames = SliceFrames::new(slice, *start as usize);
            while let Some(frame) = frames.next()? {
                if frame.kind() != Some(crate::frame::Kind::Data) {
                    continue;
                }
                let whole = frame.header.flags & flags::CONTINUES == 0;
                self.group(&mut records, &frame, index, &transaction, &mut begun, out).map_err(|e| e.at(frame.at))?;
                if whole {
                    break;
                }
            }
        }
        if begun {
            out.text("COMMIT;\n");
        }
        Ok(())
    }

    /// The records of a data frame (or of those that a record spans), last first.
    fn group(
        &mut self,
        reader: &mut RecordReader,
        frame: &Frame<'_>,
        index: &Index,
        transaction: &Transaction,
        begun: &mut bool,
        out: &mut Output<'_>,
    ) -> Result<()> {
        let mut records = reader.frame(frame);
        let mut found = Vec::new();
        while let Some((kind, body)) = records.next()? {
            if let Some(op) = RowsOp::of_record(kind)
                && self.selection.op(kind)
            {
                found.push((op, body));
            }
        }
        for (op, body) in found.into_iter().rev() {
            let rows = Rows::decode(op, body)?;
            let table = index.table(rows.key, frame.at)?;
            if !self.selection.table(&table.definition.database, &table.definition.table) {
                continue;
            }
            self.rows(&rows, &table, transaction, begun, out)?;
        }
        Ok(())
    }

    fn rows(
        &mut self,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        transaction: &Transaction,
        begun: &mut bool,
        out: &mut Output<'_>,
    ) -> Result<()> {
        // Forwards into a buffer, whose parts are then copied backwards. A record is about 1 MiB, unless it is one row.
        self.statements.clear();
        let mut ends = vec![0];
        let mut iter = rows.iter(&table.definition)?;
        while let Some(row) = iter.next()? {
            if self.selection.row(&row, table, &mut self.scratch)? {
                self.row.undo(&mut self.statements, self.dialect, table, &row)?;
                ends.push(self.statements.len());
                self.taken_back += 1;
            }
        }
        if ends.len() == 1 {
            return Ok(());
        }
        if !std::mem::replace(begun, true) {
            heading(out.buffer(), transaction);
            if self.dialect.is_mysql_family() {
                self.session.for_rows(out.buffer());
            }
            out.text("BEGIN;\n");
        }
        for pair in ends.windows(2).rev() {
            if let &[start, end] = pair {
                out.buffer().extend_from_slice(self.statements.get(start..end).unwrap_or(&[]));
            }
            out.spill()?;
        }
        self.statements.shrink_to(8 << 20);
        Ok(())
    }
}
