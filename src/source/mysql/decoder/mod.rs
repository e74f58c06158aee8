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

mod rows;
mod statements;

use std::collections::{HashMap, VecDeque};

use crate::db::ddl::Schema;
use crate::error::{Class, Error, Result};
use crate::event::filter::TableFilter;
use crate::event::{RowsOp, Statement, TableDefinition, own};
use crate::frame::{Coordinate, End, FrameWriter, Handover, Incarnation, Kind, Position, Progress, StreamHeader};
use crate::source::mysql::compress;
use crate::source::mysql::event::{self, Event, Format, kind};
use crate::source::mysql::files;
use crate::source::mysql::group::{Group, Phase, Skip};
use crate::source::mysql::gtid::{self, Gtid, State, maria};
use crate::source::mysql::load::{self, Load};
use crate::source::mysql::query::Query;
use crate::source::mysql::selection::{Selection, Verdict};
use crate::source::mysql::table_map::Family;
use crate::source::mysql::tables::{Keep, Tables, Wanted};
use crate::source::mysql::windows::Windows;
use crate::source::mysql::writeset::Writeset;
use crate::source::{Look, Options, WindowMode};

/// Files of LOAD DATA statements of MySQL 4 that may be open at once.
const LOADS_MAX: usize = 1024;
/// Notes that are kept; the rest is counted.
const NOTES_MAX: usize = 64;

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
    // Written in front of the header when another server is gone on from.
    handover: Option<Handover>,
    // Behind the last group that left no frames, if that is not `reached`.
    passed: Option<Coordinate>,
    passed_time: u32,
    // Where the last ROTATE said that the log goes on.
    rotated_to: Coordinate,
    passed_gtids: bool,
    notes: Vec<String>,
    notes_dropped: u64,
    fresh_notes: usize,
    schema: Schema,
    tables: Tables,
    windows: Windows,
    writeset: Writeset,
    selection: Selection,
    loads: HashMap<u32, Load>,
    fragments: Fragments,
    inflated: Vec<u8>,
    system_rows: u64,
    // Why nothing is known between `reached` and the next group (salvage).
    lost: Option<String>,
    annotate: bool,
    rules: Rules,
    started: bool,
    known_later: VecDeque<(Coordinate, String, String)>,
    mariadb_known: Option<bool>,
}

/// Which tables and statements are wanted.
struct Rules {
    filter: TableFilter,
    system_tables: bool,
    look: Look,
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

    fn looks_at(&self, op: RowsOp, table: &TableDefinition) -> bool {
        self.look.rows.as_ref().is_none_or(|look| look.looks_at(op, table))
    }
}

impl Rules {
    /// Whether a statement concerns nothing but tables that never enter a stream.
    fn is_systems(&self, statement: &Statement<'_>) -> bool {
        // Servers log CREATE, ALTER and DROP DATABASE with that database as the default one.
        let own_database = statement.ddl.ends_with(" database") && statement.database == own::DATABASE;
        let tables = &statement.tables;
        let systems = !tables.is_empty() && tables.iter().all(|(database, table)| is_system_table(database, table));
        !self.system_tables && (own_database || systems)
    }

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
            writeset: Writeset::default(),
            header: StreamHeader::default(),
            header_written: false,
            handover: None,
            passed: None,
            passed_time: 0,
            rotated_to: Coordinate::default(),
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
            lost: None,
            annotate: !options.no_annotate,
            rules: Rules {
                filter: options.filter.clone(),
                system_tables: options.system_tables,
                look: options.look.clone(),
            },
            started: false,
            known_later: VecDeque::new(),
            mariadb_known: None,
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
        self.file = number;
        let start = self.coordinate(event::FIRST_EVENT_AT)?;
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
        } else if self.lost.is_some() {
            self.resume(start, out);
        } else if self.reached < start {
            // Up to the start of the next file it is the old one's life: a log that ends in ROTATE says no more either.
            self.pass(start, self.format.timestamp);
            self.write_progress(out);
        }
        self.incarnation = next;
        self.selection.begin_file(start, next)?;
        self.windows.new_file();
        self.tables.stale();
        Ok(())
    }

    /// A live server has told its UUID, which no log file does.
    pub fn set_server_uuid(&mut self, uuid: &str) {
        self.header.server_uuid = uuid.to_owned();
    }

    /// Nothing will be read: [`Decoder::write_header`] tells the life of a server that is gone, as `position` and its GTIDs have it.
    pub fn stand_at(&mut self, position: &Position, gtids: State, mariadb: bool) {
        let family = if mariadb { Family::MariaDb } else { Family::MySql };
        self.header.source = family.name().into();
        self.header.windows = self.windows.mode().name().into();
        self.header.filters = self.rules.filter.canonical();
        self.reached = position.end;
        self.incarnation = position.incarnation;
        self.gtids = gtids;
    }

    /// The stream goes on from another server, which `handover` names; where its log is taken up and in which life is filled in.
    pub fn hand_over(&mut self, handover: Handover) {
        self.handover = Some(handover);
    }

    /// Whether the stream's header was written.
    pub fn is_header_written(&self) -> bool {
        self.header_written
    }

    /// CREATE TABLE statements of a live server, each with the coordinate from which on it holds, in that order.
    pub fn know_from(&mut self, known: impl IntoIterator<Item = (Coordinate, String, String)>) {
        self.known_later.extend(known);
        self.learn(Coordinate::default());
    }

    /// Takes what holds from `txid` on.
    fn learn(&mut self, txid: Coordinate) {
        while self.known_later.front().is_some_and(|(from, ..)| *from <= txid) {
            let Some((_, database, create)) = self.known_later.pop_front() else { break };
            self.schema.set_family(self.mariadb_known.unwrap_or(self.format.family == Family::MariaDb));
            // What cannot be followed is told when rows of it come.
            let _ = self.schema.apply(&database, create.as_bytes());
            self.tables.stale();
        }
    }

    /// Whether the server whose definitions come is a MariaDB, before its log says so.
    pub fn set_family(&mut self, mariadb: bool) {
        self.mariadb_known = Some(mariadb);
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
        let end = self.coordinate(offset)?.max(self.rotated_to);
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

    /// The open group is damaged, or what stands behind it is (salvage).
    pub fn lose(&mut self, why: &str, out: &mut FrameWriter) {
        if self.group.is_open() {
            self.group.discard(out);
        }
        self.fragments = Fragments::default();
        self.write_progress(out);
        self.lost.get_or_insert_with(|| why.to_owned());
    }

    /// Goes on at `at` behind what was lost: a gap.
    pub fn resume(&mut self, at: Coordinate, out: &mut FrameWriter) {
        let Some(reason) = self.lost.take() else { return };
        self.windows.barrier();
        if at <= self.reached {
            return;
        }
        self.write_header(out);
        let gap = Progress { from: self.reached, to: at, incarnation: self.incarnation, reason, ..Progress::default() };
        out.frame(Kind::Gap, |payload| gap.encode(payload));
        self.reached = at;
    }

    /// Bytes between header and data of QUERY events.
    pub fn query_head(&self) -> usize {
        self.query_post_header()
    }

    /// Nothing behind `to` is missing any more, though no frame says so yet.
    fn pass(&mut self, to: Coordinate, time: u32) {
        if to > self.reached && self.lost.is_none() {
            self.passed = Some(to);
            self.passed_time = self.passed_time.max(time);
        }
    }

    /// A ROTATE event was read: the next file starts there.
    pub fn rotated(&mut self, name: &str, at: u64) {
        let next = files::split_name(name).map(|(_, number)| number);
        let unanchored = self.header.unanchored;
        if let Some(to) = next.filter(|_| !unanchored).and_then(|number| Coordinate::new(number, at)) {
            self.rotated_to = to;
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
        if self.header.source.is_empty() {
            // Damage left no format event to say which of the two families it is.
            self.header.source = self.format.family.name().into();
        }
        if let Some(mut handover) = self.handover.take() {
            handover.to = self.incarnation;
            handover.start = self.reached;
            handover.gtid_state.clone_from(&self.header.gtid_state);
            out.frame(Kind::Handover, |payload| handover.encode(payload));
        }
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
            self.note(format!(
                "{rows} rows events and statements about the server's own tables, and rlog's, were left out"
            ));
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
            _ if event.header.flags & event::flag::IGNORABLE != 0 => done,
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
        if !self.known_later.is_empty() {
            self.learn(txid);
        }
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
                self.windows.next(&self.group.head, txid, None);
            }
            if skip == Skip::Done {
                self.writeset.passed(txid);
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
            self.write_begin(true, out);
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

    fn write_begin(&mut self, whole: bool, out: &mut FrameWriter) {
        self.write_header(out);
        self.write_progress(out);
        let group = &mut self.group;
        let mut keys = None;
        if self.windows.mode() == WindowMode::Writeset {
            if group.barrier {
                self.writeset.passed(group.txid);
            } else {
                keys = self.writeset.judge(group.payload(), &self.tables, group.txid);
                group.barrier |= keys.is_none();
            }
        }
        let start = self.windows.next(&group.head, group.txid, keys);
        group.windowed = true;
        if group.barrier {
            self.windows.barrier();
        }
        group.begin.prev = self.reached;
        group.begin.window_start = start;
        group.begin.incarnation = self.incarnation;
        group.write_begin(whole, out);
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
        self.write_begin(false, out);
        self.group.write_records(out);
    }

    fn known_gtids(&mut self, state: State, event: &Event<'_>) -> Result<()> {
        if self.gtids.is_empty() {
            self.selection.starts_with(&state).map_err(|error| error.at(event.at))?;
            self.gtids = state;
        }
        Ok(())
    }
}

/// Tables that belong to a server or to rlog itself: their rows never enter another database.
fn is_system_table(database: &str, table: &str) -> bool {
    ["mysql", "sys", "performance_schema", "information_schema"].contains(&database) || own::is_own_table(table)
}

/// Whether a version text is at least `major.minor`.
fn version_at_least(text: &str, major: u32, minor: u32) -> bool {
    let mut numbers = text.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
