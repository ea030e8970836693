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
use crate::send::tally::RunTally;
use crate::{daemon, telemetry};

pub async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
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
