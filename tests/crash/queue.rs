//! The queue on a simulated disk: power cut and kill between any two calls, again during recovery, an error at every
//! call, a full disk at every byte. Planted bugs show that these tests can fail.
//!
//! The oracle everywhere: acknowledged <= recovered <= submitted, byte-exact, in order, once; and after the same
//! command again, everything.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rlog::error::{Class, Error, Result};
use rlog::frame::{Coordinate, Position};
use rlog::queue::intake::{Intake, Options};
use rlog::queue::{self, Address, Mark, Next, Queue, ReadFrom, ReadMode, Tail, Writer, WriterOptions};
use rlog::sys::sim::{Choose, Every, Fault, Plant, Seeded, SimDisk};
use rlog::sys::{Vfs, planted};

use crate::common::streams::{Fold, Seen, Stream, transactions};

/// Runs of a seeded test: a slice in `make test`, the campaign in `make crash`.
fn runs(slice: u64) -> u64 {
    std::env::var("RLOG_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(slice)
}

/// What a run submits: transactions in chunks, each followed by a sync.
struct Workload {
    bytes: Vec<u8>,
    /// Ends of the pieces that arrive together.
    pieces: Vec<usize>,
    seen: Vec<Seen>,
    segment_bytes: u64,
    /// A reader registers, lags a piece behind with its acknowledgements, and purges.
    purging: bool,
}

impl Workload {
    fn new(sizes: &[usize], segment_bytes: u64) -> Workload {
        let mut stream = Stream::new();
        let mut pieces = Vec::new();
        for size in sizes {
            stream.transaction(*size);
            if size % 3 == 0 {
                stream.progress(10);
            }
            // A piece ends behind a transaction, or in the middle of the next.
            pieces.push(stream.bytes().len());
        }
        let bytes = stream.end();
        pieces.pop();
        pieces.push(bytes.len());
        Workload { seen: transactions(&bytes), bytes, pieces, segment_bytes, purging: false }
    }

    fn purging(self) -> Workload {
        Workload { purging: true, ..self }
    }
}

/// What the outside world was told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Highest position acknowledged by put.
    acked: Option<Coordinate>,
    /// Highest sequence that the reader has acknowledged, or was about to when it died.
    read: u64,
    /// What it has read, which it acknowledges the next time.
    seen: Option<Mark>,
}

/// A bug in the writer, to prove that the tests find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Acknowledges before it syncs.
    EarlyAck,
    Disk(Plant),
    /// In the queue's own code.
    Planted(planted::Bug),
}

/// Plants a bug in this thread as long as it lives.
struct Planting;

impl Planting {
    fn of(bug: Bug) -> Planting {
        planted::plant(if let Bug::Planted(bug) = bug { Some(bug) } else { None });
        Planting
    }
}

impl Drop for Planting {
    fn drop(&mut self) {
        planted::plant(None);
    }
}

/// A writer that acknowledges early.
#[derive(Debug)]
struct Early(Box<dyn Writer>);

impl Writer for Early {
    fn tail(&self) -> &Tail {
        self.0.tail()
    }
    fn has_definition(&self, key: u64, payload: &[u8]) -> bool {
        self.0.has_definition(key, payload)
    }
    fn keep_definition(&mut self, key: u64, payload: &[u8]) {
        self.0.keep_definition(key, payload)
    }
    fn append(&mut self, frames: &mut [u8]) -> Result<()> {
        self.0.append(frames)
    }
    fn boundary(&mut self, tail: &Tail) -> Result<()> {
        self.0.boundary(tail)
    }
    fn wants_boundary(&self, bytes: u64) -> bool {
        self.0.wants_boundary(bytes)
    }
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
    fn start_sync(&mut self) -> Result<()> {
        Ok(())
    }
    fn unsynced_bytes(&self) -> u64 {
        self.0.unsynced_bytes()
    }
    fn held(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        self.0.held(txid)
    }
    fn used_bytes(&self) -> u64 {
        self.0.used_bytes()
    }
    fn make_room(&mut self) -> Result<bool> {
        self.0.make_room()
    }
    fn waiting(&mut self, why: Option<&str>) -> Result<()> {
        self.0.waiting(why)
    }
    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
}

fn open(disk: &SimDisk) -> Result<Box<dyn Queue>> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    queue::open(vfs, &Address::Dir(Path::new("/spool").to_owned()), "default", true)
}

/// One process: puts the whole workload. `told` is what it said before it ended.
fn process(disk: &SimDisk, work: &Workload, told: &mut Told, bug: Bug) -> Result<()> {
    let queue = open(disk)?;
    if work.purging {
        queue.register("target")?;
    }
    let options = WriterOptions { segment_bytes: work.segment_bytes, ..WriterOptions::default() };
    let mut writer = queue.writer(&options)?;
    if bug == Bug::EarlyAck {
        writer = Box::new(Early(writer));
    }
    let mut acked = told.acked;
    let mut durable = |tail: &Tail, _: &queue::intake::Counts| {
        acked = acked.max(tail.reached.filter(|_| tail.sequence > 0));
        Ok(())
    };
    let mut intake = Intake::new(writer, Options::default(), "test", None, &mut durable);
    let mut from = 0;
    let mut failed = None;
    for end in &work.pieces {
        let mut piece = work.bytes[from..*end].to_vec();
        let step = intake
            .chunk(&mut piece, from as u64)
            .and_then(|()| intake.sync())
            .and_then(|()| if work.purging { acknowledge(&*queue, told) } else { Ok(()) });
        if let Err(error) = step {
            failed = Some(error);
            break;
        }
        from = *end;
    }
    let result = match failed {
        Some(error) => intake.fail(error),
        None => intake.finish(queue::intake::Ended::EndOfFile),
    };
    told.acked = acked;
    result.map(|_| ())
}

/// The reader's side: what was read the time before is acknowledged, so that purge always has something that it must leave.
fn acknowledge(queue: &dyn Queue, told: &mut Told) -> Result<()> {
    let mut reader = queue.reader(&ReadFrom::Acknowledged("target".into()), ReadMode::ONCE)?;
    while let Next::Frame(_) = reader.next()? {}
    let before = told.seen.replace(reader.mark());
    if let Some(mark) = before.filter(|mark| mark.sequence > 0 && mark.sequence >= told.read) {
        told.read = mark.sequence;
        queue.ack("target", &mark)?;
    }
    queue.purge(false)?;
    Ok(())
}

/// What a reader sees.
fn held(disk: &SimDisk) -> Result<Fold> {
    let queue = open(disk)?;
    let mut reader = queue.reader(&ReadFrom::Oldest, ReadMode::ONCE)?;
    let mut fold = Fold::default();
    while let Next::Frame(frame) = reader.next()? {
        fold.frame(&frame);
    }
    Ok(fold)
}

/// Checks what a disk holds against what was told; `complete` when all of it must be there.
fn check(disk: &SimDisk, work: &Workload, told: &Told, complete: bool) -> std::result::Result<(), String> {
    let say = |error: Error| format!("{error}");
    let fold = held(disk).map_err(say)?;
    let queue = open(disk).map_err(say)?;
    let tail = queue.tail().map_err(say)?;
    let reached = tail.reached.filter(|_| tail.sequence > 0);
    if reached < told.acked {
        return Err(format!("acknowledged {:?}, recovered {reached:?}", told.acked));
    }
    let begin = match fold.seen.first() {
        None => work.seen.len(),
        Some(first) => work.seen.iter().position(|seen| seen == first).ok_or("a transaction that was never put")?,
    };
    if !fold.seen.is_empty() && work.seen.get(begin..begin + fold.seen.len()) != Some(&fold.seen[..]) {
        return Err(format!("not what was put: {:?}", fold.seen));
    }
    if begin > 0 && !fold.seen.is_empty() && !work.purging {
        return Err("the beginning is missing".into());
    }
    // What purge removed was acknowledged by its reader.
    let first = queue.status().map_err(say)?.first_sequence;
    if first > told.read + 1 {
        return Err(format!("purged up to {first}, acknowledged up to {}", told.read));
    }
    let all = work.seen.last().map(|seen| seen.position.end);
    if complete && (tail.last.as_ref().map(|last| last.end) != all || reached < all) {
        return Err(format!("not complete: {:?}", tail.last));
    }
    let mut errors = Vec::new();
    queue.verify(&mut |error| errors.push(error.to_string())).map_err(say)?;
    if let Some(error) = errors.first() {
        return Err(format!("verify: {error}"));
    }
    Ok(())
}

/// Runs the workload, lets it die at call `at`, cuts the power, dies again in the recovery, and repeats the command.
fn crash(
    work: &Workload,
    at: u64,
    again: Option<u64>,
    choices: &mut dyn Choose,
    power: [bool; 2],
    bug: Bug,
) -> std::result::Result<bool, String> {
    let disk = SimDisk::new();
    if let Bug::Disk(plant) = bug {
        disk.plant(plant);
    }
    let _planting = Planting::of(bug);
    disk.fault_at(at, Fault::Die, false);
    let mut told = Told::default();
    let ended = process(&disk, work, &mut told, bug);
    let met = disk.fault_was_met();
    if !met {
        ended.map_err(|error| format!("without a crash: {error}"))?;
    }
    let mut disk = if power[0] { disk.cut(choices) } else { disk.kill() };
    if let Some(again) = again {
        disk.fault_at(again, Fault::Die, false);
        let _ = process(&disk, work, &mut told, bug);
        disk = if power[1] { disk.cut(choices) } else { disk.kill() };
    }
    let place = |error: String| format!("died at {at} and {again:?}: {error}");
    // Reading and asking come before the repair as well as after it.
    check(&disk, work, &told, false).map_err(place)?;
    process(&disk, work, &mut told, Bug::None).map_err(|error| place(format!("the same command again: {error}")))?;
    check(&disk, work, &told, true).map_err(place)?;
    Ok(met)
}

fn small() -> Workload {
    Workload::new(&[10, 700, 3], 1 << 20)
}

fn rolling() -> Workload {
    Workload::new(&[10, 700, 30, 1500, 0, 9, 800, 33], 1200)
}

#[test]
fn a_kill_between_any_two_calls_loses_and_doubles_nothing() {
    for work in [small(), rolling(), rolling().purging()] {
        for at in 0.. {
            let met = crash(&work, at, None, &mut Seeded::new(0), [false; 2], Bug::None).unwrap();
            for again in (at % 7..if met { 60 } else { 0 }).step_by(7) {
                crash(&work, at, Some(again), &mut Seeded::new(0), [false; 2], Bug::None).unwrap();
            }
            if !met {
                assert!(at > 20);
                break;
            }
        }
    }
}

#[test]
fn every_state_that_a_power_cut_can_leave_of_a_small_queue_is_recovered() {
    let work = Workload::new(&[10, 600], 1 << 20);
    let mut states = 0u64;
    for at in 0.. {
        let mut every = Every::new();
        let mut met = true;
        while every.more() {
            met = crash(&work, at, None, &mut every, [true; 2], Bug::None).unwrap();
            states += 1;
        }
        if !met {
            break;
        }
    }
    assert!(states > 100, "{states}");
}

/// A power cut keeps pages of a file in any order: a unit's end may have reached the disk, and what stands before it may not. Until the next put
/// sets that aside it is not there, for whoever reads; it is no damage that would need a person.
#[test]
fn a_unit_of_which_the_end_alone_reached_the_disk_is_not_there_yet() {
    use rlog::frame::{HEADER_LEN, Kind, SliceFrames};
    let work = small();
    let disk = SimDisk::new();
    let queue = open(&disk).unwrap();
    let mut durable = |_: &Tail, _: &queue::intake::Counts| Ok(());
    let writer = queue.writer(&WriterOptions::default()).unwrap();
    let mut intake = Intake::new(writer, Options::default(), "test", None, &mut durable);
    intake.chunk(&mut work.bytes[..work.pieces[0]].to_vec(), 0).unwrap();
    intake.sync().unwrap();
    intake.chunk(&mut work.bytes[work.pieces[0]..work.pieces[1]].to_vec(), work.pieces[0] as u64).unwrap();
    drop(intake);
    let disk = disk.kill();
    disk.damage("/spool/default/0000000000000001.rlog", |bytes| {
        let (mut frames, mut data) = (SliceFrames::new(bytes, 0), 0);
        while let Some(frame) = frames.next().unwrap() {
            data = if frame.kind() == Some(Kind::Data) { frame.at as usize + HEADER_LEN } else { data };
        }
        bytes[data + 1] ^= 1;
    })
    .unwrap();
    assert_eq!(held(&disk).unwrap().seen[..], work.seen[..1]);
    process(&disk, &work, &mut Told::default(), Bug::None).unwrap();
    check(&disk, &work, &Told::default(), true).unwrap();
}

#[test]
fn seeded_power_cuts_also_during_recovery_lose_and_double_nothing() {
    // A seed that failed in a campaign comes first here: RLOG_SEED=95644.
    let first = std::env::var("RLOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + runs(1000) {
        let mut choices = Seeded::new(seed);
        let work = match seed % 3 {
            0 => small(),
            1 => rolling(),
            _ => rolling().purging(),
        };
        let at = choices.choose(120) as u64;
        let again = (choices.choose(2) == 1).then(|| choices.choose(60) as u64);
        let power = [choices.choose(2) == 1, true];
        crash(&work, at, again, &mut choices, power, Bug::None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Each must be found within 1,000 seeds.
#[test]
fn planted_bugs_are_found() {
    for bug in [
        Bug::EarlyAck,
        Bug::Disk(Plant::SkipFileSync),
        Bug::Disk(Plant::SkipDirSync),
        Bug::Planted(planted::Bug::NoChecksum),
        Bug::Planted(planted::Bug::NoTornTail),
        Bug::Planted(planted::Bug::PurgeUnacknowledged),
    ] {
        let found = (0..1000).find_map(|seed| {
            let mut choices = Seeded::new(seed);
            let work = if seed % 2 == 0 { rolling() } else { rolling().purging() };
            let at = choices.choose(80) as u64;
            let again = (choices.choose(2) == 1).then(|| choices.choose(60) as u64);
            Some((seed, crash(&work, at, again, &mut choices, [true; 2], bug).err()?))
        });
        let (seed, error) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?} is found by seed {seed}: {error}");
    }
}

#[test]
fn what_is_being_synced_is_told_of_only_when_that_has_ended() {
    let disk = SimDisk::new();
    let mut stream = Stream::new();
    let mut bytes = stream.transaction(10).bytes();
    let told = std::cell::Cell::new(0);
    let mut durable = |tail: &Tail, _: &queue::intake::Counts| {
        told.set(tail.sequence);
        Ok(())
    };
    let writer = open(&disk).unwrap().writer(&WriterOptions::default()).unwrap();
    let mut intake = Intake::new(writer, Options::default(), "test", None, &mut durable);
    intake.chunk(&mut bytes, 0).unwrap();
    intake.start_sync().unwrap();
    assert!(intake.has_unsynced() && intake.is_syncing() && told.get() == 0);
    // More that is written meanwhile is not what was synced.
    let mut more = Stream::at(stream.at);
    intake.chunk(&mut more.transaction(20).bytes(), 0).unwrap();
    intake.finish_sync().unwrap();
    assert!(intake.has_unsynced() && told.get() == 1);
    intake.sync().unwrap();
    assert!(!intake.has_unsynced() && told.get() == 2);
}

/// A writer whose lock was lost goes on after another has taken its place: what it acknowledges must be in the queue.
fn overtaken(bug: Bug) -> std::result::Result<(), String> {
    let say = |error: Error| error.to_string();
    let disk = SimDisk::new();
    let _planting = Planting::of(bug);
    let mut first = Stream::new();
    first.transaction(10);
    let (mut early, begun) = (first.bytes(), first.at);
    let mut acked = None;
    let mut durable = |tail: &Tail, _: &queue::intake::Counts| {
        acked = tail.reached;
        Ok(())
    };
    let writer = open(&disk).map_err(say)?.writer(&WriterOptions::default()).map_err(say)?;
    let mut stale = Intake::new(writer, Options::default(), "stale", None, &mut durable);
    stale.chunk(&mut early, 0).and_then(|()| stale.sync()).map_err(say)?;
    disk.lose_locks();
    let other = Stream::at(begun).transaction(20).end();
    let writer = open(&disk).map_err(say)?.writer(&WriterOptions::default()).map_err(say)?;
    let mut ignored = |_: &Tail, _: &queue::intake::Counts| Ok(());
    let mut successor = Intake::new(writer, Options::default(), "successor", None, &mut ignored);
    successor.chunk(&mut other.clone(), 0).map_err(say)?;
    successor.finish(queue::intake::Ended::EndOfFile).map_err(say)?;
    let mut more = Stream::at(begun);
    let mut late = more.transaction(990).transaction(991).bytes();
    let went_on = stale.chunk(&mut late, 0).and_then(|()| stale.sync());
    drop(stale);
    let held = held(&disk).map_err(say)?;
    let last = held.seen.last().map(|seen| seen.position.end);
    match went_on {
        Ok(()) if acked > last => Err(format!("acknowledged {acked:?}, the queue holds {last:?}")),
        _ if held.seen.iter().map(|seen| seen.data.len()).ne([10, 20]) => Err(format!("{:?}", held.seen)),
        _ => Ok(()),
    }
}

#[test]
fn a_writer_that_was_overtaken_acknowledges_nothing_and_without_the_fence_that_is_found() {
    overtaken(Bug::None).unwrap();
    let error = overtaken(Bug::Planted(planted::Bug::NoFence)).expect_err("NoFence was not found");
    println!("NoFence is found: {error}");
}

#[test]
fn an_error_at_any_call_is_reported_and_the_next_run_completes() {
    let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::Interrupted];
    for work in [rolling(), rolling().purging()] {
        for kind in kinds {
            for for_ever in [false, true] {
                if for_ever && kind == io::ErrorKind::Interrupted {
                    continue;
                }
                for at in 0.. {
                    let disk = SimDisk::new();
                    disk.fault_at(at, Fault::Error(kind), for_ever);
                    let mut told = Told::default();
                    let result = process(&disk, &work, &mut told, Bug::None);
                    let met = disk.fault_was_met();
                    if let Err(error) = &result {
                        assert!(matches!(error.class(), Class::Io | Class::TryAgain | Class::CannotCreate), "{error}");
                    } else if kind == io::ErrorKind::Other && met {
                        // What is only there for later, such as a watermark, may fail without a word.
                        check(&disk, &work, &told, true).unwrap();
                    }
                    // The cache may hold what a failed sync lost: also after the power is cut.
                    for disk in [disk.kill(), disk.cut(&mut Seeded::new(at))] {
                        let mut told = told.clone();
                        let place = |error: String| format!("{kind:?} at {at}, for ever {for_ever}: {error}");
                        check(&disk, &work, &told, false).map_err(place).unwrap();
                        process(&disk, &work, &mut told, Bug::None).unwrap();
                        check(&disk, &work, &told, true).map_err(place).unwrap();
                        // And what is now acknowledged survives the next cut.
                        check(&disk.cut(&mut Seeded::new(at)), &work, &told, true).map_err(place).unwrap();
                    }
                    if !met {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_short_write_at_any_call_changes_nothing() {
    let work = rolling();
    for at in 0.. {
        let disk = SimDisk::new();
        disk.fault_at(at, Fault::Short, false);
        let mut told = Told::default();
        process(&disk, &work, &mut told, Bug::None).unwrap();
        check(&disk, &work, &told, true).unwrap();
        if !disk.fault_was_met() {
            break;
        }
    }
}

#[test]
fn a_disk_full_at_any_byte_is_75_and_the_next_run_completes() {
    let work = rolling();
    let full = {
        let disk = SimDisk::new();
        process(&disk, &work, &mut Told::default(), Bug::None).unwrap();
        disk.used()
    };
    let mut refused = 0;
    for capacity in 0..full {
        let disk = SimDisk::new();
        disk.set_capacity(Some(capacity));
        let mut told = Told::default();
        if let Err(error) = process(&disk, &work, &mut told, Bug::None) {
            assert_eq!(error.class(), Class::TryAgain, "{capacity}: {error}");
            refused += 1;
        }
        let disk = disk.kill();
        disk.set_capacity(None);
        check(&disk, &work, &told, false).map_err(|error| format!("{capacity}: {error}")).unwrap();
        process(&disk, &work, &mut told, Bug::None).unwrap();
        check(&disk, &work, &told, true).map_err(|error| format!("{capacity}: {error}")).unwrap();
    }
    assert!(refused > full / 2);
}

/// Bytes that the reserve takes.
const RESERVE: usize = 16 << 10;

/// Rule 7: on a full disk the reserve is let go of, so that what was read can be acknowledged and purged, which makes room.
#[test]
fn a_reader_makes_room_on_a_disk_that_is_full_to_the_last_byte() {
    let work = rolling();
    let full = {
        let disk = SimDisk::new();
        process(&disk, &work, &mut Told::default(), Bug::None).unwrap();
        disk.used()
    };
    for capacity in (RESERVE + 3000..RESERVE + full).step_by(7) {
        let disk = SimDisk::new();
        let mut told = Told::default();
        // A reader is known before the disk is full, as every reader is before its first read.
        open(&disk).unwrap().register("target").unwrap();
        disk.set_capacity(Some(capacity));
        let ended = process(&disk, &work, &mut told, Bug::None);
        let disk = disk.kill();
        disk.set_capacity(Some(disk.used()));
        let queue = open(&disk).unwrap();
        // What is read the first time is acknowledged the second.
        for _ in 0..2 {
            acknowledge(&*queue, &mut told).unwrap_or_else(|error| panic!("{capacity}: {error}"));
        }
        let status = queue.status().unwrap();
        assert!(status.readers[0].acked.sequence == told.read && told.read > 0, "{capacity}: {status:?}");
        assert!(status.first_sequence > 1, "{capacity}: nothing was purged: {status:?}");
        // There is room again, and the reserve may be kept again.
        assert!(ended.is_ok() || disk.used() < capacity, "{capacity}");
    }
}

/// A reader runs ahead of the writer's sync and acknowledges what it has read; then the power is cut.
fn acknowledged_before_the_sync(bug: Bug) -> std::result::Result<(), String> {
    let say = |error: Error| error.to_string();
    let mut every = Every::new();
    while every.more() {
        let disk = SimDisk::new();
        let _planting = Planting::of(bug);
        let queue = open(&disk).map_err(say)?;
        queue.register("target").map_err(say)?;
        let mut stream = Stream::new();
        let mut first = stream.transaction(10).bytes();
        let mut second = Stream::at(stream.at).transaction(20).bytes();
        let mut durable = |_: &Tail, _: &queue::intake::Counts| Ok(());
        let writer = queue.writer(&WriterOptions::default()).map_err(say)?;
        let mut intake = Intake::new(writer, Options::default(), "test", None, &mut durable);
        intake.chunk(&mut first, 0).and_then(|()| intake.sync()).map_err(say)?;
        intake.chunk(&mut second, 0).map_err(say)?;
        let mut reader = queue.reader(&ReadFrom::Oldest, ReadMode::ONCE).map_err(say)?;
        while let Next::Frame(_) = reader.next().map_err(say)? {}
        let mark = reader.mark();
        assert_eq!(mark.sequence, 2);
        queue.ack("target", &mark).map_err(say)?;
        drop(intake);
        let after = disk.cut(&mut every);
        let queue = open(&after).map_err(say)?;
        let (tail, known) = (queue.tail().map_err(say)?, queue.register("target").map_err(say)?);
        if known.acked.sequence > tail.sequence {
            return Err(format!("acknowledged unit {}, recovered {}", known.acked.sequence, tail.sequence));
        }
    }
    Ok(())
}

#[test]
fn an_acknowledgement_never_outlives_its_unit_and_without_the_sync_before_it_that_is_found() {
    acknowledged_before_the_sync(Bug::None).unwrap();
    let error =
        acknowledged_before_the_sync(Bug::Planted(planted::Bug::AckUnsynced)).expect_err("AckUnsynced was not found");
    println!("AckUnsynced is found: {error}");
}
