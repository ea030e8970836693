//! Changes that the CRM's own transactions record: [`ddl`] makes the statements for triggers and their log, [`log`] reads and
//! empties the log, [`watch`] waits for new log rows. [`standing`] compares the database with the designed triggers, [`ground`]
//! checks the rest of the database.
//!
//! A log row says only that this key was touched. The poll reads the row's content from the source afterwards, in a later
//! snapshot, so a log row that is read twice or late does no harm.

pub mod ddl;
pub mod ground;
pub mod log;
pub mod standing;
pub mod watch;
