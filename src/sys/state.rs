//! Small state files: lines `name=value` with a checksum, replaced by write-temp, fsync, rename, fsync of the directory.
//!
//! ```text
//! rlog writer 1
//! epoch=4
//! crc=9ae0daaf
//! ```
//!
//! The first line names the kind and its version; `crc` is a CRC-32 of everything before it. A reader sees the old
//! file or the new one, whole. Whoever misses a file decides what that means; it never means "start afresh".

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::vfs::{Access, Dir, Vfs};
use crate::error::{Class, Error, Result};

/// Largest state file that is read, in bytes.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// Prefix of temporary names; whoever holds the directory's lock may remove leftovers.
pub const TEMP_PREFIX: &str = ".tmp-";

/// The lines of a state file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    lines: Vec<(String, String)>,
}

impl State {
    /// No lines.
    pub fn new() -> State {
        State::default()
    }

    /// Adds a line. Line breaks in values do not survive, so callers keep them out.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut State {
        self.lines.push((name.to_owned(), value.to_string().replace(['\n', '\r'], " ")));
        self
    }

    /// The value of the first line called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values of all lines called `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, parsed; its absence is an error of the file.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let value = self.get(name).ok_or_else(|| Error::damage(format!("the state file has no `{name}`")))?;
        value.parse().map_err(|_| Error::damage(format!("the state file's `{name}` is invalid")))
    }

    /// Its text, for a kind.
    pub fn to_text(&self, kind: &str) -> String {
        let mut text = format!("rlog {kind} 1\n");
        for (name, value) in &self.lines {
            text.extend([name, "=", value, "\n"]);
        }
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("crc={crc:08x}\n"));
        text
    }

    /// The state that `text` is, which must be of that kind and undamaged.
    pub fn from_text(kind: &str, text: &str) -> Result<State> {
        let damaged = || Error::damage("the state file is damaged");
        let body = text.strip_suffix('\n').ok_or_else(damaged)?;
        let (body, crc) = body.rsplit_once('\n').ok_or_else(damaged)?;
        let wanted = crc.strip_prefix("crc=").and_then(|crc| u32::from_str_radix(crc, 16).ok()).ok_or_else(damaged)?;
        let covered = text.get(..body.len() + 1).ok_or_else(damaged)?;
        if crc32fast::hash(covered.as_bytes()) != wanted {
            return Err(damaged());
        }
        let mut lines = body.split('\n');
        match lines.next().and_then(|first| first.strip_prefix("rlog ")).and_then(|first| first.rsplit_once(' ')) {
            Some((found, "1")) if found == kind => {}
            Some((found, version)) if found == kind => {
                return Err(Error::new(Class::Version, format!("the state file has version {version}, known is 1"))
                    .hint("install a newer rlog"));
            }
            _ => return Err(Error::damage(format!("this is not a state file of kind `{kind}`"))),
        }
        let mut state = State::new();
        for line in lines {
            let (name, value) = line.split_once('=').ok_or_else(damaged)?;
            state.lines.push((name.to_owned(), value.to_owned()));
        }
        Ok(state)
    }

    /// Reads a state file; `None` when there is none.
    pub fn load(dir: &dyn Dir, name: &str, kind: &str) -> Result<Option<State>> {
        let file = match dir.open(name, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(name, error)),
        };
        let length = file.len().map_err(|error| Error::io(name, error))?;
        if length > STATE_BYTES_MAX {
            return Err(Error::damage("the state file is too long").in_file(name));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let count = file.read_full_at(&mut bytes, 0).map_err(|error| Error::io(name, error))?;
        bytes.truncate(count);
        let text = String::from_utf8(bytes).map_err(|_| Error::damage("the state file is damaged").in_file(name))?;
        State::from_text(kind, &text).map(Some).map_err(|error| error.in_file(name))
    }

    /// Replaces a state file; durable when this returns.
    pub fn store(&self, dir: &dyn Dir, name: &str, kind: &str) -> Result<()> {
        replace(dir, name, self.to_text(kind).as_bytes()).map_err(|error| Error::io(name, error))
    }
}

/// Replaces a small file atomically; durable when this returns.
pub fn replace(dir: &dyn Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let temp = format!("{TEMP_PREFIX}{name}.{}.{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let file = match dir.open(&temp, Access::Create) {
        // Left by a process that had our number and was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            dir.remove(&temp)?;
            dir.open(&temp, Access::Create)?
        }
        other => other?,
    };
    let written = file.write_all_at(bytes, 0).and_then(|()| file.sync()).and_then(|()| dir.rename(&temp, name));
    if let Err(error) = written {
        let _ = dir.remove(&temp);
        return Err(error);
    }
    dir.sync()
}

/// Replaces a file that the user named, atomically and durably.
pub fn replace_file(path: &Path, text: &str) -> Result<()> {
    let shown = path.display().to_string();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::new(Class::CannotCreate, "this is no file name").in_file(&shown))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    super::Os
        .open_dir(parent)
        .and_then(|dir| replace(&*dir, name, text.as_bytes()))
        .map_err(|error| Error::io(shown, error).with_class(Class::CannotCreate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_every_flipped_bit_is_noticed() {
        let mut state = State::new();
        state.set("epoch", 4).set("reached", "42:17").set("empty", "");
        let text = state.to_text("writer");
        assert_eq!(State::from_text("writer", &text).unwrap(), state);
        assert!(State::from_text("reader", &text).is_err());
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(text) = String::from_utf8(bytes) {
                // Upper-case hexadecimal digits of the checksum are the same checksum.
                assert!(State::from_text("writer", &text).map_or(true, |found| found == state), "bit {bit}");
            }
        }
        for length in 0..text.len() {
            assert!(State::from_text("writer", &text[..length]).is_err(), "{length}");
        }
    }
}
