//! Which files, in which order.
//!
//! A server's logs are one sequence. Each is looked at ([`probe`]): its first event (who wrote it, when, whether the server had just started)
//! and its last (a ROTATE names the file that follows). Order follows from the numbers of the names; where names have none, or not the same base,
//! from the chain of ROTATE events, and at last from the times at which the files were begun. Two consecutive files whose
//! numbers are not consecutive are a gap, as are two of which the first names another successor.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::data::Data;
use super::event::{self, Format, HEADER_LEN, flag, kind};
use crate::error::{Class, Error, Result};

/// Longest file name that a ROTATE event can carry.
const FILE_NAME_MAX: usize = 512;

/// Whether an index file that a glob caught is passed over: `.idx` (MariaDB's GTID index), `.index` (the list of logs), `.state`.
pub fn is_passed_over(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["idx", "index", "state"].iter().any(|name| extension == OsStr::new(name)))
}

/// A log's name, split: `mysql-bin.000042` is (`mysql-bin`, 42).
pub fn split_name(name: &str) -> Option<(&str, u64)> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let (base, number) = name.rsplit_once('.')?;
    if base.is_empty() || number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = number.parse().ok().filter(|number| *number <= crate::frame::Coordinate::FILE_MAX)?;
    Some((base, number))
}

/// The name after `name`, with as many digits at least.
pub fn next_name(name: &str) -> Option<String> {
    let (base, number) = split_name(name)?;
    let width = name.len().saturating_sub(name.rfind('.')? + 1);
    Some(format!("{base}.{:0width$}", number + 1))
}

/// What a look at a file's ends tells.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Where it is.
    pub path: PathBuf,
    /// Its own base name, with its number if it has one.
    pub name: String,
    /// Its first event.
    pub format: Format,
    /// Whether it is a relay log.
    pub relay: bool,
    /// What its last event, a ROTATE, names.
    pub next: Option<String>,
    /// Bytes.
    pub len: u64,
    /// Hash over the first and the last 4 KiB.
    pub evidence: u64,
}

impl Probe {
    /// Number of the file by its name.
    pub fn number(&self) -> Option<u64> {
        split_name(&self.name).map(|(_, number)| number)
    }

    /// Base of its name.
    pub fn base(&self) -> &str {
        split_name(&self.name).map_or("", |(base, _)| base)
    }
}

/// Looks at both ends of a log. `None`: the file is empty.
pub fn probe(path: &Path) -> Result<Option<Probe>> {
    let shown = path.display().to_string();
    let mut data = Data::map(path)?;
    let bytes = data.from(0, 0)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    crate::source::require_binary_log(crate::source::FileKind::of(path, bytes), &shown)?;
    let events = bytes.get(event::FIRST_EVENT_AT as usize..).unwrap_or(&[]);
    // A damaged first event is told of when the file is read in its turn, with everything before it emitted.
    let format = first_format(events).unwrap_or_else(|| Format::from_first_event(events));
    let relay = is_relay(events, &format);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Some(Probe {
        path: path.to_owned(),
        name,
        relay,
        next: last_rotate(bytes, &format),
        len: bytes.len() as u64,
        evidence: evidence(bytes),
        format,
    }))
}

fn evidence(bytes: &[u8]) -> u64 {
    const END_BYTES: usize = 4096;
    let head = bytes.get(..END_BYTES).unwrap_or(bytes);
    let tail = bytes.get(bytes.len().saturating_sub(END_BYTES)..).unwrap_or(bytes);
    // Not a CRC: events end in their own, so that two logs which differ in whole events have the same.
    xxhash_rust::xxh3::xxh3_64(head) ^ xxhash_rust::xxh3::xxh3_64(tail).rotate_left(1)
}

fn first_format(events: &[u8]) -> Option<Format> {
    let mut format = Format::from_first_event(events);
    let header = format.header(events)?;
    let raw = events.get(..header.size as usize)?;
    match header.kind {
        kind::FORMAT_DESCRIPTION => Format::parse(raw, event::FIRST_EVENT_AT).ok(),
        kind::START_V3 => {
            format.start_v3(&header, raw.get(format.header_len..)?)?;
            Some(format)
        }
        _ => None,
    }
}

/// Whether a file that begins with these events is a relay log: its server says so (MySQL 5.6, MariaDB), or a fake ROTATE, which stands
/// in no binary log, comes among its first events.
fn is_relay(events: &[u8], format: &Format) -> bool {
    if format.flags & flag::RELAY_LOG != 0 {
        return true;
    }
    let mut rest = events;
    for _ in 0..4 {
        let Some(header) = format.header(rest) else { return false };
        if header.kind == kind::ROTATE && (header.timestamp == 0 || header.flags & flag::ARTIFICIAL != 0) {
            return true;
        }
        match rest.get((header.size as usize).max(1)..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}

/// The name in a ROTATE event that ends exactly where the file does.
fn last_rotate(bytes: &[u8], format: &Format) -> Option<String> {
    let checksum = if format.checksum { event::CHECKSUM_LEN } else { 0 };
    let fixed = format.header_len + 8 + checksum;
    for name_len in 1..=FILE_NAME_MAX.min(bytes.len().saturating_sub(fixed)) {
        let raw = bytes.get(bytes.len().checked_sub(fixed + name_len)?..)?;
        let Some(header) = format.header(raw) else { continue };
        if header.kind == kind::ROTATE && header.size as usize == raw.len() {
            if format.checksum && format.verify(&header, raw, 0).is_err() {
                continue;
            }
            let name = raw.get(format.header_len + 8..raw.len() - checksum)?;
            return std::str::from_utf8(name).ok().map(str::to_owned);
        }
    }
    None
}

/// The name and position in a ROTATE event's data.
pub fn rotate_target<'a>(body: &'a [u8], format: &Format) -> Option<(&'a [u8], u64)> {
    let mut input = Bytes::new(body);
    let at = if format.version == 1 { event::FIRST_EVENT_AT } else { input.u64()? };
    Some((input.rest(), at))
}

/// Files in log order, with remarks about those that were passed over.
pub fn in_order(paths: Vec<PathBuf>) -> Result<(Vec<Probe>, Vec<String>)> {
    let mut notes = Vec::new();
    let mut probes: Vec<Probe> = Vec::new();
    for path in paths {
        let shown = path.display().to_string();
        if is_passed_over(&path) {
            notes.push(format!("{shown}: passed over, an index file"));
            continue;
        }
        match probe(&path)? {
            Some(probe) => probes.push(probe),
            None => notes.push(format!("{shown}: passed over, it is empty")),
        }
    }
    if let Some(first) = probes.first() {
        for other in &probes {
            // A start event that could not be read says nothing about its server.
            let known = |probe: &Probe| !probe.format.server_version.is_empty();
            let same = other.format.server_id == first.format.server_id && other.format.family == first.format.family;
            if known(first) && known(other) && !same {
                return Err(Error::new(
                    Class::Identity,
                    format!(
                        "logs of two servers cannot be one stream: {} is of {} server {}, {} of {} server {}",
                        first.path.display(),
                        first.format.family.name(),
                        first.format.server_id,
                        other.path.display(),
                        other.format.family.name(),
                        other.format.server_id
                    ),
                )
                .hint("run rlog-extract once per server"));
            }
        }
    }
    sort(&mut probes);
    drop_repeats(&mut probes, &mut notes)?;
    Ok((probes, notes))
}

/// Whether all names have a number and the same base.
fn numbered(probes: &[Probe]) -> bool {
    let base = probes.first().map_or("", Probe::base);
    probes.iter().all(|probe| probe.number().is_some() && probe.base() == base)
}

fn sort(probes: &mut Vec<Probe>) {
    if numbered(probes) {
        probes.sort_by_key(Probe::number);
        return;
    }
    probes.sort_by(|a, b| (a.format.timestamp, &a.name).cmp(&(b.format.timestamp, &b.name)));
    // Times have a resolution of a second: the chain of ROTATE events decides where it says something.
    let mut chained: Vec<Probe> = Vec::with_capacity(probes.len());
    while !probes.is_empty() {
        let named = |probe: &Probe| {
            probes.iter().any(|other| !std::ptr::eq(other, probe) && other.next.as_deref() == Some(probe.name.as_str()))
        };
        let follows = chained.last().and_then(|last| last.next.clone());
        let index = follows
            .and_then(|next| probes.iter().position(|probe| probe.name == next))
            .or_else(|| probes.iter().position(|probe| !named(probe)))
            .unwrap_or(0);
        chained.push(probes.remove(index));
    }
    *probes = chained;
}

/// The same file given twice is read once; two different files of the same number are of two lives of the server.
fn drop_repeats(probes: &mut Vec<Probe>, notes: &mut Vec<String>) -> Result<()> {
    let mut error = None;
    probes.dedup_by(|later, earlier| {
        if later.name != earlier.name || later.number().is_none() || later.base() != earlier.base() {
            return false;
        }
        if later.len == earlier.len && later.evidence == earlier.evidence {
            notes.push(format!("{}: passed over, it is the same as {}", later.path.display(), earlier.path.display()));
            return true;
        }
        error.get_or_insert_with(|| {
            Error::new(
                Class::Identity,
                format!(
                    "{} and {} have the same number, but are not the same log",
                    earlier.path.display(),
                    later.path.display()
                ),
            )
            .hint("RESET MASTER starts numbers anew: give the logs of one of its lives only")
        });
        false
    });
    error.map_or(Ok(()), Err)
}

/// What is missing between two files that follow each other in the list, if the names tell.
pub fn missing_between(earlier: &Probe, later: &Probe) -> Option<String> {
    if let Some(next) = &earlier.next
        && let (Some((_, expected)), Some(number)) = (split_name(next), later.number())
        && number != expected
        && earlier.number().is_some()
    {
        return Some(next.rsplit('/').next().unwrap_or(next).to_owned());
    }
    match (earlier.number(), later.number()) {
        (Some(before), Some(after)) if earlier.base() == later.base() && after != before + 1 => {
            next_name(&earlier.name)
        }
        _ => None,
    }
}

const _: () = assert!(HEADER_LEN == 19);
