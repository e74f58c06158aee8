//! Binary logs of MySQL and MariaDB.

pub mod definition;
pub mod image;
pub mod table_map;
mod values;
pub mod wire;

pub use definition::{Defined, definition};
pub use image::{RowPlan, RowsInput, Transcoded};
pub use table_map::{Family, TableMap};
