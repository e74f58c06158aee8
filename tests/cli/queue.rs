//! rlog-queue as users run it.

use std::io::Write as _;
use std::path::PathBuf;

use predicates::str::contains;

use crate::common::rlog;
use crate::common::streams::{Stream, transactions};

fn queue(verb: &str, spool: &PathBuf) -> assert_cmd::Command {
    let mut command = rlog("rlog-queue");
    command.arg(verb).arg(spool);
    command
}

fn log() -> (Stream, Vec<u8>) {
    let mut stream = Stream::new();
    for size in [10, 3000, 0, 400] {
        stream.transaction(size);
    }
    let bytes = stream.end();
    (stream, bytes)
}

fn filled() -> (tempfile::TempDir, PathBuf, Stream, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let (stream, bytes) = log();
    queue("put", &spool).write_stdin(bytes.clone()).assert().success().stdout("").stderr("");
    (folder, spool, stream, bytes)
}

#[test]
fn get_gives_what_put_took_and_last_names_its_end() {
    let (_folder, spool, stream, bytes) = filled();
    let output = queue("get", &spool).assert().success().get_output().stdout.clone();
    assert_eq!(transactions(&output), transactions(&bytes));
    let last = format!("{}\n", stream.transactions[3]);
    queue("last", &spool).assert().success().stdout(last);
    // What get writes can be put elsewhere.
    let copy = spool.with_file_name("copy");
    queue("put", &copy).write_stdin(output).assert().success();
    let again = queue("get", &copy).assert().success().get_output().stdout.clone();
    assert_eq!(transactions(&again), transactions(&bytes));
}

/// A source waits for what is told to be durable before it lets anything go on, perhaps, so that may not wait for what comes next.
#[test]
fn what_fills_a_segment_is_durable_for_all_while_nothing_follows() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let (stream, bytes) = log();
    let mut put = std::process::Command::new(env!("CARGO_BIN_EXE_rlog-queue"))
        .args(["put", "--segment-size", "1"])
        .arg(&spool)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = put.stdin.take().unwrap();
    input.write_all(&bytes).unwrap();
    let expected = format!("{}\n", stream.transactions[3]);
    let mut last = String::new();
    for _ in 0..600 {
        last = String::from_utf8(queue("last", &spool).output().unwrap().stdout).unwrap();
        if last == expected {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(input);
    assert!(put.wait().unwrap().success());
    assert_eq!(last, expected);
    queue("verify", &spool).assert().success();
}

#[test]
fn get_starts_and_stops_where_it_is_told() {
    let (_folder, spool, stream, _) = filled();
    let part = |options: &[String]| {
        let output = queue("get", &spool).args(options).assert().success().get_output().stdout.clone();
        transactions(&output).iter().map(|seen| seen.data.len()).collect::<Vec<_>>()
    };
    let position = |number: usize| stream.transactions[number].to_string();
    assert_eq!(part(&["--after".into(), position(0)]), [3000, 0, 400]);
    assert_eq!(part(&["--after".into(), position(0), "--until".into(), position(2)]), [3000, 0]);
    assert_eq!(part(&["--follow".into(), "--until".into(), position(1)]), [10, 3000]);
    let place = format!("mysql-bin.000001:{}", stream.transactions[1].end.offset());
    assert_eq!(part(&["--after".into(), place]), [0, 400]);
    queue("get", &spool).args(["--after", ""]).assert().code(64);
    queue("get", &spool).args(["--after", "nonsense"]).assert().code(64);
}

#[test]
fn an_empty_queue_exits_1_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    queue("put", &spool).write_stdin("").assert().code(75);
    queue("last", &spool).assert().code(1).stdout("").stderr("");
    queue("get", &spool).assert().code(1).stdout("").stderr("");
}

#[test]
fn a_mistyped_path_is_not_made_a_queue() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("precious"), "data").unwrap();
    let here = folder.path().to_owned();
    queue("put", &here).write_stdin(log().1).assert().code(78).stderr(contains("not a queue"));
    queue("put", &here.join("a/b")).write_stdin(log().1).assert().code(66);
    for verb in ["get", "last", "status", "verify", "purge", "channels", "reset", "upgrade"] {
        queue(verb, &here.join("spool")).assert().code(66);
        queue(verb, &here).assert().code(66);
    }
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 1);
    rlog("rlog-queue").args(["status", "nats://127.0.0.1:1/stream"]).assert().code(75);
    rlog("rlog-queue").args(["status", "sqlite:q.db"]).current_dir(&here).assert().code(66);
    rlog("rlog-queue").args(["status", "mysql://host/"]).assert().code(64);
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 1);
}

#[test]
fn a_gap_names_the_next_command() {
    let (_folder, spool, stream, _) = filled();
    let mut beyond = Stream::at(rlog::frame::Coordinate(stream.at.0 + 1));
    let hint = format!("rlog-extract --after \"$(rlog-queue last {0})\" SOURCE | rlog-queue put {0}", spool.display());
    queue("put", &spool).write_stdin(beyond.transaction(1).end()).assert().code(81).stderr(contains(hint));
}

#[test]
fn put_ends_with_the_status_of_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut stream = Stream::new();
    let bytes = stream.transaction(5).abort(82);
    queue("put", &folder.path().join("spool")).write_stdin(bytes).assert().code(82).stderr(contains("it broke"));
}

#[test]
fn pass_writes_on_what_it_read_and_the_cursor_and_metrics_tell_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (stream, bytes) = log();
    let (cursor, metrics) = (folder.path().join("cursor"), folder.path().join("metrics"));
    let output = queue("put", &folder.path().join("spool"))
        .arg("--pass")
        .arg("--cursor")
        .arg(&cursor)
        .arg("--metrics-file")
        .arg(&metrics)
        .write_stdin(bytes.clone())
        .assert()
        .success();
    assert!(output.get_output().stdout == bytes);
    assert_eq!(std::fs::read_to_string(cursor).unwrap(), format!("{}\n", stream.transactions[3]));
    let metrics = std::fs::read_to_string(metrics).unwrap();
    assert!(metrics.contains("rlog_queue_transactions_total{channel=\"default\"} 4\n"), "{metrics}");
}

#[test]
fn readers_are_registered_acknowledge_and_are_shown() {
    let (_folder, spool, stream, _) = filled();
    queue("ack", &spool).args(["oldest", "--reader", "one"]).assert().success();
    queue("ack", &spool).args([&stream.transactions[1].to_string(), "--reader", "Two"]).assert().success();
    let mut foreign = stream.transactions[1].clone();
    foreign.digest ^= 1;
    queue("ack", &spool).args([&foreign.to_string(), "--reader", "three"]).assert().code(83);
    let output = queue("status", &spool).arg("--json").assert().success().get_output().stdout.clone();
    let status: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(status["channel"], "default");
    assert_eq!(status["sequence"], 4);
    assert_eq!(status["position"], stream.transactions[3].to_string());
    let readers = status["readers"].as_array().unwrap();
    assert_eq!(readers.len(), 2);
    assert_eq!((&readers[0]["name"], &readers[0]["behind"]), (&"one".into(), &4.into()));
    assert_eq!((&readers[1]["name"], &readers[1]["behind"]), (&"two".into(), &2.into()));
    queue("status", &spool).assert().success().stdout(contains("reader       two"));
    queue("get", &spool).args(["--reader", "two"]).assert().success();
    queue("reset", &spool).args(["--reader", "two"]).assert().success();
    queue("status", &spool).assert().success().stdout(contains("two").count(0));
}

#[test]
fn channels_are_listed_and_one_is_reset_alone() {
    let (_folder, spool, _, bytes) = filled();
    queue("put", &spool).args(["--channel", "Shop"]).write_stdin(bytes).assert().success();
    queue("channels", &spool).assert().success().stdout("default\nshop\n");
    queue("reset", &spool).args(["--channel", "shop"]).assert().success();
    queue("last", &spool).args(["--channel", "shop"]).assert().code(1);
    queue("last", &spool).assert().success();
    queue("put", &spool).args(["--channel", "../x"]).write_stdin("").assert().code(64);
}

#[test]
fn check_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    queue("put", &spool).arg("--check").assert().success().stdout(contains("would be created"));
    assert!(!spool.exists());
    let (_folder, spool, ..) = filled();
    queue("put", &spool).arg("--check").assert().success().stdout(contains("position"));
}

#[test]
fn verify_names_file_and_byte_of_every_error() {
    let (_folder, spool, ..) = filled();
    queue("verify", &spool).assert().success().stdout("").stderr("");
    let segment = spool.join("default/0000000000000001.rlog");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&segment, bytes).unwrap();
    queue("verify", &spool).assert().code(65).stderr(contains("0000000000000001.rlog: byte "));
    queue("get", &spool).assert().code(65).stderr(contains("0000000000000001.rlog: byte "));
}

#[test]
fn a_locked_channel_is_75_and_lock_wait_waits() {
    use rlog::queue::{self as library, Address, WriterOptions};
    let (_folder, spool, _, bytes) = filled();
    let open =
        library::open(std::sync::Arc::new(rlog::sys::Os), &Address::Dir(spool.clone()), "default", false).unwrap();
    let writer = open.writer(&WriterOptions::default()).unwrap();
    queue("put", &spool).write_stdin(bytes.clone()).assert().code(75).stderr(contains("--lock-wait"));
    queue("put", &spool).args(["--lock-wait", "20ms"]).write_stdin(bytes.clone()).assert().code(75);
    queue("last", &spool).assert().success();
    drop(writer);
    queue("put", &spool).write_stdin(bytes).assert().success();
}
