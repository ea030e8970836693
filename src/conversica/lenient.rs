//! Reads a body as the JSON that its sender meant: damage that has only one possible meaning is repaired, with a note. Pure.
//!
//! It repairs compressed bodies, a byte order mark, UTF-16, UTF-32, bytes that are not UTF-8, control characters within strings,
//! halves of surrogate pairs, numbers out of range, `True`, `None` and `NaN`, and surplus commas and brackets. Valid JSON is read
//! as `serde_json` reads it, except that members of the outermost object that come twice are both returned. Notes and errors do
//! not quote the body.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use crate::conversica::post_text::{BYTE_ORDER_MARK, PostText, decode_body};

/// The limit on nesting, as in `serde_json`.
const MAX_DEPTH: usize = 127;

const CONTROL: &str = "a control character within a string was read as it is";
const SURROGATE: &str = "half of a surrogate pair was replaced";
const ESCAPE: &str = "an escape sequence that JSON does not have was read as its letters";
const RANGE: &str = "a number out of range was read as a text";
const WORD: &str = "a literal that JSON does not have was read by its meaning";
const NUMBER: &str = "a number in another form than JSON's was read";
const COMMA: &str = "a comma too many was passed over";
const BLANK: &str = "characters between the values were passed over";
const TAIL: &str = "characters behind the end were passed over";

/// A body that is a JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct LenientObject {
    /// In their order; a key that comes twice is here twice.
    pub members: Vec<(String, Value)>,
    /// The repairs of invalid JSON: a sentence each.
    pub notes: BTreeSet<&'static str>,
}

/// Reads a body.
///
/// # Errors
/// A sentence that does not quote the body, if the body is no JSON object even after repairs.
pub fn read_object(body: &[u8]) -> Result<LenientObject, String> {
    let PostText { text, notes, is_cut, .. } = decode_body(body);
    if is_cut {
        return Err("The body is damaged, or too large when decompressed".to_owned());
    }
    let mut reader = JsonReader { text: &text, at: 0, notes };
    let members = reader.document().map_err(|problem| match problem {
        JsonProblem::NoObject => "The body is not a JSON object".to_owned(),
        JsonProblem::Invalid(what) => {
            let (line, column) = position(&text, reader.at);
            format!("The body is not valid JSON: {what} at line {line} column {column}")
        }
    })?;
    Ok(LenientObject { members, notes: reader.notes })
}

/// Line and column, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonProblem {
    NoObject,
    Invalid(&'static str),
}

struct JsonReader<'t> {
    text: &'t str,
    at: usize,
    notes: BTreeSet<&'static str>,
}

impl JsonReader<'_> {
    fn document(&mut self) -> Result<Vec<(String, Value)>, JsonProblem> {
        self.skip_blanks();
        let members = match self.peek() {
            Some('{') => self.members(MAX_DEPTH)?,
            _ => {
                self.value(MAX_DEPTH)?;
                return Err(JsonProblem::NoObject);
            }
        };
        let tail = &self.text[self.at..];
        if tail.chars().any(|c| !c.is_whitespace()) {
            // Anything else may be another object with its own meaning.
            if tail.chars().any(|c| !(c.is_whitespace() || c.is_control() || "}],;\u{feff}".contains(c))) {
                return Err(JsonProblem::Invalid("trailing characters"));
            }
            self.notes.insert(TAIL);
        }
        Ok(members)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// The longest run of such characters.
    fn run(&mut self, is_part: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        while self.peek().is_some_and(&is_part) {
            self.next();
        }
        &self.text[start..self.at]
    }

    fn skip_blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' => {}
                '\u{feff}' => _ = self.notes.insert(BYTE_ORDER_MARK),
                c if c.is_whitespace() || c.is_control() => _ = self.notes.insert(BLANK),
                _ => return,
            }
            self.next();
        }
    }

    fn skip_commas(&mut self) {
        self.skip_blanks();
        while self.peek() == Some(',') {
            self.notes.insert(COMMA);
            self.next();
            self.skip_blanks();
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonProblem> {
        if depth == 0 {
            return Err(JsonProblem::Invalid("recursion limit exceeded"));
        }
        match self.peek() {
            None => Err(JsonProblem::Invalid("EOF while parsing a value")),
            Some('{') => Ok(Value::Object(self.members(depth)?.into_iter().collect::<Map<_, _>>())),
            Some('[') => self.array(depth),
            Some('"') => self.string().map(Value::String),
            Some(c) if c.is_ascii_digit() || "-+.".contains(c) => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            Some(_) => Err(JsonProblem::Invalid("expected value")),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(String, Value)>, JsonProblem> {
        self.next();
        let mut members = Vec::new();
        loop {
            self.skip_commas();
            match self.peek() {
                Some('}') => {
                    self.next();
                    return Ok(members);
                }
                Some('"') => {}
                None => return Err(JsonProblem::Invalid("EOF while parsing an object")),
                Some(_) => return Err(JsonProblem::Invalid("key must be a string")),
            }
            let key = self.string()?;
            self.skip_blanks();
            if self.peek() != Some(':') {
                return Err(JsonProblem::Invalid("expected `:`"));
            }
            self.next();
            self.skip_blanks();
            members.push((key, self.value(depth - 1)?));
            if !self.ends_item('}')? {
                return Err(JsonProblem::Invalid("expected `,` or `}`"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonProblem> {
        self.next();
        let mut values = Vec::new();
        loop {
            self.skip_commas();
            if self.peek() == Some(']') {
                self.next();
                return Ok(Value::Array(values));
            }
            values.push(self.value(depth - 1)?);
            if !self.ends_item(']')? {
                return Err(JsonProblem::Invalid("expected `,` or `]`"));
            }
        }
    }

    /// Whether a comma follows; it is consumed. A closing bracket is not consumed. A comma before that bracket is noted.
    fn ends_item(&mut self, closing: char) -> Result<bool, JsonProblem> {
        self.skip_blanks();
        match self.peek() {
            Some(',') => {
                self.next();
                self.skip_blanks();
                if self.peek() == Some(closing) {
                    self.notes.insert(COMMA);
                }
                Ok(true)
            }
            Some(c) => Ok(c == closing),
            None => Err(JsonProblem::Invalid("EOF while parsing")),
        }
    }

    fn string(&mut self) -> Result<String, JsonProblem> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(JsonProblem::Invalid("EOF while parsing a string")),
                Some('"') => return Ok(text),
                Some('\\') => self.escaped(&mut text)?,
                Some(c) => {
                    if c < ' ' {
                        self.notes.insert(CONTROL);
                    }
                    text.push(c);
                }
            }
        }
    }

    fn escaped(&mut self, text: &mut String) -> Result<(), JsonProblem> {
        let plain = match self.next() {
            None => return Err(JsonProblem::Invalid("EOF while parsing a string")),
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode(),
            Some(other) => {
                self.notes.insert(ESCAPE);
                other
            }
        };
        text.push(plain);
        Ok(())
    }

    /// Follows `\u`: four digits, or twice that.
    fn unicode(&mut self) -> char {
        let Some(first) = self.four_digits() else {
            self.notes.insert(ESCAPE);
            return char::REPLACEMENT_CHARACTER;
        };
        if let Some(c) = char::from_u32(first) {
            return c;
        }
        if first < 0xdc00 && self.text[self.at..].starts_with("\\u") {
            let behind_first = self.at;
            self.at += 2;
            if let Some(second) = self.four_digits().filter(|second| (0xdc00..0xe000).contains(second)) {
                let pair = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
            self.at = behind_first;
        }
        self.notes.insert(SURROGATE);
        char::REPLACEMENT_CHARACTER
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(number)
    }

    fn number(&mut self) -> Result<Value, JsonProblem> {
        let start = self.at;
        let token = self.run(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)).to_owned();
        if let Ok(number) = serde_json::from_str::<Number>(&token) {
            return Ok(Value::Number(number));
        }
        if token.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.at = start + 1;
            return self.word();
        }
        match token.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.notes.insert(NUMBER);
                Ok(Value::String(token))
            }
            Ok(_) => {
                self.notes.insert(RANGE);
                Ok(Value::String(token))
            }
            Err(_) => {
                self.at = start;
                Err(JsonProblem::Invalid("invalid number"))
            }
        }
    }

    fn word(&mut self) -> Result<Value, JsonProblem> {
        let start = self.at;
        let word = self.run(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
        let (value, is_json) = match word.as_str() {
            "true" => (Value::Bool(true), true),
            "false" => (Value::Bool(false), true),
            "null" => (Value::Null, true),
            other => {
                let value = match other.to_ascii_lowercase().as_str() {
                    "true" | "yes" => Value::Bool(true),
                    "false" | "no" => Value::Bool(false),
                    "null" | "none" | "nil" | "undefined" | "nan" | "infinity" | "inf" => Value::Null,
                    _ => {
                        self.at = start;
                        return Err(JsonProblem::Invalid("expected value"));
                    }
                };
                (value, false)
            }
        };
        if !is_json {
            self.notes.insert(WORD);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversica::post_text::{NOT_UTF8, UTF16};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(body: &[u8]) -> (Value, Vec<&'static str>) {
        let read = read_object(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)));
        (Value::Object(read.members.into_iter().collect()), read.notes.into_iter().collect())
    }

    #[test]
    fn what_is_damaged_and_can_mean_one_thing_only_is_read_with_a_note() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let plain = json!({"a": true});
        let cases: Vec<(Vec<u8>, Value, &str)> = vec![
            (b"\xef\xbb\xbf{\"a\":true}".to_vec(), plain.clone(), BYTE_ORDER_MARK),
            (utf16("\u{feff}{\"a\":true}"), plain.clone(), UTF16),
            (utf16("{\"a\":true}"), plain.clone(), UTF16),
            (b"{\"a\":\"caf\xe9 \xc3\xa9\"}".to_vec(), json!({"a": "café é"}), NOT_UTF8),
            (b"{\"a\":\"two\nlines\t\"}".to_vec(), json!({"a": "two\nlines\t"}), CONTROL),
            (br#"{"a":"x \ud83d y"}"#.to_vec(), json!({"a": "x \u{fffd} y"}), SURROGATE),
            (br#"{"a":"\ud83d\u0041"}"#.to_vec(), json!({"a": "\u{fffd}A"}), SURROGATE),
            (br#"{"a":"\x\'"}"#.to_vec(), json!({"a": "x'"}), ESCAPE),
            (br#"{"a":"\u12"}"#.to_vec(), json!({"a": "\u{fffd}12"}), ESCAPE),
            (b"{\"a\":1e400}".to_vec(), json!({"a": "1e400"}), RANGE),
            (b"{\"a\":007}".to_vec(), json!({"a": "007"}), NUMBER),
            (b"{\"a\":True}".to_vec(), plain.clone(), WORD),
            (b"{\"a\":-Infinity}".to_vec(), json!({"a": null}), WORD),
            (b"{,\"a\":true,,}".to_vec(), plain.clone(), COMMA),
            (b"{\"a\":[1,]}".to_vec(), json!({"a": [1]}), COMMA),
            (b"{\"a\":\xc2\xa0true}".to_vec(), plain.clone(), BLANK),
            (b"{\"a\":true}}\0".to_vec(), plain, TAIL),
        ];
        for (body, value, note) in cases {
            assert_eq!(read(&body), (value, vec![note]), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn what_may_mean_anything_is_refused_without_a_quotation() {
        let cases = [
            "",
            "[1]",
            "\"Sally\"",
            "{\"a\":Sally}",
            "{\"a\":\"Sally",
            "{\"a\"",
            "{\"a\":1}{\"b\":2}",
            "{\"a\":1} Sally",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":--1}",
            "{\"a\":1-2}",
        ];
        for body in cases {
            let refused = read_object(body.as_bytes()).expect_err(body);
            assert!(!refused.contains("Sally"), "{refused}");
        }
        assert!(read_object(b"{\n\"a\":?}").is_err_and(|why| why.ends_with("expected value at line 2 column 5")));
    }

    #[test]
    fn a_key_that_comes_twice_is_handed_back_twice() {
        let read = read_object(br#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(read.members, [("a".to_owned(), json!(1)), ("a".to_owned(), json!(2))]);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_it_is_and_without_a_note(
            object in prop::collection::hash_map(any::<String>(), json_value(), 0..5), pretty in any::<bool>(),
        ) {
            let object = Value::Object(object.into_iter().collect());
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let (value, notes) = read(text.as_bytes());
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!((value, notes), (expected, vec![]));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..60), "[{}\\[\\]\",:a1truefalsn\\\\ud8.\\-]{0,60}".prop_map(String::into_bytes)],
        ) {
            let _ = read_object(&body);
        }
    }
}
