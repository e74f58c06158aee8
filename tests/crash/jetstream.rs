//! The queue on JetStream: writers and servers killed under load. A cluster of three that syncs every message.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::queue_process::{QUEUE, get};
use crate::common::NatsCluster;
use crate::common::streams::{Seen, Stream, transactions};
use crate::{Dice, kills};

/// A put that is fed slowly, so that it lives while servers die.
fn feed(address: &str, cursor: &Path, bytes: &[u8]) -> (Child, std::thread::JoinHandle<()>) {
    let mut child = Command::new(QUEUE)
        .args(["put", "--lock-wait", "60s", "--cursor"])
        .arg(cursor)
        .arg(address)
        .env_remove("RLOG_CONFIG")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || {
        for piece in bytes.chunks(20_000) {
            if stdin.write_all(piece).and_then(|()| stdin.flush()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    });
    (child, feeder)
}

fn acknowledged(cursor: &Path, wanted: &[Seen]) -> usize {
    let Ok(text) = std::fs::read_to_string(cursor) else { return 0 };
    let position = text.trim_end().parse::<rlog::frame::Position>().expect("a whole cursor");
    wanted.iter().position(|seen| seen.position == position).expect("a position of the log") + 1
}

#[test]
fn servers_and_writers_killed_under_load_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let mut cluster = NatsCluster::start(3, "sync_interval: always", "");
    let address = cluster.url("RLOG", "replicas=3&timeout=60s");
    let mut stream = Stream::new();
    for number in 0..120 {
        // Some are larger than a message, and one than what is kept in memory.
        stream.transaction(match number % 40 {
            7 => 1_500_000,
            20 if number == 60 => 6_000_000,
            n => n * 300,
        });
    }
    let bytes = stream.end();
    let wanted = transactions(&bytes);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut server_kills, mut writer_kills, mut most) = (0, 0, 0);
    let goal = kills(6, 2);
    loop {
        let (mut child, feeder) = feed(&address, &cursor, &bytes);
        let mut down: Option<usize> = None;
        let status = loop {
            std::thread::sleep(Duration::from_millis(150 + dice.below(500)));
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if server_kills + writer_kills >= goal {
                continue;
            }
            // At most one server at a time is away: a majority stays.
            match down.take() {
                Some(number) => {
                    cluster.start_node(number);
                    cluster.wait_for_leader();
                }
                None if dice.below(4) == 0 => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    writer_kills += 1;
                    break None;
                }
                None => {
                    let number = dice.below(3) as usize;
                    cluster.kill_node(number);
                    server_kills += 1;
                    down = Some(number);
                }
            }
        };
        if let Some(number) = down {
            cluster.start_node(number);
            cluster.wait_for_leader();
        }
        drop(child.stdin.take());
        let _ = feeder.join();
        most = most.max(acknowledged(&cursor, &wanted));
        let channels = Command::new(QUEUE).args(["channels", &address]).output().unwrap();
        if channels.stdout == b"default\n" {
            let held = get(Path::new(&address));
            assert!(wanted.starts_with(&held), "{} held", held.len());
            assert!(held.len() >= most, "{most} were acknowledged, {} are held", held.len());
        }
        match status {
            Some(status) if status.success() && server_kills + writer_kills >= goal => break,
            // A server that was away for too long: again, as cron would.
            Some(status) => assert!(matches!(status.code(), Some(0 | 75)), "{status}"),
            None => {}
        }
        if status.is_some_and(|status| status.success()) {
            // All of it is there before enough was killed: from the beginning.
            assert!(Command::new(QUEUE).args(["reset", &address]).status().unwrap().success());
            std::fs::remove_file(&cursor).unwrap();
            most = 0;
        }
    }
    assert!(get(Path::new(&address)) == wanted);
    let verify = Command::new(QUEUE).args(["verify", &address]).output().unwrap();
    assert!(verify.status.success(), "{verify:?}");
    assert!(server_kills > 0, "no server was killed");
}

/// Appliers and readers as well, while servers are killed and come back.
#[test]
fn put_apply_get_and_ack_at_once_lose_and_double_nothing_whoever_is_killed() {
    let mut dice = Dice::seeded();
    let mut campaign = crate::Campaign::new("all of a queue on JetStream", kills(8, 2));
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = NatsCluster::start(3, "sync_interval: always", "");
    let address = cluster.url("STREAM", "replicas=3&timeout=60s");
    let mut round = |number: u64| super::together::Place {
        address: address.replace("STREAM", &format!("R{number}")),
        target: folder.path().join(format!("t{number}.db")),
        folder: folder.path().to_owned(),
    };
    let (mut down, mut moments) = (None, 0);
    let mut disturb = |dice: &mut Dice| {
        moments += 1;
        match moments % 6 {
            2 => {
                let number = dice.below(3) as usize;
                cluster.kill_node(number);
                down = Some(number);
            }
            // At most one is away at a time: a majority stays.
            5 => {
                if let Some(number) = down.take() {
                    cluster.start_node(number);
                    cluster.wait_for_leader();
                }
            }
            _ => {}
        }
    };
    super::together::run(&mut campaign, &mut dice, 100, &mut round, &mut disturb);
}

/// A majority that is away is 75 after the time-out, and nothing is lost by it.
#[test]
fn a_cluster_without_a_majority_is_away_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    let mut cluster = NatsCluster::start(3, "", "");
    let address = cluster.url("RLOG", "replicas=3&timeout=3s");
    let bytes = Stream::new().transaction(100).transaction(200).end();
    let (mut child, feeder) = feed(&address, &cursor, &bytes);
    assert!(child.wait().unwrap().success());
    feeder.join().unwrap();
    cluster.kill_node(0);
    cluster.kill_node(1);
    let started = Instant::now();
    let (mut child, feeder) = feed(&address, &cursor, &bytes);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let _ = feeder.join();
    assert!(started.elapsed() < Duration::from_secs(60), "it must not hang");
    cluster.start_node(0);
    cluster.start_node(1);
    cluster.wait_for_leader();
    let address = cluster.url("RLOG", "replicas=3&timeout=60s");
    let mut more = Stream::new();
    let bytes = more.transaction(100).transaction(200).transaction(300).end();
    let (mut child, feeder) = feed(&address, &cursor, &bytes);
    assert!(child.wait().unwrap().success());
    feeder.join().unwrap();
    assert_eq!(get(Path::new(&address)), transactions(&bytes));
}
