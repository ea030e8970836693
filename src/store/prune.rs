//! Deletes rows of the state that have been kept for long enough, a few hundred in one transaction. Nothing waits for it, and
//! after an interruption it continues the next time.
//!
//! It never deletes rows that still count: leads, the ledger of consent, conversations, and rows that wait for an operator or for
//! the CRM.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config;
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Rows that one transaction reads.
const AT_ONCE: i64 = 500;
/// Outcomes by the minute are for charts, which show a month at most.
const MINUTES: Duration = Duration::from_secs(32 * 24 * 3600);

/// The kinds of rows to delete, in this order. The leads of a decision go before the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunedKind {
    Outcomes,
    /// Contents that were sent; each is at most as old as the newest attempt that sent it.
    Payloads,
    Minutes,
    DecidedLeads,
    Decisions,
    Alerts,
    Posts,
}

impl PrunedKind {
    pub const ALL: [Self; 7] =
        [Self::Outcomes, Self::Payloads, Self::Minutes, Self::DecidedLeads, Self::Decisions, Self::Alerts, Self::Posts];

    /// The table, the column with the age of a row, and the condition under which a row may go.
    fn table(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Outcomes => ("outcome", "at", "true"),
            Self::Decisions => {
                ("decision", "at", "not exists (select 1 from decided where decided.decision_seq = r.seq)")
            }
            Self::Alerts => ("alert", "created_at", "done_at is not null"),
            // An unreadable post stays until it is fixed or put aside, a possible opt-out until an operator decides, and an event
            // for the CRM until it is written.
            Self::Posts => (
                "event",
                "received_at",
                "coalesce(applied_at, mended_as, settled_at) is not null \
                 and not exists (select 1 from possible_opt_out p where p.event_seq = r.seq and p.settled_at is null) \
                 and not exists (select 1 from writeback where writeback.event_seq = r.seq)",
            ),
            Self::Payloads | Self::Minutes | Self::DecidedLeads => ("", "", ""),
        }
    }
}

/// The result of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneStep {
    /// Deleted rows.
    pub rows: u64,
    /// Where the next step begins; `None` if no old row is left.
    pub next: Option<i64>,
}

/// One step: deletes rows after `after` (a `seq`; 0 at first) that are older than `until`.
pub async fn step(db: &StateDb, kept: PrunedKind, after: i64, until: DateTime<Utc>) -> Result<PruneStep, sqlx::Error> {
    match kept {
        PrunedKind::Minutes => minutes(db, until).await,
        PrunedKind::Payloads => payloads(db, until).await,
        PrunedKind::DecidedLeads => decided(db, until).await,
        PrunedKind::Outcomes | PrunedKind::Decisions | PrunedKind::Alerts | PrunedKind::Posts => {
            in_order(db, kept, after, until).await
        }
    }
}

/// Rows of this kind that are older may go.
pub fn until(kept: PrunedKind, settings: &config::StateSettings, now: DateTime<Utc>) -> DateTime<Utc> {
    let keep = match kept {
        PrunedKind::Posts => settings.keep_received,
        PrunedKind::Minutes => MINUTES,
        PrunedKind::Outcomes
        | PrunedKind::Payloads
        | PrunedKind::DecidedLeads
        | PrunedKind::Decisions
        | PrunedKind::Alerts => settings.keep_outcomes,
    };
    now.checked_sub_signed(chrono::TimeDelta::from_std(keep).unwrap_or(chrono::TimeDelta::MAX))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Rows are numbered in the order of their arrival, so the old ones come first, and a page without old rows ends the search.
async fn in_order(db: &StateDb, kept: PrunedKind, after: i64, until: DateTime<Utc>) -> Result<PruneStep, sqlx::Error> {
    let (table, at, may_go) = kept.table();
    let look = format!(
        "select max(seq), cast(coalesce(max(case when {at} < $2 then 1 else 0 end), 0) as bigint) from \
         (select seq, {at} from {table} where seq > $1 order by seq limit {AT_ONCE}) w"
    );
    let take = format!("delete from {table} as r where seq > $1 and seq <= $2 and {at} < $3 and {may_go}");
    let mut transaction = db.begin().await?;
    let (last, any_old): (Option<i64>, i64) =
        transaction.fetch_one(StateStatement::new(look).bind(after).bind(micros(until))).await?;
    let Some(last) = last.filter(|_| any_old == 1) else { return Ok(PruneStep::default()) };
    let taken = transaction.execute(StateStatement::new(take).bind(after).bind(last).bind(micros(until))).await?;
    transaction.commit().await?;
    Ok(PruneStep { rows: taken, next: Some(last) })
}

async fn minutes(db: &StateDb, until: DateTime<Utc>) -> Result<PruneStep, sqlx::Error> {
    // At most five rows a minute, so even a month of them can go at once.
    let take = StateStatement::new("delete from outcome_minute where minute < $1");
    let taken = db.execute(take.bind(micros(until).div_euclid(60_000_000))).await?;
    Ok(PruneStep { rows: taken, next: None })
}

/// Sending a content again renews its time, so contents are found by time and not by number.
async fn payloads(db: &StateDb, until: DateTime<Utc>) -> Result<PruneStep, sqlx::Error> {
    let sql =
        format!("delete from payload where seq in (select seq from payload where at < $1 order by at limit {AT_ONCE})");
    let taken = db.execute(StateStatement::new(sql).bind(micros(until))).await?;
    Ok(PruneStep { rows: taken, next: (taken > 0).then_some(0) })
}

async fn decided(db: &StateDb, until: DateTime<Utc>) -> Result<PruneStep, sqlx::Error> {
    let sql = format!(
        "delete from decided where (id, client_id, decision_seq) in (\
         select d.id, d.client_id, d.decision_seq from decision join decided d on d.decision_seq = decision.seq \
         where decision.at < $1 limit {AT_ONCE})"
    );
    let taken = db.execute(StateStatement::new(sql).bind(micros(until))).await?;
    Ok(PruneStep { rows: taken, next: (taken > 0).then_some(0) })
}
