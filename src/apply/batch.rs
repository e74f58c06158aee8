//! Consecutive source transactions that become one target transaction. The target only ever shows states that existed on the source.

use super::input::Transaction;
use crate::frame::{Begin, Coordinate, Incarnation};
use crate::queue::Mark;
use crate::target::StateRow;

/// Payload bytes after which a batch is full.
pub const BYTES_MAX: u64 = 4 << 20;
/// Payload bytes of the batches that are at work at once; each is held two or three times over while it is sent.
const AT_WORK_BYTES_MAX: u64 = 6 << 20;

/// Where a transaction came from, oldest first: the targets that it passed through; for one that passed through none, the server that first
/// executed it, as `server-ID`. So it is known when it comes home, also to a server that no applier had written to before.
pub fn origins(begin: &Begin) -> Vec<String> {
    match (begin.origins.as_slice(), begin.server_id) {
        ([], 1..) => vec![server_origin(begin.server_id)],
        (origins, _) => origins.to_vec(),
    }
}

/// A server as an origin.
pub fn server_origin(server_id: u32) -> String {
    format!("server-{server_id}")
}

/// Whether a transaction stands alone for its size only. What it holds beside rows is found when it is executed.
pub fn is_large(transaction: &Transaction) -> bool {
    use crate::frame::begin_flags::{FOREIGN_KEYS_OFF, MERGED, NONTRANSACTIONAL, SNAPSHOT};
    transaction.begin.is_barrier()
        && transaction.body.bytes > crate::frame::TRANSACTION_ALONE_ABOVE_BYTES
        && transaction.begin.flags & (FOREIGN_KEYS_OFF | MERGED | NONTRANSACTIONAL | SNAPSHOT) == 0
}

/// A batch that is being gathered.
#[derive(Debug, Default)]
pub struct Batch {
    /// In source order.
    pub transactions: Vec<Box<Transaction>>,
    /// What had been reached before it; `None` while it is empty.
    pub prev: Option<Coordinate>,
    /// What is reached after it, progress behind its last transaction included.
    pub end: Coordinate,
    /// Life of the source; a batch never crosses into another.
    pub incarnation: Incarnation,
    /// Facts of the channel that are set, or removed, in the same target transaction.
    pub facts: Vec<(String, Option<String>)>,
    /// The queue's mark behind it, where the queue is in the target's own database.
    pub mark: Option<Mark>,
    bytes: u64,
}

impl Batch {
    /// Whether there is nothing in it, not even progress.
    pub fn is_empty(&self) -> bool {
        self.prev.is_none()
    }

    /// Whether `transaction` may join: same life and file of the source, same origins (rule 12).
    pub fn admits(&self, transaction: &Transaction) -> bool {
        self.admits_place(transaction.position.incarnation, transaction.position.txid)
            && self.transactions.last().is_none_or(|last| origins(&last.begin) == origins(&transaction.begin))
    }

    /// Whether what stands at `at` may join.
    pub fn admits_place(&self, incarnation: Incarnation, at: Coordinate) -> bool {
        self.is_empty() || (self.incarnation == incarnation && self.end.file() == at.file())
    }

    /// Whether it is a transaction that stands alone for its size only, as far as can be told without reading it.
    pub fn is_large(&self) -> bool {
        matches!(&self.transactions[..], [one] if is_large(one)) && self.facts.is_empty()
    }

    /// Whether it should be applied before more is read, when so many are at work at once.
    pub fn is_full(&self, transactions_max: usize, workers: usize) -> bool {
        let bytes_max = (AT_WORK_BYTES_MAX / workers.max(1) as u64).min(BYTES_MAX);
        self.transactions.len() >= transactions_max || self.bytes >= bytes_max
    }

    /// Adds a transaction that [`Batch::admits`] let in. `from` is what was reached before it.
    pub fn push(&mut self, transaction: Box<Transaction>, from: Coordinate) {
        self.extend(from, transaction.position.end, transaction.position.incarnation);
        self.bytes += transaction.body.bytes + 64;
        self.transactions.push(transaction);
    }

    /// Adds a range without transactions.
    pub fn extend(&mut self, from: Coordinate, to: Coordinate, incarnation: Incarnation) {
        self.prev.get_or_insert(from);
        self.end = to;
        self.incarnation = incarnation;
    }

    /// Its state row.
    pub fn row(&self, channel: &str, epoch: u64, uuid: &str, applied_time_us: i64) -> StateRow {
        let mut row = StateRow {
            channel: channel.to_owned(),
            incarnation: self.incarnation,
            prev: self.prev.unwrap_or(self.end),
            end: self.end,
            applied_time_us,
            epoch,
            ..StateRow::default()
        };
        for transaction in &self.transactions {
            row.add(transaction);
        }
        row.origins.push(uuid.to_owned());
        row
    }

    /// The batch cut into its transactions, each with the part of the range that leads to it; the last one takes what is behind it too.
    pub fn split(self) -> Vec<Batch> {
        let mut out: Vec<Batch> = Vec::new();
        let Batch { transactions, prev, end, incarnation, facts, mark, .. } = self;
        let mut from = prev.unwrap_or(end);
        for transaction in transactions {
            let mut one = Batch::default();
            let to = transaction.position.end;
            one.push(transaction, from);
            from = to;
            out.push(one);
        }
        match out.last_mut() {
            Some(last) => (last.end, last.facts, last.mark) = (end, facts, mark),
            None => out.push(Batch { prev, end, incarnation, facts, mark, ..Batch::default() }),
        }
        out
    }
}

impl StateRow {
    /// Counts a source transaction in. The origins are those of the first, since a batch does not mix them.
    fn add(&mut self, transaction: &Transaction) {
        if self.transactions == 0 {
            self.origins = origins(&transaction.begin);
        }
        self.transactions += 1;
        self.rows +=
            transaction.commit.tables.iter().map(|count| count.inserts + count.updates + count.deletes).sum::<u64>();
        self.source_time_us = transaction.commit.time_us;
        self.position = Some(transaction.position.clone());
    }
}
