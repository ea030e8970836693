//! Recognises rows of people who have opted out elsewhere, before the poll compares them: one query for each batch of rows.

use std::collections::HashMap;

use tracing::info;

use crate::conversica::consent::opt_out_key;
use crate::conversica::lead::LeadId;
use crate::rules::lead_change::KnownLead;
use crate::rules::mapping::MappedRow;
use crate::rules::suppression_ground::{SuppressionScope, withdrawn_by};
use crate::send::poll_context::PollContext;
use crate::store::contact_key;
use crate::store::state_db::StateDb;
use crate::store::suppression_review::{self, ReviewOutcome};
use crate::store::{lead, people_ledger, suppression};

/// Applies entries that have changed since the last poll to the known leads.
pub(crate) async fn review_suppressed(context: PollContext<'_>) -> Result<(), sqlx::Error> {
    let PollContext { state, settings, tally, now, .. } = context;
    people_ledger::make_ledger(state, now).await?;
    let scope = SuppressionScope::of(&settings.consent);
    let Some(outcome) = suppression_review::review(state, scope, now).await? else { return Ok(()) };
    let ReviewOutcome { suppressed, withdrawn, lifted, invalid } = outcome;
    if outcome != ReviewOutcome::default() {
        info!(suppressed, withdrawn, lifted, invalid, "the suppression list has changed, and was applied to the leads");
        tally.announce();
    }
    Ok(())
}

/// Adds to each row why its person is not written to, and writes the opt-out into the content. At most 2,000 rows.
///
/// # Errors
/// The state's.
pub async fn mark_suppressed(
    state: &StateDb,
    scope: SuppressionScope,
    rows: Vec<MappedRow>,
    known: &HashMap<LeadId, KnownLead>,
) -> Result<Vec<MappedRow>, sqlx::Error> {
    let Some(key) = contact_key::find_key(&mut &*state).await? else { return Ok(rows) };
    // An invalid row has no content. Conversica may still write to the address that it accepted.
    let is_invalid = |mapped: &&MappedRow| mapped.desired.is_err();
    let is_contacted = |lead: &LeadId| known.get(lead).is_some_and(KnownLead::may_be_contacted);
    let invalid: Vec<LeadId> =
        rows.iter().filter(is_invalid).map(|mapped| mapped.lead.clone()).filter(is_contacted).collect();
    let delivered = lead::delivered(state, &invalid).await?;
    let contents: Vec<(&LeadId, &str)> = rows
        .iter()
        .filter_map(|mapped| {
            let content = mapped.desired.as_ref().ok().or_else(|| delivered.get(&mapped.lead));
            Some((&mapped.lead, content?.as_str()))
        })
        .collect();
    let mut listed = suppression::find_listed(&mut &*state, &key, scope, &contents).await?;
    let mark = |mapped: MappedRow| match listed.remove(&mapped.lead) {
        Some(person) => {
            let withdrawn = withdrawn_by(&person.grounds).unwrap_or_default();
            let mut mapped = MappedRow { grounds: person.grounds, ..mapped.kept_by(&withdrawn) };
            if mapped.desired.is_err() {
                let keys = mapped.grounds.iter().map(|ground| opt_out_key(ground.kind.channel()));
                let keys: Vec<_> = keys.filter(|key| !mapped.withdrawn.contains(key)).collect();
                mapped.withdrawn.extend(keys);
                mapped.withdrawn.dedup();
            }
            mapped
        }
        None => mapped,
    };
    Ok(rows.into_iter().map(mark).collect())
}
