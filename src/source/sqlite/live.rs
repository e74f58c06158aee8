//! A live database: pinned, followed, confirmed.
//!
//! ```text
//! start:   pin -> where to begin (resume | snapshot | now) -> learn
//! batch:   take the next pin -> read the wal-index -> decode up to its last frame -> hand over the frames
//! behind:  once the batch's end is confirmed, let the pin before it go
//! ```
//!
//! At any time one pin (`held`) covers everything behind what is confirmed, and at most one more (`next`) waits for its
//! batch to be confirmed. A pin is never past what has been decoded, since it is taken before the wal-index is read: so
//! the database file is true for every page that the log had no frame of.
//!
//! Resuming: the saved position names log, frame and the frame's checksums. If the log still is that one, holds that
//! very frame, and no checkpoint has tried to copy back anything behind it (which the wal-index says), then database file
//! and log together still have the state of the position, and reading goes on exactly. If not, the state before is
//! gone, and only a shadow has it ([`super::shadow`]); without one this is a gap (81).

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::decode::{Decoder, Step};
use super::events::{Drain, Encoder, Place, digest_of, if_not_exists};
use super::page::DB_HEADER_LEN;
use super::pin::{self, NoCheckpoint, Pin, Turnover};
use super::schema::ObjectKind;
use super::shm::{self, WalIndex};
use super::wal::{ReadAt, frame_at, read_header};
use crate::error::{Class, Error, Result};
use crate::frame::{Chunk, Coordinate, End, Kind, Position, PositionSpec, Snapshot, StreamHeader};

/// A chunk of a snapshot is closed when it has this many bytes.
const CHUNK_BYTES: usize = 512 << 10;

/// Says what is confirmed to be durable downstream.
pub type Confirm = Box<dyn FnMut() -> Result<Option<Position>> + Send>;

/// What is asked of a live source.
pub struct LiveOptions {
    /// Resume behind this position.
    pub after: Option<PositionSpec>,
    /// Write the existing rows first.
    pub snapshot: bool,
    /// Windows from write sets, or one transaction after the other.
    pub windows: bool,
    /// What is durable downstream; without it everything that was handed over counts as confirmed.
    pub confirm: Option<Confirm>,
    /// When the log has grown beyond this many bytes because of the pin, let go.
    pub max_wal: Option<u64>,
    /// Start the log again when it has grown beyond this many bytes.
    pub turnover_bytes: Option<u64>,
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
    wal: Arc<dyn ReadAt>,
    shm: &'static File,
    held: Pin,
    /// The next pin, and what has to be confirmed before it replaces `held`.
    next: Option<(Pin, Coordinate)>,
    /// A connection without a transaction, for the next pin.
    spare: Option<Pin>,
    /// Until what lies between the resume point and the first pin has been read.
    no_checkpoint: Option<NoCheckpoint>,
    decoder: Decoder,
    encoder: Encoder,
    options: LiveOptions,
    confirmed: Coordinate,
}

/// Opens a file of the database for good: closing it would drop this process's locks on the database.
fn open_for_ever(path: &Path, write: bool) -> Result<&'static File> {
    let file = File::options().read(true).write(write).open(path);
    Ok(Box::leak(Box::new(file.map_err(|e| Error::io(path.display().to_string(), e))?)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A hash of what makes this file the one it is: device and inode.
fn identity(path: &Path) -> Result<u32> {
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

/// Whether the log holds the frame that `position` names, with the same checksums.
fn holds(wal: &dyn ReadAt, position: &Position, index: &WalIndex) -> Result<bool> {
    let frame = position.end.offset().saturating_sub(1);
    let stamp = u32::from_be_bytes([index.salt[0], index.salt[1], index.salt[2], index.salt[3]]);
    if stamp != position.incarnation.stamp() || frame > u64::from(index.frames) {
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
    // A position at the start of a log whose header had not been written yet has no checksum.
    let unwritten = frame == 0 && position.digest == digest_of(super::wal::Checksum::default());
    Ok(unwritten || digest_of(checksum) == position.digest)
}

impl Live {
    /// Opens, pins, and finds where to begin. Nothing has been written to `drain` before this returns.
    pub fn open(path: &Path, options: LiveOptions, drain: Drain) -> Result<Live> {
        let name = path.display().to_string();
        let path = std::fs::canonicalize(path).map_err(|e| Error::io(&name, e))?;
        let mut head = [0; DB_HEADER_LEN];
        let db = open_for_ever(&path, false)?;
        let got = ReadAt::read_at(db, &mut head, 0).map_err(|e| Error::io(&name, e))?;
        let held = Pin::take(&path)?;
        let mode: String = held
            .connection()
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(|e| pin::sqlite_error(&path, e))?;
        if mode != "wal" || got == 0 {
            return Err(Error::config(format!(
                "the database's journal mode is {mode}, and only a write-ahead log can be read"
            ))
            .in_file(name)
            .hint(format!("sqlite3 '{}' 'PRAGMA journal_mode=WAL' switches it; it stays so", path.display())));
        }
        let in_files = |error: Error| error.in_file(path.display().to_string());
        let wal: Arc<dyn ReadAt> = Arc::new(open_for_ever(&beside(&path, "-wal"), false)?);
        let shm = open_for_ever(&beside(&path, "-shm"), false)?;
        // The pin is at the present end of the log, and reading may begin before it.
        let no_checkpoint = match &options.after {
            Some(PositionSpec::Position(_) | PositionSpec::Oldest) => Some(NoCheckpoint::begin(shm)?),
            _ => None,
        };
        let index = shm::read(&shm)?.ok_or_else(|| {
            Error::new(Class::TryAgain, "the wal-index is not readable now")
                .in_file(beside(&path, "-shm").display().to_string())
        })?;
        let mut decoder = Decoder::open(Arc::new(db), Arc::clone(&wal)).map_err(in_files)?;
        let server = identity(&path)?;
        let stamp = u32::from_be_bytes([index.salt[0], index.salt[1], index.salt[2], index.salt[3]]);
        let current = decoder.scanner().header().is_some_and(|header| header.salt == index.salt);
        let attempted = shm::attempted(&shm)?;

        // From which frame on transactions are told, and of which generation.
        let (generation, from) = match &options.after {
            None | Some(PositionSpec::Now) => (1, index.frames),
            // Frames that a checkpoint may have copied back have no state before them any more.
            Some(PositionSpec::Oldest) => (1, attempted.min(index.frames)),
            Some(PositionSpec::Position(position)) => {
                if position.incarnation.server() != server {
                    return Err(Error::new(Class::Identity, "the position is of another database file").in_file(name).hint(
                        "if the file was replaced on purpose (restored, copied back), start anew with a snapshot (--resnapshot)",
                    ));
                }
                let frame = u32::try_from(position.end.offset().saturating_sub(1)).unwrap_or(u32::MAX);
                if !holds(&*wal, position, &index)? || attempted > frame {
                    return Err(Error::new(
                        Class::Gap,
                        "between this run and the last one a checkpoint has taken away what the log held",
                    )
                    .in_file(name)
                    .hint("`rlog-extract --resnapshot` starts anew; `--shadow FILE` bridges such gaps, `--follow` avoids them"));
                }
                (position.end.file(), frame)
            }
            Some(other) => {
                return Err(Error::usage(format!("a SQLite source cannot resume at {other:?}"))
                    .hint("give a position as rlog prints it, `oldest` or `now`"));
            }
        };
        if current && index.frames > 0 {
            decoder.skip(from).map_err(in_files)?;
        }
        decoder.learn().map_err(in_files)?;
        let place = Place { server, generation, stamp };
        let reached = place.at(if current { u64::from(decoder.mark().frame) + 1 } else { 1 });
        let encoder = Encoder::new(place, reached, options.windows, drain);
        Ok(Live {
            path,
            wal,
            shm,
            held,
            next: None,
            spare: None,
            no_checkpoint,
            decoder,
            encoder,
            options,
            confirmed: reached,
        })
    }

    /// Writes the stream's header and, if asked, the snapshot.
    pub fn start(&mut self) -> Result<()> {
        let reached = self.encoder.reached();
        let header = StreamHeader {
            source: "sqlite".into(),
            server_version: rusqlite::version().into(),
            incarnation: self.encoder.place().incarnation(),
            start: reached,
            cascades_logged: Some(true),
            windows: if self.options.windows { "writeset" } else { "serial" }.into(),
            ..StreamHeader::default()
        };
        self.encoder.writer().frame(Kind::Stream, |out| header.encode(out));
        if self.options.snapshot {
            self.snapshot()?;
        }
        self.encoder.flush()
    }

    /// Every row that exists at this position, and the objects of the schema.
    fn snapshot(&mut self) -> Result<()> {
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|e| Error::new(Class::Io, format!("no random numbers: {e}")))?;
        let snapshot = Snapshot {
            uuid,
            at: self.encoder.reached(),
            incarnation: self.encoder.place().incarnation(),
            digest: digest_of(self.decoder.mark().checksum),
            ..Snapshot::default()
        };
        self.encoder.writer().frame(Kind::SnapshotBegin, |out| snapshot.encode(out));
        let schema = Arc::clone(self.decoder.schema());
        let mut ordinal = 0;
        let chunk = |table: u64, number: u64| Chunk { snapshot: uuid, table, number };

        self.encoder.begin_chunk(chunk(0, ordinal));
        for table in schema.tables.iter().filter(|table| !table.is_system()) {
            self.encoder.ddl_text("create table", &table.name, &if_not_exists(&table.sql))?;
        }
        self.encoder.end_chunk()?;
        ordinal += 1;
        for table in schema.tables.iter().filter(|table| !table.is_system()) {
            let key = self.encoder.key_of(table);
            let mut rows = SnapshotRows { encoder: &mut self.encoder, key, number: 0, uuid, open: false };
            self.decoder.scan_table(table, &mut rows)?;
            rows.close()?;
        }
        self.encoder.begin_chunk(chunk(0, ordinal));
        for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Virtual) {
            let sql = object.sql.clone().unwrap_or_default();
            self.encoder.declare_virtual(&object.name, &sql)?;
        }
        for kind in [ObjectKind::Index, ObjectKind::View, ObjectKind::Trigger] {
            for object in schema.objects.iter().filter(|object| object.kind == kind) {
                if let Some(sql) = &object.sql {
                    self.encoder.ddl_text("create", &object.name, &if_not_exists(sql))?;
                }
            }
        }
        for (table, value) in self.decoder.sequences()? {
            self.encoder.sequence_text(&table, Some(value))?;
        }
        self.encoder.end_chunk()?;
        self.encoder.writer().frame(Kind::SnapshotEnd, |out| snapshot.encode(out));
        Ok(())
    }

    /// Decodes what has been committed since the last call.
    pub fn poll(&mut self) -> Result<Polled> {
        self.confirm()?;
        let Some(index) = shm::read(&self.shm)? else { return Ok(Polled::Nothing) };
        if !self.is_new(&index) {
            self.no_checkpoint = None;
            return Ok(Polled::Nothing);
        }
        if self.next.is_none() {
            self.next = Some((self.fresh_pin()?, Coordinate::default()));
        }
        // Read again behind the pin: what the pin holds is not past it.
        let Some(index) = shm::read(&self.shm)? else { return Ok(Polled::Nothing) };
        self.decode_to(&index)?;
        self.no_checkpoint = None;
        let reached = self.encoder.reached();
        if let Some((_, upto)) = self.next.as_mut().filter(|(_, upto)| *upto == Coordinate::default()) {
            *upto = reached;
        }
        self.encoder.flush()?;
        self.confirm()?;
        Ok(Polled::Some)
    }

    fn is_new(&self, index: &WalIndex) -> bool {
        index.frames > 0
            && match self.decoder.scanner().header() {
                Some(header) if header.salt == index.salt => index.frames > self.decoder.mark().frame,
                _ => true,
            }
    }

    fn decode_to(&mut self, index: &WalIndex) -> Result<()> {
        let in_file = |error: Error| error.in_file(beside(&self.path, "-wal").display().to_string());
        let reset = self.decoder.scanner().header().is_none_or(|header| header.salt != index.salt);
        if reset && index.frames > 0 {
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
            let stamp = u32::from_be_bytes([salt[0], salt[1], salt[2], salt[3]]);
            // A log that was empty when reading began is the first generation.
            let place = self.encoder.place();
            let generation =
                if self.encoder.reached() == place.at(1) { place.generation } else { place.generation + 1 };
            self.encoder.new_generation(generation, stamp);
        }
        self.encoder.time_us = now_us();
        loop {
            match self.decoder.next(Some(index.frames), &mut self.encoder).map_err(in_file)? {
                Step::Txn(_) => {}
                Step::Tail(_) => break,
            }
        }
        let mark = self.decoder.mark();
        if mark.frame != index.frames || (mark.checksum.0, mark.checksum.1) != index.checksum {
            let at = frame_at(index.page_size, mark.frame + 1);
            return Err(in_file(
                Error::damage(
                    "the log does not hold what its wal-index says: the source went back, or the log is damaged",
                )
                .at(at),
            )
            .hint("start anew with a snapshot (--resnapshot)"));
        }
        Ok(())
    }

    /// Learns what is confirmed, and lets go of what need not be held any more.
    fn confirm(&mut self) -> Result<()> {
        self.confirmed = match &mut self.options.confirm {
            None => self.encoder.reached(),
            Some(confirm) => confirm()?.map_or(self.confirmed, |position| position.end.max(self.confirmed)),
        };
        if self.next.as_ref().is_some_and(|(_, upto)| *upto != Coordinate::default() && self.confirmed >= *upto)
            && let Some((pin, _)) = self.next.take()
        {
            self.hold(pin)?;
        }
        Ok(())
    }

    /// Keeps the log from growing without end, now that nothing is left to read. See [`Turnover`].
    pub fn tidy(&mut self) -> Result<()> {
        let Some(limit) = self.options.turnover_bytes else { return Ok(()) };
        if self.wal.len().map_err(|e| Error::io("", e))? <= limit {
            return Ok(());
        }
        let Some(before) = shm::read(&self.shm)? else { return Ok(()) };
        if self.is_new(&before) || self.confirmed < self.encoder.reached() || before.frames == 0 {
            return Ok(());
        }
        let page = u64::from(before.page_size) + 24;
        if u64::from(before.frames) * page <= limit {
            return Ok(());
        }
        let Some(turnover) = Turnover::begin(&self.path)? else { return Ok(()) };
        // No writer can commit now.
        let end = self.fresh_pin()?;
        let Some(index) = shm::read(&self.shm)? else { return Ok(()) };
        self.decode_to(&index)?;
        self.next = Some((end, self.encoder.reached()));
        self.encoder.flush()?;
        self.confirm()?;
        // What came in the meantime is perhaps not confirmed yet: then another time.
        if self.next.is_none() && turnover.copy_back(&self.path)? {
            // At its end this pin needs no log any more, and the next writer resets it.
            let pin = self.fresh_pin()?;
            self.hold(pin)?;
        }
        Ok(())
    }

    /// A pin at the present end of the log, on a connection that is idle if there is one.
    fn fresh_pin(&mut self) -> Result<Pin> {
        match self.spare.take() {
            Some(pin) => pin.again(&self.path),
            None => Pin::take(&self.path),
        }
    }

    /// Holds `pin` and lets the one before go.
    fn hold(&mut self, pin: Pin) -> Result<()> {
        let before = std::mem::replace(&mut self.held, pin);
        before.release(&self.path)?;
        self.spare = Some(before);
        Ok(())
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> Result<u64> {
        self.wal.len().map_err(|e| Error::io("", e))
    }

    /// The encoder, for what was written and remarks.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// What has been reached and what is confirmed.
    pub fn watermarks(&self) -> (Coordinate, Coordinate) {
        (self.encoder.reached(), self.confirmed)
    }

    /// Writes the end of the stream.
    pub fn finish(&mut self) -> Result<()> {
        self.encoder.flush()?;
        let end = End {
            reached: self.encoder.reached(),
            incarnation: self.encoder.place().incarnation(),
            transactions: self.encoder.written.0,
            notes: std::mem::take(&mut self.encoder.notes),
            ..End::default()
        };
        self.encoder.writer().frame(Kind::End, |out| end.encode(out));
        self.encoder.flush()
    }
}

/// Cuts the rows of a table into chunks.
struct SnapshotRows<'a> {
    encoder: &'a mut Encoder,
    key: u64,
    number: u64,
    uuid: [u8; 16],
    open: bool,
}

impl SnapshotRows<'_> {
    fn close(&mut self) -> Result<()> {
        if std::mem::take(&mut self.open) {
            self.number += 1;
            self.encoder.end_chunk()?;
        }
        Ok(())
    }
}

impl super::decode::Sink for SnapshotRows<'_> {
    fn begin(&mut self, _: &super::decode::Txn) -> Result<()> {
        Ok(())
    }

    fn ddl(&mut self, _: &super::ddl::Ddl) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, change: &super::decode::Change<'_>) -> Result<()> {
        if !self.open {
            self.encoder.begin_chunk(Chunk { snapshot: self.uuid, table: self.key, number: self.number });
            self.open = true;
        }
        super::decode::Sink::row(self.encoder, change)?;
        if self.encoder.chunk_bytes() > CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn sequence(&mut self, _: &str, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: &super::decode::Txn) -> Result<()> {
        Ok(())
    }
}
