//! The part of a lead's history that Conversica posted: the posts, their combined content, and the opt-outs in force.

use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::history::moment;
use crate::console::{printable, wrapped};
use crate::conversica::consent::{HeardWord, WithdrawnConsent};
use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::heard_dates::datetime;
use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::conversica::{heard, lenient};
use crate::store::consent::{self, LedgerEntry};
use crate::store::heard::reading::{self, HeardEvent};
use crate::store::possible_opt_out::{self, PossibleOptOutShown};
use crate::store::state_db::StateDb;
use crate::store::told::{self, OnItsWay, ToldAlert};

/// Everything that Conversica posted about a lead.
#[derive(Debug, Default)]
pub struct LeadHearing {
    heard: Vec<HeardEvent>,
    picture: Map<String, Value>,
    ledger: Vec<LedgerEntry>,
    standing: WithdrawnConsent,
    /// Consent from the ledger alone, without damaged posts that wait for the operator.
    certain: WithdrawnConsent,
    possible: Vec<PossibleOptOutShown>,
    /// Events that are not in the CRM yet.
    writeback: HashMap<i64, OnItsWay>,
    alerts: Vec<ToldAlert>,
    /// `[consent] keep_opt_outs`.
    keeps_opt_outs: bool,
}

/// A key that the program sends by the person's choice, whatever the CRM says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptKey {
    pub key: &'static str,
    pub value: bool,
    pub channel: ConsentChannel,
    pub since: DateTime<Utc>,
}

/// One Message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidMessage {
    pub at: DateTime<Utc>,
    /// Whether the lead wrote it; otherwise the assistant did.
    pub by_lead: bool,
    pub subject: String,
    pub body: String,
}

impl LeadHearing {
    pub async fn of(state: &StateDb, lead: &LeadId, keeps_opt_outs: bool) -> Result<Self, sqlx::Error> {
        let (heard, picture) = reading::of_lead(state, lead).await?;
        let mut ledger = consent::of_lead(state, lead).await?;
        // In the order in which the entries were recorded.
        let words: Vec<HeardWord> = ledger.iter().map(LedgerEntry::heard_word).collect();
        let certain = WithdrawnConsent::of(&words);
        ledger.sort_by_key(|entry| entry.word.at);
        let standing = consent::stands(state, std::slice::from_ref(lead)).await?.remove(lead).unwrap_or_default();
        let possible = possible_opt_out::of_lead(state, lead).await?;
        let (writeback, alerts) = (told::writeback(state, lead).await?, told::alerts(state, lead).await?);
        Ok(Self { heard, picture, ledger, standing, certain, possible, writeback, alerts, keeps_opt_outs })
    }

    pub fn is_nothing(&self) -> bool {
        self.heard.is_empty() && self.ledger.is_empty() && self.possible.is_empty()
    }

    /// For scripts.
    pub fn add_to(&self, document: &mut Value, desired: Option<&Map<String, Value>>) {
        let heard = self.heard.iter().map(|heard| {
            json!({
                "at": heard.received_at,
                "kind": heard.kind.name(),
                "body": posted(heard),
                "seq": heard.seq,
                "repeats": heard.repeats,
                "applied_at": heard.applied_at,
                "effect": heard.effect,
                "notes": notes(heard),
                "writeback": self.writeback.get(&heard.seq),
            })
        });
        let ledger = self.ledger.iter().map(|LedgerEntry { word, heard_at, event_seq, .. }| {
            json!({
                "channel": word.channel.name(),
                "given": word.given,
                "at": word.at,
                "heard_at": heard_at,
                "source": source(*event_seq),
                "event_seq": event_seq,
            })
        });
        let overrides: Vec<Value> = self
            .kept(desired)
            .iter()
            .map(|KeptKey { key, value, since, .. }| json!({"key": key, "value": value, "since": since}))
            .collect();
        document["heard"] = heard.collect();
        document["conversation"] = json!(self.picture);
        document["messages"] = self.messages().into_iter().map(|(_, message)| message).collect();
        document["consent"] = json!({"ledger": ledger.collect::<Vec<_>>(), "standing": self.standing});
        document["possible_opt_outs"] = json!(self.possible);
        document["overrides"] = json!(overrides);
        document["alerts"] = json!(self.alerts);
    }

    /// The Message objects in the order of their dates; a message without a readable date counts from its arrival.
    fn messages(&self) -> Vec<(DateTime<Utc>, Value)> {
        let messages = self.heard.iter().filter(|heard| heard.kind == PostKind::Message);
        let mut messages: Vec<_> = messages.map(|heard| (said_at(heard), posted(heard))).collect();
        messages.sort_by_key(|(at, _)| *at);
        messages
    }

    /// The combined keys of all Lead Updates.
    pub fn picture(&self) -> impl Iterator<Item = (&str, String)> {
        self.picture.iter().map(|(key, value)| (key.as_str(), plain(value)))
    }

    /// The Messages for display: time, sender, subject and body.
    pub fn conversation(&self) -> Vec<SaidMessage> {
        let text = |message: &Value, key: &str| message.get(key).map(plain).unwrap_or_default();
        let said = self.messages().into_iter().map(|(at, message)| SaidMessage {
            at,
            by_lead: text(&message, "action") == "received",
            subject: text(&message, "subject"),
            body: text(&message, "body"),
        });
        said.collect()
    }

    /// Channels of certain opt-outs, and since when.
    pub fn opted_out(&self) -> Vec<(ConsentChannel, DateTime<Utc>)> {
        let since = |channel: ConsentChannel| {
            let standing = if self.standing.is_unsettled(channel) { self.certain } else { self.standing };
            Some((channel, standing.get(channel)?))
        };
        ConsentChannel::ALL.into_iter().filter_map(since).collect()
    }

    /// Damaged posts that may be an opt-out, each with its number and the channel, while they wait for the operator.
    pub fn possible_opt_outs(&self) -> Vec<(i64, ConsentChannel)> {
        let waiting = self.possible.iter().filter(|possible| possible.settled_at.is_none());
        waiting
            .filter_map(|possible| Some((possible.event_seq, ConsentChannel::from_name(&possible.channel)?)))
            .collect()
    }

    /// The keys that the program sends by the person's choice, whatever the CRM says.
    pub fn kept(&self, desired: Option<&Map<String, Value>>) -> Vec<KeptKey> {
        let keys = [
            ("optOut", ConsentChannel::Email, true),
            ("smsOptOut", ConsentChannel::Sms, true),
            ("smsOptIn", ConsentChannel::Sms, false),
        ];
        let stands = keys.into_iter().filter_map(|(key, channel, value)| {
            let since = self.standing.get(channel).filter(|_| self.keeps_opt_outs)?;
            desired.is_some_and(|desired| desired.contains_key(key)).then_some(KeptKey { key, value, channel, since })
        });
        stands.collect()
    }

    /// The present state, for people; blank without any post.
    pub fn standing_text(&self, desired: Option<&Map<String, Value>>) -> String {
        let mut text = String::new();
        if !self.picture.is_empty() {
            text.push_str("\nWhat Conversica says of it\n");
            let width = self.picture.keys().map(|key| key.chars().count()).max().unwrap_or(0);
            for (key, value) in &self.picture {
                let _ = writeln!(text, "  {:width$}  {}", printable(key), printable(&plain(value)));
            }
        }
        for channel in ConsentChannel::ALL {
            if let Some(since) = self.standing.get(channel) {
                let _ = writeln!(text, "\nOPTED OUT of {} on {}", channel.name(), moment(since));
            }
        }
        for possible in self.possible.iter().filter(|possible| possible.settled_at.is_none()) {
            let PossibleOptOutShown { event_seq, channel, decision, .. } = possible;
            if decision.is_some() {
                text.push_str("\nHELD: nothing is sent to this lead until an operator has looked\n");
            }
            let _ = writeln!(
                text,
                "  the damaged post {event_seq} may be an opt-out of {channel}: look with `received show {event_seq}`, then `received \
                 confirm {event_seq}` or `received dismiss {event_seq}`"
            );
        }
        for KeptKey { key, value, since, .. } in self.kept(desired) {
            let _ = writeln!(
                text,
                "  kept: {key} is sent as {value} whatever the CRM says; they opted out on {}",
                moment(since)
            );
        }
        text
    }

    /// The events with their times. A text may have several lines, of at most `width` columns where possible.
    pub fn events(&self, width: usize) -> Vec<(DateTime<Utc>, String)> {
        let heard = |heard: &HeardEvent| {
            let mut text = told(heard, width);
            for note in notes(heard) {
                let _ = write!(text, "\n      (note: {note})");
            }
            if heard.repeats > 0 {
                let last = heard.repeated_at.map(|at| format!(", last at {}", moment(at))).unwrap_or_default();
                let _ = write!(text, "\n      (came again: {}{last})", heard.repeats);
            }
            if let Some(waits) = self.writeback.get(&heard.seq) {
                text.push_str(&wrapped(&on_its_way(waits), width, 6));
            }
            (said_at(heard), text)
        };
        let mut events: Vec<(DateTime<Utc>, String)> = self.heard.iter().map(heard).collect();
        events.extend(self.ledger.iter().map(|LedgerEntry { word, event_seq, .. }| {
            let (channel, who) = (word.channel.name(), source(*event_seq));
            let what = if word.given { "consent given" } else { "consent withdrawn" };
            (word.at, format!("{what} for {channel}, as {who} says"))
        }));
        events.extend(self.possible.iter().map(|possible| {
            let PossibleOptOutShown { event_seq, channel, decision, settled_at, .. } = possible;
            let settled = decision.as_ref().zip(*settled_at).map(|(said, at)| format!(" ({said} at {})", moment(at)));
            let settled = settled.unwrap_or_default();
            (possible.at, format!("the damaged post {event_seq} may be an opt-out of {channel}{settled}"))
        }));
        events.extend(self.alerts.iter().map(|alert| (alert.at, people_told(alert))));
        events
    }
}

fn source(event_seq: Option<i64>) -> &'static str {
    if event_seq.is_some() { "conversica" } else { "crm" }
}

/// The posted object.
fn posted(heard: &HeardEvent) -> Value {
    let object = lenient::read_object(&heard.body).ok();
    object.map(|object| Value::Object(object.members.into_iter().collect())).unwrap_or_default()
}

/// The damaged and the omitted parts of a post.
fn notes(heard: &HeardEvent) -> Vec<String> {
    heard::read(heard.kind, &heard.body).map(|post| post.notes).unwrap_or_default()
}

/// A Message counts from its date, however late it arrived.
fn said_at(heard: &HeardEvent) -> DateTime<Utc> {
    let date = (heard.kind == PostKind::Message).then(|| posted(heard)["date"].as_str().and_then(datetime)).flatten();
    date.unwrap_or(heard.received_at)
}

/// Statuses that appear as a phrase when they are true.
const FLAGS: [(&str, &str); 6] = [
    ("hotLead", "hot lead"),
    ("actionRequired", "action required"),
    ("leadAtRisk", "lead at risk"),
    ("doNotEmail", "do not e-mail"),
    ("smsOptOut", "no text messages"),
    ("smsOptIn", "text messages are welcome"),
];

/// An event that waits to be written to the CRM.
fn on_its_way(waits: &OnItsWay) -> String {
    let why = waits.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    match (waits.status.as_str(), waits.attempts) {
        ("stopped", tries) => {
            format!(
                "(not in the CRM: stopped after {tries} tries{why}; after fixing it: conversica-sync writeback retry)"
            )
        }
        (_, 0) => "(not in the CRM yet: waits)".to_owned(),
        (_, tries) => {
            format!("(not in the CRM yet: tried {tries} times{why}; tried again at {})", moment(waits.due_at))
        }
    }
}

/// The result of an alert: sent in every way, or the result of each way.
fn people_told(alert: &ToldAlert) -> String {
    let ways: HashMap<String, String> =
        alert.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
    let came_to = match &alert.detail {
        Some(detail) if alert.done_at.is_none() => format!("; the newest of {} tries: {detail}", alert.attempts),
        Some(detail) => format!(": {detail}"),
        None => String::new(),
    };
    let what = match alert.done_at {
        Some(_) if ways.is_empty() && alert.detail.is_some() => {
            "no channel of [alerts] is told of this kind".to_owned()
        }
        Some(at) if ways.values().all(|way| way == crate::alert::channel::TOLD) => format!("told at {}", moment(at)),
        Some(at) => format!("given up at {}{came_to}", moment(at)),
        None => format!("not told yet{came_to}"),
    };
    printable(&format!("alert {}: {what}", alert.kind)).into_owned()
}

fn told(heard: &HeardEvent, width: usize) -> String {
    let Ok(post) = heard::read(heard.kind, &heard.body) else { return "heard what can no longer be read".to_owned() };
    let text = |key: &str| post.content.get(key).map(plain).map(|text| printable(&text).into_owned());
    if heard.kind == PostKind::Message {
        let who = match text("action").as_deref() {
            Some("sent") => "the assistant wrote".to_owned(),
            Some("received") => "the lead wrote".to_owned(),
            other => format!("a message ({})", other.unwrap_or_default()),
        };
        let body = post.content.get("body").map(plain).unwrap_or_default();
        return format!("{who}: {}{}", text("subject").unwrap_or_default(), wrapped(&body, width, 6));
    }
    let mut parts = Vec::new();
    match (text("conversationStage"), text("conversationStatus")) {
        (Some(stage), Some(status)) => parts.push(format!("{stage} → {status}")),
        (stage, status) => parts.extend(stage.or(status)),
    }
    parts.extend(text("leadStatus").map(|status| format!("lead status {status}")));
    for (key, words) in FLAGS {
        match post.content.get(key) {
            Some(Value::Bool(true)) => parts.push(words.to_owned()),
            Some(Value::Bool(false)) => parts.push(format!("{key} false")),
            _ => {}
        }
    }
    let discovered = post.content.iter().filter(|(key, _)| key.starts_with("discovered"));
    parts.extend(discovered.map(|(key, value)| format!("{} {}", printable(key), printable(&plain(value)))));
    if parts.is_empty() {
        parts.push("dates".to_owned());
    }
    let stale = heard.effect.as_ref().is_some_and(Map::is_empty);
    format!("heard: {}{}", parts.join(", "), if stale { " (nothing new)" } else { "" })
}

/// A text without its quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
