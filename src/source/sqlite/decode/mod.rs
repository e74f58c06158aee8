//! From the frames of a transaction to the rows it changed.
//!
//! A [`Decoder`] stands at the end of a transaction and knows the database as it was then: the views, the page map and
//! the schema. [`Decoder::next`] reads one more transaction and tells a [`Sink`] what it did:
//!
//! 1. *mark*: from each changed page climb to its leaf and root; the roots reached are the tables concerned;
//! 2. *schema*: compare the schema's own tree; only if a row differs, read the schema anew and [`ddl::plan`] the way;
//! 3. *rows*: table by table, compare the trees ([`super::treediff`]). When only leaves changed, which is the common case,
//!    leaves are compared one by one and no interior page is read (nor are the leaves listed when they are very many);
//! 4. *fold*: apply what the walks noted to the page map, and make the new view the old one.
//!
//! Order of what the sink gets: DDL that drops, alters and creates tables; rows; DDL of indexes, views and triggers;
//! sequences. Rows of a table with some uniqueness besides its tree's key come deletes first, then updates, then
//! inserts (the trees are walked once for each that occurs); of other tables in key order. Where two or more rows of
//! such a table change what has to be unique, these are told as deletes and inserts, since no order of updates is
//! free of conflicts in general (two rows that exchange a value). So what is told can be applied row by row.
//!
//! After an error the decoder's state is between two transactions, and it refuses to go on.

mod check;
mod sequences;
mod tell;

use std::sync::Arc;

use self::sequences::{SEQUENCE, SequenceWork};
use self::tell::{Pass, Seen, Tables, row, tell};
use super::ddl::{self, Plan};
use super::page::{DbHeader, Encoding, PageHead, TreeKind};
use super::pagemap::{CHAIN_DIRTY, DIRTY, Kind, PageMap, STAMPED};
use super::schema::{self, DefinitionReader, Schema, Table};
pub use super::sink::{Change, Op, Row, Sink, Txn};
use super::treediff::{Cursor, Found, Store, Tree, clear_tree, map_tree, merge, stamp};
use super::view::{Image, Pages, Side};
use super::wal::{Header, Mark, ReadAt, Scanner, Tail, read_header};
use crate::error::{Class, Error, Result};
use crate::sys::sparse::give_back;

/// Root page of `sqlite_schema`.
const SCHEMA_ROOT: u32 = 1;
/// Where more pages are touched they are not listed, and trees are walked instead of leaves: a list takes memory, and what walks read
/// besides is little then.
const TOUCHED_MAX: usize = 64 << 10;

/// What [`Decoder::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction was told to the sink.
    Txn(Txn),
    /// No further transaction for now.
    Tail(Tail),
}

/// See the module's head.
pub struct Decoder {
    store: Store,
    wal: Arc<dyn ReadAt>,
    header: Option<DbHeader>,
    schema: Arc<Schema>,
    reader: DefinitionReader,
    old: Cursor,
    new: Cursor,
    generation: u32,
    /// (root, page) of every tracked page that is changed or has a changed chain, unless these are many.
    touched: Vec<(u32, u32)>,
    is_listed: bool,
    /// The roots of the trees that have any.
    touched_roots: Vec<u32>,
    broken: bool,
}

/// How to find the rows that may differ.
#[derive(Clone)]
enum Work {
    /// Compare these leaves one by one: a range of `touched`.
    Leaves(std::ops::Range<usize>),
    /// Walk both trees.
    Walk {
        /// Whatever has changed.
        full: bool,
    },
}

impl Decoder {
    /// Opens a database file and its log. The old view is the database file alone; see [`Decoder::skip`].
    pub fn open(db: Arc<dyn ReadAt>, wal: Arc<dyn ReadAt>) -> Result<Decoder> {
        let mut bytes = [0; super::page::DB_HEADER_LEN];
        let got = db.read_at(&mut bytes, 0).map_err(|e| Error::io("", e))?;
        let header = if got == 0 { None } else { Some(DbHeader::parse(bytes.get(..got).unwrap_or_default())?) };
        let log = read_header(&*wal)?;
        let page_size = match (&header, &log) {
            (Some(header), Some(log)) if header.page_size != log.page_size => {
                return Err(Error::damage(format!(
                    "the log's pages have {} bytes, the database's {}: they do not belong together",
                    log.page_size, header.page_size
                )));
            }
            (Some(header), _) => header.page_size,
            (None, Some(log)) => log.page_size,
            (None, None) => 4096,
        };
        let in_file = db.len().map_err(|e| Error::io("", e))? / u64::from(page_size);
        let in_file = u32::try_from(in_file).unwrap_or(u32::MAX);
        let pages = match header.map_or(0, |header| header.pages) {
            0 => in_file,
            pages => pages.min(in_file),
        };
        let mut scanner = Scanner::new();
        scanner.restart(&*wal)?;
        let store = Store {
            pages: Pages::new(db, Arc::clone(&wal), page_size, pages),
            scanner,
            map: PageMap::new(),
            recording: false,
            chains_changed: false,
        };
        let encoding = header.map_or(Encoding::Utf8, |header| header.encoding);
        Ok(Decoder {
            store,
            wal,
            header,
            schema: Arc::new(Schema::empty(encoding)),
            reader: DefinitionReader::new()?,
            old: Cursor::new(Side::Old),
            new: Cursor::new(Side::New),
            generation: 0,
            touched: Vec::new(),
            is_listed: true,
            touched_roots: Vec::new(),
            broken: false,
        })
    }

    /// A decoder whose old view is `image`, without a log; see [`Decoder::rebase`].
    pub fn over(image: Arc<Image>) -> Result<Decoder> {
        let (page_size, pages) = (image.page_size(), image.pages());
        let nothing: Arc<dyn ReadAt> = Arc::new(Vec::new());
        Ok(Decoder {
            store: Store {
                pages: Pages::new(image, Arc::clone(&nothing), page_size, pages),
                scanner: Scanner::new(),
                map: PageMap::new(),
                recording: false,
                chains_changed: false,
            },
            wal: nothing,
            header: None,
            schema: Arc::new(Schema::empty(Encoding::Utf8)),
            reader: DefinitionReader::new()?,
            old: Cursor::new(Side::Old),
            new: Cursor::new(Side::New),
            generation: 0,
            touched: Vec::new(),
            is_listed: true,
            touched_roots: Vec::new(),
            broken: false,
        })
    }

    /// Goes on with the frames behind `mark` of another log, over an image of the very state in which the decoder is.
    pub fn rebase(&mut self, image: Arc<Image>, wal: Arc<dyn ReadAt>, header: &Header, mark: Mark) {
        self.store.pages.rebase(image, Arc::clone(&wal), header.page_size);
        self.store.scanner = Scanner::starting(*header, mark);
        self.wal = wal;
    }

    /// Takes whole transactions up to frame `limit` into the old view without looking at them.
    pub fn skip(&mut self, limit: u32) -> Result<()> {
        let Store { pages, scanner, .. } = &mut self.store;
        while let Ok(span) = scanner.next(&*self.wal, Some(limit))? {
            pages.begin(scanner, span.db_pages)?;
            scanner.forget_pages();
            pages.commit();
        }
        Ok(())
    }

    /// Stands behind `mark` with the database file alone as its old view: everything up to there was copied back. No frame is read, since
    /// from then on the log may be started again at any moment.
    pub fn pass(&mut self, mark: Mark) {
        self.store.scanner.seek(mark);
    }

    /// Reads schema and page map from the old view; needed once, before the first [`Decoder::next`].
    pub fn learn(&mut self) -> Result<()> {
        let pages = self.store.pages.count(Side::Old);
        self.store.map = PageMap::new();
        self.store.map.resize(pages);
        if pages == 0 {
            self.header = None;
            return Ok(());
        }
        let header = DbHeader::parse(&self.store.page(SCHEMA_ROOT, Side::Old)?)?;
        self.header = Some(header);
        map_tree(&mut self.store, SCHEMA_ROOT, TreeKind::Table, header.usable)?;
        self.schema = Arc::new(self.read_schema(Side::Old, &header)?);
        for table in &self.schema.tables {
            map_tree(&mut self.store, table.root, table.tree_kind(), header.usable)?;
        }
        Ok(())
    }

    /// The log was reset and every transaction before it has been read: goes on with the log's present header. `false`
    /// when there is none yet.
    pub fn restart(&mut self) -> Result<bool> {
        let found = self.store.scanner.restart(&*self.wal)?;
        self.store.pages.reset(Arc::clone(&self.wal));
        if let Some(log) = self.store.scanner.header() {
            if log.page_size != self.store.pages.page_size() {
                return Err(Error::new(Class::Gap, "the page size has changed")
                    .hint("start again with a snapshot (--resnapshot)"));
            }
            self.generation += 1;
        }
        Ok(found)
    }

    /// The schema after the last transaction.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Where the last transaction ended.
    pub fn mark(&self) -> Mark {
        self.store.scanner.mark()
    }

    /// The scanner, for the log's header.
    pub fn scanner(&self) -> &Scanner {
        &self.store.scanner
    }

    /// Reads the next transaction, at most up to frame `limit`, and tells `sink` what it did.
    pub fn next<S: Sink>(&mut self, limit: Option<u32>, sink: &mut S) -> Result<Step> {
        if self.broken {
            return Err(Error::new(Class::Bug, "reading went on after an error"));
        }
        let span = match self.store.scanner.next(&*self.wal, limit)? {
            Ok(span) => span,
            Err(tail) => return Ok(Step::Tail(tail)),
        };
        self.broken = true;
        let txn = Txn { generation: self.generation, span };
        let Store { pages, scanner, map, .. } = &mut self.store;
        pages.begin(scanner, span.db_pages)?;
        scanner.forget_pages();
        map.resize(pages.count(Side::Old).max(pages.count(Side::New)));
        sink.begin(&txn)?;
        self.diff(sink)?;
        sink.commit(&txn)?;
        let Store { pages, map, .. } = &mut self.store;
        if pages.is_resized() {
            // No entry of the map means anything any more.
            pages.commit();
            self.learn()?;
            self.broken = false;
            return Ok(Step::Txn(txn));
        }
        map.settle();
        map.unflag_all();
        map.resize(pages.count(Side::New));
        pages.commit();
        self.broken = false;
        Ok(Step::Txn(txn))
    }

    /// Between two transactions: gives back all memory that is only there for speed.
    pub fn relieve(&mut self) {
        self.store.pages.forget_cached();
        self.store.scanner.forget_buffer();
        give_back();
    }

    /// Tells `sink` every row of `table` in the old view, as inserts.
    pub fn scan_table<S: Sink>(&mut self, table: &Arc<Table>, sink: &mut S) -> Result<()> {
        let Some(header) = self.header else { return Ok(()) };
        let mut cursor = Cursor::new(Side::Old);
        let tree = tree_of(table, table.root, header.usable, true);
        self.store.recording = false;
        cursor.start(&mut self.store, Some(tree))?;
        while cursor.valid() {
            cursor.parse(&mut self.store)?;
            let after = row(&cursor, table, None);
            sink.row(&Change { table, op: Op::Insert, before: None, after: Some(after) })?;
            cursor.advance(&mut self.store)?;
        }
        Ok(())
    }

    /// Step 1.
    fn mark_touched(&mut self) {
        let Store { pages, map, chains_changed, .. } = &mut self.store;
        *chains_changed = false;
        self.touched.clear();
        self.touched_roots.clear();
        self.is_listed = true;
        if pages.is_resized() {
            return;
        }
        let cut = pages.count(Side::New).saturating_add(1)..=pages.count(Side::Old);
        for page in pages.changed().chain(cut) {
            let start = match map.kind(page) {
                Kind::None => continue,
                Kind::Root | Kind::Child => page,
                Kind::Overflow => {
                    *chains_changed = true;
                    map.flag(page, CHAIN_DIRTY);
                    map.parent(page)
                }
                Kind::Further => {
                    let first = map.parent(page);
                    if map.kind(first) != Kind::Overflow {
                        continue;
                    }
                    *chains_changed = true;
                    map.flag(first, CHAIN_DIRTY);
                    map.parent(first)
                }
            };
            let Some(root) = map.root_of(start) else { continue };
            if self.is_listed {
                self.touched.push((root, start));
            }
            if self.touched.len() > TOUCHED_MAX {
                self.touched.sort_unstable();
                self.touched.dedup();
                if self.touched.len() > TOUCHED_MAX / 2 {
                    self.touched.clear();
                    self.is_listed = false;
                }
            }
            let mut page = start;
            while map.flag(page, DIRTY) {
                if page == root {
                    self.touched_roots.push(root);
                    break;
                }
                page = map.parent(page);
            }
        }
        self.touched.sort_unstable();
        self.touched.dedup();
    }

    fn diff<S: Sink>(&mut self, sink: &mut S) -> Result<()> {
        self.mark_touched();
        let before = self.header;
        let after = match before {
            Some(header) if !self.store.pages.is_changed(SCHEMA_ROOT) => header,
            _ => DbHeader::parse(&self.store.page(SCHEMA_ROOT, Side::New)?)?,
        };
        if after.page_size != self.store.pages.page_size() {
            return Err(Error::damage("page 1 claims another page size than the log"));
        }
        let relaid = self.store.pages.is_resized()
            || before.is_some_and(|b| b.usable != after.usable || b.encoding != after.encoding);
        let schema_touched = before.is_none() || relaid || self.store.map.has(SCHEMA_ROOT, DIRTY);
        let mut schema_changed = before.is_none() || relaid;
        if schema_touched {
            schema_changed |= self.diff_schema_tree(before, &after, relaid)?;
        }
        let old_schema = Arc::clone(&self.schema);
        let mut sequence = SequenceWork::default();
        if schema_changed {
            let new_schema = Arc::new(self.read_schema(Side::New, &after)?);
            let pages = &self.store.pages;
            let plan = ddl::plan(&old_schema, &new_schema, |page| pages.is_changed(page))?;
            self.diff_planned(&old_schema, &new_schema, &plan, before, &after, relaid, &mut sequence, sink)?;
            self.schema = new_schema;
        } else {
            self.diff_touched(&old_schema, &after, &mut sequence, sink)?;
        }
        self.header = Some(after);
        self.tell_sequences((before, &old_schema), &after, sequence, sink)
    }

    /// Step 2: whether a row of the schema differs.
    fn diff_schema_tree(&mut self, before: Option<DbHeader>, after: &DbHeader, relaid: bool) -> Result<bool> {
        let Decoder { store, old, new, .. } = self;
        let tree = |usable| Tree {
            root: SCHEMA_ROOT,
            old_root: if before.is_some() { SCHEMA_ROOT } else { 0 },
            kind: TreeKind::Table,
            usable,
            full: relaid || before.is_none(),
            moved: before.is_none(),
        };
        let mut differs = false;
        store.recording = true;
        store.map.note(SCHEMA_ROOT, Kind::Root, 0);
        let new_tree = tree(after.usable);
        store.map.unflag(STAMPED);
        stamp(store, &new_tree)?;
        old.start(store, before.map(|header| tree(header.usable)))?;
        new.start(store, Some(new_tree))?;
        merge(store, old, new, None, relaid, |_, _, _, _| {
            differs = true;
            Ok(())
        })?;
        store.recording = false;
        Ok(differs)
    }

    fn read_schema(&mut self, side: Side, header: &DbHeader) -> Result<Schema> {
        let Decoder { store, old, new, reader, schema, .. } = self;
        let cursor = if side == Side::Old { old } else { new };
        let tree = Tree {
            root: SCHEMA_ROOT,
            old_root: SCHEMA_ROOT,
            kind: TreeKind::Table,
            usable: header.usable,
            full: true,
            moved: false,
        };
        let mut objects = Vec::new();
        cursor.start(store, Some(tree))?;
        while cursor.valid() {
            cursor.parse(store)?;
            objects.extend(schema::object(cursor.rowid(), cursor.payload(), cursor.fields(), header.encoding));
            cursor.advance(store)?;
        }
        Schema::describe(objects, header.encoding, Some(schema), reader)
    }

    /// Step 3 without a change of schema: only tables that were reached by marking.
    fn diff_touched<S: Sink>(
        &mut self,
        schema: &Arc<Schema>,
        header: &DbHeader,
        sequence: &mut SequenceWork,
        sink: &mut S,
    ) -> Result<()> {
        // What an applier of ours says about the transaction has to be known before its rows.
        let state = schema.tables.iter().find(|table| super::events::is_own_state(&table.name)).map(|table| table.root);
        let mut roots = std::mem::take(&mut self.touched_roots);
        roots.sort_unstable_by_key(|root| (state != Some(*root), *root));
        for root in &roots {
            let Some(table) = schema.by_root.get(root).and_then(|place| schema.tables.get(*place)) else { continue };
            let from = self.touched.partition_point(|entry| entry.0 < *root);
            let len = self.touched.get(from..).unwrap_or_default().partition_point(|entry| entry.0 == *root);
            let range = from..from + len;
            let mut work = Work::Walk { full: false };
            if self.is_listed && self.only_leaves(range.clone(), table.tree_kind())? {
                work = Work::Leaves(range);
            }
            let tables = Tables { old: Some(table), new: table, remap: None };
            self.diff_table(tables, work, Some(*header), header, false, sequence, sink)?;
        }
        self.touched_roots = roots;
        Ok(())
    }

    /// Whether all these pages are leaves of that kind on both sides: then no row can have moved between pages, since
    /// the keys that separate leaves stand in interior pages.
    fn only_leaves(&mut self, range: std::ops::Range<usize>, kind: TreeKind) -> Result<bool> {
        for nth in range {
            let Some(&(_, page)) = self.touched.get(nth) else { return Ok(false) };
            if page > self.store.pages.count(Side::New) {
                return Ok(false);
            }
            for side in [Side::Old, Side::New] {
                let bytes = self.store.page(page, side)?;
                if !PageHead::peek(page, &bytes).is_some_and(|head| head.leaf && head.kind == kind) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Step 3 with a change of schema.
    #[allow(clippy::too_many_arguments)]
    fn diff_planned<S: Sink>(
        &mut self,
        old: &Arc<Schema>,
        new: &Arc<Schema>,
        plan: &Plan,
        before: Option<DbHeader>,
        after: &DbHeader,
        relaid: bool,
        sequence: &mut SequenceWork,
        sink: &mut S,
    ) -> Result<()> {
        for statement in &plan.before {
            sink.ddl(statement)?;
        }
        for table in plan.dropped.iter().filter_map(|place| old.tables.get(*place)) {
            clear_tree(&mut self.store, table.root, table.tree_kind())?;
            if table.autoincrement {
                sequence.tables.push((table.name.clone(), None));
                sequence.dropped.push(table.name.clone());
            }
        }
        for pair in &plan.pairs {
            let (Some(was), Some(is)) = (old.tables.get(pair.old), new.tables.get(pair.new)) else { continue };
            let same_place = was.root == is.root;
            let touched = self.store.map.has(was.root, DIRTY) || self.store.pages.is_changed(is.root);
            if same_place && !touched && pair.remap.is_none() && !relaid {
                continue;
            }
            let tables = Tables { old: Some(was), new: is, remap: pair.remap.as_deref() };
            self.diff_table(tables, Work::Walk { full: relaid }, before, after, relaid, sequence, sink)?;
        }
        for table in plan.created.iter().filter_map(|place| new.tables.get(*place)) {
            let tables = Tables { old: None, new: table, remap: None };
            self.diff_table(tables, Work::Walk { full: true }, None, after, false, sequence, sink)?;
        }
        for statement in &plan.after {
            sink.ddl(statement)?;
        }
        Ok(())
    }

    /// The rows of one table that differ.
    #[allow(clippy::too_many_arguments)]
    fn diff_table<S: Sink>(
        &mut self,
        tables: Tables<'_>,
        work: Work,
        before: Option<DbHeader>,
        after: &DbHeader,
        relaid: bool,
        sequence: &mut SequenceWork,
        sink: &mut S,
    ) -> Result<()> {
        let is_sequence = tables.new.name == SEQUENCE;
        let wanted = !tables.new.is_system() && sink.wants(tables.new);
        let in_order = tables.new.needs_order();
        let mut seen = Seen::default();
        let by_value = relaid || tables.remap.is_some();
        for pass in [Pass::First, Pass::KeyDeletes, Pass::Updates, Pass::Inserts] {
            let later = wanted && in_order;
            let needed = match pass {
                Pass::First => true,
                Pass::KeyDeletes => later && seen.splits(),
                Pass::Updates => later && seen.updates > 0,
                Pass::Inserts => later && (seen.inserts > 0 || seen.splits()),
            };
            if !needed {
                continue;
            }
            let mut emit = |store: &mut Store, found: Found, old: &mut Cursor, new: &mut Cursor| -> Result<()> {
                if is_sequence && pass == Pass::First {
                    return sequence.note(store, found, old, new, tables.new);
                }
                if !wanted {
                    return Ok(());
                }
                tell(store, found, old, new, tables, pass, in_order, &mut seen, sink)
            };
            let Decoder { store, old, new, touched, .. } = self;
            store.recording = pass == Pass::First;
            match &work {
                Work::Leaves(range) => {
                    let tree = tree_of(tables.new, tables.new.root, after.usable, false);
                    for (_, leaf) in touched.get(range.clone()).unwrap_or_default() {
                        old.start_leaf(store, tree, *leaf)?;
                        new.start_leaf(store, tree, *leaf)?;
                        merge(store, old, new, Some(tables.new), by_value, &mut emit)?;
                    }
                }
                Work::Walk { full } => {
                    let old_root = tables.old.map_or(0, |table| table.root);
                    let new_tree = tree_of(tables.new, old_root, after.usable, *full);
                    if pass == Pass::First {
                        store.map.unflag(STAMPED);
                        if old_root != new_tree.root {
                            if old_root != 0 {
                                store.map.note(old_root, Kind::None, 0);
                            }
                            store.map.note(new_tree.root, Kind::Root, 0);
                        }
                        stamp(store, &new_tree)?;
                    }
                    let old_tree = match (tables.old, before) {
                        (Some(table), Some(before)) => {
                            let tree = tree_of(table, table.root, before.usable, *full);
                            Some(Tree { moved: new_tree.moved, ..tree })
                        }
                        _ => None,
                    };
                    old.start(store, old_tree)?;
                    new.start(store, Some(new_tree))?;
                    merge(store, old, new, Some(tables.new), by_value, &mut emit)?;
                }
            }
        }
        self.store.recording = false;
        if tables.new.autoincrement && wanted && seen.has_rows {
            sequence.tables.push((tables.new.name.clone(), seen.rowid_max));
        }
        Ok(())
    }
}

fn tree_of(table: &Table, old_root: u32, usable: u32, full: bool) -> Tree {
    Tree { root: table.root, old_root, kind: table.tree_kind(), usable, full, moved: table.root != old_root }
}
