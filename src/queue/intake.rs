//! `put`: judges an incoming stream against what the queue holds and stores what is new.
//!
//! For each unit of the stream, with *reached* the end of what the queue holds:
//!
//! ```text
//! transaction   prev == reached                 new: stored as it came
//!               prev < reached <= txid          new behind a range that was progress: stored with prev = reached
//!               end <= reached                  repeat: nothing, if the held commit (should it still be held) agrees; else 83
//!               prev > reached                  gap: 81
//!               other server, other stamp       foreign: 83
//! progress      to <= reached                   repeat
//!               from <= reached < to            trimmed to reached, joined with its neighbours, stored before a sync
//! snapshot      its UUID is the last one's      chunks that are held are repeats
//!               at < reached                    80: what lies between would be missing from the target
//! stream        inside a transaction            that transaction is discarded
//! end           clean
//! abort         whole units are made durable, then its status
//! end of file   without end or abort: whole units are made durable, then 75
//! ```
//!
//! Repeats are judged by ids and source digest only. Definitions are stored when they differ from the live one; those
//! that a passed-over transaction brought are stored before the next new unit.
//!
//! Bytes are not copied on their way: a chunk of whole, checked frames is cut into runs of what is new, and a run is
//! written from the buffer it was read into. [`put()`] reads and checks in a second thread, and syncs in a third: while one batch is
//! being synced, the next is judged and written. One sync serves all that has arrived meanwhile.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::frame::{
    Begin, Checker, Commit, Coordinate, Digest, Frame, FrameWriter, HEADER_LEN, Header, Kind, Position, Progress, Step,
    StreamHeader,
};

use self::pass::{PASS_MEMORY_BYTES, Pass};

use super::{Tail, Writer};

mod judge;
mod pass;
mod put;

pub use put::put;

/// How `put` works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Wait this long for more before a sync; zero syncs when nothing more has arrived.
    pub sync_interval: Duration,
    /// Sync at the latest when this many bytes wait for it.
    pub sync_bytes: u64,
    /// Wait before a transaction while the channel occupies more than this many bytes.
    pub space_limit: Option<u64>,
    /// Ends the work: whole units are made durable, then [`put()`] returns.
    pub stop: Arc<AtomicBool>,
    /// The queue's address as the user gave it, for hints.
    pub address: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sync_interval: Duration::ZERO,
            sync_bytes: 4 << 20,
            space_limit: None,
            stop: Arc::default(),
            address: "QUEUE".to_owned(),
        }
    }
}

/// What `put` has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions stored.
    pub transactions: u64,
    /// Transactions that were held already.
    pub repeats: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Units of this stream (transactions, prepared groups, progress, handovers, marks of snapshots) that were judged:
    /// stored, or held before. Once told of as durable, the writer of the stream need not keep them.
    pub units: u64,
}

/// Told when more is durable.
pub type OnDurable<'a> = &'a mut dyn FnMut(&Tail, &Counts) -> Result<()>;

/// How an input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There is no more.
    EndOfFile,
    /// We were asked to stop.
    Stopped,
}

/// What happens to the frames of the unit at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Between units, or inside one that is held already.
    Skip,
    /// Inside a new unit.
    Store,
}

/// The judgement. [`put()`] drives it from a pipe; tests drive it from slices.
pub struct Intake<'a> {
    writer: Box<dyn Writer>,
    options: Options,
    name: String,
    checker: Checker,
    tail: Tail,
    counts: Counts,
    /// Units that were told of.
    told: u64,
    mode: Mode,
    /// The header of the stream at hand, and whether it still has to be stored before the next new unit.
    header: Option<Box<StreamHeader>>,
    header_pending: bool,
    definitions: BTreeMap<u64, Vec<u8>>,
    progress: Option<Progress>,
    /// Whether the snapshot that is passing by is one that is held wholly.
    held_snapshot: bool,
    /// The open transaction's own digest, when its begin had to be rewritten.
    rewritten: Option<Digest>,
    /// The open transaction that is being stored, and the number of its next frame.
    open: Option<Coordinate>,
    seq: u32,
    /// Whether the open transaction is a chunk of a snapshot.
    chunk: bool,
    abort: Option<Error>,
    /// Units that are stored and not yet synced.
    unsynced: bool,
    /// A sync that was started: what is durable once it has ended.
    syncing: Option<Box<(Tail, Counts)>>,
    /// Frames of an open transaction were appended behind the last boundary.
    partial: Option<Coordinate>,
    scratch: FrameWriter,
    pass: Option<Pass<'a>>,
    on_durable: OnDurable<'a>,
}

/// What is stored of a chunk: a run of its bytes.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: usize,
    /// End of the last whole unit in it.
    whole: usize,
}

impl<'a> Intake<'a> {
    /// Judges against what `writer` holds. `name` names the stream in messages.
    pub fn new(
        writer: Box<dyn Writer>,
        options: Options,
        name: &str,
        pass: Option<&'a mut dyn Write>,
        on_durable: OnDurable<'a>,
    ) -> Intake<'a> {
        let tail = writer.tail().clone();
        Intake {
            writer,
            options,
            name: name.to_owned(),
            checker: Checker::contiguous(),
            tail,
            counts: Counts::default(),
            told: 0,
            mode: Mode::Skip,
            header: None,
            header_pending: false,
            definitions: BTreeMap::new(),
            progress: None,
            held_snapshot: false,
            rewritten: None,
            open: None,
            seq: 0,
            chunk: false,
            abort: None,
            unsynced: false,
            syncing: None,
            partial: None,
            scratch: FrameWriter::new(),
            pass: pass.map(|out| Pass {
                out,
                waiting: tempfile::SpooledTempFile::new(PASS_MEMORY_BYTES),
                whole: 0,
                length: 0,
            }),
            on_durable,
        }
    }

    /// What is stored, synced or not.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Whether something is stored and not yet synced.
    pub fn has_unsynced(&self) -> bool {
        self.unsynced
            || self.syncing.is_some()
            || self.progress.is_some()
            || self.pass.as_ref().is_some_and(|pass| pass.whole > 0)
    }

    /// Whether readers take what is stored before it is synced.
    pub fn has_early_readers(&self) -> bool {
        self.writer.has_early_readers()
    }

    /// Bytes that wait for a sync.
    pub fn unsynced_bytes(&self) -> u64 {
        self.writer.unsynced_bytes().max(self.pass.as_ref().map_or(0, |pass| pass.whole))
    }

    /// Takes whole frames whose checksums are right, from offset `at` of the stream. Their salts are rewritten.
    pub fn chunk(&mut self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.counts.bytes += bytes.len() as u64;
        let mut run: Option<Run> = None;
        let mut here = 0;
        if self.mode == Mode::Store {
            run = Some(Run { from: 0, whole: 0 });
        }
        while here < bytes.len() {
            let result = self.frame(bytes, here, at + here as u64, &mut run);
            match result {
                Ok(next) => here = next,
                Err(error) => {
                    // What was judged before the error stands.
                    let whole = run.map_or(here, |run| run.whole);
                    self.flush(bytes, &mut run, whole)?;
                    // What is wrong with the stream stands at this frame; what is wrong with the queue has its own place.
                    let error = if error.place().is_none() { error.at(at + here as u64) } else { error };
                    return Err(error.in_file(&self.name));
                }
            }
        }
        self.flush(bytes, &mut run, here)
    }

    /// Stores the run up to `to`, which is whole up to `run.whole`.
    fn flush(&mut self, bytes: &mut [u8], run: &mut Option<Run>, to: usize) -> Result<()> {
        let Some(Run { from, whole }) = run.take() else { return Ok(()) };
        if let Some(units) = bytes.get_mut(from..whole).filter(|units| !units.is_empty()) {
            self.writer.append(units)?;
            self.boundary()?;
        }
        if let Some(part) = bytes.get_mut(whole.max(from)..to).filter(|part| !part.is_empty()) {
            self.writer.append(part)?;
            self.partial = self.partial.or(self.open);
        }
        Ok(())
    }

    fn boundary(&mut self) -> Result<()> {
        self.partial = None;
        self.unsynced = true;
        self.writer.boundary(&self.tail)
    }

    /// Judges the frame at `here` and returns where the next one begins.
    fn frame(&mut self, bytes: &mut [u8], here: usize, at: u64, run: &mut Option<Run>) -> Result<usize> {
        let broken = || Error::damage("a chunk is not made of whole frames").at(at);
        let head = bytes.get(here..).and_then(|rest| rest.first_chunk::<HEADER_LEN>()).ok_or_else(broken)?;
        let header = Header::decode(head, at)?;
        let next = here + HEADER_LEN + header.length as usize;
        let payload = bytes.get(here + HEADER_LEN..next).ok_or_else(broken)?;
        let frame = Frame { header, payload, at };
        let was_open = self.checker.open_transaction();
        let step = self.checker.frame(&frame)?;
        let unit = step.ends_unit();
        if let Some(pass) = &mut self.pass {
            pass.add(&frame)?;
        }
        match step {
            Step::Data => {
                self.seq = header.seq + 1;
                if let Some(digest) = &mut self.rewritten {
                    digest.add(header.payload_crc, header.length);
                }
            }
            Step::Begin(txid, begin) => {
                self.seq = 1;
                self.begin(bytes, here, next, at, txid, &begin, run)?;
            }
            Step::Commit(position, commit) | Step::Prepared(position, commit) => {
                let kind = header.known_kind().unwrap_or(Kind::Commit);
                self.commit(bytes, here, next, at, kind, position, *commit, run)?;
            }
            Step::Definition(key) => {
                let same = self.writer.has_definition(key, payload);
                if self.mode == Mode::Store && !same {
                    let payload = payload.to_vec();
                    self.writer.keep_definition(key, &payload);
                } else {
                    if same {
                        self.definitions.remove(&key);
                    } else {
                        self.definitions.insert(key, payload.to_vec());
                    }
                    self.leave_out(bytes, here, next, run)?;
                }
            }
            Step::Stream(header, discarded) => {
                if let Some(txid) = discarded.or(was_open) {
                    self.forget(bytes, here, txid, run)?;
                }
                self.stream(header, at)?;
                self.flush(bytes, run, here)?;
            }
            Step::Discard(txid) => {
                self.forget(bytes, here, txid, run)?;
                self.flush(bytes, run, here)?;
            }
            Step::Progress(progress) => {
                self.flush(bytes, run, here)?;
                self.progress(&progress, at)?;
            }
            Step::Gap(gap) => {
                let reason = if gap.reason.is_empty() { String::new() } else { format!(": {}", gap.reason) };
                return Err(Error::new(
                    Class::Gap,
                    format!("the source lost what lies between {} and {}{reason}", gap.from, gap.to),
                )
                .at(at)
                .hint(format!(
                    "take a new snapshot into a fresh queue: `rlog-queue reset {}`, then `rlog-extract --snapshot …`",
                    self.options.address
                )));
            }
            Step::Handover(handover) => {
                self.flush(bytes, run, here)?;
                self.handover(&handover)?;
            }
            Step::SnapshotBegin(snapshot) => {
                self.flush(bytes, run, here)?;
                self.snapshot_begin(&snapshot, at)?;
            }
            Step::SnapshotEnd(snapshot) => {
                self.flush(bytes, run, here)?;
                self.snapshot_end(&snapshot, at)?;
            }
            Step::End(end) => {
                self.flush(bytes, run, here)?;
                let reached = self.reached();
                if reached.is_some_and(|reached| end.reached > reached) {
                    return Err(self.gap(end.reached, at));
                }
            }
            Step::Abort(abort) => {
                if let Some(txid) = was_open {
                    self.forget(bytes, here, txid, run)?;
                }
                self.flush(bytes, run, here)?;
                let class = Class::from_exit_status(abort.status).unwrap_or(Class::Io);
                let message = if abort.message.is_empty() { "no message".to_owned() } else { abort.message.clone() };
                self.abort = Some(
                    Error::new(class, format!("the writer of this stream failed: {message}"))
                        .hint("mend what it reports, then run the same pipeline again; what arrived whole is safe"),
                );
            }
            Step::Heartbeat(_) => self.leave_out(bytes, here, next, run)?,
            Step::Other => {
                // What a newer version may skip is carried where it stands inside of something new.
                if header.known_kind().is_some() || self.mode == Mode::Skip {
                    self.leave_out(bytes, here, next, run)?;
                }
            }
        }
        self.counts.units += u64::from(unit);
        if self.checker.open_transaction().is_none() {
            self.mode = Mode::Skip;
            if let Some(pass) = &mut self.pass {
                pass.whole = pass.length;
            }
        }
        Ok(next)
    }

    /// Cuts the frame between `here` and `next` out of the run.
    fn leave_out(&mut self, bytes: &mut [u8], here: usize, next: usize, run: &mut Option<Run>) -> Result<()> {
        if run.is_some() {
            self.flush(bytes, run, here)?;
            *run = Some(Run { from: next, whole: next });
        }
        Ok(())
    }

    /// The open transaction never happened: what is stored of it is followed by a discard.
    fn forget(&mut self, bytes: &mut [u8], here: usize, txid: Coordinate, run: &mut Option<Run>) -> Result<()> {
        if self.mode == Mode::Store {
            self.flush(bytes, run, here)?;
            self.discard(txid)?;
        }
        self.mode = Mode::Skip;
        self.open = None;
        self.rewritten = None;
        *run = None;
        Ok(())
    }

    fn discard(&mut self, txid: Coordinate) -> Result<()> {
        if self.partial.take().is_some() {
            self.scratch.clear();
            self.scratch.open();
            self.scratch.close(Kind::Discard, 0, self.seq, txid.0);
            self.append_scratch()?;
            self.boundary()?;
        }
        Ok(())
    }

    fn append_scratch(&mut self) -> Result<()> {
        let mut frames = std::mem::take(self.scratch.buffer());
        let appended = self.writer.append(&mut frames);
        *self.scratch.buffer() = frames;
        self.scratch.clear();
        appended
    }

    /// What has been reached with everything judged so far.
    fn reached(&self) -> Option<Coordinate> {
        self.progress.as_ref().map(|progress| progress.to).or(self.tail.reached)
    }

    /// Stores what has to stand before a new unit: stream header, definitions, progress; waits for room.
    fn before_new(&mut self) -> Result<()> {
        self.wait_for_room()?;
        if self.header_pending
            && let Some(header) = self.header.take()
        {
            let reached = self.tail.reached.unwrap_or(header.start);
            let stored = StreamHeader {
                start: reached,
                incarnation: if self.tail.reached.is_some() { self.tail.incarnation } else { header.incarnation },
                gtid_state: if reached == header.start {
                    header.gtid_state.clone()
                } else {
                    self.tail.gtid_state.clone()
                },
                ..(*header).clone()
            };
            self.scratch.clear();
            self.scratch.frame(Kind::Stream, |payload| stored.encode(payload));
            self.append_scratch()?;
            self.tail.step(&Step::Stream(Box::new(stored), None));
            self.boundary()?;
            self.header = Some(header);
            self.header_pending = false;
        }
        self.store_progress()?;
        if !self.definitions.is_empty() {
            self.scratch.clear();
            for (key, payload) in std::mem::take(&mut self.definitions) {
                if !self.writer.has_definition(key, &payload) {
                    self.scratch.definition(key, &payload);
                    self.writer.keep_definition(key, &payload);
                }
            }
            if !self.scratch.is_empty() {
                self.append_scratch()?;
                self.boundary()?;
            }
        }
        Ok(())
    }

    fn store_progress(&mut self) -> Result<()> {
        let Some(progress) = self.progress.take() else { return Ok(()) };
        if self.header_pending {
            // The very first thing of a queue, or of a stream with other facts: its header comes before.
            let held = progress.clone();
            self.before_new()?;
            self.progress = Some(held);
            return self.store_progress();
        }
        self.store_unit(Kind::Progress, |payload| progress.encode(payload), &Step::Progress(Box::new(progress.clone())))
    }

    fn store_unit(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>), step: &Step) -> Result<()> {
        self.scratch.clear();
        self.scratch.frame(kind, encode);
        self.append_scratch()?;
        self.tail.step(step);
        self.boundary()
    }

    #[allow(clippy::too_many_arguments)]
    fn begin(
        &mut self,
        bytes: &mut [u8],
        here: usize,
        next: usize,
        at: u64,
        txid: Coordinate,
        begin: &Begin,
        run: &mut Option<Run>,
    ) -> Result<()> {
        self.chunk = begin.chunk.is_some();
        let new = match &begin.chunk {
            Some(chunk) => {
                let held = match &self.tail.snapshot {
                    Some(snapshot) if snapshot.uuid == chunk.snapshot => snapshot,
                    _ => return Err(Error::damage("rows of a snapshot that was not announced").at(at)),
                };
                let count = held.chunks.iter().find(|(table, _)| *table == chunk.table).map_or(0, |(_, count)| *count);
                if !self.held_snapshot && chunk.number > count {
                    return Err(Error::new(
                        Class::Gap,
                        format!("the snapshot goes on with chunk {}, the queue holds {count}", chunk.number),
                    )
                    .at(at)
                    .hint("take a new snapshot: `rlog-extract --snapshot …`"));
                }
                !self.held_snapshot && chunk.number == count
            }
            None => {
                self.same_life(begin.incarnation, txid)?;
                let base = self.header.as_ref().map_or(begin.prev, |header| header.start);
                let reached = self.reached().unwrap_or(base);
                if begin.prev > reached && !self.is_former(begin.incarnation) {
                    return Err(self.gap(begin.prev, at));
                }
                txid >= reached && !self.is_former(begin.incarnation)
            }
        };
        if !new {
            self.flush(bytes, run, here)?;
            return Ok(());
        }
        if self.header_pending || self.progress.is_some() || !self.definitions.is_empty() || self.over_limit(*run, here)
        {
            self.flush(bytes, run, here)?;
            self.before_new()?;
        }
        self.mode = Mode::Store;
        self.open = Some(txid);
        let reached = self.tail.reached.unwrap_or(begin.prev);
        if begin.chunk.is_none() && begin.prev != reached {
            // Progress has passed over an empty range that the writer of this stream did not report.
            self.flush(bytes, run, here)?;
            let begin = Begin { prev: reached, ..begin.clone() };
            self.scratch.clear();
            self.scratch.open();
            begin.encode(self.scratch.buffer());
            let (crc, length) = self.scratch.close(Kind::Begin, 0, 0, txid.0);
            self.append_scratch()?;
            self.partial = Some(txid);
            let mut digest = Digest::default();
            digest.add(crc, length);
            self.rewritten = Some(digest);
            *run = Some(Run { from: next, whole: next });
        } else if run.is_none() {
            *run = Some(Run { from: here, whole: here });
        }
        self.tail.step(&Step::Begin(txid, Box::new(begin.clone())));
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn commit(
        &mut self,
        bytes: &mut [u8],
        here: usize,
        next: usize,
        at: u64,
        kind: Kind,
        position: Position,
        commit: Commit,
        run: &mut Option<Run>,
    ) -> Result<()> {
        if self.mode == Mode::Skip {
            self.counts.repeats += 1;
            return self.compare(&position).map_err(|error| error.at(at));
        }
        self.counts.transactions += 1;
        if let Some(digest) = self.rewritten.take() {
            self.flush(bytes, run, here)?;
            self.open = None;
            let commit = Commit { frame_digest: digest.value(), ..commit.clone() };
            self.scratch.clear();
            self.scratch.open();
            commit.encode(self.scratch.buffer());
            self.scratch.close(kind, 0, self.seq, position.txid.0);
            self.append_scratch()?;
            self.tail.step(&Step::Commit(position, Box::new(commit)));
            return self.boundary();
        }
        self.open = None;
        self.tail.step(&Step::Commit(position, Box::new(commit)));
        match run {
            Some(run) => run.whole = next,
            None => *run = Some(Run { from: here, whole: next }),
        }
        Ok(())
    }

    /// Whether what waits in the run should be stored before more is taken: for the space limit, or to start a segment.
    fn over_limit(&self, run: Option<Run>, here: usize) -> bool {
        let waiting = run.map_or(0, |run| here.saturating_sub(run.from)) as u64;
        let limit = self.options.space_limit;
        waiting > 0 && self.writer.wants_boundary(waiting)
            || limit.is_some_and(|limit| self.writer.used_bytes() + waiting > limit)
    }

    /// Waits while the channel occupies too much, unless nothing in it is needed any more.
    fn wait_for_room(&mut self) -> Result<()> {
        const PAUSE_MAX: Duration = Duration::from_millis(200);
        let mut pause = Duration::from_millis(2);
        let Some(limit) = self.options.space_limit else { return Ok(()) };
        if self.writer.used_bytes() <= limit {
            return Ok(());
        }
        // Readers can only make room with what they see, and acknowledge what is synced.
        self.writer.sync()?;
        let mut told = false;
        loop {
            let empty = self.writer.make_room()?;
            if empty || self.writer.used_bytes() <= limit {
                break;
            }
            if self.options.stop.load(Ordering::Relaxed) {
                return Err(Error::new(Class::TryAgain, "stopped while waiting for room in the queue"));
            }
            if !told {
                told = true;
                self.writer.waiting(Some(&format!(
                    "space-limit: the channel occupies {} of {limit} bytes; a registered reader must acknowledge more",
                    self.writer.used_bytes()
                )))?;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.writer.waiting(None)
    }

    /// Starts to make everything whole durable, while more is taken. What is passed on is synced at once: it must not be passed on early.
    pub fn start_sync(&mut self) -> Result<()> {
        if self.pass.is_some() {
            return self.sync();
        }
        self.finish_sync()?;
        if self.partial.is_none() {
            self.store_progress()?;
        }
        if self.unsynced {
            self.writer.start_sync()?;
            self.unsynced = false;
            self.counts.syncs += 1;
        }
        self.syncing = Some(Box::new((self.tail.clone(), self.counts)));
        Ok(())
    }

    /// Whether a sync was started and has not been told of.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Whether the sync that was started has ended.
    pub fn is_synced(&mut self) -> bool {
        self.writer.is_synced()
    }

    /// Waits for the sync that was started, and tells what is durable with it.
    pub fn finish_sync(&mut self) -> Result<()> {
        let Some(started) = self.syncing.take() else { return Ok(()) };
        self.writer.finish_sync()?;
        (self.on_durable)(&started.0, &started.1)
    }

    /// Makes everything whole durable, then passes it on.
    pub fn sync(&mut self) -> Result<()> {
        self.finish_sync()?;
        if self.partial.is_none() {
            self.store_progress()?;
        }
        if self.unsynced {
            self.writer.sync()?;
            self.unsynced = false;
            self.counts.syncs += 1;
        }
        self.told = self.counts.units;
        (self.on_durable)(&self.tail, &self.counts)?;
        self.pass_on()
    }

    /// With nothing to sync: tells that what was held before is passed.
    fn tell_repeats(&mut self) -> Result<()> {
        // What is being synced must not be told of before that has ended.
        if self.told == self.counts.units || self.syncing.is_some() {
            return Ok(());
        }
        self.told = self.counts.units;
        (self.on_durable)(&self.tail, &self.counts)
    }

    fn pass_on(&mut self) -> Result<()> {
        match &mut self.pass {
            Some(pass) => pass.write_out().map_err(|error| Error::io("standard output", error)),
            None => Ok(()),
        }
    }

    /// The input ended; says whether it ended well.
    pub fn finish(mut self, ended: Ended) -> Result<Counts> {
        self.finish_sync()?;
        if let Some(txid) = self.partial {
            self.discard(txid)?;
        }
        self.mode = Mode::Skip;
        self.store_progress()?;
        let had_units = self.unsynced;
        self.writer.close()?;
        self.counts.syncs += u64::from(had_units);
        (self.on_durable)(&self.tail, &self.counts)?;
        self.pass_on()?;
        if let Some(error) = self.abort {
            return Err(error);
        }
        if ended == Ended::EndOfFile && !self.checker.finished() {
            return Err(Error::new(Class::TryAgain, "the stream stops without an end: its writer died")
                .in_file(&self.name)
                .hint("run the same pipeline again; what arrived whole is safe"));
        }
        Ok(self.counts)
    }

    /// The input is bad from here on: makes what came before durable and returns the error.
    pub fn fail(self, error: Error) -> Result<Counts> {
        // A stream that is cut short inside a frame is one whose writer died.
        if error.class() == Class::Torn {
            return match self.finish(Ended::EndOfFile) {
                Ok(_) => Err(error),
                Err(other) => Err(other),
            };
        }
        let ours = matches!(error.class(), Class::Io | Class::TryAgain);
        match self.finish(Ended::Stopped) {
            // When what came before could not be made safe, that is the worse news than a bad stream.
            Err(other) if !ours => Err(other),
            _ => Err(error),
        }
    }
}
