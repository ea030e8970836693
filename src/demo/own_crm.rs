//! `demo --crm`: the operator's own CRM in place of the sample. It is read as `run` reads it, and the leads go to the sandbox.
//!
//! The settings begin as the demo's, and take over only what concerns reading and mapping: nothing that could reach Conversica,
//! write to the CRM, tell people or touch the operator's own state is taken over.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{
    ChangeDetection, ConversicaSettings, LogLevel, LogSettings, ProcessEnvironment, ServiceSettings, SourceSettings,
    WritebackMode, WritebackSettings, layers,
};
use crate::console::{printable, say};
use crate::demo::crm::{DemoPlaces, config_text};
use crate::demo::{DemoEnding, PASSWORD, TICK, USERNAME, free_address, is_busy, remove, say_link, show_beside_daemon};
use crate::rules::lead_status::LeadStatus;
use crate::sandbox::{self, RunningSandbox};
use crate::source::crm::ConnectedCrm;
use crate::status::{ServiceStanding, StatusReport};
use crate::store::listing::ListingPages;
use crate::store::state_db::StateDb;
use crate::story::entry::why;
use crate::{clock, db, telemetry};

/// Pause between two lines about a first pass under way.
const PROGRESS_PAUSE: Duration = Duration::from_secs(5);
/// Invalid leads that are shown with their reasons.
const INVALID_SHOWN: i64 = 5;
/// The sandbox is on this machine: it takes as many as a small machine sends.
const REQUESTS_PER_SECOND: f64 = 500.0;

/// Runs the demo with the source and the mapping of that configuration file, and describes it on standard output.
///
/// # Errors
/// When the settings have a mistake, the source cannot be read, or a poll fails.
pub async fn run(file: &Path, ending: DemoEnding, stop: CancellationToken) -> anyhow::Result<()> {
    let own = own_settings(file)?;
    let directory = tempfile::Builder::new().prefix("conversica-sync-demo-").tempdir()?;
    let sandbox = sandbox::start_without_pages(sandbox::SandboxOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
        faults: "".parse()?,
        seed: 0,
        play: None,
    })
    .await?;
    let settings = rehearsal(own, demo_settings(&directory.path().join("state.db"), &sandbox)?);
    // The daemon waits for a source that is away; the demo says at once what is wrong.
    ConnectedCrm::open(&settings).await?.db.close().await;

    let (state_url, dashboard) = (settings.state.url.expose_secret().to_owned(), settings.admin.listen);
    say(format_args!(
        "Your leads from {}, a local Conversica, and the daemon between them.",
        db::display_url(settings.source.url.expose_secret())
    ));
    say("Nothing is sent to Conversica, nothing is written to your database, and no alert is sent.");
    say(format_args!("  dashboard      http://{dashboard}/"));
    say(format_args!("  Conversica     {}", sandbox.endpoint()));
    say(format_args!("  state          {}, until the end\n", directory.path().display()));

    let shown = show(ending, &state_url, dashboard, &sandbox);
    let shown = show_beside_daemon(settings, &stop, shown).await?;
    let counts = sandbox.counts();
    say(format_args!(
        "The local Conversica holds {} leads, from {} accepted posts; {} posts were rejected.",
        counts.leads, counts.accepted, counts.rejected_400
    ));
    say("Where to go from here: `conversica-sync check`, then `plan`, then docs/connect-your-crm.md.");
    sandbox.stop().await;
    remove(directory)?;
    shown
}

/// The operator's settings. They need no account at Conversica: the sandbox's takes its place.
fn own_settings(file: &Path) -> anyhow::Result<ServiceSettings> {
    let mut environment = ProcessEnvironment::of_process();
    for (name, value) in [("USERNAME", USERNAME), ("PASSWORD", PASSWORD)] {
        environment.variables.remove(&format!("CONVERSICA_SYNC__CONVERSICA__{name}_FILE"));
        environment.variables.insert(format!("CONVERSICA_SYNC__CONVERSICA__{name}"), value.to_owned());
    }
    let loaded = layers::load(file, &environment)?;
    telemetry::init(&LogSettings { level: LogLevel::Warn, ..loaded.settings.log.clone() });
    Ok(loaded.settings)
}

/// The demo's own settings, without the environment of the operator's installation. Their source is not used.
fn demo_settings(state: &Path, sandbox: &RunningSandbox) -> anyhow::Result<ServiceSettings> {
    let places = DemoPlaces {
        crm: Path::new("/nowhere"),
        state,
        endpoint: &sandbox.endpoint(),
        username: USERNAME,
        password: PASSWORD,
        receive: ([127, 0, 0, 1], 0).into(),
        admin: free_address()?,
    };
    Ok(layers::load_text("the demo", &config_text(&places), &ProcessEnvironment::default())?.settings)
}

/// The demo's settings with the operator's source, mapping, opt-outs, duplicates and names. Pure.
fn rehearsal(own: ServiceSettings, demo: ServiceSettings) -> ServiceSettings {
    let mut settings = demo;
    // Polls with triggers delete what they have read from the change log, which belongs to the daemon.
    settings.source = SourceSettings { changes: ChangeDetection::Poll, change_log: None, ..own.source };
    settings.lead = own.lead;
    settings.consent = own.consent;
    settings.conversica = ConversicaSettings {
        api_version: own.conversica.api_version,
        require_conversation_id: own.conversica.require_conversation_id,
        conversations: own.conversica.conversations,
        reps: own.conversica.reps,
        sms: own.conversica.sms,
        ..settings.conversica
    };
    settings.delivery.requests_per_second = REQUESTS_PER_SECOND;
    settings.safety.approve_above = 0;
    settings.safety.duplicates = own.safety.duplicates;
    settings.receive = None;
    settings.writeback = WritebackSettings { mode: WritebackMode::Off, ..settings.writeback };
    settings
}

/// The first pass, then each change in the CRM, until the demo ends.
async fn show(
    ending: DemoEnding,
    state_url: &str,
    dashboard: SocketAddr,
    sandbox: &RunningSandbox,
) -> anyhow::Result<()> {
    let report = first_pass(state_url).await?;
    say_first_pass(&report, state_url).await?;
    if let Some(lead) = sandbox.first_lead() {
        say("One of them, as it arrived:");
        let lead: serde_json::Value = serde_json::from_str(&lead)?;
        for line in serde_json::to_string_pretty(&lead)?.lines() {
            say(format_args!("  {}", printable(line)));
        }
    }
    if ending == DemoEnding::ByItself {
        return Ok(());
    }
    say_link(state_url, dashboard).await?;
    say("Change a row in your CRM, and see its update arrive here. This goes on until Ctrl-C.");
    let mut accepted = sandbox.counts().accepted;
    loop {
        tokio::time::sleep(PROGRESS_PAUSE / 5).await;
        let now = sandbox.counts().accepted;
        if now > accepted {
            say(format_args!("  → {} updates arrived", now - accepted));
            accepted = now;
        }
    }
}

/// Waits until the first poll is complete and no lead is on its way.
async fn first_pass(state_url: &str) -> anyhow::Result<StatusReport> {
    let mut said_at = Instant::now();
    loop {
        if let Some(state) = StateDb::open_state_read_only(state_url).await? {
            let report = StatusReport::of(&state, clock::now()).await?;
            state.close().await;
            let failed = ServiceStanding::from(&report).poll_failed;
            anyhow::ensure!(!failed, "the poll failed: the line above says why");
            if report.last_poll.is_some() && !is_busy(&report) {
                return Ok(report);
            }
            if said_at.elapsed() >= PROGRESS_PAUSE {
                said_at = Instant::now();
                let known: i64 = report.leads.values().sum();
                say(format_args!("  {} of {known} leads have arrived", report.leads(LeadStatus::InSync)));
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn say_first_pass(report: &StatusReport, state_url: &str) -> anyhow::Result<()> {
    let invalid = report.leads(LeadStatus::Invalid);
    say(format_args!(
        "First pass: {} leads delivered, {invalid} invalid rows left out.",
        report.leads(LeadStatus::InSync)
    ));
    for (status, count) in report.leads.iter().filter(|(_, count)| **count > 0) {
        if !["in_sync", "invalid"].contains(status) {
            say(format_args!("  {count} are {status}"));
        }
    }
    if let Some(hold) = &report.hold {
        say(format_args!("  {} wait for approval: {}", hold.leads, hold.reason));
    }
    if invalid > 0
        && let Some(state) = StateDb::open_state_read_only(state_url).await?
    {
        for lead in ListingPages::some(&state, LeadStatus::Invalid).next(INVALID_SHOWN).await? {
            say(format_args!("  lead {} is invalid: {}", printable(&lead.lead.id), printable(&why(&lead))));
        }
        state.close().await;
        if invalid > INVALID_SHOWN {
            say(format_args!("  … and {} more", invalid - INVALID_SHOWN));
        }
    }
    Ok(())
}
