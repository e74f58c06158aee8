//! A running server as a source: the frames of its files, through everything that happens to servers.

use crate::common::{Server, rlog};

/// All three, each with its usual way of logging.
const SERVERS: [&str; 3] = ["mariadb-10.11", "mariadb-11.8", "mysql-9.7"];

struct Ran {
    status: i32,
    out: Vec<u8>,
    err: String,
}

fn extract(arguments: &[&str]) -> Ran {
    let output = rlog("rlog-extract").args(arguments).output().unwrap();
    Ran {
        status: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn server(name: &str) -> Server {
    let builder = Server::new(name).log_bin().option("--binlog-row-metadata=FULL").option("--max-allowed-packet=64M");
    if name.starts_with("mysql") { builder.gtid().start() } else { builder.start() }
}

/// Frames behind the stream's header, in which only a live server has a UUID. A stream has one header, at its start.
fn behind_header(stream: &[u8]) -> &[u8] {
    let header = rlog::frame::reader::read_frame(stream, 0).expect("a whole stream header");
    assert_eq!(header.kind(), Some(rlog::frame::Kind::Stream));
    &stream[header.total_len()..]
}

/// Some of everything: rows, DDL, a transaction of some megabytes, rotations.
fn workload(server: &Server) {
    server.sql("create database shop; use shop; create table t (id int primary key, v varchar(200), b longblob)");
    for id in 0..50 {
        server.sql(&format!("insert into t values ({id}, 'row {id}', repeat('x', {}))", id * 100));
    }
    server.flush_logs();
    server.sql("alter table t add column n int; update t set n = id * 2; delete from t where id % 7 = 0");
    server.sql("begin; insert into t select id + 1000, v, repeat('y', 200000), n from t; insert into t (id, b) values (5000, repeat('z', 17000000)); commit");
    server.flush_logs();
    server.sql("create table other (a bigint unsigned, d decimal(20,5), ts timestamp(6) null); insert into other values (1, 2.5, '2026-01-02 03:04:05.678901')");
}

#[test]
fn the_frames_of_a_server_are_those_of_its_files() {
    for name in SERVERS {
        let server = server(name);
        workload(&server);
        let files: Vec<String> = server.logs().iter().map(|path| path.display().to_string()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let of_files = extract(&files);
        let live = extract(&[&server.socket_url("")]);
        assert_eq!((of_files.status, live.status), (0, 0), "{name}: {}{}", of_files.err, live.err);
        let live_tcp = extract(&[&server.url("")]);
        assert_same(name, &live.out, &live_tcp.out);
        assert_same(name, &of_files.out, &live.out);
    }
}

fn assert_same(name: &str, of_files: &[u8], live: &[u8]) {
    let (a, b) = (behind_header(of_files), behind_header(live));
    if a != b {
        std::fs::write("/tmp/a.rlog", of_files).unwrap();
        std::fs::write("/tmp/b.rlog", live).unwrap();
        panic!("{name}: {} bytes of files, {} live", a.len(), b.len());
    }
}
