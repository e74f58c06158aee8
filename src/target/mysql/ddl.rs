//! DDL on servers that commit it implicitly (rule 10).
//!
//! ```text
//! marker absent ──fence, insert marker, COMMIT──▶ begun ──the DDL──▶ done ──state row, marker removed, COMMIT──▶ applied
//! ```
//!
//! The marker holds the position, a hash of the text, and for every table that the statement names a hash of SHOW CREATE TABLE as it was
//! before. A run that finds a marker of the same position judges what the one before it has done:
//!
//! - CREATE and DROP tell by themselves: "exists" (or "does not exist") on the second try means that the first succeeded, since
//!   at the source it succeeded on the same state.
//! - Otherwise, if tables are named and all are as they were: it was not done (or has no effect that shows, such as TRUNCATE and
//!   OPTIMIZE, which may be repeated): run it.
//! - ALTER of one table (and RENAME, which is atomic on all servers that are supported), and it is not as before: done.
//! - Statements without tables that may be repeated: run it again. Anything else is 80, with what to look at.

use mysql::prelude::Queryable as _;
use xxhash_rust::xxh3::xxh3_64;

use super::failure::failure;
use super::session::MySqlSession;
use super::state;
use super::statement::{prepare, shortened};
use crate::db::mysql::connect::{Family, Fault, fault_of};
use crate::db::mysql::literal::table_name;
use crate::error::{Class, Error};
use crate::event::Statement;
use crate::target::{Cause, ConflictClass, DdlOutcome, Failure, Outcome};

/// Name of the fact that is the marker.
pub(super) const MARKER: &str = "ddl";
/// How long the DDL of an applier that is gone is waited for.
const DDL_WAIT_S: u32 = 60;

/// ER_DUP_KEYNAME, ER_SP_ALREADY_EXISTS, ER_TRG_ALREADY_EXISTS, ER_EVENT_ALREADY_EXISTS.
const EXISTS: [u16; 4] = [1061, 1304, 1359, 1537];

/// What a statement does, by its first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Drop,
    Alter,
    Rename,
    /// May be repeated with the same result.
    Repeatable,
    /// Accounts and privileges: not data, and not applied with the applier's rights.
    Accounts,
    Other,
}

/// The first words without comments, upper case.
fn words(sql: &str, count: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = sql;
    while out.len() < count {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("/*") {
            // What stands in /*! … */ is executed.
            if let Some(code) = comment.strip_prefix("M!").or_else(|| comment.strip_prefix('!')) {
                rest = code.trim_start_matches(|c: char| c.is_ascii_digit());
                continue;
            }
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
            continue;
        }
        if let Some(comment) = rest.strip_prefix('#').or_else(|| rest.strip_prefix("-- ")) {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, behind) = rest.split_at(end);
        out.push(word.to_uppercase());
        rest = behind;
    }
    out
}

fn kind(sql: &str) -> Kind {
    let words = words(sql, 4);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["GRANT" | "REVOKE", ..] | ["SET", "PASSWORD" | "DEFAULT" | "ROLE", ..] => Kind::Accounts,
        ["CREATE" | "ALTER" | "DROP" | "RENAME", "USER" | "ROLE", ..]
        | ["CREATE", "OR", "REPLACE", "USER" | "ROLE"] => Kind::Accounts,
        ["CREATE", "OR", ..] => Kind::Repeatable,
        ["CREATE", ..] => Kind::Create,
        ["DROP", ..] => Kind::Drop,
        ["ALTER", "TABLE", ..] | ["ALTER", "IGNORE" | "ONLINE", "TABLE", ..] => Kind::Alter,
        ["RENAME", ..] => Kind::Rename,
        ["TRUNCATE" | "ANALYZE" | "OPTIMIZE" | "FLUSH" | "REPAIR" | "CHECK" | "COMMENT", ..] => Kind::Repeatable,
        ["ALTER", "DATABASE" | "SCHEMA" | "VIEW" | "ALGORITHM" | "DEFINER" | "SQL" | "FUNCTION" | "PROCEDURE", ..] => {
            Kind::Repeatable
        }
        _ => Kind::Other,
    }
}

/// Marker and DDL; no transaction is open, before and afterwards. The caller inserts the state row and removes the marker in one transaction, which may
/// hold rows too (CREATE TABLE … AS SELECT).
pub(super) fn execute(session: &mut MySqlSession, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
    let text = String::from_utf8_lossy(&statement.sql).into_owned();
    let kind = kind(&text);
    let channel = session.settings.channel.clone();
    if kind == Kind::Accounts {
        return Ok(DdlOutcome::PassedOver("accounts and privileges are the target's own".into()));
    }
    let position = session.head.position.to_string();
    // A killed applier's server thread goes on with its DDL, and keeps this lock until that has ended: before, nothing can be judged.
    let lock = format!("rlog-ddl-{:016x}", xxh3_64(channel.as_bytes()));
    let held: Option<Option<u8>> = session
        .session
        .conn()
        .query_first(format!("SELECT GET_LOCK('{lock}', {DDL_WAIT_S})"))
        .map_err(|error| failure(error, "the lock of a DDL cannot be had"))?;
    if held.flatten() != Some(1) {
        return Err(Failure::new(
            Cause::Other,
            Error::new(Class::TryAgain, "the server still executes a DDL of an applier that is gone"),
        ));
    }
    let done = judged(session, statement, &text, kind, &position);
    // When the connection is lost the lock is, too.
    let _ = session.session.conn().query_drop(format!("DO RELEASE_LOCK('{lock}')"));
    done
}

/// A snapshot's statement, without a marker: it says itself what may be there already, or the server's "exists" means that it is.
pub(super) fn make(session: &mut MySqlSession, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
    let mut sql = prepare(session, statement)?;
    sql.push_str(&crate::event::own::origins_comment(&session.origins));
    match session.run(&sql) {
        Ok(()) => Ok(DdlOutcome::Applied),
        Err(error) if fault_of(&error) == Fault::Exists || code(&error).is_some_and(|code| EXISTS.contains(&code)) => {
            Ok(DdlOutcome::PassedOver(format!("{} was there already", shortened(&sql))))
        }
        Err(error) => {
            let hint = match code(&error) {
                Some(1227 | 1044 | 1142 | 1370) => {
                    "another account's routines, views and triggers need SET USER (MariaDB), or SET_ANY_DEFINER and SYSTEM_USER (MySQL), at the target"
                }
                Some(1418 | 1419) => "SET GLOBAL log_bin_trust_function_creators=1 at the target",
                Some(1449) => {
                    "create the account that defines it at the target, or grant ALLOW_NONEXISTENT_DEFINER (MySQL)"
                }
                _ => "",
            };
            let mut out = failure(error, &shortened(&sql));
            if !hint.is_empty() {
                out.error = Box::new(out.error.hint(hint));
            }
            Err(out)
        }
    }
}

/// [`execute`] behind the lock: no other session executes a DDL of this channel.
fn judged(
    session: &mut MySqlSession,
    statement: &Statement<'_>,
    text: &str,
    kind: Kind,
    position: &str,
) -> Outcome<DdlOutcome> {
    let channel = session.settings.channel.clone();
    let hashes = hashes(session, statement)?;
    let marker = format!("{position}\n{:016x}\n{}", xxh3_64(&statement.sql), hashes.join(","));
    let old = state::fact(session.session.conn(), &channel, MARKER)
        .map_err(|error| failure(error, "the marker of a DDL cannot be read"))?;
    let again = match old.as_deref().map(|old| (old, old.splitn(3, '\n').collect::<Vec<_>>())) {
        Some((old, parts)) if parts.first() == Some(&position) => {
            let before: Vec<&str> =
                parts.get(2).filter(|text| !text.is_empty()).map(|text| text.split(',').collect()).unwrap_or_default();
            let as_before = before.len() == hashes.len() && before.iter().zip(&hashes).all(|(a, b)| a == b);
            match kind {
                Kind::Create | Kind::Drop | Kind::Repeatable => true,
                _ if as_before && !before.is_empty() => true,
                Kind::Alter | Kind::Rename if !before.is_empty() && before.len() == hashes.len() => {
                    let _ = old;
                    return Ok(DdlOutcome::Applied);
                }
                _ => {
                    return Err(Failure::new(
                        Cause::Other,
                        Error::new(
                            Class::Conflict,
                            format!("a run ended while this was being executed, and nothing shows whether it was done: {}", shortened(text)),
                        )
                        .hint("look whether the target has it; if so: rlog-apply skip POSITION; if not, run it by hand first"),
                    ));
                }
            }
        }
        _ => {
            write_marker(session, &marker)?;
            false
        }
    };
    let mut sql = prepare(session, statement)?;
    if kind == Kind::Create && session.session.family == Family::MySql {
        without_start(&mut sql);
    }
    // What an extractor of the target's log recognises (rule 12).
    sql.push_str(&crate::event::own::origins_comment(&session.origins));
    let result = session.run(&sql);
    if let Err(error) = result {
        if fault_of(&error) == Fault::Lost {
            return Err(failure(error, &shortened(text)));
        }
        session.plain_context()?;
        return failed(session, kind, again, text, error);
    }
    session.plain_context()?;
    Ok(DdlOutcome::Applied)
}

/// The DDL failed; on a second try that may be because the first succeeded.
fn failed(session: &mut MySqlSession, kind: Kind, again: bool, text: &str, error: mysql::Error) -> Outcome<DdlOutcome> {
    let fault = fault_of(&error);
    let number = code(&error);
    let done_before = again
        && match kind {
            Kind::Create => fault == Fault::Exists || matches!(number, Some(1304 | 1359 | 1537)),
            Kind::Drop => fault == Fault::NoTable || matches!(number, Some(1305 | 1360 | 1091 | 1539)),
            _ => false,
        };
    if done_before {
        return Ok(DdlOutcome::Applied);
    }
    if fault != Fault::Retry {
        // It did nothing: the next try starts afresh.
        let sql = state::fact_sql(&session.settings.channel, MARKER, None);
        session.run(&sql).map_err(|error| failure(error, "the marker of a DDL cannot be removed"))?;
    }
    let mut out = failure(error, &shortened(text));
    if out.cause == Cause::Other && out.error.class() == Class::Conflict {
        out.cause = Cause::Conflict(ConflictClass::Type);
    }
    Err(out)
}

fn code(error: &mysql::Error) -> Option<u16> {
    match error {
        mysql::Error::MySqlError(error) => Some(error.code),
        _ => None,
    }
}

/// The marker, under the fence.
fn write_marker(session: &mut MySqlSession, marker: &str) -> Outcome {
    let (channel, epoch) = (session.settings.channel.clone(), session.settings.epoch);
    session.begin_server()?;
    let holds: Option<u8> = session
        .session
        .conn()
        .query_first(state::fence_sql(&channel, epoch))
        .map_err(|error| failure(error, "the fence cannot be read"))?;
    if holds.is_none() {
        let _ = session.run("ROLLBACK");
        return Err(Failure::new(
            Cause::Fenced,
            Error::new(Class::TryAgain, "another rlog-apply has taken this channel over"),
        ));
    }
    let sql = state::fact_sql(&channel, MARKER, Some(marker));
    session.run(&sql).map_err(|error| failure(error, "the marker of a DDL cannot be kept"))?;
    session.end_transaction("COMMIT")
}

/// A hash of each table that the statement names, `-` where there is none.
fn hashes(session: &mut MySqlSession, statement: &Statement<'_>) -> Outcome<Vec<String>> {
    let mut out = Vec::with_capacity(statement.tables.len());
    for (database, table) in &statement.tables {
        let database = if database.is_empty() { statement.database.as_ref() } else { database.as_str() };
        let name = table_name(database, table)?;
        let row: mysql::Result<Option<mysql::Row>> =
            session.session.conn().query_first(format!("SHOW CREATE TABLE {name}"));
        out.push(match row {
            Ok(Some(row)) => {
                let text: String = row.get_opt(1).and_then(Result::ok).unwrap_or_default();
                format!("{:016x}", xxh3_64(without_counter(&text).as_bytes()))
            }
            Ok(None) => "-".into(),
            Err(error) if fault_of(&error) == Fault::NoTable => "-".into(),
            Err(error) => return Err(failure(error, "a table cannot be looked at")),
        });
    }
    Ok(out)
}

/// MySQL logs CREATE TABLE … SELECT as a table that starts a transaction in which only its rows may follow: no state row could. Here the marker
/// says how far it is.
fn without_start(sql: &mut String) {
    let start = "START TRANSACTION";
    let body = sql.trim_end();
    let at = body.len().saturating_sub(start.len());
    if body.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(start)) {
        sql.truncate(at);
    }
}

/// AUTO_INCREMENT=… moves with every row.
fn without_counter(text: &str) -> String {
    match text.split_once(" AUTO_INCREMENT=") {
        Some((head, tail)) => format!("{head}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_by_its_first_words() {
        for (sql, expected) in [
            ("create table t (a int)", Kind::Create),
            ("/* x */ CREATE OR REPLACE TABLE t (a int)", Kind::Repeatable),
            ("-- hi\n alter table t add b int", Kind::Alter),
            ("/*!40000 ALTER TABLE t DISABLE KEYS */", Kind::Alter),
            ("DROP TABLE `a`", Kind::Drop),
            ("truncate t", Kind::Repeatable),
            ("GRANT ALL ON *.* TO x", Kind::Accounts),
            ("create user x", Kind::Accounts),
            ("RENAME TABLE a TO b", Kind::Rename),
            ("rename user a to b", Kind::Accounts),
            ("INSTALL PLUGIN x", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(kind(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_table_with_rows_starts_no_transaction_of_its_own() {
        let of = |sql: &str| {
            let mut sql = sql.to_owned();
            without_start(&mut sql);
            sql
        };
        assert_eq!(of("CREATE TABLE `t` (a int) START TRANSACTION"), "CREATE TABLE `t` (a int) ");
        assert_eq!(of("CREATE TABLE `t` (a int)"), "CREATE TABLE `t` (a int)");
        assert_eq!(of("ä"), "ä");
    }

    #[test]
    fn a_tables_counter_does_not_make_it_another_table() {
        assert_eq!(without_counter("x) ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT"), "x) ENGINE=InnoDB DEFAULT");
    }
}
