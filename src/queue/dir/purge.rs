//! Registered readers, what they acknowledged, and the removal of what none of them needs.
//!
//! The order that no crash may break: the unit is durable, then the reader's acknowledgement of it (its target's position was before), then the
//! low-water mark, then the oldest segment goes, and the next, then the directory is synced. A crash in between
//! leaves segments below the mark, which the next writer removes. The last segment always stays: its head or its
//! units are the last record.
//!
//! All of this needs a little room itself. On a full disk the channel's reserve is let go of first ([`Channel::with_reserve`]), and taken
//! again once something was removed.

use std::io;

use crate::error::{Class, Error, Result};
use crate::sys::Access;
use crate::sys::state::{State, TEMP_PREFIX};
use crate::sys::{clock, planted};

use super::super::{Mark, Purged, ReaderState, fold_name};
use super::channel::{Channel, segment_name};
use super::segment;

const READER_STATE: &str = "reader";

/// Bytes of a segment's file; 0 when it is gone.
pub(super) fn segment_bytes(channel: &Channel, number: u64) -> Result<u64> {
    let name = segment_name(number);
    match channel.dir.open(&name, Access::Read).and_then(|file| file.len()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => other.map_err(|error| channel.io(&name, error)),
    }
}

pub(super) fn reader_state(channel: &Channel, name: &str) -> Result<Option<ReaderState>> {
    let file = format!("readers/{name}");
    let Some(state) = State::load(&*channel.readers, name, READER_STATE)
        .map_err(|error| Error::new(error.class(), error.what().to_owned()).in_file(channel.file(&file)))?
    else {
        return Ok(None);
    };
    let parsed = || -> Result<ReaderState> {
        let position = match state.get("position") {
            None | Some("") => Default::default(),
            Some(text) => text.parse().map_err(|_| Error::damage("the acknowledged position is invalid"))?,
        };
        let pins = state.all("pin").map(|pin| pin.parse().map_err(|_| Error::damage("a pin is invalid")));
        Ok(ReaderState {
            name: name.to_owned(),
            acked: Mark { sequence: state.parse("sequence")?, position },
            pins: pins.collect::<Result<_>>()?,
            time_us: state.parse("time-us")?,
        })
    };
    parsed().map(Some).map_err(|error| error.in_file(channel.file(&file)))
}

fn store_reader(channel: &Channel, reader: &ReaderState) -> Result<()> {
    let mut state = State::new();
    state.set("sequence", reader.acked.sequence);
    if reader.acked.sequence > 0 {
        state.set("position", &reader.acked.position);
    }
    state.set("time-us", reader.time_us);
    for pin in &reader.pins {
        state.set("pin", pin);
    }
    let file = channel.file(&format!("readers/{}", reader.name));
    channel.with_reserve(|| {
        state
            .store(&*channel.readers, &reader.name, READER_STATE)
            .map_err(|error| Error::new(error.class(), error.what().to_owned()).in_file(file.clone()))
    })
}

fn sync_readers(channel: &Channel) -> Result<()> {
    channel.readers.sync().map_err(|error| channel.io("readers", error))
}

/// The error of a reader that is not registered.
pub(super) fn no_reader(channel: &Channel, name: &str) -> Error {
    Error::new(Class::NoInput, format!("no reader `{name}` is registered"))
        .in_file(channel.name())
        .hint(format!("`rlog-queue status {}` lists the readers", channel.path))
}

pub(super) fn readers(channel: &Channel) -> Result<Vec<ReaderState>> {
    let names = channel.readers.list().map_err(|error| channel.io("readers", error))?;
    let mut out = Vec::new();
    for name in names.iter().filter(|name| !name.starts_with(TEMP_PREFIX)) {
        // One that was forgotten meanwhile is none.
        out.extend(reader_state(channel, name)?);
    }
    Ok(out)
}

/// Sequence number of the oldest unit that is held.
pub(super) fn first_sequence(channel: &Channel) -> Result<u64> {
    let Some(first) = channel.held_segments()?.first().copied() else { return Ok(1) };
    let (_, head) = segment::open(channel, first)?.ok_or_else(|| channel.missing_segment(first))?;
    Ok(head.segment.first_sequence)
}

pub(super) fn register(channel: &Channel, name: &str) -> Result<ReaderState> {
    let name = fold_name("reader", name)?;
    let _lock = channel.lock_readers()?;
    if let Some(known) = reader_state(channel, &name)? {
        sync_readers(channel)?;
        return Ok(known);
    }
    // What was purged before it came is not what it waits for.
    let acked = Mark { sequence: 0, ..Mark::default() };
    let reader = ReaderState { name, acked, pins: Vec::new(), time_us: clock::now_us() };
    store_reader(channel, &reader)?;
    channel.keep_reserve();
    Ok(reader)
}

pub(super) fn unregister(channel: &Channel, name: &str) -> Result<()> {
    let name = fold_name("reader", name)?;
    let _lock = channel.lock_readers()?;
    match channel.readers.remove(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_reader(channel, &name)),
        other => other.and_then(|()| channel.readers.sync()).map_err(|error| channel.io("readers", error)),
    }
}

pub(super) fn ack(channel: &Channel, name: &str, mark: &Mark) -> Result<()> {
    let name = fold_name("reader", name)?;
    let _lock = channel.lock_readers()?;
    let mut reader = reader_state(channel, &name)?.ok_or_else(|| no_reader(channel, &name))?;
    if reader.acked == *mark {
        return sync_readers(channel);
    }
    if mark.sequence < reader.acked.sequence && mark.sequence + 1 < first_sequence(channel)? {
        return Err(Error::new(Class::Gap, format!("the queue no longer holds what comes behind {}", mark.position))
            .in_file(channel.name())
            .hint("the target was set back too far: take a new snapshot"));
    }
    reader.acked = mark.clone();
    reader.time_us = clock::now_us();
    store_reader(channel, &reader)
}

pub(super) fn pin(channel: &Channel, name: &str, sequence: u64, keep: bool) -> Result<()> {
    let name = fold_name("reader", name)?;
    let _lock = channel.lock_readers()?;
    let mut reader = reader_state(channel, &name)?.ok_or_else(|| no_reader(channel, &name))?;
    if reader.pins.contains(&sequence) == keep {
        return Ok(());
    }
    if keep {
        if sequence < first_sequence(channel)? {
            return Err(Error::new(Class::Gap, format!("unit {sequence} was purged")).in_file(channel.name()));
        }
        reader.pins.push(sequence);
    } else {
        reader.pins.retain(|pin| *pin != sequence);
    }
    store_reader(channel, &reader)
}

pub(super) fn purge(channel: &Channel, dry_run: bool) -> Result<Purged> {
    let _lock = channel.lock_readers()?;
    let mut purged = Purged::default();
    let readers = readers(channel)?;
    let Some(needed) = readers.iter().map(ReaderState::needs).min() else { return Ok(purged) };
    let needed = if planted::is(planted::Bug::PurgeUnacknowledged) { u64::MAX } else { needed };
    let segments = channel.held_segments()?;
    // A segment may go when the next one begins at or before the first unit that someone needs.
    let mut keep = segments.first().copied().unwrap_or(1);
    for number in segments.iter().skip(1) {
        let (_, head) = segment::open(channel, *number)?.ok_or_else(|| channel.missing_segment(*number))?;
        if head.segment.first_sequence > needed {
            break;
        }
        keep = *number;
    }
    let gone: Vec<u64> = segments.into_iter().filter(|number| *number < keep).collect();
    if gone.is_empty() {
        return Ok(purged);
    }
    for number in &gone {
        purged.bytes += segment_bytes(channel, *number)?;
        purged.files.push(segment_name(*number));
    }
    if dry_run {
        return Ok(purged);
    }
    // An acknowledgement that we see need not be durable yet: its process may have died between rename and sync.
    sync_readers(channel)?;
    channel.set_low_water(keep)?;
    for name in &purged.files {
        match channel.dir.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(channel.io(name, error)),
            _ => {}
        }
    }
    channel.dir.sync().map_err(|error| channel.io("", error))?;
    channel.keep_reserve();
    Ok(purged)
}
