//! How much of the month's budget of first contacts is used. The instances store the budget that they keep to, so that every
//! reader of the state can show it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::ServiceSettings;
use crate::rules::admission::BudgetUse;
use crate::rules::billing_month::BillingMonth;
use crate::store::control::{self, ControlFact};
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// `[safety] new_leads_per_month` as the instances have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBudget {
    pub people: u32,
    pub month: BillingMonth,
}

impl ControlFact for StoredBudget {
    const NAME: &'static str = "budget";
}

/// Stores the budget of these settings.
pub async fn note(db: &StateDb, settings: &ServiceSettings, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let people = settings.safety.new_leads_per_month;
    let month = BillingMonth { starts_on: settings.safety.month_starts_on, zone: settings.source.time_zone };
    let budget = (people > 0).then_some(StoredBudget { people, month });
    let stored = control::read::<StoredBudget>(db).await?;
    match budget {
        Some(budget) if stored != Some(budget) => control::write(db, &budget, now).await,
        None if stored.is_some() => control::clear::<StoredBudget>(db).await.map(drop),
        Some(_) | None => Ok(()),
    }
}

/// The use of the stored budget; `None` if there is none.
pub async fn read(db: &StateDb, now: DateTime<Utc>) -> Result<Option<BudgetUse>, sqlx::Error> {
    let Some(StoredBudget { people, month }) = control::read::<StoredBudget>(db).await? else { return Ok(None) };
    let since = month.begun_at(now);
    let counted = StateStatement::new(
        "select (select count(*) from lead where introduced_at >= $1) \
         + (select count(*) from tombstone where introduced_at >= $1)",
    );
    let (used,): (i64,) = db.fetch_one(counted.bind(micros(since))).await?;
    Ok(Some(BudgetUse { people: people.into(), used, since, until: month.ends_at(now) }))
}
