//! What queues inside of other engines have in common: units are kept in *records*, which an engine stores whole or in
//! pieces and never looks into.
//!
//! ```text
//! record  =  head  frames of whole units …          numbered from 1, without holes
//! head    =  a `segment` frame: what was reached before the record, and length and digest of the record before it
//! piece   =  a run of a record's bytes; only a record that holds a unit larger than the engine likes has several
//! ```
//!
//! A record begins and ends between units, so that reading can begin at each, and purge removes whole records. It becomes
//! visible in one step (a transaction's commit, one message), whatever it holds. Each head vouches for the record before
//! it, and the frames carry their own checksums: an engine that loses, doubles, exchanges or changes anything is found out on
//! reading.
//!
//! - [`Gather`] cuts what a writer is given into records.
//! - [`LogReader`] reads the records of any [`Log`] as a queue's reader, and finds places.
//! - [`mod@verify`] checks all that a log holds.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::frame::{Digest, FrameWriter, HEADER_LEN, Kind, Segment};

use super::{ReadFrom, Tail};

// Some of it is for queues whose engine keeps no index of its own.
#[cfg_attr(not(feature = "nats"), allow(dead_code))]
mod gather;
#[cfg_attr(not(feature = "nats"), allow(dead_code))]
mod reader;
mod verify;

pub(super) use gather::{Behind, Gather, Record};
#[cfg(feature = "nats")]
pub(super) use reader::Held;
pub(super) use reader::{LogReader, locate};
pub(super) use verify::verify;

/// Where reading begins: between two records.
#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    /// The record that has been read already; 0: none.
    pub after: u64,
    /// What was reached with it, the stream header that holds included.
    pub tail: Tail,
    /// Definitions that are live there.
    pub definitions: HashMap<u64, Vec<u8>>,
}

/// The records of one channel, as an engine gives them. Only what is visible counts.
pub(super) trait Log: Debug + Send {
    /// The queue and channel, for messages.
    fn name(&self) -> String;
    /// The queue's address, for hints.
    fn address(&self) -> String;
    /// UUID of the queue.
    fn uuid(&self) -> [u8; 16];
    /// The channel, folded.
    fn channel(&self) -> &str;
    /// A start at or before `from`, the nearer the better; `None` when nothing was ever queued. [`purged`] when what comes behind `from`
    /// is no longer held. `Acknowledged` is not asked.
    fn start(&mut self, from: &ReadFrom) -> Result<Option<Start>>;
    /// Number of the last record, held or purged; 0: there was none.
    fn last(&mut self) -> Result<u64>;
    /// Whether `record`, behind which [`Log::next`] has just found none, is the last.
    fn is_end(&mut self, record: u64) -> Result<bool> {
        Ok(self.last()? <= record)
    }
    /// Number of the oldest record that must be there.
    fn low(&mut self) -> Result<u64>;
    /// Goes to the first record that is numbered above `after`, and returns its number.
    fn next(&mut self, after: u64) -> Result<Option<u64>>;
    /// Appends the next piece of that record; `false` when it had been the last.
    fn piece(&mut self, into: &mut Vec<u8>) -> Result<bool>;
    /// Bytes of records behind `after`, about.
    fn bytes_behind(&self, after: u64) -> u64;
    /// Waits until there may be more, at most for `timeout`.
    fn wait(&mut self, timeout: Duration) -> Result<()>;
}

/// The error of a place whose continuation is gone.
pub(super) fn purged(name: &str, what: &str) -> Error {
    Error::new(Class::Gap, format!("the queue no longer holds what comes behind {what}"))
        .in_file(name)
        .hint("take a new snapshot: `rlog-extract --snapshot …`")
}

/// The error of damage to a record.
pub(super) fn damaged(log: &dyn Log, record: u64, what: impl std::fmt::Display) -> Error {
    Error::damage(format!("record {record}: {what}"))
        .in_file(log.name())
        .hint(format!("`rlog-queue verify {}` lists every damaged place", log.address()))
}

/// What held at a place, as a frame that carries its own checksums.
pub(super) fn state_frame(segment: &Segment) -> Vec<u8> {
    let mut out = FrameWriter::new();
    out.frame(Kind::Segment, |payload| segment.encode(payload));
    out.bytes().to_vec()
}

/// Reads a [`state_frame`].
pub(super) fn read_state(bytes: &[u8]) -> Result<Segment> {
    let frame = crate::frame::reader::read_frame(bytes, 0)?;
    if frame.kind() != Some(Kind::Segment) {
        return Err(Error::damage("this is not a state of a queue"));
    }
    Ok(Segment::decode(frame.payload, 0)?)
}

/// Adds whole frames to the digest of a record: checksum and length of each header, as in segment files.
fn add_frames(digest: &mut Digest, mut frames: &[u8]) {
    while let Some(head) = frames.first_chunk::<HEADER_LEN>() {
        let number = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        let length = number(crate::frame::header::LENGTH_AT).map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let crc = number(crate::frame::header::HEADER_CRC_AT).map_or(0, |bytes| u32::from_le_bytes(*bytes));
        digest.add(crc, length);
        frames = frames.get(HEADER_LEN + length as usize..).unwrap_or(&[]);
    }
}
