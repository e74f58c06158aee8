//! Several sessions at work: batches execute ahead and commit in the source's order, or in any that their windows allow.
//!
//! # Ahead
//!
//! With the source's order, sessions that can ([`Session::hold`]) run *ahead*: merged batches nearly always depend on the one before, so
//! their windows would leave one session at work. Each batch publishes what it touches before it sends anything; it then sends what no older
//! uncommitted batch touches, and the rest in its turn to commit, when they all have. So no row is locked by two batches at once, and every
//! state that the target shows is one that the source had. A batch that cannot say what it touches (statements, rows that depend on
//! others) runs by its window, and those behind it wait until it has committed.
//!
//! # On trial
//!
//! A transaction that stands alone for its size only runs beside the one before it (and another that is committing), as if they did not depend on each other. Rows lock what they
//! touch until their transaction commits, and commits have the source's order; so where the younger one does depend on the older one, one of the two
//! meets a lock of the other, or a row that is not there yet or still there, never a wrong result. Then the younger one rolls back and
//! runs again alone, and the next few do not try. It also gives way when the older one gets nowhere for a while.
//!
//! # By windows
//!
//! [`Schedule`] decides, threads obey. A worker starts a batch, executes and flushes it, and then waits for its turn to commit. If the head
//! of the order takes much longer than batches usually do, batches that have executed ahead of it may be holding what it waits for:
//! they roll back, the youngest first, and start again once something was committed. A fixed time would not do: a batch of a
//! thousand transactions takes longer than one that waits for a lock should.
//!
//! Whatever else fails ends the pool: what has not committed goes back to the caller, in order, to be written by one session that knows
//! how to retry, reconnect and go row by row. So there is one place for that, and a pool is only ever fast.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::execute::{Executor, Tally, heard};
use super::schedule::{Schedule, UnitId, Window};
use super::tables::Definitions;
use super::writer::Written;
use super::{Options, Order};
use crate::error::Result;
use crate::target::{Cause, Claims, Outcome, Session, Settings, StateRow, Target};

/// The head may go on for at least this long before what executed ahead of it gives way.
const STALL: Duration = Duration::from_millis(20);
/// And for so many times as long as batches usually take,
const STALLED_AFTER: u32 = 4;
/// but not longer than this, however long they have waited for each other lately.
const STALL_MAX: Duration = Duration::from_secs(1);
/// Batches that run ahead do not block each other, as far as rows go: there, much longer is usual.
const STALL_AHEAD: Duration = Duration::from_secs(3);
/// The server executes none of the statements of a large head for so long: who is on trial may hold what it waits for.
const STALL_LARGE: Duration = Duration::from_secs(3);
/// Large transactions that sessions hold at once; another one is read meanwhile, and each may keep some MiB in memory.
const LARGE_MAX: usize = 3;
/// Large transactions that run alone after one on trial had to give way; twice as many after the next.
const TRIALS_AFTER: u32 = 2;
/// And so many at most.
const TRIALS_AFTER_MAX: u32 = 64;
/// Batches that run by their windows after one could not run ahead.
const PLAIN_AFTER: u32 = 100;
/// Times that one batch is run again here before one session takes over.
const RETRIES_MAX: u32 = 20;

/// Sessions at work.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    workers: usize,
    /// Whether the sessions can run ahead.
    ahead: bool,
    /// Whether they can run on trial.
    trials: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    options: Options,
    settings: Settings,
    definitions: Arc<Definitions>,
    uuid: String,
    /// Counts the statements that servers have executed.
    beat: Arc<AtomicU64>,
}

struct State {
    schedule: Schedule,
    batches: BTreeMap<UnitId, Arc<Batch>>,
    /// What uncommitted batches touch, as far as they have said.
    claims: BTreeMap<UnitId, Arc<Claims>>,
    /// So many batches to come run by their windows.
    plain: u32,
    /// So many large transactions to come run alone, and how many will after the next failure.
    alone: u32,
    alone_next: u32,
    /// The last beat that was seen.
    beat: u64,
    done: Vec<(StateRow, Tally)>,
    retries: u64,
    /// No unit starts any more; those that wait for their turn behind a failed one roll back.
    failed: bool,
    /// Nothing new starts until something was committed or the head itself waits.
    held_back: bool,
    closing: bool,
    /// When something was last started or committed.
    moved: Instant,
    /// How long batches usually take to execute.
    usual: Duration,
}

impl Pool {
    /// Opens the sessions.
    pub fn new(
        target: &mut dyn Target,
        options: &Options,
        settings: &Settings,
        definitions: &Arc<Definitions>,
        uuid: &str,
    ) -> Result<Pool> {
        let workers = options.workers.min(target.properties().writers_max).max(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                schedule: Schedule::new(options.order, workers),
                batches: BTreeMap::new(),
                claims: BTreeMap::new(),
                plain: 0,
                alone: 0,
                alone_next: TRIALS_AFTER,
                beat: 0,
                done: Vec::new(),
                retries: 0,
                failed: false,
                held_back: false,
                closing: false,
                moved: Instant::now(),
                usual: STALL,
            }),
            changed: Condvar::new(),
            options: options.clone(),
            settings: settings.clone(),
            definitions: definitions.clone(),
            uuid: uuid.to_owned(),
            beat: Arc::default(),
        });
        let in_order = options.order == Order::Commit;
        let mut pool = Pool { shared, threads: Vec::new(), workers, ahead: in_order, trials: in_order };
        for _ in 0..workers {
            let mut session = target.session(settings)?;
            pool.ahead &= session.hold(false);
            pool.trials &= session.trial(false);
            session.set_beat(pool.shared.beat.clone());
            let shared = pool.shared.clone();
            pool.threads.push(std::thread::spawn(move || shared.work(session)));
        }
        Ok(pool)
    }

    /// Hands a batch over; waits while there are enough. What was committed meanwhile goes to `written`. `false`: the pool has failed, and
    /// must be closed.
    pub fn submit(&self, batch: Batch, written: &mut Written) -> bool {
        let mut state = self.shared.lock();
        let large = batch.is_large();
        let held_max = if large { LARGE_MAX.min(2 * self.workers) } else { 2 * self.workers };
        while state.schedule.len() >= held_max && !state.failed {
            state = self.shared.wait(state);
        }
        let transactions = &batch.transactions;
        let window = Window::of(transactions.iter().map(|one| (one.position.txid, one.begin.window_start)));
        // A range without transactions depends on nothing, and nothing on it.
        let mut window = window.unwrap_or(Window { first: batch.end, last: batch.end, ..Window::default() });
        // Two batches that keep the same fact would wait for each other.
        window.ahead = self.ahead && state.plain == 0 && batch.facts.is_empty();
        state.plain = state.plain.saturating_sub(1);
        if large {
            (window.barrier, window.ahead) = (true, false);
            window.trial = self.trials && state.alone == 0;
            state.alone = state.alone.saturating_sub(1);
        }
        let id = state.schedule.add(window);
        state.batches.insert(id, Arc::new(batch));
        state.take_done(written);
        self.shared.changed.notify_all();
        !state.failed
    }

    /// Whether everything that was submitted is committed and was reported.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.lock();
        state.schedule.is_empty() && state.done.is_empty()
    }

    /// Whether large transactions are at work.
    pub fn has_large(&self) -> bool {
        self.shared.lock().batches.values().any(|batch| batch.is_large())
    }

    /// Whether large transactions are best handed to these sessions.
    pub fn takes_large(&self) -> bool {
        self.trials
    }

    /// Waits until everything is committed. `false`: the pool has failed, and must be closed.
    pub fn settle(&self, written: &mut Written) -> bool {
        let mut state = self.shared.lock();
        while !state.schedule.is_empty() && !state.failed {
            state = self.shared.wait(state);
        }
        state.take_done(written);
        !state.failed
    }

    /// Ends the threads; returns what was not committed, in order. Nothing of it remains in the target.
    pub fn close(mut self, written: &mut Written) -> Vec<Batch> {
        let mut state = self.shared.lock();
        state.closing = true;
        state.failed |= !state.schedule.is_empty();
        drop(state);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has committed nothing that its unit does not say.
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        state.take_done(written);
        std::mem::take(&mut state.batches).into_values().filter_map(Arc::into_inner).collect()
    }
}

/// A worker that panics must not leave the others waiting for its unit.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().failed = true;
            self.0.changed.notify_all();
        }
    }
}

impl State {
    /// One on trial had to give way.
    fn gave_way(&mut self, id: UnitId) {
        self.schedule.not_on_trial(id);
        self.alone = self.alone_next;
        self.alone_next = (self.alone_next * 2).min(TRIALS_AFTER_MAX);
    }

    fn take_done(&mut self, written: &mut Written) {
        written.retries += std::mem::take(&mut self.retries);
        for (row, tally) in self.done.drain(..) {
            written.rows.push(row);
            written.tally.rows += tally.rows;
            written.tally.statements += tally.statements;
            written.tally.notes.extend(tally.notes);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(guard, STALL).unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self, mut session: Box<dyn Session>) {
        let _guard = PanicGuard(self);
        let mut state = self.lock();
        let mut attempts = 0;
        loop {
            if state.failed || (state.closing && state.schedule.is_empty()) {
                return;
            }
            if state.held_back && state.schedule.head_waits() {
                state.held_back = false;
            }
            let started = if state.held_back { None } else { state.schedule.start() };
            let Some((id, batch)) = started.and_then(|id| Some((id, state.batches.get(&id)?.clone()))) else {
                state = self.wait(state);
                continue;
            };
            let started = Instant::now();
            state.moved = started;
            let ahead = state.schedule.is_ahead(id);
            let may_try = state.schedule.is_trial(id);
            let on_trial = may_try && !state.schedule.is_head(id);
            drop(state);
            let row = batch.row(&self.settings.channel, self.settings.epoch, &self.uuid, crate::sys::clock::now_us());
            let mut begun = 0;
            session.trial(on_trial);
            let outcome = if ahead {
                self.execute_ahead(&mut *session, &batch, &row, id, &mut begun)
            } else {
                self.execute(&mut *session, &batch, &row, &mut begun).map(|tally| (tally, false))
            };
            state = self.lock();
            let committed = match outcome {
                Ok((tally, left)) => {
                    state.schedule.executed(id);
                    if !may_try {
                        state.usual = (state.usual * 7 + started.elapsed().min(STALL_MAX)) / 8;
                    }
                    self.changed.notify_all();
                    let (turn, now) = self.turn(state, id);
                    state = now;
                    if !turn {
                        drop(state);
                        let gone = session.rollback();
                        self.tell_rolled_back(&batch, begun, "it gives way to one before it");
                        state = self.lock();
                        state.schedule.rolled_back(id);
                        if on_trial {
                            state.gave_way(id);
                        }
                        state.retries += 1;
                        state.failed |= gone.is_err();
                        self.changed.notify_all();
                        continue;
                    }
                    drop(state);
                    let outcome = if left { session.flush() } else { Ok(()) };
                    let outcome = outcome.and_then(|()| session.commit());
                    if let (Ok(()), Some(listeners)) = (&outcome, &self.options.listeners) {
                        // Still the head of the order: listeners hear of commits in the order that they have.
                        listeners.committed(batch.transactions.iter().map(|transaction| heard(transaction)));
                    }
                    state = self.lock();
                    outcome.map(|()| tally)
                }
                Err(failure) => Err(failure),
            };
            match committed {
                Ok(tally) => {
                    attempts = 0;
                    if on_trial {
                        state.alone_next = TRIALS_AFTER;
                    }
                    state.schedule.committed(id);
                    state.batches.remove(&id);
                    state.claims.remove(&id);
                    state.done.push((row, tally));
                    state.held_back = false;
                    state.moved = Instant::now();
                }
                Err(failure) => {
                    drop(state);
                    let gone = session.rollback();
                    if failure.cause != Cause::Lost {
                        self.tell_rolled_back(&batch, begun, &failure.to_string());
                    }
                    state = self.lock();
                    if failure.cause == Cause::Alone && gone.is_ok() {
                        state.schedule.rolled_back(id);
                        state.schedule.not_ahead(id);
                        state.plain = PLAIN_AFTER;
                        self.changed.notify_all();
                        continue;
                    }
                    if on_trial && gone.is_ok() && !matches!(failure.cause, Cause::Lost | Cause::Fenced) {
                        // Whether it is a conflict shows when it runs alone.
                        state.schedule.rolled_back(id);
                        state.gave_way(id);
                        state.retries += 1;
                        self.changed.notify_all();
                        continue;
                    }
                    attempts += 1;
                    state.retries += 1;
                    // Something that ran at the same time was in the way: after the head has gone on, it may do.
                    if failure.cause == Cause::Retry && gone.is_ok() && attempts <= RETRIES_MAX {
                        state.schedule.rolled_back(id);
                        state.held_back = true;
                    } else {
                        state.failed = true;
                    }
                }
            }
            self.changed.notify_all();
        }
    }

    fn tell_rolled_back(&self, batch: &Batch, begun: usize, why: &str) {
        if let Some(listeners) = &self.options.listeners {
            listeners.rolled_back(batch.transactions.iter().take(begun).map(|transaction| heard(transaction)), why);
        }
    }

    /// Waits for the turn to commit. `false`: give way.
    fn turn<'a>(&'a self, mut state: MutexGuard<'a, State>, id: UnitId) -> (bool, MutexGuard<'a, State>) {
        loop {
            if state.schedule.may_commit(id) {
                // Also after a failure: what stands before a failed unit is whole.
                return (true, state);
            }
            if state.failed {
                return (false, state);
            }
            let beat = self.beat.load(Ordering::Relaxed);
            if state.schedule.is_trial(id) && state.beat != beat {
                (state.beat, state.moved) = (beat, Instant::now());
            }
            let limit = if state.schedule.is_trial(id) {
                STALL_LARGE
            } else if state.schedule.is_ahead(id)
                && state.schedule.head().is_none_or(|head| state.schedule.is_ahead(head))
            {
                STALL_AHEAD
            } else {
                (state.usual * STALLED_AFTER).clamp(STALL, STALL_MAX)
            };
            let stalled = state.moved.elapsed() >= limit;
            if stalled && state.schedule.youngest_executed() == Some(id) {
                state.moved = Instant::now();
                state.held_back = true;
                return (false, state);
            }
            state = self.wait(state);
        }
    }

    /// Executes what no older batch touches. Returns whether something is left for the batch's turn.
    fn execute_ahead(
        &self,
        session: &mut dyn Session,
        batch: &Batch,
        row: &StateRow,
        id: UnitId,
        begun: &mut usize,
    ) -> Outcome<(Tally, bool)> {
        session.hold(true);
        let gathered = self.gather(session, batch, row, begun);
        session.hold(false);
        let tally = gathered?;
        let claims = Arc::new(session.claims());
        let mut state = self.lock();
        state.claims.insert(id, claims);
        self.changed.notify_all();
        let others = loop {
            let older: Vec<UnitId> = state.schedule.older(id).collect();
            let others: Vec<Arc<Claims>> =
                older.iter().filter_map(|older| state.claims.get(older)).map(Arc::clone).collect();
            if others.len() == older.len() {
                break others;
            }
            if state.failed {
                let error = crate::error::Error::new(crate::error::Class::TryAgain, "an older transaction failed");
                return Err(crate::target::Failure::new(Cause::Retry, error));
            }
            state = self.wait(state);
        };
        drop(state);
        let left = session.flush_apart(&others)?;
        Ok((tally, left))
    }

    fn execute(&self, session: &mut dyn Session, batch: &Batch, row: &StateRow, begun: &mut usize) -> Outcome<Tally> {
        let tally = self.gather(session, batch, row, begun)?;
        session.flush()?;
        Ok(tally)
    }

    fn gather(&self, session: &mut dyn Session, batch: &Batch, row: &StateRow, begun: &mut usize) -> Outcome<Tally> {
        session.begin()?;
        session.state(row)?;
        let executor = Executor {
            channel: &self.settings.channel,
            policy: &self.options.policy,
            ddl: self.options.ddl,
            definitions: &self.definitions,
            listeners: self.options.listeners.as_deref(),
        };
        let mut total = Tally::default();
        for transaction in &batch.transactions {
            *begun += 1;
            let tally = executor.fast(session, transaction)?;
            total.rows += tally.rows;
            total.statements += tally.statements;
            total.notes.extend(tally.notes);
        }
        for (name, value) in &batch.facts {
            session.fact(name, value.as_deref())?;
        }
        Ok(total)
    }
}
