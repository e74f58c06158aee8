//! What needs a real database server: what one wrote must be read, what is applied must arrive. One file per subject.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "mysql")]
mod acks;
mod ahead;
mod apply;
#[cfg(feature = "mysql")]
mod compare;
mod cron;
mod differential;
mod dump_sql;
mod encrypted;
#[cfg(feature = "mysql")]
mod handover;
mod harness;
#[cfg(feature = "mysql")]
mod live;
#[cfg(feature = "mysql")]
mod logged;
mod loops;
#[cfg(feature = "mysql")]
mod mysql_apply;
#[cfg(feature = "mysql")]
mod mysql_target;
#[cfg(feature = "mysql")]
mod rules;
#[cfg(feature = "mysql")]
mod snapshot;
#[cfg(feature = "mysql")]
mod statements;
mod values;
mod xa;
