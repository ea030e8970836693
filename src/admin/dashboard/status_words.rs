//! The status of a lead in a few words, for people who do not know the names of statuses. Pure.

use crate::rules::lead_status::LeadStatus;

pub const fn status_words(status: LeadStatus) -> &'static str {
    match status {
        LeadStatus::InSync => "Up to date",
        LeadStatus::Pending => "To be sent",
        LeadStatus::InFlight => "Being sent",
        LeadStatus::Retrying => "Failed for now, tried again",
        LeadStatus::Held => "Waits for approval",
        LeadStatus::Invalid => "Row is incomplete",
        LeadStatus::Rejected => "Refused by Conversica",
        LeadStatus::Exhausted => "Failed for too long",
        LeadStatus::Gone => "No longer in the CRM",
        LeadStatus::Assumed => "Assumed known, never sent",
        LeadStatus::Suppressed => "Opted out elsewhere",
    }
}
