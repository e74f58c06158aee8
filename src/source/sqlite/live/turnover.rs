//! The log is started again for the application.
//!
//! A reader that always stands in the log keeps every checkpoint of the application from finishing, and so the log from being started
//! again: it would grow without end. So from [`HOLD_OFF_FRAMES`] on, checkpoints are held off altogether (each would copy a little
//! and sync twice for it), and when the log is larger than its limit, or nobody is in the way, it is turned over: copied back, and
//! read and confirmed to its very end, while no writer can add to it. Who does what in which order stands at [`Turnover`].
//!
//! Promises: writers wait for some milliseconds at most, and for one part of the time in [`TURNOVER_SHARE`]; whatever is in the
//! way (a writer without gaps, a slow disk, downstream that does not confirm in time), it is given up and tried later, and nothing is
//! lost by it. No pin is let go before what it keeps is confirmed.

use std::time::{Duration, Instant};

use super::{LARGE_FRAMES, Live, NextPin, log_bytes};
use crate::error::{Class, Result};
use crate::frame::Coordinate;
use crate::source::sqlite::pin::{NoCheckpoint, Turnover};
use crate::source::sqlite::shm::{self, WalIndex};

/// How often a turnover is tried; twice as long after each that came to nothing, up to the second.
const TURNOVER_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// And writers wait for one in so many parts of the time, at most.
const TURNOVER_SHARE: u32 = 50;
/// How long writers wait in a turnover for what they wrote last to be confirmed.
const TURNOVER_CONFIRM_WAIT: Duration = Duration::from_millis(50);
/// And before that, when nobody waits but the reader of what is written meanwhile.
const TURNOVER_DRAIN_WAIT: Duration = Duration::from_millis(200);
/// How often downstream is asked meanwhile.
const TURNOVER_ASK: Duration = Duration::from_micros(500);
/// From this many frames on, copying back is left to the turnover: 1000 is where SQLite's automatic checkpoint begins, and it would
/// then be tried at every commit, copy as far as the pin allows, and sync twice for it.
const HOLD_OFF_FRAMES: u32 = 900;
/// When nothing was written for so long, a log of that many frames is turned over: nobody is in the way.
const QUIET: Duration = Duration::from_millis(50);

impl Live {
    /// Now that the log has been read up to the pin that is held: whether checkpoints are held off from here on.
    pub(super) fn hold_off(&mut self, index: &WalIndex) -> Result<()> {
        self.held_upto.get_or_insert(self.encoder.reached());
        if !self.is_covered() {
            return Ok(());
        }
        let wanted = self.options.turnover_bytes.is_some() && self.is_long(index);
        if !wanted {
            self.no_checkpoint = None;
        } else if self.no_checkpoint.is_none() {
            self.no_checkpoint = NoCheckpoint::try_begin(self.shm)?;
        }
        Ok(())
    }

    /// Whether the log has become long, and will not be started again by the next writer.
    fn is_long(&self, index: &WalIndex) -> bool {
        index.frames >= HOLD_OFF_FRAMES && self.turned != Some((index.salt, index.frames))
    }

    /// Keeps the log from growing without end. See [`Turnover`].
    pub fn tidy(&mut self) -> Result<()> {
        let Some(limit) = self.options.turnover_bytes else { return Ok(()) };
        let Some(index) = shm::read(&self.shm)? else { return Ok(()) };
        let quiet = self.read.elapsed() >= QUIET;
        let recently = self.tidied.is_some_and(|(at, pause)| at.elapsed() < pause);
        let due = self.is_long(&index) && (quiet || log_bytes(&index) > limit);
        let possible = !self.let_go && self.is_covered();
        if !due || recently || !possible || !self.downstream.keeps_up(self.encoder.reached()) {
            return Ok(());
        }
        let (least, most) = TURNOVER_PAUSE;
        let pause = self.tidied.map_or(least, |(_, pause)| (pause * 2).min(most));
        self.tidied = Some((Instant::now(), pause));
        // It is one of those that are held off.
        self.no_checkpoint = None;
        if index.frames > LARGE_FRAMES {
            // SQLite will look through its index, and sort it.
            self.decoder.relieve();
        }
        let mut held = Duration::ZERO;
        let done = self.turn_over(&mut held);
        let share = held.saturating_mul(TURNOVER_SHARE);
        match done {
            Ok(done) => self.tidied = Some((Instant::now(), share.max(if done { least } else { pause }))),
            // Who may only read can hold the log, and leaves copying back to the application.
            Err(error) if error.class() == Class::Permission => {
                self.options.turnover_bytes = None;
                self.encoder.notes.push(format!(
                    "the log cannot be started again without write permission on the database, and may grow: {error}"
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the next writer starts the log again. `held` is for how long no writer could commit.
    fn turn_over(&mut self, held: &mut Duration) -> Result<bool> {
        let turnover = Turnover::prepare(&self.path)?;
        // What came meanwhile is read, confirmed and copied before writers have to wait, so that they do so for little.
        if self.advance(TURNOVER_DRAIN_WAIT)?.is_none() || !turnover.lock(&self.path)? {
            return Ok(false);
        }
        // No writer can commit now.
        let since = Instant::now();
        let done = self.turn_over_locked(&turnover);
        drop(turnover);
        *held = since.elapsed();
        done
    }

    fn turn_over_locked(&mut self, turnover: &Turnover) -> Result<bool> {
        let Some((index, reached)) = self.advance(TURNOVER_CONFIRM_WAIT)? else { return Ok(false) };
        if !turnover.copy_back(&self.path)? {
            return Ok(false);
        }
        // At its end this pin needs no log any more, and the next writer resets it.
        let pin = self.fresh_pin()?;
        self.hold(pin, reached)?;
        self.turned = Some((index.salt, index.frames));
        Ok(true)
    }

    /// Pins the end of the log, reads up to it, and lets go of every older pin once that is confirmed; `None` if it was not in time.
    fn advance(&mut self, wait: Duration) -> Result<Option<(WalIndex, Coordinate)>> {
        let pin = self.fresh_pin()?;
        let Some((index, _)) = self.read_on()? else { return Ok(None) };
        let reached = self.encoder.reached();
        self.next = Some(NextPin { pin, from: reached, upto: Some(reached) });
        let waiting = Instant::now();
        while self.downstream.ask_now(reached)? < reached {
            if waiting.elapsed() > wait {
                return Ok(None);
            }
            std::thread::sleep(TURNOVER_ASK);
        }
        self.confirm()?;
        Ok(self.next.is_none().then_some((index, reached)))
    }
}
