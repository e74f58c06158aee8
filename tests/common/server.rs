//! A private MariaDB or MySQL server, alive as long as its [`Server`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Value};

use super::repository;

/// The cells of one row as the server's text protocol gives them; `None` is NULL.
pub type Cells = Vec<Option<Vec<u8>>>;

/// How long a server may take to accept its first connection. Only a server that will never do so gets here.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// What a server is started with.
#[derive(Clone)]
pub struct ServerBuilder {
    name: String,
    options: Vec<OsString>,
    dir: Option<PathBuf>,
}

/// A running (or stopped) server. Dropping it kills the server and removes its folder.
pub struct Server {
    name: String,
    dir: PathBuf,
    options: Vec<OsString>,
    port: u16,
    child: Option<Child>,
    /// The connection behind [`Server::sql`] and its like, opened when first used; so `use shop` lasts.
    connection: Mutex<Option<Conn>>,
}

impl ServerBuilder {
    /// Writes a binary log, `bin.000001` and on, in row format, with a server id of its own.
    pub fn log_bin(self) -> ServerBuilder {
        static SERVER_ID: AtomicU32 = AtomicU32::new(101);
        let id = SERVER_ID.fetch_add(1, Ordering::Relaxed);
        let builder = self.option("--log-bin=bin").option(format!("--server-id={id}"));
        if builder.name.starts_with("mariadb") { builder.option("--binlog-format=ROW") } else { builder }
    }

    /// MySQL with GTIDs (MariaDB always has its own kind).
    pub fn gtid(self) -> ServerBuilder {
        self.option("--gtid-mode=ON").option("--enforce-gtid-consistency=ON")
    }

    /// One more option of the server's command line; a later one wins.
    pub fn option(mut self, option: impl Into<OsString>) -> ServerBuilder {
        self.options.push(option.into());
        self
    }

    /// Several options.
    pub fn options<O: Into<OsString>>(mut self, options: impl IntoIterator<Item = O>) -> ServerBuilder {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Uses the data directory of a [`Server`] that was stopped or killed and kept (see [`Server::keep`]).
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> ServerBuilder {
        self.dir = Some(dir.into());
        self
    }

    /// Starts the server and waits until it answers.
    pub fn start(self) -> Server {
        root_of(&self.name);
        let dir = self.dir.unwrap_or_else(|| {
            // Short, since the path of a socket may have 107 bytes.
            tempfile::Builder::new().prefix("rlog-server-").tempdir().expect("a folder for the server").keep()
        });
        let mut server =
            Server { name: self.name, dir, options: self.options, port: 0, child: None, connection: Mutex::new(None) };
        server.start();
        server
    }
}

impl Server {
    /// A server by its name in `tests/servers/fetch`: `mariadb-10.11`, `mariadb-11.8`, `mysql-9.7`.
    #[allow(clippy::new_ret_no_self, reason = "reads well in tests: Server::new(..).log_bin().start()")]
    pub fn new(name: &str) -> ServerBuilder {
        ServerBuilder { name: name.into(), options: Vec::new(), dir: None }
    }

    /// One server of that name for all tests of this binary, with a binary log; it lives until the binary ends.
    /// Each test makes a database of its own and leaves the rest alone.
    pub fn shared(name: &str) -> &'static Server {
        static SHARED: OnceLock<Mutex<HashMap<String, &'static Server>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        shared.entry(name.into()).or_insert_with(|| Box::leak(Box::new(Server::new(name).log_bin().start())))
    }

    /// Starts a server that was stopped or killed, on the same data and port if the port is still free.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        // Another process may take the port between our look and the server's bind: then another port.
        for attempt in 1.. {
            if self.port == 0 || attempt > 1 {
                self.port = free_port();
            }
            match self.try_start() {
                Ok(()) => return,
                Err(log) if attempt < 5 && log.contains("Address already in use") => {}
                Err(log) => panic!("{} does not start:\n{log}", self.name),
            }
        }
    }

    /// One try; the error is the server's log.
    fn try_start(&mut self) -> Result<(), String> {
        use std::os::unix::process::CommandExt as _;
        std::fs::create_dir_all(&self.dir).expect("the server's folder");
        let log = File::create(self.error_log()).expect("the server's log");
        let mut child = Command::new(repository().join("tests/servers/start"))
            .arg("--scratch")
            .arg(&self.name)
            .arg(&self.dir)
            .arg(format!("--port={}", self.port))
            .args(&self.options)
            .env("RLOG_SERVERS", servers())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("the server's log"))
            .stderr(log)
            .process_group(0) // an interrupt at the terminal is for the tests; the end of their pipe is for the server
            .spawn()
            .expect("tests/servers/start runs");
        let patience_ends = Instant::now() + START_PATIENCE;
        loop {
            if child.try_wait().expect("wait for the server").is_some() {
                return Err(self.error_log_text());
            }
            // The name of the socket may be there from an earlier life: only a connection counts.
            if let Ok(conn) = Conn::new(self.opts()) {
                *self.lock() = Some(conn);
                self.child = Some(child);
                return Ok(());
            }
            if Instant::now() > patience_ends {
                drop(child.stdin.take());
                let _ = child.wait();
                return Err(format!("no connection within {START_PATIENCE:?}:\n{}", self.error_log_text()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shuts the server down in order; its data stays for [`Server::start`].
    pub fn stop(&mut self) {
        self.end("stop");
    }

    /// Kills the server (SIGKILL); its data stays for [`Server::start`].
    pub fn kill(&mut self) {
        self.end("kill");
    }

    fn end(&mut self, order: &str) {
        *self.lock() = None;
        let Some(mut child) = self.child.take() else { return };
        let mut stdin = child.stdin.take().expect("the server's lifeline");
        // A server that has ended by itself does not read: then there is nothing to end.
        let _ = writeln!(stdin, "{order}");
        child.wait().expect("wait for the server");
    }

    /// Stops the server and leaves its folder, which [`ServerBuilder::dir`] takes.
    pub fn keep(mut self) -> PathBuf {
        self.stop();
        std::mem::take(&mut self.dir)
    }

    /// The options that the next [`Server::start`] uses.
    pub fn options_mut(&mut self) -> &mut Vec<OsString> {
        &mut self.options
    }

    /// The server's name, `mariadb-10.11` for example.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a MariaDB server.
    pub fn is_mariadb(&self) -> bool {
        self.name.starts_with("mariadb")
    }

    /// The data directory, where the logs are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server as the tools name it, by TCP: `mysql://root@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// The server as the tools name it, by its socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!("mysql://root@localhost/{database}?socket={}", self.socket().display())
    }

    /// What the server has written about itself.
    pub fn error_log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn error_log_text(&self) -> String {
        let text = std::fs::read(self.error_log()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn opts(&self) -> OptsBuilder {
        OptsBuilder::new().user(Some("root")).socket(Some(self.socket().display().to_string())).prefer_socket(false)
    }

    /// A new connection by the socket.
    pub fn connect(&self) -> Conn {
        Conn::new(self.opts()).unwrap_or_else(|error| panic!("{}: {error}\n{}", self.name, self.error_log_text()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Conn>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs statements, separated by semicolons, in the server's standing session; any error fails the test.
    pub fn sql(&self, sql: &str) {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{}: {error}\nin: {sql}", self.name));
    }

    /// As [`Server::sql`], for statements that may fail.
    pub fn try_sql(&self, sql: &str) -> mysql::Result<()> {
        self.try_rows(sql).map(drop)
    }

    /// The rows of all results of the statements.
    pub fn rows(&self, sql: &str) -> Vec<Cells> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{}: {error}\nin: {sql}", self.name))
    }

    /// As [`Server::rows`], for a server that may be away.
    pub fn try_rows(&self, sql: &str) -> mysql::Result<Vec<Cells>> {
        let mut connection = self.lock();
        let conn = connection.get_or_insert_with(|| self.connect());
        let mut rows = Vec::new();
        let mut results = conn.query_iter(sql)?;
        while let Some(set) = results.iter() {
            for row in set {
                rows.push(row?.unwrap().into_iter().map(cell).collect());
            }
        }
        Ok(rows)
    }

    /// The rows as text: cells between tabs, rows in lines, NULL as `NULL`, bytes that are not UTF-8 as `\xNN`.
    pub fn text(&self, sql: &str) -> String {
        let mut text = String::new();
        for row in self.rows(sql) {
            for (i, cell) in row.iter().enumerate() {
                if i > 0 {
                    text.push('\t');
                }
                match cell {
                    None => text.push_str("NULL"),
                    Some(bytes) => {
                        for chunk in bytes.utf8_chunks() {
                            text.push_str(chunk.valid());
                            for byte in chunk.invalid() {
                                let _ = write!(text, "\\x{byte:02x}");
                            }
                        }
                    }
                }
            }
            text.push('\n');
        }
        text
    }

    /// The only cell of the only row, as text.
    pub fn value(&self, sql: &str) -> String {
        let text = self.text(sql);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// A server variable; `None` if this server does not know it. Tests ask for features with this, not for versions.
    pub fn variable(&self, name: &str) -> Option<String> {
        let rows = self.rows(&format!("show global variables where variable_name = '{name}'"));
        let value = rows.into_iter().next()?.into_iter().nth(1)??;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Runs a script through the server's own command-line client, in a session of its own: for what only the
    /// client understands (DELIMITER), and for feeding it what rlog-dump printed.
    pub fn client(&self, script: impl AsRef<[u8]>) {
        let mut command =
            assert_cmd::Command::from_std(self.program(if self.is_mariadb() { "mariadb" } else { "mysql" }));
        command
            .arg("--no-defaults")
            .arg("--local-infile=1")
            .arg("--binary-mode")
            .arg("--default-character-set=utf8mb4");
        command.arg(self.socket_option()).arg("--user=root").write_stdin(script.as_ref()).assert().success();
    }

    /// `--socket=…` for the server's own programs.
    pub fn socket_option(&self) -> OsString {
        let mut option = OsString::from("--socket=");
        option.push(self.socket());
        option
    }

    /// A program of this server (`mariadb-binlog`, `mysqlbinlog`, `mariadb-dump`, …), with its own libraries.
    pub fn program(&self, name: impl AsRef<OsStr>) -> Command {
        server_program(&self.name, name)
    }

    /// Closes the current binary log and begins the next.
    pub fn flush_logs(&self) {
        self.sql("flush binary logs");
    }

    /// Removes the binary logs before `first`. MariaDB keeps one, without a word, until the engine has written down what is in it.
    pub fn purge_logs(&self, first: &str) {
        let patience_ends = Instant::now() + START_PATIENCE;
        loop {
            self.sql(&format!("purge binary logs to '{first}'"));
            if self.logs().first().is_some_and(|log| log.ends_with(first)) {
                return;
            }
            assert!(Instant::now() < patience_ends, "{}: the logs before {first} are kept", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The binary logs, oldest first; the last is in use.
    pub fn logs(&self) -> Vec<PathBuf> {
        let names = self.rows("show binary logs");
        let path = |row: Cells| {
            let name = row.into_iter().next().flatten().expect("a log has a name");
            self.data().join(String::from_utf8(name).expect("named by us"))
        };
        names.into_iter().map(path).collect()
    }

    /// The binary logs that are closed: [`Server::flush_logs`], then all but the last.
    pub fn closed_logs(&self) -> Vec<PathBuf> {
        self.flush_logs();
        let mut logs = self.logs();
        logs.pop();
        logs
    }

    /// Where the log stands: file name and offset.
    pub fn log_position(&self) -> (String, u64) {
        // SHOW MASTER STATUS is gone from MySQL, and SHOW BINARY LOG STATUS is unknown to older MariaDB.
        let sql = if self.is_mariadb() { "show master status" } else { "show binary log status" };
        let row = self.rows(sql).swap_remove(0);
        let text = |i: usize| String::from_utf8(row[i].clone().expect("not NULL")).expect("text");
        (text(0), text(1).parse().expect("a number"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return; // kept
        }
        if std::thread::panicking() && self.child.is_some() {
            let log = self.error_log_text();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}, last words:\n{}", self.name, lines[lines.len().saturating_sub(10)..].join("\n"));
        }
        if std::env::var_os("RLOG_KEEP").is_some() {
            self.kill();
            eprintln!("{}: kept in {}", self.name, self.dir.display());
            return;
        }
        *self.lock() = None;
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take()); // tests/servers/start kills the server and removes the folder
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The folder of the fetched servers.
fn servers() -> PathBuf {
    std::env::var_os("RLOG_SERVERS").map_or_else(|| repository().join(".servers"), PathBuf::from)
}

/// The folder of one server; fails the test with the command that fetches it.
fn root_of(name: &str) -> PathBuf {
    let root = servers().join(name);
    assert!(
        root.join("versions").exists(),
        "this test needs the server '{name}', which is not in {}; get it with: tests/servers/fetch {name}",
        servers().display()
    );
    root
}

/// A program of a fetched server that need not run: `mariadb-binlog` of `mariadb-10.11`, `mysqlbinlog` of `mysql-9.7`.
pub fn server_program(server: &str, name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(root_of(server).join("run"));
    command.arg(name).env("TZ", "UTC");
    command
}

/// A port that was free on 127.0.0.1 a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    listener.local_addr().expect("an address").port()
}

fn cell(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes),
        // The text protocol gives bytes alone.
        other => Some(other.as_sql(true).into_bytes()),
    }
}
