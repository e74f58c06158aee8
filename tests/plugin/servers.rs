//! Several workers into MariaDB: what comes from which thread, in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{Place, c, mask, probe};
use crate::common::{Server, rlog, shell};

/// Two tables' worth of transactions that do not depend on each other, as a server has logged them.
fn logged() -> (Server, usize) {
    let source = Server::new("mariadb-10.11").log_bin().option("--binlog-row-metadata=FULL").start();
    source.sql("create database shop; create table shop.t (id int primary key, v varchar(100))");
    let mut text = String::from("use shop;");
    for id in 0..400 {
        text += &format!("insert into t values ({id}, 'v{id}');");
    }
    source.sql(&text);
    source.flush_logs();
    (source, 400)
}

fn apply(place: &Place, source: &Server, target: &Server, options: &[&str]) -> (i32, String) {
    let stream = rlog("rlog-extract").args(source.logs()).output().unwrap();
    assert!(stream.status.success(), "{}", String::from_utf8_lossy(&stream.stderr));
    let output = rlog("rlog-apply")
        .current_dir(place.path(""))
        .args(["run", "--init", "empty", "--workers", "4", "--batch", "5"])
        .args(options)
        .arg(target.url(""))
        .write_stdin(stream.stdout)
        .env("PROBE_SLOW", "1")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn with_several_workers_each_attempt_stays_on_one_thread_and_commits_come_in_order() {
    let (source, count) = logged();
    for (plugin, serial) in [(probe(), false), (c("serial", "tests/plugin/probe.c", &["-DPROBE_FLAGS=1"]), true)] {
        let target = Server::new("mariadb-10.11").start();
        let place = Place::new();
        let option = format!("--plugin={}:log={};", plugin.display(), place.show("log"));
        let (status, text) = apply(&place, &source, &target, &[&option]);
        assert_eq!(status, 0, "{text}");
        assert_eq!(target.text("select count(*), count(distinct id) from shop.t"), format!("{count}\t{count}\n"));
        let heard = place.heard();
        let threads: BTreeSet<u64> =
            heard.iter().filter(|(_, line)| line.starts_with("after")).map(|(thread, _)| *thread).collect();
        assert!(threads.len() > 1, "one thread did it all");
        // The main thread alone hears of the channel.
        let main = heard.iter().find(|(_, line)| line.starts_with("start")).unwrap().0;
        assert!(heard.iter().filter(|(_, line)| line.starts_with("stop ")).all(|(thread, _)| *thread == main));
        // Of each transaction: begin … end on one thread, begun anew after each rollback, committed once.
        let mut open: BTreeMap<String, u64> = BTreeMap::new();
        let mut committed = Vec::new();
        for (thread, line) in &heard {
            let mut words = line.split(' ');
            let (kind, id) = (words.next().unwrap(), words.next().unwrap_or_default().to_owned());
            match kind {
                "begin" => assert!(open.insert(id, *thread).is_none(), "begun twice: {line}"),
                "commit" => {
                    assert_eq!(open.remove(&id), Some(*thread), "{line}");
                    committed.push(id.parse::<u64>().unwrap());
                }
                "rollback" => assert_eq!(open.remove(&id), Some(*thread), "{line}"),
                "start" | "stop" | "stopped" | "error" => {}
                _ => assert_eq!(open.get(&id), Some(thread), "{line}"),
            }
        }
        assert!(open.is_empty());
        assert!(committed.windows(2).all(|pair| pair[0] < pair[1]), "commits are heard of in the source's order");
        assert!(committed.len() >= count);
        let most = heard.last().unwrap().1.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
        assert_eq!(most > 1, !serial, "at most {most} functions were at work at once");
    }
}

#[test]
fn a_veto_with_several_workers_keeps_all_before_it_and_nothing_behind() {
    let (source, count) = logged();
    let target = Server::new("mariadb-10.11").start();
    let place = Place::new();
    // Each attempt is refused: with workers, for the batch by one session, and alone.
    let plugin = c("refuse", "tests/plugin/refuse.c", &[]);
    let listener = format!("--plugin={}:log={};", probe().display(), place.show("log"));
    let (status, text) = apply(&place, &source, &target, &[&listener, &format!("--plugin={}:200", plugin.display())]);
    assert_eq!(status, 80, "{text}");
    // What went wrong in a worker is told by the main thread, and then the end.
    let heard = place.heard();
    let told: Vec<&str> = heard.iter().rev().skip(1).take(2).map(|(_, line)| line.split(' ').next().unwrap()).collect();
    assert_eq!(told, ["stop", "error"]);
    assert!(
        heard.iter().rev().skip(1).take(2).all(|(thread, _)| *thread == heard[0].0 && heard[0].1.starts_with("start"))
    );
    assert!(text.contains("plug-in refuse refuses transaction") && text.contains("row 200"), "{text}");
    assert_eq!(target.text("select count(*), max(id) from shop.t"), "200\t199\n");
    let (status, text) = apply(&place, &source, &target, &[]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(target.text("select count(*), count(distinct id) from shop.t"), format!("{count}\t{count}\n"));
}

#[test]
fn a_process_is_fed_by_several_workers() {
    let (source, count) = logged();
    let target = Server::new("mariadb-10.11").start();
    let place = Place::new();
    let (status, text) = apply(&place, &source, &target, &["--exec", "cat > lines"]);
    assert_eq!(status, 0, "{text}");
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    let mut committed = 0;
    for line in std::fs::read_to_string(place.path("lines")).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let txid = line["txid"].as_str().unwrap_or_default().to_owned();
        match line["kind"].as_str().unwrap() {
            "begin" | "discard" => drop(rows.insert(txid, 0)),
            "row" => *rows.get_mut(&txid).unwrap() += 1,
            "commit" => committed += rows[&txid],
            _ => {}
        }
    }
    assert_eq!(committed, count);
}

#[test]
fn a_snapshot_of_a_server_and_its_log_are_masked_alike() {
    let (source, count) = logged();
    let place = Place::new();
    let plugin = format!("--plugin={}:key=k,shop.t.v", mask().display());
    let rows = || {
        let script = "rlog-extract -q --snapshot --confirm spool \"$1\" \"$2\" | rlog-queue put spool \
                      && rlog-apply run -q --from spool --init empty --create-tables sqlite:t.db";
        let ran = shell(script).args([&plugin, &source.url("")]).current_dir(place.path("")).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        place.query("select v from t order by id")
    };
    let loaded = rows();
    assert!(loaded.len() == count && loaded.iter().all(|v| v.len() == 16 && !v.starts_with('v')), "{:?}", &loaded[..3]);
    // The value of row 7, in another row and from the log.
    source.sql("insert into shop.t values (1000, 'v7')");
    let more = rows();
    assert_eq!((more.len(), &more[count]), (count + 1, &loaded[7]));
}
