//! The only seam to the operating system that faults go through: files, sync, locks, clock, pipes.
//!
//! [`vfs`] is the traits; [`os`] the real thing; [`sim`] a simulated disk on which tests cut the power, lose what was
//! not synced and fail any call. [`state`] replaces small state files atomically through that seam. [`clock`] and
//! [`pipe`] are the rest of what the tools ask of the system; [`network`] tells file systems of other
//! hosts; [`wake`] waits for a file that others write; [`units`] reads sizes, durations and versions as people write them;
//! [`sparse`] is memory that is given back at once. [`planted`] is for tests: bugs that they must find.

pub mod clock;
pub mod network;
pub mod os;
pub mod pipe;
pub mod planted;
pub mod sim;
pub mod sparse;
pub mod state;
pub mod units;
pub mod vfs;
pub mod wake;

pub use os::Os;
pub use vfs::{Access, Dir, File, Lock, Vfs, Watch};
