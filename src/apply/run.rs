//! The loop: reads units, judges them, gathers batches and has them written, until the end, a limit, or a signal.
//!
//! A batch is written when it is full, when a barrier comes, or when no more input is there at the moment: so a busy
//! applier merges many source transactions into one target transaction, and one that has caught up writes each at once.

mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::acknowledge::Acknowledge;
use super::base::{aborted, base_of, beginning, held_from_the_beginning, leading_snapshot};
use super::batch::{Batch, is_large, server_origin};
use super::cursor::Cursor;
use super::dead_letter::DeadLetters;
use super::input::{Input, Transaction, Unit};
use super::options::{From, Observer, Options, Summary, Until};
use super::pool::Pool;
use super::rules::{self, Change};
use super::snapshot::{self, Loading};
use super::state::{Reached, Verdict, facts};
use super::tables::Definitions;
use super::writer::{Writer, Written, record_error};
use super::xa;
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Incarnation, Progress, StreamHeader, gtid};
use crate::queue;
use crate::sys;
use crate::target::{EPOCH_FACT, Settings, Target};

/// Target transactions after which state rows are pruned.
const PRUNE_EVERY: u64 = 200;
/// How often a range without transactions is written when nothing else is to be written. Two databases that follow each other would
/// otherwise answer each other's state rows with state rows, as fast as they can.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked at how much input is left, for progress.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// How long one step of waiting for `--delay` takes.
const DELAY_STEP: Duration = Duration::from_millis(200);

/// Runs a channel.
pub fn run(
    target: &mut dyn Target,
    from: &From,
    options: &Options,
    stop: &Arc<AtomicBool>,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let channel = options.channel.as_str();
    if !target.lock(channel, options.lock_wait)? {
        return Err(Error::new(
            Class::TryAgain,
            format!("another rlog-apply runs channel {channel} into {}", target.name()),
        )
        .hint("--lock-wait waits for it"));
    }
    let definitions = Arc::new(Definitions::new(options.rules.clone()));
    let mut peeked = Vec::new();
    let (mut input, mut begins) = (None, None);
    if target.state(channel)?.is_none() {
        let base = match &options.init {
            Some(init) => {
                begins = beginning(from, init);
                begins.map_or(Ok(()), |address| held_from_the_beginning(address, channel))?;
                base_of(target, init)?
            }
            None => {
                let (opened, units) = leading_snapshot(target, from, options, &definitions, stop)?;
                // A pipe cannot be read twice; a queue is read again once its reader is registered.
                if !matches!(from, From::Queue(_)) {
                    (input, peeked) = (Some(opened), units);
                }
                vec![(facts::BASE, "snapshot".to_owned())]
            }
        };
        let base: Vec<(&str, &str)> = base.iter().map(|(name, value)| (*name, value.as_str())).collect();
        target.init(channel, &base)?;
    }
    let epoch = target.raise_epoch(channel)?;
    let state = target.state(channel)?.unwrap_or_default();
    debug_assert!(state.facts.contains_key(EPOCH_FACT));
    let reached = Reached::new(&state)?;
    let uuid = target.uuid()?.ok_or_else(|| Error::new(Class::Bug, "a target with state and without UUID"))?;
    let widened = match rules::judge(&state, options) {
        Change::None => None,
        Change::Accepted(note) => {
            note.into_iter().for_each(|note| observer.note(note));
            target.set_facts(channel, &[(facts::FILTERS, Some(&options.rules.text()))])?;
            None
        }
        Change::Refused(error) => Some(error),
    };
    let own_origins = own_origins(target, &uuid, options)?;
    let mut acknowledge = None;
    let input = match (input, from) {
        (Some(input), _) => input,
        (None, From::Stdin) => Input::stdin(definitions.clone())?,
        (None, From::File(path)) => Input::file(path, definitions.clone())?,
        (None, From::Queue(address)) => {
            let queue = queue::open(Arc::new(sys::Os), address, channel, false)?;
            let registered = queue.register(&uuid)?;
            // What was purged while we were not registered yet.
            begins.map_or(Ok(()), |address| held_from_the_beginning(address, channel))?;
            xa::reconcile(&*queue, &uuid, &registered.pins, &state)?;
            let loading = state.facts.contains_key(facts::LOADING);
            let place = if loading { queue::ReadFrom::Oldest } else { reached.place() };
            let mode = if options.follow { queue::ReadMode::FOLLOW } else { queue::ReadMode::ONCE };
            // Ranges without transactions behind the last transaction are applied and acknowledged too, so that they, and the transaction, may be
            // purged at any moment: its evidence is compared if it is still held, and reading starts at the place that was reached.
            let behind = reached.at.filter(|at| reached.position().is_some_and(|last| last.end < *at));
            let reader = match (queue.reader(&place, mode), behind) {
                (Err(error), Some(_)) if error.class() != Class::Gap => return Err(error),
                (_, Some(at)) => queue.reader(&queue::ReadFrom::AfterCoordinate(at), mode)?,
                (reader, None) => reader?,
            };
            let name = queue.name();
            acknowledge = Some(Acknowledge::new(queue.into(), target.database(), &state, registered.acked));
            Input::queue(reader, name, definitions.clone())
        }
    };
    let settings = Settings { channel: channel.to_owned(), epoch, ..options.settings.clone() };
    let mut run = Run {
        target,
        options,
        stop,
        observer,
        definitions: &definitions,
        input,
        reached,
        own_origins,
        wrote: None,
        settings,
        uuid,
        skip: state.facts.get(facts::SKIP).cloned(),
        failed_before: state.facts.contains_key(facts::ERROR),
        source: SourceFacts::from(&state.facts),
        widened,
        writer: None,
        pool: None,
        batch: Batch::default(),
        loading: None,
        acknowledge,
        safe: None,
        since_prune: 0,
        measured: None,
        based: state.facts.get(facts::BASE).is_some_and(|base| base.contains(':')),
        gtid_base: state.facts.get(facts::GTID_BASE).cloned(),
        cursor: options.cursor.clone().map(Cursor::new),
        summary: Summary::default(),
    };
    run.summary.position = run.reached.position();
    let heard = options.listeners.as_ref().map(|host| {
        (host, host.channel(channel, run.reached.position().map_or_else(String::new, |at| at.to_string())))
    });
    let outcome = heard.as_ref().map_or(Ok(()), |(host, channel)| host.start(channel));
    let outcome = outcome.and_then(|()| run.units(peeked));
    let outcome = outcome.and_then(|()| run.settle());
    if let Some(pool) = run.pool.take() {
        // After an error what is at work may still commit; what has not is read again by the next run.
        let mut written = Written::default();
        drop(pool.close(&mut written));
        let _ = run.committed(written);
    }
    let outcome = match heard {
        Some((host, channel)) => {
            let stopped = host.stop(&channel, outcome.as_ref().err());
            outcome.and(stopped)
        }
        None => outcome,
    };
    let fenced = run.writer.as_ref().is_some_and(|writer| writer.fenced);
    let finished = if fenced { Ok(()) } else { run.finish(outcome.is_ok()) };
    let summary = std::mem::take(&mut run.summary);
    match outcome {
        Ok(()) => finished.map(|()| summary),
        Err(error) => {
            let failed_at = run.writer.as_ref().and_then(|writer| writer.failed_at.clone());
            if !fenced {
                // The error itself is what matters; the note of it in the target is for `status`.
                let _ = record_error(run.target, channel, failed_at.as_deref(), &error);
            }
            Err(error)
        }
    }
}

/// What the target is called in lists of origins.
pub(super) fn own_origins(target: &mut dyn Target, uuid: &str, options: &Options) -> Result<Vec<String>> {
    let mut out = vec![uuid.to_owned()];
    if !options.same_server_id {
        out.extend(target.server_id()?.filter(|id| *id != 0).map(server_origin));
    }
    Ok(out)
}

/// What the state says about the source.
#[derive(Clone, Debug, Default)]
struct SourceFacts {
    family: String,
    server: String,
    server_uuid: String,
}

impl SourceFacts {
    fn from(facts_held: &std::collections::BTreeMap<String, String>) -> SourceFacts {
        let get = |name: &str| facts_held.get(name).cloned().unwrap_or_default();
        SourceFacts { family: get(facts::SOURCE), server: get(facts::SERVER), server_uuid: get(facts::SERVER_UUID) }
    }
}

pub(super) struct Run<'a> {
    pub(super) target: &'a mut dyn Target,
    options: &'a Options,
    stop: &'a Arc<AtomicBool>,
    observer: &'a mut dyn Observer,
    pub(super) definitions: &'a Arc<Definitions>,
    pub(super) input: Input,
    pub(super) reached: Reached,
    /// What the target itself is called as an origin.
    own_origins: Vec<String>,
    /// When something was committed last.
    wrote: Option<Instant>,
    pub(super) settings: Settings,
    pub(super) uuid: String,
    skip: Option<String>,
    failed_before: bool,
    source: SourceFacts,
    /// The filters let through what they did not before: only a snapshot may come, which brings it.
    widened: Option<Error>,
    writer: Option<Writer<'a>>,
    /// Several sessions, on targets that have several writers.
    pool: Option<Pool>,
    pub(super) batch: Batch,
    loading: Option<Loading>,
    pub(super) acknowledge: Option<Acknowledge>,
    /// The last place in the queue up to which everything was written, or handed to sessions at work.
    safe: Option<queue::Mark>,
    since_prune: u64,
    /// When it was last looked at how much input is left.
    measured: Option<Instant>,
    /// Whether the state names the coordinate at which the chain of state rows begins.
    based: bool,
    /// GTIDs that `--init` has declared as held.
    gtid_base: Option<String>,
    /// Where `--cursor` keeps the applied position, and what it holds.
    cursor: Option<Cursor>,
    pub(super) summary: Summary,
}

impl Run<'_> {
    fn units(&mut self, peeked: Vec<Unit>) -> Result<()> {
        for unit in peeked {
            self.unit(unit)?;
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return self.flush_all();
            }
            // Here nothing that was read is in anybody's hands: what the input is behind is written, or in the batch.
            if self.batch.is_empty()
                && self.acknowledge.is_some()
                && !self.loading.as_ref().is_some_and(Loading::is_open)
            {
                self.safe = self.input.mark();
                self.acknowledge(false)?;
            }
            if !self.batch.is_empty() && self.batch.is_full(self.options.batch_txns_max, self.options.workers) {
                self.submit()?;
                continue;
            }
            if self.is_due() && !self.input.has_more() {
                self.flush()?;
                continue;
            }
            let before = self.may_stop_short().then(|| self.input.mark()).flatten();
            let unit = match self.input.next() {
                Ok(unit) => unit,
                Err(error) => {
                    // What came whole before the damage or the writer's death is applied all the same.
                    self.flush()?;
                    return Err(error);
                }
            };
            match unit {
                Unit::Idle => {
                    if self.is_due() || self.loading.as_ref().is_some_and(Loading::is_overdue) {
                        self.flush()?;
                    }
                    self.keep_cursor(false)?;
                    self.observe();
                }
                Unit::Finished => return self.flush_all(),
                unit => {
                    if self.unit(unit)? == Next::Stop {
                        self.flush()?;
                        // The unit in hand is for another run.
                        self.safe = before;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Writes everything that was read, before the run ends.
    fn flush_all(&mut self) -> Result<()> {
        self.flush()?;
        self.safe = self.input.mark();
        Ok(())
    }

    /// Whether a limit may end the run in front of a unit that was read.
    fn may_stop_short(&self) -> bool {
        self.acknowledge.is_some() && (self.options.until.is_some() || !self.options.delay.is_zero())
    }

    /// Whether the batch is to be written as soon as there is no more input.
    fn is_due(&self) -> bool {
        let something = !self.batch.transactions.is_empty() || !self.batch.facts.is_empty();
        let rarely = || !self.options.follow || self.wrote.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        something || !self.batch.is_empty() && rarely()
    }

    fn unit(&mut self, unit: Unit) -> Result<Next> {
        match unit {
            Unit::Stream(header) => {
                self.flush()?;
                self.stream(*header)?;
            }
            Unit::Transaction(transaction) => return self.transaction(transaction),
            Unit::Progress(progress) => self.progress(&progress)?,
            Unit::Gap(gap) => {
                self.flush()?;
                if self.reached.judge_progress(&gap)? == Verdict::Apply {
                    return Err(Error::new(
                        Class::Gap,
                        format!("the source lost what lies between {} and {}: {}", gap.from, gap.to, gap.reason),
                    )
                    .hint("load a new snapshot"));
                }
            }
            Unit::Prepared(group) => return self.prepared(&group),
            Unit::Handover(handover) => {
                self.flush()?;
                self.reached.moved(handover.start, handover.to);
                self.target.set_facts(
                    &self.settings.channel,
                    &[
                        (facts::BASE, Some(&handover.start.to_string())),
                        (facts::SERVER, Some(&format!("{:08x}", handover.to.server()))),
                        (facts::SERVER_UUID, Some(&handover.server_uuid)),
                    ],
                )?;
                self.source.server = format!("{:08x}", handover.to.server());
                self.source.server_uuid.clone_from(&handover.server_uuid);
            }
            Unit::SnapshotBegin(snapshot) => {
                self.flush()?;
                self.loading = Some(Loading::begin(self.target, &self.settings.channel, &mut self.reached, &snapshot)?);
            }
            Unit::SnapshotEnd(snapshot) => {
                self.flush()?;
                let loading = self.loading.take().ok_or_else(snapshot::stray)?;
                let writer = self.writer.as_mut().ok_or_else(no_stream)?;
                if loading.end(writer, &mut self.reached, &snapshot)? && self.widened.take().is_some() {
                    let now = self.options.rules.text();
                    self.target.set_facts(&self.settings.channel, &[(facts::FILTERS, Some(&now))])?;
                }
                self.based = true;
            }
            // Streams can be concatenated; the input's own end comes as Finished.
            Unit::End(_) => self.flush()?,
            Unit::Abort(abort) => {
                self.flush()?;
                return Err(aborted(&abort));
            }
            Unit::Idle | Unit::Finished => {}
        }
        Ok(Next::More)
    }

    /// A stream starts: is it of the source that this state belongs to?
    fn stream(&mut self, header: StreamHeader) -> Result<()> {
        let server = format!("{:08x}", header.incarnation.server());
        let held = &self.source;
        let differs = (!held.server.is_empty() && held.server != server)
            || (!held.server_uuid.is_empty()
                && !header.server_uuid.is_empty()
                && held.server_uuid != header.server_uuid);
        if differs {
            return Err(Error::new(
                Class::Identity,
                format!(
                    "channel {} belongs to source {} {}, the input is of {} {}",
                    self.settings.channel, held.server, held.server_uuid, server, header.server_uuid
                ),
            )
            .hint("give each source a channel of its own (--channel)"));
        }
        if let Some(base) = self.gtid_base.as_ref().filter(|_| !self.based)
            && let Some(missing) = gtid::first_missing(base, &header.gtid_state)
        {
            return Err(Error::new(
                Class::Gap,
                format!("the target's base is the GTIDs {base}, the input begins behind {missing}: what lies between is missing"),
            )
            .hint("read the source from an earlier log"));
        }
        if header.unanchored {
            return Err(Error::config(
                "the stream has no anchored positions, so nothing could be applied exactly once",
            )
            .hint("give rlog-extract the log's name: --log-name"));
        }
        if held.server.is_empty() || held.server_uuid != header.server_uuid || held.family != header.source {
            let filters = self.options.rules.text();
            let mut known = vec![
                (facts::SOURCE, Some(header.source.as_str())),
                (facts::SERVER, Some(&server)),
                (facts::SERVER_UUID, Some(&header.server_uuid)),
                (facts::STREAM_FILTERS, Some(&header.filters)),
            ];
            if self.widened.is_none() {
                known.push((facts::FILTERS, Some(&filters)));
            }
            self.target.set_facts(&self.settings.channel, &known)?;
            self.source =
                SourceFacts { family: header.source.clone(), server, server_uuid: header.server_uuid.clone() };
        }
        if header.server_id != 0 && self.own_origins.contains(&server_origin(header.server_id)) {
            self.note(format!(
                "the source and the target both have server id {}: what the source has executed itself is passed over, as if it had come from here; \
                 give one of them another server_id, or apply it with --same-server-id",
                header.server_id
            ));
        }
        let settings = Settings {
            source_family: header.source.clone(),
            cascades_logged: header.cascades_logged,
            ..self.settings.clone()
        };
        if let Some(writer) = &mut self.writer
            && writer.settings.source_family == settings.source_family
            && writer.settings.cascades_logged == settings.cascades_logged
        {
            writer.header = header;
            return Ok(());
        }
        let dead_letters = match (self.writer.take(), &self.options.dead_letter) {
            (Some(writer), _) => writer.dead_letters,
            (None, Some(path)) => Some(DeadLetters::open(path)?),
            (None, None) => None,
        };
        self.writer = Some(Writer {
            session: self.target.session(&settings)?,
            settings,
            options: self.options,
            definitions: self.definitions,
            uuid: self.uuid.clone(),
            skip: self.skip.clone(),
            dead_letters,
            header,
            stop: self.stop,
            fenced: false,
            failed_at: None,
            begun: 0,
            within: self.acknowledge.as_ref().filter(|to| to.within).map(|to| Arc::clone(&to.queue)),
        });
        Ok(())
    }

    pub(super) fn judge(&mut self, transaction: &Transaction) -> Result<Verdict> {
        self.reached.judge(&transaction.position, transaction.begin.prev)
    }

    fn transaction(&mut self, transaction: Box<Transaction>) -> Result<Next> {
        if transaction.begin.chunk.is_some() {
            return self.chunk(&transaction);
        }
        if self.loading.is_some() {
            return Err(Error::damage(format!("transaction {} stands inside a snapshot", transaction.position)));
        }
        if self.judge(&transaction)? == Verdict::Done {
            self.summary.repeated += 1;
            self.reached.read_to(transaction.position.end);
            return Ok(Next::More);
        }
        if let Some(error) = self.widened.take() {
            return Err(error);
        }
        if self.is_past(&transaction) || self.wait_for_delay(&transaction)? == Next::Stop {
            return Ok(Next::Stop);
        }
        if self.is_held(&transaction)? {
            self.summary.repeated += 1;
            let from = self.base(transaction.begin.prev)?;
            return self.extend(from, transaction.position.end, transaction.position.incarnation);
        }
        let from = self.base(transaction.begin.prev)?;
        if transaction.begin.origins.iter().any(|origin| self.own_origins.contains(origin)) {
            // It came from here; only the position moves on.
            self.summary.looped += 1;
            return self.extend(from, transaction.position.end, transaction.position.incarnation);
        }
        let Some(transaction) = self.decided(transaction)? else { return Ok(Next::More) };
        let alone = transaction.begin.is_barrier();
        let large = alone && self.batch.facts.is_empty() && is_large(&transaction) && self.has_trials()?;
        if large {
            if !self.batch.is_empty() {
                self.submit()?;
            }
        } else if alone {
            self.flush()?;
        } else if !self.batch.admits(&transaction) {
            self.submit()?;
        }
        self.reached.read_to(transaction.position.end);
        self.batch.push(transaction, from);
        self.mark_batch();
        if large {
            self.submit()?;
        } else if alone {
            self.write_batch()?;
        }
        Ok(Next::More)
    }

    /// Whether `--until` ends before this transaction.
    pub(super) fn is_past(&self, transaction: &Transaction) -> bool {
        match self.options.until {
            Some(Until::Position(at)) => transaction.position.end > at,
            Some(Until::Time(time_us)) => transaction.commit.time_us > time_us,
            None => false,
        }
    }

    /// Whether `--init` has declared by a set of GTIDs that the target holds this transaction.
    fn is_held(&self, transaction: &Transaction) -> Result<bool> {
        let Some(base) = &self.gtid_base else { return Ok(false) };
        if transaction.begin.gtid.is_empty() && self.reached.last.is_none() {
            return Err(Error::config(format!(
                "transaction {} has no GTID, and the target's base is the GTIDs {base}",
                transaction.position
            ))
            .hint("declare the base by FILE:POS instead: `rlog-apply reset --all`, then --init FILE:POS"));
        }
        Ok(gtid::contains(base, &transaction.begin.gtid))
    }

    /// What was reached before the next range. Its first use makes the base durable: from here the chain of state rows begins.
    pub(super) fn base(&mut self, prev: Coordinate) -> Result<Coordinate> {
        if !self.based {
            self.target.set_facts(&self.settings.channel, &[(facts::BASE, Some(&prev.to_string()))])?;
            self.based = true;
            self.reached.at.get_or_insert(prev);
        }
        Ok(self.reached.reading().unwrap_or(prev))
    }

    /// What is acknowledged together with the batch.
    pub(super) fn mark_batch(&mut self) {
        if self.acknowledge.as_ref().is_some_and(|to| to.within) {
            self.batch.mark = self.input.mark();
        }
    }

    pub(super) fn extend(&mut self, from: Coordinate, to: Coordinate, incarnation: Incarnation) -> Result<Next> {
        if !self.batch.admits_place(incarnation, to) {
            self.submit()?;
        }
        self.batch.extend(from, to, incarnation);
        self.mark_batch();
        self.reached.read_to(to);
        Ok(Next::More)
    }

    fn progress(&mut self, progress: &Progress) -> Result<()> {
        if let Some(Until::Position(at)) = self.options.until
            && progress.to > at
        {
            return Ok(());
        }
        if self.reached.judge_progress(progress)? == Verdict::Done {
            return Ok(());
        }
        let from = self.base(progress.from)?;
        self.extend(from, progress.to, progress.incarnation).map(drop)
    }

    fn chunk(&mut self, transaction: &Transaction) -> Result<Next> {
        let loading = self.loading.as_mut().ok_or_else(snapshot::stray)?;
        let writer = self.writer.as_mut().ok_or_else(no_stream)?;
        let applied = loading.chunk(writer, &mut self.reached, transaction)?;
        for note in std::mem::take(&mut loading.notes) {
            self.note(note);
        }
        if applied {
            self.summary.commits += 1;
            self.summary.rows += transaction.commit.tables.iter().map(|count| count.inserts).sum::<u64>();
            self.observe();
        } else {
            self.summary.repeated += 1;
        }
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.due = true;
        }
        Ok(Next::More)
    }

    /// Waits until the transaction is due under `--delay`. A run that does not follow ends there instead.
    pub(super) fn wait_for_delay(&mut self, transaction: &Transaction) -> Result<Next> {
        if self.options.delay.is_zero() || transaction.commit.time_us == 0 {
            return Ok(Next::More);
        }
        let due_us = transaction.commit.time_us.saturating_add(self.options.delay.as_micros() as i64);
        while sys::clock::now_us() < due_us {
            self.flush()?;
            if !self.options.follow || self.stop.load(Ordering::Relaxed) {
                return Ok(Next::Stop);
            }
            std::thread::sleep(DELAY_STEP);
            self.observe();
        }
        Ok(Next::More)
    }

    /// A remark for people, each once.
    fn note(&mut self, note: String) {
        if !self.summary.notes.contains(&note) {
            self.observer.note(&note);
            self.summary.notes.push(note);
        }
    }

    /// Forgets state rows that the newest one makes unnecessary. The base moves first: a kill in between leaves rows too many, not too few.
    fn prune(&mut self) -> Result<()> {
        self.since_prune = 0;
        let Some(at) = self.reached.at.filter(|_| self.loading.is_none()) else { return Ok(()) };
        self.target.set_facts(&self.settings.channel, &[(facts::BASE, Some(&at.to_string()))])?;
        // The row of the last transaction is the evidence that a source is compared with.
        let before = self.reached.last.as_ref().map_or(at, |last| last.end.min(at));
        self.target.prune(&self.settings.channel, before)
    }

    /// Tells the queue what needs not be kept for us: all up to the last safe place. What sessions are at work on is waited for.
    fn acknowledge(&mut self, now: bool) -> Result<()> {
        let busy = self.pool.as_ref().is_some_and(Pool::has_large);
        if !self.acknowledge.as_ref().is_some_and(|acknowledge| acknowledge.is_time(now, busy)) {
            return Ok(());
        }
        self.settle()?;
        let mark = self.safe.clone();
        match &mut self.acknowledge {
            Some(acknowledge) => acknowledge.tell(self.target, &self.uuid, mark),
            None => Ok(()),
        }
    }

    /// Keeps what is committed in the file of `--cursor`; never while a snapshot is loading.
    fn keep_cursor(&mut self, now: bool) -> Result<()> {
        let position = if self.loading.is_none() { self.reached.position() } else { None };
        match &mut self.cursor {
            Some(cursor) => cursor.write(position, now),
            None => Ok(()),
        }
    }

    fn observe(&mut self) {
        self.summary.position = self.reached.position();
        // It lists the queue's files: nothing to do for each transaction.
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            self.measured = Some(Instant::now());
            self.summary.input = self.input.progress();
        }
        self.observer.progress(&self.summary);
    }

    fn finish(&mut self, well: bool) -> Result<()> {
        self.measured = None;
        if well {
            self.acknowledge(true)?;
        }
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.leave(self.target, &self.settings.channel)?;
        }
        self.keep_cursor(true)?;
        if self.since_prune > 0 {
            self.prune()?;
        }
        self.observe();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Stop,
}

fn no_stream() -> Error {
    Error::damage("a transaction stands before any stream header")
}
