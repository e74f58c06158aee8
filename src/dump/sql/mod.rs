//! `--format sql`: statements that do it again; [`undo`]: statements that take it back.
//!
//! Rows become statements of any dialect; statements and DDL only those of their own family. In another dialect DDL is left
//! out with a comment, and a statement that may change rows is refused, since nothing would take its place.

mod literal;
mod row;
mod statement;
pub mod undo;

use std::sync::Arc;

use super::moment::put_utc;
use super::output::Output;
use super::table::Table;
use super::walk::{Ending, Printer, Transaction};
use crate::error::{Class, Error, Result};
use crate::event::{RecordKind, Row, Rows, Statement};
use crate::frame::{Step, StreamHeader};

pub use literal::Dialect;

use literal::comment;
use row::RowSql;
use statement::Session;

/// Prints statements that do it again.
pub struct SqlPrinter {
    wanted: Option<Dialect>,
    dialect: Dialect,
    family: Option<Dialect>,
    session: Session,
    row: RowSql,
    /// BEGIN was written.
    begun: bool,
    /// The XA transaction id of the transaction at hand, as SQL.
    xid: String,
}

impl SqlPrinter {
    /// Prints in `wanted`, else in the dialect of the stream's source.
    pub fn new(wanted: Option<Dialect>) -> SqlPrinter {
        SqlPrinter {
            wanted,
            dialect: wanted.unwrap_or(Dialect::MariaDb),
            family: None,
            session: Session::default(),
            row: RowSql::default(),
            begun: false,
            xid: String::new(),
        }
    }

    /// What stands before the first row of a transaction.
    fn open(&mut self, out: &mut Vec<u8>) {
        if self.dialect.is_mysql_family() {
            self.session.for_rows(out);
        }
        if !std::mem::replace(&mut self.begun, true) {
            begin(out, &self.xid);
        }
    }
}

/// Opens a transaction.
fn begin(out: &mut Vec<u8>, xid: &str) {
    if xid.is_empty() {
        out.extend_from_slice(b"BEGIN;\n");
    } else {
        out.extend_from_slice(format!("XA START {xid};\n").as_bytes());
    }
}

/// The id of an XA transaction, which sources write as `X'…',X'…',1`; empty when it is anything else.
fn xa_id(xid: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'X' | b'\'' | b',');
    if xid.iter().all(plain) { String::from_utf8_lossy(xid).into_owned() } else { String::new() }
}

/// `-- 42:1234 2026-11-21T10:00:00Z 0-1-100`.
fn heading(out: &mut Vec<u8>, transaction: &Transaction) {
    out.extend_from_slice(format!("-- {} ", transaction.txid).as_bytes());
    if transaction.time_us != 0 {
        put_utc(out, transaction.time_us);
    }
    if !transaction.begin.gtid.is_empty() {
        out.extend_from_slice(format!(" {}", comment(&transaction.begin.gtid)).as_bytes());
    }
    out.push(b'\n');
}

impl Printer for SqlPrinter {
    fn stream(&mut self, out: &mut Output<'_>, header: &StreamHeader) -> Result<()> {
        self.family = Dialect::of_family(&header.source);
        if let (None, Some(family)) = (self.wanted, self.family) {
            self.dialect = family;
        }
        out.text(&format!("-- {} {}\n", comment(&header.source), comment(&header.server_version)));
        Ok(())
    }

    fn table(&mut self, _: &mut Output<'_>, _: &Table) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self, out: &mut Output<'_>, transaction: &Transaction) -> Result<()> {
        heading(out.buffer(), transaction);
        self.begun = false;
        self.xid = if self.dialect.is_mysql_family() { xa_id(&transaction.begin.xid) } else { String::new() };
        Ok(())
    }

    fn row(
        &mut self,
        out: &mut Output<'_>,
        _: &Transaction,
        _: &Rows<'_>,
        table: &Arc<Table>,
        row: &Row<'_>,
        _: u64,
    ) -> Result<()> {
        out.spill()?;
        self.open(out.buffer());
        self.row.redo(out.buffer(), self.dialect, table, row)
    }

    fn statement(
        &mut self,
        out: &mut Output<'_>,
        transaction: &Transaction,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        let words = comment(&String::from_utf8_lossy(&statement.sql));
        if matches!(kind, RecordKind::Annotate | RecordKind::Note) {
            out.text(&format!("-- {words}\n"));
            return Ok(());
        }
        if kind == RecordKind::Truncate && statement.sql.is_empty() {
            self.open(out.buffer());
            for (database, table) in &statement.tables {
                let buffer = out.buffer();
                buffer.extend_from_slice(b"DELETE FROM ");
                self.dialect.put_table(buffer, database, table)?;
                buffer.extend_from_slice(b";\n");
            }
            return Ok(());
        }
        if !self.dialect.is_mysql_family() || self.family.is_some_and(|family| family != self.dialect) {
            let same = self.family == Some(self.dialect);
            return match kind {
                RecordKind::Ddl | RecordKind::Truncate if same && is_one_statement(&words) => {
                    out.text(&format!("{words};\n"));
                    Ok(())
                }
                // Within MySQL's family the text is understood; that it does the same there is for whoever asked to judge.
                _ if self.dialect.is_mysql_family() && self.family.is_some_and(Dialect::is_mysql_family) => {
                    self.session.statement(out.buffer(), self.dialect, kind, statement)
                }
                RecordKind::Ddl => {
                    out.text(&format!("-- left out, not in this dialect: {words}\n"));
                    Ok(())
                }
                _ => Err(Error::new(
                    Class::Unavailable,
                    format!("transaction {} has a statement that cannot be written in this dialect: {words}", transaction.txid),
                )
                .hint("a log in row format (binlog_format=ROW) has rows in its place; --op insert,update,delete leaves statements out")),
            };
        }
        // DDL commits by itself; XA decisions stand outside of transactions.
        let alone =
            matches!(kind, RecordKind::Ddl | RecordKind::Truncate | RecordKind::XaDecision | RecordKind::LoadBlock);
        if alone && std::mem::take(&mut self.begun) {
            out.text("COMMIT;\n");
        }
        if !alone && !std::mem::replace(&mut self.begun, true) {
            begin(out.buffer(), &self.xid);
        }
        self.session.statement(out.buffer(), self.dialect, kind, statement)
    }

    fn end(&mut self, out: &mut Output<'_>, _: &Transaction, ending: Ending<'_>) -> Result<()> {
        let xid = std::mem::take(&mut self.xid);
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        match ending {
            Ending::Prepared(commit) if !xid.is_empty() => {
                let id = xa_id(&commit.xid);
                let id = if id.is_empty() { xid } else { id };
                out.text(&format!("XA END {id};\nXA PREPARE {id};\n"));
            }
            Ending::Commit(..) if !xid.is_empty() => {
                out.text(&format!("XA END {xid};\nXA COMMIT {xid} ONE PHASE;\n"));
            }
            Ending::Discarded(why) if !xid.is_empty() => {
                out.text(&format!("-- {}\nXA END {xid};\nXA ROLLBACK {xid};\n", comment(why)));
            }
            Ending::Commit(..) => out.text("COMMIT;\n"),
            Ending::Prepared(..) => out.text("-- prepared only; nothing decides it here\nROLLBACK;\n"),
            Ending::Discarded(why) => out.text(&format!("-- {}\nROLLBACK;\n", comment(why))),
        }
        Ok(())
    }

    fn mark(&mut self, out: &mut Output<'_>, step: &Step) -> Result<()> {
        match step {
            Step::Gap(gap) => out.text(&format!("-- gap: {} to {} {}\n", gap.from, gap.to, comment(&gap.reason))),
            Step::Abort(abort) => out.text(&format!("-- the writer failed: {}\n", comment(&abort.message))),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Output<'_>) -> Result<()> {
        Ok(())
    }
}

/// Whether text has nothing that ends a statement or begins a comment.
fn is_one_statement(text: &str) -> bool {
    !text.contains(';')
        && !text.contains("--")
        && !text.contains("/*")
        && !text.contains('\\')
        && !text.starts_with('.')
}
