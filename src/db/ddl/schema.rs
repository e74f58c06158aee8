//! The tables that are known, as of the statements seen so far.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::column::{self, Characters, Defined};
use super::cursor::{Cursor, Unclear};
use super::parse::{self, Action, Change, Item, NewKey, NewTable, Place};
use super::table::{Table, no_column};
use super::token::Lexer;
use super::{Effect, Session};
use crate::event::table::{Column, ColumnKind};
use crate::event::{TableDefinition, charset};

/// The tables that are known, as of the statements seen so far.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    tables: BTreeMap<(String, String), Table>,
    /// Tables that were named by a statement that could not be followed, and why.
    unknown: BTreeMap<(String, String), String>,
    databases: BTreeMap<String, Characters>,
    mariadb: Option<bool>,
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
        let text = session.text(sql);
        let mut cursor = Cursor::new(&text, session.dialect(self.mariadb));
        let statement = parse::statement(&mut cursor, session.database);
        self.follow(statement, session)
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
        let dialect = Session::default().dialect(self.mariadb);
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
