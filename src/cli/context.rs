//! Shared by the commands: settings, the state, confirmations, exit codes.

use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use secrecy::ExposeSecret;

use crate::config::{LoadedConfig, ProcessEnvironment, ServiceSettings, find_file, load};
use crate::error::SetupError;
use crate::status::OperatorNeed;
use crate::store::decision::DecisionMaker;
use crate::store::file_lock::{self, StateLock};
use crate::store::state_db::StateDb;
use crate::{clock, telemetry};

/// The result of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    Done = 0,
    /// A mapping test failed.
    Failed = 1,
    /// Leads are rejected, invalid or exhausted.
    Attention = 3,
    /// Halted, held or paused: the operator must act.
    Decision = 4,
}

impl From<OperatorNeed> for ExitCode {
    fn from(need: OperatorNeed) -> Self {
        match need {
            OperatorNeed::Nothing => ExitCode::Done,
            OperatorNeed::Attention => ExitCode::Attention,
            OperatorNeed::Decision => ExitCode::Decision,
        }
    }
}

/// Asks for a yes; without a terminal it fails, and `cure` names the alternative.
pub(crate) fn confirmed(question: &str, cure: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what = format!("this needs a yes, and there is no terminal to ask on: {question}");
        return Err(SetupError::new(what, cure).into());
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The state for a command that changes it; `None` where none exists, and then none is created.
pub(crate) async fn existing_state(settings: &ServiceSettings) -> anyhow::Result<Option<StateDb>> {
    let url = settings.state.url.expose_secret();
    file_lock::refuse_lost(url)?;
    let looked = match StateDb::open_state_read_only(url).await {
        Ok(None) => return Ok(None),
        Ok(Some(looked)) => looked,
        Err(_) => {
            if !StateDb::state_exists(url).await? {
                return Ok(None);
            }
            // The state needs a migration first, which only the holder of the lock may run.
            let _lock = StateLock::take(url, "a command", clock::now()).await?;
            return StateDb::open_existing_state(url).await.map(Some);
        }
    };
    looked.close().await;
    StateDb::open_existing_state(url).await.map(Some)
}

/// The state for a command that may come before the first pass; created if there is none yet.
pub(crate) async fn writable_state(settings: &ServiceSettings) -> anyhow::Result<StateDb> {
    if let Some(state) = existing_state(settings).await? {
        return Ok(state);
    }
    let url = settings.state.url.expose_secret();
    let _lock = StateLock::take(url, "a command", clock::now()).await?;
    StateDb::open_state(url).await
}

/// The name of the operator, for the record of decisions.
pub(crate) fn person() -> DecisionMaker {
    let named = ["SUDO_USER", "LOGNAME", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    let named = named.or_else(account_name);
    DecisionMaker::new(format!("{} (command line)", named.as_deref().unwrap_or("unknown user")))
}

/// Reads the settings, logs their warnings, and starts the log.
pub(crate) fn settings(file: Option<&Path>) -> anyhow::Result<LoadedConfig> {
    let loaded = settings_unsaid(file)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

/// The state for a command that only reads; `None` where none exists yet.
pub(crate) async fn readable_state(settings: &ServiceSettings) -> anyhow::Result<Option<StateDb>> {
    let url = settings.state.url.expose_secret();
    file_lock::refuse_lost(url)?;
    StateDb::open_state_read_only(url).await
}

/// The same, for a command that shows the warnings itself.
pub(crate) fn settings_unsaid(file: Option<&Path>) -> anyhow::Result<LoadedConfig> {
    let environment = ProcessEnvironment::of_process();
    let loaded = load(&find_file(file, &environment)?, &environment)?;
    telemetry::init(&loaded.settings.log);
    Ok(loaded)
}

/// The program's name.
pub(crate) const NAME: &str = "conversica-sync";

/// The account of this process: services and containers set no variable. "uid 1000" where the system has no name for it.
pub(crate) fn account_name() -> Option<String> {
    let uid = std::fs::metadata("/proc/self").ok()?.uid();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Some(name.unwrap_or_else(|| format!("uid {uid}")))
}
