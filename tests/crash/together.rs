//! A queue in use: a writer, an applier, and a reader that keeps what it reads and acknowledges it, all at the same time, and each killed at
//! any moment and started again. In the end the target has everything once, and the reader had everything in order, what it did not
//! acknowledge perhaps again.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rlog::frame::FrameReader;

use super::apply;
use super::queue_process::QUEUE;
use crate::common::streams::{Fold, Seen, transactions};
use crate::{Campaign, Dice, kills};

/// How long a round may take: something that waits for ever is a finding, too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where a round goes on.
pub struct Place {
    /// The queue.
    pub address: String,
    /// The database that is written.
    pub target: PathBuf,
    /// For files.
    pub folder: PathBuf,
}

struct Round<'a> {
    place: &'a Place,
    bytes: &'a [u8],
    wanted: Vec<Seen>,
    put: Option<(Child, std::thread::JoinHandle<()>)>,
    is_put: bool,
    is_registered: bool,
    is_shared: bool,
    applier: Option<Child>,
    reader: Option<Child>,
    /// What is acknowledged for certain, and what was told; in between an acknowledgement was killed.
    acked: usize,
    told: usize,
    /// What was received in order.
    received: usize,
}

/// What was written of a stream that may end anywhere.
fn whole(bytes: &[u8]) -> Vec<Seen> {
    let mut reader = FrameReader::new(bytes);
    let mut fold = Fold::default();
    while let Ok(Some(frame)) = reader.next() {
        fold.frame(&frame);
    }
    fold.seen
}

fn queue(arguments: &[&str]) -> Command {
    let mut command = Command::new(QUEUE);
    command.args(arguments).env_remove("RLOG_CONFIG").stdout(Stdio::null());
    command
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A process that ends by itself has done its work, or found a server or lock away.
fn ended(child: &mut Child) -> Option<bool> {
    let status = child.try_wait().unwrap()?;
    assert!(matches!(status.code(), Some(0 | 75)), "{status}; what it said is above");
    Some(status.success())
}

impl Drop for Round<'_> {
    /// A test that has failed leaves nobody waiting for more.
    fn drop(&mut self) {
        let put = self.put.iter_mut().map(|(child, _)| child);
        for child in put.chain(&mut self.applier).chain(&mut self.reader) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Round<'_> {
    fn output(&self) -> PathBuf {
        self.place.folder.join("received")
    }

    fn start(&mut self) {
        let address = self.place.address.as_str();
        if self.put.is_none() && !self.is_put {
            let mut child = queue(&["put", "--lock-wait", "60s", address]).stdin(Stdio::piped()).spawn().unwrap();
            let (mut stdin, bytes) = (child.stdin.take().unwrap(), self.bytes.to_vec());
            let feed = move || {
                for piece in bytes.chunks(4_000) {
                    if stdin.write_all(piece).and_then(|()| stdin.flush()).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(4));
                }
            };
            self.put = Some((child, std::thread::spawn(feed)));
        }
        // Both need a queue.
        if !self.is_registered {
            let registered =
                queue(&["ack", address, "oldest", "--reader", "r"]).stderr(Stdio::null()).status().unwrap();
            if !registered.success() {
                return;
            }
            self.is_registered = true;
        }
        if self.applier.is_none() {
            let target = format!("sqlite:{}", self.place.target.display());
            let options = ["--follow", "--lock-wait", "60s", "--batch", "5"];
            self.applier = Some(apply::command(Path::new(address), &target, &options).spawn().unwrap());
        }
        // Who is registered late has missed what the others have had.
        if !self.is_shared {
            let status = queue(&["status", "--json", address]).stdout(Stdio::piped()).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            self.is_shared = status["readers"].as_array().is_some_and(|readers| readers.len() == 2);
        }
        if self.reader.is_none() && self.is_shared {
            let output = File::create(self.output()).unwrap();
            self.reader = Some(queue(&["get", "--follow", "--reader", "r", address]).stdout(output).spawn().unwrap());
        }
    }

    /// Takes what the reader, which has ended, has received.
    fn take(&mut self) {
        let seen = whole(&std::fs::read(self.output()).unwrap_or_default());
        if seen.is_empty() {
            return;
        }
        let first = self.wanted.iter().position(|wanted| *wanted == seen[0]).expect("a transaction of the stream");
        assert!(
            (self.acked..=self.told).contains(&first),
            "it begins behind {first}; {} are acknowledged, {} were told",
            self.acked,
            self.told
        );
        assert!(self.wanted[first..].starts_with(&seen), "in order, and nothing is left out");
        self.received = self.received.max(first + seen.len());
    }

    /// Acknowledges all that was received; the acknowledgement itself may be killed.
    fn acknowledge(&mut self, killed_after: Option<Duration>) -> bool {
        if self.received <= self.acked {
            return false;
        }
        let position = self.wanted[self.received - 1].position.to_string();
        let mut child = queue(&["ack", &self.place.address, &position, "--reader", "r"]).spawn().unwrap();
        self.told = self.received;
        if let Some(after) = killed_after {
            std::thread::sleep(after);
            if child.try_wait().unwrap().is_none() {
                kill(&mut child);
                return true;
            }
        }
        if child.wait().unwrap().success() {
            self.acked = self.received;
        }
        false
    }

    /// Who has ended by itself.
    fn reap(&mut self) {
        if let Some((child, _)) = &mut self.put
            && let Some(done) = ended(child)
        {
            self.is_put |= done;
            let (_, feed) = self.put.take().unwrap();
            feed.join().unwrap();
        }
        if self.applier.as_mut().is_some_and(|child| ended(child).is_some()) {
            self.applier = None;
        }
        if self.reader.as_mut().is_some_and(|child| ended(child).is_some()) {
            self.reader = None;
            self.take();
        }
    }

    fn kill_one(&mut self, dice: &mut Dice, campaign: &mut Campaign) {
        match dice.below(4) {
            0 => {
                if let Some((mut child, feed)) = self.put.take() {
                    kill(&mut child);
                    feed.join().unwrap();
                    campaign.killed();
                }
            }
            1 => {
                if let Some(mut child) = self.applier.take() {
                    kill(&mut child);
                    campaign.killed();
                }
            }
            which => {
                if let Some(mut child) = self.reader.take() {
                    kill(&mut child);
                    campaign.killed();
                    self.take();
                    let after = (which == 3).then(|| Duration::from_micros(dice.below(25_000)));
                    if self.acknowledge(after) {
                        campaign.killed();
                    }
                }
            }
        }
    }
}

/// Until `campaign` has its kills, each round at a place of its own. `disturb` does more harm, now and then.
pub fn run(
    campaign: &mut Campaign,
    dice: &mut Dice,
    transactions_of_a_round: i32,
    place: &mut dyn FnMut(u64) -> Place,
    disturb: &mut dyn FnMut(&mut Dice),
) {
    let bytes = apply::stream(transactions_of_a_round);
    let mut number = 0;
    while campaign.goes_on() || number == 0 {
        number += 1;
        let place = place(number);
        let started = Instant::now();
        let mut round = Round {
            place: &place,
            bytes: &bytes,
            wanted: transactions(&bytes),
            put: None,
            is_put: false,
            is_registered: false,
            is_shared: false,
            applier: None,
            reader: None,
            acked: 0,
            told: 0,
            received: 0,
        };
        let everything = round.wanted.len();
        loop {
            round.start();
            std::thread::sleep(Duration::from_micros(dice.below(150_000)));
            disturb(dice);
            round.reap();
            if round.is_put && round.received == everything {
                break;
            }
            if campaign.goes_on() {
                round.kill_one(dice, campaign);
            } else if round.is_put
                && let Some(mut child) = round.reader.take()
            {
                // Enough: it may read the rest undisturbed.
                std::thread::sleep(Duration::from_millis(200));
                kill(&mut child);
                round.take();
                round.acknowledge(None);
            }
            assert!(started.elapsed() < PATIENCE, "round {number}: {} of {everything} were received", round.received);
        }
        for child in round.applier.iter_mut().chain(&mut round.reader) {
            kill(child);
        }
        while round.acked < everything {
            round.acknowledge(None);
            assert!(started.elapsed() < PATIENCE);
        }
        let target = format!("sqlite:{}", place.target.display());
        loop {
            let status = apply::spawn(Path::new(&place.address), &target, &["--lock-wait", "60s"]).wait().unwrap();
            assert!(matches!(status.code(), Some(0 | 75)) && started.elapsed() < PATIENCE, "round {number}: {status}");
            if status.success() {
                break;
            }
        }
        assert_eq!(apply::check(&place.target), i64::from(transactions_of_a_round), "round {number}");
        assert!(queue(&["verify", &place.address]).status().unwrap().success(), "round {number}");
    }
    campaign.report();
}

#[test]
fn put_apply_get_and_ack_of_a_directory_at_once_lose_and_double_nothing_whoever_is_killed() {
    let mut dice = Dice::seeded();
    let mut campaign = Campaign::new("all of a queue in a directory", kills(24, 4));
    let folder = tempfile::tempdir().unwrap();
    let mut place = |number: u64| Place {
        address: folder.path().join(format!("q{number}")).display().to_string(),
        target: folder.path().join(format!("t{number}.db")),
        folder: folder.path().to_owned(),
    };
    run(&mut campaign, &mut dice, 200, &mut place, &mut |_| {});
}
