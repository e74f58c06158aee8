//! The loops of rlog-ship: transactions move between hosts, and what is durable over there is told here.
//!
//! ```text
//!   push   source ──▶ send ══ wire ══▶ receive ──▶ queue      serve, put
//!                       ◀═══ acks ════
//!   pull   queue  ◀── receive ◀══ wire ══ send ◀── queue      serve, get
//! ```
//!
//! - [`keys`] says who is who, [`tls`] proves it; over pipes (`--stdio`, ssh) someone else has proven it.
//! - [`wire`] is the protocol's codec, without I/O; `port` the thread that serves one connection: heartbeats, deadlines, bounds.
//! - `send` and `receive` are the two roles, the same on both sides; `backlog` is what standard input needs to be sent again.
//! - [`client`] is push and pull with their retries, [`serve`] the listener with its limits.
//!
//! **States of a connection**, on both sides:
//!
//! ```text
//!   handshake ──▶ hello ──▶ welcome ──▶ streaming ──▶ end ──▶ done
//!       │           │                       │
//!       ▼           ▼                       ▼
//!     refused     refused            refused, or lost: what is whole stays
//! ```
//!
//! **The instant of commitment** is `queue::intake`'s sync on the receiving side. Its acknowledgement carries the position that
//! the receiving queue durably holds and how many units of this stream are durable with it. The sender drops, acknowledges to its own queue, or writes
//! into the cursor file, only what was acknowledged so.
//!
//! **Promises.** After any cut at any byte, and any death of either side, the same command goes on: the receiver says where it durably stands, the
//! sender resumes there (a queue) or behind what was acknowledged (standard input), and what comes twice is a repeat to the
//! receiver. A sender never learns more than what is durable; an authorised peer sees and changes only its channels; one that is not
//! authorised gets not a byte. Memory per connection is bounded by the window, the receiving queue's buffers and the sender's backlog.
//!
//! **Assumes** that the transport delivers bytes in order and unchanged or fails: TLS does, and so does ssh.
//!
//! The frames' payloads are never looked at: this module does not know `event`.

mod address;
mod backlog;
pub mod client;
mod cursor;
pub mod keys;
mod link;
mod pace;
mod port;
mod receive;
mod send;
pub mod serve;
pub mod tls;
pub mod wire;

pub use address::{Address, DEFAULT_PORT, Transport, host_port};
pub(crate) use cursor::replace;
pub use cursor::{Cursor, read_cursor};

use crate::error::{Class, Error, Result};
use wire::{Ack, Reached};

/// Bytes of `data` that a sender may be ahead of its receiver.
pub const WINDOW_BYTES: u64 = 4 << 20;
/// What we call ourselves.
const AGENT: &str = concat!("rlog ", env!("CARGO_PKG_VERSION"));

/// Told what happens while a stream moves.
pub trait Observer {
    /// A connection is there, and the receiving queue has reached this.
    fn connected(&mut self, peer: &str, reached: &Reached) -> Result<()>;
    /// More is durable.
    fn acknowledged(&mut self, ack: &Ack) -> Result<()>;
    /// Nothing happened for a moment.
    fn idle(&mut self) -> Result<()>;
    /// A remark for people.
    fn note(&mut self, text: &str);
}

/// Why one attempt ended.
#[derive(Debug)]
enum Failure {
    /// Another attempt may go better.
    Again(Error),
    /// It will not.
    Final(Error),
}

impl Failure {
    /// Of a connection that is gone.
    fn lost(error: Error) -> Failure {
        if error.class() == Class::TryAgain { Failure::Again(error) } else { Failure::Final(error) }
    }

    fn error(&self) -> &Error {
        match self {
            Failure::Again(error) | Failure::Final(error) => error,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Failure::Again(error) | Failure::Final(error) => error,
        }
    }

    fn is_again(&self) -> bool {
        matches!(self, Failure::Again(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}
