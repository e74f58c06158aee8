//! --verify and --salvage.

use std::path::PathBuf;

use rlog::dump::{Action, Format, Options, run};
use rlog::frame::{Coordinate, Kind, Progress};

use super::formats::{dump, shown};
use super::sample::{Sample, order, orders, shop};
use crate::common::scratch;

/// Runs in this process: output, notes and exit status.
fn quick(path: PathBuf, action: Action) -> (String, Vec<String>, u8) {
    let options = Options { inputs: vec![path], action, format: Format::Json, ..Options::default() };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = run(&options, &mut out, &mut |note| notes.push(note.to_owned()));
    (String::from_utf8(out).unwrap(), notes, result.err().map_or(0, |error| error.class().exit_status()))
}

/// Everything between `begin` and `commit` lines, by transaction.
fn whole_transactions(out: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in out.lines() {
        if line.contains("\"kind\":\"begin\"") {
            open = Some(String::new());
        }
        // Definitions are told where they are first needed.
        if let Some(text) = open.as_mut().filter(|_| !line.contains("\"kind\":\"table\"")) {
            text.push_str(line);
        }
        if line.contains("\"kind\":\"commit\"") {
            found.extend(open.take());
        }
    }
    found
}

#[test]
fn a_sound_file_is_proven_contiguous() {
    let out = shown(&shop().finish(), &["--verify"]);
    let lines: Vec<&str> = out.lines().map(|line| line.split_once("a.rlog: ").unwrap().1).collect();
    assert_eq!(lines[0], "42:1000 to 42:4000 is contiguous, 3 transactions");
    assert!(lines[1].ends_with(" frames, no problem"), "{out}");
    let out = shown(&shop().finish(), &["--verify", "--format", "json"]);
    assert!(out.contains(r#""from":"42:1000","to":"42:4000","transactions":3}"#), "{out}");
}

#[test]
fn verify_lists_every_problem_and_exits_with_the_worst() {
    let bytes = shop().finish();
    let (out, _, status) = dump(&bytes[..bytes.len() - 1], &["--verify"]);
    assert_eq!(status, 82, "{out}");
    let (out, _, status) = dump(&bytes[..bytes.len() / 2], &["--verify"]);
    assert_eq!(status, 82, "{out}");

    let mut gap = Sample::new();
    let lost = Progress {
        from: Coordinate::new(42, 1000).unwrap(),
        to: Coordinate::new(42, 5000).unwrap(),
        reason: "purged".into(),
        ..Progress::default()
    };
    gap.writer.frame(Kind::Gap, |out| lost.encode(out));
    let (out, _, status) = dump(&gap.bytes(), &["--verify"]);
    assert_eq!(status, 81, "{out}");
    assert!(out.contains("gap: the source lost 42:1000 to 42:5000 (purged)"), "{out}");

    // Two flipped bytes in two transactions: two problems, and a range before, between and behind them.
    let table = orders();
    let mut sample = Sample::new();
    for id in 0..9 {
        sample = sample.insert(&table, vec![order(id, 1, &format!("needle{id}"))]);
    }
    let mut bytes = sample.finish();
    for needle in [b"needle2", b"needle6"] {
        let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        bytes[at] ^= 0x20;
    }
    let (out, _, status) = dump(&bytes, &["--verify"]);
    assert_eq!(status, 65);
    assert_eq!(out.matches("payload checksum").count(), 2, "{out}");
    for line in [
        "42:1000 to 42:3000 is contiguous, 2 transactions",
        "transaction 42:3000 is lost",
        "42:3900 to 42:7000 is contiguous, 3 transactions",
        "transaction 42:7000 is lost",
        "42:7900 to 42:10000 is contiguous, 2 transactions",
    ] {
        assert!(out.contains(line), "{line}:\n{out}");
    }
}

#[test]
fn salvage_shows_what_is_whole_and_reports_what_is_lost() {
    let mut bytes = shop().finish();
    let at = bytes.windows(13).position(|window| window == b"update orders").unwrap();
    bytes[at] ^= 1;
    let (out, error, status) = dump(&bytes, &["--salvage", "--format", "json"]);
    assert_eq!(status, 65);
    assert_eq!(whole_transactions(&out).len(), 2, "{out}");
    assert!(error.contains("transaction 42:2000 is lost"), "{error}");
    assert!(error.contains("2 whole transactions are shown; 1 that had begun and "), "{error}");
}

/// Whatever is cut off or flipped: no panic, damage is never missed, and what is shown is a part of what was there.
#[test]
fn every_truncation_and_every_flipped_bit_is_noticed_and_salvage_shows_only_what_was_there() {
    let folder = scratch();
    let file = folder.path().join("a.rlog");
    let bytes = shop().finish();
    std::fs::write(&file, &bytes).unwrap();
    let sound = whole_transactions(&quick(file.clone(), Action::Print).0);
    assert_eq!(sound.len(), 3);
    let mut salvaged_most = 0;
    let mut check = |broken: &[u8], what: &str| {
        std::fs::write(&file, broken).unwrap();
        let (out, _, status) = quick(file.clone(), Action::Verify);
        assert_ne!(status, 0, "{what}: verify\n{out}");
        let (out, _, printed) = quick(file.clone(), Action::Print);
        assert_ne!(printed, 0, "{what}: print\n{out}");
        let found = whole_transactions(&out);
        assert_eq!(found, sound[..found.len()], "{what}: print shows a prefix");
        let (out, notes, status) = quick(file.clone(), Action::Salvage);
        assert_ne!(status, 0, "{what}: salvage\n{out}");
        assert!(!notes.is_empty() || out.is_empty(), "{what}: what is no log at all is refused as such");
        let found = whole_transactions(&out);
        assert!(found.iter().all(|transaction| sound.contains(transaction)), "{what}: salvage\n{out}");
        salvaged_most = salvaged_most.max(found.len());
    };
    for length in 0..bytes.len() {
        check(&bytes[..length], &format!("cut to {length}"));
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(&flipped, &format!("bit {bit}"));
    }
    assert_eq!(salvaged_most, 3, "damage outside of transactions loses none");
}
