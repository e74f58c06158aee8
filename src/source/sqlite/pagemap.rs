//! What each page is and where it hangs: 5 bytes a page.
//!
//! Only table trees (and the schema's own tree) are tracked; index, freelist and pointer-map pages are `None`. Entries
//! of b-tree pages are exact. Entries of overflow pages may be stale, which costs a wasted look at a leaf and nothing
//! else, because what is climbed to is checked. Flags are per transaction and cleared through the list of the pages
//! that have any.

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

/// A changed page is somewhere below, or on an overflow chain of one of its cells.
pub const DIRTY: u8 = 0x10;
/// A first overflow page: some page of its chain is changed.
pub const CHAIN_DIRTY: u8 = 0x20;
/// Seen below a changed page of the new tree.
pub const STAMPED: u8 = 0x40;
const KIND_MASK: u8 = 0x0f;

/// The map; pages count from 1.
#[derive(Default)]
pub struct PageMap {
    kinds: Vec<u8>,
    parents: Vec<u32>,
    flagged: Vec<u32>,
}

impl PageMap {
    /// An empty map.
    pub fn new() -> PageMap {
        PageMap::default()
    }

    /// Fits the map to a database of `pages` pages; what lay beyond is forgotten.
    pub fn resize(&mut self, pages: u32) {
        let len = pages as usize + 1;
        if len > self.kinds.capacity() {
            // Doubling would make it 10 bytes a page; an eighth is enough.
            let more = len - self.kinds.len() + len / 8;
            self.kinds.reserve_exact(more);
            self.parents.reserve_exact(more);
        }
        self.kinds.resize(len, 0);
        self.parents.resize(len, 0);
    }

    /// What `page` is.
    #[inline]
    pub fn kind(&self, page: u32) -> Kind {
        match self.kinds.get(page as usize).copied().unwrap_or(0) & KIND_MASK {
            1 => Kind::Root,
            2 => Kind::Child,
            3 => Kind::Overflow,
            4 => Kind::Further,
            _ => Kind::None,
        }
    }

    /// Where it hangs; 0 for a root.
    #[inline]
    pub fn parent(&self, page: u32) -> u32 {
        self.parents.get(page as usize).copied().unwrap_or(0)
    }

    /// Says what `page` is.
    pub fn link(&mut self, page: u32, kind: Kind, parent: u32) {
        if let (Some(k), Some(p)) = (self.kinds.get_mut(page as usize), self.parents.get_mut(page as usize)) {
            *k = *k & !KIND_MASK | kind as u8;
            *p = parent;
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
        if *kind & !KIND_MASK == 0 {
            self.flagged.push(page);
        }
        *kind |= flag;
        true
    }

    /// Clears `flag` everywhere.
    pub fn unflag(&mut self, flag: u8) {
        let kinds = &mut self.kinds;
        self.flagged.retain(|page| match kinds.get_mut(*page as usize) {
            Some(kind) => {
                *kind &= !flag;
                *kind & !KIND_MASK != 0
            }
            None => false,
        });
    }

    /// Clears every flag.
    pub fn unflag_all(&mut self) {
        self.unflag(DIRTY | CHAIN_DIRTY | STAMPED);
    }

    /// Every page that is not `None`, for checks.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Kind, u32)> + '_ {
        (0..self.kinds.len() as u32)
            .map(|page| (page, self.kind(page), self.parent(page)))
            .filter(|e| e.1 != Kind::None)
    }
}
