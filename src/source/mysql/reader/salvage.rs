//! Reading on behind damage ([`crate::source::Options::salvage`]): for those who look at a log, never for those who replicate it.
//!
//! Each problem is kept for [`crate::source::Source::take_problems`]. The group that it hit is discarded. What follows is passed over up to the next event that begins a
//! group: a GTID event in logs that have them, else BEGIN, or whatever comes behind the end of a transaction. There the stream goes on with a `gap` frame, so that
//! nothing passes for contiguous that is not.

use super::{Current, LOOK_AHEAD_BYTES, MySqlSource, Then};
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, FrameWriter};
use crate::source::Problem;
use crate::source::mysql::event::{self, Event, Format, HEADER_LEN, kind};
use crate::source::mysql::query::{Query, Role, role};
use crate::source::mysql::resync::{Search, guess_format};
use crate::source::mysql::table_map::Family;

/// What was found, and whether events are being passed over.
#[derive(Default)]
pub struct Salvage {
    found: Vec<Problem>,
    // The last one, until it is known where reading goes on.
    open: Option<Problem>,
    skipping: bool,
    seen_gtid: bool,
    // The event before ended a transaction.
    behind_end: bool,
}

impl Salvage {
    /// Something is wrong, and a group may be lost with it. What follows is passed over up to the next group.
    pub fn problem(&mut self, error: Error, lost: Option<Coordinate>) {
        self.close(None);
        self.open = Some(Problem { error, lost, to: None });
        self.skipping = true;
        self.behind_end = false;
    }

    /// A file begins: so does a group.
    pub fn new_file(&mut self) {
        self.close(None);
        self.skipping = false;
    }

    /// Reading goes on at this offset of the file, if it is known.
    fn close(&mut self, to: Option<u64>) {
        if let Some(mut problem) = self.open.take() {
            problem.to = to;
            self.found.push(problem);
        }
    }

    /// Whether events are being passed over.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Looks at an event; `true` when reading goes on with it.
    pub fn resumes(&mut self, event: &Event<'_>, format: &Format, query_post_header: usize) -> bool {
        let number = event.header.kind;
        let is_gtid = matches!(number, kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED | kind::MARIADB_GTID);
        self.seen_gtid |= is_gtid;
        let behind_end = std::mem::take(&mut self.behind_end);
        let begins = if self.seen_gtid || always_has_gtids(format) {
            is_gtid
        } else if behind_end {
            true
        } else {
            let sql = if number == kind::QUERY { Query::parse(event.body, query_post_header, 0) } else { None };
            let role = sql.map_or(Role::Other, |query| role(query.sql));
            self.behind_end = number == kind::XID || matches!(role, Role::Commit | Role::Rollback);
            matches!(role, Role::Begin | Role::XaStart)
        };
        if begins {
            self.skipping = false;
            self.close(Some(event.at));
        }
        begins
    }

    /// An event of a log in order was read.
    pub fn saw(&mut self, number: u8) {
        self.seen_gtid |= matches!(number, kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED | kind::MARIADB_GTID);
    }

    /// Everything found since the last call; at the `end` also what is still open.
    pub fn take(&mut self, end: bool) -> Vec<Problem> {
        if end {
            self.close(None);
        }
        std::mem::take(&mut self.found)
    }
}

impl MySqlSource {
    /// Keeps a problem. What is open is lost with it.
    pub(super) fn tell(&mut self, current: &Current, error: Error, out: &mut FrameWriter) {
        let lost = self.decoder.group.is_open().then_some(self.decoder.group.txid);
        self.decoder.lose(error.what(), out);
        self.payload = None;
        if let Some(salvage) = &mut self.salvage {
            salvage.problem(error.in_file(&current.name), lost);
        }
    }

    /// Keeps a problem, and looks for the next event in the file.
    pub(super) fn search(
        &mut self,
        current: &mut Current,
        error: Error,
        out: &mut FrameWriter,
    ) -> Result<Option<Then>> {
        self.tell(current, error, out);
        let (at, relay) = (current.at - current.base, current.relay);
        let bytes = current.data.from(current.at, LOOK_AHEAD_BYTES)?;
        let search = Search { bytes, at, format: &self.decoder.format, relay };
        match search.next(current.encryption.as_mut()) {
            Some(offset) => {
                current.at += offset as u64;
                Ok(None)
            }
            None => Ok(Some(self.leave_file(current, out))),
        }
    }

    /// Nothing more can be read in this file.
    pub(super) fn leave_file(&mut self, current: &Current, out: &mut FrameWriter) -> Then {
        if self.files.is_empty() { self.end(current.in_use, 0, out) } else { Then::Next }
    }

    /// An error that is not of the file's end: of an event whose checksum is right, which can be passed over.
    pub(super) fn recover(&mut self, current: &mut Current, error: Error, out: &mut FrameWriter) -> Result<Then> {
        if !matches!(error.class(), Class::Damage | Class::Gap | Class::Version) || !self.decoder.has_begun() {
            return Err(error);
        }
        let at = error.place().and_then(|place| place.at).unwrap_or(current.at);
        self.tell(current, error, out);
        if at == current.at {
            let header = self.decoder.format.header(current.data.from(current.at, HEADER_LEN)?);
            let Some(size) = header.map(|header| u64::from(header.size)).filter(|size| *size > 0) else {
                return Ok(self.leave_file(current, out));
            };
            current.at += size;
        }
        Ok(Then::Stay(None))
    }

    /// A first event that says that there are no checksums may be one whose size is damaged: then there are some behind it.
    pub(super) fn doubt(&mut self, current: &mut Current, at: u64) -> Result<()> {
        const LOOK_BYTES: usize = 1 << 20;
        let bytes = current.data.from(at, LOOK_BYTES)?;
        let relay = current.probe.as_ref().is_some_and(|probe| probe.relay);
        if guess_format(bytes.get(..LOOK_BYTES).unwrap_or(bytes), relay).checksum {
            return Err(
                Error::damage("format description event is damaged: the events behind it have checksums").at(at)
            );
        }
        Ok(())
    }

    /// The magic number or the first event is damaged. With salvage: what the rest of the file shows is enough to read it.
    pub(super) fn begin_damaged(
        &mut self,
        current: &mut Current,
        error: Error,
        out: &mut FrameWriter,
    ) -> Result<Option<Then>> {
        let damaged = matches!(error.class(), Class::Damage | Class::Torn | Class::Version);
        if self.salvage.is_none() || !damaged {
            return Err(error);
        }
        self.tell(current, error, out);
        let first = current.base + event::FIRST_EVENT_AT;
        let relay = current.probe.as_ref().is_some_and(|probe| probe.relay);
        let bytes = current.data.from(first, LOOK_AHEAD_BYTES)?;
        let format = guess_format(bytes, relay);
        let next = Search { bytes, at: event::FIRST_EVENT_AT, format: &format, relay }.next(None);
        let Some(offset) = next else { return Ok(Some(self.leave_file(current, out))) };
        (current.relay, current.at) = (relay, first);
        self.decoder.reformat(format);
        if !relay {
            self.name_file(current, out)?;
        }
        current.at += offset as u64;
        // Beginning the file has closed what was lost before it: this file's own start is lost too.
        self.decoder.lose("the log's first event is damaged", out);
        Ok(None)
    }
}

/// Whether each group begins with a GTID event: MariaDB since 10.0, MySQL since 5.7.
fn always_has_gtids(format: &Format) -> bool {
    let mut numbers = format.server_version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= if format.family == Family::MariaDb { (10, 0) } else { (5, 7) }
}
