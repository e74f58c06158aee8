//! A snapshot makes a whole replica: not rows alone, but all that a server has in its databases.

use crate::common::{Server, scratch, shell};

/// A database with some of everything. Names sort so that views and functions come before what they need.
fn fill(server: &Server) {
    server.sql(
        "create database shop default character set latin1 collate latin1_german1_ci; use shop; \
         create table parent (id int auto_increment primary key, word varchar(20) not null default 'x', key by_word (word)); \
         create table child (id int primary key, of_parent int, note text, key k (of_parent), fulltext key f (note), \
           constraint fk foreign key (of_parent) references parent (id) on delete cascade); \
         create table counted (part int, n int not null auto_increment, b varchar(100) character set utf8mb4 comment 'it''s\n  KEY (', \
           g int generated always as (part * 2) stored, v int generated always as (part + 1) virtual, primary key (n, part), key kb (b(10)), key kg (g)) \
           partition by hash (part) partitions 3; \
         create table log (id int auto_increment, what varchar(100), key (id), key kw (what)); \
         insert into parent (word) values ('a'), ('b'), ('c'); insert into child values (1, 1, 'some words'), (2, 3, null); \
         insert into counted (part, b) values (1, 'x'), (2, 'y')",
    );
    server.sql(
        "use shop; set sql_mode='ANSI_QUOTES,PIPES_AS_CONCAT'; \
         create function twice(a int) returns int deterministic sql security invoker return a * 2; \
         create function \"joined\"(a text) returns text character set utf8mb4 deterministic return a || '-' || 'ä'; set sql_mode=default",
    );
    server.sql(
        "use shop; create view z_last as select id, word from parent; \
         create view a_first as select z.id, twice(z.id) as t, z.word from z_last z; \
         create algorithm=merge definer=somebody@nowhere sql security invoker view plain as select * from parent where id > 0 with check option",
    );
    server.sql(
        "use shop; create trigger t1 after insert on parent for each row insert into log (what) values (concat('new ', new.word)); \
         create trigger t2 after insert on parent for each row insert into log (what) values ('second'); \
         create event e on schedule every 1 hour do delete from log",
    );
    server.client(
        "use shop;\ndelimiter //\ncreate procedure fill_up(in n int) begin declare i int default 0; \
         while i < n do insert into parent (word) values (joined('p')); set i = i + 1; end while; end//\n",
    );
    if server.is_mariadb() {
        server.sql(
            "use shop; create sequence s start with 10 increment by 5 cache 1; do nextval(s); do nextval(s); \
             create table numbered (id bigint primary key default nextval(s), v int); insert into numbered (v) values (1)",
        );
    }
}

/// What SHOW CREATE says of everything, counters aside.
fn shape(server: &Server) -> Vec<String> {
    let mut out = vec![server.text("show create database shop")];
    let mut asked = vec![
        "select table_name, 'table' from information_schema.tables where table_schema = 'shop' and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by 1",
        "select table_name, 'view' from information_schema.tables where table_schema = 'shop' and table_type = 'VIEW' order by 1",
        "select routine_name, lower(routine_type) from information_schema.routines where routine_schema = 'shop' order by 1",
        "select trigger_name, 'trigger' from information_schema.triggers where trigger_schema = 'shop' order by action_order",
    ];
    if server.is_mariadb() {
        asked.push("select table_name, 'sequence' from information_schema.tables where table_schema = 'shop' and table_type = 'SEQUENCE'");
    }
    for sql in asked {
        for line in server.text(sql).lines() {
            let (name, kind) = line.split_once('\t').unwrap();
            let text = server.text(&format!("show create {kind} shop.{name}"));
            // A trigger's time, a counter, a charset that a table's collation implies, and the charset of the client that wrote it: ours says all in UTF-8.
            let text: Vec<&str> = text.trim().split('\t').collect();
            let text = match kind {
                "table" | "sequence" => text[1]
                    .replace(" AUTO_INCREMENT=4", "")
                    .replace(" AUTO_INCREMENT=3", "")
                    .replace(" CHARACTER SET latin1 COLLATE", " COLLATE"),
                // Whether names have their database depends on the session that asks.
                "view" => text[1].replace("`shop`.", ""),
                // Behind a routine stands through which target it came (rule 12).
                _ => text[1..3].join("\t").split(" /* rlog origins").next().unwrap_or_default().to_owned(),
            };
            // Indexes in another order are the same indexes.
            let mut lines: Vec<&str> =
                text.split("\\n").flat_map(|line| line.split('\n')).map(|line| line.trim_end_matches(',')).collect();
            if kind == "table" {
                lines.sort_unstable();
            }
            out.push(format!("{kind} {name}\n{}", lines.join("\n")));
        }
    }
    out
}

#[test]
fn indexes_views_routines_and_triggers_go_along() {
    for name in ["mariadb-10.11", "mariadb-11.8", "mysql-9.7"] {
        let builder = || {
            let builder = Server::new(name)
                .log_bin()
                .options(["--binlog-row-metadata=FULL", "--log-bin-trust-function-creators=1"]);
            if name.starts_with("mysql") { builder.gtid() } else { builder }
        };
        let (source, replica) = (builder().start(), builder().start());
        fill(&source);
        let folder = scratch();
        let spool = folder.path().join("spool");
        let script = "rlog-extract $3 --confirm \"$1\" \"$2\" | rlog-queue put \"$1\" && rlog-apply run --from \"$1\" --init empty --create-tables \"$4\"";
        let run = |options: &str, target: &str| {
            let output = shell(script).arg(&spool).arg(source.url("")).args([options, target]).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}: {err}");
            err
        };
        let said = run("--snapshot", &replica.url(""));
        assert!(said.contains("1 events stay behind"), "{name}: {said}");
        assert!(!said.contains("left out"), "{name}: {said}");
        for (wanted, found) in shape(&source).iter().zip(shape(&replica)) {
            assert_eq!(*wanted, found, "{name}");
        }
        assert_eq!(shape(&source).len(), shape(&replica).len(), "{name}");
        // Triggers of the replica must not do again what the log holds.
        source.sql("use shop; call fill_up(3); delete from parent where id = 1");
        if source.is_mariadb() {
            source.sql("insert into shop.numbered (v) values (2); update shop.numbered set v = 3 where v = 1");
        }
        run("--quiet", &replica.url(""));
        let output = shell("rlog-apply compare \"$1\" \"$2\" --tables 'shop.*'")
            .arg(source.url("shop"))
            .arg(replica.url("shop"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        // The replica can be written to: what needs indexes, counters, sequences and triggers works.
        replica.sql("use shop; call fill_up(1); select * from a_first; insert into counted (part, b) values (9, 'z')");
        if replica.is_mariadb() {
            let next = |server: &Server| server.value("select nextval(shop.s)");
            assert!(
                next(&replica).parse::<i64>().unwrap() > 25,
                "{name}: the sequence goes on where the source's stood"
            );
        }

        let file = folder.path().join("replica.db");
        let said = run("--quiet", &format!("sqlite:{}", file.display()));
        assert!(said.contains("view"), "{name}: {said}");
        let lite = rusqlite::Connection::open(&file).unwrap();
        let indexes: i64 = lite
            .query_row("select count(*) from sqlite_schema where type = 'index' and sql like '%INDEX%'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(indexes >= 4, "{name}: {indexes} indexes");
    }
}

/// Empty tables are filled by transactions of many chunks: killed at any moment, applier or server, none is half there and none twice.
#[test]
fn a_load_that_is_killed_goes_on() {
    let source = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    source.sql(
        "create database shop; use shop; create table a (id int primary key, v varchar(200), u int not null, unique key (u)); \
         create table b (id int, v varchar(200)); create table c (id int primary key, v varchar(200)); \
         insert into a select seq, repeat(md5(seq), 6), -seq from seq_1_to_20000; insert into b select seq % 999, repeat(sha1(seq), 5) from seq_1_to_15000; \
         insert into c select seq, repeat(md5(-seq), 6) from seq_1_to_15000",
    );
    let folder = scratch();
    let spool = folder.path().join("spool");
    let taken = shell("rlog-extract -q --snapshot --confirm \"$1\" \"$2\" | rlog-queue put \"$1\"")
        .arg(&spool)
        .arg(source.url(""))
        .output()
        .unwrap();
    assert!(taken.status.success());
    // Also where nothing tells that the tables are like the source's: made before, with a unique key of their own.
    let made = "create database shop; use shop; create table a (id int primary key, v varchar(200), u int not null, unique key (u))";
    for before in ["", made] {
        let mut replica = Server::new("mariadb-11.8").start();
        if !before.is_empty() {
            replica.sql(before);
        }
        let url = replica.url("");
        let apply = || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rlog-apply"));
            command.args(["run", "-q", "--create-tables", &url, "--from"]).arg(&spool);
            command
        };
        for delay_ms in [60, 120, 200, 300, 420] {
            let mut child = apply().spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(delay_ms));
            let _ = child.kill();
            child.wait().unwrap();
            if delay_ms == 300 {
                replica.kill();
                replica.start();
            }
        }
        assert!(apply().status().unwrap().success());
        let checksums = "checksum table shop.a, shop.b, shop.c";
        assert_eq!(replica.text(checksums), source.text(checksums));
        assert_eq!(replica.text("check table shop.a, shop.b, shop.c extended").matches("OK").count(), 3);
    }
}

/// Chunks wait for the others of their transaction: until it has committed the queue must keep them.
#[test]
fn a_chunk_that_waits_for_its_commit_is_not_acknowledged() {
    let source = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    source.sql(
        "create database shop; use shop; create table shop.a (id int primary key, v varchar(1000)); \
         insert into shop.a select seq, repeat('v', 1000) from seq_1_to_20000",
    );
    let replica = Server::new("mariadb-10.11").option("--innodb-flush-log-at-trx-commit=1").start();
    let folder = scratch();
    let spool = folder.path().join("spool");
    // A snapshot that does not come to its end.
    let script = "rlog-extract -q --snapshot \"$2\" | head -c 16000000 | rlog-queue put -q \"$1\"";
    let cut = shell(script).arg(&spool).arg(source.url("")).output().unwrap();
    assert!(!cut.status.success());
    let queue = spool.display().to_string().parse().unwrap();
    let queue = rlog::queue::open(std::sync::Arc::new(rlog::sys::Os), &queue, "default", false).unwrap();
    let units = queue.tail().unwrap().sequence;
    let mut applies = std::process::Command::new(env!("CARGO_BIN_EXE_rlog-apply"))
        .args(["run", "-q", "--follow", "--create-tables", &replica.url(""), "--from"])
        .arg(&spool)
        .spawn()
        .unwrap();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while queue.readers().unwrap().iter().all(|reader| reader.acked.sequence < units) {
        assert!(std::time::Instant::now() < patience && applies.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let there: u32 = replica.value("select count(*) from shop.a").parse().unwrap();
    let commits = replica.text("show global status like 'Com_commit'");
    applies.kill().unwrap();
    applies.wait().unwrap();
    assert!(there > 10_000, "acknowledged, and {there} rows are there");
    // Some thirty chunks, the schema, and what the channel begins with.
    let commits: u32 = commits.split_whitespace().last().unwrap().parse().unwrap();
    assert!(units > 25 && commits < 20, "{commits} commits of {units} units");
}
