//! A running server as a source: the frames of its files, its rows, through everything that happens to servers.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Server, Types, rlog, scratch, shell};

/// All three.
const SERVERS: [&str; 3] = ["mariadb-10.11", "mariadb-11.8", "mysql-9.7"];
/// How long anything may take that has to come. Only what will never come gets here.
const PATIENCE: Duration = Duration::from_secs(120);

struct Ran {
    status: i32,
    out: Vec<u8>,
    err: String,
}

fn run(program: &str, arguments: &[&str]) -> Ran {
    let output = rlog(program).args(arguments).env("HOME", "/nonexistent").output().unwrap();
    Ran {
        status: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn extract(arguments: &[&str]) -> Ran {
    run("rlog-extract", arguments)
}

/// As [`extract`], and it must go well.
fn frames(arguments: &[&str]) -> Vec<u8> {
    let ran = extract(arguments);
    assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
    ran.out
}

fn builder(name: &str) -> crate::common::ServerBuilder {
    let builder = Server::new(name).log_bin().option("--max-allowed-packet=64M");
    if name.starts_with("mysql") { builder.gtid() } else { builder }
}

fn server(name: &str) -> Server {
    builder(name).option("--binlog-row-metadata=FULL").start()
}

fn files_of(server: &Server) -> Vec<String> {
    server.logs().iter().map(|path| path.display().to_string()).collect()
}

/// The frames of the server's files.
fn of_files(server: &Server, options: &[&str]) -> Vec<u8> {
    let files = files_of(server);
    let arguments: Vec<&str> = options.iter().copied().chain(files.iter().map(String::as_str)).collect();
    frames(&arguments)
}

/// Frames behind the stream's header, in which only a live server has a UUID. A stream has one header, at its start.
fn behind_header(stream: &[u8]) -> &[u8] {
    let header = rlog::frame::reader::read_frame(stream, 0).expect("a whole stream header");
    assert_eq!(header.kind(), Some(rlog::frame::Kind::Stream));
    &stream[header.total_len()..]
}

/// Compared by their bytes; what is told is short, since streams are long.
fn assert_same(what: &str, of_files: &[u8], live: &[u8]) {
    let (a, b) = (behind_header(of_files), behind_header(live));
    if a != b {
        let at = a.iter().zip(b).position(|(left, right)| left != right).unwrap_or(a.len().min(b.len()));
        panic!("{what}: {} bytes of files, {} live, which differ at {at}", a.len(), b.len());
    }
}

fn json(stream: &[u8]) -> String {
    let output = rlog("rlog-dump").args(["--format", "json", "-"]).write_stdin(stream).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Some of everything: rows, DDL, a transaction and a row of some megabytes, rotations.
fn workload(server: &Server) {
    server.sql("create database shop; use shop; create table t (id int primary key, v varchar(200), b longblob)");
    for id in 0..50 {
        server.sql(&format!("insert into t values ({id}, 'row {id}', repeat('x', {}))", id * 100));
    }
    server.flush_logs();
    server.sql("alter table t add column n int; update t set n = id * 2; delete from t where id % 7 = 0");
    server.sql("begin; insert into t select id + 1000, v, repeat('y', 200000), n from t; insert into t (id, b) values (5000, repeat('z', 17000000)); commit");
    server.flush_logs();
    server.sql("create table other (a bigint unsigned, d decimal(20,5), ts timestamp(6) null); insert into other values (1, 2.5, '2026-01-02 03:04:05.678901')");
}

/// The positions of a stream's transactions.
fn positions(stream: &[u8]) -> Vec<String> {
    let lines = json(stream);
    let commits = lines.lines().filter(|line| line.contains("\"kind\":\"commit\""));
    let position = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["position"].as_str().unwrap().to_owned()
    };
    commits.map(position).collect()
}

/// What has been read goes on while more keeps coming, by a socket and by TCP: it does not wait for a pause.
#[test]
fn a_steady_load_is_passed_on_while_it_goes_on() {
    let server = server("mariadb-10.11");
    server.sql("create database shop; create table shop.t (id int primary key)");
    for url in [server.socket_url(""), server.url("")] {
        server.sql("truncate table shop.t");
        let mut extract = Command::new(rlog("rlog-extract").get_program())
            .args(["-q", "--follow", "--confirm", "none", &url])
            .env("HOME", "/nonexistent")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut frames = rlog::frame::FrameReader::new(extract.stdout.take().unwrap());
        let seen = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let seen = &seen;
            scope.spawn(move || {
                while let Ok(Some(frame)) = frames.next() {
                    if frame.kind() == Some(rlog::frame::Kind::Commit) {
                        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
            let now = || seen.load(std::sync::atomic::Ordering::Relaxed);
            let begun = Instant::now();
            while now() == 0 && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
            }
            let before = now();
            for id in 0..400 {
                server.sql(&format!("insert into shop.t values ({id})"));
                std::thread::sleep(Duration::from_millis(4));
            }
            let during = now() - before;
            extract.kill().unwrap();
            extract.wait().unwrap();
            assert!(before > 0 && during >= 100, "{during} of 400 had come when the last was committed");
        });
    }
}

#[test]
fn the_frames_of_a_server_are_those_of_its_files() {
    for name in SERVERS {
        let server = server(name);
        workload(&server);
        let files = of_files(&server, &[]);
        assert_same(name, &files, &frames(&[&server.socket_url("")]));
        assert_same(name, &files, &frames(&[&server.url("")]));

        // Resumed anywhere: by position, by the server's own coordinate, by GTID.
        let positions = positions(&files);
        let middle = &positions[positions.len() / 2];
        assert_same(middle, &of_files(&server, &["--after", middle]), &frames(&["--after", middle, &server.url("")]));
        let last = positions.last().unwrap();
        let gtid = last.rsplit(',').next().unwrap();
        if server.is_mariadb() {
            let of_gtid = frames(&["--after", gtid, &server.url("")]);
            assert!(json(&of_gtid).lines().all(|line| !line.contains("\"kind\":\"commit\"")), "{name} {gtid}");
        }
        let set = match server.is_mariadb() {
            true => middle.rsplit(',').next().unwrap().to_owned(),
            false => {
                let (uuid, number) = middle.rsplit(',').next().unwrap().rsplit_once(':').unwrap();
                format!("{uuid}:1-{number}")
            }
        };
        let after_set = self::positions(&frames(&["--after", &set, &server.url("")]));
        assert_eq!(after_set, positions[positions.len() / 2 + 1..], "{name} {set}");
        let (log, at) = server.log_position();
        assert!(self::positions(&frames(&["--after", &format!("{log}:{at}"), &server.url("")])).is_empty());
        assert!(self::positions(&frames(&["--after", "now", &server.url("")])).is_empty());
    }
}

#[test]
fn copies_of_the_logs_are_exact_also_after_a_cut() {
    for name in SERVERS {
        let server = server(name);
        let folder = scratch();
        let raw = folder.path().join("raw");
        let copy = |options: &[&str]| {
            let raw = raw.display().to_string();
            let url = server.url("");
            frames(&[&["--raw", &raw], options, &[&url]].concat())
        };
        workload(&server);
        copy(&["--until", &server.logs()[1].file_name().map(|name| format!("{}:2000", name.display())).unwrap()]);
        // As a process that was killed leaves it.
        let cut = raw.join("bin.000002");
        let length = std::fs::metadata(&cut).unwrap().len();
        std::fs::File::options().write(true).open(&cut).unwrap().set_len(length / 2).unwrap();
        copy(&[]);
        for log in server.logs() {
            let name = log.file_name().unwrap();
            let (theirs, ours) = (std::fs::read(&log).unwrap(), std::fs::read(raw.join(name)).unwrap());
            assert!(theirs == ours, "{}: {} bytes, {} copied", log.display(), theirs.len(), ours.len());
        }
    }
}

#[test]
fn a_purged_position_is_a_gap_and_a_reset_log_another_source() {
    for name in SERVERS {
        let server = server(name);
        workload(&server);
        let positions = positions(&frames(&[&server.url("")]));
        let _ = server.try_sql("set global slave_connections_needed_for_purge=0");
        server.purge_logs("bin.000003");
        let ran = extract(&["--after", &positions[3], &server.url("")]);
        assert_eq!(ran.status, 81, "{name}: {}", ran.err);
        let gtid = positions[3].rsplit(',').next().unwrap();
        let ran = extract(&["--after", gtid, &server.url("")]);
        assert_eq!(ran.status, 81, "{name}: {}", ran.err);

        let last = positions.last().unwrap();
        // The time in the format description is the log's identity, and it has seconds.
        std::thread::sleep(Duration::from_millis(1100));
        server.sql(if server.is_mariadb() { "reset master" } else { "reset binary logs and gtids" });
        server.sql("insert into shop.other values (7, 7, null)");
        let ran = extract(&["--after", last, &server.url("")]);
        assert_eq!(ran.status, 83, "{name}: {}", ran.err);
        server.flush_logs();
        server.flush_logs();
        server.sql("insert into shop.other values (8, 8, null)");
        let ran = extract(&["--after", last, &server.url("")]);
        assert_eq!(ran.status, 83, "{name}: {}", ran.err);
    }
}

#[test]
fn another_server_is_not_the_one_of_the_position() {
    let (one, two) = (server("mariadb-10.11"), server("mariadb-10.11"));
    for server in [&one, &two] {
        server.sql("create database shop; create table shop.t (id int primary key); insert into shop.t values (1)");
    }
    let positions = positions(&frames(&[&one.url("")]));
    let ran = extract(&["--after", positions.last().unwrap(), &two.url("")]);
    assert_eq!(ran.status, 83, "{}", ran.err);
}

/// A pipeline in the background, in a process group of its own. Its first program leaves its number in `$PID_FILE`.
struct Pipeline(Child, tempfile::TempDir);

impl Pipeline {
    /// `script` as for [`shell`]; `$1`, `$2` … are the arguments.
    fn start(script: &str, arguments: &[&str]) -> Pipeline {
        let program =
            shell("").get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap().to_owned();
        let folder = scratch();
        let child = Command::new("bash")
            .args(["-uo", "pipefail", "-c", script, "bash"])
            .args(arguments)
            .env("PATH", program)
            .env("TZ", "UTC")
            .env("HOME", "/nonexistent")
            .env("PID_FILE", folder.path().join("pid"))
            .env_remove("RLOG_CONFIG")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash runs");
        Pipeline(child, folder)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on a group of our own making.
        unsafe { libc::kill(-(self.0.id() as i32), signal) };
    }

    /// SIGTERM to the first program, which ends the others in order; the exit status.
    fn stop(mut self) -> i32 {
        let pid = std::fs::read_to_string(self.1.path().join("pid")).unwrap();
        // SAFETY: a plain system call; the program is a child that was not waited for.
        unsafe { libc::kill(pid.trim().parse().unwrap(), libc::SIGTERM) };
        self.0.wait().unwrap().code().unwrap_or(-1)
    }

    fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.0.wait();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.0.try_wait().ok().flatten().is_none() {
            self.signal(libc::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

/// Where a queue ends: file number and offset.
fn queued(queue: &Path) -> (u64, u64) {
    let ran = run("rlog-queue", &["last", &queue.display().to_string()]);
    let text = String::from_utf8_lossy(&ran.out).into_owned();
    let place = text.split(',').next().unwrap_or("");
    let parse = || {
        let (file, range) = place.split_once(':')?;
        Some((file.parse().ok()?, range.split_once('-')?.1.parse().ok()?))
    };
    parse().unwrap_or_default()
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let patience_ends = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < patience_ends, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the queue holds everything that the server has logged.
fn wait_until_queued(server: &Server, queue: &Path) {
    let (log, at) = server.log_position();
    let number: u64 = log.rsplit('.').next().unwrap().parse().unwrap();
    // Rotations and the like stand behind the last transaction.
    wait_for(&format!("{log}:{at} is queued"), || {
        let (file, end) = queued(queue);
        file > number || file == number && end + 600 >= at
    });
}

fn assert_equal(source: &Server, target: &str) {
    for table in ["a", "b"] {
        let ran = run("rlog-apply", &["compare", &source.url("shop"), target, "--tables", &format!("shop.{table}")]);
        assert_eq!(ran.status, 0, "{table}: {}{}", String::from_utf8_lossy(&ran.out), ran.err);
    }
}

/// Writes until told to stop; a server that is away is written to again later.
fn load(server: &Server, seconds: u64, mut meanwhile: impl FnMut(u64)) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut number = 0;
    while Instant::now() < until {
        number += 1;
        server.sql(&format!(
            "begin; insert into shop.a values ({number}, repeat('a', {number} % 300)); \
             update shop.b set n = n + 1 where id = {number} % 20; commit"
        ));
        if number % 10 == 0 {
            server.sql(&format!("delete from shop.a where id = {number} - 5"));
        }
        meanwhile(number);
    }
}

const TABLES: &str = "create database shop; create table shop.a (id int primary key, v text); create table shop.b (id int primary key, n int); \
    insert into shop.b select seq, 0 from (select 0 seq union select 1 union select 2 union select 3 union select 4 union select 5 union select 6 \
    union select 7 union select 8 union select 9 union select 10 union select 11 union select 12 union select 13 union select 14 union select 15 \
    union select 16 union select 17 union select 18 union select 19) s";

/// Kill -9 of the whole pipeline, restarts of the server, rotations, purges: then the same command again, and nothing is lost or doubled.
#[test]
fn kills_restarts_and_rotations_lose_and_double_nothing() {
    for name in SERVERS {
        let mut server = server(name);
        server.sql(TABLES);
        let folder = scratch();
        let queue = folder.path().join("spool");
        let url = server.url("");
        let script = "(echo $BASHPID > $PID_FILE; exec rlog-extract -q --follow --connect-retry 200ms --confirm \"$1\" \"$2\") | rlog-queue put --lock-wait 30 \"$1\"";
        let arguments = [queue.to_str().unwrap(), url.as_str()];
        let mut pipeline = Some(Pipeline::start(script, &arguments));
        load(&server, 2, |number| {
            if number % 40 == 0 {
                server.flush_logs();
            }
            if number % 100 == 0 {
                pipeline.take().unwrap().kill();
                pipeline = Some(Pipeline::start(script, &arguments));
            }
        });
        server.sql("truncate table shop.a");
        server.stop();
        server.start();
        load(&server, 1, |_| {});
        server.sql("truncate table shop.a");
        server.kill();
        server.start();
        assert_eq!(url, server.url(""), "the port was free");
        load(&server, 1, |_| {});
        wait_until_queued(&server, &queue);
        assert_eq!(pipeline.take().unwrap().stop(), 0, "{name}");

        let spool = queue.display().to_string();
        let target = format!("sqlite:{}", folder.path().join("replica.db").display());
        let ran = run("rlog-apply", &["run", "-q", "--from", &spool, "--init", "empty", "--create-tables", &target]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.err);
        assert_equal(&server, &target);
        assert_eq!(run("rlog-queue", &["verify", &spool]).status, 0);
    }
}

/// Rows while they change, then the log from exactly there; killed in the middle, and the same command again.
#[test]
fn a_snapshot_under_load_and_the_log_behind_it_make_an_equal_replica() {
    for name in SERVERS {
        let server = server(name);
        server.sql(TABLES);
        server.sql("set @i = 0");
        server.sql("insert into shop.a select -1 - t.id * 10000 - u.id * 100 - v.id, repeat('s', 200) from shop.b t, shop.b u, shop.b v");
        let folder = scratch();
        let queue = folder.path().join("spool");
        let (spool, url) = (queue.display().to_string(), server.url(""));
        let script = "(echo $BASHPID > $PID_FILE; exec rlog-extract -q --follow --snapshot --confirm \"$1\" \"$2\") | rlog-queue put --lock-wait 30 \"$1\"";
        let first = Pipeline::start(script, &[&spool, &url]);
        load(&server, 1, |number| {
            if number == 20 {
                server.flush_logs();
            }
        });
        first.kill();
        server.sql("delete from shop.a where id > 0");
        let second = Pipeline::start(script, &[&spool, &url]);
        load(&server, 2, |_| {});
        wait_until_queued(&server, &queue);
        assert_eq!(second.stop(), 0, "{name}");

        let target = format!("sqlite:{}", folder.path().join("replica.db").display());
        let replica = Server::new(name).start();
        for target in [target, replica.url("")] {
            let ran =
                run("rlog-apply", &["run", "-q", "--from", &spool, "--init", "empty", "--create-tables", &target]);
            assert_eq!(ran.status, 0, "{name} {target}: {}", ran.err);
            assert_equal(&server, &target);
        }
        // The same command again copies nothing anew.
        let again = frames(&["-q", "--snapshot", "--confirm", &spool, &url]);
        assert!(!json(&again).contains("snapshot"), "{name}");
    }
}

/// Every type with its edge values: what a snapshot says of a row is what the log says of it.
#[test]
fn rows_of_a_snapshot_are_those_of_the_log() {
    for name in SERVERS {
        let server = server(name);
        let types = Types::of(&server);
        types.create(&server, "shop");
        types.load(&server, "shop");
        let folder = scratch();
        let target = |kind: &str| format!("sqlite:{}", folder.path().join(kind).display());
        let by_log = shell("rlog-extract -q \"$1\" | rlog-apply run -q --init empty --create-tables \"$2\"")
            .args([&server.url(""), &target("log")])
            .output()
            .unwrap();
        assert!(by_log.status.success(), "{name}: {}", String::from_utf8_lossy(&by_log.stderr));
        let by_rows =
            shell("rlog-extract -q --snapshot \"$1\" | rlog-apply run -q --init empty --create-tables \"$2\"")
                .args([&server.url(""), &target("rows")])
                .output()
                .unwrap();
        assert!(by_rows.status.success(), "{name}: {}", String::from_utf8_lossy(&by_rows.stderr));
        for kind in ["log", "rows"] {
            let ran = run("rlog-apply", &["compare", &server.url("shop"), &target(kind), "--tables", "shop.types"]);
            let out: String = String::from_utf8_lossy(&ran.out).chars().take(2000).collect();
            assert_eq!(ran.status, 0, "{name} {kind}: {out}{}", ran.err);
        }
    }
}

#[test]
fn a_log_without_names_gets_them_from_the_server_as_of_its_time() {
    for name in SERVERS {
        let option = if name.starts_with("mysql") { "MINIMAL" } else { "NO_LOG" };
        let server = builder(name).option(format!("--binlog-row-metadata={option}")).start();
        server.sql(
            "create database shop; create table shop.kept (id int unsigned primary key, word varchar(20)); \
            create table shop.changed (a int primary key, old_name int)",
        );
        // What is created before the first log that is left is known from the server alone.
        server.flush_logs();
        let _ = server.try_sql("set global slave_connections_needed_for_purge=0");
        server.purge_logs("bin.000002");
        server.sql("insert into shop.kept values (4000000000, 'x'); insert into shop.changed values (1, 2)");
        server.sql("alter table shop.changed change old_name new_name int, add column third int");
        server.sql("insert into shop.changed values (3, 4, 5)");
        let lines = json(&frames(&["-q", &server.url("")]));
        let row = |table: &str, index: usize| {
            let rows = lines
                .lines()
                .filter(|line| line.contains("\"kind\":\"row\"") && line.contains(&format!("\"table\":\"{table}\"")));
            let value: serde_json::Value = serde_json::from_str(rows.collect::<Vec<_>>()[index]).unwrap();
            value["after"].to_string()
        };
        assert_eq!(row("kept", 0), r#"{"id":4000000000,"word":"x"}"#, "{name}");
        assert_eq!(row("changed", 0), r#"{"@1":1,"@2":2}"#, "{name}: its definition of that time is not known");
        assert_eq!(row("changed", 1), r#"{"a":3,"new_name":4,"third":5}"#, "{name}");
    }
}

/// An authority and a certificate for 127.0.0.1 that it has signed, as PEM files in `folder`.
fn authority(folder: &Path, name: &str) -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    let file = |kind: &str, text: String| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (file("ca", ca.pem()), file("cert", leaf.pem()), file("key", server_key.serialize_pem()))
}

#[test]
fn tls_checks_who_the_server_is_and_accounts_log_in_by_every_plugin() {
    for name in SERVERS {
        let folder = scratch();
        let (ca, cert, key) = authority(folder.path(), "ours");
        let (other_ca, ..) = authority(folder.path(), "theirs");
        let mut options = vec![format!("--ssl-ca={ca}"), format!("--ssl-cert={cert}"), format!("--ssl-key={key}")];
        if name.starts_with("mariadb") {
            options.push("--plugin-load-add=auth_ed25519".into());
        }
        let server = builder(name).options(options).start();
        server.sql("create database shop; create table shop.t (id int primary key); insert into shop.t values (1)");
        let accounts = match server.is_mariadb() {
            true => {
                vec![("native", "identified by 'secret'"), ("ed", "identified via ed25519 using password('secret')")]
            }
            false => vec![("sha2", "identified with caching_sha2_password by 'secret'")],
        };
        let grants = if server.is_mariadb() { "binlog monitor" } else { "replication client" };
        let defaults = folder.path().join("my.cnf");
        std::fs::write(&defaults, "[client]\npassword=secret\n").unwrap();
        std::fs::set_permissions(&defaults, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let url = |user: &str, query: &str| {
            format!("mysql://{user}@127.0.0.1:{}/?defaults-file={}&{query}", server.port(), defaults.display())
        };
        for (user, identified) in &accounts {
            server.sql(&format!("create user {user}@'%' {identified}"));
            server.sql(&format!("grant replication slave, {grants}, select on *.* to {user}@'%'"));
            for query in [
                // In clear first, while a server's cache does not know the password: the RSA exchange.
                "ssl-mode=disabled",
                "ssl-mode=required",
                &format!("ssl-mode=verify-ca&ssl-ca={ca}"),
                &format!("ssl-mode=verify-identity&ssl-ca={ca}"),
            ] {
                let ran = extract(&["-q", &url(user, query)]);
                assert_eq!(ran.status, 0, "{name} {user} {query}: {}", ran.err);
                assert!(json(&ran.out).contains("\"table\":\"t\""), "{name} {user} {query}");
            }
            // Full authentication over TLS.
            if *user == "sha2" {
                server.sql("flush privileges");
                let ran = extract(&["-q", &url(user, "ssl-mode=required")]);
                assert_eq!(ran.status, 0, "{name}: {}", ran.err);
            }
            for mode in ["verify-ca", "verify-identity"] {
                let ran = extract(&["-q", &url(user, &format!("ssl-mode={mode}&ssl-ca={other_ca}"))]);
                assert_eq!(ran.status, 77, "{name} {user} {mode}: {}", ran.err);
                assert!(ran.err.contains("ssl-ca="), "{}", ran.err);
                // A target's certificate is judged alike: no cron line shall try it again for ever.
                let url = url(user, &format!("ssl-mode={mode}&ssl-ca={other_ca}"));
                let output = rlog("rlog-apply").args(["last", &url]).output().unwrap();
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.code() == Some(77) && text.contains("ssl-ca="), "{name} {user} {mode}: {text}");
            }
            // The certificate is made out for 127.0.0.1.
            let localhost =
                url(user, &format!("ssl-mode=verify-identity&ssl-ca={ca}")).replace("127.0.0.1", "localhost");
            let ran = extract(&["-q", &localhost]);
            assert_eq!(ran.status, 77, "{name} {user}: {}", ran.err);
        }
        std::fs::write(&defaults, "[client]\npassword=wrong\n").unwrap();
        let ran = extract(&["-q", &url(accounts[0].0, "ssl-mode=required")]);
        assert_eq!(ran.status, 77, "{name}: {}", ran.err);
        assert!(!ran.err.contains("wrong"), "{}", ran.err);
    }
}

/// The server waits for a replica's acknowledgement, and gets it only once the queue holds the transaction.
#[test]
fn a_semi_synchronous_server_is_told_what_the_queue_holds() {
    for name in SERVERS {
        let server = server(name);
        server.sql(TABLES);
        let old = server.is_mariadb();
        if old {
            server.sql("set global rpl_semi_sync_master_timeout=20000; set global rpl_semi_sync_master_enabled=1");
        } else {
            server.sql("install plugin rpl_semi_sync_source soname 'semisync_source.so'");
            server.sql("set global rpl_semi_sync_source_timeout=20000; set global rpl_semi_sync_source_enabled=1");
        }
        let prefix = if old { "Rpl_semi_sync_master" } else { "Rpl_semi_sync_source" };
        let status = |what: &str| {
            let text = server.text(&format!("show global status like '{prefix}_{what}'"));
            text.trim().rsplit('\t').next().unwrap_or("").to_owned()
        };
        let folder = scratch();
        let queue = folder.path().join("spool");
        let script = "(echo $BASHPID > $PID_FILE; exec rlog-extract -q --follow --semi-sync --confirm \"$1\" \"$2\") | rlog-queue put --lock-wait 30 \"$1\"";
        let pipeline = Pipeline::start(script, &[queue.to_str().unwrap(), &server.url("")]);
        wait_for("the replica registers", || status("clients") == "1");
        wait_until_queued(&server, &queue);
        let before: u64 = status("yes_tx").parse().unwrap();
        for id in 1..=50 {
            server.sql(&format!("insert into shop.a values ({id}, 'x')"));
        }
        let acknowledged = status("yes_tx").parse::<u64>().unwrap() - before;
        assert!(
            acknowledged >= 50 && status("status") == "ON",
            "{name}: {acknowledged} acknowledged, {}",
            status("no_tx")
        );
        // What the server was told is safe is in the queue.
        let (_, end) = queued(&queue);
        let (_, at) = server.log_position();
        assert!(end + 600 >= at, "{name}: {end} queued, {at} logged");
        assert_eq!(pipeline.stop(), 0, "{name}");
    }
}

#[test]
fn settings_that_endanger_the_promise_are_told_once_and_check_prints_them() {
    let server = Server::new("mariadb-10.11")
        .log_bin()
        .option("--binlog-format=MIXED")
        .option("--binlog-row-image=MINIMAL")
        .option("--sync-binlog=0")
        .start();
    server.sql("create user poor@'%' identified by ''; grant select on *.* to poor@'%'");
    let ran = extract(&["--check", &server.url("")]);
    let out = String::from_utf8_lossy(&ran.out).into_owned();
    assert_eq!(ran.status, 0, "{}", ran.err);
    for word in [
        "binlog_format is mixed",
        "binlog_row_image is minimal",
        "binlog_row_metadata",
        "sync_binlog is 0",
        "bin.000001",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let ran = extract(&[&server.url("")]);
    assert_eq!(ran.err.matches("sync_binlog is 0").count(), 1, "{}", ran.err);
    let ran = extract(&["--check", &format!("mysql://poor@127.0.0.1:{}", server.port())]);
    assert_eq!(ran.status, 77, "{}{}", ran.err, String::from_utf8_lossy(&ran.out));
    assert!(ran.err.contains("REPLICATION SLAVE"), "{}", ran.err);
}

/// The server dies for good; its replica has everything and goes on. Another one that lacks something is refused.
#[test]
fn a_successor_goes_on_if_it_has_everything() {
    for name in SERVERS {
        let updates = if name.starts_with("mysql") { "--log-replica-updates=ON" } else { "--log-slave-updates=ON" };
        let mut primary = server(name);
        let replica = builder(name).option(updates).option("--binlog-row-metadata=FULL").start();
        let stranger = builder(name).option(updates).start();
        if primary.is_mariadb() {
            replica.sql(&format!(
                "change master to master_host='127.0.0.1', master_port={}, master_user='root', master_use_gtid=slave_pos, master_connect_retry=1; start slave",
                primary.port()
            ));
        } else {
            replica.sql(&format!(
                "change replication source to source_host='127.0.0.1', source_port={}, source_user='root', source_auto_position=1, source_connect_retry=1, \
                 get_source_public_key=1; start replica",
                primary.port()
            ));
        }
        // Further logs of its own: its positions are not the primary's.
        replica.flush_logs();
        primary.sql(TABLES);
        primary.sql("insert into shop.a values (1, 'before')");
        wait_for("the replica has it", || {
            replica.try_sql("select 1 from shop.a where id = 1").is_ok()
                && !replica.text("select 1 from shop.a where id = 1").is_empty()
        });
        let folder = scratch();
        let queue = folder.path().join("spool");
        let spool = queue.display().to_string();
        let script = "(echo $BASHPID > $PID_FILE; exec rlog-extract --follow --connect-retry 100ms --retry-count 3 --handover \"$3\" --confirm \"$1\" \"$2\" 2>\"$1.err\") | rlog-queue put --lock-wait 30 \"$1\"";
        let refused = Pipeline::start(script, &[&spool, &primary.url(""), &stranger.url("")]);
        wait_until_queued(&primary, &queue);
        let errors = || std::fs::read_to_string(folder.path().join("spool.err")).unwrap_or_default();
        let held = queued(&queue);
        primary.kill();
        wait_for("the stranger is refused", || errors().contains("another history"));
        drop(refused);
        assert_eq!(queued(&queue), held, "{name}");

        primary.start();
        let pipeline = Pipeline::start(script, &[&spool, &primary.url(""), &replica.url("")]);
        wait_until_queued(&primary, &queue);
        primary.sql("insert into shop.a values (2, 'last words')");
        wait_until_queued(&primary, &queue);
        wait_for("the replica has it", || !replica.text("select 1 from shop.a where id = 2").is_empty());
        primary.kill();
        replica.sql(if replica.is_mariadb() {
            "stop slave; reset slave all"
        } else {
            "stop replica; reset replica all"
        });
        replica.sql("insert into shop.a values (3, 'after')");
        let json_of_queue = || {
            let ran = run("rlog-dump", &["--format", "json", &spool]);
            String::from_utf8_lossy(&ran.out).into_owned()
        };
        wait_for("what the successor did is queued", || json_of_queue().contains("after\"}"));
        assert_eq!(pipeline.stop(), 0, "{name}: {}", errors());
        // The same command again, behind the handover.
        let again = Pipeline::start(script, &[&spool, &primary.url(""), &replica.url("")]);
        replica.sql("insert into shop.a values (4, 'and on')");
        wait_for("it goes on behind the handover", || json_of_queue().contains("and on\"}"));
        assert_eq!(again.stop(), 0, "{name}: {}", errors());
        let target = format!("sqlite:{}", folder.path().join("replica.db").display());
        let ran = run("rlog-apply", &["run", "-q", "--from", &spool, "--init", "empty", "--create-tables", &target]);
        assert_eq!(ran.status, 0, "{name}: {}", ran.err);
        assert_equal(&replica, &target);
    }
}
