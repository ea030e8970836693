//! `received`: lists Conversica's posts, newest first; shows one post unchanged; reads unreadable posts again.
//!
//! The list has ids, statuses and key names; only `received show` and `lead ID` show what people wrote.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Map, Value, json};

use crate::cli::context::{ExitCode, existing_state, person, readable_state, settings};
use crate::cli::{help, table};
use crate::clock;
use crate::console::{SCHEMA_VERSION, printable, say};
use crate::conversica::lead::LeadId;
use crate::conversica::post::PostKind;
use crate::conversica::{heard, vocabulary};
use crate::error::SetupError;
use crate::store::heard::reading::{self, EventFilter, HeardEvent};
use crate::store::heard::replay::{self, ReplayOutcome};
use crate::store::possible_opt_out::{self, OptOutDecision, SettleOutcome};
use crate::store::state_db::StateDb;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<ReceivedCommand>,
    #[command(flatten)]
    pub list: ReceivedList,
}

#[derive(Debug, clap::Args)]
pub struct ReceivedList {
    /// One post of that number, as `received show` prints it
    #[arg(value_name = "SEQ", conflicts_with_all = ["kind", "unreadable", "possible_opt_outs", "id", "limit", "json"])]
    pub seq: Option<i64>,
    /// Posts of that kind
    #[arg(long, value_name = "KIND", value_parser = kind_parser())]
    pub kind: Option<PostKind>,
    /// Posts that cannot be read, and have not been fixed or dismissed
    #[arg(long)]
    pub unreadable: bool,
    /// Damaged posts that may be opt-outs, and wait for `confirm` or `dismiss`
    #[arg(long)]
    pub possible_opt_outs: bool,
    /// Posts about the lead of that id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How many to list, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum ReceivedCommand {
    /// One post, exactly as it came
    #[command(after_help = help::RECEIVED_SHOW)]
    Show {
        /// Its number, as `received` lists it
        #[arg(value_name = "SEQ")]
        seq: i64,
    },
    /// Say that a damaged post is an opt-out: it stays withdrawn for good
    #[command(after_help = help::RECEIVED_CONFIRM)]
    Confirm {
        /// Numbers of posts, as `received --possible-opt-outs` lists them
        #[arg(value_name = "SEQ", required = true)]
        seqs: Vec<i64>,
    },
    /// Say that a damaged post is no opt-out, or put aside one that cannot be read
    #[command(after_help = help::RECEIVED_DISMISS)]
    Dismiss {
        /// Numbers of posts, as `received --possible-opt-outs` or `--unreadable` lists them
        #[arg(value_name = "SEQ", required = true)]
        seqs: Vec<i64>,
    },
    /// Read unreadable posts again: with this version of the program, or as you have fixed them
    #[command(after_help = help::RECEIVED_REPLAY)]
    Replay {
        /// Numbers of posts, as `received --unreadable` lists them
        #[arg(value_name = "SEQ", required_unless_present = "all")]
        seqs: Vec<i64>,
        /// All that cannot be read
        #[arg(long, conflicts_with_all = ["seqs", "body"])]
        all: bool,
        /// The fixed body of that one post; '-' reads standard input
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
}

fn kind_parser() -> impl TypedValueParser<Value = PostKind> {
    PossibleValuesParser::new(PostKind::ALL.map(PostKind::name))
        .try_map(|name| PostKind::from_name(&name).ok_or("there is no such kind"))
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match args.command {
        None => match args.list.seq {
            Some(seq) => show(seq, file).await,
            None => list(args.list, file).await,
        },
        Some(ReceivedCommand::Show { seq }) => show(seq, file).await,
        Some(ReceivedCommand::Confirm { seqs }) => settle(seqs, OptOutDecision::Confirmed, file).await,
        Some(ReceivedCommand::Dismiss { seqs }) => settle(seqs, OptOutDecision::Dismissed, file).await,
        Some(ReceivedCommand::Replay { seqs, all, body }) => {
            again(EventFilter { unreadable: all, seqs, ..EventFilter::default() }, body, file).await
        }
    }
}

async fn state(file: Option<&Path>) -> anyhow::Result<Option<StateDb>> {
    readable_state(&settings(file)?.settings).await
}

async fn list(args: ReceivedList, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (unreadable, possible_opt_outs) = (args.unreadable, args.possible_opt_outs);
    let wanted = EventFilter { kind: args.kind, unreadable, possible_opt_outs, id: args.id, ..EventFilter::default() };
    let events = match state(file).await? {
        Some(state) => with_suspects(&state, reading::list(&state, &wanted, args.limit.into()).await?).await?,
        None => Vec::new(),
    };
    if args.json {
        let events: Vec<Value> = events.iter().map(|(event, suspects)| document(event, suspects)).collect();
        say(format_args!("{:#}", json!({ "schema_version": SCHEMA_VERSION, "received": events })));
    } else if events.is_empty() {
        say("Nothing of that has been received.");
    } else {
        let mut rows = table::plain(&["seq", "at", "kind", "lead", "what"]);
        for (event, suspects) in &events {
            let at = event.received_at.format("%F %T UTC").to_string();
            rows.add_row([
                event.seq.to_string(),
                at,
                event.kind.name().to_owned(),
                whose(event, suspects),
                what(event),
            ]);
        }
        say(rows.trim_fmt());
    }
    Ok(ExitCode::Done)
}

/// Posts per query for possible leads: SQLite limits the number of values in a statement.
const POSTS_AT_ONCE: usize = 500;
/// Leads that a damaged post may be about, named in the table.
const SUSPECTS_NAMED: usize = 5;

/// Adds to each post the leads that it may be about, besides the one that it names.
async fn with_suspects(
    state: &StateDb,
    events: Vec<HeardEvent>,
) -> Result<Vec<(HeardEvent, Vec<LeadId>)>, sqlx::Error> {
    let mut suspects = BTreeMap::new();
    let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
    for seqs in seqs.chunks(POSTS_AT_ONCE) {
        suspects.extend(possible_opt_out::leads_of_events(state, seqs).await?);
    }
    let with_its_own = events.into_iter().map(|event| {
        let mut leads = suspects.remove(&event.seq).unwrap_or_default();
        leads.retain(|lead| *lead != event.lead);
        (event, leads)
    });
    Ok(with_its_own.collect())
}

fn named(lead: &LeadId) -> String {
    let mut name = printable(&lead.id).into_owned();
    if !lead.client_id.is_empty() {
        let _ = write!(name, " (client {})", printable(&lead.client_id));
    }
    name
}

/// The lead of the post; possible leads have a question mark.
fn whose(event: &HeardEvent, suspects: &[LeadId]) -> String {
    let mut leads = Vec::new();
    if !event.lead.id.is_empty() {
        leads.push(format!("{}{}", named(&event.lead), if event.is_known { "" } else { " (not known here)" }));
    }
    leads.extend(suspects.iter().take(SUSPECTS_NAMED).map(|lead| format!("{}?", named(lead))));
    if suspects.len() > SUSPECTS_NAMED {
        leads.push(format!("and {} more?", suspects.len() - SUSPECTS_NAMED));
    }
    leads.join(", ")
}

/// Keys that tell the progress of a lead, without personal data.
const TELLING: [&str; 11] = [
    "conversationStage",
    "conversationStatus",
    "leadStatus",
    "hotLead",
    "leadAtRisk",
    "actionRequired",
    "doNotEmail",
    "smsOptOut",
    "smsOptIn",
    "action",
    "date",
];

/// The content shown in the list, the keys with unpublished values, and the damaged parts.
fn said(event: &HeardEvent) -> (Map<String, Value>, Vec<&'static str>, Vec<String>) {
    let Ok(post) = heard::read(event.kind, &event.body) else { return Default::default() };
    let outside = if event.kind == PostKind::ChatLead { Vec::new() } else { vocabulary::outside(&post.content) };
    let told = TELLING.into_iter().filter_map(|key| Some((key.to_owned(), post.content.get(key)?.clone())));
    (told.collect(), outside, post.notes)
}

fn what(event: &HeardEvent) -> String {
    let mut parts = Vec::new();
    match (&event.problem, event.mended_as) {
        (Some(problem), None) if event.settled_at.is_some() => {
            parts.push(format!("unreadable, put aside: {}", printable(problem)));
        }
        (Some(problem), None) => parts.push(format!("UNREADABLE: {}", printable(problem))),
        (Some(_), Some(mended_as)) => parts.push(format!("was unreadable; fixed as {mended_as}")),
        (None, _) => {
            let (told, outside, notes) = said(event);
            parts.extend(told.iter().map(|(key, value)| match value {
                Value::String(text) => format!("{key} {}", printable(text)),
                other => format!("{key} {other}"),
            }));
            if !outside.is_empty() {
                parts.push(format!("outside the vocabulary: {}", outside.join(", ")));
            }
            parts.extend(notes.iter().map(|note| format!("note: {note}")));
            if event.applied_at.is_none() {
                parts.push("not taken in yet".to_owned());
            }
        }
    }
    if event.may_be_opt_out {
        let seq = event.seq;
        parts.push(format!(
            "MAY BE AN OPT-OUT: look with `received show {seq}`, then `received confirm {seq}` or `dismiss {seq}`"
        ));
    }
    if event.repeats > 0 {
        parts.push(format!("arrived {} times", event.repeats + 1));
    }
    parts.join("; ")
}

fn document(event: &HeardEvent, suspects: &[LeadId]) -> Value {
    let suspects: Vec<Value> =
        suspects.iter().map(|lead| json!({ "id": lead.id, "client_id": lead.client_id })).collect();
    let (said, outside, notes) = said(event);
    json!({
        "seq": event.seq,
        "at": event.received_at,
        "kind": event.kind.name(),
        "id": event.lead.id,
        "client_id": event.lead.client_id,
        "known": event.is_known,
        "said": said,
        "problem": event.problem,
        "mended_as": event.mended_as,
        "repeats": event.repeats,
        "repeated_at": event.repeated_at,
        "applied_at": event.applied_at,
        "outside_vocabulary": outside,
        "notes": notes,
        "may_be_opt_out": event.may_be_opt_out,
        "may_be_about": suspects,
        "settled_at": event.settled_at,
    })
}

fn unknown(seq: i64) -> SetupError {
    SetupError::new(format!("nothing was received under the number {seq}"), "look at `conversica-sync received`")
}

async fn show(seq: i64, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let found = match state(file).await? {
        Some(state) => reading::one(&state, seq).await?,
        None => None,
    };
    let event = found.ok_or_else(|| unknown(seq))?;
    let mut out = std::io::stdout();
    if out.is_terminal() {
        // Line by line, because `printable` would escape line breaks.
        for line in String::from_utf8_lossy(&event.body).split('\n') {
            say(printable(line));
        }
    } else {
        // The reader of the output may close it early.
        let _ = out.write_all(&event.body).and_then(|()| out.flush());
    }
    Ok(ExitCode::Done)
}

async fn settle(seqs: Vec<i64>, decision: OptOutDecision, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let Some(state) = existing_state(&settings(file)?.settings).await? else {
        return Err(SetupError::new("nothing has been received: there is no state yet", "`run` receives").into());
    };
    for seq in seqs {
        match possible_opt_out::settle(&state, seq, decision, &person(), clock::now()).await? {
            SettleOutcome::Settled(leads) => {
                let names: Vec<String> = leads.iter().map(|lead| printable(&lead.id).into_owned()).collect();
                let leads = if names.is_empty() { String::new() } else { format!(" (lead {})", names.join(", ")) };
                say(match decision {
                    OptOutDecision::Confirmed => format!("{seq}: the opt-out is confirmed{leads}"),
                    OptOutDecision::Dismissed => format!("{seq}: put aside as no opt-out{leads}"),
                });
            }
            SettleOutcome::NothingWaits => {
                let cure = "`conversica-sync received --possible-opt-outs` and `--unreadable` list those that wait";
                return Err(SetupError::new(format!("post {seq} does not wait for that decision"), cure).into());
            }
            SettleOutcome::NamesNoLead => {
                let cure = "find out whom it is about, then `received replay SEQ --body FILE` with their id in it, or `received \
                            dismiss SEQ`";
                return Err(SetupError::new(format!("post {seq} names no lead"), cure).into());
            }
        }
    }
    Ok(ExitCode::Done)
}

/// `wanted` names the posts, or is about all unreadable ones.
async fn again(mut wanted: EventFilter, body: Option<PathBuf>, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let seqs = wanted.seqs.clone();
    if body.is_some() && seqs.len() != 1 {
        return Err(SetupError::new("--body is the body of one post", "name the number of that one").into());
    }
    let loaded = settings(file)?;
    let body = body.as_deref().map(read_body).transpose()?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        return Err(SetupError::new("nothing has been received: there is no state yet", "`run` receives").into());
    };
    let has_clients = loaded.settings.source.client.is_some();
    let mut tally = (0_u64, 0_u64);
    for seq in &seqs {
        let event = reading::one(&state, *seq).await?.ok_or_else(|| unknown(*seq))?;
        if event.problem.is_none() || event.mended_as.is_some() {
            let what = format!("post {seq} does not wait to be fixed");
            return Err(SetupError::new(what, "`conversica-sync received --unreadable` lists those").into());
        }
    }
    loop {
        let page = reading::list(&state, &wanted, 100).await?;
        let Some(last) = page.last() else { break };
        wanted.before = Some(last.seq);
        for event in &page {
            let seq = event.seq;
            match replay::replay(&state, event, body.as_deref(), has_clients, clock::now()).await? {
                ReplayOutcome::As(now) => {
                    tally.0 += 1;
                    say(format_args!("{seq}: read, as {now}"));
                }
                ReplayOutcome::Known(now) => {
                    tally.0 += 1;
                    say(format_args!("{seq}: read; the same had arrived as {now}"));
                }
                ReplayOutcome::Erased => say(format_args!("{seq}: about a person who was erased; it was not kept")),
                ReplayOutcome::Unreadable(problem) => {
                    tally.1 += 1;
                    say(format_args!("{seq}: still cannot be read: {}", printable(&problem)));
                }
            }
        }
    }
    let (read, unreadable) = tally;
    say(format_args!("{read} read, {unreadable} still unreadable. `run` takes in what was read."));
    Ok(if unreadable > 0 { ExitCode::Attention } else { ExitCode::Done })
}

fn read_body(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut body).context("reading standard input")?;
        return Ok(body);
    }
    std::fs::read(path).map_err(|error| {
        SetupError::new(format!("--body {}: {error}", path.display()), "give a file that can be read").into()
    })
}
