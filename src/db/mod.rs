//! Engines: connections, quoting, value mapping. What sources, queues and targets of one engine have in common.

pub mod ddl;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod sqlite;
