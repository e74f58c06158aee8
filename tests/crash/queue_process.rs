//! The real `rlog-queue`, killed at its N-th system call, run fifty times at once, stopped and revived, and with bytes
//! of its files changed.
//!
//! The kills come from strace (`-e inject=…:signal=SIGKILL:when=N`), since nothing else sees the system calls of rustix.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rlog::frame::FrameReader;
use rlog::queue::{Next, ReadFrom, ReadMode, Reader};

use crate::common::streams::{Seen, Stream, transactions};
use crate::{Campaign, Dice, kills};

pub const QUEUE: &str = env!("CARGO_BIN_EXE_rlog-queue");

/// The system calls at which it is killed.
const CALLS: &str = "openat,pwrite64,fdatasync,fsync,renameat,renameat2,unlinkat,ftruncate,mkdirat,flock,read";

pub fn log(sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut stream = Stream::new();
    for size in sizes {
        stream.transaction(size);
    }
    stream.end()
}

/// Runs a command on `input`; its pipe may be closed early.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // In pieces, so that there are several syncs.
            for piece in input.chunks(1500) {
                if stdin.write_all(piece).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
        child.wait_with_output().unwrap()
    })
}

fn put(spool: &Path) -> Command {
    let mut command = Command::new(QUEUE);
    command.args(["put", "--segment-size", "4K", "--lock-wait", "60s"]).arg(spool).env_remove("RLOG_CONFIG");
    command
}

pub fn get(spool: &Path) -> Vec<Seen> {
    let output = Command::new(QUEUE).arg("get").arg(spool).output().unwrap();
    assert!(output.status.code() == Some(0) || output.stdout.is_empty(), "{output:?}");
    transactions(&output.stdout)
}

fn spool() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    (folder, path)
}

#[test]
fn put_killed_at_any_system_call_loses_and_doubles_nothing() {
    if Command::new("strace").arg("-V").output().is_err() {
        panic!("strace is missing: apt-get install strace");
    }
    const KILLS_PER_QUEUE: u64 = 5;
    let bytes = log([10, 900, 3000, 0, 2500, 40, 5000, 700]);
    let wanted = transactions(&bytes);
    let mut dice = Dice::seeded();
    let mut campaign = Campaign::new("rlog-queue put", kills(40, 40));
    let mut round = 0;
    // So many calls a put makes at most, as far as is known: how many depends on how many syncs one batch saves another.
    let mut calls = 160;
    while campaign.goes_on() {
        round += 1;
        let (_folder, spool) = spool();
        let cursor = spool.with_extension("cursor");
        let mut acknowledged = 0;
        // Several times, so that recovery is killed as well, and the recovery of what that left.
        for attempt in 0..KILLS_PER_QUEUE {
            let when = 1 + dice.below(calls);
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", &format!("trace={CALLS}")]);
            command.arg("-e").arg(format!("inject={CALLS}:signal=SIGKILL:when={when}"));
            command.arg(QUEUE).args(["put", "--segment-size", "4K", "--cursor"]).arg(&cursor).arg(&spool);
            let output = run(&mut command, &bytes);
            if let Ok(text) = std::fs::read_to_string(&cursor) {
                let position = text.trim_end().parse::<rlog::frame::Position>().expect("a whole cursor");
                let place = wanted.iter().position(|seen| seen.position == position).expect("a position of the log");
                acknowledged = acknowledged.max(place + 1);
            }
            let held = if spool.join("default/writer").exists() { library_read(&spool).unwrap() } else { Vec::new() };
            assert!(wanted.starts_with(&held), "round {round}: {held:?}");
            assert!(held.len() >= acknowledged, "round {round}: acknowledged {acknowledged}, recovered {}", held.len());
            if output.status.success() {
                if attempt == 0 {
                    calls = calls.min(when + 8);
                }
                break;
            }
            campaign.killed();
        }
        let output = run(&mut put(&spool), &bytes);
        assert!(output.status.success(), "round {round}: {output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(get(&spool), wanted, "round {round}");
        let verify = Command::new(QUEUE).arg("verify").arg(&spool).output().unwrap();
        assert!(verify.status.success(), "round {round}: {verify:?}");
    }
    campaign.report();
}

#[test]
fn fifty_overlapping_puts_of_the_same_log_are_one() {
    let bytes = log((0..60).map(|n| n * 13));
    let (_folder, spool) = spool();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..50)
            .map(|n| {
                let (bytes, spool) = (&bytes, &spool);
                scope.spawn(move || {
                    let mut command = put(spool);
                    // Some do not wait for the lock, as cron lines do not.
                    if n % 5 == 0 {
                        command.args(["--lock-wait", "0"]);
                    }
                    run(&mut command, bytes)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for output in &outputs {
        assert!(matches!(output.status.code(), Some(0 | 75)), "{output:?}");
    }
    assert!(outputs.iter().filter(|output| output.status.success()).count() >= 40);
    assert_eq!(get(&spool), transactions(&bytes));
}

#[test]
fn sigterm_ends_put_cleanly_with_what_has_arrived() {
    let (_folder, spool) = spool();
    let mut stream = Stream::new();
    stream.transaction(100).transaction(200);
    let bytes = stream.bytes();
    let mut child = put(&spool).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes).unwrap();
    // It has arrived once it can be read.
    while !spool.join("default/writer").exists() || get(&spool).len() < 2 {
        std::thread::yield_now();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(get(&spool).len(), 2);
    let writer = std::fs::read_to_string(spool.join("default/writer")).unwrap();
    assert!(writer.contains("clean=1"), "{writer}");
}

/// A queue of several segments, the last of them closed.
fn filled() -> (tempfile::TempDir, PathBuf, Vec<Seen>) {
    let bytes = log([10, 900, 1200, 0, 60, 300]);
    let (folder, spool) = spool();
    let mut command = put(&spool);
    command.args(["--segment-size", "1K"]);
    assert!(run(&mut command, &bytes).status.success());
    (folder, spool, transactions(&bytes))
}

/// What a reader sees, and what `last` says, which repairs what a killed writer left.
fn library_get(spool: &Path) -> rlog::error::Result<Vec<Seen>> {
    let seen = library_read(spool)?;
    open(spool)?.tail()?;
    Ok(seen)
}

fn open(spool: &Path) -> rlog::error::Result<Box<dyn rlog::queue::Queue>> {
    use rlog::queue::{self, Address};
    queue::open(std::sync::Arc::new(rlog::sys::Os), &Address::Dir(spool.to_owned()), "default", false)
}

/// What a reader sees; nothing is repaired.
fn library_read(spool: &Path) -> rlog::error::Result<Vec<Seen>> {
    let queue = open(spool)?;
    let mut reader = queue.reader(&ReadFrom::Oldest, ReadMode::ONCE)?;
    units(&mut *reader)
}

fn units(reader: &mut dyn Reader) -> rlog::error::Result<Vec<Seen>> {
    let mut fold = crate::common::streams::Fold::default();
    while let Next::Frame(frame) = reader.next()? {
        fold.frame(&frame);
    }
    Ok(fold.seen)
}

/// Changes the files of a queue one way after another; each must be noticed or harmless.
fn rot(change: impl Fn(&mut Vec<u8>, usize) -> bool) {
    let (_folder, spool, wanted) = filled();
    let mut names: Vec<PathBuf> = std::fs::read_dir(spool.join("default"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    names.sort();
    assert!(names.len() > 4, "{names:?}");
    let mut noticed = 0;
    for name in names {
        let good = std::fs::read(&name).unwrap();
        for step in 0.. {
            let mut bad = good.clone();
            if !change(&mut bad, step) {
                break;
            }
            if bad == good {
                continue;
            }
            std::fs::write(&name, &bad).unwrap();
            match library_get(&spool) {
                Ok(seen) => assert_eq!(seen, wanted, "{} step {step}", name.display()),
                Err(error) => {
                    noticed += 1;
                    let status = error.class().exit_status();
                    assert!(matches!(status, 65 | 76), "{error}");
                }
            }
        }
        std::fs::write(&name, &good).unwrap();
        assert_eq!(library_get(&spool).unwrap(), wanted, "reading changed something");
    }
    assert!(noticed > 3);
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    rot(|bytes, step| {
        let bit = step * 3;
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        bit / 8 < bytes.len()
    });
}

#[test]
fn every_truncation_is_noticed_or_harmless() {
    rot(|bytes, step| {
        let more = step < bytes.len();
        bytes.truncate(step);
        more
    });
}

#[test]
fn zeroed_doubled_and_exchanged_sectors_are_noticed_or_harmless() {
    for kind in 0..3 {
        rot(|bytes, step| {
            let (at, length) = (step * 64, bytes.len());
            if at + 128 > length {
                return false;
            }
            match kind {
                0 => bytes[at..at + 64].fill(0),
                1 => bytes.copy_within(at..at + 64, at + 64),
                _ => {
                    let (left, right) = bytes[at..at + 128].split_at_mut(64);
                    left.swap_with_slice(right);
                }
            }
            true
        });
    }
}

#[test]
fn a_missing_segment_or_state_file_is_never_a_fresh_start() {
    let (_folder, spool, wanted) = filled();
    for entry in std::fs::read_dir(spool.join("default")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let good = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = library_get(&spool).expect_err(&path.display().to_string());
        assert_eq!(error.class().exit_status(), 65, "{error}");
        assert!(error.hint_text().is_some());
        let put = run(&mut put(&spool), &log([10, 900]));
        assert_eq!(put.status.code(), Some(65), "{}: {put:?}", path.display());
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(library_get(&spool).unwrap(), wanted);
}

#[test]
fn a_write_cut_short_is_set_aside_and_damage_in_the_middle_is_refused_untouched() {
    let (_folder, spool, wanted) = filled();
    let last = std::fs::read_dir(spool.join("default"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rlog"))
        .max()
        .unwrap();
    // What a killed writer leaves: the state says unclean, and half a frame stands at the end.
    let good = std::fs::read(&last).unwrap();
    std::fs::write(&last, [&good[..], &good[..40], b"half a frame"].concat()).unwrap();
    assert_eq!(library_get(&spool).unwrap(), wanted);
    let mut more = Stream::at(wanted.last().unwrap().position.end);
    assert!(run(&mut put(&spool), &more.transaction(10).end()).status.success());
    let broken = PathBuf::from(format!("{}.broken", last.display()));
    assert!(std::fs::read(&broken).unwrap().ends_with(b"half a frame"));
    assert_eq!(std::fs::read(&last).unwrap(), good);
    // Damage below what is vouched for.
    let first = spool.join("default/0000000000000001.rlog");
    let mut bad = std::fs::read(&first).unwrap();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&first, &bad).unwrap();
    let error = library_get(&spool).unwrap_err();
    assert_eq!(error.class().exit_status(), 65);
    assert!(
        error.place().unwrap().at.is_some() && error.place().unwrap().name.ends_with("0000000000000001.rlog"),
        "{error}"
    );
    assert_eq!(std::fs::read(&first).unwrap(), bad);
}

/// A writer that dies before its first unit is whole leaves a first segment without units. It is purged as soon as there is a next one;
/// what the queue holds still begins with the first unit.
#[test]
fn a_first_segment_without_units_is_purged_and_nothing_is_missing_behind_it() {
    let (_folder, spool) = spool();
    let whole = log([3000; 12]);
    let first = spool.join("default/0000000000000001.rlog");
    let mut child = put(&spool).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&whole[..1500]).and_then(|()| stdin.flush()).unwrap();
    let begun = std::time::Instant::now();
    while !first.exists() && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // No byte behind the segment's head had reached the disk.
    let written = std::fs::read(&first).unwrap();
    let head = FrameReader::new(&written[..]).next().unwrap().unwrap().total_len();
    std::fs::write(&first, &written[..head]).unwrap();
    assert!(run(&mut put(&spool), &[]).status.code().is_some());
    let queue = open(&spool).unwrap();
    queue.register("target").unwrap();
    assert!(run(&mut put(&spool), &whole).status.success());
    queue.purge(false).unwrap();
    assert!(!first.exists(), "{:?}", std::fs::read_dir(spool.join("default")).unwrap().collect::<Vec<_>>());
    let all = get(&spool);
    assert_eq!(all.len(), 12);
    for (at, seen) in all.iter().enumerate() {
        for from in [ReadFrom::After(seen.position.clone()), ReadFrom::AfterCoordinate(seen.position.end)] {
            let mut reader = queue.reader(&from, ReadMode::ONCE).unwrap();
            assert_eq!(units(&mut *reader).unwrap(), all[at + 1..], "{from:?}");
        }
    }
}

#[test]
fn symbolic_links_in_the_spool_are_not_followed() {
    let (folder, spool, _) = filled();
    let outside = folder.path().join("outside");
    std::fs::rename(spool.join("default"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, spool.join("default")).unwrap();
    assert!(library_get(&spool).is_err());
    std::fs::remove_file(spool.join("default")).unwrap();
    std::fs::rename(&outside, spool.join("default")).unwrap();
    let segment = spool.join("default/0000000000000001.rlog");
    std::fs::rename(&segment, folder.path().join("segment")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("segment"), &segment).unwrap();
    assert!(library_get(&spool).is_err());
}

#[test]
fn nobody_else_may_look_into_a_queue() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, spool, _) = filled();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(&spool.join("default")), 0o700);
    for entry in std::fs::read_dir(spool.join("default")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

/// The epoch: a writer that was stopped while another took its place acknowledges nothing more.
#[test]
fn a_stale_writer_is_fenced() {
    use rlog::queue::{self, Address, WriterOptions};
    let (_folder, spool) = spool();
    let open =
        || queue::open(std::sync::Arc::new(rlog::sys::Os), &Address::Dir(spool.clone()), "default", true).unwrap();
    let mut stream = Stream::new();
    let mut first = stream.transaction(10).bytes();
    let mut stale = open().writer(&WriterOptions::default()).unwrap();
    stale.append(&mut first).unwrap();
    let mut tail = stale.tail().clone();
    tail.sequence = 1;
    stale.boundary(&tail).unwrap();
    stale.sync().unwrap();
    // Its lock is lost, as on a network file system, or by an administrator's hand.
    std::fs::remove_file(spool.join("default.lock")).unwrap();
    let output = run(&mut put(&spool), &Stream::at(stream.at).transaction(20).end());
    assert!(output.status.success(), "{output:?}");
    let mut late = Stream::at(stream.at).transaction(99).bytes();
    let refused = stale.append(&mut late).and_then(|()| stale.boundary(&tail)).and_then(|()| stale.sync());
    assert_eq!(refused.unwrap_err().class(), rlog::error::Class::TryAgain);
    assert_eq!(get(&spool).iter().map(|seen| seen.data.len()).collect::<Vec<_>>(), [10, 20]);
}
