//! Table `lead`, for leads whose row is missing from the source: holding them, marking them gone, and telling Conversica once to
//! stop messaging them. [`super::lead::mark_gone`] and [`super::lead::mark_returned`] are the simple cases.
//!
//! A lead that is held because its row is missing (`status = 'held'` with `gone_at` set) keeps all its data. When the row
//! returns, the lead gets its earlier status back.

use chrono::{DateTime, Utc};

use crate::config::OnDelete;
use crate::conversica::lead::LeadId;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_record::LeadRecord;
use crate::store::lead_record::{self, ChangedLead};
use crate::store::lead_status::UNSETTLED;
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// The outcome of [`stop`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopOutcome {
    /// Leads for which a stop is queued.
    pub stopped: u64,
    /// Leads that need no stop.
    pub gone: u64,
}

impl StopOutcome {
    fn of(leads: &[ChangedLead]) -> Self {
        let stopped = leads.iter().filter(|lead| lead.before.stop_content().is_some()).count() as u64;
        Self { stopped, gone: leads.len() as u64 - stopped }
    }
}

/// Handles leads whose rows are no longer in the source. If Conversica knows a lead, the lead is queued once more before all
/// other leads, with its last content and `stopMessaging: true`. The other leads are marked gone. Requests in flight end first.
/// At most 2,000 leads.
pub async fn stop(db: &StateDb, leads: &[LeadId], now: DateTime<Utc>) -> Result<StopOutcome, sqlx::Error> {
    if leads.is_empty() {
        return Ok(StopOutcome::default());
    }
    let mut transaction = db.begin().await?;
    let records = lead_record::lock(&mut transaction, leads).await?;
    let stopped = lead_record::apply(&mut transaction, records, now, |_| Some(LeadEvent::RowMissingStop)).await?;
    transaction.commit().await?;
    Ok(StopOutcome::of(&stopped))
}

/// Holds leads whose rows are missing together with most others (at most 2,000). Requests in flight and withdrawals of consent go
/// on; a later compare finds them finished. Returns how many leads this call held.
pub async fn withhold(
    db: &StateDb,
    leads: &[LeadId],
    missing_since: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let mut transaction = db.begin().await?;
    let records = lead_record::lock(&mut transaction, leads).await?;
    let event = |_: &LeadRecord| Some(LeadEvent::RowMissingWithMost { missing_since });
    let held = lead_record::apply(&mut transaction, records, written_at, event).await?;
    transaction.commit().await?;
    Ok(held.iter().filter(|lead| lead.has_changed()).count() as u64)
}

/// How many leads the source should have, counted up to `most`. The query reads no more than these leads and those that are gone.
pub async fn left(db: &StateDb, most: u64) -> Result<u64, sqlx::Error> {
    let (left,): (i64,) = db
        .fetch_one(
            StateStatement::new(
                "select count(*) from (select 1 as one from lead where gone_at is null \
                 and (hold_reason is null or hold_reason <> 'source_shrank') limit $1) l",
            )
            .bind(i64::try_from(most).unwrap_or(i64::MAX)),
        )
        .await?;
    Ok(u64::try_from(left).unwrap_or(0))
}

/// Marks leads gone that are held because their rows are missing: all of them, or those found missing since that moment. Returns
/// how many. Leads that Conversica knows still need a stop: see [`settle`].
pub async fn let_go(db: &StateDb, since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let choice = || {
        let mut missing = lead_record::choose();
        missing.push(UNSETTLED).push(" and status = 'held' and gone_at >= ");
        missing.push_bind(since.map_or(i64::MIN, micros));
        missing
    };
    lead_record::apply_to_all(db, choice, now, |_| Some(LeadEvent::LossAccepted)).await
}

/// Finishes the leads that [`let_go`] has marked: with `on_delete = "stop_messaging"` it queues their stops, otherwise it drops
/// them. Each poll calls it too, in case an earlier process crashed before this step. Returns how many stops it queued.
pub async fn settle(db: &StateDb, on_delete: OnDelete, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let choice = || {
        let mut untold = lead_record::choose();
        untold.push("status = 'gone' and urgent = 1");
        untold
    };
    let mut stops = 0;
    let event = |record: &LeadRecord| match on_delete {
        OnDelete::Ignore => Some(LeadEvent::StopDropped),
        OnDelete::StopMessaging => {
            stops += u64::from(record.stop_content().is_some());
            Some(LeadEvent::RowMissingStop)
        }
    };
    lead_record::apply_to_all(db, choice, now, event).await?;
    Ok(stops)
}
