//! rlog-extract: arguments and report.
//!
//! Its parts: `source` (what is read), `extract` (the loop), `frame` (what is written), `event::filter` (which tables). Here:
//! [`arguments`], [`sources`] (what they mean) and [`report`].

mod arguments;
mod report;
mod sources;

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::FromArgMatches as _;

use arguments::{Args, MANUAL, command};
use report::{Display, check, write_metrics};
use sources::{input, live_options, options, resume, sqlite_path};

use crate::cli::Tool;
use crate::cli::service::Service;
use crate::error::{Error, Result};
use crate::extract;
use crate::source::{self, Input};

/// rlog-extract(1).
pub const TOOL: Tool = Tool { name: "rlog-extract", command, manual: &MANUAL, run, closed_pipe_is_success: false };

fn run(matches: &clap::ArgMatches) -> Result<()> {
    let args = Args::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
    let stdout = std::io::stdout();
    if stdout.is_terminal() && !args.force && !args.check {
        return Err(Error::usage("frames are not for a terminal")
            .hint("`rlog-dump` shows what a log holds; `--force` writes frames to the terminal all the same"));
    }
    // Not the buffered standard output: it would cut writes at line feeds.
    let output = stdout.as_fd().try_clone_to_owned().map_err(|error| Error::io("standard output", error))?;
    let mut output = File::from(output);
    let done = extract(&args, &mut output);
    if let Err(error) = &done
        && let Failure::BeforeStream(error) = error
        && !args.check
    {
        extract::write_abort(&mut output, error);
    }
    done.map_err(|failure| match failure {
        Failure::BeforeStream(error) | Failure::InStream(error) => error,
    })
}

/// A server, or files.
fn other_input(args: &Args, options: &mut source::Options) -> Result<Input> {
    #[cfg(feature = "mysql")]
    if let Some(server) = sources::server_input(args)? {
        return Ok(Input::Server(Box::new(server), live_options(args, options, false)?));
    }
    resume(args, options)?;
    input(args)
}

/// Whether the stream has its abort frame already.
enum Failure {
    BeforeStream(Error),
    InStream(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::BeforeStream(error)
    }
}

fn extract(args: &Args, output: &mut File) -> std::result::Result<(), Failure> {
    let mut options = options(args)?;
    let input = match sqlite_path(args)? {
        Some(path) => Input::Sqlite(path, live_options(args, &mut options, true)?),
        None => other_input(args, &mut options)?,
    };
    if args.check {
        return Ok(check(args, input, options)?);
    }
    let mut source = source::open(input, options)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // A second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Error::io("signal handler", error))?;
    }
    let listeners = args.listeners.start(TOOL.name, args.quiet, true)?;
    crate::sys::pipe::enlarge(&*output);
    let mut display = Display::new(args);
    let mut service = args.follow.then(Service::new);
    let mut report = |status, notes| {
        if let Some(service) = &mut service {
            service.beat();
        }
        display.show(status, notes);
    };
    let channel = args.channel.as_deref().unwrap_or(crate::queue::DEFAULT_CHANNEL);
    let listeners = listeners.map(|host| (host, channel));
    let done = extract::run(&mut *source, output, "standard output", &stop, &mut report, listeners);
    drop(service);
    display.finish();
    let status = source.status();
    if let Some(path) = &args.metrics_file {
        write_metrics(path, status, done.as_ref().err())?;
    }
    match done {
        Ok(_) => {
            if args.verbose > 0 {
                display.say(&format!(
                    "{} transactions, {} rows, reached {}",
                    status.transactions,
                    status.rows,
                    source.reached()
                ));
            }
            Ok(())
        }
        Err(error) => Err(Failure::InStream(error)),
    }
}
