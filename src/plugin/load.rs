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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use libloading::Library;

use super::abi;
use super::listener::{
    ChangedRows, Changes, Event, EventKind, KnownRow, Listener, RecordEvent, Refusal, RowEvent, SetError, Side,
    Statement, Transaction,
};
use super::shape::{c_channel, c_columns, c_row, c_statement, c_str, c_transaction, c_value, empty};
use crate::error::{Class, Error, Result};
use crate::event::{ColumnKind, Image, Rows, Value, text};

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
    table: RwLock<Arc<Table>>,
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
    table: Arc<Table>,
}

/// What is registered, by kind, in the order of registration.
#[derive(Clone, Default)]
struct Table {
    of: [Vec<Entry>; EventKind::ALL.len() + 1],
}

#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    function: abi::Listener,
    user: *mut c_void,
}

// SAFETY: `user` is only ever given back to the plug-in, whose functions are called from any thread.
unsafe impl Send for Entry {}
// SAFETY: as above; nobody changes an entry.
unsafe impl Sync for Entry {}

/// What `rlog_call *` points to.
#[derive(Default)]
struct Call<'a> {
    error: Option<String>,
    row: Option<RowEvent<'a>>,
    /// In rows before.
    changes: Option<Changes<'a>>,
    /// Of the record at hand.
    columns: Vec<abi::Column>,
    /// Of the row at hand.
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
        let _alone = self.shared.alone();
        self.shared.with_table(|_, table| table.call(kind, event, call))
    }

    /// Calls them for each row of a record. What they change of one waits in `call.changes` until `done` takes it.
    fn call_rows<'a>(
        &self,
        kind: EventKind,
        (transaction, statement): (&Transaction<'_>, &Statement<'_>),
        record: &RecordEvent<'a>,
        call: &mut Call<'a>,
        mut done: impl FnMut(u32, &mut Call<'a>),
    ) -> Result<(), Refusal> {
        // What all rows have in common is made once: they are many.
        let (transaction, statement) = (c_transaction(transaction), c_statement(statement));
        let mut number = 0;
        while number < record.rows.count {
            self.shared.with_table(|version, table| {
                // Until somebody registers or unregisters: that takes effect with the next row.
                while number < record.rows.count && self.shared.version.load(Ordering::Acquire) == version {
                    let row = c_row(record, number);
                    let event = abi::Event {
                        transaction: &raw const transaction,
                        statement: &raw const statement,
                        row: &raw const row,
                        ..empty(kind)
                    };
                    call.row = Some(record.row(number));
                    call.before.clear();
                    call.after.clear();
                    let _alone = self.shared.alone();
                    table.call(kind, &event, call)?;
                    done(number, call);
                    number += 1;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Table {
    fn call(&self, kind: EventKind, event: &abi::Event, call: &mut Call<'_>) -> Result<(), Refusal> {
        for entry in self.of.get(kind as usize).map_or(&[][..], Vec::as_slice) {
            // SAFETY: the plug-in has registered it as a function of this type; event and call live until it returns.
            let answer = unsafe { (entry.function)(ptr::from_mut(call).cast(), event, entry.user) };
            if answer != abi::OK {
                let text = call.error.take().unwrap_or_default();
                return Err(if answer == abi::RETRY { Refusal::again(text) } else { Refusal::veto(text) });
            }
        }
        // Words without a refusal.
        call.error = None;
        Ok(())
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

    /// Held while a plug-in that is not made for threads is called.
    fn alone(&self) -> Option<MutexGuard<'_, ()>> {
        self.serial.as_ref().map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls with the table as it is now, and its version. It may be replaced meanwhile.
    fn with_table<T>(&self, call: impl FnOnce(u64, &Table) -> T) -> T {
        let version = self.version.load(Ordering::Acquire);
        let is_it = |held: &&Held| held.plugin == self.id && held.version == version;
        TABLES.with(|tables| {
            if let Some(held) = tables.borrow().iter().find(is_it) {
                return call(version, &held.table);
            }
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
            // Elsewhere on this thread a table is in use: this one is for now only.
            let Ok(mut list) = tables.try_borrow_mut() else { return call(version, &table) };
            list.retain(|held| held.plugin != self.id);
            list.push(Held { plugin: self.id, version, table: table.clone() });
            drop(list);
            call(version, &table)
        })
    }

    /// Replaces the table; those who walk the old one go on with it.
    fn replace<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Table::clone(&table);
        let out = change(&mut new);
        let wanted = new.of.iter().enumerate().filter(|(_, entries)| !entries.is_empty());
        self.wanted.store(wanted.fold(0, |bits, (kind, _)| bits | 1 << kind), Ordering::Release);
        *table = Arc::new(new);
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
            // Rows come by the record, but for those that are applied one by one.
            Event::RowBefore(transaction, statement, row) | Event::RowAfter(transaction, statement, row) => {
                let known = KnownRow(row.row().map_err(|error| Refusal::veto(error.to_string()))?);
                let one = Rows { count: 1, ..*row.rows };
                let record = RecordEvent { rows: &one, table: row.table, ordinal: row.ordinal, source: &known };
                self.call_rows(kind, (transaction, statement), &record, &mut Call::default(), |_, _| {})
            }
        }
    }

    fn hear_rows(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        record: &RecordEvent<'_>,
    ) -> Result<(), Refusal> {
        self.call_rows(EventKind::RowAfter, (transaction, statement), record, &mut Call::default(), |_, _| {})
    }

    fn change_rows(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement<'_>,
        record: &RecordEvent<'_>,
        changed: &mut ChangedRows<'_>,
    ) -> Result<(), Refusal> {
        let mut call = Call { changes: Some(Changes::new(record.rows, record.table.1)), ..Call::default() };
        self.call_rows(EventKind::RowBefore, (transaction, statement), record, &mut call, |number, call| {
            if let Some(changes) = &mut call.changes {
                changed.take(number, changes);
            }
        })
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
        let Some(kind) = EventKind::ALL.iter().find(|known| **known as u32 == kind) else { return 0 };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.replace(|table| {
            if let Some(entries) = table.of.get_mut(*kind as usize) {
                entries.push(Entry { number, function, user });
            }
        });
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
        let gone = shared.replace(|table| {
            let count = |table: &Table| table.of.iter().map(Vec::len).sum::<usize>();
            let before = count(table);
            table.of.iter_mut().for_each(|entries| entries.retain(|entry| entry.number != number));
            count(table) < before
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
