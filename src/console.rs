//! Standard output for people and scripts, and texts of others made harmless to a terminal.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write;

/// Writes a line. Whoever reads may stop reading (`… | head`): that is not a failure, and no reason to panic as `println!`
/// does.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A text of somebody else's (a row's, Conversica's) as it may be shown on a terminal: characters that would move the
/// cursor, set colours, answer for the keyboard or turn the writing round are spelt out.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts_on_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts_on_a_terminal(c) {
            let _ = write!(plain, "{}", c.escape_default());
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// Control characters (C0, DEL, C1), and those that set the direction of writing.
fn acts_on_a_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out_and_the_rest_is_left() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}]0;title\u{7}"), "\\u{1b}[31mred\\u{1b}]0;title\\u{7}");
        assert_eq!(printable("a\r\nb\tc"), "a\\r\\nb\\tc");
        assert_eq!(printable("\u{9b}2J\u{7f}"), "\\u{9b}2J\\u{7f}");
        assert_eq!(printable("x\u{202e}gpj.exe"), "x\\u{202e}gpj.exe");
        assert!(matches!(printable("Zoë O'Neill 李 \u{1f600}"), Cow::Borrowed(_)));
    }
}
