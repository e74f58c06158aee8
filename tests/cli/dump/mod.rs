//! rlog-dump as its users run it.

pub mod sample;

mod damage;
mod formats;
mod reports;
mod selection;
mod sql;
