//! Where a transaction came from (rule 12 of the design), and which tables statements are filtered by.

use rlog::event::Statement;
use rlog::event::filter::{FilterRules, TableFilter};
use rlog::source::Options;

use crate::assemble::{Log, Output, kind, query_body, read, read_with, rows_body, table_map_body};

const A: &str = "11111111-aaaa-4aaa-8aaa-111111111111";
const B: &str = "22222222-bbbb-4bbb-8bbb-222222222222";

fn ignoring(table: &str) -> Options {
    let filter = TableFilter::new(FilterRules { ignore_tables: vec![table.into()], ..FilterRules::default() }).unwrap();
    Options { filter, log_name: Some("bin.000001".into()), ..Options::default() }
}

fn statements(out: &Output) -> Vec<(String, Vec<(String, String)>)> {
    let bodies = out.transactions.iter().flat_map(|transaction| &transaction.bodies);
    bodies
        .filter_map(|body| Statement::decode(body).ok())
        .map(|statement| (String::from_utf8_lossy(&statement.sql).into_owned(), statement.tables))
        .collect()
}

#[test]
fn the_state_row_of_an_applier_says_where_a_transaction_came_from_whatever_is_filtered() {
    let origins = format!("{A} {B}");
    let mut log = Log::maria();
    log.maria_gtid(1, 4, None);
    log.event(kind::TABLE_MAP, &table_map_body(9, "rlog", "rlog_applied"));
    log.event(kind::WRITE_V1, &rows_body(9, &[(1, &origins)]));
    log.table_map(3, "t").rows(3, &[(1, "one")]).xid(1);
    log.maria_transaction(2, &[(2, "two")]);
    for options in [Options { log_name: Some("bin.000001".into()), ..Options::default() }, ignoring("rlog.*")] {
        let out = read_with(&log.bytes, options);
        assert_eq!(out.class(), None, "{:?}", out.error);
        assert_eq!(out.transactions[0].begin.origins, [A, B]);
        assert_eq!(out.transactions[1].begin.origins, [""; 0], "the next one did not");
        assert_eq!(out.rows(), 2, "rlog's own rows enter no stream");
    }
    // Nothing else of it is wanted: a range of no transactions.
    let out = read_with(&log.bytes, ignoring("shop.*"));
    assert_eq!((out.class(), out.transactions.len()), (None, 0));
    assert_eq!(out.end.unwrap().reached, read(&log.bytes).end.unwrap().reached);
}

#[test]
fn the_state_row_is_read_from_the_text_too_and_the_comment_of_a_ddl() {
    let insert = format!(
        "INSERT INTO rlog.rlog_applied (channel, incarnation, prev, origins) SELECT channel, '00', 4, '{A} {B}' \
         FROM rlog.rlog_channel WHERE channel='default' LOCK IN SHARE MODE"
    );
    let mut log = Log::maria();
    log.query("CREATE DATABASE x");
    log.event(kind::QUERY, &query_body("rlog", b"CREATE DATABASE IF NOT EXISTS rlog CHARACTER SET utf8mb4"));
    log.query("CREATE TABLE IF NOT EXISTS rlog.rlog_applied (channel VARCHAR(63))");
    log.query("BEGIN").query(&insert).query("insert into t values (1)").xid(1);
    log.query(&format!("create table u (a int) /* rlog origins {A} */"));
    log.query("BEGIN").query("DELETE FROM rlog.rlog_applied WHERE prev < 4").query("insert into t values (2)").xid(1);
    let out = read(&log.bytes);
    assert_eq!(out.class(), None, "{:?}", out.error);
    let found: Vec<_> = out.transactions.iter().map(|transaction| transaction.begin.origins.clone()).collect();
    assert_eq!(found, [vec![], vec![A.to_owned(), B.to_owned()], vec![A.to_owned()], vec![]]);
    let texts: Vec<String> = statements(&out).into_iter().map(|(sql, _)| sql).collect();
    assert_eq!(
        texts,
        ["CREATE DATABASE x", "insert into t values (1)", "create table u (a int)", "insert into t values (2)"]
    );
    // Who looks at the log itself sees all of it.
    let all = read_with(&log.bytes, Options { system_tables: true, ..Options::default() });
    let texts: Vec<String> = statements(&all).into_iter().map(|(sql, _)| sql).collect();
    assert_eq!(texts.len(), 8);
    assert!(texts[5].ends_with(&format!("/* rlog origins {A} */")));
    assert_eq!(all.transactions[3].begin.origins, [A, B]);
}

#[test]
fn statements_are_filtered_by_the_tables_that_they_change() {
    let mut log = Log::maria();
    for sql in [
        "insert into t select * from u",
        "update u, t a set a.x = u.x",
        "delete from other.t where id in (select id from t)",
        "insert into u values (1)",
        "call p()",
        "load data infile 'x' into table t",
    ] {
        log.query("BEGIN").query(sql).xid(1);
    }
    let all = statements(&read(&log.bytes));
    let names = |tables: &[(&str, &str)]| tables.iter().map(|(d, t)| ((*d).into(), (*t).into())).collect::<Vec<_>>();
    assert_eq!(all[0].1, names(&[("shop", "t")]));
    assert_eq!(all[1].1, names(&[("shop", "t")]));
    assert_eq!(all[2].1, names(&[("other", "t")]));
    assert_eq!(all[4].1, names(&[]), "nothing is guessed");
    let rest: Vec<String> =
        statements(&read_with(&log.bytes, ignoring("shop.t"))).into_iter().map(|(sql, _)| sql).collect();
    assert_eq!(rest, [all[2].0.clone(), all[3].0.clone(), all[4].0.clone()]);
    // MariaDB's own rules: the default database decides first, and what names no table passes the rules about tables.
    let rules = |rules: FilterRules| Options {
        filter: TableFilter::new(rules).unwrap(),
        log_name: Some("bin.000001".into()),
        ..Options::default()
    };
    let other = rules(FilterRules { do_db: vec!["other".into()], ..FilterRules::default() });
    assert_eq!(statements(&read_with(&log.bytes, other)).len(), 0);
    let only = rules(FilterRules { do_table: vec!["other.t".into()], ..FilterRules::default() });
    let kept: Vec<String> = statements(&read_with(&log.bytes, only)).into_iter().map(|(sql, _)| sql).collect();
    assert_eq!(kept, [all[2].0.clone(), all[4].0.clone()]);
}
