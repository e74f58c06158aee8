//! A check of everything: the database's own structure, the records, and whether the tables around them say the same.

use std::collections::HashMap;

use crate::error::{Error, Result};

use super::super::Verified;
use super::super::records;
use super::SqliteQueue;

pub(super) fn verify(queue: &SqliteQueue, finding: &mut dyn FnMut(Error)) -> Result<Verified> {
    let place = &queue.place;
    let connection = queue.connection();
    let errors = std::cell::Cell::new(0);
    let mut report = |error: Error| {
        errors.set(errors.get() + 1);
        finding(error);
    };
    let structure = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("PRAGMA main.integrity_check")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match place.fold(structure()) {
        Ok(lines) => {
            for line in lines.iter().filter(|line| *line != "ok") {
                report(Error::damage(format!("SQLite: {line}")).in_file(&place.file));
            }
        }
        Err(error) => report(error),
    }
    // What the index of transactions says, by number of the unit.
    let indexed = || -> rusqlite::Result<HashMap<u64, String>> {
        let mut statement =
            connection.prepare("SELECT sequence, position FROM main.rlog_queue_transaction WHERE channel=?1")?;
        statement.query_map([place.id], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?.collect()
    };
    let mut indexed = match place.fold(indexed()) {
        Ok(indexed) => indexed,
        Err(error) => {
            report(error);
            HashMap::new()
        }
    };
    let row = match place.row(&connection).and_then(|row| place.tail(&connection, &row).map(|tail| (row, tail))) {
        Ok(row) => Some(row),
        Err(error) => {
            report(error);
            None
        }
    };
    if let Err(error) = super::readers::all(&connection, place) {
        report(error);
    }
    if let Err(error) = place.definitions(&connection, u64::MAX >> 1) {
        report(error);
    }
    drop(connection);
    let mut last = None;
    let mut seen = records::verify(queue.log(false)?, &mut report, &mut |tail| {
        last = Some(tail.sequence);
        let Some(position) = &tail.last else { return Ok(()) };
        match indexed.remove(&tail.sequence) {
            Some(text) if text == position.to_string() => Ok(()),
            Some(text) => {
                Err(Error::damage(format!("unit {}: the index says {text}, its frames say {position}", tail.sequence))
                    .in_file(&place.name))
            }
            // Chunks of snapshots are not in the index; what follows them keeps the position of the transaction before.
            None => Ok(()),
        }
    })?;
    if let Some(sequence) = indexed.keys().min().filter(|_| errors.get() == 0) {
        report(
            Error::damage(format!(
                "the index has {} transactions that are in no record, the first is unit {sequence}",
                indexed.len()
            ))
            .in_file(&place.name),
        );
    }
    if let Some((row, tail)) = row
        && let Some(last) = last
        && last > tail.sequence
    {
        report(
            Error::damage(format!(
                "the channel's row says that unit {} is the last, there is a unit {last}",
                row.sequence
            ))
            .in_file(&place.name),
        );
    }
    seen.errors = errors.get();
    seen.files = 1;
    seen.bytes = place.bytes(&queue.connection(), 0)?;
    Ok(seen)
}
