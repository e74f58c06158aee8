//! Listeners: other people's code that hears of what a tool does, may refuse it, and may change rows.
//!
//! [`Listener`] is the trait, [`Host`] calls them; [`Plugin`] is a listener in a shared object, behind the C interface of
//! include/rlog_plugin.h ([`abi`]); [`Stage`] stands in a stream of frames for tools that have no target. Unsafe code of this is all in `load`.
//!
//! ```text
//! channel start
//!   begin                        one attempt at one transaction, all on one thread
//!     statement start            a statement, or the rows of one table that one statement changed
//!       row before …             each row: listeners in their order (each hears of all rows of a record), and sees the changes of those before
//!       (ddl)
//!         the target takes it
//!       row after …
//!     statement finish
//!   end                          the last moment for a veto
//!     the target commits         a batch: begin … end of each of its transactions stand before one commit
//!   commit | rollback            rollback: begin comes again, unless the run ends
//! error, when it failed
//! channel stop
//! ```
//!
//! What listeners are promised (rule 16: at least once, with ids): a transaction that is committed was heard from begin to end
//! before. Commit itself is not heard of when the process is killed behind the target's commit; therefore channel start has the position that the target
//! holds: what was heard up to there is committed, and what was heard of behind it comes again. A veto is a conflict that no policy steps over: the
//! attempt is rolled back, and the run ends with 80. A panic of a listener written in Rust is caught and is a veto; what a shared object
//! does with its own panics is its business, and a crash of it is a kill like any other.
//!
//! Cost: without listeners an `Option` is looked at for each record. Kinds of events that nobody wants are not made.

pub mod abi;
mod host;
mod listener;
mod load;
mod shape;
mod stage;

pub use host::{Host, Refused};
pub use listener::{
    ChangedRows, Changes, Channel, Event, EventKind, Listener, RecordEvent, Refusal, RowEvent, SetError, Side,
    Statement, Transaction,
};
pub use load::{Level, Plugin};
pub use stage::Stage;
