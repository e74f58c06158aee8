//! From decoded transactions to frames.
//!
//! Every value carries its own type ([`ColumnKind::Any`]); text is UTF-8 in the stream, whatever the database's encoding.
//! A table whose rows are known by a hidden rowid gets one more column for it, called by a name that the table leaves
//! free (`rowid`, `_rowid_` or `oid`), invisible, last, and its primary key: replaying keeps rowids. A table that
//! shadows all three names has no key, and rows are known by all their columns.
//!
//! A transaction is gathered up to [`TRANSACTION_ALONE_ABOVE_BYTES`] so that `begin` can say its window; a longer one is a
//! barrier and streams through. Schema changes are `ddl` records, AUTOINCREMENT counters `statement` records, both SQL of
//! SQLite, and make their transaction a barrier. A transaction without rows or statements becomes progress.
//!
//! [`ColumnKind::Any`]: crate::event::ColumnKind::Any

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::ddl::{Ddl, DdlKind};
use super::decode::{Change, Op, Row, Sink, Txn};
use super::keys::{RowKey, add_keys, keys_of};
use super::page::Encoding;
use super::record::{self, Value};
use super::schema::{Generated, Table};
use crate::error::Result;
use crate::event::filter::TableFilter;
use crate::event::record::{close_record, open_record, write_payload};
use crate::event::rows::set_row_count;
use crate::event::value::any_tag;
use crate::event::{Column, ColumnKind, Key, KeyPart, RecordKind, RowsHead, RowsOp, Sign, Statement, TableDefinition};
use crate::frame::fields::put_varint;
use crate::frame::{
    Begin, Chunk, Commit, Coordinate, FrameWriter, Incarnation, Kind, Progress, TRANSACTION_ALONE_ABOVE_BYTES,
    TableCount, begin_flags,
};
use crate::source::writeset::WriteSet;

/// A rows record is closed when it has this many bytes.
const RECORD_BYTES: usize = 256 << 10;
/// Bytes in the writer at which it is drained.
const DRAIN_BYTES: usize = 256 << 10;

/// Takes the bytes out of the writer.
pub type Drain = Box<dyn FnMut(&mut FrameWriter) -> Result<()> + Send>;

/// What of the source stands in every frame.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Hash of the database file's identity.
    pub server: u32,
    /// Number of the log's generation, counted on in the position.
    pub generation: u64,
    /// First salt of the log.
    pub stamp: u32,
}

impl Place {
    /// The incarnation of positions.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.server, self.stamp)
    }

    /// The coordinate of a frame of this generation.
    pub fn at(&self, frame: u64) -> Coordinate {
        Coordinate::new(self.generation, frame).unwrap_or_default()
    }
}

/// The evidence of a commit frame: CRC-32 over its checksum pair as it stands in the log.
pub fn digest_of(checksum: super::wal::Checksum) -> u32 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&checksum.0.to_be_bytes());
    bytes[4..].copy_from_slice(&checksum.1.to_be_bytes());
    crc32fast::hash(&bytes)
}

/// How rows of one table are written.
struct Plan {
    table: Arc<Table>,
    definition: TableDefinition,
    key: u64,
    /// Columns of the table that images have, in order; the rowid column is not among them.
    columns: Vec<usize>,
    has_rowid: bool,
    /// Bitmap over the definition's columns.
    set: Vec<u8>,
    /// Keys for write sets; `None` when some key is not known.
    keys: Option<Vec<RowKey>>,
    count: TableCount,
}

/// A rows record that is being written.
struct OpenRows {
    key: u64,
    op: RowsOp,
    record_at: usize,
    count_at: usize,
    rows: u32,
}

/// What the transaction at hand is called in its frames.
#[derive(Clone, Debug)]
enum Form {
    /// A transaction of the log.
    Log,
    /// A transaction of the log's, or several merged into one.
    Merged,
    /// A chunk of a snapshot.
    Snapshot(Chunk),
}

/// The sink that writes frames; see the module's head.
pub struct Encoder {
    writer: FrameWriter,
    drain: Drain,
    place: Place,
    /// First salt of the generation before.
    stamp_before: u32,
    reached: Coordinate,
    /// A range without transactions that has not been written yet: from where.
    progress_from: Option<Coordinate>,
    last_txid: Coordinate,
    windows: Option<WriteSet>,
    filter: TableFilter,
    /// Targets through whose appliers the transaction at hand came.
    origins: Vec<String>,
    /// The first transaction of a stream is a barrier.
    is_first: bool,
    /// Commit time of the transaction at hand, microseconds since 1970 UTC; 0 when nobody saw it.
    pub time_us: i64,
    plans: HashMap<String, Plan>,
    current: String,
    payload: Vec<u8>,
    open: Option<OpenRows>,
    form: Form,
    txid: Coordinate,
    is_begun: bool,
    is_barrier: bool,
    touched: Vec<String>,
    statements: u64,
    keys: Vec<u64>,
    scratch: Vec<u8>,
    /// Transactions and rows written.
    pub written: (u64, u64),
    /// Remarks for a person, each once.
    pub notes: Vec<String>,
    notes_told: usize,
}

impl Encoder {
    /// An encoder that stands at `reached`. With `windows`, windows come from write sets, else every transaction waits for
    /// the one before.
    pub fn new(place: Place, reached: Coordinate, windows: bool, filter: TableFilter, drain: Drain) -> Encoder {
        Encoder {
            writer: FrameWriter::new(),
            drain,
            place,
            stamp_before: place.stamp,
            reached,
            progress_from: None,
            last_txid: reached,
            windows: windows.then(|| WriteSet::new(reached)),
            filter,
            origins: Vec::new(),
            is_first: true,
            time_us: 0,
            plans: HashMap::new(),
            current: String::new(),
            payload: Vec::new(),
            open: None,
            form: Form::Log,
            txid: reached,
            is_begun: false,
            is_barrier: false,
            touched: Vec::new(),
            statements: 0,
            keys: Vec::new(),
            scratch: Vec::new(),
            written: (0, 0),
            notes: Vec::new(),
            notes_told: 0,
        }
    }

    /// The frames' writer, for frames outside of transactions.
    pub fn writer(&mut self) -> &mut FrameWriter {
        &mut self.writer
    }

    /// Remarks since the last call.
    pub fn new_notes(&mut self) -> Vec<String> {
        let new = self.notes.get(self.notes_told..).unwrap_or_default().to_vec();
        self.notes_told = self.notes.len();
        new
    }

    /// What has been reached.
    pub fn reached(&self) -> Coordinate {
        self.reached
    }

    /// Where frames are.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The log was reset: a new generation, with this first salt.
    pub fn new_generation(&mut self, generation: u64, stamp: u32) {
        if generation != self.place.generation {
            self.stamp_before = self.place.stamp;
        }
        self.place.generation = generation;
        self.place.stamp = stamp;
    }

    /// Nothing was changed up to `end`.
    pub fn pass_to(&mut self, end: Coordinate) {
        self.progress_from.get_or_insert(self.reached);
        self.reached = end;
    }

    /// Writes what has been held back: a range of progress. Then drains.
    pub fn flush(&mut self) -> Result<()> {
        if let Some(mut from) = self.progress_from.take() {
            // As between files of other logs: what leads to the start of the next generation is still of the one before.
            let start = self.place.at(1);
            if from < start && start <= self.reached {
                self.progress(from, start, Incarnation::new(self.place.server, self.stamp_before));
                from = start;
            }
            if from < self.reached {
                self.progress(from, self.reached, self.place.incarnation());
            }
        }
        self.drain_all()
    }

    fn progress(&mut self, from: Coordinate, to: Coordinate, incarnation: Incarnation) {
        let progress = Progress { from, to, incarnation, ..Progress::default() };
        self.writer.frame(Kind::Progress, |out| progress.encode(out));
    }

    fn drain_all(&mut self) -> Result<()> {
        (self.drain)(&mut self.writer)
    }

    /// The next transaction is several of the log's merged into one.
    pub fn begin_merged(&mut self, txid: Coordinate) {
        self.start(txid, Form::Merged);
        self.is_barrier = true;
    }

    /// Ends a merged transaction at `end`.
    pub fn end_merged(&mut self, end: Coordinate, digest: u32) -> Result<()> {
        self.finish(end, digest)
    }

    /// Starts a chunk of a snapshot.
    pub fn begin_chunk(&mut self, chunk: Chunk) {
        self.start(self.reached, Form::Snapshot(chunk));
        self.is_barrier = true;
    }

    /// Bytes of the chunk at hand.
    pub fn chunk_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Ends a chunk.
    pub fn end_chunk(&mut self) -> Result<()> {
        self.finish(self.reached, 0)
    }

    /// Whether anything of the table of that name is told.
    pub fn tells(&self, name: &str) -> bool {
        !is_own(name) && self.filter.rows_pass("", name)
    }

    /// The definition key under which rows of `table` are written.
    pub fn key_of(&self, table: &Table) -> u64 {
        crate::event::table::table_key("", &table.name)
    }

    fn start(&mut self, txid: Coordinate, form: Form) {
        self.txid = txid;
        self.form = form;
        self.is_begun = false;
        self.is_barrier = self.is_first;
        self.statements = 0;
        self.payload.clear();
        self.keys.clear();
        self.touched.clear();
        self.origins.clear();
        self.open = None;
    }

    fn write_begin(&mut self) -> Result<()> {
        if self.progress_from.is_some() && !matches!(self.form, Form::Snapshot(_)) {
            self.flush()?;
        }
        let mut begin = Begin {
            prev: self.reached,
            incarnation: self.place.incarnation(),
            time_us: self.time_us,
            origins: std::mem::take(&mut self.origins),
            ..Begin::default()
        };
        match &self.form {
            Form::Log => {}
            Form::Merged => begin.flags |= begin_flags::MERGED,
            Form::Snapshot(chunk) => {
                begin.flags |= begin_flags::SNAPSHOT;
                begin.chunk = Some(chunk.clone());
            }
        }
        begin.window_start = match &mut self.windows {
            Some(windows) if !self.is_barrier => {
                self.keys.sort_unstable();
                self.keys.dedup();
                windows.window(self.txid, &self.keys)
            }
            Some(windows) => {
                windows.barrier(self.txid);
                self.last_txid
            }
            None => self.last_txid,
        };
        if self.is_barrier {
            begin.flags |= begin_flags::BARRIER;
        }
        self.writer.begin(self.txid, &begin);
        self.is_begun = true;
        Ok(())
    }

    fn close_rows(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            set_row_count(&mut self.payload, open.count_at, open.rows);
            close_record(&mut self.payload, open.record_at)?;
        }
        Ok(())
    }

    /// After something was added: a transaction that has become too long to hold goes out.
    fn relieve(&mut self) -> Result<()> {
        let limit = if self.is_begun { DRAIN_BYTES as u64 } else { TRANSACTION_ALONE_ABOVE_BYTES };
        if self.payload.len() as u64 <= limit {
            return Ok(());
        }
        self.close_rows()?;
        if !self.is_begun {
            self.is_barrier = true;
            self.write_begin()?;
        }
        write_payload(&mut self.writer, &self.payload);
        self.payload.clear();
        if self.writer.len() > DRAIN_BYTES {
            self.drain_all()?;
        }
        Ok(())
    }

    fn statement_record(&mut self, kind: RecordKind, statement: &Statement<'_>) -> Result<()> {
        self.close_rows()?;
        self.is_barrier = true;
        self.statements += 1;
        let at = open_record(&mut self.payload, kind);
        statement.encode(&mut self.payload);
        close_record(&mut self.payload, at)?;
        self.relieve()
    }

    /// A DDL record.
    pub fn ddl_text(&mut self, what: &str, name: &str, sql: &str) -> Result<()> {
        let statement = Statement {
            sql: Cow::Borrowed(sql.as_bytes()),
            ddl: Cow::Borrowed(what),
            tables: vec![(String::new(), name.to_owned())],
            ..Statement::default()
        };
        self.statement_record(RecordKind::Ddl, &statement)
    }

    /// A DDL record that makes a virtual table's entry.
    pub fn declare_virtual(&mut self, name: &str, sql: &str) -> Result<()> {
        self.ddl_text("create virtual table", name, &virtual_sql(name, Some(sql)))
    }

    /// A statement record that sets an AUTOINCREMENT counter.
    pub fn sequence_text(&mut self, table: &str, value: Option<i64>) -> Result<()> {
        let name = text_literal(table);
        let mut sql = format!("DELETE FROM sqlite_sequence WHERE name = {name};");
        if let Some(value) = value {
            sql.push_str(&format!(" INSERT INTO sqlite_sequence(name, seq) VALUES ({name}, {value});"));
        }
        let statement = Statement { sql: Cow::Owned(sql.into_bytes()), ..Statement::default() };
        self.statement_record(RecordKind::Statement, &statement)
    }

    fn finish(&mut self, end: Coordinate, digest: u32) -> Result<()> {
        self.close_rows()?;
        let is_chunk = matches!(self.form, Form::Snapshot(_));
        if !self.is_begun && self.payload.is_empty() && !is_chunk {
            self.pass_to(end);
            return Ok(());
        }
        if !self.is_begun {
            self.write_begin()?;
        }
        write_payload(&mut self.writer, &self.payload);
        self.payload.clear();
        let mut commit = Commit {
            end,
            incarnation: self.place.incarnation(),
            source_digest: digest,
            time_us: self.time_us,
            statements: self.statements,
            ..Commit::default()
        };
        for name in &self.touched {
            if let Some(plan) = self.plans.get_mut(name) {
                commit.tables.push(std::mem::take(&mut plan.count));
            }
        }
        self.writer.commit(Kind::Commit, &mut commit);
        self.written.0 += 1;
        if !is_chunk {
            self.reached = end;
            self.last_txid = self.txid;
            self.is_first = false;
        }
        if self.writer.len() > DRAIN_BYTES {
            self.drain_all()?;
        }
        Ok(())
    }

    /// Makes the plan of `table` current; writes its definition if the stream has another or none.
    fn plan_for(&mut self, table: &Arc<Table>) {
        if self.plans.get(&self.current).is_some_and(|plan| Arc::ptr_eq(&plan.table, table)) {
            return;
        }
        self.current.clone_from(&table.name);
        match self.plans.get_mut(&table.name) {
            Some(plan) if Arc::ptr_eq(&plan.table, table) => {}
            Some(plan) if plan.table.is_same_definition(table) => plan.table = Arc::clone(table),
            _ => {
                let plan = Plan::new(table);
                if table.rowid_name.is_none() && !table.without_rowid && table.rowid_alias.is_none() {
                    self.notes.push(format!(
                        "table {}: its columns shadow rowid, _rowid_ and oid, so its rows are known only by all their values",
                        table.name
                    ));
                }
                self.scratch.clear();
                plan.definition.encode(&mut self.scratch);
                self.writer.definition(plan.key, &self.scratch);
                self.plans.insert(table.name.clone(), plan);
            }
        }
    }

    fn put_row(&mut self, change: &Change<'_>) -> Result<()> {
        self.plan_for(change.table);
        let op = match change.op {
            Op::Insert => RowsOp::Insert,
            Op::Update => RowsOp::Update,
            Op::Delete => RowsOp::Delete,
        };
        let Some(plan) = self.plans.get_mut(&self.current) else { return Ok(()) };
        if plan.count.inserts + plan.count.updates + plan.count.deletes == 0 {
            plan.count.key = plan.key;
            self.touched.push(self.current.clone());
        }
        match op {
            RowsOp::Insert => plan.count.inserts += 1,
            RowsOp::Update => plan.count.updates += 1,
            RowsOp::Delete => plan.count.deletes += 1,
        }
        let fits = self.open.as_ref().is_some_and(|open| {
            open.key == plan.key && open.op == op && self.payload.len() - open.record_at < RECORD_BYTES
        });
        if !fits {
            if let Some(open) = self.open.take() {
                set_row_count(&mut self.payload, open.count_at, open.rows);
                close_record(&mut self.payload, open.record_at)?;
            }
            let record_at = open_record(&mut self.payload, op.record_kind());
            let head = RowsHead {
                key: plan.key,
                time_s: 0,
                columns: plan.definition.columns.len(),
                before: &plan.set,
                after: &plan.set,
                unchanged: &[],
                diff: &[],
            };
            let count_at = head.encode(op, &mut self.payload);
            self.open = Some(OpenRows { key: plan.key, op, record_at, count_at, rows: 0 });
        }
        for row in [&change.before, &change.after].into_iter().flatten() {
            put_image(plan, row, &mut self.payload, &mut self.scratch);
            if self.windows.is_some() && !self.is_begun {
                match &plan.keys {
                    Some(keys) => add_keys(keys, row, plan.table.encoding, &mut self.scratch, &mut self.keys),
                    None => self.is_barrier = true,
                }
            }
        }
        if let Some(open) = &mut self.open {
            open.rows += 1;
        }
        self.written.1 += 1;
        self.relieve()
    }
}

impl Encoder {
    fn note_origins(&mut self, table: &Table, row: &Row<'_>) {
        let column = table.columns.iter().position(|column| column.name == "origins");
        if let Some(Value::Text(text)) = column.map(|column| row.get(column)) {
            record::to_utf8(text, table.encoding, &mut self.scratch);
            let text = String::from_utf8_lossy(&self.scratch);
            for origin in text.split_ascii_whitespace() {
                if !self.origins.iter().any(|known| known == origin) {
                    self.origins.push(origin.to_owned());
                }
            }
        }
    }
}

/// Whether a table is rlog's own: its appliers keep their state in the database that they write.
fn is_own(name: &str) -> bool {
    ["rlog_applied", "rlog_channel", "rlog_target"].contains(&name)
}

/// Whether rows of a table say that the transaction was written by an applier.
pub fn is_own_state(name: &str) -> bool {
    name == "rlog_applied"
}

impl Sink for Encoder {
    fn begin(&mut self, txn: &Txn) -> Result<()> {
        let txid = self.place.at(u64::from(txn.span.last));
        self.start(txid, Form::Log);
        Ok(())
    }

    fn wants(&mut self, table: &Table) -> bool {
        is_own_state(&table.name) || (!is_own(&table.name) && self.filter.rows_pass("", &table.name))
    }

    fn ddl(&mut self, ddl: &Ddl) -> Result<()> {
        let name = &ddl.name;
        if is_own(name) || !self.filter.statement_passes("", &[(String::new(), name.clone())]) {
            return Ok(());
        }
        let (what, sql) = match ddl.kind {
            DdlKind::DropTable => ("drop table", ddl.sql.clone()),
            DdlKind::AlterTable => ("alter table", ddl.sql.clone()),
            DdlKind::CreateTable => ("create table", ddl.sql.clone()),
            DdlKind::DropOther => ("drop", ddl.sql.clone()),
            DdlKind::CreateOther => ("create", ddl.sql.clone()),
            DdlKind::ForgetVirtual => ("drop virtual table", virtual_sql(name, None)),
            DdlKind::DeclareVirtual => ("create virtual table", virtual_sql(name, Some(&ddl.sql))),
        };
        self.ddl_text(what, name, &sql)
    }

    fn row(&mut self, change: &Change<'_>) -> Result<()> {
        if is_own_state(&change.table.name) {
            // What our own applier wrote here says where the transaction came from (rule 12); it is not data.
            if let (Op::Insert, Some(row)) = (change.op, &change.after) {
                self.note_origins(change.table, row);
            }
            return Ok(());
        }
        self.put_row(change)
    }

    fn sequence(&mut self, table: &str, value: Option<i64>) -> Result<()> {
        self.sequence_text(table, value)
    }

    fn commit(&mut self, txn: &Txn) -> Result<()> {
        // A coordinate behind a transaction is that of the next frame.
        let end = self.place.at(u64::from(txn.span.last) + 1);
        self.finish(end, digest_of(txn.span.checksum))
    }
}

/// Statements that make or unmake a virtual table's entry without running its module.
fn virtual_sql(name: &str, sql: Option<&str>) -> String {
    let quoted = text_literal(name);
    let edit = match sql {
        Some(sql) => format!(
            "INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) SELECT 'table', {quoted}, {quoted}, 0, {} \
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = {quoted})",
            text_literal(sql)
        ),
        None => format!("DELETE FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 AND name = {quoted}"),
    };
    format!("PRAGMA writable_schema=ON; {edit}; PRAGMA writable_schema=RESET;")
}

fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A CREATE statement that passes over an object that is there. SQLite stores its text without the addition.
pub fn if_not_exists(sql: &str) -> Cow<'_, str> {
    for head in ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ", "CREATE VIEW ", "CREATE TRIGGER "] {
        if let Some(rest) = sql.strip_prefix(head) {
            return Cow::Owned(format!("{head}IF NOT EXISTS {rest}"));
        }
    }
    Cow::Borrowed(sql)
}

impl Plan {
    fn new(table: &Arc<Table>) -> Plan {
        let mut definition = TableDefinition {
            table: table.name.clone(),
            family: "sqlite".into(),
            keys_known: true,
            names_known: true,
            create_sql: table.sql.clone(),
            foreign_keys: Some(!table.references.is_empty()),
            ..TableDefinition::default()
        };
        let mut columns = Vec::new();
        for (place, from) in table.columns.iter().enumerate() {
            let mut column = Column::new(&from.name, ColumnKind::Any);
            column.sql_type.clone_from(&from.declared);
            column.nullable = Some(!from.not_null && table.rowid_alias != Some(place));
            column.generated = from.generated != Generated::No;
            definition.columns.push(column);
            if from.generated != Generated::Virtual {
                columns.push(place);
            }
        }
        let part = |column: usize| KeyPart { column: column as u32, prefix: 0 };
        let hidden = table.rowid_name.filter(|_| table.rowid_alias.is_none());
        if let Some(name) = hidden {
            let mut column = Column::new(name, ColumnKind::Int { bytes: 8, sign: Sign::Signed });
            column.sql_type = "INTEGER".into();
            column.nullable = Some(false);
            column.invisible = true;
            definition.primary_key = vec![part(definition.columns.len())];
            definition.columns.push(column);
        } else if table.without_rowid || table.rowid_alias.is_some() {
            definition.primary_key = table.primary_key.iter().copied().map(part).collect();
        }
        for unique in &table.uniques {
            if let Some(columns) = &unique.columns {
                definition
                    .unique_keys
                    .push(Key { name: String::new(), parts: columns.iter().copied().map(part).collect() });
            }
        }
        let mut set = vec![0u8; definition.columns.len().div_ceil(8)];
        let with_rowid = hidden.map(|_| table.columns.len());
        for place in columns.iter().copied().chain(with_rowid) {
            if let Some(byte) = set.get_mut(place / 8) {
                *byte |= 1 << (place % 8);
            }
        }
        Plan {
            key: definition.key(),
            keys: keys_of(table),
            table: Arc::clone(table),
            definition,
            columns,
            has_rowid: hidden.is_some(),
            set,
            count: TableCount::default(),
        }
    }
}

/// Appends one image.
#[inline]
fn put_image(plan: &Plan, row: &Row<'_>, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    let values = plan.columns.len() + usize::from(plan.has_rowid);
    let nulls_at = out.len();
    out.resize(nulls_at + values.div_ceil(8), 0);
    for (nth, column) in plan.columns.iter().enumerate() {
        match row.get(*column) {
            Value::Null => {
                if let Some(byte) = out.get_mut(nulls_at + nth / 8) {
                    *byte |= 1 << (nth % 8);
                }
            }
            Value::Int(n) => {
                out.push(any_tag::INT);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Value::Real(r) => {
                out.push(any_tag::REAL);
                out.extend_from_slice(&r.to_le_bytes());
            }
            Value::Text(text) => {
                out.push(any_tag::TEXT);
                let text = match plan.table.encoding {
                    Encoding::Utf8 => text,
                    encoding => {
                        record::to_utf8(text, encoding, scratch);
                        &*scratch
                    }
                };
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text);
            }
            Value::Blob(bytes) => {
                out.push(any_tag::BLOB);
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
    if plan.has_rowid {
        out.extend_from_slice(&row.rowid.to_le_bytes());
    }
}
