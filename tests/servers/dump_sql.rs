//! What rlog-dump writes as SQL, run by real servers: it makes the same contents, and `--undo` takes them back.

use std::path::PathBuf;

use crate::common::{Cells, Server, Types, rlog};

/// Runs rlog-dump on logs; what it prints.
fn dumped(arguments: &[&str], logs: &[PathBuf]) -> Vec<u8> {
    let output = rlog("rlog-dump").args(arguments).args(logs).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every row of the tables, with floats and blobs in full.
fn contents(server: &Server) -> Vec<Vec<Cells>> {
    server.sql("set names utf8mb4, time_zone = '+00:00', sql_mode = ''");
    ["types", "keyless", "counted"]
        .map(|table| {
            let mut rows = server.rows(&format!("select * from shop.{table}"));
            rows.sort();
            rows
        })
        .into()
}

fn extra_tables(server: &Server) {
    server.sql("create table shop.keyless (a int, b varchar(20) character set latin1, f float, n int)");
    server.sql("create table shop.counted (id int auto_increment primary key, at timestamp(3) null, who varchar(50), x double)");
}

/// Compares contents and names the cells that differ.
fn assert_same(found: &[Vec<Cells>], wanted: &[Vec<Cells>], what: &str) {
    let text = |cell: &Option<Vec<u8>>| {
        cell.as_ref().map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned())
    };
    let mut wrong = Vec::new();
    for (table, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        if found.len() != wanted.len() {
            wrong.push(format!("table {table}: {} rows, should be {}", found.len(), wanted.len()));
        }
        for (row, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            for (column, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                if found != wanted {
                    wrong.push(format!(
                        "table {table} row {row} column {column}: {:?}, should be {:?}",
                        text(found),
                        text(wanted)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Rows without a key, some of them equal; letter case and blanks tell others apart.
fn keyless(server: &Server) {
    server.sql("insert into shop.keyless values (1, 'a', 0.1, null), (1, 'a', 0.1, null), (1, 'A', 0.1, null), (1, 'a ', 0.1, null), (2, _latin1 x'e4', 1e30, 1)");
    server.sql("update shop.keyless set a = 5 where b = _latin1 'A' collate latin1_bin");
    server.sql("delete from shop.keyless where b = 'a' limit 1");
    server.sql("update shop.keyless set b = 'changed' where n = 1");
}

/// What depends on the session, as statements.
fn statements(server: &Server) {
    server.sql("set binlog_format = statement, timestamp = 1700000000.123, time_zone = '+05:30', @name = 'it''s \\\\ me', @n = 7");
    server.sql("insert into shop.counted (at, who, x) values (now(3), @name, rand()), (now(3), concat(@n, '; -- \\\\! id'), rand())");
    server.sql("set timestamp = default, time_zone = '+00:00', sql_mode = 'ansi_quotes'");
    server.sql("update shop.counted set \"who\" = concat(who, '/* it */') where id = 1 -- 'x");
    server.sql("set binlog_format = row, sql_mode = ''");
}

fn round_trip(name: &str, options: &[&str]) {
    let server = Server::new(name).log_bin().option("--binlog-row-metadata=FULL").options(options).start();
    let mut types = Types::of(&server);
    // JSON text has no decimals, dates and bytes: these come back as numbers and strings.
    types
        .columns
        .iter_mut()
        .for_each(|column| column.values.retain(|value| !value.starts_with("json_") || !value.contains("cast(")));
    types.create(&server, "shop");
    extra_tables(&server);
    if server.is_mariadb() {
        statements(&server);
    }
    server.sql("set sql_mode = ''");
    types.load(&server, "shop");
    keyless(&server);
    let (file, at) = server.log_position();
    let before = contents(&server);
    server.sql("delete from shop.types where id % 2 = 0");
    server.sql("insert into shop.keyless select a, b, f, n from shop.keyless");
    server.sql("update shop.keyless set n = n + 1, f = f / 3");
    types.columns.iter().for_each(|column| {
        let last = &column.values[column.values.len() / 2];
        server.sql(&format!("use shop; update types set `{}` = {last}", column.name));
    });
    let after = contents(&server);
    server.flush_logs();
    let logs = server.closed_logs();

    let again = Server::new(name).start();
    again.client(dumped(&["--format", "sql"], &logs));
    assert_same(&contents(&again), &after, "replayed into an empty server");

    let since = format!("{file}:{at}");
    let undo = dumped(&["--undo", "--since", &since], &logs);
    again.client(&undo);
    assert_same(&contents(&again), &before, "taken back there");
    server.client(&undo);
    assert_same(&contents(&server), &before, "taken back at the source");
}

#[test]
fn sql_of_a_mariadb_log_is_replayed_and_taken_back_by_mariadb() {
    round_trip("mariadb-10.11", &[]);
}

#[test]
fn sql_of_a_mysql_log_is_replayed_and_taken_back_by_mysql() {
    round_trip("mysql-9.7", &[]);
}
