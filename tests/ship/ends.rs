//! From end to end: what is pushed and pulled arrives, once, and is acknowledged where it should be.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::common::streams::{Stream, transactions};
use crate::common::{rlog, shell};
use crate::hosts::{Hosts, SHIP, held, stream};

/// Waits until `done` holds.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn standard_input_arrives_and_repeats_change_nothing() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let (bytes, sent) = stream((0..50).map(|n| n * 300));
    let cursor = hosts.path("cursor");
    for _ in 0..2 {
        hosts
            .push(server.port)
            .arg("--cursor")
            .arg(&cursor)
            .write_stdin(&bytes[..])
            .assert()
            .success()
            .stdout("")
            .stderr("");
        assert_eq!(hosts.held("far"), sent);
        assert_eq!(std::fs::read_to_string(&cursor).unwrap(), hosts.last("far"));
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_queue_arrives_is_acknowledged_and_goes_on() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let (first, _) = stream([100, 200, 300]);
    hosts.fill("near", &first);
    hosts.push(server.port).arg(hosts.path("near")).assert().success().stdout("").stderr("");
    assert_eq!(hosts.held("far"), hosts.held("near"));
    let (more, _) = stream([100, 200, 300, 400, 5_000_000, 7]);
    hosts.fill("near", &more);
    hosts.push(server.port).arg("--compress").arg(hosts.path("near")).assert().success();
    assert_eq!(hosts.held("far"), hosts.held("near"));
    let reader = format!("push-127-0-0-1-{}", server.port);
    let status = rlog("rlog-queue").args(["status", "--json"]).arg(hosts.path("near")).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["readers"][0]["name"], reader.as_str());
    assert_eq!(status["readers"][0]["behind"], 0);
}

#[test]
fn a_queue_is_pulled_into_another_and_to_standard_output() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100, 0, 70_000, 300]);
    hosts.fill("far", &bytes);
    let server = hosts.serve(&[]);
    for _ in 0..2 {
        hosts.pull(server.port).arg("--compress").arg(hosts.path("near")).assert().success().stdout("").stderr("");
        assert_eq!(hosts.held("near"), sent);
    }
    let output = hosts.pull(server.port).arg("-").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(transactions(&output.stdout), sent);
    // Only what can acknowledge makes the server keep something.
    let status = rlog("rlog-queue").args(["status", "--json"]).arg(hosts.path("far")).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["readers"].as_array().unwrap().len(), 1);
    assert_eq!(status["readers"][0]["behind"], 0);
}

#[test]
fn standard_output_goes_on_where_the_cursor_says() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100, 200, 300, 400]);
    hosts.fill("far", &bytes);
    let server = hosts.serve(&[]);
    let cursor = hosts.path("cursor");
    std::fs::write(&cursor, format!("{}\n", sent[1].position)).unwrap();
    let output = hosts.pull(server.port).arg("-").arg("--cursor").arg(&cursor).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(transactions(&output.stdout), sent[2..]);
    // What was only written to a pipe is not safe.
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), format!("{}\n", sent[1].position));
}

#[test]
fn following_carries_what_comes_and_a_signal_ends_it_well() {
    let hosts = Hosts::new();
    let (first, _) = stream([100, 200]);
    hosts.fill("near", &first);
    let server = hosts.serve(&[]);
    let mut push = Command::new(SHIP)
        .args(["push", "--follow", "--to", &format!("tls://127.0.0.1:{}", server.port)])
        .args(hosts.identity())
        .arg(hosts.path("near"))
        .spawn()
        .unwrap();
    until("the first arrive", || hosts.path("far").exists() && hosts.held("far").len() == 2);
    let mut pull = Command::new(SHIP)
        .args(["pull", "--follow", "--connect-retry", "20ms", "--from", &format!("tls://127.0.0.1:{}", server.port)])
        .args(hosts.identity())
        .arg(hosts.path("third"))
        .spawn()
        .unwrap();
    let (more, sent) = stream([100, 200, 300, 400]);
    hosts.fill("near", &more);
    until("more arrive", || hosts.held("far").len() == 4);
    until("and go on to the third", || hosts.path("third").exists() && hosts.held("third").len() == 4);
    for child in [&mut push, &mut pull] {
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(hosts.held("third"), sent);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn the_first_page_of_the_design_works_with_a_real_log() {
    let Some(corpus) = crate::common::corpus() else { return };
    let log = corpus.join("logs/JanJakes+mylite-mariadb/mariadb/mysql-test/std_data/mariadb-5.5-binlog.000001");
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let script = r#"cd "$1"; rlog-extract -q --confirm @push.cursor --log-name bin.000001 "$2" |
        rlog-ship push --cursor push.cursor --to "$3" --key client.key --server-key "$4""#;
    let line = || {
        let mut line = shell(script);
        line.arg(hosts.folder.path()).arg(&log).arg(format!("tls://127.0.0.1:{}", server.port));
        line.arg(crate::hosts::key_of(&hosts.server_line));
        line
    };
    line().assert().success().stdout("").stderr("");
    let last = hosts.last("far");
    assert_eq!(std::fs::read_to_string(hosts.path("push.cursor")).unwrap(), last);
    line().assert().success().stdout("").stderr("");
    assert_eq!(hosts.last("far"), last);
}

#[test]
fn errors_travel_down_the_pipe_and_what_is_whole_is_safe() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let mut failed = Stream::new();
    failed.transaction(100).transaction(200).open(300);
    let whole = transactions(&{
        let mut two = Stream::new();
        two.transaction(100).transaction(200);
        two.end()
    });
    hosts.push(server.port).write_stdin(failed.abort(81)).assert().code(81).stderr(contains("it broke"));
    assert_eq!(hosts.held("far"), whole);
    // An abort may come before any stream; a stream that just stops has lost its writer.
    let mut alone = rlog::frame::FrameWriter::new();
    let abort = rlog::frame::Abort { status: 66, message: "no such log".into(), ..Default::default() };
    alone.frame(rlog::frame::Kind::Abort, |payload| abort.encode(payload));
    hosts.push(server.port).write_stdin(alone.bytes()).assert().code(66).stderr(contains("no such log"));
    hosts.push(server.port).write_stdin("").assert().code(75);
    let mut stopped = Stream::new();
    let bytes = stopped.transaction(100).transaction(200).transaction(5).bytes();
    hosts.push(server.port).write_stdin(&bytes[..bytes.len() - 3]).assert().code(75).stderr(contains("writer died"));
    assert_eq!(hosts.held("far"), whole);
    let mut damaged = stopped.end();
    let at = damaged.len() - 20;
    damaged[at] ^= 1;
    hosts.push(server.port).write_stdin(&damaged[..]).assert().code(65);
    assert_eq!(hosts.held("far").len(), 3);
}

#[test]
fn a_gap_and_another_source_come_back_with_their_statuses() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let mut first = Stream::new();
    hosts.push(server.port).write_stdin(first.transaction(100).end()).assert().success();
    let mut later = Stream::at(rlog::frame::Coordinate(first.at.0 + 500));
    hosts.push(server.port).write_stdin(later.transaction(1).end()).assert().code(81).stderr(contains("missing"));
    let start = rlog::frame::Coordinate::new(1, 4).unwrap();
    let mut other = Stream::with(start, rlog::frame::Incarnation::new(99, 1), |_| {});
    hosts.push(server.port).write_stdin(other.transaction(1).end()).assert().code(83).stderr(contains("incarnation"));
    // The same place with other evidence.
    let mut twisted = Stream::new();
    twisted.open(100).commit(rlog::frame::Kind::Commit, 7);
    hosts.push(server.port).write_stdin(twisted.end()).assert().code(83);
    assert_eq!(hosts.held("far").len(), 1);
}

#[test]
fn a_queue_that_lost_what_it_confirmed_is_refused() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let cursor = hosts.path("cursor");
    let (bytes, _) = stream([1, 2, 3]);
    hosts.push(server.port).arg("--cursor").arg(&cursor).write_stdin(&bytes[..]).assert().success();
    rlog("rlog-queue").arg("reset").arg(hosts.path("far")).assert().success();
    let before = std::fs::read(&cursor).unwrap();
    hosts.push(server.port).arg("--cursor").arg(&cursor).write_stdin(&bytes[..]).assert().code(81);
    assert_eq!(std::fs::read(&cursor).unwrap(), before);
}

#[test]
fn channels_share_a_listener() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let (a, seen_a) = stream([10, 20]);
    let (b, seen_b) = stream([30]);
    hosts.push(server.port).args(["--channel", "A"]).write_stdin(&a[..]).assert().success();
    let mut other = rlog("rlog-ship");
    other.args(["push", "--to", &format!("tls://127.0.0.1:{}/b", server.port)]).args(hosts.identity());
    other.write_stdin(&b[..]).assert().success();
    assert_eq!(held(&hosts.path("far"), "a"), seen_a);
    assert_eq!(held(&hosts.path("far"), "b"), seen_b);
}

#[test]
fn a_server_that_is_restarted_is_found_again() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    let port = server.port;
    let (bytes, sent) = stream((0..40).map(|n| n * 100));
    let mut push = Command::new(SHIP)
        .args(["push", "--connect-retry", "20ms", "--to", &format!("tls://127.0.0.1:{port}")])
        .args(hosts.identity())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    stdin.write_all(first).unwrap();
    until("something arrives", || hosts.path("far").exists() && !hosts.held("far").is_empty());
    assert_eq!(server.stop(), Some(0));
    let _server = hosts.serve_at(port, &[]);
    stdin.write_all(rest).unwrap();
    drop(stdin);
    assert_eq!(push.wait().unwrap().code(), Some(0));
    assert_eq!(hosts.held("far"), sent);
}

#[test]
fn check_tells_and_changes_nothing() {
    let hosts = Hosts::new();
    let server = hosts.serve(&[]);
    hosts.push(server.port).arg("--check").assert().success().stdout(contains("there        none"));
    assert!(!hosts.path("far").exists());
    let (bytes, _) = stream([1]);
    hosts.fill("far", &bytes);
    let output = hosts.pull(server.port).args(["--check", "--json"]).arg(hosts.path("near")).output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(format!("{}\n", object["there"].as_str().unwrap()), hosts.last("far"));
    assert!(!hosts.path("near").exists());
}
