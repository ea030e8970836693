//! One poll: reads the source in one snapshot, merges it with the known leads of the state, and writes the differences.
//!
//! This file sends nothing.

use std::time::Instant;

use chrono::{DateTime, Utc};
use tracing::warn;

use crate::config::ServiceSettings;
use crate::db::discreet::{in_words, split_cure};
use crate::histogram::DurationHistogram;
use crate::rules::poll_record::{self, LastPoll};
use crate::send::drain;
use crate::send::poll_rows::read_and_write;
pub use crate::send::polled::PollOutcome;
use crate::send::reach::PollReach;
use crate::send::tally::{PollKind, RunTally};
use crate::source::crm::ConnectedCrm;
use crate::store::control::{self, CompareAsked};
use crate::store::state_db::StateDb;

/// Reads the source, writes the differences, and records the result.
///
/// # Errors
/// [`crate::error::SetupError`] when the source does not fit the settings; the database's error when one is unreachable. Changes
/// written before the failure remain, and are correct.
pub async fn poll(
    crm: &ConnectedCrm,
    state: &StateDb,
    settings: &ServiceSettings,
    reach: PollReach,
    tally: &RunTally,
    now: DateTime<Utc>,
) -> anyhow::Result<PollOutcome> {
    let started = Instant::now();
    let mut kind = "full";
    let result = match &crm.log {
        Some(log) => drain::drain(crm, log, state, settings, reach, tally, &mut kind, now).await,
        None => {
            read_and_write(crm, state, settings, reach, None, tally, &mut kind, now).await.map(|(polled, _)| polled)
        }
    };
    let polled = result.as_ref().ok().cloned().unwrap_or_default();
    let duration = started.elapsed();
    let before = control::read::<LastPoll>(state).await?;
    let known = before.clone().map(|before| before.limit_to_now(now));
    let known = known.map(|before| (before.failing_since, before.succeeded_at, before.unnamed));
    let (failing_since, mut succeeded_at, unnamed_before) = known.unwrap_or_default();
    let unnamed = match (&result, kind) {
        (Ok(_), "full") => polled.unnamed,
        (Ok(_), _) => polled.unnamed.max(unnamed_before),
        (Err(_), _) => unnamed_before,
    };
    if unnamed > unnamed_before {
        warn!(rows = unnamed, "rows have no key that names a lead and are left out: look with `check`");
    }
    if result.is_ok() {
        let kind = match kind {
            "full" => PollKind::Full,
            _ if crm.log.is_some() => PollKind::Drain,
            _ => PollKind::Incremental,
        };
        tally.polled(kind, polled.rows, polled.changed, duration);
        succeeded_at.insert(kind.name().to_owned(), now);
    } else {
        tally.poll_failed();
    }
    let failure = result.as_ref().err();
    let (error, cure) = (failure.map(in_words), failure.and_then(|error| split_cure(error).1));
    let last = LastPoll {
        at: now,
        kind: kind.to_owned(),
        rows: polled.rows,
        changed: polled.changed,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error,
        cure,
        unnamed,
        failing_since: result.is_err().then(|| failing_since.unwrap_or(now)),
        succeeded_at,
    };
    let is_alone = tally.instances().is_none_or(|instances| instances <= 1);
    let is_first = tally.polls.iter().map(DurationHistogram::count).sum::<u64>() <= 1;
    if is_first || !is_alone || poll_record::is_news(before.as_ref(), &last, settings.source.poll_interval) {
        control::write(state, &last, now).await?;
    }
    if crm.log.is_some() && last.kind != "full" && unnamed > 0 && unnamed_before == 0 {
        // The change log says that such a row exists, not how many there are.
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    result
}
