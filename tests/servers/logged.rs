//! What servers write into their logs besides rows: ALTER in two halves, and the state rows of rlog's own appliers.

use serde_json::Value;

use crate::common::{Server, scratch, shell};

/// The JSON lines that come out of a server's closed logs.
fn lines(server: &Server, options: &[&str]) -> Vec<Value> {
    let folder = scratch();
    let out = folder.path().join("out.rlog");
    let mut command = shell("out=$1; shift; rlog-extract \"$@\" > \"$out\" && rlog-dump --format json \"$out\"");
    let output = command.arg(&out).args(options).args(server.closed_logs()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_alter_in_two_halves_gives_its_names_from_its_second_half_on() {
    let server = Server::new("mariadb-11.8").log_bin().start();
    server.sql("create database shop; use shop; create table t (id int primary key); set binlog_alter_two_phase = 1");
    server.sql("alter table t add column word varchar(20), algorithm=copy; insert into t values (1, 'one')");
    assert!(server.try_sql("alter table t add primary key (word)").is_err());
    server.sql("alter table t drop column word; insert into t values (2)");
    let lines = lines(&server, &[]);
    let texts: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| Some((line["kind"].as_str()?, line["sql"].as_str()?)))
        .filter(|(_, sql)| sql.contains("alter"))
        .collect();
    let kinds: Vec<&str> = texts.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["note", "ddl", "note", "ddl"], "{texts:?}");
    let rows: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "row").map(|line| &line["after"]).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["word"], "one");
    assert_eq!(*rows[1], serde_json::json!({"id": 2}));
}

/// A target's log, of rows or MIXED: each transaction says through which target it came, and nothing of rlog's own is passed on.
#[test]
fn the_log_of_a_target_says_what_came_through_its_applier() {
    for (name, format) in [("mariadb-10.11", "ROW"), ("mariadb-11.8", "MIXED"), ("mysql-9.7", "ROW")] {
        let source = Server::shared("mariadb-10.11");
        let database = format!("looped_{}", name.replace(['-', '.'], "_"));
        source.sql(&format!(
            "create database {database}; create table {database}.t (id int primary key, word varchar(20))"
        ));
        source.sql(&format!("insert into {database}.t values (1, 'one'); insert into {database}.t values (2, 'two')"));
        let target = Server::new(name).log_bin().option(format!("--binlog-format={format}")).start();
        let folder = scratch();
        let mut command = shell(
            "cd \"$1\"; url=$2; tables=$3; shift 3; rlog-extract --tables \"$tables\" \"$@\" | rlog-queue put spool && \
             rlog-apply run --from spool --init empty \"$url\"",
        );
        let output = command
            .arg(folder.path())
            .arg(target.socket_url(""))
            .arg(format!("{database}.*"))
            .args(source.closed_logs())
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        target.sql(&format!("insert into {database}.t values (3, 'of the target itself')"));
        let uuid = target.value("select uuid from rlog.rlog_target");
        let lines = lines(&target, &[]);
        let mut origins = Vec::new();
        let mut shown = Vec::new();
        for line in &lines {
            match line["kind"].as_str().unwrap() {
                "begin" => origins = line["origins"].as_array().cloned().unwrap_or_default(),
                "row" => shown.push((line["after"]["id"].as_u64().unwrap(), origins.clone())),
                "statement" if line["sql"].as_str().unwrap().contains("insert into") => {
                    shown.push((3, origins.clone()))
                }
                _ => {}
            }
            let text = line.to_string();
            assert!(!text.contains("rlog_applied") && !text.contains("rlog_channel"), "{name}: {text}");
        }
        // The server that first executed it, then the target that it was applied to.
        let born = format!("server-{}", source.value("select @@server_id"));
        let came = vec![Value::String(born), Value::String(uuid)];
        assert_eq!(shown, [(1, came.clone()), (2, came), (3, vec![])], "{name} {format}");
    }
}
