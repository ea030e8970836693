//! `lead ID --export`: everything that the state holds about one person, as one JSON document. Reads only.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::cli::output::OutputTarget;
use crate::conversica::consent::{HeardWord, WithdrawnConsent};
use crate::conversica::lead::{LeadId, LeadKey};
use crate::conversica::token;
use crate::store::consent::{self, LedgerEntry};
use crate::store::heard::reading::HeardEvent;
use crate::store::outcome::RecordedOutcome;
use crate::store::state_db::StateDb;
use crate::store::story::LeadStory;
use crate::store::told::OnItsWay;
use crate::store::{payload, record};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Everything that is held about this person, as one JSON document: what was sent, heard, decided
    #[arg(long, conflicts_with = "json")]
    pub export: bool,
    /// Where the document is written to, instead of standard output; readable for its owner alone
    #[arg(long, value_name = "FILE", requires = "export")]
    pub output: Option<PathBuf>,
}

/// Data that this document cannot include.
const NOT_HERE: [&str; 5] = [
    "the CRM: its own rows, and what was written to it (conversica_leads, conversica_messages, conversica_chat_leads, or by \
     statements of [writeback])",
    "Conversica: what it holds and has written; it cannot be asked from here",
    "logs of this program: they have ids, and nothing else of a person",
    "backups of the state, and what [alerts] has handed over",
    "contents sent before this program kept them: they say so",
];

/// The whole document, before secrets are hidden. `about` is the output of `lead ID --json`.
pub async fn document(
    state: &StateDb,
    lead: &LeadId,
    story: Option<&LeadStory>,
    mut about: Value,
    now: DateTime<Utc>,
) -> anyhow::Result<Value> {
    let contents = payload::contents(state, lead).await?;
    let mut ledger = consent::of_lead(state, lead).await?;
    let received = record::received(state, lead, &record::addresses(&contents)).await?;
    let conversation = record::conversation(state, lead).await?;
    let words: Vec<HeardWord> = ledger.iter().map(LedgerEntry::heard_word).collect();
    let outcomes = story.map(|story| story.outcomes.as_slice()).unwrap_or_default();
    let sent: Vec<Value> = outcomes.iter().map(|outcome| sent(outcome, &contents, &ledger)).collect();
    ledger.sort_by_key(|entry| entry.word.at);
    let decisions = story.map(|story| json!(story.decisions));
    if let Some(about) = about.as_object_mut() {
        for elsewhere in
            ["outcomes", "decisions", "heard", "conversation", "messages", "consent", "alerts", "overrides"]
        {
            about.remove(elsewhere);
        }
    }
    Ok(json!({
        "format": 1,
        "made_at": now,
        "version": env!("CARGO_PKG_VERSION"),
        "id": lead.id,
        "client_id": lead.client_id,
        "lead": about,
        "row": record::rows(state, "lead", lead).await?.pop(),
        "contents": contents.values().map(|body| object(body)).collect::<Vec<_>>(),
        "sent": sent,
        "decisions": decisions.unwrap_or_else(|| json!([])),
        "received": received.iter().map(|(heard, waits)| post(heard, waits.as_ref())).collect::<Vec<_>>(),
        "conversation": conversation.map(|c| json!({
            "picture": c.picture, "versions": c.versions, "not_worked": c.not_worked,
            "first_heard_at": c.first_heard_at, "last_heard_at": c.last_heard_at,
        })),
        "consent": {
            "standing": WithdrawnConsent::of(&words),
            "ledger": ledger.iter().map(word).collect::<Vec<_>>(),
            "possible_opt_outs": record::rows(state, "possible_opt_out", lead).await?,
        },
        "alerts": record::rows(state, "alert", lead).await?,
        "not_held_here": NOT_HERE,
    }))
}

/// For a test lead: a last name that differs from the present one may be an old Test Lead Token.
pub fn hide_earlier_tokens(document: &mut Value) {
    let own = document["lead"]["desired"]["lastName"].clone();
    let hide = |content: &mut Value| {
        if let Some(name) = content.get_mut("lastName").filter(|name| **name != own) {
            *name = token::SHOWN_OF_A_TEST_LEAD.into();
        }
    };
    document["contents"].as_array_mut().into_iter().flatten().for_each(hide);
    for sent in document["sent"].as_array_mut().into_iter().flatten() {
        hide(&mut sent["body"]);
    }
}

/// Writes it whole, or not at all.
pub fn write(args: &Args, document: &Value) -> anyhow::Result<()> {
    let mut output = OutputTarget::open(args.output.as_deref())?;
    writeln!(output.writer(), "{document:#}").context("writing the document")?;
    output.finish()
}

fn object(body: &str) -> Map<String, Value> {
    serde_json::from_str(body).unwrap_or_default()
}

/// An attempt with the consent that it sent and the consent entries known when it left.
fn sent(outcome: &RecordedOutcome, contents: &HashMap<Vec<u8>, String>, ledger: &[LedgerEntry]) -> Value {
    let left_at = outcome.at - TimeDelta::milliseconds(outcome.duration_ms.unwrap_or(0));
    let known = ledger.iter().filter(|entry| entry.heard_at <= left_at);
    let known: Vec<HeardWord> = known.map(LedgerEntry::heard_word).collect();
    let body = outcome.sent_hash.as_ref().and_then(|hash| contents.get(hash)).map(|body| object(body));
    let keys = [LeadKey::OptOut, LeadKey::SmsOptIn, LeadKey::SmsOptOut, LeadKey::StopMessaging];
    let said: Option<Map<String, Value>> = body.as_ref().map(|body| {
        keys.iter().map(|key| (key.name().to_owned(), body.get(key.name()).cloned().unwrap_or_default())).collect()
    });
    json!({
        "at": outcome.at,
        "left_at": left_at,
        "class": outcome.class,
        "http_status": outcome.http_status,
        "answer": outcome.detail,
        "duration_ms": outcome.duration_ms,
        "attempt": outcome.attempt,
        "content": if body.is_some() { outcome.content.as_deref() } else { Some("not kept") },
        "consent": {"said": said, "ledger": WithdrawnConsent::of(&known)},
        "body": body,
    })
}

fn word(entry: &LedgerEntry) -> Value {
    json!({
        "channel": entry.word.channel.name(), "given": entry.word.given, "at": entry.word.at, "heard_at": entry.heard_at,
        "source": if entry.event_seq.is_some() { "conversica" } else { "crm" }, "event": entry.event_seq,
    })
}

/// The exact bytes of a post: as text if it is UTF-8, else as base64.
fn post(heard: &HeardEvent, waits: Option<&OnItsWay>) -> Value {
    let (encoding, body) = match std::str::from_utf8(&heard.body) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", STANDARD.encode(&heard.body)),
    };
    json!({
        "seq": heard.seq, "kind": heard.kind.name(), "received_at": heard.received_at, "encoding": encoding, "body": body,
        "repeats": heard.repeats, "repeated_at": heard.repeated_at, "problem": heard.problem, "mended_as": heard.mended_as,
        "applied_at": heard.applied_at, "effect": heard.effect, "writeback": waits,
    })
}
