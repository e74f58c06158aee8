//! A database file and its log, at rest: read as plain files, never through SQLite, never changed.
//!
//! What the log's transactions did can be told only if the state before them is known. A checkpoint may have copied
//! frames into the database file already. Which ones is found by comparing: if the file's page is one that the log has
//! in frame F, everything up to the commit at or behind F may have been copied. From that commit on, file and log together
//! have the exact state; transactions up to it are passed over, with a note. If the wal-index is still there, it says how far
//! checkpoints have tried to get, and nothing behind that is suspected.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::decode::{Decoder, Step};
use super::events::{Drain, Encoder, Place, digest_of};
use super::wal::{FRAME_HEADER_LEN, Header, ReadAt, Scanner, Tail, damaged_before_commit, frame_at, read_header};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::{Coordinate, End, Kind, PositionSpec, StreamHeader};
use crate::sys::sparse::Sparse;

/// Suffix of a log's name.
const WAL_SUFFIX: &str = "-wal";

/// See the module's head.
pub struct Pair {
    wal_name: String,
    wal: Arc<dyn ReadAt>,
    decoder: Decoder,
    encoder: Encoder,
    until: Option<Coordinate>,
    passed_over: u32,
    /// Found at the end: what was committed behind it is not told.
    pub(super) damage: Option<Error>,
}

/// The database file and the log that `paths` name; either stands for both.
fn names(paths: &[PathBuf]) -> Result<(PathBuf, PathBuf)> {
    let mut found: Option<PathBuf> = None;
    for path in paths {
        let text = path.as_os_str().to_string_lossy();
        let db = text.strip_suffix(WAL_SUFFIX).map_or_else(|| path.clone(), PathBuf::from);
        if found.as_ref().is_some_and(|found| *found != db) {
            return Err(Error::usage("one SQLite database at a time: each is a stream of its own"));
        }
        found = Some(db);
    }
    let db = found.ok_or_else(|| Error::usage("no database is named"))?;
    let mut wal = db.clone().into_os_string();
    wal.push(WAL_SUFFIX);
    Ok((db, PathBuf::from(wal)))
}

fn open(path: &Path) -> Result<Arc<dyn ReadAt>> {
    let file = File::open(path).map_err(|e| Error::io(path.display().to_string(), e))?;
    Ok(Arc::new(file))
}

/// The last commit at or behind every frame that the database file may have a copy of; 0: the file is older than the log.
fn copied_back(db: &dyn ReadAt, wal: &dyn ReadAt, header: &Header) -> Result<u32> {
    let size = header.page_size as usize;
    let mut scanner = Scanner::new();
    scanner.restart(wal)?;
    let (mut in_file, mut in_log) = (vec![0; size], vec![0; size]);
    // Pages whose bytes in the file were met in the log.
    let mut met = Sparse::default();
    let mut copied = 0;
    while let Ok(span) = scanner.next(wal, None)? {
        for (number, frame) in scanner.pages() {
            // The first frame with these bytes: later ones may only repeat them.
            if met.get(number as usize) != 0 {
                continue;
            }
            let at = u64::from(number - 1) * size as u64;
            if db.read_at(&mut in_file, at).map_err(|e| Error::io("", e))? < size {
                continue;
            }
            let bytes = match scanner.buffered_page(frame) {
                Some(bytes) => bytes,
                None => {
                    let at = frame_at(header.page_size, frame) + FRAME_HEADER_LEN as u64;
                    wal.read_at(&mut in_log, at).map_err(|e| Error::io("", e))?;
                    &in_log
                }
            };
            if bytes == in_file {
                met.set(number as usize, 1);
                copied = span.last;
            }
        }
    }
    Ok(copied)
}

impl Pair {
    /// Opens both files and finds where the log can be told from.
    pub fn open(
        paths: &[PathBuf],
        after: Option<&PositionSpec>,
        until: Option<Coordinate>,
        windows: bool,
        filter: TableFilter,
        drain: Drain,
    ) -> Result<Pair> {
        let (db_path, wal_path) = names(paths)?;
        let wal_name = wal_path.display().to_string();
        let db_name = db_path.display().to_string();
        let db = open(&db_path).map_err(|error| match error.class() {
            Class::NoInput => {
                error.hint("a log alone tells pages, not rows: `rlog-dump --salvage` shows what is in it")
            }
            _ => error,
        })?;
        let wal: Arc<dyn ReadAt> = if wal_path.exists() { open(&wal_path)? } else { Arc::new(Vec::new()) };
        let mut decoder = Decoder::open(Arc::clone(&db), Arc::clone(&wal)).map_err(|error| error.in_file(&db_name))?;
        let header = read_header(&*wal)?;
        let mut passed_over = 0;
        let mut stamp = 0;
        if let Some(header) = &header {
            stamp = u32::from_be_bytes([header.salt[0], header.salt[1], header.salt[2], header.salt[3]]);
            let mut shm_path = db_path.clone().into_os_string();
            shm_path.push("-shm");
            let attempted = match open(Path::new(&shm_path)) {
                Ok(shm) if super::shm::read(&*shm)?.is_some_and(|index| index.salt == header.salt) => {
                    super::shm::attempted(&*shm)?
                }
                _ => u32::MAX,
            };
            passed_over = if attempted == 0 { 0 } else { copied_back(&*db, &*wal, header)?.min(attempted) };
        }
        let server = header.map_or(0, |header| xxh3_64(&header.salt) as u32);
        decoder.skip(passed_over)?;
        let mut from = 1;
        if let Some(PositionSpec::Position(position)) = after {
            from = position.end.file();
            let frame = u32::try_from(position.end.offset().saturating_sub(1)).unwrap_or(u32::MAX);
            decoder.skip(frame)?;
            let mark = decoder.mark();
            if mark.frame != frame || digest_of(mark.checksum) != position.digest {
                return Err(Error::new(
                    Class::Gap,
                    "the log does not hold that position, or a checkpoint has gone past it",
                )
                .in_file(&wal_name)
                .at(frame_at(header.map_or(0, |header| header.page_size), frame)));
            }
        }
        decoder.learn().map_err(|error| error.in_file(&db_name))?;
        let place = Place { server, generation: from, stamp };
        let reached = place.at(u64::from(decoder.mark().frame) + 1);
        let mut encoder = Encoder::new(place, reached, windows, filter.clone(), drain);
        let stream = StreamHeader {
            source: "sqlite".into(),
            incarnation: place.incarnation(),
            start: reached,
            cascades_logged: Some(true),
            filters: filter.canonical(),
            windows: if windows { "writeset" } else { "serial" }.into(),
            ..StreamHeader::default()
        };
        encoder.writer().frame(Kind::Stream, |out| stream.encode(out));
        if passed_over > 0 && after.is_none() {
            encoder.notes.push(format!(
                "{wal_name}: frames 1 to {passed_over} are in the database file already; what rows were before them is not known, so they are passed over"
            ));
        }
        Ok(Pair { wal_name, wal, decoder, encoder, until, passed_over, damage: None })
    }

    /// Tells every transaction of the log, then the end.
    pub fn run(&mut self, stopped: &dyn Fn() -> bool) -> Result<()> {
        let in_log = |error: Error, name: &str| error.in_file(name);
        let mut tail = Tail::End;
        while !stopped() && self.until.is_none_or(|until| self.encoder.reached() < until) {
            match self.decoder.next(None, &mut self.encoder).map_err(|error| in_log(error, &self.wal_name))? {
                Step::Txn(_) => {}
                Step::Tail(found) => {
                    tail = found;
                    break;
                }
            }
        }
        let frame = self.decoder.mark().frame;
        let size = self.decoder.scanner().header().map_or(0, |header| header.page_size);
        if matches!(tail, Tail::Invalid | Tail::Stale | Tail::Uncommitted { .. })
            && let Some(header) = self.decoder.scanner().header().copied()
            && let Some(damaged) = damaged_before_commit(&*self.wal, &header, self.decoder.mark())?
        {
            // SQLite reads the log to here too, and says nothing: so this stops only who asks for it.
            let what = format!(
                "frame {damaged} is damaged, though frames that were committed stand behind it (or a power loss left it out): they do not count"
            );
            self.damage = Some(in_log(Error::damage(what).at(frame_at(size, damaged)), &self.wal_name));
        }
        let mut torn_bytes = 0;
        match tail {
            Tail::Uncommitted { frames } => {
                torn_bytes = u64::from(frames) * (u64::from(size) + FRAME_HEADER_LEN as u64);
                self.encoder.notes.push(format!(
                    "{}: {frames} frames behind the last commit (frame {frame}) belong to no whole transaction",
                    self.wal_name
                ));
            }
            Tail::Invalid => self.encoder.notes.push(format!(
                "{}: byte {}: a frame with a wrong checksum ends the log here",
                self.wal_name,
                frame_at(size, frame + 1)
            )),
            Tail::NoHeader if !self.wal.is_empty().unwrap_or(true) => {
                return Err(Error::damage("the log's header is invalid").in_file(&self.wal_name).at(0));
            }
            Tail::End | Tail::NoHeader | Tail::Stale => {}
        }
        self.encoder.flush()?;
        let end = End {
            reached: self.encoder.reached(),
            incarnation: self.encoder.place().incarnation(),
            transactions: self.encoder.written.0,
            torn_bytes,
            notes: self.encoder.notes.clone(),
            ..End::default()
        };
        self.encoder.writer().frame(Kind::End, |out| end.encode(out));
        self.encoder.flush()
    }

    /// The encoder.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Frames that were passed over because the database file has them already.
    pub fn passed_over(&self) -> u32 {
        self.passed_over
    }
}
