//! `--snapshot`: the rows of a server's tables at one position of its log.
//!
//! ```text
//! lock (an instant) -> every session opens its view of the data -> position, GTIDs, tables, everything's definitions -> unlock
//! sessions in parallel: piece after piece (a table, or a range of its key) -> chunks
//! schema in front of the rows (chunk 0) and behind them (chunk 1): see [`super::objects`]
//! ```
//!
//! Writers wait only while FLUSH TABLES WITH READ LOCK holds: as long as it takes to open the sessions and to read the definitions. A lock
//! that has to wait itself is given up after [`LOCK_WAIT_S`] seconds, since writers queue behind it, and tried again. A prepared XA transaction is in
//! no view and in no log behind the position: while there is one, the snapshot waits (rule 13 of the design).
//!
//! Chunks come in no particular order; each names its table and its number in it. Tables of engines without transactions have no view: their rows are read
//! as they are, with a note.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::objects::{Make, Objects};
use super::server::{self, text};
use super::text::{identifier, put, select};
use crate::db::ddl::Schema;
use crate::db::mysql::client::take_cell;
use crate::db::mysql::{Client, Connector, Family};
use crate::error::{Class, Error, Result};
use crate::event::TableDefinition;
use crate::event::filter::TableFilter;
use crate::event::record::{RecordKind, close_record, open_record, write_payload};
use crate::event::rows::{RowsHead, RowsOp, set_row_count};
use crate::frame::envelope::TableCount;
use crate::frame::{Begin, Chunk, Commit, Coordinate, FrameWriter, Incarnation, Kind, Snapshot, begin_flags};

/// A chunk is closed when it has so many bytes.
const CHUNK_BYTES: usize = 512 << 10;
/// Rows of a piece of a table, about.
const PIECE_ROWS: u64 = 250_000;
/// Chunks that may wait to be written.
const CHUNKS_MAX: usize = 16;
/// Seconds that the lock may wait for statements that run.
const LOCK_WAIT_S: u32 = 5;
/// How often the lock is tried.
const LOCK_TRIES: u32 = 60;
/// How long a step waits for a chunk.
const STEP_WAIT: Duration = Duration::from_millis(100);
/// ER_LOCK_WAIT_TIMEOUT, and the one of MySQL's metadata locks in its newer form.
const LOCK_TIMEOUT: [u16; 2] = [1205, 3572];

/// A table that is read.
struct TableWork {
    definition: TableDefinition,
    key: u64,
    create: String,
    /// The column by whose ranges it is cut, if there is one.
    range_column: Option<String>,
    rows: u64,
    /// Number of the next chunk; held while one is handed over, so that they come in order.
    chunks: Mutex<u64>,
}

/// Part of a table.
struct Piece {
    table: usize,
    condition: String,
}

/// A snapshot at its position.
pub struct Rows {
    /// Log file and position.
    pub at: Coordinate,
    /// Name of that file.
    pub file: String,
    /// CREATE TABLE statements as of the position, with their databases.
    pub schema: Vec<(String, String)>,
    objects: Objects,
    uuid: [u8; 16],
    tables: Arc<Vec<TableWork>>,
    clients: Vec<Client>,
    notes: Vec<String>,
}

impl Rows {
    /// Opens `sessions` sessions at one position. Tables are those that the filter lets pass.
    pub fn open(connector: &Connector, filter: &TableFilter, sessions: usize) -> Result<Rows> {
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid).map_err(|e| Error::new(Class::Io, format!("no random numbers: {e}")))?;
        let mut notes = Vec::new();
        let mut main = connector.client()?;
        let mut clients = Vec::new();
        for _ in 0..sessions.max(1) {
            let mut client = connector.client()?;
            client.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
            client.run("SET SESSION net_write_timeout=3600, SESSION wait_timeout=28800")?;
            clients.push(client);
        }
        lock(&mut main, &mut notes)?;
        for client in &mut clients {
            client.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
        }
        let (file, at) = server::end_of_log(&mut main)?;
        let mut schema = Schema::new();
        schema.set_family(main.family == Family::MariaDb);
        let tables = tables(&mut main, filter, &mut schema, &mut notes)?;
        let known = tables.iter().map(|table| {
            let definition = &table.definition;
            (definition.database.as_str(), definition.table.as_str(), table.create.as_str())
        });
        let mut objects = Objects::look(&mut main, filter, known)?;
        notes.append(&mut objects.notes);
        main.run("UNLOCK TABLES")?;
        for client in &mut clients {
            // Strings as they are stored.
            client.run("SET character_set_results=NULL")?;
        }
        let creates = tables.iter().map(|table| (table.definition.database.clone(), table.create.clone())).collect();
        Ok(Rows { at, file, schema: creates, objects, uuid, tables: Arc::new(tables), clients, notes })
    }

    /// Starts to read. `at` is the end of the last transaction before the position, `incarnation` and `gtid_state` are the log's there; databases get the names that `filter` gives them.
    pub fn start(
        self,
        at: Coordinate,
        incarnation: Incarnation,
        gtid_state: String,
        filter: &TableFilter,
    ) -> Result<Reading> {
        let mark = Snapshot { uuid: self.uuid, at, incarnation, gtid_state, ..Snapshot::default() };
        let renamed: Vec<TableWork> = match Arc::try_unwrap(self.tables) {
            Ok(tables) => tables
                .into_iter()
                .map(|mut table| {
                    let database = filter.rewrite(&table.definition.database).to_owned();
                    table.definition.database = database;
                    table.key = table.definition.key();
                    table
                })
                .collect(),
            Err(_) => return Err(Error::new(Class::Bug, "the snapshot's tables are held elsewhere")),
        };
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        let shared = Arc::new(Shared::default());
        let reading = Reading {
            mark,
            tables: Arc::new(renamed),
            originals: self.schema,
            objects: self.objects,
            clients: self.clients,
            sender: Some(sender),
            chunks,
            shared,
            threads: Vec::new(),
            notes: self.notes,
            is_begun: false,
        };
        Ok(reading)
    }
}

/// Takes the lock, when nothing is prepared.
fn lock(client: &mut Client, notes: &mut Vec<String>) -> Result<()> {
    client.run(&format!("SET SESSION lock_wait_timeout={LOCK_WAIT_S}"))?;
    let mut tries = 0;
    let mut told = false;
    loop {
        match client.run("FLUSH TABLES WITH READ LOCK") {
            Ok(()) => {}
            Err(error) if LOCK_TIMEOUT.contains(&client.error_code) => {
                tries += 1;
                if tries >= LOCK_TRIES {
                    return Err(error
                        .with_class(Class::TryAgain)
                        .hint("a statement runs so long that no lock is to be had"));
                }
                continue;
            }
            Err(error) if client.error_code == 1227 => return Err(error.hint(server::privileges(client.family))),
            Err(error) => return Err(error),
        }
        let prepared = match client.query("XA RECOVER") {
            Ok(rows) => rows.len(),
            // MySQL shows them to those with XA_RECOVER_ADMIN only.
            Err(_) => 0,
        };
        if prepared == 0 {
            return Ok(());
        }
        client.run("UNLOCK TABLES")?;
        if !told {
            notes.push(format!("{prepared} prepared XA transactions: the snapshot waits until they are decided"));
            told = true;
        }
        tries += 1;
        if tries >= LOCK_TRIES {
            return Err(Error::new(Class::TryAgain, format!("{prepared} prepared XA transactions are undecided"))
                .in_file(client.name().to_owned())
                .hint("XA RECOVER lists them; XA COMMIT or XA ROLLBACK decides"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What there is to read, largest first.
fn tables(
    client: &mut Client,
    filter: &TableFilter,
    schema: &mut Schema,
    notes: &mut Vec<String>,
) -> Result<Vec<TableWork>> {
    let rows = client.query(
        "SELECT t.table_schema, t.table_name, t.engine, t.table_rows, \
         (SELECT e.transactions FROM information_schema.engines e WHERE e.engine = t.engine) \
         FROM information_schema.tables t WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         AND t.table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
         ORDER BY t.data_length DESC",
    )?;
    let mut out = Vec::new();
    for row in rows {
        let (database, name) = (text(&row, 0), text(&row, 1));
        if name.starts_with("rlog_") || !filter.rows_pass(&database, &name) {
            continue;
        }
        if !text(&row, 4).eq_ignore_ascii_case("yes") {
            notes.push(format!(
                "{database}.{name} is of an engine without transactions ({}): its rows are of a little later than the snapshot",
                text(&row, 2)
            ));
        }
        let quoted = format!("{}.{}", identifier(&database), identifier(&name));
        let create = client.query(&format!("SHOW CREATE TABLE {quoted}"))?;
        let create = create.first().map(|row| text(row, 1)).unwrap_or_default();
        let effect = schema.apply(&database, create.as_bytes());
        let Some(known) = schema.lookup(&database, &name) else {
            let why = effect.note.unwrap_or_else(|| "its definition is not understood".into());
            return Err(Error::new(Class::Unavailable, format!("{database}.{name} cannot be read: {why}"))
                .in_file(client.name().to_owned())
                .hint(format!("leave it out: --ignore-tables '{database}.{name}'")));
        };
        let mut definition = known.definition.clone();
        definition.family = client.family.name().into();
        // What is selected is text.
        for column in &mut definition.columns {
            if column.kind == crate::event::table::ColumnKind::JsonBinary {
                column.kind = crate::event::table::ColumnKind::String {
                    form: crate::event::table::StringForm::Long,
                    bytes_max: u32::MAX,
                };
                column.charset = "utf8mb4".into();
            }
        }
        let range_column = match definition.primary_key.as_slice() {
            [part, ..] if part.prefix == 0 => definition
                .columns
                .get(part.column as usize)
                .filter(|column| matches!(column.kind, crate::event::table::ColumnKind::Int { .. }))
                .map(|column| identifier(&column.name)),
            _ => None,
        };
        let key = definition.key();
        let rows = text(&row, 3).parse().unwrap_or(0);
        out.push(TableWork { definition, key, create, range_column, rows, chunks: Mutex::new(0) });
    }
    Ok(out)
}

/// What the threads and the reader share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pieces: Mutex<VecDeque<Piece>>,
    rows: AtomicU64,
    /// Pieces left of each table, for progress by table.
    left: Vec<AtomicU64>,
}

enum Message {
    Chunk(Vec<u8>),
    /// A table is done.
    Done(usize),
    Failed(Error),
}

/// A snapshot being read.
pub struct Reading {
    mark: Snapshot,
    tables: Arc<Vec<TableWork>>,
    originals: Vec<(String, String)>,
    objects: Objects,
    clients: Vec<Client>,
    sender: Option<SyncSender<Message>>,
    chunks: Receiver<Message>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    notes: Vec<String>,
    is_begun: bool,
}

impl Reading {
    /// Appends what has come; `true`: the snapshot is whole.
    pub fn step(&mut self, out: &mut FrameWriter) -> Result<bool> {
        if !self.is_begun {
            self.is_begun = true;
            self.begin(out)?;
            return Ok(false);
        }
        loop {
            let message = match self.chunks.recv_timeout(STEP_WAIT) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    self.schema(1, &self.objects.after, out)?;
                    let mark = &self.mark;
                    out.frame(Kind::SnapshotEnd, |payload| mark.encode(payload));
                    return Ok(true);
                }
            };
            match message {
                Message::Chunk(frames) => {
                    out.buffer().extend_from_slice(&frames);
                    return Ok(false);
                }
                Message::Done(table) => {
                    if let Some(table) = self.tables.get(table) {
                        self.notes.push(format!("{}.{} is read", table.definition.database, table.definition.table));
                    }
                }
                Message::Failed(error) => return Err(error),
            }
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.shared.rows.load(Ordering::Relaxed)
    }

    /// Remarks since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Begin, definitions, the schema's chunk; then the threads.
    fn begin(&mut self, out: &mut FrameWriter) -> Result<()> {
        let mark = &self.mark;
        out.frame(Kind::SnapshotBegin, |payload| mark.encode(payload));
        let mut scratch = Vec::new();
        for table in self.tables.iter() {
            scratch.clear();
            table.definition.encode(&mut scratch);
            out.definition(table.key, &scratch);
        }
        self.schema(0, &self.objects.before, out)?;

        let mut pieces = VecDeque::new();
        let mut left = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            let conditions = match self.clients.first_mut() {
                Some(client) => conditions(client, &self.originals, index, table)?,
                None => vec![String::new()],
            };
            left.push(AtomicU64::new(conditions.len() as u64));
            pieces.extend(conditions.into_iter().map(|condition| Piece { table: index, condition }));
        }
        self.shared = Arc::new(Shared { pieces: Mutex::new(pieces), left, ..Shared::default() });
        let sender = self.sender.take();
        for client in self.clients.drain(..) {
            let Some(sender) = sender.clone() else { break };
            let mut worker = Worker {
                client,
                tables: Arc::clone(&self.tables),
                databases: self.originals.iter().map(|(database, _)| database.clone()).collect(),
                shared: Arc::clone(&self.shared),
                sender,
                frames: ChunkFrames { mark: self.mark.clone() },
            };
            let thread = std::thread::Builder::new()
                .name("snapshot".into())
                .spawn(move || worker.run())
                .map_err(|error| Error::io("a thread", error))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// A chunk of statements.
    fn schema(&self, number: u64, makes: &[Make], out: &mut FrameWriter) -> Result<()> {
        let mut payload = Vec::new();
        for make in makes {
            let at = open_record(&mut payload, RecordKind::Ddl);
            make.statement().encode(&mut payload);
            close_record(&mut payload, at)?;
        }
        let chunk = ChunkFrames { mark: self.mark.clone() };
        let place = Chunk { snapshot: self.mark.uuid, table: 0, number };
        chunk.write(out, place, &payload, makes.len() as u64, None);
        Ok(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.sender = None;
        while self.chunks.recv().is_ok() {}
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Where a table is cut: conditions that together are all of it.
fn conditions(
    client: &mut Client,
    originals: &[(String, String)],
    index: usize,
    table: &TableWork,
) -> Result<Vec<String>> {
    let pieces = table.rows / PIECE_ROWS;
    let Some(column) = table.range_column.as_ref().filter(|_| pieces > 1) else { return Ok(vec![String::new()]) };
    let database = originals.get(index).map_or("", |(database, _)| database);
    let name = format!("{}.{}", identifier(database), identifier(&table.definition.table));
    let rows = client.query(&format!("SELECT MIN({column}), MAX({column}) FROM {name}"))?;
    let bound = |index: usize| rows.first().and_then(|row| text(row, index).parse::<i128>().ok());
    let (Some(least), Some(most)) = (bound(0), bound(1)) else { return Ok(vec![String::new()]) };
    let pieces = i128::from(pieces.min(256));
    let width = ((most - least) / pieces).max(1);
    let mut out = Vec::new();
    let mut from = least;
    while from <= most {
        let to = from + width;
        let lower = if out.is_empty() { String::new() } else { format!("{column} >= {from}") };
        let upper = if to > most { String::new() } else { format!("{column} < {to}") };
        let and = if lower.is_empty() || upper.is_empty() { "" } else { " AND " };
        out.push(format!("{lower}{and}{upper}"));
        from = to;
    }
    Ok(out)
}

/// Writes chunks.
struct ChunkFrames {
    mark: Snapshot,
}

impl ChunkFrames {
    fn write(&self, out: &mut FrameWriter, chunk: Chunk, payload: &[u8], statements: u64, count: Option<TableCount>) {
        let begin = Begin {
            prev: self.mark.at,
            window_start: self.mark.at,
            incarnation: self.mark.incarnation,
            flags: begin_flags::SNAPSHOT | begin_flags::BARRIER,
            chunk: Some(chunk),
            ..Begin::default()
        };
        out.begin(self.mark.at, &begin);
        write_payload(out, payload);
        let mut commit = Commit {
            end: self.mark.at,
            incarnation: self.mark.incarnation,
            tables: count.into_iter().collect(),
            statements,
            ..Commit::default()
        };
        out.commit(Kind::Commit, &mut commit);
    }
}

/// One session and its thread.
struct Worker {
    client: Client,
    tables: Arc<Vec<TableWork>>,
    databases: Vec<String>,
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    frames: ChunkFrames,
}

impl Worker {
    fn run(&mut self) {
        loop {
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let piece = self.shared.pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(piece) = piece else { return };
            let done = self.piece(&piece);
            let is_last =
                self.shared.left.get(piece.table).is_some_and(|left| left.fetch_sub(1, Ordering::Relaxed) == 1);
            let message = match done {
                Ok(()) if is_last => Message::Done(piece.table),
                Ok(()) => continue,
                Err(error) => Message::Failed(error),
            };
            if self.sender.send(message).is_err() {
                return;
            }
        }
    }

    fn piece(&mut self, piece: &Piece) -> Result<()> {
        let tables = Arc::clone(&self.tables);
        let Some(table) = tables.get(piece.table) else { return Ok(()) };
        let database = self.databases.get(piece.table).map_or("", String::as_str);
        let columns: Vec<String> = table.definition.columns.iter().map(select).collect();
        let mut sql = format!(
            "SELECT {} FROM {}.{}",
            columns.join(", "),
            identifier(database),
            identifier(&table.definition.table)
        );
        if !piece.condition.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&piece.condition);
        }
        let mut rows = ChunkRows::new(table, &self.frames, &self.sender, &self.shared);
        let done = self.client.rows(&sql, |row| rows.row(row));
        if let Err(error) = done {
            return Err(match self.client.error_code {
                // ER_TABLE_DEF_CHANGED, no such table.
                1412 | 1146 => {
                    error.with_class(Class::TryAgain).hint("a DDL statement came between: the same command starts over")
                }
                _ => error,
            });
        }
        rows.close()
    }
}

/// Rows on their way into chunks.
struct ChunkRows<'a> {
    table: &'a TableWork,
    frames: &'a ChunkFrames,
    sender: &'a SyncSender<Message>,
    shared: &'a Shared,
    set: Vec<u8>,
    payload: Vec<u8>,
    count_at: usize,
    rows: u32,
}

impl<'a> ChunkRows<'a> {
    fn new(table: &'a TableWork, frames: &'a ChunkFrames, sender: &'a SyncSender<Message>, shared: &'a Shared) -> Self {
        let columns = table.definition.columns.len();
        let mut set = vec![0; columns.div_ceil(8)];
        (0..columns).for_each(|index| set[index / 8] |= 1 << (index % 8));
        ChunkRows { table, frames, sender, shared, set, payload: Vec::new(), count_at: 0, rows: 0 }
    }

    #[inline]
    fn row(&mut self, mut cells: &[u8]) -> Result<()> {
        if self.payload.is_empty() {
            open_record(&mut self.payload, RecordKind::Insert);
            let head = RowsHead {
                key: self.table.key,
                time_s: 0,
                columns: self.table.definition.columns.len(),
                before: &[],
                after: &self.set,
                unchanged: &[],
                diff: &[],
            };
            self.count_at = head.encode(RowsOp::Insert, &mut self.payload);
        }
        let nulls_at = self.payload.len();
        self.payload.resize(nulls_at + self.set.len(), 0);
        for (index, column) in self.table.definition.columns.iter().enumerate() {
            let wrong = |what: &str| {
                Error::damage(format!(
                    "column {} of {}.{} {what}",
                    column.name, self.table.definition.database, self.table.definition.table
                ))
            };
            match take_cell(&mut cells).ok_or_else(|| wrong("is missing in a row"))? {
                None => {
                    if let Some(byte) = self.payload.get_mut(nulls_at + index / 8) {
                        *byte |= 1 << (index % 8);
                    }
                }
                Some(cell) => {
                    put(column.kind, cell, &mut self.payload)
                        .ok_or_else(|| wrong("has a value that is not of its type"))?;
                }
            }
        }
        self.rows += 1;
        if self.payload.len() >= CHUNK_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        set_row_count(&mut self.payload, self.count_at, self.rows);
        close_record(&mut self.payload, 0)?;
        let mut number = self.table.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = Chunk { snapshot: self.frames.mark.uuid, table: self.table.key, number: *number };
        *number += 1;
        let count = TableCount { key: self.table.key, inserts: u64::from(self.rows), ..TableCount::default() };
        let mut writer = FrameWriter::new();
        self.frames.write(&mut writer, chunk, &self.payload, 0, Some(count));
        self.shared.rows.fetch_add(u64::from(self.rows), Ordering::Relaxed);
        self.payload.clear();
        self.rows = 0;
        if self.shared.stop.load(Ordering::Relaxed) {
            return Err(Error::new(Class::TryAgain, "the snapshot was stopped"));
        }
        let frames = std::mem::take(writer.buffer());
        self.sender.send(Message::Chunk(frames)).map_err(|_| Error::new(Class::TryAgain, "nobody reads any more"))
    }
}
