//! Databases that extract may only read, or may not read at all: what a user or cron is told.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::live::application;
use super::*;

/// A user who owns nothing.
const NOBODY: u32 = 65534;

fn setup() -> Setup {
    Setup { page_size: 4096, encoding: "UTF-8", auto_vacuum: 0, reserved: 0, ..Setup::of(1) }
}

/// rlog-extract as a user without privileges, if the tests run with them.
fn extract(arguments: &[&str], source: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlog-extract"));
    command.args(arguments).arg(source).current_dir("/").stdin(Stdio::null());
    // SAFETY: it has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Nobody can write the directory or anything in it.
fn seal(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::set_permissions(entry.unwrap().path(), PermissionsExt::from_mode(0o444)).unwrap();
    }
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o555)).unwrap();
}

fn open_again(dir: &Path) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Whether an unprivileged user can start the program and reach the folder.
fn can_start(dir: &Path) -> bool {
    let listed = extract(&["--version"], "").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let reached = dir
        .ancestors()
        .all(|part| std::fs::metadata(part).is_ok_and(|meta| part == dir || meta.permissions().mode() & 0o001 != 0));
    listed.is_ok_and(|status| status.success()) && reached
}

#[test]
fn a_closed_database_in_a_read_only_directory_is_refused_and_its_log_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    application(&path, &setup()).execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)").unwrap();
    if !can_start(dir.path()) {
        return;
    }
    seal(dir.path());
    let live = extract(&["--snapshot", "-q"], &format!("sqlite:{}", path.display())).output().unwrap();
    let at_rest = extract(&["-q"], &path.display().to_string()).output().unwrap();
    open_again(dir.path());
    let text = String::from_utf8_lossy(&live.stderr);
    assert_eq!(live.status.code(), Some(77), "{text}");
    assert!(text.contains("readonly") && text.contains("as the application's user"), "{text}");
    assert_eq!(at_rest.status.code(), Some(0), "{}", String::from_utf8_lossy(&at_rest.stderr));
}

fn end(mut child: Child) -> (Option<i32>, String) {
    // SAFETY: the process is our child and has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id().try_into().unwrap(), libc::SIGTERM) };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

/// While the application has it open, reading is enough: to pin, to follow, to go on through what the application writes.
#[test]
fn an_open_database_in_a_read_only_directory_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let db = application(&path, &setup());
    db.execute_batch("PRAGMA wal_autocheckpoint=1000; CREATE TABLE t(id INTEGER PRIMARY KEY, a)").unwrap();
    if !can_start(dir.path()) {
        return;
    }
    seal(dir.path());
    let frames = tempfile::NamedTempFile::new().unwrap();
    let mut child = extract(&["--follow", "--snapshot", "--confirm", "none"], &format!("sqlite:{}", path.display()))
        .stdout(frames.reopen().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let arrived = |at_least: u64| frames.as_file().metadata().unwrap().len() >= at_least;
    let wait = |child: &mut Child, at_least: u64| {
        let started = Instant::now();
        while !arrived(at_least) {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < Duration::from_secs(60), "{ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&mut child, 1);
    // Long enough for a turnover to be wanted, and then quiet, so that it is tried.
    for n in 0..1200 {
        db.execute("INSERT INTO t VALUES (?1, ?1)", [n]).unwrap();
    }
    wait(&mut child, 1200 * 60);
    std::thread::sleep(Duration::from_millis(800));
    db.execute("INSERT INTO t VALUES (-1, 'the last')", []).unwrap();
    let started = Instant::now();
    while !std::fs::read(frames.path()).unwrap().windows(8).any(|bytes| bytes == b"the last") {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && started.elapsed() < Duration::from_secs(60), "{ended:?}");
    }
    let (status, text) = end(child);
    open_again(dir.path());
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("without write permission"), "{text}");
    let mut replica = super::live::empty_replica(&setup());
    replica.take(&std::fs::read(frames.path()).unwrap());
    assert!(replica.ended);
    assert_equal(&db, &replica.db, "a database that was only read");
}

/// Waiting does not help against an application that keeps its database to itself: this is no 75, which cron would retry.
#[test]
fn a_database_that_an_application_keeps_to_itself_is_a_matter_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    drop(application(&path, &setup()));
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; CREATE TABLE t(a); INSERT INTO t VALUES (1)").unwrap();
    let program = env!("CARGO_BIN_EXE_rlog-extract");
    let run = || Command::new(program).arg("-q").arg(format!("sqlite:{}", path.display())).output().unwrap();
    let refused = run();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{text}");
    assert!(text.contains("locking_mode=EXCLUSIVE") && text.contains("locking_mode=NORMAL"), "{text}");
    // The advice is good.
    drop(db);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA locking_mode=NORMAL; INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(run().status.code(), Some(0));
}
