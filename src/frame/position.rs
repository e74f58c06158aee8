//! Where something stands in a source: coordinates, incarnations and positions, with their printable forms.

use std::fmt;
use std::str::FromStr;

/// A place in a source's log as one number that only grows within an incarnation: `file number << 40 | byte offset`
/// for binary logs, `WAL generation << 40 | frame` for SQLite, the LSN for PostgreSQL. A txid is the coordinate of
/// the first event of its group (SQLite: of its commit frame).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinate(pub u64);

impl Coordinate {
    /// Bits of the offset within a file.
    pub const OFFSET_BITS: u32 = 40;
    /// Largest offset within a file, in bytes.
    pub const OFFSET_MAX: u64 = (1 << Self::OFFSET_BITS) - 1;
    /// Largest file number.
    pub const FILE_MAX: u64 = (1 << (64 - Self::OFFSET_BITS)) - 1;

    /// The coordinate of byte `offset` in file `file`; `None` when either is out of range.
    pub fn new(file: u64, offset: u64) -> Option<Coordinate> {
        (file <= Self::FILE_MAX && offset <= Self::OFFSET_MAX).then_some(Coordinate(file << Self::OFFSET_BITS | offset))
    }

    /// The file number (WAL generation, high part of the LSN).
    pub fn file(self) -> u64 {
        self.0 >> Self::OFFSET_BITS
    }

    /// The offset within the file in bytes (frame, low part of the LSN).
    pub fn offset(self) -> u64 {
        self.0 & Self::OFFSET_MAX
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file(), self.offset())
    }
}

impl FromStr for Coordinate {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Coordinate, PositionError> {
        let (file, offset) = text.split_once(':').ok_or(PositionError)?;
        Coordinate::new(decimal(file)?, decimal(offset)?).ok_or(PositionError)
    }
}

/// One life of a source: identity of the server in the high 32 bits, a stamp of the file (a binary log's format event
/// creation time in seconds) in the low 32. Two positions whose file numbers are equal and whose incarnations differ are of
/// different logs; a different high half is a different source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// From the hash of the server's identity and the stamp of the file.
    pub fn new(server: u32, stamp: u32) -> Incarnation {
        Incarnation(u64::from(server) << 32 | u64::from(stamp))
    }

    /// Hash of the server's identity.
    pub fn server(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Stamp of the file.
    pub fn stamp(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A transaction's printable position: `FILE:START-END,INCARNATION,DIGEST[,GTID]`, for example
/// `42:1234-5678,9f3c2a1065f0c1aa,1a2b3c4d,0-1-100`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Coordinate of the group's first event.
    pub txid: Coordinate,
    /// Coordinate just behind the group, in the same file.
    pub end: Coordinate,
    /// Life of the source in which it happened.
    pub incarnation: Incarnation,
    /// The source's own evidence: CRC-32 over the commit event without its position and checksum bytes (binary logs),
    /// or over the checksum pair of the commit frame (SQLite), or over LSN and xid (PostgreSQL).
    pub digest: u32,
    /// Own GTID in the source's notation; empty when it has none.
    pub gtid: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}-{},{},{:08x}",
            self.txid.file(),
            self.txid.offset(),
            self.end.offset(),
            self.incarnation,
            self.digest
        )?;
        if !self.gtid.is_empty() {
            write!(f, ",{}", self.gtid)?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Position, PositionError> {
        let mut parts = text.splitn(4, ',');
        let (Some(place), Some(incarnation), Some(digest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PositionError);
        };
        let gtid = parts.next().unwrap_or("");
        let (file, range) = place.split_once(':').ok_or(PositionError)?;
        let (start, end) = range.split_once('-').ok_or(PositionError)?;
        let (file, start, end) = (decimal(file)?, decimal(start)?, decimal(end)?);
        if start > end || incarnation.len() != 16 || digest.len() != 8 || !plain_gtid(gtid) {
            return Err(PositionError);
        }
        Ok(Position {
            txid: Coordinate::new(file, start).ok_or(PositionError)?,
            end: Coordinate::new(file, end).ok_or(PositionError)?,
            incarnation: Incarnation(u64::from_str_radix(incarnation, 16).map_err(|_| PositionError)?),
            digest: u32::from_str_radix(digest, 16).map_err(|_| PositionError)?,
            gtid: gtid.to_owned(),
        })
    }
}

/// What a person may write where a position is asked for (`--after`, `--until`, `--init`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PositionSpec {
    /// `oldest`: everything the source still holds.
    Oldest,
    /// `now`: what comes after this moment.
    Now,
    /// A position as rlog prints it.
    Position(Position),
    /// A server coordinate as SHOW MASTER STATUS and dumps give it, `NAME.000042:1234` or `42:1234`: groups that end
    /// at or before it are done.
    Server {
        /// Base name of the log file before its number, empty when only the number was given.
        base: String,
        /// The coordinate.
        at: Coordinate,
    },
    /// A GTID, or a set or list of them in the source's notation.
    Gtid(String),
}

impl FromStr for PositionSpec {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<PositionSpec, PositionError> {
        match text {
            "" => return Err(PositionError),
            "oldest" => return Ok(PositionSpec::Oldest),
            "now" => return Ok(PositionSpec::Now),
            _ => {}
        }
        if let Ok(position) = text.parse() {
            return Ok(PositionSpec::Position(position));
        }
        if looks_like_gtid(text) {
            return Ok(PositionSpec::Gtid(text.to_owned()));
        }
        let (name, offset) = text.rsplit_once(':').ok_or(PositionError)?;
        let (base, number) = match name.rsplit_once('.') {
            Some((base, number)) => (base, number),
            None => ("", name),
        };
        let at = Coordinate::new(decimal(number)?, decimal(offset)?).ok_or(PositionError)?;
        Ok(PositionSpec::Server { base: base.to_owned(), at })
    }
}

/// MariaDB `domain-server-sequence` or MySQL `uuid:numbers`, one or a comma-separated list.
fn looks_like_gtid(text: &str) -> bool {
    text.split(',').map(str::trim).all(|part| {
        let dashed: Vec<&str> = part.split('-').collect();
        let mariadb = dashed.len() == 3 && dashed.iter().all(|number| decimal(number).is_ok());
        let mysql = part.split_once(':').is_some_and(|(uuid, rest)| {
            uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && !rest.is_empty()
        });
        mariadb || mysql
    })
}

/// GTIDs are letters, digits and `-:_,`; nothing that a shell or a terminal would act upon.
fn plain_gtid(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'_' | b','))
}

/// Digits only: no sign, no blank, as `u64::from_str` would allow with `+`.
fn decimal(text: &str) -> Result<u64, PositionError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PositionError);
    }
    text.parse().map_err(|_| PositionError)
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a position (expected one as rlog prints it, FILE:OFFSET as the server prints it, a GTID, `oldest` or `now`)"
)]
pub struct PositionError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text() {
        for gtid in ["", "0-1-100", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"] {
            let position = Position {
                txid: Coordinate::new(42, 5_000_000_000).unwrap(),
                end: Coordinate::new(42, 5_000_000_100).unwrap(),
                incarnation: Incarnation::new(7, 1_700_000_000),
                digest: 0xabc,
                gtid: gtid.into(),
            };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn what_a_person_may_write_is_understood() {
        let server = |base: &str, file, offset| PositionSpec::Server {
            base: base.into(),
            at: Coordinate::new(file, offset).unwrap(),
        };
        assert_eq!("mysql-bin.000042:1234".parse(), Ok(server("mysql-bin", 42, 1234)));
        assert_eq!("42:1234".parse(), Ok(server("", 42, 1234)));
        assert_eq!("oldest".parse(), Ok(PositionSpec::Oldest));
        assert_eq!("0-1-100".parse(), Ok(PositionSpec::Gtid("0-1-100".into())));
        assert_eq!(
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23".parse(),
            Ok(PositionSpec::Gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23".into()))
        );
        for wrong in ["", "x", "42", "bin.1:+5", "42:99999999999999999999", "now ", "-1:4"] {
            assert_eq!(wrong.parse::<PositionSpec>(), Err(PositionError), "{wrong:?}");
        }
    }
}
