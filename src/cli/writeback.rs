//! `writeback`: the tables that the write-back fills, and the events that the CRM rejects.

use std::path::Path;

use secrecy::ExposeSecret;
use serde_json::json;

use crate::cli::context::{ExitCode, existing_state, readable_state, settings};
use crate::cli::{help, table};
use crate::clock;
use crate::config::{ServiceSettings, WritebackMode};
use crate::console::{printable, say};
use crate::error::SetupError;
use crate::source::writeback::ddl::WritebackDesign;
use crate::store::writeback::{self as queue, StoppedEvent};

#[derive(Debug, clap::Subcommand)]
pub enum WritebackCommand {
    /// Show the script that makes the tables in the CRM database, to run it yourself: `… | psql -v ON_ERROR_STOP=1 URL`,
    /// `… | sqlite3 -bail FILE`. They are made at first use where the role may
    #[command(after_help = help::WRITEBACK_PRINT)]
    Print {
        /// PostgreSQL: the role that writes [default: the user of writeback.url, or of source.url]
        #[arg(long)]
        role: Option<String>,
    },
    /// List what the CRM database has refused again and again, and why
    #[command(after_help = help::WRITEBACK_STOPPED)]
    Stopped {
        /// One JSON document on standard output
        #[arg(long)]
        json: bool,
    },
    /// Put what was stopped back in the queue
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "event", "all"]))]
    #[command(after_help = help::WRITEBACK_RETRY)]
    Retry {
        /// Ids of the leads
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Number of an event, as `writeback stopped` shows it; may be repeated
        #[arg(long, value_name = "NUMBER")]
        event: Vec<i64>,
        /// All that is stopped
        #[arg(long, conflicts_with_all = ["ids", "event"])]
        all: bool,
    },
}

pub async fn run(command: WritebackCommand, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = settings(file)?.settings;
    match command {
        WritebackCommand::Print { role } => print(&settings, role),
        WritebackCommand::Stopped { json } => {
            let found = stopped(&settings).await?;
            if json { say_as_json(&found) } else { say(text(&found)) }
        }
        WritebackCommand::Retry { ids, event, all } => {
            let which = (!all).then_some((ids.as_slice(), event.as_slice()));
            let retried = match existing_state(&settings).await? {
                Some(state) => queue::retry(&state, which, clock::now()).await?,
                None => 0,
            };
            if retried == 0 && !all {
                return Err(SetupError::new(
                    "none of these events is stopped, so nothing was changed",
                    "`conversica-sync writeback stopped` lists the events that are, with their leads and numbers",
                )
                .into());
            }
            say(format_args!("{} back in the queue.", events(retried)));
        }
    }
    Ok(ExitCode::Done)
}

fn print(settings: &ServiceSettings, role: Option<String>) {
    let design = WritebackDesign::of(settings);
    if settings.writeback.mode == WritebackMode::Off {
        say("-- [writeback] mode is \"off\": nothing is written, and there is nothing to make");
        return;
    }
    let url = settings.writeback.url.as_ref().unwrap_or(&settings.source.url).expose_secret();
    let role =
        role.or_else(|| user_of(url)).filter(|_| design.engine == crate::source::dialect::SourceDialect::Postgres);
    let names: Vec<&str> = design.tables.iter().map(|table| table.name).collect();
    if design.engine == crate::source::dialect::SourceDialect::Postgres {
        say("-- Where a publication is `for all tables` or of their schema, make these on every subscriber first.");
    }
    say(format_args!("-- conversica-sync: {}\n{}", names.join(", "), design.script(role.as_deref()).trim_end()));
}

/// The user in a URL; a default user from the machine's own settings is unknown here.
fn user_of(url: &str) -> Option<String> {
    let options: sqlx::postgres::PgConnectOptions = url.parse().ok()?;
    let named = url::Url::parse(url).ok()?;
    let parameter = named.query_pairs().any(|(name, _)| name == "user");
    (!named.username().is_empty() || parameter).then(|| options.get_username().to_owned())
}

async fn stopped(settings: &ServiceSettings) -> anyhow::Result<Vec<StoppedEvent>> {
    Ok(match readable_state(settings).await? {
        Some(state) => queue::stopped(&state, i64::MAX).await?,
        None => Vec::new(),
    })
}

fn say_as_json(found: &[StoppedEvent]) {
    let list: Vec<_> = found
        .iter()
        .map(|stopped| {
            json!({
                "event": stopped.seq, "id": stopped.lead.id, "client_id": stopped.lead.client_id,
                "kind": stopped.kind.name(), "attempts": stopped.attempts, "since": stopped.since,
                "detail": stopped.detail, "behind": stopped.behind,
            })
        })
        .collect();
    say(json!({"stopped": list, "total": found.len()}));
}

fn text(found: &[StoppedEvent]) -> String {
    if found.is_empty() {
        return "Nothing is stopped.".to_owned();
    }
    let mut list = table::plain(&["event", "id", "client", "kind", "tries", "behind", "since", "why"]);
    for stopped in found {
        list.add_row([
            stopped.seq.to_string(),
            printable(&stopped.lead.id).into_owned(),
            printable(&stopped.lead.client_id).into_owned(),
            stopped.kind.name().to_owned(),
            stopped.attempts.to_string(),
            stopped.behind.to_string(),
            stopped.since.format("%F %T UTC").to_string(),
            printable(stopped.detail.as_deref().unwrap_or_default()).into_owned(),
        ]);
    }
    format!("{}\nAfter fixing it: conversica-sync writeback retry ID… (or --event NUMBER, or --all)", list.trim_fmt())
}

fn events(number: u64) -> String {
    if number == 1 { "1 event".to_owned() } else { format!("{number} events") }
}
