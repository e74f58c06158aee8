//! `mysql://USER@HOST[:PORT][/DB][?socket=PATH&ssl-mode=…&ssl-ca=FILE&ssl-cert=FILE&ssl-key=FILE&defaults-file=FILE]`.
//!
//! A password has no place here: command lines are public on a machine (`/proc/*/cmdline`). It comes from a my.cnf file
//! ([`super::defaults`]) or from `MYSQL_PWD`. A URL with one is refused, and every message about it is redacted.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// How much TLS, weakest first; the names are those of the `mysql` client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SslMode {
    /// None.
    Disabled,
    /// If the server has it. Nobody's identity is checked.
    Preferred,
    /// TLS or nothing. Nobody's identity is checked.
    Required,
    /// The server's certificate must be signed by a known authority.
    VerifyCa,
    /// And be made out for the host that was asked for.
    VerifyIdentity,
}

impl SslMode {
    /// From the client's notation; case, `-` and `_` do not matter.
    pub fn parse(text: &str) -> Option<SslMode> {
        Some(match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "disabled" => SslMode::Disabled,
            "preferred" => SslMode::Preferred,
            "required" => SslMode::Required,
            "verify-ca" => SslMode::VerifyCa,
            "verify-identity" => SslMode::VerifyIdentity,
            _ => return None,
        })
    }
}

/// A server as named on a command line. What is not given is `None` and may come from a defaults file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerUrl {
    /// Account.
    pub user: Option<String>,
    /// Host name or address, without the brackets of an IPv6 address.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Default database.
    pub database: Option<String>,
    /// Unix socket; with it, host and port do not matter.
    pub socket: Option<PathBuf>,
    /// How much TLS.
    pub ssl_mode: Option<SslMode>,
    /// PEM file of the authorities to trust.
    pub ssl_ca: Option<PathBuf>,
    /// PEM file of our own certificate.
    pub ssl_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub ssl_key: Option<PathBuf>,
    /// my.cnf file to read instead of the usual ones; empty: none at all.
    pub defaults_file: Option<PathBuf>,
}

/// Query keys, for the message about a wrong one.
const KEYS: &str = "socket, ssl-mode, ssl-ca, ssl-cert, ssl-key, defaults-file";

impl ServerUrl {
    /// Whether `text` is meant as such a URL.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("mysql://") || text.starts_with("mariadb://")
    }

    /// Reads a URL. Errors are of class usage (64) and never repeat a password.
    pub fn parse(text: &str) -> Result<ServerUrl> {
        let wrong = |what: &str| Error::usage(format!("{}: {what}", redact(text)));
        let rest = text
            .strip_prefix("mysql://")
            .or_else(|| text.strip_prefix("mariadb://"))
            .ok_or_else(|| wrong("not a server (expected mysql://USER@HOST[:PORT][/DB])"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut out = ServerUrl::default();
        let decode = |text: &str| percent_decode(text).ok_or_else(|| wrong("a %-escape in it is invalid"));
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                if user.contains(':') {
                    return Err(wrong("a password in a URL is seen by everyone on this machine").hint(
                        "put it into a file that only you can read and name that: \
                         mysql://USER@HOST/DB?defaults-file=FILE, where FILE holds the lines [client] and password=…",
                    ));
                }
                out.user = Some(decode(user)?).filter(|user| !user.is_empty());
                host
            }
            None => authority,
        };
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if rest.is_empty() => (address, None),
                    None => return Err(wrong("what follows the address is not a port")),
                }
            }
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        out.host = Some(decode(host)?).filter(|host| !host.is_empty());
        if let Some(port) = port {
            out.port = Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port is no number"))?);
        }
        out.database = Some(decode(path)?).filter(|database| !database.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("an option without a value"))?;
            let value = decode(value)?;
            let path = || Some(PathBuf::from(&value));
            match key.replace('_', "-").as_str() {
                "socket" => out.socket = path(),
                "ssl-mode" => {
                    out.ssl_mode = Some(SslMode::parse(&value).ok_or_else(|| {
                        wrong("ssl-mode is one of disabled, preferred, required, verify-ca, verify-identity")
                    })?)
                }
                "ssl-ca" => out.ssl_ca = path(),
                "ssl-cert" => out.ssl_cert = path(),
                "ssl-key" => out.ssl_key = path(),
                "defaults-file" => out.defaults_file = path(),
                "password" | "pass" => {
                    return Err(wrong("a password in a URL is seen by everyone on this machine")
                        .hint("put it into a file that only you can read: ?defaults-file=FILE"));
                }
                other => return Err(wrong(&format!("option {other:?} is not known (known: {KEYS})"))),
            }
        }
        let texts = [&out.user, &out.host, &out.database];
        if texts.iter().any(|text| text.as_ref().is_some_and(|text| text.contains('\0'))) {
            return Err(wrong("it holds a zero byte"));
        }
        Ok(out)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mysql://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", user.escape_debug())?;
        }
        let host = self.host.as_deref().unwrap_or("localhost");
        if host.contains(':') {
            write!(f, "[{host}]")?
        } else {
            write!(f, "{}", host.escape_debug())?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(database) = &self.database {
            write!(f, "/{}", database.escape_debug())?;
        }
        if let Some(socket) = &self.socket {
            write!(f, "?socket={}", socket.display())?;
        }
        Ok(())
    }
}

/// The text with everything that could be a password replaced by `***`: what stands between the first `:` behind
/// `//` and the last `@` before the path, and the values of keys that sound like secrets.
pub fn redact(text: &str) -> String {
    let (head, query) = match text.split_once('?') {
        Some((head, query)) => (head, Some(query)),
        None => (text, None),
    };
    let mut out = String::with_capacity(text.len());
    match head.split_once("//") {
        Some((scheme, rest)) => {
            out.push_str(scheme);
            out.push_str("//");
            // A password may hold a slash or another @ in clear: everything up to the last @ is suspect.
            match rest.rsplit_once('@') {
                Some((account, host)) => {
                    out.push_str(account.split(':').next().unwrap_or(""));
                    if account.contains(':') {
                        out.push_str(":***");
                    }
                    out.push('@');
                    out.push_str(host);
                }
                None => out.push_str(rest),
            }
        }
        None => out.push_str(head),
    }
    if let Some(query) = query {
        for (number, pair) in query.split('&').enumerate() {
            out.push(if number == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((key, _)) if key.to_ascii_lowercase().contains("pass") => {
                    out.push_str(key);
                    out.push_str("=***");
                }
                _ => out.push_str(pair),
            }
        }
    }
    out.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn every_part_of_a_url_is_read() {
        let url = ServerUrl::parse(
            "mysql://re%40pl@[::1]:3307/shop?socket=/run/a.sock&ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca.pem&defaults-file=/x",
        )
        .unwrap();
        assert_eq!(url.user.as_deref(), Some("re@pl"));
        assert_eq!((url.host.as_deref(), url.port), (Some("::1"), Some(3307)));
        assert_eq!(url.database.as_deref(), Some("shop"));
        assert_eq!(url.socket, Some("/run/a.sock".into()));
        assert_eq!(url.ssl_mode, Some(SslMode::VerifyIdentity));
        assert_eq!(url.ssl_ca, Some("/ca.pem".into()));
        assert_eq!(ServerUrl::parse("mysql://db1").unwrap().host.as_deref(), Some("db1"));
        assert_eq!(ServerUrl::parse("mysql:///?socket=/s").unwrap().host, None);
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in [
            "mysql://me:canary@db1/shop",
            "mysql://me:can%61ry@db1",
            "mysql://db1/?password=canary",
            "mysql://me:cana/ry@canary@db1/x",
            "mysql://me:canary@db1:port",
        ] {
            let error = ServerUrl::parse(text).unwrap_err();
            assert_eq!(error.class(), Class::Usage, "{text}");
            let told = format!("{error} {:?}", error.hint_text());
            assert!(!told.contains("canary") && !told.contains("can%61ry") && !told.contains("cana/"), "{told}");
        }
        assert!(ServerUrl::parse("mysql://me:x@h").unwrap_err().hint_text().unwrap().contains("defaults-file"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in
            ["mysql://h:0", "mysql://h:x", "mysql://[::1", "mysql://h/%zz", "mysql://h/?a=b", "mysql://h/%00", "my"]
        {
            assert_eq!(ServerUrl::parse(text).unwrap_err().class(), Class::Usage, "{text}");
        }
    }
}
