//! The status of a lead: its names, and how it is read from table `lead`.
//!
//! A million leads that a baseline settled stay out of the small index over leads that are under way: their stored status is
//! 'in_sync', and `assumed_at` tells them apart. Every statement that reads or filters a status goes by [`SHOWN_STATUS`] and
//! [`Status::condition`].

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

/// In SQL: the status of a row of `lead`, as it is shown.
pub(super) const SHOWN_STATUS: &str =
    "case when lead.status = 'in_sync' and lead.assumed_at is not null then 'assumed' else lead.status end";

/// In SQL, over `lead`: shown as assumed. In the words of the index `lead_assumed`.
pub(super) const IS_ASSUMED: &str = "status = 'in_sync' and assumed_at is not null";

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

    /// In SQL: the rows of `lead` that are shown with this status, found by an index where one knows them.
    pub(super) fn condition(self) -> String {
        match self {
            Status::InSync => "status || '' = 'in_sync' and assumed_at is null".to_owned(),
            Status::Assumed => IS_ASSUMED.to_owned(),
            // "status <> 'in_sync'" in so many words, as the index has it.
            other => format!("status = '{}' and status <> 'in_sync'", other.name()),
        }
    }
}

/// A status as stored, or as [`SHOWN_STATUS`] has it; the table admits no other names.
pub(super) fn status_named(name: &str) -> Result<Status, sqlx::Error> {
    Status::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown lead status {name:?}").into()))
}
