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
    pub fn parse(body: &[u8], table_id_bytes: usize, family: Family) -> Result<TableMap, EventError> {
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
        // Servers before 5.1.23 wrote neither metadata nor which columns may be NULL.
        let bare = rest.is_empty() && count > 0;
        let unknown_nullable = vec![0xff; count.div_ceil(8)];
        let metadata_len = if bare { 0 } else { take_packed(&mut rest).ok_or_else(cut)? };
        let mut metadata =
            usize::try_from(metadata_len).ok().and_then(|length| take_bytes(&mut rest, length)).ok_or_else(cut)?;
        let nullable = match bare {
            true => unknown_nullable.as_slice(),
            false => take_bytes(&mut rest, count.div_ceil(8)).ok_or_else(cut)?,
        };
        let mut columns = Vec::with_capacity(count);
        for (index, number) in types.iter().enumerate() {
            let wire = if bare { Wire::without_metadata(*number) } else { Wire::take(*number, &mut metadata) };
            let wire = wire.ok_or_else(|| {
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
        map.take_optional(rest, family)?;
        Ok(map)
    }

    fn take_optional(&mut self, mut rest: &[u8], family: Family) -> Result<(), EventError> {
        while let Some((&kind, tail)) = rest.split_first() {
            rest = tail;
            let value = take_packed(&mut rest)
                .and_then(|length| usize::try_from(length).ok())
                .and_then(|length| take_bytes(&mut rest, length));
            let taken = value.and_then(|value| self.take_field(kind, value, family));
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
    fn take_field(&mut self, kind: u8, mut value: &[u8], family: Family) -> Option<()> {
        // MariaDB lists every column that has a charset inside the server, and there geometries have one (binary).
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table map event's data; `optional` is appended as it is.
    pub fn body(types: &[u8], metadata: &[u8], nullable: &[u8], optional: &[u8]) -> Vec<u8> {
        let mut out = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, types.len() as u8];
        out.extend_from_slice(types);
        out.push(metadata.len() as u8);
        out.extend_from_slice(metadata);
        out.extend_from_slice(nullable);
        out.extend_from_slice(optional);
        out
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind, value.len() as u8], value].concat()
    }

    #[test]
    fn signs_have_one_bit_for_each_numeric_column_and_year_counts() {
        // INT, YEAR, VARCHAR, DECIMAL, BIGINT: bits 0, 1, 0, 1 from the top.
        let types = [3, 13, 15, 246, 8];
        let body = body(&types, &[20, 0, 10, 2], &[0b00100], &field(1, &[0b0101_0000]));
        let map = TableMap::parse(&body, 6, Family::MySql).unwrap();
        let signs: Vec<_> = map.columns.iter().map(|column| column.unsigned).collect();
        assert_eq!(signs, [Some(false), Some(true), None, Some(false), Some(true)]);
        assert_eq!((map.table_id, map.database.as_str(), map.table.as_str()), (7, "d", "t"));
        assert!(map.columns[2].nullable && !map.columns[1].nullable);
    }

    #[test]
    fn names_members_keys_and_charsets_go_to_their_columns() {
        // INT, ENUM, GEOMETRY, VARCHAR, BLOB.
        let types = [3, 254, 255, 15, 252];
        let metadata = [247, 1, 4, 20, 0, 2];
        let optional = [
            field(4, b"\x02id\x01e\x01g\x01v\x01b"),
            field(6, b"\x02\x01a\x02bc"),
            field(8, &[0]),
            field(2, &[45, 1, 63]),
            field(10, &[8]),
            field(12, &[0b1011_1000]),
            field(99, &[1, 2, 3]),
        ]
        .concat();
        let body = body(&types, &metadata, &[0], &optional);
        let map = TableMap::parse(&body, 6, Family::MySql).unwrap();
        let names: Vec<_> = map.columns.iter().map(|column| column.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["id", "e", "g", "v", "b"]);
        assert_eq!(map.columns[1].members, Some(vec![b"a".to_vec(), b"bc".to_vec()]));
        assert_eq!(map.primary_key, Some(vec![(0, 0)]));
        let collations =
            |map: &TableMap| map.columns.iter().map(|column| column.collation.unwrap_or(0)).collect::<Vec<_>>();
        assert_eq!(collations(&map), [0, 8, 0, 45, 63]);
        assert_eq!(map.columns[1].visible, Some(false));
        // MariaDB counts the geometry among the columns with a charset.
        let map = TableMap::parse(&body, 6, Family::MariaDb).unwrap();
        assert_eq!(collations(&map), [0, 8, 45, 63, 45]);
    }

    #[test]
    fn a_log_that_names_columns_but_no_key_says_that_there_is_none() {
        let names = field(4, b"\x01a");
        let map = TableMap::parse(&body(&[3], &[], &[1], &names), 6, Family::MySql).unwrap();
        assert_eq!(map.primary_key, Some(vec![]));
        assert_eq!(TableMap::parse(&body(&[3], &[], &[1], &[]), 6, Family::MySql).unwrap().primary_key, None);
    }

    #[test]
    fn what_does_not_fit_the_columns_is_an_error_and_no_damage_panics() {
        for optional in [field(4, b"\x01a"), field(8, &[9]), vec![1, 200, 0], field(1, &[])] {
            assert!(TableMap::parse(&body(&[3, 3], &[], &[0], &optional), 6, Family::MySql).is_err());
        }
        assert!(TableMap::parse(&body(&[3], &[1], &[0], &[]), 6, Family::MySql).is_err(), "metadata is left over");
        let optional =
            [field(4, b"\x02id\x01e\x01g"), field(6, b"\x02\x01a\x02bc"), field(9, &[0, 5]), field(3, &[45])].concat();
        let whole = body(&[3, 254, 15], &[247, 1, 20, 0], &[0], &optional);
        assert!(TableMap::parse(&whole, 6, Family::MySql).is_ok());
        for at in 0..whole.len() {
            let _ = TableMap::parse(&whole[..at], 6, Family::MySql);
            for value in [0, 1, 0x7f, 0xfa, 0xfc, 0xfe, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = TableMap::parse(&damaged, 6, Family::MariaDb);
            }
        }
    }
}
