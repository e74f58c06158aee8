//! The writer of a channel: a record a message, one after the other, each only behind the one that is known to be the last.
//!
//! A record larger than a message goes ahead in parts, on a subject of their own; the record's message names them, and until it
//! is there nobody reads them. What a killed writer left of such parts the next one removes.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::jetstream::stream::Stream;

use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Kind, Position};

use super::super::records::{self, Behind, Gather, LogReader, Record, state_frame};
use super::super::{Purged, ReadFrom, ReadMode, ReaderState, Tail, Writer, WriterOptions};
use super::Place;
use super::client::{Client, Expected, Published};
use super::lease::{Lease, overtaken};
use super::log::{Facts, NatsLog};
use super::state::{Low, Readers};

/// Bytes of a message that are left for its headers and the state behind the record.
const HEADERS_BYTES: usize = 16 << 10;
/// Bytes that wait in memory before they are published.
const WAITING_BYTES_MAX: u64 = 4 << 20;
/// Smallest messages that we work with.
const MESSAGE_BYTES_MIN: usize = 64 << 10;

/// See the module's head.
#[derive(Debug)]
pub(super) struct NatsWriter {
    client: Arc<Client>,
    frames: Stream,
    readers: Readers,
    place: Place,
    lease: Lease,
    purge: bool,
    opened: Tail,
    gather: Gather,
    /// Bytes of frames in a message at most.
    message_bytes: usize,
    /// Of the last record.
    last: Facts,
    /// The last message of the parts' subject.
    last_part: u64,
    /// Parts of the record that is being gathered.
    parts: Option<(u64, u64, u64)>,
    low_total: u64,
    held: Option<records::Held<NatsLog>>,
    poisoned: Option<(Class, String)>,
}

/// Bytes of frames that fit into a message.
fn message_bytes(client: &Client) -> Result<usize> {
    let room = client.max_payload().saturating_sub(HEADERS_BYTES);
    if room < MESSAGE_BYTES_MIN {
        return Err(Error::new(
            Class::Unavailable,
            format!("the server takes messages of {} bytes only", client.max_payload()),
        )
        .in_file(&client.address.text)
        .hint("raise max_payload in its configuration"));
    }
    Ok(room.min(1 << 20))
}

impl NatsWriter {
    pub fn open(
        client: &Arc<Client>,
        frames: &Stream,
        readers: &Readers,
        place: &Place,
        options: &WriterOptions,
    ) -> Result<NatsWriter> {
        let lease = Lease::take(client, &readers.states, place, options.lock_wait)?;
        let message_bytes = message_bytes(client)?;
        let log = NatsLog::new(client, frames, readers, place);
        let mut definitions = HashMap::new();
        let (last, tail, previous) = match log.last_message()? {
            None => (Facts::default(), Tail::default(), (0, 0)),
            Some((facts, message)) => {
                let state = log.state(&facts, &message)?;
                let mut reader = LogReader::open_with(
                    log,
                    &ReadFrom::AfterSequence(state.first_sequence - 1),
                    ReadMode::ONCE,
                    &mut definitions,
                )?;
                reader.read_all(&mut definitions)?;
                let mut tail = Tail::at_segment(&state);
                tail.source.clone_from(&reader.tail().source);
                (facts, tail, (state.previous_length, state.previous_digest))
            }
        };
        let last_part = remove_left_parts(client, frames, place, last.parts_end)?;
        let low_total = readers.low()?.0.total;
        let record_bytes = options.segment_bytes.min(message_bytes as u64 / 2);
        let gather = Gather::new(
            place.uuid,
            &place.channel,
            lease.epoch(),
            record_bytes,
            Behind { record: last.record, previous, tail: tail.clone(), definitions },
        )
        .with_bases(options.segment_bytes, last.since_base);
        Ok(NatsWriter {
            client: Arc::clone(client),
            frames: frames.clone(),
            readers: readers.clone(),
            place: place.clone(),
            lease,
            purge: options.purge,
            opened: tail,
            gather,
            message_bytes,
            last,
            last_part,
            parts: None,
            low_total,
            held: None,
            poisoned: None,
        })
    }

    fn check(&self) -> Result<()> {
        match &self.poisoned {
            Some((class, why)) => Err(Error::new(*class, format!("the queue's writer stopped after an error: {why}"))
                .in_file(&self.place.name)
                .hint("run the same command again: what was acknowledged is safe")),
            None => self.lease.check(),
        }
    }

    fn poison<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poisoned.get_or_insert_with(|| (error.class(), error.to_string()));
        }
        result
    }

    /// Publishes a part of the record `record`.
    fn publish_part(&mut self, record: u64, part: u64, bytes: Vec<u8>) -> Result<()> {
        let id = format!("{}:{}:{record}:{part}", self.place.channel, self.lease.epoch());
        let subject = self.place.parts_subject();
        let mut expected = self.last_part;
        let message = loop {
            match self.client.publish(&self.frames, &subject, &id, &[], bytes.clone(), Expected(expected))? {
                Published::Stored(message) => break message,
                Published::Overtaken => {
                    // The last part may have been purged since; then there is none.
                    let there = self.client.last(&self.frames, &subject)?.map_or(0, |there| there.sequence);
                    if there == 0 && expected != 0 {
                        expected = 0;
                        continue;
                    }
                    return Err(overtaken(&self.place));
                }
            }
        };
        self.last_part = message;
        self.parts = Some(match self.parts {
            None => (message, message, 1),
            Some((first, _, count)) => (first, message, count + 1),
        });
        Ok(())
    }

    /// Publishes a record that is finished.
    fn publish_record(&mut self, mut record: Record) -> Result<()> {
        self.lease.check()?;
        let state = state_frame(&record.behind(self.place.uuid, &self.place.channel, self.lease.epoch()));
        let mut part = record.pieces;
        while record.bytes.len() + state.len() > self.message_bytes {
            let rest = record.bytes.split_off(self.message_bytes.min(record.bytes.len()));
            let bytes = std::mem::replace(&mut record.bytes, rest);
            self.publish_part(record.number, part, bytes)?;
            part += 1;
        }
        let parts = self.parts.take();
        let has_source = record.base || record.live.iter().any(|live| live.kind == Kind::Stream);
        let facts = Facts {
            message: 0,
            record: record.number,
            first_sequence: record.first_sequence,
            base: if record.base { 0 } else { self.last.base },
            base_before: if record.base { self.last.base } else { self.last.base_before },
            parts,
            parts_end: parts.map_or(self.last.parts_end, |(_, last, _)| last),
            parts_before: self.last.parts_end,
            total: self.last.total + record.length,
            length: record.length,
            since_base: if record.base { record.length } else { self.last.since_base + record.length },
            source: if has_source { 0 } else { self.last.source },
            tail_at: record.bytes.len(),
        };
        let reached = record.reached.unwrap_or_default();
        // The coordinate that it goes on from makes the id the event's, the epoch this writer's.
        let id =
            format!("{}:{}:{:08x}:{reached}:{}", self.place.channel, self.lease.epoch(), record.server, record.number);
        let mut payload = record.bytes;
        payload.extend_from_slice(&state);
        let subject = self.place.frames_subject();
        let published =
            self.client.publish(&self.frames, &subject, &id, &facts.headers(), payload, Expected(self.last.message))?;
        let Published::Stored(message) = published else { return Err(overtaken(&self.place)) };
        let base = if record.base { message } else { facts.base };
        let source = if has_source { message } else { facts.source };
        self.last = Facts { message, base, source, ..facts };
        Ok(())
    }

    fn store(&mut self) -> Result<()> {
        self.check()?;
        let mut stored = false;
        let mut based = false;
        while let Some(record) = self.gather.take_record() {
            stored = true;
            based |= record.base;
            let published = self.publish_record(record);
            self.poison(published)?;
        }
        if stored && based && self.purge {
            self.purge()?;
        }
        Ok(())
    }

    fn purge(&mut self) -> Result<()> {
        purge(&self.client, &self.frames, &self.readers, &self.place, false)?;
        self.low_total = self.readers.low()?.0.total;
        Ok(())
    }

    fn relieve(&mut self) -> Result<()> {
        if self.gather.waiting_bytes() < WAITING_BYTES_MAX {
            return Ok(());
        }
        self.gather.finish();
        self.store()?;
        while self.gather.waiting_bytes() >= WAITING_BYTES_MAX {
            let (record, part, bytes) = self.gather.take_piece(self.message_bytes);
            let published = self.publish_part(record, part, bytes);
            self.poison(published)?;
        }
        Ok(())
    }

    /// Removes the parts of a unit that never ended.
    fn drop_parts(&mut self) -> Result<()> {
        if self.parts.take().is_some() {
            self.last_part = remove_left_parts(&self.client, &self.frames, &self.place, self.last.parts_end)?;
        }
        Ok(())
    }
}

/// Removes parts that no record names: those behind `parts_end`. Returns the last message that is left.
fn remove_left_parts(client: &Client, frames: &Stream, place: &Place, parts_end: u64) -> Result<u64> {
    let subject = place.parts_subject();
    let mut from = parts_end + 1;
    while let Some(part) = client.next_from_leader(frames, &subject, from)? {
        client.delete(frames, part.sequence)?;
        from = part.sequence + 1;
    }
    Ok(client.last(frames, &subject)?.map_or(0, |last| last.sequence))
}

/// Removes what every registered reader has acknowledged, from base to base. The last record stays.
pub(super) fn purge(
    client: &Client,
    frames: &Stream,
    readers: &Readers,
    place: &Place,
    dry_run: bool,
) -> Result<Purged> {
    let mut purged = Purged::default();
    let needs = || -> Result<Option<u64>> { Ok(readers.all()?.iter().map(ReaderState::needs).min()) };
    let Some(needed) = needs()? else { return Ok(purged) };
    let subject = place.frames_subject();
    let Some(last) = client.last(frames, &subject)? else { return Ok(purged) };
    let facts_of =
        |message: &_| Facts::of(message).ok_or_else(|| place.damaged("a message is not a record".to_owned()));
    let (low, revision) = readers.low()?;
    let mut at = facts_of(&last)?.base;
    let keep = loop {
        if at <= low.message {
            return Ok(purged);
        }
        let found = client.next_from_leader(frames, &subject, at)?.filter(|found| found.sequence == at);
        let Some(found) = found else { return Ok(purged) };
        let facts = facts_of(&found)?;
        if facts.record <= low.record {
            return Ok(purged);
        }
        if facts.first_sequence <= needed {
            break facts;
        }
        at = facts.base_before;
    };
    let total = keep.total - keep.length;
    purged.bytes = total.saturating_sub(low.total);
    purged.files = vec![format!("records {} to {}", low.record, keep.record - 1)];
    if dry_run {
        return Ok(purged);
    }
    let raised = Low { record: keep.record, message: keep.message, sequence: keep.first_sequence, total };
    let Some(revision) = readers.set_low(&raised, revision)? else { return Ok(Purged::default()) };
    // A reader that stepped back meanwhile: see `Readers::ack`.
    if needs()?.is_none_or(|needed| keep.first_sequence > needed) {
        readers.set_low(&low, revision)?;
        return Ok(Purged::default());
    }
    client.purge(frames, &subject, Some(keep.message))?;
    client.purge(frames, &place.parts_subject(), Some(keep.parts_before + 1))?;
    Ok(purged)
}

impl Writer for NatsWriter {
    fn tail(&self) -> &Tail {
        &self.opened
    }

    fn has_definition(&self, key: u64, payload: &[u8]) -> bool {
        self.gather.has_definition(key, payload)
    }

    fn keep_definition(&mut self, key: u64, payload: &[u8]) {
        self.gather.keep_definition(key, payload);
    }

    fn append(&mut self, frames: &mut [u8]) -> Result<()> {
        self.check()?;
        self.gather.append(frames)?;
        self.relieve()
    }

    fn boundary(&mut self, tail: &Tail) -> Result<()> {
        self.check()?;
        if self.gather.boundary(tail)? {
            let dropped = self.drop_parts();
            self.poison(dropped)?;
        }
        self.relieve()
    }

    fn wants_boundary(&self, bytes: u64) -> bool {
        self.gather.record_len() + bytes >= self.gather.record_bytes()
    }

    fn sync(&mut self) -> Result<()> {
        self.gather.finish();
        self.store()
    }

    fn unsynced_bytes(&self) -> u64 {
        self.gather.waiting_bytes()
    }

    fn held(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        if let Some(position) = self.gather.held(txid) {
            return Ok(Some(position));
        }
        if self.held.as_ref().is_none_or(|held| !held.is_ahead(txid)) {
            let log = NatsLog::new(&self.client, &self.frames, &self.readers, &self.place);
            self.held = records::Held::open(log, txid)?;
        }
        self.held.as_mut().map_or(Ok(None), |held| held.find(txid))
    }

    fn used_bytes(&self) -> u64 {
        self.last.total.saturating_sub(self.low_total) + self.gather.waiting_bytes()
    }

    fn make_room(&mut self) -> Result<bool> {
        self.sync()?;
        let needed = self.readers.all()?.iter().map(ReaderState::needs).min().unwrap_or(0);
        let unneeded = needed > self.gather.tail().sequence;
        if unneeded && self.last.base != self.last.message {
            // Nobody needs anything: all of it may go, once there is a base to keep the last record.
            self.gather.insert_base();
            self.store()?;
        }
        self.purge()?;
        Ok(unneeded)
    }

    fn waiting(&mut self, why: Option<&str>) -> Result<()> {
        self.lease.waiting(why.unwrap_or(""))
    }

    fn close(&mut self) -> Result<()> {
        self.gather.finish();
        self.store()?;
        self.drop_parts()?;
        self.lease.close()
    }
}
