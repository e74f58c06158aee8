//! The loop of `put`: takes chunks as they arrive, and has them synced.
//!
//! Three threads: one reads and checks, one judges and writes (this one), one syncs. A batch is synced when it is full, while the next is
//! written, or when nothing has arrived for a moment. What comes alone, after a pause, is synced without that moment: at a few hundred
//! transactions a second it would be most of the time that they spend here.
//!
//! Readers that take what is not synced yet have a head start, though. They are about to sync their target, perhaps on the same disk, where a
//! sync waits for the one before it: were this one first, what they apply would be visible later by as much. Nobody waits for this one but
//! the source, which is told a moment later what it may forget.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Counts, Ended, Intake, OnDurable, Options};
use crate::error::Result;
use crate::queue::Writer;
use crate::queue::chunks::{Arrival, Chunks};

/// Reads a stream from `input` to its end and stores what is new. `pass` gets all of it, once it is durable.
///
/// On an error of the stream everything whole before it is durable when this returns.
pub fn put<'a>(
    input: impl Read + Send + 'static,
    name: &str,
    writer: Box<dyn Writer>,
    options: &Options,
    pass: Option<&'a mut dyn Write>,
    on_durable: OnDurable<'a>,
) -> Result<Counts> {
    const STOP_CHECK: Duration = Duration::from_millis(100);
    // How long the input must be silent. A thread that is still at work on what has come is not silence: else a file would be synced
    // piece by piece as it is checked.
    const QUIET: Duration = Duration::from_micros(100);
    // What comes after such a pause is alone, as far as can be told.
    const PAUSE: Duration = Duration::from_millis(1);
    // About what a reader needs until its own sync is under way.
    const HEAD_START: Duration = Duration::from_micros(400);
    let chunks = Chunks::spawn(input, name);
    let _abandon = chunks.abandon_when_dropped();
    let mut intake = Intake::new(writer, options.clone(), name, pass, on_durable);
    let mut first_unsynced: Option<Instant> = None;
    let mut idle_since = Instant::now();
    let mut alone = false;
    let mut head_start = Duration::ZERO;
    loop {
        if options.stop.load(Ordering::Relaxed) {
            return intake.finish(Ended::Stopped);
        }
        if intake.is_syncing() && intake.is_synced() {
            intake.finish_sync()?;
        }
        let patience = match first_unsynced {
            None if !intake.is_syncing() => STOP_CHECK,
            _ if alone => head_start,
            since => {
                let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
                options.sync_interval.saturating_sub(waited).clamp(QUIET, STOP_CHECK)
            }
        };
        let mut quiet = false;
        match chunks.next(patience) {
            Arrival::Chunk(mut chunk) => {
                let at = chunk.at;
                alone = first_unsynced.is_none()
                    && !intake.is_syncing()
                    && options.sync_interval.is_zero()
                    && idle_since.elapsed() >= PAUSE;
                let judged = intake.chunk(chunk.frames(), at);
                chunks.recycle(chunk);
                idle_since = Instant::now();
                if alone {
                    head_start = if intake.has_early_readers() { HEAD_START } else { Duration::ZERO };
                }
                match judged {
                    Ok(()) => {}
                    // It waited for room in vain; the rest of the chunk comes again with the next run.
                    Err(_) if options.stop.load(Ordering::Relaxed) => return intake.finish(Ended::Stopped),
                    Err(error) => return intake.fail(error),
                }
            }
            Arrival::Nothing { silent } => {
                alone = false;
                quiet = silent || options.sync_interval > Duration::ZERO;
                // With nothing to do meanwhile it is waited for; what arrives then is ready at once.
                intake.finish_sync()?;
            }
            Arrival::End(Ok(())) => return intake.finish(Ended::EndOfFile),
            Arrival::End(Err(error)) => return intake.fail(error),
        }
        if !intake.has_unsynced() {
            first_unsynced = None;
            if !chunks.has_more() {
                intake.tell_repeats()?;
            }
            continue;
        }
        let since = *first_unsynced.get_or_insert_with(Instant::now);
        if intake.unsynced_bytes() >= options.sync_bytes {
            intake.start_sync()?;
            first_unsynced = None;
        } else if quiet && since.elapsed() >= options.sync_interval && !chunks.has_more() {
            intake.sync()?;
            first_unsynced = None;
            idle_since = Instant::now();
        }
    }
}
