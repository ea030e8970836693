//! `lead ID`: one lead's whole history, which explains why a person was or was not contacted. Reads the state, also while a
//! daemon runs, and briefly the source, for notes on the row. `--export` writes everything as one document; `--erase` deletes it.
//!
//! Only this command shows Conversica's answers unchanged: they may quote the lead.

mod erase;
mod export;
mod row;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::context::{ExitCode, readable_state, settings};
use crate::cli::plan::shown;
use crate::clock;
use crate::console::{self, SCHEMA_VERSION, printable, say};
use crate::conversica::lead::LeadId;
use crate::conversica::token::TokenVeil;
use crate::error::SetupError;
use crate::rules::lead_status::LeadStatus;
use crate::store::state_db::StateDb;
use crate::store::story::{self, LeadStory};
use crate::store::{instant, tombstone};
use crate::story::basis::DeliveredBasis;
use crate::story::hearing::LeadHearing;
use crate::story::history::{self, history, moment};
use crate::story::row::{find_rows, read_notes};
use crate::story::{document, hide_token, name, several, standing, unknown, which};

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

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let settings = &loaded.settings;
    let client = args.client.as_deref();
    if args.erase.erase || args.erase.allow {
        return erase::run(&args.erase, &args.id, client, settings).await;
    }
    let Some(state) = readable_state(settings).await? else {
        let state = StateDb::open_state_in_memory().await?;
        let rows = find_rows(settings, &state, &args.id, client, clock::now()).await;
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
    let veil = TokenVeil::over(settings.conversica.test_lead_token.as_ref());
    let form = if args.json { LeadOutput::Json } else { LeadOutput::Text };
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
                let form = if args.export.export { LeadOutput::Json } else { form };
                print(document, text, &veil, form);
                return Ok(ExitCode::Done);
            }
            let rows = find_rows(settings, &state, &args.id, client, clock::now()).await;
            match rows.as_deref() {
                Some([row]) => print(row::unread_document(row), row::unread_text(row), &veil, form),
                Some([_, ..]) => {
                    let clients: Vec<String> = rows.into_iter().flatten().map(|row| row.lead.client_id).collect();
                    return Err(several(&args.id, &clients).into());
                }
                Some([]) | None => return Err(unknown.into()),
            }
            return Ok(ExitCode::Done);
        }
    };
    let hearing = LeadHearing::of(&state, &lead, settings.consent.keep_opt_outs).await?;
    let Some(mut story) = story::of(&state, &lead).await? else {
        // Conversica may post about leads that the CRM does not have, or that no poll has read yet.
        if hearing.is_nothing() {
            return Err(unknown(&lead.id, Some(&lead.client_id), &[]).into());
        }
        let mut document = json!({"id": lead.id, "client_id": lead.client_id, "status": null, "desired": null,
            "delivered": null, "due_at": null, "outcomes": []});
        if args.export.export {
            let mut document = export::document(&state, &lead, None, document, clock::now()).await?;
            veil.value(&mut document);
            return export::write(&args.export, &document).map(|()| ExitCode::Done);
        }
        let rows = find_rows(settings, &state, &lead.id, Some(&lead.client_id), clock::now()).await;
        hearing.add_to(&mut document, None);
        let mut text = name(&lead);
        text.push_str(": never sent from here; Conversica has spoken of it\n");
        if let Some([row]) = rows.as_deref() {
            document["source"] = row::document(row);
            let _ = writeln!(text, "  the source has its row, {}", row::in_words(row));
        }
        text.push_str(&hearing.standing_text(None));
        text.push_str(&history(hearing.events(console::width())));
        print(document, text, &veil, form);
        return Ok(ExitCode::Done);
    };
    let veil = hide_token(&mut story, &state, settings, veil).await?;
    let mut document = document(&story);
    if args.export.export {
        let mut document = export::document(&state, &lead, Some(&story), document, clock::now()).await?;
        if story.test_lead_at.is_some() && settings.conversica.test_lead_token.is_none() {
            export::hide_earlier_tokens(&mut document);
        }
        veil.value(&mut document);
        return export::write(&args.export, &document).map(|()| ExitCode::Done);
    }
    hearing.add_to(&mut document, story.desired.as_ref());
    let notes = read_notes(settings, &state, &lead, clock::now()).await.unwrap_or_default();
    if !notes.is_empty() {
        document["notes"] = json!(notes);
    }
    print(document, text(&story, &hearing, &notes, console::width()), &veil, form);
    Ok(ExitCode::Done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeadOutput {
    Text,
    Json,
}

/// Hides the Test Lead Token everywhere: it is a secret.
fn print(mut document: Value, text: String, veil: &TokenVeil, form: LeadOutput) {
    match form {
        LeadOutput::Json => {
            veil.value(&mut document);
            document["schema_version"] = json!(SCHEMA_VERSION);
            say(format_args!("{document:#}"));
        }
        LeadOutput::Text => say(veil.text(text.trim_end())),
    }
}

/// For people: the status and what to do, the content that Conversica should have and has, and the history.
fn text(story: &LeadStory, hearing: &LeadHearing, notes: &[String], width: usize) -> String {
    let mut text = name(&story.lead);
    let (stands, to_do) = standing(story);
    let _ = writeln!(text, ": {}\n  {}\n  to do: {to_do}\n", story.status.name(), printable(&stands));
    text.push_str(&contents(story));
    // Of a suppressed lead, the first line says it.
    let others = story.suppressed_by.iter().filter(|_| story.status != LeadStatus::Suppressed);
    for ground in others {
        let _ = writeln!(text, "  opted out elsewhere: {}", printable(&ground.in_words()));
    }
    for note in notes {
        let _ = writeln!(text, "  note: {}", printable(note));
    }
    text.push_str(&hearing.standing_text(story.desired.as_ref()));
    let mut events = history::of_story(story, width);
    events.extend(hearing.events(width));
    text + &history(events)
}

/// Field by field; where the two differ, old and new.
fn contents(story: &LeadStory) -> String {
    let nothing = Map::new();
    let (desired, delivered) =
        (story.desired.as_ref().unwrap_or(&nothing), story.delivered.as_ref().unwrap_or(&nothing));
    if story.desired.is_none() && story.delivered.is_none() {
        return "The row makes no valid lead, and none was sent before.\n".to_owned();
    }
    let heading = DeliveredBasis::of(story).headings(story).title;
    let mut text = format!("{heading}\n");
    if story.accepted().is_some() && !story.delivered_is_certain {
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
