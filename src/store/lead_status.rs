//! The status of a lead: its names, and how it is read from table `lead`.
//!
//! After a baseline, a million assumed leads stay out of the small index over unfinished leads: their stored status is 'in_sync',
//! and `assumed_at` tells them apart. Every statement that reads or filters a status uses [`SHOWN_STATUS`] or
//! [`LeadStatus::condition`].

use crate::rules::lead_status::LeadStatus;

/// In SQL: the status of a row of `lead`, as it is shown.
pub(crate) const SHOWN_STATUS: &str =
    "case when lead.status = 'in_sync' and lead.assumed_at is not null then 'assumed' else lead.status end";

/// In SQL, over `lead`: shown as assumed. The text must match the condition of index `lead_assumed`.
pub(crate) const IS_ASSUMED: &str = "status = 'in_sync' and assumed_at is not null";

impl LeadStatus {
    /// In SQL: the rows of `lead` that are shown with this status, found by an index if there is one.
    pub(crate) fn condition(self) -> String {
        match self {
            LeadStatus::InSync => "status || '' = 'in_sync' and assumed_at is null".to_owned(),
            LeadStatus::Assumed => IS_ASSUMED.to_owned(),
            // "status <> 'in_sync'" is written out, to match the condition of the index.
            other => format!("status = '{}' and status <> 'in_sync'", other.name()),
        }
    }
}

/// A stored status, or one from [`SHOWN_STATUS`]. The table admits no other names.
pub(crate) fn status_named(name: &str) -> Result<LeadStatus, sqlx::Error> {
    LeadStatus::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown lead status {name:?}").into()))
}
