//! Events that few logs have: split ALTER, XA of MariaDB, what is passed over, LOAD DATA of old servers. Assembled from the servers' documentation.

use rlog::event::filter::{FilterRules, TableFilter};
use rlog::event::{RecordKind, Statement};
use rlog::source::Options;

use crate::assemble::{Log, Output, kind, read, read_with, rows_body, table_map_body};

const START_ALTER: u8 = 2;
const COMMIT_ALTER: u8 = 4;
const ROLLBACK_ALTER: u8 = 8;

/// A GTID event of MariaDB that is standalone DDL, with extra flags.
fn alter(log: &mut Log, sequence: u64, extra: u8, sql: &str) {
    let mut body = sequence.to_le_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, 0, 1 | 32, extra]);
    if extra & (COMMIT_ALTER | ROLLBACK_ALTER) != 0 {
        body.extend_from_slice(&2u64.to_le_bytes());
    }
    body.resize(body.len().max(19), 0);
    log.event(kind::MARIA_GTID, &body).query(sql);
}

fn statements(out: &Output) -> Vec<(RecordKind, String)> {
    let all = out.transactions.iter().flat_map(|transaction| transaction.records.iter().zip(&transaction.bodies));
    all.filter_map(|(kind, body)| {
        Some((*kind, String::from_utf8_lossy(&Statement::decode(body).ok()?.sql).into_owned()))
    })
    .collect()
}

#[test]
fn a_split_alter_takes_effect_when_it_is_committed_and_never_when_it_is_rolled_back() {
    let sql = "alter table t add column c int";
    let between = |log: &mut Log, sequence| {
        log.maria_transaction(sequence, &[(1, "while it runs")]);
    };
    for (extra, kinds) in [
        (COMMIT_ALTER, [RecordKind::Ddl, RecordKind::Note, RecordKind::Ddl]),
        (ROLLBACK_ALTER, [RecordKind::Ddl, RecordKind::Note, RecordKind::Note]),
    ] {
        let mut log = Log::maria();
        log.maria_gtid(1, 1 | 32, None).query("create table t (id int, name varchar(2000))");
        alter(&mut log, 2, START_ALTER, sql);
        between(&mut log, 3);
        alter(&mut log, 4, extra, sql);
        between(&mut log, 5);
        let out = read(&log.bytes);
        assert_eq!(out.class(), None, "{:?}", out.error);
        let found: Vec<RecordKind> = statements(&out).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(found, kinds);
        assert_eq!(out.rows(), 2);
        // Rows have two columns throughout: behind the committed ALTER they no longer fit what the statements say.
        let named = !out.end.unwrap().notes.iter().any(|note| note.contains("shop.t"));
        assert_eq!(named, extra == ROLLBACK_ALTER);
    }
}

#[test]
fn xa_groups_of_mariadb_are_prepared_and_decided() {
    let gtid = |sequence: u64, flags: u8| {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend_from_slice(&[0, 0, 0, 0, flags]);
        body.extend_from_slice(&[1, 0, 0, 0, 2, 1]);
        body.extend_from_slice(b"gtb");
        body
    };
    let id = "X'6774',X'62',1";
    let mut prepare = vec![0];
    for number in [1u32, 2, 1] {
        prepare.extend_from_slice(&number.to_le_bytes());
    }
    prepare.extend_from_slice(b"gtb");
    for decision in ["COMMIT", "ROLLBACK"] {
        let mut log = Log::maria();
        log.event(kind::MARIA_GTID, &gtid(1, 4 | 64)).query(&format!("XA START {id}"));
        log.table_map(3, "t").rows(3, &[(1, "one")]).query(&format!("XA END {id}")).event(kind::XA_PREPARE, &prepare);
        log.maria_transaction(2, &[(2, "between")]);
        log.event(kind::MARIA_GTID, &gtid(3, 4 | 128)).query(&format!("XA {decision} {id}"));
        let out = read(&log.bytes);
        assert_eq!(out.class(), None, "{:?}", out.error);
        let [prepared, between, decided] = &out.transactions[..] else { panic!("{:?}", out.transactions) };
        assert!(prepared.prepared && !between.prepared && !decided.prepared);
        assert_eq!(prepared.commit.xid, id.as_bytes());
        assert_eq!(decided.records, [RecordKind::XaDecision]);
        assert_eq!(&*Statement::decode(&decided.bodies[0]).unwrap().xid, id.as_bytes());
    }
}

#[test]
fn heartbeats_and_what_is_ignorable_leave_nothing_behind_also_inside_of_a_transaction() {
    let plain = {
        let mut log = Log::mysql();
        log.mysql_transaction(1, (0, 1), &[(1, "one")]);
        read(&log.bytes)
    };
    let mut log = Log::mysql();
    let others = |log: &mut Log| {
        log.event(27, b"bin.000001").event(41, b"\x01\x0abin.000001\x00").event_flags(28, b"whatever", 0x80);
        log.event(7, &[0; 10]).event(36, &[0; 30]).event(37, &[0; 40]).event_flags(200, b"of a version to come", 0x80);
    };
    others(&mut log);
    log.mysql_gtid(1, (0, 1)).query("BEGIN");
    others(&mut log);
    log.table_map(30, "t").rows(30, &[(1, "one")]);
    others(&mut log);
    log.xid(1);
    others(&mut log);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert_eq!(out.transactions.len(), 1);
    assert_eq!(out.transactions[0].bodies, plain.transactions[0].bodies);
}

/// `LOAD DATA INFILE 'f' INTO TABLE t (a)`, in the forms of MySQL 4.0 (NEW_LOAD, and a file in pieces) and 3.23.
fn load_body(new: bool, file_id: Option<u32>) -> Vec<u8> {
    let mut body = vec![9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 4, 1, 0, 0, 0];
    body.extend(file_id.into_iter().flat_map(u32::to_le_bytes));
    if new {
        body.extend_from_slice(b"\x01,\x01\"\x01\n\x00\x01\\\x02");
    } else {
        body.extend_from_slice(b",\"\nx\\\x02\x08");
    }
    body.extend_from_slice(b"\x01a\0t\0shop\0/tmp/f\0");
    body
}

#[test]
fn load_data_of_old_servers_becomes_its_statement_with_the_file() {
    let block = |id: u32, bytes: &[u8]| [&id.to_le_bytes()[..], bytes].concat();
    let mut log = Log::maria();
    log.query("BEGIN");
    log.event(8, &[load_body(true, Some(5)), b"1,a\n".to_vec()].concat());
    log.event(9, &block(5, b"2,b\n")).event(10, &block(5, b""));
    // One whose file was dropped, and one that the server read itself.
    log.event(8, &[load_body(true, Some(6)), b"3".to_vec()].concat()).event(11, &block(6, b""));
    log.event(12, &load_body(true, None)).event(6, &load_body(false, None)).xid(1);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    use RecordKind::{LoadBlock, Note};
    let transaction = &out.transactions[0];
    let wanted =
        [LoadBlock, LoadBlock, RecordKind::Statement, LoadBlock, Note, RecordKind::Statement, RecordKind::Statement];
    assert_eq!(transaction.records, wanted);
    let statement = |at: usize| Statement::decode(&transaction.bodies[at]).unwrap();
    assert_eq!(&*statement(1).block, b"2,b\n");
    let loaded = statement(2);
    let sql = String::from_utf8_lossy(&loaded.sql).into_owned();
    assert!(sql.starts_with("LOAD DATA LOCAL INFILE '/tmp/f' INTO TABLE `t` FIELDS TERMINATED BY ','"), "{sql}");
    assert_eq!((loaded.file_id, &*loaded.database), (Some(5), "shop"));
    assert_eq!(loaded.tables, [("shop".to_owned(), "t".to_owned())]);
    // A table that is not wanted takes its file along.
    let rules = FilterRules { ignore_tables: vec!["shop.t".into()], ..FilterRules::default() };
    let options =
        Options { filter: TableFilter::new(rules).unwrap(), log_name: Some("bin.000001".into()), ..Options::default() };
    let out = read_with(&log.bytes, options);
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert!(out.transactions.iter().all(|transaction| !transaction.records.contains(&RecordKind::Statement)));
    let blocks =
        out.transactions.iter().flat_map(|transaction| &transaction.records).filter(|kind| **kind == LoadBlock);
    assert_eq!(blocks.count(), 1, "that of the file that was dropped by its server");
    let executed = {
        let mut log = Log::maria();
        log.event(10, &block(5, b""));
        read(&log.bytes)
    };
    assert!(executed.error.unwrap().to_string().contains("never created"));
}

#[test]
fn rows_that_come_without_their_begin_end_with_their_statement() {
    let mut log = Log::new("5.1.40-log", 0, 0);
    log.event(kind::TABLE_MAP, &table_map_body(3, "shop", "t"));
    let mut body = rows_body(3, &[(1, "one")]);
    body[6] = 0;
    log.event(kind::WRITE_V1, &body).rows(3, &[(2, "two")]);
    log.event(kind::TABLE_MAP, &table_map_body(3, "shop", "t")).rows(3, &[(3, "three")]);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert_eq!((out.transactions.len(), out.rows()), (2, 3));
}
