//! Applying transactions to real databases: the rules that keep the promise, each with a test that fails without it.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod conflicts;
mod ddl;
mod once;
mod queue;
mod snapshot;
mod verbs;
