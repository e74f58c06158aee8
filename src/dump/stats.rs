//! `--format stats`: how much of what, when, and by which transactions.
//!
//! Rows are counted by the numbers in their records; images are not looked into, unless conditions on values ask for it. Those of a log are not
//! even decoded: its source counts and measures them. Sizes are those
//! of the rows' images and the statements' texts in rlog's form, in bytes. A transaction lasts from its begin to its commit, as far as
//! the log has both times. Memory: a few numbers a table and a minute.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::escape::{one_line, put_json_string};
use super::moment::{local, put_utc};
use super::output::Output;
use super::table::Table;
use super::walk::{Ending, Printer, Transaction};
use crate::error::Result;
use crate::event::{RecordKind, Row, Rows, RowsOp, Statement};
use crate::frame::{Coordinate, Step, StreamHeader};

/// Lines in the lists of the busiest and largest.
const LISTED: usize = 10;
/// Widest bar, in characters.
const BAR_WIDTH: usize = 40;
/// Powers of two that transaction sizes are sorted into.
const SIZES: usize = 65;

/// Counts of one table.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    inserts: u64,
    updates: u64,
    deletes: u64,
    bytes: u64,
}

impl Counts {
    fn rows(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    fn add(&mut self, op: RowsOp, rows: u64, bytes: u64) {
        *match op {
            RowsOp::Insert => &mut self.inserts,
            RowsOp::Update => &mut self.updates,
            RowsOp::Delete => &mut self.deletes,
        } += rows;
        self.bytes += bytes;
    }
}

/// A transaction, for the list of the largest and for the minutes.
#[derive(Clone, Debug, Default)]
struct Size {
    txid: Coordinate,
    time_us: i64,
    rows: u64,
    statements: u64,
    bytes: u64,
    duration_us: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    transactions: u64,
    rows: u64,
    bytes: u64,
}

/// Counts, and prints at the end.
pub struct StatsPrinter {
    json: bool,
    zone: TimeZone,
    color: bool,
    tables: BTreeMap<String, Counts>,
    /// The table that was counted last, by the number of its definition; added to `tables` when another comes.
    now: Option<(u64, String, Counts)>,
    kinds: BTreeMap<&'static str, u64>,
    minutes: HashMap<i64, Minute>,
    /// The minute that was counted last; added to `minutes` when another comes.
    minute: (i64, Minute),
    largest: Vec<Size>,
    open: Size,
    sizes: [u64; SIZES],
    total: Size,
    transactions: u64,
    discarded: u64,
    gaps: u64,
    first: Option<(Coordinate, i64)>,
    last: (Coordinate, i64),
    longest: Option<(i64, Coordinate)>,
    duration_us: i128,
    timed: u64,
}

impl StatsPrinter {
    /// Prints tables for people, or JSON lines.
    pub fn new(json: bool, zone: TimeZone, color: bool) -> StatsPrinter {
        StatsPrinter {
            json,
            zone,
            color,
            tables: BTreeMap::new(),
            now: None,
            kinds: BTreeMap::new(),
            minutes: HashMap::new(),
            minute: (0, Minute::default()),
            largest: Vec::new(),
            open: Size::default(),
            sizes: [0; SIZES],
            total: Size::default(),
            transactions: 0,
            discarded: 0,
            gaps: 0,
            first: None,
            last: (Coordinate(0), 0),
            longest: None,
            duration_us: 0,
            timed: 0,
        }
    }

    #[inline]
    fn count(&mut self, table: &Table, op: RowsOp, rows: u64, bytes: u64) {
        self.open.rows += rows;
        self.open.bytes += bytes;
        match &mut self.now {
            Some((number, _, counts)) if *number == table.number => counts.add(op, rows, bytes),
            _ => {
                self.settle();
                let mut counts = Counts::default();
                counts.add(op, rows, bytes);
                self.now = Some((table.number, table.name(), counts));
            }
        }
    }

    /// Adds the counts of the last table to the others.
    fn settle(&mut self) {
        if let Some((_, name, counts)) = self.now.take() {
            let sum = self.tables.entry(name).or_default();
            sum.inserts += counts.inserts;
            sum.updates += counts.updates;
            sum.deletes += counts.deletes;
            sum.bytes += counts.bytes;
        }
    }

    /// Adds the counts of the last minute to the others.
    fn settle_minute(&mut self) {
        let (number, counts) = std::mem::take(&mut self.minute);
        if counts.transactions > 0 {
            let sum = self.minutes.entry(number).or_default();
            sum.transactions += counts.transactions;
            sum.rows += counts.rows;
            sum.bytes += counts.bytes;
        }
    }

    fn close(&mut self, commit_us: i64) {
        let mut size = std::mem::take(&mut self.open);
        if commit_us != 0 && size.time_us != 0 && commit_us >= size.time_us {
            let duration = commit_us - size.time_us;
            size.duration_us = Some(duration);
            self.duration_us += i128::from(duration);
            self.timed += 1;
            if self.longest.is_none_or(|(longest, _)| duration > longest) {
                self.longest = Some((duration, size.txid));
            }
        }
        self.transactions += 1;
        self.total.rows += size.rows;
        self.total.statements += size.statements;
        self.total.bytes += size.bytes;
        if let Some(bucket) = self.sizes.get_mut(64 - size.bytes.leading_zeros() as usize) {
            *bucket += 1;
        }
        let time_us = if commit_us != 0 { commit_us } else { size.time_us };
        self.first.get_or_insert((size.txid, time_us));
        self.last = (size.txid, time_us);
        if time_us != 0 {
            let number = time_us.div_euclid(60_000_000);
            if self.minute.0 != number {
                self.settle_minute();
                self.minute.0 = number;
            }
            let minute = &mut self.minute.1;
            minute.transactions += 1;
            minute.rows += size.rows;
            minute.bytes += size.bytes;
        }
        let smallest = self.largest.last().map_or(0, |size| size.bytes);
        if self.largest.len() < LISTED || size.bytes > smallest {
            let at = self.largest.partition_point(|other| other.bytes >= size.bytes);
            self.largest.insert(at, size);
            self.largest.truncate(LISTED);
        }
    }

    /// The busiest minutes, in order of time.
    fn busiest(&self) -> Vec<(i64, Minute)> {
        let mut minutes: Vec<(i64, Minute)> = self.minutes.iter().map(|(minute, counts)| (*minute, *counts)).collect();
        minutes.sort_unstable_by_key(|(minute, counts)| (std::cmp::Reverse(counts.transactions), *minute));
        minutes.truncate(LISTED);
        minutes.sort_unstable_by_key(|(minute, _)| *minute);
        minutes
    }

    /// Tables, the one with most rows first.
    fn by_rows(&self) -> Vec<(&String, &Counts)> {
        let mut tables: Vec<_> = self.tables.iter().collect();
        tables.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.rows()), *name));
        tables
    }

    fn heading(&self, out: &mut Vec<u8>, text: &str) {
        let style = Style::new().bold();
        let (on, off) = (style.render().to_string(), style.render_reset().to_string());
        let (on, off) = if self.color { (on.as_str(), off.as_str()) } else { ("", "") };
        out.extend_from_slice(format!("\n{on}{text}{off}\n").as_bytes());
    }

    fn bar(&self, value: u64, most: u64) -> String {
        let eighths = (u128::from(value) * BAR_WIDTH as u128 * 8 / u128::from(most.max(1))) as usize;
        let mut bar = "█".repeat(eighths / 8);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        bar.push_str(rest.get(eighths % 8).copied().unwrap_or(""));
        let style = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
        if self.color { format!("{}{bar}{}", style.render(), style.render_reset()) } else { bar }
    }

    fn text(&mut self, out: &mut Vec<u8>) {
        let mut line = |text: String| {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        };
        line(format!("transactions  {:>14}", grouped(self.transactions)));
        line(format!("rows          {:>14}", grouped(self.total.rows)));
        line(format!("statements    {:>14}", grouped(self.total.statements)));
        line(format!("bytes         {:>14}", grouped(self.total.bytes)));
        if self.discarded > 0 {
            line(format!("discarded     {:>14}", grouped(self.discarded)));
        }
        if self.gaps > 0 {
            line(format!("gaps          {:>14}", grouped(self.gaps)));
        }
        if let Some((txid, time_us)) = self.first {
            let time = |us: i64| if us == 0 { String::new() } else { format!("  {}", local(us, &self.zone)) };
            line(format!("from          {txid}{}", time(time_us)));
            line(format!("to            {}{}", self.last.0, time(self.last.1)));
        }
        if let Some((longest, txid)) = self.longest {
            let mean = (self.duration_us / i128::from(self.timed.max(1))) as i64;
            line(format!("duration      mean {}, longest {} ({txid})", seconds(mean), seconds(longest)));
        }
        if !self.tables.is_empty() {
            self.heading(out, "tables");
            let tables = self.by_rows();
            let names: Vec<String> = tables.iter().map(|(name, _)| one_line(name)).collect();
            let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(5, 60);
            out.extend_from_slice(
                format!("  {:width$} {:>13} {:>13} {:>13} {:>16}\n", "", "inserts", "updates", "deletes", "bytes")
                    .as_bytes(),
            );
            for (name, (_, counts)) in names.iter().zip(tables) {
                let [inserts, updates, deletes, bytes] =
                    [counts.inserts, counts.updates, counts.deletes, counts.bytes].map(grouped);
                out.extend_from_slice(
                    format!("  {name:width$} {inserts:>13} {updates:>13} {deletes:>13} {bytes:>16}\n").as_bytes(),
                );
            }
        }
        if !self.kinds.is_empty() {
            self.heading(out, "statements");
            for (kind, count) in &self.kinds {
                out.extend_from_slice(format!("  {kind:12} {:>13}\n", grouped(*count)).as_bytes());
            }
        }
        let most = self.sizes.iter().copied().max().unwrap_or(0);
        if self.transactions > 0 {
            self.heading(out, "transactions by size");
            for (power, count) in self.sizes.iter().enumerate().filter(|(_, count)| **count > 0) {
                let below = if power == 0 { "empty".to_owned() } else { format!("< {}", size_name(power)) };
                let count_text = grouped(*count);
                out.extend_from_slice(format!("  {below:>9} {count_text:>13} {}\n", self.bar(*count, most)).as_bytes());
            }
        }
        let busiest = self.busiest();
        if !busiest.is_empty() {
            self.heading(out, "busiest minutes: transactions, rows");
            let most = busiest.iter().map(|(_, counts)| counts.transactions).max().unwrap_or(0);
            for (minute, counts) in &busiest {
                let time = local(minute * 60_000_000, &self.zone);
                let [transactions, rows] = [counts.transactions, counts.rows].map(grouped);
                out.extend_from_slice(
                    format!("  {time} {transactions:>11} {rows:>13} {}\n", self.bar(counts.transactions, most))
                        .as_bytes(),
                );
            }
        }
        if !self.largest.is_empty() {
            self.heading(out, "largest transactions: bytes, rows");
            let most = self.largest.first().map_or(0, |size| size.bytes);
            for size in &self.largest {
                let [bytes, rows] = [size.bytes, size.rows].map(grouped);
                let txid = size.txid.to_string();
                out.extend_from_slice(
                    format!("  {txid:>20} {bytes:>16} {rows:>13} {}\n", self.bar(size.bytes, most)).as_bytes(),
                );
            }
        }
    }

    fn json(&mut self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            put_json_string(out, value.as_bytes());
        };
        let time = |out: &mut Vec<u8>, name: &str, us: i64| {
            if us != 0 {
                out.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
                put_utc(out, us);
                out.push(b'"');
            }
        };
        out.extend_from_slice(
            format!(
                "{{\"kind\":\"stats\",\"transactions\":{},\"rows\":{},\"statements\":{},\"bytes\":{},\"discarded\":{},\"gaps\":{}",
                self.transactions, self.total.rows, self.total.statements, self.total.bytes, self.discarded, self.gaps
            )
            .as_bytes(),
        );
        if let Some((txid, time_us)) = self.first {
            text(out, "first", &txid.to_string());
            time(out, "first_time", time_us);
            text(out, "last", &self.last.0.to_string());
            time(out, "last_time", self.last.1);
        }
        if let Some((longest, txid)) = self.longest {
            let mean = self.duration_us / i128::from(self.timed.max(1));
            out.extend_from_slice(format!(",\"duration_mean_us\":{mean},\"duration_longest_us\":{longest}").as_bytes());
            text(out, "longest", &txid.to_string());
        }
        out.extend_from_slice(b"}\n");
        for (name, counts) in self.by_rows() {
            out.extend_from_slice(b"{\"kind\":\"stats_table\"");
            text(out, "table", name);
            out.extend_from_slice(
                format!(
                    ",\"inserts\":{},\"updates\":{},\"deletes\":{},\"bytes\":{}}}\n",
                    counts.inserts, counts.updates, counts.deletes, counts.bytes
                )
                .as_bytes(),
            );
        }
        for (kind, count) in &self.kinds {
            out.extend_from_slice(
                format!("{{\"kind\":\"stats_statement\",\"statement\":\"{kind}\",\"count\":{count}}}\n").as_bytes(),
            );
        }
        for (power, count) in self.sizes.iter().enumerate().filter(|(_, count)| **count > 0) {
            let below = 1u128 << power;
            out.extend_from_slice(
                format!("{{\"kind\":\"stats_size\",\"bytes_below\":{below},\"transactions\":{count}}}\n").as_bytes(),
            );
        }
        for (minute, counts) in self.busiest() {
            out.extend_from_slice(b"{\"kind\":\"stats_minute\"");
            time(out, "time", minute * 60_000_000);
            out.extend_from_slice(
                format!(
                    ",\"transactions\":{},\"rows\":{},\"bytes\":{}}}\n",
                    counts.transactions, counts.rows, counts.bytes
                )
                .as_bytes(),
            );
        }
        for size in &self.largest {
            out.extend_from_slice(b"{\"kind\":\"stats_transaction\"");
            text(out, "txid", &size.txid.to_string());
            time(out, "time", size.time_us);
            out.extend_from_slice(
                format!(",\"bytes\":{},\"rows\":{},\"statements\":{}", size.bytes, size.rows, size.statements)
                    .as_bytes(),
            );
            if let Some(duration) = size.duration_us {
                out.extend_from_slice(format!(",\"duration_us\":{duration}").as_bytes());
            }
            out.extend_from_slice(b"}\n");
        }
    }
}

/// `1,234,567`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn seconds(us: i64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

/// `2^power` bytes.
fn size_name(power: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = units.get(power / 10).copied().unwrap_or("");
    format!("{} {unit}", 1u64 << (power % 10))
}

impl Printer for StatsPrinter {
    fn stream(&mut self, _: &mut Output<'_>, _: &StreamHeader) -> Result<()> {
        Ok(())
    }

    fn table(&mut self, _: &mut Output<'_>, _: &Table) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: &mut Output<'_>, transaction: &Transaction) -> Result<()> {
        self.open = Size { txid: transaction.txid, time_us: transaction.begin.time_us, ..Size::default() };
        Ok(())
    }

    fn rows(&mut self, _: &mut Output<'_>, _: &Transaction, rows: &Rows<'_>, table: &Arc<Table>) -> Result<()> {
        self.count(table, rows.op, u64::from(rows.count), rows.images.len() as u64);
        Ok(())
    }

    fn measured(&mut self, table: &Arc<Table>, op: RowsOp, rows: u64, bytes: u64) -> Result<()> {
        self.count(table, op, rows, bytes);
        Ok(())
    }

    fn row(
        &mut self,
        _: &mut Output<'_>,
        _: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        _: u64,
    ) -> Result<()> {
        let bytes = [row.before, row.after].into_iter().flatten().map(|image| {
            let (nulls, values) = image.raw();
            (nulls.len() + values.len()) as u64
        });
        self.count(table, rows.op, 1, bytes.sum());
        Ok(())
    }

    fn statement(
        &mut self,
        _: &mut Output<'_>,
        _: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        if !matches!(kind, RecordKind::Annotate | RecordKind::Note) {
            *self.kinds.entry(kind.name()).or_default() += 1;
            self.open.statements += 1;
            self.open.bytes += (statement.sql.len() + statement.block.len()) as u64;
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Output<'_>, _: &Transaction, ending: Ending<'_>) -> Result<()> {
        match ending {
            Ending::Commit(commit) | Ending::Prepared(commit) => self.close(commit.time_us),
            Ending::Discarded(_) => {
                // Its rows stay in the tables' counts: they were in the log.
                self.discarded += 1;
                self.open = Size::default();
            }
        }
        Ok(())
    }

    fn mark(&mut self, _: &mut Output<'_>, step: &Step) -> Result<()> {
        self.gaps += u64::from(matches!(step, Step::Gap(_)));
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<()> {
        self.settle();
        self.settle_minute();
        let mut text = Vec::new();
        if self.json {
            self.json(&mut text);
        } else {
            self.text(&mut text);
        }
        out.buffer().extend_from_slice(&text);
        Ok(())
    }
}
