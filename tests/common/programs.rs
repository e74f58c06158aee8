//! The built programs, scratch folders and the corpus.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a built program.
fn program(name: &str) -> &'static str {
    match name {
        "rlog-extract" => env!("CARGO_BIN_EXE_rlog-extract"),
        "rlog-ship" => env!("CARGO_BIN_EXE_rlog-ship"),
        "rlog-queue" => env!("CARGO_BIN_EXE_rlog-queue"),
        "rlog-apply" => env!("CARGO_BIN_EXE_rlog-apply"),
        "rlog-dump" => env!("CARGO_BIN_EXE_rlog-dump"),
        other => panic!("there is no program '{other}'"),
    }
}

/// A command that runs a built program, in UTC and without anybody's configuration.
pub fn rlog(name: &str) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(program(name));
    command.env_remove("RLOG_CONFIG").env("TZ", "UTC");
    command
}

/// A bash script that finds the built programs by name, with `pipefail`: for pipelines as users write them.
///
/// Arguments of the script are `$1`, `$2`, … (`.arg(path)`), so that no path needs quoting.
pub fn shell(script: &str) -> assert_cmd::Command {
    let mut path = std::ffi::OsString::from(Path::new(program("rlog-dump")).parent().expect("a folder"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = assert_cmd::Command::new("bash");
    command.args(["-uo", "pipefail", "-c", script, "bash"]).env("PATH", path);
    command.env_remove("RLOG_CONFIG").env("TZ", "UTC");
    command
}

/// A figure of a process from /proc in KiB: `VmRSS`, what is resident now, or `VmHWM`, the most that was. 0 once it has ended.
pub fn memory_kib(process: u32, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A folder that is removed when the value goes out of scope.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rlog-test-").tempdir().expect("a scratch folder")
}

/// The corpus of real logs, if this machine has it: `$RLOG_CORPUS`, or the folder beside the repository.
///
/// Tests that use it say on standard error that they are passing it over when it is not there.
pub fn corpus() -> Option<PathBuf> {
    let path = match std::env::var_os("RLOG_CORPUS") {
        Some(path) => PathBuf::from(path),
        None => repository().join("../shared/corpus"),
    };
    if path.join("MANIFEST.tsv").exists() {
        return Some(path);
    }
    eprintln!("no corpus at {}: this test has nothing to look at (set RLOG_CORPUS)", path.display());
    None
}

/// A file of the corpus and what its manifest says of it.
pub struct CorpusFile {
    /// Where it is.
    pub path: PathBuf,
    /// `binlog`, `binlog/relay`, `wal`, `companion`, …
    pub kind: String,
    /// What mariadb-binlog 10.11 says: `ok …` or its error.
    pub mariadb_binlog: String,
    /// What mysqlbinlog 9.7 says.
    pub mysqlbinlog: String,
    /// What is to be expected: `VALID: …`, `CORRUPT: …`, …
    pub expected: String,
}

/// The corpus's files; none when this machine has no corpus.
pub fn corpus_files() -> Vec<CorpusFile> {
    let Some(corpus) = corpus() else { return Vec::new() };
    let manifest = std::fs::read_to_string(corpus.join("MANIFEST.tsv")).expect("the corpus has a manifest");
    let mut lines = manifest.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().expect("the manifest has a head");
    let column =
        |name: &str| head.iter().position(|column| *column == name).unwrap_or_else(|| panic!("no column {name}"));
    let (file, kind, expected) = (column("file"), column("kind"), column("expected"));
    let (mariadb, mysql) = (column("mariadb_binlog_10.11"), column("mysqlbinlog_9.7.4"));
    let files = lines.map(|line| CorpusFile {
        path: corpus.join(line[file]),
        kind: line[kind].into(),
        mariadb_binlog: line[mariadb].into(),
        mysqlbinlog: line[mysql].into(),
        expected: line[expected].into(),
    });
    files.collect()
}
