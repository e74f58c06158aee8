//! Conflicts: reports, policies, dead letters, skipping.

use crate::common::changes::{Records, Source, table};
use crate::common::rlog;
use crate::once::Place;

/// A target whose row 2 is there already, and a stream that inserts 1, 2, 3 in three transactions.
fn duplicate() -> (Place, Vec<u8>, String) {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (0, None)));
    assert_eq!(place.init(&source.unfinished()).0, 75);
    place.open().execute_batch("insert into t values (2, 'mine')").unwrap();
    source.transaction(Records::default().insert(&t, (1, Some("a"))));
    let failing = source.transaction(Records::default().insert(&t, (20, Some("b"))).insert(&t, (2, Some("b"))));
    source.transaction(Records::default().insert(&t, (3, Some("c"))));
    (place, source.end(), failing.to_string())
}

#[test]
fn a_conflict_stops_before_its_transaction_and_the_report_says_everything() {
    let (place, stream, position) = duplicate();
    let (status, text) = place.run(&stream, &[]);
    assert_eq!(status, 80);
    for part in
        ["channel default", &position, "duplicate-key", "insert of shop.t", "key: id=2", "after: id=2, v='b'", "skip"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    // The batch was run again singly: what stands before the conflict is applied, nothing of it and nothing behind.
    assert_eq!(place.query("select id from t order by id"), ["0", "1", "2"]);
    let output = rlog("rlog-apply").arg("status").arg(place.target()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("failed") && text.contains("duplicate-key"), "{text}");
    // Repaired by hand, the same command goes on.
    place.open().execute_batch("delete from t where id=2").unwrap();
    assert_eq!(place.run(&stream, &[]), (0, String::new()));
    assert_eq!(place.query("select id from t order by id"), ["0", "1", "2", "3", "20"]);
    let output = rlog("rlog-apply").arg("status").arg(place.target()).output().unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains("failed"));
}

#[test]
fn skip_steps_over_the_row_and_overwrite_makes_it_the_sources() {
    let (place, stream, position) = duplicate();
    let letters = place.path("dead.rlog");
    let letters = letters.to_str().unwrap();
    assert_eq!(place.run(&stream, &["--on-conflict", "duplicate-key=skip", "--dead-letter", letters]).0, 0);
    assert_eq!(place.query("select * from t order by id"), ["0|NULL", "1|a", "2|mine", "3|c", "20|b"]);
    let output = rlog("rlog-apply").arg("errors").arg(place.target()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&position) && text.contains("skipped") && text.lines().count() == 1, "{text}");
    // The dead letter is a stream that applies elsewhere.
    let other = Place::new();
    assert_eq!(other.init(&std::fs::read(letters).unwrap()), (0, String::new()));
    assert_eq!(other.query("select id from t order by id"), ["2", "20"]);

    let (place, stream, _) = duplicate();
    assert_eq!(place.run(&stream, &["--on-conflict", "overwrite"]).0, 0);
    assert_eq!(place.query("select * from t where id=2"), ["2|b"]);
}

#[test]
fn a_dead_letter_is_kept_once() {
    let (place, stream, _) = duplicate();
    let letters = place.path("dead.rlog");
    let options = ["--on-conflict", "skip", "--dead-letter", letters.to_str().unwrap()];
    assert_eq!(place.run(&stream, &options).0, 0);
    let kept = std::fs::read(&letters).unwrap();
    // As if the applier had died between the letter and the commit, and in the middle of the next letter.
    let again = "delete from rlog_applied; delete from t where id in (1, 3, 20); update rlog_channel set value='1:104' where name='base'";
    place.open().execute_batch(again).unwrap();
    let torn = [&kept[..], &kept[..kept.len() / 2]].concat();
    std::fs::write(&letters, torn).unwrap();
    let (status, text) = place.run(&stream, &options);
    assert_eq!(status, 0, "{text}");
    assert_eq!(place.query("select id from t order by id"), ["0", "1", "2", "3", "20"], "applied again");
    assert_eq!(std::fs::read(&letters).unwrap(), kept);
}

#[test]
fn skip_steps_over_that_transaction_and_no_other() {
    let (place, stream, position) = duplicate();
    assert_eq!(place.run(&stream, &[]).0, 80);
    rlog("rlog-apply").args(["skip", &position, &place.target()]).assert().success();
    assert_eq!(place.run(&stream, &[]), (0, String::new()));
    assert_eq!(place.query("select id from t order by id"), ["0", "1", "2", "3"]);
    // It is applied or stepped over: to ask again is a mistake.
    rlog("rlog-apply").args(["skip", &position, &place.target()]).assert().code(78);
}

#[test]
fn a_row_that_is_not_there_and_one_that_differs_are_two_things() {
    let t = table("shop", "t");
    let target = |options: &[&str]| {
        let place = Place::new();
        let mut source = Source::new();
        source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&t, (2, Some("b"))));
        assert_eq!(place.init(&source.unfinished()).0, 75);
        place.open().execute_batch("update t set v='drifted' where id=1; delete from t where id=2").unwrap();
        source.transaction(Records::default().update(&t, (1, Some("a")), (1, Some("A"))));
        source.transaction(Records::default().delete(&t, (2, Some("b"))));
        let (status, text) = place.run(&source.end(), options);
        (status, text, place.query("select * from t"))
    };
    let (status, text, rows) = target(&[]);
    assert!(status == 80 && text.contains("row-not-found") && text.contains("key: id=2"), "{text}");
    assert_eq!(rows, ["1|A"]);
    let (status, text, rows) = target(&["--check-before"]);
    assert!(status == 80 && text.contains("row-differs") && text.contains("before: id=1, v='a'"), "{text}");
    assert_eq!(rows, ["1|drifted"]);
    let (status, _, rows) = target(&["--check-before", "--on-conflict", "overwrite"]);
    assert_eq!((status, rows), (0, vec!["1|A".to_owned()]));
    let (status, _, rows) = target(&["--check-before", "--on-conflict", "row-differs=skip,row-not-found=skip"]);
    assert_eq!((status, rows), (0, vec!["1|drifted".to_owned()]));
}

#[test]
fn skip_errors_names_the_engines_own_numbers() {
    let (place, stream, _) = duplicate();
    // SQLITE_CONSTRAINT_PRIMARYKEY.
    assert_eq!(place.run(&stream, &["--skip-errors", "1555"]).0, 0);
    assert_eq!(place.query("select * from t where id=2"), ["2|mine"]);
}

#[test]
fn a_missing_table_is_a_conflict_that_names_the_way_out() {
    let place = Place::new();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let (status, text) = place.run(&source.end(), &["--init", "empty"]);
    assert_eq!(status, 80);
    assert!(text.contains("no table t") && text.contains("--create-tables"), "{text}");
}
