//! Which rows of the source a poll reads.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::rules::cursor::ReadWindow;

/// Which rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadScope {
    All,
    /// This lead and those after it in this order: an interrupted reading of all rows continues here. If the source can no longer
    /// be read in that order, all rows.
    From(IdOrder, LeadId),
    /// Rows whose `changed_at` lies in this window.
    Since(ReadWindow),
    /// The rows of these leads, at most a few thousand.
    Keys(Vec<LeadId>),
}

/// The name of a lead whose key is a whole number in a floating-point column of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeNames {
    /// `7`.
    Whole,
    /// `7.0`, as Conversica knows such leads from an earlier version: by another name each would be another person.
    Decimal,
}
