//! The directory of a queue and of one channel: names, creation, state files, locks.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Class, Error, Result};
use crate::sys::Access;
use crate::sys::state::{State, TEMP_PREFIX};
use crate::sys::vfs::{self, Dir, File, Lock, Vfs};

use super::super::{DEFAULT_CHANNEL, LOOK_WAIT, fold_name};
use super::locked;

pub(super) const QUEUE_STATE: &str = ".queue";
const QUEUE_LOCK: &str = ".queue.lock";
pub(super) const WRITER_STATE: &str = "writer";
const LOW_WATER_STATE: &str = "low-water";
pub(super) const WAITING: &str = "waiting";
/// Room for acknowledgements and purges on a full disk.
pub(super) const RESERVE: &str = "reserve";
/// Its bytes: a few blocks, so that a state file can be replaced and a directory can grow.
const RESERVE_BYTES: u64 = 16 << 10;
const READERS: &str = "readers";
const SEGMENT_SUFFIX: &str = ".rlog";
const RESET_PREFIX: &str = ".reset-";
/// How long to wait for locks that are only ever held for an instant.
const SHORT_WAIT: Duration = Duration::from_secs(30);

/// What the file `writer` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WriterState {
    /// Raised by every writer before it writes; a writer whose epoch is not this one acknowledges nothing.
    pub epoch: u64,
    /// The last writer closed, so that `length` is the whole of the last segment.
    pub clean: bool,
    /// The segment of which `length` bytes are known to be durable; 0: there is none yet.
    pub segment: u64,
    pub length: u64,
    /// The last unit in them.
    pub sequence: u64,
}

/// An open channel.
#[derive(Debug)]
pub(super) struct Channel {
    vfs: Arc<dyn Vfs>,
    root: Arc<dyn Dir>,
    pub dir: Arc<dyn Dir>,
    pub readers: Arc<dyn Dir>,
    /// The queue's address as the user gave it, for messages and hints.
    pub path: String,
    pub channel: String,
    pub uuid: [u8; 16],
}

impl Channel {
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, channel: &str, create: bool) -> Result<Channel> {
        let channel = fold_name("channel", channel)?;
        let text = path.display().to_string();
        let root = match vfs.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                match vfs.create_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(Error::new(
                            Class::NoInput,
                            "the directory in which to create the queue does not exist",
                        )
                        .in_file(text)
                        .hint("only the last component of the path is created"));
                    }
                    other => other.map_err(|error| Error::io(&text, error).with_class(Class::CannotCreate))?,
                }
                vfs.open_dir(path)
            }
            other => other,
        }
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::io(&text, error).hint("`rlog-queue put` creates a queue; check the path"),
            io::ErrorKind::NotADirectory => {
                Error::io(&text, error).hint(format!("a queue in a database is named `sqlite:{text}`"))
            }
            _ => Error::io(&text, error),
        })?;
        root.check_owner().map_err(|error| Error::io(&text, error))?;
        let uuid = match queue_uuid(&*root, &text)? {
            Some(uuid) => uuid,
            None if create => create_queue(&*root, &text)?,
            None => return Err(no_queue(&text)),
        };
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(Class::NoInput, format!("the queue has no channel `{channel}`"))
                .in_file(&text)
                .hint(format!("`rlog-queue channels {text}` lists the channels")),
            _ => Error::io(format!("{text}/{channel}"), error),
        };
        // Until it is made, which another process may be about to do, it is not there.
        if channel_is_unmade(&*root, &channel)? {
            if !create {
                return Err(missing(io::ErrorKind::NotFound.into()));
            }
            create_channel(&*root, &channel, &text)?;
        }
        let dir = root.open_dir(&channel).map_err(missing)?;
        let readers = dir.open_dir(READERS).map_err(missing)?;
        Ok(Channel { vfs, root, dir, readers, path: text, channel, uuid })
    }

    pub fn name(&self) -> String {
        if self.channel == DEFAULT_CHANNEL { self.path.clone() } else { format!("{} ({})", self.path, self.channel) }
    }

    /// Makes the names durable that lead to the channel, since whoever created them may have died before that. Before
    /// the first segment.
    pub fn sync_names(&self) -> Result<()> {
        let parent = Path::new(&self.path).parent().filter(|parent| !parent.as_os_str().is_empty());
        let above = self.vfs.open_dir(parent.unwrap_or(Path::new("."))).and_then(|above| above.sync());
        above.and_then(|()| self.root.sync()).map_err(|error| Error::io(&self.path, error))
    }

    /// The path of a file of the channel, for messages.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.path, self.channel)
    }

    pub fn io(&self, name: &str, error: io::Error) -> Error {
        Error::io(self.file(name), error)
    }

    /// Takes the writer's lock.
    pub fn lock(&self, wait: Duration) -> Result<Lock> {
        let name = format!("{}.lock", self.channel);
        match vfs::lock(&*self.root, &name, wait.max(LOOK_WAIT)) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(locked("is writing to this channel", &format!("{}/{name}", self.path))),
            Err(error) => Err(Error::io(format!("{}/{name}", self.path), error)),
        }
    }

    /// Takes the writer's lock if it is free.
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        let name = format!("{}.lock", self.channel);
        self.root.try_lock(&name).map_err(|error| Error::io(format!("{}/{name}", self.path), error))
    }

    /// Takes the lock of readers and purge, which is only held for an instant.
    pub fn lock_readers(&self) -> Result<Lock> {
        let name = format!("{}.readers.lock", self.channel);
        match vfs::lock(&*self.root, &name, SHORT_WAIT) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(locked("keeps the readers' lock", &format!("{}/{name}", self.path))),
            Err(error) => Err(Error::io(format!("{}/{name}", self.path), error)),
        }
    }

    /// The numbers of the segments that are there, ascending.
    pub fn segments(&self) -> Result<Vec<u64>> {
        let names = self.dir.list().map_err(|error| self.io("", error))?;
        Ok(names.iter().filter_map(|name| segment_number(name)).collect())
    }

    /// The numbers of the segments that count, ascending and without holes: from the low-water mark on.
    pub fn held_segments(&self) -> Result<Vec<u64>> {
        // Read before the list: a segment is there before the note of it.
        let noted = self.writer_state()?.segment;
        let low = self.low_water()?;
        // The list is read after the mark: purge raises the mark before it removes.
        let mut numbers = self.segments()?;
        numbers.retain(|number| *number >= low);
        for (place, number) in numbers.iter().enumerate() {
            if *number != low + place as u64 {
                // A purge that went on between the two readings.
                if self.low_water()? > low {
                    return self.held_segments();
                }
                return Err(self.missing_segment(low + place as u64));
            }
        }
        match numbers.last() {
            None if noted > 0 || low > 1 => Err(self.missing_segment(noted.max(low))),
            Some(last) if *last < noted => Err(self.missing_segment(noted)),
            _ => Ok(numbers),
        }
    }

    pub fn missing_segment(&self, number: u64) -> Error {
        Error::damage("this segment is missing, though it was never purged")
            .in_file(self.file(&segment_name(number)))
            .hint(format!(
                "restore the file; or give up what is queued: `rlog-queue reset {}` and take a new snapshot",
                self.path
            ))
    }

    pub fn low_water(&self) -> Result<u64> {
        self.state(LOW_WATER_STATE)?.parse("segment").map_err(|error| error.in_file(self.file(LOW_WATER_STATE)))
    }

    pub fn set_low_water(&self, segment: u64) -> Result<()> {
        let mut state = State::new();
        state.set("segment", segment);
        self.with_reserve(|| {
            state
                .store(&*self.dir, LOW_WATER_STATE, LOW_WATER_STATE)
                .map_err(|error| error.in_file(self.file(LOW_WATER_STATE)))
        })
    }

    /// Does what makes room or forgets nothing by itself (an acknowledgement, a purge, a clean end). On a full disk the reserve is let go
    /// of first, and it is done again: else nobody could ever make room.
    pub fn with_reserve<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.class() == Class::TryAgain && self.dir.remove(RESERVE).is_ok() => work(),
            done => done,
        }
    }

    /// Keeps the reserve, if there is room: when a reader registers, and again after a purge. Its blocks need not be durable, only taken.
    /// Without it everything works but a purge on a full disk.
    pub fn keep_reserve(&self) {
        let made = self.dir.open(RESERVE, Access::Create).and_then(|file| file.allocate(RESERVE_BYTES));
        if made.is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
            let _ = self.dir.remove(RESERVE);
        }
    }

    pub fn writer_state(&self) -> Result<WriterState> {
        let state = self.state(WRITER_STATE)?;
        let parsed = || -> Result<WriterState> {
            Ok(WriterState {
                epoch: state.parse("epoch")?,
                clean: state.parse::<u8>("clean")? != 0,
                segment: state.parse("segment")?,
                length: state.parse("length")?,
                sequence: state.parse("sequence")?,
            })
        };
        parsed().map_err(|error| error.in_file(self.file(WRITER_STATE)))
    }

    pub fn set_writer_state(&self, state: &WriterState) -> Result<()> {
        store_writer_state(&*self.dir, state).map_err(|error| error.in_file(self.file(WRITER_STATE)))
    }

    /// The file `writer`, held open: it has no name any more as soon as another writer has raised the epoch.
    pub fn open_epoch(&self) -> Result<Box<dyn File>> {
        self.dir.open(WRITER_STATE, Access::Read).map_err(|error| self.io(WRITER_STATE, error))
    }

    fn state(&self, name: &str) -> Result<State> {
        match State::load(&*self.dir, name, name) {
            Ok(Some(state)) => Ok(state),
            Ok(None) => Err(Error::damage("this state file is missing; that never means to start afresh")
                .in_file(self.file(name))
                .hint(format!("restore it; or give up what is queued: `rlog-queue reset {}`", self.path))),
            Err(error) => Err(Error::new(error.class(), error.what().to_owned()).in_file(self.file(name))),
        }
    }

    /// Removes temporary files. Only under the writer's lock, and not in `readers`.
    pub fn remove_temps(&self) -> Result<()> {
        let names = self.dir.list().map_err(|error| self.io("", error))?;
        // `low-water` is written under another lock.
        for name in names
            .iter()
            .filter(|name| name.strip_prefix(TEMP_PREFIX).is_some_and(|rest| !rest.starts_with(LOW_WATER_STATE)))
        {
            match self.dir.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io(name, error)),
                _ => {}
            }
        }
        Ok(())
    }

    pub fn reset(&self, lock_wait: Duration) -> Result<()> {
        let _lock = self.lock(lock_wait)?;
        let _readers = self.lock_readers()?;
        let fail = |error| Error::io(format!("{}/{}", self.path, self.channel), error);
        // The name goes first, in one step; what it named is removed at leisure.
        let gone = format!("{RESET_PREFIX}{}", self.channel);
        remove_tree(&*self.root, &gone).map_err(fail)?;
        self.root.rename(&self.channel, &gone).map_err(fail)?;
        self.root.sync().map_err(fail)?;
        create_channel(&*self.root, &self.channel, &self.path)?;
        remove_tree(&*self.root, &gone).map_err(fail)
    }
}

fn remove_tree(root: &dyn Dir, name: &str) -> io::Result<()> {
    let dir = match root.open_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in dir.list()? {
        match dir.remove(&entry) {
            Ok(()) => {}
            Err(_) => remove_tree(&*dir, &entry)?,
        }
    }
    root.remove_dir(name)?;
    root.sync()
}

fn store_writer_state(dir: &dyn Dir, state: &WriterState) -> Result<()> {
    let mut out = State::new();
    out.set("epoch", state.epoch)
        .set("clean", u8::from(state.clean))
        .set("segment", state.segment)
        .set("length", state.length)
        .set("sequence", state.sequence);
    out.store(dir, WRITER_STATE, WRITER_STATE)
}

/// `0000000000000001.rlog`.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016}{SEGMENT_SUFFIX}")
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    (digits.len() >= 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn no_queue(path: &str) -> Error {
    Error::new(Class::NoInput, "this directory is not a queue")
        .in_file(path)
        .hint("`rlog-queue put` creates a queue in an empty or missing directory")
}

fn queue_uuid(root: &dyn Dir, path: &str) -> Result<Option<[u8; 16]>> {
    let Some(state) = State::load(root, QUEUE_STATE, QUEUE_STATE)
        .map_err(|error| Error::new(error.class(), error.what().to_owned()).in_file(format!("{path}/{QUEUE_STATE}")))?
    else {
        return Ok(None);
    };
    let text: String = state.parse("uuid")?;
    let uuid = u128::from_str_radix(&text.replace('-', ""), 16)
        .map_err(|_| Error::damage("the queue's UUID is invalid").in_file(format!("{path}/{QUEUE_STATE}")))?;
    Ok(Some(uuid.to_be_bytes()))
}

fn lock_queue(root: &dyn Dir, path: &str) -> Result<Lock> {
    match vfs::lock(root, QUEUE_LOCK, SHORT_WAIT) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(locked("creates or resets a channel", &format!("{path}/{QUEUE_LOCK}"))),
        Err(error) => Err(Error::io(format!("{path}/{QUEUE_LOCK}"), error).with_class(Class::CannotCreate)),
    }
}

fn create_queue(root: &dyn Dir, path: &str) -> Result<[u8; 16]> {
    let fail = |error| Error::io(path, error);
    // A directory of other things is not made a queue by a mistyped path. A queue whose creation was cut short has
    // nothing but a lock and temporary files.
    let foreign = |name: &String| name != QUEUE_LOCK && name != QUEUE_STATE && !name.starts_with(TEMP_PREFIX);
    if root.list().map_err(fail)?.iter().any(foreign) {
        // Unless another process just finished.
        return queue_uuid(root, path)?.ok_or_else(|| {
            Error::config("this directory has other things in it and is not a queue")
                .in_file(path)
                .hint("name an empty or missing directory")
        });
    }
    let _lock = lock_queue(root, path)?;
    if let Some(uuid) = queue_uuid(root, path)? {
        return Ok(uuid);
    }
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
    let mut state = State::new();
    state.set("uuid", format!("{:032x}", u128::from_be_bytes(uuid))).set("layout", 1);
    state.store(root, QUEUE_STATE, QUEUE_STATE).map_err(|error| error.in_file(path))?;
    Ok(uuid)
}

/// Whether a channel is missing, or its creation was cut short: nothing but an empty folder and state files.
fn channel_is_unmade(root: &dyn Dir, channel: &str) -> Result<bool> {
    let dir = match root.open_dir(channel) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other.map_err(|error| Error::io(channel, error))?,
    };
    let names = dir.list().map_err(|error| Error::io(channel, error))?;
    Ok(!names.iter().any(|name| name == WRITER_STATE) && !names.iter().any(|name| segment_number(name).is_some()))
}

fn create_channel(root: &dyn Dir, channel: &str, path: &str) -> Result<()> {
    let _lock = lock_queue(root, path)?;
    if !channel_is_unmade(root, channel)? {
        return Ok(());
    }
    let fail = |error| Error::io(format!("{path}/{channel}"), error);
    let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    // What makes the directory a queue may be seen and not yet durable; a channel without it would be nobody's.
    root.sync().map_err(fail)?;
    match root.create_dir(channel) {
        Err(error) if !exists(&error) => return Err(fail(error)),
        _ => {}
    }
    let dir = root.open_dir(channel).map_err(fail)?;
    match dir.create_dir(READERS) {
        Err(error) if !exists(&error) => return Err(fail(error)),
        _ => {}
    }
    let mut low = State::new();
    low.set("segment", 1);
    low.store(&*dir, LOW_WATER_STATE, LOW_WATER_STATE)?;
    // This file comes last: with it the channel exists.
    store_writer_state(&*dir, &WriterState { clean: true, ..WriterState::default() })?;
    root.sync().map_err(fail)
}

/// The channels of a queue, sorted.
pub fn channels(vfs: &dyn Vfs, path: &Path) -> Result<Vec<String>> {
    let text = path.display().to_string();
    let root = vfs.open_dir(path).map_err(|error| Error::io(&text, error))?;
    if queue_uuid(&*root, &text)?.is_none() {
        return Err(no_queue(&text));
    }
    let names = root.list().map_err(|error| Error::io(&text, error))?;
    Ok(names.into_iter().filter(|name| fold_name("channel", name).is_ok() && root.open_dir(name).is_ok()).collect())
}
