//! A search for leads by name, e-mail address, telephone number or id. Pure.
//!
//! Each word of the search has to occur somewhere in what the lead is known by. A telephone number is compared digit by digit,
//! however either side writes it.

use crate::rules::lead_person::LeadPerson;

/// The shortest run of digits that is compared with telephone numbers.
const SHORTEST_NUMBER: usize = 4;
/// Numbers of at least this many digits are the same if one ends with the other: one may have a country code.
const WHOLE_NUMBER: usize = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonSearch {
    words: Vec<SearchWord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SearchWord {
    /// In lower case.
    text: String,
    /// The digits of a text that may be a telephone number, or a part of one.
    digits: Option<String>,
}

impl SearchWord {
    fn new(text: &str) -> Self {
        let is_number = text.chars().all(|c| c.is_ascii_digit() || " +-()./".contains(c));
        let digits = digits_of(text);
        Self { text: text.to_lowercase(), digits: (is_number && digits.len() >= SHORTEST_NUMBER).then_some(digits) }
    }

    fn fits(&self, id: &str, person: &LeadPerson) -> bool {
        let texts = [id, &person.name, &person.email, &person.rep, &person.conversation];
        texts.iter().any(|text| text.to_lowercase().contains(&self.text))
            || self.digits.as_ref().is_some_and(|digits| person.phones.iter().any(|phone| is_same(digits, phone)))
    }
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn is_same(sought: &str, phone: &str) -> bool {
    let phone = digits_of(phone);
    phone.contains(sought) || phone.len() >= WHOLE_NUMBER && sought.ends_with(&phone)
}

impl PersonSearch {
    /// `None` for a blank text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let whole = SearchWord::new(text);
        let words =
            if whole.digits.is_some() { vec![whole] } else { text.split_whitespace().map(SearchWord::new).collect() };
        (!words.is_empty()).then_some(Self { words })
    }

    /// Whether every word occurs in what the lead is known by.
    pub fn fits(&self, id: &str, person: &LeadPerson) -> bool {
        self.words.iter().all(|word| word.fits(id, person))
    }

    /// For each word, patterns for SQL's `like` with `!` as the escape character: a lead that fits has one of them in its Lead
    /// object or in its id. Others may have one too. Letters outside ASCII match any letter, because a database may not know their
    /// capitals.
    pub fn patterns(&self) -> Vec<Vec<String>> {
        self.words.iter().map(patterns_of).collect()
    }
}

fn patterns_of(word: &SearchWord) -> Vec<String> {
    let mut patterns = vec![format!("%{}%", word.text.chars().map(pattern_of).collect::<String>())];
    if let Some(digits) = &word.digits {
        // The last digits, as they are written together or in pairs.
        let last = &digits[digits.len() - SHORTEST_NUMBER..];
        let (first, second) = last.split_at(SHORTEST_NUMBER / 2);
        patterns.extend([format!("%{last}%"), format!("%{first}_{second}%")]);
    }
    patterns
}

fn pattern_of(c: char) -> String {
    match c {
        '%' | '_' | '!' => format!("!{c}"),
        // Escaped in JSON.
        '"' | '\\' => "%".to_owned(),
        c if c.is_ascii() && !c.is_ascii_control() => c.to_string(),
        _ => "%".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> LeadPerson {
        LeadPerson {
            name: "Ann Özil-Lee".to_owned(),
            email: "ann.lee@example.com".to_owned(),
            phones: vec!["(555) 867-5309".to_owned(), "06 12 34 56 78".to_owned()],
            rep: "Rae Rep".to_owned(),
            conversation: "Inbound Leads".to_owned(),
            source: "Website".to_owned(),
            date: String::new(),
        }
    }

    fn fits(text: &str) -> bool {
        PersonSearch::parse(text).is_some_and(|search| search.fits("A-4711", &ann()))
    }

    #[test]
    fn every_word_has_to_occur_and_numbers_are_compared_by_their_digits() {
        for found in [
            "ann",
            "LEE ann",
            "özil",
            "ÖZIL",
            "@example.com",
            "4711",
            "rae",
            "inbound ann",
            "5558675309",
            "+1 555 867 5309",
            "867-5309",
            "(555) 867",
            "0612345678",
            "5678",
        ] {
            assert!(fits(found), "{found}");
        }
        for other in ["", "  ", "bob", "ann bob", "5558675300", "website", "999", "1234567890123"] {
            assert!(!fits(other), "{other}");
        }
    }

    #[test]
    fn patterns_find_what_fits_and_quote_what_is_special_in_them() {
        let patterns = |text: &str| PersonSearch::parse(text).map(|search| search.patterns()).unwrap_or_default();
        assert_eq!(patterns("Ann 50%_"), [vec!["%ann%".to_owned()], vec!["%50!%!_%".to_owned()]]);
        assert_eq!(
            patterns("+1 555 867 5309"),
            [["%+1 555 867 5309%", "%5309%", "%53_09%"].map(str::to_owned).to_vec()]
        );
        assert_eq!(patterns("özil \"x"), [vec!["%%zil%".to_owned()], vec!["%%x%".to_owned()]]);
    }
}
