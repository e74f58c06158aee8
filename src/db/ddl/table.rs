//! A table as its DDL describes it, and the changes that keep its keys pointing at the right columns.

use super::column::{self, Characters};
use super::cursor::Unclear;
use super::parse::{NewKey, Place};
use crate::event::TableDefinition;
use crate::event::table::{Column, ColumnKind, Key, KeyPart};

/// A table as its DDL describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Columns and keys. Kinds are those that a server of today uses for the types.
    pub definition: TableDefinition,
    /// Charset of columns that name none; empty: not known.
    pub charset: String,
    /// Collation of columns that name none; empty for the charset's default.
    pub collation: String,
    /// Columns, by index, whose charset is the table's.
    pub(super) inherits: Vec<bool>,
    /// Its last two columns hold the system period without having been declared.
    pub(super) implicit_period: bool,
}

impl Table {
    pub(super) fn characters(&self) -> Characters {
        Characters { charset: self.charset.clone(), collation: self.collation.clone() }
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.definition.column_index(name)
    }

    pub(super) fn with_column(&mut self, at: usize, change: impl FnOnce(&mut Column)) {
        if let Some(column) = self.definition.columns.get_mut(at) {
            change(column);
        }
    }

    /// Columns without those that system versioning added: new ones go in front of them.
    pub(super) fn declared(&self) -> usize {
        self.definition.columns.len().saturating_sub(if self.implicit_period { 2 } else { 0 })
    }

    pub(super) fn place(&self, place: &Place, here: usize) -> Result<usize, Unclear> {
        match place {
            Place::Here => Ok(here),
            Place::First => Ok(0),
            Place::After(name) => self.column(name).map(|at| at + 1).ok_or_else(|| no_column(name)),
        }
    }

    pub(super) fn add_period(&mut self) {
        for name in ["row_start", "row_end"] {
            let mut column = Column::new(name, ColumnKind::Timestamp { fsp: 6 });
            column.nullable = Some(false);
            column.generated = true;
            column.invisible = true;
            column.sql_type = "timestamp(6)".into();
            self.definition.columns.push(column);
            self.inherits.push(false);
        }
        self.implicit_period = true;
    }

    pub(super) fn add_key(&mut self, key: NewKey) -> Result<(), Unclear> {
        // A key with an expression says nothing about rows that could be used.
        let Some(names) = key.parts else { return Ok(()) };
        let mut parts = Vec::with_capacity(names.len());
        for (name, prefix) in &names {
            let column = self.column(name).ok_or_else(|| no_column(name))?;
            parts.push(KeyPart { column: column as u32, prefix: *prefix });
        }
        if key.primary {
            for part in &parts {
                self.with_column(part.column as usize, |column| column.nullable = Some(false));
            }
            self.definition.primary_key = parts;
            return Ok(());
        }
        let mut name = key.name;
        if name.is_empty() {
            let first = names.first().map_or("", |(name, _)| name);
            let taken = |name: &str| self.definition.unique_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name));
            name = first.to_owned();
            let mut number = 2;
            while taken(&name) {
                name = format!("{first}_{number}");
                number += 1;
            }
        }
        self.definition.unique_keys.push(Key { name, parts });
        Ok(())
    }

    pub(super) fn drop_column(&mut self, at: usize) {
        if at >= self.definition.columns.len() {
            return;
        }
        self.definition.columns.remove(at);
        self.inherits.remove(at);
        let without = |parts: &mut Vec<KeyPart>| {
            parts.retain(|part| part.column as usize != at);
            for part in parts {
                part.column -= u32::from(part.column as usize > at);
            }
        };
        without(&mut self.definition.primary_key);
        self.definition.unique_keys.iter_mut().for_each(|key| without(&mut key.parts));
        self.definition.unique_keys.retain(|key| !key.parts.is_empty());
    }

    pub(super) fn move_column(&mut self, from: usize, place: &Place) -> Result<(), Unclear> {
        let mut to = self.place(place, from)?;
        if to > from {
            to -= 1;
        }
        let column = self.definition.columns.remove(from);
        let inherits = self.inherits.remove(from);
        self.definition.columns.insert(to, column);
        self.inherits.insert(to, inherits);
        let moved = |index: usize| match index {
            _ if index == from => to,
            _ if from < index && index <= to => index - 1,
            _ if to <= index && index < from => index + 1,
            _ => index,
        };
        let keys = self.definition.unique_keys.iter_mut().flat_map(|key| &mut key.parts);
        for part in self.definition.primary_key.iter_mut().chain(keys) {
            part.column = moved(part.column as usize) as u32;
        }
        Ok(())
    }

    pub(super) fn convert(&mut self, characters: &Characters) {
        self.charset.clone_from(&characters.charset);
        self.collation.clone_from(&characters.collation);
        for column in &mut self.definition.columns {
            let text = matches!(column.kind, ColumnKind::String { .. } | ColumnKind::Enum | ColumnKind::Set);
            if text && column.charset != "binary" {
                column::set_characters(column, characters);
            }
        }
        self.inherits.iter_mut().for_each(|inherits| *inherits = true);
    }
}

pub(super) fn no_column(name: &str) -> Unclear {
    Unclear(format!("there is no column {name}"))
}
