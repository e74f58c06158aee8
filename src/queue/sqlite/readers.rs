//! Registered readers, and the removal of what none of them needs. All of it works on a connection that the caller lends,
//! within the caller's transaction: an applier that writes into the same database acknowledges and purges within its own.

use rusqlite::OptionalExtension as _;

use crate::error::{Class, Error, Result};
use crate::sys::clock;

use super::super::{Mark, Purged, ReaderState, fold_name};
use super::log::Place;

fn no_reader(place: &Place, name: &str) -> Error {
    Error::new(Class::NoInput, format!("no reader `{name}` is registered"))
        .in_file(&place.name)
        .hint(format!("`rlog-queue status sqlite:{}` lists the readers", place.file))
}

const COLUMNS: &str = "name, sequence, position, time_us, pins";

/// A row of [`COLUMNS`]; the second part is false when it is damaged.
fn state_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(ReaderState, bool)> {
    let (position, pins): (String, String) = (row.get(2)?, row.get(4)?);
    let mut well = true;
    let mut acked = Mark { sequence: row.get::<_, i64>(1)? as u64, ..Mark::default() };
    if !position.is_empty() {
        match position.parse() {
            Ok(position) => acked.position = position,
            Err(_) => well = false,
        }
    }
    let parsed: Vec<Option<u64>> = pins.split_whitespace().map(|pin| pin.parse().ok()).collect();
    well &= parsed.iter().all(Option::is_some);
    let pins = parsed.into_iter().flatten().collect();
    Ok((ReaderState { name: row.get(0)?, acked, pins, time_us: row.get(3)? }, well))
}

fn checked(place: &Place, (state, well): (ReaderState, bool)) -> Result<ReaderState> {
    if well {
        return Ok(state);
    }
    Err(Error::damage(format!("what reader `{}` has acknowledged is invalid", state.name)).in_file(&place.name))
}

/// The registered readers, by name.
pub(super) fn all(connection: &rusqlite::Connection, place: &Place) -> Result<Vec<ReaderState>> {
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut statement = connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM main.rlog_queue_reader WHERE channel=?1 ORDER BY name"))?;
        statement.query_map([place.id], state_of)?.collect()
    };
    place.fold(read())?.into_iter().map(|row| checked(place, row)).collect()
}

/// One reader.
pub(super) fn one(connection: &rusqlite::Connection, place: &Place, name: &str) -> Result<Option<ReaderState>> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM main.rlog_queue_reader WHERE channel=?1 AND name=?2"))
        .and_then(|mut statement| statement.query_row((place.id, name), state_of).optional());
    place.fold(found)?.map(|row| checked(place, row)).transpose()
}

/// One that must be there.
pub(super) fn known(connection: &rusqlite::Connection, place: &Place, name: &str) -> Result<ReaderState> {
    let name = fold_name("reader", name)?;
    one(connection, place, &name)?.ok_or_else(|| no_reader(place, &name))
}

fn store(connection: &rusqlite::Connection, place: &Place, reader: &ReaderState) -> Result<()> {
    let position = if reader.acked.sequence > 0 { reader.acked.position.to_string() } else { String::new() };
    let pins: Vec<String> = reader.pins.iter().map(u64::to_string).collect();
    let stored = connection
        .prepare_cached(
            "INSERT OR REPLACE INTO main.rlog_queue_reader (channel, name, sequence, position, time_us, pins) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut statement| {
            let sequence = reader.acked.sequence as i64;
            statement.execute((place.id, &reader.name, sequence, position, reader.time_us, pins.join(" ")))
        });
    place.fold(stored).map(drop)
}

pub(super) fn register(connection: &rusqlite::Connection, place: &Place, name: &str) -> Result<ReaderState> {
    let name = fold_name("reader", name)?;
    if let Some(known) = one(connection, place, &name)? {
        return Ok(known);
    }
    let reader = ReaderState { name, acked: Mark::default(), pins: Vec::new(), time_us: clock::now_us() };
    store(connection, place, &reader)?;
    Ok(reader)
}

pub(super) fn unregister(connection: &rusqlite::Connection, place: &Place, name: &str) -> Result<()> {
    let name = fold_name("reader", name)?;
    let gone = connection.execute("DELETE FROM main.rlog_queue_reader WHERE channel=?1 AND name=?2", (place.id, &name));
    if place.fold(gone)? == 0 { Err(no_reader(place, &name)) } else { Ok(()) }
}

pub(super) fn ack(connection: &rusqlite::Connection, place: &Place, name: &str, mark: &Mark) -> Result<()> {
    let mut reader = known(connection, place, name)?;
    if reader.acked == *mark {
        return Ok(());
    }
    if mark.sequence < reader.acked.sequence && mark.sequence + 1 < place.first_sequence(connection)? {
        return Err(Error::new(Class::Gap, format!("the queue no longer holds what comes behind {}", mark.position))
            .in_file(&place.name)
            .hint("the target was set back too far: take a new snapshot"));
    }
    reader.acked = mark.clone();
    reader.time_us = clock::now_us();
    store(connection, place, &reader)
}

pub(super) fn pin(
    connection: &rusqlite::Connection,
    place: &Place,
    name: &str,
    sequence: u64,
    keep: bool,
) -> Result<()> {
    let mut reader = known(connection, place, name)?;
    if reader.pins.contains(&sequence) == keep {
        return Ok(());
    }
    if keep {
        if sequence < place.first_sequence(connection)? {
            return Err(Error::new(Class::Gap, format!("unit {sequence} was purged")).in_file(&place.name));
        }
        reader.pins.push(sequence);
    } else {
        reader.pins.retain(|pin| *pin != sequence);
    }
    store(connection, place, &reader)
}

/// What may go: bytes, and the oldest record that stays.
pub(super) fn purgeable(connection: &rusqlite::Connection, place: &Place) -> Result<(Purged, u64)> {
    let row = place.row(connection)?;
    let mut purged = Purged::default();
    let readers = all(connection, place)?;
    let Some(needed) = readers.iter().map(ReaderState::needs).min() else { return Ok((purged, row.low)) };
    let keep = place.number(
        connection,
        "SELECT record FROM main.rlog_queue_record WHERE channel=?1 AND record<=?2 AND last_sequence>=?3 ORDER BY record LIMIT 1",
        (place.id, row.record as i64, i64::try_from(needed).unwrap_or(i64::MAX)),
    )?;
    let keep = keep.unwrap_or(row.record + 1).max(row.low);
    if keep == row.low {
        return Ok((purged, keep));
    }
    let bytes = place.number(
        connection,
        "SELECT sum(length) FROM main.rlog_queue_record WHERE channel=?1 AND record<?2",
        (place.id, keep as i64),
    )?;
    purged.bytes = bytes.unwrap_or(0);
    purged.files = vec![format!("records {} to {}", row.low, keep - 1)];
    Ok((purged, keep))
}

/// Removes what every registered reader has acknowledged. What the channel has reached stays in its row.
pub(super) fn purge(connection: &rusqlite::Connection, place: &Place) -> Result<Purged> {
    let (purged, keep) = purgeable(connection, place)?;
    if purged.files.is_empty() {
        return Ok(purged);
    }
    let row = place.row(connection)?;
    let first = place.number(
        connection,
        "SELECT first_sequence FROM main.rlog_queue_record WHERE channel=?1 AND record=?2",
        (place.id, keep as i64),
    )?;
    let first = first.unwrap_or(row.sequence + 1);
    let run = || -> rusqlite::Result<()> {
        let at = (place.id, keep as i64);
        connection.prepare_cached("UPDATE main.rlog_queue_channel SET low=?2 WHERE id=?1")?.execute(at)?;
        connection.prepare_cached("DELETE FROM main.rlog_queue_record WHERE channel=?1 AND record<?2")?.execute(at)?;
        connection.prepare_cached("DELETE FROM main.rlog_queue_frames WHERE channel=?1 AND record<?2")?.execute(at)?;
        connection
            .prepare_cached("DELETE FROM main.rlog_queue_transaction WHERE channel=?1 AND sequence<?2")?
            .execute((place.id, first as i64))?;
        // Of definitions and headers the last one before what is kept still holds.
        connection
            .prepare_cached(
                "DELETE FROM main.rlog_queue_live AS old WHERE channel=?1 AND record<?2 AND EXISTS (SELECT 1 FROM main.rlog_queue_live n \
                 WHERE n.channel=old.channel AND n.kind=old.kind AND n.key=old.key AND n.record>old.record AND n.record<?2)",
            )?
            .execute(at)?;
        Ok(())
    };
    place.fold(run())?;
    Ok(purged)
}
