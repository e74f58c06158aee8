//! A running server as a source: how fast its log comes, and how fast its rows arrive in another server.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};

use crate::measure::{self, Contestant, Rate, Work};
use crate::report::{self, Run};
use crate::server::Server;
use crate::{Settings, program, repository};

const LOG_WORDS: &str = "The log of a running MariaDB 10.11 over its socket: rows of narrow and of wide tables, row metadata FULL. rlog-extract decodes and writes
frames (to nowhere), with --raw it also keeps copies; mariadb-binlog --raw keeps copies alone. Megabytes of log per second of wall-clock time.";

const SNAPSHOT_WORDS: &str = "All rows of a running MariaDB 10.11 into another, fresh one: rlog-extract --snapshot | rlog-apply run, beside mariadb-dump | mariadb.
Megabytes of data (data_length) per second of wall-clock time. After each run the tables' checksums must be equal.";

/// Rows of the narrow table at scale 1.
const NARROW_ROWS: f64 = 2_000_000.0;
/// Rows of the wide table at scale 1.
const WIDE_ROWS: f64 = 200_000.0;

/// A server with two tables, and a log that made them.
fn source(scale: f64) -> Result<Server> {
    let server = Server::new("mariadb-10.11")
        .log_bin()
        .options([
            "--binlog-row-metadata=FULL",
            "--sync-binlog=0",
            "--innodb-buffer-pool-size=1G",
            "--max-allowed-packet=64M",
        ])
        .start();
    server.sql("create database bench; use bench");
    server.sql("create table narrow (id int primary key, k int not null, v bigint, c char(20), key (k))");
    server.sql(
        "create table wide (id int primary key, a varchar(200), b text, c decimal(20,6), d datetime(6), e double, f json, g timestamp(3) null, \
         h blob)",
    );
    let rows = |at_one: f64| ((at_one * scale) as u64).max(1000);
    for (table, at_one, values) in [
        ("narrow", NARROW_ROWS, "seq, seq * 7919 % 1000003, seq * seq, left(md5(seq), 20)"),
        (
            "wide",
            WIDE_ROWS,
            "seq, repeat(md5(seq), 6), repeat(sha1(seq), 20), seq / 7, from_unixtime(seq * 1000), seq / 3, json_object('k', seq, 'v', md5(seq)), \
             from_unixtime(1e9 + seq), unhex(repeat(md5(seq), 20))",
        ),
    ] {
        // In pieces, so that the log has many transactions and rotates.
        let total = rows(at_one);
        let piece = 20_000;
        for from in (0..total).step_by(piece) {
            let to = (from + piece as u64).min(total) - 1;
            server.sql(&format!("insert into {table} select {values} from seq_{from}_to_{to}"));
        }
    }
    server.flush_logs();
    // Or the server tells sizes of before.
    server.sql("analyze table bench.narrow, bench.wide");
    Ok(server)
}

/// The log.
pub fn log(settings: &Settings) -> Result<()> {
    let server = source(settings.scale)?;
    let bytes = server.logs().iter().map(|path| fs::metadata(path).map_or(0, |meta| meta.len())).sum();
    let work = tempfile::Builder::new().prefix("rlog-bench-").tempdir()?;
    let url: OsString = server.socket_url("").into();
    let copies = work.path().join("copies");
    let peer_copies = work.path().join("peer");
    fs::create_dir_all(&peer_copies)?;
    let fresh = {
        let folders = [copies.clone(), peer_copies.clone()];
        move || {
            for folder in &folders {
                let _ = fs::remove_dir_all(folder);
            }
            fs::create_dir_all(&folders[1])?;
            Ok(())
        }
    };
    let mut contestants = Vec::new();
    let mut add = |who: &str, command: Vec<OsString>| {
        contestants.push(Contestant {
            before: Some(Box::new(fresh.clone())),
            bytes,
            baselines: &["mariadb-binlog --raw"],
            ..Contestant::program("log", who, command)
        });
    };
    let run = server.program("mariadb").get_program().to_os_string();
    let mut result: OsString = "--result-file=".into();
    result.push(peer_copies.join(""));
    add(
        "mariadb-binlog --raw",
        vec![
            run,
            "mariadb-binlog".into(),
            "--no-defaults".into(),
            "--read-from-remote-server".into(),
            "--raw".into(),
            "--to-last-log".into(),
            "--user=root".into(),
            server.socket_option(),
            result,
            "bin.000001".into(),
        ],
    );
    let extract: OsString = program("rlog-extract").into();
    add("rlog-extract", vec![extract.clone(), "-q".into(), url.clone()]);
    add("rlog-extract --raw", vec![extract, "-q".into(), "--raw".into(), copies.clone().into_os_string(), url]);
    let rate = Rate::Megabytes;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![
        format!("mariadb: {}", server.value("select version()")),
        format!("scale {}, {} rounds, {:.1} MB of log", settings.scale, settings.rounds, bytes as f64 / 1e6),
    ];
    Run { suite: "live-log", words: LOG_WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))
}

/// The rows.
pub fn snapshot(settings: &Settings) -> Result<()> {
    let source = source(settings.scale)?;
    let checksums = "checksum table bench.narrow, bench.wide";
    let wanted = source.text(checksums);
    let bytes: u64 = source
        .value("select cast(sum(data_length) as unsigned) from information_schema.tables where table_schema = 'bench'")
        .parse()
        .context("a size")?;
    let work = tempfile::Builder::new().prefix("rlog-bench-").tempdir()?;
    let home = work.path().join("t");
    let target: Rc<RefCell<Option<Server>>> = Rc::default();
    let mut contestants = Vec::new();
    let mut add = |who: &str, command: Vec<OsString>| {
        let (slot, home) = (target.clone(), home.clone());
        let before = move || -> Result<()> {
            slot.borrow_mut().take();
            let _ = fs::remove_dir_all(&home);
            fs::create_dir_all(&home)?;
            let options = [
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=1G",
                "--innodb-log-file-size=512M",
                "--max-allowed-packet=64M",
            ];
            *slot.borrow_mut() = Some(Server::new("mariadb-10.11").options(options).dir(&home).start());
            Ok(())
        };
        let (slot, wanted) = (target.clone(), wanted.clone());
        let after = move || -> Result<()> {
            let target = slot.borrow();
            let found = target.as_ref().context("the target runs")?.text(checksums);
            ensure!(found == wanted, "checksums {found}, the source has {wanted}");
            Ok(())
        };
        contestants.push(Contestant {
            work: Work::Program { command, stdin: None },
            before: Some(Box::new(before)),
            after: Some(Box::new(after)),
            bytes,
            baselines: &["mariadb-dump | mariadb"],
            ..Contestant::program("snapshot", who, vec![])
        });
    };
    let socket = home.join("socket");
    let run = source.program("mariadb").get_program().to_os_string();
    let script = "set -o pipefail; \"$0\" mariadb-dump --no-defaults --single-transaction --user=root --socket=\"$1\" --databases bench | \"$0\" mariadb --no-defaults --socket=\"$2\" --user=root";
    add(
        "mariadb-dump | mariadb",
        vec!["bash".into(), "-c".into(), script.into(), run, source.socket().into(), socket.clone().into()],
    );
    let script = "set -o pipefail; \"$0\" -q --snapshot \"$2\" | \"$1\" run -q --create-tables \"$3\"";
    let mut url = OsString::from("mysql://root@localhost/?socket=");
    url.push(&socket);
    add(
        "rlog-extract | rlog-apply",
        vec![
            "bash".into(),
            "-c".into(),
            script.into(),
            program("rlog-extract").into(),
            program("rlog-apply").into(),
            source.socket_url("").into(),
            url,
        ],
    );
    let rate = Rate::Megabytes;
    let samples = measure::interleaved(&mut contestants, settings.rounds, rate)?;
    let versions = vec![
        format!("mariadb: {}", source.value("select version()")),
        format!("scale {}, {} rounds, {:.1} MB of data", settings.scale, settings.rounds, bytes as f64 / 1e6),
    ];
    Run { suite: "live-snapshot", words: SNAPSHOT_WORDS, rate, contestants: &contestants, samples: &samples, versions }
        .write(repository(), &report::folder(repository()))
}
