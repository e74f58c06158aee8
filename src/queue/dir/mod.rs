//! A queue kept in a plain directory: a folder a channel, segment files in it, no daemon.
//!
//! ```text
//! PATH/.queue                    what makes the directory a queue: its UUID
//! PATH/.queue.lock               held while the queue or a channel is created or reset; never removed
//! PATH/CHANNEL.lock              held by the one writer of the channel; never removed
//! PATH/CHANNEL.readers.lock      held while readers register or acknowledge, and by purge; never removed
//! PATH/CHANNEL/writer            epoch, and what is certainly durable
//! PATH/CHANNEL/low-water         number of the oldest segment that must be there
//! PATH/CHANNEL/reserve           room that is given up on a full disk, so that acknowledging and purging can make more
//! PATH/CHANNEL/waiting           why the writer waits, while it does
//! PATH/CHANNEL/NUMBER.rlog       segments: 16 digits, from 1, without holes above the low-water mark
//! PATH/CHANNEL/NUMBER.rlog.broken   what was cut off behind the last whole unit, for a person to look at
//! PATH/CHANNEL/readers/NAME      a reader's acknowledgement
//! PATH/CHANNEL/.tmp-*            not yet renamed; worth nothing
//! ```
//!
//! A byte of a segment is in one of these states:
//!
//! ```text
//! written    by append(): readers may see the unit once its last frame is there
//! synced     by sync(): fdatasync returned, and nobody raised the epoch meanwhile. put() acknowledges here, not before
//! vouched    a watermark frame, the next segment's header or the state file `writer` says that it was synced
//! purged     every registered reader acknowledged it, and the low-water mark above it is durable
//! ```
//!
//! **Damage or torn?** A bad frame below what is vouched for is damage: refused with its offset, never cut. A bad
//! frame above is a write that a crash cut short: set aside in `.broken` and cut.
//!
//! **After an unclean end** the next writer raises the epoch, so that the old one, should it live, can acknowledge
//! nothing more, and then never touches the old segment's bytes again but to cut them: whole units above the vouched part are copied
//! into a new segment and synced there, since a page that a failed fsync dropped reads well until it is gone. The new
//! header says how many bytes of the old file count.
//!
//! Promises: `sync()` returned means that no crash loses the unit. Readers see whole units only, in order, once
//! (by sequence number), also while a writer recovers.
//!
//! Assumes: one local file system; rename is atomic; syncing a directory makes its names durable; flock works.

mod background;
mod channel;
mod purge;
mod reader;
mod recover;
mod segment;
mod verify;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Class, Error, Result};
use crate::frame::Position;
use crate::sys::{Vfs, planted};

use super::{
    Mark, Properties, Purged, Queue, ReadFrom, ReadMode, Reader, ReaderState, Status, Tail, Verified, Writer,
    WriterOptions,
};
use channel::Channel;
pub use channel::channels;

/// How often a reader looks again at a queue that changes while it opens it.
const LOOKS_MAX: u32 = 8;

/// How long an acknowledgement waits for its unit to be synced.
const SYNC_WAIT: Duration = Duration::from_millis(50);
/// How often it looks.
const SYNC_LOOK: Duration = Duration::from_millis(1);

/// One channel of a queue in a directory.
#[derive(Debug)]
pub struct DirQueue {
    channel: Arc<Channel>,
    /// What was found durable the last time; see [`recover::settled_tail`].
    settled: Mutex<Option<recover::Settled>>,
}

impl DirQueue {
    /// Opens the channel; see [`super::open`].
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, channel: &str, create: bool) -> Result<DirQueue> {
        Ok(DirQueue { channel: Arc::new(Channel::open(vfs, path, channel, create)?), settled: Mutex::default() })
    }
}

impl DirQueue {
    /// Whether a unit that was read is durable, or soon is. Where that cannot be told, it is for whoever writes to say what is wrong.
    fn is_synced(&self, sequence: u64) -> bool {
        let deadline = Instant::now() + SYNC_WAIT;
        while let Ok(tail) = self.tail() {
            if tail.sequence >= sequence || Instant::now() >= deadline {
                return tail.sequence >= sequence;
            }
            std::thread::sleep(SYNC_LOOK);
        }
        true
    }
}

impl Queue for DirQueue {
    fn name(&self) -> String {
        self.channel.name()
    }

    fn properties(&self) -> Properties {
        Properties { ack_survives_power_loss: true, readable_before_sync: true }
    }

    fn tail(&self) -> Result<Tail> {
        recover::settled_tail(&self.channel, &mut self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn writer(&self, options: &WriterOptions) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::DirWriter::open(Arc::clone(&self.channel), options)?))
    }

    fn reader(&self, from: &ReadFrom, mode: ReadMode) -> Result<Box<dyn Reader>> {
        // Between a look at the list and the opening of a segment a writer may purge it, or replace it when it recovers.
        let mut looks = 0;
        loop {
            let before = self.channel.held_segments()?;
            match reader::DirReader::open(Arc::clone(&self.channel), from, mode) {
                Err(error)
                    if matches!(error.class(), Class::Gap | Class::Damage)
                        && looks < LOOKS_MAX
                        && self.channel.held_segments()? != before =>
                {
                    looks += 1;
                }
                reader => return Ok(Box::new(reader?)),
            }
        }
    }

    fn locate(&self, position: &Position) -> Result<Option<Mark>> {
        reader::locate(&self.channel, position)
    }

    fn register(&self, reader: &str) -> Result<ReaderState> {
        purge::register(&self.channel, reader)
    }

    fn ack(&self, reader: &str, mark: &Mark) -> Result<()> {
        // Readers run ahead of the writer's sync. An acknowledgement that outlives its unit in a power cut would speak of whatever gets that
        // unit's number afterwards.
        if !self.is_synced(mark.sequence) && !planted::is(planted::Bug::AckUnsynced) {
            return Ok(());
        }
        purge::ack(&self.channel, reader, mark)
    }

    fn pin(&self, reader: &str, sequence: u64, keep: bool) -> Result<()> {
        purge::pin(&self.channel, reader, sequence, keep)
    }

    fn readers(&self) -> Result<Vec<ReaderState>> {
        purge::readers(&self.channel)
    }

    fn unregister(&self, reader: &str) -> Result<()> {
        purge::unregister(&self.channel, reader)
    }

    fn purge(&self, dry_run: bool) -> Result<Purged> {
        purge::purge(&self.channel, dry_run)
    }

    fn status(&self) -> Result<Status> {
        verify::status(&self.channel)
    }

    fn verify(&self, finding: &mut dyn FnMut(Error)) -> Result<Verified> {
        verify::verify(&self.channel, finding)
    }

    fn reset(&self, lock_wait: Duration) -> Result<()> {
        self.channel.reset(lock_wait)
    }
}

/// The error of a lock that someone else keeps.
fn locked(what: &str, name: &str) -> Error {
    Error::new(Class::TryAgain, format!("another process {what}"))
        .in_file(name)
        .hint("wait for it with `--lock-wait SECONDS`, or look for it with `fuser`")
}
