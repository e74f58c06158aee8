//! One connection that applies.
//!
//! The transaction is opened on the server with the state row, its first statement; row changes are held in a [`Batch`] and sent as
//! `BINLOG` statements when it is full, before anything else that is executed, and before the commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mysql::prelude::Queryable as _;

use super::batch::{Batch, Phase, Refused, RowsError, values_by_slot};
use super::failure::{conflict, failure, fenced, refusal};
use super::plan::Plan;
use super::{create, ddl, exact, state, statement};
use crate::db::mysql::binlog_statement::{self, Change, Events};
use crate::db::mysql::catalog::read_table;
use crate::db::mysql::connect::{Fault, fault_of};
use crate::db::mysql::{Connector, Family, Session};
use crate::error::{Class, Error};
use crate::event::{RecordKind, Row, Rows, RowsOp, Statement, Value};
use crate::target::{
    self, Cause, Claims, ConflictClass, DdlOutcome, Failure, Force, Head, Outcome, Settings, StateRow, Table,
};

/// Row changes held back at most, in bytes, before they are sent.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Events in one statement at most, in bytes (the server may allow less).
const EVENTS_BYTES_MAX: usize = 2 << 20;
/// Row changes held back at most, in bytes, while the session may send nothing.
const HOLD_BYTES_MAX: usize = 16 << 20;
/// Events of at least so many bytes are under way while what follows them is made; waiting for smaller ones costs less than a thread.
const UNDER_WAY_BYTES_MIN: usize = 32 << 10;
/// Keys in one look for rows that came and went.
const VOIDS_MAX: usize = 500;

/// See the module.
pub(super) struct MySqlSession {
    pub(super) connector: Connector,
    pub(super) session: Session,
    pub(super) settings: Settings,
    /// Raised by whoever changes a schema; plans of an older one are forgotten.
    pub(super) schema: Arc<AtomicU64>,
    schema_seen: u64,
    plans: HashMap<u64, Arc<Plan>>,
    batch: Batch,
    /// Nothing may be sent before [`target::Session::flush_apart`].
    hold: bool,
    /// Only what locks what it touches may be sent.
    trial: bool,
    beat: Arc<AtomicU64>,
    events: Events,
    /// Memory for the next statement.
    text: String,
    /// Whether the server takes row events from this account; `None`: not tried yet.
    native: Option<bool>,
    in_transaction: bool,
    /// State row of the open transaction.
    state_row: Option<StateRow>,
    /// Whether anything but the state row was executed in it.
    dirty: bool,
    pub(super) head: Head,
    /// Origins of the open transaction, for the comment of DDL.
    pub(super) origins: String,
    pub(super) context: statement::Context,
}

impl MySqlSession {
    pub(super) fn new(
        connector: Connector,
        session: Session,
        settings: Settings,
        schema: Arc<AtomicU64>,
    ) -> MySqlSession {
        let family = session.family;
        MySqlSession {
            connector,
            session,
            settings,
            schema_seen: schema.load(Ordering::Acquire),
            schema,
            plans: HashMap::new(),
            batch: Batch::new(family),
            hold: false,
            trial: false,
            beat: Arc::default(),
            events: Events::new(family),
            text: String::new(),
            native: None,
            in_transaction: false,
            state_row: None,
            dirty: false,
            head: Head::default(),
            origins: String::new(),
            context: statement::Context::default(),
        }
    }

    /// Runs a statement; every result is looked at, so that no error hides in a later one.
    pub(super) fn run(&mut self, sql: &str) -> mysql::Result<()> {
        run(&mut self.session, sql)
    }

    /// Sends the format description, once. A server that refuses gets SQL instead.
    fn is_native(&mut self) -> Outcome<bool> {
        if let Some(native) = self.native {
            return Ok(native);
        }
        // A server that hides conflicts of row events, or fires triggers for them, gets SQL.
        let hides =
            self.session.variable("global.slave_exec_mode").is_some_and(|mode| !mode.eq_ignore_ascii_case("STRICT"));
        let fires = self
            .session
            .variable("global.slave_run_triggers_for_rbr")
            .is_some_and(|value| !value.eq_ignore_ascii_case("NO"));
        if hides || fires {
            self.native = Some(false);
            return Ok(false);
        }
        let sql = binlog_statement::format_description(self.session.family, &self.session.version);
        let mut sent = self.run(&sql);
        if sent.is_ok() && self.session.family == Family::MySql {
            // MySQL takes the session for one that replays a log without GTIDs.
            sent = self.run("SET SESSION gtid_next='AUTOMATIC'");
        }
        let native = match sent {
            Ok(()) => true,
            Err(error) if fault_of(&error) == Fault::Lost => return Err(failure(error, "BINLOG")),
            Err(_) => false,
        };
        self.native = Some(native);
        Ok(native)
    }

    /// Whether foreign keys act on what is applied (rule 11): not if the log has the cascades' rows already.
    fn cascades(&self) -> bool {
        self.settings.cascades_logged != Some(true)
    }

    /// Turns foreign keys off in the session where they must not act; row events carry a flag of their own.
    pub(super) fn foreign_keys(&mut self) -> Outcome {
        match self.cascades() {
            true => Ok(()),
            false => self
                .run("SET SESSION foreign_key_checks=0")
                .map_err(|error| failure(error, "foreign keys cannot be turned off")),
        }
    }

    fn plan(&mut self, table: &Arc<Table>) -> Outcome<Arc<Plan>> {
        if let Some(plan) = self.plans.get(&table.id) {
            return Ok(Arc::clone(plan));
        }
        let definition = &table.definition;
        let database = match definition.database.as_str() {
            "" => self.connector.database().map(str::to_owned).ok_or_else(|| {
                Error::config(format!("table {:?} comes without a database, as SQLite's do", definition.table))
                    .hint("name one in the target: mysql://USER@HOST/DATABASE")
            })?,
            database => database.to_owned(),
        };
        let read = |session: &mut Session| {
            read_table(session, &database, &definition.table)
                .map_err(|error| failure(error, "the table cannot be looked up"))
        };
        let mut found = read(&mut self.session)?;
        if found.is_none() && self.settings.create_tables {
            // A session of its own: in this one, CREATE TABLE would commit what is open.
            let sql = create::create_table(definition, &database, self.session.family)?;
            let mut other = self.connector.connect().map_err(|error| match error.class() {
                Class::TryAgain => Failure::new(Cause::Retry, error),
                _ => Failure::from(error),
            })?;
            for sql in sql {
                run(&mut other, &sql).map_err(|error| failure(error, "the table cannot be created"))?;
            }
            found = read(&mut self.session)?;
        }
        let server = found.ok_or_else(|| {
            Failure::new(
                Cause::Conflict(ConflictClass::Type),
                Error::new(Class::Conflict, format!("the target has no table {database:?}.{:?}", definition.table))
                    .hint("create it, or let rlog-apply do so: --create-tables"),
            )
            .with_code(1146)
        })?;
        let native = self.is_native()?;
        let plan = Arc::new(Plan::new(Arc::clone(table), server, &self.settings, native, self.cascades())?);
        self.plans.insert(table.id, Arc::clone(&plan));
        Ok(plan)
    }

    /// Bytes of events that fit a statement.
    fn events_max(&self) -> usize {
        (self.session.packet_bytes_max / 4 * 3).saturating_sub(1024).min(EVENTS_BYTES_MAX)
    }

    /// Sends the events as one statement. A large one may be under way when this returns: [`MySqlSession::settle`] says what it came to, and so does
    /// whatever is run next.
    fn send(&mut self, events: &[u8]) -> Outcome {
        if binlog_statement::statement_len(events.len()) + 16 > self.session.packet_bytes_max {
            return Err(Failure::from(
                Error::config(format!(
                    "a change of {} bytes is more than the server takes in one statement (max_allowed_packet is {})",
                    events.len(),
                    self.session.packet_bytes_max
                ))
                .hint("on the target: SET GLOBAL max_allowed_packet=1073741824"),
            ));
        }
        let mut sql = std::mem::take(&mut self.text);
        binlog_statement::put_statement(&mut sql, events);
        self.settle()?;
        if events.len() >= UNDER_WAY_BYTES_MIN {
            self.text = self.session.start(sql).map_err(|error| failure(error, "row events"))?;
            return Ok(());
        }
        let outcome = self.run(&sql).map_err(|error| failure(error, "row events"));
        self.text = sql;
        outcome
    }

    /// Waits for events that are under way.
    fn settle(&mut self) -> Outcome {
        self.beat.fetch_add(1, Ordering::Relaxed);
        self.session.finish().map_err(|error| failure(error, "row events"))
    }

    fn send_batch(&mut self) -> Outcome {
        if self.batch.is_empty() {
            return Ok(());
        }
        let empty = Batch::new(self.session.family);
        let mut batch = std::mem::replace(&mut self.batch, empty);
        let part = if batch.apart { Part::Waiting } else { Part::All };
        let result = self.send_tables(&batch, part).and_then(|()| {
            batch.close_ordered();
            match batch.ordered.bytes() {
                [] => Ok(()),
                events => self.send(events),
            }
        });
        batch.clear();
        self.batch = batch;
        result
    }

    fn send_tables(&mut self, batch: &Batch, part: Part) -> Outcome {
        let limit = self.events_max();
        let empty = Events::new(self.session.family);
        let mut events = std::mem::replace(&mut self.events, empty);
        events.clear();
        events.time_s = u32::try_from(self.head.time_us / 1_000_000).unwrap_or(0);
        events.server_id = self.head.server_id.max(1);
        events.flags = self.event_flags();
        for table in &batch.tables {
            if part != Part::Free {
                for voids in table.voids.chunks(VOIDS_MAX) {
                    self.look_for(&table.plan, voids)?;
                }
            }
            let plan = &table.plan;
            let (key_set, all_set) = table.sets();
            let mut order = table.order();
            match part {
                Part::All => {}
                Part::Free => order.retain(|index| !table.waits(*index)),
                Part::Waiting => order.retain(|index| table.waits(*index)),
            }
            let mut mapped = false;
            for (phase, change) in
                [(Phase::Delete, Change::Delete), (Phase::Update, Change::Update), (Phase::Insert, Change::Write)]
            {
                let mut open = false;
                for index in &order {
                    let Some((key, after)) = table.phase(*index, phase) else { continue };
                    if events.bytes().len() + key.len() + after.len() + 1024 > limit
                        && (open || mapped || !events.bytes().is_empty())
                    {
                        events.close_rows(true);
                        if mapped || !events.bytes().is_empty() {
                            self.send(events.bytes())?;
                        }
                        events.clear();
                        (mapped, open) = (false, false);
                    }
                    if !mapped {
                        mapped = events.table_map(plan.map_id, &plan.server);
                    }
                    if !open {
                        open = true;
                        match change {
                            Change::Delete => events.open_rows(change, plan.map_id, plan.writer.columns, &key_set, &[]),
                            Change::Write => events.open_rows(change, plan.map_id, plan.writer.columns, &all_set, &[]),
                            Change::Update => {
                                events.open_rows(change, plan.map_id, plan.writer.columns, &key_set, &all_set)
                            }
                        }
                    }
                    if change != Change::Write {
                        events.images().extend_from_slice(key);
                    }
                    if change != Change::Delete {
                        events.images().extend_from_slice(after);
                    }
                }
            }
            events.close_rows(true);
        }
        let result = if events.bytes().is_empty() { Ok(()) } else { self.send(events.bytes()) };
        self.events = events;
        result
    }

    /// What cannot wait in a transaction that is held back.
    fn not_held(&self, what: &str) -> Outcome {
        self.refuse(self.hold, what)
    }

    /// What neither waits nor runs on trial.
    fn not_ahead(&self, what: &str) -> Outcome {
        self.refuse(self.hold || self.trial, what)
    }

    fn refuse(&self, refused: bool, what: &str) -> Outcome {
        let error =
            || Error::new(Class::TryAgain, format!("{what} cannot be applied before all that is older has committed"));
        if refused { Err(Failure::new(Cause::Alone, error())) } else { Ok(()) }
    }

    fn event_flags(&self) -> u16 {
        match self.cascades() && !self.head.foreign_keys_off {
            true => 0,
            false => binlog_statement::NO_FOREIGN_KEY_CHECKS,
        }
    }

    /// Rows that came and went must not have been there.
    fn look_for(&mut self, plan: &Plan, keys: &[String]) -> Outcome {
        let mut names = String::new();
        for slot in plan.identity.as_deref().unwrap_or(&[]) {
            names.push_str(if names.is_empty() { "" } else { "," });
            crate::db::mysql::literal::put_name(
                &mut names,
                plan.server_column(*slot).map_or("", |column| &column.name),
            )?;
        }
        let sql = format!("SELECT 1 FROM {} WHERE ({names}) IN ({}) LIMIT 1", plan.name, keys.join(","));
        let found: Option<u8> =
            self.session.conn().query_first(sql).map_err(|error| failure(error, "rows cannot be looked for"))?;
        match found {
            Some(_) => Err(conflict(ConflictClass::DuplicateKey, plan, "a row that is inserted is there already")),
            None => Ok(()),
        }
    }

    /// Row by row, as SQL or single events.
    fn rows_singly(&mut self, plan: &Arc<Plan>, rows: &Rows<'_>, skip: u64) -> Outcome {
        let table = Arc::clone(&plan.table);
        let mut iter = rows.iter(&table.definition)?;
        let mut number = 0;
        while let Some(row) = iter.next()? {
            number += 1;
            if number > skip {
                self.one_row(plan, rows.op, &row, Force::Strict)?;
            }
        }
        Ok(())
    }

    fn one_row(&mut self, plan: &Arc<Plan>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome {
        let slots = plan.writer.slots.len();
        let (mut before, mut after) = (vec![Value::Absent; slots], vec![Value::Absent; slots]);
        values_by_slot(plan, row, &mut before, &mut after)?;
        match force {
            Force::Strict => self.strict(plan, op, &before, &after),
            Force::Overwrite => self.overwrite(plan, op, &before, &after),
        }
    }

    fn strict(&mut self, plan: &Arc<Plan>, op: RowsOp, before: &[Value<'_>], after: &[Value<'_>]) -> Outcome {
        if self.settings.check_before && op != RowsOp::Insert {
            let sql = exact::differs(plan, before)?;
            let equal: Option<Option<u8>> =
                self.session.conn().query_first(sql).map_err(|error| failure(error, &plan.name))?;
            match equal {
                None => return Err(conflict(ConflictClass::RowNotFound, plan, "the row to be changed is not there")),
                Some(Some(1)) => {}
                Some(_) => {
                    return Err(conflict(
                        ConflictClass::RowDiffers,
                        plan,
                        "the row to be changed is not as the source had it",
                    ));
                }
            }
        }
        if plan.native {
            match self.batch.put_one(plan, op, before, after) {
                Ok(()) => match self.send_one(plan) {
                    // The server does not like the event: perhaps it likes the statement.
                    Err(failure)
                        if failure.conflict() == Some(ConflictClass::Type) && plan.server.triggers.is_empty() => {}
                    other => return other,
                },
                Err(Refused::Misfit) => self.batch.clear(),
                Err(refused) => {
                    self.batch.clear();
                    return Err(refusal(refused, plan));
                }
            }
            if !plan.server.triggers.is_empty() && !self.settings.fire_triggers {
                return Err(conflict(
                    ConflictClass::Type,
                    plan,
                    "the row does not fit the table, and its triggers must not fire",
                ));
            }
        }
        let (sql, missing) = match op {
            RowsOp::Insert => (exact::insert(plan, after)?, ""),
            RowsOp::Update => (exact::update(plan, before, after)?, "the row to be updated is not there"),
            RowsOp::Delete => (exact::delete(plan, before)?, "the row to be deleted is not there"),
        };
        self.run(&sql).map_err(|error| failure(error, &plan.name))?;
        if self.session.affected() == 0 && op != RowsOp::Insert {
            return Err(conflict(ConflictClass::RowNotFound, plan, missing));
        }
        Ok(())
    }

    /// Sends what [`Batch::put_one`] made. A failed row event rolls back to where it began.
    fn send_one(&mut self, plan: &Plan) -> Outcome {
        let empty = Batch::new(self.session.family);
        let mut batch = std::mem::replace(&mut self.batch, empty);
        batch.close_ordered();
        self.run("SAVEPOINT rlog_row").map_err(|error| failure(error, &plan.name))?;
        let result = self.send(batch.ordered.bytes()).and_then(|()| self.settle());
        batch.clear();
        self.batch = batch;
        if let Err(error) = &result
            && error.conflict().is_some()
        {
            self.run("ROLLBACK TO SAVEPOINT rlog_row").map_err(|error| failure(error, &plan.name))?;
        }
        result
    }

    /// Makes the row as the after image says, whatever is there.
    fn overwrite(&mut self, plan: &Arc<Plan>, op: RowsOp, before: &[Value<'_>], after: &[Value<'_>]) -> Outcome {
        if op == RowsOp::Delete {
            return match self.strict(plan, op, before, after) {
                Err(failure) if failure.conflict() == Some(ConflictClass::RowNotFound) => Ok(()),
                other => other,
            };
        }
        let moved = op == RowsOp::Update
            && plan
                .identity
                .as_ref()
                .is_some_and(|identity| identity.iter().any(|slot| before.get(*slot) != after.get(*slot)));
        if moved {
            self.overwrite(plan, RowsOp::Delete, before, before)?;
        }
        for sql in exact::clear_unique(plan, after)? {
            self.run(&sql).map_err(|error| failure(error, &plan.name))?;
        }
        if plan.identity.is_none() {
            return self.strict(plan, op, before, after);
        }
        let there: Option<u8> =
            self.session.conn().query_first(exact::exists(plan, after)?).map_err(|error| failure(error, &plan.name))?;
        // The row that is there may differ from the before image: only the key counts.
        let checks = std::mem::replace(&mut self.settings.check_before, false);
        let result = match there {
            Some(_) => self.strict(plan, RowsOp::Update, after, after),
            None if op == RowsOp::Insert
                || plan.writer.covers
                    && after.iter().all(|value| !matches!(value, Value::Absent | Value::Unchanged)) =>
            {
                self.strict(plan, RowsOp::Insert, before, after)
            }
            None => Err(conflict(
                ConflictClass::RowNotFound,
                plan,
                "the row to be updated is not there, and its image is not whole, so that it cannot be inserted",
            )),
        };
        self.settings.check_before = checks;
        result
    }

    /// Begins the server's transaction if it has not begun.
    fn ensure_open(&mut self) -> Outcome {
        if !self.in_transaction {
            self.session.defer("BEGIN");
            self.in_transaction = true;
        }
        Ok(())
    }

    /// The ordinary session, after a statement with a context of its own.
    pub(super) fn plain_context(&mut self) -> Outcome {
        if self.context.is_foreign() {
            self.context = statement::Context::default();
            self.session.reset().map_err(|error| match error.class() {
                Class::TryAgain => Failure::new(Cause::Lost, error),
                _ => Failure::from(error),
            })?;
            self.foreign_keys()?;
        }
        Ok(())
    }

    /// A schema changed: forget what is known of tables, here and in the other sessions.
    pub(super) fn schema_changed(&mut self) {
        self.schema_seen = self.schema.fetch_add(1, Ordering::AcqRel) + 1;
        self.plans.clear();
    }

    /// Inserts the state row under the fence; the transaction is open.
    pub(super) fn insert_state(&mut self, row: &StateRow) -> Outcome {
        match self.run(&state::insert_sql(row)) {
            Ok(()) if self.session.affected() == 1 => Ok(()),
            Ok(()) => Err(fenced("another rlog-apply has taken this channel over")),
            Err(error) if fault_of(&error) == Fault::Duplicate => {
                Err(fenced("another rlog-apply has applied from this position already"))
            }
            Err(error) => Err(failure(error, "the state row cannot be inserted")),
        }
    }

    pub(super) fn begin_server(&mut self) -> Outcome {
        self.ensure_open()
    }

    /// COMMIT or ROLLBACK. Whether a commit that got no answer happened is for the state to say.
    pub(super) fn end_transaction(&mut self, how: &str) -> Outcome {
        self.state_row = None;
        // What goes with a COMMIT may fail, and leaves the transaction open.
        self.run(how).map_err(|error| failure(error, how))?;
        self.in_transaction = false;
        Ok(())
    }
}

impl target::Session for MySqlSession {
    fn begin(&mut self) -> Outcome {
        if self.in_transaction {
            return Err(Error::new(Class::Bug, "a transaction is open already").into());
        }
        let now = self.schema.load(Ordering::Acquire);
        if now != self.schema_seen {
            self.schema_seen = now;
            self.plans.clear();
        }
        self.plain_context()?;
        // MySQL takes the format description outside of transactions only.
        self.is_native()?;
        self.ensure_open()
    }

    fn state(&mut self, row: &StateRow) -> Outcome {
        self.ensure_open()?;
        self.origins = row.origins.join(" ");
        self.dirty = false;
        // Goes with the first change; whether it holds is known before COMMIT is sent.
        self.session.defer_claim(state::insert_sql(row));
        self.state_row = Some(row.clone());
        Ok(())
    }

    fn fact(&mut self, name: &str, value: Option<&str>) -> Outcome {
        self.plain_context()?;
        let sql = state::fact_sql(&self.settings.channel, name, value);
        self.run(&sql).map_err(|error| failure(error, "a fact cannot be kept"))
    }

    fn transaction(&mut self, head: &Head) -> Outcome {
        let differs = head.foreign_keys_off != self.head.foreign_keys_off || head.snapshot != self.head.snapshot;
        if !self.hold && differs {
            // What is gathered goes out as one.
            self.send_batch()?;
        }
        self.head = head.clone();
        self.batch.in_order = head.snapshot;
        Ok(())
    }

    fn rows(&mut self, table: &Arc<Table>, rows: &Rows<'_>) -> Outcome {
        self.dirty = true;
        let plan = self.plan(table)?;
        if plan.collapse.is_none() || self.head.foreign_keys_off {
            self.not_held(&plan.name)?;
        }
        if !plan.native || !plan.server.transactional {
            self.not_ahead(&plan.name)?;
        }
        if !plan.native {
            self.send_batch()?;
            self.plain_context()?;
            return self.rows_singly(&plan, rows, 0);
        }
        let mut taken = 0;
        self.batch.ordered.time_s = rows.time_s;
        self.batch.ordered.server_id = self.head.server_id.max(1);
        self.batch.ordered.flags = self.event_flags();
        if self.head.snapshot && plan.server.unique_keys.len() < 2 {
            // There is nothing to relax; it says that the table may be filled in bulk.
            self.batch.ordered.flags |= binlog_statement::RELAXED_UNIQUE_CHECKS;
        }
        match self.batch.put(&plan, rows, &mut taken) {
            Ok(()) => {}
            Err(RowsError::Event(error)) => return Err(error.into()),
            Err(RowsError::Refused(Refused::Misfit)) => {
                // SQL says it, and the server judges. What was taken before goes first.
                self.not_ahead(&plan.name)?;
                self.send_batch()?;
                self.plain_context()?;
                self.rows_singly(&plan, rows, taken)?;
            }
            Err(RowsError::Refused(refused)) => return Err(refusal(refused, &plan)),
        }
        let bytes = self.batch.bytes();
        if bytes > HOLD_BYTES_MAX {
            self.not_held("so many rows")?;
        }
        if !self.hold && bytes > BATCH_BYTES_MAX.min(self.events_max()) {
            self.send_batch()?;
        }
        Ok(())
    }

    fn row(&mut self, table: &Arc<Table>, op: RowsOp, row: &Row<'_>, force: Force) -> Outcome {
        self.dirty = true;
        let plan = self.plan(table)?;
        self.send_batch()?;
        self.plain_context()?;
        self.batch.ordered.server_id = self.head.server_id.max(1);
        self.batch.ordered.flags = self.event_flags();
        self.one_row(&plan, op, row, force)
    }

    fn statement(&mut self, kind: RecordKind, statement: &Statement<'_>) -> Outcome {
        self.not_ahead("a statement")?;
        self.send_batch()?;
        self.dirty = true;
        statement::execute(self, kind, statement)
    }

    fn ddl(&mut self, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.not_ahead("a DDL")?;
        // Its transaction holds nothing but the state row so far, which comes again behind the DDL.
        let Some(row) = self.state_row.clone().filter(|_| !self.dirty && self.batch.is_empty()) else {
            return Err(Error::new(Class::Conflict, "DDL in the midst of a transaction, which it would commit").into());
        };
        self.end_transaction("ROLLBACK")?;
        let result = ddl::execute(self, statement);
        self.schema_changed();
        if let Err(failure) = &result
            && matches!(failure.cause, Cause::Lost | Cause::Retry | Cause::Fenced)
        {
            return result;
        }
        // Also when it failed: policy may step over it, and then the transaction goes on.
        self.plain_context()?;
        self.ensure_open()?;
        self.insert_state(&row)?;
        if result.is_ok() {
            let sql = state::fact_sql(&self.settings.channel, ddl::MARKER, None);
            self.run(&sql).map_err(|error| failure(error, "the marker of a DDL cannot be removed"))?;
        }
        result
    }

    fn ddl_alone(&mut self, row: &StateRow, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.begin()?;
        self.state(row)?;
        self.transaction(head)?;
        let outcome = self.ddl(statement)?;
        self.commit()?;
        Ok(outcome)
    }

    fn make(&mut self, head: &Head, statement: &Statement<'_>) -> Outcome<DdlOutcome> {
        self.transaction(head)?;
        let result = ddl::make(self, statement);
        self.schema_changed();
        self.plain_context()?;
        result
    }

    fn is_empty(&mut self, table: &Arc<Table>) -> Outcome<bool> {
        let definition = &table.definition;
        let database = match definition.database.as_str() {
            "" => self.connector.database().unwrap_or("").to_owned(),
            database => database.to_owned(),
        };
        let name = crate::db::mysql::literal::table_name(&database, &definition.table)?;
        let found: mysql::Result<Option<u8>> = self.session.conn().query_first(format!("SELECT 1 FROM {name} LIMIT 1"));
        match found {
            Ok(found) => Ok(found.is_none()),
            Err(error) if fault_of(&error) == Fault::NoTable => Ok(true),
            Err(error) => Err(failure(error, &name)),
        }
    }

    fn clear(&mut self, table: &Arc<Table>) -> Outcome {
        self.send_batch()?;
        self.plain_context()?;
        let plan = self.plan(table)?;
        self.run(&format!("DELETE FROM {}", plan.name)).map_err(|error| failure(error, &plan.name))
    }

    fn hold(&mut self, hold: bool) -> bool {
        self.hold = hold;
        true
    }

    fn trial(&mut self, trial: bool) -> bool {
        self.trial = trial;
        true
    }

    fn set_beat(&mut self, beat: Arc<AtomicU64>) {
        self.beat = beat;
    }

    fn claims(&mut self) -> Claims {
        self.batch.claims()
    }

    fn flush_apart(&mut self, others: &[Arc<Claims>]) -> Outcome<bool> {
        let left = self.batch.set_apart(others);
        if !left {
            return self.flush().map(|()| false);
        }
        let empty = Batch::new(self.session.family);
        let mut batch = std::mem::replace(&mut self.batch, empty);
        // The turn to commit comes sooner when the state row is there already.
        let result = self
            .send_tables(&batch, Part::Free)
            .and_then(|()| self.settle())
            .and_then(|()| self.session.send_deferred().map_err(|error| failure(error, "the state row")));
        batch.apart = true;
        self.batch = batch;
        result.map(|()| true)
    }

    fn flush(&mut self) -> Outcome {
        self.send_batch()?;
        self.settle()
    }

    fn commit(&mut self) -> Outcome {
        self.flush()?;
        self.end_transaction("COMMIT")
    }

    fn rollback(&mut self) -> Outcome {
        self.batch.clear();
        // Nobody asks any more how it went.
        let _ = self.session.finish();
        self.session.undefer();
        match std::mem::take(&mut self.in_transaction) {
            true => self.end_transaction("ROLLBACK"),
            false => Ok(()),
        }
    }
}

/// Which rows of a batch are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// Those that wait for no other transaction.
    Free,
    /// The others.
    Waiting,
}

/// Runs a statement and reads every result to its end.
pub(super) fn run(session: &mut Session, sql: &str) -> mysql::Result<()> {
    session.run(sql)
}
