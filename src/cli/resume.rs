//! `resume`: lifts a halt by hand, once its cause is mended.

use std::path::Path;

use secrecy::ExposeSecret;

use crate::cli::{Exit, settings};
use crate::console::say;
use crate::db::Db;
use crate::state::control::{self, Halt};

pub async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let state = Db::open_state(loaded.settings.state.url.expose_secret()).await?;
    if control::clear::<Halt>(&state).await? {
        say("The halt is lifted. The next request goes alone, until Conversica accepts it.");
    } else {
        say("There is no halt.");
    }
    Ok(Exit::Done)
}
