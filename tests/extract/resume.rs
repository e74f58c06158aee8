//! `--after`, `--until`, `--since`: resuming at any transaction gives exactly the rest.

use rlog::error::Class;
use rlog::frame::{Coordinate, Incarnation, PositionSpec};
use rlog::source::{Options, Until};

use crate::assemble::{Log, Output, UUID_TEXT, read_with};

fn options() -> Options {
    Options { log_name: Some("bin.000001".into()), ..Options::default() }
}

fn after(log: &Log, spec: PositionSpec) -> Output {
    read_with(&log.bytes, Options { after: Some(spec), ..options() })
}

fn until(log: &Log, spec: PositionSpec) -> Output {
    read_with(&log.bytes, Options { until: Some(Until::Position(spec)), ..options() })
}

fn mysql_log() -> Log {
    let mut log = Log::mysql();
    for number in 1..=6u64 {
        log.time += 10;
        log.mysql_transaction(number, (number.saturating_sub(2), number), &[(number as i32, "row")]);
    }
    log.rotate("bin.000002");
    log
}

#[test]
fn resuming_behind_each_transaction_gives_exactly_the_rest() {
    let log = mysql_log();
    let whole = read_with(&log.bytes, options());
    assert_eq!((whole.class(), whole.transactions.len()), (None, 6));
    for (index, transaction) in whole.transactions.iter().enumerate() {
        let position = transaction.position.clone();
        let rest = &whole.transactions[index + 1..];
        let server = PositionSpec::Server { base: String::new(), at: position.end };
        let gtids = PositionSpec::Gtid(format!("{UUID_TEXT}:1-{}", index + 1));
        for spec in [PositionSpec::Position(position.clone()), server, gtids] {
            let out = after(&log, spec.clone());
            assert_eq!(out.class(), None, "{spec:?}: {:?}", out.error);
            assert_eq!(out.transactions, rest, "{spec:?}");
            assert_eq!(out.header.start, position.end, "{spec:?}");
            // The end is the same, whatever the start.
            assert_eq!(out.end.unwrap().gtid_state, whole.end.as_ref().unwrap().gtid_state);
        }
    }
}

#[test]
fn a_position_of_another_log_is_refused() {
    let log = mysql_log();
    let whole = read_with(&log.bytes, options());
    let good = whole.transactions[2].position.clone();
    let mut other_digest = good.clone();
    other_digest.digest ^= 1;
    let mut other_life = good.clone();
    other_life.incarnation = Incarnation(good.incarnation.0 ^ 1);
    let mut not_there = good.clone();
    not_there.txid = Coordinate(good.txid.0 - 1);
    let mut ahead = good.clone();
    ahead.txid = Coordinate(good.txid.0 + (1 << 30));
    ahead.end = Coordinate(good.end.0 + (1 << 30));
    for wrong in [other_digest, other_life, not_there, ahead] {
        let out = after(&log, PositionSpec::Position(wrong.clone()));
        assert_eq!(out.class(), Some(Class::Identity), "{wrong}");
        assert_eq!(out.transactions.len(), 0);
    }
}

#[test]
fn a_position_before_the_first_log_given_is_a_gap() {
    let mut log = mysql_log();
    let position = read_with(&log.bytes, options()).transactions[2].position.clone();
    let second = Options { log_name: Some("bin.000002".into()), ..Options::default() };
    let out = read_with(&log.bytes, Options { after: Some(PositionSpec::Position(position)), ..second });
    assert_eq!(out.class(), Some(Class::Gap));
    // GTIDs that are done before the file, and not according to the position.
    let mut previous = Log::mysql();
    let mut body = 1u64.to_le_bytes().to_vec();
    body.extend_from_slice(&crate::assemble::UUID);
    for number in [1u64, 1, 5] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    previous.event(35, &body).mysql_transaction(5, (0, 1), &[(5, "five")]);
    log = previous;
    assert_eq!(after(&log, PositionSpec::Gtid(format!("{UUID_TEXT}:1-2"))).class(), Some(Class::Gap));
    let out = after(&log, PositionSpec::Gtid(format!("{UUID_TEXT}:1-4")));
    assert_eq!((out.class(), out.transactions.len()), (None, 1));
    assert_eq!(out.header.gtid_state, format!("{UUID_TEXT}:1-4"));
}

#[test]
fn a_server_coordinate_inside_a_group_does_not_pass_over_it() {
    let log = mysql_log();
    let whole = read_with(&log.bytes, options());
    let third = &whole.transactions[2].position;
    for at in [third.txid.0 + 1, third.end.0 - 1] {
        let folder = crate::common::scratch();
        let path = log.write(folder.path(), "bin.000001");
        let spec = PositionSpec::Server { base: "bin".into(), at: Coordinate(at) };
        let options = Options { after: Some(spec), ..Options::default() };
        let out = crate::assemble::read_files(&[path], options);
        assert_eq!(out.class(), None, "{:?}", out.error);
        assert_eq!(out.transactions, whole.transactions[2..]);
    }
}

#[test]
fn reading_ends_where_it_was_told_to_inclusive() {
    let log = mysql_log();
    let whole = read_with(&log.bytes, options());
    for (index, transaction) in whole.transactions.iter().enumerate() {
        let position = transaction.position.clone();
        let server = PositionSpec::Server { base: String::new(), at: position.end };
        let gtids = PositionSpec::Gtid(format!("{UUID_TEXT}:1-{}", index + 1));
        for spec in [PositionSpec::Position(position.clone()), server, gtids] {
            let out = until(&log, spec.clone());
            assert_eq!((out.class(), out.transactions.len()), (None, index + 1), "{spec:?}");
            assert_eq!(out.end.unwrap().reached, position.end, "{spec:?}");
        }
        // Inside of a transaction: that one is not read.
        let inside = PositionSpec::Server { base: String::new(), at: Coordinate(position.end.0 - 1) };
        assert_eq!(until(&log, inside).transactions.len(), index);
    }
    let time = Until::Time((1_700_000_000 + 30) * 1_000_000);
    let out = read_with(&log.bytes, Options { until: Some(time), ..options() });
    assert_eq!(out.transactions.len(), 3);
}

#[test]
fn since_passes_over_what_is_older_as_progress() {
    let log = mysql_log();
    let whole = read_with(&log.bytes, options());
    let out = read_with(&log.bytes, Options { since_us: Some((1_700_000_000 + 35) * 1_000_000), ..options() });
    assert_eq!(out.transactions.len(), 3);
    assert_eq!(out.transactions[2].position, whole.transactions[5].position);
    assert_eq!(out.progress[0].to, whole.transactions[2].position.end);
    assert_eq!(out.progress[0].gtid_state, format!("{UUID_TEXT}:1-3"));
}

#[test]
fn domains_of_mariadb_are_resumed_one_by_one() {
    let mut log = Log::maria();
    let domain = |log: &mut Log, domain: u8, sequence: u64| {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend_from_slice(&[domain, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
        log.event(162, &body).table_map(30, "t").rows(30, &[(1, "x")]).xid(1);
    };
    for (number, sequence) in [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)] {
        domain(&mut log, number, sequence);
    }
    let out = after(&log, PositionSpec::Gtid("0-7-2,1-7-1".into()));
    let gtids: Vec<&str> = out.transactions.iter().map(|transaction| transaction.position.gtid.as_str()).collect();
    assert_eq!((out.class(), gtids), (None, vec!["1-7-2", "0-7-3"]), "{:?}", out.error);
    // One that is not listed ends the stream at once.
    assert_eq!(until(&log, PositionSpec::Gtid("0-7-2".into())).transactions.len(), 1);
    assert_eq!(until(&log, PositionSpec::Gtid("0-7-2,1-7-1".into())).transactions.len(), 3);
}

#[test]
fn now_passes_over_everything() {
    let log = mysql_log();
    let out = after(&log, PositionSpec::Now);
    assert_eq!((out.class(), out.transactions.len(), out.progress.len()), (None, 0, 1));
    assert_eq!(out.end.unwrap().reached, Coordinate::new(2, 4).unwrap());
}
