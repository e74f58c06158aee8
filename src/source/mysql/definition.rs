//! Table map -> table definition: what the log says about a table, completed by a schema where one fits.

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
    let _ = known;
    let mut columns = Vec::with_capacity(map.columns.len());
    for (index, column) in map.columns.iter().enumerate() {
        columns.push(column_of(index, column));
    }
    let names_known = map.columns.iter().all(|column| column.name.is_some());
    let primary_key = map.primary_key.iter().flatten();
    let definition = TableDefinition {
        database: map.database.clone(),
        table: map.table.clone(),
        columns,
        primary_key: primary_key.map(|(column, prefix)| KeyPart { column: *column, prefix: *prefix }).collect(),
        keys_known: map.primary_key.is_some(),
        names_known,
        family: family.name().into(),
        ..TableDefinition::default()
    };
    let note = (!names_known).then(|| format!("column names of {}.{} are not known", map.database, map.table));
    Defined { definition, note }
}

/// A column as the log alone has it.
fn column_of(index: usize, from: &MapColumn) -> Column {
    let name = from.name.clone().unwrap_or_else(|| format!("@{}", index + 1));
    let mut column = Column::new(name, kind_of(from));
    column.nullable = Some(from.nullable);
    column.members = from.members.clone().unwrap_or_default();
    column.invisible = from.visible == Some(false);
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
