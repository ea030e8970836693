//! The status of a lead, as everything but the store names it.

/// The status of a lead. docs/lead-states.md says what each means and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    InSync,
    Pending,
    InFlight,
    Retrying,
    Held,
    Invalid,
    Rejected,
    Exhausted,
    Gone,
    /// A baseline took it as known to Conversica; it was never sent from here.
    Assumed,
}

impl Status {
    pub const ALL: [Status; 10] = [
        Status::InSync,
        Status::Pending,
        Status::InFlight,
        Status::Retrying,
        Status::Held,
        Status::Invalid,
        Status::Rejected,
        Status::Exhausted,
        Status::Gone,
        Status::Assumed,
    ];

    /// The name in SQL, JSON, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Status::InSync => "in_sync",
            Status::Pending => "pending",
            Status::InFlight => "in_flight",
            Status::Retrying => "retrying",
            Status::Held => "held",
            Status::Invalid => "invalid",
            Status::Rejected => "rejected",
            Status::Exhausted => "exhausted",
            Status::Gone => "gone",
            Status::Assumed => "assumed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Nothing is under way for it, and no person has to do anything.
    pub const fn is_settled(self) -> bool {
        matches!(self, Status::InSync | Status::Gone | Status::Assumed)
    }
}
