//! CREATE TABLE from a stream's own definition (`--create-tables`).
//!
//! | the stream's kind | MySQL, MariaDB |
//! |---|---|
//! | int 1, 2, 3, 4, 8 | TINYINT, SMALLINT, MEDIUMINT, INT, BIGINT, UNSIGNED where the log says so |
//! | float, double, decimal, bit, year, date | FLOAT, DOUBLE, DECIMAL(p,s), BIT(n), YEAR, DATE |
//! | time, datetime, timestamp | TIME(n), DATETIME(n), TIMESTAMP(n) |
//! | string | CHAR, VARCHAR, TEXT … or their binary forms, as the charset says |
//! | enum, set | ENUM, SET when the members are known, else SMALLINT, BIGINT UNSIGNED |
//! | json-binary, geometry, vector | JSON, GEOMETRY, VARBINARY or LONGBLOB |
//! | any (SQLite), by the declared type | INT… BIGINT; BLOB LONGBLOB; CHAR, CLOB, TEXT, DATE, TIME LONGTEXT; REAL, FLOA, DOUB, NUM, DEC DOUBLE; else LONGBLOB |
//!
//! As part of a key, TEXT is VARCHAR(255) and BLOB VARBINARY(255): keys of unlimited length do not exist there.

use crate::db::mysql::Family;
use crate::db::mysql::literal::{put_bytes, put_name, table_name};
use crate::error::{Class, Error, Result};
use crate::event::table::StringForm;
use crate::event::{Column, ColumnKind, KeyPart, Sign, TableDefinition, charset};

/// The statements that create the table and its database where they are missing.
pub(super) fn create_table(definition: &TableDefinition, database: &str, family: Family) -> Result<Vec<String>> {
    let mut create_database = String::from("CREATE DATABASE IF NOT EXISTS ");
    put_name(&mut create_database, database)?;
    if !definition.names_known {
        return Err(Error::new(
            Class::Config,
            format!("table {:?} cannot be created: its log does not name the columns", definition.table),
        )
        .hint("give the schema: rlog-extract --schema FILE; or on the source: SET GLOBAL binlog_row_metadata=FULL"));
    }
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {} (", table_name(database, &definition.table)?);
    let mut first = true;
    for (index, column) in definition.columns.iter().enumerate().filter(|(_, column)| !column.generated) {
        if !std::mem::take(&mut first) {
            sql.push_str(", ");
        }
        put_name(&mut sql, &column.name)?;
        sql.push(' ');
        let is_key = |parts: &[KeyPart]| parts.iter().any(|part| part.column as usize == index);
        let keyed = is_key(&definition.primary_key) || definition.unique_keys.iter().any(|key| is_key(&key.parts));
        put_type(&mut sql, column, keyed, family);
        let not_null = column.nullable == Some(false) || is_key(&definition.primary_key);
        sql.push_str(if not_null { " NOT NULL" } else { " NULL" });
    }
    if first {
        return Err(Error::new(Class::Config, format!("table {:?} has no columns", definition.table)));
    }
    if !definition.primary_key.is_empty() {
        sql.push_str(", PRIMARY KEY ");
        put_parts(&mut sql, definition, &definition.primary_key)?;
    }
    for key in &definition.unique_keys {
        sql.push_str(", UNIQUE KEY ");
        put_name(&mut sql, &key.name)?;
        sql.push(' ');
        put_parts(&mut sql, definition, &key.parts)?;
    }
    sql.push_str(") ENGINE=InnoDB");
    Ok(vec![create_database, sql])
}

fn put_parts(sql: &mut String, definition: &TableDefinition, parts: &[KeyPart]) -> Result<()> {
    for (number, part) in parts.iter().enumerate() {
        sql.push(if number == 0 { '(' } else { ',' });
        let name = definition.columns.get(part.column as usize).map_or("", |column| column.name.as_str());
        put_name(sql, name)?;
        if part.prefix > 0 {
            sql.push_str(&format!("({})", part.prefix));
        }
    }
    sql.push(')');
    Ok(())
}

fn put_type(sql: &mut String, column: &Column, keyed: bool, family: Family) {
    let text = |sql: &mut String, name: &str| {
        sql.push_str(name);
        put_charset(sql, column, family);
    };
    let fraction = |sql: &mut String, name: &str, fsp: u8| {
        sql.push_str(name);
        if fsp > 0 {
            sql.push_str(&format!("({fsp})"));
        }
    };
    match column.kind {
        ColumnKind::Int { bytes, sign } => {
            sql.push_str(match bytes {
                1 => "TINYINT",
                2 => "SMALLINT",
                3 => "MEDIUMINT",
                4 => "INT",
                _ => "BIGINT",
            });
            sql.push_str(if sign == Sign::Unsigned { " UNSIGNED" } else { "" });
        }
        ColumnKind::Float => sql.push_str("FLOAT"),
        ColumnKind::Double => sql.push_str("DOUBLE"),
        ColumnKind::Decimal { precision, scale } => sql.push_str(&format!("DECIMAL({precision},{scale})")),
        ColumnKind::Bit { bits } => sql.push_str(&format!("BIT({bits})")),
        ColumnKind::Year => sql.push_str("YEAR"),
        ColumnKind::Date => sql.push_str("DATE"),
        ColumnKind::Time { fsp } => fraction(sql, "TIME", fsp),
        ColumnKind::DateTime { fsp } => fraction(sql, "DATETIME", fsp),
        ColumnKind::Timestamp { fsp } => fraction(sql, "TIMESTAMP", fsp),
        ColumnKind::String { form, bytes_max } => {
            let binary = column.is_binary() != Some(false);
            let chars = bytes_max / charset::bytes_per_character(&column.charset).max(1);
            match form {
                StringForm::Char if binary => sql.push_str(&format!("BINARY({bytes_max})")),
                StringForm::Char => text(sql, &format!("CHAR({chars})")),
                StringForm::VarChar if binary => sql.push_str(&format!("VARBINARY({bytes_max})")),
                StringForm::VarChar => text(sql, &format!("VARCHAR({chars})")),
                StringForm::Tiny => {
                    if binary {
                        sql.push_str("TINYBLOB")
                    } else {
                        text(sql, "TINYTEXT")
                    }
                }
                StringForm::Blob => {
                    if binary {
                        sql.push_str("BLOB")
                    } else {
                        text(sql, "TEXT")
                    }
                }
                StringForm::Medium => {
                    if binary {
                        sql.push_str("MEDIUMBLOB")
                    } else {
                        text(sql, "MEDIUMTEXT")
                    }
                }
                StringForm::Long | StringForm::Other => {
                    if binary {
                        sql.push_str("LONGBLOB")
                    } else {
                        text(sql, "LONGTEXT")
                    }
                }
            }
        }
        ColumnKind::Enum | ColumnKind::Set if !column.members.is_empty() => {
            sql.push_str(if column.kind == ColumnKind::Enum { "ENUM(" } else { "SET(" });
            for (number, member) in column.members.iter().enumerate() {
                sql.push_str(if number > 0 { "," } else { "" });
                match charset::decode(&column.charset, member) {
                    Some(member) if !member.contains(['\\', '\'']) && !member.chars().any(char::is_control) => {
                        sql.push('\'');
                        sql.push_str(&member);
                        sql.push('\'');
                    }
                    Some(member) => put_bytes(sql, member.as_bytes()),
                    None => put_bytes(sql, member),
                }
            }
            sql.push(')');
            put_charset(sql, column, family);
        }
        ColumnKind::Enum => sql.push_str("SMALLINT UNSIGNED"),
        ColumnKind::Set => sql.push_str("BIGINT UNSIGNED"),
        ColumnKind::JsonBinary => sql.push_str("JSON"),
        ColumnKind::Geometry => sql.push_str("GEOMETRY"),
        ColumnKind::Vector => sql.push_str("LONGBLOB"),
        ColumnKind::Any => {
            let declared = column.sql_type.to_ascii_uppercase();
            let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
            sql.push_str(if has(&["INT"]) {
                "BIGINT"
            } else if has(&["CHAR", "CLOB", "TEXT", "DATE", "TIME", "JSON"]) {
                if keyed {
                    "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                } else {
                    "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                }
            } else if has(&["REAL", "FLOA", "DOUB", "NUM", "DEC"]) {
                "DOUBLE"
            } else if has(&["BOOL"]) {
                "BIGINT"
            } else if keyed {
                "VARBINARY(255)"
            } else {
                "LONGBLOB"
            });
        }
    }
}

fn put_charset(sql: &mut String, column: &Column, family: Family) {
    let Some(name) = charset::canonical(&column.charset) else { return };
    sql.push_str(" CHARACTER SET ");
    sql.push_str(name);
    if let Some(collation) = charset::collation_name(column.collation, family == Family::MariaDb)
        && collation.starts_with(name)
    {
        sql.push_str(" COLLATE ");
        sql.push_str(&collation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_created_as_its_definition_says() {
        let mut id = Column::new("id", ColumnKind::Int { bytes: 8, sign: Sign::Unsigned });
        id.nullable = Some(false);
        let mut name = Column::new("na`me", ColumnKind::String { form: StringForm::VarChar, bytes_max: 80 });
        name.charset = "utf8mb4".into();
        name.collation = 46;
        let mut kind = Column::new("kind", ColumnKind::Enum);
        kind.members = vec![b"a".to_vec(), b"it's".to_vec()];
        kind.charset = "latin1".into();
        let definition = TableDefinition {
            table: "t".into(),
            names_known: true,
            columns: vec![id, name, kind],
            primary_key: vec![KeyPart { column: 0, prefix: 0 }],
            ..TableDefinition::default()
        };
        let sql = create_table(&definition, "d", Family::MariaDb).unwrap();
        assert_eq!(
            sql[1],
            "CREATE TABLE IF NOT EXISTS `d`.`t` (`id` BIGINT UNSIGNED NOT NULL, `na``me` VARCHAR(20) CHARACTER SET utf8mb4 COLLATE \
             utf8mb4_bin NULL, `kind` ENUM('a',x'69742773') CHARACTER SET latin1 NULL, PRIMARY KEY (`id`)) ENGINE=InnoDB"
        );
    }
}
