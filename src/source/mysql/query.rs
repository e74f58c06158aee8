//! QUERY events: a statement with the session it needs, and what kind of statement it is.

use std::borrow::Cow;

use super::bytes::Bytes;
use crate::event::Statement;

/// A query event's parts, borrowed.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// Connection.
    pub thread: u32,
    /// Seconds.
    pub exec_time_s: u32,
    /// Error that it ended with.
    pub error_code: u16,
    /// Default database.
    pub database: &'a [u8],
    /// Status variables, undecoded.
    pub status: &'a [u8],
    /// The text.
    pub sql: &'a [u8],
}

impl<'a> Query<'a> {
    /// Parses the data of a QUERY event. `post_header_len` is 11 (v1, v3: no status variables) or 13. `extra` bytes stand between post-header and status
    /// variables (EXECUTE_LOAD_QUERY).
    pub fn parse(body: &'a [u8], post_header_len: usize, extra: usize) -> Option<Query<'a>> {
        let mut input = Bytes::new(body);
        let mut out = Query { thread: input.u32()?, exec_time_s: input.u32()?, ..Query::default() };
        let database_len = usize::from(input.u8()?);
        out.error_code = input.u16()?;
        let status_len = if post_header_len >= 13 { usize::from(input.u16()?) } else { 0 };
        // Longer post-headers are of versions to come: what they add is passed over.
        input.take(post_header_len.saturating_sub(13))?;
        input.take(extra)?;
        out.status = input.take(status_len)?;
        out.database = input.take(database_len)?;
        input.take(1)?;
        out.sql = input.rest();
        Some(out)
    }

    /// The statement with its session context.
    pub fn statement(&self, timestamp: u32) -> Statement<'a> {
        let mut out = Statement {
            sql: Cow::Borrowed(self.sql),
            database: String::from_utf8_lossy(self.database),
            time_s: timestamp,
            thread: self.thread,
            error_code: self.error_code,
            exec_time_s: self.exec_time_s,
            ..Statement::default()
        };
        // Variables are written in ascending order; behind one that is not known nothing can be read. The statement stays whole without.
        let _ = read_status(self.status, &mut out);
        out
    }
}

/// Decodes status variables (log_event documentation of both servers; numbers from 128 are MariaDB's).
fn read_status<'a>(status: &'a [u8], out: &mut Statement<'a>) -> Option<()> {
    let mut input = Bytes::new(status);
    while !input.rest().is_empty() {
        match input.u8()? {
            0 => out.flags2 = Some(input.u32()?),
            1 => out.sql_mode = Some(input.u64()?),
            2 => {
                input.short_text()?;
                input.u8()?;
            }
            3 => out.auto_increment = Some((input.u16()?, input.u16()?)),
            4 => out.charset = Some((input.u16()?, input.u16()?, input.u16()?)),
            5 => out.time_zone = String::from_utf8_lossy(input.short_text()?),
            6 => drop(input.short_text()?),
            7 => out.lc_time_names = Some(input.u16()?),
            8 => out.charset_database = Some(input.u16()?),
            9 => drop(input.u64()?),
            10 => drop(input.u32()?),
            11 => {
                let (user, host) = (input.short_text()?, input.short_text()?);
                let (user, host) = (String::from_utf8_lossy(user), String::from_utf8_lossy(host));
                out.definer = Cow::Owned(format!("{user}@{host}"));
            }
            12 => {
                let count = input.u8()?;
                if count != 254 {
                    for _ in 0..count {
                        input.until_zero()?;
                    }
                }
            }
            13 => out.microseconds = Some(input.u24()?),
            14 | 15 => drop(input.u64()?),
            16 => out.explicit_timestamp = Some(input.u8()? != 0),
            17 => drop(input.u64()?),
            18 => out.utf8mb4_collation = Some(input.u16()?),
            19 => out.require_primary_key = Some(input.u8()? != 0),
            20 => drop(input.u8()?),
            128 => out.microseconds = Some(input.u24()?),
            129 => drop(input.u64()?),
            130 => {
                let flags = input.u16()?;
                if flags & 0x0c != 0 {
                    input.u64()?;
                }
            }
            131 => {
                let count = usize::from(input.u8()?);
                input.take(count * 4)?;
            }
            _ => return None,
        }
    }
    Some(())
}

/// What a statement does to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// Starts a transaction.
    Begin,
    /// Commits it.
    Commit,
    /// Rolls it back.
    Rollback,
    /// Starts an XA transaction.
    XaStart,
    /// Ends one, before its PREPARE.
    XaEnd,
    /// Prepares one (MariaDB before 10.5 does not log it; text form of others).
    XaPrepare(&'a [u8]),
    /// Commits a prepared one, with its id.
    XaCommit(&'a [u8]),
    /// Rolls a prepared one back.
    XaRollback(&'a [u8]),
    /// Changes the schema or accounts, or commits implicitly otherwise.
    Ddl,
    /// SAVEPOINT, ROLLBACK TO, RELEASE.
    Savepoint,
    /// Anything else.
    Other,
}

/// The first words of a statement, comments passed over.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            let end = match self.rest {
                // A version comment's content counts: `/*!40000 DROP …`.
                [b'/', b'*', b'!', rest @ ..] | [b'/', b'*', b'M', b'!', rest @ ..] => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    self.rest = rest.get(digits..).unwrap_or(&[]);
                    continue;
                }
                [b'/', b'*', rest @ ..] => memchr::memmem::find(rest, b"*/").map(|at| at + 4),
                [b'*', b'/', ..] => Some(2),
                [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n', ..] => memchr::memchr(b'\n', self.rest),
                [b';' | b'(', ..] => Some(1),
                _ => return,
            };
            self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or(&[]);
        }
    }

    fn next(&mut self) -> &'a [u8] {
        self.skip_blanks();
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }

    fn next_is(&mut self, expected: &str) -> bool {
        self.next().eq_ignore_ascii_case(expected.as_bytes())
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty()
    }
}

/// Classifies a statement by its first words. Only exact transaction control counts as such: a text that merely begins so stays a statement.
pub fn role(sql: &[u8]) -> Role<'_> {
    // What servers write themselves, without looking further.
    match sql {
        b"BEGIN" => return Role::Begin,
        b"COMMIT" => return Role::Commit,
        b"ROLLBACK" => return Role::Rollback,
        _ => {}
    }
    let mut words = Words { rest: sql };
    let mut first = [0u8; 12];
    let word = words.next();
    let Some(upper) = first.get_mut(..word.len()) else { return Role::Other };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    match &*upper {
        b"BEGIN" => {
            let at_end = words.at_end() || words.next_is("WORK") && words.at_end();
            if at_end { Role::Begin } else { Role::Other }
        }
        b"START" => {
            if words.next_is("TRANSACTION") {
                Role::Begin
            } else {
                Role::Other
            }
        }
        b"COMMIT" => {
            let at_end = words.at_end() || words.next_is("WORK") && words.at_end();
            if at_end { Role::Commit } else { Role::Other }
        }
        b"ROLLBACK" => {
            if words.at_end() {
                return Role::Rollback;
            }
            let word = words.next();
            if word.eq_ignore_ascii_case(b"WORK") && words.at_end() { Role::Rollback } else { Role::Savepoint }
        }
        b"SAVEPOINT" | b"RELEASE" => Role::Savepoint,
        b"XA" => {
            let verb = words.next();
            let id = words.rest.trim_ascii();
            match () {
                () if verb.eq_ignore_ascii_case(b"START") || verb.eq_ignore_ascii_case(b"BEGIN") => Role::XaStart,
                () if verb.eq_ignore_ascii_case(b"END") => Role::XaEnd,
                () if verb.eq_ignore_ascii_case(b"PREPARE") => Role::XaPrepare(id),
                () if verb.eq_ignore_ascii_case(b"COMMIT") => Role::XaCommit(id),
                () if verb.eq_ignore_ascii_case(b"ROLLBACK") => Role::XaRollback(id),
                () => Role::Other,
            }
        }
        b"CREATE" | b"ALTER" | b"DROP" | b"RENAME" | b"TRUNCATE" | b"GRANT" | b"REVOKE" | b"OPTIMIZE" | b"ANALYZE"
        | b"REPAIR" | b"FLUSH" | b"INSTALL" | b"UNINSTALL" => Role::Ddl,
        b"SET" => {
            // SET PASSWORD, SET DEFAULT ROLE change accounts.
            let word = words.next();
            if word.eq_ignore_ascii_case(b"PASSWORD") || word.eq_ignore_ascii_case(b"DEFAULT") {
                Role::Ddl
            } else {
                Role::Other
            }
        }
        _ => Role::Other,
    }
}

/// Whether an XA id in a statement says ONE PHASE, and the id without.
pub fn xa_id(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let lower = text.to_ascii_lowercase();
    match lower.strip_suffix(b"one phase") {
        Some(rest) => text.get(..rest.len()).unwrap_or(text).trim_ascii(),
        None => text.strip_suffix(b";").unwrap_or(text).trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_control_is_told_from_what_looks_like_it() {
        assert_eq!(role(b"begin /* x */"), Role::Begin);
        assert_eq!(role(b"START TRANSACTION READ WRITE"), Role::Begin);
        assert_eq!(role(b"BEGIN NOT ATOMIC select 1; END"), Role::Other);
        assert_eq!(role(b"ROLLBACK TO `a`"), Role::Savepoint);
        assert_eq!(role(b"rollback work;"), Role::Rollback);
        assert_eq!(role(b"/*!40000 DROP TABLE t */"), Role::Ddl);
        assert_eq!(role(b"XA COMMIT X'6162',X'',1"), Role::XaCommit(b"X'6162',X'',1"));
        assert_eq!(role(b"insert into t values (1)"), Role::Other);
        assert_eq!(xa_id(b"X'61',X'',1 ONE PHASE"), b"X'61',X'',1");
    }
}
