//! Calls listeners, in the order in which they were given.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::listener::{
    ChangedRows, Channel, Event, EventKind, KnownRow, Listener, RecordEvent, RecordRows, Refusal, RowEvent, Statement,
    Transaction,
};
use crate::error::{Error, Result};
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
            guarded(|| listener.hear(event)).map_err(|refusal| refused(&**listener, event.transaction(), refusal))?;
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
            let told = guarded(|| listener.hear(&event)).map_err(|refusal| Error::from(stopped(&**listener, refusal)));
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
        let mut changed = false;
        for listener in self.listeners.iter().filter(|listener| listener.wants(EventKind::RowBefore)) {
            let now = if changed { Rows::decode(rows.op, out)? } else { *rows };
            let source = RecordRows::new(&now, table.1)?;
            let record = RecordEvent { rows: &now, table, ordinal: statement.ordinal, source: &source };
            let mut new = ChangedRows::new(&now, &source);
            guarded(|| listener.change_rows(transaction, statement, &record, &mut new))
                .map_err(|refusal| refused(&**listener, Some(transaction), refusal))?;
            if let Some(body) = new.finish()? {
                *out = body;
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
        let record = RecordEvent { rows, table, ordinal: statement.ordinal, source: &source };
        for listener in self.listeners.iter().filter(|listener| listener.wants(EventKind::RowAfter)) {
            guarded(|| listener.hear_rows(transaction, statement, &record))
                .map_err(|refusal| refused(&**listener, Some(transaction), refusal))?;
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

fn refused(listener: &dyn Listener, transaction: Option<&Transaction<'_>>, refusal: Refusal) -> Refused {
    let what = transaction.map_or("to start".to_owned(), |transaction| format!("transaction {}", transaction.name()));
    refusal_of(listener, &what, refusal)
}

fn stopped(listener: &dyn Listener, refusal: Refusal) -> Refused {
    refusal_of(listener, "the end of the run", refusal)
}

fn refusal_of(listener: &dyn Listener, what: &str, refusal: Refusal) -> Refused {
    let text = if refusal.text.is_empty() { "it does not say why" } else { refusal.text.as_str() };
    let error = Error::new(refusal.class, format!("{} refuses {what}: {text}", listener.name()));
    Refused { error: Box::new(error), again: refusal.again }
}
