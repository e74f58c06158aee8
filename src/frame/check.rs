//! The state machine that every reader of a stream applies.
//!
//! ```text
//!             stream                begin                 commit | prepared | discard
//! Outside ──────────────▶ Between ───────────▶ Inside ────────────────────────────────▶ Between
//!    │ abort                 │ end | abort        │ data (seq, txid)      stream: the open transaction is forgotten
//!    ▼                       ▼                    ▼ abort: likewise
//! Finished ◀──────────── Finished             Inside
//! ```
//!
//! `stream` may come in any state (streams can be concatenated). `definition`, `heartbeat` and unknown skippable
//! frames may stand anywhere. In [`Checker::contiguous`] mode each transaction's `prev` and each progress' `from`
//! must be what was reached before, which proves that nothing is missing between first and last.

use super::envelope::{Abort, Begin, Commit, End, Handover, Progress, Snapshot, StreamHeader};
use super::header::{FrameError, Kind};
use super::position::{Coordinate, Position};
use super::reader::Frame;
use super::writer::Digest;

/// What a frame meant. Payloads other than data are decoded.
#[derive(Debug)]
pub enum Step {
    /// A stream starts; `discarded` is the txid of a transaction that was open and must be forgotten.
    Stream(Box<StreamHeader>, Option<Coordinate>),
    /// A table definition.
    Definition(u64),
    /// A transaction starts.
    Begin(Coordinate, Box<Begin>),
    /// A data frame of the open transaction.
    Data,
    /// The transaction is whole, its counts and digest agree.
    Commit(Position, Box<Commit>),
    /// An XA group is whole and prepared.
    Prepared(Position, Box<Commit>),
    /// The open transaction must be forgotten.
    Discard(Coordinate),
    /// A range without transactions.
    Progress(Box<Progress>),
    /// The writer lives.
    Heartbeat(Box<Progress>),
    /// The source lost a range.
    Gap(Box<Progress>),
    /// Another host of the same history.
    Handover(Box<Handover>),
    /// A snapshot starts.
    SnapshotBegin(Box<Snapshot>),
    /// A snapshot is whole.
    SnapshotEnd(Box<Snapshot>),
    /// The clean end of the stream.
    End(Box<End>),
    /// The writer failed; an open transaction must be forgotten.
    Abort(Box<Abort>),
    /// A queue's own frame, or an unknown skippable one: nothing to the stream.
    Other,
}

impl Step {
    /// Whether it ends a unit, that is a transaction or what stands between transactions and counts as progress.
    pub fn ends_unit(&self) -> bool {
        matches!(
            self,
            Step::Commit(..)
                | Step::Prepared(..)
                | Step::Progress(_)
                | Step::Handover(_)
                | Step::SnapshotBegin(_)
                | Step::SnapshotEnd(_)
        )
    }
}

/// What a frame meant to one who only wants to know whether everything is whole.
#[derive(Debug)]
pub enum Passed {
    /// A transaction starts; this is its `prev`.
    Begin(Coordinate),
    /// A data frame of the open transaction.
    Data,
    /// The transaction (or prepared group) is whole.
    End,
    /// Anything else.
    Other(Step),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Between,
    Inside { txid: Coordinate, seq: u32, continues: bool },
    Finished,
}

/// Checks the order, counts and digests of the frames of one or more concatenated streams.
#[derive(Clone, Debug)]
pub struct Checker {
    state: State,
    digest: Digest,
    contiguous: bool,
    snapshot: bool,
    reached: Option<Coordinate>,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker::new()
    }
}

impl Checker {
    /// A checker that stands before the first frame and does not look at contiguity.
    pub fn new() -> Checker {
        Checker { state: State::Outside, digest: Digest::default(), contiguous: false, snapshot: false, reached: None }
    }

    /// Also demands that every transaction and progress goes on from what was reached before, within a stream.
    pub fn contiguous() -> Checker {
        Checker { contiguous: true, ..Checker::new() }
    }

    /// A checker that stands between transactions of a stream whose header was seen elsewhere (a queue segment).
    pub fn resumed(reached: Coordinate) -> Checker {
        Checker { state: State::Between, reached: Some(reached), ..Checker::new() }
    }

    /// What the source has reached as far as whole transactions and progress tell.
    pub fn reached(&self) -> Option<Coordinate> {
        self.reached
    }

    /// The txid of the transaction that is open.
    pub fn open_transaction(&self) -> Option<Coordinate> {
        match self.state {
            State::Inside { txid, .. } => Some(txid),
            _ => None,
        }
    }

    /// Whether `end` or `abort` was the last thing seen.
    pub fn finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Forgets the open transaction, as a reader does that goes on after damage.
    pub fn resynchronise(&mut self) {
        self.state = State::Between;
        self.reached = None;
    }

    /// Takes the next frame. After an error the state is as before it.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<Step, FrameError> {
        let at = frame.at;
        let Some(kind) = frame.kind() else { return Ok(Step::Other) };
        match kind {
            Kind::Stream => {
                let header = StreamHeader::decode(frame.payload, at)?;
                let discarded = self.open_transaction();
                self.state = State::Between;
                self.reached = Some(header.start);
                self.snapshot = false;
                Ok(Step::Stream(Box::new(header), discarded))
            }
            Kind::Definition => match self.state {
                State::Outside | State::Finished => Err(self.order(frame, kind)),
                _ => Ok(Step::Definition(frame.header.id)),
            },
            Kind::Heartbeat => Ok(Step::Heartbeat(Box::new(Progress::decode(frame.payload, at)?))),
            Kind::Segment | Kind::Watermark => Ok(Step::Other),
            Kind::Abort => {
                let abort = Abort::decode(frame.payload, at)?;
                self.state = State::Finished;
                Ok(Step::Abort(Box::new(abort)))
            }
            Kind::Begin => {
                let begin = Begin::decode(frame.payload, at)?;
                self.begun(frame, begin.prev, begin.chunk.is_some())?;
                Ok(Step::Begin(Coordinate(frame.header.id), Box::new(begin)))
            }
            Kind::Data => self.data(frame).map(|()| Step::Data),
            Kind::Commit | Kind::Prepared => {
                self.inside(frame, kind)?;
                let commit = Commit::decode(frame.payload, at)?;
                let txid = self.ended(frame, kind, commit.end, commit.frame_count, commit.frame_digest)?;
                let position = commit.position(txid);
                let commit = Box::new(commit);
                Ok(if kind == Kind::Commit { Step::Commit(position, commit) } else { Step::Prepared(position, commit) })
            }
            Kind::Discard => {
                let (txid, ..) = self.inside(frame, kind)?;
                self.state = State::Between;
                Ok(Step::Discard(txid))
            }
            Kind::Progress | Kind::Gap => {
                self.between(frame, kind)?;
                let progress = Progress::decode(frame.payload, at)?;
                self.goes_on(progress.from, at)?;
                self.reached = Some(progress.to);
                let progress = Box::new(progress);
                Ok(if kind == Kind::Progress { Step::Progress(progress) } else { Step::Gap(progress) })
            }
            Kind::Handover => {
                self.between(frame, kind)?;
                let handover = Handover::decode(frame.payload, at)?;
                self.reached = Some(handover.start);
                Ok(Step::Handover(Box::new(handover)))
            }
            Kind::SnapshotBegin => {
                self.between(frame, kind)?;
                Ok(Step::SnapshotBegin(Box::new(Snapshot::decode(frame.payload, at)?)))
            }
            Kind::SnapshotEnd => {
                self.between(frame, kind)?;
                let snapshot = Snapshot::decode(frame.payload, at)?;
                self.reached = Some(snapshot.at);
                Ok(Step::SnapshotEnd(Box::new(snapshot)))
            }
            Kind::End => {
                self.between(frame, kind)?;
                let end = End::decode(frame.payload, at)?;
                self.goes_on(end.reached, at)?;
                self.state = State::Finished;
                Ok(Step::End(Box::new(end)))
            }
        }
    }

    /// As [`Checker::frame`], for those who want no more of a transaction than that it is whole: the same is checked, and nothing allocated.
    #[inline]
    pub fn pass(&mut self, frame: &Frame<'_>) -> Result<Passed, FrameError> {
        match frame.kind() {
            Some(Kind::Begin) => {
                let (prev, chunk) = Begin::check(frame.payload, frame.at)?;
                self.begun(frame, prev, chunk)?;
                Ok(Passed::Begin(prev))
            }
            Some(Kind::Data) => self.data(frame).map(|()| Passed::Data),
            Some(kind @ (Kind::Commit | Kind::Prepared)) => {
                self.inside(frame, kind)?;
                let (end, frame_count, frame_digest) = Commit::check(frame.payload, frame.at)?;
                self.ended(frame, kind, end, frame_count, frame_digest)?;
                Ok(Passed::End)
            }
            _ => self.frame(frame).map(Passed::Other),
        }
    }

    fn begun(&mut self, frame: &Frame<'_>, prev: Coordinate, chunk: bool) -> Result<(), FrameError> {
        if self.state != State::Between || frame.header.seq != 0 {
            return Err(self.order(frame, Kind::Begin));
        }
        if !chunk {
            self.goes_on(prev, frame.at)?;
        }
        self.digest = Digest::default();
        self.digest.add(frame.header.payload_crc, frame.header.length);
        self.state = State::Inside { txid: Coordinate(frame.header.id), seq: 1, continues: false };
        self.snapshot = chunk;
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>) -> Result<(), FrameError> {
        let (txid, seq, continues) = self.inside(frame, Kind::Data)?;
        let continued = frame.header.flags & super::header::flags::CONTINUED != 0;
        if continued != continues {
            return Err(FrameError::Sequence {
                at: frame.at,
                what: "a record spans frames that do not follow each other".into(),
            });
        }
        self.digest.add(frame.header.payload_crc, frame.header.length);
        let continues = frame.header.flags & super::header::flags::CONTINUES != 0;
        self.state = State::Inside { txid, seq: seq + 1, continues };
        Ok(())
    }

    /// The open transaction ends here, as its commit says.
    fn ended(
        &mut self,
        frame: &Frame<'_>,
        kind: Kind,
        end: Coordinate,
        frame_count: u32,
        frame_digest: u64,
    ) -> Result<Coordinate, FrameError> {
        let (txid, seq, continues) = self.inside(frame, kind)?;
        if frame_count != seq || frame_digest != self.digest.value() || continues {
            return Err(FrameError::Sequence {
                at: frame.at,
                what: format!(
                    "transaction {txid} has {seq} frames with digest {:016x}, its commit says {frame_count} with {frame_digest:016x}",
                    self.digest.value(),
                ),
            });
        }
        self.state = State::Between;
        if !self.snapshot {
            self.reached = Some(end);
        }
        Ok(txid)
    }

    fn inside(&self, frame: &Frame<'_>, kind: Kind) -> Result<(Coordinate, u32, bool), FrameError> {
        match self.state {
            State::Inside { txid, seq, continues } if frame.header.id == txid.0 && frame.header.seq == seq => {
                Ok((txid, seq, continues))
            }
            _ => Err(self.order(frame, kind)),
        }
    }

    fn between(&self, frame: &Frame<'_>, kind: Kind) -> Result<(), FrameError> {
        if self.state == State::Between { Ok(()) } else { Err(self.order(frame, kind)) }
    }

    fn goes_on(&self, from: Coordinate, at: u64) -> Result<(), FrameError> {
        match self.reached {
            Some(reached) if self.contiguous && reached != from => Err(FrameError::Sequence {
                at,
                what: format!("the stream goes on from {from}, but had reached {reached}"),
            }),
            _ => Ok(()),
        }
    }

    fn order(&self, frame: &Frame<'_>, kind: Kind) -> FrameError {
        let place = match self.state {
            State::Outside => "before any stream header".to_owned(),
            State::Between => "between transactions".to_owned(),
            State::Inside { txid, seq, .. } => format!("inside transaction {txid}, where frame {seq} should be"),
            State::Finished => "after the end of the stream".to_owned(),
        };
        FrameError::Sequence {
            at: frame.at,
            what: format!(
                "{} frame of {} with number {} stands {place}",
                kind.name(),
                Coordinate(frame.header.id),
                frame.header.seq
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FrameReader, FrameWriter, SliceFrames};
    use super::*;

    fn stream() -> Vec<u8> {
        let mut writer = FrameWriter::new();
        let header = StreamHeader { source: "mysql".into(), start: Coordinate(4), ..StreamHeader::default() };
        writer.frame(Kind::Stream, |out| header.encode(out));
        for number in 0..3u64 {
            let begin = Begin { prev: Coordinate(4 + number * 100), ..Begin::default() };
            writer.begin(Coordinate(4 + number * 100), &begin);
            writer.definition(7, b"table");
            writer.data(0, b"rows");
            let mut commit = Commit { end: Coordinate(104 + number * 100), ..Commit::default() };
            writer.commit(Kind::Commit, &mut commit);
        }
        let end = End { reached: Coordinate(304), ..End::default() };
        writer.frame(Kind::End, |out| end.encode(out));
        writer.bytes().to_vec()
    }

    fn check(bytes: &[u8]) -> Result<(usize, bool), FrameError> {
        let mut frames = SliceFrames::new(bytes, 0);
        let mut checker = Checker::contiguous();
        let mut passing = Checker::contiguous();
        let mut commits = 0;
        while let Some(frame) = frames.next()? {
            let (step, passed) = (checker.frame(&frame), passing.pass(&frame));
            assert_eq!(step.as_ref().err(), passed.as_ref().err(), "both check the same");
            let committed = matches!(step?, Step::Commit(..));
            assert_eq!(matches!(passed?, Passed::End), committed);
            commits += usize::from(committed);
        }
        Ok((commits, checker.finished()))
    }

    #[test]
    fn a_stream_is_whole_and_two_make_one() {
        assert_eq!(check(&stream()), Ok((3, true)));
        let twice = [stream(), stream()].concat();
        assert_eq!(check(&twice), Ok((6, true)));
    }

    #[test]
    fn a_frame_left_out_doubled_or_exchanged_is_noticed() {
        let bytes = stream();
        let mut cuts = vec![0];
        let mut frames = SliceFrames::new(&bytes, 0);
        while frames.next().unwrap().is_some() {
            cuts.push(frames.at());
        }
        for pair in cuts.windows(2).skip(1) {
            let frame = &bytes[pair[0]..pair[1]];
            // A definition outside of the digest may come twice, or be missing as far as the envelope can tell.
            if frame[super::super::header::KIND_AT] == Kind::Definition as u8 {
                continue;
            }
            let without = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
            assert!(check(&without).is_err() || check(&without) != Ok((3, true)));
            let doubled = [&bytes[..pair[1]], frame, &bytes[pair[1]..]].concat();
            assert!(check(&doubled).is_err());
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_never_gives_a_whole_stream() {
        let bytes = stream();
        for length in 0..bytes.len() {
            assert_ne!(check(&bytes[..length]), Ok((3, true)), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_reader_of_single_bytes_sees_the_same_frames() {
        struct OneByte<'a>(&'a [u8]);
        impl std::io::Read for OneByte<'_> {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                let count = usize::from(!self.0.is_empty() && !out.is_empty());
                out[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let bytes = stream();
        let mut slow = FrameReader::new(OneByte(&bytes));
        let mut fast = SliceFrames::new(&bytes, 0);
        while let Some(frame) = fast.next().unwrap() {
            let other = slow.next().unwrap().unwrap();
            assert_eq!((other.header, other.payload, other.at), (frame.header, frame.payload, frame.at));
        }
        assert!(slow.next().unwrap().is_none());
    }
}
