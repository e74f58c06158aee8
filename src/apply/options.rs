//! What a run is told, and what it tells.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::conflict::Policy;
use super::execute::DdlPolicy;
use super::rules::Rules;
use crate::frame::{Coordinate, Position, PositionSpec};
use crate::plugin::Host;
use crate::queue;
use crate::target::Settings;

/// Where transactions come from.
#[derive(Clone, Debug)]
pub enum From {
    /// Standard input.
    Stdin,
    /// A file of frames.
    File(PathBuf),
    /// A queue.
    Queue(queue::Address),
}

/// What `--init` declares about the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// It is empty: everything is applied from the input's first transaction on.
    Empty,
    /// It holds everything up to this position.
    At(PositionSpec),
}

/// Where to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the last transaction that ends at or before this.
    Position(Coordinate),
    /// Before the first transaction that committed after this, microseconds since 1970 UTC.
    Time(i64),
}

/// Which order commits have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The source's.
    #[default]
    Commit,
    /// Any that the windows allow.
    Relaxed,
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The channel, folded.
    pub channel: String,
    /// What the target is declared to hold, when it has no state.
    pub init: Option<Init>,
    /// Wait for more at the end.
    pub follow: bool,
    /// Where to stop.
    pub until: Option<Until>,
    /// Source transactions per target transaction at most.
    pub batch_txns_max: usize,
    /// Sessions at work at once.
    pub workers: usize,
    /// Order of commits.
    pub order: Order,
    /// What to do about conflicts.
    pub policy: Policy,
    /// What to do with DDL.
    pub ddl: DdlPolicy,
    /// Filters and rewrites.
    pub rules: Rules,
    /// Retries of what may succeed the next time.
    pub retries: u32,
    /// Stay behind the source by this much.
    pub delay: Duration,
    /// Where source transactions are kept of which something was skipped.
    pub dead_letter: Option<PathBuf>,
    /// A file that holds the applied position, for whoever tells the source what it may forget.
    pub cursor: Option<PathBuf>,
    /// Apply also what was first executed by the target server itself, by its server id.
    pub same_server_id: bool,
    /// The filters may let through what those of earlier runs held back.
    pub accept_filters: bool,
    /// Snapshots may replace rows that are there.
    pub replace: bool,
    /// How long to wait for another run of the channel.
    pub lock_wait: Duration,
    /// Who hears of it, may refuse it and may change rows.
    pub listeners: Option<Arc<Host>>,
    /// How sessions work.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            channel: queue::DEFAULT_CHANNEL.into(),
            init: None,
            follow: false,
            until: None,
            batch_txns_max: 1_000,
            workers: 1,
            order: Order::Commit,
            policy: Policy::default(),
            ddl: DdlPolicy::Apply,
            rules: Rules::default(),
            retries: 10,
            delay: Duration::ZERO,
            dead_letter: None,
            cursor: None,
            same_server_id: false,
            accept_filters: false,
            replace: false,
            lock_wait: Duration::ZERO,
            listeners: None,
            settings: Settings::default(),
        }
    }
}

/// What a run came to, and how far it is: for reports, progress and metrics.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Source transactions applied.
    pub transactions: u64,
    /// Target transactions committed.
    pub commits: u64,
    /// Rows handed to the target.
    pub rows: u64,
    /// Source transactions passed over, since they were applied before.
    pub repeated: u64,
    /// Source transactions passed over, since they came from this target (rule 12).
    pub looped: u64,
    /// Rows and transactions stepped over.
    pub skipped: u64,
    /// Rows made as the source's.
    pub overwritten: u64,
    /// Retries.
    pub retries: u64,
    /// Commit time of the last source transaction applied, microseconds since 1970 UTC; 0: not known.
    pub source_time_us: i64,
    /// What was reached.
    pub position: Option<Position>,
    /// Bytes of input read, and left when known.
    pub input: (u64, Option<u64>),
    /// For people.
    pub notes: Vec<String>,
}

/// Hears how a run goes on.
pub trait Observer {
    /// Something was committed, or time passed.
    fn progress(&mut self, summary: &Summary);
    /// A remark for people, each once.
    fn note(&mut self, text: &str);
}
