//! Killed between any two events, and run again: the target has everything once, and the audit trail everything at least once.

use rlog::plugin::abi;

use super::build::{Place, c, inserts};

#[test]
fn killed_at_any_event_nothing_is_lost_or_doubled() {
    let stream = inserts(12);
    let audit = c("audit", "examples/plugin-audit/audit.c", &[]);
    for kind in [abi::BEGIN, abi::ROW_BEFORE, abi::ROW_AFTER, abi::END, abi::COMMIT] {
        for number in [1, 5, 12] {
            let place = Place::new();
            let trail = format!("--plugin={}:{}", audit.display(), place.show("trail"));
            let ran = place.apply(&stream, &[&trail, &place.probe(&format!("kill={kind}:{number};")), "--batch", "3"]);
            assert_eq!(ran.status, 128 + 9, "{}", ran.text);
            assert_eq!(place.apply(&stream, &[&trail, "--batch", "3"]).status, 0);
            assert_eq!(place.query("select count(*), count(distinct id) from t"), ["12|12"]);
            let text = std::fs::read_to_string(place.path("trail")).unwrap();
            for id in 0..12 {
                let row = format!("insert shop.t to id={id} v=v{id}\n");
                assert!(text.contains(&row), "row {id} is missing, killed at event {kind} number {number}:\n{text}");
            }
            // Each block is whole.
            assert_eq!(text.matches("begin ").count(), text.matches("end ").count(), "{text}");
        }
    }
}

#[test]
fn the_audit_trail_refuses_what_it_cannot_write() {
    let place = Place::new();
    let audit = c("audit", "examples/plugin-audit/audit.c", &[]);
    let ran = place.apply(&inserts(2), &[&format!("--plugin={}:/dev/full", audit.display())]);
    assert_eq!(ran.status, 80, "{}", ran.text);
    assert!(ran.text.contains("plug-in audit refuses") && ran.text.contains("No space left"), "{}", ran.text);
    assert_eq!(place.query("select count(*) from sqlite_schema where name = 't'"), ["0"]);
    let ran = place.apply(&inserts(2), &[&format!("--plugin={}:/nowhere/at/all", audit.display())]);
    assert_eq!(ran.status, 78, "{}", ran.text);
}
