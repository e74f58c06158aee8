//! What a server says about itself and its logs: who it is, which files it holds, where it stands, and which of its settings endanger the promise.

use std::time::Duration;

use crate::db::mysql::client::TextRow;
use crate::db::mysql::replica::{Next, Replica, ReplicaOptions};
use crate::db::mysql::{Client, Connector, Family};
use crate::error::{Class, Error, Result};
use crate::frame::Coordinate;
use crate::source::mysql::event::{self, Format, kind};
use crate::source::mysql::files;
use crate::source::mysql::gtid::State;

/// How long a server may take to show a log's first events.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Who a server is, and what of its settings matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Whether it is a MariaDB.
    pub mariadb: bool,
    /// Its version text.
    pub version: String,
    /// Its server id.
    pub server_id: u32,
    /// Its UUID; empty for servers without one.
    pub uuid: String,
}

/// A log that the server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u64,
    /// Its size in bytes, as of when the server was asked.
    pub len: u64,
}

/// What a look at the first events of a log tells.
pub struct Head {
    /// Its format description event.
    pub format: Format,
    /// GTIDs that are done before it, where its server keeps such.
    pub gtids: Option<State>,
}

/// A cell as text; empty for NULL.
pub(super) fn text(row: &TextRow, index: usize) -> String {
    row.get(index).and_then(Option::as_ref).map(|cell| String::from_utf8_lossy(cell).into_owned()).unwrap_or_default()
}

impl Server {
    /// Asks.
    pub fn of(client: &mut Client) -> Result<Server> {
        let mariadb = client.family == Family::MariaDb;
        let server_id = client.variable("server_id")?.and_then(|id| id.parse().ok()).unwrap_or(0);
        let uuid = if mariadb { None } else { client.variable("server_uuid")? };
        Ok(Server { mariadb, version: client.version.clone(), server_id, uuid: uuid.unwrap_or_default() })
    }

    /// What stands for it in incarnations: see [`crate::source::mysql::decoder::Decoder::begin_file`].
    pub fn identity(&self) -> u32 {
        let family = if self.mariadb { "mariadb" } else { "mysql" };
        crc32fast::hash(format!("{family}:{}", self.server_id).as_bytes())
    }

    /// Whether the other can be the same server.
    pub fn is_same(&self, other: &Server) -> bool {
        let uuids = self.uuid.is_empty() || other.uuid.is_empty() || self.uuid == other.uuid;
        self.mariadb == other.mariadb && self.server_id == other.server_id && uuids
    }
}

/// The logs that a server holds, oldest first.
pub fn logs(client: &mut Client) -> Result<Vec<Log>> {
    let rows = client.query("SHOW BINARY LOGS").map_err(|error| match client.error_code {
        1381 => error.with_class(Class::Config).hint("the server writes no binary log: start it with --log-bin"),
        1227 => error.hint(privileges(client.family)),
        _ => error,
    })?;
    let log = |row: &TextRow| {
        let name = text(row, 0);
        let number = files::split_name(&name)?.1;
        Some(Log { number, len: text(row, 1).parse().ok()?, name })
    };
    let mut out: Vec<Log> = rows.iter().filter_map(log).collect();
    out.sort_by_key(|log| log.number);
    if out.is_empty() {
        return Err(Error::config("the server has no binary log")
            .in_file(client.name().to_owned())
            .hint("start it with --log-bin, and --binlog-format=ROW"));
    }
    Ok(out)
}

/// What an account needs.
pub fn privileges(family: Family) -> &'static str {
    match family {
        Family::MariaDb => {
            "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* (and for --snapshot or logs without column names SELECT, for --snapshot RELOAD too)"
        }
        Family::MySql => {
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* (and for --snapshot or logs without column names SELECT, for --snapshot RELOAD too)"
        }
    }
}

/// Where the server's log ends now.
pub fn end_of_log(client: &mut Client) -> Result<(String, Coordinate)> {
    let sql = match client.family {
        Family::MariaDb => "SHOW MASTER STATUS",
        Family::MySql => "SHOW BINARY LOG STATUS",
    };
    let rows = match client.query(sql) {
        // Before MySQL 8.2.
        Err(_) if client.error_code == 1064 => client.query("SHOW MASTER STATUS"),
        other => other,
    };
    let rows = rows.map_err(|error| match client.error_code {
        1227 => error.hint(privileges(client.family)),
        _ => error,
    })?;
    let row = rows.first().ok_or_else(|| {
        Error::config("the server writes no binary log")
            .in_file(client.name().to_owned())
            .hint("start it with --log-bin, and --binlog-format=ROW")
    })?;
    let name = text(row, 0);
    let at = files::split_name(&name).zip(text(row, 1).parse().ok());
    let at = at.and_then(|((_, number), offset)| Coordinate::new(number, offset));
    let at = at.ok_or_else(|| Error::damage(format!("`{name}` is no name of a log that has a number")))?;
    Ok((name, at))
}

/// GTIDs that the server has executed.
pub fn executed(client: &mut Client) -> Result<State> {
    let text = match client.family {
        Family::MariaDb => client.variable("global.gtid_binlog_pos")?,
        Family::MySql => client.variable("global.gtid_executed")?,
    };
    let text = text.unwrap_or_default().replace(['\n', ' '], "");
    State::parse(&text).ok_or_else(|| Error::damage(format!("the server's GTIDs are not understood: {text}")))
}

/// Reads the first events of a log, over a connection of its own.
pub fn head(connector: &Connector, options: &ReplicaOptions, log: &str) -> Result<Head> {
    let mut replica = Replica::start(connector.client()?, options, log, event::FIRST_EVENT_AT, true)?;
    let mut format = None;
    for _ in 0..8 {
        match replica.next(PROBE_TIMEOUT)? {
            Next::Event(_) => {}
            Next::Nothing => return Err(Error::new(Class::TryAgain, "the server does not answer").in_file(log)),
            Next::End => break,
        }
        let raw = replica.event();
        match (raw.get(4).copied(), &format) {
            (Some(kind::ROTATE), _) => {}
            (Some(kind::FORMAT_DESCRIPTION), _) => {
                format = Some(Format::parse(raw, event::FIRST_EVENT_AT).map_err(|error| error.in_file(log))?);
            }
            (Some(kind::MARIADB_START_ENCRYPTION), _) => {}
            (Some(number @ (kind::PREVIOUS_GTIDS | kind::MARIADB_GTID_LIST)), Some(format)) => {
                let checksum = if format.checksum { event::CHECKSUM_LEN } else { 0 };
                let body = raw.get(event::HEADER_LEN..raw.len().saturating_sub(checksum)).unwrap_or(&[]);
                let gtids = match number {
                    kind::PREVIOUS_GTIDS => State::from_previous_gtids(body),
                    _ => State::from_gtid_list(body),
                };
                return Ok(Head { format: format.clone(), gtids });
            }
            _ => break,
        }
    }
    let format =
        format.ok_or_else(|| Error::damage("the log does not begin with a format description").in_file(log))?;
    Ok(Head { format, gtids: None })
}

/// What people are told once, at start: settings of the server that endanger what rlog promises.
pub fn warnings(client: &mut Client, semi_sync: bool) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut has = |name: &str| client.variable(name).map(|value| value.map(|value| value.to_ascii_lowercase()));
    if let Some(format) = has("global.binlog_format")?
        && format != "row"
    {
        out.push(format!(
            "binlog_format is {format}: statements are kept as their text, and what they do elsewhere may differ; SET GLOBAL binlog_format=ROW"
        ));
    }
    if let Some(image) = has("global.binlog_row_image")?
        && image != "full"
    {
        out.push(format!(
            "binlog_row_image is {image}: rows are found by their keys alone, conflicts and undo see less; SET GLOBAL binlog_row_image=FULL"
        ));
    }
    match has("global.binlog_row_metadata")?.as_deref() {
        Some("full") => {}
        _ => out.push(
            "binlog_row_metadata is not FULL: the log does not name columns, their names come from the server and from the log's DDL; \
             SET GLOBAL binlog_row_metadata=FULL"
                .into(),
        ),
    }
    if let Some(value) = has("global.binlog_row_value_options")?
        && value.contains("partial_json")
    {
        out.push("binlog_row_value_options has PARTIAL_JSON: JSON columns arrive as changes, which need an equal row at the target".into());
    }
    if let Some(value) = has("global.sync_binlog")?
        && value != "1"
    {
        out.push(format!(
            "sync_binlog is {value}: after a power cut the server may have forgotten what was read here already; SET GLOBAL sync_binlog=1"
        ));
    }
    if let Some(value) = has("global.innodb_flush_log_at_trx_commit")?
        && value != "1"
    {
        out.push(format!(
            "innodb_flush_log_at_trx_commit is {value}: after a power cut tables and log of the server may differ; SET GLOBAL innodb_flush_log_at_trx_commit=1"
        ));
    }
    if let Some(value) = has("global.binlog_checksum")?
        && value == "none"
    {
        out.push(
            "binlog_checksum is NONE: damage on disk and on the way can only be noticed where it makes no sense".into(),
        );
    }
    for name in ["global.master_verify_checksum", "global.source_verify_checksum"] {
        if let Some(value) = has(name)?
            && matches!(value.as_str(), "0" | "off")
        {
            let short = name.trim_start_matches("global.");
            out.push(format!(
                "{short} is off: the server sends what its disk has; rlog verifies every checksum itself"
            ));
        }
    }
    if let (Some(mode), None) = (has("global.gtid_mode")?, has("global.gtid_domain_id")?)
        && mode == "off"
    {
        out.push(
            "gtid_mode is OFF: positions are of this server alone, and --handover cannot find them elsewhere".into(),
        );
    }
    if semi_sync {
        let names = ["global.rpl_semi_sync_master_enabled", "global.rpl_semi_sync_source_enabled"];
        let mut on = false;
        for name in names {
            on |= matches!(has(name)?.as_deref(), Some("1" | "on"));
        }
        if !on {
            out.push("--semi-sync was asked for, and the server does not wait for anybody: rpl_semi_sync_master_enabled (rpl_semi_sync_source_enabled) is off".into());
        }
    }
    let status = match client.family {
        Family::MariaDb => "SHOW MASTER STATUS",
        Family::MySql => "SHOW BINARY LOG STATUS",
    };
    if let Ok(rows) = client.query(status)
        && let Some(row) = rows.first()
    {
        for (index, name) in [(2, "binlog_do_db"), (3, "binlog_ignore_db")] {
            let value = text(row, index);
            if !value.is_empty() {
                out.push(format!("{name} is {value}: what it leaves out of the log is never seen here"));
            }
        }
    }
    Ok(out)
}

/// Privileges that the account lacks, as far as its grants tell.
pub fn missing_privileges(client: &mut Client, snapshot: bool) -> Result<Vec<String>> {
    let mut grants = String::new();
    for row in client.query("SHOW GRANTS").unwrap_or_default() {
        let line = text(&row, 0).to_ascii_uppercase();
        // Only what is granted on everything helps here.
        if line.contains(" ON *.* ") {
            grants.push_str(&line);
            grants.push('\n');
        }
    }
    if grants.is_empty() || grants.contains("ALL PRIVILEGES") {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let has = |names: &[&str]| names.iter().any(|name| grants.contains(name));
    if !has(&["REPLICATION SLAVE", "REPLICATION REPLICA"]) {
        out.push("REPLICATION SLAVE".to_owned());
    }
    match client.family {
        Family::MariaDb if !has(&["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"]) => {
            out.push("BINLOG MONITOR".into())
        }
        Family::MySql if !has(&["REPLICATION CLIENT", "SUPER"]) => out.push("REPLICATION CLIENT".into()),
        _ => {}
    }
    if snapshot && !has(&["RELOAD", "FLUSH_TABLES"]) {
        out.push("RELOAD".into());
    }
    Ok(out)
}
