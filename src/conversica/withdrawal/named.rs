//! Finds the leads that a damaged text names: their ids, which follow keys such as `id`, and their e-mail addresses. Pure.

use crate::conversica::stop_words::split_words;
use crate::conversica::withdrawal::near::WordComparer;
use crate::conversica::withdrawal::phrase::{TextChunk, is_punctuation};

/// The limit on the keys of the source.
const MAX_ID_BYTES: usize = 1000;
/// How many bytes after a key are searched for its value: punctuation, the id, and what follows it.
const MAX_VALUE_BYTES: usize = 2 * MAX_ID_BYTES;
/// No damaged post names more leads.
const MAX_IDS: usize = 20;
/// How many keys of ids are searched; a text may consist of them.
const MAX_KEYS: usize = 400;

/// Other names for the id of a lead in the CRM, used if neither `id` nor `leadId` names one.
const OTHER_NAMES: [&str; 16] = [
    "sourceid",
    "sourceleadid",
    "sourcerecordid",
    "externalid",
    "externalleadid",
    "externalkey",
    "crmid",
    "crmleadid",
    "leadsourceid",
    "recordid",
    "contactid",
    "customerid",
    "personid",
    "prospectid",
    "leadnumber",
    "foreignid",
];

/// The ids, clients and e-mail addresses that a text names, as far as the text can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedLeads {
    pub ids: Vec<String>,
    pub client_ids: Vec<String>,
    /// In lower case.
    pub emails: Vec<String>,
    /// Ids within the post that count only if the post's own id matches no lead.
    pub nested: Vec<String>,
}

impl NamedLeads {
    /// Adds the names of another object.
    pub(super) fn add(&mut self, other: NamedLeads) {
        add(&mut self.ids, other.ids);
        add(&mut self.client_ids, other.client_ids);
        add(&mut self.emails, other.emails);
        add(&mut self.nested, other.nested);
    }

    /// Adds names from within a post. Ids under the name `leadId` count as the post's own; others count as nested.
    pub(super) fn set_nested(&mut self, found: NamedLeads, own: &str, lead_ids: &[String]) {
        let is_other = |id: &String| id != own;
        let (of_leads, others): (Vec<String>, Vec<String>) =
            found.ids.into_iter().filter(is_other).partition(|id| own.is_empty() || lead_ids.contains(id));
        add(&mut self.ids, of_leads);
        add(&mut self.client_ids, found.client_ids);
        add(&mut self.nested, others);
    }
}

fn add(names: &mut Vec<String>, found: Vec<String>) {
    for name in found {
        if names.len() < MAX_IDS && !names.contains(&name) {
            names.push(name);
        }
    }
}

fn is_key(chunk: &&TextChunk<'_>) -> bool {
    !chunk.raw.trim_start().starts_with('/') && !chunk.behind.contains([',', '}'])
}

/// Adds the ids and clients that the text names. A damaged key counts only if no intact key names an id.
pub(super) fn named_in(text: &str, chunks: &[TextChunk<'_>], near: &mut WordComparer, named: &mut NamedLeads) {
    let keys = || chunks.iter().filter(is_key);
    for name in ["id", "leadid"] {
        for chunk in keys().filter(|chunk| chunk.letters == name).take(MAX_KEYS) {
            add(&mut named.ids, values_of(text, chunk));
        }
    }
    if named.ids.is_empty() {
        let mut is_damaged =
            |chunk: &&TextChunk<'_>| near.is_near(&chunk.letters, "leadid", 1) || near.is_near(&chunk.letters, "id", 1);
        let damaged = keys().find(|chunk| chunk.behind.contains([':', '=']) && is_damaged(chunk));
        add(&mut named.ids, damaged.map(|chunk| values_of(text, chunk)).unwrap_or_default());
    }
    let mut is_client = |chunk: &&TextChunk<'_>| near.is_near(&chunk.letters, "clientid", 1);
    for chunk in keys().filter(|chunk| is_client(chunk)).take(MAX_KEYS) {
        add(&mut named.client_ids, values_of(text, chunk));
    }
}

/// Adds ids that follow a key of another name (`sourceId`), if the text has no other id, and e-mail addresses.
pub(super) fn named_otherwise(text: &str, chunks: &[TextChunk<'_>], named: &mut NamedLeads) {
    let keys = || chunks.iter().filter(is_key);
    if named.ids.is_empty() {
        let others = keys().filter(|chunk| OTHER_NAMES.contains(&chunk.letters.as_str()));
        for chunk in others.take(MAX_KEYS) {
            add(&mut named.ids, values_of(text, chunk));
        }
    }
    let is_address = |chunk: &&TextChunk<'_>| {
        chunk.letters.len() < 40 && ["mail", "recipient", "address"].iter().any(|name| chunk.letters.contains(name))
    };
    for chunk in keys().filter(is_address).take(MAX_KEYS) {
        add(&mut named.emails, email_at(&text[chunk.end..]).into_iter().collect());
    }
}

/// The e-mail address that begins after a key.
fn email_at(text: &str) -> Option<String> {
    let text = &text[..text.floor_char_boundary(MAX_VALUE_BYTES)];
    let is_letter = |c: char| c.is_alphanumeric() || "@.!#$%*+/?^_`{}~-".contains(c);
    let value = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    let skipped = &text[..text.len() - value.len()];
    let word = &value[..value.find(|c| !is_letter(c)).unwrap_or(value.len())];
    let (local, domain) = word.split_once('@')?;
    let is_address = !local.is_empty() && domain.contains('.') && !domain.contains('@') && word.len() <= 320;
    (is_address && !skipped.contains([',', '}'])).then(|| word.to_lowercase())
}

/// The possible values of a key; for an object, those in it.
fn values_of(text: &str, chunk: &TextChunk<'_>) -> Vec<String> {
    let behind = &text[chunk.end..];
    let behind = &behind[..behind.floor_char_boundary(MAX_VALUE_BYTES)];
    let marks = behind.trim_start_matches(['"', '\'', '\\', ' ']);
    let Some(object) = marks.strip_prefix([':', '=']).map(str::trim_start).and_then(|value| value.strip_prefix('{'))
    else {
        return values_at(behind);
    };
    let object = &object[..object.find('}').unwrap_or(object.len())];
    let pieces = object.split(',').filter_map(|member| member.split_once(':'));
    pieces
        .flat_map(|(_, value)| values_at(value))
        .filter(|value| !split_words(value).is_empty())
        .take(MAX_IDS)
        .collect()
}

/// The possible values after a key. If a mark around the value is damaged, the letter that it has become may belong to the value.
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
        // The marks around the value are intact.
        let tail = tail.trim_start_matches('\\').strip_prefix('"').map(str::trim_start);
        if tail.is_some_and(|tail| tail.is_empty() || tail.starts_with([',', '}'])) && !exact.contains(is_punctuation) {
            return found.into_iter().map(str::trim).filter(is_id).map(str::to_owned).collect();
        }
    }
    found.push(whole);
    // `12.5` is no other spelling of 12.
    let is_part = |fraction: &str| fraction.bytes().any(|b| b.is_ascii_digit() && b != b'0');
    found.extend(whole.split_once('.').filter(|(_, fraction)| !is_part(fraction)).map(|(integer, _)| integer));
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
    // A whole number that is not written as an integer.
    let number = whole.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    let number = number.filter(|_| whole.contains(['e', 'E'])).map(|number| format!("{number:.0}"));
    found.extend(number.as_deref());
    let trimmed = found.into_iter().map(|id| id.trim_matches(|c: char| c.is_whitespace() || c == '\''));
    trimmed.filter(is_id).map(str::to_owned).collect()
}
