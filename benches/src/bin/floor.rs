//! The floor: the least that anyone can do who reads a binary log and believes its checksums. Maps the file, verifies
//! every event's CRC32, finds every column of every row, and touches it. Prints rows, columns and a sum, so that none of it
//! can be left out. No decoder: it knows the row format of MariaDB and MySQL >= 5.6 well enough for these logs.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};

/// How a column's bytes are found in a row.
#[derive(Clone, Copy)]
enum Width {
    /// So many bytes.
    Fixed(usize),
    /// A length of so many bytes, little-endian, and then the value.
    Prefixed(usize),
}

#[derive(Default)]
struct Seen {
    rows: u64,
    columns: u64,
    sum: u64,
}

fn main() -> Result<()> {
    for path in std::env::args().skip(1) {
        let file = std::fs::File::open(&path).with_context(|| path.clone())?;
        // SAFETY: nobody changes the benchmark's logs while it runs.
        let map = unsafe { memmap2::Mmap::map(&file) }?;
        let seen = walk(&map)?;
        println!("{path}: {} rows, {} columns, sum {:016x}", seen.rows, seen.columns, seen.sum);
    }
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn walk(log: &[u8]) -> Result<Seen> {
    const HEADER: usize = 19;
    ensure!(log.starts_with(b"\xfebin"), "not a binary log");
    let mut seen = Seen::default();
    let mut tables: HashMap<u64, Vec<Width>> = HashMap::new();
    let mut at = 4;
    while at < log.len() {
        let header = log.get(at..at + HEADER).context("torn")?;
        let size = number(&header[9..13]) as usize;
        let event = log.get(at..at + size).context("torn")?;
        let (checked, crc) = event.split_at(size - 4);
        // The format description's flag for "in use" is outside its checksum; these logs are closed.
        ensure!(crc32fast::hash(checked) as u64 == number(crc), "checksum at {at}");
        let body = &checked[HEADER..];
        match header[4] {
            19 => {
                tables.insert(number(&body[..6]), table_map(body)?);
            }
            kind @ (23..=25 | 30..=32) => {
                let widths = tables.get(&number(&body[..6])).context("rows without a table map")?;
                rows(kind, body, widths, &mut seen)?;
            }
            _ => {}
        }
        at += size;
    }
    Ok(seen)
}

fn table_map(body: &[u8]) -> Result<Vec<Width>> {
    let mut at = 8;
    at += body[at] as usize + 2; // database, NUL
    at += body[at] as usize + 2; // table, NUL
    let (count, len) = packed(&body[at..]);
    at += len;
    let types = &body[at..at + count];
    at += count;
    let (_, len) = packed(&body[at..]);
    at += len;
    let mut widths = Vec::with_capacity(count);
    for kind in types {
        let meta = &body[at..];
        let (width, used) = match kind {
            1 | 13 => (Width::Fixed(1), 0),
            2 => (Width::Fixed(2), 0),
            9 | 10 | 11 => (Width::Fixed(3), 0),
            3 | 7 => (Width::Fixed(4), 0),
            8 | 12 => (Width::Fixed(8), 0),
            4 => (Width::Fixed(4), 1),
            5 => (Width::Fixed(8), 1),
            17 => (Width::Fixed(4 + meta[0].div_ceil(2) as usize), 1),
            18 => (Width::Fixed(5 + meta[0].div_ceil(2) as usize), 1),
            19 => (Width::Fixed(3 + meta[0].div_ceil(2) as usize), 1),
            15 => (Width::Prefixed(if number(&meta[..2]) < 256 { 1 } else { 2 }), 2),
            16 => (Width::Fixed(meta[1] as usize + usize::from(meta[0] > 0)), 2),
            246 => (Width::Fixed(decimal(meta[0] as usize, meta[1] as usize)), 2),
            245 | 252 | 255 => (Width::Prefixed(meta[0] as usize), 1),
            254 => match meta[0] {
                247 | 248 => (Width::Fixed(meta[1] as usize), 2),
                high => {
                    let len = ((high as usize & 0x30) ^ 0x30) << 4 | meta[1] as usize;
                    (Width::Prefixed(if len > 255 { 2 } else { 1 }), 2)
                }
            },
            other => bail!("column type {other}"),
        };
        at += used;
        widths.push(width);
    }
    Ok(widths)
}

fn decimal(precision: usize, scale: usize) -> usize {
    const DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let whole = precision - scale;
    whole / 9 * 4 + DIGITS[whole % 9] + scale / 9 * 4 + DIGITS[scale % 9]
}

/// A length-encoded integer: the number, and the bytes that it takes.
fn packed(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        252 => (number(&bytes[1..3]) as usize, 3),
        253 => (number(&bytes[1..4]) as usize, 4),
        254 => (number(&bytes[1..9]) as usize, 9),
        small => (small as usize, 1),
    }
}

fn rows(kind: u8, body: &[u8], widths: &[Width], seen: &mut Seen) -> Result<()> {
    let mut at = 8;
    if kind >= 30 {
        at += number(&body[8..10]) as usize;
    }
    let (count, len) = packed(&body[at..]);
    at += len;
    let bitmap = count.div_ceil(8);
    let is_update = kind == 24 || kind == 31;
    at += bitmap * if is_update { 2 } else { 1 }; // these logs have full images
    let mut images = 0;
    while at < body.len() {
        let nulls = &body[at..at + bitmap];
        at += bitmap;
        for (i, width) in widths.iter().enumerate() {
            if nulls[i / 8] >> (i % 8) & 1 == 1 {
                continue;
            }
            let len = match *width {
                Width::Fixed(len) => len,
                Width::Prefixed(prefix) => {
                    let len = number(&body[at..at + prefix]) as usize;
                    at += prefix;
                    len
                }
            };
            let value = body.get(at..at + len).context("a column ends outside its event")?;
            seen.sum = seen.sum.rotate_left(1) ^ value.first().map_or(0, |byte| u64::from(*byte)) ^ len as u64;
            seen.columns += 1;
            at += len;
        }
        images += 1;
    }
    seen.rows += if is_update { images / 2 } else { images };
    Ok(())
}
