//! LOAD DATA as statement format logs it: the file's blocks, then the statement. Events of MySQL 3.23 and 4 hold the statement's parts; its text is
//! put together from them.

use super::bytes::Bytes;

/// A block of a file.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Which file.
    pub file_id: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// APPEND_BLOCK and BEGIN_LOAD_QUERY.
pub fn parse_block(body: &[u8]) -> Option<Block<'_>> {
    let mut input = Bytes::new(body);
    Some(Block { file_id: input.u32()?, bytes: input.rest() })
}

/// What EXECUTE_LOAD_QUERY adds to a query: file id, where its name stands in the text, what happens to duplicates.
pub fn parse_execute(body: &[u8]) -> Option<(u32, (u32, u32), u8)> {
    let mut input = Bytes::new(body.get(13..)?);
    Some((input.u32()?, (input.u32()?, input.u32()?), input.u8()?))
}

/// A statement put together from a LOAD, NEW_LOAD or CREATE_FILE event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Text.
    pub sql: Vec<u8>,
    /// Where the file's name stands in it.
    pub file_name_range: (u32, u32),
    /// Default database.
    pub database: Vec<u8>,
    /// Connection.
    pub thread: u32,
    /// Seconds.
    pub exec_time_s: u32,
    /// As [`crate::event::Statement::duplicates`].
    pub duplicates: u8,
    /// CREATE_FILE: the file.
    pub file_id: Option<u32>,
}

/// Options of a LOAD statement.
struct Delimiters<'a> {
    field_end: &'a [u8],
    enclosed: &'a [u8],
    line_end: &'a [u8],
    line_start: &'a [u8],
    escaped: &'a [u8],
    flags: u8,
}

const OPT_ENCLOSED: u8 = 2;
const REPLACE: u8 = 4;
const IGNORE: u8 = 8;

/// Parses a LOAD (`new` false) or NEW_LOAD event, or a CREATE_FILE one (`file` true, whose block is returned). `new` says how delimiters are written:
/// single bytes, or texts with their lengths.
pub fn parse_load(body: &[u8], new: bool, file: bool) -> Option<(Load, &[u8])> {
    let mut input = Bytes::new(body);
    let mut out = Load { thread: input.u32()?, exec_time_s: input.u32()?, ..Load::default() };
    let skip_lines = input.u32()?;
    let (table_len, database_len) = (usize::from(input.u8()?), usize::from(input.u8()?));
    let fields = input.u32()?;
    if file {
        out.file_id = Some(input.u32()?);
    }
    let delimiters = if new {
        Delimiters {
            field_end: input.short_text()?,
            enclosed: input.short_text()?,
            line_end: input.short_text()?,
            line_start: input.short_text()?,
            escaped: input.short_text()?,
            flags: input.u8()?,
        }
    } else {
        let parts = input.take(5)?;
        let (flags, empty) = (input.u8()?, input.u8()?);
        let part =
            |index: usize| if empty >> index & 1 == 1 { &[][..] } else { parts.get(index..=index).unwrap_or(&[]) };
        Delimiters {
            field_end: part(0),
            enclosed: part(1),
            line_end: part(2),
            line_start: part(3),
            escaped: part(4),
            flags,
        }
    };
    let lengths = input.take(usize::try_from(fields).ok()?)?;
    let mut names = Vec::new();
    for length in lengths {
        names.push(input.take(usize::from(*length))?);
        input.u8()?;
    }
    let table = input.take(table_len)?;
    input.u8()?;
    out.database = input.take(database_len)?.to_vec();
    input.u8()?;
    let (name, block) = match memchr::memchr(0, input.rest()) {
        Some(_) if file => (input.until_zero()?, input.rest()),
        Some(_) => (input.until_zero()?, &[][..]),
        None => (input.rest(), &[][..]),
    };
    out.duplicates = if delimiters.flags & REPLACE != 0 { 2 } else { u8::from(delimiters.flags & IGNORE != 0) };
    out.write_sql(name, table, &names, &delimiters, skip_lines)?;
    Some((out, block))
}

impl Load {
    fn write_sql(
        &mut self,
        name: &[u8],
        table: &[u8],
        names: &[&[u8]],
        delimiters: &Delimiters<'_>,
        skip: u32,
    ) -> Option<()> {
        let sql = &mut self.sql;
        sql.extend_from_slice(b"LOAD DATA LOCAL ");
        let start = u32::try_from(sql.len()).ok()?;
        sql.extend_from_slice(b"INFILE ");
        quote(name, sql);
        sql.extend_from_slice(match self.duplicates {
            2 => b" REPLACE",
            1 => b" IGNORE",
            _ => b"",
        });
        sql.extend_from_slice(b" INTO");
        self.file_name_range = (start, u32::try_from(sql.len()).ok()?);
        sql.extend_from_slice(b" TABLE `");
        sql.extend_from_slice(table);
        sql.extend_from_slice(b"` FIELDS TERMINATED BY ");
        quote(delimiters.field_end, sql);
        if !delimiters.enclosed.is_empty() {
            sql.extend_from_slice(if delimiters.flags & OPT_ENCLOSED != 0 { b" OPTIONALLY" } else { b"" });
            sql.extend_from_slice(b" ENCLOSED BY ");
            quote(delimiters.enclosed, sql);
        }
        sql.extend_from_slice(b" ESCAPED BY ");
        quote(delimiters.escaped, sql);
        sql.extend_from_slice(b" LINES TERMINATED BY ");
        quote(delimiters.line_end, sql);
        if !delimiters.line_start.is_empty() {
            sql.extend_from_slice(b" STARTING BY ");
            quote(delimiters.line_start, sql);
        }
        if skip > 0 {
            sql.extend_from_slice(format!(" IGNORE {skip} LINES").as_bytes());
        }
        for (index, name) in names.iter().enumerate() {
            sql.extend_from_slice(if index == 0 { b" (`" } else { b", `" });
            sql.extend_from_slice(name);
            sql.push(b'`');
        }
        if !names.is_empty() {
            sql.push(b')');
        }
        Some(())
    }
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in text {
        match byte {
            b'\'' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0 => out.extend_from_slice(b"\\0"),
            other => out.push(*other),
        }
    }
    out.push(b'\'');
}
