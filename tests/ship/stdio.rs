//! The protocol over pipes, as sshd would run it.

use predicates::str::contains;

use crate::common::rlog;
use crate::hosts::{Hosts, SHIP, stream};

fn through(hosts: &Hosts, verb: &str, arguments: &str) -> assert_cmd::Command {
    let mut command = rlog("rlog-ship");
    let address = format!("exec:{SHIP} serve --stdio {arguments} {}", hosts.path("far").display());
    command.args([verb, if verb == "push" { "--to" } else { "--from" }, &address, "--retry-count", "0"]);
    command
}

#[test]
fn pipes_carry_the_same_protocol() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100, 2_000_000, 300]);
    through(&hosts, "push", "").write_stdin(&bytes[..]).assert().success().stdout("").stderr("");
    assert_eq!(hosts.held("far"), sent);
    through(&hosts, "pull", "").arg(hosts.path("near")).assert().success().stdout("").stderr("");
    assert_eq!(hosts.held("near"), sent);
}

#[test]
fn a_queue_of_another_kind_is_as_good() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100, 200_000, 300]);
    let queue = format!("sqlite:{}", hosts.path("far.db").display());
    let address = format!("exec:{SHIP} serve --stdio {queue}");
    let mut push = rlog("rlog-ship");
    push.args(["push", "--to", &address]).write_stdin(&bytes[..]).assert().success();
    let mut back = rlog("rlog-ship");
    back.args([
        "push",
        "--to",
        &format!("exec:{SHIP} serve --stdio {}", hosts.path("third").display()),
        &queue,
        "--reader",
        "none",
    ]);
    back.assert().success();
    assert_eq!(hosts.held("third"), sent);
    // From one kind into another, registered and acknowledged.
    let mut pull = rlog("rlog-ship");
    pull.args(["pull", "--from", &address]).arg(hosts.path("near")).assert().success();
    assert_eq!(hosts.held("near"), sent);
    let status = rlog("rlog-queue").args(["status", "--json", &queue]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["readers"][0]["name"], &status["readers"][0]["behind"]), (&"ship".into(), &0.into()));
}

#[test]
fn the_forced_command_says_what_may_be_done() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100]);
    let refused = |assert: assert_cmd::assert::Assert| assert.code(77).stderr(contains("may not"));
    refused(through(&hosts, "push", "--get-only").write_stdin(&bytes[..]).assert());
    refused(through(&hosts, "pull", "--put-only").arg("-").assert());
    refused(through(&hosts, "push", "--channel shop").write_stdin(&bytes[..]).assert());
    assert!(!hosts.path("far").exists());
    through(&hosts, "push", "--put-only --channel Shop")
        .args(["--channel", "shop"])
        .write_stdin(&bytes[..])
        .assert()
        .success();
    assert_eq!(crate::hosts::held(&hosts.path("far"), "shop"), sent);
}

#[test]
fn what_the_client_asked_ssh_to_run_is_nobodys_business() {
    let hosts = Hosts::new();
    let (bytes, sent) = stream([100]);
    let evil = hosts.path("evil");
    for command in [
        format!("touch {}", evil.display()),
        format!("$(touch {0}); `touch {0}`; rlog-ship serve --stdio --get-only {0}", evil.display()),
        "rlog-ship serve --stdio --channel other /etc".to_owned(),
        "\n\0\u{1b}[2J".replace('\0', ""),
    ] {
        let mut push = through(&hosts, "push", "--put-only --channel default");
        push.env("SSH_ORIGINAL_COMMAND", command).write_stdin(&bytes[..]).assert().success();
        let mut pull = through(&hosts, "pull", "--put-only");
        pull.env("SSH_ORIGINAL_COMMAND", "rlog-ship serve --stdio").arg("-").assert().code(77);
    }
    assert!(!evil.exists());
    assert_eq!(hosts.held("far"), sent);
}

/// A receiver that claims what nobody has sent it: nothing is forgotten as safe, and nothing panics.
#[test]
fn an_acknowledgement_of_what_was_not_sent_is_refused() {
    use rlog::ship::wire::{Ack, Message, Welcome};
    let hosts = Hosts::new();
    let welcome = Welcome { version: 1, credit: 1 << 20, ..Welcome::default() };
    let (bytes, _) = stream([100, 200]);
    for units in [1 << 40, u64::MAX] {
        let ack = Ack { units, ..Ack::default() };
        let messages = [Message::Welcome(Box::new(welcome.clone())), Message::Ack(Box::new(ack))];
        std::fs::write(hosts.path("said"), messages.iter().flat_map(Message::encode).collect::<Vec<u8>>()).unwrap();
        let address = format!("exec:cat {}", hosts.path("said").display());
        let mut push = rlog("rlog-ship");
        push.args(["push", "--to", &address, "--retry-count", "0", "--cursor"]).arg(hosts.path("cursor"));
        push.write_stdin(&bytes[..]).assert().code(65).stderr(contains("more than was sent"));
        assert!(!hosts.path("cursor").exists());
    }
}

#[test]
fn garbage_on_standard_input_is_named_and_harmless() {
    let hosts = Hosts::new();
    let mut serve = rlog("rlog-ship");
    serve.args(["serve", "--stdio"]).arg(hosts.path("far")).write_stdin("ls -l\nexit\n");
    serve.assert().code(65).stderr(contains("does not speak"));
    let mut cat = rlog("rlog-ship");
    cat.args(["pull", "--from", "exec:cat /dev/null", "--retry-count", "0", "-"]).assert().code(75);
    let mut echo = rlog("rlog-ship");
    echo.args(["pull", "--from", "exec:echo Welcome to Debian GNU/Linux", "--retry-count", "0", "-"]).assert().code(65);
    assert!(!hosts.path("far").exists());
}
