//! The events of binary and relay logs: every byte of each, the fields of its header and data, and whether its checksum is right.
//!
//! Damage is shown, not refused: bytes that are no event are shown as bytes up to the next event, and the run ends with what was found first. Events of
//! encrypted logs are shown as they are once decrypted, events inside of a transaction payload behind it.

use super::super::escape::one_line;
use super::super::output::Output;
use super::{block, put_line};
use crate::error::{Class, Error, Result};
use crate::frame::Coordinate;
use crate::source::mysql::compress::{self, PayloadHead, PayloadReader};
use crate::source::mysql::decrypt::{Decryption, Keys};
use crate::source::mysql::event::{self, Event, Format, HEADER_LEN, Header, flag, kind};
use crate::source::mysql::explain::{Explainer, Field, checksum_field, header_fields};
use crate::source::mysql::files;
use crate::source::mysql::relay::Relay;
use crate::source::mysql::resync::{Search, guess_format};

/// Which events are shown: those of these transactions (start and end), or all.
pub type Ranges = Option<Vec<(Coordinate, Coordinate)>>;

/// Shows the logs of one server, file by file.
pub struct LogHex<'a> {
    keys: Option<&'a Keys>,
    ranges: &'a Ranges,
    relay: Relay,
    file: u64,
    /// Whether anything was shown.
    pub shown: bool,
    /// What was found first.
    pub error: Option<Error>,
}

/// What changes from event to event of a file.
struct State {
    format: Format,
    relay: bool,
    encryption: Option<Decryption>,
    explainer: Explainer,
    decrypted: Vec<u8>,
}

impl<'a> LogHex<'a> {
    /// Shows the events in these ranges.
    pub fn new(keys: Option<&'a Keys>, ranges: &'a Ranges) -> LogHex<'a> {
        LogHex { keys, ranges, relay: Relay::default(), file: 0, shown: false, error: None }
    }

    /// One file, all of its bytes. `log_name` is its name, which may have a number.
    pub fn file(
        &mut self,
        name: &str,
        log_name: Option<&str>,
        relay: bool,
        bytes: &[u8],
        out: &mut Output<'_>,
    ) -> Result<()> {
        if self.ranges.is_none() {
            out.text(&format!("file {}\n", one_line(name)));
            put_line(out, 0, bytes.get(..4).unwrap_or(bytes), "magic: \\xfebin");
            out.text("\n");
        }
        self.file = log_name.and_then(files::split_name).map_or(self.file + 1, |(_, number)| number);
        let first = bytes.get(event::FIRST_EVENT_AT as usize..).unwrap_or(&[]);
        let mut state = State {
            format: Format::from_first_event(first),
            relay,
            encryption: None,
            explainer: Explainer::default(),
            decrypted: Vec::new(),
        };
        let mut at = event::FIRST_EVENT_AT as usize;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or(&[]);
            match self.event(rest, at, &mut state, out) {
                Ok(size) => at += size,
                Err(error) => {
                    let found = Search { bytes: rest, at: at as u64, format: &state.format, relay };
                    let skip = found.next(state.encryption.as_mut()).unwrap_or(rest.len());
                    if self.ranges.is_none() {
                        out.text(&format!("{skip} bytes at {at} that are no event: {}\n", one_line(error.what())));
                        block(out, at as u64, rest.get(..skip).unwrap_or(rest), "")?;
                        out.text("\n");
                    }
                    self.error.get_or_insert(error.in_file(name));
                    at += skip;
                }
            }
            out.spill()?;
        }
        Ok(())
    }

    /// The event at the front of `rest`; its size. An error: there is none.
    fn event(&mut self, rest: &[u8], at: usize, state: &mut State, out: &mut Output<'_>) -> Result<usize> {
        let torn = || Error::new(Class::Torn, "the log ends inside an event").at(at as u64);
        let mut header = state.format.header(rest).ok_or_else(torn)?;
        let size = header.size as usize;
        if size < state.format.header_len_of(header.kind).min(HEADER_LEN) {
            return Err(Error::damage(format!("event of {size} bytes is too short")).at(at as u64));
        }
        let mut raw = rest.get(..size).ok_or_else(torn)?;
        let mut decrypted = std::mem::take(&mut state.decrypted);
        if let Some(encryption) = &mut state.encryption {
            encryption.event(raw, at as u64, &mut decrypted)?;
            raw = &decrypted;
            header = state.format.header(raw).unwrap_or(header);
        }
        let described = match header.kind {
            kind::FORMAT_DESCRIPTION => self.describe(raw, at, rest, state),
            kind::START_V3 => {
                let body = raw.get(state.format.header_len..).unwrap_or(&[]);
                // Cut short: what there is is shown.
                let _ = state.format.start_v3(&header, body);
                Ok(())
            }
            _ => Ok(()),
        };
        let wrong = state.format.checksum && state.format.verify(&header, raw, at as u64).is_err();
        if wrong && header.kind != kind::FORMAT_DESCRIPTION {
            let error = || Error::damage("an event's checksum is wrong").at(at as u64);
            // Its size may be what is damaged: what stands behind it decides.
            let next = rest.get(size..).unwrap_or(&[]);
            let follows =
                next.is_empty() || state.format.header(next).is_some_and(|header| event::is_known(header.kind));
            if !follows {
                state.decrypted = decrypted;
                return Err(error());
            }
            self.error.get_or_insert_with(error);
        }
        let (start, end) = self.place(&header, raw, at, size, state);
        if self.is_wanted(start, end) {
            self.shown = true;
            self.show(&header, raw, at, state, out)?;
        }
        if let Err(error) = described {
            self.error.get_or_insert(error);
        }
        let started = match header.kind {
            kind::MARIADB_START_ENCRYPTION => {
                let checksum = if state.format.checksum { event::CHECKSUM_LEN } else { 0 };
                let body = raw.get(HEADER_LEN..size.saturating_sub(checksum)).unwrap_or(&[]);
                Decryption::start(body, self.keys).map(|started| state.encryption = Some(started))
            }
            _ => Ok(()),
        };
        state.decrypted = decrypted;
        match started {
            Ok(()) => Ok(size),
            // Without its key nothing behind it can be cut into events.
            Err(error) => {
                block(out, (at + size) as u64, rest.get(size..).unwrap_or(&[]), "encrypted")?;
                out.text("\n");
                self.error.get_or_insert(error.at(at as u64));
                Ok(rest.len())
            }
        }
    }

    /// Takes a format description event.
    fn describe(&mut self, raw: &[u8], at: usize, rest: &[u8], state: &mut State) -> Result<()> {
        match Format::parse(raw, at as u64) {
            Ok(format) => {
                if at as u64 == event::FIRST_EVENT_AT && state.relay {
                    self.relay.own_id = format.server_id;
                }
                state.format = format;
                Ok(())
            }
            Err(error) => {
                state.format = guess_format(rest, state.relay);
                Err(error)
            }
        }
    }

    /// Where an event stands in its source's log.
    fn place(&mut self, header: &Header, raw: &[u8], at: usize, size: usize, state: &State) -> (u64, u64) {
        if !state.relay {
            return (at as u64, (at + size) as u64);
        }
        let fake = header.timestamp == 0 || header.flags & flag::ARTIFICIAL != 0;
        let own = header.flags & flag::RELAY_LOG != 0 || !fake && header.server_id == self.relay.own_id;
        match header.kind {
            kind::FORMAT_DESCRIPTION | kind::STOP => (0, 0),
            kind::ROTATE => {
                let checksum = if state.format.checksum { event::CHECKSUM_LEN } else { 0 };
                let body = raw.get(state.format.header_len..raw.len().saturating_sub(checksum)).unwrap_or(&[]);
                if let Some((name, to)) = files::rotate_target(body, &state.format).filter(|_| !own) {
                    let name = String::from_utf8_lossy(name);
                    self.file = files::split_name(&name).map_or(self.file, |(_, number)| number);
                    self.relay.end = to;
                }
                (0, 0)
            }
            _ if header.flags & flag::RELAY_LOG != 0 || header.kind == kind::PREVIOUS_GTIDS => (0, 0),
            _ => self.relay.place(header, size, state.format.version),
        }
    }

    fn is_wanted(&self, start: u64, end: u64) -> bool {
        let Some(ranges) = self.ranges else { return true };
        let (Some(start), Some(end)) = (Coordinate::new(self.file, start), Coordinate::new(self.file, end)) else {
            return false;
        };
        // Sorted by their starts, and none inside another.
        let index = ranges.partition_point(|(from, _)| *from <= start);
        index.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, to)| end <= *to)
    }

    fn show(&self, header: &Header, raw: &[u8], at: usize, state: &mut State, out: &mut Output<'_>) -> Result<()> {
        let note = if state.encryption.is_some() { ", decrypted" } else { "" };
        out.text(&format!("event {} at {at} of {} bytes{note}\n", event::name(header.kind), raw.len()));
        let body = show_event(header, raw, at as u64, state, state.format.checksum, out)?;
        if header.kind == kind::TRANSACTION_PAYLOAD
            && let Some(head) = PayloadHead::parse(body)
        {
            show_payload(head, body, at as u64, state, out)?;
        }
        out.text("\n");
        out.spill()
    }
}

/// The lines of one event; its data without checksum.
fn show_event<'r>(
    header: &Header,
    raw: &'r [u8],
    at: u64,
    state: &mut State,
    checksum: bool,
    out: &mut Output<'_>,
) -> Result<&'r [u8]> {
    let mut plain = state.format.clone();
    plain.checksum = checksum;
    let sum = checksum_field(&plain, header, raw);
    let head = plain.header_len_of(header.kind).min(raw.len());
    let end = sum.as_ref().map_or(raw.len(), |field| field.at).max(head);
    let body = raw.get(head..end).unwrap_or(&[]);
    let fields = header_fields(&plain, header, raw);
    // Rows know the names of their tables by what came before them.
    let fields = fields.into_iter().chain(state.explainer.body_fields(&plain, header, body, head)).chain(sum);
    for Field { at: offset, len, name, meaning } in fields {
        let value = raw.get(offset..offset + len).unwrap_or(&[]);
        let label = if meaning.is_empty() { name } else { format!("{name}: {}", one_line(&meaning)) };
        if value.len() <= super::LINE && !(meaning.is_empty() && value.len() > 8) {
            put_line(out, at + offset as u64, value, &label);
        } else {
            block(out, at + offset as u64, value, &label)?;
        }
        out.spill()?;
    }
    Ok(body)
}

/// The events inside of a payload, with their offsets in the decompressed bytes.
fn show_payload(head: PayloadHead, body: &[u8], at: u64, state: &mut State, out: &mut Output<'_>) -> Result<()> {
    let packed = body.get(head.head_len..head.head_len + head.payload_len).unwrap_or(&[]);
    let mut reader = PayloadReader::new(head)
        .map_err(|error| Error::new(Class::Bug, "there is no zstd decoder").caused_by(error))?;
    let mut offset = 0u64;
    loop {
        match reader.next(packed) {
            Ok(compress::Next::Event(size)) => {
                let raw = reader.event(size).to_vec();
                let Some(header) = state.format.header(&raw) else { return Ok(()) };
                let event = Event { header, body: &[], raw: &raw, at, start: 0, end: 0 };
                out.text(&format!(
                    "inside the payload: event {} at {offset} of {} bytes\n",
                    event::name(event.header.kind),
                    raw.len()
                ));
                show_event(&header, &raw, offset, state, false, out)?;
                reader.advance(size);
                offset += size as u64;
            }
            Ok(compress::Next::End) => return Ok(()),
            Err(what) => {
                out.text(&format!("inside the payload at {offset}: {what}\n"));
                return Ok(());
            }
        }
    }
}
