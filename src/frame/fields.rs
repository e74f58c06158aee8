//! How envelope payloads are written: a list of fields, each `tag` (one byte), length (LEB128), value.
//!
//! An odd tag must be understood, an even one may be passed over, so that later versions can add both. Numbers
//! are little-endian with their high zero bytes left out (0 is empty); texts are UTF-8; other bytes are as they are.

use super::header::{FrameError, Kind};

/// Appends `value` in LEB128 (7 bits a byte, low bits first).
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 number off the front of `input`. `None`: cut short, or more than 64 bits.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// Takes `length` bytes off the front of `input`; `None` when there are fewer.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(taken)
}

/// Appends fields to a payload.
pub struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> FieldWriter<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> FieldWriter<'a> {
        FieldWriter { out }
    }

    /// A number; always written, 0 as an empty value.
    pub fn number(&mut self, tag: u8, value: u64) -> &mut Self {
        let bytes = value.to_le_bytes();
        let length = 8 - value.leading_zeros() as usize / 8;
        self.out.push(tag);
        self.out.push(length as u8);
        self.out.extend_from_slice(&bytes[..length]);
        self
    }

    /// A number that is left out when it is 0, the value that a reader assumes.
    pub fn number_unless_0(&mut self, tag: u8, value: u64) -> &mut Self {
        if value != 0 {
            self.number(tag, value);
        }
        self
    }

    /// A signed number, as its 64-bit two's complement.
    pub fn signed(&mut self, tag: u8, value: i64) -> &mut Self {
        self.number(tag, value as u64)
    }

    /// Bytes; always written.
    pub fn bytes(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        self.out.push(tag);
        put_varint(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// Bytes or text, left out when empty.
    pub fn bytes_unless_empty(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        if !value.is_empty() {
            self.bytes(tag, value);
        }
        self
    }
}

/// One field as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// What it is.
    pub tag: u8,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The value as a number; `None` when it is longer than 8 bytes.
    #[inline]
    pub fn number(&self) -> Option<u64> {
        if self.value.len() > 8 {
            return None;
        }
        Some(self.value.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The value as text; `None` when it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.value).ok()
    }
}

/// Walks the fields of a payload.
pub struct FieldReader<'a> {
    rest: &'a [u8],
    kind: &'static str,
    at: u64,
}

impl<'a> FieldReader<'a> {
    /// Reads the payload of an envelope frame of `kind` that stands at offset `at`.
    pub fn new(payload: &'a [u8], kind: Kind, at: u64) -> FieldReader<'a> {
        FieldReader::named(payload, kind.name(), at)
    }

    /// Reads fields of something that is not a frame kind; `kind` is its name in messages.
    pub fn named(payload: &'a [u8], kind: &'static str, at: u64) -> FieldReader<'a> {
        FieldReader { rest: payload, kind, at }
    }

    /// The next field; `None` at the end.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Field<'a>>, FrameError> {
        // Nearly all are short.
        if let [tag, length @ 0..0x80, rest @ ..] = self.rest
            && let Some((value, rest)) = rest.split_at_checked(usize::from(*length))
        {
            self.rest = rest;
            return Ok(Some(Field { tag: *tag, value }));
        }
        self.next_long()
    }

    fn next_long(&mut self) -> Result<Option<Field<'a>>, FrameError> {
        let Some((&tag, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let length = take_varint(&mut self.rest).ok_or_else(|| self.invalid("a field's length is cut short"))?;
        let value = usize::try_from(length)
            .ok()
            .and_then(|length| take_bytes(&mut self.rest, length))
            .ok_or_else(|| self.invalid(format!("field {tag} is longer than the payload")))?;
        Ok(Some(Field { tag, value }))
    }

    /// What to do with a tag that the caller does not know: nothing when it is even, else refuse.
    pub fn unknown(&self, field: Field<'_>) -> Result<(), FrameError> {
        if field.tag.is_multiple_of(2) {
            Ok(())
        } else {
            Err(FrameError::Field { at: self.at, kind: self.kind, tag: field.tag })
        }
    }

    /// The field as a number.
    pub fn number(&self, field: Field<'_>) -> Result<u64, FrameError> {
        field.number().ok_or_else(|| self.invalid(format!("field {} is no number", field.tag)))
    }

    /// The field as a number of at most 32 bits.
    pub fn number_u32(&self, field: Field<'_>) -> Result<u32, FrameError> {
        u32::try_from(self.number(field)?).map_err(|_| self.invalid(format!("field {} is too large", field.tag)))
    }

    /// The field as a signed number.
    pub fn signed(&self, field: Field<'_>) -> Result<i64, FrameError> {
        Ok(self.number(field)? as i64)
    }

    /// Whether the field is text; an error if not.
    #[inline]
    pub fn is_text(&self, field: Field<'_>) -> Result<(), FrameError> {
        if field.value.is_ascii() { Ok(()) } else { self.text(field).map(drop) }
    }

    /// The field as text.
    pub fn text(&self, field: Field<'_>) -> Result<String, FrameError> {
        Ok(field.text().ok_or_else(|| self.invalid(format!("field {} is not UTF-8", field.tag)))?.to_owned())
    }

    /// An error about this payload.
    pub fn invalid(&self, what: impl Into<String>) -> FrameError {
        FrameError::Payload { at: self.at, kind: self.kind, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_drop_their_high_zero_bytes_and_come_back() {
        for value in [0, 1, 255, 256, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            FieldWriter::new(&mut out).number(1, value);
            let field = FieldReader::new(&out, Kind::End, 0).next().unwrap().unwrap();
            assert_eq!(field.number(), Some(value));
        }
        let mut out = Vec::new();
        FieldWriter::new(&mut out).number(1, 0);
        assert_eq!(out, [1, 0]);
    }

    #[test]
    fn varints_of_more_than_64_bits_are_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(take_varint(&mut out.as_slice()), Some(u64::MAX));
        assert_eq!(take_varint(&mut [0xff; 11].as_slice()), None);
        assert_eq!(take_varint(&mut [0xff; 3].as_slice()), None);
        assert_eq!(take_varint(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()), None);
    }
}
