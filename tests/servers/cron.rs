//! The lines of examples/cron, run as cron would run them: a shell, no terminal, output is mail.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Server, repository, rlog, scratch, shell};

/// The commands of examples/cron in order: files, server, apply. Their places are those of this test.
fn lines(server: &Server, spool: &Path, target: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("examples/cron")).unwrap();
    let commands = text.lines().filter(|line| line.contains(" rlog ")); // the other line, of an application, is tested with SQLite
    // Five fields of time and the user stand before the command.
    let commands = commands.map(|line| line.splitn(7, ' ').nth(6).unwrap().to_owned());
    let spool = spool.display().to_string();
    commands
        .map(|line| {
            line.replace("/var/spool/rlog/db1", &spool)
                .replace("/var/spool/rlog/db2", &spool)
                .replace("/var/log/mysql/mysql-bin.0000*", &format!("{}/bin.0000*", server.data().display()))
                .replace("mysql://repl@db2.example.org", &format!("'{}'", server.socket_url("")))
                .replace("/var/lib/rlog/replica.db", &target.display().to_string())
        })
        .inspect(|line| assert!(!line.contains("/var/") && !line.contains("example.org"), "{line}"))
        .collect()
}

/// The path that has the built programs, as cron's PATH has the installed ones.
fn silently(line: &str) {
    shell(line).assert().success().stdout("").stderr("");
}

fn server() -> Server {
    let server = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    server.sql("create database shop; flush binary logs");
    server.purge_logs("bin.000002");
    server.sql("create table shop.t (id int primary key, word varchar(20)); insert into shop.t values (1, 'one')");
    server
}

fn held(target: &Path) -> i64 {
    let database = rusqlite::Connection::open(target).unwrap();
    database.query_row("select count(*) from t", [], |row| row.get(0)).unwrap()
}

#[test]
fn cron_lines_are_silent_and_go_on_where_they_stood() {
    let (server, folder) = (server(), scratch());
    let (spool, target) = (folder.path().join("spool"), folder.path().join("replica.db"));
    let [files, live, apply] = <[String; 3]>::try_from(lines(&server, &spool, &target)).unwrap();
    for line in [&files, &apply, &files, &apply] {
        silently(line); // the second time there is nothing to do
    }
    assert_eq!(held(&target), 1);
    server.sql("insert into shop.t values (2, 'two')");
    // The same source by its address: one source, one chain.
    for line in [&live, &apply, &live, &apply] {
        silently(line);
    }
    assert_eq!(held(&target), 2);
}

#[test]
fn overlapping_cron_lines_do_everything_once() {
    let (server, folder) = (server(), scratch());
    let (spool, target) = (folder.path().join("spool"), folder.path().join("replica.db"));
    let lines = lines(&server, &spool, &target);
    silently(&lines[0]);
    server.sql("insert into shop.t select seq, 'many' from shop.seq_2_to_500");
    std::thread::scope(|scope| {
        for number in 0..12 {
            let line = &lines[number % 3];
            // Two live readers have one server id, and the server keeps the later one: the other says so, and leaves with 75.
            scope.spawn(move || match number % 3 {
                1 => drop(shell(line).assert().success().stdout("")),
                _ => silently(line),
            });
        }
    });
    silently(&lines[0]);
    silently(&lines[2]);
    assert_eq!(held(&target), 500);
    rlog("rlog-queue").arg("verify").arg(&spool).assert().success();
}

#[test]
fn a_source_that_is_away_is_tried_again_and_another_mistake_is_told() {
    let (mut server, folder) = (server(), scratch());
    let (spool, target) = (folder.path().join("spool"), folder.path().join("replica.db"));
    let lines = lines(&server, &spool, &target);
    silently(&lines[1]);
    server.sql("insert into shop.t values (2, 'two')");
    server.stop();
    // Away: cron sees success, and the line on standard error says why nothing came.
    let said = shell(&lines[1]).assert().success().stdout("").get_output().stderr.clone();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.starts_with("rlog-extract: ") && said.contains(&*server.socket().to_string_lossy()), "{said}");
    server.start();
    silently(&lines[1]);
    silently(&lines[2]);
    assert_eq!(held(&target), 2);
    // Not away, but gone for ever: a person has to know. (Nothing is purged that a connection still reads, so these are ended first.)
    server.stop();
    server.start();
    server.sql("flush binary logs; insert into shop.t values (3, 'three'); flush binary logs; insert into shop.t values (4, 'four')");
    let (last, _) = server.log_position();
    server.purge_logs(&last);
    let gone = shell(&lines[1]).assert().failure().stdout("");
    let said = String::from_utf8_lossy(&gone.get_output().stderr).into_owned();
    assert!(said.contains("rlog-extract: "), "{said}");
}

/// The queue lies on a file system of 512 KiB: what does not fit waits for the next run, and what is acknowledged stays.
#[test]
fn a_full_disk_is_tried_again() {
    let (server, folder) = (server(), scratch());
    let (disk, target) = (folder.path().join("disk"), folder.path().join("replica.db"));
    std::fs::create_dir(&disk).unwrap();
    let spool = disk.join("spool");
    let lines = lines(&server, &spool, &target);
    server.sql("create table shop.big (id int primary key, t longtext)");
    for id in 0..8 {
        server.sql(&format!("insert into shop.big values ({id}, repeat('x', 100000))"));
    }
    // A file system of its own, seen by these processes alone.
    let script = format!(
        "mount -t tmpfs -o size=512k tmpfs {disk}\n({put})\necho first $?\nmount -o remount,size=8m {disk}\n({put})\necho second $?\n({apply})\necho third $?\n",
        disk = disk.display(),
        put = lines[0],
        apply = lines[2],
    );
    let programs = Path::new(env!("CARGO_BIN_EXE_rlog-queue")).parent().unwrap().display().to_string();
    let output = Command::new("unshare")
        .args(["-Urm", "bash", "-uo", "pipefail", "-c", &script])
        .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(told, "first 0\nsecond 0\nthird 0\n", "{said}");
    assert!(said.contains("rlog-queue: "), "the first run has to say that the disk is full: {said}");
    let database = rusqlite::Connection::open(&target).unwrap();
    let count: i64 = database.query_row("select count(*) from big", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 8);
}
