//! `leads`: lists leads that wait or need the operator, and why. Reads the state only, also while a daemon runs.

use std::fmt::Write as _;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::cli::context::{ExitCode, readable_state, settings};
use crate::cli::table;
use crate::console::{SCHEMA_VERSION, printable, say};
use crate::conversica::token::TokenVeil;
use crate::rules::lead_status::LeadStatus;
use crate::store::lead;
use crate::store::listing::{self, ListedLead, ListingCounts, ListingPages};
use crate::store::state_db::StateDb;
use crate::story::entry::{StoryEntry, why};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leads of that status, and of no other; may be repeated [default: all but in_sync, gone, assumed and suppressed]
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status_parser())]
    pub status: Vec<LeadStatus>,
    /// Leads with this in the reason they are held or invalid for, or in Conversica's last answer (words of it, its
    /// status, its class)
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How many leads to list [default: 50, or all with --json]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Leads listed for people without --limit.
const LIMIT: u32 = 50;

fn status_parser() -> impl TypedValueParser<Value = LeadStatus> {
    PossibleValuesParser::new(LeadStatus::ALL.map(LeadStatus::name))
        .try_map(|name| LeadStatus::from_name(&name).ok_or("there is no such status"))
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let Some(state) = readable_state(&loaded.settings).await? else {
        say(if args.json {
            "{\"leads\":[],\"total\":0}"
        } else {
            "There is no state yet: nothing has been read. `conversica-sync plan` shows what a first pass would do."
        });
        return Ok(ExitCode::Done);
    };
    let veil = TokenVeil::over(loaded.settings.conversica.test_lead_token.as_ref());
    let wanted = LeadsQuery::new(&state, &args, veil).await?;
    if args.json {
        print_json(&state, &wanted).await?
    } else {
        print_text(&state, &wanted).await?
    };
    Ok(ExitCode::Done)
}

/// The query.
struct LeadsQuery<'a> {
    /// Each with its number of leads, in the order of the list.
    statuses: Vec<(LeadStatus, i64)>,
    /// Leads in the state, of any status.
    all: i64,
    reason: Option<&'a str>,
    limit: Option<i64>,
    veil: TokenVeil,
}

impl<'a> LeadsQuery<'a> {
    async fn new(state: &StateDb, args: &'a Args, veil: TokenVeil) -> Result<Self, sqlx::Error> {
        let counts = lead::counts(state).await?;
        let by_default = |status: LeadStatus| !status.is_settled();
        let is_wanted = |status: LeadStatus| {
            if args.status.is_empty() { by_default(status) } else { args.status.contains(&status) }
        };
        Ok(Self {
            statuses: LeadStatus::ALL.into_iter().filter(|s| is_wanted(*s)).map(|s| (s, counts[&s])).collect(),
            all: counts.values().sum(),
            reason: args.reason.as_deref(),
            limit: match args.limit {
                None if args.json => None,
                limit => Some(limit.unwrap_or(LIMIT).into()),
            },
            veil,
        })
    }

    /// How many leads match, listed or not.
    async fn total(&self, state: &StateDb) -> Result<i64, sqlx::Error> {
        let Some(reason) = self.reason else { return Ok(self.statuses.iter().map(|(_, count)| count).sum()) };
        let mut total = 0;
        for (status, _) in &self.statuses {
            total += listing::count(state, *status, reason).await?;
        }
        Ok(total)
    }

    /// Passes the leads on, up to the limit; returns how many.
    async fn each(
        &self,
        state: &StateDb,
        mut take: impl FnMut(ListedLead) -> anyhow::Result<()>,
    ) -> anyhow::Result<i64> {
        let mut listed = 0;
        for (status, count) in &self.statuses {
            let left = |listed: i64| self.limit.map_or(i64::MAX, |limit| limit - listed);
            let mut pages = ListingPages::new(
                state,
                *status,
                self.reason,
                ListingCounts { of_status: *count, all: self.all, wanted: left(listed) },
            );
            loop {
                let page = pages.next(left(listed)).await?;
                if page.is_empty() {
                    break;
                }
                for mut lead in page {
                    // Conversica's text may quote the sent lead.
                    if let Some(detail) = lead.last_outcome.as_mut().and_then(|outcome| outcome.detail.as_mut()) {
                        *detail = self.veil.text(detail).into_owned();
                    }
                    take(lead)?;
                    listed += 1;
                }
            }
        }
        Ok(listed)
    }
}

/// Writes while it reads. A document with its closing bracket is complete.
async fn print_json(state: &StateDb, wanted: &LeadsQuery<'_>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    match write_json(&mut out, state, wanted).await {
        // The reader of the output may close it early.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

async fn write_json(out: &mut impl Write, state: &StateDb, wanted: &LeadsQuery<'_>) -> anyhow::Result<()> {
    let mut separator = "\n";
    write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\"leads\":[")?;
    let listed = wanted.each(state, |lead| {
        write!(out, "{separator}")?;
        separator = ",\n";
        Ok(serde_json::to_writer(&mut *out, &StoryEntry::of(&lead))?)
    });
    let listed = listed.await?;
    let total = if wanted.limit.is_some_and(|limit| listed >= limit) { wanted.total(state).await? } else { listed };
    writeln!(out, "],\"total\":{}}}", total.max(listed))?;
    Ok(out.flush()?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(ErrorKind::BrokenPipe)
    })
}

async fn print_text(state: &StateDb, wanted: &LeadsQuery<'_>) -> anyhow::Result<()> {
    let mut leads = Vec::new();
    let listed = wanted
        .each(state, |lead| {
            leads.push(lead);
            Ok(())
        })
        .await?;
    if leads.is_empty() && wanted.limit != Some(0) {
        say(if wanted.reason.is_some() { "No lead matches." } else { "No lead has that status." });
        return Ok(());
    }
    let total = wanted.total(state).await?.max(listed);
    say(text(&leads, total));
    Ok(())
}

fn text(leads: &[ListedLead], total: i64) -> String {
    let clients = leads.iter().any(|lead| !lead.lead.client_id.is_empty());
    let columns = ["id", "client", "status", "why", "since"];
    let chosen = |cells: [String; 5]| cells.into_iter().enumerate().filter(|(at, _)| clients || *at != 1).map(|c| c.1);
    let mut list = table::plain(&[]);
    list.set_header(chosen(columns.map(str::to_owned)));
    for lead in leads {
        list.add_row(chosen([
            printable(&lead.lead.id).into_owned(),
            printable(&lead.lead.client_id).into_owned(),
            lead.status.name().to_owned(),
            printable(&why(lead)).into_owned(),
            lead.since.format("%F %T UTC").to_string(),
        ]));
    }
    let mut text = list.trim_fmt();
    let more = total - i64::try_from(leads.len()).unwrap_or(i64::MAX);
    if more > 0 {
        let _ = write!(text, "\n… and {more} more (--limit N, or --json for all)");
    }
    let _ = write!(text, "\nOne lead's whole story: conversica-sync lead ID");
    text
}
