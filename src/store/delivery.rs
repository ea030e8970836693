//! Table `lead`, the deliverer's side: claiming due leads and recording the outcomes of attempts, each in one transaction.
//!
//! A claim is on the disk before its request leaves. An outcome counts only for its own claim. A lead has at most one claim at a
//! time, so at most one request per lead is in flight. [`super::due`] says what may be claimed.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};

use crate::config::ConsentSettings;
use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::{ContentFingerprint, LeadId};
use crate::conversica::outcome::{OutcomeClass, RETRY_AFTER_MAX};
use crate::rules::admission::ClaimFilter;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::retry::NextStep;
use crate::store::lead::{self, InOrder};
use crate::store::state_db::{StateDb, on_state};
use crate::store::{
    consent, due, instant, late, micros, operator_pause, outcome, pause, possible_opt_out, withdrawal_apart,
};

/// A withdrawal of consent needs no further send: Conversica accepted it, or never received the content that it withdraws.
macro_rules! nothing_to_withdraw {
    () => {
        "f_next = 'done' and lead.desired_hash = lead.sent_hash \
         or f_class not in ('accepted', 'ambiguous') and (lead.desired_hash = lead.delivered_hash \
         or lead.gone_at is not null and lead.first_contact_at is null)"
    };
}

/// The status of a lead that leaves the queue when its attempt ends.
const RESTING: &str = concat!(
    "when lead.gone_at is not null and (lead.urgent = 0 or ",
    nothing_to_withdraw!(),
    ") then 'gone' when lead.invalid_reasons is not null then 'invalid' "
);

/// Which leads are wanted, and how many.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    pub leads: usize,
    pub admit: &'a ClaimFilter,
    /// No lead is claimed while any instance has one in flight. The credentials have never been accepted, so a wrong password
    /// costs one rejected request and not one for every instance.
    pub alone: bool,
    pub opt_outs: OptOuts,
}

/// How content that contradicts a heard opt-out is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOuts {
    /// The content is sent with the opt-out in it.
    Keep,
    Ignore,
}

impl OptOuts {
    pub fn of(settings: &ConsentSettings) -> Self {
        if settings.keep_opt_outs { Self::Keep } else { Self::Ignore }
    }
}

impl ClaimRequest<'_> {
    pub const NOTHING: ClaimRequest<'static> =
        ClaimRequest { leads: 0, admit: &ClaimFilter::Everybody, alone: false, opt_outs: OptOuts::Keep };

    pub fn up_to(leads: usize) -> Self {
        Self { leads, ..Self::NOTHING }
    }
}

/// The longest lateness of a claim that counts as time of failure.
const LATENESS_COUNTED: TimeDelta = TimeDelta::minutes(1);

/// A stored post about a lead may withdraw consent. Until the receiver has applied it, only withdrawals are sent for that lead.
const NOTHING_TO_TAKE_IN: &str = " and (urgent = 1 or not exists (select 1 from event where event.id = lead.id \
     and event.client_id = lead.client_id and event.applied_at is null and event.problem is null))";

/// Records the finished attempts and claims up to `wanted` due leads, withdrawals of consent first. It takes a handful of
/// statements in one transaction, for any number of leads (`finished` at most 2,000).
pub async fn record_and_claim(
    db: &StateDb,
    finished: &[FinishedAttempt],
    wanted: ClaimRequest<'_>,
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<Vec<LeadClaim>, sqlx::Error> {
    let ClaimRequest { leads: mut wanted, admit, alone, opt_outs } = wanted;
    if finished.is_empty() && wanted == 0 {
        return Ok(Vec::new());
    }
    let order = InOrder::of(db, "select f_id, f_client_id from f");
    let not_paused = operator_pause::is_not_paused(db);
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let mut finished = finished.to_vec();
        let rejected: Vec<&FinishedAttempt> = finished.iter().filter(|f| f.next == NextStep::Rejected).collect();
        if !rejected.is_empty() {
            let rows = withdrawal_apart::rejected_query(&rejected).build_query_as().fetch_all(&mut *transaction).await?;
            withdrawal_apart::mark_rejected(&mut finished, rows);
        }
        let mut journal: Vec<FinishedAttempt> = finished.iter().filter(|f| f.next != NextStep::Unsent).cloned().collect();
        if !journal.is_empty() {
            outcome::insert_query(&journal).build().execute(&mut *transaction).await?;
        }
        if !finished.is_empty() {
            let rows = finished_query(&finished, &order).build().fetch_all(&mut *transaction).await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                found.push(LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? });
            }
            let mut said = Vec::new();
            for f in late::without_claim(&journal, &found) {
                let (id, client_id, at) = (&f.lead.id, &f.lead.client_id, micros(f.at));
                let entries: i64 = sqlx::query_scalar(late::ENTRIES)
                    .bind(id).bind(client_id).bind(at).bind(&f.sent_hash).fetch_one(&mut *transaction).await?;
                if entries == 1 {
                    if late::may_have_arrived(f) {
                        late::due_again_query(f).build().execute(&mut *transaction).await?;
                    }
                    let entry = late::journalled(f);
                    sqlx::query(late::SAY_LATE).bind(id).bind(client_id).bind(at).bind(&f.sent_hash)
                        .bind(entry.class.name()).bind(&entry.detail).execute(&mut *transaction).await?;
                    said.push((f.clone(), Some(entry)));
                } else if entries > 1 {
                    sqlx::query(late::TAKE_BACK)
                        .bind(id).bind(client_id).bind(at).bind(&f.sent_hash).execute(&mut *transaction).await?;
                    said.push((f.clone(), None));
                }
            }
            late::correct(&mut journal, said);
        }
        let quotas = if wanted > 0 { admit.quotas(now) } else { Vec::new() };
        if wanted > 0 && (alone || !quotas.is_empty()) {
            // The counts must still be true when the claim is made, so one instance counts and claims at a time.
            if let Some(lock) = db.claim_lock() {
                sqlx::query(lock).execute(&mut *transaction).await?;
            }
        }
        if wanted > 0 && alone {
            let in_flight: i64 = sqlx::query_scalar(
                "select count(*) from lead where status = 'in_flight' and status <> 'in_sync'").fetch_one(&mut *transaction).await?;
            wanted = if in_flight > 0 { 0 } else { 1 };
        }
        let mut claims = Vec::new();
        if wanted > 0 {
            let mut budget = i64::MAX;
            for quota in quotas {
                let used: i64 = sqlx::query_scalar(quota.sql)
                    .bind(quota.since).bind(quota.at_most).fetch_one(&mut *transaction).await?;
                budget = budget.min(quota.at_most - used);
            }
            let mut claim = QueryBuilder::new(operator_pause::PAUSED_BEFORE);
            claim.push_bind(micros(now)).push("), due (due_id, due_client_id) as (select id, client_id from (");
            let mut union = "";
            for (place, arm) in admit.arms(wanted, budget).into_iter().enumerate() {
                claim.push(union).push("select * from (select id, client_id, due_at, ");
                claim.push(if place == 0 { "0" } else { "1" });
                claim.push(" as place from lead where status in ('pending', 'retrying') and ");
                claim.push(arm.condition).push(" and due_at <= ").push_bind(micros(now));
                if opt_outs == OptOuts::Keep {
                    claim.push(NOTHING_TO_TAKE_IN).push(possible_opt_out::NOT_HELD);
                }
                if arm.condition != due::URGENT {
                    claim.push(&not_paused);
                }
                claim.push(" order by due_at, id limit ").push_bind(arm.limit);
                claim.push(" ").push(db.skip_locked()).push(") arm");
                union = " union all ";
            }
            // A halt, or a pause that Conversica asked for, applies at once, whichever instance met it.
            claim.push(") arms where not exists (select 1 from control where name = 'halt') and not exists (");
            claim.push(pause::IN_FORCE).push_bind(micros(now)).push(" and at <= ");
            claim.push_bind(micros(now + RETRY_AFTER_MAX)).push(")").push(db.claim_condition());
            claim.push(" order by place, due_at, id limit ");
            claim.push_bind(i64::try_from(wanted).unwrap_or(i64::MAX));
            claim.push(") update lead set status = 'in_flight', attempts = attempts + 1, sent_hash = desired_hash, ");
            // Lateness counts for a minute only, because it is no failure of Conversica: the program did not run, sending was
            // paused, or the clock was wrong.
            let late = micros(now - LATENESS_COUNTED);
            claim.push("first_failed_at = case when first_failed_at > ").push_bind(micros(now)).push(" then ");
            claim.push_bind(micros(now)).push(" when due_at < ").push_bind(late);
            claim.push(" then first_failed_at + (").push_bind(late).push(" - due_at) else first_failed_at end, claimed_at = ");
            claim.push_bind(micros(now));
            claim.push(", lease_until = ");
            claim.push_bind(micros(now + lease));
            if admit.counts_introductions() {
                claim.push(", introduced_at = case when ").push(due::NEW).push(" then ");
                claim.push_bind(micros(now)).push(" else introduced_at end");
            }
            if admit.counts_test_leads() {
                claim.push(", test_lead_at = coalesce(test_lead_at, ").push_bind(micros(now)).push(")");
            }
            claim.push(
                " from due where lead.id = due_id and lead.client_id = due_client_id \
                 returning id, client_id, desired, attempts, first_failed_at, sent_hash, urgent");
            for row in claim.build().fetch_all(&mut *transaction).await? {
                claims.push(LeadClaim {
                    lead: LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? },
                    body: row.try_get(2)?,
                    attempt: row.try_get(3)?,
                    first_failed_at: row.try_get::<Option<i64>, _>(4)?.map(instant),
                    claimed_at: now,
                    sent_hash: row.try_get(5)?,
                    urgent: row.try_get::<i64, _>(6)? == 1,
                });
            }
        }
        // The last check before a request leaves: the writer of this content may not have known of an opt-out.
        if !claims.is_empty() && opt_outs == OptOuts::Keep && consent::any!(&mut *transaction)? {
            let leads: Vec<LeadId> = claims.iter().map(|claim| claim.lead.clone()).collect();
            let standing = consent::standing!(&mut *transaction, &leads)?;
            let kept = keep(&claims, &standing);
            if !kept.is_empty() {
                for row in kept_query(&kept).build().fetch_all(&mut *transaction).await? {
                    let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
                    if let Some(claim) = claims.iter_mut().find(|claim| claim.lead == lead) {
                        claim.body = row.try_get(2)?;
                        claim.sent_hash = row.try_get(3)?;
                        claim.urgent = row.try_get::<i64, _>(4)? == 1;
                    }
                }
            }
        }
        let urgent: Vec<&LeadClaim> = claims.iter().filter(|claim| claim.urgent).collect();
        if !urgent.is_empty() {
            let rows = withdrawal_apart::apart_query(&urgent).build_query_as().fetch_all(&mut *transaction).await?;
            let apart = withdrawal_apart::replace_bodies(&mut claims, rows);
            if !apart.is_empty() {
                withdrawal_apart::sent_query(&apart).build().execute(&mut *transaction).await?;
            }
        }
        if !journal.is_empty() {
            outcome::minute_query(&journal).build().execute(&mut *transaction).await?;
            outcome::count_query(&journal).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        claims.sort_by_key(|claim| !claim.urgent);
        Ok(claims)
    })
}

/// The claimed contents that an opt-out in force forbids, each with the content to send instead.
fn keep(claims: &[LeadClaim], standing: &HashMap<LeadId, WithdrawnConsent>) -> Vec<(LeadId, String)> {
    let kept = |claim: &LeadClaim| Some((claim.lead.clone(), standing.get(&claim.lead)?.keep(&claim.body)?));
    claims.iter().filter_map(kept).collect()
}

/// One statement that replaces the content of claimed leads. The row hash stays, because the row has not changed.
fn kept_query<DB: Database>(kept: &[(LeadId, String)]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> Vec<u8>: Encode<'e, DB> + Type<DB>,
{
    let mut update = QueryBuilder::new("with k (k_id, k_client_id, k_body, k_hash) as (");
    update.push_values(kept, |mut row, (lead, body)| {
        row.push_bind(lead.id.as_str())
            .push_bind(lead.client_id.as_str())
            .push_bind(body.as_str())
            .push_bind(ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec());
    });
    update.push(") update lead set delivered = ").push(lead::DELIVERED).push(
        ", desired = k_body, desired_hash = k_hash, sent_hash = k_hash, \
         urgent = case when lead.urgent = 1 or lead.first_contact_at is not null and (",
    );
    update.push(late::withdrawn_by(
        "k_body",
        &format!("coalesce(case when lead.delivered_hash is not null then {} end, '')", lead::DELIVERED),
    ));
    update.push(
        ") then 1 else 0 end from k where lead.id = k_id and lead.client_id = k_client_id \
         returning id, client_id, desired, sent_hash, urgent",
    );
    update
}

/// One statement that writes the outcomes of claims to the leads.
pub(crate) fn finished_query<DB: Database>(finished: &[FinishedAttempt], order: &InOrder) -> QueryBuilder<DB>
where
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> &'static str: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
    for<'e> Option<i64>: Encode<'e, DB> + Type<DB>,
    for<'e> Option<String>: Encode<'e, DB> + Type<DB>,
    for<'e> Vec<u8>: Encode<'e, DB> + Type<DB>,
{
    let mut update = QueryBuilder::new(
        "with f (f_id, f_client_id, f_claimed_at, f_class, f_next, f_due_at, f_http_status, f_detail, f_at) as (",
    );
    update.push_values(finished, |mut row, f| {
        let (next, due_at) = match f.next {
            NextStep::Done => ("done", f.at),
            NextStep::Rejected => ("rejected", f.at),
            NextStep::WithdrawApart => ("withdraw_apart", f.at),
            NextStep::Exhausted => ("exhausted", f.at),
            NextStep::RetryAt(at) => ("retrying", at),
            NextStep::Resend => ("resend", f.at),
            NextStep::Hold => ("held", f.at),
            NextStep::Untried | NextStep::Unsent => ("untried", f.at),
        };
        row.push_bind(f.lead.id.clone())
            .push_bind(f.lead.client_id.clone())
            .push_bind(micros(f.claimed_at))
            .push_bind(if f.next == NextStep::Unsent { "" } else { f.class.name() })
            .push_bind(next)
            .push_bind(micros(due_at))
            .push_bind(f.http_status.map(i64::from))
            // The journal has the detail. A lead in sync carries no second copy.
            .push_bind(f.detail.clone().filter(|_| f.class != OutcomeClass::Accepted))
            .push_bind(micros(f.at));
    });
    update.push(")").push(&order.cte).push(" update lead set status = case ");
    update.push(RESTING);
    let has_ended = withdrawal_apart::has_ended();
    update.push("when ").push(&has_ended).push(" then case when lead.gone_at is null then 'rejected' else 'gone' end ");
    // Content that changed after it was sent is due in its own right, whatever the outcome of the old content. Only holds for
    // approval and delays outlive that outcome.
    update.push(
        "when f_next = 'done' and lead.desired_hash = lead.sent_hash then 'in_sync' \
         when f_class not in ('accepted', 'ambiguous') and lead.desired_hash = lead.delivered_hash then 'in_sync' \
         when lead.hold_reason is not null then 'held' \
         when f_next = 'held' and lead.urgent = 0 then 'held' \
         when f_next in ('done', 'untried', 'resend', 'held') then 'pending' \
         when f_next = 'retrying' then 'retrying' \
         when f_next = 'withdraw_apart' then 'pending' \
         when lead.desired_hash = lead.sent_hash then f_next \
         else 'pending' end, \
         due_at = case when lead.urgent = 1 and lead.desired_hash <> lead.sent_hash then f_at else f_due_at end, \
         urgent = case when ",
    );
    update.push(nothing_to_withdraw!()).push(" or ").push(&has_ended);
    update.push(
        " then 0 when f_next = 'withdraw_apart' and lead.desired_hash = lead.sent_hash then 1 else lead.urgent end, \
         hold_reason = case when lead.desired_hash = case when f_next = 'done' then lead.sent_hash \
                       when f_class <> 'ambiguous' then lead.delivered_hash end then null \
                       when f_next = 'held' and lead.urgent = 0 then coalesce(lead.hold_reason, 'ambiguous') \
                       else lead.hold_reason end, \
         held_at = case when lead.desired_hash = case when f_next = 'done' then lead.sent_hash \
                   when f_class <> 'ambiguous' then lead.delivered_hash end then null \
                   when f_next = 'held' and lead.urgent = 0 then f_at else lead.held_at end, \
         delivered = case when f_class = 'accepted' then case when lead.desired_hash <> lead.sent_hash then lead.sent end \
                     when f_class = 'ambiguous' then ",
    );
    // If the end of a first contact is unknown, later contents are compared with what was sent. A baseline's assumed content does
    // not count, because it was never sent.
    update.push(format!("coalesce(case when lead.assumed_at is null then {} end, {})", lead::DELIVERED, lead::SENT));
    update.push(
        " else lead.delivered end, \
         delivered_hash = case f_class when 'accepted' then nullif(lead.sent_hash, ",
    );
    update.push_bind(late::OTHER_CONTENT.to_vec());
    update.push(
        ") when 'ambiguous' then null \
                          else lead.delivered_hash end, \
         delivered_at = case when f_class = 'accepted' then f_at else lead.delivered_at end, \
         first_contact_at = case when f_class not in ('accepted', 'ambiguous') then lead.first_contact_at \
                            when lead.assumed_at is null then coalesce(lead.first_contact_at, f_at) else f_at end, \
         introduced_at = case when f_class in ('accepted', 'ambiguous') \
                         or lead.first_contact_at is not null and lead.assumed_at is null then lead.introduced_at end, \
         assumed_at = case when f_class not in ('accepted', 'ambiguous') then lead.assumed_at end, \
         attempts = case when f_next = 'untried' then lead.attempts - 1 \
                    when f_next in ('retrying', 'resend', 'held') \
                         or (f_next = 'exhausted' and lead.desired_hash = lead.sent_hash) \
                    then lead.attempts else 0 end, \
         first_failed_at = case when f_next = 'untried' then lead.first_failed_at \
                           when f_next in ('retrying', 'resend', 'held') \
                                or (f_next = 'exhausted' and lead.desired_hash = lead.sent_hash) \
                           then case when lead.first_failed_at <= f_at then lead.first_failed_at else f_at end end, \
         sent = null, sent_hash = null, claimed_at = null, lease_until = null, ",
    );
    let newest = |column: &str, by_attempt: &str, by_rejection: &str| {
        format!(
            "{column} = case when {has_ended} then {by_rejection} when f_class <> '' then {by_attempt} else lead.{column} end, "
        )
    };
    update.push(newest("last_outcome", "f_class", "'rejected'"));
    update.push(newest("last_http_status", "f_http_status", &withdrawal_apart::http_status()));
    update.push(newest("last_detail", "f_detail", &withdrawal_apart::detail()));
    update.push("last_outcome_at = case when f_class <> '' then f_at else lead.last_outcome_at end from f");
    update.push(order.from);
    update.push(
        " where lead.id = f_id and lead.client_id = f_client_id and lead.status = 'in_flight' \
         and lead.claimed_at = f_claimed_at",
    );
    update.push(order.condition).push(" returning id, client_id");
    update
}
