//! SQLite's log as a source: rlog-extract beside the ways in which others capture changes, what the application notices of it,
//! and how long a commit takes to be seen in a replica.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::measure::{self, Contestant, Rate};
use crate::report::{self, Run};
use crate::{Settings, program, repository};

const WORDS: &str = "The write-ahead log of a SQLite database (pages of 4 KiB, rows of about 45 bytes) decoded into frames by `rlog-extract`, in turns with
the load itself: by the application alone, with SQLite's session extension (one changeset a transaction), and with a trigger an operation that
writes the images into a table. MB of log per second of CPU time. What capturing costs is `session` or `triggers` minus `application alone`; rlog-extract costs
the application nothing but what the suite sqlite-writers shows. `copy of the log` reads and writes the log's bytes: the physical limit. Its
bytes are the same for all contestants of a case: the log that the application alone leaves.";

const WRITERS_WORDS: &str = "Small transactions (one row, synchronous=NORMAL, automatic checkpoints) by one writer, alone, and while `rlog-extract --follow` reads
the log, with and without a shadow. Transactions per second of wall-clock time. The goal is 95 % of alone. A writer without a pause needs a core for itself, and
rlog-extract and rlog-queue another one together: with two cores, what is missing may be theirs. So below the table the same writer is shown at 5,000 commits
a second, which leaves the cores time: what it then loses, in rate, CPU time or time of a commit, it loses to locks and checkpoints.";

const LOADS: [(&str, u64); 4] = [("updates", 5), ("bulk-insert", 1), ("bulk-update", 1), ("bulk-delete", 2)];

fn load_program() -> &'static str {
    env!("SQLITE_LOAD")
}

fn database(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.db"))
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.to_owned().into_os_string();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
}

fn run_load(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<()> {
    let mut command = Command::new(load_program());
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    let status = command.status()?;
    ensure!(status.success(), "sqlite-load ends with {status}");
    Ok(())
}

/// Runs the suite.
pub fn run(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("sqlite-source");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    capture(settings, &work)?;
    writers(settings, &work)?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

fn capture(settings: &Settings, work: &Path) -> Result<()> {
    let scale = settings.scale.to_string();
    let base = database(work, "base");
    run_load(&[&"prepare", &base, &scale])?;
    let all_rows = ((300_000.0 * settings.scale) as u64).max(1000);
    let mut contestants = Vec::new();
    for (load, share) in LOADS {
        let logged = database(work, load);
        fs::copy(&base, &logged)?;
        run_load(&[&"plain", &logged, &load, &scale, &"keep"])?;
        let log = {
            let mut name = logged.clone().into_os_string();
            name.push("-wal");
            PathBuf::from(name)
        };
        let bytes = fs::metadata(&log).with_context(|| format!("{load} leaves no log"))?.len();
        let rows = all_rows / share;
        let transactions = if load == "updates" { rows } else { 1 };
        let scratch = database(work, "scratch");
        let mut add = |who: &str, command: Vec<OsString>, fresh: bool| {
            let (base, scratch) = (base.clone(), scratch.clone());
            let before: Box<dyn FnMut() -> Result<()>> = Box::new(move || {
                remove(&scratch);
                if fresh {
                    fs::copy(&base, &scratch)?;
                }
                Ok(())
            });
            contestants.push(Contestant {
                before: Some(before),
                bytes,
                rows,
                transactions,
                baselines: &["application alone", "copy of the log"],
                ..Contestant::program(load, who, command)
            });
        };
        let application = |mode: &str| -> Vec<OsString> {
            vec![load_program().into(), mode.into(), scratch.clone().into(), load.into(), scale.clone().into()]
        };
        add("application alone", application("plain"), true);
        add("with session changesets", application("session"), true);
        add("with triggers", application("trigger"), true);
        add(
            "copy of the log",
            vec![load_program().into(), "copy".into(), log.clone().into(), scratch.clone().into()],
            false,
        );
        add("rlog-extract", vec![program("rlog-extract").into(), "-q".into(), log.into()], false);
    }
    let rate = Rate::MegabytesPerCpu;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    Run { suite: "sqlite-source", words: WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))
}

/// A process that is ended when its handle goes.
struct Background(Vec<Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn follow(work: &Path, shadow: bool) -> Result<Background> {
    let spool = work.join("spool");
    let mut extract = Command::new(program("rlog-extract"));
    extract.args(["--follow", "-q", "--confirm"]).arg(&spool);
    if shadow {
        extract.arg("--shadow").arg(work.join("shadow"));
    }
    let mut source = OsString::from("sqlite:");
    source.push(database(work, "live"));
    let mut extract = extract.arg(source).stdout(Stdio::piped()).spawn()?;
    let frames = extract.stdout.take().context("a pipe")?;
    let put = Command::new(program("rlog-queue")).arg("put").arg(&spool).stdin(frames).stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(Background(vec![extract, put]))
}

fn fresh(work: &Path, base: &Path) -> Result<()> {
    let live = database(work, "live");
    remove(&live);
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "spool" || name == "replica" {
            fs::remove_dir_all(&path)?;
        } else if name.starts_with("shadow") || name.starts_with("replica") {
            fs::remove_file(&path)?;
        }
    }
    fs::copy(base, &live)?;
    Ok(())
}

fn writers(settings: &Settings, work: &Path) -> Result<()> {
    let scale = settings.scale.to_string();
    let base = database(work, "base");
    if !base.exists() {
        run_load(&[&"prepare", &base, &scale])?;
    }
    let commits = ((50_000.0 * settings.scale) as u64).max(1000);
    let live = database(work, "live");
    let mut contestants = Vec::new();
    for (who, followed, shadow) in
        [("alone", false, false), ("followed by rlog-extract", true, false), ("followed, with a shadow", true, true)]
    {
        let running: Rc<RefCell<Option<Background>>> = Rc::default();
        let (start, end) = (Rc::clone(&running), running);
        let (folder, from) = (work.to_owned(), base.clone());
        contestants.push(Contestant {
            before: Some(Box::new(move || {
                drop(start.borrow_mut().take());
                fresh(&folder, &from)?;
                if followed {
                    *start.borrow_mut() = Some(follow(&folder, shadow)?);
                }
                Ok(())
            })),
            after: Some(Box::new(move || {
                drop(end.borrow_mut().take());
                Ok(())
            })),
            transactions: commits,
            baselines: &["alone"],
            ..Contestant::program(
                "one writer",
                who,
                vec![load_program().into(), "commits".into(), live.clone().into(), commits.to_string().into()],
            )
        });
    }
    let rate = Rate::Transactions;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let mut versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    fresh(work, &base)?;
    versions.push(latency(work)?);
    for (who, followed) in [("alone", None), ("followed", Some(false)), ("followed, with a shadow", Some(true))] {
        fresh(work, &base)?;
        versions.push(paced(work, who, followed, settings.scale)?);
    }
    Run { suite: "sqlite-writers", words: WRITERS_WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))
}

/// A writer that rests between its commits.
fn paced(work: &Path, who: &str, followed: Option<bool>, scale: f64) -> Result<String> {
    const RATE: u64 = 5_000;
    let running = followed.map(|shadow| follow(work, shadow)).transpose()?;
    let commits = ((10.0 * scale) as u64).max(2) * RATE;
    let output = Command::new(load_program())
        .arg("commits")
        .arg(database(work, "live"))
        .args([commits.to_string(), RATE.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "sqlite-load ends with {}", output.status);
    drop(running);
    let text = String::from_utf8(output.stdout)?;
    let figures: Vec<&str> = text.split_whitespace().collect();
    let [rate, cpu, p50, p99, p999] = figures[..] else { anyhow::bail!("sqlite-load prints {text:?}") };
    Ok(format!(
        "{who}, {RATE} commits a second wanted: {rate} reached, {cpu} us of CPU time each, p50 {p50} us, p99 {p99} us, p99.9 {p999} us"
    ))
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let nth = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(nth).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// From a commit in the source to the row in the replica, beside two syncs of a file in between.
fn latency(work: &Path) -> Result<String> {
    const COMMITS: i64 = 200;
    let extract = follow(work, false)?;
    let replica = work.join("replica.db");
    let mut target = OsString::from("sqlite:");
    target.push(&replica);
    let source = rusqlite::Connection::open(database(work, "live"))?;
    source
        .execute_batch("CREATE TABLE seen(id INTEGER PRIMARY KEY, what TEXT); INSERT INTO seen VALUES (0, 'first')")?;
    let apply = Command::new(program("rlog-apply"))
        .args(["run", "--follow", "-q", "--init", "empty", "--create-tables", "--from"])
        .arg(work.join("spool"))
        .arg(target)
        .stderr(Stdio::null())
        .spawn()?;
    let apply = Background(vec![apply]);
    let started = Instant::now();
    let seen = loop {
        let found = rusqlite::Connection::open(&replica).ok();
        if let Some(found) = found.filter(|db| db.prepare("SELECT 1 FROM seen").is_ok()) {
            break found;
        }
        ensure!(started.elapsed() < Duration::from_secs(30), "the replica never has the table");
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut look = seen.prepare("SELECT 1 FROM seen WHERE id = ?1")?;
    let (mut times, mut syncs) = (Vec::new(), Vec::new());
    let probe = fs::File::create(work.join("sync-probe"))?;
    for n in 1..=COMMITS {
        std::thread::sleep(Duration::from_millis(5));
        source.execute("INSERT INTO seen VALUES (?1, 'a row')", [n])?;
        let committed = Instant::now();
        while !look.exists([n])? {
            ensure!(committed.elapsed() < Duration::from_secs(30), "row {n} never arrives");
            std::thread::sleep(Duration::from_micros(50));
        }
        times.push(committed.elapsed());
        let started = Instant::now();
        for half in 0..2u64 {
            std::os::unix::fs::FileExt::write_all_at(&probe, &[n as u8; 4096], (n as u64 * 2 + half) * 4096)?;
            probe.sync_data()?;
        }
        syncs.push(started.elapsed());
    }
    drop((apply, extract));
    times.sort_unstable();
    syncs.sort_unstable();
    Ok(format!(
        "commit to visible in the replica: p50 {:.2} ms, p99 {:.2} ms; two fdatasync in the same run: p50 {:.2} ms, p99 {:.2} ms ({COMMITS} commits)",
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&syncs, 50),
        percentile(&syncs, 99)
    ))
}
