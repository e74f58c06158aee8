//! The envelope: how transactions are framed, checked, numbered and delimited. Payloads of events are opaque here.
//!
//! rlog-format(5) is the specification; `tests/format.rs` compares its tables with the constants of this module.
//!
//! A **stream** is a `stream` frame followed by transactions, `progress` and the like, and one `end` or `abort`.
//! A **transaction** is `begin`, any number of `data` frames and one of `commit`, `prepared` or `discard`; its frames
//! carry the same txid and count up from 0 (`seq`). Table definitions are `definition` frames: flagged by their
//! kind, keyed, outside the count and the digest, valid until another with the same key. They may stand anywhere after a stream
//! frame, also inside a transaction.
//!
//! The parts: [`header`] (the 36 bytes before every payload), [`fields`] (how envelope payloads are written),
//! [`envelope`] (their meaning), [`segment`] (a queue's own frames), [`position`] (txids, coordinates and their printable form), [`writer`], [`reader`], [`mod@unit`] (a stream within one process)
//! and [`check`] (the state machine that every reader of a stream applies: nesting, counts, digests, contiguity).
//!
//! Promises: the same calls give the same bytes, whatever the size of the buffers; no length of the input is
//! believed before the checksum of the header that holds it has been verified and it is within its limit.

pub mod check;
pub mod envelope;
pub mod fields;
pub mod gtid;
pub mod header;
pub mod position;
pub mod reader;
pub mod segment;
pub mod unit;
pub mod writer;

pub use check::{Checker, Passed, Step};
pub use envelope::*;
pub use header::{FRAME_PAYLOAD_MAX, FrameError, HEADER_LEN, Header, Kind, MAGIC, VERSION, flags};
pub use position::{Coordinate, Incarnation, Position, PositionSpec};
pub use reader::{Frame, FrameReader, SliceFrames, find_frame};
pub use segment::{Segment, SnapshotProgress, Watermark};
pub use unit::{Measured, Unit};
pub use writer::{Digest, FrameWriter};

/// A transaction whose data exceeds this many bytes stands alone: it is a barrier on both sides (rlog-format(5),
/// WINDOWS), so that whoever writes it may write `begin` before having seen all of it. A constant of the format.
pub const TRANSACTION_ALONE_ABOVE_BYTES: u64 = 1 << 20;
