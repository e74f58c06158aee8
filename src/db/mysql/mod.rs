//! MySQL and MariaDB servers: where they are, how a session with one is made, and how names, values and rows are written for it.
//!
//! - [`url`]: `mysql://USER@HOST[:PORT][/DB][?…]`, which never holds a password; [`defaults`]: my.cnf files, which may.
//! - [`connect`]: one blocking session, set up so that the same statement means the same on every server, and the
//!   meaning of the server's error numbers.
//! - [`client`]: a connection of our own where the bytes of replies are needed: [`replica`], the binary log as a replica gets it, and rows in bulk.
//! - [`literal`]: quoting of names, and values as SQL text.
//! - [`catalog`]: what a server says about a table, and the row format that follows from it.
//! - [`rowimage`]: values in that row format, and [`binlog_statement`]: rows as `BINLOG '…'` statements.

pub mod binlog_statement;
pub mod catalog;
pub mod charset;
pub mod client;
pub mod connect;
pub mod defaults;
pub mod literal;
pub mod replica;
pub mod rowimage;
mod tls;
mod under_way;
pub mod url;

pub use client::Client;
pub use connect::{Connector, Family, Fault, Session, fault_of};
pub use url::{ServerUrl, SslMode};
