//! `ssh://` through a real sshd, started privately on loopback: own host key, own configuration, a forced command. It runs as whoever runs the tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::common::rlog;
use crate::hosts::{Hosts, SHIP, held, stream};

const SSHD: &str = "/usr/sbin/sshd";

struct Sshd {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn key(path: &Path) -> String {
    let mut keygen = Command::new("ssh-keygen");
    let status = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).stdin(Stdio::null()).status();
    assert!(status.expect("ssh-keygen: .ci/tools ssh:openssh-client").success());
    std::fs::read_to_string(path.with_extension("pub")).unwrap()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Starts one whose authorized keys are these lines, and writes an `ssh` into `bin` that knows the host and has `key`.
fn start(hosts: &Hosts, authorized: &str) -> Sshd {
    assert!(Path::new(SSHD).exists(), "this test needs sshd: .ci/tools {SSHD}:openssh-server");
    let host_key = key(&hosts.path("host"));
    std::fs::write(hosts.path("keys"), authorized).unwrap();
    if rustix::process::geteuid().is_root() {
        // Where it imprisons itself before it knows who comes; no other user needs it.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    let log = hosts.path("sshd.log");
    let begun = Instant::now();
    for attempt in 0.. {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| hosts.path(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin forced-commands-only\n",
            path("host"),
            path("keys")
        );
        std::fs::write(hosts.path("sshd_config"), config).unwrap();
        let mut child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(hosts.path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "sshd does not answer");
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                let known = format!("[127.0.0.1]:{port} {host_key}");
                std::fs::write(hosts.path("known_hosts"), known).unwrap();
                return Sshd { child, port, log };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Somebody may have taken the port.
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(attempt < 5 && said.contains("in use"), "{said}");
    }
    unreachable!()
}

/// `rlog-ship push|pull` by an address as users write it. Which key and whom to trust would stand in ~/.ssh/config.
fn ship(hosts: &Hosts, sshd: &Sshd, verb: &str, key: &str, options: &[&str]) -> assert_cmd::Command {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = hosts.path(&format!("bin-{key}"));
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F none -i {} -oIdentitiesOnly=yes -oUserKnownHostsFile={} -oGlobalKnownHostsFile=none \"$@\"\n",
        hosts.path(key).display(),
        hosts.path("known_hosts").display()
    );
    std::fs::write(bin.join("ssh"), script).unwrap();
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let address = format!("ssh://{}@127.0.0.1:{}/etc/$(touch evil)", user(), sshd.port);
    let mut command = rlog("rlog-ship");
    command.args([verb, if verb == "push" { "--to" } else { "--from" }, &address, "--connect-retry", "20ms"]);
    command.args(options);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display())).current_dir(hosts.folder.path());
    command
}

#[test]
fn a_real_sshd_runs_its_forced_command_and_nothing_else() {
    let hosts = Hosts::new();
    let (writer, reader) = (key(&hosts.path("writer")), key(&hosts.path("reader")));
    key(&hosts.path("nobody"));
    let far = hosts.path("far");
    let line = |only: &str, key: &str| {
        format!("restrict,command=\"{SHIP} serve --stdio {only} --channel shop {}\" {key}", far.display())
    };
    let sshd = start(&hosts, &(line("--put-only", &writer) + &line("--get-only", &reader)));
    let (bytes, sent) = stream([100, 3_000_000, 300]);
    let cursor = hosts.path("cursor");
    for _ in 0..2 {
        let mut push = ship(&hosts, &sshd, "push", "writer", &["--channel", "shop", "--compress", "--cursor"]);
        push.arg(&cursor).write_stdin(&bytes[..]).assert().success().stdout("").stderr("");
        assert_eq!(held(&far, "shop"), sent);
        assert_eq!(std::fs::read_to_string(&cursor).unwrap().trim(), sent[2].position.to_string());
    }
    // The queue that the address names, and the words for a shell in it, are nobody's business.
    assert!(!hosts.path("evil").exists());
    let mut pull = ship(&hosts, &sshd, "pull", "reader", &["--channel", "shop"]);
    pull.arg(hosts.path("near")).assert().success().stdout("").stderr("");
    assert_eq!(held(&hosts.path("near"), "shop"), sent);
    // Each key does what its line says.
    let mut pull = ship(&hosts, &sshd, "pull", "writer", &["--channel", "shop", "-"]);
    pull.assert().code(77).stderr(contains("may not"));
    let mut push = ship(&hosts, &sshd, "push", "reader", &["--channel", "shop"]);
    push.write_stdin(&bytes[..]).assert().code(77).stderr(contains("may not"));
    let mut push = ship(&hosts, &sshd, "push", "writer", &["--channel", "other"]);
    push.write_stdin(&bytes[..]).assert().code(77).stderr(contains("may not"));
    // ssh itself lets nobody else in, and says so.
    let mut push = ship(&hosts, &sshd, "push", "nobody", &["--channel", "shop"]);
    push.args(["--retry-count", "1"]).write_stdin(&bytes[..]);
    push.assert().code(75).stderr(contains("Permission denied"));
    assert_eq!(held(&far, "shop"), sent);
}

/// The connection is cut in the middle: sshd's process for it is killed, and the same push goes on over a new one.
#[test]
fn a_push_through_ssh_that_is_cut_goes_on() {
    let hosts = Hosts::new();
    let writer = key(&hosts.path("writer"));
    let far = hosts.path("far");
    // What serves says who it is, so that the test can end it: the shell that sshd runs becomes it.
    let pids = hosts.path("pids");
    let command = format!("echo $$ >> {}; exec {SHIP} serve --stdio --put-only {}", pids.display(), far.display());
    let sshd = start(&hosts, &format!("restrict,command=\"{command}\" {writer}"));
    let (bytes, sent) = stream([100_000; 30]);
    hosts.fill("near", &bytes);
    let near = hosts.path("near").display().to_string();
    let mut push = ship(&hosts, &sshd, "push", "writer", &["--retry-count", "20", "--rate-limit", "1M", &near]);
    let pushing = std::thread::spawn(move || push.output().unwrap());
    let begun = Instant::now();
    while held(&far, "default").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::fs::read_to_string(&pids).unwrap();
    let pid = rustix::process::Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let output = pushing.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(held(&far, "default"), sent);
    assert!(std::fs::read_to_string(&pids).unwrap().lines().count() >= 2);
}
