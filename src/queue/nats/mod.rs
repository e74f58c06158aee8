//! A queue on NATS JetStream.
//!
//! ```text
//! stream STREAM           rlog.STREAM.frames.CHANNEL     a message a record
//!                         rlog.STREAM.parts.CHANNEL      parts of records that are larger than a message
//! stream STREAM_state     rlog.STREAM.state.queue                       the queue's UUID
//!                         rlog.STREAM.state.channel.CHANNEL.made        what makes the channel
//!                         rlog.STREAM.state.channel.CHANNEL.writer      the writer's lock and epoch
//!                         rlog.STREAM.state.channel.CHANNEL.low         the oldest record that must be there
//!                         rlog.STREAM.state.channel.CHANNEL.reader.NAME what a reader has acknowledged and pinned
//! ```
//!
//! A record's message has its frames, what is reached behind it, and in headers where it belongs ([`log::Facts`]). It becomes
//! visible and acknowledged in one step; so a transaction is whole or not there, however many parts it has.
//!
//! **Once.** A message is stored only behind the one that its writer knows to be the subject's last (expected last subject
//! sequence), with an id that is the coordinate that it goes on from and the writer's epoch. A publish that was not answered is
//! repeated; whether it is there already is told by the server's window of ids, and when that has forgotten, by the id of the last
//! message. Readers check the numbers and digests of records besides, so that one that stands there twice counts once, and one that is
//! missing is found out.
//!
//! **Readers** keep their state as messages: a durable consumer can neither keep single transactions, nor be changed only as it was seen. What NATS's
//! own tools see of a reader is a durable consumer beside that ([`shown`]).
//!
//! **Power.** Servers acknowledge before they sync, unless set up with `sync_interval: always`, and nats-server#7549 is open even then: an
//! acknowledged record may be lost with the power. So [`Properties::ack_survives_power_loss`] is false whatever the settings,
//! and a source is told to forget only what every reader has acknowledged.

mod address;
mod check;
mod client;
mod lease;
mod log;
mod shown;
mod state;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use serde_json::json;

use crate::error::{Class, Error, Result};
use crate::frame::Position;

use super::records::{self, LogReader};
use super::{
    Mark, Properties, Purged, Queue, ReadFrom, ReadMode, Reader, ReaderState, Status, Tail, Verified, Writer,
    WriterOptions, fold_name,
};
pub use address::{NatsAddress, Tls};
use client::Client;
use lease::{Lease, Written};
use log::NatsLog;
use state::Readers;

/// How long a server remembers ids.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// What names a channel.
#[derive(Clone, Debug)]
struct Place {
    /// Queue and channel, for messages.
    name: String,
    /// The queue's address as the user gave it.
    address: String,
    stream: String,
    channel: String,
    uuid: [u8; 16],
}

impl Place {
    fn frames_subject(&self) -> String {
        format!("rlog.{}.frames.{}", self.stream, self.channel)
    }

    fn parts_subject(&self) -> String {
        format!("rlog.{}.parts.{}", self.stream, self.channel)
    }

    fn state_prefix(&self) -> String {
        format!("rlog.{}.state.channel.{}", self.stream, self.channel)
    }

    fn damaged(&self, what: String) -> Error {
        Error::damage(what).in_file(&self.name).hint(format!("`rlog-queue verify {}` lists the damage", self.address))
    }
}

/// One channel of a queue on JetStream.
#[derive(Debug)]
pub struct NatsQueue {
    client: Arc<Client>,
    frames: Stream,
    readers: Readers,
    place: Place,
}

fn config(address: &NatsAddress, name: String, subjects: Vec<String>, last_only: bool) -> stream::Config {
    stream::Config {
        name,
        subjects,
        num_replicas: address.replicas,
        storage: if address.memory { StorageType::Memory } else { StorageType::File },
        // Never the oldest: a queue that is full makes its writer wait.
        discard: DiscardPolicy::New,
        max_messages_per_subject: if last_only { 1 } else { -1 },
        max_bytes: if last_only { -1 } else { address.max_bytes.unwrap_or(-1) },
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        description: Some("a queue of rlog-queue(1)".to_owned()),
        ..stream::Config::default()
    }
}

/// The two streams, created when missing.
fn streams(client: &Client, create: bool) -> Result<(Stream, Stream)> {
    let address = &client.address;
    let name = &address.stream;
    let subjects = vec![format!("rlog.{name}.frames.*"), format!("rlog.{name}.parts.*")];
    let frames = config(address, name.clone(), subjects, false);
    let states = config(address, format!("{name}_state"), vec![format!("rlog.{name}.state.>")], true);
    let missing = || {
        Error::new(Class::NoInput, format!("there is no queue `{name}`"))
            .in_file(&address.text)
            .hint("`rlog-queue put` creates it")
    };
    let frames = client.stream(name, create.then_some(frames))?.ok_or_else(missing)?;
    let states = client.stream(&format!("{name}_state"), create.then_some(states))?.ok_or_else(missing)?;
    let config = &frames.cached_info().config;
    let ours = format!("rlog.{name}.frames.*");
    if !config.subjects.contains(&ours) {
        return Err(Error::config(format!("the stream `{name}` is something else: it has no subject {ours}"))
            .in_file(&address.text)
            .hint("name another stream"));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err(Error::config(format!(
            "the stream `{name}` forgets what its consumers have acknowledged, or have no interest in"
        ))
        .in_file(&address.text)
        .hint("its retention policy must be `limits`"));
    }
    if config.max_age != Duration::ZERO || config.discard != DiscardPolicy::New || config.max_messages_per_subject > 0 {
        return Err(Error::config(format!("the stream `{name}` may forget messages by itself"))
            .in_file(&address.text)
            .hint("set its max_age to 0, its discard policy to new, and no limit of messages per subject"));
    }
    Ok((frames, states))
}

/// The queue's UUID, made when missing.
fn uuid(client: &Client, states: &Stream, create: bool) -> Result<[u8; 16]> {
    let subject = format!("rlog.{}.state.queue", client.address.stream);
    loop {
        let held = state::get(client, states, &subject)?;
        if held.revision > 0 {
            let layout = held.value.get("layout").and_then(serde_json::Value::as_u64);
            if layout != Some(1) {
                return Err(Error::new(Class::Version, format!("the queue has layout {layout:?}, this rlog knows 1"))
                    .in_file(&client.address.text));
            }
            let text = held.value.get("uuid").and_then(serde_json::Value::as_str).unwrap_or_default();
            let number = u128::from_str_radix(text, 16);
            return number
                .map(u128::to_be_bytes)
                .map_err(|_| Error::damage("the queue's UUID is invalid").in_file(&client.address.text));
        }
        if !create {
            return Err(
                Error::new(Class::NoInput, "the streams are there, but no queue in them").in_file(&client.address.text)
            );
        }
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
        let value = json!({"uuid": format!("{:032x}", u128::from_be_bytes(uuid)), "layout": 1});
        state::put(client, states, &subject, &value, 0)?;
    }
}

impl NatsQueue {
    /// Opens the channel; see [`super::open`].
    pub fn open(address: &NatsAddress, channel: &str, create: bool) -> Result<NatsQueue> {
        let channel = fold_name("channel", channel)?;
        let client = Client::connect(address)?;
        let (frames, states) = streams(&client, create)?;
        let uuid = uuid(&client, &states, create)?;
        let text = address.text.split('?').next().unwrap_or_default().to_owned();
        let name = if channel == super::DEFAULT_CHANNEL { text.clone() } else { format!("{text} ({channel})") };
        let place = Place { name, address: address.text.clone(), stream: address.stream.clone(), channel, uuid };
        let made = format!("{}.made", place.state_prefix());
        if state::get(&client, &states, &made)?.revision == 0 {
            if !create {
                return Err(Error::new(Class::NoInput, format!("the queue has no channel `{}`", place.channel))
                    .in_file(&text)
                    .hint(format!("`rlog-queue channels {text}` lists the channels")));
            }
            // Another that makes it at the same time has made it.
            state::put(&client, &states, &made, &json!({}), 0)?;
        }
        let readers = Readers { client: Arc::clone(&client), states, place: place.clone(), shown: Arc::default() };
        Ok(NatsQueue { client, frames, readers, place })
    }

    fn log(&self) -> NatsLog {
        NatsLog::new(&self.client, &self.frames, &self.readers, &self.place)
    }

    fn written(&self) -> Result<Written> {
        let held = state::get(&self.client, &self.readers.states, &lease::subject(&self.place))?;
        Ok(Written::of(&held.value))
    }
}

/// The channels of a queue, sorted.
pub(super) fn channels(address: &NatsAddress) -> Result<Vec<String>> {
    let client = Client::connect(address)?;
    let (_, states) = streams(&client, false)?;
    let prefix = format!("rlog.{}.state.channel.", address.stream);
    let found = state::list(&client, &states, &format!("{prefix}*.made"), &prefix)?;
    let mut names: Vec<String> =
        found.into_iter().filter_map(|(name, _)| name.strip_suffix(".made").map(str::to_owned)).collect();
    names.sort_unstable();
    Ok(names)
}

impl Queue for NatsQueue {
    fn name(&self) -> String {
        self.place.name.clone()
    }

    fn properties(&self) -> Properties {
        Properties { ack_survives_power_loss: false, readable_before_sync: false }
    }

    fn tail(&self) -> Result<Tail> {
        let mut log = self.log();
        match log.last_message()? {
            None => Ok(Tail::default()),
            Some((facts, message)) => {
                let mut tail = Tail::at_segment(&log.state(&facts, &message)?);
                tail.source = log.source(&facts)?;
                Ok(tail)
            }
        }
    }

    fn writer(&self, options: &WriterOptions) -> Result<Box<dyn Writer>> {
        Ok(Box::new(writer::NatsWriter::open(&self.client, &self.frames, &self.readers, &self.place, options)?))
    }

    fn reader(&self, from: &ReadFrom, mode: ReadMode) -> Result<Box<dyn Reader>> {
        let from = match from {
            ReadFrom::Acknowledged(name) => {
                let (state, _) = self.readers.known(name)?;
                if state.acked.sequence == 0 { ReadFrom::Oldest } else { ReadFrom::AfterSequence(state.acked.sequence) }
            }
            other => other.clone(),
        };
        Ok(Box::new(LogReader::open(self.log(), &from, mode)?))
    }

    fn locate(&self, position: &Position) -> Result<Option<Mark>> {
        records::locate(self.log(), position)
    }

    fn register(&self, reader: &str) -> Result<ReaderState> {
        self.readers.register(reader)
    }

    fn ack(&self, reader: &str, mark: &Mark) -> Result<()> {
        self.readers.ack(reader, mark)
    }

    fn pin(&self, reader: &str, sequence: u64, keep: bool) -> Result<()> {
        self.readers.pin(reader, sequence, keep)
    }

    fn readers(&self) -> Result<Vec<ReaderState>> {
        self.readers.all()
    }

    fn unregister(&self, reader: &str) -> Result<()> {
        self.readers.unregister(reader)
    }

    fn purge(&self, dry_run: bool) -> Result<Purged> {
        writer::purge(&self.client, &self.frames, &self.readers, &self.place, dry_run)
    }

    fn status(&self) -> Result<Status> {
        let written = self.written()?;
        let writing = lease::is_held(&written);
        let (low, _) = self.readers.low()?;
        let last = self.log().last_message()?;
        let tail = self.tail()?;
        let info = self.client.info(&self.frames)?;
        let free = u64::try_from(info.config.max_bytes).ok().filter(|max| *max > 0);
        Ok(Status {
            first_sequence: low.sequence,
            synced_sequence: tail.sequence,
            tail,
            files: last.as_ref().map_or(0, |(facts, _)| facts.record + 1 - low.record),
            bytes: last.as_ref().map_or(0, |(facts, _)| facts.total.saturating_sub(low.total)),
            // Without a limit of its own the stream has what its servers have.
            free_bytes: free.map_or(u64::MAX, |max| max.saturating_sub(info.state.bytes)),
            writing,
            unclean: !written.clean && !writing,
            waiting: if writing { written.waiting } else { String::new() },
            epoch: written.epoch,
            readers: self.readers.all()?,
        })
    }

    fn verify(&self, finding: &mut dyn FnMut(Error)) -> Result<Verified> {
        let mut seen = records::verify(self.log(), finding, &mut |_| Ok(()))?;
        let (low, _) = self.readers.low()?;
        seen.bytes = self.log().last_message()?.map_or(0, |(facts, _)| facts.total.saturating_sub(low.total));
        Ok(seen)
    }

    fn reset(&self, lock_wait: Duration) -> Result<()> {
        let mut lease = Lease::take(&self.client, &self.readers.states, &self.place, lock_wait)?;
        for subject in [self.place.frames_subject(), self.place.parts_subject()] {
            self.client.purge(&self.frames, &subject, None)?;
        }
        for reader in self.readers.all()? {
            self.readers.hide(&reader.name);
        }
        for subject in ["low", "reader.*"] {
            self.client.purge(&self.readers.states, &format!("{}.{subject}", self.place.state_prefix()), None)?;
        }
        lease.close()
    }

    fn remarks(&self) -> Result<Vec<String>> {
        check::remarks(&self.client, &self.frames)
    }
}
