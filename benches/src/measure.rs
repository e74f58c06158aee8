//! Runs programs and takes their CPU time from the kernel, contestants interleaved so that a slow minute of the machine
//! hits all of them.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// One program on one input.
pub struct Contestant {
    /// The input's name.
    pub case: String,
    /// The contestant's name, as the tables show it.
    pub who: String,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Bytes of input that the rates are counted in.
    pub bytes: u64,
    /// Row changes in the input.
    pub rows: u64,
    /// What the ratios of the summary are taken to: its name, within the same case.
    pub baselines: &'static [&'static str],
    /// Exit statuses that count as done.
    pub good: &'static [i32],
}

/// One run of one contestant.
pub struct Sample {
    /// Index of the contestant.
    pub contestant: usize,
    /// Number of the round, from 0.
    pub round: usize,
    /// Wall-clock time, seconds.
    pub wall: f64,
    /// CPU time in user mode, seconds.
    pub user: f64,
    /// CPU time in the kernel, seconds.
    pub system: f64,
    /// Peak resident memory, MiB, mapped files included.
    pub peak_mib: f64,
    /// Bytes that it wrote to standard output are thrown away; this is how it ended, `None` when it was well.
    pub failure: Option<String>,
}

impl Sample {
    /// User and kernel time together, seconds.
    pub fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// Runs every contestant `rounds` times, in turns.
pub fn interleaved(contestants: &[Contestant], rounds: usize) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut failed = vec![false; contestants.len()];
    for round in 0..rounds {
        for (index, contestant) in contestants.iter().enumerate() {
            // What fails once fails again; its time says nothing.
            if failed[index] {
                continue;
            }
            eprint!("bench: round {} of {rounds}: {} {} ... ", round + 1, contestant.case, contestant.who);
            let sample = run(contestant, index, round)?;
            match &sample.failure {
                None => eprintln!(
                    "{:.2} s CPU, {:.0} MB per CPU-second",
                    sample.cpu(),
                    contestant.bytes as f64 / 1e6 / sample.cpu()
                ),
                Some(failure) => eprintln!("FAILED: {failure}"),
            }
            failed[index] = sample.failure.is_some();
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn run(contestant: &Contestant, index: usize, round: usize) -> Result<Sample> {
    let (program, arguments) = contestant.command.split_first().context("a command has a program")?;
    let stderr = tempfile::NamedTempFile::new()?;
    let started = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(stderr.path())?)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            let failure = Some(format!("{}: {error}", PathBuf::from(program).display()));
            return Ok(Sample { contestant: index, round, wall: 0.0, user: 0.0, system: 0.0, peak_mib: 0.0, failure });
        }
    };
    let (status, usage) = wait(child.id())?;
    let wall = started.elapsed().as_secs_f64();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let good = status.code().is_some_and(|code| contestant.good.contains(&code));
    let failure = (!good).then(|| {
        let words = std::fs::read(stderr.path()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        crate::report::without_folders(&format!("{status}: {}", words.lines().next().unwrap_or("no message")))
    });
    Ok(Sample {
        contestant: index,
        round,
        wall,
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
        peak_mib: usage.ru_maxrss as f64 / 1024.0,
        failure,
    })
}

/// Waits for one child and asks what it used. `std` waits without asking.
fn wait(pid: u32) -> Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zeros are a value; wait4 fills it and the status, and nobody else waits for this child.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        let waited = unsafe { libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage) };
        if waited == pid as libc::pid_t {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    }
}
