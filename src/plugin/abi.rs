//! The C interface as Rust sees it: include/rlog_plugin.h, line by line.
//!
//! This file names nothing of rlog, so that a plug-in written in Rust can take it as it is (examples/plugin-mask does). What
//! the members mean is said in the header; `tests/plugin` compares sizes and offsets with what a C compiler makes of it.
#![allow(missing_docs, dead_code, reason = "the header is the documentation")]

use std::ffi::{c_char, c_void};

pub const ABI: u32 = 1;

pub const OK: i32 = 0;
pub const VETO: i32 = 1;
pub const RETRY: i32 = 2;

pub const CHANNEL_START: u32 = 1;
pub const CHANNEL_STOP: u32 = 2;
pub const BEGIN: u32 = 3;
pub const END: u32 = 4;
pub const COMMIT: u32 = 5;
pub const ROLLBACK: u32 = 6;
pub const STATEMENT_START: u32 = 7;
pub const STATEMENT_FINISH: u32 = 8;
pub const DDL: u32 = 9;
pub const ROW_BEFORE: u32 = 10;
pub const ROW_AFTER: u32 = 11;
pub const ERROR: u32 = 12;

pub const IMAGE_BEFORE: u32 = 1;
pub const IMAGE_AFTER: u32 = 2;

pub const ABSENT: u32 = 0;
pub const UNCHANGED: u32 = 1;
pub const NULL: u32 = 2;
pub const INT: u32 = 3;
pub const UINT: u32 = 4;
pub const FLOAT: u32 = 5;
pub const DOUBLE: u32 = 6;
pub const DECIMAL: u32 = 7;
pub const BIT: u32 = 8;
pub const YEAR: u32 = 9;
pub const DATE: u32 = 10;
pub const TIME: u32 = 11;
pub const DATETIME: u32 = 12;
pub const TIMESTAMP: u32 = 13;
pub const STRING: u32 = 14;
pub const ENUM: u32 = 15;
pub const SET: u32 = 16;
pub const JSON: u32 = 17;
pub const JSON_DIFF: u32 = 18;
pub const GEOMETRY: u32 = 19;
pub const VECTOR: u32 = 20;
pub const TEXT: u32 = 21;
pub const BLOB: u32 = 22;

pub const LOG_NOTE: u32 = 1;
pub const LOG_ERROR: u32 = 2;

pub const SERIAL: u32 = 1;
pub const TRANSACTION_PREPARED: u64 = 0x100;

pub const COLUMN_KEY: u32 = 1;
pub const COLUMN_BINARY: u32 = 2;
pub const COLUMN_GENERATED: u32 = 4;

pub const SET_OK: i32 = 0;
pub const SET_NOT_NOW: i32 = -1;
pub const SET_NO_COLUMN: i32 = -2;
pub const SET_WRONG_TYPE: i32 = -3;
pub const SET_NOT_NULLABLE: i32 = -4;

/// The symbol that a plug-in exports.
pub const ENTRY: &str = "rlog_plugin_entry";

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub data: *const c_char,
    pub length: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union Number {
    pub i: i64,
    pub u: u64,
    pub d: f64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    pub kind: u32,
    pub detail: u32,
    pub number: Number,
    pub data: *const u8,
    pub length: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub struct_size: usize,
    pub name: Text,
    pub sql_type: Text,
    pub charset: Text,
    pub flags: u32,
    pub reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    pub struct_size: usize,
    pub tool: Text,
    pub name: Text,
    pub position: Text,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    pub struct_size: usize,
    pub txid: u64,
    pub incarnation: u64,
    pub position: Text,
    pub gtid: Text,
    pub time_us: i64,
    pub server_id: u32,
    pub thread: u32,
    pub flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    pub struct_size: usize,
    pub operation: u32,
    pub reserved: u32,
    pub database: Text,
    pub table: Text,
    pub sql: Text,
    pub ddl: Text,
    pub rows: u64,
    pub ordinal: u64,
    pub table_id: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub struct_size: usize,
    pub operation: u32,
    pub images: u32,
    pub ordinal: u64,
    pub columns: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub struct_size: usize,
    pub kind: u32,
    pub status: i32,
    pub channel: *const Channel,
    pub transaction: *const Transaction,
    pub statement: *const Statement,
    pub row: *const Row,
    pub error: Text,
}

/// One call; opaque.
#[repr(C)]
pub struct Call {
    _opaque: [u8; 0],
}

/// The plug-in as rlog knows it; opaque.
#[repr(C)]
pub struct Plugin {
    _opaque: [u8; 0],
}

pub type Listener = unsafe extern "C" fn(call: *mut Call, event: *const Event, user: *mut c_void) -> i32;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Host {
    pub struct_size: usize,
    pub abi_version: u32,
    pub reserved: u32,
    pub allocate: unsafe extern "C" fn(bytes: usize) -> *mut c_void,
    pub release: unsafe extern "C" fn(memory: *mut c_void),
    pub listen: unsafe extern "C" fn(*mut Plugin, kind: u32, Option<Listener>, user: *mut c_void) -> u64,
    pub unlisten: unsafe extern "C" fn(*mut Plugin, number: u64) -> i32,
    pub log: unsafe extern "C" fn(*mut Plugin, level: u32, text: *const c_char, length: usize),
    pub set_error: unsafe extern "C" fn(*mut Call, text: *const c_char, length: usize),
    pub column: unsafe extern "C" fn(*mut Call, index: usize) -> *const Column,
    pub values: unsafe extern "C" fn(*mut Call, image: u32) -> *const Value,
    pub set_value: unsafe extern "C" fn(*mut Call, image: u32, column: usize, *const Value) -> i32,
    pub text: unsafe extern "C" fn(*mut Call, column: usize, *const Value, *mut c_char, capacity: usize) -> usize,
}

#[repr(C)]
pub struct Descriptor {
    pub struct_size: usize,
    pub abi_version: u32,
    pub flags: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub start: Option<
        unsafe extern "C" fn(*const Host, *mut Plugin, *mut Call, arguments: *const c_char, *mut *mut c_void) -> i32,
    >,
    pub stop: Option<unsafe extern "C" fn(state: *mut c_void)>,
}

// The descriptor is constant.
unsafe impl Sync for Descriptor {}

pub type Entry = unsafe extern "C" fn() -> *const Descriptor;
