//! What rlog_plugin.h promises of memory, structures, order and answers: contract.c aborts where it does not hold.

use rlog::event::{RecordKind, Statement};

use super::build::{Place, c, inserts, probe};
use crate::common::changes::{Records, Source, table};

fn contract(place: &Place, option: &str) -> String {
    format!("--plugin={}:{}{option}", c("contract", "tests/plugin/contract.c", &[]).display(), place.show("seen"))
}

fn seen(place: &Place) -> Vec<String> {
    std::fs::read_to_string(place.path("seen")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn memory_structures_and_answers_are_as_the_header_says() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("v1"))).insert(&t, (2, Some("v2"))));
    source
        .barrier(Records::default().update(&t, (1, Some("changed")), (1, Some("v3"))).delete(&t, (2, Some("changed"))));
    let ran = place.apply(&source.end(), &[&contract(&place, ""), "--batch", "1"]);
    assert_eq!((ran.status, ran.text.as_str()), (0, "rlog-apply: contract: starting\n"));
    assert_eq!(place.query("select id, v from t"), ["1|changed"]);
    assert_eq!(seen(&place), ["begin 0", "end 0", "commit 0", "begin 1", "end 1", "commit 1", "stop"]);
    // Notes are for people who want to know, errors for all.
    let place = Place::new();
    let ran = place.apply(&inserts(1), &[&contract(&place, ":error"), "--quiet"]);
    assert_eq!((ran.status, ran.text.as_str()), (0, "rlog-apply: contract: this is important\n"));
}

#[test]
fn an_answer_that_means_nothing_is_a_veto_without_words() {
    let place = Place::new();
    let ran = place.apply(&inserts(2), &[&contract(&place, ":odd")]);
    assert_eq!(ran.status, 80, "{}", ran.text);
    assert!(
        ran.text.contains("plug-in contract refuses transaction") && ran.text.contains("it does not say why"),
        "{}",
        ran.text
    );
    // Each attempt ends with a rollback, and the run with stop().
    let seen = seen(&place);
    let count = |word: &str| seen.iter().filter(|line| line.starts_with(word)).count();
    assert!(count("begin") == count("rollback") && count("commit") == 0 && seen.last().unwrap() == "stop", "{seen:?}");
}

#[test]
fn a_thread_of_the_plug_in_may_call_what_is_no_calls_at_any_time() {
    let place = Place::new();
    let ran = place.apply(&inserts(300), &[&contract(&place, ":threads"), "--batch", "10"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert!(ran.text.contains("contract: from a thread\n"), "{}", ran.text);
    assert_eq!(place.query("select count(*) from t where v = 'changed'"), ["300"]);
}

#[test]
fn streams_say_where_a_transaction_is_once_it_is_whole_and_what_waits_for_its_decision() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("v1"))));
    source.prepared(Records::default().insert(&t, (2, Some("v2"))));
    let ran = place.run("rlog-dump", &source.end(), &["--json", &contract(&place, ":marks")]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    assert_eq!(
        seen(&place),
        ["begin 0 nowhere", "end 0", "commit 0", "begin 0 nowhere", "end 100", "commit 100", "stop"]
    );
}

#[test]
fn descriptors_that_are_short_or_empty_are_refused_and_longer_ones_are_not() {
    let build =
        |name: &str, flag: &str| format!("--plugin={}:seen", c(name, "tests/plugin/contract.c", &[flag]).display());
    for (plugin, status, words) in [
        (build("short", "-DCONTRACT_SIZE=16"), 76, "has version 1 and 16 bytes"),
        (build("no-start", "-DCONTRACT_START=NULL"), 78, "its descriptor has no start()"),
        (build("none", "-DCONTRACT_NONE"), 78, "gives no descriptor"),
        // One that was built with a later header of this version.
        (build("long", "-DCONTRACT_SIZE=sizeof(rlog_plugin_descriptor)+64"), 0, ""),
    ] {
        let place = Place::new();
        let ran = place.apply(&inserts(1), &[&plugin]);
        assert_eq!(ran.status, status, "{plugin}: {}", ran.text);
        assert!(ran.text.contains(words), "{plugin}: {}", ran.text);
    }
}

#[test]
fn a_file_given_twice_is_started_twice_and_one_that_refuses_to_start_is_never_stopped() {
    let place = Place::new();
    let ran = place.apply(&inserts(2), &[&place.probe(""), &place.probe("")]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    let events = place.events();
    assert_eq!(events.iter().filter(|line| line.starts_with("before")).count(), 4, "{events:?}");
    assert_eq!(ran.text.matches("probe: probing").count(), 2);
    let place = Place::new();
    assert_eq!(place.apply(&inserts(2), &[&place.probe("refuse=1")]).status, 78);
    assert!(place.events().is_empty());
    // Nor is the run's end heard of by those that were started before it.
    let other = place.path("other.so");
    std::fs::copy(probe(), &other).unwrap();
    let plugin = format!("--plugin={}:refuse=1", other.display());
    assert_eq!(place.apply(&inserts(2), &[&place.probe(""), &plugin]).status, 78);
    assert_eq!(place.events(), ["stopped at once 0"]);
}

/// Filters, DDL that is ignored, what was applied before, rows that a policy steps over.
#[test]
fn what_is_not_applied_is_not_heard_of() {
    let (t, u) = (table("shop", "t"), table("shop", "u"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&u, (1, Some("b"))));
    let ddl = Statement {
        sql: b"alter table shop.t add column w int".as_slice().into(),
        database: "shop".into(),
        ddl: "alter table".into(),
        ..Statement::default()
    };
    source.barrier(Records::default().statement(RecordKind::Ddl, &ddl));
    let place = Place::new();
    let ran =
        place.apply(&source.end(), &[&place.probe(""), "--ignore-tables", "shop.u", "--ddl", "ignore", "--quiet"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    let events = place.events();
    assert!(!events.iter().any(|line| line.contains("shop.u") || line.contains("alter")), "{events:?}");
    assert_eq!(events.iter().filter(|line| line.starts_with("commit")).count(), 2, "{events:?}");
    // A row that is there already, and is stepped over: heard of before, not after.
    let place = Place::new();
    assert_eq!(place.apply(&inserts(1), &[]).status, 0);
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (0, Some("v0"))));
    source.transaction(Records::default().insert(&t, (0, Some("again"))));
    source.transaction(Records::default().insert(&t, (1, Some("more"))));
    let ran = place.apply(&source.end(), &[&place.probe(""), "--on-conflict", "skip", "--batch", "1", "--quiet"]);
    assert_eq!(ran.status, 0, "{}", ran.text);
    let events = place.events();
    assert!(events.iter().any(|line| line.starts_with("before") && line.ends_with("0 again")), "{events:?}");
    let after: Vec<&String> = events.iter().filter(|line| line.starts_with("after")).collect();
    assert!(after.iter().all(|line| line.ends_with("1 more")) && after.len() == 1, "{events:?}");
    assert!(!events.iter().any(|line| line.ends_with("v0")), "applied before: {events:?}");
}
