//! The pieces of a post that are searched for a withdrawal.

use crate::conversica::consent_word::{BOTH, ConsentChannel, EMAIL, SMS};

/// Keys that withdraw consent unless their value is a clear no, with the channels, and how many letters may be damaged.
pub(crate) const KEYS: [(&str, &[ConsentChannel], usize); 9] = [
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

pub(crate) const NO: &[&str] = &["false", "no", "n", "0", "off", "null", "none"];

/// Values that say no, unlike `null`.
pub(crate) const SAID_NO: &[&str] = &["false", "no", "n", "0", "off"];

pub(crate) const SAID_YES: &[&str] = &["true", "yes", "y", "1", "on"];

/// A moment that databases write for a missing one.
pub(crate) fn is_no_moment(value: &str) -> bool {
    ["0000", "0001"].iter().any(|year| value.trim().starts_with(year))
}

/// Other control characters are damaged letters.
pub(crate) fn is_punctuation(c: char) -> bool {
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

/// A piece of text between two marks of punctuation.
pub(crate) struct TextChunk<'t> {
    pub(crate) raw: &'t str,
    /// Its letters and digits, in lower case.
    pub(crate) letters: String,
    /// The position of its end in the text.
    pub(crate) end: usize,
    /// The punctuation between it and the next one.
    pub(crate) behind: &'t str,
}

impl TextChunk<'_> {
    pub(crate) fn is_key(&self) -> bool {
        self.behind.contains([':', '=', '>'])
    }
}

/// Keys whose values are statuses of a conversation.
pub(crate) const STATUS_KEYS: [&str; 6] =
    ["conversationstatus", "conversationstage", "leadstatus", "leadsubstatus", "status", "stage"];
