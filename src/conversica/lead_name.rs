//! Whether two different texts name the same lead: `107.0` and `107`, a UUID with and without dashes. Pure.
//!
//! Ids are compared exactly wherever that finds a lead. This form is only for posts that may withdraw consent and match no lead
//! exactly: such a post counts as a possible opt-out of every lead that it may mean.

/// The common form of all spellings of an id; blank if nothing is left.
pub fn normal_id(id: &str) -> String {
    let plain: String = id.chars().map(from_full_width).filter(|c| !is_invisible(*c)).collect();
    let plain = plain.to_lowercase();
    let plain = plain.strip_prefix("urn:uuid:").unwrap_or(&plain);
    let plain = plain.trim_matches(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
    let digits: String = plain.chars().filter(|c| *c != '-').collect();
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return digits;
    }
    whole_number(plain).unwrap_or_else(|| plain.to_owned())
}

/// Full-width letters and digits are another spelling of those of ASCII.
fn from_full_width(c: char) -> char {
    match u32::from(c) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(c),
        0x3000 => ' ',
        _ => c,
    }
}

/// White space, control characters, marks of direction and of byte order, soft hyphens, and the replacement character.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fffd}' | '\u{fe00}'..='\u{fe0f}')
}

/// A whole number without leading zeros, fraction and exponent.
fn whole_number(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let exponent: usize = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok().filter(|e| *e <= 30)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let shifted = fraction.len().min(exponent);
    if fraction[shifted..].bytes().any(|b| b != b'0') {
        return None;
    }
    let zeros = "0".repeat(exponent - shifted);
    let digits = format!("{whole}{}{zeros}", &fraction[..shifted]);
    let number = digits.trim_start_matches('0');
    Some(if number.is_empty() { "0".to_owned() } else { number.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_known_in_every_way_of_writing_it() {
        let ways = [
            "107",
            "107.0",
            "00107",
            "+107",
            " 107\n",
            "\u{feff}107",
            "107\u{200b}",
            "\"107\"",
            "'107'",
            "#107",
            "107e0",
            "1.07e2",
            "\u{ff11}\u{ff10}\u{ff17}",
            "107\u{fffd}",
        ];
        for way in ways {
            assert_eq!(normal_id(way), "107", "{way:?}");
        }
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let ways = [
            uuid.to_uppercase(),
            format!("{{{uuid}}}"),
            uuid.replace('-', ""),
            format!("urn:uuid:{uuid}"),
            format!("URN:UUID:{}", uuid.to_uppercase()),
        ];
        for way in ways {
            assert_eq!(normal_id(&way), normal_id(uuid), "{way}");
        }
        assert_eq!(normal_id("00Q5e000001aBcD"), normal_id("00q5E000001ABCD"));
    }

    #[test]
    fn other_ids_stay_others() {
        for (a, b) in [("107", "1070"), ("107", "10.7"), ("-5", "5"), ("a-1", "a1"), ("12-3", "123"), ("107.5", "107")]
        {
            assert_ne!(normal_id(a), normal_id(b), "{a} {b}");
        }
        assert_eq!(normal_id("\u{200b}\" "), "");
        assert_eq!(normal_id("000"), "0");
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(id in "\\PC{0,20}|[0-9.e+-]{0,12}") {
            let normal = normal_id(&id);
            prop_assert_eq!(normal_id(&normal), normal);
        }
    }
}
