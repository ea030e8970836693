//! The conversation of an accepted lead: believable Lead Updates and Messages. Pure.
//!
//! The same seed and lead always give the same plot. Bodies have Conversica's keys and vocabulary only: a receiver that accepts
//! them has to accept Conversica's.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::conversica::post::PostKind;

/// The person of the conversation, from the accepted Lead object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptPerson {
    pub id: String,
    /// Blank where the Lead object has none; bodies then have the account's own.
    pub client_id: String,
    pub first_name: String,
    pub rep_name: String,
    /// `optOut` or `stopMessaging`: the assistant must not write to this person.
    pub stopped: bool,
}

impl ScriptPerson {
    /// Reads an accepted Lead object.
    pub fn of(body: &[u8]) -> Option<Self> {
        let lead: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |key: &str| lead.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_true = |key: &str| lead.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Self {
            id: text("id"),
            client_id: text("clientId"),
            first_name: text("firstName"),
            rep_name: text("repName"),
            stopped: is_true("optOut") || is_true("stopMessaging"),
        })
    }
}

/// The course of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptPlot {
    /// They answer, and want to come by.
    HotLead,
    /// They do not answer.
    Silence,
    /// They want no more messages.
    OptOut,
    /// The address does not exist.
    Bounced,
    /// They ask for something that a salesperson has to do.
    ActionRequired,
    /// They are unhappy.
    AtRisk,
    /// They are away, and write later.
    OutOfOffice,
    /// A rule keeps the assistant from writing to them.
    Excluded,
}

/// Each plot, and its share of leads in percent.
pub const PLOTS: [(ScriptPlot, u32); 8] = [
    (ScriptPlot::HotLead, 25),
    (ScriptPlot::Silence, 28),
    (ScriptPlot::OptOut, 8),
    (ScriptPlot::Bounced, 9),
    (ScriptPlot::ActionRequired, 10),
    (ScriptPlot::AtRisk, 5),
    (ScriptPlot::OutOfOffice, 10),
    (ScriptPlot::Excluded, 5),
];

/// One post, a number of beats after the lead was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptStep {
    pub beat: u32,
    pub kind: PostKind,
    pub body: String,
}

/// The plot for that lead.
pub fn plot(person: &ScriptPerson, seed: u64) -> ScriptPlot {
    let mut hasher = DefaultHasher::new();
    (seed, &person.client_id, &person.id).hash(&mut hasher);
    let mut die = StdRng::seed_from_u64(hasher.finish()).random_range(0..100);
    for (plot, share) in PLOTS {
        if die < share {
            return plot;
        }
        die -= share;
    }
    ScriptPlot::Silence
}

/// The whole conversation, in order. `beat` is the time between two steps.
pub fn conversation(person: &ScriptPerson, plot: ScriptPlot, start: DateTime<Utc>, beat: TimeDelta) -> Vec<ScriptStep> {
    let mut script =
        PlayScript { person, start, beat, next: 0, subject: "Your online request".to_owned(), steps: Vec::new() };
    let (first, rep) = (person.first_name.as_str(), person.rep_name.as_str());
    let added = script.date();
    script.update(json!({"dateAdded": added}), "Preparing Lead", "Preparing Lead");
    match plot {
        ScriptPlot::Excluded => return script.ends("Excluded", "Excluded (Rule)", json!({})),
        _ => script.update(json!({}), "Preparing Lead", "First Message Schedule"),
    }
    script.says(&format!(
        "Hi {first},\n\nthank you for your interest! {rep} asked me to get in touch. Do you have any questions?"
    ));
    let sent = script.date();
    match plot {
        ScriptPlot::Bounced => {
            return script.ends("Unworkable", "Bounced", json!({"firstMessageDate": sent, "lastMessageDate": sent}));
        }
        _ => script.update(json!({"firstMessageDate": sent, "lastMessageDate": sent}), "Messaging", "Sent Message"),
    }
    match plot {
        ScriptPlot::Excluded | ScriptPlot::Bounced => {}
        ScriptPlot::Silence => {
            script.says(&format!(
                "Hi {first},\n\nI just wanted to make sure that you got my message. Is there a good time to talk?"
            ));
            let sent = script.date();
            script.update(json!({"lastMessageDate": sent}), "Messaging", "Checking Back Later");
        }
        ScriptPlot::OutOfOffice => {
            script.hears("I am out of the office until Monday and will read your message then.");
            let heard = script.date();
            script.update(json!({"lastResponseDate": heard}), "Messaging", "Out of Office");
        }
        ScriptPlot::HotLead => {
            script.hears(&format!(
                "Hi,\n\nsure, tomorrow after 3 pm works. You can reach me at (555) 867-5309.\n\n{first}"
            ));
            let heard = script.date();
            script.update(
                json!({"lastResponseDate": heard, "discoveredPhone1": "5558675309"}),
                "Messaging",
                "Received Response",
            );
            let hot = script.date();
            script.status(json!({"hotLead": true, "hotLeadDate": hot}), "Hot Lead");
            script.says(&format!("Great, {first}! {rep} will call you tomorrow after 3 pm."));
        }
        ScriptPlot::ActionRequired => {
            script.hears("Could you send me a quote for the extended warranty first?");
            let heard = script.date();
            script.update(json!({"lastResponseDate": heard}), "Messaging", "Received Response");
            let asked = script.date();
            script.status(json!({"actionRequired": true, "actionRequiredDate": asked}), "Further Action");
        }
        ScriptPlot::AtRisk => {
            script.hears("I have asked twice now, and no one called me back. I am about to buy elsewhere.");
            let heard = script.date();
            script.update(json!({"lastResponseDate": heard}), "Messaging", "Received Response");
            let at_risk = script.date();
            script.status(json!({"leadAtRisk": true, "leadAtRiskDate": at_risk}), "Lead to Review");
        }
        ScriptPlot::OptOut => {
            script.hears("Please take me off your list.");
            let heard = script.date();
            return script.ends("Lead Stopped", "Unsubscribed", json!({"lastResponseDate": heard, "doNotEmail": true}));
        }
    }
    script.steps
}

/// The update about a conversation that the CRM has ended.
pub fn stopped(person: &ScriptPerson, start: DateTime<Utc>) -> Vec<ScriptStep> {
    let script =
        PlayScript { person, start, beat: TimeDelta::zero(), next: 0, subject: String::new(), steps: Vec::new() };
    script.ends("Client Stopped", "CRM Stopped", json!({}))
}

struct PlayScript<'a> {
    person: &'a ScriptPerson,
    start: DateTime<Utc>,
    beat: TimeDelta,
    next: u32,
    subject: String,
    steps: Vec<ScriptStep>,
}

impl PlayScript<'_> {
    /// The date of the next step, in Conversica's format.
    fn date(&self) -> String {
        let at = self.start + self.beat * i32::try_from(self.next).unwrap_or(i32::MAX);
        at.format("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
    }

    fn push(&mut self, kind: PostKind, content: Value) {
        let client_id = if self.person.client_id.is_empty() { "sandbox" } else { &self.person.client_id };
        let mut body = json!({"apiVersion": "7.2", "id": self.person.id, "clientId": client_id});
        if let (Value::Object(body), Value::Object(content)) = (&mut body, content) {
            body.extend(content);
        }
        self.steps.push(ScriptStep { beat: self.next, kind, body: body.to_string() });
        self.next += 1;
    }

    /// A Lead Update with a new stage and status.
    fn update(&mut self, mut content: Value, stage: &str, status: &str) {
        let date = self.date();
        content["conversationStage"] = stage.into();
        content["conversationStageDate"] = date.clone().into();
        content["conversationStatus"] = status.into();
        content["conversationStatusDate"] = date.into();
        self.push(PostKind::LeadUpdate, content);
    }

    /// A Lead Update with a new `leadStatus`.
    fn status(&mut self, mut content: Value, status: &str) {
        content["leadStatus"] = status.into();
        content["leadStatusDate"] = self.date().into();
        self.push(PostKind::LeadUpdate, content);
    }

    fn ends(mut self, stage: &str, status: &str, content: Value) -> Vec<ScriptStep> {
        self.update(content, stage, status);
        self.steps
    }

    fn message(&mut self, action: &str, body: &str) {
        let content = json!({"action": action, "date": self.date(), "subject": self.subject, "body": body});
        self.push(PostKind::Message, content);
        if !self.subject.starts_with("Re: ") {
            self.subject.insert_str(0, "Re: ");
        }
    }

    /// The assistant writes.
    fn says(&mut self, body: &str) {
        self.message("sent", body);
    }

    /// The lead writes.
    fn hears(&mut self, body: &str) {
        self.message("received", body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::{heard, vocabulary};

    fn person(id: &str) -> ScriptPerson {
        ScriptPerson {
            id: id.into(),
            client_id: "north".into(),
            first_name: "Ann".into(),
            rep_name: "John".into(),
            stopped: false,
        }
    }

    #[test]
    fn every_plot_is_posts_that_can_be_read_within_the_published_vocabulary() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for (plot, _) in PLOTS {
            let steps = conversation(&person("7"), plot, start, TimeDelta::seconds(60));
            assert!(steps.len() > 1, "{plot:?}");
            for (number, step) in steps.iter().enumerate() {
                assert_eq!(step.beat as usize, number, "{plot:?}");
                let post = heard::read(step.kind, step.body.as_bytes()).unwrap();
                assert_eq!((post.lead.id.as_str(), post.lead.client_id.as_str()), ("7", "north"));
                assert!(vocabulary::outside(&post.content).is_empty(), "{}", step.body);
                for key in post.content.keys() {
                    assert!(step.kind.keys().iter().any(|(name, _)| name == key), "{key}");
                }
            }
        }
    }

    #[test]
    fn a_lead_always_meets_the_same_plot_and_every_plot_is_met() {
        assert_eq!(PLOTS.iter().map(|(_, share)| share).sum::<u32>(), 100);
        for id in 0..50 {
            let person = person(&id.to_string());
            assert_eq!(plot(&person, 3), plot(&person, 3));
        }
        let met: Vec<ScriptPlot> = (0..500).map(|id| plot(&person(&id.to_string()), 1)).collect();
        assert!(PLOTS.iter().all(|(plot, _)| met.contains(plot)));
    }

    #[test]
    fn a_lead_object_tells_whom_it_is_about() {
        let body = r#"{"id":"7","clientId":"north","firstName":"Ann","repName":"John","optOut":false}"#;
        assert_eq!(ScriptPerson::of(body.as_bytes()), Some(person("7")));
        assert!(ScriptPerson::of(br#"{"id":"7","optOut":true}"#).unwrap().stopped);
        assert_eq!(ScriptPerson::of(b"7"), None);
    }
}
