//! Changes as the CRM's own transactions write them down: [`ddl`] makes the statements for triggers and their log, [`log`]
//! reads the log and takes out what has been read, [`watch`] waits until something is in it. [`standing`] compares what is
//! there with what would be made, [`ground`] looks at what else stands around.
//!
//! A row of the log says "this key was touched", never what became of it: that is read from the source afterwards, in a
//! later snapshot, so that a row of the log that is read twice, or late, does no harm.

pub mod ddl;
pub mod ground;
pub mod log;
pub mod standing;
pub mod watch;
