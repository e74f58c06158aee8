//! A cursor at the end of a buffer, for the innermost loops.
//!
//! `Vec` keeps its length in memory, where each of many short appends must wait for the one before. A [`Pen`] is a pair of pointers that stay in registers.
//! Every method makes sure of the room that it needs; whatever it does, the buffer's length covers nothing but what was written.

use crate::event::digits::{ASCII, EIGHT_DIGITS, eight_digits};

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
            drop(pen);
            let wanted = format!("x{number}ab-{:09}007", number % 1_000_000_000);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
