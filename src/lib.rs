//! rlog reads, moves, keeps and applies a database's transaction log.
//!
//! The five commands are thin; this library is the program. Modules are layers, and imports run downwards only
//! (`tests/layers.rs` holds the table; ARCHITECTURE.md explains it):
//!
//! ```text
//! cli                                   arguments, help, reports, signals
//! extract  ship  apply  dump            the loops: policy, no protocol
//! source   queue  target                a trait each, and a folder per backend
//! db                                    engines: connections, quoting, value mapping
//! plugin                                listeners: other people's code, in process
//! event                                 values, rows, table definitions, filters, their codec (no I/O)
//! frame                                 the envelope; payloads are opaque to it (no I/O)
//! sys  error                            files, sync, locks, clock; error classes
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod apply;
pub mod cli;
pub mod db;
pub mod dump;
pub mod error;
pub mod event;
pub mod extract;
pub mod frame;
pub mod plugin;
pub mod queue;
pub mod ship;
pub mod source;
pub mod sys;
pub mod target;
