//! The state tables on a server: InnoDB, in a database of their own, so that no `DROP DATABASE` of the data takes them along.

use mysql::Row;
use mysql::prelude::Queryable as _;

use crate::db::mysql::connect::{Fault, fault_of};
use crate::db::mysql::literal::put_text;
use crate::frame::{Coordinate, Incarnation};
use crate::target::{APPLIED_TABLE, ChannelState, EPOCH_FACT, StateRow};

/// Database of the state tables.
pub(super) const DATABASE: &str = "rlog";

/// Creates what is missing. Names of channels are ASCII, folded to lower case; collations are binary throughout.
pub(super) const CREATE: [&str; 4] = [
    "CREATE DATABASE IF NOT EXISTS rlog CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS rlog.rlog_target (uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY) \
     ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS rlog.rlog_channel (channel VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     name VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, value LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
     PRIMARY KEY (channel, name)) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS rlog.rlog_applied (channel VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     incarnation CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, prev BIGINT UNSIGNED NOT NULL, \
     txid BIGINT UNSIGNED NOT NULL, end_at BIGINT UNSIGNED NOT NULL, position TEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     transactions BIGINT UNSIGNED NOT NULL, row_count BIGINT UNSIGNED NOT NULL, source_time_us BIGINT NOT NULL, \
     applied_time_us BIGINT NOT NULL, epoch BIGINT UNSIGNED NOT NULL, origins TEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     PRIMARY KEY (channel, incarnation, prev)) ENGINE=InnoDB",
];

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    put_text(&mut out, text);
    out
}

/// Inserts a state row, but only while `row.epoch` is the channel's epoch: the shared lock on the epoch's row holds back whoever raises it
/// until this transaction has ended. One row affected, or none when fenced.
pub(super) fn insert_sql(row: &StateRow) -> String {
    let txid = row.position.as_ref().map_or(row.end, |position| position.txid);
    let position = row.position.as_ref().map(ToString::to_string).unwrap_or_default();
    format!(
        "INSERT INTO {DATABASE}.{APPLIED_TABLE} (channel, incarnation, prev, txid, end_at, position, transactions, row_count, \
         source_time_us, applied_time_us, epoch, origins) \
         SELECT channel, '{}', {}, {}, {}, {}, {}, {}, {}, {}, {}, {} FROM {DATABASE}.rlog_channel \
         WHERE channel={} AND name='{EPOCH_FACT}' AND value='{}' LOCK IN SHARE MODE",
        row.incarnation,
        row.prev.0,
        txid.0,
        row.end.0,
        quoted(&position),
        row.transactions,
        row.rows,
        row.source_time_us,
        row.applied_time_us,
        row.epoch,
        quoted(&row.origins.join(" ")),
        quoted(&row.channel),
        row.epoch,
    )
}

/// Whether the epoch holds, under the same lock as [`insert_sql`].
pub(super) fn fence_sql(channel: &str, epoch: u64) -> String {
    format!(
        "SELECT 1 FROM {DATABASE}.rlog_channel WHERE channel={} AND name='{EPOCH_FACT}' AND value='{epoch}' LOCK IN SHARE MODE",
        quoted(channel)
    )
}

/// Sets or removes a fact.
pub(super) fn fact_sql(channel: &str, name: &str, value: Option<&str>) -> String {
    let (channel, name) = (quoted(channel), quoted(name));
    match value {
        Some(value) => format!(
            "INSERT INTO {DATABASE}.rlog_channel (channel, name, value) VALUES ({channel}, {name}, {}) \
             ON DUPLICATE KEY UPDATE value=VALUES(value)",
            quoted(value)
        ),
        None => format!("DELETE FROM {DATABASE}.rlog_channel WHERE channel={channel} AND name={name}"),
    }
}

/// Raises the epoch by one.
pub(super) fn raise_sql(channel: &str) -> String {
    format!(
        "UPDATE {DATABASE}.rlog_channel SET value=CAST(value AS UNSIGNED)+1 WHERE channel={} AND name='{EPOCH_FACT}'",
        quoted(channel)
    )
}

/// A fact's value.
pub(super) fn fact(conn: &mut mysql::Conn, channel: &str, name: &str) -> mysql::Result<Option<String>> {
    missing_is_none(conn.query_first(format!(
        "SELECT value FROM {DATABASE}.rlog_channel WHERE channel={} AND name={}",
        quoted(channel),
        quoted(name)
    )))
}

/// A missing table or database reads as no answer.
pub(super) fn missing_is_none<T>(result: mysql::Result<Option<T>>) -> mysql::Result<Option<T>> {
    match result {
        Err(error) if fault_of(&error) == Fault::NoTable => Ok(None),
        other => other,
    }
}

/// Everything about a channel; `None` when it has no epoch.
pub(super) fn load(conn: &mut mysql::Conn, channel: &str) -> mysql::Result<Option<ChannelState>> {
    let place = quoted(channel);
    let facts = conn
        .query::<(String, String), _>(format!("SELECT name, value FROM {DATABASE}.rlog_channel WHERE channel={place}"));
    let facts = match facts {
        Err(error) if fault_of(&error) == Fault::NoTable => return Ok(None),
        other => other?,
    };
    let mut state = ChannelState { facts: facts.into_iter().collect(), applied: Vec::new() };
    if !state.facts.contains_key(EPOCH_FACT) {
        return Ok(None);
    }
    let rows: Vec<Row> = conn.query(format!(
        "SELECT incarnation, prev, end_at, position, transactions, row_count, source_time_us, applied_time_us, epoch, origins \
         FROM {DATABASE}.{APPLIED_TABLE} WHERE channel={place} ORDER BY prev, end_at"
    ))?;
    for row in rows {
        let text = |index: usize| row.get::<String, _>(index).unwrap_or_default();
        let number = |index: usize| row.get::<u64, _>(index).unwrap_or_default();
        let signed = |index: usize| row.get::<i64, _>(index).unwrap_or_default();
        state.applied.push(StateRow {
            channel: channel.to_owned(),
            incarnation: Incarnation(u64::from_str_radix(&text(0), 16).unwrap_or_default()),
            prev: Coordinate(number(1)),
            end: Coordinate(number(2)),
            position: text(3).parse().ok(),
            transactions: number(4),
            rows: number(5),
            source_time_us: signed(6),
            applied_time_us: signed(7),
            epoch: number(8),
            origins: text(9).split_whitespace().map(str::to_owned).collect(),
        });
    }
    Ok(Some(state))
}

/// Deletes the rows below.
pub(super) fn prune_sql(channel: &str, before: Coordinate) -> String {
    format!("DELETE FROM {DATABASE}.{APPLIED_TABLE} WHERE channel={} AND end_at < {}", quoted(channel), before.0)
}

/// Name of the lock of a channel on the server. The servers allow 64 characters, as many as a channel's name alone may have.
pub(super) fn lock_name(channel: &str) -> String {
    format!("rlog:{:016x}", xxhash_rust::xxh3::xxh3_64(channel.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locks_name_is_short_enough_for_the_longest_channel() {
        assert!(lock_name(&"x".repeat(63)).len() <= 64);
    }
}
