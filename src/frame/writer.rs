//! Writing frames: in place, into a reused buffer, with counts and digest kept along the way.

use super::envelope::{Begin, Commit};
use super::header::{FRAME_PAYLOAD_MAX, HEADER_LEN, Header, Kind, flags};
use super::position::Coordinate;
use super::unit::{Measured, Unit, Units};

/// Digest over a transaction's frames: of `begin` and each `data` frame, in order, payload CRC and length.
///
/// FNV-1a with 64 bits over two 32-bit words a frame. It commits to the payloads through their CRCs, so that a frame that is
/// missing, doubled or exchanged is noticed without reading payloads again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Goes on from a value.
    pub fn resumed(value: u64) -> Digest {
        Digest(value)
    }

    /// Adds a frame.
    #[inline]
    pub fn add(&mut self, payload_crc: u32, length: u32) {
        for word in [payload_crc, length] {
            self.0 = (self.0 ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The value that `commit` carries.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// Encodes frames into its buffer, which the caller drains ([`FrameWriter::bytes`] and
/// [`FrameWriter::clear`]) when it likes. No frame's bytes depend on when that is done.
///
/// Payloads are written in place: [`FrameWriter::open`], append to [`FrameWriter::buffer`], [`FrameWriter::close`].
#[derive(Debug, Default)]
pub struct FrameWriter {
    buffer: Vec<u8>,
    open_at: Option<usize>,
    salt: u32,
    txid: Coordinate,
    seq: u32,
    digest: Digest,
    /// What is kept in place of frames.
    units: Option<Box<Units>>,
}

impl FrameWriter {
    /// A writer of streams (salt 0).
    pub fn new() -> FrameWriter {
        FrameWriter::default()
    }

    /// A writer of a queue segment with this salt.
    pub fn with_salt(salt: u32) -> FrameWriter {
        FrameWriter { salt, ..FrameWriter::default() }
    }

    /// A writer that never makes frames: what is written is read with [`FrameWriter::next_unit`], and [`FrameWriter::bytes`] stays empty.
    pub fn in_process() -> FrameWriter {
        FrameWriter { units: Some(Box::default()), ..FrameWriter::default() }
    }

    /// Whether it keeps units in place of frames.
    pub fn is_in_process(&self) -> bool {
        self.units.is_some()
    }

    /// The next unit that waits ([`FrameWriter::in_process`]). The caller may take things out of it.
    pub fn next_unit(&mut self) -> Option<&mut Unit> {
        self.units.as_mut()?.next()
    }

    /// Takes whole records of the open transaction without copying them, and gives back an empty buffer; `false`, and nothing taken, when frames
    /// are wanted.
    pub fn take(&mut self, records: &mut Vec<u8>) -> bool {
        let Some(units) = &mut self.units else { return false };
        if !records.is_empty() {
            let empty = units.buffer();
            units.data(0, std::mem::replace(records, empty));
        }
        true
    }

    /// Hands over what was measured in place of records, and gives back an empty list. Only in process.
    pub fn measured(&mut self, measured: &mut Vec<Measured>) {
        if let Some(units) = &mut self.units
            && !measured.is_empty()
        {
            units.measured(measured);
        }
    }

    /// What was written and not yet drained. While a frame is open its header is not valid.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes not yet drained; about as many as the units have.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.units.as_ref().map_or(0, |units| units.len())
    }

    /// Whether nothing waits to be drained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what was drained. Only between frames.
    pub fn clear(&mut self) {
        debug_assert!(self.open_at.is_none());
        self.buffer.clear();
    }

    /// The buffer, to which the open frame's payload is appended (never truncated below its start).
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Starts a frame: reserves the header.
    pub fn open(&mut self) {
        debug_assert!(self.open_at.is_none());
        self.open_at = Some(self.buffer.len());
        self.buffer.extend_from_slice(&[0; HEADER_LEN]);
    }

    /// Payload bytes of the open frame so far.
    pub fn open_len(&self) -> usize {
        self.open_at.map_or(0, |at| self.buffer.len() - at - HEADER_LEN)
    }

    /// Finishes the open frame. The payload must not exceed [`FRAME_PAYLOAD_MAX`].
    pub fn close(&mut self, kind: Kind, flags: u16, seq: u32, id: u64) -> (u32, u32) {
        let at = self.open_at.take().unwrap_or(self.buffer.len());
        let payload = self.buffer.get(at + HEADER_LEN..).unwrap_or(&[]);
        if let Some(units) = &mut self.units {
            let mut own = units.buffer();
            own.extend_from_slice(payload);
            match kind {
                Kind::Data => units.data(flags, own),
                kind => units.frame(kind, id, own),
            }
            self.buffer.truncate(at);
            return (0, 0);
        }
        debug_assert!(payload.len() <= FRAME_PAYLOAD_MAX);
        let length = payload.len() as u32;
        let payload_crc = crc32fast::hash(payload);
        let header = Header { kind: kind as u8, flags, length, seq, id, salt: self.salt, payload_crc }.encode();
        if let Some(room) = self.buffer.get_mut(at..at + HEADER_LEN) {
            room.copy_from_slice(&header);
        }
        (payload_crc, length)
    }

    /// Drops the open frame.
    pub fn cancel(&mut self) {
        if let Some(at) = self.open_at.take() {
            self.buffer.truncate(at);
        }
    }

    /// A frame outside of transactions, its payload made by `encode`.
    pub fn frame(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) {
        let skippable = if kind == Kind::Heartbeat { flags::SKIPPABLE } else { 0 };
        self.open();
        encode(&mut self.buffer);
        self.close(kind, skippable, 0, 0);
    }

    /// A table definition. Outside of the transaction's count and digest, even between its frames.
    pub fn definition(&mut self, key: u64, payload: &[u8]) {
        self.open();
        self.buffer.extend_from_slice(payload);
        self.close(Kind::Definition, 0, 0, key);
    }

    /// Starts a transaction.
    pub fn begin(&mut self, txid: Coordinate, begin: &Begin) {
        self.txid = txid;
        self.seq = 0;
        self.digest = Digest::default();
        if let Some(units) = &mut self.units {
            return units.begin(txid, begin);
        }
        self.open();
        begin.encode(&mut self.buffer);
        self.close_counted(Kind::Begin, 0);
    }

    /// Finishes the open frame as a `data` frame of the transaction.
    pub fn close_data(&mut self, flags: u16) {
        self.close_counted(Kind::Data, flags);
    }

    /// A whole `data` frame.
    pub fn data(&mut self, flags: u16, payload: &[u8]) {
        self.open();
        self.buffer.extend_from_slice(payload);
        self.close_data(flags);
    }

    fn close_counted(&mut self, kind: Kind, flags: u16) {
        let (crc, length) = self.close(kind, flags, self.seq, self.txid.0);
        self.digest.add(crc, length);
        self.seq += 1;
    }

    /// Ends the transaction (`kind` is `Commit` or `Prepared`); fills in frame count and digest.
    pub fn commit(&mut self, kind: Kind, commit: &mut Commit) {
        if let Some(units) = &mut self.units {
            (commit.frame_count, commit.frame_digest) = (0, 0);
            return units.commit(kind, self.txid, commit);
        }
        commit.frame_count = self.seq;
        commit.frame_digest = self.digest.value();
        self.open();
        commit.encode(&mut self.buffer);
        self.close(kind, 0, self.seq, self.txid.0);
    }

    /// Ends the transaction as never having happened.
    pub fn discard(&mut self) {
        if let Some(units) = &mut self.units {
            return units.discard();
        }
        self.open();
        self.close(Kind::Discard, 0, self.seq, self.txid.0);
    }
}
