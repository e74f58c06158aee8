//! A table definition as a dump holds it.

use crate::error::Result;
use crate::event::{EventError, TableDefinition};

/// A table as the stream has defined it, with what every printer asks for.
#[derive(Debug)]
pub struct Table {
    /// The definition.
    pub definition: TableDefinition,
    /// Columns that identify a row; empty when no key is known.
    pub identity: Vec<usize>,
    /// Unlike that of every other definition of this run, so that printers can keep what they derive from it.
    pub number: u64,
    /// The definition's bytes, so that a repeated one is not taken for a change.
    payload: Box<[u8]>,
}

impl Table {
    /// Decodes the payload of a definition frame.
    pub fn decode(payload: &[u8], number: u64) -> Result<Table, EventError> {
        let definition = TableDefinition::decode(payload)?;
        let identity = definition.identity().unwrap_or(&[]).iter().map(|part| part.column as usize).collect();
        Ok(Table { definition, identity, number, payload: payload.into() })
    }

    /// A definition that was decoded elsewhere.
    pub fn of(definition: TableDefinition, number: u64) -> Table {
        let identity = definition.identity().unwrap_or(&[]).iter().map(|part| part.column as usize).collect();
        Table { definition, identity, number, payload: Box::default() }
    }

    /// Whether this is the definition that the payload holds.
    pub fn is(&self, payload: &[u8]) -> bool {
        *self.payload == *payload
    }

    /// `database.table`, or `table` for sources without databases.
    pub fn name(&self) -> String {
        let definition = &self.definition;
        match definition.database.as_str() {
            "" => definition.table.clone(),
            database => format!("{database}.{}", definition.table),
        }
    }
}
