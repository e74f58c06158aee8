//! Frames of a file that may be damaged: what is intact, and each problem once.
//!
//! Behind a damaged payload the next frame stands where the header says; behind a damaged header the next one is looked for.
//! What is left of the transaction that was hit is passed over without further complaint: its loss is one problem.
//! A damaged file that holds whole rlog frames inside a value can make a search find those; their transactions then
//! show up as ones that do not go on from what was reached.

use crate::error::{Class, Error};
use crate::frame::{Checker, Coordinate, Frame, FrameError, HEADER_LEN, Kind, Passed, SliceFrames, Step, find_frame};

/// What a scan comes upon.
pub enum Found<'a, S = Step> {
    /// An intact frame in its place, and what it means.
    Frame(Frame<'a>, S),
    /// Something is wrong at `at`; frames may be lost up to `to`.
    Problem {
        /// Offset of the problem.
        at: u64,
        /// Offset at which the scan goes on.
        to: u64,
        /// What is wrong.
        error: Error,
        /// The transaction that is lost with it, if one was open.
        transaction: Option<Coordinate>,
    },
}

/// Walks the bytes of a whole file.
pub struct Scan<'a> {
    bytes: &'a [u8],
    frames: SliceFrames<'a>,
    checker: Checker,
    /// Frames inside of a transaction are passed over until the next begin.
    lost: bool,
    ended: bool,
}

impl<'a> Scan<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, frames: SliceFrames::new(bytes, 0), checker: Checker::contiguous(), lost: false, ended: false }
    }

    /// What the source had reached with the last whole unit.
    pub fn reached(&self) -> Option<Coordinate> {
        self.checker.reached()
    }

    /// Offset of the next frame.
    pub fn at(&self) -> u64 {
        self.frames.at() as u64
    }

    /// The next frame or problem; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Found<'a>> {
        self.next_as(Checker::frame)
    }

    /// As [`Scan::next`], for those who only want to know whether everything is whole.
    pub fn pass(&mut self) -> Option<Found<'a, Passed>> {
        self.next_as(Checker::pass)
    }

    #[inline(always)]
    fn next_as<S>(
        &mut self,
        check: impl Fn(&mut Checker, &Frame<'a>) -> Result<S, FrameError>,
    ) -> Option<Found<'a, S>> {
        loop {
            let frame = match self.frames.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return self.end(),
                Err(error) => return Some(self.problem(&error)),
            };
            if self.lost {
                if matches!(frame.kind(), Some(Kind::Data | Kind::Commit | Kind::Prepared | Kind::Discard)) {
                    continue;
                }
                // Definitions and the like may stand inside; the first frame between transactions ends it.
                self.lost = matches!(frame.kind(), Some(Kind::Definition | Kind::Heartbeat) | None);
            }
            match check(&mut self.checker, &frame) {
                Ok(step) => return Some(Found::Frame(frame, step)),
                Err(error) => {
                    // The frame itself is intact; one that begins something is taken as the new start.
                    let transaction = self.checker.open_transaction();
                    self.checker.resynchronise();
                    let begins = matches!(frame.kind(), Some(Kind::Begin | Kind::Progress | Kind::Gap));
                    if begins && !matches!(error, FrameError::Payload { .. } | FrameError::Field { .. }) {
                        self.frames.skip_to(frame.at as usize);
                    } else {
                        self.lost = true;
                    }
                    let to = self.frames.at() as u64;
                    return Some(Found::Problem { at: frame.at, to, error: error.into(), transaction });
                }
            }
        }
    }

    fn problem<S>(&mut self, error: &FrameError) -> Found<'a, S> {
        let at = self.frames.at();
        let next = match error {
            FrameError::PayloadChecksum { .. } => self.length_at(at).map(|length| at + HEADER_LEN + length),
            FrameError::Unknown { .. } => self.length_at(at).map(|length| at + HEADER_LEN + length),
            _ => find_frame(self.bytes, at + 1),
        };
        let next = next.filter(|next| *next <= self.bytes.len()).unwrap_or(self.bytes.len());
        let mut error = Error::from(error.clone());
        if error.class() == Class::Torn && next < self.bytes.len() {
            error = Error::damage("a frame is cut short, and others follow").at(at as u64);
        }
        self.frames.skip_to(next);
        let transaction = self.checker.open_transaction();
        self.checker.resynchronise();
        self.lost = true;
        Found::Problem { at: at as u64, to: next as u64, error, transaction }
    }

    /// The length in a header whose checksum is right.
    fn length_at(&self, at: usize) -> Option<usize> {
        let length = self.bytes.get(at..)?.get(8..12)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*length) as usize)
    }

    /// The end of the file is a problem when a stream or a transaction has none.
    fn end<S>(&mut self) -> Option<Found<'a, S>> {
        if std::mem::replace(&mut self.ended, true) || self.checker.finished() {
            return None;
        }
        let at = self.frames.at() as u64;
        let transaction = self.checker.open_transaction();
        let what = match transaction {
            Some(txid) => format!("the stream ends inside transaction {txid}"),
            None if at == 0 => "the file is empty".to_owned(),
            None => "the stream has no end frame: its writer died or still writes".to_owned(),
        };
        Some(Found::Problem { at, to: at, error: Error::new(Class::Torn, what).at(at), transaction })
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn the_length_of_a_frame_stands_where_the_layout_says() {
        let (at, size, _) = crate::frame::header::LAYOUT.iter().find(|field| field.2 == "length").unwrap();
        assert_eq!((*at, *size), (8, 4));
    }
}
