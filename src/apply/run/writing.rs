//! How what was gathered gets written: through the sessions at work, or by the one that knows how to retry and go row by row.

use std::time::Instant;

use super::super::pool::Pool;
use super::super::state::facts;
use super::super::writer::Written;
use super::{PRUNE_EVERY, Run, no_stream};
use crate::error::Result;

impl Run<'_> {
    /// Writes everything that was read, and waits until it is committed.
    pub(in crate::apply) fn flush(&mut self) -> Result<()> {
        if let (Some(loading), Some(writer)) = (&mut self.loading, &mut self.writer) {
            loading.commit(writer, &mut self.reached)?;
        }
        if self.pool.is_none() {
            return self.write_batch();
        }
        self.submit()?;
        self.settle()
    }

    /// Writes the batch through the one session.
    pub(in crate::apply) fn write_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let writer = self.writer.as_mut().ok_or_else(no_stream)?;
        let mut written = Written::default();
        let outcome = writer.write(self.target, batch, &mut written);
        self.committed(written)?;
        outcome
    }

    /// Whether there may be several sessions. A transaction that is to be skipped, or a failure before, needs the one that goes one by one.
    pub(super) fn has_several(&self) -> bool {
        self.options.workers > 1 && self.target.properties().writers_max > 1 && self.skip.is_none()
    }

    /// Whether large transactions are for sessions that run them on trial.
    pub(super) fn has_trials(&mut self) -> Result<bool> {
        if self.has_several() {
            self.open_pool()?;
        }
        Ok(self.has_several() && self.pool.as_ref().is_some_and(Pool::takes_large))
    }

    pub(super) fn open_pool(&mut self) -> Result<()> {
        if self.pool.is_none() {
            let writer = self.writer.as_ref().ok_or_else(no_stream)?;
            self.pool = Some(Pool::new(self.target, self.options, &writer.settings, self.definitions, &self.uuid)?);
        }
        Ok(())
    }

    /// Hands the batch to the sessions at work, or writes it where there is only one.
    pub(super) fn submit(&mut self) -> Result<()> {
        if !self.has_several() || self.batch.transactions.is_empty() {
            self.settle()?;
            return self.write_batch();
        }
        self.open_pool()?;
        let batch = std::mem::take(&mut self.batch);
        let mut written = Written::default();
        let well = self.pool.as_ref().is_none_or(|pool| pool.submit(batch, &mut written));
        self.committed(written)?;
        if !well {
            return self.take_over();
        }
        Ok(())
    }

    /// Waits until what was submitted is committed.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let mut written = Written::default();
        let well = pool.settle(&mut written);
        self.committed(written)?;
        if well { Ok(()) } else { self.take_over() }
    }

    /// The pool failed: the one session writes what is left, in order, with everything it knows about failures.
    pub(super) fn take_over(&mut self) -> Result<()> {
        let Some(pool) = self.pool.take() else { return Ok(()) };
        let mut written = Written::default();
        let left = pool.close(&mut written);
        self.committed(written)?;
        for batch in left {
            // A commit that was under way when its connection broke may have happened.
            let state = self.target.state(&self.settings.channel)?.unwrap_or_default();
            let held = |row: &&crate::target::StateRow| {
                Some(row.prev) == batch.prev && row.end == batch.end && row.incarnation == batch.incarnation
            };
            if let Some(row) = state.applied.iter().find(held) {
                self.writer.iter().for_each(|writer| writer.tell_committed(&batch));
                self.committed(Written { rows: vec![row.clone()], ..Written::default() })?;
                continue;
            }
            let writer = self.writer.as_mut().ok_or_else(no_stream)?;
            let mut written = Written::default();
            let outcome = writer.write(self.target, batch, &mut written);
            self.committed(written)?;
            outcome?;
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, written: Written) -> Result<()> {
        for row in &written.rows {
            self.reached.committed(row);
            self.summary.commits += 1;
            self.summary.transactions += row.transactions;
            if row.transactions > 0 {
                self.summary.source_time_us = row.source_time_us;
            }
        }
        self.summary.rows += written.tally.rows;
        self.summary.retries += written.retries;
        for conflict in &written.tally.conflicts {
            match conflict.outcome {
                "overwritten" => self.summary.overwritten += 1,
                _ => self.summary.skipped += 1,
            }
        }
        for note in written.tally.notes {
            self.note(note);
        }
        if written.rows.is_empty() {
            return Ok(());
        }
        self.wrote = Some(Instant::now());
        if std::mem::take(&mut self.failed_before) {
            let none =
                [facts::ERROR, facts::ERROR_TIME, facts::ERROR_STATUS, facts::ERROR_POSITION].map(|name| (name, None));
            self.target.set_facts(&self.settings.channel, &none)?;
        }
        self.since_prune += written.rows.len() as u64;
        if self.since_prune >= PRUNE_EVERY {
            self.prune()?;
        }
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.due = true;
        }
        self.keep_cursor(false)?;
        self.observe();
        Ok(())
    }
}
