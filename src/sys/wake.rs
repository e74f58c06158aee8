//! Waiting for the next write to one file that others write.
//!
//! One call of inotify's for each wait that is worth it: the watch ends with the first event, so that a writer that
//! writes all the time pays for one event, not for one a write. Whoever waits has to look again between [`Wake::arm`] and
//! [`Wake::wait`], as anything may have been written before.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;

/// See the module's head.
#[derive(Debug)]
pub struct Wake {
    inotify: OwnedFd,
    path: PathBuf,
}

impl Wake {
    /// Waits for writes to `path`. Fails where there is no inotify, or too much of it.
    pub fn on(path: &Path) -> io::Result<Wake> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Wake { inotify, path: path.to_owned() })
    }

    /// From now on a write ends [`Wake::wait`], also one that comes before it is called.
    pub fn arm(&mut self) -> io::Result<()> {
        let mut events = [0; 1024];
        while matches!(rustix::io::read(&self.inotify, &mut events), Ok(count) if count > 0) {}
        inotify::add_watch(&self.inotify, &self.path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::ONESHOT)?;
        Ok(())
    }

    /// Waits for a write since [`Wake::arm`]; `false` after `timeout` or a signal.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        super::pipe::is_ready(&self.inotify, timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_write_ends_the_wait_and_the_next_wait_needs_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut wake = Wake::on(&path).unwrap();
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(100));
        for _ in 0..3 {
            wake.arm().unwrap();
            assert!(!wake.wait(short).unwrap());
            // Two writes are one event.
            file.write_all(b"one").unwrap();
            file.write_all(b"two").unwrap();
            assert!(wake.wait(long).unwrap());
        }
        wake.arm().unwrap();
        assert!(!wake.wait(short).unwrap());
    }

    #[test]
    fn a_file_that_is_not_there_cannot_be_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Wake::on(&dir.path().join("none")).unwrap().arm().is_err());
    }
}
