//! `--format text`: a block for each transaction, for people.
//!
//! ```text
//! 42:1234  2026-11-21 10:00:00+01:00  gtid 0-1-100  server 1  thread 12
//!   # update orders set state = 'sent' where id = 17
//!   update shop.orders  id=17
//!     state  'new' -> 'sent'
//!   commit 1 update  42:1234-1890,9f3c2a1065f0c1aa,1a2b3c4d,0-1-100
//! ```
//!
//! Inserts and deletes show every column, updates the key and what changed. Texts are in quotes and escaped so that they
//! stay on their line and cannot control a terminal; bytes are `0x…`.

use std::collections::HashMap;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::escape::{put_hex, put_terminal, put_terminal_bytes};
use super::json::BEGIN_FLAGS;
use super::moment;
use super::output::Output;
use super::table::Table;
use super::walk::{Ending, Printer, Transaction};
use crate::error::Result;
use crate::event::text::{Form, render};
use crate::event::{Column, Image, RecordKind, Row, Rows, RowsOp, Statement, Value};
use crate::frame::{Commit, Step, StreamHeader};

/// Widest column name that the others are aligned with.
const NAME_WIDTH_MAX: usize = 32;

/// Prints blocks.
pub struct TextPrinter {
    zone: TimeZone,
    color: bool,
    fields: Vec<String>,
    widths: HashMap<u64, usize>,
    time: (i64, String),
    blank: bool,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl TextPrinter {
    /// Times in `zone`; only the columns named in `fields`, all when it is empty.
    pub fn new(zone: TimeZone, color: bool, fields: &[String]) -> TextPrinter {
        TextPrinter {
            zone,
            color,
            fields: fields.to_vec(),
            widths: HashMap::new(),
            time: (i64::MIN, String::new()),
            blank: false,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    fn styled(&self, out: &mut Vec<u8>, style: Style, write: impl FnOnce(&mut Vec<u8>)) {
        if self.color {
            out.extend_from_slice(style.render().to_string().as_bytes());
        }
        write(out);
        if self.color {
            out.extend_from_slice(style.render_reset().to_string().as_bytes());
        }
    }

    fn time(&mut self, us: i64) -> &str {
        if self.time.0 != us || self.time.1.is_empty() {
            self.time = (us, moment::local(us, &self.zone));
        }
        &self.time.1
    }

    fn is_shown(&self, column: &Column) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|field| field.eq_ignore_ascii_case(&column.name))
    }

    /// `  NAME VALUE` for people, for what has a name and a value.
    fn labelled(&self, out: &mut Vec<u8>, label: &str, value: &str) {
        if !value.is_empty() {
            out.extend_from_slice(b"  ");
            self.styled(out, Style::new().dimmed(), |out| out.extend_from_slice(label.as_bytes()));
            out.push(b' ');
            put_terminal(out, value);
        }
    }

    fn row_key(&self, out: &mut Vec<u8>, row: &Row<'_>, table: &Table) -> Result<()> {
        let Some(image) = row.before.or(row.after) else { return Ok(()) };
        let mut first = true;
        for (index, value) in image.columns().enumerate() {
            let value = value?;
            if table.identity.contains(&index)
                && let Some(column) = table.definition.columns.get(index)
            {
                out.extend_from_slice(if std::mem::take(&mut first) { b"  " } else { b", " });
                put_terminal(out, &column.name);
                out.push(b'=');
                put_value(out, value, column);
            }
        }
        Ok(())
    }

    fn width(&mut self, table: &Table) -> usize {
        let longest = |table: &Table| {
            table.definition.columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0)
        };
        *self.widths.entry(table.number).or_insert_with(|| longest(table).min(NAME_WIDTH_MAX))
    }

    fn column_name(&self, out: &mut Vec<u8>, column: &Column, width: usize) {
        out.extend_from_slice(b"    ");
        put_terminal(out, &column.name);
        let used = column.name.chars().count();
        out.resize(out.len() + width.saturating_sub(used) + 2, b' ');
    }

    fn image(&mut self, out: &mut Vec<u8>, image: &Image<'_>, table: &Table) -> Result<()> {
        let width = self.width(table);
        for (value, column) in image.columns().zip(&table.definition.columns) {
            let value = value?;
            if self.is_shown(column) && !matches!(value, Value::Absent | Value::Unchanged) {
                self.column_name(out, column, width);
                put_value(out, value, column);
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// What an update changed; a column that only one image has is shown with what is known.
    fn changes(&mut self, out: &mut Vec<u8>, before: &Image<'_>, after: &Image<'_>, table: &Table) -> Result<()> {
        let width = self.width(table);
        let columns = &table.definition.columns;
        for ((old, new), column) in before.columns().zip(after.columns()).zip(columns) {
            let (old, new) = (old?, new?);
            if !self.is_shown(column) || matches!(new, Value::Absent | Value::Unchanged) {
                continue;
            }
            let mut shown = std::mem::take(&mut self.before);
            let mut changed = std::mem::take(&mut self.after);
            shown.clear();
            changed.clear();
            put_value(&mut shown, old, column);
            put_value(&mut changed, new, column);
            if shown != changed {
                self.column_name(out, column, width);
                if !matches!(old, Value::Absent) {
                    self.styled(out, Style::new().fg_color(Some(AnsiColor::Red.into())), |out| {
                        out.extend_from_slice(&shown);
                    });
                    out.extend_from_slice(b" -> ");
                }
                self.styled(out, Style::new().fg_color(Some(AnsiColor::Green.into())), |out| {
                    out.extend_from_slice(&changed);
                });
                out.push(b'\n');
            }
            self.before = shown;
            self.after = changed;
        }
        Ok(())
    }

    fn line(&mut self, out: &mut Vec<u8>, style: Style, label: &str, rest: &str) {
        self.styled(out, style, |out| out.extend_from_slice(label.as_bytes()));
        out.extend_from_slice(b"  ");
        put_terminal(out, rest);
        out.push(b'\n');
        self.blank = true;
    }
}

/// A value on one line.
pub fn put_value(out: &mut Vec<u8>, value: Value<'_>, column: &Column) {
    match value {
        Value::Absent => out.extend_from_slice(b"(absent)"),
        Value::Unchanged => out.extend_from_slice(b"(unchanged)"),
        Value::Null => out.extend_from_slice(b"NULL"),
        value => {
            let mut scratch = Vec::new();
            let rendered = render(value, column, &mut scratch);
            match (rendered.form, rendered.text()) {
                (Form::Integer | Form::Number | Form::Plain | Form::Json | Form::JsonDiff, Some(text)) => {
                    put_terminal(out, text);
                }
                (_, Some(text)) => {
                    out.push(b'\'');
                    if text.contains(['\'', '\\']) {
                        put_terminal(out, &text.replace('\\', "\\\\").replace('\'', "''"));
                    } else {
                        put_terminal(out, text);
                    }
                    out.push(b'\'');
                }
                (_, None) => {
                    out.extend_from_slice(b"0x");
                    put_hex(out, rendered.bytes);
                }
            }
        }
    }
}

fn op_style(op: RowsOp) -> Style {
    let color = match op {
        RowsOp::Insert => AnsiColor::Green,
        RowsOp::Update => AnsiColor::Yellow,
        RowsOp::Delete => AnsiColor::Red,
    };
    Style::new().bold().fg_color(Some(color.into()))
}

/// `3 inserts, 1 update`.
fn counts(commit: &Commit) -> String {
    let sum =
        |count: fn(&crate::frame::TableCount) -> u64| commit.tables.iter().map(count).fold(0, u64::saturating_add);
    let counts = [
        (sum(|table| table.inserts), "insert"),
        (sum(|table| table.updates), "update"),
        (sum(|table| table.deletes), "delete"),
        (commit.statements, "statement"),
    ];
    let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| {
        let plural = if *count == 1 { "" } else { "s" };
        format!("{count} {word}{plural}")
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

impl Printer for TextPrinter {
    fn stream(&mut self, out: &mut Output<'_>, header: &StreamHeader) -> Result<()> {
        let mut rest = format!("{} {}", header.source, header.server_version);
        let mut add = |label: &str, value: &str| {
            if !value.is_empty() {
                rest.push_str(&format!("  {label} {value}"));
            }
        };
        add("server", &if header.server_id == 0 { String::new() } else { header.server_id.to_string() });
        add("uuid", &header.server_uuid);
        add("log", &header.log_name);
        add("from", &header.start.to_string());
        add("gtid state", &header.gtid_state);
        add("filters", &header.filters);
        if header.unanchored {
            rest.push_str("  unanchored: file numbers are not known");
        }
        self.line(out.buffer(), Style::new().dimmed(), "stream", &rest);
        Ok(())
    }

    fn table(&mut self, _: &mut Output<'_>, _: &Table) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self, out: &mut Output<'_>, transaction: &Transaction) -> Result<()> {
        let begin = &transaction.begin;
        let out = out.buffer();
        if std::mem::replace(&mut self.blank, true) {
            out.push(b'\n');
        }
        let txid = transaction.txid.to_string();
        self.styled(out, Style::new().bold(), |out| out.extend_from_slice(txid.as_bytes()));
        if transaction.time_us != 0 {
            out.extend_from_slice(b"  ");
            out.extend_from_slice(self.time(transaction.time_us).as_bytes());
        }
        self.labelled(out, "gtid", &begin.gtid);
        for (label, number) in [("server", begin.server_id), ("thread", begin.thread)] {
            if number != 0 {
                self.labelled(out, label, &number.to_string());
            }
        }
        for (bit, name) in BEGIN_FLAGS {
            if begin.flags & bit != 0 && name != "barrier" {
                out.extend_from_slice(b"  ");
                out.extend_from_slice(name.as_bytes());
            }
        }
        self.labelled(out, "origins", &begin.origins.join(" "));
        out.push(b'\n');
        Ok(())
    }

    fn row(
        &mut self,
        out: &mut Output<'_>,
        _: &Transaction,
        rows: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        _: u64,
    ) -> Result<()> {
        out.spill()?;
        let out = out.buffer();
        out.extend_from_slice(b"  ");
        self.styled(out, op_style(rows.op), |out| out.extend_from_slice(rows.op.name().as_bytes()));
        out.push(b' ');
        put_terminal(out, &table.name());
        self.row_key(out, row, table)?;
        out.push(b'\n');
        match (&row.before, &row.after) {
            (Some(before), Some(after)) => self.changes(out, before, after, table),
            (Some(image), None) | (None, Some(image)) => self.image(out, image, table),
            (None, None) => Ok(()),
        }
    }

    fn statement(
        &mut self,
        out: &mut Output<'_>,
        _: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        let out = out.buffer();
        out.extend_from_slice(b"  ");
        match kind {
            RecordKind::Annotate | RecordKind::Note => {
                self.styled(out, Style::new().dimmed(), |out| {
                    out.extend_from_slice(b"# ");
                    put_terminal_bytes(out, &statement.sql);
                });
            }
            kind => {
                let style = Style::new().bold().fg_color(Some(AnsiColor::Magenta.into()));
                self.styled(out, style, |out| out.extend_from_slice(kind.name().as_bytes()));
                self.labelled(out, "in", &statement.database);
                for (database, table) in &statement.tables {
                    self.labelled(out, "table", &format!("{database}.{table}"));
                }
                if let Some(id) = statement.insert_id {
                    self.labelled(out, "insert_id", &id.to_string());
                }
                if statement.error_code != 0 {
                    self.labelled(out, "error", &statement.error_code.to_string());
                }
                if let Some(id) = statement.file_id {
                    self.labelled(out, "file", &format!("{id}, {} bytes", statement.block.len()));
                }
                if !statement.sql.is_empty() {
                    out.extend_from_slice(b"\n    ");
                    put_terminal_bytes(out, &statement.sql);
                }
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn end(&mut self, out: &mut Output<'_>, transaction: &Transaction, ending: Ending<'_>) -> Result<()> {
        let out = out.buffer();
        out.extend_from_slice(b"  ");
        match ending {
            Ending::Commit(commit) | Ending::Prepared(commit) => {
                let word = if matches!(ending, Ending::Commit(..)) { "commit" } else { "prepared" };
                self.styled(out, Style::new().dimmed(), |out| out.extend_from_slice(word.as_bytes()));
                out.push(b' ');
                out.extend_from_slice(counts(commit).as_bytes());
                if commit.time_us != 0 && commit.time_us != transaction.time_us {
                    out.extend_from_slice(b"  ");
                    out.extend_from_slice(self.time(commit.time_us).as_bytes());
                }
                out.extend_from_slice(b"  ");
                put_terminal(out, &commit.position(transaction.txid).to_string());
            }
            Ending::Discarded(why) => {
                let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
                self.styled(out, style, |out| out.extend_from_slice(b"discarded"));
                out.extend_from_slice(b": ");
                put_terminal(out, why);
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn mark(&mut self, out: &mut Output<'_>, step: &Step) -> Result<()> {
        let dim = Style::new().dimmed();
        let loud = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let (style, label, rest) = match step {
            Step::Progress(progress) => (dim, "progress", format!("{} to {}", progress.from, progress.to)),
            Step::Heartbeat(progress) => (dim, "heartbeat", progress.to.to_string()),
            Step::Gap(gap) => (loud, "gap", format!("{} to {}: {}", gap.from, gap.to, gap.reason)),
            Step::Handover(handover) => (dim, "handover", format!("{} goes on at {}", handover.host, handover.start)),
            Step::SnapshotBegin(snapshot) => (dim, "snapshot", format!("begins, as of {}", snapshot.at)),
            Step::SnapshotEnd(snapshot) => (dim, "snapshot", format!("ends, as of {}", snapshot.at)),
            Step::End(end) => {
                let mut rest = format!("{} transactions, reached {}", end.transactions, end.reached);
                if end.in_use {
                    rest.push_str(", the log is in use");
                }
                if end.torn_bytes > 0 {
                    rest.push_str(&format!(", {} bytes of an unfinished group follow", end.torn_bytes));
                }
                for note in &end.notes {
                    rest.push_str(&format!("; {note}"));
                }
                (dim, "end", rest)
            }
            Step::Abort(abort) => (loud, "abort", format!("status {}: {}", abort.status, abort.message)),
            _ => return Ok(()),
        };
        let out = out.buffer();
        if self.blank && !matches!(step, Step::Heartbeat(_)) {
            out.push(b'\n');
        }
        self.line(out, style, label, &rest);
        Ok(())
    }

    fn finish(&mut self, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}
