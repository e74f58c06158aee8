//! One suite of tests per trait, run for every backend. A new backend is a factory and one line.

#[path = "../common/mod.rs"]
mod common;

mod queue;
