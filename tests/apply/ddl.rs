//! DDL of MariaDB into SQLite.

use rlog::event::{RecordKind, Statement};

use crate::common::changes::{Records, Source, table};
use crate::once::Place;

fn ddl(source: &mut Source, sql: &str) -> rlog::frame::Position {
    let statement = Statement { sql: sql.as_bytes().into(), database: "shop".into(), ..Statement::default() };
    source.barrier(Records::default().statement(RecordKind::Ddl, &statement))
}

#[test]
fn tables_are_created_changed_renamed_and_dropped_between_rows() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    ddl(&mut source, "create database shop");
    ddl(
        &mut source,
        "CREATE TABLE `t` (`id` int(11) NOT NULL, `v` varchar(100) DEFAULT NULL, PRIMARY KEY (`id`), KEY `v` (`v`)) ENGINE=InnoDB",
    );
    source.transaction(Records::default().insert(&t, (1, Some("a"))).insert(&t, (2, None)));
    ddl(&mut source, "create table shop.gone like t");
    ddl(&mut source, "alter table shop.t add column n bigint unsigned not null default 5, add unique u (v)");
    assert_eq!(place.run(&source.end(), &["--init", "empty"]), (0, String::new()));
    assert_eq!(place.query("select * from t"), ["1|a|5", "2|NULL|5"]);
    assert_eq!(
        place.query("select name from sqlite_schema where type='index' and name not like 'sqlite%' order by name"),
        ["t_u", "t_v"]
    );
    // A later run still knows what the table was.
    ddl(&mut source, "alter table t drop column n, change v w varchar(200), rename to t2");
    ddl(&mut source, "drop table if exists gone");
    ddl(&mut source, "rename table t2 to t3, t3 to t");
    assert_eq!(place.run(&source.end(), &[]), (0, String::new()));
    assert_eq!(place.query("select id, w from t"), ["1|a", "2|NULL"]);
    assert_eq!(place.query("select count(*) from sqlite_schema where name='gone'"), ["0"]);
    ddl(&mut source, "truncate table t");
    ddl(&mut source, "create view v as select 1");
    ddl(&mut source, "drop database shop");
    let (status, text) = place.run(&source.end(), &[]);
    assert_eq!(status, 0);
    assert!(text.contains("create view is left out"), "{text}");
    assert_eq!(place.query("select count(*) from sqlite_schema where type='table' and name not like 'rlog%'"), ["0"]);
}

#[test]
fn what_cannot_be_translated_stops_and_policy_decides() {
    let place = Place::new();
    let mut source = Source::new();
    ddl(&mut source, "create table t (id int primary key, v datetime(6))");
    ddl(&mut source, "create table s as select * from t");
    let (status, text) = place.run(&source.end(), &["--init", "empty"]);
    assert_eq!(status, 80);
    assert!(text.contains("cannot be translated") && text.contains("create table s"), "{text}");
    assert_eq!(place.run(&source.end(), &["--ddl", "stop"]).0, 80);
    let (status, text) = place.run(&source.end(), &["--ddl", "ignore"]);
    assert_eq!(status, 0);
    assert!(text.contains("create table s"), "{text}");
}

#[test]
fn a_cascade_of_the_source_is_one_of_the_target() {
    let place = Place::new();
    let (parent, child) = (table("shop", "parent"), table("shop", "child"));
    let mut source = Source::new();
    ddl(&mut source, "create table parent (id int primary key, v varchar(100))");
    ddl(
        &mut source,
        "create table child (id int primary key, v varchar(100), constraint c foreign key (v) references parent (id) on delete cascade)",
    );
    source.transaction(Records::default().insert(&parent, (1, None)).insert(&child, (10, Some("1"))));
    source.transaction(Records::default().delete(&parent, (1, None)));
    assert_eq!(place.run(&source.end(), &["--init", "empty"]), (0, String::new()));
    assert_eq!(place.query("select count(*) from child"), ["0"]);
}

#[test]
fn names_in_the_statement_are_rewritten_like_those_of_rows() {
    let place = Place::new();
    let t = table("shop", "t");
    let mut source = Source::new();
    ddl(&mut source, "create table shop.t (id int primary key, v varchar(100))");
    source.transaction(Records::default().insert(&t, (1, None)));
    let options = ["--init", "empty", "--qualify", "--rewrite-db", "shop=s2"];
    assert_eq!(place.run(&source.end(), &options), (0, String::new()));
    assert_eq!(place.query("select count(*) from \"s2.t\""), ["1"]);
}
