//! What a channel has reached: folded from the steps of its frames, by whoever reads, writes or recovers it.

use crate::frame::{Begin, Coordinate, Incarnation, Position, Segment, SnapshotProgress, Step, StreamHeader, gtid};

/// What a channel has reached with a certain unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Sequence number of the unit; 0: there was none yet.
    pub sequence: u64,
    /// What the source had reached with it; `None`: nothing was ever queued.
    pub reached: Option<Coordinate>,
    /// Life of the source at `reached`.
    pub incarnation: Incarnation,
    /// GTID state at `reached`, as far as it is known.
    pub gtid_state: String,
    /// The last transaction.
    pub last: Option<Position>,
    /// The stream header that holds.
    pub source: Option<Box<StreamHeader>>,
    /// Servers followed before a handover, and what had been reached of each.
    pub former_lives: Vec<(Incarnation, Coordinate)>,
    /// The snapshot that was begun last.
    pub snapshot: Option<SnapshotProgress>,
    // Whether the open transaction is a chunk of a snapshot, and which.
    open_chunk: Option<(u64, u64)>,
}

/// What a segment or record vouches for: the one before it. Number 0: there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::queue) struct Predecessor {
    pub number: u64,
    /// Bytes that count.
    pub length: u64,
    /// Digest over its frames.
    pub digest: u64,
}

/// Former lives that are remembered.
const FORMER_LIVES_MAX: usize = 16;

impl Tail {
    /// What held at the start of a segment.
    pub fn at_segment(segment: &Segment) -> Tail {
        Tail {
            sequence: segment.first_sequence.saturating_sub(1),
            reached: segment.reached,
            incarnation: segment.incarnation,
            gtid_state: segment.gtid_state.clone(),
            last: segment.last.clone(),
            former_lives: segment.former_lives.clone(),
            snapshot: segment.snapshot.clone(),
            ..Tail::default()
        }
    }

    /// What a segment, or a record, says that begins here; its preamble is counted by who writes it.
    pub(in crate::queue) fn segment(&self, queue: [u8; 16], channel: &str, epoch: u64, before: Predecessor) -> Segment {
        Segment {
            queue,
            channel: channel.to_owned(),
            number: before.number + 1,
            first_sequence: self.sequence + 1,
            epoch,
            previous_number: before.number,
            previous_length: before.length,
            previous_digest: before.digest,
            reached: self.reached,
            incarnation: self.incarnation,
            gtid_state: self.gtid_state.clone(),
            preamble: 0,
            last: self.last.clone(),
            former_lives: self.former_lives.clone(),
            snapshot: self.snapshot.clone(),
        }
    }

    /// The position to resume behind: the last transaction's, or one whose start and end are what progress reached
    /// after it. `None` when nothing was ever queued.
    pub fn position(&self) -> Option<Position> {
        let reached = self.reached.filter(|_| self.sequence > 0)?;
        match &self.last {
            Some(last) if last.end == reached && last.incarnation.server() == self.incarnation.server() => {
                Some(last.clone())
            }
            _ => Some(Position { txid: reached, end: reached, incarnation: self.incarnation, ..Position::default() }),
        }
    }

    /// Takes a step; returns whether it ended a unit, which then has the number `sequence`.
    pub fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::Stream(header, _) => {
                self.open_chunk = None;
                if self.reached.is_none() {
                    self.reached = Some(header.start);
                    self.incarnation = header.incarnation;
                }
                if self.reached == Some(header.start) && !header.gtid_state.is_empty() {
                    self.gtid_state.clone_from(&header.gtid_state);
                }
                self.source = Some(header.clone());
                return false;
            }
            Step::Begin(_, begin) => {
                self.open_chunk = chunk_of(begin);
                return false;
            }
            Step::Commit(position, _) | Step::Prepared(position, _) => match self.open_chunk.take() {
                Some((table, number)) => {
                    if let Some(snapshot) = &mut self.snapshot {
                        match snapshot.chunks.iter_mut().find(|(key, _)| *key == table) {
                            Some((_, held)) => *held = number + 1,
                            None => snapshot.chunks.push((table, number + 1)),
                        }
                    }
                }
                None => {
                    self.reached = Some(position.end);
                    self.incarnation = position.incarnation;
                    if !position.gtid.is_empty() {
                        gtid::fold(&mut self.gtid_state, &position.gtid);
                    }
                    self.last = Some(position.clone());
                }
            },
            Step::Progress(progress) | Step::Gap(progress) => {
                self.reached = Some(progress.to);
                self.incarnation = progress.incarnation;
                if !progress.gtid_state.is_empty() {
                    self.gtid_state.clone_from(&progress.gtid_state);
                }
            }
            Step::Handover(handover) => {
                if let Some(reached) = self.reached {
                    self.former_lives.push((self.incarnation, reached));
                    if self.former_lives.len() > FORMER_LIVES_MAX {
                        self.former_lives.remove(0);
                    }
                }
                self.reached = Some(handover.start);
                self.incarnation = handover.to;
                if let Some(source) = &mut self.source {
                    source.server_uuid.clone_from(&handover.server_uuid);
                }
                if !handover.gtid_state.is_empty() {
                    self.gtid_state.clone_from(&handover.gtid_state);
                }
            }
            Step::SnapshotBegin(snapshot) => {
                self.snapshot =
                    Some(SnapshotProgress { uuid: snapshot.uuid, at: snapshot.at, ..SnapshotProgress::default() });
            }
            Step::SnapshotEnd(snapshot) => {
                self.snapshot = Some(SnapshotProgress {
                    uuid: snapshot.uuid,
                    at: snapshot.at,
                    complete: true,
                    ..SnapshotProgress::default()
                });
                self.reached = Some(snapshot.at);
                self.incarnation = snapshot.incarnation;
                if !snapshot.gtid_state.is_empty() {
                    self.gtid_state.clone_from(&snapshot.gtid_state);
                }
            }
            Step::Discard(_) => {
                self.open_chunk = None;
                return false;
            }
            Step::Definition(_) | Step::Data | Step::Heartbeat(_) | Step::End(_) | Step::Abort(_) | Step::Other => {
                return false;
            }
        }
        self.sequence += 1;
        true
    }
}

fn chunk_of(begin: &Begin) -> Option<(u64, u64)> {
    begin.chunk.as_ref().map(|chunk| (chunk.table, chunk.number))
}
