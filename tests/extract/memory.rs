//! Memory does not grow with a transaction: every program runs under a limit on its private memory (RLIMIT_DATA) that the transaction does not fit into.
//! What counts are heap and private maps; the mapped log and a spool on disk do not.

use crate::assemble::Log;
use crate::common::{scratch, shell};

/// Bytes of the one large transaction, about.
const TRANSACTION_BYTES: usize = 44 << 20;
/// 32 MiB, and what the program itself has (measured: about 1 MiB), in units of `ulimit -d`.
const LIMIT_KIB: &str = "34816";

/// A small transaction, one of [`TRANSACTION_BYTES`] with rows of 2 KB, and a small one.
fn large() -> Log {
    let text = "0123456789abcdef".repeat(125);
    let rows: Vec<(i32, &str)> = (0..32).map(|id| (id, text.as_str())).collect();
    let mut log = Log::maria();
    log.maria_transaction(1, &rows[..1]);
    log.maria_gtid(2, 4, None).table_map(30, "t");
    while log.bytes.len() < TRANSACTION_BYTES {
        log.rows(30, &rows);
    }
    log.xid(2).maria_transaction(3, &rows[..1]).rotate("bin.000002");
    log
}

#[test]
fn a_transaction_of_any_size_streams_through_every_program() {
    let folder = scratch();
    large().write(folder.path(), "bin.000001");
    let schema = "create database shop; use shop; create table t (id int primary key, name varchar(2000));";
    std::fs::write(folder.path().join("schema"), schema).unwrap();
    let run = |program: &str, lines: &str| {
        // Output is counted, so that a program that ends early does not pass.
        let script = format!("ulimit -d {LIMIT_KIB}; cd \"$1\"; {program} | {lines}");
        let output = shell(&script).arg(folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program}: {} {error}", output.status);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let rows = (TRANSACTION_BYTES / 64_000).to_string();
    let counted =
        |program: &str, pattern: &str| -> u64 { run(program, &format!("grep -c '{pattern}'")).parse().unwrap() };
    let json = counted("rlog-dump --format json bin.000001", "\"kind\":\"row\"");
    assert!(json > rows.parse::<u64>().unwrap() * 30, "{json}");
    assert_eq!(counted("rlog-dump bin.000001", "^  insert"), json);
    assert_eq!(counted("rlog-dump --format sql bin.000001", "^INSERT"), json);
    assert_eq!(counted("rlog-dump --undo --schema schema bin.000001", "^DELETE"), json);
    let stats = run("rlog-dump --format stats --json bin.000001", "head -n 1");
    assert!(stats.contains(&format!("\"transactions\":3,\"rows\":{json},")), "{stats}");
    run("rlog-extract bin.000001 > a.rlog", "cat");
    assert!(run("rlog-dump --verify a.rlog", "cat").contains("3 transactions"));
}
