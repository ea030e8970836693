//! Finds possible withdrawals of consent in posts that cannot be read for certain, with the leads and channels that they may be
//! about. Pure.
//!
//! A damaged post may be a person's only request to stop messages. So anything that looks like one counts until an operator
//! decides; an explicit no does not count. The text is cut at JSON's punctuation, and words are compared by their letters, so
//! that a few damaged bytes hide nothing.

mod leaf;
mod member;
mod named;
pub(crate) mod near;
mod objects;
pub mod phrase;

use serde_json::{Map, Value};

use crate::conversica::consent_word::{BOTH, EMAIL, SMS};
use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::post::{PostKind, ReceivedPost};
use crate::conversica::post_text::{self, decode_body};
use crate::conversica::stop_words::{
    self, KeyMeaning, is_stage_stopped_by_person, is_status_key, meaning_of_key, withdrawn_by_status,
    withdrawn_by_value,
};
use crate::conversica::vocabulary;
use crate::conversica::withdrawal::near::WordComparer;
use crate::conversica::withdrawal::phrase::{
    KEYS, NO, SAID_NO, SAID_YES, STATUS_KEYS, TextChunk, is_no_moment, is_punctuation,
};
pub use named::NamedLeads;
use named::{named_in, named_otherwise};

/// Values that withdraw consent by themselves.
const PHRASES: [(&str, &[ConsentChannel]); 7] = [
    ("unsubscribed", EMAIL),
    ("donotemail", EMAIL),
    ("smsoptout", SMS),
    ("markedspam", EMAIL),
    ("leadrequestedstop", BOTH),
    ("leadstopped", BOTH),
    ("customerstopped", BOTH),
];

/// A post that may withdraw consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleWithdrawal {
    /// Leads beside the lead of a readable post.
    pub named: NamedLeads,
    pub channels: Vec<ConsentChannel>,
    /// Channels whose consent is in doubt: nothing is sent to the lead until an operator decides, and Conversica is not told of a
    /// withdrawal.
    pub unclear: Vec<ConsentChannel>,
}

/// The leads that a body names.
pub fn named_leads(body: &[u8]) -> NamedLeads {
    let (mut named, mut near) = (NamedLeads::default(), WordComparer::default());
    for text in post_text::readings(&decode_body(body).text) {
        name_leads(&text, &chunks(&text), &mut near, &mut named);
    }
    named
}

fn name_leads(text: &str, chunks: &[TextChunk<'_>], near: &mut WordComparer, named: &mut NamedLeads) {
    named_in(text, chunks, near, named);
    named_otherwise(text, chunks, named);
}

/// The possible withdrawal in an unreadable body. A Lead Update may say anything if a part of it could not be searched.
pub fn in_unreadable(kind: PostKind, body: &[u8]) -> Option<PossibleWithdrawal> {
    match objects::split(body).and_then(|parts| withdrawn_by_each(kind, &parts)) {
        Some(found) => Some(found).filter(|found| !found.channels.is_empty()),
        None => in_text(kind, body),
    }
}

/// The withdrawals of the objects, each for the leads that it names; `None` if an object that withdraws consent names no lead.
/// Without channels if no object withdraws consent.
fn withdrawn_by_each(kind: PostKind, objects: &[&str]) -> Option<PossibleWithdrawal> {
    let mut all = PossibleWithdrawal { named: NamedLeads::default(), channels: Vec::new(), unclear: Vec::new() };
    for object in objects {
        let Some(found) = in_text(kind, object.as_bytes()) else { continue };
        if found.named.ids.is_empty() {
            return None;
        }
        all.channels.extend(found.channels);
        all.named.add(found.named);
    }
    all.channels.sort();
    all.channels.dedup();
    Some(all)
}

fn in_text(kind: PostKind, body: &[u8]) -> Option<PossibleWithdrawal> {
    let decoded = decode_body(body);
    let (mut named, mut near) = (NamedLeads::default(), WordComparer::default());
    let mut channels = Vec::new();
    for text in post_text::readings(&decoded.text) {
        let chunks = chunks(&text);
        channels.extend(withdrawn_in(kind, &chunks, &mut near));
        name_leads(&text, &chunks, &mut near, &mut named);
    }
    if near.is_exhausted() || kind == PostKind::LeadUpdate && (decoded.is_cut || decoded.is_opaque) {
        channels.extend(BOTH);
    }
    let channels = distinct(channels);
    (!channels.is_empty()).then_some(PossibleWithdrawal { named, channels, unclear: Vec::new() })
}

/// As [`in_unreadable`], for a body whose end was not stored, because it is too large.
pub fn in_too_large(kind: PostKind, body: &[u8]) -> Option<PossibleWithdrawal> {
    match kind {
        PostKind::LeadUpdate => {
            Some(PossibleWithdrawal { named: named_leads(body), channels: BOTH.to_vec(), unclear: Vec::new() })
        }
        PostKind::Message | PostKind::ChatLead => in_unreadable(kind, body),
    }
}

/// Possible withdrawals of a readable post beside the understood `words`: in unusable values, and in unknown keys.
pub fn in_readable(post: &ReceivedPost, words: &[ChannelWord]) -> Option<PossibleWithdrawal> {
    let withdrawn: Vec<ConsentChannel> = words.iter().filter(|word| !word.given).map(|word| word.channel).collect();
    let is_published = |key: &str| post.kind.keys().iter().any(|(name, _)| *name == key);
    let is_status = |key: &str| key == "action" || STATUS_KEYS.contains(&key.to_lowercase().as_str());
    // Of the published status keys, only unpublished values count, and a `conversationStatus` whose stage goes on.
    let outside = vocabulary::outside(&post.content);
    let is_moving =
        post.content.get("conversationStage").and_then(Value::as_str).is_some_and(|s| !is_stage_stopped_by_person(s));
    let says_more = |value: &Value| withdrawn.is_empty() || value.as_str().is_some_and(stop_words::names_sms);
    let is_understood = |key: &str, value: &Value| {
        is_published(key)
            && !(is_status(key)
                && says_more(value)
                && (outside.contains(&key) || key == "conversationStatus" && is_moving))
    };
    let mut rest: Vec<(&String, &Value)> = post.unused.iter().map(|(key, value)| (key, value)).collect();
    rest.extend(post.content.iter().filter(|(key, value)| !is_understood(key, value)));
    let (mut text, mut said, mut unclear) = (String::new(), Vec::new(), Vec::new());
    let (mut named, mut near) = (NamedLeads::default(), WordComparer::default());
    for (key, value) in rest {
        if key == "id" {
            named.ids.extend(value.as_str().map(str::to_owned));
        }
        let Some(value) = leaf::without_prose(&mut vec![key.clone()], value, &mut near, &mut unclear) else { continue };
        said.extend(member::withdrawn_by_member(post.kind, key, &value));
        // Written as JSON, even within texts that hold JSON themselves.
        let member: Map<String, Value> = [(key.clone(), value)].into_iter().collect();
        text.push_str(&Value::Object(member).to_string());
        text.push('\n');
    }
    // The understood withdrawals are known already; a second lead in the same post is not.
    said.retain(|channel| !withdrawn.contains(channel));
    if post.kind != PostKind::LeadUpdate {
        // In messages and chats, people write freely.
        unclear.clear();
    }
    let mut channels = said;
    let mut nested = NamedLeads::default();
    for text in post_text::readings(&text) {
        let chunks = chunks(&text);
        let mut found = withdrawn_in(post.kind, &chunks, &mut near);
        found.retain(|channel| !withdrawn.contains(channel));
        if !found.is_empty() {
            named_in(&text, &chunks, &mut near, &mut nested);
        }
        channels.extend(found);
    }
    if near.is_exhausted() {
        channels.extend(BOTH);
    }
    if channels.is_empty() && !named.ids.is_empty() {
        channels.clone_from(&withdrawn);
    }
    named.ids.retain(|id| *id != post.lead.id);
    if post.lead.id.is_empty() {
        named.emails.extend(post.content.get("email").and_then(Value::as_str).map(|email| email.trim().to_lowercase()));
    }
    named.set_nested(nested, &post.lead.id, &leads_of_members(post));
    let channels = distinct(channels);
    unclear.retain(|channel| !withdrawn.contains(channel) && !channels.contains(channel));
    let unclear = distinct(unclear);
    (!channels.is_empty() || !unclear.is_empty()).then_some(PossibleWithdrawal { named, channels, unclear })
}

/// The ids under the name `leadId`, at any depth.
fn leads_of_members(post: &ReceivedPost) -> Vec<String> {
    fn search(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let letters: String = key.chars().filter(|c| c.is_alphanumeric()).collect();
                    match value {
                        Value::String(id) if letters.eq_ignore_ascii_case("leadid") => found.push(id.trim().to_owned()),
                        Value::Number(id) if letters.eq_ignore_ascii_case("leadid") => found.push(id.to_string()),
                        other => search(other, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| search(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    search(&Value::Object(post.content.clone()), &mut found);
    found
}

fn distinct(mut channels: Vec<ConsentChannel>) -> Vec<ConsentChannel> {
    channels.sort();
    channels.dedup();
    channels
}

fn chunks(text: &str) -> Vec<TextChunk<'_>> {
    let mut chunks: Vec<TextChunk<'_>> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(is_punctuation).unwrap_or(rest.len());
        let raw = &rest[..length];
        let behind = &rest[length..];
        let is_gap = |c: char| is_punctuation(c) || c.is_whitespace() || c.is_control();
        let gap = behind.find(|c: char| !is_gap(c)).unwrap_or(behind.len());
        let letters: String = raw.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if !letters.is_empty() {
            chunks.push(TextChunk { raw, letters, end: at + length, behind: &behind[..gap] });
        }
        at += (length + gap).max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    chunks
}

/// The channels whose consent these pieces withdraw. In messages and chats, people write freely, so only keys and their values
/// count.
fn withdrawn_in(kind: PostKind, chunks: &[TextChunk<'_>], near: &mut WordComparer) -> Vec<ConsentChannel> {
    let is_prose = kind != PostKind::LeadUpdate;
    let mut channels = Vec::new();
    for (place, chunk) in chunks.iter().enumerate() {
        if chunk.raw.trim_start().starts_with('/') {
            // The end of an XML element.
            continue;
        }
        let next = chunks.get(place + 1);
        let before = place.checked_sub(1).map(|place| &chunks[place]);
        let is_key = chunk.is_key();
        if is_prose {
            if !chunk.raw.trim().contains(' ') {
                channels.extend(said_by_key(chunk, next));
            }
            continue;
        }
        let key = KEYS.iter().find(|(key, _, damage)| near.is_near(&chunk.letters, key, *damage));
        if let Some((name, of, _)) = key {
            let is_phrase = PHRASES.iter().any(|(phrase, _)| phrase == name);
            let is_lone_key = is_clear(SAID_YES, chunk, next);
            if (is_key || is_phrase) && !is_clear(NO, chunk, next) || is_lone_key {
                channels.extend(of.iter());
            } else if !is_key {
                channels.extend(said_by_value(chunk, before, near));
            }
            if !is_key && is_status(before, near) {
                channels.extend(withdrawn_by_status(chunk.raw));
            }
        } else if near.is_near(&chunk.letters, "smsoptin", 1) {
            // The separator between key and value may be lost.
            if is_key && !is_clear(YES, chunk, next) || is_clear(SAID_NO, chunk, next) {
                channels.push(ConsentChannel::Sms);
            }
        } else if let Some(value) = chunk.letters.strip_prefix("donotemail").or(chunk.letters.strip_prefix("smsoptout"))
            && ["true", "yes", "1"].contains(&value)
        {
            channels.extend(BOTH);
        } else if let Some(said) = said_by_unpublished_key(chunk, next) {
            channels.extend(said);
        } else {
            channels.extend(said_by_value(chunk, before, near));
        }
        // A letter may have become a mark of punctuation.
        if let Some(next) = next.filter(|_| chunk.behind.trim().chars().count() == 1 && !is_key) {
            let length = chunk.letters.len() + next.letters.len();
            if PHRASES.iter().any(|(phrase, _)| length.abs_diff(phrase.len()) <= 1) {
                let joined = format!("{}{}", chunk.letters, next.letters);
                let found = PHRASES.iter().find(|(phrase, _)| near.is_near(&joined, phrase, 1));
                channels.extend(found.into_iter().flat_map(|(_, of)| of.iter()));
            }
        }
    }
    channels
}

/// The meaning of an unpublished key and its value; `None` if it is no key, or has no meaning for consent.
fn said_by_unpublished_key(key: &TextChunk<'_>, value: Option<&TextChunk<'_>>) -> Option<&'static [ConsentChannel]> {
    let says_yes = is_clear(SAID_YES, key, value);
    if !(key.is_key() || says_yes) || !stop_words::may_be_about_consent(&key.letters) {
        return None;
    }
    let is_letter = |c: char| c.is_alphanumeric() || " _-.$@#".contains(c);
    let is_name = key.raw.len() < 80 && key.raw.chars().all(is_letter);
    if !is_name || key.raw.trim().contains(' ') && !stop_words::says_nothing_else(key.raw) {
        return None;
    }
    // A blank value: the next piece is another key.
    let is_blank = key.behind.contains([',', '}', '&']);
    let value = value.filter(|_| !is_blank);
    let says_no = is_clear(NO, key, value) || value.is_some_and(|value| stop_words::is_given(value.raw));
    Some(match meaning_of_key(key.raw)? {
        KeyMeaning::Refusal(channels) if !says_no => channels,
        KeyMeaning::RefusedAt(channels) if !says_no && !is_blank && !value.is_some_and(|v| is_no_moment(v.raw)) => {
            channels
        }
        KeyMeaning::MaybeRefusal(channels) if says_yes => channels,
        KeyMeaning::Consent(channels) if is_clear(SAID_NO, key, value) => channels,
        KeyMeaning::Consent(channels) if value.is_some_and(|value| stop_words::is_refused(value.raw)) => channels,
        _ => &[],
    })
}

/// The meaning of a key and its value in a post with free text: the keys and values of Conversica's own Lead Updates, exactly,
/// and other keys whose value is a plain yes or no. They find a Lead Update that was posted to the address of Messages or Chat
/// Leads.
fn said_by_key(key: &TextChunk<'_>, value: Option<&TextChunk<'_>>) -> &'static [ConsentChannel] {
    let letters = key.letters.as_str();
    if let Some((_, channels, _)) = KEYS.iter().find(|(name, ..)| *name == letters) {
        let withdraws = key.is_key() && !is_clear(NO, key, value) || is_clear(SAID_YES, key, value);
        return if withdraws { channels } else { &[] };
    }
    match letters {
        "smsoptin" if is_clear(SAID_NO, key, value) => SMS,
        "smsoptin" => &[],
        "conversationstatus" | "conversationstage"
            if value.is_some_and(|value| is_stage_stopped_by_person(&value.letters)) =>
        {
            EMAIL
        }
        "conversationstatus" | "conversationstage" | "leadstatus" | "action" if key.is_key() => {
            value.filter(|value| value.raw.len() < 80).map_or(&[], |value| withdrawn_by_status(value.raw))
        }
        "conversationstatus" | "conversationstage" => value.map_or(&[], |value| withdrawn_by_value(value.raw)),
        _ if is_clear(SAID_YES, key, value) || is_clear(SAID_NO, key, value) => {
            said_by_unpublished_key(key, value).unwrap_or_default()
        }
        _ => &[],
    }
}

fn is_status(key: Option<&TextChunk<'_>>, near: &mut WordComparer) -> bool {
    key.is_some_and(|key| {
        key.raw.len() < 80 && is_status_key(key.raw)
            || STATUS_KEYS.iter().any(|name| near.is_near(&key.letters, name, 1))
    })
}

fn said_by_value(
    chunk: &TextChunk<'_>,
    before: Option<&TextChunk<'_>>,
    near: &mut WordComparer,
) -> &'static [ConsentChannel] {
    if let Some((_, of)) = PHRASES.iter().find(|(phrase, _)| near.is_near(&chunk.letters, phrase, 1)) {
        return of;
    }
    if !stop_words::may_be_about_consent(&chunk.letters) {
        return &[];
    }
    let said = withdrawn_by_status(chunk.raw);
    if !said.is_empty() && is_status(before, near) {
        return said;
    }
    let is_form = before.is_some_and(|before| before.behind.ends_with('='));
    let is_quoted = before
        .is_some_and(|before| before.is_key() && before.behind.trim_end().ends_with(['"', '=', '>', '\'']))
        && (chunk.behind.starts_with(['"', '&', '<', '\'']) || is_form && chunk.behind.is_empty());
    if is_quoted { withdrawn_by_value(chunk.raw) } else { &[] }
}

const YES: &[&str] = &["true", "yes", "y", "1", "on", "null", "none"];

/// Whether the value of that key is certainly one of these words. `0.0` is `0`.
fn is_clear(words: &[&str], key: &TextChunk<'_>, value: Option<&TextChunk<'_>>) -> bool {
    let is_number = |raw: &str| {
        let number = raw.trim().parse::<f64>().ok();
        number.is_some_and(|number| words.iter().any(|word| word.parse::<f64>() == Ok(number)))
    };
    let is_word = |value: &TextChunk<'_>| words.contains(&value.letters.as_str()) || is_number(value.raw);
    !key.behind.contains([',', '}', '&', ';']) && value.is_some_and(is_word)
}

#[cfg(test)]
mod tests;
