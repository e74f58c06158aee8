//! rlog-extract's sources: logs assembled by hand, byte by byte, and the corpus. Decoding runs in this process, thousands of times; the program itself is
//! started where its exit status, its pipes or its signals matter.

#[path = "../common/mod.rs"]
mod common;

mod assemble;
mod corpus;
mod damage;
mod dump;
mod events;
mod look;
mod loops;
mod memory;
mod order;
mod program;
mod rare;
mod resume;
