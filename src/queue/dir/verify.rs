//! Looking at a channel without changing it: its status, and a check of every byte.

use crate::error::{Error, Result};
use crate::sys::Access;

use super::super::{Status, Verified};
use super::channel::{Channel, WAITING, WriterState, segment_name};
use super::{LOOKS_MAX, purge, recover, segment};

pub(super) fn status(channel: &Channel) -> Result<Status> {
    let mut looks = 0;
    loop {
        looks += 1;
        if let Some(status) = look(channel, looks >= LOOKS_MAX)? {
            return Ok(status);
        }
    }
}

/// `None`: a writer went on in another segment meanwhile. What was seen then is told all the same when it is the `last_look`.
fn look(channel: &Channel, last_look: bool) -> Result<Option<Status>> {
    let state = channel.writer_state()?;
    let segments = channel.held_segments()?;
    let writing = channel.try_lock()?.is_none();
    let mut status = Status {
        files: segments.len() as u64,
        free_bytes: channel.dir.free_bytes().map_err(|error| channel.io("", error))?,
        writing,
        unclean: !state.clean && !writing,
        epoch: state.epoch,
        readers: purge::readers(channel)?,
        first_sequence: purge::first_sequence(channel)?,
        ..Status::default()
    };
    for number in &segments {
        status.bytes += purge::segment_bytes(channel, *number)?;
    }
    if let Some(last) = segments.last().copied() {
        let looked = look_at_last(channel, &state, last, &mut status);
        // A recovery moves what is whole into a segment that follows, and then cuts this one.
        if !last_look && channel.held_segments()?.last().copied() != Some(last) {
            return Ok(None);
        }
        looked?;
    }
    if let Ok(file) = channel.dir.open(WAITING, Access::Read)
        && writing
    {
        let mut text = [0; 1024];
        let count = file.read_full_at(&mut text, 0).map_err(|error| channel.io(WAITING, error))?;
        status.waiting = String::from_utf8_lossy(text.get(..count).unwrap_or(&[])).into_owned();
    }
    Ok(Some(status))
}

fn look_at_last(channel: &Channel, state: &WriterState, last: u64, status: &mut Status) -> Result<()> {
    let scan = segment::scan(channel, last, u64::MAX)?;
    let vouched = recover::vouched(state, &scan, last);
    recover::refuse_damage(channel, &scan, last, vouched)?;
    status.synced_sequence = if vouched >= scan.whole || state.clean {
        scan.tail.sequence
    } else {
        segment::scan(channel, last, vouched)?.tail.sequence
    };
    status.tail = scan.tail;
    Ok(())
}

pub(super) fn verify(channel: &Channel, finding: &mut dyn FnMut(Error)) -> Result<Verified> {
    let mut seen = Verified::default();
    let mut report = |seen: &mut Verified, error: Error| {
        seen.errors += 1;
        finding(error);
    };
    let state = channel.writer_state()?;
    let low = channel.low_water()?;
    if let Err(error) = purge::readers(channel) {
        report(&mut seen, error);
    }
    let segments: Vec<u64> = channel.segments()?.into_iter().filter(|number| *number >= low).collect();
    let Some(last) = segments.last().copied().max(Some(state.segment)).filter(|last| *last > 0) else {
        return Ok(seen);
    };
    let mut before: Option<segment::Scan> = None;
    for number in low..=last {
        if !segments.contains(&number) {
            report(&mut seen, channel.missing_segment(number));
            before = None;
            continue;
        }
        let name = channel.file(&segment_name(number));
        let next = segment::open(channel, number + 1).ok().flatten().map(|(_, head)| head);
        let limit = next.as_ref().map_or(u64::MAX, |head| head.segment.previous_length);
        let scan = match segment::scan(channel, number, limit) {
            Ok(scan) => scan,
            Err(error) => {
                report(&mut seen, error);
                before = None;
                continue;
            }
        };
        seen.files += 1;
        seen.bytes += scan.length.min(limit);
        seen.transactions += scan.transactions;
        let head = &scan.head.segment;
        if let Some(before) = &before
            && before.bad.is_none()
            && (before.whole != head.previous_length
                || before.digest != head.previous_digest
                || before.tail.sequence + 1 != head.first_sequence
                || before.tail.reached != head.reached)
        {
            report(
                &mut seen,
                Error::damage(format!("this segment does not go on from segment {}", head.previous_number))
                    .in_file(name.clone()),
            );
        }
        // Below a successor's word everything must be whole; in the last segment what something vouches for.
        let vouched = if next.is_some() { limit } else { recover::vouched(&state, &scan, number) };
        if let Err(error) = recover::refuse_damage(channel, &scan, number, vouched) {
            report(&mut seen, error);
        } else if next.is_some() && scan.whole < limit {
            report(
                &mut seen,
                Error::damage("the segment ends inside a transaction, but another follows")
                    .in_file(name)
                    .at(scan.whole),
            );
        }
        before = Some(scan);
    }
    Ok(seen)
}
