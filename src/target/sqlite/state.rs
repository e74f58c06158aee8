//! The state tables in SQLite; see [`crate::target`] for what they mean.

use rusqlite::{OptionalExtension, Statement, params};

use crate::frame::{Coordinate, Incarnation};
use crate::target::{ChannelState, EPOCH_FACT, StateRow};

/// Creates what is missing.
pub(super) const CREATE: &str = "
CREATE TABLE IF NOT EXISTS main.rlog_target (uuid TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS main.rlog_channel (
  channel TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (channel, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS main.rlog_applied (
  channel TEXT NOT NULL, incarnation TEXT NOT NULL, prev INTEGER NOT NULL, txid INTEGER NOT NULL, end_at INTEGER NOT NULL,
  position TEXT NOT NULL, transactions INTEGER NOT NULL, row_count INTEGER NOT NULL, source_time_us INTEGER NOT NULL,
  applied_time_us INTEGER NOT NULL, epoch INTEGER NOT NULL, origins TEXT NOT NULL,
  PRIMARY KEY (channel, incarnation, prev)) WITHOUT ROWID;
";

pub(super) const INSERT_APPLIED: &str = "INSERT INTO main.rlog_applied (channel, incarnation, prev, txid, end_at, position, \
     transactions, row_count, source_time_us, applied_time_us, epoch, origins) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)";

/// Binds a row to [`INSERT_APPLIED`]. Coordinates keep their bits: as signed numbers they stand below zero from 2^63.
pub(super) fn bind_applied(statement: &mut Statement<'_>, row: &StateRow) -> rusqlite::Result<()> {
    let txid = row.position.as_ref().map_or(row.end, |position| position.txid);
    statement.raw_bind_parameter(1, &row.channel)?;
    statement.raw_bind_parameter(2, row.incarnation.to_string())?;
    statement.raw_bind_parameter(3, row.prev.0 as i64)?;
    statement.raw_bind_parameter(4, txid.0 as i64)?;
    statement.raw_bind_parameter(5, row.end.0 as i64)?;
    statement.raw_bind_parameter(6, row.position.as_ref().map(ToString::to_string).unwrap_or_default())?;
    statement.raw_bind_parameter(7, row.transactions as i64)?;
    statement.raw_bind_parameter(8, row.rows as i64)?;
    statement.raw_bind_parameter(9, row.source_time_us)?;
    statement.raw_bind_parameter(10, row.applied_time_us)?;
    statement.raw_bind_parameter(11, row.epoch as i64)?;
    statement.raw_bind_parameter(12, row.origins.join(" "))
}

/// Whether the state tables are there.
pub(super) fn exists(connection: &rusqlite::Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*)=3 FROM main.sqlite_schema WHERE type='table' AND name IN ('rlog_target','rlog_channel','rlog_applied')",
        [],
        |row| row.get(0),
    )
}

/// Sets or removes a fact.
pub(super) fn set_fact(
    connection: &rusqlite::Connection,
    channel: &str,
    name: &str,
    value: Option<&str>,
) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO main.rlog_channel (channel, name, value) VALUES (?1, ?2, ?3) \
             ON CONFLICT (channel, name) DO UPDATE SET value=excluded.value",
            )?
            .execute([channel, name, value]),
        None => connection
            .prepare_cached("DELETE FROM main.rlog_channel WHERE channel=?1 AND name=?2")?
            .execute([channel, name]),
    }
    .map(drop)
}

/// A fact.
pub(super) fn fact(connection: &rusqlite::Connection, channel: &str, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT value FROM main.rlog_channel WHERE channel=?1 AND name=?2", [channel, name], |row| {
            row.get(0)
        })
        .optional()
}

/// Everything about a channel; `None` when it has no epoch.
pub(super) fn load(connection: &rusqlite::Connection, channel: &str) -> rusqlite::Result<Option<ChannelState>> {
    let mut state = ChannelState::default();
    let mut facts = connection.prepare("SELECT name, value FROM main.rlog_channel WHERE channel=?1")?;
    let rows = facts.query_map([channel], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for pair in rows {
        let (name, value) = pair?;
        state.facts.insert(name, value);
    }
    if !state.facts.contains_key(EPOCH_FACT) {
        return Ok(None);
    }
    let mut applied = connection.prepare(
        "SELECT incarnation, prev, end_at, position, transactions, row_count, source_time_us, applied_time_us, epoch, origins \
         FROM main.rlog_applied WHERE channel=?1",
    )?;
    let rows = applied.query_map([channel], |row| {
        let number = |index: usize| row.get::<_, i64>(index);
        Ok(StateRow {
            channel: channel.to_owned(),
            incarnation: Incarnation(u64::from_str_radix(&row.get::<_, String>(0)?, 16).unwrap_or(0)),
            prev: Coordinate(number(1)? as u64),
            end: Coordinate(number(2)? as u64),
            position: row.get::<_, String>(3)?.parse().ok(),
            transactions: number(4)? as u64,
            rows: number(5)? as u64,
            source_time_us: number(6)?,
            applied_time_us: number(7)?,
            epoch: number(8)? as u64,
            origins: row.get::<_, String>(9)?.split_whitespace().map(str::to_owned).collect(),
        })
    })?;
    state.applied = rows.collect::<rusqlite::Result<_>>()?;
    state.applied.sort_by_key(|row| (row.prev, row.end));
    Ok(Some(state))
}

/// Deletes rows whose end is below `before`.
pub(super) fn prune(connection: &rusqlite::Connection, channel: &str, before: Coordinate) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM main.rlog_applied WHERE channel=?1 AND end_at < ?2", params![channel, before.0 as i64])
        .map(drop)
}
