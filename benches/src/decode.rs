//! How fast binary logs are read: rlog beside the servers' own tools, the libraries that others use, and the floor.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::measure::{self, Contestant, Rate};
use crate::report::{self, Run};
use crate::{Settings, logs, repository};

const WORDS: &str = "Decoding closed binary logs that are in the page cache, output to /dev/null, in MB of log per second of CPU time
(user and system, of all threads). `floor` maps the file, checks every CRC32 and touches every column; it is what no reader can do without.
Contestants take turns, round by round. Peak memory includes the mapped file. The logs are described in benches/src/logs.rs.";

/// Generates the logs if need be, runs everything, writes the run's folder.
pub fn run(settings: &Settings) -> Result<()> {
    let logs = logs::logs(&settings.logs, settings.scale)?;
    let beside_us = std::env::current_exe()?.parent().context("a program is in a folder")?.to_path_buf();
    let release = repository().join("target/release");
    let servers = std::env::var_os("RLOG_SERVERS").map_or_else(|| repository().join(".servers"), Into::into);
    let mariadb = servers.join("mariadb-10.11/run");

    let mut contestants = Vec::new();
    for log in &logs {
        let load = log.load.as_os_str();
        let mut add = |who: &str, program: &Path, arguments: &[&OsStr], bytes: u64| {
            let mut command = vec![program.as_os_str().to_owned()];
            command.extend(arguments.iter().map(|argument| argument.to_os_string()));
            let contestant = Contestant::program(log.name, who, command);
            contestants.push(Contestant {
                bytes,
                rows: log.rows,
                baselines: &["floor", "mariadb-binlog -vv"],
                ..contestant
            });
        };
        let bytes = fs::metadata(&log.load)?.len();
        let dump = release.join("rlog-dump");
        add("floor", &beside_us.join("floor"), &[load], bytes);
        add("rlog-extract", &release.join("rlog-extract"), &[load], bytes);
        for format in ["json", "stats"] {
            add(&format!("rlog-dump --format {format}"), &dump, &["--format".as_ref(), format.as_ref(), load], bytes);
        }
        let verbose = ["mariadb-binlog", "--base64-output=decode-rows", "-vv"].map(OsStr::new);
        add("mariadb-binlog -vv", &mariadb, &[&verbose[..], &[load]].concat(), bytes);
        add("mysql_common", &beside_us.join("peer-mysql-common"), &[load], bytes);
        if let Some(frames) = extracted(&release, &[&log.load])? {
            let bytes = fs::metadata(&frames)?.len();
            add("rlog-dump --verify (of rlog)", &dump, &["--verify".as_ref(), frames.as_os_str()], bytes);
        }
    }
    let packages = fs::read_to_string(servers.join("mariadb-10.11/versions")).unwrap_or_default();
    let binlog = packages.lines().find(|line| line.starts_with("mariadb-client ")).unwrap_or("mariadb-client: unknown");
    let mut versions = vec![format!("mariadb-binlog: {binlog}")];
    versions.push(format!("mysql_common: {}", locked("mysql_common")));
    versions.push("go-mysql: not run; its modules could not be had where this was written".into());
    versions.push(format!("scale {}, {} rounds", settings.scale, settings.rounds));

    let rate = Rate::MegabytesPerCpu;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    Run { suite: "decode", words: WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))
}

/// Logs as one stream of frames, beside the last of them; made anew each time, since the format's bytes are what is
/// measured. `None` when rlog-extract fails.
pub fn extracted(release: &Path, logs: &[&Path]) -> Result<Option<PathBuf>> {
    let frames = logs.last().context("no logs")?.with_extension("rlog");
    let output = fs::File::create(&frames)?;
    let done = std::process::Command::new(release.join("rlog-extract")).args(logs).stdout(output).status();
    Ok(done.is_ok_and(|status| status.success()).then_some(frames))
}

/// The version of a package in this manifest's lock file.
fn locked(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let mut versions = lock.split("[[package]]").filter(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    let version = |entry: &str| {
        entry.lines().find_map(|line| line.strip_prefix("version = ").map(|v| v.trim_matches('"').to_string()))
    };
    // The newest: an older one may come with a dependency.
    versions.by_ref().filter_map(version).max().unwrap_or_default()
}
