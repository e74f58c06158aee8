//! SQL that others wrote, run against a live WAL database. Statements that fail are fine: only the equality of source
//! and replica counts.

use std::path::PathBuf;

use super::*;

fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("RLOG_CORPUS").map_or_else(|| PathBuf::from("../shared/corpus"), PathBuf::from);
    Some(root.join("sqllogictest")).filter(|dir| dir.is_dir())
}

#[test]
fn a_replica_equals_its_source_after_sql_that_others_wrote() {
    let Some(folder) = folder() else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // A sample by default: every file takes minutes in all.
    let step = if std::env::var_os("RLOG_ALL").is_some() { 1 } else { 13 };
    let statements_max = if step == 1 { usize::MAX } else { 3000 };
    let mut transactions = 0;
    for (n, path) in files.iter().enumerate().step_by(step) {
        let sql = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let setup = Setup {
            seed: n as u64,
            page_size: 512 << (n % 8),
            encoding: "UTF-8",
            auto_vacuum: n as u64 % 3,
            reserved: 0,
            cache_pages: 2000,
        };
        let dir = tempfile::tempdir().unwrap();
        let (db, mut decoder) = open_pair(&setup, dir.path());
        let mut replica = Replica::new(Connection::open_in_memory().unwrap());
        for statement in sql.split("\n;\n").take(statements_max) {
            let _ = db.execute_batch(statement);
        }
        drain(&mut decoder, &mut replica);
        decoder.check_map().unwrap();
        assert_equal(&db, &replica.db, &path.display().to_string());
        transactions += replica.transactions;
    }
    assert!(transactions > 0);
    eprintln!("{transactions} transactions of {} files", files.len().div_ceil(step));
}
