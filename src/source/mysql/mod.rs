//! Binary logs of MySQL and MariaDB.
//!
//! ```text
//! files     which files, in which order          data      their bytes: a map, or a stream's buffer
//! event     framing, formats, checksums          decrypt, key_file, compress
//! query, load, gtid                              what single events say
//! table_map, definition, image, ops, values, wire   tables and rows
//! tables    table maps, compiled and kept        selection  --after, --until, --since
//! group     a transaction being gathered         windows    what may run beside what
//! decoder   events -> groups -> frames
//! reader    this folder's `Source`: files -> events -> decoder
//! live      a running server: its log as a replica gets it, and its rows
//! relay     where relay logs' events stood        resync    where events stand behind damage
//! ```

pub mod bytes;
pub mod compress;
pub mod data;
pub mod decoder;
pub mod decrypt;
pub mod definition;
pub mod event;
pub mod explain;
pub mod files;
pub mod group;
pub mod gtid;
pub mod image;
pub mod key_file;
#[cfg(feature = "mysql")]
pub mod live;
pub mod load;
mod ops;
pub mod prega;
pub mod query;
pub mod reader;
pub mod relay;
pub mod resync;
pub mod selection;
pub mod table_map;
pub mod tables;
mod values;
pub mod windows;
pub mod wire;
pub mod writeset;

pub use definition::{Defined, definition};
pub use image::{RowPlan, RowsInput, Transcoded};
pub use reader::MySqlSource;
pub use table_map::{Family, TableMap};
