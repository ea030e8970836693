//! `pause` and `unpause`: the operator stops first contacts and updates, and lets them go on.

use std::path::Path;

use crate::cli::context::{ExitCode, existing_state, person, settings};
use crate::console::{printable, say};
use crate::decide::{self, PauseOrder};
use crate::error::SetupError;
use crate::rules::operator_pause::{PauseScope, parse_end};
use crate::store::operator_pause;
use crate::{clock, wording};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only leads with this conversationId; may be given several times
    #[arg(long, value_name = "NAME")]
    pub conversation: Vec<String>,
    /// When the pause ends by itself: 2026-12-01T08:00:00Z, or 2h, 7d from now; without it a person ends it
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Why, for those who find the pause
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct UnpauseArgs {
    /// Only the pause of this conversationId; may be given several times
    #[arg(long, value_name = "NAME")]
    pub conversation: Vec<String>,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let now = clock::now();
    let until = args.until.as_deref().map(|text| parse_end(text, now)).transpose()?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        return Err(SetupError::new(
            "there is no state yet, so nothing can be paused",
            "the first pass makes it: with [safety] first_run = \"hold\" it sends nothing that was not approved",
        )
        .into());
    };
    // Opening the state may have corrected the clock.
    let now = clock::now();
    let scopes = PauseScope::of(&args.conversation);
    let order = PauseOrder { scopes: &scopes, until, reason: args.reason.as_deref(), who: &person() };
    let pauses = decide::pause(&state, order, now).await?;
    say(wording::pause_begun(&pauses));
    for name in &args.conversation {
        if operator_pause::count_leads_of(&state, name).await? == 0 {
            say(format_args!(
                "No lead of the state has the conversationId {}: see that it is spelt as in [lead], or ended with `unpause`.",
                printable(name)
            ));
        }
    }
    Ok(ExitCode::Done)
}

pub async fn end(args: UnpauseArgs, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        return Err(
            SetupError::new("nothing is paused: there is no state yet", "look at `conversica-sync status`").into()
        );
    };
    for sentence in decide::unpause(&state, &args.conversation, &person(), clock::now()).await? {
        say(sentence);
    }
    Ok(ExitCode::Done)
}
