//! Tables `lead` and `conversation`, for `reconcile`: everything stored about a lead except its contents, and the writes that
//! queue leads again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{QueryBuilder, Row as _};

use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::rules::lead_facts::{LeadFacts, LeadHeard, RecordedAnswer};
use crate::store::lead::InOrder;
use crate::store::lead_status::{SHOWN_STATUS, status_named};
use crate::store::listing::reasons_of;
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros};

/// The facts of these leads: one statement for any number of leads (at most 5,000).
pub async fn of(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, LeadFacts>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with asked (asked_id, asked_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(") select lead.id, lead.client_id, ").push(SHOWN_STATUS).push(
            ", desired_hash, delivered_hash, invalid_reasons, hold_reason, changed_at, \
             delivered_at, first_contact_at, due_at, gone_at, last_outcome, last_http_status, last_detail, last_outcome_at, \
             last_heard_at, not_worked, case when not_worked is not null then picture end, assumed_at from asked \
             join lead on lead.id = asked_id and lead.client_id = asked_client_id \
             left join conversation c on c.id = asked_id and c.client_id = asked_client_id");
        let rows = query.build().persistent(db.keeps_plans()).fetch_all(pool).await?;
        let mut facts = HashMap::with_capacity(rows.len());
        for row in &rows {
            let at = |index: usize| row.try_get::<Option<i64>, _>(index).map(|at| at.map(instant));
            let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
            let heard = match at(16)? {
                None => None,
                Some(last_at) => Some(LeadHeard {
                    last_at,
                    not_worked: row.try_get::<Option<String>, _>(17)?.map(|stage| {
                        let picture = row.try_get::<Option<&str>, _>(18).ok().flatten().unwrap_or_default();
                        (stage, conversation_status(picture))
                    }),
                }),
            };
            let answer = match row.try_get::<Option<String>, _>(12)? {
                None => None,
                Some(class) => Some(RecordedAnswer {
                    class, http_status: row.try_get(13)?, detail: row.try_get(14)?, at: at(15)?,
                }),
            };
            let assumed_at = at(19)?;
            facts.insert(lead, LeadFacts {
                status: status_named(row.try_get(2)?)?,
                desired_hash: fingerprint(row.try_get(3)?)?,
                delivered_hash: row.try_get::<Option<&[u8]>, _>(4)?.map(fingerprint).transpose()?,
                invalid_reasons: reasons_of(row.try_get(5)?),
                hold_reason: row.try_get(6)?,
                changed_at: instant(row.try_get(7)?),
                delivered_at: at(8)?,
                first_contact_at: at(9)?.filter(|_| assumed_at.is_none()),
                assumed_at,
                due_at: at(10)?,
                gone_at: at(11)?,
                answer,
                heard,
            });
        }
        Ok(facts)
    })
}

fn fingerprint(bytes: &[u8]) -> Result<ContentFingerprint, sqlx::Error> {
    bytes.try_into().map(ContentFingerprint).map_err(|_| sqlx::Error::Decode("a fingerprint has 16 bytes".into()))
}

fn conversation_status(picture: &str) -> Option<String> {
    let picture: Value = serde_json::from_str(picture).ok()?;
    picture.get("conversationStatus")?.as_str().map(str::to_owned)
}

/// Makes the next full compare map these leads again, even if their rows are unchanged: one statement (at most 5,000 leads).
pub async fn doubt(db: &StateDb, leads: &[LeadId]) -> Result<(), sqlx::Error> {
    if leads.is_empty() {
        return Ok(());
    }
    let order = InOrder::of(db, "select doubted_id, doubted_client_id from doubted");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with doubted (doubted_id, doubted_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(")").push(&order.cte).push(" update lead set row_hash = null from doubted").push(order.from);
        query.push(" where lead.id = doubted_id and lead.client_id = doubted_client_id").push(order.condition);
        query.build().execute(pool).await?;
        Ok(())
    })
}

/// Makes leads with an ambiguous outcome due at once, with the same content. Leads that wait for approval go on waiting. One
/// statement (at most 5,000 leads); returns how many leads became due.
pub async fn send_again(db: &StateDb, leads: &[LeadId], now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    if leads.is_empty() {
        return Ok(0);
    }
    let order = InOrder::of(db, "select unsure_id, unsure_client_id from unsure");
    on_state!(db, pool => {
        let mut query = QueryBuilder::new("with unsure (unsure_id, unsure_client_id) as (");
        query.push_values(leads, |mut row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        query.push(")").push(&order.cte);
        query.push(" update lead set status = 'pending', due_at = ").push_bind(micros(now));
        query.push(" from unsure").push(order.from);
        query.push(
            " where lead.id = unsure_id and lead.client_id = unsure_client_id and lead.status in ('pending', 'retrying') \
             and lead.last_outcome = 'ambiguous'").push(order.condition);
        Ok(query.build().execute(pool).await?.rows_affected())
    })
}
