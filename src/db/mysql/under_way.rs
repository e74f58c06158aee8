//! A statement that is under way while its successor is being made: the server and we work at the same time.
//!
//! ```text
//! here ──start──▶ away ──back──▶ here          the connection is with the thread, and comes back with the outcome
//! ```
//!
//! The thread is spawned at the first use and ends with the session. What the statement came to is told before any other statement is run: see
//! [`super::Session::finish`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use mysql::prelude::Queryable as _;
use mysql::{Conn, Result};

/// The connection, the statement's text (whose memory is used again), and how it went.
type Done = (Conn, String, Result<()>);

/// The thread.
#[derive(Debug)]
pub(super) struct UnderWay {
    jobs: Sender<(Conn, String)>,
    done: Receiver<Done>,
}

impl UnderWay {
    pub(super) fn spawn() -> UnderWay {
        let (jobs, todo) = channel::<(Conn, String)>();
        let (told, done) = channel();
        std::thread::spawn(move || {
            while let Ok((mut conn, sql)) = todo.recv() {
                // Whatever happens, the connection goes back.
                let outcome = catch_unwind(AssertUnwindSafe(|| execute(&mut conn, &sql))).unwrap_or_else(|_| {
                    Err(mysql::Error::IoError(std::io::Error::other("the statement's thread panicked")))
                });
                if told.send((conn, sql, outcome)).is_err() {
                    return;
                }
            }
        });
        UnderWay { jobs, done }
    }

    /// Hands the connection over. `Err` gives it back: the thread is gone.
    pub(super) fn start(&self, conn: Conn, sql: String) -> std::result::Result<(), (Conn, String)> {
        self.jobs.send((conn, sql)).map_err(|job| job.0)
    }

    /// Waits for the connection.
    pub(super) fn back(&self) -> Option<Done> {
        self.done.recv().ok()
    }
}

/// Runs a statement and reads every result to its end, so that no error hides in a later one.
pub(super) fn execute(conn: &mut Conn, sql: &str) -> Result<()> {
    let mut results = conn.query_iter(sql)?;
    while let Some(set) = results.iter() {
        for row in set {
            row?;
        }
    }
    Ok(())
}
