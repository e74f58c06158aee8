//! Plug-ins of rlog-extract and rlog-dump: what they change is what is emitted.

use rlog::plugin::abi;

use super::build::{Place, c, inserts, is_checked, mask};
use crate::common::shell;

/// Larger than a frame and than one write.
const LARGE: u32 = 6_000_000;

/// A SQLite log with four transactions, the last of which has a text of `large` characters; the connection keeps it from being checkpointed away.
fn log(place: &Place, large: u32) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(place.path("app.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection
        .execute_batch(&format!(
            "create table people (id integer primary key, mail text);
             insert into people values (0, null), (1, 'a@example.com'), (2, null);
             update people set mail = 'b@example.com' where id = 1;
             begin; insert into people values (3, hex(zeroblob({}))); insert into people values (4, 'c@example.com'); commit;",
            large / 2
        ))
        .unwrap();
    connection
}

fn mail(text: &[u8]) -> bool {
    text.windows(8).any(|window| window == b"@example")
}

#[test]
fn extract_writes_what_the_plug_ins_left() {
    let place = Place::new();
    let _open = log(&place, LARGE);
    let wal = place.show("app.db-wal");
    let plain = place.run("rlog-extract", b"", &[&wal]);
    assert_eq!(plain.status, 0, "{}", plain.text);
    assert!(mail(&plain.stdout));
    // One that changes nothing changes no byte.
    let same = place.run("rlog-extract", b"", &[&place.probe(""), &wal]);
    assert_eq!((same.status, same.stdout == plain.stdout), (0, true), "{}", same.text);
    let events = place.events();
    let count = |word: &str| events.iter().filter(|line| line.starts_with(word)).count();
    assert!(count("begin") >= 4 && count("begin") == count("commit") && count("begin") == count("end"), "{events:?}");
    assert_eq!((count("before"), count("after"), count("stop ")), (6, 6, 1), "{events:?}");
    let plugin = format!("--plugin={}:*.people.mail", mask().display());
    let masked = place.run("rlog-extract", b"", &[&plugin, &wal]);
    assert_eq!(masked.status, 0, "{}", masked.text);
    assert!(!mail(&masked.stdout));
    // It is a stream as any other: counts and digests are right, and it can be applied.
    let verified = place.run("rlog-dump", &masked.stdout, &["--verify"]);
    assert_eq!(verified.status, 0, "{}{}", verified.text, String::from_utf8_lossy(&verified.stdout));
    assert_eq!(place.run("rlog-apply", &masked.stdout, &["run", "--init", "empty", &place.target()]).status, 0);
    let rows = place.query("select id, mail from people order by id");
    assert!(
        rows.len() == 5 && rows.iter().all(|row| row.len() == 18 || row == "0|NULL" || row == "2|NULL"),
        "{rows:?}"
    );
}

#[test]
fn a_veto_travels_down_the_pipe() {
    let place = Place::new();
    let _open = log(&place, LARGE);
    let veto = place.probe(&format!("veto={}:3;", abi::END));
    let output = shell("rlog-extract -q \"$1\" app.db-wal | rlog-queue put spool; echo ${PIPESTATUS[@]}; rlog-dump spool | grep -c '^begin\\|transaction'")
        .current_dir(place.path(""))
        .arg(&veto)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("80 80\n"), "{text}{errors}");
    assert!(errors.contains("not this one"), "{errors}");
    assert!(place.events().iter().any(|line| line.starts_with("rollback")));
    // What came before it is queued, and after it the same command goes on.
    let output = shell(
        "rlog-extract --after \"$(rlog-queue last spool)\" app.db-wal | rlog-queue put spool && rlog-dump --json spool",
    )
    .current_dir(place.path(""))
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("\"kind\":\"row\"").count(), 6);
}

#[test]
fn dump_prints_what_the_plug_ins_left() {
    let place = Place::new();
    // Two dozen runs, each of which prints it: under valgrind only the one that writes frames has it large.
    let _open = log(&place, if is_checked() { 20_000 } else { LARGE });
    let stream = place.run("rlog-extract", b"", &[&place.show("app.db-wal")]).stdout;
    let plugin = format!("--plugin={}:*.people.mail", mask().display());
    for format in ["text", "json", "sql", "stats"] {
        let options = ["--format", format];
        let plain = place.run("rlog-dump", &stream, &options);
        let same = place.run("rlog-dump", &stream, &[&options[..], &[&place.probe("")]].concat());
        assert_eq!((same.status, same.stdout == plain.stdout), (0, true), "{format}: {}", same.text);
        let masked = place.run("rlog-dump", &stream, &[&options[..], &[&plugin]].concat());
        assert!(masked.status == 0 && !mail(&masked.stdout) && !masked.stdout.is_empty(), "{format}: {}", masked.text);
        // Logs are decoded in frames for listeners, else without: both print the same.
        let log = place.run("rlog-dump", b"", &[&options[..], &[&place.show("app.db-wal")]].concat());
        let (probe, wal) = (place.probe(""), place.show("app.db-wal"));
        let heard = [&options[..], &[&probe, &wal]].concat();
        assert_eq!(place.run("rlog-dump", b"", &heard).stdout, log.stdout, "{format}");
    }
    // Conditions are on what is left.
    let found = place.run("rlog-dump", &stream, &[&plugin, "--where", "mail=a@example.com"]);
    assert_eq!(found.status, 1, "{}", String::from_utf8_lossy(&found.stdout));
    let ran = place.run("rlog-dump", &inserts(5), &[&place.probe(&format!("veto={}:3;", abi::ROW_BEFORE)), "--json"]);
    assert_eq!(ran.status, 80, "{}", ran.text);
    assert_eq!(String::from_utf8_lossy(&ran.stdout).matches("\"kind\":\"commit\"").count(), 2);
    let ran = place.run("rlog-dump", &inserts(1), &["--verify", &plugin]);
    assert_eq!(ran.status, 64, "{}", ran.text);
}

/// Whoever begins with the rows that are there already has them masked as those that come later: a value of a key looks the same in both.
#[test]
fn a_snapshot_is_masked_as_the_log_behind_it_is() {
    let place = Place::new();
    let open = log(&place, 2_000);
    let plugin = format!("--plugin={}:key=k,*.people.mail", mask().display());
    // Transactions' flags, in hexadecimal.
    let marks =
        format!("--plugin={}:{}:marks", c("contract", "tests/plugin/contract.c", &[]).display(), place.show("seen"));
    let committed = |flags: u64| {
        let seen = std::fs::read_to_string(place.path("seen")).unwrap();
        let of = |line: &str| line.strip_prefix("commit ").map(|flags| u64::from_str_radix(flags, 16).unwrap());
        seen.lines().filter_map(of).filter(|found| *found & 4 == flags).count()
    };
    let run = || {
        let script = "rlog-extract -q --snapshot --shadow shadow --confirm spool \"$1\" \"$2\" \"$3\" sqlite:app.db | rlog-queue put spool \
                      && rlog-apply run -q --from spool --init empty --create-tables sqlite:t.db";
        let ran = shell(script).args([&plugin, &place.probe(""), &marks]).current_dir(place.path("")).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        place.query("select id, mail from people order by id")
    };
    let first = run();
    assert!(first.iter().filter(|row| row.ends_with("NULL")).count() == 2 && first.len() == 5, "{first:?}");
    let loaded = committed(4);
    assert!(loaded > 0, "RLOG_TRANSACTION_SNAPSHOT");
    open.execute_batch("update people set mail = 'c@example.com' where id = 1; delete from people where id = 3;")
        .unwrap();
    let second = run();
    assert_eq!(second.len(), 4, "{second:?}");
    assert!(committed(4) == loaded && committed(0) > 0, "what the log adds is no snapshot");
    // Row 4 came with the snapshot, row 1 with the log.
    assert_eq!(second[1].split_once('|').unwrap().1, second[3].split_once('|').unwrap().1);
    assert_eq!(second[3], first[4]);
    for entry in std::fs::read_dir(place.path("spool/default")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.is_file() || !mail(&std::fs::read(&path).unwrap()), "{}", path.display());
    }
    // Who comes behind the mask hears of masked rows, those of the snapshot too.
    let events = place.events();
    assert!(events.iter().filter(|line| line.starts_with("before")).count() == 7, "{events:?}");
    assert!(!events.iter().any(|line| line.contains("@example")));
}
