//! The records of a channel as a [`Log`]: a message a record, its parts in messages of another subject.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream;

use crate::error::Result;
use crate::frame::reader::SliceFrames;
use crate::frame::{Kind, Segment, StreamHeader};

use super::super::records::{Log, Start, damaged, purged, read_state};
use super::super::{ReadFrom, Tail};
use super::Place;
use super::client::{Client, header};
use super::state::Readers;

/// Records that are remembered with their messages.
const VISITED_MAX: usize = 8;
/// How often a reader that waits looks.
const LOOK: Duration = Duration::from_millis(20);

/// What the headers of a record's message say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The message.
    pub message: u64,
    /// Number of the record.
    pub record: u64,
    /// Number of its first unit.
    pub first_sequence: u64,
    /// The base that holds for it (its own message, if it is one), and the base before that.
    pub base: u64,
    pub base_before: u64,
    /// Its parts: first and last message, and their count.
    pub parts: Option<(u64, u64, u64)>,
    /// The last message of parts that any record up to this one has; and up to the one before.
    pub parts_end: u64,
    pub parts_before: u64,
    /// Bytes of all records up to this one, and of this one.
    pub total: u64,
    pub length: u64,
    /// Bytes of records since the base.
    pub since_base: u64,
    /// The message of the last record that has a stream header, if any has.
    pub source: u64,
    /// Where in the payload the state behind the record stands.
    pub tail_at: usize,
}

impl Facts {
    /// Reads them; `None` when they are not what rlog writes.
    pub fn of(message: &StreamMessage) -> Option<Facts> {
        let number = |name: &str| header(message, name)?.parse::<u64>().ok();
        let parts = match header(message, "Rlog-Parts") {
            None => None,
            Some(text) => {
                let mut numbers = text.split(' ').map(|number| number.parse::<u64>().ok());
                Some((numbers.next()??, numbers.next()??, numbers.next()??))
            }
        };
        let base = number("Rlog-Base")?;
        Some(Facts {
            message: message.sequence,
            record: number("Rlog-Record")?,
            first_sequence: number("Rlog-First")?,
            base: if base == 0 { message.sequence } else { base },
            base_before: number("Rlog-Base-Before")?,
            parts,
            parts_end: number("Rlog-Parts-End")?,
            parts_before: number("Rlog-Parts-Before")?,
            total: number("Rlog-Total")?,
            length: number("Rlog-Length")?,
            since_base: number("Rlog-Since-Base")?,
            source: match number("Rlog-Source")? {
                0 => message.sequence,
                source => source,
            },
            tail_at: usize::try_from(number("Rlog-Tail")?).ok().filter(|at| *at <= message.payload.len())?,
        })
    }

    /// Them as headers. `base` is 0 for a base itself, whose message has no number yet, and `source` for a record with a stream header.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut out: Vec<(&'static str, String)> = vec![
            ("Rlog-Record", self.record.to_string()),
            ("Rlog-First", self.first_sequence.to_string()),
            ("Rlog-Base", self.base.to_string()),
            ("Rlog-Base-Before", self.base_before.to_string()),
            ("Rlog-Parts-End", self.parts_end.to_string()),
            ("Rlog-Parts-Before", self.parts_before.to_string()),
            ("Rlog-Total", self.total.to_string()),
            ("Rlog-Length", self.length.to_string()),
            ("Rlog-Since-Base", self.since_base.to_string()),
            ("Rlog-Source", self.source.to_string()),
            ("Rlog-Tail", self.tail_at.to_string()),
        ];
        if let Some((first, last, count)) = self.parts {
            out.push(("Rlog-Parts", format!("{first} {last} {count}")));
        }
        out
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct NatsLog {
    client: Arc<Client>,
    frames: Stream,
    readers: Readers,
    place: Place,
    /// Records and their messages, the newest last.
    visited: VecDeque<(u64, u64)>,
    /// The record at hand, and how many of its parts were given.
    here: Option<(Facts, StreamMessage)>,
    part: u64,
    part_from: u64,
    ahead: Mutex<Option<StreamMessage>>,
}

impl NatsLog {
    pub fn new(client: &Arc<Client>, frames: &Stream, readers: &Readers, place: &Place) -> NatsLog {
        NatsLog {
            client: Arc::clone(client),
            frames: frames.clone(),
            readers: readers.clone(),
            place: place.clone(),
            visited: VecDeque::new(),
            here: None,
            part: 0,
            part_from: 0,
            ahead: Mutex::new(None),
        }
    }

    /// The last record's message.
    pub fn last_message(&self) -> Result<Option<(Facts, StreamMessage)>> {
        let Some(message) = self.client.last(&self.frames, &self.place.frames_subject())? else { return Ok(None) };
        let facts = self.facts(&message)?;
        Ok(Some((facts, message)))
    }

    fn facts(&self, message: &StreamMessage) -> Result<Facts> {
        Facts::of(message).ok_or_else(|| self.place.damaged(format!("message {} is not a record", message.sequence)))
    }

    /// The state behind a record.
    pub fn state(&self, facts: &Facts, message: &StreamMessage) -> Result<Segment> {
        let state = read_state(message.payload.get(facts.tail_at..).unwrap_or(&[]));
        let state = state.map_err(|error| damaged(self, facts.record, error.what()))?;
        if state.queue != self.place.uuid
            || state.channel != self.place.channel
            || state.previous_number != facts.record
        {
            return Err(damaged(self, facts.record, "its state is of another record"));
        }
        Ok(state)
    }

    /// The stream header that holds behind a record.
    pub fn source(&mut self, facts: &Facts) -> Result<Option<Box<StreamHeader>>> {
        let found = self.client.next_from_leader(&self.frames, &self.place.frames_subject(), facts.source)?;
        let Some(message) = found.filter(|found| found.sequence == facts.source) else {
            return Err(damaged(self, facts.record, "the stream header that it follows is missing"));
        };
        let facts = self.facts(&message)?;
        self.part = 0;
        self.part_from = facts.parts.map_or(0, |(first, ..)| first);
        self.here = Some((facts.clone(), message));
        let bytes = self.record_bytes()?;
        let mut frames = SliceFrames::new(&bytes, 0);
        let mut source = None;
        while let Some(frame) = frames.next().map_err(|error| damaged(self, facts.record, error))? {
            if frame.kind() == Some(Kind::Stream) {
                let header = StreamHeader::decode(frame.payload, frame.at);
                source = Some(Box::new(header.map_err(|error| damaged(self, facts.record, error))?));
            }
        }
        Ok(source)
    }

    /// What is read next: from wherever it is found first.
    fn message_behind(&self, message: u64) -> Result<Option<StreamMessage>> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ahead) = ahead.filter(|ahead| ahead.sequence > message) {
            return Ok(Some(ahead));
        }
        let subject = self.place.frames_subject();
        match self.client.next_from_any(&self.frames, &subject, message + 1)? {
            Some(message) => Ok(Some(message)),
            None => self.client.next_from_leader(&self.frames, &subject, message + 1),
        }
    }

    fn message_of(&self, record: u64) -> u64 {
        self.visited.iter().rev().find(|(visited, _)| *visited <= record).map_or(0, |(_, message)| *message)
    }

    fn visit(&mut self, facts: &Facts, message: &StreamMessage) {
        // One that is damaged is found out by whoever reads on.
        if let Ok(state) = read_state(message.payload.get(facts.tail_at..).unwrap_or(&[])) {
            self.readers.shown.saw(facts.message, state.first_sequence);
        }
        let (record, message) = (facts.record, facts.message);
        if self.visited.back().is_some_and(|(_, last)| *last >= message) {
            return;
        }
        self.visited.push_back((record, message));
        if self.visited.len() > VISITED_MAX {
            self.visited.pop_front();
        }
    }

    /// Bytes of the record at hand.
    fn record_bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.piece(&mut bytes)? {}
        Ok(bytes)
    }

    /// The newest base in which reading for `from` may begin, by its message.
    fn find_base(&mut self, from: &ReadFrom, last: &Facts) -> Result<Option<StreamMessage>> {
        let subject = self.place.frames_subject();
        let mut at = last.base;
        loop {
            let found = self.client.next_from_leader(&self.frames, &subject, at)?;
            let Some(message) = found.filter(|found| found.sequence == at) else {
                // Purged: what comes behind `from` was there once.
                return Ok(None);
            };
            let facts = self.facts(&message)?;
            let head = read_state(&message.payload).map_err(|error| damaged(self, facts.record, error.what()))?;
            // Before the first unit of all there was nothing: its record fits whatever is asked.
            let fits = facts.first_sequence <= 1
                || match from {
                    ReadFrom::Oldest | ReadFrom::Acknowledged(_) => false,
                    ReadFrom::AfterSequence(sequence) => head.first_sequence <= sequence.saturating_add(1),
                    ReadFrom::After(position) => {
                        head.incarnation.server() == position.incarnation.server()
                            && head.reached.is_some_and(|reached| reached <= position.end)
                    }
                    ReadFrom::AfterCoordinate(at) => head.reached.is_some_and(|reached| reached <= *at),
                };
            if fits {
                return Ok(Some(message));
            }
            at = facts.base_before;
        }
    }
}

impl Log for NatsLog {
    fn name(&self) -> String {
        self.place.name.clone()
    }

    fn address(&self) -> String {
        self.place.address.clone()
    }

    fn uuid(&self) -> [u8; 16] {
        self.place.uuid
    }

    fn channel(&self) -> &str {
        &self.place.channel
    }

    fn start(&mut self, from: &ReadFrom) -> Result<Option<Start>> {
        let Some((last, _)) = self.last_message()? else { return Ok(None) };
        let message = match from {
            ReadFrom::Oldest | ReadFrom::Acknowledged(_) => {
                let (low, _) = self.readers.low()?;
                self.client.next_from_leader(&self.frames, &self.place.frames_subject(), low.message.max(1))?
            }
            _ => self.find_base(from, &last)?,
        };
        let Some(message) = message else {
            return Err(purged(
                &self.place.name,
                &match from {
                    ReadFrom::After(position) => position.to_string(),
                    ReadFrom::AfterCoordinate(at) => at.to_string(),
                    ReadFrom::AfterSequence(sequence) => format!("unit {sequence}"),
                    ReadFrom::Oldest | ReadFrom::Acknowledged(_) => "its beginning".to_owned(),
                },
            ));
        };
        let facts = self.facts(&message)?;
        self.visit(&facts, &message);
        self.here = Some((facts.clone(), message));
        self.part = 0;
        self.part_from = facts.parts.map_or(0, |(first, ..)| first);
        let bytes = self.record_bytes()?;
        let segment = read_state(&bytes).map_err(|error| damaged(self, facts.record, error.what()))?;
        let mut tail = Tail::at_segment(&segment);
        let mut definitions = HashMap::new();
        let mut frames = SliceFrames::new(&bytes, 0);
        for number in 0..=segment.preamble {
            let frame = frames.next().map_err(|error| damaged(self, facts.record, error))?;
            let frame = frame.ok_or_else(|| damaged(self, facts.record, "its preamble is cut short"))?;
            match frame.kind() {
                _ if number == 0 => {}
                Some(Kind::Definition) => {
                    definitions.insert(frame.header.id, frame.payload.to_vec());
                }
                Some(Kind::Stream) => {
                    let source = StreamHeader::decode(frame.payload, frame.at);
                    tail.source = Some(Box::new(source.map_err(|error| damaged(self, facts.record, error))?));
                }
                _ => return Err(damaged(self, facts.record, "its preamble has other frames")),
            }
        }
        if facts.base != facts.message {
            return Err(damaged(self, facts.record, "the oldest record is not one that reads alone"));
        }
        Ok(Some(Start { after: facts.record, tail, definitions }))
    }

    fn last(&mut self) -> Result<u64> {
        Ok(self.last_message()?.map_or(0, |(facts, _)| facts.record))
    }

    fn is_end(&mut self, _record: u64) -> Result<bool> {
        // The leader has just said so, and the last record is never purged.
        Ok(true)
    }

    fn low(&mut self) -> Result<u64> {
        Ok(self.readers.low()?.0.record)
    }

    fn next(&mut self, after: u64) -> Result<Option<u64>> {
        let mut behind = self.message_of(after);
        loop {
            let Some(message) = self.message_behind(behind)? else { return Ok(None) };
            let facts = self.facts(&message)?;
            behind = message.sequence;
            // A record that stands there twice counts once.
            if facts.record <= after {
                continue;
            }
            self.visit(&facts, &message);
            self.part = 0;
            self.part_from = facts.parts.map_or(0, |(first, ..)| first);
            let record = facts.record;
            self.here = Some((facts, message));
            return Ok(Some(record));
        }
    }

    fn piece(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        let Some((facts, message)) = &self.here else { return Ok(false) };
        if let Some((_, last, count)) = facts.parts
            && self.part < count
        {
            let subject = self.place.parts_subject();
            let found = match self.client.next_from_any(&self.frames, &subject, self.part_from)? {
                Some(part) => Some(part),
                None => self.client.next_from_leader(&self.frames, &subject, self.part_from)?,
            };
            let Some(part) = found.filter(|part| part.sequence <= last) else {
                let record = facts.record;
                if self.low()? > record {
                    return Err(purged(&self.place.name, &format!("record {}", record - 1)));
                }
                return Err(damaged(self, record, format!("part {} of {count} is missing", self.part + 1)));
            };
            into.extend_from_slice(&part.payload);
            self.part += 1;
            self.part_from = part.sequence + 1;
            return Ok(true);
        }
        into.extend_from_slice(message.payload.get(..facts.tail_at).unwrap_or(&[]));
        Ok(false)
    }

    fn bytes_behind(&self, after: u64) -> u64 {
        let behind = self.message_of(after);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.as_ref().is_none_or(|ahead| ahead.sequence <= behind) {
            *ahead = self.client.next_from_any(&self.frames, &self.place.frames_subject(), behind + 1).ok().flatten();
        }
        ahead.as_ref().map_or(0, |ahead| ahead.payload.len() as u64)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let behind = self.visited.back().map_or(0, |(_, message)| *message);
        let end = Instant::now() + timeout;
        loop {
            let found = self.client.next_from_any(&self.frames, &self.place.frames_subject(), behind + 1)?;
            if found.is_some() {
                *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = found;
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(LOOK.min(left));
        }
    }
}
