//! `resume`: lifts a halt by hand, once its cause is mended.

use std::path::Path;

use crate::cli::{Exit, existing_state, person, settings};
use crate::clock;
use crate::console::say;
use crate::decide;

pub async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("There is no halt: there is no state yet.");
        return Ok(Exit::Done);
    };
    if decide::resume(&state, &person(), clock::now()).await? {
        say("The halt is lifted. The next request goes alone, until Conversica accepts it.");
    } else {
        say("There is no halt.");
    }
    Ok(Exit::Done)
}
