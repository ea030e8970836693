//! `run`: the daemon, in the foreground.

use std::path::Path;
use std::sync::Arc;

use crate::cli::{Exit, settings, signal};
use crate::daemon;
use crate::sync::tally::Tally;

pub async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let stop = signal::stop_on_signal()?;
    daemon::run(loaded.settings, Arc::new(Tally::default()), stop).await?;
    Ok(Exit::Done)
}
