//! `resume`: lifts a halt by hand, once its cause is mended.

use std::path::Path;

use crate::cli::context::{Exit, existing_state, person, settings};
use crate::console::say;
use crate::{clock, decide, wording};

pub async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("There is no halt: there is no state yet.");
        return Ok(Exit::Done);
    };
    say(wording::resumed(decide::resume(&state, &person(), clock::now()).await?));
    Ok(Exit::Done)
}
