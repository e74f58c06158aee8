//! Lag: how long a commit on a running MariaDB takes until it is visible in its replicas, through extract | ship | queue | apply, and in a
//! native replica beside it, both at the same time and of the same commits.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mysql::prelude::Queryable as _;

use crate::server::{Server, ServerBuilder};
use crate::{Settings, program, report, repository};

/// Commits a second.
const RATE: u32 = 200;
/// Commits at scale 1.
const COMMITS: f64 = 6000.0;
/// Commits that are not counted, while both replicas take up the work.
const WARM_UP: usize = 400;

fn durable(name: &str) -> ServerBuilder {
    Server::new(name).options(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M"])
}

/// The processes of the pipeline; killed, with their children, when this is dropped.
struct Pipeline(Vec<Child>);

impl Drop for Pipeline {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // The group is that of bash and what it has started.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
            let _ = child.wait();
        }
    }
}

fn shell(script: &str, arguments: &[&str], log: &Path) -> Result<Child> {
    let bin = program("rlog-extract");
    let bin = bin.parent().unwrap_or(Path::new("."));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let log = fs::File::options().create(true).append(true).open(log)?;
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script, "bash"]).args(arguments).env("PATH", path);
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?)
}

/// When each commit was first seen on a server.
fn watch(server: &Server, commits: usize, stop: &AtomicBool) -> Vec<Option<Instant>> {
    let mut seen = vec![None; commits + 1];
    let mut upto = 0;
    let mut connection = server.connect();
    while upto < commits && !stop.load(Ordering::Relaxed) {
        let newest: Option<Option<u64>> = connection.query_first("select max(id) from lag.t").unwrap_or(None);
        let now = Instant::now();
        let newest = newest.flatten().unwrap_or(0) as usize;
        seen.iter_mut().take(newest + 1).skip(upto + 1).for_each(|at| *at = Some(now));
        upto = upto.max(newest);
        std::thread::sleep(Duration::from_micros(200));
    }
    seen
}

/// Milliseconds: median, 99th percentile, longest.
fn figures(committed: &[Instant], seen: &[Option<Instant>]) -> Result<[f64; 3]> {
    let mut lags = Vec::new();
    for (committed, seen) in committed.iter().zip(&seen[1..]).skip(WARM_UP) {
        let seen = seen.ok_or_else(|| anyhow::anyhow!("a commit was never seen"))?;
        lags.push(seen.saturating_duration_since(*committed).as_secs_f64() * 1e3);
    }
    lags.sort_by(f64::total_cmp);
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100];
    Ok([at(50), at(99), at(100)])
}

/// Runs it, and writes `live-lag-summary.md`.
pub fn run(settings: &Settings) -> Result<()> {
    let commits = WARM_UP + ((COMMITS * settings.scale) as usize).max(600);
    let mut text = format!(
        "# live-lag\n\nFrom the commit on a running MariaDB 10.11 (sync_binlog=1) to the moment at which the row is visible, at {RATE} commits a second: in a native replica\n\
         (serial), and through `rlog-extract --follow | rlog-ship push` into a queue, `rlog-apply run --follow` from there; or with a queue on the source's side as well,\n\
         `rlog-extract --follow | rlog-queue put`, `rlog-ship push --follow`. Both follow the same commits at the same time; all servers sync every commit. Each\n\
         is asked five thousand times a second at most. Milliseconds.\n\n\
         | queues | round | native p50 | p99 | most | rlog p50 | p99 | most | p50 ratio | p99 ratio |\n|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let rounds = settings.rounds.min(3);
    for (queues, round) in (1..=rounds).flat_map(|round| [(1, round), (2, round)]) {
        let (native, ours) = once(commits, queues)?;
        let line = format!(
            "| {queues} | {round} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            native[0],
            native[1],
            native[2],
            ours[0],
            ours[1],
            ours[2],
            ours[0] / native[0],
            ours[1] / native[1]
        );
        eprintln!("bench: {line}");
        let _ = writeln!(text, "{line}");
    }
    let folder = report::folder(repository());
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("live-lag-summary.md"), &text)?;
    println!("{text}\nwritten to {}", folder.display());
    Ok(())
}

/// With one queue, at the target's side, or two.
fn once(commits: usize, queues: u32) -> Result<([f64; 3], [f64; 3])> {
    let work = tempfile::Builder::new().prefix("rlog-bench-").tempdir()?;
    let source = durable("mariadb-10.11").log_bin().options(["--sync-binlog=1", "--binlog-row-metadata=FULL"]).start();
    let native = durable("mariadb-10.11").options(["--server-id=9998", "--skip-slave-start"]).start();
    let ours = durable("mariadb-10.11").options(["--server-id=9999"]).start();
    let tables = "create database lag; create table lag.t (id int primary key, v varchar(100), n int, key (n))";
    for server in [&source, &native, &ours] {
        server.sql(tables);
    }
    source.flush_logs();
    native.sql(&format!(
        "change master to master_host = '127.0.0.1', master_port = {}, master_user = 'root', master_log_file = 'bin.000002', master_log_pos = 4, \
         master_use_gtid = no; start slave",
        source.port()
    ));
    let place = |name: &str| work.path().join(name).display().to_string();
    let (first, second, log) = (place("first"), place("second"), work.path().join("log"));
    let from = source.socket_url("");
    let to = ours.socket_url("");
    let extract = "until rlog-extract -q --follow --after bin.000002:4 --confirm \"$1\" \"$2\" | rlog-queue put -q --lock-wait 10 \"$1\"; do sleep 0.1; done";
    let push = "until rlog-ship push -q --follow --to \"exec:rlog-ship serve --stdio --put-only $2\" \"$1\"; do sleep 0.1; done";
    let apply = "until rlog-apply run -q --follow --init bin.000002:4 --from \"$1\" \"$2\"; do sleep 0.1; done";
    let straight = "until rlog-extract -q --follow --after bin.000002:4 --confirm \"@$1\" \"$2\" | rlog-ship push -q --cursor \"$1\" --to \"exec:rlog-ship serve --stdio --put-only $3\"; do sleep 0.1; done";
    let mut parts = match queues {
        1 => vec![shell(straight, &[&first, &from, &second], &log)?],
        _ => vec![shell(extract, &[&first, &from], &log)?, shell(push, &[&first, &second], &log)?],
    };
    parts.push(shell(apply, &[&second, &to], &log)?);
    let pipeline = Pipeline(parts);
    let stop = AtomicBool::new(false);
    let (committed, native_seen, ours_seen) = std::thread::scope(|scope| {
        let one = scope.spawn(|| watch(&native, commits, &stop));
        let other = scope.spawn(|| watch(&ours, commits, &stop));
        let mut connection = source.connect();
        let began = Instant::now();
        let mut committed = Vec::with_capacity(commits);
        for id in 1..=commits {
            let due = began + Duration::from_secs(1) * id as u32 / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let done = connection.query_drop(format!(
                "insert into lag.t values ({id}, repeat('x', {}), {})",
                id % 100,
                id * 7919 % 1000
            ));
            if done.is_err() {
                break;
            }
            committed.push(Instant::now());
        }
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience && !(one.is_finished() && other.is_finished()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        (committed, one.join().unwrap_or_default(), other.join().unwrap_or_default())
    });
    drop(pipeline);
    let told = fs::read_to_string(&log).unwrap_or_default();
    ensure!(
        committed.len() == commits && native_seen.len() > commits && ours_seen.len() > commits,
        "the source failed: {told}"
    );
    let native = figures(&committed, &native_seen)?;
    let ours = figures(&committed, &ours_seen).map_err(|error| anyhow::anyhow!("{error}: {told}"))?;
    Ok((native, ours))
}
