//! Records: the units inside `data` frames.
//!
//! A record is kind (1 byte), length of the body (4 bytes, little-endian), body. The `data` payloads of one transaction
//! form a sequence of records; a record that does not fit goes on in the next frame (flags `CONTINUES`, `CONTINUED`).
//! Kinds from 128 may be passed over by a reader that does not know them.

use super::EventError;
use crate::frame::{FRAME_PAYLOAD_MAX, Frame, FrameWriter, flags};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// What a record is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum RecordKind { $($(#[$doc])* $name = $number,)* }
        impl RecordKind {
            /// Number and name of every kind, as rlog-format(5) has them in its table RECORDS.
            pub const ALL: &'static [(RecordKind, u8, &'static str)] = &[$((RecordKind::$name, $number, $text),)*];
            /// The kind with this number, if this version knows it.
            pub fn from_number(number: u8) -> Option<RecordKind> {
                match number { $($number => Some(RecordKind::$name),)* _ => None }
            }
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(RecordKind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Rows inserted into one table; see [`super::rows`].
    Insert = 1 "insert",
    /// Rows updated.
    Update = 2 "update",
    /// Rows deleted.
    Delete = 3 "delete",
    /// A statement with its session context; see [`super::statement`].
    Statement = 4 "statement",
    /// A statement that changes the schema.
    Ddl = 5 "ddl",
    /// All rows of a table were removed: a statement record that names the table, for sources without SQL text.
    Truncate = 6 "truncate",
    /// A block of a file that a later statement loads: statement record with file id and bytes.
    LoadBlock = 7 "load-block",
    /// Decides an XA transaction prepared earlier; a statement record whose SQL is XA COMMIT or XA ROLLBACK.
    XaDecision = 8 "xa-decision",
    /// SQL text that caused the rows behind it, for people.
    Annotate = 128 "annotate",
    /// A remark of the source for people.
    Note = 129 "note",
}

/// Bytes before a record's body.
pub const RECORD_HEAD_LEN: usize = 5;
/// First kind that may be passed over.
pub const FIRST_SKIPPABLE_KIND: u8 = 128;

/// Appends records to a payload that is being built; [`write_payload`] cuts it into frames.
pub fn open_record(out: &mut Vec<u8>, kind: RecordKind) -> usize {
    let at = out.len();
    out.push(kind as u8);
    out.extend_from_slice(&[0; 4]);
    at
}

/// Finishes the record that [`open_record`] started at `at`. Its body must be below 4 GiB.
pub fn close_record(out: &mut [u8], at: usize) -> Result<(), EventError> {
    let length = out.len().saturating_sub(at + RECORD_HEAD_LEN);
    let length = u32::try_from(length).map_err(|_| EventError::new("a record exceeds 4 GiB"))?;
    if let Some(room) = out.get_mut(at + 1..at + RECORD_HEAD_LEN) {
        room.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// Writes whole records (`payload` holds nothing else) as `data` frames. Records that fit are never cut: a frame ends at the last
/// record boundary before the limit; a record that is longer than a frame is spread over frames of its own.
pub fn write_payload(writer: &mut FrameWriter, mut payload: &[u8]) {
    while payload.len() > FRAME_PAYLOAD_MAX {
        let mut end = 0;
        while let Some(next) = record_len(payload.get(end..).unwrap_or(&[])).map(|length| end + length) {
            if next > FRAME_PAYLOAD_MAX {
                break;
            }
            end = next;
        }
        if end == 0 {
            end = record_len(payload).unwrap_or(payload.len()).min(payload.len());
        }
        let (now, rest) = payload.split_at(end);
        if now.len() <= FRAME_PAYLOAD_MAX {
            writer.data(0, now);
        } else {
            write_spread(writer, now);
        }
        payload = rest;
    }
    if !payload.is_empty() {
        writer.data(0, payload);
    }
}

fn write_spread(writer: &mut FrameWriter, record: &[u8]) {
    let pieces = record.len().div_ceil(FRAME_PAYLOAD_MAX);
    for (number, piece) in record.chunks(FRAME_PAYLOAD_MAX).enumerate() {
        let continued = if number > 0 { flags::CONTINUED } else { 0 };
        let continues = if number + 1 < pieces { flags::CONTINUES } else { 0 };
        writer.data(continued | continues, piece);
    }
}

/// Bytes of the record at the front of `payload`, head included.
fn record_len(payload: &[u8]) -> Option<usize> {
    let head = payload.get(1..RECORD_HEAD_LEN)?.first_chunk::<4>()?;
    Some(RECORD_HEAD_LEN + u32::from_le_bytes(*head) as usize)
}

/// Puts records that span frames together. Feed it every data frame of a transaction in order.
///
/// Memory: the largest record, grown as its bytes arrive, never by what a length claims.
#[derive(Debug, Default)]
pub struct RecordReader {
    spread: Vec<u8>,
}

impl RecordReader {
    /// A reader that stands at the start of a transaction.
    pub fn new() -> RecordReader {
        RecordReader::default()
    }

    /// Forgets a record that was begun (the transaction was discarded).
    pub fn reset(&mut self) {
        self.spread.clear();
    }

    /// Takes a data frame and returns the records that are whole; none while one still goes on.
    pub fn frame<'a>(&'a mut self, frame: &Frame<'a>) -> Records<'a> {
        self.payload(frame.payload, frame.header.flags)
    }

    /// As [`RecordReader::frame`], from payload and flags.
    pub fn payload<'a>(&'a mut self, payload: &'a [u8], frame_flags: u16) -> Records<'a> {
        if frame_flags & (flags::CONTINUES | flags::CONTINUED) == 0 {
            self.spread.clear();
            return Records { rest: payload };
        }
        if frame_flags & flags::CONTINUED == 0 {
            self.spread.clear();
        }
        self.spread.extend_from_slice(payload);
        if frame_flags & flags::CONTINUES != 0 {
            return Records { rest: &[] };
        }
        Records { rest: &self.spread }
    }
}

/// Walks whole records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Walks the records of a payload that holds only whole ones.
    pub fn new(payload: &'a [u8]) -> Records<'a> {
        Records { rest: payload }
    }

    /// The next record's kind and body; `None` at the end. Unknown skippable kinds are passed over.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(RecordKind, &'a [u8])>, EventError> {
        loop {
            let Some(&number) = self.rest.first() else { return Ok(None) };
            let length = record_len(self.rest).ok_or_else(|| EventError::new("a record's head is cut short"))?;
            let Some((record, rest)) = self.rest.split_at_checked(length) else {
                return Err(EventError::new("a record is longer than its frame"));
            };
            self.rest = rest;
            match RecordKind::from_number(number) {
                Some(kind) => return Ok(Some((kind, record.get(RECORD_HEAD_LEN..).unwrap_or(&[])))),
                None if number >= FIRST_SKIPPABLE_KIND => {}
                None => return Err(EventError(format!("record kind {number} is not known to this version"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Begin, Coordinate, SliceFrames};

    fn record(kind: RecordKind, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let at = open_record(&mut out, kind);
        out.resize(RECORD_HEAD_LEN + length, 7);
        close_record(&mut out, at).unwrap();
        out
    }

    #[test]
    fn records_of_any_size_come_back_whole_and_those_that_fit_are_never_cut() {
        let lengths = [10, FRAME_PAYLOAD_MAX - 20, 30, 3 * FRAME_PAYLOAD_MAX, 0, FRAME_PAYLOAD_MAX, 5];
        let payload: Vec<u8> = lengths.iter().flat_map(|length| record(RecordKind::Note, *length)).collect();
        let mut writer = FrameWriter::new();
        writer.begin(Coordinate(1), &Begin::default());
        write_payload(&mut writer, &payload);
        let mut frames = SliceFrames::new(writer.bytes(), 0);
        frames.next().unwrap();
        let mut reader = RecordReader::new();
        let mut found = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            let mut records = reader.frame(&frame);
            while let Some((_, body)) = records.next().unwrap() {
                found.push(body.len());
            }
        }
        assert_eq!(found, lengths);
    }
}
