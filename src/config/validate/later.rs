//! Settings of the contract that this version knows and cannot honour yet. Those that keep people from being written to
//! are refused, for a guard that is set and does nothing is worse than none; the others get a warning.

use super::Report;
use crate::config::{Changes, ConversationChanges, OnAmbiguous, OnDelete, Settings};

pub fn check(settings: &Settings, report: &mut Report<'_>) {
    let (source, delivery, safety) = (&settings.source, &settings.delivery, &settings.safety);
    let refused = [
        ("source.changes", source.changes == Changes::Triggers, "write changes = \"poll\""),
        ("source.on_delete", source.on_delete == OnDelete::StopMessaging, "write on_delete = \"ignore\""),
        ("delivery.on_ambiguous", delivery.on_ambiguous != OnAmbiguous::Resend, "write on_ambiguous = \"resend\""),
        ("safety.new_leads_per_hour", safety.new_leads_per_hour > 0, "remove the key, and keep approve_above low"),
        ("safety.new_leads_per_day", safety.new_leads_per_day > 0, "remove the key, and keep approve_above low"),
        (
            "safety.conversation_changes",
            safety.conversation_changes == ConversationChanges::Hold,
            "write conversation_changes = \"send\"",
        ),
        ("conversica.test_lead_token", settings.conversica.test_lead_token.is_some(), "remove the key"),
    ];
    for (key, set, cure) in refused {
        if set {
            report.problem(
                key,
                format!("`{key}` asks for something that this version cannot do yet"),
                format!("For now, {cure}."),
            );
        }
    }
    if settings.receive.is_some() {
        report
            .warning("receive.listen", "this version has no receiver yet: nothing that Conversica sends back is taken");
    }
}
