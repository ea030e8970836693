//! How far one poll reads.

/// The rows that a step of a poll has compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollCoverage {
    Everything,
    /// The rows of the leads that the change log names.
    Touched,
    /// Some rows, chosen by time, not by lead.
    Part,
    /// A full compare has to come first: the step counts as not done.
    Nothing,
}

/// How much a poll reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PollReach {
    /// The rows that have changed since the cursor, or every row when a full compare is due.
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
