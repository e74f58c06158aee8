//! rlog-ship: two hosts in one, with real queues, real TLS and the built programs.

#[path = "../common/mod.rs"]
mod common;

mod cuts;
mod ends;
mod hosts;
mod kills;
#[cfg(feature = "mysql")]
mod masters;
mod options;
mod peers;
mod sshd;
mod stdio;
mod wire;
