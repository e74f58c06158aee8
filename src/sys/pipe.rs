//! Pipes, terminals, and waiting for input.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes that we ask the kernel to hold in a pipe, so that a writer goes on while the reader syncs. A user without
/// privileges may have 1 MiB.
const PIPE_BYTES: usize = 1 << 20;

/// Makes the buffer of a pipe larger, if `fd` is one and the system allows it. Only speed depends on it.
pub fn enlarge(fd: impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
}

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: &impl IsTerminal) -> bool {
    fd.is_terminal()
}

/// Waits until a read of `fd` has something at once, or its end; `false` after `timeout` or a signal.
pub fn is_ready(fd: impl AsFd, timeout: Duration) -> io::Result<bool> {
    // More than the system can count is for ever.
    let limit = Timespec::try_from(timeout).ok();
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], limit.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn input_is_ready_when_there_is_some_or_its_end_has_come() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(!is_ready(&reader, Duration::ZERO).unwrap());
        assert!(!is_ready(&reader, Duration::from_millis(1)).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(is_ready(&reader, Duration::from_secs(100)).unwrap());
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        assert!(is_ready(&reader, Duration::MAX).unwrap());
    }
}
