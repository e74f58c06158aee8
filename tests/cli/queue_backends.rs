//! Queues in databases and clusters, as users meet them.

use rlog::frame::{Begin, Commit, Coordinate, End, FrameWriter, Incarnation, Kind, StreamHeader, TableCount};

use crate::common::changes::{Records, Source, table};
use crate::common::streams::Stream;
use crate::common::{NatsCluster, rlog, scratch, shell};

/// Exit status, output and messages.
fn queue(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let output = rlog("rlog-queue").args(arguments).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Two transactions whose commit frames count rows.
fn counted() -> Vec<u8> {
    let incarnation = Incarnation::new(7, 1);
    let mut out = FrameWriter::new();
    let mut at = Coordinate::new(1, 4).unwrap();
    let header = StreamHeader { source: "mariadb".into(), start: at, incarnation, ..StreamHeader::default() };
    out.frame(Kind::Stream, |payload| header.encode(payload));
    for (inserts, updates, deletes) in [(2, 0, 0), (0, 1, 1)] {
        out.begin(at, &Begin { prev: at, incarnation, ..Begin::default() });
        out.data(0, b"rows");
        at = Coordinate(at.0 + 100);
        let tables = vec![TableCount { key: 7, inserts, updates, deletes }];
        let time_us = 1_700_000_000_123_456;
        out.commit(Kind::Commit, &mut Commit { end: at, incarnation, tables, time_us, ..Commit::default() });
    }
    let end = End { reached: at, incarnation, ..End::default() };
    out.frame(Kind::End, |payload| end.encode(payload));
    out.bytes().to_vec()
}

#[test]
fn a_queue_in_a_database_is_read_by_plain_sql_and_written_by_rlog_alone() {
    let folder = scratch();
    let path = folder.path().join("q.db");
    let address = format!("sqlite:{}", path.display());
    assert_eq!(queue(&["put", &address], &counted()).0, 0);
    let sql = rusqlite::Connection::open(&path).unwrap();
    let application: i64 = sql.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(application, 0x726c_6f67);
    let rows: Vec<(String, String, i64, i64, i64)> = sql
        .prepare("SELECT channel, position, inserts, updates, deletes FROM rlog_queue_transactions")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let last = queue(&["last", &address], b"").1;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[1].0.as_str(), rows[1].1.as_str()), ("default", last.trim_end()));
    assert_eq!((rows[0].2, rows[0].3, rows[0].4, rows[1].2, rows[1].3, rows[1].4), (2, 0, 0, 0, 1, 1));
    let more: (String, String) = sql
        .query_row("SELECT commit_time, tables FROM rlog_queue_transactions LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(more.0, "2023-11-14T22:13:20.123456Z");
    assert_eq!(more.1, r#"[{"key":"0000000000000007","inserts":2,"updates":0,"deletes":0}]"#);
    for statement in [
        "DELETE FROM rlog_queue_frames",
        "UPDATE rlog_queue_channel SET sequence = 7",
        "INSERT INTO rlog_queue_reader VALUES (1, 'x', 0, '', 0, '')",
        "DELETE FROM rlog_queue_transaction WHERE sequence = 1",
    ] {
        let error = sql.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("rlog-queue") && error.contains("purge"), "{statement}: {error}");
    }
    assert_eq!(queue(&["verify", &address], b"").0, 0);
    // The verbs that do it instead.
    assert_eq!(queue(&["ack", &address, last.trim_end(), "--reader", "me"], b"").0, 0);
    let left: i64 = sql.query_row("SELECT count(*) FROM rlog_queue_frames", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    assert_eq!(queue(&["last", &address], b"").1, last, "the tail survives");
    let status: serde_json::Value = serde_json::from_str(&queue(&["status", "--json", &address], b"").1).unwrap();
    assert_eq!(status["readers"][0]["name"], "me");
    assert_eq!(status["readers"][0]["behind"], 0);
    assert_eq!(queue(&["reset", &address], b"").0, 0);
    assert_eq!(queue(&["last", &address], b"").0, 1);
}

#[test]
fn a_database_of_something_else_is_refused_and_left_as_it_is() {
    let folder = scratch();
    let path = folder.path().join("app.db");
    let address = format!("sqlite:{}", path.display());
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE app (id)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let (status, _, message) = queue(&["put", &address], &Stream::new().transaction(10).end());
    assert_eq!(status, 78, "{message}");
    assert!(message.contains("not a queue"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let (status, _, message) = queue(&["get", &address], b"");
    assert_eq!(status, 66, "{message}");
    // One that is missing is created by put alone, and only its last component.
    let missing = format!("sqlite:{}/none.db", folder.path().display());
    assert_eq!(queue(&["status", &missing], b"").0, 66);
    assert!(!folder.path().join("none.db").exists());
    let deep = format!("sqlite:{}/no/none.db", folder.path().display());
    assert_eq!(queue(&["put", &deep], &Stream::new().transaction(10).end()).0, 66);
}

#[test]
fn a_queue_and_its_target_may_be_one_database() {
    let folder = scratch();
    let path = folder.path().join("r.db");
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (1, Some("a"))));
    let one = source.end();
    source.transaction(Records::default().insert(&t, (2, Some("b"))));
    let stream = folder.path().join("one");
    std::fs::write(&stream, one).unwrap();
    std::fs::write(folder.path().join("two"), source.end()).unwrap();
    let script = r#"cd "$1" && Q=sqlite:r.db
        rlog-queue put $Q < one && rlog-apply run --from $Q --init empty --create-tables $Q &&
        rlog-queue put $Q < two && rlog-dump --format json $Q | grep -c '"kind":"row"' && rlog-apply run --from $Q $Q && rlog-queue status $Q"#;
    let output = shell(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("1\n") && text.contains(" 0 units behind"), "{text}");
    let sql = rusqlite::Connection::open(&path).unwrap();
    let count =
        |table: &str| -> i64 { sql.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap() };
    assert_eq!((count("t"), count("rlog_queue_frames"), count("rlog_queue_record")), (2, 0, 0));
}

#[test]
fn put_check_and_status_tell_of_a_cluster_what_it_does_not_promise() {
    let cluster = NatsCluster::start(1, "", "");
    let address = cluster.url("RLOG", &format!("monitor={}", cluster.monitor(0)));
    let t = table("shop", "t");
    let mut source = Source::new();
    source.transaction(Records::default().insert(&t, (0, Some("a"))));
    // Larger than a message.
    let long = "x".repeat(100);
    source.transaction((1..13_000).fold(Records::default(), |records, id| records.insert(&t, (id, Some(&long)))));
    assert_eq!(queue(&["put", &address], &source.end()).0, 0);
    let (status, text, message) = queue(&["put", "--check", &address], b"");
    assert_eq!(status, 0, "{message}");
    assert!(text.contains("one copy") && text.contains("sync_interval is 120 s") && text.contains("7549"), "{text}");
    let status: serde_json::Value = serde_json::from_str(&queue(&["status", "--json", &address], b"").1).unwrap();
    assert_eq!(
        (&status["sequence"], &status["writing"], &status["unclean"]),
        (&2.into(), &false.into(), &false.into())
    );
    assert_eq!(queue(&["channels", &address], b"").1, "default\n");
    assert_eq!(queue(&["verify", &address], b"").0, 0);
    let dump = rlog("rlog-dump").args(["--format", "stats", &address]).output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
    // Servers that are away, and a stream that is something else.
    let (status, _, message) = queue(&["last", "nats://127.0.0.1:1/RLOG?timeout=1"], b"");
    assert_eq!(status, 75, "{message}");
    let (status, _, message) = queue(&["last", &cluster.url("OTHER", "")], b"");
    assert_eq!(status, 66, "{message}");
}

/// A source forgets what the target has committed, not what a cluster has acknowledged.
#[test]
fn what_may_be_forgotten_follows_the_readers_where_an_acknowledgement_is_not_durable() {
    let cluster = NatsCluster::start(1, "", "");
    let folder = scratch();
    let stream = Stream::new().transaction(10).transaction(20).end();
    let addresses = [
        (cluster.url("RLOG", ""), false),
        (format!("sqlite:{}", folder.path().join("q.db").display()), true),
        (folder.path().join("spool").display().to_string(), true),
    ];
    for (address, durable) in addresses {
        assert_eq!(queue(&["put", &address], &stream).0, 0);
        let opened =
            rlog::queue::open(std::sync::Arc::new(rlog::sys::Os), &address.parse().unwrap(), "default", false).unwrap();
        let forgettable = || rlog::queue::forgettable(&*opened).unwrap().map(|position| position.end);
        let tail = opened.tail().unwrap().position().unwrap();
        assert_eq!(forgettable(), durable.then_some(tail.end), "{address}");
        opened.register("one").unwrap();
        opened.register("two").unwrap();
        opened.ack("one", &rlog::queue::Mark { sequence: 2, position: tail.clone() }).unwrap();
        assert_eq!(forgettable(), durable.then_some(tail.end), "{address}");
        opened.ack("two", &rlog::queue::Mark { sequence: 2, position: tail.clone() }).unwrap();
        assert_eq!(forgettable(), Some(tail.end), "{address}");
    }
}

#[test]
fn a_server_that_asks_who_you_are_is_told_by_files_that_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = scratch();
    let pair = nkeys::KeyPair::new_user();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    // A certificate authority, and a server's certificate of it.
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let (ca, cert, key) = (
        file("ca.pem", &authority_certificate.pem()),
        file("cert.pem", &server.pem()),
        file("key.pem", &key.serialize_pem()),
    );
    let seed = file("seed", &pair.seed().unwrap());
    let password = file("password", "sesame\n");
    let wrong = file("wrong", "open\n");
    let more = format!(
        "authorization {{ users: [ {{ nkey: {} }}, {{ user: rlog, password: sesame }} ] }}\ntls {{ cert_file: {cert:?}, key_file: {key:?} }}\n",
        pair.public_key()
    );
    let cluster = NatsCluster::start(1, "", &more);
    let stream = Stream::new().transaction(10).end();
    let with = |user: &str, options: &str| cluster.url("RLOG", options).replace("nats://", &format!("nats://{user}"));
    let good = with("", &format!("nkey={seed}&tls-ca={ca}"));
    let (status, _, message) = queue(&["put", &good], &stream);
    assert_eq!(status, 0, "{message}");
    let (status, last, message) =
        queue(&["last", &with("rlog@", &format!("password-file={password}&tls-ca={ca}"))], b"");
    assert_eq!(status, 0, "{message}");
    assert!(!last.is_empty());
    for (address, wanted) in [
        (with("", &format!("tls-ca={ca}")), 77),
        (with("rlog@", &format!("password-file={wrong}&tls-ca={ca}")), 77),
        (with("rlog@", &format!("password-file={password}")), 69),
        (with("rlog:sesame@", &format!("tls-ca={ca}")), 64),
    ] {
        let (status, _, message) = queue(&["last", &address], b"");
        assert!(status == wanted || wanted == 69 && status == 75, "{address}: {status} {message}");
        assert!(!message.contains("sesame") && !message.contains("open\n"), "{message}");
    }
    std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (status, _, message) = queue(&["last", &good], b"");
    assert_eq!(status, 77, "{message}");
    assert!(message.contains("chmod 600"), "{message}");
}
