//! Units: what a stream consists of, handed over within one process, without frames in between.
//!
//! A writer that was made with [`super::FrameWriter::in_process`] keeps units in place of frames, in the same order, and the one who reads them
//! ([`super::FrameWriter::next_unit`]) needs no checksum, no header and no decoding: a begin comes as the struct that it is. Their buffers
//! are used again, so that a transaction costs no allocation once the largest one has passed.

use std::collections::VecDeque;

use super::envelope::{Begin, Commit};
use super::header::Kind;
use super::position::Coordinate;

/// A part of a stream.
#[derive(Debug)]
pub enum Unit {
    /// A transaction starts.
    Begin(Coordinate, Box<Begin>),
    /// Records of the open transaction, as the payload of a `data` frame has them, but of any length.
    Data {
        /// Whether a record goes on in the next or from the last unit; [`super::flags`].
        flags: u16,
        /// The records.
        payload: Vec<u8>,
    },
    /// Rows of the open transaction that were counted and measured, not decoded.
    Measured(Vec<Measured>),
    /// The open transaction ends, by `Commit` or `Prepared`. Its frame count and digest are 0.
    Commit(Kind, Coordinate, Box<Commit>),
    /// The open transaction never happened.
    Discard,
    /// Any other frame: kind, id and payload.
    Frame(Kind, u64, Vec<u8>),
}

/// Rows of one table and operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Definition key of the table.
    pub key: u64,
    /// Number of the record kind that they would be in.
    pub kind: u8,
    /// How many.
    pub rows: u64,
    /// Bytes that their images would have.
    pub bytes: u64,
}

/// Bytes that a unit counts beside its payload when a writer is asked how much waits.
const UNIT_BYTES: usize = 256;
/// Buffers above this size are not kept.
const SPARE_BYTES_MAX: usize = 4 << 20;
/// Buffers that are kept.
const SPARES_MAX: usize = 64;

/// The units that wait, and buffers for further ones.
#[derive(Debug, Default)]
pub(super) struct Units {
    waiting: VecDeque<Unit>,
    bytes: usize,
    now: Option<Unit>,
    buffers: Vec<Vec<u8>>,
    // Boxes, since they move from hand to hand.
    #[allow(clippy::vec_box)]
    begins: Vec<Box<Begin>>,
    #[allow(clippy::vec_box)]
    commits: Vec<Box<Commit>>,
    measured: Vec<Vec<Measured>>,
}

impl Units {
    /// Bytes that wait, about.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// An empty buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    fn push(&mut self, unit: Unit) {
        self.bytes += UNIT_BYTES + payload_len(&unit);
        self.waiting.push_back(unit);
    }

    pub fn begin(&mut self, txid: Coordinate, begin: &Begin) {
        let mut copy = self.begins.pop().unwrap_or_default();
        copy.copy_from(begin);
        self.push(Unit::Begin(txid, copy));
    }

    pub fn data(&mut self, flags: u16, payload: Vec<u8>) {
        self.push(Unit::Data { flags, payload });
    }

    pub fn measured(&mut self, measured: &mut Vec<Measured>) {
        let empty = self.measured.pop().unwrap_or_default();
        self.push(Unit::Measured(std::mem::replace(measured, empty)));
    }

    pub fn commit(&mut self, kind: Kind, txid: Coordinate, commit: &Commit) {
        let mut copy = self.commits.pop().unwrap_or_default();
        copy.copy_from(commit);
        self.push(Unit::Commit(kind, txid, copy));
    }

    pub fn discard(&mut self) {
        self.push(Unit::Discard);
    }

    pub fn frame(&mut self, kind: Kind, id: u64, payload: Vec<u8>) {
        self.push(Unit::Frame(kind, id, payload));
    }

    /// The next unit; the one before goes back.
    pub fn next(&mut self) -> Option<&mut Unit> {
        match self.now.take() {
            Some(Unit::Begin(_, begin)) if self.begins.len() < SPARES_MAX => self.begins.push(begin),
            Some(Unit::Commit(_, _, commit)) if self.commits.len() < SPARES_MAX => self.commits.push(commit),
            Some(Unit::Measured(mut measured)) if self.measured.len() < SPARES_MAX => {
                measured.clear();
                self.measured.push(measured);
            }
            Some(Unit::Data { mut payload, .. } | Unit::Frame(_, _, mut payload))
                if self.buffers.len() < SPARES_MAX && payload.capacity() <= SPARE_BYTES_MAX =>
            {
                payload.clear();
                self.buffers.push(payload);
            }
            _ => {}
        }
        let unit = self.waiting.pop_front()?;
        self.bytes -= UNIT_BYTES + payload_len(&unit);
        Some(self.now.insert(unit))
    }
}

fn payload_len(unit: &Unit) -> usize {
    match unit {
        Unit::Data { payload, .. } | Unit::Frame(_, _, payload) => payload.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Begin, Commit, Coordinate, FrameWriter, Kind};
    use super::*;

    #[test]
    fn units_come_out_in_order_and_nothing_of_an_earlier_one_is_left() {
        let mut writer = FrameWriter::in_process();
        for number in 0..3u64 {
            let gtid = if number == 1 { String::new() } else { format!("0-1-{number}") };
            let begin = Begin { prev: Coordinate(number), gtid: gtid.clone(), ..Begin::default() };
            writer.begin(Coordinate(number), &begin);
            writer.data(0, &number.to_le_bytes());
            let mut records = vec![number as u8];
            assert!(writer.take(&mut records) && records.is_empty());
            writer.definition(number, b"table");
            let mut commit = Commit { end: Coordinate(number + 1), gtid, ..Commit::default() };
            writer.commit(Kind::Commit, &mut commit);
            assert!(!writer.is_empty() && writer.bytes().is_empty());
            let mut seen = Vec::new();
            while let Some(unit) = writer.next_unit() {
                seen.push(format!("{unit:?}"));
            }
            assert!(writer.is_empty());
            assert_eq!(seen.len(), 5);
            assert_eq!(seen[0], format!("{:?}", Unit::Begin(Coordinate(number), Box::new(begin))));
            let payload = number.to_le_bytes().to_vec();
            assert_eq!(seen[1], format!("{:?}", Unit::Data { flags: 0, payload }));
            assert_eq!(seen[2], format!("{:?}", Unit::Data { flags: 0, payload: vec![number as u8] }));
            assert_eq!(seen[3], format!("{:?}", Unit::Frame(Kind::Definition, number, b"table".to_vec())));
            assert_eq!(seen[4], format!("{:?}", Unit::Commit(Kind::Commit, Coordinate(number), Box::new(commit))));
        }
    }
}
