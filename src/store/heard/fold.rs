//! What a batch of events comes to: pictures, words about consent, and what people are to be told. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::conversica::consent;
use crate::conversica::consent_word::{Channel, Word};
use crate::conversica::conversation::Conversation;
use crate::conversica::heard::{self, Unreadable};
use crate::conversica::heard_dates::{Dates, own_date_key};
use crate::conversica::lead::LeadId;
use crate::conversica::post::{Kind, Post};
use crate::conversica::withdrawal::{self, NamedLeads, PossibleWithdrawal};
use crate::store::consent::Entry;

/// An event that is to be applied.
#[derive(Debug, Clone)]
pub struct Event {
    pub seq: i64,
    pub kind: Kind,
    /// As our tables know it.
    pub lead: LeadId,
    pub received_at: DateTime<Utc>,
    pub body: Vec<u8>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// An event whose body was read, and searched for what may withdraw consent.
#[derive(Debug, Clone)]
pub struct ExaminedEvent {
    pub event: Event,
    /// By the rules of today.
    read: Result<Post, Unreadable>,
    found: Option<PossibleWithdrawal>,
    /// The leads that it names by their e-mail address alone.
    pub by_email: Vec<LeadId>,
}

impl ExaminedEvent {
    pub fn of(event: Event) -> Self {
        let read = heard::read(event.kind, &event.body);
        let found = match (&event.problem, &read) {
            (Some(problem), _) if problem == heard::TOO_LARGE => withdrawal::in_too_large(event.kind, &event.body),
            (Some(_), _) | (None, Err(_)) => withdrawal::in_unreadable(event.kind, &event.body),
            (None, Ok(post)) => {
                let found = withdrawal::in_readable(post, &words_of(&event, post));
                found.map(|found| with_other_ids(found, post))
            }
        };
        Self { event, read, found, by_email: Vec::new() }
    }

    /// The e-mail addresses that may say whom it is about, where it may withdraw consent and names no lead otherwise.
    pub fn emails_to_find(&self) -> Option<&[String]> {
        let named = &self.found.as_ref()?.named;
        (self.lead().is_none() && named.ids.is_empty() && !named.emails.is_empty()).then_some(&named.emails)
    }

    /// Whether the post is damaged, or only a part of it was kept. One that came to a wrong path may be sound.
    fn is_unread(&self) -> bool {
        self.read.is_err() || self.event.problem.as_deref() == Some(heard::TOO_LARGE)
    }

    /// The lead of a post that could be read.
    fn lead(&self) -> Option<&LeadId> {
        let post = self.read.as_ref().ok().filter(|_| self.event.problem.is_none())?;
        Some(&self.event.lead).filter(|_| self.event.kind != Kind::ChatLead || !post.lead.id.is_empty())
    }

    /// Of a post whose words withdraw consent.
    fn withdrawal(&self, words: &[Word]) -> Option<PossibleOptOut> {
        let post = self.read.as_ref().ok()?;
        let mut channels: Vec<Channel> = words.iter().filter(|word| !word.given).map(|word| word.channel).collect();
        channels.sort();
        channels.dedup();
        if channels.is_empty() {
            return None;
        }
        let found = PossibleWithdrawal { named: NamedLeads::default(), channels, unclear: Vec::new() };
        Some(self.as_possible(with_other_ids(found, post)))
    }

    fn possible_opt_out(&self) -> Option<PossibleOptOut> {
        self.found.clone().map(|found| self.as_possible(found))
    }

    fn as_possible(&self, found: PossibleWithdrawal) -> PossibleOptOut {
        let PossibleWithdrawal { named, mut channels, mut unclear } = found;
        if self.is_unread() {
            // Nobody knows what it says: Conversica is told of no opt-out before an operator has looked.
            unclear.append(&mut channels);
        }
        PossibleOptOut {
            event_seq: self.event.seq,
            lead: self.lead().cloned(),
            named,
            by_email: self.by_email.clone(),
            channels,
            unclear,
            at: self.event.received_at,
        }
    }
}

/// A post names by every `id` and `leadId` in it.
fn with_other_ids(mut found: PossibleWithdrawal, post: &Post) -> PossibleWithdrawal {
    let others: Vec<String> = post.other_ids.iter().filter(|id| !found.named.ids.contains(id)).cloned().collect();
    found.named.ids.extend(others);
    found
}

/// What of these events may withdraw consent.
pub fn possible_opt_outs(events: &[ExaminedEvent]) -> Vec<PossibleOptOut> {
    events.iter().filter_map(ExaminedEvent::possible_opt_out).collect()
}

/// A conversation as it is stored.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub conversation: Conversation,
    pub first_heard_at: Option<DateTime<Utc>>,
    pub last_heard_at: Option<DateTime<Utc>>,
}

/// Somebody is to be told something, once for each occasion.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    pub kind: &'static str,
    pub lead: LeadId,
    pub occasion: String,
    pub at: DateTime<Utc>,
    pub heard_at: DateTime<Utc>,
    /// The lead's `conversationStatus`, `conversationStage` and `leadStatus`.
    pub statuses: [Option<Value>; 3],
}

/// A post that may withdraw consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleOptOut {
    pub event_seq: i64,
    /// The lead of a post that could be read.
    pub lead: Option<LeadId>,
    /// Whom the post names beside it.
    pub named: NamedLeads,
    /// Whom it names by their e-mail address alone.
    pub by_email: Vec<LeadId>,
    pub channels: Vec<Channel>,
    /// Channels whose consent it leaves in doubt: Conversica is told nothing, and nothing is sent.
    pub unclear: Vec<Channel>,
    pub at: DateTime<Utc>,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Folded {
    /// Of every lead that was heard of.
    pub conversations: BTreeMap<LeadId, Stored>,
    /// Of every event: what of it was news, or nothing where it has no picture; or why it cannot be read any more.
    pub effects: Vec<(i64, Result<Option<String>, String>)>,
    pub words: Vec<Entry>,
    pub possible: Vec<PossibleOptOut>,
    /// Posts whose words withdraw consent, and whom they name: the lead of the words may not be known by that name.
    pub withdrawals: Vec<PossibleOptOut>,
    pub alerts: Vec<Alert>,
}

/// The statuses that people are told of.
const TOLD: [(&str, &str); 3] =
    [("hot_lead", "hotLead"), ("action_required", "actionRequired"), ("lead_at_risk", "leadAtRisk")];

/// Takes the events in, in their order. `stored` is what is held of their leads.
pub fn fold(events: &[ExaminedEvent], stored: BTreeMap<LeadId, Stored>) -> Folded {
    let mut folded = Folded { conversations: stored, possible: possible_opt_outs(events), ..Folded::default() };
    for examined in events {
        let event = &examined.event;
        let effect = match &examined.read {
            Err(unreadable) => Err(unreadable.0.clone()),
            Ok(_) if event.kind == Kind::ChatLead => Ok(None),
            Ok(post) => {
                let words = words_of(event, post);
                folded.withdrawals.extend(examined.withdrawal(&words));
                let stored = folded.conversations.entry(event.lead.clone()).or_default();
                let at = event.received_at;
                stored.first_heard_at = Some(stored.first_heard_at.map_or(at, |first| first.min(at)));
                stored.last_heard_at = stored.last_heard_at.max(Some(at));
                if event.kind == Kind::LeadUpdate {
                    let before = stored.conversation.clone();
                    let news = stored.conversation.hear(&post.content, at);
                    folded.words.extend(words.into_iter().map(|word| Entry {
                        lead: event.lead.clone(),
                        word,
                        heard_at: at,
                        event_seq: Some(event.seq),
                    }));
                    let dates = Dates::of(&post.content);
                    let told = TOLD.iter().filter(|(_, key)| is_told(&before, &stored.conversation, key));
                    let alerts = told.map(|(kind, key)| alert(kind, key, event, &stored.conversation, &dates));
                    folded.alerts.extend(alerts);
                    Ok(Some(Value::Object(news).to_string()))
                } else {
                    Ok(None)
                }
            }
        };
        folded.effects.push((event.seq, effect));
    }
    folded
}

fn words_of(event: &Event, post: &Post) -> Vec<Word> {
    match event.kind {
        Kind::LeadUpdate => consent::words(&post.content, event.received_at),
        Kind::Message | Kind::ChatLead => Vec::new(),
    }
}

/// Whether it has become true, or is true of a later date of its own: it has happened again.
fn is_told(before: &Conversation, now: &Conversation, key: &str) -> bool {
    let is_true = |conversation: &Conversation| conversation.picture.get(key) == Some(&Value::Bool(true));
    let own_date = |conversation: &Conversation| own_date_key(key).and_then(|key| conversation.date(key));
    is_true(now) && (!is_true(before) || own_date(before).is_some() && own_date(before) < own_date(now))
}

fn alert(kind: &'static str, key: &str, event: &Event, now: &Conversation, dates: &Dates<'_>) -> Alert {
    let date = own_date_key(key).and_then(|key| dates.of_key(key)).or_else(|| now.date(key));
    let when = date.map_or_else(|| event.seq.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let LeadId { id, client_id } = &event.lead;
    Alert {
        kind,
        lead: event.lead.clone(),
        occasion: format!("{kind}/{id}/{client_id}/{when}"),
        at: date.unwrap_or(event.received_at),
        heard_at: event.received_at,
        statuses: ["conversationStatus", "conversationStage", "leadStatus"].map(|key| now.picture.get(key).cloned()),
    }
}

impl Alert {
    /// The document that is handed over. Of the person it says no more than the id; who looks after them is read from the
    /// Lead object that was delivered, if there is one.
    pub fn body(&self, delivered: Option<&str>) -> String {
        let delivered: Value = delivered.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        let [conversation_status, conversation_stage, lead_status] = &self.statuses;
        json!({
            "kind": self.kind,
            "id": self.lead.id,
            "client_id": self.lead.client_id,
            "at": self.at,
            "heard_at": self.heard_at,
            "conversation_status": conversation_status,
            "conversation_stage": conversation_stage,
            "lead_status": lead_status,
            "rep_id": delivered["repId"],
            "rep_name": delivered["repName"],
            "rep_email": delivered["repEmail"],
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, body: Value) -> Event {
        Event {
            seq,
            kind: Kind::LeadUpdate,
            lead: LeadId { id: "7".into(), client_id: String::new() },
            received_at: DateTime::from_timestamp(1_800_000_000 + seq, 0).unwrap(),
            body: body.to_string().into_bytes(),
            problem: None,
        }
    }

    fn folded(events: Vec<Event>) -> Folded {
        let examined: Vec<ExaminedEvent> = events.into_iter().map(ExaminedEvent::of).collect();
        fold(&examined, BTreeMap::new())
    }

    fn occasions(bodies: &[Value]) -> Vec<String> {
        let events: Vec<Event> = (1..).zip(bodies).map(|(seq, body)| event(seq, body.clone())).collect();
        folded(events).alerts.into_iter().map(|alert| alert.occasion).collect()
    }

    #[test]
    fn a_lead_that_is_hot_is_told_once_and_again_when_it_is_hot_again() {
        let hot = |day: u8| json!({"id": "7", "hotLead": true, "hotLeadDate": format!("2026-01-0{day}T00:00:00Z")});
        let occasion = |day: u8| format!("hot_lead/7//2026-01-0{day}T00:00:00Z");
        assert_eq!(occasions(&[hot(1), hot(1), hot(2), hot(1)]), [occasion(1), occasion(2)]);
        assert_eq!(occasions(&[hot(2), hot(1)]), [occasion(2)]);
        let redated = json!({"id": "7", "hotLeadDate": "2026-01-03T00:00:00Z"});
        assert_eq!(occasions(&[hot(1), redated]), [occasion(1), occasion(3)], "only what changed was posted");
    }

    #[test]
    fn what_has_no_date_is_told_when_it_becomes_true() {
        let at_risk = |yes: bool| json!({"id": "7", "leadAtRisk": yes});
        let told = occasions(&[at_risk(true), at_risk(true), at_risk(false), at_risk(true)]);
        assert_eq!(told, ["lead_at_risk/7//1", "lead_at_risk/7//4"]);
    }

    #[test]
    fn what_cannot_be_read_any_more_says_why_and_blocks_nobody() {
        let mut broken = event(1, json!({"id": "7"}));
        broken.body = b"{".to_vec();
        let folded = folded(vec![broken, event(2, json!({"id": "7", "hotLead": true}))]);
        assert!(folded.effects[0].1.as_ref().is_err_and(|why| why.contains("not valid JSON")));
        assert_eq!(folded.effects[1].1.as_ref().unwrap().as_deref(), Some("{\"hotLead\":true}"));
    }
}
