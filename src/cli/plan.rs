//! `plan`: shows what a pass would send and why, so that the operator can decide.

mod text;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::context::{ExitCode, readable_state, settings};
use crate::cli::pager::{BufferedText, TextPager};
use crate::cli::progress;
use crate::clock;
use crate::config::ServiceSettings;
use crate::rules::plan_totals::PlanTotals;
use crate::send::plan::{self, PlannedAction, PlannedLead};
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::store::state_db::StateDb;

pub(super) use text::shown;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// How many leads to show one by one [default: 20, or all with --json or in a pager]
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Show only leads with which this would be done; may be repeated. The numbers are of all leads
    #[arg(long, value_name = "ACTION", value_delimiter = ',', value_parser = action_parser())]
    pub only: Vec<PlannedAction>,
    /// Show only the lead of this id; may be repeated. The numbers are of all leads
    #[arg(long, value_name = "ID")]
    pub lead: Vec<String>,
    /// On a terminal, write everything at once rather than through $PAGER (less -FRX where that is not set)
    #[arg(long)]
    pub no_pager: bool,
}

/// Leads shown for people without --limit, if there is no pager.
const LIMIT: u64 = 20;

fn action_parser() -> impl TypedValueParser<Value = PlannedAction> {
    PossibleValuesParser::new(PlannedAction::ALL.map(PlannedAction::name))
        .try_map(|name| PlannedAction::from_name(&name).ok_or("there is no such action"))
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let crm = ConnectedCrm::open(&loaded.settings).await?;
    let state = match readable_state(&loaded.settings).await? {
        Some(state) => state,
        None => StateDb::open_state_in_memory().await?,
    };
    let planner = PlanReader { crm, state, settings: &loaded.settings };
    let pager = if args.no_pager || args.json { None } else { TextPager::of_terminal() };
    let limit = match args.limit {
        None if args.json || pager.is_some() => None,
        limit => Some(limit.unwrap_or(LIMIT)),
    };
    let chosen = PlanSelection { only: &args.only, ids: &args.lead, limit, found: 0 };
    let totals =
        if args.json { print_json(&planner, chosen).await? } else { print_text(&planner, chosen, pager).await? };
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
        let totals = plan::plan(&self.crm, &self.state, self.settings, &tally, clock::now(), each).await;
        bar.abort();
        let _ = bar.await;
        totals
    }
}

/// Which leads are shown.
struct PlanSelection<'a> {
    only: &'a [PlannedAction],
    ids: &'a [String],
    limit: Option<u64>,
    /// Matching leads so far, shown or not.
    found: u64,
}

impl PlanSelection<'_> {
    fn is_all(&self) -> bool {
        self.only.is_empty() && self.ids.is_empty()
    }

    /// Whether this one is shown.
    fn admits(&mut self, lead: &PlannedLead) -> bool {
        let is_meant = (self.only.is_empty() || self.only.contains(&lead.action))
            && (self.ids.is_empty() || self.ids.contains(&lead.id));
        self.found += u64::from(is_meant);
        is_meant && self.limit.is_none_or(|limit| self.found <= limit)
    }
}

/// One document with its leads written as they are found: ten million of them need no memory. Errors come before the end, so a
/// document with its closing bracket is complete.
async fn print_json(planner: &PlanReader<'_>, mut chosen: PlanSelection<'_>) -> anyhow::Result<PlanTotals> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut separator = "{\"leads\":[\n";
    let totals = planner
        .plan(|lead| {
            if chosen.admits(&lead) {
                write!(out, "{separator}")?;
                serde_json::to_writer(&mut out, &lead)?;
                separator = ",\n";
            }
            Ok(())
        })
        .await?;
    let open = if separator.starts_with('{') { separator } else { "" };
    let rest = serde_json::to_string(&totals)?;
    writeln!(out, "{open}],{}", &rest[1..])?;
    out.flush()?;
    Ok(totals)
}

async fn print_text(
    planner: &PlanReader<'_>,
    mut chosen: PlanSelection<'_>,
    pager: Option<TextPager>,
) -> anyhow::Result<PlanTotals> {
    // The text above the leads is known only at the end.
    let mut leads = BufferedText::default();
    let mut shown = 0;
    let totals = planner
        .plan(|lead| {
            if chosen.admits(&lead) && leads.add(&text::describe(&lead))? {
                shown += 1;
            }
            Ok(())
        })
        .await?;
    let below = match chosen.found - shown {
        0 if chosen.found == 0 && !chosen.is_all() => {
            "\nNo lead that a pass would send, or that is invalid, is of that kind.\n".to_owned()
        }
        0 => String::new(),
        more => format!("… and {more} more (--limit N, --only ACTION, --lead ID, or --json for all)\n"),
    };
    leads.show(&text::headline(&totals), &below, pager)?;
    Ok(totals)
}
