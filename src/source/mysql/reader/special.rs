//! Events about the file that they stand in: what decides how the rest of it is read.

use crate::error::Result;
use crate::source::mysql::event::{Event, Format, kind};
use crate::source::mysql::files;

/// Whether an event is about the file that it stands in.
#[inline]
pub(super) fn is_special(number: u8) -> bool {
    matches!(number, kind::FORMAT_DESCRIPTION | kind::ROTATE | kind::STOP | kind::MARIADB_START_ENCRYPTION)
}

/// An event about the file, taken out of the file's bytes.
pub(super) enum Special {
    Format(Box<Format>),
    Rotate { name: String, to: u64 },
    Stop,
    Encryption(Vec<u8>),
}

impl Special {
    pub(super) fn of(event: &Event<'_>, format: &Format, raw: &[u8]) -> Result<Special> {
        Ok(match event.header.kind {
            kind::FORMAT_DESCRIPTION => Special::Format(Box::new(Format::parse(raw, event.at)?)),
            kind::ROTATE => {
                let (name, to) = files::rotate_target(event.body, format).ok_or_else(|| event.cut())?;
                Special::Rotate { name: String::from_utf8_lossy(name).into_owned(), to }
            }
            kind::STOP => Special::Stop,
            _ => Special::Encryption(event.body.to_vec()),
        })
    }
}
