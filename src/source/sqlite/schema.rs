//! What the database's tables are, as SQLite itself reads their definitions.
//!
//! The rows of `sqlite_schema` come from the b-tree on page 1. The text of each CREATE statement is put into an in-memory
//! database's `sqlite_schema` under `writable_schema`, which tolerates functions and collations that only the
//! application has; PRAGMAs then say what the columns are and in which order a record stores them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::page::{Encoding, TreeKind};
use super::record::{self, Collation, Field, KeyPart, Value};
use crate::error::{Class, Error, Result};

/// Kinds of schema objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table with a tree of its own.
    Table,
    /// A virtual table: an entry of the schema, while its data is in ordinary shadow tables.
    Virtual,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
}

/// One row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its rowid in the schema table.
    pub rowid: i64,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The table it belongs to.
    pub table: String,
    /// Root page, 0 when it has none.
    pub root: u32,
    /// The CREATE statement; automatic indexes have none.
    pub sql: Option<String>,
}

impl Object {
    /// Whether the name is one that only SQLite itself may use.
    pub fn is_system(&self) -> bool {
        is_system_name(&self.name)
    }
}

/// Whether `name` is one that only SQLite itself may use.
pub fn is_system_name(name: &str) -> bool {
    name.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("sqlite_"))
}

/// A column's type affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// The affinity of a declared type; "Determination Of Column Affinity" in SQLite's documentation.
    pub fn of(declared: &str, strict: bool) -> Affinity {
        let upper = declared.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if strict && upper == "ANY" {
            Affinity::Blob
        } else if has("INT") {
            Affinity::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Affinity::Text
        } else if has("BLOB") || upper.is_empty() {
            Affinity::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }
}

/// Whether and how a column is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// Not at all.
    No,
    /// When read; not in the record.
    Virtual,
    /// When written; in the record.
    Stored,
}

/// A value of its own, for defaults.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum OwnedValue {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl OwnedValue {
    fn borrow(&self) -> Value<'_> {
        match self {
            OwnedValue::Null => Value::Null,
            OwnedValue::Int(n) => Value::Int(*n),
            OwnedValue::Real(r) => Value::Real(*r),
            OwnedValue::Text(t) => Value::Text(t),
            OwnedValue::Blob(b) => Value::Blob(b),
        }
    }
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type as declared, perhaps empty.
    pub declared: String,
    /// Its affinity.
    pub affinity: Affinity,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Whether it is computed.
    pub generated: Generated,
    /// What a record that is too short to hold it means.
    pub default: OwnedValue,
    /// Its place in the record.
    slot: Option<u16>,
}

/// A UNIQUE constraint or index.
#[derive(Clone, Debug)]
pub struct Unique {
    /// Its columns; `None` when rows do not show what it compares: an expression, or a partial index.
    pub columns: Option<Vec<usize>>,
    /// How each is compared.
    pub parts: Vec<KeyPart>,
    /// Whether it is the declared primary key.
    pub primary: bool,
}

/// A foreign key.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The table it points to.
    pub table: String,
    /// Own columns and the names of the others', which are empty when it points to the primary key.
    pub columns: Vec<(usize, String)>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Rowid of its row in `sqlite_schema`.
    pub schema_rowid: i64,
    /// Root page.
    pub root: u32,
    /// Its CREATE statement.
    pub sql: String,
    /// Its columns, in order of declaration.
    pub columns: Vec<Column>,
    /// Whether rows are the entries of an index tree.
    pub without_rowid: bool,
    /// Whether it is STRICT.
    pub strict: bool,
    /// The column that is another name of the rowid.
    pub rowid_alias: Option<usize>,
    /// A name by which statements can reach the rowid; `None` when columns shadow all three, or there is no rowid.
    pub rowid_name: Option<&'static str>,
    /// Columns of the declared primary key, in its order.
    pub primary_key: Vec<usize>,
    /// Further UNIQUE constraints and indexes.
    pub uniques: Vec<Unique>,
    /// What it refers to.
    pub references: Vec<Reference>,
    /// Order of the tree's keys (WITHOUT ROWID).
    pub key_parts: Vec<KeyPart>,
    /// Whether rowids are never used again.
    pub autoincrement: bool,
    /// How text is stored.
    pub encoding: Encoding,
    /// What this description was made from.
    made_from: Vec<String>,
}

impl Table {
    /// Kind of its tree.
    pub fn tree_kind(&self) -> TreeKind {
        if self.without_rowid { TreeKind::Index } else { TreeKind::Table }
    }

    /// Whether it is one of SQLite's own.
    pub fn is_system(&self) -> bool {
        is_system_name(&self.name)
    }

    /// Whether both were described from the same statements.
    pub fn is_same_definition(&self, other: &Table) -> bool {
        self.made_from == other.made_from && self.name == other.name && self.encoding == other.encoding
    }

    /// Whether the order of changes within a transaction matters: some uniqueness besides the tree's own key, or keys
    /// whose order is not known for sure.
    pub fn needs_order(&self) -> bool {
        !self.uniques.is_empty() || self.key_parts.iter().any(|part| part.collation != Collation::Binary)
    }

    /// Whether changing this column may break a uniqueness until other rows of the transaction have changed too.
    #[inline]
    pub fn is_unique_column(&self, column: usize) -> bool {
        self.uniques.iter().any(|unique| unique.columns.as_ref().is_none_or(|columns| columns.contains(&column)))
    }

    /// A column of a stored row.
    #[inline]
    pub fn value<'a>(&'a self, rowid: i64, payload: &'a [u8], fields: &[Field], column: usize) -> Value<'a> {
        if self.rowid_alias == Some(column) {
            return Value::Int(rowid);
        }
        let Some(column) = self.columns.get(column) else { return Value::Null };
        let Some(slot) = column.slot else { return Value::Null };
        match fields.get(slot as usize) {
            None => column.default.borrow(),
            Some(field) => match record::value(payload, *field) {
                Value::Int(n) if column.affinity == Affinity::Real => Value::Real(n as f64),
                value => value,
            },
        }
    }
}

/// All objects at one moment.
#[derive(Clone, Debug)]
pub struct Schema {
    /// How text is stored.
    pub encoding: Encoding,
    /// Every row of `sqlite_schema` that is understood, by rowid.
    pub objects: Vec<Object>,
    /// The tables that have a tree, by rowid of their schema row.
    pub tables: Vec<Arc<Table>>,
    /// Root page to place in `tables`.
    pub by_root: HashMap<u32, usize>,
}

impl Schema {
    /// A schema without objects.
    pub fn empty(encoding: Encoding) -> Schema {
        Schema { encoding, objects: Vec::new(), tables: Vec::new(), by_root: HashMap::new() }
    }

    /// Describes the tables among `objects`; descriptions that `before` already has are taken from there.
    pub fn describe(
        objects: Vec<Object>,
        encoding: Encoding,
        before: Option<&Schema>,
        reader: &mut DefinitionReader,
    ) -> Result<Schema> {
        let mut known: HashMap<&str, &Arc<Table>> = HashMap::new();
        if let Some(before) = before.filter(|before| before.encoding == encoding) {
            known.extend(before.tables.iter().map(|table| (table.name.as_str(), table)));
        }
        let mut unique_indexes: HashMap<String, Vec<&Object>> = HashMap::new();
        for index in objects.iter().filter(|o| o.kind == ObjectKind::Index) {
            if index.sql.as_deref().is_some_and(|sql| sql.starts_with("CREATE UNIQUE")) {
                unique_indexes.entry(index.table.to_ascii_lowercase()).or_default().push(index);
            }
        }
        let mut tables = Vec::new();
        let mut by_root = HashMap::new();
        for object in objects.iter().filter(|o| o.kind == ObjectKind::Table && o.root != 0) {
            let Some(sql) = &object.sql else { continue };
            let indexes = unique_indexes.get(&object.name.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default();
            let mut made_from = vec![sql.clone()];
            made_from.extend(indexes.iter().filter_map(|index| index.sql.clone()));
            let table = match known.get(object.name.as_str()) {
                Some(table) if table.made_from == made_from => {
                    if table.root == object.root && table.schema_rowid == object.rowid {
                        Arc::clone(table)
                    } else {
                        let moved = Table { root: object.root, schema_rowid: object.rowid, ..Table::clone(table) };
                        Arc::new(moved)
                    }
                }
                _ => Arc::new(reader.table(object, indexes, encoding, made_from)?),
            };
            by_root.insert(object.root, tables.len());
            tables.push(table);
        }
        Ok(Schema { encoding, objects, tables, by_root })
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }
}

/// One row of `sqlite_schema` from its stored form; `None` for rows that describe nothing known.
pub fn object(rowid: i64, payload: &[u8], fields: &[Field], encoding: Encoding) -> Option<Object> {
    let mut buffer = Vec::new();
    let mut text = |nth: usize| match fields.get(nth).map(|field| record::value(payload, *field)) {
        Some(Value::Text(text)) => {
            record::to_utf8(text, encoding, &mut buffer);
            Some(String::from_utf8_lossy(&buffer).into_owned())
        }
        _ => None,
    };
    let (kind, name, table, sql) = (text(0)?, text(1)?, text(2)?, text(4));
    let root = match fields.get(3).map(|field| record::value(payload, *field)) {
        Some(Value::Int(root)) => u32::try_from(root).unwrap_or(0),
        _ => 0,
    };
    let kind = match kind.as_str() {
        "table" if root == 0 => ObjectKind::Virtual,
        "table" => ObjectKind::Table,
        "index" => ObjectKind::Index,
        "view" => ObjectKind::View,
        "trigger" => ObjectKind::Trigger,
        _ => return None,
    };
    Some(Object { rowid, kind, name, table, root, sql })
}

/// A name that no user gives a table.
const FILLER: &str = "\u{1}rlog filler";

/// Reads definitions through an in-memory database.
pub struct DefinitionReader {
    connection: Connection,
    /// Pages it has; root pages of the descriptions must lie within.
    pages: u32,
}

impl DefinitionReader {
    /// Opens the in-memory database.
    pub fn new() -> Result<DefinitionReader> {
        let connection = Connection::open_in_memory().map_err(engine)?;
        connection
            .execute_batch(&format!("PRAGMA writable_schema=ON; CREATE TABLE \"{FILLER}\"(x);"))
            .map_err(engine)?;
        let mut reader = DefinitionReader { connection, pages: 0 };
        reader.grow(64)?;
        Ok(reader)
    }

    fn grow(&mut self, pages: u32) -> Result<()> {
        if pages > self.pages {
            self.connection
                .execute(&format!("INSERT INTO \"{FILLER}\" VALUES (zeroblob(?1))"), params![i64::from(pages) * 5000])
                .map_err(engine)?;
            self.pages += pages;
        }
        Ok(())
    }

    fn table(
        &mut self,
        object: &Object,
        indexes: &[&Object],
        encoding: Encoding,
        made_from: Vec<String>,
    ) -> Result<Table> {
        self.grow(u32::try_from(indexes.len()).unwrap_or(u32::MAX - 8) + 8)?;
        self.read(object, indexes, encoding, made_from).map_err(|error| {
            Error::new(Class::Unavailable, format!("table {}: SQLite cannot read its definition: {error}", object.name))
                .caused_by(error)
        })
    }

    fn read(
        &self,
        object: &Object,
        indexes: &[&Object],
        encoding: Encoding,
        made_from: Vec<String>,
    ) -> rusqlite::Result<Table> {
        let db = &self.connection;
        let sql = object.sql.clone().unwrap_or_default();
        db.prepare_cached("DELETE FROM sqlite_schema WHERE name <> ?1")?.execute([FILLER])?;
        let mut insert = db.prepare_cached("INSERT INTO sqlite_schema VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params!["table", object.name, object.name, 3, sql])?;
        for (nth, index) in indexes.iter().enumerate() {
            insert.execute(params!["index", index.name, index.table, 4 + nth as i64, index.sql])?;
        }
        drop(insert);
        // Forget the parsed schema, so that the next statement reads the rows.
        db.execute_batch("PRAGMA writable_schema=RESET; PRAGMA writable_schema=ON;")?;

        let (without_rowid, strict): (bool, bool) = db
            .prepare_cached("SELECT wr, strict FROM pragma_table_list(?1) WHERE schema = 'main'")?
            .query_row([&object.name], |row| Ok((row.get(0)?, row.get(1)?)))?;

        let mut columns = Vec::new();
        let mut primary_key: Vec<(i64, usize)> = Vec::new();
        let mut statement = db.prepare_cached(
            "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid",
        )?;
        let mut rows = statement.query([&object.name])?;
        let mut defaults: Vec<Option<String>> = Vec::new();
        while let Some(row) = rows.next()? {
            let declared: String = row.get(1)?;
            let pk: i64 = row.get(4)?;
            if pk > 0 {
                primary_key.push((pk, columns.len()));
            }
            defaults.push(row.get(3)?);
            columns.push(Column {
                name: row.get(0)?,
                affinity: Affinity::of(&declared, strict),
                declared,
                not_null: row.get(2)?,
                generated: match row.get(5)? {
                    2 => Generated::Virtual,
                    3 => Generated::Stored,
                    _ => Generated::No,
                },
                default: OwnedValue::Null,
                slot: None,
            });
        }
        drop(rows);
        drop(statement);
        for (column, default) in columns.iter_mut().zip(defaults) {
            if let Some(default) = default.filter(|_| column.generated == Generated::No) {
                column.default = self.default(&default, column.affinity, encoding).unwrap_or(OwnedValue::Null);
            }
        }
        primary_key.sort_unstable();
        let primary_key: Vec<usize> = primary_key.into_iter().map(|(_, column)| column).collect();

        let mut uniques = Vec::new();
        let mut key_parts = Vec::new();
        let mut stored: Option<Vec<usize>> = None;
        let mut has_key_index = false;
        let list: Vec<(String, String, bool)> = db
            .prepare_cached("SELECT name, origin, partial FROM pragma_index_list(?1) WHERE \"unique\" ORDER BY name")?
            .query_map([&object.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (name, origin, partial) in list {
            let mut statement =
                db.prepare_cached("SELECT cid, \"desc\", coll, key FROM pragma_index_xinfo(?1) ORDER BY seqno")?;
            let entries: Vec<(i64, bool, String, bool)> = statement
                .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect::<rusqlite::Result<_>>()?;
            has_key_index |= origin == "pk";
            let parts: Vec<KeyPart> = entries.iter().filter(|entry| entry.3).map(key_part).collect();
            if origin == "pk" && without_rowid {
                key_parts = parts;
                stored = Some(entries.iter().filter_map(|entry| usize::try_from(entry.0).ok()).collect());
            } else {
                let columns = entries.iter().filter(|entry| entry.3).map(|entry| usize::try_from(entry.0).ok());
                let columns = columns.collect::<Option<Vec<usize>>>().filter(|_| !partial);
                uniques.push(Unique { columns, parts, primary: origin == "pk" });
            }
        }
        let mut references: Vec<Reference> = Vec::new();
        let mut statement = db.prepare_cached(
            "SELECT id, \"table\", \"from\", coalesce(\"to\", '') FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        )?;
        let mut rows = statement.query([&object.name])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if last.replace(id) != Some(id) {
                references.push(Reference { table: row.get(1)?, columns: Vec::new() });
            }
            let own: String = row.get(2)?;
            let place = columns.iter().position(|column| column.name.eq_ignore_ascii_case(&own));
            if let (Some(reference), Some(place)) = (references.last_mut(), place) {
                reference.columns.push((place, row.get(3)?));
            }
        }
        drop(rows);
        drop(statement);
        let rowid_alias = match primary_key.as_slice() {
            [column] if !without_rowid && !has_key_index => Some(*column),
            _ => None,
        };
        let stored = stored.unwrap_or_else(|| {
            (0..columns.len()).filter(|n| columns.get(*n).is_some_and(|c| c.generated != Generated::Virtual)).collect()
        });
        for (slot, column) in stored.into_iter().enumerate() {
            if let Some(column) = columns.get_mut(column) {
                column.slot = u16::try_from(slot).ok();
            }
        }
        let free = |name: &&'static str| columns.iter().all(|column| !column.name.eq_ignore_ascii_case(name));
        let rowid_name = ["rowid", "_rowid_", "oid"].into_iter().find(free).filter(|_| !without_rowid);
        Ok(Table {
            name: object.name.clone(),
            schema_rowid: object.rowid,
            root: object.root,
            autoincrement: rowid_alias.is_some() && sql.to_ascii_uppercase().contains("AUTOINCREMENT"),
            sql,
            columns,
            without_rowid,
            strict,
            rowid_alias,
            rowid_name,
            primary_key,
            uniques,
            references,
            key_parts,
            encoding,
            made_from,
        })
    }

    /// What a default expression gives in a column of that affinity.
    fn default(&self, expression: &str, affinity: Affinity, encoding: Encoding) -> rusqlite::Result<OwnedValue> {
        let declared = match affinity {
            Affinity::Integer => "INT",
            Affinity::Text => "TEXT",
            Affinity::Blob => "BLOB",
            Affinity::Real => "REAL",
            Affinity::Numeric => "NUMERIC",
        };
        let db = &self.connection;
        db.execute_batch(&format!(
            "DROP TABLE IF EXISTS temp.rlog_default; CREATE TABLE temp.rlog_default(c {declared});"
        ))?;
        db.execute(&format!("INSERT INTO temp.rlog_default VALUES (({expression}))"), [])?;
        let value = db
            .query_row("SELECT c FROM temp.rlog_default", [], |row| row.get::<_, rusqlite::types::Value>(0))
            .optional()?;
        Ok(match value {
            Some(rusqlite::types::Value::Integer(n)) => OwnedValue::Int(n),
            Some(rusqlite::types::Value::Real(r)) => OwnedValue::Real(r),
            Some(rusqlite::types::Value::Text(t)) => OwnedValue::Text(record::from_utf8(&t, encoding)),
            Some(rusqlite::types::Value::Blob(b)) => OwnedValue::Blob(b),
            _ => OwnedValue::Null,
        })
    }
}

fn key_part(entry: &(i64, bool, String, bool)) -> KeyPart {
    let collation = match entry.2.to_ascii_uppercase().as_str() {
        "BINARY" => Collation::Binary,
        "NOCASE" => Collation::NoCase,
        "RTRIM" => Collation::RTrim,
        _ => Collation::Unknown,
    };
    KeyPart { collation, descending: entry.1 }
}

/// An error of the in-memory database, which holds nothing of the user's: a bug, or no memory.
pub(super) fn engine(error: rusqlite::Error) -> Error {
    Error::new(Class::Bug, format!("in-memory SQLite: {error}")).caused_by(error)
}
