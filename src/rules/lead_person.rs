//! What operators know a lead by: the name, the addresses and numbers, the rep and the conversation in its Lead object. Pure.

use std::borrow::Cow;

use serde::Deserialize;

/// The person of a lead, as its Lead object says; blank texts where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeadPerson {
    /// First and last name.
    pub name: String,
    pub email: String,
    /// Cell phone first.
    pub phones: Vec<String>,
    pub rep: String,
    pub conversation: String,
    pub source: String,
    /// When the CRM made the lead, as it is sent.
    pub date: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ShownKeys<'b> {
    #[serde(borrow)]
    first_name: Option<Cow<'b, str>>,
    #[serde(borrow)]
    last_name: Option<Cow<'b, str>>,
    #[serde(borrow)]
    email: Option<Cow<'b, str>>,
    #[serde(borrow)]
    cell_phone: Option<Cow<'b, str>>,
    #[serde(borrow)]
    home_phone: Option<Cow<'b, str>>,
    #[serde(borrow)]
    work_phone: Option<Cow<'b, str>>,
    #[serde(borrow)]
    rep_name: Option<Cow<'b, str>>,
    #[serde(borrow)]
    conversation_id: Option<Cow<'b, str>>,
    #[serde(borrow)]
    lead_source: Option<Cow<'b, str>>,
    #[serde(borrow)]
    date: Option<Cow<'b, str>>,
}

impl LeadPerson {
    /// Reads a Lead object; everything is blank for a text that is none.
    pub fn of_lead_object(body: &str) -> Self {
        let keys: ShownKeys<'_> = serde_json::from_str(body).unwrap_or_default();
        let text = |value: Option<Cow<'_, str>>| value.map(|value| value.trim().to_owned()).unwrap_or_default();
        let names = [text(keys.first_name), text(keys.last_name)];
        let phones = [text(keys.cell_phone), text(keys.home_phone), text(keys.work_phone)];
        Self {
            name: names.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>().join(" "),
            email: text(keys.email),
            phones: phones.into_iter().filter(|phone| !phone.is_empty()).collect(),
            rep: text(keys.rep_name),
            conversation: text(keys.conversation_id),
            source: text(keys.lead_source),
            date: text(keys.date),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_read_from_what_the_lead_object_says() {
        let body = r#"{"id":"7","firstName":" Ann ","lastName":"Lee","email":"ann@example.com","workPhone":"1","cellPhone":"2","repName":"Rae"}"#;
        let person = LeadPerson::of_lead_object(body);
        assert_eq!(
            (person.name.as_str(), person.email.as_str(), person.rep.as_str()),
            ("Ann Lee", "ann@example.com", "Rae")
        );
        assert_eq!(person.phones, ["2", "1"]);
        assert_eq!((person.conversation.as_str(), person.source.as_str()), ("", ""));
        assert_eq!(LeadPerson::of_lead_object("no object"), LeadPerson::default());
        assert_eq!(LeadPerson::of_lead_object(r#"{"lastName":"Lee"}"#).name, "Lee");
    }
}
