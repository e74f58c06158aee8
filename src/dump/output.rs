//! Where a dump is written: one reused buffer before a sink.

use std::io::Write;

use crate::error::{Error, Result};

/// Buffered output. Printers append to [`Output::buffer`] and call [`Output::spill`] now and then.
pub struct Output<'a> {
    buffer: Vec<u8>,
    sink: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    /// Bytes after which [`Output::spill`] writes.
    const SPILL_BYTES: usize = 64 << 10;

    /// Writes to `sink`.
    pub fn new(sink: &'a mut dyn Write) -> Output<'a> {
        Output { buffer: Vec::with_capacity(Self::SPILL_BYTES * 2), sink }
    }

    /// Over a buffer that somebody else writes out: nothing may spill.
    pub fn over(buffer: Vec<u8>, sink: &'a mut dyn Write) -> Output<'a> {
        Output { buffer, sink }
    }

    /// What waits to be written.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// What waits to be written; append to it.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends text.
    pub fn text(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// Writes when enough waits.
    #[inline]
    pub fn spill(&mut self) -> Result<()> {
        if self.buffer.len() >= Self::SPILL_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes all that waits.
    pub fn flush(&mut self) -> Result<()> {
        let failed = |error| Error::io("standard output", error);
        self.sink.write_all(&self.buffer).map_err(failed)?;
        self.buffer.clear();
        // One huge value must not hold its memory for the rest of the run.
        self.buffer.shrink_to(Self::SPILL_BYTES * 8);
        self.sink.flush().map_err(failed)
    }
}
