//! Streams for tests of what works on the envelope alone. Every byte of a transaction follows from its place.

use rlog::frame::{
    Abort, Begin, Checker, Chunk, Commit, Coordinate, End, FrameReader, FrameWriter, Handover, Incarnation, Kind,
    Position, Progress, Snapshot, Step, StreamHeader,
};

/// The server that streams come from, unless a test says otherwise.
pub const SERVER: u32 = 0x5eed;

/// Writes a stream.
#[derive(Debug)]
pub struct Stream {
    out: FrameWriter,
    /// What has been reached.
    pub at: Coordinate,
    pub incarnation: Incarnation,
    /// Definition keys that were written.
    defined: Vec<u64>,
    pub transactions: Vec<Position>,
}

impl Stream {
    /// A stream that starts at offset 4 of file 1.
    pub fn new() -> Stream {
        Stream::at(Coordinate::new(1, 4).unwrap())
    }

    /// A stream that goes on from `start`.
    pub fn at(start: Coordinate) -> Stream {
        Stream::with(start, Incarnation::new(SERVER, start.file() as u32), |_| {})
    }

    /// A stream with a header of its own.
    pub fn with(start: Coordinate, incarnation: Incarnation, change: impl FnOnce(&mut StreamHeader)) -> Stream {
        let mut header = StreamHeader {
            source: "mariadb".into(),
            server_version: "10.11.18-MariaDB".into(),
            incarnation,
            server_id: 1,
            start,
            log_name: "mysql-bin".into(),
            windows: "source".into(),
            ..StreamHeader::default()
        };
        change(&mut header);
        let mut out = FrameWriter::new();
        out.frame(Kind::Stream, |payload| header.encode(payload));
        Stream { out, at: start, incarnation, defined: Vec::new(), transactions: Vec::new() }
    }

    /// A transaction with about `bytes` of data in frames of at most 1000.
    pub fn transaction(&mut self, bytes: usize) -> &mut Stream {
        self.open(bytes);
        self.commit(Kind::Commit, 0)
    }

    /// Everything of a transaction but its end. The group ends `bytes + 100` behind its start.
    pub fn open(&mut self, bytes: usize) -> &mut Stream {
        let (txid, prev) = (self.at, self.at);
        self.open_at(txid, prev, bytes)
    }

    pub fn open_at(&mut self, txid: Coordinate, prev: Coordinate, bytes: usize) -> &mut Stream {
        let begin = Begin { prev, incarnation: self.incarnation, ..Begin::default() };
        self.out.begin(txid, &begin);
        if !self.defined.contains(&7) {
            self.define(7, b"table seven");
        }
        let data: Vec<u8> = (0..bytes).map(|n| (txid.0 as usize + n) as u8).collect();
        for piece in data.chunks(1000) {
            self.out.data(0, piece);
        }
        self.at = Coordinate(txid.0 + bytes as u64 + 100);
        self.transactions.push(Position { txid, ..Position::default() });
        self
    }

    /// Ends the open transaction; `twist` changes the source's evidence.
    pub fn commit(&mut self, kind: Kind, twist: u32) -> &mut Stream {
        let txid = self.transactions.last().unwrap().txid;
        let mut commit = Commit {
            end: self.at,
            incarnation: self.incarnation,
            source_digest: (txid.0 as u32).wrapping_mul(2_654_435_761) ^ twist,
            ..Commit::default()
        };
        self.out.commit(kind, &mut commit);
        *self.transactions.last_mut().unwrap() = commit.position(txid);
        self
    }

    pub fn discard(&mut self) -> &mut Stream {
        let gone = self.transactions.pop().unwrap();
        self.out.discard();
        self.at = gone.txid;
        self
    }

    pub fn define(&mut self, key: u64, payload: &[u8]) -> &mut Stream {
        self.defined.push(key);
        self.out.definition(key, payload);
        self
    }

    pub fn progress(&mut self, bytes: u64) -> &mut Stream {
        let to = Coordinate(self.at.0 + bytes);
        self.progress_to(to)
    }

    pub fn progress_to(&mut self, to: Coordinate) -> &mut Stream {
        let progress = Progress { from: self.at, to, incarnation: self.incarnation, ..Progress::default() };
        self.out.frame(Kind::Progress, |payload| progress.encode(payload));
        self.at = to;
        self
    }

    pub fn gap_to(&mut self, to: Coordinate) -> &mut Stream {
        let gap = Progress {
            from: self.at,
            to,
            incarnation: self.incarnation,
            reason: "purged".into(),
            ..Progress::default()
        };
        self.out.frame(Kind::Gap, |payload| gap.encode(payload));
        self.at = to;
        self
    }

    pub fn heartbeat(&mut self) -> &mut Stream {
        let beat = Progress { from: self.at, to: self.at, incarnation: self.incarnation, ..Progress::default() };
        self.out.frame(Kind::Heartbeat, |payload| beat.encode(payload));
        self
    }

    pub fn handover(&mut self, server: u32, start: Coordinate) -> &mut Stream {
        let to = Incarnation::new(server, start.file() as u32);
        let handover = Handover { from: self.incarnation, to, start, ..Handover::default() };
        self.out.frame(Kind::Handover, |payload| handover.encode(payload));
        (self.incarnation, self.at) = (to, start);
        self
    }

    /// A snapshot of `chunks` chunks of one table, at what has been reached.
    pub fn snapshot(&mut self, uuid: u8, chunks: u64) -> &mut Stream {
        self.snapshot_begin(uuid);
        for number in 0..chunks {
            self.chunk(uuid, number);
        }
        self.snapshot_end(uuid)
    }

    fn snapshot_frame(&self, uuid: u8) -> Snapshot {
        Snapshot { uuid: [uuid; 16], at: self.at, incarnation: self.incarnation, ..Snapshot::default() }
    }

    pub fn snapshot_begin(&mut self, uuid: u8) -> &mut Stream {
        let snapshot = self.snapshot_frame(uuid);
        self.out.frame(Kind::SnapshotBegin, |payload| snapshot.encode(payload));
        self
    }

    pub fn snapshot_end(&mut self, uuid: u8) -> &mut Stream {
        let snapshot = self.snapshot_frame(uuid);
        self.out.frame(Kind::SnapshotEnd, |payload| snapshot.encode(payload));
        self
    }

    pub fn chunk(&mut self, uuid: u8, number: u64) -> &mut Stream {
        let chunk = Some(Chunk { snapshot: [uuid; 16], table: 7, number });
        let begin = Begin { incarnation: self.incarnation, chunk, ..Begin::default() };
        self.out.begin(Coordinate(number), &begin);
        self.out.data(0, &[number as u8; 300]);
        let mut commit = Commit { incarnation: self.incarnation, ..Commit::default() };
        self.out.commit(Kind::Commit, &mut commit);
        self
    }

    /// The bytes so far, without an end.
    pub fn bytes(&self) -> Vec<u8> {
        self.out.bytes().to_vec()
    }

    /// The bytes with a clean end.
    pub fn end(&mut self) -> Vec<u8> {
        let end = End { reached: self.at, incarnation: self.incarnation, ..End::default() };
        self.out.frame(Kind::End, |payload| end.encode(payload));
        self.bytes()
    }

    /// The bytes with the writer's failure.
    pub fn abort(&mut self, status: u8) -> Vec<u8> {
        let abort = Abort { status, message: "it broke".into(), ..Abort::default() };
        self.out.frame(Kind::Abort, |payload| abort.encode(payload));
        self.bytes()
    }
}

/// A transaction as a reader sees it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub position: Position,
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.position, self.data.len())
    }
}

/// The whole transactions of a stream, its order, counts and contiguity checked.
pub fn transactions(bytes: &[u8]) -> Vec<Seen> {
    let mut reader = FrameReader::new(bytes);
    let mut fold = Fold::default();
    while let Some(frame) = reader.next().unwrap() {
        fold.frame(&frame);
    }
    fold.seen
}

/// Folds frames into transactions.
#[derive(Debug)]
pub struct Fold {
    checker: Checker,
    open: Vec<u8>,
    pub seen: Vec<Seen>,
    /// Kinds of the other units, in order.
    pub marks: Vec<Kind>,
    pub definitions: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl Default for Fold {
    fn default() -> Fold {
        Fold {
            checker: Checker::contiguous(),
            open: Vec::new(),
            seen: Vec::new(),
            marks: Vec::new(),
            definitions: Default::default(),
        }
    }
}

impl Fold {
    pub fn frame(&mut self, frame: &rlog::frame::Frame<'_>) {
        match self.checker.frame(frame).unwrap() {
            Step::Begin(..) => self.open.clear(),
            Step::Data => self.open.extend_from_slice(frame.payload),
            Step::Commit(position, _) | Step::Prepared(position, _) => {
                self.seen.push(Seen { position, data: std::mem::take(&mut self.open) });
            }
            Step::Definition(key) => {
                self.definitions.insert(key, frame.payload.to_vec());
            }
            Step::Stream(..) => {}
            _ => self.marks.extend(frame.kind()),
        }
    }
}
