//! The writer of a channel: appends to the last segment, syncs, rolls.
//!
//! The epoch is raised before the first byte is written, not when the lock is taken, so that a put that brings
//! nothing new changes nothing. After every sync a watermark frame follows, unsynced: it is true whether or not it becomes durable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Class, Error, Result};
use crate::frame::header::{HEADER_CRC_AT, SALT_AT};
use crate::frame::{Coordinate, FrameWriter, HEADER_LEN, Kind, Position, Watermark};
use crate::sys::vfs::{File, Lock};
use crate::sys::{planted, state};

use super::super::tail::Predecessor;
use super::super::{Tail, Writer, WriterOptions};
use super::background::Background;
use super::channel::{Channel, WAITING, segment_name};
use super::purge;
use super::reader::HeldCursor;
use super::recover::{self, Appending, Recovered, StartSegment, header_length};

#[derive(Debug)]
pub(super) struct DirWriter {
    channel: Arc<Channel>,
    _lock: Lock,
    options: WriterOptions,
    appending: Option<Appending>,
    predecessor: Predecessor,
    state: super::channel::WriterState,
    /// The file `writer` that holds our epoch.
    epoch: Option<Box<dyn File>>,
    tail: Tail,
    definitions: HashMap<u64, Vec<u8>>,
    /// Bytes of the current segment up to the last boundary, and up to the last sync.
    boundary_at: u64,
    synced_at: u64,
    /// What the thread is syncing.
    syncing: Option<Syncing>,
    background: Option<Background>,
    /// Whether the last thing written is a watermark, which no sync has followed.
    mark_unsynced: bool,
    closed_bytes: u64,
    /// Why this writer writes no more.
    poisoned: Option<(Class, String)>,
    waiting: bool,
    held: Option<HeldCursor>,
    scratch: FrameWriter,
}

impl DirWriter {
    pub fn open(channel: Arc<Channel>, options: &WriterOptions) -> Result<DirWriter> {
        let lock = channel.lock(options.lock_wait)?;
        let recovered = recover::recover(&channel, &lock)?;
        let epoch = if recovered.raised { Some(channel.open_epoch()?) } else { None };
        let Recovered { tail, definitions, appending, predecessor, state, .. } = recovered;
        let mut writer = DirWriter {
            channel,
            _lock: lock,
            options: options.clone(),
            boundary_at: appending.as_ref().map_or(0, |to| to.at),
            synced_at: appending.as_ref().map_or(0, |to| to.at),
            appending,
            predecessor,
            state,
            epoch,
            tail,
            definitions,
            syncing: None,
            background: None,
            mark_unsynced: false,
            closed_bytes: 0,
            poisoned: None,
            waiting: false,
            held: None,
            scratch: FrameWriter::new(),
        };
        writer.count_closed()?;
        Ok(writer)
    }

    /// Counts the bytes of all segments but the one that is appended to.
    fn count_closed(&mut self) -> Result<()> {
        let current = self.appending.as_ref().map(|to| to.number);
        self.closed_bytes = 0;
        for number in self.channel.segments()? {
            if Some(number) != current {
                self.closed_bytes += purge::segment_bytes(&self.channel, number)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match &self.poisoned {
            Some((class, why)) => Err(Error::new(*class, format!("the queue's writer stopped after an error: {why}"))
                .in_file(self.channel.name())
                .hint("run the same command again: what was acknowledged is safe")),
            None => Ok(()),
        }
    }

    /// Any failure to write leaves the file in a state that only a new writer's recovery may judge.
    fn poison<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poisoned.get_or_insert_with(|| (error.class(), error.to_string()));
        }
        result
    }

    fn poison_io<T>(&mut self, number: u64, error: std::io::Error) -> Result<T> {
        let error = self.channel.io(&segment_name(number), error);
        self.poison(Err(error))
    }

    fn raise_epoch(&mut self) -> Result<()> {
        if self.epoch.is_none() {
            self.state.epoch += 1;
            self.state.clean = false;
            self.channel.set_writer_state(&self.state)?;
            self.epoch = Some(self.channel.open_epoch()?);
        }
        Ok(())
    }

    /// A writer whose epoch was raised over must not acknowledge: its successor may have read the file before the write.
    fn fenced(&self) -> Result<()> {
        let Some(epoch) = &self.epoch else { return Ok(()) };
        if planted::is(planted::Bug::NoFence) || epoch.is_linked().map_err(|error| self.channel.io("writer", error))? {
            return Ok(());
        }
        Err(Error::new(Class::TryAgain, "another writer has taken over this channel")
            .in_file(self.channel.name())
            .hint("look for the process that holds the queue; what was acknowledged is safe"))
    }

    fn start_segment(&mut self) -> Result<()> {
        self.raise_epoch()?;
        if self.predecessor.number == 0 {
            self.channel.sync_names()?;
        }
        let start =
            StartSegment::new(&self.channel, &self.tail, &self.definitions, self.predecessor, self.state.epoch)?;
        let appending = start.finish(&self.channel, self.tail.sequence)?;
        self.boundary_at = appending.at;
        self.synced_at = appending.at;
        self.appending = Some(appending);
        self.fenced()
    }

    /// Syncs the last segment and lets go of it, so that the next append starts another.
    fn roll(&mut self) -> Result<()> {
        // Nothing may follow for long, so this segment itself has to say that its end is durable; and the next one names its length.
        self.sync_data(true)?;
        self.check()?;
        if let Some(to) = self.appending.as_ref().filter(|_| self.mark_unsynced) {
            to.file.sync().map_err(|error| self.channel.io(&segment_name(to.number), error))?;
        }
        self.mark_unsynced = false;
        if let Some(full) = self.appending.take() {
            self.predecessor = Predecessor { number: full.number, length: full.at, digest: full.digest.value() };
            self.closed_bytes += full.at;
            self.state.segment = full.number;
            self.state.length = full.at;
            self.state.sequence = self.tail.sequence;
        }
        Ok(())
    }

    fn sync_data(&mut self, watermark: bool) -> Result<()> {
        self.finish_sync()?;
        self.check()?;
        let Some(to) = &self.appending else { return Ok(()) };
        if to.at == self.synced_at {
            return Ok(());
        }
        let now = Syncing { to: to.at, sequence: self.tail.sequence };
        let done = to.file.sync();
        self.synced(done, now, watermark)
    }

    /// A sync has ended.
    fn synced(&mut self, done: std::io::Result<()>, what: Syncing, watermark: bool) -> Result<()> {
        let Some(number) = self.appending.as_ref().map(|to| to.number) else { return Ok(()) };
        if let Err(error) = done {
            return self.poison_io(number, error);
        }
        let fenced = self.fenced();
        self.poison(fenced)?;
        let Some(to) = &mut self.appending else { return Ok(()) };
        self.synced_at = what.to;
        self.mark_unsynced = watermark;
        if watermark {
            let end = to.at;
            let mark = Watermark { synced: what.to, sequence: what.sequence, epoch: self.state.epoch };
            self.scratch = FrameWriter::with_salt(to.salt);
            self.scratch.frame(Kind::Watermark, |payload| mark.encode(payload));
            // The sync has happened and counts, whether or not there was room for this; but nothing may follow a
            // piece of a frame.
            if let Err(error) = to.write(self.scratch.bytes()) {
                let _ = self.poison_io::<()>(number, error);
                return Ok(());
            }
            if self.boundary_at == end {
                self.boundary_at = to.at;
            }
            // Alone it needs no sync. Behind bytes that were written meanwhile, it goes with them.
            if what.to == end {
                self.synced_at = to.at;
            }
        }
        Ok(())
    }
}

/// Bytes of the current segment that are being synced, and the last unit in them.
#[derive(Clone, Copy, Debug)]
struct Syncing {
    to: u64,
    sequence: u64,
}

impl Writer for DirWriter {
    fn tail(&self) -> &Tail {
        &self.tail
    }

    fn has_definition(&self, key: u64, payload: &[u8]) -> bool {
        self.definitions.get(&key).is_some_and(|held| held == payload)
    }

    fn keep_definition(&mut self, key: u64, payload: &[u8]) {
        self.definitions.insert(key, payload.to_vec());
    }

    fn append(&mut self, frames: &mut [u8]) -> Result<()> {
        self.check()?;
        if self.appending.is_none() {
            let started = self.start_segment();
            self.poison(started)?;
        }
        if self.epoch.is_none() {
            let raised = self.raise_epoch();
            self.poison(raised)?;
        }
        let Some(to) = &mut self.appending else { return Ok(()) };
        salt_frames(frames, to.salt);
        let number = to.number;
        if let Err(error) = to.write(frames) {
            return self.poison_io(number, error);
        }
        Ok(())
    }

    fn boundary(&mut self, tail: &Tail) -> Result<()> {
        self.tail.clone_from(tail);
        let Some(to) = &self.appending else { return Ok(()) };
        self.boundary_at = to.at;
        if to.at >= self.options.segment_bytes {
            let rolled = self.roll();
            self.poison(rolled)?;
            if self.options.purge {
                self.purge()?;
            }
        }
        Ok(())
    }

    fn wants_boundary(&self, bytes: u64) -> bool {
        self.appending.as_ref().map_or(0, |to| to.at) + bytes >= self.options.segment_bytes
    }

    fn sync(&mut self) -> Result<()> {
        self.sync_data(true)
    }

    fn start_sync(&mut self) -> Result<()> {
        self.finish_sync()?;
        self.check()?;
        let Some(to) = self.appending.as_ref().filter(|to| to.at != self.synced_at) else { return Ok(()) };
        self.syncing = Some(Syncing { to: to.at, sequence: self.tail.sequence });
        self.background.get_or_insert_with(Background::spawn).start(Arc::clone(&to.file));
        Ok(())
    }

    fn is_synced(&mut self) -> bool {
        self.syncing.is_none() || self.background.as_mut().is_none_or(Background::is_done)
    }

    fn finish_sync(&mut self) -> Result<()> {
        let Some(what) = self.syncing.take() else { return Ok(()) };
        let done = self.background.as_mut().map_or(Ok(()), Background::wait);
        self.check()?;
        self.synced(done, what, true)
    }

    fn has_early_readers(&self) -> bool {
        self.channel.readers.list().is_ok_and(|names| !names.is_empty())
    }

    fn unsynced_bytes(&self) -> u64 {
        let from = self.syncing.map_or(self.synced_at, |syncing| syncing.to);
        self.appending.as_ref().map_or(0, |to| to.at - from)
    }

    fn held(&mut self, txid: Coordinate) -> Result<Option<Position>> {
        let mut cursor = match self.held.take() {
            Some(cursor) => cursor,
            None => HeldCursor::new(Arc::clone(&self.channel)),
        };
        let found = cursor.find(txid)?;
        self.held = Some(cursor);
        Ok(found)
    }

    fn used_bytes(&self) -> u64 {
        self.closed_bytes + self.appending.as_ref().map_or(0, |to| to.at)
    }

    fn make_room(&mut self) -> Result<bool> {
        self.check()?;
        let readers = purge::readers(&self.channel)?;
        let needed = readers.iter().map(super::super::ReaderState::needs).min().unwrap_or(0);
        let unneeded = needed > self.tail.sequence;
        if unneeded && self.appending.as_ref().is_some_and(|to| to.first_sequence <= self.tail.sequence) {
            // Nobody needs anything: the last segment may go as well, once there is another to keep the last record.
            let rolled = self.roll().and_then(|()| self.start_segment());
            self.poison(rolled)?;
        }
        self.purge()?;
        Ok(unneeded)
    }

    fn waiting(&mut self, why: Option<&str>) -> Result<()> {
        match why {
            Some(why) => {
                let note = state::replace(&*self.channel.dir, WAITING, why.as_bytes());
                self.waiting = true;
                note.map_err(|error| self.channel.io(WAITING, error))
            }
            None if self.waiting => {
                self.waiting = false;
                self.channel.dir.remove(WAITING).map_err(|error| self.channel.io(WAITING, error))
            }
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        self.waiting(None)?;
        self.sync_data(false)?;
        self.check()?;
        if self.epoch.is_none() {
            return Ok(());
        }
        // Frames behind the last boundary belong to a unit that never ended. The next writer cuts them.
        let mut state = self.state;
        if let Some(to) = &self.appending {
            if to.at != self.boundary_at {
                return Ok(());
            }
            // A trailing watermark is part of the length, and what the state file vouches for must be durable before.
            if self.mark_unsynced {
                to.file.sync().map_err(|error| self.channel.io(&segment_name(to.number), error))?;
            }
            state.segment = to.number;
            state.length = to.at;
        }
        state.sequence = self.tail.sequence;
        state.clean = true;
        self.fenced()?;
        self.channel.with_reserve(|| self.channel.set_writer_state(&state))?;
        self.state = state;
        self.epoch = None;
        Ok(())
    }
}

impl DirWriter {
    fn purge(&mut self) -> Result<()> {
        purge::purge(&self.channel, false)?;
        self.count_closed()
    }
}

/// Gives every frame of a run the salt, and so a new header checksum.
fn salt_frames(frames: &mut [u8], salt: u32) {
    let mut rest = frames;
    while rest.len() >= HEADER_LEN {
        let (head, body) = rest.split_at_mut(HEADER_LEN);
        if let Some(room) = head.get_mut(SALT_AT..SALT_AT + 4) {
            room.copy_from_slice(&salt.to_le_bytes());
        }
        let crc = crc32fast::hash(head.get(..HEADER_CRC_AT).unwrap_or(&[]));
        if let Some(room) = head.get_mut(HEADER_CRC_AT..) {
            room.copy_from_slice(&crc.to_le_bytes());
        }
        let length = header_length(head) as usize;
        rest = body.get_mut(length..).unwrap_or(&mut []);
    }
}
