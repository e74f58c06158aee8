//! The writer's lock: a state that names its holder and is renewed while that lives.
//!
//! The lock is politeness; what protects is that a record is only stored behind the one that its writer has seen. A
//! holder is dead when its process is gone (on the same host), else when its state was not renewed for [`PATIENCE`]. Taking
//! the lock raises the epoch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use serde_json::{Value, json};

use crate::error::{Class, Error, Result};

use super::Place;
use super::client::Client;
use super::state;

/// How often a holder says that it lives.
const RENEW: Duration = Duration::from_secs(2);
/// How long a holder of another host may say nothing.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a waiter looks.
const LOOK: Duration = Duration::from_millis(100);

/// What the state says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub epoch: u64,
    /// Who holds the lock; empty: nobody.
    pub holder: String,
    /// Whether the last writer closed.
    pub clean: bool,
    /// Why the writer waits.
    pub waiting: String,
}

impl Written {
    pub fn of(value: &Value) -> Written {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Written {
            epoch: value.get("epoch").and_then(Value::as_u64).unwrap_or(0),
            holder: text("holder"),
            clean: value.get("clean").and_then(Value::as_bool).unwrap_or(true),
            waiting: text("waiting"),
        }
    }

    fn json(&self) -> Value {
        json!({"epoch": self.epoch, "holder": self.holder, "clean": self.clean, "waiting": self.waiting})
    }
}

/// This process, as `BOOT/NAMESPACE/PID/START`, and what of it cannot be told.
fn myself() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let pid = std::process::id();
    format!("{}/{}/{pid}/{}", boot.trim(), namespace.display(), started(pid).unwrap_or_default())
}

/// When a process started, in ticks since boot: field 22 of proc_pid_stat(5).
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have anything in it.
    let rest = stat.get(stat.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    // A zombie holds nothing.
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Whether a holder is certainly dead; `None` when that cannot be told from here.
fn is_dead(holder: &str) -> Option<bool> {
    let me = myself();
    let mut mine = me.split('/');
    let mut theirs = holder.split('/');
    if mine.next()?.is_empty() || me.split('/').next() != theirs.next() || mine.next() != theirs.next() {
        return None;
    }
    let pid: u32 = theirs.next()?.parse().ok()?;
    Some(started(pid).as_deref() != theirs.next())
}

/// What the renewing thread and the holder share.
#[derive(Debug)]
struct Shared {
    state: Mutex<(Written, u64)>,
    /// Set when the holder lets go.
    ended: Mutex<bool>,
    end: Condvar,
    lost: AtomicBool,
}

/// A held lock.
#[derive(Debug)]
pub(super) struct Lease {
    client: Arc<Client>,
    states: Stream,
    subject: String,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    place: Place,
}

pub(super) fn subject(place: &Place) -> String {
    format!("{}.writer", place.state_prefix())
}

/// Whether somebody holds the lock and is not certainly dead.
pub(super) fn is_held(written: &Written) -> bool {
    !written.holder.is_empty() && is_dead(&written.holder) != Some(true)
}

impl Lease {
    /// Takes the lock.
    pub fn take(client: &Arc<Client>, states: &Stream, place: &Place, wait: Duration) -> Result<Lease> {
        let subject = subject(place);
        let end = Instant::now() + wait;
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            let held = state::get(client, states, &subject)?;
            let written = Written::of(&held.value);
            let silent = match seen {
                Some((revision, since)) if revision == held.revision => since.elapsed(),
                _ => {
                    seen = Some((held.revision, Instant::now()));
                    Duration::ZERO
                }
            };
            if !is_held(&written) || silent >= PATIENCE {
                let mine = Written { epoch: written.epoch + 1, holder: myself(), clean: false, waiting: String::new() };
                if let Some(revision) = state::put(client, states, &subject, &mine.json(), held.revision)? {
                    return Ok(Lease::hold(client, states, place, subject, mine, revision));
                }
                continue;
            }
            if Instant::now() >= end {
                return Err(Error::new(Class::TryAgain, "another process is writing to this channel")
                    .in_file(&place.name)
                    .hint(format!(
                        "wait for it with `--lock-wait SECONDS`; one that died on another host is found dead after {} seconds",
                        PATIENCE.as_secs()
                    )));
            }
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn hold(
        client: &Arc<Client>,
        states: &Stream,
        place: &Place,
        subject: String,
        written: Written,
        revision: u64,
    ) -> Lease {
        let shared = Arc::new(Shared {
            state: Mutex::new((written, revision)),
            ended: Mutex::new(false),
            end: Condvar::new(),
            lost: AtomicBool::new(false),
        });
        let mut lease = Lease {
            client: Arc::clone(client),
            states: states.clone(),
            subject,
            shared,
            thread: None,
            place: place.clone(),
        };
        let (client, states, subject) = (Arc::clone(&lease.client), lease.states.clone(), lease.subject.clone());
        let theirs = Arc::clone(&lease.shared);
        let renew = move || {
            loop {
                let ended = lock(&theirs.ended);
                let (ended, _) = theirs
                    .end
                    .wait_timeout_while(ended, RENEW, |ended| !*ended)
                    .unwrap_or_else(PoisonError::into_inner);
                if *ended {
                    return;
                }
                drop(ended);
                // A server that is away is found out by whoever writes records.
                let _ = change(&client, &states, &subject, &theirs, |_| {});
            }
        };
        lease.thread = std::thread::Builder::new().name("lease".to_owned()).spawn(renew).ok();
        lease
    }

    /// The epoch that taking the lock raised.
    pub fn epoch(&self) -> u64 {
        lock(&self.shared.state).0.epoch
    }

    /// Whether the lock is still ours, as far as is known.
    pub fn check(&self) -> Result<()> {
        if self.shared.lost.load(Ordering::Relaxed) { Err(overtaken(&self.place)) } else { Ok(()) }
    }

    /// Tells why the writer waits.
    pub fn waiting(&self, why: &str) -> Result<()> {
        if lock(&self.shared.state).0.waiting == why {
            return Ok(());
        }
        change(&self.client, &self.states, &self.subject, &self.shared, |written| {
            why.clone_into(&mut written.waiting)
        })?;
        self.check()
    }

    /// Lets go in good order.
    pub fn close(&mut self) -> Result<()> {
        self.end(true)
    }

    fn end(&mut self, clean: bool) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        *lock(&self.shared.ended) = true;
        self.shared.end.notify_all();
        let _ = thread.join();
        change(&self.client, &self.states, &self.subject, &self.shared, |written| {
            written.holder.clear();
            written.waiting.clear();
            written.clean = clean;
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Who cannot tell is found dead by the next one.
        let _ = self.end(false);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(
    client: &Client,
    states: &Stream,
    subject: &str,
    shared: &Shared,
    change: impl FnOnce(&mut Written),
) -> Result<()> {
    let mut state = lock(&shared.state);
    if shared.lost.load(Ordering::Relaxed) {
        return Ok(());
    }
    change(&mut state.0);
    match state::put(client, states, subject, &state.0.json(), state.1)? {
        Some(revision) => state.1 = revision,
        None => shared.lost.store(true, Ordering::Relaxed),
    }
    Ok(())
}

/// The error of a writer that another has overtaken.
pub(super) fn overtaken(place: &Place) -> Error {
    Error::new(Class::TryAgain, "another writer has taken over this channel")
        .in_file(&place.name)
        .hint("look for the process that holds the queue; what was acknowledged is safe")
}
