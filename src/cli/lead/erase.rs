//! `lead ID --erase`: deletes everything that is stored about a person and never writes to them again; `--allow` reverses the
//! ban.

use std::time::{Duration, Instant};

use crate::cli::context::{ExitCode, confirmed, existing_state, person};
use crate::clock;
use crate::config::ServiceSettings;
use crate::console::{printable, say};
use crate::conversica::lead::LeadId;
use crate::error::SetupError;
use crate::store::erase::{self, ErasureOutcome, ErasureReach, ToldFact};
use crate::store::state_db::StateDb;
use crate::store::{instant, payload, record, tombstone};
use crate::story::{name, which};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Delete everything that is held about this person, and never write to them again; asks first
    #[arg(long, conflicts_with_all = ["json", "export"])]
    pub erase: bool,
    /// With --erase: tell Conversica to stop messaging them, and erase once it has accepted that (the daemon sends it)
    #[arg(long, requires = "erase", conflicts_with = "conversica_told")]
    pub stop_first: bool,
    /// With --erase: Conversica knows, through its support or by hand, that it must not write to them any more
    #[arg(long, requires = "erase")]
    pub conversica_told: bool,
    /// Take an erasure back: the person may be written to again, as a new person; asks first
    #[arg(long, conflicts_with_all = ["json", "export", "erase"])]
    pub allow: bool,
    /// With --erase and --allow: do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the command waits for Conversica and for requests in flight.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for other readers of an SQLite state.
const SCRUB_WITHIN: Duration = Duration::from_secs(15);

pub async fn run(args: &Args, id: &str, client: Option<&str>, settings: &ServiceSettings) -> anyhow::Result<ExitCode> {
    let Some(state) = existing_state(settings).await? else {
        return Err(
            SetupError::new("there is no state yet: nothing is held of anybody", "`once` or `run` makes it").into()
        );
    };
    let lead = find_lead(&state, id, client, settings).await?;
    if args.allow { allow(args, &state, &lead).await } else { erase(args, &state, &lead).await }
}

/// Works for unknown leads too: a row that appears later must not be sent.
async fn find_lead(
    state: &StateDb,
    id: &str,
    client: Option<&str>,
    settings: &ServiceSettings,
) -> anyhow::Result<LeadId> {
    let named = |client: &str| LeadId { id: id.to_owned(), client_id: client.to_owned() };
    match (which(state, id, client).await?, client) {
        (Ok(lead), _) => Ok(lead),
        (Err(_), Some(client)) => Ok(named(client)),
        (Err(_), None) if settings.source.client.is_none() => Ok(named("")),
        (Err(unknown), None) => {
            Err(SetupError::new(unknown.what, "with [source] client set, say whose lead it is with --client").into())
        }
    }
}

async fn erase(args: &Args, state: &StateDb, lead: &LeadId) -> anyhow::Result<ExitCode> {
    let addresses = record::addresses(&payload::contents(state, lead).await?);
    let holdings = record::holdings(state, lead, &addresses).await?;
    let reach = erase::reach_of(state, lead).await?;
    let told = if args.conversica_told { ToldFact::ByHand } else { ToldFact::AsFarAsIsKnown };
    if told == ToldFact::AsFarAsIsKnown && !(args.stop_first && reach == ErasureReach::MayWrite) {
        refuse(lead, reach)?;
    }
    let mut question = format!("{}: this is deleted for good:\n", name(lead));
    for (what, rows) in &holdings {
        question.push_str(&format!("  {rows:>6}  {what}\n"));
    }
    if holdings.is_empty() {
        question = format!("Nothing is held of {}.\n", name(lead).to_lowercase());
    }
    question.push_str("They are never written to again, whatever the CRM says. The CRM, Conversica and backups keep what they have.\n");
    if args.stop_first && reach == ErasureReach::MayWrite {
        question.push_str("First Conversica is told to stop messaging them.\n");
    }
    if !args.yes && !confirmed(&format!("{question}Erase?"), "add --yes")? {
        say("Nothing was changed.");
        return Ok(ExitCode::Decision);
    }
    let start = Instant::now();
    let removed = loop {
        let now = clock::now();
        let (reach, patience) = match erase::erase(state, lead, told, &person(), now).await? {
            ErasureOutcome::Done(removed) => break removed,
            ErasureOutcome::Refused(ErasureReach::MayWrite) if args.stop_first => {
                erase::stop_first(state, lead, now).await?;
                (ErasureReach::Stopping, PATIENCE)
            }
            ErasureOutcome::Refused(ErasureReach::Stopping) if args.stop_first => {
                // Unless Conversica was told to stop for another reason: then the tombstone is still missing.
                if tombstone::since(state, lead).await?.is_none() {
                    erase::stop_first(state, lead, now).await?;
                }
                (ErasureReach::Stopping, PATIENCE)
            }
            ErasureOutcome::Refused(reach @ ErasureReach::InFlight) => (reach, PATIENCE),
            ErasureOutcome::Refused(reach) => {
                refuse(lead, reach)?;
                (reach, PATIENCE)
            }
            ErasureOutcome::Busy => (ErasureReach::InFlight, PATIENCE),
        };
        if start.elapsed() > patience {
            return Err(still(lead, reach).into());
        }
        tokio::time::sleep(PAUSE).await;
    };
    say(format_args!("Erased: {removed} rows are gone, and {} is never written to again.", name(lead).to_lowercase()));
    say("Not held here, and still there: the row in the CRM, what was written to the CRM, Conversica, backups.");
    let start = Instant::now();
    while !erase::scrub(state).await? {
        if start.elapsed() > SCRUB_WITHIN {
            say(
                "Another program is reading the state: its write-ahead log keeps the bytes until that reader ends and the log is overwritten.",
            );
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(ExitCode::Done)
}

/// Refuses while Conversica may still write to the person: after the erasure, the program could no longer tell Conversica to
/// stop.
fn refuse(lead: &LeadId, reach: ErasureReach) -> Result<(), SetupError> {
    let (why, cure) = match reach {
        ErasureReach::Never | ErasureReach::Stopped | ErasureReach::InFlight => return Ok(()),
        ErasureReach::MayWrite => (
            "Conversica knows them, or may, and may go on writing to them",
            "add --stop-first, which tells it to stop and erases once it has accepted that; or, when they were erased there by \
             hand, --conversica-told",
        ),
        ErasureReach::Stopping => (
            "Conversica is about to be told to stop messaging them, and has not accepted that yet",
            "wait until it has (`run` sends it), or add --stop-first, which waits",
        ),
        ErasureReach::StopFailed => (
            "Conversica was told to stop messaging them, and has not accepted that",
            "look at `conversica-sync lead ID`; `retry ID` sends it again; or have them erased there by hand, and add \
             --conversica-told",
        ),
        ErasureReach::SpeaksOfThem => (
            "Conversica has posted about them, and was never told of them from here: it may go on writing to them",
            "have them erased there by hand, and add --conversica-told",
        ),
    };
    Err(SetupError::new(format!("lead {} is not erased: {why}", printable(&lead.id)), cure))
}

fn still(lead: &LeadId, reach: ErasureReach) -> SetupError {
    let id = printable(&lead.id);
    match reach {
        ErasureReach::Stopping => SetupError::new(
            format!("lead {id} is not erased yet: Conversica has not accepted yet that it is to stop messaging them"),
            "nothing else is sent to them from now on; see that `run` works and `status` shows no halt, and give the same command \
             again",
        ),
        _ => SetupError::new(
            format!("lead {id} is not erased: a request for it is on its way, and its answer is awaited"),
            "try again; if nothing runs, `once` takes up what a crash has left",
        ),
    }
}

async fn allow(args: &Args, state: &StateDb, lead: &LeadId) -> anyhow::Result<ExitCode> {
    let Some(since) = tombstone::since(state, lead).await?.map(instant) else {
        let what = format!("lead {} was not erased", printable(&lead.id));
        return Err(
            SetupError::new(what, "ids are written as for --erase; name the --client, where there is one").into()
        );
    };
    let question = format!(
        "{} was erased on {}. They may be written to again, as a new person, if their row is in the CRM. Allow it?",
        name(lead),
        since.format("%F %T UTC")
    );
    if !args.yes && !confirmed(&question, "add --yes")? {
        say("Nothing was changed.");
        return Ok(ExitCode::Decision);
    }
    erase::allow(state, lead, &person(), clock::now()).await?;
    say(format_args!("{} may be written to again. The next poll of `run` or `once` compares every row.", name(lead)));
    Ok(ExitCode::Done)
}
