//! Table map -> table definition: what the log says about a table, completed by a schema where one fits.
//!
//! The log's own word counts first. A schema adds what the log leaves open (MariaDB by default everything but types), and only
//! if it fits as a whole: as many columns, types that agree, and the same names where the log has them. One that does not
//! fit is of another time, and naming columns by it would be worse than not naming them.

use super::table_map::{Family, MapColumn, TableMap};
use super::wire::Wire;
use crate::db::ddl::Table;
use crate::event::table::{Column, ColumnKind, KeyPart, Sign, StringForm};
use crate::event::{TableDefinition, charset};

/// A definition and what had to be left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// The table.
    pub definition: TableDefinition,
    /// For people: why names are not known, when they are not.
    pub note: Option<String>,
}

/// Makes the definition of a table map. Names come from the log's own metadata, else from `known` when column count and types fit, else
/// they are `@1`, `@2` …
pub fn definition(map: &TableMap, known: Option<&Table>, family: Family) -> Defined {
    let mut columns: Vec<Column> = map.columns.iter().enumerate().map(|(index, from)| column_of(index, from)).collect();
    let in_log = !map.columns.is_empty() && map.columns.iter().all(|column| column.name.is_some());
    let primary_key = map.primary_key.iter().flatten();
    let mut definition = TableDefinition {
        database: map.database.clone(),
        table: map.table.clone(),
        primary_key: primary_key.map(|(column, prefix)| KeyPart { column: *column, prefix: *prefix }).collect(),
        keys_known: map.primary_key.is_some(),
        names_known: in_log,
        family: family.name().into(),
        ..TableDefinition::default()
    };
    let mut misfit = None;
    if let Some(known) = known {
        let with_hidden = with_hidden_columns(map, &known.definition, family);
        let known = with_hidden.as_ref().unwrap_or(&known.definition);
        match first_misfit(map, known) {
            Some(why) => misfit = Some(why),
            None => {
                for ((column, from), known) in columns.iter_mut().zip(&map.columns).zip(&known.columns) {
                    complete(column, from, known);
                }
                if map.primary_key.is_none() {
                    definition.primary_key.clone_from(&known.primary_key);
                }
                definition.unique_keys.clone_from(&known.unique_keys);
                definition.foreign_keys = known.foreign_keys;
                definition.keys_known = true;
                definition.names_known = true;
            }
        }
    }
    definition.columns = columns;
    let note = (!definition.names_known).then(|| {
        let why = misfit.map_or_else(String::new, |why| format!(", and the schema does not fit: {why}"));
        format!(
            "the log does not name the columns of {}.{}{why}; they are called @1 to @{}",
            map.database,
            map.table,
            map.columns.len()
        )
    });
    Defined { definition, note }
}

/// A table with the columns that a server adds to what its statement says: MySQL's invisible key `my_row_id` in front, MariaDB's hashes
/// of unique keys that are too long for an index at the end. `None`: it has none of them.
fn with_hidden_columns(map: &TableMap, known: &TableDefinition, family: Family) -> Option<TableDefinition> {
    let added = map.columns.len().checked_sub(known.columns.len()).filter(|added| *added > 0)?;
    let hidden = |name: String, sql_type: &str| {
        let mut column = Column::new(name, ColumnKind::Int { bytes: 8, sign: Sign::Unsigned });
        column.invisible = true;
        column.sql_type = sql_type.into();
        column
    };
    let mut out = known.clone();
    match family {
        Family::MySql => {
            let first = map.columns.first()?;
            if added != 1 || !known.primary_key.is_empty() || first.wire != Wire::Int(8) || first.nullable {
                return None;
            }
            out.columns.insert(0, hidden("my_row_id".into(), "bigint unsigned"));
            out.unique_keys.iter_mut().flat_map(|key| &mut key.parts).for_each(|part| part.column += 1);
            out.primary_key = vec![KeyPart { column: 0, prefix: 0 }];
        }
        Family::MariaDb => {
            let hashes = map.columns.get(known.columns.len()..)?;
            if added > known.unique_keys.len() || hashes.iter().any(|column| column.wire != Wire::Int(8)) {
                return None;
            }
            for number in 1..=added {
                let mut column = hidden(format!("{ROW_HASH}{number}"), "bigint unsigned");
                column.generated = true;
                out.columns.push(column);
            }
        }
    }
    Some(out)
}

/// How MariaDB calls the hashes of unique keys that are too long for an index.
const ROW_HASH: &str = "DB_ROW_HASH_";

/// Why a schema's table is not the one of the map; `None` when it may be.
fn first_misfit(map: &TableMap, known: &TableDefinition) -> Option<String> {
    if map.columns.len() != known.columns.len() {
        return Some(format!("it has {} columns, the log {}", known.columns.len(), map.columns.len()));
    }
    for (index, (from, known)) in map.columns.iter().zip(&known.columns).enumerate() {
        if from.name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(&known.name)) {
            return Some(format!("column {} is called {} there", index + 1, known.name));
        }
        let sign = match known.kind {
            ColumnKind::Int { sign, .. } => from.unsigned.is_none_or(|unsigned| unsigned == (sign == Sign::Unsigned)),
            _ => true,
        };
        if !sign || !agree(from.wire, known) {
            return Some(format!("column {} ({}) has another type there", index + 1, known.name));
        }
    }
    None
}

/// Whether rows of such a column can be of a column declared so. Lengths of strings may differ: they do not change how values are read.
fn agree(wire: Wire, known: &Column) -> bool {
    use StringForm::*;
    let own_type = |bytes: u16| match known.sql_type.as_str() {
        "uuid" | "inet6" => bytes == 16,
        "inet4" => bytes == 4,
        _ => true,
    };
    match (wire, known.kind) {
        (Wire::Int(wire), ColumnKind::Int { bytes, .. }) => wire == bytes,
        (Wire::Float | Wire::Double, ColumnKind::Float | ColumnKind::Double) => true,
        (Wire::OldDecimal, ColumnKind::Decimal { .. }) => true,
        (Wire::Decimal { precision, scale }, ColumnKind::Decimal { precision: p, scale: s }) => {
            (precision, scale) == (p, s)
        }
        (Wire::Bit { bits }, ColumnKind::Bit { bits: b }) => bits == b,
        (Wire::Null, _) => true,
        (Wire::Year, ColumnKind::Year) | (Wire::Date, ColumnKind::Date) => true,
        (Wire::Time, ColumnKind::Time { .. }) => true,
        (Wire::DateTime, ColumnKind::DateTime { .. }) => true,
        (Wire::Timestamp, ColumnKind::Timestamp { .. }) => true,
        (Wire::Time2(fsp), ColumnKind::Time { fsp: f }) => fsp == f,
        (Wire::DateTime2(fsp), ColumnKind::DateTime { fsp: f }) => fsp == f,
        (Wire::Timestamp2(fsp), ColumnKind::Timestamp { fsp: f }) => fsp == f,
        (Wire::Char { bytes_max }, ColumnKind::String { form: Other, .. }) => own_type(bytes_max),
        (Wire::Char { .. } | Wire::VarChar { .. }, ColumnKind::String { form: Char | VarChar, .. }) => true,
        (Wire::VarChar { compressed: false, .. }, ColumnKind::Vector) => true,
        // A VARCHAR that is too long becomes a TEXT where the mode allows it.
        (Wire::Blob { .. }, ColumnKind::String { form: VarChar, .. }) => true,
        (Wire::Blob { prefix, .. }, ColumnKind::String { form, .. }) => {
            matches!((prefix, form), (1, Tiny) | (2, Blob) | (3, Medium) | (4, Long))
        }
        // MariaDB's JSON is a LONGTEXT.
        (Wire::Blob { prefix: 4, .. }, ColumnKind::JsonBinary) => true,
        (Wire::Enum(bytes), ColumnKind::Enum) => (known.members.len() > 255) == (bytes == 2),
        (Wire::Set(bytes), ColumnKind::Set) => set_len(known.members.len()) == bytes,
        (Wire::Json(_), ColumnKind::JsonBinary) => true,
        (Wire::Geometry(_), ColumnKind::Geometry) => true,
        (Wire::Vector(_), ColumnKind::Vector) => true,
        _ => false,
    }
}

/// Bytes of a SET: 1, 2, 3, 4 or 8.
fn set_len(members: usize) -> u8 {
    match members.div_ceil(8) {
        0 | 1 => 1,
        bytes @ 2..=4 => bytes as u8,
        _ => 8,
    }
}

/// Fills in what the log leaves open.
fn complete(column: &mut Column, from: &MapColumn, known: &Column) {
    if from.name.is_none() {
        column.name.clone_from(&known.name);
    }
    column.kind = match (column.kind, known.kind) {
        (ColumnKind::Int { bytes, sign: Sign::Unknown }, ColumnKind::Int { sign, .. }) => {
            ColumnKind::Int { bytes, sign }
        }
        (ColumnKind::Time { fsp: 0 }, kind @ ColumnKind::Time { .. }) if from.wire == Wire::Time => kind,
        (ColumnKind::DateTime { fsp: 0 }, kind @ ColumnKind::DateTime { .. }) if from.wire == Wire::DateTime => kind,
        (ColumnKind::Timestamp { fsp: 0 }, kind @ ColumnKind::Timestamp { .. }) if from.wire == Wire::Timestamp => kind,
        (ColumnKind::String { form, .. }, ColumnKind::Decimal { precision, scale }) => {
            // As text, with room for a sign and a point.
            ColumnKind::String { form, bytes_max: u32::from(precision) + 1 + u32::from(scale > 0) }
        }
        (ColumnKind::String { .. }, ColumnKind::Vector) => ColumnKind::Vector,
        (ColumnKind::String { .. }, kind @ ColumnKind::String { form: StringForm::Other, .. }) => kind,
        (kind, _) => kind,
    };
    if from.collation.is_none() {
        column.charset.clone_from(&known.charset);
        column.collation = known.collation;
        if known.kind == ColumnKind::JsonBinary && column.kind != ColumnKind::JsonBinary {
            column.charset = "utf8mb4".into();
        }
    }
    if matches!(column.kind, ColumnKind::String { form: StringForm::Other, .. }) {
        // What stands in the row are bytes, what comes of them is their text.
        column.charset = "ascii".into();
        column.collation = 0;
    }
    if from.members.is_none() {
        column.members.clone_from(&known.members);
        if !known.members.is_empty() {
            // They are in the charset that the schema knows.
            column.charset.clone_from(&known.charset);
            column.collation = known.collation;
        }
    }
    if from.visible.is_none() {
        column.invisible = known.invisible;
    }
    column.sql_type.clone_from(&known.sql_type);
    column.default_sql.clone_from(&known.default_sql);
    column.generated = known.generated;
}

/// A column as the log alone has it.
fn column_of(index: usize, from: &MapColumn) -> Column {
    let name = from.name.clone().unwrap_or_else(|| format!("@{}", index + 1));
    let mut column = Column::new(name, kind_of(from));
    column.nullable = Some(from.nullable);
    column.members = from.members.clone().unwrap_or_default();
    column.invisible = from.visible == Some(false);
    if column.name.starts_with(ROW_HASH) {
        column.generated = true;
        column.invisible = true;
    }
    if let Some(number) = from.collation {
        column.collation = number;
        column.charset = charset::charset_of(number).unwrap_or_default().to_owned();
    }
    column
}

fn kind_of(from: &MapColumn) -> ColumnKind {
    let string = |form, bytes_max| ColumnKind::String { form, bytes_max };
    match from.wire {
        Wire::Int(bytes) => {
            let sign = match from.unsigned {
                None => Sign::Unknown,
                Some(false) => Sign::Signed,
                Some(true) => Sign::Unsigned,
            };
            ColumnKind::Int { bytes, sign }
        }
        Wire::Float => ColumnKind::Float,
        Wire::Double => ColumnKind::Double,
        Wire::OldDecimal | Wire::Null => string(StringForm::Other, 0),
        Wire::Decimal { precision, scale } => ColumnKind::Decimal { precision, scale },
        Wire::Bit { bits } => ColumnKind::Bit { bits },
        Wire::Year => ColumnKind::Year,
        Wire::Date => ColumnKind::Date,
        Wire::Time => ColumnKind::Time { fsp: 0 },
        Wire::DateTime => ColumnKind::DateTime { fsp: 0 },
        Wire::Timestamp => ColumnKind::Timestamp { fsp: 0 },
        Wire::Time2(fsp) => ColumnKind::Time { fsp },
        Wire::DateTime2(fsp) => ColumnKind::DateTime { fsp },
        Wire::Timestamp2(fsp) => ColumnKind::Timestamp { fsp },
        Wire::Char { bytes_max } => string(StringForm::Char, u32::from(bytes_max)),
        Wire::VarChar { bytes_max, .. } => string(StringForm::VarChar, u32::from(bytes_max)),
        Wire::Enum(_) => ColumnKind::Enum,
        Wire::Set(_) => ColumnKind::Set,
        Wire::Blob { prefix, .. } => match prefix {
            1 => string(StringForm::Tiny, 0xff),
            2 => string(StringForm::Blob, 0xffff),
            3 => string(StringForm::Medium, 0xff_ffff),
            _ => string(StringForm::Long, u32::MAX),
        },
        Wire::Json(_) | Wire::TypedArray => ColumnKind::JsonBinary,
        Wire::Geometry(_) => ColumnKind::Geometry,
        Wire::Vector(_) => ColumnKind::Vector,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ddl::Schema;

    fn map(columns: &[(Wire, Option<&str>)]) -> TableMap {
        let column = |(wire, name): &(Wire, Option<&str>)| MapColumn {
            wire: *wire,
            nullable: true,
            unsigned: None,
            collation: None,
            name: name.map(str::to_owned),
            members: None,
            geometry: None,
            visible: None,
            dimensions: None,
        };
        TableMap {
            table_id: 1,
            flags: 0,
            database: "d".into(),
            table: "t".into(),
            columns: columns.iter().map(column).collect(),
            primary_key: None,
        }
    }

    fn with(sql: &str, map: &TableMap, family: Family) -> Defined {
        let mut schema = Schema::new();
        schema.set_family(family == Family::MariaDb);
        assert_eq!(schema.apply("d", sql.as_bytes()).note, None);
        definition(map, schema.lookup("d", "t"), family)
    }

    fn names(defined: &Defined) -> Vec<&str> {
        defined.definition.columns.iter().map(|column| column.name.as_str()).collect()
    }

    #[test]
    fn without_a_schema_columns_are_numbered_and_a_note_says_so() {
        let defined = definition(&map(&[(Wire::Int(4), None), (Wire::Date, None)]), None, Family::MariaDb);
        assert_eq!(names(&defined), ["@1", "@2"]);
        assert!(!defined.definition.names_known && !defined.definition.keys_known);
        assert_eq!(defined.definition.columns[0].kind, ColumnKind::Int { bytes: 4, sign: Sign::Unknown });
        assert!(defined.note.unwrap().contains("d.t"));
    }

    #[test]
    fn a_schema_that_fits_completes_what_the_log_leaves_open() {
        let map = map(&[
            (Wire::Int(4), None),
            (Wire::Enum(1), None),
            (Wire::Timestamp, None),
            (Wire::Blob { prefix: 4, compressed: false }, None),
        ]);
        let sql = "create table t (id int unsigned primary key, e enum('a','b') character set latin1, ts timestamp(3), j json, unique u (e))";
        let defined = with(sql, &map, Family::MariaDb);
        assert_eq!(names(&defined), ["id", "e", "ts", "j"]);
        let columns = &defined.definition.columns;
        assert_eq!(columns[0].kind, ColumnKind::Int { bytes: 4, sign: Sign::Unsigned });
        assert_eq!(columns[1].members, [b"a", b"b"]);
        assert_eq!(columns[2].kind, ColumnKind::Timestamp { fsp: 3 });
        assert_eq!((columns[3].charset.as_str(), columns[3].sql_type.as_str()), ("utf8mb4", "json"));
        assert_eq!(defined.definition.primary_key, [KeyPart { column: 0, prefix: 0 }]);
        assert_eq!(defined.definition.unique_keys[0].name, "u");
        assert_eq!(defined.note, None);
    }

    #[test]
    fn a_schema_of_another_time_names_nothing() {
        for (sql, columns) in [
            ("create table t (a int)", vec![(Wire::Int(4), None), (Wire::Int(4), None)]),
            ("create table t (a int)", vec![(Wire::Int(8), None)]),
            ("create table t (a decimal(10,2))", vec![(Wire::Decimal { precision: 10, scale: 3 }, None)]),
            ("create table t (a datetime(3))", vec![(Wire::DateTime2(6), None)]),
            ("create table t (a text)", vec![(Wire::Blob { prefix: 4, compressed: false }, None)]),
            ("create table t (a uuid)", vec![(Wire::Char { bytes_max: 4 }, None)]),
            ("create table t (a int)", vec![(Wire::Int(4), Some("b"))]),
        ] {
            let defined = with(sql, &map(&columns), Family::MariaDb);
            let in_log = columns[0].1.is_some();
            assert_eq!(defined.definition.names_known, in_log, "{sql}");
            assert_eq!(defined.note.is_some_and(|note| note.contains("does not fit")), !in_log, "{sql}");
        }
    }

    #[test]
    fn columns_that_a_server_adds_are_known_and_are_not_written() {
        let blob = Wire::Blob { prefix: 2, compressed: false };
        let hash = map(&[(Wire::Int(4), None), (blob, None), (Wire::Int(8), None)]);
        let defined = with("create table t (id int, b blob, unique (b))", &hash, Family::MariaDb);
        assert_eq!(names(&defined), ["id", "b", "DB_ROW_HASH_1"]);
        assert!(defined.definition.columns[2].generated);
        let mut key = map(&[(Wire::Int(8), None), (Wire::Int(4), None)]);
        key.columns[0].nullable = false;
        let defined = with("create table t (a int, unique u (a))", &key, Family::MySql);
        assert_eq!(names(&defined), ["my_row_id", "a"]);
        assert_eq!(defined.definition.primary_key, [KeyPart { column: 0, prefix: 0 }]);
        assert_eq!(defined.definition.unique_keys[0].parts, [KeyPart { column: 1, prefix: 0 }]);
    }
}
