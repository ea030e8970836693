//! The customer's database. [`source_db`] connects to it, [`guest`] leaves no traces in it. [`read`] streams its rows,
//! [`columns`] and [`catalog`] describe them, [`relations`] names the tables that a statement reads, [`changed_at`] selects the changed rows in SQL, [`settled`] finds up to when
//! reading is complete, [`snapshot`] begins a reading. [`changes`] has the change-log triggers, [`writeback`] writes Conversica's
//! posts. `named` reads the operator's statements with parameters. [`mysql`] has the sessions on MySQL and MariaDB, and [`dialect`] the engines' ways to write names.

pub mod catalog;
pub(crate) mod change_log;
pub mod changed_at;
pub mod changes;
pub mod columns;
pub mod crm;
pub mod dialect;
pub mod guest;
pub mod mysql;
pub(crate) mod mysql_catalog;
pub mod mysql_engine;
pub(crate) mod mysql_settled;
pub(crate) mod named;
pub mod read;
pub mod relations;
pub mod settled;
pub mod snapshot;
pub mod source_db;
pub mod source_file;
pub mod stamp_reach;
pub mod suppression_query;
pub mod writeback;
