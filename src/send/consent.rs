//! A person's word against the CRM's: standing opt-outs put into what rows say, before it is compared with anything.

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::consent::Standing;
use crate::conversica::consent_word::{Channel, Word};
use crate::conversica::lead::LeadId;
use crate::rules::mapping::Mapped;
use crate::store::consent::{self, Entry};
use crate::store::state_db::StateDb;

/// Clocks explain no more: a later time is a typing mistake or stands for "never".
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(1);

/// Whether what the CRM says of consent goes into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    Write,
    /// As if it were written.
    Leave,
}

/// Puts the opt-outs that stand into these rows' leads, each with the time at which its row says that consent was given.
/// At most 2,000.
///
/// # Errors
/// The state's.
pub async fn keep(
    state: &StateDb,
    rows: Vec<(Mapped, Option<DateTime<Utc>>)>,
    ledger: Ledger,
    now: DateTime<Utc>,
) -> Result<Vec<Mapped>, sqlx::Error> {
    let leads: Vec<LeadId> = rows.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
    let standing = consent::stands(state, &leads).await?;
    let mut given = Vec::new();
    let kept = rows.into_iter().map(|(mapped, given_at)| {
        let Some(mut standing) = standing.get(&mapped.lead).copied() else { return mapped };
        // Nobody has given consent in the future: such a time says nothing, and ends no opt-out.
        let given_at = given_at.filter(|at| *at <= now + CLOCKS_APART);
        given.extend(given_at.into_iter().flat_map(|at| give(&mapped.lead, &mut standing, at.min(now), now)));
        mapped.kept_by(&standing)
    });
    let kept: Vec<Mapped> = kept.collect();
    if ledger == Ledger::Write {
        consent::record(state, &given).await?;
    }
    Ok(kept)
}

/// Consent that was given later than it was withdrawn counts, for whatever it was withdrawn from.
fn give(lead: &LeadId, standing: &mut Standing, at: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Entry> {
    let is_ended =
        |channel: &Channel| standing.get(*channel).is_some_and(|since| since < at) && !standing.is_unsettled(*channel);
    let ended = Channel::ALL.into_iter().filter(is_ended);
    let ended: Vec<Channel> = ended.collect();
    for channel in &ended {
        standing.set(*channel, None);
    }
    let entry =
        |channel| Entry { lead: lead.clone(), word: Word { channel, given: true, at }, heard_at: now, event_seq: None };
    ended.into_iter().map(entry).collect()
}
