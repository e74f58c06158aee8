//! How fast a target catches up: rlog-apply beside what people use today. Every run starts from a fresh copy of the same base,
//! and its result is compared with the source's before it counts.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};

use crate::measure::{self, Contestant, Rate, Work};
use crate::report::{self, Run};
use crate::server::Server;
use crate::{Settings, logs, peer, program, repository};

const SQLITE_WORDS: &str = "Four transactions of narrow rows (two inserts, an update, a delete) from a queue into a new SQLite file, beside a loop of
prepared statements that makes the same changes in the same four transactions (WAL, synchronous FULL, both). Thousands of row changes per second
of wall-clock time. oltp and wide have no loop beside them.";

const MARIADB_WORDS: &str = "Catch-up of small transactions (two updates, a delete, an insert) into a private MariaDB 10.11 that holds the base rows already,
innodb_flush_log_at_trx_commit=1, no binary log of its own. Transactions per second of wall-clock time. The native replica has fetched its relay
log before the clock starts, and rlog-apply reads a queue that is full, into a target that has its state tables. After each run the table's checksum must be the source's.";

const BULK_WORDS: &str = "Catch-up of four transactions of narrow rows (two inserts, an update, a delete) into a private MariaDB 10.11, everything else as
for small transactions. Thousands of row changes per second of wall-clock time.";

const PLUGIN_WORDS: &str = "What listeners cost: the same four transactions of narrow rows from a queue into a new SQLite file, without a plug-in, with one
that listens to nothing, with one whose functions for every kind of event do nothing (two calls a row), with the audit trail of examples/plugin-audit, and with a
process that is fed JSON lines (cat > /dev/null). Thousands of row changes per second of wall-clock time.";

/// Rounds of the SQLite suite at most.
const SQLITE_ROUNDS_MAX: usize = 3;

/// Into SQLite.
pub fn sqlite(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("apply-sqlite");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mut contestants = Vec::new();
    for log in logs::logs(&settings.logs, settings.scale)? {
        let queue = work.join(format!("{}.queue", log.name));
        fill(&queue, &[&log.setup, &log.load])?;
        let bytes = fs::metadata(&log.load)?.len();
        let database = work.join("target.db");
        let fresh = {
            let database = database.clone();
            move || {
                for suffix in ["", "-wal", "-shm"] {
                    let mut path = database.clone().into_os_string();
                    path.push(suffix);
                    let _ = fs::remove_file(path);
                }
                Ok(())
            }
        };
        let mut add = |who: &str, command: Vec<OsString>, expected: Option<u64>| {
            let database = database.clone();
            let table = if log.name == "oltp" {
                "sbtest1"
            } else if log.name == "bulk" {
                "narrow"
            } else {
                "wide"
            };
            let after = move || -> Result<()> {
                let connection = rusqlite::Connection::open(&database)?;
                let count: i64 =
                    connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0))?;
                ensure!(expected.is_none_or(|expected| expected as i64 == count), "{count} rows in {table}");
                Ok(())
            };
            contestants.push(Contestant {
                work: Work::Program { command, stdin: None },
                before: Some(Box::new(fresh.clone())),
                after: Some(Box::new(after)),
                bytes,
                rows: log.rows,
                baselines: &["prepared loop"],
                ..Contestant::program(log.name, who, vec![])
            });
        };
        let per_transaction = log.rows / 4;
        let expected = match log.name {
            "bulk" => Some(per_transaction),
            "wide" => Some(log.rows),
            _ => None,
        };
        if log.name == "bulk" {
            let command =
                vec![peer("prepared-loop")?.into(), database.clone().into(), per_transaction.to_string().into()];
            add("prepared loop", command, expected);
        }
        let mut target = OsString::from("sqlite:");
        target.push(&database);
        let words = ["run", "--init", "empty", "--create-tables", "--from"].map(OsString::from);
        let mut command: Vec<OsString> = vec![program("rlog-apply").into()];
        command.extend(words);
        command.extend([queue.into_os_string(), target]);
        add("rlog-apply", command, expected);
    }
    let rate = Rate::ThousandRows;
    contestants.push(measure::fsync_probe(&settings.logs));
    let rounds = settings.rounds.min(SQLITE_ROUNDS_MAX);
    let samples = measure::interleaved(&mut contestants, rounds, rate)?;
    let versions = vec![format!("scale {}, {rounds} rounds", settings.scale)];
    Run { suite: "apply-sqlite", words: SQLITE_WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

/// Into SQLite, with listeners.
pub fn plugin(settings: &Settings) -> Result<()> {
    let work = settings.logs.join("apply-plugin");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let cc = |source: &str, name: &str| -> Result<String> {
        let plugin = work.join(name);
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-I"]).arg(repository().join("include")).arg("-o").arg(&plugin);
        let status = cc.arg(repository().join(source)).status()?;
        ensure!(status.success(), "cc {source} ends with {status}");
        Ok(plugin.display().to_string())
    };
    let nothing = cc("benches/src/peers/nothing.c", "nothing.so")?;
    let audit = cc("examples/plugin-audit/audit.c", "audit.so")?;
    let logs = logs::logs(&settings.logs, settings.scale)?;
    let log = logs.iter().find(|log| log.name == "bulk").context("the bulk log")?;
    let queue = work.join("queue");
    fill(&queue, &[&log.setup, &log.load])?;
    let database = work.join("target.db");
    let expected = log.rows / 4;
    let listeners = [
        ("rlog-apply", vec![]),
        ("listens to nothing", vec!["--plugin".to_owned(), nothing.clone()]),
        ("listens to all", vec!["--plugin".to_owned(), format!("{nothing}:all")]),
        ("audit trail", vec!["--plugin".to_owned(), format!("{audit}:{}", work.join("trail").display())]),
        ("--exec cat", vec!["--exec".to_owned(), "cat > /dev/null".to_owned()]),
    ];
    let mut contestants = Vec::new();
    for (who, options) in listeners {
        let (fresh, done) = (work.clone(), database.clone());
        let before = move || {
            for name in ["target.db", "target.db-wal", "target.db-shm", "trail"] {
                let _ = fs::remove_file(fresh.join(name));
            }
            Ok(())
        };
        let after = move || -> Result<()> {
            let connection = rusqlite::Connection::open(&done)?;
            let count: i64 = connection.query_row("select count(*) from narrow", [], |row| row.get(0))?;
            ensure!(count == expected as i64, "{count} rows in narrow");
            Ok(())
        };
        let mut command: Vec<OsString> = vec![program("rlog-apply").into()];
        command.extend(["run", "--init", "empty", "--create-tables"].map(OsString::from));
        command.extend(options.into_iter().map(OsString::from));
        command.extend(["--from".into(), queue.clone().into_os_string()]);
        let mut target = OsString::from("sqlite:");
        target.push(&database);
        command.push(target);
        contestants.push(Contestant {
            work: Work::Program { command, stdin: None },
            before: Some(Box::new(before)),
            after: Some(Box::new(after)),
            bytes: fs::metadata(&log.load)?.len(),
            rows: log.rows,
            baselines: &["rlog-apply"],
            ..Contestant::program(log.name, who, vec![])
        });
    }
    let rate = Rate::ThousandRows;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![format!("scale {}, {} rounds", settings.scale, settings.rounds)];
    Run { suite: "apply-plugin", words: PLUGIN_WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

/// Puts logs into a new queue.
fn fill(queue: &Path, logs: &[&Path]) -> Result<()> {
    let _ = fs::remove_dir_all(queue);
    let mut extract = Command::new(program("rlog-extract")).args(logs).stdout(std::process::Stdio::piped()).spawn()?;
    let frames = extract.stdout.take().context("a pipe")?;
    let put = Command::new(program("rlog-queue")).arg("put").arg(queue).stdin(frames).status()?;
    let extract = extract.wait()?;
    ensure!(put.success() && extract.success(), "rlog-extract ends with {extract}, rlog-queue put with {put}");
    Ok(())
}

/// Share of the oltp load that the MariaDB suite uses: 12,000 transactions at scale 1, since the slowest peer manages a
/// few hundred a second.
const OLTP_SHARE: f64 = 1.0 / 5.0;
/// Share of the bulk load: 4 transactions of 150,000 rows at scale 1.
const BULK_SHARE: f64 = 0.15;
/// Rounds of the MariaDB suites at most: a round takes a minute and more.
const MARIADB_ROUNDS_MAX: usize = 3;

/// Small transactions into MariaDB.
pub fn mariadb(settings: &Settings) -> Result<()> {
    let scale = settings.scale * OLTP_SHARE;
    eprintln!("bench: a source with {} transactions", logs::oltp_transactions(scale));
    let (source, rows) = logs::oltp_server(scale)?;
    let load = Load {
        suite: "apply-mariadb",
        words: MARIADB_WORDS,
        case: "oltp",
        rate: Rate::Transactions,
        table: "bench.sbtest1",
        rows,
        transactions: logs::oltp_transactions(scale),
        native: &[(0, "optimistic"), (4, "conservative"), (8, "conservative"), (4, "optimistic"), (8, "optimistic")],
        workers: &[1, 2, 4],
    };
    load.run(settings, source)
}

/// Huge transactions into MariaDB.
pub fn mariadb_bulk(settings: &Settings) -> Result<()> {
    let (source, rows) = logs::bulk_server(settings.scale * BULK_SHARE)?;
    let load = Load {
        suite: "apply-mariadb-bulk",
        words: BULK_WORDS,
        case: "bulk",
        rate: Rate::ThousandRows,
        table: "bench.narrow",
        rows,
        transactions: 4,
        native: &[(0, "optimistic"), (4, "optimistic")],
        workers: &[1, 2, 4],
    };
    load.run(settings, source)
}

/// A load that catches up into MariaDB.
struct Load {
    suite: &'static str,
    words: &'static str,
    case: &'static str,
    rate: Rate,
    /// What is compared with the source afterwards.
    table: &'static str,
    rows: u64,
    transactions: u64,
    /// Threads and modes of the native replica.
    native: &'static [(u32, &'static str)],
    /// `--workers` of rlog-apply.
    workers: &'static [u32],
}

impl Load {
    fn run(&self, settings: &Settings, source: Server) -> Result<()> {
        let source = Rc::new(source);
        let checksum = format!("checksum table {}", self.table);
        let wanted = source.value(&checksum);
        let mut closed = source.logs();
        closed.truncate(2);
        let [setup, load] = &closed[..] else { anyhow::bail!("the source has {} logs", closed.len()) };

        let work = tempfile::Builder::new().prefix("rlog-bench-").tempdir()?;
        let base = base(setup, &work.path().join("base"))?;
        let queue = work.path().join("queue");
        let queue_filled = fill(&queue, &[load]);

        // The target's folder is always the same, so that the commands are known beforehand.
        let home = work.path().join("t");
        let target: Rc<RefCell<Option<Server>>> = Rc::default();
        let mut contestants = Vec::new();
        let mut add = |who: String, work_of: Work, prepare: Option<Box<dyn Fn(&Server) -> Result<()>>>| {
            let (slot, base, home, wanted) = (target.clone(), base.clone(), home.clone(), wanted.clone());
            let before = move || -> Result<()> {
                slot.borrow_mut().take();
                let _ = fs::remove_dir_all(&home);
                fs::create_dir_all(&home)?;
                let copied = Command::new("cp").arg("-a").arg(base.join("data")).arg(&home).status()?;
                ensure!(copied.success(), "cp: {copied}");
                let server = target_server().dir(&home).start();
                if let Some(prepare) = &prepare {
                    prepare(&server)?;
                }
                *slot.borrow_mut() = Some(server);
                Ok(())
            };
            let (slot, checksum) = (target.clone(), checksum.clone());
            let after = move || -> Result<()> {
                let target = slot.borrow();
                let found = target.as_ref().context("the target runs")?.value(&checksum);
                ensure!(found == wanted, "checksum {found}, the source has {wanted}");
                Ok(())
            };
            contestants.push(Contestant {
                work: work_of,
                before: Some(Box::new(before)),
                after: Some(Box::new(after)),
                bytes: fs::metadata(load).map_or(0, |meta| meta.len()),
                rows: self.rows,
                transactions: self.transactions,
                baselines: &["mariadb-binlog | mariadb", "best native replica"],
                ..Contestant::program(self.case, &who, vec![])
            });
        };

        let socket = home.join("socket");
        let run = source.program("mariadb").get_program().to_os_string();
        let script = "set -o pipefail; \"$0\" mariadb-binlog --no-defaults \"$1\" | \"$0\" mariadb --no-defaults --socket=\"$2\" --user=root --binary-mode";
        let pipe: Vec<OsString> = vec![
            "bash".into(),
            "-c".into(),
            script.into(),
            run,
            load.clone().into_os_string(),
            socket.clone().into_os_string(),
        ];
        add("mariadb-binlog | mariadb".into(), Work::Program { command: pipe, stdin: None }, None);

        for (threads, mode) in self.native {
            let who = match threads {
                0 => "native replica, serial".into(),
                _ => format!("native replica, {threads} {mode}"),
            };
            let (port, size) = (source.port(), fs::metadata(load)?.len());
            let prepare = move |server: &Server| -> Result<()> { fetch_relay_log(server, *threads, mode, port) };
            let slot = target.clone();
            let procedure = move || -> Result<()> {
                let target = slot.borrow();
                let target = target.as_ref().context("the target runs")?;
                target.sql("start slave sql_thread");
                let waited = target.value(&format!("select master_pos_wait('bin.000002', {size}, 900)"));
                ensure!(waited.parse::<i64>().is_ok_and(|events| events >= 0), "master_pos_wait: {waited}");
                Ok(())
            };
            add(who, Work::Procedure(Box::new(procedure)), Some(Box::new(prepare)));
        }

        match queue_filled {
            Err(error) => eprintln!("bench: rlog-apply does not take part: {error:#}"),
            Ok(()) => {
                for workers in self.workers {
                    let mut url = OsString::from("mysql://root@localhost/?socket=");
                    url.push(&socket);
                    let mut command: Vec<OsString> = vec![program("rlog-apply").into()];
                    command.extend(
                        ["run", "--workers", &workers.to_string(), "--init", "bin.000002:4", "--from"]
                            .map(OsString::from),
                    );
                    command.extend([queue.clone().into_os_string(), url]);
                    // As a native replica knows its source before the clock starts, the target has its state tables.
                    let mut first = command.clone();
                    first.extend(["--until", "bin.000002:4"].map(OsString::from));
                    let prepare = move |_: &Server| -> Result<()> {
                        let made = Command::new(&first[0]).args(&first[1..]).output()?;
                        ensure!(made.status.success(), "{made:?}");
                        Ok(())
                    };
                    let work = Work::Program { command, stdin: None };
                    add(format!("rlog-apply --workers {workers}"), work, Some(Box::new(prepare)));
                }
            }
        }

        contestants.push(measure::fsync_probe(work.path()));
        let rounds = settings.rounds.min(MARIADB_ROUNDS_MAX);
        let samples = measure::interleaved(&mut contestants, rounds, self.rate)?;
        let versions = vec![
            format!("mariadb: {}", source.value("select version()")),
            format!("scale {}, {rounds} rounds", settings.scale),
        ];
        let (suite, words, rate) = (self.suite, self.words, self.rate);
        Run { suite, words, rate, contestants: &contestants, samples: &samples, versions }
            .write(repository(), &report::folder(repository()))
    }
}

/// Makes a server a replica, and waits until it has the relay log. Nothing is applied yet.
fn fetch_relay_log(server: &Server, threads: u32, mode: &str, port: u16) -> Result<()> {
    server.sql(&format!(
        "set global slave_parallel_threads = {threads}; set global slave_parallel_mode = '{mode}'; \
         change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'root', \
         master_log_file = 'bin.000002', master_log_pos = 4, master_use_gtid = no; start slave io_thread"
    ));
    // The last event of a closed log is its ROTATE; once it is here, the I/O thread stands in the next file.
    for _ in 0..6000 {
        let status = server.rows("show slave status");
        let text = |at: usize| String::from_utf8_lossy(status[0][at].as_deref().unwrap_or_default()).into_owned();
        if text(5) != "bin.000002" {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    anyhow::bail!("the replica does not fetch its relay log")
}

fn target_server() -> crate::server::ServerBuilder {
    Server::new("mariadb-10.11").options([
        "--server-id=9999",
        "--innodb-flush-log-at-trx-commit=1",
        "--innodb-buffer-pool-size=1G",
        "--innodb-log-file-size=512M",
        "--max-allowed-packet=64M",
        "--skip-slave-start",
    ])
}

/// A stopped server's folder in which the setup log has been applied.
fn base(setup: &Path, dir: &Path) -> Result<Rc<std::path::PathBuf>> {
    let server = target_server().dir(dir).start();
    let run = server.program("mariadb").get_program().to_os_string();
    let script = "set -o pipefail; \"$0\" mariadb-binlog --no-defaults \"$1\" | \"$0\" mariadb --no-defaults --socket=\"$2\" --user=root --binary-mode";
    let done = Command::new("bash").arg("-c").arg(script).arg(run).arg(setup).arg(server.socket()).status()?;
    ensure!(done.success(), "the setup log does not apply: {done}");
    Ok(Rc::new(server.keep()))
}
