//! Writes a run's folder, `benches/runs/<date>-<os>-<cpu>/`: README.md (how it was run, where, with what), raw.csv (every
//! sample), summary.md (medians and ratios).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::measure::{Contestant, Rate, Sample};

/// Before the common beginning of several names, in [`Contestant::baselines`].
pub const BEST: &str = "best ";

/// What was measured together.
pub struct Run<'a> {
    /// The title of the summary, and the part of the folder's file names.
    pub suite: &'static str,
    /// What was measured and how, for the README.
    pub words: &'static str,
    /// What its tables count.
    pub rate: Rate,
    /// Those that ran.
    pub contestants: &'a [Contestant],
    /// What came out.
    pub samples: &'a [Sample],
    /// Lines `name: version` of what ran beside rlog.
    pub versions: Vec<String>,
}

/// The folder for this run; several suites of one run share it.
pub fn folder(repository: &Path) -> PathBuf {
    if let Some(folder) = std::env::var_os("RLOG_BENCH_OUT") {
        return folder.into();
    }
    let os = os_release("ID") + &os_release("VERSION_ID");
    let cpu: String = cpu().to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let cpu = cpu.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    repository.join("benches/runs").join(format!("{}-{os}-{cpu}", said("date", &["-u", "+%F"])))
}

impl Run<'_> {
    /// Writes the three files, over those of an earlier run of the same day.
    pub fn write(&self, repository: &Path, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let suite = self.suite;
        fs::write(folder.join(file(suite, "README.md")), self.readme(repository))?;
        fs::write(folder.join(file(suite, "raw.csv")), self.raw())?;
        let summary = self.summary();
        fs::write(folder.join(file(suite, "summary.md")), &summary)?;
        println!("{summary}\nwritten to {}", folder.display());
        Ok(())
    }

    fn readme(&self, repository: &Path) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.suite, self.words.trim());
        let git = |arguments: &[&str]| {
            let mut all = vec!["-C", repository.to_str().unwrap_or(".")];
            all.extend(arguments);
            said("git", &all)
        };
        let changed =
            if git(&["status", "--porcelain", "--", "src", "Cargo.lock"]).is_empty() { "" } else { ", with changes" };
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory =
            memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let _ = writeln!(
            text,
            "- rlog: commit {}{changed}, release build, {}",
            git(&["rev-parse", "--short=12", "HEAD"]),
            said("rustc", &["--version"])
        );
        let _ = writeln!(
            text,
            "- machine: {}, {cores} cores, {} GiB, Linux {}, {}",
            cpu(),
            memory.div_ceil(1 << 20),
            said("uname", &["-r"]),
            os_release("PRETTY_NAME")
        );
        for version in &self.versions {
            let _ = writeln!(text, "- {version}");
        }
        let _ = writeln!(text, "- command: `make bench` (`rlog-bench {}`)\n\n## Commands\n", self.suite);
        let mut shown = Vec::new();
        for contestant in self.contestants.iter().filter(|contestant| contestant.case == self.contestants[0].case) {
            if shown.contains(&&contestant.who) {
                continue;
            }
            shown.push(&contestant.who);
            let _ = writeln!(text, "- {}: `{}`", contestant.who, without_folders(&contestant.shown()));
        }
        text
    }

    fn raw(&self) -> String {
        let mut csv = String::from("case,who,round,bytes,rows,wall_s,user_s,system_s,peak_mib,failure\n");
        for sample in self.samples {
            let contestant = &self.contestants[sample.contestant];
            let failure = sample.failure.as_deref().unwrap_or("").replace(['"', '\n'], " ");
            let _ = writeln!(
                csv,
                "{},{},{},{},{},{:.4},{:.4},{:.4},{:.1},\"{failure}\"",
                contestant.case,
                contestant.who,
                sample.round,
                contestant.bytes,
                contestant.rows,
                sample.wall,
                sample.user,
                sample.system,
                sample.peak_mib
            );
        }
        csv
    }

    fn summary(&self) -> String {
        let mut text = format!("# {}: medians\n", self.suite);
        let mut cases: Vec<&str> = self.contestants.iter().map(|contestant| contestant.case.as_str()).collect();
        cases.dedup();
        for case in cases {
            let of_case = || self.contestants.iter().enumerate().filter(|(_, contestant)| contestant.case == case);
            let baselines = of_case().map(|(_, contestant)| contestant.baselines).next().unwrap_or_default();
            let unit = self.rate.unit();
            let per = if self.rate == Rate::MegabytesPerCpu { "CPU-s" } else { "s" };
            let _ = write!(
                text,
                "\n## {case}\n\n| | {unit} [range] | k rows/{per} | transactions/{per} | CPU s | peak MiB |"
            );
            for baseline in baselines {
                let _ = write!(text, " x {} |", cell(baseline));
            }
            let _ = writeln!(text, "\n|---|---|---|---|---|---|{}", "---|".repeat(baselines.len()));
            let rate_of = |index: usize| self.median(index, |sample, contestant| self.rate.of(sample, contestant));
            for (index, contestant) in of_case() {
                let Some((rate, low, high)) = rate_of(index) else {
                    let sample = self.samples.iter().find(|sample| sample.contestant == index);
                    let failure = sample.and_then(|sample| sample.failure.as_deref()).unwrap_or("not run");
                    let _ = writeln!(text, "| {} | failed: {} |", cell(&contestant.who), cell(failure));
                    continue;
                };
                let middle = |value: &dyn Fn(&Sample, &Contestant) -> f64| {
                    self.median(index, value).map_or(0.0, |value| value.0)
                };
                let rows = middle(&|sample, contestant| {
                    let seconds = if self.rate == Rate::MegabytesPerCpu { sample.cpu() } else { sample.wall };
                    contestant.rows as f64 / 1e3 / seconds
                });
                let transactions = middle(&|sample, contestant| {
                    let seconds = if self.rate == Rate::MegabytesPerCpu { sample.cpu() } else { sample.wall };
                    contestant.transactions as f64 / seconds
                });
                let transactions = if transactions > 0.0 { format!("{transactions:.0}") } else { "-".to_owned() };
                let cpu = middle(&|sample, _| sample.cpu());
                let peak = middle(&|sample, _| sample.peak_mib);
                let _ = write!(
                    text,
                    "| {} | {rate:.0} [{low:.0}-{high:.0}] | {rows:.0} | {transactions} | {cpu:.2} | {peak:.0} |",
                    cell(&contestant.who)
                );
                for baseline in baselines {
                    // `best A` is the fastest of those whose names begin with A.
                    let is_meant = |who: &str| match baseline.strip_prefix(BEST) {
                        Some(prefix) => who.starts_with(prefix),
                        None => who == *baseline,
                    };
                    let other = of_case()
                        .filter(|(_, contestant)| is_meant(&contestant.who))
                        .filter_map(|(index, _)| Some(rate_of(index)?.0))
                        .max_by(f64::total_cmp);
                    let _ = match other {
                        Some(other) => write!(text, " {:.2} |", rate / other),
                        None => write!(text, " - |"),
                    };
                }
                text.push('\n');
            }
        }
        text
    }

    /// Median, least and greatest of a contestant's good samples.
    fn median(&self, index: usize, value: impl Fn(&Sample, &Contestant) -> f64) -> Option<(f64, f64, f64)> {
        let good = self.samples.iter().filter(|sample| sample.contestant == index && sample.failure.is_none());
        let mut values: Vec<f64> = good.map(|sample| value(sample, &self.contestants[index])).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0
        };
        Some((median, values[0], values[values.len() - 1]))
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The first suite of a run has the plain names that every run has.
fn file(suite: &str, name: &str) -> String {
    if suite == "decode" { name.to_string() } else { format!("{suite}-{name}") }
}

/// What a program prints, trimmed; empty if it does not run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default()
}

/// Words without folders where they are paths: a run's record names no place of its machine.
pub fn without_folders(words: &str) -> String {
    let plain = |word: &str| match word.rsplit_once('/') {
        Some((_, name)) if word.trim_start_matches(['\'', '"', '`']).starts_with('/') => name.to_string(),
        _ => word.to_string(),
    };
    words.split(' ').map(plain).collect::<Vec<_>>().join(" ")
}

fn os_release(key: &str) -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or("unknown");
    value.trim_matches('"').to_string()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    name.unwrap_or(std::env::consts::ARCH)
        .split('@')
        .next()
        .unwrap_or_default()
        .replace("(R)", "")
        .replace("(TM)", "")
        .trim()
        .to_string()
}
