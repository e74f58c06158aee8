//! Bugs that tests plant into durable code, to prove that they would find them.
//!
//! A bug holds for the thread that planted it. Released binaries have none of this: [`is`] is `false` at compile time unless the
//! build has debug assertions or the feature `planted` (which `make crash` sets, since it runs release builds).

/// What is done wrong. What a disk is asked for wrongly is planted there: see `sim::Plant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A segment's frames are taken without looking at their payload's checksum.
    NoChecksum,
    /// What a crash left behind the last whole unit is not cut: the next writer goes on behind it.
    NoTornTail,
    /// Purge removes what readers have not acknowledged.
    PurgeUnacknowledged,
    /// A writer that was overtaken goes on.
    NoFence,
    /// A reader's acknowledgement is kept though the unit it speaks of was not synced.
    AckUnsynced,
}

#[cfg(any(debug_assertions, feature = "planted"))]
mod on {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread, or removes it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted.
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(any(debug_assertions, feature = "planted"))]
pub use on::{is, plant};

/// No bug is planted in this build.
#[cfg(not(any(debug_assertions, feature = "planted")))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
