//! Addresses and first names of valid leads that are probably none: Conversica would write to no person, or greet "NULL". They are sent, and
//! `check` and `plan` count them. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;

/// Slips in the domains that most people have: the slip, and what was meant.
const SLIPS: [(&str, &str); 20] = [
    ("gmial.com", "gmail.com"),
    ("gmai.com", "gmail.com"),
    ("gmal.com", "gmail.com"),
    ("gmil.com", "gmail.com"),
    ("gamil.com", "gmail.com"),
    ("gnail.com", "gmail.com"),
    ("gmaill.com", "gmail.com"),
    ("gmail.co", "gmail.com"),
    ("gmail.cm", "gmail.com"),
    ("gmail.om", "gmail.com"),
    ("hotmial.com", "hotmail.com"),
    ("hotmal.com", "hotmail.com"),
    ("hotmai.com", "hotmail.com"),
    ("yaho.com", "yahoo.com"),
    ("yahooo.com", "yahoo.com"),
    ("yhaoo.com", "yahoo.com"),
    ("outlok.com", "outlook.com"),
    ("outloook.com", "outlook.com"),
    ("iclod.com", "icloud.com"),
    ("icloud.co", "icloud.com"),
];

/// Endings that no domain has.
const ENDINGS: [&str; 8] = [".con", ".cmo", ".ocm", ".comm", ".nett", ".test", ".invalid", ".localhost"];

/// Domains for tests.
const TEST_DOMAINS: [&str; 6] =
    ["test.com", "test.de", "mailinator.com", "guerrillamail.com", "domain.com", "email.com"];

/// First names that programs and people write where there is none.
const NO_NAMES: [&str; 16] = [
    "null",
    "none",
    "nil",
    "n/a",
    "na",
    "nan",
    "undefined",
    "unknown",
    "test",
    "tester",
    "asdf",
    "xxx",
    "firstname",
    "first name",
    "no name",
    "noname",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DoubtedContent<'c> {
    #[serde(borrow)]
    email: Cow<'c, str>,
    #[serde(borrow)]
    first_name: Cow<'c, str>,
}

/// What is doubtful about the contact details of a Lead object. The texts name keys and domains of a fixed list, never a person.
pub fn doubts(content: &str) -> Vec<String> {
    let Ok(content) = serde_json::from_str::<DoubtedContent<'_>>(content) else { return Vec::new() };
    let mut doubts = Vec::new();
    let domain = content.email.rsplit('@').next().unwrap_or_default().trim().to_ascii_lowercase();
    doubts.extend(domain_doubt(&domain).map(|doubt| format!("email: {doubt}")));
    let name = content.first_name.trim().to_lowercase();
    if content.first_name.contains(['<', '>']) || name.contains("&amp;") || name.contains("&#") {
        doubts.push("firstName: has HTML in it".to_owned());
    } else if NO_NAMES.contains(&name.as_str()) || !name.chars().any(char::is_alphabetic) {
        doubts.push("firstName: is what is written where there is no name".to_owned());
    }
    doubts
}

fn domain_doubt(domain: &str) -> Option<String> {
    if let Some((slip, right)) = SLIPS.iter().find(|(slip, _)| *slip == domain) {
        return Some(format!("its domain {slip} is probably a slip for {right}"));
    }
    let plain = domain.trim_matches(['[', ']']);
    if plain.parse::<IpAddr>().is_ok() || plain.strip_prefix("ipv6:").is_some_and(|rest| rest.parse::<IpAddr>().is_ok())
    {
        return Some("its domain is an IP address".to_owned());
    }
    if let Some(ending) = ENDINGS.iter().find(|ending| domain.ends_with(*ending)) {
        return Some(format!("no domain ends in {ending}"));
    }
    TEST_DOMAINS.contains(&domain).then(|| "its domain is one for tests".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first_name: &str, email: &str) -> Vec<String> {
        doubts(&serde_json::json!({"id": "1", "firstName": first_name, "email": email}).to_string())
    }

    #[test]
    fn slips_ip_addresses_test_domains_and_placeholders_are_doubtful() {
        assert_eq!(of("Ann", "a@gmial.com"), ["email: its domain gmial.com is probably a slip for gmail.com"]);
        for address in ["a@[192.0.2.7]", "a@192.0.2.7", "a@[IPv6:2001:db8::1]"] {
            assert_eq!(of("Ann", address), ["email: its domain is an IP address"], "{address}");
        }
        assert_eq!(of("Ann", "a@shop.con"), ["email: no domain ends in .con"]);
        assert_eq!(of("Ann", "a@Mailinator.com"), ["email: its domain is one for tests"]);
        for name in ["NULL", "n/a", "Unknown", "test", "-", "...", "123"] {
            assert_eq!(
                of(name, "a@shop.example.com"),
                ["firstName: is what is written where there is no name"],
                "{name}"
            );
        }
        assert_eq!(of("<b>Ann</b>", "a@shop.com"), ["firstName: has HTML in it"]);
        assert_eq!(of("Ann &amp; Bo", "a@shop.com"), ["firstName: has HTML in it"]);
        assert_eq!(of("NULL", "a@gmai.com").len(), 2);
    }

    #[test]
    fn ordinary_people_are_not_doubted() {
        for (name, address) in [
            ("Ann", "ann@gmail.com"),
            ("Jo & Bo", "jo@company.co"),
            ("Ña", "n@example.com"),
            ("Nan Li", "nan@outlook.com"),
            ("李", "li@qq.com"),
            ("O'Neil", "o@mail.contoso.com"),
        ] {
            assert_eq!(of(name, address), [""; 0], "{name} {address}");
        }
        assert_eq!(doubts("no object"), [""; 0]);
    }
}
