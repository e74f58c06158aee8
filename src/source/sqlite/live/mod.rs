//! A live database: pinned, followed, confirmed.
//!
//! ```text
//! start:   pin -> where to begin (resume | snapshot | now) -> learn
//! batch:   read the wal-index -> decode up to its last frame -> hand over the frames -> take the next pin, if there is none
//! behind:  once everything up to the next pin is decoded, handed over and confirmed, let the one before it go
//! ```
//!
//! At any time one pin (`held`) covers everything behind what is confirmed, and at most one more (`next`) waits for what
//! lies before it. It is taken after a batch was handed over, when nobody waits for us, so the log may have gone on since the
//! batch; what it needs confirmed is known once the wal-index has been read again. No pin that stands alone is past
//! what has been decoded: so the database file is true for every page that the log had no frame of.
//!
//! Beginning: where everything in the log was copied back before the pin, the pin needs no log, and the next writer starts it again
//! whatever we do. So the state is then that of the database file, and no frame of the log is looked at.
//!
//! Resuming: the saved position names log, frame and the frame's checksums. If the log still is that one, holds that
//! very frame, and no checkpoint has tried to copy back anything behind it (which the wal-index says), then database file
//! and log together still have the state of the position, and reading goes on exactly. If not, the state before is
//! gone, and only a shadow has it; without one this is a gap (81).
//!
//! With a shadow (see there) every transaction is in its journal before it is told, and resuming goes
//! through it: [`catchup`] brings the journal up to the present, all of it behind the position is told from there, and
//! from the present on the log is followed.
//!
//! The log would never be started again under a pin that always is in it: [`turnover`] sees to that.

mod turnover;

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::catchup;
use super::decode::{Decoder, Step};
use super::events::{Drain, Encoder, Place, digest_of};
use super::page::DB_HEADER_LEN;
use super::pin::{self, NoCheckpoint, Pin};
use super::shadow::{Home, Shadow, Standing};
use super::shm::{self, WalIndex};
use super::snapshot::snapshot;
use super::wal::{FRAME_HEADER_LEN, ReadAt, frame_at, read_header};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Coordinate, End, Kind, Position, PositionSpec, StreamHeader};
use crate::source::Confirm;

/// How often downstream is asked what it has, at most.
const CONFIRM_PAUSE: Duration = Duration::from_millis(5);
/// Whoever has confirmed something so lately is likely to confirm the rest in that time.
const KEEPS_UP: Duration = Duration::from_secs(1);
/// Decoding so many frames, and then looking through their index, each needs memory that the other can do without.
const LARGE_FRAMES: u32 = 64 << 10;

/// What is asked of a live source.
#[derive(Default)]
pub struct LiveOptions {
    /// Resume behind this position; absent: begin now, or with a snapshot.
    pub after: Option<PositionSpec>,
    /// Which tables.
    pub filter: TableFilter,
    /// Write the existing rows first.
    pub snapshot: bool,
    /// Go on with nothing of an earlier snapshot.
    pub anew: bool,
    /// Windows from write sets, or one transaction after the other.
    pub windows: bool,
    /// What is durable downstream; without it everything that was handed over counts as confirmed.
    pub confirm: Option<Confirm>,
    /// When the log has grown beyond this many bytes because of the pin, let go.
    pub log_bytes_max: Option<u64>,
    /// Start the log again when it has grown beyond this many bytes.
    pub turnover_bytes: Option<u64>,
    /// The file that keeps the state last confirmed.
    pub shadow: Option<PathBuf>,
    /// Whether there will be calls of [`Live::poll`] for more than was there at the start.
    pub follow: bool,
}

/// What downstream has.
pub(super) struct Downstream {
    confirm: Option<Confirm>,
    /// Up to where.
    pub confirmed: Coordinate,
    /// When it was asked last, and how long to wait before it is asked again.
    asked: Option<(Instant, Duration)>,
    /// When it had got on.
    moved: Instant,
}

impl Downstream {
    /// Asks `confirm`; without one, everything that was handed over counts.
    pub fn new(confirm: Option<Confirm>, confirmed: Coordinate) -> Downstream {
        Downstream { confirm, confirmed, asked: None, moved: Instant::now() }
    }

    /// Learns what is confirmed, now that everything up to `reached` was handed over.
    pub fn ask(&mut self, reached: Coordinate) -> Result<Coordinate> {
        let before = self.confirmed;
        self.confirmed = match &mut self.confirm {
            None => reached,
            Some(_) if self.confirmed >= reached => self.confirmed,
            Some(_) if self.asked.is_some_and(|(at, pause)| at.elapsed() < pause) => self.confirmed,
            Some(confirm) => {
                let started = Instant::now();
                let told = confirm()?;
                // Asking must not become the work.
                self.asked = Some((Instant::now(), CONFIRM_PAUSE.max(started.elapsed() * 10)));
                told.map_or(self.confirmed, |position| position.end.max(self.confirmed))
            }
        };
        if self.confirmed > before {
            self.moved = Instant::now();
        }
        Ok(self.confirmed)
    }

    /// As [`Downstream::ask`], however lately it was asked.
    fn ask_now(&mut self, reached: Coordinate) -> Result<Coordinate> {
        self.asked = None;
        self.ask(reached)
    }

    /// Whether what is handed over now is likely to be confirmed soon.
    fn keeps_up(&self, reached: Coordinate) -> bool {
        self.confirmed >= reached || self.moved.elapsed() < KEEPS_UP
    }
}

/// A pin that does not stand alone yet.
struct NextPin {
    pin: Pin,
    /// What was reached when it was taken.
    from: Coordinate,
    /// What has to be confirmed before it replaces the one that is held; unknown until the log has been read up to it.
    upto: Option<Coordinate>,
}

/// What [`Live::poll`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Something was read.
    Some,
    /// Nothing new.
    Nothing,
}

/// See the module's head.
pub struct Live {
    path: PathBuf,
    shm: &'static File,
    wal: Arc<dyn ReadAt>,
    held: Pin,
    /// What was reached when `held` was taken, at least.
    held_from: Coordinate,
    /// What `held` does not cover until it is confirmed: a pin is taken at the end of the log, and reading may begin far before it. Unknown until
    /// the log has been read up to the pin.
    held_upto: Option<Coordinate>,
    next: Option<NextPin>,
    /// A connection without a transaction, for the next pin.
    spare: Option<Pin>,
    /// Until what lies between the resume point and the first pin is confirmed, and again while the log is long: see
    /// [`turnover`].
    no_checkpoint: Option<NoCheckpoint>,
    decoder: Decoder,
    encoder: Encoder,
    options: LiveOptions,
    downstream: Downstream,
    shadow: Option<Shadow>,
    /// What the shadow has behind this was not confirmed, and is told first.
    replay_from: Option<Coordinate>,
    /// The frame up to which the log is history.
    skip_to: u32,
    /// What the shadow has is not all there is, and has to be confirmed first.
    is_unfinished: bool,
    /// Salts of the generation that is read.
    salt: [u8; 8],
    let_go: bool,
    /// When a turnover was tried last, and how long to wait before the next.
    tidied: Option<(Instant, Duration)>,
    /// Salts and frames of the log that the next writer starts again.
    turned: Option<([u8; 8], u32)>,
    /// When something new was read.
    read: Instant,
}

/// Opens a file of the database for good: closing it would drop this process's locks on the database.
pub(super) fn open_for_ever(path: &Path, write: bool) -> Result<&'static File> {
    let file = File::options().read(true).write(write).open(path);
    Ok(Box::leak(Box::new(file.map_err(|e| Error::io(path.display().to_string(), e))?)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A hash of what makes this file the one it is: device and inode.
pub(super) fn identity(path: &Path) -> Result<u32> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path.display().to_string(), e))?;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&meta.dev().to_le_bytes());
    bytes[8..].copy_from_slice(&meta.ino().to_le_bytes());
    Ok(xxhash_rust::xxh3::xxh3_64(&bytes) as u32)
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(0)
}

/// What is said of a database without a write-ahead log.
pub(super) fn not_wal(path: &Path, mode: &str) -> Error {
    Error::config(format!("the database's journal mode is {mode}, and only a write-ahead log can be read"))
        .in_file(path.display().to_string())
        .hint(format!(
            "sqlite3 '{}' 'PRAGMA journal_mode=WAL' switches it; it stays so. Without that, --shadow FILE finds differences",
            path.display()
        ))
}

/// What is said of a database that its application keeps to itself.
fn not_shared(path: &Path) -> Error {
    Error::config("an application keeps the database to itself (locking_mode=EXCLUSIVE), so its log cannot be followed")
        .in_file(path.display().to_string())
        .hint("let the application use `PRAGMA locking_mode=NORMAL`, or run the same command while it has the database closed")
}

pub(super) fn same_file(position: &Position, server: u32, name: &str) -> Result<()> {
    if position.incarnation.server() == server {
        return Ok(());
    }
    Err(Error::new(Class::Identity, "the position is of another database file")
        .in_file(name)
        .hint("if the file was replaced on purpose (restored, copied back), start anew with a snapshot (--resnapshot)"))
}

/// The state at `position` is gone. `shadow` is the file that was asked to have it, and does not exist.
fn gap(position: &Position, index: &WalIndex, shadow: Option<&Path>) -> Error {
    let what = if position.incarnation.stamp() == super::wal::be32(&index.salt, 0)
        && position.end.offset() > u64::from(index.frames) + 1
    {
        "the source went back: its log does not hold any more what was already read (a power loss under synchronous=NORMAL?)"
    } else {
        "between this run and the last one a checkpoint has taken away what the log held"
    };
    let missing = shadow.map(|shadow| format!("there is no shadow {} yet: ", shadow.display())).unwrap_or_default();
    Error::new(Class::Gap, what).hint(format!(
        "{missing}`rlog-extract --resnapshot` starts anew; with `--shadow FILE` from then on, or a run with `--follow` that never ends, such gaps are bridged or do not arise"
    ))
}

/// Whether the log holds the frame that `position` names, with the same checksums.
fn holds(wal: &dyn ReadAt, position: &Position, index: &WalIndex) -> Result<bool> {
    let frame = position.end.offset().saturating_sub(1);
    let stamp = super::wal::be32(&index.salt, 0);
    // Without salts nothing tells one empty log from another that was filled and removed in between.
    if index.salt == [0; 8] || stamp != position.incarnation.stamp() || frame > u64::from(index.frames) {
        return Ok(false);
    }
    if frame == 0 && index.frames == 0 {
        return Ok(true);
    }
    let Some(header) = read_header(wal)? else { return Ok(false) };
    if header.salt != index.salt {
        return Ok(false);
    }
    let checksum = if frame == 0 {
        header.checksum
    } else {
        let mut bytes = [0; 8];
        let at = frame_at(header.page_size, u32::try_from(frame).unwrap_or(u32::MAX)) + 16;
        if wal.read_at(&mut bytes, at).map_err(|e| Error::io("", e))? < 8 {
            return Ok(false);
        }
        super::wal::Checksum(super::wal::be32(&bytes, 0), super::wal::be32(&bytes, 4))
    };
    // What was reached without a transaction (progress, the end of a snapshot) has no digest, and the start of a log whose
    // header had not been written yet no checksum: then the salt and the frame's presence have to do.
    let unwritten = frame == 0 && position.digest == digest_of(super::wal::Checksum::default());
    Ok(position.digest == 0 || unwritten || digest_of(checksum) == position.digest)
}

/// Where reading begins.
struct Beginning {
    /// Place of what was reached last.
    place: Place,
    /// What was reached.
    reached: Coordinate,
    /// The frame up to which the log is history.
    from: u32,
    shadow: Option<Shadow>,
}

impl Live {
    /// Opens, pins, and finds where to begin. Nothing has been written to `drain` before this returns.
    pub fn open(path: &Path, mut options: LiveOptions, drain: Drain) -> Result<Live> {
        let name = path.display().to_string();
        let home = options.shadow.as_deref().map(Home::at).transpose()?;
        let path = std::fs::canonicalize(path).map_err(|e| Error::io(&name, e))?;
        if let Some(kind) = crate::sys::network::file_system(&path) {
            return Err(Error::config(format!(
                "the database is on a network file system ({kind}), where processes of other hosts may write to it unseen"
            ))
            .in_file(&name)
            .hint("run rlog-extract on the host that has the disk, and move the stream: rlog-ship push"));
        }
        let mut head = [0; DB_HEADER_LEN];
        let db = open_for_ever(&path, false)?;
        let got = ReadAt::read_at(db, &mut head, 0).map_err(|e| Error::io(&name, e))?;
        let held = Pin::take(&path).map_err(|error| {
            // Taking a pin has waited for longer than anybody needs the database alone.
            if error.class() == Class::TryAgain && pin::is_exclusive(db) { not_shared(&path) } else { error }
        })?;
        let mode: String = held
            .connection()
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(|e| pin::sqlite_error(&path, e))?;
        if mode != "wal" || got == 0 {
            return Err(not_wal(&path, &mode));
        }
        let in_files = |error: Error| error.in_file(path.display().to_string());
        let wal: Arc<dyn ReadAt> = Arc::new(open_for_ever(&beside(&path, "-wal"), false)?);
        let shm = open_for_ever(&beside(&path, "-shm"), false)?;
        let db: Arc<dyn ReadAt> = Arc::new(db);
        let server = identity(&path)?;
        let mut no_checkpoint = None;
        let mut notes = Vec::new();
        let read_index = |shm: &'static File| {
            shm::read_whole(&shm)?.ok_or_else(|| {
                Error::new(Class::TryAgain, "the wal-index is not readable now")
                    .in_file(beside(&path, "-shm").display().to_string())
            })
        };
        let known = match &home {
            Some(home) => Shadow::resume(home, options.after.as_ref(), options.anew)?,
            None => None,
        };
        let (mut is_unfinished, index);
        is_unfinished = false;
        let beginning = match (&options.after, known) {
            (_, Some((mut shadow, position))) => {
                same_file(&position, server, &name)?;
                let files = catchup::Files { db: &db, wal: &wal, shm: &shm, server };
                let caught = catchup::catch_up(&files, &mut shadow, &position, &mut notes).map_err(in_files)?;
                (is_unfinished, index) = (caught.is_unfinished, caught.index);
                let place = Place { server, generation: position.end.file(), stamp: position.incarnation.stamp() };
                Beginning { place, reached: position.end, from: index.frames, shadow: Some(shadow) }
            }
            (after, None) => {
                // The pin is at the present end of the log, and reading may begin before it.
                if matches!(after, Some(PositionSpec::Position(_) | PositionSpec::Oldest)) {
                    no_checkpoint = Some(NoCheckpoint::begin(shm)?);
                }
                index = read_index(shm)?;
                // The log may have been started again since, and its index counts from 0 then.
                let attempted = shm::attempted(&shm)?.max(index.backfilled);
                let (generation, from) = match after {
                    None | Some(PositionSpec::Now) => (1, index.frames),
                    // Frames that a checkpoint may have copied back have no state before them any more.
                    Some(PositionSpec::Oldest) => (1, attempted.min(index.frames)),
                    Some(PositionSpec::Position(position)) => {
                        same_file(position, server, &name)?;
                        let frame = u32::try_from(position.end.offset().saturating_sub(1)).unwrap_or(u32::MAX);
                        if !holds(&*wal, position, &index)? || attempted > frame {
                            return Err(gap(position, &index, options.shadow.as_deref()).in_file(name));
                        }
                        (position.end.file(), frame)
                    }
                    Some(other) => {
                        return Err(Error::usage(format!("a SQLite source cannot resume at {other:?}"))
                            .hint("give a position as rlog prints it, `oldest` or `now`"));
                    }
                };
                let place = Place { server, generation, stamp: super::wal::be32(&index.salt, 0) };
                Beginning { place, reached: place.at(u64::from(from) + 1), from, shadow: None }
            }
        };
        let Beginning { place, mut reached, from, mut shadow } = beginning;
        let mut decoder = Decoder::open(Arc::clone(&db), Arc::clone(&wal)).map_err(in_files)?;
        let current = decoder.scanner().header().is_some_and(|header| header.salt == index.salt);
        let replay_from = shadow.as_ref().map(|_| reached);
        let copied_back = index.copied_back();
        if replay_from.is_none() {
            match copied_back {
                // Of such a log, `from` is the end.
                Some(mark) => decoder.pass(mark),
                None if current => decoder.skip(from).map_err(in_files)?,
                None => {}
            }
        }
        if shadow.is_none() {
            let passed = current || copied_back.is_some();
            // A commit may be in front of where an unclean `oldest` would have been.
            reached = place.at(if passed { u64::from(decoder.mark().frame) + 1 } else { 1 });
        }
        if let (None, Some(home)) = (&shadow, &home) {
            let checksum = decoder.mark().checksum;
            let standing = Standing { end: reached, server, salt: index.salt, checksum };
            let frames = if current && copied_back.is_none() { decoder.mark().frame } else { 0 };
            let image = catchup::image(&db, &wal, index.salt, frames)?.0;
            shadow = Some(Shadow::create(home, &image, standing)?);
        }
        if replay_from.is_none() {
            decoder.learn().map_err(in_files)?;
        }
        let mut encoder = Encoder::new(place, reached, options.windows, options.filter.clone(), drain);
        encoder.notes.append(&mut notes);
        Ok(Live {
            path,
            shm,
            wal,
            held,
            held_from: reached,
            held_upto: None,
            next: None,
            spare: None,
            no_checkpoint,
            decoder,
            encoder,
            downstream: Downstream::new(options.confirm.take(), reached),
            options,
            shadow,
            replay_from,
            skip_to: from,
            is_unfinished,
            salt: index.salt,
            let_go: false,
            tidied: None,
            turned: None,
            read: Instant::now(),
        })
    }

    /// Writes the stream's header and, if asked, the snapshot.
    pub fn start(&mut self) -> Result<()> {
        let header = stream_header(&self.encoder, &self.options);
        self.encoder.writer().frame(Kind::Stream, |out| header.encode(out));
        if self.options.snapshot {
            let Live { encoder, decoder, options, .. } = self;
            match (&self.shadow, self.replay_from) {
                (Some(shadow), Some(_)) => shadow.snapshot(encoder, &options.filter)?,
                _ => snapshot(encoder, decoder, &options.filter, digest_of(decoder.mark().checksum))?,
            }
        }
        if let (Some(from), Some(shadow)) = (self.replay_from, &self.shadow) {
            shadow.tell(from, &mut self.encoder)?;
            if self.options.follow && !self.is_unfinished {
                self.learn_behind_shadow()?;
            }
        }
        self.encoder.flush()?;
        if self.is_unfinished { Err(catchup::unfinished()) } else { Ok(()) }
    }

    /// Stands where the shadow's journal ends. It was told by a decoder of its own, so this one learns only then: both need memory for
    /// every page.
    fn learn_behind_shadow(&mut self) -> Result<()> {
        let in_file = |error: Error| error.in_file(self.path.display().to_string());
        let is_same = |decoder: &Decoder| -> Result<bool> {
            let now = read_header(&*self.wal)?.map(|header| header.salt);
            Ok(decoder.scanner().header().map(|header| header.salt) == now)
        };
        if self.decoder.scanner().header().is_some_and(|header| header.salt == self.salt) {
            self.decoder.skip(self.skip_to).map_err(in_file)?;
        }
        let learned = self.decoder.learn();
        if is_same(&self.decoder)? {
            return learned.map_err(in_file);
        }
        // The log was started again, once, which is all that the pin allows: so the database file has everything of the one before.
        self.decoder.restart().map_err(in_file)?;
        self.decoder.learn().map_err(in_file)
    }

    /// Whether everything that was there at the start has been told by [`Live::start`].
    fn is_caught_up(&self) -> bool {
        self.replay_from.is_some() && !self.options.follow
    }

    /// Decodes what has been committed since the last call.
    pub fn poll(&mut self) -> Result<Polled> {
        if self.let_go {
            self.confirm()?;
            self.keep_limit()?;
        }
        if self.let_go || self.is_caught_up() {
            return Ok(Polled::Nothing);
        }
        let Some((index, is_new)) = self.read_on()? else { return Ok(Polled::Nothing) };
        self.hold_off(&index)?;
        let reached = self.encoder.reached();
        match &mut self.next {
            // Everything up to this pin was in the wal-index, which was read after it was taken.
            Some(next) => _ = next.upto.get_or_insert(reached),
            None if is_new || self.held_from < reached => {
                let pin = self.fresh_pin()?;
                self.next = Some(NextPin { pin, from: reached, upto: None });
            }
            None => {}
        }
        self.confirm()?;
        self.keep_limit()?;
        Ok(if is_new { Polled::Some } else { Polled::Nothing })
    }

    /// Decodes up to the end that the wal-index has now; whether that was anything.
    fn read_on(&mut self) -> Result<Option<(WalIndex, bool)>> {
        let Some(index) = shm::read(&self.shm)? else { return Ok(None) };
        let is_new = self.is_new(&index);
        if is_new {
            self.decode_to(&index)?;
            self.encoder.flush()?;
            self.read = Instant::now();
        }
        Ok(Some((index, is_new)))
    }

    fn is_new(&self, index: &WalIndex) -> bool {
        index.frames > 0 && (index.salt != self.salt || index.frames > self.decoder.mark().frame)
    }

    fn decode_to(&mut self, index: &WalIndex) -> Result<()> {
        let in_file = |error: Error| error.in_file(beside(&self.path, "-wal").display().to_string());
        // A log that was just started again has its new salts in the index before it has a header with them.
        let unread = self.decoder.scanner().header().is_none_or(|header| header.salt != index.salt);
        if (index.salt != self.salt || unread) && index.frames > 0 {
            // The pin let the log be reset only behind everything that was decoded.
            if !self.decoder.restart().map_err(in_file)? {
                return Ok(());
            }
            let salt = index.salt;
            if self.decoder.scanner().header().is_none_or(|header| header.salt != salt) {
                return Err(in_file(
                    Error::damage("the log's header is not the one that the wal-index describes").at(16),
                ));
            }
            // Also behind a log that was empty, whose salts were others: one number, one stamp.
            let place = self.encoder.place();
            self.encoder.flush()?;
            let generation = place.generation + u64::from(salt != self.salt);
            self.encoder.new_generation(generation, super::wal::be32(&salt, 0));
            self.salt = salt;
        }
        let went_back = || {
            Error::damage("the log does not hold what its wal-index says: the source went back, or the log is damaged")
        };
        if let (Some(shadow), Some(header)) = (&mut self.shadow, self.decoder.scanner().header()) {
            let (place, mark) = (self.encoder.place(), self.decoder.mark());
            let end = place.at(u64::from(mark.frame) + 1);
            let standing = Standing { end, server: place.server, salt: self.salt, checksum: mark.checksum };
            if index.frames > mark.frame && !shadow.record(&*self.wal, header, standing, index.frames)? {
                return Err(in_file(went_back().at(frame_at(index.page_size, mark.frame + 1))));
            }
        }
        let is_large = index.frames.saturating_sub(self.decoder.mark().frame) > LARGE_FRAMES;
        if is_large {
            // The last pin or turnover has looked through it.
            shm::let_go(self.shm);
        }
        self.encoder.time_us = now_us();
        while let Step::Txn(_) = self.decoder.next(Some(index.frames), &mut self.encoder).map_err(in_file)? {}
        if is_large {
            // And the next one will.
            self.decoder.relieve();
        }
        let mark = self.decoder.mark();
        if mark.frame != index.frames || (mark.checksum.0, mark.checksum.1) != index.checksum {
            let at = frame_at(index.page_size, mark.frame + 1);
            return Err(in_file(went_back().at(at)).hint(match self.shadow {
                Some(_) => "the next run tells the difference from the shadow",
                None => "start anew with a snapshot (--resnapshot)",
            }));
        }
        Ok(())
    }

    /// Learns what is confirmed, and lets go of what need not be held any more.
    fn confirm(&mut self) -> Result<()> {
        let confirmed = self.downstream.ask(self.encoder.reached())?;
        if let Some(shadow) = &mut self.shadow
            && shadow.relievable(confirmed).is_some()
        {
            shm::let_go(self.shm);
            shadow.relieve(confirmed)?;
        }
        let is_due = |next: &NextPin| next.upto.is_some_and(|upto| confirmed >= upto);
        if let Some(next) = self.next.take_if(|next| is_due(next)) {
            self.hold(next.pin, next.from)?;
        }
        Ok(())
    }

    /// Whether the pin keeps everything that is not confirmed. Until then a process that starts in our place could not go on from what is.
    fn is_covered(&self) -> bool {
        self.held_upto.is_some_and(|upto| self.downstream.confirmed >= upto)
    }

    /// A pin at the present end of the log, on a connection that is idle if there is one.
    fn fresh_pin(&mut self) -> Result<Pin> {
        match self.spare.take() {
            Some(pin) => pin.again(&self.path),
            None => Pin::take(&self.path),
        }
    }

    /// Holds `pin`, which was taken when `from` had been reached, and lets the one before go.
    fn hold(&mut self, pin: Pin, from: Coordinate) -> Result<()> {
        let before = std::mem::replace(&mut self.held, pin);
        self.held_from = from;
        // Whoever replaces a pin has it confirmed up to the new one.
        self.held_upto = Some(from);
        before.release(&self.path)?;
        self.spare = Some(before);
        Ok(())
    }

    /// Lets go of every pin if the log has grown beyond what may be held back: the application outranks us.
    fn keep_limit(&mut self) -> Result<()> {
        let Some(limit) = self.options.log_bytes_max else { return Ok(()) };
        if self.let_go {
            if self.downstream.confirmed < self.encoder.reached() {
                return Ok(());
            }
            return self.take_hold();
        }
        if self.downstream.confirmed < self.encoder.reached()
            && shm::read(&self.shm)?.is_some_and(|index| log_bytes(&index) > limit)
        {
            if let Some(next) = self.next.take() {
                next.pin.release(&self.path)?;
                self.spare = Some(next.pin);
            }
            self.held.release(&self.path)?;
            self.no_checkpoint = None;
            self.let_go = true;
            self.encoder.notes.push(format!(
                "the log has grown beyond {limit} bytes while downstream has not confirmed: the source is no longer held back"
            ));
        }
        Ok(())
    }

    /// Pins again after having let go, if nothing was lost.
    fn take_hold(&mut self) -> Result<()> {
        let pin = self.fresh_pin()?;
        self.hold(pin, self.encoder.reached())?;
        self.held_upto = None;
        let guard = NoCheckpoint::begin(self.shm)?;
        let mark = self.decoder.mark();
        let same = shm::read(&self.shm)?.is_some_and(|index| {
            self.decoder.scanner().header().is_some_and(|header| header.salt == index.salt)
                && index.frames >= mark.frame
        });
        if !same || shm::attempted(&self.shm)? > mark.frame {
            let what = "the log was let go because it grew too large, and has started again since";
            let error = match self.shadow {
                Some(_) => Error::new(Class::TryAgain, what).hint("the next run bridges the gap from the shadow"),
                None => Error::new(Class::Gap, what).hint(
                    "`rlog-extract --resnapshot` starts anew; a larger --max-wal, or `none`, holds on for longer",
                ),
            };
            return Err(error.in_file(self.path.display().to_string()));
        }
        self.no_checkpoint = Some(guard);
        self.let_go = false;
        Ok(())
    }

    /// The log's file.
    pub fn log_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// The encoder, for what was written and remarks.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// What has been reached and what is confirmed.
    pub fn watermarks(&self) -> (Coordinate, Coordinate) {
        (self.encoder.reached(), self.downstream.confirmed)
    }

    /// Writes the end of the stream.
    pub fn finish(&mut self) -> Result<()> {
        finish(&mut self.encoder)
    }
}

/// Bytes of the log that are in use.
fn log_bytes(index: &WalIndex) -> u64 {
    u64::from(index.frames) * (u64::from(index.page_size) + FRAME_HEADER_LEN as u64)
}

/// The header of a live database's stream.
pub(super) fn stream_header(encoder: &Encoder, options: &LiveOptions) -> StreamHeader {
    StreamHeader {
        source: "sqlite".into(),
        server_version: rusqlite::version().into(),
        incarnation: encoder.place().incarnation(),
        start: encoder.reached(),
        cascades_logged: Some(true),
        filters: options.filter.canonical(),
        windows: if options.windows { "writeset" } else { "serial" }.into(),
        ..StreamHeader::default()
    }
}

/// Writes the end of a stream.
pub(super) fn finish(encoder: &mut Encoder) -> Result<()> {
    encoder.flush()?;
    let end = End {
        reached: encoder.reached(),
        incarnation: encoder.place().incarnation(),
        transactions: encoder.written.0,
        notes: encoder.notes.clone(),
        ..End::default()
    };
    encoder.writer().frame(Kind::End, |out| end.encode(out));
    encoder.flush()
}
