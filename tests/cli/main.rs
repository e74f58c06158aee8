//! The programs as users run them: arguments, output, exit statuses. One file per program or subject; what can be
//! tested in the library is tested there, where it is about a hundred times faster.

#[path = "../common/mod.rs"]
mod common;

mod dump;
#[cfg(feature = "mysql")]
mod local_file;
mod queue;
mod queue_backends;
mod service;
mod usage;
