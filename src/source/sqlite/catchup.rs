//! Between two runs: a shadow's journal is brought up to the present of a live database.
//!
//! If the log holds the frame at which the journal ends, its further frames are copied: exact transactions. If not, the log
//! was started again, removed, or lost its end in a power cut: then what differs between the journal's last state and
//! the database as it is now becomes one transaction. Either needs the present to stand still, which a pin and the look at
//! the wal-index behind it provide; where the log is started again all the same (a pin at the end of a log that was copied
//! back whole lets that happen once), it is done over.

use std::fs::File;
use std::sync::Arc;

use super::page::{DB_HEADER_LEN, DbHeader};
use super::shadow::{Shadow, Standing};
use super::shm::{self, WalIndex};
use super::view::{FrameTable, Image, possible_size};
use super::wal::{Checksum, Mark, ReadAt, Scanner, read_header};
use crate::error::{Class, Error, Result};
use crate::frame::Position;

/// How often it is done over before somebody should look.
const ATTEMPTS: u32 = 20;

/// The files of a live database, opened for good.
pub struct Files<'a> {
    /// The database.
    pub db: &'a Arc<dyn ReadAt>,
    /// Its log.
    pub wal: &'a Arc<dyn ReadAt>,
    /// Its wal-index.
    pub shm: &'a &'static File,
    /// Hash of the database file's identity.
    pub server: u32,
}

/// The database as file and the first `frames` frames of the log with this salt have it, and where in the log that is. When the
/// log has another salt, or ends before, the image is that of fewer frames, or of the file alone.
pub fn image(db: &Arc<dyn ReadAt>, wal: &Arc<dyn ReadAt>, salt: [u8; 8], frames: u32) -> Result<(Image, Mark)> {
    let mut bytes = [0; DB_HEADER_LEN];
    let got = db.read_at(&mut bytes, 0).map_err(|e| Error::io("", e))?;
    let header = if got == 0 { None } else { Some(DbHeader::parse(bytes.get(..got).unwrap_or_default())?) };
    let mut page_size = header.map_or(4096, |header| header.page_size);
    let in_file = db.len().map_err(|e| Error::io("", e))? / u64::from(page_size);
    let in_file = u32::try_from(in_file).unwrap_or(u32::MAX);
    let mut pages = match header.map_or(0, |header| header.pages) {
        0 => in_file,
        pages => pages.min(in_file),
    };
    let mut table = FrameTable::default();
    let mut mark = Mark { frame: 0, checksum: Checksum::default() };
    if let Some(log) = read_header(&**wal)?.filter(|log| log.salt == salt) {
        mark.checksum = log.checksum;
        let mut scanner = Scanner::starting(log, mark);
        while let Ok(span) = scanner.next(&**wal, Some(frames))? {
            possible_size(pages, scanner.pages().len(), span.db_pages, log.page_size)?;
            scanner.pages().for_each(|(page, frame)| table.set(page, frame));
            (pages, page_size) = (span.db_pages, log.page_size);
        }
        mark = scanner.mark();
    }
    Ok((Image::new((Arc::clone(db), 0), (Arc::clone(wal), table), page_size, pages), mark))
}

/// What [`catch_up`] came to.
pub struct Caught {
    /// The wal-index of the present that was reached.
    pub index: WalIndex,
    /// The size of pages has changed, and a journal has pages of one size: what it has must be told and confirmed first.
    pub is_unfinished: bool,
}

/// Brings the base of `shadow` to `confirmed` and its journal to the present.
pub fn catch_up(
    files: &Files<'_>,
    shadow: &mut Shadow,
    confirmed: &Position,
    notes: &mut Vec<String>,
) -> Result<Caught> {
    if shadow.base().server != files.server {
        return Err(Error::new(Class::Identity, "the shadow is of another database file")
            .hint("each database has a shadow of its own; start anew with --resnapshot"));
    }
    let mut behind = confirmed.end > shadow.tail().end;
    if !behind {
        shadow.settle(confirmed)?;
    }
    let mut mark = shadow.mark();
    for _ in 0..ATTEMPTS {
        let Some(index) = shm::read(files.shm)? else {
            std::thread::sleep(std::time::Duration::from_millis(5));
            continue;
        };
        let tail = shadow.tail();
        let mut taken = tail.is_held_by(&**files.wal, &index)?;
        if taken && index.frames > tail.frame() {
            taken = match read_header(&**files.wal)?.filter(|header| header.salt == index.salt) {
                Some(header) => {
                    // At the start of a log the chain begins with its header, which may not have been written before.
                    let checksum = if tail.frame() == 0 { header.checksum } else { tail.checksum };
                    shadow.record(&**files.wal, &header, Standing { checksum, ..tail }, index.frames)?
                }
                None => false,
            };
        }
        let exact = taken;
        if !taken && !behind {
            taken = match bridge(files, shadow, &index, notes)? {
                Bridged::Yes => true,
                Bridged::Moved => false,
                Bridged::NotYet => return Ok(Caught { index, is_unfinished: true }),
            };
        }
        let now = shm::read(files.shm)?;
        if taken && now.is_some_and(|now| now.salt == index.salt && now.frames >= index.frames) {
            if behind {
                // A run without the shadow was in between; the log still had it all.
                shadow.settle(confirmed)?;
            }
            return Ok(Caught { index, is_unfinished: false });
        }
        // Transactions that were copied have happened, whatever became of the log since; a difference may be to no state at all.
        if !exact {
            shadow.retract(mark)?;
        }
        mark = shadow.mark();
        if behind {
            shadow.settle(confirmed)?;
            behind = false;
            mark = shadow.mark();
        }
    }
    Err(Error::new(Class::TryAgain, "the log was started again and again while it was looked at"))
}

/// What a bridge came to.
enum Bridged {
    Yes,
    /// The log was started again meanwhile.
    Moved,
    NotYet,
}

fn bridge(files: &Files<'_>, shadow: &mut Shadow, index: &WalIndex, notes: &mut Vec<String>) -> Result<Bridged> {
    let tail = shadow.tail();
    let (now, mark) = image(files.db, files.wal, index.salt, index.frames)?;
    if mark.frame != index.frames {
        return Ok(Bridged::Moved);
    }
    let checksum = if index.frames == 0 { Checksum::default() } else { mark.checksum };
    let to = Standing {
        end: tail.next_generation(u64::from(index.frames) + 1)?,
        server: files.server,
        salt: index.salt,
        checksum,
    };
    if shadow.bridge(&now, to)?.is_none() {
        return Ok(Bridged::NotYet);
    }
    if tail.salt == index.salt && tail.salt != [0; 8] {
        notes.push(
            "the source went back: its log does not hold any more what was already read (a power loss under synchronous=NORMAL?); \
             what differs is told as one transaction"
                .into(),
        );
    }
    Ok(Bridged::Yes)
}

/// What a run ends with that could tell only a part.
pub fn unfinished() -> Error {
    Error::new(
        Class::TryAgain,
        "the size of pages has changed; what was read before that is told, and the rest by the next run",
    )
    .hint("run the same command again, once this is confirmed")
}
