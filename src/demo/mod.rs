//! The demo: a sample CRM that changes, the sandbox in place of Conversica, and the real daemon between them, in one process and
//! in a temporary directory. It writes to no database that it did not create. `own_crm` reads the operator's own CRM instead.

pub mod crm;
mod homecoming;
pub mod own_crm;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{ProcessEnvironment, ServiceSettings, layers};
use crate::console::say;
use crate::demo::crm::{DemoPlaces, change_some, config_text};
use crate::rules::lead_status::LeadStatus;
use crate::sandbox::{self, RunningSandbox, play};
use crate::send::tally::RunTally;
use crate::status::StatusReport;
use crate::store::sign_in;
use crate::store::state_db::StateDb;
use crate::{clock, daemon};

/// How the demo ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnding {
    /// After the first pass and three rounds of changes have arrived.
    ByItself,
    OnSignal,
}

/// The same sample every time.
const SEED: u64 = 1;
const ROUNDS_BY_ITSELF: u64 = 3;
/// Pause between two rounds of changes: long enough to read the last one.
const ROUND_PAUSE: Duration = Duration::from_secs(4);
/// The first pass takes five seconds on any machine; after this time it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(200);
/// Pause between two posts of a conversation; real conversations take days.
const BEAT: Duration = Duration::from_millis(50);
const USERNAME: &str = "sandbox";
const PASSWORD: &str = "sandbox-password";

/// Runs the demo, and describes it on standard output.
///
/// # Errors
/// When an expected change does not arrive: the demo is also the shortest test of the whole program.
pub async fn run(ending: DemoEnding, stop: CancellationToken) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("conversica-sync-demo-").tempdir()?;
    let crm_file = directory.path().join("crm.db");
    let sample = crm::create(&crm_file, SEED).await.context("making the sample CRM")?;
    let receive = free_address()?;
    let sandbox = sandbox::start(sandbox::SandboxOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
        faults: "500=1%,429=1%,retry_after=1s,latency=5ms..30ms".parse()?,
        seed: SEED,
        play: Some(play::PlayOptions {
            receiver: play::PlayReceiver {
                url: format!("http://{receive}").parse()?,
                username: USERNAME.to_owned(),
                password: PASSWORD.to_owned(),
                certificate: None,
            },
            beat: BEAT,
            repeated: 5,
            disordered: 5,
        }),
    })
    .await?;
    let config_file = directory.path().join("conversica-sync.toml");
    let settings = settings(&config_file, &crm_file, &directory.path().join("state.db"), &sandbox, receive)?;
    say(format_args!(
        "A sample CRM with {} leads ({} of them faulty), a local Conversica, and the daemon between them.",
        sample.leads, sample.faulty
    ));
    say(format_args!("  configuration  {}", config_file.display()));
    say(format_args!("  dashboard      http://{}/", settings.admin.listen));
    say(format_args!("  what arrived   curl http://{}/leads", sandbox.address));
    say(format_args!("its status     conversica-sync --config {} status\n", config_file.display()));

    let state_url = settings.state.url.expose_secret().to_owned();
    let dashboard = settings.admin.listen;
    let shown = show(ending, &crm_file, &state_url, dashboard, &sandbox);
    let shown = show_beside_daemon(settings, &stop, shown).await?;
    conclude(&state_url, &sandbox).await?;
    sandbox.stop().await;
    remove(directory)?;
    shown
}

/// Runs the daemon until `shown` ends or a signal comes.
///
/// # Errors
/// When the daemon fails. The result of `shown` is inside.
async fn show_beside_daemon(
    settings: ServiceSettings,
    stop: &CancellationToken,
    shown: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<anyhow::Result<()>> {
    let daemon_stop = stop.child_token();
    let tally = Arc::new(RunTally::default());
    let mut daemon = tokio::spawn(daemon::run(watch::channel(Arc::new(settings)).1, tally, daemon_stop.clone()));
    let shown = tokio::select! {
        // The signal first: a daemon that ends because of it has not ended by itself.
        biased;
        () = stop.cancelled() => Ok(()),
        ended = &mut daemon => return ended.context("the daemon failed")?.and_then(|()| anyhow::bail!("the daemon ended by itself")),
        shown = shown => shown,
    };
    daemon_stop.cancel();
    daemon.await.context("the daemon failed")??;
    Ok(shown)
}

fn remove(directory: TempDir) -> anyhow::Result<()> {
    let place = directory.path().display().to_string();
    directory.close().with_context(|| format!("removing {place}"))?;
    say(format_args!("{place} is removed; nothing is left behind."));
    Ok(())
}

/// A free port: the sandbox has to know it before the daemon listens there. The daemon retries if another program takes the port.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr())?)
}

fn settings(
    file: &Path,
    crm: &Path,
    state: &Path,
    sandbox: &RunningSandbox,
    receive: SocketAddr,
) -> anyhow::Result<ServiceSettings> {
    let places = DemoPlaces {
        crm,
        state,
        endpoint: &sandbox.endpoint(),
        username: USERNAME,
        password: PASSWORD,
        receive,
        admin: free_address()?,
    };
    let text = config_text(&places);
    std::fs::write(file, &text).context("writing the demo's configuration")?;
    // Without the environment of the user's own installation.
    Ok(layers::load_text(&file.display().to_string(), &text, &ProcessEnvironment::default())?.settings)
}

/// The first pass, then rounds of changes, until the demo ends.
async fn show(
    ending: DemoEnding,
    crm_file: &Path,
    state_url: &str,
    dashboard: SocketAddr,
    sandbox: &RunningSandbox,
) -> anyhow::Result<()> {
    let settled = settle(state_url, clock::now()).await?;
    say(format_args!(
        "First pass: {} leads delivered, {} invalid rows left out and reported.\n",
        settled.leads(LeadStatus::InSync),
        settled.leads(LeadStatus::Invalid)
    ));
    if ending == DemoEnding::OnSignal {
        say_link(state_url, dashboard).await?;
    }
    for line in homecoming::one_conversation(crm_file, PATIENCE).await? {
        say(line);
    }
    let mut round = 1;
    loop {
        let posts_before = sandbox.counts().accepted;
        let changes = change_some(crm_file, round, clock::now()).await?;
        say("A colleague works in the CRM:");
        for sentence in &changes.told {
            say(format_args!("  {sentence}"));
        }
        settle(state_url, clock::now()).await?;
        say(format_args!("  → {} updates arrived at Conversica.\n", sandbox.counts().accepted - posts_before));
        if ending == DemoEnding::ByItself && round >= ROUNDS_BY_ITSELF {
            return Ok(());
        }
        if ending == DemoEnding::OnSignal {
            if round == ROUNDS_BY_ITSELF {
                say("This goes on until Ctrl-C.\n");
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        round += 1;
    }
}

async fn say_link(state_url: &str, dashboard: SocketAddr) -> anyhow::Result<()> {
    let state = StateDb::open_existing_state(state_url).await?;
    let code = sign_in::offer(&state, clock::now()).await?;
    state.close().await;
    say(format_args!("The dashboard, signed in (this link works once): http://{dashboard}/enter?code={code}\n"));
    Ok(())
}

/// Whether leads are on their way.
fn is_busy(report: &StatusReport) -> bool {
    [LeadStatus::Pending, LeadStatus::InFlight, LeadStatus::Retrying].into_iter().any(|s| report.leads(s) > 0)
}

/// Waits until a poll that began after `changed_at` is complete, and no request is in flight.
async fn settle(state_url: &str, changed_at: DateTime<Utc>) -> anyhow::Result<StatusReport> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(state) = StateDb::open_state_read_only(state_url).await? {
            let report = StatusReport::of(&state, clock::now()).await?;
            state.close().await;
            if report.last_poll.as_ref().is_some_and(|poll| poll.at >= changed_at) && !is_busy(&report) {
                return Ok(report);
            }
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "the changes did not arrive within two minutes");
        tokio::time::sleep(TICK).await;
    }
}

async fn conclude(state_url: &str, sandbox: &RunningSandbox) -> anyhow::Result<()> {
    let counts = sandbox.counts();
    // A signal in the first moments may have left the state incomplete.
    let Ok(Some(state)) = StateDb::open_state_read_only(state_url).await else { return Ok(()) };
    let report = StatusReport::of(&state, clock::now()).await?;
    state.close().await;
    say("What happened:");
    say(format_args!(
        "  Conversica holds {} leads, from {} accepted posts; {} were repeats of what it had.",
        counts.leads, counts.accepted, counts.repeated
    ));
    say(format_args!(
        "  {} faults were played (429 and 500); every one was tried again by itself.",
        counts.faults_injected
    ));
    say(format_args!(
        "  {} rows are invalid: their leads wait until the CRM's users fix them.",
        report.leads(LeadStatus::Invalid)
    ));
    say(format_args!(
        "  {} Lead Updates and {} Messages came home; {} posts came twice and were stored once.",
        report.received.lead_updates, report.received.messages, report.received.repeats
    ));
    say("\nWhere to go from here: docs/tutorial.md, `conversica-sync --help`, config/example.toml.");
    Ok(())
}
