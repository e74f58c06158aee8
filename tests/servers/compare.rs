//! `rlog-apply compare` between engines, and at a position that both have reached.

use std::process::{Command, Stdio};

use crate::common::{Server, Types, rlog, scratch};
use crate::mysql_apply::{DURABLE, fill, run};

fn compare(options: &[&str], source: &str, target: &str) -> (i32, String) {
    let output = rlog("rlog-apply").arg("compare").args(options).args([source, target]).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// Every type and keys of many kinds, through the pipeline into SQLite and into a server, compared value by value each way.
fn every_type(name: &str) {
    let builder = Server::new(name).log_bin().option("--binlog-row-metadata=FULL");
    let source = builder.start();
    let types = Types::of(&source);
    types.create(&source, "shop");
    types.load(&source, "shop");
    // Rows enough for one of each column.
    let names: Vec<String> = types.columns.iter().map(|column| format!("`{}`", column.name)).collect();
    let names = names.join(",");
    source.sql("set sql_mode=''");
    for copy in 0..types.columns.len() {
        let sql = format!("insert into shop.types (id, {names}) select {}, {names} from shop.types", 1000 + copy);
        source.sql(&format!("{sql} where id < 1000 order by id limit {}, 1", copy % 4));
    }
    source.sql(
        "use shop;
         create table names (name varchar(20) character set utf8mb4 primary key, n int);
         insert into names values ('b', 1), ('A', 2), ('a b', 3), ('é', 4), ('Z', 5), ('😀', 6), ('', 7);
         create table pairs (d date, n bigint unsigned, b varbinary(8), primary key (d, n, b));
         insert into pairs values ('2024-01-02', 18446744073709551615, x'ff00'), ('2024-01-02', 9223372036854775807, ''), ('2024-01-02', 9223372036854775808, 'x'), ('1000-01-01', 0, '');
         create table e (e enum('z', 'y', 'x') primary key, dec1 decimal(12,3), f float, r double);
         insert into e values ('z', -0.5, -0.0, 1e100), ('x', 123456789.125, 0.1, -0.0);
         create table nokey (a int, t time(3)); insert into nokey values (1, '-00:00:01.5'), (1, '-00:00:01.5'), (null, null);
         create table times (t time(2) primary key); insert into times values ('-10:00:00.25'), ('00:00:00'), ('100:00:00')",
    );
    let dir = scratch();
    let queue = dir.path().join("q");
    fill(&source, &queue);
    let path = dir.path().join("t.db");
    let sqlite = format!("sqlite:{}", path.display());
    let (status, text) = run(&queue, &sqlite, &["--init", "empty", "-q"]);
    assert_eq!((status, text.as_str()), (0, ""));
    let target = Server::new(name).options(DURABLE).start();
    assert_eq!(run(&queue, &target.socket_url(""), &["--init", "empty", "-q"]), (0, String::new()));
    let (from, to) = (source.socket_url("shop"), target.socket_url("shop"));
    for (source, target) in [(&from, &to), (&from, &sqlite), (&sqlite, &from), (&sqlite, &to)] {
        assert_eq!(compare(&["-q"], source, target), (0, String::new()), "{source} {target}");
    }
    // One value of each column, in a row of its own, is seen.
    let mut changed: Vec<String> = Vec::new();
    target.sql("set sql_mode=''");
    for column in &types.columns {
        let name = &column.name;
        let ids = target.rows(&format!("select id from shop.types where `{name}` is not null order by id"));
        let mut ids = ids.into_iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap());
        let Some(id) = ids.find(|id| !changed.contains(id)) else { continue };
        // What admits no NULL keeps what it has.
        if target.try_sql(&format!("update shop.types set `{name}`=null where id={id}")).is_ok()
            && target.value(&format!("select `{name}` is null from shop.types where id={id}")) == "1"
        {
            changed.push(id);
        }
    }
    assert!(changed.len() > 20, "{changed:?}");
    for source in [&from, &sqlite] {
        let (status, text) = compare(&["--tables", "types", "--json", "--ranges", "1000"], source, &to);
        assert_eq!(status, 80, "{text}");
        let table: serde_json::Value = text.lines().find(|line| line.contains("\"table\"")).unwrap().parse().unwrap();
        assert_eq!(table["different_rows"], changed.len(), "{changed:?} {text}");
    }
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "update names set n=0 where name='a b'; delete from names where name='😀'; insert into names values ('zz', 1);
         delete from pairs where typeof(n)='blob' and b=x'78'; update e set f=f+1e-3 where e='x'",
    )
    .unwrap();
    let (status, text) = compare(&["-q"], &from, &sqlite);
    assert_eq!(status, 80, "{text}");
    for part in [
        "different: name=a b",
        "missing: name=😀",
        "extra: name=zz",
        "missing: d=2024-01-02, n=9223372036854775808, b=x",
        "different: e=x",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn every_type_of_mariadb_is_equal_in_sqlite_and_in_mariadb() {
    every_type("mariadb-10.11");
}

#[test]
fn every_type_of_mysql_is_equal_in_sqlite_and_in_mysql() {
    every_type("mysql-9.7");
}

/// The source works on, the applier follows, and the comparison finds a moment at which they are equal; a row that was changed
/// by hand is found among all that are on their way.
#[test]
fn servers_at_work_are_compared_at_a_common_position() {
    let source = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    let target = Server::new("mariadb-10.11").options(DURABLE).start();
    source.sql("create database shop; use shop; create table t (id int primary key, v int); insert into t select seq, 0 from seq_1_to_2000");
    let log = source.logs().remove(0);
    let mut extract = Command::new(rlog("rlog-extract").get_program())
        .args(["--follow", "--confirm", "none"])
        .arg(&log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut apply = Command::new(rlog("rlog-apply").get_program())
        .args(["run", "--follow", "--init", "empty", "-q"])
        .arg(target.socket_url(""))
        .stdin(extract.stdout.take().unwrap())
        .spawn()
        .unwrap();
    let (from, to) = (source.socket_url("shop"), target.socket_url("shop"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use mysql::prelude::Queryable as _;
            let mut conn = source.connect();
            for number in 0u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                conn.query_drop(format!("update shop.t set v=v+1 where id={}", number * 7919 % 2000 + 1)).unwrap();
            }
        });
        let looks = ["--channel", "default", "--looks", "10", "--timeout", "20", "-q"];
        // A scope waits for its threads: also when something fails here.
        struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let stop = Stop(&stop);
        while target.value("select count(*) from information_schema.tables where table_schema='shop'") == "0" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let equal = compare(&looks, &from, &to);
        target.sql("insert into shop.t values (5000, 0)");
        let differs = compare(&looks, &from, &to);
        drop(stop);
        assert_eq!(equal, (0, String::new()));
        assert!(differs.0 == 80 && differs.1.contains("extra: id=5000\n"), "{differs:?}");
        assert_eq!(differs.1.lines().count(), 3, "{differs:?}");
    });
    for child in [&mut extract, &mut apply] {
        let _ = child.kill();
        let _ = child.wait();
    }
    // Nobody is at work any more, and the source goes on.
    source.sql("update shop.t set v=-1 where id=1");
    assert_eq!(compare(&["--channel", "default", "--timeout", "0.2"], &from, &to).0, 75);
}
