//! The database before and after a transaction, page by page.
//!
//! `index` says for each page the last frame of the log before the transaction at hand; with the database file under
//! it, that is the *old* view. `overlay` holds the transaction's own frames; on top of the old view it is the *new*
//! one. [`Pages::commit`] folds the overlay into the index.
//!
//! Assumes: the database file's bytes are valid for every page that is not in the index. A pin that is never past the
//! processed position guarantees it live; a closed pair of files that was never checkpointed, or a shadow copy,
//! guarantees it offline.
//!
//! Pages are shared out of a small direct-mapped cache, whose entries stay true for the life of one generation of the
//! log, since (page, frame) names bytes that do not change.

use std::sync::Arc;

use super::page::bad_page;
use super::wal::{FRAME_HEADER_LEN, ReadAt, Scanner, frame_at};
use crate::error::{Error, Result};
use crate::sys::sparse::Sparse;

/// Bytes the cache may hold.
const CACHE_BYTES: usize = 4 << 20;
/// Fewest and most entries.
const CACHE_SLOTS: std::ops::RangeInclusive<usize> = 32..=1024;
/// Pages that a transaction may have changed to be listed, at least, and one in so many of the database's: those of a larger one
/// are looked for in the whole overlay, since a list takes memory too.
const LISTED: (usize, usize) = (64 << 10, 64);
/// Entries that were set in the overlay since its memory was given back; it takes up to 4 KiB for each.
const OVERLAID_MAX: usize = 16 << 10;

/// Before or after the transaction at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before.
    Old,
    /// After.
    New,
}

/// The bytes of a page, shared with the cache.
pub type PageRef = Arc<Vec<u8>>;

/// A table from page to frame: 3 bytes a page (4 in a log of 2^24 frames), and none where nothing near is set.
#[derive(Default)]
pub struct FrameTable {
    frames: Sparse,
}

impl FrameTable {
    /// The frame of `page`; 0 for none.
    #[inline]
    pub fn get(&self, page: u32) -> u32 {
        self.frames.get(page as usize)
    }

    /// Sets the frame of `page`.
    #[inline]
    pub fn set(&mut self, page: u32, frame: u32) {
        self.frames.set(page as usize, frame);
    }

    /// Every page that has a frame, in order, with it.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.frames.iter().enumerate().filter(|entry| entry.1 != 0).map(|(page, frame)| (page as u32, frame))
    }

    /// Forgets all, and gives the memory back.
    pub fn clear(&mut self) {
        self.frames.clear();
    }
}

struct Slot {
    page: u32,
    frame: u32,
    bytes: PageRef,
}

/// Both views; see the module's head.
pub struct Pages {
    db: Arc<dyn ReadAt>,
    wal: Arc<dyn ReadAt>,
    page_size: u32,
    index: FrameTable,
    overlay: FrameTable,
    /// The pages in the overlay, each once, unless the transaction is large.
    changed: Vec<u32>,
    is_large: bool,
    /// See [`OVERLAID_MAX`].
    overlaid: usize,
    old_pages: u32,
    new_pages: u32,
    slots: Vec<Option<Slot>>,
    /// The old view, while it has pages of another size than the new one: the transaction at hand changes it.
    resized: Option<Arc<Image>>,
}

impl Pages {
    /// A view of the database file alone, `db_pages` long.
    pub fn new(db: Arc<dyn ReadAt>, wal: Arc<dyn ReadAt>, page_size: u32, db_pages: u32) -> Pages {
        let slots = (CACHE_BYTES / page_size as usize).clamp(*CACHE_SLOTS.start(), *CACHE_SLOTS.end());
        let mut cache = Vec::new();
        cache.resize_with(slots.next_power_of_two(), || None);
        Pages {
            db,
            wal,
            page_size,
            index: FrameTable::default(),
            overlay: FrameTable::default(),
            changed: Vec::new(),
            is_large: false,
            overlaid: 0,
            old_pages: db_pages,
            new_pages: db_pages,
            slots: cache,
            resized: None,
        }
    }

    /// Goes on over another image of the same state, with another log. An image with pages of another size becomes
    /// the old view of the next transaction, which has to write every page.
    pub fn rebase(&mut self, image: Arc<Image>, wal: Arc<dyn ReadAt>, page_size: u32) {
        let pages = image.pages();
        let resized = (image.page_size() != page_size).then(|| Arc::clone(&image));
        *self = Pages::new(image, wal, page_size, pages);
        self.resized = resized;
    }

    /// Whether the transaction at hand changes the size of pages, so that numbers of pages mean nothing across it.
    pub fn is_resized(&self) -> bool {
        self.resized.is_some()
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Pages of the database on `side`.
    pub fn count(&self, side: Side) -> u32 {
        match side {
            Side::Old => self.old_pages,
            Side::New => self.new_pages,
        }
    }

    /// The pages that the transaction wrote and that are in the new view, each once.
    pub fn changed(&self) -> impl Iterator<Item = u32> + '_ {
        let looked_for = self.is_large.then(|| self.overlay.entries().map(|entry| entry.0));
        self.changed.iter().copied().chain(looked_for.into_iter().flatten())
    }

    /// Whether the transaction wrote or cut off `page`.
    #[inline]
    pub fn is_changed(&self, page: u32) -> bool {
        self.overlay.get(page) != 0 || page > self.new_pages || self.resized.is_some()
    }

    /// Puts the frames of the transaction that `scanner` has read on top; `db_pages` is the size it leaves behind.
    pub fn begin(&mut self, scanner: &Scanner, db_pages: u32) -> Result<()> {
        let frames = scanner.pages();
        possible_size(self.old_pages, frames.len(), db_pages, self.page_size)?;
        self.new_pages = db_pages;
        self.is_large = frames.len() > LISTED.0.max(db_pages as usize / LISTED.1);
        for (page, frame) in frames {
            if page <= db_pages {
                if !self.is_large && self.overlay.get(page) == 0 {
                    self.changed.push(page);
                }
                self.overlay.set(page, frame);
            }
        }
        Ok(())
    }

    /// Makes the new view the old one.
    pub fn commit(&mut self) {
        if self.is_large {
            self.overlay.entries().for_each(|(page, frame)| self.index.set(page, frame));
        }
        for &page in &self.changed {
            self.index.set(page, self.overlay.get(page));
            self.overlay.set(page, 0);
        }
        self.overlaid += self.changed.len();
        self.changed.clear();
        if std::mem::take(&mut self.is_large) || self.overlaid > OVERLAID_MAX {
            self.overlay.clear();
            self.overlaid = 0;
        }
        self.old_pages = self.new_pages;
        self.resized = None;
    }

    /// Forgets the pages that the cache has.
    pub fn forget_cached(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }

    /// The log was reset: everything in it stands in the database file now.
    pub fn reset(&mut self, wal: Arc<dyn ReadAt>) {
        self.wal = wal;
        self.index.clear();
        self.forget_cached();
    }

    /// The bytes of `page` on `side`. Frames that `scanner` still has in its buffer are copied from there.
    pub fn get(&mut self, page: u32, side: Side, scanner: &Scanner) -> Result<PageRef> {
        if page == 0 || page > self.count(side) {
            return Err(bad_page(page, "is outside the database but something refers to it"));
        }
        if let (Side::Old, Some(image)) = (side, &self.resized) {
            let mut bytes = vec![0; image.page_size() as usize];
            image.page(page, &mut bytes)?;
            return Ok(Arc::new(bytes));
        }
        let frame = match side {
            Side::New => Some(self.overlay.get(page)).filter(|frame| *frame != 0),
            Side::Old => None,
        };
        let frame = frame.unwrap_or_else(|| self.index.get(page));
        let nth = (page as usize).wrapping_mul(2).wrapping_add(frame as usize & 1) & (self.slots.len() - 1);
        let page_size = self.page_size as usize;
        let Some(slot) = self.slots.get_mut(nth) else {
            return Err(Error::new(crate::error::Class::Bug, "page cache without slots"));
        };
        if let Some(slot) = slot.as_ref().filter(|slot| slot.page == page && slot.frame == frame) {
            return Ok(Arc::clone(&slot.bytes));
        }
        let mut bytes = match slot.take() {
            Some(slot) if Arc::strong_count(&slot.bytes) == 1 => slot.bytes,
            _ => Arc::new(vec![0; page_size]),
        };
        if let Some(buffer) = Arc::get_mut(&mut bytes) {
            read_page(&*self.db, &*self.wal, scanner, page, frame, buffer)?;
        }
        *slot = Some(Slot { page, frame, bytes: Arc::clone(&bytes) });
        Ok(bytes)
    }
}

/// Refuses a size that a transaction of `frames` frames cannot have made of `before` pages. A new page that has no frame was freed again, and a freelist
/// trunk that lists it has one: so it is bounded by what was written. A damaged size must not make tables, or a shadow, of 4 G pages.
pub(super) fn possible_size(before: u32, frames: usize, after: u32, page_size: u32) -> Result<()> {
    let per_trunk = u64::from(page_size / 4) + 2;
    if u64::from(after) > u64::from(before) + frames as u64 * per_trunk {
        return Err(Error::damage(format!("a commit frame claims an impossible size of {after} pages")));
    }
    Ok(())
}

/// A database at one moment, as bytes: a file, and over it frames of a log. Read like the database file itself.
pub struct Image {
    base: Arc<dyn ReadAt>,
    /// Where page 1 begins in `base`.
    base_at: u64,
    log: Arc<dyn ReadAt>,
    frames: FrameTable,
    page_size: u32,
    pages: u32,
}

impl Image {
    /// `pages` pages, of which `base` has those without a frame from byte `base_at` on.
    pub fn new(
        (base, base_at): (Arc<dyn ReadAt>, u64),
        (log, frames): (Arc<dyn ReadAt>, FrameTable),
        page_size: u32,
        pages: u32,
    ) -> Image {
        Image { base, base_at, log, frames, page_size, pages }
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Number of pages.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The pages that are in the log, with their frames.
    pub fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// Reads one page.
    pub fn page(&self, page: u32, buffer: &mut [u8]) -> Result<()> {
        let at = u64::from(page.saturating_sub(1)) * u64::from(self.page_size);
        let got = ReadAt::read_at(self, buffer, at).map_err(|e| Error::io("", e))?;
        if page == 0 || page > self.pages || got < buffer.len() {
            return Err(bad_page(page, "lies beyond the end of its file"));
        }
        Ok(())
    }
}

impl ReadAt for Image {
    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        let size = u64::from(self.page_size);
        let end = u64::from(self.pages) * size;
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..count) else { return Ok(0) };
        if count == 0 {
            return Ok(0);
        }
        let (first, last) = (at / size + 1, (at + count as u64 - 1) / size + 1);
        let in_log = |page: u64| u32::try_from(page).map_or(0, |page| self.frames.get(page));
        // One read of the file for all, unless every page is in the log.
        let mut got = 0;
        if (first..=last).any(|page| in_log(page) == 0) {
            got = self.base.read_at(buf, self.base_at + at)?;
        }
        for page in first..=last {
            let frame = in_log(page);
            let from = (page - 1) * size;
            let (skip, to) = (at.saturating_sub(from), from.saturating_sub(at) as usize);
            let len = (size - skip).min(count as u64 - to as u64) as usize;
            let Some(part) = buf.get_mut(to..to + len) else { break };
            if frame == 0 {
                // A file that is too short has no such page: what follows is not there either.
                if got < to + len {
                    return Ok(got.max(to));
                }
                continue;
            }
            let place = frame_at(self.page_size, frame) + FRAME_HEADER_LEN as u64 + skip;
            let read = self.log.read_at(part, place)?;
            if read < len {
                return Ok(to + read);
            }
            got = got.max(to + len);
        }
        Ok(count)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(u64::from(self.pages) * u64::from(self.page_size))
    }
}

/// Reads one page from the frame, or from the database file when `frame` is 0.
fn read_page(
    db: &dyn ReadAt,
    wal: &dyn ReadAt,
    scanner: &Scanner,
    page: u32,
    frame: u32,
    buffer: &mut [u8],
) -> Result<()> {
    let got = if frame == 0 {
        db.read_at(buffer, u64::from(page - 1) * buffer.len() as u64)
    } else if let Some(bytes) = scanner.buffered_page(frame).filter(|bytes| bytes.len() == buffer.len()) {
        buffer.copy_from_slice(bytes);
        Ok(buffer.len())
    } else {
        wal.read_at(buffer, frame_at(buffer.len() as u32, frame) + FRAME_HEADER_LEN as u64)
    };
    if got.map_err(|e| Error::io("", e))? < buffer.len() {
        return Err(bad_page(page, "lies beyond the end of its file"));
    }
    Ok(())
}
