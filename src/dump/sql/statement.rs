//! Statements with their session, for MySQL and MariaDB.
//!
//! Everything that a statement depends on and the log knows is set before it, when it is not set already. Rows need a session of
//! their own (UTC, utf8mb4, a lenient sql_mode), which comes back before the next row.
//!
//! A statement's text is read by a client program first. It is written as it is only if that client cannot take any
//! part of it for something else: UTF-8 or ASCII, no backslash, no control character, no comment, no semicolon outside of quotes. Any
//! other text is written in hexadecimal and prepared on the server. What the server cannot prepare (MySQL: stored routines)
//! stands between delimiters that it does not hold, and is refused when a client could see a command in it.

use super::literal::{Dialect, comment};
use crate::dump::escape::{controls, put_hex};
use crate::error::{Class, Error, Result};
use crate::event::charset;
use crate::event::statement::UserValue;
use crate::event::{RecordKind, Statement};

/// What the session of the client that runs the output has been set to.
#[derive(Debug, Default)]
pub struct Session {
    set: Vec<(&'static str, String)>,
    database: Option<String>,
}

/// What rows need.
const ROWS: [(&str, &str); 4] = [
    ("NAMES", "utf8mb4"),
    ("time_zone", "'+00:00'"),
    ("sql_mode", "'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'"),
    ("sql_auto_is_null", "0"),
];

/// Bits of flags2, as the Query event has them.
const AUTO_IS_NULL: u32 = 1 << 14;
const NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
const RELAXED_UNIQUE_CHECKS: u32 = 1 << 27;

impl Session {
    /// Sets up what rows need.
    pub fn for_rows(&mut self, out: &mut Vec<u8>) {
        for (name, value) in ROWS {
            self.set(out, name, value.to_owned());
        }
        // What a statement before had switched off is on again.
        for name in ["foreign_key_checks", "unique_checks"] {
            if self.set.iter().any(|(known, _)| *known == name) {
                self.set(out, name, "1".to_owned());
            }
        }
    }

    fn set(&mut self, out: &mut Vec<u8>, name: &'static str, value: String) {
        if name == "NAMES" {
            // The three that NAMES stands for.
            if self.set.iter().any(|(known, old)| *known == name && *old == value) {
                return;
            }
            self.set.retain(|(known, _)| !matches!(*known, "character_set_client" | "collation_connection" | "NAMES"));
            out.extend_from_slice(format!("SET NAMES {value};\n").as_bytes());
            self.set.push((name, value));
            return;
        }
        match self.set.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) if *old == value => return,
            Some((_, old)) => old.clone_from(&value),
            None => self.set.push((name, value.clone())),
        }
        out.extend_from_slice(format!("SET {name}={value};\n").as_bytes());
    }

    /// Appends a statement.
    pub fn statement(
        &mut self,
        out: &mut Vec<u8>,
        dialect: Dialect,
        kind: RecordKind,
        statement: &Statement<'_>,
    ) -> Result<()> {
        if statement.error_code != 0 {
            out.extend_from_slice(
                format!("-- on the source this ended with error {}\n", statement.error_code).as_bytes(),
            );
        }
        if kind == RecordKind::LoadBlock || statement.file_id.is_some() {
            return Err(Error::new(Class::Unavailable, "LOAD DATA with its file cannot be written as SQL")
                .hint("`rlog-dump --format json` shows the statement and the file's blocks"));
        }
        self.context(out, dialect, statement)?;
        let utf8 = statement
            .charset
            .and_then(|(client, ..)| charset::charset_of(u32::from(client)))
            .is_none_or(|name| matches!(name, "utf8mb3" | "utf8mb4"));
        let sql = statement.sql.trim_ascii();
        let sql = sql.strip_suffix(b";").unwrap_or(sql);
        match std::str::from_utf8(sql).ok().filter(|text| utf8 || text.is_ascii()) {
            Some(text) if is_harmless(text, false) => {
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b";\n");
            }
            text if !is_routine(statement) => self.prepared(out, sql, text.is_some(), statement),
            Some(text) if is_harmless(text, true) => {
                let mut delimiter = ";;".to_owned();
                while text.contains(&delimiter) {
                    delimiter.push(';');
                }
                let lines = format!("DELIMITER {delimiter}\n{text}\n{delimiter}\nDELIMITER ;\n");
                out.extend_from_slice(lines.as_bytes());
            }
            text if dialect == Dialect::MariaDb => self.prepared(out, sql, text.is_some(), statement),
            _ => {
                return Err(Error::new(Class::Unavailable, "a stored routine's text could be misread by a client")
                    .hint("`rlog-dump --format json` shows it"));
            }
        }
        Ok(())
    }

    /// The text in hexadecimal, prepared on the server.
    fn prepared(&mut self, out: &mut Vec<u8>, sql: &[u8], is_utf8: bool, statement: &Statement<'_>) {
        let client = statement.charset.and_then(|(client, ..)| charset::charset_of(u32::from(client)));
        let charset = if is_utf8 { "utf8mb4" } else { client.unwrap_or("utf8mb4") };
        let words: String = String::from_utf8_lossy(sql).chars().take(60).collect();
        out.extend_from_slice(format!("-- {}\nSET @rlog_sql = _{charset} X'", comment(&words)).as_bytes());
        put_hex(out, sql);
        out.extend_from_slice(
            b"';\nPREPARE rlog_statement FROM @rlog_sql;\nEXECUTE rlog_statement;\nDEALLOCATE PREPARE rlog_statement;\n",
        );
    }

    fn context(&mut self, out: &mut Vec<u8>, dialect: Dialect, statement: &Statement<'_>) -> Result<()> {
        let mariadb = dialect == Dialect::MariaDb;
        // What the log does not say is as it is for rows.
        if !statement.database.is_empty() && self.database.as_deref() != Some(&*statement.database) {
            // CREATE DATABASE and DROP DATABASE name the database that they are about as the default one.
            let about_database = statement.ddl.ends_with(" database") || statement.ddl.ends_with(" schema");
            if !about_database && !is_about_database(&statement.sql) {
                out.extend_from_slice(b"USE ");
                dialect.put_name(out, &statement.database)?;
                out.extend_from_slice(b";\n");
                self.database = Some(statement.database.clone().into_owned());
            }
        }
        if statement.thread != 0 {
            self.set(out, "pseudo_thread_id", statement.thread.to_string());
        }
        if statement.time_s != 0 {
            let value = match statement.microseconds {
                Some(us) => format!("{}.{:06}", statement.time_s, us.min(999_999)),
                None => statement.time_s.to_string(),
            };
            self.set(out, "TIMESTAMP", value);
        }
        if let Some(flags) = statement.flags2 {
            let off = |bit: u32| u8::from(flags & bit == 0).to_string();
            self.set(out, "sql_auto_is_null", u8::from(flags & AUTO_IS_NULL != 0).to_string());
            self.set(out, "foreign_key_checks", off(NO_FOREIGN_KEY_CHECKS));
            self.set(out, "unique_checks", off(RELAXED_UNIQUE_CHECKS));
        }
        if let Some(mode) = statement.sql_mode {
            self.set(out, "sql_mode", mode.to_string());
        }
        if let Some((client, connection, server)) = statement.charset {
            let collation = |number: u16| {
                charset::collation_name(u32::from(number), mariadb).map_or(number.to_string(), |name| name.into_owned())
            };
            let client = charset::charset_of(u32::from(client)).map_or(client.to_string(), str::to_owned);
            if self.set.iter().any(|(name, _)| *name == "NAMES") {
                self.set.retain(|(name, _)| *name != "NAMES");
            }
            self.set(out, "character_set_client", client);
            self.set(out, "collation_connection", collation(connection));
            self.set(out, "collation_server", collation(server));
        }
        if !statement.time_zone.is_empty() {
            let mut zone = Vec::new();
            dialect.put_text(&mut zone, &statement.time_zone);
            self.set(out, "time_zone", String::from_utf8_lossy(&zone).into_owned());
        }
        let (increment, offset) = statement.auto_increment.unwrap_or((1, 1));
        if statement.auto_increment.is_some() || self.set.iter().any(|(name, _)| *name == "auto_increment_increment") {
            self.set(out, "auto_increment_increment", increment.to_string());
            self.set(out, "auto_increment_offset", offset.to_string());
        }
        let lc_time_names = statement.lc_time_names.unwrap_or(0);
        if lc_time_names != 0 || self.set.iter().any(|(name, _)| *name == "lc_time_names") {
            self.set(out, "lc_time_names", lc_time_names.to_string());
        }
        if let Some(explicit) = statement.explicit_timestamp {
            self.set(out, "explicit_defaults_for_timestamp", u8::from(explicit).to_string());
        }
        if !mariadb {
            if let Some(collation) = statement.utf8mb4_collation {
                self.set(out, "default_collation_for_utf8mb4", collation.to_string());
            }
            if let Some(require) = statement.require_primary_key {
                self.set(out, "sql_require_primary_key", u8::from(require).to_string());
            }
        }
        // These are used up by the statement, so they are set each time.
        for (name, value) in [("LAST_INSERT_ID", statement.last_insert_id), ("INSERT_ID", statement.insert_id)] {
            if let Some(value) = value {
                out.extend_from_slice(format!("SET {name}={value};\n").as_bytes());
            }
        }
        if let Some((first, second)) = statement.rand {
            out.extend_from_slice(format!("SET RAND_SEED1={first}, RAND_SEED2={second};\n").as_bytes());
        }
        for variable in &statement.user_variables {
            out.extend_from_slice(b"SET @");
            dialect.put_name(out, &String::from_utf8_lossy(&variable.name))?;
            out.extend_from_slice(b" = ");
            match &variable.value {
                None => out.extend_from_slice(b"NULL"),
                Some(UserValue::Int(value)) => out.extend_from_slice(value.to_string().as_bytes()),
                Some(UserValue::UInt(value)) => out.extend_from_slice(value.to_string().as_bytes()),
                Some(UserValue::Real(bits)) => {
                    let value = f64::from_bits(*bits);
                    let text = if value.is_finite() { format!("{value:e}") } else { "NULL".to_owned() };
                    out.extend_from_slice(text.as_bytes());
                }
                Some(UserValue::Decimal(text)) => {
                    let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | '+');
                    if !text.chars().all(digits) || text.is_empty() || text.contains("--") {
                        return Err(Error::damage("a user variable's decimal is no number"));
                    }
                    out.extend_from_slice(text.as_bytes());
                }
                Some(UserValue::String(bytes)) => {
                    if let Some(charset) = charset::charset_of(variable.collation) {
                        out.extend_from_slice(format!("_{charset} ").as_bytes());
                    }
                    dialect.put_bytes(out, bytes);
                    if let Some(collation) = charset::collation_name(variable.collation, mariadb)
                        && collation != "binary"
                    {
                        out.extend_from_slice(format!(" COLLATE {collation}").as_bytes());
                    }
                }
            }
            out.extend_from_slice(b";\n");
        }
        Ok(())
    }
}

/// Whether no client can take a part of the text for something else. In a stored routine (`body`) semicolons are allowed, since
/// the delimiter protects, and comments without quotes, over whose end client and server cannot disagree.
fn is_harmless(text: &str, body: bool) -> bool {
    if text.is_empty() || text.chars().any(|c| c == '\\' || (controls(c) && !matches!(c, '\n' | '\t'))) {
        return false;
    }
    let mut quote = None;
    let mut comment_end = None;
    let mut line_start = true;
    for (at, c) in text.char_indices() {
        let rest = text.get(at..).unwrap_or("");
        if let Some(end) = comment_end {
            if rest.starts_with(end) {
                comment_end = None;
            } else if matches!(c, '\'' | '"' | '`') {
                return false;
            }
        } else if let Some(end) = quote {
            if c == end {
                quote = None;
            }
        } else if matches!(c, '\'' | '"' | '`') {
            quote = Some(c);
        } else if c == '#' || rest.starts_with("--") {
            comment_end = Some("\n");
        } else if rest.starts_with("/*") {
            comment_end = Some("*/");
        } else if c == ';' && !body {
            return false;
        }
        if comment_end.is_some() && !body {
            return false;
        }
        // Clients look for DELIMITER at the start of any line, and for their other commands at the start of a statement.
        if line_start && quote.is_none() && rest.get(..9).is_some_and(|word| word.eq_ignore_ascii_case("delimiter")) {
            return false;
        }
        line_start = c == '\n' || (line_start && c.is_whitespace());
    }
    let first: String = text.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '_').collect();
    quote.is_none()
        && comment_end.is_none()
        && !CLIENT_COMMANDS.iter().any(|command| first.eq_ignore_ascii_case(command))
}

/// What `mariadb` and `mysql` take for themselves at the start of a statement, apart from words that are statements too.
const CLIENT_COMMANDS: [&str; 26] = [
    "charset",
    "clear",
    "connect",
    "costs",
    "delimiter",
    "edit",
    "ego",
    "exit",
    "go",
    "help",
    "nopager",
    "notee",
    "nowarning",
    "pager",
    "print",
    "prompt",
    "query_attributes",
    "quit",
    "rehash",
    "resetconnection",
    "sandbox",
    "source",
    "status",
    "system",
    "tee",
    "warnings",
];

/// Whether it creates a stored routine, which has statements inside.
fn is_routine(statement: &Statement<'_>) -> bool {
    let words: Vec<String> = String::from_utf8_lossy(&statement.sql)
        .split_ascii_whitespace()
        .take(12)
        .map(str::to_ascii_lowercase)
        .collect();
    matches!(words.first().map(String::as_str), Some("create" | "alter"))
        && words.iter().any(|word| matches!(word.as_str(), "procedure" | "function" | "trigger" | "event" | "package"))
}

/// Whether it creates, alters or drops a database.
fn is_about_database(sql: &[u8]) -> bool {
    let text = String::from_utf8_lossy(sql);
    let mut words = text.split_ascii_whitespace().filter(|word| !word.starts_with("/*"));
    let first = words.next().unwrap_or("").to_ascii_lowercase();
    let second = words.next().unwrap_or("").to_ascii_lowercase();
    let third = words.next().unwrap_or("").to_ascii_lowercase();
    let is = |word: &str| matches!(word, "database" | "schema");
    matches!(first.as_str(), "create" | "drop" | "alter") && (is(&second) || (second == "or" && is(&third)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_that_no_client_misreads_is_written_as_it_is() {
        for harmless in ["insert into t values (1, 'a;b', \"x\")", "create table `a;b` (x int)", "update t set\n a = 1"]
        {
            assert!(is_harmless(harmless, false), "{harmless}");
        }
        for text in [
            "",
            "select 'a\\'b'",
            "select 1; drop table t",
            "select 1 -- \n\\! id",
            "select /* ' */ 1",
            "select 1 # x",
            "select 1\ndelimiter x",
            "source /etc/passwd",
            "system id",
            "select 'open",
            "select \u{1b}1",
        ] {
            assert!(!is_harmless(text, false), "{text}");
        }
        assert!(is_harmless("create procedure p() begin /* it */ select 1; -- x\n end", true));
        assert!(!is_harmless("create procedure p() begin -- it's\n select 1; end", true));
    }
}
