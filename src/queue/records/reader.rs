//! Reading whole units from the records of any [`Log`]; finding a position.

use std::collections::HashMap;

use crate::error::{Class, Error, Result};
use crate::frame::header::HEADER_CRC_AT;
use crate::frame::{
    Checker, Coordinate, Digest, Frame, FrameError, FrameWriter, HEADER_LEN, Header, Kind, Position, Segment, Step,
    StreamHeader,
};

use super::super::{Mark, Next, ReadFrom, ReadMode, Reader, Tail};
use super::{Log, Start, damaged, purged};

/// A reader.
#[derive(Debug)]
pub(in super::super) struct LogReader<L> {
    log: L,
    mode: ReadMode,
    /// Synthesised frames that come first: stream header and live definitions.
    first: Vec<u8>,
    first_at: usize,
    checker: Checker,
    tail: Tail,
    mark: Mark,
    /// The record at hand, or the last one that was read.
    record: u64,
    inside: bool,
    /// Bytes of the record that were fetched; `at` is the next frame, which stands at `offset` of the record.
    bytes: Vec<u8>,
    at: usize,
    offset: u64,
    more: bool,
    digest: Digest,
    /// Length and digest of the record before, if it was read.
    previous: Option<(u64, u64)>,
    /// With an end: the last record when reading began.
    pinned: Option<u64>,
    told_idle: bool,
    /// Frames that come next and only repeat what is live.
    preamble: u64,
}

/// A frame that was checked and is still in `bytes`.
#[derive(Clone, Copy, Debug)]
struct Taken {
    header: Header,
    from: usize,
    offset: u64,
}

impl<L: Log> LogReader<L> {
    /// Opens a reader; `Acknowledged` was resolved by the caller.
    pub fn open(log: L, from: &ReadFrom, mode: ReadMode) -> Result<LogReader<L>> {
        LogReader::open_with(log, from, mode, &mut HashMap::new())
    }

    /// As [`LogReader::open`]; definitions that are live there are added to `live`.
    pub fn open_with(
        log: L,
        from: &ReadFrom,
        mode: ReadMode,
        live: &mut HashMap<u64, Vec<u8>>,
    ) -> Result<LogReader<L>> {
        let mut reader = LogReader {
            log,
            mode,
            first: Vec::new(),
            first_at: 0,
            checker: Checker::new(),
            tail: Tail::default(),
            mark: Mark::default(),
            record: 0,
            inside: false,
            bytes: Vec::new(),
            at: 0,
            offset: 0,
            more: false,
            digest: Digest::default(),
            previous: None,
            pinned: None,
            told_idle: false,
            preamble: 0,
        };
        if !mode.follow {
            reader.pinned = Some(reader.log.last()?);
        }
        if let Some(start) = reader.log.start(from)? {
            let Start { after, tail, mut definitions } = start;
            reader.record = after;
            reader.tail = tail;
            reader.resume_checker()?;
            reader.go_to(from, &mut definitions)?;
            reader.note_mark();
            reader.prepare_first(&definitions);
            live.extend(definitions);
        }
        Ok(reader)
    }

    /// What is read from here on follows the stream header that holds.
    fn resume_checker(&mut self) -> Result<()> {
        let Some(source) = self.tail.source.as_deref() else { return Ok(()) };
        let mut out = FrameWriter::new();
        out.frame(Kind::Stream, |payload| source.encode(payload));
        self.checker.frame(&crate::frame::reader::read_frame(out.bytes(), 0)?)?;
        Ok(())
    }

    fn prepare_first(&mut self, definitions: &HashMap<u64, Vec<u8>>) {
        let Some(source) = self.tail.source.as_deref() else { return };
        let header = StreamHeader {
            start: self.tail.reached.unwrap_or(source.start),
            incarnation: self.tail.incarnation,
            gtid_state: self.tail.gtid_state.clone(),
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

    /// Reads on without delivering until the place is reached.
    fn go_to(&mut self, from: &ReadFrom, definitions: &mut HashMap<u64, Vec<u8>>) -> Result<()> {
        loop {
            let reached = self.tail.reached;
            if self.checker.open_transaction().is_none() {
                let done = match from {
                    ReadFrom::Oldest | ReadFrom::Acknowledged(_) => true,
                    ReadFrom::AfterSequence(sequence) => self.tail.sequence >= *sequence,
                    ReadFrom::After(position) => {
                        self.compare(position)?;
                        self.tail.incarnation.server() == position.incarnation.server()
                            && reached.is_some_and(|reached| reached >= position.end)
                    }
                    ReadFrom::AfterCoordinate(at) => reached.is_some_and(|reached| reached >= *at),
                };
                if done {
                    return Ok(());
                }
            }
            let Some(taken) = self.take()? else {
                return match from {
                    ReadFrom::After(position)
                        if self.tail.sequence > 0
                            && self.tail.incarnation.server() != position.incarnation.server() =>
                    {
                        Err(self.foreign(position))
                    }
                    _ => Ok(()),
                };
            };
            if taken.header.known_kind() == Some(Kind::Definition) {
                definitions.insert(taken.header.id, self.payload(&taken).to_vec());
            }
            // The very first stream header of a queue says where it begins.
            if reached.is_none()
                && let Some(base) = self.tail.reached
            {
                match from {
                    ReadFrom::After(position) if base > position.end => {
                        return Err(purged(&self.log.name(), &position.to_string()));
                    }
                    ReadFrom::AfterCoordinate(at) if base > *at => {
                        return Err(purged(&self.log.name(), &at.to_string()));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Refuses a position whose transaction is held with other evidence.
    fn compare(&self, position: &Position) -> Result<()> {
        let Some(last) = self.tail.last.as_ref() else { return Ok(()) };
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
        .in_file(self.log.name())
        .hint("the position comes from another source or another life of it")
    }

    fn note_mark(&mut self) {
        self.mark = Mark {
            sequence: self.tail.sequence,
            position: self.tail.position().unwrap_or_else(|| self.mark.position.clone()),
        };
    }

    /// Takes the next frame that is to be delivered; `None` when there is none for now.
    fn take(&mut self) -> Result<Option<Taken>> {
        loop {
            if !self.inside && !self.enter()? {
                return Ok(None);
            }
            if !self.fetch()? {
                self.leave()?;
                continue;
            }
            let damage = |error: FrameError, log: &L, record: u64| damaged(log, record, error);
            let rest = self.bytes.get(self.at..).unwrap_or(&[]);
            let frame = crate::frame::reader::read_frame(rest, self.offset)
                .map_err(|error| damage(error, &self.log, self.record))?;
            let crc = rest
                .get(HEADER_CRC_AT..HEADER_LEN)
                .and_then(|bytes| bytes.first_chunk::<4>())
                .map_or(0, |crc| u32::from_le_bytes(*crc));
            self.digest.add(crc, frame.header.length);
            let taken = Taken { header: frame.header, from: self.at, offset: self.offset };
            let length = frame.total_len();
            let kind = frame.kind();
            let step = if kind == Some(Kind::Segment) {
                let segment = Segment::decode(frame.payload, self.offset);
                let segment = segment.map_err(|error| damage(error, &self.log, self.record))?;
                self.check_head(&segment)?;
                self.preamble = segment.preamble;
                Step::Other
            } else if self.offset == 0 {
                return Err(damaged(&self.log, self.record, "it does not begin with its head"));
            } else {
                self.checker.frame(&frame).map_err(|error| damage(error, &self.log, self.record))?
            };
            self.at += length;
            self.offset += length as u64;
            if matches!(step, Step::End(_) | Step::Abort(_)) {
                return Err(damaged(&self.log, self.record, "a stream's end inside a queue"));
            }
            if self.tail.step(&step) {
                self.note_mark();
            }
            match kind {
                Some(Kind::Segment | Kind::Watermark) => {}
                _ if self.preamble > 0 => self.preamble -= 1,
                _ => return Ok(Some(taken)),
            }
        }
    }

    /// Whether the record before was read just now, its head goes on from it.
    fn check_head(&self, segment: &Segment) -> Result<()> {
        let wrong = |what: String| Err(damaged(&self.log, self.record, what));
        if segment.queue != self.log.uuid() || segment.channel != self.log.channel() {
            return wrong(format!("it belongs to channel `{}` of another queue", segment.channel));
        }
        if self.offset != 0 || segment.number != self.record {
            return wrong(format!("it is record {}, out of its place", segment.number));
        }
        if segment.first_sequence != self.tail.sequence + 1 || segment.reached != self.tail.reached {
            return wrong(format!(
                "it goes on from unit {}, but the one before ends with {}",
                segment.first_sequence.saturating_sub(1),
                self.tail.sequence
            ));
        }
        if let Some((length, digest)) = self.previous
            && (segment.previous_length, segment.previous_digest) != (length, digest)
        {
            return wrong("the record before it is not the one that it was written behind".to_owned());
        }
        Ok(())
    }

    /// Goes to the next record.
    fn enter(&mut self) -> Result<bool> {
        if self.pinned.is_some_and(|last| self.record >= last) {
            return Ok(false);
        }
        let found = self.log.next(self.record)?;
        let wanted = self.record + 1;
        if found != Some(wanted) {
            if found.is_none() && self.log.is_end(self.record)? {
                return Ok(false);
            }
            // It may have come since it was looked for.
            if found.is_none() && self.log.next(self.record)? == Some(wanted) {
                return self.enter();
            }
            if self.log.low()? > wanted {
                return Err(purged(&self.log.name(), &self.mark.position.to_string()));
            }
            return Err(damaged(&self.log, wanted, "it is missing, though it was never purged"));
        }
        self.record = wanted;
        self.inside = true;
        self.bytes.clear();
        self.at = 0;
        self.offset = 0;
        self.more = true;
        self.digest = Digest::default();
        Ok(true)
    }

    /// Makes a whole frame available; `false` at the end of the record.
    fn fetch(&mut self) -> Result<bool> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or(&[]);
            let wanted = match rest.first_chunk::<HEADER_LEN>() {
                Some(head) => {
                    let header = Header::decode(head, self.offset);
                    HEADER_LEN + header.map_err(|error| damaged(&self.log, self.record, error))?.length as usize
                }
                None => HEADER_LEN,
            };
            if rest.len() >= wanted {
                return Ok(true);
            }
            if !self.more {
                if rest.is_empty() {
                    return Ok(false);
                }
                let torn = FrameError::Torn { at: self.offset, missing: (wanted - rest.len()) as u64 };
                return Err(damaged(&self.log, self.record, torn));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            self.more = self.log.piece(&mut self.bytes)?;
        }
    }

    /// The record is read to its end.
    fn leave(&mut self) -> Result<()> {
        if self.checker.open_transaction().is_some() {
            return Err(damaged(&self.log, self.record, "it ends inside a transaction"));
        }
        if self.offset == 0 {
            return Err(damaged(&self.log, self.record, "it is empty"));
        }
        self.previous = Some((self.offset, self.digest.value()));
        self.inside = false;
        self.bytes.clear();
        self.at = 0;
        Ok(())
    }

    /// The payload of the frame that was just taken.
    fn payload(&self, taken: &Taken) -> &[u8] {
        let from = taken.from + HEADER_LEN;
        self.bytes.get(from..from + taken.header.length as usize).unwrap_or(&[])
    }

    /// What has been reached.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Reads everything up to the end, without delivering; definitions go into `definitions`.
    pub fn read_all(&mut self, definitions: &mut HashMap<u64, Vec<u8>>) -> Result<()> {
        while let Some(taken) = self.take()? {
            if taken.header.known_kind() == Some(Kind::Definition) {
                definitions.insert(taken.header.id, self.payload(&taken).to_vec());
            }
        }
        Ok(())
    }

    /// For [`mod@super::verify`]: goes on with the record behind `record`, whatever was wrong with it. Its head says what held there.
    pub fn skip_to(&mut self, record: u64, tail: Tail) -> Result<()> {
        self.record = record;
        self.inside = false;
        self.bytes.clear();
        self.at = 0;
        self.previous = None;
        self.preamble = 0;
        self.checker = Checker::new();
        let source = self.tail.source.take();
        self.tail = tail;
        self.tail.source = source;
        self.resume_checker()
    }

    /// The record at hand.
    pub fn record(&self) -> u64 {
        self.record
    }

    /// The log.
    pub fn log(&mut self) -> &mut L {
        &mut self.log
    }

    /// The next frame's kind, for [`mod@super::verify`]; `None` at the end.
    pub fn step(&mut self) -> Result<Option<(Option<Kind>, u64)>> {
        Ok(self.take()?.map(|taken| (taken.header.known_kind(), taken.offset)))
    }
}

impl<L: Log> Reader for LogReader<L> {
    fn next(&mut self) -> Result<Next<'_>> {
        let mut waited = false;
        loop {
            if self.first_at < self.first.len() {
                let at = self.first_at;
                let frame = crate::frame::reader::read_frame(self.first.get(at..).unwrap_or(&[]), 0)?;
                self.first_at += frame.total_len();
                return Ok(Next::Frame(frame));
            }
            if let Some(taken) = self.take()? {
                self.told_idle = false;
                let payload = self.payload(&taken);
                return Ok(Next::Frame(Frame { header: taken.header, payload, at: taken.offset }));
            }
            if !self.mode.follow {
                return Ok(Next::End);
            }
            // At first it is only told, so that the caller can send on what it has gathered.
            if waited || !self.told_idle {
                self.told_idle = true;
                return Ok(Next::Idle);
            }
            waited = true;
            self.log.wait(self.mode.idle)?;
        }
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    fn place(&self) -> String {
        match self.record {
            0 => self.log.name(),
            record => format!("{}, record {record}", self.log.name()),
        }
    }

    fn remaining_bytes(&self) -> u64 {
        // A log may have to ask for it; whether there is more at all is known without.
        match self.bytes.len().saturating_sub(self.at) as u64 {
            here if self.inside && here > 0 => here,
            _ => self.log.bytes_behind(self.record),
        }
    }
}

/// Where a transaction, or a bare place that was reached, is held.
pub(in super::super) fn locate<L: Log>(log: L, position: &Position) -> Result<Option<Mark>> {
    let reader = match LogReader::open(log, &ReadFrom::After(position.clone()), ReadMode::ONCE) {
        Err(error) if error.class() == Class::Gap => return Ok(None),
        other => other?,
    };
    if reader.tail.sequence == 0 {
        return Ok(None);
    }
    let bare = position.txid == position.end && position.digest == 0;
    let found = reader.tail.last.as_ref().is_some_and(|last| {
        last.txid == position.txid && last.digest == position.digest && last.incarnation == position.incarnation
    });
    Ok((found || bare && reader.tail.reached == Some(position.end)).then(|| reader.mark()))
}

/// Finds held transactions by txid, fast in ascending order.
#[derive(Debug)]
pub(in super::super) struct Held<L> {
    reader: LogReader<L>,
    from: Coordinate,
    last: Option<Position>,
    chunk: bool,
}

impl<L: Log> Held<L> {
    /// Whether `txid` can be found from here on.
    pub fn is_ahead(&self, txid: Coordinate) -> bool {
        self.last.as_ref().map_or(self.from, |last| last.txid) <= txid
    }

    /// Looks from `txid` on; `None` when nothing so old is held.
    pub fn open(log: L, txid: Coordinate) -> Result<Option<Held<L>>> {
        let mode = ReadMode { follow: true, ..ReadMode::ONCE };
        match LogReader::open(log, &ReadFrom::AfterCoordinate(txid), mode) {
            Ok(mut reader) => {
                reader.first.clear();
                Ok(Some(Held { reader, from: txid, last: None, chunk: false }))
            }
            Err(error) if error.class() == Class::Gap => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The position under which `txid` is held. Only with [`Held::is_ahead`].
    pub fn find(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        loop {
            if let Some(last) = &self.last
                && last.txid >= txid
            {
                return Ok((last.txid == txid).then(|| last.clone()));
            }
            let Some(taken) = self.reader.take()? else { return Ok(None) };
            match taken.header.known_kind() {
                Some(Kind::Begin) => {
                    let begin = crate::frame::Begin::decode(self.reader.payload(&taken), taken.offset)?;
                    self.chunk = begin.chunk.is_some();
                }
                // Chunks of a snapshot are numbered otherwise.
                Some(Kind::Commit | Kind::Prepared) if !self.chunk => {
                    self.last = self.reader.tail.last.clone();
                }
                _ => {}
            }
        }
    }
}
