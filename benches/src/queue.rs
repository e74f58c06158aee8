//! How fast a queue takes frames, beside the same bytes written and synced in the same batches by the simplest program there is.

use std::fs;

use anyhow::{Context as _, Result};

use crate::measure::{self, Contestant, Rate, Work};
use crate::report::{self, Run};
use crate::{Settings, decode, logs, peer, program, repository};

const WORDS: &str = "`rlog-queue put` from a file of frames in the page cache, beside a loop of read, write and fdatasync of the same bytes in
the same batches, in turns, on the same file system. MB of frames per second of wall-clock time. `fsync probe` is 100 writes of 4 KiB with an
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
            let case = format!("{}, a sync every {name}", log.name);
            let fresh = {
                let work = work.clone();
                move || {
                    let _ = fs::remove_dir_all(&work);
                    fs::create_dir_all(&work).map_err(Into::into)
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
                work.join("spool").into(),
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
