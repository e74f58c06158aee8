//! rlog-dump on binary logs themselves: `--verify` and `--salvage` read on behind damage, `--format hex` shows every byte.

use std::path::{Path, PathBuf};

use rlog::dump::{Action, Format, Options, Selection, run};
use rlog::source::{self, NamedText};

use crate::assemble::{Log, kind, raw_event};
use crate::common::{corpus, scratch};
use crate::damage::closed_logs;

/// Output, notes, exit status.
fn dump(options: Options) -> (String, Vec<String>, u8) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = run(&options, &mut out, &mut |note| notes.push(note.to_owned()));
    (String::from_utf8(out).unwrap(), notes, result.err().map_or(0, |error| error.class().exit_status()))
}

fn of(path: &Path, action: Action, format: Format) -> (String, Vec<String>, u8) {
    dump(Options { inputs: vec![path.to_owned()], action, format, ..Options::default() })
}

/// The rows and statements of whole transactions, one text each, without where they stand.
fn contents(json: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in json.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        match value["kind"].as_str().unwrap() {
            "begin" => open = Some(String::new()),
            "commit" => found.extend(open.take()),
            "row" | "statement" | "ddl" | "truncate" => {
                let text = open.as_mut().expect("inside of a transaction");
                // Not by names: the statement that gave them may be what is lost.
                let after: Vec<_> = value["after"].as_object().into_iter().flatten().map(|(_, value)| value).collect();
                text.push_str(&format!("{} {} {after:?} {}|", value["op"], value["table"], value["sql"]));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn verify_tells_every_problem_of_a_log_and_goes_on_behind_each() {
    let folder = scratch();
    let mut log = Log::maria();
    let mut starts = Vec::new();
    for number in 1..10 {
        starts.push(log.bytes.len());
        log.maria_transaction(number, &[(number as i32, &format!("needle{number}"))]);
    }
    log.rotate("bin.000002");
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, status) = of(&path, Action::Verify, Format::Text);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("1:4 to 2:4 is contiguous, 9 transactions"), "{out}");
    for needle in [&b"needle2"[..], b"needle6"] {
        let at = log.bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        log.bytes[at] ^= 0x20;
    }
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, status) = of(&path, Action::Verify, Format::Text);
    assert_eq!(status, 65, "{out}");
    for line in [
        format!("transaction 1:{} is lost; reading goes on at byte {}", starts[1], starts[2]),
        format!("transaction 1:{} is lost; reading goes on at byte {}", starts[5], starts[6]),
        format!("1:4 to 1:{} is contiguous, 1 transactions", starts[1]),
        format!("1:{} to 1:{} is contiguous, 3 transactions", starts[2], starts[5]),
        format!("1:{} to 2:4 is contiguous, 3 transactions", starts[6]),
        format!("{} bytes, ", log.bytes.len()),
        "2 problems".into(),
    ] {
        assert!(out.contains(&line), "{line}\n{out}");
    }
    let (out, notes, status) = of(&path, Action::Salvage, Format::Json);
    assert_eq!((status, contents(&out).len()), (65, 7), "{out}");
    assert!(notes.last().unwrap().contains("7 whole transactions are shown; 2 that had begun and "), "{notes:?}");
    assert!(!out.contains("NEEDLE") && out.contains("\"kind\":\"gap\""), "{out}");
    // The ordinary dump stops at the first.
    let (out, _, status) = of(&path, Action::Print, Format::Json);
    assert_eq!((status, contents(&out).len()), (65, 1));
}

/// One transaction at most goes with one flipped bit, wherever it is, and nothing is shown that was not there.
#[test]
fn whatever_bit_is_flipped_verify_notices_it_and_salvage_loses_one_transaction_at_most() {
    let folder = scratch();
    for log in closed_logs() {
        let path = log.write(folder.path(), "bin.000001");
        let whole = contents(&of(&path, Action::Print, Format::Json).0);
        assert!(whole.len() >= 3);
        // Every third byte, all bits in turn; decoding itself is tried with all of them elsewhere.
        for at in (4..log.bytes.len()).step_by(3) {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            if at == 4 + 17 && at % 8 == 0 {
                continue;
            }
            std::fs::write(&path, &bytes).unwrap();
            let (out, _, status) = of(&path, Action::Verify, Format::Text);
            assert_ne!(status, 0, "byte {at}: {out}");
            let (out, notes, status) = of(&path, Action::Salvage, Format::Json);
            assert_ne!(status, 0, "byte {at}");
            let found = contents(&out);
            assert!(found.iter().all(|transaction| whole.contains(transaction)), "byte {at}: {found:?}");
            assert!(found.len() + 1 >= whole.len(), "byte {at}: {found:?} {notes:?}");
        }
        for length in (0..log.bytes.len()).step_by(7) {
            std::fs::write(&path, &log.bytes[..length]).unwrap();
            let (out, _, _) = of(&path, Action::Salvage, Format::Json);
            let found = contents(&out);
            assert!(found.len() <= whole.len() && found.iter().zip(&whole).all(|(a, b)| a == b), "cut at {length}");
        }
    }
}

#[test]
fn a_missing_file_an_incident_and_a_torn_end_are_problems_among_others() {
    let folder = scratch();
    let mut logs = Vec::new();
    for number in [1u64, 2, 4] {
        let mut log = Log::maria();
        log.maria_transaction(number, &[(number as i32, "row")]);
        if number == 2 {
            log.event(kind::INCIDENT, &[1, 0, 4, b'l', b'o', b's', b't']);
            log.maria_transaction(20, &[(20, "behind it")]);
        }
        if number != 4 {
            log.rotate(&format!("bin.00000{}", number + 1));
        } else {
            log.maria_gtid(9, 4, None);
        }
        logs.push(log.write(folder.path(), &format!("bin.00000{number}")));
    }
    let options = |action| Options { inputs: logs.clone(), action, format: Format::Json, ..Options::default() };
    let (out, _, status) = dump(options(Action::Verify));
    assert_eq!(status, 81, "{out}");
    for part in ["incident 1: lost", "bin.000003 is missing", "\"status\":82", "\"problems\":3"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (out, _, _) = dump(options(Action::Salvage));
    assert_eq!(contents(&out).len(), 4, "{out}");
}

#[test]
fn what_cannot_be_verified_is_said() {
    let folder = scratch();
    let mut log = Log::maria();
    log.bytes.truncate(4);
    log.checksum = false;
    log.format("10.11.18-MariaDB-log", 0, 0);
    log.maria_transaction(1, &[(1, "one")]).rotate("bin.000002");
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, status) = of(&path, Action::Verify, Format::Text);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("note: the log has no checksums"), "{out}");
    // Positions and sizes still lead on.
    let at = log.bytes.len() - 60;
    log.bytes[at] = 0xee;
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, status) = of(&path, Action::Verify, Format::Text);
    assert_ne!(status, 70, "{out}");
}

/// The bytes that a hex dump shows, in order; those inside of payloads are left out.
fn bytes_shown(out: &str) -> Vec<u8> {
    let (mut bytes, mut inside) = (Vec::new(), false);
    for line in out.lines() {
        if !line.starts_with("  ") {
            inside = line.starts_with("inside the payload");
            continue;
        }
        let (offset, rest) = line[2..].split_at(8);
        if inside {
            continue;
        }
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len(), "{line}");
        let hex = &rest[2..rest.len().min(2 + 48)];
        bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

#[test]
fn hex_shows_every_byte_of_a_log_once_and_what_it_means() {
    let folder = scratch();
    for log in closed_logs() {
        let path = log.write(folder.path(), "bin.000001");
        let (out, _, status) = of(&path, Action::Print, Format::Hex);
        assert_eq!(status, 0, "{out}");
        assert!(bytes_shown(&out) == log.bytes, "{out}");
        assert!(!out.contains("WRONG") && out.contains("crc32: right"), "{out}");
        // Damaged: all bytes all the same, and the verdict.
        for at in (4..log.bytes.len()).step_by(5) {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= 0x11;
            std::fs::write(&path, &bytes).unwrap();
            let (out, _, status) = of(&path, Action::Print, Format::Hex);
            assert!(bytes_shown(&out) == bytes, "byte {at}: {out}");
            assert!(matches!(status, 65 | 76 | 82), "byte {at}: {status}");
        }
    }
    let mut log = Log::maria();
    log.maria_transaction(1, &[(1, "one")]);
    let at = log.bytes.len();
    log.maria_gtid(2, 4, None).query("insert into t values ('\x1b[31m')").xid(2).rotate("bin.000002");
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, _) = of(&path, Action::Print, Format::Hex);
    for part in [
        "event FORMAT_DESCRIPTION at 4 of ",
        "server version: 10.11.18-MariaDB-log",
        "type: 162 GTID",
        "domain: 0, GTID 0-7-1",
        "table: t",
        "table id: 30 shop.t",
        "columns in rows: 2 of 2",
        "sql: insert into t values ('\\u{1b}[31m')",
        "next file: bin.000002",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(!out.contains('\x1b'));
    let one = Selection {
        transactions: vec![rlog::dump::select::TransactionName::parse(&format!("1:{at}")).unwrap()],
        ..Selection::default()
    };
    let options =
        |selection| Options { inputs: vec![path.clone()], format: Format::Hex, selection, ..Options::default() };
    let (out, _, status) = dump(options(one));
    let heads: Vec<&str> =
        out.lines().filter(|line| line.starts_with("event")).map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!((status, heads), (0, vec!["GTID", "QUERY", "XID"]), "{out}");
    let none = Selection {
        transactions: vec![rlog::dump::select::TransactionName::parse("1:77").unwrap()],
        ..Selection::default()
    };
    assert_eq!(dump(options(none)).2, 1);
}

#[test]
fn hex_shows_the_events_inside_of_a_payload() {
    let folder = scratch();
    let mut inner = Vec::new();
    for body in [&b"BEGIN"[..], b"insert into t values (1)"] {
        let body = crate::assemble::query_body("shop", body);
        inner.extend_from_slice(&raw_event(1_700_000_000, kind::QUERY, 7, 19 + body.len() as u32, 0, 0, &body));
    }
    inner.extend_from_slice(&raw_event(1_700_000_000, kind::XID, 7, 27, 0, 0, &9u64.to_le_bytes()));
    let packed = zstd::encode_all(&inner[..], 3).unwrap();
    let mut body = vec![2, 1, 0, 3, 3, 0xfc, inner.len() as u8, (inner.len() >> 8) as u8];
    body.extend_from_slice(&[1, 3, 0xfc, packed.len() as u8, (packed.len() >> 8) as u8, 0]);
    body.extend_from_slice(&packed);
    let mut log = Log::mysql();
    log.mysql_gtid(1, (0, 1)).event(kind::PAYLOAD, &body).rotate("bin.000002");
    let path = log.write(folder.path(), "bin.000001");
    let (out, _, status) = of(&path, Action::Print, Format::Hex);
    assert_eq!(status, 0, "{out}");
    assert!(bytes_shown(&out) == log.bytes);
    assert!(out.contains("compression: zstd"), "{out}");
    assert_eq!(out.matches("inside the payload: event").count(), 3, "{out}");
    assert!(out.contains("sql: insert into t values (1)"), "{out}");
}

/// Encrypted ones are shown as they decrypt, and so not compared.
#[test]
fn hex_shows_every_byte_of_every_log_of_the_corpus() {
    let Some(folder) = corpus() else { return };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut seen = 0;
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let path = folder.join(columns[0]);
        let bytes = std::fs::read(&path).unwrap();
        let wal = bytes.starts_with(&[0x37, 0x7f, 0x06]);
        if !(bytes.starts_with(b"\xfebin") || wal)
            || bytes.len() > 400_000
            || path.extension().is_some_and(|e| e == "ibb")
        {
            continue;
        }
        let (out, _, status) = of(&path, Action::Print, Format::Hex);
        assert_ne!(status, 70, "{}", path.display());
        let encrypted = columns[18].contains("ENCRYPTED");
        if !encrypted {
            assert!(bytes_shown(&out) == bytes, "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 100, "only {seen} logs were looked at");
}

#[test]
fn hex_of_an_encrypted_log_shows_its_events_decrypted() {
    let Some(folder) = corpus() else { return };
    let data = folder.join("logs/JanJakes+mylite-mariadb/mariadb/mysql-test/std_data");
    let path: PathBuf = data.join("binlog_before_20574.bin");
    let keys = NamedText { name: "keys.txt".into(), text: std::fs::read(data.join("keys.txt")).unwrap() };
    let source = source::Options { keys: Some(keys), ..source::Options::default() };
    let options = Options { inputs: vec![path.clone()], format: Format::Hex, source, ..Options::default() };
    let (out, _, status) = dump(options);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("bytes, decrypted") && !out.contains("WRONG"), "{out}");
    let (out, _, status) = of(&path, Action::Print, Format::Hex);
    assert_eq!(status, 77, "{out}");
}

/// A database whose log holds a table and rows 1 to 6, one transaction each.
fn sqlite_log(folder: &Path) -> (PathBuf, Vec<u8>) {
    let live = folder.join("live.db");
    let db = rusqlite::Connection::open(&live).unwrap();
    db.execute_batch(
        "pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t (a integer primary key, b text)",
    )
    .unwrap();
    for number in 1..=6 {
        db.execute("insert into t values (?1, ?2)", (number, format!("needle{number}"))).unwrap();
    }
    let path = folder.join("rest.db");
    std::fs::copy(&live, &path).unwrap();
    let log = std::fs::read(folder.join("live.db-wal")).unwrap();
    (path, log)
}

#[test]
fn the_log_of_sqlite_is_dumped_directly_and_its_damage_is_told_from_an_unfinished_write() {
    let folder = scratch();
    let (path, log) = sqlite_log(folder.path());
    let wal = path.with_file_name("rest.db-wal");
    let rows = |out: &str| out.matches("\"kind\":\"row\"").count();
    std::fs::write(&wal, &log).unwrap();
    for operand in [&wal, &path] {
        let (out, _, status) = of(operand, Action::Print, Format::Json);
        assert_eq!((status, rows(&out)), (0, 6), "{out}");
        let (out, _, status) = of(operand, Action::Print, Format::Stats);
        assert!(status == 0 && out.contains("rows                       6"), "{out}");
        let (out, _, status) = of(operand, Action::Verify, Format::Text);
        assert!(status == 0 && out.contains("7 transactions") && out.contains("no problem"), "{out}");
    }
    let (out, _, status) = of(&wal, Action::Print, Format::Hex);
    assert!(status == 0 && bytes_shown(&out) == log && !out.contains("WRONG"), "{out}");
    assert!(out.contains("checksum: right") && out.contains("b-tree page: table, leaf"), "{out}");

    // A flipped bit in the middle: SQLite reads to there and says nothing, and so do we, but who asks is told.
    let at = log.windows(7).position(|window| window == b"needle3").unwrap();
    for (flip, place) in [(at, "a page"), (at / 4 * 4, "the same page")] {
        let mut bad = log.clone();
        bad[flip] ^= 0x20;
        std::fs::write(&wal, &bad).unwrap();
        let (out, _, status) = of(&wal, Action::Print, Format::Json);
        assert_eq!((status, rows(&out)), (0, 2), "{place}: {out}");
        assert!(out.contains("a frame with a wrong checksum ends the log here"), "{out}");
        let (out, _, status) = of(&wal, Action::Verify, Format::Text);
        assert!(status == 65 && out.contains("is damaged, though frames that were committed stand behind it"), "{out}");
        let (out, notes, status) = of(&wal, Action::Salvage, Format::Json);
        assert!(status == 65 && rows(&out) == 2 && notes.iter().any(|note| note.contains("is damaged")), "{notes:?}");
        let (out, _, status) = of(&wal, Action::Print, Format::Hex);
        assert!(status == 65 && bytes_shown(&out) == bad && out.contains("WRONG"), "{out}");
    }
    // Every frame's own header, wherever a bit of it flips, in all frames but the last.
    let frame = 24 + u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = (log.len() - 32) / frame;
    for number in 0..frames - 1 {
        for byte in [0, 3, 7, 8, 15, 16, 23] {
            let mut bad = log.clone();
            bad[32 + number * frame + byte] ^= 1;
            std::fs::write(&wal, &bad).unwrap();
            let (out, _, status) = of(&wal, Action::Verify, Format::Text);
            assert_eq!(status, 65, "frame {number} byte {byte}: {out}");
        }
    }
    // The last one may be a write that was never finished; and a log that is cut is only shorter.
    let mut torn = log.clone();
    *torn.last_mut().unwrap() ^= 1;
    std::fs::write(&wal, &torn).unwrap();
    let (out, _, status) = of(&wal, Action::Verify, Format::Text);
    assert!(status == 0 && out.contains("note: ") && out.contains("6 transactions"), "{out}");
    std::fs::write(&wal, &log[..log.len() - frame - 10]).unwrap();
    assert_eq!(of(&wal, Action::Verify, Format::Text).2, 0);
}

/// Found by the fuzzer: the stream header named no source then, which counted as a second problem.
#[test]
fn a_log_that_is_cut_inside_its_first_event_has_one_problem() {
    let folder = crate::common::scratch();
    let path = folder.path().join("bin.000009");
    std::fs::write(&path, b"\xfebin\x4f\xff").unwrap();
    for (option, said) in [("--salvage", "rlog-dump: 2 problems"), ("--verify", "2 problems")] {
        let output = crate::common::rlog("rlog-dump").arg(option).arg(&path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(82), "torn: {text}");
        assert!(!text.contains(said) && text.contains("inside its first event"), "{text}");
    }
}
