//! An incremental poll checks leads whose key several rows shared: a deleted row leaves no stamp behind, so the lead would
//! otherwise wait for the next full compare.

use std::time::Instant;

use crate::rules::read_scope::ReadScope;
use crate::send::merge::copies::SHARED;
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeItem, MergeRequest, RowMerge};
use crate::send::writes::PollWriter;
use crate::source::crm::{ConnectedCrm, FittingSource};
use crate::store::compare;

/// Leads per poll; a full compare sees all of them.
const LEADS: i64 = 1000;

/// Records the present state of these leads. Without an index on the key this reads the whole source, so a slow source is checked
/// only now and then.
pub(crate) async fn look(
    crm: &ConnectedCrm,
    fitting: &FittingSource,
    writes: &mut PollWriter<'_>,
) -> anyhow::Result<()> {
    if fitting.has_unique_key || !crm.may_look_again() {
        return Ok(());
    }
    let started = Instant::now();
    let mut leads = compare::invalid_because(writes.state(), SHARED, LEADS).await?;
    // This poll has compared these leads already.
    leads.retain(|lead| !writes.has(lead));
    if !leads.is_empty() {
        let (scope, interest) = (ReadScope::Keys(leads), MergeInterest::Differences);
        let mut merge =
            RowMerge::begin(crm, writes.state(), fitting, MergeRequest { scope, interest, now: writes.now() }).await?;
        while let Some(item) = merge.next().await? {
            // Only a full compare decides whether a lead is gone.
            if !matches!(item, MergeItem::Missing(_)) {
                writes.take(item).await?;
            }
        }
    }
    crm.has_looked_again(started.elapsed());
    Ok(())
}
