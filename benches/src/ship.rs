//! How fast transactions cross a connection, from a file of frames to a queue that holds them durably, beside the queue without a network.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context as _, Result};

use crate::measure::{self, Contestant, Rate, Work};
use crate::report::{self, Run};
use crate::{Settings, decode, logs, program, repository};

const WORDS: &str = "`rlog-ship push` to `rlog-ship serve` over loopback TLS, from a file of frames in the page cache until the far queue holds all of it
durably, beside `rlog-queue put` of the same file without any network, and beside `cp` and `sync`: in turns, on the same file system. MB of frames per
second of wall-clock time; the CPU time is that of both sides together, the start of the server included. `fsync probe` is 100 writes of
4 KiB with an fdatasync each, in the same rounds, in thousands of calls (as rows) a second.";

/// Both sides in one process group, so that the CPU time of both is taken. `$1`: folder, `$2`: frames, `$3`: rlog-ship, further ones: options of push.
const SHIP: &str = r#"cd "$1"; frames=$2 ship=$3; shift 3
"$ship" serve -q --listen 127.0.0.1:17707 --key server.key --authorized-keys authorized_keys spool & server=$!
"$ship" push -q --to tls://127.0.0.1:17707 --key client.key --server-key "$(cut -d' ' -f1,2 server.pub)" --connect-retry 10ms "$@" < "$frames"; status=$?
kill $server; wait $server; exit $status"#;

const PUT: &str = r#"cd "$1"; "$(dirname "$3")"/rlog-queue put spool < "$2""#;

const CP: &str = r#"cd "$1"; cp "$2" out; sync out"#;

/// Runs the suite.
pub fn run(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("ship");
    let ship = program("rlog-ship");
    let mut contestants = Vec::new();
    for log in logs::logs(&settings.logs, settings.scale)? {
        let frames = decode::extracted(&program(""), &[&log.load])?.context("rlog-extract fails")?;
        let bytes = fs::metadata(&frames)?.len();
        let fresh = {
            let (work, ship) = (work.clone(), ship.clone());
            move || -> Result<()> {
                let _ = fs::remove_dir_all(&work);
                fs::create_dir_all(&work)?;
                let keys = r#"cd "$1"; "$2" keygen --key server.key > server.pub && "$2" keygen --key client.key > authorized_keys"#;
                let done =
                    std::process::Command::new("bash").args(["-c", keys, "bash"]).arg(&work).arg(&ship).status()?;
                anyhow::ensure!(done.success(), "no keys: {done}");
                Ok(())
            }
        };
        let mut add = |who: &str, script: &str, options: &[&str]| {
            let mut command: Vec<OsString> = ["bash", "-c", script, "bash"].map(Into::into).into();
            command.extend([work.clone().into(), frames.clone().into(), ship.clone().into()]);
            command.extend(options.iter().map(Into::into));
            contestants.push(Contestant {
                work: Work::Program { command, stdin: None },
                before: Some(Box::new(fresh.clone())),
                bytes,
                rows: log.rows,
                baselines: &["rlog-queue put", "cp + sync"],
                ..Contestant::program(log.name, who, vec![])
            });
        };
        add("cp + sync", CP, &[]);
        add("rlog-queue put", PUT, &[]);
        add("rlog-ship push", SHIP, &[]);
        add("rlog-ship push --compress", SHIP, &["--compress"]);
    }
    contestants.push(measure::fsync_probe(&settings.logs));
    let rate = Rate::Megabytes;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    Run { suite: "ship", words: WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}
