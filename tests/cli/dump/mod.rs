//! rlog-dump as its users run it.

pub mod sample;

mod formats;
mod selection;
