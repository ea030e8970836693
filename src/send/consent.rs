//! Applies recorded opt-outs to the rows' leads before the poll compares them: an opt-out by the person overrides the CRM.

use chrono::{DateTime, TimeDelta, Utc};

use crate::conversica::consent::{HeardWord, WithdrawnConsent, WordSource, was_given_before};
use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::lead::LeadId;
use crate::rules::mapping::MappedRow;
use crate::rules::suppression_ground::SuppressionScope;
use crate::store::consent::{self, LedgerEntry};
use crate::store::state_db::StateDb;

/// Clocks differ by no more than this: a later time is a typing mistake or a placeholder for "never".
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(1);

/// The operator notices a clock that is further behind by other means; a later time is a placeholder for "never".
const FAR_AHEAD: TimeDelta = TimeDelta::hours(24);

/// Whether what the CRM says of consent goes into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerUse {
    Write,
    /// Compute the result without writing to the ledger.
    Leave,
}

/// Applies the opt-outs in force to these rows' leads. Each row comes with the time at which it says that consent was given. At
/// most 2,000 rows.
///
/// # Errors
/// The state's.
pub async fn keep(
    state: &StateDb,
    rows: Vec<(MappedRow, Option<DateTime<Utc>>)>,
    ledger: LedgerUse,
    scope: SuppressionScope,
    now: DateTime<Utc>,
) -> Result<Vec<MappedRow>, sqlx::Error> {
    let leads: Vec<LeadId> = rows.iter().map(|(mapped, _)| mapped.lead.clone()).collect();
    let standing = consent::stands(state, &leads).await?;
    let mut given = Vec::new();
    let mut kept = Vec::with_capacity(rows.len());
    for (mapped, given_at) in rows {
        let ahead = given_at.filter(|at| now < *at && *at <= now + FAR_AHEAD && ledger == LedgerUse::Write);
        let standing = standing.get(&mapped.lead).copied();
        // Consent cannot be given in the future: such a time is no evidence, and ends no opt-out.
        let given_at = given_at.filter(|at| *at <= now + CLOCKS_APART);
        let heard = if ahead.is_some() || may_end(standing.as_ref(), given_at) {
            let entries = consent::of_lead(state, &mapped.lead).await?;
            entries.iter().map(LedgerEntry::heard_word).collect()
        } else {
            Vec::new()
        };
        let mut standing = standing.unwrap_or_default();
        // Conversica ends no opt-out from e-mails, so a row cannot end one that Conversica has reported.
        let permanent = standing.email.filter(|_| scope == SuppressionScope::Person);
        let ended = given_at.into_iter().flat_map(|at| give(&mapped.lead, &mut standing, at, &heard, now));
        given.extend(ended.filter(|entry| permanent.is_none() || entry.word.channel != ConsentChannel::Email));
        standing.set(ConsentChannel::Email, permanent.or(standing.email));
        given.extend(ahead.into_iter().flat_map(|at| remember_ahead(&mapped.lead, at, &heard, now)));
        kept.push(mapped.kept_by(&standing));
    }
    if ledger == LedgerUse::Write {
        consent::record(state, &given).await?;
    }
    Ok(kept)
}

fn may_end(standing: Option<&WithdrawnConsent>, given_at: Option<DateTime<Utc>>) -> bool {
    let is_later = |standing: &WithdrawnConsent, at| {
        ConsentChannel::ALL.into_iter().any(|of| standing.get(of).is_some_and(|since| since < at))
    };
    standing.zip(given_at).is_some_and(|(standing, at)| is_later(standing, at))
}

/// A consent time slightly in the future shows that a clock is behind. The ledger records it once, so that it ends no opt-out
/// that is heard later.
fn remember_ahead(lead: &LeadId, at: DateTime<Utc>, heard: &[HeardWord], now: DateTime<Utc>) -> Vec<LedgerEntry> {
    let is_known = heard.iter().any(|heard| {
        heard.source == WordSource::Crm && heard.word.given && heard.word.at.timestamp_micros() == at.timestamp_micros()
    });
    let channels = if is_known { Vec::new() } else { ConsentChannel::ALL.to_vec() };
    let entry = |channel| LedgerEntry {
        lead: lead.clone(),
        word: ChannelWord { channel, given: true, at },
        heard_at: now,
        event_seq: None,
    };
    channels.into_iter().map(entry).collect()
}

/// Consent given after a withdrawal ends that withdrawal on each channel. It does not where the row had this consent time already
/// when the withdrawal was heard.
fn give(
    lead: &LeadId,
    standing: &mut WithdrawnConsent,
    given_at: DateTime<Utc>,
    heard: &[HeardWord],
    now: DateTime<Utc>,
) -> Vec<LedgerEntry> {
    let at = given_at.min(now);
    let is_ended = |channel: &ConsentChannel| {
        standing.get(*channel).is_some_and(|since| since < at)
            && !standing.is_unsettled(*channel)
            && !was_given_before(heard, *channel, given_at)
    };
    let ended = ConsentChannel::ALL.into_iter().filter(is_ended);
    let ended: Vec<ConsentChannel> = ended.collect();
    for channel in &ended {
        standing.set(*channel, None);
    }
    let entry = |channel| LedgerEntry {
        lead: lead.clone(),
        word: ChannelWord { channel, given: true, at },
        heard_at: now,
        event_seq: None,
    };
    ended.into_iter().map(entry).collect()
}
