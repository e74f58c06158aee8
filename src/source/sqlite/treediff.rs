//! The differences between a table's tree before and after a transaction, streamed in key order.
//!
//! Two [`Cursor`]s walk the two trees from the top and give only cells that may differ; [`merge`] joins them by key.
//! Nothing is buffered but one page per level and side. The rules of the walks:
//!
//! - A page is *open* when all of it counts: it is changed, or new in this tree (new side), or no longer in it (old
//!   side). It is *marked* when it is unchanged but a changed page lies below, or on the overflow chain of one of its
//!   cells. Everything else is pruned.
//! - New side, below an open page: a changed child is open; an unchanged one that was in this tree before is marked or
//!   pruned; any other is open (attached). Every child is *stamped*, by [`stamp`], before the walks start.
//! - Old side, below an open page: a changed child is open; an unchanged one that is stamped is still in the tree: it is
//!   marked or pruned; any other is open (detached, perhaps freed without a frame).
//! - Below a marked page, which is the same page on both sides: changed children are open, dirty ones marked.
//! - Of a marked page only cells with a dirty chain are given; both sides give the same ones.
//!
//! So every row that differs is given by the side that has it. A comparison that orders keys otherwise than the tree
//! does (an application's own collation) can only turn "unchanged" or "updated" into "deleted and inserted".

use std::cmp::Ordering;

use super::alike::Unlike;
use super::page::{Cell, DEPTH_MAX, PageHead, TreeKind, bad_page};
use super::pagemap::{CHAIN_DIRTY, DIRTY, Kind, PageMap, STAMPED};
use super::record::{self, Field};
use super::schema::Table;
use super::view::{PageRef, Pages, Side};
use super::wal::{Scanner, be32};
use crate::error::{Error, Result};

/// Largest payload; SQLite's own limit on the length of a row.
const PAYLOAD_MAX: u64 = 0x7fff_ffff;

/// Everything that walks need: the views, and the map.
pub struct Store {
    /// Both views.
    pub pages: Pages,
    /// The log, for pages that are still in its buffer.
    pub scanner: Scanner,
    /// What each page is, before the transaction, and what the walks note of what it will be.
    pub map: PageMap,
    /// Whether walks note; only the first walk of a tree does.
    pub recording: bool,
    /// Whether the transaction wrote a page of some overflow chain that was there before.
    pub chains_changed: bool,
}

impl Store {
    /// The page on `side`.
    #[inline]
    pub fn page(&mut self, number: u32, side: Side) -> Result<PageRef> {
        self.pages.get(number, side, &self.scanner)
    }

    fn link_child(&mut self, page: u32, parent: u32, tree: &Tree) {
        // An equal link of another tree, or of a dropped one, will be cleared.
        let known = self.map.kind(page) == Kind::Child && self.map.parent(page) == parent;
        if !known || self.map.root_of(page) != Some(tree.old_root) {
            self.map.note(page, Kind::Child, parent);
        }
    }

    /// Notes where a chain starts, and if `whole`, all of it.
    #[inline(never)]
    fn link_chain(&mut self, first: u32, owner: u32, whole: bool) -> Result<()> {
        if self.map.kind(first) != Kind::Overflow || self.map.parent(first) != owner {
            self.map.note(first, Kind::Overflow, owner);
        }
        if whole {
            let mut page = first;
            for _ in 0..self.pages.count(Side::New) {
                page = be32(&self.page(page, Side::New)?, 0);
                if page == 0 {
                    return Ok(());
                }
                if self.map.kind(page) != Kind::Further || self.map.parent(page) != first {
                    self.map.note(page, Kind::Further, first);
                }
            }
            return Err(bad_page(first, "starts an overflow chain without an end"));
        }
        Ok(())
    }
}

/// Which tree a walk is in.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Root on this side.
    pub root: u32,
    /// Root on the old side, by which the map knows the tree; 0 when there was none.
    pub old_root: u32,
    /// Its kind.
    pub kind: TreeKind,
    /// Page size without reserved bytes, on this side.
    pub usable: u32,
    /// Whether everything counts, changed or not.
    pub full: bool,
    /// Whether the root is another page on the other side: then it counts, changed or not. (An old root may have gone to the
    /// freelist without a frame, or hold the same bytes for another table.)
    pub moved: bool,
}

/// Stamps the children of open pages in the new tree and notes where they hang.
pub fn stamp(store: &mut Store, tree: &Tree) -> Result<()> {
    // All leaves are at one depth, so leaves need not be read to know that they are.
    let mut height = 0;
    let mut number = tree.root;
    loop {
        let page = store.page(number, Side::New)?;
        let head = PageHead::parse(number, &page, tree.kind)?;
        if head.leaf {
            break;
        }
        height += 1;
        if height > DEPTH_MAX {
            return Err(bad_page(tree.root, "is the root of a tree that is too deep"));
        }
        number = head.child(&page, 0);
    }
    if height == 0 {
        return Ok(());
    }
    let open = tree.full || tree.moved || store.pages.is_changed(tree.root);
    let mut stack: Vec<(u32, bool, usize)> = vec![(tree.root, open, 0)];
    let mut budget = Budget::new(store);
    while let Some((number, open, depth)) = stack.pop() {
        budget.spend(number)?;
        let page = store.page(number, Side::New)?;
        let head = PageHead::parse(number, &page, tree.kind)?;
        if head.leaf {
            return Err(bad_page(number, "is a leaf above the depth of its tree's leaves"));
        }
        for nth in 0..=head.cells {
            let child = head.child(&page, nth);
            if open {
                store.map.flag(child, STAMPED);
                store.link_child(child, number, tree);
            }
            if depth + 1 < height
                && let Some(open) = visit(store, tree, Side::New, open, child)
            {
                stack.push((child, open, depth + 1));
            }
        }
    }
    Ok(())
}

/// Whether a walk visits `child`, and if so, whether it is open.
#[inline]
fn visit(store: &Store, tree: &Tree, side: Side, parent_open: bool, child: u32) -> Option<bool> {
    if tree.full || store.pages.is_changed(child) {
        return Some(true);
    }
    if parent_open {
        let stays = match side {
            Side::New => store.map.root_of(child) == Some(tree.old_root),
            Side::Old => store.map.has(child, STAMPED),
        };
        if !stays {
            return Some(true);
        }
    }
    store.map.has(child, DIRTY).then_some(false)
}

/// In a sound tree no page is met twice; in a damaged one this ends the walk.
struct Budget(u64);

impl Budget {
    fn new(store: &Store) -> Budget {
        Budget(u64::from(store.pages.count(Side::Old).max(store.pages.count(Side::New))) + 1)
    }

    fn spend(&mut self, page: u32) -> Result<()> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| bad_page(page, "is in a tree that meets its pages twice"))?;
        Ok(())
    }
}

struct Level {
    page: PageRef,
    number: u32,
    head: PageHead,
    /// Next position: a cell of a leaf; child and cell in turn in an index's interior page; a child in a table's.
    at: u32,
    open: bool,
}

/// A walk; see the module's head. Reused from tree to tree.
pub struct Cursor {
    side: Side,
    tree: Tree,
    stack: Vec<Level>,
    budget: Budget,
    /// The cell at which the walk stands.
    cell: Cell,
    valid: bool,
    /// The payload, when it is not wholly on its page.
    assembled: Vec<u8>,
    is_assembled: bool,
    fields: Vec<Field>,
    is_parsed: bool,
}

impl Cursor {
    /// A cursor for one side.
    pub fn new(side: Side) -> Cursor {
        Cursor {
            side,
            tree: Tree { root: 0, old_root: 0, kind: TreeKind::Table, usable: 512, full: false, moved: false },
            stack: Vec::new(),
            budget: Budget(0),
            cell: Cell::default(),
            valid: false,
            assembled: Vec::new(),
            is_assembled: false,
            fields: Vec::new(),
            is_parsed: false,
        }
    }

    /// Starts at the top of `tree`; `None` is an empty tree.
    pub fn start(&mut self, store: &mut Store, tree: Option<Tree>) -> Result<()> {
        self.stack.clear();
        self.valid = false;
        self.budget = Budget::new(store);
        let Some(tree) = tree else { return Ok(()) };
        self.tree = tree;
        let open = tree.full || tree.moved || store.pages.is_changed(tree.root);
        self.push(store, tree.root, open)?;
        self.advance(store)
    }

    /// Starts at one leaf page, alone.
    pub fn start_leaf(&mut self, store: &mut Store, tree: Tree, leaf: u32) -> Result<()> {
        self.stack.clear();
        self.valid = false;
        self.budget = Budget(2);
        self.tree = tree;
        let open = store.pages.is_changed(leaf);
        self.push(store, leaf, open)?;
        self.advance(store)
    }

    /// Whether the walk stands at a cell.
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// The rowid of the cell at which the walk stands.
    pub fn rowid(&self) -> i64 {
        self.cell.rowid
    }

    fn push(&mut self, store: &mut Store, number: u32, open: bool) -> Result<()> {
        if self.stack.len() > DEPTH_MAX {
            return Err(bad_page(number, "is too deep in its tree"));
        }
        self.budget.spend(number)?;
        let page = store.page(number, self.side)?;
        let head = PageHead::parse(number, &page, self.tree.kind)?;
        self.stack.push(Level { page, number, head, at: 0, open });
        Ok(())
    }

    /// Moves to the next cell that counts.
    pub fn advance(&mut self, store: &mut Store) -> Result<()> {
        self.is_assembled = false;
        self.is_parsed = false;
        self.valid = false;
        while let Some(level) = self.stack.last_mut() {
            let at = level.at;
            level.at += 1;
            let cells = u32::from(level.head.cells);
            let cell = if level.head.leaf {
                if at >= cells {
                    self.stack.pop();
                    continue;
                }
                at
            } else {
                let (child, is_cell) = match level.head.kind {
                    TreeKind::Table => (at, false),
                    TreeKind::Index => (at / 2, at % 2 == 1),
                };
                if child > cells || (is_cell && child >= cells) {
                    self.stack.pop();
                    continue;
                }
                if !is_cell {
                    let (open, child) = (level.open, level.head.child(&level.page, child as u16));
                    let number = level.number;
                    if self.side == Side::Old && open && store.recording && !store.map.has(child, STAMPED) {
                        store.map.note(child, Kind::None, 0);
                    }
                    if let Some(open) = visit(store, &self.tree, self.side, open, child) {
                        if child == number {
                            return Err(bad_page(number, "is its own child"));
                        }
                        self.push(store, child, open)?;
                    }
                    continue;
                }
                child
            };
            let cell = level.head.cell(level.number, &level.page, self.tree.usable, cell as u16)?;
            if cell.overflow != 0 {
                let dirty = store.map.has(cell.overflow, CHAIN_DIRTY);
                if !level.open && !dirty {
                    continue;
                }
                if self.side == Side::New && store.recording {
                    store.link_chain(cell.overflow, level.number, dirty)?;
                }
            } else if !level.open {
                continue;
            }
            self.cell = cell;
            self.valid = true;
            return Ok(());
        }
        Ok(())
    }

    fn local(&self) -> &[u8] {
        let from = self.cell.local_at as usize;
        let page = self.stack.last().map(|level| level.page.as_slice()).unwrap_or_default();
        page.get(from..from + self.cell.local_len as usize).unwrap_or_default()
    }

    /// The payload; whole only after [`Cursor::assemble`].
    pub fn payload(&self) -> &[u8] {
        if self.is_assembled { &self.assembled } else { self.local() }
    }

    /// The parsed header, after [`Cursor::parse`].
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Makes the payload whole.
    pub fn assemble(&mut self, store: &mut Store) -> Result<()> {
        if self.cell.overflow == 0 || self.is_assembled {
            return Ok(());
        }
        let room = u64::from(self.tree.usable - 4) * u64::from(store.pages.count(self.side));
        let number = self.stack.last().map_or(0, |level| level.number);
        if self.cell.payload_len > PAYLOAD_MAX || self.cell.payload_len > u64::from(self.cell.local_len) + room {
            return Err(bad_page(number, "has a cell that claims more bytes than the database has"));
        }
        let mut assembled = std::mem::take(&mut self.assembled);
        assembled.clear();
        assembled.extend_from_slice(self.local());
        let len = self.cell.payload_len as usize;
        let mut next = self.cell.overflow;
        while assembled.len() < len {
            if next == 0 {
                return Err(bad_page(number, "has a cell whose overflow chain ends early"));
            }
            let page = store.page(next, self.side)?;
            next = be32(&page, 0);
            let n = (len - assembled.len()).min(self.tree.usable as usize - 4);
            assembled.extend_from_slice(page.get(4..4 + n).unwrap_or_default());
        }
        self.assembled = assembled;
        self.is_assembled = true;
        Ok(())
    }

    /// Makes the payload whole and parses its header.
    pub fn parse(&mut self, store: &mut Store) -> Result<()> {
        if self.is_parsed {
            return Ok(());
        }
        self.assemble(store)?;
        let mut fields = std::mem::take(&mut self.fields);
        let parsed = record::parse(self.payload(), &mut fields);
        self.fields = fields;
        self.is_parsed = true;
        parsed.map_err(|error| {
            let number = self.stack.last().map_or(0, |level| level.number);
            Error::damage(format!("page {number}: {}", error.what()))
        })
    }

    /// After a cell turned out new or changed: its whole chain is noted in the map.
    fn note_chain(&self, store: &mut Store) -> Result<()> {
        if self.cell.overflow != 0 && store.recording {
            let number = self.stack.last().map_or(0, |level| level.number);
            store.link_chain(self.cell.overflow, number, true)?;
        }
        Ok(())
    }
}

/// What [`merge`] found at one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Only the old tree has it.
    Deleted,
    /// Only the new tree has it.
    Inserted,
    /// Both have it, with payloads that differ in some byte.
    Differs,
}

/// Joins two started walks. With `by_value`, rows of one key always differ, since equal bytes mean nothing when the
/// definition of the table or the layout of pages has changed.
pub fn merge(
    store: &mut Store,
    old: &mut Cursor,
    new: &mut Cursor,
    table: Option<&Table>,
    by_value: bool,
    mut emit: impl FnMut(&mut Store, Found, &mut Cursor, &mut Cursor) -> Result<()>,
) -> Result<()> {
    let unlike = if by_value || store.chains_changed { None } else { unlike(old, new) };
    loop {
        let order = match (old.valid, new.valid) {
            (false, false) => return Ok(()),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) => compare(store, old, new, table)?,
        };
        match order {
            Ordering::Less => {
                emit(store, Found::Deleted, old, new)?;
                old.advance(store)?;
            }
            Ordering::Greater => {
                new.note_chain(store)?;
                emit(store, Found::Inserted, old, new)?;
                new.advance(store)?;
            }
            Ordering::Equal => {
                if by_value || !physically_equal(store, old, new) {
                    new.note_chain(store)?;
                    old.assemble(store)?;
                    new.assemble(store)?;
                    if by_value || old.payload() != new.payload() {
                        emit(store, Found::Differs, old, new)?;
                    }
                }
                if let Some(unlike) = &unlike {
                    pass_over(unlike, old, new);
                }
                old.advance(store)?;
                new.advance(store)?;
            }
        }
    }
}

/// What may differ, if both walks are in one leaf, alone.
fn unlike(old: &Cursor, new: &Cursor) -> Option<Unlike> {
    let ([before], [after]) = (&old.stack[..], &new.stack[..]) else { return None };
    let one = before.number == after.number && before.head.kind == after.head.kind;
    let both = before.open && after.open && before.head.leaf && after.head.leaf;
    if one && both { Unlike::of((&before.head, &before.page), (&after.head, &after.page)) } else { None }
}

/// Passes over the cells that both have next.
fn pass_over(unlike: &Unlike, old: &mut Cursor, new: &mut Cursor) {
    if let ([before], [after]) = (&mut old.stack[..], &mut new.stack[..]) {
        let cells = unlike.alike((&before.head, &before.page, before.at), (&after.head, &after.page, after.at));
        before.at += cells;
        after.at += cells;
    }
}

#[inline]
fn physically_equal(store: &Store, old: &Cursor, new: &Cursor) -> bool {
    let (a, b) = (&old.cell, &new.cell);
    a.payload_len == b.payload_len
        && a.overflow == b.overflow
        && old.local() == new.local()
        && (a.overflow == 0 || !store.map.has(a.overflow, CHAIN_DIRTY))
}

#[inline]
fn compare(store: &mut Store, old: &mut Cursor, new: &mut Cursor, table: Option<&Table>) -> Result<Ordering> {
    let Some(table) = table.filter(|table| table.without_rowid) else {
        return Ok(old.cell.rowid.cmp(&new.cell.rowid));
    };
    if physically_equal(store, old, new) {
        return Ok(Ordering::Equal);
    }
    old.parse(store)?;
    new.parse(store)?;
    let a = (old.payload(), old.fields());
    let b = (new.payload(), new.fields());
    Ok(record::compare(a, b, &table.key_parts, table.encoding))
}

/// Notes that a whole tree of the old view is gone.
pub fn clear_tree(store: &mut Store, root: u32, kind: TreeKind) -> Result<()> {
    store.map.note(root, Kind::None, 0);
    let mut budget = Budget::new(store);
    // Leaves are all at one depth: they are known as the children of the pages whose first child is a leaf.
    let mut stack = vec![(root, 0)];
    while let Some((number, depth)) = stack.pop() {
        budget.spend(number)?;
        if depth > DEPTH_MAX {
            return Err(bad_page(number, "is too deep in its tree"));
        }
        let page = store.page(number, Side::Old)?;
        let head = PageHead::parse(number, &page, kind)?;
        if head.leaf {
            continue;
        }
        let first = head.child(&page, 0);
        let leaves = PageHead::parse(first, &store.page(first, Side::Old)?, kind)?.leaf;
        for nth in 0..=head.cells {
            let child = head.child(&page, nth);
            store.map.note(child, Kind::None, 0);
            if !leaves {
                stack.push((child, depth + 1));
            }
        }
    }
    Ok(())
}

/// Links a whole tree of the old view into the map at once: used when a database is first read.
pub fn map_tree(store: &mut Store, root: u32, kind: TreeKind, usable: u32) -> Result<()> {
    store.map.link(root, Kind::Root, 0);
    let mut budget = Budget::new(store);
    let mut stack = vec![(root, 0)];
    while let Some((number, depth)) = stack.pop() {
        budget.spend(number)?;
        if depth > DEPTH_MAX {
            return Err(bad_page(number, "is too deep in its tree"));
        }
        let page = store.page(number, Side::Old)?;
        let head = PageHead::parse(number, &page, kind)?;
        if head.leaf || kind == TreeKind::Index {
            for nth in 0..head.cells {
                let cell = head.cell(number, &page, usable, nth)?;
                if cell.overflow != 0 {
                    map_chain(store, cell.overflow, number)?;
                }
            }
        }
        if !head.leaf {
            // From the right, so that the stack gives the left-most first: the file is read forwards.
            for nth in (0..=head.cells).rev() {
                let child = head.child(&page, nth);
                if store.map.kind(child) == Kind::Root || child == 0 {
                    return Err(bad_page(number, "has a child that is no child"));
                }
                store.map.link(child, Kind::Child, number);
                stack.push((child, depth + 1));
            }
        }
    }
    Ok(())
}

fn map_chain(store: &mut Store, first: u32, owner: u32) -> Result<()> {
    store.map.link(first, Kind::Overflow, owner);
    let mut page = first;
    for _ in 0..store.pages.count(Side::Old) {
        page = be32(&store.page(page, Side::Old)?, 0);
        if page == 0 {
            return Ok(());
        }
        store.map.link(page, Kind::Further, first);
    }
    Err(bad_page(first, "starts an overflow chain without an end"))
}
