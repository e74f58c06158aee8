//! Either side killed at any moment, and the same commands again.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::hosts::{Hosts, SHIP, stream};

fn kills(slice: u64) -> u64 {
    std::env::var("RLOG_CRASH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(slice)
}

/// A generator that gives the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What is moved: standard input or a queue to the server, or the server's queue to ours.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Input,
    Queue,
    Pull,
}

fn campaign(what: What, seed: u64) {
    let hosts = Hosts::new();
    let mut random = Random(seed);
    let (bytes, sent) = stream((0..60).map(|n| (n * 37) % 2000 * 20));
    match what {
        What::Pull => hosts.fill("far", &bytes),
        _ => hosts.fill("near", &bytes),
    }
    let mut server = Some(hosts.serve(&["--rate-limit", "3M"]));
    let port = server.as_ref().unwrap().port;
    let address = format!("tls://127.0.0.1:{port}");
    let goal = if what == What::Pull { "third" } else { "far" };
    let mut left = kills(12);
    loop {
        let mut command = Command::new(SHIP);
        match what {
            What::Pull => command.args(["pull", "--from", &address]).arg(hosts.path("third")),
            What::Queue => command.args(["push", "--to", &address]).arg(hosts.path("near")),
            What::Input => command.args(["push", "--to", &address, "--cursor"]).arg(hosts.path("cursor")),
        };
        command.args(hosts.identity()).args(["--connect-retry", "10ms", "--rate-limit", "3M", "--lock-wait", "10s"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null()).stdout(Stdio::null());
        let mut client = command.spawn().unwrap();
        let mut stdin = client.stdin.take().unwrap();
        let input = if what == What::Input { bytes.clone() } else { Vec::new() };
        let feeder = std::thread::spawn(move || {
            // A client that is killed reads no more.
            let _ = stdin.write_all(&input);
        });
        if left == 0 {
            server.get_or_insert_with(|| hosts.serve_at(port, &[]));
            let status = client.wait().unwrap();
            feeder.join().unwrap();
            assert_eq!(status.code(), Some(0), "seed {seed}");
            break;
        }
        left -= 1;
        std::thread::sleep(Duration::from_millis(random.below(120)));
        let (kill_server, kill_client) = match random.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if kill_server {
            drop(server.take());
            std::thread::sleep(Duration::from_millis(random.below(30)));
            server = Some(hosts.serve_at(port, &["--rate-limit", "3M"]));
        }
        if kill_client {
            let _ = client.kill();
        }
        // Else it goes on by itself, and may well be done.
        let status = client.wait().unwrap();
        assert!(kill_client || status.success(), "seed {seed}: {status:?}");
        feeder.join().unwrap();
        // What is acknowledged is held, at every moment.
        if what == What::Input
            && let Ok(cursor) = std::fs::read_to_string(hosts.path("cursor"))
        {
            let held = hosts.held("far");
            let safe = held.iter().any(|seen| cursor.trim() == seen.position.to_string());
            assert!(safe || cursor.trim().is_empty(), "seed {seed}: {cursor} is not among {held:?}");
        }
    }
    assert!(hosts.held(goal) == sent, "seed {seed}");
    drop(server);
}

#[test]
fn killed_while_standard_input_is_pushed() {
    campaign(What::Input, 11);
}

#[test]
fn killed_while_a_queue_is_pushed() {
    campaign(What::Queue, 22);
}

#[test]
fn killed_while_a_queue_is_pulled() {
    campaign(What::Pull, 33);
}
