//! rlog-queue: arguments and report.

use crate::cli::Tool;
use crate::error::{Class, Error, Result};

/// rlog-queue(1).
pub const TOOL: Tool = Tool { name: "rlog-queue", command, run, closed_pipe_is_success: false };

fn command() -> clap::Command {
    clap::Command::new("rlog-queue").about("Not built yet").version(env!("CARGO_PKG_VERSION"))
}

fn run(_matches: &clap::ArgMatches) -> Result<()> {
    Err(Error::new(Class::Unavailable, "rlog-queue is not built yet in this version"))
}
