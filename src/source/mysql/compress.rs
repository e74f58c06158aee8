//! Compressed events: MariaDB's (zlib, one event at a time) and MySQL's transaction payloads (zstd, a whole transaction, read as a stream).
//!
//! What a length claims is a limit and never an allocation: output grows as it comes out of the decompressor.

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::bytes::Bytes;

/// Largest event that is decompressed, in bytes; servers limit packets to 1 GiB.
pub const INFLATED_MAX: usize = 1 << 30;

/// Inflates MariaDB's form: a byte (bit 7 set, bits 4-6 the algorithm: 0 zlib, bits 0-2 how many bytes of a length follow), the length big-endian, the data.
/// Appends to `out`. `None`: invalid.
pub fn inflate_mariadb(input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (&head, rest) = input.split_first()?;
    let length_bytes = usize::from(head & 7);
    if head & 0x80 == 0 || head & 0x70 != 0 || !(1..=4).contains(&length_bytes) {
        return None;
    }
    let (length, compressed) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    if length > INFLATED_MAX {
        return None;
    }
    inflate(compressed, length, out)
}

/// Inflates zlib data that must come out as `length` bytes.
fn inflate(compressed: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut inflater = flate2::Decompress::new(true);
    let mut used = 0usize;
    loop {
        // Room for what is still expected, in steps, and one byte more so that too much is noticed.
        let have = out.len() - start;
        out.reserve((length + 1 - have.min(length)).clamp(64, 1 << 20));
        let before_out = inflater.total_out();
        let status = inflater.decompress_vec(compressed.get(used..)?, out, flate2::FlushDecompress::None).ok()?;
        let progressed = inflater.total_in() as usize > used || inflater.total_out() > before_out;
        used = inflater.total_in() as usize;
        if out.len() - start > length {
            return None;
        }
        match status {
            flate2::Status::StreamEnd => break,
            _ if !progressed => return None,
            _ => {}
        }
    }
    (out.len() - start == length).then_some(())
}

/// Head of a TRANSACTION_PAYLOAD event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadHead {
    /// Bytes of the body before the payload.
    pub head_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
    /// Whether it is zstd; else it is not compressed.
    pub zstd: bool,
    /// Bytes that come out.
    pub inflated_len: u64,
}

impl PayloadHead {
    /// Parses the fields (type, length, value; each number packed) until the mark 0.
    pub fn parse(body: &[u8]) -> Option<PayloadHead> {
        let mut input = Bytes::new(body);
        let (mut size, mut kind, mut inflated) = (None, 255, None);
        loop {
            let tag = input.packed()?;
            if tag == 0 {
                break;
            }
            let length = usize::try_from(input.packed()?).ok()?;
            let mut value = Bytes::new(input.take(length)?);
            match tag {
                1 => size = Some(usize::try_from(value.packed()?).ok()?),
                2 => kind = value.packed()?,
                3 => inflated = Some(value.packed()?),
                _ => {}
            }
        }
        let head_len = body.len() - input.rest().len();
        let payload_len = size.unwrap_or(input.rest().len());
        if payload_len > input.rest().len() || !matches!(kind, 0 | 255) {
            return None;
        }
        Some(PayloadHead {
            head_len,
            payload_len,
            zstd: kind == 0,
            inflated_len: inflated.unwrap_or(payload_len as u64),
        })
    }
}

/// Reads the events inside a payload, holding one of them at a time.
pub struct PayloadReader {
    decoder: Option<Decoder<'static>>,
    // Bytes of the payload that were consumed.
    used: usize,
    // Decompressed and not yet taken: buffer[start..].
    buffer: Vec<u8>,
    start: usize,
    produced: u64,
    inflated_len: u64,
}

/// What a step of [`PayloadReader::next`] gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An event of this many bytes is at the front of [`PayloadReader::event`].
    Event(usize),
    /// The payload ended where an event did.
    End,
}

impl PayloadReader {
    /// How much is decompressed at once, in bytes.
    const CHUNK_BYTES: usize = 128 << 10;

    /// Reads a payload.
    pub fn new(head: PayloadHead) -> std::io::Result<PayloadReader> {
        let decoder = if head.zstd { Some(Decoder::new()?) } else { None };
        Ok(PayloadReader {
            decoder,
            used: 0,
            buffer: Vec::new(),
            start: 0,
            produced: 0,
            inflated_len: head.inflated_len,
        })
    }

    /// The event that [`Next::Event`] told of.
    pub fn event(&self, size: usize) -> &[u8] {
        self.buffer.get(self.start..self.start + size).unwrap_or(&[])
    }

    /// Drops it.
    pub fn advance(&mut self, size: usize) {
        self.start = (self.start + size).min(self.buffer.len());
    }

    /// Makes the next event whole; `payload` is all of the payload. `Err`: what is wrong.
    pub fn next(&mut self, payload: &[u8]) -> Result<Next, &'static str> {
        const SIZE_AT: usize = 9;
        loop {
            let held = self.buffer.get(self.start..).unwrap_or(&[]);
            let size = held.get(SIZE_AT..SIZE_AT + 4).and_then(|size| size.first_chunk::<4>());
            if let Some(size) = size {
                let size = u32::from_le_bytes(*size) as usize;
                if !(super::event::HEADER_LEN..=INFLATED_MAX).contains(&size) {
                    return Err("an event inside the payload has an impossible size");
                }
                if held.len() >= size {
                    return Ok(Next::Event(size));
                }
            }
            if !self.fill(payload)? {
                return if self.start == self.buffer.len() && self.produced == self.inflated_len {
                    Ok(Next::End)
                } else {
                    Err("the payload ends inside an event, or is shorter than it claims")
                };
            }
        }
    }

    /// Decompresses more; `false` when there is no more.
    fn fill(&mut self, payload: &[u8]) -> Result<bool, &'static str> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let rest = payload.get(self.used..).unwrap_or(&[]);
        let Some(decoder) = &mut self.decoder else {
            let count = rest.len().min(Self::CHUNK_BYTES);
            self.buffer.extend_from_slice(rest.get(..count).unwrap_or(&[]));
            self.used += count;
            self.produced += count as u64;
            return Ok(count > 0);
        };
        let filled = self.buffer.len();
        self.buffer.resize(filled + Self::CHUNK_BYTES, 0);
        let mut input = InBuffer::around(rest);
        let (used, written) = {
            let room = self.buffer.get_mut(filled..).unwrap_or(&mut []);
            let mut output = OutBuffer::around(room);
            let done = decoder.run(&mut input, &mut output);
            let written = output.pos();
            if done.is_err() {
                return Err("its zstd data is damaged");
            }
            (input.pos(), written)
        };
        self.buffer.truncate(filled + written);
        self.used += used;
        self.produced += written as u64;
        if self.produced > self.inflated_len {
            return Err("the payload is longer than it claims");
        }
        Ok(used > 0 || written > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zlib_comes_out_whole_or_not_at_all() {
        use std::io::Write as _;
        let plain: Vec<u8> = (0..100_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        let length = (plain.len() as u32).to_be_bytes();
        let whole = [&[0x84], &length[..], &packed].concat();
        let mut out = vec![1];
        inflate_mariadb(&whole, &mut out).unwrap();
        assert_eq!(out[1..], plain);
        let wrong = [&[0x84], &(plain.len() as u32 - 1).to_be_bytes()[..], &packed].concat();
        assert_eq!(inflate_mariadb(&wrong, &mut Vec::new()), None);
        assert_eq!(inflate_mariadb(&whole[..whole.len() - 10], &mut Vec::new()), None);
    }
}
