//! rlog-extract, rlog-queue put and rlog-apply as a user starts them: the built programs, joined by a pipe and a queue.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// The three processes, as they are started in one folder.
pub struct Pipeline<'a> {
    dir: &'a Path,
    shadow: bool,
    pub extract: Option<Child>,
    pub put: Option<Child>,
    pub apply: Option<Child>,
}

fn log(dir: &Path, name: &str) -> Stdio {
    Stdio::from(File::options().create(true).append(true).open(dir.join(name)).unwrap())
}

impl<'a> Pipeline<'a> {
    /// Nothing is started yet. The database is `app.db` in `dir`.
    pub fn new(dir: &'a Path, shadow: bool) -> Pipeline<'a> {
        Pipeline { dir, shadow, extract: None, put: None, apply: None }
    }

    pub fn extract_and_put(&mut self, follow: bool) {
        let mut extract = Command::new(env!("CARGO_BIN_EXE_rlog-extract"));
        extract.args([if follow { "--follow" } else { "--once" }, "--snapshot", "--confirm", "spool", "-q"]);
        if self.shadow {
            extract.args(["--shadow", "shadow"]);
        }
        let mut extract = extract
            .arg("sqlite:app.db")
            .current_dir(self.dir)
            .stdout(Stdio::piped())
            .stderr(log(self.dir, "extract.log"))
            .spawn()
            .unwrap();
        let put = Command::new(env!("CARGO_BIN_EXE_rlog-queue"))
            .args(["put", "spool"])
            .current_dir(self.dir)
            .stdin(extract.stdout.take().unwrap())
            .stdout(Stdio::null())
            .stderr(log(self.dir, "put.log"))
            .spawn()
            .unwrap();
        (self.extract, self.put) = (Some(extract), Some(put));
    }

    pub fn apply(&mut self, follow: bool) {
        let apply = Command::new(env!("CARGO_BIN_EXE_rlog-apply"))
            .args(["run", if follow { "--follow" } else { "--once" }, "--from", "spool", "--init", "empty"])
            .args(["--create-tables", "-q", "sqlite:replica.db"])
            .current_dir(self.dir)
            .stdout(Stdio::null())
            .stderr(log(self.dir, "apply.log"))
            .spawn()
            .unwrap();
        self.apply = Some(apply);
    }

    /// What the queue holds.
    pub fn last(&self) -> Option<String> {
        let mut last = Command::new(env!("CARGO_BIN_EXE_rlog-queue"));
        let last = last.args(["last", "spool"]).current_dir(self.dir).output().unwrap();
        last.status.success().then(|| String::from_utf8_lossy(&last.stdout).trim().to_owned())
    }

    pub fn logs(&self) -> String {
        let read = |name: &str| {
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let tail = text.lines().rev().take(12).collect::<Vec<_>>();
            format!("{name}:\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        read("extract.log") + &read("put.log") + &read("apply.log")
    }
}

impl Pipeline<'_> {
    /// The replica is whole, and equal to `source`. No applier may be running.
    pub fn assert_equal(&self, source: &Connection, what: &str) {
        let replica = Connection::open(self.dir.join("replica.db")).unwrap();
        let check: String = replica.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "{what}");
        // What the applier keeps for itself.
        let own = ["rlog_applied", "rlog_channel", "rlog_target"];
        replica.execute_batch(&own.map(|name| format!("DROP TABLE IF EXISTS {name};")).concat()).unwrap();
        super::assert_equal(source, &replica, what);
    }

    /// The replica has the table `name`.
    pub fn has(&self, name: &str) -> bool {
        let replica = Connection::open(self.dir.join("replica.db")).unwrap();
        replica.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
        replica.query_row(sql, [name], |row| row.get::<_, i64>(0)).unwrap() > 0
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        for child in [&mut self.extract, &mut self.put, &mut self.apply].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Ends by itself within a time that only a hang exceeds. `None`: killed.
pub fn status(child: &mut Option<Child>, what: &str) -> Option<i32> {
    let mut child = child.take()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > Duration::from_secs(100) {
            let _ = child.kill();
            panic!("{what} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
