//! Splits a list of posts, or posts line by line, into their objects. Each is judged by itself, because it is not about the leads
//! of the others. Pure.

use serde_json::Value;

/// A longer list is searched as one text.
const MAX_OBJECTS: usize = 200;

/// The objects of a list, or of lines with one object each, unparsed, because a key may come twice in one. `None` if the body is
/// something else, or one object.
pub(super) fn split(body: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(body).ok()?.trim_start_matches('\u{feff}').trim();
    let mut rest = match text.strip_prefix('[') {
        Some(list) => list.strip_suffix(']')?,
        None => text,
    };
    let mut objects = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if !rest.starts_with('{') || objects.len() == MAX_OBJECTS || values.next()?.is_err() {
            return None;
        }
        let (object, behind) = rest.split_at(values.byte_offset());
        objects.push(object);
        rest = behind;
    }
    (objects.len() > 1).then_some(objects)
}

#[cfg(test)]
mod tests {
    use crate::conversica::post::PostKind;
    use crate::conversica::withdrawal::in_unreadable;

    fn ids(body: &str) -> Vec<String> {
        in_unreadable(PostKind::LeadUpdate, body.as_bytes()).map(|found| found.named.ids).unwrap_or_default()
    }

    #[test]
    fn each_object_of_a_list_names_its_own_lead() {
        let list = r#"[{"id":"21","doNotEmail":true},{"id":"22","hotLead":true},{"id":"23","doNotEmail":false}]"#;
        assert_eq!(ids(list), ["21"]);
        let lines = "{\"id\":\"24\",\"doNotEmail\":true}\n{\"id\":\"25\",\"hotLead\":true}";
        assert_eq!(ids(lines), ["24"]);
        assert_eq!(
            ids(r#"{"id":"26"}{"doNotEmail":true}"#),
            ["26"],
            "an object that names no lead means the one before it"
        );
        assert_eq!(
            ids(r#"{"id":"30","doNotEmail":true,"doNotEmail":false}{"id":"31"}"#),
            ["30"],
            "a key that comes twice"
        );
        assert_eq!(ids(r#"[{"id":"27","hotLead":true},{"id":"28"}]"#), Vec::<String>::new());
        assert_eq!(ids(r#"{"id":18.5,"doNotEmail":true}"#), ["18.5"], "no part of a number is an id");
    }
}
