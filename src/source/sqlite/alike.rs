//! Which cells of a leaf are the same before and after a transaction, told without parsing them.
//!
//! A small transaction changes one of some dozens of cells. Where both versions of a page have the same bytes, a cell that both list at the
//! same offset is one and the same. So the two versions are compared block by block; what differs are ranges of bytes, and what may differ
//! are the cells that begin in such a range, or are the last to begin before it, in either version. Everything else is passed over.
//!
//! Assumes what holds for every sound page: cells do not overlap. Knows nothing of overflow chains: where one of them was changed, there is
//! no passing over.

use super::page::PageHead;

/// Bytes compared at once.
const BLOCK: usize = 64;
/// Ranges at most; a page with more of them is not worth it.
const RANGES_MAX: usize = 4;

/// Where the cells begin that may differ; see the module's head.
pub struct Unlike {
    ranges: [(usize, usize); RANGES_MAX],
    count: usize,
}

impl Unlike {
    /// Compares two versions of a leaf. `None`: too much differs.
    pub fn of(old: (&PageHead, &[u8]), new: (&PageHead, &[u8])) -> Option<Unlike> {
        let mut unlike = Unlike { ranges: [(0, 0); RANGES_MAX], count: 0 };
        let from = old.0.cells_from().max(new.0.cells_from());
        let (before, after) = (old.1.get(from..)?, new.1.get(from..)?);
        let mut open: Option<usize> = None;
        for (nth, (a, b)) in before.chunks(BLOCK).zip(after.chunks(BLOCK)).enumerate() {
            match (differ(a, b), open) {
                (true, None) => open = Some(nth),
                (false, Some(first)) => {
                    unlike.add(from + first * BLOCK, from + nth * BLOCK, old, new)?;
                    open = None;
                }
                _ => {}
            }
        }
        if let Some(first) = open {
            unlike.add(from + first * BLOCK, old.1.len(), old, new)?;
        }
        Some(unlike)
    }

    fn add(&mut self, from: usize, to: usize, old: (&PageHead, &[u8]), new: (&PageHead, &[u8])) -> Option<()> {
        let before = old.0.offsets(old.1).filter(|at| *at < from).max();
        let after = new.0.offsets(new.1).filter(|at| *at < from).max();
        let reach = before.unwrap_or(from).min(after.unwrap_or(from));
        *self.ranges.get_mut(self.count)? = (reach, to);
        self.count += 1;
        Some(())
    }

    fn may_differ(&self, at: usize) -> bool {
        self.ranges.iter().take(self.count).any(|(from, to)| (*from..*to).contains(&at))
    }

    /// Passes over what both versions have next, from cell `from` of each on; returns how many.
    pub fn alike(&self, old: (&PageHead, &[u8], u32), new: (&PageHead, &[u8], u32)) -> u32 {
        let mut count = 0;
        let (before, after) = (old.0.offsets(old.1).skip(old.2 as usize), new.0.offsets(new.1).skip(new.2 as usize));
        for (a, b) in before.zip(after) {
            if a != b || self.may_differ(a) {
                break;
            }
            count += 1;
        }
        count
    }
}

/// Whether two blocks differ. Without a branch a byte, so that it becomes a few instructions.
#[inline]
fn differ(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<BLOCK>(), b.first_chunk::<BLOCK>()) {
        (Some(a), Some(b)) => a.iter().zip(b).fold(0, |unlike, (a, b)| unlike | (a ^ b)) != 0,
        _ => a != b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::TreeKind;
    use super::*;

    /// A leaf with these cells, each an offset and its bytes.
    fn page(cells: &[(usize, &[u8])]) -> Vec<u8> {
        let mut page = vec![0; 1024];
        page[0] = 0x0d;
        page[4] = cells.len() as u8;
        for (nth, (at, bytes)) in cells.iter().enumerate() {
            page[8 + 2 * nth..10 + 2 * nth].copy_from_slice(&(*at as u16).to_be_bytes());
            page[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        page
    }

    fn alike(old: &[u8], new: &[u8], from: (u32, u32)) -> Option<u32> {
        let (a, b) =
            (PageHead::parse(2, old, TreeKind::Table).unwrap(), PageHead::parse(2, new, TreeKind::Table).unwrap());
        Some(Unlike::of((&a, old), (&b, new))?.alike((&a, old, from.0), (&b, new, from.1)))
    }

    #[test]
    fn cells_are_passed_over_up_to_one_that_may_differ() {
        let long = [7u8; 200];
        let mut changed = long;
        changed[190] = 8;
        let old = page(&[(900, b"one"), (600, &long), (500, b"three"), (400, b"four")]);
        assert_eq!(alike(&old, &old, (0, 0)), Some(4));
        // The difference is far behind the beginning of its cell.
        let new = page(&[(900, b"one"), (600, &changed), (500, b"three"), (400, b"four")]);
        assert_eq!(alike(&old, &new, (0, 0)), Some(1));
        assert_eq!(alike(&old, &new, (1, 1)), Some(0));
        assert_eq!(alike(&old, &new, (2, 2)), Some(2));
        // An inserted one, in what was free: what stands behind it in the list is alike again.
        let new = page(&[(900, b"one"), (300, b"new"), (600, &long), (500, b"three"), (400, b"four")]);
        assert_eq!(alike(&old, &new, (0, 0)), Some(1));
        assert_eq!(alike(&old, &new, (1, 2)), Some(3));
        // Another one at the same offset, shorter than the one before.
        let new = page(&[(900, b"one"), (600, b"two"), (500, b"three"), (400, b"four")]);
        assert_eq!(alike(&old, &new, (0, 0)), Some(1));
    }

    #[test]
    fn too_many_differences_are_none_of_its_business() {
        let old = page(&[(900, b"a"), (750, b"b"), (600, b"c"), (450, b"d"), (300, b"e")]);
        let new = page(&[(900, b"A"), (750, b"B"), (600, b"C"), (450, b"D"), (300, b"E")]);
        assert_eq!(alike(&old, &new, (0, 0)), None);
    }
}
