//! Standard output for people and scripts, and texts of others made harmless to a terminal.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write;

/// Writes a line. Whoever reads may stop reading (`… | head`): that is not a failure, and no reason to panic as `println!`
/// does.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// No line of ours is longer.
const MAX_WIDTH: usize = 100;
const MIN_WIDTH: usize = 40;

/// Columns for a line on standard output: the terminal's, within reason.
pub fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { MAX_WIDTH } else { columns.clamp(MIN_WIDTH, MAX_WIDTH) }
}

/// A text of somebody else's, line by line, each made harmless as by [`printable`], wrapped to `width` columns and indented.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let columns = width.saturating_sub(indent).max(1);
    let mut lines = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        for piece in textwrap::wrap(&printable(line), columns) {
            let piece = piece.trim_end();
            let indent = if piece.is_empty() { 0 } else { indent };
            let _ = write!(lines, "\n{:indent$}{piece}", "");
        }
    }
    lines
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wrapping_keeps_every_word_and_every_width(text in "[a-z \\n李\u{1b}]{0,300}", width in 20usize..100) {
            let lines = wrapped(&text, width, 6);
            prop_assert!(lines.lines().all(|line| textwrap::core::display_width(line) <= width), "{}", lines);
            let acts = lines.chars().any(|c| c != '\n' && c.is_control());
            prop_assert!(!acts, "{}", lines);
            let all = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(all(&lines), all(&text.lines().map(printable).collect::<String>()));
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out_and_the_rest_is_left() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}]0;title\u{7}"), "\\u{1b}[31mred\\u{1b}]0;title\\u{7}");
        assert_eq!(printable("a\r\nb\tc"), "a\\r\\nb\\tc");
        assert_eq!(printable("\u{9b}2J\u{7f}"), "\\u{9b}2J\\u{7f}");
        assert_eq!(printable("x\u{202e}gpj.exe"), "x\\u{202e}gpj.exe");
        assert!(matches!(printable("Zoë O'Neill 李 \u{1f600}"), Cow::Borrowed(_)));
    }
}
