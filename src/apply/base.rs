//! Where a channel begins that the target knows nothing of: what `--init` declares, or the snapshot that the input begins with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::input::{Input, Unit};
use super::options::{From, Init, Options};
use super::state::facts;
use super::tables::Definitions;
use crate::error::{Class, Error, Result};
use crate::frame::{Kind, PositionSpec};
use crate::queue;
use crate::sys;
use crate::target::Target;

/// The facts that `--init` writes down.
pub(super) fn base_of(target: &mut dyn Target, init: &Init) -> Result<Vec<(&'static str, String)>> {
    let base = |text: String| Ok(vec![(facts::BASE, text)]);
    match init {
        Init::Empty => {
            if target.uuid()?.is_none() && target.has_tables()? {
                return Err(Error::config(format!("--init empty, but {} has tables", target.name()))
                    .hint("declare what it holds with --init POSITION, or name another target"));
            }
            base("empty".into())
        }
        Init::At(PositionSpec::Position(position)) => base(position.end.to_string()),
        Init::At(PositionSpec::Server { at, .. }) => base(at.to_string()),
        Init::At(PositionSpec::Oldest) => base("empty".into()),
        Init::At(PositionSpec::Gtid(gtids)) => {
            Ok(vec![(facts::BASE, "gtid".into()), (facts::GTID_BASE, gtids.split_whitespace().collect())])
        }
        Init::At(PositionSpec::Now) => Err(Error::usage(
            "--init takes `empty`, a position as rlog prints it, FILE:OFFSET as the server prints it, or GTIDs",
        )),
    }
}

/// The queue that must hold everything, since `--init empty` says that the target has nothing. `--init oldest` takes what there is.
pub(super) fn beginning<'a>(from: &'a From, init: &Init) -> Option<&'a queue::Address> {
    match (from, init) {
        (From::Queue(address), Init::Empty) => Some(address),
        _ => None,
    }
}

/// Refuses a queue whose beginning was purged: a target that begins with the rest would be wrong, and nobody would be told. A snapshot is a beginning.
pub(super) fn held_from_the_beginning(address: &queue::Address, channel: &str) -> Result<()> {
    let queue = queue::open(Arc::new(sys::Os), address, channel, false)?;
    let first = queue.status()?.first_sequence;
    if first <= 1 {
        return Ok(());
    }
    let mut reader = queue.reader(&queue::ReadFrom::Oldest, queue::ReadMode::ONCE)?;
    while let queue::Next::Frame(frame) = reader.next()? {
        match frame.kind() {
            Some(Kind::SnapshotBegin) => return Ok(()),
            Some(Kind::Stream | Kind::Definition) | None => {}
            Some(_) => break,
        }
    }
    Err(Error::new(Class::Gap, format!("--init empty, but the queue does not hold its beginning: the {} units before were purged", first - 1))
        .in_file(queue.name())
        .hint("take a new snapshot (`rlog-extract --resnapshot`), or say what the target holds with --init POSITION; --init oldest begins with what is there"))
}

/// Without state and `--init`, only a stream that begins with a snapshot says what the base is.
pub(super) fn leading_snapshot(
    target: &mut dyn Target,
    from: &From,
    options: &Options,
    definitions: &Arc<Definitions>,
    stop: &Arc<AtomicBool>,
) -> Result<(Input, Vec<Unit>)> {
    let mut input = match from {
        From::Stdin => Input::stdin(definitions.clone())?,
        From::File(path) => Input::file(path, definitions.clone())?,
        From::Queue(address) => {
            let queue = queue::open(Arc::new(sys::Os), address, &options.channel, false)?;
            let reader = queue.reader(&queue::ReadFrom::Oldest, queue::ReadMode::ONCE)?;
            Input::queue(reader, queue.name(), definitions.clone())
        }
    };
    let mut units = Vec::new();
    loop {
        let unit = input.next()?;
        match &unit {
            Unit::Stream(_) => {}
            Unit::SnapshotBegin(_) => {
                units.push(unit);
                return Ok((input, units));
            }
            Unit::Idle if !stop.load(Ordering::Relaxed) => continue,
            // The run ends before it looks at anything.
            Unit::Idle => return Ok((input, units)),
            Unit::Abort(abort) => return Err(aborted(abort)),
            _ => {
                return Err(Error::config(format!(
                    "{} has no state of channel {}, and the input does not begin with a snapshot",
                    target.name(),
                    options.channel
                ))
                .hint("--init empty starts with the input's first transaction; --init POSITION declares what the target holds"));
            }
        }
        units.push(unit);
    }
}

/// The error of an abort frame: its writer's status is ours (rule 2).
pub(super) fn aborted(abort: &crate::frame::Abort) -> Error {
    let class = Class::from_exit_status(abort.status).unwrap_or(Class::TryAgain);
    Error::new(class, format!("the writer of the input failed: {}", abort.message))
}
