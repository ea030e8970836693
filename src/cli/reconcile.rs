//! `reconcile`: one verdict per lead, as a table or a page for people, as JSON or CSV for programs.

mod page;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::context::{ExitCode, existing_state, readable_state, settings};
use crate::cli::output::OutputTarget;
use crate::cli::{help, progress};
use crate::clock;
use crate::config::{ServiceSettings, duration};
use crate::console::{SCHEMA_VERSION, spreadsheet_cell};
use crate::conversica::token::TokenVeil;
use crate::reconcile::report::ReconcileReport;
use crate::reconcile::{self, LeadDifference, ReconcileOptions};
use crate::rules::verdict::LeadVerdict;
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::store::outcome;
use crate::store::state_db::StateDb;

#[derive(Debug, clap::Args)]
#[command(after_help = help::RECONCILE)]
pub struct Args {
    /// What is written: a table for people, a page for a browser, or every lead that does not match
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
    /// Where it is written to, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Requeue: the next poll reads leads never sent and stale ones anew, ambiguous ones are sent again
    #[arg(long)]
    pub repair: bool,
    /// How long after it was accepted a lead ought to have been heard of; "never" [default: 7d, or never without a receiver]
    #[arg(long, value_name = "DURATION", value_parser = parse_patience)]
    pub unconfirmed_after: Option<SilenceLimit>,
    /// Verdicts that are no difference: counted, but neither listed nor a reason for exit code 3
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_enum)]
    pub ignore: Vec<LeadVerdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Table,
    Json,
    Csv,
    Html,
}

/// How long Conversica may stay silent about a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SilenceLimit {
    For(Duration),
    Endless,
}

const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The period of the page's chart.
const CHART: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn parse_patience(text: &str) -> Result<SilenceLimit, String> {
    if text == "never" {
        return Ok(SilenceLimit::Endless);
    }
    duration::parse(text).map(SilenceLimit::For).map_err(|error| error.to_string())
}

/// A lead accepted before this time should have been heard of. Without a receiver no post arrives, so the default is no limit.
pub(super) fn silent_since(
    asked: Option<SilenceLimit>,
    settings: &ServiceSettings,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let by_default = if settings.receive.is_some() { SilenceLimit::For(PATIENCE) } else { SilenceLimit::Endless };
    match asked.unwrap_or(by_default) {
        SilenceLimit::For(patience) => Some(now - patience),
        SilenceLimit::Endless => None,
    }
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let settings = &loaded.settings;
    let crm = ConnectedCrm::open(settings).await?;
    let now = clock::now();
    let found = if args.repair { existing_state(settings).await? } else { readable_state(settings).await? };
    let state = or_empty(found).await?;
    let options = ReconcileOptions {
        silent_since: silent_since(args.unconfirmed_after, settings, now),
        repair: args.repair,
        now,
    };
    let mut out = OutputTarget::open(args.output.as_deref())?;
    let tally = Arc::new(RunTally::default());
    let bar = AbortOnDropHandle::new(tokio::spawn(progress::reading(state.clone(), tally.clone())));
    let mut lines = LineWriter::begin(args.format, out.writer(), now)?;
    let veil = TokenVeil::over(settings.conversica.test_lead_token.as_ref());
    let report = reconcile::reconcile(&crm, &state, options, &tally, |mut line| {
        // Conversica's text may quote the sent lead.
        line.detail = veil.text(&line.detail).into_owned();
        if args.ignore.contains(&line.verdict) { Ok(()) } else { lines.add(&line) }
    })
    .await?;
    lines.end(&report)?;
    drop(bar);
    match args.format {
        ReportFormat::Table => write!(out.writer(), "{}", text::text(&report, &args.ignore))?,
        ReportFormat::Html => {
            let days = outcome::by_stretch(&state, now - CHART, 24 * 60).await?;
            write!(out.writer(), "{}", page::page(&report, &args.ignore, &days)?)?;
        }
        ReportFormat::Json | ReportFormat::Csv => {}
    }
    out.finish()?;
    Ok(if report.differences(&args.ignore) > 0 { ExitCode::Attention } else { ExitCode::Done })
}

/// An empty state where none exists yet.
async fn or_empty(found: Option<StateDb>) -> anyhow::Result<StateDb> {
    match found {
        Some(state) => Ok(state),
        None => Ok(StateDb::open_state_in_memory().await?),
    }
}

/// Writes lead by lead: ten million of them need no memory.
enum LineWriter<'a> {
    None,
    Json(&'a mut (dyn Write + Send), &'static str),
    Csv(Box<csv::Writer<&'a mut (dyn Write + Send)>>),
}

impl<'a> LineWriter<'a> {
    fn begin(format: ReportFormat, out: &'a mut (dyn Write + Send), now: DateTime<Utc>) -> anyhow::Result<Self> {
        Ok(match format {
            ReportFormat::Table | ReportFormat::Html => LineWriter::None,
            ReportFormat::Json => {
                let now = serde_json::to_string(&now)?;
                write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\"generated_at\":{now},\"leads\":[")?;
                LineWriter::Json(out, "\n")
            }
            ReportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(["id", "client_id", "verdict", "detail"])?;
                LineWriter::Csv(Box::new(writer))
            }
        })
    }

    fn add(&mut self, line: &LeadDifference) -> anyhow::Result<()> {
        match self {
            LineWriter::None => Ok(()),
            LineWriter::Json(out, separator) => {
                write!(out, "{separator}")?;
                *separator = ",\n";
                serde_json::to_writer(&mut *out, line).context("writing the report")
            }
            LineWriter::Csv(writer) => {
                let record = [&line.id, &line.client_id, line.verdict.name(), &line.detail];
                writer
                    .write_record(record.map(spreadsheet_cell).each_ref().map(|cell| cell.as_bytes()))
                    .context("writing the report")
            }
        }
    }

    /// Errors come before the end, so a document with its closing bracket is complete.
    fn end(self, report: &ReconcileReport) -> anyhow::Result<()> {
        match self {
            LineWriter::None => {}
            LineWriter::Json(out, _) => {
                let rest = serde_json::to_string(&serde_json::json!({
                    "totals": report.totals,
                    "groups": report.groups,
                    "silent_since": report.silent_since,
                    "erased": report.erased,
                    "repaired": report.repaired,
                }))?;
                writeln!(out, "],{}", &rest[1..])?;
            }
            LineWriter::Csv(mut writer) => writer.flush()?,
        }
        Ok(())
    }
}
