//! Which rows of the source a poll reads.

use crate::conversica::lead::{IdOrder, LeadId};
use crate::rules::cursor::ReadWindow;

/// Which rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those that come after this lead in this order, and it: where a reading of all rows goes on. All rows where the
    /// source cannot be read in that order any more.
    From(IdOrder, LeadId),
    /// Those whose `changed_at` lies in this window.
    Since(ReadWindow),
    /// Those of these leads, at most a few thousand.
    Keys(Vec<LeadId>),
}
