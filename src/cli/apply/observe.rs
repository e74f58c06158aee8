//! What a run shows while it goes on: a progress bar on a terminal, a metrics file, remarks.

use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::RunArguments;
use crate::apply::{self, Options, Summary};
use crate::cli::service::Service;
use crate::error::{Error, Result};

/// How often the metrics file is replaced.
const METRICS_EVERY: Duration = Duration::from_secs(1);

/// When to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum When {
    /// On a terminal, and not with --follow
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

pub(super) struct Observer {
    bar: Option<ProgressBar>,
    quiet: bool,
    metrics: Option<(PathBuf, Instant)>,
    channel: String,
    last: Summary,
    service: Option<Service>,
}

impl Observer {
    pub fn new(arguments: &RunArguments, options: &Options) -> Result<Observer> {
        let show = match arguments.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stderr().is_terminal() && !options.follow && !arguments.quiet,
        };
        let bar = show.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3}% {msg} ETA {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let observer = Observer {
            bar,
            quiet: arguments.quiet,
            metrics: arguments.metrics_file.clone().map(|path| (path, Instant::now())),
            channel: options.channel.clone(),
            last: Summary::default(),
            service: options.follow.then(Service::new),
        };
        observer.write_metrics(None)?;
        Ok(observer)
    }

    /// The run is over.
    pub fn finish(&mut self, error: Option<&Error>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        // The outcome of the run is what matters; the next one writes the file again.
        let _ = self.write_metrics(Some(error.map_or(0, |error| error.class().exit_status())));
    }

    fn write_metrics(&self, status: Option<u8>) -> Result<()> {
        match &self.metrics {
            Some((path, _)) => replace(path, &metrics(&self.channel, &self.last, status)),
            None => Ok(()),
        }
    }
}

impl apply::Observer for Observer {
    fn progress(&mut self, summary: &Summary) {
        self.last.clone_from(summary);
        if let Some(service) = &mut self.service {
            service.beat();
        }
        if let Some(bar) = &self.bar {
            let (read, left) = summary.input;
            if let Some(left) = left {
                bar.set_length((read + left).max(1));
            }
            bar.set_position(read);
            bar.set_message(format!("{} transactions, {} rows", summary.transactions, summary.rows));
        }
        if let Some((_, at)) = &mut self.metrics
            && at.elapsed() >= METRICS_EVERY
        {
            *at = Instant::now();
            let _ = self.write_metrics(None);
        }
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            super::eprint_line(&format!("rlog-apply: note: {text}"));
        }
    }
}

/// The figures in Prometheus' text format.
fn metrics(channel: &str, summary: &Summary, status: Option<u8>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(out, "# HELP rlog_apply_{name} {help}\n# TYPE rlog_apply_{name} {kind}");
        let _ = writeln!(out, "rlog_apply_{name}{{channel=\"{channel}\"}} {value}");
    };
    put("transactions_total", "counter", "Source transactions applied by this run.", summary.transactions as f64);
    put("commits_total", "counter", "Target transactions committed by this run.", summary.commits as f64);
    put("rows_total", "counter", "Rows handed to the target by this run.", summary.rows as f64);
    put("repeated_total", "counter", "Source transactions passed over as applied before.", summary.repeated as f64);
    put("skipped_total", "counter", "Rows and transactions stepped over.", summary.skipped as f64);
    put("overwritten_total", "counter", "Rows made as the source's.", summary.overwritten as f64);
    put("retries_total", "counter", "Retries.", summary.retries as f64);
    if summary.source_time_us != 0 {
        let seconds = summary.source_time_us as f64 / 1e6;
        put("source_time_seconds", "gauge", "Commit time of the last source transaction applied.", seconds);
    }
    if let Some(position) = &summary.position {
        put("position_file", "gauge", "File number of the applied position.", position.end.file() as f64);
        put("position_offset", "gauge", "Offset of the applied position.", position.end.offset() as f64);
    }
    put("running", "gauge", "Whether the run is at work.", f64::from(u8::from(status.is_none())));
    if let Some(status) = status {
        put("exit_status", "gauge", "Exit status of the last run.", f64::from(status));
    }
    out
}

/// Replaces a file so that its readers see the old or the new one whole.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".tmp");
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| Error::io(path.display().to_string(), error).with_class(crate::error::Class::CannotCreate))
}
