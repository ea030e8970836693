//! The status of a lead, with its names outside the store.

/// The status of a lead. docs/lead-states.md says what each means and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeadStatus {
    InSync,
    Pending,
    InFlight,
    Retrying,
    Held,
    Invalid,
    Rejected,
    Exhausted,
    Gone,
    /// A baseline assumes that Conversica knows the lead, which was never sent from here.
    Assumed,
    /// Never contacted: the person has opted out under another id, or is on the suppression list.
    Suppressed,
}

impl LeadStatus {
    pub const ALL: [LeadStatus; 11] = [
        LeadStatus::InSync,
        LeadStatus::Pending,
        LeadStatus::InFlight,
        LeadStatus::Retrying,
        LeadStatus::Held,
        LeadStatus::Invalid,
        LeadStatus::Rejected,
        LeadStatus::Exhausted,
        LeadStatus::Gone,
        LeadStatus::Assumed,
        LeadStatus::Suppressed,
    ];

    /// The name in SQL, JSON, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            LeadStatus::InSync => "in_sync",
            LeadStatus::Pending => "pending",
            LeadStatus::InFlight => "in_flight",
            LeadStatus::Retrying => "retrying",
            LeadStatus::Held => "held",
            LeadStatus::Invalid => "invalid",
            LeadStatus::Rejected => "rejected",
            LeadStatus::Exhausted => "exhausted",
            LeadStatus::Gone => "gone",
            LeadStatus::Assumed => "assumed",
            LeadStatus::Suppressed => "suppressed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The lead has nothing in progress, and the operator has nothing to do.
    pub const fn is_settled(self) -> bool {
        matches!(self, LeadStatus::InSync | LeadStatus::Gone | LeadStatus::Assumed | LeadStatus::Suppressed)
    }
}
