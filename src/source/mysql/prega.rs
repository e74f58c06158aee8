//! Rows events from before 5.1.16 (types 20 to 22): their null bits are those of the server's own record format.
//!
//! There, a bit stands for each column that may be NULL, behind a bit of its own when no column has a variable length; bits that are left over are 1. The
//! event does not say which columns may be NULL: a schema does, else all are taken for nullable, and left-over bits that are not 1 prove that wrong.

use super::image::{RowPlan, RowsInput};
use crate::event::rows::RowsOp;
use crate::event::{ColumnKind, EventError, TableDefinition};

/// Rewrites null bits in place, so that the images are as later servers write them.
pub fn rewrite(images: &mut [u8], plan: &mut RowPlan, table: &TableDefinition, set: &[u8]) -> Result<(), EventError> {
    let cannot = || {
        EventError(format!("rows of {}.{} from before 5.1.16 need its exact definition", table.database, table.table))
    };
    let variable = table.columns.iter().any(|column| match column.kind {
        ColumnKind::String { form, .. } => form != crate::event::table::StringForm::Char,
        _ => false,
    });
    let reserved = usize::from(!variable);
    let nullable: Vec<bool> = table.columns.iter().map(|column| column.nullable != Some(false)).collect();
    let bits = reserved + nullable.iter().filter(|nullable| **nullable).count();
    let length = nullable.len().div_ceil(8);
    if bits.div_ceil(8) != length {
        return Err(cannot());
    }
    let (mut at, mut scratch) = (0, Vec::new());
    while at < images.len() {
        let old = images.get(at..at + length).ok_or_else(cannot)?.to_vec();
        let bit = |index: usize| old.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        if (bits..length * 8).any(|index| !bit(index)) {
            return Err(cannot());
        }
        let new = images.get_mut(at..at + length).ok_or_else(cannot)?;
        new.fill(0);
        let mut next = reserved;
        for (column, nullable) in nullable.iter().enumerate() {
            if *nullable {
                if bit(next)
                    && let Some(byte) = new.get_mut(column / 8)
                {
                    *byte |= 1 << (column % 8);
                }
                next += 1;
            }
        }
        // One image, taken for a deleted row, shows where the next begins.
        let rest = images.get(at..).unwrap_or(&[]);
        let one =
            RowsInput { op: RowsOp::Delete, before: set, after: &[], images: rest, partial_json: false, time_s: 0 };
        scratch.clear();
        let done = plan.transcode(&one, &mut scratch, 0)?;
        if done.consumed == 0 {
            return Err(cannot());
        }
        at += done.consumed;
    }
    Ok(())
}
