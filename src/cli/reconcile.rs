//! `reconcile`: one verdict a lead, for people as a table or a page, for programs as JSON or CSV.

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

use crate::cli::context::{Exit, existing_state, readable_state, settings};
use crate::cli::output::Output;
use crate::cli::{help, progress};
use crate::clock;
use crate::config::{Settings, duration};
use crate::conversica::token::Veil;
use crate::reconcile::report::Report;
use crate::reconcile::{self, Line, Options};
use crate::rules::verdict::Verdict;
use crate::send::tally::Tally;
use crate::source::crm::Crm;
use crate::store::outcome;
use crate::store::state_db::StateDb;

#[derive(Debug, clap::Args)]
#[command(after_help = help::RECONCILE)]
pub struct Args {
    /// What is written: a table for people, a page for a browser, or every lead that does not match
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Where it is written to, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Put back in the queue: leads never sent and stale ones are read anew by the next poll, ambiguous ones sent again
    #[arg(long)]
    pub repair: bool,
    /// How long after it was accepted a lead ought to have been heard of; "never" [default: 7d, or never without a receiver]
    #[arg(long, value_name = "DURATION", value_parser = parse_patience)]
    pub unconfirmed_after: Option<Patience>,
    /// Verdicts that are no difference: counted, but neither listed nor a reason for exit code 3
    #[arg(long, value_name = "VERDICT", value_delimiter = ',', value_enum)]
    pub ignore: Vec<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
    Html,
}

/// How long nothing may be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    For(Duration),
    Endless,
}

const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Of which the page has a chart.
const CHART: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn parse_patience(text: &str) -> Result<Patience, String> {
    if text == "never" {
        return Ok(Patience::Endless);
    }
    duration::parse(text).map(Patience::For).map_err(|error| error.to_string())
}

/// Before when a lead must have been taken to be missed. Without a receiver nothing is heard of anybody, unless asked for.
fn silent_since(asked: Option<Patience>, settings: &Settings, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let by_default = if settings.receive.is_some() { Patience::For(PATIENCE) } else { Patience::Endless };
    match asked.unwrap_or(by_default) {
        Patience::For(patience) => Some(now - patience),
        Patience::Endless => None,
    }
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<Exit> {
    let loaded = settings(file)?;
    let settings = &loaded.settings;
    let crm = Crm::open(settings).await?;
    let now = clock::now();
    let state = open_state(settings, args.repair).await?;
    let options = Options { silent_since: silent_since(args.unconfirmed_after, settings, now), repair: args.repair };
    let mut out = Output::open(args.output.as_deref())?;
    let tally = Arc::new(Tally::default());
    let bar = AbortOnDropHandle::new(tokio::spawn(progress::reading(state.clone(), tally.clone())));
    let mut lines = Lines::begin(args.format, out.writer(), now)?;
    let veil = Veil::over(settings.conversica.test_lead_token.as_ref());
    let report = reconcile::reconcile(&crm, &state, options, &tally, now, |mut line| {
        // Conversica's words may quote what it was sent.
        line.detail = veil.text(&line.detail).into_owned();
        if args.ignore.contains(&line.verdict) { Ok(()) } else { lines.add(&line) }
    })
    .await?;
    lines.end(&report)?;
    drop(bar);
    match args.format {
        Format::Table => write!(out.writer(), "{}", text::text(&report, &args.ignore))?,
        Format::Html => {
            let days = outcome::by_stretch(&state, now - CHART, 24 * 60).await?;
            write!(out.writer(), "{}", page::page(&report, &args.ignore, &days)?)?;
        }
        Format::Json | Format::Csv => {}
    }
    out.finish()?;
    Ok(if report.differences(&args.ignore) > 0 { Exit::Attention } else { Exit::Done })
}

/// To look at, unless something is to be repaired in it; an empty one where there is none yet.
async fn open_state(settings: &Settings, repair: bool) -> anyhow::Result<StateDb> {
    let found = match repair {
        true => existing_state(settings).await?,
        false => readable_state(settings).await?,
    };
    match found {
        Some(state) => Ok(state),
        None => Ok(StateDb::open_state_in_memory().await?),
    }
}

/// What is written lead by lead: ten million of them need no memory.
enum Lines<'a> {
    None,
    Json(&'a mut (dyn Write + Send), &'static str),
    Csv(Box<csv::Writer<&'a mut (dyn Write + Send)>>),
}

impl<'a> Lines<'a> {
    fn begin(format: Format, out: &'a mut (dyn Write + Send), now: DateTime<Utc>) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Table | Format::Html => Lines::None,
            Format::Json => {
                write!(out, "{{\"generated_at\":{},\"leads\":[", serde_json::to_string(&now)?)?;
                Lines::Json(out, "\n")
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(["id", "client_id", "verdict", "detail"])?;
                Lines::Csv(Box::new(writer))
            }
        })
    }

    fn add(&mut self, line: &Line) -> anyhow::Result<()> {
        match self {
            Lines::None => Ok(()),
            Lines::Json(out, separator) => {
                write!(out, "{separator}")?;
                *separator = ",\n";
                serde_json::to_writer(&mut *out, line).context("writing the report")
            }
            Lines::Csv(writer) => {
                let record = [&line.id, &line.client_id, line.verdict.name(), &line.detail];
                writer.write_record(record).context("writing the report")
            }
        }
    }

    /// A document that closes is whole: errors come before.
    fn end(self, report: &Report) -> anyhow::Result<()> {
        match self {
            Lines::None => {}
            Lines::Json(out, _) => {
                let rest = serde_json::to_string(&serde_json::json!({
                    "totals": report.totals,
                    "groups": report.groups,
                    "silent_since": report.silent_since,
                    "erased": report.erased,
                    "repaired": report.repaired,
                }))?;
                writeln!(out, "],{}", &rest[1..])?;
            }
            Lines::Csv(mut writer) => writer.flush()?,
        }
        Ok(())
    }
}
