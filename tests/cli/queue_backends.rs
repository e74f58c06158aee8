//! Queues in databases and clusters, as users meet them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rlog::frame::{Begin, Commit, Coordinate, End, FrameWriter, Incarnation, Kind, StreamHeader, TableCount};

use crate::common::changes::{Records, Source, table};
use crate::common::streams::{Stream, transactions};
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

/// What monitoring tells of a stream.
fn stream_of(cluster: &NatsCluster, stream: &str) -> serde_json::Value {
    let all = cluster.monitored("/jsz?accounts=true&streams=true&consumers=true");
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    let of = |account: &serde_json::Value| account["stream_detail"].as_array().cloned().unwrap_or_default();
    let mut streams = all["account_details"].as_array().unwrap().iter().flat_map(of);
    streams.find(|found| found["name"] == stream).unwrap()
}

/// The durable consumers of a stream: name, and messages that wait.
fn consumers(cluster: &NatsCluster, stream: &str) -> Vec<(String, u64)> {
    let list = stream_of(cluster, stream)["consumer_detail"].as_array().cloned().unwrap_or_default();
    let of = |consumer: &serde_json::Value| {
        (consumer["name"].as_str().unwrap().to_owned(), consumer["num_pending"].as_u64().unwrap())
    };
    list.iter().map(of).collect()
}

/// A reader is a durable consumer to NATS's own tools, which stands where the reader has acknowledged.
#[test]
fn the_tools_of_a_cluster_see_readers_and_how_far_behind_they_are() {
    let cluster = NatsCluster::start(1, "", "");
    let address = cluster.url("RLOG", "");
    let mut stream = Stream::new();
    for number in 1..=5 {
        // A put each, so that each is a record of its own.
        stream.transaction(number * 10);
        assert_eq!(queue(&["put", &address], &stream.bytes()).0, 75);
    }
    let stream = stream.end();
    assert_eq!(queue(&["put", &address], &stream).0, 0);
    let positions: Vec<String> = transactions(&stream).iter().map(|seen| seen.position.to_string()).collect();
    let ack = |position: &str| {
        let (status, _, message) = queue(&["ack", &address, position, "--reader", "me"], b"");
        assert_eq!(status, 0, "{message}");
    };
    let waiting = || consumers(&cluster, "RLOG");
    let me = |waiting: u64| vec![("me@default".to_owned(), waiting)];
    assert_eq!(waiting(), []);
    ack("oldest");
    // A record without transactions stands before them.
    assert_eq!(waiting(), me(6));
    // Back and forth, wherever the reader stands.
    for (position, left) in [(2, 2), (4, 0), (1, 3), (3, 1)] {
        ack(&positions[position]);
        assert_eq!(waiting(), me(left), "{position}");
    }
    // Whatever somebody else does to it, the next acknowledgement puts it right, and reading never asks it.
    cluster.publish("$JS.API.CONSUMER.DELETE.RLOG.me@default", "{}");
    assert_eq!(waiting(), []);
    let status = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    assert_eq!(status(&queue(&["status", "--json", &address], b"").1)["readers"][0]["behind"], 1);
    ack(&positions[4]);
    assert_eq!(waiting(), me(0));
    // It goes with its reader.
    assert_eq!(queue(&["reset", "--reader", "me", &address], b"").0, 0);
    assert_eq!(waiting(), []);
    ack(&positions[0]);
    assert_eq!(waiting().len(), 1);
    assert_eq!(queue(&["reset", &address], b"").0, 0);
    assert_eq!(waiting(), []);
}

/// A stream that drops what its consumers have had, or what nobody waits for, is no queue.
#[test]
fn a_stream_that_forgets_by_interest_is_refused() {
    let cluster = NatsCluster::start(1, "", "");
    for retention in ["interest", "workqueue"] {
        let name = format!("R_{retention}");
        let config = format!(
            r#"{{"name":"{name}","subjects":["rlog.{name}.frames.*","rlog.{name}.parts.*"],"retention":"{retention}","discard":"new","storage":"file","max_age":0}}"#
        );
        cluster.publish(&format!("$JS.API.STREAM.CREATE.{name}"), &config);
        let (status, _, message) = queue(&["put", &cluster.url(&name, "")], &Stream::new().transaction(10).end());
        assert_eq!(status, 78, "{message}");
        assert!(message.contains("retention policy"), "{message}");
    }
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

/// The last message is lost after it was acknowledged to put, and the application has checkpointed its log away: the source's state is kept
/// until targets have committed, and so what was lost is told again. A directory would have let it go.
#[test]
fn what_a_cluster_loses_after_it_was_acknowledged_the_source_still_has() {
    let cluster = NatsCluster::start(1, "", "");
    let folder = scratch();
    let app = rusqlite::Connection::open(folder.path().join("app.db")).unwrap();
    app.execute_batch(
        "pragma journal_mode = wal; create table t (id integer primary key, v text); insert into t values (1, 'a')",
    )
    .unwrap();
    let run = |script: &str, wanted: i32| {
        let output = shell(script).current_dir(folder.path()).arg(cluster.url("RLOG", "")).output().unwrap();
        assert_eq!(output.status.code(), Some(wanted), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let extract = "rlog-extract -q --snapshot --shadow s --confirm \"$1\" sqlite:app.db | rlog-queue put \"$1\"; rlog-queue last \"$1\"";
    let before = run(extract, 0);
    app.execute_batch("insert into t values (2, 'b'); pragma wal_checkpoint(truncate)").unwrap();
    assert_ne!(run(extract, 0), before);
    // As a cluster does that loses what it had acknowledged.
    let last = stream_of(&cluster, "RLOG")["state"]["last_seq"].as_u64().unwrap();
    cluster.publish("$JS.API.STREAM.MSG.DELETE.RLOG", &format!("{{\"seq\":{last}}}"));
    assert_eq!(run("rlog-queue last \"$1\"", 0), before);
    app.execute_batch("insert into t values (3, 'c'); pragma wal_checkpoint(truncate)").unwrap();
    run(extract, 0);
    run("rlog-apply run -q --from \"$1\" --init empty --create-tables sqlite:t.db", 0);
    let target = rusqlite::Connection::open(folder.path().join("t.db")).unwrap();
    let rows: String = target.query_row("select group_concat(id || v) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "1a,2b,3c");
    // Only now that it is applied may it be forgotten; nothing comes twice.
    app.execute_batch("insert into t values (4, 'd')").unwrap();
    run(extract, 0);
    run("rlog-apply run -q --from \"$1\" sqlite:t.db", 0);
    let rows: String = target.query_row("select group_concat(id || v) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "1a,2b,3c,4d");
}

#[test]
fn a_stream_that_is_full_says_so() {
    let cluster = NatsCluster::start(1, "", "");
    let mut stream = Stream::new();
    (0..8).for_each(|_| {
        stream.transaction(200_000);
    });
    let (status, _, message) = queue(&["put", &cluster.url("RLOG", "max-bytes=600000&timeout=1")], &stream.end());
    assert_eq!(status, 75, "{message}");
    assert!(message.contains("no room in the stream") && message.contains("purge"), "{message}");
}

/// A file of its owner's alone.
fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A certificate authority.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    /// Its certificate.
    file: String,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let file = secret(folder, &format!("{name}-ca.pem"), &certificate.pem());
        Authority { issuer: rcgen::Issuer::new(params, key), file }
    }

    /// Files of a certificate and its key, for 127.0.0.1.
    fn certificate(&self, folder: &Path, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str, text: &str| secret(folder, &format!("{name}-{end}.pem"), text);
        (file("cert", &certificate.pem()), file("key", &key.serialize_pem()))
    }
}

#[test]
fn a_server_that_asks_who_you_are_is_told_by_files_that_nobody_else_may_read() {
    let folder = scratch();
    let pair = nkeys::KeyPair::new_user();
    let file = |name: &str, text: &str| secret(folder.path(), name, text);
    let authority = Authority::new(folder.path(), "ours");
    let (ca, (cert, key)) = (&authority.file, authority.certificate(folder.path(), "server"));
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

#[test]
fn a_token_and_a_clients_certificate_open_a_cluster_and_others_do_not() {
    let folder = scratch();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let (cert, key) = ours.certificate(folder.path(), "server");
    let (client_cert, client_key) = ours.certificate(folder.path(), "client");
    let (other_cert, other_key) = theirs.certificate(folder.path(), "other");
    let token = secret(folder.path(), "token", "abracadabra\n");
    let wrong = secret(folder.path(), "wrong", "hocuspocus\n");
    let ca = &ours.file;
    let cluster = NatsCluster::start(
        1,
        "",
        &format!(
            "authorization {{ token: abracadabra }}\ntls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n"
        ),
    );
    let with = |token: &str, cert: &str, key: &str| {
        cluster.url("RLOG", &format!("token-file={token}&tls-ca={ca}&tls-cert={cert}&tls-key={key}"))
    };
    let (status, _, message) =
        queue(&["put", &with(&token, &client_cert, &client_key)], &Stream::new().transaction(10).end());
    assert_eq!(status, 0, "{message}");
    for (address, wanted) in [
        (with(&token, &client_cert, &client_key), &[0][..]),
        (with(&wrong, &client_cert, &client_key), &[77]),
        // A server drops such a connection in the middle of the handshake, or after it.
        (with(&token, &other_cert, &other_key), &[69, 75, 77]),
        (cluster.url("RLOG", &format!("token-file={token}&tls-ca={ca}")), &[69, 75, 77]),
        (with(&token, &client_cert, &key), &[69, 78]),
    ] {
        let (status, text, message) = queue(&["last", &address], b"");
        assert!(wanted.contains(&status), "{address}: {status} {message}");
        assert_eq!(status == 0, !text.is_empty());
        assert!(!message.contains("abracadabra") && !message.contains("hocuspocus"), "{message}");
    }
}

/// A JSON Web Token as NATS wants it: claims about `subject` (a public key), signed by `issuer`.
fn token(issuer: &nkeys::KeyPair, subject: &str, name: &str, nats: serde_json::Value) -> String {
    let encode = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    let claims = serde_json::json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject, "name": name, "nats": nats
    });
    let signed =
        format!("{}.{}", encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#), encode(claims.to_string().as_bytes()));
    let signature = encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[test]
fn a_file_of_credentials_opens_a_cluster_with_accounts() {
    let folder = scratch();
    let (operator, system, account, user) = (
        nkeys::KeyPair::new_operator(),
        nkeys::KeyPair::new_account(),
        nkeys::KeyPair::new_account(),
        nkeys::KeyPair::new_user(),
    );
    let of_account = |storage: i64| {
        serde_json::json!({
            "type": "account", "version": 2, "default_permissions": { "pub": {}, "sub": {} },
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
                "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage
            }
        })
    };
    let of_user = serde_json::json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1
    });
    let credentials = |issuer: &nkeys::KeyPair, name: &str| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            token(issuer, &user.public_key(), name, of_user.clone()),
            user.seed().unwrap()
        );
        secret(folder.path(), &format!("{name}.creds"), &text)
    };
    let more = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
        token(
            &operator,
            &operator.public_key(),
            "operator",
            serde_json::json!({ "type": "operator", "version": 2, "system_account": system.public_key() })
        ),
        system.public_key(),
        system.public_key(),
        token(&operator, &system.public_key(), "system", of_account(0)),
        account.public_key(),
        token(&operator, &account.public_key(), "rlog", of_account(-1)),
    );
    let cluster = NatsCluster::start(1, "", &more);
    let good = cluster.url("RLOG", &format!("creds={}", credentials(&account, "good")));
    let (status, _, message) = queue(&["put", &good], &Stream::new().transaction(10).end());
    assert_eq!(status, 0, "{message}");
    assert!(!queue(&["last", &good], b"").1.is_empty());
    // An account that the operator has not signed; a file that holds none; and nothing at all.
    let stranger = credentials(&nkeys::KeyPair::new_account(), "stranger");
    let empty = secret(folder.path(), "empty.creds", "nothing\n");
    for (options, wanted) in [(format!("creds={stranger}"), 77), (format!("creds={empty}"), 78), (String::new(), 77)] {
        let (status, _, message) = queue(&["last", &cluster.url("RLOG", &options)], b"");
        assert_eq!(status, wanted, "{options}: {message}");
        assert!(!message.contains(&user.seed().unwrap()), "{message}");
    }
}
