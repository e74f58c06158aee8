//! A cursor at the end of a buffer, for the innermost loops.
//!
//! `Vec` keeps its length in memory, where each of many short appends must wait for the one before. A [`Pen`] is a pair of pointers that stay in registers.
//! Every method makes sure of the room that it needs; whatever it does, the buffer's length covers nothing but what was written.

use std::ops::Range;

use crate::event::digits::{ASCII, EIGHT_DIGITS, eight_digits};

/// A text that is appended often, with its first bytes at hand.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    short: [u8; 32],
    /// 0 when it is longer than `short`, or empty.
    short_len: u8,
    long: Vec<u8>,
}

impl From<Vec<u8>> for Piece {
    fn from(long: Vec<u8>) -> Piece {
        let mut short = [0; 32];
        let fits = short.get_mut(..long.len()).map(|room| room.copy_from_slice(&long)).is_some();
        Piece { short, short_len: if fits { long.len() as u8 } else { 0 }, long }
    }
}

/// Appends to a buffer, whose length is set when the pen is dropped.
pub struct Pen<'a> {
    out: &'a mut Vec<u8>,
    // Both point into `out`'s allocation; bytes before `at` are initialised.
    at: *mut u8,
    end: *mut u8,
}

impl<'a> Pen<'a> {
    /// Appends to `out`.
    #[inline(always)]
    pub fn new(out: &'a mut Vec<u8>) -> Pen<'a> {
        let mut pen = Pen { out, at: std::ptr::null_mut(), end: std::ptr::null_mut() };
        pen.take_up();
        pen
    }

    #[inline(always)]
    fn take_up(&mut self) {
        let spare = self.out.spare_capacity_mut().as_mut_ptr_range();
        (self.at, self.end) = (spare.start.cast(), spare.end.cast());
    }

    #[inline(always)]
    fn lay_down(&mut self) {
        // SAFETY: `at` lies between the buffer's start and its capacity, and everything before it was written.
        unsafe {
            let length = self.at.offset_from(self.out.as_ptr()) as usize;
            self.out.set_len(length);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, bytes: usize) {
        self.lay_down();
        self.out.reserve(bytes);
        self.take_up();
    }

    /// Makes room for so many bytes.
    #[inline(always)]
    fn room(&mut self, bytes: usize) {
        // No address is below `at`.
        if (self.end as usize) - (self.at as usize) < bytes {
            self.grow(bytes);
        }
    }

    /// Appends the first `length` bytes of a block (all, if there are fewer), by copying all of it.
    #[inline(always)]
    pub fn block<const N: usize>(&mut self, block: &[u8; N], length: usize) {
        self.room(N);
        // SAFETY: there is room for N bytes, and at most N of them are kept.
        unsafe {
            std::ptr::copy_nonoverlapping(block.as_ptr(), self.at, N);
            self.at = self.at.add(length.min(N));
        }
    }

    /// Appends the low `length` bytes of a word, at most 8.
    #[inline(always)]
    pub fn word(&mut self, word: u64, length: usize) {
        self.block(&word.to_le_bytes(), length);
    }

    /// Appends a byte.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        self.block(&[byte], 1);
    }

    /// Appends bytes.
    #[inline(always)]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        // SAFETY: there is room for them, and they lie elsewhere: the buffer is borrowed.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.at = self.at.add(bytes.len());
        }
    }

    /// Appends the first `length` bytes of blocks (all, if there are fewer), by copying all of them.
    #[inline(always)]
    pub fn blocks(&mut self, blocks: &[[u8; 32]], length: usize) {
        self.room(blocks.len() * 32);
        let mut to = self.at;
        for block in blocks {
            // SAFETY: there is room for all blocks.
            unsafe {
                std::ptr::copy_nonoverlapping(block.as_ptr(), to, 32);
                to = to.add(32);
            }
        }
        // SAFETY: so many bytes were written.
        self.at = unsafe { self.at.add(length.min(blocks.len() * 32)) };
    }

    /// Appends a text that is usually short.
    #[inline(always)]
    pub fn piece(&mut self, piece: &Piece) {
        if piece.short_len == 0 {
            self.bytes(&piece.long);
        } else {
            self.block(&piece.short, piece.short_len.into());
        }
    }

    /// Bytes of the buffer so far.
    #[inline(always)]
    pub fn len(&self) -> usize {
        // SAFETY: both are of the same allocation.
        unsafe { self.at.offset_from(self.out.as_ptr()) as usize }
    }

    /// Takes back what was written behind `length` bytes of the buffer.
    #[inline(always)]
    pub fn truncate(&mut self, length: usize) {
        if length < self.len() {
            // SAFETY: it stays within what was written.
            self.at = unsafe { self.out.as_mut_ptr().add(length) };
        }
    }

    /// Appends bytes that the buffer has already; nothing when it does not have them.
    #[inline(always)]
    pub fn again(&mut self, range: Range<usize>) {
        if range.start > range.end || range.end > self.len() {
            return;
        }
        let length = range.end - range.start;
        self.room(length + 32);
        let (mut from, mut to) = (range.start, self.at);
        let stop = range.end;
        // SAFETY: the range was written, and there is room for it and a block more behind `at`. A block may reach beyond the range, but not beyond the
        // allocation, since `at` is not before the range's end; what it brings along from there is not kept.
        unsafe {
            while from < stop {
                std::ptr::copy(self.out.as_ptr().add(from), to, 32);
                (from, to) = (from + 32, to.add(32));
            }
            self.at = self.at.add(length);
        }
    }

    /// Lets `write` append to the buffer itself.
    #[inline(always)]
    pub fn buffer<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.lay_down();
        let done = write(self.out);
        self.take_up();
        done
    }

    /// Appends an unsigned integer.
    #[inline(always)]
    pub fn uint(&mut self, number: u64) {
        if number < EIGHT_DIGITS {
            return self.leading(number as u32);
        }
        let (high, low) = (number / EIGHT_DIGITS, (number % EIGHT_DIGITS) as u32);
        if high < EIGHT_DIGITS {
            self.leading(high as u32);
        } else {
            self.leading((high / EIGHT_DIGITS) as u32);
            self.word(eight_digits((high % EIGHT_DIGITS) as u32) | ASCII, 8);
        }
        self.word(eight_digits(low) | ASCII, 8);
    }

    /// At most eight digits, without zeros in front.
    #[inline(always)]
    fn leading(&mut self, number: u32) {
        let digits = eight_digits(number);
        // The last digit stays, also of zero.
        let zeros = ((digits | 1 << 63).trailing_zeros() / 8) as usize;
        self.word(digits >> (8 * zeros) | ASCII, 8 - zeros);
    }

    /// Appends the last `digits` digits of a number below 10^9, at most 9.
    #[inline(always)]
    pub fn padded(&mut self, number: u32, digits: usize) {
        if digits > 8 {
            self.byte(b'0' + (number / EIGHT_DIGITS as u32) as u8);
        }
        let digits = digits.min(8);
        let word = eight_digits(number % EIGHT_DIGITS as u32) | ASCII;
        self.word(if digits == 0 { 0 } else { word >> (64 - 8 * digits) }, digits);
    }
}

impl Drop for Pen<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lay_down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pen_writes_is_what_the_buffer_has() {
        for number in [0, 7, 10, 99_999_999, 100_000_000, 9_999_999_999_999_999, 10_000_000_000_000_000, u64::MAX] {
            let mut out = b"x".to_vec();
            out.shrink_to_fit();
            let mut pen = Pen::new(&mut out);
            pen.uint(number);
            pen.block(b"abc", 2);
            pen.bytes(b"");
            pen.buffer(|out| out.push(b'-'));
            pen.padded((number % 1_000_000_000) as u32, 9);
            pen.padded(7, 3);
            pen.padded(7, 0);
            pen.piece(&Piece::from(b"piece".to_vec()));
            pen.piece(&Piece::default());
            pen.blocks(&[*b"0123456789abcdef0123456789abcdef"; 2], 33);
            pen.truncate(pen.len() - 33);
            pen.piece(&Piece::from(vec![b'l'; 40]));
            let length = pen.len();
            pen.bytes(b"taken back");
            pen.truncate(length);
            pen.truncate(usize::MAX);
            pen.again(length - 42..length - 2);
            pen.again(1..2);
            pen.again(7..1000);
            drop(pen);
            let digit = number.to_string().as_bytes()[0] as char;
            let long = "l".repeat(40);
            let wanted = format!("x{number}ab-{:09}007piece{long}ce{}{digit}", number % 1_000_000_000, &long[2..]);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
