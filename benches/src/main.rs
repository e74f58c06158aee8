//! `make bench`: generates the logs, runs rlog beside its peers in one interleaved run, and writes `benches/runs/`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

mod logs;
#[allow(dead_code, reason = "the tests' harness; the benchmarks use a part of it")]
#[path = "../../tests/common/server.rs"]
mod server;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("benches/ is in the repository")
}

fn main() -> Result<()> {
    let scale: f64 = std::env::var("RLOG_BENCH_SCALE").map_or(Ok(1.0), |scale| scale.parse())?;
    let folder =
        std::env::var_os("RLOG_BENCH_LOGS").map_or_else(|| repository().join("target/bench-logs"), PathBuf::from);
    match std::env::args().nth(1).as_deref() {
        Some("logs") => {
            for log in logs::logs(&folder, scale)? {
                let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len()) as f64 / 1e6;
                println!(
                    "{}\t{}\t{:.1} MB\t{} rows\tsetup {} {:.1} MB",
                    log.name,
                    log.load.display(),
                    size(&log.load),
                    log.rows,
                    log.setup.display(),
                    size(&log.setup)
                );
            }
        }
        other => bail!("usage: rlog-bench logs|decode (not {other:?})"),
    }
    Ok(())
}
