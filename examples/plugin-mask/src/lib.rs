//! Column masking: named columns never leave in clear.
//!
//! ```text
//! cargo build --release
//! rlog-apply run --plugin target/release/libplugin_mask.so:shop.customers.email,*.users.phone --from spool sqlite:replica.db
//! ```
//!
//! Arguments: `DATABASE.TABLE.COLUMN`, several with commas; `*` stands for any database or table. `key=SECRET` comes first, if at all. Texts and bytes become 16
//! hexadecimal digits that depend on the value and the secret, so that equal values stay equal and joins and unique keys hold; everything else becomes
//! NULL. What cannot be masked (a number that may not be NULL) is refused, not let through. Statements are refused too when the columns are of
//! any table, since nobody can say what they carry: replicate rows.
//!
//! It shows what a plug-in in Rust has to mind: no panic leaves a function that rlog calls (`guarded`), and whatever rlog passes is used
//! only within the call.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

// A project of its own takes a copy of this file.
#[path = "../../../src/plugin/abi.rs"]
mod abi;

struct Mask {
    host: *const abi::Host,
    secret: String,
    /// Database, table, column.
    columns: Vec<[String; 3]>,
}

#[unsafe(no_mangle)]
pub extern "C" fn rlog_plugin_entry() -> *const abi::Descriptor {
    static DESCRIPTOR: abi::Descriptor = abi::Descriptor {
        struct_size: size_of::<abi::Descriptor>(),
        abi_version: abi::ABI,
        flags: 0,
        name: c"mask".as_ptr(),
        version: c"0.1".as_ptr(),
        start: Some(start),
        stop: Some(stop),
    };
    &raw const DESCRIPTOR
}

/// A panic must not leave a function that C calls: it becomes a veto.
fn guarded(host: *const abi::Host, call: *mut abi::Call, work: impl FnOnce() -> Result<(), String>) -> i32 {
    let text = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return abi::OK,
        Ok(Err(text)) => text,
        Err(_) => "it panicked".to_owned(),
    };
    // SAFETY: the host lives until `stop` has returned, and copies the text.
    unsafe { ((*host).set_error)(call, text.as_ptr().cast(), text.len()) };
    abi::VETO
}

/// # Safety
/// As rlog_plugin.h says.
unsafe extern "C" fn start(
    host: *const abi::Host,
    plugin: *mut abi::Plugin,
    call: *mut abi::Call,
    arguments: *const c_char,
    state: *mut *mut c_void,
) -> i32 {
    guarded(host, call, || {
        // SAFETY: a string that lives until this returns.
        let arguments = unsafe { CStr::from_ptr(arguments) }.to_str().map_err(|_| "its arguments are not UTF-8")?;
        let mut mask = Mask { host, secret: String::new(), columns: Vec::new() };
        for part in arguments.split(',').filter(|part| !part.is_empty()) {
            if let Some(secret) = part.strip_prefix("key=") {
                mask.secret = secret.to_owned();
                continue;
            }
            let words: Vec<String> = part.split('.').map(str::to_owned).collect();
            let words = words.try_into().map_err(|_| format!("'{part}' is not DATABASE.TABLE.COLUMN"))?;
            mask.columns.push(words);
        }
        if mask.columns.is_empty() {
            return Err("it is told no column: give it DATABASE.TABLE.COLUMN,...".to_owned());
        }
        let user = Box::into_raw(Box::new(mask)).cast::<c_void>();
        // SAFETY: the host's functions may be called with what it gave; `state` is for `stop`.
        unsafe {
            ((*host).listen)(plugin, abi::ROW_BEFORE, Some(on_row), user);
            ((*host).listen)(plugin, abi::STATEMENT_START, Some(on_statement), user);
            *state = user;
        }
        Ok(())
    })
}

/// # Safety
/// As rlog_plugin.h says.
unsafe extern "C" fn stop(state: *mut c_void) {
    // SAFETY: it comes from `start`, and nothing else is called any more.
    drop(unsafe { Box::from_raw(state.cast::<Mask>()) });
}

/// # Safety
/// As rlog_plugin.h says.
unsafe extern "C" fn on_statement(call: *mut abi::Call, event: *const abi::Event, user: *mut c_void) -> i32 {
    // SAFETY: `user` is what `start` has registered.
    let mask = unsafe { &*user.cast::<Mask>() };
    guarded(mask.host, call, || {
        // SAFETY: the event has a statement, since it is one's start.
        let statement = unsafe { &*(*event).statement };
        // Rows, and DDL, which carries no rows (but for CREATE TABLE ... SELECT, which row logs do not have).
        match statement.operation {
            1 | 2 | 3 | 5 | 6 => Ok(()),
            _ => {
                Err("a statement may carry what is to be masked: let the source log rows (binlog_format=ROW)"
                    .to_owned())
            }
        }
    })
}

/// # Safety
/// As rlog_plugin.h says.
unsafe extern "C" fn on_row(call: *mut abi::Call, event: *const abi::Event, user: *mut c_void) -> i32 {
    // SAFETY: `user` is what `start` has registered.
    let mask = unsafe { &*user.cast::<Mask>() };
    guarded(mask.host, call, || {
        // SAFETY: events of rows have both; all of it lives until this returns.
        let (host, statement, row) = unsafe { (&*mask.host, &*(*event).statement, &*(*event).row) };
        let (database, table) = (text(&statement.database), text(&statement.table));
        let fits = |wanted: &str, found: &str| wanted == "*" || wanted == found;
        let wanted: Vec<&str> = mask
            .columns
            .iter()
            .filter(|[d, t, _]| fits(d, &database) && fits(t, &table))
            .map(|[_, _, column]| column.as_str())
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        for index in 0..row.columns {
            // SAFETY: the call is at hand; a column that there is is not NULL.
            let name = text(unsafe { &(*(host.column)(call, index)).name });
            if !wanted.contains(&name.as_str()) {
                continue;
            }
            for image in [abi::IMAGE_BEFORE, abi::IMAGE_AFTER] {
                // SAFETY: as above; there are as many values as columns.
                let values = unsafe { (host.values)(call, image) };
                if values.is_null() {
                    continue;
                }
                // SAFETY: as above.
                let value = unsafe { *values.add(index) };
                mask.value(call, image, index, &value).map_err(|why| format!("{database}.{table}.{name} {why}"))?;
            }
        }
        Ok(())
    })
}

impl Mask {
    fn value(&self, call: *mut abi::Call, image: u32, index: usize, value: &abi::Value) -> Result<(), &'static str> {
        let digits;
        let new = match value.kind {
            abi::ABSENT | abi::UNCHANGED | abi::NULL => return Ok(()),
            abi::STRING | abi::TEXT | abi::BLOB => {
                // SAFETY: rlog gives as many bytes as it says.
                digits = self.digits(unsafe { std::slice::from_raw_parts(value.data, value.length) });
                abi::Value { data: digits.as_ptr(), length: digits.len(), ..*value }
            }
            _ => abi::Value { kind: abi::NULL, data: ptr::null(), length: 0, ..*value },
        };
        // SAFETY: the call is at hand; the value is copied.
        match unsafe { ((*self.host).set_value)(call, image, index, &raw const new) } {
            abi::SET_OK => Ok(()),
            abi::SET_NOT_NULLABLE => Err("cannot be masked: it may not be NULL"),
            abi::SET_WRONG_TYPE => Err("cannot be masked: it has no room for 16 characters"),
            _ => Err("cannot be masked"),
        }
    }

    /// FNV-1a with 64 bits over secret and value: enough for an example. Against guessing, take a keyed hash such as HMAC.
    fn digits(&self, bytes: &[u8]) -> String {
        let all = self.secret.as_bytes().iter().chain(b"\0").chain(bytes);
        let hash =
            all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        format!("{hash:016x}")
    }
}

fn text(text: &abi::Text) -> String {
    // SAFETY: rlog gives as many bytes as it says; it is copied.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.data.cast(), text.length) }).into_owned()
}
