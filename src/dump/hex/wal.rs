//! SQLite's write-ahead log: its header, and each frame with its page. (Facts: SQLite's file format document.)
//!
//! Frames of an earlier generation, whose salts are others, are shown as that: they are left over and belong to no transaction.

use super::super::output::Output;
use super::{block, put_line};
use crate::error::{Error, Result};
use crate::source::sqlite::wal::{Checksum, FRAME_HEADER_LEN, HEADER_LEN, Header};

/// Bytes of the database header on page 1.
const DATABASE_HEADER_LEN: usize = 100;

fn be(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.get(at..at + len).unwrap_or(&[]).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn number(out: &mut Output<'_>, base: u64, bytes: &[u8], (at, len): (usize, usize), name: &str) {
    let value = bytes.get(at..at + len).unwrap_or(&[]);
    put_line(out, base + at as u64, value, &format!("{name}: {}", be(bytes, at, len)));
}

/// All of a log. Returns what is wrong with it first, if anything is.
pub fn log(name: &str, bytes: &[u8], out: &mut Output<'_>) -> Result<Option<Error>> {
    if bytes.len() < HEADER_LEN {
        out.text("no log header: the log is new or cleared\n");
        block(out, 0, bytes, "")?;
        return Ok(None);
    }
    out.text(&format!("log header at 0 of {} bytes\n", HEADER_LEN.min(bytes.len())));
    let order = if be(bytes, 0, 4) & 1 == 1 { "big-endian checksums" } else { "little-endian checksums" };
    put_line(out, 0, bytes.get(..4).unwrap_or(bytes), &format!("magic: {order}"));
    for (at, name) in [(4, "version"), (8, "page size"), (12, "checkpoint sequence")] {
        number(out, 0, bytes, (at, 4), name);
    }
    put_line(out, 16, bytes.get(16..24).unwrap_or(&[]), "salt");
    let Some(header) = Header::parse(bytes) else {
        put_line(out, 24, bytes.get(24..32).unwrap_or(&[]), "checksum: WRONG, or the header is no valid one");
        block(out, HEADER_LEN as u64, bytes.get(HEADER_LEN..).unwrap_or(&[]), "not cut into frames")?;
        return Ok(Some(Error::damage("the header of the log is invalid").at(0).in_file(name)));
    };
    put_line(out, 24, bytes.get(24..32).unwrap_or(&[]), "checksum: right");
    out.text("\n");
    let size = header.page_size as usize + FRAME_HEADER_LEN;
    let mut chain = Some(header.checksum);
    let mut error = None;
    for (index, raw) in bytes.get(HEADER_LEN..).unwrap_or(&[]).chunks(size).enumerate() {
        let at = (HEADER_LEN + index * size) as u64;
        out.text(&format!("frame {} at {at} of {} bytes\n", index + 1, raw.len()));
        if raw.len() < size {
            block(out, at, raw, "cut short")?;
            break;
        }
        let (head, page) = raw.split_at(FRAME_HEADER_LEN);
        let (page_number, pages) = (be(head, 0, 4), be(head, 4, 4));
        number(out, at, head, (0, 4), "page");
        let commits =
            if pages == 0 { "0, no commit".to_owned() } else { format!("{pages}, commits: pages of the database") };
        put_line(out, at + 4, head.get(4..8).unwrap_or(&[]), &format!("commit: {commits}"));
        let salt = head.get(8..16).unwrap_or(&[]);
        let current = salt == header.salt;
        put_line(out, at + 8, salt, if current { "salt" } else { "salt: of an earlier generation, left over" });
        let sum = Checksum(be(head, 16, 4) as u32, be(head, 20, 4) as u32);
        let wanted = chain
            .filter(|_| current)
            .map(|chain| chain.add(head.get(..8).unwrap_or(&[]), header.big_endian).add(page, header.big_endian));
        let verdict = match wanted {
            Some(wanted) if wanted == sum => "right".to_owned(),
            Some(wanted) => {
                format!("WRONG, should be {:08x} {:08x}; this frame and all behind it do not count", wanted.0, wanted.1)
            }
            None => "not checked: it belongs to no chain".to_owned(),
        };
        put_line(out, at + 16, head.get(16..24).unwrap_or(&[]), &format!("checksum: {verdict}"));
        if wanted.is_some_and(|wanted| wanted != sum) && error.is_none() {
            error = Some(Error::damage(format!("frame {}: its checksum is wrong", index + 1)).at(at).in_file(name));
        }
        // The chain ends at the first frame that is not valid.
        chain = wanted.filter(|wanted| *wanted == sum);
        let base = at + FRAME_HEADER_LEN as u64;
        self::page(page, base, page_number == 1, out)?;
        out.text("\n");
        out.spill()?;
    }
    Ok(error)
}

/// A page of a b-tree, as far as its first byte says that it is one.
fn page(page: &[u8], base: u64, first: bool, out: &mut Output<'_>) -> Result<()> {
    let mut at = 0;
    if first {
        for (from, len, name) in DATABASE_HEADER {
            let value = page.get(*from..from + len).unwrap_or(&[]);
            let text =
                if *from == 0 || *len > 8 { (*name).to_owned() } else { format!("{name}: {}", be(page, *from, *len)) };
            put_line(out, base + *from as u64, value, &text);
        }
        at = DATABASE_HEADER_LEN;
    }
    let kind = match page.get(at) {
        Some(2) => "index, interior",
        Some(5) => "table, interior",
        Some(10) => "index, leaf",
        Some(13) => "table, leaf",
        _ => {
            return block(
                out,
                base + at as u64,
                page.get(at..).unwrap_or(&[]),
                "page (overflow, free, or of no b-tree)",
            );
        }
    };
    put_line(out, base + at as u64, page.get(at..=at).unwrap_or(&[]), &format!("b-tree page: {kind}"));
    for (offset, len, name) in
        [(1, 2, "first free block"), (3, 2, "cells"), (5, 2, "start of cells"), (7, 1, "fragmented bytes")]
    {
        number(out, base, page, (at + offset, len), name);
    }
    let mut head = 8;
    if kind.ends_with("interior") {
        number(out, base, page, (at + 8, 4), "right-most child");
        head = 12;
    }
    let cells = (be(page, at + 3, 2) as usize).min(page.len() / 2);
    let pointers = page.get(at + head..at + head + cells * 2).unwrap_or(&[]);
    block(out, base + (at + head) as u64, pointers, "cell pointers")?;
    let rest = at + head + pointers.len();
    block(out, base + rest as u64, page.get(rest..).unwrap_or(&[]), "free space and cells")
}

/// Fields of the database header: offset, bytes, name.
const DATABASE_HEADER: &[(usize, usize, &str)] = &[
    (0, 16, "magic: SQLite format 3"),
    (16, 2, "page size"),
    (18, 1, "write version"),
    (19, 1, "read version"),
    (20, 1, "reserved bytes a page"),
    (21, 1, "maximum payload fraction"),
    (22, 1, "minimum payload fraction"),
    (23, 1, "leaf payload fraction"),
    (24, 4, "change counter"),
    (28, 4, "pages"),
    (32, 4, "first freelist page"),
    (36, 4, "freelist pages"),
    (40, 4, "schema cookie"),
    (44, 4, "schema format"),
    (48, 4, "cache size"),
    (52, 4, "largest root page"),
    (56, 4, "text encoding"),
    (60, 4, "user version"),
    (64, 4, "incremental vacuum"),
    (68, 4, "application id"),
    (72, 16, "reserved"),
    (88, 4, "reserved"),
    (92, 4, "version valid for"),
    (96, 4, "SQLite version"),
];

/// The header of a database file.
pub fn database(bytes: &[u8], out: &mut Output<'_>) -> Result<()> {
    out.text("database header at 0 of 100 bytes\n");
    page(bytes.get(..DATABASE_HEADER_LEN).unwrap_or(bytes), 0, true, out)?;
    out.text("\n");
    Ok(())
}
