//! The deliveries of one lead: each attempt with what was sent, what Conversica answered, and how long it took.

use serde_json::{Map, Value};

use super::frame::{ShownMoment, moment};
use crate::console::printable;
use crate::conversica::token::TokenVeil;
use crate::store::outcome::RecordedOutcome;
use crate::store::story::LeadStory;
use crate::story::shown_value;
use chrono::{DateTime, Utc};

/// The newest attempts that a page shows.
const SHOWN: usize = 50;

pub struct ShownAttempt {
    pub at: ShownMoment,
    pub words: &'static str,
    pub class: String,
    pub status: String,
    pub took: String,
    pub answer: String,
    /// Key and value of what was sent.
    pub body: Vec<(String, String)>,
}

/// Newest first.
pub fn attempts(story: &LeadStory, veil: &TokenVeil, now: DateTime<Utc>) -> Vec<ShownAttempt> {
    let newest = story.outcomes.iter().rev().take(SHOWN);
    newest.map(|outcome| shown_attempt(outcome, story, veil, now)).collect()
}

fn shown_attempt(outcome: &RecordedOutcome, story: &LeadStory, veil: &TokenVeil, now: DateTime<Utc>) -> ShownAttempt {
    let body = match outcome.content.as_deref() {
        Some("desired") => story.desired.as_ref(),
        Some("delivered") => story.delivered.as_ref(),
        _ => outcome.body.as_ref(),
    };
    ShownAttempt {
        at: moment(outcome.at, now),
        words: class_words(&outcome.class),
        class: outcome.class.clone(),
        status: outcome.http_status.map(|status| format!("HTTP {status}")).unwrap_or_default(),
        took: outcome.duration_ms.map(|duration| format!("{duration} ms")).unwrap_or_default(),
        answer: printable(&veil.text(outcome.detail.as_deref().unwrap_or_default())).into_owned(),
        body: body.map(lines).unwrap_or_default(),
    }
}

fn lines(body: &Map<String, Value>) -> Vec<(String, String)> {
    body.iter().map(|(key, value)| (key.clone(), shown_value(Some(value)))).collect()
}

fn class_words(class: &str) -> &'static str {
    match class {
        "accepted" => "Accepted",
        "rejected" => "Refused",
        "transient" => "Failed for now",
        "ambiguous" => "No answer: it is unknown whether Conversica has it",
        "halting" => "Refused, and everything was halted",
        _ => "Answered",
    }
}
