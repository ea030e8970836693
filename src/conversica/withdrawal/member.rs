//! The withdrawal by a single key of a readable post, at any depth: its name, and a plain value. Pure.

use serde_json::Value;

use crate::conversica::consent_word::ConsentChannel;
use crate::conversica::post::PostKind;
use crate::conversica::stop_words::{
    self, KeyMeaning, is_status_key, meaning_of_key, withdrawn_by_status, withdrawn_by_value,
};
use crate::conversica::withdrawal::phrase::{KEYS, NO, SAID_NO, SAID_YES, is_no_moment, is_punctuation};

/// This many names around a key count as its name: `consent`, `email` is `consent email`.
const MAX_NAMES: usize = 2;
/// No name is longer.
const MAX_NAME_BYTES: usize = 80;

/// The channels whose consent is withdrawn by a key, or by any key in its value.
pub(super) fn withdrawn_by_member(kind: PostKind, key: &str, value: &Value) -> Vec<ConsentChannel> {
    let mut channels = Vec::new();
    // The messages that people exchanged.
    if kind != PostKind::ChatLead || key != "conversationHistory" {
        search_value(kind, &mut vec![key], value, &mut channels);
    }
    channels
}

fn search_value<'v>(kind: PostKind, names: &mut Vec<&'v str>, value: &'v Value, channels: &mut Vec<ConsentChannel>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                names.push(key);
                search_value(kind, names, value, channels);
                names.pop();
            }
        }
        Value::Array(values) if values.len() > 1 && values.iter().any(is_yes) => {
            let letters = names.last().map(|name| letters_of(name)).unwrap_or_default();
            let published = KEYS.iter().find(|(key, ..)| *key == letters);
            match published {
                Some((_, withdrawn, _)) => channels.extend(withdrawn.iter()),
                None => values.iter().for_each(|value| search_value(kind, names, value, channels)),
            }
        }
        Value::Array(values) => values.iter().for_each(|value| search_value(kind, names, value, channels)),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            channels.extend(withdrawn_by_plain(kind, names, value));
        }
    }
}

fn withdrawn_by_plain(kind: PostKind, names: &[&str], value: &Value) -> &'static [ConsentChannel] {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let name = names.last().copied().unwrap_or_default();
    let letters = letters_of(name);
    let is_published = letters == "smsoptin" || KEYS.iter().any(|(key, ..)| *key == letters);
    if name.len() > MAX_NAME_BYTES || is_published && !name.contains(is_punctuation) {
        // A published key has its own rules.
        return &[];
    }
    let names: Vec<&str> =
        names.iter().rev().take(MAX_NAMES).rev().copied().filter(|name| name.len() <= MAX_NAME_BYTES).collect();
    let said = said_by_name(&names.join(" "), &text);
    if !said.is_empty() {
        return said;
    }
    match value {
        Value::String(text) if is_status_key(name) && (kind == PostKind::LeadUpdate || text.len() < MAX_NAME_BYTES) => {
            withdrawn_by_status(text)
        }
        Value::String(text) if kind == PostKind::LeadUpdate => withdrawn_by_value(text),
        _ => &[],
    }
}

fn is_yes(value: &Value) -> bool {
    match value {
        Value::String(text) => SAID_YES.contains(&letters_of(text).as_str()),
        other => other == &Value::Bool(true) || other.as_f64() == Some(1.0),
    }
}

fn said_by_name(name: &str, value: &str) -> &'static [ConsentChannel] {
    if !stop_words::may_be_about_consent(&letters_of(name)) {
        return &[];
    }
    let is_one_of = |words: &[&str]| {
        let is_number = value.trim().parse::<f64>().ok();
        words.contains(&letters_of(value).as_str())
            || is_number.is_some_and(|number| words.iter().any(|word| word.parse() == Ok(number)))
    };
    let is_blank = !value.chars().any(char::is_alphanumeric);
    let says_no = is_one_of(NO) || stop_words::is_given(value);
    match meaning_of_key(name) {
        Some(KeyMeaning::Refusal(channels)) if !says_no && !is_blank => channels,
        Some(KeyMeaning::RefusedAt(channels)) if !says_no && !is_blank && !is_no_moment(value) => channels,
        Some(KeyMeaning::MaybeRefusal(channels)) if is_one_of(SAID_YES) => channels,
        Some(KeyMeaning::Consent(channels)) if is_one_of(SAID_NO) || stop_words::is_refused(value) => channels,
        _ => &[],
    }
}

/// Only the beginning of a long text counts: it is no plain value.
fn letters_of(text: &str) -> String {
    text.chars().take(3 * MAX_NAME_BYTES).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
