//! Two hosts in one folder: keys, a server that is started and stopped, queues on both sides.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::streams::{Seen, Stream, transactions};
use crate::common::{rlog, scratch};

/// The built rlog-ship.
pub const SHIP: &str = env!("CARGO_BIN_EXE_rlog-ship");
const QUEUE: &str = env!("CARGO_BIN_EXE_rlog-queue");

/// A folder with the keys of both sides.
pub struct Hosts {
    pub folder: tempfile::TempDir,
    pub server_line: String,
    pub client_line: String,
}

impl Hosts {
    /// The client's key is authorized for everything.
    pub fn new() -> Hosts {
        let folder = scratch();
        let server_line = keygen(&folder.path().join("server.key"), "server");
        let client_line = keygen(&folder.path().join("client.key"), "client");
        let hosts = Hosts { folder, server_line, client_line };
        hosts.authorize(&hosts.client_line);
        hosts
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the authorized keys.
    pub fn authorize(&self, lines: &str) {
        let path = self.path("authorized_keys");
        std::fs::write(path, format!("{lines}\n")).unwrap();
    }

    /// Starts a server of the queue `far` on a port of its own.
    pub fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_at(0, arguments)
    }

    /// On this port.
    pub fn serve_at(&self, port: u16, arguments: &[&str]) -> Server {
        let log = self.path("serve.log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(SHIP);
        command
            .args(["serve", "-v", "--listen", &format!("127.0.0.1:{port}"), "--key"])
            .arg(self.path("server.key"))
            .arg("--authorized-keys")
            .arg(self.path("authorized_keys"))
            .args(arguments)
            .arg(self.path("far"))
            .env_remove("RLOG_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let port = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            if let Some((_, rest)) = text.split_once("listening on 127.0.0.1:") {
                break rest.split(',').next().unwrap().parse().unwrap();
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(60), "{ended:?}: {text}");
            std::thread::sleep(Duration::from_millis(2));
        };
        Server { child, port, log }
    }

    /// What a client needs besides its verb and its address.
    pub fn identity(&self) -> [String; 4] {
        [
            "--key".into(),
            self.path("client.key").display().to_string(),
            "--server-key".into(),
            key_of(&self.server_line),
        ]
    }

    /// `push --to` this port, quick to give up.
    pub fn push(&self, port: u16) -> assert_cmd::Command {
        let mut command = rlog("rlog-ship");
        command.args(["push", "--to", &format!("tls://127.0.0.1:{port}"), "--connect-retry", "20ms"]);
        command.args(self.identity());
        command
    }

    /// `pull --from` this port.
    pub fn pull(&self, port: u16) -> assert_cmd::Command {
        let mut command = rlog("rlog-ship");
        command.args(["pull", "--from", &format!("tls://127.0.0.1:{port}"), "--connect-retry", "20ms"]);
        command.args(self.identity());
        command
    }

    /// The transactions of a queue.
    pub fn held(&self, queue: &str) -> Vec<Seen> {
        held(&self.path(queue), "default")
    }

    /// Fills a queue with a stream.
    pub fn fill(&self, queue: &str, stream: &[u8]) {
        rlog("rlog-queue").arg("put").arg(self.path(queue)).write_stdin(stream).assert().success();
    }

    /// The last position of a queue, as printed.
    pub fn last(&self, queue: &str) -> String {
        let output = rlog("rlog-queue").arg("last").arg(self.path(queue)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The transactions of one channel, order, counts and contiguity checked.
pub fn held(queue: &Path, channel: &str) -> Vec<Seen> {
    let output = Command::new(QUEUE).args(["get", "--channel", channel]).arg(queue).output().unwrap();
    // Nothing was queued, or nothing is there yet.
    if matches!(output.status.code(), Some(1 | 66)) {
        return Vec::new();
    }
    assert!(output.status.success(), "{output:?}");
    transactions(&output.stdout)
}

/// Whether the channel holds anything.
pub fn has(queue: &Path, channel: &str) -> bool {
    rlog("rlog-queue").args(["last", "--channel", channel]).arg(queue).output().unwrap().status.success()
}

/// `rlog-ed25519 BASE64` of a line that keygen printed.
pub fn key_of(line: &str) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Makes a key and returns the line that is printed.
pub fn keygen(path: &Path, comment: &str) -> String {
    let output = rlog("rlog-ship").args(["keygen", "--comment", comment, "--key"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A stream of transactions of these sizes.
pub fn stream(sizes: impl IntoIterator<Item = usize>) -> (Vec<u8>, Vec<Seen>) {
    let mut stream = Stream::new();
    for size in sizes {
        stream.transaction(size);
    }
    let bytes = stream.end();
    let seen = transactions(&bytes);
    (bytes, seen)
}

/// A running server.
pub struct Server {
    pub child: Child,
    pub port: u16,
    log: PathBuf,
}

#[allow(dead_code, reason = "for a look at what went wrong")]
impl Server {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; the exit status.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
