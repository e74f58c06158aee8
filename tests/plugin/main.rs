//! Plug-ins and `--exec`, with the built programs and plug-ins that a C and a Rust compiler make.

#[path = "../common/mod.rs"]
mod common;

mod abi;
mod build;
mod contract;
mod exec;
mod kills;
mod listeners;
mod servers;
mod streams;
