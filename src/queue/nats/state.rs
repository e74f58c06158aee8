//! Small states beside the frames: a second stream that keeps the last message of each subject. A state is replaced only where
//! it stands as it was read (its sequence number is its revision), so that nobody's change is lost.

use std::sync::Arc;

use async_nats::jetstream::stream::Stream;
use serde_json::{Value, json};

use crate::error::{Class, Error, Result};
use crate::frame::Position;
use crate::sys::clock;

use super::super::{Mark, ReaderState, fold_name};
use super::Place;
use super::client::{Client, Expected, Published};
use super::shown::Shown;

/// A state as it was read: its revision, 0 when it is not there.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub revision: u64,
    pub value: Value,
}

/// Reads a state.
pub(super) fn get(client: &Client, states: &Stream, subject: &str) -> Result<Held> {
    let Some(message) = client.last(states, subject)? else { return Ok(Held { revision: 0, value: Value::Null }) };
    Ok(Held { revision: message.sequence, value: parse(subject, &message.payload)? })
}

fn parse(subject: &str, payload: &[u8]) -> Result<Value> {
    serde_json::from_slice(payload).map_err(|error| Error::damage(format!("the state {subject} is invalid: {error}")))
}

/// Replaces a state that still has `revision`; `None` when it has not.
pub(super) fn put(
    client: &Client,
    states: &Stream,
    subject: &str,
    value: &Value,
    revision: u64,
) -> Result<Option<u64>> {
    // An id of its own, so that a repeat of this request is none of another.
    let mut unique = [0; 16];
    getrandom::fill(&mut unique).map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
    let id = format!("{:032x}", u128::from_be_bytes(unique));
    match client.publish(states, subject, &id, &[], value.to_string().into_bytes(), Expected(revision))? {
        Published::Stored(sequence) => Ok(Some(sequence)),
        Published::Overtaken => Ok(None),
    }
}

/// All states whose subjects match, with the rest of their names behind `prefix`.
pub(super) fn list(client: &Client, states: &Stream, pattern: &str, prefix: &str) -> Result<Vec<(String, Held)>> {
    let mut out = Vec::new();
    let mut from = 1;
    while let Some(message) = client.next_from_leader(states, pattern, from)? {
        from = message.sequence + 1;
        let name = message.subject.as_str().strip_prefix(prefix).unwrap_or_default().to_owned();
        let value = parse(message.subject.as_str(), &message.payload)?;
        out.push((name, Held { revision: message.sequence, value }));
    }
    Ok(out)
}

/// The oldest record that must be there, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Low {
    /// Number of the record.
    pub record: u64,
    /// The message that has it.
    pub message: u64,
    /// Number of its first unit.
    pub sequence: u64,
    /// Bytes of all records before it.
    pub total: u64,
}

impl Default for Low {
    fn default() -> Low {
        Low { record: 1, message: 0, sequence: 1, total: 0 }
    }
}

impl Low {
    fn of(value: &Value) -> Low {
        let number = |name: &str, default| value.get(name).and_then(Value::as_u64).unwrap_or(default);
        Low {
            record: number("record", 1),
            message: number("message", 0),
            sequence: number("sequence", 1),
            total: number("total", 0),
        }
    }

    fn json(&self) -> Value {
        json!({"record": self.record, "message": self.message, "sequence": self.sequence, "total": self.total})
    }
}

/// The readers of a channel.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    pub client: Arc<Client>,
    pub states: Stream,
    pub place: Place,
    pub shown: Arc<Shown>,
}

impl Readers {
    fn subject(&self, name: &str) -> String {
        format!("{}.reader.{name}", self.place.state_prefix())
    }

    pub fn low(&self) -> Result<(Low, u64)> {
        let held = get(&self.client, &self.states, &format!("{}.low", self.place.state_prefix()))?;
        Ok((Low::of(&held.value), held.revision))
    }

    /// Raises (or sets back) the mark; whether it was as it was read.
    pub fn set_low(&self, low: &Low, revision: u64) -> Result<Option<u64>> {
        put(&self.client, &self.states, &format!("{}.low", self.place.state_prefix()), &low.json(), revision)
    }

    pub fn all(&self) -> Result<Vec<ReaderState>> {
        let prefix = self.subject("");
        let mut found = list(&self.client, &self.states, &format!("{prefix}*"), &prefix)?;
        found.sort_by(|left, right| left.0.cmp(&right.0));
        found.into_iter().map(|(name, held)| self.reader(&name, &held.value)).collect()
    }

    fn reader(&self, name: &str, value: &Value) -> Result<ReaderState> {
        let wrong =
            || Error::damage(format!("what reader `{name}` has acknowledged is invalid")).in_file(&self.place.name);
        let text = value.get("position").and_then(Value::as_str).unwrap_or("");
        let position = if text.is_empty() { Position::default() } else { text.parse().map_err(|_| wrong())? };
        let sequence = value.get("sequence").and_then(Value::as_u64).ok_or_else(wrong)?;
        let pins = value.get("pins").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let pins = pins.iter().map(|pin| pin.as_u64().ok_or_else(wrong)).collect::<Result<_>>()?;
        let time_us = value.get("time_us").and_then(Value::as_i64).unwrap_or(0);
        Ok(ReaderState { name: name.to_owned(), acked: Mark { sequence, position }, pins, time_us })
    }

    fn json(state: &ReaderState) -> Value {
        let position = if state.acked.sequence > 0 { state.acked.position.to_string() } else { String::new() };
        json!({"sequence": state.acked.sequence, "position": position, "time_us": state.time_us, "pins": state.pins})
    }

    /// One that must be registered.
    pub fn known(&self, name: &str) -> Result<(ReaderState, u64)> {
        let name = fold_name("reader", name)?;
        let held = get(&self.client, &self.states, &self.subject(&name))?;
        if held.revision == 0 {
            return Err(Error::new(Class::NoInput, format!("no reader `{name}` is registered"))
                .in_file(&self.place.name)
                .hint(format!("`rlog-queue status {}` lists the readers", self.place.address)));
        }
        Ok((self.reader(&name, &held.value)?, held.revision))
    }

    fn store(&self, state: &ReaderState, revision: u64) -> Result<Option<u64>> {
        put(&self.client, &self.states, &self.subject(&state.name), &Readers::json(state), revision)
    }

    pub fn register(&self, name: &str) -> Result<ReaderState> {
        let name = fold_name("reader", name)?;
        loop {
            let held = get(&self.client, &self.states, &self.subject(&name))?;
            if held.revision > 0 {
                return self.reader(&name, &held.value);
            }
            let state =
                ReaderState { name: name.clone(), acked: Mark::default(), pins: Vec::new(), time_us: clock::now_us() };
            if self.store(&state, 0)?.is_some() {
                self.shown.create(&self.client, &self.place, &name);
                return Ok(state);
            }
        }
    }

    pub fn unregister(&self, name: &str) -> Result<()> {
        let (state, _) = self.known(name)?;
        self.client.purge(&self.states, &self.subject(&state.name), None)?;
        self.hide(&state.name);
        Ok(())
    }

    /// NATS's tools need not see it any more.
    pub fn hide(&self, name: &str) {
        self.shown.remove(&self.client, &self.place, name);
    }

    /// Changes a reader's state; `change` returns whether there is anything to store.
    fn change(&self, name: &str, change: impl Fn(&mut ReaderState) -> Result<bool>) -> Result<(ReaderState, u64)> {
        loop {
            let (before, revision) = self.known(name)?;
            let mut state = before.clone();
            if !change(&mut state)? {
                return Ok((before, revision));
            }
            if let Some(revision) = self.store(&state, revision)? {
                return Ok((before, revision));
            }
        }
    }

    pub fn ack(&self, name: &str, mark: &Mark) -> Result<()> {
        let gone = || {
            Error::new(Class::Gap, format!("the queue no longer holds what comes behind {}", mark.position))
                .in_file(&self.place.name)
                .hint("the target was set back too far: take a new snapshot")
        };
        let is_gone = || -> Result<bool> { Ok(mark.sequence + 1 < self.low()?.0.sequence) };
        let (before, revision) = self.change(name, |state| {
            if state.acked == *mark {
                return Ok(false);
            }
            if mark.sequence < state.acked.sequence && is_gone()? {
                return Err(gone());
            }
            state.acked = mark.clone();
            state.time_us = clock::now_us();
            Ok(true)
        })?;
        // A purge that did not see this step back has raised its mark before it looked at the readers again: one of the two sees the other.
        if mark.sequence < before.acked.sequence && is_gone()? {
            self.store(&before, revision)?;
            return Err(gone());
        }
        if before.acked.sequence != mark.sequence {
            let back = mark.sequence < before.acked.sequence;
            self.shown.stand(&self.client, &self.place, &before.name, mark.sequence, back);
        }
        Ok(())
    }

    pub fn pin(&self, name: &str, sequence: u64, keep: bool) -> Result<()> {
        let low = self.low()?.0;
        self.change(name, |state| {
            if state.pins.contains(&sequence) == keep {
                return Ok(false);
            }
            if keep {
                if sequence < low.sequence {
                    return Err(Error::new(Class::Gap, format!("unit {sequence} was purged")).in_file(&self.place.name));
                }
                state.pins.push(sequence);
            } else {
                state.pins.retain(|pin| *pin != sequence);
            }
            Ok(true)
        })
        .map(drop)
    }
}
