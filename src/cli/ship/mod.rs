//! rlog-ship: arguments and report. The loops are [`crate::ship`]'s.
// The same comments are the help, where brackets are for what may be left out.
#![allow(rustdoc::broken_intra_doc_links)]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _, Subcommand};

use crate::cli::{Tool, escape_for_terminal, units};
use crate::error::{Class, Error, Result};
use crate::queue::{self, DEFAULT_CHANNEL};
use crate::ship::keys::KeyPair;

mod client;
mod manual;
mod report;
mod serve;

/// rlog-ship(1).
pub const TOOL: Tool = Tool { name: "rlog-ship", command, manual: &manual::MANUAL, run, closed_pipe_is_success: false };

#[derive(clap::Args, Debug)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Send a stream or a queue to a queue on another host
    Push(PushArguments),
    /// Receive what a queue on another host holds
    Pull(PullArguments),
    /// Let other hosts push into a queue and pull from it
    Serve(Box<ServeArguments>),
    /// Make a key pair, or show the public half of one
    Keygen(KeygenArguments),
}

/// What every verb but keygen knows.
#[derive(clap::Args, Debug)]
struct Common {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "RLOG_CONFIG", hide_env = true, help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// Wait this long for a lock that another process holds
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration, help_heading = "Reliability")]
    lock_wait: Duration,

    /// A peer from which nothing comes for this long is gone
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = units::duration, help_heading = "Reliability")]
    net_timeout: Duration,

    /// Move at most this many bytes a second in a connection
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, help_heading = "Transport")]
    rate_limit: Option<u64>,

    /// Tell whether it could work, and change nothing
    #[arg(long, help_heading = "Report")]
    check: bool,

    /// Keep counters in FILE in Prometheus' text format, replaced atomically
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    metrics_file: Option<PathBuf>,

    /// Show progress on standard error
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"], help_heading = "Report")]
    progress: String,

    /// Print errors only
    #[arg(long, short = 'q', conflicts_with = "verbose", help_heading = "Report")]
    quiet: bool,

    /// Tell what was done
    #[arg(long, short = 'v', action = clap::ArgAction::Count, help_heading = "Report")]
    verbose: u8,
}

/// What both clients know.
#[derive(clap::Args, Debug)]
struct Client {
    /// Channel, here and, unless the address names another, over there
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CHANNEL, help_heading = "Configuration")]
    channel: String,

    /// Our private key
    ///
    /// Default: ~/.config/rlog/ship.key, or /etc/rlog/ship.key if that is the one that exists. Refused when others may read it.
    #[arg(long, value_name = "FILE", env = "RLOG_SHIP_KEY", hide_env = true, help_heading = "Identity")]
    key: Option<PathBuf>,

    /// The server must have this key (`rlog-ed25519 BASE64`); may be repeated
    #[arg(long, value_name = "KEY", conflicts_with = "known_servers", help_heading = "Identity")]
    server_key: Vec<String>,

    /// The servers' keys, a line `HOST:PORT rlog-ed25519 BASE64` each
    ///
    /// Default: ~/.config/rlog/known_servers, or /etc/rlog/known_servers if that is the one that exists.
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    known_servers: Option<PathBuf>,

    /// Compress with zstd: `none`, or a level from 1 to 19
    #[arg(long, value_name = "LEVEL", default_value = "none", num_args = 0..=1, default_missing_value = "1", require_equals = true, value_parser = level, help_heading = "Transport")]
    compress: Level,

    /// First pause before connecting again; doubled each time up to a minute
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = units::duration, help_heading = "Reliability")]
    connect_retry: Duration,

    /// Connect again so many times without any progress in between, then end with 75
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Reliability")]
    retry_count: u64,

    /// The name that the server reports for us
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, help_heading = "Report")]
    report_name: String,

    /// With --check: as JSON
    #[arg(long, requires = "check", help_heading = "Report")]
    json: bool,

    #[command(flatten)]
    common: Common,
}

/// A level of zstd, or none.
#[derive(Clone, Copy, Debug)]
struct Level(Option<i32>);

fn level(text: &str) -> std::result::Result<Level, String> {
    match text {
        "none" => Ok(Level(None)),
        _ => match text.parse() {
            Ok(level @ 1..=19) => Ok(Level(Some(level))),
            _ => Err("expected `none` or a level from 1 to 19".to_owned()),
        },
    }
}

/// Send a stream or a queue to a queue on another host
///
/// Frames come from standard input, or from a queue, which keeps them until the other side has them. Returns 0 when everything up to the end is
/// durable over there. Prints nothing.
#[derive(clap::Args, Debug)]
struct PushArguments {
    /// Where to: tls://HOST[:PORT][/CHANNEL], ssh://[USER@]HOST[:PORT][/QUEUE], or exec:PROGRAM ARGUMENTS
    #[arg(long, value_name = "ADDRESS", help_heading = "Transport")]
    to: String,

    /// The queue to send, or `-`: frames from standard input
    ///
    /// Without it, the channel's queue in the configuration, else standard input.
    #[arg(value_name = "QUEUE|-")]
    queue: Option<String>,

    /// As QUEUE; the operand wins
    #[arg(long, value_name = "QUEUE", help_heading = "Reading")]
    from: Option<String>,

    /// Keep the position that is durable over there in FILE, replaced atomically
    ///
    /// For `rlog-extract --confirm @FILE`. If the other queue has lost what FILE says, that is refused with 81.
    #[arg(long, value_name = "FILE", help_heading = "Reliability")]
    cursor: Option<PathBuf>,

    /// Go on at the end of the queue
    #[arg(long, short = 'f', help_heading = "Reading")]
    follow: bool,

    /// Name of the reader that is registered in the queue [default: push-HOST-PORT]
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    reader: Option<String>,

    #[command(flatten)]
    client: Client,
}

/// Receive what a queue on another host holds
///
/// Into a queue, from where that stands; it is created if only its last component is missing. Or, with `-`, as frames on standard output. The server keeps for
/// us what is not durable here yet.
#[derive(clap::Args, Debug)]
struct PullArguments {
    /// Where from: tls://HOST[:PORT][/CHANNEL], ssh://[USER@]HOST[:PORT][/QUEUE], or exec:PROGRAM ARGUMENTS
    #[arg(long, value_name = "ADDRESS", help_heading = "Transport")]
    from: String,

    /// The queue to fill, or `-`: frames to standard output
    #[arg(value_name = "QUEUE|-")]
    queue: String,

    /// Into a queue: keep its durable position in FILE. To standard output: FILE says what is safe behind us
    ///
    /// To standard output, FILE is where to begin, and what the server may forget. Whoever makes it safe writes it, for example `rlog-queue put
    /// --cursor FILE`.
    #[arg(long, value_name = "FILE", help_heading = "Reliability")]
    cursor: Option<PathBuf>,

    /// Go on at the end
    #[arg(long, short = 'f', help_heading = "Reading")]
    follow: bool,

    /// A name for what the server keeps for us, if one key pulls a channel several times; `none` keeps nothing
    #[arg(long, value_name = "NAME", default_value = "default", help_heading = "Reading")]
    reader: String,

    /// Write to a terminal
    #[arg(long, help_heading = "Report")]
    force: bool,

    #[command(flatten)]
    storing: Storing,

    #[command(flatten)]
    client: Client,
}

/// How what comes is stored.
#[derive(clap::Args, Debug)]
struct Storing {
    /// Wait before a transaction while the channel occupies more than this
    #[arg(long, value_name = "BYTES", value_parser = units::bytes, help_heading = "Storing")]
    space_limit: Option<u64>,

    /// Start a new file of the queue when one has this many bytes
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = units::bytes, help_heading = "Storing")]
    segment_size: u64,

    /// Wait this long for more before a sync
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration, help_heading = "Storing")]
    sync_interval: Duration,

    /// Remove by itself what all readers have acknowledged, or not
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "never"], help_heading = "Storing")]
    purge: String,
}

impl Storing {
    fn writer(&self, lock_wait: Duration) -> queue::WriterOptions {
        queue::WriterOptions { lock_wait, segment_bytes: self.segment_size.max(1), purge: self.purge == "auto" }
    }
}

/// Let other hosts push into a queue and pull from it
///
/// Each connection serves one channel. Nothing is served to a key that is not authorized. SIGTERM ends it behind the transactions at hand, and clients come
/// again; SIGHUP reads the authorized keys anew, and ends the connections of keys that are no longer in them.
#[derive(clap::Args, Debug)]
struct ServeArguments {
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: String,

    /// Listen there: ADDRESS:PORT, or a port alone for all addresses; may be repeated
    #[arg(long, value_name = "ADDRESS", required_unless_present = "stdio", help_heading = "Transport")]
    listen: Vec<String>,

    /// Serve one connection over standard input and output
    ///
    /// For ssh, which then is what authorises: see SSH. SSH_ORIGINAL_COMMAND is not looked at.
    #[arg(long, conflicts_with_all = ["listen", "key", "authorized_keys"], help_heading = "Transport")]
    stdio: bool,

    /// Clients may only push
    #[arg(long, conflicts_with = "get_only", help_heading = "Authorization")]
    put_only: bool,

    /// Clients may only pull
    #[arg(long, help_heading = "Authorization")]
    get_only: bool,

    /// Serve this channel only; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Authorization")]
    channel: Vec<String>,

    /// The server's private key
    ///
    /// Default: ~/.config/rlog/ship.key, or /etc/rlog/ship.key if that is the one that exists. Refused when others may read it.
    #[arg(long, value_name = "FILE", env = "RLOG_SHIP_KEY", hide_env = true, help_heading = "Authorization")]
    key: Option<PathBuf>,

    /// The keys that may come in, and what each may do
    ///
    /// Default: ~/.config/rlog/authorized_keys, or /etc/rlog/authorized_keys if that is the one that exists. Refused when others may write it.
    #[arg(long, value_name = "FILE", help_heading = "Authorization")]
    authorized_keys: Option<PathBuf>,

    /// Serve at most so many connections at the same time
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Limits")]
    connections: usize,

    /// A client that is not welcomed after this long is cut off
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = units::duration, help_heading = "Limits")]
    handshake_timeout: Duration,

    /// Refuse to store when the file system has less than this left
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = units::bytes, help_heading = "Limits")]
    min_free: u64,

    /// Compress with zstd what a client pulls that asks for it, at this level
    #[arg(long, value_name = "LEVEL", default_value = "1", value_parser = level, help_heading = "Transport")]
    compress: Level,

    #[command(flatten)]
    storing: Storing,

    #[command(flatten)]
    common: Common,
}

/// Make a key pair, or show the public half of one
///
/// Prints a line for the other side's authorized keys, or behind HOST:PORT for its known servers.
#[derive(clap::Args, Debug)]
struct KeygenArguments {
    /// Where the private key goes; never replaced [default: ~/.config/rlog/ship.key]
    #[arg(long, value_name = "FILE", env = "RLOG_SHIP_KEY", hide_env = true)]
    key: Option<PathBuf>,

    /// Make nothing: print the public half of the key that is there
    #[arg(long)]
    show: bool,

    /// What to write behind the key [default: USER@HOST]
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

fn command() -> clap::Command {
    let command = clap::Command::new("rlog-ship")
        .about("Move transactions between hosts, safely")
        .long_about(
            "Move transactions between hosts, safely.\n\nBoth sides prove who they are by keys that the other side was told, as with ssh. After any \
             cut, the same command goes on where the receiving queue durably stands. What is reported as safe is durable over there.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true);
    Arguments::augment_args(command)
}

fn run(matches: &clap::ArgMatches) -> Result<()> {
    let arguments = Arguments::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
    match arguments.verb {
        Verb::Push(push) => client::push(&push),
        Verb::Pull(pull) => client::pull(&pull),
        Verb::Serve(serve) => serve::serve(&serve),
        Verb::Keygen(keygen) => self::keygen(&keygen),
    }
}

fn keygen(arguments: &KeygenArguments) -> Result<()> {
    let path = match &arguments.key {
        Some(path) => path.clone(),
        None if arguments.show => default_file("ship.key")?,
        None => personal_file("ship.key")?,
    };
    let pair = if arguments.show {
        KeyPair::load(&path)?
    } else {
        if arguments.key.is_none()
            && let Some(folder) = path.parent()
        {
            make_folder(folder)?;
        }
        let pair = KeyPair::generate()?;
        pair.save(&path)?;
        pair
    };
    let comment = match &arguments.comment {
        Some(comment) => comment.clone(),
        None => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}@{}", std::env::var("USER").unwrap_or_else(|_| "rlog".to_owned()), host.trim())
        }
    };
    if comment.contains(['\n', '\r']) {
        return Err(Error::usage("a comment is one line"));
    }
    print_line(format!("{} {comment}", pair.public()).trim_end())
}

/// A folder for keys, for the user alone.
fn make_folder(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io(path.display().to_string(), error).with_class(Class::CannotCreate))
}

/// The user's own file of this name.
fn personal_file(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => PathBuf::from(home).join(".config"),
            None => return Err(Error::usage(format!("there is no home directory, so `{name}` has to be named"))),
        },
    };
    Ok(folder.join("rlog").join(name))
}

/// The user's own file, or the system's if that is the one that exists.
fn default_file(name: &str) -> Result<PathBuf> {
    let system = PathBuf::from("/etc/rlog").join(name);
    match personal_file(name) {
        Ok(personal) if personal.exists() || !system.exists() => Ok(personal),
        Err(error) if !system.exists() => Err(error),
        _ => Ok(system),
    }
}

/// A configuration file that was named must exist.
fn check_config(common: &Common) -> Result<()> {
    match &common.config {
        Some(config) if !config.exists() => {
            Err(Error::new(Class::NoInput, "no such configuration file").in_file(config.display().to_string()))
        }
        _ => Ok(()),
    }
}

fn print_line(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{}", escape_for_terminal(text))
        .map_err(|error| Error::io("standard output", error))
}

/// SIGTERM, SIGINT and more ask for a clean end; a second one ends the process at once.
fn stop_flag(signals: &[i32]) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals {
        signal_hook::flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(*signal, Arc::clone(&stop)))
            .map_err(|error| Error::io("signal handlers", error))?;
    }
    Ok(stop)
}
