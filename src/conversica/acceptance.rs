//! Whether an answer with a 2xx status says that Conversica took the lead. Pure.
//!
//! Login pages and bot walls answer 200 in Conversica's place, and APIs report a failure in the body of a 200. An answer
//! without a body, or whose body does not say otherwise, is an acceptance: Conversica documents no more than the status.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::conversica::content::AnswerText;

/// What a 2xx means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerVerdict {
    Accepted,
    /// The body says that this lead was not taken.
    Rejected,
    /// A page for people: this is not Conversica's endpoint.
    WebPage,
}

/// Words by which a status, or a plain text, says that the lead was not taken.
const REFUSALS: [&str; 19] = [
    "declined",
    "denied",
    "err",
    "error",
    "errors",
    "exception",
    "fail",
    "failed",
    "failure",
    "fatal",
    "forbidden",
    "invalid",
    "ko",
    "nok",
    "refused",
    "rejected",
    "unauthorized",
    "unprocessable",
    "unsuccessful",
];
/// Two words that together say it.
const REFUSALS_OF_TWO: [[&str; 2]; 7] = [
    ["access", "denied"],
    ["bad", "request"],
    ["not", "accepted"],
    ["not", "found"],
    ["not", "ok"],
    ["not", "saved"],
    ["not", "successful"],
];
/// What turns the word behind it around: "no error".
const NEGATIONS: [&str; 5] = ["0", "no", "non", "not", "without"];
/// The values of a key such as `error` where there was none.
const NO_ERRORS: [&str; 9] = ["", "0", "false", "n/a", "no", "none", "null", "ok", "success"];
/// The values of a key such as `success` where there was none.
const NO_SUCCESS: [&str; 3] = ["0", "false", "no"];
/// A short text that a server sends as HTML without meaning a page.
const SHORT_YES: [&str; 8] = ["1", "accepted", "created", "ok", "received", "success", "thank you", "true"];
/// Parts of a page, where they stand behind other text.
const PAGE_PARTS: [&str; 7] = ["<!doctype", "<html", "<head", "<body", "<iframe", "<form", "<script"];
/// Objects that repeat what was sent: a CRM's status may be "Rejected".
const ECHOES: [&str; 10] =
    ["contact", "contacts", "input", "lead", "leads", "person", "record", "records", "request", "requests"];
/// Objects that speak for the answer, also beneath a yes: the request was fine, and its one lead was not.
const RESULTS: [&str; 8] = ["meta", "outcome", "outcomes", "response", "responses", "result", "results", "status"];
/// How deep objects are looked into.
const DEPTH: usize = 3;

/// Judges an answer with a 2xx status.
pub fn judge_answer(content_type: Option<&str>, text: &AnswerText) -> AnswerVerdict {
    let media =
        content_type.unwrap_or_default().split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_page = matches!(media.as_str(), "text/html" | "application/xhtml+xml");
    match text {
        AnswerText::Unreadable(_) if is_page => AnswerVerdict::WebPage,
        AnswerText::Unreadable(_) => AnswerVerdict::Accepted,
        AnswerText::Text(text) if trim_text(text).is_empty() => AnswerVerdict::Accepted,
        AnswerText::Text(_) if media == "application/problem+json" => AnswerVerdict::Rejected,
        AnswerText::Text(text) => match judge_text(text) {
            TextVerdict::Json(verdict) => verdict,
            // A page that is made of words alone is a page; a server that calls every text HTML still says "OK".
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
    let is_refusal = match text.find(['{', '[']) {
        // Damaged JSON, whose words are not sentences.
        Some(0) => false,
        // A script's warnings, or a prefix against hijacking, before the JSON.
        Some(at) => plain_text_refuses(text) || Findings::of(&text[at..]).0.refusal,
        None => plain_text_refuses(text),
    };
    TextVerdict::Plain(if is_refusal { AnswerVerdict::Rejected } else { AnswerVerdict::Accepted })
}

/// Without what neither a parser nor a reader sees around it.
fn trim_text(text: &str) -> &str {
    text.trim_matches(|c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}' | '\u{feff}' | '\u{fffd}')
    })
}

/// Whether a text begins as HTML or XML does; Conversica's answers are neither.
fn is_markup(text: &str) -> bool {
    let mut start = text.chars();
    start.next() == Some('<') && start.next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '!' | '?' | '/'))
}

fn is_short_yes(text: &str) -> bool {
    let text = trim_text(text).trim_end_matches(['.', '!']).to_lowercase();
    SHORT_YES.contains(&text.as_str())
}

/// `None` where the text is no JSON, nor the beginning of an object or a list.
fn judge_json(text: &str) -> Option<AnswerVerdict> {
    let is_refusal = match Findings::of(text) {
        (Findings { refusal: true }, _) => true,
        (_, JsonEnd::Whole | JsonEnd::Cut) if text.starts_with(['{', '[']) => false,
        _ => match serde_json::from_str(text).ok()? {
            // JSON in a string of JSON.
            Value::String(inner) => {
                return Some(match judge_text(&inner) {
                    TextVerdict::Json(verdict) | TextVerdict::Plain(verdict) => verdict,
                });
            }
            value => value == Value::Bool(false),
        },
    };
    Some(if is_refusal { AnswerVerdict::Rejected } else { AnswerVerdict::Accepted })
}

/// "Error: no such list", "status=failed&message=…", "403 Forbidden".
fn plain_text_refuses(text: &str) -> bool {
    let words = words(text);
    let begins = words.first().is_some_and(|word| REFUSALS.contains(&word.as_str()) || word == "false");
    let two =
        words.get(..2).is_some_and(|first| REFUSALS_OF_TWO.iter().any(|two| *two == [first[0].as_str(), &first[1]]));
    let pair_refuses = |pair: &str| {
        pair.split_once(['=', ':']).is_some_and(|(key, value)| says_refusal(key, &Value::from(value), Place::Top))
    };
    begins || two || has_error_number(text) || text.split(['&', '\n']).any(pair_refuses)
}

/// What an object or a list says, as far as it came: an answer may be cut, or longer than is read.
#[derive(Debug, Default)]
struct Findings {
    refusal: bool,
}

/// How far JSON could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonEnd {
    Whole,
    /// Nothing is wrong with it but that it ends too early.
    Cut,
    Damaged,
}

impl Findings {
    /// What comes before an error counts.
    fn of(text: &str) -> (Self, JsonEnd) {
        let mut findings = Self::default();
        let end = match findings.deserialize(&mut serde_json::Deserializer::from_str(text)) {
            Ok(()) => JsonEnd::Whole,
            Err(error) if error.is_eof() => JsonEnd::Cut,
            Err(_) => JsonEnd::Damaged,
        };
        (findings, end)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Findings {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Findings {
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
        self.refusal |= object_refuses(entries.iter().map(|(key, value)| (key.as_str(), value)), Place::Top);
        end
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            self.refusal |= value == Value::Bool(false) || nested_refuses(&value, Place::Top);
        }
        Ok(())
    }
}

/// Where an object stands in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// So deep, in an object that may be the answer itself in a wrapping.
    Wrapped(usize),
    /// So deep, in an object that may repeat the lead: its numbers and words are not the answer's own.
    Repeated(usize),
}

impl Place {
    const fn depth(self) -> usize {
        match self {
            Place::Top => 0,
            Place::Wrapped(depth) | Place::Repeated(depth) => depth,
        }
    }
}

fn object_refuses<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)> + Clone, place: Place) -> bool {
    let says_yes = entries.clone().any(|(key, value)| says_acceptance(key, value));
    entries.into_iter().any(|(key, value)| {
        if says_refusal(key, value, place) {
            return true;
        }
        let key = plain_key(key);
        let is_beneath_yes = says_yes && !RESULTS.contains(&key.as_str());
        let is_repeated = is_beneath_yes || matches!(place, Place::Repeated(_)) || ECHOES.contains(&key.as_str());
        let depth = place.depth() + 1;
        let inner = if is_repeated { Place::Repeated(depth) } else { Place::Wrapped(depth) };
        !names_errors(&key) && nested_refuses(value, inner)
    })
}

/// Whether an object, or one in a list, says it.
fn nested_refuses(value: &Value, place: Place) -> bool {
    match value {
        _ if place.depth() > DEPTH => false,
        Value::Object(object) => object_refuses(object.iter().map(|(key, value)| (key.as_str(), value)), place),
        Value::Array(values) => {
            values.iter().filter(|value| value.is_object()).any(|value| nested_refuses(value, place))
        }
        _ => false,
    }
}

/// `is_success`, `isSuccess` and `Is-Success` are one key.
fn plain_key(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn names_status(key: &str) -> bool {
    ["status", "statuscode", "statustext", "httpstatus", "httpstatuscode", "httpcode", "responsestatus", "responsecode"]
        .contains(&key)
}

fn names_success(key: &str) -> bool {
    ["success", "successful", "succeeded", "issuccess", "issuccessful", "ok", "isok", "accepted", "isaccepted"]
        .contains(&key)
}

fn names_errors(key: &str) -> bool {
    let key = key.strip_prefix("is").or_else(|| key.strip_prefix("has")).unwrap_or(key);
    [
        "error",
        "errors",
        "err",
        "errorcode",
        "errorcodes",
        "errorcount",
        "errordescription",
        "errordetail",
        "errordetails",
        "errormessage",
        "errormessages",
        "errormsg",
        "errortype",
        "exception",
        "exceptions",
        "failed",
        "failure",
        "failures",
        "fault",
        "faults",
        "rejected",
        "rejections",
    ]
    .contains(&key)
}

fn says_refusal(key: &str, value: &Value, place: Place) -> bool {
    let key = plain_key(key);
    if names_errors(&key) {
        return reports_errors(value);
    }
    let names_answer = names_status(&key) || names_success(&key) || matches!(key.as_str(), "result" | "outcome");
    if names_answer && *value == Value::Bool(false) {
        return true;
    }
    if matches!(place, Place::Repeated(_)) {
        return false;
    }
    let says_so = || value.as_str().is_some_and(word_refuses);
    match key.as_str() {
        key if names_status(key) => {
            let is_low = value.as_f64().is_some_and(|number| number <= 0.0);
            is_low || is_no(value) || is_error_status(value) || says_so()
        }
        key if names_success(key) => is_no(value) || says_so(),
        "result" | "outcome" => is_error_status(value) || says_so(),
        "code" => is_error_status(value),
        "type" | "level" | "severity" => {
            place == Place::Top && value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("error"))
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

/// Whether the value of a key such as `error` reports one.
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
            !is_zero && !NO_ERRORS.contains(&text.as_str()) && text != "200" && !text.starts_with("no error")
        }
        Value::Array(values) => values.iter().any(reports_errors),
        Value::Object(object) => object.values().any(reports_errors),
    }
}

/// "error", "FAILED", "ValidationError", "not accepted"; not "no_errors".
fn word_refuses(text: &str) -> bool {
    let words = words(text);
    let before = |at: usize| at.checked_sub(1).map(|before| words[before].as_str());
    let one = words.iter().enumerate().any(|(at, word)| {
        REFUSALS.contains(&word.as_str()) && !before(at).is_some_and(|before| NEGATIONS.contains(&before))
    });
    one || words.windows(2).any(|pair| REFUSALS_OF_TWO.iter().any(|two| *two == [pair[0].as_str(), &pair[1]]))
}

/// In lower case, the first few: taken apart at what is no letter, and where a capital begins a word.
fn words(text: &str) -> Vec<String> {
    const ENOUGH: usize = 24;
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in text.chars() {
        let begins = c.is_uppercase() && was_small;
        was_small = c.is_lowercase();
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("starts with one word").extend(c.to_lowercase());
        } else if words.len() > ENOUGH {
            break;
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests;
