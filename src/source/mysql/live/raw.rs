//! `--raw DIR`: byte-exact copies of a server's logs.
//!
//! An event is in the copy before it is handed to the decoder, so a copy is never behind the frames. Reading always begins at a file's start, and
//! a copy that is there already is written over with the same bytes: after a crash the same command again completes it. A copy is
//! synced when its log is closed, and now and then before. As in the server's own file, the format description's in-use flag is set until then.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Class, Error, Result};
use crate::source::mysql::event::{FIRST_EVENT_AT, flag};

/// How often a copy that grows is synced, at most.
const SYNC_PAUSE: Duration = Duration::from_secs(1);
/// Where the in-use flag is: in the low byte of the first event's flags.
const FLAGS_AT: u64 = FIRST_EVENT_AT + 17;
/// Magic number, and the first event's time, type and server: by them a log is known.
const KNOWN_BYTES: usize = 13;

/// The copies.
pub struct RawCopies {
    folder: PathBuf,
    open: Option<Copy>,
    synced: Instant,
}

struct Copy {
    file: File,
    path: PathBuf,
    /// Flags byte of the first event as the server sent it.
    flags: u8,
    end: u64,
    is_dirty: bool,
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::io(path.display().to_string(), error)
}

impl RawCopies {
    /// Into an existing folder, or one that is created if only its last part is missing.
    pub fn new(folder: &Path) -> Result<RawCopies> {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io(folder, error).with_class(Class::CannotCreate));
            }
            _ => {}
        }
        Ok(RawCopies { folder: folder.to_owned(), open: None, synced: Instant::now() })
    }

    /// A log begins with these bytes: magic number and format description.
    pub fn begin(&mut self, name: &str, head: &[u8]) -> Result<()> {
        self.close()?;
        if name.contains('/') || name.starts_with('.') {
            return Err(Error::damage(format!("the server calls a log `{}`", name.escape_debug())));
        }
        let path = self.folder.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| io(&path, error).with_class(Class::CannotCreate))?;
        let mut known = [0; KNOWN_BYTES];
        let held = crate::source::read_full(&mut &file, &mut known).map_err(|error| io(&path, error))?;
        if held == KNOWN_BYTES && head.get(..KNOWN_BYTES) != Some(&known[..]) {
            return Err(Error::new(Class::Identity, "this copy is of another log than the server's of the same name")
                .in_file(path.display().to_string())
                .hint("RESET MASTER starts numbers anew: give another folder"));
        }
        let flags = head.get(FLAGS_AT as usize).copied().unwrap_or(0);
        let mut first = head.to_vec();
        if let Some(byte) = first.get_mut(FLAGS_AT as usize) {
            *byte |= flag::IN_USE as u8;
        }
        file.write_all_at(&first, 0).map_err(|error| io(&path, error))?;
        self.open = Some(Copy { file, path, flags, end: head.len() as u64, is_dirty: true });
        Ok(())
    }

    /// An event of the open log.
    pub fn event(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let Some(copy) = &mut self.open else { return Ok(()) };
        if at != copy.end {
            return Err(Error::new(
                Class::Unavailable,
                "the server does not send every byte of this log (it is encrypted), so there is no exact copy",
            )
            .in_file(copy.path.display().to_string())
            .at(at)
            .hint("without --raw the log is read all the same"));
        }
        copy.file.write_all_at(bytes, at).map_err(|error| io(&copy.path, error))?;
        copy.end = at + bytes.len() as u64;
        copy.is_dirty = true;
        Ok(())
    }

    /// Nothing happens just now.
    pub fn idle(&mut self) -> Result<()> {
        if self.synced.elapsed() >= SYNC_PAUSE {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        if let Some(copy) = &mut self.open
            && copy.is_dirty
        {
            copy.file.sync_data().map_err(|error| io(&copy.path, error))?;
            copy.is_dirty = false;
        }
        Ok(())
    }

    /// The log is closed: whole, and flagged so.
    fn close(&mut self) -> Result<()> {
        let Some(copy) = self.open.take() else { return Ok(()) };
        let done = copy
            .file
            .write_all_at(&[copy.flags], FLAGS_AT)
            .and_then(|()| copy.file.set_len(copy.end))
            .and_then(|()| copy.file.sync_all());
        done.map_err(|error| io(&copy.path, error))?;
        let folder = File::open(&self.folder).map_err(|error| io(&self.folder, error))?;
        folder.sync_all().map_err(|error| io(&self.folder, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_completed_by_the_same_again_and_another_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let head = [&b"\xfebin"[..], &[7; 30]].concat();
        for _ in 0..2 {
            let mut copies = RawCopies::new(folder.path()).unwrap();
            copies.begin("bin.000001", &head).unwrap();
            copies.event(34, b"event").unwrap();
            assert_eq!(copies.event(40, b"x").unwrap_err().class(), Class::Unavailable);
            let found = std::fs::read(folder.path().join("bin.000001")).unwrap();
            assert_eq!((found.len(), found[FLAGS_AT as usize]), (39, 7));
        }
        let mut copies = RawCopies::new(folder.path()).unwrap();
        assert_eq!(copies.begin("bin.000001", &[9; 34]).unwrap_err().class(), Class::Identity);
        assert!(copies.begin("../x", &head).is_err());
    }
}
