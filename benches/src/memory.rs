//! How much memory a log takes that has one huge transaction: peaks of anonymous and shared memory (RssAnon and RssShmem of
//! /proc/PID/status), looked at every two milliseconds. Pages of the mapped log and of a mapped spool are not among them: the kernel takes those back when it likes.
//!
//! The log is made from the bulk load: its first transaction's rows again and again, with positions and checksums as they should be. At scale 1 it has 1 GiB,
//! and the transaction in its middle 500 MiB.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::{Settings, logs, program, report, repository};

/// What is allowed above the mapped file, MiB.
const ALLOWED_MIB: f64 = 32.0;

const HEADER: usize = 19;
const XID: u8 = 16;
const FORMAT: u8 = 15;
const GTID: u8 = 162;
const STMT_END: u16 = 1;

/// Makes the log if need be, runs every program over it, writes `memory-summary.md`. Fails when one takes more than it should.
pub fn run(settings: &Settings) -> Result<()> {
    let bulk = logs::logs(&settings.logs, settings.scale)?.into_iter().find(|log| log.name == "bulk");
    let bulk = bulk.context("there is no bulk log")?;
    let (total, large) =
        ((settings.scale * (1u64 << 30) as f64) as u64, (settings.scale * (500u64 << 20) as f64) as u64);
    let log = log(&bulk.load, total, large)?;
    let frames = log.with_extension("rlog");
    let mut text = format!(
        "# memory\n\nPeak of private memory (RssAnon + RssShmem) over a log of {} MiB with one transaction of {} MiB; allowed are {ALLOWED_MIB} MiB.\n\
         Output to /dev/null, but for that of rlog-extract, which --verify reads.\n\n| | peak MiB | s |\n|---|---|---|\n",
        fs::metadata(&log)?.len() >> 20,
        large >> 20
    );
    let mut most: f64 = 0.0;
    let runs: [(&str, &[&str], &Path); 8] = [
        ("rlog-extract", &[], &log),
        ("rlog-dump", &["--format", "json"], &log),
        ("rlog-dump", &["--format", "text"], &log),
        ("rlog-dump", &["--format", "stats"], &log),
        ("rlog-dump", &["--format", "sql"], &log),
        ("rlog-dump", &["--undo"], &log),
        ("rlog-dump", &["--undo", "--op", "insert"], &log),
        ("rlog-dump", &["--verify"], &frames),
    ];
    for (name, arguments, input) in runs {
        let output = if name == "rlog-extract" { Stdio::from(File::create(&frames)?) } else { Stdio::null() };
        let started = Instant::now();
        let peak = peak(Command::new(program(name)).args(arguments).arg(input).stdout(output))?;
        let line = format!("| {name} {} | {peak:.1} | {:.1} |", arguments.join(" "), started.elapsed().as_secs_f64());
        eprintln!("bench: {line}");
        let _ = writeln!(text, "{line}");
        most = most.max(peak);
    }
    let folder = report::folder(repository());
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("memory-summary.md"), &text)?;
    println!("{text}\nwritten to {}", folder.display());
    let _ = fs::remove_file(&frames);
    ensure!(most <= ALLOWED_MIB, "{most:.1} MiB are more than {ALLOWED_MIB}");
    Ok(())
}

/// Runs a command and returns its peak in MiB.
fn peak(command: &mut Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).env("TZ", "UTC").spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kib = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
        };
        peak = peak.max(kib("RssAnon:") + kib("RssShmem:"));
        std::thread::sleep(Duration::from_millis(2));
    };
    ensure!(ended.success(), "{command:?}: {ended}");
    Ok(peak as f64 / 1024.0)
}

/// A log of about `total` bytes with a transaction of about `large` bytes in its middle, made from another one.
fn log(from: &Path, total: u64, large: u64) -> Result<PathBuf> {
    let path = from.with_file_name("large.000001");
    if fs::metadata(&path).is_ok_and(|found| found.len() >= total) {
        return Ok(path);
    }
    let bytes = fs::read(from)?;
    let mut events = Vec::new();
    let mut at = 4;
    while let Some(size) = bytes.get(at + 9..at + 13) {
        let size = u32::from_le_bytes(size.try_into()?) as usize;
        events.push(bytes.get(at..at + size).context("the log is torn")?);
        at += size;
    }
    let first = events.iter().position(|event| event[4] == GTID).context("the log has no transaction")?;
    let (prefix, events) = events.split_at(first);
    let groups: Vec<&[&[u8]]> =
        events.split_inclusive(|event| event[4] == XID).filter(|g| g.last().is_some_and(|e| e[4] == XID)).collect();
    let mut out = Writer { out: BufWriter::new(File::create(&path)?), at: 4, sequence: 0 };
    out.out.write_all(b"\xfebin")?;
    for event in prefix {
        out.event(event, None)?;
    }
    let mut turn = groups.iter().cycle();
    let mut small = |out: &mut Writer, until: u64| -> Result<()> {
        while out.at < until {
            for event in *turn.next().context("the log has no whole transaction")? {
                out.event(event, None)?;
            }
        }
        Ok(())
    };
    small(&mut out, total.saturating_sub(large) / 2)?;
    let is_rows = |event: &&&[u8]| (23..=25).contains(&event[4]) || (30..=32).contains(&event[4]);
    let group = groups.first().context("the log has no whole transaction")?;
    let rows: Vec<&[u8]> = group.iter().filter(is_rows).copied().collect();
    for event in group.iter().filter(|event| !is_rows(event) && event[4] != XID) {
        out.event(event, None)?;
    }
    let start = out.at;
    for event in rows.iter().cycle() {
        let last = out.at - start >= large;
        out.event(event, Some(if last { STMT_END } else { 0 }))?;
        if last {
            break;
        }
    }
    out.event(group.last().context("a group has events")?, None)?;
    small(&mut out, total)?;
    out.out.flush()?;
    Ok(path)
}

struct Writer {
    out: BufWriter<File>,
    at: u64,
    sequence: u64,
}

impl Writer {
    /// Writes an event where it stands now; `flags` are those of rows.
    fn event(&mut self, event: &[u8], flags: Option<u16>) -> Result<()> {
        let mut event = event.to_vec();
        self.at += event.len() as u64;
        if event[4] == GTID {
            self.sequence += 1;
            event[HEADER..HEADER + 8].copy_from_slice(&self.sequence.to_le_bytes());
        }
        if let Some(flags) = flags {
            event[HEADER + 6..HEADER + 8].copy_from_slice(&flags.to_le_bytes());
        }
        if event[4] != FORMAT {
            event[13..17].copy_from_slice(&(self.at as u32).to_le_bytes());
            let covered = event.len() - 4;
            let crc = crc32fast::hash(&event[..covered]);
            event[covered..].copy_from_slice(&crc.to_le_bytes());
        }
        self.out.write_all(&event)?;
        Ok(())
    }
}
