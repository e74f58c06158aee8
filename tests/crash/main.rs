//! The promise: kill any process at any moment, then the same command again, and nothing is lost or doubled. One file
//! per subject; a slice runs here, the campaign is `make crash`.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod jetstream;
#[cfg(feature = "mysql")]
mod pipeline;
mod queue;
mod queue_process;
mod tables;
