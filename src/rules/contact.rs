//! Addresses, telephone numbers and domains, in the form by which they are compared. Pure.
//!
//! An address is compared without case and surrounding blanks, and its domain in the ASCII form of international names; dots and
//! tags (`ann+news@…`) count. A number is compared in international form. A number without a country is North American if it has
//! the ten digits of one; otherwise it equals only numbers that are written with the same digits.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::conversica::consent_word::ConsentChannel;

/// How a person is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    Address,
    Number,
    /// All addresses of a domain and of the domains below it.
    Domain,
}

impl ContactKind {
    pub const ALL: [ContactKind; 3] = [ContactKind::Address, ContactKind::Number, ContactKind::Domain];

    /// The name in the state and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            ContactKind::Address => "address",
            ContactKind::Number => "number",
            ContactKind::Domain => "domain",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The messages that an opt-out of this kind ends.
    pub const fn channel(self) -> ConsentChannel {
        match self {
            ContactKind::Address | ContactKind::Domain => ConsentChannel::Email,
            ContactKind::Number => ConsentChannel::Sms,
        }
    }
}

/// An address, a number or a domain in the form by which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactPoint {
    pub kind: ContactKind,
    pub text: String,
}

/// Why a text is no usable entry. It never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactFault {
    NotAnAddress,
    NotANumber,
    NotADomain,
    TooLong,
    NotText,
}

impl ContactFault {
    /// Goes on after "it".
    pub const fn in_words(self) -> &'static str {
        match self {
            ContactFault::NotAnAddress => "is not shaped like an e-mail address",
            ContactFault::NotANumber => "is not a telephone number of 7 to 15 digits",
            ContactFault::NotADomain => "is not a domain such as example.com",
            ContactFault::TooLong => "is longer than an address can be",
            ContactFault::NotText => "is not valid UTF-8 text",
        }
    }
}

/// No address is longer (RFC 5321: 64 for the name, 255 for the domain).
pub const LONGEST_CONTACT: usize = 320;

/// The keys of a Lead object by which the person is written to. The addresses of employees are not among them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PersonKeys<'b> {
    #[serde(borrow)]
    email: Option<Cow<'b, str>>,
    #[serde(borrow)]
    home_email: Option<Cow<'b, str>>,
    #[serde(borrow)]
    work_email: Option<Cow<'b, str>>,
    #[serde(borrow)]
    alt_email: Option<Cow<'b, str>>,
    #[serde(borrow)]
    cell_phone: Option<Cow<'b, str>>,
    #[serde(borrow)]
    home_phone: Option<Cow<'b, str>>,
    #[serde(borrow)]
    work_phone: Option<Cow<'b, str>>,
}

impl ContactPoint {
    /// Reads an entry of a suppression list: `ann@example.com`, `+15558675309`, `example.com` or `@example.com`.
    pub fn parse(text: &str) -> Result<Self, ContactFault> {
        let text = text.trim();
        if text.len() > LONGEST_CONTACT {
            return Err(ContactFault::TooLong);
        }
        if let Some(domain) = text.strip_prefix('@') {
            return Self::domain(domain).ok_or(ContactFault::NotADomain);
        }
        if text.contains('@') {
            return Self::address(text).filter(Self::is_whole_address).ok_or(ContactFault::NotAnAddress);
        }
        let without_extension = before_extension(text);
        if without_extension.chars().any(char::is_alphabetic) || text.matches('.').count() == 1 && !text.contains(' ') {
            return Self::domain(text).ok_or(ContactFault::NotADomain);
        }
        Self::number(text).ok_or(ContactFault::NotANumber)
    }

    /// An address; `None` for a text that cannot be one.
    pub fn address(text: &str) -> Option<Self> {
        let (name, domain) = text.trim().rsplit_once('@')?;
        if name.is_empty() || domain.is_empty() {
            return None;
        }
        let text = format!("{}@{}", name.to_lowercase(), plain_domain(domain));
        Some(Self { kind: ContactKind::Address, text })
    }

    /// Whether it could be the address of a person: for entries of a list, which may be typed by hand.
    fn is_whole_address(&self) -> bool {
        let (name, domain) = self.text.rsplit_once('@').unwrap_or_default();
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>');
        !name.contains(is_bad) && Self::domain(domain).is_some()
    }

    fn domain(text: &str) -> Option<Self> {
        let text = plain_domain(text.trim());
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let has_labels = text.contains('.') && text.split('.').all(is_label);
        // A number with a point, or an IP address, is no domain.
        let ends_in_letters = text.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()));
        (has_labels && ends_in_letters).then_some(Self { kind: ContactKind::Domain, text })
    }

    /// A telephone number, without its extension.
    pub fn number(text: &str) -> Option<Self> {
        let text = plain_digits(before_extension(text.trim().trim_start_matches("tel:")));
        let bare = text.trim_start_matches(['(', ' ']);
        let is_international = bare.starts_with('+');
        let has_prefix = is_international || bare.starts_with("00") || bare.starts_with("011");
        // +44 (0)20 is the same as +44 20.
        let text = if has_prefix { text.replace("(0)", "") } else { text };
        let mut text = text.as_str();
        if let Some(words) = text.find(char::is_alphabetic) {
            // Words behind a whole number begin an extension, in whatever language.
            if text[..words].bytes().filter(u8::is_ascii_digit).count() < SHORTEST_NUMBER {
                return None;
            }
            text = &text[..words];
        }
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let with_country = if is_international {
            Some(digits.clone())
        } else if let Some(rest) = digits.strip_prefix("00") {
            Some(rest.to_owned())
        } else if let Some(rest) = digits.strip_prefix("011").filter(|rest| rest.len() >= 8) {
            Some(rest.to_owned())
        } else if is_north_american(digits.strip_prefix('1').unwrap_or(&digits)) {
            Some(format!("1{}", digits.strip_prefix('1').unwrap_or(&digits)))
        } else {
            None
        };
        let length = with_country.as_ref().unwrap_or(&digits).len();
        let text = with_country.map_or(digits, |digits| format!("+{digits}"));
        (SHORTEST_NUMBER..=15).contains(&length).then_some(Self { kind: ContactKind::Number, text })
    }

    /// The numbers in a field that may hold several.
    fn numbers(text: &str) -> impl Iterator<Item = Self> {
        let parts = text.split(['/', ';', ',', '|', '&', '\n']).filter(move |part| part.len() < text.len());
        std::iter::once(text).chain(parts).filter_map(Self::number)
    }

    /// The domain of an address and the domains above it, down to two labels.
    fn domains(&self) -> impl Iterator<Item = Self> {
        let mut rest = self.text.rsplit_once('@').map_or("", |(_, domain)| domain);
        std::iter::from_fn(move || {
            let domain = rest;
            let (_, above) = domain.split_once('.')?;
            rest = above;
            Some(Self { kind: ContactKind::Domain, text: domain.to_owned() })
        })
    }

    /// An address with its domains; a number or a domain alone.
    pub fn with_domains(&self) -> Vec<Self> {
        let domains: Vec<Self> = match self.kind {
            ContactKind::Address => self.domains().collect(),
            ContactKind::Domain => {
                Self { kind: self.kind, text: format!("x@{}", self.text) }.domains().skip(1).collect()
            }
            ContactKind::Number => Vec::new(),
        };
        std::iter::once(self.clone()).chain(domains).collect()
    }

    /// The addresses, numbers and domains of the person in a Lead object, each once.
    pub fn of_lead_object(body: &str) -> Vec<Self> {
        let keys: PersonKeys<'_> = serde_json::from_str(body).unwrap_or_default();
        let addresses = [keys.email, keys.home_email, keys.work_email, keys.alt_email];
        let numbers = [keys.cell_phone, keys.home_phone, keys.work_phone];
        let mut points: Vec<Self> = Vec::new();
        for address in addresses.iter().flatten().filter_map(|text| Self::address(text)) {
            points.extend(address.domains());
            points.push(address);
        }
        points.extend(numbers.iter().flatten().flat_map(|text| Self::numbers(text)));
        points.sort_unstable();
        points.dedup();
        points
    }
}

/// The ASCII form in lower case; where there is none, the text in lower case.
fn plain_domain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match url::Host::parse(text) {
        Ok(url::Host::Domain(domain)) => domain,
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => text.to_lowercase(),
    }
}

/// Digits of a number that says who it is.
const SHORTEST_NUMBER: usize = 7;

/// With full-width digits, which Japanese keyboards write, as ordinary ones.
fn plain_digits(text: &str) -> String {
    let plain = |c: char| match c {
        '\u{ff10}'..='\u{ff19}' => char::from_digit(u32::from(c) - 0xff10, 10).unwrap_or(c),
        '\u{ff0b}' => '+',
        other => other,
    };
    text.chars().map(plain).collect()
}

/// Area codes and exchanges begin with 2 to 9.
fn is_north_american(digits: &str) -> bool {
    let digits = digits.as_bytes();
    digits.len() == 10 && digits[0] >= b'2' && digits[3] >= b'2'
}

/// The part before `x12`, `ext. 12` or `#12`.
fn before_extension(text: &str) -> &str {
    let mut has_digit = false;
    for (place, letter) in text.char_indices() {
        has_digit |= letter.is_ascii_digit();
        let rest = &text[place..];
        let begins =
            matches!(letter, 'x' | 'X' | '#') || rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("ext"));
        if has_digit && begins && rest.chars().all(|c| c.is_ascii_digit() || " .:#extXEToOnNsSiI".contains(c)) {
            return &text[..place];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<(ContactKind, String), ContactFault> {
        ContactPoint::parse(text).map(|point| (point.kind, point.text))
    }

    #[test]
    fn addresses_are_compared_without_case_and_blanks_and_with_domains_in_one_form() {
        let of = |text| ContactPoint::address(text).map(|point| point.text);
        assert_eq!(of(" Ann.Lee+News@Example.COM. ").as_deref(), Some("ann.lee+news@example.com"));
        assert_eq!(of("ann@MÜNCHEN.example"), of("ann@xn--mnchen-3ya.example"));
        assert_ne!(of("annlee@example.com"), of("ann.lee@example.com"), "dots count");
        assert_ne!(of("ann@example.com"), of("ann+x@example.com"), "tags count");
        assert_eq!((of("ann"), of("@example.com"), of("ann@")), (None, None, None));
    }

    #[test]
    fn numbers_are_compared_in_international_form() {
        let of = |text| ContactPoint::number(text).map(|point| point.text);
        for same in [
            "+1 555 867 5309",
            "(555) 867-5309",
            "1-555-867-5309",
            "555.867.5309 x12",
            "001 555 867 5309",
            "tel:+15558675309",
            "+1 (555) 867-5309 ext. 7",
            "011 1 555 867 5309",
        ] {
            assert_eq!(of(same).as_deref(), Some("+15558675309"), "{same}");
        }
        assert_eq!(of("+44 (0)20 7946 0000").as_deref(), Some("+442079460000"));
        assert_eq!(of("030/1234567").as_deref(), Some("0301234567"), "without a country it equals itself alone");
        for none in ["", "12345", "n/a", "12345678901234567", "call me"] {
            assert_eq!(of(none), None, "{none}");
        }
        let several: Vec<String> =
            ContactPoint::numbers("+1 555 867 5309 / +1 555 867 5310").map(|point| point.text).collect();
        assert_eq!(several, ["+15558675309", "+15558675310"]);
    }

    #[test]
    fn an_entry_is_an_address_a_number_or_a_domain() {
        use ContactKind::{Address, Domain, Number};
        assert_eq!(parsed(" Ann@Example.com "), Ok((Address, "ann@example.com".to_owned())));
        assert_eq!(parsed("@Example.com"), Ok((Domain, "example.com".to_owned())));
        assert_eq!(parsed("mail.EXAMPLE.com"), Ok((Domain, "mail.example.com".to_owned())));
        assert_eq!(parsed("+49 30 123456"), Ok((Number, "+4930123456".to_owned())));
        assert_eq!(parsed("555-867-5309 ext 12"), Ok((Number, "+15558675309".to_owned())));
        for (bad, fault) in [
            ("ann@", ContactFault::NotAnAddress),
            ("ann lee@example.com", ContactFault::NotAnAddress),
            ("ann@localhost", ContactFault::NotAnAddress),
            ("example", ContactFault::NotADomain),
            ("@com", ContactFault::NotADomain),
            ("12", ContactFault::NotANumber),
            ("10.0", ContactFault::NotADomain),
            ("", ContactFault::NotANumber),
        ] {
            assert_eq!(parsed(bad), Err(fault), "{bad:?}");
        }
        assert_eq!(parsed(&"a".repeat(400)), Err(ContactFault::TooLong));
    }

    #[test]
    fn a_lead_object_names_its_person_and_not_the_employee() {
        let body = r#"{"id":"1","email":"Ann@Mail.Example.com","repEmail":"rep@dealer.com","homePhone":"555 867 5309","cellPhone":"+15558675309"}"#;
        let points: Vec<String> = ContactPoint::of_lead_object(body).into_iter().map(|point| point.text).collect();
        assert_eq!(points, ["ann@mail.example.com", "+15558675309", "example.com", "mail.example.com"]);
        assert_eq!(ContactPoint::of_lead_object("no JSON"), []);
    }

    proptest! {
        /// The compared form is a fixed point: an entry exported in that form names the same person.
        #[test]
        fn the_compared_form_is_read_as_itself(text in "\\PC{0,40}|[a-zA-Z.+]{1,9}@[a-zäöü.]{1,12}|[0-9 ()+/-]{5,22}") {
            if let Ok(point) = ContactPoint::parse(&text) {
                prop_assert_eq!(ContactPoint::parse(&point.text), Ok(point));
            }
        }

        /// An entry finds every lead that has it in a field, however it is written there.
        #[test]
        fn an_entry_finds_the_lead_that_has_it(name in "[a-z.+]{1,9}", domain in "[a-z]{1,9}\\.[a-z]{2,5}", shout: bool) {
            let address = format!("{name}@{domain}");
            let written = if shout { format!(" {} ", address.to_uppercase()) } else { address.clone() };
            let body = serde_json::json!({"id": "1", "email": written}).to_string();
            let points = ContactPoint::of_lead_object(&body);
            prop_assert!(points.contains(&ContactPoint::parse(&domain).unwrap()));
            prop_assert!(points.contains(&ContactPoint::address(&address).unwrap()));
        }
    }
}
