//! Two running masters into one replica: extract | push over mutually authenticated TLS into one server, two channels, one target; and every part of
//! it is killed while it works.
//!
//! Each part is a line as a supervisor or cron would run it, with programs that can be killed one by one. Whenever a line has ended it is run again, and it
//! may only end as those who repeat it expect: 75, and 0 where it is run once. In between come kills (-9) of every program and server,
//! restarts, DDL and the rotation of logs, all under a load in several sessions. At the end every table is equal, value by value.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

use crate::common::{Server, rlog};
use crate::hosts::{self, Hosts, key_of, keygen};

/// How long what has to come may take. Only what will never come gets here.
const PATIENCE: Duration = Duration::from_secs(120);
/// A supervisor or cron lets a line rest for so long.
const REST: Duration = Duration::from_millis(100);
/// Rows that the load works on, in each of its tables.
const ROWS: u64 = 100;
/// Sessions that write into each master.
const SESSIONS: u64 = 2;

fn program(name: &str) -> Command {
    let mut command = Command::new(rlog(name).get_program());
    command.env_remove("RLOG_CONFIG").env("HOME", "/nonexistent").env("TZ", "UTC");
    command
}

/// A line: programs in a pipe, run again whenever all of them have ended.
struct Line<'a> {
    name: String,
    commands: Box<dyn Fn() -> Vec<Command> + 'a>,
    errors: PathBuf,
    /// Statuses with which a program may end by itself.
    allowed: &'a [i32],
    running: Vec<Child>,
    /// When it was seen that all of them have ended.
    rests_since: Option<Instant>,
    /// How often it has ended with each of them.
    ended: [u32; 2],
}

impl<'a> Line<'a> {
    fn new(folder: &Path, name: &str, allowed: &'a [i32], commands: impl Fn() -> Vec<Command> + 'a) -> Line<'a> {
        let errors = folder.join(format!("{name}.err"));
        Line {
            name: name.into(),
            commands: Box::new(commands),
            errors,
            allowed,
            running: Vec::new(),
            rests_since: None,
            ended: [0; 2],
        }
    }

    fn start(&mut self) {
        let commands = (self.commands)();
        let last = commands.len() - 1;
        let mut input = Stdio::null();
        for (index, mut command) in commands.into_iter().enumerate() {
            let errors = std::fs::File::options().create(true).append(true).open(&self.errors).unwrap();
            let output = if index == last { Stdio::null() } else { Stdio::piped() };
            let mut child = command.stdin(input).stdout(output).stderr(errors).spawn().unwrap();
            input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
            self.running.push(child);
        }
    }

    /// Whether all of its programs have ended.
    fn is_done(&mut self) -> bool {
        self.running.iter_mut().all(|child| child.try_wait().unwrap().is_some())
    }

    /// Runs it again if it has ended, a moment ago.
    fn tend(&mut self) {
        if self.is_done() {
            self.reap();
            if self.rests_since.get_or_insert_with(Instant::now).elapsed() >= REST {
                self.rests_since = None;
                self.start();
            }
        }
    }

    /// Waits for the end and looks at the statuses.
    fn reap(&mut self) {
        for mut child in std::mem::take(&mut self.running) {
            let status = child.wait().unwrap();
            let (code, signal) = (status.code(), status.signal());
            assert!(
                code.is_some_and(|code| self.allowed.contains(&code)) || signal == Some(9),
                "{}: {status}\n{}",
                self.name,
                self.said()
            );
            match code {
                Some(0) => self.ended[0] += 1,
                Some(_) => self.ended[1] += 1,
                None => {}
            }
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    fn kill(&mut self, index: usize) {
        if let Some(child) = self.running.get_mut(index) {
            child.kill().unwrap();
        }
    }

    /// SIGTERM to its first program, which ends the others in order.
    fn stop(&mut self) {
        if let Some(first) = self.running.first_mut()
            && first.try_wait().unwrap().is_none()
        {
            rustix::process::kill_process(rustix::process::Pid::from_child(first), rustix::process::Signal::TERM)
                .unwrap();
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes into a master as sysbench does until `stop`; what fails since the server is away, or two sessions meet, is tried again with the next.
fn load(socket: &Path, database: &str, session: u64, stop: &AtomicBool, done: &AtomicU64) {
    let opts = || OptsBuilder::new().user(Some("root")).socket(Some(socket.display().to_string())).prefer_socket(false);
    let mut connection: Option<Conn> = None;
    let mut number = session;
    while !stop.load(Ordering::Relaxed) {
        number += SESSIONS;
        let Some(conn) = &mut connection else {
            std::thread::sleep(Duration::from_millis(5));
            connection = Conn::new(opts()).ok();
            continue;
        };
        let (id, other) = (number * 7 % ROWS, number * 13 % ROWS);
        let sql = match number % 60 {
            10 => format!("alter table {database}.b add column c{number} int default {number}"),
            20 => format!(
                "create table {database}.n{number} (id int primary key, v varchar(20)) select {number} id, 'x' v"
            ),
            31 => format!("truncate table {database}.log"),
            41 => "flush binary logs".to_owned(),
            51 => format!(
                "create or replace view {database}.sums as select k, count(*) n, {number} x from {database}.a group by k"
            ),
            _ => format!(
                "begin; update {database}.a set k = k + 1 where id = {id}; \
                 update {database}.a set c = concat('{number}-', repeat('c', {other})) where id = {other}; \
                 delete from {database}.a where id = {id}; \
                 insert into {database}.a (id, k, c, d) values ({id}, {other}, 'again {number}', {number} / 3); \
                 insert into {database}.log (v) values (repeat('v', {id})); update {database}.b set n = n + 1 where id = {other} % 10; commit"
            ),
        };
        match conn.query_drop(&sql) {
            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(mysql::Error::MySqlError(_)) => drop(conn.query_drop("rollback")),
            Err(_) => connection = None,
        }
        // A load that is heavier than what a small machine applies would only wait at the end.
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A master with tables and rows from before the first run.
fn master(database: &str) -> Server {
    let server = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    server.sql(&format!(
        "create database {database}; use {database}; \
         create table a (id int primary key, k int, c varchar(200), d decimal(20,6), key (k)); create table b (id int primary key, n int); \
         create table log (id bigint auto_increment primary key, v text); \
         insert into a select seq, seq, repeat('s', seq), seq / 7 from seq_0_to_{last}; insert into b select seq, 0 from seq_0_to_9",
        last = ROWS - 1
    ));
    server
}

/// Everything in a database as text.
fn contents(server: &Server, database: &str) -> Option<String> {
    let tables = server.try_rows(&format!(
        "select table_name, table_type from information_schema.tables where table_schema = '{database}' order by table_name"
    ));
    let mut out = String::new();
    for row in tables.ok()? {
        let cell = |index: usize| String::from_utf8(row[index].clone().unwrap()).unwrap();
        let (table, kind) = (cell(0), cell(1));
        out += &format!("{table} ({kind})\n");
        for row in server.try_rows(&format!("select * from {database}.{table} order by 1")).ok()? {
            out += &format!("{row:?}\n");
        }
    }
    Some(out)
}

const KILLS: [&str; 13] = [
    "extract a",
    "serve",
    "apply b",
    "push a",
    "rotate",
    "master a",
    "push b",
    "target",
    "extract b",
    "apply a",
    "restart b",
    "serve",
    "apply b",
];

fn campaign(follow: bool) {
    let hosts = Hosts::new();
    let mut masters = [master("a"), master("b")];
    let mut target = Server::new("mariadb-10.11").option("--log-bin=bin").option("--server-id=9000").start();
    // Each client has a key of its own, good for pushing into its own channel.
    let lines = ["a", "b"].map(|channel| {
        let line = keygen(&hosts.path(&format!("{channel}.key")), channel);
        format!("channels=\"{channel}\",verbs=\"push\" {line}\n")
    });
    hosts.authorize(&lines.concat());
    let mut serve = Some(hosts.serve(&[]));
    let port = serve.as_ref().unwrap().port;
    let far = hosts.path("far");
    let target_url = target.url("");
    let urls = masters.each_ref().map(|master| master.url(""));

    let go_on: &[&str] = if follow { &["--follow"] } else { &[] };
    let allowed: &[i32] = if follow { &[75] } else { &[0, 75] };
    let path = |name: String| hosts.path(&name);
    let push = |channel: &'static str, url: &str| {
        let cursor = path(format!("{channel}.cursor"));
        let mut extract = program("rlog-extract");
        extract.args(["-q", "--snapshot", "--confirm", &format!("@{}", cursor.display())]).args(go_on);
        extract.args(["--connect-retry", "200ms", "--retry-count", "3", url]);
        let mut push = program("rlog-ship");
        push.args(["push", "-q", "--channel", channel, "--to", &format!("tls://127.0.0.1:{port}"), "--cursor"])
            .arg(cursor);
        push.args(["--connect-retry", "50ms", "--retry-count", "3", "--lock-wait", "500ms"]);
        push.arg("--key").arg(path(format!("{channel}.key"))).args(["--server-key", &key_of(&hosts.server_line)]);
        vec![extract, push]
    };
    let apply = |channel: &'static str| {
        let mut apply = program("rlog-apply");
        apply
            .args(["run", "-q", "--create-tables", "--init", "empty", "--lock-wait", "500ms", "--channel", channel])
            .args(go_on);
        apply.arg("--from").arg(&far).arg(&target_url);
        vec![apply]
    };
    let folder = hosts.folder.path();
    let mut lines = [
        Line::new(folder, "push-a", allowed, || push("a", &urls[0])),
        Line::new(folder, "push-b", allowed, || push("b", &urls[1])),
        // There is no queue before the first push.
        Line::new(folder, "apply-a", allowed, || apply("a")),
        Line::new(folder, "apply-b", allowed, || apply("b")),
    ];
    let mut overlaps = [
        Line::new(folder, "overlapping-push-a", allowed, || push("a", &urls[0])),
        Line::new(folder, "overlapping-apply-b", allowed, || apply("b")),
    ];

    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let sockets = masters.each_ref().map(Server::socket);
    std::thread::scope(|scope| {
        // Also when something below panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopper = Stop(&stop);
        for (socket, database) in sockets.iter().zip(["a", "b"]) {
            for session in 0..SESSIONS {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || load(socket, database, session, stop, done));
            }
        }
        lines[0].start();
        lines[1].start();
        let begun = Instant::now();
        while !["a", "b"].iter().all(|channel| hosts::has(&far, channel)) {
            assert!(begun.elapsed() < PATIENCE, "{}{}", lines[0].said(), lines[1].said());
            lines[..2].iter_mut().for_each(Line::tend);
            std::thread::sleep(Duration::from_millis(20));
        }
        let tend = |lines: &mut [Line<'_>], moment: Duration| {
            let begun = Instant::now();
            while begun.elapsed() < moment {
                lines.iter_mut().for_each(Line::tend);
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        for kill in KILLS {
            if !follow {
                // As cron does when the one before is still at work.
                for line in &mut overlaps {
                    while !line.is_done() {
                        tend(&mut lines, REST);
                    }
                    line.reap();
                    line.start();
                }
            }
            tend(&mut lines, Duration::from_millis(350));
            match kill {
                "extract a" => lines[0].kill(0),
                "push a" => lines[0].kill(1),
                "extract b" => lines[1].kill(0),
                "push b" => lines[1].kill(1),
                "apply a" => lines[2].kill(0),
                "apply b" => lines[3].kill(0),
                "serve" => {
                    drop(serve.take());
                    tend(&mut lines, Duration::from_millis(100));
                    serve = Some(hosts.serve_at(port, &[]));
                }
                "rotate" => masters.iter().for_each(Server::flush_logs),
                "master a" => {
                    masters[0].kill();
                    masters[0].start();
                }
                "restart b" => {
                    masters[1].stop();
                    masters[1].start();
                }
                "target" => {
                    target.kill();
                    target.start();
                }
                other => unreachable!("{other}"),
            }
        }
        drop(stopper);
        assert_eq!(
            (urls[0].as_str(), urls[1].as_str()),
            (&*masters[0].url(""), &*masters[1].url("")),
            "the ports were free"
        );
        assert_eq!(target_url, target.url(""), "the port was free");
        let begun = Instant::now();
        for (master, database) in masters.iter().zip(["a", "b"]) {
            let there = contents(master, database).unwrap();
            while contents(&target, database).as_ref() != Some(&there) {
                if begun.elapsed() >= PATIENCE {
                    let here = contents(&target, database).unwrap_or_default();
                    let lines: Vec<String> = lines.iter().map(Line::said).collect();
                    panic!("{database} differs:\n{there}\n{here}\n{lines:#?}");
                }
                tend(&mut lines, Duration::from_millis(50));
            }
        }
    });
    assert!(done.load(Ordering::Relaxed) > 100, "{} transactions", done.load(Ordering::Relaxed));
    // Told to end, all of them do so in order.
    for line in &mut lines {
        if follow {
            line.tend();
            std::thread::sleep(Duration::from_millis(300));
            line.allowed = &[0];
            line.stop();
        }
        line.reap();
        assert!(follow || line.ended[0] > 0, "{}: {:?}", line.name, line.ended);
    }
    for line in &mut overlaps {
        line.reap();
    }
    assert_eq!(serve.unwrap().stop(), Some(0));
    for (channel, master) in ["a", "b"].iter().zip(&masters) {
        rlog("rlog-queue").args(["verify", "--channel", channel]).arg(&far).assert().success();
        let tables = format!("{channel}.*");
        rlog("rlog-apply").args(["compare", &master.url(""), &target_url, "--tables", &tables]).assert().success();
    }
}

#[test]
fn two_masters_over_tls_into_one_replica_survive_every_kill() {
    campaign(true);
}

#[test]
fn two_masters_from_cron_over_tls_into_one_replica_survive_every_kill() {
    campaign(false);
}
