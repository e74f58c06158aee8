//! What the integration tests share: real servers, the built programs, the corpus.
//!
//! Tests are few binaries of many modules, since every binary is linked anew: `tests/<area>/main.rs` starts with
//!
//! ```text
//! #[path = "../common/mod.rs"]
//! mod common;
//! mod one_subject;        // tests/<area>/one_subject.rs, one file per subject
//! ```
//!
//! and a test then reads like this:
//!
//! ```text
//! use crate::common::{rlog, scratch, Server};
//!
//! #[test]
//! fn extract_reads_what_a_server_wrote() {
//!     let server = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
//!     server.sql("create database shop; use shop; create table t (id int primary key); insert into t values (1), (2)");
//!     server.flush_logs();                                     // the logs before the last are closed now
//!     rlog("rlog-extract").args(server.logs()).assert().success();
//!     assert_eq!(server.text("select * from shop.t"), "1\n2\n");
//! }                                                            // the server is killed and its folder removed
//! ```
//!
//! Servers come from `tests/servers/fetch` and are started by `tests/servers/start`, which says how they live and die.
//! A server that was not fetched fails the test and names the command that fetches it. Each test starts its own (about
//! half a second, MySQL two); [`Server::shared`] is for many tests that only need any server to talk to, each in a
//! database of its own. `RLOG_KEEP=1` keeps the folders of servers for a look afterwards.
#![allow(dead_code, unused_imports, reason = "every test binary compiles this module and uses a part of it")]

pub mod changes;
mod nats;
mod programs;
mod server;
pub mod streams;
mod types;
mod verbose;

pub use nats::NatsCluster;
pub use programs::{CorpusFile, corpus, corpus_files, memory_kib, repository, rlog, scratch, shell};
pub use server::{Cells, Server, ServerBuilder, server_program};
pub use types::{TypeColumn, Types};
pub use verbose::{VerboseRow, VerboseValue, verbose_rows};
