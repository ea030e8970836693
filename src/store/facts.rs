//! Tables `lead` and `conversation`, for `reconcile`: everything stored about a lead except its contents, and the writes that
//! queue leads again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::conversica::lead::LeadId;
use crate::rules::lead_event::LeadEvent;
use crate::rules::lead_facts::{LeadFacts, LeadHeard, RecordedAnswer};
use crate::store::lead::InOrder;
use crate::store::lead_record::fingerprint;
use crate::store::lead_status::{SHOWN_STATUS, status_named};
use crate::store::listing::reasons_of;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, lead_record};

/// The facts of these leads: one statement for any number of leads (at most 5,000).
pub async fn of(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, LeadFacts>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    let mut statement = StateStatement::new("with asked (asked_id, asked_client_id) as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(") select lead.id, lead.client_id, ").push(SHOWN_STATUS).push(
        " as status, desired_hash, delivered_hash, invalid_reasons, hold_reason, changed_at, delivered_at, first_contact_at, \
         due_at, gone_at, last_outcome, last_http_status, last_detail, last_outcome_at, last_heard_at, not_worked, picture, \
         assumed_at from asked join lead on lead.id = asked_id and lead.client_id = asked_client_id \
         left join (select id as heard_id, client_id as heard_client_id, last_heard_at, not_worked, \
         case when not_worked is not null then picture end as picture from conversation) heard \
         on heard_id = asked_id and heard_client_id = asked_client_id",
    );
    let rows: Vec<FactsRow> = db.fetch_all(statement).await?;
    rows.into_iter().map(facts_of).collect()
}

#[derive(sqlx::FromRow)]
struct FactsRow {
    id: String,
    client_id: String,
    status: String,
    desired_hash: Vec<u8>,
    delivered_hash: Option<Vec<u8>>,
    invalid_reasons: Option<String>,
    hold_reason: Option<String>,
    changed_at: i64,
    delivered_at: Option<i64>,
    first_contact_at: Option<i64>,
    due_at: Option<i64>,
    gone_at: Option<i64>,
    last_outcome: Option<String>,
    last_http_status: Option<i64>,
    last_detail: Option<String>,
    last_outcome_at: Option<i64>,
    last_heard_at: Option<i64>,
    not_worked: Option<String>,
    picture: Option<String>,
    assumed_at: Option<i64>,
}

fn facts_of(row: FactsRow) -> Result<(LeadId, LeadFacts), sqlx::Error> {
    let at = |micros: Option<i64>| micros.map(instant);
    let picture = row.picture.unwrap_or_default();
    let not_worked = row.not_worked.map(|stage| (stage, conversation_status(&picture)));
    let heard = row.last_heard_at.map(|last_at| LeadHeard { last_at: instant(last_at), not_worked });
    let answer = row.last_outcome.map(|class| RecordedAnswer {
        class,
        http_status: row.last_http_status,
        detail: row.last_detail,
        at: at(row.last_outcome_at),
    });
    let facts = LeadFacts {
        status: status_named(&row.status)?,
        desired_hash: fingerprint(row.desired_hash)?,
        delivered_hash: row.delivered_hash.map(fingerprint).transpose()?,
        invalid_reasons: reasons_of(row.invalid_reasons),
        hold_reason: row.hold_reason,
        changed_at: instant(row.changed_at),
        delivered_at: at(row.delivered_at),
        first_contact_at: at(row.first_contact_at).filter(|_| row.assumed_at.is_none()),
        assumed_at: at(row.assumed_at),
        due_at: at(row.due_at),
        gone_at: at(row.gone_at),
        answer,
        heard,
    };
    Ok((LeadId { id: row.id, client_id: row.client_id }, facts))
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
    let mut statement = StateStatement::new("with doubted (doubted_id, doubted_client_id) as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement
        .push(")")
        .push(&order.cte)
        .push(" update lead set row_hash = null, version = version + 1 from doubted")
        .push(order.from);
    statement.push(" where lead.id = doubted_id and lead.client_id = doubted_client_id").push(order.condition);
    db.execute(statement).await.map(drop)
}

/// Makes leads with an ambiguous outcome due at once, with the same content. Leads that wait for approval go on waiting. At most
/// 5,000 leads; returns how many leads became due.
pub async fn send_again(db: &StateDb, leads: &[LeadId], now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut transaction = db.begin().await?;
    let records = lead_record::lock(&mut transaction, leads).await?;
    let asked = lead_record::apply(&mut transaction, records, now, |_| Some(LeadEvent::ResendAsked)).await?;
    transaction.commit().await?;
    Ok(asked.iter().filter(|lead| lead.has_changed()).count() as u64)
}
