//! Where the other side is: `tls://HOST[:PORT][/CHANNEL]`, `ssh://[USER@]HOST[:PORT][/QUEUE]`, `exec:PROGRAM ARGUMENTS`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The port of `rlog-ship serve`, unless another is named.
pub const DEFAULT_PORT: u16 = 7707;

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Tls {
        /// Name or number.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The pipes of a program: ssh, or any other.
    Command(Vec<String>),
}

/// An address as a user gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// How it is reached.
    pub transport: Transport,
    /// The channel over there, if the address names one.
    pub channel: Option<String>,
    text: String,
}

impl Address {
    /// `HOST:PORT`, as the known servers name it.
    pub fn server(&self) -> String {
        match &self.transport {
            Transport::Tls { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Transport::Tls { host, port } => format!("{host}:{port}"),
            Transport::Command(_) => self.text.clone(),
        }
    }

    /// Whether TLS protects it, with our keys.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls { .. })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        let wrong = |what: &str| {
            Error::usage(format!("`{text}` {what}"))
                .hint("addresses are tls://HOST:PORT, ssh://USER@HOST/QUEUE, or exec:PROGRAM ARGUMENTS")
        };
        let text = text.trim_end_matches('/');
        if let Some(rest) = text.strip_prefix("tls://") {
            let (server, channel) = match rest.split_once('/') {
                Some((server, channel)) => (server, Some(channel.to_owned())),
                None => (rest, None),
            };
            if server.contains('@') {
                return Err(wrong("names a user: who comes is told by the key alone"));
            }
            let (host, port) = host_port(server).ok_or_else(|| wrong("names no host and port"))?;
            let transport = Transport::Tls { host, port: port.unwrap_or(DEFAULT_PORT) };
            return Ok(Address { transport, channel, text: text.to_owned() });
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            let (server, path) = match rest.split_once('/') {
                Some((server, path)) => (server, Some(path)),
                None => (rest, None),
            };
            let (user, server) = match server.rsplit_once('@') {
                Some((user, server)) => (Some(user), server),
                None => (None, server),
            };
            let (host, port) = host_port(server).ok_or_else(|| wrong("names no host"))?;
            // ssh would take them for options.
            if host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
                return Err(wrong("names no host"));
            }
            let mut words: Vec<String> = ["ssh", "-T", "-oBatchMode=yes"].map(str::to_owned).into();
            if let Some(port) = port {
                words.push(format!("-p{port}"));
            }
            words.push("--".to_owned());
            words.push(user.map_or(host.clone(), |user| format!("{user}@{host}")));
            // A forced command over there takes its place.
            words.extend(["rlog-ship", "serve", "--stdio"].map(str::to_owned));
            if let Some(path) = path {
                // The shell over there reads it.
                words.push(quoted(path.strip_prefix("~/").map_or(format!("/{path}"), str::to_owned).as_str()));
            }
            return Ok(Address { transport: Transport::Command(words), channel: None, text: text.to_owned() });
        }
        if let Some(rest) = text.strip_prefix("exec:") {
            let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                return Err(wrong("names no program"));
            }
            return Ok(Address { transport: Transport::Command(words), channel: None, text: text.to_owned() });
        }
        Err(wrong("is no address"))
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
pub fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return (!host.is_empty()).then(|| (host.to_owned(), port));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let plain = !host.is_empty() && !host.contains(':') && !host.contains(char::is_whitespace);
    plain.then(|| (host.to_owned(), port))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn what_people_write_is_understood() {
        assert_eq!(parse("tls://backup:7707").server(), "backup:7707");
        assert_eq!(parse("tls://backup/orders").channel.as_deref(), Some("orders"));
        assert_eq!(parse("tls://[::1]:9").server(), "[::1]:9");
        let Transport::Command(words) = parse("ssh://me@backup:22/srv/it's").transport else { panic!() };
        assert_eq!(words.join(" "), r"ssh -T -oBatchMode=yes -p22 -- me@backup rlog-ship serve --stdio '/srv/it'\''s'");
        let Transport::Command(words) = parse("exec:rlog-ship serve --stdio q").transport else { panic!() };
        assert_eq!(words.len(), 4);
        for wrong in [
            "",
            "backup",
            "tcp://x:1",
            "tls://",
            "tls://a:b",
            "tls://u@h:1",
            "ssh://-oProxyCommand=x",
            "exec:",
            "tls://::1:9",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }
}
