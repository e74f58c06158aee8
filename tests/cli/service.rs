//! What a service manager hears, and the units in examples/systemd.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::streams::Stream;
use crate::common::{repository, rlog, scratch};

/// The next messages until one of them has `wanted`; all of them.
fn hear(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut heard: Vec<String> = Vec::new();
    while heard.last().is_none_or(|last| !last.contains(wanted)) {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("no {wanted} after {heard:?}: {error}"));
        heard.push(String::from_utf8_lossy(&message[..length]).trim().to_owned());
    }
    heard
}

#[test]
fn a_run_that_follows_is_ready_then_alive_then_stopping() {
    let folder = scratch();
    let (spool, target, address) =
        (folder.path().join("spool"), folder.path().join("t.db"), folder.path().join("notify"));
    let bytes = Stream::new().end();
    rlog("rlog-queue").arg("put").arg(&spool).write_stdin(bytes).assert().success();
    let socket = UnixDatagram::bind(&address).unwrap();
    // Only a run that never says a word gets there.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_rlog-apply"))
        .args(["run", "--follow", "--init", "empty", "--from"])
        .arg(&spool)
        .arg(format!("sqlite:{}", target.display()))
        .env_remove("RLOG_CONFIG")
        .env("NOTIFY_SOCKET", &address)
        .env("WATCHDOG_USEC", "1000000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    hear(&socket, "READY=1");
    hear(&socket, "WATCHDOG=1");
    hear(&socket, "WATCHDOG=1");
    // A run that is stopped beats no more: nothing but what was on its way is heard.
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &run.id().to_string()]).status().unwrap().success());
    signal("-STOP");
    signal("-CONT");
    signal("-TERM");
    let heard = hear(&socket, "STOPPING=1");
    assert!(heard.iter().all(|word| word != "READY=1"), "{heard:?}");
    assert!(run.wait().unwrap().success(), "SIGTERM finishes cleanly");
}

#[test]
fn without_a_manager_nothing_is_told() {
    let folder = scratch();
    let spool = folder.path().join("spool");
    rlog("rlog-queue").arg("put").arg(&spool).write_stdin(Stream::new().end()).assert().success();
    rlog("rlog-apply")
        .args(["run", "--init", "empty", "--from"])
        .arg(&spool)
        .arg(format!("sqlite:{}", folder.path().join("t.db").display()))
        .env("NOTIFY_SOCKET", folder.path().join("nobody"))
        .assert()
        .success()
        .stdout("")
        .stderr("");
}

/// `systemd-analyze verify` on the units as they are installed, with the programs where they were built.
#[test]
fn the_units_are_ones_that_systemd_accepts() {
    let folder = scratch();
    let mut units = Vec::new();
    for entry in std::fs::read_dir(repository().join("examples/systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "service") {
            assert!(
                text.contains("RestartPreventExitStatus=64 65 66 69 70 73 76 77 78 80 81 82 83\n"),
                "{}: only 75 (and what no table knows) is repeated",
                path.display()
            );
        }
        let built = std::path::Path::new(env!("CARGO_BIN_EXE_rlog-apply")).parent().unwrap();
        let text = text.replace("/usr/bin/rlog-", &format!("{}/rlog-", built.display())).replace("User=rlog\n", "");
        let name = path.file_name().unwrap().to_string_lossy().replace("@.", "@orders.");
        std::fs::write(folder.path().join(&name), text).unwrap();
        units.push(folder.path().join(name));
    }
    assert!(units.len() >= 2);
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&units)
        .output()
        .expect("systemd-analyze, of Debian's package systemd; .ci/tools installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("rlog-"), "{said}");
}
