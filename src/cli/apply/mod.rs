//! rlog-apply: arguments and report.
//!
//! `apply::run` is the loop, `target` the databases, `apply::status` what `status` tells; here are their arguments, the
//! signals, the progress bar and the metrics file.
// The same comments are the help, where brackets are for what may be left out.
#![allow(rustdoc::broken_intra_doc_links)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args as _, FromArgMatches as _, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::apply::conflict::Policy;
use crate::apply::execute::DdlPolicy;
use crate::apply::options::{From, Init, Options, Order, Until};
use crate::apply::rules::Rules;
use crate::apply::state::{Reached, facts};
use crate::apply::{self, status};
use crate::cli::filters::Filters;
use crate::cli::listeners::Listeners;
use crate::cli::{Manual, Tool, units};
use crate::dump::moment;
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Coordinate, PositionSpec};
use crate::queue;
use crate::sys;
use crate::target::{self, OpenOptions, Settings, Target};

mod compare;
mod observe;
mod preview;

/// rlog-apply(1).
pub const TOOL: Tool = Tool { name: "rlog-apply", command, manual: &MANUAL, run, closed_pipe_is_success: false };

const MANUAL: Manual = Manual {
    examples: &[
        (
            "Apply what a queue holds to a new SQLite database",
            "rlog-apply run --from spool --init empty sqlite:replica.db",
        ),
        ("Keep a MariaDB up to date", "rlog-apply run --follow --from spool mysql://repl@db2"),
        ("How far is it", "rlog-apply status --from spool sqlite:replica.db"),
        (
            "Wait until it has applied a position",
            "rlog-apply wait --position mysql-bin.000042:1234 --timeout 30 sqlite:replica.db",
        ),
        (
            "Step over a transaction that cannot be applied",
            "rlog-apply skip 42:1234-5678,9f3c2a1065f0c1aa,1a2b3c4d sqlite:replica.db",
        ),
        (
            "Keep an audit trail, and mask a column",
            "rlog-apply run --plugin ./audit.so:audit.log --plugin ./mask.so:shop.people.mail --from spool sqlite:replica.db",
        ),
        (
            "Is the replica equal to its source",
            "rlog-apply compare --channel default mysql://repl@db1 mysql://repl@db2",
        ),
    ],
    sections: &[
        ("EXACTLY ONCE", EXACTLY_ONCE),
        ("CONFLICTS", CONFLICTS),
        ("XA TRANSACTIONS", XA),
        ("COMPARING", compare::MANUAL),
        ("TYPES IN SQLITE", TYPES),
    ],
    files: &[(
        "TARGET-rlog-CHANNEL.lock",
        "Beside a SQLite target: held while a run of the channel is at work. It may be deleted while none is.",
    )],
    environment: &[("TZ", "The zone of times without one, and of the times in text output.")],
    see_also: &["rlog-plugin(3)", "mariadb(1)"],
};

const EXACTLY_ONCE: &str = "\
The target itself remembers what was applied to it, in the transaction that holds the data: one row in the table `rlog_applied`. Kill any
process at any moment and run the same command again: nothing is lost and nothing is doubled. What was applied is passed over by
its position, what is missing is refused (81), and a stream of another source or another history is refused (83).

Two runs of one channel exclude each other by a lock (75). Should a stopped run come back to life after another has taken over, the
epoch in the table `rlog_channel` keeps it from applying anything, and it leaves with 75 as well.

Without state, `run` refuses and creates nothing, unless `--init` declares what the target holds or the input begins with a
snapshot. `--init empty` is the only thing that creates a SQLite database. Once there is state, `--init` does nothing, so that the
same command can be repeated.

While a snapshot loads, `status` says `loading`. MariaDB (10.6 and later) fills an empty table fastest in one transaction, so its rows become
visible by up to 256 MiB at a time; after a kill, so much is read again.";

const CONFLICTS: &str = "\
A row that cannot be applied as the source's log says is a conflict. `--on-conflict` says what to do, for all classes or for one
(`CLASS=ACTION`):

= duplicate-key
A row with this key is there already.
= row-not-found
The row to be changed is not there.
= row-differs
The row is there, but not as its before image says (only with --check-before).
= constraint, foreign-key, type
NOT NULL and CHECK; a foreign key; a value, column or table that the target does not have.

= stop
The default: nothing of the transaction is applied, exit status 80. The report names the position, the row and both images.
= skip
The row is stepped over, recorded (`errors` lists it), and with --dead-letter the whole source transaction is kept as frames first.
= overwrite
The target's row is made what the source's is. Not for constraint, foreign-key and type.

Two cases of ordinary use are conflicts of servers: the history of a table WITH SYSTEM VERSIONING (MariaDB), which is a duplicate key of its rows; and rows
written under foreign_key_checks=0, against a foreign key, by one transaction of more than 1 MiB, or into SQLite.";

const XA: &str = "\
A prepared XA transaction has no effect before its decision. Its rows wait in the queue, pinned there whatever is purged, and the target remembers
where (`status` counts them). XA COMMIT applies them as one transaction, XA ROLLBACK lets go of them. A pipe or a file cannot give them
again, so `run` refuses a prepared transaction that does not come from a queue (78). One that was prepared before the base is missing when it
is committed (81).";

const TYPES: &str = "\
Integers become INTEGER (unsigned ones above 2^63-1 a blob of their digits), FLOAT and DOUBLE REAL, DECIMAL a number up to 15 digits and text beyond,
dates and times text (TIMESTAMP in UTC), characters UTF-8 text (a blob where they are not valid), ENUM and SET their members' text, JSON text, and
everything else a blob. A primary key of one integer column becomes the rowid. SQLite has no databases: a table keeps its bare
name; a second database with the same table name is refused (78) until --rewrite-db or --qualify says what is meant.";

/// The arguments as typed.
#[derive(clap::Args, Debug)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Apply transactions until the end, a limit or a signal
    Run(Box<RunArguments>),
    /// Tell what each channel has applied, and how far it is behind
    Status(StatusArguments),
    /// Print the applied position; exit status 1 when there is none
    Last(Place),
    /// Wait until a position is applied (0), the time is up (75) or the applier has stopped (80)
    Wait(WaitArguments),
    /// Step over one failing transaction, and no other, in the next run
    Skip(SkipArguments),
    /// Forget the last error, recorded conflicts and a pending skip; with --all the channel itself
    Reset(ResetArguments),
    /// List the conflicts that were stepped over, one JSON object a line
    Errors(Place),
    /// Compare the tables of two databases row by row; exit status 80 when something differs
    Compare(Box<compare::Arguments>),
}

/// Which channel of which target.
#[derive(clap::Args, Debug, Clone)]
struct Place {
    /// sqlite:PATH or mysql://USER@HOST[:PORT]/
    #[arg(value_name = "TARGET")]
    target: String,

    /// The channel
    #[arg(long, value_name = "NAME", default_value = queue::DEFAULT_CHANNEL)]
    channel: String,
}

#[derive(clap::Args, Debug)]
struct RunArguments {
    /// Where transactions come from: a queue (a directory), a file of frames, or `-`, standard input
    #[arg(long, value_name = "QUEUE|FILE|-", default_value = "-")]
    from: String,

    #[command(flatten)]
    place: Place,

    /// What the target holds: `empty`, or everything up to a position; does nothing once there is state
    ///
    /// A queue from whose beginning something was purged is refused with `empty` (81), unless a snapshot comes first; `oldest` begins with what it still has.
    #[arg(long, value_name = "empty|POSITION")]
    init: Option<String>,

    /// Apply what is there, and end (the default)
    #[arg(long, conflicts_with = "follow")]
    once: bool,

    /// Wait for more at the end
    #[arg(long)]
    follow: bool,

    /// Stop behind the last transaction that ends at this position, or before the first that committed after this time
    #[arg(long, value_name = "POSITION|TIME")]
    until: Option<String>,

    /// Sessions that apply at the same time, where the target has several writers (a server; SQLite has one) [default: as many as this
    /// machine has cores, 4 at most]
    ///
    /// With the source's order of commits, a transaction above 1 MiB runs beside the one before it as well. Where it depends on that, it rolls back and runs
    /// again alone.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Speed")]
    workers: Option<u16>,

    /// Order of commits: the source's, or any that the transactions' windows allow
    #[arg(long, value_enum, default_value_t = OrderName::Commit, help_heading = "Speed")]
    order: OrderName,

    /// Source transactions merged into one target transaction at most; 1 by itself when there is no more input
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Speed")]
    batch: u32,

    /// What to do about conflicts: stop, skip (the row) or overwrite; or CLASS=ACTION, several with commas
    #[arg(long, value_name = "ACTION", help_heading = "Conflicts")]
    on_conflict: Vec<String>,

    /// Error numbers of the target's engine that are stepped over, with commas; or all
    #[arg(long, value_name = "N,...|all", help_heading = "Conflicts")]
    skip_errors: Vec<String>,

    /// Keep source transactions of which something was skipped in this file, as frames
    #[arg(long, value_name = "FILE", help_heading = "Conflicts")]
    dead_letter: Option<PathBuf>,

    /// Compare rows with their whole before image, not only by key
    #[arg(long, help_heading = "Conflicts")]
    check_before: bool,

    /// Retries of deadlocks, lock time-outs and lost connections
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Conflicts")]
    retries: u32,

    /// What to do with statements that change the schema
    #[arg(long, value_enum, default_value_t = DdlName::Apply, help_heading = "Schema")]
    ddl: DdlName,

    /// Create tables that are missing, from the stream's own definitions
    ///
    /// A snapshot of a MySQL or MariaDB server brings the server's own statements: its sequences and tables, and behind the rows its indexes, routines,
    /// views and triggers, each in the account's name that defined it. Into a server these need the privilege to do that (SET USER in MariaDB,
    /// SET_ANY_DEFINER in MySQL), and log_bin_trust_function_creators for functions; what the target refuses is left out with a note. Into
    /// SQLite tables and indexes are translated, the rest is left out with a note. Events are never taken along.
    #[arg(long, help_heading = "Schema")]
    create_tables: bool,

    /// Name tables `db.table` in a target without databases
    #[arg(long, help_heading = "Schema")]
    qualify: bool,

    /// Let a snapshot replace the rows that its tables have
    #[arg(long, help_heading = "Schema")]
    replace: bool,

    /// Let the target's triggers fire for applied rows: `fire`
    #[arg(long, value_name = "fire", value_parser = ["fire", "off"], default_value = "off", help_heading = "Schema")]
    triggers: String,

    /// Apply also to tables whose engine cannot roll back: at least once, not exactly once
    #[arg(long, help_heading = "Schema")]
    allow_nontransactional: bool,

    /// Go on although the filters may now let through what those of earlier runs held back
    ///
    /// The target remembers the filters of its channel. Narrower ones are taken, with a remark; others are refused (78), since what happened until
    /// now to the tables that they add would be missing, unless a snapshot that brings them comes next. With this option it is said that
    /// the target has those rows already, or that nobody misses them.
    #[arg(long, help_heading = "Filters")]
    accept_filters: bool,

    /// Apply also what this server itself has executed first, as its server id tells (replicate_same_server_id)
    ///
    /// Without it, what comes home through other servers is passed over. Servers that follow each other need different ids.
    #[arg(long)]
    same_server_id: bool,

    /// Keep the applied position in FILE, replaced atomically: what `rlog-extract --confirm @FILE` goes by
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,

    /// Stay behind the source by this long: `30`, `90s`, `15m`, `2h`
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration)]
    delay: Duration,

    /// Wait this long for another run of the channel
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration)]
    lock_wait: Duration,

    /// Report what would be done and whether it can be, and change nothing
    #[arg(long)]
    check: bool,

    /// Print what would be applied as SQL, and change nothing
    ///
    /// In the dialect of the target, with the channel's filters, names and limits. It is what rlog-dump would print of it: into SQLite, DDL
    /// is left out with a comment. Conflicts do not show.
    #[arg(long, conflicts_with_all = ["follow", "check", "plugins", "commands"])]
    dry_run: bool,

    /// Show progress
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = observe::When::Auto)]
    progress: observe::When,

    /// Keep figures for Prometheus in this file, replaced atomically
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,

    /// No remarks
    #[arg(short, long)]
    quiet: bool,

    /// Say at the end what was done
    #[arg(short, long)]
    verbose: bool,

    // Last, since the heading of its options would go on.
    #[command(flatten)]
    filters: Filters,

    #[command(flatten)]
    listeners: Listeners,
}

#[derive(clap::Args, Debug)]
struct StatusArguments {
    /// sqlite:PATH or mysql://USER@HOST[:PORT]/
    #[arg(value_name = "TARGET")]
    target: String,

    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// The queue that it reads, to tell how far it is behind
    #[arg(long, value_name = "QUEUE")]
    from: Option<String>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = StatusFormat::Text, conflicts_with = "json")]
    format: StatusFormat,
}

#[derive(clap::Args, Debug)]
struct WaitArguments {
    #[command(flatten)]
    place: Place,

    /// The position: as rlog prints it, or FILE:OFFSET as the server does
    #[arg(long, value_name = "POSITION")]
    position: String,

    /// How long: `30`, `90s`, `15m`; 0 waits for ever
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = units::duration)]
    timeout: Duration,
}

#[derive(clap::Args, Debug)]
struct SkipArguments {
    /// The transaction's position, as the report of its failure gives it
    #[arg(value_name = "POSITION")]
    position: String,

    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args, Debug)]
struct ResetArguments {
    #[command(flatten)]
    place: Place,

    /// Forget the channel itself, its position included
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OrderName {
    /// The source's
    Commit,
    /// Any that the windows allow
    Relaxed,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DdlName {
    /// Apply it, translated where the engines differ
    Apply,
    /// Leave it out
    Ignore,
    /// Stop (80)
    Stop,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StatusFormat {
    /// For people
    Text,
    /// The field names of SHOW ALL SLAVES STATUS
    Mysql,
}

fn command() -> clap::Command {
    Arguments::augment_args(
        clap::Command::new("rlog-apply")
            .about("Apply transactions to a database, exactly once")
            .subcommand_required(true)
            .arg_required_else_help(true),
    )
}

fn run(matches: &clap::ArgMatches) -> Result<()> {
    let arguments = Arguments::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
    match arguments.verb {
        Verb::Run(arguments) => run_channel(*arguments),
        Verb::Status(arguments) => print_status(&arguments),
        Verb::Last(place) => print_last(&place),
        Verb::Wait(arguments) => wait(&arguments),
        Verb::Skip(arguments) => skip(&arguments),
        Verb::Reset(arguments) => reset(&arguments),
        Verb::Errors(place) => print_errors(&place),
        Verb::Compare(arguments) => compare::run(&arguments),
    }
}

/// A file of frames, a queue or standard input.
fn from(text: &str) -> Result<From> {
    if text == "-" {
        return Ok(From::Stdin);
    }
    let path = PathBuf::from(text);
    if path.is_file() {
        if queue::sqlite::created(&path) {
            return Ok(From::Queue(queue::Address::Sqlite(path)));
        }
        return Ok(From::File(path));
    }
    text.parse().map(From::Queue)
}

/// The coordinate that a person means: transactions that end at or before it.
fn coordinate(text: &str) -> Result<Option<Coordinate>> {
    match text.parse::<PositionSpec>() {
        Ok(PositionSpec::Position(position)) => Ok(Some(position.end)),
        Ok(PositionSpec::Server { at, .. }) => Ok(Some(at)),
        Ok(_) => Err(Error::new(Class::Unavailable, format!("'{text}' cannot be used here in this version"))
            .hint("give a position as rlog prints it, or FILE:OFFSET")),
        Err(_) => Ok(None),
    }
}

fn options(arguments: &RunArguments) -> Result<Options> {
    let init = match arguments.init.as_deref() {
        None => None,
        Some("empty") => Some(Init::Empty),
        Some(text) => Some(Init::At(text.parse().map_err(|error| Error::usage(format!("--init {text}: {error}")))?)),
    };
    let until = match arguments.until.as_deref() {
        None => None,
        Some(text) => match coordinate(text)? {
            Some(at) => Some(Until::Position(at)),
            None => {
                let time = moment::parse(text, &TimeZone::system(), Timestamp::now());
                Some(Until::Time(
                    time.ok_or_else(|| Error::usage(format!("--until {text} is neither a position nor a time")))?,
                ))
            }
        },
    };
    let mut policy = Policy::default();
    for text in &arguments.on_conflict {
        policy.set(text)?;
    }
    for text in &arguments.skip_errors {
        policy.set_skip_errors(text)?;
    }
    let rules = arguments.filters.rules()?;
    Ok(Options {
        channel: queue::fold_name("channel", &arguments.place.channel)?,
        init,
        follow: arguments.follow,
        until,
        batch_txns_max: arguments.batch as usize,
        workers: arguments.workers.map_or_else(usual_workers, usize::from),
        order: match arguments.order {
            OrderName::Commit => Order::Commit,
            OrderName::Relaxed => Order::Relaxed,
        },
        policy,
        ddl: match arguments.ddl {
            DdlName::Apply => DdlPolicy::Apply,
            DdlName::Ignore => DdlPolicy::Ignore,
            DdlName::Stop => DdlPolicy::Stop,
        },
        rules: Rules::new(TableFilter::new(rules.clone())?),
        retries: arguments.retries,
        delay: arguments.delay,
        dead_letter: arguments.dead_letter.clone(),
        cursor: arguments.cursor.clone(),
        same_server_id: arguments.same_server_id,
        accept_filters: arguments.accept_filters,
        replace: arguments.replace,
        lock_wait: arguments.lock_wait,
        listeners: None,
        settings: Settings {
            rewrites: rules.rewrite_db.clone(),
            check_before: arguments.check_before,
            create_tables: arguments.create_tables,
            qualify: arguments.qualify,
            fire_triggers: arguments.triggers == "fire",
            allow_nontransactional: arguments.allow_nontransactional,
            ..Settings::default()
        },
    })
}

fn run_channel(arguments: RunArguments) -> Result<()> {
    let options = options(&arguments)?;
    let from = from(&arguments.from)?;
    if arguments.check {
        return check(&arguments, &from, &options);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The second one ends the process as if nothing caught it: nothing is lost by that either.
        signal_hook::flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Error::io("signal", error))?;
    }
    if arguments.dry_run {
        return preview::run(&arguments, &from, &options, &stop);
    }
    let open = OpenOptions {
        create: options.init == Some(Init::Empty),
        read_only: false,
        lock_wait: options.lock_wait,
        retries: options.retries,
        stop: Some(stop.clone()),
    };
    let mut target = target::open(&arguments.place.target, &open)?;
    // Not before there is a target: a plug-in may have effects of its own.
    let options = Options { listeners: arguments.listeners.start(TOOL.name, arguments.quiet, false)?, ..options };
    let mut observer = observe::Observer::new(&arguments, &options)?;
    if !arguments.quiet {
        for note in &target.properties().notes {
            apply::Observer::note(&mut observer, note);
        }
    }
    let outcome = apply::run(&mut *target, &from, &options, &stop, &mut observer);
    observer.finish(outcome.as_ref().err());
    let summary = outcome?;
    if arguments.verbose {
        eprint_line(&format!(
            "rlog-apply: {} transactions in {} commits, {} rows, {} passed over, {} skipped; at {}",
            summary.transactions,
            summary.commits,
            summary.rows,
            summary.repeated + summary.looped,
            summary.skipped,
            summary.position.map_or("no position".into(), |position| position.to_string())
        ));
    }
    Ok(())
}

/// Measured on two cores with client and server on them: 2 sessions apply 1.66 times as many small transactions a second as one does, 4 sessions
/// 1.45 times.
fn usual_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

/// `run --check`: what would be done, and whether it can be.
fn check(arguments: &RunArguments, from: &From, options: &Options) -> Result<()> {
    let mut target = open_to_look(&arguments.place.target)?;
    let properties = target.properties().clone();
    let mut lines = vec![format!("target {}: {} {}", target.name(), properties.family, properties.version)];
    lines.extend(properties.notes.iter().map(|note| format!("note: {note}")));
    match target.state(&options.channel)? {
        Some(state) => {
            let position = Reached::new(&state)?.position();
            lines.push(format!(
                "channel {} is at {}",
                options.channel,
                position.map_or("its base".into(), |position| position.to_string())
            ));
        }
        None if options.init.is_some() => lines.push(format!("channel {} would be created", options.channel)),
        None => {
            return Err(Error::config(format!("{} has no state of channel {}", target.name(), options.channel))
                .hint("--init empty, --init POSITION, or an input that begins with a snapshot"));
        }
    }
    if let From::Queue(address) = from {
        let queue = queue::open(Arc::new(sys::Os), address, &options.channel, false)?;
        let last = queue.tail()?.position().map_or("nothing".into(), |position| position.to_string());
        lines.push(format!("queue {} holds up to {last}", queue.name()));
    }
    print_lines(&lines)
}

fn open_to_look(address: &str) -> Result<Box<dyn Target>> {
    target::open(address, &OpenOptions { read_only: true, ..OpenOptions::default() })
}

fn open_to_write(address: &str) -> Result<Box<dyn Target>> {
    target::open(address, &OpenOptions::default())
}

fn no_state(target: &dyn Target, channel: &str) -> Error {
    Error::config(format!("{} has no state of channel {channel}", target.name()))
        .hint("`rlog-apply status TARGET` lists the channels that it knows")
}

fn print_status(arguments: &StatusArguments) -> Result<()> {
    let mut target = open_to_look(&arguments.target)?;
    let address = arguments.from.as_deref().map(str::parse::<queue::Address>).transpose()?;
    let channel = arguments.channel.as_deref().map(|name| queue::fold_name("channel", name)).transpose()?;
    let found = status::all(&mut *target, channel.as_deref(), address.as_ref(), sys::clock::now_us())?;
    if found.is_empty() {
        return Err(match channel {
            Some(channel) => no_state(&*target, &channel).with_class(Class::Nothing),
            None => Error::new(Class::Nothing, format!("{} has no state of any channel", target.name())),
        });
    }
    let zone = TimeZone::system();
    let time = |us: i64| moment::local(us, &zone);
    let lines: Vec<String> = found
        .iter()
        .map(|status| match (arguments.json, arguments.format) {
            (true, _) => status.json().to_string(),
            (false, StatusFormat::Text) => status.text(&time).trim_end().to_owned(),
            (false, StatusFormat::Mysql) => status.mysql().trim_end_matches('\n').to_owned(),
        })
        .collect();
    print_lines(&lines)
}

fn print_last(place: &Place) -> Result<()> {
    let channel = queue::fold_name("channel", &place.channel)?;
    let mut target = open_to_look(&place.target)?;
    let state = target.state(&channel)?;
    let position = state.map(|state| Reached::new(&state)).transpose()?.and_then(|reached| reached.position());
    match position {
        Some(position) => print_lines(&[position.to_string()]),
        None => Err(Error::new(Class::Nothing, "")),
    }
}

fn wait(arguments: &WaitArguments) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let at = coordinate(&arguments.position)?
        .ok_or_else(|| Error::usage(format!("--position {} is no position", arguments.position)))?;
    let channel = queue::fold_name("channel", &arguments.place.channel)?;
    let timeout = arguments.timeout;
    let started = Instant::now();
    let mut target = open_to_look(&arguments.place.target)?;
    let mut idle_rounds = 0;
    loop {
        // Whether it runs is asked first: what it applied before it stopped is then in the state.
        let running = target.is_running(&channel)?;
        let state = target.state(&channel)?.ok_or_else(|| no_state(&*target, &channel))?;
        let reached = Reached::new(&state)?;
        if !state.facts.contains_key(facts::LOADING) && reached.at.is_some_and(|reached| reached >= at) {
            return Ok(());
        }
        // A run that is restarted by its supervisor is away for a moment.
        idle_rounds = if running { 0 } else { idle_rounds + 1 };
        if idle_rounds > 10 {
            let why = state.facts.get(facts::ERROR).map_or(String::new(), |error| format!(": {error}"));
            return Err(Error::new(Class::Conflict, format!("no rlog-apply runs channel {channel}{why}"))
                .hint("`rlog-apply status` tells more"));
        }
        if !timeout.is_zero() && started.elapsed() >= timeout {
            return Err(Error::new(
                Class::TryAgain,
                format!("{} is not applied after {timeout:?}", arguments.position),
            ));
        }
        std::thread::sleep(STEP);
    }
}

fn skip(arguments: &SkipArguments) -> Result<()> {
    let position = match arguments.position.parse() {
        Ok(PositionSpec::Position(position)) => position,
        _ => {
            return Err(Error::usage(format!("'{}' is no position of a transaction", arguments.position))
                .hint("give it as the report of the failure prints it: FILE:START-END,INCARNATION,DIGEST[,GTID]"));
        }
    };
    let channel = queue::fold_name("channel", &arguments.place.channel)?;
    let mut target = open_to_write(&arguments.place.target)?;
    let state = target.state(&channel)?.ok_or_else(|| no_state(&*target, &channel))?;
    let reached = Reached::new(&state)?;
    if reached.at.is_some_and(|at| position.end <= at) {
        return Err(Error::config(format!("transaction {position} is applied already")));
    }
    target.set_facts(&channel, &[(facts::SKIP, Some(&position.to_string()))])
}

fn reset(arguments: &ResetArguments) -> Result<()> {
    let channel = queue::fold_name("channel", &arguments.place.channel)?;
    let mut target = open_to_write(&arguments.place.target)?;
    let state = target.state(&channel)?.ok_or_else(|| no_state(&*target, &channel))?;
    if !target.lock(&channel, Duration::ZERO)? {
        return Err(Error::new(Class::TryAgain, format!("an rlog-apply runs channel {channel}")).hint("stop it first"));
    }
    if arguments.all {
        return target.forget(&channel);
    }
    let gone = |name: &str| {
        name.starts_with(facts::CONFLICT_PREFIX)
            || [facts::ERROR, facts::ERROR_TIME, facts::ERROR_STATUS, facts::ERROR_POSITION, facts::SKIP]
                .contains(&name)
    };
    let names: Vec<(&str, Option<&str>)> =
        state.facts.keys().filter(|name| gone(name)).map(|name| (name.as_str(), None)).collect();
    target.set_facts(&channel, &names)
}

fn print_errors(place: &Place) -> Result<()> {
    let channel = queue::fold_name("channel", &place.channel)?;
    let mut target = open_to_look(&place.target)?;
    let state = target.state(&channel)?.ok_or_else(|| no_state(&*target, &channel))?;
    let mut lines: Vec<String> = state
        .facts
        .iter()
        .filter(|(name, _)| name.starts_with(facts::CONFLICT_PREFIX))
        .map(|(_, value)| value.clone())
        .collect();
    if let Some(message) = state.facts.get(facts::ERROR) {
        let fact = |name: &str| state.facts.get(name).cloned().unwrap_or_default();
        lines.push(
            serde_json::json!({
                "channel": channel, "position": fact(facts::ERROR_POSITION), "class": "error", "outcome": "stopped",
                "status": fact(facts::ERROR_STATUS).parse::<u8>().ok(), "message": message,
                "time_us": fact(facts::ERROR_TIME).parse::<i64>().ok(),
            })
            .to_string(),
        );
    }
    if lines.is_empty() {
        return Err(Error::new(Class::Nothing, ""));
    }
    print_lines(&lines)
}

/// Prints to standard output; what comes from a log is escaped.
fn print_lines(lines: &[String]) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", crate::cli::escape_for_terminal(line))
            .map_err(|error| Error::io("standard output", error))?;
    }
    out.flush().map_err(|error| Error::io("standard output", error))
}

fn eprint_line(text: &str) {
    use std::io::Write as _;
    // Nowhere is left to report a failure to report.
    let _ = writeln!(std::io::stderr().lock(), "{}", crate::cli::escape_for_terminal(text));
}
