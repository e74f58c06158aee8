//! Several sessions into a real MariaDB: order, stalls, holes, failures.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::changes::{Records, Source, table};
use crate::common::{Server, rlog};

fn run(server: &Server, stream: &[u8], options: &[&str]) -> (i32, String) {
    let output = rlog("rlog-apply")
        .args(["run", "--init", "oldest"])
        .args(options)
        .arg(format!("mysql://root@localhost/?socket={}", server.socket().display()))
        .write_stdin(stream)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn many_sessions_give_what_one_gives_whatever_the_windows_claim() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100)); create table shop.one (id int primary key, v varchar(100))");
    let (t, one) = (table("shop", "t"), table("shop", "one"));
    let mut source = Source::new();
    source.transaction(Records::default().insert(&one, (0, Some("0"))));
    source.serial = true;
    source.transaction(Records::default().insert(&t, (0, None)));
    source.serial = false;
    for id in 1..=300 {
        let (old, new) = ((id - 1).to_string(), id.to_string());
        let mut records = Records::default().insert(&t, (id, Some("x")));
        // The windows say that these do not depend on each other, and they do: the head waits for a lock of one that ran ahead.
        if id % 7 == 0 {
            records = records.update(&one, (0, Some(&old)), (0, Some(&new)));
        }
        source.transaction(records);
        if id == 150 {
            source.barrier(Records::default().delete(&t, (1, Some("x"))));
        }
    }
    let stream = source.end();
    let (status, text) = run(&server, &stream, &["--workers", "4", "--batch", "2", "-q"]);
    assert_eq!((status, text.as_str()), (0, ""));
    assert_eq!(server.text("select count(*), min(id), max(id) from shop.t"), "300\t0\t300\n");
    assert_eq!(server.text("select v from shop.one"), "294\n");
    // Again: nothing.
    assert_eq!(run(&server, &stream, &["--workers", "4", "-q"]).0, 0);
    assert_eq!(server.text("select count(*) from shop.t"), "300\n");
}

#[test]
fn relaxed_order_stops_at_a_conflict_and_the_next_run_fills_the_holes() {
    let server = Server::new("mariadb-10.11").start();
    server.sql("create database shop; create table shop.t (id int primary key, v varchar(100)); insert into shop.t values (20, 'mine')");
    let t = table("shop", "t");
    let mut source = Source::new();
    for id in 0..60 {
        source.transaction(Records::default().insert(&t, (id, None)));
    }
    let stream = source.end();
    let options = ["--workers", "4", "--order", "relaxed", "--batch", "1", "-q"];
    let (status, text) = run(&server, &stream, &options);
    assert!(status == 80 && text.contains("duplicate-key") && text.contains("id=20"), "{status} {text}");
    server.sql("delete from shop.t where id = 20");
    assert_eq!(run(&server, &stream, &options), (0, String::new()));
    assert_eq!(server.text("select count(*), max(id) from shop.t"), "60\t59\n");
}

/// A door to the server that turns connection number `refused` (from 0) away, as one that is busy or restarting does. Returns its port
/// and how many came.
fn door(server: &Server, refused: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, inner) = (listener.local_addr().unwrap().port(), server.port());
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map(Result::unwrap) {
            if count.fetch_add(1, Ordering::SeqCst) == refused {
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", inner)).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (port, came)
}

#[test]
fn a_refused_connection_is_tried_again_whichever_it_is() {
    let server = Server::new("mariadb-10.11").start();
    let t = table("shop", "t");
    let mut source = Source::new();
    for id in 0..200 {
        source.transaction(Records::default().insert(&t, (id, None)));
    }
    let stream = source.end();
    let apply = |port: u16, options: &[&str]| {
        let output = rlog("rlog-apply")
            .args(["run", "--init", "oldest", "--create-tables", "--workers", "3", "--batch", "2", "-q"])
            .args(options)
            .arg(format!("mysql://root@127.0.0.1:{port}/"))
            .write_stdin(stream.as_slice())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // The first tells whether the address is right: it is not tried again.
    for refused in 0.. {
        server.sql("drop database if exists rlog; drop database if exists shop; create database shop");
        let (port, came) = door(&server, refused);
        let (status, text) = apply(port, &[]);
        assert_eq!(status, if refused == 0 { 75 } else { 0 }, "connection {refused}: {text}");
        if came.load(Ordering::SeqCst) <= refused {
            assert!(refused >= 6, "only {refused} connections");
            break;
        }
        if refused > 0 {
            assert_eq!(server.text("select count(*) from shop.t"), "200\n", "connection {refused}");
        }
    }
    server.sql("drop database rlog; drop database shop; create database shop");
    let (port, _) = door(&server, 2);
    assert_eq!(apply(port, &["--retries", "0"]).0, 75);
}
