//! my.cnf files: the groups `[client]` and `[rlog]` (later ones win), as every client of these servers reads them.
//!
//! A file that holds a password and that others may read is refused (77), as is one that everyone may write. The check is made
//! on the opened file, so that what was checked is what is read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::url::SslMode;
use crate::error::{Class, Error, Result};

/// Largest defaults file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How deep `!include` may nest; a file that includes itself ends here.
const INCLUDE_DEPTH_MAX: usize = 10;
/// Groups that are read, in any order of the file; a value in a later line wins.
const GROUPS: &[&str] = &["client", "client-server", "rlog"];

/// What the files say. Options that are not listed here are for other programs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Account.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Unix socket.
    pub socket: Option<PathBuf>,
    /// How much TLS.
    pub ssl_mode: Option<SslMode>,
    /// Authorities to trust (PEM).
    pub ssl_ca: Option<PathBuf>,
    /// Own certificate (PEM).
    pub ssl_cert: Option<PathBuf>,
    /// Its key (PEM).
    pub ssl_key: Option<PathBuf>,
    /// Seconds to wait for a connection.
    pub connect_timeout_s: Option<u64>,
}

impl std::fmt::Debug for Defaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Defaults")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Defaults {
    /// Reads `file`, which must exist.
    pub fn read(file: &Path) -> Result<Defaults> {
        let mut out = Defaults::default();
        out.read_file(file, 0)?;
        Ok(out)
    }

    /// Reads the files that the servers' own clients read, those of them that exist.
    pub fn usual(home: Option<&Path>) -> Result<Defaults> {
        let mut out = Defaults::default();
        let mut files = vec![PathBuf::from("/etc/my.cnf"), PathBuf::from("/etc/mysql/my.cnf")];
        files.extend(home.map(|home| home.join(".my.cnf")));
        for file in files {
            match out.read_file(&file, 0) {
                Ok(()) => {}
                Err(error) if error.class() == Class::NoInput => {}
                // System-wide files may well be closed to us; then they are not meant for us.
                Err(error) if error.class() == Class::Permission && error.hint_text().is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn read_file(&mut self, path: &Path, depth: usize) -> Result<()> {
        let name = || path.display().to_string();
        let mut file = File::open(path).map_err(|error| Error::io(name(), error))?;
        let meta = file.metadata().map_err(|error| Error::io(name(), error))?;
        if !meta.is_file() {
            return Err(Error::config("not a plain file").in_file(name()));
        }
        if meta.mode() & 0o002 != 0 {
            return Err(Error::new(Class::Permission, "everyone may write this file, so it is not believed")
                .in_file(name())
                .hint(format!("chmod 600 {}", name())));
        }
        let mut text = Vec::new();
        file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| Error::io(name(), error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(Error::config(format!("longer than {FILE_BYTES_MAX} bytes")).in_file(name()));
        }
        let text = String::from_utf8_lossy(&text);
        let mut ours = false;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let line_at = at;
            at += line.len() as u64;
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('!') {
                self.include(rest, path, depth).map_err(|error| error.in_file(name()))?;
                ours = false;
                continue;
            }
            if let Some(group) = line.strip_prefix('[') {
                let group = group.split(']').next().unwrap_or("");
                ours = GROUPS.contains(&group);
                continue;
            }
            if !ours {
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key.trim(), Some(unquote(value))),
                None => (line, None),
            };
            let key = key.to_ascii_lowercase().replace('_', "-");
            if key == "password" && value.as_ref().is_some_and(|value| !value.is_empty()) && meta.mode() & 0o077 != 0 {
                return Err(Error::new(Class::Permission, "it holds a password, and others may read it")
                    .in_file(name())
                    .hint(format!("chmod 600 {}", name())));
            }
            self.set(&key, value).map_err(|what| Error::config(what).in_file(name()).at(line_at))?;
        }
        Ok(())
    }

    fn include(&mut self, directive: &str, from: &Path, depth: usize) -> Result<()> {
        if depth >= INCLUDE_DEPTH_MAX {
            return Err(Error::config("files include each other without end"));
        }
        let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        let path = from.parent().unwrap_or(Path::new("")).join(rest.trim());
        match word {
            "include" => self.read_file(&path, depth + 1),
            "includedir" => {
                let name = path.display().to_string();
                let entries = std::fs::read_dir(&path).map_err(|error| Error::io(name.clone(), error))?;
                let mut files = Vec::new();
                for entry in entries {
                    let file = entry.map_err(|error| Error::io(name.clone(), error))?.path();
                    if file.extension().is_some_and(|extension| extension == "cnf") {
                        files.push(file);
                    }
                }
                files.sort();
                for file in files {
                    match self.read_file(&file, depth + 1) {
                        // As above: a file of the server alone.
                        Err(error) if error.class() == Class::Permission && error.hint_text().is_none() => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            _ => Err(Error::config(format!("directive !{word} is not known"))),
        }
    }

    fn set(&mut self, key: &str, value: Option<String>) -> Result<(), String> {
        let path = |value: &Option<String>| value.as_ref().filter(|v| !v.is_empty()).map(PathBuf::from);
        let number = |value: &Option<String>| {
            let text = value.as_deref().unwrap_or("");
            text.parse::<u64>().map_err(|_| format!("{key} is no number"))
        };
        match key {
            "user" => self.user = value,
            "password" => self.password = value,
            "host" => self.host = value,
            "port" => self.port = Some(u16::try_from(number(&value)?).map_err(|_| "port is out of range".to_owned())?),
            "socket" => self.socket = path(&value),
            "ssl-ca" => self.ssl_ca = path(&value),
            "ssl-cert" => self.ssl_cert = path(&value),
            "ssl-key" => self.ssl_key = path(&value),
            "connect-timeout" => self.connect_timeout_s = Some(number(&value)?),
            "ssl-mode" => {
                let text = value.as_deref().unwrap_or("");
                self.ssl_mode = Some(SslMode::parse(text).ok_or_else(|| format!("ssl-mode {text:?} is not known"))?);
            }
            // MariaDB's older notation.
            "ssl" => self.ssl_mode = Some(if is_off(&value) { SslMode::Disabled } else { SslMode::Required }),
            "skip-ssl" | "disable-ssl" => self.ssl_mode = Some(SslMode::Disabled),
            "ssl-verify-server-cert" if !is_off(&value) => self.ssl_mode = Some(SslMode::VerifyIdentity),
            _ => {}
        }
        Ok(())
    }
}

fn is_off(value: &Option<String>) -> bool {
    matches!(value.as_deref().map(str::to_ascii_lowercase).as_deref(), Some("0" | "off" | "false"))
}

/// The value of a line: a comment behind ` #` cut off, quotes removed, `\n`, `\t`, `\b`, `\r`, `\s` and `\\` resolved.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let inner = match text.as_bytes() {
        [quote @ (b'\'' | b'"'), .., last] if quote == last => text.get(1..text.len() - 1).unwrap_or(""),
        _ => match text.find(" #") {
            Some(at) => text.get(..at).unwrap_or(text).trim_end(),
            None => text,
        },
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('s') => out.push(' '),
            Some('\\') => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(dir: &tempfile::TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn groups_of_ours_are_read_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        file(&dir, "more.cnf", "[rlog]\nport = 3310\n", 0o644);
        let path = file(
            &dir,
            "my.cnf",
            "# hi\n[mysqld]\nuser=mysql\nport=1\n[client]\nuser = me\npassword='a#b\\s\\\\'\nssl_mode=REQUIRED\n\
             no-auto-rehash\n!include more.cnf\nport=9\n[mysql]\npassword=no\n",
            0o600,
        );
        let defaults = Defaults::read(&path).unwrap();
        assert_eq!(defaults.user.as_deref(), Some("me"));
        assert_eq!(defaults.password.as_deref(), Some("a#b \\"));
        assert_eq!(defaults.port, Some(3310));
        assert_eq!(defaults.ssl_mode, Some(SslMode::Required));
        assert!(!format!("{defaults:?}").contains("a#b"));
    }

    #[test]
    fn a_password_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o644] {
            let path = file(&dir, "open.cnf", "[client]\npassword=x\n", mode);
            let error = Defaults::read(&path).unwrap_err();
            assert_eq!(error.class(), Class::Permission);
            assert!(error.hint_text().unwrap().contains("chmod 600"));
        }
        assert!(Defaults::read(&file(&dir, "open.cnf", "[client]\nuser=x\n", 0o644)).is_ok(), "no secret in it");
        assert!(
            Defaults::read(&file(&dir, "w.cnf", "[client]\nuser=x\n", 0o666)).is_err(),
            "anyone may have written it"
        );
    }

    #[test]
    fn a_file_that_includes_itself_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "a.cnf", "!include a.cnf\n", 0o600);
        assert_eq!(Defaults::read(&path).unwrap_err().class(), Class::Config);
    }
}
