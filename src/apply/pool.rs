//! Several sessions at work: batches execute ahead and commit in the source's order, or in any that their windows allow.
//!
//! [`Schedule`] decides, threads obey. A worker starts a batch, executes and flushes it, and then waits for its turn to commit. If the head
//! of the order makes no progress for [`STALL`], batches that have executed ahead of it may be holding what it waits for: they roll back, the
//! youngest first, and start again once something was committed.
//!
//! Whatever else fails ends the pool: what has not committed goes back to the caller, in order, to be written by one session that knows
//! how to retry, reconnect and go row by row. So there is one place for that, and a pool is only ever fast.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Options;
use super::batch::Batch;
use super::execute::{Executor, Tally};
use super::schedule::{Schedule, UnitId, Window};
use super::tables::Definitions;
use super::writer::Written;
use crate::error::Result;
use crate::target::{Cause, Outcome, Session, Settings, StateRow, Target};

/// How long the head may make no progress before what executed ahead of it gives way.
const STALL: Duration = Duration::from_millis(20);
/// Times that one batch is run again here before one session takes over.
const RETRIES_MAX: u32 = 20;

/// Sessions at work.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    workers: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    options: Options,
    settings: Settings,
    definitions: Arc<Definitions>,
    uuid: String,
}

struct State {
    schedule: Schedule,
    batches: BTreeMap<UnitId, Arc<Batch>>,
    done: Vec<(StateRow, Tally)>,
    retries: u64,
    /// No unit starts any more; those that wait for their turn behind a failed one roll back.
    failed: bool,
    /// Nothing new starts until something was committed or the head itself waits.
    held_back: bool,
    closing: bool,
    /// When something was last started or committed.
    moved: Instant,
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
                done: Vec::new(),
                retries: 0,
                failed: false,
                held_back: false,
                closing: false,
                moved: Instant::now(),
            }),
            changed: Condvar::new(),
            options: options.clone(),
            settings: settings.clone(),
            definitions: definitions.clone(),
            uuid: uuid.to_owned(),
        });
        let mut pool = Pool { shared, threads: Vec::new(), workers };
        for _ in 0..workers {
            let session = target.session(settings)?;
            let shared = pool.shared.clone();
            pool.threads.push(std::thread::spawn(move || shared.work(session)));
        }
        Ok(pool)
    }

    /// Hands a batch over; waits while there are enough. What was committed meanwhile goes to `written`. `false`: the pool has failed, and
    /// must be closed.
    pub fn submit(&self, batch: Batch, written: &mut Written) -> bool {
        let mut state = self.shared.lock();
        while state.schedule.len() >= 2 * self.workers && !state.failed {
            state = self.shared.wait(state);
        }
        let transactions = &batch.transactions;
        let window = Window::of(transactions.iter().map(|one| (one.position.txid, one.begin.window_start)));
        // A range without transactions depends on nothing, and nothing on it.
        let window = window.unwrap_or(Window { first: batch.end, last: batch.end, ..Window::default() });
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
            state.moved = Instant::now();
            drop(state);
            let row = batch.row(&self.settings.channel, self.settings.epoch, &self.uuid, crate::sys::clock::now_us());
            let outcome = self.execute(&mut *session, &batch, &row);
            drop(batch);
            state = self.lock();
            let committed = match outcome {
                Ok(tally) => {
                    state.schedule.executed(id);
                    self.changed.notify_all();
                    let (turn, now) = self.turn(state, id);
                    state = now;
                    if !turn {
                        drop(state);
                        let gone = session.rollback();
                        state = self.lock();
                        state.schedule.rolled_back(id);
                        state.retries += 1;
                        state.failed |= gone.is_err();
                        self.changed.notify_all();
                        continue;
                    }
                    drop(state);
                    let outcome = session.commit();
                    state = self.lock();
                    outcome.map(|()| tally)
                }
                Err(failure) => Err(failure),
            };
            match committed {
                Ok(tally) => {
                    attempts = 0;
                    state.schedule.committed(id);
                    state.batches.remove(&id);
                    state.done.push((row, tally));
                    state.held_back = false;
                    state.moved = Instant::now();
                }
                Err(failure) => {
                    drop(state);
                    let gone = session.rollback();
                    state = self.lock();
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
            if state.moved.elapsed() >= STALL && state.schedule.youngest_executed() == Some(id) {
                state.moved = Instant::now();
                state.held_back = true;
                return (false, state);
            }
            state = self.wait(state);
        }
    }

    fn execute(&self, session: &mut dyn Session, batch: &Batch, row: &StateRow) -> Outcome<Tally> {
        session.begin()?;
        session.state(row)?;
        let executor = Executor {
            channel: &self.settings.channel,
            policy: &self.options.policy,
            ddl: self.options.ddl,
            definitions: &self.definitions,
        };
        let mut total = Tally::default();
        for transaction in &batch.transactions {
            let tally = executor.fast(session, transaction)?;
            total.rows += tally.rows;
            total.statements += tally.statements;
            total.notes.extend(tally.notes);
        }
        for (name, value) in &batch.facts {
            session.fact(name, value.as_deref())?;
        }
        session.flush()?;
        Ok(total)
    }
}
