//! `make bench`: generates the logs, runs rlog beside its peers in one interleaved run, and writes `benches/runs/`.
//!
//! A suite is a module with `run`: it names contestants ([`measure::Contestant`]) and hands the samples to
//! [`report::Run`]. The environment sets the rest:
//!
//! - `RLOG_BENCH_SCALE`: size of the logs; 1 is about a gigabyte in all, 0.1 is quick.
//! - `RLOG_BENCH_LOGS`: where they are kept (`target/bench-logs`).
//! - `RLOG_BENCH_ROUNDS`: runs of each contestant (5).
//! - `RLOG_BENCH_OUT`: the folder of the results, instead of one of `benches/runs/`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

mod apply;
mod decode;
mod lag;
mod live;
mod logs;
mod measure;
mod memory;
#[allow(dead_code, reason = "the tests' harness; the benchmarks use a part of it")]
#[path = "../../tests/common/nats.rs"]
mod nats;
mod queue;
mod report;
#[allow(dead_code, reason = "the tests' harness; the benchmarks use a part of it")]
#[path = "../../tests/common/server.rs"]
mod server;
mod ship;
mod sqlite;

/// What the environment asks for.
pub struct Settings {
    /// Size of the generated logs.
    pub scale: f64,
    /// Where they are kept.
    pub logs: PathBuf,
    /// Runs of each contestant.
    pub rounds: usize,
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("benches/ is in the repository")
}

fn main() -> Result<()> {
    let settings = Settings {
        scale: number("RLOG_BENCH_SCALE", 1.0)?,
        logs: std::env::var_os("RLOG_BENCH_LOGS").map_or_else(|| repository().join("target/bench-logs"), PathBuf::from),
        rounds: number("RLOG_BENCH_ROUNDS", 5.0)? as usize,
    };
    for suite in std::env::args().skip(1) {
        match suite.as_str() {
            "logs" => show_logs(&settings)?,
            "decode" => decode::run(&settings)?,
            "memory" => memory::run(&settings)?,
            "queue" => {
                queue::run(&settings)?;
                queue::backends(&settings)?;
            }
            "queue-backends" => queue::backends(&settings)?,
            "ship" => ship::run(&settings)?,
            "live-log" => live::log(&settings)?,
            "live-lag" => lag::run(&settings)?,
            "live-snapshot" => live::snapshot(&settings)?,
            "sqlite-source" => sqlite::run(&settings)?,
            "apply-sqlite" => apply::sqlite(&settings)?,
            "apply-plugin" => apply::plugin(&settings)?,
            "apply-mariadb" => apply::mariadb(&settings)?,
            "apply-mariadb-bulk" => apply::mariadb_bulk(&settings)?,
            other => bail!(
                "no suite is called {other}; there are: logs, decode, memory, queue, queue-backends, ship, apply-sqlite, apply-plugin, apply-mariadb, apply-mariadb-bulk, live-log, live-snapshot, live-lag, sqlite-source"
            ),
        }
    }
    Ok(())
}

/// A release binary of rlog.
pub fn program(name: &str) -> PathBuf {
    repository().join("target/release").join(name)
}

/// A program of the benchmarks' own.
pub fn peer(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("a program is in a folder")?.join(name))
}

fn number(name: &str, default: f64) -> Result<f64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number")),
        Err(_) => Ok(default),
    }
}

fn show_logs(settings: &Settings) -> Result<()> {
    for log in logs::logs(&settings.logs, settings.scale)? {
        let megabytes = std::fs::metadata(&log.load)?.len() as f64 / 1e6;
        println!(
            "{}\t{}\t{megabytes:.1} MB\t{} rows\tafter {}",
            log.name,
            log.load.display(),
            log.rows,
            log.setup.display()
        );
    }
    Ok(())
}
