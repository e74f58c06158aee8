//! The harness itself: a server that does not die with its test would poison every later one.

use crate::common::{Server, Types};

fn answers_and_logs(name: &str) {
    let mut server = Server::new(name).log_bin().start();
    server.sql("create database shop; use shop; create table t (id int primary key, word varchar(9))");
    server.sql("insert into t values (1, 'one'), (2, null)");
    assert_eq!(server.text("select * from t order by id"), "1\tone\n2\tNULL\n");
    assert!(server.try_sql("insert into t values (3, 'three'); insert into t values (1, 'again')").is_err());
    assert_eq!(server.closed_logs().len(), 1);
    let (log, at) = server.log_position();
    assert_eq!(log, "bin.000002");
    assert!(at > 4);

    server.client("delimiter //\ninsert into shop.t values (4, 'four')//\n");
    server.kill();
    server.start();
    assert_eq!(server.value("select count(*) from shop.t"), "4", "a committed row survives a killed server");
    server.stop();
    server.start();
    assert!(server.logs().iter().all(|log| log.exists()));

    let dir = server.data();
    drop(server);
    assert!(!dir.exists(), "the folder goes with the server");
}

#[test]
fn mariadb_10_11_answers_and_survives_stop_and_kill() {
    answers_and_logs("mariadb-10.11");
}

#[test]
fn mariadb_11_8_answers_and_survives_stop_and_kill() {
    answers_and_logs("mariadb-11.8");
}

#[test]
fn mysql_9_7_answers_and_survives_stop_and_kill() {
    answers_and_logs("mysql-9.7");
}

#[test]
fn a_server_dies_with_the_test_that_panics() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = Server::new("mariadb-10.11").start();
        sender.send((server.value("select @@pid_file"), server.data())).expect("the other thread listens");
        panic!("as a failing assertion does");
    });
    let (pid_file, data) = receiver.recv().expect("the server started");
    assert!(test.join().is_err());
    assert!(!std::path::Path::new(&pid_file).exists() && !data.exists());
}

/// The edge values must be values: a statement that the server refuses or bends to NULL would test nothing.
fn takes_every_value_of_every_type(name: &str, types_at_least: usize) {
    let server = Server::new(name).log_bin().option("--binlog-row-metadata=FULL").start();
    let types = Types::of(&server);
    assert!(types.columns.len() >= types_at_least, "{} types", types.columns.len());
    types.create(&server, "shop");
    for column in &types.columns {
        for (id, value) in column.values.iter().enumerate().filter(|(_, value)| *value != "null") {
            server.sql(&format!("insert into types (id, `{}`) values ({id}, {value})", column.name));
            let is_null = server.value(&format!("select `{}` is null from types where id = {id}", column.name));
            assert_eq!(is_null, "0", "{}: {value}", column.definition);
        }
        server.sql("delete from types");
    }
    types.load(&server, "shop");
    assert_eq!(server.value("select count(*) from types"), (types.rows() - types.rows() / 3).to_string());
}

#[test]
fn mariadb_takes_every_value_of_every_type() {
    takes_every_value_of_every_type("mariadb-10.11", 65);
    takes_every_value_of_every_type("mariadb-11.8", 65);
}

#[test]
fn mysql_takes_every_value_of_every_type() {
    takes_every_value_of_every_type("mysql-9.7", 61);
}
