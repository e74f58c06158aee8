//! A private cluster of NATS servers with JetStream on loopback, alive as long as its [`NatsCluster`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::repository;

/// How long a cluster may take until it has a leader.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// Servers that know each other. Dropping it kills them and removes their folders.
pub struct NatsCluster {
    dir: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    monitor: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("an address").port()
}

impl NatsCluster {
    /// Starts `count` servers; `settings` stands in their `jetstream` block (`sync_interval: always`), `more` outside of it.
    pub fn start(count: usize, settings: &str, more: &str) -> NatsCluster {
        let dir = tempfile::Builder::new().prefix("rlog-nats-").tempdir().expect("a folder for the servers").keep();
        let routes: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let nodes: Vec<Node> =
            (0..count).map(|_| Node { port: free_port(), monitor: free_port(), child: None }).collect();
        let mut cluster = NatsCluster { dir, nodes };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let folder = cluster.folder(number);
            std::fs::create_dir_all(&folder).expect("a server's folder");
            let mut config = format!(
                "server_name: n{number}\nlisten: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\njetstream {{ store_dir: {:?}, max_memory_store: 67108864, \
                 max_file_store: 4294967296\n{settings}\n}}\n{more}\n",
                node.port,
                node.monitor,
                folder.join("data"),
            );
            if count > 1 {
                let others: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
                config += &format!(
                    "cluster {{ name: rlog, listen: 127.0.0.1:{}, routes: [{}] }}\n",
                    routes[number],
                    others.join(", ")
                );
            }
            std::fs::write(folder.join("nats.conf"), config).expect("a server's configuration");
        }
        for number in 0..count {
            cluster.start_node(number);
        }
        cluster.wait_for_leader();
        cluster
    }

    /// One cluster of three for all tests of this binary; each makes a stream or channel of its own.
    pub fn shared() -> &'static NatsCluster {
        static SHARED: OnceLock<Mutex<HashMap<(), &'static NatsCluster>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        shared.entry(()).or_insert_with(|| Box::leak(Box::new(NatsCluster::start(3, "", ""))))
    }

    fn folder(&self, number: usize) -> PathBuf {
        self.dir.join(format!("n{number}"))
    }

    /// The address of a queue, by all servers.
    pub fn url(&self, stream: &str, options: &str) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("nats://{}/{stream}?{options}", hosts.join(","))
    }

    /// Monitoring port of a server.
    pub fn monitor(&self, number: usize) -> u16 {
        self.nodes[number].monitor
    }

    /// What the first server's monitoring answers.
    pub fn monitored(&self, path: &str) -> String {
        let answer = get(self.nodes[0].monitor, path);
        answer.split_once("\r\n\r\n").expect("an answer").1.to_owned()
    }

    /// Publishes a message, as another client of the first server would.
    pub fn publish(&self, subject: &str, payload: &str) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.nodes[0].port)).expect("a connection");
        let length = payload.len();
        write!(connection, "CONNECT {{\"verbose\":false}}\r\nPUB {subject} {length}\r\n{payload}\r\nPING\r\n")
            .expect("sent");
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"PONG") {
            let mut bytes = [0; 4096];
            let count = connection.read(&mut bytes).expect("an answer");
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..count]);
        }
    }

    /// How many servers there are, at work or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Starts a server that was killed, on its own data and port.
    pub fn start_node(&mut self, number: usize) {
        use std::os::unix::process::CommandExt as _;
        let folder = self.folder(number);
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("the server's log");
        let servers = std::env::var_os("RLOG_SERVERS").map_or_else(|| repository().join(".servers"), PathBuf::from);
        assert!(
            servers.join("nats/versions").exists(),
            "this test needs the server 'nats', which is not in {}; get it with: tests/servers/fetch nats",
            servers.display()
        );
        let child = Command::new(repository().join("tests/servers/start"))
            .args(["--scratch", "nats"])
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nats.conf"))
            .env("RLOG_SERVERS", servers)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("the server's log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("tests/servers/start runs");
        self.nodes[number].child = Some(child);
    }

    /// Kills a server (SIGKILL); its data stays for [`NatsCluster::start_node`].
    pub fn kill_node(&mut self, number: usize) {
        let Some(mut child) = self.nodes[number].child.take() else { return };
        let mut stdin = child.stdin.take().expect("the server's lifeline");
        let _ = writeln!(stdin, "kill");
        child.wait().expect("wait for the server");
    }

    /// Waits until every server that runs is healthy, and one of them leads.
    pub fn wait_for_leader(&self) {
        let end = Instant::now() + START_PATIENCE;
        let healthy = |node: &Node| node.child.is_none() || get(node.monitor, "/healthz").contains("\"ok\"");
        while !self.nodes.iter().all(healthy) {
            assert!(Instant::now() < end, "no healthy cluster within {START_PATIENCE:?}:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let mut out = String::new();
        for number in 0..self.nodes.len() {
            let text = std::fs::read_to_string(self.folder(number).join("log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            out += &format!("n{number}:\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        out
    }
}

/// The answer of a server's monitoring; empty when there is none.
fn get(port: u16, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

impl Drop for NatsCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        if std::env::var_os("RLOG_KEEP").is_some() {
            for number in 0..self.nodes.len() {
                self.kill_node(number);
            }
            eprintln!("nats: kept in {}", self.dir.display());
            return;
        }
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                drop(child.stdin.take()); // tests/servers/start kills the server and removes the folder
                let _ = child.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
