//! What rlog-extract tells people and monitors: `--check`, notes, progress, counters.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::arguments::Args;
use crate::cli::escape_for_terminal;
use crate::error::{Class, Error, Result};
use crate::source::{self, Input, Options, Status};

/// `--check`: opens everything, reads nothing but the ends of the files.
pub(super) fn check(args: &Args, mut input: Input, mut options: Options) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let io = |error| Error::io("standard output", error);
    #[cfg(not(feature = "mysql"))]
    let (_, _) = (&mut input, &mut options);
    if let Input::Files(paths) = &input {
        let (probes, notes) = source::mysql::files::in_order(paths.clone())?;
        for note in notes {
            writeln!(out, "{}", escape_for_terminal(&note)).map_err(io)?;
        }
        for probe in &probes {
            let format = &probe.format;
            let line = format!(
                "{}: {} {} server {}, {} bytes{}{}{}",
                probe.path.display(),
                format.family.name(),
                if format.server_version.is_empty() { "of unknown version" } else { &format.server_version },
                format.server_id,
                probe.len,
                if probe.relay { ", relay log" } else { "" },
                if format.checksum { "" } else { ", no checksums" },
                if format.flags & source::mysql::event::flag::IN_USE != 0 { ", in use" } else { "" },
            );
            writeln!(out, "{}", escape_for_terminal(&line)).map_err(io)?;
        }
        for pair in probes.windows(2) {
            if let [earlier, later] = pair
                && let Some(missing) = source::mysql::files::missing_between(earlier, later)
            {
                return Err(Error::new(Class::Gap, format!("{missing} is missing before {}", later.path.display())));
            }
        }
    }
    #[cfg(feature = "mysql")]
    if let Input::Server(server, live) = &mut input {
        for line in source::mysql::live::report(server, live.snapshot)? {
            writeln!(out, "{}", escape_for_terminal(&line)).map_err(io)?;
        }
        // A look locks nothing, writes nothing, and does not wait for a server that is away.
        (live.snapshot, server.raw, options.follow) = (false, None, false);
    }
    drop(source::open(input, options)?);
    if args.verbose > 0 {
        writeln!(out, "ready").map_err(io)?;
    }
    Ok(())
}

/// Notes, and the progress bar when standard error is a terminal.
pub(super) struct Display {
    bar: Option<indicatif::ProgressBar>,
    quiet: bool,
    sized: bool,
    last: Instant,
}

impl Display {
    pub(super) fn new(args: &Args) -> Display {
        let terminal = std::io::stderr().is_terminal();
        let wanted = match args.progress.as_str() {
            "always" => true,
            "never" => false,
            _ => terminal && !args.quiet,
        };
        let bar = wanted.then(|| {
            let target = if terminal {
                indicatif::ProgressDrawTarget::stderr_with_hz(5)
            } else {
                indicatif::ProgressDrawTarget::hidden()
            };
            let bar = indicatif::ProgressBar::with_draw_target(None, target);
            let template = "{bytes:>11}{msg} {binary_bytes_per_sec:>12} {wide_bar} {eta:>4}";
            if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Display { bar, quiet: args.quiet, sized: false, last: Instant::now() }
    }

    pub(super) fn show(&mut self, status: Status, notes: Vec<String>) {
        for note in notes {
            if !self.quiet {
                self.say(&format!("note: {note}"));
            }
        }
        let Some(bar) = &self.bar else { return };
        if !self.sized && status.bytes_total > 0 {
            bar.set_length(status.bytes_total);
            self.sized = true;
        }
        bar.set_position(status.bytes_done);
        if bar.is_hidden() && self.last.elapsed() >= Duration::from_secs(1) {
            // `--progress always` into a file: a line a second.
            self.last = Instant::now();
            let line =
                format!("{} of {} bytes, {} transactions", status.bytes_done, status.bytes_total, status.transactions);
            let _ = writeln!(std::io::stderr(), "rlog-extract: {line}");
        }
    }

    /// Prints a line, above the bar if there is one.
    pub(super) fn say(&self, text: &str) {
        let line = format!("rlog-extract: {}", escape_for_terminal(text));
        let print = || drop(writeln!(std::io::stderr(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Counters for a node exporter's textfile collector, replaced at once.
pub(super) fn write_metrics(path: &Path, status: Status, error: Option<&Error>) -> Result<()> {
    let name = path.display().to_string();
    let failed = error.map_or(0, |error| error.class().exit_status());
    let text = format!(
        "# TYPE rlog_extract_bytes_read counter\nrlog_extract_bytes_read {}\n\
         # TYPE rlog_extract_transactions counter\nrlog_extract_transactions {}\n\
         # TYPE rlog_extract_rows counter\nrlog_extract_rows {}\n\
         # TYPE rlog_extract_exit_status gauge\nrlog_extract_exit_status {failed}\n",
        status.bytes_done, status.transactions, status.rows
    );
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| Error::io(name, error).with_class(Class::CannotCreate))
}
