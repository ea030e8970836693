//! The effects of a batch of events: conversation pictures, withdrawals and grants of consent, and alerts. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::conversica::consent;
use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::conversation::HeardConversation;
use crate::conversica::heard::{self, UnreadablePost};
use crate::conversica::heard_dates::{HeardDates, own_date_key};
use crate::conversica::lead::LeadId;
use crate::conversica::post::{PostKind, ReceivedPost};
use crate::conversica::withdrawal::{self, NamedLeads, PossibleWithdrawal};
use crate::store::consent::LedgerEntry;

/// An event to apply.
#[derive(Debug, Clone)]
pub struct PendingEvent {
    pub seq: i64,
    pub kind: PostKind,
    /// The lead as table `lead` names it.
    pub lead: LeadId,
    pub received_at: DateTime<Utc>,
    pub body: Vec<u8>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// An event whose body was read, and searched for withdrawals of consent.
#[derive(Debug, Clone)]
pub struct ExaminedEvent {
    pub event: PendingEvent,
    /// Read by the present rules.
    read: Result<ReceivedPost, UnreadablePost>,
    found: Option<PossibleWithdrawal>,
    /// The leads that the post names by their e-mail address alone.
    pub by_email: Vec<LeadId>,
}

impl ExaminedEvent {
    pub fn of(event: PendingEvent) -> Self {
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

    /// The e-mail addresses to search for, if the post may withdraw consent and names no lead otherwise.
    pub fn emails_to_find(&self) -> Option<&[String]> {
        let named = &self.found.as_ref()?.named;
        (self.lead().is_none() && named.ids.is_empty() && !named.emails.is_empty()).then_some(&named.emails)
    }

    /// The lead of a readable post.
    fn lead(&self) -> Option<&LeadId> {
        let post = self.read.as_ref().ok().filter(|_| self.event.problem.is_none())?;
        Some(&self.event.lead).filter(|_| self.event.kind != PostKind::ChatLead || !post.lead.id.is_empty())
    }

    /// The withdrawal of consent in the post's `words`, if there is one.
    fn withdrawal(&self, words: &[ChannelWord]) -> Option<PossibleOptOut> {
        let post = self.read.as_ref().ok()?;
        let mut channels: Vec<ConsentChannel> =
            words.iter().filter(|word| !word.given).map(|word| word.channel).collect();
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
        let PossibleWithdrawal { named, channels, unclear } = found;
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

/// A post names leads by every `id` and `leadId` in it.
fn with_other_ids(mut found: PossibleWithdrawal, post: &ReceivedPost) -> PossibleWithdrawal {
    let others: Vec<String> = post.other_ids.iter().filter(|id| !found.named.ids.contains(id)).cloned().collect();
    found.named.ids.extend(others);
    found
}

/// The events that may withdraw consent.
pub fn possible_opt_outs(events: &[ExaminedEvent]) -> Vec<PossibleOptOut> {
    events.iter().filter_map(ExaminedEvent::possible_opt_out).collect()
}

/// A conversation as it is stored.
#[derive(Debug, Clone, Default)]
pub struct FoldedConversation {
    pub conversation: HeardConversation,
    pub first_heard_at: Option<DateTime<Utc>>,
    pub last_heard_at: Option<DateTime<Utc>>,
}

/// An alert to send, once for each occasion.
#[derive(Debug, Clone, PartialEq)]
pub struct RaisedAlert {
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
    /// The lead of a readable post.
    pub lead: Option<LeadId>,
    /// Other leads that the post names.
    pub named: NamedLeads,
    /// Leads that the post names by their e-mail address alone.
    pub by_email: Vec<LeadId>,
    pub channels: Vec<ConsentChannel>,
    /// Channels whose consent is in doubt: nothing is sent, and Conversica is not told of a withdrawal.
    pub unclear: Vec<ConsentChannel>,
    pub at: DateTime<Utc>,
}

/// The writes that a batch needs.
#[derive(Debug, Default)]
pub struct FoldedEvents {
    /// For every lead that the batch is about.
    pub conversations: BTreeMap<LeadId, FoldedConversation>,
    /// For every event: its news, `None` if it has no picture, or why it can no longer be read.
    pub effects: Vec<(i64, Result<Option<String>, String>)>,
    pub words: Vec<LedgerEntry>,
    pub possible: Vec<PossibleOptOut>,
    /// Posts that withdraw consent, with the leads that they name, because table `lead` may name the lead differently.
    pub withdrawals: Vec<PossibleOptOut>,
    pub alerts: Vec<RaisedAlert>,
}

/// The statuses that raise an alert.
const TOLD: [(&str, &str); 3] =
    [("hot_lead", "hotLead"), ("action_required", "actionRequired"), ("lead_at_risk", "leadAtRisk")];

/// Applies the events in their order. `stored` has the stored conversations of their leads.
pub fn fold(events: &[ExaminedEvent], stored: BTreeMap<LeadId, FoldedConversation>) -> FoldedEvents {
    let mut folded =
        FoldedEvents { conversations: stored, possible: possible_opt_outs(events), ..FoldedEvents::default() };
    for examined in events {
        let event = &examined.event;
        let effect = match &examined.read {
            Err(unreadable) => Err(unreadable.0.clone()),
            Ok(_) if event.kind == PostKind::ChatLead => Ok(None),
            Ok(post) => {
                let words = words_of(event, post);
                folded.withdrawals.extend(examined.withdrawal(&words));
                let stored = folded.conversations.entry(event.lead.clone()).or_default();
                let at = event.received_at;
                stored.first_heard_at = Some(stored.first_heard_at.map_or(at, |first| first.min(at)));
                stored.last_heard_at = stored.last_heard_at.max(Some(at));
                if event.kind == PostKind::LeadUpdate {
                    let before = stored.conversation.clone();
                    let news = stored.conversation.hear(&post.content, at);
                    folded.words.extend(words.into_iter().map(|word| LedgerEntry {
                        lead: event.lead.clone(),
                        word,
                        heard_at: at,
                        event_seq: Some(event.seq),
                    }));
                    let dates = HeardDates::of(&post.content);
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

fn words_of(event: &PendingEvent, post: &ReceivedPost) -> Vec<ChannelWord> {
    match event.kind {
        PostKind::LeadUpdate => consent::words(&post.content, event.received_at),
        PostKind::Message | PostKind::ChatLead => Vec::new(),
    }
}

/// Whether the status has become true, or is true with a later date of its own and so has happened again.
fn is_told(before: &HeardConversation, now: &HeardConversation, key: &str) -> bool {
    let is_true = |conversation: &HeardConversation| conversation.picture.get(key) == Some(&Value::Bool(true));
    let own_date = |conversation: &HeardConversation| own_date_key(key).and_then(|key| conversation.date(key));
    is_true(now) && (!is_true(before) || own_date(before).is_some() && own_date(before) < own_date(now))
}

fn alert(
    kind: &'static str,
    key: &str,
    event: &PendingEvent,
    now: &HeardConversation,
    dates: &HeardDates<'_>,
) -> RaisedAlert {
    let date = own_date_key(key).and_then(|key| dates.of_key(key)).or_else(|| now.date(key));
    let when = date.map_or_else(|| event.seq.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let LeadId { id, client_id } = &event.lead;
    RaisedAlert {
        kind,
        lead: event.lead.clone(),
        occasion: format!("{kind}/{id}/{client_id}/{when}"),
        at: date.unwrap_or(event.received_at),
        heard_at: event.received_at,
        statuses: ["conversationStatus", "conversationStage", "leadStatus"].map(|key| now.picture.get(key).cloned()),
    }
}

impl RaisedAlert {
    /// The JSON document of the alert. It names the person by the id only; the person's representative is read from the delivered
    /// Lead object, if there is one.
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

    fn event(seq: i64, body: Value) -> PendingEvent {
        PendingEvent {
            seq,
            kind: PostKind::LeadUpdate,
            lead: LeadId { id: "7".into(), client_id: String::new() },
            received_at: DateTime::from_timestamp(1_800_000_000 + seq, 0).unwrap(),
            body: body.to_string().into_bytes(),
            problem: None,
        }
    }

    fn folded(events: Vec<PendingEvent>) -> FoldedEvents {
        let examined: Vec<ExaminedEvent> = events.into_iter().map(ExaminedEvent::of).collect();
        fold(&examined, BTreeMap::new())
    }

    fn occasions(bodies: &[Value]) -> Vec<String> {
        let events: Vec<PendingEvent> = (1..).zip(bodies).map(|(seq, body)| event(seq, body.clone())).collect();
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
