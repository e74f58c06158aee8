//! Where the next event stands, behind bytes that are none.
//!
//! An event is believed where several things agree: a type that exists, a size that fits into the file, an end position that is right, and a checksum.
//! Logs without checksums, and relay logs, whose positions are another file's, must show a chain of three such headers instead, or one that ends with the
//! file. Of encrypted events only the sizes are clear: a chain of sizes, then the event must decrypt to one that has a right checksum.

use super::decrypt::Decryption;
use super::event::{self, Format, HEADER_LEN};

/// Events that must follow each other where nothing better proves them.
const CHAIN: usize = 3;
/// Bytes of checksums that are computed for each byte searched, at most.
const EFFORT: u64 = 64;

/// What is known about the bytes.
pub struct Search<'a> {
    /// From the place of damage to the end of the file.
    pub bytes: &'a [u8],
    /// Offset of the first of them in the log.
    pub at: u64,
    /// How events are written.
    pub format: &'a Format,
    /// Whether end positions are of another file.
    pub relay: bool,
}

impl Search<'_> {
    /// How many bytes behind the first one an event stands, 1 at least; `None` when there is none.
    pub fn next(&self, mut encryption: Option<&mut Decryption>) -> Option<usize> {
        let mut effort = (self.bytes.len() as u64).saturating_mul(EFFORT).max(1 << 24);
        let mut decrypted = Vec::new();
        for offset in 1..self.bytes.len() {
            let rest = self.bytes.get(offset..)?;
            if rest.len() < self.format.header_len.min(HEADER_LEN) {
                return None;
            }
            let found = match &mut encryption {
                Some(encryption) => self.is_encrypted_event(rest, offset, encryption, &mut decrypted, &mut effort),
                None => self.is_event(rest, offset, &mut effort),
            };
            if found {
                return Some(offset);
            }
            if effort == 0 {
                return None;
            }
        }
        None
    }

    fn is_event(&self, rest: &[u8], offset: usize, effort: &mut u64) -> bool {
        let format = self.format;
        let Some(header) = format.header(rest) else { return false };
        let size = header.size as usize;
        if !event::is_known(header.kind) || size < format.header_len + 1 || size > rest.len() {
            return false;
        }
        let start = self.at + offset as u64;
        let place = if format.version < 4 { start } else { start + size as u64 };
        let placed = !self.relay && format.version > 1 && header.log_pos == place as u32;
        if format.checksum {
            if !(placed || self.relay || header.log_pos == 0) {
                return false;
            }
            *effort = effort.saturating_sub(size as u64);
            return rest.get(..size).is_some_and(|raw| format.verify(&header, raw, 0).is_ok());
        }
        placed
            || self.chain(rest, |rest| {
                format.header(rest).filter(|header| event::is_known(header.kind)).map(|header| header.size)
            })
    }

    fn is_encrypted_event(
        &self,
        rest: &[u8],
        offset: usize,
        encryption: &mut Decryption,
        decrypted: &mut Vec<u8>,
        effort: &mut u64,
    ) -> bool {
        let size_of = |rest: &[u8]| Some(u32::from_le_bytes(*rest.get(9..13)?.first_chunk::<4>()?));
        let Some(size) = size_of(rest).map(|size| size as usize).filter(|size| *size <= rest.len()) else {
            return false;
        };
        if !self.chain(rest, size_of) {
            return false;
        }
        *effort = effort.saturating_sub(size as u64 * 4);
        let Some(raw) = rest.get(..size) else { return false };
        if encryption.event(raw, self.at + offset as u64, decrypted).is_err() {
            return false;
        }
        let Some(header) = self.format.header(decrypted) else { return false };
        event::is_known(header.kind) && (!self.format.checksum || self.format.verify(&header, decrypted, 0).is_ok())
    }

    /// Whether sizes lead from here over several headers, or to the very end.
    fn chain(&self, rest: &[u8], size: impl Fn(&[u8]) -> Option<u32>) -> bool {
        let mut rest = rest;
        for _ in 0..CHAIN {
            if rest.is_empty() {
                break;
            }
            let Some(size) = size(rest).map(|size| size as usize) else { return false };
            if size <= self.format.header_len || size > rest.len() {
                return false;
            }
            rest = rest.get(size..).unwrap_or(&[]);
        }
        true
    }
}

/// How the events of a log are written whose first event is damaged: by what can still be read of it (`first`: everything behind the magic number), and by which
/// checksums are right in what follows.
pub fn guess_format(first: &[u8], relay: bool) -> Format {
    let mut format = Format::from_first_event(first);
    if let Some(header) = format.header(first) {
        (format.timestamp, format.server_id) = (header.timestamp, header.server_id);
    }
    let version = first.get(HEADER_LEN + 2..HEADER_LEN + 52).unwrap_or(&[]);
    let text: Vec<u8> = version.iter().copied().take_while(|byte| byte.is_ascii_graphic()).collect();
    format.server_version = String::from_utf8_lossy(&text).into_owned();
    if text.windows(7).any(|part| part.eq_ignore_ascii_case(b"MariaDB")) {
        format.family = super::table_map::Family::MariaDb;
    }
    format.checksum = true;
    let search = Search { bytes: first, at: event::FIRST_EVENT_AT, format: &format, relay };
    format.checksum = search.next(None).is_some();
    format
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, at: usize, body: &[u8], checksum: bool) -> Vec<u8> {
        let size = HEADER_LEN + body.len() + if checksum { 4 } else { 0 };
        let mut out = vec![1, 2, 3, 4, kind, 7, 0, 0, 0];
        out.extend_from_slice(&(size as u32).to_le_bytes());
        out.extend_from_slice(&((at + size) as u32).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(body);
        if checksum {
            let sum = crc32fast::hash(&out);
            out.extend_from_slice(&sum.to_le_bytes());
        }
        out
    }

    #[test]
    fn an_event_is_found_by_its_checksum_its_position_or_its_neighbours() {
        for (checksum, relay) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut bytes = vec![0xee; 50];
            let shift = if relay { 1_000_000 } else { 0 };
            for _ in 0..4 {
                let next = event(2, shift + 500 + bytes.len(), b"some statement", checksum);
                bytes.extend_from_slice(&next);
            }
            let mut format = Format::initial();
            format.checksum = checksum;
            let search = Search { bytes: &bytes, at: 500, format: &format, relay };
            assert_eq!(search.next(None), Some(50), "{checksum} {relay}");
            let search = Search { bytes: &bytes[..60], ..search };
            assert_eq!(search.next(None), None);
        }
    }
}
