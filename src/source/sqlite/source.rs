//! [`Source`] for SQLite: a thread that decodes, and hands frames over through a bounded channel.
//!
//! The decoder tells a transaction in one go, however large; the thread lets it wait for the reader instead of filling
//! memory. A live database is looked at again and again, as [`Pace`] says. One look is a read of some hundred bytes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::events::{Drain, Encoder};
use super::live::{self, Live, Polled};
use super::pace::Pace;
use super::pair::Pair;
use super::rollback::{self, Rollback};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, FrameWriter, PositionSpec};
use crate::source::{LiveOptions, Options, Problem, Source, Status, Step, Until, WindowMode};

/// Pieces of a quarter megabyte in the channel.
const PIECES_MAX: usize = 8;
/// How long a step waits for something.
const STEP_WAIT: Duration = Duration::from_millis(100);
/// The log is made to start again when it is larger than this.
const TURNOVER_BYTES: u64 = 32 << 20;

/// What the thread sends.
enum Message {
    Frames(Vec<u8>),
    End,
    Failed(Error),
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    reached: AtomicU64,
    transactions: AtomicU64,
    rows: AtomicU64,
    notes: Mutex<Vec<String>>,
    problems: Mutex<Vec<Problem>>,
}

impl Shared {
    fn note(&self, encoder: &mut Encoder) {
        self.reached.store(encoder.reached().0, Ordering::Relaxed);
        self.transactions.store(encoder.written.0, Ordering::Relaxed);
        self.rows.store(encoder.written.1, Ordering::Relaxed);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.append(&mut encoder.new_notes());
    }
}

/// A SQLite database or its log.
pub struct SqliteSource {
    messages: Receiver<Message>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    bytes: u64,
    salvage: bool,
}

fn windows(options: &Options) -> bool {
    // SQLite records nothing about which transactions could have run at once.
    options.windows != WindowMode::Serial
}

fn refuse_times(options: &Options) -> Result<()> {
    if options.since_us.is_some() || matches!(options.until, Some(Until::Time(_))) {
        return Err(Error::usage("a SQLite log does not say when its transactions were committed"));
    }
    Ok(())
}

fn until(options: &Options) -> Result<Option<Coordinate>> {
    match &options.until {
        None => Ok(None),
        Some(Until::Position(PositionSpec::Position(position))) => Ok(Some(position.end)),
        Some(_) => Err(Error::usage("--until of a SQLite log takes a position as rlog prints it")),
    }
}

impl SqliteSource {
    /// A database file and its log, at rest; `paths` name either or both.
    pub fn from_files(paths: &[PathBuf], options: Options) -> Result<SqliteSource> {
        refuse_times(&options)?;
        let until = until(&options)?;
        let (paths, windows) = (paths.to_vec(), windows(&options));
        let salvage = options.salvage;
        let mut source = SqliteSource::spawn(
            move |drain| Pair::open(&paths, options.after.as_ref(), until, windows, options.filter, drain),
            |mut pair, shared, _| {
                let stopped = || shared.stop.load(Ordering::Relaxed);
                let done = pair.run(&stopped);
                shared.note(pair.encoder());
                let mut problems = shared.problems.lock().unwrap_or_else(PoisonError::into_inner);
                problems.extend(pair.damage.take().map(|error| Problem { error, lost: None, to: None }));
                done
            },
        )?;
        source.salvage = salvage;
        Ok(source)
    }

    /// A live database.
    pub fn live(path: &Path, options: Options, asked: LiveOptions) -> Result<SqliteSource> {
        refuse_times(&options)?;
        let until = until(&options)?;
        let windows = windows(&options);
        let follow = options.follow;
        let path = path.to_owned();
        let live_options = live::LiveOptions {
            after: options.after,
            filter: options.filter,
            snapshot: asked.snapshot,
            anew: asked.anew,
            windows,
            confirm: asked.confirm,
            log_bytes_max: asked.log_bytes_max,
            turnover_bytes: (follow && !asked.no_turnover).then_some(TURNOVER_BYTES),
            shadow: asked.shadow,
            follow,
        };
        SqliteSource::spawn(
            move |drain| -> Result<Box<dyn Followed>> {
                // Which it is, its header says; a database that is neither is refused by either.
                Ok(match rollback::is_one(&path) {
                    true => Box::new(Rollback::open(&path, live_options, drain)?),
                    false => Box::new(Live::open(&path, live_options, drain)?),
                })
            },
            move |mut live, shared, _| {
                let done = run_live(&mut *live, shared, follow, until);
                shared.note(live.encoder());
                done
            },
        )
    }

    fn spawn<T: Send + 'static>(
        open: impl FnOnce(Drain) -> Result<T>,
        run: impl FnOnce(T, &Shared, &SyncSender<Message>) -> Result<()> + Send + 'static,
    ) -> Result<SqliteSource> {
        let (sender, messages) = sync_channel(PIECES_MAX);
        let pieces = sender.clone();
        let opened = open(Box::new(move |writer| {
            if writer.is_empty() {
                return Ok(());
            }
            let piece = std::mem::take(writer.buffer());
            pieces.send(Message::Frames(piece)).map_err(|_| Error::new(Class::TryAgain, "nobody reads any more"))
        }))?;
        let shared = Arc::new(Shared::default());
        let with = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sqlite-wal".into())
            .spawn(move || {
                let last = match run(opened, &with, &sender) {
                    Ok(()) => Message::End,
                    Err(error) => Message::Failed(error),
                };
                // A reader that is gone needs no end.
                let _ = sender.send(last);
            })
            .map_err(|error| Error::io("a thread", error))?;
        Ok(SqliteSource { messages, shared, thread: Some(thread), bytes: 0, salvage: false })
    }

    fn take(&mut self, message: Message, out: &mut FrameWriter) -> Result<Option<Step>> {
        match message {
            Message::Frames(piece) => {
                self.bytes += piece.len() as u64;
                out.buffer().extend_from_slice(&piece);
                Ok(None)
            }
            Message::End => Ok(Some(Step::End)),
            Message::Failed(error) => Err(error),
        }
    }
}

/// A database in use.
trait Followed: Send {
    fn start(&mut self) -> Result<()>;
    fn poll(&mut self) -> Result<Polled>;
    fn tidy(&mut self) -> Result<()>;
    fn finish(&mut self) -> Result<()>;
    fn encoder(&mut self) -> &mut Encoder;
    /// The file that every commit writes.
    fn log(&self) -> Option<PathBuf>;
}

impl Followed for Live {
    fn start(&mut self) -> Result<()> {
        Live::start(self)
    }
    fn poll(&mut self) -> Result<Polled> {
        Live::poll(self)
    }
    fn tidy(&mut self) -> Result<()> {
        Live::tidy(self)
    }
    fn finish(&mut self) -> Result<()> {
        Live::finish(self)
    }
    fn encoder(&mut self) -> &mut Encoder {
        Live::encoder(self)
    }
    fn log(&self) -> Option<PathBuf> {
        Some(self.log_path())
    }
}

impl Followed for Rollback {
    fn start(&mut self) -> Result<()> {
        Rollback::start(self)
    }
    fn poll(&mut self) -> Result<Polled> {
        Rollback::poll(self)
    }
    fn tidy(&mut self) -> Result<()> {
        Ok(())
    }
    fn finish(&mut self) -> Result<()> {
        Rollback::finish(self)
    }
    fn encoder(&mut self) -> &mut Encoder {
        Rollback::encoder(self)
    }
    fn log(&self) -> Option<PathBuf> {
        None
    }
}

fn run_live(live: &mut dyn Followed, shared: &Shared, follow: bool, until: Option<Coordinate>) -> Result<()> {
    live.start()?;
    let mut pace = Pace::new(live.log().as_deref());
    loop {
        let polled = live.poll()?;
        shared.note(live.encoder());
        let done = shared.stop.load(Ordering::Relaxed) || until.is_some_and(|until| live.encoder().reached() >= until);
        if done || !follow {
            // Without --follow the end is where the log ended at the first look.
            return live.finish();
        }
        live.tidy()?;
        pace.wait(polled == Polled::Some);
    }
}

impl Source for SqliteSource {
    fn step(&mut self, out: &mut FrameWriter) -> Result<Step> {
        let message = match self.messages.recv_timeout(STEP_WAIT) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Ok(Step::Waited),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(Class::Bug, "the thread that reads the log has ended without a word"));
            }
        };
        if let Some(step) = self.take(message, out)? {
            return Ok(step);
        }
        match self.messages.try_recv() {
            Ok(message) => Ok(self.take(message, out)?.unwrap_or(Step::More)),
            Err(_) => Ok(Step::Waited),
        }
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    fn reached(&self) -> Coordinate {
        Coordinate(self.shared.reached.load(Ordering::Relaxed))
    }

    fn status(&self) -> Status {
        Status {
            bytes_done: self.bytes,
            bytes_total: 0,
            transactions: self.shared.transactions.load(Ordering::Relaxed),
            rows: self.shared.rows.load(Ordering::Relaxed),
        }
    }

    fn take_problems(&mut self) -> Vec<Problem> {
        if !self.salvage {
            return Vec::new();
        }
        std::mem::take(&mut *self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for SqliteSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Whatever it still wants to say goes nowhere; draining lets it come to its end.
        while self.messages.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
