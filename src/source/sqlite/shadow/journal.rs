//! The journal of a shadow: pages that were committed in the source and are not in the shadow's base yet.
//!
//! ```text
//! journal = header (32 bytes) slot*            slot n begins at byte 32 + (n - 1) * (24 + page size)
//! header  = magic 8 | page size u32 | 0 u32 | id u64 | xxh3 of these 24 bytes            (little-endian)
//! slot    = a frame of a log, as in a log: header 24, page       or a mark: page number 0, a text in the page
//! ```
//!
//! A mark begins a segment. A *log* segment goes on with frames of the source's log, byte for byte, so that the log's own
//! checksum chain proves them, and its commit frames are the transactions. A *bridge* segment has made-up frames of
//! the pages that differ across a gap, and is one transaction. Only whole transactions count; whatever follows the last
//! one was torn by a crash, and is cut off. Frames keep the geometry of a log, so that what reads logs reads this too.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::{Standing, Stored};
use crate::error::{Error, Result};
use crate::frame::Coordinate;
use crate::source::sqlite::view::FrameTable;
use crate::source::sqlite::wal::{Checksum, FRAME_HEADER_LEN, HEADER_LEN, Header, Mark, ReadAt, be32, frame_at};
use crate::sys::state::State;
use crate::sys::vfs::{Access, Dir, File};

const MAGIC: [u8; 8] = *b"\x89RLSLOG\n";
/// Kind of the texts of marks.
const MARK: &str = "shadow segment";
/// Bytes read or written at once, at least one slot.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a transaction ends.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its coordinate behind it.
    pub end: Coordinate,
    /// Its last slot.
    pub slot: u32,
    /// Pages of the database after it.
    pub db_pages: u32,
    /// The checksum of its commit frame in the source's log.
    pub checksum: Checksum,
    /// Its segment.
    pub segment: usize,
}

/// Frames of one generation of a log, or of one bridge.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The slot of its mark.
    pub mark_slot: u32,
    /// What its frames' checksums begin with.
    pub header: Header,
    /// The frame before its first, and its checksum.
    pub from: Mark,
    /// Where the source stands before it (a log) or behind it (a bridge).
    pub standing: Standing,
    /// The number of its frames, when it is a bridge.
    pub bridge: Option<u32>,
}

/// See the module's head.
pub struct Journal {
    file: Arc<dyn File>,
    /// Its number, which the shadow's head names.
    pub id: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Segments, oldest first.
    pub segments: Vec<Segment>,
    /// Whole transactions, oldest first.
    pub entries: Vec<Entry>,
    /// Slots up to the end of the last whole transaction.
    slots: u32,
}

/// The journal's file for a shadow called `name`.
pub fn file_name(name: &str, id: u64) -> String {
    format!("{name}-log.{id:016x}")
}

fn io(error: std::io::Error) -> Error {
    Error::io("", error)
}

impl Journal {
    /// Makes an empty journal; durable when this returns and the directory is synced.
    pub fn create(dir: &dyn Dir, name: &str, page_size: u32) -> Result<Journal> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| Error::new(crate::error::Class::Io, format!("no random numbers: {e}")))?;
        let id = u64::from_le_bytes(id);
        let file: Arc<dyn File> = Arc::from(dir.open(&file_name(name, id), Access::Create).map_err(io)?);
        let mut head = Vec::with_capacity(HEADER_LEN);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&page_size.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&id.to_le_bytes());
        head.extend_from_slice(&xxh3_64(&head).to_le_bytes());
        file.write_all_at(&head, 0).map_err(io)?;
        file.sync().map_err(io)?;
        Ok(Journal { file, id, page_size, segments: Vec::new(), entries: Vec::new(), slots: 0 })
    }

    /// Opens a journal and finds its whole transactions. `at` is where the shadow's base stands, `db_pages` its size.
    pub fn open(dir: &dyn Dir, name: &str, id: u64, at: &Standing, db_pages: u32) -> Result<Journal> {
        let file: Arc<dyn File> = Arc::from(dir.open(&file_name(name, id), Access::Write).map_err(io)?);
        let mut head = [0; HEADER_LEN];
        let got = file.read_full_at(&mut head, 0).map_err(io)?;
        let le = |from: usize| head.get(from..from + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let page_size = (le(8) & 0xffff_ffff) as u32;
        let sound = got == HEADER_LEN
            && head.starts_with(&MAGIC)
            && xxh3_64(head.get(..24).unwrap_or_default()) == le(24)
            && le(16) == id
            && page_size.is_power_of_two()
            && (512..=65536).contains(&page_size);
        if !sound {
            return Err(Error::damage("the shadow's journal has no valid header").at(0));
        }
        let mut journal = Journal { file, id, page_size, segments: Vec::new(), entries: Vec::new(), slots: 0 };
        journal.scan(at, db_pages)?;
        journal.cut()?;
        Ok(journal)
    }

    fn slot_len(&self) -> usize {
        self.page_size as usize + FRAME_HEADER_LEN
    }

    /// Byte where slot `slot` begins; slots count from 1.
    fn slot_at(&self, slot: u32) -> u64 {
        frame_at(self.page_size, slot)
    }

    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        self.bytes_to(self.slots)
    }

    /// Bytes up to the end of a slot.
    pub fn bytes_to(&self, slot: u32) -> u64 {
        self.slot_at(slot + 1)
    }

    /// Its file, to read frames from.
    pub fn file(&self) -> Arc<dyn ReadAt> {
        Arc::new(Stored(Arc::clone(&self.file)))
    }

    /// Finds what is whole.
    fn scan(&mut self, at: &Standing, db_pages: u32) -> Result<()> {
        let len = self.slot_len();
        let mut buffer = vec![0; (CHUNK_BYTES / len).max(1) * len];
        let mut slot = 1;
        // Of the segment at hand: the chain, and its frames so far.
        let (mut sum, mut frames) = (Checksum::default(), 0u32);
        let (mut reached, mut pages) = (at.end, db_pages);
        loop {
            let got = self.file.read_full_at(&mut buffer, self.slot_at(slot)).map_err(io)?;
            for bytes in buffer.get(..got).unwrap_or_default().chunks_exact(len) {
                let (head, page) = bytes.split_at(FRAME_HEADER_LEN);
                if be32(head, 0) == 0 {
                    let Some(segment) = self.read_mark(slot, head, page, at) else { return Ok(()) };
                    (sum, frames) = (segment.from.checksum, 0);
                    let (bridge, standing) = (segment.bridge, segment.standing);
                    if bridge.is_none() && standing.end.file() == reached.file() && standing.end != reached {
                        return Ok(());
                    }
                    self.segments.push(segment);
                    if bridge == Some(0) {
                        self.commit(slot, standing.end, pages, standing.checksum);
                        reached = standing.end;
                    }
                } else {
                    let Some(segment) = self.segments.last() else { return Ok(()) };
                    sum = sum.add(head.get(..8).unwrap_or_default(), segment.header.big_endian);
                    sum = sum.add(page, segment.header.big_endian);
                    frames += 1;
                    let of_segment = head.get(8..16) == Some(&segment.header.salt[..]);
                    if !of_segment || sum != Checksum(be32(head, 16), be32(head, 20)) {
                        return Ok(());
                    }
                    let commits = be32(head, 4);
                    if segment.bridge.is_some_and(|count| frames > count || (frames == count) != (commits != 0)) {
                        return Ok(());
                    }
                    if commits != 0 {
                        let (end, checksum) = match segment.bridge {
                            Some(_) => (segment.standing.end, segment.standing.checksum),
                            None => (Coordinate(segment.standing.end.0 + u64::from(frames)), sum),
                        };
                        self.commit(slot, end, commits, checksum);
                        (reached, pages) = (end, commits);
                    }
                }
                slot += 1;
            }
            if got < buffer.len() {
                return Ok(());
            }
        }
    }

    fn commit(&mut self, slot: u32, end: Coordinate, db_pages: u32, checksum: Checksum) {
        self.slots = slot;
        self.entries.push(Entry { end, slot, db_pages, checksum, segment: self.segments.len().saturating_sub(1) });
    }

    /// Forgets what follows the last whole transaction, in memory and in the file.
    fn cut(&mut self) -> Result<()> {
        let keep = self.entries.last().map_or(0, |entry| entry.segment + 1);
        self.segments.truncate(keep);
        self.file.set_len(self.slot_at(self.slots + 1)).map_err(io)
    }

    /// Takes back everything behind the first `entries` transactions.
    pub fn retract(&mut self, entries: usize) -> Result<()> {
        self.entries.truncate(entries);
        self.slots = self.entries.last().map_or(0, |entry| entry.slot);
        self.cut()
    }

    /// Where the source stands behind transaction `nth`.
    pub fn standing(&self, nth: usize) -> Option<Standing> {
        let entry = self.entries.get(nth)?;
        let segment = self.segments.get(entry.segment)?;
        Some(match segment.bridge {
            Some(_) => segment.standing,
            None => Standing { end: entry.end, checksum: entry.checksum, ..segment.standing },
        })
    }

    fn read_mark(&self, slot: u32, head: &[u8], page: &[u8], at: &Standing) -> Option<Segment> {
        let mut hashed = self.id.to_le_bytes().to_vec();
        hashed.extend_from_slice(&slot.to_le_bytes());
        hashed.extend_from_slice(page);
        if head.get(16..24)? != xxh3_64(&hashed).to_be_bytes() {
            return None;
        }
        let len = usize::from(u16::from_le_bytes(page.get(..2)?.try_into().ok()?));
        let state = State::from_text(MARK, std::str::from_utf8(page.get(2..2 + len)?).ok()?).ok()?;
        let standing = Standing::read(&state, at.server).ok()?;
        let bridge = match state.get("bridge") {
            Some(frames) => Some(frames.parse().ok()?),
            None => None,
        };
        Some(self.segment(slot, standing, bridge, state.get("big") == Some("1")))
    }

    fn segment(&self, mark_slot: u32, standing: Standing, bridge: Option<u32>, big_endian: bool) -> Segment {
        let own = (self.id >> 32) as u32 ^ mark_slot;
        let (salt, from) = match bridge {
            Some(_) => (self.id.to_be_bytes(), Mark { frame: 0, checksum: Checksum(own, self.id as u32) }),
            None => (standing.salt, Mark { frame: standing.frame(), checksum: standing.checksum }),
        };
        let header = Header { big_endian, page_size: self.page_size, sequence: 0, salt, checksum: from.checksum };
        Segment { mark_slot, header, from, standing, bridge }
    }

    fn write_mark(&self, segment: &Segment) -> Result<()> {
        let mut state = State::new();
        segment.standing.write(&mut state);
        if segment.header.big_endian {
            state.set("big", 1);
        }
        if let Some(frames) = segment.bridge {
            state.set("bridge", frames);
        }
        let text = state.to_text(MARK);
        let mut bytes = vec![0; self.slot_len()];
        let (head, page) = bytes.split_at_mut(FRAME_HEADER_LEN);
        for (to, from) in page.iter_mut().zip((text.len() as u16).to_le_bytes().into_iter().chain(text.bytes())) {
            *to = from;
        }
        let mut hashed = self.id.to_le_bytes().to_vec();
        hashed.extend_from_slice(&segment.mark_slot.to_le_bytes());
        hashed.extend_from_slice(page);
        if let Some(hash) = head.get_mut(16..24) {
            hash.copy_from_slice(&xxh3_64(&hashed).to_be_bytes());
        }
        self.file.write_all_at(&bytes, self.slot_at(segment.mark_slot)).map_err(io)
    }

    /// Copies frames of the source's log, those behind `from` up to frame `to`, which commits. `standing` is where the source is at
    /// `from`. Returns `false`, and has taken nothing, when the log does not hold them. Durable only after [`Journal::sync`].
    pub fn append_log(&mut self, wal: &dyn ReadAt, header: &Header, standing: Standing, to: u32) -> Result<bool> {
        let before = self.entries.len();
        let follows = self.segments.last().is_some_and(|last| {
            last.bridge.is_none()
                && last.header.salt == header.salt
                && self.entries.last().is_some_and(|entry| entry.end == standing.end)
        });
        let mut slot = self.slots + 1;
        if !follows {
            let segment = self.segment(slot, standing, None, header.big_endian);
            self.write_mark(&segment)?;
            self.segments.push(segment);
            slot += 1;
        }
        let len = self.slot_len();
        let mut buffer = vec![0; (CHUNK_BYTES / len).max(1) * len];
        let (mut frame, mut sum) = (standing.frame(), standing.checksum);
        while frame < to {
            let count = ((to - frame) as usize).min(buffer.len() / len);
            let chunk = buffer.get_mut(..count * len).unwrap_or_default();
            let got = wal.read_at(chunk, frame_at(self.page_size, frame + 1)).map_err(io)?;
            let first = slot;
            let mut sound = got == chunk.len();
            for bytes in chunk.chunks_exact(len) {
                let (head, page) = bytes.split_at(FRAME_HEADER_LEN);
                sum = sum.add(head.get(..8).unwrap_or_default(), header.big_endian).add(page, header.big_endian);
                sound &= head.get(8..16) == Some(&header.salt[..]) && be32(head, 0) != 0;
                sound &= sum == Checksum(be32(head, 16), be32(head, 20));
                if !sound {
                    break;
                }
                frame += 1;
                let commits = be32(head, 4);
                if commits != 0 {
                    let end = Coordinate(standing.end.0 + u64::from(frame - standing.frame()));
                    self.commit(slot, end, commits, sum);
                }
                slot += 1;
            }
            if !sound {
                self.retract(before)?;
                return Ok(false);
            }
            self.file.write_all_at(chunk, self.slot_at(first)).map_err(io)?;
        }
        if slot > self.slots + 1 {
            // The last frame does not commit: not what was asked for.
            self.retract(before)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Starts a bridge.
    pub fn bridge(&mut self, to: Standing) -> Bridge<'_> {
        let segment = self.segment(self.slots + 1, to, Some(0), false);
        let sum = segment.from.checksum;
        Bridge { buffer: Vec::new(), first: self.slots + 2, sum, frames: 0, held: None, segment, journal: self }
    }

    /// Makes what was appended durable.
    pub fn sync(&self) -> Result<()> {
        self.file.sync().map_err(io)
    }

    /// The last slot of each page in the first `entries` transactions.
    pub fn frames(&self, entries: usize) -> Result<FrameTable> {
        let mut table = FrameTable::default();
        let last = entries.checked_sub(1).and_then(|nth| self.entries.get(nth)).map_or(0, |entry| entry.slot);
        let mut number = [0; 4];
        for slot in 1..=last {
            self.file.read_full_at(&mut number, self.slot_at(slot)).map_err(io)?;
            let page = u32::from_be_bytes(number);
            if page != 0 {
                table.set(page, slot);
            }
        }
        Ok(table)
    }

    /// The page of a slot.
    pub fn page(&self, slot: u32, out: &mut [u8]) -> Result<()> {
        let got = self.file.read_full_at(out, self.slot_at(slot) + FRAME_HEADER_LEN as u64).map_err(io)?;
        if got < out.len() {
            return Err(Error::damage("the shadow's journal has become shorter").at(self.slot_at(slot)));
        }
        Ok(())
    }

    /// Makes a journal of what follows the first `entries` transactions.
    pub fn rest(&self, dir: &dyn Dir, name: &str, entries: usize, at: Standing) -> Result<Journal> {
        let mut rest = Journal::create(dir, name, self.page_size)?;
        let (mut from, mut standing) = (entries, at);
        while let Some(first) = self.entries.get(from) {
            let count = self.entries.get(from..).unwrap_or_default().iter();
            let count = count.take_while(|entry| entry.segment == first.segment).count();
            let (Some(segment), Some(last)) = (self.segments.get(first.segment), self.entries.get(from + count - 1))
            else {
                break;
            };
            let slot = rest.slots + 1;
            match segment.bridge {
                Some(frames) => {
                    // Its frames' checksums begin with the journal's number: they are made anew.
                    let mut bridge = rest.bridge(segment.standing);
                    let mut page = vec![0; self.page_size as usize];
                    for nth in 1..=frames {
                        let mut number = [0; 4];
                        let at = segment.mark_slot + nth;
                        self.file.read_full_at(&mut number, self.slot_at(at)).map_err(io)?;
                        self.page(at, &mut page)?;
                        bridge.add(u32::from_be_bytes(number), &page)?;
                    }
                    bridge.finish(last.db_pages)?;
                }
                None => {
                    // The first one may have to begin in the middle of a segment.
                    let cut = from.checked_sub(1).and_then(|nth| self.entries.get(nth));
                    let (part, before) = match cut.filter(|cut| cut.segment == first.segment) {
                        Some(cut) => {
                            let mark = Mark { frame: standing.frame(), checksum: standing.checksum };
                            (Segment { mark_slot: slot, from: mark, standing, ..segment.clone() }, cut.slot)
                        }
                        None => (Segment { mark_slot: slot, ..segment.clone() }, segment.mark_slot),
                    };
                    rest.write_mark(&part)?;
                    rest.segments.push(part);
                    let shift = slot as i64 - i64::from(before);
                    self.copy_slots(before + 1, last.slot, &rest, slot + 1)?;
                    for entry in self.entries.get(from..from + count).unwrap_or_default() {
                        let slot = (i64::from(entry.slot) + shift) as u32;
                        rest.commit(slot, entry.end, entry.db_pages, entry.checksum);
                    }
                }
            }
            standing = self.standing(from + count - 1).unwrap_or(standing);
            from += count;
        }
        rest.sync()?;
        Ok(rest)
    }

    fn copy_slots(&self, from: u32, to: u32, into: &Journal, at: u32) -> Result<()> {
        let len = self.slot_len();
        let mut buffer = vec![0; (CHUNK_BYTES / len).max(1) * len];
        let mut slot = from;
        while slot <= to {
            let count = ((to - slot + 1) as usize).min(buffer.len() / len);
            let chunk = buffer.get_mut(..count * len).unwrap_or_default();
            if self.file.read_full_at(chunk, self.slot_at(slot)).map_err(io)? < chunk.len() {
                return Err(Error::damage("the shadow's journal has become shorter").at(self.slot_at(slot)));
            }
            into.file.write_all_at(chunk, into.slot_at(at + (slot - from))).map_err(io)?;
            slot += count as u32;
        }
        Ok(())
    }
}

/// A bridge that is being written.
pub struct Bridge<'a> {
    journal: &'a mut Journal,
    segment: Segment,
    buffer: Vec<u8>,
    /// Slot of the first frame in the buffer.
    first: u32,
    sum: Checksum,
    frames: u32,
    /// The last frame, which will have to commit: its page number and page.
    held: Option<(u32, Vec<u8>)>,
}

impl Bridge<'_> {
    /// Adds a page that differs.
    pub fn add(&mut self, page: u32, bytes: &[u8]) -> Result<()> {
        let mut reused = Vec::new();
        if let Some((number, held)) = self.held.take() {
            self.frame(number, 0, &held)?;
            reused = held;
        }
        reused.clear();
        reused.extend_from_slice(bytes);
        self.held = Some((page, reused));
        Ok(())
    }

    fn frame(&mut self, number: u32, db_pages: u32, page: &[u8]) -> Result<()> {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&number.to_be_bytes());
        head[4..].copy_from_slice(&db_pages.to_be_bytes());
        self.sum = self.sum.add(&head, false).add(page, false);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(&self.segment.header.salt);
        self.buffer.extend_from_slice(&self.sum.0.to_be_bytes());
        self.buffer.extend_from_slice(&self.sum.1.to_be_bytes());
        self.buffer.extend_from_slice(page);
        self.frames += 1;
        if self.buffer.len() >= CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.journal.file.write_all_at(&self.buffer, self.journal.slot_at(self.first)).map_err(io)?;
        self.first += (self.buffer.len() / self.journal.slot_len()) as u32;
        self.buffer.clear();
        Ok(())
    }

    /// Whether no page was added.
    pub fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// Ends it: the database has `db_pages` pages now. Durable only after [`Journal::sync`]. Returns how many pages differ.
    pub fn finish(mut self, db_pages: u32) -> Result<u32> {
        if let Some((number, page)) = self.held.take() {
            self.frame(number, db_pages, &page)?;
        }
        self.write()?;
        let Bridge { journal, mut segment, frames, .. } = self;
        segment.bridge = Some(frames);
        journal.write_mark(&segment)?;
        let (slot, standing) = (segment.mark_slot + frames, segment.standing);
        journal.segments.push(segment);
        journal.commit(slot, standing.end, db_pages, standing.checksum);
        Ok(frames)
    }
}
