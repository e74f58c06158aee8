//! Statements: what each of them changes, in a form that a schema can follow.

use super::alter::alter_table;
use super::column::{self, Characters, Defined};
use super::cursor::{Cursor, Unclear};
use super::token::Kind;

/// Database and table.
pub(super) type Name = (String, String);

/// What a statement is.
#[derive(Debug)]
pub(super) struct Statement {
    /// Such as `create table`; empty for statements that change no schema.
    pub kind: &'static str,
    /// Tables that it names.
    pub tables: Vec<Name>,
    /// What it changes, in order. An error concerns [`Statement::tables`]: their shape is not known from here.
    pub changes: Result<Vec<Change>, Unclear>,
}

/// One change.
#[derive(Debug)]
pub(super) enum Change {
    /// The default database of what follows.
    Use(String),
    /// `None`: the server's default charset.
    CreateDatabase(String, Option<Characters>),
    AlterDatabase(String, Characters),
    DropDatabase(String),
    Create(Box<NewTable>),
    Like {
        table: Name,
        other: Name,
        if_not_exists: bool,
    },
    Drop(Name),
    Rename(Name, Name),
    Alter(Name, Vec<Action>),
}

/// A table as CREATE TABLE has it.
#[derive(Debug, Default)]
pub(super) struct NewTable {
    pub table: Name,
    pub if_not_exists: bool,
    pub charset: Option<Characters>,
    pub items: Vec<Item>,
    pub system_versioned: bool,
}

/// An element of CREATE TABLE's list.
#[derive(Debug)]
pub(super) enum Item {
    Column(Box<Defined>),
    Key(NewKey),
    /// An index that admits duplicates.
    Index(NewKey),
    ForeignKey(Name),
    /// Something that does not concern rows.
    Other,
}

/// A primary or unique key, by its columns' names.
#[derive(Debug)]
pub(super) struct NewKey {
    pub primary: bool,
    pub name: String,
    /// Name and characters of the prefix; `None`: it has an expression among its parts.
    pub parts: Option<Vec<(String, u32)>>,
}

/// Where a column goes.
#[derive(Debug)]
pub(super) enum Place {
    /// Where it is, or last.
    Here,
    First,
    After(String),
}

/// An action of ALTER TABLE.
#[derive(Debug)]
pub(super) enum Action {
    Add { column: Box<Defined>, place: Place, if_not_exists: bool },
    Change { old: String, column: Box<Defined>, place: Place, if_exists: bool },
    DropColumn { name: String, if_exists: bool },
    RenameColumn { old: String, new: String },
    SetInvisible(String, bool),
    SetDefault(String, String),
    AddKey(NewKey),
    AddIndex(NewKey),
    AddForeignKey(Name),
    DropPrimaryKey,
    DropKey(String),
    RenameKey(String, String),
    RenameTable(Name),
    Convert(Characters),
    DefaultCharset(Characters),
    AddSystemVersioning,
    DropSystemVersioning,
}

/// Cheaply: whether a statement could be one that is followed. False spares reading it at all.
pub(super) fn may_change_schema(sql: &[u8]) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_ascii_start();
        let comment = rest.first() == Some(&b'#') || rest.starts_with(b"--") || rest.starts_with(b"/*");
        match rest.first() {
            // An executable comment may hold anything.
            _ if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") => return true,
            Some(b'/') if comment => {
                rest = memchr::memmem::find(rest, b"*/").and_then(|end| rest.get(end + 2..)).unwrap_or(&[]);
            }
            Some(_) if comment => rest = memchr::memchr(b'\n', rest).and_then(|end| rest.get(end + 1..)).unwrap_or(&[]),
            _ => break,
        }
    }
    let end = rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
    let word = rest.get(..end).unwrap_or(&[]);
    [&b"create"[..], b"alter", b"drop", b"rename", b"truncate", b"use"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

/// Reads one statement.
pub(super) fn statement(cursor: &mut Cursor<'_>, default_database: &str) -> Statement {
    let mut out = Statement { kind: "", tables: Vec::new(), changes: Ok(Vec::new()) };
    if cursor.takes(&["USE"]) {
        out.changes = cursor.name().map(|name| vec![Change::Use(name)]);
    } else if cursor.takes(&["CREATE"]) {
        create(cursor, default_database, &mut out);
    } else if cursor.takes(&["ALTER"]) {
        alter(cursor, default_database, &mut out);
    } else if cursor.takes(&["DROP"]) {
        drop_statement(cursor, default_database, &mut out);
    } else if cursor.takes(&["RENAME"]) {
        if cursor.takes(&["TABLE"]) || cursor.takes(&["TABLES"]) {
            out.kind = "rename table";
            cursor.takes(&["IF", "EXISTS"]);
            out.changes = rename(cursor, default_database, &mut out.tables);
        } else {
            out.kind = "rename user";
        }
    } else if cursor.takes(&["TRUNCATE"]) {
        out.kind = "truncate table";
        cursor.takes(&["TABLE"]);
        out.changes = cursor.table_name(default_database).map(|table| {
            out.tables.push(table);
            Vec::new()
        });
    }
    out
}

fn create(cursor: &mut Cursor<'_>, default_database: &str, out: &mut Statement) {
    let replace = cursor.takes(&["OR", "REPLACE"]);
    if cursor.takes(&["TEMPORARY", "TABLE"]) {
        // It never has rows in a log, and hides no other table from rows that are there.
        out.kind = "create temporary table";
    } else if cursor.takes(&["TABLE"]) {
        out.kind = "create table";
        out.changes = create_table(cursor, default_database, replace, &mut out.tables);
    } else if cursor.takes(&["DATABASE"]) || cursor.takes(&["SCHEMA"]) {
        out.kind = "create database";
        out.changes = create_database(cursor);
    } else if cursor.takes(&["SEQUENCE"]) {
        out.kind = "create sequence";
        cursor.takes(&["IF", "NOT", "EXISTS"]);
        out.changes = cursor.table_name(default_database).map(|table| {
            out.tables.push(table.clone());
            vec![Change::Create(Box::new(sequence(table)))]
        });
    } else {
        let from = cursor.position();
        let unique = cursor.takes(&["UNIQUE"]);
        cursor.takes_any(&["FULLTEXT", "SPATIAL", "VECTOR", "ONLINE", "OFFLINE"]);
        if cursor.takes(&["INDEX"]) {
            out.kind = "create index";
            out.changes = create_index(cursor, default_database, unique, &mut out.tables);
            return;
        }
        cursor.rewind(from);
        out.kind = other_object(
            cursor,
            &[
                ("VIEW", "create view"),
                ("TRIGGER", "create trigger"),
                ("PROCEDURE", "create procedure"),
                ("FUNCTION", "create function"),
                ("EVENT", "create event"),
                ("USER", "create user"),
                ("ROLE", "create role"),
                ("SERVER", "create server"),
                ("PACKAGE", "create package"),
                ("TABLESPACE", "create tablespace"),
                ("RESOURCE", "create resource group"),
                ("SPATIAL", "create spatial reference system"),
            ],
        );
    }
}

/// The kind by the first of these keywords, which may stand behind DEFINER, ALGORITHM and the like.
fn other_object(cursor: &mut Cursor<'_>, known: &[(&str, &'static str)]) -> &'static str {
    const AHEAD_MAX: usize = 30;
    for _ in 0..AHEAD_MAX {
        if let Some((_, kind)) = known.iter().find(|(keyword, _)| cursor.sees(&[keyword])) {
            return kind;
        }
        cursor.bump();
    }
    "ddl"
}

fn alter(cursor: &mut Cursor<'_>, default_database: &str, out: &mut Statement) {
    cursor.takes_any(&["ONLINE", "OFFLINE"]);
    cursor.takes(&["IGNORE"]);
    if cursor.takes(&["TABLE"]) {
        out.kind = "alter table";
        out.changes = alter_table(cursor, default_database, &mut out.tables);
    } else if cursor.takes(&["DATABASE"]) || cursor.takes(&["SCHEMA"]) {
        out.kind = "alter database";
        out.changes = alter_database(cursor, default_database);
    } else {
        out.kind = other_object(
            cursor,
            &[
                ("VIEW", "alter view"),
                ("SEQUENCE", "alter sequence"),
                ("PROCEDURE", "alter procedure"),
                ("FUNCTION", "alter function"),
                ("EVENT", "alter event"),
                ("USER", "alter user"),
                ("SERVER", "alter server"),
                ("TABLESPACE", "alter tablespace"),
                ("INSTANCE", "alter instance"),
            ],
        );
    }
}

fn drop_statement(cursor: &mut Cursor<'_>, default_database: &str, out: &mut Statement) {
    if cursor.takes(&["TEMPORARY", "TABLE"]) || cursor.takes(&["TEMPORARY", "TABLES"]) {
        out.kind = "drop temporary table";
    } else if cursor.takes(&["TABLE"]) || cursor.takes(&["TABLES"]) || cursor.takes(&["SEQUENCE"]) {
        out.kind = "drop table";
        cursor.takes(&["IF", "EXISTS"]);
        out.changes = (|| {
            let mut changes = Vec::new();
            loop {
                let table = cursor.table_name(default_database)?;
                out.tables.push(table.clone());
                changes.push(Change::Drop(table));
                if !cursor.takes_symbol(',') {
                    return Ok(changes);
                }
            }
        })();
    } else if cursor.takes(&["DATABASE"]) || cursor.takes(&["SCHEMA"]) {
        out.kind = "drop database";
        cursor.takes(&["IF", "EXISTS"]);
        out.changes = cursor.name().map(|name| vec![Change::DropDatabase(name)]);
    } else {
        let from = cursor.position();
        cursor.takes_any(&["ONLINE", "OFFLINE"]);
        if cursor.takes(&["INDEX"]) {
            out.kind = "drop index";
            out.changes = drop_index(cursor, default_database, &mut out.tables);
            return;
        }
        cursor.rewind(from);
        out.kind = other_object(
            cursor,
            &[
                ("VIEW", "drop view"),
                ("TRIGGER", "drop trigger"),
                ("PROCEDURE", "drop procedure"),
                ("FUNCTION", "drop function"),
                ("EVENT", "drop event"),
                ("USER", "drop user"),
                ("ROLE", "drop role"),
                ("SERVER", "drop server"),
                ("PACKAGE", "drop package"),
                ("TABLESPACE", "drop tablespace"),
                ("RESOURCE", "drop resource group"),
                ("SPATIAL", "drop spatial reference system"),
                // A prepared statement.
                ("PREPARE", ""),
            ],
        );
    }
}

fn create_database(cursor: &mut Cursor<'_>) -> Result<Vec<Change>, Unclear> {
    cursor.takes(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name()?;
    let charset = database_charset(cursor)?;
    Ok(vec![Change::CreateDatabase(name, charset)])
}

fn alter_database(cursor: &mut Cursor<'_>, default_database: &str) -> Result<Vec<Change>, Unclear> {
    const OPTIONS: [&str; 7] = ["DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "COMMENT", "UPGRADE", "READ"];
    let named = !OPTIONS.iter().any(|option| cursor.sees(&[option])) && !cursor.sees(&["ENCRYPTION"]);
    let name = if named { cursor.name()? } else { default_database.to_owned() };
    let charset = database_charset(cursor)?;
    Ok(charset.map(|charset| Change::AlterDatabase(name, charset)).into_iter().collect())
}

fn database_charset(cursor: &mut Cursor<'_>) -> Result<Option<Characters>, Unclear> {
    let mut found = None;
    while !cursor.is_end() {
        if !charset_option(cursor, &mut found)? {
            cursor.bump();
        }
    }
    Ok(found)
}

/// `[DEFAULT] CHARACTER SET [=] x` or `[DEFAULT] COLLATE [=] x`, if one stands here.
pub(super) fn charset_option(cursor: &mut Cursor<'_>, found: &mut Option<Characters>) -> Result<bool, Unclear> {
    let from = cursor.position();
    cursor.takes(&["DEFAULT"]);
    if cursor.takes(&["CHARACTER", "SET"]) || cursor.takes(&["CHAR", "SET"]) || cursor.takes(&["CHARSET"]) {
        cursor.takes_symbol('=');
        if cursor.takes(&["DEFAULT"]) {
            return Ok(true);
        }
        let name = cursor.name_or_text()?;
        let set = Characters::of_charset(&name).ok_or_else(|| Unclear(format!("no charset is called `{name}`")))?;
        match found {
            Some(known) if !known.collation.is_empty() => known.charset = set.charset,
            _ => *found = Some(set),
        }
    } else if cursor.takes(&["COLLATE"]) {
        cursor.takes_symbol('=');
        if cursor.takes(&["DEFAULT"]) {
            return Ok(true);
        }
        let name = cursor.name_or_text()?;
        *found = Some(Characters::of_collation(&name, &found.clone().unwrap_or_default()));
    } else {
        cursor.rewind(from);
        return Ok(false);
    }
    Ok(true)
}

fn create_table(
    cursor: &mut Cursor<'_>,
    default_database: &str,
    replace: bool,
    tables: &mut Vec<Name>,
) -> Result<Vec<Change>, Unclear> {
    let if_not_exists = cursor.takes(&["IF", "NOT", "EXISTS"]);
    let table = cursor.table_name(default_database)?;
    tables.push(table.clone());
    let from = cursor.position();
    let parenthesis = cursor.takes_symbol('(');
    if cursor.takes(&["LIKE"]) {
        let other = cursor.table_name(default_database)?;
        let mut changes = vec![Change::Like { table: table.clone(), other, if_not_exists }];
        if replace {
            changes.insert(0, Change::Drop(table));
        }
        return Ok(changes);
    }
    cursor.rewind(from);
    if !parenthesis || selects(cursor) {
        return Err(Unclear("its columns come from a SELECT".into()));
    }
    cursor.bump();
    // Charset options stand behind the columns that inherit them.
    let mut new = NewTable { table: table.clone(), if_not_exists, ..NewTable::default() };
    let columns_at = cursor.position();
    skip_list(cursor)?;
    table_options(cursor, &mut new)?;
    let options_end = cursor.position();
    cursor.rewind(columns_at);
    let inherited = new.charset.clone().unwrap_or_default();
    loop {
        new.items.push(item(cursor, &inherited, default_database)?);
        if cursor.takes_symbol(')') {
            break;
        }
        cursor.expect(',')?;
    }
    cursor.rewind(options_end);
    if selects(cursor) {
        return Err(Unclear("some of its columns come from a SELECT".into()));
    }
    let mut changes = Vec::new();
    if replace {
        changes.push(Change::Drop(table));
    }
    changes.push(Change::Create(Box::new(new)));
    Ok(changes)
}

/// Passes over the rest of a list whose opening parenthesis is taken, and its end.
fn skip_list(cursor: &mut Cursor<'_>) -> Result<(), Unclear> {
    loop {
        cursor.skip_item()?;
        if cursor.takes_symbol(')') {
            return Ok(());
        }
        cursor.expect(',')?;
    }
}

/// Whether a query stands here.
fn selects(cursor: &mut Cursor<'_>) -> bool {
    let from = cursor.position();
    cursor.takes_any(&["IGNORE", "REPLACE"]);
    cursor.takes(&["AS"]);
    while cursor.takes_symbol('(') {}
    let found = ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| cursor.sees(&[word]));
    cursor.rewind(from);
    found
}

/// Options of CREATE TABLE up to the end or a query. Those that do not concern rows are passed over.
fn table_options(cursor: &mut Cursor<'_>, new: &mut NewTable) -> Result<(), Unclear> {
    loop {
        // Texts of SHOW CREATE TABLE have nothing between one table and the next.
        let next = cursor.is_end() || cursor.sees(&["CREATE", "TABLE"]);
        if next || selects(cursor) && !cursor.sees(&["WITH", "SYSTEM"]) {
            return Ok(());
        }
        if charset_option(cursor, &mut new.charset)? {
        } else if cursor.takes(&["WITH", "SYSTEM", "VERSIONING"]) {
            new.system_versioned = true;
        } else if cursor.sees_symbol('(') {
            cursor.skip_parentheses()?;
        } else {
            cursor.bump();
        }
    }
}

/// The table behind a MariaDB sequence.
fn sequence(table: Name) -> NewTable {
    let text = "next_not_cached_value bigint not null, minimum_value bigint not null, maximum_value bigint not null, \
                start_value bigint not null, increment bigint not null, cache_size bigint unsigned not null, \
                cycle_option tinyint(1) unsigned not null, cycle_count bigint not null)";
    let mut cursor = Cursor::new(text, super::token::Dialect::default());
    let mut new = NewTable { table, ..NewTable::default() };
    while let Ok(item) = item(&mut cursor, &Characters::default(), "") {
        new.items.push(item);
        if !cursor.takes_symbol(',') {
            break;
        }
    }
    new
}

/// A column, key or constraint.
fn item(cursor: &mut Cursor<'_>, inherited: &Characters, default_database: &str) -> Result<Item, Unclear> {
    if let Some(item) = constraint(cursor, default_database)? {
        return Ok(item);
    }
    if cursor.takes(&["PERIOD", "FOR"]) {
        cursor.skip_item()?;
        return Ok(Item::Other);
    }
    let name = cursor.name()?;
    Ok(Item::Column(Box::new(column::definition(cursor, name, inherited, default_database)?)))
}

/// A key or constraint, if one stands here. A column may be called `key` in quotes only, which is no keyword.
pub(super) fn constraint(cursor: &mut Cursor<'_>, default_database: &str) -> Result<Option<Item>, Unclear> {
    let mut name = String::new();
    if cursor.takes(&["CONSTRAINT"]) {
        let unnamed = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().any(|word| cursor.sees(&[word]));
        if !unnamed {
            name = cursor.name()?;
        }
    }
    if cursor.takes(&["PRIMARY", "KEY"]) {
        return Ok(Some(Item::Key(key(cursor, true, "PRIMARY".into())?)));
    }
    if cursor.takes(&["UNIQUE"]) {
        if cursor.takes_any(&["KEY", "INDEX"]).is_none() && cursor.sees_symbol('(') {
            return Ok(Some(Item::Key(key(cursor, false, name)?)));
        }
        return Ok(Some(Item::Key(key(cursor, false, name)?)));
    }
    if cursor.takes(&["FOREIGN", "KEY"]) {
        while !cursor.is_end() && !cursor.takes(&["REFERENCES"]) {
            if cursor.sees_symbol('(') {
                cursor.skip_parentheses()?;
            } else {
                cursor.bump();
            }
        }
        return Ok(Some(Item::ForeignKey(column::references(cursor, default_database)?)));
    }
    let from = cursor.position();
    if cursor.takes_any(&["KEY", "INDEX"]).is_some() {
        if let Ok(index) = key(cursor, false, name) {
            return Ok(Some(Item::Index(index)));
        }
        // Indexes do not concern rows: one that is not understood is only passed over.
        cursor.rewind(from);
        cursor.skip_item()?;
        return Ok(Some(Item::Other));
    }
    let indexes = cursor.sees(&["FULLTEXT"]) || cursor.sees(&["SPATIAL"]);
    let vector = cursor.sees(&["VECTOR", "KEY"]) || cursor.sees(&["VECTOR", "INDEX"]);
    if indexes || vector || cursor.sees(&["CHECK"]) {
        cursor.skip_item()?;
        return Ok(Some(Item::Other));
    }
    Ok(None)
}

/// `[name] [USING x] (parts) options`.
fn key(cursor: &mut Cursor<'_>, primary: bool, mut name: String) -> Result<NewKey, Unclear> {
    cursor.takes(&["IF", "NOT", "EXISTS"]);
    if !cursor.sees_symbol('(') && !cursor.sees(&["USING"]) && !cursor.sees(&["TYPE"]) {
        let given = cursor.name()?;
        if !primary {
            name = given;
        }
    }
    if cursor.takes(&["USING"]) || cursor.takes(&["TYPE"]) {
        cursor.bump();
    }
    let parts = key_parts(cursor)?;
    cursor.skip_item()?;
    Ok(NewKey { primary, name, parts })
}

/// `(column [(prefix)] [ASC|DESC], …)`; `None` when an expression is among them.
fn key_parts(cursor: &mut Cursor<'_>) -> Result<Option<Vec<(String, u32)>>, Unclear> {
    cursor.expect('(')?;
    let mut parts = Some(Vec::new());
    loop {
        if cursor.sees_symbol('(') {
            parts = None;
        } else {
            let column = cursor.name()?;
            let mut prefix = 0;
            if cursor.takes_symbol('(') {
                prefix = u32::try_from(cursor.number()?).unwrap_or(u32::MAX);
                cursor.expect(')')?;
            }
            if let Some(parts) = &mut parts {
                parts.push((column, prefix));
            }
        }
        cursor.skip_item()?;
        if cursor.takes_symbol(')') {
            return Ok(parts);
        }
        cursor.expect(',')?;
    }
}

fn create_index(
    cursor: &mut Cursor<'_>,
    default_database: &str,
    unique: bool,
    tables: &mut Vec<Name>,
) -> Result<Vec<Change>, Unclear> {
    cursor.takes(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name()?;
    while !cursor.takes(&["ON"]) {
        if cursor.is_end() {
            return Err(cursor.unclear("ON"));
        }
        cursor.bump();
    }
    let table = cursor.table_name(default_database)?;
    tables.push(table.clone());
    let actions = if unique {
        vec![Action::AddKey(NewKey { primary: false, name, parts: key_parts(cursor)? })]
    } else {
        key_parts(cursor)
            .ok()
            .map(|parts| Action::AddIndex(NewKey { primary: false, name, parts }))
            .into_iter()
            .collect()
    };
    Ok(vec![Change::Alter(table, actions)])
}

fn drop_index(cursor: &mut Cursor<'_>, default_database: &str, tables: &mut Vec<Name>) -> Result<Vec<Change>, Unclear> {
    cursor.takes(&["IF", "EXISTS"]);
    let name = cursor.name()?;
    if !cursor.takes(&["ON"]) {
        return Err(cursor.unclear("ON"));
    }
    let table = cursor.table_name(default_database)?;
    tables.push(table.clone());
    let action = if name.eq_ignore_ascii_case("PRIMARY") { Action::DropPrimaryKey } else { Action::DropKey(name) };
    Ok(vec![Change::Alter(table, vec![action])])
}

fn rename(cursor: &mut Cursor<'_>, default_database: &str, tables: &mut Vec<Name>) -> Result<Vec<Change>, Unclear> {
    let mut changes = Vec::new();
    loop {
        let from = cursor.table_name(default_database)?;
        wait_option(cursor);
        tables.push(from.clone());
        if !cursor.takes(&["TO"]) {
            return Err(cursor.unclear("TO"));
        }
        let to = cursor.table_name(default_database)?;
        tables.push(to.clone());
        changes.push(Change::Rename(from, to));
        if !cursor.takes_symbol(',') {
            return Ok(changes);
        }
    }
}

/// MariaDB's WAIT n or NOWAIT.
pub(super) fn wait_option(cursor: &mut Cursor<'_>) {
    if cursor.takes(&["WAIT"]) {
        cursor.bump();
    } else {
        cursor.takes(&["NOWAIT"]);
    }
}

/// Whether another CREATE TABLE begins here: texts of SHOW CREATE TABLE have no semicolons between them.
pub(super) fn next_create(cursor: &mut Cursor<'_>) -> bool {
    while let Some(token) = cursor.peek() {
        if token.kind == Kind::Word && cursor.sees(&["CREATE", "TABLE"]) {
            return true;
        }
        cursor.bump();
    }
    false
}
