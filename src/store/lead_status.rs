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

/// In SQL, over `lead`: everything but the many leads that need nothing. It is the condition of index `lead_unsettled`, word for
/// word: a statement without it reads the whole table, whatever else it asks of `status`.
pub(crate) const UNSETTLED: &str = "status <> 'in_sync'";

impl LeadStatus {
    /// In SQL: the rows of `lead` that are shown with this status, found by an index if there is one.
    pub(crate) fn condition(self) -> String {
        match self {
            LeadStatus::InSync => "status || '' = 'in_sync' and assumed_at is null".to_owned(),
            LeadStatus::Assumed => IS_ASSUMED.to_owned(),
            other => format!("status = '{}' and {UNSETTLED}", other.name()),
        }
    }
}

/// A stored status, or one from [`SHOWN_STATUS`]. The table admits no other names.
pub(crate) fn status_named(name: &str) -> Result<LeadStatus, sqlx::Error> {
    LeadStatus::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown lead status {name:?}").into()))
}
