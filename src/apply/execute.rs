//! Handing a transaction's records to a session: fast, or row by row with the policy for conflicts.

use super::body::Part;
use super::conflict::{Action, Conflict, Policy};
use super::input::Transaction;
use super::tables::{Definitions, TableSet};
use crate::error::{Class, Error};
use crate::event::{RecordKind, RecordReader, Rows, RowsOp, Statement};
use crate::frame::begin_flags;
use crate::plugin::{self, Host, Refused};
use crate::target::{Cause, DdlOutcome, Failure, Force, Head, Outcome, Session};

/// What `--ddl` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DdlPolicy {
    /// Apply it, translated where the engines differ; what cannot be is a conflict.
    #[default]
    Apply,
    /// Leave it out.
    Ignore,
    /// Stop at the first one (80).
    Stop,
}

/// What a transaction came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Rows handed to the target.
    pub rows: u64,
    /// Statements and DDL.
    pub statements: u64,
    /// Conflicts that were stepped over or overwritten.
    pub conflicts: Vec<Conflict>,
    /// For people: DDL that was left out, and why.
    pub notes: Vec<String>,
}

/// What executing needs besides the session.
pub struct Executor<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Policy for conflicts; only asked row by row.
    pub policy: &'a Policy,
    /// What to do with DDL.
    pub ddl: DdlPolicy,
    /// Decodes definitions that stand inside transactions.
    pub definitions: &'a Definitions,
    /// Who hears of it.
    pub listeners: Option<&'a Host>,
}

impl Executor<'_> {
    /// What stands in front of a transaction's records.
    pub fn head(transaction: &Transaction) -> Head {
        Head {
            position: transaction.position.clone(),
            server_id: transaction.begin.server_id,
            time_us: match transaction.commit.time_us {
                0 => transaction.begin.time_us,
                time_us => time_us,
            },
            nontransactional: transaction.begin.flags & begin_flags::NONTRANSACTIONAL != 0,
            snapshot: transaction.begin.flags & begin_flags::SNAPSHOT != 0,
            // A snapshot's tables come in no particular order.
            foreign_keys_off: transaction.begin.flags & (begin_flags::FOREIGN_KEYS_OFF | begin_flags::SNAPSHOT) != 0,
        }
    }

    /// Applies all records; any failure is for the caller to roll back.
    pub fn fast(&self, session: &mut dyn Session, transaction: &Transaction) -> Outcome<Tally> {
        self.run(session, transaction, false)
    }

    /// Applies row by row; conflicts go by the policy.
    pub fn exact(&self, session: &mut dyn Session, transaction: &Transaction) -> Outcome<Tally> {
        self.run(session, transaction, true)
    }

    /// A snapshot's schema, outside of any transaction. A table or index that cannot be made is a failure between servers of one family; anything
    /// else stays behind with a note, since rows do not depend on it.
    pub fn schema(&self, session: &mut dyn Session, transaction: &Transaction, same_family: bool) -> Outcome<Tally> {
        let head = Executor::head(transaction);
        let rules = self.definitions.rules();
        let mut tally = Tally::default();
        let mut records = RecordReader::new();
        let mut body = transaction.body.read()?;
        while let Some(part) = body.next()? {
            let Part::Data(flags, payload) = part else { continue };
            let mut records = records.payload(payload, flags);
            while let Some((kind, body)) = records.next()? {
                if kind != RecordKind::Ddl {
                    continue;
                }
                let statement = Statement::decode(body)?;
                // Names inside the text of statements are not renamed: then tables are made from their columns.
                let mut renamed = statement.database.clone().into_owned();
                rules.rewrite(&mut renamed);
                if renamed != statement.database || !rules.statement_passes(&statement) {
                    continue;
                }
                tally.statements += 1;
                match session.make(&head, &statement) {
                    Ok(DdlOutcome::Applied) => {}
                    // Tables may be there, that is what IF NOT EXISTS says; the same holds for the rest.
                    Ok(DdlOutcome::PassedOver(why)) => tally.notes.push(why),
                    Err(failure) if matches!(failure.cause, Cause::Retry | Cause::Lost | Cause::Fenced) => {
                        return Err(failure);
                    }
                    Err(failure) if same_family && statement.ddl.ends_with(" table") => return Err(failure),
                    Err(failure) => tally.notes.push(format!("left out: {failure}")),
                }
            }
        }
        Ok(tally)
    }

    fn run(&self, session: &mut dyn Session, transaction: &Transaction, exact: bool) -> Outcome<Tally> {
        let mut listening = self.listeners.map(|host| Listening { host, transaction: heard(transaction), ordinal: 0 });
        if let Some(listening) = &listening {
            listening.host.begin(&listening.transaction).map_err(|why| listening.refused(why))?;
        }
        session.transaction(&Executor::head(transaction))?;
        let mut tally = Tally::default();
        let mut tables = transaction.tables.clone();
        let mut records = RecordReader::new();
        let mut body = transaction.body.read()?;
        while let Some(part) = body.next()? {
            match part {
                Part::Definition(key, payload) => tables.put(key, self.definitions.entry(key, payload)?),
                Part::Data(flags, payload) => {
                    let mut records = records.payload(payload, flags);
                    while let Some((kind, body)) = records.next()? {
                        let told = listening.as_mut();
                        self.record(session, transaction, &tables, kind, body, exact, &mut tally, told)?;
                    }
                }
            }
        }
        if let Some(listening) = &listening {
            listening.host.end(&listening.transaction).map_err(|why| listening.refused(why))?;
        }
        Ok(tally)
    }

    #[allow(clippy::too_many_arguments)]
    fn record(
        &self,
        session: &mut dyn Session,
        transaction: &Transaction,
        tables: &TableSet,
        kind: RecordKind,
        body: &[u8],
        exact: bool,
        tally: &mut Tally,
        mut listening: Option<&mut Listening<'_>>,
    ) -> Outcome {
        if let Some(op) = RowsOp::of_record(kind) {
            let mut rows = Rows::decode(op, body)?;
            let ordinal = listening.as_mut().map_or(0, |told| told.count(u64::from(rows.count)));
            let Some(entry) = tables.get(rows.key) else {
                return Err(Failure::from(Error::damage(format!(
                    "transaction {} has rows of a table whose definition is not in the stream",
                    transaction.position
                ))));
            };
            if !entry.applies {
                return Ok(());
            }
            tally.rows += u64::from(rows.count);
            let table = (entry.table.id, &entry.table.definition);
            let said = plugin::Statement { kind, table: Some(table), rows: None, statement: None, ordinal };
            let mut changed = Vec::new();
            if let Some(told) = &listening {
                let said = plugin::Statement { rows: Some(&rows), ..said };
                told.host.statement_start(&told.transaction, &said).map_err(|why| told.refused(why))?;
                let new = told.host.rows_before(&told.transaction, &said, table, &rows, &mut changed);
                if new.map_err(|why| told.refused(why))? {
                    rows = Rows::decode(op, &changed)?;
                }
            }
            let said = plugin::Statement { rows: Some(&rows), ..said };
            if !exact {
                session.rows(&entry.table, &rows)?;
                if let Some(told) = &listening {
                    told.host.rows_after(&told.transaction, &said, table, &rows).map_err(|why| told.refused(why))?;
                    told.host.statement_finish(&told.transaction, &said).map_err(|why| told.refused(why))?;
                }
                return Ok(());
            }
            let mut iter = rows.iter(&entry.table.definition)?;
            let mut number = ordinal;
            while let Some(row) = iter.next()? {
                let after = |number: u64| match &listening {
                    Some(told) => told
                        .host
                        .row_after(&told.transaction, &said, table, &rows, &row, number)
                        .map_err(|why| told.refused(why)),
                    None => Ok(()),
                };
                number += 1;
                let Err(failure) = session.row(&entry.table, op, &row, Force::Strict) else {
                    after(number - 1)?;
                    continue;
                };
                let conflict = |failure: &Failure| {
                    Conflict::row(self.channel, &transaction.position, &entry.table.definition, op, &row, failure)
                };
                match self.policy.action(&failure) {
                    None => return Err(failure),
                    Some(Action::Stop) => return Err(stopped(conflict(&failure), failure)),
                    Some(Action::Skip) => tally.conflicts.push(Conflict { outcome: "skipped", ..conflict(&failure) }),
                    Some(Action::Overwrite) => match session.row(&entry.table, op, &row, Force::Overwrite) {
                        Ok(()) => {
                            tally.conflicts.push(Conflict { outcome: "overwritten", ..conflict(&failure) });
                            after(number - 1)?;
                        }
                        Err(failure) if failure.conflict().is_some() => {
                            return Err(stopped(conflict(&failure), failure));
                        }
                        Err(failure) => return Err(failure),
                    },
                }
            }
            if let Some(told) = &listening {
                told.host.statement_finish(&told.transaction, &said).map_err(|why| told.refused(why))?;
            }
            return Ok(());
        }
        let op = match kind {
            RecordKind::Ddl => "ddl",
            RecordKind::Statement | RecordKind::Truncate | RecordKind::LoadBlock | RecordKind::XaDecision => {
                "statement"
            }
            // Annotations and notes are for people.
            _ => return Ok(()),
        };
        let ordinal = listening.as_mut().map_or(0, |told| told.count(1));
        let mut statement = Statement::decode(body)?;
        let rules = self.definitions.rules();
        if !rules.statement_passes(&statement) {
            return Ok(());
        }
        rules.rewrite(statement.database.to_mut());
        statement.tables.iter_mut().for_each(|(database, _)| rules.rewrite(database));
        tally.statements += 1;
        let said = plugin::Statement { kind, table: None, rows: None, statement: Some(&statement), ordinal };
        // What is left out is not applied, and not heard of.
        let listening = listening.filter(|_| kind != RecordKind::Ddl || self.ddl == DdlPolicy::Apply);
        if let Some(told) = &listening {
            told.host.statement_start(&told.transaction, &said).map_err(|why| told.refused(why))?;
        }
        let outcome = match (kind, self.ddl) {
            (RecordKind::Ddl, DdlPolicy::Ignore) => {
                tally.notes.push(format!("left out by --ddl ignore: {}", shortened(&statement.sql)));
                Ok(())
            }
            (RecordKind::Ddl, DdlPolicy::Stop) => Err(Failure::from(
                Error::new(Class::Conflict, format!("--ddl stop: {}", shortened(&statement.sql)))
                    .hint("make the change on the target, then step over this transaction"),
            )),
            (RecordKind::Ddl, DdlPolicy::Apply) => session.ddl(&statement).map(|outcome| {
                if let DdlOutcome::PassedOver(why) = outcome {
                    tally.notes.push(why);
                }
            }),
            _ => session.statement(kind, &statement),
        };
        let Err(failure) = outcome else {
            if let Some(told) = &listening {
                told.host.statement_finish(&told.transaction, &said).map_err(|why| told.refused(why))?;
            }
            return Ok(());
        };
        if !exact || matches!(failure.cause, Cause::Retry | Cause::Lost | Cause::Fenced) {
            return Err(failure);
        }
        let conflict = Conflict::other(self.channel, &transaction.position, op, &failure);
        match self.policy.action(&failure) {
            Some(Action::Skip) => {
                tally.conflicts.push(Conflict { outcome: "skipped", ..conflict });
                Ok(())
            }
            _ => Err(stopped(conflict, failure)),
        }
    }
}

/// A transaction that listeners hear of.
struct Listening<'a> {
    host: &'a Host,
    transaction: plugin::Transaction<'a>,
    /// Rows and statements so far, those that are not applied too.
    ordinal: u64,
}

impl Listening<'_> {
    /// Counts; returns how many there were before.
    fn count(&mut self, more: u64) -> u64 {
        let before = self.ordinal;
        self.ordinal += more;
        before
    }

    /// A veto ends the run as a conflict does that no policy steps over.
    fn refused(&self, refused: Refused) -> Failure {
        if refused.again {
            return Failure::new(Cause::Retry, *refused.error);
        }
        let hint = format!("`rlog-apply skip {} TARGET` steps over this transaction", self.transaction.position);
        Failure::new(Cause::Other, refused.error.hint(hint))
    }
}

/// A transaction as listeners hear of it.
pub fn heard(transaction: &Transaction) -> plugin::Transaction<'_> {
    plugin::Transaction {
        txid: transaction.position.txid,
        incarnation: transaction.position.incarnation,
        position: transaction.position.to_string(),
        begin: &transaction.begin,
        commit: Some(&transaction.commit),
        prepared: false,
    }
}

/// A failure that carries the whole report.
fn stopped(conflict: Conflict, failure: Failure) -> Failure {
    let error = conflict.into_error(&failure);
    Failure { cause: failure.cause, code: failure.code, error: Box::new(error) }
}

/// SQL for a message.
pub fn shortened(sql: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 300;
    let text = String::from_utf8_lossy(sql);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.into_owned(),
    }
}
