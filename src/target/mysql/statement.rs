//! Statements from the source's log, executed with the session that they ran in.
//!
//! The context is the one of the Query event (mysqlbinlog prints the same SET statements): default database, time, sql_mode, charsets by number,
//! checks, time zone, seeds and variables. Afterwards the session is set up anew before anything else is done.
//!
//! The text is sent as it is if the client's charset is UTF-8 or the text is ASCII; else converted to UTF-8 and sent as such, which
//! keeps every literal's characters. Text that is not valid in its charset is refused.

use super::failure::failure;
use super::session::MySqlSession;
use crate::db::mysql::Family;
use crate::db::mysql::connect::{Fault, fault_of};
use crate::db::mysql::literal::{put_bytes, put_name, put_string, table_name};
use crate::error::{Class, Error, Result};
use crate::event::statement::UserValue;
use crate::event::{RecordKind, Statement, charset};
use crate::target::{Cause, ConflictClass, Failure, Outcome};

/// Bits of flags2, as the Query event has them.
const AUTO_IS_NULL: u32 = 1 << 14;
const NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
const RELAXED_UNIQUE_CHECKS: u32 = 1 << 27;

/// What the session is set to.
#[derive(Debug, Default)]
pub(super) struct Context {
    foreign: bool,
}

impl Context {
    /// Whether it is not the ordinary one.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }
}

/// Executes a record that is no row and no DDL.
pub(super) fn execute(session: &mut MySqlSession, kind: RecordKind, statement: &Statement<'_>) -> Outcome {
    match kind {
        RecordKind::Truncate => {
            session.plain_context()?;
            for (database, table) in &statement.tables {
                // TRUNCATE would commit.
                let name = table_name(database, table)?;
                session.run(&format!("DELETE FROM {name}")).map_err(|error| failure(error, &name))?;
            }
            Ok(())
        }
        RecordKind::LoadBlock => Err(load_data()),
        // The rows of a prepared transaction come with its decision.
        RecordKind::XaDecision => Ok(()),
        _ if statement.file_id.is_some() => Err(load_data()),
        _ => {
            let sql = prepare(session, statement)?;
            session.run(&sql).map_err(|error| failure(error, &shortened(&sql)))
        }
    }
}

fn load_data() -> Failure {
    Error::new(Class::Conflict, "LOAD DATA was logged as a statement, and rlog does not replay the file")
        .hint("on the source: SET GLOBAL binlog_format=ROW; then step over it: rlog-apply skip POSITION")
        .into()
}

/// The first words of a statement, for messages.
pub(super) fn shortened(sql: &str) -> String {
    let mut out: String = sql.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if out.len() < sql.len() {
        out.push('…');
    }
    out
}

/// Sets the session up as the statement had it and gives the text to send.
pub(super) fn prepare(session: &mut MySqlSession, statement: &Statement<'_>) -> Outcome<String> {
    let family = session.settings.source_family.as_str();
    if !matches!(family, "mysql" | "mariadb") {
        return Err(Failure::new(
            Cause::Other,
            Error::new(
                Class::Conflict,
                format!("a statement of {family} cannot be run by {}", session.session.family.name()),
            )
            .hint("only rows go from one kind of database to another; DDL follows --ddl"),
        ));
    }
    let (sql, as_utf8) = text(statement)?;
    session.context = Context { foreign: true };
    if !statement.database.is_empty() {
        let mut name = String::from("USE ");
        put_name(&mut name, &statement.database)?;
        match session.run(&name) {
            // A statement that creates or drops the database.
            Err(error) if fault_of(&error) == Fault::NoTable => {}
            other => other.map_err(|error| failure(error, "USE"))?,
        }
    }
    let sets = settings(session.session.family, statement, as_utf8)?;
    session.run(&sets).map_err(|error| failure(error, "the statement's session cannot be set up"))?;
    if session.session.family == Family::MariaDb && session.head.server_id != 0 {
        // So that the target's own log names the server where it began. Needs a privilege; the state row says it too.
        let _ = session.run(&format!("SET SESSION server_id={}", session.head.server_id));
    }
    Ok(sql)
}

/// The text as UTF-8, and whether it was converted.
fn text(statement: &Statement<'_>) -> Outcome<(String, bool)> {
    let client = statement.charset.and_then(|(client, _, _)| charset::charset_of(u32::from(client))).unwrap_or("");
    let plain = statement.sql.is_ascii() && !matches!(client, "ucs2" | "utf16" | "utf16le" | "utf32");
    if plain || matches!(client, "" | "utf8mb3" | "utf8mb4" | "binary") {
        if let Ok(text) = std::str::from_utf8(&statement.sql) {
            return Ok((text.to_owned(), false));
        }
    } else if let Some(text) = charset::decode(client, &statement.sql) {
        return Ok((text, true));
    }
    Err(Failure::new(
        Cause::Conflict(ConflictClass::Type),
        Error::new(Class::Conflict, format!("a statement's text is not valid in its charset ({client:?})"))
            .hint("look at it with rlog-dump, run it by hand, then: rlog-apply skip POSITION"),
    ))
}

fn settings(family: Family, statement: &Statement<'_>, as_utf8: bool) -> Result<String> {
    let mut out = String::from("SET SESSION timestamp=");
    // TIMESTAMP 0 would mean "now".
    out.push_str(&statement.time_s.max(1).to_string());
    if let Some(us) = statement.microseconds {
        out.push_str(&format!(".{us:06}"));
    }
    let mut set = |name: &str, value: String| {
        out.push_str(", SESSION ");
        out.push_str(name);
        out.push('=');
        out.push_str(&value);
    };
    if let Some(mode) = statement.sql_mode {
        set("sql_mode", known_modes(family, mode).to_string());
    }
    if let Some(flags) = statement.flags2 {
        set("sql_auto_is_null", u8::from(flags & AUTO_IS_NULL != 0).to_string());
        set("foreign_key_checks", u8::from(flags & NO_FOREIGN_KEY_CHECKS == 0).to_string());
        set("unique_checks", u8::from(flags & RELAXED_UNIQUE_CHECKS == 0).to_string());
    }
    if let Some((client, connection, server)) = statement.charset {
        match as_utf8 {
            true => set("character_set_client", "utf8mb4".into()),
            // By its name: this variable takes the numbers of few collations only (not MariaDB's uca1400).
            false => match charset::charset_of(u32::from(client)) {
                Some(name) => set("character_set_client", name.into()),
                None => set("character_set_client", client.to_string()),
            },
        }
        set("collation_connection", connection.to_string());
        set("collation_server", server.to_string());
    }
    if !statement.time_zone.is_empty() {
        let mut zone = String::new();
        crate::db::mysql::literal::put_text(&mut zone, &statement.time_zone);
        set("time_zone", zone);
    }
    if let Some((increment, offset)) = statement.auto_increment {
        set("auto_increment_increment", increment.max(1).to_string());
        set("auto_increment_offset", offset.max(1).to_string());
    }
    if let Some(names) = statement.lc_time_names {
        set("lc_time_names", names.to_string());
    }
    if let Some(collation) = statement.charset_database.filter(|collation| *collation != 0) {
        set("collation_database", collation.to_string());
    }
    if let Some(id) = statement.insert_id {
        set("insert_id", id.to_string());
    }
    if let Some(id) = statement.last_insert_id {
        set("last_insert_id", id.to_string());
    }
    if let Some((first, second)) = statement.rand {
        set("rand_seed1", first.to_string());
        set("rand_seed2", second.to_string());
    }
    if let (Family::MySql, Some(explicit)) = (family, statement.explicit_timestamp) {
        set("explicit_defaults_for_timestamp", u8::from(explicit).to_string());
    }
    for variable in &statement.user_variables {
        out.push_str(", @");
        put_name(&mut out, &String::from_utf8_lossy(&variable.name))?;
        out.push_str(":=");
        match &variable.value {
            None => out.push_str("NULL"),
            Some(UserValue::Int(value)) => out.push_str(&value.to_string()),
            Some(UserValue::UInt(value)) => out.push_str(&value.to_string()),
            Some(UserValue::Real(bits)) => {
                let value = f64::from_bits(*bits);
                out.push_str(&if value.is_finite() { format!("{value:e}") } else { "NULL".into() });
            }
            Some(UserValue::Decimal(text))
                if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.')) =>
            {
                out.push_str(text);
            }
            Some(UserValue::Decimal(_)) => return Err(Error::damage("a user variable's decimal is no number")),
            Some(UserValue::String(bytes)) => match charset::charset_of(variable.collation) {
                Some("binary") | None => put_bytes(&mut out, bytes),
                Some(charset) => {
                    put_string_with(&mut out, bytes, charset);
                    if let Some(name) = charset::collation_name(variable.collation, family == Family::MariaDb) {
                        out.push_str(" COLLATE ");
                        out.push_str(&name);
                    }
                }
            },
        }
    }
    Ok(out)
}

/// As [`put_string`], but always with the introducer, which COLLATE needs.
fn put_string_with(out: &mut String, bytes: &[u8], charset: &str) {
    out.push('_');
    out.push_str(charset);
    out.push(' ');
    match bytes {
        [] => out.push_str("''"),
        bytes => put_string(out, bytes, ""),
    }
}

/// The modes of a number that the family knows. Both use bits 0 to 31 alike where they share a mode; MySQL 8 has dropped some, and knows
/// TIME_TRUNCATE_FRACTIONAL (bit 32), which MariaDB calls by bit 32 too and SIMULTANEOUS_ASSIGNMENT by 33.
fn known_modes(family: Family, mode: u64) -> u64 {
    match family {
        Family::MariaDb => mode & ((1 << 35) - 1),
        // Gone since 8.0: POSTGRESQL … NO_TABLE_OPTIONS, MYSQL323, MYSQL40, NO_AUTO_CREATE_USER.
        Family::MySql => mode & ((1 << 33) - 1) & !0x1003_ff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statements_session_is_set_up_in_one_statement() {
        let statement = Statement {
            time_s: 100,
            microseconds: Some(5),
            sql_mode: Some(0),
            flags2: Some(NO_FOREIGN_KEY_CHECKS),
            charset: Some((8, 8, 45)),
            rand: Some((1, 2)),
            user_variables: vec![crate::event::statement::UserVariable {
                name: b"a`b".to_vec(),
                value: Some(UserValue::String(b"x'".to_vec())),
                collation: 8,
            }],
            ..Statement::default()
        };
        assert_eq!(
            settings(Family::MariaDb, &statement, true).unwrap(),
            "SET SESSION timestamp=100.000005, SESSION sql_mode=0, SESSION sql_auto_is_null=0, SESSION foreign_key_checks=0, \
             SESSION unique_checks=1, SESSION character_set_client=utf8mb4, SESSION collation_connection=8, \
             SESSION collation_server=45, SESSION rand_seed1=1, SESSION rand_seed2=2, @`a``b`:=_latin1 x'7827' COLLATE latin1_swedish_ci"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_converted_or_refused() {
        let latin1 =
            |client| Statement { sql: b"\xe4"[..].into(), charset: Some((client, 8, 8)), ..Statement::default() };
        assert_eq!(text(&latin1(8)).unwrap(), ("ä".to_owned(), true));
        assert!(text(&latin1(45)).is_err());
    }
}
