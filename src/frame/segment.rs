//! The frames of a queue itself: `segment`, the first of every segment file, and `watermark`.
//!
//! A segment file is: its `segment` frame; the *preamble*, which repeats the stream header and every live
//! definition so that the file reads alone; then frames as they came from the source, with watermarks between them.
//! All frames of a file carry the salt of its `segment` frame. See SEGMENT and WATERMARK in rlog-format(5).

use super::envelope::tags;
use super::fields::{FieldReader, FieldWriter, put_varint, take_varint};
use super::header::{FrameError, Kind};
use super::position::{Coordinate, Incarnation, Position};

tags!(segment_tags {
    QUEUE = 1, CHANNEL = 2, NUMBER = 3, GTID_STATE = 4, FIRST_SEQUENCE = 5, EPOCH = 7, PREVIOUS_NUMBER = 9,
    PREVIOUS_LENGTH = 11, PREVIOUS_DIGEST = 13, REACHED = 15, INCARNATION = 17, PREAMBLE = 19, LAST = 21,
    FORMER_LIFE = 23, SNAPSHOT = 25, SNAPSHOT_AT = 27, SNAPSHOT_CHUNKS = 29,
});
tags!(watermark_tags { SYNCED = 1, SEQUENCE = 3, EPOCH = 5, });

/// Payload of `segment`: which file of which queue this is, what came before it, and what held at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// UUID of the queue.
    pub queue: [u8; 16],
    /// Channel, folded.
    pub channel: String,
    /// Number of the file, from 1, without holes.
    pub number: u64,
    /// Sequence number of the first unit in it.
    pub first_sequence: u64,
    /// Epoch of the writer that made it.
    pub epoch: u64,
    /// Number of the file before it; 0: it is the first.
    pub previous_number: u64,
    /// Bytes of that file that count; what it has beyond them is void.
    pub previous_length: u64,
    /// Digest over the frames of those bytes; see [`super::Digest`], here over header checksum and length.
    pub previous_digest: u64,
    /// What the queue had reached before this file; `None`: nothing was ever queued.
    pub reached: Option<Coordinate>,
    /// Life of the source at `reached`.
    pub incarnation: Incarnation,
    /// GTID state at `reached`.
    pub gtid_state: String,
    /// Frames of the preamble, which follow at once.
    pub preamble: u64,
    /// The last transaction before this file.
    pub last: Option<Position>,
    /// Servers that the channel followed before a handover, and what it had reached of each.
    pub former_lives: Vec<(Incarnation, Coordinate)>,
    /// The snapshot that was queued last, wholly or in part.
    pub snapshot: Option<SnapshotProgress>,
}

/// How much of a snapshot a queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its position.
    pub at: Coordinate,
    /// Whether its end is queued.
    pub complete: bool,
    /// Chunks held of each table, by definition key, while it is not complete.
    pub chunks: Vec<(u64, u64)>,
}

impl Segment {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use segment_tags::*;
        let mut fields = FieldWriter::new(out);
        fields
            .bytes(QUEUE, &self.queue)
            .bytes(CHANNEL, self.channel.as_bytes())
            .number(NUMBER, self.number)
            .bytes_unless_empty(GTID_STATE, self.gtid_state.as_bytes())
            .number(FIRST_SEQUENCE, self.first_sequence)
            .number(EPOCH, self.epoch)
            .number(PREVIOUS_NUMBER, self.previous_number)
            .number(PREVIOUS_LENGTH, self.previous_length)
            .number(PREVIOUS_DIGEST, self.previous_digest);
        if let Some(reached) = self.reached {
            fields.number(REACHED, reached.0);
        }
        fields.number(INCARNATION, self.incarnation.0).number(PREAMBLE, self.preamble);
        if let Some(last) = &self.last {
            fields.bytes(LAST, last.to_string().as_bytes());
        }
        for (incarnation, reached) in &self.former_lives {
            let mut value = [0; 16];
            let (front, back) = value.split_at_mut(8);
            front.copy_from_slice(&incarnation.0.to_le_bytes());
            back.copy_from_slice(&reached.0.to_le_bytes());
            fields.bytes(FORMER_LIFE, &value);
        }
        if let Some(snapshot) = &self.snapshot {
            fields.bytes(SNAPSHOT, &snapshot.uuid).number(SNAPSHOT_AT, snapshot.at.0);
            if !snapshot.complete {
                let mut value = Vec::new();
                for (table, chunks) in &snapshot.chunks {
                    value.extend_from_slice(&table.to_le_bytes());
                    put_varint(&mut value, *chunks);
                }
                fields.bytes(SNAPSHOT_CHUNKS, &value);
            }
        }
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Segment, FrameError> {
        use segment_tags::*;
        let mut out = Segment::default();
        let mut fields = FieldReader::new(payload, Kind::Segment, at);
        let mut snapshot: Option<SnapshotProgress> = None;
        while let Some(field) = fields.next()? {
            match field.tag {
                QUEUE => out.queue = field.value.try_into().map_err(|_| fields.invalid("its UUID is not 16 bytes"))?,
                CHANNEL => out.channel = fields.text(field)?,
                NUMBER => out.number = fields.number(field)?,
                GTID_STATE => out.gtid_state = fields.text(field)?,
                FIRST_SEQUENCE => out.first_sequence = fields.number(field)?,
                EPOCH => out.epoch = fields.number(field)?,
                PREVIOUS_NUMBER => out.previous_number = fields.number(field)?,
                PREVIOUS_LENGTH => out.previous_length = fields.number(field)?,
                PREVIOUS_DIGEST => out.previous_digest = fields.number(field)?,
                REACHED => out.reached = Some(Coordinate(fields.number(field)?)),
                INCARNATION => out.incarnation = Incarnation(fields.number(field)?),
                PREAMBLE => out.preamble = fields.number(field)?,
                LAST => {
                    let last = field.text().and_then(|text| text.parse().ok());
                    out.last = Some(last.ok_or_else(|| fields.invalid("its last position is invalid"))?);
                }
                FORMER_LIFE => {
                    let life = decode_life(field.value);
                    out.former_lives.push(life.ok_or_else(|| fields.invalid("a former life is not 16 bytes"))?);
                }
                SNAPSHOT => {
                    let uuid = field.value.try_into();
                    let uuid = uuid.map_err(|_| fields.invalid("its snapshot's UUID is not 16 bytes"))?;
                    snapshot = Some(SnapshotProgress { uuid, complete: true, ..SnapshotProgress::default() });
                }
                SNAPSHOT_AT => {
                    let at = Coordinate(fields.number(field)?);
                    snapshot.as_mut().ok_or_else(|| fields.invalid("a snapshot without UUID"))?.at = at;
                }
                SNAPSHOT_CHUNKS => {
                    let chunks = decode_chunks(field.value);
                    let snapshot = snapshot.as_mut().ok_or_else(|| fields.invalid("a snapshot without UUID"))?;
                    snapshot.chunks = chunks.ok_or_else(|| fields.invalid("its snapshot's chunks are invalid"))?;
                    snapshot.complete = false;
                }
                _ => fields.unknown(field)?,
            }
        }
        if out.number == 0 || out.channel.is_empty() || out.previous_number.checked_add(1) != Some(out.number) {
            return Err(fields.invalid("it does not say which file this is"));
        }
        out.snapshot = snapshot;
        Ok(out)
    }
}

fn decode_life(value: &[u8]) -> Option<(Incarnation, Coordinate)> {
    let (incarnation, rest) = value.split_first_chunk::<8>()?;
    let reached: &[u8; 8] = rest.try_into().ok()?;
    Some((Incarnation(u64::from_le_bytes(*incarnation)), Coordinate(u64::from_le_bytes(*reached))))
}

fn decode_chunks(mut value: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut out = Vec::new();
    while !value.is_empty() {
        let (table, rest) = value.split_first_chunk::<8>()?;
        value = rest;
        out.push((u64::from_le_bytes(*table), take_varint(&mut value)?));
    }
    Some(out)
}

/// Payload of `watermark`: what was durable when it was written. A bad frame below a watermark that stands behind it
/// is damage; at or above the last watermark it is a write that a crash cut short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Bytes of this file that were durable.
    pub synced: u64,
    /// Sequence number of the last unit in them.
    pub sequence: u64,
    /// Epoch of the writer.
    pub epoch: u64,
}

impl Watermark {
    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use watermark_tags::*;
        FieldWriter::new(out).number(SYNCED, self.synced).number(SEQUENCE, self.sequence).number(EPOCH, self.epoch);
    }

    /// Decodes a payload; `at` is the frame's offset, for messages.
    pub fn decode(payload: &[u8], at: u64) -> Result<Watermark, FrameError> {
        use watermark_tags::*;
        let mut out = Watermark::default();
        let mut fields = FieldReader::new(payload, Kind::Watermark, at);
        while let Some(field) = fields.next()? {
            match field.tag {
                SYNCED => out.synced = fields.number(field)?,
                SEQUENCE => out.sequence = fields.number(field)?,
                EPOCH => out.epoch = fields.number(field)?,
                _ => fields.unknown(field)?,
            }
        }
        if out.synced > at {
            return Err(fields.invalid("it vouches for bytes that stand behind it"));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_as_written() {
        let mut segment = Segment {
            queue: [7; 16],
            channel: "default".into(),
            number: 3,
            first_sequence: 900,
            epoch: 2,
            previous_number: 2,
            previous_length: 1 << 30,
            previous_digest: u64::MAX,
            reached: Some(Coordinate(77)),
            incarnation: Incarnation(5),
            gtid_state: "0-1-5".into(),
            preamble: 4,
            last: "42:1234-5678,9f3c2a1065f0c1aa,1a2b3c4d,0-1-100".parse().ok(),
            former_lives: vec![(Incarnation(1), Coordinate(2))],
            snapshot: Some(SnapshotProgress {
                uuid: [9; 16],
                at: Coordinate(8),
                complete: false,
                chunks: vec![(1, 2), (3, 400)],
            }),
        };
        for _ in 0..2 {
            let mut out = Vec::new();
            segment.encode(&mut out);
            assert_eq!(Segment::decode(&out, 0), Ok(segment.clone()));
            segment.snapshot = Some(SnapshotProgress { complete: true, ..SnapshotProgress::default() });
        }
    }

    #[test]
    fn a_watermark_that_vouches_for_what_stands_behind_it_is_refused() {
        let mut out = Vec::new();
        Watermark { synced: 100, sequence: 3, epoch: 1 }.encode(&mut out);
        assert!(Watermark::decode(&out, 99).is_err());
        assert_eq!(Watermark::decode(&out, 100).map(|mark| mark.sequence), Ok(3));
    }
}
