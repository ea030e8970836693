//! What an alert says to people, from its document: a title, some facts, what to do. Ids and counts only: no name, no address, and no
//! free text of an operator. Pure.

use serde_json::Value;

use crate::config::AlertKind;

/// The `kind` of a document that only tries a channel.
pub const TEST_KIND: &str = "test";

/// Whether the trouble begins or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticePhase {
    Begun,
    Ended,
}

/// How urgent an alert is, in the words of PagerDuty's Events API v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeSeverity {
    Info,
    Warning,
    Error,
    Critical,
}

impl NoticeSeverity {
    pub const fn name(self) -> &'static str {
        match self {
            NoticeSeverity::Info => "info",
            NoticeSeverity::Warning => "warning",
            NoticeSeverity::Error => "error",
            NoticeSeverity::Critical => "critical",
        }
    }
}

/// An alert in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertNotice {
    pub kind: String,
    pub phase: NoticePhase,
    pub title: String,
    /// Name and value, in the order in which they are shown.
    pub facts: Vec<(&'static str, String)>,
    pub cure: Option<String>,
    pub severity: NoticeSeverity,
    /// The machine that tells, or the program's name where the document names none.
    pub source: String,
    /// RFC 3339.
    pub at: String,
    /// The same for the beginning of a trouble and for its end, and for each repetition of one message.
    pub thread: String,
}

impl AlertNotice {
    /// `None` for a text that is not a document of ours.
    pub fn read(document: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(document).ok()?;
        let text = |key: &str| document[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let kind = text("kind")?;
        let phase = if document["state"] == "ended" { NoticePhase::Ended } else { NoticePhase::Begun };
        let at = text("at").unwrap_or_default();
        let known = AlertKind::from_name(&kind);
        let lead = text("id");
        let facts = facts(&document, known);
        let thread = match &lead {
            Some(id) => format!("{kind}/{id}/{}/{at}", text("client_id").unwrap_or_default()),
            // One test is one incident; of each condition there is one at a time.
            None if kind == TEST_KIND => format!("{kind}/{}", text("since").unwrap_or_default()),
            None => kind.clone(),
        };
        let cure = match known {
            Some(AlertKind::HotLead | AlertKind::ActionRequired | AlertKind::LeadAtRisk) => {
                lead.as_ref().map(|id| format!("look at `conversica-sync lead {id}`, the dashboard or the CRM"))
            }
            _ => text("cure"),
        };
        Some(Self {
            title: title(&document, known, &kind, phase),
            severity: known.map_or(NoticeSeverity::Info, severity),
            source: text("host").unwrap_or_else(|| "conversica-sync".to_owned()),
            kind,
            phase,
            facts,
            cure,
            at,
            thread,
        })
    }
}

fn severity(kind: AlertKind) -> NoticeSeverity {
    match kind {
        AlertKind::Halted | AlertKind::StateLost => NoticeSeverity::Critical,
        AlertKind::PollFailing | AlertKind::BacklogOld | AlertKind::WritebackStopped => NoticeSeverity::Error,
        AlertKind::Held
        | AlertKind::Rejected
        | AlertKind::Exhausted
        | AlertKind::Unreadable
        | AlertKind::PossibleOptOut
        | AlertKind::ConversationSilent
        | AlertKind::ActionRequired
        | AlertKind::LeadAtRisk => NoticeSeverity::Warning,
        AlertKind::HotLead | AlertKind::Paused | AlertKind::NewLeadsBudget => NoticeSeverity::Info,
    }
}

fn title(document: &Value, known: Option<AlertKind>, kind: &str, phase: NoticePhase) -> String {
    let Some(known) = known else {
        return if kind == TEST_KIND { of_test(phase).to_owned() } else { format!("conversica-sync: {kind}") };
    };
    match phase {
        NoticePhase::Begun => begun(document, known),
        NoticePhase::Ended => format!("Resolved: {}", ended(known)),
    }
}

fn of_test(phase: NoticePhase) -> &'static str {
    match phase {
        NoticePhase::Begun => "A test of this channel: nothing is wrong",
        NoticePhase::Ended => "Resolved: the test of this channel is over",
    }
}

fn begun(document: &Value, kind: AlertKind) -> String {
    let id = document["id"].as_str().unwrap_or_default();
    let count = document["count"].as_i64();
    let counted = |one: &str, many: &str| match count {
        Some(1) => format!("1 {one}"),
        Some(count) => format!("{count} {many}"),
        None => many.to_owned(),
    };
    let leads = || counted("lead", "leads");
    let posts = || counted("post", "posts");
    match kind {
        AlertKind::HotLead => format!("Lead {id} wants to be contacted"),
        AlertKind::ActionRequired => format!("Lead {id}: a person must act before the conversation can continue"),
        AlertKind::LeadAtRisk => format!("Lead {id} may be lost"),
        AlertKind::Halted => "Halted: nothing is sent to Conversica".to_owned(),
        AlertKind::Paused => "Paused by an operator: no first contact and no update is sent".to_owned(),
        AlertKind::Held => format!("Waiting for approval: {}", leads()),
        AlertKind::Rejected => format!("Rejected by Conversica: {}", leads()),
        AlertKind::Exhausted => format!("Given up after many tries: {}", leads()),
        AlertKind::PollFailing => "The CRM database cannot be read: no change is found".to_owned(),
        AlertKind::BacklogOld => "Leads wait for too long to be sent".to_owned(),
        AlertKind::WritebackStopped => format!("The CRM refuses what Conversica has posted: {}", posts()),
        AlertKind::Unreadable => format!("Posts of Conversica that cannot be read: {}", posts()),
        AlertKind::PossibleOptOut => format!("Damaged posts that may be opt-outs: {}", posts()),
        AlertKind::NewLeadsBudget => "Four fifths of this month's new people are used".to_owned(),
        AlertKind::ConversationSilent => "A conversation takes leads, and Conversica works none of them".to_owned(),
        AlertKind::StateLost => "The file of the state is lost: nothing is sent, no post is acknowledged".to_owned(),
    }
}

fn ended(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::HotLead | AlertKind::ActionRequired | AlertKind::LeadAtRisk => "the lead needs no person now",
        AlertKind::Halted => "the halt is lifted",
        AlertKind::Paused => "the pause is over",
        AlertKind::Held => "no lead waits for approval",
        AlertKind::Rejected => "no lead is rejected",
        AlertKind::Exhausted => "no lead is given up",
        AlertKind::PollFailing => "the CRM database can be read again",
        AlertKind::BacklogOld => "no lead waits for too long",
        AlertKind::WritebackStopped => "the CRM takes what Conversica posts",
        AlertKind::Unreadable => "no post is unreadable",
        AlertKind::PossibleOptOut => "no post waits for an operator's word",
        AlertKind::NewLeadsBudget => "new people may be contacted again",
        AlertKind::ConversationSilent => "no conversation is silent",
        AlertKind::StateLost => "the file of the state is back",
    }
}

fn facts(document: &Value, kind: Option<AlertKind>) -> Vec<(&'static str, String)> {
    // The reason of a pause is free text of an operator.
    let reason = if kind == Some(AlertKind::Paused) { &Value::Null } else { &document["reason"] };
    let shown = [
        ("Lead", &document["id"]),
        ("Client", &document["client_id"]),
        ("Reason", reason),
        ("Count", &document["count"]),
        ("New people", &document["new_people"]),
        ("Since", &document["since"]),
        ("Machine", &document["host"]),
        ("Version", &document["version"]),
    ];
    let fact = |(name, value): (&'static str, &Value)| match value {
        Value::String(text) if !text.is_empty() => Some((name, text.clone())),
        Value::Number(number) => Some((name, number.to_string())),
        _ => None,
    };
    shown.into_iter().filter_map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: &Value) -> AlertNotice {
        AlertNotice::read(&document.to_string()).expect("a document")
    }

    #[test]
    fn a_lead_is_named_by_its_id_alone() {
        let notice = read(&json!({
            "kind": "hot_lead", "id": "7", "client_id": "acme", "at": "2026-01-01T00:00:00Z", "rep_name": "Robin Roe",
            "rep_email": "robin@example.com", "lead_status": "Ann said yes", "conversation_status": "x",
        }));
        assert_eq!(notice.title, "Lead 7 wants to be contacted");
        assert_eq!(notice.facts, [("Lead", "7".to_owned()), ("Client", "acme".to_owned())]);
        assert_eq!(notice.thread, "hot_lead/7/acme/2026-01-01T00:00:00Z");
        assert!(!format!("{notice:?}").contains("obin") && !format!("{notice:?}").contains("Ann"));
    }

    #[test]
    fn beginning_and_end_belong_together() {
        let document = |state: &str, reason: &str| {
            json!({"kind": "held", "state": state, "at": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z",
                   "reason": reason, "count": 5, "new_people": 2, "cure": "look", "host": "crm-1", "version": "1"})
        };
        let (begun, ended) = (read(&document("begun", "first_run")), read(&document("ended", "resend")));
        assert_eq!((begun.phase, ended.phase), (NoticePhase::Begun, NoticePhase::Ended));
        assert_eq!(begun.thread, ended.thread);
        assert_eq!(
            (begun.title.as_str(), ended.title.as_str()),
            ("Waiting for approval: 5 leads", "Resolved: no lead waits for approval")
        );
        assert!(begun.facts.contains(&("New people", "2".to_owned())));
    }

    #[test]
    fn what_an_operator_wrote_is_left_out() {
        let notice =
            read(&json!({"kind": "paused", "state": "begun", "reason": "everybody, by anna: Ann Lee complained"}));
        assert!(!format!("{notice:?}").contains("Ann"), "{notice:?}");
    }

    #[test]
    fn every_kind_has_words_for_its_beginning_and_its_end() {
        let mut titles = std::collections::BTreeSet::new();
        for kind in AlertKind::ALL {
            for state in ["begun", "ended"] {
                titles.insert(read(&json!({"kind": kind.name(), "state": state, "count": 1})).title);
            }
        }
        assert!(titles.len() >= 2 * AlertKind::ALL.len() - 2, "{titles:?}");
        assert_eq!(read(&json!({"kind": "later"})).title, "conversica-sync: later");
        assert_eq!(AlertNotice::read("no document"), None);
    }
}
