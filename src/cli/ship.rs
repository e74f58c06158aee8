//! rlog-ship: not in this version. It takes any arguments, so that whoever tries it hears why and not that they mistyped.

use clap::{Arg, ArgAction};

use crate::cli::{Manual, Tool};
use crate::error::{Class, Error, Result};

/// rlog-ship(1).
pub const TOOL: Tool = Tool { name: "rlog-ship", command, manual: &MANUAL, run, closed_pipe_is_success: false };

const MANUAL: Manual = Manual {
    examples: &[(
        "Until then, over ssh",
        "rlog-extract mysql-bin.0000* | ssh backup rlog-queue put /var/spool/rlog/db1",
    )],
    see_also: &["ssh(1)"],
    ..Manual::EMPTY
};

fn command() -> clap::Command {
    clap::Command::new("rlog-ship")
        .about("Move transactions between hosts (not in this version)")
        .long_about(
            "Move transactions between hosts (not in this version)\n\nIt will send what a queue or a stream holds to a queue on \
             another host, both sides authenticated, acknowledged end to end. This version refuses with 69. What rlog-queue put \
             acknowledges over ssh is durable on the other host too.",
        )
        .arg(
            Arg::new("arguments")
                .hide(true)
                .action(ArgAction::Append)
                .num_args(0..)
                .allow_hyphen_values(true)
                .trailing_var_arg(true),
        )
}

fn run(_matches: &clap::ArgMatches) -> Result<()> {
    Err(Error::new(Class::Unavailable, "rlog-ship is not in this version")
        .hint("over ssh: rlog-extract SOURCE | ssh HOST rlog-queue put QUEUE"))
}
