//! Rows records (`insert`, `update`, `delete`): some rows of one table, changed by one statement.
//!
//! ```text
//! key          8  definition key of the table
//! time         4  seconds since 1970 UTC when the statement started; 0: not known
//! flags        1  bit 0: an unchanged set is there; bit 1: a diff set is there
//! columns      LEB128  columns of the table as of the definition
//! before set   (columns + 7) / 8, lowest bit first; update and delete only
//! after set    likewise; update and insert only
//! unchanged set, diff set  likewise, when flagged
//! rows         4  how many
//! images       each row: before image, after image, as the operation has them
//! ```
//!
//! An image is a null bitmap over the columns of its set (lowest bit first, one bit for each column that is in the set),
//! then the values of those that are not NULL, in column order, each as its [`ColumnKind`] says. A column outside the
//! after set is *unchanged* when it is in the unchanged set, else *absent*. A JSON column in the diff set holds diffs in the
//! after image instead of a value.

use super::EventError;
use super::table::{ColumnKind, TableDefinition};
use super::value::{Value, skip_value, take_value};
use crate::frame::fields::{put_varint, take_bytes, take_varint};

/// What happened to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowsOp {
    /// They were inserted: after images only.
    Insert,
    /// They were changed: both images.
    Update,
    /// They were deleted: before images only.
    Delete,
}

impl RowsOp {
    /// Its name in dumps.
    pub fn name(self) -> &'static str {
        match self {
            RowsOp::Insert => "insert",
            RowsOp::Update => "update",
            RowsOp::Delete => "delete",
        }
    }

    /// The kind of its record.
    pub fn record_kind(self) -> super::RecordKind {
        match self {
            RowsOp::Insert => super::RecordKind::Insert,
            RowsOp::Update => super::RecordKind::Update,
            RowsOp::Delete => super::RecordKind::Delete,
        }
    }

    /// The operation of a record kind; `None` for records that hold no rows.
    pub fn of_record(kind: super::RecordKind) -> Option<RowsOp> {
        match kind {
            super::RecordKind::Insert => Some(RowsOp::Insert),
            super::RecordKind::Update => Some(RowsOp::Update),
            super::RecordKind::Delete => Some(RowsOp::Delete),
            _ => None,
        }
    }

    /// Whether it has before images.
    pub fn has_before(self) -> bool {
        self != RowsOp::Insert
    }

    /// Whether it has after images.
    pub fn has_after(self) -> bool {
        self != RowsOp::Delete
    }
}

const HAS_UNCHANGED: u8 = 1;
const HAS_DIFF: u8 = 2;
/// Most columns of a table; MySQL and MariaDB allow 4,096, SQLite 32,767.
pub const COLUMNS_MAX: usize = 65_535;

/// A set of columns as a bitmap, lowest bit first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSet<'a> {
    bits: &'a [u8],
}

impl<'a> ColumnSet<'a> {
    /// From the bitmap.
    pub fn new(bits: &'a [u8]) -> ColumnSet<'a> {
        ColumnSet { bits }
    }

    /// Whether column `index` is in the set.
    #[inline]
    pub fn contains(self, index: usize) -> bool {
        self.bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// How many of the first `columns` columns are in the set.
    pub fn count(self, columns: usize) -> usize {
        let whole: u32 = self.bits.iter().take(columns / 8).map(|byte| byte.count_ones()).sum();
        let rest = columns % 8;
        let last = match self.bits.get(columns / 8) {
            Some(byte) if rest > 0 => (byte & ((1 << rest) - 1)).count_ones(),
            _ => 0,
        };
        (whole + last) as usize
    }

    /// The bitmap.
    pub fn bits(self) -> &'a [u8] {
        self.bits
    }
}

/// The part before the images, for writers.
#[derive(Clone, Copy, Debug)]
pub struct RowsHead<'a> {
    /// Definition key of the table.
    pub key: u64,
    /// Seconds since 1970 UTC; 0: not known.
    pub time_s: u32,
    /// Columns of the table.
    pub columns: usize,
    /// Columns of the before images; ignored for inserts.
    pub before: &'a [u8],
    /// Columns of the after images; ignored for deletes.
    pub after: &'a [u8],
    /// Columns that are known to be unchanged; empty for none.
    pub unchanged: &'a [u8],
    /// JSON columns that hold diffs; empty for none.
    pub diff: &'a [u8],
}

impl RowsHead<'_> {
    /// Appends the head to `out`; returns where the count of rows stands, for [`set_row_count`].
    pub fn encode(&self, op: RowsOp, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.time_s.to_le_bytes());
        out.push(
            if self.unchanged.is_empty() { 0 } else { HAS_UNCHANGED } | if self.diff.is_empty() { 0 } else { HAS_DIFF },
        );
        put_varint(out, self.columns as u64);
        if op.has_before() {
            out.extend_from_slice(self.before);
        }
        if op.has_after() {
            out.extend_from_slice(self.after);
        }
        out.extend_from_slice(self.unchanged);
        out.extend_from_slice(self.diff);
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        at
    }
}

/// Fills in how many rows follow the head that [`RowsHead::encode`] wrote.
pub fn set_row_count(out: &mut [u8], at: usize, rows: u32) {
    if let Some(room) = out.get_mut(at..at + 4) {
        room.copy_from_slice(&rows.to_le_bytes());
    }
}

/// A rows record as read.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// What happened.
    pub op: RowsOp,
    /// Definition key of the table.
    pub key: u64,
    /// Seconds since 1970 UTC; 0: not known.
    pub time_s: u32,
    /// Columns of the table.
    pub columns: usize,
    /// Columns of the before images (empty for inserts).
    pub before: ColumnSet<'a>,
    /// Columns of the after images (empty for deletes).
    pub after: ColumnSet<'a>,
    /// Columns outside the after set that are known to be unchanged.
    pub unchanged: ColumnSet<'a>,
    /// JSON columns whose after value is a diff.
    pub diff: ColumnSet<'a>,
    /// How many rows.
    pub count: u32,
    /// The images.
    pub images: &'a [u8],
}

impl<'a> Rows<'a> {
    /// Decodes the body of a rows record, images unread.
    pub fn decode(op: RowsOp, body: &'a [u8]) -> Result<Rows<'a>, EventError> {
        Rows::decode_inner(op, body).ok_or_else(|| EventError::new("the head of a rows record is invalid"))
    }

    fn decode_inner(op: RowsOp, body: &'a [u8]) -> Option<Rows<'a>> {
        let (key, rest) = body.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<4>()?;
        let (&flags, mut rest) = rest.split_first()?;
        if flags & !(HAS_UNCHANGED | HAS_DIFF) != 0 {
            return None;
        }
        let columns = usize::try_from(take_varint(&mut rest)?).ok().filter(|columns| *columns <= COLUMNS_MAX)?;
        let bytes = columns.div_ceil(8);
        let mut set = |there: bool| Some(ColumnSet { bits: if there { take_bytes(&mut rest, bytes)? } else { &[] } });
        let before = set(op.has_before())?;
        let after = set(op.has_after())?;
        let unchanged = set(flags & HAS_UNCHANGED != 0)?;
        let diff = set(flags & HAS_DIFF != 0)?;
        let (count, images) = rest.split_first_chunk::<4>()?;
        Some(Rows {
            op,
            key: u64::from_le_bytes(*key),
            time_s: u32::from_le_bytes(*time),
            columns,
            before,
            after,
            unchanged,
            diff,
            count: u32::from_le_bytes(*count),
            images,
        })
    }

    /// Reads the images one row after the other. `table` must be the definition of [`Rows::key`].
    pub fn iter(&self, table: &'a TableDefinition) -> Result<RowIter<'a>, EventError> {
        if table.columns.len() != self.columns {
            return Err(EventError(format!(
                "rows of {}.{} have {} columns, its definition has {}",
                table.database,
                table.table,
                self.columns,
                table.columns.len()
            )));
        }
        Ok(RowIter {
            rows: *self,
            table,
            rest: self.images,
            left: self.count,
            before_count: self.before.count(self.columns),
            after_count: self.after.count(self.columns),
        })
    }
}

/// One row's images.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// As it was; `None` for inserts.
    pub before: Option<Image<'a>>,
    /// As it is; `None` for deletes.
    pub after: Option<Image<'a>>,
}

/// Walks the rows of a record. Ends with an error when the images are damaged or bytes are left over.
#[derive(Clone, Debug)]
pub struct RowIter<'a> {
    rows: Rows<'a>,
    table: &'a TableDefinition,
    rest: &'a [u8],
    left: u32,
    before_count: usize,
    after_count: usize,
}

impl<'a> RowIter<'a> {
    /// Bytes of the images behind the rows that were read.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    /// The next row; `None` behind the last.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Row<'a>>, EventError> {
        if self.left == 0 {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(EventError::new("bytes are left behind the last row"))
            };
        }
        self.left -= 1;
        let rows = self.rows;
        let before = match rows.op.has_before() {
            true => Some(self.image(rows.before, self.before_count, ColumnSet::new(&[]), ColumnSet::new(&[]))?),
            false => None,
        };
        let after = match rows.op.has_after() {
            true => Some(self.image(rows.after, self.after_count, rows.unchanged, rows.diff)?),
            false => None,
        };
        Ok(Some(Row { before, after }))
    }

    fn image(
        &mut self,
        set: ColumnSet<'a>,
        count: usize,
        unchanged: ColumnSet<'a>,
        diff: ColumnSet<'a>,
    ) -> Result<Image<'a>, EventError> {
        let cut = || EventError(format!("a row image of {}.{} is cut short", self.table.database, self.table.table));
        let mut rest = self.rest;
        let nulls = take_bytes(&mut rest, count.div_ceil(8)).ok_or_else(cut)?;
        let image = Image { table: self.table, set, unchanged, diff, nulls: ColumnSet::new(nulls), values: rest };
        // The length of an image is only known by walking its values.
        let mut behind = rest;
        let mut in_set = 0;
        for (index, column) in self.table.columns.iter().enumerate() {
            if !set.contains(index) {
                continue;
            }
            let is_null = image.nulls.contains(in_set);
            in_set += 1;
            if !is_null && skip_value(&mut behind, column.kind).is_none() {
                // The slow walk says which column it is.
                return Err(image.columns().find_map(Result::err).unwrap_or_else(cut));
            }
        }
        self.rest = behind;
        Ok(Image { values: rest.get(..rest.len() - behind.len()).unwrap_or(rest), ..image })
    }
}

/// One image of one row.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    table: &'a TableDefinition,
    set: ColumnSet<'a>,
    unchanged: ColumnSet<'a>,
    diff: ColumnSet<'a>,
    nulls: ColumnSet<'a>,
    values: &'a [u8],
}

impl<'a> Image<'a> {
    /// Every column of the table in order with its value.
    pub fn columns(&self) -> Columns<'a> {
        Columns { image: *self, rest: self.values, index: 0, in_set: 0 }
    }

    /// Whether the image has all columns of the table.
    pub fn is_full(&self) -> bool {
        self.set.count(self.table.columns.len()) == self.table.columns.len()
    }

    /// The bitmap of the columns that it has.
    pub fn set_bits(&self) -> &'a [u8] {
        self.set.bits()
    }

    /// The values' bytes, with the null bitmap: equal bytes over equal sets are equal images.
    pub fn raw(&self) -> (&'a [u8], &'a [u8]) {
        (self.nulls.bits, self.values)
    }
}

/// Walks the columns of an image; yields index and value.
#[derive(Clone, Debug)]
pub struct Columns<'a> {
    image: Image<'a>,
    rest: &'a [u8],
    index: usize,
    in_set: usize,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Result<Value<'a>, EventError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let column = self.image.table.columns.get(self.index)?;
        let index = self.index;
        self.index += 1;
        if !self.image.set.contains(index) {
            return Some(Ok(if self.image.unchanged.contains(index) { Value::Unchanged } else { Value::Absent }));
        }
        let is_null = self.image.nulls.contains(self.in_set);
        self.in_set += 1;
        if is_null {
            return Some(Ok(Value::Null));
        }
        let diff = column.kind == ColumnKind::JsonBinary && self.image.diff.contains(index);
        match take_value(&mut self.rest, column.kind, diff) {
            Some(value) => Some(Ok(value)),
            None => {
                // Nothing behind a broken value can be found.
                self.index = usize::MAX;
                Some(Err(EventError(format!(
                    "column {} of {}.{} is cut short or invalid",
                    column.name, self.image.table.database, self.image.table.table
                ))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Column, Sign, StringForm};
    use super::*;

    fn table() -> TableDefinition {
        TableDefinition {
            database: "d".into(),
            table: "t".into(),
            columns: vec![
                Column::new("a", ColumnKind::Int { bytes: 4, sign: Sign::Signed }),
                Column::new("b", ColumnKind::String { form: StringForm::VarChar, bytes_max: 20 }),
                Column::new("c", ColumnKind::JsonBinary),
            ],
            ..TableDefinition::default()
        }
    }

    #[test]
    fn absent_unchanged_and_null_are_three_things() {
        let table = table();
        let mut body = Vec::new();
        let head = RowsHead {
            key: table.key(),
            time_s: 9,
            columns: 3,
            before: &[0b001],
            after: &[0b010],
            unchanged: &[0b100],
            diff: &[],
        };
        let at = head.encode(RowsOp::Update, &mut body);
        body.push(0);
        body.extend_from_slice(&(-5i32).to_le_bytes());
        body.push(1);
        set_row_count(&mut body, at, 1);
        let rows = Rows::decode(RowsOp::Update, &body).unwrap();
        let mut iter = rows.iter(&table).unwrap();
        let row = iter.next().unwrap().unwrap();
        let values = |image: Image<'_>| format!("{:?}", image.columns().map(Result::unwrap).collect::<Vec<_>>());
        assert_eq!(values(row.before.unwrap()), "[Int(-5), Absent, Absent]");
        assert_eq!(values(row.after.unwrap()), "[Absent, Null, Unchanged]");
        assert!(iter.next().unwrap().is_none());
        for length in 0..body.len() {
            if let Ok(rows) = Rows::decode(RowsOp::Update, &body[..length]) {
                assert!(rows.iter(&table).unwrap().next().is_err());
            }
        }
    }
}
