//! Statements: what a QUERY event does to its group, XA, LOAD DATA, and the events that give a statement its context.

use super::{Decoder, Flow, LOADS_MAX};
use crate::db::ddl::{Session, changed, inserted_texts};
use crate::error::{Class, Error, Result};
use crate::event::record::RecordKind;
use crate::event::statement::{UserValue, UserVariable};
use crate::event::{Statement, own};
use crate::frame::{FrameWriter, Kind};
use crate::source::mysql::bytes::Bytes;
use crate::source::mysql::compress;
use crate::source::mysql::event::{Event, kind};
use crate::source::mysql::group::{Phase, Skip};
use crate::source::mysql::gtid::{self, maria_extra};
use crate::source::mysql::load::{self, Load};
use crate::source::mysql::query::{Query, Role, role, xa_id};
use crate::source::mysql::table_map::Family;

impl Decoder {
    // Statements

    pub(super) fn query(
        &mut self,
        event: &Event<'_>,
        query: &Query<'_>,
        load: Option<(u32, (u32, u32), u8)>,
        out: &mut FrameWriter,
    ) -> Result<Flow> {
        let role = if load.is_some() { Role::Other } else { role(query.sql) };
        match role {
            Role::Begin | Role::XaStart => {
                if matches!(self.group.phase, Phase::Waiting | Phase::Rows) && self.group.has_records() {
                    self.finish(event, Kind::Commit, true, out)?;
                }
                if self.group.phase == Phase::Begun && (self.group.has_records() || self.group.xa) {
                    return Err(event.damage(format!("transaction {} before it has no end", self.group.txid)));
                }
                if let Some(flow) = self.open(event)? {
                    return Ok(flow);
                }
                self.group.phase = Phase::Begun;
                self.group.xa = role == Role::XaStart;
                self.group.begin.thread = query.thread;
                Ok(Flow::Continue)
            }
            Role::Commit | Role::Rollback if !self.group.is_open() => Ok(Flow::Continue),
            Role::Commit => self.finish(event, Kind::Commit, false, out),
            Role::Rollback => {
                if self.group.skip == Skip::No && self.group.has_records() {
                    self.group.nontransactional = true;
                    self.statement(event, query, None, RecordKind::Statement, "", Vec::new(), out)?;
                }
                self.finish(event, Kind::Commit, false, out)
            }
            Role::XaEnd => Ok(Flow::Continue),
            Role::XaPrepare(id) => {
                self.group.commit.xid = xa_id(id).to_vec();
                self.commit(event, Kind::Prepared, out)
            }
            Role::XaCommit(_) if self.group.phase == Phase::Begun && self.group.xa => {
                self.finish(event, Kind::Commit, false, out)
            }
            Role::XaRollback(_) if self.group.phase == Phase::Begun && self.group.xa => {
                self.group.discard(out);
                Ok(Flow::Continue)
            }
            Role::XaCommit(id) | Role::XaRollback(id) => {
                if let Some(flow) = self.open(event)? {
                    return Ok(flow);
                }
                if self.group.skip == Skip::No {
                    let mut statement = query.statement(event.header.timestamp);
                    statement.xid = xa_id(id).to_vec().into();
                    self.group.barrier = true;
                    self.group.commit.statements += 1;
                    self.group.begin.thread = query.thread;
                    self.group.record(RecordKind::XaDecision, |out| statement.encode(out))?;
                }
                self.finish(event, Kind::Commit, false, out)
            }
            Role::Ddl | Role::Savepoint | Role::Other => {
                if let Some(flow) = self.open(event)? {
                    return Ok(flow);
                }
                self.plain_statement(event, query, load, role, out)?;
                if self.group.phase == Phase::Begun {
                    return Ok(Flow::Continue);
                }
                self.finish(event, Kind::Commit, false, out)
            }
        }
    }

    pub(super) fn plain_statement(
        &mut self,
        event: &Event<'_>,
        query: &Query<'_>,
        load: Option<(u32, (u32, u32), u8)>,
        role: Role<'_>,
        out: &mut FrameWriter,
    ) -> Result<()> {
        let extra = self.group.head.flags_extra;
        // An ALTER that was split takes effect when it is committed; its start and its rollback only say so.
        let announced_only = extra & (maria_extra::START_ALTER | maria_extra::ROLLBACK_ALTER) != 0;
        let mut kind = RecordKind::Statement;
        let (mut ddl, mut tables) = ("", Vec::new());
        if announced_only {
            kind = RecordKind::Note;
        } else if role == Role::Ddl {
            let session = query.statement(0);
            self.schema.set_family(self.format.family == Family::MariaDb);
            let effect = self.schema.apply_in(&Session::of(&session), query.sql);
            self.tables.stale();
            if let Some(note) = effect.note {
                self.note(note);
            }
            kind = RecordKind::Ddl;
            (ddl, tables) = (effect.kind, effect.tables);
        }
        if self.group.skip != Skip::No {
            self.group.clear_context();
            return Ok(());
        }
        let mut query = query.clone();
        if kind == RecordKind::Ddl
            && let Some((sql, origins)) = own::split_origins_comment(query.sql)
        {
            let mut found = Vec::new();
            own::add_origins(&mut found, origins);
            self.came_from(&found);
            if !self.rules.system_tables {
                query.sql = sql;
            }
        }
        if role == Role::Other && kind == RecordKind::Statement {
            tables = self.changed_tables(&query);
        }
        self.statement(event, &query, load, kind, ddl, tables, out)
    }

    /// The tables whose rows a statement changes. The text of an applier's state row says where the transaction came from.
    fn changed_tables(&mut self, query: &Query<'_>) -> Vec<(String, String)> {
        let statement = query.statement(0);
        let (session, mariadb) = (Session::of(&statement), Some(self.format.family == Family::MariaDb));
        let tables = changed(&session, mariadb, query.sql);
        if tables.iter().any(|(_, table)| table == own::APPLIED_TABLE) {
            let mut found = Vec::new();
            for text in inserted_texts(&session, mariadb, query.sql, own::ORIGINS_COLUMN) {
                own::add_origins(&mut found, &text);
            }
            self.came_from(&found);
        }
        tables
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn statement(
        &mut self,
        event: &Event<'_>,
        query: &Query<'_>,
        load: Option<(u32, (u32, u32), u8)>,
        kind: RecordKind,
        ddl: &'static str,
        tables: Vec<(String, String)>,
        out: &mut FrameWriter,
    ) -> Result<()> {
        let mut statement = query.statement(event.header.timestamp);
        statement.ddl = ddl.into();
        statement.tables = tables;
        if let Some((file_id, range, duplicates)) = load {
            statement.file_id = Some(file_id);
            statement.file_name_range = Some(range);
            statement.duplicates = duplicates;
        }
        self.write_statement(statement, kind, out)
    }

    pub(super) fn write_statement(
        &mut self,
        mut statement: Statement<'_>,
        kind: RecordKind,
        out: &mut FrameWriter,
    ) -> Result<()> {
        if self.rules.is_systems(&statement) {
            self.system_rows += 1;
            self.group.clear_context();
            return Ok(());
        }
        if !self.rules.statement(&mut statement) {
            if let Some(file_id) = statement.file_id {
                self.group.drop_blocks(file_id);
            }
            self.group.clear_context();
            return Ok(());
        }
        let context = &mut self.group.context;
        statement.insert_id = context.insert_id;
        statement.last_insert_id = context.last_insert_id;
        statement.rand = context.rand;
        statement.user_variables = std::mem::take(&mut context.user_variables);
        self.group.barrier = true;
        if kind != RecordKind::Note {
            self.group.commit.statements += 1;
        }
        if self.group.begin.thread == 0 {
            self.group.begin.thread = statement.thread;
        }
        self.group.record(kind, |out| statement.encode(out))?;
        self.group.clear_context();
        self.after_record(out);
        Ok(())
    }

    pub(super) fn compressed_query(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        // Only the text is compressed; what stands before it is copied, so that the parts are one query again.
        let plain = Query::parse(event.body, self.query_post_header(), 0).ok_or_else(|| event.cut())?;
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.clear();
        compress::inflate_mariadb(plain.sql, &mut inflated)
            .ok_or_else(|| event.damage("its text does not decompress"))?;
        let query = Query { sql: &inflated, ..plain };
        let flow = self.query(event, &query, None, out);
        self.inflated = inflated;
        flow
    }

    pub(super) fn context(&mut self, event: &Event<'_>, _out: &mut FrameWriter) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        let mut input = Bytes::new(event.body);
        let context = &mut self.group.context;
        match event.header.kind {
            kind::INTVAR => {
                let (which, value) = (input.u8(), input.u64());
                match (which, value) {
                    (Some(1), Some(value)) => context.last_insert_id = Some(value),
                    (Some(2), Some(value)) => context.insert_id = Some(value),
                    (Some(other), Some(_)) => return Err(event.damage(format!("variable {other} is not known"))),
                    _ => return Err(event.cut()),
                }
            }
            kind::RAND => match (input.u64(), input.u64()) {
                (Some(first), Some(second)) => context.rand = Some((first, second)),
                _ => return Err(event.cut()),
            },
            _ => context.user_variables.push(user_variable(input).ok_or_else(|| event.cut())?),
        }
        Ok(Flow::Continue)
    }

    pub(super) fn annotation(&mut self, event: &Event<'_>, text: &[u8]) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        if self.annotate && self.group.skip == Skip::No {
            self.group.annotation.clear();
            self.group.annotation.extend_from_slice(text);
            self.group.annotation_time = event.header.timestamp;
        }
        Ok(Flow::Continue)
    }

    // XA

    pub(super) fn xa_prepare(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        let mut input = Bytes::new(event.body);
        let mut parts = || {
            let (one_phase, format) = (input.u8()?, input.u32()? as i32);
            let (gtrid, bqual) = (usize::try_from(input.u32()?).ok()?, usize::try_from(input.u32()?).ok()?);
            Some((one_phase != 0, gtid::xid_text(format, input.take(gtrid)?, input.take(bqual)?)))
        };
        let (one_phase, xid) = parts().ok_or_else(|| event.cut())?;
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        if !self.group.is_streaming() {
            self.group.begin.xid.clone_from(&xid);
        }
        self.group.commit.xid = xid;
        self.finish(event, if one_phase { Kind::Commit } else { Kind::Prepared }, false, out)
    }

    pub(super) fn incident(&self, event: &Event<'_>) -> Error {
        let mut input = Bytes::new(event.body);
        let parts = input.u16().zip(input.short_text());
        match parts {
            Some((number, _)) if number > 1 => event.damage(format!("incident {number} is not known")),
            Some((number, message)) => {
                let message = String::from_utf8_lossy(message);
                let message = if message.is_empty() { String::new() } else { format!(": {message}") };
                Error::new(Class::Gap, format!("the server lost events here (incident {number}{message})"))
                    .at(event.at)
                    .hint("make a new copy of the database; what happened is in the server's error log")
            }
            None => event.cut(),
        }
    }

    // LOAD DATA

    pub(super) fn load_block(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        let block = load::parse_block(event.body).ok_or_else(|| event.cut())?;
        self.write_block(event, block.file_id, block.bytes, out)?;
        Ok(Flow::Continue)
    }

    pub(super) fn write_block(
        &mut self,
        event: &Event<'_>,
        file_id: u32,
        bytes: &[u8],
        out: &mut FrameWriter,
    ) -> Result<()> {
        if self.group.skip != Skip::No {
            return Ok(());
        }
        let statement = Statement {
            time_s: event.header.timestamp,
            file_id: Some(file_id),
            block: bytes.into(),
            ..Statement::default()
        };
        self.group.barrier = true;
        self.group.record(RecordKind::LoadBlock, |out| statement.encode(out))?;
        self.after_record(out);
        Ok(())
    }

    pub(super) fn old_load(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        let number = event.header.kind;
        let file = number == kind::CREATE_FILE;
        // CREATE_FILE of MySQL 3.23 has the old form; its post-header tells.
        let new = number == kind::NEW_LOAD || file && self.format.version > 1;
        let (load, block) = load::parse_load(event.body, new, file).ok_or_else(|| event.cut())?;
        if let Some(file_id) = load.file_id {
            self.write_block(event, file_id, block, out)?;
            if self.loads.len() >= LOADS_MAX {
                return Err(event.damage("too many files of LOAD DATA are open at once"));
            }
            self.loads.insert(file_id, load);
            return Ok(Flow::Continue);
        }
        self.old_load_statement(event, &load, out)?;
        if self.group.phase == Phase::Begun {
            return Ok(Flow::Continue);
        }
        self.finish(event, Kind::Commit, false, out)
    }

    pub(super) fn old_load_statement(&mut self, event: &Event<'_>, load: &Load, out: &mut FrameWriter) -> Result<()> {
        if self.group.skip != Skip::No {
            return Ok(());
        }
        let database = String::from_utf8_lossy(&load.database).into_owned();
        let session = Session { database: &database, ..Session::default() };
        let tables = changed(&session, Some(false), &load.sql);
        let statement = Statement {
            sql: load.sql.as_slice().into(),
            tables,
            database: String::from_utf8_lossy(&load.database),
            time_s: event.header.timestamp,
            thread: load.thread,
            exec_time_s: load.exec_time_s,
            file_id: load.file_id,
            file_name_range: Some(load.file_name_range),
            duplicates: load.duplicates,
            ..Statement::default()
        };
        self.write_statement(statement, RecordKind::Statement, out)
    }

    pub(super) fn old_load_end(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        let file_id = Bytes::new(event.body).u32().ok_or_else(|| event.cut())?;
        let load = self.loads.remove(&file_id);
        if event.header.kind == kind::EXEC_LOAD {
            let load = load.ok_or_else(|| event.damage(format!("file {file_id} was never created")))?;
            self.old_load_statement(event, &load, out)?;
        } else if self.group.skip == Skip::No {
            let statement = Statement {
                sql: format!("file {file_id} of a LOAD DATA statement was dropped").into_bytes().into(),
                file_id: Some(file_id),
                time_s: event.header.timestamp,
                ..Statement::default()
            };
            self.group.record(RecordKind::Note, |out| statement.encode(out))?;
        }
        if self.group.phase == Phase::Begun {
            return Ok(Flow::Continue);
        }
        self.finish(event, Kind::Commit, false, out)
    }
}

/// A USER_VAR event's data.
fn user_variable(mut input: Bytes<'_>) -> Option<UserVariable> {
    let length = usize::try_from(input.u32()?).ok()?;
    let mut out = UserVariable { name: input.take(length)?.to_vec(), value: None, collation: 0 };
    if input.u8()? != 0 {
        return Some(out);
    }
    let (kind, collation, length) = (input.u8()?, input.u32()?, usize::try_from(input.u32()?).ok()?);
    let value = input.take(length)?;
    let unsigned = input.u8().is_some_and(|flags| flags & 1 != 0);
    let eight = || value.first_chunk::<8>().copied();
    out.collation = collation;
    out.value = Some(match kind {
        0 => UserValue::String(value.to_vec()),
        1 => UserValue::Real(u64::from_le_bytes(eight()?)),
        2 if unsigned => UserValue::UInt(u64::from_le_bytes(eight()?)),
        2 => UserValue::Int(i64::from_le_bytes(eight()?)),
        4 => {
            let (&[precision, scale], packed) = value.split_first_chunk::<2>()?;
            UserValue::Decimal(decimal_text(packed, precision, scale)?)
        }
        _ => return None,
    });
    Some(out)
}

/// A packed decimal as text: groups of nine digits in four bytes, big-endian, the sign bit inverted.
fn decimal_text(packed: &[u8], precision: u8, scale: u8) -> Option<String> {
    const BYTES_OF: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let whole = usize::from(precision.checked_sub(scale)?);
    let scale = usize::from(scale);
    let mut bytes = packed.to_vec();
    let negative = *bytes.first()? & 0x80 == 0;
    *bytes.first_mut()? ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut input = Bytes::new(&bytes);
    let mut digits = |count: usize| -> Option<String> {
        let group = input.take(*BYTES_OF.get(count)?)?;
        let number = group.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        Some(format!("{number:0count$}"))
    };
    let mut text = String::new();
    if whole % 9 > 0 {
        text.push_str(&digits(whole % 9)?);
    }
    for _ in 0..whole / 9 {
        text.push_str(&digits(9)?);
    }
    let trimmed = text.trim_start_matches('0');
    let mut out = String::from(if negative { "-" } else { "" });
    out.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        out.push('.');
        for _ in 0..scale / 9 {
            out.push_str(&digits(9)?);
        }
        if scale % 9 > 0 {
            out.push_str(&digits(scale % 9)?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(super) fn a_packed_decimal_of_a_user_variable_becomes_text() {
        // 1234567890.1234 as the server's documentation packs it.
        let packed = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal_text(&packed, 14, 4).as_deref(), Some("1234567890.1234"));
        let negative: Vec<u8> = packed.iter().map(|byte| !byte).collect();
        assert_eq!(decimal_text(&negative, 14, 4).as_deref(), Some("-1234567890.1234"));
    }
}
