//! One lead's history for the command line and the dashboard: status, remedy, posts, and events in the order of time. Reads the
//! state; only [`row`] queries the source.

pub mod basis;
pub mod entry;
pub mod hearing;
pub mod history;
pub mod row;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use self::history::moment;
use crate::config::ServiceSettings;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::conversica::token::{self, TokenVeil};
use crate::error::SetupError;
use crate::rules::lead_status::LeadStatus;
use crate::rules::mapping::LeadMapping;
use crate::rules::mapping_in_use::MappingInUse;
use crate::rules::suppression_ground::SuppressionGround;
use crate::store::control;
use crate::store::heard::reading;
use crate::store::outcome::RecordedOutcome;
use crate::store::state_db::StateDb;
use crate::store::story::{self, LeadStory};
use crate::wording::meaning;

/// Hides the Test Lead Token. A token that has left the settings remains in the state: in the delivered content until the lead is
/// sent under its own name, and in the desired content until a poll has updated it.
pub async fn hide_token(
    story: &mut LeadStory,
    state: &StateDb,
    settings: &ServiceSettings,
    veil: TokenVeil,
) -> anyhow::Result<TokenVeil> {
    let mut veil = veil;
    if story.test_lead_at.is_some() && !veil.is_on() {
        let in_use = control::read::<MappingInUse>(state).await?;
        let mapping = LeadMapping::new(settings).fingerprint().to_string();
        let is_old = story.status == LeadStatus::Gone || in_use.is_none_or(|in_use| in_use.fingerprint != mapping);
        let of = |content: &Option<Map<String, Value>>| {
            content.as_ref().and_then(|content| content.get("lastName")?.as_str().map(str::to_owned))
        };
        let (desired, delivered) = (of(&story.desired), of(&story.delivered));
        let hidden =
            if is_old { delivered.or(desired) } else { delivered.filter(|name| desired.as_ref() != Some(name)) };
        veil = hidden.map_or(veil, |name| TokenVeil::over_last_name(&name));
    }
    // Several former tokens may exist.
    let own_name = story.desired.as_ref().and_then(|desired| desired.get("lastName")).cloned();
    let is_tested = story.test_lead_at.is_some() && settings.conversica.test_lead_token.is_none();
    for body in story.outcomes.iter_mut().filter_map(|outcome| outcome.body.as_mut()) {
        if let Some(name) = body.get_mut("lastName").filter(|name| is_tested && own_name.as_ref() != Some(&**name)) {
            *name = token::SHOWN_OF_A_TEST_LEAD.into();
        }
        veil.object(body);
    }
    story.desired.iter_mut().chain(story.delivered.iter_mut()).for_each(|content| veil.object(content));
    Ok(veil)
}

/// A value of a Lead object, for people.
pub fn shown_value(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "(none)".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
        Some(Value::String(text)) => printable(text).into_owned(),
        Some(other) => printable(&other.to_string()).into_owned(),
    }
}

/// The lead that is meant, or why the state has none.
pub async fn which(state: &StateDb, id: &str, client: Option<&str>) -> anyhow::Result<Result<LeadId, SetupError>> {
    let mut clients = story::clients(state, id).await?;
    clients.extend(reading::clients(state, id).await?);
    clients.sort();
    clients.dedup();
    let client_id = match client {
        Some(client) if clients.iter().any(|known| known == client) => client.to_owned(),
        Some(client) => return Ok(Err(unknown(id, Some(client), &clients))),
        None if clients.len() > 1 => return Err(several(id, &clients).into()),
        None => match clients.pop() {
            Some(client) => client,
            None => return Ok(Err(unknown(id, None, &[]))),
        },
    };
    Ok(Ok(LeadId { id: id.to_owned(), client_id }))
}

pub fn several(id: &str, clients: &[String]) -> SetupError {
    let what = format!("lead {} is known for several clients: {}", printable(id), names(clients));
    SetupError::new(what, "say which with --client")
}

pub fn unknown(id: &str, client: Option<&str>, others: &[String]) -> SetupError {
    let of = client.map(|client| format!(" of client {}", names(&[client.to_owned()]))).unwrap_or_default();
    let what = format!("lead {}{of} is not known to the state", printable(id));
    if others.is_empty() {
        let cure = "look whether it is in the source with `conversica-sync plan`; ids are written as the database writes \
                    the value of [source] key";
        return SetupError::new(what, cure);
    }
    SetupError::new(what, format!("name a client that has a lead of that id: {}", names(others)))
}

pub fn names(clients: &[String]) -> String {
    let name =
        |client: &String| if client.is_empty() { "'' (none)".to_owned() } else { printable(client).into_owned() };
    clients.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// For scripts, without the posts.
pub fn document(story: &LeadStory) -> Value {
    json!({
        "id": story.lead.id,
        "client_id": story.lead.client_id,
        "status": story.status.name(),
        "desired": story.desired,
        "delivered": story.accepted(),
        "delivered_is_certain": story.delivered_is_certain,
        "taken_as_delivered": story.delivered.as_ref().filter(|_| story.delivered_at.is_none()),
        "due_at": story.due_at,
        "hold_reason": story.hold_reason,
        "suppressed_by": story.suppressed_by,
        "invalid_reasons": story.invalid_reasons,
        "attempts": story.attempts,
        "changed_at": story.changed_at,
        "first_contact_at": story.first_contact_at,
        "assumed_at": story.assumed_at,
        "delivered_at": story.delivered_at,
        "gone_at": story.gone_at,
        "held_at": story.held_at,
        "claimed_at": story.claimed_at,
        "test_lead_at": story.test_lead_at,
        "outcomes": story.outcomes,
        "decisions": story.decisions,
    })
}

pub fn name(lead: &LeadId) -> String {
    let mut name = format!("Lead {}", printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(name, " (client {})", printable(&lead.client_id));
    }
    name
}

fn suppressed_because(story: &LeadStory) -> String {
    let grounds: Vec<String> = story.suppressed_by.iter().map(SuppressionGround::in_words).collect();
    if grounds.is_empty() {
        // The next pass reads the row anew.
        return "not introduced: the person did not want to be written to when the row was last read".to_owned();
    }
    format!("not introduced: {}", grounds.join("; "))
}

/// The status, and the operator's remedy.
pub fn standing(story: &LeadStory) -> (String, &'static str) {
    let answer = || match story.outcomes.last() {
        Some(RecordedOutcome { http_status: Some(status), detail: Some(detail), .. }) => {
            format!(" ({status}: {detail})")
        }
        Some(RecordedOutcome { http_status: Some(status), .. }) => format!(" ({status})"),
        Some(RecordedOutcome { detail: Some(detail), .. }) => format!(" ({detail})"),
        _ => String::new(),
    };
    // An opt-out beside a rejected value is sent separately, so the last answer may belong to the opt-out.
    let rejection = || match (story.last_http_status, &story.last_detail) {
        (Some(status), Some(detail)) => format!(" ({status}: {detail})"),
        (None, _) | (_, None) => answer(),
    };
    let due = story.due_at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
    const NOTHING: &str = "nothing";
    match story.status {
        LeadStatus::InSync if story.delivered_at.is_none() => (
            "the operator took this content as delivered (baseline): it was not sent, and counts as what Conversica holds".to_owned(),
            "nothing; its next change is sent",
        ),
        LeadStatus::InSync => ("Conversica holds what the CRM says".to_owned(), NOTHING),
        LeadStatus::Assumed => (
            meaning(LeadStatus::Assumed).to_owned(),
            "nothing, if Conversica knows this person; its next change is sent, and is then a first contact as far as is known here",
        ),
        LeadStatus::Pending => ("to be sent now".to_owned(), "nothing, while `run` works and `status` shows no halt and no pause"),
        LeadStatus::InFlight => ("on its way to Conversica".to_owned(), NOTHING),
        LeadStatus::Retrying => (
            format!("failed for a passing reason{}; tried again{due}", answer()),
            "nothing: it is tried again by itself",
        ),
        LeadStatus::Held => {
            let reason = story.hold_reason.as_deref().unwrap_or("a person has to decide");
            (format!("waits for a person: {reason}"), "look at `plan`, then `approve` or `baseline`")
        }
        LeadStatus::Invalid => {
            (format!("not sent: {}", story.invalid_reasons.join("; ")), "fix the row in the CRM; it is sent by itself")
        }
        LeadStatus::Rejected => (
            format!("Conversica refused this content{}", rejection()),
            "fix the row in the CRM, or `retry ID` after fixing the account",
        ),
        LeadStatus::Exhausted => (
            format!("failed for too long{}", answer()),
            "fix the cause, then `retry ID`; a change of the row does it too",
        ),
        LeadStatus::Suppressed => (
            suppressed_because(story),
            "nothing: the person does not want to be written to; `suppress remove` takes them off the list",
        ),
        LeadStatus::Gone => ("no longer in the source".to_owned(), "nothing; it goes on when the row comes back"),
    }
}
