//! The loop: reads units, judges them, gathers batches and has them written, until the end, a limit, or a signal.
//!
//! A batch is written when it is full, when a barrier comes, or when no more input is there at the moment: so a busy
//! applier merges many source transactions into one target transaction, and one that has caught up writes each at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::conflict::Policy;
use super::dead_letter::DeadLetters;
use super::execute::DdlPolicy;
use super::input::{Input, Transaction, Unit};
use super::pool::Pool;
use super::rules::Rules;
use super::snapshot::{self, Loading};
use super::state::{Reached, Verdict, facts};
use super::tables::Definitions;
use super::writer::{Writer, Written, record_error};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Incarnation, Position, PositionSpec, Progress, StreamHeader};
use crate::queue::{self, Queue};
use crate::sys;
use crate::target::{EPOCH_FACT, Settings, Target};

/// How often the queue is told what was applied.
const ACK_EVERY: Duration = Duration::from_secs(1);
/// Target transactions after which state rows are pruned.
const PRUNE_EVERY: u64 = 200;
/// How long one step of waiting for `--delay` takes.
const DELAY_STEP: Duration = Duration::from_millis(200);

/// Where transactions come from.
#[derive(Clone, Debug)]
pub enum From {
    /// Standard input.
    Stdin,
    /// A file of frames.
    File(PathBuf),
    /// A queue.
    Queue(queue::Address),
}

/// What `--init` declares about the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// It is empty: everything is applied from the input's first transaction on.
    Empty,
    /// It holds everything up to this position.
    At(PositionSpec),
}

/// Where to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the last transaction that ends at or before this.
    Position(Coordinate),
    /// Before the first transaction that committed after this, microseconds since 1970 UTC.
    Time(i64),
}

/// Which order commits have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The source's.
    #[default]
    Commit,
    /// Any that the windows allow.
    Relaxed,
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The channel, folded.
    pub channel: String,
    /// What the target is declared to hold, when it has no state.
    pub init: Option<Init>,
    /// Wait for more at the end.
    pub follow: bool,
    /// Where to stop.
    pub until: Option<Until>,
    /// Source transactions per target transaction at most.
    pub batch_txns_max: usize,
    /// Sessions at work at once.
    pub workers: usize,
    /// Order of commits.
    pub order: Order,
    /// What to do about conflicts.
    pub policy: Policy,
    /// What to do with DDL.
    pub ddl: DdlPolicy,
    /// Filters and rewrites.
    pub rules: Rules,
    /// Retries of what may succeed the next time.
    pub retries: u32,
    /// Stay behind the source by this much.
    pub delay: Duration,
    /// Where source transactions are kept of which something was skipped.
    pub dead_letter: Option<PathBuf>,
    /// Snapshots may replace rows that are there.
    pub replace: bool,
    /// How long to wait for another run of the channel.
    pub lock_wait: Duration,
    /// How sessions work.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            channel: queue::DEFAULT_CHANNEL.into(),
            init: None,
            follow: false,
            until: None,
            batch_txns_max: 1_000,
            workers: 1,
            order: Order::Commit,
            policy: Policy::default(),
            ddl: DdlPolicy::Apply,
            rules: Rules::default(),
            retries: 10,
            delay: Duration::ZERO,
            dead_letter: None,
            replace: false,
            lock_wait: Duration::ZERO,
            settings: Settings::default(),
        }
    }
}

/// What a run came to, and how far it is: for reports, progress and metrics.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Source transactions applied.
    pub transactions: u64,
    /// Target transactions committed.
    pub commits: u64,
    /// Rows handed to the target.
    pub rows: u64,
    /// Source transactions passed over, since they were applied before.
    pub repeated: u64,
    /// Source transactions passed over, since they came from this target (rule 12).
    pub looped: u64,
    /// Rows and transactions stepped over.
    pub skipped: u64,
    /// Rows made as the source's.
    pub overwritten: u64,
    /// Retries.
    pub retries: u64,
    /// Commit time of the last source transaction applied, microseconds since 1970 UTC; 0: not known.
    pub source_time_us: i64,
    /// What was reached.
    pub position: Option<Position>,
    /// Bytes of input read, and left when known.
    pub input: (u64, Option<u64>),
    /// For people.
    pub notes: Vec<String>,
}

/// Hears how a run goes on.
pub trait Observer {
    /// Something was committed, or time passed.
    fn progress(&mut self, summary: &Summary);
    /// A remark for people, each once.
    fn note(&mut self, text: &str);
}

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
    let mut input = None;
    if target.state(channel)?.is_none() {
        let base = match &options.init {
            Some(init) => base_of(target, init)?,
            None => {
                let (opened, units) = leading_snapshot(target, from, options, &definitions, stop)?;
                // A pipe cannot be read twice; a queue is read again once its reader is registered.
                if !matches!(from, From::Queue(_)) {
                    (input, peeked) = (Some(opened), units);
                }
                "snapshot".to_owned()
            }
        };
        target.init(channel, &[(facts::BASE, &base)])?;
    }
    let epoch = target.raise_epoch(channel)?;
    let state = target.state(channel)?.unwrap_or_default();
    debug_assert!(state.facts.contains_key(EPOCH_FACT));
    let reached = Reached::new(&state)?;
    let uuid = target.uuid()?.ok_or_else(|| Error::new(Class::Bug, "a target with state and without UUID"))?;
    let mut acknowledge = None;
    let input = match (input, from) {
        (Some(input), _) => input,
        (None, From::Stdin) => Input::stdin(definitions.clone(), stop.clone())?,
        (None, From::File(path)) => Input::file(path, definitions.clone(), stop.clone())?,
        (None, From::Queue(address)) => {
            let queue = queue::open(Arc::new(sys::Os), address, channel, false)?;
            queue.register(&uuid)?;
            let loading = state.facts.contains_key(facts::LOADING);
            let place = match reached.position() {
                _ if loading => queue::ReadFrom::Oldest,
                Some(position) if reached.incarnation.is_some() => queue::ReadFrom::After(position),
                Some(position) => queue::ReadFrom::AfterCoordinate(position.end),
                None => queue::ReadFrom::Oldest,
            };
            let mode = if options.follow { queue::ReadMode::FOLLOW } else { queue::ReadMode::ONCE };
            let reader = queue.reader(&place, mode)?;
            let name = queue.name();
            acknowledge = Some(Acknowledge { queue, at: Instant::now(), due: true });
            Input::queue(reader, options.follow, name, definitions.clone())
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
        settings,
        uuid,
        skip: state.facts.get(facts::SKIP).cloned(),
        failed_before: state.facts.contains_key(facts::ERROR),
        source: SourceFacts::from(&state.facts),
        writer: None,
        pool: None,
        batch: Batch::default(),
        loading: None,
        acknowledge,
        since_prune: 0,
        based: state.facts.get(facts::BASE).is_some_and(|base| base.contains(':')),
        summary: Summary::default(),
    };
    run.summary.position = run.reached.position();
    let outcome = run.units(peeked);
    let outcome = outcome.and_then(|()| run.settle());
    if let Some(pool) = run.pool.take() {
        // After an error what is at work may still commit; what has not is read again by the next run.
        let mut written = Written::default();
        drop(pool.close(&mut written));
        let _ = run.committed(written);
    }
    let fenced = run.writer.as_ref().is_some_and(|writer| writer.fenced);
    let finished = if fenced { Ok(()) } else { run.finish() };
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

/// What `--init` writes down.
fn base_of(target: &mut dyn Target, init: &Init) -> Result<String> {
    match init {
        Init::Empty => {
            if target.uuid()?.is_none() && target.has_tables()? {
                return Err(Error::config(format!("--init empty, but {} has tables", target.name()))
                    .hint("declare what it holds with --init POSITION, or name another target"));
            }
            Ok("empty".into())
        }
        Init::At(PositionSpec::Position(position)) => Ok(position.end.to_string()),
        Init::At(PositionSpec::Server { at, .. }) => Ok(at.to_string()),
        Init::At(PositionSpec::Oldest) => Ok("empty".into()),
        Init::At(PositionSpec::Now | PositionSpec::Gtid(_)) => Err(Error::new(
            Class::Unavailable,
            "--init takes `empty`, a position as rlog prints it, or FILE:OFFSET as the server prints it",
        )),
    }
}

/// Without state and `--init`, only a stream that begins with a snapshot says what the base is.
fn leading_snapshot(
    target: &mut dyn Target,
    from: &From,
    options: &Options,
    definitions: &Arc<Definitions>,
    stop: &Arc<AtomicBool>,
) -> Result<(Input, Vec<Unit>)> {
    let mut input = match from {
        From::Stdin => Input::stdin(definitions.clone(), stop.clone())?,
        From::File(path) => Input::file(path, definitions.clone(), stop.clone())?,
        From::Queue(address) => {
            let queue = queue::open(Arc::new(sys::Os), address, &options.channel, false)?;
            let reader = queue.reader(&queue::ReadFrom::Oldest, queue::ReadMode::ONCE)?;
            Input::queue(reader, false, queue.name(), definitions.clone())
        }
    };
    let mut units = Vec::new();
    loop {
        let unit = input.next()?;
        match &unit {
            Unit::Stream(_) => {}
            Unit::SnapshotBegin(_) => {
                units.push(unit);
                return Ok((input, units));
            }
            Unit::Idle if !stop.load(Ordering::Relaxed) => continue,
            Unit::Abort(abort) => return Err(aborted(abort)),
            _ => {
                return Err(Error::config(format!(
                    "{} has no state of channel {}, and the input does not begin with a snapshot",
                    target.name(),
                    options.channel
                ))
                .hint("--init empty starts with the input's first transaction; --init POSITION declares what the target holds"));
            }
        }
        units.push(unit);
    }
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

/// The queue that is told what was applied.
struct Acknowledge {
    queue: Box<dyn Queue>,
    at: Instant,
    due: bool,
}

struct Run<'a> {
    target: &'a mut dyn Target,
    options: &'a Options,
    stop: &'a Arc<AtomicBool>,
    observer: &'a mut dyn Observer,
    definitions: &'a Arc<Definitions>,
    input: Input,
    reached: Reached,
    settings: Settings,
    uuid: String,
    skip: Option<String>,
    failed_before: bool,
    source: SourceFacts,
    writer: Option<Writer<'a>>,
    /// Several sessions, on targets that have several writers.
    pool: Option<Pool>,
    batch: Batch,
    loading: Option<Loading>,
    acknowledge: Option<Acknowledge>,
    since_prune: u64,
    /// Whether the state names the coordinate at which the chain of state rows begins.
    based: bool,
    summary: Summary,
}

impl Run<'_> {
    fn units(&mut self, peeked: Vec<Unit>) -> Result<()> {
        for unit in peeked {
            self.unit(unit)?;
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return self.flush();
            }
            if !self.batch.is_empty() && self.batch.is_full(self.options.batch_txns_max) {
                self.submit()?;
                continue;
            }
            if !self.batch.is_empty() && !self.input.has_more() {
                self.flush()?;
                continue;
            }
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
                    self.flush()?;
                    self.acknowledge(false)?;
                    self.observe();
                }
                Unit::Finished => return self.flush(),
                unit => {
                    if self.unit(unit)? == Next::Stop {
                        return self.flush();
                    }
                }
            }
        }
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
                if self.reached.judge_progress(gap.from, gap.to, gap.incarnation)? == Verdict::Apply {
                    return Err(Error::new(
                        Class::Gap,
                        format!("the source lost what lies between {} and {}: {}", gap.from, gap.to, gap.reason),
                    )
                    .hint("load a new snapshot"));
                }
            }
            Unit::Prepared(transaction) => {
                self.flush()?;
                if self.judge(&transaction)? == Verdict::Apply {
                    return Err(Error::config(format!(
                        "transaction {} is a prepared XA group, which must wait in a queue for its decision",
                        transaction.position
                    ))
                    .hint("`rlog-queue put QUEUE`, then `rlog-apply run --from QUEUE`"));
                }
                self.reached.read_to(transaction.position.end);
            }
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
                loading.end(writer, &mut self.reached, &snapshot)?;
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
        if header.unanchored {
            return Err(Error::config(
                "the stream has no anchored positions, so nothing could be applied exactly once",
            )
            .hint("give rlog-extract the log's name: --log-name"));
        }
        if held.server.is_empty() || held.server_uuid != header.server_uuid || held.family != header.source {
            self.target.set_facts(
                &self.settings.channel,
                &[
                    (facts::SOURCE, Some(&header.source)),
                    (facts::SERVER, Some(&server)),
                    (facts::SERVER_UUID, Some(&header.server_uuid)),
                    (facts::STREAM_FILTERS, Some(&header.filters)),
                    (facts::FILTERS, Some(&self.options.rules.text())),
                ],
            )?;
            self.source =
                SourceFacts { family: header.source.clone(), server, server_uuid: header.server_uuid.clone() };
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
        });
        Ok(())
    }

    fn judge(&mut self, transaction: &Transaction) -> Result<Verdict> {
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
        let past = match self.options.until {
            Some(Until::Position(at)) => transaction.position.end > at,
            Some(Until::Time(time_us)) => transaction.commit.time_us > time_us,
            None => false,
        };
        if past {
            return Ok(Next::Stop);
        }
        if self.wait_for_delay(&transaction)? == Next::Stop {
            return Ok(Next::Stop);
        }
        let from = self.base(transaction.begin.prev)?;
        if transaction.begin.origins.contains(&self.uuid) {
            // It came from here; only the position moves on.
            self.summary.looped += 1;
            return self.extend(from, transaction.position.end, transaction.position.incarnation);
        }
        let alone = transaction.begin.is_barrier();
        if alone {
            self.flush()?;
        } else if !self.batch.admits(&transaction) {
            self.submit()?;
        }
        self.reached.read_to(transaction.position.end);
        self.batch.push(transaction, from);
        if alone {
            self.write_batch()?;
        }
        Ok(Next::More)
    }

    /// What was reached before the next range. Its first use makes the base durable: from here the chain of state rows begins.
    fn base(&mut self, prev: Coordinate) -> Result<Coordinate> {
        if !self.based {
            self.target.set_facts(&self.settings.channel, &[(facts::BASE, Some(&prev.to_string()))])?;
            self.based = true;
            self.reached.at.get_or_insert(prev);
        }
        Ok(self.reached.reading().unwrap_or(prev))
    }

    fn extend(&mut self, from: Coordinate, to: Coordinate, incarnation: Incarnation) -> Result<Next> {
        if !self.batch.admits_place(incarnation, to) {
            self.submit()?;
        }
        self.batch.extend(from, to, incarnation);
        self.reached.read_to(to);
        Ok(Next::More)
    }

    fn progress(&mut self, progress: &Progress) -> Result<()> {
        if let Some(Until::Position(at)) = self.options.until
            && progress.to > at
        {
            return Ok(());
        }
        if self.reached.judge_progress(progress.from, progress.to, progress.incarnation)? == Verdict::Done {
            return Ok(());
        }
        let from = self.base(progress.from)?;
        self.extend(from, progress.to, progress.incarnation).map(drop)
    }

    fn chunk(&mut self, transaction: &Transaction) -> Result<Next> {
        let loading = self.loading.as_mut().ok_or_else(snapshot::stray)?;
        let writer = self.writer.as_mut().ok_or_else(no_stream)?;
        if loading.chunk(writer, &mut self.reached, transaction)? {
            self.summary.commits += 1;
            self.summary.rows += transaction.commit.tables.iter().map(|count| count.inserts).sum::<u64>();
            self.observe();
        } else {
            self.summary.repeated += 1;
        }
        self.acknowledge(false)?;
        Ok(Next::More)
    }

    /// Waits until the transaction is due under `--delay`. A run that does not follow ends there instead.
    fn wait_for_delay(&mut self, transaction: &Transaction) -> Result<Next> {
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

    /// Writes everything that was read, and waits until it is committed.
    fn flush(&mut self) -> Result<()> {
        if self.pool.is_none() {
            return self.write_batch();
        }
        self.submit()?;
        self.settle()
    }

    /// Writes the batch through the one session.
    fn write_batch(&mut self) -> Result<()> {
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

    /// Hands the batch to the sessions at work, or writes it where there is only one.
    fn submit(&mut self) -> Result<()> {
        let several = self.options.workers > 1 && self.target.properties().writers_max > 1;
        // A transaction that is to be skipped, or a failure before, needs the session that goes one by one.
        if !several || self.skip.is_some() || self.batch.transactions.is_empty() {
            self.settle()?;
            return self.write_batch();
        }
        if self.pool.is_none() {
            let writer = self.writer.as_ref().ok_or_else(no_stream)?;
            self.pool = Some(Pool::new(self.target, self.options, &writer.settings, self.definitions, &self.uuid)?);
        }
        let batch = std::mem::take(&mut self.batch);
        let mut written = Written::default();
        let well = self.pool.as_ref().is_none_or(|pool| pool.submit(batch, &mut written));
        self.committed(written)?;
        if !well {
            return self.take_over();
        }
        // The queue is told only what is committed, so once in a while all of it has to be.
        if self.acknowledge.as_ref().is_some_and(|acknowledge| acknowledge.at.elapsed() >= ACK_EVERY) {
            self.settle()?;
            self.acknowledge(false)?;
        }
        Ok(())
    }

    /// Waits until what was submitted is committed.
    fn settle(&mut self) -> Result<()> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let mut written = Written::default();
        let well = pool.settle(&mut written);
        self.committed(written)?;
        if well { Ok(()) } else { self.take_over() }
    }

    /// The pool failed: the one session writes what is left, in order, with everything it knows about failures.
    fn take_over(&mut self) -> Result<()> {
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

    fn committed(&mut self, written: Written) -> Result<()> {
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
        for note in &written.tally.notes {
            if !self.summary.notes.contains(note) {
                self.observer.note(note);
                self.summary.notes.push(note.clone());
            }
        }
        if written.rows.is_empty() {
            return Ok(());
        }
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
        self.acknowledge(false)?;
        self.observe();
        Ok(())
    }

    /// Forgets state rows that the newest one makes unnecessary. The base moves first: a kill in between leaves rows too many, not too few.
    fn prune(&mut self) -> Result<()> {
        self.since_prune = 0;
        let Some(at) = self.reached.at.filter(|_| self.loading.is_none()) else { return Ok(()) };
        self.target.set_facts(&self.settings.channel, &[(facts::BASE, Some(&at.to_string()))])?;
        self.target.prune(&self.settings.channel, at)
    }

    /// Tells the queue what needs not be kept for us; only when nothing that was read waits to be written.
    fn acknowledge(&mut self, now: bool) -> Result<()> {
        let Some(acknowledge) = &mut self.acknowledge else { return Ok(()) };
        let at_work = self.pool.as_ref().is_some_and(|pool| !pool.is_idle());
        if !acknowledge.due || at_work || !self.batch.is_empty() || !(now || acknowledge.at.elapsed() >= ACK_EVERY) {
            return Ok(());
        }
        if let Some(mark) = self.input.mark() {
            acknowledge.queue.ack(&self.uuid, &mark)?;
        }
        acknowledge.at = Instant::now();
        acknowledge.due = false;
        Ok(())
    }

    fn observe(&mut self) {
        self.summary.position = self.reached.position();
        self.summary.input = self.input.progress();
        self.observer.progress(&self.summary);
    }

    fn finish(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            self.acknowledge(true)?;
        }
        if self.since_prune > 0 {
            self.prune()?;
        }
        self.observe();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    Stop,
}

fn no_stream() -> Error {
    Error::damage("a transaction stands before any stream header")
}

/// The error of an abort frame: its writer's status is ours (rule 2).
fn aborted(abort: &crate::frame::Abort) -> Error {
    let class = Class::from_exit_status(abort.status).unwrap_or(Class::TryAgain);
    Error::new(class, format!("the writer of the input failed: {}", abort.message))
}
