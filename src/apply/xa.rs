//! XA transactions (rule 9): a prepared group waits in the queue until its decision comes.
//!
//! ```text
//! prepared   ──▶ pinned in the queue, durably; then one target transaction: state row, and the fact that says where it is held
//! XA COMMIT  ──▶ read again from the queue; one target transaction: state row, its rows, the fact removed; then unpinned
//! XA ROLLBACK ─▶ one target transaction: state row, the fact removed; then unpinned
//! ```
//!
//! The fact is what counts: a pin without one was left by a kill and is released at the next start; a fact without its pin (a queue that
//! was filled anew) is pinned again. Nothing of a prepared group is in the target before its decision, so that nothing of it has to be
//! taken back and no lock of it is held there. A pipe cannot give the group again, and is refused (78).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::body::Part;
use super::input::{Input, Transaction, Unit};
use super::run::{Next, Run};
use super::state::Verdict;
use super::tables::Definitions;
use crate::error::{Class, Error, Result};
use crate::event::{RecordKind, RecordReader, Statement};
use crate::frame::{Commit, Position, begin_flags};
use crate::queue::{self, Queue};
use crate::target::ChannelState;

/// Prefix of the facts of prepared groups; a hash of the XA id follows, since that may be longer than a fact's name.
pub const FACT_PREFIX: &str = "xa ";

/// A prepared group that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its unit in the queue.
    pub sequence: u64,
    /// Its position at the source.
    pub position: Position,
    /// The XA id as the source writes it.
    pub xid: String,
}

impl Waiting {
    /// A group that has just been read as this unit.
    pub fn of(group: &Transaction, sequence: u64) -> Waiting {
        let xid = String::from_utf8_lossy(&group.commit.xid).into_owned();
        Waiting { sequence, position: group.position.clone(), xid }
    }

    fn value(&self) -> String {
        format!("{} {} {}", self.sequence, self.position, self.xid)
    }

    fn parse(value: &str) -> Option<Waiting> {
        let mut parts = value.splitn(3, ' ');
        Some(Waiting {
            sequence: parts.next()?.parse().ok()?,
            position: parts.next()?.parse().ok()?,
            xid: parts.next().unwrap_or("").to_owned(),
        })
    }
}

/// The groups that wait, by the name of their fact.
pub fn waiting(state: &ChannelState) -> Vec<(String, Waiting)> {
    let facts = state.facts.iter().filter(|(name, _)| name.starts_with(FACT_PREFIX));
    facts.filter_map(|(name, value)| Some((name.clone(), Waiting::parse(value)?))).collect()
}

/// Name of the fact of a group.
pub fn fact_name(xid: &[u8]) -> String {
    format!("{FACT_PREFIX}{:032x}", xxh3_128(xid))
}

/// What a transaction decides.
pub struct Decision {
    /// XA COMMIT; else XA ROLLBACK.
    pub commit: bool,
    /// The XA id as the source writes it.
    pub xid: Vec<u8>,
}

/// The decision that a transaction is, if it is one. It stands alone.
pub fn decision(transaction: &Transaction) -> Result<Option<Decision>> {
    if !transaction.begin.is_barrier() || !transaction.commit.tables.is_empty() || transaction.commit.statements != 1 {
        return Ok(None);
    }
    let mut records = RecordReader::new();
    let mut body = transaction.body.read()?;
    while let Some(part) = body.next()? {
        let Part::Data(flags, payload) = part else { continue };
        let mut records = records.payload(payload, flags);
        while let Some((kind, body)) = records.next()? {
            if kind == RecordKind::XaDecision {
                let statement = Statement::decode(body)?;
                let text = String::from_utf8_lossy(&statement.sql).to_ascii_uppercase();
                let commit = text.split_whitespace().nth(1) == Some("COMMIT");
                return Ok(Some(Decision { commit, xid: statement.xid.to_vec() }));
            }
        }
    }
    Ok(None)
}

/// Makes the pins of a reader those that the target's facts name. `held` are the pins as the queue has them.
pub fn reconcile(queue: &dyn Queue, reader: &str, held: &[u64], state: &ChannelState) -> Result<()> {
    let mut wanted = Vec::new();
    for (_, one) in waiting(state) {
        // Under another number in a queue that was filled anew; not at all when it is gone, which its decision will tell.
        if let Some(mark) = queue.locate(&one.position)? {
            wanted.push(mark.sequence);
        }
    }
    for sequence in wanted.iter().filter(|sequence| !held.contains(sequence)) {
        queue.pin(reader, *sequence, true)?;
    }
    for sequence in held.iter().filter(|sequence| !wanted.contains(sequence)) {
        queue.pin(reader, *sequence, false)?;
    }
    Ok(())
}

/// Reads a prepared group again.
pub fn fetch(queue: &dyn Queue, waiting: &Waiting, definitions: &Arc<Definitions>) -> Result<Option<Box<Transaction>>> {
    let Some(mark) = queue.locate(&waiting.position)? else { return Ok(None) };
    let place = match mark.sequence {
        0 | 1 => queue::ReadFrom::Oldest,
        sequence => queue::ReadFrom::AfterSequence(sequence - 1),
    };
    let reader = queue.reader(&place, queue::ReadMode::ONCE)?;
    let mut input = Input::queue(reader, queue.name(), definitions.clone());
    loop {
        match input.next()? {
            Unit::Stream(_) => {}
            Unit::Prepared(group) if group.position == waiting.position => return Ok(Some(group)),
            _ => return Ok(None),
        }
    }
}

impl Run<'_> {
    /// A group is prepared: from here on the queue keeps it, and the target knows where.
    pub(super) fn prepared(&mut self, group: &Transaction) -> Result<Next> {
        self.flush()?;
        if self.judge(group)? == Verdict::Done {
            self.summary.repeated += 1;
            self.reached.read_to(group.position.end);
            return Ok(Next::More);
        }
        if self.is_past(group) || self.wait_for_delay(group)? == Next::Stop {
            return Ok(Next::Stop);
        }
        let (Some(acknowledge), Some(mark)) = (&self.acknowledge, self.input.mark()) else {
            return Err(Error::config(format!(
                "transaction {} is a prepared XA group, which must wait in a queue for its decision",
                group.position
            ))
            .hint("`rlog-queue put QUEUE`, then `rlog-apply run --from QUEUE`"));
        };
        acknowledge.queue.pin(&self.uuid, mark.sequence, true)?;
        let waiting = Waiting::of(group, mark.sequence);
        let from = self.base(group.begin.prev)?;
        self.extend(from, group.position.end, group.position.incarnation)?;
        self.batch.facts.push((fact_name(&group.commit.xid), Some(waiting.value())));
        self.write_batch()?;
        Ok(Next::More)
    }

    /// If the transaction decides about a prepared group, does so and returns `None`; else gives it back.
    pub(super) fn decided(&mut self, transaction: Box<Transaction>) -> Result<Option<Box<Transaction>>> {
        let Some(decision) = decision(&transaction)? else { return Ok(Some(transaction)) };
        self.flush()?;
        let name = fact_name(&decision.xid);
        let state = self.target.state(&self.settings.channel)?.unwrap_or_default();
        let waiting = state.facts.get(&name).and_then(|value| Waiting::parse(value));
        let from = self.base(transaction.begin.prev)?;
        let to = transaction.position.end;
        match (&waiting, decision.commit) {
            (_, false) => {
                self.extend(from, to, transaction.position.incarnation)?;
            }
            (Some(waiting), true) => {
                let queue = self.acknowledge.as_ref().map(|acknowledge| &*acknowledge.queue);
                let group = match queue {
                    Some(queue) => fetch(queue, waiting, self.definitions)?,
                    None => None,
                };
                let group = group.ok_or_else(|| gone(&transaction, &decision))?;
                self.reached.read_to(to);
                self.batch.push(Box::new(merged(*transaction, *group)), from);
                self.mark_batch();
            }
            (None, true) => return Err(gone(&transaction, &decision)),
        }
        if waiting.is_some() {
            self.batch.facts.push((name, None));
        }
        self.write_batch()?;
        if let (Some(waiting), Some(acknowledge)) = (waiting, &self.acknowledge)
            && let Some(mark) = acknowledge.queue.locate(&waiting.position)?
        {
            acknowledge.queue.pin(&self.uuid, mark.sequence, false)?;
        }
        Ok(None)
    }
}

/// The group's contents at the decision's position.
pub fn merged(decision: Transaction, group: Transaction) -> Transaction {
    let mut begin = decision.begin;
    begin.flags |= group.begin.flags & (begin_flags::NONTRANSACTIONAL | begin_flags::FOREIGN_KEYS_OFF);
    let commit = Commit { tables: group.commit.tables.clone(), ..*decision.commit };
    Transaction { begin, commit: Box::new(commit), body: group.body, tables: group.tables, ..decision }
}

fn gone(transaction: &Transaction, decision: &Decision) -> Error {
    Error::new(
        Class::Gap,
        format!(
            "transaction {} commits the XA transaction {}, whose prepared group is not held: it was prepared before the base, or the \
             queue was emptied",
            transaction.position,
            String::from_utf8_lossy(&decision.xid)
        ),
    )
    .hint("load a new snapshot; or apply what it did by hand, then step over it: `rlog-apply skip POSITION TARGET`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_group_comes_back_from_its_fact() {
        let waiting = Waiting {
            sequence: 17,
            position: "42:100-200,0000000700000001,0000abcd,0-1-5".parse().unwrap(),
            xid: "X'61',X'',1".into(),
        };
        assert_eq!(Waiting::parse(&waiting.value()), Some(waiting));
        // A name has room for 63 bytes on servers.
        assert!(fact_name(&[b'x'; 300]).len() <= 63);
    }
}
