//! rlog-ship: two hosts in one, with real queues, real TLS and the built programs.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod hosts;
