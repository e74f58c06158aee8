//! One blocking session with a server, and what its errors mean.
//!
//! Every session is set up alike, whatever the server's own settings: sql_mode fixed (strict, zero dates and invalid dates as they
//! come, 0 in an AUTO_INCREMENT column stays 0), `time_zone = '+00:00'`, utf8mb4, READ COMMITTED, no
//! general surprises. So a statement that rlog renders means the same everywhere. The server may ask any client for
//! a local file (LOAD DATA LOCAL); no handler is installed, so it gets an empty one.

use std::path::PathBuf;
use std::time::Duration;

use mysql::consts::CapabilityFlags;
use mysql::prelude::Queryable as _;
use mysql::{ClientIdentity, Conn, OptsBuilder, SslOpts};
use mysql_common::proto::codec::error::PacketCodecError;

use super::client::Client;
use super::defaults::Defaults;
use super::under_way::{UnderWay, execute};
use super::url::{ServerUrl, SslMode};
use crate::error::{Class, Error, Result};

/// How long a connection attempt may take unless a defaults file says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// sql_mode of every session. Strict, so that what does not fit is an error and never a silent cut; without the NO_ZERO modes and
/// with ALLOW_INVALID_DATES, since a log may hold such dates and they must arrive as they were.
pub const SQL_MODE: &str =
    "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Oracle's, and Percona's.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl Family {
    /// Its name in stream headers and table definitions.
    pub fn name(self) -> &'static str {
        match self {
            Family::MySql => "mysql",
            Family::MariaDb => "mariadb",
        }
    }
}

/// Knows how to reach a server: URL and defaults files taken together. Connects any number of times.
#[derive(Clone)]
pub struct Connector {
    opts: OptsBuilder,
    tls: Tls,
    address: Address,
    /// For messages; never holds a secret.
    name: String,
    database: Option<String>,
}

/// Where the server is and who asks, as URL and defaults files say together.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) socket: Option<PathBuf>,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) connect_timeout: Duration,
}

/// How the connection is protected.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Takes the URL and reads the defaults files that it names, or the usual ones. What the URL says wins.
    pub fn new(url: &ServerUrl) -> Result<Connector> {
        let defaults = match &url.defaults_file {
            Some(file) if file.as_os_str().is_empty() => Defaults::default(),
            Some(file) => Defaults::read(file)?,
            None => Defaults::usual(std::env::var_os("HOME").map(PathBuf::from).as_deref())?,
        };
        let password = defaults.password.or_else(|| std::env::var("MYSQL_PWD").ok()).filter(|text| !text.is_empty());
        // A host named in the URL is meant, whatever socket a file names for other uses; but localhost is the socket, as for every client of
        // these servers, unless a port says otherwise.
        let named = url.host.as_deref().is_some_and(|host| host != "localhost" || url.port.is_some());
        let host = url.host.clone().or(defaults.host).unwrap_or_else(|| "localhost".into());
        let socket = url.socket.clone().or(if named { None } else { defaults.socket });
        let user = url.user.clone().or(defaults.user).or_else(|| std::env::var("USER").ok());
        let port = url.port.or(defaults.port).unwrap_or(3306);
        let local = socket.is_some() || matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1");
        let ca = url.ssl_ca.clone().or(defaults.ssl_ca);
        let mode = url.ssl_mode.or(defaults.ssl_mode).unwrap_or(match (&ca, local) {
            (_, true) => SslMode::Disabled,
            (Some(_), false) => SslMode::VerifyIdentity,
            (None, false) => SslMode::Required,
        });
        let identity = url.ssl_cert.clone().or(defaults.ssl_cert).zip(url.ssl_key.clone().or(defaults.ssl_key));
        let address = Address {
            host,
            port,
            socket,
            user: user.unwrap_or_default(),
            password: password.unwrap_or_default(),
            connect_timeout: defaults.connect_timeout_s.map_or(CONNECT_TIMEOUT, Duration::from_secs),
        };
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let opts = OptsBuilder::new()
            .ip_or_hostname(Some(address.host.clone()))
            .tcp_port(port)
            .socket(address.socket.as_ref().map(|socket| socket.display().to_string()))
            .prefer_socket(false)
            .user(some(&address.user))
            .pass(some(&address.password))
            .tcp_nodelay(true)
            .tcp_connect_timeout(Some(address.connect_timeout))
            // An update that finds its row as it shall be has found it.
            .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
            .stmt_cache_size(256);
        let name = url.to_string();
        Ok(Connector { opts, tls: Tls { mode, ca, identity }, address, name, database: url.database.clone() })
    }

    /// Connects with the client of our own, which shows the bytes of replies; see [`super::client`].
    pub fn client(&self) -> Result<Client> {
        let mode = self.tls.mode;
        match Client::connect(&self.address, &self.tls, mode, &self.name) {
            Err(error) if mode == SslMode::Preferred && error.class() == Class::Unavailable => {
                Client::connect(&self.address, &self.tls, SslMode::Disabled, &self.name)
            }
            other => other,
        }
    }

    /// The server for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database that the URL names.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Connects and sets the session up.
    pub fn connect(&self) -> Result<Session> {
        let mode = self.tls.mode;
        let conn = match self.try_connect(mode) {
            Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported)) if mode == SslMode::Preferred => {
                self.try_connect(SslMode::Disabled)
            }
            other => other,
        };
        let conn = conn.map_err(|error| self.explain(error))?;
        Session::set_up(conn, self.name.clone()).map_err(|error| error.in_file(self.name.clone()))
    }

    fn try_connect(&self, mode: SslMode) -> mysql::Result<Conn> {
        let mut ssl = SslOpts::default();
        if let Some(ca) = &self.tls.ca {
            ssl = ssl.with_root_cert_path(Some(ca.clone()));
        }
        if let Some((cert, key)) = &self.tls.identity {
            ssl = ssl.with_client_identity(Some(ClientIdentity::new(cert.clone(), key.clone())));
        }
        let ssl = match mode {
            SslMode::Disabled => None,
            SslMode::Preferred | SslMode::Required => Some(ssl.with_danger_accept_invalid_certs(true)),
            SslMode::VerifyCa => Some(ssl.with_danger_skip_domain_validation(true)),
            SslMode::VerifyIdentity => Some(ssl),
        };
        Conn::new(self.opts.clone().ssl_opts(ssl))
    }

    fn explain(&self, error: mysql::Error) -> Error {
        let (class, hint) = match &error {
            mysql::Error::MySqlError(server) => match server.code {
                1045 | 1698 => (
                    Class::Permission,
                    Some(
                        "name the account in the URL and its password in a file: mysql://USER@HOST/DB?defaults-file=FILE",
                    ),
                ),
                1040 | 1203 | 1226 | 1053 => (Class::TryAgain, None),
                _ => (Class::Permission, None),
            },
            mysql::Error::DriverError(mysql::DriverError::TlsNotSupported) => (
                Class::Unavailable,
                Some("the server offers no TLS; over a network that you trust, say so: ?ssl-mode=disabled"),
            ),
            mysql::Error::TlsError(_) => (Class::Permission, Some(WHOSE_CERTIFICATE)),
            error if is_distrust(error) => (Class::Permission, Some(WHOSE_CERTIFICATE)),
            mysql::Error::IoError(io) => match io.kind() {
                std::io::ErrorKind::NotFound if self.tls.ca.is_some() => (Class::Config, None),
                std::io::ErrorKind::InvalidData => (Class::Permission, None),
                // A server that is being restarted has no socket.
                _ => (Class::TryAgain, None),
            },
            mysql::Error::DriverError(_) | mysql::Error::CodecError(_) => (Class::TryAgain, None),
            _ => (Class::Config, None),
        };
        let mut out = Error::new(class, format!("no connection: {}", plain(&said(&error)))).in_file(self.name.clone());
        if let Some(hint) = hint {
            out = out.hint(hint);
        }
        out.caused_by(error)
    }
}

/// What to do about a certificate that is not believed.
const WHOSE_CERTIFICATE: &str = "name the authority that signed the server's certificate: ?ssl-ca=FILE";

/// Whether the server's certificate was not believed: trying again would not help.
fn is_distrust(error: &mysql::Error) -> bool {
    let io = match error {
        mysql::Error::IoError(io) => io,
        mysql::Error::CodecError(PacketCodecError::Io(io)) => io,
        _ => return false,
    };
    io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// An error's own words, without the names that the client library gives to its kinds: `MySqlError { ERROR 1062 … }`.
fn said(error: &mysql::Error) -> String {
    let text = error.to_string();
    let inner = text.split_once(" { ").and_then(|(kind, rest)| {
        let is_kind = kind.ends_with("Error") && kind.chars().all(|c| c.is_ascii_alphanumeric());
        rest.strip_suffix(" }").filter(|_| is_kind).map(str::to_owned)
    });
    inner.unwrap_or(text)
}

/// What a server says goes to terminals: control characters are escaped.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A session that is set up.
#[derive(Debug)]
pub struct Session {
    /// `None` only while a statement is under way.
    conn: Option<Conn>,
    under_way: Option<UnderWay>,
    /// What a statement that was under way came to, while nobody has asked.
    came_to: mysql::Result<()>,
    /// Statements that go to the server with the next one.
    ahead: Vec<Deferred>,
    /// Which family the server is of.
    pub family: Family,
    /// Its version as it tells it.
    pub version: String,
    /// Largest packet that the server takes, in bytes.
    pub packet_bytes_max: usize,
    name: String,
}

impl Session {
    fn set_up(mut conn: Conn, name: String) -> Result<Session> {
        let error = |error| server_error(error, "the session cannot be set up");
        let row: Option<(String, u64)> = conn.query_first("SELECT VERSION(), @@max_allowed_packet").map_err(error)?;
        let (version, packet) =
            row.ok_or_else(|| Error::new(Class::Unavailable, "the server does not tell its version"))?;
        let family = match version.contains("MariaDB") {
            true => Family::MariaDb,
            false => Family::MySql,
        };
        let mut session = Session {
            conn: Some(conn),
            under_way: None,
            came_to: Ok(()),
            ahead: Vec::new(),
            family,
            version,
            packet_bytes_max: usize::try_from(packet).unwrap_or(usize::MAX),
            name,
        };
        session.reset()?;
        Ok(session)
    }

    /// Sets the session's variables as every session has them. After a statement with a context of its own was replayed,
    /// this brings the ordinary state back.
    pub fn reset(&mut self) -> Result<()> {
        let text = format!(
            "SET NAMES utf8mb4, SESSION sql_mode='{SQL_MODE}', SESSION time_zone='+00:00', SESSION autocommit=1, \
             SESSION foreign_key_checks=1, SESSION unique_checks=1, SESSION sql_safe_updates=0, \
             SESSION wait_timeout=28800, SESSION group_concat_max_len=1073741824, SESSION timestamp=DEFAULT"
        );
        let error = |error| server_error(error, "the session cannot be set up");
        self.run(text).map_err(error)?;
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").map_err(error)?;
        // Needs a privilege, and newer MySQL knows no other format: READ COMMITTED itself then asks for rows.
        let _ = self.run("SET SESSION binlog_format=ROW");
        Ok(())
    }

    /// The server for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection itself, for queries that change nothing: a statement that was under way, or deferred, has ended then, and may have failed.
    pub fn conn(&mut self) -> &mut Conn {
        self.wait();
        if !self.ahead.is_empty() && self.came_to.is_ok() {
            self.came_to = self.send_deferred();
        }
        self.conn.as_mut().expect("the thread of a statement gives the connection back")
    }

    /// Runs one statement and reads its results to their end. A statement that was under way has ended before; if that failed, its error is
    /// returned, and this one is not run.
    pub fn run(&mut self, sql: impl AsRef<str>) -> mysql::Result<()> {
        self.finish()?;
        let ahead = std::mem::take(&mut self.ahead);
        match ahead.as_slice() {
            [] => execute(self.conn(), sql.as_ref()),
            ahead => execute_behind(self.conn(), ahead, sql.as_ref()),
        }
    }

    /// Defers a statement without a result: it goes to the server in front of the next one and in the same packet, which saves a round trip. If it fails,
    /// the next one has failed, with its error.
    pub fn defer(&mut self, sql: impl Into<String>) {
        self.ahead.push(Deferred { sql: sql.into(), claims: false });
    }

    /// As [`Session::defer`], for a statement that must affect one row: otherwise it has failed with [`TAKEN`], and if the row is there already, with
    /// [`REPEATED`]. The statement behind it may have been executed nevertheless.
    pub fn defer_claim(&mut self, sql: impl Into<String>) {
        self.ahead.push(Deferred { sql: sql.into(), claims: true });
    }

    /// Sends what was deferred by itself.
    pub fn send_deferred(&mut self) -> mysql::Result<()> {
        let mut ahead = std::mem::take(&mut self.ahead);
        let last = ahead.pop();
        match (last, &mut self.conn) {
            (Some(last), Some(conn)) if !last.claims => execute_behind(conn, &ahead, &last.sql),
            (Some(last), Some(conn)) => {
                ahead.push(last);
                execute_behind(conn, &ahead, "DO 0")
            }
            _ => Ok(()),
        }
    }

    /// Takes deferred statements back.
    pub fn undefer(&mut self) {
        self.ahead.clear();
    }

    /// Starts a statement without a result that is read, once the one before has ended well; it is under way when this returns. Gives back a text whose
    /// memory may be used again.
    pub fn start(&mut self, sql: String) -> mysql::Result<String> {
        let spare = self.wait();
        self.finish()?;
        self.send_deferred()?;
        let under_way = self.under_way.get_or_insert_with(UnderWay::spawn);
        if let Some(conn) = self.conn.take()
            && let Err((mut conn, sql)) = under_way.start(conn, sql)
        {
            self.came_to = execute(&mut conn, &sql);
            self.conn = Some(conn);
        }
        Ok(spare)
    }

    /// Waits for the statement that is under way, and says what it came to; each outcome is told once.
    pub fn finish(&mut self) -> mysql::Result<()> {
        self.wait();
        std::mem::replace(&mut self.came_to, Ok(()))
    }

    fn wait(&mut self) -> String {
        if self.conn.is_none()
            && let Some((conn, sql, outcome)) = self.under_way.as_ref().and_then(UnderWay::back)
        {
            self.conn = Some(conn);
            self.came_to = outcome;
            return sql;
        }
        String::new()
    }

    /// Rows that the last statement found or made.
    pub fn affected(&self) -> u64 {
        self.conn.as_ref().map_or(0, Conn::affected_rows)
    }

    /// A server variable as text; `None` if this server does not know it or it is NULL. `name` is one of ours.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        self.conn().query_first::<Option<String>, _>(format!("SELECT CAST(@@{name} AS CHAR)")).ok().flatten().flatten()
    }
}

/// See [`Session::defer`].
#[derive(Debug)]
struct Deferred {
    sql: String,
    claims: bool,
}

/// Error number, not one of a server's: a deferred claim affected no row. See [`Session::defer_claim`].
pub const TAKEN: u16 = 0xfff1;
/// Error number, not one of a server's: the row of a deferred claim was there already.
pub const REPEATED: u16 = 0xfff2;

/// Runs statements in one packet; the server stops at the first that fails. `last` may be one, like `BINLOG`, behind which MariaDB reads no further.
fn execute_behind(conn: &mut Conn, ahead: &[Deferred], last: &str) -> mysql::Result<()> {
    let refused = |code, message: &str| {
        let (state, message) = ("HY000".to_owned(), message.to_owned());
        Err(mysql::Error::MySqlError(mysql::MySqlError { state, message, code }))
    };
    let mut text = String::with_capacity(ahead.iter().map(|one| one.sql.len() + 1).sum::<usize>() + last.len());
    for one in ahead {
        text.push_str(&one.sql);
        text.push(';');
    }
    text.push_str(last);
    let mut done = 0;
    let outcome = (|| {
        let mut results = conn.query_iter(&text)?;
        loop {
            let affected = results.affected_rows();
            let Some(set) = results.iter() else { return Ok(()) };
            for row in set {
                row?;
            }
            if affected != 1 && ahead.get(done).is_some_and(|one| one.claims) {
                return refused(TAKEN, "the claim affected no row");
            }
            done += 1;
        }
    })();
    match outcome {
        Err(error) if ahead.get(done).is_some_and(|one| one.claims) && fault_of(&error) == Fault::Duplicate => {
            refused(REPEATED, "the claim was made before")
        }
        Ok(()) if done <= ahead.len() => {
            Err(mysql::Error::IoError(std::io::Error::other("the server left out a statement of several")))
        }
        outcome => outcome,
    }
}

/// What an error of the server means for whoever applies changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection is gone, and with it the transaction; whether a COMMIT under way took place is not known.
    Lost,
    /// A deadlock, a time-out and the like: roll back, and the same again may succeed.
    Retry,
    /// A key that must be unique is there already.
    Duplicate,
    /// The row to change is not there.
    NotFound,
    /// A foreign key forbids it.
    ForeignKey,
    /// Another constraint forbids it.
    Constraint,
    /// The value does not fit the column, or the table is not as expected.
    Type,
    /// A table or database is not there.
    NoTable,
    /// Something to be created is there already.
    Exists,
    /// Not permitted.
    Permission,
    /// A deferred claim failed: [`TAKEN`], [`REPEATED`].
    Claim,
    /// No room on the server, or a limit of it.
    Full,
    /// Anything else.
    Other,
}

/// Sorts an error. The numbers are the servers' own; the retryable ones are those that their replicas retry.
pub fn fault_of(error: &mysql::Error) -> Fault {
    let code = match error {
        mysql::Error::MySqlError(error) => error.code,
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) | mysql::Error::TlsError(_) => return Fault::Lost,
        mysql::Error::DriverError(mysql::DriverError::PacketTooLarge) => return Fault::Full,
        mysql::Error::DriverError(_) => return Fault::Lost,
        _ => return Fault::Other,
    };
    fault_of_code(code)
}

/// Sorts a server's error number.
pub fn fault_of_code(code: u16) -> Fault {
    match code {
        TAKEN | REPEATED => Fault::Claim,
        // ER_SERVER_SHUTDOWN, gone away, lost, killed (both families), idle too long.
        1053 | 2006 | 2013 | 1927 | 3169 | 4031 | 1152 | 1184 => Fault::Lost,
        1158..=1161 | 1205 | 1213 | 1020 | 1429 | 12701 | 1317 | 1969 | 3024 | 1040 | 1203 | 1180 => Fault::Retry,
        1062 | 1022 | 1169 | 1586 | 1761 | 1762 | 1859 => Fault::Duplicate,
        1032 | 1176 => Fault::NotFound,
        1216 | 1217 | 1451 | 1452 => Fault::ForeignKey,
        3819 | 4025 | 1048 | 1364 | 1644 | 4041 => Fault::Constraint,
        1264..=1267
        | 1292
        | 1366
        | 1367
        | 1406
        | 1411
        | 1525
        | 1526
        | 1677
        | 1054
        | 1136
        | 3140
        | 1416
        | 1610
        | 3156
        | 1582
        | 1288
        | 1906
        | 3105
        | 1105 => Fault::Type,
        1146 | 1049 | 1051 | 1008 => Fault::NoTable,
        1050 | 1007 | 1060 | 1061 => Fault::Exists,
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1290 | 1698 | 1836 | 1792 | 4166 => Fault::Permission,
        1021 | 1037 | 1038 | 1041 | 1114 | 1153 | 1197 | 1206 | 3 | 28 => Fault::Full,
        _ => Fault::Other,
    }
}

/// An error of the server as one of ours. `doing` says what was tried.
pub fn server_error(error: mysql::Error, doing: &str) -> Error {
    let fault = fault_of(&error);
    let class = match fault {
        Fault::Lost | Fault::Retry | Fault::Full => Class::TryAgain,
        Fault::Permission => Class::Permission,
        Fault::NoTable => Class::Config,
        _ => Class::Conflict,
    };
    Error::new(class, format!("{doing}: {}", plain(&said(&error)))).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replicas_retry_is_retried() {
        for code in [1158, 1159, 1160, 1161, 1205, 1213, 1020, 1429, 12701] {
            assert_eq!(fault_of_code(code), Fault::Retry, "{code}");
        }
        assert_eq!(fault_of_code(2013), Fault::Lost);
        assert_eq!(fault_of_code(1062), Fault::Duplicate);
        assert_eq!(fault_of_code(1452), Fault::ForeignKey);
    }

    #[test]
    fn control_characters_of_a_server_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
    }
}
