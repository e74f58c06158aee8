//! Syncs of a segment in a thread of its own, so that the next units are judged and written meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::sys::File;

/// The thread; it ends with this. One sync at a time.
#[derive(Debug)]
pub(super) struct Background {
    files: Sender<Arc<dyn File>>,
    results: Receiver<io::Result<()>>,
    /// What the last sync came to, when that is known and nobody has asked for it.
    done: Option<io::Result<()>>,
}

impl Background {
    pub fn spawn() -> Background {
        let (files, todo) = channel::<Arc<dyn File>>();
        let (told, results) = channel();
        std::thread::spawn(move || {
            while let Ok(file) = todo.recv() {
                if told.send(file.sync()).is_err() {
                    break;
                }
            }
        });
        Background { files, results, done: None }
    }

    /// Begins to sync what the file holds now. The one before must have been waited for.
    pub fn start(&mut self, file: Arc<dyn File>) {
        if self.files.send(file).is_err() {
            self.done = Some(Err(gone()));
        }
    }

    /// Whether [`Background::wait`] returns at once.
    pub fn is_done(&mut self) -> bool {
        if self.done.is_none() {
            self.done = self.results.try_recv().ok();
        }
        self.done.is_some()
    }

    /// What the sync came to.
    pub fn wait(&mut self) -> io::Result<()> {
        match self.done.take() {
            Some(done) => done,
            None => self.results.recv().unwrap_or_else(|_| Err(gone())),
        }
    }
}

/// The thread panicked: nothing is known of the file.
fn gone() -> io::Error {
    io::Error::other("the thread that syncs is gone")
}
