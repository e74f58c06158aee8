//! How fast a queue takes frames, beside the same bytes written and synced in the same batches by the simplest program there is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::measure::{self, Contestant, Rate, Work};
use crate::nats::NatsCluster;
use crate::report::{self, Run};
use crate::{Settings, decode, logs, peer, program, repository};

const WORDS: &str = "`rlog-queue put` from a file of frames in the page cache into a queue that is there already, beside a loop of read, write and
fdatasync of the same bytes in the same batches, in turns, on the same file system. MB of frames per second of wall-clock time. `fsync probe` is 100 writes of 4 KiB with an
fdatasync each, in the same rounds: the state of the disk while this ran, in thousands of calls (as rows) a second.";

/// Batch sizes, bytes: the default of `--sync-bytes`, and a small one that shows the syncs.
const BATCHES: [(&str, u64); 2] = [("4 MiB", 4 << 20), ("256 KiB", 256 << 10)];

/// Runs the suite.
pub fn run(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("queue");
    let mut contestants = Vec::new();
    for log in logs::logs(&settings.logs, settings.scale)? {
        let frames = decode::extracted(&program(""), &[&log.load])?.context("rlog-extract fails")?;
        let bytes = fs::metadata(&frames)?.len();
        for (name, batch) in BATCHES {
            // Thousands of syncs of the larger logs would take minutes and say the same.
            if batch < BATCHES[0].1 && log.name != "oltp" {
                continue;
            }
            let case = format!("{}, a sync every {name}", log.name);
            let spool = work.join("spool");
            let fresh = {
                let (work, spool) = (work.clone(), spool.clone());
                move || -> Result<()> {
                    let _ = fs::remove_dir_all(&work);
                    fs::create_dir_all(&work)?;
                    // A stream without even a header is a writer that died; what it was written to is made all the same.
                    let put =
                        Command::new(program("rlog-queue")).arg("put").arg(&spool).stdin(Stdio::null()).output()?;
                    ensure!(spool.join("default/writer").exists(), "no queue is made: {put:?}");
                    Ok(())
                }
            };
            let mut add = |who: &str, command: Vec<std::ffi::OsString>, stdin| {
                contestants.push(Contestant {
                    work: Work::Program { command, stdin },
                    before: Some(Box::new(fresh.clone())),
                    bytes,
                    rows: log.rows,
                    baselines: &["plain write + fdatasync"],
                    ..Contestant::program(&case, who, vec![])
                });
            };
            let plain = vec![peer("plain-write")?.into(), work.join("plain").into(), batch.to_string().into()];
            add("plain write + fdatasync", plain, Some(frames.clone()));
            let put = vec![
                program("rlog-queue").into(),
                "put".into(),
                "--sync-bytes".into(),
                batch.to_string().into(),
                spool.clone().into(),
            ];
            add("rlog-queue put", put, Some(frames.clone()));
        }
    }
    contestants.push(measure::fsync_probe(&settings.logs));

    let rate = Rate::Megabytes;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    Run { suite: "queue", words: WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

const BACKENDS_WORDS: &str = "`rlog-queue put` from a file of frames in the page cache, then `rlog-queue get` of the same queue, per backend, in turns: a directory,
tables of a SQLite file, and JetStream with one server and one copy, and with three servers, three copies and `sync_interval: always`, all on this
machine and the same file system. MB of frames and transactions per second of wall-clock time; CPU time is the client's alone.";

/// Put and get of every backend.
pub fn backends(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("queue-backends");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let one = NatsCluster::start(1, "", "");
    let three = NatsCluster::start(3, "sync_interval: always", "");
    let mut contestants = Vec::new();
    for log in logs::logs(&settings.logs, settings.scale)? {
        let frames = decode::extracted(&program(""), &[&log.load])?.context("rlog-extract fails")?;
        let bytes = fs::metadata(&frames)?.len();
        let transactions = count(&work, &frames)?;
        let place = |name: &str| work.join(format!("{}-{name}", log.name)).display().to_string();
        let queues = [
            ("directory", place("spool")),
            ("sqlite", format!("sqlite:{}", place("queue.db"))),
            ("nats, 1 server", one.url(&format!("B{}", log.name), "timeout=120")),
            ("nats, 3 servers, synced", three.url(&format!("B{}", log.name), "replicas=3&timeout=120")),
        ];
        for (name, address) in queues {
            let command = |verb: &str| vec![program("rlog-queue").into(), verb.into(), address.clone().into()];
            let mut add = |who: String, command, stdin, before: Option<Box<dyn FnMut() -> Result<()>>>| {
                contestants.push(Contestant {
                    work: Work::Program { command, stdin },
                    before,
                    bytes,
                    rows: log.rows,
                    transactions,
                    ..Contestant::program(log.name, &who, vec![])
                });
            };
            let (queue, work) = (address.clone(), work.clone());
            let fresh = move || empty(&queue, &work);
            add(format!("put, {name}"), command("put"), Some(frames.clone()), Some(Box::new(fresh)));
            add(format!("get, {name}"), command("get"), None, None);
        }
    }
    contestants.push(measure::fsync_probe(&settings.logs));
    let rate = Rate::Megabytes;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    Run {
        suite: "queue-backends",
        words: BACKENDS_WORDS,
        rate,
        contestants: &contestants,
        samples: &samples,
        versions,
    }
    .write(repository(), &report::folder(repository()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

/// Removes a queue; on JetStream what is in it, if it is there.
fn empty(address: &str, work: &Path) -> Result<()> {
    if address.starts_with("nats:") {
        Command::new(program("rlog-queue")).args(["reset", address]).output()?;
        return Ok(());
    }
    let path = address.trim_start_matches("sqlite:");
    for entry in fs::read_dir(work)? {
        let entry = entry?.path();
        // The database's journal and locks stand beside it.
        if entry.display().to_string().starts_with(path) {
            if entry.is_dir() { fs::remove_dir_all(entry)? } else { fs::remove_file(entry)? }
        }
    }
    Ok(())
}

/// Transactions in a file of frames, as `put` counts them.
fn count(work: &Path, frames: &Path) -> Result<u64> {
    let spool = work.join("count");
    let put =
        Command::new(program("rlog-queue")).args(["put", "-v"]).arg(&spool).stdin(fs::File::open(frames)?).output()?;
    let text = String::from_utf8_lossy(&put.stderr).into_owned();
    ensure!(put.status.success(), "rlog-queue put: {text}");
    fs::remove_dir_all(&spool)?;
    let before = text.split(" transactions stored").next().context("put counts")?;
    before.rsplit(' ').next().context("put counts")?.parse().context("put counts")
}
