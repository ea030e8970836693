//! The common parts of all pages: frame, links, times and texts.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use tracing::debug;

use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::door::TokenHolder;
use crate::admin::dashboard::session::{DashboardVisitor, SessionOrigin};
use crate::conversica::lead::LeadId;
use crate::wording::roughly;

/// Around the page.
pub struct PageFrame {
    pub title: String,
    pub signed_in: bool,
    /// Whether signing out here ends anything.
    pub may_sign_out: bool,
    /// Who has signed in, where that is known, and whether they may only look.
    pub signed_in_as: Option<String>,
    /// Whether the page shows counts only.
    pub counts_only: bool,
    /// Whether the page has a menu; a page that refuses access has none.
    pub has_menu: bool,
    pub form_token: String,
    /// A message that is shown once.
    pub message: Option<String>,
    pub version: &'static str,
}

impl PageFrame {
    pub fn of(board: &DashboardContext, visitor: &DashboardVisitor, title: impl Into<String>) -> Self {
        let session = visitor.session.as_ref();
        Self {
            title: title.into(),
            signed_in: session.is_some(),
            may_sign_out: session.is_some_and(|session| session.origin == SessionOrigin::Cookie),
            signed_in_as: session.and_then(|session| name_and_role(&session.holder)),
            counts_only: !visitor.sees_people(),
            has_menu: true,
            form_token: session.map(|session| session.form_token.clone()).unwrap_or_default(),
            message: session.filter(|_| !visitor.is_live).and_then(|session| board.sessions.message(&session.key)),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// For a visitor without access.
    pub fn plain(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            signed_in: false,
            may_sign_out: false,
            signed_in_as: None,
            counts_only: false,
            has_menu: false,
            form_token: String::new(),
            message: None,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn name_and_role(holder: &TokenHolder) -> Option<String> {
    let name = holder.name.as_ref()?;
    Some(if holder.may_act() { name.clone() } else { format!("{name} (may look)") })
}

/// A page as an answer.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => {
            debug!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "admin/dashboard/note.html", config = ".askama.toml")]
struct NotePage<'a> {
    frame: PageFrame,
    what: &'a str,
    cure: Vec<TextPiece>,
    /// The next step: link text and address.
    link: Option<(&'a str, &'a str)>,
}

/// A page with one message and a cure.
pub fn note(status: StatusCode, frame: PageFrame, what: &str, cure: &str, link: Option<(&str, &str)>) -> Response {
    page(status, &NotePage { frame, what, cure: pieces(cure), link })
}

/// The state could not be read in time.
pub fn away(board: &DashboardContext, visitor: &DashboardVisitor) -> Response {
    let cure = crate::admin::judgement::state_unreadable().cure;
    note(StatusCode::SERVICE_UNAVAILABLE, PageFrame::of(board, visitor, "No answer"), AWAY, cure, None)
}

const AWAY: &str = "The state cannot be read at present, or did not answer in time.";

/// A part of one of our own sentences; text in backticks is code to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPiece {
    pub is_code: bool,
    pub text: String,
}

pub fn pieces(sentence: &str) -> Vec<TextPiece> {
    let pieces = sentence.split('`').enumerate();
    let pieces = pieces.map(|(at, text)| TextPiece { is_code: at % 2 == 1, text: text.to_owned() });
    pieces.filter(|piece| !piece.text.is_empty()).collect()
}

/// A moment, for people and for programs.
#[derive(Debug, Clone)]
pub struct ShownMoment {
    pub text: String,
    pub iso: String,
    pub ago: String,
}

pub fn moment(at: DateTime<Utc>, now: DateTime<Utc>) -> ShownMoment {
    ShownMoment { text: at.format("%F %T UTC").to_string(), iso: at.format("%FT%TZ").to_string(), ago: ago(at, now) }
}

/// `3 min ago`, `in 20 s`.
pub fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let since = now - at;
    let seconds = |of: TimeDelta| roughly(of.num_seconds().unsigned_abs());
    match since.num_seconds() {
        -1..=1 => "just now".to_owned(),
        2.. => format!("{} ago", seconds(since)),
        _ => format!("in {}", seconds(since)),
    }
}

/// `a=b&c=d`, without blank values.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    pairs.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| _ = query.append_pair(name, value));
    query.finish()
}

/// The parameters of a link or a form.
#[derive(Debug, Default)]
pub struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    pub fn read(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The value of that name; blank where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// All values of that name that are not blank, in their order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(have, value)| have == name && !value.is_empty());
        values.map(|(_, value)| value.clone()).collect()
    }

    /// The value, if the parameter is present at all.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// The address of a lead's page. Ids may be any text; ids that a browser would read as a path step go into the query.
pub fn lead_link(lead: &LeadId) -> String {
    let client = query(&[("client", &lead.client_id)]);
    if matches!(lead.id.as_str(), "" | "." | "..") {
        return format!("/leads/?{}", query(&[("id", &lead.id), ("client", &lead.client_id)]));
    }
    let mut path = String::from("/leads/");
    for byte in lead.id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    if client.is_empty() { path } else { format!("{path}?{client}") }
}

/// The name of a lead in a list.
pub fn lead_name(lead: &LeadId) -> String {
    let name = crate::console::printable(&lead.id);
    if lead.client_id.is_empty() {
        return name.into_owned();
    }
    format!("{name} (client {})", crate::console::printable(&lead.client_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_to_be_typed_is_told_apart() {
        let piece = |is_code, text: &str| TextPiece { is_code, text: text.to_owned() };
        assert_eq!(pieces("`a` or b, `c`"), [piece(true, "a"), piece(false, " or b, "), piece(true, "c")]);
    }

    #[test]
    fn times_are_told_from_now_on_both_sides() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1000);
        let said = [0, 5, 600, -30, -7200].map(|seconds| ago(now - TimeDelta::seconds(seconds), now));
        assert_eq!(said, ["just now", "5 s ago", "10 min ago", "in 30 s", "in 2 h"]);
    }

    proptest! {
        #[test]
        fn a_link_leads_to_its_lead_whatever_its_id_is(id in any::<String>(), client_id in any::<String>()) {
            let link = lead_link(&LeadId { id: id.clone(), client_id: client_id.clone() });
            let url = url::Url::parse("http://127.0.0.1/").and_then(|url| url.join(&link)).expect("a link");
            let asked = QueryParameters::read(url.query().unwrap_or_default().as_bytes());
            prop_assert_eq!(asked.get("client"), client_id);
            let path = url.path().strip_prefix("/leads/").expect("below the leads");
            let found = if path.is_empty() { asked.get("id").to_owned() } else {
                // As the router does it.
                let path = path.replace('+', "%2B");
                url::form_urlencoded::parse(path.as_bytes()).next().map(|(id, _)| id.into_owned()).unwrap_or_default()
            };
            prop_assert_eq!(found, id);
        }
    }
}
