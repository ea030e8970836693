//! The address of a lead's row in the CRM's own pages, as `[source] row_url` says. Pure.

use crate::config::ServiceSettings;
use crate::conversica::lead::LeadId;

/// `None` without the setting.
pub fn row_link(settings: &ServiceSettings, lead: &LeadId) -> Option<String> {
    Some(filled(settings.source.row_url.as_ref()?, lead))
}

/// The id and the client are parts of a path or of a query: whatever they contain, they stay there.
fn filled(pattern: &str, lead: &LeadId) -> String {
    let mut link = String::with_capacity(pattern.len() + lead.id.len());
    let mut rest = pattern;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        link.push_str(before);
        let (value, name) = if from.starts_with("{id}") {
            (Some(&lead.id), "{id}")
        } else if from.starts_with("{client}") {
            (Some(&lead.client_id), "{client}")
        } else {
            (None, "{")
        };
        match value {
            Some(value) => link.push_str(&escaped(value)),
            None => link.push('{'),
        }
        rest = &from[name.len()..];
    }
    link.push_str(rest);
    link
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_in_its_place_whatever_it_contains() {
        let lead = LeadId { id: "a/b?c#\"{client}".to_owned(), client_id: "Köln".to_owned() };
        assert_eq!(
            filled("https://crm.example/{client}/leads/{id}?x={y}", &lead),
            "https://crm.example/K%C3%B6ln/leads/a%2Fb%3Fc%23%22%7Bclient%7D?x={y}"
        );
    }
}
