//! `resume`: lifts a halt by hand, after the operator has fixed its cause.

use std::path::Path;

use crate::cli::context::{ExitCode, existing_state, person, settings};
use crate::console::say;
use crate::{clock, decide, wording};

pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("There is no halt: there is no state yet.");
        return Ok(ExitCode::Done);
    };
    say(wording::resumed(decide::resume(&state, &person(), clock::now()).await?));
    Ok(ExitCode::Done)
}
