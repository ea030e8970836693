//! `dashboard`: prints a link that signs in to the dashboard of the running daemon, once.
//!
//! A user who can write the state can decide for the service anyway, so no token is asked for.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::context::{ExitCode, existing_state, settings};
use crate::cli::health::{is_serving, reachable};
use crate::clock;
use crate::config::ServiceSettings;
use crate::console::say;
use crate::error::SetupError;
use crate::store::sign_in;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the daemon serves, instead of what the settings say; with port 0 its log names the port
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let address = reachable(args.address.unwrap_or(loaded.settings.admin.listen))?;
    let Some(link) = offer(&loaded.settings, address).await? else {
        let cure = "start `conversica-sync run`: it makes the state, and serves the dashboard";
        return Err(SetupError::new("there is no state yet, so there is no dashboard", cure).into());
    };
    say(link);
    eprintln!("The link signs in once, within {} minutes.", sign_in::LINK_LASTS.num_minutes());
    if !is_serving(address).await {
        eprintln!("Nothing answers at {address} yet: start `conversica-sync run` with these settings.");
    }
    Ok(ExitCode::Done)
}

/// A new link; `None` if there is no state yet.
async fn offer(settings: &ServiceSettings, address: SocketAddr) -> anyhow::Result<Option<String>> {
    let Some(state) = existing_state(settings).await? else { return Ok(None) };
    let code = sign_in::offer(&state, clock::now()).await;
    state.close().await;
    Ok(Some(format!("http://{address}/enter?code={}", code?)))
}

/// How long `run` on a terminal waits for its own dashboard before it prints no link.
const TRIES: u32 = 60;

/// For `run` on a terminal: prints a link as soon as the dashboard answers.
pub(super) async fn print_link_on_terminal(settings: Arc<ServiceSettings>) {
    let Ok(address) = reachable(settings.admin.listen) else { return };
    if !std::io::stderr().is_terminal() {
        return;
    }
    for _ in 0..TRIES {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_serving(address).await
            && let Ok(Some(link)) = offer(&settings, address).await
        {
            eprintln!("The dashboard, signed in (this link works once, within ten minutes): {link}");
            return;
        }
    }
}
