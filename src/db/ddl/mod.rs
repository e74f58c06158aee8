//! What statements say about tables: a narrow parser of MySQL's and MariaDB's DDL, and the schema that follows it.
//!
//! Logs often do not name columns (MariaDB by default says nothing about them). Then names, signs, members and keys come from here: from the
//! CREATE and ALTER statements in the log, or from a dump's, followed through the log's.
//!
//! Promise: nothing here fails. A statement that cannot be followed makes the tables that it names unknown, with a reason for people; from
//! the next CREATE TABLE they are known again. What is known may still be wrong (a table created before the log began
//! under another definition), so a definition is made only where count and types of the log's columns agree with it.
//!
//! [`token`] reads words, [`cursor`] walks them, [`mod@column`] knows types, [`parse`] and [`alter`] statements; this file applies them to each
//! [`table`], and [`mod@steps`] tells them to appliers.

mod alter;
mod column;
mod cursor;
mod parse;
mod steps;
mod table;
mod token;

use std::borrow::Cow;
use std::collections::BTreeMap;

use column::{Characters, Defined};
use cursor::{Cursor, Unclear};
use parse::{Action, Change, Item, NewKey, NewTable, Place};
use table::no_column;
use token::{Dialect, Lexer};

pub use steps::{Index, Step, Steps, steps};
pub use table::Table;

use crate::event::table::{Column, ColumnKind};
use crate::event::{Statement, TableDefinition, charset};

/// Bit of `sql_mode`: `"` quotes names.
const ANSI_QUOTES: u64 = 1 << 2;
/// Bit of `sql_mode`: backslashes in strings are only that.
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// The session that a statement ran in, as far as it changes how its text is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session<'a> {
    /// Default database.
    pub database: &'a str,
    /// Bits of sql_mode.
    pub sql_mode: u64,
    /// Collation number whose charset the text is in; 0: UTF-8.
    pub client: u32,
    /// Collation number that new databases have; 0: not known.
    pub server: u32,
}

impl<'a> Session<'a> {
    /// That of a statement in a log.
    pub fn of(statement: &'a Statement<'_>) -> Session<'a> {
        let (client, _, server) = statement.charset.unwrap_or_default();
        Session {
            database: &statement.database,
            sql_mode: statement.sql_mode.unwrap_or(0),
            client: u32::from(client),
            server: u32::from(server),
        }
    }
}

/// The tables that are known, as of the statements seen so far.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    tables: BTreeMap<(String, String), Table>,
    /// Tables that were named by a statement that could not be followed, and why.
    unknown: BTreeMap<(String, String), String>,
    databases: BTreeMap<String, Characters>,
    mariadb: Option<bool>,
}

/// What a statement did to a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// What kind of DDL, such as `create table`; empty when the statement is none.
    pub kind: &'static str,
    /// Tables that it names, with the default database filled in.
    pub tables: Vec<(String, String)>,
    /// For people: what could not be followed, and whose shape is therefore unknown now.
    pub note: Option<String>,
}

impl Schema {
    /// Nothing is known.
    pub fn new() -> Schema {
        Schema::default()
    }

    /// Says which family wrote the statements that follow: executable comments and some types differ.
    pub fn set_family(&mut self, mariadb: bool) {
        self.mariadb = Some(mariadb);
    }

    /// Follows a statement of a log in the default session; see [`Schema::apply_in`].
    pub fn apply(&mut self, default_database: &str, sql: &[u8]) -> Effect {
        self.apply_in(&Session { database: default_database, ..Session::default() }, sql)
    }

    /// Follows a statement of a log. One that is no DDL changes nothing and is hardly looked at. Never fails: a table whose change cannot
    /// be followed is unknown from here, and the effect says so.
    pub fn apply_in(&mut self, session: &Session<'_>, sql: &[u8]) -> Effect {
        if !parse::may_change_schema(sql) {
            return Effect::default();
        }
        let client = charset::charset_of(session.client).unwrap_or("utf8mb4");
        let text = match charset::decoder(client).utf8(sql, &mut Vec::new()) {
            Some(text) => Cow::Owned(text.to_owned()),
            None => String::from_utf8_lossy(sql),
        };
        let mut cursor = Cursor::new(&text, self.dialect(session.sql_mode));
        let statement = parse::statement(&mut cursor, session.database);
        self.follow(statement, session)
    }

    fn dialect(&self, sql_mode: u64) -> Dialect {
        Dialect {
            ansi_quotes: sql_mode & ANSI_QUOTES != 0,
            no_backslash: sql_mode & NO_BACKSLASH_ESCAPES != 0,
            mariadb: self.mariadb,
        }
    }

    fn follow(&mut self, statement: parse::Statement, session: &Session<'_>) -> Effect {
        let mut effect = Effect { kind: statement.kind, tables: statement.tables, note: None };
        let followed = statement
            .changes
            .and_then(|changes| changes.into_iter().try_for_each(|change| self.change(change, session)));
        if let Err(Unclear(why)) = followed {
            let names: Vec<String> =
                effect.tables.iter().map(|(database, table)| format!("{database}.{table}")).collect();
            for table in &effect.tables {
                self.tables.remove(table);
                self.unknown.insert(table.clone(), why.clone());
            }
            let names = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
            effect.note = Some(format!("{}{names} is not followed: {why}", effect.kind));
        }
        effect
    }

    /// Follows the text of a `mysqldump --no-data` or of SHOW CREATE TABLE; the notes say what was passed over. Tables in front of the first USE, of a
    /// dump that names no database, are found under any.
    pub fn load(&mut self, text: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let text = without_routines(text);
        let dialect = self.dialect(0);
        let mut lexer = Lexer::new(&text, 0, dialect);
        let mut database = String::new();
        while let Some(mut cursor) = Cursor::statement(&mut lexer, &text) {
            loop {
                let session = Session { database: &database.clone(), ..Session::default() };
                let statement = parse::statement(&mut cursor, session.database);
                if let Ok([Change::Use(name)]) = statement.changes.as_deref() {
                    database.clone_from(name);
                }
                notes.extend(self.follow(statement, &session).note);
                if !parse::next_create(&mut cursor) {
                    break;
                }
                cursor = cursor.tail();
            }
        }
        notes
    }

    /// What is known about a table.
    pub fn lookup(&self, database: &str, table: &str) -> Option<&Table> {
        let name = (database.to_owned(), table.to_owned());
        match self.tables.get(&name) {
            Some(found) => Some(found),
            None if self.unknown.contains_key(&name) => None,
            None => self.tables.get(&(String::new(), name.1)),
        }
    }

    /// Why a table is not known, when a statement about it was seen.
    pub fn why_unknown(&self, database: &str, table: &str) -> Option<&str> {
        self.unknown.get(&(database.to_owned(), table.to_owned())).map(String::as_str)
    }

    /// Makes a table known that was known before, as an applier keeps it between runs.
    pub fn put(&mut self, definition: TableDefinition) {
        let name = (definition.database.clone(), definition.table.clone());
        let inherits = vec![false; definition.columns.len()];
        self.unknown.remove(&name);
        self.tables.insert(name, Table { definition, inherits, ..Table::default() });
    }

    /// How many tables are known.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether no table is known.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    fn change(&mut self, change: Change, session: &Session<'_>) -> Result<(), Unclear> {
        match change {
            Change::Use(_) => {}
            Change::CreateDatabase(name, charset) => {
                let server = charset::collation_name(session.server, self.mariadb == Some(true));
                let server = server.map(|name| Characters::of_collation(&name, &Characters::default()));
                self.databases.insert(name, charset.or(server).unwrap_or_default());
            }
            Change::AlterDatabase(name, charset) => drop(self.databases.insert(name, charset)),
            Change::DropDatabase(name) => {
                self.databases.remove(&name);
                self.tables.retain(|(database, _), _| *database != name);
                self.unknown.retain(|(database, _), _| *database != name);
            }
            Change::Create(new) => {
                if new.if_not_exists && self.tables.contains_key(&new.table) {
                    return Ok(());
                }
                let name = new.table.clone();
                let table = self.create(*new)?;
                self.unknown.remove(&name);
                self.tables.insert(name, table);
            }
            Change::Like { table, other, if_not_exists } => {
                if if_not_exists && self.tables.contains_key(&table) {
                    return Ok(());
                }
                let Some(found) = self.lookup(&other.0, &other.1) else {
                    return Err(Unclear(format!("{}.{} is not known", other.0, other.1)));
                };
                let mut copy = found.clone();
                copy.definition.database.clone_from(&table.0);
                copy.definition.table.clone_from(&table.1);
                copy.definition.foreign_keys = None;
                self.unknown.remove(&table);
                self.tables.insert(table, copy);
            }
            Change::Drop(name) => {
                self.tables.remove(&name);
                self.unknown.remove(&name);
                self.hide_anywhere(name, "it was dropped");
            }
            Change::Rename(from, to) => self.rename(&from, to),
            Change::Alter(name, actions) => self.alter(&name, actions)?,
        }
        Ok(())
    }

    /// A table that a dump gave for any database no longer stands for this one.
    fn hide_anywhere(&mut self, name: (String, String), why: &str) {
        if self.tables.contains_key(&(String::new(), name.1.clone())) {
            self.unknown.insert(name, why.into());
        }
    }

    fn rename(&mut self, from: &(String, String), to: (String, String)) {
        let known = self.lookup(&from.0, &from.1).cloned();
        if let Some(mut table) = known {
            self.tables.remove(from);
            self.hide_anywhere(from.clone(), "it was renamed");
            table.definition.database.clone_from(&to.0);
            table.definition.table.clone_from(&to.1);
            self.unknown.remove(&to);
            self.tables.insert(to, table);
        } else {
            let why = self.unknown.remove(from).unwrap_or_else(|| format!("{}.{} was not known", from.0, from.1));
            self.tables.remove(&to);
            self.unknown.insert(to, why);
        }
    }

    fn create(&mut self, new: NewTable) -> Result<Table, Unclear> {
        let characters = match new.charset {
            Some(charset) => charset,
            None => self.databases.get(&new.table.0).cloned().unwrap_or_default(),
        };
        let mut table = Table {
            definition: TableDefinition {
                database: new.table.0,
                table: new.table.1,
                keys_known: true,
                names_known: true,
                // Until one is seen, here or in another table's statement.
                foreign_keys: Some(false),
                ..TableDefinition::default()
            },
            charset: characters.charset,
            collation: characters.collation,
            ..Table::default()
        };
        let mut keys = Vec::new();
        let mut period = false;
        for item in new.items {
            match item {
                Item::Column(defined) => {
                    period |= defined.system_period;
                    self.add_column(&mut table, *defined, usize::MAX)?;
                }
                Item::Key(key) => keys.push(key),
                Item::ForeignKey(other) => self.refer(&mut table, &other),
                Item::Index(_) | Item::Other => {}
            }
        }
        keys.into_iter().try_for_each(|key| table.add_key(key))?;
        if new.system_versioned && !period {
            table.add_period();
        }
        Ok(table)
    }

    /// Notes a foreign key at both of its ends.
    fn refer(&mut self, table: &mut Table, other: &(String, String)) {
        table.definition.foreign_keys = Some(true);
        if let Some(other) = self.tables.get_mut(other) {
            other.definition.foreign_keys = Some(true);
        }
    }

    fn add_column(&mut self, table: &mut Table, defined: Defined, at: usize) -> Result<(), Unclear> {
        let Defined { mut column, charset_inherited, primary, unique, references, system_period: _ } = defined;
        if table.column(&column.name).is_some() {
            return Err(Unclear(format!("column {} is there already", column.name)));
        }
        if charset_inherited {
            column::set_characters(&mut column, &table.characters());
        }
        if self.mariadb == Some(true) && column.kind == ColumnKind::JsonBinary {
            json_as_text(&mut column);
        }
        let name = column.name.clone();
        let at = at.min(table.definition.columns.len());
        for part in table
            .definition
            .primary_key
            .iter_mut()
            .chain(table.definition.unique_keys.iter_mut().flat_map(|key| &mut key.parts))
        {
            part.column += u32::from(part.column as usize >= at);
        }
        table.definition.columns.insert(at, column);
        table.inherits.insert(at, charset_inherited);
        if primary {
            table.add_key(NewKey { primary: true, name: "PRIMARY".into(), parts: Some(vec![(name.clone(), 0)]) })?;
        }
        if unique {
            table.add_key(NewKey { primary: false, name: String::new(), parts: Some(vec![(name, 0)]) })?;
        }
        if let Some(other) = references {
            // MySQL before 9 parses and ignores it, MariaDB obeys it: either way it is no promise that there is none.
            self.refer(table, &other);
        }
        Ok(())
    }

    fn alter(&mut self, name: &(String, String), actions: Vec<Action>) -> Result<(), Unclear> {
        let Some(found) = self.lookup(&name.0, &name.1) else {
            // Nothing was known, and nothing is lost. A rename moves that.
            for action in actions {
                if let Action::RenameTable(to) = action {
                    self.rename(name, to);
                }
            }
            return Ok(());
        };
        let mut table = found.clone();
        let mut rename = None;
        for action in actions {
            match action {
                Action::RenameTable(to) => rename = Some(to),
                action => self.act(&mut table, action)?,
            }
        }
        table.definition.database.clone_from(&name.0);
        self.tables.insert(name.clone(), table);
        if let Some(to) = rename {
            self.rename(name, to);
        }
        Ok(())
    }

    fn act(&mut self, table: &mut Table, action: Action) -> Result<(), Unclear> {
        match action {
            Action::Add { column, place, if_not_exists } => {
                if let Some(at) = table.column(&column.column.name) {
                    // The two halves of a split ALTER say the same twice.
                    let same =
                        table.definition.columns.get(at).is_some_and(|known| known.sql_type == column.column.sql_type);
                    if if_not_exists || same {
                        return Ok(());
                    }
                }
                let at = table.place(&place, table.declared())?;
                self.add_column(table, *column, at)
            }
            Action::Change { old, column, place, if_exists } => {
                let Some(at) = table.column(&old) else {
                    return if if_exists { Ok(()) } else { Err(no_column(&old)) };
                };
                let mut defined = *column;
                let from = table.definition.columns.remove(at);
                table.inherits.remove(at);
                if table.column(&defined.column.name).is_some() {
                    return Err(Unclear(format!("column {} is there already", defined.column.name)));
                }
                // Keys keep the column: it is put back where it was, and moved after.
                let new_name = defined.column.name.clone();
                let in_primary = table.definition.primary_key.iter().any(|part| part.column as usize == at);
                if in_primary {
                    defined.column.nullable = Some(false);
                }
                drop(from);
                if defined.charset_inherited {
                    column::set_characters(&mut defined.column, &table.characters());
                }
                if self.mariadb == Some(true) && defined.column.kind == ColumnKind::JsonBinary {
                    json_as_text(&mut defined.column);
                }
                table.definition.columns.insert(at, defined.column);
                table.inherits.insert(at, defined.charset_inherited);
                if defined.primary && !in_primary {
                    let parts = Some(vec![(new_name.clone(), 0)]);
                    table.add_key(NewKey { primary: true, name: "PRIMARY".into(), parts })?;
                }
                if defined.unique {
                    let parts = Some(vec![(new_name.clone(), 0)]);
                    table.add_key(NewKey { primary: false, name: String::new(), parts })?;
                }
                match place {
                    Place::Here => Ok(()),
                    place => table.move_column(at, &place),
                }
            }
            Action::DropColumn { name, if_exists } => match table.column(&name) {
                Some(at) => {
                    table.drop_column(at);
                    Ok(())
                }
                None if if_exists => Ok(()),
                None => Err(no_column(&name)),
            },
            Action::RenameColumn { old, new } => {
                let at = table.column(&old).ok_or_else(|| no_column(&old))?;
                table.with_column(at, |column| column.name = new);
                Ok(())
            }
            Action::SetInvisible(name, invisible) => {
                let at = table.column(&name).ok_or_else(|| no_column(&name))?;
                table.with_column(at, |column| column.invisible = invisible);
                Ok(())
            }
            Action::SetDefault(name, text) => {
                let at = table.column(&name).ok_or_else(|| no_column(&name))?;
                table.with_column(at, |column| column.default_sql = text);
                Ok(())
            }
            Action::AddKey(key) => table.add_key(key),
            Action::AddIndex(_) => Ok(()),
            Action::AddForeignKey(other) => {
                self.refer(table, &other);
                Ok(())
            }
            Action::DropPrimaryKey => {
                table.definition.primary_key.clear();
                Ok(())
            }
            Action::DropKey(name) => {
                table.definition.unique_keys.retain(|key| !key.name.eq_ignore_ascii_case(&name));
                Ok(())
            }
            Action::RenameKey(old, new) => {
                let key = table.definition.unique_keys.iter_mut().find(|key| key.name.eq_ignore_ascii_case(&old));
                if let Some(key) = key {
                    key.name = new;
                }
                Ok(())
            }
            Action::Convert(characters) => {
                table.convert(&characters);
                Ok(())
            }
            Action::DefaultCharset(characters) => {
                // Columns keep what they have; only new ones get it.
                table.charset = characters.charset;
                table.collation = characters.collation;
                Ok(())
            }
            Action::AddSystemVersioning => {
                let has = table.definition.columns.iter().any(|column| column.sql_type.contains("as row"));
                if !has && !table.implicit_period {
                    table.add_period();
                }
                Ok(())
            }
            Action::DropSystemVersioning => {
                if table.implicit_period {
                    for _ in 0..2 {
                        table.drop_column(table.definition.columns.len().saturating_sub(1));
                    }
                    table.implicit_period = false;
                }
                Ok(())
            }
            Action::RenameTable(_) => Ok(()),
        }
    }
}

/// MariaDB's JSON is a text.
fn json_as_text(column: &mut Column) {
    column.kind = ColumnKind::String { form: crate::event::table::StringForm::Long, bytes_max: u32::MAX };
    column.charset = "utf8mb4".into();
    column.collation = charset::collation_number("utf8mb4_bin", true).unwrap_or(0);
}

/// A dump without its triggers, routines and events, which stand between DELIMITER lines and hold statements of their own.
fn without_routines(text: &str) -> Cow<'_, str> {
    let delimiter = |line: &str| {
        let rest = line.trim_start();
        let is = rest.get(..10).is_some_and(|word| word.eq_ignore_ascii_case("delimiter "));
        is.then(|| rest.get(10..).unwrap_or("").trim() == ";")
    };
    if !text.lines().any(|line| delimiter(line).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        match delimiter(line) {
            Some(plain) => inside = !plain,
            None if !inside => out.push_str(line),
            None => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::table::{KeyPart, Sign, StringForm};

    fn follow(statements: &[&str]) -> Schema {
        let mut schema = Schema::new();
        for sql in statements {
            let effect = schema.apply("d", sql.as_bytes());
            assert_eq!(effect.note, None, "{sql}");
        }
        schema
    }

    /// Columns with what matters of their kinds, then keys.
    fn shape(schema: &Schema, table: &str) -> String {
        let Some(table) = schema.lookup("d", table) else { return "unknown".into() };
        let mut out = String::new();
        for column in &table.definition.columns {
            let kind = match column.kind {
                ColumnKind::Int { bytes, sign } => format!("{}{bytes}", if sign == Sign::Unsigned { "u" } else { "i" }),
                ColumnKind::String { form, bytes_max } => format!("{form:?}({bytes_max}) {}", column.charset),
                ColumnKind::Enum | ColumnKind::Set => {
                    let members: Vec<_> =
                        column.members.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect();
                    format!("{:?}[{}]", column.kind, members.join("|"))
                }
                kind => format!("{kind:?}"),
            };
            let flags = [
                (column.generated, " generated"),
                (column.invisible, " invisible"),
                (column.nullable == Some(false), "!"),
            ];
            let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
            out.push_str(&format!("{} {}{flags}, ", column.name, kind.trim_end()));
        }
        let parts = |parts: &[KeyPart]| {
            let part = |part: &KeyPart| {
                let name = table.definition.columns[part.column as usize].name.clone();
                if part.prefix > 0 { format!("{name}({})", part.prefix) } else { name }
            };
            parts.iter().map(part).collect::<Vec<_>>().join(" ")
        };
        if !table.definition.primary_key.is_empty() {
            out.push_str(&format!("primary({}) ", parts(&table.definition.primary_key)));
        }
        for key in &table.definition.unique_keys {
            out.push_str(&format!("{}({}) ", key.name, parts(&key.parts)));
        }
        out.trim_end_matches([',', ' ']).to_owned()
    }

    #[test]
    fn every_type_has_its_kind() {
        for (sql, kind) in [
            ("tinyint", "i1"),
            ("bool not null default true", "i1!"),
            ("int(10) unsigned zerofill", "u4"),
            ("mediumint zerofill", "u3"),
            ("BIGINT", "i8"),
            ("serial", "u8!, a(a)"),
            ("dec", "Decimal { precision: 10, scale: 0 }"),
            ("numeric(65,30) unsigned", "Decimal { precision: 65, scale: 30 }"),
            ("float(7,4)", "Float"),
            ("float(25)", "Double"),
            ("double precision", "Double"),
            ("bit", "Bit { bits: 1 }"),
            ("year(4)", "Year"),
            (
                "timestamp(6) not null default current_timestamp(6) on update current_timestamp(6)",
                "Timestamp { fsp: 6 }!",
            ),
            ("char", "Char(1)"),
            ("varchar(10) character set latin1", "VarChar(10) latin1"),
            ("varchar(10) charset utf8 collate utf8_bin", "VarChar(30) utf8mb3"),
            ("varchar(10) collate utf8mb4_unicode_ci", "VarChar(40) utf8mb4"),
            ("char(3) byte", "Char(3) binary"),
            ("national varchar(5)", "VarChar(15) utf8mb3"),
            ("char varying(5)", "VarChar(5)"),
            ("binary(16)", "Char(16) binary"),
            ("varbinary(300)", "VarChar(300) binary"),
            ("text(70000)", "Medium(16777215)"),
            ("blob(10)", "Tiny(255) binary"),
            ("long varchar", "Medium(16777215)"),
            ("longblob compressed", "Long(4294967295) binary"),
            ("enum('a','b''c','d,e)') default 'a'", "Enum[a|b'c|d,e)]"),
            ("set('x','y ') character set latin1", "Set[x|y]"),
            ("json check (json_valid(`a`))", "JsonBinary"),
            ("point srid 4326", "Geometry"),
            ("vector(3)", "Vector"),
            ("uuid default uuid()", "Other(0)"),
            ("int generated always as (b + 1) stored", "i4 generated"),
            ("int as (concat('(', b)) persistent comment 'x, y)'", "i4 generated"),
            ("int /*!80023 invisible */ default 5", "i4 invisible"),
            ("int default (1 + 2) not null", "i4!"),
            ("int default -1 comment \"it's\"", "i4"),
            ("int references other (id) on delete set null on update cascade", "i4"),
            ("timestamp(6) generated always as row start", "Timestamp { fsp: 6 } generated!"),
            ("int constraint c check (a > 0) not enforced", "i4"),
        ] {
            let schema = follow(&[&format!("create table t (a {sql}, b int)")]);
            let wanted = match kind.split_once("!, ").map(|(column, key)| (format!("{column}!"), key)) {
                Some((column, key)) => format!("a {column}, b i4, {key}"),
                None => format!("a {kind}, b i4"),
            };
            assert_eq!(shape(&schema, "t"), wanted, "{sql}");
        }
    }

    #[test]
    fn what_show_create_table_prints_is_read() {
        let schema = follow(&[
            "CREATE TABLE `t` (\n  `id` int(10) unsigned NOT NULL AUTO_INCREMENT,\n  `sku` varchar(20) NOT NULL DEFAULT '',\n  \
             `n``ame` char(3) COLLATE latin1_german2_ci DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`sku`(10),`n``ame`) USING HASH,\n  \
             KEY `k` (`sku`),\n  FULLTEXT KEY `f` (`sku`),\n  CONSTRAINT `c` FOREIGN KEY (`id`) REFERENCES `o` (`id`) ON DELETE CASCADE,\n  \
             CONSTRAINT `x` CHECK (`id` > 0)\n) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=latin1 COMMENT='a;b'\n/*!50100 PARTITION BY HASH (id) PARTITIONS 4 */",
        ]);
        assert_eq!(
            shape(&schema, "t"),
            "id u4!, sku VarChar(20) latin1!, n`ame Char(3) latin1, primary(id) u(sku(10) n`ame)"
        );
        let table = schema.lookup("d", "t").unwrap();
        assert_eq!(table.definition.foreign_keys, Some(true));
        assert_eq!(table.definition.columns[1].default_sql, "''");
        assert_eq!(table.definition.columns[0].sql_type, "int(10) unsigned");
        assert_eq!(table.definition.columns[2].collation, 31);
    }

    #[test]
    fn alter_table_is_followed() {
        let start = "create table t (id int primary key, a int, b varchar(5) unique) default charset latin1";
        for (alter, after) in [
            (
                "add c int first, add column d int after id",
                "c i4, id i4!, d i4, a i4, b VarChar(5) latin1, primary(id) b(b)",
            ),
            ("add (c int, d int), drop a", "id i4!, b VarChar(5) latin1, c i4, d i4, primary(id) b(b)"),
            ("drop column if exists zz, drop b", "id i4!, a i4, primary(id)"),
            ("modify a bigint unsigned first", "a u8, id i4!, b VarChar(5) latin1, primary(id) b(b)"),
            ("change id ID2 bigint after b", "a i4, b VarChar(5) latin1, ID2 i8!, primary(ID2) b(b)"),
            ("rename column a to aa, alter aa set default 5", "id i4!, aa i4, b VarChar(5) latin1, primary(id) b(b)"),
            (
                "drop primary key, add primary key (a, b(3))",
                "id i4!, a i4!, b VarChar(5) latin1!, primary(a b(3)) b(b)",
            ),
            (
                "add unique key (a), add unique (a, id), drop index b",
                "id i4!, a i4, b VarChar(5) latin1, primary(id) a(a) a_2(a id)",
            ),
            ("convert to character set utf8mb4", "id i4!, a i4, b VarChar(20) utf8mb4, primary(id) b(b)"),
            (
                "character set utf8mb4, add c char(2)",
                "id i4!, a i4, b VarChar(5) latin1, c Char(8) utf8mb4, primary(id) b(b)",
            ),
            (
                "engine=innodb, algorithm=inplace, lock none, add c int",
                "id i4!, a i4, b VarChar(5) latin1, c i4, primary(id) b(b)",
            ),
            (
                "add index k (a), add constraint f foreign key (a) references o(id), comment 'x'",
                "id i4!, a i4, b VarChar(5) latin1, primary(id) b(b)",
            ),
            (
                "add system versioning",
                "id i4!, a i4, b VarChar(5) latin1, row_start Timestamp { fsp: 6 } generated invisible!, row_end Timestamp { fsp: 6 } generated invisible!, primary(id) b(b)",
            ),
            (
                "partition by range (id) (partition p0 values less than (5), partition p1 values less than maxvalue)",
                "id i4!, a i4, b VarChar(5) latin1, primary(id) b(b)",
            ),
        ] {
            let schema = follow(&[start, &format!("alter table d.t {alter}")]);
            assert_eq!(shape(&schema, "t"), after, "{alter}");
        }
        let schema = follow(&[start, "alter table t rename to e.x, add c int"]);
        assert!(schema.lookup("d", "t").is_none());
        assert_eq!(schema.lookup("e", "x").unwrap().definition.columns.len(), 4);
        let versioned = "create table t (id int) with system versioning";
        let schema = follow(&[versioned, "alter table t add a int", "alter table t drop system versioning"]);
        assert_eq!(shape(&schema, "t"), "id i4, a i4");
    }

    #[test]
    fn tables_come_go_and_change_their_names() {
        let schema = follow(&[
            "create table a (x int)",
            "create table b like a",
            "create table if not exists a (y int)",
            "rename table a to c, b to a",
            "create index i on c (x)",
            "create unique index u on c (x)",
            "truncate c",
            "create temporary table c (z int)",
            "drop temporary table if exists c",
        ]);
        assert_eq!(shape(&schema, "a"), "x i4");
        assert_eq!(shape(&schema, "c"), "x i4, u(x)");
        assert_eq!(shape(&schema, "b"), "unknown");
        let mut schema = schema;
        assert_eq!(schema.apply("d", b"drop index u on c").kind, "drop index");
        assert_eq!(shape(&schema, "c"), "x i4");
        assert_eq!(schema.apply("x", b"DROP TABLE IF EXISTS `d`.`a`,d.c /* generated by server */").tables.len(), 2);
        assert!(schema.is_empty());
        schema.apply("d", b"create or replace table s (x int)");
        schema.apply("d", b"create sequence q");
        assert_eq!(schema.lookup("d", "q").unwrap().definition.columns.len(), 8);
        schema.apply("", b"drop database d");
        assert!(schema.is_empty());
    }

    #[test]
    fn the_charset_of_a_database_and_of_the_server_is_inherited() {
        let mut schema = Schema::new();
        schema.apply("", b"create database a character set utf16");
        schema.apply_in(&Session { server: 8, ..Session::default() }, b"create database b");
        for database in ["a", "b", "c"] {
            schema.apply(database, b"create table t (x char(1), e enum('\xc3\xa9'))");
        }
        let column = |database, at: usize| schema.lookup(database, "t").unwrap().definition.columns[at].clone();
        assert_eq!([column("a", 0).charset, column("b", 0).charset, column("c", 0).charset], ["utf16", "latin1", ""]);
        assert_eq!(column("b", 1).members, [b"\xe9".to_vec()], "members are in the column's charset");
        assert_eq!(column("a", 1).members, [b"\x00\xe9".to_vec()]);
    }

    #[test]
    fn a_statement_that_cannot_be_followed_makes_its_table_unknown_and_says_so() {
        for sql in [
            "create table t select 1 as a",
            "create table t (a int) select 2 as b",
            "create table t (a int) as select 2 as b",
            "create table t (a nosuchtype)",
            "create table t (a int",
            "create table t (a int, primary key (b))",
            "create table t like nowhere.u",
            "alter table t frobnicate the columns",
            "alter table t drop column nosuch",
            "alter table t add column a bigint",
            "alter table t modify a",
            "rename table t",
        ] {
            let mut schema = follow(&["create table t (a int)"]);
            let effect = schema.apply("d", sql.as_bytes());
            if sql.starts_with("rename") {
                continue;
            }
            assert!(effect.note.is_some(), "{sql}");
            assert_eq!(effect.tables, [("d".to_owned(), "t".to_owned())], "{sql}");
            assert_eq!(shape(&schema, "t"), "unknown", "{sql}");
            assert!(schema.why_unknown("d", "t").is_some());
            schema.apply("d", b"create table t (b int)");
            assert_eq!(shape(&schema, "t"), "b i4", "known again");
        }
    }

    #[test]
    fn statements_that_are_no_ddl_of_tables_change_nothing() {
        let mut schema = follow(&["create table t (a int)"]);
        for (sql, kind) in [
            ("insert into t values ('create table t (b int)')", ""),
            ("/* x */ update t set a = 1", ""),
            ("create definer=`root`@`%` sql security definer view v as select 1", "create view"),
            (
                "CREATE DEFINER=`a`@`b` TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN DROP TABLE t; END",
                "create trigger",
            ),
            ("drop procedure p", "drop procedure"),
            ("create user u", "create user"),
            ("-- c\n# d\n/*!50003 drop function f */", "drop function"),
            ("", ""),
        ] {
            let effect = schema.apply("d", sql.as_bytes());
            assert_eq!((effect.kind, effect.note), (kind, None), "{sql}");
            assert_eq!(shape(&schema, "t"), "a i4");
        }
    }

    #[test]
    fn a_dump_is_loaded_and_its_routines_are_passed_over() {
        let mut schema = Schema::new();
        let notes = schema.load(
            "/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump\n/*!40101 SET @x=1 */;\nCREATE TABLE `t` (a int);\n\
             CREATE DATABASE /*!32312 IF NOT EXISTS*/ `e` /*!40100 DEFAULT CHARACTER SET latin1 */;\nUSE `e`;\n\
             /*!40101 SET character_set_client = utf8 */;\nCREATE TABLE `u` (\n  `b` char(2)\n) ENGINE=InnoDB;\n\
             DELIMITER ;;\nCREATE TRIGGER x BEFORE INSERT ON u FOR EACH ROW BEGIN\nDROP TABLE u;\nEND ;;\nDELIMITER ;\n\
             INSERT INTO u VALUES ('; create table u (z int)');\nCREATE TABLE w (a nosuch);\n",
        );
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!(shape(&schema, "t"), "a i4", "under any database");
        assert_eq!(schema.lookup("e", "u").unwrap().definition.columns[0].charset, "latin1");
        schema.apply("d", b"alter table t add b int");
        assert_eq!(shape(&schema, "t"), "a i4, b i4");
        assert_eq!(schema.lookup("other", "t").unwrap().definition.columns.len(), 1);
        schema.apply("d", b"drop table t");
        assert_eq!(shape(&schema, "t"), "unknown");
    }

    #[test]
    fn what_the_client_shows_of_show_create_table_is_loaded() {
        let mut schema = Schema::new();
        // Batch mode: names, tabs, and line breaks as escapes; several rows without semicolons.
        schema.load("Table\tCreate Table\nt\tCREATE TABLE `t` (\\n  `a` int(11) DEFAULT NULL,\\n  `b` char(1)\\n) ENGINE=InnoDB\nu\tCREATE TABLE `u` (\\n  `c` int\\n) ENGINE=InnoDB\n");
        assert_eq!(shape(&schema, "t"), "a i4, b Char(1)");
        assert_eq!(shape(&schema, "u"), "c i4");
        let mut schema = Schema::new();
        schema.load("*************************** 1. row ***************************\n       Table: t\nCreate Table: CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB");
        assert_eq!(shape(&schema, "t"), "a i4");
    }

    #[test]
    fn no_text_panics() {
        let seeds = [
            "create table `d`.t (id int unsigned primary key, a varchar(5) character set latin1 default 'x' comment 'y', unique key u (a(3))) charset=utf8",
            "alter table t add column (b enum('x','y'), c int), modify a int first, drop column id, convert to character set utf8, rename to z",
            "/*!50100 create */ table if not exists t like x; rename table a to b, c to d; drop table a, b",
        ];
        let mut state = 88_172_645_463_325_252u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for seed in seeds {
            for _ in 0..3000 {
                let mut bytes = seed.as_bytes().to_vec();
                for _ in 0..1 + random(4) {
                    let at = random(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                    match if bytes.is_empty() { 3 } else { random(4) } {
                        0 => bytes[at] = random(256) as u8,
                        1 => drop(bytes.remove(at)),
                        2 => bytes.truncate(at + 1),
                        _ => bytes.insert(at, b"(),'`\"\\;*/ "[random(11)]),
                    }
                }
                let mut schema = follow(&["create table d.t (id int, a int)", "create table d.x (id int)"]);
                schema.apply("d", &bytes);
                schema.load(&String::from_utf8_lossy(&bytes));
            }
        }
        let _ = StringForm::Char;
    }
}
