//! What goes over a connection: messages, their limits, their codec. No I/O.
//!
//! rlog-ship(1), PROTOCOL, is the specification. A message is a header of 8 bytes and a payload:
//!
//! ```text
//! kind u8 | flags u8 | zero u16 | length u32, little-endian | payload
//! ```
//!
//! Payloads of control messages are fields as in frames (`frame::fields`): an odd tag must be understood, an even one may be
//! passed over. The payload of `data` is a piece of a stream of frames, cut anywhere.
//!
//! Promises: no length is believed before it was compared with a limit; nothing is allocated beyond [`CONTROL_MAX`] for a
//! peer that has not been welcomed, nor beyond [`DATA_MAX`] for one message later. A compressed piece must say its size and
//! must have exactly that.

use crate::error::{Class, Error, Result};
use crate::frame::Position;
use crate::frame::fields::{FieldWriter, take_bytes, take_varint};

/// First bytes of a `hello`.
pub const MAGIC: [u8; 8] = *b"\x89RLSHIP\n";
/// The protocol version that this code speaks, the only one so far.
pub const VERSION: u16 = 1;
/// Bytes before each payload.
pub const HEADER_LEN: usize = 8;
/// Largest payload of a control message, in bytes.
pub const CONTROL_MAX: usize = 16 << 10;
/// Largest piece of a stream in one `data` message, in bytes, as it stands in the stream.
pub const PIECE_MAX: usize = 256 << 10;
/// Largest payload of a `data` message, in bytes.
pub const DATA_MAX: usize = PIECE_MAX + 4;
/// Longest text that a message carries, in bytes.
pub const TEXT_MAX: usize = 4 << 10;

/// Bits of `capabilities`.
pub mod capability {
    /// `data` may be compressed with zstd.
    pub const ZSTD: u64 = 1;
}

/// Kind of `data`.
pub(super) const DATA_KIND: u8 = DATA;
/// Flag of `data`: the payload is the size of the piece (u32) and a zstd frame.
const ZSTD: u8 = 1;

macro_rules! kinds {
    ($($name:ident = $number:literal $text:literal,)*) => {
        $(const $name: u8 = $number;)*
        /// Numbers and names, as rlog-ship(1) has them.
        pub const KINDS: &[(u8, &str)] = &[$(($number, $text),)*];
    };
}
kinds! {
    HELLO = 1 "hello",
    WELCOME = 2 "welcome",
    DATA = 3 "data",
    CREDIT = 4 "credit",
    ACK = 5 "ack",
    HEARTBEAT = 6 "heartbeat",
    END = 7 "end",
    DONE = 8 "done",
    REFUSE = 9 "refuse",
}

mod tag {
    pub const VERSION_MIN: u8 = 1;
    pub const AGENT: u8 = 2;
    pub const VERSION_MAX: u8 = 3;
    pub const CAPABILITIES: u8 = 4;
    pub const VERB: u8 = 5;
    pub const NET_TIMEOUT: u8 = 6;
    pub const CHANNEL: u8 = 7;
    pub const REPORT_NAME: u8 = 8;
    pub const CREDIT: u8 = 9;
    pub const SESSION: u8 = 10;
    pub const POSITION: u8 = 11;
    pub const IN_SNAPSHOT: u8 = 13;
    pub const FOLLOW: u8 = 15;
    pub const READER: u8 = 17;
    pub const PROBE: u8 = 19;
    pub const UNITS: u8 = 21;
    pub const STATUS: u8 = 23;
    pub const MESSAGE: u8 = 25;
    pub const HINT: u8 = 26;
    pub const AGAIN: u8 = 27;
    pub const WAITING: u8 = 28;
}

/// What a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// To send a stream, which the server keeps.
    #[default]
    Put,
    /// To receive what the server holds.
    Get,
}

impl Verb {
    /// As messages and authorized keys call it from the client's side.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Put => "push",
            Verb::Get => "pull",
        }
    }
}

/// How far a queue durably is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The last durable position; `None`: it holds nothing.
    pub position: Option<Position>,
    /// The position lies before a snapshot that is not whole yet.
    pub in_snapshot: bool,
}

impl Reached {
    /// Of a queue's tail.
    pub fn of(tail: &crate::queue::Tail) -> Reached {
        Reached {
            position: tail.position(),
            in_snapshot: tail.snapshot.as_ref().is_some_and(|snapshot| !snapshot.complete),
        }
    }

    /// What a source may forget: nothing while a snapshot is not whole.
    pub fn confirmed(&self) -> Option<&Position> {
        self.position.as_ref().filter(|_| !self.in_snapshot)
    }
}

/// The client's first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest protocol version.
    pub versions: (u16, u16),
    /// What it wants.
    pub verb: Verb,
    /// On which channel; the server checks the name.
    pub channel: String,
    /// Bits of [`capability`].
    pub capabilities: u64,
    /// Program and version.
    pub agent: String,
    /// The name under which the client wants to be seen in the server's report.
    pub report_name: String,
    /// A random number of the client's process: a connection of the same one takes the place of an earlier one.
    pub session: u64,
    /// After this many milliseconds without a byte it gives up.
    pub net_timeout_ms: u64,
    /// To get: bytes of `data` that the server may send at first.
    pub credit: u64,
    /// To get: what the client's queue holds.
    pub reached: Reached,
    /// To get: go on at the end.
    pub follow: bool,
    /// To get: the reader whose acknowledgements follow; empty: none follow.
    pub reader: String,
    /// Only wants to hear the `welcome`.
    pub probe: bool,
}

/// The server's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both speak.
    pub version: u16,
    /// What both can.
    pub capabilities: u64,
    /// Program and version.
    pub agent: String,
    /// After this many milliseconds without a byte it gives up.
    pub net_timeout_ms: u64,
    /// To put: bytes of `data` that the client may send at first.
    pub credit: u64,
    /// What the server's queue holds: where a client that puts goes on.
    pub reached: Reached,
}

/// From the receiver: what is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Of the stream of this connection, so many units (transactions, progress …) are durable, or were held before.
    pub units: u64,
    /// What the receiving queue durably holds.
    pub reached: Reached,
    /// Why the receiver waits; empty when it does not.
    pub waiting: String,
}

/// The last word of a side that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Exit status.
    pub status: u8,
    /// What and where.
    pub message: String,
    /// What to do next, empty when there is nothing to say.
    pub hint: String,
    /// Nothing is wrong with the stream: connecting again is worth it.
    pub again: bool,
}

impl Refusal {
    /// Of an error.
    pub fn of(error: &Error, again: bool) -> Refusal {
        Refusal {
            status: error.class().exit_status(),
            message: cut(&error.to_string()).to_owned(),
            hint: cut(error.hint_text().unwrap_or("")).to_owned(),
            again,
        }
    }

    /// The error as it is reported here; `peer` names the other side.
    pub fn to_error(&self, peer: &str) -> Error {
        let class = Class::from_exit_status(self.status).unwrap_or(Class::Unavailable);
        let error = Error::new(class, self.message.clone()).in_file(peer);
        if self.hint.is_empty() { error } else { error.hint(format!("there: {}", self.hint)) }
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// A piece of a stream, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The payload.
    pub payload: Vec<u8>,
    compressed: bool,
}

impl Data {
    /// The piece; when it is compressed it is unpacked into `scratch`. `at` is 0 at first, and later says that `scratch` still
    /// holds it.
    pub fn piece<'a>(
        &'a self,
        unpacker: &mut Unpacker,
        scratch: &'a mut Vec<u8>,
        at: usize,
    ) -> Result<&'a [u8], WireError> {
        if !self.compressed {
            return Ok(&self.payload);
        }
        if at > 0 {
            return Ok(scratch);
        }
        let (size, packed) = self.payload.split_first_chunk::<4>().ok_or(WireError::Invalid("data"))?;
        let size = u32::from_le_bytes(*size) as usize;
        if size == 0 || size > PIECE_MAX {
            return Err(WireError::TooLong { what: "data", length: size as u64 });
        }
        unpacker.unpack(packed, size, scratch)?;
        Ok(scratch)
    }
}

/// Decompresses pieces; bounded by the size that a piece may have.
#[derive(Default)]
pub struct Unpacker(Option<zstd::bulk::Decompressor<'static>>);

impl Unpacker {
    fn unpack(&mut self, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        let inner = match &mut self.0 {
            Some(inner) => inner,
            None => self.0.insert(zstd::bulk::Decompressor::new().map_err(|_| WireError::Invalid("data"))?),
        };
        out.clear();
        out.reserve_exact(size);
        // Writes into the room of `out` in one go: no window is allocated, whatever the zstd header asks for.
        let mut room = std::mem::take(out);
        room.resize(size, 0);
        let written = inner.decompress_to_buffer(packed, room.as_mut_slice());
        *out = room;
        match written {
            Ok(written) if written == size => Ok(()),
            _ => Err(WireError::Invalid("data")),
        }
    }
}

/// Compresses pieces.
pub struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    /// zstd's `level`, 1 to 19.
    pub fn new(level: i32) -> Result<Packer> {
        zstd::bulk::Compressor::new(level).map(Packer).map_err(|error| Error::io("zstd", error))
    }
}

/// A `data` message whole, header included. `piece` is not empty and not longer than [`PIECE_MAX`]. What does not get
/// smaller is sent as it is.
pub fn data(piece: &[u8], packer: Option<&mut Packer>) -> Vec<u8> {
    debug_assert!(!piece.is_empty() && piece.len() <= PIECE_MAX);
    if let Some(Packer(packer)) = packer
        && let Ok(packed) = packer.compress(piece)
        && packed.len() + 4 < piece.len()
    {
        let mut out = Vec::with_capacity(HEADER_LEN + 4 + packed.len());
        out.extend_from_slice(&header(DATA, ZSTD, 4 + packed.len()));
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        out.extend_from_slice(&packed);
        return out;
    }
    let mut out = Vec::with_capacity(HEADER_LEN + piece.len());
    out.extend_from_slice(&header(DATA, 0, piece.len()));
    out.extend_from_slice(piece);
    out
}

fn header(kind: u8, flags: u8, length: usize) -> [u8; HEADER_LEN] {
    let length = (length as u32).to_le_bytes();
    [kind, flags, 0, 0, length[0], length[1], length[2], length[3]]
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First, from the client.
    Hello(Box<Hello>),
    /// First, from the server.
    Welcome(Box<Welcome>),
    /// A piece of the stream.
    Data(Data),
    /// From the receiver: `data` payloads may come up to this many bytes, counted from the start of the connection.
    Credit(u64),
    /// From the receiver.
    Ack(Box<Ack>),
    /// Still there.
    Heartbeat,
    /// From the sender: no more data.
    End,
    /// From the receiver, behind its last `ack`: all is done.
    Done,
    /// The last word.
    Refuse(Box<Refusal>),
}

impl Message {
    /// Number of the kind.
    fn kind(&self) -> u8 {
        match self {
            Message::Hello(_) => HELLO,
            Message::Welcome(_) => WELCOME,
            Message::Data(_) => DATA,
            Message::Credit(_) => CREDIT,
            Message::Ack(_) => ACK,
            Message::Heartbeat => HEARTBEAT,
            Message::End => END,
            Message::Done => DONE,
            Message::Refuse(_) => REFUSE,
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        KINDS.iter().find(|(number, _)| *number == self.kind()).map_or("?", |(_, name)| name)
    }

    /// Header and payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_LEN];
        let mut flags = 0;
        match self {
            Message::Hello(hello) => {
                out.extend_from_slice(&MAGIC);
                let mut fields = FieldWriter::new(&mut out);
                fields
                    .number(tag::VERSION_MIN, hello.versions.0.into())
                    .number(tag::VERSION_MAX, hello.versions.1.into())
                    .number(tag::VERB, if hello.verb == Verb::Put { 1 } else { 2 })
                    .bytes(tag::CHANNEL, hello.channel.as_bytes())
                    .number(tag::CAPABILITIES, hello.capabilities)
                    .bytes_unless_empty(tag::AGENT, hello.agent.as_bytes())
                    .bytes_unless_empty(tag::REPORT_NAME, hello.report_name.as_bytes())
                    .number(tag::NET_TIMEOUT, hello.net_timeout_ms)
                    .number_unless_0(tag::SESSION, hello.session)
                    .number_unless_0(tag::CREDIT, hello.credit)
                    .number_unless_0(tag::FOLLOW, hello.follow.into())
                    .bytes_unless_empty(tag::READER, hello.reader.as_bytes())
                    .number_unless_0(tag::PROBE, hello.probe.into());
                put_reached(&mut fields, &hello.reached);
            }
            Message::Welcome(welcome) => {
                let mut fields = FieldWriter::new(&mut out);
                fields
                    .number(tag::VERSION_MAX, welcome.version.into())
                    .number(tag::CAPABILITIES, welcome.capabilities)
                    .bytes_unless_empty(tag::AGENT, welcome.agent.as_bytes())
                    .number(tag::NET_TIMEOUT, welcome.net_timeout_ms)
                    .number_unless_0(tag::CREDIT, welcome.credit);
                put_reached(&mut fields, &welcome.reached);
            }
            Message::Data(data) => {
                flags = u8::from(data.compressed) * ZSTD;
                out.extend_from_slice(&data.payload);
            }
            Message::Credit(credit) => {
                FieldWriter::new(&mut out).number(tag::CREDIT, *credit);
            }
            Message::Ack(ack) => {
                let mut fields = FieldWriter::new(&mut out);
                fields.number(tag::UNITS, ack.units).bytes_unless_empty(tag::WAITING, ack.waiting.as_bytes());
                put_reached(&mut fields, &ack.reached);
            }
            Message::Heartbeat | Message::End | Message::Done => {}
            Message::Refuse(refusal) => {
                FieldWriter::new(&mut out)
                    .number(tag::STATUS, refusal.status.into())
                    .bytes(tag::MESSAGE, cut(&refusal.message).as_bytes())
                    .bytes_unless_empty(tag::HINT, cut(&refusal.hint).as_bytes())
                    .number_unless_0(tag::AGAIN, refusal.again.into());
            }
        }
        let head = header(self.kind(), flags, out.len() - HEADER_LEN);
        if let Some(room) = out.first_chunk_mut::<HEADER_LEN>() {
            *room = head;
        }
        out
    }

    fn decode(head: Head, payload: &[u8]) -> Result<Message, WireError> {
        let fields = |name| Fields { name, rest: payload };
        Ok(match head.kind {
            HELLO => {
                let rest = payload.strip_prefix(&MAGIC).ok_or(WireError::Magic)?;
                Message::Hello(Box::new(hello(Fields { name: "hello", rest })?))
            }
            WELCOME => Message::Welcome(Box::new(welcome(fields("welcome"))?)),
            DATA => Message::Data(Data { payload: payload.to_vec(), compressed: head.flags & ZSTD != 0 }),
            CREDIT => {
                let mut credit = 0;
                let mut fields = fields("credit");
                while let Some((tag, value)) = fields.next()? {
                    match tag {
                        tag::CREDIT => credit = number("credit", value)?,
                        _ => unknown("credit", tag)?,
                    }
                }
                Message::Credit(credit)
            }
            ACK => Message::Ack(Box::new(ack(fields("ack"))?)),
            HEARTBEAT => Message::Heartbeat,
            END => Message::End,
            DONE => Message::Done,
            REFUSE => Message::Refuse(Box::new(refusal(fields("refuse"))?)),
            kind => return Err(WireError::Unknown(kind)),
        })
    }
}

fn put_reached(fields: &mut FieldWriter<'_>, reached: &Reached) {
    if let Some(position) = &reached.position {
        fields.bytes(tag::POSITION, position.to_string().as_bytes());
    }
    fields.number_unless_0(tag::IN_SNAPSHOT, reached.in_snapshot.into());
}

struct Fields<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, WireError> {
        let invalid = WireError::Invalid(self.name);
        let Some((&tag, mut rest)) = self.rest.split_first() else { return Ok(None) };
        let length = take_varint(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or(invalid)?;
        let value = take_bytes(&mut rest, length).ok_or(WireError::Invalid(self.name))?;
        self.rest = rest;
        Ok(Some((tag, value)))
    }
}

fn unknown(name: &'static str, tag: u8) -> Result<(), WireError> {
    if tag % 2 == 1 { Err(WireError::Field { name, tag }) } else { Ok(()) }
}

fn number(name: &'static str, value: &[u8]) -> Result<u64, WireError> {
    let mut bytes = [0; 8];
    bytes.get_mut(..value.len()).ok_or(WireError::Invalid(name))?.copy_from_slice(value);
    Ok(u64::from_le_bytes(bytes))
}

fn small<T: TryFrom<u64>>(name: &'static str, value: &[u8]) -> Result<T, WireError> {
    T::try_from(number(name, value)?).map_err(|_| WireError::Invalid(name))
}

fn text(name: &'static str, value: &[u8]) -> Result<String, WireError> {
    let text = std::str::from_utf8(value).map_err(|_| WireError::Invalid(name))?;
    if text.len() > TEXT_MAX { Err(WireError::Invalid(name)) } else { Ok(text.to_owned()) }
}

fn position(name: &'static str, value: &[u8]) -> Result<Option<Position>, WireError> {
    text(name, value)?.parse().map(Some).map_err(|_| WireError::Invalid(name))
}

fn hello(mut fields: Fields<'_>) -> Result<Hello, WireError> {
    let name = fields.name;
    let mut out = Hello::default();
    while let Some((tag, value)) = fields.next()? {
        match tag {
            tag::VERSION_MIN => out.versions.0 = small(name, value)?,
            tag::VERSION_MAX => out.versions.1 = small(name, value)?,
            tag::VERB => {
                out.verb = match number(name, value)? {
                    1 => Verb::Put,
                    2 => Verb::Get,
                    _ => return Err(WireError::Invalid(name)),
                }
            }
            tag::CHANNEL => out.channel = text(name, value)?,
            tag::CAPABILITIES => out.capabilities = number(name, value)?,
            tag::AGENT => out.agent = text(name, value)?,
            tag::REPORT_NAME => out.report_name = text(name, value)?,
            tag::NET_TIMEOUT => out.net_timeout_ms = number(name, value)?,
            tag::SESSION => out.session = number(name, value)?,
            tag::CREDIT => out.credit = number(name, value)?,
            tag::POSITION => out.reached.position = position(name, value)?,
            tag::IN_SNAPSHOT => out.reached.in_snapshot = number(name, value)? != 0,
            tag::FOLLOW => out.follow = number(name, value)? != 0,
            tag::READER => out.reader = text(name, value)?,
            tag::PROBE => out.probe = number(name, value)? != 0,
            // Of another version of the protocol: whether that matters is told by the versions.
            _ if out.versions.0 > VERSION => {}
            _ => unknown(name, tag)?,
        }
    }
    Ok(out)
}

fn welcome(mut fields: Fields<'_>) -> Result<Welcome, WireError> {
    let name = fields.name;
    let mut out = Welcome::default();
    while let Some((tag, value)) = fields.next()? {
        match tag {
            tag::VERSION_MAX => out.version = small(name, value)?,
            tag::CAPABILITIES => out.capabilities = number(name, value)?,
            tag::AGENT => out.agent = text(name, value)?,
            tag::NET_TIMEOUT => out.net_timeout_ms = number(name, value)?,
            tag::CREDIT => out.credit = number(name, value)?,
            tag::POSITION => out.reached.position = position(name, value)?,
            tag::IN_SNAPSHOT => out.reached.in_snapshot = number(name, value)? != 0,
            _ => unknown(name, tag)?,
        }
    }
    Ok(out)
}

fn ack(mut fields: Fields<'_>) -> Result<Ack, WireError> {
    let name = fields.name;
    let mut out = Ack::default();
    while let Some((tag, value)) = fields.next()? {
        match tag {
            tag::UNITS => out.units = number(name, value)?,
            tag::POSITION => out.reached.position = position(name, value)?,
            tag::IN_SNAPSHOT => out.reached.in_snapshot = number(name, value)? != 0,
            tag::WAITING => out.waiting = text(name, value)?,
            _ => unknown(name, tag)?,
        }
    }
    Ok(out)
}

fn refusal(mut fields: Fields<'_>) -> Result<Refusal, WireError> {
    let name = fields.name;
    let mut out = Refusal::default();
    while let Some((tag, value)) = fields.next()? {
        match tag {
            tag::STATUS => out.status = small(name, value)?,
            tag::MESSAGE => out.message = text(name, value)?,
            tag::HINT => out.hint = text(name, value)?,
            tag::AGAIN => out.again = number(name, value)? != 0,
            _ => unknown(name, tag)?,
        }
    }
    Ok(out)
}

/// What can be wrong with what a peer sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The first message is no `hello`.
    #[error("the other side does not speak rlog-ship's protocol")]
    Magic,
    /// A message of an unknown kind.
    #[error("message of kind {0} is not known to this version")]
    Unknown(u8),
    /// A field that must be understood.
    #[error("{name} message has field {tag}, which this version must understand and does not")]
    Field {
        /// Kind of the message.
        name: &'static str,
        /// The field's tag.
        tag: u8,
    },
    /// A length beyond its limit.
    #[error("{what} message of {length} bytes exceeds its limit")]
    TooLong {
        /// Kind of the message.
        what: &'static str,
        /// What it says.
        length: u64,
    },
    /// A payload that does not decode.
    #[error("{0} message is invalid")]
    Invalid(&'static str),
    /// A message that may not come now.
    #[error("{0} message where none may stand")]
    Order(&'static str),
}

impl WireError {
    /// The class, and so the exit status.
    pub fn class(&self) -> Class {
        match self {
            WireError::Unknown(_) | WireError::Field { .. } => Class::Version,
            _ => Class::Damage,
        }
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Error {
        Error::new(error.class(), error.to_string())
    }
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    flags: u8,
    length: usize,
}

/// Cuts what arrives into messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    data_allowed: bool,
    /// A message has come, so the peer does speak the protocol.
    spoken: bool,
}

impl Decoder {
    /// Before the peer was welcomed only control messages are let in.
    pub fn new() -> Decoder {
        Decoder { buffer: Vec::new(), start: 0, filled: 0, data_allowed: false, spoken: false }
    }

    /// `data` may come from now on.
    pub fn allow_data(&mut self) {
        self.data_allowed = true;
    }

    /// Whether a message has begun and is not whole.
    pub fn is_inside(&self) -> bool {
        self.filled > self.start
    }

    /// Room for what arrives next; tell [`Decoder::filled`] how much came.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.filled {
            (self.start, self.filled) = (0, 0);
        }
        let capacity = if self.data_allowed { 2 * (HEADER_LEN + DATA_MAX) } else { HEADER_LEN + CONTROL_MAX };
        if self.buffer.len() < capacity {
            self.buffer.resize(capacity, 0);
        }
        // What a message may still need must fit behind `start`.
        let longest = HEADER_LEN + if self.data_allowed { DATA_MAX } else { CONTROL_MAX };
        if self.start > 0 && self.buffer.len() - self.start < longest {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        self.buffer.get_mut(self.filled..).unwrap_or(&mut [])
    }

    /// So many bytes came into the room.
    pub fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    /// The next whole message.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Message>, WireError> {
        let bytes = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let head = self.head(head)?;
        let Some(payload) = rest.get(..head.length) else { return Ok(None) };
        let message = Message::decode(head, payload)?;
        self.start += HEADER_LEN + head.length;
        self.spoken = true;
        Ok(Some(message))
    }

    fn head(&self, bytes: &[u8; HEADER_LEN]) -> Result<Head, WireError> {
        let [kind, flags, zero_a, zero_b, a, b, c, d] = *bytes;
        let length = u32::from_le_bytes([a, b, c, d]);
        let what = KINDS.iter().find(|(number, _)| *number == kind);
        let Some((_, what)) = what else {
            // Something that is not ours at all is named as such.
            return Err(if self.spoken { WireError::Unknown(kind) } else { WireError::Magic });
        };
        if zero_a != 0 || zero_b != 0 || flags & !ZSTD != 0 || (flags != 0 && kind != DATA) {
            return Err(if self.spoken { WireError::Invalid(what) } else { WireError::Magic });
        }
        let limit = match kind {
            DATA if !self.data_allowed => return Err(WireError::Order("data")),
            DATA => DATA_MAX,
            HEARTBEAT | END | DONE => 0,
            _ => CONTROL_MAX,
        };
        if length as usize > limit || (kind == DATA && length == 0) {
            return Err(WireError::TooLong { what, length: length.into() });
        }
        Ok(Head { kind, flags, length: length as usize })
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

#[cfg(test)]
mod tests;
