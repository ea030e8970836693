//! Telephone numbers as people type them: which texts are one, and which contain one. Nothing is guessed: no country code is added, no
//! digit changed. Pure.

/// The text of a telephone key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TelephoneText<'t> {
    /// A number as it is, also with an extension.
    Number,
    /// One number beside words that only say whose or which number it is.
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

/// Such words, in lower case. Others may say that the number must not be used: "do not call", "wrong number", "fax".
const LABELS: [&str; 27] = [
    "tel",
    "telephone",
    "telefon",
    "phone",
    "ph",
    "p",
    "t",
    "mobile",
    "mobil",
    "mob",
    "m",
    "cell",
    "cellular",
    "c",
    "handy",
    "home",
    "h",
    "private",
    "privat",
    "work",
    "w",
    "office",
    "o",
    "business",
    "direct",
    "main",
    "landline",
];

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
    } else if is_label(before) && (is_label(after) || is_extension(after)) {
        TelephoneText::Within(number)
    } else {
        TelephoneText::Other
    }
}

fn is_label(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    !text.contains(|c: char| c.is_numeric() || "_#=&|?".contains(c))
        && words.into_iter().all(|word| LABELS.contains(&word.to_lowercase().as_str()))
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
    let dialled: Vec<char> = text.chars().filter(|c| c.is_numeric()).collect();
    // The prefix of international calls, and the zero that falls away in them, are not part of the number.
    let prefix = match dialled.as_slice() {
        ['0', '1', '1', ..] => 3,
        ['0', '0', ..] => 2,
        _ => 0,
    };
    let digits = dialled.len().saturating_sub(prefix + usize::from(text.contains("(0)")));
    DIGITS.contains(&digits) && dialled.iter().any(|digit| Some(digit) != dialled.first())
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
            "0049 (0)1512 3456789",
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
            ("Mobile: +1 (360) 555 0123", "+1 (360) 555 0123"),
            ("cell 360-555-0123 ext. 4", "360-555-0123"),
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
            "1-800-555-CARS",
            "DO NOT CALL 360-555-0123",
            "360-555-0123 (wrong number)",
            "360-555-0123 belongs to ex-wife",
            "fax: 360-555-0123",
            "(360) 555-01__",
            "asked on 01/15/2024",
            "customer 12345678",
            "Mobile +1 (360) 555 0123, ask for Bob",
            "360-555-0123 after 5 pm",
        ] {
            assert_eq!(read_telephone(text), TelephoneText::Other, "{text}");
        }
    }

    fn before_letters(text: &str) -> &str {
        &text[..text.find(char::is_alphabetic).unwrap_or(text.len())]
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
        fn the_person_behind_a_number_that_is_sent_is_known(text in "[0-9 +()./-]{0,6}[0-9]{5,9}( ?(x|ext\\.|durchwahl|poste|dw|int) ?[0-9]{1,3})?") {
            let text = text.trim();
            let sent = match read_telephone(text) {
                TelephoneText::Number => text,
                TelephoneText::Within(number) => number,
                TelephoneText::Other => return Ok(()),
            };
            if count_digits(before_letters(sent)) >= 9 {
                prop_assert!(crate::rules::contact::ContactPoint::number(sent).is_some(), "{}", sent);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = read_telephone(text.trim());
        }
    }
}
