//! Recognises rows of people who have opted out elsewhere, before the poll compares them: one query for each batch of rows.

use std::collections::HashMap;

use tracing::info;

use crate::conversica::consent::opt_out_key;
use crate::conversica::lead::LeadId;
use crate::rules::first_contact::FirstContactPolicy;
use crate::rules::lead_change::KnownLead;
use crate::rules::mapping::MappedRow;
use crate::rules::suppression_ground::{SuppressionScope, withdrawn_by};
use crate::send::poll_context::PollContext;
use crate::store::contact_key;
use crate::store::state_db::StateDb;
use crate::store::suppression_review::{self, ReviewOutcome};
use crate::store::{conversation_progress, first_contact, lead, lead_address, people_ledger, suppression};

/// Applies entries that have changed since the last poll to the known leads.
pub(crate) async fn review_suppressed(context: PollContext<'_>) -> Result<(), sqlx::Error> {
    let PollContext { state, settings, tally, now, .. } = context;
    people_ledger::make_ledger(state, now).await?;
    conversation_progress::make_progress(state, now).await?;
    lead_address::keep_addresses(state, settings.safety.duplicates, now).await?;
    let leads = first_contact::review_duplicates(state, &FirstContactPolicy::of(settings), now).await?;
    if leads > 0 {
        info!(leads, "first contacts go on: no other lead of their address goes before them any more");
        tally.announce();
    }
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
    // Conversica may write to the address that it accepted until it has the row's content. An invalid row has none.
    let is_other = |mapped: &&MappedRow| {
        let known = known.get(&mapped.lead).filter(|known| known.may_be_contacted());
        known.is_some_and(|known| mapped.desired.is_err() || known.delivered_hash != Some(mapped.fingerprint()))
    };
    let others: Vec<LeadId> = rows.iter().filter(is_other).map(|mapped| mapped.lead.clone()).collect();
    let delivered = lead::delivered(state, &others).await?;
    let contents: Vec<(&LeadId, &str)> = rows
        .iter()
        .flat_map(|mapped| {
            let contents = [mapped.desired.as_ref().ok(), delivered.get(&mapped.lead)];
            contents.into_iter().flatten().map(move |content| (&mapped.lead, content.as_str()))
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
