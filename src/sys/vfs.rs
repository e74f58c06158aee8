//! What durable code asks of a file system, relative to open directories, so that no name is ever a path.
//!
//! A name is one path component. Directories are opened without following a symbolic link, files likewise; new ones
//! get the modes 0700 and 0600. What is durable when: bytes after [`File::sync`], a name (created, renamed, removed)
//! after [`Dir::sync`] of its directory.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read; it must exist.
    Read,
    /// To read and write; it must exist.
    Write,
    /// To read and write; it must not exist (O_EXCL).
    Create,
}

/// A file system.
pub trait Vfs: Debug + Send + Sync {
    /// Opens a directory.
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>>;
    /// Creates a directory whose parent exists, and makes its name durable.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open directory.
pub trait Dir: Debug + Send + Sync {
    /// Opens a directory in this one.
    fn open_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>>;
    /// Creates a directory in this one; durable after [`Dir::sync`].
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Opens a regular file.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>>;
    /// Renames a file or directory, replacing what had the name `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
    /// The names in it, sorted, without `.` and `..`.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Takes the exclusive lock of the file `name`, which is created when missing and must never be removed. `None`: someone else
    /// holds it. It is held until the guard is dropped or the process ends.
    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>>;
    /// Something that tells when this directory or a file in it changed.
    fn watch(&self) -> io::Result<Box<dyn Watch>>;
    /// Refuses a directory of another user, who could exchange files under our hands. The superuser may use any.
    fn check_owner(&self) -> io::Result<()>;
    /// Bytes that an unprivileged user can still write.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A held lock.
pub type Lock = Box<dyn Debug + Send + Sync>;

/// Waits for a change.
pub trait Watch: Debug + Send {
    /// Returns when something changed since the last call, or after `timeout`, or on a signal.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Reads at offset `at`; 0 at the end. May be short.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes at offset `at`. May be short.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends it.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes it `length` bytes long, zeros where it was shorter, with their room taken on the disk: fails when there is none.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Whether some name still leads to it: false once it was removed or replaced.
    fn is_linked(&self) -> io::Result<bool>;
    /// Makes its bytes and length durable. After an error nothing is known of them, and a second call proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_full_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes`.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes a lock, trying again until `wait` has passed. `None`: someone else still holds it.
pub fn lock(dir: &dyn Dir, name: &str, wait: Duration) -> io::Result<Option<Lock>> {
    let end = std::time::Instant::now() + wait;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = dir.try_lock(name)? {
            return Ok(Some(lock));
        }
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
