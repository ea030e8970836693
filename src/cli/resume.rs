//! `resume`: lifts a halt by hand, once its cause is mended.

use std::path::Path;

use crate::cli::{Exit, existing_state, settings};
use crate::clock;
use crate::console::say;
use crate::state::control::{self, Halt, Resumed};

pub async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("There is no halt: there is no state yet.");
        return Ok(Exit::Done);
    };
    let now = clock::now();
    if control::read::<Halt>(&state).await?.is_some() {
        // Before the halt goes: whoever finds none asks whether a person has lifted it.
        control::write(&state, &Resumed { at: now }, now).await?;
    }
    if control::clear::<Halt>(&state).await? {
        say("The halt is lifted. The next request goes alone, until Conversica accepts it.");
    } else {
        say("There is no halt.");
    }
    Ok(Exit::Done)
}
