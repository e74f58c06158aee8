//! Reading whole units, also while a writer appends, rolls or recovers; finding a position.
//!
//! ```text
//!   preamble     delivered     whole, not yet delivered     frames of a unit that may never end
//! |───────────|──────────────|────────────────────────────|──────────────────────────────────|
//!                            at                           whole                           scanned
//! ```
//!
//! `scanned` goes ahead until it finds a unit's end; only then is the unit delivered, each frame checked. It goes by headers alone, but
//! not in the last segment: a power cut may have kept a unit's end there and not what stands before it.
//! Bytes behind `whole` may vanish (a recovery cuts them) and are looked at anew whenever there seems to be no more. A segment is
//! read up to the length that its successor's head says; until there is a successor, a bad frame at the end is a
//! write in progress unless a watermark vouches for it. A unit that was moved into the next segment by a recovery and was delivered
//! before is passed over by its number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Class, Error, Result};
use crate::frame::{
    Begin, Checker, Commit, Coordinate, Frame, FrameError, FrameWriter, HEADER_LEN, Header, Kind, Position,
    StreamHeader,
};
use crate::sys::vfs::Watch;

use super::super::{Mark, Next, ReadFrom, ReadMode, Reader, Tail};
use super::channel::{Channel, segment_name};
use super::purge;
use super::segment::{self, Head, ReadError, Window};

/// How often a reader that follows compares the file's length with what the writer noted.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// A reader.
#[derive(Debug)]
pub(super) struct DirReader {
    channel: Arc<Channel>,
    mode: ReadMode,
    /// Synthesised frames that come first: stream header and live definitions.
    first: Vec<u8>,
    first_at: usize,
    here: Option<Place>,
    mark: Mark,
    /// With an end: the last segment and its bytes when reading began.
    pinned: Option<(u64, u64)>,
    watch: Option<Box<dyn Watch>>,
    told_idle: bool,
    /// Whether to begin with the first segment as soon as there is one.
    begin: bool,
    /// When the last segment's length was compared with the writer's note.
    checked: Option<Instant>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Place {
    number: u64,
    window: Window,
    head: Head,
    checker: Checker,
    tail: Tail,
    at: u64,
    whole: u64,
    scanned: u64,
    /// Bytes that count, once the successor tells.
    sealed: Option<u64>,
    /// Reading ends there, if reading has an end and this is the last segment.
    end: Option<u64>,
    /// Units up to this number were delivered before.
    skip_to: u64,
    /// What stands between `at` and `whole` was discarded: only definitions and stream headers in it count.
    void: bool,
}

impl Place {
    fn open(channel: &Channel, number: u64) -> Result<Option<Place>> {
        let Some((window, head)) = segment::open(channel, number)? else { return Ok(None) };
        let start = head.length;
        let mut place = Place {
            number,
            window,
            checker: Checker::new(),
            tail: Tail::at_segment(&head.segment),
            at: start,
            whole: start,
            scanned: start,
            sealed: None,
            end: None,
            skip_to: 0,
            void: false,
            head,
        };
        // The preamble is state, not something to deliver.
        for _ in 0..place.head.segment.preamble {
            let read = place.window.frame(place.at, Some(place.head.salt));
            let Some((frame, _)) = read.map_err(|error| error.named(channel, number))? else {
                return Err(
                    Error::damage("the segment's preamble is cut short").in_file(channel.file(&segment_name(number)))
                );
            };
            let step = place.checker.frame(&frame).map_err(|error| ReadError::from(error).named(channel, number))?;
            place.tail.step(&step);
            place.at += frame.total_len() as u64;
        }
        place.whole = place.at;
        place.scanned = place.at;
        Ok(Some(place))
    }

    fn limit(&self) -> u64 {
        self.sealed.unwrap_or(u64::MAX).min(self.end.unwrap_or(u64::MAX))
    }

    /// Goes ahead by headers until a unit's end is found or there is no more for now. Returns whether one was found.
    fn scan(&mut self) -> Result<bool, ReadError> {
        loop {
            if self.scanned >= self.limit() {
                return Ok(false);
            }
            let Some(kind_end) = self.look(self.scanned)? else { return Ok(false) };
            let (kind, end) = kind_end;
            if end > self.limit() {
                return Ok(false);
            }
            if !ends_unit(kind) && self.sealed.is_some() {
                self.scanned = end;
                continue;
            }
            // The frame itself must be there: its header alone may be.
            match self.window.frame(self.scanned, Some(self.head.salt)) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(error) => return self.not_yet(self.scanned, error).map(|()| false),
            }
            self.scanned = end;
            if !ends_unit(kind) {
                continue;
            }
            self.whole = end;
            self.void = kind == Some(Kind::Discard);
            return Ok(true);
        }
    }

    /// Kind and end of the frame at `at`, from its header; `None` when it is not there (yet).
    fn look(&mut self, at: u64) -> Result<Option<(Option<Kind>, u64)>, ReadError> {
        match self.window.header(at, self.head.salt) {
            Ok(Some(header)) => Ok(Some((header.known_kind(), at + HEADER_LEN as u64 + u64::from(header.length)))),
            Ok(None) => Ok(None),
            Err(error) => self.not_yet(at, error).map(|()| None),
        }
    }

    /// A bad frame: damage when anything vouches for its bytes, else a write in progress, or torn.
    fn not_yet(&mut self, at: u64, error: ReadError) -> Result<(), ReadError> {
        let ReadError::Frame(_) = &error else { return Err(error) };
        if self.sealed.is_some() {
            return Err(error);
        }
        let behind = segment::watermarks_behind(&mut self.window, self.head.salt, at)?;
        if at < behind { Err(error) } else { Ok(()) }
    }
}

/// Whether no unit ever stood before this segment. Its number does not tell: a recovery can leave a first segment that holds nothing
/// whole, which is purged like any other.
fn begins(head: &Head) -> bool {
    head.segment.first_sequence <= 1
}

fn ends_unit(kind: Option<Kind>) -> bool {
    matches!(
        kind,
        Some(
            Kind::Commit
                | Kind::Prepared
                | Kind::Discard
                | Kind::Progress
                | Kind::Gap
                | Kind::Handover
                | Kind::SnapshotBegin
                | Kind::SnapshotEnd
        )
    )
}

impl DirReader {
    pub fn open(channel: Arc<Channel>, from: &ReadFrom, mode: ReadMode) -> Result<DirReader> {
        let watch = if mode.follow { channel.dir.watch().ok() } else { None };
        let mut reader = DirReader {
            channel,
            mode,
            first: Vec::new(),
            first_at: 0,
            here: None,
            mark: Mark::default(),
            pinned: None,
            watch,
            told_idle: false,
            begin: false,
            checked: None,
        };
        if !mode.follow {
            reader.pinned = Some(reader.end()?);
        }
        let from = match from {
            ReadFrom::Acknowledged(name) => {
                let state = purge::reader_state(&reader.channel, &super::super::fold_name("reader", name)?)?;
                let state = state.ok_or_else(|| purge::no_reader(&reader.channel, name))?;
                if state.acked.sequence == 0 { ReadFrom::Oldest } else { ReadFrom::AfterSequence(state.acked.sequence) }
            }
            other => other.clone(),
        };
        reader.seek(&from)?;
        Ok(reader)
    }

    /// The last segment and its length.
    fn end(&self) -> Result<(u64, u64)> {
        let Some(last) = self.channel.held_segments()?.last().copied() else { return Ok((0, 0)) };
        Ok((last, purge::segment_bytes(&self.channel, last)?))
    }

    /// Finds the place and prepares what comes first.
    fn seek(&mut self, from: &ReadFrom) -> Result<()> {
        let segments = self.channel.held_segments()?;
        let (Some(oldest), Some(_)) = (segments.first().copied(), segments.last()) else {
            self.begin = true;
            return Ok(());
        };
        let start = match from {
            ReadFrom::Oldest | ReadFrom::Acknowledged(_) => oldest,
            ReadFrom::AfterSequence(sequence) => self
                .find_segment(&segments, |head| head.segment.first_sequence <= sequence.saturating_add(1))?
                .ok_or_else(|| self.purged(&format!("unit {sequence}")))?,
            ReadFrom::After(position) => {
                let server = position.incarnation.server();
                // Chunks of a snapshot do not advance what is reached: one that goes on across segments is still ahead of its
                // position as a whole.
                let ahead = |head: &Head| head.segment.snapshot.as_ref().is_some_and(|snapshot| !snapshot.complete);
                self.find_segment(&segments, |head| {
                    head.segment.reached.is_some_and(|reached| {
                        head.segment.incarnation.server() == server
                            && (reached < position.end || reached == position.end && !ahead(head))
                    }) || begins(head)
                })?
                .ok_or_else(|| self.purged(&position.to_string()))?
            }
            ReadFrom::AfterCoordinate(at) => self
                .find_segment(&segments, |head| {
                    head.segment.reached.is_some_and(|reached| reached <= *at) || begins(head)
                })?
                .ok_or_else(|| self.purged(&at.to_string()))?,
        };
        let place = Place::open(&self.channel, start)?.ok_or_else(|| self.channel.missing_segment(start))?;
        self.here = Some(place);
        let mut definitions = HashMap::new();
        self.preamble_definitions(start, &mut definitions)?;
        self.go_to(from, &mut definitions)?;
        self.mark = self.mark();
        self.prepare_first(&definitions);
        Ok(())
    }

    /// The newest segment whose head fits.
    fn find_segment(&self, segments: &[u64], fits: impl Fn(&Head) -> bool) -> Result<Option<u64>> {
        for number in segments.iter().rev() {
            match segment::open(&self.channel, *number)? {
                Some((_, head)) if fits(&head) => return Ok(Some(*number)),
                Some(_) => {}
                // Purged meanwhile.
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn purged(&self, what: &str) -> Error {
        Error::new(Class::Gap, format!("the queue no longer holds what comes behind {what}"))
            .in_file(self.channel.name())
            .hint("take a new snapshot: `rlog-extract --snapshot …`")
    }

    fn preamble_definitions(&self, number: u64, into: &mut HashMap<u64, Vec<u8>>) -> Result<()> {
        let Some((mut window, head)) = segment::open(&self.channel, number)? else { return Ok(()) };
        let mut at = head.length;
        for _ in 0..head.segment.preamble {
            let read = window.frame(at, Some(head.salt)).map_err(|error| error.named(&self.channel, number))?;
            let Some((frame, _)) = read else { break };
            if frame.kind() == Some(Kind::Definition) {
                into.insert(frame.header.id, frame.payload.to_vec());
            }
            at += frame.total_len() as u64;
        }
        Ok(())
    }

    /// Reads on without delivering until the place is reached.
    fn go_to(&mut self, from: &ReadFrom, definitions: &mut HashMap<u64, Vec<u8>>) -> Result<()> {
        loop {
            let Some(here) = &self.here else { return Ok(()) };
            let reached = here.tail.reached;
            if here.checker.open_transaction().is_none() {
                let done = match from {
                    ReadFrom::Oldest | ReadFrom::Acknowledged(_) => true,
                    ReadFrom::AfterSequence(sequence) => here.tail.sequence >= *sequence,
                    ReadFrom::After(position) => {
                        self.compare(position)?;
                        here.tail.incarnation.server() == position.incarnation.server()
                            && reached.is_some_and(|reached| reached >= position.end)
                    }
                    ReadFrom::AfterCoordinate(at) => reached.is_some_and(|reached| reached >= *at),
                };
                if done {
                    return Ok(());
                }
            }
            if !self.step()? {
                return match (from, self.here.as_ref()) {
                    (ReadFrom::After(position), Some(here))
                        if here.tail.sequence > 0
                            && here.tail.incarnation.server() != position.incarnation.server() =>
                    {
                        Err(self.foreign(position))
                    }
                    _ => Ok(()),
                };
            }
            let Some(taken) = self.take()? else { continue };
            if taken.header.known_kind() == Some(Kind::Definition) {
                definitions.insert(taken.header.id, self.payload(&taken).to_vec());
            }
            // The very first stream header of a queue says where it begins.
            if reached.is_none()
                && let Some(base) = self.here.as_ref().and_then(|here| here.tail.reached)
            {
                match from {
                    ReadFrom::After(position) if base > position.end => {
                        return Err(self.purged(&position.to_string()));
                    }
                    ReadFrom::AfterCoordinate(at) if base > *at => return Err(self.purged(&at.to_string())),
                    _ => {}
                }
            }
        }
    }

    /// Refuses a position whose transaction is held with other evidence.
    fn compare(&self, position: &Position) -> Result<()> {
        let Some(last) = self.here.as_ref().and_then(|here| here.tail.last.as_ref()) else { return Ok(()) };
        let same_place = last.txid == position.txid && last.incarnation.server() == position.incarnation.server();
        // A bare place (start and end are one, no evidence) is a progress, which has nothing to compare.
        let bare = position.txid == position.end && position.digest == 0;
        if same_place && !bare && (last.digest != position.digest || last.incarnation != position.incarnation) {
            return Err(self.foreign(position));
        }
        Ok(())
    }

    fn foreign(&self, position: &Position) -> Error {
        Error::new(
            Class::Identity,
            format!("the queue does not hold the transaction {position}, but another in its place"),
        )
        .in_file(self.channel.name())
        .hint("the position comes from another source or another life of it")
    }

    fn prepare_first(&mut self, definitions: &HashMap<u64, Vec<u8>>) {
        let Some(here) = &self.here else { return };
        let Some(source) = here.tail.source.as_deref() else { return };
        let header = StreamHeader {
            start: here.tail.reached.unwrap_or(source.start),
            incarnation: here.tail.incarnation,
            gtid_state: here.tail.gtid_state.clone(),
            ..source.clone()
        };
        let mut out = FrameWriter::new();
        out.frame(Kind::Stream, |payload| header.encode(payload));
        let mut keys: Vec<_> = definitions.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| **key);
        for (key, payload) in keys {
            out.definition(*key, payload);
        }
        self.first = out.bytes().to_vec();
    }

    /// Moves to the next frame of a whole unit; `false` when there is none for now.
    fn step(&mut self) -> Result<bool> {
        loop {
            if self.here.is_none() && !self.begin_reading()? {
                return Ok(false);
            }
            let pinned = self.pinned;
            let Some(here) = &mut self.here else { return Ok(false) };
            if here.at < here.whole {
                return Ok(true);
            }
            here.void = false;
            let number = here.number;
            if let Some((last, length)) = pinned {
                if number > last {
                    return Ok(false);
                }
                here.end = (number == last).then_some(length);
            }
            if here.scan().map_err(|error| error.named(&self.channel, number))? {
                continue;
            }
            if pinned.is_some_and(|(last, _)| number == last) {
                self.check_length()?;
                return Ok(false);
            }
            if !self.go_on()? {
                return Ok(false);
            }
        }
    }

    fn begin_reading(&mut self) -> Result<bool> {
        if !self.begin {
            return Ok(false);
        }
        let Some(first) = self.channel.held_segments()?.first().copied() else { return Ok(false) };
        if self.pinned.is_some_and(|(number, _)| number < first) {
            return Ok(false);
        }
        self.here = Place::open(&self.channel, first)?;
        self.begin = self.here.is_none();
        let mut definitions = HashMap::new();
        self.preamble_definitions(first, &mut definitions)?;
        self.prepare_first(&definitions);
        Ok(self.here.is_some())
    }

    /// The last segment must not be shorter than what the writer noted as durable. A reader whose end was fixed before the writer
    /// wrote on reads less of it than the note says, and nothing is wrong.
    fn check_length(&mut self) -> Result<()> {
        if self.mode.follow && self.checked.is_some_and(|at| at.elapsed() < CHECK_EVERY) {
            return Ok(());
        }
        self.checked = Some(Instant::now());
        let Some(here) = &self.here else { return Ok(()) };
        let (number, name) = (here.number, segment_name(here.number));
        let state = self.channel.writer_state()?;
        if state.segment != number || here.scanned >= state.length || !state.clean {
            return Ok(());
        }
        // The note first: the file only grows behind it.
        let held = here.window.file().len().map_err(|error| self.channel.io(&name, error))?;
        if held >= state.length && here.end.is_some_and(|end| end < state.length) {
            return Ok(());
        }
        Err(Error::damage(format!("the file ends inside of what was durable, {} bytes", state.length))
            .in_file(self.channel.file(&name))
            .at(here.scanned)
            .hint(format!("`rlog-queue verify {}` lists every damaged place", self.channel.path)))
    }

    /// At the end of what can be read: seals the segment, moves to the next, or forgets what may change. Returns
    /// whether it is worth looking again.
    fn go_on(&mut self) -> Result<bool> {
        let Some(here) = &mut self.here else { return Ok(false) };
        let number = here.number;
        if here.sealed.is_none() {
            let Some((_, next)) = segment::open(&self.channel, number + 1)? else {
                // What was read behind the last whole unit may be cut by a recovery.
                here.window.forget();
                let length = here.window.file().len();
                let length = length.map_err(|error| self.channel.io(&segment_name(number), error))?;
                if here.scanned > length {
                    here.scanned = here.whole;
                }
                self.check_length()?;
                return Ok(false);
            };
            here.sealed = Some(next.segment.previous_length);
            here.scanned = here.whole;
            here.window.forget();
            return Ok(true);
        }
        if here.scanned < here.limit() {
            return Err(Error::damage("the segment ends before the length that the next one says")
                .in_file(self.channel.file(&segment_name(number)))
                .at(here.scanned)
                .hint(format!("`rlog-queue verify {}` lists every damaged place", self.channel.path)));
        }
        if here.at < here.limit() {
            // No unit, but headers or definitions that a recovery left behind the last one.
            here.whole = here.limit();
            return Ok(true);
        }
        self.mark = self.mark();
        let Some(mut next) = Place::open(&self.channel, number + 1)? else {
            return Err(if self.channel.low_water()? > number + 1 {
                self.purged(&self.mark.position.to_string())
            } else {
                self.channel.missing_segment(number + 1)
            });
        };
        if next.head.segment.first_sequence > self.mark.sequence + 1 {
            return Err(Error::damage(format!(
                "the segment begins with unit {}, but the one before ends with {}",
                next.head.segment.first_sequence, self.mark.sequence
            ))
            .in_file(self.channel.file(&segment_name(number + 1))));
        }
        next.skip_to = self.mark.sequence;
        if next.tail.source.is_none() {
            next.tail.source = self.here.take().and_then(|here| here.tail.source);
        }
        self.here = Some(next);
        Ok(true)
    }

    /// Checks the frame at `at` and passes it; `None` when it is not one to deliver.
    fn take(&mut self) -> Result<Option<Taken>> {
        let Some(here) = &mut self.here else { return Ok(None) };
        let number = here.number;
        let named = |error: ReadError, channel: &Channel| error.named(channel, number);
        let read = here.window.frame(here.at, Some(here.head.salt));
        let Some((frame, _)) = read.map_err(|error| named(error, &self.channel))? else {
            // It was there when it was scanned.
            let torn = FrameError::Torn { at: here.at, missing: HEADER_LEN as u64 };
            return Err(named(torn.into(), &self.channel));
        };
        let step = here.checker.frame(&frame).map_err(|error| named(error.into(), &self.channel))?;
        let taken = Taken { header: frame.header, at: here.at };
        let kind = frame.kind();
        here.at += frame.total_len() as u64;
        let before = here.tail.sequence;
        let unit = if here.tail.step(&step) { here.tail.sequence } else { before + 1 };
        let own = matches!(kind, Some(Kind::Watermark | Kind::Segment));
        let void = here.void && !matches!(kind, Some(Kind::Definition | Kind::Stream));
        Ok((!own && !void && unit > here.skip_to).then_some(taken))
    }

    /// The payload of the frame that was just taken.
    fn payload(&self, taken: &Taken) -> &[u8] {
        self.here
            .as_ref()
            .map_or(&[], |here| here.window.at(taken.at + HEADER_LEN as u64, taken.header.length as usize))
    }
}

/// A frame that was checked and is still in the window.
#[derive(Debug)]
struct Taken {
    header: Header,
    at: u64,
}

impl Reader for DirReader {
    fn next(&mut self) -> Result<Next<'_>> {
        let mut waited = false;
        loop {
            if self.first_at < self.first.len() {
                let at = self.first_at;
                let frame = crate::frame::reader::read_frame(self.first.get(at..).unwrap_or(&[]), 0)?;
                self.first_at += frame.total_len();
                return Ok(Next::Frame(frame));
            }
            // What was written since the last look is what the watch tells of: looking twice would only cost time.
            if self.told_idle && !waited {
                waited = true;
                let idle = self.mode.idle;
                match &mut self.watch {
                    Some(watch) => watch.wait(idle).map_err(|error| self.channel.io("", error))?,
                    None => std::thread::sleep(idle),
                }
            }
            if self.step()? {
                // What begin_reading() prepared comes before what it found.
                if self.first_at < self.first.len() {
                    continue;
                }
                self.told_idle = false;
                let Some(taken) = self.take()? else { continue };
                let payload = self.payload(&taken);
                return Ok(Next::Frame(Frame { header: taken.header, payload, at: taken.at }));
            }
            if !self.mode.follow {
                return Ok(Next::End);
            }
            // At first it is only told, so that the caller can send on what it has gathered.
            self.told_idle = true;
            return Ok(Next::Idle);
        }
    }

    fn mark(&self) -> Mark {
        match &self.here {
            Some(here) if here.tail.sequence >= here.skip_to => Mark {
                sequence: here.tail.sequence,
                position: here.tail.position().unwrap_or_else(|| self.mark.position.clone()),
            },
            _ => self.mark.clone(),
        }
    }

    fn place(&self) -> String {
        match &self.here {
            Some(here) => self.channel.file(&segment_name(here.number)),
            None => self.channel.name(),
        }
    }

    fn remaining_bytes(&self) -> u64 {
        let (number, at) = self.here.as_ref().map_or((0, 0), |here| (here.number, here.at));
        let segments = self.channel.segments().unwrap_or_default();
        let ahead = segments.into_iter().filter(|other| *other >= number);
        let bytes: u64 = ahead.map(|other| purge::segment_bytes(&self.channel, other).unwrap_or(0)).sum();
        bytes.saturating_sub(at)
    }
}

/// Where a transaction, or a bare place that was reached, is held.
pub(super) fn locate(channel: &Arc<Channel>, position: &Position) -> Result<Option<Mark>> {
    let reader = match DirReader::open(Arc::clone(channel), &ReadFrom::After(position.clone()), ReadMode::ONCE) {
        Err(error) if error.class() == Class::Gap => return Ok(None),
        other => other?,
    };
    let Some(here) = &reader.here else { return Ok(None) };
    let bare = position.txid == position.end && position.digest == 0;
    let found = here.tail.last.as_ref().is_some_and(|last| {
        last.txid == position.txid && last.digest == position.digest && last.incarnation == position.incarnation
    });
    Ok((found || bare && here.tail.reached == Some(position.end)).then(|| reader.mark()))
}

/// Finds held transactions by txid, fast in ascending order: only headers are read.
#[derive(Debug)]
pub(super) struct HeldCursor {
    channel: Arc<Channel>,
    place: Option<HeldPlace>,
    asked: Coordinate,
}

#[derive(Debug)]
struct HeldPlace {
    number: u64,
    window: Window,
    salt: u32,
    at: u64,
}

impl HeldCursor {
    pub fn new(channel: Arc<Channel>) -> HeldCursor {
        HeldCursor { channel, place: None, asked: Coordinate(0) }
    }

    /// The position under which `txid` is held.
    pub fn find(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        if self.place.is_none() || txid < self.asked {
            self.place = None;
            for number in self.channel.held_segments()?.into_iter().rev() {
                let Some((window, head)) = segment::open(&self.channel, number)? else { break };
                let fits = head.segment.reached.is_none_or(|reached| reached <= txid);
                self.place = Some(HeldPlace { number, window, salt: head.salt, at: 0 });
                if fits {
                    break;
                }
            }
        }
        self.asked = txid;
        let mut wanted = false;
        loop {
            let Some(place) = &mut self.place else { return Ok(None) };
            let number = place.number;
            let named = |error: ReadError, channel: &Channel| error.named(channel, number);
            let header = match place.window.header(place.at, place.salt) {
                Ok(Some(header)) => header,
                // The end of this segment: of its file, or of what counts.
                Ok(None) | Err(ReadError::Frame(_)) => {
                    let Some((window, head)) = segment::open(&self.channel, number + 1)? else {
                        place.window.forget();
                        return Ok(None);
                    };
                    self.place = Some(HeldPlace { number: number + 1, window, salt: head.salt, at: 0 });
                    wanted = false;
                    continue;
                }
                Err(error) => return Err(named(error, &self.channel)),
            };
            let at = place.at;
            let id = Coordinate(header.id);
            match header.known_kind() {
                Some(Kind::Begin) if id >= txid => {
                    let read = place.window.frame(at, Some(place.salt));
                    let Some((frame, _)) = read.map_err(|error| named(error, &self.channel))? else { return Ok(None) };
                    let begin = Begin::decode(frame.payload, at).map_err(|error| named(error.into(), &self.channel))?;
                    // Chunks of a snapshot are numbered otherwise.
                    if begin.chunk.is_none() {
                        if id > txid {
                            return Ok(None);
                        }
                        wanted = true;
                    }
                }
                Some(Kind::Commit | Kind::Prepared) if wanted && id == txid => {
                    let read = place.window.frame(at, Some(place.salt));
                    let Some((frame, _)) = read.map_err(|error| named(error, &self.channel))? else { return Ok(None) };
                    let commit = Commit::decode(frame.payload, at);
                    let commit = commit.map_err(|error| named(error.into(), &self.channel))?;
                    return Ok(Some(commit.position(txid)));
                }
                Some(Kind::Discard) => wanted = false,
                _ => {}
            }
            place.at = at + HEADER_LEN as u64 + u64::from(header.length);
        }
    }
}
