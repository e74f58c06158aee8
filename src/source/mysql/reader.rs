//! The `Source`: takes one file after the other, cuts it into events, verifies and decrypts them, and hands them to the decoder.
//!
//! What the end of a file means:
//!
//! | the file | and | then |
//! |---|---|---|
//! | ends between groups | | the next file, or the end |
//! | ends inside an event or a group | the next file's server had restarted | the group was rolled back there: dropped, said in a note |
//! | likewise | it is the last, and flagged in use | the end, 0; how many bytes are left stands in the end frame |
//! | ends inside a group | a relay log with a successor | the group goes on there |
//! | ends inside an event or a group | otherwise | torn, 82 |
//! | has a damaged event | and an intact one behind it | damage, 65 |
//! | likewise | none behind it, and is flagged in use | as torn |
//! | likewise | none behind it | damage, 65 |
//!
//! So a flipped bit in a length never passes for the end of a log: behind it other events still stand.
//!
//! Relay logs hold another server's events. A ROTATE event names that server's file and offset; where each event stood there follows from its end position,
//! which the header has modulo 2^32, and its size. The replica's own events (its format description, its rotation) move nothing.

mod salvage;
mod special;

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use super::compress::{self, PayloadReader};
use super::data::{Data, Feed};
use super::decoder::{Decoder, Flow};
use super::decrypt::{Decryption, Keys};
use super::event::{self, Event, Format, HEADER_LEN, Header, flag, kind};
use super::files::{self, Probe};
use super::relay::Relay;
use super::resync::Search;
use crate::error::{Class, Error, Result};
use crate::frame::{Coordinate, FrameWriter};
use crate::source::{Options, Problem, Source, Status, Step};
use salvage::Salvage;
use special::{Special, is_special};

/// A step ends when so many bytes of frames wait.
const STEP_BYTES: usize = 256 << 10;
/// Likewise of units, whose buffers should stay in the processor's cache until they are printed.
const STEP_BYTES_IN_PROCESS: usize = 32 << 10;
/// How far behind damage an intact event is looked for, in bytes.
const LOOK_AHEAD_BYTES: usize = 64 << 20;
/// The same in a stream, which must be held for that.
const LOOK_AHEAD_STREAM_BYTES: usize = 1 << 20;

/// How long a step waits for a server to send something.
const LIVE_WAIT: Duration = Duration::from_millis(100);

/// Binary or relay logs that are read.
pub struct MySqlSource {
    decoder: Decoder,
    files: VecDeque<Probe>,
    current: Option<Current>,
    keys: Option<Keys>,
    payload: Option<Payload>,
    decrypted: Vec<u8>,
    log_name: Option<String>,
    relay: Relay,
    follow: bool,
    ended: bool,
    bytes_before: u64,
    bytes_total: u64,
    step_until: usize,
    salvage: Option<Salvage>,
}

/// The file that is read.
struct Current {
    data: Data,
    name: String,
    probe: Option<Probe>,
    /// Offset of the next event, and of the file's first byte (streams may hold several files).
    at: u64,
    base: u64,
    encryption: Option<Decryption>,
    in_use: bool,
    relay: bool,
    begun: bool,
    /// A ROTATE or STOP event was the last, and the name that it gave.
    closed: bool,
    next: Option<String>,
}

/// A transaction payload whose events are being read.
struct Payload {
    reader: PayloadReader,
    head: compress::PayloadHead,
    /// Offset of the event in the file, and its size.
    at: u64,
    size: usize,
    header_len: usize,
    /// Where it stands in the source's log.
    start: u64,
    end: u64,
}

/// What comes instead of a further event.
enum Tail {
    /// Nothing.
    End,
    /// A file begins (streams that are several files in one).
    Another,
    /// Part of an event.
    Torn(Error),
    /// An event that is not what its checksum or header says.
    Damaged(Error),
}

enum Outcome {
    Flow(Flow),
    Tail(Tail),
}

/// What is to be done after reading in a file.
enum Then {
    /// Stay with it.
    Stay(Option<Step>),
    /// Go to the next one.
    Next,
}

impl MySqlSource {
    /// Reads files of one server, in log order.
    pub fn from_files(paths: Vec<PathBuf>, options: Options) -> Result<MySqlSource> {
        let (probes, notes) = files::in_order(paths)?;
        if probes.is_empty() {
            let mut what = String::from("none of the files is a log with anything in it");
            if !notes.is_empty() {
                what = format!("{what} ({})", notes.join("; "));
            }
            return Err(Error::new(Class::NoInput, what));
        }
        let mut source = MySqlSource::new(options)?;
        source.bytes_total = probes.iter().map(|probe| probe.len).sum();
        notes.into_iter().for_each(|note| source.decoder.note(note));
        source.files = probes.into();
        Ok(source)
    }

    /// Reads a stream that begins with a log's first byte.
    pub fn from_stream(name: String, input: Box<dyn Read + Send>, options: Options) -> Result<MySqlSource> {
        let mut source = MySqlSource::new(options)?;
        source.current = Some(Current::new(Data::stream(name.clone(), input), name, None));
        Ok(source)
    }

    /// Reads what a server sends, from the start of a log file on; `server_uuid` goes into the stream's header.
    pub fn from_feed(name: String, feed: Box<dyn Feed>, server_uuid: &str, options: Options) -> Result<MySqlSource> {
        let mut source = MySqlSource::new(options)?;
        source.decoder.set_server_uuid(server_uuid);
        source.current = Some(Current::new(Data::Live(feed), name, None));
        Ok(source)
    }

    /// The decoder behind it.
    pub fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    fn new(options: Options) -> Result<MySqlSource> {
        if let Some(name) = &options.log_name
            && files::split_name(name).is_none()
        {
            return Err(Error::usage(format!("`{name}` is no log name: it has no number, as mysql-bin.000042 has")));
        }
        Ok(MySqlSource {
            decoder: Decoder::new(&options)?,
            files: VecDeque::new(),
            current: None,
            keys: options.keys.as_ref().map(Keys::parse).transpose()?,
            payload: None,
            decrypted: Vec::new(),
            log_name: options.log_name,
            relay: Relay::default(),
            follow: options.follow,
            ended: false,
            bytes_before: 0,
            bytes_total: 0,
            step_until: STEP_BYTES,
            salvage: options.salvage.then(Salvage::default),
        })
    }

    fn end(&mut self, in_use: bool, torn_bytes: u64, out: &mut FrameWriter) -> Then {
        if self.decoder.group.is_open() {
            self.decoder.group.discard(out);
        }
        self.decoder.write_end(in_use, torn_bytes, out);
        self.ended = true;
        Then::Stay(Some(Step::End))
    }

    /// Reads on in the current file. `None`: ask again.
    fn read(&mut self, out: &mut FrameWriter) -> Result<Option<Step>> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => match self.files.pop_front() {
                Some(probe) => Current::new(Data::map(&probe.path)?, probe.path.display().to_string(), Some(probe)),
                None => {
                    self.end(false, 0, out);
                    return Ok(Some(Step::End));
                }
            },
        };
        let then = match self.read_file(&mut current, out) {
            Err(error) if self.salvage.is_some() => self.recover(&mut current, error, out),
            then => then,
        };
        match then.map_err(|error| error.in_file(&current.name))? {
            Then::Stay(step) => {
                self.current = Some(current);
                Ok(step)
            }
            Then::Next => {
                if let Some(salvage) = self.salvage.as_mut().filter(|_| !current.relay) {
                    salvage.new_file();
                }
                self.bytes_before += current.at;
                Ok(None)
            }
        }
    }

    fn read_file(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<Then> {
        if !current.begun {
            if let Some(feed) = current.data.feed()
                && feed.file_name(current.at).is_none()
                && !feed.is_ended()
                && !feed.wait(current.at, LIVE_WAIT)?
            {
                return Ok(if self.decoder.stopping {
                    self.end(false, 0, out)
                } else {
                    Then::Stay(Some(Step::Waited))
                });
            }
            if let Err(error) = self.begin(current, out)
                && let Some(then) = self.begin_damaged(current, error, out)?
            {
                return Ok(then);
            }
        }
        loop {
            if out.len() >= self.step_until {
                return Ok(Then::Stay(Some(Step::More)));
            }
            let outcome = match self.payload.take() {
                Some(payload) => Outcome::Flow(self.inside(payload, current, out)?),
                None => self.one_event(current, out)?,
            };
            match outcome {
                Outcome::Flow(Flow::Continue | Flow::Payload(_)) => {}
                Outcome::Flow(Flow::Stop) => return Ok(self.end(current.in_use, 0, out)),
                Outcome::Flow(Flow::Rewind(at)) => {
                    if current.data.file_len().is_none() {
                        return Err(Error::usage(
                            "the position lies inside a transaction, and a stream cannot be read again",
                        )
                        .hint("give the position of a transaction's end, or the log as a file"));
                    }
                    self.payload = None;
                    current.at = at;
                }
                Outcome::Tail(tail) => {
                    if let Some(then) = self.tail(current, tail, out)? {
                        return Ok(then);
                    }
                }
            }
        }
    }

    /// Reads the magic number and the first event, which decide about everything else.
    fn begin(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<()> {
        current.begun = true;
        let at = current.at + event::FIRST_EVENT_AT;
        let bytes = current.data.from(current.at, MAGIC_AND_HEADER)?;
        let (magic, events) = bytes.split_at(bytes.len().min(event::FIRST_EVENT_AT as usize));
        if magic != event::MAGIC {
            let error = Error::damage("no binary log begins here").at(current.at);
            return Err(if event::MAGIC.starts_with(magic) { error.with_class(Class::Torn) } else { error });
        }
        let torn = || Error::new(Class::Torn, "the log ends inside its first event").at(at);
        let mut format = Format::from_first_event(events);
        let header = format.header(events).ok_or_else(torn)?;
        current.at = at;
        if matches!(header.kind, kind::FORMAT_DESCRIPTION | kind::START_V3) {
            let size = header.size as usize;
            let raw = current.data.from(at, size)?.get(..size).ok_or_else(torn)?;
            if header.kind == kind::FORMAT_DESCRIPTION {
                format = Format::parse(raw, at)?;
                if self.salvage.is_some() && !format.checksum {
                    self.doubt(current, at)?;
                }
            } else {
                let body = raw.get(format.header_len..).unwrap_or(&[]);
                format
                    .start_v3(&header, body)
                    .ok_or_else(|| Error::damage("START_V3 event is invalid: it is cut short").at(at))?;
            }
        } else if header.kind != kind::ROTATE {
            // Only relay logs of MySQL 4 begin otherwise, and they with a ROTATE.
            // Without it not even the length of a header is certain.
            return Err(Error::damage("the log does not begin with a format description event").at(at));
        } else {
            format.timestamp = header.timestamp;
            format.server_id = header.server_id;
        }
        // Servers clear the flag in what they send; the log of a running server is in use.
        current.in_use = format.flags & flag::IN_USE != 0 || current.data.feed().is_some();
        current.relay = match &current.probe {
            Some(probe) => probe.relay,
            None => format.flags & flag::RELAY_LOG != 0,
        };
        if self.decoder.group.is_open() && format.created != 0 {
            self.decoder.drop_group(out);
        }
        if current.relay {
            self.relay.own_id = format.server_id;
        }
        self.decoder.reformat(format);
        if !current.relay {
            self.name_file(current, out)?;
        }
        Ok(())
    }

    /// Gives a binary log its number: from `--log-name`, its name, or the ROTATE before it.
    fn name_file(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<()> {
        let own = current.probe.as_ref().map(|probe| probe.name.clone());
        let numbered = own.clone().filter(|name| files::split_name(name).is_some());
        // A name that was given is the first file's; those behind it have their own, or count on.
        let given = match current.data.feed() {
            Some(feed) => feed.file_name(current.base).map(str::to_owned),
            None if self.decoder.has_begun() => None,
            None => self.log_name.take(),
        };
        let name = given.or(numbered).or_else(|| current.next.take()).or_else(|| self.log_name.take()).or(own);
        self.log_name = name.as_deref().and_then(files::next_name);
        self.decoder.begin_named(name.as_deref(), out)
    }

    /// Reads one event and hands it on.
    #[inline]
    fn one_event(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<Outcome> {
        if let Data::Live(feed) = &mut current.data {
            current.at = feed.place(current.at)?;
            if feed.file_name(current.at).is_some() {
                return Ok(Outcome::Tail(Tail::Another));
            }
        }
        let at = current.at;
        let format = &self.decoder.format;
        let mut bytes = current.data.from(at, HEADER_LEN)?;
        if current.closed && bytes.starts_with(&event::MAGIC) {
            return Ok(Outcome::Tail(Tail::Another));
        }
        let (mut header, size) = match cut(bytes, format, at) {
            Ok(found) => found,
            Err(tail) => return Ok(Outcome::Tail(tail)),
        };
        if bytes.len() < size {
            bytes = current.data.from(at, size)?;
        }
        let Some(mut raw) = bytes.get(..size) else {
            let missing = size - bytes.len();
            let error = Error::new(Class::Torn, format!("the log ends inside an event, {missing} bytes short")).at(at);
            return Ok(Outcome::Tail(Tail::Torn(error)));
        };
        if let Some(encryption) = &mut current.encryption {
            if let Err(error) = encryption.event(raw, at - current.base, &mut self.decrypted) {
                return Ok(Outcome::Tail(Tail::Damaged(error.at(at))));
            }
            raw = &self.decrypted;
            header = format.header(raw).unwrap_or(header);
        }
        let mut whole = raw;
        if format.checksum {
            if let Err(error) = format.verify(&header, raw, at) {
                return Ok(Outcome::Tail(Tail::Damaged(error)));
            }
            whole = raw.get(..size - event::CHECKSUM_LEN).unwrap_or(&[]);
        }
        let header_len = format.header_len_of(header.kind);
        let Some(body) = whole.get(header_len..) else {
            return Ok(Outcome::Tail(Tail::Damaged(Error::damage("event is shorter than its header").at(at))));
        };
        let in_file = at - current.base;
        let mut event = Event { header, body, raw: whole, at, start: in_file, end: in_file + size as u64 };
        current.at = at + size as u64;
        current.closed = false;
        if is_special(header.kind) {
            let special = Special::of(&event, format, raw)?;
            self.special(current, special, &header, at, out)?;
            return Ok(Outcome::Flow(Flow::Continue));
        }
        if current.relay {
            if header.kind == kind::PREVIOUS_GTIDS || header.flags & flag::RELAY_LOG != 0 {
                // The replica's own.
                return Ok(Outcome::Flow(Flow::Continue));
            }
            if self.relay.named.is_some() || !self.decoder.has_begun() {
                begin_source_file(&mut self.relay, &mut self.decoder, &mut self.log_name, out)?;
            }
            (event.start, event.end) = self.relay.place(&header, size, self.decoder.format.version);
        }
        if let Some(salvage) = &mut self.salvage {
            if salvage.is_skipping() {
                if !salvage.resumes(&event, &self.decoder.format, self.decoder.query_head()) {
                    return Ok(Outcome::Flow(Flow::Continue));
                }
                let start = self.decoder.coordinate(event.start)?;
                self.decoder.resume(start, out);
            }
            salvage.saw(header.kind);
        }
        let flow = self.decoder.event(&event, out)?;
        if let Flow::Payload(head) = flow {
            let reader = PayloadReader::new(head)
                .map_err(|error| Error::new(Class::Bug, "there is no zstd decoder").caused_by(error))?;
            let (start, end) = (event.start, event.end);
            self.payload = Some(Payload { reader, head, at, size, header_len, start, end });
            // The event stays at the front of a stream's buffer until its inside was read.
            current.at = at;
        }
        Ok(Outcome::Flow(flow))
    }

    /// Reads the next event inside a payload.
    fn inside(&mut self, mut payload: Payload, current: &mut Current, out: &mut FrameWriter) -> Result<Flow> {
        let from = payload.header_len + payload.head.head_len;
        // An encrypted log has the payload where the event was decrypted to.
        let raw = match current.encryption {
            Some(_) => self.decrypted.as_slice(),
            None => current.data.from(payload.at, payload.size)?,
        };
        let packed = raw.get(from..from + payload.head.payload_len).unwrap_or(&[]);
        let damage = |what: &str| Error::damage(format!("TRANSACTION_PAYLOAD event is invalid: {what}")).at(payload.at);
        let size = match payload.reader.next(packed).map_err(damage)? {
            compress::Next::Event(size) => size,
            compress::Next::End => {
                current.at = payload.at + payload.size as u64;
                return Ok(Flow::Continue);
            }
        };
        let raw = payload.reader.event(size);
        let header = self.decoder.format.header(raw).ok_or_else(|| damage("an event inside it is cut short"))?;
        let body = raw.get(self.decoder.format.header_len..).unwrap_or(&[]);
        if header.kind == kind::TRANSACTION_PAYLOAD || is_special(header.kind) {
            return Err(damage(&format!("it holds a {} event", event::name(header.kind))));
        }
        let inner = Event { header, body, raw, at: payload.at, start: payload.start, end: payload.end };
        let flow = self.decoder.event(&inner, out)?;
        payload.reader.advance(size);
        self.payload = Some(payload);
        Ok(flow)
    }

    /// Events about the file itself.
    fn special(
        &mut self,
        current: &mut Current,
        special: Special,
        header: &Header,
        at: u64,
        out: &mut FrameWriter,
    ) -> Result<()> {
        match special {
            // The first one was read before.
            Special::Format(_) if at == current.base + event::FIRST_EVENT_AT => {}
            Special::Format(format) => {
                if self.decoder.group.is_open() && format.created != 0 {
                    self.decoder.drop_group(out);
                }
                self.decoder.reformat(*format);
            }
            Special::Rotate { name, to } => {
                let fake = header.timestamp == 0 || header.flags & flag::ARTIFICIAL != 0;
                if current.relay {
                    let own = header.flags & flag::RELAY_LOG != 0 || !fake && header.server_id == self.relay.own_id;
                    if own {
                        current.closed = true;
                        current.next = Some(name);
                    } else {
                        self.relay.named = Some((name, header.server_id));
                        self.relay.end = to;
                    }
                } else if !fake {
                    current.closed = true;
                    self.decoder.rotated(&name, to);
                    current.next = Some(name);
                }
            }
            Special::Stop => current.closed = true,
            Special::Encryption(body) => {
                let started = Decryption::start(&body, self.keys.as_ref());
                current.encryption = Some(started.map_err(|error| error.at(at))?);
            }
        }
        Ok(())
    }

    /// The current file has no further event. `None`: read on in it.
    fn tail(&mut self, current: &mut Current, tail: Tail, out: &mut FrameWriter) -> Result<Option<Then>> {
        let error = match tail {
            Tail::Another => {
                current.base = current.at;
                (current.begun, current.closed, current.encryption, current.probe) = (false, false, None, None);
                self.begin(current, out)?;
                return Ok(None);
            }
            Tail::End => None,
            Tail::Torn(error) | Tail::Damaged(error) => Some(error),
        };
        if let Some(feed) = current.data.feed() {
            if let Some(error) = error {
                // A server sends whole events: nothing is torn here.
                return Err(error.with_class(Class::Damage));
            }
            if !feed.is_ended() {
                return self.wait(current, out).map(Some);
            }
        }
        if let Some(error) = &error
            && (error.class() == Class::Damage && !current.in_use || self.intact_behind(current)?)
        {
            let (what, place) =
                (error.what().to_owned(), error.place().and_then(|place| place.at).unwrap_or(current.at));
            let error = Error::damage(what).at(place);
            return if self.salvage.is_some() { self.search(current, error, out) } else { Err(error) };
        }
        if self.follow && self.files.is_empty() {
            return self.wait(current, out).map(Some);
        }
        if error.is_none() && !self.decoder.group.is_open() {
            return self.next_file(current, out).map(Some);
        }
        let from = if self.decoder.group.is_open() { self.decoder.group.at } else { current.at };
        let left =
            current.data.from(current.at, LOOK_AHEAD_STREAM_BYTES)?.len() as u64 + (current.at.saturating_sub(from));
        if let Some(next) = self.files.front() {
            if next.format.created != 0 {
                if self.decoder.group.is_open() {
                    self.decoder.drop_group(out);
                } else {
                    self.decoder.note(format!(
                        "{}: {left} bytes at its end are torn: left out, its server crashed",
                        current.name
                    ));
                }
                return self.next_file(current, out).map(Some);
            }
            if current.relay && error.is_none() {
                return self.next_file(current, out).map(Some);
            }
        } else if current.in_use {
            self.decoder.caught_up(current.at - current.base)?;
            return Ok(Some(self.end(true, left, out)));
        }
        let group = self.decoder.group.is_open().then_some(self.decoder.group.txid);
        let what = match (&error, group) {
            (Some(error), _) => error.what().to_owned(),
            (None, Some(txid)) => format!("the log ends inside transaction {txid}"),
            (None, None) => "the log ends inside an event".into(),
        };
        let error = Error::new(Class::Torn, what).at(from);
        if self.salvage.is_some() {
            self.tell(current, error, out);
            return Ok(Some(self.leave_file(current, out)));
        }
        if self.decoder.group.is_open() {
            self.decoder.group.discard(out);
        }
        Err(error.hint("everything before was written; give the whole log, and the files behind it"))
    }

    fn next_file(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<Then> {
        match self.files.front() {
            Some(next) => {
                let missing = current.probe.as_ref().and_then(|probe| files::missing_between(probe, next));
                if let Some(missing) = missing {
                    self.decoder.write_progress(out);
                    let what = format!("{missing} is missing between this log and {}", next.path.display());
                    let error = Error::new(Class::Gap, what).at(current.at);
                    if self.salvage.is_none() {
                        return Err(error.hint("give it too; everything before was written"));
                    }
                    self.tell(current, error, out);
                }
                Ok(Then::Next)
            }
            None => {
                self.decoder.caught_up(current.at - current.base)?;
                if !current.in_use && !current.closed && !current.relay {
                    self.decoder.note(format!(
                        "{}: ends without ROTATE or STOP and is not flagged in use: it may have been cut between transactions",
                        current.name
                    ));
                }
                Ok(self.end(current.in_use, 0, out))
            }
        }
    }

    /// `--follow` at the end of the last file.
    fn wait(&mut self, current: &mut Current, out: &mut FrameWriter) -> Result<Then> {
        if let Some(feed) = current.data.feed() {
            // What was written is due before anything is waited for.
            let patience = if out.is_empty() { LIVE_WAIT } else { Duration::ZERO };
            if feed.wait(current.at, patience)? {
                return Ok(Then::Stay(None));
            }
            let caught_up = feed.is_caught_up();
            if self.decoder.stopping {
                return Ok(self.end(current.in_use, 0, out));
            }
            if caught_up && !self.decoder.group.is_open() {
                self.decoder.caught_up(current.at - current.base)?;
                self.decoder.write_header(out);
                self.decoder.write_progress(out);
            }
            return Ok(Then::Stay(Some(Step::Waited)));
        }
        if current.data.grow()? {
            return Ok(Then::Stay(None));
        }
        if self.decoder.stopping || current.data.file_len().is_none() {
            return Ok(self.end(current.in_use, 0, out));
        }
        if current.closed
            && let Some(probe) = &current.probe
        {
            let name = current.next.clone().or_else(|| files::next_name(&probe.name));
            let path = name.map(|name| probe.path.with_file_name(name.rsplit('/').next().unwrap_or(&name)));
            if let Some(path) = path.filter(|path| path.exists())
                && let Some(next) = files::probe(&path)?.filter(|next| !next.format.server_version.is_empty())
            {
                self.bytes_total += next.len;
                self.files.push_back(next);
                return Ok(Then::Next);
            }
        }
        if !self.decoder.group.is_open() {
            self.decoder.caught_up(current.at - current.base)?;
            self.decoder.write_header(out);
            self.decoder.write_progress(out);
        }
        Ok(Then::Stay(Some(Step::Idle)))
    }

    /// Whether an intact event stands somewhere behind the one that could not be read.
    fn intact_behind(&self, current: &mut Current) -> Result<bool> {
        let at = current.at;
        let format = &self.decoder.format;
        let relay = current.relay;
        let bytes = current.data.from(at, LOOK_AHEAD_STREAM_BYTES)?;
        let bytes = bytes.get(..bytes.len().min(LOOK_AHEAD_BYTES)).unwrap_or(bytes);
        if current.encryption.is_some() {
            // Only lengths are clear: something behind the event by its own length is evidence enough.
            return Ok(format.header(bytes).is_some_and(|header| {
                header.size as usize >= HEADER_LEN && bytes.len() >= header.size as usize + HEADER_LEN
            }));
        }
        Ok(Search { bytes, at: at - current.base, format, relay }.next(None).is_some())
    }
}

const MAGIC_AND_HEADER: usize = event::FIRST_EVENT_AT as usize + HEADER_LEN;

impl Current {
    fn new(data: Data, name: String, probe: Option<Probe>) -> Current {
        Current {
            data,
            name,
            probe,
            at: 0,
            base: 0,
            encryption: None,
            in_use: false,
            relay: false,
            begun: false,
            closed: false,
            next: None,
        }
    }
}

/// The first event of a source's file in a relay log has come.
fn begin_source_file(
    relay: &mut Relay,
    decoder: &mut Decoder,
    log_name: &mut Option<String>,
    out: &mut FrameWriter,
) -> Result<()> {
    let named = relay.named.take();
    if let Some((_, server_id)) = &named
        && decoder.format.server_id == relay.own_id
    {
        // The source's own format description did not come along.
        decoder.format.server_id = *server_id;
    }
    let name = named.map(|(name, _)| name).or_else(|| log_name.take());
    if decoder.has_begun() && decoder.is_in(name.as_deref()) {
        return Ok(());
    }
    decoder.begin_named(name.as_deref(), out)
}

/// Takes a header off the front of `bytes`, and checks the size.
#[inline]
fn cut(bytes: &[u8], format: &Format, at: u64) -> std::result::Result<(Header, usize), Tail> {
    let Some(header) = format.header(bytes) else {
        return Err(if bytes.is_empty() {
            Tail::End
        } else {
            let what = format!("the log ends inside an event's header, after {} bytes of it", bytes.len());
            Tail::Torn(Error::new(Class::Torn, what).at(at))
        });
    };
    let size = header.size as usize;
    let least = format.header_len_of(header.kind) + if format.checksum { event::CHECKSUM_LEN } else { 0 };
    if size < least.min(HEADER_LEN) {
        return Err(Tail::Damaged(Error::damage(format!("event of {size} bytes is too short")).at(at)));
    }
    Ok((header, size))
}

impl Source for MySqlSource {
    fn step(&mut self, out: &mut FrameWriter) -> Result<Step> {
        // What the caller has not drained yet does not count.
        self.step_until = out.len() + if out.is_in_process() { STEP_BYTES_IN_PROCESS } else { STEP_BYTES };
        while !self.ended {
            if let Some(step) = self.read(out)? {
                return Ok(step);
            }
            if out.len() >= self.step_until {
                return Ok(Step::More);
            }
        }
        Ok(Step::End)
    }

    fn stop(&mut self) {
        self.decoder.stopping = true;
    }

    fn reached(&self) -> Coordinate {
        self.decoder.reached
    }

    fn status(&self) -> Status {
        Status {
            bytes_done: self.bytes_before + self.current.as_ref().map_or(0, |current| current.at),
            bytes_total: self.bytes_total,
            transactions: self.decoder.transactions,
            rows: self.decoder.rows,
        }
    }

    fn take_notes(&mut self) -> Vec<String> {
        let mut notes = self.decoder.take_notes();
        if let Some(feed) = self.current.as_mut().and_then(|current| current.data.feed()) {
            notes.extend(feed.take_notes());
        }
        notes
    }

    fn writes_units(&self) -> bool {
        true
    }

    fn take_problems(&mut self) -> Vec<Problem> {
        let ended = self.ended;
        self.salvage.as_mut().map_or_else(Vec::new, |salvage| salvage.take(ended))
    }
}
