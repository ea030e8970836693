//! `plan`: what a pass would send and why, for a person deciding whether to press the button.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::Path;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cli::{Exit, settings, table};
use crate::clock;
use crate::config::Settings;
use crate::console::{printable, say};
use crate::crm::Crm;
use crate::db::Db;
use crate::state::held;
use crate::sync::plan::{self, PlannedLead, Totals};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output, with every lead
    #[arg(long)]
    pub json: bool,
    /// How many leads to show one by one, in the text for people
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let crm = Crm::open(&loaded.settings).await?;
    let state = match Db::open_state_read_only(loaded.settings.state.url.expose_secret()).await? {
        Some(state) => state,
        None => Db::open_state_in_memory().await?,
    };
    let settings = &loaded.settings;
    let totals = if args.json {
        print_json(&crm, &state, settings).await?
    } else {
        print_text(&crm, &state, settings, args.limit).await?
    };
    Ok(if totals.hold.is_some() {
        Exit::Decision
    } else if totals.invalid > 0 {
        Exit::Attention
    } else {
        Exit::Done
    })
}

/// One document, its leads written as they are found: ten million of them need no memory. Errors come before the end, so
/// a document that closes is whole.
async fn print_json(crm: &Crm, state: &Db, settings: &Settings) -> anyhow::Result<Totals> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut separator = "{\"leads\":[\n";
    let totals = plan::plan(crm, state, settings, clock::now(), |lead| {
        write!(out, "{separator}")?;
        serde_json::to_writer(&mut out, &lead)?;
        separator = ",\n";
        Ok(())
    })
    .await?;
    let open = if separator.starts_with('{') { separator } else { "" };
    let rest = serde_json::to_string(&totals)?;
    writeln!(out, "{open}],{}", &rest[1..])?;
    out.flush()?;
    Ok(totals)
}

async fn print_text(crm: &Crm, state: &Db, settings: &Settings, limit: usize) -> anyhow::Result<Totals> {
    let mut shown = Vec::new();
    let totals = plan::plan(crm, state, settings, clock::now(), |lead| {
        if shown.len() < limit {
            shown.push(lead);
        }
        Ok(())
    })
    .await?;
    let mut text = headline(&totals);
    for lead in &shown {
        text.push_str(&describe(lead));
    }
    let all = totals.create + totals.update + totals.stop + totals.invalid;
    if all > shown.len() as u64 {
        let _ = writeln!(text, "… and {} more (--limit N, or --json for all)", all - shown.len() as u64);
    }
    say(text.trim_end());
    Ok(totals)
}

fn headline(totals: &Totals) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "A pass would send {} requests:", totals.create + totals.update + totals.stop);
    let _ = writeln!(text, "  {:>8}  people contacted for the first time", totals.new_people);
    for (conversation, people) in &totals.new_people_by_conversation {
        let name = if conversation.is_empty() { "(no conversationId)" } else { conversation };
        let _ = writeln!(text, "            {people} in {}", printable(name));
    }
    let _ = writeln!(text, "  {:>8}  updates", totals.update);
    let _ = writeln!(text, "  {:>8}  opt-outs and stops", totals.stop);
    let _ = writeln!(text, "and leave alone:");
    let _ = writeln!(text, "  {:>8}  unchanged", totals.unchanged);
    let _ = writeln!(text, "  {:>8}  invalid", totals.invalid);
    let _ = writeln!(text, "  {:>8}  gone from the source", totals.gone);
    if totals.kept_opt_outs > 0 {
        let (people, says) = (totals.kept_opt_outs, "which counts; the CRM says otherwise");
        let _ = writeln!(text, "Kept: {people} opted out, as Conversica has told us, {says}.");
    }
    if totals.same_email > 0 {
        let _ = writeln!(text, "Look twice: {} e-mail address(es) stand under more than one id.", totals.same_email);
    }
    let held = &totals.held;
    if held.leads > 0 {
        let reasons: Vec<String> = held.reasons.iter().map(|(reason, leads)| format!("{reason} {leads}")).collect();
        let _ = writeln!(
            text,
            "HELD for a person: {} ({}), {} of them contacted for the first time.",
            table::leads(held.leads),
            reasons.join(", "),
            held.new_people
        );
        if held.missing > 0 {
            let _ = writeln!(
                text,
                "  {} of them are missing from the source: `approve` takes them for gone, and tells Conversica where on_delete \
                 says so; `baseline` sends nothing.",
                held.missing
            );
        }
        let _ = writeln!(
            text,
            "  to send what is shown here and nothing that joins: conversica-sync approve --shown {}",
            held.shown
        );
        let _ = writeln!(
            text,
            "  to take it as delivered:                           conversica-sync baseline --shown {}",
            held.shown
        );
    } else if let Some(reason) = totals.hold.as_deref().filter(|reason| *reason == held::SOURCE_SHRANK) {
        let _ = writeln!(text, "It would be HELD for a person ({reason}): {}.", held::advice(reason));
    } else if let Some(reason) = &totals.hold {
        let _ = writeln!(
            text,
            "It would be HELD for a person ({reason}): then `approve` sends it, `baseline` takes it as delivered."
        );
    }
    text
}

fn describe(lead: &PlannedLead) -> String {
    let mut text = format!("\n{:<8}{}", lead.action.name(), printable(&lead.id));
    if !lead.client_id.is_empty() {
        let _ = write!(text, " (client {})", printable(&lead.client_id));
    }
    if !lead.reasons.is_empty() {
        let _ = write!(text, "  {}", printable(&lead.reasons.join("; ")));
    }
    text.push('\n');
    for (key, [old, new]) in &lead.changes {
        let _ = writeln!(text, "        {}: {} → {}", printable(key), shown(old), shown(new));
    }
    text
}

/// A value of a Lead object, for people.
pub(super) fn shown(value: &Value) -> String {
    if value.is_null() { "(none)".to_owned() } else { printable(&value.to_string()).into_owned() }
}
