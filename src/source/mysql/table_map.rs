//! Table map events: which table, and how its columns stand in the rows events that follow.
//!
//! ```text
//! table id     6 (4 in pre-GA logs whose post-header has 6 bytes)
//! flags        2
//! database     length (1 byte), name, zero byte
//! table        likewise
//! columns      packed integer, then one type byte each
//! metadata     packed integer (bytes), then what each type needs
//! nullable     (columns + 7) / 8, lowest bit first
//! optional     type (1 byte), length (packed integer), value; until the end
//! ```
//!
//! The optional part (MySQL since 8.0.1, MariaDB since 10.5, both by configuration) is kept as it says, and what it does not say stays
//! unknown. A list that is damaged or does not fit the columns is an error: names would be shifted.

use super::wire::Wire;
use crate::event::EventError;
use crate::event::rows::COLUMNS_MAX;
use crate::frame::fields::take_bytes;

/// Which of the two servers wrote a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// MySQL and its descendants other than MariaDB.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl Family {
    /// Its name in table definitions.
    pub fn name(self) -> &'static str {
        match self {
            Family::MySql => "mysql",
            Family::MariaDb => "mariadb",
        }
    }
}

/// A column as a table map has it. What the optional metadata did not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapColumn {
    /// How its values stand in rows.
    pub wire: Wire,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether a numeric column is unsigned.
    pub unsigned: Option<bool>,
    /// Collation number of characters, of ENUM and SET too.
    pub collation: Option<u32>,
    /// Its name.
    pub name: Option<String>,
    /// Members of ENUM and SET.
    pub members: Option<Vec<Vec<u8>>>,
    /// Kind of geometry: 0 any, 1 point …
    pub geometry: Option<u32>,
    /// Whether SELECT * shows it.
    pub visible: Option<bool>,
    /// Numbers in a vector.
    pub dimensions: Option<u32>,
}

/// A table map event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// Number that rows events refer to.
    pub table_id: u64,
    /// Flags as the log has them.
    pub flags: u16,
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Columns.
    pub columns: Vec<MapColumn>,
    /// Primary key as (column from 0, characters of the prefix or 0). `None`: not said. A log that says the names and no
    /// key says that there is none.
    pub primary_key: Option<Vec<(u32, u32)>>,
}

impl TableMap {
    /// Parses an event's data: what stands behind the common header, without checksum. `table_id_bytes` is 6, or 4 when the format
    /// description event gives this type a post-header of 6 bytes.
    pub fn parse(body: &[u8], table_id_bytes: usize) -> Result<TableMap, EventError> {
        TableMap::parse_from(Family::MySql, body, table_id_bytes)
    }

    /// As [`TableMap::parse`], from a log of this family: MariaDB lists the charset of every column that is stored with one, geometry
    /// included; MySQL that of characters and bytes only.
    pub fn parse_from(family: Family, body: &[u8], table_id_bytes: usize) -> Result<TableMap, EventError> {
        let mut rest = body;
        let cut = || EventError::new("a table map event is cut short");
        let mut id = [0; 8];
        let raw = take_bytes(&mut rest, table_id_bytes.min(8)).ok_or_else(cut)?;
        id.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
        let flags = take_bytes(&mut rest, 2).and_then(|raw| raw.first_chunk()).ok_or_else(cut)?;
        let database = take_name(&mut rest).ok_or_else(cut)?;
        let table = take_name(&mut rest).ok_or_else(cut)?;
        let count = take_packed(&mut rest).ok_or_else(cut)? as usize;
        if count > COLUMNS_MAX {
            return Err(EventError(format!("a table map event claims {count} columns")));
        }
        let types = take_bytes(&mut rest, count).ok_or_else(cut)?;
        let metadata_len = take_packed(&mut rest).ok_or_else(cut)?;
        let mut metadata =
            usize::try_from(metadata_len).ok().and_then(|length| take_bytes(&mut rest, length)).ok_or_else(cut)?;
        let nullable = take_bytes(&mut rest, count.div_ceil(8)).ok_or_else(cut)?;
        let mut columns = Vec::with_capacity(count);
        for (index, number) in types.iter().enumerate() {
            let wire = Wire::take(*number, &mut metadata).ok_or_else(|| {
                EventError(format!(
                    "column {} of {database}.{table} has type {number} with metadata that this version does not know",
                    index + 1
                ))
            })?;
            columns.push(MapColumn {
                wire,
                nullable: nullable.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1),
                unsigned: None,
                collation: None,
                name: None,
                members: None,
                geometry: None,
                visible: None,
                dimensions: None,
            });
        }
        if !metadata.is_empty() {
            return Err(EventError(format!(
                "the column metadata of {database}.{table} is longer than its columns need"
            )));
        }
        let mut map = TableMap {
            table_id: u64::from_le_bytes(id),
            flags: u16::from_le_bytes(*flags),
            database,
            table,
            columns,
            primary_key: None,
        };
        map.take_optional(family, rest)?;
        Ok(map)
    }

    fn take_optional(&mut self, family: Family, mut rest: &[u8]) -> Result<(), EventError> {
        while let Some((&kind, tail)) = rest.split_first() {
            rest = tail;
            let value = take_packed(&mut rest)
                .and_then(|length| usize::try_from(length).ok())
                .and_then(|length| take_bytes(&mut rest, length));
            let taken = value.and_then(|value| self.take_field(family, kind, value));
            if taken.is_none() {
                return Err(EventError(format!(
                    "field {kind} of the optional metadata of {}.{} does not fit its columns",
                    self.database, self.table
                )));
            }
        }
        // Names are logged with keys: then a key that is not there does not exist.
        if self.primary_key.is_none() && !self.columns.is_empty() && self.columns.iter().all(|c| c.name.is_some()) {
            self.primary_key = Some(Vec::new());
        }
        Ok(())
    }

    /// One field of the optional metadata (numbers as in both servers' documentation); unknown ones are passed over.
    fn take_field(&mut self, family: Family, kind: u8, mut value: &[u8]) -> Option<()> {
        let is_character: fn(&MapColumn) -> bool = match family {
            Family::MySql => |column| column.wire.is_character(),
            Family::MariaDb => |column| column.wire.is_character() || matches!(column.wire, Wire::Geometry(_)),
        };
        let is_member: fn(&MapColumn) -> bool = |column| matches!(column.wire, Wire::Enum(_) | Wire::Set(_));
        match kind {
            1 => {
                let numeric = self.columns.iter_mut().filter(|column| column.wire.is_numeric());
                for (index, column) in numeric.enumerate() {
                    column.unsigned = Some(value.get(index / 8)? >> (7 - index % 8) & 1 == 1);
                }
            }
            2 => self.default_charset(value, is_character)?,
            10 => self.default_charset(value, is_member)?,
            3 => self.each_charset(value, is_character)?,
            11 => self.each_charset(value, is_member)?,
            4 => {
                for column in &mut self.columns {
                    let length = usize::try_from(take_packed(&mut value)?).ok()?;
                    column.name = Some(String::from_utf8_lossy(take_bytes(&mut value, length)?).into_owned());
                }
            }
            5 => self.take_members(value, |wire| matches!(wire, Wire::Set(_)))?,
            6 => self.take_members(value, |wire| matches!(wire, Wire::Enum(_)))?,
            7 => {
                for column in self.columns.iter_mut().filter(|column| matches!(column.wire, Wire::Geometry(_))) {
                    column.geometry = Some(u32::try_from(take_packed(&mut value)?).ok()?);
                }
            }
            8 | 9 => {
                let mut key = Vec::new();
                while !value.is_empty() {
                    let column = u32::try_from(take_packed(&mut value)?).ok()?;
                    let prefix = if kind == 9 { u32::try_from(take_packed(&mut value)?).ok()? } else { 0 };
                    if column as usize >= self.columns.len() || key.len() >= self.columns.len() {
                        return None;
                    }
                    key.push((column, prefix));
                }
                self.primary_key = Some(key);
            }
            12 => {
                for (index, column) in self.columns.iter_mut().enumerate() {
                    column.visible = Some(value.get(index / 8)? >> (7 - index % 8) & 1 == 1);
                }
            }
            13 => {
                for column in self.columns.iter_mut().filter(|column| matches!(column.wire, Wire::Vector(_))) {
                    column.dimensions = Some(u32::try_from(take_packed(&mut value)?).ok()?);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// One collation for most columns, then pairs of (column among those that `counts`, collation).
    fn default_charset(&mut self, mut value: &[u8], counts: fn(&MapColumn) -> bool) -> Option<()> {
        let default = u32::try_from(take_packed(&mut value)?).ok()?;
        let mut columns: Vec<&mut MapColumn> = self.columns.iter_mut().filter(|column| counts(column)).collect();
        columns.iter_mut().for_each(|column| column.collation = Some(default));
        while !value.is_empty() {
            let index = usize::try_from(take_packed(&mut value)?).ok()?;
            columns.get_mut(index)?.collation = Some(u32::try_from(take_packed(&mut value)?).ok()?);
        }
        Some(())
    }

    fn each_charset(&mut self, mut value: &[u8], counts: fn(&MapColumn) -> bool) -> Option<()> {
        for column in self.columns.iter_mut().filter(|column| counts(column)) {
            column.collation = Some(u32::try_from(take_packed(&mut value)?).ok()?);
        }
        Some(())
    }

    fn take_members(&mut self, mut value: &[u8], counts: fn(Wire) -> bool) -> Option<()> {
        for column in self.columns.iter_mut().filter(|column| counts(column.wire)) {
            let count = take_packed(&mut value)?;
            let mut members = Vec::new();
            for _ in 0..count {
                let length = usize::try_from(take_packed(&mut value)?).ok()?;
                members.push(take_bytes(&mut value, length)?.to_vec());
            }
            column.members = Some(members);
        }
        Some(())
    }
}

/// Length (one byte), name, zero byte. Names are UTF-8 in every log; what is not stays visible as replacement characters.
fn take_name(input: &mut &[u8]) -> Option<String> {
    let (&length, rest) = input.split_first()?;
    *input = rest;
    let name = take_bytes(input, usize::from(length))?;
    take_bytes(input, 1)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// MySQL's packed integer: one byte below 251, else 252, 253, 254 and 2, 3, 8 bytes.
pub fn take_packed(input: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = input.split_first()?;
    *input = rest;
    let bytes = match first {
        0..=250 => return Some(u64::from(first)),
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return None,
    };
    let mut wide = [0; 8];
    wide.iter_mut().zip(take_bytes(input, bytes)?).for_each(|(to, from)| *to = *from);
    Some(u64::from_le_bytes(wide))
}
