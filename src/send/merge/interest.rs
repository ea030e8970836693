//! Which rows a merge returns.

use crate::store::compare::Doubted;

/// What the merge passes over in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Rows that say what they said before, and leads that have been missing for long.
    Differences,
    /// Rows that say what they said before and whose leads are not in doubt.
    Doubts(Doubted),
    /// Nothing.
    Everything,
}

impl Interest {
    /// Whether leads that have been missing for long are told of.
    pub(crate) const fn is_in_the_missing(self) -> bool {
        !matches!(self, Interest::Differences)
    }
}
