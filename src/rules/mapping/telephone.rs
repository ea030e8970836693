//! Telephone numbers as people type them: which texts are one, and which contain one. Nothing is guessed: no country code is added, no
//! digit changed. Pure.

/// The text of a telephone key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TelephoneText<'t> {
    /// A number as it is, also with an extension.
    Number,
    /// One number among other words.
    Within(&'t str),
    /// Something else, or several numbers.
    Other,
}

/// Digits of a number: from the shortest of small countries to the longest of ITU-T E.164.
const DIGITS: std::ops::RangeInclusive<usize> = 5..=15;
/// A number among words has at least as many: fewer may be an extension, a house number or a time.
const DIGITS_AMONG_WORDS: usize = 7;
/// Words between a number and its extension, in lower case and without a full stop.
const EXTENSIONS: [&str; 9] = ["x", "ext", "extn", "extension", "#", "poste", "int", "dw", "durchwahl"];

/// Reads a text that begins and ends with neither white space nor control characters.
pub(crate) fn read_telephone(text: &str) -> TelephoneText<'_> {
    if !text.chars().any(is_foreign) {
        return if is_number(text) { TelephoneText::Number } else { TelephoneText::Other };
    }
    // An e-mail address, a web address or a time of day is no label of a number.
    let is_time = text.as_bytes().windows(2).any(|pair| pair[0].is_ascii_digit() && pair[1] == b':');
    if is_time || text.contains(['@', '\\']) || text.contains("//") {
        return TelephoneText::Other;
    }
    let is_digit = |c: char| c.is_numeric();
    let parts = text.split(is_foreign).map(|part| {
        part.trim_start_matches(|c| !is_digit(c) && c != '+' && c != '(').trim_end_matches(|c| !is_digit(c))
    });
    let mut long = parts.filter(|part| count_digits(part) >= DIGITS_AMONG_WORDS);
    let (Some(number), None) = (long.next(), long.next()) else { return TelephoneText::Other };
    // What is joined with letters is a code: A12345678.
    let (before, after) = text.split_once(number).unwrap_or_default();
    let is_joined = before.ends_with(char::is_alphabetic) || number_is_joined(after);
    if !is_number(number) || is_joined {
        TelephoneText::Other
    } else if before.is_empty() && is_extension(after) {
        TelephoneText::Number
    } else {
        TelephoneText::Within(number)
    }
}

/// Whether the text after a number goes on without a gap, other than by the `x` of an extension.
fn number_is_joined(after: &str) -> bool {
    after.starts_with(char::is_alphabetic) && !is_extension(after)
}

/// Characters that do not occur within a number.
fn is_foreign(c: char) -> bool {
    c.is_alphabetic() || ",;:#&|@\\=_".contains(c)
}

fn count_digits(text: &str) -> usize {
    text.chars().filter(|c| c.is_numeric()).count()
}

/// Whether a text of digits and punctuation is one number. A digit repeated throughout fills a field that must not stay empty.
fn is_number(text: &str) -> bool {
    let mut digits = text.chars().filter(|c| c.is_numeric());
    let first = digits.next();
    DIGITS.contains(&count_digits(text)) && digits.any(|digit| Some(digit) != first)
}

/// Whether this, behind a number, is an extension: ` ext. 12`, `x12`.
fn is_extension(text: &str) -> bool {
    let text = text.trim_start_matches([' ', ',', ';']).to_lowercase();
    let word_ends = text.find(|c: char| c.is_numeric() || c == ' ' || c == '.' || c == ':').unwrap_or(text.len());
    let (word, number) = text.split_at(word_ends);
    let number = number.trim_start_matches([' ', '.', ':']);
    let is_short = (1..DIGITS_AMONG_WORDS).contains(&number.len());
    EXTENSIONS.contains(&word) && is_short && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_stays_as_it_was_typed() {
        for text in [
            "3605550123",
            "+1 (360) 555-0123",
            "360.555.0123",
            "0711/123456",
            "+49 (0)711 1234-0",
            "12345",
            "360-555-0123 x45",
            "360-555-0123x45",
            "360-555-0123, ext. 45",
            "360-555-0123 #45",
            "360\u{a0}555\u{2011}0123",
            "\u{ff13}\u{ff16}\u{ff10}5550123",
        ] {
            assert_eq!(read_telephone(text), TelephoneText::Number, "{text}");
        }
    }

    #[test]
    fn a_number_among_words_is_taken_out() {
        for (text, number) in [
            ("tel: 360-555-0123", "360-555-0123"),
            ("360-555-0123 (mobile)", "360-555-0123"),
            ("Mobile +1 (360) 555 0123, ask for Bob", "+1 (360) 555 0123"),
            ("360-555-0123 after 5 pm", "360-555-0123"),
            ("(360) 555-0123 home", "(360) 555-0123"),
        ] {
            assert_eq!(read_telephone(text), TelephoneText::Within(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_more_than_one_is_not_guessed_at() {
        for text in [
            "n/a",
            "none",
            "-",
            "?",
            "1234",
            "0000000000",
            "999-999-9999",
            "3.60555E+09",
            "360-555-0123 or 360-555-9999",
            "360-555-0123 / 360-555-9999",
            "ann5550123@example.com",
            "https://example.com/5550123",
            "2020-01-15 10:00",
            "A12345678",
            "12345678B",
            "1,234,567.00 USD",
            "call after 5",
            "1-800-FLOWERS",
        ] {
            assert_eq!(read_telephone(text), TelephoneText::Other, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_out_is_a_number_itself(text in "[a-z0-9 +(),:./#x-]{1,40}") {
            let text = text.trim();
            if let TelephoneText::Within(number) = read_telephone(text) {
                prop_assert!(text.contains(number));
                prop_assert_eq!(read_telephone(number), TelephoneText::Number);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = read_telephone(text.trim());
        }
    }
}
