//! Single events and groups: compression, fragments, XA, statements and their context, LOAD DATA, what stops a stream.

use rlog::error::Class;
use rlog::event::filter::{FilterRules, TableFilter};
use rlog::event::{RecordKind, Statement};
use rlog::frame::Coordinate;
use rlog::source::{Options, WindowMode};

use crate::assemble::{
    Log, UUID_TEXT, images, kind, query_body, raw_event, read, read_with, rows_body, table_map_body,
};

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    let mut out = vec![0x84];
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(&encoder.finish().unwrap());
    out
}

#[test]
fn compressed_events_of_mariadb_are_as_those_that_are_not() {
    let rows = [(1, "one one one one one"), (2, "two two two")];
    let mut plain = Log::maria();
    plain.maria_gtid(1, 4, None).query("insert into u values (1)").table_map(3, "t").rows(3, &rows).xid(1);
    let mut packed = Log::maria();
    let mut query = query_body("shop", b"");
    query.extend_from_slice(&zlib(b"insert into u values (1)"));
    let mut body = rows_body(3, &[]);
    body.extend_from_slice(&zlib(&images(&rows)));
    packed.maria_gtid(1, 4, None).event(kind::QUERY_COMPRESSED, &query).table_map(3, "t");
    packed.event(kind::WRITE_COMPRESSED, &body).xid(1);
    let (plain, packed) = (read(&plain.bytes), read(&packed.bytes));
    assert_eq!(packed.class(), None, "{:?}", packed.error);
    assert_eq!(packed.transactions[0].bodies, plain.transactions[0].bodies);
    assert_eq!(packed.rows(), 2);
}

/// MariaDB 12.3 cuts a large rows event into pieces. Assembled from its documentation: no server of that version was at hand.
#[test]
fn a_rows_event_in_pieces_is_as_the_whole_one() {
    let rows: Vec<(i32, String)> = (0..50).map(|number| (number, format!("row {number}"))).collect();
    let rows: Vec<(i32, &str)> = rows.iter().map(|(id, name)| (*id, name.as_str())).collect();
    let mut plain = Log::maria();
    plain.maria_gtid(1, 4, None).table_map(3, "t").rows(3, &rows).xid(1);
    let body = rows_body(3, &rows);
    let whole = raw_event(1_700_000_000, kind::WRITE_V1, 7, 19 + body.len() as u32, 0, 0, &body);
    let pieces: Vec<&[u8]> = whole.chunks(300).collect();
    let cut = |order: &[usize]| {
        let mut log = Log::maria();
        log.maria_gtid(1, 4, None).table_map(3, "t");
        for index in order {
            let mut body = (pieces.len() as u32).to_le_bytes().to_vec();
            body.extend_from_slice(&(*index as u32 + 1).to_le_bytes());
            body.push(u8::from(*index == 0));
            if *index == 0 {
                body.extend_from_slice(&(whole.len() as u64).to_le_bytes());
            }
            body.extend_from_slice(pieces[*index]);
            log.event(kind::PARTIAL_ROWS, &body);
        }
        log.xid(1);
        read(&log.bytes)
    };
    let all: Vec<usize> = (0..pieces.len()).collect();
    assert!(all.len() >= 3);
    let out = cut(&all);
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert_eq!(out.transactions[0].bodies, read(&plain.bytes).transactions[0].bodies);
    assert_eq!(out.rows(), 50);
    assert_eq!(cut(&[0, 2]).class(), Some(Class::Damage));
    assert_eq!(cut(&[1, 2]).class(), Some(Class::Damage));
}

fn payload(events: &[u8], zstd: bool) -> Vec<u8> {
    let packed = if zstd { zstd::encode_all(events, 3).unwrap() } else { events.to_vec() };
    let number = |value: usize| {
        let mut out = vec![0xfd];
        out.extend_from_slice(&(value as u32).to_le_bytes()[..3]);
        out
    };
    let mut body = vec![];
    for (tag, value) in
        [(2, vec![if zstd { 0 } else { 255 - 5 }]), (3, number(events.len())), (1, number(packed.len()))]
    {
        body.push(tag);
        body.push(value.len() as u8);
        body.extend_from_slice(&value);
    }
    if !zstd {
        // 255 does not fit one packed byte.
        body = vec![];
        for (tag, value) in [(2, vec![0xfc, 255, 0]), (3, number(events.len())), (1, number(packed.len()))] {
            body.push(tag);
            body.push(value.len() as u8);
            body.extend_from_slice(&value);
        }
    }
    body.push(0);
    body.extend_from_slice(&packed);
    body
}

#[test]
fn a_transaction_payload_is_as_the_events_in_it_however_many_there_are() {
    let name = "n".repeat(700);
    let mut inner = Vec::new();
    let mut plain = Log::mysql();
    plain.mysql_gtid(1, (0, 1)).query("BEGIN");
    let mut add = |kind, body: &[u8]| {
        inner.extend_from_slice(&raw_event(1_700_000_000, kind, 7, 19 + body.len() as u32, 0, 0, body));
    };
    add(kind::QUERY, &query_body("shop", b"BEGIN"));
    for number in 0..500 {
        add(kind::TABLE_MAP, &table_map_body(3, "shop", "t"));
        add(kind::WRITE_V1, &rows_body(3, &[(number, &name), (number, "b"), (number, "c")]));
        plain.table_map(3, "t").rows(3, &[(number, &name), (number, "b"), (number, "c")]);
    }
    add(kind::XID, &1u64.to_le_bytes());
    plain.xid(1);
    let plain = read(&plain.bytes);
    for zstd in [true, false] {
        let mut log = Log::mysql();
        log.mysql_gtid(1, (0, 1)).event(kind::PAYLOAD, &payload(&inner, zstd)).mysql_transaction(
            2,
            (1, 2),
            &[(1, "x")],
        );
        let out = read(&log.bytes);
        assert_eq!(out.class(), None, "{:?}", out.error);
        assert_eq!(out.transactions.len(), 2);
        assert_eq!(out.transactions[0].bodies, plain.transactions[0].bodies);
        assert_eq!(out.rows(), 1501);
        let mut short = Log::mysql();
        short.mysql_gtid(1, (0, 1)).event(kind::PAYLOAD, &payload(&inner[..inner.len() - 9], zstd));
        assert_eq!(read(&short.bytes).class(), Some(Class::Damage));
    }
}

#[test]
fn events_without_positions_are_placed_by_their_sizes() {
    let mut told = Log::maria();
    let mut silent = told.clone();
    silent.no_positions = true;
    for log in [&mut told, &mut silent] {
        log.maria_transaction(1, &[(1, "one")]).maria_transaction(2, &[(2, "two")]);
    }
    let (told, silent) = (read(&told.bytes), read(&silent.bytes));
    assert_eq!(silent.transactions, told.transactions);
}

#[test]
fn xa_groups_are_prepared_and_decided() {
    let mut log = Log::mysql();
    log.mysql_gtid(1, (0, 1)).query("XA START X'6162',X'',1").table_map(3, "t").rows(3, &[(1, "one")]);
    log.query("XA END X'6162',X'',1");
    let mut body = vec![0];
    for number in [1u32, 2, 0] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(b"ab");
    log.event(kind::XA_PREPARE, &body);
    log.mysql_transaction(2, (1, 2), &[(2, "between")]);
    log.mysql_gtid(3, (2, 3)).query("XA ROLLBACK X'6162',X'',1");
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    let [prepared, between, decided] = &out.transactions[..] else { panic!("{:?}", out.transactions) };
    assert!(prepared.prepared && !between.prepared && !decided.prepared);
    assert_eq!(prepared.commit.xid, b"X'6162',X'',1");
    assert_eq!(prepared.begin.xid, prepared.commit.xid);
    assert_eq!(decided.records, [RecordKind::XaDecision]);
    let statement = Statement::decode(&decided.bodies[0]).unwrap();
    assert_eq!(&*statement.xid, b"X'6162',X'',1");
    assert_eq!(&*statement.sql, b"XA ROLLBACK X'6162',X'',1");
    assert!(decided.begin.is_barrier());
    assert_eq!(decided.position.gtid, format!("{UUID_TEXT}:3"));
}

#[test]
fn a_statement_keeps_what_the_events_before_it_gave_it() {
    let mut log = Log::mysql();
    log.mysql_gtid(1, (0, 1)).query("BEGIN");
    log.event(5, &[&[2][..], &77u64.to_le_bytes()].concat());
    log.event(13, &[5u64.to_le_bytes(), 6u64.to_le_bytes()].concat());
    let mut variable = 1u32.to_le_bytes().to_vec();
    variable.extend_from_slice(b"a\0\x02");
    variable.extend_from_slice(&33u32.to_le_bytes());
    variable.extend_from_slice(&8u32.to_le_bytes());
    variable.extend_from_slice(&(-4i64).to_le_bytes());
    log.event(14, &variable);
    log.query("insert into t values (rand(), @a)").query("insert into t values (1)").xid(1);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    let first = Statement::decode(&out.transactions[0].bodies[0]).unwrap();
    assert_eq!((first.insert_id, first.rand), (Some(77), Some((5, 6))));
    assert_eq!(first.user_variables[0].name, b"a");
    assert_eq!(first.user_variables[0].value, Some(rlog::event::statement::UserValue::Int(-4)));
    let second = Statement::decode(&out.transactions[0].bodies[1]).unwrap();
    assert_eq!((second.insert_id, second.rand, second.user_variables.len()), (None, None, 0));
    assert!(out.transactions[0].begin.is_barrier());
}

#[test]
fn load_data_keeps_its_blocks() {
    let mut log = Log::new("5.7.30-log", 0, 0);
    log.query("BEGIN");
    log.event(17, &[&9u32.to_le_bytes()[..], b"1,a\n"].concat());
    log.event(9, &[&9u32.to_le_bytes()[..], b"2,b\n"].concat());
    let mut body = query_body("shop", b"");
    body.truncate(13);
    body.extend_from_slice(&9u32.to_le_bytes());
    body.extend_from_slice(&[5, 0, 0, 0, 20, 0, 0, 0, 1]);
    body.extend_from_slice(b"shop\0LOAD DATA INFILE 'x' IGNORE INTO TABLE t");
    log.event(18, &body).xid(1);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    let transaction = &out.transactions[0];
    assert_eq!(transaction.records, [RecordKind::LoadBlock, RecordKind::LoadBlock, RecordKind::Statement]);
    assert_eq!(&*Statement::decode(&transaction.bodies[1]).unwrap().block, b"2,b\n");
    let statement = Statement::decode(&transaction.bodies[2]).unwrap();
    assert_eq!((statement.file_id, statement.file_name_range, statement.duplicates), (Some(9), Some((5, 20)), 1));
    assert_eq!(&*statement.sql, b"LOAD DATA INFILE 'x' IGNORE INTO TABLE t");
}

#[test]
fn an_incident_and_an_unknown_type_stop_the_stream_unless_it_is_marked_ignorable() {
    let mut start = Log::mysql();
    start.mysql_transaction(1, (0, 1), &[(1, "one")]);
    let mut log = start.clone();
    log.event(kind::INCIDENT, &[1, 0, 3, b'b', b'a', b'd']);
    let out = read(&log.bytes);
    assert_eq!((out.class(), out.transactions.len()), (Some(Class::Gap), 1));
    assert!(out.error.unwrap().to_string().contains("bad"));
    let mut log = start.clone();
    log.event(99, b"what");
    assert_eq!(read(&log.bytes).class(), Some(Class::Version));
    let mut log = start;
    log.event_flags(99, b"what", 0x80).mysql_transaction(2, (1, 2), &[(2, "two")]);
    let out = read(&log.bytes);
    assert_eq!((out.class(), out.transactions.len()), (None, 2));
}

#[test]
fn a_group_that_ended_in_rollback_is_kept_whole_with_its_rollback() {
    let mut log = Log::mysql();
    log.mysql_gtid(1, (0, 1)).query("BEGIN").query("insert into myisam values (1)").query("ROLLBACK");
    log.mysql_gtid(2, (1, 2)).query("BEGIN").query("ROLLBACK");
    let out = read(&log.bytes);
    assert_eq!((out.class(), out.transactions.len()), (None, 1));
    assert_eq!(out.transactions[0].bodies.len(), 2);
    assert_ne!(out.transactions[0].begin.flags & rlog::frame::begin_flags::NONTRANSACTIONAL, 0);
    // The empty one is progress, with the GTID that it has.
    assert_eq!(out.progress.last().unwrap().gtid_state, format!("{UUID_TEXT}:1-2"));
}

#[test]
fn a_transaction_above_the_limit_streams_as_a_barrier_and_smaller_ones_are_none() {
    let text = "x".repeat(1900);
    let rows: Vec<(i32, &str)> = (0..20).map(|number| (number, text.as_str())).collect();
    let mut log = Log::mysql();
    let large = |log: &mut Log, number: u64, events: usize| {
        log.mysql_gtid(number, (number - 1, number)).query("BEGIN").table_map(3, "t");
        for _ in 0..events {
            log.rows(3, &rows);
        }
        log.xid(number);
    };
    large(&mut log, 1, 20);
    large(&mut log, 2, 100);
    large(&mut log, 3, 20);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    let barriers: Vec<bool> = out.transactions.iter().map(|transaction| transaction.begin.is_barrier()).collect();
    assert_eq!(barriers, [false, true, false]);
    // What follows waits for the barrier.
    assert_eq!(out.transactions[2].begin.window_start, out.transactions[1].position.txid);
}

#[test]
fn windows_follow_the_logical_clock_of_the_file_they_are_in() {
    let mut log = Log::mysql();
    for (number, clock) in [(1, (0, 1)), (2, (1, 2)), (3, (1, 3)), (4, (1, 4)), (5, (3, 5))] {
        log.mysql_transaction(number, clock, &[(number as i32, "row")]);
    }
    let out = read(&log.bytes);
    let txids: Vec<Coordinate> = out.transactions.iter().map(|transaction| transaction.position.txid).collect();
    let starts: Vec<Coordinate> = out.transactions.iter().map(|transaction| transaction.begin.window_start).collect();
    assert_eq!(starts[1..], [txids[0], txids[0], txids[0], txids[2]]);
    assert!(starts.iter().zip(&txids).all(|(start, txid)| start < txid));
    let serial = Options { windows: WindowMode::Serial, log_name: Some("bin.000001".into()), ..Options::default() };
    let out = read_with(&log.bytes, serial);
    let starts: Vec<Coordinate> = out.transactions.iter().map(|transaction| transaction.begin.window_start).collect();
    assert_eq!(starts[1..], txids[..4]);
}

#[test]
fn what_a_filter_leaves_nothing_of_becomes_one_progress() {
    let mut log = Log::mysql();
    for number in 1..=9u64 {
        let table = if number % 4 == 1 { "wanted" } else { "other" };
        log.mysql_gtid(number, (number - 1, number)).query("BEGIN").table_map(number as u8, table);
        log.rows(number as u8, &[(1, "row")]).xid(number);
    }
    let rules = FilterRules {
        tables: vec!["shop.wanted".into()],
        rewrite_db: vec![("shop".into(), "store".into())],
        ..FilterRules::default()
    };
    let renamed = FilterRules { tables: vec!["store.wanted".into()], ..rules.clone() };
    let options = |rules| Options {
        filter: TableFilter::new(rules).unwrap(),
        log_name: Some("bin.000001".into()),
        ..Options::default()
    };
    // Renames come before filters.
    assert_eq!(read_with(&log.bytes, options(rules)).rows(), 0);
    let out = read_with(&log.bytes, options(renamed));
    assert_eq!((out.class(), out.rows(), out.progress.len()), (None, 3, 2));
    // Windows name parents that were left out; those count as committed.
    assert!(out.transactions[1].begin.window_start > out.transactions[0].position.txid);
    assert!(!out.header.filters.is_empty());
}

#[test]
fn rows_of_the_servers_own_tables_stay_out() {
    let mut log = Log::maria();
    log.maria_gtid(1, 4, None).event(kind::TABLE_MAP, &table_map_body(3, "mysql", "gtid_slave_pos"));
    log.rows(3, &[(1, "x")]).table_map(4, "t").rows(4, &[(2, "y")]).xid(1);
    let out = read(&log.bytes);
    assert_eq!((out.class(), out.rows()), (None, 1));
    assert!(out.end.unwrap().notes.iter().any(|note| note.contains("own tables")));
    let all = Options { system_tables: true, ..Options::default() };
    assert_eq!(read_with(&log.bytes, all).rows(), 2);
}

#[test]
fn writesets_let_transactions_on_other_keys_run_at_the_same_time() {
    let mut log = Log::mysql();
    let create =
        "create table t (id int not null primary key, name varchar(2000) character set latin1, unique key (name))";
    log.mysql_gtid(1, (0, 1)).query(create);
    let rows: [&[(i32, &str)]; 7] =
        [&[(1, "one")], &[(2, "two")], &[(3, "ONE ")], &[(2, "x")], &[(9, "nine")], &[(5, "\u{e9}")], &[(6, "six")]];
    for (rows, number) in rows.into_iter().zip(2..) {
        // The clock would let each wait for the one before.
        log.mysql_transaction(number, (number - 1, number), rows);
    }
    let options = |windows| Options { windows, log_name: Some("bin.000001".into()), ..Options::default() };
    let out = read_with(&log.bytes, options(WindowMode::Writeset));
    assert_eq!(out.class(), None, "{:?}", out.error);
    let txids: Vec<Coordinate> = out.transactions.iter().map(|transaction| transaction.position.txid).collect();
    let starts: Vec<Coordinate> = out.transactions.iter().map(|transaction| transaction.begin.window_start).collect();
    // Behind the DDL; the same name in another case; the same id; nothing in common; text that is not judged; behind that.
    assert_eq!(starts[1..], [txids[0], txids[0], txids[1], txids[2], txids[0], txids[5], txids[6]]);
    let barriers: Vec<bool> = out.transactions.iter().map(|transaction| transaction.begin.is_barrier()).collect();
    assert_eq!(barriers, [true, false, false, false, false, false, true, false]);
    // Without the DDL no key is known.
    let mut bare = Log::mysql();
    bare.mysql_transaction(1, (0, 1), &[(1, "one")]).mysql_transaction(2, (1, 2), &[(2, "two")]);
    let out = read_with(&bare.bytes, options(WindowMode::Writeset));
    assert!(out.transactions.iter().all(|transaction| transaction.begin.is_barrier()));
}
