//! Standard output for people and scripts, the abilities of the terminal, and foreign texts made safe for it.

use std::borrow::Cow;
use std::env;
use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write};

/// The version of the documents that scripts read: `--json` and `/api/…`. It changes when a key is renamed, removed or gets another
/// meaning; new keys do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// Writes a line. The reader may close the output early (`… | head`): that is no failure, and no reason to panic as `println!`
/// does.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a whole document, as [`say`] writes a line.
pub fn put(document: &[u8]) {
    let _ = std::io::stdout().write_all(document);
}

/// Whether this stream may be coloured: on a terminal only, unless the user has turned colours off.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && may_colour(variable)
}

/// Whether colours are allowed: `NO_COLOR`, `CLICOLOR=0` and a terminal without colours turn them off.
pub fn may_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && variable("CLICOLOR").as_deref() != Some("0") && !is_dumb(variable)
}

/// Whether this stream is a terminal that can redraw lines, as progress bars need.
pub fn can_redraw(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_dumb(variable)
}

/// Whether the terminal handles plain text only; a terminal without a type counts as such.
fn is_dumb(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether the locale can write more than ASCII: the first of the three variables that is set decides.
pub fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// An environment variable of the process.
pub fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Our lines are at most this long.
const MAX_WIDTH: usize = 100;
const MIN_WIDTH: usize = 40;

/// Columns of a line on standard output: the terminal's, within limits.
pub fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { MAX_WIDTH } else { columns.clamp(MIN_WIDTH, MAX_WIDTH) }
}

/// A foreign text, each line made safe as by [`printable`], wrapped to `width` columns and indented.
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

/// A cell that no spreadsheet takes for a formula: ids and details come from other people's data.
pub fn spreadsheet_cell(text: &str) -> Cow<'_, str> {
    let is_number =
        text.strip_prefix(['-', '+']).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    if is_formula { format!("'{text}").into() } else { text.into() }
}

/// A foreign text (from a row, from Conversica) made safe for a terminal: characters that would move the cursor, set colours,
/// answer for the keyboard or reverse the writing direction are spelt out.
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

    fn of<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| set.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn colours_are_a_matter_of_who_does_not_want_them() {
        let xterm = ("TERM", "xterm");
        assert!(may_colour(of(&[xterm])));
        assert!(may_colour(of(&[xterm, ("NO_COLOR", "")])), "an empty one says nothing");
        assert!(may_colour(of(&[xterm, ("CLICOLOR", "1")])));
        for refusal in [&[][..], &[("TERM", "dumb")], &[xterm, ("NO_COLOR", "1")], &[xterm, ("CLICOLOR", "0")]] {
            assert!(!may_colour(of(refusal)), "{refusal:?}");
        }
    }

    #[test]
    fn the_locale_is_that_of_the_first_variable_that_is_set() {
        assert!(is_utf8(of(&[("LANG", "en_US.UTF-8")])));
        assert!(is_utf8(of(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")])));
        assert!(!is_utf8(of(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")])));
        assert!(!is_utf8(of(&[("LANG", "de_DE.ISO-8859-1")])));
        assert!(!is_utf8(of(&[])));
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
