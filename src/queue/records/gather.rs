//! Cuts what a writer is given into records.
//!
//! ```text
//!  given out as pieces          bytes                                    finished
//! |──────────────────|────────────────|───────────────────|          [record] [record] …
//!                                      whole: up to here the record could end
//! ```
//!
//! A unit that was given out in pieces and then discarded is taken back: the record begins anew with the definitions that
//! came with it.

use std::collections::{HashMap, VecDeque};

use crate::error::{Class, Error, Result};
use crate::frame::{
    Begin, Commit, Coordinate, Digest, Frame, FrameWriter, HEADER_LEN, Header, Kind, Position, Segment, StreamHeader,
};

use super::super::Tail;
use super::super::tail::Predecessor;
use super::{add_frames, state_frame};

/// A record that is finished.
#[derive(Debug)]
pub(in super::super) struct Record {
    /// Its number, from 1.
    pub number: u64,
    /// Number of the first unit that ends in it.
    pub first_sequence: u64,
    /// What was reached before it; `None`: nothing was ever queued.
    pub reached: Option<Coordinate>,
    /// High half of the incarnation at `reached`.
    pub server: u32,
    /// Pieces that were given out before `bytes`.
    pub pieces: u64,
    /// The rest of its bytes.
    pub bytes: Vec<u8>,
    /// Bytes of all of it.
    pub length: u64,
    /// Digest over its frames.
    pub digest: u64,
    /// Transactions in it, chunks of snapshots left out.
    pub transactions: Vec<Transaction>,
    /// Definitions and stream headers in it.
    pub live: Vec<LiveFrame>,
    /// What is reached behind it.
    pub tail: Tail,
    /// Whether it repeats what is live, so that reading can begin at it, and holds nothing else.
    pub base: bool,
}

impl Record {
    /// What is reached behind it: the state before the record that comes next.
    pub fn behind(&self, queue: [u8; 16], channel: &str, epoch: u64) -> Segment {
        let before = Predecessor { number: self.number, length: self.length, digest: self.digest };
        self.tail.segment(queue, channel, epoch, before)
    }
}

/// What a commit frame says of its transaction.
#[derive(Clone, Debug)]
pub(in super::super) struct Transaction {
    /// Number of the unit.
    pub sequence: u64,
    /// `Commit` or `Prepared`.
    pub kind: Kind,
    /// Its position.
    pub position: Position,
    /// The rest.
    pub commit: Commit,
    /// Bytes of its frames.
    pub bytes: u64,
}

/// A frame that what follows needs, wherever reading begins.
#[derive(Clone, Debug)]
pub(in super::super) struct LiveFrame {
    /// `Definition` or `Stream`.
    pub kind: Kind,
    /// Key of a definition; 0 for a stream header.
    pub key: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Where the last boundary was.
#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    /// In `bytes`.
    at: usize,
    units: u64,
    transactions: usize,
    live: usize,
    digest: Digest,
}

/// What a writer goes on from.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Behind {
    /// Number of the last record; 0: there is none.
    pub record: u64,
    /// Its length and digest.
    pub previous: (u64, u64),
    /// What was reached with it.
    pub tail: Tail,
    /// Definitions that are live there.
    pub definitions: HashMap<u64, Vec<u8>>,
}

/// See the module's head.
#[derive(Debug)]
pub(in super::super) struct Gather {
    uuid: [u8; 16],
    channel: String,
    /// Epoch that heads carry.
    epoch: u64,
    /// A record is finished when it exceeds this.
    record_bytes: u64,
    /// What was reached with the last boundary.
    tail: Tail,
    definitions: HashMap<u64, Vec<u8>>,
    /// Number of the record that is being gathered, and what the one before had.
    number: u64,
    previous: (u64, u64),
    first_sequence: u64,
    reached: Option<Coordinate>,
    server: u32,
    bytes: Vec<u8>,
    given_out: u64,
    pieces: u64,
    digest: Digest,
    units: u64,
    transactions: Vec<Transaction>,
    live: Vec<LiveFrame>,
    whole: Whole,
    open: Open,
    discarded: bool,
    finished: VecDeque<Record>,
    finished_bytes: u64,
    /// For engines that keep no index of what is live: bytes after which that is repeated, and bytes since.
    base_after: Option<u64>,
    since_base: u64,
}

/// The transaction whose frames are coming.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    chunk: bool,
    bytes: u64,
}

impl Gather {
    /// Gathers records of about `record_bytes` for a writer of this epoch.
    pub fn new(uuid: [u8; 16], channel: &str, epoch: u64, record_bytes: u64, behind: Behind) -> Gather {
        let Behind { record, previous, tail, definitions } = behind;
        let mut gather = Gather {
            uuid,
            channel: channel.to_owned(),
            epoch,
            record_bytes,
            tail,
            definitions,
            number: record,
            previous,
            first_sequence: 0,
            reached: None,
            server: 0,
            bytes: Vec::new(),
            given_out: 0,
            pieces: 0,
            digest: Digest::default(),
            units: 0,
            transactions: Vec::new(),
            live: Vec::new(),
            whole: Whole::default(),
            open: Open::default(),
            discarded: false,
            finished: VecDeque::new(),
            finished_bytes: 0,
            base_after: None,
            since_base: 0,
        };
        gather.begin();
        gather
    }

    /// Repeats what is live in a record of its own whenever `bytes` have come since the last of these; `since` have come already.
    pub fn with_bases(mut self, bytes: u64, since: u64) -> Gather {
        self.base_after = Some(bytes);
        self.since_base = since;
        if self.number == 1 || self.since_base >= bytes {
            self.insert_base();
        }
        self
    }

    /// Puts a base before the record that is being gathered, which must have nothing in it.
    pub fn insert_base(&mut self) {
        debug_assert!(self.is_fresh());
        let tail = self.tail.clone();
        let mut out = FrameWriter::new();
        if let Some(source) = tail.source.as_deref() {
            let header = StreamHeader {
                start: tail.reached.unwrap_or(source.start),
                incarnation: tail.incarnation,
                gtid_state: tail.gtid_state.clone(),
                ..source.clone()
            };
            out.frame(Kind::Stream, |payload| header.encode(payload));
        }
        let mut keys: Vec<_> = self.definitions.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| **key);
        for (key, payload) in keys {
            out.definition(*key, payload);
        }
        let preamble = u64::from(tail.source.is_some()) + self.definitions.len() as u64;
        let mut bytes = state_frame(&Segment { preamble, ..self.head() });
        bytes.extend_from_slice(out.bytes());
        let mut digest = Digest::default();
        add_frames(&mut digest, &bytes);
        let record = Record {
            number: self.number,
            first_sequence: self.first_sequence,
            reached: self.reached,
            server: self.server,
            pieces: 0,
            length: bytes.len() as u64,
            bytes,
            digest: digest.value(),
            transactions: Vec::new(),
            live: Vec::new(),
            tail,
            base: true,
        };
        self.since_base = 0;
        self.push(record);
        self.begin();
    }

    fn push(&mut self, record: Record) {
        self.previous = (record.length, record.digest);
        self.since_base += record.length;
        self.finished_bytes += record.bytes.len() as u64;
        self.finished.push_back(record);
    }

    /// The state before the record that is being gathered, as its head tells it.
    fn head(&self) -> Segment {
        let before = Predecessor { number: self.number - 1, length: self.previous.0, digest: self.previous.1 };
        self.tail.segment(self.uuid, &self.channel, self.epoch, before)
    }

    /// Starts the next record.
    fn begin(&mut self) {
        self.number += 1;
        self.first_sequence = self.tail.sequence + 1;
        self.reached = self.tail.reached;
        self.server = self.tail.incarnation.server();
        self.given_out = 0;
        self.pieces = 0;
        self.restart();
    }

    /// Empties the record that is being gathered down to its head.
    fn restart(&mut self) {
        self.bytes = state_frame(&self.head());
        self.digest = Digest::default();
        add_frames(&mut self.digest, &self.bytes);
        self.units = 0;
        self.transactions.clear();
        self.live.clear();
        self.whole = Whole::default();
        self.mark_whole();
        // A head alone is nothing to store.
        self.whole.at = 0;
    }

    fn mark_whole(&mut self) {
        self.whole = Whole {
            at: self.bytes.len(),
            units: self.units,
            transactions: self.transactions.len(),
            live: self.live.len(),
            digest: self.digest,
        };
    }

    /// What was reached with the last boundary.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// See [`super::super::Writer::has_definition`].
    pub fn has_definition(&self, key: u64, payload: &[u8]) -> bool {
        self.definitions.get(&key).is_some_and(|held| held == payload)
    }

    /// See [`super::super::Writer::keep_definition`].
    pub fn keep_definition(&mut self, key: u64, payload: &[u8]) {
        self.definitions.insert(key, payload.to_vec());
    }

    /// Bytes that wait in memory.
    pub fn waiting_bytes(&self) -> u64 {
        self.finished_bytes + if self.is_fresh() { 0 } else { self.bytes.len() as u64 }
    }

    /// A record is finished when it exceeds this.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Bytes of the record that is being gathered.
    pub fn record_len(&self) -> u64 {
        self.given_out + self.bytes.len() as u64
    }

    fn is_fresh(&self) -> bool {
        self.whole.at == 0
            && self.live.is_empty()
            && self.units == 0
            && self.given_out == 0
            && self.digest == self.whole.digest
    }

    /// The number of the record that is being gathered, and whether some of it was given out already.
    pub fn open_record(&self) -> (u64, u64) {
        (self.number, self.pieces)
    }

    /// Adds whole frames.
    pub fn append(&mut self, frames: &[u8]) -> Result<()> {
        add_frames(&mut self.digest, frames);
        let mut rest = frames;
        while let Some(head) = rest.first_chunk::<HEADER_LEN>() {
            let header = Header::decode(head, 0)?;
            let length = HEADER_LEN + header.length as usize;
            let Some(bytes) = rest.get(..length) else {
                return Err(Error::new(Class::Bug, "a writer was given a piece of a frame"));
            };
            let payload = bytes.get(HEADER_LEN..).unwrap_or(&[]);
            self.frame(&Frame { header, payload, at: 0 }, bytes)?;
            rest = rest.get(length..).unwrap_or(&[]);
        }
        self.bytes.extend_from_slice(frames);
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8]) -> Result<()> {
        let txid = Coordinate(frame.header.id);
        self.open.bytes += bytes.len() as u64;
        match frame.kind() {
            Some(kind @ (Kind::Definition | Kind::Stream)) => {
                let key = if kind == Kind::Definition { frame.header.id } else { 0 };
                self.live.push(LiveFrame { kind, key, bytes: bytes.to_vec() });
            }
            Some(Kind::Begin) => {
                let begin = Begin::decode(frame.payload, 0)?;
                self.open = Open { chunk: begin.chunk.is_some(), bytes: bytes.len() as u64 };
            }
            Some(kind @ (Kind::Commit | Kind::Prepared)) => {
                self.units += 1;
                if !self.open.chunk {
                    let commit = Commit::decode(frame.payload, 0)?;
                    let position = commit.position(txid);
                    let sequence = self.first_sequence + self.units - 1;
                    self.transactions.push(Transaction { sequence, kind, position, commit, bytes: self.open.bytes });
                }
            }
            Some(Kind::Progress | Kind::Gap | Kind::Handover | Kind::SnapshotBegin | Kind::SnapshotEnd) => {
                self.units += 1;
            }
            Some(Kind::Discard) => self.discarded = true,
            _ => {}
        }
        Ok(())
    }

    /// Everything so far is whole, and `tail` is what it reaches. Returns whether pieces that were given out are void.
    pub fn boundary(&mut self, tail: &Tail) -> Result<bool> {
        let mut void = false;
        if std::mem::take(&mut self.discarded) {
            void = self.discard();
        }
        self.tail.clone_from(tail);
        self.mark_whole();
        if self.first_sequence + self.units != tail.sequence + 1 {
            return Err(Error::new(
                Class::Bug,
                format!(
                    "{} units end at unit {}, not {}",
                    self.units,
                    self.first_sequence + self.units - 1,
                    tail.sequence
                ),
            ));
        }
        if self.record_len() >= self.record_bytes {
            self.finish();
        }
        Ok(void)
    }

    /// What came since the last boundary never happened, but its definitions and headers did.
    fn discard(&mut self) -> bool {
        let kept = self.live.split_off(self.whole.live.min(self.live.len()));
        let void = self.given_out > 0 && self.whole.at == 0;
        if void {
            self.given_out = 0;
            self.pieces = 0;
        }
        if self.whole.at == 0 {
            self.restart();
        } else {
            self.bytes.truncate(self.whole.at);
            self.digest = self.whole.digest;
            self.units = self.whole.units;
            self.transactions.truncate(self.whole.transactions);
        }
        for live in kept {
            add_frames(&mut self.digest, &live.bytes);
            self.bytes.extend_from_slice(&live.bytes);
            self.live.push(live);
        }
        void
    }

    /// Ends the record at the last boundary, if it has anything; what is behind goes into the next.
    pub fn finish(&mut self) {
        if self.whole.at == 0 {
            return;
        }
        let whole = self.whole;
        let behind = self.bytes.split_off(whole.at);
        let transactions_behind = self.transactions.split_off(whole.transactions);
        let live_behind = self.live.split_off(whole.live);
        let units_behind = self.units - whole.units;
        let record = Record {
            number: self.number,
            first_sequence: self.first_sequence,
            reached: self.reached,
            server: self.server,
            pieces: self.pieces,
            length: self.given_out + whole.at as u64,
            bytes: std::mem::take(&mut self.bytes),
            digest: whole.digest.value(),
            transactions: std::mem::take(&mut self.transactions),
            live: std::mem::take(&mut self.live),
            tail: self.tail.clone(),
            base: false,
        };
        self.push(record);
        self.begin();
        if self.base_after.is_some_and(|bytes| self.since_base >= bytes) {
            self.insert_base();
        }
        add_frames(&mut self.digest, &behind);
        self.bytes.extend_from_slice(&behind);
        self.transactions = transactions_behind;
        self.live = live_behind;
        self.units = units_behind;
    }

    /// The oldest record that is finished and not yet taken.
    pub fn take_record(&mut self) -> Option<Record> {
        let record = self.finished.pop_front()?;
        self.finished_bytes -= record.bytes.len() as u64;
        Some(record)
    }

    /// Whether finished records wait.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Gives out up to `length` bytes of a unit that is still open: number of its record, number of the piece. Finished records have
    /// to be taken first.
    pub fn take_piece(&mut self, length: usize) -> (u64, u64, Vec<u8>) {
        let rest = self.bytes.split_off(length.min(self.bytes.len()));
        let piece = std::mem::replace(&mut self.bytes, rest);
        self.given_out += piece.len() as u64;
        let number = self.pieces;
        self.pieces += 1;
        (self.number, number, piece)
    }

    /// Position of a transaction that is gathered and not yet stored.
    pub fn held(&self, txid: Coordinate) -> Option<Position> {
        let finished = self.finished.iter().flat_map(|record| &record.transactions);
        let here = self.transactions.iter().take(self.whole.transactions);
        finished.chain(here).find(|transaction| transaction.position.txid == txid).map(|found| found.position.clone())
    }
}
