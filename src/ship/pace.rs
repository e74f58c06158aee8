//! A limit on bytes a second.

use std::time::{Duration, Instant};

/// Lets bytes pass at a rate; after a pause up to a tenth of a second's worth at once.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    next: Instant,
}

impl Pace {
    const BURST: Duration = Duration::from_millis(100);
    const STEP: Duration = Duration::from_millis(100);
    const DEBT_SECONDS_MAX: f64 = 1e6;

    /// `None`: as fast as it goes.
    pub fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace { bytes_per_second: bytes_per_second.map(|rate| rate.max(1)), next: Instant::now() }
    }

    /// The stricter of two.
    pub fn stricter(a: Option<u64>, b: Option<u64>) -> Pace {
        Pace::new(match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// Waits until `bytes` may pass, or until `enough` says so.
    pub fn take(&mut self, bytes: u64, enough: &dyn Fn() -> bool) {
        let Some(rate) = self.bytes_per_second else { return };
        let now = Instant::now();
        let earliest = now.checked_sub(Self::BURST).unwrap_or(now);
        // A debt of more than days is as good as one for ever.
        let seconds = (bytes as f64 / rate as f64).min(Self::DEBT_SECONDS_MAX);
        self.next = self.next.max(earliest) + Duration::from_secs_f64(seconds);
        loop {
            let left = self.next.saturating_duration_since(Instant::now());
            if left.is_zero() || enough() {
                return;
            }
            std::thread::sleep(left.min(Self::STEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_none_is_no_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000_000));
        for _ in 0..10 {
            pace.take(50_000, &|| false);
        }
        assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
        let mut free = Pace::new(None);
        free.take(u64::MAX, &|| false);
        // Whoever waits for a dead connection need not wait out its debt.
        Pace::new(Some(1)).take(u64::MAX / 2, &|| true);
    }
}
