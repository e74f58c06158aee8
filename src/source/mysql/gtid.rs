//! GTIDs of both families: the events that carry them, and the state that they add up to.
//!
//! MySQL: `uuid[:tag]:number`; the state is a set of intervals. MariaDB: `domain-server-sequence`; the state is the last one of each
//! domain. States compare per domain or per UUID, never by order in the log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bytes::Bytes;

/// Own GTID of a group and what else its event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupHead {
    /// Who it is.
    pub id: Gtid,
    /// MySQL's (last_committed, sequence_number).
    pub clock: Option<(i64, i64)>,
    /// MariaDB's group commit.
    pub commit_id: Option<u64>,
    /// MariaDB's flags, [`maria`]; 0 for MySQL.
    pub flags: u8,
    /// MariaDB's further flags, [`maria_extra`].
    pub flags_extra: u8,
    /// When the server that first executed it committed it, microseconds since 1970 UTC; 0: not said.
    pub commit_time_us: i64,
    /// XA transaction id (MariaDB).
    pub xid: Vec<u8>,
    /// Connection, where said (MariaDB 12).
    pub thread: u32,
}

/// Bits of the flags of MariaDB's GTID event.
#[allow(missing_docs)]
pub mod maria {
    pub const STANDALONE: u8 = 1;
    pub const GROUP_COMMIT_ID: u8 = 2;
    pub const TRANSACTIONAL: u8 = 4;
    pub const ALLOW_PARALLEL: u8 = 8;
    pub const WAITED: u8 = 16;
    pub const DDL: u8 = 32;
    pub const PREPARED_XA: u8 = 64;
    pub const COMPLETED_XA: u8 = 128;
}

/// Bits of the further flags of MariaDB's GTID event (10.7 and on).
#[allow(missing_docs)]
pub mod maria_extra {
    pub const MULTI_ENGINE: u8 = 1;
    pub const START_ALTER: u8 = 2;
    pub const COMMIT_ALTER: u8 = 4;
    pub const ROLLBACK_ALTER: u8 = 8;
    pub const THREAD_ID: u8 = 16;
}

/// A GTID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gtid {
    /// None.
    #[default]
    Anonymous,
    /// MySQL's.
    MySql {
        /// UUID of the server that first executed it.
        uuid: [u8; 16],
        /// Tag (8.3 and on), empty for none.
        tag: Vec<u8>,
        /// Number.
        number: u64,
    },
    /// MariaDB's.
    MariaDb {
        /// Domain.
        domain: u32,
        /// Server that first executed it.
        server: u32,
        /// Number.
        sequence: u64,
    },
}

impl Gtid {
    /// Appends its text.
    pub fn write(&self, out: &mut String) {
        match self {
            Gtid::Anonymous => {}
            Gtid::MySql { uuid, tag, number } => {
                write_source(uuid, tag, out);
                out.push(':');
                out.push_str(itoa::Buffer::new().format(*number));
            }
            Gtid::MariaDb { domain, server, sequence } => write_maria(*domain, *server, *sequence, out),
        }
    }
}

fn write_maria(domain: u32, server: u32, sequence: u64, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    out.push_str(digits.format(domain));
    out.push('-');
    out.push_str(digits.format(server));
    out.push('-');
    out.push_str(digits.format(sequence));
}

fn write_source(uuid: &[u8; 16], tag: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    if !tag.is_empty() {
        out.push(':');
        // Tags are letters, digits and underscores; anything else must not reach a position's text.
        out.extend(tag.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '_' }));
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    for byte in &mut out {
        let mut digit = || digits.next().and_then(|digit| char::from(digit).to_digit(16));
        *byte = (digit()? * 16 + digit()?) as u8;
    }
    (digits.next().is_none() && text.len() == 36).then_some(out)
}

/// MySQL's GTID and ANONYMOUS_GTID events.
pub fn parse_mysql(body: &[u8], anonymous: bool, out: &mut GroupHead) -> Option<()> {
    let mut input = Bytes::new(body);
    input.u8()?;
    let uuid: [u8; 16] = *input.take(16)?.first_chunk()?;
    let number = input.u64()?;
    out.id = if anonymous { Gtid::Anonymous } else { Gtid::MySql { uuid, tag: Vec::new(), number } };
    // 5.6 ends here; 2 says that a logical clock follows.
    if input.u8() == Some(2) {
        out.clock = Some((input.u64()? as i64, input.u64()? as i64));
        if let Some(immediate) = input.u56() {
            let has_original = immediate >> 55 & 1 == 1;
            let original = if has_original { input.u56()? } else { immediate };
            out.commit_time_us = (original & !(1 << 55)) as i64;
        }
    }
    Some(())
}

/// MySQL's tagged GTID event (8.3 and on): numbered fields of its serialization library, in order.
pub fn parse_mysql_tagged(body: &[u8], out: &mut GroupHead) -> Option<()> {
    let mut input = Bytes::new(body);
    let (_version, _size, _last_needed) = (varlen(&mut input)?, varlen(&mut input)?, varlen(&mut input)?);
    let (mut uuid, mut tag, mut number) = ([0; 16], Vec::new(), 0);
    let (mut last_committed, mut sequence) = (0, 0);
    let (mut immediate, mut original) = (0, None);
    while !input.rest().is_empty() {
        match varlen(&mut input)? {
            0 => drop(varlen(&mut input)?),
            1 => {
                for byte in &mut uuid {
                    *byte = u8::try_from(varlen(&mut input)?).ok()?;
                }
            }
            2 => number = u64::try_from(signed(varlen(&mut input)?)).ok()?,
            3 => {
                let length = usize::try_from(varlen(&mut input)?).ok()?;
                tag = input.take(length)?.to_vec();
            }
            4 => last_committed = signed(varlen(&mut input)?),
            5 => sequence = signed(varlen(&mut input)?),
            6 => immediate = varlen(&mut input)?,
            7 => original = Some(varlen(&mut input)?),
            // What follows (length, server versions, ticket) is not needed, and fields have no length to pass over.
            _ => break,
        }
    }
    out.id = Gtid::MySql { uuid, tag, number };
    out.clock = Some((last_committed, sequence));
    out.commit_time_us = original.unwrap_or(immediate) as i64;
    Some(())
}

/// A number whose first byte tells by its trailing ones how many bytes follow.
fn varlen(input: &mut Bytes<'_>) -> Option<u64> {
    let first = input.u8()?;
    let more = first.trailing_ones() as usize;
    if more >= 8 {
        return input.u64();
    }
    let mut value = u64::from(first) >> (more + 1);
    let mut wide = [0; 8];
    wide.get_mut(..more)?.copy_from_slice(input.take(more)?);
    value |= u64::from_le_bytes(wide).checked_shl(7 - more as u32)?;
    Some(value)
}

/// The sign is in the lowest bit.
fn signed(value: u64) -> i64 {
    let magnitude = (value >> 1) as i64;
    if value & 1 == 1 { !magnitude } else { magnitude }
}

/// MariaDB's GTID event. What flags announce follows them at once (seen in logs of 10.11 and 11.8); zeros behind it pad the data to 19 bytes, and read as no
/// extra flags.
pub fn parse_mariadb(body: &[u8], server: u32, out: &mut GroupHead) -> Option<()> {
    let mut input = Bytes::new(body);
    let (sequence, domain, flags) = (input.u64()?, input.u32()?, input.u8()?);
    out.id = Gtid::MariaDb { domain, server, sequence };
    out.flags = flags;
    let is_xa = flags & (maria::PREPARED_XA | maria::COMPLETED_XA) != 0;
    if flags & maria::GROUP_COMMIT_ID != 0 {
        out.commit_id = Some(input.u64()?);
    }
    if is_xa {
        let (format, gtrid, bqual) = (input.u32()?, input.u8()?, input.u8()?);
        let gtrid = input.take(usize::from(gtrid))?;
        let bqual = input.take(usize::from(bqual))?;
        out.xid = xid_text(format as i32, gtrid, bqual);
    }
    if let Some(extra) = input.u8() {
        out.flags_extra = extra;
        if extra & maria_extra::MULTI_ENGINE != 0 {
            input.u8()?;
        }
        if extra & (maria_extra::COMMIT_ALTER | maria_extra::ROLLBACK_ALTER) != 0 {
            input.u64()?;
        }
        if extra & maria_extra::THREAD_ID != 0 {
            out.thread = input.u32()?;
        }
    }
    Some(())
}

/// An XA id as both servers write it in their own XA statements: `X'6162',X'',1`.
pub fn xid_text(format: i32, gtrid: &[u8], bqual: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for part in [gtrid, bqual] {
        out.push_str("X'");
        for byte in part {
            let _ = write!(out, "{byte:02x}");
        }
        out.push_str("',");
    }
    let _ = write!(out, "{format}");
    out.into_bytes()
}

/// The GTIDs that a log has reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    // MySQL: by UUID and tag, intervals as start -> end, exclusive, neither touching nor overlapping.
    sets: BTreeMap<([u8; 16], Vec<u8>), BTreeMap<u64, u64>>,
    // MariaDB: domain -> (server, sequence).
    domains: BTreeMap<u32, (u32, u64)>,
}

impl State {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.domains.is_empty()
    }

    /// Whether it is of one domain of MariaDB, so that its number tells everything.
    pub fn is_one_domain(&self) -> bool {
        self.domains.len() == 1 && self.sets.is_empty()
    }

    /// Adds a GTID.
    pub fn add(&mut self, id: &Gtid) {
        match id {
            Gtid::Anonymous => {}
            Gtid::MariaDb { domain, server, sequence } => drop(self.domains.insert(*domain, (*server, *sequence))),
            Gtid::MySql { uuid, tag, number } => {
                // The usual case, one more than the last, allocates nothing but the key.
                let end = number.saturating_add(1);
                self.add_interval(*uuid, tag.clone(), *number, end);
            }
        }
    }

    fn add_interval(&mut self, uuid: [u8; 16], tag: Vec<u8>, mut start: u64, mut end: u64) {
        let set = self.sets.entry((uuid, tag)).or_default();
        if let Some((&before, before_end)) = set.range_mut(..=start).next_back()
            && *before_end >= start
        {
            if *before_end >= end {
                return;
            }
            let touches = set.range(start..=end).next().is_some_and(|(next, _)| *next != before);
            if !touches {
                set.insert(before, end);
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = set.range(start..=end).next() {
            end = end.max(next_end);
            set.remove(&next);
        }
        set.insert(start, end);
    }

    /// Whether it contains a GTID: of MariaDB's, whether the domain has reached its number.
    pub fn contains(&self, id: &Gtid) -> bool {
        match id {
            Gtid::Anonymous => false,
            Gtid::MariaDb { domain, sequence, .. } => {
                self.domains.get(domain).is_some_and(|(_, reached)| reached >= sequence)
            }
            Gtid::MySql { uuid, tag, number } => self
                .sets
                .get(&(*uuid, tag.clone()))
                .is_some_and(|set| set.range(..=number).next_back().is_some_and(|(_, end)| end > number)),
        }
    }

    /// What `self` has and `other` has not, as text; `None`: nothing.
    pub fn first_missing_in(&self, other: &State) -> Option<String> {
        for (domain, (server, sequence)) in &self.domains {
            let id = Gtid::MariaDb { domain: *domain, server: *server, sequence: *sequence };
            if !other.contains(&id) {
                let mut text = String::new();
                id.write(&mut text);
                return Some(text);
            }
        }
        for ((uuid, tag), set) in &self.sets {
            let theirs = other.sets.get(&(*uuid, tag.clone()));
            for (start, end) in set {
                let covered = theirs
                    .and_then(|theirs| theirs.range(..=start).next_back())
                    .is_some_and(|(_, their_end)| their_end >= end);
                if !covered {
                    let mut text = String::new();
                    write_source(uuid, tag, &mut text);
                    let _ = write!(text, ":{start}-{}", end - 1);
                    return Some(text);
                }
            }
        }
        None
    }

    /// Its text in the source's notation.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (domain, (server, sequence)) in &self.domains {
            if !out.is_empty() {
                out.push(',');
            }
            write_maria(*domain, *server, *sequence, &mut out);
        }
        for ((uuid, tag), set) in &self.sets {
            if set.is_empty() {
                continue;
            }
            if !out.is_empty() {
                out.push(',');
            }
            write_source(uuid, tag, &mut out);
            for (start, end) in set {
                let _ = match end - start {
                    1 => write!(out, ":{start}"),
                    _ => write!(out, ":{start}-{}", end - 1),
                };
            }
        }
        out
    }

    /// From text as a person or [`State::text`] writes it.
    pub fn parse(text: &str) -> Option<State> {
        let mut out = State::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if let Some((uuid, rest)) = part.split_once(':') {
                let uuid = parse_uuid(uuid)?;
                let mut tag = Vec::new();
                for piece in rest.split(':') {
                    if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                        tag = piece.to_ascii_lowercase().into_bytes();
                        continue;
                    }
                    let (start, end) = piece.split_once('-').unwrap_or((piece, piece));
                    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
                    if start == 0 || start > end {
                        return None;
                    }
                    out.add_interval(uuid, tag.clone(), start, end.checked_add(1)?);
                }
            } else {
                let mut numbers = part.split('-');
                let (domain, server, sequence) = (numbers.next()?, numbers.next()?, numbers.next()?);
                if numbers.next().is_some() {
                    return None;
                }
                let value = (server.parse().ok()?, sequence.parse().ok()?);
                out.domains.insert(domain.parse().ok()?, value);
            }
        }
        Some(out)
    }

    /// From a PREVIOUS_GTIDS event.
    pub fn from_previous_gtids(body: &[u8]) -> Option<State> {
        let mut out = State::default();
        let mut input = Bytes::new(body);
        let head = input.u64()?;
        // 8.3 and on: the highest byte is the version of the encoding, 1 meaning that tags follow the UUIDs.
        let tagged = head >> 56 == 1;
        let sources = if tagged { head >> 8 & 0xffff_ffff_ffff } else { head & 0xffff_ffff_ffff };
        for _ in 0..sources {
            let uuid: [u8; 16] = *input.take(16)?.first_chunk()?;
            let mut tag = Vec::new();
            if tagged {
                let length = usize::try_from(varlen(&mut input)?).ok()?;
                tag = input.take(length)?.to_vec();
            }
            for _ in 0..input.u64()? {
                let (start, end) = (input.u64()?, input.u64()?);
                if start >= end {
                    return None;
                }
                out.add_interval(uuid, tag.clone(), start, end);
            }
        }
        Some(out)
    }

    /// From MariaDB's GTID_LIST event, whose last entry of a domain is its newest.
    pub fn from_gtid_list(body: &[u8]) -> Option<State> {
        let mut out = State::default();
        let mut input = Bytes::new(body);
        // The high four bits are flags.
        for _ in 0..input.u32()? & 0x0fff_ffff {
            let (domain, server, sequence) = (input.u32()?, input.u32()?, input.u64()?);
            out.domains.insert(domain, (server, sequence));
        }
        Some(out)
    }

    /// How many domains or sources it has.
    pub fn has_domain_of(&self, id: &Gtid) -> bool {
        match id {
            Gtid::Anonymous => true,
            Gtid::MariaDb { domain, .. } => self.domains.contains_key(domain),
            Gtid::MySql { uuid, tag, .. } => self.sets.contains_key(&(*uuid, tag.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_intervals_merge_and_come_back_from_their_text() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut state = State::parse(&format!("{uuid}:1-3:7:11-12")).unwrap();
        let bytes = parse_uuid(uuid).unwrap();
        for number in [5, 4, 8, 7, 10, 9] {
            state.add(&Gtid::MySql { uuid: bytes, tag: vec![], number });
        }
        assert_eq!(state.text(), format!("{uuid}:1-5:7-12"));
        state.add(&Gtid::MySql { uuid: bytes, tag: vec![], number: 6 });
        assert_eq!(state.text(), format!("{uuid}:1-12"));
        assert!(state.contains(&Gtid::MySql { uuid: bytes, tag: vec![], number: 12 }));
        assert!(!state.contains(&Gtid::MySql { uuid: bytes, tag: vec![], number: 13 }));
        assert_eq!(State::parse("0-1-100,7-2-3").unwrap().text(), "0-1-100,7-2-3");
        assert_eq!(State::parse("0-1"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = State::parse("0-1-100,7-2-3").unwrap();
        assert_eq!(all.first_missing_in(&State::parse("0-1-100").unwrap()).as_deref(), Some("7-2-3"));
        assert_eq!(all.first_missing_in(&all), None);
    }

    #[test]
    fn the_xa_id_of_mariadb_follows_the_flags_unpadded() {
        // As MariaDB 10.11 writes it for XA PREPARE 'b','branch',7.
        let mut body = 4u64.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 0, 0, 0, 0x8d, 7, 0, 0, 0, 1, 6]);
        body.extend_from_slice(b"bbranch");
        let mut head = GroupHead::default();
        parse_mariadb(&body, 1, &mut head).unwrap();
        assert_eq!(head.xid, b"X'62',X'6272616e6368',7");
        // Padded, as without an XA id.
        let mut plain = 4u64.to_le_bytes().to_vec();
        plain.extend_from_slice(&[0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0]);
        parse_mariadb(&plain, 1, &mut head).unwrap();
        assert_eq!((head.flags, head.flags_extra), (0x0c, 0));
    }

    #[test]
    fn an_xa_id_is_written_as_the_servers_write_it() {
        assert_eq!(xid_text(1, b"ab", b""), b"X'6162',X'',1");
    }
}
