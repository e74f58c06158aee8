//! What the options of rlog-ship and of a key's line promise: limits, compression, heartbeats and deadlines.
//!
//! A limit is seen from below: what it holds back cannot have come earlier. Nothing here fails because a machine is slow.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::common::rlog;
use crate::cuts::Proxy;
use crate::hosts::{Hosts, SHIP, held, stream};

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A push in the background; killed when it goes out of scope.
struct Push(Child);

impl Push {
    fn start(hosts: &Hosts, port: u16, arguments: &[&str]) -> Push {
        let mut command = Command::new(SHIP);
        command.args(["push", "--to", &format!("tls://127.0.0.1:{port}"), "--connect-retry", "20ms"]);
        command.args(hosts.identity()).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        Push(command.spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rate_is_kept_whoever_asks_for_it() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100_000; 8]);
    hosts.fill("near", &bytes);
    let near = hosts.path("near").display().to_string();
    // 800 KB at 1 MB/s; a tenth of a second's worth may come at once, and a piece of 64 KiB is paid for behind it.
    let least = Duration::from_millis(500);
    let timed = |server: &crate::hosts::Server, options: &[&str], channel: &str| {
        let begun = Instant::now();
        hosts.push(server.port).args(options).args(["--channel", channel, &near]).assert().success();
        assert_eq!(held(&hosts.path("far"), channel), sent);
        begun.elapsed()
    };
    // Channels of the far side; the near queue has the default one.
    let server = hosts.serve(&[]);
    let fill = |channel: &str| {
        let mut put = rlog("rlog-queue");
        put.args(["put", "--channel", channel, &near]).write_stdin(&bytes[..]).assert().success();
    };
    ["a", "b", "c"].iter().for_each(|channel| fill(channel));
    let client = timed(&server, &["--rate-limit", "1M"], "a");
    assert!(client >= least, "{client:?}");
    drop(server);
    let server = hosts.serve(&["--rate-limit", "1M"]);
    let by_server = timed(&server, &[], "b");
    assert!(by_server >= least, "{by_server:?}");
    drop(server);
    hosts.authorize(&format!("rate-limit=\"1M\" {}", hosts.client_line));
    let server = hosts.serve(&["--rate-limit", "1G"]);
    let by_key = timed(&server, &[], "c");
    assert!(by_key >= least, "{by_key:?}");
}

/// The writer waits while the channel is too large, and goes on when what readers have acknowledged is purged. Nothing is dropped.
#[test]
fn a_space_limit_holds_back_and_drops_nothing() {
    let hosts = Hosts::new();
    hosts.authorize(&format!("space-limit=\"150K\" {}", hosts.client_line));
    let server = hosts.serve(&["--segment-size", "64K"]);
    let (bytes, sent) = stream([50_000; 12]);
    hosts.fill("near", &bytes);
    let far = hosts.path("far");
    let near = hosts.path("near").display().to_string();
    let mut push = Push::start(&hosts, server.port, &[&near]);
    until("something arrives", || far.exists() && !hosts.held("far").is_empty());
    // It stands still: the limit, and what one transaction may exceed it by.
    let mut before = 0;
    until("it is held back", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = hosts.held("far").len();
        std::mem::replace(&mut before, now) == now
    });
    assert!(before < 6 && !push.has_ended(), "{before} of {}", sent.len());
    let status = rlog("rlog-queue").arg("status").arg(&far).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("space-limit"), "{status:?}");
    let mut seen = BTreeSet::new();
    until("it goes on to the end", || {
        for transaction in hosts.held("far") {
            seen.insert(transaction.position.to_string());
        }
        let mut ack = rlog("rlog-queue");
        ack.arg("ack").arg(&far).args([hosts.last("far").trim(), "--reader", "r"]).assert().success();
        push.has_ended()
    });
    assert_eq!(push.0.wait().unwrap().code(), Some(0));
    seen.extend(hosts.held("far").iter().map(|transaction| transaction.position.to_string()));
    assert_eq!(hosts.last("far").trim(), sent.last().unwrap().position.to_string());
    let missing = sent.iter().filter(|transaction| !seen.contains(&transaction.position.to_string())).count();
    // Between two looks some may have come and gone: what was purged had been acknowledged, so it had been seen but for those.
    assert!(missing < sent.len() / 2, "{missing}");
    rlog("rlog-queue").arg("verify").arg(&far).assert().success();
}

#[test]
fn less_free_space_than_asked_for_is_75_and_nothing_is_begun() {
    let hosts = Hosts::new();
    let server = hosts.serve(&["--min-free", "1000000G"]);
    let (bytes, sent) = stream([100]);
    let cursor = hosts.path("cursor");
    let mut push = hosts.push(server.port);
    push.args(["--retry-count", "0", "--cursor"]).arg(&cursor).write_stdin(&bytes[..]);
    push.assert().code(75).stderr(contains("are to be kept"));
    assert!(hosts.held("far").is_empty() && !cursor.exists());
    drop(server);
    let server = hosts.serve(&[]);
    let mut push = hosts.push(server.port);
    push.arg("--cursor").arg(&cursor).write_stdin(&bytes[..]).assert().success();
    assert_eq!(hosts.held("far"), sent);
}

/// The server's queue lies on a file system of 512 KiB of its own.
#[test]
fn a_full_disk_over_there_is_75_and_loses_nothing() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100_000; 12]);
    let (disk, grow, log) = (hosts.path("disk"), hosts.path("grow"), hosts.path("disk.log"));
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size=512k tmpfs "$1" && { "$2" serve -v --listen 127.0.0.1:0 --min-free 0 --key "$3" --authorized-keys "$4" "$1/far" 2>"$5" &
        while [ ! -e "$6" ] && kill -0 $!; do sleep 0.05; done; mount -o remount,size=8m "$1"; wait; }"#;
    let mut serve = Command::new("unshare");
    serve.args(["-Urm", "bash", "-c", script, "bash"]).arg(&disk).arg(SHIP).arg(hosts.path("server.key"));
    serve.arg(hosts.path("authorized_keys")).arg(&log).arg(&grow).env_remove("RLOG_CONFIG").stdin(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut serve, 0);
    struct Group(Child);
    impl Drop for Group {
        fn drop(&mut self) {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.0.wait();
        }
    }
    let _serve = Group(serve.spawn().unwrap());
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it listens", || said().contains("listening on "));
    let port: u16 =
        said().split_once("127.0.0.1:").unwrap().1.split(',').next().unwrap().parse().expect("the port that was told");
    let cursor = hosts.path("cursor");
    let push = || {
        let mut push = hosts.push(port);
        push.args(["--retry-count", "1", "--cursor"]).arg(&cursor).write_stdin(&bytes[..]);
        push
    };
    push().assert().code(75).stderr(contains("No space left"));
    let pulled = || {
        let output = hosts.pull(port).arg("-").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        crate::common::streams::transactions(&output.stdout)
    };
    std::fs::write(&grow, "").unwrap();
    let mut first = Vec::new();
    until("there is room", || {
        let output = hosts.pull(port).args(["--retry-count", "0", "-"]).output().unwrap();
        if output.status.success() {
            first = crate::common::streams::transactions(&output.stdout);
        }
        output.status.success()
    });
    assert!(!first.is_empty() && first.len() < sent.len() && first == sent[..first.len()], "{}", first.len());
    // What was reported as safe is there.
    let safe = std::fs::read_to_string(&cursor).unwrap_or_default();
    assert!(safe.is_empty() || first.iter().any(|seen| seen.position.to_string() == safe.trim()), "{safe}");
    push().assert().success();
    assert_eq!(pulled(), sent);
}

#[test]
fn a_key_may_have_so_many_connections() {
    let hosts = Hosts::new();
    hosts.authorize(&format!("connections=\"1\" {}", hosts.client_line));
    let server = hosts.serve(&[]);
    let (bytes, _) = stream([100]);
    hosts.fill("near", &bytes);
    let near = hosts.path("near").display().to_string();
    let push = Push::start(&hosts, server.port, &["--follow", &near]);
    until("it arrives", || hosts.path("far").exists() && hosts.held("far").len() == 1);
    let second = || {
        let mut second = hosts.push(server.port);
        second.args(["--retry-count", "0", "--channel", "other"]).write_stdin(&bytes[..]);
        second
    };
    second().assert().code(75).stderr(contains("connections"));
    drop(push);
    until("the place is free", || second().output().unwrap().status.success());
}

/// A transaction that is larger than what is kept in memory waits in a file, and is sent again from there.
#[test]
fn what_does_not_fit_into_memory_is_spilled_and_sent_again() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let port = server.port;
    let (bytes, sent) = stream([100, 48 << 20, 100]);
    let mut push = Push(
        Command::new(SHIP)
            .args([
                "push",
                "--to",
                &format!("tls://127.0.0.1:{port}"),
                "--connect-retry",
                "20ms",
                "--rate-limit",
                "40M",
            ])
            .args(hosts.identity())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut stdin = push.0.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes).unwrap());
    until("the first arrives", || hosts.path("far").exists() && !hosts.held("far").is_empty());
    drop(server); // -9, inside the large one
    let _server = hosts.serve_at(port, &[]);
    let mut peak = 0;
    until("all of it arrives", || {
        peak = peak.max(crate::common::memory_kib(push.0.id(), "VmHWM"));
        push.has_ended()
    });
    feeder.join().unwrap();
    assert_eq!(push.0.wait().unwrap().code(), Some(0));
    assert!(hosts.held("far") == sent);
    assert!(peak > 0 && peak < 46 << 10, "{peak} KiB");
}

#[test]
fn compression_is_used_in_both_directions_and_only_where_asked_for() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let (bytes, sent) = stream([400_000, 400_000]);
    let passed = |push: bool, channel: &str, options: &[&str]| {
        let proxy = Proxy::start(server.port);
        let mut command = if push { hosts.push(proxy.port) } else { hosts.pull(proxy.port) };
        command.args(options);
        if push {
            command.args(["--channel", channel]).write_stdin(&bytes[..]).assert().success();
        } else {
            let output = command.args(["--channel", channel, "-"]).output().unwrap();
            assert_eq!(crate::common::streams::transactions(&output.stdout), sent);
        }
        proxy.passed().0
    };
    let (plain, packed) = (passed(true, "a", &[]), passed(true, "b", &["--compress=3"]));
    assert!(plain > 800_000 && packed < plain / 4, "{plain} {packed}");
    assert_eq!(held(&hosts.path("far"), "b"), sent);
    let (plain, packed) = (passed(false, "a", &[]), passed(false, "a", &["--compress"]));
    assert!(plain > 800_000 && packed < plain / 4, "{plain} {packed}");
    hosts.push(server.port).args(["--compress=99"]).write_stdin(&bytes[..]).assert().code(64);
}

/// Nothing to send for several time-outs: heartbeats keep the connection, and it is the same one that carries on.
#[test]
fn a_connection_at_rest_is_kept_by_heartbeats() {
    let hosts = Hosts::new();
    let server = hosts.serve(&["--net-timeout", "2"]);
    let proxy = Proxy::start(server.port);
    let (first, _) = stream([100]);
    hosts.fill("near", &first);
    let near = hosts.path("near").display().to_string();
    let _push = Push::start(&hosts, proxy.port, &["--follow", "--net-timeout", "2", &near]);
    until("the first arrives", || hosts.path("far").exists() && hosts.held("far").len() == 1);
    std::thread::sleep(Duration::from_secs(5));
    let (more, _) = stream([100, 200]);
    hosts.fill("near", &more);
    until("the second arrives", || hosts.held("far").len() == 2);
    assert_eq!(proxy.passed().1, 1, "{}", server.log());
}

#[test]
fn who_connects_and_says_nothing_is_cut_off() {
    let hosts = Hosts::new();
    let server = hosts.serve(&["--handshake-timeout", "200ms"]);
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut bytes = Vec::new();
    // The end, or a reset; a time-out would be an error of another kind.
    if let Err(error) = socket.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(bytes.len() < 16, "{bytes:?}");
}

#[test]
fn a_server_that_is_away_is_tried_again_so_often_and_then_75() {
    let hosts = Hosts::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (bytes, sent) = stream([100]);
    let mut push = hosts.push(port);
    push.args(["--retry-count", "2"]).write_stdin(&bytes[..]).assert().code(75).stderr(contains("refused"));
    // One that comes while it is tried is found.
    hosts.fill("near", &bytes);
    let near = hosts.path("near").display().to_string();
    let mut push = Push::start(&hosts, port, &["--retry-count", "1000", &near]);
    std::thread::sleep(Duration::from_millis(100));
    let _server = hosts.serve_at(port, &[]);
    assert_eq!(push.0.wait().unwrap().code(), Some(0));
    assert_eq!(hosts.held("far"), sent);
}
