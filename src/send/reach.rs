//! How far one poll reads.

/// What a step of a poll has compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollCoverage {
    Everything,
    /// The rows of the leads that were touched.
    Touched,
    /// Some rows, and not by name.
    Part,
    /// Everything has to be compared first: what it found is as if it had not been looked at.
    Nothing,
}

/// How much a poll reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PollReach {
    /// What has changed since the cursor, or everything when a full compare is due.
    #[default]
    AsDue,
    Everything,
}

/// What a poll has read, as `status` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadExtent {
    /// Every row.
    Full,
    /// The rows that may have changed.
    Incremental,
}

impl ReadExtent {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ReadExtent::Full => "full",
            ReadExtent::Incremental => "incremental",
        }
    }
}
