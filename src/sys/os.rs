//! The real file system, through rustix, always relative to open directories.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags, inotify};

use super::vfs::{Access, Dir, File, Lock, Vfs, Watch};

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl Vfs for Os {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        // The path that the user gave may well lead through symbolic links; nothing beneath it may.
        let fd = fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Arc::new(OsDir { fd }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::mkdirat(CWD, path, DIR_MODE)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fd = fs::openat(CWD, parent, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(fs::fsync(fd)?)
    }
}

#[derive(Debug)]
struct OsDir {
    fd: OwnedFd,
}

impl Dir for OsDir {
    fn open_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = OsDir { fd: fs::openat(&self.fd, component(name)?, flags, Mode::empty())? };
        dir.check_owner()?;
        Ok(Arc::new(dir))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        Ok(fs::mkdirat(&self.fd, component(name)?, DIR_MODE)?)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>> {
        let flags = OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK
            | match access {
                Access::Read => OFlags::RDONLY,
                Access::Write => OFlags::RDWR,
                Access::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            };
        let fd = fs::openat(&self.fd, component(name)?, flags, FILE_MODE)?;
        if !fs::FileType::from_raw_mode(fs::fstat(&fd)?.st_mode).is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(OsFile { fd }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat_with(&self.fd, component(from)?, &self.fd, component(to)?, RenameFlags::empty())?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, component(name)?, AtFlags::empty())?)
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, component(name)?, AtFlags::REMOVEDIR)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            // Names that are not UTF-8 are none of ours.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = fs::openat(&self.fd, component(name)?, flags, FILE_MODE)?;
        match fs::flock(&fd, fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(fd))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE;
        // inotify wants a path; this one names the open directory wherever it has been moved to.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.fd));
        let watched = inotify::add_watch(&fd, path, flags).is_ok();
        Ok(Box::new(OsWatch { fd, watched }))
    }

    fn check_owner(&self) -> io::Result<()> {
        let owner = fs::fstat(&self.fd)?.st_uid;
        let user = rustix::process::geteuid();
        if owner != user.as_raw() && !user.is_root() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the directory belongs to another user"));
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.fd)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A name that would lead elsewhere is refused whatever the caller thought of it.
fn component(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file name"));
    }
    Ok(name)
}

#[derive(Debug)]
struct OsWatch {
    fd: OwnedFd,
    watched: bool,
}

impl OsWatch {
    /// How long to sleep where changes cannot be watched (no inotify, or too many watches).
    const BLIND: Duration = Duration::from_millis(20);
}

impl Watch for OsWatch {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if !self.watched {
            std::thread::sleep(timeout.min(Self::BLIND));
            return Ok(());
        }
        super::pipe::is_ready(&self.fd, timeout)?;
        let mut events = [0u8; 4096];
        while matches!(rustix::io::read(&self.fd, &mut events), Ok(count) if count > 0) {}
        Ok(())
    }
}

#[derive(Debug)]
struct OsFile {
    fd: OwnedFd,
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.fd, buffer, at)?)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(&self.fd, bytes, at)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(fs::fstat(&self.fd)?.st_size).unwrap_or(0))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.fd, length)?)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match fs::fallocate(&self.fd, fs::FallocateFlags::empty(), 0, length) {
            // What a file system cannot promise is written.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = [0; 4096];
                let mut at = self.len()?;
                while at < length {
                    let part = usize::try_from(length - at).unwrap_or(zeros.len()).min(zeros.len());
                    self.write_all_at(zeros.get(..part).unwrap_or(&zeros), at)?;
                    at += part as u64;
                }
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(fs::fstat(&self.fd)?.st_nlink > 0)
    }

    fn sync(&self) -> io::Result<()> {
        // The length is part of what fdatasync keeps; times are not needed.
        Ok(fs::fdatasync(&self.fd)?)
    }
}
