//! What the queue is told: all up to the last place that is safe in the target needs not be kept for us any more.
//!
//! Where each commit is synced, what is committed is acknowledged. Elsewhere a commit may be lost in a power cut for a while, and with it the state
//! row; so a mark waits until it is [`UNSYNCED_FOR`] old. A run that ends before that leaves the mark and its time in the target, behind the
//! commits it speaks of, and a later run acknowledges it: a fact that is there after a power cut was not lost, and what was
//! committed before it was not either. So a cron line that never runs for long lets the queue be purged as well, one run later.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::facts;
use crate::error::Result;
use crate::queue::{Mark, Queue};
use crate::sys::clock;
use crate::target::{ChannelState, Target};

/// How often the queue is told what was applied.
pub(super) const ACK_EVERY: Duration = Duration::from_secs(1);
/// And how often while that would keep large transactions from running beside each other.
const ACK_EVERY_BUSY: Duration = Duration::from_secs(15);
/// How long a commit may take to be safe from a power cut on servers that do not sync each.
const UNSYNCED_FOR: Duration = Duration::from_secs(10);

/// The queue that is told what was applied.
pub(super) struct Acknowledge {
    pub(super) queue: Arc<dyn Queue>,
    /// It is in the target's own database.
    pub(super) within: bool,
    /// Something was committed since it was told last.
    pub(super) due: bool,
    at: Instant,
    /// Where commits may be lost: a mark, and when it was reached, microseconds since 1970 UTC.
    lagging: Option<(Mark, i64)>,
    acknowledged: Mark,
    /// Whether the target holds a lagging mark.
    kept: bool,
}

impl Acknowledge {
    /// `acknowledged` is what the queue was told by earlier runs.
    pub(super) fn new(
        queue: Arc<dyn Queue>,
        target: Option<&Path>,
        state: &ChannelState,
        acknowledged: Mark,
    ) -> Acknowledge {
        let within = same_file(queue.database(), target);
        let kept = state.facts.get(facts::UNACKNOWLEDGED);
        let lagging = kept.and_then(|text| parsed(text));
        Acknowledge { queue, within, due: true, at: Instant::now(), lagging, acknowledged, kept: kept.is_some() }
    }

    /// Whether it is time to tell. `busy`: all that is at work has to be waited for, and takes long.
    pub(super) fn is_time(&self, now: bool, busy: bool) -> bool {
        self.due && (now || self.at.elapsed() >= if busy { ACK_EVERY_BUSY } else { ACK_EVERY })
    }

    /// Tells that everything up to `mark` is committed.
    pub(super) fn tell(&mut self, target: &dyn Target, uuid: &str, mark: Option<Mark>) -> Result<()> {
        self.at = Instant::now();
        let Some(mark) = mark else { return Ok(()) };
        if target.properties().durable_commits {
            self.queue.ack(uuid, &mark)?;
            self.due = false;
            self.lagging = None;
            return Ok(());
        }
        // A queue that was begun anew knows nothing of an older mark.
        let known = |lagging: &Mark| lagging.sequence <= mark.sequence && lagging.position.end <= mark.position.end;
        match self.lagging.take().filter(|(lagging, _)| known(lagging)) {
            Some((lagging, since_us)) if is_old(since_us) => {
                self.queue.ack(uuid, &lagging)?;
                self.acknowledged = lagging;
            }
            Some(earlier) => {
                self.lagging = Some(earlier);
                return Ok(());
            }
            None => {}
        }
        if mark.sequence <= self.acknowledged.sequence {
            self.due = false;
        } else {
            self.lagging = Some((mark, clock::now_us()));
        }
        Ok(())
    }

    /// The run ends: leaves what could not be acknowledged yet to the next one.
    pub(super) fn leave(&mut self, target: &mut dyn Target, channel: &str) -> Result<()> {
        let text =
            self.lagging.as_ref().map(|(mark, since_us)| format!("{since_us} {} {}", mark.sequence, mark.position));
        if text.is_none() && !self.kept {
            return Ok(());
        }
        target.set_facts(channel, &[(facts::UNACKNOWLEDGED, text.as_deref())])?;
        self.kept = text.is_some();
        Ok(())
    }
}

/// A clock that was set back makes a mark wait longer, never less.
fn is_old(since_us: i64) -> bool {
    clock::now_us().saturating_sub(since_us) >= UNSYNCED_FOR.as_micros() as i64
}

fn parsed(text: &str) -> Option<(Mark, i64)> {
    let mut parts = text.splitn(3, ' ');
    let since_us = parts.next()?.parse().ok()?;
    let sequence = parts.next()?.parse().ok()?;
    Some((Mark { sequence, position: parts.next()?.parse().ok()? }, since_us))
}

/// Whether two paths lead to one file.
fn same_file(one: Option<&Path>, other: Option<&Path>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
