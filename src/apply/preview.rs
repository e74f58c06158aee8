//! What a run would apply, as a stream of frames, for `--dry-run`: the same judgement, filters, names and limits, and nothing is changed or
//! registered anywhere.
//!
//! Conflicts do not show: whether a row is there is the target's to say, when it is written.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::base::aborted;
use super::body::Part;
use super::input::{Input, Transaction, Unit};
use super::options::{From, Init, Options, Until};
use super::rules::Rules;
use super::run::own_origins;
use super::state::{Reached, Verdict, facts};
use super::tables::Definitions;
use super::xa;
use crate::error::{Class, Error, Result};
use crate::event::record::{close_record, open_record, write_payload};
use crate::event::{RecordKind, RecordReader, Rows, RowsOp, Statement};
use crate::frame::{Commit, End, FrameWriter, Kind, PositionSpec, gtid};
use crate::queue;
use crate::sys;
use crate::target::{ChannelState, Target};

/// What a preview came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Source transactions that would be applied.
    pub transactions: u64,
    /// Source transactions that would be passed over: applied before, or come from this target.
    pub passed_over: u64,
}

struct Preview<'a> {
    options: &'a Options,
    definitions: Arc<Definitions>,
    out: FrameWriter,
    sink: &'a mut dyn Write,
    /// Definitions as they were last written, by key: number of the table.
    written: HashMap<u64, u64>,
    reached: Reached,
    end: End,
    counts: Counts,
}

/// Writes the transactions that a run would apply to `sink`. `target`: none where `--init empty` would create it.
pub fn preview(
    target: Option<&mut dyn Target>,
    from: &From,
    options: &Options,
    stop: &Arc<AtomicBool>,
    sink: &mut dyn Write,
) -> Result<Counts> {
    let (state, own) = match target {
        Some(target) => {
            let uuid = target.uuid()?.unwrap_or_default();
            (target.state(&options.channel)?, own_origins(target, &uuid, options)?)
        }
        None => (None, Vec::new()),
    };
    let mut gtid_base = state.as_ref().and_then(|state| state.facts.get(facts::GTID_BASE).cloned());
    let state = match (state, &options.init) {
        (Some(state), _) => state,
        (None, Some(init)) => {
            let mut state = ChannelState::default();
            match init {
                Init::At(PositionSpec::Position(position)) => {
                    state.facts.insert(facts::BASE.into(), position.end.to_string());
                }
                Init::At(PositionSpec::Server { at, .. }) => {
                    state.facts.insert(facts::BASE.into(), at.to_string());
                }
                Init::At(PositionSpec::Gtid(gtids)) => gtid_base = Some(gtids.clone()),
                Init::Empty | Init::At(_) => {}
            }
            state
        }
        (None, None) => {
            return Err(Error::config(format!("the target has no state of channel {}", options.channel))
                .hint("--init empty or --init POSITION says what it is taken to hold"));
        }
    };
    let reached = Reached::new(&state)?;
    let definitions = Arc::new(Definitions::new(options.rules.clone()));
    let mut queue = None;
    let mut input = match from {
        From::Stdin => Input::stdin(definitions.clone())?,
        From::File(path) => Input::file(path, definitions.clone())?,
        From::Queue(address) => {
            let opened = queue::open(Arc::new(sys::Os), address, &options.channel, false)?;
            let reader = opened.reader(&reached.place(), queue::ReadMode::ONCE)?;
            let name = opened.name();
            queue = Some(opened);
            Input::queue(reader, name, definitions.clone())
        }
    };
    let mut waiting: HashMap<String, xa::Waiting> = xa::waiting(&state).into_iter().collect();
    let mut preview = Preview {
        options,
        definitions: definitions.clone(),
        out: FrameWriter::new(),
        sink,
        written: HashMap::new(),
        reached,
        end: End::default(),
        counts: Counts::default(),
    };
    loop {
        match input.next()? {
            Unit::Stream(header) => {
                preview.written.clear();
                preview.out.frame(Kind::Stream, |out| header.encode(out));
            }
            Unit::Transaction(transaction) if transaction.begin.chunk.is_some() => {
                return Err(Error::new(
                    Class::Unavailable,
                    "the input begins with a snapshot, which --dry-run does not show",
                ));
            }
            Unit::Transaction(transaction) => {
                if preview.reached.judge(&transaction.position, transaction.begin.prev)? == Verdict::Done {
                    preview.pass_over(&transaction);
                    continue;
                }
                if is_past(options, &transaction) {
                    break;
                }
                let held = gtid_base.as_ref().is_some_and(|base| gtid::contains(base, &transaction.begin.gtid));
                if held || transaction.begin.origins.iter().any(|origin| own.contains(origin)) {
                    preview.pass_over(&transaction);
                    continue;
                }
                match xa::decision(&transaction)? {
                    None => preview.transaction(&transaction)?,
                    Some(decision) => {
                        let group = match (decision.commit, waiting.remove(&xa::fact_name(&decision.xid)), &queue) {
                            (true, Some(waiting), Some(queue)) => xa::fetch(&**queue, &waiting, &definitions)?,
                            _ => None,
                        };
                        match group {
                            Some(group) => preview.transaction(&xa::merged(*transaction, *group))?,
                            None => preview.pass_over(&transaction),
                        }
                    }
                }
            }
            Unit::Prepared(group) => {
                preview.reached.read_to(group.position.end);
                waiting.insert(xa::fact_name(&group.commit.xid), xa::Waiting::of(&group, 0));
            }
            Unit::Progress(progress) => preview.reached.read_to(progress.to),
            Unit::SnapshotBegin(_) | Unit::SnapshotEnd(_) | Unit::Handover(_) | Unit::Gap(_) => {}
            Unit::Abort(abort) => return Err(aborted(&abort)),
            Unit::End(_) => {}
            Unit::Idle if stop.load(Ordering::Relaxed) => break,
            Unit::Idle => {}
            Unit::Finished => break,
        }
    }
    let end = std::mem::take(&mut preview.end);
    preview.out.frame(Kind::End, |out| end.encode(out));
    preview.write()?;
    Ok(preview.counts)
}

fn is_past(options: &Options, transaction: &Transaction) -> bool {
    match options.until {
        Some(Until::Position(at)) => transaction.position.end > at,
        Some(Until::Time(time_us)) => transaction.commit.time_us > time_us,
        None => false,
    }
}

impl Preview<'_> {
    fn pass_over(&mut self, transaction: &Transaction) {
        self.counts.passed_over += 1;
        self.reached.read_to(transaction.position.end);
    }

    fn transaction(&mut self, transaction: &Transaction) -> Result<()> {
        let mut tables = transaction.tables.clone();
        self.out.begin(transaction.position.txid, &transaction.begin);
        let mut records = RecordReader::new();
        let mut body = transaction.body.read()?;
        let mut payload = Vec::new();
        while let Some(part) = body.next()? {
            let (flags, data) = match part {
                Part::Definition(key, bytes) => {
                    tables.put(key, self.definitions.entry(key, bytes)?);
                    continue;
                }
                Part::Data(flags, data) => (flags, data),
            };
            payload.clear();
            let mut records = records.payload(data, flags);
            while let Some((kind, record)) = records.next()? {
                if let Some(op) = RowsOp::of_record(kind) {
                    let key = Rows::decode(op, record)?.key;
                    let Some(entry) = tables.get(key).filter(|entry| entry.applies) else { continue };
                    let mut definition = entry.table.definition.clone();
                    if self.options.settings.qualify && !definition.database.is_empty() {
                        definition.table = format!("{}.{}", definition.database, definition.table);
                    }
                    let known = self.written.insert(key, entry.table.id);
                    if known != Some(entry.table.id) {
                        let mut encoded = Vec::new();
                        definition.encode(&mut encoded);
                        self.out.definition(key, &encoded);
                    }
                } else if !self.statement_passes(kind, record)? {
                    continue;
                }
                let at = open_record(&mut payload, kind);
                payload.extend_from_slice(record);
                close_record(&mut payload, at)?;
            }
            write_payload(&mut self.out, &payload);
            self.write()?;
        }
        let mut commit = Commit::clone(&transaction.commit);
        self.out.commit(Kind::Commit, &mut commit);
        self.counts.transactions += 1;
        self.reached.read_to(transaction.position.end);
        self.end.reached = transaction.position.end;
        self.end.incarnation = transaction.position.incarnation;
        self.end.transactions += 1;
        self.write()
    }

    fn statement_passes(&self, kind: RecordKind, record: &[u8]) -> Result<bool> {
        match kind {
            RecordKind::Ddl | RecordKind::Statement | RecordKind::Truncate | RecordKind::LoadBlock => {
                let rules: &Rules = &self.options.rules;
                Ok(rules.statement_passes(&Statement::decode(record)?))
            }
            _ => Ok(true),
        }
    }

    fn write(&mut self) -> Result<()> {
        self.sink.write_all(self.out.bytes()).map_err(|error| Error::io("temporary file", error))?;
        self.out.clear();
        Ok(())
    }
}
