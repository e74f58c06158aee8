//! See ARCHITECTURE.md.

pub mod ddl;
