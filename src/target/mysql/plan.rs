//! How rows of one definition reach one table of the server: made once per definition, kept until a schema changes.

use std::sync::Arc;

use crate::db::mysql::catalog::{ServerColumn, ServerTable, WireType};
use crate::db::mysql::charset::may_fold;
use crate::db::mysql::literal::table_name;
use crate::db::mysql::rowimage::{RowWriter, Unfit};
use crate::error::{Class, Error, Result};
use crate::event::Column;
use crate::target::{Settings, Table};

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    /// The definition.
    pub table: Arc<Table>,
    /// The table.
    pub server: ServerTable,
    /// Images of its rows.
    pub writer: RowWriter,
    /// `` `database`.`table` ``.
    pub name: String,
    /// Whether row events may be sent.
    pub native: bool,
    /// Slots of the key that identifies a row (target's primary key, else unique without NULLs), in the target's column order.
    pub identity: Option<Vec<usize>>,
    /// Whether and how changes of one row may be collapsed.
    pub collapse: Option<Collapse>,
    /// Number in table maps.
    pub map_id: u64,
}

/// What collapsing needs to know.
#[derive(Debug)]
pub(super) struct Collapse {
    /// For each slot of the identity, how its bytes are made comparable.
    pub trims: Vec<Trim>,
    /// Slots that are part of other unique keys: an update that touches one is a delete and an insert, since all
    /// deletes go first.
    pub unique_slots: Vec<usize>,
}

/// What is not looked at when keys are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trim {
    /// Everything counts.
    Nothing,
    /// Trailing blanks.
    Blanks,
    /// Trailing zero bytes.
    Zeros,
}

impl Plan {
    /// Pairs a definition with the server's table. `native`: the session may send row events; `cascades`: foreign keys act on the target.
    pub(super) fn new(
        table: Arc<Table>,
        server: ServerTable,
        settings: &Settings,
        native: bool,
        cascades: bool,
    ) -> Result<Plan> {
        let definition = &table.definition;
        let name = table_name(&server.database, &server.name)?;
        if !server.transactional && !settings.allow_nontransactional {
            return Err(Error::config(format!(
                "{name} has engine {}, whose changes cannot be rolled back, so that a transaction could be applied in part or twice",
                server.engine
            ))
            .hint(format!("ALTER TABLE {name} ENGINE=InnoDB; or accept that with --allow-nontransactional")));
        }
        let writer = RowWriter::new(definition, &server).map_err(|unfit| {
            let what = match unfit {
                Unfit::NoColumn(column) => format!("{name} has no column {column:?}, which the source's table has"),
                Unfit::ColumnCount => format!(
                    "{name} has {} columns, the source's table has {}, and their names are not in the log",
                    server.columns.len(),
                    definition.columns.len()
                ),
            };
            Error::new(Class::Conflict, what)
                .hint("alter the target's table; or give names with rlog-extract --schema FILE, or binlog_row_metadata=FULL on the source")
        })?;
        let fires = settings.fire_triggers && !server.triggers.is_empty();
        let native = native && writer.native && !fires && !settings.check_before;
        if !native && !fires && !server.triggers.is_empty() {
            return Err(Error::config(format!(
                "{name} has triggers ({}), and its rows cannot be sent as row events, which fire none",
                server.triggers.join(", ")
            ))
            .hint(
                "grant BINLOG REPLAY (MariaDB) or BINLOG_ADMIN and REPLICATION_APPLIER (MySQL); or drop the triggers; or let them fire: --triggers fire",
            ));
        }
        let key = server.identity();
        let identity = key.and_then(|key| {
            let mut slots = Vec::with_capacity(key.parts.len());
            for (column, _) in &key.parts {
                slots.push(writer.slots.iter().position(|slot| slot.target == *column)?);
            }
            slots.sort_unstable();
            Some(slots)
        });
        let collapse = match &identity {
            Some(identity) if native && writer.covers && !(server.foreign_keys && cascades) => {
                collapse(&server, &writer, identity)
            }
            _ => None,
        };
        let map_id = table.id & 0xffff_ffff_ffff;
        Ok(Plan { table, server, writer, name, native, identity, collapse, map_id: map_id.min(0xffff_ffff_fffd) + 1 })
    }

    /// The target's column of a slot.
    pub(super) fn server_column(&self, slot: usize) -> Option<&ServerColumn> {
        self.server.columns.get(self.writer.slots.get(slot)?.target)
    }

    /// The source's column of a slot.
    pub(super) fn source_column(&self, slot: usize) -> Option<&Column> {
        self.table.definition.columns.get(self.writer.slots.get(slot)?.source)
    }
}

/// `None` when equal keys cannot be told from their bytes.
fn collapse(server: &ServerTable, writer: &RowWriter, identity: &[usize]) -> Option<Collapse> {
    let mut trims = Vec::with_capacity(identity.len());
    for slot in identity {
        let column = server.columns.get(writer.slots.get(*slot)?.target)?;
        trims.push(match column.wire {
            WireType::Float | WireType::Double | WireType::Json | WireType::Geometry | WireType::Vector { .. } => {
                return None;
            }
            WireType::Char { .. } if column.charset == "binary" => Trim::Zeros,
            WireType::Char { .. } | WireType::VarChar { .. } | WireType::Blob { .. } if column.charset != "binary" => {
                if may_fold(&column.collation) {
                    return None;
                }
                let pads = !column.collation.contains("nopad") && !column.collation.contains("0900");
                if pads { Trim::Blanks } else { Trim::Nothing }
            }
            _ => Trim::Nothing,
        });
    }
    let mut unique_slots = Vec::new();
    let own = server.identity().map(|key| key.name.as_str());
    for key in server.unique_keys.iter().filter(|key| Some(key.name.as_str()) != own) {
        for (column, _) in &key.parts {
            // A unique key over a column that is not written (generated): nobody can say when it changes.
            let slot = writer.slots.iter().position(|slot| slot.target == *column)?;
            if !unique_slots.contains(&slot) {
                unique_slots.push(slot);
            }
        }
    }
    Some(Collapse { trims, unique_slots })
}
