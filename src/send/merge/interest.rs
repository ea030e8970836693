//! Which rows a merge returns.

use crate::store::compare::DoubtedLeads;

/// What the merge passes over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeInterest {
    /// Rows that say what they said before, and leads that have been missing for long.
    Differences,
    /// Rows that say what they said before and whose leads are not in doubt.
    Doubts(DoubtedLeads),
    /// Nothing.
    Everything,
}

impl MergeInterest {
    /// Whether leads that have been missing for long are told of.
    pub(crate) const fn is_in_the_missing(self) -> bool {
        !matches!(self, MergeInterest::Differences)
    }
}
