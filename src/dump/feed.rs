//! `--exec`: a process that hears of everything, as the JSON lines of rlog-dump on its standard input.
//!
//! ```text
//! begin ─▶ lines kept ─▶ end: written and flushed ─▶ has it died? ─▶ the target commits ─▶ commit line, flushed
//!                            │                          └─ not well: veto
//!                            └─ the pipe is full: wait, and the applier with it
//! ```
//!
//! A process that ends well before the run does is not fed any more. One that ends otherwise (a status but 0, a signal) refuses every transaction that is not
//! committed; status 75 ends the run with 75, any other with 80. At the end of the run its input is closed and it is waited for: ending otherwise
//! then is an error, though everything is applied. What it has not read when the target commits it cannot refuse: that takes a plug-in.
//!
//! Several sessions share one process: lines of different transactions may then stand between each other, and each says of which it is. A
//! transaction that begins again was not committed before: `discard` says so when it is known.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::json::{JsonPrinter, Separator};
use super::output::Output;
use super::table::Table;
use super::walk::{self, Ending, Printer};
use crate::error::{Class, Error, Result};
use crate::event::TableDefinition;
use crate::plugin::{Event, EventKind, Listener, Refusal, Transaction};

/// Table definitions that are kept; then all are forgotten, and told again when rows of them come.
const TABLES_MAX: usize = 8_192;
/// Bytes after which lines are written though the transaction goes on.
const WRITE_BYTES: usize = 64 << 10;

/// A process that is fed.
pub struct Feed {
    name: String,
    /// It has ended, well.
    over: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    child: Child,
    input: Option<ChildStdin>,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    printer: JsonPrinter,
    tables: HashMap<u64, Arc<Table>>,
    tables_seen: u64,
    /// Carries the few things that the printer asks a transaction for.
    at: walk::Transaction,
    /// How it ended.
    status: Option<ExitStatus>,
}

impl Feed {
    /// Starts `sh -c COMMAND`. Its standard output is ours, or our standard error where ours is for something else.
    pub fn start(command: &str, stdout_is_taken: bool) -> Result<Feed> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).stdin(Stdio::piped());
        if stdout_is_taken {
            let stderr = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned();
            shell.stdout(stderr.map_err(|error| Error::io("standard error", error))?);
        }
        let mut child = shell.spawn().map_err(|error| Error::io("sh", error))?;
        let input = child.stdin.take();
        Ok(Feed {
            name: format!("--exec '{command}'"),
            over: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                child,
                input,
                lines: Vec::new(),
                printer: JsonPrinter::new(Separator::Line, &[]),
                tables: HashMap::new(),
                tables_seen: 0,
                at: walk::Transaction { txid: Default::default(), begin: Box::default(), time_us: 0, ordinal: 0 },
                status: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the end of the process means, if it has ended.
    fn judge(&self, inner: &Inner) -> Result<(), Refusal> {
        let Some(status) = inner.status else { return Ok(()) };
        if status.success() {
            self.over.store(true, Ordering::Release);
            return Ok(());
        }
        let again = status.code() == Some(i32::from(Class::TryAgain.exit_status()));
        let class = if again { Class::TryAgain } else { Class::Conflict };
        Err(Refusal { class, ..Refusal::veto(format!("it has ended: {status}")) })
    }
}

impl Inner {
    fn print(&mut self, print: impl FnOnce(&mut JsonPrinter, &mut Output<'_>, &walk::Transaction) -> Result<()>) {
        let mut nowhere = io::sink();
        let mut out = Output::over(std::mem::take(&mut self.lines), &mut nowhere);
        // What is printed was read well before, and a buffer takes everything.
        let _ = print(&mut self.printer, &mut out, &self.at);
        self.lines = out.into_buffer();
    }

    /// Stands at this transaction.
    fn stand(&mut self, transaction: &Transaction<'_>, ordinal: u64) {
        self.at.txid = transaction.txid;
        self.at.ordinal = ordinal;
        self.printer.stand(transaction.txid);
    }

    fn table(&mut self, id: u64, definition: &TableDefinition) -> Arc<Table> {
        if let Some(table) = self.tables.get(&id) {
            return table.clone();
        }
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        self.tables_seen += 1;
        let table = Arc::new(Table::of(definition.clone(), self.tables_seen));
        self.tables.insert(id, table.clone());
        self.print(|printer, out, _| printer.table(out, &table));
        table
    }

    /// Writes the lines; waits while the pipe is full. Says how the process ended when it takes no more.
    fn write(&mut self) -> Result<()> {
        let Some(input) = &mut self.input else {
            self.lines.clear();
            return Ok(());
        };
        let outcome = input.write_all(&self.lines);
        self.lines.clear();
        self.lines.shrink_to(4 * WRITE_BYTES);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.wait(),
            Err(error) => Err(Error::io("pipe", error)),
        }
    }

    /// Closes its input and waits for its end.
    fn wait(&mut self) -> Result<()> {
        self.input = None;
        if self.status.is_none() {
            self.status = Some(self.child.wait().map_err(|error| Error::io("process", error))?);
        }
        Ok(())
    }
}

impl Listener for Feed {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::ChannelStop => true,
            EventKind::Begin
            | EventKind::RowAfter
            | EventKind::StatementFinish
            | EventKind::End
            | EventKind::Commit
            | EventKind::Rollback => !self.over.load(Ordering::Acquire),
            _ => false,
        }
    }

    fn hear(&self, event: &Event<'_>) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let failed = |error: Error| Refusal::veto(error.to_string());
        match event {
            Event::Begin(transaction) => {
                inner.stand(transaction, 0);
                let at = walk::Transaction {
                    txid: transaction.txid,
                    begin: Box::new(transaction.begin.clone()),
                    time_us: transaction.begin.time_us,
                    ordinal: 0,
                };
                inner.print(|printer, out, _| printer.begin(out, &at));
            }
            Event::RowAfter(transaction, _, row) => {
                let seen = row.row().map_err(|error| failed(error.into()))?;
                let table = inner.table(row.table.0, row.table.1);
                inner.stand(transaction, row.ordinal);
                inner.print(|printer, out, at| printer.row(out, at, row.rows, &table, &seen, row.ordinal));
            }
            Event::StatementFinish(transaction, statement) => {
                if let Some(said) = statement.statement {
                    inner.stand(transaction, statement.ordinal);
                    inner.print(|printer, out, at| printer.statement(out, at, statement.kind, said));
                }
            }
            Event::End(_) => {
                inner.write().map_err(failed)?;
                if inner.status.is_none() {
                    inner.status = inner.child.try_wait().map_err(|error| failed(Error::io("process", error)))?;
                }
                return self.judge(inner);
            }
            Event::Commit(transaction) => {
                if let Some(commit) = transaction.commit {
                    inner.stand(transaction, 0);
                    let prepared = transaction.prepared;
                    let ending = if prepared { Ending::Prepared(commit) } else { Ending::Commit(commit) };
                    inner.print(|printer, out, at| printer.end(out, at, ending));
                }
            }
            Event::Rollback(transaction, why) => {
                inner.stand(transaction, 0);
                inner.print(|printer, out, at| printer.end(out, at, Ending::Discarded(why)));
            }
            Event::ChannelStop(..) => {
                inner.write().map_err(failed)?;
                inner.wait().map_err(failed)?;
                return self.judge(inner);
            }
            _ => {}
        }
        if inner.lines.len() >= WRITE_BYTES {
            inner.write().map_err(failed)?;
            return self.judge(inner);
        }
        Ok(())
    }

    fn settled(&self) {
        if !self.over.load(Ordering::Acquire) {
            // Its end is judged before the next commit.
            let _ = self.lock().write();
        }
    }
}
