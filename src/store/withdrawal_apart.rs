//! Table `lead`: a withdrawal of consent in a content that Conversica rejects for another value. The withdrawal is sent once more
//! by itself, with the content that Conversica accepted last. The rejected content waits for the row to change, like every
//! rejected content.
//!
//! The journal shows which content was rejected, so nothing else has to be stored. The withdrawal of an urgent lead is sent apart
//! if its desired content was rejected and nothing else was accepted since.

use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::conversica::lead::{ContentFingerprint, LeadId, withdraws_consent};
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_claim::{FinishedAttempt, LeadClaim};
use crate::rules::retry::NextStep;
use crate::rules::withdrawal_apart::withdrawal_apart;
use crate::store::lead::DELIVERED;
use crate::store::micros;

/// A lead whose desired content was rejected: the desired content, the content accepted last if there is one, and 1 if Conversica
/// has that content for certain.
pub(crate) type RejectedRow = (String, String, i64, Option<String>, Option<String>, i64);

/// The leads of these rejected attempts, while they are in flight. The list must not be empty.
pub(crate) fn rejected_query<DB: Database>(rejected: &[&FinishedAttempt]) -> QueryBuilder<DB>
where
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select id, client_id, claimed_at, desired, ");
    query.push(DELIVERED).push(
        ", cast(case when lead.delivered_hash is null then 0 else 1 end as bigint) from lead \
         where status = 'in_flight' and status <> 'in_sync' and desired_hash = sent_hash and first_contact_at is not null \
         and (id, client_id, claimed_at) in (",
    );
    query.push_values(rejected, |mut row, f| {
        row.push_bind(f.lead.id.clone()).push_bind(f.lead.client_id.clone()).push_bind(micros(f.claimed_at));
    });
    query.push(")");
    query
}

/// Marks the rejected attempts whose withdrawals are sent apart.
pub(crate) fn mark_rejected(finished: &mut [FinishedAttempt], rows: Vec<RejectedRow>) {
    for (id, client_id, claimed_at, desired, delivered, is_certain) in rows {
        let (Some(desired), Some(delivered)) = (desired, delivered) else { continue };
        let certain = if is_certain == 1 { delivered.as_str() } else { "" };
        if !withdraws_consent(certain, &desired) || withdrawal_apart(&desired, &delivered).is_none() {
            continue;
        }
        let lead = LeadId { id, client_id };
        let attempt = finished.iter_mut().find(|f| f.lead == lead && micros(f.claimed_at) == claimed_at);
        if let Some(attempt) = attempt.filter(|attempt| attempt.class == OutcomeClass::Rejected) {
            attempt.next = NextStep::WithdrawApart;
        }
    }
}

/// In SQL, over a lead: the journal entry that rejected its desired content, unless a request before the present one was accepted
/// since.
fn rejection(columns: &str) -> String {
    format!(
        "select {columns} from outcome o where o.id = lead.id and o.client_id = lead.client_id \
         and o.sent_hash = lead.desired_hash and o.class = 'rejected' and not exists (select 1 from outcome a \
         where a.id = lead.id and a.client_id = lead.client_id and a.class = 'accepted' and a.seq > o.seq \
         and (lead.sent_hash is null or lead.sent_hash = lead.desired_hash or a.sent_hash <> lead.sent_hash))"
    )
}

/// In SQL, over a finished claim: it was a withdrawal that was sent apart, and Conversica has answered.
pub(crate) fn has_ended() -> String {
    format!(
        "lead.urgent = 1 and lead.desired_hash <> lead.sent_hash and f_next in ('done', 'rejected') and exists ({})",
        rejection("1")
    )
}

/// In SQL: the status of the answer that rejected the desired content.
pub(crate) fn http_status() -> String {
    format!("({} order by o.seq desc limit 1)", rejection("o.http_status"))
}

/// In SQL: the detail for the operator.
pub(crate) fn detail() -> String {
    format!(
        "case when f_class = 'accepted' \
         then 'the opt-out was sent apart, with the content that Conversica accepted last; the rest was rejected: ' \
         else 'THE OPT-OUT HAS NOT ARRIVED: it was rejected with this content, and with the content that Conversica accepted \
         last; tell Conversica of it: ' end || coalesce(({} order by o.seq desc limit 1), 'no reason was given')",
        rejection("o.detail")
    )
}

/// The claims among these urgent ones whose desired content was rejected, with the content accepted last. The list must not be
/// empty.
pub(crate) fn apart_query<DB: Database>(claims: &[&LeadClaim]) -> QueryBuilder<DB>
where
    for<'e> String: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select id, client_id, ");
    query.push(DELIVERED).push(" from lead where exists (").push(rejection("1")).push(") and (id, client_id) in (");
    query.push_values(claims, |mut row, claim| {
        row.push_bind(claim.lead.id.clone()).push_bind(claim.lead.client_id.clone());
    });
    query.push(")");
    query
}

/// Replaces the desired content of these claims by their withdrawals apart. Returns the replaced claims.
pub(crate) fn replace_bodies(claims: &mut [LeadClaim], rows: Vec<(String, String, Option<String>)>) -> Vec<LeadClaim> {
    let mut replaced = Vec::new();
    for (id, client_id, delivered) in rows {
        let lead = LeadId { id, client_id };
        let Some(claim) = claims.iter_mut().find(|claim| claim.lead == lead) else { continue };
        let Some(body) = delivered.and_then(|delivered| withdrawal_apart(&claim.body, &delivered)) else { continue };
        claim.sent_hash = ContentFingerprint::of(body.as_bytes()).as_bytes().to_vec();
        claim.body = body;
        replaced.push(claim.clone());
    }
    replaced
}

/// Stores what these claims send, because it is not the desired content of their leads. The list must not be empty.
pub(crate) fn sent_query<DB: Database>(claims: &[LeadClaim]) -> QueryBuilder<DB>
where
    for<'e> String: Encode<'e, DB> + Type<DB>,
    for<'e> Vec<u8>: Encode<'e, DB> + Type<DB>,
{
    let mut update = QueryBuilder::new("with a (a_id, a_client_id, a_body, a_hash) as (");
    update.push_values(claims, |mut row, claim| {
        row.push_bind(claim.lead.id.clone())
            .push_bind(claim.lead.client_id.clone())
            .push_bind(claim.body.clone())
            .push_bind(claim.sent_hash.clone());
    });
    update.push(
        ") update lead set sent = a_body, sent_hash = a_hash from a where lead.id = a_id and lead.client_id = a_client_id",
    );
    update
}
