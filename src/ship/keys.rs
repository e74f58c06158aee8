//! Who is who: key pairs, authorized keys, known servers. All of it is text files, as ssh has them.
//!
//! An identity is an Ed25519 public key, written `rlog-ed25519 BASE64`. There are no certificates: nothing can be valid
//! and yet not authorised. The forms:
//!
//! ```text
//! ship.key            a PKCS#8 private key in PEM; refused when others may read it
//! authorized_keys     [OPTIONS] rlog-ed25519 BASE64 [COMMENT]
//! known_servers       HOST:PORT[,HOST:PORT] rlog-ed25519 BASE64 [COMMENT]
//! ```
//!
//! Options narrow what a key may do; without any it may push and pull every channel. An option that is not known is an
//! error, since it may have been meant to forbid something.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::wire::Verb;
use crate::error::{Class, Error, Result};
use crate::queue::fold_name;
use crate::sys::units;

/// First word of a public key.
pub const KEY_TYPE: &str = "rlog-ed25519";
/// What a public key is wrapped in as SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What a private key is wrapped in as PKCS#8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Largest key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From SubjectPublicKeyInfo; `None` when it is no Ed25519 key.
    pub fn from_spki(spki: &[u8]) -> Option<PublicKey> {
        spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PublicKey)
    }

    /// As SubjectPublicKeyInfo.
    pub fn to_spki(self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }

    /// Sixteen hexadecimal digits that stand for it in names.
    pub fn short(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_TYPE} {}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<PublicKey> {
        let mut words = text.split_whitespace();
        let key = match (words.next(), words.next()) {
            (Some(KEY_TYPE), Some(key)) => key,
            // The type may be left out where only one can be meant.
            (Some(key), None) => key,
            _ => "",
        };
        let bytes = BASE64.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(PublicKey).ok_or_else(|| {
            Error::usage("this is no public key")
                .hint(format!("a public key looks like `{KEY_TYPE} BASE64`, 44 characters"))
        })
    }
}

/// A key pair. Its secret is in no `Debug` output and no message.
pub struct KeyPair {
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

impl KeyPair {
    /// A new one.
    pub fn generate() -> Result<KeyPair> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
        KeyPair::from_pkcs8([&PKCS8_PREFIX[..], &seed].concat())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<KeyPair> {
        let key = super::tls::signing_key(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        let public = key.public_key().and_then(|spki| PublicKey::from_spki(spki.as_ref()));
        let public = public.ok_or_else(|| Error::damage("this is no Ed25519 private key"))?;
        Ok(KeyPair { pkcs8, public })
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The private key for TLS.
    pub(super) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'_> {
        PrivatePkcs8KeyDer::from(self.pkcs8.as_slice())
    }

    /// Writes a new private key file, mode 0600, durably. One that exists is never replaced.
    pub fn save(&self, path: &Path) -> Result<()> {
        let shown = path.display().to_string();
        let io = |error: std::io::Error| {
            let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
            let error = Error::io(&shown, error).with_class(Class::CannotCreate);
            if exists {
                error.hint(format!("`rlog-ship keygen --show --key {shown}` prints its public key"))
            } else {
                error
            }
        };
        let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&self.pkcs8));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half a key is worth nothing and would be in the way.
            let _ = std::fs::remove_file(path);
            return Err(io(error));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// Reads a private key file. [`Class::Permission`] when others may read it.
    pub fn load(path: &Path) -> Result<KeyPair> {
        let shown = path.display().to_string();
        let text = read(path, 0o077, "a private key that others may read is none").map_err(|error| {
            if error.class() == Class::NoInput {
                error.hint(format!("`rlog-ship keygen --key {shown}` makes one"))
            } else {
                error
            }
        })?;
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(key)) => {
                KeyPair::from_pkcs8(key.secret_pkcs8_der().to_vec()).map_err(|error| error.in_file(shown))
            }
            _ => Err(Error::damage("this is no private key in PKCS#8 (PEM)").in_file(shown)),
        }
    }
}

/// Reads a file whose mode must have none of the bits `forbidden`, and which must be ours or the superuser's.
fn read(path: &Path, forbidden: u32, why: &str) -> Result<String> {
    let shown = path.display().to_string();
    let io = |error| Error::io(&shown, error);
    let file = std::fs::File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(Error::new(Class::NoInput, "this is no regular file").in_file(shown));
    }
    if meta.mode() & forbidden != 0 {
        let right = if forbidden & 0o044 != 0 { "go-rwx" } else { "go-w" };
        return Err(Error::new(Class::Permission, format!("its mode is {:04o}: {why}", meta.mode() & 0o7777))
            .in_file(&shown)
            .hint(format!("chmod {right} {shown}")));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(Error::new(Class::Permission, format!("it belongs to user {}, not to {me}", meta.uid()))
            .in_file(&shown)
            .hint(format!("chown {me} {shown}")));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub key: PublicKey,
    /// Channels, folded; `None`: all.
    pub channels: Option<Vec<String>>,
    /// Whether it may push.
    pub push: bool,
    /// Whether it may pull.
    pub pull: bool,
    /// Until when, microseconds since 1970 UTC.
    pub expires_us: Option<i64>,
    /// Connections at the same time.
    pub connections: Option<u64>,
    /// Bytes a second in each direction and connection.
    pub rate_limit: Option<u64>,
    /// Bytes that a channel may occupy that this key pushes into.
    pub space_limit: Option<u64>,
    /// What a person wrote behind it.
    pub comment: String,
}

impl Grant {
    fn all(key: PublicKey) -> Grant {
        Grant {
            key,
            channels: None,
            push: true,
            pull: true,
            expires_us: None,
            connections: None,
            rate_limit: None,
            space_limit: None,
            comment: String::new(),
        }
    }

    /// Whether it covers this.
    pub fn allows(&self, verb: Verb, channel: &str) -> bool {
        let verb = match verb {
            Verb::Put => self.push,
            Verb::Get => self.pull,
        };
        verb && self.channels.as_ref().is_none_or(|channels| channels.iter().any(|name| name == channel))
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|end| now_us >= end)
    }

    /// For messages: the comment, or the key.
    pub fn name(&self) -> String {
        if self.comment.is_empty() { self.key.to_string() } else { self.comment.clone() }
    }

    fn parse(line: &str) -> Result<Grant, String> {
        let (options, rest) = match line.strip_prefix(KEY_TYPE) {
            Some(rest) if rest.starts_with(char::is_whitespace) => ("", line),
            _ => {
                let end = end_of_options(line).ok_or("a quotation mark is not closed")?;
                (line.get(..end).unwrap_or(""), line.get(end..).unwrap_or("").trim_start())
            }
        };
        let mut words = rest.splitn(3, char::is_whitespace);
        let (kind, key) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if kind != KEY_TYPE {
            return Err(format!("`{KEY_TYPE}` is expected, behind the options if there are any"));
        }
        let key = key.parse::<PublicKey>().map_err(|error| error.what().to_owned())?;
        let mut grant = Grant { comment: words.next().unwrap_or("").trim().to_owned(), ..Grant::all(key) };
        for (name, value) in split_options(options) {
            grant.option(&name, &value)?;
        }
        Ok(grant)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let list = || value.split(',').map(str::trim).filter(|word| !word.is_empty());
        match name {
            "channels" => {
                let folded = list().map(|name| fold_name("channel", name).map_err(|error| error.what().to_owned()));
                self.channels = Some(folded.collect::<Result<_, _>>()?);
            }
            "verbs" => {
                (self.push, self.pull) = (false, false);
                for verb in list() {
                    match verb {
                        "push" => self.push = true,
                        "pull" => self.pull = true,
                        _ => return Err(format!("`{verb}` is no verb: push or pull")),
                    }
                }
            }
            "expires" => {
                let end = value.parse::<jiff::Timestamp>().or_else(|_| {
                    value
                        .parse::<jiff::civil::Date>()
                        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).map(|midnight| midnight.timestamp()))
                });
                let end = end.map_err(|_| format!("`{value}` is no time: 2027-01-31 or 2027-01-31T12:00:00Z"))?;
                self.expires_us = Some(end.as_microsecond());
            }
            "connections" => {
                self.connections = Some(value.parse().map_err(|_| format!("`{value}` is no number"))?);
            }
            "rate-limit" => self.rate_limit = Some(units::bytes(value)?),
            "space-limit" => self.space_limit = Some(units::bytes(value)?),
            _ => {
                return Err(format!(
                    "option `{name}` is not known: channels, verbs, expires, connections, rate-limit, space-limit"
                ));
            }
        }
        Ok(())
    }
}

/// The first blank outside of quotation marks.
fn end_of_options(line: &str) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted).then_some(line.len())
}

/// `a="x,y",b=z`: names and values, quotation marks removed.
fn split_options(text: &str) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in text.chars().chain([',']) {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                let (name, value) = word.split_once('=').unwrap_or((&word, ""));
                if !name.is_empty() {
                    options.push((name.to_owned(), value.to_owned()));
                }
                word.clear();
            }
            c => word.push(c),
        }
    }
    options
}

/// The lines of a file that are neither empty nor comments, numbered from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The keys that may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizedKeys {
    grants: Vec<Grant>,
}

impl AuthorizedKeys {
    /// Reads the file. Whoever may write it may come in, so nobody else may.
    pub fn load(path: &Path) -> Result<AuthorizedKeys> {
        let text = read(path, 0o022, "whoever can write it could let himself in")?;
        AuthorizedKeys::parse(&text, &path.display().to_string())
    }

    /// Parses it; `name` is for messages.
    pub fn parse(text: &str, name: &str) -> Result<AuthorizedKeys> {
        let mut grants = Vec::<Grant>::new();
        for (number, line) in lines(text) {
            let grant =
                Grant::parse(line).map_err(|what| Error::config(format!("line {number}: {what}")).in_file(name))?;
            if grants.iter().any(|other| other.key == grant.key) {
                return Err(Error::config(format!("line {number}: this key stands here twice")).in_file(name));
            }
            grants.push(grant);
        }
        Ok(AuthorizedKeys { grants })
    }

    /// What a key may do; `None`: nothing.
    pub fn grant(&self, key: &PublicKey) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.key == *key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether nobody may come in.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }
}

/// The servers that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownServers {
    servers: Vec<(Vec<String>, PublicKey)>,
}

impl KnownServers {
    /// Reads the file; one that is missing knows nobody.
    pub fn load(path: &Path) -> Result<KnownServers> {
        match read(path, 0o022, "whoever can write it could pass for any server") {
            Ok(text) => KnownServers::parse(&text, &path.display().to_string()),
            Err(error) if error.class() == Class::NoInput => Ok(KnownServers::default()),
            Err(error) => Err(error),
        }
    }

    /// Parses it; `name` is for messages.
    pub fn parse(text: &str, name: &str) -> Result<KnownServers> {
        let mut servers = Vec::new();
        for (number, line) in lines(text) {
            let (hosts, key) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let key = key.trim().splitn(3, char::is_whitespace).take(2).collect::<Vec<_>>().join(" ");
            let key = key.parse().map_err(|_| {
                Error::config(format!("line {number} is not `HOST:PORT {KEY_TYPE} BASE64`")).in_file(name)
            })?;
            servers.push((hosts.split(',').map(str::to_ascii_lowercase).collect(), key));
        }
        Ok(KnownServers { servers })
    }

    /// The keys under which a server (`HOST:PORT`) is known.
    pub fn keys(&self, server: &str) -> Vec<PublicKey> {
        let server = server.to_ascii_lowercase();
        self.servers.iter().filter(|(hosts, _)| hosts.contains(&server)).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ship.key");
        let pair = key();
        pair.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(KeyPair::load(&path).unwrap().public(), pair.public());
        assert_eq!(pair.public().to_string().parse::<PublicKey>().unwrap(), pair.public());
        assert_eq!(PublicKey::from_spki(&pair.public().to_spki()), Some(pair.public()));
        assert_eq!(pair.save(&path).unwrap_err().class(), Class::CannotCreate);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(KeyPair::load(&path).unwrap_err().class(), Class::Permission);
        assert!(!format!("{pair:?}").contains(&BASE64.encode(&pair.pkcs8[16..])));
    }

    #[test]
    fn options_narrow_and_unknown_ones_are_refused() {
        let key = key().public();
        let text = format!("# who\n\n{key} db1 of the shop\n",);
        let all = AuthorizedKeys::parse(&text, "f").unwrap();
        let grant = all.grant(&key).unwrap();
        assert!(grant.allows(Verb::Put, "x") && grant.allows(Verb::Get, "y"));
        assert_eq!(grant.comment, "db1 of the shop");
        let text = format!(
            "channels=\"orders, Shop\",verbs=\"push\",expires=\"2027-01-31\",connections=2,rate-limit=\"1M\",space-limit=10G {key} c\n"
        );
        let some = AuthorizedKeys::parse(&text, "f").unwrap();
        let grant = some.grant(&key).unwrap();
        assert!(grant.allows(Verb::Put, "shop") && !grant.allows(Verb::Get, "shop") && !grant.allows(Verb::Put, "x"));
        assert!(grant.is_expired(i64::MAX) && !grant.is_expired(0));
        assert_eq!((grant.connections, grant.rate_limit, grant.space_limit), (Some(2), Some(1 << 20), Some(10 << 30)));
        for wrong in [
            format!("verbs=\"rm\" {key}"),
            format!("command=\"x\" {key}"),
            format!("channels=\"../x\" {key}"),
            format!("channels=\"x {key}"),
            "rlog-ed25519 AAAA".to_owned(),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA".to_owned(),
            format!("{key}\n{key}"),
        ] {
            let error = AuthorizedKeys::parse(&wrong, "f").unwrap_err();
            assert_eq!(error.class(), Class::Config, "{wrong}");
        }
        // A list without channels or verbs lets nobody do anything.
        let none = AuthorizedKeys::parse(&format!("channels=\"\" {key}"), "f").unwrap();
        assert!(!none.grant(&key).unwrap().allows(Verb::Put, "default"));
    }

    #[test]
    fn a_server_is_known_by_host_and_port() {
        let (a, b) = (key().public(), key().public());
        let known = KnownServers::parse(&format!("backup:7707,10.0.0.1:7707 {a} old\nBackup:7708 {b}\n"), "f").unwrap();
        assert_eq!(known.keys("BACKUP:7707"), [a]);
        assert_eq!(known.keys("backup:7708"), [b]);
        assert!(known.keys("backup:1").is_empty());
        assert_eq!(KnownServers::parse("backup", "f").unwrap_err().class(), Class::Config);
    }
}
