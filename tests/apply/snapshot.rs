//! Snapshots: loaded once, resumed, replaced, and nothing else in between.

use rlog::frame::{Chunk, Coordinate, Kind, Snapshot};

use crate::common::changes::{Records, Source, table};
use crate::once::Place;

fn snapshot(source: &Source, uuid: u8) -> Snapshot {
    Snapshot { uuid: [uuid; 16], at: Coordinate(source.at), incarnation: source.incarnation, ..Snapshot::default() }
}

fn begin(source: &mut Source, uuid: u8) -> Snapshot {
    let snapshot = snapshot(source, uuid);
    source.frame(Kind::SnapshotBegin, |out| snapshot.encode(out));
    snapshot
}

fn chunk(source: &mut Source, uuid: u8, number: u64, ids: std::ops::Range<i32>) {
    let t = table("shop", "t");
    let records = ids.fold(Records::default(), |records, id| records.insert(&t, (id, Some("s"))));
    source.chunk(records, Chunk { snapshot: [uuid; 16], table: t.key(), number });
}

fn end(source: &mut Source, snapshot: &Snapshot) {
    source.frame(Kind::SnapshotEnd, |out| snapshot.encode(out));
}

fn state(place: &Place) -> String {
    let output = crate::common::rlog("rlog-apply").args(["status", "--json", &place.target()]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    json["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_snapshot_is_loaded_resumed_and_followed_by_the_log() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    let snapshot = begin(&mut source, 1);
    chunk(&mut source, 1, 0, 0..10);
    let part = source.unfinished();
    chunk(&mut source, 1, 1, 10..20);
    end(&mut source, &snapshot);
    source.transaction(Records::default().insert(&t, (20, None)));
    let stream = source.end();
    // The writer died in the middle: what is there is marked as not whole.
    assert_eq!(place.init(&part).0, 75);
    assert_eq!(place.query("select count(*) from t"), ["10"]);
    assert_eq!(state(&place), "loading");
    // No position is reached while the snapshot is not whole: not even one that stands before it.
    let wait = |position: &str| {
        let words = ["wait", "--timeout", "0.1s", "--position", position];
        crate::common::rlog("rlog-apply").args(words).arg(place.target()).output().unwrap().status.code()
    };
    assert_eq!(wait("1:4"), Some(75));
    // The same snapshot again goes on behind the chunks that are there; and then nothing is new.
    for _ in 0..2 {
        assert_eq!(place.run(&stream, &["--create-tables"]), (0, String::new()));
        assert_eq!(place.query("select count(*), max(id) from t"), ["21|20"]);
        assert_eq!(state(&place), "stopped");
        assert_eq!(wait("1:4"), Some(0));
    }
    // Another one is begun: what had been reached before does not count until it is whole.
    let again = begin(&mut source, 2);
    chunk(&mut source, 2, 0, 0..10);
    assert_eq!(place.run(&source.unfinished(), &["--replace"]).0, 75);
    assert_eq!((state(&place).as_str(), wait("1:4")), ("loading", Some(75)));
    end(&mut source, &again);
    assert_eq!(place.run(&source.end(), &["--replace"]), (0, String::new()));
    assert_eq!((place.query("select count(*) from t"), wait("1:4")), (vec!["10".to_owned()], Some(0)));
}

#[test]
fn another_snapshot_clears_what_an_interrupted_one_loaded() {
    let place = Place::new();
    let mut source = Source::new();
    begin(&mut source, 1);
    chunk(&mut source, 1, 0, 0..10);
    assert_eq!(place.init(&source.unfinished()).0, 75);
    let mut source = Source::new();
    let snapshot = begin(&mut source, 2);
    chunk(&mut source, 2, 0, 5..8);
    end(&mut source, &snapshot);
    assert_eq!(place.run(&source.end(), &["--create-tables"]), (0, String::new()));
    assert_eq!(place.query("select count(*), min(id), max(id) from t"), ["3|5|7"]);
}

#[test]
fn only_empty_tables_load_unless_replace_is_said() {
    let place = Place::new();
    place
        .open()
        .execute_batch("create table t (id integer primary key, v text); insert into t values (1, 'mine')")
        .unwrap();
    let mut source = Source::new();
    let snapshot = begin(&mut source, 1);
    chunk(&mut source, 1, 0, 0..3);
    end(&mut source, &snapshot);
    let stream = source.end();
    let (status, text) = place.run(&stream, &[]);
    assert!(status == 78 && text.contains("--replace"), "{status} {text}");
    assert_eq!(place.query("select v from t"), ["mine"]);
    assert_eq!(place.run(&stream, &["--replace"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from t"), ["3"]);
}
