//! The messages of each format, from an alert's document. Pure.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::alert::notice::{AlertNotice, NoticePhase};
use crate::config::ChannelFormat;

/// The longest summary that PagerDuty takes, and the longest header block of Slack.
const SUMMARY_CHARS: usize = 1024;
const HEADER_CHARS: usize = 150;
/// The longest text of one field of a Slack section.
const FIELD_CHARS: usize = 2000;
/// The longest key of an incident at PagerDuty.
const DEDUP_BYTES: usize = 255;

/// The message for a web address or a command. `identity` tells this installation from others of the same account at PagerDuty.
pub fn body(format: ChannelFormat, document: &str, identity: &str, routing_key: &str) -> String {
    let notice = match format {
        ChannelFormat::Json | ChannelFormat::Email => None,
        ChannelFormat::Slack | ChannelFormat::Teams | ChannelFormat::Pagerduty => AlertNotice::read(document),
    };
    // A document that says nothing in words goes out as it is.
    let Some(notice) = notice else { return document.to_owned() };
    match format {
        ChannelFormat::Json | ChannelFormat::Email => document.to_owned(),
        ChannelFormat::Slack => slack(&notice).to_string(),
        ChannelFormat::Teams => teams(&notice).to_string(),
        ChannelFormat::Pagerduty => pagerduty(&notice, identity, routing_key).to_string(),
    }
}

/// The text of an e-mail.
pub fn mail_text(notice: &AlertNotice) -> String {
    let mut text = format!("{}\n", notice.title);
    if let Some(cure) = &notice.cure {
        text.push_str(&format!("\nWhat to do: {cure}\n"));
    }
    text.push('\n');
    notice.facts.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\n")));
    text.push_str(&format!("Kind: {}\nAt: {}\n", notice.kind, notice.at));
    text
}

/// The identity of an incident: the same for its beginning, its end and each repetition.
pub fn dedup_key(notice: &AlertNotice, identity: &str) -> String {
    let key = format!("conversica-sync/{identity}/{}", notice.thread);
    if key.len() <= DEDUP_BYTES {
        return key;
    }
    // Ids may be long; cut short, two of them could become one.
    let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("conversica-sync/{identity}/{}/{digest}", notice.kind)
}

/// The body of an incoming webhook: `text` is what notifications show, `blocks` what the message shows.
fn slack(notice: &AlertNotice) -> Value {
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": shortened(&notice.title, HEADER_CHARS), "emoji": false },
    })];
    if let Some(cure) = &notice.cure {
        blocks.push(json!({
            "type": "section",
            "text": { "type": "mrkdwn", "text": shortened(&format!("*What to do:* {}", slack_text(cure)), FIELD_CHARS) },
        }));
    }
    if !notice.facts.is_empty() {
        let field = |(name, value): &(&str, String)| {
            let text = format!("*{name}:* {}", slack_text(value));
            json!({ "type": "mrkdwn", "text": shortened(&text, FIELD_CHARS) })
        };
        // A section takes ten fields; there are never more than eight facts.
        blocks.push(json!({ "type": "section", "fields": notice.facts.iter().map(field).collect::<Vec<_>>() }));
    }
    json!({ "text": slack_text(&notice.title), "blocks": blocks })
}

/// Slack reads `<…>` as links and mentions, and asks for these three to be escaped.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A message with an Adaptive Card, as the workflow "When a Teams webhook request is received" takes it.
fn teams(notice: &AlertNotice) -> Value {
    let colour = match notice.phase {
        NoticePhase::Begun => "Attention",
        NoticePhase::Ended => "Good",
    };
    let mut card = vec![json!({
        "type": "TextBlock", "text": card_text(&notice.title), "size": "Large", "weight": "Bolder", "color": colour, "wrap": true,
    })];
    if let Some(cure) = &notice.cure {
        let text = format!("What to do: {}", card_text(cure));
        card.push(json!({ "type": "TextBlock", "text": text, "wrap": true }));
    }
    if !notice.facts.is_empty() {
        let fact = |(name, value): &(&str, String)| json!({ "title": name, "value": card_text(value) });
        card.push(json!({ "type": "FactSet", "facts": notice.facts.iter().map(fact).collect::<Vec<_>>() }));
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": card,
            },
        }],
    })
}

/// Cards read `[…](…)` as links and `*…*` as emphasis.
fn card_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace('*', "\\*")
}

/// An event of PagerDuty's Events API v2.
fn pagerduty(notice: &AlertNotice, identity: &str, routing_key: &str) -> Value {
    let action = match notice.phase {
        NoticePhase::Begun => "trigger",
        NoticePhase::Ended => "resolve",
    };
    let mut details: serde_json::Map<String, Value> =
        notice.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    if let Some(cure) = &notice.cure {
        details.insert("What to do".to_owned(), json!(cure));
    }
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(notice, identity),
        "client": "conversica-sync",
        "payload": {
            "summary": shortened(&notice.title, SUMMARY_CHARS),
            "source": notice.source,
            "severity": notice.severity.name(),
            "timestamp": notice.at,
            "component": "conversica-sync",
            "class": notice.kind,
            "custom_details": details,
        },
    })
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(state: &str, id: &str) -> String {
        json!({"kind": "halted", "state": state, "at": "2026-01-02T00:00:00Z", "since": "2026-01-01T00:00:00Z",
               "reason": "credentials", "cure": "set <the> password", "host": "crm-1", "version": "1", "id": id})
        .to_string()
    }

    fn made(format: ChannelFormat, document: &str) -> Value {
        serde_json::from_str(&body(format, document, "abc", "key-of-pagerduty")).expect("JSON")
    }

    #[test]
    fn json_is_the_document_itself() {
        assert_eq!(body(ChannelFormat::Json, &document("begun", ""), "abc", ""), document("begun", ""));
    }

    #[test]
    fn slack_escapes_what_it_would_read_as_a_link() {
        let body = made(ChannelFormat::Slack, &document("begun", "<!channel>"));
        assert_eq!(body["text"], "Halted: nothing is sent to Conversica");
        let blocks = body["blocks"].to_string();
        assert!(blocks.contains("set &lt;the&gt; password") && blocks.contains("&lt;!channel&gt;"), "{blocks}");
        assert!(!blocks.contains("<!channel>"));
    }

    #[test]
    fn a_card_shows_a_link_as_text() {
        let body = made(ChannelFormat::Teams, &document("ended", "[x](https://evil.example)"));
        assert!(body.to_string().contains("\\\\[x\\\\](https"), "{body}");
    }

    #[test]
    fn an_incident_is_triggered_and_resolved_under_one_key() {
        let (begun, ended) = (
            made(ChannelFormat::Pagerduty, &document("begun", "")),
            made(ChannelFormat::Pagerduty, &document("ended", "")),
        );
        assert_eq!((&begun["event_action"], &ended["event_action"]), (&json!("trigger"), &json!("resolve")));
        assert_eq!(
            (&begun["dedup_key"], &begun["dedup_key"]),
            (&ended["dedup_key"], &json!("conversica-sync/abc/halted"))
        );
        assert_eq!(begun["payload"]["severity"], "critical");
        assert_eq!(begun["routing_key"], "key-of-pagerduty");
    }

    #[test]
    fn a_long_text_is_cut_where_the_service_would_refuse_it() {
        assert_eq!(shortened(&"ä".repeat(300), 150).chars().count(), 150);
        assert_eq!(shortened("short", 150), "short");
    }
}
