//! The customer's database. [`source_db`] connects to it, [`guest`] leaves nothing behind in it. [`read`] streams its rows,
//! [`columns`] and [`catalog`] describe them, [`changed_at`] says in SQL which rows have changed, [`settled`] up to where reading is
//! complete, [`snapshot`] how a reading begins. [`changes`] has the change-log triggers, [`writeback`] writes what Conversica sent.

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
