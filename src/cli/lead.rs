//! `lead ID`: one lead's whole story, for whoever asks why somebody was, or was not, written to. Looks at the state only,
//! also while a daemon works on it.
//!
//! Here, and nowhere else, Conversica's answers are shown as they came: they may quote the lead.

mod hearing;

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use self::hearing::Hearing;
use crate::cli::plan::shown;
use crate::cli::{Exit, settings};
use crate::console::{printable, say};
use crate::conversica::lead::LeadId;
use crate::db::Db;
use crate::error::SetupError;
use crate::state::heard::reading;
use crate::state::lead::Status;
use crate::state::outcome::Recorded;
use crate::state::story::{self, Story};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lead's id: the value of the source's key
    pub id: String,
    /// The client it belongs to, where several have a lead of that id
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = Db::open_state_read_only(loaded.settings.state.url.expose_secret()).await? else {
        return Err(SetupError::new(
            format!("lead {} is not known: there is no state yet, nothing has been read", printable(&args.id)),
            "look whether it is in the source with `conversica-sync plan`; `once` or `run` makes the state",
        )
        .into());
    };
    let lead = which(&state, args.id, args.client).await?;
    let hearing = Hearing::of(&state, &lead, loaded.settings.consent.keep_opt_outs).await?;
    let story = story::of(&state, &lead).await?;
    let Some(story) = story else {
        // Conversica speaks of leads that the CRM does not have, or that were not read yet.
        if hearing.is_nothing() {
            return Err(unknown(&lead.id, Some(&lead.client_id), &[]).into());
        }
        if args.json {
            let mut document = json!({"id": lead.id, "client_id": lead.client_id, "status": null, "desired": null,
                "delivered": null, "due_at": null, "outcomes": []});
            hearing.add_to(&mut document, None);
            say(format_args!("{document:#}"));
        } else {
            let mut text = name(&lead);
            text.push_str(": never sent from here; Conversica has spoken of it\n");
            text.push_str(&hearing.standing_text(None));
            text.push_str(&history(hearing.events()));
            say(text.trim_end());
        }
        return Ok(Exit::Done);
    };
    if args.json {
        let mut document = document(&story);
        hearing.add_to(&mut document, story.desired.as_ref());
        say(format_args!("{document:#}"));
    } else {
        say(text(&story, &hearing).trim_end());
    }
    Ok(Exit::Done)
}

/// The one lead that is meant.
async fn which(state: &Db, id: String, client: Option<String>) -> anyhow::Result<LeadId> {
    let mut clients = story::clients(state, &id).await?;
    clients.extend(reading::clients(state, &id).await?);
    clients.sort();
    clients.dedup();
    let client_id = match client {
        Some(client) if clients.contains(&client) => client,
        Some(client) => return Err(unknown(&id, Some(&client), &clients).into()),
        None if clients.len() > 1 => {
            return Err(SetupError::new(
                format!("lead {} is known for several clients: {}", printable(&id), names(&clients)),
                "say which with --client",
            )
            .into());
        }
        None => clients.pop().ok_or_else(|| unknown(&id, None, &[]))?,
    };
    Ok(LeadId { id, client_id })
}

fn unknown(id: &str, client: Option<&str>, others: &[String]) -> SetupError {
    let of = client.map(|client| format!(" of client {}", names(&[client.to_owned()]))).unwrap_or_default();
    let what = format!("lead {}{of} is not known to the state", printable(id));
    if others.is_empty() {
        let cure = "look whether it is in the source with `conversica-sync plan`; ids are written as the database writes \
                    the value of [source] key";
        return SetupError::new(what, cure);
    }
    SetupError::new(what, format!("name a client that has a lead of that id: {}", names(others)))
}

fn names(clients: &[String]) -> String {
    let name =
        |client: &String| if client.is_empty() { "'' (none)".to_owned() } else { printable(client).into_owned() };
    clients.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// For scripts, but for what was heard.
fn document(story: &Story) -> Value {
    json!({
        "id": story.lead.id,
        "client_id": story.lead.client_id,
        "status": story.status.name(),
        "desired": story.desired,
        "delivered": story.delivered,
        "delivered_is_certain": story.delivered_is_certain,
        "due_at": story.due_at,
        "hold_reason": story.hold_reason,
        "invalid_reasons": story.invalid_reasons,
        "attempts": story.attempts,
        "changed_at": story.changed_at,
        "first_contact_at": story.first_contact_at,
        "delivered_at": story.delivered_at,
        "gone_at": story.gone_at,
        "outcomes": story.outcomes,
    })
}

/// For people: where it stands and what to do, what Conversica should hold and holds, and how that came about.
fn text(story: &Story, hearing: &Hearing) -> String {
    let mut text = name(&story.lead);
    let (stands, to_do) = standing(story);
    let _ = writeln!(text, ": {}\n  {}\n  to do: {to_do}\n", story.status.name(), printable(&stands));
    text.push_str(&contents(story));
    text.push_str(&hearing.standing_text(story.desired.as_ref()));
    let mut events = vec![(story.changed_at, "its content last changed, as the CRM has it".to_owned())];
    let first_contact = "Conversica first took it, or may have";
    events.extend(story.first_contact_at.map(|at| (at, first_contact.to_owned())));
    events.extend(story.gone_at.map(|at| (at, "its row was missing from the source".to_owned())));
    events.extend(story.outcomes.iter().map(|outcome| (outcome.at, printable(&attempt(outcome)).into_owned())));
    events.extend(hearing.events());
    text + &history(events)
}

fn name(lead: &LeadId) -> String {
    let mut name = format!("Lead {}", printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(name, " (client {})", printable(&lead.client_id));
    }
    name
}

/// Events in the order of their times, each made harmless to a terminal already.
fn history(mut events: Vec<(DateTime<Utc>, String)>) -> String {
    let mut text = "\nWhat happened\n".to_owned();
    // Stable: what has the same time stays in the order of the journal.
    events.sort_by_key(|(at, _)| *at);
    for (at, event) in events {
        let _ = writeln!(text, "  {}  {}", moment(at), event);
    }
    text
}

fn moment(at: DateTime<Utc>) -> impl std::fmt::Display {
    at.format("%F %T UTC")
}

fn attempt(outcome: &Recorded) -> String {
    let mut text = format!("attempt {}: {}", outcome.attempt, outcome.class);
    if let Some(status) = outcome.http_status {
        let _ = write!(text, ", status {status}");
    }
    if let Some(duration) = outcome.duration_ms {
        let _ = write!(text, ", {duration} ms");
    }
    if let Some(detail) = &outcome.detail {
        let _ = write!(text, ": {detail}");
    }
    text
}

/// Where it stands, and what a person does about it.
fn standing(story: &Story) -> (String, &'static str) {
    let answer = || match story.outcomes.last() {
        Some(Recorded { http_status: Some(status), detail: Some(detail), .. }) => format!(" ({status}: {detail})"),
        Some(Recorded { http_status: Some(status), .. }) => format!(" ({status})"),
        Some(Recorded { detail: Some(detail), .. }) => format!(" ({detail})"),
        _ => String::new(),
    };
    let due = story.due_at.map(|at| format!(" at {}", moment(at))).unwrap_or_default();
    const NOTHING: &str = "nothing";
    match story.status {
        Status::InSync => ("Conversica holds what the CRM says".to_owned(), NOTHING),
        Status::Pending => ("to be sent now".to_owned(), "nothing, while `run` works and `status` shows no halt"),
        Status::InFlight => ("on its way to Conversica".to_owned(), NOTHING),
        Status::Retrying => (
            format!("failed for a passing reason{}; tried again{due}", answer()),
            "nothing: it is tried again by itself",
        ),
        Status::Held => {
            let reason = story.hold_reason.as_deref().unwrap_or("a person has to decide");
            (format!("waits for a person: {reason}"), "look at `plan`, then `approve` or `baseline`")
        }
        Status::Invalid => {
            (format!("not sent: {}", story.invalid_reasons.join("; ")), "mend the row in the CRM; it is sent by itself")
        }
        Status::Rejected => (
            format!("Conversica refused this content{}", answer()),
            "mend the row in the CRM, or `retry ID` after mending the account",
        ),
        Status::Exhausted => (
            format!("failed for too long{}", answer()),
            "mend the cause, then `retry ID`; a change of the row does it too",
        ),
        Status::Gone => ("no longer in the source".to_owned(), "nothing; it goes on when the row comes back"),
    }
}

/// Field by field; where the two differ, old and new.
fn contents(story: &Story) -> String {
    let nothing = Map::new();
    let (desired, delivered) =
        (story.desired.as_ref().unwrap_or(&nothing), story.delivered.as_ref().unwrap_or(&nothing));
    let heading = match (&story.desired, &story.delivered) {
        (Some(_), None) => "What Conversica should hold; it has accepted nothing yet",
        (None, Some(_)) => "What Conversica accepted last; the row makes no valid lead now",
        (None, None) => return "The row makes no valid lead, and none was sent before.\n".to_owned(),
        (Some(_), Some(_)) if desired == delivered => "What Conversica should hold, and holds",
        (Some(_), Some(_)) => "What Conversica accepted last → what it should hold",
    };
    let mut text = format!("{heading}\n");
    if story.delivered.is_some() && !story.delivered_is_certain {
        text.push_str("  (a later answer left it open whether it holds something newer)\n");
    }
    let both = story.desired.is_some() && story.delivered.is_some();
    let added = desired.keys().filter(|key| !delivered.contains_key(*key));
    let keys: Vec<&String> = delivered.keys().chain(added).collect();
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    for key in keys {
        let (old, new) = (delivered.get(key).unwrap_or(&Value::Null), desired.get(key).unwrap_or(&Value::Null));
        let value = match (both, old == new) {
            (true, false) => format!("{} → {}", shown(old), shown(new)),
            (true, true) => shown(new),
            (false, _) => shown(if story.desired.is_some() { new } else { old }),
        };
        let _ = writeln!(text, "  {:width$}  {value}", printable(key));
    }
    text
}
