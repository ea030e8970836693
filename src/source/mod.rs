//! The customer's database: [`read`] streams its rows, [`columns`] looks at what it has, [`catalog`] at what kind of thing it is,
//! [`drift`] at what has become of it; [`changed_at`] says in SQL which rows have changed, [`cursor`] and [`settled`] where to go on
//! reading, [`snapshot`] how a reading begins; [`changes`] finds out by triggers which rows were touched; [`mapping`] makes Lead
//! objects of them, [`value`] and [`json`] read what CRMs write; [`writeback`] writes to it what Conversica has sent.
//! [`introspect`] and [`propose`] are for who has no settings yet.

pub mod catalog;
pub(crate) mod change_log;
pub mod changed_at;
pub mod changes;
pub mod columns;
pub mod crm;
pub mod guest;
pub mod read;
pub mod settled;
pub mod snapshot;
pub mod source_db;
pub mod source_file;
pub mod writeback;
