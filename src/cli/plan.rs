//! `plan`: shows what a pass would send and why, so that the operator can decide.

mod compare;
mod selection;
mod text;

use std::io::{BufWriter, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tempfile::SpooledTempFile;

use crate::cli::context::{ExitCode, readable_state, settings};
use crate::cli::progress;
use crate::clock;
use crate::config::ServiceSettings;
use crate::console::SCHEMA_VERSION;
use crate::rules::plan_totals::PlanTotals;
use crate::send::plan;
use crate::send::planned_lead::{PlannedAction, PlannedLead};
use crate::send::poll_context::PollContext;
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::store::state_db::StateDb;

use selection::PlanSelection;
pub(super) use text::shown;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// How many leads to show one by one [default: 20, or all with --json]
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show only leads with which this would be done; may be repeated. The numbers are of all leads
    #[arg(long, value_name = "ACTION", value_delimiter = ',', value_parser = action_parser())]
    pub only: Vec<PlannedAction>,
    /// Show only the lead of this id; may be repeated. The numbers are of all leads
    #[arg(long, value_name = "ID")]
    pub lead: Vec<String>,
    /// Show instead whose content changes because of the configuration alone: this file against OLD. Exit code 3 if anybody's does
    #[arg(long, value_name = "OLD", conflicts_with_all = ["only", "lead"])]
    pub compare: Option<PathBuf>,
}

/// How many leads the text shows without `--limit`.
const LIMIT: u64 = 20;
/// Bytes of the text of leads that are kept in memory.
const IN_MEMORY: usize = 1024 * 1024;

fn action_parser() -> impl TypedValueParser<Value = PlannedAction> {
    PossibleValuesParser::new(PlannedAction::ALL.map(PlannedAction::name))
        .try_map(|name| PlannedAction::from_name(&name).ok_or("there is no such action"))
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    if let Some(old) = &args.compare {
        let shown_as = if args.json { compare::ShownAs::Json } else { compare::ShownAs::Text };
        return compare::run(old, &loaded.settings, args.limit.unwrap_or(LIMIT), shown_as).await;
    }
    let crm = ConnectedCrm::open(&loaded.settings).await?;
    let state = match readable_state(&loaded.settings).await? {
        Some(state) => state,
        None => StateDb::open_state_in_memory().await?,
    };
    let planner = PlanReader { crm, state, settings: &loaded.settings };
    let limit = args.limit.or(if args.json { None } else { Some(LIMIT) });
    let chosen = PlanSelection::new(&args.only, &args.lead, limit);
    let totals = if args.json { print_json(&planner, chosen).await? } else { print_text(&planner, chosen).await? };
    Ok(if totals.hold.is_some() {
        ExitCode::Decision
    } else if totals.invalid > 0 {
        ExitCode::Attention
    } else {
        ExitCode::Done
    })
}

struct PlanReader<'a> {
    crm: ConnectedCrm,
    state: StateDb,
    settings: &'a ServiceSettings,
}

impl PlanReader<'_> {
    /// Shows a progress bar, which disappears at the end.
    async fn plan(&self, each: impl FnMut(PlannedLead) -> anyhow::Result<()>) -> anyhow::Result<PlanTotals> {
        let tally = Arc::new(RunTally::default());
        let bar = tokio::spawn(progress::reading(self.state.clone(), tally.clone()));
        let Self { crm, state, settings } = self;
        let context = PollContext { crm, state, settings, tally: &tally, now: clock::now() };
        let totals = plan::plan(context, each).await;
        bar.abort();
        let _ = bar.await;
        totals
    }
}

/// One document with its leads written as they are found: ten million of them need no memory. Errors come before the end, so a
/// document with its closing bracket is complete.
async fn print_json(planner: &PlanReader<'_>, mut chosen: PlanSelection<'_>) -> anyhow::Result<PlanTotals> {
    let mut out = BufWriter::new(std::io::stdout());
    let begin = format!("{{\"schema_version\":{SCHEMA_VERSION},\"leads\":[\n");
    let mut separator = begin.as_str();
    let totals = planner
        .plan(|lead| chosen.add(lead).iter().try_for_each(|lead| write_lead(&mut out, &mut separator, lead)))
        .await?;
    chosen.rest().iter().try_for_each(|lead| write_lead(&mut out, &mut separator, lead))?;
    let open = if separator.starts_with('{') { separator } else { "" };
    let rest = serde_json::to_string(&totals)?;
    writeln!(out, "{open}],{}", &rest[1..])?;
    out.flush()?;
    Ok(totals)
}

fn write_lead(out: &mut impl Write, separator: &mut &str, lead: &PlannedLead) -> anyhow::Result<()> {
    write!(out, "{separator}")?;
    serde_json::to_writer(out, lead)?;
    *separator = ",\n";
    Ok(())
}

/// The numbers are known at the end and are printed first, so the leads wait in memory, and beyond [`IN_MEMORY`] in a file.
async fn print_text(planner: &PlanReader<'_>, mut chosen: PlanSelection<'_>) -> anyhow::Result<PlanTotals> {
    let mut leads = SpooledTempFile::new(IN_MEMORY);
    let mut shown = 0;
    let mut show = |found: Vec<PlannedLead>| -> anyhow::Result<()> {
        for lead in found {
            leads.write_all(text::describe(&lead).as_bytes())?;
            shown += 1;
        }
        Ok(())
    };
    let totals = planner.plan(|lead| show(chosen.add(lead))).await?;
    show(chosen.rest())?;
    let below = match chosen.found - shown {
        0 if chosen.found == 0 && !chosen.is_all() => {
            "\nNo lead that a pass would send, or that is invalid, is of that kind.\n".to_owned()
        }
        0 => String::new(),
        more => format!("… and {more} more (--limit N, --only ACTION, --lead ID, or --json for all)\n"),
    };
    leads.rewind()?;
    let mut out = std::io::stdout();
    let written = out
        .write_all(text::headline(&totals).as_bytes())
        .and_then(|()| std::io::copy(&mut leads, &mut out))
        .and_then(|_| out.write_all(below.as_bytes()))
        .and_then(|()| out.flush());
    match written {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(totals),
        written => Ok(written.map(|()| totals)?),
    }
}
