//! `once`: one pass, with a progress bar on a terminal and a summary at the end.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use crate::cli::context::{ExitCode, settings};
use crate::cli::{progress, signal, status, table};
use crate::clock;
use crate::config::duration;
use crate::console::say;
use crate::conversica::outcome::OutcomeClass;
use crate::daemon::open_state::open_state;
use crate::pulse::LoopPulse;
use crate::receive;
use crate::receive::signals::{LoopSignals, ReceiveLoop};
use crate::send::pass::{self, PassOptions, PassOutcome};
use crate::send::reach::PollReach;
use crate::send::tally::RunTally;
use crate::source::crm::ConnectedCrm;
use crate::status::StatusReport;
use crate::store::due;
use crate::store::file_lock::StateLoss;
use crate::store::state_db::StateDb;
use crate::wording::counted;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to go on waiting for retries when nothing else is due
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub max_wait: Duration,
    /// Compare every row, even if a full compare is not due
    #[arg(long)]
    pub full: bool,
    /// One JSON document on standard output: the status document, and what this pass did under `pass`
    #[arg(long)]
    pub json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

pub async fn run(args: Args, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = settings(file)?;
    let stop = signal::stop_on_signal()?;
    // The source first: if it does not fit, no state is created.
    let crm = ConnectedCrm::open(&loaded.settings).await?;
    let tally = Arc::new(RunTally::default());
    let mut state = open_state(&loaded.settings, "once", tally.instance).await?;
    let reach = if args.full { PollReach::Everything } else { PollReach::AsDue };
    let bar = tokio::spawn(show_progress(state.db.clone(), tally.clone()));
    // Posts from before this pass count in it. The pass itself reports a failure of the state.
    let _ = receive::apply::apply_waiting(&loaded.settings, &state.db).await;
    // No lead is sent while a post about it waits to be applied, and there may be no `run` to apply it.
    let taking_in = receive::apply::run(
        Arc::new(loaded.settings.clone()),
        state.db.clone(),
        ReceiveLoop {
            signals: LoopSignals::default(),
            pulse: Arc::new(LoopPulse::new(Instant::now())),
            stop: stop.clone(),
        },
    );
    let taking_in = AbortOnDropHandle::new(tokio::spawn(taking_in));
    let options = PassOptions { reach, max_wait: args.max_wait, stop: &stop };
    let pass = pass::pass(&crm, &state.db, &loaded.settings, tally, options);
    // A pass that has lost its state starts nothing more, and waits for the requests in flight.
    let stop_at_loss = async {
        let loss = state.file.lost().await;
        stop.cancel();
        loss
    };
    let (passed, loss) = tokio::select! {
        ended = pass_unless_lost(pass, stop_at_loss) => ended,
        never = state.writer.keep_on(&state.db) => match never {},
    };
    state.writer.leave().await;
    bar.abort();
    drop(taking_in);
    if let Some(loss) = loss {
        return Err(anyhow::Error::from(loss).context(format!("nothing more is sent; cure: {}", loss.cure())));
    }
    let passed = passed?;
    let report = StatusReport::of(&state.db, clock::now()).await?;
    if args.json {
        let mut document = serde_json::json!(report);
        document["pass"] = serde_json::json!(passed);
        say(format_args!("{document:#}"));
    } else {
        say(format_args!("{}\n{}", summary(&passed), status::text(&report).trim_end()));
    }
    if passed.interrupted {
        anyhow::bail!("interrupted; what was not sent stays due");
    }
    // A pause needs a person only if it has kept this pass from sending anything.
    Ok(if passed.nothing_delivered { ExitCode::Decision } else { report.need_besides_pause().into() })
}

/// Runs the pass to its end; returns also whether the state was lost meanwhile.
async fn pass_unless_lost<T>(
    pass: impl Future<Output = T>,
    loss: impl Future<Output = StateLoss>,
) -> (T, Option<StateLoss>) {
    let (mut pass, mut loss) = (std::pin::pin!(pass), std::pin::pin!(loss));
    tokio::select! {
        passed = &mut pass => (passed, None),
        loss = &mut loss => (pass.await, Some(loss)),
    }
}

fn summary(passed: &PassOutcome) -> String {
    let seconds = passed.duration_ms as f64 / 1000.0;
    let polled = &passed.polled;
    let mut text = format!(
        "Read {}: {} new, {} changed, {} invalid",
        counted(polled.rows, "row", "rows"),
        polled.created,
        polled.updated,
        polled.invalid
    );
    if polled.suppressed > 0 {
        let _ = write!(text, ", {} suppressed", polled.suppressed);
    }
    if polled.held > 0 {
        let _ = write!(text, "; {} waiting for approval", table::leads(i64::try_from(polled.held).unwrap_or(i64::MAX)));
    }
    let _ = write!(text, ".\nSent: {} accepted, {} rejected", passed.accepted, passed.rejected);
    if passed.transient + passed.ambiguous > 0 {
        let _ = write!(text, "; {} passing failures, {} answers unknown", passed.transient, passed.ambiguous);
    }
    let _ = writeln!(text, ". {seconds:.1} s.");
    if let Some(until) = passed.new_people_wait_until {
        let _ = writeln!(
            text,
            "A cap on people contacted for the first time is reached; the next of them goes at {}.",
            until.format("%F %T UTC")
        );
    }
    if passed.nothing_delivered {
        text.push_str(&undelivered(passed));
    } else if passed.waiting > 0 {
        let _ = writeln!(
            text,
            "{} still to be sent: a later pass, or `run`, goes on with them.",
            table::leads(passed.waiting)
        );
    }
    text
}

/// Why a pass that had leads to deliver delivered none, and when they are tried next.
fn undelivered(passed: &PassOutcome) -> String {
    let waiting = table::leads(passed.waiting);
    let wait = if passed.waiting == 1 { "waits" } else { "wait" };
    if passed.halted {
        let why = if passed.halting > 0 {
            "Conversica refused a request, which halts all sending"
        } else {
            "sending is halted, and no request was made"
        };
        return format!("Nothing was delivered: {waiting} {wait}; {why}. See HALTED below for what ends it.\n");
    }
    let mut why = Vec::new();
    if passed.transient > 0 {
        let requests = counted(passed.transient, "request", "requests");
        why.push(format!("{requests} failed or could not leave"));
    }
    if passed.ambiguous > 0 {
        why.push(counted(passed.ambiguous, "request was not answered", "requests were not answered"));
    }
    if passed.paused && why.is_empty() && passed.next_try_at.is_none() {
        return format!("Nothing was delivered: {waiting} {wait}; an operator has paused sending. See PAUSED below.\n");
    }
    if why.is_empty() {
        why.push("no request was made, because earlier ones failed or Conversica asked for a pause".to_owned());
    }
    let mut text = format!("Nothing was delivered: {waiting} {wait}; {}.", why.join(", "));
    if let Some(at) = passed.next_try_at {
        let _ = write!(text, " The next try is due at {}.", at.format("%F %T UTC"));
    }
    text.push_str(" `lead ID` shows what was answered; a later pass, or `run`, tries them again.\n");
    text
}

/// On a terminal only: rows while reading, leads while sending.
async fn show_progress(state: StateDb, tally: Arc<RunTally>) {
    let Some((bar, mut ticks)) = progress::bar() else { return };
    let known = progress::known(&state).await;
    loop {
        ticks.tick().await;
        let decided = tally.outcomes(OutcomeClass::Accepted) + tally.outcomes(OutcomeClass::Rejected);
        if tally.is_reading() {
            progress::show_reading(&bar, &tally, known);
            continue;
        }
        bar.set_message(format!("{} rows read", tally.rows()));
        if let Ok((waiting, in_flight)) = due::backlog(&state).await {
            bar.set_length(decided + u64::try_from(waiting + in_flight).unwrap_or(0));
            bar.set_position(decided);
        }
        bar.tick();
    }
}
