//! The wall clock. Nothing that a log's bytes depend on may ask it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC; 0 for a clock that stands before.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Lets this thread's sleeps end when they should, not up to 50 us later, which is what Linux allows itself to wake for several timers at once.
/// Where that cannot be had, sleeps are as they were.
pub fn short_sleeps() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
}
