//! What is printed, exactly.

use rlog::event::{RecordKind, Statement};

use super::sample::{self, Cell, Sample, enumerated, order, orders, shop};
use crate::common::{rlog, scratch};

/// Runs rlog-dump with `arguments` on `bytes` as a file; standard output, standard error and exit status.
pub fn dump(bytes: &[u8], arguments: &[&str]) -> (String, String, i32) {
    let folder = scratch();
    let file = folder.path().join("a.rlog");
    std::fs::write(&file, bytes).unwrap();
    let output = rlog("rlog-dump").args(arguments).arg(&file).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", folder.path().display()), "");
    (String::from_utf8(output.stdout).unwrap(), error, output.status.code().unwrap())
}

/// As [`dump`], which must succeed quietly.
pub fn shown(bytes: &[u8], arguments: &[&str]) -> String {
    let (out, error, status) = dump(bytes, arguments);
    assert_eq!((error.as_str(), status), ("", 0), "{out}");
    out
}

#[test]
fn json_is_one_object_a_line_with_the_documented_keys() {
    let out = shown(&shop().finish(), &["--format", "json"]);
    let wanted = r#"{"kind":"stream","source":"mariadb","server_version":"10.11.6-MariaDB","incarnation":"000000076553f100","server_id":1,"start":"42:1000","log_name":"mysql-bin"}
{"kind":"begin","txid":"42:1000","time":"2026-11-21T10:00:00Z","gtid":"0-1-1","server_id":1,"thread":12,"prev":"42:1000","window_start":"42:1000","incarnation":"000000076553f100"}
{"kind":"annotate","txid":"42:1000","sql":"insert orders"}
{"kind":"table","database":"shop","table":"orders","family":"mariadb","names_known":true,"keys_known":true,"columns":[{"name":"id","kind":"int","unsigned":true,"nullable":false},{"name":"state","kind":"enum","members":["new","sent"]},{"name":"note","kind":"string","nullable":true,"charset":"utf8mb4"},{"name":"price","kind":"decimal"},{"name":"day","kind":"date"},{"name":"data","kind":"string","nullable":true,"charset":"binary"}],"primary_key":["id"]}
{"kind":"row","txid":"42:1000","time":"2026-11-21T10:00:00Z","op":"insert","database":"shop","table":"orders","ordinal":0,"after":{"id":1,"state":"new","note":"first","price":"12.50","day":"2026-11-21","data":{"base64":"AP8="}},"key":{"id":1}}
{"kind":"row","txid":"42:1000","time":"2026-11-21T10:00:00Z","op":"insert","database":"shop","table":"orders","ordinal":1,"after":{"id":2,"state":"new","note":"it's \"2\" \\ \u001b[2J\u202e","price":"12.50","day":"2026-11-21","data":{"base64":"AP8="}},"key":{"id":2}}
{"kind":"commit","txid":"42:1000","position":"42:1000-1900,000000076553f100,00000abc,0-1-1","time":"2026-11-21T10:00:00.500000Z","gtid":"0-1-1","inserts":2}
{"kind":"progress","from":"42:1900","to":"42:2000","incarnation":"000000076553f100"}
{"kind":"begin","txid":"42:2000","time":"2026-11-21T10:01:00Z","gtid":"0-1-2","server_id":1,"thread":12,"prev":"42:2000","window_start":"42:2000","incarnation":"000000076553f100"}
{"kind":"annotate","txid":"42:2000","sql":"update orders"}
{"kind":"row","txid":"42:2000","time":"2026-11-21T10:00:00Z","op":"update","database":"shop","table":"orders","ordinal":0,"before":{"id":1,"state":"new","note":"first","price":"12.50","day":"2026-11-21","data":{"base64":"AP8="}},"after":{"id":1,"state":"sent","note":"first","price":"12.50","day":"2026-11-21","data":{"base64":"AP8="}},"key":{"id":1}}
"#;
    assert_eq!(&out[..wanted.len().min(out.len())], wanted);
    for line in out.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["kind"].is_string());
    }
    assert!(out.ends_with(
        "{\"kind\":\"end\",\"reached\":\"42:4000\",\"incarnation\":\"0000000000000000\",\"transactions\":3}\n"
    ));
}

#[test]
fn json_tells_absent_unchanged_and_null_apart_and_keeps_large_numbers() {
    let table = orders();
    let key_only = || {
        let mut cells = vec![Cell::Int(-1)];
        cells.extend(std::iter::repeat_n(Cell::Absent, 5));
        cells
    };
    let mut after = key_only();
    after[0] = Cell::Absent;
    after[1] = enumerated(2);
    after[2] = Cell::Null;
    after[5] = Cell::Unchanged;
    let out = shown(&Sample::new().update(&table, key_only(), after).finish(), &["-f", "json", "--op", "update"]);
    let row = out.lines().find(|line| line.contains("\"row\"")).unwrap();
    assert!(
        row.ends_with(
            r#""before":{"id":"18446744073709551615"},"absent_before":["state","note","price","day","data"],"after":{"state":"sent","note":null},"absent":["id","price","day"],"unchanged":["data"],"key":{"id":"18446744073709551615"}}"#
        ),
        "{row}"
    );
}

#[test]
fn json_objects_can_be_separated_in_three_ways() {
    let bytes = shop().finish();
    let lines = shown(&bytes, &["-f", "json"]);
    let sequence = shown(&bytes, &["-f", "json", "--json-seq"]);
    let zeros = shown(&bytes, &["-f", "json", "-0"]);
    let with =
        |before: &str, after: &str| lines.lines().map(|line| format!("{before}{line}{after}")).collect::<String>();
    assert_eq!(sequence, with("\u{1e}", "\n"));
    assert_eq!(zeros, with("", "\0"));
}

#[test]
fn text_shows_a_block_for_each_transaction() {
    let out = shown(&shop().finish(), &[]);
    let wanted = r#"stream  mariadb 10.11.6-MariaDB  server 1  log mysql-bin  from 42:1000

42:1000  2026-11-21 10:00:00+00:00  gtid 0-1-1  server 1  thread 12
  # insert orders
  insert shop.orders  id=1
    id     1
    state  'new'
    note   'first'
    price  12.50
    day    2026-11-21
    data   0x00ff
  insert shop.orders  id=2
    id     2
    state  'new'
    note   'it''s "2" \\ \u{1b}[2J\u{202e}'
    price  12.50
    day    2026-11-21
    data   0x00ff
  commit 2 inserts  2026-11-21 10:00:00.500000+00:00  42:1000-1900,000000076553f100,00000abc,0-1-1

progress  42:1900 to 42:2000

42:2000  2026-11-21 10:01:00+00:00  gtid 0-1-2  server 1  thread 12
  # update orders
  update shop.orders  id=1
    state  'new' -> 'sent'
  commit 1 update  2026-11-21 10:01:00.500000+00:00  42:2000-2900,000000076553f100,00000abc,0-1-2
"#;
    assert_eq!(&out[..wanted.len().min(out.len())], wanted);
}

#[test]
fn text_has_colours_only_where_they_are_wanted() {
    let bytes = shop().finish();
    assert!(!shown(&bytes, &[]).contains('\u{1b}'), "a pipe is no terminal");
    let coloured = shown(&bytes, &["--color", "always"]);
    assert!(coloured.contains('\u{1b}'));
    assert!(!coloured.contains("\u{1b}[2J"), "the log's own bytes stay escaped");
}

#[test]
fn times_are_shown_in_the_zone_of_the_reader_with_its_offset() {
    let folder = scratch();
    let file = folder.path().join("a.rlog");
    std::fs::write(&file, shop().finish()).unwrap();
    let out = rlog("rlog-dump").env("TZ", "Asia/Kolkata").arg(&file).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("2026-11-21 15:30:00+05:30"));
    let since = |text: &str| {
        let mut command = rlog("rlog-dump");
        command.env("TZ", "Asia/Kolkata").args(["-f", "json", "--since", text]).arg(&file).output().unwrap().stdout
    };
    let found = String::from_utf8(since("2026-11-21 15:32")).unwrap();
    assert!(found.contains("42:3000") && !found.contains("42:2000"), "{found}");
    assert_eq!(since("2026-11-21T10:02:00Z"), found.as_bytes());
}

#[test]
fn a_statement_keeps_its_text_and_session() {
    let statement = Statement {
        sql: b"insert into t values (rand())\n-- \xff".as_slice().into(),
        database: "shop".into(),
        time_s: sample::TEN_O_CLOCK_S,
        sql_mode: Some(1 << 60),
        insert_id: Some(7),
        rand: Some((1, 2)),
        ..Statement::default()
    };
    let bytes = Sample::new().statement(RecordKind::Statement, &statement).finish();
    let out = shown(&bytes, &["-f", "json"]);
    let line = out.lines().find(|line| line.contains("\"statement\"")).unwrap();
    assert_eq!(
        line,
        r#"{"kind":"statement","txid":"42:1000","time":"2026-11-21T10:00:00Z","ordinal":0,"database":"shop","sql":{"base64":"aW5zZXJ0IGludG8gdCB2YWx1ZXMgKHJhbmQoKSkKLS0g/w=="},"session":{"sql_mode":"1152921504606846976","insert_id":7,"rand_seed1":1,"rand_seed2":2}}"#
    );
    let out = shown(&bytes, &[]);
    assert!(out.contains("  statement  in shop  insert_id 7\n    insert into t values (rand())\\n-- \\xff\n"), "{out}");
}

#[test]
fn a_closed_pipe_ends_it_quietly_with_0() {
    let folder = scratch();
    let file = folder.path().join("a.rlog");
    let rows = (0..5000).map(|id| order(id, 1, "some text that fills the pipe")).collect();
    std::fs::write(&file, Sample::new().insert(&orders(), rows).finish()).unwrap();
    for format in ["json", "text"] {
        let script = "rlog-dump -f \"$2\" \"$1\" | head -n 1 >/dev/null; echo \"${PIPESTATUS[0]}\"";
        let out = crate::common::shell(script).arg(&file).arg(format).output().unwrap();
        assert_eq!((out.stdout.as_slice(), out.stderr.as_slice()), (b"0\n".as_slice(), b"".as_slice()), "{format}");
    }
}

#[test]
fn standard_input_and_files_in_a_row_are_read_alike() {
    let bytes = shop().finish();
    let once = shown(&bytes, &["-f", "json"]);
    let piped = rlog("rlog-dump").args(["-f", "json"]).write_stdin(bytes.clone()).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), once);
    let twice = shown(&[bytes.clone(), bytes].concat(), &["-f", "json", "--op", "delete"]);
    assert_eq!(twice.matches("\"row\"").count(), 2, "files can be concatenated");
}

#[test]
fn a_stream_that_ends_badly_shows_what_it_has_and_says_so() {
    let (out, error, status) = dump(&shop().abort(77, "the server said no"), &["-f", "json"]);
    assert_eq!((status, out.matches("\"commit\"").count()), (77, 3), "{error}");
    assert!(error.contains("the server said no"), "{error}");

    let mut torn = shop();
    torn.begin();
    let (out, error, status) = dump(&torn.bytes(), &["-f", "json"]);
    assert_eq!(status, 82);
    assert!(error.contains("inside transaction 42:4000"), "{error}");
    assert!(
        out.ends_with("{\"kind\":\"discard\",\"txid\":\"42:4000\",\"reason\":\"its end was not read\"}\n"),
        "{out}"
    );

    let (_, error, status) = dump(&shop().bytes(), &["-f", "json"]);
    assert_eq!(status, 82, "{error}");
    let piped = rlog("rlog-dump").write_stdin(shop().bytes()).output().unwrap();
    assert_eq!(piped.status.code(), Some(75), "the end of a pipe without an end frame is worth another try");
}

#[test]
fn damage_is_told_with_its_offset() {
    let mut bytes = shop().finish();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let (_, error, status) = dump(&bytes, &["-f", "json"]);
    assert_eq!(status, 65, "{error}");
    assert!(error.starts_with("rlog-dump: a.rlog: byte ") && error.contains("--verify"), "{error}");
}
