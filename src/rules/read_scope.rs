//! Which rows of the source a poll reads.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::rules::cursor::ReadWindow;

/// Which rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadScope {
    All,
    /// Those that come after this lead in this order, and it: where a reading of all rows goes on. All rows where the
    /// source cannot be read in that order any more.
    From(IdOrder, LeadId),
    /// Those whose `changed_at` lies in this window.
    Since(ReadWindow),
    /// Those of these leads, at most a few thousand.
    Keys(Vec<LeadId>),
}

/// What a lead is called whose key is a whole number in a floating-point column of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeNames {
    /// `7`.
    Whole,
    /// `7.0`, as Conversica knows such leads from an earlier version: by another name each would be another person.
    Decimal,
}
