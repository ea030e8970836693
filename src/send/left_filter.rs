//! An incremental poll looks for known leads whose rows have left `where`. A soft delete stamps its row like any other change, so
//! its lead need not wait for the next full compare, as that of a deleted row does.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::config::OnDelete;
use crate::conversica::lead::LeadId;
use crate::rules::cursor::ReadWindow;
use crate::rules::guard::EarlierLosses;
use crate::rules::read_scope::ReadScope;
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeItem, MergeRequest, RowMerge};
use crate::send::poll_context::PollContext;
use crate::send::step;
use crate::send::writes::PollWriter;
use crate::source::crm::FittingSource;
use crate::source::read::{BATCH_ROWS, PreparedReading};
use crate::store::control::{self, CompareAsked, UnaskedLosses};
use crate::store::lead;
use crate::store::state_db::StateDb;

/// The time in which a source may lose its leads bit by bit.
const LOST_WITHIN: Duration = Duration::from_secs(3600);
/// Between two full compares that are asked for here: rows without a key may keep one from taking any lead for gone.
const ASK_EVERY: Duration = Duration::from_secs(3600);

/// Leads that such polls have lost recently; a full compare counts them too.
pub(crate) fn earlier_losses(lost: Option<&UnaskedLosses>, now: DateTime<Utc>) -> EarlierLosses {
    // A clock that was set back makes the recorded time useless; only the count is used.
    let lost = lost.filter(|lost| now < lost.since + LOST_WITHIN).map_or(0, |lost| lost.leads);
    EarlierLosses { lost, lost_of_late: 0 }
}

/// Takes the leads whose rows are outside the filter for missing, if they are few; else asks for a full compare, which judges a
/// loss by its share. The rows are read again by their keys, in a later snapshot than the poll's: a row that came back meanwhile,
/// or another row with the same key, keeps its lead.
///
/// # Errors
/// The databases'.
pub(crate) async fn look(
    context: PollContext<'_>,
    fitting: &FittingSource,
    window: &ReadWindow,
    lost: Option<&UnaskedLosses>,
    writes: &mut PollWriter<'_>,
) -> anyhow::Result<()> {
    let PollContext { crm, state, settings, now, .. } = context;
    let outside = PreparedReading::new(crm, fitting, ReadScope::All).names_outside(&crm.db, &window.rows).await?;
    let mut leads = expected(state, &outside).await?;
    // This poll has read these leads already.
    leads.retain(|lead| !writes.has(lead));
    if leads.is_empty() {
        return Ok(());
    }
    let scope = ReadScope::Keys(leads);
    let request = MergeRequest { scope, interest: MergeInterest::Differences, now };
    let mut merge = RowMerge::begin(crm, state, fitting, request).await?;
    let mut items = Vec::new();
    while let Some(item) = merge.next().await? {
        items.push(item);
    }
    let missing = items.iter().filter(|item| matches!(item, MergeItem::Missing(_))).count() as u64;
    if missing == 0 {
        return Ok(());
    }
    let earlier = earlier_losses(lost, now);
    let most = match settings.safety.approve_above {
        limit if settings.source.on_delete == OnDelete::StopMessaging && limit > 0 => u64::from(limit),
        _ => u64::MAX,
    };
    let below = settings.safety.source_shrinks_below;
    if missing > most || step::has_lost_much(state, below, missing, earlier).await? {
        if crm.may_ask_for_compare(ASK_EVERY, Instant::now()) {
            control::write(state, &CompareAsked { at: now }, now).await?;
        }
        return Ok(());
    }
    for item in items {
        writes.take(item).await?;
    }
    let since = lost.filter(|_| earlier.lost > 0).map_or(now, |lost| lost.since);
    control::write(state, &UnaskedLosses { since, leads: earlier.lost + missing }, now).await?;
    Ok(())
}

/// Those of the leads that the state expects in the source.
async fn expected(state: &StateDb, leads: &[LeadId]) -> Result<Vec<LeadId>, sqlx::Error> {
    let mut expected = Vec::new();
    for batch in leads.chunks(BATCH_ROWS) {
        let known = lead::known(state, batch).await?;
        expected.extend(known.into_values().filter(|known| !known.gone).map(|known| known.lead));
    }
    Ok(expected)
}
