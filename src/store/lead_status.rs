//! The status of a lead: its names, and how it is read from table `lead`.
//!
//! A million leads that a baseline settled stay out of the small index over leads that are under way: their stored status is
//! 'in_sync', and `assumed_at` tells them apart. Every statement that reads or filters a status goes by [`SHOWN_STATUS`] and
//! [`Status::condition`].

use crate::rules::lead_status::LeadStatus;

/// In SQL: the status of a row of `lead`, as it is shown.
pub(crate) const SHOWN_STATUS: &str =
    "case when lead.status = 'in_sync' and lead.assumed_at is not null then 'assumed' else lead.status end";

/// In SQL, over `lead`: shown as assumed. In the words of the index `lead_assumed`.
pub(crate) const IS_ASSUMED: &str = "status = 'in_sync' and assumed_at is not null";

impl LeadStatus {
    /// In SQL: the rows of `lead` that are shown with this status, found by an index where one knows them.
    pub(crate) fn condition(self) -> String {
        match self {
            LeadStatus::InSync => "status || '' = 'in_sync' and assumed_at is null".to_owned(),
            LeadStatus::Assumed => IS_ASSUMED.to_owned(),
            // "status <> 'in_sync'" in so many words, as the index has it.
            other => format!("status = '{}' and status <> 'in_sync'", other.name()),
        }
    }
}

/// A status as stored, or as [`SHOWN_STATUS`] has it; the table admits no other names.
pub(crate) fn status_named(name: &str) -> Result<LeadStatus, sqlx::Error> {
    LeadStatus::from_name(name).ok_or_else(|| sqlx::Error::Decode(format!("unknown lead status {name:?}").into()))
}
