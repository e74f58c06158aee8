//! DDL of other engines in SQLite's words: from what a table was and is, not from the statement's text.
//!
//! SQLite can add a column at the end and rename one; every other change is a rebuild: a new table, the rows copied through
//! conversions that keep their values, the old table dropped, the new one renamed. A change of type whose effect on stored values is not
//! certain (it rounds, or depends on a session's time zone) is refused when the table has rows.

use super::quote;
use super::types::{column_definition, create_table, declared_type, default_of, index_name};
use crate::db::ddl::Index;
use crate::event::{Column, ColumnKind, TableDefinition};

/// Name of the new table while a rebuild is under way.
const REBUILT: &str = "rlog_rebuilt";

/// How a table of rows is changed from `before` to `after` under the name `name`. `renames` are columns that keep their values.
/// `Err`: what is not certain.
pub fn alter(
    before: &TableDefinition,
    after: &TableDefinition,
    renames: &[(String, String)],
    name: &str,
    has_rows: bool,
) -> Result<Vec<String>, String> {
    if same_storage(before, after) {
        return Ok(Vec::new());
    }
    if let Some(added) = only_added_at_the_end(before, after) {
        return Ok(added
            .iter()
            .map(|column| format!("ALTER TABLE {} ADD COLUMN {}", quote(name), column_definition(column, false)))
            .collect());
    }
    let mut to = Vec::new();
    let mut from = Vec::new();
    for column in &after.columns {
        let old_name = renames
            .iter()
            .rev()
            .find(|(_, new)| new.eq_ignore_ascii_case(&column.name))
            .map_or(column.name.as_str(), |(old, _)| old.as_str());
        to.push(quote(&column.name));
        from.push(match before.column_index(old_name).and_then(|index| before.columns.get(index)) {
            Some(old) => convert(old, column).or_else(|| (!has_rows).then(|| quote(&old.name))).ok_or_else(|| {
                format!("column {} changes from {} to {}", column.name, type_name(old), type_name(column))
            })?,
            None => implicit_default(column)
                .or_else(|| (!has_rows).then(|| "NULL".to_owned()))
                .ok_or_else(|| format!("what existing rows have in the new column {} is not certain", column.name))?,
        });
    }
    let mut out = create_table(after, REBUILT);
    // Unique indexes come when the old ones, whose names they may have, are gone.
    let indexes: Vec<String> = create_table(after, name).split_off(1);
    out.truncate(1);
    out.push(format!(
        "INSERT INTO {} ({}) SELECT {} FROM {}",
        quote(REBUILT),
        to.join(", "),
        from.join(", "),
        quote(name)
    ));
    out.push(format!("DROP TABLE {}", quote(name)));
    out.push(format!("ALTER TABLE {} RENAME TO {}", quote(REBUILT), quote(name)));
    out.extend(indexes);
    Ok(out)
}

/// CREATE INDEX for an index that admits duplicates.
pub fn create_index(table: &TableDefinition, name: &str, index: &Index) -> Option<String> {
    let columns: Option<Vec<String>> =
        index.columns.iter().map(|column| Some(quote(&table.columns.get(table.column_index(column)?)?.name))).collect();
    let columns = columns.filter(|columns| !columns.is_empty())?;
    let given = if index.name.is_empty() { index.columns.join("_") } else { index.name.clone() };
    Some(format!(
        "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
        quote(&index_name(name, &given)),
        quote(name),
        columns.join(", ")
    ))
}

fn type_name(column: &Column) -> String {
    if column.sql_type.is_empty() { declared_type(column) } else { column.sql_type.clone() }
}

/// Whether both are the same table to SQLite, values included.
fn same_storage(before: &TableDefinition, after: &TableDefinition) -> bool {
    create_table(before, "t") == create_table(after, "t")
        && before.columns.iter().zip(&after.columns).all(|(old, new)| convert(old, new) == Some(quote(&old.name)))
}

/// The new columns, when nothing else changed and SQLite can add them as they are.
fn only_added_at_the_end<'a>(before: &TableDefinition, after: &'a TableDefinition) -> Option<&'a [Column]> {
    let (kept, added) = after.columns.split_at_checked(before.columns.len())?;
    let addable = |column: &Column| {
        (column.nullable != Some(false) && column.default_sql.is_empty())
            || default_of(column).is_some_and(|default| column.nullable != Some(false) || default != "NULL")
    };
    let shortened = TableDefinition { columns: kept.to_vec(), ..after.clone() };
    (!added.is_empty() && added.iter().all(addable) && same_storage(before, &shortened)).then_some(added)
}

/// What existing rows have in a column that is new; `None` when that is not certain.
fn implicit_default(column: &Column) -> Option<String> {
    if let Some(default) = default_of(column) {
        return Some(default);
    }
    let computed = !column.default_sql.is_empty() && !column.default_sql.eq_ignore_ascii_case("null");
    if column.generated || computed {
        return None;
    }
    if column.nullable != Some(false) {
        return Some("NULL".into());
    }
    Some(match column.kind {
        ColumnKind::Int { .. } | ColumnKind::Year | ColumnKind::Bit { .. } | ColumnKind::Float | ColumnKind::Double => {
            "0".into()
        }
        ColumnKind::Decimal { scale, .. } if declared_type(column) == "TEXT" => match scale {
            0 => "'0'".into(),
            _ => format!("'0.{}'", "0".repeat(usize::from(scale))),
        },
        ColumnKind::Decimal { .. } => "0".into(),
        ColumnKind::String { .. } if column.is_binary() == Some(true) => "x''".into(),
        ColumnKind::String { .. } | ColumnKind::Set => "''".into(),
        ColumnKind::Date => "'0000-00-00'".into(),
        ColumnKind::Enum => {
            let first = std::str::from_utf8(column.members.first()?).ok()?;
            format!("'{}'", first.replace('\'', "''"))
        }
        _ => return None,
    })
}

/// An expression over the old column that gives what the new one is to hold; `None` when that is not certain.
fn convert(old: &Column, new: &Column) -> Option<String> {
    use ColumnKind::*;
    let name = quote(&old.name);
    let fraction = |from: u8, to: u8| match (from, to) {
        _ if from == to => Some(name.clone()),
        (0, to) => Some(format!("{name}||'.{}'", "0".repeat(usize::from(to)))),
        (from, to) if to > from => Some(format!("{name}||'{}'", "0".repeat(usize::from(to - from)))),
        // It rounds.
        _ => None,
    };
    match (old.kind, new.kind) {
        (Int { .. } | Year, Int { .. }) => Some(name),
        (Bit { .. }, Bit { .. }) | (Float, Float | Double) | (Double, Double) => Some(name),
        (Year, Year) | (Date, Date) | (JsonBinary, JsonBinary) => Some(name),
        (Geometry, Geometry) | (Vector, Vector) | (Any, Any) => Some(name),
        (Int { .. }, String { .. }) if new.is_binary() != Some(true) => Some(format!("CAST({name} AS TEXT)")),
        (Int { .. }, Decimal { scale, .. }) => match (declared_type(new) == "TEXT", scale) {
            (false, _) => Some(name),
            (true, 0) => Some(format!("CAST({name} AS TEXT)")),
            (true, scale) => Some(format!("CAST({name} AS TEXT)||'.{}'", "0".repeat(usize::from(scale)))),
        },
        (Decimal { scale: from, .. }, Decimal { scale: to, .. }) => {
            match (declared_type(old) == "TEXT", declared_type(new) == "TEXT") {
                (false, false) if to >= from => Some(name),
                (true, true) => fraction(from, to),
                (false, true) if to >= from => Some(format!("printf('%.{to}f', {name})")),
                (true, false) if to >= from => Some(name),
                _ => None,
            }
        }
        (Time { fsp: from }, Time { fsp: to })
        | (DateTime { fsp: from }, DateTime { fsp: to })
        | (Timestamp { fsp: from }, Timestamp { fsp: to }) => fraction(from, to),
        (Date, DateTime { fsp: 0 }) => Some(format!("{name}||' 00:00:00'")),
        (Date, DateTime { fsp }) => Some(format!("{name}||' 00:00:00.{}'", "0".repeat(usize::from(fsp)))),
        (String { .. }, String { .. }) if (old.is_binary() == Some(true)) == (new.is_binary() == Some(true)) => {
            Some(name)
        }
        (Enum, Enum) | (Set, Set) if old.members.is_empty() == new.members.is_empty() => Some(name),
        (Enum | Set, String { .. }) if !old.members.is_empty() && new.is_binary() != Some(true) => Some(name),
        (String { .. }, Enum | Set) if !new.members.is_empty() && old.is_binary() != Some(true) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ddl::Schema;

    fn alter_text(create: &str, statement: &str, renames: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut schema = Schema::new();
        schema.set_family(true);
        schema.apply("d", create.as_bytes());
        let before = schema.lookup("d", "t").unwrap().definition.clone();
        schema.apply("d", statement.as_bytes());
        let after = schema.lookup("d", "t").unwrap().definition.clone();
        let renames: Vec<_> = renames.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
        alter(&before, &after, &renames, "t", true)
    }

    #[test]
    fn every_translated_change_runs_and_keeps_values() {
        type Renames = [(&'static str, &'static str)];
        let cases: &[(&str, &Renames, &str)] = &[
            ("alter table t add column c int", &[], "1|x|NULL"),
            ("alter table t add column c int not null default 7", &[], "1|x|7"),
            ("alter table t add column c int not null", &[], "1|x|0"),
            ("alter table t add column c varchar(10) first", &[], "NULL|1|x"),
            ("alter table t drop column b", &[], "1"),
            ("alter table t change b c text", &[("b", "c")], "1|x"),
            ("alter table t modify b varchar(100)", &[], "1|x"),
            ("alter table t modify a bigint", &[], "1|x"),
            ("alter table t modify a varchar(20)", &[], "1|x"),
            ("alter table t drop primary key, add unique u (b)", &[], "1|x"),
            ("alter table t add unique u (b)", &[], "1|x"),
        ];
        for (statement, renames, expected) in cases {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            let mut schema = Schema::new();
            let create = "create table t (a int primary key, b varchar(10))";
            schema.apply("d", create.as_bytes());
            for sql in create_table(&schema.lookup("d", "t").unwrap().definition, "t") {
                connection.execute_batch(&sql).unwrap();
            }
            connection.execute_batch("insert into t values (1, 'x')").unwrap();
            for sql in alter_text(create, statement, renames).unwrap() {
                connection.execute_batch(&sql).unwrap_or_else(|error| panic!("{statement}: {sql}: {error}"));
            }
            let row = connection
                .query_row("select * from t", [], |row| {
                    let cell = |index: usize| match row.get_ref(index).unwrap() {
                        rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                        rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        other => format!("{other:?}"),
                    };
                    Ok((0..row.as_ref().column_count()).map(cell).collect::<Vec<_>>().join("|"))
                })
                .unwrap();
            assert_eq!(row, *expected, "{statement}");
        }
    }

    #[test]
    fn what_rounds_or_depends_on_a_time_zone_is_refused() {
        for (create, statement) in [
            ("create table t (a datetime(6))", "alter table t modify a datetime"),
            ("create table t (a datetime)", "alter table t modify a timestamp"),
            ("create table t (a decimal(10,4))", "alter table t modify a decimal(10,2)"),
            ("create table t (a int)", "alter table t add b datetime not null default current_timestamp"),
        ] {
            assert!(alter_text(create, statement, &[]).is_err(), "{statement}");
        }
        assert_eq!(alter_text("create table t (a int)", "alter table t engine=innodb", &[]), Ok(vec![]));
        let longer = alter_text("create table t (a time)", "alter table t modify a time(3)", &[]).unwrap();
        assert!(longer[1].contains("\"a\"||'.000'"), "{longer:?}");
    }
}
