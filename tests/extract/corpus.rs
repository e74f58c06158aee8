//! Every log of the corpus decodes to its end, or gives the error that its manifest names.

use std::path::PathBuf;

use rlog::source::{NamedText, Options};

use crate::assemble::read_files;
use crate::common::corpus;

/// Files that do not decode to the end: part of the path, the exit status, and why.
const EXPECTED: &[(&str, u8, &str)] = &[
    ("MyFlash/binlog_output_base.flashback", 65, "their checksums are wrong on purpose"),
    ("invalid_row_v2_tag.001", 65, "malformed extra data"),
    ("binlog_truncated_event.000001", 82, "cut inside of the first header"),
    ("bug40482-bin.000001", 65, "an INCIDENT event that is too short"),
    // The manifest calls these two valid, since peers print a ROLLBACK and exit 0. Their logs are not flagged in use and end inside of a transaction: that is torn,
    // and a reader that took it for whole would lose a transaction without a word.
    ("trunc_binlog.000001", 82, "ends inside of a transaction"),
    ("mysql-bin.aurora-padding", 82, "ends inside of a transaction, behind which a server's padding stands"),
    ("ddl_in_transaction.000001", 65, "a transaction without end"),
    ("orphan_begin_start.000001", 65, "a transaction without end"),
    ("orphan_xa_rollback.000001", 65, "a transaction without end"),
    ("duplicate_xid.000001", 0, "in use, and the checksum of its last event is wrong: unfinished"),
    ("malformed_xid_xa_commit.000001", 0, "likewise"),
    ("rpl_nogtid_encryption_master-bin.000002", 69, "encrypted by MySQL"),
    ("rpl_gtid_not_yet_determined.test.binlog", 65, "no format description event"),
];

#[test]
fn every_log_of_the_corpus_decodes_to_its_end_or_gives_the_error_of_its_manifest() {
    let Some(folder) = corpus() else { return };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, format) = (columns[0], columns[6]);
        if !format.contains("binlog") && !format.contains("derived") {
            continue;
        }
        seen += 1;
        let mut options = Options { system_tables: true, ..Options::default() };
        let path = folder.join(file);
        if file.ends_with("binlog_before_20574.bin") {
            let keys = path.with_file_name("keys.txt");
            options.keys = Some(NamedText { name: "keys.txt".into(), text: std::fs::read(keys).unwrap() });
        }
        let out = read_files(&[path], options);
        let status = out.class().map_or(0, |class| class.exit_status());
        let expected = EXPECTED
            .iter()
            .find(|(part, ..)| file.contains(part) && !file.ends_with(".plain"))
            .map(|(_, status, _)| *status);
        // Rows, where another reader could count them.
        let rows = columns[17].rsplit_once("rows=").and_then(|(_, rows)| rows.parse::<u64>().ok());
        let payload = columns[9].contains("PAYLOAD") || columns[9].contains("ENC") || columns[9].contains("PRE_GA");
        let miscounted = expected.is_none() && !payload && rows.is_some_and(|rows| rows != out.rows());
        if status != expected.unwrap_or(0) || miscounted {
            wrong.push(format!("{file}: status {status} {:?}, {} rows; {}", out.error, out.rows(), columns[18]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 150, "only {seen} logs were looked at");
}

#[test]
fn an_encrypted_log_is_as_its_decrypted_copy_and_wants_its_key() {
    let Some(folder) = corpus() else { return };
    let data = folder.join("logs/JanJakes+mylite-mariadb/mariadb/mysql-test/std_data");
    let encrypted: PathBuf = data.join("binlog_before_20574.bin");
    let keys = NamedText { name: "keys.txt".into(), text: std::fs::read(data.join("keys.txt")).unwrap() };
    let plain = folder.join("logs/derived-decrypted/binlog_before_20574.plain.bin");
    let with_key = read_files(std::slice::from_ref(&encrypted), Options { keys: Some(keys), ..Options::default() });
    let plain = read_files(&[plain], Options::default());
    assert_eq!(
        (with_key.class(), with_key.transactions.len()),
        (None, plain.transactions.len()),
        "{:?}",
        with_key.error
    );
    for (one, other) in with_key.transactions.iter().zip(&plain.transactions) {
        assert_eq!(one.bodies, other.bodies);
        assert_eq!(one.position.digest, other.position.digest);
    }
    let without = read_files(std::slice::from_ref(&encrypted), Options::default());
    assert!(without.error.unwrap().hint_text().unwrap().contains("--key-file"));
    let wrong = NamedText { name: "k".into(), text: b"1;00000000000000000000000000000000".to_vec() };
    let wrong = read_files(&[encrypted], Options { keys: Some(wrong), ..Options::default() });
    assert!(wrong.error.is_some());
}
