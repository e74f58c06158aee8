//! Pipes and terminals.

use std::io::IsTerminal;
use std::os::fd::AsFd;

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
