//! Applying transactions to a target, exactly once.
//!
//! [`input`] puts whole transactions together; [`state`] judges each against what the target remembers; the loop ([`mod@run`])
//! gathers them into batches, one target transaction each, and [`writer`] has them executed and committed. Whatever fails in a
//! batch is rolled back and run again singly, row by row, where [`conflict`] policy decides. [`schedule`] says what may run at the same
//! time on targets with several writers.

mod acknowledge;
mod base;
pub mod batch;
pub mod body;
pub mod compare;
pub mod conflict;
mod cursor;
pub mod dead_letter;
pub mod execute;
pub mod input;
pub mod options;
pub mod pool;
pub mod preview;
pub mod rules;
pub mod run;
pub mod schedule;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod tables;
mod text;
pub mod writer;
pub mod xa;

pub use options::{From, Init, Observer, Options, Order, Summary, Until};
pub use run::run;
