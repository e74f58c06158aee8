//! The file that `--cursor` names: the position that is committed in the target, for whoever forgets or resumes by it.

use std::path::PathBuf;
use std::time::Instant;

use super::acknowledge::ACK_EVERY;
use crate::error::Result;
use crate::frame::Position;
use crate::sys;

/// The file.
pub(super) struct Cursor {
    path: PathBuf,
    at: Option<Instant>,
    written: Option<Position>,
}

impl Cursor {
    pub(super) fn new(path: PathBuf) -> Cursor {
        Cursor { path, at: None, written: None }
    }

    /// Replaces the file, durably. The position is committed in the target.
    pub(super) fn write(&mut self, position: Option<Position>, now: bool) -> Result<()> {
        let Some(position) = position.filter(|position| self.written.as_ref() != Some(position)) else { return Ok(()) };
        if now || self.at.is_none_or(|at| at.elapsed() >= ACK_EVERY) {
            sys::state::replace_file(&self.path, &format!("{position}\n"))?;
            self.at = Some(Instant::now());
            self.written = Some(position);
        }
        Ok(())
    }
}
