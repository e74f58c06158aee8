//! What a snapshot has besides rows: the statements that make a server's sequences, tables, indexes, routines, views and triggers anew.
//!
//! ```text
//! in front of the rows:  databases -> sequences with their values -> tables, with the indexes that rows need
//! behind the rows:       indexes that only cost while rows are loaded -> routines -> views, those that others read first -> triggers
//! ```
//!
//! Routines come before views, since a view's functions must be there when it is made, and a routine's body is looked at only when it runs.
//! Definers and SQL SECURITY stay as they are. Events stay behind: at a replica they would do again what the log holds already.
//!
//! A table keeps its indexes in its CREATE TABLE when something in it needs them: a foreign key, or an AUTO_INCREMENT that no other key has.
//! The statements' text is as SHOW CREATE prints it, one line for each part of a table, in which no line break comes from a literal.

use super::server::text;
use super::text::identifier;
use crate::db::mysql::{Client, Family};
use crate::error::Result;
use crate::event::filter::TableFilter;
use crate::event::{Statement, charset};

/// utf8mb4_general_ci: the charset of all that our connection says and hears.
const UTF8MB4: u16 = 45;
/// OPTION_NO_FOREIGN_KEY_CHECKS of a statement's flags: tables come in no particular order.
const NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
/// Databases that are the server's own.
const SYSTEM: &str = "('mysql', 'sys', 'performance_schema', 'information_schema')";

/// One statement, and in which session it is to run.
#[derive(Clone, Debug)]
pub struct Make {
    database: String,
    /// What it is about, for filters; empty for routines.
    table: String,
    ddl: &'static str,
    sql: String,
    sql_mode: u64,
    collation: u16,
}

impl Make {
    fn new(database: &str, table: &str, ddl: &'static str, sql: String) -> Make {
        Make { database: database.into(), table: table.into(), ddl, sql, sql_mode: 0, collation: UTF8MB4 }
    }

    /// As a record has it.
    pub fn statement(&self) -> Statement<'_> {
        let tables = match self.table.as_str() {
            "" => Vec::new(),
            table => vec![(self.database.clone(), table.to_owned())],
        };
        Statement {
            sql: self.sql.as_bytes().into(),
            // A database is not used before it is there.
            database: if self.ddl == "create database" { "" } else { self.database.as_str() }.into(),
            sql_mode: Some(self.sql_mode),
            flags2: Some(NO_FOREIGN_KEY_CHECKS),
            charset: Some((UTF8MB4, self.collation, UTF8MB4)),
            ddl: self.ddl.into(),
            tables,
            ..Statement::default()
        }
    }
}

/// The statements of a snapshot, in the order in which they are to run.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// In front of the rows.
    pub before: Vec<Make>,
    /// Behind them.
    pub after: Vec<Make>,
    /// What stays behind, and why.
    pub notes: Vec<String>,
}

impl Objects {
    /// Looks, while nothing can change. `tables`: database, name, and CREATE TABLE of those that are copied.
    pub fn look<'a>(
        client: &mut Client,
        filter: &TableFilter,
        tables: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Result<Objects> {
        let mut out = Objects::default();
        let mut indexes = Vec::new();
        let mut databases: Vec<String> = Vec::new();
        let mut made = Vec::new();
        let mut renamed = Vec::new();
        for (database, table, create) in tables {
            if filter.rewrite(database) != database {
                // Their text may name the old database.
                if !renamed.iter().any(|name| name == database) {
                    renamed.push(database.to_owned());
                }
                continue;
            }
            if !databases.iter().any(|name| name == database) {
                databases.push(database.to_owned());
            }
            let (create, later) = split_table(database, table, create);
            let create = create.replacen("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1);
            made.push(Make::new(database, table, "create table", create));
            indexes.extend(later.map(|sql| Make::new(database, table, "alter table", sql)));
        }
        let passes = |database: &str, table: &str| {
            filter.rewrite(database) == database && !table.starts_with("rlog_") && filter.rows_pass(database, table)
        };
        let mut views = views(client, &passes, &mut out.notes)?;
        let mut sequences = Vec::new();
        if client.family == Family::MariaDb {
            sequences = self::sequences(client, &passes, &mut out.notes)?;
        }
        let mut routines = Vec::new();
        let database_passes =
            |database: &str| filter.rewrite(database) == database && filter.statement_passes(database, &[]);
        // With rules for tables the databases of the tables that pass count: nobody wants another database's routines.
        let wanted = |database: &str| {
            database_passes(database) && (filter.is_empty() || databases.iter().any(|name| name == database))
        };
        self::routines(client, &wanted, &mut routines, &mut out.notes)?;
        let mut triggers = Vec::new();
        self::triggers(client, &passes, &mut triggers, &mut out.notes)?;
        events(client, &wanted, &mut out.notes)?;
        for make in sequences.iter().chain(&views).chain(&routines) {
            if !databases.contains(&make.database) {
                databases.push(make.database.clone());
            }
        }
        for database in &databases {
            let rows = client.query(&format!("SHOW CREATE DATABASE {}", identifier(database)))?;
            let create = rows.first().map(|row| text(row, 1)).unwrap_or_default();
            let create = create.replacen("CREATE DATABASE ", "CREATE DATABASE IF NOT EXISTS ", 1);
            out.before.push(Make::new(database, "", "create database", create));
        }
        out.before.append(&mut sequences);
        out.before.append(&mut made);
        out.after.append(&mut indexes);
        out.after.append(&mut routines);
        out.after.append(&mut views);
        out.after.append(&mut triggers);
        for database in renamed {
            out.notes.push(format!(
                "{database} gets another name: its tables are made from their columns and unique keys; other indexes, views, routines and triggers stay behind"
            ));
        }
        Ok(out)
    }
}

/// A table's CREATE TABLE without the indexes that may come behind its rows, and the statement that adds them.
fn split_table(database: &str, table: &str, create: &str) -> (String, Option<String>) {
    let is_later =
        |line: &str| ["  KEY ", "  FULLTEXT KEY ", "  SPATIAL KEY "].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = create.split('\n').collect();
    let counted = lines
        .iter()
        .find(|line| line.starts_with("  `") && line.contains(" AUTO_INCREMENT"))
        .and_then(|line| line.trim_start().split_once("` "))
        .map(|(name, _)| format!("({name}`"));
    let has_other_key = counted.is_none_or(|first| {
        let is_unique = |line: &str| line.starts_with("  PRIMARY KEY ") || line.starts_with("  UNIQUE KEY ");
        lines.iter().any(|line| is_unique(line) && line.contains(&first))
    });
    let has_foreign_key = lines.iter().any(|line| line.starts_with("  CONSTRAINT ") && line.contains(" FOREIGN KEY "));
    if !has_other_key || has_foreign_key || !lines.iter().any(|line| is_later(line)) {
        return (create.to_owned(), None);
    }
    let bare = |line: &str| line.strip_suffix(',').unwrap_or(line).to_owned();
    let Some(close) = lines.iter().rposition(|line| line.starts_with(')')) else { return (create.to_owned(), None) };
    let (parts, options) = lines.split_at(close);
    let (head, parts) = parts.split_at(parts.len().min(1));
    let kept: Vec<String> = parts.iter().filter(|line| !is_later(line)).map(|line| bare(line)).collect();
    let later: Vec<String> =
        parts.iter().filter(|line| is_later(line)).map(|line| format!("ADD {}", bare(line).trim_start())).collect();
    let create = format!("{}\n{}\n{}", head.join("\n"), kept.join(",\n"), options.join("\n"));
    let alter = format!("ALTER TABLE {}.{} {}", identifier(database), identifier(table), later.join(", "));
    (create, Some(alter))
}

type Passes<'a> = dyn Fn(&str, &str) -> bool + 'a;

/// Views, each behind those that it reads.
fn views(client: &mut Client, passes: &Passes<'_>, notes: &mut Vec<String>) -> Result<Vec<Make>> {
    let rows = client.query(&format!(
        "SELECT table_schema, table_name, view_definition, collation_connection FROM information_schema.views \
         WHERE table_schema NOT IN {SYSTEM} ORDER BY table_schema, table_name"
    ))?;
    let mut left = Vec::new();
    for row in rows {
        let (database, name) = (text(&row, 0), text(&row, 1));
        if !passes(&database, &name) {
            continue;
        }
        let quoted = format!("{}.{}", identifier(&database), identifier(&name));
        let create = match client.query(&format!("SHOW CREATE VIEW {quoted}")) {
            Ok(rows) => rows.first().map(|row| text(row, 1)).unwrap_or_default(),
            Err(error) if client.error_code != 0 => {
                notes.push(format!("view {database}.{name} stays behind: {}", error.what()));
                continue;
            }
            Err(error) => return Err(error),
        };
        let sql = create.replacen("CREATE ", "CREATE OR REPLACE ", 1);
        let mut make = Make::new(&database, &name, "create view", sql);
        make.collation = collation(client.family, &text(&row, 3));
        left.push((quoted, text(&row, 2), make));
    }
    let mut out = Vec::new();
    while !left.is_empty() {
        let names: Vec<String> = left.iter().map(|(name, ..)| name.clone()).collect();
        let is_ready =
            |name: &str, body: &str| !names.iter().any(|other| other != name && body.contains(other.as_str()));
        let (ready, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(|(name, body, _)| is_ready(name, body));
        // Names in a circle stand in literals: views cannot.
        let (ready, waiting) = if ready.is_empty() { (waiting, ready) } else { (ready, waiting) };
        out.extend(ready.into_iter().map(|(.., make)| make));
        left = waiting;
    }
    Ok(out)
}

/// MariaDB's sequences, with the value that comes next.
fn sequences(client: &mut Client, passes: &Passes<'_>, notes: &mut Vec<String>) -> Result<Vec<Make>> {
    let rows = client.query(&format!(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'SEQUENCE' \
         AND table_schema NOT IN {SYSTEM} ORDER BY table_schema, table_name"
    ))?;
    let mut out = Vec::new();
    for row in rows {
        let (database, name) = (text(&row, 0), text(&row, 1));
        if !passes(&database, &name) {
            continue;
        }
        let quoted = format!("{}.{}", identifier(&database), identifier(&name));
        let create = client.query(&format!("SHOW CREATE SEQUENCE {quoted}"))?;
        let next = client.query(&format!("SELECT next_not_cached_value FROM {quoted}"))?;
        let (Some(create), Some(next)) = (create.first(), next.first()) else {
            notes.push(format!("sequence {database}.{name} stays behind: the server does not show it"));
            continue;
        };
        let create = text(create, 1).replacen("CREATE SEQUENCE ", "CREATE SEQUENCE IF NOT EXISTS ", 1);
        out.push(Make::new(&database, &name, "create sequence", create));
        out.push(Make::new(&database, &name, "set sequence", format!("DO SETVAL({quoted}, {}, 0)", text(next, 0))));
    }
    Ok(out)
}

fn routines(
    client: &mut Client,
    wanted: &dyn Fn(&str) -> bool,
    out: &mut Vec<Make>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let rows = client.query(&format!(
        "SELECT routine_schema, routine_name, routine_type FROM information_schema.routines \
         WHERE routine_schema NOT IN {SYSTEM} ORDER BY routine_schema, routine_type, routine_name"
    ))?;
    for row in rows {
        let (database, name, kind) = (text(&row, 0), text(&row, 1), text(&row, 2));
        if !wanted(&database) {
            continue;
        }
        let ddl = match kind.as_str() {
            "FUNCTION" => "create function",
            "PROCEDURE" => "create procedure",
            // In the order of their names, and so before their bodies.
            "PACKAGE" | "PACKAGE BODY" => "create package",
            _ => continue,
        };
        let quoted = format!("{}.{}", identifier(&database), identifier(&name));
        shown(client, &format!("SHOW CREATE {kind} {quoted}"), (&database, "", ddl), [2, 1, 4], out, notes)?;
    }
    Ok(())
}

fn triggers(client: &mut Client, passes: &Passes<'_>, out: &mut Vec<Make>, notes: &mut Vec<String>) -> Result<()> {
    let rows = client.query(&format!(
        "SELECT trigger_schema, trigger_name, event_object_table FROM information_schema.triggers \
         WHERE trigger_schema NOT IN {SYSTEM} \
         ORDER BY trigger_schema, event_object_table, event_manipulation, action_timing, action_order"
    ))?;
    for row in rows {
        let (database, name, table) = (text(&row, 0), text(&row, 1), text(&row, 2));
        if !passes(&database, &table) {
            continue;
        }
        let quoted = format!("{}.{}", identifier(&database), identifier(&name));
        let what = (database.as_str(), table.as_str(), "create trigger");
        shown(client, &format!("SHOW CREATE TRIGGER {quoted}"), what, [2, 1, 4], out, notes)?;
    }
    Ok(())
}

/// Events of the server's clock are told, not taken.
fn events(client: &mut Client, wanted: &dyn Fn(&str) -> bool, notes: &mut Vec<String>) -> Result<()> {
    let rows = client
        .query(&format!("SELECT event_schema FROM information_schema.events WHERE event_schema NOT IN {SYSTEM}"))?;
    let count = rows.iter().filter(|row| wanted(&text(row, 0))).count();
    if count > 0 {
        notes.push(format!("{count} events stay behind: at a replica they would do again what the log holds already"));
    }
    Ok(())
}

/// What SHOW CREATE prints; `columns`: those of the text, of its sql_mode, and of its collation_connection.
fn shown(
    client: &mut Client,
    ask: &str,
    (database, table, ddl): (&str, &str, &'static str),
    columns: [usize; 3],
    out: &mut Vec<Make>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let what = ask.trim_start_matches("SHOW CREATE ");
    let rows = match client.query(ask) {
        Ok(rows) => rows,
        Err(error) if client.error_code != 0 => {
            notes.push(format!("{what} stays behind: {}", error.what()));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let Some(row) = rows.first().filter(|row| row.get(columns[0]).is_some_and(Option::is_some)) else {
        let grant = match client.family {
            Family::MariaDb => "GRANT SHOW CREATE ROUTINE ON *.* or SELECT ON mysql.proc",
            Family::MySql => "GRANT SHOW_ROUTINE ON *.*",
        };
        notes.push(format!("{what} stays behind: the account may not see its text; {grant}"));
        return Ok(());
    };
    let mut make = Make::new(database, table, ddl, text(row, columns[0]));
    make.sql_mode = sql_mode(&text(row, columns[1]));
    make.collation = collation(client.family, &text(row, columns[2]));
    out.push(make);
    Ok(())
}

fn collation(family: Family, name: &str) -> u16 {
    let number = charset::collation_number(name, family == Family::MariaDb);
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(UTF8MB4)
}

/// The number of a sql_mode, whose bits are in the order of the servers' lists (MySQL `sql_mode_names`, MariaDB alike and longer).
fn sql_mode(text: &str) -> u64 {
    const NAMES: [&str; 35] = [
        "REAL_AS_FLOAT",
        "PIPES_AS_CONCAT",
        "ANSI_QUOTES",
        "IGNORE_SPACE",
        "IGNORE_BAD_TABLE_OPTIONS",
        "ONLY_FULL_GROUP_BY",
        "NO_UNSIGNED_SUBTRACTION",
        "NO_DIR_IN_CREATE",
        "POSTGRESQL",
        "ORACLE",
        "MSSQL",
        "DB2",
        "MAXDB",
        "NO_KEY_OPTIONS",
        "NO_TABLE_OPTIONS",
        "NO_FIELD_OPTIONS",
        "MYSQL323",
        "MYSQL40",
        "ANSI",
        "NO_AUTO_VALUE_ON_ZERO",
        "NO_BACKSLASH_ESCAPES",
        "STRICT_TRANS_TABLES",
        "STRICT_ALL_TABLES",
        "NO_ZERO_IN_DATE",
        "NO_ZERO_DATE",
        "ALLOW_INVALID_DATES",
        "ERROR_FOR_DIVISION_BY_ZERO",
        "TRADITIONAL",
        "NO_AUTO_CREATE_USER",
        "HIGH_NOT_PRECEDENCE",
        "NO_ENGINE_SUBSTITUTION",
        "PAD_CHAR_TO_FULL_LENGTH",
        "EMPTY_STRING_IS_NULL",
        "SIMULTANEOUS_ASSIGNMENT",
        "TIME_ROUND_FRACTIONAL",
    ];
    let bit = |name: &str| match name {
        "TIME_TRUNCATE_FRACTIONAL" => 1 << 32,
        name => NAMES.iter().position(|known| *known == name).map_or(0, |bit| 1 << bit),
    };
    text.split(',').map(|name| bit(name.trim())).fold(0, |mode, bit| mode | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_nothing_needs_come_behind_the_rows() {
        let create = "CREATE TABLE `t` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `a` int(11) DEFAULT NULL COMMENT 'x,\\n  KEY (',\n  \
                      PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`a`),\n  KEY `k` (`a`,`id`),\n  FULLTEXT KEY `f` (`b`)\n) ENGINE=InnoDB\n PARTITION BY HASH (`id`)\n(x)";
        let (first, later) = split_table("d", "t", create);
        assert!(first.ends_with("UNIQUE KEY `u` (`a`)\n) ENGINE=InnoDB\n PARTITION BY HASH (`id`)\n(x)"), "{first}");
        assert_eq!(later.as_deref(), Some("ALTER TABLE `d`.`t` ADD KEY `k` (`a`,`id`), ADD FULLTEXT KEY `f` (`b`)"));
        // Needed: a counter's only key, and what a foreign key stands on.
        for create in [
            "CREATE TABLE `t` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  KEY `k` (`id`)\n) ENGINE=InnoDB",
            "CREATE TABLE `t` (\n  `a` int(11),\n  KEY `k` (`a`),\n  CONSTRAINT `c` FOREIGN KEY (`a`) REFERENCES `p` (`id`)\n) ENGINE=InnoDB",
        ] {
            assert_eq!(split_table("d", "t", create), (create.to_owned(), None));
        }
    }

    #[test]
    fn modes_are_numbers() {
        assert_eq!(sql_mode(""), 0);
        assert_eq!(sql_mode("ANSI_QUOTES,STRICT_TRANS_TABLES"), 4 | 1 << 21);
        assert_eq!(sql_mode("PAD_CHAR_TO_FULL_LENGTH,TIME_TRUNCATE_FRACTIONAL"), 1 << 31 | 1 << 32);
    }
}
