//! Calls listeners, in the order in which they were given.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::listener::{
    Changes, Channel, Event, EventKind, KnownRow, Listener, RecordRows, Refusal, RowAt, RowEvent, Statement,
    Transaction,
};
use crate::error::{Error, Result};
use crate::event::rows::{RowsHead, set_row_count};
use crate::event::{EventError, Row, Rows, TableDefinition};

/// What a listener has refused, or what failed on the way to it.
#[derive(Debug)]
pub struct Refused {
    /// What, and how the run ends.
    pub error: Box<Error>,
    /// The transaction is to be rolled back and tried again.
    pub again: bool,
}

impl From<EventError> for Refused {
    fn from(error: EventError) -> Refused {
        Refused { error: Box::new(error.into()), again: false }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        *refused.error
    }
}

/// The listeners of a run.
pub struct Host {
    listeners: Vec<Box<dyn Listener>>,
    tool: &'static str,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.listeners.iter().map(|listener| listener.name())).finish()
    }
}

impl Host {
    /// These, called in this order.
    pub fn new(tool: &'static str, listeners: Vec<Box<dyn Listener>>) -> Host {
        Host { listeners, tool }
    }

    /// The channel of a run.
    pub fn channel(&self, name: &str, position: String) -> Channel {
        Channel { tool: self.tool, name: name.to_owned(), position }
    }

    /// Whether somebody wants to hear of a kind of events.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.listeners.iter().any(|listener| listener.wants(kind))
    }

    /// Tells everybody; the first refusal counts.
    fn tell(&self, event: &Event<'_>) -> Result<(), Refused> {
        let kind = event.kind();
        for listener in self.listeners.iter().filter(|listener| listener.wants(kind)) {
            guarded(|| listener.hear(event)).map_err(|refusal| refused(&**listener, event, refusal))?;
        }
        Ok(())
    }

    /// Tells everybody what cannot be refused any more.
    fn tell_all(&self, event: &Event<'_>) {
        let kind = event.kind();
        for listener in self.listeners.iter().filter(|listener| listener.wants(kind)) {
            let _ = guarded(|| listener.hear(event));
        }
    }

    /// A run begins.
    pub fn start(&self, channel: &Channel) -> Result<()> {
        Ok(self.tell(&Event::ChannelStart(channel))?)
    }

    /// A run ends. Everybody hears of it; the first refusal counts when all was well.
    pub fn stop(&self, channel: &Channel, error: Option<&Error>) -> Result<()> {
        if let Some(error) = error {
            self.tell_all(&Event::Error(error));
        }
        let event = Event::ChannelStop(channel, error);
        let mut outcome = Ok(());
        for listener in self.listeners.iter().filter(|listener| listener.wants(EventKind::ChannelStop)) {
            let told =
                guarded(|| listener.hear(&event)).map_err(|refusal| Error::from(refused(&**listener, &event, refusal)));
            outcome = outcome.and(told);
        }
        outcome
    }

    /// An attempt at a transaction begins.
    pub fn begin(&self, transaction: &Transaction<'_>) -> Result<(), Refused> {
        self.tell(&Event::Begin(transaction))
    }

    /// It is complete.
    pub fn end(&self, transaction: &Transaction<'_>) -> Result<(), Refused> {
        self.tell(&Event::End(transaction))
    }

    /// Transactions were committed.
    pub fn committed<'a>(&self, transactions: impl IntoIterator<Item = Transaction<'a>>) {
        if self.wants(EventKind::Commit) {
            for transaction in transactions {
                self.tell_all(&Event::Commit(&transaction));
            }
        }
        self.settled();
    }

    /// Nothing of these remains.
    pub fn rolled_back<'a>(&self, transactions: impl IntoIterator<Item = Transaction<'a>>, why: &str) {
        if self.wants(EventKind::Rollback) {
            for transaction in transactions {
                self.tell_all(&Event::Rollback(&transaction, why));
            }
        }
        self.settled();
    }

    fn settled(&self) {
        for listener in &self.listeners {
            let _ = guarded(|| {
                listener.settled();
                Ok(())
            });
        }
    }

    /// A statement begins; of DDL it is said twice.
    pub fn statement_start(&self, transaction: &Transaction<'_>, statement: &Statement<'_>) -> Result<(), Refused> {
        self.tell(&Event::StatementStart(transaction, statement))?;
        if statement.kind == crate::event::RecordKind::Ddl {
            self.tell(&Event::Ddl(transaction, statement))?;
        }
        Ok(())
    }

    /// The target has taken it.
    pub fn statement_finish(&self, transaction: &Transaction<'_>, statement: &Statement<'_>) -> Result<(), Refused> {
        self.tell(&Event::StatementFinish(transaction, statement))
    }

    /// The rows of a record are about to be applied. Returns whether something was changed: then `out` holds the record's new body.
    pub fn rows_before(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        table: (u64, &TableDefinition),
        rows: &Rows<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refused> {
        if !self.wants(EventKind::RowBefore) {
            return Ok(false);
        }
        let source = RecordRows::new(rows, table.1)?;
        let mut count_at = None;
        let mut copied = 0;
        let mut new = Vec::new();
        for number in 0..rows.count {
            if !self.row_before(transaction, statement, table, rows, &source, number, &mut new)? {
                continue;
            }
            let (_, start, end) = source.place(number)?;
            if count_at.is_none() {
                out.clear();
                let head = RowsHead {
                    key: rows.key,
                    time_s: rows.time_s,
                    columns: rows.columns,
                    before: rows.before.bits(),
                    after: rows.after.bits(),
                    unchanged: rows.unchanged.bits(),
                    diff: rows.diff.bits(),
                };
                count_at = Some(head.encode(rows.op, out));
            }
            out.extend_from_slice(rows.images.get(copied..start).unwrap_or(&[]));
            out.extend_from_slice(&new);
            copied = end;
        }
        if let Some(at) = count_at {
            out.extend_from_slice(rows.images.get(copied..).unwrap_or(&[]));
            set_row_count(out, at, rows.count);
        }
        Ok(count_at.is_some())
    }

    /// Asks all about one row. Returns whether something was changed: then `new` holds its images.
    #[allow(clippy::too_many_arguments, reason = "what a listener hears")]
    fn row_before(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        table: (u64, &TableDefinition),
        rows: &Rows<'_>,
        source: &RecordRows<'_>,
        number: u32,
        new: &mut Vec<u8>,
    ) -> Result<bool, Refused> {
        let mut changed = false;
        let ordinal = statement.ordinal + u64::from(number);
        for listener in self.listeners.iter().filter(|listener| listener.wants(EventKind::RowBefore)) {
            let held = std::mem::take(new);
            let again = match changed {
                true => Rows { count: 1, images: &held, ..*rows }.iter(table.1)?.next()?,
                false => None,
            };
            let known = again.map(KnownRow);
            let source: &dyn RowAt = match &known {
                Some(known) => known,
                None => source,
            };
            let event = RowEvent { rows, table, ordinal, source, number };
            let mut changes = Changes::new(rows, table.1);
            guarded(|| listener.change(transaction, statement, &event, &mut changes))
                .map_err(|refusal| refused(&**listener, &Event::RowBefore(transaction, statement, &event), refusal))?;
            if changes.is_empty() {
                *new = held;
            } else {
                let mut written = Vec::new();
                changes.write(&event.row()?, &mut written)?;
                *new = written;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The target has taken the rows of a record.
    pub fn rows_after(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        table: (u64, &TableDefinition),
        rows: &Rows<'_>,
    ) -> Result<(), Refused> {
        if !self.wants(EventKind::RowAfter) {
            return Ok(());
        }
        let source = RecordRows::new(rows, table.1)?;
        for number in 0..rows.count {
            let ordinal = statement.ordinal + u64::from(number);
            let event = RowEvent { rows, table, ordinal, source: &source, number };
            self.tell(&Event::RowAfter(transaction, statement, &event))?;
        }
        Ok(())
    }

    /// The target has taken one row.
    pub fn row_after(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        table: (u64, &TableDefinition),
        rows: &Rows<'_>,
        row: &Row<'_>,
        ordinal: u64,
    ) -> Result<(), Refused> {
        let source = KnownRow(*row);
        let event = RowEvent { rows, table, ordinal, source: &source, number: 0 };
        self.tell(&Event::RowAfter(transaction, statement, &event))
    }
}

/// A panic of a listener is a veto; it must not take a session with it.
fn guarded(call: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Refusal::veto(format!("it panicked: {text}")))
    })
}

fn refused(listener: &dyn Listener, event: &Event<'_>, refusal: Refusal) -> Refused {
    let what = match event.transaction() {
        Some(transaction) => format!("transaction {}", transaction.name()),
        None if event.kind() == EventKind::ChannelStop => "the end of the run".to_owned(),
        None => "to start".to_owned(),
    };
    let text = if refusal.text.is_empty() { "it does not say why" } else { refusal.text.as_str() };
    let error = Error::new(refusal.class, format!("{} refuses {what}: {text}", listener.name()));
    Refused { error: Box::new(error), again: refusal.again }
}
