//! `--exec`: the same lines as rlog-dump, a pipe that holds back, an exit status that is heeded.

use super::build::{Place, Ran, inserts, mask};
use crate::common::changes::{Records, Source, table};

/// Transactions, rows and statements of JSON lines.
fn lines(text: &str) -> Vec<String> {
    let wanted = ["begin", "row", "commit", "table", "statement", "ddl"];
    let of_kind = |line: &&str| wanted.iter().any(|kind| line.starts_with(&format!("{{\"kind\":\"{kind}\"")));
    text.lines().filter(of_kind).map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn the_lines_are_those_of_rlog_dump() {
    let place = Place::new();
    let (t, u) = (table("shop", "t"), table("shop", "u"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&u, (1, None)).insert(&t, (2, Some("b"))));
    source.transaction(Records::default().update(&t, (1, Some("a")), (1, Some("c"))).delete(&u, (1, None)));
    let stream = source.end();
    let dumped = place.run("rlog-dump", &stream, &["--json"]);
    let dumped = lines(&String::from_utf8(dumped.stdout).unwrap());
    assert_eq!(dumped.len(), 2 + 2 + 5 + 2);
    let ran = place.apply(&stream, &["--exec", "cat > lines", "--batch", "1"]);
    assert_eq!((ran.status, ran.text.as_str()), (0, ""));
    let heard = std::fs::read_to_string(place.path("lines")).unwrap();
    assert_eq!(lines(&heard), dumped);
    // Merged into one target transaction, commits come together behind both.
    let merged = Place::new();
    assert_eq!(merged.apply(&stream, &["--exec", "cat"]).status, 0);
    let other = Place::new();
    let ran = other.apply(&stream, &["--exec", "cat"]);
    let heard = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(sorted(lines(&heard)), sorted(dumped.clone()));
    assert!(heard.lines().rev().take(2).all(|line| line.contains("\"commit\"")), "{heard}");
    assert_eq!(place.run("rlog-dump", &stream, &["--format", "text", "--exec", "cat > heard"]).status, 0);
    assert_eq!(lines(&std::fs::read_to_string(place.path("heard")).unwrap()), dumped);
    // It hears of rows as the plug-ins left them, wherever it stands among the options.
    let masked = Place::new();
    let plugin = format!("--plugin={}:*.t.v", mask().display());
    let ran = masked.apply(&stream, &["--exec", "cat", &plugin]);
    assert!(!String::from_utf8(ran.stdout).unwrap().contains("\"v\":\"a\""));
}

/// It reads ten lines, and then kills us while it holds the pipe full.
#[test]
fn the_pipe_holds_back_and_a_kill_in_between_loses_nothing() {
    let place = Place::new();
    let stream = inserts(20_000);
    let command = "head -n 10 > lines; kill -9 $PPID; exec sleep 0";
    let ran = place.apply(&stream, &["--exec", command, "--batch", "1"]);
    assert_eq!(ran.status, 128 + 9, "{}", ran.text);
    let committed: u64 = place.query("select count(*) from t")[0].parse().unwrap();
    // What a pipe and the reader's buffer hold is no more than so many transactions of three lines.
    assert!(committed < 2_500, "{committed} transactions were committed that nobody had read");
    let ran = place.apply(&stream, &["--exec", "cat > rest"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert_eq!(place.query("select count(*), count(distinct id) from t"), ["20000|20000"]);
    let rest = lines(&std::fs::read_to_string(place.path("rest")).unwrap());
    // At least once: what was not committed is told again.
    assert_eq!(rest.iter().filter(|line| line.contains("\"row\"")).count() as u64, 20_000 - committed);
}

#[test]
fn the_exit_status_is_heeded() {
    // More than a pipe holds, so that its end is noticed while there is work left.
    let stream = inserts(5_000);
    let run = |command: &str| {
        let place = Place::new();
        let ran = place.apply(&stream, &["--exec", command, "--batch", "20", "--retries", "0"]);
        // Where nothing was committed there is no table either.
        let created = place.query("select count(*) from sqlite_schema where name = 't'")[0] == "1";
        let rows: u64 = if created { place.query("select count(*) from t")[0].parse().unwrap() } else { 0 };
        (ran, rows, place)
    };
    let (ran, rows, place) = run("head -n 3 > /dev/null; exit 3");
    assert_eq!(ran.status, 80, "{}", ran.text);
    assert!(ran.text.contains("refuses transaction") && ran.text.contains("exit status: 3"), "{}", ran.text);
    assert!(rows < 5_000);
    assert_eq!(place.apply(&stream, &[]).status, 0);
    assert_eq!(place.query("select count(*) from t"), ["5000"]);
    let (ran, rows, _) = run("head -n 3 > /dev/null; exit 75");
    assert_eq!((ran.status, rows < 5_000), (75, true), "{}", ran.text);
    let (ran, rows, _) = run("kill -9 $$");
    assert_eq!((ran.status, rows < 5_000), (80, true), "{}", ran.text);
    // It has heard enough: the run goes on.
    let (ran, rows, _) = run("head -n 3 > /dev/null");
    assert_eq!((ran.status, rows), (0, 5_000), "{}", ran.text);
    // At the end everything is applied, and the status is told all the same.
    let (ran, rows, _) = run("cat > /dev/null; exit 5");
    assert_eq!((ran.status, rows), (80, 5_000), "{}", ran.text);
    let (ran, rows, _) = run("exec no-such-command-anywhere");
    assert_eq!((ran.status, rows < 5_000), (80, true), "{}", ran.text);
}

/// `--exec` of rlog-extract, on a log of `count` transactions of a row each.
struct Extract {
    place: Place,
    _open: rusqlite::Connection,
}

impl Extract {
    fn new(count: u32) -> Extract {
        let place = Place::new();
        let open = rusqlite::Connection::open(place.path("app.db")).unwrap();
        open.execute_batch("pragma page_size = 512; pragma journal_mode = wal; pragma wal_autocheckpoint = 0; pragma synchronous = off").unwrap();
        open.execute_batch("create table t (id integer primary key, v text)").unwrap();
        let mut insert = open.prepare("insert into t values (?1, 'v' || ?1)").unwrap();
        (0..count).for_each(|id| assert_eq!(insert.execute([id]).unwrap(), 1));
        drop(insert);
        Extract { place, _open: open }
    }

    fn run(&self, command: &str) -> Ran {
        self.place.run("rlog-extract", b"", &["--exec", command, "app.db-wal"])
    }

    /// Rows that a stream holds, which must be one that a reader takes.
    fn rows(&self, stream: &[u8], status: i32) -> u64 {
        let put = self.place.run("rlog-queue", stream, &["put", "spool"]);
        assert_eq!(put.status, status, "{}", put.text);
        let dumped = self.place.run("rlog-dump", b"", &["--json", "spool"]).stdout;
        lines(&String::from_utf8(dumped).unwrap()).iter().filter(|line| line.contains("\"row\"")).count() as u64
    }
}

#[test]
fn extract_feeds_a_process_what_it_writes() {
    let log = Extract::new(50);
    let plain = log.place.run("rlog-extract", b"", &["app.db-wal"]);
    let ran = log.run("cat > lines; echo done");
    // What the process prints is no part of the stream, which is what it is without it.
    assert_eq!((ran.status, ran.text.as_str(), ran.stdout == plain.stdout), (0, "done\n", true), "{}", ran.text);
    let dumped = log.place.run("rlog-dump", &plain.stdout, &["--json"]);
    let dumped = lines(&String::from_utf8(dumped.stdout).unwrap());
    let heard = lines(&std::fs::read_to_string(log.place.path("lines")).unwrap());
    // Written together, they are committed together.
    assert!(heard.len() > 150 && sorted(heard) == sorted(dumped));
}

#[test]
fn a_process_that_refuses_ends_the_stream_and_what_it_heard_is_kept() {
    let log = Extract::new(6_000);
    for (command, status) in
        [("head -n 3 > /dev/null; exit 3", 80), ("head -n 3 > /dev/null; exit 75", 75), ("kill -9 $$", 80)]
    {
        let ran = log.run(command);
        assert_eq!(ran.status, status, "{command}: {}", ran.text);
        assert!(ran.text.contains("--exec") && ran.text.contains("it has ended: "), "{}", ran.text);
        // The reader ends as the writer did, with whole transactions.
        let rows = log.rows(&ran.stdout, status);
        assert!(rows < 6_000, "{command}: {rows}");
    }
    // It has heard enough.
    let ran = log.run("head -n 3 > /dev/null");
    assert_eq!((ran.status, log.rows(&ran.stdout, 0)), (0, 6_000), "{}", ran.text);
    // What it says at the end comes too late for the stream, and is told all the same.
    let ran = log.run("cat > /dev/null; exit 5");
    assert_eq!((ran.status, log.rows(&ran.stdout, 0)), (80, 6_000), "{}", ran.text);
}

/// It reads ten lines, and then kills us while it holds the pipe full.
#[test]
fn a_process_that_does_not_read_holds_the_stream_back() {
    let log = Extract::new(6_000);
    let ran = log.run("head -n 10 > lines; kill -9 $PPID; exec sleep 0");
    assert_eq!(ran.status, 128 + 9, "{}", ran.text);
    // A stream without its end: what is whole is kept, 75.
    let rows = log.rows(&ran.stdout, 75);
    assert!(rows < 2_500, "{rows} transactions were written that nobody had read");
    let ran = log.run("cat > rest");
    assert_eq!((ran.status, log.rows(&ran.stdout, 0)), (0, 6_000), "{}", ran.text);
}
