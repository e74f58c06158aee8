//! What rlog itself writes into a database that it applies to, and how a source knows it again (loops: a change that comes home is not applied twice).
//!
//! Each target transaction of an applier holds a row of [`APPLIED_TABLE`]; its last column lists the targets that the transaction came through. DDL, which
//! stands in no transaction, says the same in a comment. A source lifts either into `begin.origins`, before every filter, and passes on neither: the tables
//! whose names begin with `rlog_` never enter a stream.

/// Table of the state rows. Its name, wherever it stands, marks a transaction in a log as applied by rlog.
pub const APPLIED_TABLE: &str = "rlog_applied";
/// Its column that lists origins: UUIDs separated by blanks, oldest first.
pub const ORIGINS_COLUMN: &str = "origins";
/// The database of the state tables, on servers that have several.
pub const DATABASE: &str = "rlog";

const COMMENT_START: &[u8] = b"/* rlog origins ";
const COMMENT_END: &[u8] = b" */";
/// Bytes of an origin; a UUID has 36.
const ORIGIN_MAX: usize = 64;
/// Origins of one transaction: more hops than any topology has.
const ORIGINS_MAX: usize = 64;

/// Whether a table is rlog's own, in whatever database it stands.
pub fn is_own_table(table: &str) -> bool {
    table.starts_with("rlog_")
}

/// Adds the origins that a text lists, each once. What is no origin is passed over.
pub fn add_origins(out: &mut Vec<String>, text: &str) {
    for origin in text.split_ascii_whitespace() {
        let valid =
            origin.len() <= ORIGIN_MAX && origin.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if valid && out.len() < ORIGINS_MAX && !out.iter().any(|known| known == origin) {
            out.push(origin.to_owned());
        }
    }
}

/// The comment that DDL carries; empty without origins.
pub fn origins_comment(origins: &str) -> String {
    if origins.is_empty() { String::new() } else { format!(" /* rlog origins {origins} */") }
}

/// A statement's text without the comment at its end, and the origins that the comment lists; `None` when it has none.
pub fn split_origins_comment(sql: &[u8]) -> Option<(&[u8], &str)> {
    let whole = sql.trim_ascii_end().strip_suffix(COMMENT_END)?;
    let at = memchr::memmem::rfind(whole, COMMENT_START)?;
    let listed = whole.get(at + COMMENT_START.len()..)?;
    // One comment only: nothing in it ends it early.
    let plain = listed.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b' '));
    let text = plain.then(|| std::str::from_utf8(listed).ok()).flatten()?;
    Some((whole.get(..at)?.trim_ascii_end(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_of_a_ddl_is_found_and_taken_off() {
        let sql = format!("create table t (a int){}", origins_comment("a-1 b-2"));
        assert_eq!(split_origins_comment(sql.as_bytes()), Some((&b"create table t (a int)"[..], "a-1 b-2")));
        for other in
            ["create table t (a int)", "x /* rlog origins a */ y", "x /* rlog origins ' */", "x /* other */", ""]
        {
            assert_eq!(split_origins_comment(other.as_bytes()), None, "{other}");
        }
        assert_eq!(origins_comment(""), "");
    }

    #[test]
    fn origins_are_listed_once_and_nothing_else_with_them() {
        let mut out = vec!["a".to_owned()];
        add_origins(&mut out, "b a  c' d");
        assert_eq!(out, ["a", "b", "d"]);
    }
}
