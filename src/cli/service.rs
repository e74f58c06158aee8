//! What a service manager hears from a tool that runs for ever: that it is ready, that it is alive, that it is stopping (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` in the environment nothing happens. A tool *beats* whenever its loop has come round; when the manager has set
//! a watchdog (`WATCHDOG_USEC`), a thread tells it that the tool is alive as long as there were beats. So a loop that hangs is
//! noticed, and so is a server that does not answer: the watchdog's time has to be longer than the longest statement that is meant to run.
//! In a pipeline only the first process counts as the service, so a unit that runs one has no watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The connection to the service manager. Dropping it says that the tool is stopping.
pub struct Service {
    beats: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    is_ready: bool,
}

impl Service {
    /// Starts telling, if there is anybody to tell.
    pub fn new() -> Service {
        let service = Service { beats: Arc::default(), over: Arc::default(), is_ready: false };
        if let Some(timeout) = sd_notify::watchdog_enabled() {
            service.watch(timeout);
        }
        service
    }

    /// A third of the watchdog's time between looks, so that one late beat is forgiven.
    fn watch(&self, timeout: Duration) {
        let (beats, over) = (Arc::clone(&self.beats), Arc::clone(&self.over));
        let pause = (timeout / 3).max(Duration::from_millis(1));
        std::thread::spawn(move || {
            let mut seen = None;
            while !over.load(Ordering::Relaxed) {
                let now = beats.load(Ordering::Relaxed);
                if seen != Some(now) {
                    tell(&[NotifyState::Watchdog]);
                    seen = Some(now);
                }
                std::thread::sleep(pause);
            }
        });
    }

    /// The loop has come round; the first time, the tool is ready.
    pub fn beat(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            tell(&[NotifyState::Ready]);
        }
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Service {
    fn default() -> Service {
        Service::new()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if self.is_ready {
            tell(&[NotifyState::Stopping]);
        }
    }
}

/// A manager that cannot be told is no reason to stop.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
