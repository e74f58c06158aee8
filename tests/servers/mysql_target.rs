//! MariaDB and MySQL as targets, below the command line: what a session of the trait does to a real server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rlog::event::record::Records;
use rlog::event::{Rows, RowsOp, Statement};
use rlog::frame::{Coordinate, Position};
use rlog::source::mysql::{Family, RowPlan, RowsInput, TableMap, definition};
use rlog::target::{
    Cause, ConflictClass, DdlOutcome, Force, Head, KeyOrder, OpenOptions, Outcome, Scan, Session, Settings, StateRow,
    Table, Target,
};

use crate::common::{Server, Types};

/// Row records of one transaction of a log.
type Group = Vec<(Arc<Table>, RowsOp, Vec<u8>)>;

/// The row changes of a server's closed logs, by transaction: a reader for uncompressed logs without row events of version 2's extra
/// data, just enough for these tests.
fn groups(server: &Server) -> Vec<Group> {
    let family = if server.is_mariadb() { Family::MariaDb } else { Family::MySql };
    let mut out: Vec<Group> = Vec::new();
    let mut tables: HashMap<u64, (Arc<Table>, RowPlan)> = HashMap::new();
    let mut known: Vec<Arc<Table>> = Vec::new();
    for log in server.closed_logs() {
        let log = std::fs::read(log).unwrap();
        let mut at = 4;
        let mut group = Group::new();
        while at < log.len() {
            let size = u32::from_le_bytes(log[at + 9..at + 13].try_into().unwrap()) as usize;
            let (kind, body) = (log[at + 4], &log[at + 19..at + size - 4]);
            at += size;
            let id = || u64::from_le_bytes([body[0], body[1], body[2], body[3], body[4], body[5], 0, 0]);
            match kind {
                19 => {
                    let map = TableMap::parse(body, 6, family).unwrap();
                    let found = definition(&map, None, family).definition;
                    let table = known.iter().find(|table| table.definition == found).cloned().unwrap_or_else(|| {
                        known.push(Arc::new(Table { id: known.len() as u64, definition: found.clone() }));
                        known.last().unwrap().clone()
                    });
                    let plan = RowPlan::new(&map, &table.definition).unwrap();
                    tables.insert(id(), (table, plan));
                }
                23..=25 | 30..=32 => {
                    let op = match kind {
                        23 | 30 => RowsOp::Insert,
                        24 | 31 => RowsOp::Update,
                        _ => RowsOp::Delete,
                    };
                    let (table, plan) = tables.get_mut(&id()).unwrap();
                    let mut rest = &body[if kind >= 30 { 10 } else { 8 }..];
                    let columns = rest[0] as usize;
                    assert!(columns < 251);
                    rest = &rest[1..];
                    let (first, mut rest) = rest.split_at(columns.div_ceil(8));
                    let mut second = first;
                    if op == RowsOp::Update {
                        (second, rest) = rest.split_at(columns.div_ceil(8));
                    }
                    while !rest.is_empty() {
                        let mut body = Vec::new();
                        let input = RowsInput {
                            op,
                            before: first,
                            after: second,
                            images: rest,
                            partial_json: false,
                            time_s: 1,
                        };
                        let done = plan.transcode(&input, &mut body, 1 << 16).unwrap();
                        rest = &rest[done.consumed..];
                        let mut records = Records::new(&body);
                        while let Some((_, body)) = records.next().unwrap() {
                            group.push((Arc::clone(table), op, body.to_vec()));
                        }
                    }
                }
                16 => out.push(std::mem::take(&mut group)),
                _ => {}
            }
        }
    }
    out
}

/// A target with a channel.
fn target(server: &Server) -> Box<dyn Target> {
    let mut target = rlog::target::open(&server.socket_url(""), &OpenOptions::default()).unwrap();
    target.init("default", &[]).unwrap();
    target
}

fn session(target: &mut Box<dyn Target>) -> (Box<dyn Session>, Settings) {
    let epoch = target.raise_epoch("default").unwrap();
    let settings =
        Settings { channel: "default".into(), epoch, source_family: "mariadb".into(), ..Settings::default() };
    (target.session(&settings).unwrap(), settings)
}

fn state_row(settings: &Settings, prev: u64, end: u64) -> StateRow {
    StateRow {
        channel: settings.channel.clone(),
        prev: Coordinate(prev),
        end: Coordinate(end),
        epoch: settings.epoch,
        transactions: 1,
        origins: vec!["11111111-1111-4111-8111-111111111111".into()],
        ..StateRow::default()
    }
}

/// Applies groups, `batch` at a time in one transaction.
fn apply(session: &mut dyn Session, settings: &Settings, groups: &[Group], batch: usize) -> Outcome {
    for (number, groups) in groups.chunks(batch).enumerate() {
        session.begin()?;
        session.state(&state_row(settings, number as u64, number as u64 + 1))?;
        for group in groups {
            session.transaction(&Head { server_id: 7, ..Head::default() })?;
            for (table, op, body) in group {
                session.rows(table, &Rows::decode(*op, body)?)?;
            }
        }
        session.commit()?;
    }
    Ok(())
}

/// What was logged so far is of no interest.
fn forget_logs(server: &Server) {
    server.sql(if server.is_mariadb() { "reset master" } else { "reset binary logs and gtids" });
}

fn source(name: &str) -> Server {
    Server::new(name).log_bin().option("--binlog-row-metadata=FULL").option("--server-id=7").start()
}

fn every_type_arrives(name: &str, image: &str, compressed: bool, batch: usize) {
    let from = Server::new(name)
        .log_bin()
        .option("--binlog-row-metadata=FULL")
        .option(format!("--binlog-row-image={image}"))
        .start();
    let to = Server::new(name).log_bin().start();
    let mut types = Types::of(&from);
    types.columns.retain(|column| compressed || !column.definition.contains("compressed"));
    types.create(&from, "shop");
    types.create(&to, "shop");
    forget_logs(&from);
    types.load(&from, "shop");
    let groups = groups(&from);
    assert!(groups.len() > 10);
    let mut target = target(&to);
    let (mut session, settings) = session(&mut target);
    apply(&mut *session, &settings, &groups, batch).unwrap();
    scan_gives_canonical_text(&mut target, &groups);
    let query = "set time_zone='+00:00'; select * from shop.types order by id";
    let (expected, found) = (from.text(query), to.text(query));
    for (expected, found) in expected.split('\n').zip(found.split('\n')) {
        for ((expected, found), column) in expected.split('\t').zip(found.split('\t')).skip(1).zip(types.columns.iter())
        {
            assert_eq!(expected, found, "{}", column.definition);
        }
    }
    assert_eq!(expected, found);
}

/// The rows of the table, read in chunks, are the last inserted or updated images of the log in the text of `event::text`.
fn scan_gives_canonical_text(target: &mut Box<dyn Target>, groups: &[Group]) {
    let table = &groups[0][0].0.definition;
    let mut expected: std::collections::BTreeMap<i64, Vec<Option<Vec<u8>>>> = Default::default();
    for (table, op, body) in groups.iter().flatten() {
        let rows = Rows::decode(*op, body).unwrap();
        let mut rows = rows.iter(&table.definition).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let id = |image: &rlog::event::Image<'_>| match image.columns().next().unwrap().unwrap() {
                rlog::event::Value::Int(id) => Some(id),
                _ => None,
            };
            let Some(after) = row.after else {
                expected.remove(&id(&row.before.unwrap()).unwrap());
                continue;
            };
            if id(&after).is_none() || !after.is_full() {
                return; // minimal images do not tell the whole row
            }
            let cells = after.columns().zip(&table.definition.columns).map(|(value, column)| {
                let mut text = Vec::new();
                match rlog::event::text::write_value(&mut text, value.unwrap(), column) {
                    rlog::event::text::Form::Null => None,
                    _ => Some(text),
                }
            });
            expected.insert(id(&after).unwrap(), cells.collect());
        }
    }
    let mut found: Vec<Vec<Option<Vec<u8>>>> = Vec::new();
    let columns: Vec<&rlog::event::Column> = table.columns.iter().collect();
    let scan =
        Scan { database: &table.database, table: &table.table, columns: &columns, order: &[(0, KeyOrder::Number)] };
    let mut take = |cells: &[Option<&[u8]>]| {
        found.push(cells.iter().map(|cell| cell.map(<[u8]>::to_vec)).collect());
        true
    };
    target.scan(&scan, &mut take).unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected.values()) {
        for ((found, expected), column) in found.iter().zip(expected).zip(&table.columns) {
            let kind = column.name.as_str();
            // Their log has the stored bytes when nothing tells their type.
            if !["uuid", "inet"].iter().any(|name| kind.contains(name)) {
                let show = |cell: &Option<Vec<u8>>| cell.as_ref().map(|cell| cell.escape_ascii().to_string());
                assert_eq!(show(found), show(expected), "{kind}");
            }
        }
    }
}

#[test]
fn every_type_of_mariadb_arrives_as_row_events() {
    every_type_arrives("mariadb-10.11", "FULL", false, 1);
    every_type_arrives("mariadb-11.8", "FULL", false, 1000);
}

#[test]
fn every_type_of_mariadb_arrives_from_minimal_images() {
    every_type_arrives("mariadb-10.11", "MINIMAL", false, 10);
}

#[test]
fn every_type_of_mysql_arrives_as_row_events() {
    every_type_arrives("mysql-9.7", "FULL", true, 10);
}

#[test]
fn every_type_of_mariadb_arrives_as_sql() {
    every_type_arrives("mariadb-11.8", "FULL", true, 10);
}

#[test]
fn changes_that_are_merged_and_collapsed_come_to_the_same_as_one_by_one() {
    let from = source("mariadb-10.11");
    let create = "create database shop; use shop;
        create table plain (id int primary key, a int, u int, unique key (u));
        create table pairs (a varchar(20) character set latin1 collate latin1_bin, b bigint unsigned, v text, primary key (a, b));
        create table folded (name varchar(20) character set utf8mb4 primary key, n int);
        create table nokey (a int, b varchar(10));
        create table parent (id int primary key);
        create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade)";
    from.sql(create);
    forget_logs(&from);
    let mut random = 12345u64;
    let mut dice = |sides: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % sides
    };
    for _ in 0..400 {
        let mut sql = String::from("use shop; begin;");
        for _ in 0..=dice(3) {
            let (id, n) = (dice(30), dice(1000));
            sql.push_str(&match dice(12) {
                0 => format!("insert ignore into plain values ({id}, {n}, {n});"),
                1 => format!("delete from plain where id={id};"),
                2 => format!("update ignore plain set a={n}, u={} where id={id};", dice(30)),
                3 => format!("update ignore plain set id={} where id={id};", dice(30)),
                4 => format!("replace into plain values ({id}, {n}, {});", dice(30)),
                5 => format!(
                    "replace into pairs values ('{}', {}, '{n}');",
                    ["a", "A", "b  "][dice(3) as usize],
                    dice(4)
                ),
                6 => format!("delete from pairs where b={};", dice(4)),
                7 => format!("replace into folded values ('{}', {n});", ["a", "A", "ä", "B", "b "][dice(5) as usize]),
                8 => format!(
                    "insert into nokey values ({}, '{}'); delete from nokey where a={} limit 1;",
                    dice(3),
                    dice(3),
                    dice(3)
                ),
                9 => format!(
                    "insert ignore into parent values ({}); insert ignore into child values ({id}, {});",
                    dice(6),
                    dice(6)
                ),
                10 => format!("delete from parent where id={};", dice(6)),
                _ => format!("insert ignore into plain values ({id}, 1, null); delete from plain where id={id};"),
            });
        }
        from.sql(&format!("{sql} commit"));
    }
    let groups = groups(&from);
    assert!(groups.len() > 300);
    for batch in [1, 7, 1000] {
        let to = Server::new("mariadb-10.11").start();
        to.sql(create);
        let mut target = target(&to);
        let (mut session, settings) = session(&mut target);
        apply(&mut *session, &settings, &groups, batch).unwrap();
        for table in ["plain", "pairs", "folded", "nokey", "parent", "child"] {
            let order = if table == "parent" { "1" } else { "1, 2" };
            let query = format!("select * from shop.{table} order by {order}");
            assert_eq!(to.text(&query), from.text(&query), "{table}, {batch} merged");
        }
    }
}

/// One group per statement in `sql`, from a server of its own.
fn groups_of(create: &str, sql: &[&str]) -> Vec<Group> {
    let from = source("mariadb-10.11");
    from.sql(create);
    forget_logs(&from);
    sql.iter().for_each(|sql| from.sql(&format!("use shop; {sql}")));
    groups(&from)
}

/// Applies each row of a group singly.
fn singly(session: &mut dyn Session, group: &Group, force: Force) -> Outcome {
    for (table, op, body) in group {
        let rows = Rows::decode(*op, body)?;
        let mut rows = rows.iter(&table.definition)?;
        while let Some(row) = rows.next()? {
            session.row(table, *op, &row, force)?;
        }
    }
    Ok(())
}

#[test]
fn a_conflict_is_told_precisely_and_leaves_the_transaction_usable() {
    let create = "create database shop; use shop; create table t (id int primary key, v varchar(10), u int unique)";
    let groups = groups_of(
        create,
        &["insert into t values (1,'a',10)", "update t set v='b'", "delete from t", "insert into t values (2,'x',20)"],
    );
    for triggered in [false, true] {
        let to = Server::new("mariadb-10.11").start();
        to.sql(create);
        if triggered {
            to.sql("create table log (n int); create trigger tr before insert on t for each row insert into log values (1)");
        }
        let mut target = target(&to);
        let (mut session, settings) = session(&mut target);
        let s = &mut *session;
        s.begin().unwrap();
        s.state(&state_row(&settings, 0, 1)).unwrap();
        singly(s, &groups[0], Force::Strict).unwrap();
        let error = singly(s, &groups[0], Force::Strict).unwrap_err();
        assert_eq!((error.cause, error.code), (Cause::Conflict(ConflictClass::DuplicateKey), Some(1062)));
        let text = error.to_string();
        assert!(text.contains("ERROR 1062") && !text.contains("MySqlError"), "{text}");
        singly(s, &groups[2], Force::Strict).unwrap();
        for group in &groups[1..3] {
            let error = singly(s, group, Force::Strict).unwrap_err();
            assert_eq!(error.cause, Cause::Conflict(ConflictClass::RowNotFound));
        }
        singly(s, &groups[1], Force::Overwrite).unwrap();
        singly(s, &groups[0], Force::Overwrite).unwrap();
        s.commit().unwrap();
        assert_eq!(to.text("select * from shop.t"), "1\ta\t10\n");
        to.sql("update shop.t set id=5, u=20");
        s.begin().unwrap();
        s.state(&state_row(&settings, 1, 2)).unwrap();
        let error = singly(s, &groups[3], Force::Strict).unwrap_err();
        assert_eq!(error.cause, Cause::Conflict(ConflictClass::DuplicateKey));
        singly(s, &groups[3], Force::Overwrite).unwrap();
        s.commit().unwrap();
        assert_eq!(to.text("select * from shop.t"), "2\tx\t20\n");
        if triggered {
            assert_eq!(to.value("select count(*) from shop.log"), "0", "no trigger fires");
        }
        // The fast path fails as a whole.
        s.begin().unwrap();
        s.state(&state_row(&settings, 2, 3)).unwrap();
        for (table, op, body) in &groups[3] {
            s.rows(table, &Rows::decode(*op, body).unwrap()).unwrap();
        }
        assert_eq!(s.flush().unwrap_err().cause, Cause::Conflict(ConflictClass::DuplicateKey));
        s.rollback().unwrap();
    }
}

#[test]
fn a_row_that_differs_is_told_when_that_is_asked_for() {
    let create = "create database shop; use shop; create table t (id int primary key, v varchar(10))";
    let groups = groups_of(create, &["insert into t values (1,'a')", "update t set v='b'"]);
    let to = Server::new("mariadb-10.11").start();
    to.sql(create);
    to.sql("insert into t values (1, 'A')");
    let mut target = target(&to);
    let epoch = target.raise_epoch("default").unwrap();
    let settings = Settings { channel: "default".into(), epoch, check_before: true, ..Settings::default() };
    let mut session = target.session(&settings).unwrap();
    session.begin().unwrap();
    session.state(&state_row(&settings, 0, 1)).unwrap();
    let error = singly(&mut *session, &groups[1], Force::Strict).unwrap_err();
    assert_eq!(error.cause, Cause::Conflict(ConflictClass::RowDiffers));
    session.rollback().unwrap();
    to.sql("update shop.t set v='a'");
    session.begin().unwrap();
    session.state(&state_row(&settings, 0, 1)).unwrap();
    singly(&mut *session, &groups[1], Force::Strict).unwrap();
    session.commit().unwrap();
    assert_eq!(to.value("select v from shop.t"), "b");
}

#[test]
fn of_two_appliers_the_older_one_is_fenced() {
    let to = Server::new("mariadb-10.11").start();
    let mut first = target(&to);
    let (mut old, settings) = session(&mut first);
    old.begin().unwrap();
    old.state(&state_row(&settings, 0, 1)).unwrap();
    // It goes to the server with what comes first.
    old.fact("seen", Some("once")).unwrap();
    // Whoever takes over waits for what is under way.
    let url = to.socket_url("");
    let takes_over = std::thread::spawn(move || {
        let mut second = rlog::target::open(&url, &OpenOptions::default()).unwrap();
        second.raise_epoch("default").unwrap()
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!takes_over.is_finished(), "the epoch is locked by the open transaction");
    old.commit().unwrap();
    assert_eq!(takes_over.join().unwrap(), settings.epoch + 1);
    old.begin().unwrap();
    old.state(&state_row(&settings, 1, 2)).unwrap();
    assert_eq!(old.commit().unwrap_err().cause, Cause::Fenced);
    old.rollback().unwrap();
    let (mut new, settings) = session(&mut first);
    new.begin().unwrap();
    new.state(&state_row(&settings, 0, 5)).unwrap();
    assert_eq!(new.commit().unwrap_err().cause, Cause::Fenced, "applied from there already");
    new.rollback().unwrap();
    let state = first.state("default").unwrap().unwrap();
    assert_eq!(state.applied.len(), 1);
    assert_eq!(state.applied[0].origins.len(), 1);
    first.prune("default", Coordinate(2)).unwrap();
    assert!(first.state("default").unwrap().unwrap().applied.is_empty());
}

fn alter(sql: &'static str) -> (Statement<'static>, Head) {
    let statement = Statement {
        sql: sql.as_bytes().into(),
        database: "shop".into(),
        time_s: 1,
        tables: vec![("shop".into(), "t".into())],
        ..Statement::default()
    };
    let position = Position { txid: Coordinate(9), end: Coordinate(10), ..Position::default() };
    (statement, Head { position, ..Head::default() })
}

/// A DDL whose applier dies, before or after the server has done it, and is then run by the next one.
fn a_ddl_is_done_once(name: &str, killed_before: bool) {
    let to = Server::new(name).start();
    to.sql("create database shop; use shop; create table t (id int primary key) engine=InnoDB");
    let mut target = target(&to);
    let (mut session, settings) = session(&mut target);
    let row = state_row(&settings, 0, 10);
    let (statement, head) = alter("alter table t add column c int not null default 5");
    // A reader of the table holds the ALTER back behind its marker.
    let mut reader = to.connect();
    mysql::prelude::Queryable::query_drop(&mut reader, "begin").unwrap();
    mysql::prelude::Queryable::query_drop(&mut reader, "select * from shop.t").unwrap();
    let applies = std::thread::spawn(move || session.ddl_alone(&row, &head, &statement));
    let waiting = "select id from information_schema.processlist where state like 'Waiting for table metadata lock%'";
    while to.text(waiting).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    if killed_before {
        to.sql(&format!("kill {}", to.value(waiting)));
        mysql::prelude::Queryable::query_drop(&mut reader, "commit").unwrap();
        assert_eq!(applies.join().unwrap().unwrap_err().cause, Cause::Lost);
        assert_eq!(to.text("show columns from shop.t like 'c'"), "");
    } else {
        // It is done, but its state row is refused: as if the applier had died behind it.
        target.raise_epoch("default").unwrap();
        mysql::prelude::Queryable::query_drop(&mut reader, "commit").unwrap();
        assert_eq!(applies.join().unwrap().unwrap_err().cause, Cause::Fenced);
        assert_ne!(to.text("show columns from shop.t like 'c'"), "");
    }
    let state = target.state("default").unwrap().unwrap();
    assert!(state.facts.contains_key("ddl") && state.applied.is_empty());
    let (mut session, settings) = self::session(&mut target);
    let (statement, head) = alter("alter table t add column c int not null default 5");
    let outcome = session.ddl_alone(&state_row(&settings, 0, 10), &head, &statement).unwrap();
    assert_eq!(outcome, DdlOutcome::Applied);
    let state = target.state("default").unwrap().unwrap();
    assert!(!state.facts.contains_key("ddl") && state.applied.len() == 1);
    to.sql("insert into shop.t values (1, 2)");
}

#[test]
fn a_ddl_of_an_applier_that_died_before_it_is_done() {
    a_ddl_is_done_once("mariadb-10.11", true);
}

#[test]
fn a_ddl_of_an_applier_that_died_behind_it_is_not_done_twice() {
    a_ddl_is_done_once("mariadb-10.11", false);
}

/// Rule 5: sessions at work are READ COMMITTED, so that gaps between rows are nobody's.
#[test]
fn transactions_are_read_committed_whatever_the_servers_default() {
    for name in ["mariadb-10.11", "mysql-9.7"] {
        let to = Server::new(name).start();
        to.sql("set global transaction isolation level serializable");
        let mut target = target(&to);
        let (mut session, settings) = session(&mut target);
        session.begin().unwrap();
        session.state(&state_row(&settings, 0, 1)).unwrap();
        // The state row goes with the first change.
        session.fact("probe", Some("1")).unwrap();
        // What the server shows of its transactions is as old as the last look, unless nobody has looked for 0.1 s.
        let mut levels = String::new();
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(200));
            levels =
                to.text("select trx_isolation_level from information_schema.innodb_trx where trx_rows_modified > 0");
            if !levels.is_empty() {
                break;
            }
        }
        assert_eq!(levels, "READ COMMITTED\n", "{name}");
        session.rollback().unwrap();
    }
}
