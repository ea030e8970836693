//! The history of a lead: changes in the CRM, requests with their reasons, and answers.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::console::{printable, wrapped};
use crate::rules::hold_reason::advice;
use crate::store::decision::RecordedDecision;
use crate::store::outcome::RecordedOutcome;
use crate::store::story::LeadStory;

/// Events in the order of their times; each text is already safe for a terminal.
pub fn history(mut events: Vec<(DateTime<Utc>, String)>) -> String {
    let mut text = "\nWhat happened\n".to_owned();
    // Stable: events of the same time keep the order of the journal.
    events.sort_by_key(|(at, _)| *at);
    for (at, event) in events {
        let _ = writeln!(text, "  {}  {}", moment(at), event);
    }
    text
}

pub fn moment(at: DateTime<Utc>) -> impl std::fmt::Display {
    at.format("%F %T UTC")
}

/// The events in the state. It keeps only the newest change of the row.
pub fn of_story(story: &LeadStory, width: usize) -> Vec<(DateTime<Utc>, String)> {
    let mut changed = "its content last changed, as the CRM has it".to_owned();
    if !story.invalid_reasons.is_empty() {
        changed.push_str(": since then the row makes no valid lead");
        changed.push_str(&wrapped(&story.invalid_reasons.join("\n"), width, 6));
    }
    let mut events = vec![(story.changed_at, changed)];
    if let (Some(at), Some(reason)) = (story.held_at, &story.hold_reason) {
        let held = format!("waiting for approval: {}", printable(reason));
        events.push((at, held + &wrapped(advice(reason), width, 6)));
    }
    let attempt = |outcome: &RecordedOutcome| {
        (outcome.at, printable(&attempt(outcome, story)).into_owned() + &earlier(outcome, story, width))
    };
    events.extend(story.outcomes.iter().map(attempt));
    events.extend(story.decisions.iter().map(|decided| (decided.at, decision(decided))));
    events.extend(story.first_contact_at.map(|at| (at, "Conversica first took it, or may have".to_owned())));
    if let Some(at) = story.assumed_at {
        events.push((at, "assumed known to Conversica, as a baseline: nothing was sent".to_owned()));
    }
    // The journal has a retention time, the lead has none.
    if let Some(at) = story.delivered_at.filter(|at| story.outcomes.iter().all(|outcome| outcome.at != *at)) {
        events.push((at, "Conversica accepted it; the attempt is no longer in the journal".to_owned()));
    }
    events.extend(story.gone_at.map(|at| (at, "its row was missing from the source".to_owned())));
    events.extend(story.claimed_at.map(|at| (at, "sent; the answer is awaited".to_owned())));
    events
}

/// The differences between an earlier content and the present one.
fn earlier(outcome: &RecordedOutcome, story: &LeadStory, width: usize) -> String {
    let (Some(body), Some(desired)) = (&outcome.body, &story.desired) else { return String::new() };
    let differs = body.iter().filter(|(key, value)| desired.get(*key) != Some(*value));
    let lines: Vec<String> = differs.map(|(key, value)| format!("{key}: {value}")).collect();
    wrapped(&lines.join("\n"), width, 6)
}

/// An operator's decision.
fn decision(decided: &RecordedDecision) -> String {
    let did = match decided.action.as_str() {
        "approve" => "approved",
        "baseline" => "taken as delivered, nothing sent (baseline)",
        "retry" => "queued again",
        other => other,
    };
    let others = match decided.leads - 1 {
        ..=0 => String::new(),
        1 => ", with 1 other".to_owned(),
        others => format!(", with {others} others"),
    };
    let reason = decided.reason.as_ref().map(|reason| format!("; held for {reason}")).unwrap_or_default();
    let comment = decided.comment.as_ref().map(|comment| format!(": “{comment}”")).unwrap_or_default();
    printable(&format!("{did} by {}{others}{reason}{comment}", decided.who)).into_owned()
}

fn attempt(outcome: &RecordedOutcome, story: &LeadStory) -> String {
    let is_new = story.first_contact_at.is_none_or(|first| outcome.at <= first);
    let why = if is_new { "first contact" } else { "update" };
    let content = match outcome.content.as_deref() {
        Some("desired") => ", with what it should hold now",
        Some("delivered") if story.accepted().is_some() => ", with what was accepted last",
        Some(_) => ", with an earlier content",
        None => "",
    };
    let mut text = format!("attempt {} ({why}{content}): {}", outcome.attempt, outcome.class);
    if let Some(status) = outcome.http_status {
        let _ = write!(text, ", status {status}");
    }
    if let Some(duration) = outcome.duration_ms {
        let _ = write!(text, ", {duration} ms");
    }
    if let Some(detail) = &outcome.detail {
        let _ = write!(text, ": {detail}");
    }
    text
}
