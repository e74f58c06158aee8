//! The edge between the library and the terminal: one file per tool, and what all five share.
//!
//! [`main`] is the whole of every binary. It parses (usage errors are 64), runs the tool, prints an error with its
//! hint, and turns its class into the exit status. Nothing below this module prints, reads the user's environment
//! or decides an exit status.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;

use crate::error::{Class, Error, Result};

pub mod apply;
pub mod config;
pub mod dump;
pub mod extract;
pub mod filters;
pub mod listeners;
pub mod manual;
pub mod queue;
pub mod service;
pub mod ship;

pub use crate::sys::units;
pub use manual::Manual;

/// A tool as `main`, the manual pages and the completions see it.
pub struct Tool {
    /// The program's name, `rlog-…`.
    pub name: &'static str,
    /// The definition behind `--help`, the man page and the completions.
    pub command: fn() -> clap::Command,
    /// What the manual says besides the options; EXAMPLES stand in `--help` too.
    pub manual: &'static Manual,
    /// Does the work.
    pub run: fn(&ArgMatches) -> Result<()>,
    /// Whether a closed standard output is a quiet success (dump), or work left undone (75).
    pub closed_pipe_is_success: bool,
}

/// The five tools, in pipeline order.
pub const TOOLS: [&Tool; 5] = [&extract::TOOL, &ship::TOOL, &queue::TOOL, &apply::TOOL, &dump::TOOL];

/// Runs `tool` on the process's arguments.
pub fn main(tool: &Tool) -> ExitCode {
    ExitCode::from(run(tool, std::env::args_os()))
}

/// Runs `tool` on `args` and returns the exit status.
pub fn run(tool: &Tool, args: impl IntoIterator<Item = OsString>) -> u8 {
    let (command, args) = match config::merge(tool, manual::command(tool), args.into_iter().collect()) {
        Ok(merged) => merged,
        Err(error) => {
            report(tool.name, &error);
            return error.class().exit_status();
        }
    };
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let status = if error.use_stderr() { Class::Usage.exit_status() } else { 0 };
            // A reader of --help that goes away early is no failure.
            let _ = error.print();
            return status;
        }
    };
    match (tool.run)(&matches) {
        Ok(()) => 0,
        Err(error) if tool.closed_pipe_is_success && error.is_broken_pipe() => 0,
        Err(error) => {
            report(tool.name, &error);
            error.class().exit_status()
        }
    }
}

/// Prints an error and its hint to standard error. An error without words ([`Class::Nothing`]) prints nothing.
pub fn report(tool: &str, error: &Error) {
    let mut stderr = std::io::stderr().lock();
    if error.class() == Class::Nothing && error.what().is_empty() {
        return;
    }
    // Nowhere is left to report a failure to report.
    let _ = writeln!(stderr, "{tool}: {}", escape_for_terminal(&error.to_string()));
    if let Some(hint) = error.hint_text() {
        let _ = writeln!(stderr, "{tool}: hint: {}", escape_for_terminal(hint));
    }
}

/// Prints a remark for the person who runs the tool to standard error.
pub fn note(tool: &str, text: &str) {
    // Nowhere is left to report a failure to report.
    let _ = writeln!(std::io::stderr().lock(), "{tool}: {}", escape_for_terminal(text));
}

/// Replaces what could control a terminal (C0, DEL, C1, bidirectional overrides), since messages quote from logs.
pub fn escape_for_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_bidi_control(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The characters that reorder text on a terminal (Unicode's Bidi_Control property).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
