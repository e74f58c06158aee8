//! rlog-ship: arguments and report.

use crate::cli::{Manual, Tool};
use crate::error::{Class, Error, Result};

/// rlog-ship(1).
pub const TOOL: Tool = Tool { name: "rlog-ship", command, manual: &MANUAL, run, closed_pipe_is_success: false };

const MANUAL: Manual = Manual::EMPTY;

fn command() -> clap::Command {
    clap::Command::new("rlog-ship").about("Not built yet")
}

fn run(_matches: &clap::ArgMatches) -> Result<()> {
    Err(Error::new(Class::Unavailable, "rlog-ship is not built yet in this version"))
}
