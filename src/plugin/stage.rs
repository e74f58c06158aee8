//! Listeners in a stream of frames: for tools that write rows on and have no target (rlog-extract, rlog-dump).
//!
//! Frames go in, frames come out. What no listener changed is as it was, byte for byte; where a row was changed, its record is written anew,
//! and the transaction's count and digest are those of what was written. *Committed* is what the tool has written out ([`Stage::written`]).

use std::collections::HashMap;
use std::sync::Arc;

use super::host::{Host, Refused};
use super::listener::{Channel, EventKind, Statement, Transaction};
use crate::error::{Error, Result};
use crate::event::record::{close_record, open_record, write_payload};
use crate::event::{self, RecordKind, RecordReader, Rows, RowsOp, TableDefinition};
use crate::frame::{Begin, Commit, Coordinate, Frame, FrameWriter, Kind, SliceFrames, flags};

/// The stage.
pub struct Stage {
    host: Arc<Host>,
    channel: Channel,
    tables: HashMap<u64, Table>,
    tables_seen: u64,
    records: RecordReader,
    open: Option<Open>,
    written: Vec<(Open, Commit, bool)>,
    /// Counts and digests of the open transaction are in it: it must be one for the whole stream.
    out: FrameWriter,
}

/// A definition that holds.
struct Table {
    id: u64,
    definition: TableDefinition,
    /// As it came, so that a repeated one is not taken for a change.
    payload: Box<[u8]>,
}

struct Open {
    txid: Coordinate,
    begin: Begin,
    ordinal: u64,
    position: String,
}

impl Open {
    fn transaction<'a>(&'a self, commit: Option<&'a Commit>, prepared: bool) -> Transaction<'a> {
        Transaction {
            txid: self.txid,
            incarnation: self.begin.incarnation,
            position: self.position.clone(),
            begin: &self.begin,
            commit,
            prepared,
        }
    }
}

impl Stage {
    /// Starts the listeners.
    pub fn start(host: Arc<Host>, channel: &str) -> Result<Stage> {
        let channel = host.channel(channel, String::new());
        host.start(&channel)?;
        Ok(Stage {
            host,
            channel,
            tables: HashMap::new(),
            tables_seen: 0,
            records: RecordReader::new(),
            open: None,
            written: Vec::new(),
            out: FrameWriter::new(),
        })
    }

    /// Takes the frames of `bytes`, whole ones.
    pub fn frames(&mut self, bytes: &[u8]) -> Result<()> {
        let mut frames = SliceFrames::new(bytes, 0);
        while let Some(frame) = frames.next()? {
            self.frame(&frame)?;
        }
        Ok(())
    }

    /// The frames that came out. Once they are written, say so ([`Stage::written`]).
    pub fn bytes(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Takes a frame; what becomes of it waits in [`Stage::bytes`].
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let mut out = std::mem::take(&mut self.out);
        let taken = self.take(frame, &mut out);
        self.out = out;
        taken
    }

    fn take(&mut self, frame: &Frame<'_>, out: &mut FrameWriter) -> Result<()> {
        // What is not known may be passed over.
        let Some(kind) = frame.kind() else { return Ok(()) };
        match kind {
            Kind::Definition => {
                if self.tables.get(&frame.header.id).is_none_or(|table| *table.payload != *frame.payload) {
                    self.tables_seen += 1;
                    let definition = TableDefinition::decode(frame.payload)?;
                    let table = Table { id: self.tables_seen, definition, payload: frame.payload.into() };
                    self.tables.insert(frame.header.id, table);
                }
                copy(frame, kind, out);
            }
            Kind::Begin => {
                self.forget("another transaction begins inside it");
                let txid = Coordinate(frame.header.id);
                let begin = Begin::decode(frame.payload, frame.at)?;
                out.begin(txid, &begin);
                self.records.reset();
                let open = self.open.insert(Open { txid, begin, ordinal: 0, position: String::new() });
                self.host.begin(&open.transaction(None, false))?;
            }
            Kind::Data => self.data(frame, out)?,
            Kind::Commit | Kind::Prepared => {
                let mut commit = Commit::decode(frame.payload, frame.at)?;
                if let Some(mut open) = self.open.take() {
                    let prepared = kind == Kind::Prepared;
                    open.position = commit.position(open.txid).to_string();
                    let ended = self.host.end(&open.transaction(Some(&commit), prepared));
                    if let Err(refused) = ended {
                        self.host.rolled_back([open.transaction(Some(&commit), prepared)], &refused.error.to_string());
                        return Err(refused.into());
                    }
                    out.commit(kind, &mut commit);
                    self.written.push((open, commit, prepared));
                } else {
                    out.commit(kind, &mut commit);
                }
            }
            Kind::Discard => {
                self.forget("rolled back by the source");
                out.discard();
            }
            _ => {
                if matches!(kind, Kind::Stream | Kind::Abort) {
                    self.forget("its end is missing");
                }
                copy(frame, kind, out);
            }
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>, out: &mut FrameWriter) -> Result<()> {
        let Some(open) = &mut self.open else {
            copy(frame, Kind::Data, out);
            return Ok(());
        };
        let wanted = [
            EventKind::StatementStart,
            EventKind::StatementFinish,
            EventKind::Ddl,
            EventKind::RowBefore,
            EventKind::RowAfter,
        ];
        if !wanted.iter().any(|kind| self.host.wants(*kind)) {
            out.data(frame.header.flags, frame.payload);
            return Ok(());
        }
        // A record that spans frames is written when it is whole.
        let spans = frame.header.flags & (flags::CONTINUES | flags::CONTINUED) != 0;
        let mut changed = spans;
        let mut payload = Vec::new();
        let mut body_new = Vec::new();
        let mut records = self.records.frame(frame);
        while let Some((kind, body)) = records.next()? {
            let new = record(&self.host, open, &self.tables, kind, body, &mut body_new)?;
            changed |= new;
            let at = open_record(&mut payload, kind);
            payload.extend_from_slice(if new { &body_new } else { body });
            close_record(&mut payload, at)?;
        }
        if changed {
            write_payload(out, &payload);
        } else {
            out.data(frame.header.flags, frame.payload);
        }
        Ok(())
    }

    /// What came out was written: its transactions are committed as far as this tool goes.
    pub fn written(&mut self) {
        self.out.clear();
        if !self.written.is_empty() {
            let list = std::mem::take(&mut self.written);
            self.host.committed(list.iter().map(|(open, commit, prepared)| open.transaction(Some(commit), *prepared)));
        }
    }

    /// The open transaction comes to nothing.
    fn forget(&mut self, why: &str) {
        if let Some(open) = self.open.take() {
            self.host.rolled_back([open.transaction(None, false)], why);
        }
    }

    /// The run is over. Returns the error of the run, or of a listener that refuses its end.
    pub fn stop(mut self, outcome: Result<()>) -> Result<()> {
        let why = outcome.as_ref().err().map(ToString::to_string);
        let why = why.as_deref().unwrap_or("its end is missing");
        self.forget(why);
        let list = std::mem::take(&mut self.written);
        if !list.is_empty() {
            let gone = list.iter().map(|(open, commit, prepared)| open.transaction(Some(commit), *prepared));
            self.host.rolled_back(gone, why);
        }
        let stopped = self.host.stop(&self.channel, outcome.as_ref().err());
        outcome.and(stopped)
    }
}

/// A frame as it is.
fn copy(frame: &Frame<'_>, kind: Kind, out: &mut FrameWriter) {
    out.open();
    out.buffer().extend_from_slice(frame.payload);
    out.close(kind, frame.header.flags, frame.header.seq, frame.header.id);
}

/// Tells of one record. Returns whether `new` holds another body for it.
fn record(
    host: &Host,
    open: &mut Open,
    tables: &HashMap<u64, Table>,
    kind: RecordKind,
    body: &[u8],
    new: &mut Vec<u8>,
) -> Result<bool, Refused> {
    if let Some(op) = RowsOp::of_record(kind) {
        let rows = Rows::decode(op, body)?;
        let Some(Table { id, definition, .. }) = tables.get(&rows.key) else {
            let error = Error::damage(format!("rows refer to table {:016x}, which was not defined", rows.key));
            return Err(Refused { error: Box::new(error), again: false });
        };
        let table = (*id, definition);
        let transaction = open.transaction(None, false);
        let statement =
            Statement { kind, table: Some(table), rows: Some(&rows), statement: None, ordinal: open.ordinal };
        host.statement_start(&transaction, &statement)?;
        let changed = host.rows_before(&transaction, &statement, table, &rows, new)?;
        let now = if changed { Rows::decode(op, new)? } else { rows };
        let statement = Statement { rows: Some(&now), ..statement };
        host.rows_after(&transaction, &statement, table, &now)?;
        host.statement_finish(&transaction, &statement)?;
        open.ordinal += u64::from(rows.count);
        return Ok(changed);
    }
    if matches!(kind, RecordKind::Annotate | RecordKind::Note) {
        return Ok(false);
    }
    let inner = event::Statement::decode(body)?;
    let transaction = open.transaction(None, false);
    let statement = Statement { kind, table: None, rows: None, statement: Some(&inner), ordinal: open.ordinal };
    host.statement_start(&transaction, &statement)?;
    host.statement_finish(&transaction, &statement)?;
    open.ordinal += 1;
    Ok(false)
}
