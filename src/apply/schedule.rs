//! Which batch may run and which may commit: pure, without threads, time or database.
//!
//! A *unit* is a batch of consecutive source transactions with a window: it may run once everything up to the window's start has
//! committed. A number that is not among the units counts as committed: it was applied before, or never will be.
//!
//! ```text
//!            start()             executed()               commit turn
//! Waiting ───────────▶ Running ─────────────▶ Executed ─────────────────▶ committed(): leaves the schedule
//!    ▲                    │                       │        Order::Commit: only the oldest unit; Relaxed: any
//!    └──── rolled_back() ─┴───────────────────────┘        (a later unit that blocks an earlier one gives way)
//! ```
//!
//! A barrier runs alone: after everything before it has committed, and before anything behind it starts.
//!
//! A barrier that is one for its size alone may run *on trial*, beside one older barrier of that kind that is executed, and one more that has been and waits or commits:
//! where it depends on these, it meets their locks or a conflict, gives way, and is an ordinary barrier from then on.
//!
//! A unit that may run *ahead* starts whatever its window says, in the units' order: who runs it keeps what older units touch for the end,
//! when they have committed.
//!
//! Promises: a unit never runs before what it depends on has committed; with [`Order::Commit`] commits have the source's order; the
//! oldest unit may always run or commit, so whatever is rolled back, the schedule goes on.

use std::collections::VecDeque;

use super::options::Order;
use crate::frame::Coordinate;

/// One unit as the schedule sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Txid of its first source transaction.
    pub first: Coordinate,
    /// Txid of its last source transaction.
    pub last: Coordinate,
    /// Txid of the last transaction outside the unit that it may depend on.
    pub start: Coordinate,
    /// It runs alone.
    pub barrier: bool,
    /// It may run ahead of units that it depends on.
    pub ahead: bool,
    /// It is a barrier, but may run on trial beside older ones that may too.
    pub trial: bool,
}

impl Window {
    /// The window of transactions that run one after the other in one unit: (txid, window start) of each, in source order. Dependencies
    /// within the unit are kept by its order.
    pub fn of(transactions: impl IntoIterator<Item = (Coordinate, Coordinate)>) -> Option<Window> {
        let mut window: Option<Window> = None;
        for (txid, start) in transactions {
            let known = window.get_or_insert(Window { first: txid, last: txid, ..Window::default() });
            known.last = txid;
            if start < known.first {
                known.start = known.start.max(start);
            }
        }
        window
    }
}

/// Barriers that are executed at once at most, where all but the oldest are on trial. Each is large.
const TRIALS_MAX: usize = 2;
/// Beside them, one that has executed: while it commits, which is a wait for the disk, the next one need not wait too.
const TRIALS_EXECUTED_MAX: usize = 1;

/// Number of a unit, in source order.
pub type UnitId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    Executed,
    /// Committed out of order (relaxed) while an older unit is not.
    Committed,
}

#[derive(Clone, Debug)]
struct Unit {
    id: UnitId,
    window: Window,
    phase: Phase,
}

/// The schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    order: Order,
    workers_max: usize,
    /// In source order; the committed ones at the front are gone.
    units: VecDeque<Unit>,
    next_id: UnitId,
}

impl Schedule {
    /// With room for this many units at work at once.
    pub fn new(order: Order, workers_max: usize) -> Schedule {
        Schedule { order, workers_max: workers_max.max(1), units: VecDeque::new(), next_id: 0 }
    }

    /// Adds the next unit in source order.
    pub fn add(&mut self, window: Window) -> UnitId {
        let id = self.next_id;
        self.next_id += 1;
        self.units.push_back(Unit { id, window, phase: Phase::Waiting });
        id
    }

    /// Units that have not committed.
    pub fn len(&self) -> usize {
        self.units.iter().filter(|unit| unit.phase != Phase::Committed).count()
    }

    /// Whether every unit has committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest unit that may start now. Call again until `None`.
    pub fn start(&mut self) -> Option<UnitId> {
        let at_work = self.units.iter().filter(|unit| matches!(unit.phase, Phase::Running | Phase::Executed)).count();
        if at_work >= self.workers_max {
            return None;
        }
        let (mut older_uncommitted, mut behind_barrier) = (false, false);
        let mut found = None;
        for (index, unit) in self.units.iter().enumerate() {
            let may_pass = !behind_barrier || unit.window.trial;
            if unit.phase == Phase::Waiting && may_pass && self.may_start(index, older_uncommitted) {
                found = Some(index);
                break;
            }
            // Nothing passes a barrier but what is on trial behind one that may be too.
            if unit.window.barrier && unit.phase != Phase::Committed {
                if !unit.window.trial || unit.phase == Phase::Waiting {
                    return None;
                }
                behind_barrier = true;
            }
            older_uncommitted |= unit.phase != Phase::Committed;
        }
        let unit = self.units.get_mut(found?)?;
        unit.phase = Phase::Running;
        Some(unit.id)
    }

    fn may_start(&self, index: usize, older_uncommitted: bool) -> bool {
        let Some(unit) = self.units.get(index) else { return false };
        if unit.window.barrier {
            let older = || self.units.iter().take(index).filter(|older| older.phase != Phase::Committed);
            let beside = || {
                older().count() < TRIALS_MAX + TRIALS_EXECUTED_MAX
                    && older().filter(|older| older.phase == Phase::Running).count() < TRIALS_MAX
                    && older().all(|older| older.window.trial && older.phase != Phase::Waiting)
            };
            return !older_uncommitted || unit.window.trial && beside();
        }
        if unit.window.ahead {
            return self.units.iter().take(index).all(|older| older.phase != Phase::Waiting);
        }
        // Everything up to the start of its window, as far as it is in the schedule, has committed.
        self.units
            .iter()
            .take(index)
            .all(|older| older.phase == Phase::Committed || older.window.first > unit.window.start)
    }

    /// The unit did its work and waits for its turn to commit.
    pub fn executed(&mut self, id: UnitId) {
        self.set(id, Phase::Running, Phase::Executed);
    }

    /// The unit was rolled back, whether it had finished or not; it will be started again.
    pub fn rolled_back(&mut self, id: UnitId) {
        self.set(id, Phase::Executed, Phase::Waiting);
        self.set(id, Phase::Running, Phase::Waiting);
    }

    /// The unit must not run ahead any more. It has been rolled back.
    pub fn not_ahead(&mut self, id: UnitId) {
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.id == id) {
            unit.window.ahead = false;
        }
    }

    /// The unit is an ordinary barrier from now on. It has been rolled back.
    pub fn not_on_trial(&mut self, id: UnitId) {
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.id == id) {
            unit.window.trial = false;
        }
    }

    /// Whether this unit is one that may run on trial.
    pub fn is_trial(&self, id: UnitId) -> bool {
        self.units.iter().any(|unit| unit.id == id && unit.window.trial)
    }

    /// Whether this unit runs ahead.
    pub fn is_ahead(&self, id: UnitId) -> bool {
        self.units.iter().any(|unit| unit.id == id && unit.window.ahead)
    }

    /// Units before this one that have not committed, oldest first.
    pub fn older(&self, id: UnitId) -> impl Iterator<Item = UnitId> {
        self.units
            .iter()
            .take_while(move |unit| unit.id < id)
            .filter(|unit| unit.phase != Phase::Committed)
            .map(|unit| unit.id)
    }

    /// Whether this unit may commit now.
    pub fn may_commit(&self, id: UnitId) -> bool {
        let turn = match self.order {
            Order::Commit => self.units.front().is_some_and(|unit| unit.id == id),
            Order::Relaxed => true,
        };
        turn && self.units.iter().any(|unit| unit.id == id && unit.phase == Phase::Executed)
    }

    /// The unit's commit is durable.
    pub fn committed(&mut self, id: UnitId) {
        self.set(id, Phase::Executed, Phase::Committed);
        while self.units.front().is_some_and(|unit| unit.phase == Phase::Committed) {
            self.units.pop_front();
        }
    }

    /// The oldest unit that has not committed: the head, for which others give way.
    pub fn head(&self) -> Option<UnitId> {
        self.units.iter().find(|unit| unit.phase != Phase::Committed).map(|unit| unit.id)
    }

    /// Whether this unit is the head.
    pub fn is_head(&self, id: UnitId) -> bool {
        self.head() == Some(id)
    }

    /// Whether the head is neither running nor executed: nothing may be held back for it then.
    pub fn head_waits(&self) -> bool {
        self.units.iter().find(|unit| unit.phase != Phase::Committed).is_none_or(|unit| unit.phase == Phase::Waiting)
    }

    /// The youngest unit that has executed ahead of the head: the first to be rolled back when the head stalls.
    pub fn youngest_executed(&self) -> Option<UnitId> {
        let youngest = self.units.iter().rev().find(|unit| unit.phase == Phase::Executed)?;
        (!self.is_head(youngest.id)).then_some(youngest.id)
    }

    fn set(&mut self, id: UnitId, from: Phase, to: Phase) {
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.id == id && unit.phase == from) {
            unit.phase = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// The notation of the original proposal: (start, end), the end being the transaction's own number.
    fn unit((start, end): (u64, u64)) -> Window {
        Window { first: Coordinate(end), last: Coordinate(end), start: Coordinate(start), ..Window::default() }
    }

    fn startable(schedule: &mut Schedule) -> Vec<UnitId> {
        std::iter::from_fn(|| schedule.start()).collect()
    }

    fn finish(schedule: &mut Schedule, id: UnitId) {
        schedule.executed(id);
        assert!(schedule.may_commit(id), "{id}");
        schedule.committed(id);
    }

    #[test]
    fn the_worked_example_runs_2_3_and_6_at_once_and_4_and_5_after_2() {
        for order in [Order::Relaxed, Order::Commit] {
            let mut schedule = Schedule::new(order, 8);
            for window in [(1, 2), (1, 3), (2, 4), (2, 5), (1, 6)] {
                schedule.add(unit(window));
            }
            // Numbers 0, 1 and 4 are the transactions 2, 3 and 6.
            assert_eq!(startable(&mut schedule), [0, 1, 4]);
            schedule.executed(1);
            assert!(startable(&mut schedule).is_empty(), "3 alone frees nothing");
            finish(&mut schedule, 0);
            assert_eq!(startable(&mut schedule), [2, 3]);
        }
    }

    #[test]
    fn commits_have_the_sources_order_or_any() {
        for (order, may) in [(Order::Commit, false), (Order::Relaxed, true)] {
            let mut schedule = Schedule::new(order, 8);
            schedule.add(unit((0, 2)));
            schedule.add(unit((0, 3)));
            assert_eq!(startable(&mut schedule), [0, 1]);
            schedule.executed(1);
            assert_eq!(schedule.may_commit(1), may);
            finish(&mut schedule, 0);
            assert!(schedule.may_commit(1));
        }
    }

    #[test]
    fn a_barrier_is_alone() {
        let mut schedule = Schedule::new(Order::Relaxed, 8);
        schedule.add(unit((0, 2)));
        schedule.add(Window { barrier: true, ..unit((0, 3)) });
        schedule.add(unit((0, 4)));
        assert_eq!(startable(&mut schedule), [0]);
        finish(&mut schedule, 0);
        assert_eq!(startable(&mut schedule), [1]);
        finish(&mut schedule, 1);
        assert_eq!(startable(&mut schedule), [2]);
    }

    #[test]
    fn barriers_on_trial_run_in_twos_beside_one_that_has_executed_and_nothing_else_passes_them() {
        let mut schedule = Schedule::new(Order::Commit, 8);
        let trial = |end| Window { barrier: true, trial: true, ..unit((0, end)) };
        schedule.add(unit((0, 2)));
        for end in 3..6 {
            schedule.add(trial(end));
        }
        schedule.add(Window { ahead: true, ..unit((0, 6)) });
        schedule.add(unit((0, 7)));
        assert_eq!(startable(&mut schedule), [0], "beside others of their kind only");
        finish(&mut schedule, 0);
        assert_eq!(startable(&mut schedule), [1, 2]);
        schedule.executed(2);
        assert!(!schedule.may_commit(2));
        assert_eq!(startable(&mut schedule), [3], "while one waits or commits");
        schedule.executed(3);
        assert!(startable(&mut schedule).is_empty(), "no fourth one");
        schedule.rolled_back(3);
        assert_eq!(startable(&mut schedule), [3]);
        schedule.rolled_back(3);
        assert_eq!(schedule.youngest_executed(), Some(2));
        // It gives way: from then on it is alone.
        schedule.rolled_back(2);
        schedule.not_on_trial(2);
        assert!(startable(&mut schedule).is_empty());
        finish(&mut schedule, 1);
        assert_eq!(startable(&mut schedule), [2]);
        finish(&mut schedule, 2);
        assert_eq!(startable(&mut schedule), [3], "nothing else runs beside one");
        finish(&mut schedule, 3);
        assert_eq!(startable(&mut schedule), [4, 5]);
    }

    #[test]
    fn the_youngest_gives_way_when_the_head_stalls() {
        let mut schedule = Schedule::new(Order::Commit, 8);
        for end in 2..5 {
            schedule.add(unit((0, end)));
        }
        assert_eq!(startable(&mut schedule), [0, 1, 2]);
        schedule.executed(1);
        schedule.executed(2);
        assert_eq!(schedule.youngest_executed(), Some(2));
        schedule.rolled_back(2);
        assert_eq!(schedule.youngest_executed(), Some(1));
        schedule.rolled_back(1);
        assert_eq!(schedule.youngest_executed(), None);
        schedule.executed(0);
        assert_eq!(schedule.youngest_executed(), None, "the head commits instead");
        schedule.committed(0);
        assert_eq!(startable(&mut schedule), [1, 2]);
    }

    #[test]
    fn a_unit_of_several_depends_on_what_is_before_it() {
        let at = |txid: u64, start: u64| (Coordinate(txid), Coordinate(start));
        let window = Window::of([at(10, 3), at(20, 10), at(30, 5)]).unwrap();
        assert_eq!((window.first.0, window.last.0, window.start.0), (10, 30, 5));
        assert_eq!(Window::of([]), None);
    }

    #[test]
    fn a_unit_that_runs_ahead_starts_in_order_and_commits_in_order() {
        let mut schedule = Schedule::new(Order::Commit, 8);
        for end in 2..5 {
            schedule.add(Window { ahead: true, ..unit((end - 1, end)) });
        }
        schedule.add(unit((4, 5)));
        schedule.add(Window { ahead: true, ..unit((5, 6)) });
        // The last one waits for the one before it to start, which waits for its window.
        assert_eq!(startable(&mut schedule), [0, 1, 2]);
        assert_eq!(schedule.older(2).collect::<Vec<_>>(), [0, 1]);
        schedule.executed(1);
        assert!(!schedule.may_commit(1));
        schedule.rolled_back(2);
        schedule.not_ahead(2);
        assert!(!schedule.is_ahead(2) && schedule.is_ahead(1));
        assert!(startable(&mut schedule).is_empty(), "its window is not free");
        finish(&mut schedule, 0);
        finish(&mut schedule, 1);
        assert_eq!(startable(&mut schedule), [2]);
        finish(&mut schedule, 2);
        assert_eq!(startable(&mut schedule), [3, 4]);
    }

    /// Any history of windows, any choice of what happens next, rollbacks included: what a unit depends on has committed before it
    /// starts, commits are in order, barriers are alone, and everything commits in the end.
    fn drive(windows: &[(u64, bool)], order: Order, workers: usize, mut choose: impl FnMut(usize) -> usize) {
        let mut schedule = Schedule::new(order, workers);
        let mut by_id = BTreeMap::new();
        for (index, (back, barrier)) in windows.iter().enumerate() {
            let end = index as u64 + 10;
            let window = Window { barrier: *barrier, ..unit((end.saturating_sub(back + 1), end)) };
            by_id.insert(schedule.add(window), window);
        }
        let (mut running, mut executed, mut committed) = (BTreeSet::new(), BTreeSet::new(), Vec::<UnitId>::new());
        let mut rollbacks = windows.len() * 2;
        while committed.len() < windows.len() {
            while let Some(id) = schedule.start() {
                let window = by_id[&id];
                for (other, of_other) in &by_id {
                    let done = committed.contains(other);
                    assert!(done || *other >= id || of_other.last > window.start, "{id} started before {other}");
                    if window.barrier {
                        assert!(done || *other >= id, "a barrier passed {other}");
                    }
                    if of_other.barrier && *other < id {
                        assert!(done, "{id} passed the barrier {other}");
                    }
                }
                running.insert(id);
                assert!(running.len() + executed.len() <= workers);
            }
            let mut moves: Vec<(u8, UnitId)> = running.iter().map(|id| (0, *id)).collect();
            moves.extend(executed.iter().filter(|id| schedule.may_commit(**id)).map(|id| (1, *id)));
            if rollbacks > 0 {
                moves.extend(schedule.youngest_executed().map(|id| (2, id)));
            }
            assert!(!moves.is_empty(), "stuck");
            let (what, id) = moves[choose(moves.len()) % moves.len()];
            match what {
                0 => {
                    running.remove(&id);
                    executed.insert(id);
                    schedule.executed(id);
                }
                1 => {
                    executed.remove(&id);
                    schedule.committed(id);
                    if order == Order::Commit {
                        assert_eq!(committed.last().map_or(0, |last| last + 1), id, "commit order");
                    }
                    committed.push(id);
                }
                _ => {
                    rollbacks -= 1;
                    executed.remove(&id);
                    schedule.rolled_back(id);
                }
            }
        }
        assert!(schedule.is_empty() && schedule.start().is_none());
    }

    proptest! {
        #[test]
        fn any_history_is_run_whole_and_in_order(
            windows in proptest::collection::vec((0u64..6, proptest::bool::weighted(0.1)), 1..24),
            relaxed in any::<bool>(),
            workers in 1usize..6,
            choices in proptest::collection::vec(any::<usize>(), 400),
        ) {
            let mut at = 0;
            let order = if relaxed { Order::Relaxed } else { Order::Commit };
            drive(&windows, order, workers, |_| { at += 1; choices[at % choices.len()] });
        }
    }

    /// Every order in which three workers can take four transactions through execute, commit and giving way.
    #[test]
    fn every_interleaving_of_three_workers_and_four_transactions_holds() {
        for windows in [[0, 0, 1, 1], [3, 3, 3, 3], [0, 0, 0, 0], [0, 2, 1, 3]] {
            for barrier in [None, Some(1), Some(3)] {
                for order in [Order::Commit, Order::Relaxed] {
                    let windows: Vec<(u64, bool)> =
                        windows.iter().enumerate().map(|(index, back)| (*back, barrier == Some(index))).collect();
                    // Depth first over all choices: a path is the list of choices made, widths say what was possible.
                    let mut path: Vec<usize> = Vec::new();
                    loop {
                        let mut widths = Vec::new();
                        drive(&windows, order, 3, |width| {
                            let depth = widths.len();
                            widths.push(width);
                            path.get(depth).copied().unwrap_or(0)
                        });
                        path.resize(widths.len(), 0);
                        // Rollbacks make the tree large: the first choices are exhausted, the rest follows the first branch.
                        path.truncate(9);
                        while let Some(last) = path.pop() {
                            if last + 1 < widths[path.len()] {
                                path.push(last + 1);
                                break;
                            }
                        }
                        if path.is_empty() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// The schedule behind a lock, as the workers use it: no interleaving of their steps breaks the order or gets stuck.
    #[test]
    fn workers_behind_a_lock_commit_in_order_in_every_schedule() {
        shuttle::check_random(
            || {
                let mut schedule = Schedule::new(Order::Commit, 3);
                for window in [(1, 2), (1, 3), (2, 4), (2, 5), (1, 6)] {
                    schedule.add(unit(window));
                }
                let shared =
                    Arc::new((shuttle::sync::Mutex::new((schedule, Vec::new())), shuttle::sync::Condvar::new()));
                let workers: Vec<_> = (0..3)
                    .map(|_| {
                        let shared = shared.clone();
                        shuttle::thread::spawn(move || {
                            let (lock, changed) = &*shared;
                            let mut state = lock.lock().unwrap();
                            while !state.0.is_empty() {
                                let Some(id) = state.0.start() else {
                                    state = changed.wait(state).unwrap();
                                    continue;
                                };
                                drop(state);
                                shuttle::thread::yield_now();
                                state = lock.lock().unwrap();
                                state.0.executed(id);
                                while !state.0.may_commit(id) {
                                    state = changed.wait(state).unwrap();
                                }
                                state.0.committed(id);
                                state.1.push(id);
                                changed.notify_all();
                            }
                            changed.notify_all();
                        })
                    })
                    .collect();
                workers.into_iter().for_each(|worker| worker.join().unwrap());
                assert_eq!(shared.0.lock().unwrap().1, [0, 1, 2, 3, 4]);
            },
            300,
        );
    }
}
