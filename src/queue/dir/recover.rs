//! What a writer finds when it opens a channel, and how it makes good what a crash left behind.
//!
//! ```text
//! clean     `writer` says closed, and the last segment is whole to exactly the length it says: go on in it
//! unclean   1. raise the epoch (a writer that still lives can acknowledge nothing more)
//!           2. read the last segment; a bad frame below what is vouched for: damage, stop, change nothing
//!           3. copy what is bad to NUMBER.rlog.broken, sync
//!           4. start segment NUMBER+1, copy whole units above the vouched part into it, sync, rename, sync the directory
//!           5. note in `writer` what is durable now
//!           6. cut the old segment where the new header says, sync
//! ```
//!
//! The old segment is never appended to again: the old writer may still hold it open. A crash between any two steps leaves something from which the same steps reach the same end.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{Checker, FrameWriter, HEADER_LEN, Header, Kind, Watermark};
use crate::sys::vfs::{File, Lock};
use crate::sys::{Access, planted, state};

use super::super::Tail;
use super::super::tail::Predecessor;
use super::channel::{Channel, WriterState, segment_name};
use super::segment::{self, ReadError, Scan};

/// Bytes of a torn tail that are kept for a person to look at.
const BROKEN_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// The segment that a writer appends to.
#[derive(Debug)]
pub(super) struct Appending {
    pub file: Arc<dyn File>,
    pub number: u64,
    pub salt: u32,
    /// Sequence number of its first unit.
    pub first_sequence: u64,
    /// Bytes written.
    pub at: u64,
    pub digest: crate::frame::Digest,
}

/// The state of a channel whose writer's lock we hold.
#[derive(Debug)]
pub(super) struct Recovered {
    pub tail: Tail,
    pub definitions: HashMap<u64, Vec<u8>>,
    /// Present when the last segment can be appended to.
    pub appending: Option<Appending>,
    pub predecessor: Predecessor,
    pub state: WriterState,
    /// Whether the epoch in `state` is this writer's own.
    pub raised: bool,
}

/// Opens the channel for writing. The lock is held by the caller.
pub(super) fn recover(channel: &Channel, _lock: &Lock) -> Result<Recovered> {
    let mut state = channel.writer_state()?;
    channel.remove_temps()?;
    remove_purged(channel)?;
    let segments = channel.held_segments()?;
    let Some(last) = segments.last().copied() else {
        return Ok(Recovered {
            tail: Tail::default(),
            definitions: HashMap::new(),
            appending: None,
            predecessor: Predecessor::default(),
            state,
            raised: false,
        });
    };
    let clean = state.clean;
    if !clean {
        // Names that we see need not be durable yet; nothing is cut on their word before they are. Raising the epoch
        // syncs the directory.
        state.epoch += 1;
        channel.set_writer_state(&state)?;
    }
    let scan = segment::scan(channel, last, u64::MAX)?;
    let vouched = vouched(&state, &scan, last);
    refuse_damage(channel, &scan, last, vouched)?;
    cut_predecessor(channel, &scan)?;
    let as_closed = clean && state.segment == last && state.length == scan.length && scan.whole == scan.length;
    if as_closed || planted::is(planted::Bug::NoTornTail) {
        let name = segment_name(last);
        let file = channel.dir.open(&name, Access::Write).map_err(|error| channel.io(&name, error))?;
        let appending = Appending {
            file: file.into(),
            number: last,
            salt: scan.head.salt,
            first_sequence: scan.head.segment.first_sequence,
            at: scan.length,
            digest: crate::frame::Digest::resumed(scan.digest),
        };
        let predecessor = Predecessor { number: last, length: scan.whole, digest: scan.digest };
        return Ok(Recovered {
            tail: scan.tail,
            definitions: scan.definitions,
            appending: Some(appending),
            predecessor,
            state,
            raised: false,
        });
    }
    if clean {
        state.epoch += 1;
        state.clean = false;
        channel.set_writer_state(&state)?;
    }
    if scan.bad.is_some() {
        set_aside(channel, &scan, last)?;
    }
    rewrite(channel, scan, last, vouched, state)
}

/// Bytes of the segment that are known to have been durable.
pub(super) fn vouched(state: &WriterState, scan: &Scan, number: u64) -> u64 {
    let noted = if state.segment == number { state.length } else { 0 };
    scan.vouched.max(noted)
}

/// Damage is what is wrong below the vouched part.
pub(super) fn refuse_damage(channel: &Channel, scan: &Scan, number: u64, vouched: u64) -> Result<()> {
    let name = channel.file(&segment_name(number));
    let hint = format!(
        "`rlog-queue verify {0}` lists the damage; nothing was changed. If the source still has its logs: `rlog-queue \
         reset {0}` and extract again",
        channel.path
    );
    match &scan.bad {
        Some((at, error)) if *at < vouched => Err(Error::damage(error.to_string()).in_file(name).at(*at).hint(hint)),
        _ if scan.length < vouched => Err(Error::damage(format!(
            "the file is cut short: {vouched} bytes of it were durable, {} are there",
            scan.length
        ))
        .in_file(name)
        .at(scan.length)
        .hint(hint)),
        _ => Ok(()),
    }
}

/// Finishes a purge that was interrupted between its mark and its removals.
fn remove_purged(channel: &Channel) -> Result<()> {
    let low = channel.low_water()?;
    let mut removed = false;
    for number in channel.segments()?.into_iter().filter(|number| *number < low) {
        if !removed {
            // Its writer may have died before the mark was durable.
            channel.dir.sync().map_err(|error| channel.io("", error))?;
        }
        let name = segment_name(number);
        match channel.dir.remove(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(channel.io(&name, error)),
            _ => removed = true,
        }
    }
    if removed {
        channel.dir.sync().map_err(|error| channel.io("", error))?;
    }
    Ok(())
}

/// Cuts what the segment before the last has beyond the length that counts (a crash before step 6).
fn cut_predecessor(channel: &Channel, scan: &Scan) -> Result<()> {
    let previous = &scan.head.segment;
    let name = segment_name(previous.previous_number);
    let file = match channel.dir.open(&name, Access::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| channel.io(&name, error))?,
    };
    let length = file.len().map_err(|error| channel.io(&name, error))?;
    if length < previous.previous_length {
        return Err(Error::damage(format!(
            "the file is cut short: the next one says that {} bytes of it count",
            previous.previous_length
        ))
        .in_file(channel.file(&name))
        .at(length));
    }
    if length > previous.previous_length {
        cut(channel, previous.previous_number, previous.previous_length)?;
    }
    Ok(())
}

fn cut(channel: &Channel, number: u64, length: u64) -> Result<()> {
    let name = segment_name(number);
    let fail = |error| channel.io(&name, error);
    let file = channel.dir.open(&name, Access::Write).map_err(fail)?;
    file.set_len(length).map_err(fail)?;
    file.sync().map_err(fail)
}

/// Copies the torn tail to a side file.
fn set_aside(channel: &Channel, scan: &Scan, number: u64) -> Result<()> {
    let name = segment_name(number);
    let broken = format!("{name}.broken");
    let fail = |error| channel.io(&broken, error);
    let from = channel.dir.open(&name, Access::Read).map_err(fail)?;
    let length = (scan.length - scan.whole).min(BROKEN_BYTES_MAX);
    let mut bytes = vec![0; COPY_BYTES.min(usize::try_from(length).unwrap_or(COPY_BYTES))];
    let temp = format!("{}{broken}", state::TEMP_PREFIX);
    let to = channel.dir.open(&temp, Access::Create).map_err(fail)?;
    let mut done = 0;
    while done < length {
        let count = from.read_full_at(&mut bytes, scan.whole + done).map_err(fail)?;
        let Some(read) = bytes.get(..count).filter(|read| !read.is_empty()) else { break };
        to.write_all_at(read, done).map_err(fail)?;
        done += count as u64;
    }
    to.sync().map_err(fail)?;
    channel.dir.rename(&temp, &broken).map_err(fail)?;
    channel.dir.sync().map_err(fail)
}

/// Steps 4 to 6: the channel goes on in a new segment, which begins with the whole units that nothing vouches for.
fn rewrite(channel: &Channel, scan: Scan, last: u64, vouched: u64, mut state: WriterState) -> Result<Recovered> {
    let above = if scan.whole > vouched { Some(segment::scan(channel, last, vouched)?) } else { None };
    let durable = above.as_ref().unwrap_or(&scan);
    let predecessor = Predecessor { number: last, length: durable.whole, digest: durable.digest };
    let mut start = StartSegment::new(channel, &durable.tail, &durable.definitions, predecessor, state.epoch)?;
    let (mut window, head) = segment::open(channel, last)?.ok_or_else(|| channel.missing_segment(last))?;
    let mut at = durable.whole;
    while at < scan.whole {
        let read = window.frame(at, Some(head.salt)).map_err(|error| error.named(channel, last))?;
        let Some((frame, _)) = read else { break };
        at += frame.total_len() as u64;
        if !matches!(frame.kind(), Some(Kind::Watermark | Kind::Segment)) {
            start.frame(channel, frame.header, frame.payload)?;
        }
    }
    let appending = start.finish(channel, scan.tail.sequence)?;
    state.segment = appending.number;
    state.length = appending.at;
    state.sequence = scan.tail.sequence;
    channel.set_writer_state(&state)?;
    cut(channel, last, durable.whole)?;
    let predecessor = Predecessor { number: appending.number, length: appending.at, digest: appending.digest.value() };
    Ok(Recovered {
        tail: scan.tail,
        definitions: scan.definitions,
        appending: Some(appending),
        predecessor,
        state,
        raised: true,
    })
}

/// A segment that is being made under a temporary name.
#[derive(Debug)]
pub(super) struct StartSegment {
    appending: Appending,
    out: FrameWriter,
    name: String,
    temp: String,
    epoch: u64,
}

impl StartSegment {
    pub fn new(
        channel: &Channel,
        tail: &Tail,
        definitions: &HashMap<u64, Vec<u8>>,
        predecessor: Predecessor,
        epoch: u64,
    ) -> Result<StartSegment> {
        let number = predecessor.number + 1;
        let salt = random_salt()?;
        let mut segment = tail.segment(channel.uuid, &channel.channel, epoch, predecessor);
        let name = segment_name(number);
        let temp = format!("{}{name}", state::TEMP_PREFIX);
        let file = channel.dir.open(&temp, Access::Create).map_err(|error| channel.io(&temp, error))?;
        let mut out = FrameWriter::with_salt(salt);
        segment::write_start(&mut out, &mut segment, tail.source.as_deref(), definitions);
        let digest = crate::frame::Digest::default();
        let file = Arc::from(file);
        let appending = Appending { file, number, salt, first_sequence: segment.first_sequence, at: 0, digest };
        Ok(StartSegment { appending, out, name, temp, epoch })
    }

    fn frame(&mut self, channel: &Channel, header: Header, payload: &[u8]) -> Result<()> {
        let header = Header { salt: self.appending.salt, ..header };
        let buffer = self.out.buffer();
        buffer.extend_from_slice(&header.encode());
        buffer.extend_from_slice(payload);
        if self.out.len() >= COPY_BYTES { self.flush(channel) } else { Ok(()) }
    }

    fn flush(&mut self, channel: &Channel) -> Result<()> {
        self.appending.write(self.out.bytes()).map_err(|error| channel.io(&self.temp, error))?;
        self.out.clear();
        Ok(())
    }

    /// Syncs it and gives it its name.
    pub fn finish(mut self, channel: &Channel, sequence: u64) -> Result<Appending> {
        // It vouches for what comes before it in the file. That is true as soon as the file has its name.
        let synced = self.appending.at + self.out.len() as u64;
        let mark = Watermark { synced, sequence, epoch: self.epoch };
        self.out.frame(Kind::Watermark, |payload| mark.encode(payload));
        self.flush(channel)?;
        let fail = |error| channel.io(&self.name, error);
        self.appending.file.sync().map_err(fail)?;
        channel.dir.rename(&self.temp, &self.name).map_err(fail)?;
        channel.dir.sync().map_err(fail)?;
        Ok(self.appending)
    }
}

impl Appending {
    /// Writes whole frames at the end.
    pub fn write(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(frames, self.at)?;
        self.at += frames.len() as u64;
        let mut rest = frames;
        while let Some((head, body)) = rest.split_at_checked(HEADER_LEN) {
            let length = header_length(head);
            self.digest.add(segment::header_crc(head), length);
            rest = body.get(length as usize..).unwrap_or(&[]);
        }
        Ok(())
    }
}

/// The length field of a header that was checked before.
pub(super) fn header_length(head: &[u8]) -> u32 {
    head.get(crate::frame::header::LENGTH_AT..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map_or(0, |length| u32::from_le_bytes(*length))
}

/// Any salt but 0, which streams have.
fn random_salt() -> Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(crate::error::Class::Io, format!("no random numbers: {error}")))?;
    Ok(u32::from_le_bytes(bytes).max(1))
}

/// What is durable, for whoever does not write: makes good what a killed writer left, unless one is at work. `known` is what was found the last
/// time, and spares reading the whole segment again.
pub(super) fn settled_tail(channel: &Channel, known: &mut Option<Settled>) -> Result<Tail> {
    let state = channel.writer_state()?;
    if !state.clean
        && let Some(lock) = channel.try_lock()?
    {
        *known = None;
        let recovered = recover(channel, &lock)?;
        let tail = recovered.tail.clone();
        mark_clean(channel, recovered)?;
        return Ok(tail);
    }
    let Some(last) = channel.held_segments()?.last().copied() else {
        return Ok(Tail::default());
    };
    if known.as_ref().is_none_or(|settled| settled.number != last) {
        *known = Settled::new(channel, last)?;
    }
    if let Some(settled) = known
        && let Ok(true) = settled.advance(&state)
    {
        return Ok(settled.tail.clone());
    }
    // Something is not as it should be, or this is another file than before: looked at as a whole, it has a name.
    *known = None;
    let scan = segment::scan(channel, last, u64::MAX)?;
    let vouched = vouched(&state, &scan, last);
    refuse_damage(channel, &scan, last, vouched)?;
    if vouched >= scan.whole { Ok(scan.tail) } else { Ok(segment::scan(channel, last, vouched)?.tail) }
}

/// The vouched part of the last segment, as far as it has been read.
#[derive(Debug)]
pub(super) struct Settled {
    number: u64,
    window: segment::Window,
    salt: u32,
    checker: Checker,
    tail: Tail,
    /// Up to here it was read: the end of a frame.
    at: u64,
    /// Up to here it was looked for watermarks.
    ahead: u64,
    vouched: u64,
}

impl Settled {
    fn new(channel: &Channel, number: u64) -> Result<Option<Settled>> {
        let Some((window, head)) = segment::open(channel, number)? else { return Ok(None) };
        let tail = Tail::at_segment(&head.segment);
        Ok(Some(Settled {
            number,
            window,
            salt: head.salt,
            checker: Checker::new(),
            tail,
            at: 0,
            ahead: 0,
            vouched: 0,
        }))
    }

    /// Reads on to the end of what is vouched for. `false`, or an error: it must be looked at as a whole.
    fn advance(&mut self, state: &WriterState) -> std::result::Result<bool, ReadError> {
        // A queue that was reset has another file of the same name.
        if !self.window.file().is_linked()? {
            return Ok(false);
        }
        self.window.forget();
        if state.segment == self.number {
            self.vouched = self.vouched.max(state.length);
        }
        // What is not vouched for may be half written.
        while let Ok(Some(header)) = self.window.header(self.ahead, self.salt) {
            let at = self.ahead;
            if header.known_kind() == Some(Kind::Watermark) {
                let Ok(Some((frame, _))) = self.window.frame(at, Some(self.salt)) else { break };
                self.vouched = self.vouched.max(Watermark::decode(frame.payload, at)?.synced);
            }
            self.ahead = at + HEADER_LEN as u64 + u64::from(header.length);
        }
        while self.at < self.vouched {
            let Some((frame, _)) = self.window.frame(self.at, Some(self.salt))? else { return Ok(false) };
            let end = self.at + frame.total_len() as u64;
            if end > self.vouched {
                return Ok(false);
            }
            let step = self.checker.frame(&frame)?;
            self.tail.step(&step);
            self.at = end;
        }
        Ok(true)
    }
}

/// Notes that the channel was left in good order.
pub(super) fn mark_clean(channel: &Channel, recovered: Recovered) -> Result<()> {
    let mut state = recovered.state;
    let place = recovered
        .appending
        .as_ref()
        .map_or((recovered.predecessor.number, recovered.predecessor.length), |to| (to.number, to.at));
    if !state.clean {
        (state.segment, state.length) = place;
        state.sequence = recovered.tail.sequence;
        state.clean = true;
        channel.set_writer_state(&state)?;
    }
    Ok(())
}
