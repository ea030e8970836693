//! Whether an answer with a 2xx status says that Conversica accepted the lead. Pure.
//!
//! Login pages and bot walls answer 200 in Conversica's place, and APIs report failures in the body of a 200. An answer without a
//! body, or with a body that reports no failure, is an acceptance, because Conversica documents only the status.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::conversica::content::AnswerText;
use vocabulary::{
    ACCEPTANCES, BESIDE_NO_ERRORS, CODES, CREDENTIAL_NAMES, CREDENTIALS, DEMANDS, ECHOES, GATEWAYS, HARMLESS_DENIALS,
    LOGIN_WORDS, MEDIA_KINDS_OF_PAGES, MEDIA_OF_PAGES, MESSAGES, NEGATIONS, NO_ERRORS, NO_SUCCESS, PAGE_PARTS,
    REFUSALS_AT_THE_START, RESULTS, SHORT_YES, STATUS_REFUSALS, TAKEN, names_errors, names_status, names_stored,
    names_success, plain_key, word_refuses, words, words_refuse,
};

/// The meaning of a 2xx answer. If an answer says several of these, the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerVerdict {
    Accepted,
    /// The body says that this lead was not accepted.
    Rejected,
    /// A web page, or the text of a proxy: this is not Conversica's endpoint.
    WebPage,
    /// The body says that the user name or the password is wrong. Further attempts may lock the account.
    CredentialsRefused,
}

/// The depth to which objects are searched.
const DEPTH: usize = 6;

/// Judges an answer with a 2xx status to the Lead object `sent`.
pub fn judge_answer(content_type: Option<&str>, text: &AnswerText, sent: &str) -> AnswerVerdict {
    let media =
        content_type.unwrap_or_default().split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_page =
        MEDIA_OF_PAGES.contains(&media.as_str()) || MEDIA_KINDS_OF_PAGES.iter().any(|kind| media.starts_with(kind));
    match text {
        // The request did not ask for that encoding: the answer is not from Conversica's API, and may say no.
        AnswerText::Unreadable(_) => AnswerVerdict::WebPage,
        AnswerText::Text(text) if trim_text(text).is_empty() => AnswerVerdict::Accepted,
        AnswerText::Text(_) if media == "application/problem+json" => AnswerVerdict::Rejected,
        AnswerText::Text(text) => match judge_text(echo::remove_echo(trim_text(text), sent).as_deref().unwrap_or(text))
        {
            TextVerdict::Json(verdict) => verdict,
            TextVerdict::Plain(AnswerVerdict::CredentialsRefused) => AnswerVerdict::CredentialsRefused,
            // Plain text called HTML is a page, unless it is short: some servers call every text HTML, and still say "OK".
            TextVerdict::Plain(_) if is_page && !is_short_yes(text) => AnswerVerdict::WebPage,
            TextVerdict::Plain(verdict) => verdict,
        },
    }
}

enum TextVerdict {
    Json(AnswerVerdict),
    Plain(AnswerVerdict),
}

fn judge_text(text: &str) -> TextVerdict {
    let text = trim_text(text);
    if is_markup(text) {
        return TextVerdict::Plain(AnswerVerdict::WebPage);
    }
    if let Some(verdict) = judge_json(text) {
        return TextVerdict::Json(verdict);
    }
    let lower = text.to_lowercase();
    if PAGE_PARTS.iter().any(|part| lower.contains(part)) {
        return TextVerdict::Plain(AnswerVerdict::WebPage);
    }
    TextVerdict::Plain(match text.find(['{', '[']) {
        // Damaged JSON, whose words are not sentences.
        Some(0) => AnswerFindings::of(&as_json(text)).0.verdict,
        // Warnings of a script, or a prefix against hijacking, before the JSON.
        Some(at) => judge_plain_text(text).max(AnswerFindings::of(&text[at..]).0.verdict),
        None => judge_plain_text(text),
    })
}

/// Converts an object as Python and Ruby print it to JSON.
fn as_json(text: &str) -> String {
    let text = text.replace('\'', "\"").replace("=>", ":");
    text.replace("True", "true").replace("False", "false").replace("None", "null").replace("nil", "null")
}

/// Removes characters around the text that neither a parser nor a reader sees.
fn trim_text(text: &str) -> &str {
    text.trim_matches(|c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}' | '\u{feff}' | '\u{fffd}')
    })
}

/// Whether a text begins like HTML or XML; Conversica's answers are neither.
fn is_markup(text: &str) -> bool {
    let mut start = text.chars();
    start.next() == Some('<') && start.next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '!' | '?' | '/'))
}

fn is_short_yes(text: &str) -> bool {
    let text = trim_text(text).trim_end_matches(['.', '!']).to_lowercase();
    SHORT_YES.contains(&text.as_str())
}

/// `None` if the text is neither JSON nor the beginning of an object or a list.
fn judge_json(text: &str) -> Option<AnswerVerdict> {
    match AnswerFindings::of(text) {
        (AnswerFindings { verdict }, _) if verdict != AnswerVerdict::Accepted => Some(verdict),
        (_, JsonEnd::Whole | JsonEnd::Cut) if text.starts_with(['{', '[']) => {
            // One value a line: the first may only say that the work has begun.
            let further = text.lines().skip(1).filter(|line| line.starts_with(['{', '[']));
            Some(further.map(|line| AnswerFindings::of(line).0.verdict).max().unwrap_or(AnswerVerdict::Accepted))
        }
        _ => match serde_json::from_str(text).ok()? {
            // JSON in a string of JSON.
            Value::String(inner) => Some(match judge_text(&inner) {
                TextVerdict::Json(verdict) | TextVerdict::Plain(verdict) => verdict,
            }),
            Value::Bool(false) => Some(AnswerVerdict::Rejected),
            Value::Number(number) if number.as_f64() == Some(0.0) => Some(AnswerVerdict::Rejected),
            _ => Some(AnswerVerdict::Accepted),
        },
    }
}

/// "Error: no such list", "status=failed&message=…", "403 Forbidden", "no healthy upstream".
fn judge_plain_text(text: &str) -> AnswerVerdict {
    let words = words(text);
    let says_false = words.first().is_some_and(|word| word == "false") || words == ["no"];
    let pairs = text.split(['&', '\n']).filter_map(|pair| pair.split_once(['=', ':']));
    let of_pairs = pairs.map(|(key, value)| judge_entry(key, &Value::from(value), AnswerPlace::Top)).max();
    let of_text = if says_false || has_error_number(text) { AnswerVerdict::Rejected } else { AnswerVerdict::Accepted };
    judge_sentence(text).max(of_text).max(of_pairs.unwrap_or(AnswerVerdict::Accepted))
}

/// The meaning of a sentence about the outcome.
fn judge_sentence(text: &str) -> AnswerVerdict {
    let lower = text.to_lowercase();
    let says_one_of = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    if says_acceptance_in_words(text) {
        AnswerVerdict::Accepted
    } else if says_one_of(&CREDENTIALS) || says_one_of(&CREDENTIAL_NAMES) && sentence_refuses(text) {
        AnswerVerdict::CredentialsRefused
    } else if says_one_of(&GATEWAYS) {
        AnswerVerdict::WebPage
    } else if sentence_refuses(text) {
        AnswerVerdict::Rejected
    } else {
        AnswerVerdict::Accepted
    }
}

fn says_acceptance_in_words(text: &str) -> bool {
    let words = words(text);
    let is_negated = |at: usize| words[at.saturating_sub(2)..at].iter().any(|word| NEGATIONS.contains(&word.as_str()));
    words.iter().enumerate().any(|(at, word)| ACCEPTANCES.contains(&word.as_str()) && !is_negated(at))
}

fn sentence_refuses(text: &str) -> bool {
    let words = words(text);
    let begins = words.first().is_some_and(|word| REFUSALS_AT_THE_START.contains(&word.as_str()));
    begins || denies(&words) || words_refuse(&words, |word| !REFUSALS_AT_THE_START.contains(&word))
}

/// "Lead not imported", "The list does not exist", "No list with that name": a denial of anything but a change or a fault.
fn denies(words: &[String]) -> bool {
    let is_harmless = |word: &String| HARMLESS_DENIALS.contains(&word.as_str());
    let behind = |at: usize| words[at + 1..].iter().take(3);
    words.iter().enumerate().any(|(at, word)| match word.as_str() {
        "no" => at == 0 && words.len() > 1 && !behind(at).any(is_harmless),
        "not" => words.len() > at + 1 && !behind(at).any(is_harmless),
        "doesn" | "isn" | "wasn" | "didn" | "hasn" => words.get(at + 1).is_some_and(|next| next == "t"),
        _ => false,
    }) || !words.iter().any(|word| ["no", "not", "nothing"].contains(&word.as_str()))
        && DEMANDS.iter().any(|demand| words.windows(2).any(|pair| *pair == demand[..]))
}

/// The meaning of an object or a list, as far as it was read: an answer may be cut, or longer than the limit.
#[derive(Debug)]
struct AnswerFindings {
    verdict: AnswerVerdict,
}

/// How far JSON could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonEnd {
    Whole,
    /// Intact, except that it ends too early.
    Cut,
    Damaged,
}

impl AnswerFindings {
    /// Parts before an error count.
    fn of(text: &str) -> (Self, JsonEnd) {
        let mut findings = Self { verdict: AnswerVerdict::Accepted };
        let end = match findings.deserialize(&mut serde_json::Deserializer::from_str(text)) {
            Ok(()) => JsonEnd::Whole,
            Err(error) if error.is_eof() => JsonEnd::Cut,
            Err(_) => JsonEnd::Damaged,
        };
        (findings, end)
    }
}

impl<'de> DeserializeSeed<'de> for &mut AnswerFindings {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut AnswerFindings {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut entries = Vec::new();
        let end = loop {
            match map.next_entry::<String, Value>() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let entries = entries.iter().map(|(key, value)| (key.as_str(), value));
        self.verdict = self.verdict.max(judge_object(entries, AnswerPlace::Top));
        end
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            let of_value = if value == Value::Bool(false) {
                AnswerVerdict::Rejected
            } else {
                judge_nested(&value, AnswerPlace::Top)
            };
            self.verdict = self.verdict.max(of_value);
        }
        Ok(())
    }
}

/// The place of an object in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerPlace {
    Top,
    /// The depth, in an object that may wrap the answer itself.
    Wrapped(usize),
    /// The depth, in an object that may repeat the lead; its numbers and words are not the answer's own.
    Repeated(usize),
}

impl AnswerPlace {
    const fn depth(self) -> usize {
        match self {
            AnswerPlace::Top => 0,
            AnswerPlace::Wrapped(depth) | AnswerPlace::Repeated(depth) => depth,
        }
    }
}

fn judge_object<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)> + Clone, place: AnswerPlace) -> AnswerVerdict {
    let says_yes = entries.clone().any(|(key, value)| says_acceptance(key, value));
    let says_ok =
        || entries.clone().any(|(key, value)| MESSAGES.contains(&plain_key(key).as_str()) && says_only_yes(value));
    let is_echo = matches!(place, AnswerPlace::Repeated(_));
    if !says_yes && !is_echo && !says_ok() && counts_nothing(entries.clone()) {
        return AnswerVerdict::Rejected;
    }
    let of_entry = |(name, value): (&str, &Value)| {
        let key = plain_key(name);
        if says_yes && MESSAGES.contains(&key.as_str()) {
            return AnswerVerdict::Accepted;
        }
        // The return code 0 of programs means "no error".
        if names_status(&key) && value.as_f64() == Some(0.0) && says_ok() {
            return AnswerVerdict::Accepted;
        }
        if !says_yes && sends_elsewhere(&key, value) {
            return AnswerVerdict::WebPage;
        }
        if !says_yes && !is_echo && CODES.contains(&key.as_str()) && is_error_number(value) {
            return AnswerVerdict::Rejected;
        }
        let verdict = judge_entry(name, value, place);
        if verdict != AnswerVerdict::Accepted || names_errors(name) {
            return verdict;
        }
        let is_beneath_yes = says_yes && !RESULTS.contains(&key.as_str());
        let is_repeated = is_beneath_yes || is_echo || ECHOES.contains(&key.as_str());
        let depth = place.depth() + 1;
        judge_nested(value, if is_repeated { AnswerPlace::Repeated(depth) } else { AnswerPlace::Wrapped(depth) })
    };
    entries.clone().map(of_entry).max().unwrap_or(AnswerVerdict::Accepted)
}

/// The meaning of a nested object, or of the objects in a list.
fn judge_nested(value: &Value, place: AnswerPlace) -> AnswerVerdict {
    match value {
        _ if place.depth() > DEPTH => AnswerVerdict::Accepted,
        Value::Object(object) => judge_object(object.iter().map(|(key, value)| (key.as_str(), value)), place),
        Value::Array(values) => {
            let objects = values.iter().filter(|value| value.is_object());
            objects.map(|value| judge_nested(value, place)).max().unwrap_or(AnswerVerdict::Accepted)
        }
        _ => AnswerVerdict::Accepted,
    }
}

fn says_only_yes(value: &Value) -> bool {
    value.as_str().is_some_and(|text| is_short_yes(text) || says_acceptance_in_words(text) && !sentence_refuses(text))
}

/// `{"redirect":"/login"}`, `{"loginRequired":true}`: a login wall's words in JSON.
fn sends_elsewhere(key: &str, value: &Value) -> bool {
    let is_login = |text: &str| LOGIN_WORDS.iter().any(|word| text.contains(word));
    match value {
        Value::Bool(true) => key.ends_with("required") && is_login(key),
        Value::String(target) => {
            let target = target.trim().to_lowercase();
            let is_place = target.contains('/');
            key.starts_with("redirect") && is_place || key == "location" && is_place && is_login(&target)
        }
        _ => false,
    }
}

/// Whether an object counts the leads that were taken, and each of its counts is none.
fn counts_nothing<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)>) -> bool {
    let counts = entries.filter(|(key, _)| TAKEN.contains(&plain_key(key).as_str())).map(|(_, value)| match value {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(values) => values.is_empty(),
        other => is_no(other),
    });
    let counts: Vec<bool> = counts.collect();
    !counts.is_empty() && counts.iter().all(|is_none| *is_none)
}

fn judge_entry(key: &str, value: &Value, place: AnswerPlace) -> AnswerVerdict {
    if says_refusal(key, value, place) {
        return AnswerVerdict::Rejected;
    }
    match value {
        Value::String(text)
            if !matches!(place, AnswerPlace::Repeated(_)) && MESSAGES.contains(&plain_key(key).as_str()) =>
        {
            judge_sentence(text)
        }
        Value::Array(texts)
            if !matches!(place, AnswerPlace::Repeated(_)) && MESSAGES.contains(&plain_key(key).as_str()) =>
        {
            texts.iter().filter_map(Value::as_str).map(judge_sentence).max().unwrap_or(AnswerVerdict::Accepted)
        }
        _ => AnswerVerdict::Accepted,
    }
}

fn says_refusal(key: &str, value: &Value, place: AnswerPlace) -> bool {
    if names_errors(key) {
        return reports_errors(value);
    }
    let key = plain_key(key);
    let names_answer = names_status(&key) || names_success(&key) || matches!(key.as_str(), "result" | "outcome");
    if names_answer && *value == Value::Bool(false) {
        return true;
    }
    if matches!(place, AnswerPlace::Repeated(_)) {
        return false;
    }
    let says_so = || value.as_str().is_some_and(|text| word_refuses(text) || status_refuses(text));
    match key.as_str() {
        key if names_status(key) => {
            let is_low = value.as_f64().is_some_and(|number| number <= 0.0);
            is_low || is_no(value) || is_error_status(value) || says_so()
        }
        key if names_success(key) => is_no(value) || says_so(),
        "result" | "outcome" => is_error_status(value) || says_so(),
        key if names_stored(key) => is_no(value),
        key if CODES.contains(&key) => {
            is_error_status(value) || value.as_f64().is_some_and(|number| number < 0.0) || says_so()
        }
        "ack" | "acknowledgement" | "state" => says_so(),
        "type" | "level" | "severity" => {
            place == AnswerPlace::Top && value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("error"))
        }
        _ => false,
    }
}

fn says_acceptance(key: &str, value: &Value) -> bool {
    let key = plain_key(key);
    if !names_status(&key) && !names_success(&key) {
        return false;
    }
    match value {
        Value::Bool(is_fine) => *is_fine,
        Value::Number(number) => {
            number.as_f64().is_some_and(|number| number == 1.0 || (200.0..300.0).contains(&number))
        }
        Value::String(text) => is_short_yes(text) || text.trim().starts_with("200"),
        _ => false,
    }
}

fn is_no(value: &Value) -> bool {
    match value {
        Value::Bool(is_fine) => !is_fine,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => NO_SUCCESS.contains(&text.trim().to_lowercase().as_str()),
        _ => false,
    }
}

fn is_error_status(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| (400.0..600.0).contains(&number)),
        Value::String(text) => has_error_number(text),
        _ => false,
    }
}

/// Of a key such as `code`: anything but 0, 1 and the numbers of a success.
fn is_error_number(value: &Value) -> bool {
    let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    number.is_some_and(|number: f64| number != 0.0 && number != 1.0 && !(200.0..300.0).contains(&number))
}

/// A status that speaks of something else than a lead that was taken: "suspended", "down", "E1001", "4xx".
fn status_refuses(text: &str) -> bool {
    let words = words(text);
    let is_code = |word: &String| {
        word.strip_prefix('e').is_some_and(|digits| digits.len() > 2 && digits.chars().all(|c| c.is_ascii_digit()))
            || ["4xx", "5xx"].contains(&word.as_str())
    };
    let is_said = |word: &String| STATUS_REFUSALS.contains(&word.as_str()) || is_code(word);
    words.first().is_some_and(is_said)
}

/// "400", "400 Bad Request", "HTTP/1.1 503 Service Unavailable".
fn has_error_number(text: &str) -> bool {
    let text = text.trim();
    let number = text
        .strip_prefix("HTTP")
        .or_else(|| text.strip_prefix("http"))
        .map_or(text, |rest| rest.split_once(' ').map_or("", |(_, number)| number.trim_start()));
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let ends = number[digits.len()..].chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ':' | ',' | '-'));
    digits.len() == 3 && ends && matches!(digits.as_bytes()[0], b'4' | b'5')
}

/// Whether the value of a key such as `error` reports an error.
fn reports_errors(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_error) => *is_error,
        Value::Number(number) => {
            number.as_f64().is_some_and(|number| number != 0.0 && !(200.0..300.0).contains(&number))
        }
        Value::String(text) => {
            let text = text.trim().to_lowercase();
            let is_zero = text.chars().all(|c| c == '0');
            let is_empty = matches!(text.as_str(), "[]" | "{}");
            !is_zero && !is_empty && !NO_ERRORS.contains(&text.as_str()) && text != "200" && !counts_no_errors(&text)
        }
        Value::Array(values) => values.iter().any(reports_errors),
        Value::Object(object) => object.values().any(reports_errors),
    }
}

/// "none found", "0 errors", "no errors were reported": no word of it says what the error is.
fn counts_no_errors(text: &str) -> bool {
    let words = words(text);
    text.starts_with("no error")
        || words.first().is_some_and(|word| ["0", "no", "none", "zero"].contains(&word.as_str()))
            && words[1..].iter().all(|word| BESIDE_NO_ERRORS.contains(&word.as_str()))
}

mod echo;
#[cfg(test)]
mod tests;
mod vocabulary;
