//! `approve` and `baseline`: a person decides about what is held.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use crate::cli::{Exit, existing_state, settings, table};
use crate::clock;
use crate::console::say;
use crate::error::SetupError;
use crate::state::control::{self, FirstRunDone, Hold};
use crate::state::lead::{self, Status};
use crate::status::Report;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What becomes of the leads that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    Send,
    Baseline,
}

pub async fn run(args: Args, release: Release, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("Nothing is held: there is no state yet.");
        return Ok(Exit::Done);
    };
    let held = Report::of(&state).await?.leads(Status::Held);
    if held == 0 {
        say("Nothing is held.");
        return Ok(Exit::Done);
    }
    let question = match release {
        Release::Send => format!("Send {}? The people behind them will be written to.", table::leads(held)),
        Release::Baseline => format!("Treat {} as already delivered, and send nothing?", table::leads(held)),
    };
    if !args.yes && !confirmed(&question)? {
        say("Nothing was changed.");
        return Ok(Exit::Decision);
    }
    let now = clock::now();
    // The leads first: were the hold lifted first, a poll in between could send what nobody approved.
    let (released, by, what) = match release {
        Release::Send => (lead::approve_held(&state, now).await?, "approve", "will be sent"),
        Release::Baseline => (lead::baseline_held(&state, now).await?, "baseline", "count as delivered"),
    };
    control::write(&state, &FirstRunDone { by: by.to_owned() }, now).await?;
    control::clear::<Hold>(&state).await?;
    say(format_args!("{} {what}.", table::leads(i64::try_from(released).unwrap_or(i64::MAX))));
    Ok(Exit::Done)
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(SetupError::new(
            "this needs a yes, and there is no terminal to ask on",
            "look at `plan`, then add --yes",
        )
        .into());
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
