//! `run`: the daemon, in the foreground. On SIGHUP it reads its settings again.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::cli::context::{ExitCode, settings};
use crate::cli::dashboard;
use crate::cli::signal::stop_on_signal;
use crate::config::reload::reload;
use crate::config::{LoadedConfig, ProcessEnvironment, ServiceSettings, load};
use crate::error::SetupError;
use crate::send::tally::RunTally;
use crate::{daemon, telemetry};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Not there: people look for it
    #[arg(long, hide = true)]
    pub dry_run: bool,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    if args.dry_run {
        let what = "`run` sends: it has no --dry-run";
        let cure = "`conversica-sync plan` shows what a pass would send, and sends nothing; `demo --crm FILE` tries your own leads \
                    against a local Conversica";
        return Err(SetupError::new(what, cure).into());
    }
    let loaded = settings(file)?;
    if std::env::var_os("RUST_LOG").is_some_and(|level| !level.is_empty()) {
        let cure = "set [log] level, or CONVERSICA_SYNC__LOG__LEVEL; libraries stay quiet, because their lines may quote people";
        warn!(cure, "RUST_LOG is not read");
    }
    let stop = stop_on_signal()?;
    let hang_up = signal(SignalKind::hangup())?;
    let link = dashboard::print_link_on_terminal(Arc::new(loaded.settings.clone()));
    let _link = AbortOnDropHandle::new(tokio::spawn(link));
    let (running, changes) = watch::channel(Arc::new(loaded.settings.clone()));
    let _follow = AbortOnDropHandle::new(tokio::spawn(follow(hang_up, loaded, running)));
    daemon::run(changes, Arc::new(RunTally::default()), stop).await?;
    Ok(ExitCode::Done)
}

async fn follow(mut hang_up: Signal, mut started: LoadedConfig, running: watch::Sender<Arc<ServiceSettings>>) {
    while hang_up.recv().await.is_some() {
        read_again(&mut started, &running);
    }
}

/// Applies changed settings and reports which ones need a restart. Settings with a mistake change nothing.
fn read_again(started: &mut LoadedConfig, running: &watch::Sender<Arc<ServiceSettings>>) {
    let Some(file) = &started.file else { return };
    let read = match load(file, &ProcessEnvironment::of_process()) {
        Ok(read) => read,
        Err(errors) => {
            for mistake in errors.0 {
                error!(
                    error = mistake.what,
                    cure = mistake.cure,
                    "the settings cannot be taken over; the old ones stay"
                );
            }
            return;
        }
    };
    for warning in &read.warnings {
        warn!("{warning}");
    }
    let reloaded = reload(&running.borrow(), started, &read);
    telemetry::set_level(reloaded.settings.log.level);
    running.send_replace(Arc::new(reloaded.settings));
    // Settings that wait for a restart are named again next time.
    started.effective.retain(|old| !reloaded.taken.contains(&old.key));
    started.effective.extend(read.effective.into_iter().filter(|new| reloaded.taken.contains(&new.key)));
    info!(taken = reloaded.taken.join(", "), "settings read again");
    if !reloaded.left.is_empty() {
        let cure = "restart conversica-sync to put them in force";
        warn!(keys = reloaded.left.join(", "), cure, "these settings have changed and need a restart");
    }
}
