//! Dead letters: source transactions of which something was stepped over, kept as a stream of frames that every tool reads.
//!
//! A letter is appended and synced before the target transaction commits, so after a crash it may be there without its skip: it
//! is then applied again and found here by its id, and not written twice.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::body::Part;
use super::input::Transaction;
use crate::error::{Error, Result};
use crate::frame::{Checker, Commit, End, FrameReader, FrameWriter, Incarnation, Kind, Step, StreamHeader};

/// An opened file of dead letters.
pub struct DeadLetters {
    path: PathBuf,
    file: File,
    known: HashSet<(Incarnation, u64)>,
}

impl DeadLetters {
    /// Opens or creates the file; what a crash left torn at its end is cut off.
    pub fn open(path: &Path) -> Result<DeadLetters> {
        let name = path.display().to_string();
        let fail = |error| Error::io(&name, error);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(fail)?;
        let mut known = HashSet::new();
        let mut whole = 0;
        let mut frames = FrameReader::new(&mut file);
        let mut checker = Checker::new();
        let mut letters = Vec::new();
        loop {
            let step = match frames.next() {
                Ok(None) => break,
                Ok(Some(frame)) => checker.frame(&frame).map_err(|error| Error::from(error).in_file(&name))?,
                Err(crate::frame::reader::ReadError::Frame(crate::frame::FrameError::Torn { .. })) => break,
                Err(error) => return Err(error.into_error(&name)),
            };
            match step {
                Step::Commit(position, _) => letters.push((position.incarnation, position.txid.0)),
                Step::End(_) => {
                    whole = frames.at();
                    known.extend(letters.drain(..));
                }
                _ => {}
            }
        }
        file.set_len(whole).map_err(fail)?;
        file.seek(SeekFrom::Start(whole)).map_err(fail)?;
        Ok(DeadLetters { path: path.to_owned(), file, known })
    }

    /// Keeps a transaction, unless it is there already. Durable when it returns.
    pub fn put(&mut self, header: &StreamHeader, transaction: &Transaction) -> Result<()> {
        let id = (transaction.position.incarnation, transaction.position.txid.0);
        if self.known.contains(&id) {
            return Ok(());
        }
        let name = self.path.display().to_string();
        let fail = |error| Error::io(&name, error);
        let mut writer = FrameWriter::new();
        let header = StreamHeader { start: transaction.begin.prev, ..header.clone() };
        writer.frame(Kind::Stream, |out| header.encode(out));
        for (key, entry) in transaction.tables.iter() {
            writer.definition(key, &entry.payload);
        }
        writer.begin(transaction.position.txid, &transaction.begin);
        let mut body = transaction.body.read()?;
        while let Some(part) = body.next()? {
            match part {
                Part::Definition(key, payload) => writer.definition(key, payload),
                Part::Data(flags, payload) => writer.data(flags, payload),
            }
            self.file.write_all(writer.bytes()).map_err(fail)?;
            writer.clear();
        }
        let mut commit = Commit::clone(&transaction.commit);
        writer.commit(Kind::Commit, &mut commit);
        let end = End {
            reached: transaction.position.end,
            incarnation: transaction.position.incarnation,
            transactions: 1,
            ..End::default()
        };
        writer.frame(Kind::End, |out| end.encode(out));
        self.file.write_all(writer.bytes()).map_err(fail)?;
        self.file.sync_all().map_err(fail)?;
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
        }
        self.known.insert(id);
        Ok(())
    }
}
