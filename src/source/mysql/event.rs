//! Framing: event types, headers of all binary-log versions, format description events and checksums.
//!
//! ```text
//! v1 (3.23)        timestamp 4, type 1, server id 4, size 4
//! v3 (4.0, 4.1)    the same, then log_pos 4 (where it begins), flags 2
//! v4 (5.0 and on)  the same, log_pos being where it ends (modulo 2^32; 0 where the server did not know)
//! ```
//!
//! A format description event says how long the headers are (Google's 5.1 has 27 bytes) and whether events end in a CRC-32. It carries
//! a CRC itself whenever its server knew checksums, computed with the in-use flag cleared.

use super::bytes::Bytes;
use super::table_map::Family;
use crate::error::{Class, Error, Result};

/// First bytes of a log file.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// Offset of the first event.
pub const FIRST_EVENT_AT: u64 = 4;
/// Header of v3 and v4 events; a format description event's is never longer.
pub const HEADER_LEN: usize = 19;
/// Header of v1 events.
pub const HEADER_LEN_V1: usize = 13;
/// Bytes of a checksum.
pub const CHECKSUM_LEN: usize = 4;

/// Event types (MySQL's and MariaDB's documentation of the binary log).
#[allow(missing_docs)]
pub mod kind {
    pub const UNKNOWN: u8 = 0;
    pub const START_V3: u8 = 1;
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const LOAD: u8 = 6;
    pub const SLAVE: u8 = 7;
    pub const CREATE_FILE: u8 = 8;
    pub const APPEND_BLOCK: u8 = 9;
    pub const EXEC_LOAD: u8 = 10;
    pub const DELETE_FILE: u8 = 11;
    pub const NEW_LOAD: u8 = 12;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const PRE_GA_WRITE_ROWS: u8 = 20;
    pub const PRE_GA_UPDATE_ROWS: u8 = 21;
    pub const PRE_GA_DELETE_ROWS: u8 = 22;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const MARIADB_ANNOTATE_ROWS: u8 = 160;
    pub const MARIADB_BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_GTID_LIST: u8 = 163;
    pub const MARIADB_START_ENCRYPTION: u8 = 164;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub const MARIADB_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const MARIADB_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const MARIADB_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const MARIADB_DELETE_ROWS_COMPRESSED: u8 = 171;
    pub const MARIADB_PARTIAL_ROW_DATA: u8 = 172;
}

/// Bits of the header's flags.
pub mod flag {
    /// In a format description event: the file is being written, or its server crashed.
    pub const IN_USE: u16 = 0x1;
    /// Made up for a reader; stands in no binary log.
    pub const ARTIFICIAL: u16 = 0x20;
    /// Written by a replica into its relay log on its own account.
    pub const RELAY_LOG: u16 = 0x40;
    /// May be passed over when not known.
    pub const IGNORABLE: u16 = 0x80;
}

/// The common header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 UTC.
    pub timestamp: u32,
    /// One of [`kind`], after the permutation of pre-release servers.
    pub kind: u8,
    /// Server that first executed it.
    pub server_id: u32,
    /// Bytes, header and checksum included.
    pub size: u32,
    /// As written: end (v4) or start (v3), modulo 2^32, or 0.
    pub log_pos: u32,
    /// Bits of [`flag`].
    pub flags: u16,
}

/// An event: header and data, checksum verified and taken off.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its header.
    pub header: Header,
    /// Behind the header, without checksum.
    pub body: &'a [u8],
    /// Header and body.
    pub raw: &'a [u8],
    /// Offset in the file that is read, for messages.
    pub at: u64,
    /// Offset in the source's log: the same, unless the file is a relay log.
    pub start: u64,
    /// Offset behind it in the source's log.
    pub end: u64,
}

impl Event<'_> {
    /// Its data is shorter than its type needs.
    pub fn cut(&self) -> Error {
        self.damage("it is cut short")
    }

    /// It is invalid.
    pub fn damage(&self, what: impl std::fmt::Display) -> Error {
        Error::damage(format!("{} event is invalid: {what}", name(self.header.kind))).at(self.at)
    }

    /// CRC-32 over the event without log position and checksum, so that file, relay log and live stream agree: the size counts as
    /// if there were no checksum.
    pub fn digest(&self) -> u32 {
        let mut head = [0u8; HEADER_LEN];
        let length = self.raw.len().min(HEADER_LEN);
        head[..length].copy_from_slice(self.raw.get(..length).unwrap_or(&[]));
        head[9..13].copy_from_slice(&(self.raw.len() as u32).to_le_bytes());
        let mut hasher = crc32();
        hasher.update(&head[..13]);
        if length == HEADER_LEN {
            hasher.update(&head[17..]);
        }
        hasher.update(self.raw.get(length..).unwrap_or(&[]));
        hasher.finalize()
    }
}

/// Whether an event type is one of those that this version knows.
pub fn is_known(number: u8) -> bool {
    matches!(number, 1..=42 | 160..=172)
}

/// What the event type is called in messages.
pub fn name(number: u8) -> String {
    const NAMES: [&str; 43] = [
        "UNKNOWN",
        "START_V3",
        "QUERY",
        "STOP",
        "ROTATE",
        "INTVAR",
        "LOAD",
        "SLAVE",
        "CREATE_FILE",
        "APPEND_BLOCK",
        "EXEC_LOAD",
        "DELETE_FILE",
        "NEW_LOAD",
        "RAND",
        "USER_VAR",
        "FORMAT_DESCRIPTION",
        "XID",
        "BEGIN_LOAD_QUERY",
        "EXECUTE_LOAD_QUERY",
        "TABLE_MAP",
        "PRE_GA_WRITE_ROWS",
        "PRE_GA_UPDATE_ROWS",
        "PRE_GA_DELETE_ROWS",
        "WRITE_ROWS_V1",
        "UPDATE_ROWS_V1",
        "DELETE_ROWS_V1",
        "INCIDENT",
        "HEARTBEAT",
        "IGNORABLE",
        "ROWS_QUERY",
        "WRITE_ROWS",
        "UPDATE_ROWS",
        "DELETE_ROWS",
        "GTID",
        "ANONYMOUS_GTID",
        "PREVIOUS_GTIDS",
        "TRANSACTION_CONTEXT",
        "VIEW_CHANGE",
        "XA_PREPARE",
        "PARTIAL_UPDATE_ROWS",
        "TRANSACTION_PAYLOAD",
        "HEARTBEAT_V2",
        "GTID_TAGGED",
    ];
    const MARIADB: [&str; 13] = [
        "ANNOTATE_ROWS",
        "BINLOG_CHECKPOINT",
        "GTID",
        "GTID_LIST",
        "START_ENCRYPTION",
        "QUERY_COMPRESSED",
        "WRITE_ROWS_COMPRESSED_V1",
        "UPDATE_ROWS_COMPRESSED_V1",
        "DELETE_ROWS_COMPRESSED_V1",
        "WRITE_ROWS_COMPRESSED",
        "UPDATE_ROWS_COMPRESSED",
        "DELETE_ROWS_COMPRESSED",
        "PARTIAL_ROW_DATA",
    ];
    let found = NAMES.get(usize::from(number)).or_else(|| MARIADB.get(usize::from(number).checked_sub(160)?));
    found.map_or_else(|| format!("type {number}"), |name| (*name).to_owned())
}

/// Event types of the pre-releases 5.1.1-5.1.5-a_drop5 and 5.2.0-5.2.2-a_drop6, by their number (MySQL bug 13779's aftermath; the
/// server itself reads them by this permutation).
const A_DROP: [u8; 23] = {
    use kind::*;
    [
        UNKNOWN,
        START_V3,
        QUERY,
        STOP,
        ROTATE,
        INTVAR,
        LOAD,
        SLAVE,
        CREATE_FILE,
        APPEND_BLOCK,
        EXEC_LOAD,
        DELETE_FILE,
        NEW_LOAD,
        RAND,
        USER_VAR,
        FORMAT_DESCRIPTION,
        TABLE_MAP,
        PRE_GA_WRITE_ROWS,
        PRE_GA_UPDATE_ROWS,
        PRE_GA_DELETE_ROWS,
        XID,
        BEGIN_LOAD_QUERY,
        EXECUTE_LOAD_QUERY,
    ]
};

/// How the events of a file are written, as its format description (or START_V3) event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// 1, 3 or 4.
    pub version: u16,
    /// Bytes of an event's header.
    pub header_len: usize,
    /// Bytes between header and data by event type; [`Format::post_header_len`].
    post_header: Vec<u8>,
    /// Whether events end in a CRC-32.
    pub checksum: bool,
    /// The server's version text.
    pub server_version: String,
    /// Which server.
    pub family: Family,
    /// When the server started, if this is the first file since; else 0.
    pub created: u32,
    /// When the file was begun.
    pub timestamp: u32,
    /// The server's id.
    pub server_id: u32,
    /// Flags of the event.
    pub flags: u16,
    permuted: bool,
}

impl Format {
    /// What holds before anything is known: a v4 header, no checksums.
    pub fn initial() -> Format {
        Format {
            version: 4,
            header_len: HEADER_LEN,
            post_header: Vec::new(),
            checksum: false,
            server_version: String::new(),
            family: Family::MySql,
            created: 0,
            timestamp: 0,
            server_id: 0,
            flags: 0,
            permuted: false,
        }
    }

    /// From the first event of a file, which may be a START_V3 event of v1 or v3, a format description event, or (relay logs of
    /// MySQL 4) a ROTATE event of v3.
    pub fn from_first_event(bytes: &[u8]) -> Format {
        let mut format = Format::initial();
        let (Some(&first), Some(size)) = (bytes.get(4), bytes.get(9..13).and_then(|size| size.first_chunk())) else {
            return format;
        };
        if first == kind::START_V3 {
            // A START_V3 event has 56 bytes of data; behind a header of 13 bytes in v1, 19 in v3.
            let v1 = u32::from_le_bytes(*size) < (HEADER_LEN + 56) as u32;
            (format.version, format.header_len) = if v1 { (1, HEADER_LEN_V1) } else { (3, HEADER_LEN) };
        } else if first == kind::ROTATE {
            format.version = 3;
        }
        format
    }

    /// Reads the header at the front of `bytes`; `None` when it does not fit.
    #[inline]
    pub fn header(&self, bytes: &[u8]) -> Option<Header> {
        let mut input = Bytes::new(bytes);
        let (timestamp, number, server_id, size) = (input.u32()?, input.u8()?, input.u32()?, input.u32()?);
        let (log_pos, flags) = if self.version == 1 { (0, 0) } else { (input.u32()?, input.u16()?) };
        let kind = if self.permuted { A_DROP.get(usize::from(number)).copied().unwrap_or(number) } else { number };
        Some(Header { timestamp, kind, server_id, size, log_pos, flags })
    }

    /// Bytes of an event's header: a format description event's never has more than 19.
    #[inline]
    pub fn header_len_of(&self, number: u8) -> usize {
        if number == kind::FORMAT_DESCRIPTION { HEADER_LEN } else { self.header_len }
    }

    /// Bytes between the header and the data of events of this type; `default` when the format does not say.
    pub fn post_header_len(&self, number: u8, default: usize) -> usize {
        let found = usize::from(number).checked_sub(1).and_then(|index| self.post_header.get(index));
        found.map_or(default, |length| usize::from(*length))
    }

    /// Bytes of a table id in table map and rows events: 4 where the post-header has 6 bytes (5.1.4 and before).
    #[inline]
    pub fn table_id_bytes(&self, number: u8) -> usize {
        if self.post_header_len(number, 8) == 6 { 4 } else { 6 }
    }

    /// Takes the data of a START_V3 event.
    pub fn start_v3(&mut self, header: &Header, body: &[u8]) -> Option<()> {
        let mut input = Bytes::new(body);
        let version = input.u16()?;
        self.server_version = text_until_zero(input.take(50)?);
        self.created = input.u32()?;
        self.version = if version == 1 { 1 } else { 3 };
        self.timestamp = header.timestamp;
        self.server_id = header.server_id;
        Some(())
    }

    /// From a format description event, `raw` being all of it. Verifies its checksum if it has one.
    pub fn parse(raw: &[u8], at: u64) -> Result<Format> {
        let damage = |what: &str| Error::damage(format!("format description event is invalid: {what}")).at(at);
        let header = Format::initial().header(raw).ok_or_else(|| damage("it is cut short"))?;
        let mut input = Bytes::new(raw.get(HEADER_LEN..).unwrap_or(&[]));
        let mut parts = || Some((input.u16()?, input.take(50)?, input.u32()?, input.u8()?, input.rest()));
        let (version, server_version, created, header_len, rest) = parts().ok_or_else(|| damage("it is cut short"))?;
        if version != 4 {
            let what = format!("binary log version {version} is not known to this version");
            return Err(Error::new(Class::Version, what).at(at));
        }
        if usize::from(header_len) < HEADER_LEN {
            return Err(damage(&format!("headers of {header_len} bytes are too short")));
        }
        let server_version = text_until_zero(server_version);
        let family = if server_version.contains("MariaDB") { Family::MariaDb } else { Family::MySql };
        let mut format = Format {
            version: 4,
            header_len: usize::from(header_len),
            post_header: rest.to_vec(),
            checksum: false,
            permuted: is_a_drop(&server_version),
            family,
            created,
            timestamp: header.timestamp,
            server_id: header.server_id,
            flags: header.flags,
            server_version,
        };
        let aware = knows_checksums(&format.server_version);
        let verified = checksum_fits(raw, true);
        if aware || verified {
            // Tools that write logs without checksums leave zeros.
            let none = raw.ends_with(&[0; CHECKSUM_LEN + 1]);
            if !verified && !none {
                return Err(checksum_error(raw, true).at(at));
            }
            let algorithm = rest.len().checked_sub(CHECKSUM_LEN + 1).and_then(|index| rest.get(index));
            format.checksum = match algorithm {
                Some(0) => false,
                Some(1) => true,
                Some(other) => {
                    return Err(Error::new(
                        Class::Version,
                        format!("checksum algorithm {other} is not known to this version"),
                    )
                    .at(at));
                }
                None => return Err(damage("it is cut short")),
            };
            format.post_header.truncate(rest.len() - CHECKSUM_LEN - 1);
        } else if rest.len() > 27 {
            // Servers without checksums knew 27 event types at most: the version text itself is damaged.
            return Err(damage("it has more event types than its server knew, and no checksum that fits"));
        }
        Ok(format)
    }

    /// Verifies the checksum of an event, `raw` being all of it.
    #[inline]
    pub fn verify(&self, header: &Header, raw: &[u8], at: u64) -> Result<()> {
        let in_use = header.kind == kind::FORMAT_DESCRIPTION;
        if checksum_fits(raw, in_use) { Ok(()) } else { Err(checksum_error(raw, in_use).at(at)) }
    }
}

/// A new CRC-32. Each event has one, and a copy of the first is spared the question what this processor can do.
#[inline]
fn crc32() -> crc32fast::Hasher {
    static FIRST: std::sync::LazyLock<crc32fast::Hasher> = std::sync::LazyLock::new(crc32fast::Hasher::new);
    FIRST.clone()
}

/// The stored CRC at the end of `raw` and the computed one. A format description event's is computed without its in-use flag.
#[inline]
fn checksums(raw: &[u8], clear_in_use: bool) -> Option<(u32, u32)> {
    let (covered, stored) = raw.split_last_chunk::<CHECKSUM_LEN>()?;
    let found = if clear_in_use && covered.len() >= HEADER_LEN {
        let mut hasher = crc32();
        hasher.update(covered.get(..17)?);
        hasher.update(&[covered.get(17)? & !(flag::IN_USE as u8)]);
        hasher.update(covered.get(18..)?);
        hasher.finalize()
    } else {
        let mut hasher = crc32();
        hasher.update(covered);
        hasher.finalize()
    };
    Some((found, u32::from_le_bytes(*stored)))
}

#[inline]
fn checksum_fits(raw: &[u8], clear_in_use: bool) -> bool {
    checksums(raw, clear_in_use).is_some_and(|(found, wanted)| found == wanted)
}

fn checksum_error(raw: &[u8], clear_in_use: bool) -> Error {
    match checksums(raw, clear_in_use) {
        Some((found, wanted)) => Error::damage(format!("event's checksum is {found:08x}, should be {wanted:08x}")),
        None => Error::damage("event is too short for its checksum"),
    }
}

fn text_until_zero(bytes: &[u8]) -> String {
    let length = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..length).unwrap_or(bytes)).into_owned()
}

/// Whether a server of this version writes a checksum algorithm into its format description events: MySQL since 5.6.1, MariaDB since 5.3.0.
fn knows_checksums(version: &str) -> bool {
    crate::sys::units::version(version) >= if version.contains("MariaDB") { (5, 3, 0) } else { (5, 6, 1) }
}

/// Whether it is one of the pre-releases whose event types are numbered otherwise.
fn is_a_drop(version: &str) -> bool {
    let bytes = version.as_bytes();
    let (Some(minor), Some(patch), Some(branch)) = (bytes.get(2), bytes.get(4), bytes.get(11)) else { return false };
    bytes.first() == Some(&b'5')
        && bytes.get(5..11) == Some(b"-a_dro")
        && *branch == b'p'
        && match (minor, bytes.get(12)) {
            (b'1', Some(b'5')) => (b'1'..=b'5').contains(patch),
            (b'1', Some(b'6')) => *patch == b'4',
            (b'2', Some(b'6')) => (b'0'..=b'2').contains(patch),
            _ => false,
        }
}
