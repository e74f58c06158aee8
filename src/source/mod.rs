//! Sources: a database's transaction log that is read. A folder per engine.

pub mod mysql;
pub mod sqlite;
