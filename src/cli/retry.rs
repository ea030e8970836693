//! `retry`: puts rejected and exhausted leads back in the queue, with their newest content.

use std::path::Path;

use clap::ValueEnum;

use crate::cli::{Exit, existing_state, person, settings};
use crate::clock;
use crate::console::say;
use crate::decide;
use crate::state::lead::Status;
use crate::wording;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "status", "all"]))]
pub struct Args {
    /// Ids of the leads
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All leads of that status
    #[arg(long)]
    pub status: Option<Stuck>,
    /// All rejected and exhausted leads
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stuck {
    Rejected,
    Exhausted,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("Nothing to retry: there is no state yet.");
        return Ok(Exit::Done);
    };
    let statuses: &[Status] = match args.status {
        Some(Stuck::Rejected) => &[Status::Rejected],
        Some(Stuck::Exhausted) => &[Status::Exhausted],
        None => &[Status::Rejected, Status::Exhausted],
    };
    let ids = (!args.ids.is_empty()).then_some(args.ids.as_slice());
    let requeued = decide::retry(&state, statuses, ids, &person(), clock::now()).await?;
    say(wording::requeued(requeued));
    Ok(Exit::Done)
}
