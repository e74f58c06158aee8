//! Events: what the payloads of `data` and `definition` frames mean. No I/O.
//!
//! A transaction's `data` frames carry **records** ([`record`]): rows, statements, DDL, annotations. Rows refer by key
//! to a **table definition** ([`table`]), which says for each column how its values are written ([`table::ColumnKind`]).
//! Rows are written image by image into the frame ([`rows`]), without a value tree in between: a source copies or
//! transcodes column bytes, and a reader borrows [`value::Value`]s from the payload.
//!
//! Of a column in an image, *absent* (the log does not say), *unchanged* (it is as before) and NULL are three things.

pub mod charset;
pub mod digits;
pub mod filter;
pub mod json;
pub mod own;
pub mod record;
pub mod rows;
pub mod statement;
pub mod table;
pub mod text;
pub mod value;

pub use record::{RecordKind, RecordReader, Records};
pub use rows::{ColumnSet, Image, Row, Rows, RowsHead, RowsOp};
pub use statement::Statement;
pub use table::{Column, ColumnKind, Key, KeyPart, Sign, TableDefinition};
pub use value::Value;

/// Version of the events that this code writes; it stands in every table definition and is raised when a record or
/// column kind changes its meaning.
pub const EVENT_VERSION: u8 = 1;

/// What is wrong with an event. Offsets are within the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid event: {0}")]
pub struct EventError(pub String);

impl EventError {
    pub(crate) fn new(what: impl Into<String>) -> EventError {
        EventError(what.into())
    }
}

impl From<EventError> for crate::error::Error {
    fn from(error: EventError) -> Self {
        crate::error::Error::damage(error.to_string())
    }
}

impl From<crate::frame::FrameError> for EventError {
    fn from(error: crate::frame::FrameError) -> Self {
        EventError(error.to_string())
    }
}
