//! The excerpt of an answer that is kept for operators, and whether it may appear where it could reach a ticket, in which no
//! person may be quoted. Pure.
//!
//! The check compares the answer with the request: each word of a personal value counts as a quotation, and so does anything
//! shaped like an address or a telephone number. In doubt, the excerpt counts as a quotation.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Keys whose values say nothing about a person.
const IMPERSONAL: [&str; 10] = [
    "apiVersion",
    "id",
    "clientId",
    "conversationId",
    "leadSource",
    "leadStatus",
    "leadSubStatus",
    "leadType",
    "repId",
    "date",
];

/// This many digits in a row, ignoring blanks and punctuation between them, may be a telephone number.
const DIGITS: usize = 6;

/// How many characters of an answer are kept.
pub const EXCERPT_CHARS: usize = 300;

/// The beginning of a text, on one line and without control characters; `None` if nothing readable is left.
pub fn excerpt_of(text: &str, chars: usize) -> Option<String> {
    let mut excerpt = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut left = chars;
    for word in words {
        if !excerpt.is_empty() {
            excerpt.push(' ');
            left = left.saturating_sub(1);
        }
        excerpt.extend(word.chars().take(left));
        left = left.saturating_sub(word.chars().take(left).count());
        if left == 0 {
            break;
        }
    }
    let excerpt = excerpt.trim_end();
    (!excerpt.is_empty()).then(|| excerpt.to_owned())
}

/// Whether `excerpt` may quote the lead whose object `body` was sent, or another person.
pub fn quotes_a_person(excerpt: &str, body: &str) -> bool {
    let Ok(lead) = serde_json::from_str::<Map<String, Value>>(body) else { return true };
    if excerpt.contains('@') || excerpt.contains("%40") || has_number(excerpt) {
        return true;
    }
    let said: BTreeSet<String> = words(excerpt).collect();
    let personal = lead.iter().filter(|(key, _)| !IMPERSONAL.contains(&key.as_str()));
    personal.filter_map(|(_, value)| value.as_str()).flat_map(words).any(|word| said.contains(&word))
}

/// Words of at least two characters, in lower case; an initial identifies no person.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().nth(1).is_some()).map(str::to_lowercase)
}

fn has_number(text: &str) -> bool {
    let mut digits = 0;
    text.chars().any(|c| {
        match c {
            '0'..='9' => digits += 1,
            ' ' | '-' | '(' | ')' | '.' | '/' | '+' => {}
            _ => digits = 0,
        }
        digits >= DIGITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: &str = r#"{"apiVersion":"7.2","id":"7","conversationId":"Inbound Leads","firstName":"Jo","lastName":"van der Berg",
        "email":"jo@example.com","leadSource":"Website","optOut":false,"homePhone":"+1 (555) 010-2030","address":"12 Elm St"}"#;

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt_of("", 300), None);
        assert_eq!(excerpt_of(" \r\n\u{0}\u{1b}", 300), None);
        assert_eq!(excerpt_of(" {\r\n  \"status\":\ttrue\u{0}\u{1b}}\n", 300).as_deref(), Some("{ \"status\": true }"));
        assert_eq!(excerpt_of("abc def", 5).as_deref(), Some("abc d"));
        assert_eq!(excerpt_of("abc def", 4).as_deref(), Some("abc"));
        assert_eq!(excerpt_of("éééé", 3).as_deref(), Some("ééé"));
        assert_eq!(excerpt_of(&"a ".repeat(90_000), 300).map(|excerpt| excerpt.chars().count()), Some(299));
    }

    #[test]
    fn what_names_nobody_may_be_shown() {
        for excerpt in [
            "Additional failed attempts may lock the account",
            r#"{"error":"Invalid credentials for website lead 7"}"#,
            "<html><title>404 Not Found</title>nginx/1.18.0</html>",
            "",
        ] {
            assert!(!quotes_a_person(excerpt, LEAD), "{excerpt}");
        }
    }

    #[test]
    fn what_quotes_the_lead_or_anybody_may_not() {
        for excerpt in [
            "no permission for JO",
            "the lead of Mr. Berg",
            "jo%40example.com",
            "someone.else@host",
            "call 555.010.2030",
            "lives at Elm",
        ] {
            assert!(quotes_a_person(excerpt, LEAD), "{excerpt}");
        }
        assert!(quotes_a_person("fine", "not a lead"));
    }
}
