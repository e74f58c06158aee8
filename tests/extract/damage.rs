//! Truncations, flipped bits and ends of logs: an error, or a correct prefix; never a panic, never fewer rows with exit 0.

use rlog::error::Class;

use crate::assemble::{Log, Output, images, kind, read, rows_body};

/// A closed log of each family with checksums: rows, a statement, DDL and a rotation.
pub fn closed_logs() -> Vec<Log> {
    let mut maria = Log::maria();
    maria.maria_gtid(1, 1 | 32, None).query("create table t (id int, name varchar(2000))");
    maria.maria_transaction(2, &[(1, "one"), (2, "two")]);
    maria.maria_gtid(3, 4, None).query("insert into t values (3, 'three')").xid(3);
    maria.no_positions = true;
    maria.maria_transaction(4, &[(4, "four")]);
    maria.no_positions = false;
    maria.rotate("bin.000002");
    let mut mysql = Log::mysql();
    mysql.mysql_transaction(1, (0, 1), &[(1, "one"), (2, "two")]);
    mysql.mysql_transaction(2, (1, 2), &[(3, "three")]);
    mysql.mysql_gtid(3, (2, 3)).query("truncate table t");
    mysql.event(kind::STOP, &[]);
    vec![maria, mysql]
}

fn is_prefix(part: &Output, whole: &Output) -> bool {
    part.transactions.len() <= whole.transactions.len()
        && part
            .transactions
            .iter()
            .zip(&whole.transactions)
            .all(|(a, b)| a.position == b.position && a.bodies == b.bodies)
}

#[test]
fn every_truncation_of_a_log_gives_a_correct_prefix_and_says_so_inside_of_a_transaction() {
    for log in closed_logs() {
        let whole = read(&log.bytes);
        assert_eq!(whole.class(), None, "{:?}", whole.error);
        assert!(whole.rows() >= 3);
        for length in 0..log.bytes.len() {
            let part = read(&log.bytes[..length]);
            assert!(is_prefix(&part, &whole), "cut at {length}");
            match part.class() {
                None => {
                    // Only between groups, and not without a remark.
                    let at = part.end.as_ref().unwrap().reached.offset();
                    assert!(length as u64 >= at, "cut at {length}");
                    assert!(part.end.unwrap().notes.iter().any(|note| note.contains("may have been cut")), "{length}");
                }
                Some(class) => assert_eq!(class, Class::Torn, "cut at {length}: {:?}", part.error),
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_log_with_checksums_is_damage_or_changes_nothing() {
    for log in closed_logs() {
        let whole = read(&log.bytes);
        let mut unnoticed = Vec::new();
        for bit in 0..log.bytes.len() * 8 {
            let mut bytes = log.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let part = read(&bytes);
            assert!(is_prefix(&part, &whole), "bit {bit}");
            if part.error.is_none() {
                assert_eq!(part.rows(), whole.rows(), "bit {bit}: fewer rows, and no error");
                assert_eq!(part.transactions.len(), whole.transactions.len(), "bit {bit}");
                unnoticed.push(bit);
            }
        }
        // The in-use flag is outside of its checksum, by the servers' design.
        assert_eq!(unnoticed, [(4 + 17) * 8]);
    }
}

#[test]
fn a_flipped_bit_in_a_log_in_use_never_passes_for_its_end_unless_it_is_in_the_last_event() {
    let mut log = Log::new("10.11.18-MariaDB-log", 0, 1);
    for number in 1..5 {
        log.maria_transaction(number, &[(number as i32, "row")]);
    }
    let whole = read(&log.bytes);
    let last_event = log.bytes.len() - 31;
    for bit in 4 * 8..last_event * 8 {
        let mut bytes = log.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let part = read(&bytes);
        if part.error.is_none() {
            assert_eq!(part.rows(), whole.rows(), "bit {bit}");
        }
    }
}

#[test]
fn flipped_bits_without_checksums_never_panic() {
    let mut log = Log::new("5.5.30-log", 0, 0);
    // Rebuilt without the checksum fields that 5.5 did not know.
    log.bytes.truncate(4);
    log.checksum = false;
    let mut body = vec![4, 0];
    let mut version = b"5.5.30-log".to_vec();
    version.resize(50, 0);
    body.extend_from_slice(&version);
    body.extend_from_slice(&[0, 0, 0, 0, 19]);
    let mut post = [8u8; 27];
    (post[1], post[14], post[15]) = (13, 84, 0);
    body.extend_from_slice(&post);
    log.event(kind::FORMAT, &body);
    log.query("BEGIN").table_map(3, "t").rows(3, &[(1, "one"), (2, "two")]).xid(1);
    log.query("create table u (id int)").rotate("bin.000002");
    let whole = read(&log.bytes);
    assert_eq!((whole.class(), whole.rows()), (None, 2), "{:?}", whole.error);
    assert!(whole.end.as_ref().unwrap().notes.iter().any(|note| note.contains("no checksums")));
    for bit in 0..log.bytes.len() * 8 {
        let mut bytes = log.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&bytes);
    }
    for length in 0..log.bytes.len() {
        assert!(is_prefix(&read(&log.bytes[..length]), &whole));
    }
}

#[test]
fn a_log_in_use_may_end_inside_of_a_transaction() {
    let mut log = Log::new("10.11.18-MariaDB-log", 0, 1);
    log.maria_transaction(1, &[(1, "one")]);
    let whole = log.bytes.len();
    log.maria_gtid(2, 4, None).table_map(30, "t").rows(30, &[(2, "two")]);
    for cut in [log.bytes.len(), log.bytes.len() - 3, whole + 5] {
        let out = read(&log.bytes[..cut]);
        assert_eq!(out.class(), None, "{:?}", out.error);
        let end = out.end.unwrap();
        assert_eq!((end.in_use, end.torn_bytes, end.reached.offset()), (true, (cut - whole) as u64, whole as u64));
        assert_eq!(out.transactions.len(), 1);
    }
    // A checksum error in the last event of a log in use is an unfinished write.
    let mut bytes = log.bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read(&bytes).class(), None);
    // The same log, not in use.
    log.bytes[4 + 17] = 0;
    assert_eq!(read(&log.bytes).class(), Some(Class::Torn));
    bytes[4 + 17] = 0;
    let out = read(&bytes);
    assert_eq!(out.class(), Some(Class::Damage));
    assert_eq!(out.transactions.len(), 1);
}

#[test]
fn a_checksum_error_says_where() {
    let mut log = Log::maria();
    log.maria_transaction(1, &[(1, "one")]);
    let at = log.bytes.len();
    log.maria_transaction(2, &[(2, "two")]).rotate("bin.000002");
    log.bytes[at + 20] ^= 4;
    let out = read(&log.bytes);
    assert_eq!(out.class(), Some(Class::Damage));
    assert_eq!(out.error.unwrap().place().unwrap().at, Some(at as u64));
    assert_eq!(out.transactions.len(), 1);
}

#[test]
fn lengths_that_lie_are_noticed_before_they_allocate() {
    let mut log = Log::maria();
    log.checksum = false;
    log.bytes.truncate(4);
    log.format("10.11.18-MariaDB-log", 0, 0);
    let start = log.clone();
    // A rows event that claims more columns than there are bytes.
    log.maria_gtid(1, 4, None).table_map(3, "t");
    log.event(kind::WRITE_V1, &[3, 0, 0, 0, 0, 0, 1, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255, 127]);
    assert_eq!(read(&log.bytes).class(), Some(Class::Damage));
    // Compressed rows that claim 4 GiB.
    let mut log = start.clone();
    let mut body = rows_body(3, &[]);
    body.extend_from_slice(&[0x84, 255, 255, 255, 255, 1, 2, 3]);
    log.maria_gtid(1, 4, None).table_map(3, "t").event(kind::WRITE_COMPRESSED, &body);
    assert_eq!(read(&log.bytes).class(), Some(Class::Damage));
    // An event that claims 4 GiB.
    let mut log = start.clone();
    log.maria_transaction(1, &[(1, "one")]);
    let at = log.bytes.len();
    log.xid(2);
    log.bytes[at + 9..at + 13].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(read(&log.bytes).class(), Some(Class::Torn));
    // Rows that end inside a value.
    let mut log = start;
    let mut rows = rows_body(3, &[]);
    let image = images(&[(1, "abcdef")]);
    rows.extend_from_slice(&image[..image.len() - 2]);
    log.maria_gtid(1, 4, None).table_map(3, "t").event(kind::WRITE_V1, &rows);
    assert_eq!(read(&log.bytes).class(), Some(Class::Damage));
}
