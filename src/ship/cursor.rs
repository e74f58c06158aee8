//! The cursor file: one line, the position that is durable on the other side.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::Reached;
use crate::error::{Class, Error, Result};
use crate::frame::Position;
use crate::sys::{Os, Vfs as _, state};

/// The position in a cursor file; `None` when it is missing or empty.
pub fn read_cursor(path: &Path) -> Result<Option<Position>> {
    let shown = || path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => {
            text.trim().parse().map(Some).map_err(|_| Error::damage("this is no position").in_file(shown()).at(0))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(shown(), error)),
    }
}

/// Replaces a cursor file, not too often: temporary file, fsync, rename, fsync of the directory.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    written: Option<Position>,
    waiting: Option<Position>,
    last: Option<Instant>,
}

impl Cursor {
    const PERIOD: Duration = Duration::from_millis(500);

    /// Reads what it says, if it is there.
    pub fn open(path: &Path) -> Result<Cursor> {
        Ok(Cursor { path: path.to_owned(), written: read_cursor(path)?, waiting: None, last: None })
    }

    /// Refuses a queue that has lost what the cursor says.
    pub fn check(&self, reached: &Reached, peer: &str) -> Result<()> {
        let Some(confirmed) = &self.written else { return Ok(()) };
        let lost = match &reached.position {
            None => true,
            Some(held) => held.incarnation.server() == confirmed.incarnation.server() && held.end < confirmed.end,
        };
        if !lost {
            return Ok(());
        }
        let holds = reached.position.as_ref().map_or("nothing".to_owned(), |held| format!("only {held}"));
        Err(Error::new(
            Class::Gap,
            format!("the queue holds {holds}, but has confirmed {confirmed}, which the source may have forgotten"),
        )
        .in_file(peer)
        .hint(format!(
            "that queue was lost, reset or restored: if the source still has the rest, remove {} and run again; else take a new snapshot",
            self.path.display()
        )))
    }

    /// This is durable now.
    pub fn durable(&mut self, reached: &Reached) -> Result<()> {
        if let Some(position) = reached.confirmed()
            && self.written.as_ref() != Some(position)
        {
            self.waiting = Some(position.clone());
        }
        self.tick()
    }

    /// Writes what waits, if it is time.
    pub fn tick(&mut self) -> Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            return Ok(());
        }
        self.flush()
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> Result<()> {
        let Some(position) = self.waiting.take() else { return Ok(()) };
        self.last = Some(Instant::now());
        replace(&self.path, &format!("{position}\n"))?;
        self.written = Some(position);
        Ok(())
    }
}

/// Replaces a file that the user named, atomically and durably.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let shown = path.display().to_string();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::new(Class::CannotCreate, "this is no file name").in_file(&shown))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Os.open_dir(parent)
        .and_then(|dir| state::replace(&*dir, name, text.as_bytes()))
        .map_err(|error| Error::io(shown, error).with_class(Class::CannotCreate))
}
