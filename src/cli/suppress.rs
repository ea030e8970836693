//! `suppress`: the operator's list of people who are never written to, by address, telephone number or domain. The state keeps
//! keyed hashes of them; no message, log or document of this command names an entry of a file.

pub mod import;

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use crate::cli::context::{ExitCode, existing_state, readable_state, settings, writable_state};
use crate::cli::{help, table};
use crate::clock;
use crate::console::{SCHEMA_VERSION, printable, say};
use crate::error::SetupError;
use crate::rules::contact::{ContactKind, ContactPoint};
use crate::rules::suppression_ground::SuppressionSource;
use crate::store::suppression::{self, EntryCount};
use crate::wording::number;

#[derive(Debug, Subcommand)]
pub enum SuppressCommand {
    /// Put people on the list
    #[command(after_help = help::SUPPRESS_ADD)]
    Add(EntryArgs),
    /// Take people off the list
    #[command(after_help = help::SUPPRESS_REMOVE)]
    Remove(EntryArgs),
    /// Put the people of a file on the list: one address, number or domain a line
    #[command(after_help = help::SUPPRESS_IMPORT)]
    Import(import::Args),
    /// Count the entries, or say whether a person is on the list
    #[command(after_help = help::SUPPRESS_LIST)]
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub struct EntryArgs {
    /// E-mail addresses, telephone numbers in international form, domains
    #[arg(value_name = "WHO", required = true)]
    pub who: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Say for each of these whether it is on the list
    #[arg(value_name = "WHO")]
    pub who: Vec<String>,
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

pub async fn run(command: SuppressCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match command {
        SuppressCommand::Add(args) => add(&args.who, file).await,
        SuppressCommand::Remove(args) => remove(&args.who, file).await,
        SuppressCommand::Import(args) => import::run(args, file).await,
        SuppressCommand::List(args) => list(args, file).await,
    }
}

const NEXT_PASS: &str =
    "The next pass applies it: new people are not introduced, known ones are sent with the opt-out.";

async fn add(who: &[String], file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let points = parsed(who)?;
    let state = writable_state(&loaded.settings).await?;
    let added = suppression::add(&state, &points, clock::now()).await?;
    let known = points.len() as u64 - added.min(points.len() as u64);
    let listed_before = if known > 0 { format!("; {} on it before", number(known)) } else { String::new() };
    say(format_args!("{} added to the list{listed_before}. {NEXT_PASS}", number(added)));
    Ok(ExitCode::Done)
}

async fn remove(who: &[String], file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let points = parsed(who)?;
    let unlisted = match existing_state(&loaded.settings).await? {
        Some(state) => suppression::remove(&state, &points, clock::now()).await?,
        None => points.clone(),
    };
    let removed = points.len() - unlisted.len();
    if removed > 0 {
        say(format_args!(
            "{} taken off the list. The next pass reads the leads concerned anew; what it would send is counted, and held \
             above [safety] approve_above, as any change.",
            number(removed as u64)
        ));
    }
    if unlisted.is_empty() {
        return Ok(ExitCode::Done);
    }
    let names: Vec<String> = unlisted.into_iter().map(|point| point.text).collect();
    let what = format!("not on the list: {}", table::ids_of(&names));
    let cure = "an entry is removed as it was added: an address is not removed from its domain; people of [consent] \
                suppression_query are removed in the CRM";
    Err(SetupError::new(what, cure).into())
}

async fn list(args: ListArgs, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let points = parsed(&args.who)?;
    let state = readable_state(&loaded.settings).await?;
    if points.is_empty() {
        let counts = match &state {
            Some(state) => suppression::count(state).await?,
            None => Vec::new(),
        };
        if args.json {
            say_counts_as_json(&counts);
        } else {
            say_counts(&counts);
        }
        return Ok(ExitCode::Done);
    }
    let mut found = Vec::new();
    for (who, point) in args.who.iter().zip(&points) {
        let grounds = match &state {
            Some(state) => suppression::find_entries(state, point).await?,
            None => Vec::new(),
        };
        found.push((who, grounds));
    }
    if args.json {
        let entries: Vec<_> = found
            .iter()
            .map(|(who, grounds)| json!({"who": who, "suppressed": !grounds.is_empty(), "suppressed_by": grounds}))
            .collect();
        say(format_args!("{:#}", json!({"schema_version": SCHEMA_VERSION, "entries": entries})));
        return Ok(ExitCode::Done);
    }
    for (who, grounds) in found {
        match grounds.first() {
            Some(ground) => say(format_args!("{}: {}", printable(who), ground.in_words())),
            None => say(format_args!("{}: not on the list", printable(who))),
        }
    }
    Ok(ExitCode::Done)
}

fn entries(counts: &[EntryCount], source: SuppressionSource, kind: ContactKind) -> i64 {
    let counts = counts.iter().filter(|count| count.source == source && count.kind == kind);
    counts.map(|count| count.entries).sum()
}

fn say_counts_as_json(counts: &[EntryCount]) {
    let of = |source| {
        let [addresses, numbers, domains] = ContactKind::ALL.map(|kind| entries(counts, source, kind));
        json!({"addresses": addresses, "numbers": numbers, "domains": domains})
    };
    let sources: serde_json::Map<String, serde_json::Value> =
        SuppressionSource::ALL.into_iter().map(|source| (source.name().to_owned(), of(source))).collect();
    say(format_args!("{:#}", json!({"schema_version": SCHEMA_VERSION, "sources": sources})));
}

fn say_counts(counts: &[EntryCount]) {
    if counts.is_empty() {
        say("The list is empty.");
        return;
    }
    for source in SuppressionSource::ALL {
        let [addresses, numbers, domains] = ContactKind::ALL.map(|kind| entries(counts, source, kind));
        if addresses + numbers + domains == 0 {
            continue;
        }
        let shown = |entries: i64| number(u64::try_from(entries).unwrap_or(0));
        say(format_args!(
            "{}: {} addresses, {} numbers, {} domains",
            source_words(source),
            shown(addresses),
            shown(numbers),
            shown(domains)
        ));
    }
}

const fn source_words(source: SuppressionSource) -> &'static str {
    match source {
        SuppressionSource::List => "The list of `suppress`",
        SuppressionSource::Query => "[consent] suppression_query",
        SuppressionSource::Conversica => "Opt-outs heard from Conversica",
        SuppressionSource::Crm => "Opt-outs that rows of the CRM say",
    }
}

fn parsed(who: &[String]) -> Result<Vec<ContactPoint>, SetupError> {
    let parse = |text: &String| {
        ContactPoint::parse(text).map_err(|fault| {
            SetupError::new(
                format!("{} {}", printable(text), fault.in_words()),
                "write ann@example.com, +15558675309 or example.com; a number without + counts as North American if it has ten digits",
            )
        })
    };
    who.iter().map(parse).collect()
}
