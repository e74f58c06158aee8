//! What the journal has is told, transaction by transaction, as if the source's log were read.

use std::sync::Arc;

use super::{Shadow, Standing};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::frame::Coordinate;
use crate::source::sqlite::ddl::Ddl;
use crate::source::sqlite::decode::{Change, Decoder, Sink, Step, Txn};
use crate::source::sqlite::events::{Encoder, digest_of};
use crate::source::sqlite::schema::Table;
use crate::source::sqlite::snapshot::snapshot;
use crate::source::sqlite::wal::{FRAME_HEADER_LEN, ReadAt, frame_at};

/// The frames of one segment, at the offsets that they have in the source's log.
struct Shifted {
    file: Arc<dyn ReadAt>,
    /// Bytes to add to an offset in the log.
    shift: i64,
    end: u64,
}

impl ReadAt for Shifted {
    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        let Some(at) = at.checked_add_signed(self.shift) else { return Ok(0) };
        let count = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(buf.get_mut(..count).unwrap_or_default(), at)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.end.saturating_add_signed(-self.shift))
    }
}

impl Shadow {
    /// Tells the rows of the base, where the encoder stands.
    pub fn snapshot(&self, encoder: &mut Encoder, filter: &TableFilter) -> Result<()> {
        let mut decoder = Decoder::over(Arc::new(self.image(0)?))?;
        decoder.learn().map_err(|error| error.in_file(&self.home.name))?;
        snapshot(encoder, &mut decoder, filter, digest_of(self.base().checksum))
    }

    /// Tells everything behind `from` up to the tail, and says so; the encoder stands there then.
    pub fn tell(&self, from: Coordinate, encoder: &mut Encoder) -> Result<()> {
        // Nobody saw when these were committed.
        encoder.time_us = 0;
        let bridges = self.replay(from, encoder)?;
        let tail = self.tail();
        if encoder.reached() != tail.end {
            return Err(Error::new(
                Class::Bug,
                format!("the shadow ends at {}, not at {}", tail.end, encoder.reached()),
            ));
        }
        encoder.new_generation(tail.end.file(), tail.stamp());
        if bridges > 0 {
            encoder.notes.push(
                "the log had started again since the last run: all changes in between are told as one transaction"
                    .into(),
            );
        }
        encoder.flush()
    }

    /// Tells everything behind `from`, where the encoder stands, up to the tail. Returns how many bridges were told.
    fn replay(&self, from: Coordinate, encoder: &mut Encoder) -> Result<u32> {
        let bug = |what: &str| Error::new(Class::Bug, format!("the shadow's journal: {what}")).in_file(&self.home.name);
        let in_file = |error: Error| error.in_file(&self.home.name);
        let mut nth = self.entries_to(from).ok_or_else(|| bug("nothing ends where reading goes on"))?;
        let mut bridges = 0;
        if nth == self.journal.entries.len() {
            return Ok(0);
        }
        let mut decoder = Decoder::over(Arc::new(self.image(nth)?))?;
        decoder.learn().map_err(in_file)?;
        while let Some(first) = self.journal.entries.get(nth) {
            let count = self.journal.entries.get(nth..).unwrap_or_default().iter();
            let count = count.take_while(|entry| entry.segment == first.segment).count();
            let segment = self.journal.segments.get(first.segment).ok_or_else(|| bug("a segment is missing"))?;
            let last = self.journal.entries.get(nth + count - 1).ok_or_else(|| bug("an entry is missing"))?;
            // Behind the mark stands the frame behind `from`.
            let slot = frame_at(self.journal.page_size, segment.mark_slot + 1);
            let frame = frame_at(self.journal.page_size, segment.from.frame + 1);
            let log: Arc<dyn ReadAt> = Arc::new(Shifted {
                file: self.journal.file(),
                shift: slot as i64 - frame as i64,
                end: frame_at(self.journal.page_size, last.slot + 1),
            });
            let mut mark = segment.from;
            if let Some(before) = nth.checked_sub(1).and_then(|nth| self.journal.entries.get(nth))
                && before.segment == first.segment
            {
                mark.frame += before.slot - segment.mark_slot;
                mark.checksum = before.checksum;
            }
            encoder.flush()?;
            encoder.new_generation(segment.standing.end.file(), segment.standing.stamp());
            decoder.rebase(Arc::new(self.image(nth)?), log, &segment.header, mark);
            match segment.bridge {
                Some(0) => encoder.pass_to(segment.standing.end),
                Some(_) => {
                    bridges += 1;
                    let mut merged = Merged { encoder, to: segment.standing };
                    match decoder.next(None, &mut merged).map_err(in_file)? {
                        Step::Txn(_) => {}
                        Step::Tail(_) => return Err(bug("a bridge is not whole")),
                    }
                }
                None => {
                    for _ in 0..count {
                        match decoder.next(None, encoder).map_err(in_file)? {
                            Step::Txn(_) => {}
                            Step::Tail(_) => return Err(bug("a transaction is not whole")),
                        }
                    }
                }
            }
            nth += count;
        }
        encoder.flush()?;
        Ok(bridges)
    }
}

/// Tells one transaction as several that were merged.
struct Merged<'a> {
    encoder: &'a mut Encoder,
    to: Standing,
}

impl Sink for Merged<'_> {
    fn begin(&mut self, _: &Txn) -> Result<()> {
        let place = Coordinate::new(self.to.end.file(), u64::from(self.to.frame())).unwrap_or_default();
        self.encoder.begin_merged(place);
        Ok(())
    }

    fn wants(&mut self, table: &Table) -> bool {
        self.encoder.wants(table)
    }

    fn ddl(&mut self, ddl: &Ddl) -> Result<()> {
        self.encoder.ddl(ddl)
    }

    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        self.encoder.row(change)
    }

    fn sequence(&mut self, table: &str, value: Option<i64>) -> Result<()> {
        self.encoder.sequence(table, value)
    }

    fn commit(&mut self, _: &Txn) -> Result<()> {
        self.encoder.end_merged(self.to.end, digest_of(self.to.checksum))
    }
}

const _: () = assert!(FRAME_HEADER_LEN == 24, "the journal's slots have the geometry of frames");
