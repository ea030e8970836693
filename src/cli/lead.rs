//! `lead ID`: one lead's whole story, for whoever asks why somebody was, or was not, written to. Looks at the state only,
//! also while a daemon works on it. [`export`] has all of it in one document; [`erase`] ends it.
//!
//! Here, and nowhere else, Conversica's answers are shown as they came: they may quote the lead.

mod erase;
mod export;
mod hearing;
mod history;
mod row;

use std::fmt::Write as _;
use std::path::Path;

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use self::hearing::Hearing;
use self::history::{history, moment};
use crate::cli::plan::shown;
use crate::cli::{Exit, settings};
use crate::clock;
use crate::config::Settings;
use crate::console::{self, printable, say};
use crate::conversica::lead::LeadId;
use crate::conversica::token::{self, Veil};
use crate::crm::mapping::Mapping;
use crate::db::Db;
use crate::error::SetupError;
use crate::state::control::{self, MappingInUse};
use crate::state::heard::reading;
use crate::state::instant;
use crate::state::lead::Status;
use crate::state::outcome::Recorded;
use crate::state::story::{self, Story};
use crate::state::tombstone;

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
    #[command(flatten)]
    pub export: export::Args,
    #[command(flatten)]
    pub erase: erase::Args,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let settings = &loaded.settings;
    let client = args.client.as_deref();
    if args.erase.erase || args.erase.allow {
        return erase::run(&args.erase, &args.id, client, settings).await;
    }
    let Some(state) = Db::open_state_read_only(settings.state.url.expose_secret()).await? else {
        let state = Db::open_state_in_memory().await?;
        let rows = row::look(settings, &state, &args.id, client, clock::now()).await;
        let source = match rows.as_deref() {
            Some([row]) => format!(". The source has its row, {}", row::in_words(row)),
            Some(_) | None => String::new(),
        };
        return Err(SetupError::new(
            format!("lead {} is not known: there is no state yet, nothing has been read{source}", printable(&args.id)),
            "look whether it is in the source with `conversica-sync plan`; `once` or `run` makes the state",
        )
        .into());
    };
    let veil = Veil::over(settings.conversica.test_lead_token.as_ref());
    let lead = match which(&state, &args.id, client).await? {
        Ok(lead) => lead,
        Err(unknown) => {
            let lead = LeadId { id: args.id.clone(), client_id: client.unwrap_or_default().to_owned() };
            if let Some(at) = tombstone::since(&state, &lead).await? {
                let at = instant(at);
                let document = json!({"id": lead.id, "client_id": lead.client_id, "status": "erased", "erased_at": at});
                let text = format!(
                    "{}: erased on {}\n  nothing is held of it, and nothing is sent to it, whatever the CRM says",
                    name(&lead),
                    moment(at)
                );
                print(document, text, &veil, args.json || args.export.export);
                return Ok(Exit::Done);
            }
            let rows = row::look(settings, &state, &args.id, client, clock::now()).await;
            match rows.as_deref() {
                Some([row]) => print(row::unread_document(row), row::unread_text(row), &veil, args.json),
                Some([_, ..]) => {
                    let clients: Vec<String> = rows.into_iter().flatten().map(|row| row.lead.client_id).collect();
                    return Err(several(&args.id, &clients).into());
                }
                Some([]) | None => return Err(unknown.into()),
            }
            return Ok(Exit::Done);
        }
    };
    let hearing = Hearing::of(&state, &lead, settings.consent.keep_opt_outs).await?;
    let Some(mut story) = story::of(&state, &lead).await? else {
        // Conversica speaks of leads that the CRM does not have, or that were not read yet.
        if hearing.is_nothing() {
            return Err(unknown(&lead.id, Some(&lead.client_id), &[]).into());
        }
        let mut document = json!({"id": lead.id, "client_id": lead.client_id, "status": null, "desired": null,
            "delivered": null, "due_at": null, "outcomes": []});
        if args.export.export {
            let mut document = export::document(&state, &lead, None, document, clock::now()).await?;
            veil.value(&mut document);
            return export::write(&args.export, &document).map(|()| Exit::Done);
        }
        let rows = row::look(settings, &state, &lead.id, Some(&lead.client_id), clock::now()).await;
        hearing.add_to(&mut document, None);
        let mut text = name(&lead);
        text.push_str(": never sent from here; Conversica has spoken of it\n");
        if let Some([row]) = rows.as_deref() {
            document["source"] = row::document(row);
            let _ = writeln!(text, "  the source has its row, {}", row::in_words(row));
        }
        text.push_str(&hearing.standing_text(None));
        text.push_str(&history(hearing.events(console::width())));
        print(document, text, &veil, args.json);
        return Ok(Exit::Done);
    };
    let veil = hide_token(&mut story, &state, settings, veil).await?;
    let mut document = document(&story);
    if args.export.export {
        let mut document = export::document(&state, &lead, Some(&story), document, clock::now()).await?;
        if story.test_lead_at.is_some() && settings.conversica.test_lead_token.is_none() {
            export::hide_earlier_tokens(&mut document);
        }
        veil.value(&mut document);
        return export::write(&args.export, &document).map(|()| Exit::Done);
    }
    hearing.add_to(&mut document, story.desired.as_ref());
    print(document, text(&story, &hearing, console::width()), &veil, args.json);
    Ok(Exit::Done)
}

/// The token is a secret, wherever it stands.
fn print(mut document: Value, text: String, veil: &Veil, json: bool) {
    if json {
        veil.value(&mut document);
        say(format_args!("{document:#}"));
    } else {
        say(veil.text(text.trim_end()));
    }
}

/// Takes the token out of what is shown of the lead. One that is not in the settings any more is still in the state: in what
/// was delivered until the lead is sent under its own name, and in what is to be sent until a poll has gone over it.
async fn hide_token(story: &mut Story, state: &Db, settings: &Settings, veil: Veil) -> anyhow::Result<Veil> {
    let mut veil = veil;
    if story.test_lead_at.is_some() && !veil.is_on() {
        let in_use = control::read::<MappingInUse>(state).await?;
        let mapping = Mapping::new(settings).fingerprint().to_string();
        let is_old = story.status == Status::Gone || in_use.is_none_or(|in_use| in_use.fingerprint != mapping);
        let of = |content: &Option<Map<String, Value>>| {
            content.as_ref().and_then(|content| content.get("lastName")?.as_str().map(str::to_owned))
        };
        let (desired, delivered) = (of(&story.desired), of(&story.delivered));
        let hidden =
            if is_old { delivered.or(desired) } else { delivered.filter(|name| desired.as_ref() != Some(name)) };
        veil = hidden.map_or(veil, |name| Veil::over_last_name(&name));
    }
    // Of a token that is no longer in use, more than one may have been.
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

/// The one lead that is meant, or why there is none that the state knows.
async fn which(state: &Db, id: &str, client: Option<&str>) -> anyhow::Result<Result<LeadId, SetupError>> {
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

fn several(id: &str, clients: &[String]) -> SetupError {
    let what = format!("lead {} is known for several clients: {}", printable(id), names(clients));
    SetupError::new(what, "say which with --client")
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
        "held_at": story.held_at,
        "claimed_at": story.claimed_at,
        "test_lead_at": story.test_lead_at,
        "outcomes": story.outcomes,
        "decisions": story.decisions,
    })
}

/// For people: where it stands and what to do, what Conversica should hold and holds, and how that came about.
fn text(story: &Story, hearing: &Hearing, width: usize) -> String {
    let mut text = name(&story.lead);
    let (stands, to_do) = standing(story);
    let _ = writeln!(text, ": {}\n  {}\n  to do: {to_do}\n", story.status.name(), printable(&stands));
    text.push_str(&contents(story));
    text.push_str(&hearing.standing_text(story.desired.as_ref()));
    let mut events = history::of_story(story, width);
    events.extend(hearing.events(width));
    text + &history(events)
}

fn name(lead: &LeadId) -> String {
    let mut name = format!("Lead {}", printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(name, " (client {})", printable(&lead.client_id));
    }
    name
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
