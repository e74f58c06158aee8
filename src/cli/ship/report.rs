//! What a run shows: cursor file, metrics, progress, remarks.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Common;
use crate::cli::escape_for_terminal;
use crate::error::{Error, Result};
use crate::ship::wire::{Ack, Reached};
use crate::ship::{Cursor, Observer, replace};
use crate::sys::clock;

/// Of push and pull.
pub(super) struct Reporter {
    verb: &'static str,
    channel: String,
    cursor: Option<Cursor>,
    metrics: Option<PathBuf>,
    bar: Option<indicatif::ProgressBar>,
    quiet: bool,
    verbose: bool,
    written: Option<Instant>,
    connections: u64,
    units: u64,
    /// Of the connection at hand.
    acked: u64,
    last: Reached,
}

impl Reporter {
    /// The metrics file is replaced at most this often, and at the end.
    const PERIOD: Duration = Duration::from_secs(1);

    pub fn new(verb: &'static str, channel: &str, common: &Common, cursor: Option<Cursor>) -> Result<Reporter> {
        let show = match common.progress.as_str() {
            "always" => true,
            "auto" => std::io::stderr().is_terminal() && !common.quiet,
            _ => false,
        };
        let bar = show.then(indicatif::ProgressBar::new_spinner);
        if let Some(bar) = &bar
            && let Ok(style) = indicatif::ProgressStyle::with_template("{pos} {per_sec} {msg}")
        {
            bar.set_style(style);
        }
        let mut reporter = Reporter {
            verb,
            channel: channel.to_owned(),
            cursor,
            metrics: common.metrics_file.clone(),
            bar,
            quiet: common.quiet,
            verbose: common.verbose > 0,
            written: None,
            connections: 0,
            units: 0,
            acked: 0,
            last: Reached::default(),
        };
        // A file that cannot be written is told before anything moves.
        reporter.write_metrics(None)?;
        Ok(reporter)
    }

    pub fn finish(&mut self, error: Option<&Error>) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.flush()?;
        }
        self.write_metrics(Some(error.map_or(0, |error| error.class().exit_status())))?;
        if self.verbose && error.is_none() {
            let position = self.last.position.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            self.say(&format!("{} units durable, {} connections, at {position}", self.units, self.connections));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        let line = format!("rlog-ship: {}", escape_for_terminal(text));
        // Nothing depends on it.
        let print = || drop(writeln!(std::io::stderr(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn write_metrics(&mut self, status: Option<u8>) -> Result<()> {
        let Some(path) = &self.metrics else { return Ok(()) };
        if status.is_none() && self.written.is_some_and(|written| written.elapsed() < Self::PERIOD) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        let mut lines = vec![
            ("units_total", "counter", "Units that became durable on the receiving side.", self.units),
            ("connections_total", "counter", "Connections that were made.", self.connections),
            ("running", "gauge", "Whether the run is at work.", u64::from(status.is_none())),
            (
                "timestamp_seconds",
                "gauge",
                "When this was written.",
                u64::try_from(clock::now_us() / 1_000_000).unwrap_or(0),
            ),
        ];
        if let Some(position) = &self.last.position {
            lines.push(("position_file", "gauge", "File number of the durable position.", position.end.file()));
            lines.push(("position_offset", "gauge", "Offset of the durable position.", position.end.offset()));
        }
        if let Some(status) = status {
            lines.push(("exit_status", "gauge", "Exit status of the last run.", status.into()));
        }
        replace(
            path,
            &prometheus(&format!("rlog_ship_{}", self.verb), &format!("channel=\"{}\"", self.channel), &lines),
        )
    }
}

/// Lines of Prometheus' text format.
pub(super) fn prometheus(prefix: &str, labels: &str, lines: &[(&str, &str, &str, u64)]) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in lines {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        out.push_str(&format!(
            "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}\n{prefix}_{name}{labels} {value}\n"
        ));
    }
    out
}

impl Observer for Reporter {
    fn connected(&mut self, peer: &str, reached: &Reached) -> Result<()> {
        self.connections += 1;
        self.acked = 0;
        self.last = reached.clone();
        if self.verbose {
            let position = reached.position.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            self.say(&format!("connected to {peer}; the receiving queue has {position}"));
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.check(reached, peer)?;
            cursor.durable(reached)?;
        }
        self.write_metrics(None)
    }

    fn acknowledged(&mut self, ack: &Ack) -> Result<()> {
        self.units += ack.units.saturating_sub(self.acked);
        self.acked = ack.units;
        self.last = ack.reached.clone();
        if let Some(bar) = &self.bar {
            bar.set_position(self.units);
            bar.set_message(ack.reached.position.as_ref().map_or(String::new(), ToString::to_string));
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.durable(&ack.reached)?;
        }
        self.write_metrics(None)
    }

    fn idle(&mut self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.tick();
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.tick()?;
        }
        self.write_metrics(None)
    }

    fn note(&mut self, text: &str) {
        if !self.quiet && (self.verbose || std::io::stderr().is_terminal()) {
            self.say(text);
        }
    }
}
