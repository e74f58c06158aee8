//! A small client of our own, for what needs the bytes of replies: the binary log as a replica gets it, and rows in bulk.
//!
//! Blocking, over TCP, TLS or a Unix socket, without compression. One command is under way at a time; a reply is read packet by packet, and a
//! packet stays where it arrived until the next one is asked for, so nothing is copied between the socket's buffer and a row's or event's reader.
//! Lengths are believed only as far as bytes arrive.
//!
//! Protocol: MySQL's client/server protocol 4.1 (handshake v10), which both families speak. Authentication: `mysql_native_password`,
//! `caching_sha2_password` (in full over TLS or a socket, else with the server's RSA key), `client_ed25519`. A password in clear goes out over TLS and sockets only.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::connect::Fault;
use super::connect::{Address, Family, Tls, fault_of_code, plain};
use super::url::SslMode;
use crate::error::{Class, Error, Result};

/// How much is asked of the socket at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Payload of a packet that has a continuation.
const PART_BYTES: usize = 0xff_ffff;
/// Largest packet that is put together, in bytes: servers have a limit of 1 GiB.
const PACKET_BYTES_MAX: usize = 1 << 30;
/// How long one reply during the handshake or of an ordinary query may stay away.
const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// The shortest wait that sockets know.
const SHORTEST: Duration = Duration::from_millis(1);
/// Shorter waits are not left to the socket; see [`Wire::is_ready`].
const PRECISE: Duration = Duration::from_millis(50);

mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const LONG_FLAG: u32 = 4;
    pub const PROTOCOL_41: u32 = 0x200;
    pub const SSL: u32 = 0x800;
    pub const TRANSACTIONS: u32 = 0x2000;
    pub const SECURE_CONNECTION: u32 = 0x8000;
    pub const PLUGIN_AUTH: u32 = 0x8_0000;
    pub const CONNECT_ATTRS: u32 = 0x10_0000;
    pub const PLUGIN_AUTH_LENENC: u32 = 0x20_0000;
}

/// utf8mb4_general_ci, known to both families by this number.
const CHARSET: u8 = 45;

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    fn set_timeout(&self, timeout: Duration) -> std::io::Result<()> {
        let timeout = Some(timeout.max(SHORTEST));
        match self {
            Wire::Tcp(stream) => stream.set_read_timeout(timeout),
            Wire::Unix(stream) => stream.set_read_timeout(timeout),
            Wire::Tls(stream) => stream.sock.set_read_timeout(timeout),
        }
    }

    /// Whether a read has something at once, or within `timeout`. A socket's own timeout is counted in ticks of the kernel, of which one may take
    /// 10 ms: too coarse for whoever asks whether anything has come yet.
    fn is_ready(&self, timeout: Duration) -> std::io::Result<bool> {
        let socket = match self {
            Wire::Tcp(stream) => stream.as_fd(),
            Wire::Unix(stream) => stream.as_fd(),
            // What has been decrypted is not in the socket any more.
            Wire::Tls(stream) if !stream.conn.wants_read() => return Ok(true),
            Wire::Tls(stream) => stream.sock.as_fd(),
        };
        crate::sys::pipe::is_ready(socket, timeout)
    }

    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Tcp(stream) => stream.read(room),
            Wire::Unix(stream) => stream.read(room),
            Wire::Tls(stream) => stream.read(room),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Unix(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Whether nobody on the way can read.
    fn is_private(&self) -> bool {
        !matches!(self, Wire::Tcp(_))
    }
}

/// One row of a text result: cells in order, `None` is NULL.
pub type TextRow = Vec<Option<Vec<u8>>>;

/// A connection. See the module's head.
pub struct Client {
    wire: Wire,
    name: String,
    buffer: Vec<u8>,
    // The unread part of the buffer.
    start: usize,
    filled: usize,
    timeout: Duration,
    sequence: u8,
    // The packet at hand: its place in the buffer, or in `joined` when it came in parts.
    at_hand: Range<usize>,
    joined: Vec<u8>,
    is_joined: bool,
    /// Which family the server is of.
    pub family: Family,
    /// Its version as it tells it.
    pub version: String,
    /// The connection's number on the server.
    pub thread: u32,
    /// Number of the last error that the server told; 0: none yet.
    pub error_code: u16,
}

impl Client {
    /// Connects, authenticates and sets the session up: UTF-8, UTC, no sql_mode.
    pub(super) fn connect(address: &Address, tls: &Tls, mode: SslMode, name: &str) -> Result<Client> {
        let lost = |error: std::io::Error| {
            Error::new(Class::TryAgain, format!("no connection: {error}")).in_file(name).caused_by(error)
        };
        let wire = match &address.socket {
            Some(path) => Wire::Unix(UnixStream::connect(path).map_err(lost)?),
            None => {
                let found = (address.host.as_str(), address.port).to_socket_addrs().map_err(lost)?;
                let mut last = std::io::Error::new(ErrorKind::NotFound, "the host has no address");
                let mut connected = None;
                for place in found {
                    match TcpStream::connect_timeout(&place, address.connect_timeout) {
                        Ok(stream) => {
                            connected = Some(stream);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                let stream = connected.ok_or(last).map_err(lost)?;
                stream.set_nodelay(true).map_err(lost)?;
                Wire::Tcp(stream)
            }
        };
        let mut client = Client {
            wire,
            name: name.to_owned(),
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            timeout: Duration::ZERO,
            sequence: 0,
            at_hand: 0..0,
            joined: Vec::new(),
            is_joined: false,
            family: Family::MySql,
            version: String::new(),
            thread: 0,
            error_code: 0,
        };
        client.handshake(address, tls, mode)?;
        client.run("SET NAMES utf8mb4, SESSION sql_mode='', SESSION time_zone='+00:00'")?;
        Ok(client)
    }

    /// The server for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }

    // Packets

    /// The packet that was read last.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        let from = if self.is_joined { &self.joined } else { &self.buffer };
        from.get(self.at_hand.clone()).unwrap_or(&[])
    }

    /// Waits up to `timeout` for a packet; `false`: none came whole.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let mut deadline = None;
        loop {
            if self.next_in_buffer()? {
                return Ok(true);
            }
            let left = match deadline {
                None => {
                    deadline = Some(Instant::now() + timeout);
                    timeout
                }
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            if !self.fill(left)? {
                return Ok(false);
            }
        }
    }

    /// Whether bytes are there that were not read.
    pub fn has_buffered(&self) -> bool {
        self.filled > self.start
    }

    /// Takes the next packet out of the buffer if all of it is there.
    #[inline]
    fn next_in_buffer(&mut self) -> Result<bool> {
        let unread = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
        let Some((head, rest)) = unread.split_first_chunk::<4>() else { return Ok(false) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        if length == PART_BYTES {
            return self.join();
        }
        if rest.len() < length {
            return Ok(false);
        }
        self.sequence = head[3].wrapping_add(1);
        let from = self.start + 4;
        self.at_hand = from..from + length;
        self.is_joined = false;
        self.start = from + length;
        Ok(true)
    }

    /// A packet in parts: taken once all parts are there.
    #[cold]
    fn join(&mut self) -> Result<bool> {
        let unread = self.buffer.get(self.start..self.filled).unwrap_or(&[]);
        let mut parts = Vec::new();
        let mut at = 0;
        let sequence = loop {
            let Some(head) = unread.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(false) };
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let part = at + 4..at + 4 + length;
            if part.end > unread.len() {
                return Ok(false);
            }
            at = part.end;
            parts.push(part);
            if length < PART_BYTES {
                break head[3];
            }
            if at > PACKET_BYTES_MAX {
                return Err(Error::damage("the server sent a packet of more than 1 GiB").in_file(self.name.clone()));
            }
        };
        self.joined.clear();
        for part in parts {
            self.joined.extend_from_slice(unread.get(part).unwrap_or(&[]));
        }
        self.sequence = sequence.wrapping_add(1);
        self.at_hand = 0..self.joined.len();
        self.is_joined = true;
        self.start += at;
        Ok(true)
    }

    /// Reads once from the socket; `false`: nothing came in time.
    fn fill(&mut self, timeout: Duration) -> Result<bool> {
        if self.start > 0 && self.buffer.len() < self.filled + CHUNK_BYTES {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            // What was read last is gone from the buffer.
            if !self.is_joined {
                self.at_hand = 0..0;
            }
        }
        if self.buffer.len() < self.filled + CHUNK_BYTES {
            self.buffer.resize((self.filled + CHUNK_BYTES).max(self.filled * 2), 0);
        }
        if timeout < PRECISE && !self.wire.is_ready(timeout).map_err(|error| self.lost(error))? {
            return Ok(false);
        }
        let timeout = timeout.max(SHORTEST);
        if self.timeout != timeout {
            self.wire.set_timeout(timeout).map_err(|error| self.lost(error))?;
            self.timeout = timeout;
        }
        let filled = self.filled;
        loop {
            return match self.wire.read(self.buffer.get_mut(filled..).unwrap_or(&mut [])) {
                Ok(0) => Err(self.lost(std::io::Error::from(ErrorKind::UnexpectedEof))),
                Ok(count) => {
                    self.filled += count;
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
                Err(error) => Err(self.lost(error)),
            };
        }
    }

    fn lost(&self, error: std::io::Error) -> Error {
        let class = if error.kind() == ErrorKind::InvalidData { Class::Permission } else { Class::TryAgain };
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            _ => format!("the connection is lost: {}", plain(&error.to_string())),
        };
        Error::new(class, what).in_file(self.name.clone()).caused_by(error)
    }

    /// Reads the next packet of a reply that must come.
    fn reply(&mut self) -> Result<()> {
        if self.wait(REPLY_TIMEOUT)? {
            return Ok(());
        }
        Err(Error::new(Class::TryAgain, "the server does not answer").in_file(self.name.clone()))
    }

    /// Sends a packet as the next one of the exchange.
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        let mut rest = payload;
        loop {
            let (part, left) = rest.split_at(rest.len().min(PART_BYTES));
            bytes.extend_from_slice((part.len() as u32).to_le_bytes().get(..3).unwrap_or(&[]));
            bytes.push(self.sequence);
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(part);
            rest = left;
            if part.len() < PART_BYTES {
                break;
            }
        }
        self.wire.write(&bytes).map_err(|error| self.lost(error))
    }

    /// Sends a packet that begins an exchange.
    pub fn command(&mut self, payload: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.send(payload)
    }

    /// The error packet at hand as an error; `doing` says what was tried.
    pub fn server_error(&mut self, doing: &str) -> Error {
        let packet = self.packet();
        let code = packet.get(1..3).and_then(|code| code.first_chunk()).map_or(0, |code| u16::from_le_bytes(*code));
        let text = packet.get(3..).unwrap_or(&[]);
        let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or(&[]) } else { text };
        let text = plain(&String::from_utf8_lossy(text));
        self.error_code = code;
        let class = match fault_of_code(code) {
            Fault::Lost | Fault::Retry | Fault::Full => Class::TryAgain,
            Fault::Permission => Class::Permission,
            Fault::NoTable => Class::Config,
            _ => Class::Unavailable,
        };
        Error::new(class, format!("{doing}: error {code}: {text}")).in_file(self.name.clone())
    }

    /// Reads the reply to a command without a result.
    pub fn expect_ok(&mut self, doing: &str) -> Result<()> {
        self.reply()?;
        match self.packet().first() {
            Some(0xff) => Err(self.server_error(doing)),
            Some(0) => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> Error {
        Error::damage("the server's reply is not what the protocol has here").in_file(self.name.clone())
    }

    // Queries

    /// Runs a statement without a result.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.rows(sql, |_| Ok(())).map(drop)
    }

    /// Runs a statement; the first column of its first row as text.
    pub fn value(&mut self, sql: &str) -> Result<Option<String>> {
        let rows = self.query(sql)?;
        let cell = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        Ok(cell.map(|cell| String::from_utf8_lossy(&cell).into_owned()))
    }

    /// A server variable as text; `None` when this server does not know it, does not tell it to us, or it is NULL. `name` is one of ours.
    pub fn variable(&mut self, name: &str) -> Result<Option<String>> {
        match self.value(&format!("SELECT CAST(@@{name} AS CHAR)")) {
            Err(error) if error.class() != Class::TryAgain => Ok(None),
            other => other,
        }
    }

    /// Runs a statement and gathers its rows, for small results.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        let mut out = Vec::new();
        self.rows(sql, |mut row| {
            let mut cells = Vec::new();
            while let Some(cell) = take_cell(&mut row) {
                cells.push(cell.map(<[u8]>::to_vec));
            }
            out.push(cells);
            Ok(())
        })?;
        Ok(out)
    }

    /// Runs a statement; `each` gets every row as it arrives, cells to be taken by [`take_cell`]. Returns how many there were. When `each` fails, the
    /// rest of the rows is left unread, and the connection is of no use any more.
    pub fn rows(&mut self, sql: &str, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut command = Vec::with_capacity(sql.len() + 1);
        command.push(3);
        command.extend_from_slice(sql.as_bytes());
        self.command(&command)?;
        self.reply()?;
        let doing = || format!("`{}`", plain(&sql.chars().take(80).collect::<String>()));
        let columns = match self.packet().first() {
            Some(0xff) => return Err(self.server_error(&doing())),
            Some(0) => return Ok(0),
            // The server asks for a local file; it gets none.
            Some(0xfb) => return Err(self.unexpected()),
            _ => {
                let mut packet = self.packet();
                take_lenenc(&mut packet).ok_or_else(|| self.unexpected())?
            }
        };
        for _ in 0..columns {
            self.reply()?;
        }
        self.reply()?;
        if !is_eof(self.packet()) {
            return Err(self.unexpected());
        }
        let mut rows = 0;
        loop {
            self.reply()?;
            let packet = self.packet();
            if is_eof(packet) {
                return Ok(rows);
            }
            if packet.first() == Some(&0xff) {
                return Err(self.server_error(&doing()));
            }
            rows += 1;
            each(packet)?;
        }
    }

    // Handshake

    fn handshake(&mut self, address: &Address, tls: &Tls, mode: SslMode) -> Result<()> {
        if !self.wait(address.connect_timeout)? {
            return Err(Error::new(Class::TryAgain, "no connection: the server does not answer").in_file(&self.name));
        }
        if self.packet().first() == Some(&0xff) {
            let error = self.server_error("no connection");
            // Too many connections, too many errors of this host, not permitted for it.
            return Err(error.with_class(if matches!(self.error_code, 1129 | 1130) {
                Class::Permission
            } else {
                Class::TryAgain
            }));
        }
        let greeting = Greeting::parse(self.packet()).ok_or_else(|| self.unexpected())?;
        self.version = greeting.version.strip_prefix("5.5.5-").unwrap_or(&greeting.version).to_owned();
        self.family = if self.version.contains("MariaDB") { Family::MariaDb } else { Family::MySql };
        self.thread = greeting.thread;
        let mut flags = capability::LONG_PASSWORD
            | capability::LONG_FLAG
            | capability::PROTOCOL_41
            | capability::TRANSACTIONS
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::PLUGIN_AUTH_LENENC
            | capability::CONNECT_ATTRS;
        flags &= greeting.flags;
        flags |= capability::PROTOCOL_41 | capability::SECURE_CONNECTION;
        if mode != SslMode::Disabled && matches!(self.wire, Wire::Tcp(_)) {
            if greeting.flags & capability::SSL == 0 {
                return Err(Error::new(Class::Unavailable, "no connection: the server offers no TLS")
                    .in_file(self.name.clone())
                    .hint("over a network that you trust, say so: ?ssl-mode=disabled"));
            }
            flags |= capability::SSL;
            let mut request = Vec::with_capacity(32);
            put_client(&mut request, flags);
            self.send(&request)?;
            self.encrypt(address, tls, mode)?;
        }
        let mut nonce = greeting.nonce;
        let mut plugin = match greeting.plugin.as_str() {
            "caching_sha2_password" => greeting.plugin,
            _ => "mysql_native_password".to_owned(),
        };
        let answer = self.answer(&plugin, &address.password, &nonce)?;
        let mut response = Vec::new();
        put_client(&mut response, flags);
        response.extend_from_slice(address.user.as_bytes());
        response.push(0);
        response.push(answer.len() as u8);
        response.extend_from_slice(&answer);
        if flags & capability::PLUGIN_AUTH != 0 {
            response.extend_from_slice(plugin.as_bytes());
            response.push(0);
        }
        if flags & capability::CONNECT_ATTRS != 0 {
            let mut attributes = Vec::new();
            for text in ["program_name", "rlog", "_client_version", env!("CARGO_PKG_VERSION")] {
                attributes.push(text.len() as u8);
                attributes.extend_from_slice(text.as_bytes());
            }
            response.push(attributes.len() as u8);
            response.extend_from_slice(&attributes);
        }
        self.send(&response)?;
        // A server may switch the plugin once; each plugin takes a handful of packets.
        for _ in 0..8 {
            self.reply()?;
            let packet = self.packet();
            match (packet.first(), packet.get(1)) {
                (Some(0), _) => return Ok(()),
                (Some(0xff), _) => {
                    let error = self.server_error("no connection");
                    return Err(match self.error_code {
                        1040 | 1203 | 1226 | 1053 => error.with_class(Class::TryAgain),
                        _ => error.with_class(Class::Permission).hint(
                            "name the account in the URL and its password in a file: mysql://USER@HOST/DB?defaults-file=FILE",
                        ),
                    });
                }
                (Some(0xfe), _) => {
                    let (name, data) = packet
                        .get(1..)
                        .and_then(|rest| Some(rest.split_at(rest.iter().position(|byte| *byte == 0)?)))
                        .ok_or_else(|| self.unexpected())?;
                    plugin = String::from_utf8_lossy(name).into_owned();
                    nonce = switched_nonce(data.get(1..).unwrap_or(&[])).to_vec();
                    let answer = self.answer(&plugin, &address.password, &nonce)?;
                    self.send(&answer)?;
                }
                // caching_sha2_password: known already.
                (Some(1), Some(3)) => {}
                // Not known yet: the password itself.
                (Some(1), Some(4)) if plugin == "caching_sha2_password" => {
                    let mut password = address.password.clone().into_bytes();
                    password.push(0);
                    if self.wire.is_private() {
                        self.send(&password)?;
                    } else {
                        self.send(&[2])?;
                        self.reply()?;
                        let key = self.packet().get(1..).unwrap_or(&[]).to_vec();
                        if !key.starts_with(b"-----BEGIN PUBLIC KEY-----") {
                            return Err(self.unexpected());
                        }
                        password.iter_mut().zip(nonce.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
                        let sealed = mysql_common::crypto::encrypt(&password, &key);
                        self.send(&sealed)?;
                    }
                }
                _ => return Err(self.unexpected()),
            }
        }
        Err(self.unexpected())
    }

    /// What a plugin wants to hear first.
    fn answer(&self, plugin: &str, password: &str, nonce: &[u8]) -> Result<Vec<u8>> {
        let (password, short) = (password.as_bytes(), nonce.get(..20).unwrap_or(nonce));
        if password.is_empty() && plugin != "client_ed25519" {
            return Ok(Vec::new());
        }
        match plugin {
            "mysql_native_password" => Ok(scramble_native(short, password).map(Vec::from).unwrap_or_default()),
            "caching_sha2_password" => Ok(scramble_sha256(short, password).map(Vec::from).unwrap_or_default()),
            "client_ed25519" if nonce.len() >= 32 => {
                Ok(create_response_for_ed25519(password, nonce.get(..32).unwrap_or(nonce)).to_vec())
            }
            "mysql_clear_password" | "dialog" if self.wire.is_private() => {
                let mut clear = password.to_vec();
                clear.push(0);
                Ok(clear)
            }
            other => Err(Error::new(
                Class::Unavailable,
                format!("no connection: the account's authentication plugin {} is not known", plain(other)),
            )
            .in_file(self.name.clone())
            .hint("accounts for rlog use caching_sha2_password, ed25519 or mysql_native_password")),
        }
    }

    /// Goes on under TLS.
    fn encrypt(&mut self, address: &Address, tls: &Tls, mode: SslMode) -> Result<()> {
        let config = super::tls::config(tls, mode).map_err(|error| error.in_file(self.name.clone()))?;
        let refused = |name: &str, error: std::io::Error| {
            let damaged = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            let class = if damaged { Class::Permission } else { Class::TryAgain };
            Error::new(class, format!("no connection: {}", plain(&error.to_string())))
                .in_file(name)
                .hint("name the authority that signed the server's certificate: ?ssl-ca=FILE")
                .caused_by(error)
        };
        let host = ServerName::try_from(address.host.clone()).map_err(|_| {
            Error::config(format!("`{}` is no host name that a certificate could have", plain(&address.host)))
        })?;
        let connection = ClientConnection::new(Arc::new(config), host)
            .map_err(|error| Error::config(format!("TLS: {error}")).in_file(self.name.clone()))?;
        let Wire::Tcp(stream) = &self.wire else { return Ok(()) };
        let stream = stream.try_clone().map_err(|error| self.lost(error))?;
        stream.set_read_timeout(Some(address.connect_timeout)).map_err(|error| self.lost(error))?;
        self.timeout = address.connect_timeout;
        let mut secured = StreamOwned::new(connection, stream);
        while secured.conn.is_handshaking() {
            secured.conn.complete_io(&mut secured.sock).map_err(|error| refused(&self.name, error))?;
        }
        self.wire = Wire::Tls(Box::new(secured));
        Ok(())
    }
}

/// The server's first packet.
struct Greeting {
    version: String,
    thread: u32,
    flags: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Greeting {
    fn parse(packet: &[u8]) -> Option<Greeting> {
        let rest = packet.strip_prefix(&[10])?;
        let (version, rest) = rest.split_at(rest.iter().position(|byte| *byte == 0)?);
        let (thread, rest) = rest.get(1..)?.split_first_chunk::<4>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (low, rest) = rest.get(1..)?.split_first_chunk::<2>()?;
        // Charset, status.
        let (high, rest) = rest.get(3..)?.split_first_chunk::<2>()?;
        let flags = u32::from(u16::from_le_bytes(*low)) | u32::from(u16::from_le_bytes(*high)) << 16;
        let nonce_len = usize::from(*rest.first()?);
        let rest = rest.get(11..)?;
        let second_len = nonce_len.saturating_sub(8).max(13).min(rest.len());
        let (second, rest) = rest.split_at(second_len);
        let mut nonce = first.to_vec();
        nonce.extend_from_slice(second);
        nonce.resize(20, 0);
        let plugin = rest.split(|byte| *byte == 0).next().unwrap_or(&[]);
        Some(Greeting {
            version: String::from_utf8_lossy(version).into_owned(),
            thread: u32::from_le_bytes(*thread),
            flags,
            nonce,
            plugin: String::from_utf8_lossy(plugin).into_owned(),
        })
    }
}

/// What both a request for TLS and an answer to the greeting begin with.
fn put_client(out: &mut Vec<u8>, flags: u32) {
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&(PACKET_BYTES_MAX as u32).to_le_bytes());
    out.push(CHARSET);
    out.extend_from_slice(&[0; 23]);
}

/// Whether a packet ends a result or, of a binary log, what there is.
pub fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// Takes a length in the protocol's form.
#[inline]
fn take_lenenc(input: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = input.split_first()?;
    let (value, rest) = match first {
        0xfc => rest.split_first_chunk::<2>().map(|(value, rest)| (u64::from(u16::from_le_bytes(*value)), rest))?,
        0xfd => rest
            .split_first_chunk::<3>()
            .map(|(value, rest)| (u64::from(u32::from_le_bytes([value[0], value[1], value[2], 0])), rest))?,
        0xfe => rest.split_first_chunk::<8>().map(|(value, rest)| (u64::from_le_bytes(*value), rest))?,
        value => (u64::from(value), rest),
    };
    *input = rest;
    Some(value)
}

/// Takes the next cell of a text row; `None` behind the last, `Some(None)` is NULL. A damaged row ends early.
#[inline]
pub fn take_cell<'a>(row: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    if row.first() == Some(&0xfb) {
        *row = row.get(1..)?;
        return Some(None);
    }
    let length = usize::try_from(take_lenenc(row)?).ok()?;
    let cell = row.get(..length)?;
    *row = row.get(length..)?;
    Some(Some(cell))
}

/// The nonce of an AuthSwitchRequest. Those of 20 bytes come with a zero behind them; one of 32 (`client_ed25519`) does not, and may itself end in a zero.
fn switched_nonce(data: &[u8]) -> &[u8] {
    match data {
        [nonce @ .., 0] if nonce.len() == 20 => nonce,
        nonce => nonce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_may_end_in_a_zero() {
        let long = [&[7; 31][..], &[0]].concat();
        assert_eq!(switched_nonce(&long), long);
        assert_eq!(switched_nonce(&[&[7; 20][..], &[0]].concat()), [7; 20]);
        assert_eq!(switched_nonce(&[7; 20]), [7; 20]);
        assert_eq!(switched_nonce(&[]), [0u8; 0]);
    }

    #[test]
    fn cells_of_every_length_are_taken_and_a_cut_row_ends() {
        let mut row = vec![3, b'a', b'b', b'c', 0xfb, 0, 0xfc, 0, 1];
        row.extend([b'x'; 256]);
        let mut rest = row.as_slice();
        assert_eq!(take_cell(&mut rest), Some(Some(&b"abc"[..])));
        assert_eq!(take_cell(&mut rest), Some(None));
        assert_eq!(take_cell(&mut rest), Some(Some(&b""[..])));
        assert_eq!(take_cell(&mut rest), Some(Some(&[b'x'; 256][..])));
        assert_eq!(take_cell(&mut rest), None);
        for length in 0..row.len() {
            let mut cut = &row[..length];
            while take_cell(&mut cut).is_some() {}
        }
    }

    #[test]
    fn a_greeting_is_read_and_a_cut_one_refused() {
        let mut packet = b"\x0a11.8.1-MariaDB\0\x07\0\0\0abcdefgh\0\xff\xf7\x2d\x02\0\xff\x81\x15".to_vec();
        packet.extend([0; 10]);
        packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        let greeting = Greeting::parse(&packet).unwrap();
        assert_eq!((greeting.version.as_str(), greeting.thread), ("11.8.1-MariaDB", 7));
        assert_eq!(
            (greeting.nonce.as_slice(), greeting.plugin.as_str()),
            (&b"abcdefghijklmnopqrst"[..], "mysql_native_password")
        );
        assert_eq!(greeting.flags, 0x81ff_f7ff);
        for length in 0..45 {
            assert!(Greeting::parse(&packet[..length]).is_none(), "{length}");
        }
    }
}
