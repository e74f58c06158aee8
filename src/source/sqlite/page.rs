//! B-tree pages: header, cell pointers, cells, and how much of a payload is local.
//!
//! Pure functions over a page's bytes. Whatever a page claims is checked against the page before it is used; a claim
//! that does not hold is an error naming the page.

use super::wal::{be16, be32};
use crate::error::{Error, Result};

/// Bytes of the database header at the start of page 1.
pub const DB_HEADER_LEN: usize = 100;
/// Deepest tree; SQLite itself gives up there.
pub const DEPTH_MAX: usize = 20;

/// What kind of b-tree a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// Keys are rowids, records only in leaves.
    Table,
    /// Keys are records, in leaves and interior pages: indexes and WITHOUT ROWID tables.
    Index,
}

/// A parsed page header.
#[derive(Clone, Copy, Debug)]
pub struct PageHead {
    /// Kind of tree.
    pub kind: TreeKind,
    /// Whether cells are records.
    pub leaf: bool,
    /// Number of cells.
    pub cells: u16,
    /// Offset of the cell pointer array.
    pointers: u16,
    /// The right-most child of an interior page, else 0.
    pub right: u32,
}

/// One cell, as offsets into its page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Left child of an interior cell, else 0.
    pub child: u32,
    /// Rowid (table trees).
    pub rowid: i64,
    /// Bytes of the whole payload.
    pub payload_len: u64,
    /// Where the local part of the payload starts.
    pub local_at: u32,
    /// How long it is.
    pub local_len: u32,
    /// First overflow page, or 0.
    pub overflow: u32,
}

/// Reads a variable-length integer: value and bytes used.
#[inline]
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = u64::from(first & 0x7f);
    for n in 1..8 {
        let byte = *bytes.get(n)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, n + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// Where the b-tree header starts on page `number`.
fn head_at(number: u32) -> usize {
    if number == 1 { DB_HEADER_LEN } else { 0 }
}

/// What is wrong on page `number`.
pub fn bad_page(number: u32, what: &str) -> Error {
    Error::damage(format!("page {number}: {what}"))
}

impl PageHead {
    /// Parses the header of page `number`; `None` when it is not a b-tree page.
    #[inline]
    pub fn peek(number: u32, page: &[u8]) -> Option<PageHead> {
        let at = head_at(number);
        let (kind, leaf) = match *page.get(at)? {
            0x02 => (TreeKind::Index, false),
            0x05 => (TreeKind::Table, false),
            0x0a => (TreeKind::Index, true),
            0x0d => (TreeKind::Table, true),
            _ => return None,
        };
        let right = if leaf { 0 } else { be32(page, at + 8) };
        let pointers = at as u16 + if leaf { 8 } else { 12 };
        Some(PageHead { kind, leaf, cells: be16(page, at + 3), pointers, right })
    }

    /// Parses the header of page `number`, which must belong to a tree of `kind`.
    #[inline]
    pub fn parse(number: u32, page: &[u8], kind: TreeKind) -> Result<PageHead> {
        let head = PageHead::peek(number, page).ok_or_else(|| bad_page(number, "is not a b-tree page"))?;
        if head.kind != kind {
            return Err(bad_page(number, "belongs to another kind of tree"));
        }
        if usize::from(head.pointers) + 2 * usize::from(head.cells) > page.len() {
            return Err(bad_page(number, "has more cells than room"));
        }
        Ok(head)
    }

    /// Child `nth` of an interior page; `nth == cells` is the right-most one.
    #[inline]
    pub fn child(&self, page: &[u8], nth: u16) -> u32 {
        if nth >= self.cells {
            return self.right;
        }
        be32(page, usize::from(be16(page, usize::from(self.pointers) + 2 * usize::from(nth))))
    }

    /// Where cells can begin: behind the list of their offsets.
    #[inline]
    pub fn cells_from(&self) -> usize {
        usize::from(self.pointers) + 2 * usize::from(self.cells)
    }

    /// The offsets of the cells, in key order.
    #[inline]
    pub fn offsets<'a>(&self, page: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let list = page.get(usize::from(self.pointers)..self.cells_from()).unwrap_or_default();
        list.as_chunks::<2>().0.iter().map(|offset| usize::from(u16::from_be_bytes(*offset)))
    }

    /// Parses cell `nth` of page `number`; `usable` is the page size without its reserved bytes.
    #[inline]
    pub fn cell(&self, number: u32, page: &[u8], usable: u32, nth: u16) -> Result<Cell> {
        let offset = usize::from(be16(page, usize::from(self.pointers) + 2 * usize::from(nth)));
        let mut cell = Cell::default();
        let cut = || bad_page(number, "has a cell that leaves the page");
        let page = page.get(..usable as usize).ok_or_else(cut)?;
        let mut at = offset;
        if !self.leaf {
            cell.child = be32(page, at);
            at += 4;
        }
        let mut next = |page: &[u8]| {
            let (value, n) = varint(page.get(at..).unwrap_or_default()).ok_or_else(cut)?;
            at += n;
            Ok::<u64, Error>(value)
        };
        if self.kind == TreeKind::Table {
            if !self.leaf {
                cell.rowid = next(page)? as i64;
                return Ok(cell);
            }
            cell.payload_len = next(page)?;
            cell.rowid = next(page)? as i64;
        } else {
            cell.payload_len = next(page)?;
        }
        let (local, overflows) = local_len(self.kind, usable, cell.payload_len);
        let end = at + local as usize;
        if end + if overflows { 4 } else { 0 } > page.len() {
            return Err(cut());
        }
        cell.local_at = at as u32;
        cell.local_len = local;
        if overflows {
            cell.overflow = be32(page, end);
        }
        Ok(cell)
    }
}

/// How much of a payload of `len` bytes stands on its page, and whether the rest overflows.
#[inline]
fn local_len(kind: TreeKind, usable: u32, len: u64) -> (u32, bool) {
    let max = match kind {
        TreeKind::Table => usable - 35,
        TreeKind::Index => (usable - 12) * 64 / 255 - 23,
    };
    if len <= u64::from(max) {
        return (len as u32, false);
    }
    let min = (usable - 12) * 32 / 255 - 23;
    let fit = u64::from(min) + (len - u64::from(min)) % u64::from(usable - 4);
    (if fit <= u64::from(max) { fit as u32 } else { min }, true)
}

/// What the database header on page 1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbHeader {
    /// Bytes of a page.
    pub page_size: u32,
    /// Page size without the reserved bytes at its end.
    pub usable: u32,
    /// How text is stored.
    pub encoding: Encoding,
    /// Whether the write version is WAL (2).
    pub wal_mode: bool,
    /// Pages, valid only where the change counter says so; 0 when it does not.
    pub pages: u32,
}

/// How text is stored in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
}

impl DbHeader {
    /// Parses the first 100 bytes of a database.
    pub fn parse(page: &[u8]) -> Result<DbHeader> {
        let bad = |what: &str| Error::damage(format!("not a SQLite database: {what}")).at(0);
        if page.get(..16) != Some(b"SQLite format 3\0") || page.len() < DB_HEADER_LEN {
            return Err(bad("no magic"));
        }
        let page_size = match be16(page, 16) {
            1 => 65536,
            n => u32::from(n),
        };
        if !page_size.is_power_of_two() || page_size < 512 {
            return Err(bad("the page size is invalid"));
        }
        let usable = page_size - u32::from(*page.get(20).unwrap_or(&0));
        if usable < 480 {
            return Err(bad("too many reserved bytes"));
        }
        let encoding = match be32(page, 56) {
            0 | 1 => Encoding::Utf8,
            2 => Encoding::Utf16Le,
            3 => Encoding::Utf16Be,
            _ => return Err(bad("the text encoding is unknown")),
        };
        let pages = if be32(page, 24) == be32(page, 92) { be32(page, 28) } else { 0 };
        Ok(DbHeader { page_size, usable, encoding, wal_mode: page.get(18) == Some(&2), pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_all_lengths_are_read() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8]), None);
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn local_length_follows_the_file_format() {
        assert_eq!(local_len(TreeKind::Table, 4096, 4061), (4061, false));
        assert_eq!(local_len(TreeKind::Table, 4096, 4062), (489, true));
        assert_eq!(local_len(TreeKind::Index, 4096, 1002), (1002, false));
        assert_eq!(local_len(TreeKind::Index, 4096, 1003), (489, true));
    }
}
