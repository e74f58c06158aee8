//! The frame header: 36 bytes, little-endian, with a checksum of its own.

use crate::error::{Class, Error};

/// First bytes of every frame. No block of zeros or text resembles it.
pub const MAGIC: [u8; 4] = [0x89, b'R', b'L', b'G'];
/// Version of the envelope that this code writes, and the highest that it reads.
pub const VERSION: u8 = 1;
/// Largest payload of one frame, in bytes. A larger value spans frames.
pub const FRAME_PAYLOAD_MAX: usize = 4 << 20;

// Each offset is the one before plus the width of its field. What the fields mean is in rlog-format(5).
pub(crate) const VERSION_AT: usize = MAGIC.len();
pub(crate) const KIND_AT: usize = VERSION_AT + 1;
pub(crate) const FLAGS_AT: usize = KIND_AT + 1;
pub(crate) const LENGTH_AT: usize = FLAGS_AT + 2;
pub(crate) const SEQ_AT: usize = LENGTH_AT + 4;
pub(crate) const ID_AT: usize = SEQ_AT + 4;
pub(crate) const SALT_AT: usize = ID_AT + 8;
pub(crate) const PAYLOAD_CRC_AT: usize = SALT_AT + 4;
pub(crate) const HEADER_CRC_AT: usize = PAYLOAD_CRC_AT + 4;
/// Bytes before the payload.
pub const HEADER_LEN: usize = HEADER_CRC_AT + 4;
const _: () = assert!(HEADER_LEN == 36);

/// Offset, size and name of every field, as rlog-format(5) has them in its table HEADER.
pub const LAYOUT: &[(usize, usize, &str)] = &[
    (0, 4, "magic"),
    (VERSION_AT, 1, "version"),
    (KIND_AT, 1, "kind"),
    (FLAGS_AT, 2, "flags"),
    (LENGTH_AT, 4, "length"),
    (SEQ_AT, 4, "seq"),
    (ID_AT, 8, "id"),
    (SALT_AT, 4, "salt"),
    (PAYLOAD_CRC_AT, 4, "payload_crc"),
    (HEADER_CRC_AT, 4, "header_crc"),
];

/// Bits of the flags field. Unknown bits among 0-7: refuse. Among 8-15: copy, ignore.
pub mod flags {
    /// A `data` frame whose last record goes on in the next `data` frame of the transaction.
    pub const CONTINUES: u16 = 1 << 0;
    /// A `data` frame that begins with the rest of a record.
    pub const CONTINUED: u16 = 1 << 1;
    /// Every flag among bits 0-7 that this version understands.
    pub const KNOWN: u16 = CONTINUES | CONTINUED;
    /// The bits that must be understood.
    pub const CRITICAL: u16 = 0x00ff;
    /// A reader that does not know the kind may pass over the frame.
    pub const SKIPPABLE: u16 = 1 << 15;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }
        impl Kind {
            /// Number and name of every kind, as rlog-format(5) has them in its table KINDS.
            pub const ALL: &'static [(Kind, u8, &'static str)] = &[$((Kind::$name, $number, $text),)*];
            /// The kind with this number, if this version knows it.
            pub fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
            /// Its name in manuals, dumps and messages.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Start of a stream: source identity and facts.
    Stream = 1 "stream",
    /// A table definition; `id` is its key.
    Definition = 2 "definition",
    /// Start of a transaction.
    Begin = 3 "begin",
    /// Event records of a transaction.
    Data = 4 "data",
    /// End of a transaction that is to be applied.
    Commit = 5 "commit",
    /// End of an XA transaction's prepared group.
    Prepared = 6 "prepared",
    /// A filtered or empty range of the source was passed.
    Progress = 7 "progress",
    /// Nothing happened, and the writer lives.
    Heartbeat = 8 "heartbeat",
    /// The source no longer holds a range.
    Gap = 9 "gap",
    /// The stream goes on from another host of the same history.
    Handover = 10 "handover",
    /// Existing rows follow, as transactions whose begin names their chunk.
    SnapshotBegin = 11 "snapshot-begin",
    /// All existing rows were written; the log goes on from here.
    SnapshotEnd = 12 "snapshot-end",
    /// The clean end of a stream.
    End = 13 "end",
    /// The writer failed; exit status and message.
    Abort = 14 "abort",
    /// The open transaction was rolled back by the source and must be forgotten.
    Discard = 15 "discard",
    /// First frame of a queue segment (rlog-queue's own).
    Segment = 32 "segment",
    /// What was durable when this was written (rlog-queue's own).
    Watermark = 33 "watermark",
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the kind; see [`Header::known_kind`].
    pub kind: u8,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Bytes of the payload.
    pub length: u32,
    /// Ordinal within the transaction, from 0 (begin); 0 outside of transactions and for definitions.
    pub seq: u32,
    /// The txid within a transaction, the key of a definition, else 0.
    pub id: u64,
    /// 0 in streams; a queue segment's random salt in its frames, so that a stale block never fits.
    pub salt: u32,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

impl Header {
    /// The kind, if this version knows it.
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// The bytes of the header, its own checksum included.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0u8; HEADER_LEN];
        out[..VERSION_AT].copy_from_slice(&MAGIC);
        out[VERSION_AT] = VERSION;
        out[KIND_AT] = self.kind;
        out[FLAGS_AT..LENGTH_AT].copy_from_slice(&self.flags.to_le_bytes());
        out[LENGTH_AT..SEQ_AT].copy_from_slice(&self.length.to_le_bytes());
        out[SEQ_AT..ID_AT].copy_from_slice(&self.seq.to_le_bytes());
        out[ID_AT..SALT_AT].copy_from_slice(&self.id.to_le_bytes());
        out[SALT_AT..PAYLOAD_CRC_AT].copy_from_slice(&self.salt.to_le_bytes());
        out[PAYLOAD_CRC_AT..HEADER_CRC_AT].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes and checks a header. `at` is its offset in the stream, for messages.
    pub fn decode(bytes: &[u8; HEADER_LEN], at: u64) -> Result<Header, FrameError> {
        if bytes[..VERSION_AT] != MAGIC {
            return Err(FrameError::Magic { at });
        }
        let found = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
        let wanted = le32(bytes, HEADER_CRC_AT);
        if found != wanted {
            return Err(FrameError::HeaderChecksum { at, found, wanted });
        }
        // Only after the checksum: a damaged version byte is damage, not a newer version.
        let version = bytes[VERSION_AT];
        if version == 0 || version > VERSION {
            return Err(FrameError::Version { at, version });
        }
        let header = Header {
            kind: bytes[KIND_AT],
            flags: u16::from_le_bytes([bytes[FLAGS_AT], bytes[FLAGS_AT + 1]]),
            length: le32(bytes, LENGTH_AT),
            seq: le32(bytes, SEQ_AT),
            id: u64::from(le32(bytes, ID_AT)) | u64::from(le32(bytes, ID_AT + 4)) << 32,
            salt: le32(bytes, SALT_AT),
            payload_crc: le32(bytes, PAYLOAD_CRC_AT),
        };
        if header.length as usize > FRAME_PAYLOAD_MAX {
            return Err(FrameError::TooLong { at, length: header.length });
        }
        if header.flags & flags::CRITICAL & !flags::KNOWN != 0
            || (header.known_kind().is_none() && header.flags & flags::SKIPPABLE == 0)
        {
            return Err(FrameError::Unknown { at, kind: header.kind, flags: header.flags });
        }
        Ok(header)
    }
}

fn le32(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What can be wrong with a frame or a sequence of frames. `at` is the offset of the frame in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes are not a frame.
    #[error("no frame begins here")]
    Magic {
        /// Offset of the frame.
        at: u64,
    },
    /// The header is damaged; its length cannot be believed.
    #[error("header checksum is {found:08x}, should be {wanted:08x}")]
    HeaderChecksum {
        /// Offset of the frame.
        at: u64,
        /// Computed.
        found: u32,
        /// Stored.
        wanted: u32,
    },
    /// The payload is damaged; the next frame may be intact.
    #[error("payload checksum is {found:08x}, should be {wanted:08x}")]
    PayloadChecksum {
        /// Offset of the frame.
        at: u64,
        /// Computed.
        found: u32,
        /// Stored.
        wanted: u32,
    },
    /// A newer version: this reader must not guess.
    #[error("frame has envelope version {version}, this rlog reads up to {VERSION}")]
    Version {
        /// Offset of the frame.
        at: u64,
        /// What it says.
        version: u8,
    },
    /// The length exceeds the limit of the format.
    #[error("frame of {length} bytes exceeds the limit of {FRAME_PAYLOAD_MAX}")]
    TooLong {
        /// Offset of the frame.
        at: u64,
        /// What it says.
        length: u32,
    },
    /// A kind or flag that this version does not know and may not pass over.
    #[error("frame of kind {kind} with flags {flags:#06x} is not known to this version and may not be skipped")]
    Unknown {
        /// Offset of the frame.
        at: u64,
        /// Its kind.
        kind: u8,
        /// Its flags.
        flags: u16,
    },
    /// The stream stops inside a frame. Not damage: the writer died between two writes.
    #[error("stream stops inside a frame, {missing} bytes short")]
    Torn {
        /// Offset of the frame.
        at: u64,
        /// Bytes that are missing, as far as is known.
        missing: u64,
    },
    /// An envelope payload does not decode.
    #[error("{kind} frame is invalid: {what}")]
    Payload {
        /// Offset of the frame.
        at: u64,
        /// Name of the kind.
        kind: &'static str,
        /// What is wrong.
        what: String,
    },
    /// An envelope payload has a field that must be understood and is not.
    #[error("{kind} frame has field {tag}, which this version must understand and does not")]
    Field {
        /// Offset of the frame.
        at: u64,
        /// Name of the kind.
        kind: &'static str,
        /// The field's tag.
        tag: u8,
    },
    /// Frames stand in an order that the format does not allow, or a count or digest disagrees.
    #[error("{what}")]
    Sequence {
        /// Offset of the frame.
        at: u64,
        /// What is wrong.
        what: String,
    },
}

impl FrameError {
    /// Offset of the frame at fault, in bytes from the start of the file or stream.
    pub fn at(&self) -> u64 {
        match *self {
            FrameError::Magic { at }
            | FrameError::HeaderChecksum { at, .. }
            | FrameError::PayloadChecksum { at, .. }
            | FrameError::Version { at, .. }
            | FrameError::TooLong { at, .. }
            | FrameError::Unknown { at, .. }
            | FrameError::Torn { at, .. }
            | FrameError::Payload { at, .. }
            | FrameError::Field { at, .. }
            | FrameError::Sequence { at, .. } => at,
        }
    }

    /// The class, and so the exit status.
    pub fn class(&self) -> Class {
        match self {
            FrameError::Version { .. } | FrameError::Unknown { .. } | FrameError::Field { .. } => Class::Version,
            FrameError::Torn { .. } => Class::Torn,
            _ => Class::Damage,
        }
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Error {
        let out = Error::new(error.class(), error.to_string()).at(error.at());
        match error.class() {
            Class::Version => {
                out.hint("install a newer rlog; `rlog-dump --version` prints the versions that this one reads")
            }
            Class::Damage => {
                out.hint("`rlog-dump --verify` lists every damaged frame, `rlog-dump --salvage` shows what is intact")
            }
            _ => out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { kind: 4, flags: 1, length: 77, seq: 3, id: 42 << 40 | 1234, salt: 0, payload_crc: 0xdead_beef }
    }

    #[test]
    fn a_header_comes_back_as_written() {
        assert_eq!(Header::decode(&header().encode(), 0), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_unless_it_is_marked_skippable() {
        let unknown = Header { kind: 200, ..header() };
        assert!(matches!(Header::decode(&unknown.encode(), 0), Err(FrameError::Unknown { kind: 200, .. })));
        let skippable = Header { flags: flags::SKIPPABLE, ..unknown };
        assert!(Header::decode(&skippable.encode(), 0).is_ok());
    }
}
