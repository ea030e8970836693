//! Selects the rows that a merge returns.

use crate::store::compare::DoubtedLeads;

/// The rows and leads that the merge skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeInterest {
    /// Skips unchanged rows and leads that have been missing for long.
    Differences,
    /// Skips unchanged rows whose leads are not in doubt.
    Doubts(DoubtedLeads),
    /// Skips nothing.
    Everything,
}

impl MergeInterest {
    /// Whether the merge reports leads that have been missing for long.
    pub(crate) const fn is_in_the_missing(self) -> bool {
        !matches!(self, MergeInterest::Differences)
    }
}
