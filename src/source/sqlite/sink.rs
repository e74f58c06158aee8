//! What the decoder tells, and to whom.

use std::sync::Arc;

use super::ddl::Ddl;
use super::record::{Field, Value};
use super::schema::Table;
use super::wal::Span;
use crate::error::Result;

/// Where a transaction stands in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Counts the generations of the log that this decoder has read.
    pub generation: u32,
    /// Its frames.
    pub span: Span,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Insert,
    Update,
    Delete,
}

/// A row as it was stored, read as a row of `table`.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The rowid; 0 in tables without.
    pub rowid: i64,
    pub(super) layout: &'a Table,
    pub(super) remap: Option<(&'a [Option<usize>], &'a Table)>,
    pub(super) payload: &'a [u8],
    pub(super) fields: &'a [Field],
}

impl<'a> Row<'a> {
    /// The value of a column of the change's table; virtual generated columns are NULL.
    #[inline]
    pub fn get(&self, column: usize) -> Value<'a> {
        match self.remap {
            None => self.layout.value(self.rowid, self.payload, self.fields, column),
            Some((remap, table)) => match remap.get(column).copied().flatten() {
                Some(was) => self.layout.value(self.rowid, self.payload, self.fields, was),
                // A column that the transaction added: a record without fields is all defaults.
                None => table.value(self.rowid, &[], &[], column),
            },
        }
    }

    /// Bytes of the stored record.
    pub fn stored_len(&self) -> usize {
        self.payload.len()
    }
}

/// One changed row.
pub struct Change<'a> {
    /// Its table, as it is after the transaction.
    pub table: &'a Arc<Table>,
    /// What happened.
    pub op: Op,
    /// The row before (update, delete).
    pub before: Option<Row<'a>>,
    /// The row after (insert, update).
    pub after: Option<Row<'a>>,
}

/// Receives a transaction.
pub trait Sink {
    /// A transaction starts.
    fn begin(&mut self, txn: &Txn) -> Result<()>;
    /// Whether rows of `table` are wanted.
    fn wants(&mut self, table: &Table) -> bool {
        let _ = table;
        true
    }
    /// A statement that replays.
    fn ddl(&mut self, ddl: &Ddl) -> Result<()>;
    /// A changed row.
    fn row(&mut self, change: &Change<'_>) -> Result<()>;
    /// The AUTOINCREMENT counter of `table` is now `value`; `None`: it has none.
    fn sequence(&mut self, table: &str, value: Option<i64>) -> Result<()>;
    /// The transaction is complete.
    fn commit(&mut self, txn: &Txn) -> Result<()>;
}
