//! Traces of a withdrawal of consent in what cannot be read for certain: whom it may be about, and which channels. Pure.
//!
//! A post that is damaged may be the only word of a person who wants no more messages. Whatever looks like one counts until an
//! operator has looked; an explicit no does not. The text is cut at JSON's punctuation, and words are compared by their letters,
//! so that a few damaged bytes hide nothing.

use serde_json::{Map, Value};

use crate::conversica::consent::{Channel, Word, is_stopped_by_person};
use crate::conversica::heard::{Kind, Post};
use crate::conversica::lenient;
use crate::conversica::vocabulary;

const BOTH: &[Channel] = &Channel::ALL;
const EMAIL: &[Channel] = &[Channel::Email];
const SMS: &[Channel] = &[Channel::Sms];

/// Keys that withdraw consent unless their value is a clear no, with the channels, and how many letters may be damaged.
const KEYS: [(&str, &[Channel], usize); 9] = [
    ("donotemail", EMAIL, 2),
    ("smsoptout", SMS, 2),
    ("optout", BOTH, 0),
    ("emailoptout", EMAIL, 1),
    ("globaloptout", BOTH, 1),
    ("donotcontact", BOTH, 1),
    ("donottext", SMS, 0),
    ("unsubscribe", EMAIL, 0),
    ("unsubscribed", EMAIL, 1),
];

/// Values that withdraw consent by themselves.
const PHRASES: [(&str, &[Channel]); 7] = [
    ("unsubscribed", EMAIL),
    ("donotemail", EMAIL),
    ("smsoptout", SMS),
    ("markedspam", EMAIL),
    ("leadrequestedstop", BOTH),
    ("leadstopped", BOTH),
    ("customerstopped", BOTH),
];

/// Keys whose values say how a conversation stands.
const STATUS_KEYS: [&str; 6] =
    ["conversationstatus", "conversationstage", "leadstatus", "leadsubstatus", "status", "stage"];

/// As long as a key of the source may be.
const MAX_ID_BYTES: usize = 1000;
/// Behind a key, no more text is searched for its value: marks of punctuation, the id, and what follows it.
const MAX_VALUE_BYTES: usize = 2 * MAX_ID_BYTES;
/// Of more leads no damaged post speaks.
const MAX_IDS: usize = 20;

/// Whom a text names: every value of `id` or `leadId`, and of `clientId`, as far as they can be made out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedLeads {
    pub ids: Vec<String>,
    pub client_ids: Vec<String>,
}

/// A post that may withdraw consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleWithdrawal {
    /// Beside the lead of a post that could be read.
    pub named: NamedLeads,
    pub channels: Vec<Channel>,
}

/// Whom a body names.
pub fn named_leads(body: &[u8]) -> NamedLeads {
    let mut named = NamedLeads::default();
    for text in variants(&lenient::as_text(body)) {
        named_in(&text, &chunks(&text), &mut named);
    }
    named
}

/// What a body that cannot be read may say.
pub fn in_unreadable(kind: Kind, body: &[u8]) -> Option<PossibleWithdrawal> {
    let mut channels = Vec::new();
    for text in variants(&lenient::as_text(body)) {
        channels.extend(withdrawn_in(kind, &chunks(&text)));
    }
    let channels = distinct(channels);
    (!channels.is_empty()).then(|| PossibleWithdrawal { named: named_leads(body), channels })
}

/// What a post may say beside the `words` that were understood: in values that could not be used, and in unknown keys.
pub fn in_readable(post: &Post, words: &[Word]) -> Option<PossibleWithdrawal> {
    let withdrawn: Vec<Channel> = words.iter().filter(|word| !word.given).map(|word| word.channel).collect();
    let is_published = |key: &str| post.kind.keys().iter().any(|(name, _)| *name == key);
    let is_status = |key: &str| STATUS_KEYS.contains(&key.to_lowercase().as_str());
    // Of the published statuses those that are not published, or stand beside a stage that is not theirs.
    let outside = vocabulary::outside(&post.content);
    let is_moving =
        post.content.get("conversationStage").and_then(Value::as_str).is_some_and(|s| !is_stopped_by_person(s));
    let is_understood = |key: &str| {
        is_published(key)
            && !(is_status(key)
                && withdrawn.is_empty()
                && (outside.contains(&key) || key == "conversationStatus" && is_moving))
    };
    let mut rest: Vec<(&String, &Value)> = post.unused.iter().map(|(key, value)| (key, value)).collect();
    rest.extend(post.content.iter().filter(|(key, _)| !is_understood(key)));
    let mut text = String::new();
    let mut named = NamedLeads::default();
    for (key, value) in rest {
        if key == "id" {
            named.ids.extend(value.as_str().map(str::to_owned));
        }
        // Written as JSON, also within texts that hold JSON themselves.
        let member: Map<String, Value> = [(key.clone(), value.clone())].into_iter().collect();
        text.push_str(&Value::Object(member).to_string());
        text.push('\n');
    }
    let mut channels = Vec::new();
    for text in variants(&text) {
        let chunks = chunks(&text);
        let mut found = withdrawn_in(post.kind, &chunks);
        // What was understood is said; a second lead by the same post is not.
        found.retain(|channel| !withdrawn.contains(channel));
        if !found.is_empty() {
            named_in(&text, &chunks, &mut named);
        }
        channels.extend(found);
    }
    if channels.is_empty() && !named.ids.is_empty() {
        channels = withdrawn;
    }
    named.ids.retain(|id| *id != post.lead.id);
    let channels = distinct(channels);
    (!channels.is_empty()).then_some(PossibleWithdrawal { named, channels })
}

fn distinct(mut channels: Vec<Channel>) -> Vec<Channel> {
    channels.sort();
    channels.dedup();
    channels
}

/// The text, and what it says where it is encoded once more: as a form, or with escapes within a text.
fn variants(text: &str) -> Vec<String> {
    let mut variants = vec![text.replace("&quot;", "\"").replace("&#34;", "\"")];
    // In a form a blank is a plus sign.
    if text.contains(['%', '+']) {
        variants.push(form_decoded(text));
    }
    if text.contains("\\u00") {
        variants.push(unescaped(text));
    }
    variants
}

fn form_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = tail;
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unescaped(text: &str) -> String {
    let mut pieces = text.split("\\u");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let c = piece.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        match c {
            Some(c) => {
                plain.push(c);
                plain.push_str(&piece[4..]);
            }
            None => plain.push_str(piece),
        }
    }
    plain
}

/// A piece of text between two marks of punctuation.
struct Chunk<'t> {
    raw: &'t str,
    /// Its letters and digits, in lower case.
    letters: String,
    /// Where it ends in the text.
    end: usize,
    /// The punctuation between it and the next one.
    behind: &'t str,
}

/// Other control characters are damaged letters of a word.
fn is_punctuation(c: char) -> bool {
    matches!(
        c,
        '\0' | '\t'
            | '\n'
            | '\r'
            | '"'
            | '\''
            | ':'
            | ','
            | '{'
            | '}'
            | '['
            | ']'
            | '='
            | '&'
            | '<'
            | '>'
            | ';'
            | '\\'
            | '|'
    )
}

fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
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
            chunks.push(Chunk { raw, letters, end: at + length, behind: &behind[..gap] });
        }
        at += (length + gap).max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    chunks
}

/// The channels whose consent these pieces withdraw. In messages and chats people write freely: there only
/// keys and their values count.
fn withdrawn_in(kind: Kind, chunks: &[Chunk<'_>]) -> Vec<Channel> {
    let is_prose = kind != Kind::LeadUpdate;
    let mut channels = Vec::new();
    for (place, chunk) in chunks.iter().enumerate() {
        if chunk.raw.trim_start().starts_with('/') {
            // The end of an XML element.
            continue;
        }
        let next = chunks.get(place + 1);
        let before = place.checked_sub(1).map(|place| &chunks[place]);
        let is_key = chunk.behind.contains([':', '=', '>']);
        if is_prose {
            if !chunk.raw.trim().contains(' ') {
                channels.extend(said_by_key(chunk, next));
            }
            continue;
        }
        let key = KEYS.iter().find(|(key, _, damage)| is_near(&chunk.letters, key, *damage));
        if let Some((name, of, _)) = key {
            let is_phrase = PHRASES.iter().any(|(phrase, _)| phrase == name);
            let is_lone_key = is_clear(SAID_YES, chunk, next);
            if (is_key || is_phrase) && !is_clear(NO, chunk, next) || is_lone_key {
                channels.extend(of.iter());
            } else if !is_key {
                channels.extend(said_by_value(chunk, before));
            }
        } else if is_near(&chunk.letters, "smsoptin", 1) {
            // The mark between key and value may be lost.
            if is_key && !is_clear(YES, chunk, next) || is_clear(SAID_NO, chunk, next) {
                channels.push(Channel::Sms);
            }
        } else if let Some(value) = chunk.letters.strip_prefix("donotemail").or(chunk.letters.strip_prefix("smsoptout"))
        {
            if ["true", "yes", "1"].contains(&value) {
                channels.extend(BOTH);
            }
        } else {
            channels.extend(said_by_value(chunk, before));
        }
        // A letter may have become a mark of punctuation.
        if let Some(next) = next.filter(|_| chunk.behind.trim().chars().count() == 1 && !is_key) {
            let joined = format!("{}{}", chunk.letters, next.letters);
            let found = PHRASES.iter().find(|(phrase, _)| is_near(&joined, phrase, 1));
            channels.extend(found.into_iter().flat_map(|(_, of)| of.iter()));
        }
    }
    channels
}

/// What a key and its value say where people also write freely: only the keys and values of Conversica's own Lead Updates, letter
/// by letter. A Lead Update that is posted to the address of Messages or Chat Leads is found by them.
fn said_by_key(key: &Chunk<'_>, value: Option<&Chunk<'_>>) -> &'static [Channel] {
    let is_key = key.behind.contains([':', '=', '>']);
    let letters = key.letters.as_str();
    if let Some((_, channels, _)) = KEYS.iter().find(|(name, ..)| *name == letters) {
        let withdraws = is_key && !is_clear(NO, key, value) || is_clear(SAID_YES, key, value);
        return if withdraws { channels } else { &[] };
    }
    let value_letters = value.map_or("", |value| value.letters.as_str());
    match letters {
        "smsoptin" if is_clear(SAID_NO, key, value) => SMS,
        "conversationstatus" | "conversationstage" if is_stopped_by_person(value_letters) => EMAIL,
        "conversationstatus" | "conversationstage" => {
            PHRASES.iter().find(|(phrase, _)| *phrase == value_letters).map_or(&[], |(_, channels)| *channels)
        }
        _ => &[],
    }
}

fn said_by_value(chunk: &Chunk<'_>, before: Option<&Chunk<'_>>) -> Vec<Channel> {
    if let Some((_, of)) = PHRASES.iter().find(|(phrase, _)| is_near(&chunk.letters, phrase, 1)) {
        return of.to_vec();
    }
    let is_status = before.is_some_and(|key| STATUS_KEYS.iter().any(|name| is_near(&key.letters, name, 1)));
    if !is_status {
        return Vec::new();
    }
    let letters = chunk.letters.as_str();
    let stops = ["stop", "stopped", "stopall"].contains(&letters)
        || ["optout", "optedout", "unsub", "donotcontact"].iter().any(|start| letters.starts_with(start))
        || is_stopped_by_person(letters);
    if stops { BOTH.to_vec() } else { Vec::new() }
}

const NO: &[&str] = &["false", "no", "n", "0", "off", "null", "none"];
/// A value that is a word, unlike `null`.
const SAID_NO: &[&str] = &["false", "no", "n", "0", "off"];
const SAID_YES: &[&str] = &["true", "yes", "y", "1", "on"];
const YES: &[&str] = &["true", "yes", "y", "1", "on", "null", "none"];

/// Whether the value of that key is one of these words, for certain. `0.0` is `0`.
fn is_clear(words: &[&str], key: &Chunk<'_>, value: Option<&Chunk<'_>>) -> bool {
    let is_number = |raw: &str| {
        let number = raw.trim().parse::<f64>().ok();
        number.is_some_and(|number| words.iter().any(|word| word.parse::<f64>() == Ok(number)))
    };
    let is_word = |value: &Chunk<'_>| words.contains(&value.letters.as_str()) || is_number(value.raw);
    !key.behind.contains([',', '}', '&', ';']) && value.is_some_and(is_word)
}

/// Whether a word differs from another one, of ASCII letters, in at most so many letters.
fn is_near(word: &str, other: &str, most: usize) -> bool {
    if word == other {
        return true;
    }
    // A post has up to a million words: almost all of them end here, before anything is copied.
    if most == 0 || word.len() > 80 || word.chars().count().abs_diff(other.len()) > most {
        return false;
    }
    let (word, other): (Vec<char>, Vec<char>) = (word.chars().collect(), other.chars().collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in word.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = before + usize::from(a != b);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[other.len()] <= most
}

/// Adds whom a text names; a damaged key counts where no other names a lead.
fn named_in(text: &str, chunks: &[Chunk<'_>], named: &mut NamedLeads) {
    let is_key = |chunk: &&Chunk<'_>| !chunk.raw.trim_start().starts_with('/') && !chunk.behind.contains([',', '}']);
    let keys = || chunks.iter().filter(is_key);
    let add = |ids: &mut Vec<String>, found: Vec<String>| {
        for id in found {
            if ids.len() < MAX_IDS && !ids.contains(&id) {
                ids.push(id);
            }
        }
    };
    for name in ["id", "leadid"] {
        for chunk in keys().filter(|chunk| chunk.letters == name) {
            add(&mut named.ids, values_at(&text[chunk.end..]));
        }
    }
    if named.ids.is_empty() {
        let is_damaged = |chunk: &&Chunk<'_>| is_near(&chunk.letters, "leadid", 1) || is_near(&chunk.letters, "id", 1);
        let damaged = keys().find(|chunk| is_damaged(chunk) && chunk.behind.contains([':', '=']));
        add(&mut named.ids, damaged.map(|chunk| values_at(&text[chunk.end..])).unwrap_or_default());
    }
    for chunk in keys().filter(|chunk| is_near(&chunk.letters, "clientid", 1)) {
        add(&mut named.client_ids, values_at(&text[chunk.end..]));
    }
}

/// What the value behind a key may be. Where a mark around it is damaged, the letter that it has become may belong to it.
fn values_at(text: &str) -> Vec<String> {
    let text = &text[..text.floor_char_boundary(MAX_VALUE_BYTES)];
    // In a form an ampersand ends an empty value; elsewhere it is a damaged mark.
    let marks = if text.starts_with('=') { "\"'\\:=>([" } else { "\"'\\:=>([&;" };
    let is_mark = |c: char| c.is_whitespace() || c.is_control() || marks.contains(c);
    let is_end = |c: char| c.is_whitespace() || c.is_control() || "\",&}<;\\".contains(c);
    let bare = |text: &'_ str| text.find(is_end).unwrap_or(text.len());
    let value = text.trim_start_matches(is_mark);
    let quoted = text[..text.len() - value.len()].ends_with(['"', '\'']);
    let (whole, behind) = value.split_at(bare(value));
    let is_id = |id: &&str| {
        id.chars().any(char::is_alphanumeric) && id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control)
    };
    let mut found = Vec::new();
    if quoted {
        let (exact, tail) = value.split_at(value.find(['"', '\\', '\n']).unwrap_or(value.len()));
        found.push(exact);
        // Nothing is damaged around it.
        let tail = tail.trim_start_matches('\\').strip_prefix('"').map(str::trim_start);
        if tail.is_some_and(|tail| tail.is_empty() || tail.starts_with([',', '}'])) && !exact.contains(is_punctuation) {
            return found.into_iter().map(str::trim).filter(is_id).map(str::to_owned).collect();
        }
    }
    found.push(whole);
    found.extend(whole.split_once('.').map(|(integer, _)| integer));
    let first = whole.chars().next().map_or(0, char::len_utf8);
    let last = whole.chars().next_back().map_or(0, char::len_utf8);
    if !quoted && behind.starts_with('"') {
        found.push(&whole[first..]);
    }
    if quoted && behind.starts_with([',', '}']) {
        found.push(&whole[..whole.len() - last]);
        found.extend(whole.find(|c: char| !c.is_alphanumeric()).map(|end| &whole[..end]));
    }
    // The colon, or a letter in its place.
    if whole.chars().count() == 1 && behind.starts_with('"') {
        let next = behind.trim_start_matches(['"', ' ']);
        found.push(&next[..bare(next)]);
    }
    let trimmed = found.into_iter().map(|id| id.trim_matches(|c: char| c.is_whitespace() || c == '\''));
    trimmed.filter(is_id).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
