//! The other verbs.

use crate::common::changes::{Records, Source, table};
use crate::common::rlog;
use crate::once::Place;

fn filled() -> (Place, Source) {
    let place = Place::new();
    let mut source = Source::new();
    for id in 0..3 {
        source.transaction(Records::default().insert(&table("shop", "t"), (id, None)));
    }
    assert_eq!(place.init(&source.end()).0, 0);
    (place, source)
}

#[test]
fn last_prints_one_position_that_other_tools_understand() {
    let (place, _) = filled();
    let position: rlog::frame::Position = place.last().parse().unwrap();
    assert_eq!(position.end.to_string(), "1:304");
    let nothing = Place::new();
    nothing.open().execute_batch("create table x (a)").unwrap();
    rlog("rlog-apply").args(["last", &nothing.target()]).assert().code(1).stdout("").stderr("");
}

#[test]
fn wait_tells_reached_from_time_out_and_from_stopped() {
    let (place, _) = filled();
    let wait = |position: &str, timeout: &str| {
        let output = rlog("rlog-apply")
            .args(["wait", "--position", position, "--timeout", timeout, &place.target()])
            .output()
            .unwrap();
        output.status.code().unwrap()
    };
    assert_eq!(wait("mysql-bin.000001:304", "1"), 0);
    assert_eq!(wait("1:305", "60"), 80, "nobody runs");
    // While the channel's lock is held, an applier is at work as far as anyone can tell.
    let lock = std::fs::File::create(place.path("t.db-rlog-default.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(wait("1:305", "0.3"), 75);
}

#[test]
fn status_tells_the_same_in_text_json_and_mysqls_words() {
    let (place, _) = filled();
    let status = |options: &[&str]| {
        let output = rlog("rlog-apply").arg("status").args(options).arg(place.target()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let last = place.last();
    assert!(status(&[]).contains(&last) && status(&[]).contains("stopped"));
    let json: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert_eq!(json["applied"], last.as_str());
    assert_eq!(json["state"], "stopped");
    let mysql = status(&["--format", "mysql"]);
    assert!(mysql.contains("Exec_Master_Log_Pos: 304") && mysql.contains("Slave_SQL_Running: No"), "{mysql}");
}

#[test]
fn reset_keeps_the_position_and_all_forgets_it() {
    let (place, source) = filled();
    let last = place.last();
    rlog("rlog-apply").args(["reset", &place.target()]).assert().success();
    assert_eq!(place.last(), last);
    rlog("rlog-apply").args(["reset", "--all", &place.target()]).assert().success();
    rlog("rlog-apply").args(["last", &place.target()]).assert().code(1);
    assert_eq!(place.run(&source.end(), &[]).0, 78);
}

#[test]
fn check_changes_nothing() {
    let (place, mut source) = filled();
    let before = std::fs::read(place.path("t.db")).unwrap();
    source.transaction(Records::default().insert(&table("shop", "t"), (9, None)));
    let (status, _) = place.run(&source.end(), &["--check"]);
    assert_eq!(status, 0);
    assert_eq!(std::fs::read(place.path("t.db")).unwrap(), before);
    let nothing = Place::new();
    assert_eq!(nothing.run(&source.end(), &["--check", "--init", "empty"]).0, 66);
}

#[test]
fn metrics_are_written_whole() {
    let place = Place::new();
    let mut source = Source::new();
    source.transaction(Records::default().insert(&table("shop", "t"), (1, None)));
    let file = place.path("m.prom");
    let options = ["--init", "empty", "--create-tables", "--metrics-file", file.to_str().unwrap()];
    assert_eq!(place.run(&source.end(), &options).0, 0);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("rlog_apply_rows_total{channel=\"default\"} 1\n"), "{text}");
    assert!(text.contains("rlog_apply_exit_status{channel=\"default\"} 0\n"), "{text}");
}
