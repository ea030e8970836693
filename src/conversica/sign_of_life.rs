//! Whether Conversica works a lead: it has written to the person, or has planned to. Pure.
//!
//! A request that Conversica accepts is no such sign: a conversation that is not active there takes leads and writes to no person.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::conversica::vocabulary::STAGES;

/// Datetimes that exist only if a message was sent or answered.
const DATES: [&str; 3] = ["firstMessageDate", "lastMessageDate", "lastResponseDate"];

/// Values of `conversationStatus` outside the stage Messaging that show that the person was written to, or soon will be.
const STATUSES: [&str; 8] = [
    "First Message Schedule",
    "First Message Scheduled",
    "Messages Scheduled",
    "Bounced",
    "Unsubscribed",
    "Marked Spam",
    "Listening",
    "Conversation Complete",
];

/// Whether the Lead Updates of a lead, merged, show that it is worked.
pub fn is_worked(picture: &BTreeMap<String, Value>) -> bool {
    let text = |key: &str| picture.get(key).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let is_one_of = |value: &str, known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(value));
    let messaging = STAGES.iter().find(|(stage, _)| *stage == "Messaging").map_or(&[][..], |(_, statuses)| statuses);
    let status = text("conversationStatus");
    DATES.iter().any(|date| !text(date).is_empty())
        || text("conversationStage").eq_ignore_ascii_case("Messaging")
        || is_one_of(status, messaging)
        || is_one_of(status, &STATUSES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn worked(picture: Value) -> bool {
        is_worked(&serde_json::from_value(picture).unwrap())
    }

    #[test]
    fn a_message_or_a_plan_for_one_is_a_sign_of_life() {
        assert!(worked(json!({"conversationStage": "Messaging"})));
        assert!(worked(json!({"conversationStage": "Preparing Lead", "conversationStatus": "First Message Schedule"})));
        assert!(worked(json!({"conversationStatus": "sent message"})));
        assert!(worked(json!({"firstMessageDate": "2026-01-01T00:00:00+00:00"})));
    }

    #[test]
    fn a_lead_that_was_only_taken_or_left_out_is_not_worked() {
        assert!(!worked(json!({})));
        assert!(!worked(json!({"dateAdded": "2026-01-01T00:00:00+00:00", "conversationStage": "Preparing Lead"})));
        assert!(!worked(json!({"conversationStage": "Preparing Lead", "conversationStatus": "Preparing Lead"})));
        assert!(!worked(json!({"conversationStage": "Excluded", "conversationStatus": "Excluded (Rule)"})));
        assert!(!worked(json!({"conversationStage": "Unworkable", "conversationStatus": "No Rep Assignment"})));
        assert!(!worked(json!({"firstMessageDate": null, "conversationStage": 3})));
    }
}
