//! Writing batches through one session: attempts, retries, and the exact second run.
//!
//! ```text
//! fast ── ok ──▶ committed
//!  │ retryable: roll back, wait, fast again        lost: reconnect, ask the state whether the commit happened
//!  ▼ anything else: roll back
//! singly, exact ── conflict ──▶ policy: skip or overwrite the row (dead letter first, synced), or stop
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Options;
use super::batch::Batch;
use super::conflict::Conflict;
use super::dead_letter::DeadLetters;
use super::execute::{Executor, Tally, heard, shortened};
use super::input::Transaction;
use super::state::facts;
use super::tables::Definitions;
use crate::error::{Class, Error, Result};
use crate::frame::StreamHeader;
use crate::queue::Queue;
use crate::target::{Cause, Failure, Outcome, Session, Settings, StateRow, Target};

/// First wait before a retry; doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Conflicts recorded for one source transaction; the dead letter has them all.
const CONFLICTS_RECORDED_MAX: usize = 100;

/// What writing came to.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The state rows that were committed, in order.
    pub rows: Vec<StateRow>,
    /// What happened in them.
    pub tally: Tally,
    /// Retries that were needed.
    pub retries: u64,
}

/// One session and what it needs.
pub struct Writer<'a> {
    /// Executes.
    pub session: Box<dyn Session>,
    /// How it was opened, for reconnecting.
    pub settings: Settings,
    /// The options of the run.
    pub options: &'a Options,
    /// Definitions.
    pub definitions: &'a Definitions,
    /// The target's UUID.
    pub uuid: String,
    /// Position that `skip` steps over.
    pub skip: Option<String>,
    /// Where skipped transactions are kept.
    pub dead_letters: Option<DeadLetters>,
    /// Header of the stream being read.
    pub header: StreamHeader,
    /// Set by a signal: no further retry.
    pub stop: &'a AtomicBool,
    /// Another applier has taken over: nothing more may be written.
    pub fenced: bool,
    /// Position of the transaction that failed for good.
    pub failed_at: Option<String>,
    /// Transactions of the batch at hand that were begun.
    pub begun: usize,
    /// The queue, when it is in the target's own database: what is applied is acknowledged in the same transaction.
    pub within: Option<Arc<dyn Queue>>,
}

impl Writer<'_> {
    fn row(&self, batch: &Batch) -> StateRow {
        batch.row(&self.settings.channel, self.settings.epoch, &self.uuid, crate::sys::clock::now_us())
    }

    /// Applies a batch and commits it. Everything in it is applied when this returns `Ok`; on an error the rows that `written` holds were.
    pub fn write(&mut self, target: &mut dyn Target, batch: Batch, written: &mut Written) -> Result<()> {
        let skipped = self
            .skip
            .as_ref()
            .is_some_and(|skip| batch.transactions.iter().any(|transaction| transaction.position.to_string() == *skip));
        if !skipped {
            match self.attempts(target, &batch, written, Mode::Fast)? {
                Attempt::Committed => return Ok(()),
                Attempt::Failed(_) => {}
            }
        }
        for one in batch.split() {
            match self.attempts(target, &one, written, Mode::Exact)? {
                Attempt::Committed => {}
                Attempt::Failed(failure) => {
                    let position = one.transactions.first().map(|transaction| transaction.position.to_string());
                    self.failed_at = position;
                    return Err(Error::from(failure));
                }
            }
        }
        Ok(())
    }

    /// One way of running until it is committed, fails for good, or the retries are used up.
    fn attempts(
        &mut self,
        target: &mut dyn Target,
        batch: &Batch,
        written: &mut Written,
        mode: Mode,
    ) -> Result<Attempt> {
        let mut backoff = BACKOFF_FIRST;
        let mut left = self.options.retries;
        loop {
            let row = self.row(batch);
            self.begun = 0;
            let failure = match self.once(batch, &row, mode) {
                Ok(tally) => {
                    self.tell_committed(batch);
                    written.tally.rows += tally.rows;
                    written.tally.statements += tally.statements;
                    written.tally.conflicts.extend(tally.conflicts);
                    written.tally.notes.extend(tally.notes);
                    written.rows.push(row);
                    return Ok(Attempt::Committed);
                }
                Err(failure) => failure,
            };
            // What cannot be rolled back is on a connection that is gone: nothing of it is left.
            let rolled_back = self.session.rollback();
            // Of a commit whose connection broke nobody knows yet.
            let mut unknown = failure.cause == Cause::Lost;
            if !unknown {
                self.tell_rolled_back(batch, &failure);
            }
            match failure.cause {
                Cause::Fenced => {
                    self.fenced = true;
                    return Err(Error::from(failure));
                }
                Cause::Retry | Cause::Lost => {}
                _ if rolled_back.is_err() => {}
                _ => return Ok(Attempt::Failed(failure)),
            }
            if left == 0 || self.stop.load(Ordering::Relaxed) {
                if std::mem::take(&mut unknown) {
                    self.tell_rolled_back(batch, &failure);
                }
                return Err(Error::from(failure).with_class(Class::TryAgain));
            }
            left -= 1;
            written.retries += 1;
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
            if failure.cause == Cause::Lost || rolled_back.is_err() {
                // The target has patience of its own.
                self.session = target.session(&self.settings)?;
                // The commit may have happened before the connection broke.
                let state = target.state(&self.settings.channel)?.unwrap_or_default();
                if state.applied.iter().any(|held| {
                    held.epoch == row.epoch
                        && held.incarnation == row.incarnation
                        && held.prev == row.prev
                        && held.end == row.end
                }) {
                    self.tell_committed(batch);
                    written.rows.push(row);
                    return Ok(Attempt::Committed);
                }
            }
            if unknown {
                self.tell_rolled_back(batch, &failure);
            }
        }
    }

    /// Listeners hear that the batch is committed.
    pub fn tell_committed(&self, batch: &Batch) {
        if let Some(listeners) = &self.options.listeners {
            listeners.committed(batch.transactions.iter().map(|transaction| heard(transaction)));
        }
    }

    fn tell_rolled_back(&self, batch: &Batch, failure: &Failure) {
        if let Some(listeners) = &self.options.listeners {
            let begun = batch.transactions.iter().take(self.begun);
            listeners.rolled_back(begun.map(|transaction| heard(transaction)), &failure.to_string());
        }
    }

    /// One target transaction.
    fn once(&mut self, batch: &Batch, row: &StateRow, mode: Mode) -> Outcome<Tally> {
        self.session.begin()?;
        self.session.state(row)?;
        let mut total = Tally::default();
        for transaction in &batch.transactions {
            self.begun += 1;
            let tally = self.transaction(transaction, mode)?;
            total.rows += tally.rows;
            total.statements += tally.statements;
            total.conflicts.extend(tally.conflicts);
            total.notes.extend(tally.notes);
        }
        for (name, value) in &batch.facts {
            self.session.fact(name, value.as_deref())?;
        }
        if let (Some(queue), Some(mark), Some(connection)) = (&self.within, &batch.mark, self.session.lend()) {
            queue.ack_within(connection, &self.uuid, mark)?;
        }
        self.session.commit()?;
        Ok(total)
    }

    fn transaction(&mut self, transaction: &Transaction, mode: Mode) -> Outcome<Tally> {
        let executor = Executor {
            channel: &self.settings.channel,
            policy: &self.options.policy,
            ddl: self.options.ddl,
            definitions: self.definitions,
            listeners: self.options.listeners.as_deref(),
        };
        if mode == Mode::Fast {
            return executor.fast(&mut *self.session, transaction);
        }
        let position = transaction.position.to_string();
        let tally = if self.skip.as_ref() == Some(&position) {
            self.session.fact(facts::SKIP, None)?;
            let asked = Failure::from(Error::new(Class::Conflict, "stepped over as asked"));
            let conflict = Conflict::other(&self.settings.channel, &transaction.position, "transaction", &asked);
            Tally { conflicts: vec![Conflict { outcome: "skipped", ..conflict }], ..Tally::default() }
        } else {
            executor.exact(&mut *self.session, transaction)?
        };
        if tally.conflicts.is_empty() {
            return Ok(tally);
        }
        let lost_something = tally.conflicts.iter().any(|conflict| conflict.outcome == "skipped");
        if let (Some(letters), true) = (&mut self.dead_letters, lost_something) {
            letters.put(&self.header, transaction)?;
        }
        for (number, conflict) in tally.conflicts.iter().take(CONFLICTS_RECORDED_MAX).enumerate() {
            let name = format!("{}{:016x}.{number:03}", facts::CONFLICT_PREFIX, transaction.position.txid.0);
            self.session.fact(&name, Some(&conflict.to_json()))?;
        }
        Ok(tally)
    }
}

/// Leaves an error in the target for `status`.
pub fn record_error(target: &mut dyn Target, channel: &str, position: Option<&str>, error: &Error) -> Result<()> {
    target.set_facts(
        channel,
        &[
            (facts::ERROR, Some(&shortened(error.to_string().as_bytes()))),
            (facts::ERROR_TIME, Some(&crate::sys::clock::now_us().to_string())),
            (facts::ERROR_STATUS, Some(&error.class().exit_status().to_string())),
            (facts::ERROR_POSITION, position),
        ],
    )
}

/// How a batch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Fast,
    Exact,
}

enum Attempt {
    Committed,
    Failed(Failure),
}
