//! A shadow: the database as it was at the position last confirmed, so that no gap in the source's log loses a change.
//!
//! ```text
//! FILE               two heads of 4096 bytes, the valid one with the greater number counts; from byte 8192 on, the pages
//! FILE-log.NUMBER    the journal: pages committed since, transaction by transaction ([`journal`]); the head names it
//! FILE-lock          the lock; never removed
//!
//! base --------------- confirmed ---------------- tail
//!  |  journal: folded when large |  journal: told, |
//!  |                             |  not confirmed  |
//! ```
//!
//! A transaction is in the journal, durably, before its commit is handed to the output. So whatever downstream may confirm
//! is somewhere between base and tail, and [`Shadow::settle`] brings the base there. What lies behind it up to the tail
//! is told again from here, exactly as before ([`Shadow::replay`]), and only at the tail the source is asked:
//! its log goes on from there (its salts and the checksums of that very frame prove it), or the pages that differ
//! become one more entry of the journal, a *bridge*, which is told as a merged transaction.
//!
//! ```text
//! append:  frames -> journal; sync                                                   then they may be told
//! fold:    head (folding to X); sync -> pages -> base; sync -> rest -> new journal; sync -> head (at X, new journal); sync
//! crash:   before the head says "folding": nothing has happened; after: folding is done again, the journal still has it all
//! ```
//!
//! Assumes: a head of 512 bytes within one sector is written whole or not at all, or its checksum does not fit.

mod journal;
mod replay;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::journal::Journal;
use super::events::digest_of;
use super::shm::WalIndex;
use super::view::{FrameTable, Image};
use super::wal::{Checksum, Header, ReadAt, be32, frame_at, read_header};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, Incarnation, Position, PositionSpec};
use crate::sys::Os;
use crate::sys::state::{State, TEMP_PREFIX};
use crate::sys::vfs::{self, Access, Dir, File, Lock, Vfs as _};

/// Kind of the heads' texts.
const HEAD: &str = "shadow";
/// Bytes of a head.
const HEAD_BYTES: usize = 4096;
/// Where page 1 begins.
const PAGES_AT: u64 = 2 * HEAD_BYTES as u64;
/// Bytes copied or compared at once.
const CHUNK_BYTES: usize = 1 << 20;
/// How long another run's lock is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// A journal of more bytes is folded as far as it is confirmed.
const FOLD_BYTES: u64 = 16 << 20;

/// A file of the file system seam, to read at an offset.
struct Stored(Arc<dyn File>);

impl ReadAt for Stored {
    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.0.read_full_at(buf, at)
    }

    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
}

/// Where a source stands, with all that proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The coordinate behind the last transaction; its file number is the generation, its offset the next frame.
    pub end: Coordinate,
    /// Hash of the database file's device and inode.
    pub server: u32,
    /// Salts of the log; zeros where there is none.
    pub salt: [u8; 8],
    /// Stored checksum pair of the last frame; of the log's header when there is no frame yet.
    pub checksum: Checksum,
}

impl Standing {
    /// The last frame; 0 at the start of a log.
    pub fn frame(&self) -> u32 {
        u32::try_from(self.end.offset().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// A coordinate in the generation that follows.
    pub fn next_generation(&self, offset: u64) -> Result<Coordinate> {
        Coordinate::new(self.end.file() + 1, offset)
            .ok_or_else(|| Error::new(Class::Bug, "no further generation can be numbered"))
    }

    /// First salt of the log, which stands in positions.
    pub fn stamp(&self) -> u32 {
        be32(&self.salt, 0)
    }

    /// Whether `log`, of which `index` tells how far it is committed, holds this very frame: then it goes on from here.
    pub fn is_held_by(&self, log: &dyn ReadAt, index: &WalIndex) -> Result<bool> {
        // Without salts nothing tells one empty log from another that was filled and removed in between.
        if self.salt == [0; 8] || index.salt != self.salt || self.frame() > index.frames {
            return Ok(false);
        }
        if self.frame() == 0 && index.frames == 0 {
            return Ok(true);
        }
        let Some(header) = read_header(log)?.filter(|header| header.salt == self.salt) else { return Ok(false) };
        if self.frame() == 0 {
            return Ok(self.checksum == Checksum::default() || self.checksum == header.checksum);
        }
        let mut bytes = [0; 8];
        let at = frame_at(header.page_size, self.frame()) + 16;
        let got = log.read_at(&mut bytes, at).map_err(|e| Error::io("", e))?;
        Ok(got == 8 && Checksum(be32(&bytes, 0), be32(&bytes, 4)) == self.checksum)
    }

    /// As a position without a transaction.
    pub fn position(&self) -> Position {
        Position {
            txid: self.end,
            end: self.end,
            incarnation: Incarnation::new(self.server, self.stamp()),
            digest: digest_of(self.checksum),
            ..Position::default()
        }
    }

    fn write(&self, state: &mut State) {
        let salt = u64::from_be_bytes(self.salt);
        let checksum = u64::from(self.checksum.0) << 32 | u64::from(self.checksum.1);
        state.set("end", self.end).set("server", format!("{:08x}", self.server));
        state.set("salt", format!("{salt:016x}")).set("checksum", format!("{checksum:016x}"));
    }

    /// Reads what [`Standing::write`] wrote; `server` where it does not say.
    fn read(state: &State, server: u32) -> Result<Standing> {
        let salt = hex(state, "salt")?;
        let checksum = hex(state, "checksum")?;
        let server = match state.get("server") {
            Some(_) => hex(state, "server")? as u32,
            None => server,
        };
        Ok(Standing {
            end: state.parse("end")?,
            server,
            salt: salt.to_be_bytes(),
            checksum: Checksum((checksum >> 32) as u32, checksum as u32),
        })
    }
}

fn hex(state: &State, name: &str) -> Result<u64> {
    let text: String = state.parse(name)?;
    u64::from_str_radix(&text, 16).map_err(|_| Error::damage(format!("the shadow's `{name}` is invalid")))
}

#[derive(Clone, Debug)]
struct Head {
    number: u64,
    at: Standing,
    page_size: u32,
    pages: u32,
    journal: u64,
    /// Where to, while pages are being written into the base.
    folding: Option<Coordinate>,
}

impl Head {
    fn text(&self) -> String {
        let mut state = State::new();
        state.set("number", self.number);
        self.at.write(&mut state);
        state
            .set("page-size", self.page_size)
            .set("pages", self.pages)
            .set("journal", format!("{:016x}", self.journal));
        if let Some(to) = self.folding {
            state.set("folding", to);
        }
        state.to_text(HEAD)
    }

    fn parse(bytes: &[u8]) -> Result<Head> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| Error::damage("the shadow's head is damaged"))?;
        let state = State::from_text(HEAD, text)?;
        Ok(Head {
            number: state.parse("number")?,
            at: Standing::read(&state, 0)?,
            page_size: state.parse("page-size")?,
            pages: state.parse("pages")?,
            journal: hex(&state, "journal")?,
            folding: state.get("folding").map(|_| state.parse("folding")).transpose()?,
        })
    }
}

/// Where a shadow is: its directory, its name there, and its lock, which is held for as long as this or a copy of it lives.
#[derive(Clone)]
pub struct Home {
    dir: Arc<dyn Dir>,
    name: String,
    _lock: Arc<Lock>,
}

impl Home {
    /// The place of the file `path`.
    pub fn at(path: &Path) -> Result<Home> {
        let shown = path.display().to_string();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::usage(format!("--shadow: `{shown}` is no name of a file")))?;
        let dir = Os.open_dir(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
        Home::within(dir, name)
    }

    /// The file `name` of `dir`.
    pub fn within(dir: Arc<dyn Dir>, name: &str) -> Result<Home> {
        let lock = vfs::lock(&*dir, &format!("{name}-lock"), LOCK_WAIT);
        let lock = lock.map_err(|e| Error::io(name, e).with_class(Class::CannotCreate))?.ok_or_else(|| {
            Error::new(Class::TryAgain, "another rlog-extract uses this shadow")
                .in_file(name)
                .hint("one shadow serves one channel; wait for the other to end")
        })?;
        Ok(Home { dir, name: name.to_owned(), _lock: Arc::new(lock) })
    }
}

/// See the module's head.
pub struct Shadow {
    home: Home,
    base: Arc<dyn File>,
    head: Head,
    journal: Journal,
}

fn io(error: std::io::Error) -> Error {
    Error::io("", error)
}

/// Reads pages from `first` on; what the file is too short for is zeros, as a page that was never written.
fn read_pages(image: &Image, first: u32, buffer: &mut [u8]) -> Result<()> {
    let size = image.page_size() as usize;
    let at = u64::from(first - 1) * size as u64;
    let mut got = image.read_at(buffer, at).map_err(io)?;
    while got < buffer.len() {
        // Behind a page that is not there others may be, in the log.
        let page = got / size * size;
        let rest = buffer.len().min(page + size);
        buffer.get_mut(got..rest).unwrap_or_default().fill(0);
        let Some(more) = buffer.get_mut(rest..).filter(|more| !more.is_empty()) else { break };
        got = rest + image.read_at(more, at + rest as u64).map_err(io)?;
    }
    Ok(())
}

impl Shadow {
    /// The shadow of an earlier run, and from where reading goes on: behind what is confirmed, or if nothing is yet, from the base. For what was
    /// handed over by a run that died may still arrive; so nothing is begun anew unless that is asked for (`anew`).
    pub fn resume(home: &Home, after: Option<&PositionSpec>, anew: bool) -> Result<Option<(Shadow, Position)>> {
        let confirmed = match after {
            Some(PositionSpec::Position(position)) => Some(position.clone()),
            None if !anew => None,
            _ => return Ok(None),
        };
        Ok(Shadow::open(home)?.map(|shadow| {
            let from = confirmed.unwrap_or_else(|| shadow.base().position());
            (shadow, from)
        }))
    }

    /// Opens a shadow and finishes what a crash interrupted; `None` when there is no such file.
    pub fn open(home: &Home) -> Result<Option<Shadow>> {
        let Home { dir, name, .. } = home;
        let base: Arc<dyn File> = match dir.open(name, Access::Write) {
            Ok(base) => Arc::from(base),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(name, error)),
        };
        let mut heads = vec![0; 2 * HEAD_BYTES];
        base.read_full_at(&mut heads, 0).map_err(io)?;
        let (first, second) = heads.split_at(HEAD_BYTES);
        let head = match (Head::parse(first), Head::parse(second)) {
            (Ok(a), Ok(b)) => [a, b].into_iter().max_by_key(|head| head.number),
            (Ok(head), Err(error)) | (Err(error), Ok(head)) if error.class() != Class::Version => Some(head),
            (Err(error), _) | (_, Err(error)) if error.class() == Class::Version => return Err(error.in_file(name)),
            _ => None,
        };
        let head = head.ok_or_else(|| Error::damage("this is no shadow of rlog, or both its heads are damaged").at(0));
        let head = head.map_err(|error: Error| error.in_file(name))?;
        let journal = Journal::open(&**dir, name, head.journal, &head.at, head.pages).map_err(|error| {
            let missing = error.class() == Class::NoInput;
            let error = if missing { Error::damage("the shadow's journal is missing") } else { error };
            error.in_file(journal::file_name(name, head.journal))
        })?;
        let mut shadow = Shadow { home: home.clone(), base, head, journal };
        shadow.remove_others()?;
        if let Some(to) = shadow.head.folding {
            let count = shadow.journal.entries.iter().position(|entry| entry.end == to).map(|nth| nth + 1);
            let lost = || Error::damage("the journal has lost what was being written into the shadow").in_file(name);
            shadow.fold_first(count.ok_or_else(lost)?)?;
        }
        Ok(Some(shadow))
    }

    /// Makes the shadow anew: `image` is the source at `at`. An earlier one stays until the new one is whole.
    pub fn create(home: &Home, image: &Image, at: Standing) -> Result<Shadow> {
        let Home { dir, name, .. } = home;
        let journal = Journal::create(&**dir, name, image.page_size())?;
        let head = Head {
            number: 1,
            at,
            page_size: image.page_size(),
            pages: image.pages(),
            journal: journal.id,
            folding: None,
        };
        let temp = format!("{TEMP_PREFIX}{name}.{}", std::process::id());
        let base: Arc<dyn File> = match dir.open(&temp, Access::Create) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                dir.remove(&temp).map_err(io)?;
                Arc::from(dir.open(&temp, Access::Create).map_err(io)?)
            }
            other => Arc::from(other.map_err(|e| Error::io(name, e).with_class(Class::CannotCreate))?),
        };
        let size = image.page_size() as usize;
        let mut buffer = vec![0; (CHUNK_BYTES / size).max(1) * size];
        let mut page = 1;
        while page <= image.pages() {
            let count = ((image.pages() - page + 1) as usize).min(buffer.len() / size);
            let chunk = buffer.get_mut(..count * size).unwrap_or_default();
            read_pages(image, page, chunk)?;
            // Holes stay holes.
            if chunk.iter().any(|byte| *byte != 0) {
                base.write_all_at(chunk, PAGES_AT + u64::from(page - 1) * size as u64).map_err(io)?;
            }
            page += count as u32;
        }
        base.set_len(PAGES_AT + u64::from(image.pages()) * size as u64).map_err(io)?;
        base.write_all_at(head.text().as_bytes(), 0).map_err(io)?;
        base.sync().map_err(io)?;
        dir.sync().map_err(io)?;
        dir.rename(&temp, name).map_err(io)?;
        dir.sync().map_err(io)?;
        let shadow = Shadow { home: home.clone(), base, head, journal };
        shadow.remove_others()?;
        Ok(shadow)
    }

    /// Removes journals that the head does not name.
    fn remove_others(&self) -> Result<()> {
        let own = journal::file_name(&self.home.name, self.head.journal);
        let (journals, temp) = (format!("{}-log.", self.home.name), format!("{TEMP_PREFIX}{}.", self.home.name));
        for name in self.home.dir.list().map_err(io)? {
            if (name.starts_with(&journals) && name != own) || name.starts_with(&temp) {
                self.home.dir.remove(&name).map_err(io)?;
            }
        }
        Ok(())
    }

    fn write_head(&mut self) -> Result<()> {
        self.head.number += 1;
        let mut bytes = self.head.text().into_bytes();
        bytes.resize(HEAD_BYTES, 0);
        let slot = (self.head.number + 1) % 2;
        self.base.write_all_at(&bytes, slot * HEAD_BYTES as u64).map_err(io)?;
        self.base.sync().map_err(io)
    }

    /// Where its base stands.
    pub fn base(&self) -> Standing {
        self.head.at
    }

    /// Where the last transaction ends that it has.
    pub fn tail(&self) -> Standing {
        self.journal.entries.len().checked_sub(1).and_then(|last| self.journal.standing(last)).unwrap_or(self.head.at)
    }

    /// Bytes of the journal.
    pub fn journal_bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// How many transactions end at or before `end`, if one of them ends there, or the base does.
    fn entries_to(&self, end: Coordinate) -> Option<usize> {
        if end == self.head.at.end {
            return Some(0);
        }
        self.journal.entries.iter().position(|entry| entry.end == end).map(|nth| nth + 1)
    }

    /// The database behind the first `entries` transactions.
    fn image(&self, entries: usize) -> Result<Image> {
        let last = entries.checked_sub(1).and_then(|nth| self.journal.entries.get(nth));
        let (page_size, pages) = match last {
            Some(entry) => (self.journal.page_size, entry.db_pages),
            None => (self.head.page_size, self.head.pages),
        };
        let base: Arc<dyn ReadAt> = Arc::new(Stored(Arc::clone(&self.base)));
        let frames = if entries == 0 { FrameTable::default() } else { self.journal.frames(entries)? };
        Ok(Image::new((base, PAGES_AT), (self.journal.file(), frames), page_size, pages))
    }

    /// The database as it was at the base.
    pub fn base_image(&self) -> Result<Image> {
        self.image(0)
    }

    /// Brings the base to `confirmed`, which has to be something that was told.
    pub fn settle(&mut self, confirmed: &Position) -> Result<()> {
        let (base, tail) = (self.head.at, self.tail());
        if confirmed.end < base.end {
            return Err(Error::new(
                Class::Gap,
                format!("the shadow stands at {}, behind {confirmed}, from where reading has to go on", base.end),
            )
            .in_file(&self.home.name)
            .hint("what is confirmed was taken back (a queue restored or removed?): start anew with --resnapshot"));
        }
        let count = self.entries_to(confirmed.end).ok_or_else(|| {
            Error::new(
                Class::Gap,
                format!("the shadow reaches from {} to {} and knows nothing of {confirmed}", base.end, tail.end),
            )
            .in_file(&self.home.name)
            .hint("it was not kept by every run since: remove it to begin a new one, if the log still holds the position, or start anew with --resnapshot")
        })?;
        let standing = count.checked_sub(1).map_or(Some(base), |nth| self.journal.standing(nth)).unwrap_or(base);
        let other = confirmed.digest != 0 && confirmed.digest != digest_of(standing.checksum);
        if other || confirmed.incarnation.server() != standing.server {
            return Err(Error::new(
                Class::Identity,
                format!("the shadow's state at {} is not that of {confirmed}", standing.end),
            )
            .in_file(&self.home.name)
            .hint("each channel has a shadow of its own; start anew with --resnapshot"));
        }
        if count > 0 { self.fold_first(count) } else { Ok(()) }
    }

    /// How many transactions are worth being written into the base now: the journal has become large, and they are confirmed.
    pub fn relievable(&self, confirmed: Coordinate) -> Option<usize> {
        if self.journal.bytes() <= FOLD_BYTES {
            return None;
        }
        let count = self.journal.entries.iter().take_while(|entry| entry.end <= confirmed).count();
        let last = count.checked_sub(1).and_then(|nth| self.journal.entries.get(nth))?;
        // What is left is copied: at most as much as goes.
        (self.journal.bytes_to(last.slot) * 2 >= self.journal.bytes()).then_some(count)
    }

    /// Writes what is confirmed into the base, if the journal has become large.
    pub fn relieve(&mut self, confirmed: Coordinate) -> Result<()> {
        self.relievable(confirmed).map_or(Ok(()), |count| self.fold_first(count))
    }

    /// Writes the first `count` transactions into the base.
    fn fold_first(&mut self, count: usize) -> Result<()> {
        let bug = || Error::new(Class::Bug, "the shadow's journal does not have what is to be folded");
        let at = self.journal.standing(count - 1).ok_or_else(bug)?;
        let pages = self.journal.entries.get(count - 1).ok_or_else(bug)?.db_pages;
        if self.head.folding != Some(at.end) {
            self.head.folding = Some(at.end);
            self.write_head()?;
        }
        let size = self.journal.page_size;
        let mut buffer = vec![0; size as usize];
        for (page, slot) in self.journal.frames(count)?.entries().filter(|(page, _)| *page <= pages) {
            self.journal.page(slot, &mut buffer)?;
            self.base.write_all_at(&buffer, PAGES_AT + u64::from(page - 1) * u64::from(size)).map_err(io)?;
        }
        self.base.set_len(PAGES_AT + u64::from(pages) * u64::from(size)).map_err(io)?;
        self.base.sync().map_err(io)?;
        let rest = self.journal.rest(&*self.home.dir, &self.home.name, count, at)?;
        self.home.dir.sync().map_err(io)?;
        let before = self.head.journal;
        self.head = Head { at, page_size: size, pages, journal: rest.id, folding: None, number: self.head.number };
        self.write_head()?;
        self.journal = rest;
        // What a crash leaves of it is removed by the next run.
        self.home.dir.remove(&journal::file_name(&self.home.name, before)).map_err(io)
    }

    /// Takes the frames of the source's log behind `standing` up to frame `to`, durably. `false`: the log does not hold them (any more).
    pub fn record(&mut self, log: &dyn ReadAt, header: &Header, standing: Standing, to: u32) -> Result<bool> {
        if header.page_size != self.journal.page_size {
            return Ok(false);
        }
        if to == standing.frame() {
            return Ok(true);
        }
        let taken = self.journal.append_log(log, header, standing, to)?;
        if taken {
            self.journal.sync()?;
        }
        Ok(taken)
    }

    /// Where the journal ends, to come back to.
    pub fn mark(&self) -> usize {
        self.journal.entries.len()
    }

    /// Takes back what was taken since `mark`.
    pub fn retract(&mut self, mark: usize) -> Result<()> {
        self.journal.retract(mark)
    }

    /// Takes the difference between its own last state and `now`, where the source stands at `to`, durably, as one transaction.
    /// Returns how many pages differ; `None`: the size of pages has changed while something is not confirmed yet.
    pub fn bridge(&mut self, now: &Image, to: Standing) -> Result<Option<u32>> {
        let before = self.image(self.journal.entries.len())?;
        if now.pages() == 0 && before.pages() > 0 {
            return Err(
                Error::damage("the database has become empty").hint("start anew with a snapshot (--resnapshot)")
            );
        }
        let resized = before.page_size() != now.page_size() && now.pages() > 0;
        if resized {
            if !self.journal.entries.is_empty() {
                return Ok(None);
            }
            let journal = Journal::create(&*self.home.dir, &self.home.name, now.page_size())?;
            self.home.dir.sync().map_err(io)?;
            self.head.journal = journal.id;
            self.journal = journal;
            self.write_head()?;
            self.remove_others()?;
        }
        let size = if resized { now.page_size() } else { before.page_size() } as usize;
        let per_chunk = (CHUNK_BYTES / size).max(1);
        let (mut old, mut new) = (vec![0; per_chunk * size], vec![0; per_chunk * size]);
        let mut bridge = self.journal.bridge(to);
        let mut page = 1;
        while page <= now.pages() {
            let count = ((now.pages() - page + 1) as usize).min(per_chunk);
            let new = new.get_mut(..count * size).unwrap_or_default();
            read_pages(now, page, new)?;
            let shared =
                if resized { 0 } else { before.pages().saturating_add(1).saturating_sub(page) as usize }.min(count);
            let old = old.get_mut(..shared * size).unwrap_or_default();
            if shared > 0 {
                read_pages(&before, page, old)?;
            }
            if shared < count || old != new {
                for (nth, bytes) in new.chunks_exact(size).enumerate() {
                    if old.get(nth * size..(nth + 1) * size) != Some(bytes) {
                        bridge.add(page + nth as u32, bytes)?;
                    }
                }
            }
            page += count as u32;
        }
        if bridge.is_empty() && now.pages() != before.pages() && now.pages() > 0 {
            // A size without a page that says so: page 1 carries it.
            let first = new.get_mut(..size).unwrap_or_default();
            read_pages(now, 1, first)?;
            bridge.add(1, first)?;
        }
        let differing = bridge.finish(now.pages())?;
        self.journal.sync()?;
        Ok(Some(differing))
    }
}
