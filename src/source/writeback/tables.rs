//! With `mode = "tables"`: turns events into rows. Pure: every post of Conversica becomes a row that both engines accept.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use crate::conversica::heard;
use crate::conversica::lead::{self, LeadId};
use crate::conversica::post::{PostKind, ReceivedPost};
use crate::conversica::post_text::decode_body;
use crate::rules::heard_event::WaitingEvent;
use crate::rules::value;
use crate::source::writeback::ddl::column_of;

/// Rows for each of the tables, as objects with the names of their columns.
#[derive(Debug, Default, PartialEq)]
pub struct TableRows {
    pub leads: Vec<Value>,
    pub messages: Vec<Value>,
    pub chat_leads: Vec<Value>,
}

impl TableRows {
    /// Several events of one lead make one row in the leads table.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a WaitingEvent>) -> Self {
        let mut leads: BTreeMap<&LeadId, Value> = BTreeMap::new();
        let mut rows = Self::default();
        for event in events {
            if let Some(conversation) = &event.conversation {
                leads.entry(&event.lead).or_insert_with(|| {
                    let picture = serde_json::from_str(&conversation.picture).unwrap_or_default();
                    let heard = (conversation.first_heard_at, conversation.last_heard_at);
                    lead_row(&event.lead, picture, heard)
                });
            }
            // Unreadable posts are never queued. If this version cannot read a queued one, it writes nothing for it.
            let Ok(post) = heard::read(event.kind, &event.body) else { continue };
            match event.kind {
                PostKind::LeadUpdate => {}
                PostKind::Message => rows.messages.push(message_row(event, post)),
                PostKind::ChatLead => rows.chat_leads.push(chat_lead_row(event, post)),
            }
        }
        rows.leads = leads.into_values().collect();
        rows
    }
}

fn lead_row(lead: &LeadId, mut picture: Map<String, Value>, heard: (DateTime<Utc>, DateTime<Utc>)) -> Value {
    let mut row = Map::new();
    row.insert("id".to_owned(), text(&lead.id));
    row.insert("client_id".to_owned(), text(&lead.client_id));
    for (key, kind) in PostKind::LeadUpdate.keys() {
        take(key, *kind, &mut picture, &mut row);
    }
    row.insert("other_keys".to_owned(), others(picture));
    row.insert("first_heard_at".to_owned(), instant(heard.0));
    row.insert("last_heard_at".to_owned(), instant(heard.1));
    Value::Object(row)
}

fn message_row(event: &WaitingEvent, mut post: ReceivedPost) -> Value {
    let mut row = Map::new();
    row.insert("message_key".to_owned(), text(&event.key));
    row.insert("id".to_owned(), text(&event.lead.id));
    row.insert("client_id".to_owned(), text(&event.lead.client_id));
    for (key, kind) in PostKind::Message.keys() {
        take(key, *kind, &mut post.content, &mut row);
    }
    row.insert("other_keys".to_owned(), others(post.content));
    row.insert("received_at".to_owned(), instant(event.received_at));
    Value::Object(row)
}

fn chat_lead_row(event: &WaitingEvent, mut post: ReceivedPost) -> Value {
    let mut row = Map::new();
    row.insert("chat_key".to_owned(), text(&event.key));
    row.insert("client_id".to_owned(), text(&event.lead.client_id));
    for key in ["firstName", "lastName", "email"] {
        take(key, lead::ValueKind::Text, &mut post.content, &mut row);
    }
    let history = post.content.shift_remove("conversationHistory").unwrap_or_default();
    row.insert("conversation_history".to_owned(), as_text(history));
    row.insert("received_at".to_owned(), instant(event.received_at));
    row.insert("body".to_owned(), text(&decode_body(&event.body).text));
    Value::Object(row)
}

/// Moves a key into its column. A value that the column cannot hold stays among the other keys.
fn take(key: &str, kind: lead::ValueKind, from: &mut Map<String, Value>, row: &mut Map<String, Value>) {
    let value = match (kind, from.get(key)) {
        (lead::ValueKind::Boolean, Some(Value::Bool(yes))) => json!(yes),
        (lead::ValueKind::Text, Some(Value::String(said))) => text(said),
        (lead::ValueKind::Datetime, Some(Value::String(said))) => {
            value::datetime(said.trim(), Tz::UTC).map_or(Value::Null, instant)
        }
        _ => Value::Null,
    };
    if !value.is_null() {
        from.shift_remove(key);
    }
    row.insert(column_of(key), value);
}

fn others(rest: Map<String, Value>) -> Value {
    if rest.is_empty() { Value::Null } else { as_text(Value::Object(rest)) }
}

/// A text as it is, anything else as JSON.
fn as_text(value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(said) => text(&said),
        other => Value::String(json_without_nul(&other.to_string())),
    }
}

fn text(text: &str) -> Value {
    Value::String(without_nul(text))
}

/// PostgreSQL cannot hold this character, and SQLite's own tools end a text there.
pub fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The same for a JSON text, which writes it in six characters.
pub fn json_without_nul(json: &str) -> String {
    without_nul(&json.replace("\\u0000", "\u{fffd}"))
}

fn instant(at: DateTime<Utc>) -> Value {
    Value::String(format_instant(at))
}

/// All instants have the same length, so that SQLite, which stores them as texts, sorts them correctly.
pub fn format_instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::heard_event::StoredConversation;

    fn waiting(seq: i64, kind: PostKind, body: &str, picture: Option<&str>) -> WaitingEvent {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let conversation = picture.map(|picture| StoredConversation {
            picture: picture.to_owned(),
            first_heard_at: at,
            last_heard_at: at,
        });
        WaitingEvent {
            seq,
            lane: "x".to_owned(),
            attempts: 0,
            kind,
            lead: LeadId { id: "1".to_owned(), client_id: String::new() },
            received_at: at,
            body: body.as_bytes().to_vec(),
            key: format!("{seq:02x}"),
            effect: None,
            conversation,
        }
    }

    #[test]
    fn several_events_of_a_lead_are_one_row_of_it_and_what_fits_no_column_is_kept() {
        let picture = r#"{"hotLead":true,"hotLeadDate":"2019-05-10T05:57:44+02:00","leadStatusDate":"yesterday",
                         "leadStatus":"Hot\u0000Lead","mood":{"a":"\u0000"}}"#;
        let update = waiting(1, PostKind::LeadUpdate, r#"{"id":"1"}"#, Some(picture));
        let message = r#"{"id":"1","action":"sent","date":"2019-05-10","body":"a\u0000b","via":["sms"]}"#;
        let message = waiting(2, PostKind::Message, message, Some(picture));
        let rows = TableRows::of([&update, &message]);
        assert_eq!((rows.leads.len(), rows.messages.len(), rows.chat_leads.len()), (1, 1, 0));
        let lead = &rows.leads[0];
        assert_eq!(lead["hot_lead"], true);
        assert_eq!(lead["hot_lead_date"], "2019-05-10T03:57:44.000Z");
        assert_eq!(lead["lead_status"], "Hot\u{fffd}Lead");
        assert_eq!(lead["action_required"], Value::Null);
        assert_eq!(lead["lead_status_date"], Value::Null);
        assert_eq!(lead["other_keys"], "{\"leadStatusDate\":\"yesterday\",\"mood\":{\"a\":\"\u{fffd}\"}}");
        let message = &rows.messages[0];
        assert_eq!(message["date"], "2019-05-10T00:00:00.000Z");
        assert_eq!(message["body"], "a\u{fffd}b");
        assert_eq!((&message["other_keys"], &message["subject"]), (&json!("{\"via\":[\"sms\"]}"), &Value::Null));
        assert_eq!(message["message_key"], "02");
    }

    #[test]
    fn a_chat_leads_history_is_kept_in_whatever_shape_it_comes() {
        let body =
            r#"{"firstName":"Ann","lastName":"Lee","email":"a@b.c","conversationHistory":[{"text":"Hi"}],"x":1}"#;
        let rows = TableRows::of([&waiting(3, PostKind::ChatLead, body, None)]);
        assert_eq!(rows.chat_leads[0]["conversation_history"], r#"[{"text":"Hi"}]"#);
        assert_eq!(rows.chat_leads[0]["body"], body);
        assert!(rows.leads.is_empty());
    }
}
