//! `retry`: puts rejected and exhausted leads back in the queue, with their newest content.

use std::path::Path;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::context::{ExitCode, existing_state, person, settings};
use crate::cli::{progress, table};
use crate::console::say;
use crate::error::SetupError;
use crate::rules::lead_status::LeadStatus;
use crate::store::stuck::{self, RetryOrder};
use crate::{clock, decide, wording};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "status", "reason", "all"]))]
pub struct Args {
    /// Ids of the leads
    #[arg(value_name = "ID", conflicts_with_all = ["status", "all"])]
    pub ids: Vec<String>,
    /// All leads of that status
    #[arg(long, conflicts_with = "all")]
    pub status: Option<StuckStatus>,
    /// Leads with this in Conversica's last answer (words of it, its number, or its class), as in `leads`
    #[arg(long, value_name = "TEXT", conflicts_with = "ids", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// All rejected and exhausted leads
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StuckStatus {
    Rejected,
    Exhausted,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let ids = (!args.ids.is_empty()).then_some(args.ids.as_slice());
    let Some(state) = existing_state(&loaded.settings).await? else {
        if let Some(ids) = ids {
            return Err(nothing_stuck(ids).into());
        }
        if args.reason.is_some() {
            return Err(no_such_reason().into());
        }
        say("Nothing to retry: there is no state yet.");
        return Ok(ExitCode::Done);
    };
    let statuses: &[LeadStatus] = match args.status {
        Some(StuckStatus::Rejected) => &[LeadStatus::Rejected],
        Some(StuckStatus::Exhausted) => &[LeadStatus::Exhausted],
        None => &[LeadStatus::Rejected, LeadStatus::Exhausted],
    };
    let unfit = match ids {
        Some(ids) => stuck::list_other_ids(&state, statuses, ids).await?,
        None => Vec::new(),
    };
    let reason = args.reason.as_deref();
    let stuck = stuck::look(&state, statuses, ids).await?.leads;
    let order = RetryOrder { statuses, ids, reason, who: &person() };
    let requeued = decide::retry(&state, order, clock::now(), progress::deciding(stuck)).await?;
    match ids {
        Some(ids) if requeued == 0 => Err(nothing_stuck(ids).into()),
        None if requeued == 0 && reason.is_some() => Err(no_such_reason().into()),
        _ => {
            say(wording::requeued(requeued));
            if unfit.is_empty() { Ok(ExitCode::Done) } else { Err(partly_stuck(&unfit).into()) }
        }
    }
}

fn no_such_reason() -> SetupError {
    SetupError::new(
        "no rejected or exhausted lead has that in Conversica's last answer, so nothing was changed",
        "`conversica-sync leads --status rejected,exhausted` lists the leads with their answers",
    )
}

fn partly_stuck(ids: &[String]) -> SetupError {
    SetupError::new(
        format!(
            "no lead with the id {} is rejected or exhausted; the others are back in the queue",
            table::ids_of(ids)
        ),
        "`conversica-sync leads --status rejected,exhausted` lists the leads that can be retried",
    )
}

fn nothing_stuck(ids: &[String]) -> SetupError {
    SetupError::new(
        format!("no lead with the id {} is rejected or exhausted, so nothing was changed", table::ids_of(ids)),
        "`conversica-sync leads --status rejected,exhausted` lists the leads that can be retried",
    )
}
