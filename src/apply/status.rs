//! What `status` tells of a channel: text, JSON, and the field names of SHOW SLAVE STATUS.

use std::fmt::Write as _;

use super::state::{Reached, facts};
use super::xa;
use crate::error::Result;
use crate::frame::Position;
use crate::queue::{self, Queue};
use crate::target::{ChannelState, Target};

/// State of a channel, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// An applier is at work.
    Running,
    /// None is, and the last one ended well.
    Stopped,
    /// None is, and the last one ended with an error.
    Failed,
    /// A snapshot is not loaded whole; nobody may read the target yet.
    Loading,
}

impl Running {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Running::Running => "running",
            Running::Stopped => "stopped",
            Running::Failed => "failed",
            Running::Loading => "loading",
        }
    }
}

/// One channel.
#[derive(Clone, Debug)]
pub struct ChannelStatus {
    /// Its name.
    pub channel: String,
    /// The target.
    pub target: String,
    /// What it does. While it loads and an applier is at work it is `loading`.
    pub running: Running,
    /// Whether an applier is at work.
    pub active: bool,
    /// Family of the source.
    pub source: String,
    /// UUID of the source server.
    pub source_uuid: String,
    /// What was applied.
    pub applied: Option<Position>,
    /// What the queue holds.
    pub queued: Option<Position>,
    /// Units in the queue behind what was acknowledged for this target.
    pub units_behind: Option<u64>,
    /// Seconds between now and the commit time of the last transaction applied; 0 when nothing is behind.
    pub seconds_behind: Option<i64>,
    /// Whether state rows have holes (relaxed order).
    pub holes: bool,
    /// Commit time at the source of the last transaction applied, microseconds since 1970 UTC; 0 not known.
    pub source_time_us: i64,
    /// When that was applied.
    pub applied_time_us: i64,
    /// Rows per second over the state rows that are held.
    pub rows_per_s: Option<f64>,
    /// Conflicts recorded.
    pub conflicts: u64,
    /// Prepared XA groups that wait in the queue for their decision.
    pub prepared: u64,
    /// Exit status, message, time and position of the last error.
    pub error: Option<LastError>,
    /// Position that `skip` will step over.
    pub skip: Option<String>,
    /// Filters.
    pub filters: String,
}

/// The last error of a channel.
#[derive(Clone, Debug, Default)]
pub struct LastError {
    /// Exit status.
    pub status: u8,
    /// Message.
    pub message: String,
    /// Microseconds since 1970 UTC.
    pub time_us: i64,
    /// Position of the transaction that failed, if it was one.
    pub position: String,
}

/// Looks at one channel; `None` when the target has no state of it.
pub fn channel(
    target: &mut dyn Target,
    name: &str,
    queue: Option<&dyn Queue>,
    now_us: i64,
) -> Result<Option<ChannelStatus>> {
    let Some(state) = target.state(name)? else { return Ok(None) };
    let reached = Reached::new(&state)?;
    let active = target.is_running(name)?;
    let fact = |name: &str| state.facts.get(name).cloned().unwrap_or_default();
    let error = state.facts.get(facts::ERROR).map(|message| LastError {
        status: fact(facts::ERROR_STATUS).parse().unwrap_or(0),
        message: message.clone(),
        time_us: fact(facts::ERROR_TIME).parse().unwrap_or(0),
        position: fact(facts::ERROR_POSITION),
    });
    let running = match (state.facts.contains_key(facts::LOADING), active, &error) {
        (true, ..) => Running::Loading,
        (false, true, _) => Running::Running,
        (false, false, Some(_)) => Running::Failed,
        (false, false, None) => Running::Stopped,
    };
    let newest = state.applied.iter().filter(|row| row.transactions > 0).max_by_key(|row| row.end);
    let mut out = ChannelStatus {
        channel: name.to_owned(),
        target: target.name().to_owned(),
        running,
        active,
        source: fact(facts::SOURCE),
        source_uuid: fact(facts::SERVER_UUID),
        applied: reached.position(),
        queued: None,
        units_behind: None,
        seconds_behind: None,
        holes: reached.has_holes(),
        source_time_us: newest.map_or(0, |row| row.source_time_us),
        applied_time_us: newest.map_or(0, |row| row.applied_time_us),
        rows_per_s: rate(&state),
        conflicts: state.facts.keys().filter(|name| name.starts_with(facts::CONFLICT_PREFIX)).count() as u64,
        prepared: xa::waiting(&state).len() as u64,
        error,
        skip: state.facts.get(facts::SKIP).cloned(),
        filters: fact(facts::FILTERS),
    };
    if let Some(queue) = queue {
        let tail = queue.tail()?;
        out.queued = tail.position();
        let uuid = target.uuid()?.unwrap_or_default();
        let acked = queue.readers()?.into_iter().find(|reader| reader.name == uuid).map(|reader| reader.acked.sequence);
        let caught_up = out.queued.as_ref().map(|queued| queued.end) == out.applied.as_ref().map(|applied| applied.end);
        out.units_behind =
            if caught_up { Some(0) } else { acked.map(|acked| tail.sequence.saturating_sub(acked).max(1)) };
        out.seconds_behind = match (caught_up, out.source_time_us) {
            (true, _) => Some(0),
            (false, 0) => None,
            (false, time_us) => Some((now_us - time_us).max(0) / 1_000_000),
        };
    }
    Ok(Some(out))
}

/// Rows per second between the oldest and the newest state row.
fn rate(state: &ChannelState) -> Option<f64> {
    let first = state.applied.iter().map(|row| row.applied_time_us).min()?;
    let last = state.applied.iter().map(|row| row.applied_time_us).max()?;
    let seconds = (last - first) as f64 / 1e6;
    let rows: u64 = state.applied.iter().map(|row| row.rows).sum();
    (seconds > 0.0).then_some(rows as f64 / seconds)
}

/// Every channel of a target, or the one that is named.
pub fn all(
    target: &mut dyn Target,
    only: Option<&str>,
    queue: Option<&queue::Address>,
    now_us: i64,
) -> Result<Vec<ChannelStatus>> {
    let names = match only {
        Some(name) => vec![name.to_owned()],
        None => target.channels()?,
    };
    let mut out = Vec::new();
    for name in names {
        let opened = match queue {
            Some(address) => Some(queue::open(std::sync::Arc::new(crate::sys::Os), address, &name, false)?),
            None => None,
        };
        out.extend(channel(target, &name, opened.as_deref(), now_us)?);
    }
    Ok(out)
}

impl ChannelStatus {
    /// Lines for people. `time` writes microseconds since 1970 as people read them.
    pub fn text(&self, time: &dyn Fn(i64) -> String) -> String {
        let mut out = String::new();
        let position = |position: &Option<Position>| position.as_ref().map_or("none".into(), ToString::to_string);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<16} {value}");
        };
        line("target", self.target.clone());
        let state = match (self.running, self.active) {
            (Running::Loading, true) => "loading (a snapshot is being loaded)".to_owned(),
            (Running::Loading, false) => "loading (stopped before the snapshot was whole)".to_owned(),
            (running, _) => running.name().to_owned(),
        };
        line("state", state);
        line("source", format!("{} {}", self.source, self.source_uuid).trim().to_owned());
        if self.queued.is_some() {
            line("queued", position(&self.queued));
        }
        line("applied", position(&self.applied));
        if let Some(units) = self.units_behind {
            line(
                "behind",
                match self.seconds_behind {
                    Some(seconds) => format!("{units} transactions, {seconds} s"),
                    None => format!("{units} transactions"),
                },
            );
        }
        if self.source_time_us != 0 {
            line(
                "last committed",
                format!("{} at the source, applied {}", time(self.source_time_us), time(self.applied_time_us)),
            );
        }
        if let Some(rate) = self.rows_per_s {
            line("rate", format!("{rate:.0} rows/s"));
        }
        if self.holes {
            line("order", "relaxed; some transactions above the position are applied too".into());
        }
        if !self.filters.is_empty() {
            line("filters", self.filters.replace('\n', "; "));
        }
        if self.conflicts > 0 {
            line("conflicts", format!("{} stepped over; `rlog-apply errors` lists them", self.conflicts));
        }
        if self.prepared > 0 {
            line("XA", format!("{} prepared, waiting in the queue for XA COMMIT or ROLLBACK", self.prepared));
        }
        if let Some(skip) = &self.skip {
            line("to be skipped", skip.clone());
        }
        if let Some(error) = &self.error {
            line("last error", format!("{} (exit status {}, {})", error.message, error.status, time(error.time_us)));
        }
        format!("channel {}\n{out}", self.channel)
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Value {
        let position = |position: &Option<Position>| position.as_ref().map(ToString::to_string);
        serde_json::json!({
            "channel": self.channel,
            "target": self.target,
            "state": self.running.name(),
            "active": self.active,
            "source": self.source,
            "source_uuid": self.source_uuid,
            "queued": position(&self.queued),
            "applied": position(&self.applied),
            "transactions_behind": self.units_behind,
            "seconds_behind": self.seconds_behind,
            "source_time_us": self.source_time_us,
            "applied_time_us": self.applied_time_us,
            "rows_per_s": self.rows_per_s,
            "relaxed_holes": self.holes,
            "conflicts": self.conflicts,
            "prepared": self.prepared,
            "skip": self.skip,
            "filters": self.filters,
            "error": self.error.as_ref().map(|error| serde_json::json!({
                "status": error.status, "message": error.message, "time_us": error.time_us, "position": error.position,
            })),
        })
    }

    /// The field names of SHOW ALL SLAVES STATUS, as far as they mean something here.
    pub fn mysql(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:>30}: {value}");
        };
        let file = |position: &Option<Position>| position.as_ref().map_or(String::new(), |p| p.end.file().to_string());
        let offset = |position: &Option<Position>| position.as_ref().map_or("0".into(), |p| p.end.offset().to_string());
        let yes = |is: bool| if is { "Yes".to_owned() } else { "No".to_owned() };
        let name = if self.channel == queue::DEFAULT_CHANNEL { "" } else { &self.channel };
        let errno = |error: &Option<LastError>| error.as_ref().map_or("0".into(), |error| error.status.to_string());
        let message =
            |error: &Option<LastError>| error.as_ref().map_or(String::new(), |error| error.message.replace('\n', " "));
        let newest = if self.queued.is_some() { &self.queued } else { &self.applied };
        line("Connection_name", name.to_owned());
        line("Slave_SQL_State", self.running.name().to_owned());
        line("Master_Log_File", file(newest));
        line("Read_Master_Log_Pos", offset(newest));
        line("Relay_Master_Log_File", file(&self.applied));
        line("Slave_IO_Running", yes(self.queued.is_some()));
        line("Slave_SQL_Running", yes(self.active));
        line("Last_Errno", errno(&self.error));
        line("Last_Error", message(&self.error));
        line("Skip_Counter", u8::from(self.skip.is_some()).to_string());
        line("Exec_Master_Log_Pos", offset(&self.applied));
        line("Seconds_Behind_Master", self.seconds_behind.map_or("NULL".into(), |seconds| seconds.to_string()));
        line("Last_SQL_Errno", errno(&self.error));
        line("Last_SQL_Error", message(&self.error));
        line("Master_UUID", self.source_uuid.clone());
        line("Gtid_Slave_Pos", self.applied.as_ref().map_or(String::new(), |position| position.gtid.clone()));
        out
    }
}
