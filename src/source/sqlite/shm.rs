//! The wal-index header in the `-shm` file: how many frames of the log are committed.
//!
//! Two equal copies of 48 bytes, native byte order; a writer changes the second copy first, so a reader that finds
//! them equal has a header that was true at one moment. Behind them stands how many frames a checkpoint has copied
//! back into the database file. (Facts: SQLite's `wal.c` and "WAL-mode File Format".)
//!
//! The file is read with `pread`, never mapped (a checkpoint may truncate it), through a descriptor that is opened once
//! and kept: closing any descriptor of it would drop this process's locks.
//!
//! SQLite itself maps it, and its pins and checkpoints look through all of it, 8 bytes for each frame: of a long log they count as
//! memory of this process until [`let_go`], although every process that has the database open shares them.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use super::wal::{Checksum, Mark, ReadAt};
use crate::error::{Error, Result};

/// Bytes of one copy.
const COPY_LEN: usize = 48;
/// Both copies, then `nBackfill`.
const READ_LEN: usize = 2 * COPY_LEN + 4;
/// Attempts to read two equal copies before giving up for this poll.
const ATTEMPTS: usize = 100;

/// What the wal-index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIndex {
    /// The last committed frame.
    pub frames: u32,
    /// Pages of the database after it.
    pub db_pages: u32,
    /// Bytes of a page.
    pub page_size: u32,
    /// The salts of the log that this index describes, as they stand in its header.
    pub salt: [u8; 8],
    /// Checksum of the last committed frame.
    pub checksum: (u32, u32),
    /// Frames that a checkpoint has certainly copied into the database file.
    pub backfilled: u32,
}

impl WalIndex {
    /// The last frame, if everything up to it stands in the database file: then no reader needs the log, and the next writer may start it again
    /// at any moment, whoever reads.
    pub fn copied_back(&self) -> Option<Mark> {
        let (a, b) = self.checksum;
        let mark = Mark { frame: self.frames, checksum: Checksum(a, b) };
        (self.frames > 0 && self.backfilled >= self.frames).then_some(mark)
    }
}

/// Reads the index header; `None` when it is not there, not initialised, or was being changed all the time.
pub fn read(shm: &dyn ReadAt) -> Result<Option<WalIndex>> {
    let mut bytes = [0u8; READ_LEN];
    for _ in 0..ATTEMPTS {
        let got = shm.read_at(&mut bytes, 0).map_err(|e| Error::io("", e))?;
        if got < READ_LEN {
            return Ok(None);
        }
        let (first, rest) = bytes.split_at(COPY_LEN);
        let (second, backfill) = rest.split_at(COPY_LEN);
        if first == second {
            return Ok(parse(first, ne32(backfill, 0)));
        }
        std::thread::yield_now();
    }
    Ok(None)
}

/// As [`read`], with a `backfilled` that is of this very log: where a log is started again the header changes first, then the rest.
pub fn read_whole(shm: &dyn ReadAt) -> Result<Option<WalIndex>> {
    let mut index = read(shm)?;
    for _ in 0..ATTEMPTS {
        let again = read(shm)?;
        if index.map(|index| index.salt) == again.map(|again| again.salt) {
            break;
        }
        index = again;
    }
    Ok(index)
}

/// Offset of `nBackfillAttempted`: behind both copies, `nBackfill`, five read marks and the lock bytes.
const ATTEMPTED_AT: u64 = 2 * COPY_LEN as u64 + 4 + 5 * 4 + 8;

/// Frames that a checkpoint may have copied into the database file: it says so before it starts, and recovery after a
/// crash assumes all.
pub fn attempted(shm: &dyn ReadAt) -> Result<u32> {
    let mut bytes = [0; 4];
    let got = shm.read_at(&mut bytes, ATTEMPTED_AT).map_err(|e| Error::io("", e))?;
    Ok(if got == 4 { u32::from_ne_bytes(bytes) } else { u32::MAX })
}

fn parse(copy: &[u8], backfilled: u32) -> Option<WalIndex> {
    // Offset 12: isInit u8, bigEndCksum u8, szPage u16.
    if *copy.get(12)? == 0 {
        return None;
    }
    let page_size = u32::from(u16::from_ne_bytes(copy.get(14..16)?.try_into().ok()?));
    Some(WalIndex {
        frames: ne32(copy, 16),
        db_pages: ne32(copy, 20),
        page_size: (page_size & 0xfe00) + ((page_size & 1) << 16),
        checksum: (ne32(copy, 24), ne32(copy, 28)),
        salt: copy.get(32..40)?.try_into().ok()?,
        backfilled,
    })
}

fn ne32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Lets go of what this process has resident of a wal-index that SQLite has mapped. The bytes stay where all share them, and come
/// back as they are looked at.
pub fn let_go(shm: &File) {
    // Nothing is lost where this cannot be done but the memory.
    let (Ok(meta), Ok(maps)) = (shm.metadata(), std::fs::read_to_string("/proc/self/maps")) else { return };
    for (start, len) in shared_mappings(&maps, meta.ino()) {
        // SAFETY: the range is a shared mapping of a file: for one of these the advice loses nothing, since whoever reads it next is
        // given the same bytes again from the file's pages.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Start and length of every shared mapping of a wal-index with that inode.
fn shared_mappings(maps: &str, inode: u64) -> impl Iterator<Item = (usize, usize)> + '_ {
    maps.lines().filter_map(move |line| {
        // from-to perms offset device inode path
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let is_shared = fields.next()?.ends_with('s');
        let of = fields.nth(2)?.parse::<u64>().ok()?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        (is_shared && of == inode && line.ends_with("-shm")).then(|| (from, to.saturating_sub(from)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_mappings_of_that_index_are_let_go() {
        let maps = "5570-5580 r-xp 00002000 fe:00 77 /usr/bin/app\n\
                    7f00-7f80 rw-s 00008000 fe:00 77 /data/my app.db-shm\n\
                    7f80-8000 rw-s 00000000 fe:00 78 /data/other.db-shm\n\
                    8000-8080 rw-p 00000000 fe:00 77 /data/my app.db-shm\n\
                    9000-9080 rw-s 00000000 fe:00 77 /data/app.db\n\
                    a000-a080 rw-p 00000000 00:00 0 \n";
        assert_eq!(shared_mappings(maps, 77).collect::<Vec<_>>(), [(0x7f00, 0x80)]);
    }
}
