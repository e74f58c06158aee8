//! `nats://[USER@]HOST[:PORT][,HOST[:PORT]…]/STREAM[?OPTION=VALUE&…]`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where a stream is, and how to get there. Secrets are in files, whose names stand here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsAddress {
    /// As the user gave it.
    pub text: String,
    /// `HOST:PORT`, one or several of one cluster.
    pub hosts: Vec<String>,
    /// Name of the stream.
    pub stream: String,
    /// A user, whose password stands in `password_file`.
    pub user: Option<String>,
    /// See `user`.
    pub password_file: Option<PathBuf>,
    /// A token.
    pub token_file: Option<PathBuf>,
    /// An nkey's seed.
    pub nkey_file: Option<PathBuf>,
    /// A credentials file (JWT and seed).
    pub creds_file: Option<PathBuf>,
    /// Certificates that are trusted besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// The client's certificate.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// How TLS is used.
    pub tls: Tls,
    /// Copies that a stream is created with.
    pub replicas: usize,
    /// Whether a stream is created in memory.
    pub memory: bool,
    /// Bytes that a stream is created with at most.
    pub max_bytes: Option<i64>,
    /// How long a server may be away before 75.
    pub timeout: Duration,
    /// Port of the servers' monitoring, for `--check`.
    pub monitor: Option<u16>,
}

/// How TLS is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// As the server asks for.
    #[default]
    Auto,
    /// A server without it is refused.
    Required,
    /// From the first byte on.
    First,
}

const HINT: &str = "QUEUE on JetStream is nats://HOST[:PORT][,HOST…]/STREAM, see rlog-queue(1)";

fn wrong(what: impl Into<String>) -> Error {
    Error::usage(what).hint(HINT)
}

impl FromStr for NatsAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<NatsAddress> {
        let rest = text.strip_prefix("nats://").ok_or_else(|| wrong("a JetStream queue begins with nats://"))?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, stream) = rest.split_once('/').ok_or_else(|| wrong("no stream is named"))?;
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(wrong("a password does not belong on a command line")
                .hint("?password-file=FILE names a file that has it"));
        }
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if stream.is_empty() || stream.len() > 63 || !stream.bytes().all(name) {
            return Err(
                wrong(format!("{stream:?} is no name for a stream")).hint("use 1 to 63 letters, digits, `_` or `-`")
            );
        }
        let hosts: Vec<String> = hosts.split(',').map(with_port).collect::<Result<_>>()?;
        let mut out = NatsAddress {
            text: text.to_owned(),
            hosts,
            stream: stream.to_owned(),
            user: user.map(str::to_owned),
            password_file: None,
            token_file: None,
            nkey_file: None,
            creds_file: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            tls: Tls::Auto,
            replicas: 1,
            memory: false,
            max_bytes: None,
            timeout: Duration::from_secs(30),
            monitor: None,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            out.option(option)?;
        }
        if out.tls_cert.is_some() != out.tls_key.is_some() {
            return Err(wrong("tls-cert and tls-key go together"));
        }
        if out.user.is_some() && out.password_file.is_none() {
            return Err(wrong("a user needs ?password-file=FILE"));
        }
        Ok(out)
    }
}

impl NatsAddress {
    fn option(&mut self, option: &str) -> Result<()> {
        let (key, value) = option.split_once('=').ok_or_else(|| wrong(format!("{option:?} is not OPTION=VALUE")))?;
        let invalid = || wrong(format!("{value:?} is no value for {key}"));
        let path = || if value.is_empty() { Err(invalid()) } else { Ok(Some(PathBuf::from(value))) };
        match key {
            "replicas" => self.replicas = value.parse().ok().filter(|n| (1..=5).contains(n)).ok_or_else(invalid)?,
            "storage" => {
                self.memory = match value {
                    "file" => false,
                    "memory" => true,
                    _ => return Err(invalid()),
                }
            }
            "max-bytes" => self.max_bytes = Some(value.parse().ok().filter(|n| *n > 0).ok_or_else(invalid)?),
            "timeout" => {
                let seconds: u64 = value.trim_end_matches('s').parse().map_err(|_| invalid())?;
                self.timeout = Duration::from_secs(seconds);
            }
            "monitor" => self.monitor = Some(value.parse().map_err(|_| invalid())?),
            "password-file" => self.password_file = path()?,
            "token-file" => self.token_file = path()?,
            "nkey" => self.nkey_file = path()?,
            "creds" => self.creds_file = path()?,
            "tls-ca" => self.tls_ca = path()?,
            "tls-cert" => self.tls_cert = path()?,
            "tls-key" => self.tls_key = path()?,
            "tls" => {
                self.tls = match value {
                    "auto" => Tls::Auto,
                    "required" => Tls::Required,
                    "first" => Tls::First,
                    _ => return Err(invalid()),
                }
            }
            "password" | "pass" | "token" | "seed" => {
                return Err(wrong("a secret does not belong on a command line")
                    .hint("password-file=, token-file=, nkey= and creds= name files"));
            }
            _ => return Err(wrong(format!("{key:?} is not an option of a JetStream queue"))),
        }
        Ok(())
    }
}

fn with_port(host: &str) -> Result<String> {
    let bare = host.strip_prefix('[').map_or(host, |_| "");
    if host.is_empty() || host.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
        return Err(wrong("a host is empty or invalid"));
    }
    match bare.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(host.to_owned()),
        Some(_) => Err(wrong(format!("{host:?} is not HOST[:PORT]"))),
        None if host.starts_with('[') && !host.ends_with(']') => Ok(host.to_owned()),
        None => Ok(format!("{host}:4222")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_hosts_stream_and_options() {
        let address: NatsAddress = "nats://a,b:5000,[::1]/RLOG?replicas=3&storage=file&timeout=5s".parse().unwrap();
        assert_eq!(address.hosts, ["a:4222", "b:5000", "[::1]:4222"]);
        assert_eq!((address.stream.as_str(), address.replicas, address.memory), ("RLOG", 3, false));
        assert_eq!(address.timeout, Duration::from_secs(5));
    }

    #[test]
    fn what_is_not_an_address_is_refused_and_secrets_most_of_all() {
        for wrong in [
            "nats://a",
            "nats://a/",
            "nats:///S",
            "nats://a/S.T",
            "nats://a/S?x=1",
            "nats://a/S?replicas=9",
            "nats://u:p@a/S",
            "nats://a/S?password=x",
            "nats://a/S?token=x",
            "nats://u@a/S",
            "nats://a:b/S",
            "nats://a/S?tls-cert=x",
        ] {
            assert!(wrong.parse::<NatsAddress>().is_err(), "{wrong}");
        }
    }
}
