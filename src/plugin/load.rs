//! A listener in a shared object, behind the C interface.
//!
//! Nothing that a plug-in passes is trusted further than C makes unavoidable: versions and sizes are looked at before anything else is, pointers
//! for NULL, text for UTF-8, values for what the column can hold. Each function of the host catches panics of its own.
//!
//! Memory: events, columns and values live on this side's stack and in [`Call`] until the plug-in's function returns.
//! Threads: the table of listeners is replaced as a whole, so that a function may register and unregister while it, or another thread, is being
//! called. The plug-in's `stop` is called when no thread can call it any more, since [`Plugin`] is being dropped then.
#![allow(unsafe_code, reason = "the C interface; every block says why it is sound")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use libloading::Library;

use super::abi;
use super::listener::{
    Changes, Channel, Event, EventKind, Listener, Refusal, RowEvent, SetError, Side, Statement, Transaction,
};
use crate::error::{Class, Error, Result};
use crate::event::{ColumnKind, Image, RecordKind, TableDefinition, Value, text};

/// How important a plug-in's message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For people who want to know.
    Note,
    /// For all.
    Error,
}

/// Where messages of plug-ins go.
pub type Log = Box<dyn Fn(Level, &str) + Send + Sync>;

/// A loaded plug-in.
pub struct Plugin {
    /// `plug-in NAME`.
    name: String,
    shared: Box<Shared>,
    state: *mut c_void,
    stop: Option<unsafe extern "C" fn(*mut c_void)>,
    /// Last, so that it is unloaded last.
    _library: Library,
}

// SAFETY: the header says that a plug-in's functions are called from any thread, at once unless it is SERIAL; `state` is only ever given back to `stop`.
unsafe impl Send for Plugin {}
// SAFETY: as above; what is shared between threads is behind locks and atomics.
unsafe impl Sync for Plugin {}

/// What `rlog_plugin *` points to.
struct Shared {
    name: String,
    /// Unlike that of every other plug-in of this process.
    id: u64,
    table: RwLock<Arc<[Entry]>>,
    /// Raised when the table was replaced.
    version: AtomicU64,
    /// Bits of the kinds that somebody in the table wants.
    wanted: AtomicU32,
    next: AtomicU64,
    /// Held during calls of a plug-in that is not made for threads.
    serial: Option<Mutex<()>>,
    log: Log,
}

thread_local! {
    /// The tables as this thread has seen them last: rows are many, and a lock for each would be most of what a call costs.
    static TABLES: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of plug-ins.
static PLUGINS: AtomicU64 = AtomicU64::new(0);

struct Held {
    plugin: u64,
    version: u64,
    table: Arc<[Entry]>,
}

#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    kind: u32,
    function: abi::Listener,
    user: *mut c_void,
}

/// What `rlog_call *` points to.
#[derive(Default)]
struct Call<'a> {
    error: Option<String>,
    row: Option<&'a RowEvent<'a>>,
    changes: Option<&'a mut Changes<'a>>,
    columns: Vec<abi::Column>,
    before: Vec<abi::Value>,
    after: Vec<abi::Value>,
}

static HOST: abi::Host = abi::Host {
    struct_size: size_of::<abi::Host>(),
    abi_version: abi::ABI,
    reserved: 0,
    allocate,
    release,
    listen,
    unlisten,
    log,
    set_error,
    column,
    values,
    set_value,
    text: value_text,
};

impl Plugin {
    /// Loads the shared object at `path` and starts it with `arguments`.
    pub fn load(path: &Path, arguments: &str, log: Log) -> Result<Plugin> {
        let shown = path.display().to_string();
        // Without a slash in it, the name would be looked for in the system's folders.
        let path = path.canonicalize().map_err(|error| Error::io(&shown, error))?;
        let arguments = CString::new(arguments)
            .map_err(|_| Error::usage(format!("the arguments of plug-in {shown} have a zero byte")))?;
        // SAFETY: loading runs the object's own initialisers, as the person who named it has asked for.
        let library = unsafe { Library::new(&path) }.map_err(|error| {
            Error::config(format!("this is no plug-in that can be loaded here: {}", words(&error))).in_file(&shown)
        })?;
        let not_one = |what: &str| {
            Error::config(format!("this is no rlog plug-in: {what}"))
                .in_file(&shown)
                .hint("a plug-in exports what include/rlog_plugin.h says; see rlog-plugin(3)")
        };
        // SAFETY: a symbol of this name is a function of this type; no other has a reason to be called so.
        let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY.as_bytes()) }
            .map_err(|_| not_one(&format!("it has no {}()", abi::ENTRY)))?;
        // SAFETY: as above.
        let descriptor = unsafe { entry() };
        if descriptor.is_null() {
            return Err(not_one(&format!("{}() gives no descriptor", abi::ENTRY)));
        }
        // SAFETY: size and version stand first in the descriptors of all versions.
        let (size, version) =
            unsafe { (ptr::read_unaligned(&raw const (*descriptor).struct_size), (*descriptor).abi_version) };
        if version > abi::ABI {
            return Err(Error::new(
                Class::Version,
                format!(
                    "this plug-in is for version {version} of the plug-in interface, and this rlog has version {}",
                    abi::ABI
                ),
            )
            .in_file(&shown)
            .hint("use a newer rlog, or build the plug-in with this one's rlog_plugin.h"));
        }
        if version == 0 || size < size_of::<abi::Descriptor>() {
            return Err(Error::new(
                Class::Version,
                format!(
                    "this plug-in's descriptor has version {version} and {size} bytes; version {} has {} bytes",
                    abi::ABI,
                    size_of::<abi::Descriptor>()
                ),
            )
            .in_file(&shown)
            .hint("build the plug-in with this rlog's rlog_plugin.h"));
        }
        // SAFETY: it is not NULL, and as large as this version's; it lives as long as the library, which is kept.
        let descriptor = unsafe { &*descriptor };
        let start = descriptor.start.ok_or_else(|| not_one("its descriptor has no start()"))?;
        // SAFETY: NULL is looked for; else it is a string of the library's.
        let name = unsafe { c_text(descriptor.name) }
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| path.file_stem().map_or(shown.clone(), |stem| stem.to_string_lossy().into_owned()));
        let shared = Box::new(Shared {
            name: name.clone(),
            id: PLUGINS.fetch_add(1, Ordering::Relaxed),
            table: RwLock::new(Arc::default()),
            version: AtomicU64::new(0),
            wanted: AtomicU32::new(0),
            next: AtomicU64::new(1),
            serial: (descriptor.flags & abi::SERIAL != 0).then(Mutex::default),
            log,
        });
        let mut state = ptr::null_mut();
        let mut call = Call::default();
        // SAFETY: the descriptor's contract; all pointers live until it returns, host and plug-in until `stop` has returned.
        let answer = unsafe {
            start(&raw const HOST, shared.handle(), (&raw mut call).cast(), arguments.as_ptr(), &raw mut state)
        };
        if answer != abi::OK {
            let why = call.error.unwrap_or_else(|| "it does not say why".to_owned());
            return Err(Error::config(format!("plug-in {name} does not start: {why}")).in_file(&shown));
        }
        Ok(Plugin { name: format!("plug-in {name}"), shared, state, stop: descriptor.stop, _library: library })
    }

    /// Calls every function that is registered for this kind, with `event` and what the host's functions need.
    fn call(&self, kind: EventKind, event: &abi::Event, call: &mut Call<'_>) -> Result<(), Refusal> {
        let _alone = self.shared.serial.as_ref().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.with_table(|table| {
            for entry in table.iter().filter(|entry| entry.kind == kind as u32) {
                // SAFETY: the plug-in has registered it as a function of this type; event and call live until it returns.
                let answer = unsafe { (entry.function)(ptr::from_mut(call).cast(), event, entry.user) };
                let text = call.error.take();
                match answer {
                    abi::OK => {}
                    abi::RETRY => return Err(Refusal::again(text.unwrap_or_default())),
                    _ => return Err(Refusal::veto(text.unwrap_or_default())),
                }
            }
            Ok(())
        })
    }
}

/// The loader's message is on two lines, with the file's name in it.
fn words(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    source.replace('\n', " ")
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop {
            // SAFETY: the descriptor's contract; nothing else of the plug-in is called after this.
            unsafe { stop(self.state) };
        }
    }
}

impl Shared {
    fn handle(&self) -> *mut abi::Plugin {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Calls with the table as it is now. It may be replaced meanwhile.
    fn with_table<T>(&self, call: impl FnOnce(&[Entry]) -> T) -> T {
        let version = self.version.load(Ordering::Acquire);
        let taken = TABLES.with_borrow_mut(|tables| {
            let at = tables.iter().position(|held| held.plugin == self.id)?;
            Some(tables.swap_remove(at))
        });
        let held = match taken {
            Some(held) if held.version == version => held,
            _ => {
                let table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
                Held { plugin: self.id, version, table }
            }
        };
        let out = call(&held.table);
        TABLES.with_borrow_mut(|tables| tables.push(held));
        out
    }

    /// Replaces the table; those who walk the old one go on with it.
    fn replace<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut entries = table.to_vec();
        let out = change(&mut entries);
        self.wanted.store(entries.iter().fold(0, |bits, entry| bits | 1 << entry.kind), Ordering::Release);
        *table = entries.into();
        // Behind the table: who sees the new version sees the new table, too.
        self.version.fetch_add(1, Ordering::Release);
        out
    }
}

impl Listener for Plugin {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, kind: EventKind) -> bool {
        self.shared.wanted.load(Ordering::Acquire) & kind.bit() != 0
    }

    fn hear(&self, event: &Event<'_>) -> Result<(), Refusal> {
        let kind = event.kind();
        let mut call = Call::default();
        let mut out = abi::Event { ..empty(kind) };
        match event {
            Event::ChannelStart(channel) | Event::ChannelStop(channel, _) => {
                let c = c_channel(channel);
                let error = match event {
                    Event::ChannelStop(_, Some(error)) => error.to_string(),
                    _ => String::new(),
                };
                if let Event::ChannelStop(_, Some(error)) = event {
                    out.status = error.class().exit_status().into();
                }
                (out.channel, out.error) = (&raw const c, c_str(&error));
                self.call(kind, &out, &mut call)
            }
            Event::Error(error) => {
                let message = error.to_string();
                (out.status, out.error) = (error.class().exit_status().into(), c_str(&message));
                self.call(kind, &out, &mut call)
            }
            Event::Begin(transaction) | Event::End(transaction) | Event::Commit(transaction) => {
                let c = c_transaction(transaction);
                out.transaction = &raw const c;
                self.call(kind, &out, &mut call)
            }
            Event::Rollback(transaction, why) => {
                let c = c_transaction(transaction);
                (out.transaction, out.error) = (&raw const c, c_str(why));
                self.call(kind, &out, &mut call)
            }
            Event::StatementStart(transaction, statement)
            | Event::StatementFinish(transaction, statement)
            | Event::Ddl(transaction, statement) => {
                let (transaction, statement) = (c_transaction(transaction), c_statement(statement));
                (out.transaction, out.statement) = (&raw const transaction, &raw const statement);
                self.call(kind, &out, &mut call)
            }
            Event::RowBefore(transaction, statement, row) | Event::RowAfter(transaction, statement, row) => {
                call.row = Some(row);
                self.row(kind, transaction, statement, row, &mut call)
            }
        }
    }

    fn change(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        row: &RowEvent<'_>,
        changes: &mut Changes<'_>,
    ) -> Result<(), Refusal> {
        let mut call = Call { row: Some(row), ..Call::default() };
        // SAFETY: the call ends before `changes` does; only its lifetime's name is made shorter, which a mutable borrow does not allow by itself.
        call.changes = Some(unsafe { &mut *ptr::from_mut(changes).cast() });
        self.row(EventKind::RowBefore, transaction, statement, row, &mut call)
    }
}

impl Plugin {
    fn row(
        &self,
        kind: EventKind,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        row: &RowEvent<'_>,
        call: &mut Call<'_>,
    ) -> Result<(), Refusal> {
        let (transaction, statement) = (c_transaction(transaction), c_statement(statement));
        let row = abi::Row {
            struct_size: size_of::<abi::Row>(),
            operation: operation(row.rows.op.record_kind()),
            images: if row.rows.op.has_before() { abi::IMAGE_BEFORE } else { 0 }
                | if row.rows.op.has_after() { abi::IMAGE_AFTER } else { 0 },
            ordinal: row.ordinal,
            columns: row.table.1.columns.len(),
        };
        let event = abi::Event {
            transaction: &raw const transaction,
            statement: &raw const statement,
            row: &raw const row,
            ..empty(kind)
        };
        self.call(kind, &event, call)
    }
}

fn empty(kind: EventKind) -> abi::Event {
    abi::Event {
        struct_size: size_of::<abi::Event>(),
        kind: kind as u32,
        status: 0,
        channel: ptr::null(),
        transaction: ptr::null(),
        statement: ptr::null(),
        row: ptr::null(),
        error: c_str(""),
    }
}

fn c_bytes(bytes: &[u8]) -> abi::Text {
    abi::Text { data: bytes.as_ptr().cast(), length: bytes.len() }
}

fn c_str(text: &str) -> abi::Text {
    c_bytes(text.as_bytes())
}

fn c_channel(channel: &Channel) -> abi::Channel {
    abi::Channel {
        struct_size: size_of::<abi::Channel>(),
        tool: c_str(channel.tool),
        name: c_str(&channel.name),
        position: c_str(&channel.position),
    }
}

fn c_transaction(transaction: &Transaction<'_>) -> abi::Transaction {
    let prepared = if transaction.prepared { abi::TRANSACTION_PREPARED } else { 0 };
    abi::Transaction {
        struct_size: size_of::<abi::Transaction>(),
        txid: transaction.txid.0,
        incarnation: transaction.incarnation.0,
        position: c_str(&transaction.position),
        gtid: c_str(&transaction.begin.gtid),
        time_us: transaction.time_us(),
        server_id: transaction.begin.server_id,
        thread: transaction.begin.thread,
        flags: transaction.begin.flags & 0xff | prepared,
    }
}

fn operation(kind: RecordKind) -> u32 {
    match kind {
        RecordKind::Insert => 1,
        RecordKind::Update => 2,
        RecordKind::Delete => 3,
        RecordKind::Ddl => 5,
        RecordKind::Truncate => 6,
        RecordKind::LoadBlock => 7,
        RecordKind::XaDecision => 8,
        _ => 4,
    }
}

fn c_statement(statement: &Statement<'_>) -> abi::Statement {
    let inner = statement.statement;
    let (database, table) = match (statement.table, inner) {
        (Some((_, table)), _) => (table.database.as_str(), table.table.as_str()),
        (None, Some(inner)) => (&*inner.database, ""),
        (None, None) => ("", ""),
    };
    abi::Statement {
        struct_size: size_of::<abi::Statement>(),
        operation: operation(statement.kind),
        reserved: 0,
        database: c_str(database),
        table: c_str(table),
        sql: c_bytes(inner.map_or(&[], |inner| &inner.sql)),
        ddl: c_str(inner.map_or("", |inner| &inner.ddl)),
        rows: statement.rows.map_or(0, |rows| rows.count.into()),
        ordinal: statement.ordinal,
        table_id: statement.table.map_or(0, |(id, _)| id),
    }
}

fn c_columns(table: &TableDefinition) -> Vec<abi::Column> {
    let columns = table.columns.iter().enumerate().map(|(index, column)| {
        let flag = |there: bool, bit: u32| if there { bit } else { 0 };
        abi::Column {
            struct_size: size_of::<abi::Column>(),
            name: c_str(&column.name),
            sql_type: c_str(&column.sql_type),
            charset: c_str(&column.charset),
            flags: flag(table.primary_key.iter().any(|part| part.column as usize == index), abi::COLUMN_KEY)
                | flag(column.is_binary() == Some(true), abi::COLUMN_BINARY)
                | flag(column.generated, abi::COLUMN_GENERATED),
            reserved: 0,
        }
    });
    columns.collect()
}

fn c_value(value: Value<'_>) -> abi::Value {
    let base = abi::Value { kind: 0, detail: 0, number: abi::Number { u: 0 }, data: b"".as_ptr(), length: 0 };
    let signed = |kind, i| abi::Value { kind, number: abi::Number { i }, ..base };
    let unsigned = |kind, u| abi::Value { kind, number: abi::Number { u }, ..base };
    let real = |kind, d| abi::Value { kind, number: abi::Number { d }, ..base };
    let bytes = |kind, bytes: &[u8]| abi::Value { kind, data: bytes.as_ptr(), length: bytes.len(), ..base };
    match value {
        Value::Absent => unsigned(abi::ABSENT, 0),
        Value::Unchanged => unsigned(abi::UNCHANGED, 0),
        Value::Null => unsigned(abi::NULL, 0),
        Value::Int(number) => signed(abi::INT, number),
        Value::UInt(number) => unsigned(abi::UINT, number),
        Value::Float(number) => real(abi::FLOAT, number.into()),
        Value::Double(number) => real(abi::DOUBLE, number),
        Value::Decimal { packed, precision, scale } => {
            abi::Value { detail: u32::from(precision) << 8 | u32::from(scale), ..bytes(abi::DECIMAL, packed) }
        }
        Value::Bit { bytes: bits, bits: count } => abi::Value { detail: count.into(), ..bytes(abi::BIT, bits) },
        Value::Year(year) => unsigned(abi::YEAR, year.into()),
        Value::Date(packed) => unsigned(abi::DATE, packed.into()),
        Value::Time { us, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::TIME, us) },
        Value::DateTime { packed, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::DATETIME, packed) },
        Value::Timestamp { us, fsp } => abi::Value { detail: fsp.into(), ..signed(abi::TIMESTAMP, us) },
        Value::String(text) => bytes(abi::STRING, text),
        Value::Enum(member) => unsigned(abi::ENUM, member.into()),
        Value::Set(members) => unsigned(abi::SET, members),
        Value::Json(json) => bytes(abi::JSON, json),
        Value::JsonDiff(diff) => bytes(abi::JSON_DIFF, diff),
        Value::Geometry(geometry) => bytes(abi::GEOMETRY, geometry),
        Value::Vector(vector) => bytes(abi::VECTOR, vector),
        Value::Text(text) => bytes(abi::TEXT, text),
        Value::Blob(blob) => bytes(abi::BLOB, blob),
    }
}

/// A value as the plug-in gives it. `kind` is the column's, for what the C form does not repeat.
///
/// # Safety
/// `data` points to `length` bytes unless it is NULL, and they live for `'a`.
unsafe fn value_of<'a>(value: &abi::Value, kind: ColumnKind) -> Option<Value<'a>> {
    let bytes = match (value.data.is_null(), value.length) {
        (_, 0) => &[][..],
        (true, _) => return None,
        // SAFETY: the caller's promise.
        (false, length) => unsafe { std::slice::from_raw_parts(value.data, length) },
    };
    // SAFETY: all three members are numbers of 8 bytes in which every pattern is valid.
    let (i, u, d) = unsafe { (value.number.i, value.number.u, value.number.d) };
    let digits = || u8::try_from(value.detail).unwrap_or(0);
    Some(match value.kind {
        abi::NULL => Value::Null,
        abi::INT => Value::Int(i),
        abi::UINT => Value::UInt(u),
        abi::FLOAT => Value::Float(d as f32),
        abi::DOUBLE => Value::Double(d),
        abi::DECIMAL => {
            Value::Decimal { packed: bytes, precision: (value.detail >> 8) as u8, scale: value.detail as u8 }
        }
        abi::BIT => match kind {
            ColumnKind::Bit { bits } => Value::Bit { bytes, bits },
            _ => return None,
        },
        abi::YEAR => Value::Year(u16::try_from(u).ok()?),
        abi::DATE => Value::Date(u32::try_from(u).ok()?),
        abi::TIME => Value::Time { us: i, fsp: digits() },
        abi::DATETIME => Value::DateTime { packed: i, fsp: digits() },
        abi::TIMESTAMP => Value::Timestamp { us: i, fsp: digits() },
        abi::STRING => Value::String(bytes),
        abi::ENUM => Value::Enum(u16::try_from(u).ok()?),
        abi::SET => Value::Set(u),
        abi::JSON => Value::Json(bytes),
        abi::JSON_DIFF => Value::JsonDiff(bytes),
        abi::GEOMETRY => Value::Geometry(bytes),
        abi::VECTOR => Value::Vector(bytes),
        abi::TEXT => Value::Text(bytes),
        abi::BLOB => Value::Blob(bytes),
        _ => return None,
    })
}

/// A string of the plug-in's; `None` for NULL.
///
/// # Safety
/// Not NULL means that it ends with a zero byte.
unsafe fn c_text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Text with its length; NULL is empty.
///
/// # Safety
/// Not NULL means that there are `length` bytes.
unsafe fn counted_text(text: *const c_char, length: usize) -> String {
    if text.is_null() || length == 0 {
        return String::new();
    }
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.cast(), length) }).into_owned()
}

/// No panic of the host's functions reaches the plug-in.
fn guarded<T>(instead: T, call: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(instead)
}

/// The call, if there is one.
///
/// # Safety
/// It was given to the plug-in by [`Plugin::call`] or [`Plugin::load`], which has not returned.
unsafe fn call_of<'a>(call: *mut abi::Call) -> Option<&'a mut Call<'a>> {
    // SAFETY: the caller's promise; the plug-in may use it only on its thread, and only one function of the host is at work there.
    unsafe { call.cast::<Call<'a>>().as_mut() }
}

/// As the header says.
///
/// # Safety
/// None is needed.
unsafe extern "C" fn allocate(bytes: usize) -> *mut c_void {
    // SAFETY: malloc takes any size.
    unsafe { libc::malloc(bytes.max(1)) }
}

/// As the header says.
///
/// # Safety
/// `memory` is NULL or comes from [`allocate`].
unsafe extern "C" fn release(memory: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { libc::free(memory) }
}

/// As the header says.
///
/// # Safety
/// `plugin` is what `start` was given.
unsafe extern "C" fn listen(
    plugin: *mut abi::Plugin,
    kind: u32,
    function: Option<abi::Listener>,
    user: *mut c_void,
) -> u64 {
    guarded(0, || {
        // SAFETY: the caller's promise; it lives until `stop` has returned.
        let (Some(shared), Some(function)) = (unsafe { plugin.cast::<Shared>().as_ref() }, function) else { return 0 };
        if !EventKind::ALL.iter().any(|known| *known as u32 == kind) {
            return 0;
        }
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.replace(|entries| entries.push(Entry { number, kind, function, user }));
        number
    })
}

/// As the header says.
///
/// # Safety
/// `plugin` is what `start` was given.
unsafe extern "C" fn unlisten(plugin: *mut abi::Plugin, number: u64) -> i32 {
    guarded(-1, || {
        // SAFETY: the caller's promise.
        let Some(shared) = (unsafe { plugin.cast::<Shared>().as_ref() }) else { return -1 };
        let gone = shared.replace(|entries| {
            let before = entries.len();
            entries.retain(|entry| entry.number != number);
            entries.len() < before
        });
        if gone { 0 } else { -1 }
    })
}

/// As the header says.
///
/// # Safety
/// `plugin` is what `start` was given; `text` has `length` bytes.
unsafe extern "C" fn log(plugin: *mut abi::Plugin, level: u32, text: *const c_char, length: usize) {
    guarded((), || {
        // SAFETY: the caller's promise.
        let Some(shared) = (unsafe { plugin.cast::<Shared>().as_ref() }) else { return };
        // SAFETY: likewise.
        let text = unsafe { counted_text(text, length) };
        let level = if level == abi::LOG_NOTE { Level::Note } else { Level::Error };
        (shared.log)(level, &format!("{}: {text}", shared.name));
    });
}

/// As the header says.
///
/// # Safety
/// `call` is the call at hand; `text` has `length` bytes.
unsafe extern "C" fn set_error(call: *mut abi::Call, text: *const c_char, length: usize) {
    guarded((), || {
        // SAFETY: the caller's promise.
        if let Some(call) = unsafe { call_of(call) } {
            // SAFETY: likewise.
            call.error = Some(unsafe { counted_text(text, length) });
        }
    });
}

/// As the header says.
///
/// # Safety
/// `call` is the call at hand.
unsafe extern "C" fn column(call: *mut abi::Call, index: usize) -> *const abi::Column {
    guarded(ptr::null(), || {
        // SAFETY: the caller's promise.
        let Some(call) = (unsafe { call_of(call) }) else { return ptr::null() };
        let Some(row) = call.row else { return ptr::null() };
        if call.columns.is_empty() {
            call.columns = c_columns(row.table.1);
        }
        call.columns.get(index).map_or(ptr::null(), ptr::from_ref)
    })
}

/// As the header says.
///
/// # Safety
/// `call` is the call at hand.
unsafe extern "C" fn values(call: *mut abi::Call, image: u32) -> *const abi::Value {
    guarded(ptr::null(), || {
        // SAFETY: the caller's promise.
        let Some(call) = (unsafe { call_of(call) }) else { return ptr::null() };
        let Some(row) = call.row else { return ptr::null() };
        let is_before = image == abi::IMAGE_BEFORE;
        let list = match image {
            abi::IMAGE_BEFORE if row.rows.op.has_before() => &mut call.before,
            abi::IMAGE_AFTER if row.rows.op.has_after() => &mut call.after,
            _ => return ptr::null(),
        };
        if list.is_empty() {
            let image = row.row().ok().and_then(|row| if is_before { row.before } else { row.after });
            *list = list_of(image.as_ref(), row.table.1.columns.len());
        }
        list.as_ptr()
    })
}

/// As many values as columns. Of a damaged image all are absent: the plug-in need not know, since whoever applies the row will find it out.
fn list_of(image: Option<&Image<'_>>, columns: usize) -> Vec<abi::Value> {
    let mut list: Vec<abi::Value> =
        image.map_or_else(Vec::new, |image| image.columns().map_while(|value| value.ok().map(c_value)).collect());
    list.resize(columns, c_value(Value::Absent));
    list
}

/// As the header says.
///
/// # Safety
/// `call` is the call at hand, `value` is NULL or a value whose bytes are there.
unsafe extern "C" fn set_value(call: *mut abi::Call, image: u32, column: usize, value: *const abi::Value) -> i32 {
    guarded(abi::SET_WRONG_TYPE, || {
        // SAFETY: the caller's promise.
        let (Some(call), Some(value)) = (unsafe { (call_of(call), value.as_ref()) }) else { return abi::SET_NOT_NOW };
        let (Some(row), Some(changes)) = (call.row, &mut call.changes) else { return abi::SET_NOT_NOW };
        let side = match image {
            abi::IMAGE_BEFORE => Side::Before,
            abi::IMAGE_AFTER => Side::After,
            _ => return abi::SET_NO_COLUMN,
        };
        let Some(definition) = row.table.1.columns.get(column) else { return abi::SET_NO_COLUMN };
        // SAFETY: the caller's promise; the value is copied before this returns.
        let Some(value) = (unsafe { value_of(value, definition.kind) }) else { return abi::SET_WRONG_TYPE };
        match changes.set(side, column, &value) {
            Ok(()) => abi::SET_OK,
            Err(SetError::NoColumn) => abi::SET_NO_COLUMN,
            Err(SetError::WrongType) => abi::SET_WRONG_TYPE,
            Err(SetError::NotNullable) => abi::SET_NOT_NULLABLE,
        }
    })
}

/// As the header says.
///
/// # Safety
/// `call` is the call at hand, `value` is NULL or a value whose bytes are there, and `buffer` has room for `capacity` bytes.
unsafe extern "C" fn value_text(
    call: *mut abi::Call,
    column: usize,
    value: *const abi::Value,
    buffer: *mut c_char,
    capacity: usize,
) -> usize {
    guarded(0, || {
        // SAFETY: the caller's promise.
        let (Some(call), Some(value)) = (unsafe { (call_of(call), value.as_ref()) }) else { return 0 };
        let Some(definition) = call.row.and_then(|row| row.table.1.columns.get(column)) else { return 0 };
        // SAFETY: likewise.
        let Some(value) = (unsafe { value_of(value, definition.kind) }) else { return 0 };
        let mut out = Vec::new();
        if let Value::Null = value {
            out.extend_from_slice(b"NULL");
        } else {
            text::write_value(&mut out, value, definition);
        }
        let length = out.len().min(capacity);
        if !buffer.is_null() {
            // SAFETY: there is room for `capacity` bytes, and no more are written; what was just allocated does not overlap it.
            unsafe { ptr::copy_nonoverlapping(out.as_ptr(), buffer.cast(), length) };
        }
        out.len()
    })
}
