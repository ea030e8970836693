//! Table `lead`, for stuck leads: rejected or exhausted. An operator queues them again.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use crate::rules::lead_status::LeadStatus;
use crate::store::decision::{self, DecisionAction, DecisionMaker};
use crate::store::lead::locking;
use crate::store::micros;
use crate::store::state_db::{StateDb, on_state};

/// The ids that no lead of these statuses has, in their order.
pub async fn list_other_ids(db: &StateDb, statuses: &[LeadStatus], ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let mut others = Vec::new();
    for some in ids.chunks(500) {
        let found: Vec<String> = on_state!(db, pool => {
            let mut query = QueryBuilder::new("select id from lead where status <> 'in_sync' and status in (");
            let mut list = query.separated(", ");
            for status in statuses {
                list.push_bind(status.name());
            }
            query.push(") and id in (");
            let mut list = query.separated(", ");
            for id in some {
                list.push_bind(id.as_str());
            }
            query.push(")");
            query.build_query_scalar().fetch_all(pool).await?
        });
        others.extend(some.iter().filter(|id| !found.contains(id)).cloned());
    }
    Ok(others)
}

/// Queues rejected or exhausted leads again, all of them or those of `ids`. Returns how many leads it queued.
pub async fn requeue(
    db: &StateDb,
    statuses: &[LeadStatus],
    ids: Option<&[String]>,
    who: Option<&DecisionMaker>,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let stuck = statuses.iter().filter(|status| matches!(status, LeadStatus::Rejected | LeadStatus::Exhausted));
    let names: Vec<&str> = stuck.map(|status| status.name()).collect();
    if names.is_empty() || ids.is_some_and(<[String]>::is_empty) {
        return Ok(0);
    }
    macro_rules! push_stuck {
        ($query:expr) => {
            $query.push("with stuck (stuck_id, stuck_client_id) as (select id, client_id from lead where status <> 'in_sync' and status in (");
            let mut list = $query.separated(", ");
            for name in &names {
                list.push_bind(*name);
            }
            $query.push(")");
            if let Some(ids) = ids {
                $query.push(" and id in (");
                let mut list = $query.separated(", ");
                for id in ids {
                    list.push_bind(id.as_str());
                }
                $query.push(")");
            }
            $query.push(locking(db)).push(")");
        };
    }
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let mut noted: Option<i64> = None;
        if let Some(who) = who {
            let mut begin = decision::begin_query(DecisionAction::Retry, who, None, now);
            let seq = begin.build_query_scalar().fetch_one(&mut *transaction).await?;
            let mut note = QueryBuilder::new("insert into decided (id, client_id, decision_seq) ");
            push_stuck!(note);
            note.push(" select stuck_id, stuck_client_id, ").push_bind(seq).push(" from stuck");
            note.build().execute(&mut *transaction).await?;
            noted = Some(seq);
        }
        let mut query = QueryBuilder::new("");
        match noted {
            // Exactly the leads that are locked already, because locks are taken in one order.
            Some(seq) => {
                query.push("with stuck (stuck_id, stuck_client_id) as (select id, client_id from decided where decision_seq = ");
                query.push_bind(seq).push(")");
            }
            None => {
                push_stuck!(query);
            }
        }
        query.push(" update lead set status = 'pending', attempts = 0, first_failed_at = null, due_at = ");
        query.push_bind(micros(now)).push(" from stuck where lead.id = stuck_id and lead.client_id = stuck_client_id");
        let requeued = query.build().execute(&mut *transaction).await?.rows_affected();
        if requeued == 0 {
            // Without leads there is no decision to record.
            return Ok(0);
        }
        if let Some(seq) = noted {
            let leads = i64::try_from(requeued).unwrap_or(i64::MAX);
            sqlx::query(decision::COUNT).bind(leads).bind(seq).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(requeued)
    })
}

/// The leads that a retry would queue again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StuckLeads {
    pub leads: i64,
    /// People among them who were never sent, as far as is known; a baseline may assume that Conversica knows them.
    pub new_people: i64,
}

/// Counts the stuck leads of these statuses, and of these ids if any are given.
pub async fn look(db: &StateDb, statuses: &[LeadStatus], ids: Option<&[String]>) -> Result<StuckLeads, sqlx::Error> {
    let mut stuck = StuckLeads::default();
    for status in statuses.iter().filter(|status| matches!(status, LeadStatus::Rejected | LeadStatus::Exhausted)) {
        let (leads, new_people): (i64, i64) = on_state!(db, pool => {
            let mut query = QueryBuilder::new(
                "select count(*), count(case when first_contact_at is null or assumed_at is not null then 1 end) from lead \
                 where status <> 'in_sync' and status = ");
            query.push_bind(status.name());
            if let Some(ids) = ids {
                query.push(" and id in (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(id.as_str());
                }
                query.push(")");
            }
            query.build_query_as().fetch_one(pool).await
        })?;
        stuck.leads += leads;
        stuck.new_people += new_people;
    }
    Ok(stuck)
}
