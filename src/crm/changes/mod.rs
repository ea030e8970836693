//! Changes as the CRM's own transactions write them down: [`ddl`] makes the statements for triggers and their log, [`log`]
//! reads the log and takes out what has been read, [`watch`] waits until something is in it.
//!
//! A row of the log says "this key was touched", never what became of it: that is read from the source afterwards, in a
//! later snapshot, so that a row of the log that is read twice, or late, does no harm.

pub mod ddl;
pub mod log;
pub mod standing;
pub mod watch;
