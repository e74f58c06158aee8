//! The page map against a fresh one: a debugging aid for tests.

use std::sync::Arc;

use super::{Decoder, SCHEMA_ROOT};
use crate::error::{Class, Error, Result};
use crate::source::sqlite::page::TreeKind;
use crate::source::sqlite::pagemap::Kind;
use crate::source::sqlite::treediff::map_tree;
use crate::source::sqlite::view::Side;

impl Decoder {
    /// Compares the map with a fresh one: a debugging aid. Stale overflow entries are allowed, missing ones are not.
    pub fn check_map(&mut self) -> Result<()> {
        let Some(header) = self.header else { return Ok(()) };
        let mut kept = std::mem::take(&mut self.store.map);
        self.store.map.resize(self.store.pages.count(Side::Old));
        let schema = Arc::clone(&self.schema);
        let mut outcome = map_tree(&mut self.store, SCHEMA_ROOT, TreeKind::Table, header.usable);
        for table in &schema.tables {
            outcome = outcome.and_then(|()| map_tree(&mut self.store, table.root, table.tree_kind(), header.usable));
        }
        std::mem::swap(&mut kept, &mut self.store.map);
        outcome?;
        let (fresh, kept) = (kept, &self.store.map);
        for (page, kind, parent) in fresh.entries() {
            if (kept.kind(page), kept.parent(page)) != (kind, parent) {
                let have = (kept.kind(page), kept.parent(page));
                return Err(Error::new(
                    Class::Bug,
                    format!("page {page} is {kind:?} of {parent}, the map has {have:?}"),
                ));
            }
        }
        for (page, kind, _) in kept.entries() {
            if matches!(kind, Kind::Root | Kind::Child) && fresh.kind(page) != kind {
                return Err(Error::new(
                    Class::Bug,
                    format!("page {page} is {:?}, the map has {kind:?}", fresh.kind(page)),
                ));
            }
        }
        Ok(())
    }
}
