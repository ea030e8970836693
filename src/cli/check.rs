//! `check`: is everything ready? Looks at settings, source, mapping, state, write-back and endpoint, one line each; sends nothing and
//! never shows credentials to anybody, unless a test lead is asked for by name.

mod source;
mod writeback;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;

use crate::cli::{Exit, failure, settings_unsaid};
use crate::clock;
use crate::config::{Loaded, Settings};
use crate::console::{printable, say};
use crate::conversica::outcome::{Class, HaltReason};
use crate::crm::Crm;
use crate::crm::changes::log::Backlog;
use crate::crm::changes::standing::{self, Standing};
use crate::crm::read::line::Line;
use crate::crm::read::{Reading, Scope};
use crate::daemon;
use crate::db::{self, Db};
use crate::error::SetupError;
use crate::sync::test_lead::{self, Sent};

/// Rows that are mapped as a sample.
const SAMPLE_ROWS: usize = 1000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one point of the list.
enum Finding {
    Good(String),
    Doubtful(String),
    Bad(String),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// When all is well, also send one made-up lead with the Test Lead Token, and show what Conversica says of it
    #[arg(long)]
    pub send_test_lead: bool,
    /// Address of that lead; yours, to see what Conversica's assistant writes
    #[arg(long, value_name = "ADDRESS", default_value = test_lead::EMAIL, requires = "send_test_lead")]
    pub test_email: String,
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings_unsaid(file)?;
    let mut bad = 0;
    let mut tell = |subject: &str, findings: Vec<Finding>| {
        for finding in findings {
            let (mark, text) = match finding {
                Finding::Good(text) => ("ok  ", text),
                Finding::Doubtful(text) => ("look", text),
                Finding::Bad(text) => {
                    bad += 1;
                    ("BAD ", text)
                }
            };
            say(format_args!("{mark}  {subject:<9} {text}"));
        }
    };
    tell("settings", of_settings(&loaded));
    match Crm::open(&loaded.settings).await {
        Ok(crm) => {
            tell("source", source::of_source(&crm).await.unwrap_or_else(bad_finding));
            tell("triggers", of_triggers(&crm).await.unwrap_or_else(bad_finding));
            tell("mapping", of_mapping(&crm).await.unwrap_or_else(bad_finding));
        }
        Err(error) => tell("source", bad_finding(error)),
    }
    tell("state", of_state(&loaded.settings).await.unwrap_or_else(bad_finding));
    tell("writeback", writeback::of_writeback(&loaded.settings).await.unwrap_or_else(bad_finding));
    tell("endpoint", of_endpoint(&loaded.settings).await.unwrap_or_else(bad_finding));
    if bad > 0 {
        return Err(SetupError::new(
            format!("{bad} of the points above must be mended before anything can be sent"),
            "mend them in the order in which they stand, then run `conversica-sync check` again",
        )
        .into());
    }
    if args.send_test_lead {
        return send_test_lead(&loaded.settings, &args.test_email).await;
    }
    say("\nReady. Next: conversica-sync plan");
    Ok(Exit::Done)
}

/// The one thing here that sends, and only when asked for by name.
async fn send_test_lead(settings: &Settings, email: &str) -> anyhow::Result<Exit> {
    if settings.conversica.test_lead_token.is_none() {
        // Before a state is made for it.
        return Err(SetupError::new(
            "[conversica] test_lead_token is not set, so no test lead can be sent",
            "set test_lead_token_file to the Test Lead Token that your Conversica account manager gave you",
        )
        .into());
    }
    let state = daemon::open_state(settings, "check --send-test-lead").await?;
    let exit = match test_lead::send(&state.db, state.company, settings, email, clock::now()).await? {
        Sent::Halted(halt) => {
            let since = halt.since.format("%F %T UTC");
            say(format_args!(
                "BAD   test lead halted ({}) since {since}: nothing is sent. cure: {}",
                halt.reason.name(),
                halt.reason.cure()
            ));
            Exit::Decision
        }
        Sent::Answered(attempt) => {
            let status = attempt.http_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
            let said = attempt.detail.as_deref().map(|detail| format!(": {}", printable(detail))).unwrap_or_default();
            let class = attempt.class;
            let (mark, exit) = match class {
                Class::Accepted => ("ok  ", Exit::Done),
                Class::Halting => ("BAD ", Exit::Decision),
                Class::Rejected | Class::Transient | Class::Ambiguous => ("BAD ", Exit::Attention),
            };
            say(format_args!("{mark}  test lead {} ({status}){said}", class.name()));
            let remedy = attempt.halt.map_or(class.remedy(), HaltReason::cure);
            if class == Class::Accepted {
                say("\nReady. Conversica should show the lead conversica-sync-test-lead. Next: conversica-sync plan");
            } else {
                say(format_args!("      cure: {remedy}"));
            }
            exit
        }
    };
    state.db.close().await;
    Ok(exit)
}

fn bad_finding(error: anyhow::Error) -> Vec<Finding> {
    vec![Finding::Bad(failure(&error).1)]
}

fn of_settings(loaded: &Loaded) -> Vec<Finding> {
    let place = loaded.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let mut findings = vec![Finding::Good(format!("{place} is complete and consistent"))];
    findings.extend(loaded.warnings.iter().cloned().map(Finding::Doubtful));
    findings
}

/// A log that nobody drains only grows.
async fn unused_triggers(crm: &Crm) -> anyhow::Result<Vec<Finding>> {
    // Most sources have none, and many cannot have any: that is no finding.
    let Ok(design) = standing::design(&crm.db, &crm.source).await else { return Ok(Vec::new()) };
    let unused = match standing::look(&crm.db, &design).await? {
        Standing::Complete { .. } | Standing::Incomplete(_) => true,
        Standing::Absent | Standing::Foreign => false,
    };
    let log = design.log.quoted();
    let found = format!(
        "there are triggers that fill {log}, which nobody drains: write [source] changes = \"triggers\", or run \
         `conversica-sync triggers remove`"
    );
    Ok(unused.then_some(Finding::Doubtful(found)).into_iter().collect())
}

/// Where changes are found by polling: only whether triggers were forgotten.
async fn of_triggers(crm: &Crm) -> anyhow::Result<Vec<Finding>> {
    let Some(log) = &crm.log else { return unused_triggers(crm).await };
    let standing = log.look().await?;
    let silent = standing::is_silent(&standing, &log.design);
    standing.complete(&log.design)?;
    log.try_writing().await.map_err(|error| standing::unwritable(&log.design, &error))?;
    let Backlog { rows, oldest_seconds } = log.backlog().await?;
    let name = log.design.log.quoted();
    let mut findings = vec![if rows == 0 {
        Finding::Good(format!("installed; the change log {name} is empty"))
    } else {
        let oldest = Duration::from_secs(u64::try_from(oldest_seconds).unwrap_or(0));
        Finding::Good(format!("installed; {rows} row(s) wait in the change log {name}, the oldest for {oldest:?}"))
    }];
    if silent {
        findings.push(Finding::Doubtful("installed with --no-notify: changes are found at the next poll".to_owned()));
    }
    findings.extend(standing::doubts(&crm.db, &log.design).await?.into_iter().map(Finding::Doubtful));
    Ok(findings)
}

async fn of_mapping(crm: &Crm) -> anyhow::Result<Vec<Finding>> {
    let fitting = crm.fitting().await?;
    let mut batches = Reading::new(crm, &fitting, Scope::All).sample(SAMPLE_ROWS).start(&crm.db);
    let (mut rows, mut valid) = (0, 0);
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(batch) = batches.next().await? {
        for row in batch.lines().map(Line::row) {
            rows += 1;
            if row.key.is_none() {
                return Err(crm.missing_keys().await?.into());
            }
            match crm.mapping.map(&row).desired {
                Ok(_) => valid += 1,
                Err(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
            }
        }
    }
    let text = format!("{valid} of {rows} sample rows make a valid lead");
    let mut findings = match (rows, valid) {
        (0, _) => vec![Finding::Doubtful("the source has no rows".to_owned())],
        (_, 0) => vec![Finding::Bad(text)],
        _ => vec![Finding::Good(text)],
    };
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    findings.extend(reasons.into_iter().take(5).map(|(why, count)| Finding::Doubtful(format!("{count} × {why}"))));
    Ok(findings)
}

/// Opens what is there, and otherwise tries whether it could be made, without making it.
async fn of_state(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let url = settings.state.url.expose_secret();
    let place = db::display_url(url);
    if let Some(state) = Db::open_state_read_only(url).await? {
        state.close().await;
        return Ok(vec![Finding::Good(format!("{place} is there and can be read"))]);
    }
    if let Some(path) = db::sqlite_path(url) {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tempfile::tempfile_in(directory).map_err(|error| {
            SetupError::new(
                format!("the state cannot be made in {}: {error}", directory.display()),
                "make that directory and give it to the user that runs conversica-sync, or set [state] url",
            )
        })?;
    }
    Ok(vec![Finding::Good(format!("{place} can be made; there is none yet"))])
}

/// Connects, and for HTTPS shakes hands; not a byte of HTTP is sent, for even a request without credentials may count as a
/// failed log-in.
async fn of_endpoint(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let endpoint = &settings.conversica.endpoint;
    let host = endpoint.host_str().context("the endpoint has a host")?;
    let port = endpoint.port_or_known_default().context("the endpoint has a port")?;
    let cure = "check the network, the firewall and [conversica] endpoint";
    let unreachable = |what: String| SetupError::new(what, cure);
    let address = (host.trim_matches(['[', ']']), port);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(format!("{host} port {port} did not answer within ten seconds")))?
        .map_err(|error| unreachable(format!("{host} port {port} cannot be reached: {error}")))?;
    if endpoint.scheme() == "http" {
        return Ok(vec![Finding::Good(format!("{host} port {port} answers (plain HTTP, on this machine)"))]);
    }
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).context("the endpoint's host name")?;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(rustls_platform_verifier::Verifier::new(provider)?))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream))
        .await
        .map_err(|_| unreachable(format!("{host} did not finish the TLS handshake within ten seconds")))?
        .map_err(|error| unreachable(format!("TLS with {host} failed: {error}")))?;
    Ok(vec![Finding::Good(format!("{host} port {port} answers, its certificate is valid; no credentials were sent"))])
}
