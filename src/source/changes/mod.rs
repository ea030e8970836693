//! Changes that the CRM's own transactions record: [`ddl`] makes the statements for triggers and their log, [`log`] reads and
//! empties the log, [`watch`] waits for new log rows. [`design`] finds the tables, [`watch_query`] checks the queries
//! of watched tables, and [`triggered`] has the text for one table. [`standing`] compares the database with the designed triggers,
//! [`ground`] checks the rest of the database.
//!
//! A log row says only that this key was touched. The poll reads the row's content from the source afterwards, in a later
//! snapshot, so a log row that is read twice or late does no harm.

pub mod ddl;
pub mod design;
pub mod ground;
pub mod log;
pub mod standing;
pub mod triggered;
pub mod watch;
pub mod watch_query;
