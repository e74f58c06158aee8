//! Encrypted logs of MariaDB, with keys as its file_key_management plugin has them: a plain key file, one that is encrypted itself, both algorithms.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Server, scratch, shell};

const KEYS: &str = "# keys of a test\n1;770A8A65DA156D24EE2A0932775301420011223344556677889900AABBCCDDEE\n2;18420B5CBA31CCDFFE9716E91EB61374\n";
const SECRET: &str = "a secret, with blanks";

/// A server with encrypted logs that has written rows, statements and a row larger than a block of anything.
fn written(name: &str, folder: &Path, algorithm: &str, locked: bool, compressed: bool) -> Server {
    let keys = folder.join("keys");
    std::fs::write(&keys, KEYS).unwrap();
    let secret = folder.join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let mut file = keys.clone();
    let mut builder = Server::new(name)
        .log_bin()
        .option("--plugin-load-add=file_key_management")
        .option("--encrypt-binlog=ON")
        .option(format!("--file-key-management-encryption-algorithm={algorithm}"));
    if locked {
        file = folder.join("keys.enc");
        let openssl = Command::new("openssl")
            .args(["enc", "-aes-256-cbc", "-md", "sha1", "-pass"])
            .arg(format!("file:{}", secret.display()))
            .arg("-in")
            .args([&keys, Path::new("-out"), &file])
            .output()
            .expect("openssl is installed");
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        assert!(std::fs::read(&file).unwrap().starts_with(b"Salted__"));
        builder = builder.option(format!("--file-key-management-filekey=FILE:{}", secret.display()));
    }
    if compressed {
        builder = builder.option("--log-bin-compress=ON");
    }
    let server = builder.option(format!("--file-key-management-filename={}", file.display())).start();
    server.sql("create database shop; use shop; create table t (id int primary key, word longtext)");
    for id in 0..40 {
        // Lengths on both sides of whole blocks.
        server.sql(&format!("insert into t values ({id}, repeat('x', {}))", 100 + id));
    }
    server.sql("insert into t values (100, repeat('large', 200000)); update t set word = 'changed' where id < 5; delete from t where id = 7");
    server
}

/// Operation, key and length of the word of each row, in lines; what was said; the exit status.
fn contents(server: &Server, options: &[&str]) -> (String, String, Option<i32>) {
    let mut command = shell("rlog-dump --format json --table shop.t --op insert,update,delete \"$@\"");
    let output = command.args(options).args(server.logs()).output().unwrap();
    let mut rows = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["kind"] == "row" {
            let word = row["after"]["word"].as_str().unwrap_or("").len();
            let id = row["before"]["id"].as_u64().or(row["after"]["id"].as_u64()).unwrap();
            rows.push_str(&format!("{}\t{id}\t{word}\n", row["op"].as_str().unwrap()));
        }
    }
    (rows, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

fn reads(name: &str, algorithm: &str, locked: bool, compressed: bool) {
    let folder = scratch();
    let mut server = written(name, folder.path(), algorithm, locked, compressed);
    let file = folder.path().join(if locked { "keys.enc" } else { "keys" });
    let secret = folder.path().join("secret");
    let (file, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    let mut options = vec!["--key-file", file];
    if locked {
        options.extend(["--key-secret", secret]);
    }
    let mut expected = String::new();
    for id in 0..40 {
        expected.push_str(&format!("insert\t{id}\t{}\n", 100 + id));
    }
    expected.push_str("insert\t100\t1000000\n");
    for id in 0..5 {
        expected.push_str(&format!("update\t{id}\t7\n"));
    }
    expected.push_str("delete\t7\t0\n");
    // The last log is in use; then closed; then behind a restart, with another nonce and another file.
    assert_eq!(contents(&server, &options), (expected.clone(), String::new(), Some(0)));
    server.flush_logs();
    server.stop();
    server.start();
    server.sql("insert into shop.t values (200, 'behind')");
    expected.push_str("insert\t200\t6\n");
    assert_eq!(contents(&server, &options), (expected, String::new(), Some(0)));

    let (_, error, status) = contents(&server, &[]);
    assert!(status == Some(77) && error.contains("--key-file"), "{status:?} {error}");
    if locked {
        let (_, error, status) = contents(&server, &["--key-file", file]);
        assert!(status == Some(77) && error.contains("--key-secret"), "{status:?} {error}");
        let wrong = folder.path().join("wrong");
        std::fs::write(&wrong, "another").unwrap();
        let (_, error, status) = contents(&server, &["--key-file", file, "--key-secret", wrong.to_str().unwrap()]);
        assert!(status == Some(77) && error.contains("does not decrypt"), "{status:?} {error}");
    }
    // Another key: an error, also for a log in use, and never an empty answer.
    let other = folder.path().join("other");
    std::fs::write(&other, "1;00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF\n").unwrap();
    let (out, error, status) = contents(&server, &["--key-file", other.to_str().unwrap()]);
    assert!(status == Some(65) && out.is_empty(), "{status:?} {error}");
}

#[test]
fn a_plain_key_file_and_cbc() {
    reads("mariadb-11.8", "aes_cbc", false, false);
}

#[test]
fn a_plain_key_file_and_counter_mode() {
    reads("mariadb-10.11", "aes_ctr", false, true);
}

#[test]
fn an_encrypted_key_file_and_cbc() {
    reads("mariadb-10.11", "aes_cbc", true, false);
}

#[test]
fn an_encrypted_key_file_and_counter_mode() {
    reads("mariadb-11.8", "aes_ctr", true, true);
}
