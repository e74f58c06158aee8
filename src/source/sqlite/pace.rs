//! When a live log is looked at next.
//!
//! ```text
//! idle:       arm the watch on the log -> look once more -> wait for a write -> expecting
//! expecting:  look again, soon and then less often, until the commit is visible -> found, or (nothing comes) idle
//! found:      look again at once; found again: gather for a while what is committed meanwhile, then look
//! ```
//!
//! A commit writes the log and only then the wal-index (in between it may wait for the disk), and the wal-index is mapped
//! memory, whose changes wake nobody. So the log is waited for and the wal-index is looked at. Under load nothing is
//! watched: writers pay nothing for being followed, and what they write is handed over in pieces that are worth it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::wake::Wake;

/// Longest time between two looks: what is confirmed has to be asked for, and not everything wakes.
const LOOK_MAX: Duration = Duration::from_millis(10);
/// First pause while a commit is expected.
const EXPECT_MIN: Duration = Duration::from_micros(20);
/// First pause where nothing can be watched.
const BLIND_MIN: Duration = Duration::from_micros(200);
/// Under load, least time from one look to the next.
const GATHER: Duration = Duration::from_millis(1);

enum State {
    /// The watch is not armed.
    Idle,
    /// It is, and the log was looked at since.
    Armed,
    /// Something was written; the pause before the next look.
    Expecting(Duration),
    /// The last look found something.
    Found,
}

/// See the module's head.
pub struct Pace {
    wake: Option<Wake>,
    state: State,
    looked: Instant,
}

impl Pace {
    /// For a log that can be watched, or `None`.
    pub fn new(log: Option<&Path>) -> Pace {
        crate::sys::clock::short_sleeps();
        Pace { wake: log.and_then(|log| Wake::on(log).ok()), state: State::Idle, looked: Instant::now() }
    }

    /// Waits until it is time to look again; `found` is what the last look came to.
    pub fn wait(&mut self, found: bool) {
        if found {
            if matches!(self.state, State::Found) {
                std::thread::sleep(GATHER.saturating_sub(self.looked.elapsed()));
            }
            self.state = State::Found;
        } else {
            self.state = self.next();
        }
        self.looked = Instant::now();
    }

    fn next(&mut self) -> State {
        let Some(wake) = &mut self.wake else {
            let pause = if let State::Expecting(pause) = self.state { pause } else { BLIND_MIN };
            std::thread::sleep(pause);
            return State::Expecting((pause * 5 / 4).min(LOOK_MAX));
        };
        match self.state {
            State::Expecting(pause) if pause < LOOK_MAX => {
                std::thread::sleep(pause);
                State::Expecting(pause * 5 / 4)
            }
            State::Armed => match wake.wait(LOOK_MAX) {
                Ok(true) => State::Expecting(EXPECT_MIN),
                Ok(false) => State::Armed,
                Err(_) => self.blind(),
            },
            _ => match wake.arm() {
                Ok(()) => State::Armed,
                Err(_) => self.blind(),
            },
        }
    }

    /// Nothing can be watched any more (too many watches of this user's).
    fn blind(&mut self) -> State {
        self.wake = None;
        State::Expecting(BLIND_MIN)
    }
}
