//! `put --pass`: the stream goes on to standard output, once it is durable.

use std::io::{Read as _, Seek as _, SeekFrom, Write};

use crate::error::{Error, Result};
use crate::frame::{Frame, Header};

/// What is passed on, once it is durable.
pub(super) struct Pass<'a> {
    pub out: &'a mut dyn Write,
    /// Frames that wait: memory for small transactions, an unnamed file for a huge one.
    pub waiting: tempfile::SpooledTempFile,
    /// Bytes of it that are whole units.
    pub whole: u64,
    pub length: u64,
}

pub(super) const PASS_MEMORY_BYTES: usize = 8 << 20;

impl Pass<'_> {
    pub fn add(&mut self, frame: &Frame<'_>) -> Result<()> {
        let header = Header { salt: 0, ..frame.header };
        let written = self.waiting.write_all(&header.encode()).and_then(|()| self.waiting.write_all(frame.payload));
        written.map_err(|error| Error::io("temporary file of --pass", error))?;
        self.length += frame.total_len() as u64;
        Ok(())
    }

    /// Writes out what is whole and keeps the rest.
    pub fn write_out(&mut self) -> std::io::Result<()> {
        if self.whole == 0 {
            return Ok(());
        }
        self.waiting.seek(SeekFrom::Start(0))?;
        std::io::copy(&mut (&mut self.waiting).take(self.whole), self.out)?;
        self.out.flush()?;
        let mut rest = tempfile::SpooledTempFile::new(PASS_MEMORY_BYTES);
        std::io::copy(&mut self.waiting, &mut rest)?;
        self.waiting = rest;
        self.length -= self.whole;
        self.whole = 0;
        Ok(())
    }
}
