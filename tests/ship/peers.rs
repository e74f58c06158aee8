//! Who may come in, and what those can do who may not, or who mean harm.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use predicates::str::contains;
use rlog::ship::keys::{KeyPair, PublicKey};
use rlog::ship::tls;
use rlog::ship::wire::{self, Decoder, Hello, Message, Verb};

use crate::common::rlog;
use crate::hosts::{Hosts, Server, key_of, keygen, stream};

/// A client that says what it likes.
struct Raw {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    decoder: Decoder,
}

fn load(path: &Path) -> KeyPair {
    KeyPair::load(path).unwrap()
}

impl Raw {
    fn connect(config: Arc<rustls::ClientConfig>, port: u16) -> Raw {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let name = rustls::pki_types::ServerName::try_from("x").unwrap();
        let connection = rustls::ClientConnection::new(config, name).unwrap();
        let mut decoder = Decoder::new();
        decoder.allow_data();
        Raw { stream: rustls::StreamOwned::new(connection, socket), decoder }
    }

    fn authorized(hosts: &Hosts, server: &Server) -> Raw {
        let known: PublicKey = key_of(&hosts.server_line).parse().unwrap();
        Raw::connect(tls::client_config(&load(&hosts.path("client.key")), vec![known]).unwrap(), server.port)
    }

    fn send(&mut self, bytes: &[u8]) {
        // It may have hung up already.
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    fn hello(&mut self, verb: Verb, channel: &str) {
        let hello = Hello {
            versions: (1, 1),
            verb,
            channel: channel.into(),
            net_timeout_ms: 60_000,
            credit: 1 << 20,
            ..Hello::default()
        };
        self.send(&Message::Hello(Box::new(hello)).encode());
    }

    /// The next message but heartbeats; `None` when the server has hung up.
    fn next(&mut self) -> Option<Message> {
        loop {
            match self.decoder.next().unwrap() {
                Some(Message::Heartbeat) => continue,
                Some(message) => return Some(message),
                None => {}
            }
            match self.stream.read(self.decoder.room()) {
                Ok(count @ 1..) => self.decoder.filled(count),
                _ => return None,
            }
        }
    }

    /// Bytes in the clear until the server hangs up.
    fn rest(&mut self) -> usize {
        let mut out = Vec::new();
        let _ = self.stream.read_to_end(&mut out);
        out.len()
    }

    /// The status with which the server refuses.
    fn refused(&mut self) -> Option<u8> {
        while let Some(message) = self.next() {
            if let Message::Refuse(refusal) = message {
                return Some(refusal.status);
            }
        }
        None
    }
}

/// What no key at all looks like, and a server that is anybody.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn nobody() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"rlog-ship/1".to_vec()];
    Arc::new(config)
}

#[test]
fn no_expired_wrong_and_unlisted_identities_get_not_a_byte() {
    let hosts = Hosts::new();
    let expired = keygen(&hosts.path("expired.key"), "expired");
    keygen(&hosts.path("unlisted.key"), "unlisted");
    hosts.authorize(&format!("{}\nexpires=\"2020-01-01\" {expired}", hosts.client_line));
    let (bytes, _) = stream([100]);
    hosts.fill("far", &bytes);
    let server = hosts.serve(&[]);
    let known: PublicKey = key_of(&hosts.server_line).parse().unwrap();
    for verb in [Verb::Put, Verb::Get] {
        for who in ["nobody", "expired.key", "unlisted.key"] {
            let config = match who {
                "nobody" => nobody(),
                file => tls::client_config(&load(&hosts.path(file)), vec![known]).unwrap(),
            };
            let mut raw = Raw::connect(config, server.port);
            raw.hello(verb, "default");
            assert_eq!(raw.rest(), 0, "{who} {verb:?}");
        }
    }
    // TLS without raw keys, and no TLS at all.
    let port = server.port.to_string();
    for script in [
        "openssl s_client -quiet -connect 127.0.0.1:$1 </dev/null",
        "exec 3<>/dev/tcp/127.0.0.1/$1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
    ] {
        let output = crate::common::shell(script).arg(&port).timeout(Duration::from_secs(30)).output().unwrap();
        // An alert of TLS may come, nothing of ours.
        assert!(output.stdout.len() < 16, "{output:?}");
    }
    // The programs say what to do, and end with 77.
    for file in ["expired.key", "unlisted.key"] {
        for verb in [["push", "--to"], ["pull", "--from"]] {
            let mut command = rlog("rlog-ship");
            command.args(verb).arg(format!("tls://127.0.0.1:{port}")).arg("--key").arg(hosts.path(file));
            command.args(["--server-key", &key_of(&hosts.server_line)]).arg(hosts.path("near"));
            hosts.fill("near", &bytes);
            let line = format!("{}", load(&hosts.path(file)).public());
            command.assert().code(77).stderr(contains("does not let this key in").and(contains(line)));
        }
    }
    assert_eq!(hosts.held("far").len(), 1);
}

use predicates::prelude::PredicateBooleanExt as _;

#[test]
fn a_server_that_is_not_the_known_one_hears_nothing() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let other = keygen(&hosts.path("other.key"), "other");
    let (bytes, _) = stream([100]);
    let address = format!("tls://127.0.0.1:{}", server.port);
    let push = |known: &str| {
        std::fs::write(hosts.path("known"), known).unwrap();
        let mut command = rlog("rlog-ship");
        command.args(["push", "--to", &address, "--key"]).arg(hosts.path("client.key"));
        command.arg("--known-servers").arg(hosts.path("known")).write_stdin(&bytes[..]);
        command
    };
    let line = format!("127.0.0.1:{} {}", server.port, key_of(&hosts.server_line));
    push("").assert().code(77).stderr(contains("not known").and(contains(&line)));
    let wrong = format!("127.0.0.1:{} {other}\n", server.port);
    push(&wrong).assert().code(77).stderr(contains("another key").and(contains(&line)));
    assert!(!hosts.path("far").exists());
    push(&line).assert().success();
}

#[test]
fn a_key_does_what_its_line_says_and_no_more() {
    let hosts = Hosts::new();
    hosts.authorize(&format!("channels=\"shop\",verbs=\"push\" {}", hosts.client_line));
    let server = hosts.serve(&[]);
    let (bytes, _) = stream([100]);
    hosts.push(server.port).args(["--channel", "shop"]).write_stdin(&bytes[..]).assert().success();
    hosts.push(server.port).args(["--channel", "other"]).write_stdin(&bytes[..]).assert().code(77);
    hosts.pull(server.port).args(["--channel", "shop", "-"]).assert().code(77);
    // What stands in the file counts from SIGHUP on, also for who is connected.
    let mut raw = Raw::authorized(&hosts, &server);
    raw.hello(Verb::Put, "shop");
    assert!(matches!(raw.next(), Some(Message::Welcome(_))));
    hosts.authorize("# nobody");
    server.signal(rustix::process::Signal::HUP);
    assert_eq!(raw.next(), None);
    hosts.push(server.port).args(["--channel", "shop"]).write_stdin(&bytes[..]).assert().code(77);
    // A list with an error changes nothing.
    hosts.authorize("rlog-ed25519 nonsense");
    server.signal(rustix::process::Signal::HUP);
    hosts.push(server.port).args(["--channel", "shop"]).write_stdin(&bytes[..]).assert().code(77);
}

#[test]
fn secrets_that_others_may_read_are_refused_and_none_is_shown() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let secret = std::fs::read_to_string(hosts.path("client.key")).unwrap();
    let secret = secret.lines().nth(1).unwrap()[24..].to_owned();
    let (bytes, _) = stream([100]);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(hosts.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for bad in [0o604, 0o640, 0o660] {
        mode("client.key", bad);
        let output = hosts.push(server.port).write_stdin(&bytes[..]).output().unwrap();
        assert_eq!(output.status.code(), Some(77));
        assert!(String::from_utf8_lossy(&output.stderr).contains("chmod go-rwx"), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&secret));
    }
    mode("client.key", 0o600);
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.child.id())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(&secret) && !server.log().contains(&secret));
    drop(server);
    mode("authorized_keys", 0o666);
    let mut serve = rlog("rlog-ship");
    serve.args(["serve", "--listen", "127.0.0.1:0", "--key"]).arg(hosts.path("server.key"));
    serve.arg("--authorized-keys").arg(hosts.path("authorized_keys")).arg(hosts.path("far"));
    serve.timeout(Duration::from_secs(30)).assert().code(77).stderr(contains("chmod go-w"));
    mode("server.key", 0o644);
    serve.assert().code(77);
    // A key is never replaced.
    rlog("rlog-ship").args(["keygen", "--key"]).arg(hosts.path("client.key")).assert().code(73);
    let shown = rlog("rlog-ship").args(["keygen", "--show", "--key"]).arg(hosts.path("client.key")).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(hosts.client_line.starts_with(&key_of(&shown)) && !shown.contains(&secret));
}

#[test]
fn hostile_names_lead_nowhere() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let long = "x".repeat(64);
    let huge = "x".repeat(5000);
    for name in ["../evil", "a/b", "", ".", "..", ".queue", "a\0b", "a\nb", "ünï", "/etc/passwd", &long, &huge] {
        for verb in [Verb::Put, Verb::Get] {
            let mut raw = Raw::authorized(&hosts, &server);
            raw.hello(verb, name);
            let refused = raw.refused();
            assert!(matches!(refused, Some(64) | None), "{name:?}: {refused:?}");
        }
    }
    assert!(!hosts.path("far").exists() && !hosts.path("evil").exists());
    let mut raw = Raw::authorized(&hosts, &server);
    let hello =
        Hello { versions: (1, 1), verb: Verb::Get, channel: "x".into(), reader: "../x".into(), ..Hello::default() };
    raw.send(&Message::Hello(Box::new(hello)).encode());
    assert_eq!(raw.refused(), Some(64));
}

#[test]
fn bombs_and_nonsense_end_a_connection_and_nothing_else() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let before = peak(&server);
    // Before the hello.
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 0, 0, 0, 255, 255, 255, 255], &[3, 0, 0, 0, 16, 0, 0, 0], &[0; 100]]
    {
        let mut raw = Raw::authorized(&hosts, &server);
        raw.send(bytes);
        assert!(!matches!(raw.next(), Some(Message::Welcome(_))));
    }
    // After the welcome: a length, a size and a zstd frame that lie; more than was allowed; no frames; frames out of order.
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let bomb = |size: u32| {
        let length = (4 + zeros.len()) as u32;
        [&[3, 1, 0, 0][..], &length.to_le_bytes(), &size.to_le_bytes(), &zeros].concat()
    };
    let (good, sent) = stream([100, 200]);
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.extend_from_slice(&wire::data(&vec![0x89; wire::PIECE_MAX], None));
    }
    let frames = wire::data(&good[good.len() / 2..], None);
    let cases: [(&str, Vec<u8>); 7] = [
        ("length", vec![3, 0, 0, 0, 255, 255, 255, 127]),
        ("small bomb", bomb(1)),
        ("big bomb", bomb(64 << 20)),
        ("kind", vec![99, 0, 0, 0, 0, 0, 0, 0]),
        ("a second hello", Message::Hello(Box::default()).encode()),
        ("flood", flood),
        ("half a frame first", frames),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::authorized(&hosts, &server);
        raw.hello(Verb::Put, "default");
        assert!(matches!(raw.next(), Some(Message::Welcome(_))), "{what}");
        raw.send(&bytes);
        let refused = raw.refused();
        assert!(!matches!(refused, Some(0 | 70)), "{what}: {refused:?}");
        // A length is refused as such, not waited for; nothing of what it promises is made room for.
        let lie = [("length", i32::MAX as usize), ("big bomb", 64 << 20)].into_iter().find(|(name, _)| *name == what);
        if let Some((_, lie)) = lie {
            let told = format!("data message of {lie} bytes exceeds its limit");
            let begun = std::time::Instant::now();
            while !server.log().contains(&told) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {}", server.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(peak(&server) < before + (48 << 20), "{} {before}", peak(&server));
    hosts.push(server.port).write_stdin(&good[..]).assert().success();
    assert_eq!(hosts.held("far"), sent);
    assert!(memory(&server) < 128 << 20, "{}", memory(&server));
    assert_eq!(server.stop(), Some(0));
}

/// Resident bytes of a server, now.
fn memory(server: &Server) -> u64 {
    crate::common::memory_kib(server.child.id(), "VmRSS") << 10
}

/// And at their highest.
fn peak(server: &Server) -> u64 {
    crate::common::memory_kib(server.child.id(), "VmHWM") << 10
}

#[test]
fn a_flood_of_idle_sockets_keeps_nobody_out() {
    let hosts = Hosts::new();
    let server = hosts.serve(&["--handshake-timeout", "60"]);
    let before = memory(&server);
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    let (bytes, sent) = stream([100]);
    hosts.push(server.port).write_stdin(&bytes[..]).assert().success();
    assert_eq!(hosts.held("far"), sent);
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap().count();
    assert!(threads < 80, "{threads}");
    assert!(memory(&server) < before + (64 << 20), "{} {before}", memory(&server));
    drop(idle);
    // Authorised ones are counted too.
    let server = {
        drop(server);
        hosts.serve(&["--connections", "2"])
    };
    let mut raws: Vec<Raw> = ["a", "b"]
        .map(|channel| {
            let mut raw = Raw::authorized(&hosts, &server);
            raw.hello(Verb::Put, channel);
            assert!(matches!(raw.next(), Some(Message::Welcome(_))));
            raw
        })
        .into();
    let third = hosts.push(server.port).args(["--retry-count", "0"]).write_stdin(&bytes[..]).assert();
    third.code(75).stderr(contains("as many connections"));
    // Another process may not push into a channel that is being pushed into; it is told to try again.
    raws.pop();
    let second =
        hosts.push(server.port).args(["--retry-count", "0", "--channel", "a"]).write_stdin(&bytes[..]).assert();
    second.code(75).stderr(contains("another process"));
}
