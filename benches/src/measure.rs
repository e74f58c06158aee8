//! Runs programs and takes their CPU time from the kernel, contestants interleaved so that a slow minute of the machine
//! hits all of them.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// What a contestant does.
pub enum Work {
    /// A program and its arguments, with a file as standard input if need be; its CPU time is taken.
    Program { command: Vec<OsString>, stdin: Option<PathBuf> },
    /// Anything else, a server's replication for example; only wall-clock time is taken.
    Procedure(Box<dyn FnMut() -> Result<()>>),
}

/// One way to do one job.
pub struct Contestant {
    /// The job's name.
    pub case: String,
    /// The contestant's name, as the tables show it.
    pub who: String,
    /// What is timed.
    pub work: Work,
    /// What is done before each run and not timed: a fresh target, for example.
    pub before: Option<Box<dyn FnMut() -> Result<()>>>,
    /// What is done after each good run and not timed: a look whether the job was really done.
    pub after: Option<Box<dyn FnMut() -> Result<()>>>,
    /// Bytes of input.
    pub bytes: u64,
    /// Row changes in the input.
    pub rows: u64,
    /// Transactions in the input.
    pub transactions: u64,
    /// What the ratios of the summary are taken to: its name, within the same case.
    pub baselines: &'static [&'static str],
}

impl Contestant {
    /// A program.
    pub fn program(case: &str, who: &str, command: Vec<OsString>) -> Contestant {
        let work = Work::Program { command, stdin: None };
        Contestant {
            case: case.into(),
            who: who.into(),
            work,
            before: None,
            after: None,
            bytes: 0,
            rows: 0,
            transactions: 0,
            baselines: &[],
        }
    }

    /// The command line, for the record.
    pub fn shown(&self) -> String {
        match &self.work {
            Work::Program { command, stdin } => {
                let mut words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                words.extend(stdin.iter().map(|path| format!("< {}", path.display())));
                words.join(" ")
            }
            Work::Procedure(_) => "see the suite's module".into(),
        }
    }
}

/// What a suite counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Megabytes of input a second of CPU time.
    MegabytesPerCpu,
    /// Megabytes of input a second.
    Megabytes,
    /// Transactions a second.
    Transactions,
    /// Thousands of row changes a second.
    ThousandRows,
}

impl Rate {
    /// The unit, for the head of a table.
    pub fn unit(self) -> &'static str {
        match self {
            Rate::MegabytesPerCpu => "MB/CPU-s",
            Rate::Megabytes => "MB/s",
            Rate::Transactions => "txn/s",
            Rate::ThousandRows => "k rows/s",
        }
    }

    /// The rate of a sample.
    pub fn of(self, sample: &Sample, contestant: &Contestant) -> f64 {
        match self {
            Rate::MegabytesPerCpu => contestant.bytes as f64 / 1e6 / sample.cpu(),
            Rate::Megabytes => contestant.bytes as f64 / 1e6 / sample.wall,
            Rate::Transactions => contestant.transactions as f64 / sample.wall,
            Rate::ThousandRows => contestant.rows as f64 / 1e3 / sample.wall,
        }
    }
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

/// The state of the disk while a suite runs: 100 writes of 4 KiB with an fdatasync each. It takes its turn like any other,
/// since the same disk may be fifty times slower a minute later; durable figures mean little without it.
pub fn fsync_probe(folder: &Path) -> Contestant {
    const CALLS: u64 = 100;
    let path = folder.join("fsync-probe");
    let probe = move || -> Result<()> {
        let mut file = File::create(&path)?;
        for _ in 0..CALLS {
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
        }
        Ok(())
    };
    Contestant {
        work: Work::Procedure(Box::new(probe)),
        bytes: CALLS * 4096,
        rows: CALLS,
        transactions: CALLS,
        ..Contestant::program("fsync probe", "100 x 4 KiB", vec![])
    }
}

/// Runs every contestant `rounds` times, in turns.
pub fn interleaved(contestants: &mut [Contestant], rounds: usize, rate: Rate) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut failed = vec![false; contestants.len()];
    for round in 0..rounds {
        for (index, contestant) in contestants.iter_mut().enumerate() {
            // What fails once fails again; its time says nothing.
            if failed[index] {
                continue;
            }
            eprint!("bench: round {} of {rounds}: {} {} ... ", round + 1, contestant.case, contestant.who);
            let sample = match contestant.before.as_mut().map_or(Ok(()), |before| before()) {
                Ok(()) => checked(contestant, index, round)?,
                Err(error) => Sample::failed(index, round, format!("before the run: {error:#}")),
            };
            match &sample.failure {
                None => eprintln!(
                    "{:.2} s, {:.2} s CPU, {:.1} {}",
                    sample.wall,
                    sample.cpu(),
                    rate.of(&sample, contestant),
                    rate.unit()
                ),
                Some(failure) => eprintln!("FAILED: {failure}"),
            }
            failed[index] = sample.failure.is_some();
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// Runs a contestant, and looks whether it did what it should.
fn checked(contestant: &mut Contestant, index: usize, round: usize) -> Result<Sample> {
    let sample = run(contestant, index, round)?;
    if sample.failure.is_none()
        && let Some(after) = &mut contestant.after
        && let Err(error) = after()
    {
        return Ok(Sample::failed(index, round, format!("the result is wrong: {error:#}")));
    }
    Ok(sample)
}

fn run(contestant: &mut Contestant, index: usize, round: usize) -> Result<Sample> {
    match &mut contestant.work {
        Work::Program { command, stdin } => run_program(command, stdin.as_deref(), index, round),
        Work::Procedure(procedure) => {
            let started = Instant::now();
            let done = procedure();
            let wall = started.elapsed().as_secs_f64();
            match done {
                Ok(()) => Ok(Sample { wall, ..Sample::failed(index, round, String::new()) }.well()),
                Err(error) => Ok(Sample::failed(index, round, format!("{error:#}"))),
            }
        }
    }
}

impl Sample {
    fn failed(contestant: usize, round: usize, failure: String) -> Sample {
        let failure = Some(crate::report::without_folders(&failure));
        Sample { contestant, round, wall: 0.0, user: 0.0, system: 0.0, peak_mib: 0.0, failure }
    }

    fn well(mut self) -> Sample {
        self.failure = None;
        self
    }
}

fn run_program(command: &[OsString], stdin: Option<&Path>, index: usize, round: usize) -> Result<Sample> {
    let (program, arguments) = command.split_first().context("a command has a program")?;
    let stderr = tempfile::NamedTempFile::new()?;
    let input = match stdin {
        Some(path) => Stdio::from(File::open(path).with_context(|| path.display().to_string())?),
        None => Stdio::null(),
    };
    let started = Instant::now();
    let child = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(File::create(stderr.path())?)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Ok(Sample::failed(index, round, format!("{}: {error}", program.display()))),
    };
    let (status, usage) = wait(child.id())?;
    let wall = started.elapsed().as_secs_f64();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    if !status.success() {
        let words = std::fs::read(stderr.path()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let failure = format!("{status}: {}", words.lines().next().unwrap_or("no message"));
        return Ok(Sample::failed(index, round, failure));
    }
    Ok(Sample {
        contestant: index,
        round,
        wall,
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
        peak_mib: usage.ru_maxrss as f64 / 1024.0,
        failure: None,
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
