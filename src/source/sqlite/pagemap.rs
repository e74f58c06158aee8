//! What each page is and where it hangs, and what the transaction at hand makes of that.
//!
//! ```text
//! kinds    a byte a page: kind (3 bits) | flags of the transaction (3) | what it will be (2)
//! parents  3 bytes a page, 4 where there are 2^24 pages
//! next     as many, for a page that the transaction hangs elsewhere: its parent then
//! ```
//!
//! So at most 5 bytes a page stay, where trees are, and at most 4 more are taken while a transaction is read, however large.
//!
//! Only table trees (and the schema's own tree) are tracked; index, freelist and pointer-map pages are `None`. Entries
//! of b-tree pages are exact. Entries of overflow pages may be stale, which costs a wasted look at a leaf and nothing
//! else, because what is climbed to is checked.
//!
//! Changes are noted, and made by [`PageMap::settle`], since the walks of a transaction need the map as it was. Flags and notes
//! are found again by blocks of pages: each block that has any is listed once, so that neither a small transaction pays for the size
//! of the database nor a large one for a list of its pages.

use crate::sys::sparse::Sparse;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing tracked.
    None = 0,
    /// Root of a tracked tree.
    Root = 1,
    /// Another page of a tracked tree; the parent is its parent.
    Child = 2,
    /// First page of an overflow chain; the parent is the b-tree page that holds the cell.
    Overflow = 3,
    /// A further page of a chain; the parent is the chain's first page.
    Further = 4,
}

/// A root and another page of a tree that will be `None`, unless something else is noted.
const ROOT_LEAVES: u8 = 5;
const CHILD_LEAVES: u8 = 6;
const KIND_MASK: u8 = 0x07;

/// A changed page is somewhere below, or on an overflow chain of one of its cells.
pub const DIRTY: u8 = 0x08;
/// A first overflow page: some page of its chain is changed.
pub const CHAIN_DIRTY: u8 = 0x10;
/// Seen below a changed page of the new tree.
pub const STAMPED: u8 = 0x20;
const FLAGS: [u8; 3] = [DIRTY, CHAIN_DIRTY, STAMPED];

/// What a page will be.
const NEXT_CHILD: u8 = 0x40;
const NEXT_OVERFLOW: u8 = 0x80;
const NEXT_FURTHER: u8 = 0xc0;
const NEXT_MASK: u8 = 0xc0;

/// Pages of a block.
const BLOCK: usize = 64;
/// Stands for every note where a block's flags are kept.
const NOTED: u8 = 0x40;
/// When notes were taken in so many blocks, their memory is given back.
const NOTED_BLOCKS_MAX: usize = 256;

/// The map; pages count from 1.
#[derive(Default)]
pub struct PageMap {
    kinds: Vec<u8>,
    parents: Sparse,
    next: Sparse,
    /// Blocks in which `next` was written since its memory was given back.
    next_blocks: usize,
    /// Roots that were noted.
    roots: Vec<u32>,
    /// Of each block, the flags that may be in it, and [`NOTED`].
    blocks: Vec<u8>,
    /// The blocks that have each of these.
    listed: [Vec<u32>; FLAGS.len() + 1],
}

impl PageMap {
    /// An empty map.
    pub fn new() -> PageMap {
        PageMap::default()
    }

    /// Fits the map to a database of `pages` pages; what lay beyond is forgotten.
    pub fn resize(&mut self, pages: u32) {
        let len = pages as usize + 1;
        if len == self.kinds.len() {
            return;
        }
        if len > self.kinds.capacity() {
            // Doubling would take twice the memory; an eighth is enough.
            self.kinds.reserve_exact(len - self.kinds.len() + len / 8);
        }
        self.kinds.resize(len, 0);
        // A block that is cut off stays listed for nothing.
        let blocks = len.div_ceil(BLOCK).max(self.blocks.len());
        self.blocks.resize(blocks, 0);
    }

    /// What `page` is.
    #[inline]
    pub fn kind(&self, page: u32) -> Kind {
        match self.kinds.get(page as usize).copied().unwrap_or(0) & KIND_MASK {
            1 | ROOT_LEAVES => Kind::Root,
            2 | CHILD_LEAVES => Kind::Child,
            3 => Kind::Overflow,
            4 => Kind::Further,
            _ => Kind::None,
        }
    }

    /// Where it hangs; nothing is meant by it for a root, or a page that is not tracked.
    #[inline]
    pub fn parent(&self, page: u32) -> u32 {
        self.parents.get(page as usize)
    }

    /// Says what `page` is.
    pub fn link(&mut self, page: u32, kind: Kind, parent: u32) {
        if let Some(k) = self.kinds.get_mut(page as usize) {
            *k = *k & !KIND_MASK | kind as u8;
            if kind != Kind::None {
                self.parents.set(page as usize, parent);
            }
        }
    }

    /// The root of the tracked tree that `page` is in, and its depth below the root; `None` when it is in none.
    #[inline]
    pub fn root_of(&self, page: u32) -> Option<u32> {
        let mut page = page;
        // A tracked tree is not deeper than this, or its walk has failed.
        for _ in 0..=super::page::DEPTH_MAX {
            match self.kind(page) {
                Kind::Root => return Some(page),
                Kind::Child => page = self.parent(page),
                _ => return None,
            }
        }
        None
    }

    /// Whether `page` has `flag`.
    #[inline]
    pub fn has(&self, page: u32, flag: u8) -> bool {
        self.kinds.get(page as usize).is_some_and(|kind| kind & flag != 0)
    }

    /// Sets `flag`; returns whether it was clear.
    #[inline]
    pub fn flag(&mut self, page: u32, flag: u8) -> bool {
        let Some(kind) = self.kinds.get_mut(page as usize) else { return false };
        if *kind & flag != 0 {
            return false;
        }
        *kind |= flag;
        self.list(page, flag);
        true
    }

    /// Lists the block of `page` as one that has `mark`.
    #[inline]
    fn list(&mut self, page: u32, mark: u8) {
        let block = page as usize / BLOCK;
        let Some(marks) = self.blocks.get_mut(block) else { return };
        if *marks & mark == 0 {
            *marks |= mark;
            if let Some(listed) = self.listed.get_mut(nth(mark)) {
                listed.push(block as u32);
            }
        }
    }

    /// Calls `each` with the pages of every block that has `mark`, and takes it from the block. Returns how many there were.
    fn unlist(&mut self, mark: u8, mut each: impl FnMut(u32, &mut [u8])) -> usize {
        let PageMap { kinds, blocks, listed, .. } = self;
        let Some(listed) = listed.get_mut(nth(mark)) else { return 0 };
        for block in listed.iter().map(|block| *block as usize) {
            if let Some(marks) = blocks.get_mut(block) {
                *marks &= !mark;
            }
            let end = kinds.len().min((block + 1) * BLOCK);
            if let Some(kinds) = kinds.get_mut(block * BLOCK..end) {
                each((block * BLOCK) as u32, kinds);
            }
        }
        let count = listed.len();
        listed.clear();
        count
    }

    /// Clears `flag` everywhere.
    pub fn unflag(&mut self, flag: u8) {
        self.unlist(flag, |_, kinds| kinds.iter_mut().for_each(|kind| *kind &= !flag));
    }

    /// Clears every flag.
    pub fn unflag_all(&mut self) {
        FLAGS.into_iter().for_each(|flag| self.unflag(flag));
    }

    /// Notes what `page` will be.
    // Rare in the loops over cells, which are better off without its code.
    #[inline(never)]
    pub fn note(&mut self, page: u32, kind: Kind, parent: u32) {
        let next = match kind {
            Kind::Child => NEXT_CHILD,
            Kind::Overflow => NEXT_OVERFLOW,
            Kind::Further => NEXT_FURTHER,
            Kind::Root => return self.roots.push(page),
            Kind::None => return self.note_left(page),
        };
        let Some(now) = self.kinds.get_mut(page as usize) else { return };
        // Only in a damaged database it is both.
        if kind == Kind::Child && *now & NEXT_MASK > NEXT_CHILD {
            return;
        }
        *now = *now & !NEXT_MASK | next;
        self.next.set(page as usize, parent);
        self.list(page, NOTED);
    }

    /// Notes that `page` leaves its tree.
    fn note_left(&mut self, page: u32) {
        let Some(now) = self.kinds.get_mut(page as usize) else { return };
        let leaves = match *now & KIND_MASK {
            1 => ROOT_LEAVES,
            2 => CHILD_LEAVES,
            // It has left before, or is in none.
            _ => return,
        };
        *now = *now & !KIND_MASK | leaves;
        self.list(page, NOTED);
    }

    /// Makes everything so that was noted: what a page will be counts for more than that it leaves its tree.
    pub fn settle(&mut self) {
        let mut parents = std::mem::take(&mut self.parents);
        let mut next = std::mem::take(&mut self.next);
        self.next_blocks += self.unlist(NOTED, |first, kinds| {
            for (page, kind) in (first as usize..).zip(kinds) {
                let is = match *kind & NEXT_MASK {
                    NEXT_CHILD => Kind::Child,
                    NEXT_OVERFLOW => Kind::Overflow,
                    NEXT_FURTHER => Kind::Further,
                    _ if *kind & KIND_MASK >= ROOT_LEAVES => Kind::None,
                    _ => continue,
                };
                *kind = *kind & !(NEXT_MASK | KIND_MASK) | is as u8;
                if is != Kind::None {
                    parents.set(page, next.get(page));
                }
            }
        });
        if self.next_blocks > NOTED_BLOCKS_MAX {
            next.clear();
            self.next_blocks = 0;
        }
        (self.parents, self.next) = (parents, next);
        while let Some(root) = self.roots.pop() {
            self.link(root, Kind::Root, 0);
        }
    }

    /// Every page that is not `None`, for checks.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Kind, u32)> + '_ {
        (0..self.kinds.len() as u32)
            .map(|page| (page, self.kind(page), self.parent(page)))
            .filter(|e| e.1 != Kind::None)
    }
}

/// Where the blocks with `mark` are listed.
fn nth(mark: u8) -> usize {
    mark.trailing_zeros().saturating_sub(DIRTY.trailing_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_counts_only_once_it_is_settled() {
        let mut map = PageMap::new();
        map.resize(1000);
        map.link(1, Kind::Root, 0);
        for page in 2..=1000 {
            map.link(page, Kind::Child, 1);
        }
        map.note(1, Kind::None, 0);
        map.note(2, Kind::None, 0);
        map.note(2, Kind::Root, 0);
        for page in 3..=1000 {
            map.note(page, Kind::None, 0);
        }
        map.note(3, Kind::Child, 2);
        map.note(500, Kind::Overflow, 3);
        map.note(500, Kind::Child, 2);
        map.note(1000, Kind::Further, 500);
        map.note(5000, Kind::Child, 2);
        assert!((1..=1000).all(|page| map.root_of(page) == Some(1)));
        map.settle();
        let entries: Vec<_> = map.entries().collect();
        assert_eq!(
            entries,
            [(2, Kind::Root, 0), (3, Kind::Child, 2), (500, Kind::Overflow, 3), (1000, Kind::Further, 500)]
        );
        map.settle();
        assert_eq!(map.entries().count(), 4);
    }

    #[test]
    fn flags_are_cleared_everywhere_and_one_by_one() {
        let mut map = PageMap::new();
        map.resize(300);
        for page in [1, 63, 64, 65, 200, 300] {
            assert!(map.flag(page, DIRTY) && !map.flag(page, DIRTY));
            assert!(map.flag(page, STAMPED));
        }
        assert!(!map.flag(301, DIRTY));
        map.note(64, Kind::Child, 1);
        map.unflag(STAMPED);
        assert!((0..=300).all(|page| !map.has(page, STAMPED)));
        assert!([1, 63, 64, 65, 200, 300].iter().all(|page| map.has(*page, DIRTY)));
        // A page that was cut off comes back without its flags, and can have them again.
        map.resize(100);
        map.unflag_all();
        map.resize(300);
        assert!((0..=300).all(|page| !map.has(page, DIRTY | CHAIN_DIRTY | STAMPED)));
        assert!(map.flag(300, DIRTY) && map.flag(64, STAMPED));
        map.unflag_all();
        assert!((0..=300).all(|page| !map.has(page, DIRTY | CHAIN_DIRTY | STAMPED)));
        map.settle();
        assert_eq!(map.entries().collect::<Vec<_>>(), [(64, Kind::Child, 1)]);
    }
}
