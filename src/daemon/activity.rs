//! Logs once a minute what was sent, while anything is: the loop around [`ActivitySummary`].

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::activity_summary::{ActivitySummary, SentCounts};
use crate::send::tally::RunTally;
use crate::store::due;
use crate::store::state_db::StateDb;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A count that takes longer is left out: the state's database does not answer.
const COUNT_WITHIN: Duration = Duration::from_secs(5);

/// Runs until `ended`, when nothing more is sent.
pub async fn run(tally: Arc<RunTally>, state_url: SecretString, ended: CancellationToken) {
    let mut summary = ActivitySummary::new(clock::now());
    loop {
        if let Some(sent) = summary.step(counts(&tally), clock::now()) {
            log(sent, &state_url).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = ended.cancelled() => break,
        }
    }
    if let Some(sent) = summary.finish(counts(&tally), clock::now()) {
        log(sent, &state_url).await;
    }
}

fn counts(tally: &RunTally) -> SentCounts {
    SentCounts {
        accepted: tally.outcomes(OutcomeClass::Accepted),
        rejected: tally.outcomes(OutcomeClass::Rejected),
        transient: tally.outcomes(OutcomeClass::Transient),
        ambiguous: tally.outcomes(OutcomeClass::Ambiguous),
    }
}

async fn log(sent: SentCounts, state_url: &SecretString) {
    let waiting = tokio::time::timeout(COUNT_WITHIN, waiting(state_url)).await.ok().flatten();
    let SentCounts { accepted, rejected, transient, ambiguous } = sent;
    info!(accepted, rejected, transient, ambiguous, waiting, "sent since the last such line");
}

/// By a connection of its own: the only connection to an SQLite state is for delivery, which must not wait for a count.
async fn waiting(state_url: &SecretString) -> Option<i64> {
    let state = StateDb::open_state_read_only(state_url.expose_secret()).await.ok().flatten()?;
    let backlog = due::backlog(&state).await;
    state.close().await;
    backlog.ok().map(|(waiting, _)| waiting)
}
