//! Building plug-ins as their authors do, each once a process; and a place to run them in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::common::changes::{Records, Source, table};
use crate::common::{repository, rlog, scratch};

/// The folder of what was built; removed by the system, since it lives as long as the process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // With `RLOG_PLUGIN_CFLAGS` (make plugin-check) another process may build otherwise.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugins-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    })
}

fn once(name: &str, build: impl FnOnce(&Path) -> Command) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let path = folder().join(format!("{name}.so"));
    let output = build(&path).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    built.insert(name.to_owned(), path.clone());
    path
}

/// A plug-in in C.
pub fn c(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    once(name, |path| {
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]);
        cc.arg("-I").arg(repository().join("include")).args(flags);
        cc.arg("-o").arg(path).arg(repository().join(source));
        cc
    })
}

/// The plug-in that does what it is told.
pub fn probe() -> PathBuf {
    c("probe", "tests/plugin/probe.c", &[])
}

/// The example that masks columns, built by cargo as its head says.
pub fn mask() -> PathBuf {
    let target = folder().join("mask");
    once("mask", |path| {
        let mut shell = Command::new("sh");
        shell.arg("-euc").arg("cargo build -q --offline --locked --manifest-path \"$1\" --target-dir \"$2\"; cp \"$2\"/debug/libplugin_mask.so \"$3\"");
        shell.arg("sh").arg(repository().join("examples/plugin-mask/Cargo.toml")).arg(&target).arg(path);
        shell.env("PATH", format!("{}:{}", home_bin(), std::env::var("PATH").unwrap_or_default()));
        shell
    })
}

fn home_bin() -> String {
    format!("{}/.cargo/bin", std::env::var("HOME").unwrap_or_default())
}

/// A plug-in in Rust, from its source beside the mirror of the header.
pub fn rust(name: &str, source: &str) -> PathBuf {
    let file = folder().join(format!("{name}.rs"));
    let abi = repository().join("src/plugin/abi.rs");
    std::fs::write(&file, format!("#[path = {abi:?}]\nmod abi;\n{source}")).unwrap();
    once(name, |path| {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(path).arg(&file);
        rustc.env("PATH", format!("{}:{}", home_bin(), std::env::var("PATH").unwrap_or_default()));
        rustc
    })
}

/// A folder with a target, and a log of what a plug-in heard.
pub struct Place {
    dir: tempfile::TempDir,
}

/// Whether programs run under valgrind, as `make plugin-check` asks for; that is slow.
pub fn is_checked() -> bool {
    std::env::var_os("RLOG_PLUGIN_VALGRIND").is_some()
}

/// The tool; under valgrind an error of memory, or a leak, is exit status 99.
fn program(tool: &str) -> assert_cmd::Command {
    let command = rlog(tool);
    if !is_checked() {
        return command;
    }
    let mut checked = assert_cmd::Command::new("valgrind");
    checked.args(["-q", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    checked.arg("--show-leak-kinds=definite").arg(command.get_program());
    checked.env_remove("RLOG_CONFIG").env("TZ", "UTC");
    checked
}

/// What a run came to.
pub struct Ran {
    /// Exit status; 128 and the signal's number when one ended it.
    pub status: i32,
    pub text: String,
    pub stdout: Vec<u8>,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: scratch() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn target(&self) -> String {
        format!("sqlite:{}", self.show("t.db"))
    }

    /// `rlog-apply run` into a new target, of which tables are created.
    pub fn apply(&self, stream: &[u8], options: &[&str]) -> Ran {
        let target = self.target();
        let mut all = vec!["run", "--init", "empty", "--create-tables"];
        all.extend_from_slice(options);
        all.push(&target);
        self.run("rlog-apply", stream, &all)
    }

    pub fn run(&self, tool: &str, input: &[u8], arguments: &[&str]) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let output = program(tool).current_dir(self.path("")).args(arguments).write_stdin(input).output().unwrap();
        let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
        Ran { status, text: String::from_utf8_lossy(&output.stderr).into_owned(), stdout: output.stdout }
    }

    /// What the probe has heard: thread and event.
    pub fn heard(&self) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(thread, event)| (thread.parse().unwrap(), event.to_owned())).collect()
    }

    /// Its events alone.
    pub fn events(&self) -> Vec<String> {
        self.heard().into_iter().map(|(_, event)| event).collect()
    }

    /// `--plugin` of the probe, which writes down what it hears and does what `rest` says.
    pub fn probe(&self, rest: &str) -> String {
        format!("--plugin={}:log={};{rest}", probe().display(), self.show("log"))
    }

    pub fn query(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.path("t.db")).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let cell = |index| match row.get_ref(index).unwrap() {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            Ok((0..columns).map(cell).collect::<Vec<_>>().join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// `count` transactions, each of which inserts one row into shop.t: id from 0, v = `v<id>`.
pub fn inserts(count: i32) -> Vec<u8> {
    let t = table("shop", "t");
    let mut source = Source::new();
    for id in 0..count {
        source.transaction(Records::default().insert(&t, (id, Some(&format!("v{id}")))));
    }
    source.end()
}
