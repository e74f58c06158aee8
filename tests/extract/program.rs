//! The program: exit statuses, pipes, signals, output.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use predicates::str::contains;
use rlog::frame::{Kind, SliceFrames};

use crate::assemble::Log;
use crate::common::{rlog, scratch, shell};

fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let mut frames = SliceFrames::new(bytes, 0);
    let mut out = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        out.push(frame.kind().unwrap());
    }
    out
}

fn log() -> Log {
    let mut log = Log::maria();
    for number in 1..=3 {
        log.maria_transaction(number, &[(number as i32, "row")]);
    }
    log.rotate("bin.000002");
    log
}

#[test]
fn equal_logs_give_equal_bytes_whether_mapped_or_streamed() {
    let folder = scratch();
    let path = log().write(folder.path(), "bin.000001");
    let mapped = rlog("rlog-extract").arg(&path).assert().success();
    let streamed = shell("cat \"$1\" | rlog-extract --log-name bin.000001 -").arg(&path).assert().success();
    assert_eq!(mapped.get_output().stdout, streamed.get_output().stdout);
    let kinds = kinds(&mapped.get_output().stdout);
    assert_eq!((kinds.first(), kinds.last()), (Some(&Kind::Stream), Some(&Kind::End)));
}

#[test]
fn a_failure_travels_down_the_pipe_even_before_the_stream_began() {
    let out = rlog("rlog-extract").arg("/no/such/file").assert().code(66).stderr(contains("/no/such/file"));
    assert_eq!(kinds(&out.get_output().stdout), [Kind::Abort]);
    let folder = scratch();
    let mut torn = log();
    torn.bytes.truncate(torn.bytes.len() - 60);
    let path = torn.write(folder.path(), "bin.000001");
    let out = rlog("rlog-extract").arg(path).assert().code(82).stderr(contains("byte "));
    assert_eq!(kinds(&out.get_output().stdout).last(), Some(&Kind::Abort));
}

#[test]
fn sources_of_later_versions_are_refused_by_name() {
    rlog("rlog-extract").arg("postgres://localhost/db").assert().code(69).stderr(contains("not built yet"));
    rlog("rlog-extract").arg("mysql://root@127.0.0.1:1").assert().code(75).stderr(contains("127.0.0.1:1"));
    rlog("rlog-extract").args(["--config", "/no/such/rlog.toml", "-"]).assert().code(66);
    rlog("rlog-extract").args(["--after", "", "-"]).assert().code(64);
    rlog("rlog-extract").args(["-", "other"]).assert().code(64);
    let folder = scratch();
    let path = folder.path().join("page.ibb");
    std::fs::write(&path, [0; 16384]).unwrap();
    rlog("rlog-extract").arg(&path).assert().code(69).stderr(contains("binlog_storage_engine=innodb"));
    let path = folder.path().join("bin.000001");
    std::fs::write(&path, b"\xfdbin0000000000000000").unwrap();
    rlog("rlog-extract").arg(&path).assert().code(69).stderr(contains("encrypted by MySQL"));
    std::fs::write(&path, b"hello, this is no log").unwrap();
    rlog("rlog-extract").arg(&path).assert().code(65);
}

#[test]
fn a_reader_that_has_ended_leaves_work_undone() {
    let folder = scratch();
    let text = "x".repeat(1900);
    let mut log = Log::maria();
    for number in 1..=1500 {
        log.maria_transaction(number, &[(1, &text), (2, &text)]);
    }
    let path = log.write(folder.path(), "bin.000001");
    shell("rlog-extract \"$1\" | head -c 100 > /dev/null; exit ${PIPESTATUS[0]}").arg(path).assert().code(75);
}

#[test]
fn following_reads_what_is_appended_through_a_rotation_and_ends_cleanly_when_told() {
    let folder = scratch();
    let mut first = Log::maria();
    first.maria_transaction(1, &[(1, "one")]);
    let path = first.write(folder.path(), "bin.000001");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rlog-extract"))
        .args(["--follow", "-q"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match stdout.read(&mut chunk) {
                Ok(0) | Err(_) => return all,
                Ok(count) => {
                    all.extend_from_slice(&chunk[..count]);
                    let _ = sender.send(commits(&all));
                }
            }
        }
    });
    let wait_for = |wanted: usize| {
        while receiver.recv_timeout(Duration::from_secs(60)).expect("frames in time") < wanted {}
    };
    wait_for(1);
    // Half of a transaction, then the rest.
    let whole = {
        let mut log = first.clone();
        log.maria_transaction(2, &[(2, "two")]);
        log.bytes
    };
    append(&path, &whole[first.bytes.len()..whole.len() - 20]);
    append(&path, &whole[whole.len() - 20..]);
    wait_for(2);
    let mut rotated = first.clone();
    rotated.bytes = whole.clone();
    rotated.rotate("bin.000002");
    append(&path, &rotated.bytes[whole.len()..]);
    let mut second = Log::maria();
    second.maria_transaction(3, &[(3, "three")]);
    second.write(folder.path(), "bin.000002");
    wait_for(3);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(kinds(&reader.join().unwrap()).last(), Some(&Kind::End));
}

fn append(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Commits in what may end inside of a frame.
fn commits(bytes: &[u8]) -> usize {
    let mut frames = SliceFrames::new(bytes, 0);
    let mut count = 0;
    while let Ok(Some(frame)) = frames.next() {
        count += usize::from(frame.kind() == Some(Kind::Commit));
    }
    count
}

#[test]
fn check_tells_what_would_be_read_and_writes_no_frames() {
    let folder = scratch();
    let path = log().write(folder.path(), "bin.000001");
    let metrics = folder.path().join("metrics");
    rlog("rlog-extract")
        .arg("--check")
        .arg(&path)
        .assert()
        .success()
        .stdout(contains("mariadb 10.11.18-MariaDB-log server 7"));
    rlog("rlog-extract")
        .args(["-v", "--metrics-file"])
        .arg(&metrics)
        .arg(&path)
        .assert()
        .success()
        .stderr(contains("3 transactions, 3 rows"));
    assert!(std::fs::read_to_string(metrics).unwrap().contains("rlog_extract_transactions 3"));
}

#[test]
fn a_queue_tells_where_to_resume_across_files() {
    let folder = scratch();
    let mut second = Log::maria();
    second.bytes.truncate(4);
    second.time += 1000;
    second.format("10.11.18-MariaDB-log", 0, 0);
    second.maria_transaction(4, &[(4, "row")]).rotate("bin.000003");
    let paths = [log().write(folder.path(), "bin.000001"), second.write(folder.path(), "bin.000002")];
    let queue = folder.path().join("q");
    let put = |logs: &str| {
        let script =
            format!("rlog-extract -q --confirm \"$1\" {logs} | rlog-queue put -q \"$1\" && rlog-queue last \"$1\"");
        let done = shell(&script).arg(&queue).args(&paths).assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    assert!(put("\"$2\"").starts_with("2:4-4,"));
    assert!(put("\"$2\" \"$3\"").starts_with("3:4-4,"));
    assert!(put("\"$2\" \"$3\"").starts_with("3:4-4,"));
    let out = rlog("rlog-queue").arg("get").arg(&queue).assert().success();
    assert_eq!(commits(&out.get_output().stdout), 4);
}

/// Rule 1: windows, filters, annotations and options never enter the judgement of a repeat.
#[test]
fn the_same_log_read_with_other_options_is_a_repeat() {
    let folder = scratch();
    let mut log = Log::mysql();
    for (number, clock) in [(1, (0, 1)), (2, (1, 2)), (3, (1, 3)), (4, (1, 4))] {
        log.mysql_transaction(number, clock, &[(number as i32, "row")]);
    }
    let path = log.rotate("bin.000002").write(folder.path(), "bin.000001");
    let queue = folder.path().join("q");
    let put = |options: &str| {
        let script = format!("rlog-extract -q {options} \"$2\" | rlog-queue put -q \"$1\" && rlog-queue get \"$1\"");
        shell(&script).arg(&queue).arg(&path).assert().success().get_output().stdout.clone()
    };
    let first = put("");
    assert_eq!(commits(&first), 4);
    for options in
        ["--windows serial", "--windows writeset", "--no-annotate", "--ignore-tables 'other.*'", "--tables 'shop.*'"]
    {
        assert!(put(options) == first, "{options} changed the queue");
    }
}
