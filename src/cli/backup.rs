//! `backup`: a copy of an SQLite state, taken while the daemon runs. `restored`: says that the state came out of a backup.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use secrecy::ExposeSecret;

use crate::cli::context::{ExitCode, confirmed, existing_state, person, settings};
use crate::cli::table;
use crate::console::say;
use crate::error::SetupError;
use crate::store::state_db::StateDb;
use crate::store::{backup, file_lock, stray_log};
use crate::{clock, db};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the copy goes; nothing that is there is replaced
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let url = loaded.settings.state.url.expose_secret();
    let Some(state) = db::sqlite_path(url) else {
        return Err(SetupError::new(
            "the state is in PostgreSQL, whose own tools copy it",
            "pg_dump --schema=conversica_sync; after restoring it: conversica-sync restored",
        )
        .into());
    };
    if !state.exists() {
        return Err(SetupError::new(
            "there is no state yet, so there is nothing to copy",
            "begin with `conversica-sync run`",
        )
        .into());
    }
    stray_log::refuse_stray_log(url)?;
    let target = &args.file;
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if target.exists() {
        return Err(SetupError::new(format!("{} is there already", target.display()), "name a file that is not").into());
    }
    let unusable = |error: std::io::Error| {
        SetupError::new(
            format!("{} cannot be written: {error}", directory.display()),
            "name a file in a directory that can",
        )
    };
    // The copy appears complete or not at all, and only its owner may read it: it holds names and addresses.
    let part = tempfile::Builder::new().prefix(".conversica-sync-backup-").tempfile_in(directory).map_err(unusable)?;
    let copy = part.path().to_owned();
    tokio::task::spawn_blocking(move || backup::copy(&state, &copy)).await?.context("copying the state")?;
    let copy = StateDb::open_state(&format!("sqlite://{}", part.path().display())).await?;
    backup::mark_restored(&copy, &person(), clock::now()).await?;
    backup::set_state_id(&copy, file_lock::draw_state_id()).await.context("marking the copy")?;
    copy.close().await;
    part.as_file().sync_all().map_err(unusable)?;
    let kept = part.persist_noclobber(target).map_err(|error| unusable(error.error))?;
    let bytes = kept.metadata().map_err(unusable)?.len();
    say(format_args!("{} has the state as it is now ({}).", target.display(), indicatif::HumanBytes(bytes)));
    say(
        "To restore it: stop conversica-sync, move the files -wal and -shm beside the state away, put the copy in place of the state, \
         start conversica-sync, look at `plan`, then `approve`.",
    );
    Ok(ExitCode::Done)
}

#[derive(Debug, clap::Args)]
pub struct RestoredArgs {
    /// Do not ask; without a terminal nothing is asked
    #[arg(long, short)]
    pub yes: bool,
}

pub async fn restored(args: RestoredArgs, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let question = "The state came out of a backup, so all that waits to be sent is held until you have looked at it?";
    if !args.yes && std::io::stdin().is_terminal() && !confirmed(question, "--yes")? {
        say("Nothing was changed.");
        return Ok(ExitCode::Done);
    }
    stray_log::accept_lost_log(loaded.settings.state.url.expose_secret());
    let Some(state) = existing_state(&loaded.settings).await? else {
        say("There is no state yet.");
        return Ok(ExitCode::Done);
    };
    let leads = backup::mark_restored(&state, &person(), clock::now()).await?;
    say(format_args!(
        "{} that waited to be sent are held, and so is what the next poll finds.",
        table::leads(i64::try_from(leads).unwrap_or(i64::MAX))
    ));
    say("Look at `plan`, then `approve` or `baseline`. Withdrawals of consent are sent all the same.");
    Ok(ExitCode::Done)
}
