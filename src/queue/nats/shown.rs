//! What NATS's own tools see of a reader: a durable consumer READER@CHANNEL of the stream, which stands where the reader has acknowledged.
//!
//! ```text
//! registered ─▶ created (all, ack all, frames of the channel)   acknowledged ─▶ reset to the record behind   forgotten ─▶ deleted
//! ```
//!
//! It is a picture, and never asked: what counts is the reader's state ([`super::state`]), which is changed only as it was seen, keeps pins, and
//! steps back. So whatever fails here is passed over; a consumer that is missing, or that somebody has moved or deleted, is put right by a later
//! acknowledgement. It is moved by a reset (ADR-60), back or forth, without a message being delivered; servers before 2.14 know none, and there readers are not shown.
//!
//! A reader's mark counts units, a consumer messages. Which belongs to which is remembered from records that this process has read; another mark
//! (that of a run that only repairs what was acknowledged) is not shown before the next one.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Place;
use super::client::Client;
use crate::sys::units;

/// Records that are remembered; the oldest are forgotten.
const SEEN_MAX: usize = 1 << 14;
/// How long nothing is tried after a failure: whoever acknowledges must not wait for this again and again.
const PAUSE: Duration = Duration::from_secs(60);
/// The first servers that can reset a consumer.
const VERSION_MIN: (u32, u32, u32) = (2, 14, 0);

/// What is remembered, and whether it works.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// By the number of the first unit behind a record, the message behind which a reader of all before it stands.
    seen: Mutex<BTreeMap<u64, u64>>,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    failed: Option<Instant>,
    /// Readers whose consumers are there, as far as is known: a server does not answer who resets one that is not.
    there: HashSet<String>,
}

/// The consumer's name. Neither half can have an `@`.
fn name(place: &Place, reader: &str) -> String {
    format!("{reader}@{}", place.channel)
}

/// Whether servers of this version can show readers.
pub(super) fn is_supported(version: &str) -> bool {
    units::version(version) >= VERSION_MIN
}

impl Shown {
    /// A record was read: its message, and the first unit behind it.
    pub fn saw(&self, message: u64, unit_behind: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(unit_behind, message);
        if seen.len() > SEEN_MAX {
            seen.pop_first();
        }
    }

    /// Makes requests until one is not answered well. Nothing is tried where it cannot work, or did not work just now.
    fn ask(&self, client: &Client, requests: impl FnOnce(&mut HashSet<String>) -> bool) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_supported(&client.server_version()) || asked.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let done = requests(&mut asked.there);
        asked.failed = (!done).then(Instant::now);
        if !done {
            asked.there.clear();
        }
    }

    /// A reader is registered.
    pub fn create(&self, client: &Client, place: &Place, reader: &str) {
        self.ask(client, |there| make(client, place, reader, there));
    }

    /// A reader has acknowledged all up to the unit `sequence`. Who steps `back` to where nothing is known of is shown at the beginning.
    pub fn stand(&self, client: &Client, place: &Place, reader: &str, sequence: u64, back: bool) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let message = seen.range(..=sequence.saturating_add(1)).next_back().map(|(_, message)| *message);
        drop(seen);
        let Some(message) = message.or_else(|| back.then_some(0)) else { return };
        let subject = format!("CONSUMER.RESET.{}.{}", place.stream, name(place, reader));
        self.ask(client, |there| {
            (there.contains(reader) || make(client, place, reader, there))
                && client.once(&subject, &json!({"seq": message + 1}))
        });
    }

    /// A reader is forgotten.
    pub fn remove(&self, client: &Client, place: &Place, reader: &str) {
        let subject = format!("CONSUMER.DELETE.{}.{}", place.stream, name(place, reader));
        self.ask(client, |there| {
            there.remove(reader);
            client.once(&subject, &json!({}));
            true
        });
    }
}

/// Makes the consumer; one that is there already stays as it is.
fn make(client: &Client, place: &Place, reader: &str, there: &mut HashSet<String>) -> bool {
    let (name, filter) = (name(place, reader), place.frames_subject());
    let subject = format!("CONSUMER.CREATE.{}.{name}.{filter}", place.stream);
    let config = json!({
        "durable_name": name, "name": name, "description": "a reader of rlog-queue(1); do not pull from it",
        "deliver_policy": "all", "ack_policy": "all", "replay_policy": "instant", "filter_subject": filter, "headers_only": true,
    });
    let made = client.once(&subject, &json!({"stream_name": place.stream, "config": config, "action": ""}));
    if made {
        there.insert(reader.to_owned());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_can_reset_a_consumer_are_asked() {
        for (version, supported) in
            [("2.9.10", false), ("2.13.4", false), ("2.14.0", true), ("2.15.1-beta", true), ("3.0", true), ("", false)]
        {
            assert_eq!(is_supported(version), supported, "{version}");
        }
    }

    #[test]
    fn records_are_remembered_within_bounds() {
        let shown = Shown::default();
        (0..SEEN_MAX as u64 + 10).for_each(|number| shown.saw(number, number + 1));
        let seen = shown.seen.lock().unwrap();
        assert_eq!((seen.len(), seen.first_key_value()), (SEEN_MAX, Some((&11, &10))));
    }
}
