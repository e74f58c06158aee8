//! What every queue must do. A backend is one line: `queue_contract!(name, factory)`, where the factory is a type with
//! [`Backend`]. What may differ is a property that the contract reads.

use std::sync::Arc;
use std::time::Duration;

use rlog::error::{Class, Error};
use rlog::frame::{Coordinate, Kind, Position};
use rlog::queue::{
    Address, Mark, Next, Queue, ReadFrom, ReadMode, WriterOptions,
    intake::{self, Counts},
};
use rlog::sys::Os;

use crate::common::NatsCluster;
use crate::common::streams::{Fold, SERVER, Stream, transactions};

/// A place for queues of one backend.
pub trait Backend {
    /// A new, empty place.
    fn new() -> Self;
    /// Opens a channel of the queue in it, created when missing.
    fn open(&self, channel: &str) -> Box<dyn Queue>;
}

/// Directories.
pub struct Directory(tempfile::TempDir);

impl Backend for Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn open(&self, channel: &str) -> Box<dyn Queue> {
        let address = Address::Dir(self.0.path().join("spool"));
        rlog::queue::open(Arc::new(Os), &address, channel, true).unwrap()
    }
}

/// Tables in a database.
pub struct Table(tempfile::TempDir);

impl Backend for Table {
    fn new() -> Table {
        Table(tempfile::tempdir().unwrap())
    }

    fn open(&self, channel: &str) -> Box<dyn Queue> {
        let address = Address::Sqlite(self.0.path().join("spool.db"));
        rlog::queue::open(Arc::new(Os), &address, channel, true).unwrap()
    }
}

/// Channels of one stream with three copies on three servers.
pub struct JetStream(usize);

impl Backend for JetStream {
    fn new() -> JetStream {
        static PLACES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        JetStream(PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    fn open(&self, channel: &str) -> Box<dyn Queue> {
        let address: Address = NatsCluster::shared().url("CONTRACT", "replicas=3").parse().unwrap();
        let channel = format!("p{}-{channel}", self.0);
        rlog::queue::open(Arc::new(Os), &address, &channel, true).unwrap()
    }
}

/// Small segments, so that there are many.
fn small() -> WriterOptions {
    WriterOptions { segment_bytes: 4 << 10, ..WriterOptions::default() }
}

fn put(queue: &dyn Queue, bytes: &[u8]) -> Result<Counts, Error> {
    put_with(queue, bytes, &intake::Options::default())
}

fn put_with(queue: &dyn Queue, bytes: &[u8], options: &intake::Options) -> Result<Counts, Error> {
    let input = std::io::Cursor::new(bytes.to_vec());
    intake::put(input, "test", queue.writer(&small())?, options, None, &mut |_, _| Ok(()))
}

fn class(result: Result<Counts, Error>) -> Class {
    result.unwrap_err().class()
}

fn read(queue: &dyn Queue, from: &ReadFrom) -> Result<Fold, Error> {
    read_mode(queue, from, ReadMode::ONCE)
}

fn read_mode(queue: &dyn Queue, from: &ReadFrom, mode: ReadMode) -> Result<Fold, Error> {
    let mut reader = queue.reader(from, mode)?;
    let mut fold = Fold::default();
    while let Next::Frame(frame) = reader.next()? {
        fold.frame(&frame);
    }
    Ok(fold)
}

fn all(queue: &dyn Queue) -> Fold {
    read(queue, &ReadFrom::Oldest).unwrap()
}

pub fn what_was_put_comes_out_as_it_went_in<B: Backend>() {
    let (place, mut stream) = (B::new(), Stream::new());
    for size in [10, 0, 999, 5000, 1, 20_000, 3] {
        stream.transaction(size).progress(50);
    }
    let bytes = stream.end();
    let queue = place.open("default");
    let counts = put(&*queue, &bytes).unwrap();
    assert_eq!(counts.transactions, 7);
    assert_eq!(all(&*queue).seen, transactions(&bytes));
    assert_eq!(queue.tail().unwrap().reached, Some(stream.at));
    let mut found = Vec::new();
    assert_eq!(queue.verify(&mut |error| found.push(error.to_string())).unwrap().transactions, 7);
    assert_eq!(found, [""; 0]);
}

pub fn an_empty_queue_has_no_position_and_gives_nothing<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    assert_eq!(queue.tail().unwrap().position(), None);
    let mut reader = queue.reader(&ReadFrom::Oldest, ReadMode::ONCE).unwrap();
    assert!(matches!(reader.next().unwrap(), Next::End));
}

pub fn a_stream_put_again_changes_nothing<B: Backend>() {
    let (place, mut stream) = (B::new(), Stream::new());
    stream.transaction(100).progress(10).transaction(3000).transaction(0).progress(5);
    let bytes = stream.end();
    let queue = place.open("default");
    put(&*queue, &bytes).unwrap();
    let (tail, before) = (queue.tail().unwrap(), all(&*queue).seen);
    for _ in 0..3 {
        let counts = put(&*queue, &bytes).unwrap();
        assert_eq!((counts.transactions, counts.repeats), (0, 3));
    }
    assert_eq!((queue.tail().unwrap(), all(&*queue).seen), (tail, before));
}

pub fn a_longer_stream_of_the_same_log_adds_only_what_is_new<B: Backend>() {
    let (place, mut stream) = (B::new(), Stream::new());
    stream.transaction(100).transaction(200);
    let queue = place.open("default");
    let first = [stream.bytes(), Vec::new()].concat();
    assert_eq!(class(put(&*queue, &first)), Class::TryAgain, "no end");
    stream.progress(30).transaction(300);
    let bytes = stream.end();
    let counts = put(&*queue, &bytes).unwrap();
    assert_eq!((counts.transactions, counts.repeats), (1, 2));
    assert_eq!(all(&*queue).seen, transactions(&bytes));
}

pub fn closed_files_are_put_again_with_each_one_that_follows<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let file = |number| Coordinate::new(number, 4).unwrap();
    for files in 1..5 {
        let mut stream = Stream::new();
        for number in 1..=files {
            stream.incarnation = rlog::frame::Incarnation::new(SERVER, number as u32);
            stream.transaction(10).transaction(20).progress_to(file(number + 1));
        }
        put(&*queue, &stream.end()).unwrap();
        assert_eq!(all(&*queue).seen.len(), 2 * files as usize);
    }
}

pub fn a_log_of_several_files_put_again_changes_nothing<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let t = crate::common::changes::table("shop", "t");
    let mut source = crate::common::changes::Source::new();
    for id in 0..6 {
        source.transaction(crate::common::changes::Records::default().insert(&t, (id, Some("x"))));
        if id % 2 == 1 {
            source.next_file();
        }
    }
    let bytes = source.end();
    assert_eq!(put(&*queue, &bytes).unwrap().transactions, 6);
    let counts = put(&*queue, &bytes).unwrap();
    assert_eq!((counts.transactions, counts.repeats), (0, 6));
}

pub fn streams_one_behind_the_other_are_one<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut first = Stream::new();
    let one = first.transaction(10).transaction(20).end();
    let mut second = Stream::at(first.at);
    let two = second.transaction(30).end();
    put(&*queue, &[one, two].concat()).unwrap();
    assert_eq!(all(&*queue).seen.len(), 3);
}

pub fn a_gap_is_refused_with_81_and_what_came_before_it_is_kept<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut first = Stream::new();
    put(&*queue, &first.transaction(10).end()).unwrap();
    let beyond = Coordinate(first.at.0 + 1);
    let error = put(&*queue, &Stream::at(beyond).transaction(10).end()).unwrap_err();
    assert_eq!(error.class(), Class::Gap);
    assert!(error.hint_text().unwrap().contains("rlog-extract --after"), "{error}");
    assert_eq!(class(put(&*queue, &Stream::at(beyond).progress(10).end())), Class::Gap);
    assert_eq!(class(put(&*queue, &Stream::at(beyond).end())), Class::Gap);
    let mut lost = Stream::at(first.at);
    let bytes = lost.transaction(5).gap_to(Coordinate(first.at.0 + 1000)).transaction(5).end();
    assert_eq!(class(put(&*queue, &bytes)), Class::Gap);
    assert_eq!(all(&*queue).seen.len(), 2);
}

pub fn another_source_is_refused_with_83<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    stream.transaction(10).transaction(20);
    put(&*queue, &stream.end()).unwrap();
    let start = Coordinate::new(1, 4).unwrap();
    let other_server = rlog::frame::Incarnation::new(SERVER + 1, 1);
    assert_eq!(class(put(&*queue, &Stream::with(start, other_server, |_| {}).transaction(10).end())), Class::Identity);
    // RESET MASTER: the same number, another format event.
    let other_log = rlog::frame::Incarnation::new(SERVER, 999);
    let mut reset = Stream::with(start, other_log, |_| {});
    assert_eq!(class(put(&*queue, &reset.transaction(10).transaction(20).transaction(30).end())), Class::Identity);
    let mut family = Stream::with(stream.at, stream.incarnation, |header| header.source = "sqlite".into());
    assert_eq!(class(put(&*queue, &family.transaction(1).end())), Class::Identity);
    // The same place, with other evidence.
    let mut twisted = Stream::new();
    twisted.open(10).commit(Kind::Commit, 1);
    assert_eq!(class(put(&*queue, &twisted.end())), Class::Identity);
    assert_eq!(all(&*queue).seen.len(), 2);
}

pub fn a_stream_without_file_numbers_is_refused_with_78<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let start = Coordinate::new(1, 4).unwrap();
    let mut stream = Stream::with(start, rlog::frame::Incarnation::new(SERVER, 1), |header| header.unanchored = true);
    assert_eq!(class(put(&*queue, &stream.transaction(10).end())), Class::Config);
}

pub fn an_abort_ends_put_with_its_status_after_whole_transactions_are_durable<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    let bytes = stream.transaction(10).transaction(5000).open(3000).abort(81);
    assert_eq!(class(put(&*queue, &bytes)), Class::Gap);
    assert_eq!(all(&*queue).seen.len(), 2);
    // Also before any header.
    let mut only = rlog::frame::FrameWriter::new();
    let abort = rlog::frame::Abort { status: 66, ..Default::default() };
    only.frame(Kind::Abort, |payload| abort.encode(payload));
    assert_eq!(class(put(&*queue, only.bytes())), Class::NoInput);
}

pub fn an_end_of_file_without_end_is_75_wherever_it_comes<B: Backend>() {
    let mut stream = Stream::new();
    let bytes = stream.transaction(10).transaction(1500).end();
    let whole = [10 + 100 + 4, 1500 + 100 + 10 + 100 + 4];
    // Not every byte: each takes a dozen syncs of a real disk.
    for cut in (0..bytes.len()).step_by(11) {
        let place = B::new();
        let queue = place.open("default");
        assert_eq!(class(put(&*queue, &bytes[..cut])), Class::TryAgain, "{cut}");
        let reached = queue.tail().unwrap().position().map_or(0, |position| position.end.offset());
        assert!(reached == 0 || whole.contains(&reached), "{reached}");
        // And again, wholly.
        if cut % 99 == 0 {
            put(&*queue, &bytes).unwrap();
            assert_eq!(all(&*queue).seen, transactions(&bytes));
        }
    }
}

pub fn damage_in_the_stream_is_65_with_its_offset_and_whole_transactions_before_it_are_kept<B: Backend>() {
    let mut stream = Stream::new();
    let mut bytes = stream.transaction(10).bytes();
    let good = bytes.len() as u64;
    bytes.extend(stream.transaction(500).end().split_off(bytes.len()));
    let place = B::new();
    let queue = place.open("default");
    for bit in (good as usize * 8..bytes.len() * 8).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = put(&*queue, &flipped).unwrap_err();
        // A flipped length of the last frame may look like a stream that is cut short.
        assert!(matches!(error.class(), Class::Damage | Class::TryAgain), "{error}");
        let place = error.place().unwrap();
        assert!(place.name == "test" && (error.class() != Class::Damage || place.at.unwrap() >= good), "{error}");
    }
    assert!(!all(&*queue).seen.is_empty());
}

pub fn a_header_inside_a_transaction_discards_it<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut first = Stream::new();
    let reached = first.transaction(10).at;
    let broken = first.open(9000).bytes();
    let mut second = Stream::at(reached);
    let bytes = [broken, second.transaction(77).end()].concat();
    put(&*queue, &bytes).unwrap();
    let seen = all(&*queue).seen;
    assert_eq!(seen.iter().map(|seen| seen.data.len()).collect::<Vec<_>>(), [10, 77]);
}

pub fn a_discarded_transaction_is_never_seen<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    // The second is larger than what is read at once, so that part of it is stored before it is discarded.
    let bytes = stream.transaction(10).open(900_000).discard().transaction(20).end();
    put(&*queue, &bytes).unwrap();
    let fold = all(&*queue);
    assert_eq!(fold.seen.iter().map(|seen| seen.data.len()).collect::<Vec<_>>(), [10, 20]);
    assert_eq!(fold.marks, []);
}

pub fn progress_is_trimmed_joined_and_durable<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    put(&*queue, &stream.transaction(10).progress(10).progress(20).progress(30).end()).unwrap();
    assert_eq!(all(&*queue).marks, [Kind::Progress]);
    let (tail, reached) = (queue.tail().unwrap(), stream.at);
    assert_eq!(
        tail.position(),
        Some(Position { txid: reached, end: reached, incarnation: stream.incarnation, ..Position::default() })
    );
    // A stream that began earlier and goes on further.
    let mut other = Stream::new();
    put(&*queue, &other.transaction(10).progress(100).transaction(5).end()).unwrap();
    assert_eq!(all(&*queue).seen.len(), 2, "and all(..) has checked that it is contiguous");
}

pub fn a_transaction_behind_an_unreported_empty_range_is_stored_as_contiguous<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    put(&*queue, &stream.transaction(10).progress(50).end()).unwrap();
    let mut other = Stream::new();
    other.transaction(10);
    let (prev, txid) = (other.at, Coordinate(other.at.0 + 80));
    put(&*queue, &other.open_at(txid, prev, 1500).commit(Kind::Commit, 0).end()).unwrap();
    let seen = all(&*queue).seen;
    assert_eq!(seen[1].data.len(), 1500);
    // A repeat is one, although what is stored differs.
    assert_eq!(put(&*queue, &other.bytes()).unwrap().repeats, 2);
}

pub fn heartbeats_are_not_stored<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    put(&*queue, &stream.heartbeat().transaction(10).heartbeat().heartbeat().end()).unwrap();
    assert_eq!(all(&*queue).marks, []);
    assert_eq!(queue.tail().unwrap().sequence, 1);
}

pub fn prepared_groups_are_kept_and_can_be_pinned<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    stream.transaction(10).open(20).commit(Kind::Prepared, 0);
    for _ in 0..20 {
        stream.transaction(3000);
    }
    put(&*queue, &stream.end()).unwrap();
    queue.register("target").unwrap();
    queue.pin("target", 2, true).unwrap();
    let tail = queue.tail().unwrap();
    queue.ack("target", &Mark { sequence: tail.sequence, position: tail.position().unwrap() }).unwrap();
    queue.purge(false).unwrap();
    assert_eq!(read(&*queue, &ReadFrom::AfterSequence(1)).unwrap().seen[0].data.len(), 20);
    queue.pin("target", 2, false).unwrap();
    queue.purge(false).unwrap();
    assert_eq!(read(&*queue, &ReadFrom::AfterSequence(1)).unwrap_err().class(), Class::Gap);
}

pub fn a_handover_goes_on_with_the_new_server_and_its_repeat_is_one<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    stream.transaction(10).handover(77, Coordinate::new(9, 4).unwrap()).transaction(20);
    let bytes = stream.end();
    put(&*queue, &bytes).unwrap();
    let counts = put(&*queue, &bytes).unwrap();
    assert_eq!((counts.transactions, counts.repeats), (0, 2));
    let fold = all(&*queue);
    assert_eq!((fold.seen.len(), fold.marks), (2, vec![Kind::Handover]));
    // The old server went on by itself: that is another history.
    let mut old = Stream::new();
    assert_eq!(class(put(&*queue, &old.transaction(10).transaction(10).end())), Class::Identity);
}

pub fn a_snapshot_put_again_is_one_and_an_interrupted_one_goes_on<B: Backend>() {
    let whole = {
        let mut stream = Stream::new();
        stream.define(7, b"table seven").snapshot(1, 5).transaction(10).end()
    };
    for cut in (0..whole.len()).step_by(53) {
        let place = B::new();
        let queue = place.open("default");
        let _ = put(&*queue, &whole[..cut]);
        put(&*queue, &whole).unwrap();
        put(&*queue, &whole).unwrap();
        let fold = all(&*queue);
        assert_eq!(fold.seen.len(), 6, "cut at {cut}");
        assert_eq!(fold.marks, [Kind::SnapshotBegin, Kind::SnapshotEnd]);
    }
}

pub fn a_snapshot_of_the_past_is_refused_with_80<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    put(&*queue, &Stream::new().transaction(10).end()).unwrap();
    assert_eq!(class(put(&*queue, &Stream::new().snapshot(1, 2).end())), Class::Conflict);
    let mut later = Stream::at(Coordinate::new(3, 4).unwrap());
    put(&*queue, &later.snapshot(2, 2).transaction(1).end()).unwrap();
}

pub fn definitions_are_live_wherever_reading_begins<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    stream.define(1, b"first").define(2, b"second");
    for number in 0..30 {
        if number == 15 {
            stream.define(1, b"first, altered");
        }
        stream.transaction(700);
    }
    put(&*queue, &stream.end()).unwrap();
    for (number, position) in stream.transactions.iter().enumerate() {
        let fold = read(&*queue, &ReadFrom::After(position.clone())).unwrap();
        assert_eq!(fold.seen.len(), 29 - number);
        assert_eq!(fold.definitions[&2], b"second");
        assert_eq!(fold.definitions[&1], b"first, altered");
        assert_eq!(fold.definitions[&7], b"table seven");
        let before = read_until(&*queue, &ReadFrom::After(position.clone()), 1);
        let expected: &[u8] = if number < 14 { b"first" } else { b"first, altered" };
        assert_eq!(before.definitions[&1], expected, "{number}");
    }
}

/// Reads `count` transactions.
fn read_until(queue: &dyn Queue, from: &ReadFrom, count: usize) -> Fold {
    let mut reader = queue.reader(from, ReadMode::ONCE).unwrap();
    let mut fold = Fold::default();
    while fold.seen.len() < count {
        let Next::Frame(frame) = reader.next().unwrap() else { break };
        fold.frame(&frame);
    }
    fold
}

pub fn definitions_of_repeats_are_stored_before_what_is_new<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    put(&*queue, &Stream::new().transaction(10).end()).unwrap();
    // Another run of the source's reader, with another key for the table.
    let mut again = Stream::new();
    put(&*queue, &again.define(9, b"table seven, again").transaction(10).transaction(10).end()).unwrap();
    assert_eq!(all(&*queue).definitions[&9], b"table seven, again");
}

pub fn reading_starts_behind_any_position_and_refuses_foreign_ones<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    for size in 0..40 {
        stream.transaction(size * 37).progress(7);
    }
    put(&*queue, &stream.end()).unwrap();
    for (number, position) in stream.transactions.iter().enumerate() {
        let fold = read(&*queue, &ReadFrom::After(position.clone())).unwrap();
        assert_eq!(fold.seen.len(), 39 - number);
        let fold = read(&*queue, &ReadFrom::AfterCoordinate(position.end)).unwrap();
        assert_eq!(fold.seen.len(), 39 - number);
        let mark = queue.locate(position).unwrap().unwrap();
        assert_eq!(mark.position, *position);
        let fold = read(&*queue, &ReadFrom::AfterSequence(mark.sequence)).unwrap();
        assert_eq!(fold.seen.len(), 39 - number);
        let foreign = Position { digest: position.digest ^ 1, ..position.clone() };
        assert_eq!(read(&*queue, &ReadFrom::After(foreign.clone())).unwrap_err().class(), Class::Identity);
    }
    let before =
        Position { txid: Coordinate(5), end: Coordinate(5), incarnation: stream.incarnation, ..Position::default() };
    assert_eq!(read(&*queue, &ReadFrom::After(before)).unwrap_err().class(), Class::Gap);
    // A target that is ahead waits for what comes behind it.
    let ahead =
        Position { txid: stream.at, end: Coordinate(stream.at.0 + 5), digest: 1, ..stream.transactions[0].clone() };
    assert_eq!(read(&*queue, &ReadFrom::After(ahead)).unwrap().seen.len(), 0);
}

pub fn a_reader_that_follows_sees_whole_transactions_as_they_come<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mode = ReadMode { follow: true, idle: Duration::from_millis(5) };
    let mut reader = queue.reader(&ReadFrom::Oldest, mode).unwrap();
    assert!(matches!(reader.next().unwrap(), Next::Idle));
    let (mut stream, mut fold, mut sent) = (Stream::new(), Fold::default(), 0);
    for size in [10, 3000, 700_000, 0, 9000, 4000] {
        // Half of it first, in an own stream that breaks off.
        let reached = stream.at;
        stream.transaction(size);
        let bytes = stream.bytes();
        let _ = put(&*queue, &bytes[..bytes.len() - 20]);
        drain(&mut *reader, &mut fold);
        assert_eq!(fold.seen.len(), sent, "half a transaction was seen at {reached}");
        let _ = put(&*queue, &bytes);
        drain(&mut *reader, &mut fold);
        sent += 1;
        assert_eq!(fold.seen.len(), sent);
    }
    assert_eq!(fold.seen, transactions(&stream.end()));
}

fn drain(reader: &mut dyn rlog::queue::Reader, fold: &mut Fold) {
    let mut idle = 0;
    while idle < 2 {
        match reader.next().unwrap() {
            Next::Frame(frame) => fold.frame(&frame),
            Next::Idle => idle += 1,
            Next::End => return,
        }
    }
}

pub fn readers_have_positions_of_their_own_and_purge_keeps_what_the_slowest_needs<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    for _ in 0..40 {
        stream.transaction(1000);
    }
    put(&*queue, &stream.end()).unwrap();
    assert_eq!(queue.purge(false).unwrap().files, [""; 0], "nobody is registered");
    queue.register("Slow").unwrap();
    queue.register("fast").unwrap();
    let mark = |number: usize| queue.locate(&stream.transactions[number]).unwrap().unwrap();
    queue.ack("fast", &mark(39)).unwrap();
    assert_eq!(queue.purge(false).unwrap().files, [""; 0], "the other has acknowledged nothing");
    queue.ack("slow", &mark(20)).unwrap();
    let would = queue.purge(true).unwrap();
    assert!(!would.files.is_empty());
    assert_eq!(queue.purge(false).unwrap(), would);
    assert_eq!(queue.purge(false).unwrap().files, [""; 0]);
    assert_eq!(read(&*queue, &ReadFrom::Acknowledged("slow".into())).unwrap().seen.len(), 19);
    assert_eq!(read(&*queue, &ReadFrom::Acknowledged("fast".into())).unwrap().seen.len(), 0);
    assert_eq!(read(&*queue, &ReadFrom::After(stream.transactions[0].clone())).unwrap_err().class(), Class::Gap);
    // What is purged can still be put again without harm.
    assert_eq!(put(&*queue, &stream.bytes()).unwrap().repeats, 40);
    // An acknowledgement may step back to what is held, not behind it.
    queue.ack("fast", &mark(25)).unwrap();
    let gone = Mark { sequence: 1, position: stream.transactions[0].clone() };
    assert_eq!(queue.ack("fast", &gone).unwrap_err().class(), Class::Gap);
    let states = queue.readers().unwrap();
    assert_eq!(
        states.iter().map(|state| (state.name.as_str(), state.acked.sequence)).collect::<Vec<_>>(),
        [("fast", 26), ("slow", 21)]
    );
    queue.ack("slow", &mark(39)).unwrap();
    queue.unregister("fast").unwrap();
    queue.purge(false).unwrap();
    assert_eq!(queue.tail().unwrap().position(), Some(stream.transactions[39].clone()), "the tail record survives");
    let error = queue.ack("fast", &mark(39)).unwrap_err();
    assert_eq!(error.class(), Class::NoInput);
}

pub fn channels_are_apart_and_their_names_are_folded_and_never_paths<B: Backend>() {
    let place = B::new();
    let (one, two) = (place.open("Shop"), place.open("other"));
    put(&*one, &Stream::new().transaction(10).end()).unwrap();
    put(&*two, &Stream::new().transaction(10).transaction(20).end()).unwrap();
    assert_eq!(all(&*place.open("SHOP")).seen.len(), 1);
    assert_eq!(all(&*two).seen.len(), 2);
    for wrong in ["", "..", "a/b", "a b", "é", "a.b", &"x".repeat(64)] {
        assert!(rlog::queue::fold_name("channel", wrong).is_err(), "{wrong:?}");
        assert!(one.register(wrong).is_err());
    }
}

pub fn one_writer_at_a_time<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let held = queue.writer(&small()).unwrap();
    let error = place.open("default").writer(&small()).unwrap_err();
    assert_eq!(error.class(), Class::TryAgain);
    place.open("another").writer(&small()).unwrap();
    drop(held);
    queue.writer(&small()).unwrap();
}

/// Status and last may be asked for at any time: whoever writes does not end because somebody has a look.
pub fn who_only_looks_keeps_no_writer_out<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    put(&*queue, &Stream::new().transaction(10).end()).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let looking = place.open("default");
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    looking.status().unwrap();
                }
            });
        }
        let started = std::time::Instant::now();
        let mut opened = Vec::new();
        while opened.len() < 10 || started.elapsed() < Duration::from_secs(1) {
            opened.push(queue.writer(&small()).map(drop));
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        opened.into_iter().for_each(Result::unwrap);
    });
}

pub fn reset_forgets_a_channel_and_no_other<B: Backend>() {
    let place = B::new();
    let (queue, other) = (place.open("default"), place.open("other"));
    put(&*queue, &Stream::new().transaction(10).end()).unwrap();
    put(&*other, &Stream::new().transaction(10).end()).unwrap();
    queue.register("target").unwrap();
    queue.reset(Duration::ZERO).unwrap();
    let queue = place.open("default");
    assert_eq!(queue.tail().unwrap().position(), None);
    assert_eq!(queue.readers().unwrap(), []);
    assert_eq!(all(&*other).seen.len(), 1);
    let start = Coordinate::new(4, 4).unwrap();
    put(&*queue, &Stream::at(start).transaction(10).end()).unwrap();
}

pub fn a_space_limit_waits_for_the_readers_and_drops_nothing<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    queue.register("target").unwrap();
    let mut stream = Stream::new();
    for _ in 0..30 {
        stream.transaction(2000);
    }
    let bytes = stream.end();
    let options = intake::Options { space_limit: Some(10_000), ..intake::Options::default() };
    let mode = ReadMode { follow: true, idle: Duration::from_millis(2) };
    let (reader_queue, writer_queue) = (place.open("default"), place.open("default"));
    let (failed, stop) = (std::sync::atomic::AtomicBool::new(false), std::sync::atomic::Ordering::Relaxed);
    let has_failed = &failed;
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut reader = reader_queue.reader(&ReadFrom::Oldest, mode).unwrap();
            let (mut fold, mut waited) = (Fold::default(), false);
            while fold.seen.len() < 30 && !has_failed.load(stop) {
                match reader.next().unwrap() {
                    Next::Frame(frame) => fold.frame(&frame),
                    // Room is made only for a writer that says it waits.
                    _ if !reader_queue.status().unwrap().waiting.is_empty() => {
                        waited = true;
                        reader_queue.ack("target", &reader.mark()).unwrap();
                    }
                    _ => {}
                }
            }
            (fold, waited)
        });
        let put = put_with(&*writer_queue, &bytes, &options);
        // Or the reader would wait for ever.
        failed.store(put.is_err(), stop);
        put.unwrap();
        let (fold, waited) = reading.join().unwrap();
        assert_eq!(fold.seen, transactions(&bytes));
        assert!(waited, "status did not tell why");
    });
    assert_eq!(queue.status().unwrap().waiting, "");
}

pub fn a_transaction_larger_than_the_space_limit_enters_an_empty_queue<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    queue.register("target").unwrap();
    let options = intake::Options { space_limit: Some(1000), ..intake::Options::default() };
    let mut stream = Stream::new();
    put_with(&*queue, &stream.transaction(50_000).end(), &options).unwrap();
    assert_eq!(all(&*queue).seen.len(), 1);
}

pub fn what_is_passed_on_is_the_stream_itself_after_it_is_durable<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    let bytes = stream.transaction(10).heartbeat().progress(9).transaction(700_000).end();
    for _ in 0..2 {
        let durable = std::cell::Cell::new(0);
        let mut out = Passed { durable: &durable, bytes: Vec::new() };
        let mut told = |_: &rlog::queue::Tail, counts: &intake::Counts| {
            durable.set(counts.transactions + counts.repeats);
            Ok(())
        };
        let input = std::io::Cursor::new(bytes.clone());
        let writer = queue.writer(&small()).unwrap();
        intake::put(input, "test", writer, &intake::Options::default(), Some(&mut out), &mut told).unwrap();
        assert!(out.bytes == bytes, "{} bytes of {}", out.bytes.len(), bytes.len());
    }
}

/// Standard output of `put --pass`: nothing may come that is not durable.
struct Passed<'a> {
    /// Transactions that were told of as durable.
    durable: &'a std::cell::Cell<u64>,
    bytes: Vec<u8>,
}

impl std::io::Write for Passed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        let held = self.durable.get();
        let mut frames = rlog::frame::SliceFrames::new(&self.bytes, 0);
        let mut passed = 0;
        // The last frame may be written in part so far.
        while let Ok(Some(frame)) = frames.next() {
            passed += u64::from(frame.kind() == Some(Kind::Commit));
        }
        assert!(passed <= held, "{passed} transactions are passed on, {held} are durable");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn what_is_written_is_read_before_it_is_synced_where_the_backend_says_so<B: Backend>() {
    let place = B::new();
    let queue = place.open("default");
    let mut stream = Stream::new();
    let bytes = stream.transaction(10).transaction(20).end();
    put(&*queue, &bytes).unwrap();
    let mut more = Stream::at(stream.at);
    more.transaction(30);
    let mut writer = queue.writer(&small()).unwrap();
    let mut tail = writer.tail().clone();
    let mut unsynced = more.bytes();
    writer.append(&mut unsynced).unwrap();
    tail.sequence += 1;
    writer.boundary(&tail).unwrap();
    let readable = if queue.properties().readable_before_sync { 3 } else { 2 };
    assert_eq!(read(&*queue, &ReadFrom::Oldest).unwrap().seen.len(), readable);
    writer.sync().unwrap();
    assert_eq!(read(&*queue, &ReadFrom::Oldest).unwrap().seen.len(), 3);
}

/// What is whole and not vouched for is taken by the next recovery: whoever began anew because it is not durable yet would bring it twice.
pub fn who_decides_where_to_begin_waits_until_what_is_whole_is_durable<B: Backend>() {
    let place = B::new();
    let (queue, asks) = (place.open("default"), place.open("default"));
    let settled = || rlog::queue::settled(&*asks, Duration::ZERO).map(|tail| tail.sequence);
    assert_eq!(settled().unwrap(), 0, "an empty queue");
    let mut stream = Stream::new();
    let bytes = stream.transaction(10).transaction(20).end();
    put(&*queue, &bytes).unwrap();
    assert_eq!(settled().unwrap(), 2, "closed");
    let early = queue.properties().readable_before_sync;
    for (killed, mut held) in [(false, 2), (true, 3)] {
        let mut more = Stream::at(stream.at);
        let mut unsynced = more.transaction(30).bytes();
        stream.at = more.at;
        let mut writer = queue.writer(&small()).unwrap();
        let mut tail = writer.tail().clone();
        assert_eq!(tail.sequence, held);
        writer.append(&mut unsynced).unwrap();
        tail.sequence += 1;
        writer.boundary(&tail).unwrap();
        match settled() {
            told if early => assert_eq!(told.unwrap_err().class(), Class::TryAgain, "killed {killed}"),
            told => assert_eq!(told.unwrap(), held, "killed {killed}"),
        }
        if killed {
            drop(writer);
            held += u64::from(early);
            assert_eq!(settled().unwrap(), held, "what was left behind is made durable");
            break;
        }
        writer.sync().unwrap();
        assert_eq!(settled().unwrap(), held + 1, "synced");
        writer.close().unwrap();
    }
}

/// Whoever asks again and again, as `--confirm` does, is told what one who comes anew is told.
pub fn the_tail_is_the_same_for_who_asked_before_and_who_did_not<B: Backend>() {
    let place = B::new();
    let agree = |asks: &dyn Queue, what: &str| {
        let (known, fresh) = (asks.tail().unwrap(), place.open("default").tail().unwrap());
        assert_eq!(
            (known.position(), known.sequence, known.reached),
            (fresh.position(), fresh.sequence, fresh.reached),
            "{what}"
        );
        known.sequence
    };
    for life in 0..2 {
        let (asks, puts) = (place.open("default"), place.open("default"));
        let agree = |what: &str| agree(&*asks, what);
        agree("empty");
        let mut at = Stream::new().at;
        let mut last = 0;
        for piece in 0..12 {
            let mut stream = Stream::at(at);
            stream.transaction(piece * 200).progress(5);
            at = stream.at;
            // While a writer is at work, before and behind its sync, and when it has gone.
            let mut told = |tail: &rlog::queue::Tail, _: &Counts| {
                assert_eq!(agree("told"), tail.sequence, "what put tells of is what others are told");
                Ok(())
            };
            let mut intake = intake::Intake::new(
                puts.writer(&small()).unwrap(),
                intake::Options::default(),
                "test",
                None,
                &mut told,
            );
            intake.chunk(&mut stream.bytes(), 0).unwrap();
            agree("written");
            intake.sync().unwrap();
            let _ = intake.finish(intake::Ended::Stopped);
            let sequence = agree("closed");
            assert!(sequence > last, "life {life}, piece {piece}");
            last = sequence;
        }
        puts.reset(Duration::ZERO).unwrap();
    }
}

/// Every behaviour of the contract, for one backend.
macro_rules! queue_contract {
    ($name:ident, $backend:ident, [$($behaviour:ident,)*]) => {
        mod $name {
            $(#[test] fn $behaviour() { super::$behaviour::<super::$backend>(); })*
        }
    };
    ($name:ident, $backend:ident) => {
        queue_contract!($name, $backend, [
            what_was_put_comes_out_as_it_went_in,
            an_empty_queue_has_no_position_and_gives_nothing,
            a_stream_put_again_changes_nothing,
            a_longer_stream_of_the_same_log_adds_only_what_is_new,
            closed_files_are_put_again_with_each_one_that_follows,
            a_log_of_several_files_put_again_changes_nothing,
            streams_one_behind_the_other_are_one,
            a_gap_is_refused_with_81_and_what_came_before_it_is_kept,
            another_source_is_refused_with_83,
            a_stream_without_file_numbers_is_refused_with_78,
            an_abort_ends_put_with_its_status_after_whole_transactions_are_durable,
            an_end_of_file_without_end_is_75_wherever_it_comes,
            damage_in_the_stream_is_65_with_its_offset_and_whole_transactions_before_it_are_kept,
            a_header_inside_a_transaction_discards_it,
            a_discarded_transaction_is_never_seen,
            progress_is_trimmed_joined_and_durable,
            a_transaction_behind_an_unreported_empty_range_is_stored_as_contiguous,
            heartbeats_are_not_stored,
            prepared_groups_are_kept_and_can_be_pinned,
            a_handover_goes_on_with_the_new_server_and_its_repeat_is_one,
            a_snapshot_put_again_is_one_and_an_interrupted_one_goes_on,
            a_snapshot_of_the_past_is_refused_with_80,
            definitions_are_live_wherever_reading_begins,
            definitions_of_repeats_are_stored_before_what_is_new,
            reading_starts_behind_any_position_and_refuses_foreign_ones,
            a_reader_that_follows_sees_whole_transactions_as_they_come,
            readers_have_positions_of_their_own_and_purge_keeps_what_the_slowest_needs,
            channels_are_apart_and_their_names_are_folded_and_never_paths,
            one_writer_at_a_time,
            who_only_looks_keeps_no_writer_out,
            reset_forgets_a_channel_and_no_other,
            a_space_limit_waits_for_the_readers_and_drops_nothing,
            a_transaction_larger_than_the_space_limit_enters_an_empty_queue,
            what_is_passed_on_is_the_stream_itself_after_it_is_durable,
            what_is_written_is_read_before_it_is_synced_where_the_backend_says_so,
            the_tail_is_the_same_for_who_asked_before_and_who_did_not,
            who_decides_where_to_begin_waits_until_what_is_whole_is_durable,
        ]);
    };
}

queue_contract!(dir, Directory);
queue_contract!(sqlite, Table);
queue_contract!(nats, JetStream);
