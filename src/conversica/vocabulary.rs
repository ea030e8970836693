//! The values that Conversica publishes for its statuses. The vocabulary is open: unknown values are kept and counted.

use serde_json::{Map, Value};

/// `leadStatus`.
pub const LEAD_STATUSES: [&str; 7] =
    ["Hot Lead", "Lead to Review", "Further Action", "Satisfied (New)", "Disqualified", "No Further Action", "None"];

/// `conversationStage`, and the `conversationStatus` values of each.
pub const STAGES: [(&str, &[&str]); 7] = [
    ("Preparing Lead", &["Preparing Lead", "First Message Schedule"]),
    ("Messaging", &["Sent Message", "Out of Office", "Checking Back Later", "Received Response", "Message Scheduled"]),
    ("Excluded", &["Excluded (Lead Source)", "Excluded (Rep)", "Excluded (Lead Status)", "Excluded (Rule)"]),
    (
        "Unworkable",
        &[
            "No Rep Assignment",
            "Duplicate (Internal)",
            "Duplicate (CRM)",
            "Duplicate (External)",
            "Invalid Email",
            "Malformed Email",
            "No Email",
            "Bounced",
        ],
    ),
    ("Lead Stopped", &["Unsubscribed", "Marked Spam", "Do Not Email", "Lead Requested Stop", "No Longer at Company"]),
    (
        "Client Stopped",
        &[
            "Manager Stopped",
            "Rep Stopped",
            "Admin Stopped",
            "Inactive Service",
            "CRM Stopped",
            "Client Requested Stop",
        ],
    ),
    (
        "Conversica Stopped",
        &[
            "Listening",
            "Pause Limit Exceeded",
            "Marked Sold",
            "Conversation Complete",
            "System Stopped",
            "Service Not Active",
        ],
    ),
];

/// Whether Conversica does not work leads of that `conversationStage`: it excludes them, cannot write to them, or has stopped.
pub fn is_not_worked(stage: &str) -> bool {
    let stage = stage.to_ascii_lowercase();
    stage == "excluded" || stage == "unworkable" || stage == "stopped" || stage.ends_with(" stopped")
}

/// `action` of a Message.
pub const ACTIONS: [&str; 2] = ["sent", "received"];

/// The keys of a Lead Update or a Message whose values are outside the published vocabulary.
pub fn outside(content: &Map<String, Value>) -> Vec<&'static str> {
    let is_unknown = |key: &str, known: &dyn Fn(&str) -> bool| {
        content.get(key).and_then(Value::as_str).is_some_and(|value| !known(value))
    };
    let mut outside = Vec::new();
    if is_unknown("leadStatus", &|value| LEAD_STATUSES.contains(&value)) {
        outside.push("leadStatus");
    }
    if is_unknown("conversationStage", &|value| STAGES.iter().any(|(stage, _)| *stage == value)) {
        outside.push("conversationStage");
    }
    if is_unknown("conversationStatus", &|value| STAGES.iter().any(|(_, statuses)| statuses.contains(&value))) {
        outside.push("conversationStatus");
    }
    if is_unknown("action", &|value| ACTIONS.contains(&value)) {
        outside.push("action");
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_are_not_worked_that_are_left_out_unworkable_or_stopped() {
        let not_worked: Vec<_> = STAGES.iter().map(|(stage, _)| *stage).filter(|stage| is_not_worked(stage)).collect();
        assert_eq!(not_worked, ["Excluded", "Unworkable", "Lead Stopped", "Client Stopped", "Conversica Stopped"]);
        assert!(is_not_worked("excluded") && is_not_worked("Stopped") && !is_not_worked("Unstopped"));
    }

    #[test]
    fn what_is_published_is_inside_and_what_is_not_is_named_by_its_key() {
        for (stage, statuses) in STAGES {
            for status in statuses {
                let content = serde_json::json!({"conversationStage": stage, "conversationStatus": status});
                assert!(outside(content.as_object().unwrap()).is_empty(), "{stage}: {status}");
            }
        }
        let content = serde_json::json!({"leadStatus": "Lukewarm", "conversationStage": "Musing", "action": "sent"});
        assert_eq!(outside(content.as_object().unwrap()), ["leadStatus", "conversationStage"]);
    }
}
