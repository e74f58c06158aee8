//! What a plug-in of rlog-apply hears, refuses and changes; and what does not load.

use rlog::event::RecordKind;
use rlog::event::Statement;
use rlog::plugin::abi;

use super::build::{Place, c, inserts, mask, probe, rust};
use crate::common::changes::{Records, Source, table};

#[test]
fn every_event_is_heard_in_order() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&t, (2, None)));
    source.transaction(Records::default().update(&t, (2, None), (2, Some("b"))).delete(&t, (1, Some("a"))));
    let ddl = Statement {
        sql: b"create table shop.u (id int primary key)".as_slice().into(),
        database: "shop".into(),
        ddl: "create table".into(),
        ..Statement::default()
    };
    let last = source.barrier(Records::default().statement(RecordKind::Ddl, &ddl));
    let first = 1u64 << 40 | 4;
    let ids = [first, 0, last.txid.0];
    let ran = place.apply(&source.end(), &[&place.probe("")]);
    assert_eq!((ran.status, ran.text.as_str()), (0, "rlog-apply: probe: probing\n"));
    let events = place.events();
    let second = events.iter().filter(|line| line.starts_with("begin")).nth(1).unwrap()[6..].to_owned();
    let sql = "create table shop.u (id int primary key)";
    let wanted = [
        "start rlog-apply default ''".to_owned(),
        format!("begin {first}"),
        format!("statement {first} 1 shop.t"),
        format!("before {first} 1 shop.t | 1 a"),
        format!("after {first} 1 shop.t | 1 a"),
        format!("finish {first} 1 shop.t"),
        format!("statement {first} 1 shop.t"),
        format!("before {first} 1 shop.t | 2 NULL"),
        format!("after {first} 1 shop.t | 2 NULL"),
        format!("finish {first} 1 shop.t"),
        format!("end {first}"),
        // Both become one target transaction.
        format!("begin {second}"),
        format!("statement {second} 2 shop.t"),
        format!("before {second} 2 shop.t | 2 NULL | 2 b"),
        format!("after {second} 2 shop.t | 2 NULL | 2 b"),
        format!("finish {second} 2 shop.t"),
        format!("statement {second} 3 shop.t"),
        format!("before {second} 3 shop.t | 1 a"),
        format!("after {second} 3 shop.t | 1 a"),
        format!("finish {second} 3 shop.t"),
        format!("end {second}"),
        format!("commit {first}"),
        format!("commit {second}"),
        format!("begin {}", ids[2]),
        format!("statement {} 5 shop.{sql}", ids[2]),
        format!("ddl {} 5 shop.{sql}", ids[2]),
        format!("finish {} 5 shop.{sql}", ids[2]),
        format!("end {}", ids[2]),
        format!("commit {}", ids[2]),
        "stop rlog-apply default ''".to_owned(),
        "stopped at once 1".to_owned(),
    ];
    assert_eq!(events, wanted);
    // The next run begins where the target is, and hears of nothing else.
    std::fs::remove_file(place.path("log")).unwrap();
    assert_eq!(place.apply(&source.end(), &[&place.probe(""), "--quiet"]).text, "");
    let again = place.events();
    assert_eq!(again[0], format!("start rlog-apply default '{last}'"));
    assert!(again.len() == 3 && again[1].starts_with("stop"), "{again:?}");
}

#[test]
fn a_veto_stops_the_channel_as_a_conflict_does() {
    // At a row, at a statement, at the end of a transaction: the third time each.
    for kind in [abi::BEGIN, abi::ROW_BEFORE, abi::ROW_AFTER, abi::STATEMENT_START, abi::STATEMENT_FINISH, abi::END] {
        let place = Place::new();
        let stream = inserts(5);
        // The batch is tried, and then its transactions one by one; the event with this number comes once only.
        let ran = place.apply(&stream, &[&place.probe(&format!("veto={kind}:3;")), "--batch", "1"]);
        assert_eq!((ran.status, place.query("select count(*) from t")), (0, vec!["5".to_owned()]), "tried again");
        let rollbacks = place.events().iter().filter(|line| line.starts_with("rollback")).count();
        assert_eq!(rollbacks, 1, "{:?}", place.events());
        let place = Place::new();
        // A second plug-in, loaded from another file, refuses the second attempt.
        let other = place.path("other.so");
        std::fs::copy(probe(), &other).unwrap();
        // It hears what the first has not refused: of the second attempt at the third transaction.
        let second = format!("--plugin={}:veto={kind}:3", other.display());
        let ran = place.apply(&stream, &[&place.probe(&format!("veto={kind}:3;")), &second, "--batch", "1"]);
        assert_eq!(ran.status, 80, "{}", ran.text);
        assert!(
            ran.text.contains("plug-in probe refuses transaction") && ran.text.contains("not this one"),
            "{}",
            ran.text
        );
        assert_eq!(place.query("select id from t"), ["0", "1"]);
        let status = place.run("rlog-apply", b"", &["status", "--json", &place.target()]);
        assert!(String::from_utf8_lossy(&status.stdout).contains("not this one"));
        let events = place.events();
        let error = events.iter().find(|line| line.starts_with("error")).unwrap();
        assert!(error.contains("[80 ") && events.iter().any(|line| line.starts_with("stop ") && line.contains("[80 ")));
        // Without it, the run goes on from there.
        assert_eq!(place.apply(&stream, &[]).status, 0);
        assert_eq!(place.query("select count(*) from t"), ["5"]);
    }
}

#[test]
fn a_vetoed_transaction_can_be_stepped_over_and_only_by_name() {
    let place = Place::new();
    let refuse = c("refuse", "tests/plugin/refuse.c", &[]);
    let plugin = format!("--plugin={}:3", refuse.display());
    for policy in ["stop", "skip"] {
        let ran = place.apply(&inserts(6), &[&plugin, "--on-conflict", policy]);
        assert_eq!(ran.status, 80, "{}", ran.text);
    }
    let ran = place.apply(&inserts(6), &[&plugin, "--skip-errors", "all"]);
    let hint = ran.text.split('`').nth(1).unwrap().replace("TARGET", &place.target());
    assert!(hint.starts_with("rlog-apply skip 1:"), "{}", ran.text);
    let words: Vec<&str> = hint.split(' ').collect();
    assert_eq!(place.run(words[0], b"", &words[1..]).status, 0);
    assert_eq!(place.apply(&inserts(6), &[&plugin]).status, 0);
    assert_eq!(place.query("select id from t"), ["0", "1", "2", "4", "5"]);
}

#[test]
fn the_start_of_a_run_can_be_refused_and_a_later_attempt_asked_for() {
    let place = Place::new();
    let ran = place.apply(&inserts(3), &[&place.probe(&format!("veto={}:1;", abi::CHANNEL_START))]);
    assert_eq!(ran.status, 80, "{}", ran.text);
    assert!(ran.text.contains("refuses to start: not this one"), "{}", ran.text);
    let ran = place.apply(&inserts(3), &[&place.probe(&format!("retry={}:2;", abi::END)), "-v"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert_eq!(place.query("select count(*) from t"), ["3"]);
    let events = place.events();
    let lines = |word: &str| events.iter().filter(|line| line.starts_with(word)).count();
    // Of three in one batch the second was refused: both that had begun were rolled back, and all begin again.
    assert_eq!((lines("begin"), lines("rollback"), lines("commit")), (5, 2, 3), "{events:?}");
    let place = Place::new();
    let ran = place.apply(&inserts(3), &[&place.probe(&format!("retry={}:1;", abi::END)), "--retries", "0"]);
    assert_eq!(ran.status, 75, "{}", ran.text);
}

#[test]
fn a_listener_comes_and_goes_while_the_run_goes_on() {
    let place = Place::new();
    let options = format!("off={}:3;on={}:6;", abi::ROW_BEFORE, abi::ROW_AFTER);
    assert_eq!(place.apply(&inserts(10), &[&place.probe(&options)]).status, 0);
    let events = place.events();
    let ids = |word: &str| -> Vec<String> {
        events
            .iter()
            .filter(|line| line.starts_with(word))
            .map(|line| line.split('|').nth(1).unwrap().trim().split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("before"), ["0", "1", "2", "6", "7", "8", "9"]);
    assert_eq!(ids("after").len(), 10);
}

#[test]
fn a_changed_row_is_what_is_applied() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a@example.com"))).insert(&t, (2, None)));
    source.transaction(Records::default().update(&t, (1, Some("a@example.com")), (1, Some("b@example.com"))));
    source.transaction(Records::default().insert(&table("shop", "u"), (1, Some("clear"))));
    let plugin = format!("--plugin={}:key=k,*.t.v", mask().display());
    // The before image is masked too: it is what the target holds.
    let ran = place.apply(&source.end(), &[&plugin, "--check-before", &place.probe("")]);
    assert_eq!((ran.status, ran.text.as_str()), (0, "rlog-apply: probe: probing\n"));
    let rows = place.query("select id, v from t order by id");
    assert_eq!(rows.len(), 2);
    assert!(rows[0].len() == 18 && rows[0].starts_with("1|") && !rows[0].contains('@'), "{rows:?}");
    assert_eq!(rows[1], "2|NULL");
    assert_eq!(place.query("select v from u"), ["clear"]);
    // Who comes later hears of the masked rows only.
    assert!(!place.events().iter().any(|line| line.contains('@')));
    // A key column changed by the probe, in a record of its own for each row.
    let place = Place::new();
    let ran = place.apply(&inserts(3), &[&place.probe("set=0:77;"), "--on-conflict", "skip"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert_eq!(place.query("select id, v from t"), ["77|v0"]);
    // What cannot be masked is refused, not let through.
    let place = Place::new();
    let ran = place.apply(&inserts(3), &[&format!("--plugin={}:shop.t.id", mask().display())]);
    assert_eq!(ran.status, 80);
    assert!(ran.text.contains("may not be NULL"), "{}", ran.text);
}

#[test]
fn what_is_no_plug_in_is_told_apart() {
    let place = Place::new();
    let load = |text: String, status: i32, words: &str| {
        let ran = place.apply(&inserts(1), &["--plugin", &text]);
        assert_eq!(ran.status, status, "{text}: {}", ran.text);
        assert!(ran.text.contains(words), "{text}: {}", ran.text);
    };
    let newer = c("newer", "tests/plugin/probe.c", &["-DPROBE_ABI=RLOG_PLUGIN_ABI+1"]);
    load(newer.display().to_string(), 76, "is for version 2 of the plug-in interface, and this rlog has version 1");
    let wrong = c("wrong", "tests/plugin/probe.c", &["-DPROBE_ABI=0"]);
    load(wrong.display().to_string(), 76, "version 0");
    let other = c("other", "tests/plugin/probe.c", &["-Drlog_plugin_entry=something_else"]);
    load(other.display().to_string(), 78, "it has no rlog_plugin_entry()");
    std::fs::write(place.path("text.so"), "this is text").unwrap();
    load(place.show("text.so"), 78, "no plug-in that can be loaded");
    load(place.show("missing.so:x"), 66, "missing.so");
    load(format!("{}:refuse=1", probe().display()), 78, "plug-in probe does not start: I will not");
    load(mask().display().to_string(), 78, "it is told no column");
    // None of it did anything.
    assert_eq!(place.apply(&inserts(1), &[]).status, 0);
    assert_eq!(place.query("select count(*) from t"), ["1"]);
    let ran = place.run("rlog-dump", &inserts(1), &["--verify", &place.probe("")]);
    assert_eq!(ran.status, 64, "{}", ran.text);
}

const PANICS: &str = r#"
use std::ffi::{c_char, c_void};
unsafe extern "C" fn hear(_: *mut abi::Call, _: *const abi::Event, _: *mut c_void) -> i32 { panic!("on purpose") }
unsafe extern "C" fn start(host: *const abi::Host, plugin: *mut abi::Plugin, _: *mut abi::Call, _: *const c_char, _: *mut *mut c_void) -> i32 {
    unsafe { ((*host).listen)(plugin, abi::ROW_AFTER, Some(hear), std::ptr::null_mut()) };
    abi::OK
}
#[unsafe(no_mangle)]
pub extern "C" fn rlog_plugin_entry() -> *const abi::Descriptor {
    static DESCRIPTOR: abi::Descriptor = abi::Descriptor {
        struct_size: size_of::<abi::Descriptor>(), abi_version: abi::ABI, flags: 0, name: c"panics".as_ptr(), version: c"1".as_ptr(),
        start: Some(start), stop: None,
    };
    &raw const DESCRIPTOR
}
"#;

#[test]
fn a_plug_in_that_panics_or_crashes_is_a_kill_and_nothing_is_lost() {
    let place = Place::new();
    let stream = inserts(20);
    let panics = rust("panics", PANICS);
    let ran = place.apply(&stream, &["--plugin", &panics.display().to_string()]);
    assert_eq!(ran.status, 128 + 6, "a panic that would leave its function ends the process: {}", ran.text);
    let ran = place.apply(&stream, &[&place.probe(&format!("crash={}:15;", abi::ROW_AFTER)), "--batch", "4"]);
    assert_eq!(ran.status, 128 + 11, "{}", ran.text);
    assert_eq!(place.query("select count(*) from t"), ["12"]);
    assert_eq!(place.apply(&stream, &[]).status, 0);
    assert_eq!(place.query("select count(*), count(distinct id) from t"), ["20|20"]);
}
