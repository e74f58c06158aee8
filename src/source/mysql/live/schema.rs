//! The tables of a server as of a position of its log: today's definitions, held back where they are not yesterday's.
//!
//! SHOW CREATE TABLE says what a table is now. What it was where reading begins is known if no DDL came between; so the log from
//! there to now is scanned for DDL once before it is read. A table that no statement names has its present definition from the start; one that was
//! changed has it behind the last statement that names it, and before that only what the log's own statements say. From now on the log's DDL is
//! followed as in files. So no event is read by a definition of another time.

use std::collections::HashMap;
use std::time::Duration;

use super::feed::{FeedOptions, Patience, ServerFeed};
use super::server::{self, Server, text};
use super::text::identifier;
use crate::db::ddl::Schema;
use crate::db::mysql::client::TextRow;
use crate::db::mysql::replica::ReplicaOptions;
use crate::db::mysql::{Client, Connector};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::Coordinate;
use crate::source::mysql::compress;
use crate::source::mysql::data::Feed as _;
use crate::source::mysql::event::{self, Format, HEADER_LEN, kind};
use crate::source::mysql::query::{Query, Role, role};

/// How often the definitions are read again when DDL came between.
const TRIES: usize = 5;
/// How long the scan waits for an event.
const SCAN_WAIT: Duration = Duration::from_millis(100);

/// A definition, and from where on it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// From this coordinate on.
    pub from: Coordinate,
    /// Database.
    pub database: String,
    /// CREATE TABLE.
    pub create: String,
}

/// What a scan needs.
pub struct Scan<'a> {
    /// The server.
    pub connector: &'a Connector,
    /// Who it is.
    pub server: &'a Server,
    /// How to present oneself.
    pub replica: &'a ReplicaOptions,
    /// How to stay connected.
    pub patience: &'a Patience,
    /// Where reading begins.
    pub file: &'a str,
}

/// The definitions of all wanted tables, in the order in which they come to hold.
pub fn learn(client: &mut Client, scan: &Scan<'_>, filter: &TableFilter) -> Result<Vec<Known>> {
    for _ in 0..TRIES {
        let before = server::end_of_log(client)?.1;
        let tables = creates(client, filter)?;
        let after = server::end_of_log(client)?.1;
        let changed = scan.changes(after)?;
        if changed.values().any(|at| *at > before) {
            continue;
        }
        let from = |database: &str, table: &str| {
            let of = |table: &str| changed.get(&(database.to_owned(), table.to_owned())).copied();
            // DDL of a database stands for all of its tables.
            of(table).max(of("")).unwrap_or_default()
        };
        let mut known: Vec<Known> = tables
            .into_iter()
            .map(|(database, table, create)| Known { from: from(&database, &table), database, create })
            .collect();
        known.sort_by_key(|known| known.from);
        return Ok(known);
    }
    Err(Error::new(Class::TryAgain, "DDL comes so often that the tables' definitions cannot be read")
        .in_file(client.name().to_owned()))
}

fn creates(client: &mut Client, filter: &TableFilter) -> Result<Vec<(String, String, String)>> {
    let rows: Vec<TextRow> = client.query(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')",
    )?;
    let mut out = Vec::new();
    for row in rows {
        let (database, table) = (text(&row, 0), text(&row, 1));
        if table.starts_with("rlog_") || !filter.rows_pass(&database, &table) {
            continue;
        }
        match client.query(&format!("SHOW CREATE TABLE {}.{}", identifier(&database), identifier(&table))) {
            Ok(rows) => out.extend(rows.first().map(|row| (database, table, text(row, 1)))),
            Err(error) if error.class() == Class::TryAgain => return Err(error),
            // Dropped just now, or not ours to see: its columns stay without names.
            Err(_) => {}
        }
    }
    Ok(out)
}

impl Scan<'_> {
    /// Tables that DDL names between the start of the file and `end`, with the end of the last such statement.
    fn changes(&self, end: Coordinate) -> Result<HashMap<(String, String), Coordinate>> {
        let mut out = HashMap::new();
        let options = FeedOptions {
            replica: ReplicaOptions { semi_sync: false, ..self.replica.clone() },
            patience: self.patience.clone(),
            end: Some(end),
            caught_up_at: end,
            hold: None,
            raw: None,
            semi_sync: None,
        };
        let mut feed = ServerFeed::new(self.connector.clone(), self.server.clone(), self.file.to_owned(), options)?;
        let mut format = Format::initial();
        let mut schema = Schema::new();
        schema.set_family(self.server.mariadb);
        let mut at = 0;
        loop {
            at = feed.place(at)?;
            if feed.bytes(at).is_empty() {
                if feed.is_ended() {
                    return Ok(out);
                }
                feed.wait(at, SCAN_WAIT)?;
                continue;
            }
            let begins = feed.file_name(at).is_some();
            let bytes = feed.bytes(at);
            let next = at + bytes.len() as u64;
            if begins {
                let head = bytes.get(event::FIRST_EVENT_AT as usize..).unwrap_or(&[]);
                format = Format::parse(head, event::FIRST_EVENT_AT)?;
            } else {
                note_ddl(bytes, &format, feed.reached(), &mut schema, &mut out);
            }
            at = next;
        }
    }
}

/// Takes the tables that a statement names, if it is DDL.
fn note_ddl(
    raw: &[u8],
    format: &Format,
    end: Coordinate,
    schema: &mut Schema,
    out: &mut HashMap<(String, String), Coordinate>,
) {
    let number = raw.get(4).copied().unwrap_or(0);
    if !matches!(number, kind::QUERY | kind::MARIADB_QUERY_COMPRESSED) {
        return;
    }
    let checksum = if format.checksum { event::CHECKSUM_LEN } else { 0 };
    let body = raw.get(HEADER_LEN..raw.len().saturating_sub(checksum)).unwrap_or(&[]);
    let Some(query) = Query::parse(body, format.post_header_len(kind::QUERY, 13), 0) else { return };
    let mut inflated = Vec::new();
    let mut sql = query.sql;
    if number == kind::MARIADB_QUERY_COMPRESSED {
        if compress::inflate_mariadb(query.sql, &mut inflated).is_none() {
            return;
        }
        sql = &inflated;
    }
    if matches!(role(sql), Role::Ddl) {
        let database = String::from_utf8_lossy(query.database);
        let effect = schema.apply(&database, sql);
        for (database, table) in effect.tables {
            let table = if effect.kind.ends_with(" database") { String::new() } else { table };
            out.insert((database, table), end);
        }
    }
}
