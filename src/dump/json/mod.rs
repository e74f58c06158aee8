//! `--format json`: one object a line. The contract is in rlog-dump(1) (`cli::dump`, JSON LINES); keys are only ever added.
//!
//! Rows are the hot path: what is the same for every row of a record (kind, txid, time, operation, table) is built once
//! a record, what is the same for every row of a table (column names, which columns are listed as absent) once a
//! definition and column set ([`image`]), and values go from the frame into the output without anything in between.

mod image;
mod lines;
mod repro;

use std::collections::HashMap;
use std::sync::Arc;

use super::escape::put_json_string;
use super::moment::put_utc;
use super::output::Output;
use super::pen::Pen;
use super::table::Table;
use super::walk::{Ending, Printer, Transaction};
use crate::error::{Error, Result};
use crate::event::{ColumnSet, RecordKind, Row, Rows, RowsOp, Statement};
use crate::frame::{Coordinate, Step, StreamHeader};

pub use lines::BEGIN_FLAGS;
pub use repro::ReproPrinter;

use image::{ImagePlan, Keys, TablePlan};

/// What separates the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Separator {
    /// A newline behind each (NDJSON).
    #[default]
    Line,
    /// RFC 7464: a record separator (0x1e) before and a newline behind each.
    Sequence,
    /// A zero byte behind each.
    Zero,
}

impl Separator {
    fn open(self, out: &mut Vec<u8>) {
        if self == Separator::Sequence {
            out.push(0x1e);
        }
    }

    fn close(self, out: &mut Vec<u8>) {
        out.push(if self == Separator::Zero { 0 } else { b'\n' });
    }
}

/// Prints JSON lines.
pub struct JsonPrinter {
    separator: Separator,
    fields: Vec<String>,
    plans: HashMap<u64, TablePlan>,
    /// Number of the definition that `plan` is for, taken out of `plans`.
    plan: Option<(u64, TablePlan)>,
    head: Vec<u8>,
    keys: Keys,
    txid: Vec<u8>,
    times: Times,
}

impl JsonPrinter {
    /// Prints rows with the columns named in `fields`, all when it is empty.
    pub fn new(separator: Separator, fields: &[String]) -> JsonPrinter {
        JsonPrinter {
            separator,
            fields: fields.to_vec(),
            plans: HashMap::new(),
            plan: None,
            head: Vec::new(),
            keys: Keys::default(),
            txid: Vec::new(),
            times: Times::default(),
        }
    }

    /// What is printed from here on is of this transaction.
    pub fn stand(&mut self, txid: Coordinate) {
        self.txid.clear();
        self.txid.extend_from_slice(b",\"txid\":\"");
        lines::put_coordinate(&mut self.txid, txid);
        self.txid.push(b'"');
    }

    /// An object of this kind is open behind the call; [`JsonPrinter::close`] ends it.
    fn open(&self, out: &mut Vec<u8>, kind: &str) {
        self.separator.open(out);
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
    }

    fn open_in(&self, out: &mut Vec<u8>, kind: &str) {
        self.open(out, kind);
        out.extend_from_slice(&self.txid);
    }

    fn close(&self, out: &mut Vec<u8>) {
        out.push(b'}');
        self.separator.close(out);
    }

    fn plan(&mut self, table: &Table) {
        if self.plan.as_ref().is_some_and(|(number, _)| *number == table.number) {
            return;
        }
        if let Some((number, plan)) = self.plan.take() {
            self.plans.insert(number, plan);
        }
        let plan = self.plans.remove(&table.number).unwrap_or_else(|| TablePlan::new(table, &self.fields));
        self.plan = Some((table.number, plan));
    }

    /// Builds what every row of the record begins with, up to the ordinal.
    #[inline]
    fn row_head(&mut self, rows: &Rows<'_>) {
        let Some((_, plan)) = &mut self.plan else { return };
        let (time_s, head) = &mut plan.heads[rows.op as usize];
        if *time_s != rows.time_s || head.is_empty() {
            *time_s = rows.time_s;
            head.clear();
            if rows.time_s != 0 {
                self.times.put(head, i64::from(rows.time_s) * 1_000_000);
            }
            head.extend_from_slice(match rows.op {
                RowsOp::Insert => b",\"op\":\"insert\"",
                RowsOp::Update => b",\"op\":\"update\"",
                RowsOp::Delete => b",\"op\":\"delete\"",
            });
            head.extend_from_slice(&plan.name);
        }
        self.head.clear();
        self.separator.open(&mut self.head);
        self.head.extend_from_slice(b"{\"kind\":\"row\"");
        self.head.extend_from_slice(&self.txid);
        self.head.extend_from_slice(head);
    }
}

/// Times are the same for many lines: the last one is kept.
#[derive(Default)]
struct Times {
    us: i64,
    text: Vec<u8>,
}

impl Times {
    /// Appends `,"time":"…"`.
    #[inline]
    fn put(&mut self, out: &mut Vec<u8>, us: i64) {
        if self.us != us || self.text.is_empty() {
            self.us = us;
            self.text.clear();
            put_time(&mut self.text, us);
        }
        out.extend_from_slice(&self.text);
    }
}

/// Appends `,"time":"…"`.
fn put_time(out: &mut Vec<u8>, us: i64) {
    out.extend_from_slice(b",\"time\":\"");
    put_utc(out, us);
    out.push(b'"');
}

/// One row with what separates it from the next: images are read from `images`, which is advanced.
#[allow(clippy::too_many_arguments, reason = "the parts of a row, borrowed apart from each other")]
#[inline]
fn put_row(
    out: &mut Vec<u8>,
    head: &[u8],
    ordinal: u64,
    plan: &TablePlan,
    before: Option<&ImagePlan>,
    after: Option<&ImagePlan>,
    keys: &mut Keys,
    images: &mut &[u8],
    separator: Separator,
) -> Option<()> {
    let mut pen = Pen::new(out);
    let (blocks, rest) = head.as_chunks::<32>();
    pen.blocks(blocks, head.len());
    pen.bytes(rest);
    pen.uint(ordinal);
    keys.clear();
    if let Some(image) = before {
        image.put(&mut pen, plan, images, keys, true)?;
        pen.piece(if after.is_some() { &image.close_before } else { &image.close });
    }
    if let Some(image) = after {
        image.put(&mut pen, plan, images, keys, before.is_none())?;
        pen.piece(&image.close);
    }
    keys.put(&mut pen, plan);
    let end = if separator == Separator::Zero { 0 } else { b'\n' };
    pen.block(&[b'}', end], 2);
    Some(())
}

impl Printer for JsonPrinter {
    fn stream(&mut self, out: &mut Output<'_>, header: &StreamHeader) -> Result<()> {
        let out = out.buffer();
        self.open(out, "stream");
        lines::stream(out, header);
        self.close(out);
        Ok(())
    }

    fn table(&mut self, out: &mut Output<'_>, table: &Table) -> Result<()> {
        let out = out.buffer();
        self.open(out, "table");
        lines::table(out, &table.definition);
        self.close(out);
        Ok(())
    }

    fn begin(&mut self, out: &mut Output<'_>, transaction: &Transaction) -> Result<()> {
        self.stand(transaction.txid);
        let out = out.buffer();
        self.open_in(out, "begin");
        lines::begin(out, &transaction.begin, &mut self.times);
        self.close(out);
        Ok(())
    }

    fn rows(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
    ) -> Result<()> {
        check_columns(rows, table)?;
        self.plan(table);
        self.row_head(rows);
        let Some((_, plan)) = &mut self.plan else { return Ok(()) };
        plan.prepare(rows, table);
        let plan = &*plan;
        let before = rows.op.has_before().then_some(&plan.before);
        let after = rows.op.has_after().then_some(&plan.after);
        let mut images = rows.images;
        for number in 0..u64::from(rows.count) {
            let ordinal = transaction.ordinal + number;
            let (head, keys) = (&self.head, &mut self.keys);
            put_row(out.buffer(), head, ordinal, plan, before, after, keys, &mut images, self.separator)
                .ok_or_else(|| cut_short(table))?;
            out.spill()?;
        }
        if images.is_empty() { Ok(()) } else { Err(left_over(table)) }
    }

    fn row(
        &mut self,
        out: &mut Output<'_>,
        _: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        ordinal: u64,
    ) -> Result<()> {
        self.plan(table);
        self.row_head(rows);
        let Some((_, plan)) = &mut self.plan else { return Ok(()) };
        plan.prepare(rows, table);
        let plan = &*plan;
        // The row's images stand behind each other in the record; each begins with its null bitmap.
        let mut bytes = Vec::new();
        for image in [row.before, row.after].into_iter().flatten() {
            let (nulls, values) = image.raw();
            bytes.extend_from_slice(nulls);
            bytes.extend_from_slice(values);
        }
        let before = row.before.is_some().then_some(&plan.before);
        let after = row.after.is_some().then_some(&plan.after);
        let (head, keys, mut images) = (&self.head, &mut self.keys, bytes.as_slice());
        put_row(out.buffer(), head, ordinal, plan, before, after, keys, &mut images, self.separator)
            .ok_or_else(|| cut_short(table))
    }

    fn statement(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        let out = out.buffer();
        self.open_in(out, kind.name());
        lines::statement(out, kind, statement, transaction.ordinal);
        self.close(out);
        Ok(())
    }

    fn remark(&mut self, out: &mut Output<'_>, kind: RecordKind, body: &[u8]) -> Result<bool> {
        let out = out.buffer();
        let start = out.len();
        self.open_in(out, kind.name());
        if !lines::remark(out, body, &mut self.times) {
            out.truncate(start);
            return Ok(false);
        }
        self.close(out);
        Ok(true)
    }

    fn end(&mut self, out: &mut Output<'_>, transaction: &Transaction, ending: Ending<'_>) -> Result<()> {
        let out = out.buffer();
        match ending {
            Ending::Commit(commit) | Ending::Prepared(commit) => {
                let prepared = matches!(ending, Ending::Prepared(..));
                self.open_in(out, if prepared { "prepared" } else { "commit" });
                lines::commit(out, transaction.txid, commit, &mut self.times);
            }
            Ending::Discarded(why) => {
                self.open_in(out, "discard");
                out.extend_from_slice(b",\"reason\":");
                put_json_string(out, why.as_bytes());
            }
        }
        self.close(out);
        Ok(())
    }

    fn mark(&mut self, out: &mut Output<'_>, step: &Step) -> Result<()> {
        let Some(kind) = lines::mark_kind(step) else { return Ok(()) };
        let out = out.buffer();
        self.open(out, kind);
        lines::mark(out, step);
        self.close(out);
        Ok(())
    }

    fn finish(&mut self, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}

fn check_columns(rows: &Rows<'_>, table: &Table) -> Result<()> {
    let columns = table.definition.columns.len();
    if columns == rows.columns {
        return Ok(());
    }
    Err(Error::damage(format!("rows of {} have {} columns, its definition has {columns}", table.name(), rows.columns)))
}

fn cut_short(table: &Table) -> Error {
    Error::damage(format!("a row image of {} is cut short or invalid", table.name()))
}

fn left_over(table: &Table) -> Error {
    Error::damage(format!("bytes are left behind the last row of {}", table.name()))
}

/// Whether both sets have the same bits.
fn same(set: ColumnSet<'_>, bits: &[u8]) -> bool {
    // Comparing nothing at the address of nothing is slow on some processors.
    set.bits().len() == bits.len() && (bits.is_empty() || set.bits() == bits)
}
