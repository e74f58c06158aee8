//! ALTER TABLE: its actions.

use super::column::{self, Characters};
use super::cursor::{Cursor, Unclear};
use super::parse::{Action, Change, Item, Name, Place, charset_option, constraint, wait_option};

pub(super) fn alter_table(
    cursor: &mut Cursor<'_>,
    default_database: &str,
    tables: &mut Vec<Name>,
) -> Result<Vec<Change>, Unclear> {
    cursor.takes(&["IF", "EXISTS"]);
    let table = cursor.table_name(default_database)?;
    tables.push(table.clone());
    wait_option(cursor);
    let mut actions = Vec::new();
    while !cursor.is_end() {
        action(cursor, default_database, &mut actions)?;
        if !cursor.takes_symbol(',') && !cursor.is_end() {
            // Options may follow each other without commas.
            continue;
        }
    }
    for action in &actions {
        if let Action::RenameTable(to) = action {
            tables.push(to.clone());
        }
    }
    Ok(vec![Change::Alter(table, actions)])
}

/// Options of a table that ALTER may set, which do not concern rows.
const TABLE_OPTIONS: &[&str] = &[
    "ENGINE",
    "TYPE",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "TABLE_CHECKSUM",
    "COMMENT",
    "COMPRESSION",
    "CONNECTION",
    "DATA",
    "DELAY_KEY_WRITE",
    "ENCRYPTION",
    "ENCRYPTED",
    "ENCRYPTION_KEY_ID",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "PAGE_CHECKSUM",
    "PAGE_COMPRESSED",
    "PAGE_COMPRESSION_LEVEL",
    "PASSWORD",
    "ROW_FORMAT",
    "SEQUENCE",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "TABLESPACE",
    "STORAGE",
    "TRANSACTIONAL",
    "UNION",
    "AUTOEXTEND_SIZE",
    "ENGINE_ATTRIBUTE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "SECONDARY_ENGINE",
    "SECONDARY_LOAD",
    "SECONDARY_UNLOAD",
    "START",
    "IETF_QUOTES",
    "ITEF_QUOTES",
    "LOCK",
    "ALGORITHM",
    "ENABLE",
    "DISABLE",
    "FORCE",
    "ORDER",
    "DISCARD",
    "IMPORT",
    "PARTITION",
    "REMOVE",
    "REORGANIZE",
    "COALESCE",
    "REBUILD",
    "OPTIMIZE",
    "ANALYZE",
    "CHECK",
    "REPAIR",
    "TRUNCATE",
    "EXCHANGE",
    "UPGRADE",
    "WITH",
    "WITHOUT",
    "INDEX",
    "NOWAIT",
    "WAIT",
];

fn action(cursor: &mut Cursor<'_>, default_database: &str, actions: &mut Vec<Action>) -> Result<(), Unclear> {
    let mut charset = None;
    if cursor.takes(&["ADD"]) {
        return add(cursor, default_database, actions);
    } else if cursor.takes(&["DROP"]) {
        return drop_action(cursor, actions);
    } else if cursor.takes(&["MODIFY"]) || cursor.sees(&["CHANGE"]) {
        let change = cursor.takes(&["CHANGE"]);
        cursor.takes(&["COLUMN"]);
        let if_exists = cursor.takes(&["IF", "EXISTS"]);
        let old = cursor.name()?;
        let name = if change { cursor.name()? } else { old.clone() };
        let column = Box::new(column::definition(cursor, name, &Characters::default(), default_database)?);
        let place = place(cursor)?;
        actions.push(Action::Change { old, column, place, if_exists });
    } else if cursor.takes(&["RENAME"]) {
        if cursor.takes(&["COLUMN"]) {
            cursor.takes(&["IF", "EXISTS"]);
            let old = cursor.name()?;
            cursor.takes(&["TO"]);
            actions.push(Action::RenameColumn { old, new: cursor.name()? });
        } else if cursor.takes_any(&["INDEX", "KEY"]).is_some() {
            cursor.takes(&["IF", "EXISTS"]);
            let old = cursor.name()?;
            cursor.takes(&["TO"]);
            actions.push(Action::RenameKey(old, cursor.name()?));
        } else {
            if cursor.takes_any(&["TO", "AS"]).is_none() {
                cursor.takes_symbol('=');
            }
            actions.push(Action::RenameTable(cursor.table_name(default_database)?));
        }
    } else if cursor.takes(&["ALTER"]) {
        if cursor.takes_any(&["INDEX", "KEY", "CONSTRAINT", "CHECK"]).is_some() {
            return cursor.skip_item();
        }
        cursor.takes(&["COLUMN"]);
        cursor.takes(&["IF", "EXISTS"]);
        let name = cursor.name()?;
        if cursor.takes(&["SET", "INVISIBLE"]) {
            actions.push(Action::SetInvisible(name, true));
        } else if cursor.takes(&["SET", "VISIBLE"]) {
            actions.push(Action::SetInvisible(name, false));
        } else if cursor.takes(&["SET", "DEFAULT"]) {
            let from = cursor.position();
            cursor.skip_item()?;
            actions.push(Action::SetDefault(name, cursor.text_since(from).to_owned()));
        } else if cursor.takes(&["DROP", "DEFAULT"]) {
            actions.push(Action::SetDefault(name, String::new()));
        } else {
            return Err(cursor.unclear("SET or DROP DEFAULT"));
        }
    } else if cursor.takes(&["CONVERT"]) {
        if cursor.takes(&["PARTITION"]) || cursor.takes(&["TABLE"]) {
            return cursor.skip_item();
        }
        if !cursor.takes(&["TO"]) {
            return Err(cursor.unclear("TO"));
        }
        while charset_option(cursor, &mut charset)? {}
        if let Some(charset) = charset {
            actions.push(Action::Convert(charset));
        }
    } else if charset_option(cursor, &mut charset)? {
        while charset_option(cursor, &mut charset)? {}
        if let Some(charset) = charset {
            actions.push(Action::DefaultCharset(charset));
        }
    } else if cursor.word().is_some_and(|word| TABLE_OPTIONS.iter().any(|known| word.eq_ignore_ascii_case(known))) {
        // Not to the next comma: `ENGINE=InnoDB ADD COLUMN` has none.
        cursor.bump();
        if cursor.takes_symbol('=') {
            cursor.bump();
            if cursor.sees_symbol('(') {
                cursor.skip_parentheses()?;
            }
        } else {
            return cursor.skip_item();
        }
    } else if cursor.name().is_ok() && cursor.takes_symbol('=') {
        // An option of the engine.
        cursor.bump();
    } else {
        return Err(cursor.unclear("an action of ALTER TABLE"));
    }
    Ok(())
}

fn add(cursor: &mut Cursor<'_>, default_database: &str, actions: &mut Vec<Action>) -> Result<(), Unclear> {
    if cursor.takes(&["SYSTEM", "VERSIONING"]) {
        actions.push(Action::AddSystemVersioning);
        return Ok(());
    }
    if cursor.sees(&["PARTITION"]) || cursor.sees(&["PERIOD", "FOR"]) {
        return cursor.skip_item();
    }
    let keyword = cursor.takes(&["COLUMN"]);
    let if_not_exists = cursor.takes(&["IF", "NOT", "EXISTS"]);
    if cursor.takes_symbol('(') {
        loop {
            added_item(cursor, default_database, if_not_exists, actions)?;
            if cursor.takes_symbol(')') {
                return Ok(());
            }
            cursor.expect(',')?;
        }
    }
    if keyword {
        return add_column(cursor, default_database, if_not_exists, actions);
    }
    added_item(cursor, default_database, if_not_exists, actions)
}

fn added_item(
    cursor: &mut Cursor<'_>,
    default_database: &str,
    if_not_exists: bool,
    actions: &mut Vec<Action>,
) -> Result<(), Unclear> {
    match constraint(cursor, default_database)? {
        Some(Item::Key(key)) => actions.push(Action::AddKey(key)),
        Some(Item::Index(index)) => actions.push(Action::AddIndex(index)),
        Some(Item::ForeignKey(other)) => actions.push(Action::AddForeignKey(other)),
        Some(_) => {}
        None => add_column(cursor, default_database, if_not_exists, actions)?,
    }
    Ok(())
}

fn add_column(
    cursor: &mut Cursor<'_>,
    default_database: &str,
    if_not_exists: bool,
    actions: &mut Vec<Action>,
) -> Result<(), Unclear> {
    let name = cursor.name()?;
    let column = Box::new(column::definition(cursor, name, &Characters::default(), default_database)?);
    let place = place(cursor)?;
    actions.push(Action::Add { column, place, if_not_exists });
    Ok(())
}

fn place(cursor: &mut Cursor<'_>) -> Result<Place, Unclear> {
    if cursor.takes(&["FIRST"]) {
        Ok(Place::First)
    } else if cursor.takes(&["AFTER"]) {
        cursor.name().map(Place::After)
    } else {
        Ok(Place::Here)
    }
}

fn drop_action(cursor: &mut Cursor<'_>, actions: &mut Vec<Action>) -> Result<(), Unclear> {
    if cursor.takes(&["PRIMARY", "KEY"]) {
        actions.push(Action::DropPrimaryKey);
    } else if cursor.takes(&["SYSTEM", "VERSIONING"]) {
        actions.push(Action::DropSystemVersioning);
    } else if cursor.takes_any(&["INDEX", "KEY"]).is_some() {
        cursor.takes(&["IF", "EXISTS"]);
        let name = cursor.name()?;
        let primary = name.eq_ignore_ascii_case("PRIMARY");
        actions.push(if primary { Action::DropPrimaryKey } else { Action::DropKey(name) });
    } else if cursor.takes(&["CONSTRAINT"]) {
        // Of all constraints only a unique key concerns rows, and it is a key.
        cursor.takes(&["IF", "EXISTS"]);
        actions.push(Action::DropKey(cursor.name()?));
    } else if cursor.takes(&["FOREIGN", "KEY"])
        || cursor.takes(&["CHECK"])
        || cursor.takes(&["PERIOD"])
        || cursor.takes(&["PARTITION"])
    {
        return cursor.skip_item();
    } else {
        cursor.takes(&["COLUMN"]);
        let if_exists = cursor.takes(&["IF", "EXISTS"]);
        let name = cursor.name()?;
        cursor.takes_any(&["RESTRICT", "CASCADE"]);
        actions.push(Action::DropColumn { name, if_exists });
    }
    Ok(())
}
