//! The queue in a SQLite database: the real programs killed at their N-th system call and at random moments, a disk that is full at
//! every size, and bytes of the database changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rlog::error::Result;
use rlog::queue::{self, Address, Next, ReadFrom, ReadMode};
use rlog::sys::Os;

use super::queue_process::{QUEUE, get, log, run};
use crate::common::streams::{Fold, Seen, Stream, transactions};
use crate::kills;

fn place() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.db");
    let address = format!("sqlite:{}", path.display());
    (folder, path, address)
}

fn put(address: &str) -> Command {
    let mut command = Command::new(QUEUE);
    command.args(["put", "--lock-wait", "60s", address]).env_remove("RLOG_CONFIG");
    command
}

/// Calls at which put is killed, and about how many of them it makes.
const CALLS: [(&str, u64); 7] =
    [("pwrite64", 60), ("fsync", 14), ("fdatasync", 24), ("unlink", 3), ("fcntl", 180), ("openat", 24), ("flock", 1)];

#[test]
fn put_killed_at_any_system_call_loses_and_doubles_nothing() {
    let bytes = log([10, 900, 3000, 0, 2500, 40, 5000, 700]);
    let wanted = transactions(&bytes);
    let mut killed = 0;
    for seed in 0..kills(28, 5) {
        let (folder, path, address) = place();
        let cursor = folder.path().join("cursor");
        let mut acknowledged = 0;
        for round in 0..2u64 {
            // strace counts each kind of call by itself: of several at once, only the most frequent would ever be hit.
            let (call, most) = CALLS[((seed + round * 3) % CALLS.len() as u64) as usize];
            let when = 1 + (seed / CALLS.len() as u64 * 7 + seed * 11 + round * 5) % most;
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.arg("-e").arg(format!("inject={call}:signal=SIGKILL:when={when}"));
            command.arg(QUEUE).args(["put", "--cursor"]).arg(&cursor).arg(&address);
            killed += u64::from(!run(&mut command, &bytes).status.success());
            if let Ok(text) = std::fs::read_to_string(&cursor) {
                let position = text.trim_end().parse::<rlog::frame::Position>().expect("a whole cursor");
                let at = wanted.iter().position(|seen| seen.position == position).expect("a position of the log");
                acknowledged = acknowledged.max(at + 1);
            }
        }
        let there = Command::new(QUEUE).args(["channels", &address]).output().unwrap().stdout == b"default\n";
        let before = if there { get(Path::new(&address)) } else { Vec::new() };
        assert!(wanted.starts_with(&before), "seed {seed}: {before:?}");
        assert!(before.len() >= acknowledged, "seed {seed}: acknowledged {acknowledged}, recovered {}", before.len());
        let output = run(&mut put(&address), &bytes);
        assert!(output.status.success(), "seed {seed}: {output:?}");
        assert_eq!(get(Path::new(&address)), wanted, "seed {seed}");
        let verify = Command::new(QUEUE).args(["verify", &address]).output().unwrap();
        assert!(verify.status.success(), "seed {seed}: {verify:?}");
        drop(path);
    }
    assert!(killed > kills(28, 5) / 2, "only {killed} were killed");
}

/// A unit above what is kept in memory goes ahead in pieces; a writer that is killed meanwhile leaves some of them.
#[test]
fn pieces_of_a_unit_that_never_ended_are_never_seen_and_removed() {
    let (_folder, path, address) = place();
    let mut stream = Stream::new();
    stream.transaction(100).open(12 << 20);
    let half = stream.bytes();
    let mut child = put(&address).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    use std::io::Write as _;
    stdin.write_all(&half).unwrap();
    let one = |sql: &str| -> i64 {
        rusqlite::Connection::open(&path)
            .and_then(|connection| connection.query_row(sql, [], |row| row.get(0)))
            .unwrap_or(0)
    };
    let pieces = "SELECT count(*) FROM rlog_queue_frames f WHERE record > (SELECT record FROM rlog_queue_channel)";
    while one(pieces) < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(get(Path::new(&address)).len(), 1, "the first one is whole, and the pieces are not seen");
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = {
        let mut stream = Stream::new();
        stream.transaction(100).transaction(12 << 20).transaction(5).end()
    };
    assert!(run(&mut put(&address), &bytes).status.success());
    assert_eq!(one(pieces), 0);
    assert!(get(Path::new(&address)) == transactions(&bytes));
}

fn library_get(path: &Path) -> Result<Vec<Seen>> {
    let queue = queue::open(Arc::new(Os), &Address::Sqlite(path.to_owned()), "default", false)?;
    let mut reader = queue.reader(&ReadFrom::Oldest, ReadMode::ONCE)?;
    let mut fold = Fold::default();
    while let Next::Frame(frame) = reader.next()? {
        fold.frame(&frame);
    }
    queue.tail()?;
    Ok(fold.seen)
}

/// Reads all of a changed database. What comes must be everything, or an error; and where a change hit what is read, verify says so.
#[test]
fn flipped_bits_are_noticed_or_harmless_and_found_by_verify() {
    let (folder, path, address) = place();
    let bytes = log([10, 900, 1200, 0, 60, 300, 9000]);
    let wanted = transactions(&bytes);
    // In pieces, so that there are several records.
    assert!(run(&mut put(&address), &bytes).status.success());
    assert_eq!(library_get(&path).unwrap(), wanted);
    let good = std::fs::read(&path).unwrap();
    let copy = folder.path().join("bad.db");
    let (mut noticed, mut found) = (0, 0);
    let step = if kills(0, 100) > 0 { 7 } else { 691 };
    // The last one once hid records behind a page's number of cells: as if they had been purged.
    for bit in (0..good.len() * 8).step_by(step).chain([327_705]) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        for side in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{side}", copy.display()));
        }
        std::fs::write(&copy, &bad).unwrap();
        match library_get(&copy) {
            Ok(seen) => assert_eq!(seen, wanted, "bit {bit}"),
            Err(error) => {
                noticed += 1;
                let status = error.class().exit_status();
                assert!(matches!(status, 65 | 66 | 69 | 73 | 74 | 76 | 78), "bit {bit}: {status} {error}");
                if status == 65
                    && let Ok(queue) = queue::open(Arc::new(Os), &Address::Sqlite(copy.clone()), "default", false)
                {
                    let mut errors = 0;
                    let verified = queue.verify(&mut |_| errors += 1);
                    assert!(errors > 0 || verified.is_err(), "bit {bit}: {error}");
                    found += 1;
                }
            }
        }
    }
    assert!(noticed > 8 && found > 4, "{noticed} {found}");
}

/// On a file system of N kilobytes put ends with 75 or 74, what it has acknowledged is there, and with more room everything is.
#[test]
fn a_full_disk_loses_nothing() {
    if !Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("no user namespaces here: this test has no small disk");
        return;
    }
    let (folder, _, _) = place();
    let stream = folder.path().join("stream");
    let bytes = log([10, 900, 30_000, 0, 60_000, 300]);
    std::fs::write(&stream, &bytes).unwrap();
    let wanted = transactions(&bytes);
    let mut full = 0;
    for kilobytes in (16..900).step_by(52) {
        let out = folder.path().join(format!("out-{kilobytes}"));
        let script = r#"
            mkdir -p "$1/disk" && mount -t tmpfs -o size="$2"k tmpfs "$1/disk" || exit 99
            "$3" put --cursor "$1/cursor" "sqlite:$1/disk/q.db" < "$1/stream"; first=$?
            "$3" get "sqlite:$1/disk/q.db" > "$4.before"
            mount -o remount,size=8192k "$1/disk" || exit 99
            "$3" put "sqlite:$1/disk/q.db" < "$1/stream" || exit 98
            "$3" verify "sqlite:$1/disk/q.db" || exit 97
            "$3" get "sqlite:$1/disk/q.db" > "$4" || exit 96
            exit $first"#;
        let _ = std::fs::remove_file(folder.path().join("cursor"));
        let output = Command::new("unshare")
            .args(["-Urm", "bash", "-c", script, "bash"])
            .arg(folder.path())
            .arg(kilobytes.to_string())
            .arg(QUEUE)
            .arg(&out)
            .output()
            .unwrap();
        let status = output.status.code().unwrap();
        assert!(matches!(status, 0 | 74 | 75), "{kilobytes}: {output:?}");
        full += usize::from(status != 0);
        let before = transactions(&std::fs::read(out.with_extension("before")).unwrap());
        assert!(wanted.starts_with(&before));
        if let Ok(text) = std::fs::read_to_string(folder.path().join("cursor")) {
            let position = text.trim_end().parse::<rlog::frame::Position>().unwrap();
            let acknowledged = wanted.iter().position(|seen| seen.position == position).unwrap() + 1;
            assert!(before.len() >= acknowledged, "{kilobytes}");
        }
        assert_eq!(transactions(&std::fs::read(&out).unwrap()), wanted, "{kilobytes}");
    }
    assert!(full > 3, "the disk was never full");
}

/// Queue and target in one database: what is applied, what is acknowledged and what is removed are one transaction, whenever the applier
/// dies.
#[test]
fn applying_and_removing_from_the_queue_are_one_transaction() {
    const TRANSACTIONS: i32 = 300;
    let stream = super::apply::stream(TRANSACTIONS);
    let kills = kills(20, 3);
    let mut killed = 0;
    let mut dice = crate::Dice(0x1234_5678_9abc_def1);
    while killed < kills {
        let (_folder, path, address) = place();
        // Several records: everything that arrives together is one.
        for end in [stream.len() / 5, stream.len() / 3, stream.len() / 2, stream.len()] {
            let output = run(&mut put(&address), &stream[..end]);
            assert_eq!(output.status.code(), Some(if end == stream.len() { 0 } else { 75 }), "{output:?}");
        }
        loop {
            let batch = ["1", "7", "50"][dice.below(3) as usize];
            let mut child = super::apply::spawn(Path::new(&address), &address, &["--batch", batch]);
            std::thread::sleep(Duration::from_micros(dice.below(120_000)));
            let finished = child.try_wait().unwrap();
            if finished.is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
            }
            agree(&path);
            if let Some(status) = finished {
                assert!(status.success(), "{status}");
                break;
            }
            if killed >= kills {
                assert!(super::apply::spawn(Path::new(&address), &address, &[]).wait().unwrap().success());
                break;
            }
        }
        assert_eq!(super::apply::check(&path), i64::from(TRANSACTIONS));
        let left = "SELECT count(*) FROM rlog_queue_record";
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(connection.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        agree(&path);
    }
}

/// In a file of its own and in the target's: a writer, an applier and a reader at once, each killed.
#[test]
fn put_apply_get_and_ack_at_once_lose_and_double_nothing_whoever_is_killed() {
    let mut dice = crate::Dice::seeded();
    let mut campaign = crate::Campaign::new("all of a queue in SQLite", kills(24, 4));
    let folder = tempfile::tempdir().unwrap();
    let mut round = |number: u64| {
        let file = |what: &str| folder.path().join(format!("{what}{number}.db"));
        let queue = file("q");
        let target = if number % 2 == 1 { queue.clone() } else { file("t") };
        let address = format!("sqlite:{}", queue.display());
        super::together::Place { address, target, folder: folder.path().to_owned() }
    };
    super::together::run(&mut campaign, &mut dice, 200, &mut round, &mut |_| {});
}

/// What the target holds is what the queue was told, and nothing that every reader has is kept.
fn agree(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap_or_default();
    let applied = text("SELECT position FROM rlog_applied WHERE position <> '' ORDER BY end_at DESC LIMIT 1");
    let applied_end = text("SELECT max(end_at) || '' FROM rlog_applied");
    let acked = text("SELECT position FROM rlog_queue_reader");
    if applied_end.is_empty() {
        assert_eq!(acked, "", "acknowledged, and nothing is applied");
        return;
    }
    let acked: rlog::frame::Position = acked.parse().expect("what is applied is acknowledged");
    assert_eq!(acked.end.0.to_string(), applied_end, "{applied} is applied, {acked} acknowledged");
    let kept =
        "SELECT count(*) || '' FROM rlog_queue_record WHERE last_sequence <= (SELECT sequence FROM rlog_queue_reader)";
    assert_eq!(text(kept), "0");
}
