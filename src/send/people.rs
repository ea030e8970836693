//! Enters in the ledger of people what the rows of a batch and Conversica say of their leads, before the rows are compared: an
//! opt-out of one row holds for every other row of the same person in the batch.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::conversica::lead::{LeadId, LeadKey};
use crate::rules::lead_change::KnownLead;
use crate::rules::mapping::MappedRow;
use crate::rules::person_word::PersonWord;
use crate::store::people_ledger;
use crate::store::person_consent::withdrawn_by_content;
use crate::store::state_db::StateDb;
use crate::store::{consent, lead};

/// Enters the words of these rows, each as the CRM has it. At most 2,000 rows.
///
/// # Errors
/// The state's.
pub async fn record_people(
    state: &StateDb,
    rows: &[(MappedRow, Option<DateTime<Utc>>)],
    known: &HashMap<LeadId, KnownLead>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let leads: Vec<LeadId> = rows.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
    let standing = consent::stands(state, &leads).await?;
    // An invalid row has no content: its address may be the one that Conversica accepted.
    let is_invalid = |(mapped, _): &&(MappedRow, Option<DateTime<Utc>>)| {
        mapped.desired.is_err() && known.get(&mapped.lead).is_some_and(KnownLead::may_be_contacted)
    };
    let invalid: Vec<LeadId> = rows.iter().filter(is_invalid).map(|(mapped, _)| mapped.lead.clone()).collect();
    let delivered = lead::delivered(state, &invalid).await?;
    let mut words = Vec::with_capacity(2 * rows.len());
    for (mapped, _) in rows {
        let content = mapped.desired.as_ref().ok().or_else(|| delivered.get(&mapped.lead)).map(String::as_str);
        words.push(PersonWord::heard(&mapped.lead, standing.get(&mapped.lead), content));
        if let Some(withdrawn) = withdrawn_by_row(mapped) {
            words.push(PersonWord::of_row(&mapped.lead, &withdrawn, content));
        }
    }
    people_ledger::record(state, &words, now).await
}

/// The opt-outs that a row says; `None` where it is in doubt whether it says any. An earlier opt-out then stays in force.
fn withdrawn_by_row(mapped: &MappedRow) -> Option<Vec<LeadKey>> {
    match &mapped.desired {
        Ok(body) => Some(withdrawn_by_content(body)),
        Err(_) if mapped.withdrawn.is_empty() || !mapped.odd.is_empty() => None,
        Err(_) => Some(mapped.withdrawn.clone()),
    }
}
