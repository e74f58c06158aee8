//! Several files: their order, gaps, crashes between them, relay logs, standard input.

use rlog::error::Class;
use rlog::frame::Coordinate;
use rlog::source::Options;

use crate::assemble::{Log, kind, read_files, read_with};
use crate::common::scratch;

fn three_files() -> [Log; 3] {
    let mut logs = [Log::maria(), Log::maria(), Log::maria()];
    for (index, log) in logs.iter_mut().enumerate() {
        let number = index as u64 * 10;
        log.maria_transaction(number + 1, &[(1, "a")]).maria_transaction(number + 2, &[(2, "b")]);
        log.rotate(&format!("bin.{:06}", index + 2));
    }
    logs
}

#[test]
fn files_are_read_in_log_order_whatever_the_order_of_the_arguments() {
    let folder = scratch();
    let paths: Vec<_> = three_files()
        .iter()
        .zip(1..)
        .map(|(log, number)| log.write(folder.path(), &format!("bin.{number:06}")))
        .collect();
    let straight = read_files(&paths, Options::default());
    assert_eq!(straight.class(), None, "{:?}", straight.error);
    assert_eq!(straight.transactions.len(), 6);
    for order in [[2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let shuffled: Vec<_> = order.iter().map(|index| paths[*index].clone()).collect();
        assert_eq!(read_files(&shuffled, Options::default()).bytes, straight.bytes);
    }
    // Each file's end is a progress to the start of the next one, and its first transaction goes on from there.
    let starts: Vec<Coordinate> = straight.progress.iter().map(|progress| progress.to).collect();
    assert_eq!(starts, [2, 3, 4].map(|file| Coordinate::new(file, 4).unwrap()));
    assert_eq!(straight.transactions[2].begin.prev, Coordinate::new(2, 4).unwrap());
    assert_eq!(straight.end.unwrap().reached, Coordinate::new(4, 4).unwrap());
}

#[test]
fn files_whose_names_say_nothing_are_ordered_by_their_rotations() {
    let folder = scratch();
    let [first, second, third] = three_files();
    // All begun in the same second, so that times say nothing either.
    let paths = [
        third.write(folder.path(), "bin.000003"),
        first.write(folder.path(), "zzz"),
        second.write(folder.path(), "bin.000002"),
    ];
    let out = read_files(&paths, Options { log_name: Some("bin.000001".into()), ..Options::default() });
    assert_eq!(out.class(), None, "{:?}", out.error);
    let sequences: Vec<&str> = out.transactions.iter().map(|transaction| transaction.position.gtid.as_str()).collect();
    assert_eq!(sequences, ["0-7-1", "0-7-2", "0-7-11", "0-7-12", "0-7-21", "0-7-22"]);
}

#[test]
fn a_missing_file_is_a_gap_and_everything_before_it_is_written() {
    let folder = scratch();
    let [first, _, third] = three_files();
    let paths = [third.write(folder.path(), "bin.000003"), first.write(folder.path(), "bin.000001")];
    let out = read_files(&paths, Options::default());
    assert_eq!(out.class(), Some(Class::Gap));
    assert!(out.error.unwrap().to_string().contains("bin.000002 is missing"));
    assert_eq!(out.transactions.len(), 2);
}

#[test]
fn index_files_empty_files_and_repeats_are_passed_over_with_a_note() {
    let folder = scratch();
    let [first, ..] = three_files();
    let log = first.write(folder.path(), "bin.000001");
    let index = folder.path().join("bin.index");
    std::fs::write(&index, "./bin.000001\n").unwrap();
    let gtids = folder.path().join("bin.000001.idx");
    std::fs::write(&gtids, [0; 40]).unwrap();
    let empty = folder.path().join("bin.000002");
    std::fs::write(&empty, "").unwrap();
    let out = read_files(&[index, gtids, log.clone(), empty.clone(), log], Options::default());
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert_eq!(out.transactions.len(), 2);
    let passed = out.end.unwrap().notes.iter().filter(|note| note.contains("passed over")).count();
    assert_eq!(passed, 4);
    assert_eq!(read_files(&[empty], Options::default()).class(), Some(Class::NoInput));
}

#[test]
fn logs_of_two_servers_or_of_two_lives_are_refused() {
    let folder = scratch();
    let [first, second, _] = three_files();
    let mut other = Log::maria();
    other.bytes.truncate(4);
    other.server_id = 8;
    other.format("10.11.18-MariaDB-log", 0, 0);
    let paths = [first.write(folder.path(), "bin.000001"), other.write(folder.path(), "bin.000002")];
    assert_eq!(read_files(&paths, Options::default()).class(), Some(Class::Identity));
    std::fs::create_dir(folder.path().join("old")).unwrap();
    let paths = [first.write(folder.path(), "bin.000001"), second.write(&folder.path().join("old"), "bin.000001")];
    assert_eq!(read_files(&paths, Options::default()).class(), Some(Class::Identity));
}

#[test]
fn a_group_cut_off_by_a_crash_is_dropped_when_the_next_file_says_that_the_server_restarted() {
    let folder = scratch();
    let mut crashed = Log::new("10.11.18-MariaDB-log", 0, 1);
    crashed.maria_transaction(1, &[(1, "one")]);
    crashed.maria_gtid(2, 4, None).table_map(30, "t").rows(30, &[(2, "two")]);
    let text = "x".repeat(1500);
    let many: Vec<(i32, &str)> = (0..1000).map(|number| (number, text.as_str())).collect();
    let mut streaming = crashed.clone();
    streaming.rows(30, &many);
    let mut torn = crashed.clone();
    torn.bytes.truncate(torn.bytes.len() - 7);
    let next = |created| {
        let mut log = Log::new("10.11.18-MariaDB-log", created, 0);
        log.maria_transaction(2, &[(9, "nine")]).rotate("bin.000003");
        log
    };
    for (name, log) in [("gathered", &crashed), ("torn", &torn), ("streamed", &streaming)] {
        let first = log.write(folder.path(), "bin.000001");
        let restarted = next(1_700_000_100).write(folder.path(), "bin.000002");
        let out = read_files(&[first.clone(), restarted], Options::default());
        assert_eq!(out.class(), None, "{name}: {:?}", out.error);
        assert_eq!(out.rows(), 2, "{name}");
        assert_eq!(out.discarded.len(), usize::from(name == "streamed"), "{name}");
        assert!(out.end.unwrap().notes.iter().any(|note| note.contains("rolled it back")), "{name}");
        let went_on = next(0).write(folder.path(), "bin.000002");
        let out = read_files(&[first, went_on], Options::default());
        assert_eq!((out.class(), out.rows()), (Some(Class::Torn), 1), "{name}");
    }
}

#[test]
fn relay_logs_have_the_positions_of_their_source_beyond_4_gib() {
    let folder = scratch();
    // The replica's own events (server 9), then the source's from far into its file.
    let mut log = Log::new("8.0.40", 0, 0);
    log.bytes.truncate(4);
    log.server_id = 9;
    log.format("8.0.40", 0, 0x40);
    log.server_id = 7;
    let far = (1u64 << 32) - 300;
    let mut rotate = far.to_le_bytes().to_vec();
    rotate.extend_from_slice(b"master-bin.000042");
    let time = std::mem::replace(&mut log.time, 0);
    log.no_positions = true;
    log.event_flags(kind::ROTATE, &rotate, 0x20);
    log.time = time;
    log.format("8.0.40", 0, 0);
    log.no_positions = false;
    log.shift = far - log.bytes.len() as u64;
    let mut expected = Vec::new();
    for number in 1..6 {
        expected.push(log.bytes.len() as u64 + log.shift);
        log.mysql_transaction(number, (number - 1, number), &[(number as i32, "row")]);
    }
    let path = log.write(folder.path(), "relay-bin.000007");
    let out = read_files(&[path], Options::default());
    assert_eq!(out.class(), None, "{:?}", out.error);
    assert!(out.transactions.iter().all(|transaction| transaction.position.txid.file() == 42));
    assert_eq!(out.offsets(), expected);
    assert!(expected.last().unwrap() > &(1 << 32));
    assert_eq!(out.header.server_id, 7);
    assert_eq!(out.header.log_name, "master-bin");
}

#[test]
fn a_relay_log_and_its_source_give_the_same_evidence() {
    let folder = scratch();
    let mut source = Log::mysql();
    let at = source.bytes.len() as u64;
    source.mysql_transaction(1, (0, 1), &[(1, "one")]);
    let mut relay = Log::mysql();
    relay.bytes.truncate(4);
    relay.server_id = 9;
    relay.format("8.0.40", 0, 0x40);
    relay.server_id = 7;
    let time = std::mem::replace(&mut relay.time, 0);
    relay.event_flags(kind::ROTATE, &[&4u64.to_le_bytes()[..], b"bin.000001"].concat(), 0x20);
    relay.time = time;
    relay.format("8.0.40", 0, 0);
    relay.shift = at.wrapping_sub(relay.bytes.len() as u64);
    relay.mysql_transaction(1, (0, 1), &[(1, "one")]);
    let from_source = read_files(&[source.write(folder.path(), "bin.000001")], Options::default());
    let from_relay = read_files(&[relay.write(folder.path(), "relay.000005")], Options::default());
    assert_eq!(from_source.class(), None);
    assert_eq!(from_relay.class(), None, "{:?}", from_relay.error);
    assert_eq!(from_relay.transactions[0].position, from_source.transactions[0].position);
}

#[test]
fn a_stream_of_several_files_is_one_log_and_without_a_name_it_is_unanchored() {
    let [first, second, third] = three_files();
    let bytes = [first.bytes, second.bytes, third.bytes].concat();
    let named = read_with(&bytes, Options { log_name: Some("bin.000001".into()), ..Options::default() });
    assert_eq!(named.class(), None, "{:?}", named.error);
    assert_eq!(named.transactions.len(), 6);
    assert_eq!(named.transactions[5].position.txid.file(), 3);
    assert!(!named.header.unanchored);
    let unnamed = read_with(&bytes, Options::default());
    assert_eq!(unnamed.class(), None, "{:?}", unnamed.error);
    assert_eq!((unnamed.header.unanchored, unnamed.rows()), (true, 6));
    let after = Options { after: Some("1:4".parse().unwrap()), ..Options::default() };
    assert_eq!(read_with(&bytes, after).class(), Some(Class::Config));
}
