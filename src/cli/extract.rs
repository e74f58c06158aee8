//! rlog-extract: arguments and report.

use crate::cli::Tool;
use crate::error::{Class, Error, Result};

/// rlog-extract(1).
pub const TOOL: Tool = Tool { name: "rlog-extract", command, run, closed_pipe_is_success: false };

fn command() -> clap::Command {
    clap::Command::new("rlog-extract").about("Not built yet").version(env!("CARGO_PKG_VERSION"))
}

fn run(_matches: &clap::ArgMatches) -> Result<()> {
    Err(Error::new(Class::Unavailable, "rlog-extract is not built yet in this version"))
}
