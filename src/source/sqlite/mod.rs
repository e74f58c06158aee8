//! SQLite as a source: row changes decoded from the write-ahead log, page by page, without a write to the database.
//!
//! ```text
//! wal       frames -> whole transactions                    shm      how far the log is committed
//! view      the database before and after a transaction     pagemap  which page hangs where, 5 bytes a page
//! page      b-tree pages and cells                          record   values, order of keys
//! schema    tables, as SQLite itself reads them             ddl      from two schemas to statements
//! events    decoded transactions -> frames                  keys     of rows, for write sets
//! live      a database in use, pinned (pin)                 pace     when it is looked at next
//! pair      a database file and its log at rest             orphan   a log without its database
//! shadow    the state last confirmed, and what came since   catchup  from there to the present
//! rollback  a database without a log                        snapshot the rows that exist, before the log
//! treediff  the streaming comparison of two trees           decode   one transaction -> events for a Sink
//! ```
//!
//! Invariant: the old view is the database after the last decoded transaction, to the byte. Everything is derived from
//! it and the next transaction's frames; nothing is guessed from the application's behaviour.

mod alike;
pub mod catchup;
pub mod ddl;
pub mod decode;
pub mod events;
mod keys;
pub mod live;
pub mod orphan;
mod pace;
pub mod page;
pub mod pagemap;
pub mod pair;
pub mod pin;
pub mod record;
pub mod rollback;
pub mod schema;
pub mod shadow;
pub mod shm;
pub mod sink;
mod snapshot;
mod source;
pub mod treediff;
pub mod view;
pub mod wal;

pub use source::SqliteSource;
