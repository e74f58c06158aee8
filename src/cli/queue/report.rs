//! What rlog-queue tells: progress and metrics of `put`, and a channel's status.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Context, print_line};
use crate::error::Result;
use crate::queue::{Status, Tail, intake};
use crate::sys::{clock, state};

/// Cursor, metrics and progress of `put`.
pub(super) struct Reporter {
    cursor: Option<PathBuf>,
    metrics: Option<PathBuf>,
    channel: String,
    bar: Option<indicatif::ProgressBar>,
    last: Option<Instant>,
    latest: Option<(Tail, intake::Counts)>,
}

impl Reporter {
    /// Files are replaced at most this often, and at the end.
    const PERIOD: Duration = Duration::from_secs(1);

    pub(super) fn new(context: &Context<'_>) -> Result<Reporter> {
        let progress = context.matches.get_one::<String>("progress").map_or("auto", String::as_str);
        let show = match progress {
            "always" => true,
            "auto" => std::io::stderr().is_terminal() && !context.matches.get_flag("quiet"),
            _ => false,
        };
        let bar = show.then(indicatif::ProgressBar::new_spinner);
        if let Some(bar) = &bar
            && let Ok(style) = indicatif::ProgressStyle::with_template("{bytes} {binary_bytes_per_sec} {msg}")
        {
            bar.set_style(style);
        }
        let path = |name: &str| context.matches.get_one::<PathBuf>(name).cloned();
        Ok(Reporter {
            cursor: path("cursor"),
            metrics: path("metrics-file"),
            channel: context.channel.to_owned(),
            bar,
            last: None,
            latest: None,
        })
    }

    pub(super) fn durable(&mut self, tail: &Tail, counts: &intake::Counts, now: bool) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_position(counts.bytes);
            bar.set_message(format!("{} transactions", counts.transactions));
        }
        if self.cursor.is_none() && self.metrics.is_none() {
            return Ok(());
        }
        if !now && self.last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            self.latest = Some((tail.clone(), *counts));
            return Ok(());
        }
        self.last = Some(Instant::now());
        self.latest = None;
        if let (Some(path), Some(position)) = (&self.cursor, tail.position()) {
            state::replace_file(path, &format!("{position}\n"))?;
        }
        if let Some(path) = &self.metrics {
            state::replace_file(path, &metrics(&self.channel, tail, counts))?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.latest.take() {
            Some((tail, counts)) => self.durable(&tail, &counts, true),
            None => Ok(()),
        }
    }
}

fn metrics(channel: &str, tail: &Tail, counts: &intake::Counts) -> String {
    let lines: [(&str, &str, &str, u64); 6] = [
        ("rlog_queue_transactions_total", "counter", "Transactions stored by this process.", counts.transactions),
        ("rlog_queue_repeats_total", "counter", "Transactions that were held already.", counts.repeats),
        ("rlog_queue_bytes_total", "counter", "Bytes read by this process.", counts.bytes),
        ("rlog_queue_syncs_total", "counter", "Syncs by this process.", counts.syncs),
        ("rlog_queue_sequence", "gauge", "Number of the last durable unit.", tail.sequence),
        (
            "rlog_queue_synced_timestamp_seconds",
            "gauge",
            "When it became durable.",
            u64::try_from(clock::now_us() / 1_000_000).unwrap_or(0),
        ),
    ];
    let mut out = String::new();
    for (name, kind, help, value) in lines {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{channel=\"{channel}\"}} {value}\n"));
    }
    out
}

pub(super) fn status_json(channel: &str, status: &Status) -> serde_json::Value {
    use serde_json::json;
    let tail = &status.tail;
    let source = tail.source.as_deref();
    json!({
        "channel": channel,
        "position": tail.position().map(|position| position.to_string()),
        "reached": tail.reached.map(|reached| reached.to_string()),
        "incarnation": tail.reached.map(|_| tail.incarnation.to_string()),
        "gtid_state": tail.gtid_state,
        "sequence": tail.sequence,
        "synced_sequence": status.synced_sequence,
        "first_sequence": status.first_sequence,
        "source": source.map(|source| source.source.clone()),
        "server_version": source.map(|source| source.server_version.clone()),
        "server_id": source.map(|source| source.server_id),
        "files": status.files,
        "bytes": status.bytes,
        "free_bytes": (status.free_bytes != u64::MAX).then_some(status.free_bytes),
        "writing": status.writing,
        "unclean": status.unclean,
        "waiting": if status.waiting.is_empty() { None } else { Some(&status.waiting) },
        "epoch": status.epoch,
        "readers": status.readers.iter().map(|reader| json!({
            "name": reader.name,
            "position": (reader.acked.sequence > 0).then(|| reader.acked.position.to_string()),
            "sequence": reader.acked.sequence,
            "behind": tail.sequence.saturating_sub(reader.acked.sequence),
            "pins": reader.pins,
            "time": time_text(reader.time_us),
        })).collect::<Vec<_>>(),
    })
}

fn time_text(time_us: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(time_us).ok().map(|time| time.to_string())
}

pub(super) fn print_status(channel: &str, status: &Status) -> Result<()> {
    let tail = &status.tail;
    let line = |name: &str, value: String| print_line(&format!("{name:<12} {value}"));
    line("channel", channel.to_owned())?;
    line("position", tail.position().map_or_else(|| "none".to_owned(), |position| position.to_string()))?;
    if let Some(source) = tail.source.as_deref() {
        line("source", format!("{} {}", source.source, source.server_version).trim_end().to_owned())?;
    }
    if !tail.gtid_state.is_empty() {
        line("gtid", tail.gtid_state.clone())?;
    }
    let held = (tail.sequence + 1).saturating_sub(status.first_sequence);
    line("held", format!("{held} units, {} files, {} bytes", status.files, status.bytes))?;
    let unsynced = tail.sequence.saturating_sub(status.synced_sequence);
    let writer = match (status.writing, status.unclean) {
        (true, _) if !status.waiting.is_empty() => format!("waiting: {}", status.waiting),
        (true, _) => format!("at work, {unsynced} units not yet synced"),
        (false, true) => "none; the last one was killed, the next put recovers".to_owned(),
        (false, false) => "none".to_owned(),
    };
    line("writer", writer)?;
    if status.readers.is_empty() {
        line("readers", "none registered: nothing is purged".to_owned())?;
    }
    for reader in &status.readers {
        let behind = tail.sequence.saturating_sub(reader.acked.sequence);
        let position = if reader.acked.sequence > 0 {
            reader.acked.position.to_string()
        } else {
            "nothing acknowledged".to_owned()
        };
        line("reader", format!("{} {position}, {behind} units behind", reader.name))?;
    }
    Ok(())
}
