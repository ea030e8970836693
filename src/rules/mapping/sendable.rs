//! One value to be sent: read by the type of its key, turned into one line, or rejected as unusable. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use email_address::{EmailAddress, Options};

use crate::conversica::lead::{ADDRESSES, LeadKey, ValueKind, WITHDRAWALS};
use crate::rules::mapping::opt_out::{COUNTS_AS_OPT_OUT, MAY_BE_OPT_OUT, OptOutValue, read_opt_out};
use crate::rules::mapping::telephone::{TelephoneText, read_telephone};
use crate::rules::value;
use crate::rules::value_fault::{LOST_CHARACTER, MAX_CHARS, NOT_A_NUMBER, NOT_SCALAR, UNREADABLE};

/// A value that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SendableValue<'t> {
    Boolean(bool),
    Moment(DateTime<Utc>),
    Text(&'t str),
    /// Changed: it had line breaks, tabs or other control characters, decimals that are zero, or words around a number.
    Cleaned {
        text: String,
        how: &'static str,
    },
}

impl SendableValue<'_> {
    pub fn is_blank(&self) -> bool {
        match self {
            SendableValue::Boolean(_) | SendableValue::Moment(_) => false,
            SendableValue::Text(text) => text.is_empty(),
            SendableValue::Cleaned { text, .. } => text.is_empty(),
        }
    }

    /// How the value was turned into one line, if it was.
    pub fn cleaned(&self) -> Option<&'static str> {
        match self {
            SendableValue::Cleaned { how, .. } => Some(how),
            SendableValue::Boolean(_) | SendableValue::Moment(_) | SendableValue::Text(_) => None,
        }
    }
}

/// A value that cannot be sent, with the reasons: each reason continues after "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnusableValue {
    pub reasons: Vec<&'static str>,
}

const BROKEN: &str = "is not valid UTF-8 text";
const LOST: &str = "has a replacement character (U+FFFD), so that some letter of it is lost";

/// Keys whose values are codes: they consist of digits, and no program calculates with them.
const CODES: [LeadKey; 9] = [
    LeadKey::HomePhone,
    LeadKey::WorkPhone,
    LeadKey::CellPhone,
    LeadKey::Zip,
    LeadKey::RepId,
    LeadKey::BdcRepId,
    LeadKey::ServiceRepId,
    LeadKey::AltRepId,
    LeadKey::Year,
];

/// Keys whose values are telephone numbers.
const TELEPHONES: [LeadKey; 3] = [LeadKey::HomePhone, LeadKey::WorkPhone, LeadKey::CellPhone];

/// A code from a column with decimals: 3605550123.00 is 3605550123.
fn without_decimals(key: Option<LeadKey>, text: &str) -> Option<&str> {
    let (whole, decimals) = text.split_once('.').filter(|_| key.is_some_and(|key| CODES.contains(&key)))?;
    let is_code = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    (is_code && !decimals.is_empty() && decimals.bytes().all(|b| b == b'0')).then_some(whole)
}

impl UnusableValue {
    /// Whether the row itself is damaged, and not only the value: then the lead is invalid for any key.
    pub fn is_of_the_row(&self) -> bool {
        self.reasons.contains(&BROKEN)
    }
}

/// Reads a value for that key; `None` is a custom key, which is text.
pub(crate) fn read(key: Option<LeadKey>, text: &str, zone: Tz) -> Result<SendableValue<'_>, UnusableValue> {
    let refuse = |reason| Err(UnusableValue { reasons: vec![reason] });
    if key.is_some_and(|key| WITHDRAWALS.contains(&key)) {
        let unusable = match read_opt_out(text) {
            OptOutValue::Yes => return Ok(SendableValue::Boolean(true)),
            OptOutValue::No => return Ok(SendableValue::Boolean(false)),
            OptOutValue::LikelyYes => COUNTS_AS_OPT_OUT,
            OptOutValue::Unclear => MAY_BE_OPT_OUT,
        };
        let is_broken = text.contains(char::REPLACEMENT_CHARACTER);
        let reasons = is_broken.then_some(BROKEN).into_iter().chain([unusable]).collect();
        return Err(UnusableValue { reasons });
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return refuse(BROKEN);
    }
    if text.contains(LOST_CHARACTER) {
        return refuse(LOST);
    }
    match key.map_or(ValueKind::Text, LeadKey::kind) {
        ValueKind::Boolean => {
            value::boolean(text).map_or_else(|| refuse("is neither yes nor no"), |yes| Ok(SendableValue::Boolean(yes)))
        }
        ValueKind::Datetime => value::datetime(text, zone)
            .map_or_else(|| refuse("is not a date and time that can be read"), |at| Ok(SendableValue::Moment(at))),
        ValueKind::Text => read_text(key, text),
    }
}

fn read_text(key: Option<LeadKey>, text: &str) -> Result<SendableValue<'_>, UnusableValue> {
    match text {
        NOT_SCALAR => {
            return Err(UnusableValue {
                reasons: vec!["is a JSON object or array; pick one value of it in a [source] query"],
            });
        }
        UNREADABLE => {
            let reason = "is JSON that holds no text: half of a character, or a number beyond all measure";
            return Err(UnusableValue { reasons: vec![reason] });
        }
        NOT_A_NUMBER => return Err(UnusableValue { reasons: vec!["is NaN or infinity, which is no number"] }),
        _ => {}
    }
    if let Some(code) = without_decimals(key, text) {
        return Ok(SendableValue::Cleaned { text: code.to_owned(), how: "its decimals are zero and were left out" });
    }
    let mut reasons = Vec::new();
    let mut sendable = SendableValue::Text(text);
    if text.chars().any(char::is_control) {
        // Identities and addresses are never guessed.
        let is_exact =
            key.is_some_and(|key| matches!(key, LeadKey::Id | LeadKey::ClientId) || ADDRESSES.contains(&key));
        if is_exact {
            reasons.push("contains control characters such as line breaks");
        } else {
            sendable = clean(key, text);
        }
    }
    let sent = match &sendable {
        SendableValue::Cleaned { text, .. } => text.as_str(),
        SendableValue::Boolean(_) | SendableValue::Moment(_) | SendableValue::Text(_) => text,
    };
    if key.is_some_and(|key| TELEPHONES.contains(&key)) && !sent.is_empty() {
        match read_telephone(sent) {
            TelephoneText::Number => {}
            TelephoneText::Within(number) => {
                let text = number.to_owned();
                return Ok(SendableValue::Cleaned { text, how: "only the telephone number in it is sent" });
            }
            TelephoneText::Other => return Err(UnusableValue { reasons: vec!["is not one telephone number"] }),
        }
    }
    if sent.chars().nth(MAX_CHARS).is_some() {
        reasons.push("is longer than 2000 characters");
    }
    if key == Some(LeadKey::Email) && !is_address(text) {
        reasons.push("is not shaped like an e-mail address");
    }
    if reasons.is_empty() { Ok(sendable) } else { Err(UnusableValue { reasons }) }
}

fn clean<'t>(key: Option<LeadKey>, text: &str) -> SendableValue<'t> {
    let joint = if key == Some(LeadKey::Address) { LineJoint::Comma } else { LineJoint::Blank };
    let has_break = text.chars().any(is_line_break);
    let how = match (has_break, joint) {
        (true, LineJoint::Comma) => "line breaks became commas",
        (true, LineJoint::Blank) => "line breaks became blanks",
        (false, _) if text.chars().any(|c| c.is_control() && c.is_whitespace()) => "tabs became blanks",
        (false, _) => "control characters were left out",
    };
    SendableValue::Cleaned { text: one_line(text, joint), how }
}

/// The separator between the lines of a text that becomes one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineJoint {
    Blank,
    Comma,
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}')
}

/// The text on one line. White space with a line break becomes the separator, white space with a tab becomes a blank, and other
/// control characters are dropped.
fn one_line(text: &str, joint: LineJoint) -> String {
    let mut line = String::with_capacity(text.len());
    let mut gap = String::new();
    for c in text.chars() {
        if c == ' ' || is_line_break(c) || c == '\t' {
            gap.push(c);
            continue;
        }
        if c.is_control() {
            continue;
        }
        let between = if gap.chars().any(is_line_break) {
            let is_parted = line.ends_with([',', ';']) || c == ',' || c == ';';
            if joint == LineJoint::Comma && !is_parted { ", " } else { " " }
        } else if gap.contains('\t') {
            " "
        } else {
            gap.as_str()
        };
        if !line.is_empty() {
            line.push_str(between);
        }
        gap.clear();
        line.push(c);
    }
    line
}

/// Shaped like `someone@host.tld`: no display name, no address literal, a dot in the domain.
fn is_address(text: &str) -> bool {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    EmailAddress::parse_with_options(text, options).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_of_several_lines_becomes_one() {
        for (text, comma, blank) in [
            ("1 Main St\nApt 4", "1 Main St, Apt 4", "1 Main St Apt 4"),
            ("1 Main St,\r\n  Apt 4", "1 Main St, Apt 4", "1 Main St, Apt 4"),
            ("1 Main St \n\n Apt 4\n", "1 Main St, Apt 4", "1 Main St Apt 4"),
            ("1\tMain \t St", "1 Main St", "1 Main St"),
            ("1  Main\u{7} St\u{0}", "1  Main St", "1  Main St"),
            ("\u{7}\n", "", ""),
        ] {
            assert_eq!(
                (one_line(text, LineJoint::Comma), one_line(text, LineJoint::Blank)),
                (comma.to_owned(), blank.to_owned())
            );
        }
    }

    #[test]
    fn a_code_with_decimals_that_are_zero_is_a_whole_number() {
        for (key, text, sent) in [
            (LeadKey::CellPhone, "3605550123.00", "3605550123"),
            (LeadKey::Zip, "98607.0", "98607"),
            (LeadKey::RepId, "7.50", "7.50"),
            (LeadKey::RepId, "7.", "7."),
            (LeadKey::Zip, "1.2.00", "1.2.00"),
            (LeadKey::Address, "12.00", "12.00"),
        ] {
            let mut body = String::new();
            super::super::push_field(&mut body, "k", &read(Some(key), text, Tz::UTC).unwrap());
            assert_eq!(body, format!(",\"k\":\"{sent}\""), "{key}");
        }
    }

    #[test]
    fn a_letter_that_was_lost_before_concerns_its_key_and_not_the_row() {
        let of = |text: &str| read(Some(LeadKey::City), text, Tz::UTC).unwrap_err();
        assert!(!of("Z\u{ffff}rich").is_of_the_row());
        assert!(of("Z\u{fffd}rich").is_of_the_row());
    }

    #[test]
    fn who_a_lead_is_and_where_it_is_written_to_is_never_cleaned() {
        for key in [LeadKey::Id, LeadKey::ClientId, LeadKey::Email, LeadKey::HomeEmail] {
            let unusable = read(Some(key), "a\u{0}nn@example.com", Tz::UTC).unwrap_err();
            assert!(unusable.reasons[0].contains("control characters"), "{key}: {unusable:?}");
        }
        let cleaned = read(Some(LeadKey::FirstName), "Ann\tLee", Tz::UTC).unwrap();
        assert_eq!(cleaned, SendableValue::Cleaned { text: "Ann Lee".to_owned(), how: "tabs became blanks" });
    }

    proptest! {
        #[test]
        fn whatever_is_cleaned_is_one_line_and_stays_as_it_is(text in "[a,; \t\r\n\u{0}\u{7}\u{85}\u{9f}é]{0,12}") {
            for joint in [LineJoint::Comma, LineJoint::Blank] {
                let line = one_line(text.trim(), joint);
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                prop_assert_eq!(line.trim(), &line);
                prop_assert_eq!(one_line(&line, joint), line.clone());
                let letters = |text: &str| text.chars().filter(|c| matches!(c, 'a' | 'é' | ';')).collect::<String>();
                prop_assert_eq!(letters(&line), letters(&text));
            }
        }
    }
}
