//! A database in rollback-journal mode: it has no log that could be read, so its states are compared.
//!
//! ```text
//! look:    SHARED lock (SQLite rolls a hot journal back first) -> compare with the shadow's last state -> journal; unlock
//! tell:    the difference, as one merged transaction; nothing of the source is held meanwhile
//! follow:  PRAGMA data_version says that somebody committed; then look again
//! ```
//!
//! Writers wait while the pages are compared, so a look is taken at most every [`PAUSE_MIN`], and at most a tenth of the time is
//! spent on looks. What happened between two looks is merged; what came and went in between is never seen.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::events::{Drain, Encoder, Place};
use super::live::{self, Downstream, LiveOptions, Polled};
use super::page::{DB_HEADER_LEN, DbHeader};
use super::shadow::{Home, Shadow, Standing};
use super::view::{FrameTable, Image};
use super::wal::{Checksum, ReadAt, be32};
use super::{catchup, pin};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Kind, PositionSpec};

/// Shortest time between two looks.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// See the module's head.
pub struct Rollback {
    path: PathBuf,
    db: Arc<dyn ReadAt>,
    connection: Connection,
    shadow: Shadow,
    encoder: Encoder,
    downstream: Downstream,
    options: LiveOptions,
    /// What the shadow has behind this was not confirmed, and is told first.
    replay_from: Option<Coordinate>,
    is_unfinished: bool,
    version: i64,
    /// When the last look was, and how long it took.
    looked: (Instant, Duration),
}

/// What is seen under a lock.
struct Seen {
    image: Image,
    evidence: Checksum,
}

/// Whether the database at `path` is in rollback-journal mode, by its header. Before anything of it is opened for good.
pub fn is_one(path: &Path) -> bool {
    let mut head = [0; DB_HEADER_LEN];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && DbHeader::parse(&head).is_ok_and(|header| !header.wal_mode)
}

impl Rollback {
    /// Opens, looks, and finds where to begin. Nothing has been written to `drain` before this returns.
    pub fn open(path: &Path, mut options: LiveOptions, drain: Drain) -> Result<Rollback> {
        let name = path.display().to_string();
        let path = std::fs::canonicalize(path).map_err(|e| Error::io(&name, e))?;
        let Some(home) = options.shadow.as_deref().map(Home::at).transpose()? else {
            return Err(live::not_wal(&path, "a rollback journal"));
        };
        let db: Arc<dyn ReadAt> = Arc::new(live::open_for_ever(&path, false)?);
        let connection = pin::connect(&path)?;
        let server = live::identity(&path)?;
        let version = data_version(&connection, &path)?;
        let started = Instant::now();
        let mut is_unfinished = false;
        let known = Shadow::resume(&home, options.after.as_ref(), options.anew)?;
        let (shadow, reached, stamp, replay_from) = match (&options.after, known) {
            (_, Some((mut shadow, position))) => {
                live::same_file(&position, server, &name)?;
                shadow.settle(&position)?;
                is_unfinished = !locked(&connection, &path, &db, |seen| take(&mut shadow, &seen))?;
                (shadow, position.end, position.incarnation.stamp(), Some(position.end))
            }
            (Some(PositionSpec::Position(_)), None) => {
                return Err(Error::new(
                    Class::Gap,
                    "there is no shadow yet, and without one nothing is known of the state before",
                )
                .in_file(&name)
                .hint("`rlog-extract --resnapshot --shadow FILE` starts anew"));
            }
            (None | Some(PositionSpec::Now), None) => {
                let reached = Coordinate::new(1, 1).unwrap_or_default();
                let shadow = locked(&connection, &path, &db, |seen| {
                    let at = Standing { end: reached, server, salt: [0; 8], checksum: seen.evidence };
                    Shadow::create(&home, &seen.image, at)
                })?;
                (shadow, reached, 0, None)
            }
            (Some(_), None) => {
                return Err(Error::usage(
                    "a database without a log is read from `now` or from a position as rlog prints it",
                ));
            }
        };
        let place = Place { server, generation: reached.file(), stamp };
        let encoder = Encoder::new(place, reached, options.windows, options.filter.clone(), drain);
        let downstream = Downstream::new(options.confirm.take(), reached);
        let looked = (Instant::now(), started.elapsed());
        Ok(Rollback {
            path,
            db,
            connection,
            shadow,
            encoder,
            downstream,
            options,
            replay_from,
            is_unfinished,
            version,
            looked,
        })
    }

    /// Writes the stream's header and what there is to tell: the snapshot, or the difference to what is confirmed.
    pub fn start(&mut self) -> Result<()> {
        let header = live::stream_header(&self.encoder, &self.options);
        self.encoder.writer().frame(Kind::Stream, |out| header.encode(out));
        self.encoder.notes.push(
            "the database has no write-ahead log: states are compared, and all changes between two looks are one transaction".into(),
        );
        if self.options.snapshot {
            self.shadow.snapshot(&mut self.encoder, &self.options.filter)?;
        }
        if let Some(from) = self.replay_from {
            self.shadow.tell(from, &mut self.encoder)?;
        }
        self.encoder.flush()?;
        if self.is_unfinished { Err(catchup::unfinished()) } else { Ok(()) }
    }

    /// Looks again if somebody has committed, not too often.
    pub fn poll(&mut self) -> Result<Polled> {
        let confirmed = self.downstream.ask(self.encoder.reached())?;
        self.shadow.relieve(confirmed)?;
        let (at, took) = self.looked;
        if !self.options.follow || at.elapsed() < PAUSE_MIN.max(took * 9) {
            return Ok(Polled::Nothing);
        }
        let version = data_version(&self.connection, &self.path)?;
        if version == self.version {
            return Ok(Polled::Nothing);
        }
        let started = Instant::now();
        let mark = self.shadow.mark();
        let Rollback { connection, path, db, shadow, .. } = self;
        let whole = locked(connection, path, db, |seen| take(shadow, &seen))?;
        self.looked = (Instant::now(), started.elapsed());
        if !whole {
            // Once the rest is confirmed the next look can be taken.
            return Ok(Polled::Nothing);
        }
        self.version = version;
        if self.shadow.mark() == mark {
            return Ok(Polled::Nothing);
        }
        self.shadow.tell(self.encoder.reached(), &mut self.encoder)?;
        Ok(Polled::Some)
    }

    /// The encoder, for what was written and remarks.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Writes the end of the stream.
    pub fn finish(&mut self) -> Result<()> {
        live::finish(&mut self.encoder)
    }
}

fn data_version(connection: &Connection, path: &Path) -> Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(|e| pin::sqlite_error(path, e))
}

/// Does something while no writer can change the database.
fn locked<T>(
    connection: &Connection,
    path: &Path,
    db: &Arc<dyn ReadAt>,
    work: impl FnOnce(Seen) -> Result<T>,
) -> Result<T> {
    pin::begin(connection, path)?;
    let mut head = [0; DB_HEADER_LEN];
    let got = db.read_at(&mut head, 0).map_err(|e| Error::io(path.display().to_string(), e))?;
    let header = DbHeader::parse(head.get(..got).unwrap_or_default());
    let done = match header {
        Ok(header) if header.wal_mode => {
            Err(Error::new(Class::TryAgain, "the database has been switched to a write-ahead log")
                .hint("run the same command again: from now on that is read"))
        }
        Ok(header) => {
            let in_file = db.len().map_err(|e| Error::io(path.display().to_string(), e))? / u64::from(header.page_size);
            let in_file = u32::try_from(in_file).unwrap_or(u32::MAX);
            let pages = if header.pages == 0 { in_file } else { header.pages.min(in_file) };
            let nothing: Arc<dyn ReadAt> = Arc::new(Vec::new());
            let image = Image::new((Arc::clone(db), 0), (nothing, FrameTable::default()), header.page_size, pages);
            // The change counter moves with every commit in this mode.
            let evidence = Checksum(be32(&head, 24), crc32fast::hash(&head));
            work(Seen { image, evidence })
        }
        Err(error) => Err(error),
    };
    let done = done.map_err(|error| error.in_file(path.display().to_string()));
    connection.execute_batch("ROLLBACK").map_err(|e| pin::sqlite_error(path, e))?;
    done
}

/// Takes the difference into the shadow's journal. `false`: not yet, the size of pages has changed.
fn take(shadow: &mut Shadow, seen: &Seen) -> Result<bool> {
    let (tail, mark) = (shadow.tail(), shadow.mark());
    let end = tail.next_generation(1)?;
    let to = Standing { end, server: tail.server, salt: [0; 8], checksum: seen.evidence };
    let differing = shadow.bridge(&seen.image, to)?;
    if differing == Some(0) {
        // Where nothing has changed nothing is told, and the next run starts from the same place.
        shadow.retract(mark)?;
    }
    Ok(differing.is_some())
}
