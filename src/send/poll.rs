//! One poll: reads the source in one snapshot, merges it with the known leads of the state, and writes the differences.
//!
//! This file sends nothing.

use std::time::Instant;

use tracing::{info, warn};

use crate::db::discreet::{in_words, split_cure};
use crate::histogram::DurationHistogram;
use crate::rules::poll_record::{self, LastPoll};
use crate::send::drain;
use crate::send::poll_context::PollContext;
use crate::send::poll_rows::read_and_write;
pub use crate::send::polled::PollOutcome;
use crate::send::reach::{PollReach, ReadExtent};
use crate::send::suppressed::review_suppressed;
use crate::send::tally::PollKind;
use crate::store::bulk_decision;
use crate::store::control::{self, CompareAsked};

/// Reads the source, writes the differences, and records the result.
///
/// # Errors
/// [`crate::error::SetupError`] when the source does not fit the settings; the database's error when one is away. What was
/// written until then remains, and is right.
pub async fn poll(context: PollContext<'_>, reach: PollReach) -> anyhow::Result<PollOutcome> {
    let PollContext { crm, state, settings, tally, now } = context;
    let started = Instant::now();
    let mut extent = ReadExtent::Full;
    let result = poll_source(context, reach, &mut extent).await;
    let polled = result.as_ref().ok().cloned().unwrap_or_default();
    let duration = started.elapsed();
    let before = control::read::<LastPoll>(state).await?;
    let known = before.clone().map(|before| before.limit_to_now(now));
    let known = known.map(|before| (before.failing_since, before.succeeded_at, before.unnamed));
    let (failing_since, mut succeeded_at, unnamed_before) = known.unwrap_or_default();
    let unnamed = match (&result, extent) {
        (Ok(_), ReadExtent::Full) => polled.unnamed,
        (Ok(_), ReadExtent::Incremental) => polled.unnamed.max(unnamed_before),
        (Err(_), _) => unnamed_before,
    };
    if unnamed > unnamed_before {
        warn!(rows = unnamed, "rows without a usable key are skipped: run `check`");
    }
    if result.is_ok() {
        let kind = match extent {
            ReadExtent::Full => PollKind::Full,
            ReadExtent::Incremental if crm.log.is_some() => PollKind::Drain,
            ReadExtent::Incremental => PollKind::Incremental,
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
        kind: extent.name().to_owned(),
        rows: polled.rows,
        changed: polled.changed,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        error,
        cure,
        unnamed,
        failing_since: result.is_err().then(|| failing_since.unwrap_or(now)),
        succeeded_at,
        instances: tally.instances(),
    };
    let is_alone = tally.instances().is_none_or(|instances| instances <= 1);
    let is_first = tally.polls.iter().map(DurationHistogram::count).sum::<u64>() <= 1;
    if is_first || !is_alone || poll_record::is_news(before.as_ref(), &last, settings.source.poll_interval) {
        control::write(state, &last, now).await?;
    }
    if crm.log.is_some() && extent == ReadExtent::Incremental && unnamed > 0 && unnamed_before == 0 {
        // The change log says that such a row exists, not how many there are.
        control::write(state, &CompareAsked { at: now }, now).await?;
    }
    result
}

/// What is left to do from before, then the source. `extent` tells what was read of it, also if this fails.
async fn poll_source(
    context: PollContext<'_>,
    reach: PollReach,
    extent: &mut ReadExtent,
) -> anyhow::Result<PollOutcome> {
    let PollContext { crm, state, now, .. } = context;
    let resumed = bulk_decision::resume(state, now).await?;
    if resumed > 0 {
        info!(
            decisions = resumed,
            "a decision about many leads was carried out to its end; the process that began it had ended"
        );
    }
    // Before the source is read: a person is suppressed also while the source is away.
    review_suppressed(context).await?;
    match &crm.log {
        // On the heap: the stack of a thread has to hold every future around these.
        Some(log) => Box::pin(drain::drain(context, log, reach, extent)).await,
        None => Box::pin(read_and_write(context, reach, None, extent)).await.map(|(polled, _)| polled),
    }
}
