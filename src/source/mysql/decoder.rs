//! Events -> groups -> transactions.
//!
//! The decoder takes the events of a server's logs in order, whatever they were read from, and appends frames. It knows where groups begin and
//! end in every version:
//!
//! - MySQL: a GTID event (5.6 and on), then `BEGIN` … `XID`/`COMMIT`/`ROLLBACK`, or one statement; `XA START` … XA_PREPARE; `XA COMMIT`, `XA ROLLBACK`.
//! - MariaDB: a GTID event that is itself the BEGIN, unless it says *standalone*: then one statement.
//! - Before GTIDs: `BEGIN` …, or one statement with the INTVAR, RAND and USER_VAR events before it; rows without BEGIN (MyISAM on old servers) until
//!   the end of their statement.
//!
//! Everything between groups (rotation, checkpoints, lists of GTIDs) moves no transaction and leaves no frame. A group without records of this
//! stream is an empty range, and empty ranges become one `progress` before the next transaction.
//!
//! A group that ended in ROLLBACK and yet was logged has changed something that cannot be rolled back, or dropped temporary tables. It is kept whole,
//! with the ROLLBACK as its last statement, marked non-transactional.

use std::collections::HashMap;

use super::bytes::Bytes;
use super::compress;
use super::event::{Event, Format, kind};
use super::files;
use super::group::{Group, Phase, Skip};
use super::gtid::{self, Gtid, State, maria, maria_extra};
use super::image::RowsInput;
use super::load::{self, Load};
use super::query::{Query, Role, role, xa_id};
use super::selection::{Selection, Verdict};
use super::table_map::Family;
use super::tables::{Announcement, Keep, Tables, Wanted};
use super::windows::Windows;
use crate::db::ddl::{Schema, Session};
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::event::record::RecordKind;
use crate::event::rows::RowsOp;
use crate::event::statement::{UserValue, UserVariable};
use crate::event::{EventError, Statement};
use crate::frame::{Coordinate, End, FrameWriter, Incarnation, Kind, Progress, StreamHeader};
use crate::source::Options;

/// Rows records are cut at about this many bytes.
const RECORD_BYTES: usize = 1 << 20;
/// Files of LOAD DATA statements of MySQL 4 that may be open at once.
const LOADS_MAX: usize = 1024;
/// Notes that are kept; the rest is counted.
const NOTES_MAX: usize = 64;
/// A rows event with this table id only frees the table maps of its statement.
const DUMMY_TABLE_ID: u64 = 0x00ff_ffff;
/// Flag of rows events: the last of its statement.
const STMT_END: u16 = 1;

/// What the reader has to do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Read on.
    Continue,
    /// The event is a payload: read the events inside.
    Payload(compress::PayloadHead),
    /// The end of what was asked for was reached before this event.
    Stop,
    /// Read again from this offset of the file: the group there is wanted after all.
    Rewind(u64),
}

/// The state between events.
pub struct Decoder {
    /// How events are written.
    pub format: Format,
    /// The group at hand.
    pub group: Group,
    /// GTIDs reached.
    pub gtids: State,
    /// Which file of the source: its number.
    pub file: u64,
    /// Life of the source.
    pub incarnation: Incarnation,
    /// What was written: the end of the last transaction or progress.
    pub reached: Coordinate,
    /// Transactions written.
    pub transactions: u64,
    /// Rows written.
    pub rows: u64,
    /// Whether a clean end was asked for.
    pub stopping: bool,
    header: StreamHeader,
    header_written: bool,
    // Behind the last group that left no frames, if that is not `reached`.
    passed: Option<Coordinate>,
    passed_time: u32,
    passed_gtids: bool,
    notes: Vec<String>,
    notes_dropped: u64,
    fresh_notes: usize,
    schema: Schema,
    tables: Tables,
    windows: Windows,
    selection: Selection,
    loads: HashMap<u32, Load>,
    fragments: Fragments,
    inflated: Vec<u8>,
    system_rows: u64,
    annotate: bool,
    rules: Rules,
    started: bool,
}

/// Which tables and statements are wanted.
struct Rules {
    filter: TableFilter,
    system_tables: bool,
}

impl Wanted for Rules {
    fn rename<'a>(&'a self, database: &'a str) -> &'a str {
        self.filter.rewrite(database)
    }

    fn keeps(&self, database: &str, table: &str) -> Keep {
        if !self.system_tables && is_system_table(database, table) {
            Keep::System
        } else if self.filter.rows_pass(database, table) {
            Keep::Yes
        } else {
            Keep::Filtered
        }
    }
}

impl Rules {
    /// Renames what a statement names, and decides whether it is wanted.
    fn statement(&self, statement: &mut Statement<'_>) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let passes = if statement.ddl.ends_with(" database") {
            let database = statement.tables.first().map_or(&*statement.database, |(database, _)| database);
            self.filter.database_ddl_passes(database)
        } else {
            self.filter.statement_passes(&statement.database, &statement.tables)
        };
        let renamed = self.filter.rewrite(&statement.database);
        if renamed != statement.database {
            statement.database = renamed.to_owned().into();
        }
        for (database, _) in &mut statement.tables {
            let renamed = self.filter.rewrite(database);
            if renamed != database {
                *database = renamed.to_owned();
            }
        }
        passes
    }
}

/// MariaDB's PARTIAL_ROW_DATA: a rows event in pieces.
#[derive(Default)]
struct Fragments {
    data: Vec<u8>,
    total: u32,
    next: u32,
    size: u64,
}

impl Decoder {
    /// A decoder that stands before the first event.
    pub fn new(options: &Options) -> Result<Decoder> {
        let mut schema = Schema::new();
        let mut decoder_notes = Vec::new();
        for file in &options.schema {
            let text = String::from_utf8_lossy(&file.text);
            decoder_notes.extend(schema.load(&text).into_iter().map(|note| format!("{}: {note}", file.name)));
        }
        let mut decoder = Decoder {
            format: Format::initial(),
            group: Group::default(),
            gtids: State::default(),
            file: 0,
            incarnation: Incarnation::default(),
            reached: Coordinate::default(),
            transactions: 0,
            rows: 0,
            stopping: false,
            windows: Windows::new(options.windows, Coordinate::default()),
            header: StreamHeader::default(),
            header_written: false,
            passed: None,
            passed_time: 0,
            passed_gtids: false,
            notes: Vec::new(),
            notes_dropped: 0,
            fresh_notes: 0,
            schema,
            tables: Tables::default(),
            selection: Selection::new(options)?,
            loads: HashMap::new(),
            fragments: Fragments::default(),
            inflated: Vec::new(),
            system_rows: 0,
            annotate: !options.no_annotate,
            rules: Rules { filter: options.filter.clone(), system_tables: options.system_tables },
            started: false,
        };
        decoder_notes.into_iter().for_each(|note| decoder.note(note));
        Ok(decoder)
    }

    /// Remembers a remark for people.
    pub fn note(&mut self, note: String) {
        if self.notes.contains(&note) {
            return;
        }
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.notes_dropped += 1;
        }
    }

    /// Remarks since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        let fresh = self.notes.get(self.fresh_notes..).unwrap_or(&[]).to_vec();
        self.fresh_notes = self.notes.len();
        fresh
    }

    /// The coordinate of an offset in the current file.
    pub fn coordinate(&self, offset: u64) -> Result<Coordinate> {
        Coordinate::new(self.file, offset)
            .ok_or_else(|| Error::damage(format!("file {} or its offset {offset} is out of range", self.file)))
    }

    /// A file begins: the source's next one (`number`), whose first event has given [`Decoder::format`].
    pub fn begin_file(&mut self, number: u64, log_name: &str, out: &mut FrameWriter) -> Result<()> {
        let format = &self.format;
        let identity = format!("{}:{}", format.family.name(), format.server_id);
        let server = crc32fast::hash(identity.as_bytes());
        let next = Incarnation::new(server, format.timestamp);
        if self.started && self.incarnation.server() != server {
            return Err(Error::new(
                Class::Identity,
                format!("the log goes on as that of {} server {}", format.family.name(), format.server_id),
            ));
        }
        self.incarnation = next;
        self.file = number;
        let start = self.coordinate(super::event::FIRST_EVENT_AT)?;
        if !self.started {
            self.header.source = format.family.name().into();
            self.header.server_version = format.server_version.clone();
            self.header.server_id = format.server_id;
            self.header.windows = self.windows.mode().name().into();
            self.header.log_name = log_name.into();
            self.header.filters = self.rules.filter.canonical();
            // No server wrote rows that foreign-key cascades changed before MySQL 9.6.
            self.header.cascades_logged =
                Some(format.family == Family::MySql && version_at_least(&format.server_version, 9, 6));
            self.header.facts.push(format!("checksum={}", if format.checksum { "crc32" } else { "none" }));
            if !format.checksum {
                self.note("the log has no checksums: damage can only be noticed where it makes no sense".into());
            }
            self.reached = self.selection.resume_point(start).unwrap_or(start);
            self.windows = Windows::new(self.windows.mode(), start);
            self.started = true;
        } else if self.reached < start {
            self.pass(start, self.format.timestamp);
            self.write_progress(out);
        }
        self.selection.begin_file(start, next)?;
        self.windows.new_file();
        self.tables.stale();
        Ok(())
    }

    /// Whether a file has begun.
    pub fn has_begun(&self) -> bool {
        self.started
    }

    /// Whether this name is that of the file at hand.
    pub fn is_in(&self, name: Option<&str>) -> bool {
        match name.map(files::split_name) {
            Some(Some((_, number))) => number == self.file,
            Some(None) => false,
            None => true,
        }
    }

    /// As [`Decoder::begin_file`], by the file's name. Without a number in it the stream is unanchored: its files count from 1.
    pub fn begin_named(&mut self, name: Option<&str>, out: &mut FrameWriter) -> Result<()> {
        match name.and_then(files::split_name) {
            Some((base, number)) if !self.header.unanchored => self.begin_file(number, base, out),
            _ => {
                if self.selection.needs_anchor() {
                    return Err(Error::config("a position needs the log's name, and this one has none with a number")
                        .hint("give it: `--log-name mysql-bin.000042`"));
                }
                if self.started && !self.header.unanchored {
                    return Err(Error::config("this log has no number in its name, those before it have")
                        .hint("give it its name back, or give the logs one by one with `--log-name`"));
                }
                self.header.unanchored = true;
                self.begin_file(self.file + 1, "", out)
            }
        }
    }

    /// The end of the logs was reached, at this offset of the current file.
    pub fn caught_up(&mut self, offset: u64) -> Result<()> {
        let end = self.coordinate(offset)?.max(self.passed.unwrap_or_default());
        self.selection.caught_up(end)
    }

    /// Another format description event in the same file (relay logs, the master's after the replica's own).
    pub fn reformat(&mut self, format: Format) {
        self.format = format;
        self.tables.stale();
    }

    /// The open group was cut off by a crash of its server and rolled back there.
    pub fn drop_group(&mut self, out: &mut FrameWriter) {
        let text = format!(
            "transaction {} was cut off by a crash of its server, which rolled it back: left out",
            self.group.txid
        );
        self.note(text);
        self.group.discard(out);
        self.fragments = Fragments::default();
    }

    /// Nothing behind `to` is missing any more, though no frame says so yet.
    fn pass(&mut self, to: Coordinate, time: u32) {
        if to > self.reached {
            self.passed = Some(to);
            self.passed_time = self.passed_time.max(time);
        }
    }

    /// A ROTATE event was read: the next file starts there.
    pub fn rotated(&mut self, name: &str, at: u64) {
        let next = files::split_name(name).map(|(_, number)| number);
        let unanchored = self.header.unanchored;
        if let Some(to) = next.filter(|_| !unanchored).and_then(|number| Coordinate::new(number, at)) {
            self.pass(to, 0);
        }
    }

    /// Writes the stream header, once.
    pub fn write_header(&mut self, out: &mut FrameWriter) {
        if self.header_written {
            return;
        }
        self.header_written = true;
        self.header.incarnation = self.incarnation;
        self.header.start = self.reached;
        self.header.gtid_state = self.gtids.text();
        let header = &self.header;
        out.frame(Kind::Stream, |payload| header.encode(payload));
    }

    /// Writes what was passed since the last frame.
    pub fn write_progress(&mut self, out: &mut FrameWriter) {
        let Some(to) = self.passed.take().filter(|to| *to > self.reached) else { return };
        self.write_header(out);
        let progress = Progress {
            from: self.reached,
            to,
            incarnation: self.incarnation,
            gtid_state: if self.passed_gtids { self.gtids.text() } else { String::new() },
            time_us: i64::from(self.passed_time) * 1_000_000,
            reason: String::new(),
        };
        out.frame(Kind::Progress, |payload| progress.encode(payload));
        self.reached = to;
        self.passed_time = 0;
        self.passed_gtids = false;
    }

    /// Ends the stream.
    pub fn write_end(&mut self, in_use: bool, torn_bytes: u64, out: &mut FrameWriter) {
        self.write_header(out);
        self.write_progress(out);
        if self.system_rows > 0 {
            let rows = self.system_rows;
            self.note(format!("{rows} rows events of the server's own tables were left out"));
        }
        if self.notes_dropped > 0 {
            self.notes.push(format!("{} further remarks", self.notes_dropped));
        }
        let end = End {
            reached: self.reached,
            incarnation: self.incarnation,
            gtid_state: self.gtids.text(),
            transactions: self.transactions,
            in_use,
            torn_bytes,
            notes: self.notes.clone(),
        };
        out.frame(Kind::End, |payload| end.encode(payload));
    }

    /// Takes an event.
    #[inline]
    pub fn event(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        match event.header.kind {
            kind::TABLE_MAP => self.table_map(event, out),
            kind::WRITE_ROWS_V1 | kind::UPDATE_ROWS_V1 | kind::DELETE_ROWS_V1 => self.rows_event(event, false, out),
            kind::WRITE_ROWS | kind::UPDATE_ROWS | kind::DELETE_ROWS | kind::PARTIAL_UPDATE_ROWS => {
                self.rows_event(event, true, out)
            }
            _ => self.other(event, out),
        }
    }

    fn other(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        let done = Ok(Flow::Continue);
        match event.header.kind {
            kind::XID => self.commit(event, Kind::Commit, out),
            kind::MARIADB_GTID | kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED => self.gtid(event, out),
            kind::QUERY => {
                let query = Query::parse(event.body, self.query_post_header(), 0).ok_or_else(|| event.cut())?;
                self.query(event, &query, None, out)
            }
            kind::MARIADB_ANNOTATE_ROWS => self.annotation(event, event.body),
            // One byte of length, of no use for longer texts, stands before the text.
            kind::ROWS_QUERY => self.annotation(event, event.body.get(1..).unwrap_or(&[])),
            kind::INTVAR | kind::RAND | kind::USER_VAR => self.context(event, out),
            kind::MARIADB_QUERY_COMPRESSED => self.compressed_query(event, out),
            number @ kind::MARIADB_WRITE_ROWS_COMPRESSED_V1..=kind::MARIADB_DELETE_ROWS_COMPRESSED => {
                self.compressed_rows(event, number, out)
            }
            kind::PRE_GA_WRITE_ROWS | kind::PRE_GA_UPDATE_ROWS | kind::PRE_GA_DELETE_ROWS => {
                self.rows_event(event, false, out)
            }
            kind::MARIADB_PARTIAL_ROW_DATA => self.fragment(event, out),
            kind::TRANSACTION_PAYLOAD => compress::PayloadHead::parse(event.body)
                .map(Flow::Payload)
                .ok_or_else(|| event.damage("its fields are cut short, or its compression is not known")),
            kind::XA_PREPARE => self.xa_prepare(event, out),
            kind::BEGIN_LOAD_QUERY | kind::APPEND_BLOCK => self.load_block(event, out),
            kind::EXECUTE_LOAD_QUERY => {
                let query = Query::parse(event.body, self.query_post_header(), 13).ok_or_else(|| event.cut())?;
                let execute = load::parse_execute(event.body).ok_or_else(|| event.cut())?;
                self.query(event, &query, Some(execute), out)
            }
            kind::LOAD | kind::NEW_LOAD | kind::CREATE_FILE => self.old_load(event, out),
            kind::EXEC_LOAD | kind::DELETE_FILE => self.old_load_end(event, out),
            kind::PREVIOUS_GTIDS => {
                let state = State::from_previous_gtids(event.body).ok_or_else(|| event.cut())?;
                self.known_gtids(state, event)?;
                done
            }
            kind::MARIADB_GTID_LIST => {
                let state = State::from_gtid_list(event.body).ok_or_else(|| event.cut())?;
                self.known_gtids(state, event)?;
                done
            }
            kind::INCIDENT => Err(self.incident(event)),
            kind::STOP
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::IGNORABLE
            | kind::SLAVE
            | kind::TRANSACTION_CONTEXT
            | kind::VIEW_CHANGE
            | kind::MARIADB_BINLOG_CHECKPOINT
            | kind::START_V3 => done,
            _ if event.header.flags & super::event::flag::IGNORABLE != 0 => done,
            number => Err(Error::new(
                Class::Version,
                format!("event type {number} is not known to this version, and is not marked as ignorable"),
            )
            .at(event.at)),
        }
    }

    fn query_post_header(&self) -> usize {
        self.format.post_header_len(kind::QUERY, if self.format.version < 4 { 11 } else { 13 })
    }

    // Groups

    /// Opens a group at `event` if none is open. `Some`: the reader must do something else first.
    fn open(&mut self, event: &Event<'_>) -> Result<Option<Flow>> {
        if self.group.is_open() {
            return Ok(None);
        }
        let txid = self.coordinate(event.start)?;
        if self.stopping {
            return Ok(Some(Flow::Stop));
        }
        self.group.open(event.at, txid, event.header.timestamp, event.header.server_id);
        match self.selection.open(txid, event.header.timestamp, &self.group.head.id, self.header_written)? {
            Verdict::Take => {}
            Verdict::Skip(skip) => self.group.skip = skip,
            Verdict::Stop => {
                self.group.close();
                return Ok(Some(Flow::Stop));
            }
        }
        Ok(None)
    }

    fn gtid(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        match self.group.phase {
            Phase::Closed => {}
            // Nothing but a GTID, or blocks of files: whole without a commit.
            Phase::Waiting => drop(self.finish(event, Kind::Commit, true, out)?),
            Phase::Begun | Phase::Rows => {
                return Err(event.damage(format!("transaction {} before it has no end", self.group.txid)));
            }
        }
        let head = &mut self.group.head;
        let parsed = match event.header.kind {
            kind::MARIADB_GTID => gtid::parse_mariadb(event.body, event.header.server_id, head),
            kind::GTID_TAGGED => gtid::parse_mysql_tagged(event.body, head),
            number => gtid::parse_mysql(event.body, number == kind::ANONYMOUS_GTID, head),
        };
        parsed.ok_or_else(|| event.cut())?;
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        if event.header.kind == kind::MARIADB_GTID {
            let flags = self.group.head.flags;
            self.group.standalone = flags & maria::STANDALONE != 0;
            self.group.nontransactional = flags & (maria::TRANSACTIONAL | maria::DDL | maria::STANDALONE) == 0;
            self.group.barrier |= flags & maria::DDL != 0;
            if !self.group.standalone && flags & maria::COMPLETED_XA == 0 {
                self.group.phase = Phase::Begun;
            }
        }
        Ok(Flow::Continue)
    }

    /// The commit event of a group, or what stands for it.
    fn commit(&mut self, event: &Event<'_>, how: Kind, out: &mut FrameWriter) -> Result<Flow> {
        if !self.group.is_open() {
            return Err(event.damage("it ends a transaction that never began"));
        }
        self.finish(event, how, false, out)
    }

    /// Ends the open group: behind `event`, or (`before`) in front of it.
    fn finish(&mut self, event: &Event<'_>, how: Kind, before: bool, out: &mut FrameWriter) -> Result<Flow> {
        let end = self.coordinate(if before { event.start } else { event.end })?;
        let digest = event.digest();
        let txid = self.group.txid;
        let skip = self.group.skip;
        match self.selection.close(txid, end, digest, skip)? {
            Verdict::Take | Verdict::Skip(Skip::No) => {}
            Verdict::Skip(_) => {
                let at = self.group.at;
                self.group.close();
                return Ok(Flow::Rewind(at));
            }
            // The end that was asked for lies inside of this group.
            Verdict::Stop => {
                self.group.discard(out);
                return Ok(Flow::Stop);
            }
        }
        let wanted = how == Kind::Prepared || self.group.has_records();
        if skip == Skip::No && wanted {
            self.write_transaction(end, digest, how, event, out)?;
        } else {
            if !self.group.windowed {
                self.windows.next(&self.group.head, txid);
            }
            if self.group.barrier {
                self.windows.barrier();
            }
            self.passed_gtids |= self.group.head.id != Gtid::Anonymous;
            self.gtids.add(&self.group.head.id);
            if skip == Skip::Done && !self.header_written {
                self.reached = self.reached.max(end);
            } else {
                self.pass(end, event.header.timestamp);
            }
        }
        self.group.close();
        Ok(if self.selection.is_complete(end, &self.gtids) { Flow::Stop } else { Flow::Continue })
    }

    fn write_transaction(
        &mut self,
        end: Coordinate,
        digest: u32,
        how: Kind,
        event: &Event<'_>,
        out: &mut FrameWriter,
    ) -> Result<()> {
        if !self.group.is_streaming() {
            self.write_begin(out);
        }
        let commit_time_us = self.group.head.commit_time_us;
        let commit = &mut self.group.commit;
        commit.end = end;
        commit.incarnation = self.incarnation;
        commit.source_digest = digest;
        commit.time_us =
            if commit_time_us != 0 { commit_time_us } else { i64::from(event.header.timestamp) * 1_000_000 };
        for table in &commit.tables {
            self.rows += table.inserts + table.updates + table.deletes;
        }
        self.group.write_commit(how, out);
        self.gtids.add(&self.group.head.id);
        self.reached = end;
        self.transactions += 1;
        Ok(())
    }

    fn write_begin(&mut self, out: &mut FrameWriter) {
        self.write_header(out);
        self.write_progress(out);
        let group = &mut self.group;
        let start = self.windows.next(&group.head, group.txid);
        group.windowed = true;
        if group.barrier {
            self.windows.barrier();
        }
        group.begin.prev = self.reached;
        group.begin.window_start = start;
        group.begin.incarnation = self.incarnation;
        group.write_begin(out);
    }

    /// Looks after each record whether something is due to be written.
    #[inline]
    fn after_record(&mut self, out: &mut FrameWriter) {
        if self.group.outgrown() {
            self.stream(out);
        } else if self.group.piece_due() {
            self.group.write_records(out);
        }
    }

    #[cold]
    fn stream(&mut self, out: &mut FrameWriter) {
        self.group.barrier = true;
        self.write_begin(out);
        self.group.write_records(out);
    }

    fn known_gtids(&mut self, state: State, event: &Event<'_>) -> Result<()> {
        if self.gtids.is_empty() {
            self.selection.starts_with(&state).map_err(|error| error.at(event.at))?;
            self.gtids = state;
        }
        Ok(())
    }

    // Statements

    fn query(
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

    fn plain_statement(
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
        self.statement(event, query, load, kind, ddl, tables, out)
    }

    #[allow(clippy::too_many_arguments)]
    fn statement(
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

    fn write_statement(&mut self, mut statement: Statement<'_>, kind: RecordKind, out: &mut FrameWriter) -> Result<()> {
        if !self.rules.statement(&mut statement) {
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

    fn compressed_query(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
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

    fn context(&mut self, event: &Event<'_>, _out: &mut FrameWriter) -> Result<Flow> {
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

    fn annotation(&mut self, event: &Event<'_>, text: &[u8]) -> Result<Flow> {
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

    fn xa_prepare(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
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

    fn incident(&self, event: &Event<'_>) -> Error {
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

    fn load_block(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        if let Some(flow) = self.open(event)? {
            return Ok(flow);
        }
        let block = load::parse_block(event.body).ok_or_else(|| event.cut())?;
        self.write_block(event, block.file_id, block.bytes, out)?;
        Ok(Flow::Continue)
    }

    fn write_block(&mut self, event: &Event<'_>, file_id: u32, bytes: &[u8], out: &mut FrameWriter) -> Result<()> {
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

    fn old_load(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
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

    fn old_load_statement(&mut self, event: &Event<'_>, load: &Load, out: &mut FrameWriter) -> Result<()> {
        if self.group.skip != Skip::No {
            return Ok(());
        }
        let statement = Statement {
            sql: load.sql.as_slice().into(),
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

    fn old_load_end(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
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

    // Rows

    #[inline]
    fn table_map(&mut self, event: &Event<'_>, _out: &mut FrameWriter) -> Result<Flow> {
        if !self.group.is_open() {
            if let Some(flow) = self.open(event)? {
                return Ok(flow);
            }
            self.group.phase = Phase::Rows;
        }
        if self.group.phase == Phase::Waiting {
            self.group.phase = Phase::Rows;
        }
        if self.group.skip != Skip::No {
            return Ok(Flow::Continue);
        }
        let id_bytes = self.format.table_id_bytes(kind::TABLE_MAP);
        let note = self
            .tables
            .map(event.body, id_bytes, self.format.family, &self.schema, &self.rules)
            .map_err(|error| error.at(event.at))?;
        if let Some(note) = note {
            self.note(note);
        }
        Ok(Flow::Continue)
    }

    #[inline]
    fn rows_event(&mut self, event: &Event<'_>, extended: bool, out: &mut FrameWriter) -> Result<Flow> {
        self.rows(event, event.header.kind, event.body, extended, out)
    }

    fn compressed_rows(&mut self, event: &Event<'_>, number: u8, out: &mut FrameWriter) -> Result<Flow> {
        let extended = number >= kind::MARIADB_WRITE_ROWS_COMPRESSED;
        let (first, plain) = if extended {
            (kind::MARIADB_WRITE_ROWS_COMPRESSED, kind::WRITE_ROWS)
        } else {
            (kind::MARIADB_WRITE_ROWS_COMPRESSED_V1, kind::WRITE_ROWS_V1)
        };
        let plain = number - first + plain;
        let head = self.rows_head(event.body, plain, extended).ok_or_else(|| event.cut())?;
        let head_len = event.body.len() - head.images.len();
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.clear();
        inflated.extend_from_slice(event.body.get(..head_len).unwrap_or(&[]));
        compress::inflate_mariadb(head.images, &mut inflated)
            .ok_or_else(|| event.damage("its rows do not decompress"))?;
        let flow = self.rows(event, plain, &inflated, extended, out);
        self.inflated = inflated;
        flow
    }

    /// Splits the data of a rows event of type `number`.
    #[inline]
    fn rows_head<'a>(&self, body: &'a [u8], number: u8, extended: bool) -> Option<RowsParts<'a>> {
        let mut input = Bytes::new(body);
        let id = if self.format.table_id_bytes(number) == 4 { u64::from(input.u32()?) } else { input.u48()? };
        let flags = input.u16()?;
        if extended {
            // The length counts itself. What it holds (NDB, partitions) changes nothing about the rows.
            let length = usize::from(input.u16()?).checked_sub(2)?;
            check_extra(input.take(length)?)?;
        }
        if id == DUMMY_TABLE_ID {
            return Some(RowsParts { id, flags, op: RowsOp::Insert, before: &[], after: &[], images: &[] });
        }
        let columns = usize::try_from(input.packed()?).ok()?;
        let set = input.take(columns.checked_add(7)? / 8)?;
        let (op, before, after) = match number {
            kind::WRITE_ROWS | kind::WRITE_ROWS_V1 | kind::PRE_GA_WRITE_ROWS => (RowsOp::Insert, &[][..], set),
            kind::DELETE_ROWS | kind::DELETE_ROWS_V1 | kind::PRE_GA_DELETE_ROWS => (RowsOp::Delete, set, &[][..]),
            // Before 5.1.16 both images had the same columns.
            kind::PRE_GA_UPDATE_ROWS => (RowsOp::Update, set, set),
            _ => (RowsOp::Update, set, input.take(set.len())?),
        };
        Some(RowsParts { id, flags, op, before, after, images: input.rest() })
    }

    fn rows(
        &mut self,
        event: &Event<'_>,
        number: u8,
        body: &[u8],
        extended: bool,
        out: &mut FrameWriter,
    ) -> Result<Flow> {
        let parts = self.rows_head(body, number, extended).ok_or_else(|| event.cut())?;
        if !self.group.is_open() {
            if parts.id == DUMMY_TABLE_ID {
                return Ok(Flow::Continue);
            }
            return Err(event.damage("rows without a table map before them"));
        }
        if parts.id != DUMMY_TABLE_ID && self.group.skip == Skip::No {
            if matches!(number, kind::PRE_GA_WRITE_ROWS..=kind::PRE_GA_DELETE_ROWS) {
                self.write_old_rows(event, parts, out)?;
            } else {
                self.write_rows(event, &parts, number == kind::PARTIAL_UPDATE_ROWS, out)?;
            }
        }
        if parts.flags & STMT_END != 0 {
            self.group.annotation.clear();
            if self.group.phase == Phase::Rows {
                return self.finish(event, Kind::Commit, false, out);
            }
        }
        Ok(Flow::Continue)
    }

    #[cold]
    fn write_old_rows(&mut self, event: &Event<'_>, parts: RowsParts<'_>, out: &mut FrameWriter) -> Result<()> {
        let mut images = parts.images.to_vec();
        let set = if parts.op == RowsOp::Insert { parts.after } else { parts.before };
        if let Some(slot) = self.tables.get(parts.id).filter(|slot| slot.kept == Keep::Yes) {
            let definition = std::rc::Rc::clone(&slot.definition);
            super::prega::rewrite(&mut images, &mut slot.plan, &definition, set)
                .map_err(|EventError(what)| event.damage(what))?;
        }
        self.write_rows(event, &RowsParts { images: &images, ..parts }, false, out)
    }

    fn write_rows(
        &mut self,
        event: &Event<'_>,
        parts: &RowsParts<'_>,
        partial_json: bool,
        out: &mut FrameWriter,
    ) -> Result<()> {
        let Some(slot) = self.tables.get(parts.id) else {
            return Err(event.damage(format!("no table map before it has its table id {}", parts.id)));
        };
        if slot.kept != Keep::Yes {
            self.system_rows += u64::from(slot.kept == Keep::System);
            return Ok(());
        }
        let key = slot.key;
        match self.tables.announcement_of(parts.id) {
            Announcement::Done => {}
            announcement => {
                if announcement == Announcement::Replaces && self.group.has_rows_of(key) && !self.group.is_streaming() {
                    self.stream(out);
                }
                self.write_header(out);
                if self.group.is_streaming() {
                    self.group.write_records(out);
                }
                self.tables.announce(parts.id, out);
            }
        }
        if !self.group.annotation.is_empty() {
            let (time_s, text) = (self.group.annotation_time, std::mem::take(&mut self.group.annotation));
            let statement = Statement { sql: text.as_slice().into(), time_s, ..Statement::default() };
            self.group.record(RecordKind::Annotate, |out| statement.encode(out))?;
            self.group.annotation = text;
            self.group.annotation.clear();
        }
        let mut input = RowsInput {
            op: parts.op,
            before: parts.before,
            after: parts.after,
            images: parts.images,
            partial_json,
            time_s: event.header.timestamp,
        };
        while !input.images.is_empty() {
            let Some(slot) = self.tables.get(parts.id) else { break };
            let done = slot
                .plan
                .transcode(&input, self.group.records(), RECORD_BYTES)
                .map_err(|EventError(what)| event.damage(what))?;
            if done.consumed == 0 {
                return Err(event.damage("its rows have no bytes"));
            }
            input.images = input.images.get(done.consumed..).unwrap_or(&[]);
            self.group.count(key, parts.op, u64::from(done.rows));
            self.after_record(out);
        }
        Ok(())
    }

    /// MariaDB 12.3: `total 4, number 4 (from 1), flags 1, [size of the whole 8 when flag 1], piece`.
    fn fragment(&mut self, event: &Event<'_>, out: &mut FrameWriter) -> Result<Flow> {
        let mut input = Bytes::new(event.body);
        let mut head = || {
            let (total, number, flags) = (input.u32()?, input.u32()?, input.u8()?);
            let size = if flags & 1 != 0 { input.u64()? } else { 0 };
            Some((total, number, size, input.rest()))
        };
        let (total, number, size, piece) = head().ok_or_else(|| event.cut())?;
        let fragments = &mut self.fragments;
        if number == 1 {
            *fragments = Fragments { data: std::mem::take(&mut fragments.data), total, next: 1, size };
            fragments.data.clear();
        }
        if number == 0 || number != fragments.next || total != fragments.total || number > total {
            return Err(event.damage(format!("piece {number} of {total} does not follow the one before")));
        }
        fragments.next += 1;
        if self.group.skip == Skip::No {
            if (fragments.data.len() + piece.len()) as u64 > u64::from(u32::MAX) {
                return Err(event.damage("the pieces of a rows event exceed 4 GiB"));
            }
            fragments.data.extend_from_slice(piece);
        }
        if number < total {
            return Ok(Flow::Continue);
        }
        let whole = std::mem::take(&mut self.fragments.data);
        let size = self.fragments.size;
        self.fragments = Fragments::default();
        if self.group.skip != Skip::No {
            return Ok(Flow::Continue);
        }
        if size != 0 && size != whole.len() as u64 {
            return Err(event.damage(format!("its pieces have {} bytes instead of {size}", whole.len())));
        }
        let header = self.format.header(&whole).ok_or_else(|| event.cut())?;
        let body = whole.get(self.format.header_len..).unwrap_or(&[]);
        let inner = Event { header, body, raw: &whole, ..*event };
        match header.kind {
            kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1 => self.rows(&inner, header.kind, body, false, out),
            kind::WRITE_ROWS..=kind::DELETE_ROWS => self.rows(&inner, header.kind, body, true, out),
            number @ kind::MARIADB_WRITE_ROWS_COMPRESSED_V1..=kind::MARIADB_DELETE_ROWS_COMPRESSED => {
                self.compressed_rows(&inner, number, out)
            }
            number => Err(event.damage(format!("its pieces are no rows event, but {}", super::event::name(number)))),
        }
    }
}

/// A rows event's parts.
#[derive(Clone, Copy)]
struct RowsParts<'a> {
    id: u64,
    flags: u16,
    op: RowsOp,
    before: &'a [u8],
    after: &'a [u8],
    images: &'a [u8],
}

/// The extra data of a V2 rows event: a type byte, then NDB's (a length that counts itself and the format byte) or a partition's.
fn check_extra(mut extra: &[u8]) -> Option<()> {
    while let Some((tag, rest)) = extra.split_first() {
        let length = match tag {
            0 => usize::from(*rest.first()?).max(2),
            // Update events name two partitions.
            1 => rest.len().min(4),
            _ => return None,
        };
        extra = rest.get(length..)?;
    }
    Some(())
}

/// Tables that belong to a server or to rlog itself: their rows never enter another database.
fn is_system_table(database: &str, table: &str) -> bool {
    ["mysql", "sys", "performance_schema", "information_schema"].contains(&database) || table.starts_with("rlog_")
}

/// Whether a version text is at least `major.minor`.
fn version_at_least(text: &str, major: u32, minor: u32) -> bool {
    let mut numbers = text.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
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
    fn a_packed_decimal_of_a_user_variable_becomes_text() {
        // 1234567890.1234 as the server's documentation packs it.
        let packed = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal_text(&packed, 14, 4).as_deref(), Some("1234567890.1234"));
        let negative: Vec<u8> = packed.iter().map(|byte| !byte).collect();
        assert_eq!(decimal_text(&negative, 14, 4).as_deref(), Some("-1234567890.1234"));
    }
}
